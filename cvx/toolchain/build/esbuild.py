"""The bundler process: started once, asked many times, replaced when it dies.

`Bundler` talks to bundler.js (which holds the project's own esbuild) in JSON lines. It is synchronous; a
caller with an event loop runs it in a thread. One request at a time.

A module whose text did not change since the last answer comes without it; the texts are kept here, so a
rebuild of a hundred modules moves only the one that was edited.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.build.entry_points import Environment
from cvx.toolchain.progress import Diagnostic, FrameLine, code_frame
from cvx.toolchain.project import Project, deno_run, find_esbuild, tool_environment

START_DEADLINE_S = 30.0
BUILD_DEADLINE_S = 120.0
GO_COLLECTION = "400"
"""Go's GOGC for esbuild: collecting garbage less often made rebuilds of 100 modules a quarter faster."""
SCRIPT = Path(__file__).with_name("bundler.js")


@dataclass(frozen=True)
class Module:
    """One bundled module as it is pushed. `sha256` covers source, then source map (hex)."""

    path: str
    source: str
    source_map: str | None
    environment: Environment
    sha256: str


class Target(msgspec.Struct, rename="camel", frozen=True):
    """One esbuild run. The same key with the same fields is built incrementally."""

    key: str
    kind: Literal["functions", "definitions"]
    dir: str
    entries: tuple[str, ...]
    platform: Literal["browser", "node"] = "browser"
    chunks: str = "_deps"
    splitting: bool = True
    sources_content: bool = False
    externals: tuple[str, ...] = ()
    virtual: bool = False


@dataclass(frozen=True)
class Built:
    """What became of one target: modules, or errors. `inputs` are the files that were read."""

    modules: tuple[Module, ...] = ()
    inputs: tuple[Path, ...] = ()
    externals: tuple[str, ...] = ()
    errors: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()


class _Location(msgspec.Struct, rename="camel"):
    file: str
    line: int = 0
    column: int = 0
    length: int = 0
    line_text: str = ""


class _Note(msgspec.Struct):
    text: str
    location: _Location | None = None


class _Message(msgspec.Struct):
    text: str
    location: _Location | None = None
    notes: list[_Note] = []
    trace: list[str] = []


class _Output(msgspec.Struct, rename="camel"):
    path: str
    sha256: str
    source: str | None = None
    source_map: str | None = None


class _Result(msgspec.Struct):
    modules: list[_Output] = []
    inputs: list[str] = []
    externals: list[str] = []
    errors: list[_Message] = []
    warnings: list[_Message] = []


class DefinitionSource(msgspec.Struct, frozen=True):
    """A bundled definition to evaluate; `dependencies` are definition paths evaluated before it."""

    path: str
    source: str
    dependencies: tuple[str, ...]


class FoundDependency(msgspec.Struct):
    """An import of one definition by another; `specifier` as written in the source."""

    file: str
    specifier: str | None


class FoundDefinition(msgspec.Struct):
    """One convex.config file and the definitions it imports, in source order."""

    file: str
    dependencies: list[FoundDependency]


class _Answer(msgspec.Struct):
    results: dict[str, _Result] = {}
    definitions: list[FoundDefinition] = []
    inputs: list[str] = []
    errors: list[_Message] = []
    evaluated: list[str] = []
    problem: str | None = None
    at: str | None = None
    failure: str | None = None
    ready: bool = False


@dataclass(frozen=True)
class Discovery:
    """The component definitions reachable from the app's definition."""

    definitions: tuple[FoundDefinition, ...] = ()
    inputs: tuple[Path, ...] = ()
    errors: tuple[Diagnostic, ...] = ()


