"""Which front-end framework an app uses, and the names its bundler wants the deployment's URLs under.

Source: reference/cli-and-deploy.md §1.5; the first row whose package the app depends on wins.
"""

from __future__ import annotations

from dataclasses import dataclass

from cvx.toolchain.project.project import PackageJson


@dataclass(frozen=True)
class Framework:
    """Names of the variables that carry the deployment's URL and its site URL to the front end."""

    name: str
    url_variable: str
    site_url_variable: str
    dev_server_url: str | None = None


def _prefixed(name: str, prefix: str, dev_server_url: str | None) -> Framework:
    return Framework(name, f"{prefix}CONVEX_URL", f"{prefix}CONVEX_SITE_URL", dev_server_url)


_START = _prefixed("TanStackStart", "VITE_", "http://localhost:3000")
_BY_PACKAGE = (
    ("react-scripts", _prefixed("create-react-app", "REACT_APP_", "http://localhost:3000")),
    ("next", _prefixed("Next.js", "NEXT_PUBLIC_", "http://localhost:3000")),
    ("expo", _prefixed("Expo", "EXPO_PUBLIC_", None)),
    ("@sveltejs/kit", _prefixed("SvelteKit", "PUBLIC_", "http://localhost:5173")),
    ("@tanstack/start", _START),
    ("@tanstack/react-start", _START),
    ("vite", _prefixed("Vite", "VITE_", "http://localhost:5173")),
    ("@remix-run/dev", _prefixed("Remix", "", "http://localhost:3000")),
)
NO_FRAMEWORK = _prefixed("none", "", None)

URL_VARIABLES = tuple(dict.fromkeys([f.url_variable for _, f in _BY_PACKAGE]))
SITE_URL_VARIABLES = tuple(dict.fromkeys([f.site_url_variable for _, f in _BY_PACKAGE]))


def detect_framework(package_json: PackageJson | None) -> Framework:
    """The framework the app depends on; `NO_FRAMEWORK` (plain `CONVEX_URL`) when none is known."""
    if package_json is not None:
        for package, framework in _BY_PACKAGE:
            if package_json.has(package):
                return framework
    return NO_FRAMEWORK
