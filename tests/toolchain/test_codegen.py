"""Generated files: what they export, when they are written, and that apps type-check against them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cvx.toolchain.build import (
    CodegenResult,
    evaluate_definitions,
    find_components,
    generate,
    init_functions_dir,
    typecheck,
    write_stubs,
)
from cvx.toolchain.build.codegen_text import dynamic_api, static_api
from cvx.toolchain.build.validator_types import field_paths, name_order, type_of
from tests.toolchain.conftest import App
from tests.toolchain.test_bundle import COMPONENT

pytestmark = pytest.mark.deno

MakeApp = Callable[..., App]

USE = """\
import { api, components, internal } from "./_generated/api";
import type { DataModel, Doc, Id, TableNames } from "./_generated/dataModel";
import {
  action, env, httpAction, internalAction, internalMutation, internalQuery, mutation, query,
} from "./_generated/server";
import type { ActionCtx, DatabaseReader, DatabaseWriter, MutationCtx, QueryCtx } from "./_generated/server";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
const sure = <T extends true>(_?: T) => undefined;
"""

TYPED = (
    USE
    + """
sure<Same<TableNames, "messages">>();
sure<Same<Doc<"messages">["author"], string>>();
sure<Same<Id<"messages">, Doc<"messages">["_id"]>>();
sure<Same<typeof env.CONVEX_CLOUD_URL, string>>();
sure<Same<(typeof api.messages.list)["_args"], { author: string }>>();
sure<Same<(typeof api.messages.list)["_visibility"], "public">>();
sure<Same<(typeof api.messages.list)["_returnType"], Doc<"messages">[]>>();
sure<Same<(typeof internal.lib.deep.hidden)["_type"], "mutation">>();
sure<Same<typeof components, {}>>();
// @ts-expect-error: an internal function is not part of the public api
api.lib.deep.hidden;
// @ts-expect-error: no such table
type Nothing = Doc<"nothing">;
export const read = async (ctx: QueryCtx, id: Id<"messages">) => (await ctx.db.get(id))?.body.length;
export const write = async (ctx: MutationCtx) => {
  // @ts-expect-error: body is missing
  await ctx.db.insert("messages", { author: "a" });
  const db: DatabaseWriter = ctx.db;
  const reader: DatabaseReader = db;
  return reader;
};
export const act = async (ctx: ActionCtx) => await ctx.runQuery(api.messages.list, { author: "a" });
export const h = httpAction(async () => new Response("ok"));
export const a = action({ args: {}, handler: async () => 1 });
export const ia = internalAction({ args: {}, handler: async () => 1 });
export const im = internalMutation({ args: {}, handler: async () => 1 });
export const iq = internalQuery({ args: {}, handler: async () => 1 });
export const m = mutation({ args: {}, handler: async () => 1 });
export const q = query({ args: {}, handler: async () => 1 });
export type Model = DataModel;
"""
)

DEEP = """\
import { internalMutation } from "../_generated/server";
export const hidden = internalMutation({ args: {}, handler: async () => null });
"""


def finish(app: App, analysis: dict[str, Any] | None = None, **options: bool) -> CodegenResult:
    graph = find_components(app.project, app.bundler)
    return generate(graph, analysis, **options)


def names(app: App, folder: str = "convex/_generated") -> list[str]:
    return sorted(p.name for p in (app.root / folder).iterdir())


def assert_types(app: App) -> None:
    init_functions_dir(app.project)
    result = typecheck(app.project)
    assert result.status == "ok", [f"{d.location}: {d.text} {d.notes}" for d in result.diagnostics]


FILES = ["api.d.ts", "api.js", "dataModel.d.ts", "server.d.ts", "server.js"]


def test_the_five_files_and_their_exports(chat: App) -> None:
    assert finish(chat).written
    assert names(chat) == FILES
    assert chat.read("convex/_generated/api.js").count("export const") == 3
    api = chat.read("convex/_generated/api.d.ts")
    assert 'import type * as messages from "../messages.js";' in api
    assert "  messages: typeof messages;" in api
    assert 'export declare const api: FilterApi<typeof fullApi, FunctionReference<any, "public">>;' in api
    assert "export declare const components: {};" in api
    assert 'from "../schema.js"' in chat.read("convex/_generated/dataModel.d.ts")
    assert all("cvx" in chat.read(f"convex/_generated/{name}").split("*/")[1] for name in FILES)


def test_without_schema_everything_is_permissive(make_app: MakeApp) -> None:
    app = make_app({"convex/lib/deep.ts": DEEP})
    finish(app)
    model = app.read("convex/_generated/dataModel.d.ts")
    assert "export type Doc = any;" in model and "AnyDataModel" in model
    app.write(
        {
            "convex/u.ts": 'import type { Doc, Id } from "./_generated/dataModel";\nexport const x = (d: Doc): Id<"t"> => d._id;\n'
        }
    )
    assert_types(app)


@pytest.mark.parametrize("file_type", ["js/dts", "ts"])
def test_an_app_type_checks(chat: App, file_type: str) -> None:
    chat.write(
        {
            "convex.json": json.dumps({"codegen": {"fileType": file_type}}),
            "convex/typed.ts": TYPED,
            "convex/lib/deep.ts": DEEP,
        }
    )
    finish(chat)
    assert names(chat) == (FILES if file_type == "js/dts" else ["api.ts", "dataModel.ts", "server.ts"])
    assert_types(chat)


def test_module_names(chat: App) -> None:
    for name in ("class", "api", "a-b", "a_b", "lib/a-b", "http", "crons", "mod.mts"):
        chat.write({f"convex/{name if '.' in name else f'{name}.ts'}": "export const x = 1;\n"})
    finish(chat)
    api = chat.read("convex/_generated/api.d.ts")
    for line in (
        'import type * as class_ from "../class.js";',
        'import type * as api_ from "../api.js";',
        'import type * as a_b from "../a-b.js";',
        'import type * as a_b_ from "../a_b.js";',
        'import type * as lib_a_b from "../lib/a-b.js";',
        'import type * as mod from "../mod.mjs";',
        '  "lib/a-b": typeof lib_a_b;',
        "  class: typeof class_;",
        "  http: typeof http;",
    ):
        assert line in api
    assert_types(chat)


def test_writing_twice_changes_nothing(chat: App) -> None:
    finish(chat)
    before = {name: (chat.root / "convex/_generated" / name).stat().st_mtime_ns for name in FILES}
    again = finish(chat)
    assert again.is_noop and len(again.unchanged) == 5
    assert before == {name: (chat.root / "convex/_generated" / name).stat().st_mtime_ns for name in FILES}


def test_dry_run_says_what_is_stale(chat: App) -> None:
    finish(chat)
    chat.write({"convex/new.ts": "export const a = 1;\n", "convex/_generated/old.js": "x"})
    before = chat.read("convex/_generated/api.d.ts")
    result = finish(chat, dry_run=True)
    assert result.written == ("convex/_generated/api.d.ts",)
    assert result.removed == ("convex/_generated/old.js",)
    assert (
        chat.read("convex/_generated/api.d.ts") == before
        and (chat.root / "convex/_generated/old.js").exists()
    )
    finish(chat)
    assert finish(chat, dry_run=True).is_noop


def test_stale_files_go_and_ai_stays(chat: App) -> None:
    chat.write(
        {
            "convex/_generated/api.ts": "old",
            "convex/_generated/ai/guidelines.md": "kept",
            "convex/_generated/x/y.js": "old",
        }
    )
    result = finish(chat)
    assert set(result.removed) == {"convex/_generated/api.ts", "convex/_generated/x"}
    assert names(chat) == ["ai", *FILES]


def test_stubs_keep_what_is_there(chat: App) -> None:
    chat.write({"convex/_generated/api.d.ts": "// mine\n", "convex/_generated/api.js": "// mine\n"})
    result = write_stubs(find_components(chat.project, chat.bundler))
    assert chat.read("convex/_generated/api.d.ts") == "// mine\n"
    assert "anyApi" in chat.read("convex/_generated/api.js")
    assert "convex/_generated/server.js" in result.written


def test_commonjs_api(chat: App) -> None:
    chat.write({"convex.json": '{"generateCommonJSApi": true}'})
    finish(chat)
    assert names(chat) == sorted([*FILES, "api_cjs.cjs", "api_cjs.d.cts"])
    assert 'require("convex/server")' in chat.read("convex/_generated/api_cjs.cjs")
    assert chat.read("convex/_generated/api_cjs.d.cts") == chat.read("convex/_generated/api.d.ts")


def test_first_files_of_a_functions_folder(make_app: MakeApp) -> None:
    app = make_app({"convex.json": '{"functions": "backend/"}'})
    assert set(init_functions_dir(app.project).written) == {"backend/tsconfig.json", "backend/README.md"}
    assert "backend/messages.ts" in app.read("backend/README.md")
    app.write({"backend/tsconfig.json": "{}"})
    assert init_functions_dir(app.project).is_noop
    assert app.read("backend/tsconfig.json") == "{}"


def test_functions_know_process_where_the_types_of_node_are_a_dependency(make_app: MakeApp) -> None:
    for folder, has_types in (("with/", True), ("without/", False)):
        app = make_app({"convex.json": json.dumps({"functions": folder})})
        manifest = json.loads(app.read("package.json"))
        manifest["devDependencies"] = {"@types/node": "*"} if has_types else {}
        app.write({"package.json": json.dumps(manifest)})
        init_functions_dir(app.project)
        assert ('"types": ["node"]' in app.read(f"{folder}tsconfig.json")) is has_types


# ------------------------------------------------------------------------------------------------ analysis


def function(name: str, kind: str, visibility: str, args: Any = None, returns: Any = None) -> dict[str, Any]:
    return {
        "name": name,
        "pos": None,
        "udfType": kind,
        "visibility": {"kind": visibility},
        "args": None if args is None else json.dumps(args),
        "returns": None if returns is None else json.dumps(returns),
    }


STRING = {"type": "string"}
ANALYSIS: dict[str, Any] = {
    "": {
        "definition": {
            "path": "",
            "childComponents": [],
            "envVars": None,
            "exports": {"type": "branch", "branch": []},
        },
        "schema": {
            "tables": [
                {
                    "tableName": "messages",
                    "indexes": [{"indexDescriptor": "by_author", "fields": ["author", "_creationTime"]}],
                    "searchIndexes": [
                        {"indexDescriptor": "s", "searchField": "body", "filterFields": ["author"]}
                    ],
                    "vectorIndexes": [],
                    "documentType": {
                        "type": "object",
                        "value": {
                            "author": {"fieldType": STRING, "optional": False},
                            "body": {"fieldType": STRING, "optional": False},
                        },
                    },
                }
            ],
            "schemaValidation": True,
        },
        "functions": {
            "messages.js": {
                "functions": [
                    function(
                        "list",
                        "Query",
                        "public",
                        {"type": "object", "value": {"author": {"fieldType": STRING, "optional": False}}},
                        {"type": "array", "value": {"type": "any"}},
                    ),
                    function("send", "Mutation", "public"),
                ]
            },
            "lib/deep.js": {
                "functions": [function("hidden", "Mutation", "internal", {"type": "object", "value": {}})]
            },
            "_deps/ABCDEFGH.js": {"functions": []},
        },
    }
}


@pytest.mark.parametrize("file_type", ["js/dts", "ts"])
def test_static_api_and_data_model(chat: App, file_type: str) -> None:
    chat.write(
        {
            "convex.json": json.dumps(
                {"codegen": {"staticApi": True, "staticDataModel": True, "fileType": file_type}}
            ),
            "convex/lib/deep.ts": DEEP,
            "convex/typed.ts": USE
            + """
