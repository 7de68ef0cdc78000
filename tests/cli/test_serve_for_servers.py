"""`cvx backend serve` as on a server: one port for everything, a health check, a log that programs read, a clean stop."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.backend_process import BackendProcess, pushed_app
from tests.cli.command_line import cvx

HTTP_TS = """\
import { httpRouter } from "convex/server";
import { httpAction } from "./_generated/server";
import { api } from "./_generated/api";

const http = httpRouter();
http.route({ path: "/", method: "GET", handler: httpAction(async () => new Response("the app's own page")) });
http.route({
  pathPrefix: "/count/",
  method: "GET",
  handler: httpAction(async (ctx) => Response.json(await ctx.runQuery(api.notes.count, {}))),
});
export default http;
"""
NOTES_TS = """\
import { mutation, query } from "./_generated/server";

export const add = mutation({
  args: {},
  handler: async (ctx) => {
    console.log("one more");
    await ctx.db.insert("notes", {});
  },
});
export const count = query({ args: {}, handler: async (ctx) => (await ctx.db.query("notes").collect()).length });
export const fail = query({ args: {}, handler: async () => { throw new Error("no luck"); } });
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "convex").mkdir(parents=True)
    (source / "package.json").write_text('{"name": "served", "dependencies": {"convex": "1.48.0"}}')
    (source / "convex" / "http.ts").write_text(HTTP_TS)
    (source / "convex" / "notes.ts").write_text(NOTES_TS)
    return source


@pytest.mark.deno
@pytest.mark.node
def test_one_port_health_and_log(tmp_path: Path, app: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start("--one-port", "--log-format", "json", "--log-functions")
    try:
        before = httpx.get(f"{backend.url}/")
        assert "deployment is running" in before.text, "without an app the deployment answers"
        pushed_app(backend, app, tmp_path / "app")
        assert httpx.get(f"{backend.url}/").text == "the app's own page"
        assert httpx.get(f"{backend.url}/count/now").json() == 0
        assert httpx.get(f"{backend.url}/http/count/now").json() == 0
        assert httpx.get(f"{backend.url}/nowhere").status_code == 404
        assert httpx.get(f"{backend.url}/version").status_code == 200
        keys = httpx.get(f"{backend.url}/.well-known/jwks.json").json()
        assert keys["keys"], "the deployment's own, since the app has no such route"
        health = httpx.get(f"{backend.url}/api/health")
        assert health.status_code == 200 and health.json()["status"] == "ok"
        assert httpx.post(
            f"http://127.0.0.1:{backend.port}/api/mutation", json={"path": "notes:add", "args": {}}
        )
        httpx.post(f"{backend.url}/api/query", json={"path": "notes:fail", "args": {}})
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{backend.site_port}/")
    finally:
        process = backend.process
        assert process is not None and process.stderr is not None
        process.terminate()
        log = process.stderr.read()
        code = process.wait(60)
        process.stderr.close()
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    calls = {line["function"]: line for line in lines if line["logger"] == "cvx.functions"}
    added = calls["notes.js:add"] if "notes.js:add" in calls else calls["notes:add"]
    assert added["kind"] == "Mutation" and "one more" in added["console"][0]["messages"][0]
    failed = next(line for name, line in calls.items() if name.endswith(":fail"))
    assert failed["level"] == "warning" and "no luck" in failed["error"]
    assert added["time"].endswith("Z") and added["requestId"]


@pytest.mark.parametrize(
    "words",
    [["--log-format", "xml"], ["--origin", "api.example.com"], ["--site-origin", "https://a.example/path"]],
)
def test_usage(tmp_path: Path, words: list[str]) -> None:
    done = cvx("backend", "serve", "--data", "data", *words, cwd=tmp_path)
    assert done.code == 2 and words[0] in done.err


@pytest.mark.deno
def test_behind_a_proxy(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start("--origin", "https://api.example.com/", "--one-port")
    try:
        headers = {"authorization": f"Convex {backend.admin_key}"}
        urls = httpx.get(f"{backend.url}/api/v1/get_canonical_urls", headers=headers).json()
        assert urls == {
            "convexCloudUrl": "https://api.example.com",
            "convexSiteUrl": "https://api.example.com",
        }
    finally:
        backend.stop()
