"""Where in a JSON text a member stands: line numbers for errors, places for edits that keep formatting.

Pure. The scanner walks text that is already known to be valid JSON (msgspec has decoded it), so it never
reports syntax errors itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"-?[0-9.eE+-]+|true|false|null")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class Member:
    """One `"key": value` of an object; offsets into the text, half-open."""

    key: str
    key_start: int
    value_start: int
    value_end: int


@dataclass(frozen=True)
class ObjectSpan:
    """An object: `start` is its `{`, `end` is just past its `}`."""

    start: int
    end: int
    members: tuple[Member, ...]

    def member(self, key: str) -> Member | None:
        """The last member called `key`, which is the one a JSON decoder keeps."""
        return next((m for m in reversed(self.members) if m.key == key), None)


def object_at(text: str, start: int = 0) -> ObjectSpan:
    """The object that begins at the first non-space character from `start` on."""
    position = _skip(text, start)
    if text[position : position + 1] != "{":
        raise ValueError(f"no object at offset {position}")
    members: list[Member] = []
    cursor = _skip(text, position + 1)
    while text[cursor] != "}":
        key_match = _STRING.match(text, cursor)
        assert key_match is not None, f"a key was expected at offset {cursor}"
        value_start = _skip(text, _skip(text, key_match.end()) + 1)
        value_end = _value_end(text, value_start)
        key = msgspec.json.decode(key_match.group(), type=str)
        members.append(Member(key, cursor, value_start, value_end))
        cursor = _skip(text, value_end)
        if text[cursor] == ",":
            cursor = _skip(text, cursor + 1)
    return ObjectSpan(position, cursor + 1, tuple(members))


def line_at(text: str, offset: int) -> int:
    """The line, counted from 1, that holds the character at `offset`."""
    return text.count("\n", 0, offset) + 1


def column_at(text: str, offset: int) -> int:
    """The column, counted from 1, of the character at `offset`."""
    return offset - (text.rfind("\n", 0, offset) + 1) + 1


def offset_of(text: str, keys: Sequence[str]) -> int:
    """Where the member reached by `keys` begins; the nearest object that exists when one is missing."""
    span = object_at(text)
    offset = span.start
    for key in keys:
        member = span.member(key)
        if member is None:
            break
        offset = member.key_start
        if text[member.value_start] != "{":
            break
        span = object_at(text, member.value_start)
    return offset


def insert_member(text: str, keys: Sequence[str], key: str, value: str) -> str:
    """Add `"key": "value"` to the object reached by `keys`, in the file's own indentation.

    A missing object is added at the end of its parent. An existing key is left as it is. Every other
    character of the text stays.
    """
    span = object_at(text)
    for depth, name in enumerate(keys):
        member = span.member(name)
        if member is None or text[member.value_start] != "{":
            inner = _indent(text) * (depth + 2)
            outer = _indent(text) * (depth + 1)
            newline = _newline(text)
            rendered = f"{{{newline}{inner}{_quoted(key)}: {_quoted(value)}{newline}{outer}}}"
            return _insert(text, span, name, rendered, depth + 1)
        span = object_at(text, member.value_start)
    if span.member(key) is not None:
        return text
    return _insert(text, span, key, _quoted(value), len(keys) + 1)


def _insert(text: str, span: ObjectSpan, key: str, rendered: str, depth: int) -> str:
    newline, indent = _newline(text), _indent(text)
    line = f"{newline}{indent * depth}{_quoted(key)}: {rendered}"
    if not span.members:
        return f"{text[: span.start + 1]}{line}{newline}{indent * (depth - 1)}{text[span.end - 1 :]}"
    # Dependencies are kept sorted by every npm client: stay sorted where the object already is.
    names = [m.key for m in span.members]
    later = [m for m in span.members if m.key > key] if depth > 1 and names == sorted(names) else []
    if later:
        at = later[0].key_start
        if "\n" not in text[span.start : at]:
            return f"{text[:at]}{_quoted(key)}: {rendered}, {text[at:]}"
        return f"{text[:at]}{_quoted(key)}: {rendered},{newline}{indent * depth}{text[at:]}"
    at = span.members[-1].value_end
    if "\n" not in text[span.start : span.end]:
        return f"{text[:at]}, {_quoted(key)}: {rendered}{text[at:]}"
    return f"{text[:at]},{line}{text[at:]}"


def _indent(text: str) -> str:
    match = re.search(r"^([ \t]+)\"", text, re.MULTILINE)
    return match.group(1) if match else "  "


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _quoted(value: str) -> str:
    return msgspec.json.encode(value).decode()


def _skip(text: str, offset: int) -> int:
    match = _SPACE.match(text, offset)
    return match.end() if match else offset


def _value_end(text: str, start: int) -> int:
    head = text[start]
    if head == "{":
        return object_at(text, start).end
    if head == "[":
        cursor = _skip(text, start + 1)
        while text[cursor] != "]":
            cursor = _skip(text, _value_end(text, cursor))
            if text[cursor] == ",":
                cursor = _skip(text, cursor + 1)
        return cursor + 1
    match = (_STRING if head == '"' else _SCALAR).match(text, start)
    assert match is not None, f"a value was expected at offset {start}"
    return match.end()
