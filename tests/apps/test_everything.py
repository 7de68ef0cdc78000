"""One app that uses everything the API of queries and mutations has, with exact expected results.

The driver (`everything/drive/*.mjs`) uses the official HTTP client and `ConvexClient`; the PyPI client is driven from here.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import convex
import pytest

from tests.apps.driving import HERE, drive, running
from tests.backend_process import BackendProcess

pytestmark = [pytest.mark.deno, pytest.mark.node]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BackendProcess, Path]]:
    folder = tmp_path_factory.mktemp("everything")
    # So long that those beside an endless loop keep theirs on a busy machine, too.
    options = ("--limit", "function_user_time_s=3")
    with running(HERE / "everything", folder, options=options) as (backend, app):
        at = ["--url", backend.url, "--admin-key", backend.admin_key]
        subprocess.run(
            [sys.executable, "-m", "cvx", "env", "set", "GREETING", "hello", *at],
            cwd=app,
            check=True,
            capture_output=True,
        )
        yield backend, app


def test_through_the_javascript_clients(everything: tuple[BackendProcess, Path]) -> None:
    backend, app = everything
    print(drive(app / "drive.mjs", backend))


VALUES: list[Any] = [
    None,
    True,
    1.5,
    -0.0,
    math.inf,
    convex.ConvexInt64(-(2**63)),
    convex.ConvexInt64(2**63 - 1),
    "ünïcode 😀",
    b"\x00\xff",
    [],
    [1.0, [None, {"a": convex.ConvexInt64(0)}]],
    {"a": {"b": [False]}, "": "empty name"},
]


def test_values_through_the_python_client(everything: tuple[BackendProcess, Path]) -> None:
    client = convex.ConvexClient(everything[0].url)
    for value in VALUES:
        for answer in (
            client.query("kinds:echo", {"value": value}),
            client.mutation("kinds:echoFromMutation", {"value": value}),
        ):
            assert answer == value
            assert type(answer) is type(value)
            if isinstance(value, float):
                assert math.copysign(1, answer) == math.copysign(1, value)
    assert math.isnan(client.query("kinds:echo", {"value": math.nan}))
    # Python's int is a float to Convex, as the client documents.
    assert client.query("kinds:acceptsNumber", {"value": 3}) == 3.0


def test_errors_through_the_python_client(everything: tuple[BackendProcess, Path]) -> None:
    client = convex.ConvexClient(everything[0].url)
    data: Any = {"code": "SOLD_OUT", "left": convex.ConvexInt64(0), "list": [1.0, None]}
    for call in (client.query, client.mutation):
        with pytest.raises(convex.ConvexError) as caught:
            call("errors:throwsData" if call == client.query else "errors:mutationThrowsData", {"data": data})
        assert caught.value.data == data
    with pytest.raises(Exception, match=r"Uncaught RangeError: far out") as plain:
        client.query("errors:throwsError", {"message": "far out"})
    assert not isinstance(plain.value, convex.ConvexError)
    with pytest.raises(Exception, match="Could not find public function for 'nesting:secret'"):
        client.query("nesting:secret", {"n": 1})
    with pytest.raises(Exception, match="ArgumentValidationError"):
        client.query("kinds:acceptsInt64", {"value": 1.0})


def test_a_subscription_of_the_python_client_follows_writes(everything: tuple[BackendProcess, Path]) -> None:
    backend, _ = everything
    client, writer = convex.ConvexClient(backend.url), convex.ConvexClient(backend.url)
    subscription = client.subscribe("writing:count", {"group": "from python"})
    assert next(subscription) == []
    for n in range(3):
        writer.mutation("writing:insert", {"text": f"p{n}", "group": "from python"})
        assert next(subscription) == [f"p{m}" for m in range(n + 1)]
    subscription.unsubscribe()
