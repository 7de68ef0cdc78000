"""What is checked before a function runs and after it returned, with the texts that clients know.

Nothing here touches the database: a check is a function of the call, the registered function and the table names.

Source: reference/runtime-and-database.md §1.8; values-and-sync.md §6, §7.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cvx.backend.config import Limits
from cvx.backend.functions.module_loader import LoadedFunction
from cvx.backend.runner import FunctionKind
from cvx.errors import CvxError
from cvx.values import FunctionPath, TableNames, canonicalize, decode, encode, size_of, why_not_json

_KIND_NAMES: dict[FunctionKind, str] = {"query": "Query", "mutation": "Mutation", "action": "Action"}
_RUN_HINT = "Did you forget to run `npx convex dev` or `npx convex deploy`?"

EMPTY_ARGS = b"{}"


def not_found(path: FunctionPath, *, public: bool) -> CvxError:
    """The one answer for a missing, an internal and a private function: it must not tell them apart."""
    where = f" in '{path.component}'" if path.component else ""
    what = "public function" if public else "function"
    return CvxError(
        "FunctionNotFound",
        f"Could not find {what} for '{path.display}'{where}. {_RUN_HINT}",
        kind="bad_request",
        retry_when="files",
    )


def wrong_kind(function: LoadedFunction, asked: FunctionKind) -> CvxError:
    return CvxError(
        "InvalidFunctionType",
        f"Trying to execute {function.path.canonical} as {_KIND_NAMES[asked]}, "
        f"but it is defined as {_KIND_NAMES[function.kind]}.",
        retry_when="files",
    )


def check_callable(
    function: LoadedFunction | None,
    path: FunctionPath,
    kind: FunctionKind,
    *,
    public: bool,
    internal_allowed: bool,
) -> LoadedFunction:
    """The function, when the caller may run it as this kind; else raises the documented error."""
    if function is None or (public and not internal_allowed and function.visibility != "public"):
        raise not_found(path, public=public)
    if function.kind != kind:
        raise wrong_kind(function, kind)
    return function


def parse_args(
    path: FunctionPath, args_json: bytes, limits: Limits, *, internal: bool = False
) -> tuple[dict[str, Any], bytes]:
    """The argument object and its canonical JSON, from an object or the legacy array of one object.

    `internal`: they come from a function of ours, and may hold the commit timestamp that is not known yet.
    """
    if args_json in (b"{}", b"[{}]"):
        return {}, EMPTY_ARGS
    if len(args_json) > 4 * limits.function_args_bytes_max:
        raise _args_too_large(path, len(args_json), limits)
    try:
        value = decode(args_json, internal=internal)
    except CvxError as error:
        raise CvxError(error.code, f"Invalid arguments for {path.display}: {error.message}") from None
    if type(value) is list:
        if len(value) != 1:
            raise CvxError(
                "InvalidArgs",
                f"Invalid arguments for {path.display}: Expected to receive a single object as the "
                f"function's argument, but got {len(value)} arguments.",
            )
        value = value[0]
    if type(value) is not dict:
        raise CvxError(
            "InvalidArgs",
            f"Invalid arguments for {path.display}: Expected to receive a single object as the "
            f"function's argument. Instead received: {encode(value)[:256].decode('utf-8', 'replace')}",
        )
    return value, encode(value)


def check_args(
    function: LoadedFunction, args: dict[str, Any], args_json: bytes, tables: TableNames, limits: Limits
) -> None:
    """Raise CvxError unless the function accepts these arguments: size, then its validator."""
    # A value weighs at most 9 bytes for every 4 of its text ("1.0,"): measure only what may be too large.
    if len(args_json) * 3 > limits.function_args_bytes_max:
        size = size_of(args)
        if size > limits.function_args_bytes_max:
            raise _args_too_large(function.path, size, limits)
    if function.args is not None:
        complaint = function.args.check(args, tables)
        if complaint is not None:
            raise CvxError("InvalidArgs", f"ArgumentValidationError: {complaint.text()}")


def check_result(
    function: LoadedFunction, result_json: bytes, tables: TableNames, limits: Limits, *, nested: bool
) -> bytes:
    """A function's canonical result, or CvxError: not a value, too large, not what it promised to return."""
    if function.returns is None and result_json in _PLAIN:
        return result_json
    canonical, value, size = canonicalize(result_json)
    if size > limits.function_result_bytes_max:
        raise CvxError(
            "FunctionReturnTooLarge",
            f"Function {function.path.display} return value is too large "
            f"(actual: {size} bytes, limit: {limits.function_result_bytes_max} bytes).",
            hint="Return fewer or smaller documents, for example one page at a time.",
        )
    if not nested and b'"$commitTs"' in canonical:
        raise CvxError(
            "InvalidReturnValue",
            f"Function {function.path.display} returned a commit timestamp that is not known yet.",
            hint="Return the document's id, and read the timestamp in a later call.",
        )
    if function.returns is not None:
        complaint = function.returns.check(value, tables)
        if complaint is not None:
            raise CvxError("InvalidReturnValue", f"ReturnsValidationError: {complaint.text()}")
    return canonical


_PLAIN = frozenset({b"null", b"true", b"false", b"[]", b"{}"})


def _args_too_large(path: FunctionPath, size: int, limits: Limits) -> CvxError:
    return CvxError(
        "FunctionArgsTooLarge",
        f"Arguments for {path.display} are too large "
        f"(actual: {size} bytes, limit: {limits.function_args_bytes_max} bytes).",
        hint="Send less at once, or upload the data as a file.",
    )


def decode_syscall(decoder: msgspec.json.Decoder[Any], raw: bytes, api: str) -> Any:
    """The typed arguments of a syscall. Raises CvxError `InvalidArgument` naming the API that sent them."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise CvxError("InvalidArgument", f"Invalid arguments for `{api}`: {error}.") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CvxError(
            "InvalidArgument", f"Invalid arguments for `{api}`: {why_not_json(raw, error)}."
        ) from None
