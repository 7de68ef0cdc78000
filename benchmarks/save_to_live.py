"""Cold start of `cvx dev`, then save → changed result on an unmodified official client.

Usage: python benchmarks/save_to_live.py PROJECT ROUNDS [--official]
Starts `cvx dev` in PROJECT with a fresh local deployment, subscribes with npm `convex` under Node, saves
`convex/extra0.ts` ROUNDS times and prints one line of JSON: {"cold_start_s", "samples_ms"}. With `--official` it is
`npx convex dev` that watches, against a backend of ours of its own; `cold_start_s` then leaves the backend's start out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness import CVX, HERE, backend, node

SOURCE = (
    'import {{ query }} from "./_generated/server";\nimport {{ v }} from "convex/values";\n'
    "export const answer = query({{ args: {{ x: v.optional(v.number()) }}, handler: async () => {value} }});\n"
)


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "functions ready" in line.lower():
            return
    raise SystemExit("dev ended before it was ready:\n" + "".join(seen))


def local_url(project: Path) -> str:
    for line in (project / ".env.local").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.endswith("CONVEX_URL"):
            return value.strip().strip('"')
    raise SystemExit("no CONVEX_URL in .env.local")


@contextlib.contextmanager
def ours(project: Path) -> Iterator[tuple[subprocess.Popen[str], str | None]]:
    shutil.rmtree(project / ".cvx", ignore_errors=True)
    (project / ".env.local").unlink(missing_ok=True)
    command = [*CVX, "dev", "--tail-logs", "disable", "--typecheck", "disable"]
    yield start(command, project, {}), None


@contextlib.contextmanager
def official(project: Path) -> Iterator[tuple[subprocess.Popen[str], str | None]]:
    (project / ".env.local").unlink(missing_ok=True)
    with backend() as server:
        command = [node(), str(project / "node_modules" / "convex" / "bin" / "main.js"), "dev"]
        target = {
            "CONVEX_SELF_HOSTED_URL": server.url,
            "CONVEX_SELF_HOSTED_ADMIN_KEY": server.admin_key,
            "CI": "1",
        }
        yield (
            start([*command, "--tail-logs", "disable", "--typecheck", "disable"], project, target),
            server.url,
        )


def start(command: list[str], project: Path, extra: dict[str, str]) -> subprocess.Popen[str]:
    environment = os.environ | {"NO_COLOR": "1"} | extra
    return subprocess.Popen(
        command, cwd=project, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )


def save_and_wait(source: Path, results: Iterator[str], rounds: int) -> list[float]:
    samples = []
    for number in range(rounds):
        value = 1000 + number
        time.sleep(0.25)
        saved = time.perf_counter()
        source.write_text(SOURCE.format(value=value))
        while json.loads(next(results)) != value:
            pass
        samples.append((time.perf_counter() - saved) * 1000)
    return samples


def main() -> int:
    project, rounds = Path(sys.argv[1]), int(sys.argv[2])
    watching = official if "--official" in sys.argv else ours
    source = project / "convex" / "extra0.ts"
    original = source.read_text()
    subscriber = None
    started = time.perf_counter()
    with watching(project) as (dev, url):
        if url is not None:
            started = time.perf_counter()
        try:
            wait_until_ready(dev)
            cold_start = time.perf_counter() - started
            script = project / ".bench-subscribe.mjs"
            shutil.copy(HERE / "js" / "subscribe.mjs", script)
            command = [node(), str(script), url or local_url(project)]
            subscriber = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=project)
            assert subscriber.stdout is not None
            next(subscriber.stdout)
            samples = save_and_wait(source, subscriber.stdout, rounds)
            print(json.dumps({"cold_start_s": cold_start, "samples_ms": samples}))
            return 0
        finally:
            source.write_text(original)
            if subscriber is not None:
                subscriber.kill()
                subscriber.wait()
            dev.send_signal(signal.SIGINT)
            try:
                dev.wait(10)
            except subprocess.TimeoutExpired:
                dev.kill()


if __name__ == "__main__":
    sys.exit(main())
