"""npm packages that "use node" code imports and the push left out (`node.externalPackages`).

They come from the project's own `node_modules` when the backend was told where that is and the versions there are those of
the push (`cvx dev`); otherwise they are installed into the data folder, once for each distinct set of packages,
without running any of their scripts. A set that is there needs no network.

Source: reference/cli-and-deploy.md §2.3, §2.7, §2.10.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Collection
from pathlib import Path

import msgspec

from cvx.backend.config import Limits
from cvx.backend.runner import deno
from cvx.backend.runner.child_process import kill_group
from cvx.backend.runner.verdicts import stopping
from cvx.errors import CvxError

Packages = tuple[tuple[str, str], ...]
"""Names and exact versions."""

_NAME = re.compile(r"(?:@[a-z0-9~_.-][a-z0-9~_.-]*/)?[A-Za-z0-9~_-][A-Za-z0-9~_.-]*\Z")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]*\Z")


class _Manifest(msgspec.Struct):
    version: str = ""


class NodePackages:
    """Sets of packages, in place."""

    def __init__(self, home: Path, project_modules: Path | None, deno_path: Path, limits: Limits) -> None:
        self._home = home
        self._project_modules = project_modules
        self._deno_path = deno_path
        self._limits = limits
        self._installing: dict[str, asyncio.Task[Path]] = {}
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.Lock()  # Held while a process is started, so that `close` misses none.
        self._closing = False

    async def ready(self, packages: Packages, in_use: Collection[Path | None] = ()) -> Path | None:
        """The `node_modules` that has them; None when there are none. Those `in_use` stay. Raises CvxError "InvalidExternalModules",
        "BackendStopping"."""
        if not packages:
            return None
        for name, version in packages:
            if not _NAME.match(name) or not _VERSION.match(version):
                raise _failed(f"'{name[:80]}' in version '{version[:80]}' is no package of npm's registry")
        if self._project_modules is not None and self._project_has(packages):
            return self._project_modules.resolve()
        key = package_set_key(packages)
        folder = self._home / key
        if (folder / "node_modules").is_dir():
            os.utime(folder)  # Those that are used stay.
            return (folder / "node_modules").resolve()
        if key not in self._installing:
            task = asyncio.get_running_loop().create_task(
                asyncio.to_thread(self._install, folder, packages, in_use)
            )
            self._installing[key] = task
            task.add_done_callback(lambda _: self._installing.pop(key, None))
        return await asyncio.shield(self._installing[key])

    async def close(self) -> None:
        """End what is being installed; returns when nothing is under way any more."""
        with self._starting:
            self._closing = True
        for process in [process for process in list(self._processes) if process.returncode is None]:
            kill_group(process.pid)
        while self._installing:
            await asyncio.wait(self._installing.values())

    def _project_has(self, packages: Packages) -> bool:
        assert self._project_modules is not None
        for name, version in packages:
            try:
                text = (self._project_modules / name / "package.json").read_bytes()
                if msgspec.json.decode(text, type=_Manifest).version != version:
                    return False
            except (OSError, msgspec.MsgspecError):
                return False
        return True

    def _install(self, folder: Path, packages: Packages, kept: Collection[Path | None]) -> Path:
        self._home.mkdir(parents=True, exist_ok=True)
        self._make_room(kept)
        draft = self._home / f".{folder.name}-{secrets.token_hex(4)}"
        draft.mkdir()
        try:
            manifest = {"name": "external-packages", "private": True, "dependencies": dict(packages)}
            (draft / "package.json").write_bytes(msgspec.json.encode(manifest))
            self._run_install(draft)
            (draft / "node_modules").mkdir(exist_ok=True)
            try:
                draft.rename(folder)
            except OSError:
                if not folder.is_dir():  # Another process made the same.
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return (folder / "node_modules").resolve()

    def _make_room(self, kept: Collection[Path | None]) -> None:
        sets = [folder for folder in self._home.iterdir() if folder.is_dir() and folder.name[0] != "."]
        sets.sort(key=lambda folder: folder.stat().st_mtime)
        for folder in sets[: max(0, len(sets) - self._limits.node_package_sets_max + 1)]:
            if (folder / "node_modules").resolve() not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _run_install(self, folder: Path) -> None:
        environment = {**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}
        environment.setdefault("DENO_DIR", str(self._home / ".cache"))
        with self._starting:
            if self._closing:
                raise stopping()
            process = subprocess.Popen(
                deno.install_arguments(self._deno_path),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # As for the children: a Ctrl-C is for us to answer.
            )
            self._processes.add(process)
        try:
            written, _ = process.communicate(timeout=self._limits.node_install_s)
        except subprocess.TimeoutExpired:
            raise _failed(
                f"the installation did not end within {self._limits.node_install_s:.0f} s"
            ) from None
        finally:
            if process.returncode is None:
                kill_group(process.pid)
                process.wait()
            self._processes.discard(process)
        if self._closing:
            raise stopping()
        if process.returncode != 0:
            output = written.decode(errors="replace").partition("\nStack backtrace:")[0]
            last = "\n".join(line for line in output.splitlines() if line.strip())[-1500:]
            raise _failed(f"installing them failed:\n{last}")


def package_set_key(packages: Packages) -> str:
    """A name for a set of packages."""
    return hashlib.sha256(msgspec.json.encode(sorted(packages))).hexdigest()[:32]


def _failed(why: str) -> CvxError:
    return CvxError(
        "InvalidExternalModules",
        f"The packages of `node.externalPackages` cannot be used: {why}",
        hint="Check that the backend reaches the npm registry, or start it with --node-modules DIR.",
        retry_when="time",
    )
