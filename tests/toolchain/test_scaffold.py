"""Templates and existing apps: only what is missing is added, and doing it twice changes nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cvx.errors import CvxError
from cvx.toolchain.progress import Event, Finished, SilentReporter, Started, Step
from cvx.toolchain.project import (
    Project,
    add_to_app,
    copy_template,
    find_template,
    install_packages,
    is_empty_folder,
    list_templates,
    load_project,
    package_manager,
    packages_in_place,
    project_name,
)
from cvx.toolchain.project.scaffold import CONVEX_VERSION
from tests.processes import alive


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    files = {
        "chat/README.md": "# {{name}}\n\nA chat that\nis live. More words.\n",
        "chat/package.json": '{\n  "name": "{{name}}",\n  "scripts": {"dev": "cvx dev"},\n'
        f'  "dependencies": {{"convex": "{CONVEX_VERSION}"}}\n}}\n',
        "chat/_gitignore": "node_modules\n.env.local\n.cvx\n",
        "chat/src/main.ts": "export const name = '{{name}}';\n",
        "chat/node_modules/x.js": "never copied",
        "chat/convex/_generated/api.js": "never copied",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def snapshot(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_new_project(tmp_path: Path, templates: Path) -> None:
    target = tmp_path / "My App!"
    report = copy_template(find_template("chat", templates), target)
    assert sorted(report.created) == [".gitignore", "README.md", "package.json", "src/main.ts"]
    assert report.changed == ()
    assert (target / "src/main.ts").read_text() == "export const name = 'my-app';\n"
    before = snapshot(target)
    again = copy_template(find_template("chat", templates), target)
    assert again.is_noop and snapshot(target) == before
    assert "src/main.ts" in again.kept


def test_nothing_is_overwritten(tmp_path: Path, templates: Path) -> None:
    target = tmp_path / "app"
    (target / "src").mkdir(parents=True)
    (target / "src/main.ts").write_text("mine\n")
    report = copy_template(find_template("chat", templates), target, "x")
    assert (target / "src/main.ts").read_text() == "mine\n"
    assert "src/main.ts" in report.kept and "src/main.ts" not in report.created


def test_unknown_template(templates: Path) -> None:
    with pytest.raises(CvxError) as caught:
        find_template("chatt", templates)
    assert caught.value.code == "TemplateNotFound"
    assert caught.value.details["known"] == ["chat"]


def test_description_is_the_first_sentence(templates: Path) -> None:
    assert [(t.name, t.description) for t in list_templates(templates)] == [("chat", "A chat that is live")]


@pytest.mark.parametrize("template", list_templates(), ids=lambda t: t.name)
def test_every_real_template_is_whole(tmp_path: Path, template: object) -> None:
    found = find_template(template.name)  # type: ignore[attr-defined]
    assert found.description
    target = tmp_path / "real-app"
    copy_template(found, target)
    project = load_project(target)
    project.require_convex()
    assert project.name == "real-app"
    assert b"{{" not in b"".join(snapshot(target).get(n, b"") for n in ("package.json", "README.md"))
    before = snapshot(target)
    assert copy_template(found, target).is_noop and snapshot(target) == before
    ignored = (target / ".gitignore").read_text()
    assert ".cvx" in ignored and "node_modules" in ignored


EXISTING = """{
    "name": "shop",
    "files": ["dist", "bin"],
    "scripts": {
        "dev": "vite",
        "build": "vite build"
    },
    "dependencies": {
        "axios": "^1",
        "react": "^19"
    }
}
"""


def test_existing_app_keeps_its_formatting(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(EXISTING)
    (tmp_path / ".gitignore").write_text("node_modules\n")
    report = add_to_app(tmp_path)
    assert report.changed == ("package.json", ".gitignore")
    added = EXISTING.replace(
        '"axios": "^1",\n', f'"axios": "^1",\n        "convex": "{CONVEX_VERSION}",\n'
    ).replace('"vite build"\n', '"vite build",\n        "dev:backend": "cvx dev"\n')
    assert (tmp_path / "package.json").read_text() == added
    before = snapshot(tmp_path)
    assert add_to_app(tmp_path).is_noop and snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "{}",
            '{{\n  "dependencies": {{\n    "convex": "{v}"\n  }},\n  "scripts": {{\n    "dev": "cvx dev"\n  }}\n}}',
        ),
        ('{"name":"x"}', None),
        ('{"name":"x","dependencies":{"zod":"3"}}', None),
        (
            '{\n\t"dependencies": {}\n}\n',
            '{{\n\t"dependencies": {{\n\t\t"convex": "{v}"\n\t}},\n\t"scripts": {{\n\t\t"dev": "cvx dev"\n\t}}\n}}\n',
        ),
        ('{\r\n  "name": "x"\r\n}\r\n', None),
        ('{\n  "dependencies": {\n    "zod": "3",\n    "axios": "1"\n  }\n}\n', None),
    ],
)
def test_odd_package_files(tmp_path: Path, before: str, after: str | None) -> None:
    path = tmp_path / "package.json"
    path.write_bytes(before.encode())
    add_to_app(tmp_path)
    manifest = load_project(tmp_path).package_json
    assert manifest is not None
    assert manifest.dependencies["convex"] == CONVEX_VERSION and manifest.scripts["dev"] == "cvx dev"
    text = path.read_bytes().decode()
    if after is not None:
        assert text == after.format(v=CONVEX_VERSION)
    assert ("\r\n" in before) == ("\r\n" in text)
    assert add_to_app(tmp_path).is_noop


def test_a_convex_that_is_there_stays(tmp_path: Path) -> None:
    text = '{"devDependencies": {"convex": "1.20.0"}, "scripts": {"backend": "cvx dev --once"}}'
    (tmp_path / "package.json").write_text(text)
    add_to_app(tmp_path)
    assert (tmp_path / "package.json").read_text() == text


def test_a_folder_without_package_file(tmp_path: Path) -> None:
    report = add_to_app(tmp_path / "new")
    assert report.created == ("package.json", ".gitignore")
    load_project(tmp_path / "new").require_convex()


def test_broken_package_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": ')
    with pytest.raises(CvxError) as caught:
        add_to_app(tmp_path)
    assert caught.value.code == "InvalidPackageJson"
    assert (tmp_path / "package.json").read_text() == '{"name": '


def test_names(tmp_path: Path) -> None:
    assert project_name(Path("/x/My Great App")) == "my-great-app"
    assert project_name(Path("/x/---")) == "app"
    assert is_empty_folder(tmp_path / "none") and is_empty_folder(tmp_path)
    (tmp_path / "a.txt").touch()
    assert not is_empty_folder(tmp_path)


# ------------------------------------------------------------------------------------------------ installing


def test_the_lock_file_chooses_the_manager(tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name in ("npm", "pnpm"):
        (bin_dir / name).write_text("#!/bin/sh\n")
        (bin_dir / name).chmod(0o755)
    root = tmp_path / "app"
    root.mkdir()
    (root / "package.json").write_text("{}")
    environ = {"PATH": str(bin_dir)}
    project = load_project(root)
    assert package_manager(project, environ).name == "deno"
    (root / "yarn.lock").touch()
    assert package_manager(project, environ).name == "deno", "yarn is not on PATH"
    (root / "package-lock.json").touch()
    assert package_manager(project, environ).name == "npm"
    (root / "pnpm-lock.yaml").touch()
    assert package_manager(project, environ).name == "pnpm"


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        self.events.append(event)


@pytest.mark.deno
def test_deno_installs_a_flat_tree_without_a_lock_file(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"dependencies": {"convex": "1.48.0"}}')
    (tmp_path / ".git").mkdir()
    project = load_project(tmp_path)
    assert not packages_in_place(project)
    recorder = Recorder()
    assert install_packages(project, recorder).name == "deno"
    assert packages_in_place(project)
    assert (tmp_path / "node_modules/esbuild/lib/main.js").is_file()
    assert not (tmp_path / "node_modules/convex").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".git", "node_modules", "package.json"]
    assert isinstance(recorder.events[0], Started) and isinstance(recorder.events[-1], Finished)
    steps = [event for event in recorder.events if isinstance(event, Step)]
    in_place = [step.done for step in steps if "in place" in step.detail]
    assert in_place == list(range(1, len(in_place) + 1)) and len(in_place) >= 5, "convex and what it needs"


def _pretended_npm(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:{os.environ['PATH']}")
    app = tmp_path / "app"
    app.mkdir()
    (app / "package.json").write_text("{}")
    (app / "package-lock.json").touch()
    return load_project(app)


def test_a_manager_that_does_not_count_shows_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, recorder = _pretended_npm(tmp_path, "sleep 1.5", monkeypatch), Recorder()
    assert install_packages(project, recorder).name == "npm"
    steps = [event for event in recorder.events if isinstance(event, Step)]
    assert steps and all(step.done is None and re.fullmatch(r"\(\d+ s\)", step.detail) for step in steps)


def test_a_manager_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = _pretended_npm(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600", monkeypatch)
    with pytest.raises(CvxError, match="no end after 2 s"):
        install_packages(project, SilentReporter(), deadline_s=2)
    pid = tmp_path / "pid"
    assert not pid.exists() or not alive(int(pid.read_text()))


@pytest.mark.deno
def test_a_failed_install_says_why(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"dependencies": {"convex": "999.0.0"}}')
    (tmp_path / ".git").mkdir()
    with pytest.raises(CvxError) as caught:
        install_packages(load_project(tmp_path), SilentReporter())
    assert caught.value.code == "InstallFailed"
    assert "deno" in (caught.value.hint or "")
