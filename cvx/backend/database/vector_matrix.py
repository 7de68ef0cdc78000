"""Matrix: the vectors of one index in memory, for scanning all of them.

Each number is one byte (a row's numbers divided by its largest, times 127): a quarter of the memory of float32, and
scanned as fast, because the scan is bound by memory (measured: docs/adr/0012-vector-search.md). What it finds are
candidates; their exact scores are computed from the rows of the store.

Rows are only added. One whose document has changed or gone is found out when it is a candidate, and then marked.

Rule: this file and text_ranking.py are the only ones that import NumPy. A captured state may be read on another thread
while rows are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvx.backend.database.vectors import FILTER_BYTES
from cvx.backend.store import Vector
from cvx.values import Timestamp

_BLOCK_NUMBERS = 200_000  # So many float32s stay in a core's own cache.
_INTERNAL_BYTES = 16


@dataclass(frozen=True, slots=True)
class MatrixState:
    """The rows of one moment."""

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    filters: NDArray[np.uint64]
    live: NDArray[np.bool_]


class Matrix:
    """Grows by `add`; searched by `capture` and `nearest`."""

    def __init__(self, dimensions: int, filters: int, capacity: int) -> None:
        self._dimensions = dimensions
        self._filters = filters
        self.rows = 0
        self.replaced = 0
        """How many rows are known to be of documents that have changed or gone since, found out or not."""
        self._allocate(max(capacity, 16))

    def _allocate(self, capacity: int) -> None:
        self._codes: NDArray[np.int8] = np.empty((capacity, self._dimensions), dtype=np.int8)
        self._scales: NDArray[np.float32] = np.empty(capacity, dtype=np.float32)
        self._digests: NDArray[np.uint64] = np.empty((capacity, self._filters), dtype=np.uint64)
        self._live: NDArray[np.bool_] = np.empty(capacity, dtype=np.bool_)
        self._names: NDArray[np.uint8] = np.empty((capacity, _INTERNAL_BYTES), dtype=np.uint8)
        self._times: NDArray[np.int64] = np.empty(capacity, dtype=np.int64)

    @property
    def size_bytes(self) -> int:
        """The memory it takes."""
        return matrix_bytes(self._dimensions, self._filters, len(self._scales))

    def add(self, vectors: Sequence[Vector]) -> None:
        """Add rows."""
        if not vectors:
            return
        first, last = self.rows, self.rows + len(vectors)
        if last > len(self._scales):
            self._grow(last)
        numbers = np.frombuffer(b"".join([v.vector for v in vectors]), dtype="<f4").reshape(len(vectors), -1)
        scales = np.abs(numbers).max(axis=1) / np.float32(127)
        divisors = np.where(scales == 0, np.float32(1), scales)
        self._codes[first:last] = np.rint(numbers / divisors[:, None])
        self._scales[first:last] = scales
        if self._filters:
            digests = np.frombuffer(b"".join([v.filters for v in vectors]), dtype="<u8")
            self._digests[first:last] = digests.reshape(len(vectors), self._filters, FILTER_BYTES // 8)[
                :, :, 0
            ]
        self._live[first:last] = True
        names = np.frombuffer(b"".join([v.internal for v in vectors]), dtype=np.uint8)
        self._names[first:last] = names.reshape(len(vectors), _INTERNAL_BYTES)
        self._times[first:last] = [v.ts for v in vectors]
        self.rows = last

    def _grow(self, rows: int) -> None:
        """Move to larger arrays; whoever reads the old ones keeps them."""
        old = self._arrays()
        self._allocate(max(rows, len(self._scales) + len(self._scales) // 4))
        for target, source in zip(self._arrays(), old, strict=True):
            target[: self.rows] = source[: self.rows]

    def _arrays(self) -> list[NDArray[Any]]:
        return [self._codes, self._scales, self._digests, self._live, self._names, self._times]

    def name_of(self, row: int) -> tuple[bytes, Timestamp]:
        """(document's internal id, timestamp) of the version that a row is of."""
        return self._names[row].tobytes(), int(self._times[row])

    def mark_gone(self, rows: Sequence[int]) -> None:
        """These rows' documents have changed or gone: they are no candidates any more."""
        self._live[rows] = False

    def capture(self) -> MatrixState:
        """The rows as of now."""
        rows = self.rows
        return MatrixState(
            self._codes[:rows], self._scales[:rows], self._digests[:rows], self._live[:rows].copy()
        )


def matrix_bytes(dimensions: int, filters: int, rows: int) -> int:
    """The memory of so many rows."""
    return rows * (dimensions + 4 + 8 * filters + 1 + _INTERNAL_BYTES + 8)


def nearest(
    state: MatrixState, vector: bytes, filters: Sequence[tuple[int, bytes]] | None, want: int
) -> list[int]:
    """About the `want` rows nearest to a vector, among those that pass a filter, in no order."""
    query = np.frombuffer(vector, dtype="<f4")
    passing = state.live
    if filters is not None:
        passing = passing & _passing(state, filters)
    rows = np.nonzero(passing)[0]
    if len(rows) == 0:
        return []
    scores = np.empty(len(rows), dtype=np.float32)
    step = max(16, _BLOCK_NUMBERS // state.codes.shape[1])
    block = np.empty((min(step, len(rows)), state.codes.shape[1]), dtype=np.float32)
    is_whole = len(rows) == len(passing)
    for start in range(0, len(rows), step):
        stop = min(start + step, len(rows))
        part = state.codes[start:stop] if is_whole else state.codes[rows[start:stop]]
        numbers = block[: stop - start]
        np.copyto(numbers, part)
        np.dot(numbers, query, out=scores[start:stop])
    scores *= state.scales if is_whole else state.scales[rows]
    if len(rows) > want:
        rows = rows[np.argpartition(scores, -want)[-want:]]
    found: list[int] = rows.tolist()
    return found


def _passing(state: MatrixState, filters: Sequence[tuple[int, bytes]]) -> NDArray[Any]:
    passing: NDArray[Any] = np.zeros(len(state.live), dtype=np.bool_)
    for position, digest in filters:
        passing |= state.filters[:, position] == np.frombuffer(digest[:8], dtype="<u8")[0]
    return passing


def scores_of(vectors: Sequence[bytes], query: bytes) -> list[float]:
    """The cosine similarity of each vector (of length 1) and the query's, in float32."""
    if not vectors:
        return []
    wanted = np.frombuffer(query, dtype="<f4")
    numbers = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    found: list[float] = np.clip(numbers @ wanted, -1.0, 1.0).tolist()
    return found
