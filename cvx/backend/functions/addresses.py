"""Which function is meant: by name, by reference into a component, or by handle.

A handle (`function://<id>`) is a text that user code may keep and pass on. Its id is a keyed digest of the
function's path, so it needs no row, cannot be guessed, means the same function after any push that still has it,
and means nothing while there is no such function.

Source: reference/runtime-and-database.md §1.4 (addresses); cli-and-deploy.md §7.2 (handles).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import msgspec

from cvx.backend.database import Snapshot, Transaction
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction
from cvx.backend.model import deployment
from cvx.errors import CvxError
from cvx.values import FunctionPath

_CHILD_COMPONENT = "_reference/childComponent/"
_HANDLE = "function://"
_ID_CHARS = 32

Code = Callable[[Snapshot, str], FunctionRegistry]


class AddressArgs(msgspec.Struct):
    """How a syscall names a function; `name` wins when several are given."""

    name: str | None = None
    reference: str | None = None
    functionHandle: str | None = None


def resolve(args: AddressArgs, code: Code, tx: Transaction, component: str, api: str) -> FunctionPath:
    """The path that is meant by code of `component`. Whether there is such a function is another question.

    Raises CvxError: BadConvexFunctionIdentifier, ComponentPathNotFound, InvalidArgument, FunctionHandleNotFound.
    """
    if args.name is not None:
        return FunctionPath.parse(args.name, component)
    if args.functionHandle is not None:
        return _of_handle(args.functionHandle, code, tx)
    if args.reference is None:
        raise CvxError("InvalidArgument", f"Invalid arguments for `{api}`: the argument `name` is missing.")
    if args.reference.startswith(_CHILD_COMPONENT):
        child, _, rest = args.reference[len(_CHILD_COMPONENT) :].partition("/")
        raise CvxError(
            "ComponentPathNotFound", f"There is no component '{child}' to find '{rest}' in.", kind="bad_request",
            hint="Install it in convex/convex.config.ts and push.", retry_when="files",
        )  # fmt: skip
    raise CvxError("InvalidArgument", f"'{args.reference[:128]}' is not a reference to a function.")


def create_handle(code: Code, tx: Transaction, path: FunctionPath) -> str:
    """The handle of a function. Raises CvxError "FunctionNotFound"."""
    registry = code(tx.snapshot, path.component)
    registry.depend_on(tx.reads, (path.module,))
    if registry.find(path) is None:
        raise CvxError(
            "FunctionNotFound", f"There is no function {path.display} to make a handle of.",
            hint="Is it exported?", retry_when="files",
        )  # fmt: skip
    return f"{_HANDLE}{_id_of(deployment.function_handle_key(tx), path)}#{path.udf_path}"


def _of_handle(handle: str, code: Code, tx: Transaction) -> FunctionPath:
    id, _, advice = handle.removeprefix(_HANDLE).partition("#")
    if not handle.startswith(_HANDLE) or len(id) != _ID_CHARS:
        raise CvxError("InvalidArgument", f"'{handle[:128]}' is not a function handle.")
    key = deployment.function_handle_key(tx)
    for component in tx.catalog.components:
        registry = code(tx.snapshot, component)
        for function in _likely_first(registry, advice):
            if hmac.compare_digest(_id_of(key, function.path), id):
                return function.path
        registry.depend_on(tx.reads, [row.path for row in registry.rows])
    raise CvxError(
        "FunctionHandleNotFound", f"The function of the handle '{handle[:128]}' is not deployed.",
        hint="Push a version of the app that has it.", retry_when="files",
    )  # fmt: skip


def _likely_first(registry: FunctionRegistry, advice: str) -> list[LoadedFunction]:
    return sorted(registry.functions.values(), key=lambda function: function.path.udf_path != advice)


def _id_of(key: bytes, path: FunctionPath) -> str:
    text = f"{path.component}\0{path.canonical}".encode()
    return hmac.new(key, text, hashlib.sha256).hexdigest()[:_ID_CHARS]
