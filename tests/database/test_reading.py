"""Reads where something is in the way: own writes among the rows, filters that fail, tables that are not there yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvx.backend.database import Database, QueryStream, Transaction
from cvx.errors import ConflictError, CvxError
from cvx.values import decode
from tests.database.test_engine import add, index, with_database

FAILS_ON_TEXT = {"filter": {"$gte": [{"$add": [{"$field": "n"}, {"$literal": 1.0}]}, {"$literal": 0.0}]}}


def scan(table: str, *operators: dict[str, Any]) -> dict[str, Any]:
    source = {"type": "FullTableScan", "tableName": table, "order": "asc"}
    return {"source": source, "operators": list(operators)}


def in_index(table: str, name: str, order: str, *operators: dict[str, Any]) -> dict[str, Any]:
    source = {"type": "IndexRange", "indexName": f"{table}.{name}", "order": order, "range": []}
    return {"source": source, "operators": list(operators)}


def numbers(stream: QueryStream, want: int) -> list[Any]:
    found: list[bytes] = []
    done = False
    while not done:
        page, done = stream.next_page(want)
        assert len(page) <= want
        found += page
    return [decode(document)["n"] for document in found]  # type: ignore[call-overload,index]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("want", [1, 2, 100])
def test_a_limit_holds_among_own_writes(tmp_path: Path, order: str, want: int) -> None:
    async def body(db: Database) -> None:
        await add(db, "rows", *({"n": float(n)} for n in range(10)))
        await index(db, "rows", "by_n", "n")
        with db.begin(None) as tx:
            for n in range(10):
                tx.insert("rows", {"n": n + 0.5})
            everything = sorted([n / 2 for n in range(20)], reverse=order == "desc")
            query = in_index("rows", "by_n", order, {"limit": 3.0})
            assert numbers(tx.stream(query), want) == everything[:3]
            assert numbers(tx.stream(in_index("rows", "by_n", order)), want) == everything

    with_database(tmp_path, body)


@pytest.mark.parametrize("want", [1, 3, 100])
def test_a_filter_that_fails_on_a_row_fails_there(tmp_path: Path, want: int) -> None:
    async def body(db: Database) -> None:
        await add(db, "rows", *({"n": "text" if n == 5 else float(n)} for n in range(10)))
        with db.begin(None) as tx:
            stream, found = tx.stream(scan("rows", FAILS_ON_TEXT)), 0
            for _ in range(2):  # And stays failed.
                with pytest.raises(CvxError) as failed:
                    done = False
                    while not done:
                        page, done = stream.next_page(want)
                        found += len(page)
                assert (failed.value.code, found) == ("EvalError", 5)

    with_database(tmp_path, body)


async def _conflicts(db: Database, body: Any, change: Any) -> bool:
    """Whether a transaction that did `body` conflicts with a `change` made meanwhile."""
    with db.begin(None) as tx:
        with pytest.raises(CvxError):
            body(tx)
        tx.insert("seen", {"failed": True})
        await db.run(None, change)
        try:
            await db.commit(tx)
        except ConflictError:
            return True
        return False


def test_what_a_failure_rests_on_is_a_dependency(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        await add(db, "seen", {"failed": False})
        (bad,) = await add(db, "rows", {"n": "text"})
        await add(db, "rows", {"n": 1.0})

        def mend(tx: Transaction) -> None:
            tx.patch(bad, {"n": 0.0})

        def spoil(tx: Transaction) -> None:
            tx.patch(bad, {"n": "text"})

        def page(tx: Transaction) -> None:
            tx.paginate(scan("rows", FAILS_ON_TEXT), None, None, 10)

        def stream(tx: Transaction) -> None:
            found = tx.stream(scan("rows", FAILS_ON_TEXT))
            try:
                found.next_page(10)
            finally:
                found.consumed(0, False)

        assert await _conflicts(db, page, mend)
        await db.run(None, spoil)
        assert await _conflicts(db, stream, mend)

    with_database(tmp_path, body)


def test_what_a_read_limit_rests_on_is_a_dependency(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        await add(db, "seen", {"failed": False})
        ids = await add(db, "rows", *({"n": float(n)} for n in range(3)))

        def all_of_them(tx: Transaction) -> None:
            with tx.budget({"documents_read_max": 2}):
                found = tx.stream(scan("rows"))
                taken = len(found.next_page(2)[0])
                try:
                    found.next_page(2)
                finally:
                    found.consumed(taken, False)

        # Without its third row it would not have failed.
        assert await _conflicts(db, all_of_them, lambda tx: tx.delete(ids[2]))

    with_database(tmp_path, body)


@pytest.mark.parametrize("make", [scan, lambda table: in_index(table, "by_id", "asc")])
def test_a_page_of_a_missing_table_goes_on_when_there_is_one(tmp_path: Path, make: Any) -> None:
    async def body(db: Database) -> None:
        with db.begin(None) as tx:
            empty = tx.paginate(make("rows"), None, None, 10)
        assert (empty.documents, empty.is_done) == ([], True)
        await add(db, "rows", {"n": 1.0})
        with db.begin(None) as tx:
            page = tx.paginate(make("rows"), None, None, 10, journal_end=empty.continue_cursor)
        assert (len(page.documents), page.is_done) == (1, True)

    with_database(tmp_path, body)


@pytest.mark.parametrize("page_size", [0, -5])
def test_pages_of_nothing_are_refused(tmp_path: Path, page_size: int) -> None:
    async def body(db: Database) -> None:
        await add(db, "rows", {"n": 1.0})
        with pytest.raises(CvxError) as refused:
            db.begin(None).paginate(scan("rows"), None, None, page_size)
        assert refused.value.code == "NoDocumentsForPagination"

    with_database(tmp_path, body)


def test_a_creation_time_stays_a_float(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        await add(db, "rows", {"n": 0.0})
        (id,) = await add(db, "rows", {"n": 1.0})
        tx = db.begin(None)
        created = tx.get_value(id)["_creationTime"]  # type: ignore[index]
        assert created == int(created), "of the fake clock: whole milliseconds"
        for change in (tx.patch, tx.replace):
            with pytest.raises(CvxError) as refused:
                change(id, {"_creationTime": int(created)})
            assert refused.value.code == "InvalidCreationTimeError"

    with_database(tmp_path, body)
