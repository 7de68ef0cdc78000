"""A host of actions without a database, a started pool of action children, and a small web server to fetch from."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.runner import (
    ActionCall,
    ActionOutcome,
    ActionPool,
    CodeBundle,
    HttpRequestHead,
    HttpResponseHead,
    LogLine,
    Syscall,
    SyscallFailure,
    SyscallResult,
)
from cvx.values.paths import FunctionPath
from tests.runner.host import IMPORT_MS, SEED

ACTION_APP = Path(__file__).parent / "action_app"


@dataclass
class Blob:
    data: bytes
    content_type: str | None

    @property
    def size(self) -> int:
        return len(self.data)

    async def chunks(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.data), 100_000):
            yield self.data[at : at + 100_000]


@dataclass
class ActingHost:
    """Remembers what it was asked. A query answers its own arguments; `delay_s` is how long each takes."""

    body: bytes = b""
    part_bytes: int = 50_000
    delay_s: float = 0.0
    read_delay_s: float = 0.0
    asked: list[Syscall] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    blobs: dict[str, Blob] = field(default_factory=dict)
    head: HttpResponseHead | None = None
    parts: list[bytes] = field(default_factory=list)
    taken_bytes: int = 0
    most_under_way: int = 0
    under_way: int = 0
    hang_up_after: int | None = None

    async def syscall(self, syscall: Syscall) -> SyscallResult:
        self.asked.append(syscall)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.under_way -= 1
        if syscall.op == "1.0/actions/query":
            return json.dumps(json.loads(syscall.args)["args"]).encode()
        return SyscallFailure(f"Unknown async operation {syscall.op}")

    def log(self, line: LogLine) -> None:
        self.lines.append(line)

    @property
    def texts(self) -> list[str]:
        return [" ".join(line.messages) for line in self.lines]

    async def store_blob(
        self, chunks: AsyncIterator[bytes], content_type: str | None, sha256: str | None
    ) -> str | SyscallFailure:
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            await asyncio.sleep(self.read_delay_s)
        id = f"blob{len(self.blobs)}"
        self.blobs[id] = Blob(bytes(data), content_type)
        return id

    async def get_blob(self, storage_id: str) -> Blob | SyscallFailure | None:
        return self.blobs.get(storage_id)

    async def request_body(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.body), self.part_bytes):
            part = self.body[at : at + self.part_bytes]
            self.taken_bytes += len(part)
            yield part

    async def respond(self, head: HttpResponseHead) -> None:
        assert self.head is None and not self.parts
        self.head = head

    async def respond_chunk(self, chunk: bytes) -> None:
        assert self.head is not None
        if self.hang_up_after is not None and len(self.parts) >= self.hang_up_after:
            raise ConnectionResetError("nobody reads any more")
        self.parts.append(chunk)
        await asyncio.sleep(self.read_delay_s)

    @property
    def response(self) -> bytes:
        return b"".join(self.parts)


class Acting:
    """A pool and a bundle, with short ways to call."""

    def __init__(self, pool: ActionPool, bundle: CodeBundle) -> None:
        self.pool = pool
        self.bundle = bundle

    def call(self, path: str, args: Any = None, **changes: Any) -> ActionCall:
        call = ActionCall(
            bundle=self.bundle,
            path=FunctionPath.parse(path),
            args_json=json.dumps({} if args is None else args).encode(),
            env={"GIVEN": "yes"},
            request_id="req",
            deadline_s=20.0,
            import_phase_ms=IMPORT_MS,
            import_seed=SEED,
        )
        return replace(call, **changes)

    async def outcome(
        self, path: str, args: Any = None, host: ActingHost | None = None, **changes: Any
    ) -> ActionOutcome:
        return await self.pool.run_action(self.call(path, args, **changes), host or ActingHost())

    async def value(self, path: str, args: Any = None, host: ActingHost | None = None, **changes: Any) -> Any:
        outcome = await self.outcome(path, args, host, **changes)
        assert outcome.error is None, outcome.error
        return json.loads(outcome.value_json or b"")

    async def failure(
        self, path: str, args: Any = None, host: ActingHost | None = None, **changes: Any
    ) -> str:
        outcome = await self.outcome(path, args, host, **changes)
        assert outcome.error is not None, outcome.value_json
        return outcome.error.message

    async def request(
        self,
        method: str,
        path: str,
        host: ActingHost,
        headers: tuple[tuple[str, str], ...] = (),
        **changes: Any,
    ) -> ActionOutcome:
        head = HttpRequestHead(method, f"http://site.example{path}", headers, bool(host.body))
        call = self.call("http:default", args=None, request=head, **changes)
        return await self.pool.run_action(replace(call, args_json=b""), host)


@asynccontextmanager
async def acting(bundle: CodeBundle, **limits: Any) -> AsyncIterator[Acting]:
    """A started pool; closed at the end."""
    pool = ActionPool(replace(Limits(), **limits))
    await pool.start()
    try:
        yield Acting(pool, bundle)
    finally:
        await pool.close()


@contextmanager
def web_server() -> Iterator[str]:
    """The URL of a server with /echo, /parts, /moved; every other path answers after two seconds."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/parts":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for part in (b"one ", b"two ", b"three"):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                self.wfile.flush()
                time.sleep(0.02)
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("location", "/echo")
            self.send_header("content-length", "0")
            self.end_headers()
        elif self.path == "/echo":
            self._answer(b"get")
        else:
            time.sleep(2)
            self._answer(b"late")

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        self._answer(data, self.headers.get("x-mine", ""))

    def _answer(self, data: bytes, back: str = "") -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-back", back)
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        return
