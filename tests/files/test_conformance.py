"""What every FileStore must do. A new implementation adds itself to the `store` fixture."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cvx.backend.config import Limits
from cvx.backend.files import FileStore, OpenFile, new_key, open_folder_store
from cvx.errors import CvxError
from tests.waiting import happens

LIMITS = replace(Limits(), file_write_bytes=1000, file_read_bytes=700)
Opener = Callable[[], FileStore]
"""Opens the same store again, as the next process would."""


@pytest.fixture(params=["folder"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    return lambda: open_folder_store(tmp_path / "files", LIMITS)


def run(opener: Opener, body: Callable[[FileStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = opener()
        try:
            await body(store)
        finally:
            await store.close()

    asyncio.run(main())


async def pieces(data: bytes, size: int = 300) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def put(store: FileStore, data: bytes, *, bytes_max: int = 1 << 40, sha256: bytes | None = None) -> str:
    key = new_key()
    digest = await store.put(key, pieces(data), bytes_max=bytes_max, sha256=sha256)
    assert (digest.size, digest.sha256) == (len(data), hashlib.sha256(data).digest())
    return key


async def contents(file: OpenFile) -> bytes:
    try:
        return b"".join([chunk async for chunk in file.chunks()])
    finally:
        await file.close()


async def read(store: FileStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return await contents(await store.open(key, start, end))


async def keys(store: FileStore) -> list[str]:
    return [file.key for file in await store.list("", 1_000)]


async def code_of(awaitable: Awaitable[object]) -> str:
    with pytest.raises(CvxError) as caught:
        await awaitable
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 299, 300, 999, 1000, 1001, 25_000])
def test_what_was_put_comes_back(opener: Opener, size: int) -> None:
    data = os.urandom(size)

    async def body(store: FileStore) -> None:
        key = await put(store, data)
        assert await read(store, key) == data
        assert await store.size(key) == size
        file = await store.open(key)
        assert file.size == size
        await file.close()

    run(opener, body)


def test_parts(opener: Opener) -> None:
    data = os.urandom(5_000)

    async def body(store: FileStore) -> None:
        key = await put(store, data)
        for start, end in [(0, 1), (0, 5_000), (1, 2), (699, 701), (4_999, 5_000), (17, 3_000), (5, None)]:
            assert await read(store, key, start, end) == data[start:end], (start, end)
        assert await read(store, key, 100, 100) == b""
        assert await read(store, key, 4_000, 9_000) == data[4_000:]
        part = await store.open(key, 10, 20)
        assert part.size == 5_000, "the size of the whole file"
        await part.close()

    run(opener, body)


def test_what_is_not_there(opener: Opener) -> None:
    async def body(store: FileStore) -> None:
        key = new_key()
        assert await store.size(key) is None
        assert await code_of(store.open(key)) == "FileNotFound"
        await store.delete(key)
        assert await store.list("", 10) == []

    run(opener, body)


def test_deleting(opener: Opener) -> None:
    async def body(store: FileStore) -> None:
        first, second = await put(store, b"one" * 1_000), await put(store, b"two")
        file = await store.open(first)
        await store.delete(first)
        assert await store.size(first) is None
        assert await code_of(store.open(first)) == "FileNotFound"
        assert await keys(store) == [second]
        assert await contents(file) == b"one" * 1_000, "who has it open reads to its end"
        await store.delete(first)
        assert await read(store, second) == b"two"

    run(opener, body)


def test_listing_goes_on_after_a_key(opener: Opener) -> None:
    async def body(store: FileStore) -> None:
        before = time.time()
        made = sorted([await put(store, b"x" * n) for n in range(25)])
        assert await keys(store) == made
        found, after = [], ""
        while page := await store.list(after, 4):
            assert len(page) <= 4
            found += page
            after = page[-1].key
        assert [file.key for file in found] == made
        assert sorted(file.size for file in found) == list(range(25))
        assert all(before - 2 <= file.modified_s <= time.time() + 2 for file in found)
        assert await store.list(made[-1], 10) == []
        assert [file.key for file in await store.list(made[9], 3)] == made[10:13]

    run(opener, body)


def test_refused_files_leave_nothing(opener: Opener) -> None:
    data = b"abc" * 1_000

    async def body(store: FileStore) -> None:
        await put(store, data, sha256=hashlib.sha256(data).digest(), bytes_max=3_000)
        kept = await keys(store)
        assert await code_of(put(store, data, sha256=bytes(32))) == "Sha256Mismatch"
        assert await code_of(put(store, data, bytes_max=2_999)) == "FileTooLarge"
        assert await code_of(put(store, b"", sha256=bytes(32))) == "Sha256Mismatch"
        assert await keys(store) == kept

    run(opener, body)


def test_a_source_that_fails_leaves_nothing(opener: Opener) -> None:
    async def failing(after: int) -> AsyncIterator[bytes]:
        for _ in range(after):
            yield b"x" * 400
        raise ConnectionResetError("the client went away")

    async def body(store: FileStore) -> None:
        for after in (0, 1, 3, 30):
            key = new_key()
            with pytest.raises(ConnectionResetError):
                await store.put(key, failing(after), bytes_max=1 << 30)
            assert await store.size(key) is None
        assert await store.list("", 10) == []

    run(opener, body)


def test_cancelled_at_any_moment_it_leaves_nothing(opener: Opener) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"y" * 500
            await asyncio.sleep(0)

    async def body(store: FileStore) -> None:
        cancelled = 0
        for delay_ms in range(20):
            key = new_key()
            task = asyncio.create_task(store.put(key, slow(), bytes_max=1 << 30))
            await asyncio.sleep(delay_ms / 2_000)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                cancelled += 1
                assert await store.size(key) is None
            else:
                await store.delete(key)
        assert cancelled > 0
        assert await store.list("", 10) == []

    run(opener, body)


def test_a_reader_that_stops_early(opener: Opener) -> None:
    async def body(store: FileStore) -> None:
        key = await put(store, b"z" * 10_000)
        file = await store.open(key)
        async for chunk in file.chunks():
            assert chunk
            break
        await file.close()
        assert await read(store, key) == b"z" * 10_000

    run(opener, body)


def test_many_at_once(opener: Opener) -> None:
    async def body(store: FileStore) -> None:
        blobs = [os.urandom(3_000 + n) for n in range(40)]
        made = await asyncio.gather(*(put(store, blob) for blob in blobs))
        assert await asyncio.gather(*(read(store, key) for key in made)) == blobs

    run(opener, body)


def test_the_next_process_finds_it(opener: Opener) -> None:
    made: list[str] = []

    async def first(store: FileStore) -> None:
        made.append(await put(store, b"kept" * 999))

    async def second(store: FileStore) -> None:
        assert await keys(store) == made
        assert await read(store, made[0]) == b"kept" * 999

    run(opener, first)
    run(opener, second)


def abandon_a_put(opener: Opener) -> None:
    """A put that is under way when its process ends without a word."""

    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            yield b"half" * 250
            taken += 1
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(opener().put(new_key(), endless(), bytes_max=1 << 40))
        await happens(lambda: task.done() or taken > 20, "the first bytes")
        os._exit(1 if task.done() else 0)

    child = os.fork()
    if child == 0:
        asyncio.run(main())
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_what_a_killed_process_left_is_gone(opener: Opener, tmp_path: Path) -> None:
    abandon_a_put(opener)
    assert list((tmp_path / "files" / "incoming").iterdir()) != [], "it was under way"

    async def body(store: FileStore) -> None:
        assert await store.list("", 10) == []
        key = await put(store, b"new")
        assert await keys(store) == [key]

    run(opener, body)
    left = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in left] == [b"new"]
