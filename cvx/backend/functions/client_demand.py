"""Whether clients are waiting for functions right now: then what can wait makes room.

Source: issue 3 (10,000 scheduled functions due at once must not starve clients).
"""

from __future__ import annotations

import time
from types import TracebackType


class ClientDemand:
    """Entered around every call that somebody waits for."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._calls = 0
        self._last_ended = float("-inf")

    def __enter__(self) -> None:
        self._calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls -= 1
        self._last_ended = time.monotonic()

    @property
    def is_there(self) -> bool:
        """A call is under way, or one ended so recently that the same client may be about to ask for more."""
        return self._calls > 0 or time.monotonic() - self._last_ended < self._quiet_s
