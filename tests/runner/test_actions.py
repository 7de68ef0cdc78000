"""Actions at the runner's face: what they have, what they have not, how they end, who is blamed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cvx.backend.runner import CodeBundle
from cvx.errors import CvxError
from tests.runner.action_host import ACTION_APP, Acting, ActingHost, acting, web_server
from tests.runner.host import build_bundle, bundle_of
from tests.waiting import happens

pytestmark = pytest.mark.deno
Body = Callable[[Acting], Awaitable[None]]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> CodeBundle:
    return build_bundle(tmp_path_factory.mktemp("action-app"), ACTION_APP)


def run(app: CodeBundle, body: Body, **limits: Any) -> None:
    async def main() -> None:
        async with acting(app, **limits) as a:
            await body(a)

    asyncio.run(main())


def test_interleaved_actions_share_nothing(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        with web_server() as url:
            hosts = [ActingHost() for _ in range(12)]
            told = await asyncio.gather(
                *(a.value("acting:meet", {"mark": i, "url": f"{url}/echo"}, hosts[i]) for i in range(12))
            )
        for i, each in enumerate(told):
            assert each["seen"] == [0, 0, "none", "none"], each
            assert each["after"] == [i, i, i, "yes"], each
            assert hosts[i].texts == [f"'patched' {i}"]
        assert a.pool.children == 1

    run(app, body)


def test_what_an_action_has_and_has_not(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        told = await a.value("acting:world")
        assert told["present"] == []
        assert told["elapsed"] >= 29 and told["newDate"] and told["differ"] and told["performance"]
        assert told["signed"] == 64 and told["form"] == [["a", "1"], ["b", "2"]]
        assert told["evil"] == "EvalError"
        assert told["file"] == "fetch() supports http and https only, not 'file:'"
        assert told["zone"] == 0 and told["env"] == [[], "yes", "none"]
        assert await a.value("acting:order") == [
            "sync", "micro", "five", "five again", "twenty", "tick", "tick",
        ]  # fmt: skip

    run(app, body)


def test_nothing_may_be_begun_while_modules_are_imported(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        told = await a.value("early:look")
        assert told["frozen"] is True
        assert told["timer"] == "Can't use setTimeout while a module is being imported"
        assert told["fetch"] == "Can't use fetch() while a module is being imported"
        assert told["random"].startswith("Can't use crypto")
        assert told["syscall"].startswith("NoDbDuringImport")

    run(app, body)


def test_fetch(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        with web_server() as url:
            told = await a.value("acting:fetching", {"url": url})
            assert told == {
                "status": 200, "echoed": '{"a":1}', "header": "yes", "text": "one two three", "moved": True,
                "refused": "TypeError",
            }  # fmt: skip
            given_up = await a.value("acting:deadline", {"url": f"{url}/slow"})
            assert given_up == {"seen": ["TimeoutError", "AbortError"], "quick": True}
            host = ActingHost()
            assert await a.value("acting:abandon", {"url": f"{url}/slow"}, host) == "left"
            (line,) = host.lines
            assert line.system_code == "UnawaitedOperations" and "[fetch]" in line.messages[0]
            await asyncio.sleep(0.15)
            assert len(host.lines) == 1, "its timers ended with it"

    run(app, body)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("timer", "Uncaught Error: in a timer"),
        ("rejection", "Uncaught Error: nobody caught it"),
        ("microtask", "Uncaught Error: in a microtask"),
        ("listener", "Uncaught Error: in a listener"),
        ("text", "Uncaught just text"),
        ("undefined", "Uncaught undefined"),
        ("null", "Uncaught null"),
        ("half an emoji", "Uncaught Error: \ufffd"),
    ],
)
def test_an_exception_fails_the_action_it_belongs_to(app: CodeBundle, how: str, text: str) -> None:
    async def body(a: Acting) -> None:
        others = [asyncio.ensure_future(a.value("acting:sleep", {"ms": 200})) for _ in range(3)]
        assert await a.failure("acting:failing", {"how": how}) == text
        assert await asyncio.gather(*others) == [200, 200, 200]

    run(app, body)


def test_dynamic_import_gives_the_same_instance(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        for _ in range(2):
            assert await a.value("acting:lazy") == {"same": True, "count": 1, "missing": "TypeError"}

    run(app, body)


_REGISTER = (
    "export const reg = (h) => Object.assign(() => {}, { isAction: true, isPublic: true,"
    " invokeAction: async (_, a) => JSON.stringify((await h(...JSON.parse(a))) ?? null) });"
)


def test_modules_that_import_each_other_and_what_cannot_be_imported() -> None:
    """These are V8's own module records, not compiled functions."""
    cyclic = bundle_of(
        reg=_REGISTER,
        one=(
            'import { two } from "./two.js"; import { reg } from "./reg.js"; export let n = 1;'
            "const name = (error) => error.name; export const go = reg(async () => {"
            ' const first = await import("./lazy.js"), again = await import("./lazy.js"); first.bump();'
            ' return [two(), again.count(), first === again, await import("node:fs").catch(name),'
            ' await import("https://example.com/x.js").catch(name)]; });'
        ),
        two='import { n } from "./one.js"; export const two = () => n + 1;',
        lazy="let c = 0; export const bump = () => { c++; }; export const count = () => c;",
        files='import fs from "node:fs"; import { reg } from "./reg.js"; export const go = reg(async () => typeof fs);',
        awaits='import { reg } from "./reg.js"; await null; export const go = reg(async () => 1);',
    )

    async def body(a: Acting) -> None:
        for _ in range(2):
            assert await a.value("one:go") == [2, 1, True, "TypeError", "TypeError"]
        assert "Can't import 'node:fs' from files.js" in await a.failure("files:go")
        assert "Top-level awaits in source files are unsupported" in await a.failure("awaits:go")

    run(cyclic, body)


