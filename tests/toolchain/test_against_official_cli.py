"""The official CLI on the same project: it must push the same bytes, and its generated files say the same.

A stand-in for a deployment records what `npx convex codegen` pushes and answers with an analysis, as
reference/cli-and-deploy.md appendix B has it.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import brotli
import pytest

from cvx.toolchain.build import (
    Bundle,
    Module,
    bundle_project,
    find_components,
    generate,
    init_functions_dir,
    typecheck,
)
from tests.node_env import node
from tests.toolchain.conftest import MESSAGES, PACKAGES, SCHEMA, App
from tests.toolchain.test_bundle import COMPONENT
from tests.toolchain.test_codegen import ANALYSIS, DEEP, TYPED

pytestmark = [pytest.mark.node, pytest.mark.deno]

MakeApp = Callable[..., App]
Analyse = Callable[[dict[str, Any]], dict[str, Any]]


@contextmanager
def stand_in(analyse: Analyse) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that lets a push start; yields its URL and the bodies of start_push it was sent."""
    pushes: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "br":
                body = brotli.decompress(body)
            if self.path == "/api/get_config_hashes":
                return self.answer(
                    {
                        "config": {"functions": "convex/"},
                        "moduleHashes": [],
                        "udfServerVersion": None,
                        "nodeVersion": None,
                    }
                )
            assert self.path == "/api/deploy2/start_push", self.path
            pushes.append(json.loads(body))
            return self.answer(start_push_answer(analyse(pushes[-1])))

        def answer(self, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", pushes
    finally:
        server.shutdown()
        server.server_close()


def start_push_answer(analysis: dict[str, Any]) -> dict[str, Any]:
    def checked(path: str, name: str) -> dict[str, Any]:
        children = analysis[path]["definition"]["childComponents"]
        return {
            "definitionPath": path,
            "componentPath": name,
            "httpPrefix": None,
            "args": {},
            "env": {},
            "childComponents": {
                c["name"]: checked(c["path"], f"{name}/{c['name']}".lstrip("/")) for c in children
            },
            "httpRoutes": {"httpModuleRoutes": None, "mounts": []},
            "exports": {},
        }

    nothing: dict[str, list[Any]] = {
        "added_indexes": [],
        "removed_indexes": [],
        "enabled_indexes": [],
        "disabled_indexes": [],
    }
    return {
        "environmentVariables": {},
        "externalDepsId": None,
        "componentDefinitionPackages": {"": {}},
        "appAuth": [],
        "analysis": analysis,
        "app": checked("", ""),
        "schemaChange": {"allocatedComponentIds": {}, "schemaIds": {"": None}, "indexDiffs": {"": nothing}},
    }


def evaluated(definition: dict[str, Any], **rest: Any) -> dict[str, Any]:
    whole = {
        "path": "",
        "definitionType": {"type": "app"},
        "childComponents": [],
        "httpMounts": {},
        "httpPrefix": None,
        "exports": {"type": "branch", "branch": []},
        "envVars": None,
        **definition,
    }
    config = {
        "serverVersion": "1.48.0",
        "importPhaseRngSeed": {"$bytes": ""},
        "importPhaseUnixTimestamp": {"$integer": ""},
    }
    return {"definition": whole, "schema": None, "functions": {}, "udfConfig": config, **rest}


def analysed_module(functions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"functions": functions, "httpRoutes": None, "cronSpecs": None, "sourceMapped": None}


def plain(push: dict[str, Any]) -> dict[str, Any]:
    """What the app exports, from the analysis the codegen tests use; nothing for other modules."""
    known = ANALYSIS[""]["functions"]
    functions = {
        m["path"]: analysed_module(known.get(m["path"], {"functions": []})["functions"])
        for m in push["appDefinition"]["changedModules"]
    }
    return {"": evaluated({}, schema=ANALYSIS[""]["schema"], functions=functions)}


def official_codegen(app: App, analyse: Analyse) -> dict[str, Any]:
    """Run the official CLI; returns the start_push body it sent."""
    with stand_in(analyse) as (url, pushes):
        done = subprocess.run(
            [
                *(
                    node(),
                    str(app.root / "node_modules/convex/bin/main.js"),
                    "codegen",
                    "--typecheck",
                    "disable",
                ),
                *("--url", url, "--admin-key", "key"),
            ],
            cwd=app.root,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pushes) == 1
    return pushes[0]


def settled_push(app: App, analyse: Analyse) -> dict[str, Any]:
    """What the official CLI pushes once the generated files have their final text."""
    official_codegen(app, analyse)
    return official_codegen(app, analyse)


def bundle_as_it_stands(app: App) -> Bundle:
    """Bundle with the generated files that are there: their positions are part of source maps."""
    return bundle_project(find_components(app.project, app.bundler), app.bundler)


def as_pushed(module: Module | None) -> dict[str, Any] | None:
    if module is None:
        return None
    pushed = {"path": module.path, "source": module.source, "environment": module.environment}
    return pushed | ({"sourceMap": module.source_map} if module.source_map is not None else {})


def by_path(modules: list[Any]) -> dict[str, Any]:
    return {module["path"]: module for module in modules}


def test_the_same_bytes_are_pushed(chat: App) -> None:
    chat.write(
        {
            "convex.json": '{"node": {"externalPackages": ["ms"], "nodeVersion": "22"}}',
            "convex/lib/deep.ts": DEEP,
            "convex/uses.tsx": 'import { hidden } from "./lib/deep";\nexport const again = hidden;\n',
            "convex/times.ts": (
                '"use node";\nimport fs from "node:fs";\nimport ms from "ms";\n'
                'import { action } from "./_generated/server";\n'
                'export const day = action({ args: {}, handler: async () => ms("1d") + fs.constants.R_OK });\n'
            ),
            "convex/auth.config.ts": "export default { providers: [] };\n",
            "convex/http.ts": 'import { httpRouter } from "convex/server";\nexport default httpRouter();\n',
        }
    )
    push = settled_push(chat, plain)
    bundle = bundle_as_it_stands(chat)
    app = push["appDefinition"]
    ours = [as_pushed(m) for m in bundle.app.functions]
    assert by_path(ours) == by_path(app["changedModules"])
    assert [m["environment"] for m in ours if m] == [m["environment"] for m in app["changedModules"]]
    assert as_pushed(bundle.app.schema) == app["schema"]
    definition = as_pushed(bundle.app.definition)
    assert definition is not None and definition["path"] == app["definition"]["path"]
    assert [{"name": d.name, "version": d.version} for d in bundle.node_dependencies] == push[
        "nodeDependencies"
    ]
    assert (bundle.node_version, bundle.functions) == (push["nodeVersion"], push["functions"])


def test_a_package_with_its_own_copy_of_an_external_one(chat: App) -> None:
    """Only the project's own copy is left to the server; another one is bundled, as the official CLI does."""
    installed = (chat.root / "node_modules").resolve()
    (chat.root / "node_modules").unlink()
    (chat.root / "node_modules").mkdir()
    for package in installed.iterdir():
        (chat.root / "node_modules" / package.name).symlink_to(package)
    (chat.root / "node_modules" / "ms").unlink()
    chat.write(
        {
            "convex.json": '{"node": {"externalPackages": ["*"]}}',
            "package.json": '{"dependencies": {"convex": "1.48.0", "ms": "2.1.3", "holder": "1.0.0", "late": "file:../late"}}',
            "node_modules/ms/package.json": '{"name": "ms", "version": "2.1.3", "peerDependencies": {"holder": "*"}}',
            "node_modules/ms/index.js": "module.exports = () => 3;\n",
            "node_modules/holder/package.json": '{"name": "holder", "version": "1.0.0"}',
            "node_modules/holder/index.js": "module.exports = () => 1;\n",
            "node_modules/late/package.json": '{"name": "late", "version": "1.0.0", "type": "module"}',
            "node_modules/late/index.js": 'import ms from "ms";\nimport h from "holder";\nexport default () => ms() + h();\n',
            "node_modules/late/node_modules/ms/package.json": '{"name": "ms", "version": "1.0.0"}',
            "node_modules/late/node_modules/ms/index.js": 'module.exports = () => "its own copy";\n',
            "convex/times.ts": (
                '"use node";\nimport ms from "ms";\nimport late from "late";\n'
                'import { action } from "./_generated/server";\n'
                "export const day = action({ args: {}, handler: async () => `${ms()} ${late()}` });\n"
            ),
        }
    )
    push = settled_push(chat, plain)
    bundle = bundle_as_it_stands(chat)
    ours = by_path([as_pushed(m) for m in bundle.app.functions])
    theirs = by_path(push["appDefinition"]["changedModules"])
    assert ours["times.js"] == theirs["times.js"]
    assert "its own copy" in ours["times.js"]["source"] and 'from "ms"' in ours["times.js"]["source"]
    names = [(d.name, d.version) for d in bundle.node_dependencies]
    assert names == [("holder", "1.0.0"), ("ms", "2.1.3")]
    assert sorted((d["name"], d["version"]) for d in push["nodeDependencies"]) == names


def test_the_same_components_are_pushed(make_app: MakeApp) -> None:
    app = make_app(COMPONENT)

    def analyse(push: dict[str, Any]) -> dict[str, Any]:
        children = [
            {"name": f"c{i}", "path": p, "args": None, "env": None}
            for i, p in enumerate(push["appDefinition"]["dependencies"])
        ]
        found = {"": evaluated({"childComponents": children})}
        for part in push["componentDefinitions"]:
            kind = {"type": "childComponent", "name": "x", "args": []}
            found[part["definitionPath"]] = evaluated(
                {"path": part["definitionPath"], "definitionType": kind}
            )
        return found

    push = settled_push(app, analyse)
    bundle = bundle_as_it_stands(app)
    assert as_pushed(bundle.app.definition) == push["appDefinition"]["definition"]
    assert list(bundle.app.dependencies) == push["appDefinition"]["dependencies"]
    theirs = {c["definitionPath"]: c for c in push["componentDefinitions"]}
    assert set(theirs) == {c.definition_path for c in bundle.components}
    for part in bundle.components:
        other = theirs[part.definition_path]
        assert as_pushed(part.definition) == other["definition"]
        assert list(part.dependencies) == other["dependencies"]
        assert as_pushed(part.schema) == other["schema"]
        assert by_path([as_pushed(m) for m in part.functions]) == by_path(other["functions"])


EXPORTED = re.compile(r"^export (?:declare )?(const|type) (\w+)", re.MULTILINE)
IMPORTED = re.compile(r'^import type \* as (\w+) from "([^"]+)";', re.MULTILINE)


def facts(app: App) -> dict[str, tuple[set[tuple[str, str]], list[tuple[str, str]]]]:
    """File name → (what it exports, the modules it imports in order)."""
    folder = app.root / "convex/_generated"
    texts = {p.name: p.read_text() for p in folder.iterdir()}
    return {n: (set(EXPORTED.findall(t)), IMPORTED.findall(t)) for n, t in texts.items()}


CONFIGS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"codegen": {"fileType": "ts"}}, False),
    ({"codegen": {"staticDataModel": True}}, False),
    ({"codegen": {"staticApi": True}}, True),
    ({"generateCommonJSApi": True}, True),
]
"""Each in `make test` with a schema or without one, in `make test-long` the other way round, too."""


