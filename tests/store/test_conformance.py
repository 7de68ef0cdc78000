"""What every store must do; run on SQLite and on the model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvx.backend.config import Limits
from cvx.backend.store import (
    BulkDocument,
    BulkEntry,
    BulkFile,
    CommitRecord,
    EntryChange,
    Revision,
    Store,
    open_store,
    write_bulk,
)
from cvx.errors import CvxError
from cvx.values import FULL_RANGE, KeyRange
from tests.store.memory_store import MemoryStore

TABLE, INDEX = 1, 2
HIDDEN, HIDDEN_INDEX = 3, 4


def fail(error: BaseException) -> None:
    raise AssertionError(f"fatal: {error}")


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else open_store(tmp_path, Limits(), fail)  # type: ignore[assignment]  # It cannot fail.
    yield store
    store.close()


def id_of(n: int) -> bytes:
    return n.to_bytes(16, "big")


def put(
    store: Store, ts: int, n: int, document: bytes, *, previous: int | None = None, key: bytes | None = None
) -> None:
    entries = [EntryChange(TABLE, INDEX, key + id_of(n), id_of(n))] if key is not None else []
    store.append(CommitRecord(ts, [Revision(TABLE, id_of(n), document, len(document), previous)], entries))


def keys(
    store: Store, *, descending: bool = False, range: KeyRange = FULL_RANGE, limit: int = 100
) -> list[bytes]:
    view = store.view()
    try:
        return [row.key for row in view.scan(INDEX, range, descending=descending, limit=limit)]
    finally:
        view.close()


def test_a_view_stays_as_it_was(store: Store) -> None:
    put(store, 10, 1, b'{"a":1.0}', key=b"x")
    before = store.view()
    put(store, 20, 1, b'{"a":2.0}', previous=10)
    put(store, 30, 2, b'{"a":3.0}', key=b"y")
    after = store.view()
    assert (before.ts, after.ts, store.latest_ts) == (10, 30, 30)
    old, new = before.get(TABLE, id_of(1)), after.get(TABLE, id_of(1))
    assert old is not None and (old.document, old.size, old.ts) == (b'{"a":1.0}', 9, 10)
    assert new is not None and (new.document, new.ts) == (b'{"a":2.0}', 20)
    assert before.get(TABLE, id_of(2)) is None
    assert len(before.scan(INDEX, FULL_RANGE, descending=False, limit=10)) == 1
    assert [row.document for row in after.scan(INDEX, FULL_RANGE, descending=False, limit=10)] == [
        b'{"a":2.0}',
        b'{"a":3.0}',
    ]
    assert (before.count(TABLE), after.count(TABLE)) == (1, 2)
    before.close()
    after.close()


def test_giving_memory_back_changes_nothing(store: Store) -> None:
    put(store, 10, 1, b'{"a":1.0}', key=b"x")
    settled = store.view()
    put(store, 20, 1, b'{"a":2.0}', previous=10)
    live = store.view()
    store.view(detached=True).close()  # Leaves a connection for the next view.
    store.give_back_memory()
    old, new = settled.get(TABLE, id_of(1)), live.get(TABLE, id_of(1))
    assert old is not None and new is not None and (old.ts, new.ts) == (10, 20)
    put(store, 30, 2, b"{}", key=b"y")
    assert (live.count(TABLE), len(keys(store))) == (1, 2)
    settled.close()
    live.close()


def test_ranges_and_directions(store: Store) -> None:
    for n, key in enumerate((b"a", b"b", b"c", b"d"), start=1):
        put(store, n, n, b"{}", key=key)
    full = [key + id_of(n) for n, key in enumerate((b"a", b"b", b"c", b"d"), start=1)]
    assert keys(store) == full
    assert keys(store, descending=True) == full[::-1]
    assert keys(store, range=KeyRange(b"b", b"d")) == full[1:3]
    assert keys(store, range=KeyRange(b"b", None), limit=2) == full[1:3]
    assert keys(store, range=KeyRange(b"", b"c"), descending=True, limit=1) == [full[1]]
    assert keys(store, range=KeyRange(b"e", None)) == []
    view = store.view()
    by_id = view.scan_table(TABLE, KeyRange(id_of(2), id_of(4)), descending=True, limit=10)
    assert [(row.key, row.internal) for row in by_id] == [(id_of(3), id_of(3)), (id_of(2), id_of(2))]
    view.close()


def test_an_entry_moves_and_a_document_goes(store: Store) -> None:
    put(store, 1, 1, b"{}", key=b"a")
    moved = [
        EntryChange(TABLE, INDEX, b"a" + id_of(1), None),
        EntryChange(TABLE, INDEX, b"z" + id_of(1), id_of(1)),
    ]
    store.append(CommitRecord(2, [Revision(TABLE, id_of(1), b'{"m":1.0}', 9, 1)], moved))
    assert keys(store) == [b"z" + id_of(1)]
    gone = [EntryChange(TABLE, INDEX, b"z" + id_of(1), None)]
    store.append(CommitRecord(3, [Revision(TABLE, id_of(1), None, 0, 2)], gone))
    assert keys(store) == []
    view = store.view()
    assert view.get(TABLE, id_of(1)) is None and view.count(TABLE) == 0
    view.close()


def test_several_commits_at_once_or_none(store: Store) -> None:
    first = CommitRecord(1, [Revision(TABLE, id_of(1), b"{}", 2, None)], [])
    store.append_many([first, CommitRecord(2, [Revision(TABLE, id_of(2), b"{}", 2, None)], [])])
    assert store.latest_ts == 2
    with pytest.raises(AssertionError):
        store.append_many(
            [
                CommitRecord(3, [Revision(TABLE, id_of(3), b"{}", 2, None)], []),
                CommitRecord(3, [Revision(TABLE, id_of(4), b"{}", 2, None)], []),
            ]
        )
    view = store.view()
    assert store.latest_ts == view.ts == 2 and view.get(TABLE, id_of(3)) is None and view.count(TABLE) == 2
    view.close()


def test_the_log_says_what_happened_and_is_trimmed_from_its_old_end(store: Store) -> None:
    put(store, 10, 1, b"{}")
    put(store, 20, 1, b'{"b":1.0}', previous=10)
    store.append(
        CommitRecord(
            30, [Revision(TABLE, id_of(1), None, 0, 20), Revision(TABLE, id_of(2), b"{}", 2, None)], []
        )
    )
    lines = store.log(0, 100)
    assert [(line.ts, line.internal, line.document, line.previous_ts) for line in lines] == [
        (10, id_of(1), b"{}", None),
        (20, id_of(1), b'{"b":1.0}', 10),
        (30, id_of(1), None, 20),
        (30, id_of(2), b"{}", None),
    ]
    assert [line.ts for line in store.log(10, 2)] == [20, 30, 30], "a commit is never cut in two"
    assert store.trim(25, 1) == 1
    assert [line.ts for line in store.log(0, 100)] == [20, 30, 30]
    assert store.trim(1_000, 100) == 1, "the newest commit stays, whatever its age"
    assert [line.ts for line in store.log(0, 100)] == [30, 30]
    assert store.latest_ts == 30


def test_filling_an_index_beside_the_order(store: Store) -> None:
    put(store, 1, 1, b"{}", key=b"mine")
    put(store, 2, 2, b"{}")
    store.fill(
        [
            EntryChange(TABLE, INDEX, b"a" + id_of(2), id_of(2)),
            EntryChange(TABLE, INDEX, b"mine" + id_of(1), id_of(1)),
            EntryChange(TABLE, INDEX, b"gone" + id_of(9), id_of(9)),
        ],
        {"progress": b"2"},
    )
    assert keys(store) == [b"a" + id_of(2), b"mine" + id_of(1)]
    assert store.get_global("progress") == b"2" and store.latest_ts == 2


def test_loading_a_bulk_file_in_steps(store: Store, tmp_path: Path) -> None:
    put(store, 1, 1, b"{}", key=b"k")
    path = tmp_path / "bulk"
    documents = [BulkDocument(id_of(n), n, b'{"n":%d}' % n, 10 + n) for n in (4, 2, 3)]
    write_bulk(path, documents, [BulkEntry(HIDDEN_INDEX, b"k%d" % (9 - n) + id_of(n)) for n in (2, 3, 4)])
    bulk = BulkFile(path, HIDDEN, 1)
    store.load(bulk, range(2), range(0), {"done": b"2"})
    assert store.get_global("done") == b"2" and store.latest_ts == 1
    store.load(bulk, range(2, 3), range(3), {"done": b"all"})
    put(store, 2, 5, b"{}", key=b"k")
    view = store.view()
    rows = view.scan(HIDDEN_INDEX, FULL_RANGE, descending=False, limit=10)
    assert [(row.key, row.document, row.size, row.ts) for row in rows] == [
        (b"k%d" % (9 - n) + id_of(n), b'{"n":%d}' % n, n, 1) for n in (4, 3, 2)
    ]
    assert view.count(HIDDEN) == 3 and view.count(TABLE) == 2
    assert view.changed_after(TABLE, 1) and not view.changed_after(TABLE, 2)
    assert not view.changed_after(HIDDEN, 1)
    view.close()
    with pytest.raises(CvxError) as raised:
        store.load(bulk, range(1, 3), range(0), {"done": b"twice"})
    assert raised.value.code == "DuplicateId"
    assert raised.value.details == {"internal": id_of(3), "line": 13}
    assert store.get_global("done") == b"all"


def test_loading_enters_documents_by_creation_time(store: Store, tmp_path: Path) -> None:
    put(store, 1, 1, b"{}", key=b"k")
    path = tmp_path / "bulk"
    key = b"\x04\x00\xff%d"  # Whatever bytes there are, they are the key's.
    write_bulk(path, [BulkDocument(id_of(n), n, b'{"n":%d}' % n, n, key % (9 - n)) for n in (4, 2, 3)], [])
    bulk = BulkFile(path, HIDDEN, 1, HIDDEN_INDEX)
    store.load(bulk, range(2), range(0), {})
    put(store, 2, 5, b"{}", key=b"k")
    store.load(bulk, range(2, 3), range(0), {})
    with contextlib.closing(store.view()) as view:
        rows = view.scan(HIDDEN_INDEX, FULL_RANGE, descending=False, limit=10)
        assert [(row.key, row.document) for row in rows] == [
            (key % (9 - n) + id_of(n), b'{"n":%d}' % n) for n in (4, 3, 2)
        ]
    with pytest.raises(CvxError) as raised:
        store.load(bulk, range(1, 2), range(0), {})
    assert raised.value.code == "DuplicateId"


def test_globals_and_drops_in_bounded_steps(store: Store) -> None:
    assert store.get_global("nothing") is None
    store.set_global("name", b"one")
    store.set_global("name", b"two")
    assert store.get_global("name") == b"two"
    store.set_global("name", None)
    assert store.get_global("name") is None
    for n in range(1, 6):
        put(store, n, n, b"{}", key=b"k")
    assert store.table_ids() == [TABLE] and store.index_ids() == [INDEX]
    assert [store.drop_index(INDEX, 3), store.drop_index(INDEX, 3), store.drop_index(INDEX, 3)] == [3, 2, 0]
    assert [store.drop_table(TABLE, 4), store.drop_table(TABLE, 4), store.drop_table(TABLE, 4)] == [4, 1, 0]
    assert store.table_ids() == [] and store.index_ids() == []


def test_durable_returns_for_what_is_written(store: Store) -> None:
    async def body() -> None:
        for ts in range(1, 20):
            put(store, ts, ts, b"{}")
            await store.writable()
        await asyncio.gather(*(store.durable(ts) for ts in range(20)))

    asyncio.run(asyncio.wait_for(body(), 120))
