"""Every system table the backend has beside the database's own three: name, number, indexes.

Numbers are forever: they are part of every document id. `_scheduled_functions` and `_storage` have the numbers
that clients know (reference/values-and-sync.md §2.2, §2.5); user code can use the built-in indexes of these two only.

Rule: data only. A new table gets the next free number; a number is never used again.
"""

from __future__ import annotations

from cvx.backend.database import SystemTable

SYSTEM_TABLES: tuple[SystemTable, ...] = (
    SystemTable("_modules", 520, {"by_path": ("component", "path"), "by_sha256": ("sha256",)}),
    SystemTable("_module_sources", 521, {"by_sha256": ("sha256",)}),
    SystemTable("_environment_variables", 522, {"by_name": ("name",)}),
    SystemTable("_session_requests", 523, {"by_session": ("sessionId", "requestId", "part")}),
    SystemTable("_deployment_settings", 524, {"by_name": ("name",)}),
    SystemTable(
        "_scheduled_jobs",
        525,
        {
            "by_due": ("queue", "state", "due"),
            "by_job": ("component", "job"),
            "by_component": ("component", "due"),
            "by_path": ("component", "path", "due"),
        },
    ),
    SystemTable("_cron_jobs", 526, {"by_name": ("component", "name")}),
    SystemTable("_cron_next_run", 527, {"by_cron": ("cronJobId",), "by_next": ("state", "nextTs")}),
    SystemTable("_cron_job_logs", 528, {"by_cron": ("cronJobId", "ts")}),
    SystemTable(
        "_stored_files",
        529,
        {"by_file": ("component", "fileId"), "by_storage_id": ("storageId",), "by_key": ("key",)},
    ),
    SystemTable("_doomed_files", 530, {"by_key": ("key",)}),
    SystemTable("_snapshot_imports", 531, {"by_state": ("state.state",)}),
    SystemTable("_exports", 532, {"by_state": ("state",), "by_start": ("start_ts",)}),
    SystemTable("_components", 533, {"by_path": ("path",)}),
    SystemTable("_scheduled_functions", 539, {"by_completed": ("completedTime",)}),
    SystemTable("_storage", 540),
)
