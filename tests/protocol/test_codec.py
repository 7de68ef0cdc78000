"""Chunks of a Transition, and which client libraries are served."""

from __future__ import annotations

import msgspec
import pytest

from cvx.errors import CvxError, ProtocolError
from cvx.protocol.calls import CallingClient
from cvx.protocol.codec import (
    check_supported,
    decode_client_message,
    decode_server_message,
    parse_path_version,
    split_transition,
    takes_chunks,
)


def test_chunks_end_at_characters_and_join_to_the_whole() -> None:
    text = '{"text":"' + "aé€😀" * 40 + '"}'
    frames = split_transition(text.encode(), chunk_bytes_max=7)
    chunks = [msgspec.json.decode(frame) for frame in frames]
    assert "".join(chunk["chunk"] for chunk in chunks) == text
    assert [chunk["partNumber"] for chunk in chunks] == list(range(len(chunks)))
    assert {chunk["totalParts"] for chunk in chunks} == {len(chunks)}
    assert all(len(chunk["chunk"].encode()) <= 7 for chunk in chunks)
    assert len({chunk["transitionId"] for chunk in chunks}) == 1


def test_a_small_transition_is_not_cut() -> None:
    assert split_transition(b"{}") == [b"{}"]


@pytest.mark.parametrize(
    ("name", "version", "chunks"),
    [
        ("npm", (1, 28, 0), True),
        ("npm", (1, 27, 9), False),
        ("python", (1, 28, 0), False),
        ("npm", None, False),
    ],
)
def test_who_takes_chunks(name: str, version: tuple[int, int, int] | None, chunks: bool) -> None:
    assert takes_chunks(CallingClient(name, version)) is chunks
    assert takes_chunks(None) is False


@pytest.mark.parametrize(
    ("header", "served"),
    [
        ("npm-0.19.1", False), ("npm-0.19.2", True), ("npm-1.48.0", True), ("npm-1.48.0-alpha.1", True),
        ("npm-cli-0.19.0", False), ("npm-cli-1.48.0", True), ("python-0.0.2", False), ("python-0.8.1", True),
        ("rust-0.0.1", False), ("rust-0.10.4", True), ("anything-0.0.0", True), ("streaming-import-x", True),
    ],
)  # fmt: skip
def test_who_is_served(header: str, served: bool) -> None:
    client = CallingClient.parse(header)
    if served:
        check_supported(client)
    else:
        with pytest.raises(CvxError, match="ClientVersionUnsupported"):
            check_supported(client)


def test_version_in_the_path() -> None:
    assert parse_path_version("1.48.0-alpha.1").version == (1, 48, 0)
    for text in ("1.48", "latest", "1.48.0/x", ""):
        with pytest.raises(CvxError, match="InvalidClientVersion"):
            parse_path_version(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"type":"Event","eventType":"x","event":' + "[" * 100_000])
def test_bottomless_messages_are_the_senders_fault(text: str) -> None:
    for decode in (decode_client_message, decode_server_message):
        with pytest.raises(ProtocolError, match="WSMessageInvalidJson"):
            decode(text)
