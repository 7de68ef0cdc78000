"""The pure parts against the simplest thing that could be right."""

from __future__ import annotations

import random
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvx.backend.database.cursors import Cursor, CursorCodec, fingerprint_of
from cvx.backend.database.interval_tree import IntervalTree
from cvx.backend.database.read_set import CommitChanges, ReadSet
from cvx.backend.database.write_log import WriteLog
from cvx.errors import CvxError
from cvx.values import KeyRange

KEYS = st.binary(min_size=0, max_size=2)


@st.composite
def ranges(draw: st.DrawFn) -> KeyRange:
    start, end = draw(KEYS), draw(st.none() | KEYS)
    if end is not None and end <= start:
        start, end = end, start + b"\x00"
    return KeyRange(start, end)


@given(
    st.lists(st.tuples(st.booleans(), ranges(), st.integers(0, 5)), max_size=60), st.lists(KEYS, max_size=10)
)
def test_the_interval_tree_finds_what_a_list_finds(
    steps: list[tuple[bool, KeyRange, int]], keys: list[bytes]
) -> None:
    tree: IntervalTree[int] = IntervalTree()
    plain: set[tuple[KeyRange, int]] = set()
    for add, range, item in steps:
        if add:
            tree.add(range, item)
            plain.add((range, item))
        else:
            tree.remove(range, item)
            plain.discard((range, item))
        assert len(tree) == len({r for r, _ in plain}) and bool(tree) == bool(plain)
    for key in keys:
        assert tree.at(key) == {item for range, item in plain if range.contains(key)}


def test_the_interval_tree_is_deep_enough_for_many() -> None:
    tree: IntervalTree[int] = IntervalTree()
    for n in range(20_000):
        tree.add(KeyRange(n.to_bytes(4, "big"), (n + 1).to_bytes(4, "big")), n)
    assert tree.at((777).to_bytes(4, "big")) == {777}
    for n in range(20_000):
        tree.remove(KeyRange(n.to_bytes(4, "big"), (n + 1).to_bytes(4, "big")), n)
    assert not tree


@pytest.mark.parametrize("seed", range(30))
def test_the_write_log_finds_what_a_walk_over_all_commits_finds(seed: int) -> None:
    rand = random.Random(seed)
    log, commits = WriteLog(0, entries_max=60), []
    clock = count(10, 10)

    def key() -> bytes:
        return rand.randbytes(1) + b"i" * 16

    for _ in range(60):
        keys = {index: [key() for _ in range(rand.randint(1, 3))] for index in rand.sample((1, 2, 3), 2)}
        commits.append(CommitChanges(next(clock), keys, "w"))
        log.append(commits[-1])
        if rand.random() < 0.2:  # One that could not be stored leaves no trace.
            doomed = CommitChanges(
                log.last_ts + 1, {1: [key(), key()], 2: [keys[i][0] for i in keys][:1]}, "w"
            )
            log.append(doomed)
            log.retract(doomed)
            assert log.last_ts == commits[-1].ts
        if rand.random() < 0.1:
            log.trim(log.last_ts - rand.randint(0, 300))
        reads = ReadSet()
        for _ in range(rand.randint(0, 3)):
            reads.add_point(rand.randint(1, 3), key())
        for _ in range(rand.randint(0, 2)):
            a, b = sorted((rand.randbytes(1), rand.randbytes(1)))
            reads.add(rand.randint(1, 3), KeyRange(a, rand.choice((b, None))))
        since = rand.choice([c.ts for c in commits]) - rand.choice((0, 5))
        if not log.covers(since):
            continue
        expected = [c.ts for c in commits if c.ts > since and reads.overlaps(c) is not None]
        found = log.any_overlap(reads, since)
        assert (found.ts in expected) if found is not None else not expected
        assert log.earliest_overlap(reads, since) == (expected[0] if expected else None)


@given(st.binary(max_size=200) | st.none(), st.binary(min_size=16, max_size=16))
def test_cursors_come_back_and_are_the_same_every_time(after: bytes | None, fingerprint: bytes) -> None:
    codec = CursorCodec(b"k" * 32)
    text = codec.encode(Cursor(after, fingerprint))
    assert codec.decode(text) == Cursor(after, fingerprint)
    assert codec.encode(Cursor(after, fingerprint)) == text
    if after:
        assert (after.hex() not in text and after not in text.encode()) or len(after) < 4


@given(st.text(max_size=80))
def test_no_text_is_a_cursor_by_chance(text: str) -> None:
    with pytest.raises(CvxError) as refused:
        CursorCodec(b"k" * 32).decode(text)
    assert refused.value.code == "InvalidCursor" and not refused.value.has_data


def test_a_changed_or_foreign_cursor_is_refused() -> None:
    codec = CursorCodec(b"k" * 32)
    text = codec.encode(Cursor(b"some key", fingerprint_of({"a": 1}, ("x",))))
    for position in range(len(text)):
        changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
        if position == len(text) - 1:
            continue  # Its last bits carry nothing.
        with pytest.raises(CvxError):
            codec.decode(changed)
    with pytest.raises(CvxError):
        CursorCodec(b"j" * 32).decode(text)
    assert fingerprint_of({"a": 1, "b": 2}, ()) == fingerprint_of({"b": 2, "a": 1}, ())
    assert fingerprint_of({"a": 1}, ("x",)) != fingerprint_of({"a": 1}, ("y",))
