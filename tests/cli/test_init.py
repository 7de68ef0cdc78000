"""`cvx init`: an empty folder, an existing app, twice; nothing of the user's is ever overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.backend_process import free_port
from tests.cli.command_line import cvx
from tests.node_env import BLANK_PACKAGES, npm_project

TEMPLATES = ["blank", "chat-vite", "components", "html", "nextjs", "python-client", "sveltekit", "vue-vite"]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "node_modules" not in path.parts
    }


def test_templates_are_listed(tmp_path: Path) -> None:
    listed = cvx("init", "--list-templates", "--json", cwd=tmp_path).envelope()["data"]["templates"]
    assert [template["name"] for template in listed] == TEMPLATES
    assert all(template["description"] for template in listed)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_in_an_empty_folder_and_twice(tmp_path: Path, template: str) -> None:
    done = cvx("init", "my-app", "--template", template, "--no-install", cwd=tmp_path)
    assert done.code == 0, done.err
    app = tmp_path / "my-app"
    files = snapshot(app)
    assert json.loads(files["package.json"])["name"] == "my-app"
    assert not any(b"{{name}}" in content for content in files.values())
    functions = "src/convex" if template == "sveltekit" else "convex"
    written = {f"{functions}/{name}" for name in ("schema.ts", "_generated/api.d.ts", "_generated/server.js")}
    if template == "components":  # What is generated for it depends on its packages.
        written = {"convex/schema.ts", "convex/convex.config.ts", "convex/history/entries.ts"}
    assert {*written, ".env.local"} <= set(files)
    assert (app / ".gitignore").read_text().splitlines()[0] == "node_modules"
    again = cvx("init", "my-app", "--template", template, "--no-install", "--json", cwd=tmp_path)
    assert again.envelope()["data"]["noop"] is True
    assert snapshot(app) == files
    assert "Nothing to do" in again.err


@pytest.mark.node
def test_offline_when_the_packages_are_there(tmp_path: Path) -> None:
    """Nothing is asked of any registry: the ones configured here do not exist."""
    packages = npm_project("blank", BLANK_PACKAGES)
    app = tmp_path / "app"
    app.mkdir()
    (app / "node_modules").symlink_to(packages / "node_modules")
    nowhere = {"npm_config_registry": "http://127.0.0.1:9", "NPM_CONFIG_REGISTRY": "http://127.0.0.1:9"}
    done = cvx("init", "--template", "blank", cwd=app, env=nowhere)
    assert done.code == 0, done.err
    assert "installed with" not in done.err
    assert (app / "convex" / "_generated" / "api.d.ts").is_file()


def test_url_variable_follows_the_framework(tmp_path: Path) -> None:
    cvx("init", "a", "--template", "chat-vite", "--no-install", cwd=tmp_path)
    cvx("init", "b", "--template", "html", "--no-install", cwd=tmp_path)
    assert (tmp_path / "a" / ".env.local").read_text().startswith("VITE_CONVEX_URL=http://127.0.0.1:")
    assert (tmp_path / "b" / ".env.local").read_text().startswith("CONVEX_URL=http://127.0.0.1:")


@pytest.mark.parametrize(
    ("framework", "variable"),
    [
        ("react-scripts", "REACT_APP_CONVEX_URL"),
        ("next", "NEXT_PUBLIC_CONVEX_URL"),
        ("vite", "VITE_CONVEX_URL"),
    ],
)
def test_an_existing_app_gets_only_what_is_missing(tmp_path: Path, framework: str, variable: str) -> None:
    app = tmp_path / "shop"
    (app / "src").mkdir(parents=True)
    manifest = '{\n\t"name": "shop",\n\t"scripts": {\n\t\t"dev": "something"\n\t},\n\t"dependencies": {\n\t\t"%s": "^1.0.0"\n\t}\n}\n'
    (app / "package.json").write_text(manifest % framework)
    (app / "src" / "index.ts").write_text("console.log(1)\n")
    (app / ".gitignore").write_text("dist\n")
    (app / ".env.local").write_text("# mine\nOTHER=1\n")
    done = cvx("init", "--no-install", cwd=app)
    assert done.code == 0, done.err
    package = json.loads((app / "package.json").read_text())
    assert package["dependencies"]["convex"] and package["dependencies"][framework] == "^1.0.0"
    assert package["scripts"]["dev"] == "something" and "cvx dev" in package["scripts"].values()
    assert '\n\t\t"dev": "something"' in (app / "package.json").read_text()
    assert (app / "src" / "index.ts").read_text() == "console.log(1)\n"
    assert (app / ".gitignore").read_text().startswith("dist\n")
    env = (app / ".env.local").read_text()
    assert env.startswith("# mine\nOTHER=1\n") and f"{variable}=http://127.0.0.1:" in env
    folder = "src/convex" if framework == "react-scripts" else "convex"
    assert (app / folder / "tsconfig.json").is_file()
    files = snapshot(app)
    assert cvx("init", "--no-install", "--json", cwd=app).envelope()["data"]["noop"] is True
    assert snapshot(app) == files


def test_files_that_exist_stay(tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / "convex").mkdir(parents=True)
    (app / "convex" / "schema.ts").write_text("// mine\n")
    done = cvx("init", "app", "--template", "blank", "--no-install", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (app / "convex" / "schema.ts").read_text() == "// mine\n"
    assert (app / "convex" / "notes.ts").is_file()


def test_each_project_gets_ports_of_its_own_when_they_are_taken(tmp_path: Path) -> None:
    """An `.env.local` that names a port is respected, so worktrees keep theirs."""
    port = free_port()
    app = tmp_path / "app"
    app.mkdir()
    (app / ".env.local").write_text(f"CONVEX_URL=http://127.0.0.1:{port}\n")
    assert cvx("init", "--template", "blank", "--no-install", cwd=app).code == 0
    assert f"CONVEX_URL=http://127.0.0.1:{port}\n" in (app / ".env.local").read_text()
    state = json.loads((app / ".cvx" / "local" / "default" / "config.json").read_text())
    assert state["cloudPort"] == port


def test_secrets_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    cvx("init", "app", "--template", "blank", "--no-install", cwd=tmp_path)
    assert (tmp_path / "app" / ".cvx" / "local" / "default" / "config.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "app" / ".cvx" / ".gitignore").read_text() == "*\n"


def test_broken_package_json_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{\n  "name": "x",\n}\n')
    done = cvx("init", "--no-install", cwd=tmp_path)
    assert done.code == 1
    assert "package.json:3" in done.err
