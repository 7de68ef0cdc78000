"""One-shot calls: bodies in, answers out, and who is calling."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cvx.errors import CvxError
from cvx.protocol.calls import (
    CallingClient,
    FunctionRequest,
    QueryBatchRequest,
    RunRequest,
    batch_body,
    decode_body,
    error_body,
    failure_body,
    function_args,
    output_format,
    query_ts_body,
    run_path,
    success_body,
)
from cvx.protocol.calls import (
    TestQueryRequest as InlineQueryRequest,  # Not a test, whatever its name says to pytest.
)
from cvx.protocol.codec import check_supported


def code_of(function: Any, *args: Any) -> str:
    with pytest.raises(CvxError) as caught:
        function(*args)
    return caught.value.code


def test_a_query_as_npm_sends_it() -> None:
    raw = b'{"path":"messages:list","format":"convex_encoded_json","args":[{"n":1}]}'
    request = decode_body(raw, FunctionRequest)
    assert (request.path, request.format, request.component_path) == (
        "messages:list",
        "convex_encoded_json",
        None,
    )
    args = function_args(request.args)
    assert args == [{"n": 1.0}] and type(args[0]["n"]) is float


def test_args_may_be_an_object_or_a_list_and_nothing_else() -> None:
    assert function_args(b'{"a":{"$integer":"AQAAAAAAAAA="}}') == [{"a": 1}]
    assert function_args(b'["legacy",1]') == ["legacy", 1.0]
    assert code_of(function_args, b'"text"') == "InvalidArguments"
    assert code_of(function_args, b'{"a":{"$commitTs":null}}') == "InvalidValue"


def test_bodies_with_extra_keys_pass_and_malformed_ones_do_not() -> None:
    assert decode_body(b'{"args":{},"later":1}', RunRequest).format == "json"
    assert len(decode_body(b'{"queries":[{"path":"a","args":{}}]}', QueryBatchRequest).queries) == 1
    inline = decode_body(
        b'{"adminKey":"k","args":{},"bundle":{"path":"testQuery.js","source":"x"}}', InlineQueryRequest
    )
    assert inline.bundle.path == "testQuery.js" and inline.component_id is None
    for bad in (b"", b"[]", b"{", b'{"args":{}}', b'{"path":1,"args":{}}', b'{"path":"\xff"}', b"[" * 9999):
        assert code_of(decode_body, bad, FunctionRequest) == "BadJsonBody"


def test_run_paths() -> None:
    assert run_path(["a", "b", "fn"]) == "a/b:fn"
    assert code_of(run_path, ["fn"]) == "MissingIdentifier"


def test_success_leaves_empty_logs_out() -> None:
    assert success_body(b'{"n":1.0}', [], "convex_encoded_json") == b'{"status":"success","value":{"n":1.0}}'
    raw = success_body(b'{"$integer":"AQAAAAAAAAA="}', ["[LOG] 'x'"], "json")
    assert json.loads(raw) == {"status": "success", "value": "1", "logLines": ["[LOG] 'x'"]}


def test_error_has_data_only_when_there_is_some() -> None:
    assert json.loads(error_body('bad "thing"', None, [], "json")) == {
        "status": "error",
        "errorMessage": 'bad "thing"',
    }
    with_null = json.loads(error_body("m", b"null", ["l"], "json"))
    assert with_null == {"status": "error", "errorMessage": "m", "errorData": None, "logLines": ["l"]}


def test_other_bodies() -> None:
    assert batch_body([success_body(b"1.0", [], "json")]) == b'{"results":[{"status":"success","value":1.0}]}'
    assert batch_body([]) == b'{"results":[]}'
    assert query_ts_body(1) == b'{"ts":"AQAAAAAAAAA="}'
    assert json.loads(failure_body("Code", "text")) == {"code": "Code", "message": "text"}


@pytest.mark.parametrize(
    ("header", "name", "version"),
    [
        ("npm-1.48.0", "npm", (1, 48, 0)),
        ("npm-cli-1.48.0", "npm-cli", (1, 48, 0)),
        ("npm-1.48.0-alpha.1", "npm", (1, 48, 0)),
        ("python-0.8.1", "python", (0, 8, 1)),
        ("my-own-thing-2.0.0", "my-own-thing", (2, 0, 0)),
        ("my-own-thing", "my-own", None),
        ("npm-cli-latest", "npm-cli", None),
    ],
)
def test_clients(header: str, name: str, version: tuple[int, int, int] | None) -> None:
    assert CallingClient.parse(header) == CallingClient(name, version)


def test_client_headers_that_are_refused() -> None:
    assert CallingClient.parse(None) is None
    assert code_of(CallingClient.parse, "npm") == "InvalidClientVersion"
    assert code_of(check_supported, CallingClient.parse("npm-cli-latest")) == "ClientVersionUnsupported"
    check_supported(CallingClient.parse("stranger-latest"))


def test_default_format_depends_on_the_client() -> None:
    formats = {"npm-1.48.0": "json", "npm-1.4.0": "convex_encoded_json", "python-0.4.9": "convex_encoded_json",
               "python-0.5.0": "json", "stranger-0.0.1": "json"}  # fmt: skip
    for header, expected in formats.items():
        assert output_format(None, CallingClient.parse(header)) == expected
    assert output_format(None, None) == "json"
    assert output_format("convex_json", None) == "convex_json"


def test_who_gets_structured_log_lines() -> None:
    assert CallingClient("npm-cli", (1, 48, 0)).wants_structured_logs
    assert not CallingClient("npm", (1, 48, 0)).wants_structured_logs
