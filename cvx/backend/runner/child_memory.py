"""What one child has been told, so that it is told once: bundles, sources, environments, table maps.

Sources are sent when the child asks for them; a bundle that has not been used for long is forgotten, and with it the
sources that no other bundle names, so that a child is no larger after fifty pushes than after one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cvx.backend.config import Limits
from cvx.backend.runner import messages
from cvx.backend.runner.interface import CodeBundle, ModuleSource


@dataclass
class _Numbered:
    """Mappings the child knows by number, the most recently used last."""

    numbers: dict[bytes, int] = field(default_factory=dict)
    last: object = None
    last_number: int = -1
    counter: itertools.count[int] = field(default_factory=itertools.count)


class ChildMemory:
    """Told through `send`; mappings and bundles must not change once passed."""

    def __init__(
        self,
        limits: Limits,
        send: Callable[[bytes], None],
        takes: Callable[[ModuleSource], bool] = lambda module: module.environment != "node",
    ) -> None:
        self._limits = limits
        self._send = send
        self._takes = takes  # Which modules of a bundle the child may import.
        self._bundles: dict[str, CodeBundle] = {}
        self._closures: dict[tuple[str, str], frozenset[str]] = {}
        self._numbered = {"env": _Numbered(), "tables": _Numbered()}

    def number(self, what: str, mapping: Mapping[str, Any], *, idle: bool) -> int:
        """The number by which a call refers to an environment ("env") or a table map ("tables"). `idle`: no call
        is under way, so that old ones may be forgotten."""
        numbered = self._numbered[what]
        if mapping is numbered.last:
            return numbered.last_number
        content = msgspec.json.encode(dict(mapping))
        number = numbered.numbers.pop(content, None)
        if number is None:
            number = next(numbered.counter)
            self._send(messages.definition_message(what, number, content))
        numbered.numbers[content] = number
        numbered.last, numbered.last_number = mapping, number
        most = self._limits.runner_environments_per_child_max
        if len(numbered.numbers) > most and idle:
            old = [numbered.numbers.pop(next(iter(numbered.numbers))) for _ in range(most // 2)]
            forget = (old, []) if what == "env" else ([], old)
            self._send(messages.unset_message(*forget))
        return number

    def know_bundle(self, bundle: CodeBundle, in_use: Callable[[], Collection[str]]) -> None:
        """Make sure that the child knows a bundle. `in_use` gives the keys that must stay."""
        key = bundle.key
        if key in self._bundles:
            return
        hashes = {path: m.sha256 for path, m in bundle.modules.items() if self._takes(m)}
        self._bundles[key] = bundle
        self._send(messages.bundle_message(key, hashes))
        excess = len(self._bundles) - self._limits.runner_bundles_per_child_max
        if excess > 0:
            kept = {key, *in_use()}
            for old in [old for old in self._bundles if old not in kept][:excess]:
                self._forget_bundle(old)

    def _forget_bundle(self, key: str) -> None:
        del self._bundles[key]
        self._closures = {at: paths for at, paths in self._closures.items() if at[0] != key}
        self._send(messages.forget_message(key))

    def send_sources(self, needed: messages.SourcesNeeded) -> None:
        """Answer the child that asks for sources; a bundle forgotten meanwhile has no call that waits for them."""
        bundle = self._bundles.get(needed.bundle)
        if bundle is None:
            return
        for path in needed.paths:
            module = bundle.modules[path]
            self._send(messages.source_message(module.sha256, path, module.source, module.source_map))
        self._send(messages.sources_sent_message(needed.bundle))

    def learn_closure(self, known: messages.ClosureKnown) -> None:
        """The child says what an entry module imports."""
        self._closures[(known.bundle, known.path)] = frozenset(known.modules)

    def closure(self, bundle: str, path: str) -> frozenset[str]:
        """All modules that an entry module imports, itself included; empty while unknown."""
        return self._closures.get((bundle, path), frozenset())
