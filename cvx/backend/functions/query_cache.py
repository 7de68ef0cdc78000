"""One run for a thousand subscribers.

A `QueryEntry` is a query's result at a timestamp, with the ReadSet that says until when it holds. The cache finds
an entry for (function, arguments, journal, what the caller may call, and the caller's identity only if the
function asked for it); equal queries that are asked while one of them runs wait for it.

Rules:
- An entry is valid at T when no commit in (its ts, T] overlapped its ReadSet. The cache knows because every entry
  it holds has one Subscription; a commit that overlaps ends the entry in the moment it is published.
- Errors are not cached, but can be watched like values.
- A result may have read commits that are not on disk yet. Whoever sends it to a client first awaits
  `db.durable(entry.ts)`.

Source: reference/runtime-and-database.md §5.1; design.md §5.2.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from cvx.backend.database import Database, ReadSet, Subscription
from cvx.backend.functions.results import FunctionError
from cvx.errors import CvxError
from cvx.values import FunctionPath, Timestamp

Watcher = Callable[["QueryEntry"], None]

# What an entry weighs beside its bytes: its own fields; and each point or range of its ReadSet, with its place in
# the subscription index.
_ENTRY_BYTES = 1_000
_READ_BYTES = 400


class QueryKey(NamedTuple):
    """What a result depends on besides the data and the caller. `args_json` is canonical."""

    path: FunctionPath
    args_json: bytes
    journal: str | None
    internal_allowed: bool


_FullKey: TypeAlias = "tuple[QueryKey, bytes | None]"


class QueryEntry:
    """One result of one query. `value_json` is canonical; exactly one of `value_json` and `error` is set."""

    __slots__ = (
        "_cache",
        "_db",
        "_invalid_since",
        "_keys",
        "_subscription",
        "_watchers",
        "error",
        "expires_at",
        "identity_key",
        "journal",
        "log_lines",
        "reads",
        "request_id",
        "result_hash",
        "ts",
        "value_json",
        "weight_bytes",
    )

    def __init__(
        self,
        db: Database,
        *,
        ts: Timestamp,
        reads: ReadSet | None,
        value_json: bytes | None,
        error: FunctionError | None,
        log_lines: list[str],
        journal: str | None,
        result_hash: bytes,
        identity_key: bytes | None,
        expires_at: float | None,
        request_id: str,
    ) -> None:
        self._db = db
        self.ts = ts
        self.reads = reads
        """None: the result comes from the request alone, and holds for ever."""
        self.value_json = value_json
        self.error = error
        self.log_lines = log_lines
        self.journal = journal
        self.result_hash = result_hash
        self.identity_key = identity_key
        """The caller it was made for; None when the function did not ask who is calling."""
        self.expires_at = expires_at
        """In `loop.time()` seconds, when the function looked at the clock: from then on nobody new gets it."""
        self.request_id = request_id
        self._invalid_since: Timestamp | None = None
        self._subscription: Subscription | None = None
        self._watchers: dict[int, Watcher] = {}
        self._cache: QueryCache | None = None
        self._keys: list[_FullKey] = []
        self.weight_bytes = 0
        """What it counts for while it is in the cache."""

    def valid_at(self, ts: Timestamp) -> bool:
        """Whether running the query at `ts` would give this result again."""
        if ts < self.ts:
            return False
        if self._invalid_since is not None:
            return ts < self._invalid_since
        return ts == self.ts or self._subscription is not None or self.reads is None

    def serves(self, identity_key: bytes, ts: Timestamp) -> bool:
        """Whether it may be given to this caller, as the result at `ts`."""
        return self.valid_at(ts) and (self.identity_key is None or self.identity_key == identity_key)

    @property
    def invalid_since(self) -> Timestamp | None:
        """The first commit that overlapped it, once there is one."""
        return self._invalid_since

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Have `watcher(entry)` called once, synchronously, by the commit that ends this entry; at once if it
        has ended already. The returned function stops the watching and may be called at any time."""
        self._subscribe()
        if self._invalid_since is not None:
            watcher(self)
            return _nothing
        token = id(watcher)
        while token in self._watchers:
            token += 1
        self._watchers[token] = watcher

        def unwatch() -> None:
            if self._watchers.pop(token, None) is not None:
                self._close_if_unused()

        return unwatch

    # ------------------------------------------------------------------------------------- for the cache

    def _subscribe(self) -> None:
        if self._subscription is None and self._invalid_since is None and self.reads is not None:
            subscription = self._db.subscribe(self.reads, self.ts, self._on_invalidate)
            if self._invalid_since is None:
                self._subscription = subscription

    def _on_invalidate(self, ts: Timestamp) -> None:
        if self._invalid_since is not None:
            return
        self._invalid_since = ts
        self._subscription = None
        if self._cache is not None:
            self._cache.forget(self)
        watchers = list(self._watchers.values())
        self._watchers.clear()
        for watcher in watchers:
            watcher(self)

    def _close_if_unused(self) -> None:
        if self._cache is None and not self._watchers and self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _weigh(self) -> int:
        keys = sum([len(key.args_json) for key, _ in self._keys])
        reads = 0 if self.reads is None else len(self.reads)
        return (
            _ENTRY_BYTES
            + _READ_BYTES * reads
            + keys
            + len(self.value_json or b"")
            + sum(map(len, self.log_lines))
        )


