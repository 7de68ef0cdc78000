"""Which arguments led to conflicts on which documents: so that the next such call gets in line at once.

A mutation that conflicts has run for nothing. On a hot row that is every second run, and what is wasted is taken
from those in their turn. This memory learns from conflicts that, say, `transfer` with `from: "a1"` means one
certain document, and lets the next such call wait for its turn on it before its first run.

Rule: it only ever changes *when* a mutation runs. A wrong guess costs waiting, never correctness; a guess is made
only after several conflicts that agree.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Any

from cvx.backend.database import ConflictKey
from cvx.values import FunctionPath

_Hint = tuple[FunctionPath, str | None, Any]
"""A function, and one of its arguments with its value; (None, None) when it has no plain argument."""

_SEEN_MIN = 4
_AGREEMENT_MIN = 0.8
_SEEN_MAX = 64  # Then all counts are halved, so that old conflicts lose weight.
_ARGUMENTS_MAX = 8
_TEXT_CHARS_MAX = 64
_KEYS_MAX = 128


class _Seen:
    """How often a hint was there at a conflict, and on which documents those were."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.total = 0
        self.counts: dict[ConflictKey, int] = {}

    def add(self, keys: Collection[ConflictKey]) -> None:
        self.total += 1
        for key in keys:
            self.counts[key] = self.counts.get(key, 0) + 1
        if self.total >= _SEEN_MAX or len(self.counts) > _KEYS_MAX:
            self.total //= 2
            self.counts = {key: count // 2 for key, count in self.counts.items() if count > 1}

    def likely(self) -> Iterator[ConflictKey]:
        if self.total >= _SEEN_MIN:
            enough = self.total * _AGREEMENT_MIN
            for key, count in self.counts.items():
                if count >= enough:
                    yield key


class ConflictMemory:
    """Bounded: the hints that were of no use for longest go first."""

    def __init__(self, hints_max: int) -> None:
        self._hints_max = hints_max
        self._seen: OrderedDict[_Hint, _Seen] = OrderedDict()
        self._functions: dict[FunctionPath, int] = {}

    def learn(self, path: FunctionPath, args: dict[str, Any], keys: Collection[ConflictKey]) -> None:
        """A call with these arguments has conflicted on these documents."""
        for hint in _hints(path, args):
            seen = self._seen.get(hint)
            if seen is None:
                seen = self._seen[hint] = _Seen()
                self._functions[path] = self._functions.get(path, 0) + 1
            else:
                self._seen.move_to_end(hint)
            seen.add(keys)
        while len(self._seen) > self._hints_max:
            (old, _, _), _ = self._seen.popitem(last=False)
            self._functions[old] -= 1
            if not self._functions[old]:
                del self._functions[old]

    def expect(self, path: FunctionPath, args: dict[str, Any]) -> set[ConflictKey]:
        """The documents on which a call with these arguments will likely conflict."""
        if path not in self._functions:
            return set()
        found: set[ConflictKey] = set()
        for hint in _hints(path, args):
            seen = self._seen.get(hint)
            if seen is not None:
                self._seen.move_to_end(hint)
                found.update(seen.likely())
        return found


def _hints(path: FunctionPath, args: dict[str, Any]) -> list[_Hint]:
    hints: list[_Hint] = []
    for name, value in args.items():
        kind = type(value)
        if kind is float or kind is int or (kind is str and len(value) <= _TEXT_CHARS_MAX):
            hints.append((path, name, value))
            if len(hints) == _ARGUMENTS_MAX:
                break
    return hints or [(path, None, None)]
