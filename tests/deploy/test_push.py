"""Pushes end to end over HTTP: what is visible when, and what happens when two things happen at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from cvx.backend.config import Limits
from tests.backend_process import BackendProcess
from tests.deploy.pushing import KEY, Client, push_body, run, running, sha256

pytestmark = [pytest.mark.deno, pytest.mark.node]

HEAD = 'import { internalMutationGeneric, mutationGeneric as mutation, queryGeneric as query } from "convex/server";\nimport { v } from "convex/values";\n'
ROWS = (
    HEAD
    + """
export const add = mutation({ args: { count: v.number() }, handler: async (ctx, { count }) => {
  for (let i = 0; i < count; i++) await ctx.db.insert("rows", { n: i, even: i % 2 === 0 });
} });
export const put = mutation(async (ctx, fields) => await ctx.db.insert("rows", fields));
export const all = query(async (ctx) => (await ctx.db.query("rows").collect()).length);
"""
)
BY_N = (
    HEAD
    + 'export const at = query(async (ctx, { n }) => (await ctx.db.query("rows").withIndex("by_n", (q) => q.eq("n", n)).collect()).length);\n'
)


def schema(fields: str, *indexes: str, options: str = "") -> str:
    chain = "".join(indexes)
    return (
        'import { defineSchema, defineTable } from "convex/server";\nimport { v } from "convex/values";\n'
        f"export default defineSchema({{ rows: defineTable({fields}){chain} }}{options});\n"
    )


LOOSE = schema("v.any()")
NUMBERED = "{ n: v.number(), even: v.boolean() }"
BASE = {"rows.ts": ROWS, "schema.ts": LOOSE}


def test_a_push_is_invisible_until_it_is_finished(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        started = await client.start(BASE)
        assert await client.waited(started) == {"type": "complete"}
        assert "Could not find public function for 'rows:all'" in await client.failure("query", "rows:all")
        assert (await client.hashes())["moduleHashes"] == []
        diff = await client.finish(started)
        component = diff["componentDiffs"][""]
        assert "rows.js" in component["moduleDiff"]["added"]
        assert component["schemaDiff"]["previous_schema"] is None
        assert await client.call("query", "rows:all") == 0
        deployed = {item["path"]: item["hash"] for item in (await client.hashes())["moduleHashes"]}
        assert deployed == {m["path"]: sha256(m) for m in push_body(BASE)["appDefinition"]["changedModules"]}
        assert (await client.hashes())["udfServerVersion"] == "1.48.0"
        assert await client.ok("/api/deploy2/report_push_completed", {"adminKey": KEY, "spans": []}) == {}

    run(tmp_path, test)


def test_the_answer_of_start_describes_the_code(tmp_path: Path) -> None:
    files = BASE | {
        "http.ts": 'import { httpRouter, httpActionGeneric } from "convex/server";\n'
        "const http = httpRouter();\n"
        'http.route({ path: "/hi", method: "GET", handler: httpActionGeneric(async () => new Response()) });\n'
        'http.route({ pathPrefix: "/x/", method: "POST", handler: httpActionGeneric(async () => new Response()) });\n'
        "export default http;\n",
        "crons.ts": 'import { cronJobs, makeFunctionReference } from "convex/server";\nconst crons = cronJobs();\n'
        'crons.daily("clean", { hourUTC: 4, minuteUTC: 5 }, makeFunctionReference("rows:add"), { count: 1 });\n'
        "export default crons;\n",
        "lib/shared.ts": "export const helper = () => 1;\n",
        "schema.ts": schema(NUMBERED, '.index("by_n", ["n"])'),
    }

    async def test(client: Client) -> None:
        started = await client.start(files)
        root = started["analysis"][""]
        functions = root["functions"]
        assert functions["lib/shared.js"]["functions"] == []
        assert [f["name"] for f in functions["rows.js"]["functions"]] == ["add", "put", "all"], "source order"
        add = functions["rows.js"]["functions"][0]
        assert (add["udfType"], add["visibility"]) == ("Mutation", {"kind": "public"})
        assert (
            add["args"]
            == '{"type":"object","value":{"count":{"fieldType":{"type":"number"},"optional":false}}}'
        )
        assert add["pos"]["start_lineno"] == 4
        routes = [
            (item["route"]["method"], item["route"]["path"]) for item in functions["http.js"]["httpRoutes"]
        ]
        assert routes == [("GET", "/hi"), ("POST", "/x/*")]
        assert started["app"]["httpRoutes"]["httpModuleRoutes"] == [
            {"path": "/hi", "method": "GET"}, {"path": "/x/*", "method": "POST"},
        ]  # fmt: skip
        [cron] = functions["crons.js"]["cronSpecs"]
        assert cron["spec"]["cronSchedule"] == {"type": "daily", "hourUTC": 4, "minuteUTC": 5}
        [table] = root["schema"]["tables"]
        assert table["indexes"] == [{"indexDescriptor": "by_n", "fields": ["n", "_creationTime"]}]
        assert root["definition"]["definitionType"] == {"type": "app"}
        assert root["udfConfig"]["serverVersion"] == "1.48.0"
        assert started["schemaChange"]["indexDiffs"][""]["added_indexes"] == [
            {"type": "database", "name": "rows.by_n", "staged": False, "fields": ["n", "_creationTime"]}
        ]
        assert started["environmentVariables"] == {}
        diff = await client.finish(started) if await client.waited(started) else {}
        assert diff["componentDiffs"][""]["cronDiff"] == {"added": ["clean"], "updated": [], "deleted": []}
        without = {name: text for name, text in files.items() if name != "crons.ts"}
        assert (await client.push(without))["componentDiffs"][""]["cronDiff"]["deleted"] == ["clean"]

    run(tmp_path, test)


def test_unchanged_modules_are_taken_by_hash_or_refused(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.push(BASE)
        modules = push_body(BASE)["appDefinition"]["changedModules"]
        hashes = [{"path": m["path"], "environment": "isolate", "sha256": sha256(m)} for m in modules]
        extra = {"path": "extra.js", "source": modules[0]["source"], "environment": "isolate"}

        def body(changed: list[dict[str, str]], unchanged: list[dict[str, str]]) -> dict[str, object]:
            out = push_body(BASE)
            out["appDefinition"] |= {"changedModules": changed, "unchangedModuleHashes": unchanged}
            return out

        started = await client.ok("/api/deploy2/start_push", body([], hashes))
        await client.waited(started)
        diff = await client.finish(started)
        assert diff["componentDiffs"][""]["moduleDiff"] == {"added": [], "removed": []}
        assert await client.call("query", "rows:all") == 0
        for change, code in (
            ({"path": "nothing.js"}, "MissingExistingModule"),
            ({"sha256": "00" * 32}, "ExistingModuleHashConflict"),
        ):
            refused = await client.refused("/api/deploy2/start_push", body([], [hashes[0] | change]), 409)
            assert refused["code"] == code
        assert extra["path"] == "extra.js"

    run(tmp_path, test)


def test_a_module_that_is_gone_takes_its_functions_along(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.push(BASE | {"more.ts": HEAD + "export const one = query(() => 1);"})
        assert await client.call("query", "more:one") == 1
        diff = await client.push(BASE)
        assert "more.js" in diff["componentDiffs"][""]["moduleDiff"]["removed"]
        assert "Could not find public function for 'more:one'" in await client.failure("query", "more:one")
        assert await client.call("query", "rows:all") == 0

    run(tmp_path, test)


def test_a_schema_that_rows_violate_fails_and_changes_nothing(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.push(BASE)
        await client.call("mutation", "rows:add", {"count": 1500})
        odd = await client.call("mutation", "rows:put", {"n": "three"})
        strict = {"rows.ts": ROWS, "schema.ts": schema("{ n: v.number(), even: v.optional(v.boolean()) }")}
        started = await client.start(strict)
        status = await client.waited(started)
        assert (status["type"], status["componentPath"], status["tableName"]) == ("failed", "", "rows")
        assert status["error"].startswith(
            f'Document with ID "{odd}" in table "rows" does not match the schema: Value does not match validator.\n'
            'Path: .n\nValue: "three"\nValidator: v.float64()'
        )
        refused = await client.refused_finish(started)
        assert refused["code"] == "SchemaValidationFailed"
        assert await client.call("mutation", "rows:put", {"free": True}), "the old schema still holds"
        await client.push(
            BASE
            | {
                "schema.ts": schema(
                    "{ n: v.optional(v.any()), even: v.any(), free: v.any() }",
                    options=", { schemaValidation: false }",
                )
            }
        )
        wide = "v.object({ n: v.optional(v.union(v.number(), v.string())), even: v.optional(v.boolean()), free: v.optional(v.boolean()) })"
        await client.push({"rows.ts": ROWS, "schema.ts": schema(wide)})
        failed = await client.failure("mutation", "rows:put", {"n": True})
        assert 'Failed to insert or update a document in table "rows"' in failed

    run(tmp_path, test)


def test_a_write_that_breaks_the_pending_schema_succeeds_and_fails_the_push(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.push(BASE)
        started = await client.start({"rows.ts": ROWS, "schema.ts": schema(NUMBERED)})
        assert await client.waited(started) == {"type": "complete"}
        new = await client.call("mutation", "rows:put", {"n": "late"})
        status = await client.wait(started)
        assert status["type"] == "failed"
        assert new in status["error"]
        assert (await client.refused_finish(started))["code"] == "SchemaValidationFailed"
        assert await client.call("query", "rows:all") == 1

    run(tmp_path, test)


def test_a_later_start_overwrites_the_schema_of_an_earlier_one(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        first = await client.start({"rows.ts": ROWS, "schema.ts": schema(NUMBERED, '.index("by_n", ["n"])')})
        second = await client.start(
            {"rows.ts": ROWS, "schema.ts": schema(NUMBERED, '.index("by_n", ["even"])')}
        )
        assert await client.wait(first) == {"type": "raceDetected"}
        assert (await client.refused_finish(first, 409))["code"] == "RaceDetected"
        assert await client.waited(second) == {"type": "complete"}
        diff = await client.finish(second)
        assert [i["fields"] for i in diff["componentDiffs"][""]["indexDiff"]["added_indexes"]] == [
            ["even", "_creationTime"]
        ]

    run(tmp_path, test)


def test_a_waiting_push_hears_of_the_race_at_once(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.push(BASE)
        await client.call("mutation", "rows:add", {"count": 5000})
        first = await client.start(BASE | {"schema.ts": schema(NUMBERED)})
        waiting = asyncio.create_task(client.waited(first))
        await client.start(BASE | {"schema.ts": schema("{ n: v.number(), even: v.optional(v.boolean()) }")})
        assert (await asyncio.wait_for(waiting, 60))["type"] in ("raceDetected", "complete")
        assert (await client.refused_finish(first, 409))["code"] == "RaceDetected"

    run(tmp_path, test)


def test_pushes_that_finish_together_do_not_mix(tmp_path: Path) -> None:
    def version(name: str) -> dict[str, str]:
        return BASE | {
            "a.ts": HEAD + f'export const who = query(() => "{name}");',
            "b.ts": HEAD + f'export const who = query(() => "{name}");',
        }

    async def test(client: Client) -> None:
        for round in range(4):
            names = [f"x{round}", f"y{round}"]
            started = [await client.start(version(name)) for name in names]
            for each in started:
                await client.waited(each)
            answers = await asyncio.gather(
                *(client.post("/api/deploy2/finish_push", client.finish_body(each)) for each in started)
            )
            codes = [answer.json().get("code") for answer in answers if answer.status_code != 200]
            assert set(codes) <= {"ConcurrentPush"}
            assert len(codes) < 2
            who = {await client.call("query", "a:who"), await client.call("query", "b:who")}
            assert len(who) == 1
            assert who < set(names)

    run(tmp_path, test)


def test_an_index_is_built_while_writes_go_on(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.push(BASE)
        for _ in range(3):
            await client.call("mutation", "rows:add", {"count": 2000})
        writing = True

        async def write() -> int:
            added = 0
            while writing:
                await client.call("mutation", "rows:put", {"n": 7, "even": False})
                added += 1
            return added

        writers = [asyncio.create_task(write()) for _ in range(3)]
        files = {"rows.ts": ROWS, "by.ts": BY_N, "schema.ts": schema(NUMBERED, '.index("by_n", ["n"])')}
        started = await client.start(files)
        seen = []
        while True:
            status = await client.wait(started, 50)
            seen.append(status)
            if status["type"] != "inProgress":
                break
            shown = status["components"][""]
            assert shown["indexesTotal"] == 1
            for index in shown.get("building", ()):
                assert (index["table"], index["index"]) == ("rows", "by_n")
                assert 0 <= index["documentsDone"] <= index["documentsTotal"] or not index["documentsTotal"]
            assert bool(shown.get("building")) == (shown["indexesComplete"] == 0)
        assert status == {"type": "complete"}
        await client.finish(started)
        writing = False
        added = sum(await asyncio.gather(*writers))
        assert added > 0
        assert await client.call("query", "rows:all") == 6000 + added
        assert await client.call("query", "by:at", {"n": 7}) == 3 + added

    run(tmp_path, test)


def test_a_changed_index_keeps_answering_in_its_old_form_until_the_finish(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        old = {"rows.ts": ROWS, "by.ts": BY_N, "schema.ts": schema(NUMBERED, '.index("by_n", ["n"])')}
        await client.push(old)
        await client.call("mutation", "rows:add", {"count": 10})
        started = await client.start(old | {"schema.ts": schema(NUMBERED, '.index("by_n", ["even", "n"])')})
        diff = started["schemaChange"]["indexDiffs"][""]
        assert (
            [i["name"] for i in diff["added_indexes"]]
            == [i["name"] for i in diff["removed_indexes"]]
            == ["rows.by_n"]
        )
        await client.waited(started)
        assert await client.call("query", "by:at", {"n": 3}) == 1
        await client.finish(started)
        assert "rows.by_n" in await client.failure("query", "by:at", {"n": 3})

    run(tmp_path, test)


def test_a_staged_index_is_built_but_not_usable_and_goes_live_without_a_rebuild(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.push(BASE)
        await client.call("mutation", "rows:add", {"count": 100})
        staged = {
            "rows.ts": ROWS,
            "by.ts": BY_N,
            "schema.ts": schema(NUMBERED, '.index("by_n", { fields: ["n"], staged: true })'),
        }
        diff = (await client.push(staged))["componentDiffs"][""]["indexDiff"]
        assert [(i["name"], i["staged"]) for i in diff["added_indexes"]] == [("rows.by_n", True)]
        assert "staged" in await client.failure("query", "by:at", {"n": 3})
        diff = (await client.push(staged | {"schema.ts": schema(NUMBERED, '.index("by_n", ["n"])')}))[
            "componentDiffs"
        ][""]["indexDiff"]
        assert ([i["name"] for i in diff["enabled_indexes"]], diff["added_indexes"]) == (["rows.by_n"], [])
        assert await client.call("query", "by:at", {"n": 3}) == 1
        diff = (await client.push(staged))["componentDiffs"][""]["indexDiff"]
        assert [i["name"] for i in diff["disabled_indexes"]] == ["rows.by_n"]

    run(tmp_path, test)


def test_a_backend_killed_between_start_and_finish_answers_with_the_old_code(tmp_path: Path) -> None:
    new = BASE | {
        "rows.ts": ROWS.replace(".length", ".length + 1000"),
        "schema.ts": schema(NUMBERED, '.index("by_n", ["n"])'),
    }

    async def test() -> None:
        async with running(tmp_path) as client:
            await client.push(BASE)
            await client.call("mutation", "rows:add", {"count": 10})
            started = await client.start(new)
        async with running(tmp_path) as client:
            assert await client.call("query", "rows:all") == 10
            assert await client.waited(started) == {"type": "complete"}
            await client.finish(started)
            assert await client.call("query", "rows:all") == 1010
        async with running(tmp_path) as client:
            assert await client.call("query", "rows:all") == 1010

    asyncio.run(test())


def test_dry_runs_and_code_generation_leave_nothing_behind(tmp_path: Path) -> None:
    indexed = BASE | {"schema.ts": schema(NUMBERED, '.index("by_n", ["n"])')}

    async def test(client: Client) -> None:
        await client.push(BASE)
        ts = client.backend.services.db.latest_ts
        for flags in ({"dryRun": True}, {"forCodegen": True}):
            started = await client.start(indexed, **flags)
            assert [i["name"] for i in started["schemaChange"]["indexDiffs"][""]["added_indexes"]] == [
                "rows.by_n"
            ]
            assert await client.waited(started) == {"type": "complete"}
        evaluated = await client.ok("/api/deploy2/evaluate_push", push_body(indexed))
        assert [i["name"] for i in evaluated["schemaChange"]["indexDiffs"][""]["added_indexes"]] == [
            "rows.by_n"
        ]
        await client.ok("/api/deploy2/finish_push", client.finish_body(started) | {"dryRun": True})
        assert client.backend.services.db.latest_ts == ts

    run(tmp_path, test)


def test_evaluate_schema_says_what_it_would_cost(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.push(BASE)
        await client.call("mutation", "rows:add", {"count": 20})
        files = BASE | {"schema.ts": schema(NUMBERED, '.index("by_n", ["n"])')}
        evaluated = await client.ok("/api/deploy2/evaluate_schema", push_body(files))
        root = evaluated["componentSchemaEvaluations"][""]
        [table] = root["tables"]
        assert (table["name"], table["outcome"], table["numDocs"]) == ("rows", "mustWalk", 20)
        assert table["sizeBytes"] > 20 * 20
        [index] = root["indexes"]
        assert (index["name"], index["change"], index["needsBackfill"], index["numDocs"]) == (
            "rows.by_n",
            "added",
            True,
            20,
        )
        await client.push(files)
        root = (await client.ok("/api/deploy2/evaluate_schema", push_body(files)))[
            "componentSchemaEvaluations"
        ][""]
        assert root["tables"][0]["outcome"] == "supersetOfEnforced"
        assert root["indexes"][0]["change"] == "identical"
        root = (await client.ok("/api/deploy2/evaluate_schema", push_body(BASE)))[
            "componentSchemaEvaluations"
        ][""]
        assert (root["indexes"][0]["change"], root["indexes"][0]["numDocs"]) == ("dropped", 20)

    run(tmp_path, test)


def test_texts_of_replaced_modules_are_dropped(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        db = client.backend.services.db
        for version in range(4):
            await client.push({"one.ts": HEAD + f"export const v = query(() => {version});"})
            assert await client.call("query", "one:v") == version
        with db.snapshot() as snapshot:
            from cvx.backend.auth import SYSTEM

            tx = db.begin(SYSTEM, snapshot=snapshot, read_only=True)
            kept = {row["sha256"] for row in tx.all("_module_sources", privileged=True)}
            used = {row["sha256"] for row in tx.all("_modules", privileged=True)}
        assert kept == used

    run(tmp_path, test)


def test_unchanged_modules_are_analysed_again_only_when_something_they_use_changed(tmp_path: Path) -> None:
    files = BASE | {
        "env.ts": HEAD
        + "declare const process: any;\n"
        + "export const e = process.env.WIDE ? query({ args: { wide: v.string() }, handler: () => 1 }) : query({ args: {}, handler: () => 1 });\n",
        "other.ts": HEAD + "export const o = query(() => 1);\n",
    }

    async def test(client: Client) -> None:
        async def args(unchanged: set[str], chunk: str = "") -> str:
            """Push with these modules by hash; the declared arguments of env:e."""
            body = push_body(files)
            modules = body["appDefinition"]["changedModules"]
            by_hash = [m for m in modules if m["path"] in unchanged]
            sent = [m for m in modules if m["path"] not in unchanged]
            for module in sent:
                if module["path"].startswith("_deps/"):
                    module["source"] += chunk
            body["appDefinition"] |= {
                "changedModules": sent,
                "unchangedModuleHashes": [
                    {"path": m["path"], "environment": "isolate", "sha256": sha256(m)} for m in by_hash
                ],
            }
            started = await client.ok("/api/deploy2/start_push", body)
            await client.waited(started)
            await client.finish(started)
            return str(started["analysis"][""]["functions"]["env.js"]["functions"][0]["args"])

        everything = {m["path"] for m in push_body(files)["appDefinition"]["changedModules"]}
        assert "wide" not in await args(set())
        assert "wide" not in await args(everything)
        await client.set_environment(WIDE="1")
        assert "wide" in await args(everything), "the environment counts"
        chunks = {path for path in everything if path.startswith("_deps/")}
        broken = push_body(files)
        for module in broken["appDefinition"]["changedModules"]:
            if module["path"] in chunks:
                module["source"] = "throw new Error('broken chunk');\n"
        kept = [m for m in push_body(files)["appDefinition"]["changedModules"] if m["path"] not in chunks]
        broken["appDefinition"] |= {
            "changedModules": [m for m in broken["appDefinition"]["changedModules"] if m["path"] in chunks],
            "unchangedModuleHashes": [
                {"path": m["path"], "environment": "isolate", "sha256": sha256(m)} for m in kept
            ],
        }
        refused = await client.refused("/api/deploy2/start_push", broken)
        assert refused["code"] == "InvalidModules", "a chunk under the same name counts"

    run(tmp_path, test)


def test_texts_of_a_push_that_never_finished_are_forgotten(tmp_path: Path) -> None:
    def version(number: int) -> dict[str, str]:
        return {"one.ts": HEAD + f"export const v = query(() => {number});"}

    async def test() -> None:
        async with running(tmp_path, Limits(unfinished_push_s=0.0)) as client:
            await client.push(version(0))
            abandoned = await client.start(version(1))
            await client.push(version(2))
            refused = await client.refused_finish(abandoned, 409)
            assert refused["code"] == "RaceDetected"
            assert "one.js" in refused["message"]
            assert await client.call("query", "one:v") == 2

    asyncio.run(test())


def test_indexes_of_all_kinds_are_declared(tmp_path: Path) -> None:
    fields = "{ n: v.number(), body: v.string(), emb: v.array(v.float64()) }"
    chain = (
        '.index("by_n", ["n"])',
        '.searchIndex("text", { searchField: "body", filterFields: ["n"] })',
        '.vectorIndex("near", { vectorField: "emb", dimensions: 8, filterFields: ["n"] })',
    )

    async def test(client: Client) -> None:
        files = {"rows.ts": ROWS, "schema.ts": schema(fields, *chain)}
        diff = (await client.push(files))["componentDiffs"][""]["indexDiff"]
        assert {item["name"]: item["type"] for item in diff["added_indexes"]} == {
            "rows.by_n": "database", "rows.text": "search", "rows.near": "vector",
        }  # fmt: skip
        again = (await client.push(files))["componentDiffs"][""]
        assert (again["indexDiff"]["added_indexes"], again["schemaDiff"]) == ([], None)
        gone = await client.push({"rows.ts": ROWS})
        assert len(gone["componentDiffs"][""]["indexDiff"]["removed_indexes"]) == 3
        assert gone["componentDiffs"][""]["schemaDiff"]["next_schema"] is None
        await client.call("mutation", "rows:put", {"anything": 1})

    run(tmp_path, test)


def test_kill_9_between_start_and_finish(tmp_path: Path) -> None:
    """The real process: what was started survives, the old version answers, and the push can still finish."""

    def version(number: int) -> dict[str, Any]:
        return push_body({"one.ts": HEAD + f"export const v = query(() => {number});"})

    process = BackendProcess(tmp_path)
    process.start()
    try:
        key = process.admin_key

        def post(path: str, body: dict[str, Any]) -> Any:
            answer = httpx.post(process.url + path, json=body | {"adminKey": key}, timeout=60)
            assert answer.status_code == 200, answer.text
            return answer.json()

        for number in range(2):
            started = post("/api/deploy2/start_push", version(number))
            if number == 0:
                post("/api/deploy2/finish_push", {"startPush": started})
        process.kill()
        process.start()
        assert process.call("query", "one:v", {}) == 0
        post("/api/deploy2/finish_push", {"startPush": started})
        process.kill()
        process.start()
        assert process.call("query", "one:v", {}) == 1
    finally:
        process.stop()
