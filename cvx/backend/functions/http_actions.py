"""Which route of the app's router answers a request: for the log, and to know whether there is a router at all.

The router itself (the default export of convex/http.ts) decides when it runs: it may be one of the user's own making,
such as Hono's, whose routes are patterns. What is said here follows the npm package's router: an exact path of the
method, else its longest prefix; HEAD is answered by the route of GET; a slash more or less is another path.

A component may be mounted under a prefix, which competes with the prefixes of its parent's routes: the longest one
wins. Its own router is then asked for the rest of the path, as if it were alone. An app's `httpPrefix` is taken off first.

Source: reference/runtime-and-database.md §1.10, §11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cvx.backend.database import ROOT
from cvx.backend.functions.components import ComponentTree, child_path
from cvx.backend.model.components import APP
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


@dataclass(frozen=True, slots=True)
class Routed:
    """Whose router is to be asked, for which path. `route`: the path of the route as it was registered, if listed."""

    component: str
    path: str
    route: str | None


def find_route(
    tree: ComponentTree, routes_of: Callable[[str], HttpRoutes | None], method: str, path: str
) -> Routed | None:
    """Which component's router answers; None when there is no router on the way, or the app's prefix is not met."""
    app = tree.active.get(ROOT, APP)
    prefix = app.mount.http_prefix
    if prefix is not None:
        if not path.startswith(prefix):
            return None
        path = path[len(prefix) - 1 :]
    component = ROOT
    while True:
        routes = routes_of(component) or HttpRoutes()
        instance = tree.active.get(component)
        route = routes.routed_path(method, path)
        mounts = {} if instance is None else instance.mount.http_mounts
        longest = max((each for each in mounts if path.startswith(each)), key=len, default=None)
        is_exact = route is not None and not route.endswith("*")
        if longest is None or is_exact or (route is not None and len(route) - 1 >= len(longest)):
            return Routed(component, path, route) if routes_of(component) is not None else None
        component, path = child_path(component, mounts[longest]), path[len(longest) - 1 :]


def not_found() -> CvxError:
    """There are routers, but none for this path."""
    return CvxError("NoRoute", "No matching routes found", kind="not_found", retry_when="files")


def not_enabled() -> CvxError:
    """There is no router to ask."""
    return CvxError(
        "HttpActionsNotEnabled",
        "This Convex deployment does not have HTTP actions enabled.",
        kind="not_found",
        hint="Export an httpRouter() from convex/http.ts and push.",
        retry_when="files",
    )