@pytest.mark.parametrize(
    ("config", "with_schema"),
    [
        *(pytest.param(config, schema, id=f"{json.dumps(config)}-{schema}") for config, schema in CONFIGS),
        *(
            pytest.param(config, not schema, id=f"{json.dumps(config)}-{not schema}", marks=pytest.mark.long)
            for config, schema in CONFIGS
        ),
    ],
)
def test_generated_files_say_the_same(make_app: MakeApp, config: dict[str, Any], with_schema: bool) -> None:
    static = bool(config.get("codegen", {}).get("staticApi"))
    files = {"convex/messages.ts": MESSAGES, "convex/lib/deep.ts": DEEP, "convex.json": json.dumps(config)}
    if with_schema:
        files["convex/schema.ts"] = SCHEMA
        if not static:
            files["convex/typed.ts"] = TYPED
    app = make_app(files, PACKAGES)
    init_functions_dir(app.project)
    push = official_codegen(app, plain)
    theirs, official = facts(app), typecheck(app.project)
    generate(find_components(app.project, app.bundler), plain(push))
    ours, own = facts(app), typecheck(app.project)
    assert ours == theirs
    assert [(d.location, d.code) for d in own.diagnostics] == [
        (d.location, d.code) for d in official.diagnostics
    ]
    assert own.status == ("ok" if with_schema else "failed")
