"""SIGKILL under load, again and again: every acknowledged mutation is there, none is half applied.

The whole server is killed (`cvx backend serve` and, with it, its Deno children) at a random moment while workers write pairs of rows
over HTTP, and started again on the same folder. `CVX_KILL_CYCLES` sets the number of cycles (30 in `make test`, 200 in
`make test-long`, 2,000 in `make test-faults`); the seed is printed, and `CVX_SEED` repeats it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backend_process import BackendProcess, pushed_app
from tests.processes import still_alive

CHOSEN = os.environ.get("CVX_KILL_CYCLES")
CYCLES = [int(CHOSEN)] if CHOSEN else [30, pytest.param(200, marks=pytest.mark.long)]
WORKERS = 4


class Worker(threading.Thread):
    """Writes pairs one after the other and remembers which were acknowledged and which were only attempted."""

    def __init__(self, number: int, url: str, first: int) -> None:
        super().__init__(daemon=True)
        self.number, self.url, self.first = number, url, first
        self.next = first
        self.acknowledged: list[int] = []
        self.stopping = False

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self.stopping:
                n, self.next = self.next, self.next + 1
                try:
                    answer = client.post(f"{self.url}/api/mutation", json=body(self.number, n))
                except httpx.HTTPError:
                    return  # Killed under us: this one may or may not be there.
                assert answer.json()["status"] == "success", answer.text
                self.acknowledged.append(n)


def body(worker: int, n: int) -> dict[str, Any]:
    return {"path": "faults:addPair", "args": {"worker": worker, "n": n}, "format": "json"}


def check(backend: BackendProcess, worker: Worker) -> None:
    rows = backend.call("query", "faults:sides", {"worker": worker.number, "from": worker.first})
    sides = Counter(row["n"] for row in rows)
    lost = [n for n in worker.acknowledged if sides[n] != 2]
    assert lost == [], f"acknowledged and gone: worker {worker.number}, numbers {lost}"
    half = {n: count for n, count in sides.items() if count != 2}
    assert half == {}, f"half applied: worker {worker.number}, {half}"


@pytest.mark.deno
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cycles", CYCLES)
def test_no_acknowledged_write_is_lost_and_none_is_half_applied(tmp_path: Path, cycles: int) -> None:
    seed = int(os.environ.get("CVX_SEED", str(random.randrange(2**32))))
    print(f"seed {seed}, {cycles} cycles (CVX_SEED={seed} repeats it)")
    chance = random.Random(seed)
    backend = BackendProcess(tmp_path / "data")
    total = 0
    backend.start()
    try:
        pushed_app(backend, Path(__file__).parent / "app", tmp_path / "app")
        next_number = [0] * WORKERS
        for _ in range(cycles):
            workers = [Worker(number, backend.url, next_number[number]) for number in range(WORKERS)]
            for worker in workers:
                worker.start()
            time.sleep(chance.uniform(0.02, 0.3))
            backend.kill()
            for worker in workers:
                worker.stopping = True
                worker.join(60)
            backend.start()
            for worker in workers:
                check(backend, worker)
                next_number[worker.number] = worker.next
                total += len(worker.acknowledged)
    finally:
        backend.stop()
    assert total > cycles, "the load was too small to prove anything"
    print(f"{total} acknowledged mutations over {cycles} kills, none lost")


@pytest.mark.deno
def test_children_end_with_their_killed_parent(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    pids = backend.children()
    assert pids, "no Deno child is running"
    backend.kill()
    assert still_alive(pids) == set()


@pytest.mark.deno
def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    try:
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "cvx",
                "backend",
                "serve",
                "--port",
                "0",
                "--site-port",
                "0",
                "--data",
                str(backend.data),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode != 0
        assert str(backend.process.pid if backend.process else "") in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        backend.stop()


@pytest.mark.deno
def test_sigterm_stops_it_and_leaves_no_child(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start()
    pids = backend.children()
    assert backend.process is not None
    backend.process.send_signal(signal.SIGTERM)
    assert backend.process.wait(60) == 0
    assert still_alive(pids) == set()
