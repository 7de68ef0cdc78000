"""Which files under the functions folder are modules, and in which environment each one runs.

Source: reference/cli-and-deploy.md §2.2, rule by rule. Everything wrong is found in one pass and reported
together. Skipped files are not mentioned: most of them are tests, type declarations and notes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cvx.toolchain.progress import Diagnostic, code_frame, failed

Environment = Literal["isolate", "node"]

EXTENSIONS = (".js", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts", ".jsx")
ISOLATE_ONLY = frozenset({"http", "crons", "schema", "auth.config"})
"""Root modules that the server evaluates itself, so they cannot ask for Node."""

_MODULE_LINE = re.compile(r"^\s{0,100}(import|export)", re.MULTILINE)
_HTTP_ROUTER = re.compile(r"\bimport\b[^;]*\bhttpRouter\b[^;]*\bfrom\b")
_SPACE_OR_COMMENT = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_HASHBANG = re.compile(r"#![^\n]*")
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", re.DOTALL)
_CONTINUES = re.compile(r"[.(\[`+\-*/%,?:<>=&|^]|in\b|instanceof\b|as\b|satisfies\b")


@dataclass(frozen=True)
class EntryPoint:
    """One module file. `module_path` is what the server calls it: relative, `/`, ending in `.js`."""

    file: Path
    relative: str
    environment: Environment

    @property
    def module_path(self) -> str:
        return f"{self.relative.rpartition('.')[0]}.js"


@dataclass(frozen=True)
class EntryPoints:
    """What a functions folder (of the app or of a component) consists of."""

    folder: Path
    entries: tuple[EntryPoint, ...]
    schema: Path | None = None
    auth_config: Path | None = None
    definition: Path | None = None
    warnings: tuple[Diagnostic, ...] = ()

    def files(self, environment: Environment) -> tuple[Path, ...]:
        return tuple(e.file for e in self.entries if e.environment == environment)

    def module_sources(self) -> tuple[str, ...]:
        """Relative source paths in the order `_generated/api` lists them: by UTF-16 code unit."""
        return tuple(sorted((e.relative for e in self.entries), key=lambda p: p.encode("utf-16-be")))


@dataclass
class _Scan:
    """The running state of one walk: what was found, and every complaint."""

    root: Path
    folder: Path
    is_app: bool
    entries: list[EntryPoint] = field(default_factory=list)
    errors: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)

    def complain(self, file: Path, text: str, hint: str, line: int | None = None, source: str = "") -> None:
        frame = code_frame(source, line) if line else ()
        self.errors.append(Diagnostic(text, file=self.shown(file), line=line, frame=frame, hint=hint))

    def shown(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.as_posix()


def find_entry_points(root: Path, folder: Path, *, is_app: bool = True) -> EntryPoints:
    """Walk `folder`. `root` is the project, for readable paths; a component is not the app.

    A folder that does not exist has no modules. Raises CvxError `InvalidEntryPoints` with every problem.
    """
    scan = _Scan(root, folder, is_app)
    if folder.is_dir():
        for file in _walk(folder):
            _consider(scan, file)
    schema = _either(folder, "schema")
    auth_config = _either(folder, "auth.config") if is_app else None
    both = [folder / "auth.config.js", folder / "auth.config.ts"]
    if is_app and all(path.is_file() for path in both):
        scan.complain(both[0], "auth.config.js and auth.config.ts both exist.", "Remove one of them.")
    for special in (schema, auth_config):
        if special is not None:
            _check_environment(scan, special, special.read_text("utf-8", errors="replace"))
    _check_collisions(scan)
    if scan.errors:
        raise failed(
            "InvalidEntryPoints",
            scan.errors,
            what="The functions folder cannot be bundled.",
            watched_files=[folder / e.file for e in scan.errors if e.file],
        )
    definition = _either(folder, "convex.config")
    return EntryPoints(folder, tuple(scan.entries), schema, auth_config, definition, tuple(scan.warnings))


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Files below `folder` in name order, without components nested in it."""
    with os.scandir(folder) as listing:
        items = sorted(listing, key=lambda item: item.name)
    for item in items:
        path = Path(item.path)
        if item.is_dir():
            if depth == 0 and item.name == "_generated":
                continue
            if not (path / "convex.config.ts").is_file():
                yield from _walk(path, depth + 1)
        elif item.is_file():
            yield path


