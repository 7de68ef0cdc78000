"""Imports and exports of one backend, as one part to start and stop."""

from __future__ import annotations

from pathlib import Path

from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.jobs.importer import ImportService
from cvx.values import Clock


class Transfers:
    """`folder`: where uploads and finished exports are kept."""

    def __init__(self, db: Database, folder: Path, clock: Clock, limits: Limits) -> None:
        self.imports = ImportService(db, folder / "imports", clock, limits)

    async def start(self) -> None:
        await self.imports.start()

    async def close(self) -> None:
        await self.imports.close()
