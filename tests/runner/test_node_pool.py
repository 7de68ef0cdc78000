""" "use node" processes at the runner's face: one code and one environment each, who shares, how they end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.runner import AnalyzeRequest, CodeBundle, ModuleSource, NodePool, SyscallFailure
from cvx.errors import CvxError
from tests.processes import alive, still_alive
from tests.runner.action_host import Acting, ActingHost
from tests.runner.host import IMPORT_MS, SEED
from tests.waiting import happens

pytestmark = pytest.mark.deno

REGISTER = """
export const action = (handler) => Object.assign((...all) => handler(...all), {
  isAction: true, isPublic: true, _handler: handler,
  exportArgs: () => '{"type":"any"}', exportReturns: () => "null",
  invokeAction: async (requestId, text) => JSON.stringify((await handler(JSON.parse(text)[0], requestId)) ?? null),
});
export const query = (requestId, args) =>
  Convex.asyncSyscall("1.0/actions/query", JSON.stringify({ requestId, name: "a:b", args })).then(JSON.parse);
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
"""
ACTIONS = """"use node";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { action, query, sleep } from "./_deps/node/register.js";
let calls = 0;
let kept = null;
export const pid = action(async ({ ms }) => { await sleep(ms ?? 0); return [process.pid, ++calls, process.env.GIVEN]; });
export const ask = action(async ({ value }, requestId) => await query(requestId, value));
export const keep = action(async (_, requestId) => { kept = requestId; });
export const useKept = action(async () => await query(kept, 1));
export const spin = action(async () => { for (;;); });
export const hang = action(async () => await new Promise(() => {}));
export const leave = action(async () => { setTimeout(() => { for (;;); }, 50); return process.pid; });
export const late = action(async () => { setTimeout(() => { console.log("late"); throw new Error("late"); }, 30); });
export const kill = action(async () => { process.kill(process.pid, "SIGKILL"); await sleep(1000); });
export const fill = action(async () => { const all = []; for (;;) all.push(new Array(50_000).fill({})); });
export const secret = action(async ({ set }) => { if (set) process.env.MINE = "x"; return Object.keys(process.env); });
export const scratch = action(async () => { fs.writeFileSync(path.join(os.tmpdir(), "x"), "y"); return os.tmpdir(); });
export const noise = action(async () => { for (let i = 0; i < 300; i++) process.stdout.write(`${i}\\n`); fs.writeSync(2, "raw\\n"); });
export const big = action(async ({ size }) => "x".repeat(size));
"""


def bundle(**changes: str) -> CodeBundle:
    texts = {"_deps/node/register.js": REGISTER, "m.js": ACTIONS, **changes}
    modules = {}
    for path, text in texts.items():
        data = text.encode()
        modules[path] = ModuleSource(path, hashlib.sha256(data).hexdigest(), data, None, "node")
    return CodeBundle(hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest(), modules)


class Nodes(Acting):
    """A NodePool with short ways to call."""

    def __init__(self, pool: NodePool, code: CodeBundle, home: Path) -> None:
        super().__init__(pool, code)  # type: ignore[arg-type]
        self.nodes = pool
        self.home = home

    def call(self, path: str, args: Any = None, **changes: Any) -> Any:
        return super().call(path, args, **{"environment": "node", **changes})


def run(tmp_path: Path, body: Callable[[Nodes], Awaitable[None]], **limits: Any) -> None:
    async def main() -> None:
        pool = NodePool(replace(Limits(), **limits), tmp_path / "node")
        await pool.start()
        try:
            await body(Nodes(pool, bundle(), tmp_path / "node"))
        finally:
            await pool.close()
        assert pool.children == 0
        assert list((tmp_path / "node" / "tmp").glob("*")) == []

    asyncio.run(main())


def test_a_warm_process_is_used_again(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        first = await n.value("m:pid")
        assert await n.value("m:pid") == [first[0], 2, "yes"]
        host = ActingHost()
        assert await n.value("m:ask", {"value": {"deep": [1, "é"]}}, host) == {"deep": [1, "é"]}
        assert json.loads(host.asked[0].args)["requestId"].startswith("req")
        assert host.texts == []
        assert await n.value("m:big", {"size": 3_000_000}) == "x" * 3_000_000
        assert n.nodes.children == 1

    run(tmp_path, body)


def test_another_code_or_environment_has_another_process(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        first = await n.value("m:pid")
        other = {"GIVEN": "other"}
        assert (await n.value("m:pid", env=other))[1:] == [1, "other"]
        assert (await n.value("m:pid", env={"GIVEN": "yes"}))[:2] == [first[0], 2], (
            "equal variables are the same"
        )
        changed = bundle(**{"m.js": ACTIONS + "\n"})
        third = await n.value("m:pid", bundle=changed)
        assert third[1] == 1 and n.nodes.children == 2, "the one that was idle for longest made room"
        isolate = ModuleSource("q.js", "0" * 64, b"export {}", None, "isolate")
        same = CodeBundle("more", {**changed.modules, "q.js": isolate})
        assert (await n.value("m:pid", bundle=same))[:2] == [third[0], 2], "isolate modules do not matter"
        assert "MINE" in await n.value("m:secret", {"set": True}, env=other)
        assert "MINE" not in await n.value("m:secret", {"set": False})

    run(tmp_path, body, node_children_max=2)


def test_few_have_a_process_each_and_many_share(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        few = await asyncio.gather(*(n.value("m:pid", {"ms": 300}) for _ in range(2)))
        assert len({each[0] for each in few}) == 2
        hosts = [ActingHost(delay_s=0.05) for _ in range(10)]
        many = await asyncio.gather(*(n.value("m:ask", {"value": i}, hosts[i]) for i in range(10)))
        assert many == list(range(10)) and n.nodes.children == 2
        assert [len(host.asked) for host in hosts] == [1] * 10

    run(tmp_path, body, node_children_max=2, node_actions_per_child_max=3)


def test_those_without_a_place_wait(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        begin = time.monotonic()
        await asyncio.gather(*(n.value("m:pid", {"ms": 200}) for _ in range(3)))
        assert time.monotonic() - begin > 0.55
        with pytest.raises(CvxError, match="Too many"):
            await asyncio.gather(*(n.value("m:pid", {"ms": 100}) for _ in range(5)))

    run(tmp_path, body, node_actions_running_max=1, actions_waiting_max=2)


def test_endings(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        async def failure(path: str, **changes: Any) -> str:
            outcome = await n.outcome(path, **changes)
            assert outcome.error is not None
            return f"{outcome.error.kind}: {outcome.error.message}"

        for path in ("m:spin", "m:hang"):
            begin = time.monotonic()
            said = await failure(path, deadline_s=0.5)
            assert said == "timeout: Function execution timed out (maximum duration: 0.5s)"
            assert time.monotonic() - begin < 20
        assert await failure("m:kill") == "crash: The process that ran this action crashed"
        assert (
            await failure("m:fill")
            == "memory: JavaScript execution ran out of memory (maximum memory usage: 64 MB)"
        )
        assert "Couldn't find 'nope'" in await failure("m:nope")
        assert "arguments" in (await failure("m:pid", args_json=b'{"a":"' + b"x" * 6_000_000 + b'"}'))
        assert (await n.value("m:pid"))[1] == 1, "none of those processes is used again"

    run(tmp_path, body, node_heap_bytes_max=64 << 20)


def test_an_action_that_is_given_up_takes_its_process_along(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        pid = (await n.value("m:pid"))[0]
        task = asyncio.ensure_future(n.outcome("m:hang"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(still_alive, [pid]) == set()

    run(tmp_path, body)


def test_what_actions_leave_behind(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        host = ActingHost()
        await n.outcome("m:late", None, host)
        second = ActingHost()
        assert (await n.value("m:pid", {"ms": 200}, second))[1] == 1
        assert host.texts == second.texts == [], "a late line is nobody's, a late exception neither"
        await n.value("m:keep")
        outcome = await n.outcome("m:useKept")
        assert outcome.error is not None and "belongs to an action that has ended" in outcome.error.message
        pid = await n.value("m:leave")
        left = await asyncio.to_thread(still_alive, [pid], 20)
        assert left == set(), "an idle process that computes without end is ended"
        assert (await n.value("m:pid"))[1] == 1

    run(tmp_path, body)


def test_output_and_temporary_files(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        host = ActingHost()
        await n.value("m:noise", None, host)
        assert host.texts[:2] == ["0", "1"] and len(host.lines) == 256
        assert "Log overflow" in host.texts[-1]
        folder = Path(await n.value("m:scratch"))
        assert folder.is_relative_to(n.home.resolve()) and (folder / "x").read_text() == "y"

    run(tmp_path, body)


def test_a_host_that_refuses(tmp_path: Path) -> None:
    class Refusing(ActingHost):
        async def syscall(self, syscall: Any) -> Any:
            return SyscallFailure("refused", b'{"code":1}')

    async def body(n: Nodes) -> None:
        outcome = await n.outcome("m:ask", {"value": 1}, Refusing())
        assert outcome.error is not None and outcome.error.message == "Uncaught Error: refused"

    run(tmp_path, body)


def test_analysis_is_where_actions_run(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        asked = AnalyzeRequest(n.bundle, ("m.js",), {"GIVEN": "yes"}, IMPORT_MS, SEED)
        result = await n.nodes.analyze(asked)
        assert not result.failures
        names = [each.name for each in result.modules["m.js"].functions]
        assert names[:3] == ["pid", "ask", "keep"] and "spin" in names
        assert n.nodes.children == 1 and (await n.value("m:pid"))[1] == 1 and n.nodes.children == 1
        broken = bundle(**{"m.js": "console.log('here'); null.x;", "n.js": "export {};"})
        result = await n.nodes.analyze(replace(asked, bundle=broken, paths=("m.js", "n.js")))
        [failed] = result.failures
        assert failed.path == "m.js" and "TypeError" in failed.message and "[LOG] 'here'" in failed.message

    run(tmp_path, body)


def test_old_code_goes(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        for i in range(5):
            await n.value("m:pid", bundle=bundle(**{"m.js": f"{ACTIONS}\n// {i}"}))
        assert len(list((n.home / "code").iterdir())) <= 4  # Two old ones, and those that processes use.

    run(tmp_path, body, node_code_folders_max=2, node_children_max=1)


def test_processes_of_old_code_end_soon(tmp_path: Path) -> None:
    async def body(n: Nodes) -> None:
        old = (await n.value("m:pid"))[0]
        new = (await n.value("m:pid", bundle=bundle(**{"m.js": f"{ACTIONS}\n"})))[0]
        await happens(lambda: not alive(old), "the end of the old one")
        assert (alive(new), n.nodes.children) == (True, 1)

    run(tmp_path, body, node_old_child_idle_s=0.2)


def test_a_shared_process_with_a_stuck_action_in_it(tmp_path: Path) -> None:
    """What one action computes without end does not keep another waiting for ever; no other is run in that process."""

    async def body(n: Nodes) -> None:
        await n.value("m:pid")
        stuck = asyncio.ensure_future(n.outcome("m:spin", deadline_s=0.3))
        other = asyncio.ensure_future(n.outcome("m:pid", {"ms": 50}))
        first, second = await asyncio.gather(stuck, other)
        assert first.error is not None and first.error.kind == "timeout"
        assert second.error is not None and second.error.kind in ("timeout", "crash")
        assert (await n.value("m:pid"))[1] == 1

    run(tmp_path, body, node_children_max=1, action_turn_s=0.5)


def test_packages_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    monkeypatch.setenv("DENO_DIR", str(tmp_path / "deno"))

    async def body(n: Nodes) -> None:
        with pytest.raises(CvxError) as caught:
            await n.nodes.prepare((("left-pad", "1.3.0"),))
        assert caught.value.code == "InvalidExternalModules"
        assert "installing them failed" in caught.value.message and "--node-modules" in (
            caught.value.hint or ""
        )
        for name, version in (("../x", "1.0.0"), ("x", "latest"), ("x", "file:../y"), ("@a/../b", "1.0.0")):
            with pytest.raises(CvxError, match="no package"):
                await n.nodes.prepare(((name, version),))
        call = replace(n.bundle, packages=(("left-pad", "1.3.0"),))
        outcome = await n.outcome("m:pid", bundle=call)
        assert outcome.error is not None and "externalPackages" in outcome.error.message

    run(tmp_path, body)
