"""Files below HTTP: records in transactions, export and import of them, and what becomes of bytes that nobody names."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.auth import SYSTEM, UploadTokens
from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.files import new_key, open_folder_store
from cvx.backend.functions import FileStorage
from cvx.backend.functions.storage_syscalls import parse_sha256
from cvx.backend.model import SYSTEM_TABLES, FileRecord, file_records
from cvx.errors import CvxError
from tests.functions.deployment import App, Deployment, WallClock, bundle, deployment
from tests.waiting import happens

QUICK = replace(Limits(), file_deletion_delay_s=0.0, file_collection_interval_s=0.02, file_orphan_age_s=0.0)


@asynccontextmanager
async def storage(
    folder: Path, limits: Limits = QUICK, *, collecting: bool = True
) -> AsyncIterator[FileStorage]:
    async with await Database.open(
        folder, clock=WallClock(), limits=limits, system_tables=SYSTEM_TABLES
    ) as db:
        files = FileStorage(
            db, open_folder_store(folder / "files", limits), UploadTokens("otter", "ab" * 32, 3600), limits
        )
        if collecting:
            files.start()
        try:
            yield files
        finally:
            await files.close()


def run(folder: Path, body: Callable[[FileStorage], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with storage(folder, **options) as files:
            await body(files)

    asyncio.run(main())


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def save(files: FileStorage, data: bytes, content_type: str | None = "text/plain") -> FileRecord:
    record = await files.record_of(await files.save(once(data), content_type), "test")
    assert record is not None
    return record


async def read(files: FileStorage, record: FileRecord) -> bytes:
    file = await files.open(record)
    try:
        return b"".join([chunk async for chunk in file.chunks()])
    finally:
        await file.close()


async def remove(files: FileStorage, record: FileRecord) -> None:
    await files.db.run(SYSTEM, lambda tx: file_records.remove(tx, record))


async def keys(files: FileStorage) -> set[str]:
    return {file.key for file in await files.store.list("", 1_000)}


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline, f"{what} did not happen within a minute"
        await asyncio.sleep(0.01)


def rows(files: FileStorage, table: str) -> list[dict[str, Any]]:
    with files.db.snapshot() as snapshot:
        return files.db.begin(SYSTEM, snapshot=snapshot, read_only=True).all(table, privileged=True)


# ----------------------------------------------------------------------------------------------- collecting


def test_bytes_go_after_their_file_and_not_before(tmp_path: Path) -> None:
    async def body(files: FileStorage) -> None:
        kept, gone = await save(files, b"kept"), await save(files, b"gone")
        with files.holding():
            await remove(files, gone)
            await asyncio.sleep(0.1)
            assert await read(files, gone) == b"gone", "somebody reads an older snapshot"
            assert rows(files, "_doomed_files") != []

        async def collected() -> bool:
            return await keys(files) == {kept.key} and rows(files, "_doomed_files") == []

        await until(collected, "the bytes go")
        assert await read(files, kept) == b"kept"
        assert await files.record_of(gone.id, "test") is None

    run(tmp_path, body)


def test_deleted_bytes_wait_for_a_while(tmp_path: Path) -> None:
    async def body(files: FileStorage) -> None:
        record = await save(files, b"x")
        await remove(files, record)
        await asyncio.sleep(0.1)
        assert await read(files, record) == b"x"

    run(tmp_path, body, limits=replace(QUICK, file_deletion_delay_s=60.0))


def test_a_restart_goes_on_with_what_was_to_be_deleted(tmp_path: Path) -> None:
    made: list[FileRecord] = []

    async def first(files: FileStorage) -> None:
        made.extend([await save(files, b"kept"), await save(files, b"gone")])
        await remove(files, made[1])
        # A crash between the deletion of bytes and that of the note about them: the note is enough.
        made.append(await save(files, b"gone already"))
        await remove(files, made[2])
        await files.store.delete(made[2].key)

    async def second(files: FileStorage) -> None:
        async def collected() -> bool:
            return await keys(files) == {made[0].key} and rows(files, "_doomed_files") == []

        await until(collected, "the bytes go")

    run(tmp_path, first, collecting=False)
    run(tmp_path, second)


def test_bytes_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    left, kept = new_key(), list[FileRecord]()

    async def first(files: FileStorage) -> None:
        kept.append(await save(files, b"kept"))
        await files.store.put(left, once(b"left over"), bytes_max=100)

    async def too_young(files: FileStorage) -> None:
        await files.collector.sweep()
        assert await keys(files) == {kept[0].key, left}

    async def second(files: FileStorage) -> None:
        async def swept() -> bool:
            return await keys(files) == {kept[0].key}

        await until(swept, "the sweep at the start")

    run(tmp_path, first, collecting=False)
    run(tmp_path, too_young, collecting=False, limits=replace(QUICK, file_orphan_age_s=3600.0))
    run(tmp_path, second, limits=replace(QUICK, file_collection_batch=1))


def test_bytes_without_a_record_yet_are_left_alone(tmp_path: Path) -> None:
    async def body(files: FileStorage) -> None:
        with files.reserving() as reservation:
            kept = await files.put(once(b"on its way"), reservation)
            dropped = await files.put(once(b"given up"), reservation)
            for _ in range(3):
                await files.collector.sweep()
                await files.collector.collect()
            assert await keys(files) == {kept.key, dropped.key}
            await files.db.run(SYSTEM, lambda tx: file_records.add(tx, kept, None))

        async def collected() -> bool:
            return await keys(files) == {kept.key}

        await until(collected, "what was given up goes at once")

    run(tmp_path, body)


def test_many_of_everything_at_once(tmp_path: Path) -> None:
    """Uploads, deletions and sweeps in each other's way: every file that is left has its bytes, and nothing else has."""

    async def body(files: FileStorage) -> None:
        async def live(n: int) -> None:
            for turn in range(8):
                data = f"{n}/{turn}".encode() * 100
                record = await save(files, data)
                await asyncio.sleep(0)
                assert await read(files, record) == data
                if (n + turn) % 2:
                    await remove(files, record)

        async def sweep() -> None:
            while True:
                await files.collector.sweep()
                await asyncio.sleep(0)

        sweeping = asyncio.create_task(sweep())
        await asyncio.gather(*(live(n) for n in range(12)))
        sweeping.cancel()
        named = {row["key"] for row in rows(files, "_stored_files")}
        assert len(named) == 48

        async def collected() -> bool:
            return await keys(files) == named

        await until(collected, "all other bytes go")

    run(tmp_path, body)


