"""The invariants of docs/ARCHITECTURE.md that can be read from the source."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cvx.backend.config import Limits
from cvx.backend.runner import deno

ROOT = Path(__file__).resolve().parents[2]
CVX = ROOT / "cvx"

PURE = [
    *sorted((CVX / "values").glob("*.py")),
    *sorted((CVX / "protocol").glob("*.py")),
    *(
        CVX / "backend" / "database" / f"{name}.py"
        for name in ("catalog", "schema", "indexes", "read_set", "write_set", "write_log")
    ),
    CVX / "backend" / "deploy" / "plan.py",
    CVX / "backend" / "runner" / "messages.py",
    CVX / "backend" / "runner" / "action_messages.py",
]
IMPURE_MODULES = {
    "asyncio",
    "socket",
    "time",
    "random",
    "secrets",
    "threading",
    "subprocess",
    "httpx",
    "sqlite3",
    "uvicorn",
    "starlette",
}


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "_templates" not in path.parts)


def imported_modules(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(CVX)))
def test_files_that_decide_are_pure(path: Path) -> None:
    tree = ast.parse(path.read_text())
    waits = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]
    assert waits == [], f"{path}: async at lines {waits}"
    assert imported_modules(tree) & IMPURE_MODULES == set()


def test_import_contracts() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    command = str(linter) if linter.exists() else shutil.which("lint-imports")
    assert command is not None, "import-linter is not installed: pip install -e '.[dev]'"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_output_file_prints() -> None:
    offenders = []
    for path in sources(CVX):
        if path == CVX / "cli" / "output.py" or path == CVX / "__main__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                offenders.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert offenders == []


def test_only_the_committer_appends() -> None:
    offenders = []
    for path in sources(CVX / "backend"):
        if path.parent.name == "store" or path.name == "committer.py":
            continue
        if re.search(r"\bstore\.append(_many)?\(", path.read_text()):
            offenders.append(str(path.relative_to(ROOT)))
    assert offenders == []


def test_only_one_file_builds_the_sandbox_command_line() -> None:
    pattern = re.compile(r"--v8-flags|--allow-|\"-A\"|'-A'")
    offenders = [
        str(path.relative_to(ROOT))
        for path in sources(CVX / "backend")
        if pattern.search(path.read_text()) and path.relative_to(CVX / "backend") != Path("runner/deno.py")
    ]
    assert offenders == []
    for open_realm in (False, True):
        plain = deno.child_arguments(Path("deno"), Limits(), open_realm=open_realm)
        assert not [argument for argument in plain if argument.startswith("--allow")], (
            "queries and mutations get nothing"
        )
        action = deno.action_arguments(Path("deno"), Limits(), open_realm=open_realm)
        assert [argument for argument in action if argument.startswith("--allow")] == ["--allow-net"]


def test_broad_except_only_at_the_edges() -> None:
    """`except Exception` hides bugs; it belongs where a failure must not take others down."""
    edges = {
        "cli/app.py",
        "backend/http",
        "backend/sync",
        "backend/deploy",
        "backend/backend.py",
        "toolchain/dev",
        "backend/functions/executor.py",
    }
    offenders = []
    for path in sources(CVX):
        where = str(path.relative_to(CVX))
        if any(where.startswith(edge) for edge in edges):
            continue
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.ExceptHandler) or not isinstance(node.type, ast.Name):
                continue
            passes_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if (
                node.type.id in {"Exception", "BaseException"}
                and not passes_on
                and "# edge:" not in lines[node.lineno - 1]
            ):
                offenders.append(f"{where}:{node.lineno}")
    assert offenders == [], "say why with a comment `# edge: …`, or catch what you expect"


def test_every_python_file_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(CVX)
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert silent == []


def test_no_machine_path_or_registry_address_in_the_tree() -> None:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    here = "|".join(re.escape(f"{folder}/") for folder in (ROOT, Path.home()) if len(folder.parts) > 1)
    pattern = re.compile(rf"https?://(registry|files)\.|{here}")
    offenders = []
    for name in listing:
        path = ROOT / name
        if (
            name == "tests/house/test_house.py"
            or not path.is_file()
            or path.suffix in {".png", ".wasm", ".ico"}
        ):
            continue
        if pattern.search(path.read_text(errors="ignore")):
            offenders.append(name)
    assert offenders == []
