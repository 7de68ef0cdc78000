"""What a push changes, said in the user's words: functions, tables, indexes, crons, sign-in providers, components.

Pure: two pictures in, a list of differences out. The deployment's own answer to a push says which modules, indexes and
crons differ; which functions those are is found by comparing the specification from before with the new analysis.

Source: reference/cli-and-deploy.md §2.9 (the diffs), §5.9 (`apiSpec`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from cvx.protocol.push import AuthDiff, ComponentDiff, IndexDescription, IndexDiff
from cvx.protocol.push import DatabaseIndexDescription as _Database
from cvx.protocol.push import SearchIndexDescription as _Search

Mark = Literal["+", "-", "~"]
"""Comes, goes, is another one afterwards."""


@dataclass(frozen=True)
class Change:
    """One difference. `detail` says what it is, or what about it changed."""

    mark: Mark
    name: str
    detail: str = ""


@dataclass(frozen=True)
class Changes:
    """Everything a push changes in one component, by kind; empty when it changes nothing."""

    component: str = ""
    mounted: str = "modify"
    functions: tuple[Change, ...] = ()
    modules: tuple[Change, ...] = ()
    tables: tuple[Change, ...] = ()
    indexes: tuple[Change, ...] = ()
    crons: tuple[Change, ...] = ()
    auth: tuple[Change, ...] = field(default=())

    def groups(self) -> Iterable[tuple[str, tuple[Change, ...]]]:
        """The kinds with any change in them, in the order people read them."""
        for name in ("functions", "modules", "tables", "indexes", "crons", "auth"):
            found: tuple[Change, ...] = getattr(self, name)
            if found:
                yield name, found

    @property
    def is_empty(self) -> bool:
        return self.mounted == "modify" and not any(True for _ in self.groups())

    def to_json(self) -> dict[str, Any]:
        groups = {name: [msgspec.to_builtins(change) for change in found] for name, found in self.groups()}
        return {"component": self.component, "type": self.mounted, **groups}


def changes_of(
    before: Sequence[Mapping[str, Any]],
    analysis: Mapping[str, Mapping[str, Any]],
    diffs: Mapping[str, ComponentDiff],
    index_diff: IndexDiff,
    auth: AuthDiff,
) -> tuple[Changes, ...]:
    """What a push changes, the app first. `before` is the specification of the functions that are deployed."""
    found = []
    for path in sorted({"", *diffs}):
        diff = diffs.get(path)
        indexes = index_diff if path == "" else (diff.index_diff if diff else IndexDiff())
        functions: tuple[Change, ...] = ()
        if path == "":
            functions = _functions(_deployed(before), _analysed(analysis.get("", {})))
        changes = Changes(
            path,
            diff.diff_type.type if diff else "modify",
            functions,
            # What comes as a whole is told by its name.
            _modules(diff, functions) if diff and diff.diff_type.type == "modify" else (),
            _tables(diff) if diff else (),
            tuple(_indexes(indexes)),
            tuple(_crons(diff)) if diff else (),
            _auth(auth) if path == "" else (),
        )
        if not changes.is_empty:
            found.append(changes)
    return tuple(found)


_Signature = dict[str, Any]


def _deployed(specification: Iterable[Mapping[str, Any]]) -> dict[str, _Signature]:
    return {
        _display(str(entry["identifier"])): {
            "kind": str(entry["functionType"]).lower(),
            "visibility": (entry.get("visibility") or {}).get("kind"),
            "args": entry.get("args"),
            "returns": entry.get("returns"),
        }
        for entry in specification
        if "identifier" in entry
    }


def _analysed(definition: Mapping[str, Any]) -> dict[str, _Signature]:
    return {
        _display(f"{path}:{function['name']}"): {
            "kind": str(function["udfType"]).lower(),
            "visibility": (function.get("visibility") or {}).get("kind"),
            "args": _validator(function.get("args")),
            "returns": _validator(function.get("returns")),
        }
        for path, module in (definition.get("functions") or {}).items()
        for function in module["functions"]
    }


def _validator(text: str | None) -> Any:
    """A validator as the specification shows it: what is not declared takes and returns anything."""
    decoded = msgspec.json.decode(text) if text else None
    return {"type": "any"} if decoded is None else decoded


def _display(identifier: str) -> str:
    return identifier.replace(".js:", ":")


def _functions(before: dict[str, _Signature], after: dict[str, _Signature]) -> tuple[Change, ...]:
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            found.append(Change("+", name, _described(new)))
        elif new is None and old is not None:
            found.append(Change("-", name, _described(old)))
        elif old is not None and new is not None and old != new:
            changed = [part for part in ("kind", "visibility", "args", "returns") if old[part] != new[part]]
            found.append(Change("~", name, ", ".join(changed)))
    return tuple(found)


def _described(signature: _Signature) -> str:
    visibility = signature["visibility"]
    return f"{'internal ' if visibility == 'internal' else ''}{signature['kind']}"


def _modules(diff: ComponentDiff, functions: Sequence[Change]) -> tuple[Change, ...]:
    """Modules whose code changes; shared chunks are left out, being of esbuild's making."""
    added, removed = set(diff.module_diff.added), set(diff.module_diff.removed)
    named = sorted(path for path in added | removed if not path.startswith("_deps/"))
    marks: dict[str, Mark] = {
        path: "~" if path in added and path in removed else "+" if path in added else "-" for path in named
    }
    new = {change.name.partition(":")[0] for change in functions if change.mark != "~"}
    return tuple(
        Change(mark, path, "code" if mark == "~" else "")
        for path, mark in marks.items()
        # A module that comes or goes is told by its functions.
        if mark == "~" or path.removesuffix(".js") not in new
    )


