"""Type errors of the user's functions, as data.

Runs the project's own compiler on `<functions>/tsconfig.json`: the native one directly, the JavaScript one
under Deno. `Typecheck` is a check under way, so that it can run beside a push and be given up when the files
change again; `typecheck` runs one to its end.

Rechecks are incremental: the compiler keeps what it learned in `.cvx/cache/`.

Source: reference/cli-and-deploy.md §2.5.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cvx.errors import CvxError
from cvx.toolchain.progress import Diagnostic, FrameLine, code_frame
from cvx.toolchain.project import Project, TypeScript, find_typescript, tool_environment

Status = Literal["ok", "failed", "unavailable"]

DEADLINE_S = 300.0
NO_INPUTS = "TS18003"
"""The compiler's complaint about a folder without sources: nothing to check is nothing wrong."""

_PLACED = re.compile(r"(?P<file>.+?)\((?P<line>\d+),(?P<column>\d+)\): (?P<rest>(error|warning) TS\d+: .*)\Z")
_HEAD = re.compile(r"(?P<severity>error|warning) (?P<code>TS\d+): (?P<text>.*)\Z")
_WORD = re.compile(r"[\w$]+|\S")


@dataclass(frozen=True)
class TypecheckResult:
    """`unavailable` (with `reason`) is neither good nor bad: it passes under "try", fails under "enable"."""

    status: Status
    diagnostics: tuple[Diagnostic, ...] = ()
    files: frozenset[Path] = frozenset()
    seconds: float = 0.0
    reason: str | None = None
    hint: str | None = None
    compiler: str | None = None


class Typecheck:
    """A check under way. `result` waits for it; `cancel` gives it up."""

    def __init__(self, project: Project) -> None:
        """Start it. A project that cannot be checked is not an error here: `result` says so."""
        self._project = project
        self._begin = time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._unavailable = _unavailable(project)
        self._compiler: TypeScript | None = None
        if self._unavailable is None:
            self._compiler = find_typescript(project)
            assert self._compiler is not None, "checked by _unavailable"
            self._process = _start(project, self._compiler)

    def result(self, deadline_s: float = DEADLINE_S) -> TypecheckResult:
        """Wait for the end. Raises `TypecheckFailed` when the compiler breaks or does not end in time."""
        if self._unavailable is not None:
            return self._unavailable
        process, compiler = self._process, self._compiler
        assert process is not None and compiler is not None, "started by __init__"
        try:
            output, _ = process.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired as error:
            self.cancel()
            raise _broken(compiler, f"no end after {deadline_s:.0f} s") from error
        diagnostics, files = _read_output(self._project, output.splitlines())
        diagnostics = [d for d in diagnostics if d.code != NO_INPUTS]
        if process.returncode != 0 and not diagnostics and NO_INPUTS not in output:
            raise _broken(compiler, output.strip()[-2000:] or f"exit status {process.returncode}")
        return TypecheckResult(
            "failed" if any(d.severity == "error" for d in diagnostics) else "ok",
            tuple(diagnostics),
            frozenset(files),
            time.monotonic() - self._begin,
            compiler=f"{compiler.package} {compiler.version}",
        )

    def cancel(self) -> None:
        """Stop the compiler, if it still runs. Safe from another thread."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def typecheck(project: Project) -> TypecheckResult:
    """Check the functions folder and wait for the outcome."""
    check = Typecheck(project)
    try:
        return check.result()
    finally:
        check.cancel()


def _unavailable(project: Project) -> TypecheckResult | None:
    config = project.functions_dir / "tsconfig.json"
    if not config.is_file():
        reason = f"there is no {project.relative(config)}"
        return TypecheckResult("unavailable", reason=reason, hint="Create it with: cvx init")
    if find_typescript(project) is None:
        wanted = (
            "@typescript/native-preview" if project.config.typescript_compiler == "tsgo" else "typescript"
        )
        hint = f"Install it: npm install --save-dev {wanted}"
        return TypecheckResult("unavailable", reason=f"{wanted} is not installed", hint=hint)
    return None


def _start(project: Project, compiler: TypeScript) -> subprocess.Popen[str]:
    cache = project.state_dir / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    ignore = project.state_dir / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    build_info = cache / f"typecheck-{compiler.version}.tsbuildinfo"
    return subprocess.Popen(
        (
            *compiler.command,
            *("--project", str(project.functions_dir), "--pretty", "false", "--listFiles"),
            *("--noEmit", "--incremental", "--tsBuildInfoFile", str(build_info)),
        ),
        cwd=project.root,
        env=tool_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def _read_output(project: Project, lines: Iterable[str]) -> tuple[list[Diagnostic], set[Path]]:
    """The compiler's plain output: complaints, each followed by indented details, and file names."""
    diagnostics: list[Diagnostic] = []
    files: set[Path] = set()
    for group in _groups(lines):
        placed = _PLACED.match(group[0])
        head = _HEAD.match(placed["rest"] if placed else group[0])
        if head is None:
            path = Path(group[0])
            if path.is_absolute() and "node_modules" not in path.parts:
                files.add(path)
            continue
        severity: Literal["error", "warning"] = "error" if head["severity"] == "error" else "warning"
        notes = tuple(line[2:] for line in group[1:])
        if placed is None:
            diagnostics.append(Diagnostic(head["text"], severity, "typescript", head["code"], notes=notes))
            continue
        line, column = int(placed["line"]), int(placed["column"])
        path = project.root / placed["file"]
        diagnostics.append(
            Diagnostic(
                head["text"],
                severity,
                "typescript",
                head["code"],
                project.relative(path),
                line,
                column,
                _frame(path, line, column),
                notes,
            )
        )
    return diagnostics, files


def _groups(lines: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for line in lines:
        if group and line.startswith("  "):
            group.append(line)
            continue
        if group:
            yield group
        group = [line] if line.strip() else []
    if group:
        yield group


def _frame(path: Path, line: int, column: int) -> tuple[FrameLine, ...]:
    try:
        source = path.read_text("utf-8-sig", errors="replace")
    except OSError:
        return ()
    rows = source.splitlines()
    word = _WORD.match(rows[line - 1], column - 1) if 1 <= line <= len(rows) else None
    return code_frame(source, line, column, len(word.group()) if word else 1)


def _broken(compiler: TypeScript, why: str) -> CvxError:
    return CvxError(
        "TypecheckFailed",
        f"The TypeScript compiler ({compiler.package} {compiler.version}) failed: {why}",
        hint="Pass --typecheck disable to go on without it.",
        retry_when="files",
    )
