"""Mutations: progress under contention, idempotent replay, all or nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from uuid import uuid4

import pytest

from cvx.backend.auth import Admin
from cvx.errors import CvxError
from tests.functions.deployment import App, Deployment
from tests.functions.test_calls import run

pytestmark = pytest.mark.deno


def test_sixty_four_writers_of_one_row_all_succeed(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        results = await asyncio.gather(*(d.mutate("bank:increment", {"name": "hot"}) for _ in range(64)))
        assert sorted(int(float(r.value_json or b"0")) for r in results) == list(range(1, 65))
        assert len({r.ts for r in results}) == 64

    run(tmp_path, app, body, children=2)


def test_transfers_under_contention_lose_nothing(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        names = [f"a{n}" for n in range(6)]
        for name in names:
            await d.mutation("bank:open", {"name": name, "balance": 100})
        rng = random.Random(7)
        pairs = [rng.sample(names, 2) for _ in range(120)]
        await asyncio.gather(
            *(d.mutation("bank:transfer", {"from": a, "to": b, "amount": 1}) for a, b in pairs)
        )
        balances = [await d.query("bank:balance", {"name": name}) for name in names]
        expected = [
            100.0 + sum(b == name for _, b in pairs) - sum(a == name for a, _ in pairs) for name in names
        ]
        assert balances == expected

    run(tmp_path, app, body, children=2)


def test_a_replayed_request_is_answered_not_run(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        session = (str(uuid4()), 3)
        first = await d.mutate("bank:increment", {"name": "n"}, session=session)
        again = await d.mutate("bank:increment", {"name": "n"}, session=session)
        assert (again.ts, again.value_json, again.log_lines) == (first.ts, first.value_json, first.log_lines)
        assert again.request_id == first.request_id
        other = await d.mutate("bank:increment", {"name": "n"}, session=(session[0], 4))
        assert other.value_json == b"2.0"

    run(tmp_path, app, body)


def test_racing_copies_of_a_request_run_once(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        session = (str(uuid4()), 0)
        results = await asyncio.gather(
            *(d.mutate("bank:increment", {"name": "n"}, session=session) for _ in range(8))
        )
        assert {r.value_json for r in results} == {b"1.0"}
        assert len({r.ts for r in results}) == 1

    run(tmp_path, app, body)


def test_a_failed_request_is_run_again(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        session = (str(uuid4()), 0)
        args = {"from": "ada", "to": "bob", "amount": 1}
        failed = await d.mutate("bank:transfer", args, session=session)
        assert failed.error is not None and failed.ts is None
        assert "no such account" in failed.error.message
        await d.mutation("bank:open", {"name": "ada", "balance": 5})
        await d.mutation("bank:open", {"name": "bob", "balance": 5})
        assert (await d.mutate("bank:transfer", args, session=session)).value_json == b"4.0"

    run(tmp_path, app, body)


def test_request_ids_of_sessions_are_the_documented_hash(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        session = ("d7620305-49e3-4d70-aa5c-ae1f7c955666", 0)
        result = await d.mutate("bank:increment", {"name": "n"}, session=session)
        assert result.request_id == "e953d57ec0fa2b5d"

    run(tmp_path, app, body)


def test_an_error_takes_back_every_write(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        await d.mutation("bank:open", {"name": "ada", "balance": 1})
        await d.mutation("bank:open", {"name": "bob", "balance": 0})
        text = await d.mutation_error("bank:transfer", {"from": "ada", "to": "bob", "amount": 5})
        assert "insufficient funds" in text
        assert await d.query("bank:balance", {"name": "ada"}) == 1.0

    run(tmp_path, app, body)


def test_read_only_admins_may_not_write(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        with pytest.raises(CvxError) as caught:
            await d.mutate("bank:increment", {"name": "n"}, identity=Admin(read_only=True))
        assert caught.value.code == "ReadOnlyAdminKey"

    run(tmp_path, app, body)


def test_a_commit_is_announced_before_its_answer(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        seen: list[int] = []
        result = await d.mutate("bank:increment", {"name": "n"}, on_commit=seen.append)
        assert seen == [result.ts]

    run(tmp_path, app, body)