def _tables(diff: ComponentDiff) -> tuple[Change, ...]:
    if diff.schema_diff is None:
        return ()
    old, new = (
        _schema_tables(text) for text in (diff.schema_diff.previous_schema, diff.schema_diff.next_schema)
    )
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            found.append(Change("+", name))
        elif name not in new:
            found.append(Change("-", name, "its rows stay"))
        elif old[name] != new[name]:
            found.append(Change("~", name, "fields"))
    return tuple(found)


def _schema_tables(text: str | None) -> dict[str, Any]:
    schema = msgspec.json.decode(text) if text else None
    return {table["tableName"]: table.get("documentType") for table in (schema or {}).get("tables", ())}


def _indexes(diff: IndexDiff) -> Iterable[Change]:
    removed = {index.name for index in diff.removed_indexes}
    added = {index.name for index in diff.added_indexes}
    for index in diff.removed_indexes:
        if index.name not in added:
            yield Change("-", index.name, _fields(index))
    for index in diff.added_indexes:
        staged = "staged: " if index.staged else ""
        yield Change("~" if index.name in removed else "+", index.name, staged + _fields(index))
    for index in diff.enabled_indexes:
        yield Change("~", index.name, "enabled")
    for index in diff.disabled_indexes:
        yield Change("~", index.name, "staged")


def _fields(index: IndexDescription) -> str:
    if isinstance(index, _Database):
        return ", ".join(index.fields)
    if isinstance(index, _Search):
        return f"search in {index.search_field}"
    return f"vectors in {index.vector_field}"


def _crons(diff: ComponentDiff) -> Iterable[Change]:
    crons = diff.cron_diff
    yield from (Change("+", name) for name in crons.added)
    yield from (Change("~", name, "schedule or arguments") for name in crons.updated)
    yield from (Change("-", name) for name in crons.deleted)


def _auth(diff: AuthDiff) -> tuple[Change, ...]:
    return (
        *(Change("+", _issuer(text)) for text in diff.added),
        *(Change("-", _issuer(text)) for text in diff.removed),
    )


def _issuer(text: str) -> str:
    provider = msgspec.json.decode(text)
    return str(provider.get("domain") or provider.get("issuer") or text)
