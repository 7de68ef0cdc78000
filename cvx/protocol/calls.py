"""One-shot function calls over HTTP: the bodies that come in, the answers that go out.

A call that reached its function answers with HTTP 200 whether it succeeded or failed; only what never got that
far is an HTTP error. Results are already canonical JSON bytes, so answers are put together from pieces.

Rule: `logLines` is absent when empty and `errorData` is absent unless a ConvexError was thrown.

Source: reference/values-and-sync.md §5, §1.5; cli-and-deploy.md §5.6.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import Raw, Struct

from cvx.errors import CvxError
from cvx.values import Timestamp, decode, encode_ts, print_kind, reformat

_Body = TypeVar("_Body")
_print = msgspec.json.Encoder().encode


@lru_cache(maxsize=64)
def _decoder(expected: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(expected)


def decode_body(raw: bytes, expected: type[_Body]) -> _Body:
    """A request body as the struct `expected`; unknown keys are ignored. Raises CvxError "BadJsonBody"."""
    decoder: msgspec.json.Decoder[_Body] = _decoder(cast(Hashable, expected))
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CvxError(
            "BadJsonBody", f"The request body is not what this endpoint expects: {error}."
        ) from None


def encode_body(body: Any) -> bytes:
    """A response struct as JSON."""
    return _print(body)


# -------------------------------------------------------------------------------------------------- requests


class FunctionRequest(Struct, rename="camel", frozen=True):
    """Body of /api/query, /api/mutation, /api/action and /api/function.

    `args` stays raw JSON until the function is known: an object, or an array of positional arguments.
    `component_path` needs admin rights and is read by /api/function only.
    """

    path: str
    args: Raw = Raw(b"{}")
    format: str | None = None
    component_path: str | None = None


class QueryAtTsRequest(Struct, rename="camel", frozen=True):
    """Body of /api/query_at_ts; `ts` as `encode_ts` spells it."""

    path: str
    ts: str
    args: Raw = Raw(b"{}")
    format: str | None = None


class QueryBatchRequest(Struct, rename="camel", frozen=True):
    """Body of /api/query_batch; all queries run at one timestamp."""

    queries: list[FunctionRequest]


class RunRequest(Struct, rename="camel", frozen=True):
    """Body of /api/run/…; the function's path is in the URL."""

    args: Raw = Raw(b"{}")
    format: str | None = "json"


class TestQueryBundle(Struct, rename="camel", frozen=True):
    """A module with one query as its default export, bundled."""

    path: str
    source: str


class TestQueryRequest(Struct, rename="camel", frozen=True):
    """Body of /api/run_test_function: a read-only query that is run without being pushed."""

    admin_key: str
    bundle: TestQueryBundle
    args: Raw = Raw(b"{}")
    format: str | None = None
    component_id: str | None = None


def function_args(raw: bytes | Raw) -> list[Any]:
    """The positional arguments of a call: an object is the only one, an array is all of them.

    Raises CvxError as `decode` does, and "InvalidArguments" for any other JSON.
    """
    args = decode(bytes(raw))
    if type(args) is list:
        return args
    if type(args) is dict:
        return [args]
    raise CvxError(
        "InvalidArguments", f"A function's arguments are an object, not {print_kind(args)}.",
        hint='Send "args": {} for a function without arguments.',
    )  # fmt: skip


def run_path(segments: Sequence[str]) -> str:
    """The function path that the (URL-decoded) segments after /api/run/ mean.

    Raises CvxError "MissingIdentifier" for fewer than two.
    """
    if len(segments) < 2:
        raise CvxError(
            "MissingIdentifier", "The URL names no function.",
            hint="Write it as /api/run/<module>/<function>.",
        )  # fmt: skip
    return f"{'/'.join(segments[:-1])}:{segments[-1]}"


# ------------------------------------------------------------------------------------------------- responses


def success_body(value_json: bytes, log_lines: Sequence[str], format: str | None) -> bytes:
    """The answer to a call that returned: `value_json` is canonical and is converted to `format`."""
    return b"".join(
        (b'{"status":"success","value":', reformat(value_json, format), _log_part(log_lines), b"}")
    )


def error_body(message: str, data_json: bytes | None, log_lines: Sequence[str], format: str | None) -> bytes:
    """The answer to a call that failed; `data_json` is a ConvexError's payload, None without one."""
    data = b"" if data_json is None else b',"errorData":' + reformat(data_json, format)
    return b"".join((b'{"status":"error","errorMessage":', _print(message), data, _log_part(log_lines), b"}"))


def _log_part(log_lines: Sequence[str]) -> bytes:
    return b',"logLines":' + _print(log_lines) if log_lines else b""


def batch_body(results: Iterable[bytes]) -> bytes:
    """The answer of /api/query_batch, from the answers of its queries in order."""
    return b'{"results":[' + b",".join(results) + b"]}"


def query_ts_body(ts: Timestamp) -> bytes:
    """The answer of /api/query_ts."""
    return _print({"ts": encode_ts(ts)})


def failure_body(code: str, message: str) -> bytes:
    """The body of an HTTP error. Clients need both keys."""
    return _print({"code": code, "message": message})


# ---------------------------------------------------------------------------------------- who is asking, with what


_FAMILIES: Final = ("npm", "npm-cli", "python", "rust", "actions")
_version: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+][0-9A-Za-z.+-]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CallingClient:
    """What the `Convex-Client` header says: `npm-1.48.0`. `version` None: none that we can read."""

    name: str
    version: tuple[int, int, int] | None

    @staticmethod
    def parse(header: str | None) -> CallingClient | None:
        """None without a header. Raises CvxError "InvalidClientVersion" when nothing in it could be a version.

        The longest suffix that reads as a version is one.
        """
        if header is None:
            return None
        if "-" not in header:
            raise _bad_client(header)
        for at, character in enumerate(header):
            match = _version.fullmatch(header, at + 1) if character == "-" else None
            if match is not None:
                major, minor, patch = match.groups()
                return CallingClient(header[:at], (int(major), int(minor), int(patch)))
        # A family that we know keeps its name, so that `check_supported` can refuse it.
        known = [family for family in _FAMILIES if header.startswith(f"{family}-")]
        return CallingClient(max(known, key=len) if known else header.rpartition("-")[0], None)

    @property
    def default_format(self) -> str:
        """The output format it gets when it names none: the first versions expected the encoded one."""
        oldest = {"npm": (1, 4, 1), "npm-cli": (1, 4, 1), "actions": (1, 4, 1), "python": (0, 5, 0)}
        is_old = self.version is not None and self.version < oldest.get(self.name, (0, 0, 0))
        return "convex_encoded_json" if is_old else "json"

    @property
    def wants_structured_logs(self) -> bool:
        """Whether log lines go to it as objects instead of text."""
        return self.name in ("npm-cli", "dashboard")


def _bad_client(header: str) -> CvxError:
    return CvxError(
        "InvalidClientVersion",
        f"The Convex-Client header '{header[:64]}' is not of the form name-1.2.3.",
        hint="Update the client.",
    )


def output_format(requested: str | None, client: CallingClient | None) -> str:
    """The format to answer in: what the request names, else what its client expects."""
    return requested or (client.default_format if client is not None else "json")
