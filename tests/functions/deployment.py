"""A whole backend below HTTP in this process: a real database, real Deno children, code bundled by real esbuild.

`bundled_app` is made once per test process; every test installs it into a database of its own. The Deno pool is shared
by the tests of a process, since it keeps no state between calls (which tests/runner proves).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cvx.backend.auth import ANONYMOUS, Identity, UploadTokens
from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.deploy import PushService
from cvx.backend.files import open_folder_store
from cvx.backend.functions import ActionResult, FileStorage, FunctionExecutor, MutationResult, QueryEntry
from cvx.backend.model import SYSTEM_TABLES, DeploymentInfo
from cvx.backend.runner import ActionPool, IsolatePool, NodePool
from cvx.protocol.push import (
    AppDefinition,
    FinishPushRequest,
    PushedModule,
    SchemaComplete,
    SchemaInProgress,
    StartPushRequest,
)
from tests.node_env import npm_project

APP = Path(__file__).parent / "app" / "convex"
INFO = DeploymentInfo("test-otter-1", "http://127.0.0.1:3210", "http://127.0.0.1:3211")
PACKAGES = {"convex": "1.48.0"}


class WallClock:
    def now_ns(self) -> int:
        import time

        return time.time_ns()


@dataclass(frozen=True)
class App:
    """Bundled modules by path, and the schema module."""

    modules: tuple[PushedModule, ...]
    schema: PushedModule | None

    def with_module(self, path: str, source: str) -> App:
        """The same app with one module replaced or added, given as finished JavaScript."""
        others = tuple(module for module in self.modules if module.path != path)
        return replace(self, modules=(*others, PushedModule(path=path, source=source, environment="isolate")))

    def without(self, path: str) -> App:
        return replace(self, modules=tuple(module for module in self.modules if module.path != path))


def bundle(convex_dir: Path, out: Path) -> App:
    """The modules of a folder, as the official CLI would bundle them."""
    packages = npm_project("functions", PACKAGES) / "node_modules"
    esbuild = packages / "esbuild" / "bin" / "esbuild"
    link = convex_dir.parent / "node_modules"
    if not link.exists():
        link.symlink_to(packages, target_is_directory=True)
    entries = sorted(path for path in convex_dir.rglob("*.ts") if path.name != "schema.ts")
    common = [
        "--bundle",
        "--format=esm",
        "--target=esnext",
        "--platform=browser",
        "--conditions=convex,module",
        "--minify-identifiers",
        "--keep-names",
        "--sourcemap",
        "--sources-content=false",
        '--define:process.env.NODE_ENV="production"',
        "--log-level=error",
    ]
    split = [
        "--splitting",
        "--chunk-names=_deps/[hash]",
        f"--outdir={out / 'modules'}",
        f"--outbase={convex_dir}",
    ]
    subprocess.run([esbuild, *map(str, entries), *common, *split], check=True)
    schema = None
    if (convex_dir / "schema.ts").exists():
        subprocess.run(
            [esbuild, str(convex_dir / "schema.ts"), *common, f"--outdir={out / 'schema'}"], check=True
        )
        schema = _module(out / "schema" / "schema.js", "schema.js")
    modules = [
        _module(path, str(path.relative_to(out / "modules")))
        for path in sorted((out / "modules").rglob("*.js"))
    ]
    return App(tuple(modules), schema)


def _module(file: Path, path: str) -> PushedModule:
    source_map = file.with_name(file.name + ".map")
    return PushedModule(
        path=path,
        source=file.read_text(),
        source_map=source_map.read_text() if source_map.exists() else None,
        environment="isolate",
    )


class Deployment:
    """The parts under test and short ways to call them."""

    def __init__(
        self,
        db: Database,
        runner: IsolatePool,
        executor: FunctionExecutor,
        pushes: PushService,
        actions: ActionPool,
    ) -> None:
        self.db = db
        self.actions = actions
        self.runner = runner
        self.executor = executor
        self.pushes = pushes

    async def push(self, app: App) -> None:
        definition = AppDefinition(
            udf_server_version="1.48.0", schema=app.schema, changed_modules=list(app.modules)
        )
        request = StartPushRequest(admin_key="", functions="convex/", app_definition=definition)
        started = await self.pushes.start_push(request)
        while True:
            status = await self.pushes.wait_for_schema(started.schema_change, timeout_ms=10_000)
            if not isinstance(status, SchemaInProgress):
                break
        assert isinstance(status, SchemaComplete), status
        await self.pushes.finish_push(FinishPushRequest(admin_key="", start_push=started, dry_run=False))

    async def query(self, path: str, args: Any = None, **options: Any) -> Any:
        """A query's value as parsed JSON; raises CallFailed with its text."""
        return value_of(await self.entry(path, args, **options))

    async def entry(
        self, path: str, args: Any = None, *, identity: Identity = ANONYMOUS, **options: Any
    ) -> QueryEntry:
        raw = json.dumps({} if args is None else args).encode()
        return await self.executor.query(path, raw, identity, caller="Tester", **options)

    async def mutation(self, path: str, args: Any = None, **options: Any) -> Any:
        return value_of(await self.mutate(path, args, **options))

    async def mutate(
        self, path: str, args: Any = None, *, identity: Identity = ANONYMOUS, **options: Any
    ) -> MutationResult:
        raw = json.dumps({} if args is None else args).encode()
        return await self.executor.mutation(path, raw, identity, caller="Tester", **options)

    async def query_error(self, path: str, args: Any = None, **options: Any) -> str:
        """The unredacted text a client would get, without its first line."""
        return error_text(await self.entry(path, args, **options))

    async def action(self, path: str, args: Any = None, **options: Any) -> Any:
        return value_of(await self.act(path, args, **options))

    async def act(
        self, path: str, args: Any = None, *, identity: Identity = ANONYMOUS, **options: Any
    ) -> ActionResult:
        raw = json.dumps({} if args is None else args).encode()
        return await self.executor.action(path, raw, identity, caller="Tester", **options)

    async def action_error(self, path: str, args: Any = None, **options: Any) -> str:
        return error_text(await self.act(path, args, **options))

    async def mutation_error(self, path: str, args: Any = None, **options: Any) -> str:
        return error_text(await self.mutate(path, args, **options))


