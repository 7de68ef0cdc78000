"""The instances that a push's definitions amount to: checked, listed, and what they ask of the environment.

Rule: pure.

Source: reference/cli-and-deploy.md §2.7 (CheckedComponent), §7.1, §7.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cvx.backend.deploy.declared_environment import NO_TABLES
from cvx.backend.deploy.definitions import CHILD, DefinitionSource, invalid_definition
from cvx.backend.model.components import Binding, Mount
from cvx.protocol.push import (
    CheckedComponent,
    CheckedHttpRoutes,
    ComponentInstantiation,
    DefinitionMetadata,
    EvaluatedDefinition,
)
from cvx.values import is_identifier, parse_validator_text

HTTP_PATH = "http.js"


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
            raise invalid_definition(
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
            raise invalid_definition(
                "TypecheckError",
                f"{place}: '{child.name[:80]}' is not a valid name for a component.",
                hint="Use letters, digits and underscores, at most 64, beginning with a letter.",
            )
        if child.name in seen:
            raise invalid_definition(
                "TypecheckError",
                f"{place}: there are two components of the name '{child.name}'; the other one is at {seen[child.name]}.",
                hint="Give one another name: app.use(component, { name: … }).",
            )
        seen[child.name] = place
        if child.path not in definitions:
            raise invalid_definition(
                "TypecheckError",
                f"{place}: the component '{child.name}' has an unknown definition {child.path!r}.",
            )
        for prefix, name in _mounts(definition).items():
            if name == child.name:
                _check_prefix(prefix, place, prefixes, child.name)
        _check_env(child, definition, definitions[child.path].definition, place)
    for prefix, name in _mounts(definition).items():
        if name not in seen:
            raise invalid_definition(
                "TypecheckError",
                f"{source.file}: {prefix} is mounted on '{name}', which is not a component here.",
            )


def _check_prefix(prefix: str, place: str, prefixes: dict[str, str], name: str) -> None:
    if not prefix.startswith("/") or not prefix.endswith("/") or "//" in prefix:
        raise invalid_definition("TypecheckError", f"{place}: '{prefix[:80]}' is not a valid httpPrefix.")
    prefixes[prefix] = name


def _mounts(definition: DefinitionMetadata) -> dict[str, str]:
    return {prefix: reference.removeprefix(CHILD) for prefix, reference in definition.http_mounts.items()}


def _check_env(
    child: ComponentInstantiation, parent: DefinitionMetadata, definition: DefinitionMetadata, place: str
) -> None:
    declared = dict(definition.env_vars or ())
    of_parent = dict(parent.env_vars or ())
    bound = dict(child.env or ())
    for name, binding in bound.items():
        spec = declared.get(name)
        if spec is None:
            raise invalid_definition(
                "TypecheckError",
                f"{place}: the component '{child.name}' declares no environment variable {name}.",
                hint="Remove it from `env`, or correct its name.",
            )
        if binding.get("type") == "envVar":
            if binding.get("name") not in of_parent:
                raise invalid_definition(
                    "TypecheckError",
                    f"{place}: {name} of the component '{child.name}' is bound to {binding.get('name')}, "
                    "which its parent does not declare.",
                    hint="Declare it in the parent's `env`.",
                )
        elif not parse_validator_text(spec["value"]).accepts(str(binding.get("value")), NO_TABLES):
            raise invalid_definition(
                "TypecheckError",
                f"{place}: the value of {name} for the component '{child.name}' does not match its declaration "
                f"{parse_validator_text(spec['value']).source()}.",
            )
    missing = sorted(
        name for name, spec in declared.items() if not spec.get("optional") and name not in bound
    )
    if missing:
        raise invalid_definition(
            "TypecheckError",
            f"{place}: the component '{child.name}' needs the environment variable {missing[0]}.",
            hint=f"Bind it: use(component, {{ env: {{ {missing[0]}: … }} }}).",
        )


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
