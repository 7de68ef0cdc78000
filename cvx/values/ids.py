"""DocumentId ⇄ the string users see.

The string is base32 of: the table number as LEB128, 16 internal bytes, and a Fletcher-16 checksum. Within one
table, ids sort alike as strings and as internal bytes.

Source: reference/values-and-sync.md §2.1–2.3.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

from cvx.errors import CvxError

TableNumber: TypeAlias = int
"""1 … 2^32-1; system tables below 10001, user tables from there."""

TABLE_NUMBER_MAX: Final = (1 << 32) - 1
FIRST_USER_TABLE_NUMBER: Final = 10_001
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TWO_DIGITS: Final = [a + b for a in ALPHABET for b in ALPHABET]
# Our digits to those that int(…, 32) reads; everything else to "!", which it refuses ("_" would be skipped).
_TO_INT_DIGITS: Final = bytes(
    ord("0123456789abcdefghijklmnopqrstuv"[ALPHABET.index(chr(c))]) if chr(c) in ALPHABET else ord("!")
    for c in range(256)
)
_CACHE_SIZE: Final = 16_384


class _Parts(NamedTuple):
    table: TableNumber
    internal: bytes


class DocumentId(_Parts):
    """A document's identity: table number and 16 bytes. Sorts and hashes as that pair; prints as Convex's string.

    A tuple underneath, because it is a key of every dictionary in the engine.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return _encode(self.table, self.internal)

    def __repr__(self) -> str:
        return f"DocumentId({_encode(self.table, self.internal)})"

    @staticmethod
    def parse(text: str) -> DocumentId:
        """The id that `text` spells. Raises CvxError "InvalidId" unless it is exactly some id's spelling."""
        found = DocumentId.try_parse(text)
        if found is None:
            raise CvxError("InvalidId", f"'{str(text)[:64]}' is not a valid document id.")
        return found

    @staticmethod
    def try_parse(text: str) -> DocumentId | None:
        """As `parse`, with None in place of the error."""
        # Lengths are checked here, so that the cache never holds a long text.
        return _decode(text) if type(text) is str and 31 <= len(text) <= 37 else None


@lru_cache(maxsize=_CACHE_SIZE)
def _encode(table: TableNumber, internal: bytes) -> str:
    body = _varint(table) + internal
    number = int.from_bytes(body + _checksum(body), "big")
    bits = 8 * (len(body) + 2)
    digits = -(-bits // 5)
    pairs = -(-digits // 2)
    # Left-align on whole pairs of digits, look the pairs up, and drop the last digit when it is one too many.
    number <<= 10 * pairs - bits
    text = "".join([_TWO_DIGITS[number >> shift & 1023] for shift in range(10 * (pairs - 1), -1, -10)])
    return text[:digits]


@lru_cache(maxsize=_CACHE_SIZE)
def _decode(text: str) -> DocumentId | None:
    try:
        number = int(text.encode("ascii").translate(_TO_INT_DIGITS), 32)
    except ValueError:
        return None
    bits = 5 * len(text)
    raw = (number >> bits % 8).to_bytes(bits // 8, "big")
    table = shift = 0
    for byte in raw[:5]:
        table |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    else:
        return None
    internal = raw[shift // 7 : -2]
    if len(internal) != 16 or not 1 <= table <= TABLE_NUMBER_MAX:
        return None
    # Spelling it again checks the checksum, the last group's spare bits and needless varint bytes at once.
    return DocumentId(table, internal) if _encode(table, internal) == text else None


def _varint(number: int) -> bytes:
    if not 1 <= number <= TABLE_NUMBER_MAX:
        raise CvxError("InvalidId", f"{number} is not a table number.", kind="internal")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _checksum(body: bytes) -> bytes:
    """Fletcher-16 with modulus 256, low sum first."""
    return bytes((sum(body) & 255, sum(accumulate(body)) & 255))


def parse_legacy(text: str, table: TableNumber) -> DocumentId | None:
    """An id in one of the two old spellings that `normalizeId` still upgrades, as an id of `table`.

    Up to 22 characters: URL-safe base64 of 16 bytes, unpadded. Longer: base62 of 17 bytes, of which the first
    16 are the id.
    """
    if len(text) <= 22:
        try:
            data = binascii.a2b_base64(text.translate(_FROM_URL_SAFE) + "=" * (-len(text) % 4))
            exact = binascii.b2a_base64(data, newline=False).decode().rstrip("=").translate(_TO_URL_SAFE)
        except (binascii.Error, ValueError):
            return None
        return DocumentId(table, data) if len(data) == 16 and exact == text else None
    if len(text) > 23:  # 62^23 > 2^136: seventeen bytes never need more.
        return None
    number = 0
    for digit in text:
        value = _BASE62.find(digit)
        if value < 0:
            return None
        number = number * 62 + value
    return DocumentId(table, number.to_bytes(17, "big")[:16]) if number < 1 << 136 else None


_FROM_URL_SAFE: Final = str.maketrans("-_+/", "+/!!")
_TO_URL_SAFE: Final = str.maketrans("+/", "-_")


def new_internal_id(ts_ms: int, random: Callable[[int], bytes]) -> bytes:
    """16 fresh bytes: 6 of time, 8 random, and the day since 1970 as the original ends its ids.

    Time comes first so that new rows land at the end of the store's B-tree. `random(n)` must return n bytes.
    """
    day = ts_ms // 86_400_000
    return (ts_ms & 0xFFFF_FFFF_FFFF).to_bytes(6, "big") + random(8) + (day & 0xFFFF).to_bytes(2, "big")
