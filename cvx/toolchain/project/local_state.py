"""What local deployments leave behind: `.cvx/local/<name>/`, one folder each.

    .cvx/.gitignore              `*`
    .cvx/selected                name of the deployment chosen with `cvx deployment select`
    .cvx/local/<name>/config.json   ports, instance name and secret, admin key
    .cvx/local/<name>/data/         the backend's data folder
    .cvx/local/<name>/backend.json  the running backend: pid, ports; absent when none runs
    .cvx/local/<name>/dev.lock      held by the one `cvx dev` that drives it

Rules: nothing here decides anything by the mere existence of a file that a killed process could have left.
A pid counts only together with the start time of that process, and the lock is the operating system's own,
which a dead process cannot hold.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.project.env_file import write_atomically
from cvx.toolchain.project.processes import process_start
from cvx.toolchain.project.project import Project

DEFAULT_NAME = "default"
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
PORT_FIRST = 3210
"""Where the search for a free pair of ports begins, as in the official CLI."""


class _Config(msgspec.Struct, rename="camel", omit_defaults=True):
    version: int
    cloud_port: int
    site_port: int
    instance_name: str
    instance_secret: str
    admin_key: str | None = None


class _Running(msgspec.Struct, rename="camel"):
    pid: int
    started: str | None
    cloud_port: int
    site_port: int
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalConfig:
    """What identifies one local deployment. `admin_key` is None until its backend first issued one."""

    cloud_port: int
    site_port: int
    instance_name: str
    instance_secret: str
    admin_key: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.cloud_port}"

    @property
    def site_url(self) -> str:
        return f"http://127.0.0.1:{self.site_port}"


@dataclass(frozen=True)
class RunningBackend:
    """A live backend process of ours."""

    pid: int
    cloud_port: int
    site_port: int
    limits: tuple[str, ...] = ()
    """What it was started with besides the defaults, as `name=value`."""


@dataclass(frozen=True)
class LocalState:
    """The folder of one local deployment; it may not exist yet."""

    name: str
    folder: Path

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log_file(self) -> Path:
        """Where a backend started in the background writes its own output."""
        return self.folder / "backend.log"

    def exists(self) -> bool:
        return self._config_file.is_file()

    def load(self) -> LocalConfig | None:
        """The deployment's configuration; None when it was not created yet. Raises `InvalidLocalState`."""
        data = _read_bytes(self._config_file)
        if data is None:
            return None
        try:
            config = msgspec.json.decode(data, type=_Config)
        except msgspec.MsgspecError as error:
            raise CvxError(
                "InvalidLocalState",
                f"{self._config_file}: {error}",
                hint=f"Run `cvx deployment delete {self.name}`, or restore the file from a backup.",
                retry_when="files",
            ) from error
        if config.version > 1:
            raise CvxError(
                "InvalidLocalState",
                f"{self._config_file} was written by a newer cvx (version {config.version}, known: 1).",
                hint="Upgrade cvx: pip install -U cvx-toolchain",
            )
        return LocalConfig(
            config.cloud_port,
            config.site_port,
            config.instance_name,
            config.instance_secret,
            config.admin_key,
        )

    def save(self, config: LocalConfig) -> None:
        """Write the configuration, readable by its owner alone."""
        _prepare(self.folder)
        stored = _Config(
            1,
            config.cloud_port,
            config.site_port,
            config.instance_name,
            config.instance_secret,
            config.admin_key,
        )
        _write_json(self._config_file, stored)

    def create(self, instance_name: str, cloud_port: int, site_port: int) -> LocalConfig:
        """The deployment's configuration, made with a fresh secret unless it exists already."""
        existing = self.load()
        if existing is not None:
            return existing
        config = LocalConfig(cloud_port, site_port, instance_name, secrets.token_hex(32))
        self.save(config)
        return config

    def move_ports(self, cloud_port: int, site_port: int) -> LocalConfig:
        """Remember other ports, when those noted are taken by somebody else."""
        config = self.load()
        assert config is not None, "only a deployment that exists can move"
        moved = replace(config, cloud_port=cloud_port, site_port=site_port)
        self.save(moved)
        return moved

    def note_running(self, pid: int, cloud_port: int, site_port: int, limits: tuple[str, ...] = ()) -> None:
        """Remember the backend process just started."""
        _prepare(self.folder)
        _write_json(self._running_file, _Running(pid, process_start(pid), cloud_port, site_port, limits))

    def note_stopped(self) -> None:
        self._running_file.unlink(missing_ok=True)

    def running(self) -> RunningBackend | None:
        """The backend that runs here, or None; a stale note (dead or recycled pid) is removed."""
        running = self.running_now()
        if running is None:
            self.note_stopped()
        return running

    def running_now(self) -> RunningBackend | None:
        """The backend that runs here, or None; changes nothing."""
        data = _read_bytes(self._running_file)
        if data is None:
            return None
        try:
            noted = msgspec.json.decode(data, type=_Running)
        except msgspec.MsgspecError:
            noted = None  # Torn by a crash: as good as absent.
        start = process_start(noted.pid) if noted else None
        if noted is None or start is None or (noted.started is not None and start != noted.started):
            return None
        return RunningBackend(noted.pid, noted.cloud_port, noted.site_port, noted.limits)

    @contextmanager
    def dev_lock(self) -> Iterator[None]:
        """Be the one `cvx dev` of this deployment; raises `AlreadyRunning` naming the other's pid."""
        _prepare(self.folder)
        path = self.folder / "dev.lock"
        with path.open("a+", encoding="ascii") as file:
            if not _try_lock(file):
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise CvxError(
                    "AlreadyRunning",
                    f"Another `cvx dev` (pid {holder}) drives the deployment {self.name!r} in this folder.",
                    kind="conflict",
                    hint="Stop it first, or work on another one: cvx deployment create NAME",
                    details={"pid": holder},
                )
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            try:
                yield
            finally:
                file.seek(0)
                file.truncate()

    def delete(self) -> None:
        """Remove the deployment and its data. Refuses while its backend runs."""
        running = self.running()
        if running is not None:
            raise CvxError(
                "DeploymentRunning",
                f"The backend of {self.name!r} is running (pid {running.pid}).",
                kind="conflict",
                hint="Stop it first: cvx backend stop",
            )
        shutil.rmtree(self.folder, ignore_errors=False)

    @property
    def _config_file(self) -> Path:
        return self.folder / "config.json"

    @property
    def _running_file(self) -> Path:
        return self.folder / "backend.json"


