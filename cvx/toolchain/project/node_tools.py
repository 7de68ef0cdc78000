"""Find and run the JavaScript tools a project needs, without Node.

Deno comes with cvx as a Python wheel. esbuild is the project's own copy (npm `convex` depends on it), and so
is the TypeScript compiler; the native one (TypeScript 7, `@typescript/native`, the `tsgo` preview) is started
directly, the JavaScript one under Deno.

Packages are installed (npm_install.py) by the package manager whose lock file the project has; otherwise by `deno
install`, asked for the flat `node_modules` that npm makes, without a lock file and without lifecycle scripts.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.project.project import Project

_DENO_QUIET = {"DENO_NO_UPDATE_CHECK": "1", "DENO_NO_PROMPT": "1", "NO_COLOR": "1"}


@dataclass(frozen=True)
class TypeScript:
    """The project's compiler: `command` runs it, `native` says that it needs no JavaScript engine."""

    command: tuple[str, ...]
    package: str
    version: str
    native: bool


@dataclass(frozen=True)
class PackageManager:
    """A program that fills `node_modules`; `command` is complete."""

    name: Literal["npm", "pnpm", "yarn", "bun", "deno"]
    command: tuple[str, ...]


def deno_binary() -> Path:
    """The Deno of the PyPI wheel. Raises `DenoNotFound`."""
    try:
        from deno import find_deno_bin  # type: ignore[import-untyped]
    except ImportError as error:
        raise _no_deno() from error
    try:
        return Path(find_deno_bin())
    except FileNotFoundError as error:
        raise _no_deno() from error


def _no_deno() -> CvxError:
    return CvxError(
        "DenoNotFound",
        "The Deno runtime that belongs to cvx is not installed beside it.",
        kind="not_found",
        hint=f"Run: {sys.executable} -m pip install --force-reinstall deno",
        retry_when="env",
    )


def deno_run(script: Path, *arguments: str, flags: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The command that runs trusted tooling code under Deno, deaf to the project's own Deno settings."""
    return (
        str(deno_binary()),
        "run",
        *flags,
        *("--allow-all", "--no-config", "--no-lock", "--no-remote", "--node-modules-dir=manual", "--quiet"),
        str(script),
        *arguments,
    )


def tool_environment() -> dict[str, str]:
    """The environment for such a command: ours, without questions, colours and update checks."""
    return {**os.environ, **_DENO_QUIET}


def find_package(project: Project, name: str, *, beside: Path | None = None) -> Path | None:
    """The folder of an npm package as Node would resolve it from the project's root, links resolved.

    `beside` is the folder of a package whose own dependency is wanted: with pnpm or Deno's linked layout,
    esbuild stands next to `convex` and not at the top.
    """
    start = beside or project.root
    for folder in (start, *start.parents):
        candidate = folder / "node_modules" / name
        if (candidate / "package.json").is_file():
            return candidate.resolve()
    return None


def find_convex(project: Project) -> Path:
    """The folder of the npm package `convex`. Raises `ConvexNotInstalled`."""
    found = find_package(project, "convex")
    if found is None:
        project.require_convex()
        raise CvxError(
            "ConvexNotInstalled",
            f"The npm package `convex` is not installed in {project.root / 'node_modules'}.",
            kind="not_found",
            hint=f"Run: {' '.join(package_manager(project).command[:2])}"
            if package_manager(project).name != "deno"
            else "Run: cvx init (it installs what is missing)",
            retry_when="files",
        )
    return found


def find_esbuild(project: Project) -> Path:
    """The folder of the project's esbuild. Raises `EsbuildNotInstalled`.

    The copy that `convex` depends on comes first: it is the version Convex was tested with.
    """
    convex = find_convex(project)
    found = find_package(project, "esbuild", beside=convex) or find_package(project, "esbuild")
    if found is None or not (found / "lib" / "main.js").is_file():
        raise CvxError(
            "EsbuildNotInstalled",
            "The npm package `esbuild`, which comes with `convex`, is missing from node_modules.",
            kind="not_found",
            hint="Remove node_modules and install the packages again: cvx init",
            retry_when="files",
        )
    return found


def find_typescript(project: Project) -> TypeScript | None:
    """The project's TypeScript compiler, a native one first; None when it has none."""
    wanted = project.config.typescript_compiler
    packages: tuple[str, ...] = ("@typescript/native", "typescript", "@typescript/native-preview")
    if wanted == "tsgo":
        packages = ("@typescript/native-preview",)
    found = [c for c in (_compiler(project, name) for name in packages) if c is not None]
    return next((c for c in found if c.native), found[0] if found else None)


def _compiler(project: Project, name: str) -> TypeScript | None:
    folder = find_package(project, name)
    if folder is None:
        return None
    version = _manifest(folder).get("version", "0")
    executable = _native_compiler(project, folder, name)
    if executable is not None:
        return TypeScript((str(executable),), name, version, native=True)
    for script in ("bin/tsc", "bin/tsgo", "bin/tsgo.js"):
        if (folder / script).is_file():
            return TypeScript(deno_run(folder / script), name, version, native=False)
    return None


def _native_compiler(project: Project, folder: Path, name: str) -> Path | None:
    """The executable in the platform's own package, which the JavaScript launcher would start."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    system = {"linux": "linux", "darwin": "darwin", "win32": "win32"}.get(sys.platform, sys.platform)
    base, program = ("native-preview", "tsgo") if name.endswith("native-preview") else ("typescript", "tsc")
    suffix = ".exe" if system == "win32" else ""
    package = find_package(project, f"@typescript/{base}-{system}-{machine}", beside=folder)
    executable = package / "lib" / f"{program}{suffix}" if package else None
    return executable if executable is not None and executable.is_file() else None


def package_version(folder: Path) -> str:
    """The `version` in a package's `package.json`; empty when it has none."""
    return str(_manifest(folder).get("version", ""))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode((folder / "package.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError):
        return {}


def package_manager(project: Project, environ: Mapping[str, str] = os.environ) -> PackageManager:
    """The manager whose lock file the project (or its workspace) has, when it is on PATH; else Deno."""
    path = environ.get("PATH")
    for folder in (project.root, *project.root.parents):
        for lock, name, arguments in (
            ("pnpm-lock.yaml", "pnpm", ("install",)),
            ("yarn.lock", "yarn", ("install",)),
            ("bun.lock", "bun", ("install",)),
            ("bun.lockb", "bun", ("install",)),
            ("package-lock.json", "npm", ("install", "--no-audit", "--no-fund")),
        ):
            program = shutil.which(name, path=path) if (folder / lock).is_file() else None
            if program:
                return PackageManager(name, (program, *arguments))  # type: ignore[arg-type]
        if (folder / ".git").exists():
            break
    lock_flags = () if (project.root / "deno.lock").is_file() else ("--no-lock",)
    # Flat, as npm lays it out: packages that import what they do not declare work, and a later
    # `npm install` finds a tree it understands.
    layout = ("--node-modules-dir=manual", "--node-modules-linker", "hoisted")
    command = (str(deno_binary()), "install", *lock_flags, *layout)
    return PackageManager("deno", command)


def packages_in_place(project: Project) -> bool:
    """Whether every package the app depends on is in `node_modules`, in whatever version."""
    manifest = project.package_json
    if manifest is None:
        return True
    names = (*manifest.dependencies, *manifest.dev_dependencies)
    return all(find_package(project, name) is not None for name in names)
