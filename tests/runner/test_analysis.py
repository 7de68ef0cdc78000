"""What the modules of a push export."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cvx.backend.runner import AnalyzeRequest, AnalyzeResult
from tests.runner.host import IMPORT_MS, SEED, Runner, bundle_of

pytestmark = pytest.mark.deno
WithPool = Callable[..., None]


async def analyze(
    runner: Runner, *paths: str, env: dict[str, str] | None = None, **more: Any
) -> AnalyzeResult:
    request = AnalyzeRequest(runner.bundle, paths, env or {}, IMPORT_MS, SEED, **more)
    return await runner.pool.analyze(request)


def test_functions_in_source_order_with_their_validators(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        result = await analyze(runner, "plain.js", "state.js")
        assert result.failures == ()
        functions = result.modules["plain.js"].functions
        assert [f.name for f in functions] == [
            "get", "send", "hidden", "echo", "normalize", "convexError", "mapped", "caught", "nested",
        ]  # fmt: skip
        get, send, hidden, echo = functions[:4]
        assert (get.kind, get.visibility) == ("query", "public")
        assert json.loads(get.args_json or "") == {
            "type": "object",
            "value": {"id": {"fieldType": {"type": "id", "tableName": "messages"}, "optional": False}},
        }
        assert json.loads(get.returns_json or "") == {"type": "any"}
        assert (send.kind, send.returns_json) == ("mutation", None)
        assert (hidden.kind, hidden.visibility) == ("mutation", "internal")
        assert json.loads(echo.args_json or "") == {"type": "any"}
        assert get.position is not None
        assert (get.position.path, get.position.start_line) == ("../convex/plain.ts", 8)
        assert len(result.modules["state.js"].functions) == 11

    with_pool(body)


def test_routes_crons_schema_and_auth(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        result = await analyze(
            runner,
            "http.js",
            "crons.js",
            env={"AUTH_DOMAIN": "https://issuer.example"},
            schema_path="schema.js",
            auth_config_path="auth.config.js",
        )
        assert result.failures == ()
        routes = result.modules["http.js"].routes
        assert routes is not None
        assert [(r.method, r.path) for r in routes] == [("GET", "/hello"), ("POST", "/files/*")]
        crons = json.loads(result.modules["crons.js"].crons_json or "")
        assert crons["every minute"]["name"] == "plain:hidden"
        schema = json.loads(result.schema_json or "")
        assert schema["tables"][0]["tableName"] == "messages" and schema["schemaValidation"] is True
        assert json.loads(result.auth_config_json or "") == {
            "providers": [{"domain": "https://issuer.example", "applicationID": "convex"}]
        }
        assert result.env_read == {"AUTH_DOMAIN"}

    with_pool(body)


def test_a_missing_variable_of_the_auth_config_is_named(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        (failure,) = (await analyze(runner, auth_config_path="auth.config.js")).failures
        assert failure.code == "AuthConfigMissingEnvironmentVariable"
        assert "Environment variable AUTH_DOMAIN " in failure.message

    with_pool(body)


def test_failures_say_what_failed_and_what_was_logged(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        result = await analyze(runner, "plain.js", "throws.js", "awaits.js", "usesDatabase.js")
        by_path = {failure.path: failure.message for failure in result.failures}
        assert set(by_path) == {"throws.js", "awaits.js", "usesDatabase.js"}
        text = by_path["throws.js"]
        assert text.startswith("Failed to analyze throws.js: Uncaught TypeError: Cannot read properties")
        assert "(../convex/throws.ts:5:" in text
        assert "[LOG] 'about to fail' {\n  because: 'a test'\n}" in text
        assert "Top-level awaits in source files are unsupported" in by_path["awaits.js"]
        assert "NoDbDuringImport" in by_path["usesDatabase.js"]
        assert "plain.js" in result.modules

    with_pool(body)


def test_an_endless_import_fails_after_its_deadline(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        result = await analyze(runner, "plain.js", "loops.js", deadline_ms=500.0)
        (failure,) = result.failures
        assert failure.path == "loops.js"
        assert "Function execution timed out (maximum duration: 0.5s)" in failure.message
        assert len(result.modules["plain.js"].functions) == 9

    with_pool(body)


@pytest.mark.parametrize(
    ("source", "fragment"),
    [
        ("export default {", "SyntaxError"),
        ("import x from './absent.js'; export default x", "Couldn't find the module 'absent.js'"),
        ("import fs from 'node:fs'; export default fs", "Can't import 'node:fs'"),
        ("export { missing };", "SyntaxError"),
        ("throw 5; export {};", "Uncaught 5"),
        ("export const f = { isQuery: true, exportArgs() { throw new Error('bad args') } };", "bad args"),
        ("process.exit(); export {};", "process.exit is not a function"),
    ],
)
def test_modules_that_cannot_be_imported(with_pool: WithPool, source: str, fragment: str) -> None:
    async def body(runner: Runner) -> None:
        runner.bundle = bundle_of(broken=source, good="export const a = 1;")
        result = await analyze(runner, "broken.js", "good.js")
        (failure,) = result.failures
        assert failure.message.startswith("Failed to analyze broken.js: ")
        assert fragment in failure.message
        assert result.modules["good.js"].functions == ()

    with_pool(body)


@pytest.mark.parametrize(
    ("name", "source", "fragment"),
    [
        ("http", "export default 1", "must be a router"),
        ("crons", "export default {isCrons: false}", "must be cron jobs"),
    ],
)
def test_special_modules_must_export_what_they_are_for(
    with_pool: WithPool, name: str, source: str, fragment: str
) -> None:
    async def body(runner: Runner) -> None:
        runner.bundle = bundle_of(**{name: source})
        (failure,) = (await analyze(runner, f"{name}.js")).failures
        assert fragment in failure.message

    with_pool(body)


def test_a_schema_sees_no_environment(with_pool: WithPool) -> None:
    async def body(runner: Runner) -> None:
        runner.bundle = bundle_of(schema="export default { export: () => JSON.stringify(process.env.A) }")
        (failure,) = (await analyze(runner, schema_path="schema.js", env={"A": "1"})).failures
        assert failure.code == "InvalidSchema" and "process.env.A" in failure.message

    with_pool(body)
