"""Component definitions: running each convex.config, and checking that what they mount fits together.

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
from cvx.backend.model.components import Binding, Mount
from cvx.backend.runner import AnalyzeRequest, CodeBundle, FunctionRunner, ModuleSource
from cvx.errors import CvxError
from cvx.protocol.push import (
    AnalyzedModuleJson,
    CheckedComponent,
    CheckedHttpRoutes,
    ComponentInstantiation,
    DefinitionMetadata,
    EvaluatedDefinition,
    PushedModule,
    StartPushRequest,
)
from cvx.values import TableNames, TableNumber, is_identifier, parse_validator_text

HTTP_PATH = "http.js"
_EMPTY: dict[str, Any] = {"type": "branch", "branch": []}
_CHILD = "_reference/childComponent/"
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
        folder = re.escape(path.rpartition("/")[2])
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
            raise _invalid("InvalidDefinition", f"The component definition {path!r} was pushed twice.")
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
) -> dict[str, DefinitionMetadata]:
    """What each definition exports, by path. Raises CvxError "InvalidDefinition"."""
    found: dict[str, DefinitionMetadata] = {}
    for source in _children_first(sources):
        found[source.path] = await _evaluate(runner, source, found, environment, phase_ms, seed)
    return {path: found[path] for path in sources}


def _children_first(sources: Mapping[str, DefinitionSource]) -> list[DefinitionSource]:
    ordered: dict[str, DefinitionSource] = {}

    def visit(path: str, above: tuple[str, ...]) -> None:
        if path in ordered:
            return
        source = sources.get(path)
        if source is None:
            raise _invalid(
                "InvalidDefinition",
                f"{sources[above[-1]].file} imports the component definition {path!r}, which was not pushed.",
            )
        if path in above:
            around = (*above[above.index(path) :], path)
            cycle = [sources[a].place_of_import(b) for a, b in itertools.pairwise(around)]
            cycle.append(source.file)
            raise _invalid(
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
) -> DefinitionMetadata:
    is_app = source.path == ""
    if source.module is None:
        return DefinitionMetadata(path="", definition_type={"type": "app"}, exports=_EMPTY)
    module = source.module
    modules = {module.path: _module(module.path, module.source, module.source_map)}
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
        raise _invalid("InvalidDefinition", f"{source.file} does not export {what}: {error}.") from None
    kind = parsed.definition_type.get("type")
    if is_app and kind != "app":
        raise _invalid(
            "InvalidDefinition",
            f"{source.file}: the convex.config of the app must export defineApp(), not defineComponent().",
        )
    if not is_app and kind != "childComponent":
        raise _invalid(
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


# ----------------------------------------------------------------------------------------------------- the tree


class _NoTables:
    """Ids mean nothing in an environment variable."""

    def name_of(self, table: TableNumber) -> str | None:
        return None


_NO_TABLES: TableNames = _NoTables()


def check_tree(
    definitions: Mapping[str, EvaluatedDefinition],
    sources: Mapping[str, DefinitionSource],
    components_max: int,
) -> CheckedComponent:
    """The instances that the definitions amount to, from the app down. Raises CvxError "TypecheckError"."""
    count = 0

    def checked(
        path: str, instance: str, http_prefix: str | None, env: Mapping[str, Any]
    ) -> CheckedComponent:
        nonlocal count
        count += 1
        if count > components_max:
            raise _invalid(
                "TypecheckError", f"The app has more than {components_max} component instances.",
                hint="Mount fewer components.",
            )  # fmt: skip
        definition = definitions[path].definition
        _check_children(definition, definitions, sources[path])
        prefixes = {name: prefix for prefix, name in _mounts(definition).items()}
        children = {
            child.name: checked(
                child.path,
                f"{instance}/{child.name}" if instance else child.name,
                prefixes.get(child.name),
                dict(child.env or ()),
            )
            for child in definition.child_components
        }
        http = definitions[path].functions.get(HTTP_PATH)
        routes = (
            None if http is None or http.http_routes is None else [item.route for item in http.http_routes]
        )
        return CheckedComponent(
            definition_path=path,
            component_path=instance,
            http_prefix=http_prefix,
            env=dict(env),
            child_components=children,
            http_routes=CheckedHttpRoutes(http_module_routes=routes, mounts=sorted(definition.http_mounts)),
        )

    return checked("", "", definitions[""].definition.http_prefix, {})


def _check_children(
    definition: DefinitionMetadata,
    definitions: Mapping[str, EvaluatedDefinition],
    source: DefinitionSource,
) -> None:
    total = len(definition.child_components)
    seen: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for at, child in enumerate(definition.child_components):
        place = source.place(at, total)
        if not is_identifier(child.name) or child.name.startswith("_"):
            raise _invalid(
                "TypecheckError",
                f"{place}: '{child.name[:80]}' is not a valid name for a component.",
                hint="Use letters, digits and underscores, at most 64, beginning with a letter.",
            )
        if child.name in seen:
            raise _invalid(
                "TypecheckError",
                f"{place}: there are two components of the name '{child.name}'; the other one is at {seen[child.name]}.",
                hint="Give one another name: app.use(component, { name: … }).",
            )
        seen[child.name] = place
        if child.path not in definitions:
            raise _invalid(
                "TypecheckError",
                f"{place}: the component '{child.name}' has an unknown definition {child.path!r}.",
            )
        for prefix, name in _mounts(definition).items():
            if name == child.name:
                _check_prefix(prefix, place, prefixes, child.name)
        _check_env(child, definition, definitions[child.path].definition, place)
    for prefix, name in _mounts(definition).items():
        if name not in seen:
            raise _invalid(
                "TypecheckError",
                f"{source.file}: {prefix} is mounted on '{name}', which is not a component here.",
            )


def _check_prefix(prefix: str, place: str, prefixes: dict[str, str], name: str) -> None:
    if not prefix.startswith("/") or not prefix.endswith("/") or "//" in prefix:
        raise _invalid("TypecheckError", f"{place}: '{prefix[:80]}' is not a valid httpPrefix.")
    prefixes[prefix] = name


def _mounts(definition: DefinitionMetadata) -> dict[str, str]:
    return {prefix: reference.removeprefix(_CHILD) for prefix, reference in definition.http_mounts.items()}


def _check_env(
    child: ComponentInstantiation, parent: DefinitionMetadata, definition: DefinitionMetadata, place: str
) -> None:
    declared = dict(definition.env_vars or ())
    of_parent = dict(parent.env_vars or ())
    bound = dict(child.env or ())
    for name, binding in bound.items():
        spec = declared.get(name)
        if spec is None:
            raise _invalid(
                "TypecheckError",
                f"{place}: the component '{child.name}' declares no environment variable {name}.",
                hint="Remove it from `env`, or correct its name.",
            )
        if binding.get("type") == "envVar":
            if binding.get("name") not in of_parent:
                raise _invalid(
                    "TypecheckError",
                    f"{place}: {name} of the component '{child.name}' is bound to {binding.get('name')}, "
                    "which its parent does not declare.",
                    hint="Declare it in the parent's `env`.",
                )
        elif not parse_validator_text(spec["value"]).accepts(str(binding.get("value")), _NO_TABLES):
            raise _invalid(
                "TypecheckError",
                f"{place}: the value of {name} for the component '{child.name}' does not match its declaration "
                f"{parse_validator_text(spec['value']).source()}.",
            )
    missing = sorted(
        name for name, spec in declared.items() if not spec.get("optional") and name not in bound
    )
    if missing:
        raise _invalid(
            "TypecheckError",
            f"{place}: the component '{child.name}' needs the environment variable {missing[0]}.",
            hint=f"Bind it: use(component, {{ env: {{ {missing[0]}: … }} }}).",
        )


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
                raise _invalid(
                    "InvalidEnvVarDeclaration",
                    f"{sources[path].file}: the environment variable {name} must be declared with v.string(), "
                    "a literal string, or a union of those.",
                )


def _is_text(validator: Any) -> bool:
    kind = validator.get("type") if isinstance(validator, dict) else None
    if kind == "union":
        return all(_is_text(member) for member in validator["value"])
    return kind == "string" or (kind == "literal" and isinstance(validator["value"], str))


def mounts_of(definitions: Mapping[str, EvaluatedDefinition]) -> list[Mount]:
    """Every instance of a checked tree, parents before children, the app first."""
    found: list[Mount] = []

    def visit(path: str, instance: str, child: ComponentInstantiation | None) -> None:
        definition = definitions[path].definition
        bindings = {
            name: Binding(item.get("value"), item.get("name"))
            for name, item in (child.env or () if child is not None else ())
        }
        http_prefix = definition.http_prefix if child is None else None
        found.append(Mount(instance, path, http_prefix, _mounts(definition), bindings))
        for each in definition.child_components:
            visit(each.path, f"{instance}/{each.name}" if instance else each.name, each)

    visit("", "", None)
    return found


def required_variables(definitions: Mapping[str, EvaluatedDefinition]) -> list[list[Any]] | None:
    """What the deployment's variables must be: as the app declares them, and as the components they are bound to do.

    Pairs as in `envVars`; None when nothing is declared anywhere.
    """
    app = definitions[""].definition
    found: list[list[Any]] = [list(item) for item in app.env_vars or ()]
    mounts = {mount.path: mount for mount in mounts_of(definitions)}
    for mount in mounts.values():
        for name, spec in (
            (definitions[mount.definition_path].definition.env_vars or ()) if mount.path else ()
        ):
            source = _app_variable(mounts, mount.path, name)
            if source is not None:
                found.append([source, spec])
    return found if found or app.env_vars is not None else None


def _app_variable(mounts: Mapping[str, Mount], path: str, name: str) -> str | None:
    """The deployment's variable that a component's one is bound to, through all its parents."""
    while path:
        binding = mounts[path].bindings.get(name)
        if binding is None or binding.name is None:
            return None
        path, name = path.rpartition("/")[0], binding.name
    return name


def _invalid(code: str, why: str, *, hint: str = "") -> CvxError:
    return push_error(code, why, hint=hint or "Correct convex.config.ts.")
