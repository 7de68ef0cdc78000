"""Component definitions: which there are in a push, and what running each convex.config says (component_tree.py goes on).

A definition imports those it mounts under names of the bundler's making (`_componentDeps/<base64url of the path>`); what
such an import gives is only where the definition is and what it is called. So children are run before their parents.

Source: reference/cli-and-deploy.md §2.7, §2.11, §7.1; npm:server/components.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cvx.backend.deploy.errors import push_error
from cvx.backend.runner import AnalyzeRequest, CodeBundle, FunctionRunner, ModuleSource
from cvx.errors import CvxError
from cvx.protocol.push import (
    AnalyzedModuleJson,
    ComponentInstantiation,
    DefinitionMetadata,
    PushedModule,
    StartPushRequest,
)

_EMPTY: dict[str, Any] = {"type": "branch", "branch": []}
CHILD = "_reference/childComponent/"
"""How a mount names the component it is on."""
_USE = re.compile(r"\.\s*use\s*\(")


class _DefinitionJson(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What `export()` of a convex.config.js gives."""

    definition_type: dict[str, Any]
    child_components: list[ComponentInstantiation] = []
    http_mounts: dict[str, str] = {}
    http_prefix: str | None = None
    exports: dict[str, Any] = {}
    env_vars: list[tuple[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class DefinitionSource:
    """One definition as it was pushed. `module` None: an app that has none. `file` is how people know it."""

    path: str
    module: PushedModule | None
    dependencies: tuple[str, ...]
    file: str

    def place(self, at: int, of: int) -> str:
        """Where its n-th `use(…)` of so many is written, as far as can be told."""
        text = None if self.module is None else _original_text(self.module)
        calls = [] if text is None else [found.start() for found in _USE.finditer(text)]
        if text is None or len(calls) != of:
            return self.file
        return f"{self.file}:{_line_at(text, calls[at])}"

    def place_of_import(self, path: str) -> str:
        """Where it imports another definition, as far as can be told."""
        text = None if self.module is None else _original_text(self.module)
        folder = r"\." if path == self.path else re.escape(path.rpartition("/")[2])
        found = re.search(rf"from\s*[\"'][^\"']*{folder}/convex\.config", text or "")
        return self.file if text is None or found is None else f"{self.file}:{_line_at(text, found.start())}"


def _line_at(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def definition_sources(request: StartPushRequest) -> dict[str, DefinitionSource]:
    """All definitions of a push by path, the app's first."""
    app = request.app_definition
    found = {
        "": DefinitionSource("", app.definition, tuple(app.dependencies), _file(request, "", app.definition))
    }
    for item in request.component_definitions:
        path = item.definition_path
        if path in found:
            raise invalid_definition(
                "InvalidDefinition", f"The component definition {path!r} was pushed twice."
            )
        found[path] = DefinitionSource(
            path, item.definition, tuple(item.dependencies), _file(request, path, item.definition)
        )
    return found


def _file(request: StartPushRequest, path: str, module: PushedModule | None) -> str:
    name = "convex.config.ts"
    if module is not None:
        sources = _source_map(module).get("sources") or []
        last = str(sources[-1]) if sources else name
        name = last.rpartition("/")[2] if "convex.config" in last else name
    return posixpath.normpath(posixpath.join(request.functions, path, name))


def _source_map(module: PushedModule) -> dict[str, Any]:
    try:
        parsed = msgspec.json.decode(module.source_map or "{}")
    except msgspec.DecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _original_text(module: PushedModule) -> str | None:
    found = _source_map(module)
    for name, content in zip(found.get("sources") or (), found.get("sourcesContent") or (), strict=False):
        if "convex.config" in str(name) and isinstance(content, str):
            return content
    return None


# ------------------------------------------------------------------------------------------------- evaluating


async def evaluate_definitions(
    runner: FunctionRunner,
    sources: Mapping[str, DefinitionSource],
    environment: Mapping[str, str],
    phase_ms: float,
    seed: bytes,
    beside: Mapping[str, ModuleSource],
) -> dict[str, DefinitionMetadata]:
    """What each definition exports, by path. `beside`: the app's modules, for a definition that was bundled with them.
    Raises CvxError "InvalidDefinition"."""
    found: dict[str, DefinitionMetadata] = {}
    for source in _children_first(sources):
        importable = {} if source.path else beside
        found[source.path] = await _evaluate(runner, source, found, environment, phase_ms, seed, importable)
    return {path: found[path] for path in sources}


def _children_first(sources: Mapping[str, DefinitionSource]) -> list[DefinitionSource]:
    ordered: dict[str, DefinitionSource] = {}

    def visit(path: str, above: tuple[str, ...]) -> None:
        if path in ordered:
            return
        source = sources.get(path)
        if source is None:
            raise invalid_definition(
                "InvalidDefinition",
                f"{sources[above[-1]].file} imports the component definition {path!r}, which was not pushed.",
            )
        if path in above:
            around = (*above[above.index(path) :], path)
            cycle = [sources[a].place_of_import(b) for a, b in itertools.pairwise(around)]
            cycle.append(source.file)
            raise invalid_definition(
                "InvalidDefinition",
                f"Component definitions import each other: {' → '.join(cycle)}.",
                hint="Remove one of the imports.",
            )
        for dependency in source.dependencies:
            visit(dependency, (*above, path))
        ordered[path] = source

    for path in sources:
        visit(path, ())
    return list(ordered.values())


async def _evaluate(
    runner: FunctionRunner,
    source: DefinitionSource,
    known: Mapping[str, DefinitionMetadata],
    environment: Mapping[str, str],
    phase_ms: float,
    seed: bytes,
    beside: Mapping[str, ModuleSource],
) -> DefinitionMetadata:
    is_app = source.path == ""
    if source.module is None:
        return DefinitionMetadata(path="", definition_type={"type": "app"}, exports=_EMPTY)
    module = source.module
    modules = dict(beside) | {module.path: _module(module.path, module.source, module.source_map)}
    for path in source.dependencies:
        stub = {"componentDefinitionPath": path, "defaultName": known[path].definition_type.get("name")}
        name = base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")
        text = f"export default {msgspec.json.encode(stub).decode()};\n"
        modules[f"_componentDeps/{name}"] = _module(f"_componentDeps/{name}", text, None)
    digest = hashlib.sha256("\0".join(each.sha256 for each in modules.values()).encode()).hexdigest()
    result = await runner.analyze(
        AnalyzeRequest(
            CodeBundle(f"definition:{digest}", modules),
            (),
            environment,
            phase_ms,
            seed,
            definition_path=module.path,
        )
    )
    for failure in result.failures:
        raise push_error(failure.code, f"{source.file}: {failure.message}")
    try:
        parsed = msgspec.json.decode(result.definition_json or "null", type=_DefinitionJson)
    except msgspec.DecodeError as error:
        what = "an app" if is_app else "a component"
        raise invalid_definition(
            "InvalidDefinition", f"{source.file} does not export {what}: {error}."
        ) from None
    kind = parsed.definition_type.get("type")
    if is_app and kind != "app":
        raise invalid_definition(
            "InvalidDefinition",
            f"{source.file}: the convex.config of the app must export defineApp(), not defineComponent().",
        )
    if not is_app and kind != "childComponent":
        raise invalid_definition(
            "InvalidDefinition",
            f"{source.file}: the convex.config of a component must export defineComponent(), not defineApp().",
        )
    return DefinitionMetadata(
        path=source.path,
        definition_type=parsed.definition_type,
        child_components=parsed.child_components,
        http_mounts=parsed.http_mounts,
        http_prefix=parsed.http_prefix,
        exports=parsed.exports or _EMPTY,
        env_vars=parsed.env_vars,
    )


def _module(path: str, source: str, source_map: str | None) -> ModuleSource:
    raw, mapped = source.encode(), None if source_map is None else source_map.encode()
    return ModuleSource(path, hashlib.sha256(raw + (mapped or b"")).hexdigest(), raw, mapped, "isolate")


def with_exports(
    definition: DefinitionMetadata, modules: Mapping[str, AnalyzedModuleJson]
) -> DefinitionMetadata:
    """A component's definition with the tree of its public functions: what its parent's types are made of."""
    tree: dict[str, Any] = {}
    for path, module in sorted(modules.items()):
        name = path.removesuffix(".js")
        for function in module.functions:
            if (
                function.visibility is None
                or function.visibility.kind != "public"
                or path.startswith("_deps/")
            ):
                continue
            branch = tree
            for part in name.split("/"):
                branch = branch.setdefault(part, {})
                if isinstance(branch, str):
                    break
            if isinstance(branch, dict):
                branch[function.name] = f"_reference/function/{name}:{function.name}"
    return msgspec.structs.replace(definition, exports=_exports(tree))


def _exports(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "branch",
        "branch": [
            [name, {"type": "leaf", "leaf": item} if isinstance(item, str) else _exports(item)]
            for name, item in tree.items()
        ],
    }


def check_env_declarations(
    definitions: Mapping[str, DefinitionMetadata], sources: Mapping[str, DefinitionSource]
) -> None:
    """Environment variables are texts. Raises CvxError "InvalidEnvVarDeclaration"."""
    for path, definition in definitions.items():
        for name, spec in definition.env_vars or ():
            try:
                fits = _is_text(msgspec.json.decode(spec["value"]))
            except (msgspec.DecodeError, KeyError, TypeError):
                fits = False
            if not fits:
                raise invalid_definition(
                    "InvalidEnvVarDeclaration",
                    f"{sources[path].file}: the environment variable {name} must be declared with v.string(), "
                    "a literal string, or a union of those.",
                )


def _is_text(validator: Any) -> bool:
    kind = validator.get("type") if isinstance(validator, dict) else None
    if kind == "union":
        return all(_is_text(member) for member in validator["value"])
    return kind == "string" or (kind == "literal" and isinstance(validator["value"], str))


def invalid_definition(code: str, why: str, *, hint: str = "") -> CvxError:
    return push_error(code, why, hint=hint or "Correct convex.config.ts.")
