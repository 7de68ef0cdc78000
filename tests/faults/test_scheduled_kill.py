"""SIGKILL while scheduled functions run, again and again: every mutation's job has its effect exactly once.

Batches of jobs are scheduled over HTTP, due at once or within a moment, and the server is killed while they run. Each job
writes one row with its number. In the end every acknowledged job has succeeded, and every job that was scheduled at all has
written one row: none is lost, none is there twice. Actions in the same jobs table have run at most once.
`CVX_KILL_CYCLES` sets the number of cycles of the long run; the seed is printed, and `CVX_SEED` repeats it.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.apps.driving import HERE as APPS
from tests.backend_process import BackendProcess, pushed_app
from tests.waiting import until

JOBS = 150
LONG_CYCLES = int(os.environ.get("CVX_KILL_CYCLES", "100"))


@pytest.mark.deno
def test_jobs_run_exactly_once_through_a_few_kills(tmp_path: Path) -> None:
    kill_and_count(tmp_path, 3)


@pytest.mark.deno
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_jobs_run_exactly_once_through_many_kills(tmp_path: Path) -> None:
    kill_and_count(tmp_path, LONG_CYCLES)


def kill_and_count(folder: Path, cycles: int) -> None:
    seed = int(os.environ.get("CVX_SEED", str(random.randrange(2**32))))
    print(f"seed {seed}, {cycles} cycles (CVX_SEED={seed} repeats it)")
    chance = random.Random(seed)
    backend = BackendProcess(folder / "data")
    backend.start()
    acknowledged: list[str] = []
    attempted: list[str] = []
    try:
        pushed_app(backend, APPS / "scheduling", folder / "app")
        for cycle in range(cycles):
            begun = time.time()
            for part in range(2):
                what = f"batch {cycle}.{part}"
                attempted.append(what)
                args = {"what": what, "count": JOBS, "at": (begun + chance.uniform(-1, 0.2)) * 1000}
                backend.call("mutation", "jobs:many", args)
                acknowledged.append(what)
            action = f"action {cycle}"
            args = {"delay": 0, "name": "actions:explode", "args": {"what": action}}
            backend.call("mutation", "jobs:after", args)
            time.sleep(chance.uniform(0.0, 0.25))
            with contextlib.suppress(httpx.HTTPError):  # One more, that the kill may overtake.
                what = f"batch {cycle}.last"
                attempted.append(what)
                post(backend, what, chance.uniform(0.001, 0.02))
            backend.kill()
            backend.start()
        wait_until_all_have_run(backend)
        written = {what: Counter(rows(backend, what)) for what in attempted}
        for what in acknowledged:
            assert written[what] == Counter(range(JOBS)), f"{what}: {missing_or_double(written[what])}"
        for what in attempted:
            assert set(written[what].values()) <= {1}, f"{what}: {missing_or_double(written[what])}"
            assert len(written[what]) in (0, JOBS), f"{what}: half of it was scheduled"
        for cycle in range(cycles):
            assert len(rows(backend, f"action {cycle}")) <= 1
    finally:
        backend.stop()


def post(backend: BackendProcess, what: str, deadline_s: float) -> None:
    """Schedule a batch and perhaps not wait for the answer."""
    body = {"path": "jobs:many", "args": {"what": what, "count": JOBS}, "format": "json"}
    httpx.post(f"{backend.url}/api/mutation", json=body, timeout=deadline_s)


def rows(backend: BackendProcess, what: str) -> list[Any]:
    found: list[Any] = backend.call("query", "jobs:ran", {"what": what})
    return found


def wait_until_all_have_run(backend: BackendProcess) -> None:
    until(lambda: not backend.call("query", "jobs:waiting", {}), "the end of all jobs", 180)


def missing_or_double(counts: Counter[Any]) -> str:
    missing = [n for n in range(JOBS) if n not in counts]
    double = {n: count for n, count in counts.items() if count > 1}
    return f"{len(missing)} missing (first: {missing[:5]}), more than once: {double}"
