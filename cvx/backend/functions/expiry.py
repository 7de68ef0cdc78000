"""Forgetting answers to mutations that nobody can ask for again (14 days; values-and-sync.md §4.6)."""

from __future__ import annotations

import asyncio
import logging

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.model import session_requests
from cvx.errors import CvxError

_log = logging.getLogger("cvx.functions")


async def forget_old_answers(db: Database, limits: Limits) -> int:
    """Delete every answer older than `session_request_retention_s`, in small commits; how many rows went."""
    before_ms = db.clock.now_ns() / 1e6 - limits.session_request_retention_s * 1000.0
    total = 0
    while True:
        deleted, _ = await db.run(
            SYSTEM,
            lambda tx: session_requests.drop_expired(tx, before_ms, limits.session_request_batch_rows),
            write_source="session requests",
        )
        total += deleted
        if deleted < limits.session_request_batch_rows:
            return total


async def keep_forgetting(db: Database, limits: Limits) -> None:
    """Do so every now and then, until cancelled."""
    while True:
        await asyncio.sleep(limits.session_request_sweep_s)
        try:
            await forget_old_answers(db, limits)
        except CvxError as error:
            _log.warning("old answers could not be forgotten, and will be later: %s", error)
