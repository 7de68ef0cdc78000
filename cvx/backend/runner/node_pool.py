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
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic

import msgspec

from cvx.backend.config import Limits
from cvx.backend.runner import deno
from cvx.backend.runner.action_child import ActionLost, ActionProfile, inside_action
from cvx.backend.runner.actions import ActionCall, ActionHost, ActionOutcome
from cvx.backend.runner.analysis import analyzed_module, failure_text
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
from cvx.errors import CvxError
from cvx.values import FunctionPath

_WATCH_EVERY_S = 0.1
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
        self._children: list[NodeChild] = []
        self._starting = 0
        self._changed = asyncio.Event()
        self._endings: set[asyncio.Task[None]] = set()
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
        self._closing = False

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
        """End every child and wait until they are gone."""
        self._closing = True
        self._places.close(_stopping())
        self._notify()
        if self._watcher is not None:
            self._watcher.cancel()
        for child in list(self._children):
            self._end(child)
        while self._endings:
            await asyncio.gather(*self._endings, return_exceptions=True)

    async def prepare(self, packages: Packages) -> None:
        """Have these packages in place. Raises CvxError "InvalidExternalModules"."""
        assert self._packages is not None, "start() comes first"
        await self._packages.ready(packages)

    # ---- running

    async def run_action(self, call: ActionCall, host: ActionHost) -> ActionOutcome:
        """See ActionRunner.run_action."""
        size = len(call.args_json)
        if size > self._limits.node_args_bytes_max:
            return _failed(
                'The arguments of this "use node" action are too large '
                f"(actual: {size} bytes, limit: {self._limits.node_args_bytes_max} bytes).",
                "user",
            )
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
            return _failed(f"{error.message} {error.hint or ''}".strip(), "user")
        child = await self._checkout(world)
        tainted = True
        try:
            outcome, suspicious = await child.run(call, host)
            tainted = bool(suspicious) or (outcome.error is not None and outcome.error.kind == "timeout")
            return outcome
        except ActionLost as lost:
            if self._closing:
                raise _stopping() from None
            return self._verdict(lost)
        finally:
            self._give_back(child, tainted)

    async def _world(self, bundle: CodeBundle, variables: Mapping[str, str]) -> NodeWorld:
        assert self._packages is not None, "start() comes first"
        folder = await self._packages.ready(bundle.packages)
        code = await self._code.place(bundle, folder, {child.world.code.key for child in self._children})
        self._latest = NodeWorld(code, self._digest(variables))
        return self._latest

    def _digest(self, variables: Mapping[str, str]) -> str:
        known = self._digests.get(id(variables))
        if known is not None and known[0] is variables:
            return known[1]
        digest = hashlib.sha256(msgspec.json.encode(dict(variables), order="sorted")).hexdigest()
        self._digests[id(variables)] = (variables, digest)
        if len(self._digests) > 8:
            self._digests.popitem(last=False)
        return digest

    def _verdict(self, lost: ActionLost) -> ActionOutcome:
        limits = self._limits
        if lost.blamed and lost.cause == "timeout":
            return _failed(
                f"Function execution timed out (maximum duration: {limits.action_turn_s:g}s without a pause, "
                "while other actions wait)",
                "timeout",
            )
        if lost.blamed and lost.cause == "memory":
            most = limits.node_heap_bytes_max >> 20
            return _failed(
                f"JavaScript execution ran out of memory (maximum memory usage: {most} MB)", "memory"
            )
        if lost.blamed:
            return _failed("The process that ran this action crashed", "crash")
        return _failed(
            "Transient error while executing action: the process that ran it was ended by another action. "
            "It was not run again, since it may have had effects already.",
            "crash",
        )

    # ---- processes

    async def _checkout(self, world: NodeWorld) -> NodeChild:
        limits = self._limits
        while True:
            if self._closing:
                raise _stopping()
            mine = [child for child in self._children if child.world == world and _takes_more(child)]
            free = next((child for child in mine if not child.reserved), None)
            if free is not None:
                return self._reserve(free)
            if len(self._children) + self._starting < limits.node_children_max or self._evict(world):
                return self._reserve(await self._start_one(world))
            shared = min(mine, key=lambda child: child.reserved, default=None)
            if shared is not None and (
                shared.reserved < limits.node_actions_per_child_max or inside_action.get()
            ):
                return self._reserve(shared)
            if not self._starting and (shared is None or inside_action.get()):
                # Every process is busy with other code: this one must not wait for theirs to end.
                return self._reserve(await self._start_one(world))
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
        self._starting += 1
        try:
            child = await self._new_child(world)
        finally:
            self._starting -= 1
            self._notify()
        self._children.append(child)
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        return child

    async def _new_child(self, world: NodeWorld) -> NodeChild:
        limits, deno_path = self._limits, self._deno_path
        assert deno_path is not None, "start() comes first"
        self._code.touch(world.code)
        temporary = await asyncio.to_thread(_temporary_folder, self._home / "tmp")
        folders = deno.NodeChildFolders(
            world.code.folder.resolve(), world.code.packages, temporary, native=self._native
        )
        profile = ActionProfile(
            environment="node",
            start=lambda stderr, _: deno.start_node_child(deno_path, limits, folders, stderr),
            takes=lambda module: False,  # It has them as files.
            children_max=limits.node_children_max,
            calls_per_child_max=limits.node_actions_per_child_max,
            has_open_realm=False,
        )
        child = NodeChild(world, profile, limits, temporary)
        try:
            await child.start()
        except BaseException:
            await asyncio.shield(child.close())
            raise
        return child

    def _give_back(self, child: NodeChild, tainted: bool) -> None:
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
        task = asyncio.get_running_loop().create_task(child.close())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()

    async def _watch(self) -> None:
        while self._children:
            await asyncio.sleep(_WATCH_EVERY_S)
            now = monotonic()
            for child in list(self._children):
                if child.dead and not child.reserved:
                    self._end(child)
                elif child.running or child.silent_s(now) > 0 or now - child.looked_at > _LOOK_EVERY_S:
                    child.looked_at = now
                    child.watch(now)
                elif not child.reserved and now - child.idle_since > self._idle_s(child):
                    self._end(child)
        self._watcher = None

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
        self._reserve(child)
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
            self._give_back(child, tainted)
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
            if self._closing:
                raise _stopping() from None
            outcome = self._verdict(ActionLost(lost.cause, blamed=True))  # Nobody else can be to blame.
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


def _temporary_folder(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=home.resolve()))


def _failed(message: str, kind: str) -> ActionOutcome:
    return ActionOutcome(None, FunctionFailure(message, kind=kind))  # type: ignore[arg-type]


def _stopping() -> CvxError:
    return CvxError(
        "BackendStopping",
        "The backend is stopping.",
        kind="unavailable",
        hint="Try again when it is back.",
        retry_when="time",
    )
