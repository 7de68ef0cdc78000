"""An app with "use node" modules and an external package: pushed by the official CLI and by `cvx dev --once`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.apps.driving import PACKAGES
from tests.backend_process import BackendProcess
from tests.compat.official_cli import OfficialCli
from tests.node_env import npm_project

pytestmark = [pytest.mark.node, pytest.mark.deno, pytest.mark.slow]

FILES = {
    "package.json": json.dumps({"name": "mixed", "type": "module", "dependencies": PACKAGES}),
    "convex.json": '{"node": {"externalPackages": ["zod"], "nodeVersion": "22"}}',
    "convex/notes.ts": (
        'import { getFunctionName } from "convex/server";\n'
        'import { v } from "convex/values";\nimport { query, mutation } from "./_generated/server";\n'
        'import { api } from "./_generated/api";\n'
        'export const list = query({ args: {}, handler: async (ctx) => (await ctx.db.query("notes").collect()).length });\n'
        "export const add = mutation({ args: { text: v.string() }, handler: async (ctx, args): Promise<string> => {\n"
        '  await ctx.db.insert("notes", args);\n  return getFunctionName(api.mail.send); } });\n'
    ),
    "convex/mail.ts": (
        '"use node";\nimport { createHash } from "node:crypto";\nimport { z } from "zod";\n'
        'import { v } from "convex/values";\nimport { action, internalAction } from "./_generated/server";\n'
        "export const limit = 3;\nexport const check = () => z.string();\n"
        "export const send = action({ args: { to: v.string() }, returns: v.string(),\n"
        '  handler: async (_ctx, { to }) => createHash("sha256").update(check().parse(to)).digest("hex") });\n'
        "export const inner = internalAction({ args: {}, handler: async () => limit });\n"
    ),
    "convex/schema.ts": (
        'import { defineSchema, defineTable } from "convex/server";\nimport { v } from "convex/values";\n'
        "export default defineSchema({ notes: defineTable({ text: v.string() }) });\n"
    ),
    "convex/tsconfig.json": (
        '{"compilerOptions": {"strict": true, "module": "ESNext", "moduleResolution": "Bundler", "target": "ESNext",'
        ' "lib": ["ES2022", "DOM"], "skipLibCheck": true, "noEmit": true}, "include": ["./**/*"]}'
    ),
}


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[BackendProcess]:
    process = BackendProcess(tmp_path / "data")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "node_modules").symlink_to(npm_project("apps", PACKAGES) / "node_modules")
    return folder


def check_deployed(backend: BackendProcess, convex: OfficialCli) -> None:
    """All of it runs, and is listed as what it is."""
    assert convex("run", "notes:add", '{"text": "x"}').json == "mail:send"
    assert convex("run", "notes:list").json == 1
    spec = {item["identifier"]: item for item in convex("function-spec").json["functions"]}
    assert set(spec) == {"notes.js:list", "notes.js:add", "mail.js:send", "mail.js:inner"}
    assert spec["mail.js:send"]["functionType"] == "Action"
    assert spec["mail.js:send"]["visibility"] == {"kind": "public"}
    assert spec["mail.js:inner"]["visibility"] == {"kind": "internal"}
    assert convex("run", "mail:send", '{"to": "x"}').json == hashlib.sha256(b"x").hexdigest()
    anonymous = httpx.post(f"{backend.url}/api/action", json={"path": "mail:inner", "args": {}}).json()
    assert "Could not find public function" in anonymous["errorMessage"]


def test_the_official_cli(backend: BackendProcess, app: Path) -> None:
    convex = OfficialCli(app, backend)
    assert "Convex functions ready!" in convex("dev", "--once").stderr
    check_deployed(backend, convex)
    assert "mail" in (app / "convex/_generated/api.d.ts").read_text()
    assert "Convex functions ready!" in convex("dev", "--once").stderr
    assert "Deployed" in convex("deploy").stderr


def test_our_own(backend: BackendProcess, app: Path) -> None:
    options = ["--url", backend.url, "--admin-key", backend.admin_key]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "cvx", "dev", "--once", *options],
            cwd=app, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    check_deployed(backend, OfficialCli(app, backend))
    spec = subprocess.run(
        [sys.executable, "-m", "cvx", "functions", *options, "--json"],
        cwd=app, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert spec.returncode == 0, spec.stderr
    assert "mail.js:send" in spec.stdout
