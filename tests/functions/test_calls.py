"""Calls end to end: validators, results, errors, identity, environment, system tables."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.auth import Admin, user_from_attributes
from cvx.backend.config import Limits
from cvx.backend.database import QueryStream
from cvx.backend.model import EnvironmentChange, environment
from cvx.errors import CvxError
from tests.functions.deployment import App, Deployment, deployment, value_of

pytestmark = pytest.mark.deno

ADMIN = Admin()


def run(tmp_path: Path, app: App, body: Callable[[Deployment], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with deployment(tmp_path, app, **options) as d:
            await body(d)

    asyncio.run(main())


INT_5 = {"$integer": base64.b64encode((5).to_bytes(8, "little")).decode()}
BYTES = {"$bytes": base64.b64encode(b"abc").decode()}

GOOD: list[tuple[str, Any]] = [
    ("echoNull", None),
    ("echoNumber", 1.5),
    ("echoInt64", INT_5),
    ("echoBoolean", True),
    ("echoString", "zażółć \U0001f600"),
    ("echoBytes", BYTES),
    ("echoAny", {"a": [1.0, INT_5, None, {"b": BYTES}]}),
    ("echoLiteral", "yes"),
    ("echoArray", [1.0, 2.0]),
    ("echoObject", {"a": 1.0}),
    ("echoObject", {"a": 1.0, "b": "x"}),
    ("echoRecord", {"x": 1.0, "y": 2.0}),
    ("echoUnion", "text"),
    ("echoUnion", 3.0),
]

BAD: list[tuple[str, Any, list[str]]] = [
    ("echoNull", 1, ["Value: 1.0", "Validator: v.null()"]),
    ("echoNumber", "x", ['Value: "x"', "Validator: v.float64()"]),
    ("echoNumber", INT_5, ["Value: 5", "Validator: v.float64()"]),
    ("echoInt64", 5, ["Value: 5.0", "Validator: v.int64()"]),
    ("echoBoolean", 0, ["Value: 0.0", "Validator: v.boolean()"]),
    ("echoString", None, ["Value: null", "Validator: v.string()"]),
    ("echoBytes", "abc", ['Value: "abc"', "Validator: v.bytes()"]),
    ("echoId", "nonsense", ['Value: "nonsense"', 'Validator: v.id("accounts")']),
    ("echoLiteral", "no", ["does not match literal validator", 'v.literal("yes")']),
    ("echoArray", [1, "x"], ["Path: .value[1]", 'Value: "x"']),
    ("echoObject", {"b": "x"}, ["missing the required field `a`", "Path: .value", "Object: {b: "]),
    ("echoObject", {"a": 1, "c": 2}, ["extra field `c`", "Path: .value"]),
    ("echoRecord", {"x": "y"}, ["Path: .value.values()"]),
    ("echoUnion", True, ["Value: true", "Validator: v.union(v.string(), v.float64())"]),
    ("echoNested", {"list": [{"n": 1}, {}]}, ["missing the required field `n`", "Path: .value.list[1]"]),
]


def test_every_validator_accepts_what_it_should_and_explains_what_it_refuses(
    tmp_path: Path, app: App
) -> None:
    async def body(d: Deployment) -> None:
        for name, value in GOOD:
            assert await d.query(f"values:{name}", {"value": value}) == value, name
        for name, value, fragments in BAD:
            text = await d.query_error(f"values:{name}", {"value": value})
            assert text.startswith("ArgumentValidationError: "), (name, text)
            for fragment in fragments:
                assert fragment in text, (name, fragment, text)
        account = await d.mutation("bank:open", {"name": "ada", "balance": 1})
        assert await d.query("values:echoId", {"value": account}) == account
        message = await d.mutation("behaviour:send", {"channel": "c", "body": "b"})
        text = await d.query_error("values:echoId", {"value": message})
        assert f'Found ID "{message}" from table `messages`' in text

    run(tmp_path, app, body)


def test_argument_objects_are_checked_as_a_whole(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        missing = await d.query_error("values:echoNumber", {})
        assert "missing the required field `value`" in missing
        assert "\n\nObject: {}\nValidator: v.object({value: v.float64()})" in missing
        assert "extra field `more`" in await d.query_error("values:echoNumber", {"value": 1, "more": 2})
        bad: list[Any] = [[], [{}, {}], 5, ["x"], "x"]
        for args in bad:
            text = await d.query_error("values:echoNumber", args)
            assert "Expected to receive a single object as the function's argument" in text
        assert await d.query("values:echoNumber", [{"value": 2}]) == 2.0
        assert await d.query("values:unchecked", {"whatever": [True]}) == {"whatever": [True]}
        odd = await d.query_error("values:unchecked", {"$bad": 1})
        assert odd.startswith("Invalid arguments for values:unchecked: ")

    run(tmp_path, app, body)


def test_results_are_canonical_and_checked(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        entry = await d.entry("values:echoAny", {"value": {"b": 1, "a": 2.5}})
        assert entry.value_json == b'{"a":2.5,"b":1.0}'
        assert await d.query("values:returnsNothing") is None
        text = await d.query_error("values:returnsString")
        assert text.startswith("ReturnsValidationError: ") and "Validator: v.string()" in text
        assert await d.query("values:returnsObject", {"extra": False}) == {"a": 1.0}
        assert "extra field `b`" in await d.query_error("values:returnsObject", {"extra": True})
        # A mutation that returns what it must not does not commit.
        assert (await d.mutation_error("values:mutationReturnsWrong")).startswith("ReturnsValidationError: ")
        assert await d.query("behaviour:countRows") == 0

    run(tmp_path, app, body)


def test_sizes(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.query_error("values:unchecked", {"x": ["y" * (1 << 20)] * 3})
        assert text.startswith("Arguments for values:unchecked are too large (actual: ")
        assert "limit: 2097152 bytes" in text
        text = await d.query_error("values:large", {"mib": 3})
        assert text.startswith("Function values:large return value is too large (actual: ")

    limits = Limits(function_args_bytes_max=2 << 20, function_result_bytes_max=2 << 20)
    run(tmp_path, app, body, limits=limits)


def test_functions_that_cannot_be_called(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        for path in (
            "behaviour:nothing",
            "nowhere:list",
            "behaviour:internalOnly",
            "_system/cli/tables",
            "schema",
        ):
            text = await d.query_error(path)
            shown = path
            assert text.startswith(f"Could not find public function for '{shown}'. "), text
        assert await d.query("behaviour:internalOnly", identity=ADMIN) == "internal"
        assert await d.query("behaviour:internalOnly", public=False) == "internal"
        text = await d.query_error("bank:open", {"name": "x", "balance": 0})
        assert text.startswith("Trying to execute bank.js:open as Query, but it is defined as Mutation."), (
            text
        )
        text = await d.mutation_error("bank:balance", {"name": "x"})
        assert text.startswith("Trying to execute bank.js:balance as Mutation, but it is defined as Query.")
        with pytest.raises(CvxError) as caught:
            await d.entry("not a path!")
        assert caught.value.code == "BadConvexFunctionIdentifier"
        text = await d.query_error("bank:balance", {"name": "x"}, component="nowhere", identity=ADMIN)
        assert text == "There is no component 'nowhere'.\n"
        wrong = await d.executor.action("bank:balance", b'{"name":"x"}', ADMIN, caller="Tester")
        assert wrong.error is not None and "defined as Query" in wrong.error.message

    run(tmp_path, app, body)


def test_any_function_runs_whatever_it_is(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        done = await d.executor.any_function("bank:increment", b'{"name":"n"}', ADMIN, caller="Tester")
        assert (done.value_json, done.ts is not None) == (b"1.0", True)
        found = await d.executor.any_function("behaviour:internalOnly", b"{}", ADMIN, caller="Tester")
        assert found.value_json == b'"internal"'
        missing = await d.executor.any_function("no:such", b"{}", ADMIN, caller="Tester")
        assert missing.error is not None
        assert missing.error.message.startswith("Could not find function for 'no:such'. ")

    run(tmp_path, app, body)


def test_thrown_errors_have_message_and_frames(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.query_error("behaviour:throwError")
        assert text.startswith("Uncaught TypeError: secret detail\n    at "), text
        assert "behaviour.ts:" in text and text.endswith("\n")

    run(tmp_path, app, body)


def test_convex_errors_carry_their_data(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        for data in ("text", {"code": 7.0, "big": INT_5}, [1.0], None, 0.0, False):
            entry = await d.entry("behaviour:throwData", {"data": data})
            assert entry.error is not None and entry.error.data_json is not None, data
            assert json.loads(entry.error.data_json) == data
            assert entry.error.message.startswith("Uncaught ConvexError: ")

    run(tmp_path, app, body)


def test_redaction_hides_text_and_logs_but_not_data(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        entry = await d.entry("behaviour:throwError")
        assert entry.error is not None
        assert entry.error.client_text("ab") == "[Request ID: ab] Server Error"
        entry = await d.entry("behaviour:throwData", {"data": "kept"})
        assert entry.error is not None and entry.error.data_json == b'"kept"'
        logged = await d.entry("behaviour:logs")
        assert logged.log_lines == []
        # The deployment's own log keeps everything.
        calls, _ = d.executor.log.calls(0)
        assert [line.pretty() for line in calls[-1].log_lines] != []

    run(tmp_path, app, body, redacted=True)


def test_log_lines(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        entry = await d.entry("behaviour:logs")
        assert entry.log_lines == ["[LOG] 'hello' {\n  n: 1\n}", "[WARN] 'careful'"]
        calls, cursor = d.executor.log.calls(0)
        call = calls[-1]
        made = call.entry(structured=True)
        assert made["identifier"] == "behaviour:logs"
        assert (made["udfType"], made["caller"], made["cachedResult"]) == ("Query", "Tester", False)
        assert made["logLines"][0]["messages"] == ["'hello'", "{\n  n: 1\n}"]
        assert call.entry(structured=False)["logLines"] == entry.log_lines
        await d.entry("behaviour:logs")
        later, _ = d.executor.log.calls(cursor)
        assert [c.cached for c in later] == [True]

    run(tmp_path, app, body)


def test_nobody_awaits_but_it_happens(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.mutation("behaviour:unawaited") == "done"
        assert await d.query("nested:listTags") == ["unawaited"]

    run(tmp_path, app, body)


def test_identity(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.query("behaviour:whoami") is None
        ada = user_from_attributes({"issuer": "https://i", "subject": "ada", "name": "Ada"})
        expected = {
            "issuer": "https://i",
            "name": "Ada",
            "subject": "ada",
            "tokenIdentifier": "https://i|ada",
        }
        assert await d.query("behaviour:whoami", identity=ada) == expected
        assert await d.query("behaviour:whoami", identity=Admin(acting_as=ada)) == expected
        assert await d.query("behaviour:whoami", identity=ADMIN) is None
        bob = user_from_attributes({"issuer": "https://i", "subject": "bob"})
        assert (await d.query("behaviour:whoami", identity=bob))["subject"] == "bob"

    run(tmp_path, app, body)


def test_the_environment_is_read_live(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        async def change(name: str, value: str | None) -> None:
            await d.db.run(
                ADMIN,
                lambda tx: environment.change_environment(tx, [EnvironmentChange(name, value)], Limits()),
                write_source="test",
            )

        color = await d.entry("behaviour:environment", {"name": "COLOR"})
        other = await d.entry("behaviour:environment", {"name": "OTHER"})
        url = await d.entry("behaviour:environment", {"name": "CONVEX_CLOUD_URL"})
        assert (color.value_json, other.value_json) == (b"null", b"null")
        assert url.value_json == b'"http://127.0.0.1:3210"'
        await change("COLOR", "red")
        assert color.invalid_since is not None
        assert other.invalid_since is None and url.invalid_since is None
        assert await d.query("behaviour:environment", {"name": "COLOR"}) == "red"
        red = await d.entry("behaviour:environment", {"name": "COLOR"})
        await change("COLOR", "red")  # The same value: nothing is written, nobody is woken.
        assert red.invalid_since is None
        await change("COLOR", None)
        again: Any = red
        assert again.invalid_since is not None
        assert await d.query("behaviour:environment", {"name": "COLOR"}) is None

    run(tmp_path, app, body)


def test_ids_are_normalised(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        account = await d.mutation("bank:open", {"name": "ada", "balance": 1})
        assert await d.query("behaviour:normalize", {"table": "accounts", "id": account}) == account
        for table, id in (
            ("messages", account),
            ("nowhere", account),
            ("accounts", "nonsense"),
        ):
            assert await d.query("behaviour:normalize", {"table": table, "id": id}) is None
        private = {"table": "_modules", "id": account}
        assert await d.query("behaviour:systemNormalize", private) is None

    run(tmp_path, app, body)


def test_reading_by_id(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        account = await d.mutation("bank:open", {"name": "ada", "balance": 1})
        document = await d.query("bank:get", {"id": account})
        assert (document["_id"], document["name"], document["balance"]) == (account, "ada", 1.0)
        text = await d.query_error("behaviour:getAny", {"id": "nonsense"})
        assert "Invalid argument `id` for `db.get`" in text
        text = await d.query_error("behaviour:systemGet", {"id": account})
        assert "`db.system.get`" in text

    run(tmp_path, app, body)


def test_system_tables_of_users_exist_and_are_empty(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.query("behaviour:systemRows") == {"files": [], "jobs": []}
        storage_id = "kg2000820c20a1g7104gm2rc1m70y674"
        job_id = "kc2000820c20a1g7104gm2rc1m70y5yj"
        assert await d.query("behaviour:systemGet", {"id": storage_id}) is None
        assert await d.query("behaviour:systemGet", {"id": job_id}) is None
        assert (
            await d.query("behaviour:systemNormalize", {"table": "_storage", "id": storage_id}) == storage_id
        )
        assert "db.get" in await d.query_error("behaviour:getAny", {"id": storage_id})

    run(tmp_path, app, body)


def test_what_is_refused(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.query_error("behaviour:writeInQuery")
        assert "queries cannot write" in text
        text = await d.query_error("behaviour:unknownSyscall")
        assert "Unknown async operation 1.0/nonsense" in text
        text = await d.mutation_error("behaviour:sendBadly")
        assert "does not match the schema" in text
        assert await d.query("behaviour:countInternal", {"table": "messages"}) == 0

    run(tmp_path, app, body)


def test_counts(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.query("behaviour:countInternal", {"table": "anything"}) == 0
        await d.mutation("behaviour:fill", {"count": 12, "size": 10})
        assert await d.query("behaviour:countInternal", {"table": "anything"}) == 12
        assert await d.query("behaviour:countInternal", {"table": "nowhere"}) == 0

    run(tmp_path, app, body)


def test_metadata(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        seen = await d.query("behaviour:metadata")
        assert seen["fn"]["name"] == "behaviour:metadata"
        assert seen["deployment"]["name"] == "test-otter-1"
        assert seen["metrics"]["documentsRead"] == {"used": 0.0, "remaining": 32_000.0}

    run(tmp_path, app, body)


@pytest.mark.parametrize(
    ("limits", "path", "args", "message"),
    [
        (
            Limits(documents_read_max=30),
            "behaviour:collectAll",
            {},
            "Too many documents read in a single function execution (limit: 30)",
        ),
        (
            Limits(read_bytes_max=10_000),
            "behaviour:collectAll",
            {},
            "Too many bytes read in a single function execution (limit: 10000 bytes)",
        ),
        (
            Limits(read_intervals_max=25),
            "behaviour:readMany",
            {"repeat": 30},
            "Too many reads in a single function execution (limit: 25 index ranges)",
        ),
    ],
)
def test_queries_have_limits(
    tmp_path: Path, app: App, limits: Limits, path: str, args: dict[str, Any], message: str
) -> None:
    async def body(d: Deployment) -> None:
        ids = [await d.mutation("nested:insertNow", {"text": "x" * 400}) for _ in range(40)]
        if "repeat" in args:
            text = await d.query_error(path, {"ids": ids[: args["repeat"]]})
        else:
            text = await d.query_error(path, args)
        assert text.startswith(f"Uncaught Error: {message}"), text
        assert await d.query("behaviour:readFirst", {"count": 10}) == 10

    run(tmp_path, app, body, limits=limits)


@pytest.mark.parametrize("wanted", [-1, 990], ids=["nothing", "one"])
def test_a_filter_that_lets_hardly_anything_pass_holds_up_nobody(
    tmp_path: Path, app: App, monkeypatch: pytest.MonkeyPatch, wanted: int
) -> None:
    limits = Limits(scan_turn_rows=32, scan_batch_rows=64, scan_batch_rows_max=64)
    original = QueryStream.next_page
    looked: list[tuple[int, int]] = []  # Turns of somebody else so far, and rows looked at.
    turns = 0

    def next_page(stream: QueryStream, want: int, *, rows_max: int | None = None) -> tuple[list[bytes], bool]:
        page = original(stream, want, rows_max=rows_max)
        if stream._counted:
            looked.append((turns, stream._rows_read))
        return page

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def body(d: Deployment) -> None:
        await d.mutation("behaviour:fill", {"count": 1000, "size": 1})
        monkeypatch.setattr(QueryStream, "next_page", next_page)
        ticking = asyncio.ensure_future(others())
        entry = await d.entry("behaviour:numbered", {"i": float(wanted)})
        ticking.cancel()
        assert value_of(entry) == ([] if wanted < 0 else [float(wanted)])
        assert len(looked) >= 10 and looked[-1][1] == 1000
        for (turn, rows), (next_turn, next_rows) in pairwise(looked):
            assert next_turn > turn and next_rows - rows <= 2 * 64
        calls, _ = d.executor.log.calls(0)
        used = calls[-1].usage
        assert used is not None and used.documents_read == 1000

    run(tmp_path, app, body, limits=limits)


def test_mutations_have_limits(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.mutation_error("behaviour:fill", {"count": 60, "size": 1})
        assert "Too many documents written in a single function execution (limit: 50)" in text
        text = await d.mutation_error("behaviour:fill", {"count": 40, "size": 1000})
        assert "Too many bytes written in a single function execution (limit: 20000 bytes)" in text
        assert await d.query("behaviour:countInternal", {"table": "anything"}) == 0
        # The error can be caught; what was written before it stays.
        caught = await d.mutation("behaviour:catchLimit", {"count": 60})
        assert caught.startswith("Too many documents written")
        assert await d.query("behaviour:countInternal", {"table": "anything"}) == 50

    run(tmp_path, app, body, limits=Limits(documents_written_max=50, written_bytes_max=20_000))


def test_near_a_limit_there_is_a_warning(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        await d.mutation("behaviour:fill", {"count": 60, "size": 1})
        calm = await d.entry("behaviour:readFirst", {"count": 40})
        assert calm.log_lines == []
        near = await d.entry("behaviour:readFirst", {"count": 41})
        assert near.log_lines == [
            "[WARN] Near the limit of one function execution: 41 documents read (limit: 50)."
        ]
        calls, _ = d.executor.log.calls(0)
        assert calls[-1].log_lines[0].structured()["systemMetadata"] == {
            "code": "warning:TooManyDocumentsRead"
        }

    run(tmp_path, app, body, limits=Limits(documents_read_max=50))


def test_there_is_an_end_to_logging(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert len((await d.entry("behaviour:logMany", {"count": 255})).log_lines) == 255
        many = (await d.entry("behaviour:logMany", {"count": 300})).log_lines
        assert len(many) == 256
        assert many[-1].startswith("[ERROR] ") and "256" in many[-1]

    run(tmp_path, app, body)


def test_after_a_throw_nothing_more_happens(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert "thrown" in await d.mutation_error("behaviour:unawaitedThenThrow")
        assert await d.query("behaviour:countInternal", {"table": "anything"}) == 0

    run(tmp_path, app, body)
