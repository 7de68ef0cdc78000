"""Arguments as people type them: JSON5, the form the official CLI accepts (cli-and-deploy.md §5.6).

Beside JSON: bare and single-quoted names and strings, trailing commas, comments, hexadecimal numbers, a
leading plus or point. The result is plain JSON data.
"""

from __future__ import annotations

import re
from typing import Any

from cvx.errors import CvxError

_SPACE = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_$][\w$]*")
_HEX = re.compile(r"([+-]?)0[xX]([0-9a-fA-F]+)")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0", "\n": ""}
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def parse_json5(text: str, what: str) -> Any:
    """The value of a JSON5 text. Raises `UsageError` naming `what` and the place."""
    reader = _Reader(text)
    try:
        value = reader.value()
        reader.skip()
        if reader.at < len(text):
            raise _Unexpected
    except (_Unexpected, IndexError, RecursionError):
        shown = text[max(0, reader.at - 20) : reader.at + 20]
        raise CvxError(
            "UsageError",
            f"{what} is not valid JSON at character {reader.at + 1}: …{shown}…",
            hint='Quote it for the shell: \'{"name": "value"}\'',
        ) from None
    return value


class _Unexpected(Exception):
    """Something stands where it may not."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def value(self) -> Any:
        self.skip()
        char = self.text[self.at]
        if char == "{":
            return self._object()
        if char == "[":
            return self._array()
        if char in "\"'":
            return self._string()
        hexadecimal = _HEX.match(self.text, self.at)
        if hexadecimal:
            self.at = hexadecimal.end()
            return float(int(hexadecimal[2], 16) * (-1 if hexadecimal[1] == "-" else 1))
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            plain = number[0].lstrip("+")
            return int(plain) if re.fullmatch(r"-?(0|[1-9]\d*)", plain) else float(plain)
        word = _NAME.match(self.text, self.at)
        if word and word[0] in _WORDS:
            self.at = word.end()
            return _WORDS[word[0]]
        raise _Unexpected

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.at += 1
        while not self._take("}"):
            self.skip()
            name = _NAME.match(self.text, self.at)
            if name:
                self.at = name.end()
                key = name[0]
            elif self.text[self.at] in "\"'":
                key = self._string()
            else:
                raise _Unexpected
            if not self._take(":"):
                raise _Unexpected
            found[key] = self.value()
            self._comma("}")
        return found

    def _array(self) -> list[Any]:
        found: list[Any] = []
        self.at += 1
        while not self._take("]"):
            found.append(self.value())
            self._comma("]")
        return found

    def _comma(self, end: str) -> None:
        self.skip()
        if self.text[self.at] == end:
            return
        if not self._take(","):
            raise _Unexpected

    def _take(self, char: str) -> bool:
        self.skip()
        if self.text[self.at] != char:
            return False
        self.at += 1
        return True

    def _string(self) -> str:
        quote, parts = self.text[self.at], []
        self.at += 1
        while self.text[self.at] != quote:
            char = self.text[self.at]
            self.at += 1
            if char != "\\":
                parts.append(char)
                continue
            escape = self.text[self.at]
            self.at += 1
            if escape in "ux":
                length = 4 if escape == "u" else 2
                digits = self.text[self.at : self.at + length]
                if not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digits):
                    raise _Unexpected
                parts.append(chr(int(digits, 16)))
                self.at += length
            else:
                parts.append(_ESCAPES.get(escape, escape))
        self.at += 1
        text = "".join(parts)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
