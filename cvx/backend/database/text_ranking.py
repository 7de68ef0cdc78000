"""Ranking: which texts a search finds, the best first.

A text's score is the sum, over the terms it was found by, of their BM25 weights (k1 1.2, b 0.75), over the whole index
whatever the filters; a term that only begins with the last word of the query counts half. Equal scores: the newer
document first, then the smaller id. The snapshot's texts and the transaction's own count alike.

The arrays: a *hit* is one posting (term × text). Texts are addressed by number less the smallest one among the hits.
NumPy is imported by the first search, not before.

Source: reference/runtime-and-database.md §9.1; docs/adr/0011-text-search.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cvx.backend.database.text import IndexedText, TextQuery
from cvx.backend.store import (
    COLUMN_TEXTS,
    GONE,
    OCCURRENCES_MAX,
    POSTING,
    StoredText,
    StoreView,
)
from cvx.values import successor_of_prefix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K1 = 1.2
B = 0.75
PREFIX_WEIGHT = 0.5
_SCATTERED_BLOCKS = 16


class Found(NamedTuple):
    """A text that a search found. `internal`: its document's internal id, where it is known already: most of what is
    found is never looked at."""

    score: float
    created: float
    text_id: int
    internal: bytes | None


class _Extra(NamedTuple):
    """A text that is not among the postings; `internal` None: a stored one, to be looked up by its number."""

    text_id: int
    internal: bytes | None
    text: StoredText


def ranked(
    view: StoreView,
    index_id: int,
    query: TextQuery,
    own: Mapping[bytes, IndexedText | None],
    limit: int,
) -> tuple[list[Found], bool]:
    """The best `limit` texts, and whether there are more. `own`: documents the transaction has written, with what
    the index would hold of them."""
    documents, tokens, next_id = view.text_statistics(index_id)
    gone = set(view.gone_texts(index_id))
    for internal in own:
        stored = view.text_of(index_id, internal)
        if stored is not None:
            gone.add(stored[0])
            documents, tokens = documents - 1, tokens - stored[1]
    extras = [
        _Extra(text_id, None, text) for text_id, text in view.recent_texts(index_id) if text_id not in gone
    ]
    for internal, mine in own.items():
        if mine is not None:
            extras.append(_Extra(next_id, internal, mine.stored()))
            documents, tokens, next_id = documents + 1, tokens + mine.length, next_id + 1
    hits = _hits(view, index_id, query, extras)
    if not hits:
        return [], False
    return _Ranking(view, index_id, query, extras, gone).best(hits, documents, tokens, limit)


def _hits(
    view: StoreView, index_id: int, query: TextQuery, extras: Sequence[_Extra]
) -> list[tuple[bytes, bytes]]:
    """(term, its postings) of every term that the query finds, in the terms' order; numbers in order within each."""
    pieces: dict[bytes, list[bytes]] = {}
    for term in query.terms[:-1]:
        pieces[term] = [entries for _, entries in view.postings(index_id, term, None)]
    below = successor_of_prefix(query.prefix)
    assert below is not None
    of_prefix: dict[bytes, list[bytes]] = {}
    for term, entries in view.postings(index_id, query.prefix, below):
        of_prefix.setdefault(term, []).append(entries)
    pieces |= of_prefix
    for extra in extras:
        for term, count in _found_in(extra.text.terms, query):
            pieces.setdefault(term, []).append(POSTING.pack(extra.text_id, min(count, OCCURRENCES_MAX)))
    return [(term, b"".join(pieces[term])) for term in sorted(pieces) if pieces[term]]


def _found_in(terms: bytes, query: TextQuery) -> list[tuple[bytes, int]]:
    """Which terms of a text the query finds, and how often they occur."""
    found = []
    for term in query.terms[:-1]:
        if term.startswith(query.prefix):
            continue  # Found below.
        place = terms.find(b"\n" + term + b"\t")
        if place >= 0:
            start = place + len(term) + 2
            found.append((term, int(terms[start : terms.index(b"\n", start)])))
    start = terms.find(b"\n" + query.prefix) + 1
    while start and terms.startswith(query.prefix, start):  # In order: terms that begin alike stand together.
        end = terms.index(b"\n", start)
        term, _, counted = terms[start:end].partition(b"\t")
        found.append((term, int(counted)))
        start = end + 1
    return found


