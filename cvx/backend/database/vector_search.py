"""Vector search: the documents nearest to a vector, in the latest state.

The vectors of an index that is asked are kept in memory (vector_matrix.py), read from the store by the first search and
kept up by every commit. A search scans all of them on a thread, then looks up the best candidates in the snapshot that
was latest when the scan began: what comes back is exact, and what a commit has just written is found. Indexes that
would not fit into `Limits.vector_memory_bytes_max` are read from the store each time.

Source: reference/runtime-and-database.md §9.2; docs/adr/0012-vector-search.md.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cvx.backend.config import Limits
from cvx.backend.database.catalog import Catalog
from cvx.backend.database.committer import Committer
from cvx.backend.database.indexes import IndexInfo
from cvx.backend.database.snapshot import Snapshot
from cvx.backend.database.vectors import FILTER_BYTES, VectorQuery, dimensions_of
from cvx.backend.store import CommitRecord, Store, StoreView, Vector
from cvx.values import Timestamp

if TYPE_CHECKING:
    from cvx.backend.database.vector_matrix import Matrix

T = TypeVar("T")

# More candidates than results: their order is not quite that of the exact scores.
_CANDIDATES_MIN = 64
_CANDIDATES_A_RESULT = 2
_REPLACED_MIN = 1_000


@dataclass(slots=True)
class _Loading:
    """A matrix on its way: whether it fits, once that is known, and what was committed since it began."""

    fits: asyncio.Task[bool]
    missed: list[tuple[Vector, bool]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class VectorHits:
    """(internal id, score), the nearest first, and the state they are of."""

    hits: list[tuple[bytes, float]]
    ts: Timestamp


class VectorSearches:
    """All vector indexes of a database. Everything happens on the event loop but for the scans."""

    def __init__(self, store: Store, committer: Committer, limits: Limits) -> None:
        self._store = store
        self._committer = committer
        self._limits = limits
        self._matrices: OrderedDict[int, Matrix] = OrderedDict()  # The one asked last at the end.
        self._loading: dict[int, _Loading] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._scans = asyncio.Semaphore(limits.vector_searches_parallel)

    @property
    def memory_bytes(self) -> int:
        """What the vectors in memory take."""
        return sum(matrix.size_bytes for matrix in self._matrices.values())

    async def close(self) -> None:
        """Wait for whoever reads the store."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _to_its_end(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """What reads a view on a thread goes on when nobody waits for it any more: the view is closed after it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Nobody need be waiting.

    # ------------------------------------------------------------------------------------------------ being told

    def on_commit(self, record: CommitRecord) -> None:
        """Keep up what is in memory."""
        for change in record.vectors:
            index_id = change.index_id
            matrix, loading = self._matrices.get(index_id), self._loading.get(index_id)
            vector = None
            if change.vector is not None:
                vector = Vector(change.internal, record.ts, change.filters, change.vector)
            if matrix is not None:
                matrix.replaced += change.is_replacing
                if vector is not None:
                    matrix.add([vector])
                if matrix.replaced > max(_REPLACED_MIN, matrix.rows // 4):
                    del self._matrices[index_id]  # Mostly rows of the past: the next search reads it anew.
            elif loading is not None and vector is not None:
                loading.missed.append((vector, change.is_replacing))

    def on_catalog(self, after: Catalog) -> None:
        """Forget indexes that are gone."""
        for index_id in [i for i in self._matrices if after.owner_of(i) is None]:
            del self._matrices[index_id]

    # ---------------------------------------------------------------------------------------------------- search

    async def search(self, index: IndexInfo, query: VectorQuery) -> VectorHits:
        """The nearest documents. The caller has checked that the index may be asked."""
        async with self._scans:
            matrix = await self._matrix(index)
            if matrix is None:
                return await asyncio.shield(self._to_its_end(self._search_store(index.index_id, query)))
            with self._committer.snapshot() as snapshot:
                return VectorHits(
                    await self._search_matrix(index.index_id, matrix, query, snapshot), snapshot.ts
                )

    async def _search_matrix(
        self, index_id: int, matrix: Matrix, query: VectorQuery, snapshot: Snapshot
    ) -> list[tuple[bytes, float]]:
        from cvx.backend.database.vector_matrix import nearest

        want = _CANDIDATES_MIN + _CANDIDATES_A_RESULT * query.limit
        while True:
            state = matrix.capture()
            rows = await asyncio.to_thread(nearest, state, query.vector, query.filters, want)
            found: list[Vector] = []
            gone = []
            for row in rows:
                internal, ts = matrix.name_of(row)
                vector = self._in_snapshot(snapshot.view, index_id, internal, ts)
                if vector is not None:
                    found.append(vector)
                elif ts <= snapshot.ts:
                    gone.append(row)
            matrix.mark_gone(gone)
            if not gone or len(found) >= query.limit + _CANDIDATES_MIN or len(rows) < want:
                break
            want *= 2  # Every row is found to be gone once only.
        return _best(found, query)

    @staticmethod
    def _in_snapshot(view: StoreView, index_id: int, internal: bytes, ts: Timestamp) -> Vector | None:
        vector = view.vector(index_id, internal)
        return vector if vector is not None and vector.ts == ts else None

    async def _search_store(self, index_id: int, query: VectorQuery) -> VectorHits:
        view = self._store.view(detached=True)
        try:
            return await asyncio.to_thread(self._scan_store, view, index_id, query)
        finally:
            view.close()

    def _scan_store(self, view: StoreView, index_id: int, query: VectorQuery) -> VectorHits:
        best: list[tuple[bytes, float]] = []
        after = b""
        while rows := view.vectors(index_id, after, self._limits.vector_batch_rows):
            after = rows[-1].internal
            best = heapq.nsmallest(query.limit, [*best, *_best(rows, query)], key=_rank)
        return VectorHits(best, view.ts)

    # ---------------------------------------------------------------------------------------------------- loading

    async def _matrix(self, index: IndexInfo) -> Matrix | None:
        """The index in memory, once it is there; None when it is too large for that."""
        index_id = index.index_id
        while True:
            matrix = self._matrices.get(index_id)
            if matrix is not None and matrix.size_bytes <= self._limits.vector_memory_bytes_max:
                self._matrices.move_to_end(index_id)
                return matrix
            self._matrices.pop(index_id, None)
            loading = self._loading.get(index_id)
            if loading is None:
                loading = self._loading[index_id] = _Loading(self._to_its_end(self._load(index)))
            if not await asyncio.shield(loading.fits):
                return None

    async def _load(self, index: IndexInfo) -> bool:
        """Read an index into memory; False when it is too large."""
        index_id = index.index_id
        view = self._store.view(detached=True)
        try:
            matrix = await asyncio.to_thread(self._read, view, index)
        finally:
            loading = self._loading.pop(index_id)
            view.close()
        if matrix is None:
            return False
        for vector, is_replacing in loading.missed:
            if vector.ts > view.ts:
                matrix.add([vector])
                matrix.replaced += is_replacing
        self._make_room(matrix.size_bytes)
        self._matrices[index_id] = matrix
        return True

    def _make_room(self, size_bytes: int) -> None:
        while self._matrices and self.memory_bytes + size_bytes > self._limits.vector_memory_bytes_max:
            self._matrices.popitem(last=False)

    def _read(self, view: StoreView, index: IndexInfo) -> Matrix | None:
        from cvx.backend.database.vector_matrix import Matrix, matrix_bytes

        dimensions, filters = dimensions_of(index), len(index.filter_paths)
        rows = view.vector_count(index.index_id)
        capacity = rows + rows // 16  # Some room for what is written next.
        if matrix_bytes(dimensions, filters, capacity) > self._limits.vector_memory_bytes_max:
            return None
        matrix = Matrix(dimensions, filters, capacity)
        after = b""
        while batch := view.vectors(index.index_id, after, self._limits.vector_batch_rows):
            matrix.add(batch)
            after = batch[-1].internal
        return matrix


def _best(vectors: list[Vector], query: VectorQuery) -> list[tuple[bytes, float]]:
    """The nearest `limit` of these, with their scores."""
    from cvx.backend.database.vector_matrix import scores_of

    if query.filters is not None:
        vectors = [
            vector
            for vector in vectors
            if any(_filter_at(vector, position) == digest for position, digest in query.filters)
        ]
    scores = scores_of([vector.vector for vector in vectors], query.vector)
    pairs = [(vector.internal, score) for vector, score in zip(vectors, scores, strict=True)]
    return heapq.nsmallest(query.limit, pairs, key=_rank)


def _filter_at(vector: Vector, position: int) -> bytes:
    return vector.filters[position * FILTER_BYTES : (position + 1) * FILTER_BYTES]


def _rank(pair: tuple[bytes, float]) -> tuple[float, bytes]:
    return -pair[1], pair[0]
