"""Crons: what a push declared, when each runs next, and how its last runs went.

A cron is a row in `_cron_jobs` (its spec) and one in `_cron_next_run` (the slot it waits for or is running), so that
a run does not touch what a push wrote. The last few runs are in `_cron_job_logs`.

Rules:
- Functions over a Transaction. The slot moves on in the same transaction that notes what became of it.
- One run at a time. Slots that went by meanwhile, or while nothing ran here, are not made up for: they are
  noted as one `canceled` entry.

Source: reference/runtime-and-database.md §6.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cvx.backend.config import Limits
from cvx.backend.database import ROOT, Transaction
from cvx.backend.model.cron_times import SECOND_NS, first_run, next_after_run
from cvx.protocol.push import CronDiff, CronSpecJson, NamedCronSpecJson, Schedule
from cvx.values import FunctionPath, Timestamp, Value

CRONS = "_cron_jobs"
NEXT_RUNS = "_cron_next_run"
LOGS = "_cron_job_logs"
_BY_NAME = "by_name"
_BY_CRON = "by_cron"
_BY_NEXT = "by_next"

UNTOUCHED_BEFORE_NS = 30 * SECOND_NS
"""A run this close is not moved by a push that changes the schedule."""
LOG_TEXT_BYTES_MAX = 1_000

_schedule = msgspec.json.Decoder(Schedule)
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Cron:
    """One declared cron. `args_json` is an encoded array of arguments."""

    id: str
    creation_time: float
    component: str
    name: str
    path: FunctionPath
    args_json: bytes
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class NextRun:
    """The slot a cron waits for, or is running (`running`: known as begun after a restart, too)."""

    row: str
    cron_id: str
    previous_ts: Timestamp | None
    ts: Timestamp
    running: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: exactly one of `value_json` and `error` is set. `seconds` is how long it took."""

    value_json: bytes | None
    error: str | None
    log_lines: tuple[str, ...]
    seconds: float


# --------------------------------------------------------------------------------------------------- declaring


def replace_crons(
    tx: Transaction, specs: Iterable[NamedCronSpecJson], now: Timestamp, component: str = ROOT
) -> CronDiff:
    """Make a component's crons exactly these; those that stay equal keep their next run."""
    rows = {row["name"]: row for row in tx.all(CRONS, _BY_NAME, [component], privileged=True)}
    diff = CronDiff(added=[], updated=[], deleted=[])
    declared = {named.identifier: named.spec for named in specs}
    for name, spec in sorted(declared.items()):
        row = rows.pop(name, None)
        fields = _fields(spec)
        if row is None:
            _add(tx, component, name, spec, fields, now)
            diff.added.append(name)
        elif any(row[field] != value for field, value in fields.items()):
            tx.patch(row["_id"], fields, privileged=True)
            if row["schedule"] != fields["schedule"]:
                _reschedule(tx, row["_id"], spec.cron_schedule, now)
            diff.updated.append(name)
    for name, row in sorted(rows.items()):
        _remove(tx, row["_id"])
        diff.deleted.append(name)
    return diff


def _fields(spec: CronSpecJson) -> dict[str, Value]:
    return {
        "path": FunctionPath.parse(spec.udf_path).canonical,
        "args": _encode(spec.udf_args),
        "schedule": _encode(spec.cron_schedule).decode(),
    }


def _add(
    tx: Transaction,
    component: str,
    name: str,
    spec: CronSpecJson,
    fields: Mapping[str, Value],
    now: Timestamp,
) -> None:
    id = tx.insert(CRONS, {"component": component, "name": name, **fields}, privileged=True)
    waiting: dict[str, Value] = {
        "cronJobId": str(id),
        "state": "pending",
        "prevTs": None,
        "nextTs": first_run(spec.cron_schedule, now),
    }
    tx.insert(NEXT_RUNS, waiting, privileged=True)


def _reschedule(tx: Transaction, cron_id: str, schedule: Schedule, now: Timestamp) -> None:
    run = next_run(tx, cron_id)
    if run is None or run.running or run.ts - now <= UNTOUCHED_BEFORE_NS:
        return
    previous = run.previous_ts
    ts = first_run(schedule, now) if previous is None else next_after_run(schedule, previous, now)[0]
    tx.patch(run.row, {"nextTs": ts}, privileged=True)


def _remove(tx: Transaction, cron_id: str) -> None:
    for table in (NEXT_RUNS, LOGS):
        for row in tx.all(table, _BY_CRON, [cron_id], privileged=True):
            tx.delete(row["_id"], privileged=True)
    tx.delete(cron_id, privileged=True)


# ----------------------------------------------------------------------------------------------------- looking


def crons(tx: Transaction, component: str = ROOT) -> list[Cron]:
    """The crons of a component, by name."""
    return [_cron(row) for row in tx.all(CRONS, _BY_NAME, [component], privileged=True)]


def cron(tx: Transaction, id: str) -> Cron | None:
    row = tx.get_value(id, privileged=True)
    return None if row is None else _cron(row)


