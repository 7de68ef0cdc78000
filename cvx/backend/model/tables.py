"""Every system table the backend has beside the database's own three: name, number, indexes.

Numbers are forever: they are part of every document id. `_scheduled_functions` and `_storage` have the numbers
that clients know (reference/values-and-sync.md §2.2, §2.5); both are empty until the issues that fill them.

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
    SystemTable("_scheduled_functions", 539),
    SystemTable("_storage", 540),
)
