"""Headless Chromium over its own debugging protocol: a page, an expression, a wait. Nothing more is needed.

Source: the Chrome DevTools Protocol (Target, Runtime, Page, Input domains).
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
DEADLINE_S = 60.0
ANSWER_S = 15.0
TROUBLE = {
    "Log.entryAdded",
    "Page.frameNavigated",
    "Page.javascriptDialogOpening",
    "Runtime.consoleAPICalled",
    "Runtime.exceptionThrown",
}  # What a page that stays blank has to say.


class ProtocolError(AssertionError):
    """Chromium refused a command."""


def chromium_binary() -> str | None:
    return next((found for found in map(shutil.which, NAMES) if found), None)


class Chromium:
    """One browser with a profile of its own. Use with `with`."""

    def __init__(self, profile: Path) -> None:
        binary = chromium_binary()
        assert binary is not None
        # It leaves folders where temporary files go. The name is short: a socket's path may not be long.
        self._leftovers = tempfile.TemporaryDirectory(prefix="cvx-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [
                binary,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                # A tab behind another is as quick as it: tests look at both.
                "--disable-background-timer-throttling",
                "--disable-backgrounding-occluded-windows",
                "--disable-renderer-backgrounding",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            env={**os.environ, "TMPDIR": self._leftovers.name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + DEADLINE_S
        while not port_file.exists() or not port_file.read_text().strip():
            assert self._process.poll() is None, "Chromium ended while starting"
            assert time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.05)
        self._base = f"http://127.0.0.1:{port_file.read_text().split()[0]}"
        self._sockets = ExitStack()

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._sockets.close()
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._leftovers.cleanup()

    def open(self, url: str) -> Page:
        target = httpx.put(f"{self._base}/json/new?{url}", timeout=60).json()
        # Events come while nobody reads, and a full queue would hold the answers to pings back with them.
        connection = connect(
            target["webSocketDebuggerUrl"], max_size=None, max_queue=None, ping_interval=None
        )
        return Page(self._sockets.enter_context(connection))


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._troubles: deque[str] = deque(maxlen=50)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, within_s: float = DEADLINE_S, **parameters: Any) -> Any:
        """One command of the protocol and its answer; events that tell of trouble are kept for a failure's message.

        A question whether the page may be left (the client asks it while writes are under way) is answered yes.
        """
        number = self._send(method, **parameters)
        deadline = time.monotonic() + within_s
        while True:
            message = json.loads(self._socket.recv(timeout=max(0, deadline - time.monotonic())))
            if message.get("id") == number:
                if "error" in message:
                    raise ProtocolError(f"{method}: {message['error']}")
                return message["result"]
            if message.get("method") in TROUBLE:
                self._troubles.append(json.dumps(message)[:600])
            if message.get("method") == "Page.javascriptDialogOpening":
                self._send("Page.handleJavaScriptDialog", accept=True)

    def _send(self, method: str, **parameters: Any) -> int:
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        return number

    def evaluate(self, expression: str, within_s: float = DEADLINE_S) -> Any:
        result = self.call(
            "Runtime.evaluate", within_s, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result["result"].get("value")

    def reload(self) -> None:
        """Load the page anew; the old one is gone when this returns."""
        self.evaluate("window.isOld = true")
        self.call("Page.reload")
        self.wait_for("!window.isOld", "the page is loaded anew")

    def text(self) -> str:
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait_for(self, expression: str, what: str) -> float:
        """Wait until an expression is true; how long that took in seconds."""
        begin = time.monotonic()
        while time.monotonic() - begin < DEADLINE_S:
            # A page that is being left may answer with an error, or not at all.
            with suppress(ProtocolError, TimeoutError):
                if self.evaluate(expression, ANSWER_S):
                    return time.monotonic() - begin
            time.sleep(0.02)
        troubles = "\n".join(self._troubles)
        raise AssertionError(
            f"{what} did not happen; the page shows:\n{self.text()}\nIts last events:\n{troubles}"
        )

    def wait_for_text(self, text: str) -> float:
        return self.wait_for(f"document.body?.innerText.includes({json.dumps(text)})", f"the text {text!r}")

    def type_into(self, selector: str, text: str) -> None:
        """Put the cursor into a field and type, as a person does."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def press_enter(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                windowsVirtualKeyCode=13,
                text="\r",
            )

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")
