"""Is a history serialisable? Two independent answers.

`serial_complaints` replays committed transactions in the order the engine claims and compares every read with a
model. `anomalies` does not trust that order: from lists that only ever grow (each value appended once) it infers
who read and overwrote whom, and looks for what no serial order allows: reads of aborted or intermediate writes,
forked lists, reads that change within a transaction, and cycles, named after the edges they need.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

Op = tuple[Literal["read"], str, tuple[int, ...]] | tuple[Literal["append"], str, int]


@dataclass
class Txn:
    """One transaction: what it did in order, and whether it committed (and when, as the engine says)."""

    name: str
    ops: list[Op] = field(default_factory=list)
    committed: bool = True
    ts: int = 0
    """Commit timestamp; of a transaction that only read, its snapshot's."""
    scans: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """(group, the keys found in it), checked by the serial replay only."""
    creates: list[tuple[str, str]] = field(default_factory=list)
    """(key, group)."""


def serial_complaints(history: list[Txn]) -> list[str]:
    """Every read that differs from a replay in timestamp order."""
    found: list[str] = []
    lists: dict[str, tuple[int, ...]] = defaultdict(tuple)
    groups: dict[str, str] = {}
    writers = sorted((t for t in history if t.committed and _writes(t)), key=lambda t: t.ts)
    readers = sorted((t for t in history if t.committed and not _writes(t)), key=lambda t: t.ts)
    for txn in sorted([*writers, *readers], key=lambda t: (t.ts, not _writes(t))):
        mine = dict(lists) if not _writes(txn) else lists
        for group, keys in txn.scans:
            expected = tuple(sorted(key for key, g in groups.items() if g == group))
            if keys != expected:
                found.append(f"{txn.name} saw {keys} in group {group}, and not {expected}")
        for kind, key, value in txn.ops:
            have = mine.get(key, ())
            if kind == "read":
                if value != have:
                    found.append(f"{txn.name} read {key} = {value}, and not {have}")
            else:
                assert isinstance(value, int)
                lists[key] = (*have, value)
                mine = lists
        groups |= dict(txn.creates)
    return found


def _writes(txn: Txn) -> bool:
    return bool(txn.creates) or any(op[0] == "append" for op in txn.ops)


def anomalies(history: list[Txn]) -> set[str]:
    """The kinds of anomaly that the history proves, whatever order one assumes."""
    found: set[str] = set()
    writer: dict[tuple[str, int], Txn] = {}
    last_of: dict[tuple[str, str], int] = {}
    for txn in history:
        for kind, key, value in txn.ops:
            if kind == "append":
                assert isinstance(value, int)
                writer[key, value] = txn
                last_of[txn.name, key] = value
    orders: dict[str, tuple[int, ...]] = {}
    for txn in history:
        if not txn.committed:
            continue
        found |= _internal(txn)
        for kind, key, value in txn.ops:
            if kind != "read":
                continue
            assert isinstance(value, tuple)
            others = [v for v in value if writer.get((key, v)) is not txn]
            if any((key, v) in writer and not writer[key, v].committed for v in others):
                found.add("dirty read")
            if others and value and others[-1] == value[-1]:
                source = writer.get((key, value[-1]))
                if source is not None and last_of[source.name, key] != value[-1]:
                    found.add("intermediate read")
            longest = orders.get(key, ())
            short, long = sorted((longest, value), key=len)
            if long[: len(short)] != short:
                found.add("forked list")
            orders[key] = long
    return found | _cycles([t for t in history if t.committed], orders, writer)


def _internal(txn: Txn) -> set[str]:
    seen: dict[str, tuple[int, ...]] = {}
    for kind, key, value in txn.ops:
        if kind == "read":
            assert isinstance(value, tuple)
            if key in seen and seen[key] != value:
                return {"non-repeatable read"}
            seen[key] = value
        elif key in seen:
            assert isinstance(value, int)
            seen[key] = (*seen[key], value)
    return set()


Edge = Literal["ww", "wr", "rw"]


def _cycles(
    committed: list[Txn], orders: dict[str, tuple[int, ...]], writer: dict[tuple[str, int], Txn]
) -> set[str]:
    edges: dict[str, dict[str, set[Edge]]] = defaultdict(lambda: defaultdict(set))

    def link(a: Txn | None, b: Txn | None, kind: Edge) -> None:
        if a is not None and b is not None and a is not b and a.committed and b.committed:
            edges[a.name][b.name].add(kind)

    for key, order in orders.items():
        for before, after in pairwise(order):
            link(writer.get((key, before)), writer.get((key, after)), "ww")
    for txn in committed:
        for kind, key, value in txn.ops:
            if kind == "read":
                assert isinstance(value, tuple)
                order = orders[key]
                if value:
                    link(writer.get((key, value[-1])), txn, "wr")
                if len(value) < len(order):
                    link(txn, writer.get((key, order[len(value)])), "rw")
    found = set()
    for component in _components(edges):
        inside = {(a, b): kinds for a in component for b, kinds in edges[a].items() if b in component}
        if _is_cyclic(component, {pair for pair, kinds in inside.items() if "ww" in kinds}):
            found.add("G0")
        if _is_cyclic(component, {pair for pair, kinds in inside.items() if kinds & {"ww", "wr"}}):
            found.add("G1c")
        sure = {pair for pair, kinds in inside.items() if kinds & {"ww", "wr"}}
        anti = {pair for pair, kinds in inside.items() if "rw" in kinds}
        if any(_reaches(b, a, sure) for a, b in anti):
            found.add("G-single")
        elif anti:
            found.add("G2")
    return found


def _components(edges: dict[str, dict[str, set[Edge]]]) -> list[set[str]]:
    """Strongly connected components with more than one member (Tarjan, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[set[str]] = []
    for root in list(edges):
        if root in index:
            continue
        work: list[tuple[str, Any]] = [(root, iter(list(edges[root])))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, successors = work[-1]
            for other in successors:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(list(edges[other]) if other in edges else [])))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component: set[str] = set()
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.add(member)
                        if member == node:
                            break
                    if len(component) > 1:
                        found.append(component)
    return found


def _is_cyclic(nodes: set[str], pairs: set[tuple[str, str]]) -> bool:
    return any(_reaches(b, a, pairs) for a, b in pairs)


def _reaches(start: str, goal: str, pairs: set[tuple[str, str]]) -> bool:
    pending, seen = [start], set()
    while pending:
        node = pending.pop()
        if node == goal:
            return True
        if node not in seen:
            seen.add(node)
            pending += [b for a, b in pairs if a == node]
    return False
