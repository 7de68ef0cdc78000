"""Bad input over raw sockets and HTTP: the documented answer, and nobody else notices.

Every test ends with a witness: a subscription that was open all along must still get the next change.
Facts: reference/values-and-sync.md §4.3–§4.8, §5, §6, §8.3.
"""

from __future__ import annotations

import base64
import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.apps.driving import HERE, running
from tests.backend_process import BackendProcess

pytestmark = [pytest.mark.deno]

ZERO = {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}


class Conversation:
    """One raw connection that speaks the protocol as far as it is told to."""

    def __init__(
        self, backend: BackendProcess, *, path: str = "/api/1.48.0/sync", greet: bool = True
    ) -> None:
        address = f"ws://127.0.0.1:{backend.port}{path}"
        self.socket: ClientConnection = connect(address, max_size=None, compression=None).__enter__()
        self.version = ZERO
        if greet:
            self.send(
                type="Connect",
                sessionId=str(uuid.uuid4()),
                connectionCount=0,
                lastCloseReason="InitialConnect",
                clientTs=0,
            )

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def modify(self, *modifications: dict[str, Any], base: int = 0, new: int = 1) -> None:
        self.send(type="ModifyQuerySet", baseVersion=base, newVersion=new, modifications=list(modifications))

    def receive(self, kind: str, deadline_s: float = 60) -> dict[str, Any]:
        """The next message of a kind; Transitions must chain."""
        while True:
            message: dict[str, Any] = json.loads(self.socket.recv(deadline_s))
            if message["type"] == "Transition":
                assert message["startVersion"] == self.version
                self.version = message["endVersion"]
            if message["type"] == kind:
                return message
            assert message["type"] in ("Transition", "Ping", "MutationResponse"), message

    def ended(self, deadline_s: float = 60) -> tuple[list[dict[str, Any]], int | None, str]:
        """Messages until the server closed, and its code (None without one) and reason."""
        said: list[dict[str, Any]] = []
        try:
            while True:
                message = json.loads(self.socket.recv(deadline_s))
                if message["type"] not in ("Transition", "Ping"):
                    said.append(message)
        except ConnectionClosed as closed:
            code = None if closed.rcvd is None or closed.rcvd.code == 1005 else closed.rcvd.code
            return said, code, "" if closed.rcvd is None else closed.rcvd.reason

    def close(self) -> None:
        self.socket.close()


def add(query: int, path: str, args: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Add", "queryId": query, "udfPath": path, "args": args, **more}


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendProcess]:
    with running(HERE / "everything", tmp_path_factory.mktemp("bad")) as (backend, _):
        yield backend


