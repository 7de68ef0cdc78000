"""Uploads and downloads as any HTTP client sees them, on one real backend."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cvx.backend.http.files import satisfiable_ranges
from cvx.backend.model import FileRecord, file_records
from tests.live_backend import LiveBackend
from tests.waiting import until

pytestmark = pytest.mark.deno
SIZE_MAX = 3_000_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBackend]:
    limits = {
        "stored_file_bytes_max": SIZE_MAX,
        "file_deletion_delay_s": 0.0,
        "file_collection_interval_s": 0.05,
        "download_stalled_s": 0.5,
        "request_time_s": 2.0,
    }
    with LiveBackend(tmp_path_factory.mktemp("data"), limits=limits) as live:
        yield live


@pytest.fixture(scope="module")
def http(served: LiveBackend) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


def upload_url(served: LiveBackend, *, age_s: float = 0.0, component: str = "") -> str:
    files = served.backend.services.files
    return files.upload_url(served.url, component, (time.time() - age_s) * 1000)


def upload(served: LiveBackend, http: httpx.Client, data: Any, **headers: str) -> str:
    response = http.post(upload_url(served), content=data, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    [(name, id)] = response.json().items()
    assert name == "storageId" and id.startswith("kg2")
    return str(id)


def record_of(served: LiveBackend, id: str) -> FileRecord:
    async def find() -> FileRecord | None:
        return await served.backend.services.files.record_of(id, "test")

    record = served.run(find)
    assert record is not None
    return record


def path_of(served: LiveBackend, id: str) -> str:
    return f"/api/storage/{record_of(served, id).storage_id}"


def stored(served: LiveBackend) -> list[Path]:
    return [path for path in (served.config.data_dir / "files").rglob("*") if path.is_file()]


def refusal(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert set(body) == {"code", "message"} and body["message"]
    return response.status_code, body["code"]


@pytest.mark.parametrize("size", [0, 1, 70_000, 2_500_000])
def test_there_and_back(served: LiveBackend, http: httpx.Client, size: int) -> None:
    data = os.urandom(size)
    id = upload(served, http, data, **{"Content-Type": "image/png"})
    record = record_of(served, id)
    assert (record.size, record.sha256, record.content_type) == (
        size,
        hashlib.sha256(data).digest(),
        "image/png",
    )
    assert uuid.UUID(record.storage_id).version == 4
    response = http.get(path_of(served, id))
    assert (response.status_code, response.content) == (200, data)
    expected = {
        "content-type": "image/png",
        "content-length": str(size),
        "digest": "sha-256=" + base64.b64encode(hashlib.sha256(data).digest()).decode(),
        "etag": '"' + base64.b64encode(hashlib.sha256(data).digest()).decode() + '"',
        "cache-control": "private, max-age=2592000",
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
    }
    assert dict(response.headers) == expected
    head = http.head(path_of(served, id))
    assert (head.status_code, head.content, dict(head.headers)) == (200, b"", expected)


def test_a_body_of_unknown_length(served: LiveBackend, http: httpx.Client) -> None:
    id = upload(served, http, (bytes([n]) * 1_000 for n in range(100)))
    assert http.get(path_of(served, id)).content == b"".join(bytes([n]) * 1_000 for n in range(100))
    assert "content-type" not in http.get(path_of(served, id)).headers
    assert record_of(served, id).content_type is None


def test_a_token_is_good_for_several_files(served: LiveBackend, http: httpx.Client) -> None:
    url = upload_url(served, age_s=3_500)
    ids = {http.post(url, content=b"same").json()["storageId"] for _ in range(3)}
    assert len(ids) == 3
    assert len({record_of(served, id).key for id in ids}) == 3, "the same bytes are kept once for each file"


def test_digest_is_checked(served: LiveBackend, http: httpx.Client) -> None:
    data = b"announced"
    right = base64.b64encode(hashlib.sha256(data).digest()).decode()
    upload(served, http, data, Digest=f"sha-256={right}")
    before = stored(served)
    for header, expected in [
        ("sha-256=" + base64.b64encode(bytes(32)).decode(), "Sha256Mismatch"),
        (f"SHA-256={right}", "BadHeader"),
        (f"md5={right}", "BadHeader"),
        (f"sha-256={right[:-4]}", "BadHeader"),
        ("sha-256=ä", "BadHeader"),
        ("", "BadHeader"),
    ]:
        response = http.post(upload_url(served), content=data, headers=[(b"Digest", header.encode())])
        assert refusal(response) == (400, expected), header
    assert stored(served) == before


def test_tokens(served: LiveBackend, http: httpx.Client) -> None:
    good = upload_url(served)
    head, _, token = good.partition("?token=")
    changed = token[:10] + ("A" if token[10] != "A" else "B") + token[11:]
    for bad in ("", "x", "x" * 80, "a|b", token[:-1], token + "AA", changed, "ä" * 40):
        assert refusal(http.post(head, params={"token": bad}, content=b"x")) == (401, "StorageTokenInvalid")
    assert refusal(http.post(head, content=b"x")) == (401, "StorageTokenInvalid")
    assert refusal(http.post(upload_url(served, age_s=3_601), content=b"x")) == (401, "StorageTokenExpired")
    with LiveBackend(served.config.data_dir.parent / "other-deployment") as other:
        foreign = upload_url(other).partition("?token=")[2]
        assert refusal(http.post(head, params={"token": foreign}, content=b"x")) == (
            401,
            "StorageTokenInvalid",
        )


def test_what_cannot_be_uploaded(served: LiveBackend, http: httpx.Client) -> None:
    before = stored(served)
    response = http.post(upload_url(served), content=b"x" * (SIZE_MAX + 1))
    assert refusal(response) == (413, "FileTooLarge")
    response = http.post(upload_url(served), content=(b"x" * 100_000 for _ in range(31)))
    assert refusal(response) == (413, "FileTooLarge")
    packed = {"Content-Encoding": "gzip"}
    response = http.post(upload_url(served), content=gzip.compress(b"x"), headers=packed)
    assert refusal(response) == (400, "BadRequestEncoding")
    long = {"Content-Type": "text/" + "x" * 300}
    assert refusal(http.post(upload_url(served), content=b"x", headers=long)) == (400, "BadContentType")
    assert refusal(http.put(upload_url(served), content=b"x")) == (405, "MethodNotAllowed")
    until(lambda: stored(served) == before, "nothing stays of refused files")


def test_a_page_of_another_origin_may_upload(served: LiveBackend, http: httpx.Client) -> None:
    origin = "https://app.example.com"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,digest",
    }
    allowed = http.options(upload_url(served), headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == origin
    assert allowed.headers["access-control-allow-headers"] == "content-type,digest"
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert allowed.headers["access-control-max-age"] == "86400"
    done = http.post(upload_url(served), content=b"x", headers={"Origin": origin})
    assert done.headers["access-control-allow-origin"] == origin
    shown = http.get(path_of(served, done.json()["storageId"]), headers={"Origin": origin})
    assert shown.headers["access-control-allow-origin"] == origin
    refused = http.post("/api/storage/upload?token=x", content=b"x", headers={"Origin": origin})
    assert refused.headers["access-control-allow-origin"] == origin, "or the page could not read why"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-", [(0, 100)]),
        ("bytes=90-200", [(90, 100)]),
        ("bytes=-1", [(99, 100)]),
        ("bytes=-500", [(0, 100)]),
        ("Bytes = 5-9", [(5, 10)]),
        ("bytes=99-", [(99, 100)]),
        ("bytes=100-", []),
        ("bytes=-0", []),
        ("bytes=0-1,5-6", [(0, 2), (5, 7)]),
        ("bytes=0-1, 200-", [(0, 2)]),
        ("bytes=5-4", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1", None),
        ("bytes=1-2-3", None),
        ("items=0-1", None),
        ("0-1", None),
        ("bytes=٣-٤", None),
        ("bytes=0-" + "9" * 18, [(0, 100)]),
        ("bytes=0-" + "9" * 5_000, None),
    ],
)
def test_ranges(header: str, expected: list[tuple[int, int]] | None) -> None:
    assert satisfiable_ranges(header, 100) == expected


def test_parts_of_a_file(served: LiveBackend, http: httpx.Client) -> None:
    data = os.urandom(800_000)
    path = path_of(served, upload(served, http, data, **{"Content-Type": "video/mp4"}))

    def ask(header: str, **more: str) -> httpx.Response:
        return http.get(path, headers={"Range": header, **more})

    for header, start, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=1000-699999", 1_000, 700_000),
        ("bytes=799999-", 799_999, 800_000),
        ("bytes=-1000", 799_000, 800_000),
        ("bytes=5-, 900000-", 5, 800_000),
    ]:
        part = ask(header)
        assert (part.status_code, part.content) == (206, data[start:end]), header
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/800000"
        assert part.headers["content-length"] == str(end - start)
        assert part.headers["content-type"] == "video/mp4"
        assert "digest" not in part.headers, "it would be that of the whole file"
    for header in ("bytes=800000-", "bytes=0-1,5-6", "bytes=-0"):
        none = ask(header)
        assert (none.status_code, none.content) == (416, b"")
        assert none.headers["content-range"] == "bytes */800000"
    for whole in (ask("bytes=9-2"), ask("pages=1-2"), ask("bytes=0-1", **{"If-Range": '"v1"'})):
        assert (whole.status_code, whole.content) == (200, data)
        assert "content-range" not in whole.headers
    empty = path_of(served, upload(served, http, b""))
    assert http.get(empty, headers={"Range": "bytes=0-5"}).status_code == 200
    head = http.head(path, headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.headers["content-length"], head.content) == (206, "10", b"")


def test_who_has_it_already_gets_no_bytes(served: LiveBackend, http: httpx.Client) -> None:
    data = os.urandom(1_000)
    path = path_of(served, upload(served, http, data))
    tag = http.get(path).headers["etag"]
    for names in (tag, f'"other", W/{tag}', "*"):
        for method in ("GET", "HEAD"):
            same = http.request(method, path, headers={"If-None-Match": names, "Range": "bytes=0-9"})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag), names
            assert "cache-control" in same.headers and "content-length" not in same.headers
    assert http.get(path, headers={"If-None-Match": '"other"'}).content == data
    rest = http.get(path, headers={"Range": "bytes=990-", "If-Range": tag})
    assert (rest.status_code, rest.content) == (206, data[990:])
    for changed in ('"other"', f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert http.get(path, headers={"Range": "bytes=990-", "If-Range": changed}).content == data, changed


def test_what_is_not_there(served: LiveBackend, http: httpx.Client) -> None:
    id = upload(served, http, b"x")
    for bad in (id, "x", "", "a/b", "00000000-0000-0000-0000-00000000000g", "{" + str(uuid.uuid4()) + "}"):
        assert refusal(http.get(f"/api/storage/{bad}")) == (400, "InvalidStoragePath"), bad
    assert refusal(http.get(f"/api/storage/{uuid.uuid4()}")) == (404, "FileNotFound")
    assert refusal(http.get(path_of(served, id), params={"component": "other"})) == (404, "FileNotFound")
    assert http.get(path_of(served, id).upper().replace("/API/STORAGE", "/api/storage")).status_code == 200
    assert refusal(http.post(path_of(served, id), content=b"x")) == (405, "MethodNotAllowed")


@pytest.mark.parametrize(
    ("content_type", "boxed"),
    [
        ("text/html", True),
        ("text/html; charset=utf-8", True),
        ("IMAGE/SVG+XML", True),
        ("application/xhtml+xml", True),
        ("text/xml", True),
        ("text/plain", False),
        ("image/png", False),
        ("application/pdf", False),
    ],
)
def test_what_could_run_scripts_has_an_origin_of_its_own(
    served: LiveBackend, http: httpx.Client, content_type: str, boxed: bool
) -> None:
    path = path_of(served, upload(served, http, b"<script>1</script>", **{"Content-Type": content_type}))
    headers = http.get(path).headers
    assert headers["content-type"] == content_type
    assert headers["x-content-type-options"] == "nosniff"
    assert ("sandbox" in headers.get("content-security-policy", "")) is boxed
    assert "allow-same-origin" not in headers.get("content-security-policy", "")


def test_a_deleted_file_goes_with_its_bytes(served: LiveBackend, http: httpx.Client) -> None:
    id = upload(served, http, b"to be deleted")
    path, record = path_of(served, id), record_of(served, id)
    file = next(path for path in stored(served) if path.name == record.key)

    async def remove() -> None:
        await served.backend.services.db.run(None, lambda tx: file_records.remove(tx, record))

    served.run(remove)
    assert refusal(http.get(path)) == (404, "FileNotFound")
    until(lambda: not file.exists(), "the bytes go")


def test_an_upload_that_is_cut_off_leaves_nothing(served: LiveBackend) -> None:
    before = stored(served)
    target = upload_url(served).removeprefix(served.url)
    with socket.create_connection((served.config.host, int(served.url.rpartition(":")[2]))) as client:
        client.sendall(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 2900000\r\n\r\n".encode())
        client.sendall(b"x" * 2_000_000)
        until(lambda: any(path.parent.name == "incoming" for path in stored(served)), "the upload begins")
    until(lambda: stored(served) == before, "nothing stays of it")


def test_an_upload_takes_its_time_while_it_goes_on(served: LiveBackend, http: httpx.Client) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(9):
            time.sleep(0.25)  # More than two seconds together; a request may take two without getting on.
            yield b"x" * 1_000

    assert record_of(served, upload(served, http, slowly())).size == 9_000

    def stuck() -> Iterator[bytes]:
        yield b"x" * 1_000
        time.sleep(3.0)
        yield b"x"

    before = stored(served)
    with pytest.raises((httpx.HTTPError, AssertionError)):
        upload(served, http, stuck())
    until(lambda: stored(served) == before, "nothing stays of it")


def test_a_file_that_was_damaged_is_not_taken_for_whole(served: LiveBackend, http: httpx.Client) -> None:
    id = upload(served, http, os.urandom(2_000_000))
    path, key = path_of(served, id), record_of(served, id).key
    file = next(path for path in stored(served) if path.name == key)
    os.truncate(file, 900_000)
    with pytest.raises(httpx.RemoteProtocolError):
        http.get(path)
    file.unlink()
    assert refusal(http.get(path)) == (404, "FileNotFound")


@pytest.mark.parametrize("how", ["leaves", "stalls"])
def test_a_download_that_nobody_takes(served: LiveBackend, http: httpx.Client, how: str) -> None:
    path = path_of(served, upload(served, http, os.urandom(2_900_000)))
    before = open_files(served)
    client = socket.create_connection((served.config.host, int(served.url.rpartition(":")[2])))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert client.recv(1_000)
    assert open_files(served) == before + 1
    if how == "leaves":
        client.close()
    until(lambda: open_files(served) == before, "the file is closed")
    client.close()
    assert http.get(path).status_code == 200


def open_files(served: LiveBackend) -> int:
    """How many stored files this process has open."""
    folder, found = str(served.config.data_dir / "files"), 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += str(link.readlink()).startswith(folder)
        except OSError:
            continue
    return found
