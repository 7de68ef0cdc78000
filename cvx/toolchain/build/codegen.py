"""`_generated/`: the files that give the user's functions their types.

Two moments (reference/cli-and-deploy.md §4.1): `write_stubs` before bundling, which makes what is missing so
that imports resolve; `generate` when more is known, which brings every file to its final text. The module
list comes from the entry points, so `generate` works without any deployment. An `analysis` (the value of
`analysis` in a start_push answer, or `definitions.evaluate_definitions` for the part of it that needs no
deployment) adds what only an evaluation knows: declared environment variables, mounted components, static
types. What needs one and has none keeps the text of the last time.

Files are written only when their bytes differ, each in one step, in the order of their dependencies; files
that do not belong there are removed, except `ai/`.
"""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvx.toolchain.build import codegen_text as text
from cvx.toolchain.build import data_model_text
from cvx.toolchain.build.components import ComponentDirectory, ComponentGraph
from cvx.toolchain.project import GENERATED_DIR, Project
from cvx.toolchain.project.env_file import write_atomically

Analysis = Mapping[str, Mapping[str, Any]]
"""definition path → EvaluatedDefinition (`definition`, and when analysed `functions` and `schema`)."""

KEPT = frozenset({"ai"})
"""Names in `_generated/` that belong to somebody else."""

_EMPTY_APP: Mapping[str, Any] = {"definition": {"childComponents": [], "envVars": None}}