def _consider(scan: _Scan, file: Path) -> None:
    relative = file.relative_to(scan.folder).as_posix()
    name = file.name
    if relative.startswith("_deps/"):
        hint = "Move this file to another folder."
        scan.complain(file, "the folder `_deps` is reserved for what the bundler puts there.", hint)
        return
    if "/" not in relative and name.lower().startswith("https."):
        _warn_of_https(scan, file)
    if not name.endswith(EXTENSIONS) or name.startswith((".", "#")):
        return
    if " " in relative:
        text = "a name with a space is no module path; the file is left out."
        scan.warnings.append(Diagnostic(text, severity="warning", file=scan.shown(file), hint="Rename it."))
        return
    if name in ("schema.ts", "schema.js") or name.count(".") > 1:
        return
    source = file.read_text("utf-8", errors="replace")
    if name.endswith((".ts", ".tsx")) and not _MODULE_LINE.search(source):
        return
    environment = _check_environment(scan, file, source)
    scan.entries.append(EntryPoint(file, relative, environment))


def _check_environment(scan: _Scan, file: Path, source: str) -> Environment:
    relative = file.relative_to(scan.folder).as_posix()
    line = use_node_line(source)
    if line is None:
        if relative.startswith("actions/"):
            scan.complain(
                file,
                'files under actions/ must begin with "use node".',
                'Add "use node"; as the first line, or move the file out of actions/.',
                1,
                source,
            )
        return "isolate"
    if relative.rpartition(".")[0] in ISOLATE_ONLY:
        hint = "Remove the directive; put Node code into a file of its own."
        scan.complain(file, f'"use node" is not allowed in {file.name}.', hint, line, source)
    elif not scan.is_app:
        hint = "Remove the directive, or move the action into the app."
        scan.complain(file, '"use node" is not supported in components.', hint, line, source)
    return "node"


def _check_collisions(scan: _Scan) -> None:
    by_module: dict[str, EntryPoint] = {}
    for entry in scan.entries:
        first = by_module.setdefault(entry.module_path, entry)
        if first is not entry:
            text = f"{first.relative} and {entry.relative} are the same module, {entry.module_path}."
            scan.complain(entry.file, text, "Rename or remove one of them.")


def _warn_of_https(scan: _Scan, file: Path) -> None:
    if _HTTP_ROUTER.search(file.read_text("utf-8", errors="replace")):
        meant = f"http{file.suffix}"
        scan.warnings.append(
            Diagnostic(
                f"routes of HTTP actions are only read from {meant}.",
                severity="warning",
                file=scan.shown(file),
                hint=f"Rename {file.name} to {meant}.",
            )
        )


def _either(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / f"{stem}.ts", folder / f"{stem}.js") if p.is_file()), None)


def use_node_line(source: str) -> int | None:
    """The line (from 1) of a "use node" directive in the program's prologue; None without one."""
    if "use node" not in source:
        return None
    position = 1 if source.startswith("\ufeff") else 0
    hashbang = _HASHBANG.match(source, position)
    position = hashbang.end() if hashbang else position
    while True:
        position = _after_space(source, position)
        literal = _STRING.match(source, position)
        if literal is None:
            return None
        end = _statement_end(source, literal.end())
        if end is None:
            return None
        if literal.group()[1:-1] == "use node":
            return source.count("\n", 0, position) + 1
        position = end


def _after_space(source: str, position: int) -> int:
    match = _SPACE_OR_COMMENT.match(source, position)
    return match.end() if match else position


def _statement_end(source: str, position: int) -> int | None:
    """Where the statement that consists of a string ends; None when the string is part of an expression."""
    after = _after_space(source, position)
    if after == len(source):
        return after
    if source[after] == ";":
        return after + 1
    on_new_line = "\n" in source[position:after]
    return after if on_new_line and not _CONTINUES.match(source, after) else None
