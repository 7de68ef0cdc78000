"""`cvx backend limits`, and that a limit set on the command line or in cvx.toml is the one that is kept."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

import cvx as cvx_package
from cvx.backend.config import Limits
from cvx.backend.limits import DATA, FIXED, OTHER, described, limits_with, shown, unit_of
from cvx.errors import CvxError
from tests.apps.driving import HERE, pushed
from tests.backend_process import BackendProcess
from tests.cli.command_line import cvx, empty_project


def test_every_limit_is_listed_with_its_unit_and_group() -> None:
    found = described()
    assert {info.name for info in found if info.origin != FIXED} == {field.name for field in fields(Limits)}
    nowhere = [info.name for info in found if info.group == OTHER]
    assert nowhere == [], "say in cvx/backend/limits.py which group they belong to"
    assert {info.unit for info in found} == {"bytes", "s", "ms", "rows", "chars", "count"} - (
        {"ms"} if not any(info.name.endswith("_ms") for info in found) else set()
    )
    assert all(
        info.is_default and info.origin == ("fixed" if info.group == DATA else "default") for info in found
    )


def test_every_limit_is_kept_somewhere() -> None:
    root = Path(cvx_package.__file__).parent
    code = "\n".join(
        path.read_text() for path in root.rglob("*.py") if path.name not in ("config.py", "limits.py")
    )
    assert [field.name for field in fields(Limits) if not re.search(rf"\.{field.name}\b", code)] == []


def test_values_are_read_as_people_write_them() -> None:
    limits = limits_with(
        [
            ("read_bytes_max", "32MiB", "--limit"),
            ("documents_read_max", "64_000", "--limit"),
            ("function_user_time_s", "500ms", "--limit"),
            ("request_time_s", "2 min", "--limit"),
            ("scan_batch_rows", 64, "cvx.toml"),
            ("snapshot_age_s", 5, "cvx.toml"),
            ("runner_early_writes_max", 0, "cvx.toml"),
        ]
    )
    assert (limits.read_bytes_max, limits.documents_read_max) == (32 << 20, 64_000)
    assert (limits.function_user_time_s, limits.request_time_s) == (0.5, 120.0)
    assert (limits.scan_batch_rows, limits.snapshot_age_s, limits.runner_early_writes_max) == (64, 5.0, 0)
    assert isinstance(limits.snapshot_age_s, float)


def test_a_later_setting_wins() -> None:
    settings = [("tables_max", 5, "cvx.toml"), ("tables_max", "7", "--limit")]
    assert limits_with(settings).tables_max == 7
    assert next(info for info in described(settings) if info.name == "tables_max").origin == "--limit"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tables_max", "many"),
        ("tables_max", "-1"),
        ("tables_max", "2.5"),
        ("tables_max", "5MiB"),
        ("tables_max", 0),
        ("tables_max", True),
        ("read_bytes_max", "16 parsecs"),
        ("read_bytes_max", ""),
        ("document_bytes_max", 1 << 21),
        ("snapshot_age_s", float("inf")),
        ("snapshot_age_s", float("nan")),
    ],
)
def test_what_is_no_value_is_refused(name: str, value: object) -> None:
    with pytest.raises(CvxError) as refused:
        limits_with([(name, value, "cvx.toml")])
    assert refused.value.code == "InvalidLimitValue"
    assert name in refused.value.message and "cvx.toml" in refused.value.message


def test_units_and_how_values_are_shown() -> None:
    assert [unit_of(name) for name in ("read_bytes_max", "stop_s", "store_step_rows", "tables_max")] == [
        "bytes",
        "s",
        "rows",
        "count",
    ]
    assert shown(16 << 20, "bytes") == "16 MiB" and shown(16_779_216, "bytes") == "16,779,216 bytes"
    assert shown(32_000, "count") == "32,000" and shown(0.3, "s") == "0.3 s" and shown(10.0, "s") == "10 s"


def test_the_command_shows_where_a_limit_is_set(tmp_path: Path) -> None:
    project = empty_project(tmp_path)
    (project / "cvx.toml").write_text('[backend.limits]\nread_bytes_max = "32MiB"\ntables_max = 20\n')
    answer = cvx("backend", "limits", "--limit", "tables_max=30", "--json", cwd=project).envelope()["data"]
    limits = {limit["name"]: limit for limit in answer["limits"]}
    assert (
        limits["document_bytes_max"]["origin"] == "fixed" and limits["document_bytes_max"]["value"] == 1 << 20
    )
    assert limits["read_bytes_max"] == {
        "name": "read_bytes_max",
        "value": 32 << 20,
        "default": 16 << 20,
        "unit": "bytes",
        "group": "One transaction",
        "origin": "cvx.toml",
        "documented": "docs.convex.dev/production/state/limits",
    }
    assert (limits["tables_max"]["value"], limits["tables_max"]["origin"]) == (30, "--limit")
    table = cvx("backend", "limits", "tables_max", cwd=project).out
    assert "Tables and indexes" in table and "cvx.toml (default 10,000)" in table
    assert "read_bytes_max" not in table


def test_unknown_limits_and_bad_values_are_named(tmp_path: Path) -> None:
    project = empty_project(tmp_path)
    for arguments in (
        ("backend", "limits", "document_read_max"),
        ("backend", "serve", "--data", "data", "--limit", "document_read_max=5"),
    ):
        done = cvx(*arguments, "--json", cwd=project)
        assert done.code == 1
        error = done.envelope()["error"]
        assert error["code"] == "UnknownLimit" and "documents_read_max" in error["hint"]
    done = cvx("backend", "serve", "--data", "data", "--limit", "tables_max=lots", "--json", cwd=project)
    assert done.envelope()["error"]["code"] == "InvalidLimitValue"
    done = cvx("backend", "serve", "--data", "data", "--limit", "tables_max", "--json", cwd=project)
    assert done.envelope()["error"]["code"] == "UsageError"
    assert not (project / "data").exists()


@pytest.mark.deno
def test_what_is_set_is_what_is_kept(tmp_path: Path) -> None:
    backend = BackendProcess(tmp_path / "data")
    backend.start("--limit", "environment_value_bytes_max=10", "--limit", "request_body_bytes_max=1KiB")
    try:
        headers = {"Authorization": f"Convex {backend.admin_key}"}

        def change(value: str) -> httpx.Response:
            body = {"changes": [{"name": "A", "value": value}]}
            return httpx.post(f"{backend.url}/api/update_environment_variables", json=body, headers=headers)

        assert change("0123456789").status_code == 200
        refused = change("0123456789a")
        assert (refused.status_code, refused.json()["code"]) == (400, "EnvironmentVariableValueTooLarge")
        assert change("x" * 2000).status_code == 413
    finally:
        backend.stop()


@pytest.mark.deno
def test_a_local_deployment_keeps_the_limits_of_cvx_toml(tmp_path: Path) -> None:
    project = empty_project(tmp_path)
    (project / "cvx.toml").write_text("[backend.limits]\nenvironment_value_bytes_max = 10\n")
    made = cvx("deployment", "create", "small", cwd=project)
    assert made.code == 0, made.err
    done = cvx("env", "set", "A", "0123456789a", "--deployment", "small", "--json", cwd=project)
    assert done.envelope()["error"]["code"] == "EnvironmentVariableValueTooLarge"
    (project / "cvx.toml").write_text("[backend.limits]\nenvironment_value_byte_max = 10\n")
    done = cvx("env", "set", "A", "1", "--deployment", "small", cwd=project)
    assert done.code != 0 and "environment_value_bytes_max" in done.err


@pytest.mark.deno
@pytest.mark.node
def test_limits_of_the_console_reach_the_children(tmp_path: Path) -> None:
    """Two that are kept outside this process: in the children that run queries, mutations and actions."""
    backend = BackendProcess(tmp_path / "data")
    backend.start("--limit", "log_lines_max=300", "--limit", "log_line_bytes_max=1KiB")
    try:
        pushed(backend, HERE / "logs", tmp_path / "app")
        for kind, path, args in (
            ("mutation", "orders:chatter", {"lines": 400, "size": 2000}),
            ("action", "reports:chatter", {"lines": 400}),
        ):
            body = {"path": path, "args": args, "format": "json"}
            lines = httpx.post(f"{backend.url}/api/{kind}", json=body, timeout=60).json()["logLines"]
            assert len(lines) == 300 and "maximum 300" in lines[-1]
            if kind == "mutation":
                assert len(lines[0]) == len("[LOG] ") + 1024 + len(" (truncated due to length)")
    finally:
        backend.stop()
