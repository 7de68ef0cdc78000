"""Vector search against a model that computes every similarity: seeded random writes, filters, restarts, small memory.

`CVX_SEARCH_SEEDS` makes it longer; a failure prints the seed that repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.database import Database, definitions
from cvx.errors import ConflictError, CvxError
from cvx.protocol.schema import SearchIndex, VectorIndex
from cvx.values import DocumentId, to_json
from tests.database.script_player import FakeClock

SEEDS = range(int(os.environ.get("CVX_SEARCH_SEEDS", "6")))
DIMENSIONS = 5
INDEX = VectorIndex("by_place", "place", DIMENSIONS, ("kind", "at.floor"))
Documents = dict[str, dict[str, Any]]


def cosine(a: list[float], b: list[float]) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / (math.hypot(*a) * math.hypot(*b) or 1.0)


def model(
    documents: Documents, vector: list[float], conditions: list[tuple[str, Any]] | None
) -> list[tuple[str, float]]:
    found = []
    for id, document in documents.items():
        place = document.get("place")
        if (
            not isinstance(place, list)
            or len(place) != DIMENSIONS
            or not all(type(x) is float for x in place)
        ):
            continue
        if not all(map(math.isfinite, place)):
            continue
        fields = {"kind": document.get("kind"), "at.floor": (document.get("at") or {}).get("floor")}
        if conditions is not None and not any(
            fields[f] == value and type(fields[f]) is type(value) for f, value in conditions
        ):
            continue
        found.append((id, cosine(place, vector)))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def expression(conditions: list[tuple[str, Any]] | None) -> Any:
    if conditions is None:
        return None
    eqs = [
        {"$eq": [{"$field": f}, {"$literal": {"$undefined": None} if v is None else to_json(v)}]}
        for f, v in conditions
    ]
    return eqs[0] if len(eqs) == 1 else {"$or": eqs}


async def opened(folder: Path, limits: Limits) -> Database:
    return await Database.open(folder, clock=FakeClock(), limits=limits)


async def add_index(db: Database, index: Any = INDEX) -> DocumentId:
    id, _ = await db.run(None, lambda tx: definitions.create_index(tx, "places", index))
    await db.idle()
    await db.run(None, lambda tx: definitions.enable_index(tx, id))
    return id


class World:
    def __init__(self, db: Database, seed: int) -> None:
        self.db = db
        self.random = random.Random(seed)

    def vector(self) -> list[float]:
        r = self.random
        return (
            [float(r.choice((-1, 0, 1, 2))) for _ in range(DIMENSIONS)]
            if r.random() < 0.2
            else [r.gauss(0, 1) for _ in range(DIMENSIONS)]
        )

    def fields(self) -> dict[str, Any]:
        r = self.random
        fields: dict[str, Any] = {"place": self.vector()}
        if r.random() < 0.1:
            fields["place"] = r.choice(
                ([1.0], "text", None, [1.0, 2.0, 3.0, 4.0, 5], [math.nan] * 5, [math.inf] * 5)
            )
        if r.random() < 0.8:
            fields["kind"] = r.choice(("a", "b", 1.0, True))
        if r.random() < 0.5:
            fields["at"] = {"floor": float(r.randrange(3))}
        return fields

    def documents(self) -> Documents:
        with self.db.begin(None) as tx:
            return {str(d["_id"]): d for d in tx.all("places")}

    async def change(self) -> None:
        r, ids = self.random, sorted(self.documents())
        with self.db.begin(None) as tx:
            for _ in range(r.choice((1, 1, 2, 8))):
                choice = r.random()
                if choice < 0.5 or not ids:
                    ids.append(str(tx.insert("places", self.fields())))
                elif choice < 0.7:
                    tx.replace(r.choice(ids), self.fields())
                elif choice < 0.8:
                    tx.patch(r.choice(ids), {"kind": "c"})
                elif choice < 0.85:
                    tx.patch(r.choice(ids), {"other": 1.0})
                else:
                    tx.delete(ids.pop(r.randrange(len(ids))))
            with contextlib.suppress(ConflictError):  # Another change was quicker.
                await self.db.commit(tx)

    async def check(self) -> None:
        r = self.random
        vector, limit = self.vector(), r.choice((1, 3, 10, 256))
        conditions: list[tuple[str, Any]] | None = None
        if r.random() < 0.5:
            choices = [("kind", v) for v in ("a", "b", "c", 1.0, True, None)] + [
                ("at.floor", v) for v in (0.0, 1.0, None)
            ]
            conditions = r.sample(choices, r.choice((1, 1, 2, 3)))
        hits = await self.db.vector_search("places", "by_place", vector, float(limit), expression(conditions))
        expected = model(self.documents(), vector, conditions)
        scores = dict(expected)
        assert len(hits) == min(limit, len(expected)), (vector, conditions)
        assert len({id for id, _ in hits}) == len(hits)
        for (id, score), (_, best) in zip(hits, expected, strict=False):
            assert abs(score - scores[str(id)]) < 1e-5, "the score is the document's"
            assert abs(score - best) < 1e-5, "and no better one is left out"


@pytest.mark.parametrize("memory", [1 << 20, 4_000, 0])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_search_finds_what_looking_at_every_vector_finds(
    tmp_path: Path, seed: int, memory: int
) -> None:
    async def body() -> None:
        limits = Limits(vector_memory_bytes_max=memory, vector_batch_rows=7, loop_commit_rows_max=4)
        async with await opened(tmp_path, limits) as db:
            world = World(db, seed)
            for _ in range(10):
                await world.change()
            await add_index(db)
            for _ in range(60):
                await world.change()
                await world.check()
            assert db.vector_memory_bytes <= memory * 5 // 4
            # Many at once, while writes go on.
            await asyncio.gather(*(world.change() if n % 3 == 0 else _quiet(world) for n in range(30)))
            await world.check()
        async with await opened(tmp_path, limits) as db:
            world.db = db
            await world.check()

    asyncio.run(asyncio.wait_for(body(), 120))


async def _quiet(world: World) -> None:
    hits = await world.db.vector_search("places", "by_place", world.vector(), 5.0)
    assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)


def test_documents_that_are_gone_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """The nearest thousand are deleted one after the other; what is left is found each time."""

    async def body() -> None:
        async with await opened(tmp_path, Limits()) as db:
            await add_index(db)
            with db.begin(None) as tx:
                ids = [tx.insert("places", {"place": [1.0, n / 1000.0, 0.0, 0.0, 0.0]}) for n in range(1_500)]
                await db.commit(tx)
            query = [1.0, 0.0, 0.0, 0.0, 0.0]
            for first in range(0, 1_400, 350):
                hits = await db.vector_search("places", "by_place", query, 3.0)
                assert [id for id, _ in hits] == ids[first : first + 3]
                with db.begin(None) as tx:
                    for id in ids[first : first + 350]:
                        tx.delete(id)
                    await db.commit(tx)
            assert [id for id, _ in await db.vector_search("places", "by_place", query, 3.0)] == ids[
                1_400:1_403
            ]

    asyncio.run(asyncio.wait_for(body(), 120))


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("VectorDimensionsMismatch", {"vector": [1.0]}),
        ("InvalidVectorQuery", {"vector": "near"}),
        ("InvalidVectorQuery", {"vector": [math.nan] * 5}),
        ("InvalidVectorLimit", {"limit": 0.0}),
        ("InvalidVectorLimit", {"limit": 1.5}),
        ("VectorLimitTooLargeError", {"limit": 257.0}),
        ("IncorrectVectorFilterField", {"filter": {"$eq": [{"$field": "color"}, {"$literal": "a"}]}}),
        ("InvalidVectorSearchFilter", {"filter": {"$and": []}}),
        ("InvalidVectorSearchFilter", {"filter": {"$eq": [{"$literal": "a"}, {"$field": "kind"}]}}),
        ("InvalidVectorSearchFilter", {"filter": {"$literal": True}}),
        (
            "TooManyElementsInVectorQueryError",
            {"filter": {"$or": [{"$eq": [{"$field": "kind"}, {"$literal": float(n)}]} for n in range(65)]}},
        ),
        ("IndexNotFoundError", {"index": "by_nothing"}),
        ("WrongIndexType", {"index": "by_words"}),
        ("IndexBackfillingError", {"index": "by_later"}),
        ("IndexStagedError", {"index": "by_staged"}),
    ],
)
def test_bad_searches(tmp_path: Path, code: str, arguments: dict[str, Any]) -> None:
    async def body() -> None:
        async with await opened(tmp_path, Limits()) as db:
            await add_index(db)
            await add_index(db, SearchIndex("by_words", "words"))
            await db.run(
                None, lambda tx: definitions.create_index(tx, "places", VectorIndex("by_later", "later", 5))
            )
            staged = VectorIndex("by_staged", "staged", 5, (), staged=True)
            await db.run(None, lambda tx: definitions.create_index(tx, "places", staged))
            await db.idle()
            given = {"table": "places", "index": "by_place", "vector": [1.0] * 5, **arguments}
            with pytest.raises(CvxError) as caught:
                await db.vector_search(**given)
            assert caught.value.code == code
            assert await db.vector_search("nowhere", "by_place", [1.0], 1.0) == []
            assert await db.vector_search("places", "by_place", [1.0] * 5) == []
            assert await db.vector_search("places", "by_place", [1.0] * 5, None, {"$or": []}) == []

    asyncio.run(asyncio.wait_for(body(), 120))


def test_numpy_is_loaded_by_the_first_search_and_not_before() -> None:
    code = "import sys, cvx.backend.backend; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
