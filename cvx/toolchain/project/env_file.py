"""Read `.env.local` and `.env`, and edit exactly one line of them.

python-dotenv decides what a file means, in reading and in editing alike, so an edit touches precisely the
characters of the one assignment that counts (the last one, as every dotenv reader has it). Line endings,
comments, order, quoting of other lines and a missing last newline stay.

Source: reference/cli-and-deploy.md §1.5. Deliberately better than the official CLI: it replaces the first
line that merely *starts* with the name, so CONVEX_URL_OLD can fall victim to CONVEX_URL.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from cvx.errors import CvxError
from cvx.toolchain.project.framework import SITE_URL_VARIABLES, URL_VARIABLES, detect_framework
from cvx.toolchain.project.project import Project

if TYPE_CHECKING:
    from dotenv.parser import Binding

ENV_LOCAL = ".env.local"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PLAIN_VALUE = re.compile(r"[^\s#'\"`\\$]*\Z")


@dataclass(frozen=True)
class EnvFileChange:
    """What `write_urls` did: the file, the variables whose value it changed, and what it could not do."""

    file: Path
    changed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def parse_env(text: str) -> dict[str, str]:
    """Variables of a dotenv text; a later assignment wins; no `${…}` expansion."""
    return {b.key: b.value for b in _bindings(text) if b.key is not None and b.value is not None}


def read_env_file(path: Path) -> dict[str, str]:
    """Variables of a dotenv file; empty when it does not exist. Raises `InvalidEnvFile` on a broken line."""
    text = _read(path)
    if text is None:
        return {}
    for binding in _bindings(text):
        if binding.error:
            line = binding.original.line
            raise CvxError(
                "InvalidEnvFile",
                f"{path.name}:{line}: this line is not NAME=value: {_shown(binding.original.string)}",
                hint=f"Fix or remove line {line} of {path.name}.",
                retry_when="files",
            )
    return parse_env(text)


def set_variable(text: str, name: str, value: str, *, comment: str | None = None) -> str:
    """`text` with `name` set to `value`; unchanged when it has that value already.

    A variable that is missing is appended after an empty line, with `comment` on the line before it.
    """
    if not _NAME.match(name):
        raise CvxError("InvalidVariableName", f"{name!r} is not a name for an environment variable.")
    assignment = f"{name}={_rendered(value)}"
    newline = "\r\n" if "\r\n" in text else "\n"
    start, binding = _last_binding(text, name)
    if binding is None:
        lead = f"{comment}{newline}" if comment else ""
        gap = "" if not text else newline if text.endswith("\n") else newline * 2
        return f"{text}{gap}{lead}{assignment}{newline}"
    if binding.value == value:
        return text
    original = binding.original.string
    indent = original[: len(original) - len(original.lstrip())]
    export = "export " if original.lstrip().startswith("export ") else ""
    tail = re.search(r"(\r\n|\n|\r)?\Z", original)
    ending = tail.group() if tail else ""
    return f"{text[:start]}{indent}{export}{assignment}{ending}{text[start + len(original) :]}"


def remove_variable(text: str, name: str) -> str:
    """`text` without any assignment to `name`."""
    while True:
        start, binding = _last_binding(text, name)
        if binding is None:
            return text
        original = binding.original.string
        kept = original[: len(original) - len(original.lstrip("\r\n"))]  # Empty lines before it stay.
        text = f"{text[:start]}{kept}{text[start + len(original) :]}"


def edit_env_file(path: Path, edit: dict[str, str | None]) -> tuple[str, ...]:
    """Set (or, with None, remove) variables in a file; returns the names that changed.

    The file is replaced in one step and keeps its permissions; a symbolic link keeps pointing at it. A new
    file is readable by its owner alone, since keys end up in it.
    """
    before = _read(path)
    text, changed = before or "", []
    for name, value in edit.items():
        after = remove_variable(text, name) if value is None else set_variable(text, name, value)
        if after != text:
            changed.append(name)
        text = after
    if changed:
        write_atomically(path, text, mode=0o600)
    return tuple(changed)


def write_urls(project: Project, url: str, site_url: str | None) -> EnvFileChange:
    """Store the deployment's URLs for the front end, under the name its framework reads.

    A file that already has one known name keeps that name; with several the file is left alone and a
    warning says so.
    """
    framework = detect_framework(project.package_json)
    path = project.root / ENV_LOCAL
    if framework.name == "Remix" and not path.exists():
        path = project.root / ".env"
    existing = read_env_file(path)
    edit: dict[str, str | None] = {}
    warnings: list[str] = []
    for name, known, value in (
        (framework.url_variable, URL_VARIABLES, url),
        (framework.site_url_variable, SITE_URL_VARIABLES, site_url),
    ):
        present = [n for n in existing if n in known]
        if value is None:
            continue
        if len(present) > 1:
            warnings.append(
                f"{path.name} has several of these: {', '.join(present)}. None was changed; "
                f"the front end needs {name}={value}."
            )
            continue
        edit[present[0] if present else name] = value
    if warnings:
        return EnvFileChange(path, (), tuple(warnings))
    return EnvFileChange(path, edit_env_file(path, edit))


def url_in_env_local(project: Project) -> str | None:
    """The deployment that `.env.local` tells the front end, under whichever known name; None when it tells none."""
    variables = read_env_file(project.root / ENV_LOCAL)
    return next((variables[name] for name in URL_VARIABLES if variables.get(name)), None)


def ensure_ignored(root: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Add to `.gitignore` those `names` that no pattern in it covers yet; returns the names added."""
    path = root / ".gitignore"
    text = _read(path) or ""
    missing = tuple(name for name in names if not is_ignored(text, name))
    if missing:
        newline = "\r\n" if "\r\n" in text else "\n"
        gap = "" if not text or text.endswith("\n") else newline
        write_atomically(path, text + gap + "".join(f"{name}{newline}" for name in missing), mode=0o644)
    return missing


