"""Packages that "use node" code leaves to the server to install: `node.externalPackages` of convex.json.

Source: reference/cli-and-deploy.md §2.3. The exact version is the one installed here; a package brings the
peer and optional dependencies that the list names too. `convex` and packages from files, git or the web are
always bundled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.project import Project

_BUNDLED_VERSIONS = ("file:", "git+", "git:", "http:", "https:", "link:", "workspace:")


@dataclass(frozen=True)
class NodeDependency:
    """A package to install on the server, in exactly this version."""

    name: str
    version: str


def external_packages(project: Project) -> dict[str, Path]:
    """Name → folder of the packages that convex.json wants external and that are installed here."""
    wanted = set(project.config.external_packages)
    manifest = project.package_json
    if not wanted or manifest is None:
        return {}
    found: dict[str, Path] = {}
    for name, version in sorted(manifest.packages().items()):
        if name == "convex" or version.startswith(_BUNDLED_VERSIONS):
            continue
        folder = project.root / "node_modules" / name
        if (name in wanted or "*" in wanted) and folder.exists():
            found[name] = folder
    return found


def node_dependencies(available: dict[str, Path], used: Iterable[str]) -> tuple[NodeDependency, ...]:
    """The packages really imported, and what they need of the others, by name."""
    versions: dict[str, str] = {}
    waiting = list(used)
    while waiting:
        name = waiting.pop()
        if name in versions or name not in available:
            continue
        manifest = _manifest(name, available[name])
        versions[name] = manifest["version"]
        for key in ("peerDependencies", "optionalDependencies"):
            waiting.extend(manifest.get(key) or {})
    return tuple(NodeDependency(name, versions[name]) for name in sorted(versions))


def _manifest(name: str, folder: Path) -> dict[str, Any]:
    path = folder / "package.json"
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if isinstance(manifest.get("version"), str):
            return manifest
        why = "it has no version"
    except (OSError, msgspec.MsgspecError) as error:
        why = str(error)
    raise CvxError(
        "ExternalPackageUnreadable",
        f"convex.json makes {name!r} external, but {path} cannot tell its version: {why}.",
        hint=f"Install it again: npm install {name}",
        retry_when="files",
    )