# ---------------------------------------------------------------------------------------- export and import


def test_records_of_a_snapshot_go_into_another_deployment(tmp_path: Path) -> None:
    exported: list[tuple[FileRecord, bytes]] = []

    async def give(files: FileStorage) -> None:
        made = [await save(files, f"file {n}".encode(), None if n % 2 else "a/b") for n in range(7)]
        with files.db.snapshot() as snapshot, files.holding():
            await remove(files, made[3])
            await save(files, b"too late")
            tx = files.db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            cursor: str | None = None
            while True:
                records, cursor = file_records.page(tx, cursor, 3)
                assert len(records) <= 3
                for record in records:
                    exported.append((record, await read(files, record)))
                if cursor is None:
                    break
        assert [record for record, _ in exported] == made

    async def take(files: FileStorage) -> None:
        def bring(tx: Any, record: FileRecord, kept: Any) -> None:
            file_records.restore(
                tx,
                kept,
                id=record.id,
                creation_time=record.creation_time,
                content_type=record.content_type,
                storage_id=record.storage_id,
            )

        with files.reserving() as reservation:
            for record, data in exported:
                kept = await files.put(once(data), reservation, sha256=record.sha256)
                await files.db.run(SYSTEM, partial(bring, record=record, kept=kept))
        with files.db.snapshot() as snapshot:
            found, end = file_records.page(
                files.db.begin(SYSTEM, snapshot=snapshot, read_only=True), None, 100
            )
        assert end is None
        assert [replace(record, key="") for record in found] == [replace(r, key="") for r, _ in exported]
        for record, (_, data) in zip(found, exported, strict=True):
            assert await read(files, record) == data
        # A second time: refused, unless the old one goes in the same transaction.
        old, data = found[0], exported[0][1]
        with files.reserving() as reservation:
            again = await files.put(once(data), reservation)
            with pytest.raises(CvxError) as caught:
                await files.db.run(SYSTEM, partial(bring, record=old, kept=again))
            assert caught.value.code == "DuplicateId"

            def swap(tx: Any) -> None:
                file_records.remove(tx, old)
                bring(tx, old, again)

            await files.db.run(SYSTEM, swap)
        new = await files.record_of(old.id, "test")
        assert new is not None and new.key == again.key and new.storage_id == old.storage_id
        assert await read(files, new) == data
        # New files go on after those that were brought.
        assert (await save(files, b"x")).creation_time > old.creation_time

    run(tmp_path / "one", give)
    run(tmp_path / "other", take)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": "nonsense"}, "InvalidId"),
        ({"id": "j57000820c20a1g7104gm2rc1m70ynr8"}, "InvalidId"),
        ({"creation_time": -1.0}, "InvalidCreationTimeError"),
        ({"creation_time": float("nan")}, "InvalidCreationTimeError"),
        ({"creation_time": 2.0**53}, "InvalidCreationTimeError"),
    ],
)
def test_what_cannot_be_restored(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    async def body(files: FileStorage) -> None:
        with files.reserving() as reservation:
            kept = await files.put(once(b"x"), reservation)
            good = {"id": "kg2000820c20a1g7104gm2rc1m70y674", "creation_time": 1.5, "content_type": None}
            with pytest.raises(CvxError) as caught:
                await files.db.run(SYSTEM, lambda tx: file_records.restore(tx, kept, **{**good, **change}))
            assert caught.value.code == code
        assert rows(files, "_stored_files") == [] == rows(files, "_storage")

    run(tmp_path, body)


# ----------------------------------------------------------------------------------------------- the small things


@pytest.mark.parametrize("component", ["", "billing", "a/b"])
def test_upload_tokens(component: str) -> None:
    tokens = UploadTokens("otter", "ab" * 32, 3600)
    token = tokens.issue(component, 1_000_000.0)
    assert tokens.check(token, 1_000_000.0 + 3_600_000.0) == component
    for wrong in (UploadTokens("badger", "ab" * 32, 3600), UploadTokens("otter", "cd" * 32, 3600)):
        with pytest.raises(CvxError, match="StorageTokenInvalid"):
            wrong.check(token, 1_000_000.0)
    with pytest.raises(CvxError, match="StorageTokenExpired"):
        tokens.check(token, 1_000_000.0 + 3_600_001.0)
    for position in range(0, len(token), 5):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        with pytest.raises(CvxError, match="StorageTokenInvalid"):
            tokens.check(changed, 1_000_000.0)


def test_digests_are_read_in_both_spellings() -> None:
    digest = hashlib.sha256(b"x").digest()
    assert parse_sha256(None) is None
    assert parse_sha256(digest.hex()) == parse_sha256(base64.b64encode(digest).decode()) == digest
    for bad in ("", "abc", digest.hex()[:-1], "z" * 64, base64.b64encode(digest[:-1]).decode(), "ä"):
        with pytest.raises(CvxError, match="InvalidArgument"):
            parse_sha256(bad)


def test_so_many_uploads_at_once(tmp_path: Path) -> None:
    async def body(files: FileStorage) -> None:
        going_on = asyncio.Event()

        begun = 0

        async def slow() -> AsyncIterator[bytes]:
            nonlocal begun
            begun += 1
            yield b"x"
            await going_on.wait()

        first = [asyncio.create_task(files.save(slow(), None)) for _ in range(2)]
        await happens(lambda: begun == 2, "both beginning")
        with pytest.raises(CvxError) as caught:
            await files.save(once(b"x"), None)
        assert (caught.value.code, caught.value.kind) == ("TooManyConcurrentRequests", "overloaded")
        going_on.set()
        await asyncio.gather(*first)
        await files.save(once(b"x"), None)
        with (
            files.downloading(),
            pytest.raises(CvxError, match="TooManyConcurrentRequests"),
            files.downloading(),
        ):
            pass

    run(tmp_path, body, limits=replace(QUICK, uploads_at_once_max=2, downloads_at_once_max=1))


# -------------------------------------------------------------------------------------------------- mutations


@pytest.mark.deno
@pytest.mark.node
def test_attempts_that_conflict_leave_no_bytes(tmp_path: Path, file_app: App) -> None:
    async def main() -> None:
        async with deployment(tmp_path, file_app, limits=QUICK) as d:
            ids = await asyncio.gather(*(d.mutation("files:storeAndCount") for _ in range(12)))
            assert len(set(ids)) == 12
            assert await d.query("files:count") == 12
            assert conflicts(d) > 0, "or nothing was tested"
            for n in range(3):
                assert "thrown" in await d.mutation_error("files:storeAndThrow", {"n": n})
            folder = tmp_path / "data" / "files"

            def stored() -> int:
                return sum(path.is_file() for path in folder.rglob("*"))

            await happens(lambda: stored() == 12, "the bytes of the others going")

    asyncio.run(main())


def conflicts(d: Deployment) -> int:
    calls, _ = d.executor.log.calls(0.0)
    return sum(call.conflict is not None for call in calls if hasattr(call, "conflict"))


@pytest.fixture(scope="module")
def file_app(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp("file-app")
    (folder / "convex").mkdir()
    (folder / "convex" / "files.ts").write_text(SOURCE)
    return bundle(folder / "convex", folder / "out")


SOURCE = """
import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
export const storeAndCount = mutation({ args: {}, handler: async (ctx) => {
  const counter = await ctx.db.query("counters").first();
  const id = await ctx.storage.store(new Blob(["x".repeat(100)]));
  if (counter === null) await ctx.db.insert("counters", { n: 1 });
  else await ctx.db.patch(counter._id, { n: counter.n + 1 });
  return id;
}});
export const storeAndThrow = mutation({ handler: async (ctx, { n }: { n: number }) => {
  await ctx.storage.store(new Blob(["thrown away", String(n)]));
  throw new Error("thrown");
}});
export const count = query({ args: {}, handler: async (ctx) => (await ctx.db.query("counters").first())?.n });
"""
