"""The HTTP face as any program sees it: bodies, headers, statuses. One real backend for the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

import brotli
import httpx
import pytest

from tests.live_backend import LiveBackend

pytestmark = pytest.mark.deno
TABLES = {"path": "_system/cli/tables", "args": [{"paginationOpts": {"cursor": None, "numItems": 10}}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBackend]:
    with LiveBackend(tmp_path_factory.mktemp("data"), limits={"request_body_bytes_max": 50_000}) as live:
        yield live


@pytest.fixture(scope="module")
def http(served: LiveBackend) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code; every refusal has a message too."""
    body = response.json()
    assert set(body) == {"code", "message"} and body["message"]
    return response.status_code, body["code"]


def test_who_answers(http: httpx.Client) -> None:
    assert http.get("/instance_name").text == "test-instance"
    assert http.get("/version").text == http.get("/instance_version").text != ""
    assert "running" in http.get("/").text
    assert http.post("/echo", content=b"\x00\x01").content == b"\x00\x01"


def test_unknown_places(http: httpx.Client) -> None:
    assert refusal(http.get("/api/nothing")) == (404, "NotFound")
    assert refusal(http.post("/api/deploy2/unheard_of")) == (404, "NotFound")
    assert refusal(http.put("/api/query")) == (405, "MethodNotAllowed")


def test_without_a_router_there_are_no_http_actions(served: LiveBackend, http: httpx.Client) -> None:
    text = "This Convex deployment does not have HTTP actions enabled."
    for response in (http.get("/http/hello"), httpx.post(served.site_url + "/hello")):
        assert (response.status_code, response.text) == (404, text)


def test_a_missing_function_is_an_answer(http: httpx.Client) -> None:
    for kind in ("query", "mutation", "action"):
        response = http.post(f"/api/{kind}", json={"path": "messages:list", "args": {}})
        body = response.json()
        assert (response.status_code, body["status"]) == (200, "error")
        assert "Could not find public function for 'messages:list'" in body["errorMessage"]
        assert body["errorMessage"].startswith("[Request ID: ")
        assert "errorData" not in body


