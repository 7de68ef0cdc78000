"""Imports and exports of one backend, as one part to start and stop."""

from __future__ import annotations

from pathlib import Path

from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.functions import FileStorage
from cvx.backend.jobs.exporter import ExportService
from cvx.backend.jobs.importer import ImportService
from cvx.values import Clock


class Transfers:
    """`data`: the backend's folder; uploads and finished exports are kept in `transfers` inside it."""

    def __init__(self, db: Database, files: FileStorage, data: Path, clock: Clock, limits: Limits) -> None:
        folder = data / "transfers"
        self.imports = ImportService(db, files, folder / "imports", clock, limits)
        self.exports = ExportService(db, files, data, folder / "exports", clock, limits)

    async def start(self) -> None:
        await self.imports.start()
        await self.exports.start()

    async def close(self) -> None:
        await self.exports.close()
        await self.imports.close()
