"""Random changes of text and vector indexes, folded and purged at random, against the model: they must never differ."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from cvx.backend.config import Limits
from cvx.backend.store import (
    COLUMN,
    COLUMN_TEXTS,
    GONE,
    POSTING,
    CommitRecord,
    Revision,
    Store,
    StoredText,
    StoreView,
    TextChange,
    VectorChange,
    occurrences,
    open_store,
    text_terms,
)
from tests.store.memory_store import MemoryStore

SEEDS = range(int(os.environ.get("CVX_MIRROR_SEEDS", "6")))
TEXT_INDEXES, VECTOR_INDEXES = (11, 12), (21, 22)
WORDS = [b"tcat", b"tcats", b"tdog", b"f00ab", b"tx", *(b"tw%d" % n for n in range(40))]
Known = dict[tuple[int, bytes], StoredText]


def fail(error: BaseException) -> None:
    raise AssertionError(f"fatal: {error}")


def texts_of(view: StoreView, index_id: int) -> dict[bytes, tuple[float, int, dict[bytes, int]]]:
    """What a text index holds, by document, put together as a reader does."""
    gone = set(view.gone_texts(index_id))
    terms: dict[int, dict[bytes, int]] = {}
    for term, entries in view.postings(index_id, b"", b"\xff"):
        for text_id, count in POSTING.iter_unpack(entries):
            if text_id not in gone:
                assert term not in terms.setdefault(text_id, {}), "a posting stands once"
                terms[text_id][term] = count
    columns = {}
    for block, raw in view.text_columns(index_id, 0, 1 << 30):
        for place, (created, length) in enumerate(COLUMN.iter_unpack(raw)):
            if length != GONE:
                columns[block * COLUMN_TEXTS + place] = (created, length)
    found = {text_id: (*columns[text_id], held) for text_id, held in terms.items()}
    for text_id, text in view.recent_texts(index_id):
        assert text_id not in found
        found[text_id] = (text.created, text.length, dict(occurrences(text.terms)))
    internals = dict(view.texts(index_id, sorted(found)))
    assert internals.keys() == found.keys()
    for text_id, internal in internals.items():
        assert view.text_of(index_id, internal) == (text_id, found[text_id][1])
    statistics = view.text_statistics(index_id)
    assert (statistics.documents, statistics.tokens) == (
        len(found),
        sum(length for _, length, _ in found.values()),
    )
    assert all(text_id < statistics.next_id for text_id in found)
    return {internals[text_id]: held for text_id, held in found.items()}


class Mirror:
    def __init__(self, path: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.path = path
        self.real: Store = open_store(path, Limits(), fail)
        self.model = MemoryStore()
        self.ts = 0
        self.known: Known = {}
        self.vectors: set[tuple[int, bytes]] = set()
        self.views: list[tuple[StoreView, StoreView]] = []

    def internal(self) -> bytes:
        return self.random.randrange(40).to_bytes(16, "big")

    def text(self) -> StoredText:
        words = self.random.choices(WORDS, k=self.random.choice((1, 2, 5, 30)))
        counts = [(word, words.count(word)) for word in dict.fromkeys(words)]
        return StoredText(self.random.random(), len(words), text_terms(counts))

    def text_change(self) -> TextChange:
        key = (self.random.choice(TEXT_INDEXES), self.internal())
        old = self.known.pop(key, None)
        new = None if self.random.random() < 0.3 else self.text()
        if new is not None:
            self.known[key] = new
        return TextChange(*key, None if old is None else old.terms, new)

    def vector_change(self) -> VectorChange:
        key = (self.random.choice(VECTOR_INDEXES), self.internal())
        if self.random.random() < 0.3:
            return VectorChange(*key, None, b"", True)
        return VectorChange(
            *key, self.random.randbytes(self.random.choice((8, 4_000))), self.random.randbytes(16)
        )

    def commit(self) -> CommitRecord:
        self.ts += self.random.randint(1, 5)
        vectors = [self.vector_change() for _ in range(self.random.randint(0, 2))]
        vectors = list({(c.index_id, c.internal): c for c in vectors}.values())  # One change a document.
        revision = Revision(1, self.random.randbytes(16), b"{}", 2, None)
        return CommitRecord(self.ts, [revision], (), [self.text_change()], vectors)

    def step(self) -> None:
        r = self.random.random()
        if r < 0.5:
            records = [self.commit() for _ in range(self.random.choice((1, 1, 5)))]
            self.real.append_many(records)
            self.model.append_many(records)
        elif r < 0.65:
            self.real.fold_texts(self.random.choice((1, 3, 50)))
        elif r < 0.75:
            self.real.purge_texts(self.random.choice((1, 3, 50)))
        elif r < 0.8:
            self.fill()
        elif r < 0.9:
            if len(self.views) < 4:
                self.views.append((self.real.view(), self.model.view()))
            else:
                self.compare(*self.views.pop(self.random.randrange(4)))
        elif r < 0.92:
            self.drop()
        else:
            self.compare(self.real.view(), self.model.view())

    def fill(self) -> None:
        """Into an index that has some of it already."""
        texts = [
            TextChange(self.random.choice(TEXT_INDEXES), self.internal(), None, self.text()) for _ in range(3)
        ]
        texts = list({(c.index_id, c.internal): c for c in texts}.values())
        vectors = [self.vector_change() for _ in range(2)]
        for store in (self.real, self.model):
            store.fill([], {}, texts, vectors)
        for change in texts:
            if change.new is not None:
                self.known.setdefault((change.index_id, change.internal), change.new)

    def drop(self) -> None:
        index_id = self.random.choice((*TEXT_INDEXES, *VECTOR_INDEXES))
        while self.real.drop_index(index_id, self.random.choice((1, 10))):
            pass
        while self.model.drop_index(index_id, 10):
            pass
        self.known = {key: text for key, text in self.known.items() if key[0] != index_id}
        assert index_id not in self.real.index_ids()

    def compare(self, real: StoreView, model: StoreView) -> None:
        for index_id in TEXT_INDEXES:
            assert texts_of(real, index_id) == texts_of(model, index_id)
        for index_id in VECTOR_INDEXES:
            rows = real.vectors(index_id, b"", 1_000)
            assert rows == model.vectors(index_id, b"", 1_000)
            assert real.vector_count(index_id) == len(rows)
            for row in rows:
                assert real.vector(index_id, row.internal) == row
            assert real.vectors(index_id, b"\x00" * 15 + b"\x05", 3) == model.vectors(
                index_id, b"\x00" * 15 + b"\x05", 3
            )
        real.close()
        model.close()

    def close(self) -> None:
        while self.views:
            self.compare(*self.views.pop())
        self.compare(self.real.view(), self.model.view())
        self.real.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_difference(tmp_path: Path, seed: int) -> None:
    mirror = Mirror(tmp_path, seed)
    for _ in range(400):
        mirror.step()
    mirror.close()
    mirror.real = open_store(tmp_path, Limits(), fail)
    backlog = mirror.real.text_backlog()
    while done := mirror.real.fold_texts(7) + mirror.real.purge_texts(7):
        backlog -= done
        assert mirror.real.text_backlog() == backlog
    assert backlog == 0
    mirror.close()


def test_data_of_the_first_format_gains_the_tables(tmp_path: Path) -> None:
    import sqlite3

    open_store(tmp_path, Limits(), fail).close()
    connection = sqlite3.connect(tmp_path / "data.sqlite3")
    for table in ("text_indexes", "texts", "text_terms", "postings", "text_columns", "vectors"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("PRAGMA user_version=1")
    connection.commit()
    connection.close()
    store = open_store(tmp_path, Limits(), fail)
    store.append(
        CommitRecord(
            5, [], (), [TextChange(11, b"x" * 16, None, StoredText(1.0, 1, text_terms([(b"ta", 1)])))]
        )
    )
    view = store.view()
    assert texts_of(view, 11) == {b"x" * 16: (1.0, 1, {b"ta": 1})}
    view.close()
    store.close()
