"""What component definitions say when they are run: the part of an analysis that needs no deployment.

Used by `cvx codegen` when no backend runs. Only convex.config files are evaluated; functions and schemas are
not, so the answer has no `functions` and no `schema`.

Source: reference/cli-and-deploy.md §2.7 (EvaluatedDefinition), §2.11 (definitions).
"""

from __future__ import annotations

from typing import Any

from cvx.errors import CvxError
from cvx.toolchain.build.bundle import Bundle, ComponentBundle
from cvx.toolchain.build.esbuild import Bundler, DefinitionSource


def evaluate_definitions(bundle: Bundle, bundler: Bundler) -> dict[str, dict[str, Any]]:
    """definition path → `{"definition": …}` for the app and its components.

    Raises `InvalidDefinition` for a definition that throws, or for definitions that import each other.
    """
    if bundle.graph.app.virtual:
        return {}  # Nothing to ask: an empty app declares nothing.
    ordered = _children_first(bundle)
    sources = [DefinitionSource(c.definition_path, c.definition.source, c.dependencies) for c in ordered]
    answers = bundler.evaluate(bundle.project, sources)
    return {
        part.definition_path: {"definition": {**answer, "path": part.definition_path}}
        for part, answer in zip(ordered, answers, strict=True)
    }


def _children_first(bundle: Bundle) -> list[ComponentBundle]:
    by_path = {c.definition_path: c for c in (bundle.app, *bundle.components)}
    ordered: dict[str, ComponentBundle] = {}

    def visit(path: str, above: tuple[str, ...]) -> None:
        if path in ordered:
            return
        if path in above:
            cycle = " → ".join(p or "the app" for p in (*above[above.index(path) :], path))
            raise CvxError(
                "InvalidDefinition",
                f"Component definitions import each other: {cycle}.",
                hint="Remove one of the imports.",
                retry_when="files",
            )
        for dependency in by_path[path].dependencies:
            visit(dependency, (*above, path))
        ordered[path] = by_path[path]

    visit("", ())
    return list(ordered.values())
