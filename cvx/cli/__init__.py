"""The door: parse, call one thing in a room below, render the answer.

Rules: only `output.py` writes to the terminal, only `app.py` chooses an exit code, only `prompts.py` asks.
"""

from __future__ import annotations

from cvx.cli.app import run

__all__ = ["run"]
