"""Templates → a new project; and what an existing app needs added.

A template is a folder of plain files under `templates/` (in an installed cvx: `cvx/_templates`). It is
copied, never executed; the one placeholder `{{name}}` becomes the project's name. `_gitignore` is written as
`.gitignore`, which would otherwise work on our own repository.

Rule: a file that exists is never overwritten, so doing it twice changes nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cvx.errors import CvxError
from cvx.toolchain.project.env_file import ENV_LOCAL, ensure_ignored, write_atomically
from cvx.toolchain.project.project import load_project
from cvx.toolchain.project.text_position import insert_member, object_at

CONVEX_VERSION = "^1.48.0"
"""The npm `convex` written into a project that has none; the newest our tests run against."""

PLACEHOLDER = b"{{name}}"
IGNORED = (ENV_LOCAL, "node_modules", ".cvx")
_SKIPPED_FOLDERS = frozenset({"node_modules", ".cvx", "_generated", "dist", "__pycache__"})


@dataclass(frozen=True)
class Template:
    """A starting point: `description` is the first paragraph of its README."""

    name: str
    description: str
    folder: Path


@dataclass(frozen=True)
class ScaffoldReport:
    """Paths relative to the project, with `/`: newly written, left as they were, and added to."""

    created: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def is_noop(self) -> bool:
        return not self.created and not self.changed

    def __add__(self, other: ScaffoldReport) -> ScaffoldReport:
        created = (*self.created, *other.created)
        return ScaffoldReport(
            created,
            tuple(p for p in (*self.kept, *other.kept) if p not in created),
            tuple(dict.fromkeys(p for p in (*self.changed, *other.changed) if p not in created)),
        )


def templates_folder() -> Path:
    """Where the templates are: beside the installed package, or in the repository."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "_templates"
    return installed if installed.is_dir() else package.parent / "templates"


def list_templates(folder: Path | None = None) -> tuple[Template, ...]:
    """Every template, by name."""
    root = folder or templates_folder()
    found = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    return tuple(Template(p.name, _description(p), p) for p in found if not p.name.startswith((".", "_")))


def find_template(name: str, folder: Path | None = None) -> Template:
    """The template called `name`; raises `TemplateNotFound` with the names there are."""
    templates = list_templates(folder)
    for template in templates:
        if template.name == name:
            return template
    known = [t.name for t in templates]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    raise CvxError(
        "TemplateNotFound",
        f"There is no template {name!r}. There are: {', '.join(known)}.",
        kind="not_found",
        hint=f"Did you mean {near[0]}?" if near else "See them with: cvx init --list-templates",
        details={"name": name, "known": known},
    )


def is_empty_folder(folder: Path) -> bool:
    """Whether nothing of the user's is in `folder`: it is missing, or holds only `.git` and the like."""
    if not folder.exists():
        return True
    return all(
        p.name in (".git", ".gitignore", ".DS_Store", "README.md", "LICENSE") for p in folder.iterdir()
    )


def project_name(folder: Path) -> str:
    """A valid npm package name made from the folder's name."""
    name = re.sub(r"[^a-z0-9._~-]+", "-", folder.resolve().name.lower()).strip("-._")
    return name or "app"


def copy_template(template: Template, target: Path, name: str | None = None) -> ScaffoldReport:
    """Write the template's files that `target` does not have yet, then add what a project needs."""
    label = (name or project_name(target)).encode()
    created: list[str] = []
    kept: list[str] = []
    for source in _files(template.folder):
        relative = source.relative_to(template.folder)
        if relative.name == "_gitignore":
            relative = relative.with_name(".gitignore")
        destination = target / relative
        if destination.exists() or destination.is_symlink():
            kept.append(relative.as_posix())
            continue
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(source.read_bytes().replace(PLACEHOLDER, label))
        destination.chmod(source.stat().st_mode & 0o777 | 0o600)
        created.append(relative.as_posix())
    return ScaffoldReport(tuple(created), tuple(kept)) + add_to_app(target)


def add_to_app(root: Path) -> ScaffoldReport:
    """Give an existing app what cvx needs: the `convex` dependency, one script, ignored files.

    The text of `package.json` outside the added lines stays as it is. A folder without one gets a minimal
    one. Raises `InvalidPackageJson` for one that cannot be read.
    """
    root.mkdir(parents=True, exist_ok=True)
    created: list[str] = []
    changed: list[str] = []
    kept: list[str] = []
    manifest = root / "package.json"
    if not manifest.exists():
        manifest.write_text(_minimal_manifest(project_name(root)), encoding="utf-8")
        created.append("package.json")
    elif _complete_manifest(root):
        changed.append("package.json")
    else:
        kept.append("package.json")
    had_ignore = (root / ".gitignore").exists()
    if ensure_ignored(root, IGNORED):
        (changed if had_ignore else created).append(".gitignore")
    else:
        kept.append(".gitignore")
    return ScaffoldReport(tuple(created), tuple(kept), tuple(changed))


def _complete_manifest(root: Path) -> bool:
    """Add what is missing to package.json; whether anything was."""
    project = load_project(root)  # Reports a package.json that is not valid JSON, with its line.
    manifest = project.package_json
    assert manifest is not None, "called for a folder that has a package.json"
    text = manifest.path.read_bytes().decode("utf-8-sig")
    before = text
    object_at(text)
    if "convex" not in manifest.packages():
        text = insert_member(text, ("dependencies",), "convex", CONVEX_VERSION)
    if not any("cvx dev" in command for command in manifest.scripts.values()):
        name = "dev" if "dev" not in manifest.scripts else "dev:backend"
        text = insert_member(text, ("scripts",), name, "cvx dev")
    if text == before:
        return False
    write_atomically(manifest.path, text, mode=0o644)
    return True


def _minimal_manifest(name: str) -> str:
    return (
        "{\n"
        f'  "name": "{name}",\n'
        '  "private": true,\n'
        '  "type": "module",\n'
        '  "scripts": {\n'
        '    "dev": "cvx dev"\n'
        "  },\n"
        '  "dependencies": {\n'
        f'    "convex": "{CONVEX_VERSION}"\n'
        "  }\n"
        "}\n"
    )


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in _SKIPPED_FOLDERS:
                yield from _files(path)
        elif path.is_file() and path.name not in (".DS_Store", ENV_LOCAL):
            yield path


def _description(folder: Path) -> str:
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    for paragraph in readme.read_text("utf-8").split("\n\n"):
        text = " ".join(paragraph.split())
        if text and not text.startswith(("#", "`", "-", "|")):
            return text.partition(". ")[0].rstrip(".")
    return ""