class Bundler:
    """The project's esbuild, running. Use as a context manager, or call `close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._esbuild: Path | None = None
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._turn = threading.Lock()
        self._known: dict[str, dict[str, Module]] = {}
        self._closed = False

    def __enter__(self) -> Bundler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, project: Project) -> None:
        """Start the process without waiting for it, so that it warms up beside other work.

        Raises `ConvexNotInstalled`, `EsbuildNotInstalled` or `DenoNotFound`.
        """
        if self._closed:
            raise _broken("it was closed")
        esbuild = find_esbuild(project)
        if self._process is not None and self._process.poll() is None and self._esbuild == esbuild:
            return
        self._stop()
        self._esbuild = esbuild
        self._known = {}
        self._answers = queue.Queue()
        self._process = subprocess.Popen(
            deno_run(SCRIPT, str(esbuild / "lib" / "main.js"), flags=("--unstable-worker-options",)),
            cwd=project.root,
            env={"GOGC": GO_COLLECTION, **tool_environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=_pump, args=(self._process, self._answers), daemon=True).start()

    def build(self, project: Project, targets: Sequence[Target]) -> dict[str, Built]:
        """Run the targets beside each other; every one of them has an entry in the answer.

        Targets of earlier calls that are not named again are forgotten. User mistakes are `errors` in the
        answer. Raises `BundlerFailed` when the process itself breaks.
        """
        request = {"cmd": "build", "root": str(project.root), "targets": targets}
        with self._turn:
            answer = self._ask(project, request)
            self._known = {target.key: self._known.get(target.key, {}) for target in targets}
            return {t.key: self._built(project, t, answer.results[t.key]) for t in targets}

    def discover(self, project: Project, definition: Path) -> Discovery:
        """Follow the imports between convex.config files, beginning with the app's."""
        request = {"cmd": "discover", "root": str(project.root), "entry": str(definition)}
        with self._turn:
            answer = self._ask(project, request)
        return Discovery(
            tuple(answer.definitions),
            tuple(Path(p) for p in answer.inputs),
            tuple(_diagnostic(project, m, "error") for m in answer.errors),
        )

    def evaluate(self, project: Project, sources: Sequence[DefinitionSource]) -> tuple[dict[str, Any], ...]:
        """What each definition's `export()` returns, each run in a worker without any permission.

        Raises `InvalidDefinition` with the message that user code threw.
        """
        with self._turn:
            answer = self._ask(project, {"cmd": "evaluate", "sources": sources})
        if answer.problem is not None:
            raise CvxError(
                "InvalidDefinition",
                f"{answer.at or 'The app'}: convex.config cannot be evaluated: {answer.problem}",
                hint="Fix the convex.config file; it may only define and mount components.",
                retry_when="files",
            )
        return tuple(msgspec.json.decode(text, type=dict[str, Any]) for text in answer.evaluated)

    def close(self) -> None:
        """End for good. Safe from another thread: a build in progress then raises `BundlerFailed`."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            try:
                process.stdin.close()
            except OSError:
                pass
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _built(self, project: Project, target: Target, result: _Result) -> Built:
        known = self._known[target.key]
        modules: dict[str, Module] = {}
        environment: Environment = "node" if target.platform == "node" else "isolate"
        for output in result.modules:
            if output.source is None:
                modules[output.path] = known[output.path]
                continue
            modules[output.path] = Module(
                output.path, output.source, output.source_map, environment, output.sha256
            )
        if not result.errors:  # The other side keeps what it sent through a failed build, so do we.
            self._known[target.key] = modules
        return Built(
            tuple(modules.values()),
            tuple(Path(p) for p in result.inputs),
            tuple(result.externals),
            tuple(_diagnostic(project, m, "error", platform=target.platform) for m in result.errors),
            tuple(_diagnostic(project, m, "warning") for m in result.warnings if not _is_of_the_page(m)),
        )

    def _ask(self, project: Project, request: dict[str, Any]) -> _Answer:
        fresh = self._process is None or self._process.poll() is not None
        self.start(project)
        process, answers = self._process, self._answers
        assert process is not None and process.stdin is not None, "start leaves a running process"
        try:
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            process.stdin.flush()
            answer = self._next(answers, START_DEADLINE_S + BUILD_DEADLINE_S)
            if answer.ready:
                answer = self._next(answers, BUILD_DEADLINE_S)
        except (OSError, ValueError) as error:  # ValueError: its pipe was closed by `close`.
            self._stop()
            if fresh:
                raise _broken(f"it did not start: {error}") from error
            return self._ask(
                project, request
            )  # It died while idle: once more, unless closed, with a new one.
        if answer.failure is not None:
            self._stop()  # Its contexts may be half made.
            raise _broken(answer.failure)
        return answer

    def _next(self, answers: queue.Queue[bytes | None], deadline_s: float) -> _Answer:
        try:
            line = answers.get(timeout=deadline_s)
        except queue.Empty as error:
            self._stop()
            raise _broken(f"no answer within {deadline_s:.0f} s") from error
        if line is None:
            raise BrokenPipeError("it ended")
        return msgspec.json.decode(line, type=_Answer)


def _pump(process: subprocess.Popen[bytes], answers: queue.Queue[bytes | None]) -> None:
    assert process.stdout is not None, "started with a pipe"
    with process.stdout:
        for line in process.stdout:
            answers.put(line)
    answers.put(None)


def _broken(why: str) -> CvxError:
    return CvxError(
        "BundlerFailed",
        f"The bundler process failed: {why}",
        kind="internal",
        hint="Try again; if it persists, reinstall the project's packages.",
        retry_when="files",
    )


def _diagnostic(
    project: Project,
    message: _Message,
    severity: Literal["error", "warning"],
    *,
    platform: str = "browser",
) -> Diagnostic:
    # esbuild advises options of its own that nobody can set here.
    notes = [note.text for note in message.notes if "mark the path" not in note.text]
    hint = None
    if platform != "node" and any("bundle for node" in note for note in notes):
        notes = []
        hint = 'Put this code into a file of its own that begins with "use node"; it may hold only actions.'
        if len(message.trace) > 1:
            notes = ["imported by " + " ← ".join(reversed(message.trace[:-1]))]
    location = message.location
    if location is None:
        return Diagnostic(message.text, severity, "esbuild", notes=tuple(notes), hint=hint)
    file = location.file.partition(":")[2] if location.file.startswith("file:") else location.file
    column = _character(location.line_text, location.column) + 1
    length = max(1, _character(location.line_text, location.column + location.length) + 1 - column)
    path = project.root / file
    return Diagnostic(
        message.text,
        severity,
        "esbuild",
        file=project.relative(path),
        line=location.line or None,
        column=column if location.line else None,
        frame=_frame(path, location, column, length),
        notes=tuple(notes),
        hint=hint or _hint(message.text, severity),
    )


def _is_of_the_page(warning: _Message) -> bool:
    """Whether a warning is about a tsconfig.json whose base is not there.

    A front end's tool makes it when it starts for the first time (SvelteKit's `$app/tsconfig`), which `cvx dev` lets it
    do after the first push. What it would mean for the functions, the type checker says.
    """
    return warning.text.startswith("Cannot find base config file ")


def _frame(path: Path, location: _Location, column: int, length: int) -> tuple[FrameLine, ...]:
    if not location.line:
        return ()
    try:
        source = path.read_text("utf-8", errors="replace")
    except OSError:
        return (FrameLine(location.line, location.line_text, (column - 1, column - 1 + length)),)
    return code_frame(source, location.line, column, length)


def _hint(text: str, severity: Literal["error", "warning"]) -> str | None:
    if not text.startswith("Could not resolve "):
        return "Correct this line, or the one before it." if severity == "error" else None
    specifier = text.removeprefix("Could not resolve ").strip('"')
    if specifier.startswith((".", "/")):
        return "Check the path, or create the file."
    name = "/".join(specifier.split("/")[: 2 if specifier.startswith("@") else 1])
    return f"Add {name} to package.json and install it: npm install {name}"


def _character(text: str, byte: int) -> int:
    """esbuild counts columns in UTF-8 bytes; people count characters."""
    return len(text.encode()[:byte].decode("utf-8", errors="ignore"))
