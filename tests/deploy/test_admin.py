"""The admin endpoints: environment variables, URLs, logs, one-off queries; and that each of them wants the key."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.pushing import KEY, NAME, Client, run
from tests.deploy.test_push import BASE, HEAD

pytestmark = [pytest.mark.deno, pytest.mark.node]
ADMIN = {"authorization": f"Convex {KEY}"}
CLI = ADMIN | {"convex-client": "npm-cli-1.48.0"}


def test_every_admin_endpoint_wants_the_key(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        for method, path in (
            ("POST", "/api/update_environment_variables"),
            ("POST", "/api/v1/update_environment_variables"),
            ("GET", "/api/v1/list_environment_variables"),
            ("GET", "/api/v1/get_canonical_urls"),
            ("POST", "/api/v1/update_canonical_url"),
            ("GET", "/api/stream_function_logs?cursor=0"),
            ("GET", "/api/stream_udf_execution?cursor=0"),
            ("GET", "/api/check_admin_key"),
            ("GET", "/api/shapes2"),
        ):
            nobody = await client.http.request(method, path)
            assert (nobody.status_code, nobody.json()["code"]) == (403, "BadDeployKey"), path
            wrong = await client.http.request(method, path, headers={"authorization": f"Convex {NAME}|0123"})
            assert (wrong.status_code, wrong.json()["code"]) == (401, "BadAdminKey"), path
        by_query = await client.http.get("/api/check_admin_key", params={"adminKey": KEY})
        assert by_query.json() == {"success": True, "allowedOps": [], "isReadOnly": False}
        body = {"adminKey": "x", "bundle": {"path": "testQuery.js", "source": ""}, "args": {}}
        assert (await client.refused("/api/run_test_function", body, 403))["code"] == "BadDeployKey"

    run(tmp_path, test)


def test_environment_variables(tmp_path: Path) -> None:
    read = HEAD + "declare const process: any;\nexport const a = query(() => process.env.A ?? null);\n"

    async def test(client: Client) -> None:
        await client.push(BASE | {"env.ts": read})
        assert await client.call("query", "env:a") is None
        assert (await client.set_environment(A="1", B="2")).content == b""
        assert await client.call("query", "env:a") == "1"
        listed = await client.http.get("/api/v1/list_environment_variables", headers=ADMIN)
        assert listed.json() == {"environmentVariables": {"A": "1", "B": "2"}}
        await client.set_environment(A=None, B="3")
        assert await client.call("query", "env:a") is None
        for changes, code in (
            ({"1A": "x"}, "EnvironmentVariableNameInvalid"),
            ({"A" * 300: "x"}, "EnvironmentVariableNameTooLong"),
            ({"A": "x" * 9000}, "EnvironmentVariableValueTooLarge"),
            ({"CONVEX_SITE_URL": "x"}, "EnvVarNameForbidden"),
            ({"OK": "x", "no-good": "x"}, "EnvironmentVariableNameInvalid"),
        ):
            assert (await client.set_environment(400, **changes)).json()["code"] == code
        twice = {"changes": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}
        answer = await client.post("/api/v1/update_environment_variables", twice, ADMIN)
        assert answer.json()["code"] == "EnvVarNameNotUnique"
        listed = await client.http.get("/api/v1/list_environment_variables", headers=ADMIN)
        assert listed.json() == {"environmentVariables": {"B": "3"}}, "all or nothing"

    run(tmp_path, test)


def test_canonical_urls(tmp_path: Path) -> None:
    read = (
        HEAD + "declare const process: any;\nexport const url = query(() => process.env.CONVEX_CLOUD_URL);\n"
    )

    async def test(client: Client) -> None:
        await client.push(BASE | {"env.ts": read})
        urls = await client.http.get("/api/v1/get_canonical_urls", headers=ADMIN)
        assert urls.json() == {
            "convexCloudUrl": "http://127.0.0.1:3210",
            "convexSiteUrl": "http://127.0.0.1:3211",
        }
        change = {"requestDestination": "convexCloud", "url": "https://cvx.example.com"}
        assert (await client.post("/api/v1/update_canonical_url", change, ADMIN)).status_code == 200
        assert await client.call("query", "env:url") == "https://cvx.example.com"
        back = {"requestDestination": "convexCloud", "url": None}
        assert (await client.post("/api/v1/update_canonical_url", back, ADMIN)).status_code == 200
        assert await client.call("query", "env:url") == "http://127.0.0.1:3210"
        bad = await client.post("/api/v1/update_canonical_url", {"requestDestination": "moon"}, ADMIN)
        assert (bad.status_code, bad.json()["code"]) == (400, "BadJsonBody")

    run(tmp_path, test)


def test_logs_are_a_true_long_poll(tmp_path: Path) -> None:
    talks = HEAD + 'export const say = mutation((ctx, { what }) => { console.warn("said", what); });\n'

    async def test(client: Client) -> None:
        async def logs(cursor: float, **options: Any) -> dict[str, Any]:
            headers = options.pop("headers", CLI)
            answer = await client.http.get(
                "/api/stream_function_logs", params={"cursor": cursor, **options}, headers=headers
            )
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        await client.push(BASE | {"talk.ts": talks})
        await client.call("mutation", "talk:say", {"what": "hello"})
        first = await logs(0)
        [entry] = [item for item in first["entries"] if item["identifier"] == "talk:say"]
        assert (entry["kind"], entry["udfType"], entry["caller"]) == ("Completion", "Mutation", "HttpApi")
        [line] = entry["logLines"]
        assert (line["messages"], line["level"], line["isTruncated"]) == (
            ["'said'", "'hello'"],
            "WARN",
            False,
        )
        assert abs(entry["timestamp"] - time.time()) < 60
        texts = await logs(0, headers=ADMIN)
        assert texts["entries"][-1]["logLines"] == ["[WARN] 'said' 'hello'"]
        older = await client.http.get("/api/stream_udf_execution", params={"cursor": 0}, headers=CLI)
        assert older.json()["entries"][-1]["logLines"] == ["[WARN] 'said' 'hello'"]

        waiting = asyncio.create_task(logs(first["newCursor"]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await client.call("mutation", "talk:say", {"what": "again"})
        second = await asyncio.wait_for(waiting, 20)
        assert [item["logLines"][0]["messages"] for item in second["entries"]] == [["'said'", "'again'"]]
        assert second["newCursor"] > first["newCursor"]
        for bad in ("", "x", "-1", "nan", "inf"):
            answer = await client.http.get("/api/stream_function_logs", params={"cursor": bad}, headers=CLI)
            assert (answer.status_code, answer.json()["code"]) == (400, "InvalidCursor")

    run(tmp_path, test)


def test_one_off_queries(tmp_path: Path) -> None:
    preamble = 'import { query, internalQuery } from "convex:/_system/repl/wrappers.js";\n'

    async def test(client: Client) -> None:
        async def ask(handler: str, *, module: str | None = None, args: Any = None) -> dict[str, Any]:
            source = (
                module
                if module is not None
                else f"export default query({{ handler: async (ctx, args) => {handler} }});"
            )
            bundle = {"path": "testQuery.js", "source": preamble + source}
            body = {"adminKey": KEY, "args": args or {}, "bundle": bundle, "format": "convex_encoded_json"}
            answer = await client.post("/api/run_test_function", body)
            return dict(answer.json()) | {"http": answer.status_code}

        await client.push(BASE)
        await client.call("mutation", "rows:add", {"count": 5})
        rows = 'ctx.db.query("rows")'
        for handler, expected in (
            (f"(await {rows}.collect()).length", 5.0),
            (f"(await {rows}.order('desc').first()).n", 4.0),
            (
                f"(await {rows}.filter(q => q.and(q.gt(q.field('n'), 1), q.eq(q.field('even'), true))).take(9)).map(d => d.n)",
                [2.0, 4.0],
            ),
            (
                f"(await {rows}.withIndex('by_creation_time').paginate({{ numItems: 2, cursor: null }})).page.length",
                2.0,
            ),
            (f"ctx.db.get((await {rows}.first())._id).then((d) => d.n)", 0.0),
            (f"{{ let n = 0; for await (const d of {rows}) n += d.n; return n; }}", 10.0),
            ("ctx.db.normalizeId('rows', 'x')", None),
            ("5n", {"$integer": "BQAAAAAAAAA="}),
            ("[1.5, NaN, new ArrayBuffer(1)]", [1.5, {"$float": "AAAAAAAA+H8="}, {"$bytes": "AA=="}]),
            ("undefined", None),
            ("ctx.auth.getUserIdentity()", None),
        ):
            answer = await ask(handler)
            assert answer["status"] == "success", (handler, answer)
            assert answer["value"] == expected, handler
        logged = await ask('{ console.log("hi", 1); return args.x; }', args={"x": "y"})
        assert (logged["value"], logged["logLines"]) == ("y", ["[LOG] 'hi' 1"])
        failed = await ask('{ throw new Error("oops"); }')
        assert failed["status"] == "error"
        assert "Uncaught Error: oops" in failed["errorMessage"]
        written = await ask('ctx.db.insert("rows", {})')
        assert "insert is not a function" in written["errorMessage"]
        sneaky = await ask('Convex.asyncSyscall("1.0/insert", JSON.stringify({ table: "rows", value: {} }))')
        assert sneaky["status"] == "error"
        assert await client.call("query", "rows:all") == 5
        for module, code in (
            ("export const other = query(() => 1);", "InvalidTestQuery"),
            ("export default query(() => 1); export const other = query(() => 1);", "InvalidTestQuery"),
            ("export default 1;", "InvalidTestQuery"),
            (
                "export default Object.assign(() => 1, { isMutation: true, isPublic: true });",
                "UnsupportedTestQuery",
            ),
            ("this is not JavaScript", "InvalidModules"),
            ('import "fs"; export default query(() => 1);', "InvalidModules"),
        ):
            answer = await ask("", module=module)
            assert (answer["http"], answer["code"]) == (400, code), answer

    run(tmp_path, test)
