"""What a sync conversation says of a result, and the errors it ends with."""

from __future__ import annotations

from msgspec import UNSET, Raw, UnsetType

from cvx.errors import CvxError
from cvx.protocol.sync_events import CallResult, QueryResult
from cvx.protocol.sync_messages import (
    ActionResponse,
    MutationResponse,
    QueryFailed,
    QueryUpdated,
    StateVersion,
)


def query_change(query_id: int, result: QueryResult) -> QueryUpdated | QueryFailed:
    if result.value is not None:
        return QueryUpdated(query_id, result.value, result.log_lines, result.journal)
    data = _data(result.error_data)
    return QueryFailed(query_id, result.error_message, result.log_lines, result.journal, data)


def mutation_response(request_id: int, result: CallResult) -> MutationResponse:
    if result.value is None:
        message, data = Raw(result.error_message), _data(result.error_data)
        return MutationResponse(request_id, False, message, None, result.log_lines, data)
    if result.ts is None:
        raise AssertionError("a successful mutation has a timestamp")
    ts = StateVersion.at(0, 0, result.ts).ts
    return MutationResponse(request_id, True, result.value, ts, result.log_lines)


def action_response(request_id: int, result: CallResult) -> ActionResponse:
    if result.value is None:
        message, data = Raw(result.error_message), _data(result.error_data)
        return ActionResponse(request_id, False, message, result.log_lines, data)
    return ActionResponse(request_id, True, result.value, result.log_lines)


def _data(error_data: Raw | None) -> Raw | UnsetType:
    return UNSET if error_data is None else error_data


def internal(message: str) -> CvxError:
    return CvxError("InternalServerError", message, kind="internal")


def too_many(code: str, what: str) -> CvxError:
    return CvxError(code, f"Too many {what}.", kind="rate_limited", retry_when="time")
