"""ctx.runQuery and ctx.runMutation: one transaction, sub-transactions that can be taken back."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from cvx.backend.auth import user_from_attributes
from tests.functions.deployment import App, Deployment
from tests.functions.test_calls import run

pytestmark = pytest.mark.deno


def test_a_failed_nested_mutation_takes_back_its_own_writes_only(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        result = await d.mutation("nested:catchAndGoOn")
        assert result["seen"] == ["before", "kept"]
        # The message is the inner error's whole rendering, frames included.
        assert result["message"].startswith("Uncaught Error: thrown inside\n    at ")
        assert await d.query("nested:listTags") == ["before", "kept"]

    run(tmp_path, app, body)


def test_normalize_id_knows_tables_that_have_just_been_made(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.mutation("nested:normalizeNew") == [True] * 5

    run(tmp_path, app, body)


def test_an_uncaught_nested_error_takes_back_everything(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.mutation_error("nested:failWithNested")
        assert text.startswith("Uncaught Error: Uncaught Error: thrown inside\n")
        assert await d.query("nested:listTags") == []

    run(tmp_path, app, body)


def test_logs_of_nested_functions_are_kept_even_of_failed_ones(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        result = await d.mutate("nested:failWithNested")
        assert result.log_lines == ["[LOG] 'about to throw' 'inner'"]
        calls, _ = d.executor.log.calls(0)
        line = calls[-1].log_lines[0].structured()
        assert line["udfPath"] == "nested:insertThenThrow"

    run(tmp_path, app, body)


def test_logs_of_nested_functions_stand_where_they_were_written(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        result = await d.mutate("nested:converse")
        assert [line.removeprefix("[LOG] ").strip("'") for line in result.log_lines] == [
            "first",
            "outer begins",
            "inner begins",
            "inner ends",
            "outer ends",
            "between",
            "after asking",
            "left begins",
            "left ends",
            "right begins",
            "right ends",
            "last",
        ]
        calls, _ = d.executor.log.calls(0)
        paths = [line.structured().get("udfPath") for line in calls[-1].log_lines]
        assert paths[:3] == [None, "nested:speak", "nested:speak"] and paths[-1] is None

    run(tmp_path, app, body)


def test_convex_error_data_passes_through(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        data = {"code": 1.0, "list": ["a"]}
        assert await d.mutation("nested:catchData", {"data": data}) == {"isConvexError": True, "data": data}
        result = await d.mutate("nested:passData", {"data": data})
        assert result.error is not None and result.error.data_json is not None
        assert json.loads(result.error.data_json) == data

    run(tmp_path, app, body)


def test_arguments_and_names_of_nested_calls_are_checked(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.mutation_error("nested:badArgs")
        assert "ArgumentValidationError: " in text and "Path: .tag" in text
        text = await d.query_error("nested:missing")
        assert "Could not find function for 'nested:doesNotExist'" in text

    run(tmp_path, app, body)


def test_depth_is_bounded(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert "infinite loop" in await d.query_error("nested:forever", {"depth": 0})

    run(tmp_path, app, body)


def test_nested_queries_see_the_transaction(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.mutation("nested:seesOwnWrites") is True

    run(tmp_path, app, body)


def test_a_nested_call_may_have_a_budget_of_its_own(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.mutation("nested:withBudget", {"count": 3}) == ""
        assert len(await d.query("nested:listTags")) == 8
        message = await d.mutation("nested:withBudget", {"count": 4})
        assert "Too many documents written" in message and "limit: 3" in message
        assert len(await d.query("nested:listTags")) == 13

    run(tmp_path, app, body)


def test_a_query_cannot_run_a_stale_one(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert "Queries can run queries only" in await d.query_error("nested:staleInQuery")

    run(tmp_path, app, body)


def test_a_stale_query_sees_the_beginning_of_the_transaction(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert await d.mutation("nested:staleQuery") == {"stale": [], "fresh": ["pending"]}

    run(tmp_path, app, body)


def test_the_commit_timestamp_is_filled_in_at_the_commit(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        result = await d.mutate("nested:withCommitTs")
        assert result.value_json is not None and result.ts is not None
        document = await d.query("behaviour:getAny", {"id": json.loads(result.value_json)})
        encoded = base64.b64encode(result.ts.to_bytes(8, "little")).decode()
        assert document["at"] == {"$integer": encoded}
        text = await d.mutation_error("nested:returnCommitTs")
        assert "commit timestamp" in text

    run(tmp_path, app, body)


def test_a_limit_ends_the_whole_stack_of_calls(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        text = await d.mutation_error("nested:catchesEndless")
        assert text.startswith("Function execution timed out (maximum duration: 1s)"), text
        assert await d.query("nested:listTags") == []

    run(tmp_path, app, body)


def test_what_a_nested_function_looked_at_counts_for_its_caller(tmp_path: Path, app: App) -> None:
    async def body(d: Deployment) -> None:
        assert (await d.entry("nested:nestedNow")).expires_at is not None
        ada = user_from_attributes({"issuer": "i", "subject": "ada"})
        assert (await d.query("nested:nestedWhoami", identity=ada))["subject"] == "ada"
        assert await d.query("nested:nestedWhoami") is None

    run(tmp_path, app, body)
