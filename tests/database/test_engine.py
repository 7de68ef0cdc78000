"""The engine under contention, load and time: what golden scripts cannot show."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.database import Database, Subscription, SystemTable, Transaction, definitions
from cvx.backend.database.indexes import key_of
from cvx.errors import ConflictError, CvxError
from cvx.protocol.schema import DatabaseIndex
from cvx.values import FULL_RANGE, DocumentId, decode
from tests.database.script_player import FakeClock
from tests.waiting import happens

Body = Callable[[Database], Awaitable[None]]


def with_database(folder: Path, body: Body, limits: Limits | None = None, seconds: float = 60.0) -> None:
    async def run() -> None:
        async with await Database.open(folder, clock=FakeClock(), limits=limits) as db:
            await body(db)

    asyncio.run(asyncio.wait_for(run(), seconds))


async def add(db: Database, table: str, *rows: dict[str, Any]) -> list[DocumentId]:
    return (await db.run(None, lambda tx: [tx.insert(table, row) for row in rows]))[0]


async def index(db: Database, table: str, name: str, *fields: str) -> None:
    await db.run(None, lambda tx: definitions.create_index(tx, table, DatabaseIndex(name, fields)))
    await db.idle()

    def enable(tx: Transaction) -> None:
        for _, info, id in definitions.indexes(tx):
            if info.name == name:
                definitions.enable_index(tx, id)

    await db.run(None, enable)


# ------------------------------------------------------------------------------------------------- contention


@pytest.mark.parametrize("pause", [0, 3])
def test_a_hot_row_degrades_to_one_after_the_other(tmp_path: Path, pause: int) -> None:
    async def body(db: Database) -> None:
        (id,) = await add(db, "counters", {"n": 0.0})
        attempts = 0

        async def bump(tx: Transaction) -> None:
            nonlocal attempts
            attempts += 1
            counter = tx.get_value(id)
            assert counter is not None
            for _ in range(pause):
                await asyncio.sleep(0)
            tx.patch(id, {"n": counter["n"] + 1.0})

        async def client() -> None:
            for _ in range(10):
                await db.run(None, bump)

        await asyncio.gather(*(client() for _ in range(40)))
        assert db.begin(None).get_value(id)["n"] == 400.0  # type: ignore[index]
        assert attempts <= 400 * 3, "waiting in line costs about one attempt more, not many"

    with_database(tmp_path, body)


def test_a_slow_transaction_among_fast_ones_gets_through(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        ids = await add(db, "counters", *({"n": 0.0} for _ in range(5)))
        finished = asyncio.Event()
        attempts = 0

        async def sum_up(tx: Transaction) -> None:
            nonlocal attempts
            attempts += 1
            total = sum(document["n"] for document in tx.all("counters"))
            await asyncio.sleep(0.01)
            tx.insert("sums", {"total": total})

        def bump(tx: Transaction) -> None:
            id = random.choice(ids)
            tx.patch(id, {"n": tx.get_value(id)["n"] + 1.0})  # type: ignore[index]

        async def client() -> None:
            while not finished.is_set():
                await db.run(None, bump)

        clients = [asyncio.create_task(client()) for _ in range(8)]
        await db.run(None, sum_up)
        finished.set()
        await asyncio.gather(*clients)
        assert attempts <= db.limits.conflicts_before_exclusive + 1

    with_database(tmp_path, body)


def test_turns_leave_nothing_behind(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        keys = [(1, b"a"), (2, b"b")]

        async def holder() -> None:
            async with db.turn(keys):
                await asyncio.sleep(0.01)
                raise RuntimeError("an attempt that fails")

        results = await asyncio.gather(*(holder() for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, RuntimeError) for result in results)
        waiting = asyncio.create_task(_hold(db, keys))
        async with db.turn(keys):
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        turns = db._committer.turns
        assert turns.is_quiet and not turns._lines

    with_database(tmp_path, body)


async def _hold(db: Database, keys: list[tuple[int, bytes]]) -> None:
    async with db.turn(keys):
        pass


# ---------------------------------------------------------------------------------------------- large commits


def test_a_large_commit_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        await add(db, "rows", {"n": -1.0})
        small = 0
        done = asyncio.Event()

        async def reader() -> None:
            while not done.is_set():
                with db.snapshot() as snapshot:
                    count = db.begin(None, snapshot=snapshot).count("rows")
                    assert count in (1, 5001), count
                    assert snapshot.ts <= db.latest_ts
                await asyncio.sleep(0)

        async def writer() -> None:
            nonlocal small
            while not done.is_set():
                await db.run(None, lambda tx: tx.insert("other", {}))
                small += 1

        tasks = [asyncio.create_task(reader()), asyncio.create_task(writer())]
        tx = db.begin(None)
        for n in range(5000):
            tx.insert("rows", {"n": float(n)})
        ts = await db.commit(tx)
        await db.durable(ts)
        done.set()
        await asyncio.gather(*tasks)
        assert db.begin(None).count("rows") == 5001

    with_database(tmp_path, body)


def test_a_cancelled_large_commit_still_ends_in_order(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        tx = db.begin(None)
        for n in range(2000):
            tx.insert("rows", {"n": float(n)})
        task = asyncio.create_task(db.commit(tx))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await add(db, "after", {"n": 1.0})
        assert db.begin(None).count("rows") in (0, 2000)
        assert db.latest_ts == db._store.latest_ts

    with_database(tmp_path, body)


def test_commits_that_arrive_together_are_held_against_each_other(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        (id,) = await add(db, "rows", {"n": 0.0})
        appended: list[int] = []
        original = db._store.append_many
        db._store.append_many = lambda records: (appended.append(len(records)), original(records))[1]  # type: ignore

        async def commit(tx: Transaction) -> str:
            try:
                await db.commit(tx)
            except ConflictError:
                return "conflict"
            return "committed"

        await add(db, "others", {"n": -1.0})
        begun = [db.begin(None) for _ in range(12)]
        for n, tx in enumerate(begun):
            if n % 3 == 0:
                tx.patch(id, {"n": float(n + 1)})
            else:
                tx.insert("others", {"n": float(n)})
        answers = await asyncio.gather(*map(commit, begun))
        assert answers.count("conflict") == 3, "one of the four that write the same row gets through"
        assert max(appended) > 1, "and they went to the store together"

    with_database(tmp_path, body)


def test_a_full_disk_refuses_a_whole_batch_and_nothing_remembers_it(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        (id,) = await add(db, "rows", {"n": 0.0})
        watcher = db.begin(None, read_only=True)
        watcher.get(id)
        told: list[int] = []
        db.subscribe(watcher.reads, watcher.snapshot.ts, told.append)
        watcher.close()
        before = db.latest_ts
        writer = db._store._writer  # type: ignore[attr-defined]
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count={pages + 3}")  # SQLite then reports a full disk.

        async def one(n: int) -> None:
            tx = db.begin(None)
            tx.insert("rows", {"text": "x" * 50_000})
            if n == 0:
                tx.patch(id, {"n": 1.0})
            await db.commit(tx)

        answers = await asyncio.gather(*(one(n) for n in range(4)), return_exceptions=True)
        assert [getattr(answer, "code", None) for answer in answers] == ["DiskFull"] * 4
        assert db.latest_ts == before and told == []
        writer.execute("PRAGMA max_page_count=1000000")
        tx = db.begin(None)
        assert tx.get_value(id)["n"] == 0.0 and tx.count("rows") == 1  # type: ignore[index]
        tx.patch(id, {"n": 2.0})
        assert told == [] and [await db.commit(tx)] == told

    with_database(tmp_path, body)


def test_whatever_an_append_fails_with_nobody_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(db: Database) -> None:
        (id,) = await add(db, "rows", {"n": 0.0})

        def no_more_files(records: object) -> None:
            raise OSError("too many open files")

        async def one(n: int) -> None:
            tx = db.begin(None)
            tx.patch(id, {"n": -1.0}) if n == 0 else tx.insert("rows", {"n": float(n)})
            await db.commit(tx)

        with monkeypatch.context() as patched:
            patched.setattr(db._store, "append_many", no_more_files)
            answers = await asyncio.gather(*(one(n) for n in range(4)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError] * 4
        tx = db.begin(None)
        assert tx.count("rows") == 1
        tx.patch(id, {"n": 5.0})
        await db.commit(tx)

    with_database(tmp_path, body, seconds=10.0)


@pytest.mark.parametrize("rows", [0, 1, 100], ids=["none", "small", "large"])
def test_who_commits_is_told_before_anybody_else(tmp_path: Path, rows: int) -> None:
    async def body(db: Database) -> None:
        await add(db, "rows", {"n": 0.0})
        told: list[tuple[str, int]] = []
        watching = db.begin(None, read_only=True)
        watching.count("rows")
        db.subscribe(watching.reads, watching.snapshot.ts, lambda ts: told.append(("subscriber", ts)))
        watching.close()
        tx = db.begin(None)
        for n in range(rows):
            tx.insert("rows", {"n": float(n)})
        ts = await db.commit(tx, lambda ts: told.append(("committer", ts)))
        assert told == [("committer", ts), ("subscriber", ts)][: 2 if rows else 1]

    with_database(tmp_path, body)


@pytest.mark.parametrize("rows", [1, 100], ids=["small", "large"])
def test_a_commit_that_cannot_be_published_stops_everything(tmp_path: Path, rows: int) -> None:
    async def run() -> None:
        told: list[BaseException] = []
        async with await Database.open(tmp_path, clock=FakeClock(), on_fatal=told.append) as db:
            await add(db, "rows", {"n": 0.0})

            def fails(before: object, after: object) -> None:
                raise RuntimeError("nobody expects this")

            db._committer.on_catalog = fails

            async def one(table: str) -> None:
                tx = db.begin(None)
                for n in range(rows):
                    tx.insert(table, {"n": float(n)})
                await db.commit(tx)

            late = db.begin(None)
            late.insert("rows", {"n": 1.0})
            answers = await asyncio.gather(*(one(t) for t in ("new", "rows", "rows")), return_exceptions=True)
            # Whoever comes in the same batch or after it is told, and does not wait.
            assert [getattr(answer, "code", answer) for answer in answers] == ["StoreFailed"] * 3
            assert [str(error) for error in told] == ["nobody expects this"]
            with pytest.raises(CvxError):
                await db.commit(late)

    asyncio.run(asyncio.wait_for(run(), 120))


# ------------------------------------------------------------------------------------------------- background


def test_an_index_is_built_while_writes_go_on(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        ids: list[DocumentId] = []
        for start in range(0, 6000, 1000):
            ids += await add(db, "rows", *({"n": float(n % 97)} for n in range(start, start + 1000)))
        done = asyncio.Event()

        def change(tx: Transaction) -> None:
            for _ in range(3):
                id = random.choice(ids)
                if tx.get(id) is None:
                    continue
                if random.random() < 0.2:
                    tx.delete(id)
                else:
                    tx.patch(id, {"n": float(random.randrange(1000))})
            tx.insert("rows", {"n": 5000.0})

        async def writer() -> None:
            while not done.is_set():
                await db.run(None, change)

        writers = [asyncio.create_task(writer()) for _ in range(4)]
        await asyncio.sleep(0.05)
        await index(db, "rows", "by_n", "n")
        done.set()
        await asyncio.gather(*writers)
        check_index(db, "rows", "by_n")

    with_database(tmp_path, body, Limits(backfill_batch_rows=100))


def check_index(db: Database, table_name: str, name: str) -> None:
    """The index holds exactly the keys of the documents that are there."""
    with db.snapshot() as snapshot:
        table = snapshot.catalog.table("", table_name)
        assert table is not None
        info = table.by_name[name]
        rows = snapshot.view.scan_table(table.table_id, FULL_RANGE, descending=False, limit=1 << 40)
        expected = sorted(key_of(info, decode(row.document), row.internal) for row in rows)  # type: ignore[arg-type]
        found = snapshot.view.scan(info.index_id, FULL_RANGE, descending=False, limit=1 << 40)
        assert [row.key for row in found] == expected
        assert snapshot.view.count(table.table_id) == len(rows)


def test_a_backfill_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def first(db: Database) -> None:
        for _ in range(3):
            await add(db, "rows", *({"n": float(n)} for n in range(1000)))
        await db.run(None, lambda tx: definitions.create_index(tx, "rows", DatabaseIndex("by_n", ("n",))))
        await asyncio.sleep(0.01)

    async def second(db: Database) -> None:
        await db.idle()
        check_index(db, "rows", "by_n")
        assert db.catalog.index("", "rows", "by_n").state == "backfilled"  # type: ignore[union-attr]

    limits = Limits(backfill_batch_rows=10)
    with_database(tmp_path, first, limits)
    with_database(tmp_path, second, limits)


def test_what_is_dropped_leaves_the_disk(tmp_path: Path) -> None:
    limits = Limits(retention_interval_s=0.02, store_step_rows=100)

    async def body(db: Database) -> None:
        await add(db, "rows", *({"n": float(n)} for n in range(500)))
        await add(db, "kept", {"n": 1.0})
        await index(db, "rows", "by_n", "n")
        table = db.catalog.table("", "rows")
        assert table is not None
        await db.run(None, lambda tx: definitions.delete_table(tx, "rows"))
        await db.idle()
        await _until(lambda: not {table.table_id, *(i.index_id for i in table.with_entries)} & _ids(db))
        assert db.catalog.deleting() == []
        await add(db, "rows", {"n": 2.0})
        assert [row["n"] for row in db.begin(None).all("rows")] == [2.0]

    with_database(tmp_path, body, limits)


def _ids(db: Database) -> set[int]:
    return {*db._store.table_ids(), *db._store.index_ids()}


async def _until(condition: Callable[[], bool]) -> None:
    await happens(condition)


def test_the_log_forgets_and_the_disk_stays_small(tmp_path: Path) -> None:
    limits = Limits(
        retention_interval_s=0.02,
        log_retention_s=0.1,
        checkpoint_wal_bytes=1 << 20,
        restart_wal_bytes=2 << 20,
    )

    async def body(db: Database) -> None:
        ids = await add(db, "rows", *({"n": 0.0, "text": "x" * 500} for _ in range(200)))

        def rewrite(tx: Transaction) -> None:
            for id in random.sample(ids, 50):
                tx.patch(id, {"n": random.random()})

        async def writer() -> None:
            for _ in range(100):
                # Somebody always reads: the store's log never gets a quiet moment by chance.
                with db.snapshot():
                    await db.run(None, rewrite)

        await asyncio.gather(*(writer() for _ in range(4)))
        await _until(lambda: len(db._store.log(0, 1000)) <= 60)
        await _until(lambda: db.size_bytes() < 12 << 20)

    with_database(tmp_path, body, limits)


# ----------------------------------------------------------------------------------------------------- restart


def test_time_goes_on_after_a_restart_with_a_clock_that_went_back(tmp_path: Path) -> None:
    seen: list[int] = []

    async def write(db: Database) -> None:
        await add(db, "rows", {"n": 1.0})
        seen.append(db.latest_ts)

    for year in (2023, 2021):

        class Clock(FakeClock):
            def __init__(self) -> None:
                self.ns = (year - 1970) * 365 * 86_400 * 10**9  # noqa: B023

        async def run() -> None:
            async with await Database.open(tmp_path, clock=Clock()) as db:
                await write(db)
                rows = db.begin(None).all("rows", "by_creation_time")
                times = [row["_creationTime"] for row in rows]
                assert times == sorted(times) and len(set(times)) == len(times)

        asyncio.run(run())
    assert seen[0] < seen[1]


def test_system_tables_are_made_once_and_follow_their_definition(tmp_path: Path) -> None:
    async def opened(*tables: SystemTable) -> None:
        async with await Database.open(tmp_path, clock=FakeClock(), system_tables=tables) as db:
            tx = db.begin(None)
            if tx.first("_things", privileged=True) is None:
                await db.run(None, lambda tx: tx.insert("_things", {"a": "x", "b": "y"}, privileged=True))
            tx.close()
            tx = db.begin(None)
            for table in tables:
                for name, fields in table.indexes.items():
                    value = {"a": "x", "b": "y"}[fields[0]]
                    assert tx.first(table.name, name, [value], privileged=True) is not None
            assert str(tx.first("_things", privileged=True)["_id"])  # type: ignore[index]
            assert tx.stream(_scan("_things")).next_page(5) == ([], True), "user code sees no such table"
            with pytest.raises(CvxError) as refused:
                tx.get(tx.first("_things", privileged=True)["_id"])  # type: ignore[index]
            assert refused.value.code == "SystemTableError"
            tx.close()

    asyncio.run(opened(SystemTable("_things", 600, {"by_a": ("a",)})))
    asyncio.run(opened(SystemTable("_things", 600, {"by_a": ("a",), "by_b": ("b",)})))
    asyncio.run(opened(SystemTable("_things", 600, {"by_b": ("b", "a")})))


def _scan(table: str) -> dict[str, Any]:
    return {"source": {"type": "FullTableScan", "tableName": table, "order": None}, "operators": []}


# ---------------------------------------------------------------------------------------------------- the rest


def test_snapshots_can_be_pinned_for_a_while(tmp_path: Path) -> None:
    limits = Limits(snapshot_age_s=0.2, pinned_snapshot_s=3.0, retention_interval_s=0.05)

    async def body(db: Database) -> None:
        (id,) = await add(db, "rows", {"n": 1.0})
        ts = db.pin()
        await db.run(None, lambda tx: tx.patch(id, {"n": 2.0}))
        await asyncio.sleep(0.35)
        with db.snapshot_at(ts) as snapshot:
            assert db.begin(None, snapshot=snapshot).get_value(id)["n"] == 1.0  # type: ignore[index]
        with db.snapshot_at(db.latest_ts) as snapshot:
            assert db.begin(None, snapshot=snapshot).get_value(id)["n"] == 2.0  # type: ignore[index]
        for wrong in (ts - 1, db.latest_ts + 1):
            with pytest.raises(CvxError) as refused:
                db.snapshot_at(wrong)
            assert refused.value.kind == "out_of_retention"
        await asyncio.sleep(3.0)
        with pytest.raises(CvxError):
            db.snapshot_at(ts)

    with_database(tmp_path, body, limits)


def test_pinning_again_counts_from_then(tmp_path: Path) -> None:
    limits = Limits(snapshot_age_s=0.1, pinned_snapshot_s=2.0, retention_interval_s=0.05)

    async def body(db: Database) -> None:
        (id,) = await add(db, "rows", {"n": 1.0})
        ts = db.pin()
        for pause_s in (0.25, 2.3):  # While it is still kept, and when it is not any more.
            await asyncio.sleep(pause_s)
            assert db.pin() == ts
        await db.run(None, lambda tx: tx.patch(id, {"n": 2.0}))
        await asyncio.sleep(0.25)
        with db.snapshot_at(ts) as snapshot:
            assert db.begin(None, snapshot=snapshot).get_value(id)["n"] == 1.0  # type: ignore[index]

    with_database(tmp_path, body, limits)


def test_snapshots_expire_while_much_is_being_dropped(tmp_path: Path) -> None:
    limits = Limits(snapshot_age_s=0.05, retention_interval_s=0.02, store_step_rows=1)

    async def body(db: Database) -> None:
        await add(db, "rows", *({"n": float(n)} for n in range(3_000)))
        await index(db, "rows", "by_n", "n")
        store_id, id = next(
            (info.index_id, id) for _, info, id in definitions.indexes(db.begin(None)) if info.name == "by_n"
        )
        await db.run(None, lambda tx: definitions.drop_index(tx, id))
        with db.snapshot() as held:
            await add(db, "rows", {"n": -1.0})  # Else the next one to begin would make it young again.
            while not held.is_expired:
                await asyncio.sleep(0.01)
            assert store_id in db._store.index_ids(), "the index is still on its way out"

    with_database(tmp_path, body, limits)


def test_components_have_tables_of_their_own(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        tx = db.begin(None)
        mine = tx.insert("users", {"who": "root"})
        theirs = tx.insert("users", {"who": "child"}, component="child")
        assert mine.table == theirs.table == 10_001, "each component counts for itself"
        assert [u["who"] for u in tx.all("users")] == ["root"]
        assert [u["who"] for u in tx.all("users", component="child")] == ["child"]
        assert tx.get(theirs) is None and tx.get(theirs, component="child") is not None
        await db.commit(tx)
        assert db.catalog.components == ["", "child"]
        assert db.catalog.numbers("child") == {"users": 10_001}

    with_database(tmp_path, body)


def test_conflicts_say_who_and_what(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        (id,) = await add(db, "rows", {"n": 1.0})
        a, b = db.begin(None, write_source="slow:one"), db.begin(None, write_source="fast:one")
        a.patch(id, {"n": 2.0})
        b.patch(id, {"n": 3.0})
        await db.commit(b)
        with pytest.raises(ConflictError) as conflict:
            await db.commit(a)
        details = conflict.value.details
        assert (details["table"], details["document_id"], details["write_source"]) == (
            "rows",
            str(id),
            "fast:one",
        )
        assert "error#1" in conflict.value.message and conflict.value.kind == "occ"

    with_database(tmp_path, body)


def test_a_failing_callback_does_not_hide_the_commit_from_others(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        db._committer.subscriptions._on_error = errors.append
        (id,) = await add(db, "rows", {"n": 1.0})
        tx = db.begin(None, read_only=True)
        tx.get(id)
        told: list[int] = []

        def fails(ts: int) -> None:
            raise RuntimeError("callback")

        db.subscribe(tx.reads, tx.snapshot.ts, fails)
        db.subscribe(tx.reads, tx.snapshot.ts, told.append)
        closed = db.subscribe(tx.reads, tx.snapshot.ts, fails)
        closed.close()
        closed.close()
        tx.close()
        ts = (await db.run(None, lambda tx: tx.patch(id, {"n": 2.0})))[1]
        assert told == [ts] and len(errors) == 1
        assert len(db._committer.subscriptions) == 0 and not db._committer.subscriptions._indexes

    with_database(tmp_path, body)


def test_a_callback_may_close_others_that_are_about_to_be_told(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        (id,) = await add(db, "rows", {"n": 1.0})
        reader = db.begin(None, read_only=True)
        reader.get(id)
        told: list[int] = []
        waiting: list[Subscription] = []

        def close_all(ts: int) -> None:
            told.append(ts)
            for one in waiting:
                one.close()

        waiting += [db.subscribe(reader.reads, reader.snapshot.ts, close_all) for _ in range(5)]
        reader.close()
        await db.run(None, lambda tx: tx.patch(id, {"n": 2.0}))
        assert len(told) == 1
        await db.run(None, lambda tx: tx.patch(id, {"n": 3.0}))
        assert len(told) == 1 and len(db._committer.subscriptions) == 0

    with_database(tmp_path, body)


def test_a_smaller_budget_is_enforced_and_lifted(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        ids = await add(db, "rows", *({"n": float(n)} for n in range(5)))
        tx = db.begin(None)
        tx.get(ids[0])
        with tx.budget({"documents_read_max": 1, "documents_written_max": 0}):
            tx.get(ids[1])
            with pytest.raises(CvxError) as refused:
                tx.get(ids[2])
            assert refused.value.code == "TooManyDocumentsRead"
            with pytest.raises(CvxError) as refused:
                tx.insert("rows", {})
            assert refused.value.code == "TooManyWrites"
        tx.get(ids[2])
        tx.close()

    with_database(tmp_path, body)
