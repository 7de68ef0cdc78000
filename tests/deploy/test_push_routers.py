"""Routers that a push refuses, each with what is wrong and where; and what a push tells of a good one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.pushing import Client, run
from tests.deploy.test_push import BASE

pytestmark = [pytest.mark.deno, pytest.mark.node]

HEAD = (
    'import { httpActionGeneric as httpAction, httpRouter } from "convex/server";\n'
    "const http = httpRouter();\nconst ok = httpAction(async () => new Response());\n"
)
END = "export default http;\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('http.route({ path: "no-slash", method: "GET", handler: ok });', "does not start with a /"),
        ('http.route({ pathPrefix: "/no-end", method: "GET", handler: ok });', "must end with a /"),
        ('http.route({ pathPrefix: "no/", method: "GET", handler: ok });', "does not start with a /"),
        ('http.route({ path: "/.files/x", method: "GET", handler: ok });', "is reserved"),
        ('http.route({ path: "/a", pathPrefix: "/a/", method: "GET", handler: ok });', "cannot contain both"),
        ('http.route({ method: "GET", handler: ok } as any);', "must contain either"),
        ('http.route({ path: "/a", method: "TRACE" as any, handler: ok });', "is not an allowed HTTP method"),
        ('http.route({ path: "/a", method: "get" as any, handler: ok });', "is not an allowed HTTP method"),
        ('http.route({ path: "/a", method: "GET" } as any);', "route requires handler"),
        (
            'for (const n of [1, 2]) http.route({ path: "/a", method: "GET", handler: ok });',
            "Path '/a' for method GET already in use",
        ),
        (
            'for (const n of [1, 2]) http.route({ pathPrefix: "/a/", method: "PUT", handler: ok });',
            "pathPrefix /a/ is already defined",
        ),
        ('fetch("https://example.com");', "Can't use fetch()"),
    ],
)
def test_routes_that_cannot_be(tmp_path: Path, body: str, words: str) -> None:
    async def test(client: Client) -> None:
        refused = await client.refused_start(BASE | {"http.ts": f"{HEAD}{body}\n{END}"})
        assert refused["code"] == "InvalidModules"
        assert "Failed to analyze http.js" in refused["message"] and words in refused["message"]

    run(tmp_path, test)


@pytest.mark.parametrize("source", [HEAD, f"{HEAD}export {{ http }};\n", "export default 5;\n"])
def test_what_is_no_router(tmp_path: Path, source: str) -> None:
    async def test(client: Client) -> None:
        refused = await client.refused_start(BASE | {"http.ts": source})
        assert refused["code"] == "InvalidModules" and "httpRouter()" in refused["message"]

    run(tmp_path, test)


def test_the_routes_are_listed_in_their_order(tmp_path: Path) -> None:
    routes = (
        'http.route({ path: "/b", method: "POST", handler: ok });\n'
        'http.route({ path: "/a", method: "GET", handler: ok });\n'
        'http.route({ pathPrefix: "/c/", method: "PATCH", handler: ok });\n'
    )

    async def test(client: Client) -> None:
        started = await client.start(BASE | {"http.ts": HEAD + routes + END})
        listed = [item["route"] for item in started["analysis"][""]["functions"]["http.js"]["httpRoutes"]]
        assert listed == [
            {"path": "/a", "method": "GET"},
            {"path": "/b", "method": "POST"},
            {"path": "/c/*", "method": "PATCH"},
        ]

    run(tmp_path, test)
