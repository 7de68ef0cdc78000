"""SyncSession and SyncClient joined in memory, on a network and a database that are played by a seed.

What must hold whatever happens: every view the client is shown is the database as of one timestamp; a mutation
is done only when its effect has been shown; nothing is applied twice; in the end everything is answered.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import Raw

from cvx.errors import ProtocolError
from cvx.protocol.codec import decode_client_message, encode_message, split_transition
from cvx.protocol.sync_client import (
    ClientEvent,
    QueryChanged,
    RequestDone,
    RequestLost,
    SyncClient,
    TokenConfirmed,
)
from cvx.protocol.sync_events import (
    ActionFinished,
    Caller,
    CallResult,
    CheckToken,
    Invalidated,
    MutationCommitted,
    MutationFinished,
    QueriesUpdated,
    QueryResult,
    Received,
    RunAction,
    RunMutation,
    Sent,
    Task,
    TokenAccepted,
    UpdateImpossible,
    UpdateQueries,
)
from cvx.protocol.sync_messages import QueryUpdated, Transition
from cvx.protocol.sync_session import SyncSession

SESSION_ID = "d7620305-49e3-4d70-aa5c-ae1f7c955666"
KEYS = "abc"


class World:
    """Counters with a history, one client, one connection at a time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ts = 100
        self.history: list[tuple[int, dict[str, int]]] = [(100, dict.fromkeys(KEYS, 0))]
        self.applied: dict[int, tuple[int, int]] = {}  # Request → value, commit timestamp.
        self.client = SyncClient(SESSION_ID)
        self.subscribed: dict[int, str] = {}
        self.view: dict[int, float] = {}
        self.fresh: set[int] = set()  # Subscribed, but not yet shown on this connection.
        self.asked: dict[int, str] = {}
        self.done: dict[int, bool] = {}
        self.connect()

    # --- the database ---

    def at(self, ts: int) -> dict[str, int]:
        return next(state for then, state in reversed(self.history) if then <= ts)

    def commit(self, key: str) -> tuple[int, int]:
        self.ts += self.random.randint(1, 3)
        state = dict(self.history[-1][1])
        state[key] += 1
        self.history.append((self.ts, state))
        touched = [query_id for query_id, watched in self.watched.items() if watched == key]
        self.session.apply(Invalidated(touched), 0.0, 0.0)
        return state[key], self.ts

    # --- the connection ---

    def connect(self) -> None:
        self.session = SyncSession(Caller("anonymous"), 0.0)
        self.watched: dict[int, str] = {}
        self.running: list[Iterator[None]] = []
        self.to_server: deque[bytes] = deque()
        self.to_client: deque[bytes] = deque()
        self.fresh = set(self.subscribed)
        self.client.opened(0)

    def drop(self) -> None:
        while self.running and self.random.random() < 0.5:  # A mutation may still commit; nobody hears of it.
            self.advance()
        self.notice(self.client.closed("dropped"))
        self.connect()

    def flow(self) -> None:
        self.to_server += [encode_message(message) for message in self.client.messages()]
        for task in self.session.tasks():
            self.running.append(self.run(task, self.ts))
        for message in self.session.messages():
            text = encode_message(message)
            self.to_client += (
                split_transition(text, chunk_bytes_max=200) if type(message) is Transition else [text]
            )
            if type(message) is Transition:
                self.session.apply(Sent(1), 0.0, 0.0)
        assert self.session.closing is None

    # --- tasks, one step at a time ---

    def advance(self) -> None:
        index = self.random.randrange(len(self.running))
        try:
            next(self.running[index])
        except StopIteration:
            del self.running[index]

    def run(self, task: Task, ts: int) -> Iterator[None]:
        session = self.session
        yield
        if isinstance(task, CheckToken):
            session.apply(TokenAccepted(Caller(task.message.value)), 0.0, 0.0)
        elif isinstance(task, UpdateQueries):
            for query_id in task.dropped:
                self.watched.pop(query_id, None)
            if self.random.random() < 0.1:
                session.apply(UpdateImpossible(), 0.0, 0.0)
                return
            state = self.at(ts)
            for run in task.runs:
                self.watched[run.query_id] = run.path
                if self.at(self.ts)[run.path] != state[run.path]:
                    session.apply(Invalidated([run.query_id]), 0.0, 0.0)
            results = {run.query_id: _result(state[run.path]) for run in task.runs}
            yield
            session.apply(QueriesUpdated(ts, results), 0.0, 0.0)
        elif isinstance(task, RunMutation):
            if task.path == "fail":
                session.apply(MutationFinished(task.request_id, CallResult(error_message=b'"no"')), 0.0, 0.0)
                return
            if task.request_id not in self.applied:
                self.applied[task.request_id] = self.commit(task.path)
                session.apply(MutationCommitted(task.request_id, self.applied[task.request_id][1]), 0.0, 0.0)
                yield
            value, ts = self.applied[task.request_id]
            session.apply(MutationFinished(task.request_id, CallResult(Raw(b"%d.0" % value), ts)), 0.0, 0.0)
        else:
            assert isinstance(task, RunAction)
            session.apply(ActionFinished(task.request_id, CallResult(Raw(b"null"))), 0.0, 0.0)

    # --- what the client is told ---

    def notice(self, events: list[ClientEvent]) -> None:
        for event in events:
            if isinstance(event, QueryChanged):
                assert isinstance(event.result, QueryUpdated)
                self.view[event.query_id] = msgspec.json.decode(event.result.value)
                self.fresh.discard(event.query_id)
            elif isinstance(event, RequestDone):
                assert event.request_id not in self.done, "answered twice"
                self.done[event.request_id] = event.response.success
                ts = getattr(event.response, "ts", None)
                if ts is not None:
                    assert self.applied[event.request_id][1] <= self.client_ts()
            elif isinstance(event, RequestLost):
                self.done[event.request_id] = False
            else:
                assert isinstance(event, TokenConfirmed)

    def client_ts(self) -> int:
        return self.client._version.timestamp

    def check_view(self) -> None:
        """What is shown is the database at the client's timestamp."""
        state = self.at(self.client_ts()) if self.client_ts() else None
        for query_id, key in self.subscribed.items():
            if query_id not in self.fresh:
                assert state is not None
                assert self.view[query_id] == state[key]

    # --- one random step ---

    def step(self) -> None:
        choice = self.random.random()
        if choice < 0.08:
            key = self.random.choice(KEYS)
            query_id = self.client.subscribe(key, Raw(b"[{}]"))
            self.subscribed[query_id] = key
            self.fresh.add(query_id)
        elif choice < 0.12 and self.subscribed:
            query_id = self.random.choice(list(self.subscribed))
            self.client.unsubscribe(query_id)
            del self.subscribed[query_id]
            self.fresh.discard(query_id)
        elif choice < 0.25:
            path = self.random.choice(["a", "b", "c", "fail"])
            self.asked[self.client.mutation(path, Raw(b"[{}]"))] = path
        elif choice < 0.28:
            self.asked[self.client.action("act", Raw(b"[{}]"))] = "act"
        elif choice < 0.31:
            self.client.authenticate("User", f"token{self.random.random()}")
        elif choice < 0.35:
            self.commit(self.random.choice(KEYS))  # Somebody else.
        elif choice < 0.36:
            self.drop()
        else:
            self.carry()
        self.flow()

    def carry(self) -> bool:
        """Let one thing that is under way move on; False when nothing is."""
        moves = [name for name in ("to_server", "to_client", "running") if getattr(self, name)]
        if not moves:
            return False
        move = self.random.choice(moves)
        if move == "to_server":
            self.session.apply(Received(decode_client_message(self.to_server.popleft())), 0.0, 0.0)
        elif move == "to_client":
            self.notice(self.client.receive(self.to_client.popleft()))
            self.check_view()
        else:
            self.advance()
        return True


