"""What changed on disk since the last build looked.

It watches the files the last build *read* (esbuild's metafile, the configuration files) plus the functions
folder, where new files may appear; never `_generated/`, and of `node_modules` only whether packages come and go.

`Picture` is the rule behind it: sizes and times of those files, taken before a build begins. Comparing two
pictures finds every change, however it fell between two watches; the operating system's notices only say when
to look.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cvx.toolchain.client import end_task
from cvx.toolchain.project import GENERATED_DIR, Project

QUIET_MS = 10
"""A change counts when nothing more has changed for one to two times this long."""
DEBOUNCE_MAX_MS = 400
_NOISE_SUFFIXES = ("~", ".swp", ".swx", ".tmp", ".crswap")
_FUNCTION_SUFFIXES = (".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".mts", ".cts", ".json")


@dataclass(frozen=True)
class WatchSet:
    """What a build depends on: `files` it read, and the functions folder, below which new files count."""

    files: frozenset[Path]
    functions_dir: Path
    root: Path

    def folders(self) -> frozenset[Path]:
        """The folders to put a watch on, each without its sub-folders."""
        inside = {folder for folder, _ in _walk(self.functions_dir)}
        parents = {path.parent for path in self.files if "node_modules" not in path.parent.parts}
        packages = {path for path in self.files if path.name == "node_modules"}
        packages |= {scope for folder in packages for scope in _scopes(folder)}
        wanted = inside | parents | packages | {self.root, self.functions_dir.parent}
        return frozenset(folder for folder in wanted if folder.is_dir())

    def covers(self, path: Path) -> bool:
        """Would a change of this file count?"""
        return path in self.files or self.functions_dir in path.parents

    def picture(self) -> dict[Path, tuple[int, int]]:
        """(modification time in ns, size) of every file that counts; absent files are absent."""
        found: dict[Path, tuple[int, int]] = {}
        names = {
            path for path in self.files if "node_modules" not in path.parts or path.name == "node_modules"
        }
        for folder, files in _walk(self.functions_dir):
            names.update(folder / name for name in files)
        for path in names:
            with suppress(OSError):
                status = path.stat()
                found[path] = (status.st_mtime_ns, status.st_size)
        return found


def initial_watch(project_root: Path, functions_dir: Path) -> WatchSet:
    """What to watch before any build has said what it reads."""
    names = ("convex.json", "package.json", "cvx.toml", ".env.local", ".env", "node_modules")
    return WatchSet(frozenset(project_root / name for name in names), functions_dir, project_root)


def watch_set(project: Project, read: Iterable[Path], *, packages: bool = False) -> WatchSet:
    """What a build of `project` that read these files depends on; `packages`: also what is installed."""
    generated = project.generated_dir
    files = {path for path in read if generated not in path.parents} | project.config_files()
    if packages:
        files.add(project.root / "node_modules")
    return WatchSet(frozenset(files), project.functions_dir, project.root)


class Watcher:
    """Waits for changes to a WatchSet. One waiter at a time."""

    def __init__(self, watched: WatchSet) -> None:
        self._watched = watched
        self._picture = watched.picture()
        self._folders: frozenset[Path] = frozenset()
        self._noticed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def look(self, watched: WatchSet | None = None) -> None:
        """Remember how things stand now, at the beginning of a build."""
        self._watched = watched or self._watched
        self._picture = self._watched.picture()
        self._noticed.clear()

    def follow(self, watched: WatchSet) -> None:
        """From now on this set counts; what changed since the last look still differs from it."""
        old, before, now = self._watched, self._picture, watched.picture()
        merged = {path: before.get(path) if old.covers(path) else state for path, state in now.items()}
        merged |= {path: state for path, state in before.items() if watched.covers(path)}
        self._picture = {path: state for path, state in merged.items() if state is not None}
        self._watched = watched

    def accept(self, path: Path) -> None:
        """We have just written this file ourselves: how it is now is how it was."""
        self._picture.pop(path, None)
        if path in self._watched.files:
            with suppress(OSError):
                status = path.stat()
                self._picture[path] = (status.st_mtime_ns, status.st_size)

    async def changed(self) -> set[Path]:
        """Wait until something differs from the last look; the paths that do."""
        while True:
            self._watch()
            difference = self._difference()
            if difference:
                return difference
            await self._noticed.wait()
            self._noticed.clear()

    async def close(self) -> None:
        """Stop watching."""
        await end_task(self._task)

    def _difference(self) -> set[Path]:
        now = self._watched.picture()
        return {p for p in now.keys() | self._picture.keys() if now.get(p) != self._picture.get(p)}

    def _watch(self) -> None:
        """Put the operating system's watches where they belong now."""
        folders = self._watched.folders()
        alive = self._task is not None and not self._task.done()
        if folders == self._folders and alive:
            return
        old, self._folders = self._task, folders
        self._task = asyncio.create_task(self._notice(folders), name="watcher")
        if old is not None:
            old.cancel()

    async def _notice(self, folders: frozenset[Path]) -> None:
        from watchfiles import awatch

        # The watches are in place when the loop below first waits. What changed before is found by looking
        # again then, and what changes from then on is told.
        asyncio.get_running_loop().call_soon(self._noticed.set)
        with suppress(FileNotFoundError, OSError):
            async for _ in awatch(
                *folders,
                watch_filter=lambda _change, path: _counts(path),
                step=QUIET_MS,
                debounce=DEBOUNCE_MAX_MS,
                recursive=False,
            ):
                self._noticed.set()
        # A watched folder vanished while the watches were made: look, and make them again.
        await asyncio.sleep(0.05)
        self._noticed.set()


def _counts(path: str) -> bool:
    name = os.path.basename(path)  # noqa: PTH119  Called for every notice: no Path objects here.
    return not name.endswith(_NOISE_SUFFIXES) and not name.startswith((".#", "4913"))


def _walk(folder: Path) -> Iterable[tuple[Path, list[str]]]:
    """Folders below (and with) `folder` and the source files in each; generated and hidden ones left out."""
    for base, folders, files in os.walk(folder):
        folders[:] = [
            f for f in folders if f not in (GENERATED_DIR, "node_modules") and not f.startswith(".")
        ]
        yield (
            Path(base),
            [f for f in files if f.endswith(_FUNCTION_SUFFIXES) and not f.startswith((".", "#"))],
        )


def _scopes(packages: Path) -> list[Path]:
    """The `@scope` folders in a node_modules folder."""
    with suppress(OSError):
        return [path for path in packages.iterdir() if path.name.startswith("@") and path.is_dir()]
    return []
