"""`make demo`: the chat template, scaffolded, installed, running; ends with its URL and stays live.

With `--once` it checks that the page and the functions answer, and ends: exit 0 when they do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "demo-app"
CVX = [sys.executable, "-m", "cvx"]
READY_DEADLINE_S = 90.0


def free_port(first: int) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, first + 200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise SystemExit(f"no free port from {first} on")


def wait_for_page(url: str, dev: subprocess.Popen[bytes]) -> None:
    """Until the page answers; ends the program when `cvx dev` does."""
    deadline = time.monotonic() + READY_DEADLINE_S
    while time.monotonic() < deadline:
        if dev.poll() is not None:
            raise SystemExit(dev.returncode or 1)
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if b'id="root"' in answer.read():
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} did not answer within {READY_DEADLINE_S:.0f} s")


def check_functions() -> None:
    """A message written through the command line is what the query then returns."""
    message = {"channel": "general", "author": "make demo", "body": f"hello {time.time_ns()}"}
    subprocess.run(
        [*CVX, "run", "messages:send", json.dumps(message), "-q"],
        cwd=APP,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    page = {"channel": "general", "paginationOpts": {"numItems": 1, "cursor": None}}
    answer = subprocess.run(
        [*CVX, "run", "messages:list", json.dumps(page), "-q"],
        cwd=APP,
        check=True,
        capture_output=True,
        text=True,
    )
    newest = json.loads(answer.stdout)["page"][0]["body"]
    if newest != message["body"]:
        raise SystemExit(f"wrote {message['body']!r}, read {newest!r}")


def main() -> int:
    once = "--once" in sys.argv[1:]
    subprocess.run([*CVX, "init", str(APP), "--template", "chat-vite", "--yes"], check=True)
    port = free_port(5173)
    url = f"http://127.0.0.1:{port}"
    vite = f"vite --host 127.0.0.1 --port {port} --strictPort"
    dev = subprocess.Popen([*CVX, "dev", "--start", vite], cwd=APP, stdin=subprocess.DEVNULL)
    try:
        wait_for_page(url, dev)
        if once:
            check_functions()
            print(f"\nThe demo works: {url} answered, and a message made the round trip.", flush=True)
            return 0
        print(
            f"\n  The app is live at  {url}\n  Edit {APP.relative_to(ROOT)}/convex/messages.ts and watch the page. Ctrl-C ends it.\n",
            flush=True,
        )
        return dev.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        if dev.poll() is None:
            dev.send_signal(signal.SIGTERM)
            try:
                dev.wait(5)
            except subprocess.TimeoutExpired:
                dev.kill()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
