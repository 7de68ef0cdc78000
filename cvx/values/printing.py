"""Values as people read them in error messages: `{name: "Ada", age: 36.0}`.

Object keys come in name order, strings in double quotes, floats with a point, int64 with JavaScript's `n`,
bytes as `b"base64"`.

Source: reference/values-and-sync.md §7.
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

from cvx.values.value import COMMIT_TS, UNDEFINED

_print_json = msgspec.json.Encoder().encode


def print_value(value: Any) -> str:
    """One line of text for any value, sentinels included."""
    kind = type(value)
    if kind is dict:
        return "{" + ", ".join(f"{name}: {print_value(value[name])}" for name in sorted(value)) + "}"
    if kind is list:
        return "[" + ", ".join(map(print_value, value)) + "]"
    if kind is int:
        return f"{value}n"
    if kind is float and value - value != 0.0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if kind is bytes:
        return f'b"{binascii.b2a_base64(value, newline=False).decode()}"'
    if value is UNDEFINED:
        return "undefined"
    if value is COMMIT_TS:
        return "[unresolved commit timestamp]"
    return _print_json(value).decode()