def is_ignored(gitignore: str, name: str) -> bool:
    """Whether the patterns of a root `.gitignore` cover the file or folder `name` in that root."""
    from fnmatch import fnmatchcase

    ignored = False
    for line in gitignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        negated = pattern.startswith("!")
        pattern = pattern.lstrip("!").removeprefix("**/").lstrip("/").rstrip("/")
        if fnmatchcase(name.rstrip("/"), pattern):
            ignored = not negated
    return ignored


def write_atomically(path: Path, text: str, *, mode: int) -> None:
    """Replace a text file in one step, keeping the permissions of the one there; `mode` is for a new one."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        temporary.chmod(target.stat().st_mode & 0o7777 if target.exists() else mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> str | None:
    """The text as it stands, line endings included; None when there is no such file."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise CvxError(
            "InvalidEnvFile",
            f"{path.name}: not UTF-8 text (byte {error.start}).",
            hint=f"Save {path.name} as UTF-8.",
            retry_when="files",
        ) from error


def _bindings(text: str) -> list[Binding]:
    from dotenv.parser import parse_stream  # Imported late: `cvx --version` must stay fast.

    return list(parse_stream(StringIO(text, newline="")))


def _last_binding(text: str, name: str) -> tuple[int, Binding | None]:
    offset, found = 0, None
    start = 0
    for binding in _bindings(text):
        if binding.key == name:
            start, found = offset, binding
        offset += len(binding.original.string)
    return start, found


def _rendered(value: str) -> str:
    if _PLAIN_VALUE.match(value):
        return value
    if "'" not in value and "\n" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _shown(line: str) -> str:
    """The part of a broken line that can be shown: never what stands behind a `=`."""
    head, separator, _ = line.strip().partition("=")
    return f"{head[:40]}{'=…' if separator else ''}"
