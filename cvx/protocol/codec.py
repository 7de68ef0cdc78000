"""Text ⇄ sync messages, and the cutting of a large Transition into chunks.

Source: reference/values-and-sync.md §4.3 (malformed input), §4.9 (chunks); §5 (client version).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cvx.errors import CvxError, ProtocolError
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
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ProtocolError(
            "WSMessageInvalidJson", f"The message is not one of the sync protocol: {error}"
        ) from None
    return message


def decode_server_message(text: str | bytes) -> ServerMessage:
    """Raises ProtocolError `WSMessageInvalidJson`."""
    try:
        message: ServerMessage = _server_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
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


# --- who is calling, as software --------------------------------------------------------------------------

_SEMVER = re.compile(r"(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_NPM_FAMILY = frozenset({"npm", "npm-cli", "actions"})
_UNSUPPORTED = {"python": (0, 0, 2), "rust": (0, 0, 1), **dict.fromkeys(_NPM_FAMILY, (0, 19, 1))}
"""The last version of each client that is refused."""


@dataclass(frozen=True, slots=True)
class ClientVersion:
    """The client library on the other end. `version` is None when it did not say, or said nothing readable."""

    name: str = "unknown"
    version: tuple[int, int, int] | None = None
    prerelease: bool = False

    @property
    def is_npm(self) -> bool:
        return self.name in _NPM_FAMILY

    @property
    def takes_chunks(self) -> bool:
        return self.is_npm and self.version is not None and self.version >= (1, 28, 0)

    @property
    def default_format(self) -> str:
        """The output format of one-shot calls that name none (values-and-sync.md §1.5)."""
        oldest = (1, 4, 1) if self.is_npm else (0, 5, 0) if self.name == "python" else None
        if oldest is None or self.version is None or self.version >= oldest:
            return "json"
        return "convex_encoded_json"

    def check_supported(self) -> None:
        """Raises CvxError `ClientVersionUnsupported` for a client too old, or of a known family and unreadable."""
        last_refused = _UNSUPPORTED.get(self.name)
        if last_refused is None or (self.version is not None and self.version > last_refused):
            return
        version = "an unreadable version" if self.version is None else ".".join(map(str, self.version))
        raise CvxError(
            "ClientVersionUnsupported",
            f"The Convex client library '{self.name}' in {version} is no longer supported.",
            hint="Upgrade it (npm install convex@latest, or pip install -U convex).",
        )


def parse_client_header(header: str | None) -> ClientVersion:
    """`Convex-Client: <name>-<version>`. Raises CvxError `InvalidClientVersion` (400) without a dash."""
    if header is None:
        return ClientVersion()
    if "-" not in header:
        raise CvxError(
            "InvalidClientVersion",
            f"The Convex-Client header '{header[:80]}' is not of the form <name>-<version>.",
        )
    # The name may hold dashes and so may a prerelease: the longest suffix that is a version wins.
    for position in (index for index, char in enumerate(header) if char == "-"):
        match = _SEMVER.fullmatch(header, position + 1)
        if match:
            return _client_version(header[:position], match)
    return ClientVersion(
        name=next((name for name in _UNSUPPORTED if header.startswith(name + "-")), "unknown")
    )


def parse_path_version(text: str) -> ClientVersion:
    """The version in `/api/<version>/sync`. Raises CvxError `InvalidClientVersion` (400)."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise CvxError("InvalidClientVersion", f"'{text[:80]}' in the address is not a version.")
    return _client_version("npm", match)


def _client_version(name: str, match: re.Match[str]) -> ClientVersion:
    major, minor, patch = (int(part) for part in match.group(1, 2, 3))
    return ClientVersion(name, (major, minor, patch), prerelease=match.group(4) is not None)
