"""Connections: what is kept open, what is given up, and who is held up by whom. Raw sockets, small limits."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from websockets.sync.client import connect

from tests.live_backend import LiveBackend

pytestmark = pytest.mark.deno

LIMITS = {
    "request_body_bytes_max": 50_000,
    "request_time_s": 2.0,
    "keep_alive_s": 1,
    "socket_ping_s": 0.3,
    "socket_silence_s": 0.8,
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBackend]:
    with LiveBackend(tmp_path_factory.mktemp("data"), limits=LIMITS) as live:
        yield live


class Raw:
    """One TCP connection that says what it is told to, and reads whole responses."""

    def __init__(self, live: LiveBackend) -> None:
        host, port = live.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self._held = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, text: str) -> None:
        self.socket.sendall(text.replace("\n", "\r\n").encode())

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next one."""
        while b"\r\n\r\n" not in self._held:
            self._more()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._held) < length:
            self._more()
        body, self._held = self._held[:length], self._held[length:]
        return int(first.split()[1]), headers, body

    def closed(self) -> bool:
        """Whether the other end closes it, with nothing more to read."""
        try:
            return self._held == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        assert data, "the connection was closed in the middle of a response"
        self._held += data


GET = "GET /version HTTP/1.1\nHost: x\n\n"
CALL = json.dumps({"path": "a:b", "args": {}})


def post(body: str, *, length: int | None = None, more: str = "") -> str:
    size = len(body) if length is None else length
    head = (
        f"POST /api/query HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: {size}\n{more}\n"
    )
    return head + body


def test_a_connection_serves_many_requests_in_order(served: LiveBackend) -> None:
    with Raw(served) as raw:
        for _ in range(3):
            raw.send(GET)
            assert raw.response()[0] == 200
        # Sent without waiting for the answers, they are answered one after the other.
        raw.send(GET + post(CALL) + "GET /api/nothing HTTP/1.1\nHost: x\n\n" + GET)
        answers = [raw.response() for _ in range(4)]
        assert [status for status, _, _ in answers] == [200, 200, 404, 200]
        assert b"Could not find public function" in answers[1][2]


def test_close_when_asked(served: LiveBackend) -> None:
    with Raw(served) as raw:
        raw.send("GET /version HTTP/1.1\nHost: x\nConnection: close\n\n")
        status, headers, _ = raw.response()
        assert (status, headers["connection"]) == (200, "close")
        assert raw.closed()
    with Raw(served) as raw:
        raw.send("GET /version HTTP/1.0\nHost: x\n\n")
        assert raw.response()[0] == 200
        assert raw.closed()


def test_an_idle_connection_is_closed(served: LiveBackend) -> None:
    with Raw(served) as raw:
        raw.send(GET)
        assert raw.response()[0] == 200
        started = time.monotonic()
        assert raw.closed()
        assert 0.8 < time.monotonic() - started < 30


