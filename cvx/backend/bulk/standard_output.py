"""Standard output of the two programs."""

from __future__ import annotations

import sys
from typing import BinaryIO


def standard_output() -> BinaryIO:
    """Takes all that is written, or fails.

    With PYTHONUNBUFFERED, `sys.stdout.buffer` hands a piece to the system once, and what a full pipe left over of it when
    the process was stopped (Ctrl-Z, a laptop that sleeps) would be lost without a word.
    """
    return open(sys.stdout.fileno(), "wb", closefd=False)
