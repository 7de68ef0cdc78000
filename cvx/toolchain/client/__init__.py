"""Talking to a deployment, ours or any other that speaks the protocol.

Rule: what a name needs is imported when it is first asked for: a command that sends one request loads neither sockets
nor pushes, which take longer to import than its request takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvx.toolchain.client.auth_setup import AuthSetup, plan_auth_setup
    from cvx.toolchain.client.changes import Change, Changes, changes_of
    from cvx.toolchain.client.exports import ExportedZip, export_table, export_zip, save
    from cvx.toolchain.client.http import (
        CanonicalUrls,
        DeploymentClient,
        FunctionAnswer,
        LogEntry,
        LogLine,
        raise_for_function,
        unreachable,
        without_preamble,
    )
    from cvx.toolchain.client.imports import (
        ImportResult,
        ImportWish,
        Preview,
        Source,
        TableChange,
        import_file,
        imports_under_way,
    )
    from cvx.toolchain.client.live import LiveClient, QueryResult
    from cvx.toolchain.client.logs import LoggedCall, follow_logs, render_log
    from cvx.toolchain.client.push import (
        Analysis,
        DroppedIndex,
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
    "DroppedIndex",
    "ExportedZip",
    "FunctionAnswer",
    "HashedModule",
    "ImportResult",
    "ImportWish",
    "LiveClient",
    "LogEntry",
    "LogLine",
    "LoggedCall",
    "Preview",
    "PushOutcome",
    "PushedCode",
    "Pusher",
    "QueryResult",
    "Source",
    "TableChange",
    "changes_of",
    "end_task",
    "export_table",
    "export_zip",
    "follow_logs",
    "import_file",
    "imports_under_way",
    "plan_auth_setup",
    "raise_for_function",
    "render_log",
    "save",
    "unreachable",
    "without_preamble",
]

_HOMES = {
    "auth_setup": ("AuthSetup", "plan_auth_setup"),
    "changes": ("Change", "Changes", "changes_of"),
    "exports": ("ExportedZip", "export_table", "export_zip", "save"),
    "http": (
        "CanonicalUrls",
        "DeploymentClient",
        "FunctionAnswer",
        "LogEntry",
        "LogLine",
        "raise_for_function",
        "unreachable",
        "without_preamble",
    ),
    "imports": (
        "ImportResult",
        "ImportWish",
        "Preview",
        "Source",
        "TableChange",
        "import_file",
        "imports_under_way",
    ),
    "live": ("LiveClient", "QueryResult"),
    "logs": ("LoggedCall", "follow_logs", "render_log"),
    "push": ("Analysis", "DroppedIndex", "HashedModule", "PushedCode", "Pusher", "PushOutcome"),
    "tasks": ("end_task",),
}
_HOME_OF = {name: file for file, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found
