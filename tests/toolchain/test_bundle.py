"""Project → Bundle with the project's own esbuild: settings, errors, incremental rebuilds, components."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cvx.errors import CvxError
from cvx.toolchain.build import Bundle, Module, evaluate_definitions
from cvx.toolchain.progress import Diagnostic, diagnostics_of, watched_files_of
from tests.toolchain.conftest import MESSAGES, SCHEMA, App

pytestmark = pytest.mark.deno

MakeApp = Callable[..., App]

# (module (func (export "answer") (result i32) i32.const 42))
WASM = base64.b64decode("AGFzbQEAAAABBQFgAAF/AwIBAAcKAQZhbnN3ZXIAAAoGAQQAQSoL")


def modules_of(bundle: Bundle) -> dict[str, Module]:
    return {m.path: m for m in bundle.app.functions}


def problems(app: App) -> tuple[Diagnostic, ...]:
    with pytest.raises(CvxError) as caught:
        app.bundle()
    assert caught.value.code == "BundleFailed"
    assert caught.value.retry_when == "files"
    found = diagnostics_of(caught.value)
    assert found, "an error without a diagnostic tells nobody anything"
    return found


def test_an_app_with_schema(chat: App) -> None:
    bundle = chat.bundle()
    assert bundle.functions == "convex/"
    assert bundle.app.schema is not None and bundle.app.schema.path == "schema.js"
    module = modules_of(bundle)["messages.js"]
    assert module.environment == "isolate"
    assert module.source.endswith("//# sourceMappingURL=messages.js.map\n")
    source_map = json.loads(module.source_map or "")
    assert "../convex/messages.ts" in source_map["sources"]
    assert "sourcesContent" not in source_map
    expected = hashlib.sha256((module.source + (module.source_map or "")).encode()).hexdigest()
    assert module.sha256 == expected
    assert bundle.watched_files >= {chat.root / "convex/messages.ts", chat.root / "convex/schema.ts"}
    assert not any("_generated" in str(path) for path in bundle.watched_files)


def test_the_npm_package_is_a_chunk_of_its_own_even_beside_a_lone_module(chat: App) -> None:
    """A backend shares such a chunk between calls; inside the only module it would be evaluated for each."""
    modules = modules_of(chat.bundle())
    assert [path for path in modules if not path.startswith("_deps/")] == ["messages.js"]
    assert "node_modules/convex" not in modules["messages.js"].source
    chunks = [module.source for path, module in modules.items() if path.startswith("_deps/")]
    assert any("node_modules/convex" in source for source in chunks)


def test_an_app_without_definition_gets_an_empty_one(chat: App) -> None:
    bundle = chat.bundle()
    assert bundle.app.definition.path == "convex.config.js"
    assert bundle.app.dependencies == ()
    assert bundle.components == ()
    assert "defineApp" in bundle.app.definition.source
    assert json.loads(bundle.app.definition.source_map or "")["sourcesContent"]


def test_shared_code_becomes_a_chunk(chat: App) -> None:
    chat.write(
        {"convex/lib/util.ts": "export const f = () => 1;\n", "convex/m.ts": 'export * from "./lib/util";\n'}
    )
    modules = modules_of(chat.bundle())
    entries = [path for path in modules if not path.startswith("_deps/")]
    chunks = [path for path in modules if path.startswith("_deps/")]
    assert entries == ["lib/util.js", "m.js", "messages.js"]
    assert all(re.fullmatch(r"_deps/[A-Z2-7]{8}\.js", path) for path in chunks) and chunks
    assert list(modules)[: len(entries)] == entries, "entries come before their chunks"
    assert "./_deps/" in modules["m.js"].source
    assert '"../_deps/' in modules["lib/util.js"].source


def test_node_modules_and_auth_config(chat: App) -> None:
    chat.write(
        {
            "convex/files.ts": '"use node";\nimport fs from "node:fs";\nexport const n = fs.constants;\n',
            "convex/auth.config.ts": "export default { providers: [] };\n",
        }
    )
    bundle = chat.bundle()
    assert list(modules_of(bundle))[-2:] == ["files.js", "auth.config.js"]
    files = modules_of(bundle)["files.js"]
    assert files.environment == "node"
    assert files.source.startswith('"use node";')
    assert modules_of(bundle)["auth.config.js"].environment == "isolate"
    assert bundle.node_dependencies == ()


def test_external_packages(chat: App) -> None:
    chat.write(
        {
            "convex.json": '{"node": {"externalPackages": ["*"], "nodeVersion": "22"}}',
            "convex/times.ts": '"use node";\nimport ms from "ms";\nexport const day = ms("1d");\n',
            "convex/isolated.ts": 'import ms from "ms";\nexport const day = ms("1d");\n',
        }
    )
    bundle = chat.bundle()
    assert [(d.name, d.version) for d in bundle.node_dependencies] == [("ms", "2.1.3")]
    assert bundle.node_version == "22"
    assert 'from "ms"' in modules_of(bundle)["times.js"].source
    assert 'from "ms"' not in modules_of(bundle)["isolated.js"].source


def test_settings(chat: App) -> None:
    chat.write(
        {
            "convex/s.ts": (
                'import "server-only";\n'
                'import { AsyncLocalStorage } from "node:async_hooks";\n'
                "export const mode = process.env.NODE_ENV;\n"
                "export const store = () => new AsyncLocalStorage();\n"
                "export function longAndReadableName() { return 1; }\n"
            ),
            "convex/view.tsx": "export const view = () => null;\n",
        }
    )
    source = modules_of(chat.bundle())["s.js"].source
    assert '"production"' in source
    assert "= globalThis;" in source and 'from "node:async_hooks"' not in source
    assert '"longAndReadableName"' in source, "functions keep their names"


def test_wasm_is_compiled_from_embedded_bytes(chat: App) -> None:
    chat.write({"convex/w.ts": 'import wasm from "./answer.wasm";\nexport const module = wasm;\n'})
    (chat.root / "convex/answer.wasm").write_bytes(WASM)
    bundle = chat.bundle()
    source = modules_of(bundle)["w.js"].source
    assert "new WebAssembly.Module(" in source
    assert base64.b64encode(WASM).decode().rstrip("=") in source
    assert chat.root / "convex/answer.wasm" in bundle.watched_files


def test_a_missing_wasm_file_is_named(chat: App) -> None:
    chat.write({"convex/w.ts": 'import wasm from "./none.wasm";\nexport const module = wasm;\n'})
    [problem] = problems(chat)
    assert problem.location == "convex/w.ts:1:18"
    assert "none.wasm" in problem.text


def test_only_what_changed_moves(chat: App) -> None:
    chat.write({"convex/other.ts": "export const a = 1;\n"})
    before = chat.bundle()
    same = chat.bundle()
    assert same.digest() == before.digest()
    chat.write({"convex/other.ts": "export const a = 2;\n"})
    after = chat.bundle()
    assert after.digest() != before.digest()
    old, new = modules_of(before), modules_of(after)
    assert [path for path in new if new[path] != old[path]] == ["other.js"]
    assert new["messages.js"].source == old["messages.js"].source
    assert after.app.schema == before.app.schema


def test_a_new_file_can_change_what_an_import_means(chat: App) -> None:
    chat.write(
        {"convex/lib/index.ts": "export const a = 'index';\n", "convex/m.ts": 'export { a } from "./lib";\n'}
    )
    # Let the change times settle, so that the second build would be skipped if nothing had happened.
    for path in (chat.root / "convex").rglob("*.ts"):
        os.utime(path, (1, 1))
    chat.bundle()
    chat.bundle()
    chat.write({"convex/lib.ts": "export const a = 'file';\n"})
    assert "file" in "".join(m.source for m in chat.bundle().app.functions)


def test_files_come_and_go(chat: App) -> None:
    chat.write({"convex/gone.ts": "export const a = 1;\n"})
    assert "gone.js" in modules_of(chat.bundle())
    (chat.root / "convex/gone.ts").unlink()
    assert "gone.js" not in modules_of(chat.bundle())


def test_syntax_error(chat: App) -> None:
    chat.write(
        {
            "convex/messages.ts": MESSAGES.replace(
                "handler: async (ctx, args) =>", "handler: async (ctx, args =>"
            )
        }
    )
    [problem] = problems(chat)
    assert problem.source == "esbuild"
    assert problem.file == "convex/messages.ts" and problem.line == 12
    assert any(line.mark is not None for line in problem.frame)


def test_recovers_after_an_error(chat: App) -> None:
    before = chat.bundle()
    chat.write({"convex/messages.ts": "export const = 1"})
    problems(chat)
    chat.write({"convex/messages.ts": MESSAGES})
    assert chat.bundle().digest() == before.digest()


def test_a_mistake_shared_by_several_targets_is_told_once(chat: App) -> None:
    chat.write(
        {
            "convex/shared.ts": "export const a = (;\n",
            "convex/schema.ts": 'import "./shared";\n' + SCHEMA,
        }
    )
    [problem] = problems(chat)
    assert problem.location == "convex/shared.ts:1:19"


def test_columns_count_characters(chat: App) -> None:
    chat.write({"convex/u.ts": 'export const a = "äöü😀"; export const = 1;\n'})
    [problem] = problems(chat)
    line = 'export const a = "äöü😀"; export const = 1;'
    assert problem.column == line.index("= 1") + 1


def test_missing_package(chat: App) -> None:
    chat.write({"convex/p.ts": 'import { x } from "@scope/nothing/deep";\nexport const y = x;\n'})
    [problem] = problems(chat)
    assert problem.location == "convex/p.ts:1:19"
    assert not any("mark the path" in note for note in problem.notes), "an option nobody can set here"
    assert problem.hint is not None and "npm install @scope/nothing" in problem.hint


def test_missing_file(chat: App) -> None:
    chat.write({"convex/p.ts": 'import { x } from "./nothing";\nexport const y = x;\n'})
    with pytest.raises(CvxError) as caught:
        chat.bundle()
    assert chat.root / "convex/p.ts" in watched_files_of(caught.value)
    assert "convex/p.ts:1:19" in caught.value.message


def test_node_builtin_without_directive_tells_the_way_there(chat: App) -> None:
    chat.write(
        {
            "convex/lib/disk.ts": 'import fs from "fs";\nexport const read = fs.readFileSync;\n',
            "convex/lib/middle.ts": 'export { read } from "./disk";\n',
            "convex/entry.ts": 'export { read } from "./lib/middle";\n',
        }
    )
    (chat.root / "convex/lib").rename(chat.root / "shared")
    chat.write({"convex/entry.ts": 'export { read } from "../shared/middle";\n'})
    [problem] = problems(chat)
    assert problem.location == "shared/disk.ts:1:16"
    assert problem.hint is not None and '"use node"' in problem.hint
    assert problem.notes == ("imported by shared/middle.ts ← convex/entry.ts",)


def test_convex_not_installed(make_app: MakeApp) -> None:
    app = make_app({"convex/a.ts": "export const a = 1;\n"})
    (app.root / "node_modules").unlink()
    with pytest.raises(CvxError) as caught:
        app.bundler.start(app.project)
    assert caught.value.code == "ConvexNotInstalled"


def test_the_bundler_is_replaced_when_it_dies(chat: App) -> None:
    before = chat.bundle()
    process = chat.bundler._process
    assert process is not None
    process.kill()
    process.wait()
    assert chat.bundle().digest() == before.digest()


def test_nothing_is_left_running(chat: App) -> None:
    chat.bundle()
    process = chat.bundler._process
    assert process is not None
    chat.bundler.close()
    assert process.poll() is not None


# ------------------------------------------------------------------------------------------------ components

COMPONENT = {
    "mycomp/convex.config.ts": (
        'import { defineComponent } from "convex/server";\n'
        'import inner from "../inner/convex.config";\n'
        'const component = defineComponent("mycomp");\ncomponent.use(inner);\nexport default component;\n'
    ),
    "mycomp/lib.ts": (
        'import { v } from "convex/values";\nimport { query } from "./_generated/server";\n'
        'export const ping = query({ args: {}, returns: v.string(), handler: async () => "pong" });\n'
    ),
    "mycomp/schema.ts": SCHEMA,
    "inner/convex.config.ts": (
        'import { defineComponent } from "convex/server";\nexport default defineComponent("inner");\n'
    ),
    "convex/convex.config.ts": (
        'import { defineApp } from "convex/server";\nimport { v } from "convex/values";\n'
        'import rateLimiter from "@convex-dev/rate-limiter/convex.config";\n'
        'import mycomp from "../mycomp/convex.config.js";\n'
        "const app = defineApp({ env: { API_KEY: v.string(), MODE: v.optional(v.literal('a')) } });\n"
        'app.use(rateLimiter);\napp.use(mycomp);\napp.use(mycomp, { name: "second" });\nexport default app;\n'
    ),
    "convex/a.ts": "export const a = 1;\n",
}


def test_components_are_discovered(make_app: MakeApp) -> None:
    bundle = make_app(COMPONENT).bundle()
    limiter, *_ = [c for c in bundle.components if "rate-limiter" in c.definition_path]
    assert bundle.app.dependencies == (limiter.definition_path, "../mycomp")
    by_path = {c.definition_path: c for c in bundle.components}
    assert set(by_path) == {limiter.definition_path, *limiter.dependencies, "../mycomp", "../inner"}
    mine = by_path["../mycomp"]
    assert mine.dependencies == ("../inner",)
    assert [m.path for m in mine.functions] == ["lib.js"]
    assert mine.schema is not None
    assert (
        f"_componentDeps/{base64.urlsafe_b64encode(b'../inner').decode().rstrip('=')}"
        in mine.definition.source
    )
    assert limiter.directory.import_specifier == "@convex-dev/rate-limiter"
    assert limiter.directory.is_published
    assert limiter.schema is not None and limiter.functions


def test_definitions_can_be_evaluated_without_a_deployment(make_app: MakeApp) -> None:
    app = make_app(COMPONENT)
    answer = evaluate_definitions(app.bundle(), app.bundler)
    children = [(c["name"], c["path"]) for c in answer[""]["definition"]["childComponents"]]
    assert [name for name, _ in children] == ["rateLimiter", "mycomp", "second"]
    assert answer["../mycomp"]["definition"]["childComponents"][0]["path"] == "../inner"
    assert [name for name, _ in answer[""]["definition"]["envVars"]] == ["API_KEY", "MODE"]


def test_evaluation_may_do_nothing_outside(make_app: MakeApp) -> None:
    app = make_app(
        {
            "convex/convex.config.ts": (
                'import { defineApp } from "convex/server";\n'
                'declare const Deno: any;\nDeno.readTextFileSync("/etc/hostname");\nexport default defineApp();\n'
            )
        }
    )
    bundle = app.bundle()
    with pytest.raises(CvxError) as caught:
        evaluate_definitions(bundle, app.bundler)
    assert caught.value.code == "InvalidDefinition"
    assert app.bundle().digest() == bundle.digest(), "the bundler outlives a bad definition"


def test_a_definition_that_does_not_resolve(make_app: MakeApp) -> None:
    app = make_app(
        {
            "convex/convex.config.ts": (
                'import { defineApp } from "convex/server";\nimport x from "../nowhere/convex.config";\n'
                "const app = defineApp();\napp.use(x);\nexport default app;\n"
            )
        }
    )
    [problem] = problems(app)
    assert problem.location == "convex/convex.config.ts:2:15"


def test_use_node_in_a_component(make_app: MakeApp) -> None:
    app = make_app({**COMPONENT, "mycomp/n.ts": '"use node";\nexport const a = 1;\n'})
    with pytest.raises(CvxError) as caught:
        app.bundle()
    assert caught.value.code == "InvalidEntryPoints"
    assert diagnostics_of(caught.value)[0].location == "mycomp/n.ts:1"


def test_a_change_right_after_an_answer_is_seen(chat: App) -> None:
    seen = {chat.bundle().digest()}
    for number in range(8):
        chat.write({"convex/messages.ts": f"{MESSAGES}export const number = {number};\n"})
        seen.add(chat.bundle().digest())
    assert len(seen) == 9


def test_a_build_can_be_given_up(chat: App) -> None:
    chat.bundle()
    process = chat.bundler._process
    assert process is not None
    # A stopped process answers nothing: the build can only end by being given up.
    process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor() as threads:
        building = threads.submit(chat.bundle)
        time.sleep(0.2)
        assert not building.done()
        chat.bundler.close()
        with pytest.raises(CvxError) as caught:
            building.result(timeout=60)
    assert caught.value.code == "BundlerFailed"
    assert process.poll() is not None


def test_warnings_about_the_page_say_nothing_about_the_functions(chat: App) -> None:
    """A framework makes its own tsconfig when it starts; anything else is said once, not for every target."""
    config = chat.root / "tsconfig.json"
    config.write_text('{"extends": "$app/tsconfig"}')
    assert chat.bundle().warnings == ()
    config.write_text('{"compilerOptions": {"target": "no such thing"}}')
    (warning,) = chat.bundle().warnings
    assert (warning.file, warning.line) == ("tsconfig.json", 1)
