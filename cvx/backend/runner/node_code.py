"""The files that "use node" children run: the modules of a push, in a folder named after their content.

A folder holds the node modules of one push as they were pushed, with their source maps, a package.json that makes them ES
modules, and a link to the external packages, if there are any. It is made once, under another name, and renamed when
it is whole; one that is there is never changed. The least recently used go when they are too many.

Source: reference/cli-and-deploy.md §2.3; runtime-and-database.md §3.8.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cvx.backend.runner.interface import CodeBundle, ModuleSource

_MANIFEST = '{"name":"functions","private":true,"type":"module"}\n'


@dataclass(frozen=True)
class NodeCode:
    """Code in place. Equal `key` means equal modules and packages."""

    key: str
    folder: Path
    packages: Path | None


class NodeCodeStore:
    """The folders under `home`, at most `folders_max` of them beside those in use."""

    def __init__(self, home: Path, folders_max: int) -> None:
        self._home = home
        self._folders_max = folders_max
        self._keys: OrderedDict[tuple[str, Path | None], str] = OrderedDict()
        self._placing: dict[str, asyncio.Task[None]] = {}

    async def place(self, bundle: CodeBundle, packages: Path | None, in_use: Collection[str]) -> NodeCode:
        """Make sure that the node modules of a bundle are there. `in_use`: keys that must stay."""
        key = self._key(bundle, packages)
        folder = self._home / key
        if key not in self._placing and not folder.is_dir():
            modules = [module for module in bundle.modules.values() if module.environment == "node"]
            writing = asyncio.to_thread(self._write, folder, modules, packages, {key, *in_use})
            self._placing[key] = task = asyncio.get_running_loop().create_task(writing)
            task.add_done_callback(lambda _: self._placing.pop(key, None))
        if key in self._placing:
            await asyncio.shield(self._placing[key])
        return NodeCode(key, folder, packages)

    async def close(self) -> None:
        """Returns when nothing is being written any more."""
        while self._placing:
            await asyncio.wait(self._placing.values())

    def _key(self, bundle: CodeBundle, packages: Path | None) -> str:
        known = self._keys.get((bundle.key, packages))
        if known is not None:
            return known
        digest = hashlib.sha256(f"{packages}\0".encode())
        for path in sorted(bundle.modules):
            module = bundle.modules[path]
            if module.environment == "node":
                digest.update(f"{path}\0{module.sha256}\0".encode())
        key = self._keys[bundle.key, packages] = digest.hexdigest()[:32]
        if len(self._keys) > 4 * self._folders_max:
            self._keys.popitem(last=False)
        return key

    def _write(
        self, folder: Path, modules: list[ModuleSource], packages: Path | None, kept: Collection[str]
    ) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        self._make_room(kept)
        draft = self._home / f".{folder.name}-{secrets.token_hex(4)}"
        try:
            for module in modules:
                file = draft / module.path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(module.source)
                if module.source_map is not None:
                    file.with_name(f"{file.name}.map").write_bytes(module.source_map)
            draft.mkdir(exist_ok=True)
            (draft / "package.json").write_text(_MANIFEST)
            if packages is not None:
                (draft / "node_modules").symlink_to(packages, target_is_directory=True)
            draft.rename(folder)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            if not folder.is_dir():  # Another process made the same.
                raise

    def _make_room(self, kept: Collection[str]) -> None:
        found = sorted((entry for entry in os.scandir(self._home) if entry.is_dir()), key=_last_used)
        removable = [entry for entry in found if entry.name not in kept]
        for entry in removable[: max(0, len(removable) - self._folders_max + 1)]:
            shutil.rmtree(entry.path, ignore_errors=True)

    def touch(self, code: NodeCode) -> None:
        """It is about to be used."""
        try:
            os.utime(code.folder)
        except OSError:
            return  # It only matters for what is removed first.


def _last_used(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0