class CallFailed(AssertionError):
    """A call that should have succeeded."""


def value_of(result: Any) -> Any:
    if result.error is not None:
        raise CallFailed(result.error.message)
    assert result.value_json is not None
    return json.loads(result.value_json)


def error_text(result: Any) -> str:
    assert result.error is not None, result.value_json
    assert result.value_json is None
    first, _, rest = result.error.client_text("0123456789abcdef").partition("\n")
    assert first == "[Request ID: 0123456789abcdef] Server Error"
    return str(rest)


@asynccontextmanager
async def deployment(
    folder: Path, app: App | None, *, limits: Limits | None = None, redacted: bool = False, children: int = 1
) -> AsyncIterator[Deployment]:
    limits = limits or Limits()
    db = await Database.open(folder / "data", clock=WallClock(), limits=limits, system_tables=SYSTEM_TABLES)
    runner = IsolatePool(limits, children)
    await runner.start()
    store = open_folder_store(folder / "data" / "files", limits)
    files = FileStorage(db, store, UploadTokens(INFO.instance_name, "00" * 32, limits.upload_url_s), limits)
    files.start()
    actions = ActionPool(limits)
    await actions.start()
    node = NodePool(limits, folder / "data" / "node")
    await node.start()
    executor = FunctionExecutor(
        db, runner, INFO, limits, files=files, actions={"isolate": actions, "node": node}, redacted=redacted
    )
    try:
        made = Deployment(
            db, runner, executor, PushService(db, runner, node, INFO, limits, executor.deployed), actions
        )
        if app is not None:
            await made.push(app)
        yield made
    finally:
        executor.close()
        await actions.close()
        await node.close()
        await runner.close()
        await files.close()
        await db.close()
