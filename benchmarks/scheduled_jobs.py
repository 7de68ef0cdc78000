"""10,000 scheduled functions due at once: how fast they are done, and what a client notices.

A client on one connection alternates an uncached one-read query and a transfer (2 reads, 2 writes): first while nothing else
goes on, then from the moment at which all jobs are due until the last is done. A job reads a row by index and changes it.
"""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from harness import Server, percentile

AT_ONCE = 1_000
ACCOUNTS = 10_000


@dataclass
class Burst:
    """Latencies in ms of a client while idle and during the burst; jobs per second."""

    idle: dict[str, list[float]]
    busy: dict[str, list[float]]
    per_second: float
    scheduling_s: float


class Client:
    """One keep-alive connection."""

    def __init__(self, server: Server) -> None:
        address = urlsplit(server.url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        self._key = server.admin_key
        self._salt = 0

    def call(self, kind: str, path: str, args: dict[str, Any], *, admin: bool = False) -> Any:
        headers = {"Content-Type": "application/json"}
        if admin:
            headers["Authorization"] = f"Convex {self._key}"
        body = json.dumps({"path": path, "args": args, "format": "json"})
        self._connection.request("POST", f"/api/{kind}", body, headers)
        answer = json.loads(self._connection.getresponse().read())
        if answer["status"] != "success":
            raise RuntimeError(f"{path}: {answer}")
        return answer["value"]

    def outstanding(self) -> int:
        return int(self.call("query", "_system/cli/tableSize", {"tableName": "_scheduled_jobs"}, admin=True))

    def round(self, samples: dict[str, list[float]]) -> None:
        self._salt += 1
        n = self._salt % ACCOUNTS
        one = {"n": n, "salt": self._salt}
        transfer = {"from": n, "to": (n * 7 + 1) % ACCOUNTS, "amount": 1}
        for kind, path, args in (("query", "bench:one", one), ("mutation", "bench:transfer", transfer)):
            started = time.perf_counter()
            self.call(kind, path, args)
            samples[kind].append((time.perf_counter() - started) * 1000)


def burst(server: Server, jobs: int, idle_s: float) -> Burst:
    client = Client(server)
    warm, idle, busy = ({"query": [], "mutation": []} for _ in range(3))
    for _ in range(200):
        client.round(warm)
    until = time.monotonic() + idle_s
    while time.monotonic() < until:
        client.round(idle)
    started = time.monotonic()
    due_s = time.time() + 3 + jobs / 1_000
    for first in range(0, jobs, AT_ONCE):
        client.call("mutation", "bench:schedule", {"from": first, "count": AT_ONCE, "at": due_s * 1000})
    scheduling_s = time.monotonic() - started
    if client.outstanding() != jobs:
        raise RuntimeError("scheduling took so long that jobs were due before the last was there")
    time.sleep(max(0.0, due_s - time.time()))
    begun = time.monotonic()
    while True:
        for _ in range(10):
            client.round(busy)
        if client.outstanding() == 0:
            break
    took_s = time.monotonic() - begun
    return Burst(idle, busy, jobs / took_s, scheduling_s)


def line(samples: list[float]) -> str:
    return ", ".join(
        f"{name} {percentile(samples, p):.1f}" for name, p in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    )
