"""Transcripts played through SyncSession: `>` the client's frame, `!` what the driver reports,
`=` the tasks asked for, `<` the server's messages, `x` the close.

Timestamps are written `@20` instead of base64.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from cvx.errors import CvxError, ProtocolError
from cvx.protocol.codec import decode_client_message, encode_message
from cvx.protocol.sync_events import (
    ActionFinished,
    Caller,
    CallResult,
    CheckToken,
    Failed,
    Invalidated,
    MutationCommitted,
    MutationFinished,
    QueriesUpdated,
    QueryResult,
    Received,
    RunAction,
    RunMutation,
    Sent,
    SessionLimits,
    Task,
    Tick,
    TokenAccepted,
    TokenRefused,
    UpdateQueries,
)
from cvx.protocol.sync_messages import Transition
from cvx.protocol.sync_session import SyncSession
from cvx.values.timestamps import decode_ts, encode_ts
from tests import script

SCRIPTS = Path(__file__).parent / "scripts"
START_S = 1_000_000.0


class Stage:
    """One session on a clock of its own, driven by the lines of a script."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.jump_s = 0.0
        limits = SessionLimits(modifications_waiting_max=4, mutations_queued_max=3, actions_in_flight_max=2)
        self.session = SyncSession(Caller("anonymous"), self.now_s, limits)

    def play(self, stimuli: Sequence[str]) -> Iterator[str]:
        was_closing = self.session.closing
        for line in stimuli:
            if line.startswith("> "):
                self.receive(
                    re.sub(r'"@(\d+)"', lambda match: json.dumps(encode_ts(int(match[1]))), line[2:])
                )
            else:
                self.report(shlex.split(line[2:]))
        for task in self.session.tasks():
            yield f"= {_spell_task(task)}"
        for message in self.session.messages():
            text = encode_message(message).decode()
            yield "< " + re.sub(
                r'("ts"):"([^"]{11}=)"', lambda match: f'{match[1]}:"@{decode_ts(match[2])}"', text
            )
            if isinstance(message, Transition):
                self.apply(Sent(1))
        if self.session.closing is not None and was_closing is None:
            yield f"x {self.session.closing.code} {self.session.closing.reason}".rstrip()

    def receive(self, text: str) -> None:
        try:
            self.apply(Received(decode_client_message(text)))
        except ProtocolError as error:
            self.apply(Failed(error))

    def apply(self, event: Any) -> None:
        self.session.apply(event, self.now_s, self.now_s + self.jump_s)

    def report(self, words: list[str]) -> None:
        verb, *rest = words
        named = dict(word.split("=", 1) for word in rest if "=" in word)
        plain = [word for word in rest if "=" not in word]
        if verb == "time":
            self.now_s += float(plain[0])
            self.apply(Tick())
        elif verb == "clock":  # Somebody sets the machine's clock.
            self.jump_s += float(plain[0])
            self.apply(Tick())
        elif verb == "updated":
            results = {int(key): _query_result(text) for key, text in named.items() if key.isdigit()}
            self.apply(QueriesUpdated(int(named["ts"]), results))
        elif verb == "invalidated":
            self.apply(Invalidated([int(word) for word in plain]))
        elif verb == "committed":
            self.apply(MutationCommitted(int(plain[0]), int(named["ts"])))
        elif verb == "mutated":
            self.apply(MutationFinished(int(plain[0]), _call_result(named)))
        elif verb == "acted":
            self.apply(ActionFinished(int(plain[0]), _call_result(named)))
        elif verb == "accepted":
            expires_at = START_S + float(named.get("expires_in", "inf"))
            self.apply(TokenAccepted(Caller(plain[0], is_admin=plain[0] == "admin", expires_at=expires_at)))
        elif verb == "refused":
            self.apply(TokenRefused(CvxError(plain[0], named["message"], kind=named["kind"])))  # type: ignore[arg-type]
        elif verb == "failed":
            self.apply(Failed(CvxError(plain[0], named["message"], kind=named["kind"])))  # type: ignore[arg-type]
        elif verb == "unsend":
            self.apply(Sent(-int(plain[0])))
        elif verb == "send":
            self.apply(Sent(int(plain[0])))
        else:
            raise AssertionError(f"unknown report: {verb}")


def _query_result(text: str) -> QueryResult | None:
    """`1.0`, `1.0/journal`, `error:boom`, `thrown:{"a":1}` or `unavailable`."""
    text, _, journal = text.partition("/")
    print_as = text.encode()
    if text == "unavailable":
        return None
    if text.startswith("error:"):
        return QueryResult(print_as, error_message=text[6:], journal=journal or None)
    if text.startswith("thrown:"):
        data = Raw(text[7:].encode())
        return QueryResult(print_as, error_message="Server Error", error_data=data, journal=journal or None)
    return QueryResult(print_as, value=Raw(text.encode()), journal=journal or None)


def _call_result(named: dict[str, str]) -> CallResult:
    if "error" in named:
        data = Raw(named["data"].encode()) if "data" in named else None
        return CallResult(
            error_message=json.dumps(named["error"]).encode(), error_data=data, log_lines=["[LOG] 'x'"]
        )
    ts = int(named["ts"]) if "ts" in named else None
    return CallResult(value=Raw(named["value"].encode()), ts=ts, log_lines=[])


def _spell_task(task: Task) -> str:
    if isinstance(task, CheckToken):
        return f"check {task.message.token_type} token"
    if isinstance(task, RunMutation):
        return f"mutation {task.request_id} {task.path} {bytes(task.args).decode()} as {task.caller.identity} [{task.context_id}]"
    if isinstance(task, RunAction):
        return f"action {task.request_id} {task.path} as {task.caller.identity} [{task.context_id}]"
    assert isinstance(task, UpdateQueries)
    runs = " ".join(
        f"{run.query_id}:{run.path}" + (f"/{run.journal}" if run.journal else "") for run in task.runs
    )
    dropped = "".join(f" drop {query_id}" for query_id in task.dropped)
    return f"update as {task.caller.identity}: {runs}{dropped}".rstrip()


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path, update_scripts: bool) -> None:
    stage = Stage()
    script.check(path, stage.play, together="> ", alone="! ", update=update_scripts)
