"""ctx.runQuery and ctx.runMutation: one transaction, sub-transactions that can be taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
