"""Text: what a text index holds of a document, what a search asks of it, and when the one concerns the other.

Tokens are runs of letters and digits (Unicode), in lower case; longer ones than 32 bytes are left out. There is no
stemming, no folding of accents and no list of stop words. A term in an index is a token (after `t`) or what stands for
the value of a filter field (after `f`), so that filters are postings like any other.

A search enters the ReadSet as its terms, its prefix and its filters. A write concerns it when the old or the new
document has one of the terms and passes every filter. What a write does to scores by changing how frequent terms are
does not count, as with the original.

Rule: pure. The bytes made here are stored on disk.

Source: reference/runtime-and-database.md §9.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from cvx.backend.database.alphabetic import ALPHABETIC_MARKS
from cvx.backend.database.indexes import IndexInfo, value_at
from cvx.backend.store import StoredText, text_terms
from cvx.values import encode_value

TERM_BYTES_MAX = 32
_ASCII = re.compile(r"[0-9A-Za-z]+")
_UNICODE = re.compile(rf"(?:[^\W_]+|[{ALPHABETIC_MARKS}]+)+")


def tokens_of(text: str) -> list[str]:
    """The tokens of a text or of a query, in order."""
    if text.isascii():
        return [token for token in _ASCII.findall(text.lower()) if len(token) <= TERM_BYTES_MAX]
    # Surrogates without a partner belong to no word.
    lowered = [token.lower() for token in _UNICODE.findall(text)]
    return [token for token in lowered if len(token.encode()) <= TERM_BYTES_MAX]


def token_term(token: str) -> bytes:
    """A token as a term of an index."""
    return b"t" + token.encode()


def filter_term(position: int, value: Any) -> bytes:
    """What stands for a value (UNDEFINED: missing) of the filter field at this position."""
    return b"f%02x" % position + blake2b(encode_value(value), digest_size=16).hexdigest().encode()


class IndexedText:
    """One version of a document, as a text index sees it."""

    __slots__ = ("_length", "_terms", "created", "filters", "text")

    def __init__(self, text: str, filters: tuple[bytes, ...], created: float) -> None:
        self.text = text
        self.filters = filters
        self.created = created
        self._terms: bytes | None = None
        self._length = 0

    @property
    def terms(self) -> bytes:
        """Every term with how often it occurs (store.text_terms)."""
        if self._terms is None:
            tokens = tokens_of(self.text)
            self._length = len(tokens)
            counts = [(token_term(token), count) for token, count in Counter(tokens).items()]
            self._terms = text_terms([*counts, *((term, 0) for term in self.filters)])
        return self._terms

    @property
    def length(self) -> int:
        """Tokens altogether."""
        return self._length if self.terms else 0

    def is_same(self, other: IndexedText) -> bool:
        """Whether an index holds the same of both."""
        return (self.text, self.filters, self.created) == (other.text, other.filters, other.created)

    def stored(self) -> StoredText:
        return StoredText(self.created, self.length, self.terms)


def text_of(index: IndexInfo, document: dict[str, Any]) -> IndexedText | None:
    """What a text index holds of a document; None when its search field is not a string."""
    text = value_at(document, index.value_path)
    if type(text) is not str:
        return None
    filters = tuple(
        filter_term(position, value_at(document, path)) for position, path in enumerate(index.filter_paths)
    )
    return IndexedText(text, filters, document["_creationTime"])


@dataclass(frozen=True, slots=True)
class SearchRead:
    """What a search looked for: any of the terms, or any that begins with the prefix, where all filters hold."""

    terms: tuple[bytes, ...]
    prefix: bytes | None
    filters: tuple[bytes, ...]

    def matches(self, text: IndexedText) -> bool:
        """Whether the search finds this text."""
        if any(term not in text.filters for term in self.filters):
            return False
        held = text.terms
        if self.prefix is not None and b"\n" + self.prefix in held:
            return True
        return any(b"\n" + term + b"\t" in held for term in self.terms)


class TextWrite(NamedTuple):
    """One document's change as a text index sees it."""

    internal: bytes
    old: IndexedText | None
    new: IndexedText | None

    @property
    def versions(self) -> Iterator[IndexedText]:
        if self.old is not None:
            yield self.old
        if self.new is not None and (self.old is None or not self.new.is_same(self.old)):
            yield self.new

    def concerns(self, read: SearchRead) -> bool:
        """Whether the search found the document before, or finds it now."""
        return any(read.matches(text) for text in self.versions)

    @property
    def weight(self) -> int:
        """How much of the write log's room it takes, in keys."""
        return 1 + sum(len(text.text) for text in self.versions) // 64


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A search as it is scored: terms in the order asked, each once; the last also as a prefix."""

    terms: tuple[bytes, ...]
    prefix: bytes
    filters: tuple[bytes, ...]

    @property
    def read(self) -> SearchRead:
        """What it depends on."""
        return SearchRead(self.terms[:-1], self.prefix, self.filters)


def text_query(text: str, filters: tuple[bytes, ...], *, terms_max: int) -> TextQuery | None:
    """The search for a text; None when it has no tokens. Tokens beyond `terms_max` are ignored."""
    tokens = tokens_of(text)[:terms_max]
    if not tokens:
        return None
    last = tokens[-1]
    # The prefix term is the last of them, wherever else it stands.
    terms = [*dict.fromkeys(token for token in tokens if token != last), last]
    return TextQuery(
        tuple(token_term(token) for token in terms), token_term(last), tuple(dict.fromkeys(filters))
    )
