"""What is particular to the folder: disks that fail, files that somebody damaged."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cvx.backend.config import Limits
from cvx.backend.files import new_key, open_folder_store
from cvx.errors import CvxError

LIMITS = replace(Limits(), file_write_bytes=10_000, file_read_bytes=10_000)


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 5_000


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """In a process of its own, whose files the system does not let grow beyond 64 KiB."""

    async def fill() -> None:
        store = open_folder_store(tmp_path, LIMITS)
        key = new_key()
        await store.put(key, pieces(5), bytes_max=1 << 30)
        with pytest.raises(CvxError) as caught:
            await store.put(new_key(), pieces(100), bytes_max=1 << 30)
        assert (caught.value.code, caught.value.kind) == ("FileStorageFailed", "unavailable")
        assert caught.value.hint
        assert [path.name for path in files_in(tmp_path)] == [key], "nothing stays of what did not fit"

    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
        try:
            asyncio.run(fill())
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_a_folder_that_vanished(tmp_path: Path) -> None:
    async def body() -> None:
        store = open_folder_store(tmp_path / "files", LIMITS)
        shutil.rmtree(tmp_path / "files")
        for attempt in (store.put(new_key(), pieces(1), bytes_max=1 << 30), store.list("", 1)):
            with pytest.raises(CvxError, match="FileStorageFailed"):
                await attempt

    asyncio.run(body())


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    async def body() -> None:
        store = open_folder_store(tmp_path, LIMITS)
        key = new_key()
        await store.put(key, pieces(10), bytes_max=1 << 30)
        file = await store.open(key)
        [path] = files_in(tmp_path)
        os.truncate(path, 30_000)
        with pytest.raises(CvxError, match="FileDamaged"):
            async for chunk in file.chunks():
                assert chunk
        await file.close()

    asyncio.run(body())


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    async def body() -> None:
        store = open_folder_store(tmp_path, LIMITS)
        key = new_key()
        await store.put(key, pieces(1), bytes_max=1 << 30)
        (tmp_path / "README").write_text("mine")
        (tmp_path / key[:2] / "notes.txt").write_text("mine, too")
        assert [file.key for file in await store.list("", 10)] == [key]

    asyncio.run(body())


def test_keys_do_not_come_from_outside(tmp_path: Path) -> None:
    async def body() -> None:
        store = open_folder_store(tmp_path, LIMITS)
        for bad in ("../../etc/passwd", "", "A" * 32, "0" * 31, "0" * 32 + "\n"):
            with pytest.raises(AssertionError):
                await store.size(bad)

    asyncio.run(body())
