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
    without_preamble,
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
from cvx.toolchain.client.transfers import (
    ExportedZip,
    ImportResult,
    ImportWish,
    Preview,
    Source,
    TableChange,
    export_table,
    export_zip,
    import_file,
    imports_under_way,
    save,
)

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