def test_request_id_is_the_callers(http: httpx.Client) -> None:
    response = http.post(
        "/api/query", json={"path": "messages:list", "args": {}}, headers={"Convex-Request-Id": "my-own-id"}
    )
    assert response.json()["errorMessage"].startswith("[Request ID: my-own-id] Server Error\n")


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"{", {}, (400, "BadJsonBody")),
        (b"{}", {}, (400, "BadJsonBody")),
        (b'{"path":1}', {}, (400, "BadJsonBody")),
        (b"\xff", {}, (400, "BadJsonBody")),
        (b'{"path":"a:b","args":{}}', {"Content-Type": "text/plain"}, (400, "BadJsonBody")),
        (b'{"path":"a b","args":{}}', {}, (400, "BadConvexFunctionIdentifier")),
        (b'{"path":"messages.list","args":{}}', {}, (400, "BadConvexFunctionIdentifier")),
        (b'{"path":"a:b","args":{},"format":"xml"}', {}, (400, "BadFormat")),
        (b'{"path":"a:b","args":{}}', {"Convex-Client": "npm"}, (400, "InvalidClientVersion")),
        (b'{"path":"a:b","args":{}}', {"Convex-Client": "npm-0.19.1"}, (400, "ClientVersionUnsupported")),
        (b'{"path":"a:b","args":{}}', {"Authorization": "x"}, (400, "InvalidHeaderFailure")),
        (b'{"path":"a:b","args":{}}', {"Authorization": "Basic abc"}, (400, "InvalidAdminKey")),
        (b'{"path":"a:b","args":{}}', {"Authorization": "Convex wrong|00"}, (401, "BadAdminKey")),
        (b'{"path":"a:b","args":{}}', {"Authorization": "Bearer nothing"}, (401, "InvalidAuthHeader")),
        (b'{"path":"a:b","args":{}}', {"Content-Encoding": "zstd"}, (400, "BadRequestEncoding")),
        (b"not compressed", {"Content-Encoding": "br"}, (400, "BadRequestEncoding")),
        (b"not compressed", {"Content-Encoding": "gzip"}, (400, "BadRequestEncoding")),
        (gzip.compress(b'{"path":"a:b"}', mtime=0)[:-9], {"Content-Encoding": "gzip"}, (400, "BadRequestEncoding")),
        (b" " * 60_000, {}, (413, "RequestTooLarge")),
        (brotli.compress(b" " * 5_000_000), {"Content-Encoding": "br"}, (413, "RequestTooLarge")),
        (zlib.compress(b" " * 5_000_000), {"Content-Encoding": "deflate"}, (413, "RequestTooLarge")),
    ],
)  # fmt: skip
def test_refusals(
    http: httpx.Client, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    response = http.post("/api/query", content=body, headers={"Content-Type": "application/json", **headers})
    assert refusal(response) == expected


def test_a_refused_library_learns_it_from_headers(http: httpx.Client) -> None:
    response = http.get("/version", headers={"Convex-Client": "npm-0.10.0"})
    assert response.headers["x-convex-deprecation-state"] == "Unsupported"
    assert response.headers["x-convex-deprecation-message"]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("br", brotli.compress), ("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_compressed_bodies(http: httpx.Client, encoding: str, pack: Any) -> None:
    body = pack(b'{"path":"messages:list","args":{"a":"' + b"x" * 20_000 + b'"}}')
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    assert http.post("/api/query", content=body, headers=headers).json()["status"] == "error"


def test_admins_only(served: LiveBackend, http: httpx.Client) -> None:
    body = {"path": "messages:list", "args": {}}
    assert refusal(http.post("/api/function", json=body)) == (403, "BadDeployKey")
    assert refusal(http.get("/api/check_admin_key")) == (403, "BadDeployKey")
    answer = http.post("/api/function", json=body, headers=served.headers).json()
    assert "Could not find function for 'messages:list'" in answer["errorMessage"]
    expected = {"success": True, "allowedOps": [], "isReadOnly": False}
    assert http.get("/api/check_admin_key", headers=served.headers).json() == expected
    assert http.get("/api/check_admin_key", params={"adminKey": served.admin_key}).json() == expected


def test_system_query_over_http(served: LiveBackend, http: httpx.Client) -> None:
    answer = http.post("/api/query", json=TABLES, headers=served.headers).json()
    assert answer["status"] == "success" and answer["value"]["page"] == []
    answer = http.post("/api/query", json=TABLES).json()
    assert answer["status"] == "error"


@pytest.mark.parametrize(
    "options",
    [
        "text",
        None,
        {"cursor": None, "numItems": "x"},
        {"cursor": 1, "numItems": 5},
        {"numItems": -5},
        {"numItems": 0.5},
        {"cursor": None, "numItems": {"$float": "AAAAAAAA8H8="}},
    ],
)
def test_page_options_that_are_none(served: LiveBackend, http: httpx.Client, options: Any) -> None:
    args = {"table": "rows", "order": "asc", "paginationOpts": options}
    body = {"path": "_system/cli/tableData", "args": args}
    answer = http.post("/api/query", json=body, headers=served.headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "error")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/query", TABLES),
        ("POST", "/api/query_batch", {"queries": [TABLES]}),
        ("POST", "/api/query_ts", {}),
        ("POST", "/api/mutation", {"path": "no:such", "args": {}}),
        ("POST", "/api/action", {"path": "no:such", "args": {}}),
        ("POST", "/api/function", {"path": "no:such", "args": {}}),
        ("GET", "/api/v1/get_canonical_urls", None),
        ("GET", "/api/v1/list_environment_variables", None),
        ("GET", "/api/stream_function_logs?cursor=0", None),
        ("POST", "/api/get_config_hashes", {"version": "1.48.0", "adminKey": ""}),
    ],
)
def test_no_answer_before_what_it_rests_on_is_on_disk(
    served: LiveBackend, http: httpx.Client, method: str, path: str, body: Any
) -> None:
    db = served.backend.services.db

    async def commit() -> int:
        with db.begin(None) as tx:
            tx.insert(f"rows{db.latest_ts}", {})  # A new table: the list of tables changes.
            return await db.commit(tx)

    if body is not None and "adminKey" in body:
        body = {**body, "adminKey": served.admin_key}
    http.post("/api/query", json=TABLES, headers=served.headers)  # So that the log has something.
    disk = db._store._flusher._syncing  # type: ignore[attr-defined]
    with disk:
        served.run(commit)
        with pytest.raises(httpx.ReadTimeout):
            http.request(method, path, json=body, headers=served.headers, timeout=0.5)
    assert http.request(method, path, json=body, headers=served.headers).status_code == 200


