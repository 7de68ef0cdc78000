"""Pushes with components, over HTTP: definitions written by hand, so that every shape of them can be tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.pushing import KEY, Client, Json, push_body, run
from tests.deploy.test_push import BASE, HEAD, NUMBERED, schema

pytestmark = [pytest.mark.deno, pytest.mark.node]

ADMIN = {"authorization": f"Convex {KEY}"}
EMPTY = {"type": "branch", "branch": []}
DEPS = {"../one": "Li4vb25l", "../two": "Li4vdHdv"}
INNER = (
    HEAD
    + """
export const put = mutation(async (ctx, { n }) => await ctx.db.insert("rows", { n, even: n % 2 === 0 }));
export const count = query(async (ctx) => (await ctx.db.query("rows").collect()).length);
export const hidden = internalMutationGeneric(async () => null);
"""
)
OUTER = (
    HEAD
    + """
import { componentsGeneric } from "convex/server";
const components = componentsGeneric();
export const put = mutation(async (ctx, { at, n }) => await ctx.runMutation(components[at].inner.put, { n }));
export const count = query(async (ctx, { at }) => await ctx.runQuery(components[at].inner.count, {}));
"""
)
Child = tuple[str, str]
"""Name and definition path."""


def definition(kind: Json, children: list[Json], imports: tuple[str, ...] = (), **more: Any) -> Json:
    """A convex.config.js that exports exactly this; what it imports must be there and say who it is."""
    lines = [f'import d{i} from "./_componentDeps/{DEPS[path]}";' for i, path in enumerate(imports)]
    checks = [
        f'if (d{i}.componentDefinitionPath !== "{path}") throw new Error(path);'
        for i, path in enumerate(imports)
    ]
    exported = {
        "definitionType": kind,
        "childComponents": children,
        "httpMounts": {},
        "exports": EMPTY,
        **more,
    }
    text = "\n".join([*lines, *checks, f"export default {{ export: () => ({json.dumps(exported)}) }};", ""])
    return {"path": "convex.config.js", "source": text, "environment": "isolate"}


def child(name: str, path: str = "../one", **more: Any) -> Json:
    return {"name": name, "path": path, "args": [], "env": None, **more}


def component(
    path: str, name: str, files: dict[str, str], children: list[Json] | None = None, **more: Any
) -> Json:
    """One of `componentDefinitions`."""
    app = push_body(files)["appDefinition"]
    listed = children or []
    kind = {"type": "childComponent", "name": name, "args": []}
    imports = tuple(dict.fromkeys(item["path"] for item in listed))
    return {
        "definitionPath": path,
        "definition": definition(kind, listed, imports, **more),
        "dependencies": list(imports),
        "schema": app["schema"],
        "functions": app["changedModules"],
        "udfServerVersion": "1.48.0",
    }


def app_with(files: dict[str, str], children: list[Json], components: list[Json], **more: Any) -> Json:
    """A start_push body."""
    body = push_body(files)
    imports = tuple(dict.fromkeys(item["path"] for item in children if item["path"] in DEPS))
    body["appDefinition"]["definition"] = definition({"type": "app"}, children, imports, **more)
    body["appDefinition"]["dependencies"] = list(imports)
    return body | {"componentDefinitions": components}


ONE = component("../one", "one", {"inner.ts": INNER, "schema.ts": schema(NUMBERED)})
APP = {"outer.ts": OUTER}


async def push(client: Client, body: Json, **changes: Any) -> tuple[Json, Json]:
    started = await client.ok("/api/deploy2/start_push", body | changes)
    assert await client.waited(started) == {"type": "complete"}
    finish = client.finish_body(started) | {"dryRun": changes.get("dryRun", False)}
    return started, await client.ok("/api/deploy2/finish_push", finish)


def types(diff: Json) -> dict[str, str]:
    return {path: each["diffType"]["type"] for path, each in diff["componentDiffs"].items()}


def test_instances_have_their_own_rows_and_come_and_go(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        both = app_with(APP, [child("a"), child("b")], [ONE])
        started, diff = await push(client, both)
        assert types(diff) == {"": "modify", "a": "create", "b": "create"}
        assert set(started["schemaChange"]["allocatedComponentIds"]) == {"a", "b"}
        assert started["app"]["childComponents"]["a"]["componentPath"] == "a"
        exports = started["analysis"]["../one"]["definition"]["exports"]["branch"]
        assert [name for name, _ in exports] == ["inner"]
        assert sorted(name for name, _ in exports[0][1]["branch"]) == ["count", "put"]
        for n in range(3):
            await client.call("mutation", "outer:put", {"at": "a", "n": n})
        assert await client.call("query", "outer:count", {"at": "a"}) == 3
        assert await client.call("query", "outer:count", {"at": "b"}) == 0
        assert "public function for 'inner:count'" in await client.failure("query", "inner:count")

        shapes = await client.http.get("/api/shapes2", params={"component": "a"}, headers=ADMIN)
        fields = {item["fieldName"]: item["shape"]["type"] for item in shapes.json()["rows"]["fields"]}
        assert fields == {
            "_id": "Id", "_creationTime": "Float64", "even": "Boolean", "n": "Float64",
        }  # fmt: skip
        assert (await client.http.get("/api/shapes2", headers=ADMIN)).json() == {}

        _, diff = await push(client, app_with(APP, [child("b")], [ONE]))
        assert types(diff) == {"": "modify", "a": "unmount", "b": "modify"}
        assert "inner.js" in diff["componentDiffs"]["a"]["moduleDiff"]["removed"]
        assert "There is no component 'a'" in await client.failure("query", "outer:count", {"at": "a"})
        _, diff = await push(client, both)
        assert types(diff) == {"": "modify", "a": "remount", "b": "modify"}
        assert await client.call("query", "outer:count", {"at": "a"}) == 3
        assert diff["componentDiffs"]["b"]["moduleDiff"] == {"added": [], "removed": []}

    run(tmp_path, test)


def test_a_dry_run_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        await push(client, app_with(BASE, [], []))
        db = client.backend.services.db
        before = db.latest_ts
        indexed = BASE | APP | {"schema.ts": schema(NUMBERED, '.index("by_n", ["n"])')}
        body = app_with(indexed, [child("a")], [ONE])
        _, rehearsed = await push(client, body, dryRun=True)
        assert db.latest_ts == before
        _, diff = await push(client, body)
        assert rehearsed == diff
        root, inner = diff["componentDiffs"][""], diff["componentDiffs"]["a"]
        assert "outer.js" in root["moduleDiff"]["added"]
        assert [index["name"] for index in root["indexDiff"]["added_indexes"]] == ["rows.by_n"]
        assert json.loads(root["schemaDiff"]["next_schema"])["tables"][0]["tableName"] == "rows"
        assert inner["diffType"] == {"type": "create"} and inner["schemaDiff"]["previous_schema"] is None
        _, rehearsed = await push(client, app_with(APP, [], []), dryRun=True)
        assert types(rehearsed) == {"": "modify", "a": "unmount"}
        assert await client.call("query", "rows:all") == 0

    run(tmp_path, test)


def test_the_schema_of_a_component_is_held_against_its_own_rows(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        loose = component("../one", "one", {"inner.ts": INNER, "schema.ts": schema("v.any()")})
        await push(client, app_with(APP, [child("a"), child("b")], [loose]))
        await client.call("mutation", "outer:put", {"at": "b", "n": 1})
        strict = component("../one", "one", {"inner.ts": INNER, "schema.ts": schema("{ n: v.string() }")})
        started = await client.ok(
            "/api/deploy2/start_push", app_with(APP, [child("a"), child("b")], [strict])
        )
        status = await client.waited(started)
        assert (status["type"], status["componentPath"], status["tableName"]) == ("failed", "b", "rows")
        evaluated = await client.ok("/api/deploy2/evaluate_schema", app_with(APP, [child("b")], [strict]))
        assert evaluated["componentSchemaEvaluations"]["b"]["tables"][0]["numDocs"] == 1
        again = await client.ok("/api/deploy2/start_push", app_with(APP, [child("a"), child("b")], [ONE]))
        assert (await client.waited(started))["type"] == "raceDetected"
        assert await client.waited(again) == {"type": "complete"}
        await client.finish(again)
        assert "SchemaEnforcementError" in await client.failure(
            "mutation", "outer:put", {"at": "a", "n": "one"}
        ) or "does not match the schema" in await client.failure(
            "mutation", "outer:put", {"at": "a", "n": "one"}
        )

    run(tmp_path, test)


def test_nesting_and_what_is_refused(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        env = [["KEY", {"type": "value", "value": '{"type":"string"}'}]]
        needy = component("../one", "one", {"inner.ts": INNER}, envVars=env)
        two = component("../two", "two", {"inner.ts": INNER}, [child("deep")])
        value = {"type": "value", "value": "x"}
        refused: list[tuple[Json, str, str]] = [
            (app_with(APP, [child("a"), child("a")], [ONE]), "TypecheckError", "two components of the name 'a'"),
            (app_with(APP, [child("a-b")], [ONE]), "TypecheckError", "'a-b' is not a valid name"),
            (app_with(APP, [child("a", "../gone")], [ONE]), "TypecheckError", "unknown definition '../gone'"),
            (app_with(APP, [child("a")], []), "InvalidDefinition", "'../one', which was not pushed"),
            (app_with(APP, [child("a")], [needy]), "TypecheckError", "needs the environment variable KEY"),
            (
                app_with(APP, [child("a", env=[["OTHER", value], ["KEY", value]])], [needy]),
                "TypecheckError",
                "declares no environment variable OTHER",
            ),
            (
                app_with(APP, [child("a", env=[["KEY", {"type": "envVar", "name": "PARENT"}]])], [needy]),
                "TypecheckError",
                "which its parent does not declare",
            ),
            (
                app_with(APP, [child("a")], [component("../one", "one", {"inner.ts": INNER}, [child("x", "../two")]), two]),
                "InvalidDefinition",
                "import each other",
            ),
            (
                app_with(APP, [child("a")], [ONE | {"functions": [ONE["functions"][0] | {"environment": "node"}]}]),
                "InvalidModules",
                '"use node"',
            ),
            (
                app_with(APP, [child("a")], [component("../one", "one", {"inner.ts": "import 'convex/server';\nthrow new Error('no');\nexport {};\n"})]),
                "InvalidModules",
                "In the component ../one",
            ),
            (
                app_with(APP, [child("a")], [ONE | {"definition": definition({"type": "app"}, [])}]),
                "InvalidDefinition",
                "must export defineComponent()",
            ),
        ]  # fmt: skip
        for body, code, words in refused:
            answer = await client.refused("/api/deploy2/start_push", body)
            assert answer["code"] == code, answer
            assert words in answer["message"], answer
        started, diff = await push(client, app_with(APP, [child("outer", "../two")], [ONE, two]))
        assert types(diff) == {"": "modify", "outer": "create", "outer/deep": "create"}
        inner = started["app"]["childComponents"]["outer"]["childComponents"]["deep"]
        assert (inner["definitionPath"], inner["componentPath"]) == ("../one", "outer/deep")

    run(tmp_path, test)


def test_variables_of_components_are_asked_of_the_deployment(tmp_path: Path) -> None:
    async def test(client: Client) -> None:
        text = '{"type":"union","value":[{"type":"literal","value":"on"},{"type":"literal","value":"off"}]}'
        declared = [["MODE", {"type": "value", "value": text}]]
        of_app = [["SWITCH", {"type": "value", "value": '{"type":"string"}', "optional": True}]]
        seeing = HEAD + "export const count = query(async () => process.env.MODE);\n"
        one = component("../one", "one", {"inner.ts": seeing}, envVars=declared)
        bound = [child("a", env=[["MODE", {"type": "envVar", "name": "SWITCH"}]])]
        body = app_with(APP, bound, [one], envVars=of_app)
        started = await client.ok("/api/deploy2/start_push", body)
        refused = await client.refused_finish(started)
        assert refused["code"] == "MissingEnvironmentVariables" and "SWITCH" in refused["message"]
        await client.set_environment(SWITCH="maybe")
        refused = await client.refused_finish(await client.ok("/api/deploy2/start_push", body))
        assert refused["code"] == "InvalidEnvironmentVariable"
        await client.set_environment(SWITCH="on")
        await push(client, body)
        assert await client.call("query", "outer:count", {"at": "a"}) == "on"
        await client.set_environment(SWITCH="off")
        assert await client.call("query", "outer:count", {"at": "a"}) == "off"
        await client.set_environment(400, SWITCH="maybe")
        assert await client.call("query", "outer:count", {"at": "a"}) == "off"

    run(tmp_path, test)