class _Ranking:
    """The arithmetic of one search."""

    def __init__(
        self, view: StoreView, index_id: int, query: TextQuery, extras: Sequence[_Extra], gone: set[int]
    ) -> None:
        import numpy

        self._np = numpy
        self._view = view
        self._index_id = index_id
        self._query = query
        self._extras = extras
        self._gone = gone
        self._posting = numpy.dtype([("id", "<u4"), ("count", "<u2")])
        self._column = numpy.dtype([("created", "<f8"), ("length", "<u4")])

    def best(
        self, hits: list[tuple[bytes, bytes]], documents: int, tokens: int, limit: int
    ) -> tuple[list[Found], bool]:
        np = self._np
        entries = np.frombuffer(b"".join([piece for _, piece in hits]), dtype=self._posting)
        ids = entries["id"].astype(np.int64)
        base, size = int(ids.min()), int(ids.max() - ids.min()) + 1
        places = ids - base
        created, lengths = self._columns(places, base, size)
        there = lengths != GONE
        live = there[places]
        sizes = np.array([len(piece) // POSTING.size for _, piece in hits])
        starts = np.cumsum(sizes) - sizes
        frequency = np.add.reduceat(live.astype(np.int64), starts)
        weights = np.log1p((documents - frequency + 0.5) / (frequency + 0.5))
        exact = set(self._query.terms)
        weights *= np.array([1.0 if term in exact else PREFIX_WEIGHT for term, _ in hits])
        counts = entries["count"].astype(np.float64)
        average = tokens / documents if tokens else 1.0
        norms = K1 * (1.0 - B + B * lengths[places] / average)
        parts = np.repeat(weights, sizes) * counts * (K1 + 1.0) / (counts + norms)
        scores = np.bincount(places, weights=np.where(live, parts, 0.0), minlength=size)
        matched = np.zeros(size, dtype=bool)
        matched[places[live]] = True
        for term in self._query.filters:
            matched &= self._filtered(term, base, size)
        return self._top(np.nonzero(matched)[0], scores, created, base, limit)

    def _columns(
        self, places: NDArray[np.int64], base: int, size: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Creation times and lengths by place; the length of a text that is not there is GONE."""
        np = self._np
        created = np.zeros(size)
        lengths = np.full(size, GONE, dtype=np.int64)
        first_block = base // COLUMN_TEXTS
        touched = np.bincount((places + base) // COLUMN_TEXTS - first_block)
        blocks = (np.flatnonzero(touched) + first_block).tolist()
        ranges = [(block, block) for block in blocks]
        if len(blocks) > _SCATTERED_BLOCKS:
            ranges = [(blocks[0], blocks[-1])]
        for first, last in ranges:
            for block, raw in self._view.text_columns(self._index_id, first, last):
                columns = np.frombuffer(raw, dtype=self._column)
                start = block * COLUMN_TEXTS - base
                low, high = max(start, 0), min(start + COLUMN_TEXTS, size)
                created[low:high] = columns["created"][low - start : high - start]
                lengths[low:high] = columns["length"][low - start : high - start]
        for extra in self._extras:
            if 0 <= extra.text_id - base < size:
                created[extra.text_id - base] = extra.text.created
                lengths[extra.text_id - base] = extra.text.length
        for text_id in self._gone:
            if 0 <= text_id - base < size:
                lengths[text_id - base] = GONE
        return created, lengths

    def _filtered(self, term: bytes, base: int, size: int) -> NDArray[Any]:
        """Which texts have a filter's value."""
        np = self._np
        raw = b"".join([entries for _, entries in self._view.postings(self._index_id, term, None)])
        places = np.frombuffer(raw, dtype=self._posting)["id"].astype(np.int64) - base
        passes: NDArray[Any] = np.zeros(size, dtype=bool)
        passes[places[(places >= 0) & (places < size)]] = True
        wanted = b"\n" + term + b"\t"
        for extra in self._extras:
            if 0 <= extra.text_id - base < size and wanted in extra.text.terms:
                passes[extra.text_id - base] = True
        return passes

    def _top(
        self,
        found: NDArray[np.int64],
        scores: NDArray[Any],
        created: NDArray[np.float64],
        base: int,
        limit: int,
    ) -> tuple[list[Found], bool]:
        np = self._np
        is_more = len(found) > limit
        if (
            is_more
        ):  # Only what can be among the best is sorted: whatever is as good as the last of them stays.
            found = found[scores[found] >= np.partition(scores[found], -limit)[-limit]]
        found = found[np.lexsort((-created[found], -scores[found]))]
        last = found[min(limit, len(found)) - 1] if len(found) else None
        if last is not None:
            worse = (scores[found] == scores[last]) & (created[found] < created[last])
            found = found[~worse]
        internals = {extra.text_id: extra.internal for extra in self._extras if extra.internal is not None}
        hits = [
            Found(score, at, text_id, internals.get(text_id))
            for score, at, text_id in zip(
                scores[found].tolist(), created[found].tolist(), (found + base).tolist(), strict=True
            )
        ]
        alike = (np.diff(scores[found]) == 0) & (np.diff(created[found]) == 0)
        if alike.any():  # Equal in all but their ids.
            hits = resolved(self._view, self._index_id, hits)
            hits.sort(key=lambda hit: (-hit.score, -hit.created, hit.internal))
        return hits[:limit], is_more


def resolved(view: StoreView, index_id: int, hits: Sequence[Found]) -> list[Found]:
    """The same, with every document's internal id."""
    stored = dict(view.texts(index_id, [hit.text_id for hit in hits if hit.internal is None]))
    return [hit if hit.internal is not None else hit._replace(internal=stored[hit.text_id]) for hit in hits]
