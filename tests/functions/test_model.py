"""System data through transactions: environment rules, modules, settings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cvx.backend.auth import SYSTEM
from cvx.backend.config import Limits
from cvx.backend.database import Database
from cvx.backend.model import (
    SYSTEM_TABLES,
    DeploymentInfo,
    EnvironmentChange,
    ModuleText,
    NewModule,
    deployment,
    environment,
    modules,
)
from cvx.errors import CvxError
from tests.functions.deployment import WallClock

INFO = DeploymentInfo("otter", "http://cloud", "http://site")


def run(folder: Path, body: Callable[[Database], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await Database.open(folder, clock=WallClock(), system_tables=SYSTEM_TABLES) as db:
            await body(db)

    asyncio.run(main())


def read(db: Database, body: Callable[[Any], Any]) -> Any:
    with db.snapshot() as snapshot:
        return body(db.begin(SYSTEM, snapshot=snapshot, read_only=True))


async def change(db: Database, *pairs: tuple[str, str | None], limits: Limits | None = None) -> None:
    changes = [EnvironmentChange(name, value) for name, value in pairs]
    await db.run(SYSTEM, lambda tx: environment.change_environment(tx, changes, limits or Limits()))


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([("1A", "x")], "EnvironmentVariableNameInvalid"),
        ([("", "x")], "EnvironmentVariableNameInvalid"),
        ([("A-B", "x")], "EnvironmentVariableNameInvalid"),
        ([("Ä", "x")], "EnvironmentVariableNameInvalid"),
        ([("A" * 257, "x")], "EnvironmentVariableNameTooLong"),
        ([("A", "x" * 8193)], "EnvironmentVariableValueTooLarge"),
        ([("A", "ż" * 4097)], "EnvironmentVariableValueTooLarge"),
        ([("CONVEX_CLOUD_URL", "x")], "EnvVarNameForbidden"),
        ([("A", "x"), ("A", "y")], "EnvVarNameNotUnique"),
        ([("A", "x"), ("B", None), ("A", None)], "EnvVarNameNotUnique"),
    ],
)
def test_broken_rules_of_variables_have_their_codes(
    tmp_path: Path, pairs: list[tuple[str, str | None]], code: str
) -> None:
    async def body(db: Database) -> None:
        await change(db, ("KEPT", "1"))
        with pytest.raises(CvxError) as caught:
            await change(db, ("NEW", "2"), *pairs)
        assert caught.value.code == code
        assert read(db, environment.environment) == {"KEPT": "1"}  # All or nothing.

    run(tmp_path, body)


def test_variables_have_limits_together(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        limits = Limits(environment_variables_max=2, environment_bytes_max=20)
        await change(db, ("A", "1"), ("B", "2"), limits=limits)
        with pytest.raises(CvxError) as caught:
            await change(db, ("C", "3"), limits=limits)
        assert caught.value.code == "EnvVarLimitMet"
        await change(db, ("C", "3"), ("A", None), limits=limits)
        with pytest.raises(CvxError) as caught:
            await change(db, ("C", "x" * 30), limits=limits)
        assert caught.value.code == "EnvVarTotalSizeLimitMet"
        assert read(db, environment.environment) == {"B": "2", "C": "3"}

    run(tmp_path, body)


def test_variables_are_set_changed_and_removed(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        await change(db, ("B", "2"), ("A", ""), ("_X9", "multi\nline"))
        assert list(read(db, environment.environment).items()) == [
            ("A", ""),
            ("B", "2"),
            ("_X9", "multi\nline"),
        ]
        await change(db, ("B", "3"), ("A", None), ("NEVER_SET", None))
        assert read(db, lambda tx: environment.variable(tx, "B")) == "3"
        assert read(db, lambda tx: environment.variable(tx, "A")) is None

    run(tmp_path, body)


def new(path: str, source: str, source_map: str | None = None) -> NewModule:
    text = ModuleText(source, source_map)
    return NewModule(path, modules.source_hash(text), "isolate", {"functions": []}, text)


def test_modules_are_replaced_as_a_set(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        async def push(*pushed: NewModule) -> modules.ModuleChanges:
            changes, _ = await db.run(SYSTEM, lambda tx: modules.replace_modules(tx, pushed))
            return changes

        large = os.urandom(1_000_000).hex() + "\U0001f600"  # Larger than a document may be, compressed too.
        first = await push(new("a.js", "a"), new("b.js", large, "{}"), new("_deps/C.js", "c"))
        assert (first.added, first.changed, first.removed) == (["a.js", "b.js", "_deps/C.js"], [], [])
        rows = read(db, modules.all_modules)
        assert [row.path for row in rows] == ["_deps/C.js", "a.js", "b.js"]
        text = read(db, lambda tx: modules.text_of(tx, rows[2].sha256))
        assert (text.source, text.source_map) == (large, "{}")
        before = db.latest_ts
        nothing = await push(new("a.js", "a"), new("b.js", large, "{}"), new("_deps/C.js", "c"))
        assert (nothing.added, nothing.changed, nothing.removed) == ([], [], [])
        assert db.latest_ts == before  # Pushing the same code again writes nothing.
        unchanged = NewModule("a.js", rows[1].sha256, "isolate", {"functions": []})
        second = await push(unchanged, new("b.js", "b2"))
        assert (second.changed, second.removed) == (["b.js"], ["_deps/C.js"])
        assert read(db, lambda tx: modules.text_of(tx, rows[2].sha256)) is None  # The old text went too.
        assert read(db, lambda tx: modules.text_of(tx, rows[1].sha256)).source == "a"

    run(tmp_path, body)


def test_many_modules_are_not_too_many_reads(tmp_path: Path) -> None:
    async def main() -> None:
        limits = Limits(read_intervals_max=20)
        async with await Database.open(
            tmp_path, clock=WallClock(), limits=limits, system_tables=SYSTEM_TABLES
        ) as db:
            for version in ("1", "2"):
                every = [new(f"m{n}.js", f"export const v = {version}{n};") for n in range(50)]
                await db.run(SYSTEM, partial(modules.replace_modules, modules=every))
            with db.snapshot() as snapshot:
                tx = db.begin(SYSTEM, snapshot=snapshot, read_only=True)
                texts = [modules.text_of(tx, row.sha256) for row in modules.all_modules(tx)]
            assert len(texts) == 50 and None not in texts

    asyncio.run(main())


def test_two_modules_may_share_a_text(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        await db.run(
            SYSTEM, lambda tx: modules.replace_modules(tx, [new("a.js", "same"), new("b.js", "same")])
        )
        await db.run(SYSTEM, lambda tx: modules.replace_modules(tx, [new("a.js", "same")]))
        row = read(db, lambda tx: modules.module(tx, "a.js"))
        assert read(db, lambda tx: modules.text_of(tx, row.sha256)).source == "same"

    run(tmp_path, body)


def test_settings(tmp_path: Path) -> None:
    async def body(db: Database) -> None:
        def urls() -> tuple[str, str]:
            found = read(db, lambda tx: deployment.canonical_urls(tx, INFO))
            return found.cloud, found.site

        assert urls() == ("http://cloud", "http://site")
        await db.run(SYSTEM, lambda tx: deployment.set_canonical_url(tx, "convexCloud", "https://x/"))
        assert urls() == ("https://x", "http://site")
        await db.run(SYSTEM, lambda tx: deployment.set_canonical_url(tx, "convexCloud", None))
        assert urls() == ("http://cloud", "http://site")
        with pytest.raises(CvxError) as caught:
            await db.run(SYSTEM, lambda tx: deployment.set_canonical_url(tx, "elsewhere", "x"))
        assert caught.value.code == "InvalidRequestDestination"
        assert read(db, deployment.udf_config) == deployment.NO_UDF_CONFIG
        config = deployment.UdfConfig("1.48.0", 12.5, bytes(range(32)), "convex/", "22")
        await db.run(SYSTEM, lambda tx: deployment.set_udf_config(tx, config))
        assert read(db, deployment.udf_config) == config
        assert read(db, deployment.auth_providers) == []

    run(tmp_path, body)
