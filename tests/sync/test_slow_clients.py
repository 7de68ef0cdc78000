"""A client that does not read: it holds up nobody, what waits for it is bounded, and it catches up in order."""

from __future__ import annotations

import itertools
import json
import socket
import time
from pathlib import Path

import httpx
import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect
from websockets.uri import parse_uri

from cvx.values import decode_ts
from tests.live_backend import LiveBackend

pytestmark = pytest.mark.deno
SESSION = "d7620305-49e3-4d70-aa5c-ae1f7c955666"
CHANGES = 60


def _hello(key: str) -> list[str]:
    add = {
        "type": "Add",
        "queryId": 0,
        "udfPath": "_system/cli/queryEnvironmentVariables:default",
        "args": [{}],
    }
    return [
        json.dumps({"type": "Connect", "sessionId": SESSION, "connectionCount": 0}),
        json.dumps({"type": "Authenticate", "baseVersion": 0, "tokenType": "Admin", "value": key}),
        json.dumps({"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}),
    ]


class RawSocket:
    """A WebSocket that reads only when it is told to."""

    def __init__(self, live: LiveBackend) -> None:
        self.protocol = ClientProtocol(parse_uri(live.socket_url), max_size=None)
        host, port = live.url.removeprefix("http://").split(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self.socket.settimeout(20)
        self.socket.connect((host, int(port)))
        self.protocol.send_request(self.protocol.connect())
        self.flush()
        while self.protocol.state.name == "CONNECTING":
            self.protocol.receive_data(self.socket.recv(4096))
        self.protocol.events_received()

    def flush(self) -> None:
        for data in self.protocol.data_to_send():
            self.socket.sendall(data)

    def send(self, text: str) -> None:
        self.protocol.send_text(text.encode())
        self.flush()

    def texts(self, until: str) -> list[bytes]:
        """Every message up to the first with `until` in it. (They are unfragmented.)"""
        found: list[bytes] = []
        while not found or until.encode() not in found[-1]:
            self.protocol.receive_data(self.socket.recv(65_536))
            for event in self.protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    found.append(bytes(event.data))
            self.flush()
        return found


def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    with (
        LiveBackend(tmp_path / "data") as live,
        httpx.Client(base_url=live.url, headers=live.headers) as http,
    ):
        padding = [{"name": f"PADDING_{n}", "value": "x" * 8_000} for n in range(30)]
        assert http.post("/api/update_environment_variables", json={"changes": padding}).status_code == 200
        lazy = RawSocket(live)
        for message in _hello(live.admin_key):
            lazy.send(message)
        with connect(live.socket_url, compression=None, max_size=None) as quick:
            for message in _hello(live.admin_key):
                quick.send(message)
            quick.recv(timeout=60)
            for number in range(CHANGES):
                change = {"changes": [{"name": "COUNT", "value": f"number-{number}."}]}
                assert http.post("/api/update_environment_variables", json=change).status_code == 200
                while f"number-{number}." not in quick.recv(timeout=60):
                    pass
        time.sleep(0.2)
        seen = [json.loads(text) for text in lazy.texts(until=f"number-{CHANGES - 1}.")]
        lazy.socket.close()
    transitions = [message for message in seen if message["type"] == "Transition"]
    for before, after in itertools.pairwise(transitions):
        assert after["startVersion"] == before["endVersion"]
        assert decode_ts(after["endVersion"]["ts"]) >= decode_ts(before["endVersion"]["ts"])
    # A quarter of a megabyte each: far fewer than there were changes were made for it.
    assert len(transitions) < CHANGES / 2


@pytest.mark.parametrize("checked", [False, True], ids=["nobody", "while a token is checked"])
def test_more_mutations_at_once_than_may_wait(tmp_path: Path, checked: bool) -> None:
    """As from a client that was offline: it is read as there is room, and all are answered, in order, on one socket."""
    small = {"socket_mutations_pending_max": 3, "socket_messages_waiting_max": 5}
    with LiveBackend(tmp_path / "data", limits=small) as live, connect(live.socket_url) as socket:
        hello = _hello(live.admin_key)
        for message in hello if checked else [hello[0]]:
            socket.send(message)
        for number in range(60):
            socket.send(
                json.dumps({"type": "Mutation", "requestId": number, "udfPath": "no:such", "args": [{}]})
            )
        answered: list[int] = []
        while len(answered) < 60:
            message = json.loads(socket.recv(timeout=60))
            if message["type"] == "MutationResponse":
                answered.append(message["requestId"])
        assert answered == list(range(60))
