"""Text ⇄ sync messages, and the cutting of a large Transition into chunks.

Source: reference/values-and-sync.md §4.3 (malformed input), §4.9 (chunks); §5 (client version).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from cvx.errors import CvxError, ProtocolError
from cvx.protocol.calls import CallingClient
from cvx.protocol.sync_messages import ClientMessage, ServerMessage, TransitionChunk

CHUNK_BYTES_MAX = 5_000_000
"""Above this a Transition travels in chunks, and no chunk is longer."""

_client_decoder = msgspec.json.Decoder(ClientMessage)
_server_decoder = msgspec.json.Decoder(ServerMessage)
_encoder = msgspec.json.Encoder()


def decode_client_message(text: str | bytes) -> ClientMessage:
    """Raises ProtocolError `WSMessageInvalidJson` naming the field that is wrong."""
    try:
        message: ClientMessage = _client_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError(
            "WSMessageInvalidJson", f"The message is not one of the sync protocol: {error}"
        ) from None
    return message


def decode_server_message(text: str | bytes) -> ServerMessage:
    """Raises ProtocolError `WSMessageInvalidJson`."""
    try:
        message: ServerMessage = _server_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError(
            "WSMessageInvalidJson", f"The server sent no message of the sync protocol: {error}"
        ) from None
    return message


def encode_message(message: ClientMessage | ServerMessage) -> bytes:
    return _encoder.encode(message)


def split_transition(text: bytes, *, chunk_bytes_max: int = CHUNK_BYTES_MAX) -> list[bytes]:
    """The frames that carry an encoded Transition to a client that understands chunks."""
    if len(text) <= chunk_bytes_max:
        return [text]
    pieces = list(_cut(text, chunk_bytes_max))
    transition_id = str(len(text))
    return [
        _encoder.encode(TransitionChunk(piece.decode(), number, len(pieces), transition_id))
        for number, piece in enumerate(pieces)
    ]


def _cut(text: bytes, size_bytes_max: int) -> Sequence[bytes]:
    pieces, start = [], 0
    while start < len(text):
        end = min(start + size_bytes_max, len(text))
        while end < len(text) and text[end] & 0xC0 == 0x80:  # Never inside a UTF-8 character.
            end -= 1
        pieces.append(text[start:end])
        start = end
    return pieces


# --- which client library is on the other end --------------------------------------------------------------

_SEMVER = re.compile(r"(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", re.ASCII)
_NPM_FAMILY = frozenset({"npm", "npm-cli", "actions"})
_LAST_REFUSED = {"python": (0, 0, 2), "rust": (0, 0, 1), **dict.fromkeys(_NPM_FAMILY, (0, 19, 1))}


def parse_path_version(text: str) -> CallingClient:
    """The version in `/api/<version>/sync`. Raises CvxError `InvalidClientVersion` (400)."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise CvxError("InvalidClientVersion", f"'{text[:80]}' in the address is not a version.")
    return CallingClient("npm", (int(match[1]), int(match[2]), int(match[3])))


def check_supported(client: CallingClient | None) -> None:
    """Raises CvxError `ClientVersionUnsupported` for a client library from before the protocol of today."""
    if client is None:
        return
    last_refused = _LAST_REFUSED.get(client.name)
    if last_refused is not None and (client.version is None or client.version <= last_refused):
        version = "an unreadable version" if client.version is None else ".".join(map(str, client.version))
        raise CvxError(
            "ClientVersionUnsupported",
            f"The Convex client library '{client.name}' in {version} is no longer supported.",
            hint="Upgrade it (npm install convex@latest, or pip install -U convex).",
        )


def takes_chunks(client: CallingClient | None) -> bool:
    """Whether a large Transition may come in chunks; other clients would drop the connection."""
    return (
        client is not None
        and client.name in _NPM_FAMILY
        and client.version is not None
        and client.version >= (1, 28, 0)
    )
