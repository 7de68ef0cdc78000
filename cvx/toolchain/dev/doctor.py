"""What can be wrong around a project, looked at one thing at a time: each with one command that puts it right.

A check looks and changes nothing; it never needs the network. Every check gets the `Machine`, which is where free
space, mount points and the clock come from, so that tests can hand it an ill one.

Rule: a finding that is not "ok" names its cause, its place and one fix, and following the fix makes the check pass.
Source: cli-contract.md item 19; fault-list.md.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cvx.errors import CvxError
from cvx.toolchain.dev.ports import free_pair, holder, is_free
from cvx.toolchain.project import (
    CONVEX_VERSION,
    DEFAULT_NAME,
    ENV_LOCAL,
    DeploymentFlags,
    LocalState,
    Project,
    deno_binary,
    find_convex,
    find_esbuild,
    find_package,
    find_project,
    find_typescript,
    list_local,
    local_state,
    package_manager,
    package_version,
    packages_in_place,
    read_env_file,
    select_deployment,
)

FREE_BYTES_MIN = 256 << 20
"""Below it a check fails: SQLite's log, a push and an npm install each may need about that much."""
CONVEX_MIN = (1, 17)
"""The oldest npm `convex` whose clients and bundles our tests run against."""
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.davfs2",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
    ]
)

Status = Literal["ok", "warning", "failed", "skipped"]


def _disk_free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _mounts() -> str:
    path = Path("/proc/mounts")
    return path.read_text("utf-8", "replace") if path.exists() else ""


