"""Which files are modules: every rule of reference/cli-and-deploy.md §2.2, and every refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvx.errors import CvxError
from cvx.toolchain.build import EntryPoints, find_entry_points
from cvx.toolchain.build.entry_points import use_node_line
from cvx.toolchain.progress import Diagnostic, diagnostics_of

EXPORT = "export const x = 1;\n"


def scan(tmp_path: Path, files: dict[str, str], *, is_app: bool = True) -> EntryPoints:
    for name, text in files.items():
        path = tmp_path / "convex" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return find_entry_points(tmp_path, tmp_path / "convex", is_app=is_app)


def complaints(tmp_path: Path, files: dict[str, str], *, is_app: bool = True) -> list[Diagnostic]:
    with pytest.raises(CvxError) as caught:
        scan(tmp_path, files, is_app=is_app)
    assert caught.value.code == "InvalidEntryPoints"
    assert caught.value.retry_when == "files"
    return list(diagnostics_of(caught.value))


def test_every_accepted_extension_is_a_module(tmp_path: Path) -> None:
    names = ["a.js", "b.mjs", "c.cjs", "d.jsx", "e.ts", "f.tsx", "g.mts", "h.cts"]
    found = scan(tmp_path, dict.fromkeys(names, EXPORT))
    assert [e.relative for e in found.entries] == names
    assert [e.module_path for e in found.entries] == [f"{n[0]}.js" for n in names]


@pytest.mark.parametrize(
    "name",
    [
        "_generated/api.js",
        ".hidden.ts",
        "#a.ts#",
        "#a.ts",
        "schema.ts",
        "deep/schema.ts",
        "deep/schema.js",
        "a.test.ts",
        "types.d.ts",
        "auth.config.ts",
        "convex.config.ts",
        "with space.ts",
        "a folder/b.ts",
        "notes.md",
        "data.json",
        "style.css",
    ],
)
def test_what_is_not_a_module(tmp_path: Path, name: str) -> None:
    found = scan(tmp_path, {name: EXPORT, "kept.ts": EXPORT})
    assert [e.relative for e in found.entries] == ["kept.ts"]


def test_typescript_needs_an_import_or_export(tmp_path: Path) -> None:
    found = scan(
        tmp_path, {"empty.ts": "const a = 1;\n", "empty.js": "const a = 1;\n", "x.tsx": "  import 'y'"}
    )
    assert [e.relative for e in found.entries] == ["empty.js", "x.tsx"]


def test_folders_with_their_own_definition_are_other_components(tmp_path: Path) -> None:
    found = scan(
        tmp_path,
        {"c/convex.config.ts": EXPORT, "c/a.ts": EXPORT, "d/convex.config.js": EXPORT, "d/b.ts": EXPORT},
    )
    assert [e.relative for e in found.entries] == ["d/b.ts"]


def test_a_missing_folder_has_no_modules(tmp_path: Path) -> None:
    assert find_entry_points(tmp_path, tmp_path / "convex").entries == ()


def test_module_list_is_in_code_unit_order(tmp_path: Path) -> None:
    found = scan(tmp_path, dict.fromkeys(["b.ts", "B.ts", "a-b.ts", "a.ts", "a/b.ts"], EXPORT))
    assert found.module_sources() == ("B.ts", "a-b.ts", "a.ts", "a/b.ts", "b.ts")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('"use node";\n', 1),
        ("'use node'\nimport x from 'y'", 1),
        ('// a comment\n/* and\nanother */ "use node";', 3),
        ('"use strict";\n"use node";\nexport {}', 2),
        ('#!/usr/bin/env node\n"use node"', 2),
        ('\ufeff"use node";', 1),
        ('"use node" // why\nexport {}', 1),
        ('import x from "y";\n"use node";', None),
        ('const s = "use node";', None),
        ('// "use node"\nexport {}', None),
        ('"use node" + 1;', None),
        ('"use node"\n.length', None),
        ('"use node please";', None),
        ("`use node`;", None),
        ("export {}", None),
    ],
)
def test_the_directive_is_found_where_javascript_has_it(source: str, line: int | None) -> None:
    assert use_node_line(source) == line


def test_environment_follows_the_directive(tmp_path: Path) -> None:
    found = scan(
        tmp_path, {"n.ts": '"use node";\nexport {}', "actions/m.ts": '"use node";\nexport {}', "i.ts": EXPORT}
    )
    assert {e.relative: e.environment for e in found.entries} == {
        "actions/m.ts": "node",
        "i.ts": "isolate",
        "n.ts": "node",
    }


def test_reserved_folder(tmp_path: Path) -> None:
    [complaint] = complaints(tmp_path, {"_deps/a.ts": EXPORT})
    assert complaint.file == "convex/_deps/a.ts"
    assert "reserved" in complaint.text


@pytest.mark.parametrize("name", ["http.ts", "crons.js", "schema.ts", "auth.config.ts"])
def test_special_modules_cannot_ask_for_node(tmp_path: Path, name: str) -> None:
    [complaint] = complaints(tmp_path, {name: '\n// first\n"use node";\nexport default 1;'})
    assert complaint.location == f"convex/{name}:3"
    assert '"use node" is not allowed' in complaint.text
    assert [line.text for line in complaint.frame if line.number == 3] == ['"use node";']


def test_a_nested_http_module_may_ask_for_node(tmp_path: Path) -> None:
    found = scan(tmp_path, {"lib/http.ts": '"use node";\nexport {}'})
    assert [e.environment for e in found.entries] == ["node"]


def test_actions_folder_needs_the_directive(tmp_path: Path) -> None:
    [complaint] = complaints(tmp_path, {"actions/a.ts": EXPORT})
    assert complaint.location == "convex/actions/a.ts:1"
    assert complaint.hint is not None and '"use node"' in complaint.hint


def test_two_auth_configs(tmp_path: Path) -> None:
    [complaint] = complaints(tmp_path, {"auth.config.ts": EXPORT, "auth.config.js": EXPORT})
    assert "both exist" in complaint.text


def test_two_files_for_one_module(tmp_path: Path) -> None:
    [complaint] = complaints(tmp_path, {"lib/a.ts": EXPORT, "lib/a.js": EXPORT})
    assert complaint.text == "lib/a.js and lib/a.ts are the same module, lib/a.js."


def test_components_have_no_node(tmp_path: Path) -> None:
    [complaint] = complaints(tmp_path, {"a.ts": '"use node";\nexport {}'}, is_app=False)
    assert "not supported in components" in complaint.text


def test_all_problems_at_once(tmp_path: Path) -> None:
    found = complaints(
        tmp_path, {"_deps/a.ts": EXPORT, "actions/b.ts": EXPORT, "http.ts": '"use node";\nexport {}'}
    )
    assert {c.file for c in found} == {"convex/_deps/a.ts", "convex/actions/b.ts", "convex/http.ts"}


def test_https_is_probably_http(tmp_path: Path) -> None:
    found = scan(
        tmp_path, {"https.ts": 'import { httpRouter } from "convex/server";\nexport default httpRouter();'}
    )
    [warning] = found.warnings
    assert warning.severity == "warning"
    assert warning.hint == "Rename https.ts to http.ts."
    assert scan(tmp_path, {"https.ts": EXPORT}).warnings == ()