def test_operations_are_answered_in_any_order(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        host = ActingHost(delay_s=0.01)
        assert await a.value("acting:ask", {"count": 300}, host) == list(range(300))
        assert host.most_under_way > 100, "how many run at once is the host's business"

    run(app, body)


def test_blobs_are_streams_with_back_pressure(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        host = ActingHost(read_delay_s=0.001)
        told = await a.value("acting:blob", {"size": 2_500_000}, host)
        assert told == {"id": "blob0", "type": "text/x", "size": 2_500_000, "same": True, "none": None}
        assert host.blobs["blob0"].data == b"\7" * 2_500_000
        assert (await a.value("acting:blob", {"size": 0}, ActingHost()))["size"] == 0

    run(app, body)


# ------------------------------------------------------------------------------------------- how they end


def test_a_deadline_ends_an_action_and_nothing_else(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        other = asyncio.ensure_future(a.value("acting:sleep", {"ms": 500}))
        text = await a.failure("acting:sleep", {"ms": 10_000}, deadline_s=0.2)
        assert text == "Function execution timed out (maximum duration: 0.2s)"
        assert await other == 500
        assert a.pool.children == 1

    run(app, body)


def test_cancelling_ends_an_action_in_its_child(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        host = ActingHost(delay_s=30)
        task = asyncio.ensure_future(a.outcome("acting:ask", {"count": 5}, host))
        while host.under_way < 5:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert host.under_way == 0, "what was asked for it ended too"
        assert await a.value("acting:sleep", {"ms": 1}) == 1

    run(app, body)


def test_the_one_that_spins_is_blamed(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        hosts = [ActingHost() for _ in range(3)]
        tasks = [
            asyncio.ensure_future(a.outcome(path, {"ms": 4_000}, host))
            for path, host in zip(("acting:sleep", "acting:spin", "acting:sleep"), hosts, strict=True)
        ]
        first, spinning, third = await asyncio.gather(*tasks)
        assert spinning.error is not None and spinning.error.kind == "timeout"
        assert spinning.error.message.startswith("Function execution timed out (maximum duration: 0.5s")
        for innocent in (first, third):
            assert innocent.error is not None and innocent.error.kind == "crash"
            assert innocent.error.message.startswith("Transient error while executing action")
        assert [host.texts for host in hosts] == [
            ["'sleeping 4000'"],
            ["'about to spin'"],
            ["'sleeping 4000'"],
        ]
        assert await a.value("acting:sleep", {"ms": 1}) == 1, "there is a new child"

    run(app, body, action_turn_s=0.5)


def test_a_new_action_does_not_wait_behind_one_that_computes(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        await a.value("acting:sleep", {"ms": 1})
        computing = asyncio.ensure_future(a.outcome("acting:spin", deadline_s=200.0))
        await asyncio.sleep(1.0)  # It has had its turn by then.
        assert await a.value("acting:sleep", {"ms": 1}) == 1
        assert not computing.done()
        computing.cancel()
        await asyncio.gather(computing, return_exceptions=True)
        alone = await a.value("acting:busy", {"ms": 1_500})
        assert alone == "done", "alone, it may compute for as long as its deadline"

    run(app, body, action_turn_s=0.5)


def test_a_function_that_computes_is_kept_apart_once_it_is_known(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        async def beside_a_computing_one() -> bool:
            """Whether the others ended before it."""
            computing = asyncio.ensure_future(a.value("acting:busy", {"ms": 2_000}))
            sleeping = [asyncio.ensure_future(a.value("acting:sleep", {"ms": 100})) for _ in range(3)]
            await asyncio.gather(*sleeping)
            first = not computing.done()
            assert await computing == "done"
            return first

        await a.value("acting:sleep", {"ms": 1})
        assert not await beside_a_computing_one() and a.pool.children == 1
        assert await beside_a_computing_one()
        assert a.pool.children == 2

    run(app, body)


def test_one_that_spins_alone_is_ended_at_its_deadline(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        text = await a.failure("acting:spin", deadline_s=0.7)
        assert text == "Function execution timed out (maximum duration: 0.7s)"
        assert await a.value("acting:sleep", {"ms": 1}) == 1
        await happens(
            lambda: a.pool.children == 1, "the end of the child that nobody uses and that does not answer"
        )

    run(app, body)


def test_memory_is_limited_and_its_user_blamed(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        sleeping = asyncio.ensure_future(a.outcome("acting:sleep", {"ms": 8_000}))
        await asyncio.sleep(0.1)
        text = await a.failure("acting:fill")
        assert text == "JavaScript execution ran out of memory (maximum memory usage: 64 MB)", text
        innocent = await sleeping
        assert innocent.error is not None and innocent.error.message.startswith("Transient error")
        assert await a.value("acting:buffers") == "RangeError"

    run(app, body, action_heap_bytes_max=64 << 20, action_data_bytes_max=1200 << 20)


def test_a_crash_fails_those_inside_and_runs_nothing_again(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        host = ActingHost(delay_s=0.5)
        task = asyncio.ensure_future(a.outcome("acting:ask", {"count": 1}, host))
        while not host.asked:
            await asyncio.sleep(0.01)
        (child,) = a.pool._children
        os.kill(child.process.pid, signal.SIGKILL)
        outcome = await task
        assert outcome.error is not None and outcome.error.kind == "crash"
        assert len(host.asked) == 1
        assert await a.value("acting:ask", {"count": 2}) == [0, 1]

    run(app, body)


def test_an_action_that_patches_shared_objects_runs_apart(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        told = await asyncio.gather(*(a.value("acting:patching", {"speak": False}) for _ in range(3)))
        assert told == [3, 3, 3]
        assert await a.value("acting:clean") == "undefined"
        assert await a.value("acting:patching", {"speak": True}) == 3, "it is known by now"

    run(app, body)


def test_a_global_that_is_defined_is_the_actions_own(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        told = await asyncio.gather(*(a.value("acting:registers", {"mark": n}) for n in range(4)))
        assert told == [["none", n, n * 2, "mine", 1, "TypeError", False] for n in range(4)]
        assert not a.pool._apart, "that takes no process of its own"

    run(app, body)


def test_a_process_that_cannot_be_put_back_is_replaced(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        for _ in range(3):
            assert await a.value("acting:lasting") == "left"

    run(app, body)


def test_what_has_been_noticed_is_not_run_again(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        host = ActingHost()
        text = await a.failure("acting:patching", {"speak": True}, host)
        assert "Cannot add property lastOne" in text and host.texts == ["'before'"]
        again = ActingHost()
        assert await a.value("acting:patching", {"speak": True}, again) == 3
        assert again.texts == ["'before'"]

    run(app, body)


def test_idle_children_end(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        assert a.pool.children == 0
        await a.value("acting:sleep", {"ms": 1})
        assert a.pool.children == 1
        await happens(lambda: a.pool.children == 0, "the end of the idle child")
        assert await a.value("acting:sleep", {"ms": 1}) == 1

    run(app, body, action_child_idle_s=0.3)


def test_closing_fails_what_is_under_way(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        task = asyncio.ensure_future(a.outcome("acting:sleep", {"ms": 10_000}))
        await asyncio.sleep(0.3)
        await a.pool.close()
        with pytest.raises(CvxError) as caught:
            await task
        assert caught.value.code == "BackendStopping"

    run(app, body)


# ------------------------------------------------------------------------------------------- HTTP actions


def test_a_request_and_its_response(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        host = ActingHost(body=b"h\xc3\xa9llo")
        outcome = await a.request(
            "POST", "/echo?x=1", host, (("x-given", "a"), ("content-type", "text/plain"))
        )
        assert outcome.error is None and outcome.value_json is None
        assert host.head is not None and host.head.status == 201 and host.head.has_body
        assert host.response == b"h\xc3\xa9llo"
        headers = host.head.headers
        assert ("x-method", "POST") in headers and ("x-url", "http://site.example/echo?x=1") in headers
        assert [value for name, value in headers if name == "set-cookie"] == ["a=1", "b=2"]
        assert ("x-given", "a") in headers
        empty = ActingHost()
        await a.request("GET", "/empty", empty)
        assert empty.head is not None and (empty.head.status, empty.head.has_body) == (204, False)
        asking = ActingHost()
        await a.request("GET", "/who", asking)
        assert json.loads(asking.response) == {"i": 1}

    run(app, body)


def test_routes(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        for path, method, status, text in (
            ("/files/a/b", "GET", 200, b"/files/a/b"),
            ("/nothing", "GET", 404, b"No matching routes found"),
            ("/echo", "GET", 404, b"No matching routes found"),
            ("/files/x", "HEAD", 200, b"/files/x"),
        ):
            host = ActingHost()
            outcome = await a.request(method, path, host)
            assert outcome.error is None, outcome
            assert host.head is not None and (host.head.status, host.response) == (status, text), path

    run(app, body)


def test_bodies_stream_with_back_pressure_in_both_directions(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        counted = ActingHost(body=b"x" * 5_000_000)
        await a.request("POST", "/count", counted)
        assert json.loads(counted.response)["bytes"] == 5_000_000
        slow = ActingHost(read_delay_s=0.002)
        await a.request("GET", "/stream?mib=4", slow)
        assert len(slow.response) == 4 << 20
        assert slow.response[:1] == b"\1" and slow.response[-1:] == b"\x40"
        passed = ActingHost(body=os.urandom(1_000_000), read_delay_s=0.001)
        await a.request("POST", "/pass", passed)
        assert passed.response == passed.body

    run(app, body)


def test_a_reader_that_stands_still_holds_the_writer(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        host = ActingHost(body=b"x" * 20_000_000, read_delay_s=3600)
        task = asyncio.ensure_future(a.request("POST", "/pass", host))
        await asyncio.sleep(0.7)
        # One window in the child, one on its way back, and what the streams in between hold.
        assert 0 < host.taken_bytes < 2_000_000
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await a.value("acting:sleep", {"ms": 1}) == 1

    run(app, body)


def test_a_client_that_goes_aborts_the_request(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        host = ActingHost()
        task = asyncio.ensure_future(a.request("GET", "/ticks", host))
        while len(host.parts) < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        count = len(host.parts)
        gone = ActingHost(hang_up_after=2)
        with pytest.raises(ConnectionResetError):
            await a.request("GET", "/ticks", gone)
        await asyncio.sleep(0.1)
        assert len(host.parts) == count
        assert await a.value("acting:sleep", {"ms": 1}) == 1

    run(app, body)


def test_what_goes_wrong_in_an_http_action(app: CodeBundle) -> None:
    async def body(a: Acting) -> None:
        for path, fragment in (
            ("/throws", "Uncaught Error: it broke"),
            ("/text", "HTTP actions must return a Response"),
            ("/caught", "HTTP actions must return a Response"),
        ):
            host = ActingHost()
            outcome = await a.request("GET", path, host)
            assert outcome.error is not None and fragment in outcome.error.message, outcome
            assert host.head is None
        late = ActingHost()
        with pytest.raises(CvxError):
            await a.request("GET", "/late", late)
        assert late.head is not None and late.response == b"begun"
        missing = await a.failure("nowhere:default")
        assert missing.startswith("Uncaught Error: Couldn't find the module 'nowhere.js'")

    run(app, body)