@dataclass(frozen=True)
class Machine:
    """What the checks read of the machine: free bytes of a folder's disk, mounted file systems (as /proc/mounts has
    them; empty elsewhere), seconds since the epoch."""

    disk_free: Callable[[Path], int] = _disk_free
    mounts: Callable[[], str] = _mounts
    now: Callable[[], float] = time.time


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` is a command, or one action, for what is not "ok"."""

    check: str
    status: Status
    message: str
    fix: str | None = None


@dataclass(frozen=True)
class DataFolder:
    """What the backend says of a data folder: the format it has and the newest one this program reads, the last
    acknowledged commit in seconds since the epoch, and the process that holds it. None: not there, nobody."""

    format: int | None
    format_max: int
    latest_s: float | None
    held_by: str | None


DataFolderReader = Callable[[Path], DataFolder]


@dataclass
class _Visit:
    """The project as far as it can be read, and what was found so far."""

    folder: Path
    machine: Machine
    environ: Mapping[str, str]
    data_folder: DataFolderReader
    project: Project | None = None
    state: LocalState | None = None
    findings: list[Finding] = field(default_factory=list)


def examine(
    folder: Path, environ: Mapping[str, str], data_folder: DataFolderReader, machine: Machine | None = None
) -> tuple[Finding, ...]:
    """Every finding about the project around `folder`, in the order in which faults depend on each other."""
    visit = _Visit(folder.resolve(), machine or Machine(), environ, data_folder)
    for name, check in _CHECKS:
        try:
            visit.findings += [Finding(name, *found) for found in check(visit)]
        except CvxError as error:
            visit.findings.append(Finding(name, "failed", error.message, error.hint))
        except OSError as error:
            visit.findings.append(
                Finding(
                    name,
                    "failed",
                    f"{error.filename or visit.folder}: {error.strerror}.",
                    f"Look at {error.filename}",
                )
            )
    return tuple(visit.findings)


_Found = tuple[Status, str, str | None]
_NO_PROJECT: _Found = ("skipped", "no project to look at", None)


def _check_deno(visit: _Visit) -> Iterator[_Found]:
    yield "ok", f"{deno_binary().name} is installed beside Python {sys.version.split()[0]}", None


def _check_project(visit: _Visit) -> Iterator[_Found]:
    project = visit.project = find_project(visit.folder)
    project.require_convex()
    visit.state = local_state(project, _local_name(project, visit.environ))
    yield "ok", f"{project.name} in {project.root}", None
    for warning in project.config.warnings:
        yield "warning", warning.text, warning.hint


def _local_name(project: Project, environ: Mapping[str, str]) -> str:
    try:
        selection = select_deployment(project, DeploymentFlags(), environ)
    except CvxError:
        return DEFAULT_NAME  # The files that choose are looked at by a check of their own.
    return selection.name if selection.is_local else DEFAULT_NAME


def _check_env_files(visit: _Visit) -> Iterator[_Found]:
    if visit.project is None:
        yield _NO_PROJECT
        return
    for name in (ENV_LOCAL, ".env"):
        path = visit.project.root / name
        variables = read_env_file(path)
        if path.exists():
            yield "ok", f"{name} ({len(variables)} variables)", None
    selection = select_deployment(visit.project, DeploymentFlags(), visit.environ)
    where = selection.deployment.url if selection.deployment is not None else "not created yet: cvx dev does"
    yield "ok", f"commands talk to {selection.name or 'a deployment'} ({where})", None


def _check_packages(visit: _Visit) -> Iterator[_Found]:
    project = visit.project
    if project is None:
        yield _NO_PROJECT
        return
    if not packages_in_place(project):
        manifest = project.package_json
        names = [*manifest.dependencies, *manifest.dev_dependencies] if manifest is not None else []
        missing = [name for name in names if find_package(project, name) is None]
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        yield "failed", f"npm packages are missing from {project.root / 'node_modules'}: {shown}", "cvx init"
        return
    find_esbuild(project)
    yield "ok", "npm packages are in place", None
    if find_typescript(project) is None:
        yield "warning", "no TypeScript compiler: types are not checked", "npm install --save-dev typescript"


def _check_convex_version(visit: _Visit) -> Iterator[_Found]:
    if visit.project is None or find_package(visit.project, "convex") is None:
        yield "skipped", "no npm `convex` to look at", None
        return
    version = package_version(find_convex(visit.project))
    if _version(version) < CONVEX_MIN:
        oldest = ".".join(map(str, CONVEX_MIN))
        yield (
            "failed",
            f"the npm package `convex` is {version}; {oldest} or newer is needed",
            _upgrade(visit.project),
        )
        return
    yield "ok", f"npm convex {version}", None


def _version(text: str) -> tuple[int, ...]:
    parts = text.split("-")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _upgrade(project: Project) -> str:
    """The command that puts a newer `convex` into package.json and node_modules, by the project's own manager."""
    manager = package_manager(project)
    if manager.name == "deno":
        return f"{manager.command[0]} add --quiet --package-json --no-lock --node-modules-linker hoisted npm:convex@{CONVEX_VERSION}"
    return f"{manager.name} {'install' if manager.name == 'npm' else 'add'} convex@{CONVEX_VERSION}"


def _check_folder(visit: _Visit) -> Iterator[_Found]:
    for folder in _state_folders(visit):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            yield (
                "failed",
                f"cannot write in {folder}: {reason}",
                f"chmod u+rwx {folder}   (or mount it writable)",
            )
            return
    yield "ok", f"{visit.folder} is writable", None


def _state_folders(visit: _Visit) -> list[Path]:
    """The folders that are written to; those that are not there yet will be made in their parent."""
    root = visit.project.root if visit.project is not None else visit.folder
    wanted = [root, root / ".cvx"]
    if visit.state is not None:
        wanted += [visit.state.folder, visit.state.data_dir]
    for folder in wanted:
        if folder.exists() and not folder.is_dir():
            raise CvxError(
                "NotAFolder",
                f"{folder} is a file where a folder is needed.",
                hint=f"mv {folder} {folder}.old",
            )
    return [folder for folder in wanted if folder.is_dir()]


def _check_disk(visit: _Visit) -> Iterator[_Found]:
    folder = _state_folders(visit)[-1]
    free = visit.machine.disk_free(folder)
    if free < FREE_BYTES_MIN:
        yield (
            "failed",
            f"the disk of {folder} has {free >> 20} MB left; {FREE_BYTES_MIN >> 20} MB are needed",
            f"Make room on it: du -xh {folder.anchor} | sort -h | tail   shows what is large",
        )
        return
    yield "ok", f"{free >> 30} GB free", None


def _check_file_system(visit: _Visit) -> Iterator[_Found]:
    folder = _state_folders(visit)[-1]
    kind = file_system_of(folder, visit.machine.mounts())
    if kind in NETWORK_FILE_SYSTEMS:
        yield (
            "failed",
            f"{folder} is on a network file system ({kind}), whose locks and syncs a database cannot rely on",
            "Move the project to a local disk, or keep the data on one: cvx backend serve --data /var/lib/cvx",
        )
        return
    yield (
        "ok",
        f"the data is on a local disk ({kind})" if kind else "the data's file system is not known here",
        None,
    )


def file_system_of(folder: Path, mounts: str) -> str | None:
    """The type of the file system that `folder` is on, by the longest mount point that contains it."""
    best: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ")
        inside = str(folder) == point or str(folder).startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best[0]:  # The later of two at the same place hides the earlier.
            best = (len(point), words[2])
    return best[1]


def _check_ports(visit: _Visit) -> Iterator[_Found]:
    if visit.project is None:
        yield _NO_PROJECT
        return
    looked = False
    for state in list_local(visit.project):
        config = state.load()
        if config is None or state.running_now() is not None:
            continue
        looked = True
        for port in (config.cloud_port, config.site_port):
            if not is_free(port):
                other, _ = free_pair(config.cloud_port + 2)
                chosen = "" if state.name == DEFAULT_NAME else f" --deployment {state.name}"
                yield (
                    "failed",
                    f"port {port} of the deployment {state.name} is taken by {holder(port)}",
                    f"cvx dev --once --port {other}{chosen}",
                )
                return
    yield "ok", "the ports are free" if looked else "no port is waited for", None


def _check_locks(visit: _Visit) -> Iterator[_Found]:
    if visit.project is None:
        yield _NO_PROJECT
        return
    for state in list_local(visit.project):
        noted = (state.folder / "backend.json").exists()
        running = state.running_now()
        held = visit.data_folder(state.data_dir).held_by
        if noted and running is None:
            yield (
                "failed",
                f"a backend that ended without a word is noted as running in {state.folder}",
                "cvx backend status",
            )
            return
        if running is None and held is not None:
            yield (
                "failed",
                f"{state.data_dir} is in use by {held}, which is not this project's backend",
                f"Stop it: kill {''.join(c for c in held.split('(')[0] if c.isdigit()) or '(its process)'}",
            )
            return
    yield "ok", "no lock is left over", None


def _check_data(visit: _Visit) -> Iterator[_Found]:
    if visit.project is None:
        yield _NO_PROJECT
        return
    seen = 0
    for state in list_local(visit.project):
        data = visit.data_folder(state.data_dir)
        if data.format is None:
            continue
        seen += 1
        if data.format > data.format_max:
            yield (
                "failed",
                f"the data of {state.name} was written by a newer cvx "
                f"(format {data.format}; this one reads up to {data.format_max})",
                f"{sys.executable} -m pip install --upgrade cvx-toolchain",
            )
            return
        ahead = (data.latest_s or 0.0) - visit.machine.now()
        if ahead > 3600:
            yield (
                "failed",
                f"the clock is wrong: the newest data of {state.name} is {ahead / 3600:.0f} hours in the future",
                "Set the clock: timedatectl set-ntp true",
            )
            return
    yield "ok", f"{seen} data folder{'' if seen == 1 else 's'} of a format this cvx reads", None


_CHECKS: tuple[tuple[str, Callable[[_Visit], Iterator[_Found]]], ...] = (
    ("deno", _check_deno),
    ("project", _check_project),
    ("environment", _check_env_files),
    ("packages", _check_packages),
    ("convex", _check_convex_version),
    ("folder", _check_folder),
    ("disk", _check_disk),
    ("file system", _check_file_system),
    ("ports", _check_ports),
    ("locks", _check_locks),
    ("data", _check_data),
)
