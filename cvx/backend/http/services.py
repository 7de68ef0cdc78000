"""What HTTP handlers may use of the backend."""

from __future__ import annotations

from dataclasses import dataclass

from cvx.backend.auth import Authenticator
from cvx.backend.config import BackendConfig
from cvx.backend.database import Database
from cvx.backend.deploy import PushService
from cvx.backend.functions import FunctionExecutor
from cvx.backend.model import DeploymentInfo
from cvx.backend.sync import SyncServices


@dataclass(frozen=True)
class Services:
    """The running parts, made and owned by backend.py."""

    config: BackendConfig
    deployment: DeploymentInfo
    db: Database
    executor: FunctionExecutor
    authenticator: Authenticator
    sync: SyncServices
    pushes: PushService
