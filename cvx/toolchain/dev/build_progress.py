"""How far the indexes and the check of a push are, as steps people can read: documents, rate, time left.

The deployment says what it is at, index by index (cvx's own does; Convex Cloud counts whole indexes only). An index
that is no longer spoken of is ready, so its documents stay counted and the number never falls.

Rule: figures are the deployment's; the rate is what was seen from the first answer on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cvx.protocol.push import ComponentSchemaStatus, SchemaInProgress
from cvx.toolchain.progress import Step, pace

_Work = tuple[str, str, str]
"""Component, table, index; for the check of a component's documents the last two are empty."""


class BuildProgress:
    """Of one push; `clock` gives seconds."""

    def __init__(self, task: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._task = task
        self._clock = clock
        self._began: float | None = None
        self._counted_before = 0
        self._work: dict[_Work, tuple[int, int]] = {}
        """Documents done and in all."""

    def step(self, status: SchemaInProgress) -> Step:
        """What to show after this answer."""
        now = self._clock()
        seen = {work: found for path, one in status.components.items() for work, found in _work(path, one)}
        for work, (_, total) in self._work.items():
            self._work[work] = (total, total)
        self._work.update(seen)
        ready = sum(one.indexes_complete for one in status.components.values())
        of = sum(one.indexes_total for one in status.components.values())
        indexes = f"{ready}/{of} indexes ready"
        done = sum(done for done, _ in self._work.values())
        total = sum(total for _, total in self._work.values())
        if not total:
            return Step(self._task, detail=f"({indexes}; checking documents against the schema)")
        if self._began is None:
            self._began, self._counted_before = now, done
        speed = pace(done - self._counted_before, total - done, now - self._began)
        doing = ", ".join(_name(work) for work, (done, total) in seen.items() if done < total)
        return Step(
            self._task, done, total, f"documents{speed} ({indexes}{f'; at work: {doing}' if doing else ''})"
        )


def _work(component: str, status: ComponentSchemaStatus) -> list[tuple[_Work, tuple[int, int]]]:
    found = [
        ((component, one.table, one.index), (one.documents_done, one.documents_total))
        for one in status.building
    ]
    if status.documents_to_check:
        found.append(((component, "", ""), (status.documents_checked, status.documents_to_check)))
    return found


def _name(work: _Work) -> str:
    component, table, index = work
    inside = f"{component}/" if component else ""
    return (
        f"{inside}{table}.{index}" if table else f"the schema check{f' of {component}' if component else ''}"
    )
