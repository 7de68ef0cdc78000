"""A file as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

_READ_BYTES = 1 << 20


async def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """What is in a file, a mebibyte at a time, read on other threads. Raises OSError."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _READ_BYTES):
            yield piece
    finally:
        file.close()
