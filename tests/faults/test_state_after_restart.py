"""What a restarted backend still knows: everything that clients, pushers and admins were told."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.apps.driving import HERE, running
from tests.backend_process import BackendProcess, free_port

pytestmark = [pytest.mark.deno]
SESSION = "5c0b1f44-7c3f-4a53-9f8d-27a0a9a0c001"


def conversation(backend: BackendProcess, *messages: dict[str, Any], until: str) -> dict[str, Any]:
    """Say this on a socket of the session; the first answer of this type."""
    with connect(f"ws://127.0.0.1:{backend.port}/api/1.48.0/sync", compression=None) as socket:
        socket.send(json.dumps({"type": "Connect", "sessionId": SESSION, "connectionCount": 0}))
        for message in messages:
            socket.send(json.dumps(message))
        while True:
            answer: dict[str, Any] = json.loads(socket.recv(20))
            if answer["type"] == until and answer.get("modifications") != []:
                return answer
            assert answer["type"] in ("Transition", "Ping"), answer


def write(backend: BackendProcess, number: int, n: float) -> dict[str, Any]:
    message = {"type": "Mutation", "requestId": number, "udfPath": "notes:add", "args": [{"n": n}]}
    return conversation(backend, message, until="MutationResponse")


def page(backend: BackendProcess, cursor: str | None, **more: Any) -> dict[str, Any]:
    options = {"cursor": cursor, "numItems": 3, **more}
    found: dict[str, Any] = backend.call("query", "notes:page", {"paginationOpts": options})
    return found


def subscribed_page(backend: BackendProcess, journal: str | None) -> dict[str, Any]:
    """The first page as a subscription that brings this journal sees it: value and journal."""
    add = {
        "type": "Add", "queryId": 0, "udfPath": "notes:page",
        "args": [{"paginationOpts": {"cursor": None, "numItems": 3, "id": 1}}],
    }  # fmt: skip
    if journal is not None:
        add["journal"] = journal
    asked = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [add]}
    updated: dict[str, Any] = conversation(backend, asked, until="Transition")["modifications"][0]
    assert updated["type"] == "QueryUpdated", updated
    return updated


@pytest.mark.node
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_everything_that_was_told_still_holds(tmp_path: Path, how: str) -> None:
    with running(HERE / "lasting", tmp_path) as (backend, app):
        headers = {"Authorization": f"Convex {backend.admin_key}"}
        variable = {"changes": [{"name": "GREETING", "value": "hello"}]}
        assert httpx.post(
            f"{backend.url}/api/update_environment_variables", json=variable, headers=headers
        ).is_success
        for n in range(0, 80, 10):
            backend.call("mutation", "notes:add", {"n": n})
        answered = write(backend, 7, 5)
        assert answered["success"] and answered["logLines"] == ["[LOG] 'adding' 5"]
        first = page(backend, None)
        watched = subscribed_page(backend, None)
        assert watched["value"]["page"] == first["page"] == [0, 5, 10]
        hashes = _hashes(backend)
        key = backend.admin_key

        if how == "killed":
            backend.kill()
        else:
            backend.stop()
        backend.start()

        assert BackendProcess(backend.data).admin_key == key
        assert backend.call("query", "notes:greeting", {}) == "hello"
        assert backend.call("query", "notes:all", {}) == [0, 5, 10, 20, 30, 40, 50, 60, 70]
        assert _hashes(backend) == hashes
        refused = httpx.post(
            f"{backend.url}/api/mutation", json={"path": "notes:add", "args": {"n": "text"}, "format": "json"}
        ).json()
        assert "does not match the schema" in refused["errorMessage"], "the schema is in force"

        again = write(backend, 7, 5)
        told = ("success", "result", "ts", "logLines")
        assert {name: again[name] for name in told} == {name: answered[name] for name in told}
        assert backend.call("query", "notes:all", {}).count(5) == 1, "it was not run again"

        # A page keeps its end: what comes in between makes it longer, and the next begins where it ended.
        backend.call("mutation", "notes:add", {"n": 7})
        grown = subscribed_page(backend, watched["journal"])
        assert grown["value"]["page"] == [0, 5, 7, 10]
        assert page(backend, None, endCursor=first["continueCursor"])["page"] == [0, 5, 7, 10]
        assert page(backend, first["continueCursor"])["page"] == [20, 30, 40]

        # A push of the same code finds nothing to do; a changed one goes on from here.
        pushed = _push(app, backend)
        assert pushed.returncode == 0, pushed.stderr
        assert _hashes(backend) == hashes
        module = app / "convex/notes.ts"
        module.write_text(module.read_text().replace("?? null", '+ "!"'))
        assert _push(app, backend).returncode == 0
        assert backend.call("query", "notes:greeting", {}) == "hello!"


def _hashes(backend: BackendProcess) -> Any:
    body = {"version": "1.48.0", "adminKey": backend.admin_key}
    return httpx.post(f"{backend.url}/api/get_config_hashes", json=body).json()


def _push(app: Path, backend: BackendProcess) -> subprocess.CompletedProcess[str]:
    command = [
        "dev",
        "--once",
        "--typecheck",
        "disable",
        "--url",
        backend.url,
        "--admin-key",
        backend.admin_key,
    ]
    return subprocess.run(
        [sys.executable, "-m", "cvx", *command], cwd=app, capture_output=True, text=True, check=False
    )


def _serve(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    ports = ["--port", str(free_port()), "--site-port", str(free_port())]
    return subprocess.run(
        [sys.executable, "-m", "cvx", "backend", "serve", *ports, "--data", str(data), *options],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip


def test_folders_that_are_refused_say_what_to_do(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        taken = _serve(backend.data)
        assert taken.returncode == 6
        assert f"is in use by process {backend.process.pid}" in taken.stderr  # type: ignore[union-attr]
        assert "Stop that process, or choose another folder with --data." in taken.stderr
    finally:
        backend.stop()
    (database,) = [path for path in backend.data.rglob("*") if _is_sqlite(path)]

    with sqlite3.connect(database) as connection:
        (format,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("PRAGMA user_version=99")
    connection.close()
    newer = _serve(backend.data)
    assert newer.returncode == 1
    assert f"was written by a newer cvx (format 99; this one reads up to {format})" in newer.stderr
    assert "Upgrade cvx" in newer.stderr
    told = json.loads(_serve(backend.data, "--json").stdout)
    assert (told["ok"], told["error"]["code"]) == (False, "DataTooNew")

    with sqlite3.connect(database) as connection:
        connection.execute(f"PRAGMA user_version={format}")
    connection.close()
    backend.start()  # Refusing it changed nothing.
    backend.stop()

    whole = database.read_bytes()
    database.write_bytes(b"not a database" * 1000)
    damaged = _serve(backend.data)
    assert damaged.returncode == 1
    assert (
        "The data file is damaged" in damaged.stderr
        and "Restore the data folder from a backup" in damaged.stderr
    )
    database.unlink()
    lost = _serve(backend.data)
    assert lost.returncode == 1
    assert "the data file is gone" in lost.stderr and "high-water" in lost.stderr
    for refused in (taken, newer, damaged, lost):
        assert "Traceback" not in refused.stderr and "[Bug]" not in refused.stderr
    database.write_bytes(whole)
    backend.start()
    assert backend.process is not None
    backend.process.send_signal(signal.SIGTERM)
    assert backend.process.wait(60) == 0
    backend.stop()


def _is_sqlite(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:15] == b"SQLite format 3"
