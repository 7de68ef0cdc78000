"""Sets of packages in place: what is used stays, what is being installed ends."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.config import Limits
from cvx.backend.runner.node_packages import NodePackages
from cvx.errors import CvxError
from tests.processes import descendants, still_alive


def packages_of(home: Path, install: str, **limits: Any) -> NodePackages:
    """Where `install` is what a shell does instead of Deno."""
    program = home / "installer"
    program.write_text(f"#!/bin/sh\n{install}\n")
    program.chmod(0o755)
    return NodePackages(home / "packages", None, program, Limits(**limits))


def one(version: int) -> tuple[tuple[str, str], ...]:
    return (("left-pad", f"{version}.0.0"),)


def test_a_set_that_processes_use_stays(tmp_path: Path) -> None:
    async def main() -> None:
        packages = packages_of(tmp_path, "mkdir node_modules", node_package_sets_max=2)
        first = await packages.ready(one(1))
        second = await packages.ready(one(2))
        assert first is not None and second is not None and first.is_dir() and second.is_dir()
        for folder, age_s in ((first, 200), (second, 100)):
            os.utime(folder.parent, (1e9 - age_s, 1e9 - age_s))
        third = await packages.ready(one(3), {first})
        assert third is not None and first.is_dir() and third.is_dir(), "the oldest is in use"
        fourth = await packages.ready(one(4))
        assert fourth is not None and not first.is_dir() and fourth.is_dir(), "it is not any more"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["close", "time"])
def test_an_installation_that_does_not_end(tmp_path: Path, how: str) -> None:
    """It goes with all that it started."""
    before = descendants(os.getpid())

    async def main() -> None:
        seconds = 300.0 if how == "close" else 1.0
        packages = packages_of(tmp_path, f"touch {tmp_path}/begun; sleep 600; true", node_install_s=seconds)
        installing = asyncio.ensure_future(packages.ready(one(1)))
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
        started = descendants(os.getpid()) - before
        if how == "close":
            await packages.close()
        with pytest.raises(CvxError) as caught:
            await installing
        expected = "BackendStopping" if how == "close" else "InvalidExternalModules"
        assert caught.value.code == expected
        assert await asyncio.to_thread(still_alive, started) == set()
        assert list((tmp_path / "packages").iterdir()) == [], "nor is half of it left"

    asyncio.run(main())
