"""Query cache and subscriptions: results live exactly as long as what they read, code and environment included."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cvx.backend.auth import ANONYMOUS, SYSTEM, user_from_attributes
from cvx.backend.functions import QueryEntry
from cvx.backend.functions.query_cache import QueryKey
from cvx.errors import CvxError
from cvx.values import DocumentId, FunctionPath
from tests.functions.deployment import App, Deployment
from tests.functions.test_calls import ADMIN, run

pytestmark = pytest.mark.deno

BALANCE = "bank:balance"


def executions(d: Deployment) -> int:
    calls, _ = d.executor.log.calls(0)
    return sum(1 for call in calls if call.kind == "query" and not call.cached)


def test_a_result_is_shared_until_something_it_read_changes(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        await d.mutation("bank:open", {"name": "ada", "balance": 10})
        await d.mutation("bank:open", {"name": "bob", "balance": 0})
        first = await d.entry(BALANCE, {"name": "ada"})
        assert await d.entry(BALANCE, {"name": "ada"}) is first
        fallen: list[QueryEntry] = []
        first.watch(fallen.append)
        await d.mutation("bank:open", {"name": "eve", "balance": 5})  # Beside what it read.
        assert fallen == [] and await d.entry(BALANCE, {"name": "ada"}) is first
        await d.mutation("bank:transfer", {"from": "ada", "to": "bob", "amount": 3})
        assert fallen == [first]
        assert not first.valid_at(d.db.latest_ts) and first.valid_at(first.ts)
        second = await d.entry(BALANCE, {"name": "ada"})
        assert second.value_json == b"7.0" and second.result_hash != first.result_hash

    run(tmp_path, app, body)


def test_a_query_that_found_nothing_wakes_when_it_appears(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        entry = await d.entry(BALANCE, {"name": "new"})
        assert entry.value_json == b"null"
        await d.mutation("bank:open", {"name": "new", "balance": 1})
        assert entry.invalid_since is not None
        assert await d.query(BALANCE, {"name": "new"}) == 1.0

    run(tmp_path, app, body)


@pytest.mark.parametrize("path", ["behaviour:normalize", "behaviour:idOfLater"])
def test_what_names_a_table_that_is_not_there_wakes_when_it_is(tmp_path: Path, app: App, path: str) -> None:
    async def body(d: Deployment) -> None:
        id = str(DocumentId(d.db.catalog.next_number(""), bytes(16)))
        entry = await d.entry(path, {"table": "later", "id": id})
        fallen: list[QueryEntry] = []
        entry.watch(fallen.append)
        await d.db.run(SYSTEM, lambda tx: tx.insert("later", {}))
        assert fallen == [entry]
        assert await d.query(path, {"table": "later", "id": id}) == id

    run(tmp_path, app, body)


def test_one_execution_serves_everybody_who_asks_at_once(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        await d.mutation("bank:open", {"name": "ada", "balance": 1})
        before = executions(d)
        users = [user_from_attributes({"issuer": "i", "subject": str(n)}) for n in range(20)]
        entries = await asyncio.gather(*(d.entry(BALANCE, {"name": "ada"}, identity=user) for user in users))
        assert len({id(entry) for entry in entries}) == 1
        assert executions(d) == before + 1

    run(tmp_path, app, body)


def test_who_waits_for_a_run_that_came_too_late_runs_it(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        await d.mutation("bank:open", {"name": "ada", "balance": 1})
        cache, ts = d.executor.cache, d.db.latest_ts
        key = QueryKey(FunctionPath.parse(BALANCE), b'{"name":"ada"}', None, False)
        other = cache.begin(key, ANONYMOUS.cache_key(), ts)
        waiting = asyncio.create_task(d.query(BALANCE, {"name": "ada"}))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        cache.finish(key, other, CvxError("SnapshotTooOld", "Too old.", kind="out_of_retention"))
        assert await waiting == 1.0

    run(tmp_path, app, body)


def test_results_that_depend_on_the_caller_are_kept_apart(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        ada, bob = (user_from_attributes({"issuer": "i", "subject": name}) for name in ("ada", "bob"))
        results = await asyncio.gather(
            *(d.query("behaviour:whoami", identity=user) for user in (ada, bob, ada, ANONYMOUS, bob))
        )
        assert [r and r["subject"] for r in results] == ["ada", "bob", "ada", None, "bob"]
        entry = await d.entry("behaviour:whoami", identity=ada)
        assert await d.entry("behaviour:whoami", identity=ada) is entry
        assert await d.entry("behaviour:whoami", identity=bob) is not entry

    run(tmp_path, app, body)


def test_a_failure_is_not_cached_but_wakes_like_a_value(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        missing = await d.entry("later:list")
        assert missing.error is not None
        fallen: list[QueryEntry] = []
        missing.watch(fallen.append)
        source = (
            'const f = () => {}; f.isQuery = true; f.isPublic = true; f.exportArgs = () => \'{"type":"any"}\';'
            "f.exportReturns = () => 'null'; f.invokeQuery = async () => '\"now it is there\"'; export const list = f;"
        )
        await d.push(app.with_module("later.js", source))
        assert fallen == [missing]
        assert await d.query("later:list") == "now it is there"

    run(tmp_path, app, body)


def test_a_push_wakes_only_what_ran_changed_code(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        template = (
            'const f = () => {{}}; f.isQuery = true; f.isPublic = true; f.exportArgs = () => \'{{"type":"any"}}\';'
            "f.exportReturns = () => 'null'; f.invokeQuery = async () => '{}'; export const get = f;"
        )
        with_one = app.with_module("one.js", template.format("1")).with_module("two.js", template.format("2"))
        await d.push(with_one)
        one, two = await d.entry("one:get"), await d.entry("two:get")
        await d.push(with_one.with_module("one.js", template.format("11")))
        assert one.invalid_since is not None and two.invalid_since is None
        assert await d.query("one:get") == 11.0
        assert await d.entry("two:get") is two
        await d.push(with_one.with_module("one.js", template.format("11")))  # The same code again.
        assert two.invalid_since is None
        await d.push(app)
        assert (await d.query_error("one:get")).startswith("Could not find public function")

    run(tmp_path, app, body)


def test_unwatching_is_final(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        entry = await d.entry(BALANCE, {"name": "x"})
        fallen: list[QueryEntry] = []
        unwatch = entry.watch(fallen.append)
        unwatch()
        unwatch()
        await d.mutation("bank:open", {"name": "x", "balance": 1})
        assert fallen == []
        late: list[QueryEntry] = []
        entry.watch(late.append)  # It has fallen already.
        assert late == [entry]

    run(tmp_path, app, body)


def test_a_mutation_in_between_runs_later_askers_again(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        await d.mutation("bank:open", {"name": "ada", "balance": 1})
        old = d.db.snapshot()
        await d.mutation("bank:increment", {"name": "n"})
        await d.mutation("bank:open", {"name": "bob", "balance": 2})
        with old:
            past = await d.entry(BALANCE, {"name": "bob"}, snapshot=old)
        assert past.value_json == b"null"
        assert await d.query(BALANCE, {"name": "bob"}) == 2.0

    run(tmp_path, app, body)


def test_pages_stay_gapless_through_their_journal(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        async def send(body_: str) -> None:
            await d.mutation("behaviour:send", {"channel": "c", "body": body_})

        for n in range(6):
            await send(f"m{n}")
        args = {"channel": "c", "paginationOpts": {"numItems": 3, "cursor": None}}
        first = await d.entry("behaviour:page", args)
        assert first.journal is not None
        page = await d.query("behaviour:page", args)
        assert [row["body"] for row in page["page"]] == ["m0", "m1", "m2"]
        assert page["isDone"] is False
        second = await d.query(
            "behaviour:page",
            {"channel": "c", "paginationOpts": {"numItems": 3, "cursor": page["continueCursor"]}},
        )
        assert [row["body"] for row in second["page"]] == ["m3", "m4", "m5"]
        # Re-run with its journal, the page ends where it ended: m3 is not pulled in when a row goes.
        rerun = await d.entry("behaviour:page", args, journal=first.journal)
        assert rerun.value_json == first.value_json and rerun.journal == first.journal
        text = await d.query_error("behaviour:twoPages")
        assert "multiple paginated queries" in text
        text = await d.query_error(
            "behaviour:page", {"channel": "c", "paginationOpts": {"numItems": 0, "cursor": None}}
        )
        assert text.startswith("Uncaught ")
        foreign = {"channel": "other", "paginationOpts": {"numItems": 3, "cursor": page["continueCursor"]}}
        entry = await d.entry("behaviour:page", foreign)
        assert entry.error is not None and "InvalidCursor" in entry.error.message
        assert (
            entry.error.data_json is not None
            and b'"paginationError":"InvalidCursor"' in entry.error.data_json
        )

    run(tmp_path, app, body)


def test_results_that_saw_the_clock_expire(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        seen = await d.entry("behaviour:now")
        assert seen.expires_at is not None
        other = await d.entry(BALANCE, {"name": "x"})
        assert other.expires_at is None

    run(tmp_path, app, body)


def test_system_functions_are_reactive_queries(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        options = {"paginationOpts": {"numItems": 100, "cursor": None}}
        tables = await d.query("_system/cli/tables", options, identity=ADMIN)
        assert [row["name"] for row in tables["page"]] == ["accounts", "anything", "counters", "messages"]
        size = await d.entry("_system/cli/tableSize", {"tableName": "accounts"}, identity=ADMIN)
        assert size.value_json == b"0.0"
        change = await d.entry("_system/cli/queryTable", {"tableName": "accounts"}, identity=ADMIN)
        account = await d.mutation("bank:open", {"name": "ada", "balance": 1})
        assert size.invalid_since is not None and change.invalid_since is not None
        again = await d.entry("_system/cli/queryTable", {"tableName": "accounts"}, identity=ADMIN)
        assert again.value_json != change.value_json
        data = await d.query(
            "_system/cli/tableData", {"table": "accounts", "order": "desc", **options}, identity=ADMIN
        )
        assert [row["_id"] for row in data["page"]] == [account]
        spec = await d.query("_system/cli/modules:apiSpec", identity=ADMIN)
        found = {item["identifier"]: item for item in spec}["bank.js:open"]
        assert found["functionType"] == "Mutation" and found["visibility"] == {"kind": "public"}
        assert found["returns"] == {"type": "id", "tableName": "accounts"}
        assert await d.query("_system/cli/convexUrl:cloudUrl", identity=ADMIN) == "http://127.0.0.1:3210"
        schemas = await d.query("_system/frontend/getSchemas", identity=ADMIN)
        assert '"accounts"' in schemas["active"]
        assert await d.query("_system/frontend/components:list", identity=ADMIN) == []
        assert (await d.query_error("_system/cli/nothing", identity=ADMIN)).startswith(
            "Could not find function"
        )
        assert "ArgumentValidationError" in await d.query_error("_system/cli/tableSize", {}, identity=ADMIN)

    run(tmp_path, app, body)
