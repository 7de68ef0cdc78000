"""From a function path to the code that answers it.

A `FunctionRegistry` is what `_modules` says at a snapshot: every function with its validators, and one
`CodeBundle` of all texts. It is a derived value (derived.py), so looking a function up costs a dictionary access;
what a call depends on is put into its transaction as ranges of `_modules.by_path` that were worked out
beforehand: the module that was asked for, and each module that it imported.

Source: design.md §5.1; reference/runtime-and-database.md §1.8, §5.2; values-and-sync.md §6.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cvx.backend.database import ReadSet, Transaction
from cvx.backend.functions.derived import index_id
from cvx.backend.functions.http_actions import HTTP_MODULE, HttpRoutes
from cvx.backend.model import deployment
from cvx.backend.model import modules as module_rows
from cvx.backend.runner import CodeBundle, FunctionKind, ModuleSource
from cvx.errors import CvxError
from cvx.values import Anything, FunctionPath, KeyRange, Validator, parse_validator_text

HANDLE_ID_CHARS = 32
_KINDS: dict[str, FunctionKind] = {"Query": "query", "Mutation": "mutation", "Action": "action"}


@dataclass(frozen=True, slots=True)
class LoadedFunction:
    """One function that can be called. `args` and `returns` are None when it declares none."""

    path: FunctionPath
    kind: FunctionKind
    visibility: Literal["public", "internal"] | None
    args: Validator | None
    returns: Validator | None
    environment: module_rows.Environment

    def handle_id(self, key: bytes) -> str:
        """What a handle of this function says: the same for as long as it has its path, and not to be guessed."""
        text = f"{self.path.component}\0{self.path.canonical}".encode()
        return hmac.new(key, text, hashlib.sha256).hexdigest()[:HANDLE_ID_CHARS]


@dataclass(frozen=True)
class FunctionRegistry:
    """All code of one component at some timestamp."""

    component: str
    index_id: int
    """Of `_modules.by_path`, where the ranges below lie."""
    bundle: CodeBundle
    functions: dict[tuple[str, str], LoadedFunction]
    """By module path and export name."""
    ranges: dict[str, KeyRange]
    """By module path: where its row is."""
    rows: list[module_rows.ModuleRow]
    http_routes: HttpRoutes | None = None
    """Of the router that convex/http.ts exports, if there is one."""
    _handles: dict[bytes, dict[str, LoadedFunction]] = field(default_factory=dict)

    def find(self, path: FunctionPath) -> LoadedFunction | None:
        """The function at this path; modules in `_deps/` cannot be called."""
        return self.functions.get((path.module, path.export))

    def by_handle(self, key: bytes) -> dict[str, LoadedFunction]:
        """The functions by the ids of their handles."""
        found = self._handles.get(key)
        if found is None:
            found = self._handles[key] = {each.handle_id(key): each for each in self.functions.values()}
        return found

    def depend_on(self, reads: ReadSet, module_paths: Iterable[str]) -> None:
        """Note in `reads` that a result comes from these modules (or from their absence)."""
        ranges, index_id = self.ranges, self.index_id
        for path in module_paths:
            found = ranges.get(path)
            reads.add(index_id, module_rows.path_range(self.component, path) if found is None else found)


class TextCache:
    """Texts by hash, so that a push of one module reads one text."""

    def __init__(self) -> None:
        self._sources: dict[str, dict[str, ModuleSource]] = {}

    def load(self, tx: Transaction, component: str) -> FunctionRegistry:
        """The registry of one component, through a transaction that then depends on all of its modules."""
        rows = module_rows.all_modules(tx, component)
        sources = {row.path: self._source(tx, row) for row in rows}
        self._sources[component] = {source.sha256 + source.path: source for source in sources.values()}
        functions: dict[tuple[str, str], LoadedFunction] = {}
        for row in rows:
            for function in _functions_of(row):
                functions[function.path.module, function.path.export] = function
        return FunctionRegistry(
            component=component,
            index_id=index_id(tx.snapshot, module_rows.MODULES, module_rows.BY_PATH),
            bundle=CodeBundle(_bundle_key(rows), sources, deployment.udf_config(tx).node_dependencies),
            functions=functions,
            ranges={row.path: module_rows.path_range(component, row.path) for row in rows},
            rows=rows,
            http_routes=_http_routes(rows),
        )

    def _source(self, tx: Transaction, row: module_rows.ModuleRow) -> ModuleSource:
        known = self._sources.get(row.component, {}).get(row.sha256 + row.path)
        if known is not None and known.environment == row.environment:
            return known
        text = module_rows.text_of(tx, row.sha256)
        if text is None:
            raise CvxError(
                "MissingModuleText", f"The stored text of module '{row.path}' is missing.", kind="internal",
                hint="Push the app again.", retry_when="files",
            )  # fmt: skip
        source_map = None if text.source_map is None else text.source_map.encode()
        return ModuleSource(row.path, row.sha256, text.source.encode(), source_map, row.environment)


def _functions_of(row: module_rows.ModuleRow) -> list[LoadedFunction]:
    if row.analysis is None or row.path.startswith("_deps/"):
        return []
    out = []
    for item in row.analysis.get("functions", []):
        visibility = item.get("visibility")
        out.append(
            LoadedFunction(
                path=FunctionPath(row.component, row.path, item["name"]),
                kind=_KINDS[item["udfType"]],
                visibility=None if visibility is None else visibility["kind"],
                args=_declared(item.get("args")),
                returns=_declared(item.get("returns")),
                environment=row.environment,
            )
        )
    return out


def _http_routes(rows: list[module_rows.ModuleRow]) -> HttpRoutes | None:
    for row in rows:
        if row.path == HTTP_MODULE and row.analysis is not None:
            listed = row.analysis.get("httpRoutes")
            return None if listed is None else HttpRoutes.of(listed)
    return None


def _declared(text: str | None) -> Validator | None:
    """A validator from its JSON text; None when there is none to enforce."""
    if text is None or text == "null":
        return None
    validator = parse_validator_text(text)
    return None if isinstance(validator, Anything) else validator


def _bundle_key(rows: list[module_rows.ModuleRow]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.path}\0{row.sha256}\0{row.environment}\0".encode())
    return digest.hexdigest()
