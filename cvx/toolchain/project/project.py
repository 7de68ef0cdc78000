"""The user's folder: its root, functions folder, `convex.json` and `package.json`.

A `Project` is a picture of those files at one moment, frozen; `cvx dev` loads it again when one of them
changes. Source: reference/cli-and-deploy.md §1.6 (convex.json), §1.1 and §1.5 (package.json).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.progress import Diagnostic, code_frame, failed
from cvx.toolchain.project.text_position import column_at, line_at, offset_of

ROOT_MARKERS = ("convex.json", "cvx.toml")
GENERATED_DIR = "_generated"

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Node(msgspec.Struct, rename="camel"):
    external_packages: list[str] = []
    node_version: str | None = None


class _Codegen(msgspec.Struct, rename="camel"):
    static_api: bool = False
    static_data_model: bool = False
    legacy_component_api: bool = False
    file_type: Literal["ts", "js/dts"] = "js/dts"


class _Bundler(msgspec.Struct, rename="camel"):
    include_sources_content: bool = False


class _ConvexJson(msgspec.Struct, rename="camel"):
    functions: _Text | None = None
    node: _Node = msgspec.field(default_factory=_Node)
    generate_common_js_api: bool = msgspec.field(default=False, name="generateCommonJSApi")
    codegen: _Codegen = msgspec.field(default_factory=_Codegen)
    bundler: _Bundler = msgspec.field(default_factory=_Bundler)
    typescript_compiler: Literal["tsc", "tsgo"] | None = None


_KNOWN_KEYS = {
    "": {
        *("$schema", "functions", "node", "generateCommonJSApi", "codegen", "bundler", "typescriptCompiler"),
        *("aiFiles", "authKit", "team", "project", "prodUrl", "authInfo"),
    },
    "node": {"externalPackages", "nodeVersion"},
    "codegen": {"staticApi", "staticDataModel", "legacyComponentApi", "fileType"},
    "bundler": {"includeSourcesContent"},
}


@dataclass(frozen=True)
class ProjectConfig:
    """`convex.json`, with the official defaults. `warnings` tells of keys nobody knows."""

    path: Path | None = None
    functions: str = "convex/"
    external_packages: tuple[str, ...] = ()
    node_version: str | None = None
    generate_commonjs_api: bool = False
    static_api: bool = False
    static_data_model: bool = False
    legacy_component_api: bool = False
    file_type: Literal["ts", "js/dts"] = "js/dts"
    include_sources_content: bool = False
    typescript_compiler: Literal["tsc", "tsgo"] | None = None
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class PackageJson:
    """The parts of `package.json` that decide something. Versions are as written there."""

    path: Path
    name: str | None = None
    dependencies: dict[str, str] = field(default_factory=dict)
    dev_dependencies: dict[str, str] = field(default_factory=dict)
    peer_dependencies: dict[str, str] = field(default_factory=dict)
    optional_dependencies: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)

    def packages(self) -> dict[str, str]:
        """Every package named in any of the four lists; the earlier list wins."""
        return {
            **self.optional_dependencies,
            **self.peer_dependencies,
            **self.dev_dependencies,
            **self.dependencies,
        }

    def has(self, package: str) -> bool:
        """Whether the app itself depends on `package` (dependencies and devDependencies)."""
        return package in self.dependencies or package in self.dev_dependencies


@dataclass(frozen=True)
class Project:
    """One folder with an app in it. All paths are absolute and free of symbolic links."""

    root: Path
    config: ProjectConfig
    package_json: PackageJson | None

    @property
    def name(self) -> str:
        """What the user calls it: the package's name without its scope, else the folder's name."""
        name = self.package_json.name if self.package_json else None
        return (name or self.root.name).rsplit("/", 1)[-1] or "app"

    @property
    def functions_dir(self) -> Path:
        """The folder of the user's functions; it may not exist yet."""
        return self.root / self.config.functions

    @property
    def generated_dir(self) -> Path:
        return self.functions_dir / GENERATED_DIR

    @property
    def state_dir(self) -> Path:
        """`.cvx/`: everything cvx keeps here that must not be committed."""
        return self.root / ".cvx"

    def relative(self, path: Path) -> str:
        """`path` as a person reads it: relative to the root with `/`, absolute when outside it."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()

    def config_files(self) -> frozenset[Path]:
        """The files that make up this picture: a change in one of them means `load` again."""
        names = ("convex.json", "package.json", "cvx.toml", ".env.local", ".env")
        return frozenset(self.root / name for name in names)

    def require_convex(self) -> None:
        """Raise unless `package.json` names the `convex` package, which every bundle needs."""
        if self.package_json is None:
            raise CvxError(
                "NoPackageJson",
                f"{self.root / 'package.json'} does not exist, so the `convex` package cannot be found.",
                kind="not_found",
                hint="Run `cvx init` in this folder.",
                retry_when="files",
            )
        if "convex" not in self.package_json.packages():
            raise CvxError(
                "ConvexNotADependency",
                f"{self.package_json.path} does not list `convex` among its dependencies.",
                kind="not_found",
                hint="Run `cvx init` here: it adds the package.",
                retry_when="files",
            )


def find_root(start: Path) -> Path | None:
    """The project that `start` is in: the nearest folder upwards that is one, or None.

    `convex.json`, `cvx.toml`, or a `package.json` that lists `convex` or stands beside a `convex/` folder
    make a project; failing all of these upwards, the nearest `package.json` does.
    """
    fallback: Path | None = None
    for folder in (start, *start.parents):
        if any((folder / marker).is_file() for marker in ROOT_MARKERS):
            return folder
        manifest = folder / "package.json"
        if not manifest.is_file():
            continue
        fallback = fallback or folder
        if (folder / "convex").is_dir() or '"convex"' in manifest.read_text("utf-8", errors="replace"):
            return folder
    return fallback


def find_project(start: Path) -> Project:
    """Load the project that `start` is in, or raise `ProjectNotFound`."""
    resolved = start.resolve()
    if not resolved.is_dir():
        raise CvxError(
            "ProjectNotFound",
            f"{start} is not a folder.",
            kind="not_found",
            hint="Pass an existing folder to --project.",
        )
    root = find_root(resolved)
    if root is None:
        raise CvxError(
            "ProjectNotFound",
            f"No package.json, convex.json or cvx.toml in {resolved} or any folder above it.",
            kind="not_found",
            hint="Run `cvx init` to create a project here.",
            retry_when="files",
        )
    return load_project(root)


def load_project(root: Path) -> Project:
    """Read the configuration files in `root`. Raises `InvalidConvexJson` or `InvalidPackageJson`."""
    root = root.resolve()
    package_json = _read_package_json(root / "package.json")
    config = _read_config(root, package_json)
    return Project(root, config, package_json)


def _read_package_json(path: Path) -> PackageJson | None:
    text = _read(path)
    if text is None:
        return None
    data = _decode(text, path, "InvalidPackageJson", dict[str, Any])
    lists: dict[str, dict[str, str]] = {}
    for key in ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies", "scripts"):
        try:
            lists[key] = msgspec.convert(data.get(key) or {}, dict[str, str])
        except msgspec.ValidationError as error:
            raise _invalid(path, text, "InvalidPackageJson", str(error), (key,)) from error
    name = data.get("name")
    return PackageJson(
        path,
        name if isinstance(name, str) else None,
        lists["dependencies"],
        lists["devDependencies"],
        lists["peerDependencies"],
        lists["optionalDependencies"],
        lists["scripts"],
    )


def _read_config(root: Path, package_json: PackageJson | None) -> ProjectConfig:
    cra = package_json is not None and package_json.has("react-scripts")
    default_functions = "src/convex/" if cra else "convex/"
    misplaced = root / "src" / "convex.json"
    if misplaced.is_file():
        raise CvxError(
            "InvalidConvexJson",
            "src/convex.json: this file is only read beside package.json.",
            hint="Move it to convex.json in the project's root.",
            retry_when="files",
        )
    path = root / "convex.json"
    text = _read(path)
    if text is None:
        return ProjectConfig(functions=default_functions)
    raw = _decode(text, path, "InvalidConvexJson", dict[str, Any])
    parsed = _decode(text, path, "InvalidConvexJson", _ConvexJson)
    if parsed.generate_common_js_api and parsed.codegen.file_type == "ts":
        message = '"generateCommonJSApi" cannot be combined with "codegen.fileType": "ts".'
        raise _invalid(path, text, "InvalidConvexJson", message, ("generateCommonJSApi",))
    functions = parsed.functions or default_functions
    if Path(functions).is_absolute() or not (root / functions).resolve().is_relative_to(root):
        message = f'"functions" must name a folder inside the project, not {functions!r}.'
        raise _invalid(path, text, "InvalidConvexJson", message, ("functions",))
    return ProjectConfig(
        path=path,
        functions=functions,
        external_packages=tuple(parsed.node.external_packages),
        node_version=parsed.node.node_version,
        generate_commonjs_api=parsed.generate_common_js_api,
        static_api=parsed.codegen.static_api,
        static_data_model=parsed.codegen.static_data_model,
        legacy_component_api=parsed.codegen.legacy_component_api,
        file_type=parsed.codegen.file_type,
        include_sources_content=parsed.bundler.include_sources_content,
        typescript_compiler=parsed.typescript_compiler,
        warnings=tuple(_unknown_keys(raw, path, text)),
    )


def _unknown_keys(raw: dict[str, Any], path: Path, text: str) -> list[Diagnostic]:
    found: list[Diagnostic] = []
    for section, known in _KNOWN_KEYS.items():
        holder = raw.get(section) if section else raw
        for key in holder if isinstance(holder, dict) else ():
            if key in known:
                continue
            keys = (section, key) if section else (key,)
            offset = offset_of(text, keys)
            found.append(
                Diagnostic(
                    f'unknown key "{".".join(keys)}"; it is kept and ignored.',
                    severity="warning",
                    file=path.name,
                    line=line_at(text, offset),
                    column=column_at(text, offset),
                )
            )
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise CvxError(
            f"Invalid{'ConvexJson' if path.name == 'convex.json' else 'PackageJson'}",
            f"{path.name}: not UTF-8 text (byte {error.start}).",
            hint=f"Save {path.name} as UTF-8.",
            retry_when="files",
        ) from error


def _decode(text: str, path: Path, code: str, shape: Any) -> Any:
    """Decode JSON into `shape`; complaints name the line and show it."""
    encoded = text.encode()
    try:
        return msgspec.json.decode(encoded, type=shape)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        keys = tuple(part.partition("[")[0] for part in where.rstrip("`").split(".") if part)
        name = ".".join(keys)
        raise _invalid(path, text, code, f'"{name}": {message}.' if name else message, keys) from error
    except msgspec.DecodeError as error:
        message = str(error).removeprefix("JSON is malformed: ")
        head, _, tail = message.partition(" (byte ")
        at = len(encoded) if not tail else int(tail.rstrip(")"))
        offset = len(encoded[:at].decode("utf-8", errors="ignore"))
        raise _invalid(path, text, code, f"this is not valid JSON: {head.lower()}.", None, offset) from error


def _invalid(
    path: Path, text: str, code: str, message: str, keys: Sequence[str] | None, offset: int = 0
) -> CvxError:
    if keys is not None:
        offset = offset_of(text, keys) if text.lstrip().startswith("{") else 0
    line, column = line_at(text, offset), column_at(text, offset)
    if line > len(text.splitlines()):  # The text stopped too early: point at its last line.
        line, column = max(1, len(text.splitlines())), 1
    diagnostic = Diagnostic(
        message, file=path.name, line=line, column=column, frame=code_frame(text, line, column)
    )
    hint = f"Correct line {line} of {path.name}."
    if keys is None:
        hint += " It is strict JSON: no comments, no trailing commas."
    return failed(code, (diagnostic,), what="Cannot read", hint=hint, watched_files=(path,))