def _result(value: int) -> QueryResult:
    text = b"%d.0" % value
    return QueryResult(text, Raw(text))


@pytest.mark.parametrize("seed", range(150))
def test_random_life(seed: int) -> None:
    world = World(seed)
    world.flow()
    for _ in range(300):
        world.step()
    while world.carry():
        world.flow()
    assert set(world.done) == set(world.asked)
    assert not world.fresh
    state = world.history[-1][1]
    assert {world.view[query_id] - state[key] for query_id, key in world.subscribed.items()} <= {0.0}
    applied = [
        request_id
        for request_id, success in world.done.items()
        if success and world.asked[request_id] != "act"
    ]
    assert set(applied) <= set(world.applied)
    assert all(world.asked[request_id] != "fail" for request_id in applied)


def test_client_refuses_a_gap() -> None:
    client = SyncClient(SESSION_ID)
    client.opened()
    text = (
        b'{"type":"Transition","startVersion":{"querySet":0,"identity":0,"ts":"AQAAAAAAAAA="},'
        b'"endVersion":{"querySet":1,"identity":0,"ts":"AQAAAAAAAAA="},"modifications":[]}'
    )
    with pytest.raises(ProtocolError, match="StartVersionMismatch"):
        client.receive(text)


def test_client_refuses_a_second_answer() -> None:
    client = SyncClient(SESSION_ID)
    client.opened()
    client.mutation("m:f", Raw(b"[{}]"))
    text = b'{"type":"MutationResponse","requestId":0,"success":false,"result":"no","logLines":[]}'
    assert client.receive(text) != []
    with pytest.raises(ProtocolError, match="UnknownRequest"):
        client.receive(text)
