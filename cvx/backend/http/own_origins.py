"""This deployment's own addresses, answered inside the process.

An app can be its own identity provider (Convex Auth is): then the backend asks its own HTTP actions for keys. From
inside a container or behind a proxy the public address need not be reachable, and it need not be.

Rule: only what is at the root of an origin is known as ours; anything else is fetched as anybody fetches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cvx.backend.model import CanonicalUrls, DeploymentInfo

if TYPE_CHECKING:
    import httpx


def own_transport(
    url: str, urls: CanonicalUrls, info: DeploymentInfo, api: Any, site: Any
) -> httpx.AsyncBaseTransport | None:
    """The way to `url` if it is ours, through the ASGI app of the API or of the site; else None."""
    asked = _origin(url)
    for app, addresses in ((site, (urls.site, info.site_url)), (api, (urls.cloud, info.cloud_url))):
        if any(asked == _origin(address) and not urlsplit(address).path for address in addresses):
            import httpx

            return httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return None


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    host = parts.netloc.lower()
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return parts.scheme, host[: -len(default)] if default and host.endswith(default) else host
