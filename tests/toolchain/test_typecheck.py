"""Type errors as data, with the JavaScript compiler under Deno and with the native one."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cvx.toolchain.build import Typecheck, find_components, generate, init_functions_dir, typecheck
from cvx.toolchain.project import find_typescript
from tests.toolchain.conftest import MESSAGES, PACKAGES, SCHEMA, App

pytestmark = pytest.mark.deno

MakeApp = Callable[..., App]
NATIVE = {"convex": "1.48.0", "typescript": "7.0.2"}


@pytest.fixture(params=["typescript 5.9.3", "typescript 7.0.2"])
def typed(make_app: MakeApp, request: pytest.FixtureRequest) -> App:
    packages = NATIVE if request.param.endswith("7.0.2") else PACKAGES
    app = make_app({"convex/messages.ts": MESSAGES, "convex/schema.ts": SCHEMA}, packages)
    init_functions_dir(app.project)
    generate(find_components(app.project, app.bundler))
    compiler = find_typescript(app.project)
    assert compiler is not None
    assert f"{compiler.package} {compiler.version}" == request.param
    assert compiler.native == request.param.endswith("7.0.2")
    return app


def test_no_errors(typed: App) -> None:
    result = typecheck(typed.project)
    assert (result.status, result.diagnostics) == ("ok", ())
    assert typed.root / "convex/messages.ts" in result.files
    assert not any("node_modules" in path.parts for path in result.files)


def test_errors_have_a_place_and_a_frame(typed: App) -> None:
    text = (
        MESSAGES
        + '\nexport const wrong: number = "text";\nexport const also = { a: 1 } satisfies { a: string };\n'
    )
    typed.write({"convex/messages.ts": text})
    result = typecheck(typed.project)
    assert result.status == "failed"
    first, second = result.diagnostics
    line = text.splitlines().index('export const wrong: number = "text";') + 1
    assert (first.location, first.code, first.source) == (
        f"convex/messages.ts:{line}:14",
        "TS2322",
        "typescript",
    )
    assert first.text == "Type 'string' is not assignable to type 'number'."
    [marked] = [row for row in first.frame if row.mark is not None]
    assert marked.mark is not None and marked.text[slice(*marked.mark)] == "wrong"
    assert second.line == line + 1


def test_an_error_and_its_cure_are_seen_incrementally(typed: App) -> None:
    assert typecheck(typed.project).status == "ok"
    typed.write({"convex/messages.ts": MESSAGES.replace('"by_author"', '"by_nobody"')})
    assert typecheck(typed.project).status == "failed"
    assert typecheck(typed.project).status == "failed", "an unchanged error is still an error"
    typed.write({"convex/messages.ts": MESSAGES})
    assert typecheck(typed.project).status == "ok"
    assert (typed.root / ".cvx/.gitignore").read_text() == "*\n"
    assert not list((typed.root / "convex").rglob("*.tsbuildinfo"))


def test_an_error_in_the_configuration(typed: App) -> None:
    typed.write({"convex/tsconfig.json": '{"compilerOptions": {"nonsense": true}, "include": ["./**/*"]}'})
    result = typecheck(typed.project)
    assert result.status == "failed"
    assert any(d.code == "TS5023" for d in result.diagnostics)


def test_nothing_to_check_is_fine(typed: App) -> None:
    typed.write({"convex/tsconfig.json": '{"include": ["./none/*"]}'})
    assert typecheck(typed.project).status == "ok"


def test_a_check_can_be_given_up(typed: App) -> None:
    check = Typecheck(typed.project)
    begin = time.monotonic()
    check.cancel()
    assert time.monotonic() - begin < 20
    check.cancel()


def test_without_configuration_or_compiler(make_app: MakeApp) -> None:
    app = make_app({"convex/a.ts": "export const a = 1;\n"})
    result = typecheck(app.project)
    assert result.status == "unavailable" and result.reason == "there is no convex/tsconfig.json"
    init_functions_dir(app.project)
    (app.root / "node_modules").unlink()
    result = typecheck(app.project)
    assert result.status == "unavailable" and result.reason == "typescript is not installed"
    assert result.hint is not None and "npm install --save-dev typescript" in result.hint
