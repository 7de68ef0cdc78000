"""What HTTP handlers may use of the backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cvx.backend.auth import Authenticator, DevIssuer, TokenSigner
from cvx.backend.config import BackendConfig
from cvx.backend.database import Database
from cvx.backend.deploy import PushService
from cvx.backend.functions import FileStorage, FunctionExecutor
from cvx.backend.jobs import Transfers
from cvx.backend.model import CanonicalUrls, DeploymentInfo
from cvx.backend.sync import SyncServices


@dataclass(frozen=True)
class Issuing:
    """What the deployment signs tokens with, and its addresses at this moment."""

    signer: TokenSigner
    dev_issuer: DevIssuer | None
    urls: Callable[[], CanonicalUrls]


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
    files: FileStorage
    issuing: Issuing
    transfers: Transfers
