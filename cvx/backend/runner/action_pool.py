"""Children that run actions, started when the first action comes.

Actions go to the first child that has a place and is not stuck; another is started only when none has, so that a
backend that runs few actions has one child, and one that runs none has none. A child that has been idle for long is ended.
A function that was seen to compute for long while others
wait gets a child to itself from then on, as far as there are any. So many run at once and the rest wait; an action that another action runs does not wait, since its caller has a place.

When a child dies, the action whose turn it was is blamed (js/action_state.js); the others failed through no fault of
theirs, and are told so. Nothing is run again, but for one case: an action that fails because it tried to change what
actions share (a patched prototype), before it did anything that could be noticed, is run in a child of its own.

Source: reference/runtime-and-database.md §1.4, §3.3; docs/adr/0009.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from cvx.backend.config import Limits
from cvx.backend.runner import deno
from cvx.backend.runner.action_child import ActionChild, ActionLost, ActionProfile, inside_action
from cvx.backend.runner.actions import ActionCall, ActionHost, ActionOutcome
from cvx.backend.runner.child_process import WATCH_EVERY_S, ChildProcesses, look_at
from cvx.backend.runner.places import Places, too_many
from cvx.backend.runner.verdicts import of_action, stopping
from cvx.errors import CvxError
from cvx.values import FunctionPath

_STUCK_AFTER_S = 0.05


def isolate_profile(limits: Limits, deno_path: Path) -> ActionProfile:
    """Actions of the default runtime."""
    return ActionProfile(
        environment="isolate",
        start=lambda stderr, open_realm: deno.start_action_child(
            deno_path, limits, stderr, open_realm=open_realm
        ),
        takes=lambda module: module.environment != "node",
        children_max=limits.action_children_max,
        calls_per_child_max=limits.actions_per_child_max,
    )


class ActionPool:
    """An ActionRunner over children of one profile. `close` leaves no process behind."""

    def __init__(self, limits: Limits, profile: ActionProfile | None = None) -> None:
        self._limits = limits
        self._profile = profile
        self._processes = ChildProcesses()
        self._children: list[ActionChild] = []
        self._apart: list[ActionChild] = []  # With an open realm, one action at a time.
        self._starting: asyncio.Task[None] | None = None
        waiting = (limits.actions_waiting_max, limits.actions_wait_s)
        self._places = {
            "action": Places(limits.actions_running_max, *waiting, "actions"),
            "http": Places(limits.http_actions_running_max, *waiting, "HTTP actions"),
        }
        self._nested = 0
        self._needs_open_realm: OrderedDict[tuple[str, FunctionPath], None] = OrderedDict()
        self._computers: OrderedDict[FunctionPath, None] = OrderedDict()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def children(self) -> int:
        """How many processes there are."""
        return len(self._children) + len(self._apart)

    # ---- life

    async def start(self) -> None:
        """Nothing is started before the first action."""
        if self._profile is None:
            self._profile = isolate_profile(self._limits, deno.find_deno())

    async def close(self) -> None:
        """End every child and wait until they are gone. Actions under way fail as "unavailable"."""
        self._processes.closing = True
        if self._starting is not None:
            self._starting.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        for places in self._places.values():
            places.close()
        await self._processes.close([*self._children, *self._apart])
        self._children.clear()
        self._apart.clear()

    async def _watch(self) -> None:
        while self._children or self._apart:
            await asyncio.sleep(WATCH_EVERY_S)
            look_at([*self._children, *self._apart], self._look)
        self._watcher = None

    def _look(self, child: ActionChild, now: float) -> None:
        if child.dead:
            self._end(child)  # Whoever had a call in it knows already.
        elif child.running or child.silent_s(now) > 0:
            self._note_computing(child.computing(now))
            child.watch(now)
        elif not child.reserved and (
            child.retiring or now - child.idle_since > self._limits.action_child_idle_s
        ):
            self._end(child)

    def _note_computing(self, path: FunctionPath | None) -> None:
        """Remember a function that kept others waiting: it gets a child to itself from now on, while there are any."""
        if path is not None:
            self._computers[path] = None
            self._computers.move_to_end(path)
            if len(self._computers) > self._limits.runner_open_realm_functions_max:
                self._computers.popitem(last=False)

    def _end(self, child: ActionChild) -> None:
        """Let a child go that has nothing to do."""
        child.retiring = True
        for group in (self._children, self._apart):
            if child in group:
                group.remove(child)
        self._processes.spawn(child.close())

    # ---- who may run

    @asynccontextmanager
    async def _place(self, call: ActionCall) -> AsyncIterator[None]:
        if self._processes.closing:
            raise stopping()
        if not inside_action.get():
            async with self._places["http" if call.request is not None else "action"].one():
                yield
            return
        if self._nested >= self._limits.nested_actions_running_max:
            raise too_many("Too many actions that actions started are running.")
        self._nested += 1
        try:
            yield
        finally:
            self._nested -= 1

    # ---- choosing a child

    async def _checkout(self, computes: bool) -> ActionChild:
        """A child for an action, with a place reserved in it. One that `computes` is kept apart, where it can be."""
        assert self._profile is not None, "start() comes first"
        began = monotonic()
        while True:
            if self._processes.closing:
                raise stopping()
            now = monotonic()
            alive = self._alive()
            free = [c for c in alive if c.silent_s(now) < _STUCK_AFTER_S and not c.is_doubtful]
            if alive and not free and now - began < _STUCK_AFTER_S:
                await asyncio.sleep(_STUCK_AFTER_S / 10)  # One that is not stuck answers at once.
                continue
            for child in free:
                apart = not child.reserved if computes else not child.computers
                if apart and child.reserved < self._profile.calls_per_child_max:
                    return self._reserve(child, computes)
            if len(alive) < self._profile.children_max + (0 if free else 1):
                try:
                    await self._start_one()
                    continue
                except CvxError:
                    free, alive = [], self._alive()
                    if not alive or self._processes.closing:
                        raise  # Otherwise it shares one, though that may be stuck.
            child = min(free or alive, key=lambda each: (each.computers, each.reserved))
            return self._reserve(child, computes)

    def _alive(self) -> list[ActionChild]:
        return [child for child in self._children if not child.dead and not child.retiring]

    def _reserve(self, child: ActionChild, computes: bool) -> ActionChild:
        child.reserved += 1
        child.computers += computes
        return child

    async def _start_one(self) -> None:
        """Start another child; all who need one wait for the same, which is started even if none does any more."""
        if self._starting is None:
            self._starting = self._processes.spawn(self._add_child())
            self._starting.add_done_callback(self._started)
        starting = self._starting
        await asyncio.wait({starting})
        if self._processes.closing:
            raise stopping()
        starting.result()

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # Perhaps nobody waits any more.

    async def _add_child(self) -> None:
        self._children.append(await self._new_child())
        self._watch_from_now_on()

    async def _new_child(self, *, open_realm: bool = False) -> ActionChild:
        profile = self._profile
        assert profile is not None, "start() comes first"
        return await self._processes.started(
            lambda: ActionChild(self._processes, profile, self._limits, open_realm=open_realm),
            self._limits.runner_start_attempts_max,
        )

    def _watch_from_now_on(self) -> None:
        if self._watcher is None and not self._processes.closing:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def _give_back(self, child: ActionChild) -> None:
        child.reserved -= 1
        if child.dead:
            if child in self._children:
                self._children.remove(child)
        elif not child.retiring and self._is_worn(child):
            child.retiring = True
        if child.retiring and not child.reserved and not child.dead and not self._processes.closing:
            self._end(child)

    def _is_worn(self, child: ActionChild) -> bool:
        limits = self._limits
        return (
            child.started_calls >= limits.action_child_life_calls
            or child.memory_bytes > limits.action_recycle_bytes
            or child.module_records > limits.action_child_life_calls
        )

    # ---- running

    async def run_action(self, call: ActionCall, host: ActionHost) -> ActionOutcome:
        """See ActionRunner.run_action."""
        async with self._place(call):
            return await self._run(call, host)

    async def _run(self, call: ActionCall, host: ActionHost) -> ActionOutcome:
        assert self._profile is not None, "start() comes first"
        needs = (call.bundle.key, call.path)
        if needs in self._needs_open_realm:
            return await self._run_apart(call, host)
        computes = call.path in self._computers
        child = await self._checkout(computes)
        try:
            outcome, touched = await child.run(call, host)
        except ActionLost as lost:
            if self._processes.closing:
                raise stopping() from None
            return self._verdict(lost)
        finally:
            child.computers -= computes
            self._give_back(child)
        if touched and self._profile.has_open_realm:
            self._needs_open_realm[needs] = None
            if len(self._needs_open_realm) > self._limits.runner_open_realm_functions_max:
                self._needs_open_realm.popitem(last=False)
            if touched == 1:
                return await self._run_apart(call, host)
        return outcome

    async def _run_apart(self, call: ActionCall, host: ActionHost) -> ActionOutcome:
        """Run it in a child with an open realm, which has no other action."""
        child = next((c for c in self._apart if not c.reserved and not c.dead and not c.retiring), None)
        if child is None:
            child = await self._new_child(open_realm=True)
            self._apart.append(child)
            self._watch_from_now_on()
        child.reserved += 1
        try:
            return (await child.run(call, host))[0]
        except ActionLost as lost:
            if self._processes.closing:
                raise stopping() from None
            return self._verdict(lost)
        finally:
            child.reserved -= 1
            spare = [c for c in self._apart if not c.reserved and c is not child]
            if child.dead or child.retiring or spare or self._is_worn(child):
                self._end(child)

    def _verdict(self, lost: ActionLost) -> ActionOutcome:
        limits = self._limits
        failure = of_action(
            lost.cause,
            blamed=lost.blamed,
            turn_s=limits.action_turn_s,
            heap_bytes_max=limits.action_heap_bytes_max,
        )
        return ActionOutcome(None, failure)
