"""Processes that run "use node" actions, each for one code, one environment and one set of packages.

A process stays warm for the next action, with the state its modules have by then. As long as there are few, every
action has one to itself; above that they share, and what belongs to which is told by the asynchronous context and by the
request id (js/node_host.js). Processes of other code or another environment go first when room is needed.

Rules:
- An action is never started again here.
- A process in which something went wrong that nobody caught, whose module failed to load, or whose action was given up
  before its end takes no further action: what such an action left behind may still be at work.

Source: reference/runtime-and-database.md §1.9, §3.8; docs/adr/0010.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from cvx.backend.config import Limits
from cvx.backend.runner import deno
from cvx.backend.runner.action_child import ActionLost, ActionProfile, inside_action
from cvx.backend.runner.actions import ActionCall, ActionHost, ActionOutcome
from cvx.backend.runner.analysis import analyzed_module, failure_text
from cvx.backend.runner.child_process import WATCH_EVERY_S, ChildProcesses, look_at
from cvx.backend.runner.interface import (
    AnalyzedModule,
    AnalyzeFailure,
    AnalyzeRequest,
    AnalyzeResult,
    CodeBundle,
    FunctionFailure,
    FunctionOutcome,
)
from cvx.backend.runner.node_child import AnalysisCall, AnalysisHost, NodeChild, NodeWorld
from cvx.backend.runner.node_code import NodeCodeStore
from cvx.backend.runner.node_packages import NodePackages, Packages
from cvx.backend.runner.places import Places, too_many
from cvx.backend.runner.verdicts import DeathCause, of_action, stopping
from cvx.errors import CvxError
from cvx.values import FunctionPath

_LOOK_EVERY_S = 2.0  # At an idle process: something that an action left behind may be computing.


class NodePool:
    """An ActionRunner for "use node" actions; also says what their modules export. `close` leaves nothing behind."""

    def __init__(
        self, limits: Limits, home: Path, project_modules: Path | None = None, *, native: bool = False
    ) -> None:
        """`home` is this pool's folder; `project_modules` and `native` as in `BackendConfig`."""
        self._limits = limits
        self._native = native
        self._home = home
        self._project_modules = project_modules
        self._code = NodeCodeStore(home / "code", limits.node_code_folders_max)
        self._packages: NodePackages | None = None
        self._deno_path: Path | None = None
        self._processes = ChildProcesses()
        self._children: list[NodeChild] = []
        self._starting = 0
        self._changed = asyncio.Event()
        self._places = Places(
            limits.node_actions_running_max,
            limits.actions_waiting_max,
            limits.actions_wait_s,
            '"use node" actions',
        )
        self._nested = 0
        self._digests: OrderedDict[int, tuple[Mapping[str, str], str]] = OrderedDict()
        self._watcher: asyncio.Task[None] | None = None
        self._latest: NodeWorld | None = None

    @property
    def children(self) -> int:
        """How many processes there are."""
        return len(self._children)

    # ---- life

    async def start(self) -> None:
        """No process is started before the first action."""
        self._deno_path = deno.find_deno()
        modules = None if self._project_modules is None else self._project_modules.absolute()
        self._packages = NodePackages(self._home / "packages", modules, self._deno_path, self._limits)
        await asyncio.to_thread(shutil.rmtree, self._home / "tmp", True)  # Of a backend that was killed.

    async def close(self) -> None:
        """End every child and every installation, and wait until they are gone."""
        self._processes.closing = True
        self._places.close()
        self._notify()
        if self._watcher is not None:
            self._watcher.cancel()
        try:
            await self._processes.close(self._children)
        finally:
            self._children.clear()
            if self._packages is not None:
                await self._packages.close()
            await self._code.close()

    async def prepare(self, packages: Packages) -> None:
        """Have these packages in place. Raises CvxError "InvalidExternalModules", "BackendStopping"."""
        assert self._packages is not None, "start() comes first"
        await self._packages.ready(packages, self._packages_in_use())

    # ---- running

    async def run_action(self, call: ActionCall, host: ActionHost) -> ActionOutcome:
        """See ActionRunner.run_action."""
        size = len(call.args_json)
        if size > self._limits.node_args_bytes_max:
            message = (
                'The arguments of this "use node" action are too large '
                f"(actual: {size} bytes, limit: {self._limits.node_args_bytes_max} bytes)."
            )
            return ActionOutcome(None, FunctionFailure(message))
        if inside_action.get():
            return await self._run_nested(call, host)
        async with self._places.one():
            return await self._run(call, host)

    async def _run_nested(self, call: ActionCall, host: ActionHost) -> ActionOutcome:
        """One that an action waits for: it must not wait for a place behind it."""
        if self._nested >= self._limits.nested_actions_running_max:
            raise too_many("Too many actions that actions started are running.")
        self._nested += 1
        try:
            return await self._run(call, host)
        finally:
            self._nested -= 1

    async def _run(self, call: ActionCall, host: ActionHost) -> ActionOutcome:
        try:
            world = await self._world(call.bundle, call.env)
        except CvxError as error:
            if self._processes.closing:
                raise stopping() from None
            return ActionOutcome(None, FunctionFailure(f"{error.message} {error.hint or ''}".strip()))
        child = await self._checkout(world)
        tainted = True
        try:
            outcome, suspicious = await child.run(call, host)
            tainted = bool(suspicious) or (outcome.error is not None and outcome.error.kind == "timeout")
            return outcome
        except ActionLost as lost:
            if self._processes.closing:
                raise stopping() from None
            return ActionOutcome(None, self._verdict(lost.cause, blamed=lost.blamed))
        finally:
            self._give_back(child, tainted=tainted)

    async def _world(self, bundle: CodeBundle, variables: Mapping[str, str]) -> NodeWorld:
        assert self._packages is not None, "start() comes first"
        if self._processes.closing:
            raise stopping()
        folder = await self._packages.ready(bundle.packages, self._packages_in_use())
        code = await self._code.place(bundle, folder, {child.world.code.key for child in self._children})
        self._latest = NodeWorld(code, self._digest(variables))
        return self._latest

    def _packages_in_use(self) -> set[Path | None]:
        return {child.world.code.packages for child in self._children}

    def _digest(self, variables: Mapping[str, str]) -> str:
        known = self._digests.get(id(variables))
        if known is not None and known[0] is variables:
            return known[1]
        digest = hashlib.sha256(msgspec.json.encode(dict(variables), order="sorted")).hexdigest()
        self._digests[id(variables)] = (variables, digest)
        if len(self._digests) > 8:
            self._digests.popitem(last=False)
        return digest

    def _verdict(self, cause: DeathCause, *, blamed: bool) -> FunctionFailure:
        limits = self._limits
        return of_action(
            cause, blamed=blamed, turn_s=limits.action_turn_s, heap_bytes_max=limits.node_heap_bytes_max
        )

    # ---- processes

    async def _checkout(self, world: NodeWorld) -> NodeChild:
        limits = self._limits
        while True:
            if self._processes.closing:
                raise stopping()
            mine = [child for child in self._children if child.world == world and _takes_more(child)]
            free = next((child for child in mine if not child.reserved), None)
            if free is not None:
                return self._reserve(free)
            if len(self._children) + self._starting < limits.node_children_max or self._evict(world):
                return await self._start_one(world)
            shared = min(mine, key=lambda child: child.reserved, default=None)
            if shared is not None and (
                shared.reserved < limits.node_actions_per_child_max or inside_action.get()
            ):
                return self._reserve(shared)
            if not self._starting and (shared is None or inside_action.get()):
                # Every process is busy with other code: this one must not wait for theirs to end.
                return await self._start_one(world)
            await self._next_change()

    def _reserve(self, child: NodeChild) -> NodeChild:
        child.reserved += 1
        return child

    def _evict(self, world: NodeWorld) -> bool:
        """Let an idle process of another world go, the one that has been idle for longest."""
        idle = [child for child in self._children if not child.reserved and child.world != world]
        if not idle:
            return False
        self._end(min(idle, key=lambda child: child.idle_since))
        return True

    async def _start_one(self, world: NodeWorld) -> NodeChild:
        """A new process, with a place reserved in it."""
        self._starting += 1
        starting = self._processes.spawn(self._new_child(world))
        starting.add_done_callback(self._started)
        try:
            await asyncio.wait({starting})
        except asyncio.CancelledError:
            if starting.done() and starting.exception() is None:
                self._give_back(starting.result(), tainted=False)
            starting.cancel()
            raise
        return starting.result()

    def _started(self, task: asyncio.Task[NodeChild]) -> None:
        self._starting -= 1
        self._notify()
        if not task.cancelled():
            task.exception()  # Perhaps nobody waits any more.

    async def _new_child(self, world: NodeWorld) -> NodeChild:
        self._code.touch(world.code)
        child = await self._processes.started(
            lambda: self._unstarted(world), self._limits.runner_start_attempts_max
        )
        self._children.append(self._reserve(child))
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        return child

    def _unstarted(self, world: NodeWorld) -> NodeChild:
        limits, deno_path = self._limits, self._deno_path
        assert deno_path is not None, "start() comes first"
        temporary = self._home.resolve() / "tmp" / secrets.token_hex(8)
        folders = deno.NodeChildFolders(
            world.code.folder.resolve(), world.code.packages, temporary, native=self._native
        )

        def start(stderr: int, open_realm: bool) -> subprocess.Popen[bytes]:
            temporary.mkdir(mode=0o700, parents=True)
            return deno.start_node_child(deno_path, limits, folders, stderr)

        profile = ActionProfile(
            environment="node",
            start=start,
            takes=lambda module: False,  # It has them as files.
            children_max=limits.node_children_max,
            calls_per_child_max=limits.node_actions_per_child_max,
            has_open_realm=False,
        )
        return NodeChild(self._processes, world, profile, limits, temporary)

    def _give_back(self, child: NodeChild, *, tainted: bool) -> None:
        child.reserved -= 1
        limits = self._limits
        worn = (
            child.started_calls >= limits.node_child_life_calls
            or child.memory_bytes > limits.node_recycle_bytes
        )
        if tainted or worn:
            child.retiring = True
        if child.dead or (child.retiring and not child.reserved):
            self._end(child, at_once=tainted)
        self._notify()

    def _end(self, child: NodeChild, *, at_once: bool = False) -> None:
        """Let a child go; `at_once` when what it runs is not wanted any more."""
        child.retiring = True
        if child not in self._children:
            return
        self._children.remove(child)
        if at_once and not child.dead:
            child.process.kill("closed")
        self._processes.spawn(child.close())

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()

    async def _watch(self) -> None:
        while self._children:
            await asyncio.sleep(WATCH_EVERY_S)
            look_at(list(self._children), self._look)
        self._watcher = None

    def _look(self, child: NodeChild, now: float) -> None:
        if child.dead and not child.reserved:
            self._end(child)
        elif child.running or child.silent_s(now) > 0 or now - child.looked_at > _LOOK_EVERY_S:
            child.looked_at = now
            child.watch(now)
        elif not child.reserved and (child.retiring or now - child.idle_since > self._idle_s(child)):
            self._end(child)

    def _idle_s(self, child: NodeChild) -> float:
        """How long it may be idle."""
        limits = self._limits
        return limits.node_child_idle_s if child.world == self._latest else limits.node_old_child_idle_s

    # ---- analysis

    async def analyze(self, request: AnalyzeRequest) -> AnalyzeResult:
        """What the modules `request.paths` export; all are loaded in one new process, as they would be by actions."""
        modules: dict[str, AnalyzedModule] = {}
        failures: list[AnalyzeFailure] = []
        world = await self._world(request.bundle, request.env)
        child = await self._start_one(world)
        tainted = True
        try:
            for path in request.paths:
                outcome = await self._analyze_one(child, request, path)
                if outcome.value_json is None:
                    failures.append(_explained(failure_text("module", path, outcome)))
                    break  # What failed to load may be part of the next one.
                modules[path] = analyzed_module(path, outcome.value_json)
            tainted = bool(failures)
        finally:
            self._give_back(child, tainted=tainted)
        return AnalyzeResult(modules, failures=tuple(failures))

    async def _analyze_one(self, child: NodeChild, request: AnalyzeRequest, path: str) -> FunctionOutcome:
        call = AnalysisCall(
            bundle=request.bundle,
            path=FunctionPath("", path, "default"),
            args_json=b"",
            env=request.env,
            request_id="",
            deadline_s=self._limits.node_analyze_s,
            import_phase_ms=request.import_phase_ms,
            import_seed=request.import_seed,
            environment="node",
        )
        host = AnalysisHost()
        try:
            outcome, _ = await child.run(call, host)
        except ActionLost as lost:
            if self._processes.closing:
                raise stopping() from None
            # Nobody else can be to blame.
            return FunctionOutcome(None, self._verdict(lost.cause, blamed=True), host.lines)
        return FunctionOutcome(outcome.value_json, outcome.error, host.lines)


def _explained(failure: AnalyzeFailure) -> AnalyzeFailure:
    """With what can be done about it, where the message does not say."""
    if "Requires ffi access" not in failure.message:
        return failure
    advice = (
        "A package wants to load native code. It must be in `node.externalPackages` of convex.json, and the backend be "
        "started with --native-packages (for `cvx dev`: native_packages = true under [backend] in cvx.toml)."
    )
    return replace(failure, message=f"{failure.message}\n{advice}")


def _takes_more(child: NodeChild) -> bool:
    return not child.dead and not child.retiring
