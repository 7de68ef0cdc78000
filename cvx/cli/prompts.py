"""Questions to a person; a polite refusal where nobody can answer.

Rule: nothing else asks. Without a terminal on standard input, or with `--no-input`, every question becomes a
usage error that names the flag to pass instead (cli-contract item 13).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cvx.errors import CvxError


@dataclass
class Prompts:
    """Asks on the terminal. `allowed` is false under `--no-input` and `--json`."""

    allowed: bool = True
    before: Callable[[], None] = lambda: None
    """Called before a question is shown: what stands on its line has to go."""

    @property
    def possible(self) -> bool:
        """Is there somebody to ask?"""
        return self.allowed and stdin_is_terminal() and sys.stderr.isatty()

    def choose(
        self, question: str, choices: Sequence[str] | Mapping[str, str], *, default: str, flag: str
    ) -> str:
        """One of `choices`; a mapping explains each of them."""
        self._require(question, flag)
        import questionary

        explained = choices if isinstance(choices, Mapping) else dict.fromkeys(choices, "")
        width = max(map(len, explained))
        shown = [
            questionary.Choice(f"{name.ljust(width)}  {text}".rstrip(), value=name)
            for name, text in explained.items()
        ]
        return str(self._answer(questionary.select(question, choices=shown, default=default)))

    def confirm(self, question: str, *, default: bool, flag: str) -> bool:
        """Yes or no."""
        self._require(question, flag)
        import questionary

        return bool(self._answer(questionary.confirm(question, default=default)))

    def secret(self, question: str, *, flag: str) -> str:
        """A value that is not echoed."""
        self._require(question, flag)
        import questionary

        return str(self._answer(questionary.password(question)))

    def typed(self, question: str, *, expected: str, flag: str) -> bool:
        """A confirmation the user must spell out; true when it matches."""
        self._require(question, flag)
        import questionary

        return str(self._answer(questionary.text(f"{question} Type {expected!r} to go on:"))) == expected

    def _require(self, question: str, flag: str) -> None:
        if not self.possible:
            raise CvxError(
                "InputNeeded",
                f"“{question.rstrip(':')}” cannot be asked here: there is no terminal, or questions are switched off.",
                hint=f"Pass {flag}.",
            )
        self.before()

    @staticmethod
    def _answer(question: Any) -> Any:
        answer = question.unsafe_ask()
        if answer is None:
            raise KeyboardInterrupt
        return answer


def stdin_is_terminal() -> bool:
    """False also when standard input is closed."""
    try:
        return sys.stdin is not None and sys.stdin.isatty()
    except ValueError:
        return False


def read_stdin() -> str | None:
    """All of standard input when it is a pipe or a file; None when it is a terminal or closed."""
    if sys.stdin is None or stdin_is_terminal():
        return None
    try:
        return sys.stdin.buffer.read().decode("utf-8")  # Not as the locale has it.
    except UnicodeDecodeError as error:
        raise CvxError(
            "NotText",
            f"Standard input is not text: byte {error.start} is no UTF-8.",
            hint="Values are text; encode bytes as base64 first.",
        ) from None
    except (OSError, ValueError):
        return None
