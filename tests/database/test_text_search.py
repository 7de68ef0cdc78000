"""Text search against a model that looks at every document: seeded random writes, snapshots of the past, pending writes.

`CVX_SEARCH_SEEDS` makes it longer; a failure prints the seed that repeats it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot, Transaction, definitions
from cvx.backend.database.text import tokens_of
from cvx.errors import CvxError
from cvx.protocol.schema import SearchIndex
from cvx.values import DocumentId, decode, to_json
from tests.database.script_player import FakeClock

SEEDS = range(int(os.environ.get("CVX_SEARCH_SEEDS", "6")))
WORDS = [
    "cat",
    "cats",
    "category",
    "dog",
    "dot",
    "Straße",
    "été",
    "हिन्दी",
    "x1",
    "a",
    "an",
    "ant",
    "zebra",
    "CAT",
    "the",
]
Documents = dict[str, dict[str, Any]]


def check_found(found: list[str], documents: Documents, query: str, filters: dict[str, Any]) -> None:
    """What a search must give: every document is looked at, nothing is indexed. Two that are alike to the search score
    the same, to the last bit; of others whose scores only sums rounded differently tell apart, either may come first."""
    scores, likeness = scored(documents, query, filters)
    assert sorted(found) == sorted(scores), (query, filters)
    for first, second in itertools.pairwise(found):
        if likeness[first] == likeness[second]:
            order = [(-documents[id]["_creationTime"], id) for id in (first, second)]
            assert order == sorted(order), (query, filters)
        else:
            assert scores[first] > scores[second] - 1e-9, (query, filters)


def scored(
    documents: Documents, query: str, filters: dict[str, Any]
) -> tuple[dict[str, float], dict[str, tuple[int, ...]]]:
    """The score of each document that is found, and what it was computed from."""
    words = list(re.findall(r"[\w\u0900-\u094c\u094e-\u0963]+", query.lower()))[:16]
    if not words:
        return {}, {}
    last = words[-1]
    texts = {
        id: list(re.findall(r"[\w\u0900-\u094c\u094e-\u0963]+", d["body"].lower()))
        for id, d in documents.items()
        if isinstance(d.get("body"), str)
    }
    if not texts:
        return {}, {}
    average = (sum(map(len, texts.values())) / len(texts)) or 1.0
    wanted = {t for tokens in texts.values() for t in tokens if t in words or t.startswith(last)}
    scores: dict[str, float] = {}
    for term in sorted(wanted, key=str.encode):
        having = [id for id, tokens in texts.items() if term in tokens]
        weight = math.log1p((len(texts) - len(having) + 0.5) / (len(having) + 0.5)) * (
            1.0 if term in words else 0.5
        )
        for id in having:
            tf, length = texts[id].count(term), len(texts[id])
            part = weight * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / average))
            scores[id] = scores.get(id, 0.0) + part
    missing = object()
    found = {
        id
        for id in scores
        if all(documents[id].get(f, missing) == (missing if v is None else v) for f, v in filters.items())
    }
    likeness = {id: (len(texts[id]), *(texts[id].count(term) for term in sorted(wanted))) for id in found}
    return {id: scores[id] for id in found}, likeness


def search_query(query: str, filters: dict[str, Any], limit: int | None = None) -> dict[str, Any]:
    eqs = [
        {"type": "Eq", "fieldPath": f, "value": {"$undefined": None} if v is None else to_json(v)}
        for f, v in filters.items()
    ]
    return {
        "source": {
            "type": "Search",
            "indexName": "texts.by_body",
            "filters": [{"type": "Search", "fieldPath": "body", "value": query}, *eqs],
        },
        "operators": [] if limit is None else [{"limit": limit}],
    }


def found_by(tx: Transaction, query: str, filters: dict[str, Any]) -> list[str]:
    return [str(d["_id"]) for d in tx.collect(search_query(query, filters))]


def all_of(tx: Transaction) -> Documents:
    return {str(d["_id"]): d for d in tx.all("texts")}


async def opened(folder: Path, limits: Limits) -> Database:
    return await Database.open(folder, clock=FakeClock(), limits=limits)


async def add_index(db: Database, index: SearchIndex | None = None) -> DocumentId:
    wanted = index or SearchIndex("by_body", "body", ("channel", "kind"))
    id, _ = await db.run(None, lambda tx: definitions.create_index(tx, "texts", wanted))
    await db.idle()
    await db.run(None, lambda tx: definitions.enable_index(tx, id))
    return id


class World:
    def __init__(self, db: Database, seed: int) -> None:
        self.db = db
        self.random = random.Random(seed)
        self.past: list[Snapshot] = []

    def fields(self) -> dict[str, Any]:
        r = self.random
        body: Any = " ".join(r.choice(WORDS) for _ in range(r.choice((0, 1, 2, 3, 8, 40))))
        fields: dict[str, Any] = {
            "body": body if r.random() < 0.95 else 7.0,
            "channel": r.choice(("a", "b", 1.0)),
        }
        if r.random() < 0.5:
            fields["kind"] = r.choice((True, False))
        return fields

    def change(self, tx: Transaction, ids: list[str]) -> None:
        r = self.random
        for _ in range(r.choice((1, 1, 2, 6))):
            choice = r.random()
            if choice < 0.5 or not ids:
                ids.append(str(tx.insert("texts", self.fields())))
            elif choice < 0.7:
                tx.replace(r.choice(ids), self.fields())
            elif choice < 0.8:
                tx.patch(r.choice(ids), {"other": float(r.randrange(9))})
            elif choice < 0.9:
                tx.patch(r.choice(ids), {"channel": "c"})
            else:
                tx.delete(ids.pop(r.randrange(len(ids))))

    def question(self) -> tuple[str, dict[str, Any]]:
        r = self.random
        words = [r.choice([*WORDS, "c", "ca", "z", "nothing"]) for _ in range(r.choice((1, 1, 2, 3)))]
        filters: dict[str, Any] = {}
        if r.random() < 0.4:
            filters["channel"] = r.choice(("a", "b", "c", 1.0, "absent"))
        if r.random() < 0.3:
            filters["kind"] = r.choice((True, False, None))
        return r.choice((" ", ", ", "—")).join(words), filters

    def check(self, tx: Transaction) -> None:
        for _ in range(3):
            query, filters = self.question()
            check_found(found_by(tx, query, filters), all_of(tx), query, filters)

    async def turn(self) -> None:
        r = self.random
        with self.db.begin(None) as tx:
            ids = sorted(all_of(tx))
            self.change(tx, ids)
            self.check(tx)
            if r.random() < 0.3:
                savepoint = tx.savepoint()
                self.change(tx, list(ids))
                self.check(tx)
                tx.rollback_to(savepoint)
                tx.release(savepoint)
                self.check(tx)
            if r.random() < 0.9:
                await self.db.commit(tx)
        if r.random() < 0.3:
            await asyncio.sleep(0.002)
        if r.random() < 0.2:
            self.past.append(self.db.snapshot())
        if len(self.past) > 3 or (self.past and r.random() < 0.1):
            with self.past.pop(r.randrange(len(self.past))) as snapshot:
                self.check(self.db.begin(None, snapshot=snapshot))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_search_is_what_looking_at_every_document_gives(tmp_path: Path, seed: int) -> None:
    async def body() -> None:
        limits = Limits(
            text_fold_rows=5, text_fold_rows_max=9, documents_read_max=1 << 30, loop_commit_rows_max=4
        )
        async with await opened(tmp_path, limits) as db:
            world = World(db, seed)
            for _ in range(10):  # Some are there before the index.
                with db.begin(None) as tx:
                    world.change(tx, sorted(all_of(tx)))
                    await db.commit(tx)
            await add_index(db)
            for _ in range(60):
                await world.turn()
            for snapshot in world.past:
                snapshot.release()
        async with await opened(tmp_path, limits) as db:
            await db.idle()
            world.db = db
            with db.begin(None) as tx:
                world.check(tx)

    asyncio.run(asyncio.wait_for(body(), 120))


def test_no_trace_is_left_of_what_is_gone(tmp_path: Path) -> None:
    """Rewritten a thousand times, the index is as large as what is there."""

    async def body() -> None:
        async with await opened(tmp_path, Limits(text_fold_rows=10)) as db:
            await add_index(db)
            id, _ = await db.run(None, lambda tx: tx.insert("texts", {"body": "start"}))
            for n in range(1_000):
                with db.begin(None) as tx:
                    tx.patch(id, {"body": f"word{n} shared", "channel": float(n)})
                    await db.commit(tx)
            await db.idle()
            writer: Any = db._store._writer  # type: ignore[attr-defined]
            for table, most in (("texts", 12), ("text_terms", 12), ("postings", 60), ("text_columns", 3)):
                assert writer.execute(f"SELECT count(*) FROM {table}").fetchone()[0] <= most
            with db.begin(None) as tx:
                assert found_by(tx, "word999", {}) == [str(id)]
                assert found_by(tx, "word998", {}) == []
                tx.delete(id)
                await db.commit(tx)
            row = definitions.indexes(db.begin(None))[0][2]
            await db.run(None, lambda tx: definitions.drop_index(tx, row))
            for _ in range(2_000):
                await asyncio.sleep(0.02)
                left = [
                    writer.execute(f"SELECT count(*) FROM {t}").fetchone()[0]
                    for t in ("texts", "text_terms", "postings", "text_columns", "text_indexes")
                ]
                if not any(left):
                    return
            raise AssertionError(f"a dropped index leaves nothing: {left}")

    asyncio.run(asyncio.wait_for(body(), 120))


def test_more_than_can_be_scanned(tmp_path: Path) -> None:
    async def body() -> None:
        async with await opened(tmp_path, Limits(search_candidates_max=20)) as db:
            await add_index(db)
            with db.begin(None) as tx:
                ids = [str(tx.insert("texts", {"body": "same words", "n": float(n)})) for n in range(30)]
                await db.commit(tx)
            newest = ids[::-1]
            with db.begin(None) as tx:
                stream = tx.stream(search_query("same", {}, 20))
                assert [decode(raw)["_id"] for raw in stream.next_page(50)[0]] == newest[:20]  # type: ignore[index,call-overload]
                with pytest.raises(CvxError) as caught:
                    tx.collect(search_query("same", {}))
                assert caught.value.code == "SearchQueryScannedTooManyDocumentsError"
                seen: list[Any] = []
                cursor, done = None, False
                while len(seen) < 20:
                    page = tx.paginate(search_query("same", {}), cursor, None, 8)
                    seen += [decode(raw)["_id"] for raw in page.documents]  # type: ignore[index,call-overload]
                    cursor, done = page.continue_cursor, page.is_done
                    assert page.split_cursor is None
                assert seen == newest[:20] and not done
                with pytest.raises(CvxError) as caught:
                    tx.paginate(search_query("same", {}), cursor, None, 8)
                assert caught.value.code == "SearchQueryScannedTooManyDocumentsError"

    asyncio.run(asyncio.wait_for(body(), 120))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("snake_case and kebab-case", ["snake", "case", "and", "kebab", "case"]),
        ("don't", ["don", "t"]),
        ("ÉTÉ straße ÅNGSTRÖM", ["été", "straße", "ångström"]),
        ("naïve cafe\u0301", ["naïve", "cafe"]),
        ("日本語 テスト", ["日本語", "テスト"]),
        ("हिन्दी", ["हिन", "दी"]),
        ("١٢٣ ½ Ⅷ Ⓐ", ["١٢٣", "½", "ⅷ", "ⓐ"]),
        ("a" * 32 + " " + "b" * 33, ["a" * 32]),
        ("é" * 16 + " " + "é" * 17, ["é" * 16]),
        ("", []),
        (" ... — !!! ", []),
        ("emoji 👍 end", ["emoji", "end"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens
