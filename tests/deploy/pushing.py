"""A backend in this process, spoken to over HTTP, and pushes made by hand from real esbuild bundles."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import brotli
import httpx

from cvx.backend.auth import issue_admin_key
from cvx.backend.backend import Backend
from cvx.backend.config import BackendConfig, Limits
from tests.functions.deployment import bundle

NAME, SECRET = "pushed-otter-1", "ab" * 32
KEY = issue_admin_key(NAME, SECRET)
Json = dict[str, Any]


@lru_cache(maxsize=64)
def _bundled(files: tuple[tuple[str, str], ...]) -> tuple[tuple[Json, ...], Json | None, Json | None]:
    # Always the same place, as esbuild writes paths into its output and equal files must give equal modules.
    folder = Path(tempfile.gettempdir()) / f"cvx-bundled-{os.getpid()}"
    try:
        convex = folder / "convex"
        for name, text in files:
            (convex / name).parent.mkdir(parents=True, exist_ok=True)
            (convex / name).write_text(text)
        app = bundle(convex, folder / "out")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    modules = [_json(module) for module in app.modules]
    definition = next((module for module in modules if module["path"] == "convex.config.js"), None)
    functions = tuple(module for module in modules if module["path"] != "convex.config.js")
    return functions, None if app.schema is None else _json(app.schema), definition


def _json(module: Any) -> Json:
    out = {"path": module.path, "source": module.source, "environment": module.environment}
    return out if module.source_map is None else out | {"sourceMap": module.source_map}


def sha256(module: Json) -> str:
    return hashlib.sha256((module["source"] + module.get("sourceMap", "")).encode()).hexdigest()


def push_body(files: dict[str, str], **changes: Any) -> Json:
    """A start_push body for an app given as its files under convex/."""
    functions, schema, definition = copy.deepcopy(_bundled(tuple(sorted(files.items()))))
    app = {
        "definition": definition,
        "dependencies": [],
        "schema": schema,
        "changedModules": list(functions),
        "unchangedModuleHashes": [],
        "udfServerVersion": "1.48.0",
    }
    body = {
        "adminKey": KEY,
        "dryRun": False,
        "functions": "convex/",
        "appDefinition": app,
        "componentDefinitions": [],
        "nodeDependencies": [],
    }
    return body | changes


class Client:
    """Short ways to ask a backend."""

    def __init__(self, backend: Backend, http: httpx.AsyncClient) -> None:
        self.backend = backend
        self.http = http

    async def post(
        self, path: str, body: Json, headers: dict[str, str] | None = None, *, compressed: bool = False
    ) -> httpx.Response:
        raw, sent = json.dumps(body).encode(), {"content-type": "application/json", **(headers or {})}
        if compressed:
            raw, sent = brotli.compress(raw, quality=4), sent | {"content-encoding": "br"}
        return await self.http.post(path, content=raw, headers=sent)

    async def ok(self, path: str, body: Json, **options: Any) -> Json:
        answer = await self.post(path, body, **options)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return dict(answer.json() or {})

    async def refused(self, path: str, body: Json, status: int = 400) -> Json:
        """The `{code, message}` of an answer that must have this status."""
        answer = await self.post(path, body)
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"
        assert set(answer.json()) == {"code", "message"}
        return dict(answer.json())

    async def start(self, files: dict[str, str], **changes: Any) -> Json:
        return await self.ok("/api/deploy2/start_push", push_body(files, **changes), compressed=True)

    async def refused_start(self, files: dict[str, str], status: int = 400, **changes: Any) -> Json:
        return await self.refused("/api/deploy2/start_push", push_body(files, **changes), status)

    async def wait(self, started: Json, timeout_ms: float = 10_000) -> Json:
        body = {
            "adminKey": KEY,
            "schemaChange": started["schemaChange"],
            "timeoutMs": timeout_ms,
            "dryRun": False,
        }
        return await self.ok("/api/deploy2/wait_for_schema", body)

    async def waited(self, started: Json) -> Json:
        """The first status that is not in progress."""
        for _ in range(60):
            status = await self.wait(started)
            if status["type"] != "inProgress":
                return status
        raise AssertionError("the schema is never decided")

    def finish_body(self, started: Json) -> Json:
        return {"adminKey": KEY, "startPush": started, "dryRun": False, "message": None}

    async def finish(self, started: Json) -> Json:
        return await self.ok("/api/deploy2/finish_push", self.finish_body(started), compressed=True)

    async def refused_finish(self, started: Json, status: int = 400) -> Json:
        return await self.refused("/api/deploy2/finish_push", self.finish_body(started), status)

    async def push(self, files: dict[str, str], **changes: Any) -> Json:
        """A whole push; the answer of its finish."""
        started = await self.start(files, **changes)
        status = await self.waited(started)
        assert status == {"type": "complete"}, status
        return await self.finish(started)

    async def hashes(self) -> Json:
        return await self.ok("/api/get_config_hashes", {"version": "1.48.0", "adminKey": KEY})

    async def call(self, kind: str, path: str, args: Json | None = None) -> Any:
        """A function's value; AssertionError with the answer when it failed."""
        body = {"path": path, "args": args or {}, "format": "json"}
        answer = await self.ok(f"/api/{kind}", body)
        assert answer["status"] == "success", answer
        return answer["value"]

    async def failure(self, kind: str, path: str, args: Json | None = None) -> str:
        answer = await self.ok(f"/api/{kind}", {"path": path, "args": args or {}, "format": "json"})
        assert answer["status"] == "error", answer
        return str(answer["errorMessage"])

    async def set_environment(self, status: int = 200, **variables: str | None) -> httpx.Response:
        changes = [{"name": name, "value": value} for name, value in variables.items()]
        answer = await self.post(
            "/api/update_environment_variables", {"changes": changes}, {"authorization": f"Convex {KEY}"}
        )
        assert answer.status_code == status, answer.text
        return answer


@asynccontextmanager
async def running(data: Path, limits: Limits | None = None) -> AsyncIterator[Client]:
    """A backend on this folder, from start to clean stop."""
    backend = Backend(BackendConfig(data, NAME, SECRET, deno_children=1, limits=limits or Limits()))
    await backend.start("http://127.0.0.1:3210", "http://127.0.0.1:3211")
    try:
        transport = httpx.ASGITransport(app=backend.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://backend", timeout=120) as http:
            yield Client(backend, http)
    finally:
        await backend.stop()


def run(data: Path, test: Any, limits: Limits | None = None) -> None:
    """Run `async test(client)` on a fresh backend in this folder."""

    async def main() -> None:
        async with running(data, limits) as client:
            await test(client)

    asyncio.run(main())
