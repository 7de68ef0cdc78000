"""The site's edge below fetch: raw connections, clients that read slowly or go away, limits, stopping."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cvx.backend.http.site import absolute_url
from tests.apps.driving import HERE, PACKAGES
from tests.backend_process import BackendProcess, pushed_app
from tests.cli.command_line import cvx
from tests.live_backend import LiveBackend
from tests.node_env import npm_project
from tests.waiting import until

pytestmark = [pytest.mark.deno, pytest.mark.node]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBackend]:
    folder = tmp_path_factory.mktemp("site")
    limits = {"action_time_s": 4.0, "http_request_bytes_max": 300_000, "http_response_bytes_max": 300_000}
    with LiveBackend(folder / "data", limits=limits) as live:
        push(live, folder / "app")
        yield live


def push(backend: Any, target: Path) -> None:
    target.mkdir()
    (target / "node_modules").symlink_to(npm_project("apps", PACKAGES) / "node_modules")
    pushed_app(backend, HERE / "http_actions", target, PACKAGES)


def push_again(backend: LiveBackend, folder: Path) -> None:
    command = (
        "dev",
        "--once",
        "--typecheck",
        "disable",
        "--url",
        backend.url,
        "--admin-key",
        backend.admin_key,
    )
    done = cvx(*command, cwd=folder)
    assert done.code == 0, done.err


def connection(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def raw(url: str, request: bytes) -> bytes:
    """All that comes back until the server closes."""
    with connection(url) as stream:
        stream.sendall(request)
        return received(stream)


def received(stream: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := stream.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def finished(live: LiveBackend) -> list[dict[str, Any]]:
    """Ends of HTTP actions in the log, oldest first."""
    calls, _ = live.backend.services.executor.log.calls(0)
    return [call.entry(structured=False) for call in calls if call.kind == "http_action"]


def wait_for_end(live: LiveBackend, count: int) -> dict[str, Any]:
    """The newest end once there are more than `count`."""
    until(lambda: len(finished(live)) > count, "the action's end")
    return finished(live)[-1]


def running(live: LiveBackend) -> int:
    """How many actions run in children."""
    return sum(len(child.running) for child in action_pool(live)._children)


def action_pool(live: LiveBackend) -> Any:
    return live.backend.services.executor._services.actions["isolate"]


def test_requests_on_one_connection(site: LiveBackend) -> None:
    get = b"GET /files/exact HTTP/1.1\r\nHost: h\r\n\r\n"
    post = b"POST /methods HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    put = b"PUT /methods HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    last = b"GET /files/exact HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    answer = raw(site.site_url, get + post + put + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 3 and answer.count(b"HTTP/1.1 404") == 1
    assert b"PUT abcde" in answer and answer.count(b"exact") == 2


def test_an_old_client_gets_its_answer_until_the_connection_ends(site: LiveBackend) -> None:
    answer = raw(site.site_url, b"GET /files/x HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK") and b"files: /files/x" in answer


def test_expect_continue(site: LiveBackend) -> None:
    with connection(site.site_url) as stream:
        stream.sendall(
            b"PUT /methods HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        )
        assert stream.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        stream.sendall(b"hi")
        assert b"PUT hi" in received(stream)


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/files/a%2Fb", "/files/a%2Fb"),
        ("/files/%F0%9F%A6%95", "/files/%F0%9F%A6%95"),
        ("/files/x/../y", "/files/y"),
        ("/files/a?b#c", "/files/a"),
        ("/files/'\"<>", "/files/'%22%3C%3E"),
    ],
)
def test_paths_arrive_as_they_were_sent(site: LiveBackend, target: str, seen: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode("latin-1")
    assert f"files: {seen}\r\n".encode() in raw(site.site_url, request)


def test_paths_that_leave_the_mount_stay_below_it(site: LiveBackend) -> None:
    request = b"GET /http/../api/check_admin_key HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert raw(site.url, request).startswith(b"HTTP/1.1 404")


def test_the_url_without_proxies_is_the_hosts() -> None:
    def scope(**headers: str) -> dict[str, Any]:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return {
            "type": "http",
            "headers": pairs,
            "raw_path": b"/http/a/b",
            "query_string": b"",
            "server": ("10.0.0.1", 81),
        }

    assert absolute_url(scope(host="a.example"), "/http") == "http://a.example/a/b"
    assert absolute_url(scope(host="[::1]:8"), "/http") == "http://[::1]:8/a/b"
    assert absolute_url(scope(), "/http") == "http://10.0.0.1:81/a/b"
    assert absolute_url(scope(host="bad host/"), "/http") == "http://10.0.0.1:81/a/b"
    assert absolute_url(scope(host="a", forwarded="proto=HTTPS;host=b"), "/http") == "https://b/a/b"
    assert absolute_url(scope(host="a", x_forwarded_host="c, d"), "/http") == "http://c/a/b"


def test_a_client_that_goes_away_cancels_what_it_asked_for(site: LiveBackend) -> None:
    for request in (
        b"GET /answers?kind=never HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /events?count=1000 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf",
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf",
    ):
        before = len(finished(site))
        with connection(site.site_url) as stream:
            stream.sendall(request)
            until(lambda: running(site) == 1, "the action's beginning")
        end = wait_for_end(site, before)
        assert "cancelled" in end["error"], "it ended because its client went, not because its time was over"
        assert running(site) == 0


def test_a_client_that_goes_away_while_its_body_is_not_read(site: LiveBackend) -> None:
    before = len(finished(site))
    with connection(site.site_url) as stream:
        stream.sendall(b"POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 250000\r\n\r\n" + bytes(250_000))
        until(lambda: running(site) == 1, "the action's beginning")
    assert wait_for_end(site, before)["identifier"] == "POST /unread"


def test_an_action_that_takes_too_long(site: LiveBackend) -> None:
    answer = httpx.get(f"{site.site_url}/answers?kind=never", timeout=60)
    assert answer.status_code == 500
    assert "timed out" in answer.json()["code"]
    with pytest.raises(httpx.RemoteProtocolError):  # Its head was sent: all that can be done is to cut it.
        httpx.get(f"{site.site_url}/events?count=1000", timeout=60)


def test_bodies_have_limits(site: LiveBackend) -> None:
    url = site.site_url
    assert httpx.post(f"{url}/count", content=bytes(300_000)).json()["bytes"] == 300_000
    declared = httpx.post(f"{url}/count", content=bytes(300_001))
    assert (declared.status_code, declared.json()["code"]) == (413, "RequestTooLarge")

    def parts() -> Iterator[bytes]:
        for _ in range(5):
            yield bytes(100_000)

    streamed = httpx.post(f"{url}/count", content=parts())
    assert (streamed.status_code, streamed.json()["code"]) == (413, "RequestTooLarge")
    assert len(httpx.get(f"{url}/large?size=300000").content) == 300_000
    before = len(finished(site))
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{url}/large?size=300001")
    assert "HttpResponseTooLarge" in wait_for_end(site, before)["error"]


def test_errors_are_redacted_when_the_deployment_redacts(tmp_path: Path) -> None:
    with LiveBackend(tmp_path / "data", redact_logs=True) as live:
        assert httpx.get(live.site_url).text == "This Convex deployment does not have HTTP actions enabled."
        push(live, tmp_path / "app")
        thrown = httpx.get(f"{live.site_url}/answers?kind=throws").json()
        assert set(thrown) == {"code"} and thrown["code"].endswith("] Server Error")
        data = httpx.get(f"{live.site_url}/answers?kind=throws-data").json()
        assert set(data) == {"code", "data"} and data["data"]["code"] == "NOPE"
        end = finished(live)[0]
        assert "it broke" in end["error"] and end["requestId"] in thrown["code"]


def test_a_push_takes_effect_with_the_next_request(tmp_path: Path) -> None:
    with LiveBackend(tmp_path / "data") as live:
        folder = tmp_path / "app"
        push(live, folder)
        source = folder / "convex" / "http.ts"
        assert httpx.get(f"{live.site_url}/files/exact").text == "exact"
        source.write_text(source.read_text().replace('new Response("exact")', 'new Response("other")'))
        push_again(live, folder)
        assert httpx.get(f"{live.site_url}/files/exact").text == "other"
        source.unlink()
        push_again(live, folder)
        assert httpx.get(f"{live.site_url}/files/exact").status_code == 404


def test_large_streams_and_slow_readers_in_constant_memory(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start("--limit", "http_response_bytes_max=1GiB", "--limit", "http_request_bytes_max=1GiB")
    url = f"http://127.0.0.1:{backend.site_port}"
    size = 60_000_000
    try:
        push(backend, tmp_path / "app")
        httpx.get(f"{url}/large?size=5000000")
        before = memory(backend)
        with httpx.stream("GET", f"{url}/large?size={size}") as slow:
            chunks = slow.iter_raw()
            next(chunks)
            time.sleep(0.7)  # It would be through by now if nobody held it back.
            assert memory(backend) - before < 30_000_000
            assert sum(map(len, chunks)) > size - 2_000_000

        def body() -> Iterator[bytes]:
            for _ in range(size // 100_000):
                yield bytes(100_000)

        answer = httpx.post(f"{url}/count", content=body(), timeout=60)
        assert answer.json()["bytes"] == size
        assert memory(backend) - before < 60_000_000  # V8 takes its time to give memory back.
    finally:
        backend.stop()


def memory(backend: BackendProcess) -> int:
    """Resident bytes of the backend and its children."""
    assert backend.process is not None
    total = 0
    for pid in (backend.process.pid, *backend.children()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            total += pages * 4096
    return total


def test_many_at_once(site: LiveBackend) -> None:
    answers: list[int] = []

    def ask() -> None:
        client = http.client.HTTPConnection(site.site_url.removeprefix("http://"), timeout=60)
        for number in range(5):
            client.request("POST", "/notes", json.dumps({"text": f"note {number}"}))
            response = client.getresponse()
            response.read()
            answers.append(response.status)
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [201] * 100


def test_stopping_cuts_what_is_under_way(tmp_path: Path) -> None:
    live = LiveBackend(tmp_path / "data")
    outcome: list[str] = []
    with live:
        push(live, tmp_path / "app")
        waiting = connection(live.site_url)
        waiting.sendall(b"GET /answers?kind=never HTTP/1.1\r\nHost: h\r\n\r\n")
        streaming = connection(live.site_url)
        streaming.sendall(b"GET /events?count=100000 HTTP/1.1\r\nHost: h\r\n\r\n")
        until(lambda: running(live) == 2, "both beginning")
        head = streaming.recv(65_536) + streaming.recv(65_536)
        assert b"data: 1" in head
        began = time.monotonic()
    assert time.monotonic() - began < 30
    outcome = [received(waiting).decode(), (head + received(streaming)).decode()]
    waiting.close()
    streaming.close()
    assert outcome[0] == "" or outcome[0].startswith("HTTP/1.1 503")
    assert "data: 1" in outcome[1] and not outcome[1].endswith("0\r\n\r\n")


def test_more_than_may_run_at_once_is_told_so(tmp_path: Path) -> None:
    limits = {"http_actions_running_max": 1, "actions_waiting_max": 1}
    with LiveBackend(tmp_path / "data", limits=limits) as live:
        push(live, tmp_path / "app")
        with connection(live.site_url) as first, connection(live.site_url) as second:
            first.sendall(b"GET /events?count=100 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert b"data: 1" in first.recv(65_536) + first.recv(65_536)  # A stream that is open is running.
            second.sendall(b"GET /files/exact HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            until(lambda: action_pool(live)._places["http"]._waiting, "the second one's turn in the line")
            refused = httpx.get(f"{live.site_url}/files/exact")
            assert (refused.status_code, refused.json()["code"]) == (503, "TooManyConcurrentRequests")
            assert b"data: 100" in received(first)
            assert b"exact" in received(second)
