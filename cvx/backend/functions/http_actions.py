"""Which route of the app's router answers a request: for the log, and to know whether there is a router at all.

The router itself (the default export of convex/http.ts) decides when it runs: it may be one of the user's own making,
such as Hono's, whose routes are patterns. What is said here follows the npm package's router: an exact path of the
method, else its longest prefix; HEAD is answered by the route of GET; a slash more or less is another path.

Components and an app's `httpPrefix` will be resolved here, before a router is asked: they name another component and
the rest of the path.

Source: reference/runtime-and-database.md §1.10, §11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cvx.errors import CvxError

HTTP_MODULE = "http.js"
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
"""What a route can be registered for; requests may also be HEAD."""


@dataclass(frozen=True)
class HttpRoutes:
    """The routes that a router listed when it was pushed."""

    exact: frozenset[tuple[str, str]] = frozenset()
    """Method and path."""
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By method, longest first."""

    @classmethod
    def of(cls, listed: Iterable[Mapping[str, Any]]) -> HttpRoutes:
        """From a module's analysis: `{route: {method, path}}`; the path of a prefix route ends in `*`."""
        exact: set[tuple[str, str]] = set()
        prefixes: dict[str, list[str]] = {}
        for item in listed:
            method, path = item["route"]["method"], item["route"]["path"]
            if path.endswith("*"):
                prefixes.setdefault(method, []).append(path[:-1])
            else:
                exact.add((method, path))
        return cls(
            frozenset(exact),
            {method: tuple(sorted(set(found), key=len, reverse=True)) for method, found in prefixes.items()},
        )

    def routed_path(self, method: str, path: str) -> str | None:
        """The path of the route, as it was registered (`/files/*` for a prefix); None when none is listed for it."""
        method = "GET" if method == "HEAD" else method
        if (method, path) in self.exact:
            return path
        for prefix in self.prefixes.get(method, ()):
            if path.startswith(prefix):
                return prefix + "*"
        return None


def not_enabled() -> CvxError:
    """There is no router to ask."""
    return CvxError(
        "HttpActionsNotEnabled",
        "This Convex deployment does not have HTTP actions enabled.",
        kind="not_found",
        hint="Export an httpRouter() from convex/http.ts and push.",
        retry_when="files",
    )
