"""Ranges that can be asked "which of you hold this key?", at a cost that grows with the answer, not with their number.

A treap by (start, end) in which every node knows the greatest end below it.

Rule: pure. Priorities come from a seeded generator, so that a run can be repeated.
"""

from __future__ import annotations

from random import Random
from typing import Generic, TypeVar

from cvx.values import KeyRange

T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("end_max", "items", "left", "priority", "range", "right")

    def __init__(self, range: KeyRange, priority: float) -> None:
        self.range = range
        self.priority = priority
        self.items: set[T] = set()
        self.left: _Node[T] | None = None
        self.right: _Node[T] | None = None
        self.end_max: bytes | None = range.end
        """The greatest end in this subtree; None: unbounded."""

    def update(self) -> None:
        end = self.range.end
        for child in (self.left, self.right):
            if child is not None and end is not None:
                end = None if child.end_max is None else max(end, child.end_max)
        self.end_max = end


class IntervalTree(Generic[T]):
    """Items, each under one or more ranges."""

    def __init__(self) -> None:
        self._root: _Node[T] | None = None
        self._nodes: dict[KeyRange, _Node[T]] = {}
        self._random = Random(0x637678)

    def __bool__(self) -> bool:
        return self._root is not None

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, range: KeyRange, item: T) -> None:
        """Put `item` under a range that is not empty."""
        node = self._nodes.get(range)
        if node is None:
            node = self._nodes[range] = _Node(range, self._random.random())
            self._root = _inserted(self._root, node, _order(range))
        node.items.add(item)

    def remove(self, range: KeyRange, item: T) -> None:
        """Take `item` from under a range; nothing happens when it is not there."""
        node = self._nodes.get(range)
        if node is None:
            return
        node.items.discard(item)
        if not node.items:
            del self._nodes[range]
            self._root = _removed(self._root, node, _order(range))

    def at(self, key: bytes) -> set[T]:
        """Everything under a range that holds `key`."""
        found: set[T] = set()
        pending = [self._root] if self._root is not None else []
        while pending:
            node = pending.pop()
            if node.end_max is not None and node.end_max <= key:
                continue  # Everything here ends before the key.
            if node.left is not None:
                pending.append(node.left)
            if node.range.start <= key:
                if node.range.end is None or key < node.range.end:
                    found |= node.items
                if node.right is not None:
                    pending.append(node.right)
        return found


def _order(range: KeyRange) -> tuple[bytes, bool, bytes]:
    return range.start, range.end is None, range.end or b""


def _inserted(root: _Node[T] | None, node: _Node[T], order: tuple[bytes, bool, bytes]) -> _Node[T]:
    if root is None:
        return node
    if node.priority > root.priority:
        node.left, node.right = _split(root, order)
        node.update()
        return node
    if order < _order(root.range):
        root.left = _inserted(root.left, node, order)
    else:
        root.right = _inserted(root.right, node, order)
    root.update()
    return root


def _split(
    root: _Node[T] | None, order: tuple[bytes, bool, bytes]
) -> tuple[_Node[T] | None, _Node[T] | None]:
    """(what sorts before `order`, the rest)."""
    if root is None:
        return None, None
    if _order(root.range) < order:
        root.right, rest = _split(root.right, order)
        root.update()
        return root, rest
    first, root.left = _split(root.left, order)
    root.update()
    return first, root


def _removed(root: _Node[T] | None, node: _Node[T], order: tuple[bytes, bool, bytes]) -> _Node[T] | None:
    assert root is not None, "a registered range is in the tree"
    if root is node:
        return _joined(node.left, node.right)
    if order < _order(root.range):
        root.left = _removed(root.left, node, order)
    else:
        root.right = _removed(root.right, node, order)
    root.update()
    return root


def _joined(left: _Node[T] | None, right: _Node[T] | None) -> _Node[T] | None:
    if left is None or right is None:
        return right if left is None else left
    if left.priority > right.priority:
        left.right = _joined(left.right, right)
        left.update()
        return left
    right.left = _joined(left, right.left)
    right.update()
    return right
