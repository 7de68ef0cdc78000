"""Function, module, component and field paths; timestamps."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cvx.errors import CvxError
from cvx.values import (
    FunctionPath,
    check_component_path,
    check_module_path,
    check_table_name,
    creation_time_of,
    decode_ts,
    encode_ts,
    next_float,
    parse_field_path,
)


def code_of(function: Any, *args: Any) -> str:
    with pytest.raises(CvxError) as caught:
        function(*args)
    return caught.value.code


@pytest.mark.parametrize("text", ["a/b:c", "a/b.js:c"])
def test_equivalent_spellings_of_a_named_export(text: str) -> None:
    path = FunctionPath.parse(text)
    assert path == FunctionPath("", "a/b.js", "c")
    assert (path.canonical, path.udf_path, path.display, str(path)) == ("a/b.js:c", "a/b:c", "a/b:c", "a/b:c")


@pytest.mark.parametrize("text", ["a/b", "a/b:default", "a/b.js", "a/b.js:default"])
def test_equivalent_spellings_of_a_default_export(text: str) -> None:
    path = FunctionPath.parse(text, "comp/inner")
    assert path == FunctionPath("comp/inner", "a/b.js", "default")
    assert (path.canonical, path.udf_path, path.display) == ("a/b.js:default", "a/b:default", "a/b")


def test_inner_periods_are_part_of_a_module_name_before_js() -> None:
    assert FunctionPath.parse("auth.config.js:x").module == "auth.config.js"
    assert FunctionPath.parse("_system/cli/tables").is_system


@pytest.mark.parametrize(
    "text",
    ["", ":", ":a", "a:", "/a:b", "a//b", "a/:b", "../a:b", "a/..:b", "messages.list", "messages.ts:x", "a b:c",
     "é:a", "a:b-c", "a:1x", "a:__", "x" * 65, "a:" + "x" * 65, ".js:a", "___:a", "a:b:c", "a\n:b"],
)  # fmt: skip
def test_bad_function_paths(text: str) -> None:
    assert code_of(FunctionPath.parse, text) == "BadConvexFunctionIdentifier"


def test_module_paths() -> None:
    assert check_module_path("a/b") == check_module_path("a/b.js") == "a/b.js"
    assert check_module_path("_deps/ABC123.js") == "_deps/ABC123.js"
    assert code_of(check_module_path, "a/b.ts") == "BadConvexModuleIdentifier"


def test_component_paths() -> None:
    assert check_component_path("") == ""
    assert check_component_path("a/b") == "a/b"
    for bad in ("/", "a/", "a//b", "a.b", "1a"):
        assert code_of(check_component_path, bad) == "InvalidComponentPath"
    assert code_of(FunctionPath.parse, "a:b", "x/") == "InvalidComponentPath"


def test_table_names() -> None:
    assert check_table_name("users_2") == "users_2"
    assert code_of(check_table_name, "_users") == "TableNameReserved"
    for bad in ("", "2a", "a-b", "a.b", "a" * 65, "é"):
        assert code_of(check_table_name, bad) == "InvalidTableName"


def test_field_paths() -> None:
    assert parse_field_path("a.b_1._c") == ("a", "b_1", "_c")
    assert parse_field_path(".a.") == ("a",)
    for bad in ("", ".", "a..b", "a b", "1a", "__", "a.$b", "a" * 65):
        assert code_of(parse_field_path, bad) == "InvalidFieldPath"


def test_endless_paths_are_refused() -> None:
    assert code_of(FunctionPath.parse, "a/" * 5000 + "a") == "BadConvexFunctionIdentifier"
    assert code_of(parse_field_path, "a." * 5000 + "a") == "InvalidFieldPath"


def test_timestamps_on_the_wire() -> None:
    assert encode_ts(0) == "AAAAAAAAAAA="
    assert encode_ts(1) == "AQAAAAAAAAA="
    assert decode_ts(encode_ts((1 << 64) - 1)) == (1 << 64) - 1
    for bad in ("", "AQ==", "not base64!", "AQAAAAAAAAAA"):
        assert code_of(decode_ts, bad) == "InvalidTimestamp"


def test_creation_times() -> None:
    assert creation_time_of(1_700_000_000_123_456_789) == 1_700_000_000_123.4568
    time = creation_time_of(1_700_000_000_000_000_000)
    assert next_float(time) > time
    assert next_float(time) == math.nextafter(time, math.inf)