def _nothing() -> None:
    return None


@dataclass(slots=True)
class Running:
    """A query being run, for others who ask the same."""

    ts: Timestamp
    identity_key: bytes
    done: asyncio.Future[QueryEntry | None]
    """Its entry; None when it was given up, so that whoever waited runs it."""


class QueryCache:
    """All entries that may be given to somebody new, least recently used first to go."""

    def __init__(self, db: Database, bytes_max: int) -> None:
        self._db = db
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[_FullKey, QueryEntry] = OrderedDict()
        self._running: dict[QueryKey, list[Running]] = {}
        # Functions that asked who is calling: their runs are not shared between callers to begin with.
        self._identity_bound: OrderedDict[FunctionPath, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: QueryKey, identity_key: bytes, ts: Timestamp, now: float) -> QueryEntry | None:
        """A result that holds at `ts` for this caller. `now` is `loop.time()`."""
        for full in ((key, None), (key, identity_key)):
            entry = self._entries.get(full)
            if entry is None or not entry.valid_at(ts):
                continue
            if entry.expires_at is not None and entry.expires_at <= now:
                self.forget(entry)
                continue
            self._entries.move_to_end(full)
            return entry
        return None

    def running(self, key: QueryKey, identity_key: bytes, ts: Timestamp) -> Running | None:
        """A run whose result could do for this caller at `ts`."""
        for running in self._running.get(key, ()):
            same_caller = running.identity_key == identity_key or key.path not in self._identity_bound
            if running.ts <= ts and same_caller:
                return running
        return None

    def begin(self, key: QueryKey, identity_key: bytes, ts: Timestamp) -> Running:
        running = Running(ts, identity_key, asyncio.get_running_loop().create_future())
        self._running.setdefault(key, []).append(running)
        return running

    def finish(self, key: QueryKey, running: Running, result: QueryEntry | CvxError | None) -> None:
        """End a run: with its entry, with the failure all who wait share, or (None) given up unfinished."""
        others = self._running[key]
        others.remove(running)
        if not others:
            del self._running[key]
        if isinstance(result, CvxError):
            running.done.set_exception(result)
            running.done.exception()  # Nobody may be waiting: that is no reason for a warning.
        else:
            running.done.set_result(result)

    def add(self, key: QueryKey, entry: QueryEntry) -> None:
        """Keep an entry, under the journal it was asked with and the one it produced."""
        if entry.identity_key is not None:
            self._identity_bound[key.path] = None
            if len(self._identity_bound) > 10_000:
                self._identity_bound.popitem(last=False)
        if entry.error is not None:
            return
        entry._subscribe()
        if entry.invalid_since is not None:
            return
        entry._cache = self
        entry._keys = [(key, entry.identity_key)]
        if entry.journal != key.journal:
            entry._keys.append((key._replace(journal=entry.journal), entry.identity_key))
        for full in entry._keys:
            old = self._entries.get(full)
            if old is not None:
                self.forget(old)
            self._entries[full] = entry
        entry.weight_bytes = entry._weigh()
        self._bytes += entry.weight_bytes
        while self._bytes > self._bytes_max and self._entries:
            self.forget(next(iter(self._entries.values())))

    def forget(self, entry: QueryEntry) -> None:
        """Give this entry to nobody new. Who watches it goes on watching."""
        self._bytes -= entry.weight_bytes
        for full in entry._keys:
            del self._entries[full]
        entry._keys = []
        entry._cache = None
        entry._close_if_unused()