sure<Same<TableNames, "messages">>();
sure<Same<Doc<"messages">["author"], string>>();
sure<Same<(typeof api.messages.list)["_args"], { author: string }>>();
sure<Same<(typeof api.messages.list)["_returnType"], any[]>>();
sure<Same<(typeof internal.lib.deep.hidden)["_visibility"], "internal">>();
export const read = async (ctx: QueryCtx) => {
  const found = await ctx.db.query("messages").withIndex("by_author", (q) => q.eq("author", "x")).first();
  const searched = await ctx.db.query("messages").withSearchIndex("s", (q) => q.search("body", "x")).take(1);
  // @ts-expect-error: no such index
  ctx.db.query("messages").withIndex("by_body");
  return [found?.body, searched[0]?._id];
};
""",
        }
    )
    finish(chat, ANALYSIS)
    suffix = "d.ts" if file_type == "js/dts" else "ts"
    assert "ApiFromModules" not in chat.read(f"convex/_generated/api.{suffix}")
    assert "schema.js" not in chat.read(f"convex/_generated/dataModel.{suffix}")
    assert_types(chat)


def test_static_files_survive_a_run_without_analysis(chat: App) -> None:
    chat.write({"convex.json": '{"codegen": {"staticApi": true, "staticDataModel": true}}'})
    finish(chat, ANALYSIS)
    before = chat.read("convex/_generated/api.d.ts")
    assert finish(chat).is_noop
    assert chat.read("convex/_generated/api.d.ts") == before


def test_components_and_environment_without_a_deployment(make_app: MakeApp) -> None:
    app = make_app(
        {
            **COMPONENT,
            "convex/use.ts": (
                'import { components } from "./_generated/api";\nimport { env, query } from "./_generated/server";\n'
                'export const mode: "a" | undefined = env.MODE;\nexport const key: string = env.API_KEY;\n'
                "export const q = query({ args: {}, handler: async (ctx) => [\n"
                "  await ctx.runQuery(components.mycomp.lib.ping, {}),\n"
                "  await ctx.runQuery(components.second.lib.ping, {}),\n"
                "  components.rateLimiter.lib.checkRateLimit,\n] });\n"
            ),
        }
    )
    bundle = app.bundle()
    generate(bundle.graph, evaluate_definitions(bundle, app.bundler))
    api = app.read("convex/_generated/api.d.ts")
    assert (
        'rateLimiter: import("@convex-dev/rate-limiter/_generated/component.js").ComponentApi<"rateLimiter">'
        in api
    )
    assert 'second: import("../../mycomp/_generated/component.js").ComponentApi<"second">' in api
    assert names(app, "mycomp/_generated") == ["api.ts", "component.ts", "dataModel.ts", "server.ts"]
    assert_types(app)


def test_component_api_from_an_analysis(make_app: MakeApp) -> None:
    app = make_app(COMPONENT)
    bundle = app.bundle()
    analysis = evaluate_definitions(bundle, app.bundler)
    exports = {
        "type": "branch",
        "branch": [
            [
                "lib",
                {
                    "type": "branch",
                    "branch": [["ping", {"type": "leaf", "leaf": "_reference/function/lib:ping"}]],
                },
            ]
        ],
    }
    analysis["../mycomp"]["definition"]["exports"] = exports
    analysis["../mycomp"]["functions"] = {
        "lib.js": {
            "functions": [
                function(
                    "ping",
                    "Query",
                    "public",
                    {
                        "type": "object",
                        "value": {"id": {"fieldType": {"type": "id", "tableName": "x"}, "optional": True}},
                    },
                    STRING,
                )
            ]
        }
    }
    generate(bundle.graph, analysis)
    text = app.read("mycomp/_generated/component.ts")
    assert 'ping: FunctionReference<"query", "internal", { id?: string }, string, Name>;' in text
    app.write(
        {
            "convex/use.ts": (
                'import { components } from "./_generated/api";\nimport { query } from "./_generated/server";\n'
                "export const q = query({ args: {}, handler: async (ctx) => {\n"
                '  const pong: string = await ctx.runQuery(components.second.lib.ping, { id: "x" });\n'
                "  // @ts-expect-error: no such function\n  components.mycomp.lib.pong;\n  return pong;\n} });\n"
            )
        }
    )
    assert_types(app)
    app.write({"convex.json": '{"codegen": {"legacyComponentApi": true}}'})
    generate(find_components(app.project, app.bundler), analysis)
    assert 'ping: FunctionReference<"query", "internal", { id?: string }, string>;' in app.read(
        "convex/_generated/api.d.ts"
    )


# ------------------------------------------------------------------------------------------------ types, pure


@pytest.mark.parametrize(
    ("validator", "expected"),
    [
        ({"type": "null"}, "null"),
        ({"type": "number"}, "number"),
        ({"type": "bigint"}, "bigint"),
        ({"type": "bytes"}, "ArrayBuffer"),
        ({"type": "commitTs"}, 'bigint | import("convex/values").CommitTsPlaceholder'),
        ({"type": "literal", "value": 'say "x"'}, '"say \\"x\\""'),
        ({"type": "literal", "value": True}, "true"),
        ({"type": "literal", "value": None}, "null"),
        ({"type": "literal", "value": 1.0}, "1"),
        ({"type": "literal", "value": 1.5}, "1.5"),
        ({"type": "literal", "value": {"$integer": "//////////8="}}, "-1n"),
        ({"type": "literal", "value": {"$float": "AAAAAAAA+H8="}}, "number"),
        ({"type": "id", "tableName": "users"}, 'Id<"users">'),
        (
            {"type": "array", "value": {"type": "union", "value": [{"type": "null"}, STRING]}},
            "Array<null | string>",
        ),
        ({"type": "union", "value": []}, "never"),
        (
            {"type": "record", "keys": STRING, "values": {"fieldType": {"type": "any"}, "optional": False}},
            "Record<string, any>",
        ),
        ({"type": "object", "value": {}}, "{}"),
        (
            {
                "type": "object",
                "value": {
                    "a b": {"fieldType": STRING, "optional": True},
                    "c": {"fieldType": STRING, "optional": False},
                },
            },
            '{ "a b"?: string; c: string }',
        ),
        ({"type": "from the future"}, "any"),
    ],
)
def test_types_of_validators(validator: dict[str, Any], expected: str) -> None:
    assert type_of(validator, id_type="Id") == expected


def test_ids_are_strings_across_a_border() -> None:
    assert type_of({"type": "id", "tableName": "users"}, id_type=None) == "string"


def test_field_paths_reach_into_objects_unions_and_records() -> None:
    inner = {"type": "object", "value": {"b": {"fieldType": STRING, "optional": False}}}
    record = {"type": "record", "keys": STRING, "values": {"fieldType": STRING, "optional": False}}
    validator = {
        "type": "union",
        "value": [
            {"type": "object", "value": {"a": {"fieldType": inner, "optional": False}}},
            {"type": "object", "value": {"r": {"fieldType": record, "optional": False}}},
        ],
    }
    assert list(field_paths(validator)) == [("a",), ("a", "b"), ("r",), ("r", "${string}")]


def test_order_of_names() -> None:
    given = ["b10", "B2", "a", "_z", "b2", "A", "a_b", "ab"]
    assert sorted(given, key=name_order) == ["_z", "a", "A", "a_b", "ab", "b2", "B2", "b10"]


def test_an_empty_api() -> None:
    assert static_api({}).public == "{}"
    assert "fullApi" in dynamic_api([]).public
