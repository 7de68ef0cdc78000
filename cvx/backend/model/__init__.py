"""System data: what the backend keeps about itself, as functions over a Transaction.

Rule: no classes that manage anything. Reading through a Transaction makes the reader depend on what it read, so a
push or a change of the environment re-runs exactly the queries that used what changed.
"""

from cvx.backend.model import deployment, environment, file_records, modules, schemas, session_requests
from cvx.backend.model.deployment import CanonicalUrls, DeploymentInfo, UdfConfig
from cvx.backend.model.environment import EnvironmentChange
from cvx.backend.model.file_records import FileRecord, KeptBytes
from cvx.backend.model.modules import ModuleChanges, ModuleRow, ModuleText, NewModule
from cvx.backend.model.schemas import DeployedIndex
from cvx.backend.model.session_requests import RecordedAnswer
from cvx.backend.model.tables import SYSTEM_TABLES

__all__ = [
    "SYSTEM_TABLES",
    "CanonicalUrls",
    "DeployedIndex",
    "DeploymentInfo",
    "EnvironmentChange",
    "FileRecord",
    "KeptBytes",
    "ModuleChanges",
    "ModuleRow",
    "ModuleText",
    "NewModule",
    "RecordedAnswer",
    "UdfConfig",
    "deployment",
    "environment",
    "file_records",
    "modules",
    "schemas",
    "session_requests",
]
