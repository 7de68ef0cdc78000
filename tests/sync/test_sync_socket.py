"""The WebSocket of a real backend, frame by frame, with system functions (so without an app)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cvx.values import decode_ts
from tests.live_backend import LiveBackend

pytestmark = pytest.mark.deno
SESSION = "d7620305-49e3-4d70-aa5c-ae1f7c955666"
VARIABLES = "_system/cli/queryEnvironmentVariables:default"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBackend]:
    with LiveBackend(tmp_path_factory.mktemp("data")) as live:
        yield live


class Socket:
    """A client that sends and expects exactly what the test says."""

    def __init__(self, served: LiveBackend, path: str = "/api/1.48.0/sync", **headers: str) -> None:
        url = served.url.replace("http", "ws", 1) + path
        self._context = connect(url, additional_headers=headers, compression=None, max_size=None)
        self.served = served

    def __enter__(self) -> Socket:
        self.connection = self._context.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, type: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": type, **fields}))

    def send_together(self, *messages: dict[str, Any]) -> None:
        """Several messages that arrive in the same instant."""
        for message in messages:
            self.connection.protocol.send_text(json.dumps(message).encode())
        self.connection.socket.sendall(b"".join(self.connection.protocol.data_to_send()))

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=60))
        return message

    def nothing(self, seconds: float = 0.3) -> None:
        with pytest.raises(TimeoutError):
            self.connection.recv(timeout=seconds)

    def closed(self) -> tuple[int, str]:
        """The close frame (1005: without a code)."""
        with pytest.raises(ConnectionClosed) as caught:
            self.connection.recv(timeout=60)
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, caught.value.rcvd.reason

    def hello(self, **fields: Any) -> None:
        self.send("Connect", sessionId=SESSION, connectionCount=0, lastCloseReason="InitialConnect", **fields)

    def as_admin(self) -> None:
        self.send("Authenticate", baseVersion=0, tokenType="Admin", value=self.served.admin_key)


def add(query_id: int, path: str = VARIABLES, args: Any = None) -> dict[str, Any]:
    return {"type": "Add", "queryId": query_id, "udfPath": path, "args": [args or {}]}


def modify(base: int, *modifications: dict[str, Any]) -> dict[str, Any]:
    return {"baseVersion": base, "newVersion": base + 1, "modifications": list(modifications)}


def test_one_transition_for_what_arrives_together(served: LiveBackend) -> None:
    with Socket(served) as socket:
        socket.hello(clientTs=0)
        socket.nothing()
        socket.send_together(
            {"type": "Authenticate", "baseVersion": 0, "tokenType": "Admin", "value": served.admin_key},
            {"type": "ModifyQuerySet", **modify(0, add(0), add(1, "nothing:here"))},
        )
        transition = socket.receive()
        assert transition["startVersion"] == {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}
        assert transition["endVersion"]["querySet"] == 1 and transition["endVersion"]["identity"] == 1
        assert type(transition["clientClockSkew"]) is int and type(transition["serverTs"]) is int
        good, bad = transition["modifications"]
        assert (good["type"], good["value"], good["logLines"], good["journal"]) == (
            "QueryUpdated",
            [],
            [],
            None,
        )
        assert bad["type"] == "QueryFailed" and "Could not find" in bad["errorMessage"]
        assert bad["logLines"] == [] and "errorData" not in bad
        socket.nothing()


def test_a_commit_reaches_its_subscribers(served: LiveBackend) -> None:
    import httpx

    with Socket(served) as socket:
        socket.hello()
        socket.as_admin()
        assert socket.receive()["endVersion"]["identity"] == 1
        socket.send("ModifyQuerySet", **modify(0, add(0)))
        first = socket.receive()
        change = {"changes": [{"name": "GREETING", "value": "hello"}]}
        url = f"{served.url}/api/update_environment_variables"
        assert httpx.post(url, json=change, headers=served.headers).status_code == 200
        second = socket.receive()
        assert second["startVersion"] == first["endVersion"]
        assert decode_ts(second["endVersion"]["ts"]) > decode_ts(first["endVersion"]["ts"])
        assert [row["name"] for row in second["modifications"][0]["value"]] == ["GREETING"]
        change["changes"][0]["value"] = None  # type: ignore[assignment]
        assert httpx.post(url, json=change, headers=served.headers).status_code == 200
        assert socket.receive()["modifications"][0]["value"] == []
        socket.send("ModifyQuerySet", **modify(1, {"type": "Remove", "queryId": 0}))
        assert socket.receive()["modifications"] == [{"type": "QueryRemoved", "queryId": 0}]


def test_a_failed_mutation_is_answered_and_owed_a_transition(served: LiveBackend) -> None:
    with Socket(served) as socket:
        socket.hello()
        socket.send("ModifyQuerySet", **modify(0))
        before = socket.receive()
        socket.send("Mutation", requestId=0, udfPath="messages:send", args=[{}])
        answer = socket.receive()
        assert answer["type"] == "MutationResponse" and answer["success"] is False and answer["ts"] is None
        assert answer["result"].startswith("[Request ID: e953d57ec0fa2b5d] Server Error")
        assert answer["logLines"] == [] and "errorData" not in answer
        after = socket.receive()
        assert after["startVersion"] == before["endVersion"] and after["modifications"] == []
        socket.send("Action", requestId=1, udfPath="messages:act", args=[{}])
        assert {socket.receive()["type"], socket.receive()["type"]} == {"ActionResponse", "Transition"}
        # A path that is none is that call's failure, not the connection's.
        socket.send("Mutation", requestId=2, udfPath="not a path", args=[{}])
        assert "not a path" in socket.receive()["result"]
        assert socket.receive()["type"] == "Transition"


def test_wrong_arguments_are_a_failed_query(served: LiveBackend) -> None:
    with Socket(served) as socket:
        socket.hello()
        bad_args = [[1], ["x"], [], [{}, {}], [{"$odd": 1}], {"no": "array"}]
        adds = [
            {"type": "Add", "queryId": n, "udfPath": "m:f", "args": args} for n, args in enumerate(bad_args)
        ]
        socket.send("ModifyQuerySet", **modify(0, *adds, add(99, "not a path")))
        changes = socket.receive()["modifications"]
        assert [change["type"] for change in changes] == ["QueryFailed"] * 7
        assert all(change["errorMessage"] for change in changes)


@pytest.mark.parametrize(
    ("frame", "close"),
    [
        ("{", (1005, "")),
        ("[]", (1005, "")),
        ('{"type":"Nothing"}', (1005, "")),
        ('{"type":"ModifyQuerySet","baseVersion":1,"newVersion":2,"modifications":[]}', (1005, "")),
        ('{"type":"ModifyQuerySet","baseVersion":0,"newVersion":-1,"modifications":[]}', (1005, "")),
        (
            '{"type":"Mutation","requestId":0,"udfPath":"a:b","args":[{}],"componentPath":"c"}',
            (1000, "ComponentPathRequiresAdmin"),
        ),
    ],
)
def test_faults_of_the_client_are_fatal(served: LiveBackend, frame: str, close: tuple[int, str]) -> None:
    with Socket(served) as socket:
        socket.connection.send(frame)
        message = socket.receive()
        assert message["type"] == "FatalError" and message["error"]
        assert socket.closed() == close


def test_binary_frames_are_refused(served: LiveBackend) -> None:
    with Socket(served) as socket:
        socket.connection.send(b"{}")
        assert socket.receive()["type"] == "FatalError"
        assert socket.closed()[0] == 1005


@pytest.mark.parametrize(
    "modifications",
    [[add(0), add(0)], [{"type": "Remove", "queryId": 3}]],
    ids=["added twice", "removed unknown"],
)
def test_impossible_query_sets_close_with_an_internal_error(served: LiveBackend, modifications: Any) -> None:
    with Socket(served) as socket:
        socket.hello()
        socket.send("ModifyQuerySet", **modify(0, *modifications))
        assert socket.closed() == (1011, "InternalServerError")


def test_refused_tokens(served: LiveBackend) -> None:
    for token_type, value in (("Admin", "test-instance|00"), ("User", "a.b.c"), ("User", "")):
        with Socket(served) as socket:
            socket.hello()
            socket.send("Authenticate", baseVersion=0, tokenType=token_type, value=value)
            socket.send("ModifyQuerySet", **modify(0))
            message = socket.receive()
            assert (message["type"], message["baseVersion"]) == ("AuthError", 0)
            assert message["authUpdateAttempted"] is True and message["error"]
            assert socket.closed()[0] == 1005


def test_client_that_saw_the_future(served: LiveBackend) -> None:
    with Socket(served) as socket:
        socket.hello(maxObservedTimestamp="/////////38=")
        socket.send("ModifyQuerySet", **modify(0))
        assert socket.closed() == (1011, "InternalServerError")


@pytest.mark.parametrize("path", ["/api/1.0/sync", "/api/latest/sync", "/api/0.19.1/sync"])
def test_versions_that_are_not_served(served: LiveBackend, path: str) -> None:
    with pytest.raises(InvalidStatus) as caught, Socket(served, path):
        pass
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body or b"")["code"] in (
        "InvalidClientVersion",
        "ClientVersionUnsupported",
    )


def test_other_sockets_are_not_found(served: LiveBackend) -> None:
    with pytest.raises(InvalidStatus) as caught, Socket(served, "/api/elsewhere"):
        pass
    assert caught.value.response.status_code == 404


def test_python_clients_name_themselves(served: LiveBackend) -> None:
    with Socket(served, "/api/sync", **{"Convex-Client": "python-0.8.1"}) as socket:
        socket.hello(clientTs=0)
        socket.send("ModifyQuerySet", **modify(0))
        assert socket.receive()["type"] == "Transition"


def test_a_close_is_answered_at_once(served: LiveBackend) -> None:
    with Socket(served) as socket:
        socket.hello()
        socket.connection.close(1000)
        assert socket.connection.protocol.close_rcvd is not None


def test_nothing_is_kept_of_clients_that_left(served: LiveBackend) -> None:
    import gc

    from cvx.backend.sync import SyncDriver

    def drivers() -> int:
        gc.collect()
        return sum(isinstance(thing, SyncDriver) for thing in gc.get_objects())

    async def count() -> int:
        return drivers()

    for _ in range(20):
        with Socket(served) as socket:
            socket.hello()
            socket.as_admin()
            socket.send("ModifyQuerySet", **modify(0, add(0)))
            socket.receive()
    deadline = time.monotonic() + 60
    while served.run(count) > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert served.run(count) == 0
