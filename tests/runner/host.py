"""A bundle of the test app, made by the real esbuild as the official CLI does, and a host without a database."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.runner import (
    CodeBundle,
    FunctionCall,
    FunctionKind,
    FunctionOutcome,
    IsolatePool,
    ModuleSource,
    QueryPage,
    Syscall,
    SyscallFailure,
    SyscallResult,
)
from cvx.values.paths import FunctionPath
from tests.node_env import npm_project

APP = Path(__file__).parent / "app"
NOW_MS = 1_700_000_000_000.0
IMPORT_MS = 1_600_000_000_000.0
SEED = bytes(range(32))
MESSAGE_ID = b"j57000820c20a1g7104gm2rc1m70ynr8"


def build_bundle(folder: Path, app: Path = APP) -> CodeBundle:
    """Bundle tests/runner/app (or another app) into `folder` with the flags of npm:bundler/debugBundle.ts."""
    project = npm_project("runner", {"convex": "1.48.0"})
    shutil.copytree(app, folder / "convex")
    (folder / "node_modules").symlink_to(project / "node_modules")
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}[
        platform.machine().lower()
    ]
    esbuild = project / f"node_modules/@esbuild/{sys.platform}-{machine}/bin/esbuild"
    entries = sorted(f"convex/{path.name}" for path in app.glob("*.ts"))
    flags = (
        "--bundle --format=esm --splitting --platform=browser --target=esnext --outdir=out --outbase=convex "
        "--minify-identifiers --minify-syntax --keep-names --sourcemap --sources-content=false --jsx=automatic "
        "--conditions=convex,module --chunk-names=_deps/[hash] --log-level=error"
    )
    define = '--define:process.env.NODE_ENV="production"'
    subprocess.run([esbuild, *entries, *flags.split(), define], cwd=folder, check=True)
    return read_bundle(folder / "out")


def read_bundle(out: Path) -> CodeBundle:
    modules: dict[str, ModuleSource] = {}
    for file in sorted(out.rglob("*.js")):
        source_map = file.with_name(file.name + ".map")
        text = file.read_bytes()
        path = str(file.relative_to(out))
        map_text = source_map.read_bytes() if source_map.exists() else None
        modules[path] = ModuleSource(path, hashlib.sha256(text).hexdigest(), text, map_text, "isolate")
    key = hashlib.sha256(repr([(p, m.sha256) for p, m in modules.items()]).encode()).hexdigest()
    return CodeBundle(key, modules)


def bundle_of(**sources: str) -> CodeBundle:
    """A bundle from texts; `__` in a name stands for a slash."""
    modules = {}
    for name, text in sources.items():
        path = name.replace("__", "/") + ".js"
        data = text.encode()
        modules[path] = ModuleSource(path, hashlib.sha256(data).hexdigest(), data, None, "isolate")
    return CodeBundle(hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest(), modules)


class Host:
    """Answers from memory and remembers what it was asked. Table "t" has `rows` documents."""

    def __init__(self, rows: int = 1000) -> None:
        self.rows = rows
        self.asked: list[tuple[str, bytes]] = []
        self.pages: list[tuple[int, int]] = []
        self.read: dict[int, tuple[int, bool]] = {}
        self.positions: dict[int, int] = {}
        self.limits: dict[int, int] = {}

    def syscalls(self, batch: list[Syscall]) -> list[SyscallResult] | Awaitable[list[SyscallResult]]:
        return [self.answer(syscall) for syscall in batch]

    def answer(self, syscall: Syscall) -> SyscallResult:
        self.asked.append((syscall.op, syscall.args))
        if syscall.op == "1.0/insert":
            if b'"refused"' in syscall.args:
                return SyscallFailure("this table is refused", b'{"reason":{"$integer":"AQAAAAAAAAA="}}')
            return b'{"_id":"' + MESSAGE_ID + b'"}'
        if syscall.op == "1.0/get":
            return b'{"_creationTime":1.0,"_id":"' + MESSAGE_ID + b'","body":"hi"}'
        return SyscallFailure(f"Unknown async operation {syscall.op}")

    def next_page(self, query_id: int, query_json: bytes | None, want: int) -> QueryPage | SyscallFailure:
        self.pages.append((query_id, want))
        if query_json is not None:
            self.positions[query_id] = 0
            self.limits[query_id] = self.rows
            if b'{"limit":' in query_json:
                limit = int(query_json.rpartition(b'{"limit":')[2].partition(b"}")[0])
                self.limits[query_id] = min(limit, self.rows)
        start = self.positions[query_id]
        end = min(start + want, self.limits[query_id])
        self.positions[query_id] = end
        documents = [b'{"_id":"%b","n":%d.0}' % (MESSAGE_ID, n) for n in range(start, end)]
        return QueryPage(documents, end == self.limits[query_id])

    def consumed(self, query_id: int, count: int, reached_end: bool) -> None:
        assert query_id not in self.read, "told twice"
        self.read[query_id] = (count, reached_end)

    @property
    def ops(self) -> list[str]:
        return [op.removeprefix("1.0/") for op, _ in self.asked]


class Runner:
    """A pool and a bundle, with short ways to call."""

    def __init__(self, pool: IsolatePool, bundle: CodeBundle) -> None:
        self.pool = pool
        self.bundle = bundle

    def call(
        self, path: str, args: bytes = b"{}", kind: FunctionKind = "query", **changes: Any
    ) -> FunctionCall:
        call = FunctionCall(
            bundle=self.bundle,
            path=FunctionPath.parse(path),
            kind=kind,
            args_json=args,
            now_ms=NOW_MS,
            seed=SEED,
            env={"GIVEN": "yes"},
            tables={"messages": 10001, "_storage": 540},
            snapshot_ts=1_700_000_000_000_000_001,
            import_phase_ms=IMPORT_MS,
            import_seed=SEED,
        )
        return replace(call, **changes)

    async def query(self, path: str, args: bytes = b"{}", **changes: Any) -> FunctionOutcome:
        return await self.pool.run(self.call(path, args, **changes), Host)

    async def mutation(
        self, path: str, args: bytes = b"{}", host: Callable[[], Host] = Host, **changes: Any
    ) -> FunctionOutcome:
        return await self.pool.run(self.call(path, args, "mutation", **changes), host)


def pool_of(bundle: CodeBundle, children: int = 1, **limits: Any) -> AbstractAsyncContextManager[Runner]:
    """A started pool; closed at the end, and then no child may be left."""

    @asynccontextmanager
    async def opened() -> Any:
        pool = IsolatePool(replace(Limits(), **limits), children)
        await pool.start()
        try:
            yield Runner(pool, bundle)
        finally:
            await pool.close()

    return opened()


def processes_of(parent: int = os.getpid()) -> list[int]:
    """The Deno children of a process that run functions (Linux); other tests' bundlers may be alive beside them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            arguments = stat.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        fields = rest.split()
        sandboxed = b"--no-prompt" in arguments and b"--allow-all" not in arguments
        if "deno" in name and sandboxed and int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


Body = Callable[[Runner], Coroutine[Any, Any, None]]