def local_state(project: Project, name: str = DEFAULT_NAME) -> LocalState:
    """The state folder of the local deployment `name`; raises `InvalidDeploymentName`."""
    if not NAME_PATTERN.match(name):
        raise CvxError(
            "InvalidDeploymentName",
            f"{name!r} cannot name a deployment.",
            hint="Use lower-case letters, digits and dashes, at most 63, beginning with a letter or digit.",
        )
    return LocalState(name, project.state_dir / "local" / name)


def list_local(project: Project) -> tuple[LocalState, ...]:
    """Every local deployment of the project, by name."""
    folder = project.state_dir / "local"
    names = sorted(p.name for p in folder.iterdir() if NAME_PATTERN.match(p.name)) if folder.is_dir() else []
    states = (LocalState(name, folder / name) for name in names)
    return tuple(state for state in states if state.exists())


def selected_name(project: Project) -> str | None:
    """The deployment chosen with `cvx deployment select`, local or from `cvx.toml`; None for no choice."""
    data = _read_bytes(project.state_dir / "selected")
    return data.decode(errors="replace").strip() or None if data else None


def select_name(project: Project, name: str | None) -> bool:
    """Remember (or, with None, forget) the chosen deployment; False when that was the choice already."""
    if selected_name(project) == name:
        return False
    path = project.state_dir / "selected"
    if name is None:
        path.unlink(missing_ok=True)
    else:
        _prepare(project.state_dir)
        write_atomically(path, f"{name}\n", mode=0o644)
    return True


def _prepare(folder: Path) -> None:
    """Make a folder inside `.cvx`, which keeps itself out of git."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        root = next((p for p in (folder, *folder.parents) if p.name == ".cvx"), folder)
        ignore = root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise CvxError(
            "StateFolderNotWritable",
            f"Cannot write {folder}: {error.strerror}.",
            hint=f"Check the permissions and free space of {folder.parent}.",
            retry_when="files",
        ) from error


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write_json(path: Path, value: msgspec.Struct) -> None:
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    write_atomically(path, f"{text}\n", mode=0o600)


def _try_lock(file: IO[str]) -> bool:
    """Take the operating system's lock on an open file, without waiting."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
