"""A text search inside a transaction: its source checked, and its documents in rank order.

A search is run when its first document is wanted, and again by each page of a paginated one; a position in its results
is (score, creation time, id). There are at most `Limits.search_candidates_max` of them: going on after that is an error.

Source: reference/runtime-and-database.md §2.6, §9.1.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database.catalog import TableInfo
from cvx.backend.database.indexes import IndexInfo
from cvx.backend.database.snapshot import Snapshot
from cvx.backend.database.text import TextQuery, filter_term, text_query
from cvx.backend.database.text_ranking import Found, ranked, resolved
from cvx.backend.database.write_set import WriteSet
from cvx.backend.store import Row
from cvx.errors import CvxError
from cvx.protocol.schema import SearchIndex
from cvx.values import FULL_RANGE, UNDEFINED, encode_key, from_json


@dataclass(frozen=True, slots=True)
class SearchSource:
    """What a serialized query asks of a text index: its filters as they came."""

    table: str
    index: str
    filters: list[Any]


def compile_search(source: SearchSource, index: IndexInfo, limits: Limits) -> TextQuery | None:
    """The search that a source asks for; None when it has no words.

    Raises CvxError: MissingSearchFilterError, DuplicateSearchFiltersError, IncorrectSearchField,
    IncorrectFilterFieldError, TooManyFilterConditionsInSearchQueryError, InvalidQuery.
    """
    where = f"{source.table}.{source.index}"
    definition = index.definition
    assert isinstance(definition, SearchIndex)
    text: str | None = None
    filters: list[bytes] = []
    for item in source.filters:
        kind = item.get("type") if type(item) is dict else None
        field, value = (item.get("fieldPath"), item.get("value")) if kind else (None, None)
        if kind not in ("Search", "Eq") or type(field) is not str:
            raise CvxError("InvalidQuery", "Not a query: a search filter must be a search or an equality.")
        if kind == "Eq":
            filters.append(_equality(where, definition, field, value))
            continue
        if text is not None:
            raise CvxError(
                "DuplicateSearchFiltersError",
                f"A search in {where} has more than one search expression; it must have exactly one.",
                hint="Call .search() once.",
            )
        if field != definition.search_field:
            raise CvxError(
                "IncorrectSearchField",
                f"A search in {where} searches the field {field}; the index is on {definition.search_field}.",
                hint=f'Use .search("{definition.search_field}", …).',
            )
        if type(value) is not str:
            raise CvxError("InvalidQuery", f"What is searched for in {where} must be a string.")
        text = value
    if text is None:
        raise CvxError(
            "MissingSearchFilterError",
            f"A search in {where} has no search expression.",
            hint=f'Add .search("{definition.search_field}", …).',
        )
    if len(filters) > limits.search_filters_max:
        raise CvxError(
            "TooManyFilterConditionsInSearchQueryError",
            f"A search in {where} has {len(filters)} filters; the maximum is {limits.search_filters_max}.",
        )
    return text_query(text, tuple(filters), terms_max=limits.search_terms_max)


def _equality(where: str, definition: SearchIndex, field: str, operand: Any) -> bytes:
    listed = definition.filter_fields
    if field not in listed:
        raise CvxError(
            "IncorrectFilterFieldError",
            f"A search in {where} filters on the field {field}, which is not one of its filter fields"
            f" ({', '.join(listed) or 'it has none'}).",
            hint="Add it to filterFields in convex/schema.ts and push, or use .filter().", retry_when="files",
        )  # fmt: skip
    value = UNDEFINED if operand == {"$undefined": None} else from_json(operand)
    return filter_term(listed.index(field), value)


class SearchScan:
    """The results of one search, as QueryStream and PageReader take them (compare scan.Scan). Keys are positions in
    rank order; no key of theirs is a dependency: what was searched for is."""

    descending = False
    index_id = None

    def __init__(
        self,
        snapshot: Snapshot,
        writes: WriteSet,
        table: TableInfo,
        index: IndexInfo,
        query: TextQuery | None,
        limits: Limits,
    ) -> None:
        self._snapshot = snapshot
        self._writes = writes
        self._table = table
        self._index = index
        self._query = query
        self._limits = limits
        self._found: list[Found] | None = None
        self._own: Collection[bytes] = ()
        self._next = 0
        self._is_more = False
        self.remaining = FULL_RANGE
        self.exhausted = query is None

    def fetch(self, want: int) -> list[Row]:
        """Up to `want` more rows, at least one unless there are no more."""
        rows: list[Row] = []
        while not rows and not self.exhausted:
            if self._found is None:
                self._found = self._search()
            found = self._found[self._next : self._next + want]
            self._next += len(found)
            if self._next == len(self._found):
                if not found and self._is_more:
                    raise _too_many(self._limits.search_candidates_max)
                self.exhausted = not self._is_more
            found = resolved(self._snapshot.view, self._index.index_id, found)
            rows = [row for hit in found if (row := self._row(hit)) is not None]
        return rows

    def _search(self) -> list[Found]:
        assert self._query is not None
        view, index_id = self._snapshot.view, self._index.index_id
        own = self._writes.texts(self._table, self._index)
        self._own = own.keys()
        hits, self._is_more = ranked(view, index_id, self._query, own, self._limits.search_candidates_max)
        within = self.remaining
        if within == FULL_RANGE or not hits:
            return hits
        hits = resolved(view, index_id, hits)
        # What is beyond the candidates comes after them: out of reach if the range ends before.
        self._is_more &= within.end is None or within.end > _key(hits[-1]) + b"\x00"
        return [hit for hit in hits if within.contains(_key(hit))]

    def _row(self, hit: Found) -> Row | None:
        """The document as it is now; None when the transaction has removed it since the search."""
        table_id, key = self._table.table_id, _key(hit)
        assert hit.internal is not None
        pending = self._writes.writes.get((table_id, hit.internal))
        if pending is not None:
            if pending.new_raw is None:
                return None
            return Row(key, hit.internal, pending.new_raw, pending.new_size, 0)
        stored = self._snapshot.view.get(table_id, hit.internal)
        if stored is None:
            assert hit.internal in self._own, "a text index has only texts of documents that are there"
            return None
        return Row(key, hit.internal, stored.document, stored.size, stored.ts)


def _key(hit: Found) -> bytes:
    """A position in rank order."""
    assert hit.internal is not None
    return encode_key([-hit.score, -hit.created]) + hit.internal


def _too_many(candidates: int) -> CvxError:
    return CvxError(
        "SearchQueryScannedTooManyDocumentsError",
        f"Search query scanned too many documents (fetched {candidates}).",
        kind="pagination_limit",
        hint="Use .take(n), paginate, or narrow the search with a filter field.",
    )
