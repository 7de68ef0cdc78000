"""Which line of the user's an error's stack leads to; and which files are none of their business."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvx.errors import CvxError
from cvx.toolchain.progress import diagnostics_of
from cvx.toolchain.project import Project, load_project, with_code_frame


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "app"
    (root / "convex").mkdir(parents=True)
    (root / "node_modules" / "lib").mkdir(parents=True)
    (root / "package.json").write_text('{"name": "app", "dependencies": {"convex": "1.48.0"}}')
    (root / "convex" / "a.ts").write_text("one\ntwo\n  three(four);\nfive\n")
    (root / "node_modules" / "lib" / "index.js").write_text("theirs\n" * 9)
    (tmp_path / "outside.ts").write_text("secret\n" * 9)
    return load_project(root)


def shown(project: Project | None, *places: str) -> tuple[str, list[str]] | None:
    message = "a:b: Uncaught Error: no\n" + "\n".join(f"    at {place}" for place in places)
    found = diagnostics_of(with_code_frame(project, CvxError("FunctionThrew", message)))
    return (found[0].location, [line.text for line in found[0].frame]) if found else None


@pytest.mark.parametrize(
    "places",
    [
        ["handler (../convex/a.ts:3:9)"],
        ["../convex/a.ts:3:9"],
        ["async handler (convex/a.ts:3:9)"],
        ["inner (../node_modules/lib/index.js:2:1)", "handler (../convex/a.ts:3:9)"],
        ["native", "handler (../convex/gone.ts:1:1)", "handler (../convex/a.ts:3:9)"],
    ],
)
def test_the_innermost_line_of_ones_own(project: Project, places: list[str]) -> None:
    assert shown(project, *places) == ("convex/a.ts:3:9", ["one", "two", "  three(four);", "five"])


@pytest.mark.parametrize(
    "place",
    [
        "handler (../../outside.ts:3:1)",
        "handler (../node_modules/lib/index.js:2:1)",
        "handler (convex:/testQuery.js:3:32)",
        "handler (../convex/a.ts:99:1)",
        "handler (../convex:1:1)",
    ],
)
def test_other_places_show_nothing(project: Project, place: str) -> None:
    assert shown(project, place) is None
    assert shown(None, place) is None
