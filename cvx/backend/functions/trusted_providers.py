"""Whose tokens a deployment believes, at this moment: what was pushed, and the built-in issuer where it is on.

A token is checked against the providers of the latest commit, so a push or a changed variable counts for the next
token. Who is on a socket already stays until the token expires (reference/runtime-and-database.md §10).
"""

from __future__ import annotations

from dataclasses import dataclass

from cvx.backend.auth import DevIssuer, Provider, provider_of
from cvx.backend.database import Database, Transaction
from cvx.backend.functions.derived import Derived
from cvx.backend.model import deployment
from cvx.backend.model.deployment import CanonicalUrls, DeploymentInfo


@dataclass(frozen=True)
class _Trust:
    providers: tuple[Provider, ...]
    urls: CanonicalUrls


class TrustedProviders:
    """`close` when done."""

    def __init__(self, db: Database, info: DeploymentInfo, dev_issuer: DevIssuer | None) -> None:
        self._db = db
        self._info = info
        self._dev_issuer = dev_issuer
        self._trust = Derived(db, self._load)

    def providers(self) -> tuple[Provider, ...]:
        return self._now().providers

    def urls(self) -> CanonicalUrls:
        """The deployment's own addresses."""
        return self._now().urls

    def close(self) -> None:
        self._trust.close()

    def _now(self) -> _Trust:
        with self._db.snapshot() as snapshot:
            return self._trust.at(snapshot)

    def _load(self, tx: Transaction) -> _Trust:
        urls = deployment.canonical_urls(tx, self._info)
        found = [provider_of(declared) for declared in deployment.auth_providers(tx)]
        if self._dev_issuer is not None:
            found.append(self._dev_issuer.provider(urls.cloud))
        return _Trust(tuple(found), urls)
