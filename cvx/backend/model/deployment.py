"""What a deployment knows about itself: its name and URLs, and how its code was last pushed.

One row each in `_deployment_settings`, by name. The name and default URLs come from the configuration the
backend was started with; only what an admin changed is stored.

Source: reference/cli-and-deploy.md §2.6, §2.7 (udfConfig), §5.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cvx.backend.database import Transaction
from cvx.errors import CvxError

SETTINGS = "_deployment_settings"
_BY_NAME = "by_name"

DESTINATIONS = {"convexCloud": "cloud", "convexSite": "site"}


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """What the backend was started with. URLs without a trailing slash."""

    instance_name: str
    cloud_url: str
    site_url: str


@dataclass(frozen=True, slots=True)
class CanonicalUrls:
    cloud: str
    site: str


@dataclass(frozen=True, slots=True)
class UdfConfig:
    """How the pushed code was built. `server_version` is None before the first push."""

    server_version: str | None
    import_phase_ms: float
    import_seed: bytes
    functions_dir: str = "convex/"
    node_version: str | None = None
    node_dependencies: tuple[tuple[str, str], ...] = ()
    """Packages, with their versions, that "use node" modules import and the bundle leaves out."""


NO_UDF_CONFIG = UdfConfig(None, 0.0, bytes(32))


def canonical_urls(tx: Transaction, info: DeploymentInfo) -> CanonicalUrls:
    """The URLs that functions and clients are told."""
    stored = _setting(tx, "canonicalUrls") or {}
    return CanonicalUrls(stored.get("cloud") or info.cloud_url, stored.get("site") or info.site_url)


def set_canonical_url(tx: Transaction, destination: str, url: str | None) -> None:
    """Set or (None) reset the URL of `convexCloud` or `convexSite`."""
    name = DESTINATIONS.get(destination)
    if name is None:
        raise CvxError(
            "InvalidRequestDestination",
            f"'{destination[:64]}' is neither convexCloud nor convexSite.",
            hint="Use requestDestination convexCloud or convexSite.",
        )
    stored = dict(_setting(tx, "canonicalUrls") or {})
    if url is None:
        stored.pop(name, None)
    else:
        stored[name] = url.rstrip("/")
    _set(tx, "canonicalUrls", stored)


def udf_config(tx: Transaction) -> UdfConfig:
    stored = _setting(tx, "udfConfig")
    if stored is None:
        return NO_UDF_CONFIG
    return UdfConfig(
        server_version=stored["serverVersion"],
        import_phase_ms=stored["importPhaseMs"],
        import_seed=stored["importSeed"],
        functions_dir=stored["functionsDir"],
        node_version=stored["nodeVersion"],
        node_dependencies=tuple(
            (item["name"], item["version"]) for item in stored.get("nodeDependencies", ())
        ),
    )


def set_udf_config(tx: Transaction, config: UdfConfig) -> None:
    fields = {
        "serverVersion": config.server_version,
        "importPhaseMs": config.import_phase_ms,
        "importSeed": config.import_seed,
        "functionsDir": config.functions_dir,
        "nodeVersion": config.node_version,
        "nodeDependencies": [
            {"name": name, "version": version} for name, version in config.node_dependencies
        ],
    }
    _set(tx, "udfConfig", fields)


def auth_providers(tx: Transaction) -> list[dict[str, Any]]:
    """The providers of the pushed auth config, as in cli-and-deploy.md §2.7 (`appAuth`)."""
    stored = _setting(tx, "auth")
    return [] if stored is None else list(stored["providers"])


def auth_urls(tx: Transaction) -> CanonicalUrls | None:
    """The deployment's URLs when the auth config was evaluated: it may name them. None: not known."""
    stored = (_setting(tx, "auth") or {}).get("urls")
    return None if stored is None else CanonicalUrls(stored["cloud"], stored["site"])


def set_auth_providers(tx: Transaction, providers: list[dict[str, Any]], urls: CanonicalUrls) -> None:
    _set(tx, "auth", {"providers": providers, "urls": {"cloud": urls.cloud, "site": urls.site}})


def declared_environment(tx: Transaction) -> list[list[Any]] | None:
    """The variables that the app declares (cli-and-deploy.md §2.7, `envVars`); None when it declares none."""
    stored = _setting(tx, "declaredEnvironment")
    return None if stored is None else stored["variables"]


def set_declared_environment(tx: Transaction, variables: list[list[Any]] | None) -> None:
    if variables is not None or declared_environment(tx) is not None:
        _set(tx, "declaredEnvironment", {"variables": variables})


def analysis_environment(tx: Transaction) -> str | None:
    """A digest of the environment that the deployed code was analysed in."""
    stored = _setting(tx, "analysisEnvironment")
    return None if stored is None else stored["digest"]


def set_analysis_environment(tx: Transaction, digest: str) -> None:
    _set(tx, "analysisEnvironment", {"digest": digest})


def function_handle_key(tx: Transaction) -> bytes:
    """What function handles are digested with: stays the same from push to push."""
    return udf_config(tx).import_seed


def unfinished_texts(tx: Transaction) -> dict[str, float]:
    """Module texts (by hash) that a push stored and no push has put in force, with when (ms since 1970)."""
    stored = _setting(tx, "unfinishedTexts")
    return {} if stored is None else {row["sha256"]: row["ms"] for row in stored["texts"]}


def set_unfinished_texts(tx: Transaction, texts: Mapping[str, float]) -> None:
    rows = [{"sha256": sha256, "ms": ms} for sha256, ms in sorted(texts.items())]
    if rows or unfinished_texts(tx):
        _set(tx, "unfinishedTexts", {"texts": rows})


def _setting(tx: Transaction, name: str) -> dict[str, Any] | None:
    row = tx.first(SETTINGS, _BY_NAME, [name], privileged=True)
    return None if row is None else row["value"]


def _set(tx: Transaction, name: str, value: dict[str, Any]) -> None:
    row = tx.first(SETTINGS, _BY_NAME, [name], privileged=True)
    if row is None:
        tx.insert(SETTINGS, {"name": name, "value": value}, privileged=True)
    elif row["value"] != value:
        tx.patch(row["_id"], {"value": value}, privileged=True)