def next_run(tx: Transaction, cron_id: str) -> NextRun | None:
    row = tx.first(NEXT_RUNS, _BY_CRON, [cron_id], privileged=True)
    return None if row is None else _next_run(row)


def pending_runs(tx: Transaction, runs_max: int) -> list[NextRun]:
    """The runs that wait, the one due first before the others."""
    return _in_order(tx, "pending", runs_max)


def runs_begun(tx: Transaction, runs_max: int) -> list[NextRun]:
    """The runs that were noted as begun: of actions."""
    return _in_order(tx, "inProgress", runs_max)


def logs(tx: Transaction, cron_id: str) -> list[dict[str, Any]]:
    """A cron's last runs, the oldest first."""
    return tx.all(LOGS, _BY_CRON, [cron_id], privileged=True)


def _in_order(tx: Transaction, state: str, runs_max: int) -> list[NextRun]:
    query = {
        "source": {
            "type": "IndexRange",
            "indexName": f"{NEXT_RUNS}.{_BY_NEXT}",
            "order": "asc",
            "range": [{"type": "Eq", "fieldPath": "state", "value": state}],
        },
        "operators": [{"limit": runs_max}],
    }
    return [_next_run(row) for row in tx.collect(query, privileged=True)]


def _cron(row: dict[str, Any]) -> Cron:
    path = FunctionPath.parse(row["path"], row["component"])
    return Cron(
        row["_id"],
        row["_creationTime"],
        row["component"],
        row["name"],
        path,
        row["args"],
        _schedule.decode(row["schedule"]),
    )


def _next_run(row: dict[str, Any]) -> NextRun:
    return NextRun(row["_id"], row["cronJobId"], row["prevTs"], row["nextTs"], row["state"] == "inProgress")


# ----------------------------------------------------------------------------------------------------- running


def still_due(tx: Transaction, run: NextRun) -> Cron | None:
    """The cron, if this very run still waits."""
    found, declared = next_run(tx, run.cron_id), cron(tx, run.cron_id)
    return declared if declared is not None and found is not None and found == run else None


def begin(tx: Transaction, run: NextRun) -> bool:
    """Note for good that a run begins; False when it waits no more."""
    if still_due(tx, run) is None:
        return False
    tx.patch(run.row, {"state": "inProgress"}, privileged=True)
    return True


def end(tx: Transaction, run: NextRun, ended: Ended, now: Timestamp, limits: Limits) -> None:
    """Note how a run ended and move on to the next slot; nothing when a push removed the cron meanwhile."""
    found, declared = next_run(tx, run.cron_id), cron(tx, run.cron_id)
    if found is None or declared is None or found.ts != run.ts:
        return
    following, skipped = next_after_run(declared.schedule, run.ts, now)
    fields: dict[str, Value] = {"state": "pending", "prevTs": run.ts, "nextTs": following}
    tx.patch(found.row, fields, privileged=True)
    _log(tx, declared, run.ts, _status(ended), ended, limits)
    if skipped:
        canceled: dict[str, Value] = {"type": "canceled", "num_canceled": skipped}
        _log(tx, declared, run.ts + 1, canceled, Ended(None, None, (), 0.0), limits)


def _status(ended: Ended) -> dict[str, Value]:
    if ended.error is not None:
        return {"type": "err", "error": _cut(ended.error)[0]}
    text, is_cut = _cut((ended.value_json or b"null").decode())
    result: dict[str, Value] = {"type": "truncated" if is_cut else "default"}
    result["truncatedResult" if is_cut else "value"] = text
    return {"type": "success", "result": result}


def _log(
    tx: Transaction, cron: Cron, ts: Timestamp, status: dict[str, Value], ended: Ended, limits: Limits
) -> None:
    lines, is_cut = _cut_lines(ended.log_lines)
    fields: dict[str, Value] = {
        "cronJobId": cron.id,
        "name": cron.name,
        "ts": ts,
        "udfPath": cron.path.canonical,
        "udfArgs": cron.args_json,
        "status": status,
        "logLines": {"logLines": lines, "isTruncated": is_cut},
        "executionTime": ended.seconds,
    }
    tx.insert(LOGS, fields, privileged=True)
    kept = logs(tx, cron.id)
    for row in kept[: max(0, len(kept) - limits.cron_logs_kept_max)]:
        tx.delete(row["_id"], privileged=True)


def _cut(text: str) -> tuple[str, bool]:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= LOG_TEXT_BYTES_MAX:
        return raw.decode(), False
    return raw[:LOG_TEXT_BYTES_MAX].decode("utf-8", "ignore"), True


def _cut_lines(lines: Iterable[str]) -> tuple[list[Value], bool]:
    kept: list[Value] = []
    left = LOG_TEXT_BYTES_MAX
    for line in lines:
        size = len(line.encode("utf-8", "replace"))
        if size > left:
            return kept, True
        left -= size
        kept.append(line)
    return kept, False