@dataclass(frozen=True)
class CodegenResult:
    """Paths relative to the project: written (or, in a dry run, stale), removed, and left alone."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    @property
    def is_noop(self) -> bool:
        return not self.written and not self.removed

    def __add__(self, other: CodegenResult) -> CodegenResult:
        return CodegenResult(
            (*self.written, *other.written),
            (*self.removed, *other.removed),
            (*self.unchanged, *other.unchanged),
        )


@dataclass(frozen=True)
class _File:
    """One generated file. `make` gives its text, or None to keep what is there."""

    name: str
    make: Callable[[], str | None]
    stub: Callable[[], str] | None = None
    always: bool = False

    def initial(self) -> str:
        """A text that can stand while nothing has been analysed."""
        made = self.make()
        if made is not None:
            return made
        assert self.stub is not None, f"{self.name} has a text of its own in every state"
        return self.stub()


def write_stubs(graph: ComponentGraph) -> CodegenResult:
    """Write the generated files that are missing, so that the bundler can follow imports of them."""
    result = CodegenResult()
    for directory in graph.directories():
        if not directory.is_published:
            files = _files(graph, directory, None)
            result += _write_missing(graph.project, directory.folder / GENERATED_DIR, files)
    return result


def generate(
    graph: ComponentGraph, analysis: Analysis | None = None, *, dry_run: bool = False
) -> CodegenResult:
    """Bring all generated files to their final text; `dry_run` only says which would change."""
    result = CodegenResult()
    for directory in graph.directories():
        if not directory.is_published:
            files = _files(graph, directory, analysis)
            result += _write(graph.project, directory.folder / GENERATED_DIR, files, dry_run)
    return result


def init_functions_dir(project: Project) -> CodegenResult:
    """Create the functions folder with `README.md` and `tsconfig.json`; existing files stay."""
    folder = project.functions_dir
    is_new = not folder.exists()
    # TypeScript 6 and later know `process` and `Buffer` only where tsconfig.json names Node's types.
    has_node = project.package_json is not None and project.package_json.has("@types/node")
    types = '    "types": ["node"],\n' if has_node else ""
    wanted = {"tsconfig.json": _TSCONFIG.replace("{types}", types)}
    if is_new:
        wanted["README.md"] = _README.replace("{functions}", project.config.functions.rstrip("/"))
    written, unchanged = [], []
    for name, content in wanted.items():
        path = folder / name
        if path.exists():
            unchanged.append(project.relative(path))
        else:
            write_atomically(path, content, mode=0o644)
            written.append(project.relative(path))
    return CodegenResult(tuple(written), (), tuple(unchanged))


def _files(
    graph: ComponentGraph, directory: ComponentDirectory, analysis: Analysis | None
) -> tuple[_File, ...]:
    """The generated files of one component, in the order they depend on each other."""
    config = graph.project.config
    evaluated = _evaluated(directory, analysis)
    data_model = _File(
        "dataModel.ts", lambda: _data_model(graph, directory, evaluated), data_model_text.from_schema
    )
    as_typescript = not directory.is_app or config.file_type == "ts"
    if as_typescript:
        server = _File("server.ts", lambda: _server(evaluated, text.server_ts), lambda: text.server_ts(None))
        api = _File(
            "api.ts",
            lambda: _api(graph, directory, analysis, text.api_ts),
            _api_stub(graph, directory, text.api_ts),
        )
        if directory.is_app:
            return (data_model, server, api)
        component = _File("component.ts", lambda: _component(evaluated), text.component_stub_ts)
        return (data_model, server, api, component)
    server = _File("server.d.ts", lambda: _server(evaluated, text.server_dts), lambda: text.server_dts(None))
    make_api = lambda: _api(graph, directory, analysis, text.api_dts)  # noqa: E731
    stub_api = _api_stub(graph, directory, text.api_dts)
    files = [
        _File("dataModel.d.ts", data_model.make, data_model.stub),
        _File("server.js", text.server_js, always=True),
        server,
        _File("api.js", text.api_js, always=True),
        _File("api.d.ts", make_api, stub_api),
    ]
    if config.generate_commonjs_api:
        files.append(_File("api_cjs.cjs", text.api_cjs, always=True))
        files.append(_File("api_cjs.d.cts", make_api, stub_api))
    return tuple(files)


def _evaluated(directory: ComponentDirectory, analysis: Analysis | None) -> Mapping[str, Any] | None:
    """What is known of one definition. An app without convex.config needs no evaluation: it is empty."""
    found = (analysis or {}).get(directory.definition_path)
    return _EMPTY_APP if found is None and directory.virtual else found


def _data_model(
    graph: ComponentGraph, directory: ComponentDirectory, evaluated: Mapping[str, Any] | None
) -> str | None:
    if graph.entry_points[directory.definition_path].schema is None:
        return data_model_text.without_schema()
    if not graph.project.config.static_data_model:
        return data_model_text.from_schema()
    if evaluated is None or "schema" not in evaluated:
        return None
    schema = evaluated["schema"]
    return data_model_text.spelled_out(schema) if schema else data_model_text.without_schema()


def _server(evaluated: Mapping[str, Any] | None, render: Callable[[Any], str]) -> str | None:
    if evaluated is None:
        return None
    return render(text.env_types(evaluated["definition"].get("envVars")))


def _api(
    graph: ComponentGraph,
    directory: ComponentDirectory,
    analysis: Analysis | None,
    render: Callable[[text.ApiBody, str], str],
) -> str | None:
    config = graph.project.config
    evaluated = _evaluated(directory, analysis)
    if config.static_api and (evaluated is None or "functions" not in evaluated):
        return None
    if evaluated is None:
        return _api_stub(graph, directory, render)()
    if config.static_api:
        body = text.static_api(evaluated["functions"])
    else:
        body = text.dynamic_api(graph.entry_points[directory.definition_path].module_sources())
    return render(body, _components(graph, directory, evaluated, analysis or {}))


def _api_stub(
    graph: ComponentGraph, directory: ComponentDirectory, render: Callable[[text.ApiBody, str], str]
) -> Callable[[], str]:
    """The api as the modules alone tell it; components are anything when some are mounted."""
    entries = graph.entry_points[directory.definition_path]
    components = 'import("convex/server").AnyComponents' if directory.dependencies else "{}"
    return lambda: render(text.dynamic_api(entries.module_sources()), components)


def _components(
    graph: ComponentGraph, directory: ComponentDirectory, evaluated: Mapping[str, Any], analysis: Analysis
) -> str:
    children: list[tuple[str, str]] = []
    folder = directory.definition_path or "."
    specifiers = {d.definition_path: d.import_specifier for d in graph.components}
    for child in evaluated["definition"]["childComponents"]:
        name, path = child["name"], child["path"]
        inner = analysis.get(path) or {}
        if graph.project.config.legacy_component_api and "functions" in inner:
            children.append(
                (name, text.exports_type(inner["definition"]["exports"], inner["functions"], "", 1))
            )
            continue
        specifier = specifiers.get(path)
        is_package = specifier is not None and not specifier.startswith(".") and specifier != path
        children.append(
            # A folder is found from where the importing file is, not from where the app is.
            (
                name,
                text.imported_component(
                    name,
                    specifier if is_package and specifier else f"../{posixpath.relpath(path, folder)}",
                ),
            )
        )
    return text.components_type(children)


def _component(evaluated: Mapping[str, Any] | None) -> str | None:
    if evaluated is None or "functions" not in evaluated:
        return None
    return text.component_ts(evaluated["definition"], evaluated["functions"])


def _write_missing(project: Project, folder: Path, files: tuple[_File, ...]) -> CodegenResult:
    written, unchanged = [], []
    for file in files:
        path = folder / file.name
        existing = _read(path)
        if existing is None or (file.always and existing != file.make()):
            write_atomically(path, file.initial(), mode=0o644)
            written.append(project.relative(path))
        else:
            unchanged.append(project.relative(path))
    removed = _remove_stale(project, folder, {f.name for f in files}, dry_run=False)
    return CodegenResult(tuple(written), removed, tuple(unchanged))


def _write(project: Project, folder: Path, files: tuple[_File, ...], dry_run: bool) -> CodegenResult:
    written, unchanged = [], []
    for file in files:
        path = folder / file.name
        existing = _read(path)
        wanted = file.make()
        if wanted is None:
            wanted = file.initial() if existing is None else existing
        if wanted == existing:
            unchanged.append(project.relative(path))
            continue
        if not dry_run:
            write_atomically(path, wanted, mode=0o644)
        written.append(project.relative(path))
    removed = _remove_stale(project, folder, {f.name for f in files}, dry_run=dry_run)
    return CodegenResult(tuple(written), removed, tuple(unchanged))


def _remove_stale(project: Project, folder: Path, names: set[str], *, dry_run: bool) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    stale = sorted(p for p in folder.iterdir() if p.name not in names and p.name not in KEPT)
    for path in () if dry_run else stale:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return tuple(project.relative(path) for path in stale)


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None


_TSCONFIG = """\
{
  /* How the functions in this folder are type-checked. They run in the deployment, not in a browser. */
  "compilerOptions": {
    /* Yours to change. */
    "allowJs": true,
    "strict": true,
    "moduleResolution": "Bundler",
    "jsx": "react-jsx",
    "skipLibCheck": true,
    "allowSyntheticDefaultImports": true,
{types}
    /* Needed: the deployment works this way. */
    "target": "ESNext",
    "lib": ["ES2023", "dom"],
    "forceConsistentCasingInFileNames": true,
    "module": "ESNext",
    "isolatedModules": true,
    "noEmit": true
  },
  "include": ["./**/*"],
  "exclude": ["./_generated"]
}
"""

_README = """\
# Functions

Every file here is a module of your backend; every exported query, mutation or action can be called by name.

```ts
// {functions}/messages.ts
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const list = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("messages").order("desc").take(50),
});

export const send = mutation({
  args: { body: v.string() },
  handler: async (ctx, { body }) => {
    await ctx.db.insert("messages", { body });
  },
});
```

In a React component:

```tsx
const messages = useQuery(api.messages.list);
const send = useMutation(api.messages.send);
```

`cvx dev` pushes what you save, keeps `_generated/` up to date and shows errors. `cvx run messages:list` calls
a function from the command line.
"""
