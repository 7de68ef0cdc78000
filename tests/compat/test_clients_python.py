"""The unmodified PyPI client (convex 0.8.1, whose WebSocket half is the Rust client) against a real backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from convex import ConvexClient, ConvexError, ConvexInt64
from convex.http_client import ConvexHttpClient

from tests.backend_process import BackendProcess, pushed_app

APP = Path(__file__).parent.parent / "apps" / "wire"

pytestmark = [pytest.mark.deno, pytest.mark.node]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    backend = BackendProcess(tmp_path_factory.mktemp("data"))
    backend.start()
    try:
        pushed_app(backend, APP, tmp_path_factory.mktemp("app"))
        yield backend
    finally:
        backend.stop()


def test_http_client(served: BackendProcess) -> None:
    client = ConvexHttpClient(served.url)
    assert client.query("wire:list", {"channel": "p"}) == []
    client.mutation("wire:send", {"channel": "p", "body": "one"})
    assert client.query("wire:list", {"channel": "p"}) == ["one"]
    value = {
        "int": ConvexInt64(5),
        "float": 1.5,
        "whole": 2.0,
        "bytes": b"\x00\xff",
        "list": [None, True, "é"],
    }
    assert client.query("wire:echo", {"value": value}) == value  # type: ignore[dict-item]
    with pytest.raises(ConvexError) as caught:
        client.query("wire:failing", {"how": "data"})
    # This half of the library hands the data over as it stands on the wire.
    assert caught.value.data == {"code": {"$integer": "BwAAAAAAAAA="}, "why": "because"}
    with pytest.raises(Exception, match="Could not find public function"):
        client.query("wire:nothing", {})
    client.set_admin_auth(served.admin_key)
    assert client.query("wire:hidden", {}) == "secret"


def test_http_client_with_a_wrong_key(served: BackendProcess) -> None:
    client = ConvexHttpClient(served.url)
    client.set_admin_auth("cvx|00")
    with pytest.raises(Exception, match="401 BadAdminKey"):
        client.query("wire:hidden", {})


def test_live_client(served: BackendProcess) -> None:
    writer, reader = ConvexClient(served.url), ConvexClient(served.url)
    results = iter(reader.subscribe("wire:list", {"channel": "live"}))
    assert next(results) == []
    writer.mutation("wire:send", {"channel": "live", "body": "one"})
    assert writer.query("wire:list", {"channel": "live"}) == ["one"]
    assert next(results) == ["one"]
    writer.mutation("wire:send", {"channel": "live", "body": "two"})
    assert next(results) == ["one", "two"]

    with pytest.raises(ConvexError) as caught:
        writer.mutation("wire:sendAndFail", {"channel": "live", "how": "data"})
    assert caught.value.data == {"code": ConvexInt64(7), "why": "because"}
    with pytest.raises(Exception, match="plain trouble"):
        writer.query("wire:failing", {"how": "plain"})
    # Larger than a chunk: this client must get it whole.
    assert len(writer.query("wire:big", {"characters": 4_000_000.0})) == 4_000_000
