"""Talking to a deployment, ours or any other that speaks the protocol."""

from cvx.toolchain.client.auth_setup import AuthSetup, plan_auth_setup
from cvx.toolchain.client.changes import Change, Changes, changes_of
from cvx.toolchain.client.http import (
    CanonicalUrls,
    DeploymentClient,
    FunctionAnswer,
    LogEntry,
    LogLine,
    raise_for_function,
    unreachable,
)
from cvx.toolchain.client.live import LiveClient, QueryResult
from cvx.toolchain.client.logs import LoggedCall, follow_logs, render_log
from cvx.toolchain.client.push import (
    Analysis,
    HashedModule,
    PushedCode,
    Pusher,
    PushOutcome,
)
from cvx.toolchain.client.tasks import end_task

__all__ = [
    "Analysis",
    "AuthSetup",
    "CanonicalUrls",
    "Change",
    "Changes",
    "DeploymentClient",
    "FunctionAnswer",
    "HashedModule",
    "LiveClient",
    "LogEntry",
    "LogLine",
    "LoggedCall",
    "PushOutcome",
    "PushedCode",
    "Pusher",
    "QueryResult",
    "changes_of",
    "end_task",
    "follow_logs",
    "plan_auth_setup",
    "raise_for_function",
    "render_log",
    "unreachable",
]
