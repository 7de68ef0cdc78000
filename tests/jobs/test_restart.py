"""What a new process makes of the jobs and crons that the last one left behind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.apps.driving import HERE as APPS
from tests.backend_process import BackendProcess, pushed_app
from tests.waiting import until

pytestmark = [pytest.mark.deno]


@pytest.fixture
def pushed(tmp_path: Path) -> Iterator[tuple[BackendProcess, Path]]:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        yield backend, pushed_app(backend, APPS / "scheduling", tmp_path / "app")
    finally:
        backend.stop()


def after(backend: BackendProcess, delay_ms: float, name: str, args: dict[str, Any]) -> str:
    id: str = backend.call("mutation", "jobs:after", {"delay": delay_ms, "name": name, "args": args})
    return id


def state(backend: BackendProcess, id: str) -> Any:
    return backend.call("query", "jobs:get", {"id": id})["state"]


def ran(backend: BackendProcess, what: str) -> int:
    return len(backend.call("query", "jobs:ran", {"what": what}))


def admin_query(backend: BackendProcess, path: str, args: dict[str, Any]) -> Any:
    answer = httpx.post(
        f"{backend.url}/api/query",
        json={"path": path, "args": args, "format": "json"},
        headers={"Authorization": f"Convex {backend.admin_key}"},
    ).json()
    assert answer["status"] == "success", answer
    return answer["value"]


def runs_of(backend: BackendProcess, cron: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin_query(backend, "_system/frontend/listCronJobRuns", {"name": cron})
    return found


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_waiting_jobs_run_running_actions_have_failed(pushed: tuple[BackendProcess, Path], how: str) -> None:
    backend, _ = pushed
    late = after(backend, 3_600_000, "jobs:beat", {"what": "late"})
    slow = after(backend, 0, "actions:slow", {"what": "slow", "ms": 600_000})
    until(lambda: ran(backend, "slow began, null") and state(backend, slow)["kind"] == "inProgress")
    beats = ran(backend, "heartbeat")
    soon = after(backend, 3_000, "jobs:beat", {"what": "soon"})
    assert state(backend, soon)["kind"] == "pending"
    getattr(backend, how)()
    time.sleep(3)
    backend.start()
    until(lambda: state(backend, soon)["kind"] == "success")
    assert ran(backend, "soon") == 1
    assert state(backend, late)["kind"] == "pending"
    failed = state(backend, slow)
    assert failed["kind"] == "failed"
    assert "stopped while this action was running" in failed["error"]
    assert (ran(backend, "slow began, null"), ran(backend, "slow ended")) == (1, 0)
    # The cron goes on; the seconds that went by are skipped and noted, not made up for.
    until(lambda: ran(backend, "heartbeat") >= beats + 2)
    skipped = [run for run in runs_of(backend, "heartbeat") if run["status"]["type"] == "canceled"]
    assert skipped, runs_of(backend, "heartbeat")
    assert sum(int(run["status"]["num_canceled"]) for run in skipped) >= 1


def test_a_push_changes_crons(pushed: tuple[BackendProcess, Path]) -> None:
    backend, app = pushed
    names = [cron["name"] for cron in admin_query(backend, "_system/frontend/listCronJobs", {})]
    assert names == ["action heartbeat", "heartbeat", "old drafts", "summarize yesterday"]
    until(lambda: len(runs_of(backend, "heartbeat")) >= 2)
    (app / "convex" / "crons.ts").write_text(
        'import { cronJobs } from "convex/server";\nimport { internal } from "./_generated/api";\n'
        "const crons = cronJobs();\n"
        'crons.interval("heartbeat", { seconds: 1 }, internal.jobs.beat, { what: "another heart" });\n'
        'crons.cron("nightly", "0 3 * * *", internal.analytics.summarizeYesterday);\n'
        "export default crons;\n"
    )
    push(backend, app)
    crons = {cron["name"]: cron for cron in admin_query(backend, "_system/frontend/listCronJobs", {})}
    assert list(crons) == ["heartbeat", "nightly"]
    assert crons["nightly"]["cronSpec"]["cronSchedule"] == {"type": "cron", "cronExpr": "0 3 * * *"}
    assert crons["nightly"]["lastRun"] is None
    until(lambda: ran(backend, "another heart") >= 2)
    time.sleep(0.3)  # What was due already has run.
    before = ran(backend, "heartbeat")
    time.sleep(1.2)
    assert ran(backend, "heartbeat") == before
    until(lambda: ran(backend, "another heart") >= 5)
    assert len(runs_of(backend, "heartbeat")) == 5  # Its history goes on, and is bounded.
    (app / "convex" / "crons.ts").unlink()
    push(backend, app)
    assert admin_query(backend, "_system/frontend/listCronJobs", {}) == []
    time.sleep(0.3)
    before = ran(backend, "another heart")
    time.sleep(1.2)
    assert ran(backend, "another heart") == before


def test_a_job_whose_function_is_gone_fails(pushed: tuple[BackendProcess, Path]) -> None:
    backend, app = pushed
    id = after(backend, 6_000, "drafts:cleanUp", {"olderThanMs": 1})
    shutil.copy(app / "convex" / "drafts.ts", app / "kept.ts")
    (app / "convex" / "drafts.ts").unlink()
    (app / "convex" / "crons.ts").unlink()
    push(backend, app)
    assert state(backend, id)["kind"] == "pending"
    failed = until(lambda: (found := state(backend, id))["kind"] == "failed" and found)
    assert "Could not find function for 'drafts:cleanUp'" in failed["error"]


def push(backend: BackendProcess, app: Path) -> None:
    subprocess.run(
        [
            sys.executable, "-m", "cvx", "dev", "--once", "--typecheck", "disable",
            "--url", backend.url, "--admin-key", backend.admin_key,
        ],
        cwd=app, check=True, capture_output=True,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- commands


def cvx(backend: BackendProcess, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cvx", *words, "--url", backend.url, "--admin-key", backend.admin_key],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_jobs_and_crons_on_the_command_line(pushed: tuple[BackendProcess, Path]) -> None:
    backend, _ = pushed
    assert "Nothing is scheduled" in cvx(backend, "jobs", "list")
    ids = [after(backend, 60_000 * n, "jobs:beat", {"what": str(n)}) for n in (3, 1, 2)]
    post = after(backend, 7_200_000, "drafts:cleanUp", {"olderThanMs": 1})
    lines = cvx(backend, "jobs", "list").splitlines()
    assert [line.split()[0] for line in lines if line.startswith("kc2")] == [ids[1], ids[2], ids[0], post]
    assert any("jobs:beat" in line and "waits" in line and "(in " in line for line in lines)
    assert post in cvx(backend, "jobs", "list", "--function", "drafts:cleanUp")
    assert ids[0] not in cvx(backend, "jobs", "list", "--function", "drafts:cleanUp")
    assert "more jobs than 2" in cvx(backend, "jobs", "list", "--limit", "2")
    assert '"dueMs"' in cvx(backend, "jobs", "list", "--json")

    assert ids[0] in cvx(backend, "jobs", "cancel", ids[0])
    assert state(backend, ids[0])["kind"] == "canceled"
    assert "had finished already" in cvx(backend, "jobs", "cancel", ids[0])
    assert "not a document id" in cvx(backend, "jobs", "cancel", "nonsense", code=5)
    assert "no scheduled function" in cvx(
        backend, "jobs", "cancel", "kc2000820c20a1g7104gm2rc1m70y5yj", code=3
    )
    assert "There is no component" in cvx(backend, "jobs", "list", "--component", "nowhere", code=3)
    assert "There is no component" in cvx(backend, "crons", "list", "--component", "nowhere", code=3)
    assert "either their ids, or --all" in cvx(backend, "jobs", "cancel", code=2)
    assert "Canceled 2 jobs" in cvx(backend, "jobs", "cancel", "--all", "--function", "jobs:beat")
    assert state(backend, post)["kind"] == "pending"
    assert "Canceled 1 job" in cvx(backend, "jobs", "cancel", "--all")
    assert state(backend, post)["kind"] == "canceled"
    assert "jobs.js:beat" in cvx(backend, "data", "show", "_scheduled_functions")

    mine = after(backend, 60_000, "jobs:beat", {"what": "x"})
    for route, body in (("cancel_job", {"id": mine}), ("cancel_all_jobs", {})):
        assert httpx.post(f"{backend.url}/api/{route}", json=body).status_code == 403
    assert state(backend, mine)["kind"] == "pending"

    until(lambda: runs_of(backend, "heartbeat"))
    headers = {"Authorization": f"Convex {backend.admin_key}"}
    logged = httpx.get(f"{backend.url}/api/stream_function_logs?cursor=0", headers=headers).json()["entries"]
    assert {"Cron", "HttpApi", "Action"} <= {entry["caller"] for entry in logged}

    listed = cvx(backend, "crons", "list")
    assert "weekly on Sunday at 03:30 UTC" in listed
    assert "daily at 00:10 UTC" in listed
    # (On a busy machine its last run may be one that was skipped.)
    heart = r"^heartbeat .* every 1 s .* jobs:beat .*success"
    until(lambda: re.search(heart, cvx(backend, "crons", "list"), re.MULTILINE), "a run of the cron is shown")
    assert '"lastRun"' in cvx(backend, "crons", "list", "--json")


def test_a_burst_does_not_starve_clients(pushed: tuple[BackendProcess, Path]) -> None:
    backend, _ = pushed
    due_ms = (time.time() + 3) * 1000
    for batch in range(3):
        backend.call("mutation", "jobs:many", {"what": f"burst {batch}", "count": 1000, "at": due_ms})
    time.sleep(max(0.0, due_ms / 1000 - time.time()))
    waits: list[float] = []
    with httpx.Client(timeout=60) as client:

        def call(kind: str, path: str, args: dict[str, Any]) -> Any:
            started = time.monotonic()
            body = {"path": path, "args": args, "format": "json"}
            answer = client.post(f"{backend.url}/api/{kind}", json=body).json()
            waits.append(time.monotonic() - started)
            assert answer["status"] == "success", answer
            return answer["value"]

        deadline = time.monotonic() + 180
        while call("query", "jobs:waiting", {}):
            call("mutation", "analytics:record", {"kind": "view"})
            call("query", "analytics:days", {})
            assert time.monotonic() < deadline, "the burst is not over after three minutes"
    for batch in range(3):
        numbers = backend.call("query", "jobs:ran", {"what": f"burst {batch}"})
        assert sorted(numbers) == list(range(1000))
    waits.sort()
    print(f"{len(waits)} calls, p50 {waits[len(waits) // 2]:.3f} s, longest {waits[-1]:.3f} s")
    assert len(waits) > 30
    # 0.03 s alone. A client that had to wait for all that is due would get through a handful of calls.
    assert waits[int(len(waits) * 0.95)] < 10.0
