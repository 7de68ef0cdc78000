""" "use node" actions with packages from npm, pushed by both command lines, driven by the official clients."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running
from tests.apps.guides import blocks_missing
from tests.backend_process import BackendProcess
from tests.cli.command_line import cvx
from tests.compat.official_cli import OfficialCli
from tests.node_env import npm_project

pytestmark = [pytest.mark.deno, pytest.mark.node]

PACKAGES = {
    "convex": "1.48.0",
    "jimp": "1.6.0",
    "jose": "6.1.0",
    "jsonwebtoken": "9.0.2",
    "pino": "9.9.0",
    "pngjs": "7.0.0",
    "stripe": "19.1.0",
}
EXTERNAL = {
    "convex": "1.48.0",
    "jose": "6.1.0",
    "jsonwebtoken": "9.0.2",
    "pngjs": "7.0.0",
    "stripe": "19.1.0",
}
LIMITS = ("--limit", "node_action_time_s=15", "--limit", "node_heap_bytes_max=120000000")


def copied(app: Path, target: Path, packages: dict[str, str]) -> Path:
    """The app with its packages, not pushed yet."""
    shutil.copytree(app, target)
    shutil.copy(HERE / "harness.mjs", target / "harness.mjs")
    (target / "node_modules").symlink_to(npm_project("apps", packages) / "node_modules")
    return target


def chosen(backend: BackendProcess) -> list[str]:
    return ["--url", backend.url, "--admin-key", backend.admin_key]


def test_node_actions(tmp_path: Path) -> None:
    with running(HERE / "node_actions", tmp_path, PACKAGES, LIMITS) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))


def test_pushed_by_the_official_command_line(tmp_path: Path) -> None:
    """It bundles the same, so the same runs; a second push of the same changes nothing."""
    backend = BackendProcess(tmp_path / "data")
    backend.start(*LIMITS)
    try:
        folder = copied(HERE / "node_actions", tmp_path / "app", PACKAGES)
        official = OfficialCli(folder, backend)
        official("dev", "--once", "--typecheck", "disable")
        print(drive(folder / "drive.mjs", backend))
        again = cvx("dev", "--once", "--typecheck", "disable", "-v", *chosen(backend), cwd=folder)
        assert again.code == 0 and "behaviour" not in again.err, again.err
        listed = json.loads(official("function-spec").stdout)["functions"]
        spec = {each["identifier"]: each for each in listed}
        assert spec["billing.js:charge"]["visibility"] == {"kind": "internal"}
        assert spec["billing.js:charge"]["returns"] == {"type": "string"}
        assert official("run", "machine:hash", '{"text": ""}').stdout.startswith('"e3b0c442')
    finally:
        backend.stop()


def test_external_packages_of_the_project(tmp_path: Path) -> None:
    """With the project's own node_modules nothing is installed."""
    modules = str(npm_project("apps", EXTERNAL) / "node_modules")
    app = HERE / "node_external"
    with running(app, tmp_path, EXTERNAL, ("--node-modules", modules)) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))
        assert not (backend.data / "node" / "packages").exists()


def test_external_packages_are_installed_once(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        folder = copied(HERE / "node_external", tmp_path / "app", EXTERNAL)
        official = OfficialCli(folder, backend)
        official("dev", "--once", "--typecheck", "disable")
        print(drive(folder / "drive.mjs", backend))
        sets = backend.data / "node" / "packages"
        made = {path: path.stat().st_mtime_ns for path in sets.glob("[!.]*/package.json")}
        assert len(made) == 1
        backend.stop()
        backend.start()
        print(drive(folder / "drive.mjs", backend))
        assert {path: path.stat().st_mtime_ns for path in sets.glob("[!.]*/package.json")} == made
    finally:
        backend.stop()


@pytest.mark.long
@pytest.mark.parametrize("external", [False, True], ids=["bundled", "external"])
def test_packages_that_people_use(external: bool, tmp_path: Path) -> None:
    app = HERE / "node_packages"
    packages = json.loads((app / "package.json").read_text())["dependencies"]
    modules = str(npm_project("apps", packages) / "node_modules")
    backend = BackendProcess(tmp_path / "data")
    backend.start("--node-modules", modules)
    try:
        folder = copied(app, tmp_path / "app", packages)
        if external:
            (folder / "convex.json").write_text('{"node": {"externalPackages": ["*"]}}')
        pushed = cvx("dev", "--once", "--typecheck", "disable", *chosen(backend), cwd=folder)
        assert pushed.code == 0, pushed.err
        print(drive(folder / "drive.mjs", backend))
    finally:
        backend.stop()


SHARP = {"convex": "1.48.0", "sharp": "0.34.4"}
NATIVE = """"use node";
import sharp from "sharp";
import { action } from "./_generated/server";
export const width = action({ args: {}, handler: async () => {
  const made = await sharp({ create: { width: 30, height: 20, channels: 3, background: "red" } }).png().toBuffer();
  return (await sharp(made).resize(10).toBuffer({ resolveWithObject: true })).info.width;
} });
"""


@pytest.mark.long
def test_native_code_where_it_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    (folder / "convex").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "native", "dependencies": SHARP}))
    (folder / "convex.json").write_text('{"node": {"externalPackages": ["sharp"]}}')
    (folder / "convex" / "pictures.ts").write_text(NATIVE)
    (folder / "node_modules").symlink_to(npm_project("apps", SHARP) / "node_modules")
    push = ("dev", "--once", "--typecheck", "disable")
    backend = BackendProcess(tmp_path / "data")
    backend.start("--node-modules", str(folder / "node_modules"))
    try:
        refused = cvx(*push, *chosen(backend), cwd=folder)
        assert refused.code != 0 and "started with --native-packages" in refused.err, refused.err
        backend.stop()
        backend.start("--native-packages")  # Installed by the backend itself, without its scripts.
        assert cvx(*push, *chosen(backend), cwd=folder).code == 0
        assert backend.call("action", "pictures:width", {}) == 10
    finally:
        backend.stop()


def test_the_guide_shows_the_app() -> None:
    assert blocks_missing("node-actions", HERE / "node_actions") == []
