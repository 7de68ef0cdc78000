"""A backend that is killed, or stopped, under connected official clients, and started again on the same folder."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import convex
import pytest

from tests.apps.driving import running
from tests.backend_process import BackendProcess
from tests.node_env import node

pytestmark = [pytest.mark.deno]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BackendProcess, Path]]:
    with running(Path(__file__).parent / "react", tmp_path_factory.mktemp("reconnect")) as served:
        yield served


@pytest.mark.node
@pytest.mark.slow
def test_javascript_clients_survive_a_restart(served: tuple[BackendProcess, Path]) -> None:
    backend, app = served
    process = subprocess.Popen(
        [node(), "--no-warnings", "reconnect.mjs", backend.url],
        cwd=app,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    deadline = threading.Timer(240, process.kill)
    deadline.start()
    said: list[str] = []
    try:
        for line in process.stdout:
            if not line.startswith("ask "):
                said.append(line)
                continue
            {"kill": backend.kill, "stop": backend.stop, "start": backend.start}[
                line.removeprefix("ask ").strip()
            ]()
            process.stdin.write(line.replace("ask", "done"))
            process.stdin.flush()
        assert process.wait(60) == 0, "".join(said)
    finally:
        deadline.cancel()
        process.kill()
        process.wait(60)
        process.stdin.close()
        process.stdout.close()


def test_a_python_subscription_survives_a_restart(served: tuple[BackendProcess, Path]) -> None:
    backend, _ = served
    client = convex.ConvexClient(backend.url)
    subscription = client.subscribe("items:texts", {"group": "python"})
    assert next(subscription) == []
    client.mutation("items:add", {"group": "python", "ns": [1.0]})
    assert next(subscription) == ["#1"]
    backend.kill()
    backend.start()
    convex.ConvexClient(backend.url).mutation("items:add", {"group": "python", "ns": [2.0]})
    for value in subscription:
        if value == ["#1", "#2"]:
            break
        assert value == ["#1"]
    subscription.unsubscribe()
