"""The backend as a process: ready, stopped by a signal, restarted under its clients."""

from __future__ import annotations

import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cvx.errors import CvxError
from tests.backend_process import BackendProcess
from tests.live_backend import LiveBackend
from tests.processes import still_alive

pytestmark = pytest.mark.deno


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it(tmp_path: Path, number: int) -> None:
    backend = BackendProcess(tmp_path)
    backend.start()
    process = backend.process
    assert process is not None
    children = backend.children()
    assert children
    headers = {"Authorization": f"Convex {backend.admin_key}"}
    url = backend.url.replace("http", "ws", 1) + "/api/1.48.0/sync"
    # An open socket and a long poll must not hold it up.
    with connect(url, compression=None) as client, httpx.Client(timeout=60) as http:
        poll = threading.Thread(
            target=lambda: _ignore(
                lambda: http.get(f"{backend.url}/api/stream_function_logs?cursor=0", headers=headers)
            ),
            daemon=True,
        )
        poll.start()
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(number)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=60)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1012
        process.wait(60)
        took = time.monotonic() - started
        poll.join(60)
    assert process.returncode == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    backend.stop()
    assert took < 15, "it takes a fraction of a second alone, and a long poll half a minute"
    assert still_alive(children) == set()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # What is closed lingers.
        probe.bind(("127.0.0.1", backend.port))


def _ignore(call: object) -> None:
    try:
        call()  # type: ignore[operator]
    except httpx.HTTPError:
        pass


def test_ports_are_free_ones_when_asked_for_none(backend: LiveBackend) -> None:
    assert backend.url != backend.site_url
    assert httpx.get(backend.url + "/instance_name").text == "test-instance"
    body = httpx.get(backend.url + "/api/v1/get_canonical_urls", headers=backend.headers).json()
    assert body == {"convexCloudUrl": backend.url, "convexSiteUrl": backend.site_url}


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    from dataclasses import replace

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        live = LiveBackend(tmp_path)
        live.backend.config = replace(live.config, port=port)
        with pytest.raises(CvxError, match=f"PortInUse: .*{port}"), live:
            pass


def test_timestamps_go_on_after_a_restart(tmp_path: Path) -> None:
    def latest() -> int:
        from cvx.values import decode_ts

        with LiveBackend(tmp_path) as live:
            change = {"changes": [{"name": "A", "value": str(time.monotonic())}]}
            response = httpx.post(
                f"{live.url}/api/update_environment_variables", json=change, headers=live.headers
            )
            assert response.status_code == 200
            return decode_ts(httpx.post(f"{live.url}/api/query_ts").json()["ts"])

    first = latest()
    assert latest() > first