@pytest.fixture(scope="module")
def http(backend: BackendProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=backend.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def watching(backend: BackendProcess) -> Iterator[Conversation]:
    conversation = Conversation(backend)
    conversation.modify(add(0, "writing:count", [{"group": "witness"}]))
    conversation.receive("Transition")
    yield conversation
    conversation.close()


@pytest.fixture(autouse=True)
def witness(backend: BackendProcess, watching: Conversation) -> Iterator[None]:
    children = backend.children()
    yield
    backend.call("mutation", "writing:insert", {"text": "still here", "group": "witness"})
    while not watching.receive("Transition")["modifications"]:
        pass
    assert backend.children() == children, "a Deno child was lost to bad input"


FATAL = {
    "not JSON": "{",
    "empty": "",
    "not an object": "[]",
    "a number": "5",
    "no type": "{}",
    "unknown type": '{"type":"Surprise"}',
    "type of another kind": '{"type":7}',
    "field missing": '{"type":"Mutation","requestId":0}',
    "field of another kind": '{"type":"Mutation","requestId":"0","udfPath":"a:b","args":[{}]}',
    "negative id": '{"type":"Mutation","requestId":-1,"udfPath":"writing:insert","args":[{}]}',
    "fractional id": '{"type":"Mutation","requestId":1.5,"udfPath":"writing:insert","args":[{}]}',
    "id beyond 32 bits": '{"type":"Mutation","requestId":4294967296,"udfPath":"writing:insert","args":[{}]}',
    "wrong base version": '{"type":"ModifyQuerySet","baseVersion":3,"newVersion":4,"modifications":[]}',
    "bottomless": '{"type":"Mutation","requestId":0,"udfPath":"a:b","args":' + "[" * 100_000,
    "deep": '{"type":"Event","eventType":"x","event":' + "[" * 100_000 + "]" * 100_000 + "}",
    "invalid session": '{"type":"Connect","sessionId":"me","connectionCount":0,"lastCloseReason":null}',
    "unknown modification": '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[{"type":"Swap"}]}',
    "bad timestamp": json.dumps(
        {
            "type": "Connect",
            "sessionId": str(uuid.uuid4()),
            "connectionCount": 0,
            "lastCloseReason": None,
            "maxObservedTimestamp": "AAA",
        }
    ),
}


@pytest.mark.parametrize("name", FATAL)
def test_messages_that_make_no_sense_end_the_connection(backend: BackendProcess, name: str) -> None:
    conversation = Conversation(backend, greet=not FATAL[name].startswith('{"type": "Connect"'))
    conversation.socket.send(FATAL[name])
    said, code, _ = conversation.ended()
    assert [message["type"] for message in said] == ["FatalError"]
    assert said[0]["error"]
    assert "Traceback" not in said[0]["error"]
    assert code is None


def test_invalid_utf8_and_binary_frames(backend: BackendProcess) -> None:
    binary = Conversation(backend)
    binary.socket.send(b"\x00\x01")
    assert [message["type"] for message in binary.ended()[0]] == ["FatalError"]
    bad_text = Conversation(backend)
    bad_text.socket.send(b"\xff\xfe", text=True)
    assert bad_text.ended()[1] == 1007


INTERNAL = {
    "one id twice": [add(0, "writing:count", [{"group": "x"}]), add(0, "writing:count", [{"group": "y"}])],
    "removing what is not there": [{"type": "Remove", "queryId": 5}],
}


@pytest.mark.parametrize("name", INTERNAL)
def test_impossible_query_sets(backend: BackendProcess, name: str) -> None:
    conversation = Conversation(backend)
    conversation.modify(*INTERNAL[name])
    said, code, reason = conversation.ended()
    assert (said, code) == ([], 1011)
    assert reason.startswith("InternalServerError")


def test_an_id_that_is_in_use(backend: BackendProcess) -> None:
    conversation = Conversation(backend)
    conversation.modify(add(0, "writing:count", [{"group": "x"}]))
    conversation.receive("Transition")
    conversation.modify(add(0, "writing:count", [{"group": "y"}]), base=1, new=2)
    assert conversation.ended()[1] == 1011


def test_a_version_that_does_not_grow(backend: BackendProcess) -> None:
    conversation = Conversation(backend)
    conversation.modify(new=0)
    assert conversation.ended()[1] == 1011


def test_a_client_that_has_seen_the_future(backend: BackendProcess) -> None:
    conversation = Conversation(backend, greet=False)
    future = base64.b64encode((2**62).to_bytes(8, "little")).decode()
    conversation.send(
        type="Connect",
        sessionId=str(uuid.uuid4()),
        connectionCount=1,
        lastCloseReason=None,
        maxObservedTimestamp=future,
    )
    conversation.modify()
    assert conversation.ended()[1] == 1011


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/one/sync", "InvalidClientVersion"),
        ("/api/1.2/sync", "InvalidClientVersion"),
        ("/api/0.19.0/sync", "ClientVersionUnsupported"),
    ],
)
def test_wrong_versions_are_refused_before_the_handshake(
    backend: BackendProcess, path: str, code: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        Conversation(backend, path=path)
    assert refused.value.response.status_code == 400
    assert json.loads(refused.value.response.body or b"{}")["code"] == code


@pytest.mark.parametrize("value", ["wrong", "wrong|0123456789abcdef", ""])
def test_wrong_admin_keys_on_the_socket(backend: BackendProcess, value: str) -> None:
    conversation = Conversation(backend)
    conversation.send(type="Authenticate", baseVersion=0, tokenType="Admin", value=value)
    said, code, _ = conversation.ended()
    assert [message["type"] for message in said] == ["AuthError"]
    assert said[0]["baseVersion"] == 0
    assert said[0]["authUpdateAttempted"] is True
    assert code is None


def test_a_component_needs_an_admin(backend: BackendProcess) -> None:
    conversation = Conversation(backend)
    conversation.modify(add(0, "writing:count", [{"group": "x"}], componentPath="aggregate"))
    said, code, _ = conversation.ended()
    assert said or code is not None


QUERIES: dict[str, tuple[str, Any, str]] = {
    "unknown function": ("writing:nothing", [{}], "Could not find public function for 'writing:nothing'"),
    "unknown module": ("nowhere:nothing", [{}], "Could not find public function for 'nowhere:nothing'"),
    "internal function": (
        "nesting:secret",
        [{"n": 1}],
        "Could not find public function for 'nesting:secret'",
    ),
    "a mutation": ("writing:insert", [{"text": "x"}], "as Query, but it is defined as Mutation"),
    "two arguments": ("writing:count", [{"group": "x"}, {}], "single object"),
    "an argument that is no object": ("writing:count", ["x"], ""),
    "no argument": ("writing:count", [], ""),
    "argument missing": ("writing:count", [{}], "ArgumentValidationError"),
    "argument too many": ("writing:count", [{"group": "x", "more": 1}], "ArgumentValidationError"),
    "argument of another type": ("writing:count", [{"group": 1}], "ArgumentValidationError"),
    "bad integer": ("kinds:echo", [{"value": {"$integer": "AAA"}}], "Invalid arguments"),
    "bad float": ("kinds:echo", [{"value": {"$float": "AAAAAAAA8D8="}}], "Invalid arguments"),
    "unknown dollar": ("kinds:echo", [{"value": {"$set": []}}], "Invalid arguments"),
    "dollar among others": ("kinds:echo", [{"value": {"$bytes": "", "a": 1}}], "Invalid arguments"),
    "undefined": ("kinds:echo", [{"value": {"$undefined": None}}], "Invalid arguments"),
    "commit timestamp": ("kinds:echo", [{"value": {"$commitTs": None}}], "Invalid arguments"),
    "bad field name": ("kinds:echo", [{"value": {"schlüssel": 1}}], "Invalid arguments"),
    "too deep": ("kinds:echo", [{"value": json.loads("[" * 100 + "]" * 100)}], "nest"),
    "cursor made up": (
        "reading:page",
        [{"group": "x", "paginationOpts": {"numItems": 1, "cursor": "AAAA"}}],
        "ursor",
    ),
    "page of nothing": (
        "reading:page",
        [{"group": "x", "paginationOpts": {"numItems": 0, "cursor": None}}],
        "",
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_queries_that_fail_fail_alone(backend: BackendProcess, name: str) -> None:
    path, args, fragment = QUERIES[name]
    conversation = Conversation(backend)
    conversation.modify(add(0, path, args), add(1, "kinds:echo", [{"value": "fine"}]))
    failed, fine = conversation.receive("Transition")["modifications"]
    assert (failed["type"], failed["queryId"]) == ("QueryFailed", 0)
    assert fragment in failed["errorMessage"]
    assert failed["errorMessage"].startswith("[Request ID: ")
    assert isinstance(failed["logLines"], list)
    assert "errorData" not in failed
    assert (fine["type"], fine["value"]) == ("QueryUpdated", "fine")
    conversation.close()


def test_lone_surrogates(backend: BackendProcess) -> None:
    conversation = Conversation(backend)
    conversation.socket.send(
        '{"type":"Mutation","requestId":0,"udfPath":"kinds:echoFromMutation","args":[{"value":"\\ud800"}]}'
    )
    said, _, _ = conversation.ended()
    assert [message["type"] for message in said] == ["FatalError"]


def test_journals_that_are_not_ours(backend: BackendProcess) -> None:
    conversation = Conversation(backend)
    page = {"group": "x", "paginationOpts": {"numItems": 1, "cursor": None}}
    conversation.modify(
        add(0, "reading:page", [page], journal="made up"), add(1, "kinds:echo", [{"value": 1}])
    )
    failed, fine = conversation.receive("Transition")["modifications"]
    assert failed["type"] == "QueryFailed"
    assert fine["type"] == "QueryUpdated"
    conversation.close()


def test_a_cursor_of_another_query(backend: BackendProcess) -> None:
    for n in range(3):
        backend.call("mutation", "writing:insert", {"text": f"{n}", "group": "cursors"})
    page = {"group": "cursors", "paginationOpts": {"numItems": 1, "cursor": None}}
    cursor = backend.call("query", "reading:page", page)["continueCursor"]
    conversation = Conversation(backend)
    foreign = {"group": "others", "paginationOpts": {"numItems": 1, "cursor": cursor}}
    conversation.modify(add(0, "reading:page", [foreign]))
    [failed] = conversation.receive("Transition")["modifications"]
    assert failed["errorData"] == {"isConvexSystemError": True, "paginationError": "InvalidCursor"}
    assert "InvalidCursor" in failed["errorMessage"]
    conversation.close()


MUTATIONS: dict[str, tuple[str, Any, str]] = {
    "unknown": ("nope:nope", [{}], "Could not find public function"),
    "internal": ("nesting:add", [{"text": "x", "group": "x"}], "Could not find public function"),
    "a query": ("writing:count", [{"group": "x"}], "as Mutation, but it is defined as Query"),
    "arguments": ("writing:insert", [{"text": 5}], "ArgumentValidationError"),
    "too large": ("kinds:echoFromMutation", [{"value": "x" * (17 << 20)}], "too large"),
    "broken path": ("a/../b:c", [{}], ""),
    "empty path": ("", [{}], ""),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_that_fail_fail_alone(backend: BackendProcess, name: str) -> None:
    path, args, fragment = MUTATIONS[name]
    conversation = Conversation(backend)
    conversation.modify()
    conversation.receive("Transition")
    conversation.send(type="Mutation", requestId=0, udfPath=path, args=args)
    answer = conversation.receive("MutationResponse", 30)
    assert answer["success"] is False
    assert fragment in answer["result"]
    assert isinstance(answer["logLines"], list)
    assert "errorData" not in answer
    conversation.receive("Transition")
    conversation.send(type="Mutation", requestId=1, udfPath="kinds:echoFromMutation", args=[{"value": 1}])
    assert conversation.receive("MutationResponse")["result"] == 1.0
    conversation.close()


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "BadJsonBody"),
        (b"", "application/json", 400, "BadJsonBody"),
        (b"[]", "application/json", 400, "BadJsonBody"),
        (b'{"args":{}}', "application/json", 400, "BadJsonBody"),
        (b'{"path":5,"args":{}}', "application/json", 400, "BadJsonBody"),
        (b'{"path":"kinds:noArguments","args":{}}', "text/plain", 400, "BadJsonBody"),
        (b'\xff{"path":"a"}', "application/json", 400, "BadJsonBody"),
        (b"[" * 200_000, "application/json", 400, "BadJsonBody"),
        (b'{"path":"a b:c","args":{}}', "application/json", 400, "BadConvexFunctionIdentifier"),
        (b'{"path":"a.list","args":{}}', "application/json", 400, "BadConvexFunctionIdentifier"),
        (b'{"path":"","args":{}}', "application/json", 400, "BadConvexFunctionIdentifier"),
        (
            b'{"path":"kinds:noArguments","args":{},"format":"yaml"}',
            "application/json",
            400,
            "BadFormat",
        ),
    ],
)
def test_bodies_that_are_refused(
    http: httpx.Client, content: bytes, kind: str, status: int, code: str
) -> None:
    for endpoint in ("query", "mutation"):
        answer = http.post(f"/api/{endpoint}", content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["message"]


def test_bodies_that_are_too_large(http: httpx.Client) -> None:
    body = json.dumps({"path": "kinds:echo", "args": {"value": "x" * (20 << 20)}})
    answer = http.post("/api/query", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("name", [*QUERIES])
def test_the_same_failures_over_http(http: httpx.Client, name: str) -> None:
    path, args, fragment = QUERIES[name]
    answer = http.post("/api/query", json={"path": path, "args": args})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["status"] == "error"
    assert fragment in body["errorMessage"]
    assert "errorData" not in body


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"authorization": "Convex wrong|key"}, 401, "BadAdminKey"),
        ({"authorization": "Basic dXNlcjpwYXNz"}, 400, "InvalidAdminKey"),
        ({"authorization": "x"}, 400, "InvalidHeaderFailure"),
        ({}, 403, "BadDeployKey"),
        ({"convex-client": "nodash"}, 400, "InvalidClientVersion"),
        ({"convex-client": "npm-0.19.0"}, 400, "ClientVersionUnsupported"),
    ],
)
def test_headers_that_are_refused(
    http: httpx.Client, headers: dict[str, str], status: int, code: str
) -> None:
    answer = http.post("/api/function", json={"path": "kinds:noArguments", "args": {}}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_right_key_for_another_deployment(http: httpx.Client, backend: BackendProcess) -> None:
    name, _, rest = backend.admin_key.partition("|")
    for key in (f"other-{name}|{rest}", f"{name}|{rest[:-1]}{'0' if rest[-1] != '0' else '1'}", f"{name}|"):
        answer = http.post(
            "/api/function",
            json={"path": "kinds:noArguments", "args": {}},
            headers={"authorization": f"Convex {key}"},
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "BadAdminKey")
    answer = http.post(
        "/api/function",
        json={"path": "nesting:secret", "args": {"n": 4}},
        headers={"authorization": f"Convex {backend.admin_key}"},
    )
    assert answer.json() == {"status": "success", "value": 8.0}


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\x00" * 1000, b"GET / HTTP/1.1\r\nHost"]
)
def test_noise_on_the_port(backend: BackendProcess, noise: bytes) -> None:
    for port in (backend.port, backend.site_port):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
            raw.sendall(noise)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(10)
            while raw.recv(4096):
                pass


def test_connections_that_vanish(backend: BackendProcess) -> None:
    """Clients that disappear in the middle of a mutation, a query set and a frame."""
    for n in range(20):
        conversation = Conversation(backend)
        conversation.modify(add(0, "writing:count", [{"group": f"vanish {n}"}]))
        conversation.send(
            type="Mutation",
            requestId=0,
            udfPath="writing:insert",
            args=[{"text": "x", "group": f"vanish {n}"}],
        )
        if n % 2:
            conversation.socket.socket.sendall(b"\x81\xfe\xff\xff")  # The head of a frame, and no more.
        conversation.socket.socket.shutdown(socket.SHUT_RDWR)
    assert httpx.get(f"{backend.url}/version").status_code == 200


def test_user_code_that_misbehaves(backend: BackendProcess, http: httpx.Client) -> None:
    answers = [
        http.post("/api/query", json={"path": path, "args": {}}).json()
        for path in ("errors:neverEnds", "errors:throwsNull", "kinds:returnsFunction", "errors:throwsString")
    ]
    assert [answer["status"] for answer in answers] == ["error"] * 4