def test_batch_and_past(served: LiveBackend, http: httpx.Client) -> None:
    ts = http.post("/api/query_ts").json()["ts"]
    body = {**TABLES, "ts": ts}
    assert http.post("/api/query_at_ts", json=body, headers=served.headers).json()["status"] == "success"
    assert (
        http.post("/api/query_at_ts", json={**body, "ts": "AQAAAAAAAAA="}, headers=served.headers).status_code
        == 503
    )
    assert (
        http.post("/api/query_at_ts", json={**body, "ts": "/////////38="}, headers=served.headers).status_code
        == 500
    )
    assert refusal(http.post("/api/query_at_ts", json={**body, "ts": "x"}, headers=served.headers))[0] == 400
    results = http.post(
        "/api/query_batch", json={"queries": [TABLES, TABLES]}, headers=served.headers
    ).json()["results"]
    assert [result["status"] for result in results] == ["success", "success"]


def test_run(http: httpx.Client) -> None:
    answer = http.post("/api/run/a/messages/list", json={"args": {}}).json()
    assert "Could not find function for 'a/messages:list'" in answer["errorMessage"]
    assert refusal(http.post("/api/run/messages", json={"args": {}})) == (400, "MissingIdentifier")


def test_query_by_url(served: LiveBackend, http: httpx.Client) -> None:
    parameters = {"path": "_system/cli/tables", "args": '{"paginationOpts":{"cursor":null,"numItems":10}}'}
    answer = http.get("/api/query", params=parameters, headers=served.headers).json()
    assert answer["status"] == "success"
    assert refusal(http.get("/api/query")) == (400, "MissingParameter")


def test_pages_of_any_origin(http: httpx.Client) -> None:
    asked = {
        "Origin": "http://page.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "convex-client,content-type",
    }
    response = http.options("/api/query", headers=asked)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "http://page.test"
    assert response.headers["access-control-allow-credentials"] == "true"
    assert response.headers["access-control-allow-headers"] == "convex-client,content-type"
    assert "DELETE" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-max-age"] == "86400"
    for path in ("/version", "/api/nothing"):
        assert http.get(path, headers=asked).headers["access-control-allow-origin"] == "http://page.test"
    assert "access-control-allow-origin" not in http.get("/http/x", headers=asked).headers
    assert "access-control-allow-origin" not in http.get("/version").headers


def test_redacted_texts(tmp_path_factory: pytest.TempPathFactory) -> None:
    with LiveBackend(tmp_path_factory.mktemp("redacted"), redact_logs=True) as live:
        body = {"path": "messages:list", "args": {}}
        for kind in ("query", "mutation"):
            answer = httpx.post(
                f"{live.url}/api/{kind}", json=body, headers={"Convex-Request-Id": "abc"}
            ).json()
            assert answer == {"status": "error", "errorMessage": "[Request ID: abc] Server Error"}
