"""The queries that one client is subscribed to: what it asked for, what it was told, and what is to be run again.

Rule: between `begin_update` and `end_update` the client may ask for changes and queries may fall; both count for the
next update.

Source: reference/values-and-sync.md §4.4, §4.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cvx.errors import ProtocolError
from cvx.protocol.sync_answers import internal, query_change, too_many
from cvx.protocol.sync_events import QueryResult, QueryRun, SessionLimits
from cvx.protocol.sync_messages import Add, ModifyQuerySet, QueryFailed, QueryRemoved, QueryUpdated, Remove


class _Query:
    """A subscription of this client, and what it was last told."""

    __slots__ = ("args", "component", "fingerprint", "journal", "path")

    def __init__(self, add: Add) -> None:
        self.path = add.udf_path
        self.args = add.args
        self.component = add.component_path or ""
        self.journal = add.journal
        self.fingerprint: bytes | None = None


class QuerySet:
    """See the module's docstring. `asked_version` is that of the last ModifyQuerySet."""

    def __init__(self, limits: SessionLimits) -> None:
        self.asked_version = 0
        self._limits = limits
        self._queries: dict[int, _Query] = {}
        self._stale: dict[int, None] = {}  # To be run; kept apart so that one of ten thousand costs one.
        self._known_ids: set[int] = set()
        self._modifications: list[Add | Remove] = []
        self._dropped: list[int] = []  # Gone, but the client was not told yet.

    @property
    def ids(self) -> frozenset[int]:
        """What the client was last brought to."""
        return frozenset(self._queries)

    def modify(self, message: ModifyQuerySet) -> None:
        """What the client wants from the next update on. Raises CvxError: the conversation cannot go on."""
        if message.base_version != self.asked_version:
            raise ProtocolError(
                "BaseVersionMismatch",
                f"ModifyQuerySet builds on version {message.base_version}, "
                f"but the last one made version {self.asked_version}.",
            )
        if message.new_version <= message.base_version:
            raise internal(
                f"ModifyQuerySet goes from version {message.base_version} to {message.new_version}."
            )
        for modification in message.modifications:
            query_id = modification.query_id
            if type(modification) is Add:
                if query_id in self._known_ids:
                    raise internal(f"ModifyQuerySet adds query {query_id} a second time.")
                self._known_ids.add(query_id)
            else:
                if query_id not in self._known_ids:
                    raise internal(f"ModifyQuerySet removes query {query_id}, which is not there.")
                self._known_ids.remove(query_id)
        if len(self._known_ids) > self._limits.queries_max:
            raise too_many("TooManyQueriesForSingleClient", "queries of one client are subscribed")
        # A client that does not read gets no update, which would take them in.
        if len(self._modifications) + len(message.modifications) > self._limits.modifications_waiting_max:
            raise too_many("TooManyWaitingModifications", "changes of one client's queries wait")
        self.asked_version = message.new_version
        self._modifications += message.modifications

    def invalidate(self, query_ids: Iterable[int]) -> bool:
        """Have these run again; whether any of them is still subscribed to."""
        stale = [query_id for query_id in query_ids if query_id in self._queries]
        self._stale.update(dict.fromkeys(stale))
        return bool(stale)

    def invalidate_all(self) -> None:
        self._stale = dict.fromkeys(self._queries)

    def begin_update(self) -> tuple[tuple[QueryRun, ...], tuple[int, ...]]:
        """Take in what the client asked for; what is to be run, and which queries are gone."""
        for modification in self._modifications:
            if type(modification) is Add:
                self._queries[modification.query_id] = _Query(modification)
                self._stale[modification.query_id] = None
            else:
                self._queries.pop(modification.query_id, None)
                self._stale.pop(modification.query_id, None)
                self._dropped.append(modification.query_id)
        self._modifications = []
        stale, self._stale = self._stale, {}  # An invalidation from here on counts against these runs.
        queries = [(query_id, self._queries[query_id]) for query_id in stale]
        runs = [
            QueryRun(key, query.path, query.args, query.component, query.journal) for key, query in queries
        ]
        return tuple(runs), tuple(self._dropped)

    def end_update(
        self, runs: Iterable[QueryRun], results: Mapping[int, QueryResult | None]
    ) -> tuple[list[QueryUpdated | QueryFailed | QueryRemoved], bool]:
        """What the client is to be told, by query; and whether every query had a result (one without stays stale)."""
        changes: dict[int, QueryUpdated | QueryFailed | QueryRemoved] = {}
        for query_id in self._dropped:
            changes[query_id] = QueryRemoved(query_id)
        self._dropped = []
        is_complete = True
        for run in runs:
            query = self._queries[run.query_id]
            result = results[run.query_id]
            if result is None:
                self._stale[run.query_id] = None
                is_complete = False
                continue
            query.journal = result.journal
            if result.fingerprint != query.fingerprint:
                query.fingerprint = result.fingerprint
                changes[run.query_id] = query_change(run.query_id, result)
        if len(changes) < 2:
            return list(changes.values()), is_complete
        return [changes[key] for key in sorted(changes)], is_complete

    def run_again(self, runs: Iterable[QueryRun]) -> None:
        """An update came to nothing: the next one runs these, too."""
        self._stale.update((run.query_id, None) for run in runs)
