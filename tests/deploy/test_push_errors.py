"""Pushes that are refused: the code and the words that clients look for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.pushing import KEY, Client, push_body, run
from tests.deploy.test_push import BASE, HEAD, schema

pytestmark = [pytest.mark.deno, pytest.mark.node]

PREFIX = "Hit an error while pushing:\n"
PROCESS = "declare const process: any;\n"
AUTH = (
    PROCESS
    + "export default { providers: [{ domain: process.env.ISSUER, applicationID: process.env.APP }] };\n"
)


def test_code_that_cannot_be_pushed(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, str], str, str]] = [
        (
            {"bad.ts": 'console.log("got here");\nthrow new TypeError("no import");\nexport {};\n'},
            "InvalidModules",
            "Loading the pushed modules encountered the following error:\n"
            "Failed to analyze bad.js: Uncaught TypeError: no import\n",
        ),
        ({"schema.ts": "export default 7;\n"}, "InvalidSchema", "schema"),
        ({"schema.ts": schema("v.any()", '.index("by_id", ["n"])')}, "IndexNameReserved", 'table "rows"'),
        (
            {"schema.ts": schema("{ n: v.number() }", '.index("i", ["m"])')},
            "SchemaDefinitionError",
            "m that does not exist",
        ),
        ({"auth.config.ts": "export default { providers: 3 };\n"}, "InvalidAuthConfig", "providers"),
        ({"auth.config.ts": AUTH}, "AuthConfigMissingEnvironmentVariable", "Environment variable ISSUER "),
        (
            {
                "crons.ts": 'import { cronJobs, makeFunctionReference } from "convex/server";\nconst crons = cronJobs();\n'
                'crons.interval("job", { seconds: 1 }, makeFunctionReference("rows:nothing"), {});\nexport default crons;\n'
            },
            "InvalidCron",
            "rows:nothing",
        ),
        (
            {"f.ts": HEAD + 'const f = query(() => 1);\nexport { f as "a-b" };\n'},
            "InvalidFunctionName",
            "'a-b'",
        ),
        (
            {
                "f.ts": HEAD
                + 'export const f = query({ args: { r: { json: { type: "record", keys: { type: "null" }, values: '
                '{ fieldType: { type: "any" }, optional: false } }, isConvexValidator: true } as any }, handler: () => 1 });\n'
            },
            "InvalidRecordType",
            "The arguments of f.js:f",
        ),
        ({"http.ts": "export default {};\n"}, "InvalidModules", "http.js"),
        (
            {"convex.config.ts": "export default 1;\n"},
            "InvalidDefinition",
            "convex.config.js",
        ),
    ]

    async def test(client: Client) -> None:
        await client.push(BASE)
        before = await client.hashes()
        for files, code, words in cases:
            refused = await client.refused_start(BASE | files)
            assert refused["code"] == code, refused
            assert refused["message"].startswith(PREFIX)
            assert words in refused["message"]
        first = await client.refused_start(BASE | cases[0][0])
        assert "bad.ts:2:" in first["message"], "frames are mapped to the source"
        assert "[LOG] 'got here'" in first["message"]
        assert await client.hashes() == before
        assert await client.call("query", "rows:all") == 0

    run(tmp_path, test)


def test_keys_and_bodies(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        for path, body in (
            ("/api/deploy2/start_push", push_body(BASE, adminKey="pushed-otter-1|00")),
            (
                "/api/get_config_hashes",
                {"version": "1", "adminKey": KEY[:-1] + ("0" if KEY[-1] != "0" else "1")},
            ),
            ("/api/deploy2/wait_for_schema", {"adminKey": "x|00", "schemaChange": {}}),
            ("/api/deploy2/finish_push", {"adminKey": "", "startPush": {}}),
        ):
            answer = await client.post(path, body)
            assert answer.status_code in (400, 403), answer.text
            assert answer.json()["code"] in ("BadDeployKey", "BadJsonBody")
        assert (
            await client.refused(
                "/api/deploy2/start_push", push_body(BASE, adminKey="pushed-otter-1|00"), 403
            )
        )["code"] == "BadDeployKey"
        assert (await client.refused("/api/deploy2/start_push", {"adminKey": KEY}))["code"] == "BadJsonBody"
        answer = await client.http.post(
            "/api/deploy2/start_push",
            content=b"\x00garbage",
            headers={"content-type": "application/json", "content-encoding": "br"},
        )
        assert answer.json()["code"] == "BadRequestEncoding"
        started = await client.start(BASE)
        await client.waited(started)
        broken = started | {"componentDefinitionPackages": {}}
        assert (await client.refused_finish(broken))["code"] == "InvalidPush"
        unfinished = started | {"schemaChange": started["schemaChange"] | {"schemaIds": {"": "nonsense"}}}
        assert (await client.refused_finish(unfinished, 409))["code"] == "RaceDetected"
        assert await client.wait(unfinished) == {"type": "raceDetected"}
        await client.finish(started)

    run(tmp_path, test)


def test_environment_variables_that_change_during_a_push(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        started = await client.start(BASE)
        await client.waited(started)
        await client.set_environment(NEW="1")
        refused = await client.refused_finish(started, 409)
        assert refused["code"] == "RaceDetected"
        await client.set_environment(NEW=None)
        await client.finish(started)

    run(tmp_path, test)


def test_the_auth_config_follows_its_environment_variables(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await client.set_environment(ISSUER="https://a.example.com", APP="app")
        diff = await client.push(BASE | {"auth.config.ts": AUTH})
        assert diff["authDiff"] == {
            "added": ['{"applicationID":"app","domain":"https://a.example.com"}'],
            "removed": [],
        }
        refused = (await client.set_environment(400, ISSUER=None)).json()
        assert refused["code"] == "AuthConfigMissingEnvironmentVariable"
        await client.set_environment(ISSUER="https://b.example.com")
        diff = await client.push(BASE)
        assert diff["authDiff"] == {
            "added": [],
            "removed": ['{"applicationID":"app","domain":"https://b.example.com"}'],
        }
        await client.set_environment(ISSUER=None, APP=None)

    run(tmp_path, test)


def test_declared_environment_variables(tmp_path: Path) -> None:
    declares = (
        'import { defineApp } from "convex/server";\nimport { v } from "convex/values";\n'
        'export default defineApp({ env: { MODE: v.union(v.literal("a"), v.literal("b")), NOTE: v.optional(v.string()) } });\n'
    )

    async def test(client: Client) -> None:
        files = BASE | {
            "convex.config.ts": declares,
            "env.ts": HEAD + PROCESS + "export const mode = query(() => process.env.MODE);",
        }
        started = await client.start(files)
        assert started["analysis"][""]["definition"]["envVars"][0][0] == "MODE"
        await client.waited(started)
        refused = await client.refused_finish(started)
        assert refused["code"] == "MissingEnvironmentVariables"
        assert "are not set: MODE. " in refused["message"]
        await client.set_environment(MODE="c")
        started = await client.start(files)
        await client.waited(started)
        assert (await client.refused_finish(started))["code"] == "InvalidEnvironmentVariable"
        await client.set_environment(MODE="b")
        await client.push(files)
        assert await client.call("query", "env:mode") == "b"
        assert (await client.set_environment(400, MODE=None)).json()["code"] == "RequiredEnvironmentVariable"
        assert (await client.set_environment(400, MODE="z")).json()["code"] == "InvalidEnvironmentVariable"
        await client.set_environment(MODE="a")
        assert await client.call("query", "env:mode") == "a"
        await client.push(BASE)
        await client.set_environment(MODE=None)

    run(tmp_path, test)
