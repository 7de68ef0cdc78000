"""What text and vector indexes of a store mean: dictionaries. Every text is a recent one for ever."""

from __future__ import annotations

from collections.abc import Sequence

from cvx.backend.store import (
    CommitRecord,
    RecentText,
    StoredText,
    TextChange,
    TextStatistics,
    Vector,
    VectorChange,
)

Texts = dict[tuple[int, bytes], tuple[int, StoredText]]
Vectors = dict[tuple[int, bytes], Vector]


class MemorySearchView:
    """The part of a view that searches read."""

    def __init__(self, texts: Texts, vectors: Vectors, next_id: int) -> None:
        self._texts = texts
        self._vectors = vectors
        self._next_id = next_id

    def _of(self, index_id: int) -> list[tuple[int, bytes, StoredText]]:
        found = [(n, internal, text) for (i, internal), (n, text) in self._texts.items() if i == index_id]
        return sorted(found, key=lambda item: item[0])

    def text_statistics(self, index_id: int) -> TextStatistics:
        mine = self._of(index_id)
        return TextStatistics(len(mine), sum(text.length for _, _, text in mine), self._next_id)

    def postings(self, index_id: int, term: bytes, below: bytes | None) -> list[tuple[bytes, bytes]]:
        return []

    def recent_texts(self, index_id: int) -> list[RecentText]:
        return [RecentText(text_id, text) for text_id, _, text in self._of(index_id)]

    def gone_texts(self, index_id: int) -> list[int]:
        return []

    def text_columns(self, index_id: int, first: int, last: int) -> list[tuple[int, bytes]]:
        return []

    def texts(self, index_id: int, text_ids: Sequence[int]) -> list[tuple[int, bytes]]:
        return [(n, internal) for n, internal, _ in self._of(index_id) if n in text_ids]

    def text_of(self, index_id: int, internal: bytes) -> tuple[int, int] | None:
        found = self._texts.get((index_id, internal))
        return None if found is None else (found[0], found[1].length)

    def vector(self, index_id: int, internal: bytes) -> Vector | None:
        return self._vectors.get((index_id, internal))

    def vectors(self, index_id: int, after: bytes, limit: int) -> list[Vector]:
        keys = sorted(internal for i, internal in self._vectors if i == index_id and internal > after)
        return [self._vectors[index_id, internal] for internal in keys[:limit]]

    def vector_count(self, index_id: int) -> int:
        return sum(i == index_id for i, _ in self._vectors)


class MemorySearch:
    """The part of a store that searches are written to. Every change copies, so that views stay as they were."""

    def __init__(self) -> None:
        self.all_texts: Texts = {}
        self.all_vectors: Vectors = {}
        self.next_text_id = 1

    def apply_search(self, record: CommitRecord) -> None:
        texts, vectors = dict(self.all_texts), dict(self.all_vectors)
        for text in record.texts:
            texts.pop((text.index_id, text.internal), None)
            self._put(texts, text)
        for vector in record.vectors:
            vectors.pop((vector.index_id, vector.internal), None)
            if vector.vector is not None:
                vectors[vector.index_id, vector.internal] = _row(vector, record.ts)
        self.all_texts, self.all_vectors = texts, vectors

    def fill_search(self, ts: int, texts: Sequence[TextChange], vectors: Sequence[VectorChange]) -> None:
        filled_texts, filled_vectors = dict(self.all_texts), dict(self.all_vectors)
        for text in texts:
            if (text.index_id, text.internal) not in filled_texts:
                self._put(filled_texts, text)
        for vector in vectors:
            if vector.vector is not None:
                filled_vectors.setdefault((vector.index_id, vector.internal), _row(vector, ts))
        self.all_texts, self.all_vectors = filled_texts, filled_vectors

    def _put(self, texts: Texts, change: TextChange) -> None:
        if change.new is not None:
            texts[change.index_id, change.internal] = (self.next_text_id, change.new)
            self.next_text_id += 1

    def text_backlog(self) -> int:
        return 0

    def fold_texts(self, limit: int) -> int:
        return 0

    def purge_texts(self, limit: int) -> int:
        return 0

    def drop_search(self, index_id: int) -> int:
        before = len(self.all_texts) + len(self.all_vectors)
        self.all_texts = {key: text for key, text in self.all_texts.items() if key[0] != index_id}
        self.all_vectors = {key: vector for key, vector in self.all_vectors.items() if key[0] != index_id}
        return before - len(self.all_texts) - len(self.all_vectors)


def _row(change: VectorChange, ts: int) -> Vector:
    assert change.vector is not None
    return Vector(change.internal, ts, change.filters, change.vector)
