"""The checker itself: it must find each planted anomaly, and none in a history that is fine."""

from __future__ import annotations

import pytest

from tests.database.checker import Op, Txn, anomalies, serial_complaints


def txn(name: str, ts: int, *ops: Op, committed: bool = True) -> Txn:
    return Txn(name, list(ops), committed, ts)


FINE = [
    txn("a", 1, ("append", "x", 1)),
    txn("b", 2, ("read", "x", (1,)), ("append", "x", 2), ("append", "y", 3)),
    txn("c", 2, ("read", "x", (1, 2)), ("read", "y", (3,))),
    txn("d", 3, ("append", "x", 9), committed=False),
    txn("e", 4, ("read", "y", (3,)), ("append", "y", 4), ("read", "y", (3, 4))),
    txn("f", 4, ("read", "x", (1, 2)), ("read", "y", (3, 4))),
]

PLANTED = {
    "lost update": (
        [
            txn("a", 1, ("append", "x", 1)),
            txn("b", 2, ("read", "x", (1,)), ("append", "x", 2)),
            txn("c", 3, ("read", "x", (1,)), ("append", "x", 3)),
            txn("d", 3, ("read", "x", (1, 2, 3))),
        ],
        "G-single",
    ),
    "write skew": (
        [
            txn("b", 2, ("read", "x", ()), ("append", "y", 1)),
            txn("c", 3, ("read", "y", ()), ("append", "x", 2)),
            txn("d", 3, ("read", "x", (2,)), ("read", "y", (1,))),
        ],
        "G2",
    ),
    "dirty read": (
        [
            txn("a", 1, ("append", "x", 1), committed=False),
            txn("b", 2, ("read", "x", (1,))),
        ],
        "dirty read",
    ),
    "intermediate read": (
        [
            txn("a", 2, ("append", "x", 1), ("append", "x", 2)),
            txn("b", 1, ("read", "x", (1,))),
            txn("c", 3, ("read", "x", (1, 2))),
        ],
        "intermediate read",
    ),
    "non-repeatable read": (
        [
            txn("a", 2, ("append", "x", 1)),
            txn("b", 3, ("read", "x", ()), ("read", "x", (1,))),
        ],
        "non-repeatable read",
    ),
    "forked list": (
        [
            txn("a", 1, ("append", "x", 1)),
            txn("b", 2, ("append", "x", 2)),
            txn("c", 3, ("read", "x", (1,))),
            txn("d", 3, ("read", "x", (2,))),
        ],
        "forked list",
    ),
    "read skew": (
        [
            txn("a", 1, ("append", "x", 1), ("append", "y", 2)),
            txn("b", 2, ("append", "x", 3), ("append", "y", 4)),
            txn("c", 2, ("read", "x", (1,)), ("read", "y", (2, 4))),
            txn("d", 2, ("read", "x", (1, 3)), ("read", "y", (2, 4))),
        ],
        "G-single",
    ),
    "circular information flow": (
        [
            txn("a", 1, ("append", "x", 1), ("read", "y", (2,))),
            txn("b", 2, ("append", "y", 2), ("read", "x", (1,))),
        ],
        "G1c",
    ),
    "write cycle": (
        [
            txn("a", 1, ("append", "x", 1), ("append", "y", 4)),
            txn("b", 2, ("append", "x", 2), ("append", "y", 3)),
            txn("c", 3, ("read", "x", (1, 2)), ("read", "y", (3, 4))),
        ],
        "G0",
    ),
}


def test_a_good_history_is_good() -> None:
    assert anomalies(FINE) == set()
    assert serial_complaints(FINE) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_anomaly_is_found(name: str) -> None:
    history, kind = PLANTED[name]
    assert kind in anomalies(history)
    assert serial_complaints(history)


def test_a_phantom_is_found_by_the_replay() -> None:
    history = [
        Txn("a", creates=[("x", "g")], ts=1),
        Txn("b", scans=[("g", ())], ts=2, ops=[("append", "x", 1)]),
    ]
    assert serial_complaints(history)
