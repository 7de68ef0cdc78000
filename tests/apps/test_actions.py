"""Actions as apps use them, through the official clients: the guide's app, limits, lost connections, the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from convex import ConvexClient, ConvexError
from convex.http_client import ConvexHttpClient

from tests.processes import still_alive
from tests.apps.driving import HERE, drive, running
from tests.apps.guides import blocks_missing
from tests.cli.command_line import cvx
from tests.compat.official_cli import OfficialCli
from tests.node_env import node

pytestmark = [pytest.mark.deno, pytest.mark.node]
APP = HERE / "actions"


def test_the_guides_code_is_the_apps() -> None:
    assert blocks_missing("actions", APP) == []


def test_through_the_official_clients(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))


def test_from_the_command_lines(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        at = ("--url", backend.url, "--admin-key", backend.admin_key)
        ran = cvx("run", "probes:slow", '{"name": "cli", "ms": 10}', *at, cwd=folder)
        assert ran.code == 0 and float(ran.out) == 2, ran
        failed = cvx("run", "probes:refuse", *at, cwd=folder)
        assert failed.code != 0 and "about to refuse" in failed.err + failed.out
        official = OfficialCli(folder, backend)
        assert official("run", "probes:inner", '{"depth": 3}').stdout.strip() == "3"
        logged = cvx("logs", "--history", "50", "--no-follow", *at, cwd=folder)
        assert "about to refuse" in logged.out, logged


def test_the_python_client(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, _):
        http, live = ConvexHttpClient(backend.url), ConvexClient(backend.url)
        for client in (http, live):
            assert client.action("probes:slow", {"name": f"py {id(client)}", "ms": 5}) == 2
            with pytest.raises(ConvexError) as caught:
                client.action("probes:refuse", {})
            assert caught.value.data["code"] == "no"


def test_a_backend_that_dies_loses_its_actions_and_runs_none_again(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        script = folder / "lost.mjs"
        script.write_text(_LOST)
        client = subprocess.Popen(
            [node(), "--no-warnings", str(script), backend.url],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        with client:
            try:
                assert client.stdout is not None
                assert client.stdout.readline() == "begun\n"
                children = backend.children()
                backend.kill()
                backend.start()
                said = list(iter(client.stdout.readline, ""))
                assert any("Connection lost while action was in flight" in line for line in said), said
                assert said[-1] == "again 2\n"
            finally:
                client.kill()
        assert backend.call("query", "probes:marks", {"name": "lost"}) == 1
        assert children, "the action ran in a process of its own"
        assert still_alive(children) == set(), "its processes end with it"


_LOST = """
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";
const client = new ConvexClient(process.argv[2], { logger: false });
const lost = client.action(api.probes.slow, { name: "lost", ms: 60_000 });
lost.catch((error) => console.log(error.message));
while ((await client.query(api.probes.marks, { name: "lost" })) !== 1) await new Promise((resolve) => setTimeout(resolve, 20));
console.log("begun");
await lost.catch(() => {});
console.log("again", await client.action(api.probes.slow, { name: "after", ms: 1 }));
process.exit(0);
"""