def test_head_answers_without_a_body(served: LiveBackend) -> None:
    with Raw(served) as raw:
        for path in ("/version", "/instance_name", "/", "/api/query?path=a:b"):
            raw.send(f"HEAD {path} HTTP/1.1\nHost: x\n\n")
        # Were there a body, the next answer would not parse.
        for _ in range(4):
            while b"\r\n\r\n" not in raw._held:
                raw._more()
            head, _, raw._held = raw._held.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200") and b"content-length" in head.lower()
        assert raw._held == b""


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_methods_that_are_not_answered(served: LiveBackend, method: str) -> None:
    answer = httpx.request(method, served.url + "/api/query")
    assert (answer.status_code, answer.json()["code"]) == (405, "MethodNotAllowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert httpx.head(served.url + "/api/mutation").status_code == 405


def test_slow_bodies_hold_nobody_up_and_are_given_up(served: LiveBackend) -> None:
    # A machine that stands still for two seconds shows nothing; one of several tries is not such a moment.
    assert any(_others_are_answered_before(served) for _ in range(5)), "nobody else waits"


def _others_are_answered_before(served: LiveBackend) -> bool:
    """Whether a request is answered while slow ones are still waited for, which are then given up."""
    slow = [Raw(served) for _ in range(30)]
    try:
        for raw in slow:
            raw.send(post(CALL[:5], length=len(CALL)))
        with httpx.Client(base_url=served.url, timeout=60) as http:
            for _ in range(20):
                assert http.get("/version").status_code == 200
        before = not select.select([raw.socket for raw in slow], [], [], 0)[0]
        for raw in slow:
            with contextlib.suppress(OSError):  # Given up already.
                raw.send(CALL[5])  # A byte now and then changes nothing.
        for raw in slow:
            status, _, body = raw.response()
            assert (status, json.loads(body)["code"]) == (408, "RequestTimeout")
            assert raw.closed()
        return before
    finally:
        for raw in slow:
            raw.socket.close()


def test_a_handler_that_takes_too_long(served: LiveBackend) -> None:
    """A long poll is the one request that waits for something."""
    with httpx.Client(base_url=served.url, headers=served.headers, timeout=60) as http:
        http.post("/api/query", json={"path": "a:b", "args": {}})
        cursor = http.get("/api/stream_function_logs?cursor=0").json()["newCursor"]
        answer = http.get(f"/api/stream_function_logs?cursor={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (408, "RequestTimeout")
        assert http.get("/version").status_code == 200


def test_bodies_larger_than_allowed(served: LiveBackend) -> None:
    with Raw(served) as raw:
        raw.send(post("x" * 60_000))
        status, _, body = raw.response()
        assert (status, json.loads(body)["code"]) == (413, "RequestTooLarge")
    # One that says how large it will be is refused before it has been sent.
    with Raw(served) as raw:
        raw.send(post("", length=10_000_000_000))
        status, _, body = raw.response()
        assert (status, json.loads(body)["code"]) == (413, "RequestTooLarge")
        assert raw.closed()
    with Raw(served) as raw:
        raw.send(
            "POST /api/query HTTP/1.1\nHost: x\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n"
        )
        for _ in range(10):
            raw.send("2710\n" + "x" * 10_000 + "\n")
        status, _, body = raw.response()
        assert (status, json.loads(body)["code"]) == (413, "RequestTooLarge")
    assert httpx.get(served.url + "/version").status_code == 200


def test_a_silent_socket_is_closed_and_a_living_one_is_not(served: LiveBackend) -> None:
    with connect(served.socket_url, compression=None) as living:
        half_open = connect(served.socket_url, compression=None)
        try:
            # From here on it reads nothing and answers no ping, as if its machine were gone.
            half_open.protocol.receive_data = lambda data: None  # type: ignore[method-assign]
            started = time.monotonic()
            half_open.recv_events_thread.join(60)
            assert not half_open.recv_events_thread.is_alive(), "the backend closes it"
            assert time.monotonic() - started > 0.7
        finally:
            half_open.socket.close()
        living.send(json.dumps({"type": "Event", "eventType": "x", "event": {}}))
        time.sleep(1.0)  # It answers pings meanwhile, longer than a silent one is kept.
        assert living.protocol.state.name == "OPEN"


def test_query_by_url(served: LiveBackend) -> None:
    def get(**parameters: str) -> httpx.Response:
        return httpx.get(served.url + "/api/query", params=parameters, headers=served.headers)

    args = '{"name": "A"}'
    path = "_system/cli/queryEnvironmentVariables:get"
    assert get(path=path, args=args, format="json").json() == {"status": "success", "value": None}
    assert get(path=path, args=f"[{args}]").json()["value"] is None
    assert "Could not find" in get(path="a:b").json()["errorMessage"]
    for code, parameters in {
        "MissingParameter": {"args": "{}"},
        "BadFormat": {"path": path, "args": args, "format": "xml"},
    }.items():
        answer = get(**parameters)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    for wrong in ("{", "[1,2]", "7", ""):
        answer = get(path=path, args=wrong)
        assert answer.status_code == 400 or answer.json()["status"] == "error", wrong
