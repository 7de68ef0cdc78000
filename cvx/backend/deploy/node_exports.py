"""What a "use node" module exports, read from its text: such modules are not run here.

The text is esbuild's: statements of the top level begin at column 0, one `export { … }` stands at the end, shared
code is imported from chunks by `import { a as b } from "./_deps/…"`, and `keepNames` wraps named functions in a
helper that carries the name as its last argument. That is enough to tell what was made by calling something, as every
action is, from plain functions, classes and constants, and to follow the callee to npm's `actionGeneric` or
`internalActionGeneric`.

Rules:
- An export made by calling something unknown (a wrapper around `action`) counts as an action, of unknown visibility:
  one name too many is better than an action that is said to be missing.
- Validators are not known; only running the module would tell.

Source: reference/cli-and-deploy.md §2.3, §2.7; runtime-and-database.md §1.6, §1.9.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from cvx.protocol.push import AnalyzedFunctionJson, AnalyzedModuleJson, VisibilityJson

_EXPORTS = re.compile(r"(?m)^export \{([^}]*)\};?$")
_IMPORTS = re.compile(r'(?m)^import \{([^}]*)\} from "([^"]+)";?$')
_SPECIFIER = re.compile(r"\s*([\w$]+)(?:\s+as\s+([\w$]+))?\s*$")
_CALL = re.compile(r"([\w$]+)(?:\??\.[\w$]+)*\(")
_ALIAS = re.compile(r"([\w$]+)\s*[;,]")
_PURE = r"(?:/\* @__PURE__ \*/ )?"
_NAME_HELPER = re.compile(r'\((\w+), (\w+)\) => [\w$]+\(\1, "name", \{ value: \2, configurable: !?\w+ \}\)')
_LAST_NAME = re.compile(r', "(\w+)"\)')
_KEYWORDS = frozenset({"async", "await", "class", "function", "import", "new", "require", "typeof", "void"})
_VISIBILITY = {
    "actionGeneric": VisibilityJson(kind="public"),
    "internalActionGeneric": VisibilityJson(kind="internal"),
}
_STEPS_MAX = 16  # From a name to what it stands for.


def node_module(path: str, sources: Mapping[str, str]) -> AnalyzedModuleJson:
    """The module's actions in the order of its export list. `sources` are all modules of the push, by path."""
    functions = []
    for local, exported in _listed(_EXPORTS.findall(sources[path])[-1:]):
        made_by = _maker(path, local, sources)
        if made_by is not None:
            functions.append(
                AnalyzedFunctionJson(
                    name=exported,
                    udf_type="Action",
                    visibility=_VISIBILITY.get(made_by),
                    args=None,
                    returns=None,
                    pos=None,
                )
            )
    return AnalyzedModuleJson(functions=functions)


def _maker(path: str, local: str, sources: Mapping[str, str]) -> str | None:
    """The original name ("" if not known) of what was called to make this value; None when nothing was."""
    found = _value(path, local, sources)
    if found is None:
        return None
    path, text = found
    call = _CALL.match(text)
    if call is None or call[1] in _KEYWORDS:
        return None
    callee = _value(path, call[1], sources)
    if callee is None:
        return ""
    path, text = callee
    if _NAME_HELPER.match(text):
        return None
    wrapped = _CALL.match(text)
    helper = None if wrapped is None else _value(path, wrapped[1], sources)
    if helper is None or not _NAME_HELPER.match(helper[1]):
        return ""
    for at, line in enumerate(text.split("\n")):
        if at and line[:1].isspace():
            continue
        name = _LAST_NAME.search(line)
        if name is not None:
            return name[1]
    return ""


def _value(path: str, local: str, sources: Mapping[str, str]) -> tuple[str, str] | None:
    """Where the value of a name is made: the module and its text from there on. Follows imports and aliases."""
    for _ in range(_STEPS_MAX):
        source = sources.get(path)
        if source is None:
            return None
        imported = _import_of(source, local)
        if imported is not None:
            path, wanted = (
                posixpath.normpath(posixpath.join(posixpath.dirname(path), imported[0])),
                imported[1],
            )
            exported = {
                outer: inner for inner, outer in _listed(_EXPORTS.findall(sources.get(path, ""))[-1:])
            }
            if wanted not in exported:
                return None
            local = exported[wanted]
            continue
        made = re.search(rf"(?m)^(?:(?:var|let|const) |\S.*?, ){re.escape(local)} = {_PURE}", source)
        if made is None:
            return None
        text = source[made.end() :]
        alias = _ALIAS.match(text)
        if alias is None or alias[1].isdigit():
            return path, text
        local = alias[1]
    return None


def _import_of(source: str, local: str) -> tuple[str, str] | None:
    """The specifier and the imported name that a local name comes from."""
    for names, specifier in _IMPORTS.findall(source):
        for imported, name in _listed([names]):
            if name == local:
                return specifier, imported
    return None


def _listed(lists: list[str]) -> list[tuple[str, str]]:
    """The pairs of `a as b, c` as (a, b), (c, c)."""
    matches = [_SPECIFIER.match(item) for names in lists for item in names.split(",")]
    return [(match[1], match[2] or match[1]) for match in matches if match is not None]
