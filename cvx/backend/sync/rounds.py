"""Updates of many sockets at one timestamp: what all of them ask is asked once.

A commit that a thousand sockets must hear of gives them all work in the same moment. They join one `Round`: one
snapshot, one run for each distinct question, one wait for the disk. What is left for each socket is a few plain
function calls, made in batches so that nobody else waits long.

Rule: a round hands out results only once its timestamp is on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial

from cvx.backend.config import Limits
from cvx.backend.database import Database, Snapshot
from cvx.backend.functions import FunctionExecutor, QueryEntry
from cvx.errors import CvxError
from cvx.protocol.sync_events import Caller, QueryRun
from cvx.values import Timestamp

_log = logging.getLogger("cvx.sync")

Answer = QueryEntry | CvxError
_Key = tuple[str, bytes, str, str | None, bytes, bool]


class Rounds:
    """The round of the latest timestamp, as long as somebody is in it."""

    def __init__(self, executor: FunctionExecutor, db: Database, limits: Limits) -> None:
        self.executor = executor
        self.db = db
        self.limits = limits
        self._latest: Round | None = None

    def join(self) -> Round:
        """The round to update in now. To be left again."""
        latest = self._latest
        if latest is None or latest.ts != self.db.latest_ts or latest.is_expired:
            latest = self._latest = Round(self)
        latest.members += 1
        return latest

    def end(self, over: Round) -> None:
        if self._latest is over:
            self._latest = None


class Round:
    """One timestamp. `ask` until there is nothing to ask, then `leave`."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._snapshot = rounds.db.snapshot()
        self.ts: Timestamp = self._snapshot.ts
        self.members = 0
        self._questions: dict[_Key, _Question] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_durable = False
        self._waiting_for_disk: list[Callable[[], None]] = []
        self._start(self._await_disk())

    @property
    def is_expired(self) -> bool:
        """Whether it has lasted for so long that nothing more can be found out in it."""
        return self._snapshot.is_expired

    def ask(self, run: QueryRun, caller: Caller, tell: Callable[[Answer], None]) -> None:
        """Have `tell` called with the entry, or with what the system failed at; at once if it is known."""
        # Whom an admin acts as is the same caller to user code, but may call more.
        key = (
            run.path,
            bytes(run.args),
            run.component,
            run.journal,
            caller.identity.cache_key(),
            caller.is_admin,
        )
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = _Question()
            # Held until it is answered, whoever leaves: others than this round may wait for the same run.
            self._start(self._find_out(key, question, run, caller, self._snapshot.acquire()))
        if question.answer is not None:
            tell(question.answer)
        else:
            question.waiting.append(tell)

    def when_durable(self, then: Callable[[], None]) -> None:
        """Call `then` once everything up to this round's timestamp is on disk."""
        if self._is_durable:
            then()
        else:
            self._waiting_for_disk.append(then)

    def leave(self) -> None:
        self.members -= 1
        if self.members == 0:
            self._rounds.end(self)
            self._snapshot.release()

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await_disk(self) -> None:
        await self._rounds.db.durable(self.ts)
        self._is_durable = True
        waiting, self._waiting_for_disk = self._waiting_for_disk, []
        self._tell_in_batches(waiting)

    async def _find_out(
        self, key: _Key, question: _Question, run: QueryRun, caller: Caller, snapshot: Snapshot
    ) -> None:
        answer: Answer
        try:
            answer = await self._rounds.executor.query(
                run.path,
                bytes(run.args),
                caller.identity,
                snapshot=snapshot,
                journal=run.journal,
                caller="SyncWorker",
                component=run.component,
            )
        except CvxError as error:
            answer = error
        except Exception:
            _log.exception("a query of sync sockets failed: %s", run.path)
            answer = CvxError("InternalServerError", "Internal error.", kind="internal")
        finally:
            snapshot.release()
        if isinstance(answer, CvxError) and answer.kind != "bad_request":
            del self._questions[key]  # It may pass: whoever asks next asks anew.
        question.answer = answer
        waiting, question.waiting = question.waiting, []
        self._tell_in_batches([partial(tell, answer) for tell in waiting])

    def _tell_in_batches(self, calls: list[Callable[[], None]]) -> None:
        """Make the calls, letting others run after every so many."""
        size = self._rounds.limits.socket_batch
        for call in calls[:size]:
            try:
                call()
            except Exception:  # edge: one client's trouble; the others must hear of theirs.
                _log.exception("a sync socket could not take in an update")
        if len(calls) > size:
            asyncio.get_running_loop().call_soon(self._tell_in_batches, calls[size:])


class _Question:
    """One query of one caller at the round's timestamp, and who wants to know."""

    __slots__ = ("answer", "waiting")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.waiting: list[Callable[[Answer], None]] = []
