"""Cold start of `cvx dev`, then save → changed result on an unmodified official client.

Usage: python benchmarks/save_to_live.py PROJECT ROUNDS
Starts `cvx dev` in PROJECT with a fresh local deployment, subscribes with npm `convex` under Node, saves
`convex/extra0.ts` ROUNDS times and prints one line of JSON: {"cold_start_s", "samples_ms"}.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness import CVX, HERE, node


def ready_line(process: subprocess.Popen[str], seconds: float) -> None:
    assert process.stderr is not None
    deadline = time.monotonic() + seconds
    seen = []
    while time.monotonic() < deadline:
        line = process.stderr.readline()
        if not line:
            break
        seen.append(line)
        if "ready" in line.lower() and "functions" in line.lower():
            return
    raise SystemExit("cvx dev was not ready:\n" + "".join(seen))


def local_url(project: Path) -> str:
    for line in (project / ".env.local").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.endswith("CONVEX_URL"):
            return value.strip().strip('"')
    raise SystemExit("no CONVEX_URL in .env.local")


def main() -> int:
    project, rounds = Path(sys.argv[1]), int(sys.argv[2])
    shutil.rmtree(project / ".cvx", ignore_errors=True)
    (project / ".env.local").unlink(missing_ok=True)
    source = project / "convex" / "extra0.ts"
    original = source.read_text()
    started = time.perf_counter()
    dev = subprocess.Popen(
        [*CVX, "dev", "--tail-logs", "disable", "--typecheck", "disable"],
        cwd=project,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"NO_COLOR": "1"},
    )
    subscriber = None
    try:
        ready_line(dev, 60)
        cold_start = time.perf_counter() - started
        script = project / ".bench-subscribe.mjs"
        shutil.copy(HERE / "js" / "subscribe.mjs", script)
        subscriber = subprocess.Popen(
            [node(), str(script), local_url(project)], stdout=subprocess.PIPE, text=True, cwd=project
        )
        assert subscriber.stdout is not None
        subscriber.stdout.readline()
        samples = []
        for number in range(rounds):
            value = 1000 + number
            text = (
                'import { query } from "./_generated/server";\nimport { v } from "convex/values";\n'
                f"export const answer = query({{ args: {{ x: v.optional(v.number()) }}, handler: async () => {value} }});\n"
            )
            time.sleep(0.25)
            saved = time.perf_counter()
            source.write_text(text)
            while json.loads(subscriber.stdout.readline()) != value:
                pass
            samples.append((time.perf_counter() - saved) * 1000)
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
