"""Which function is meant: by name, by reference into a component, or by handle.

A reference (`_reference/childComponent/<name>/<folder…>/<module>/<function>`) means a public function of a component
that the caller's component mounts; it is the only way from a parent into a child.

A handle (`function://<id>`) is a text that user code may keep and pass on, into components and back. Its id is a
keyed digest of the function's component and path, so it needs no row, cannot be guessed, means the same function
after any push that still has it, and means nothing while there is no such function.

Source: reference/runtime-and-database.md §1.4 (addresses); cli-and-deploy.md §7.2 (handles).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cvx.backend.database import ROOT, Transaction
from cvx.backend.functions.checks import not_found
from cvx.backend.functions.components import child_path
from cvx.backend.functions.module_loader import HANDLE_ID_CHARS
from cvx.backend.model import deployment
from cvx.errors import CvxError
from cvx.values import FULL_RANGE, FunctionPath

if TYPE_CHECKING:
    from cvx.backend.functions.calls import Services

_CHILD_COMPONENT = "_reference/childComponent/"
_OWN_FUNCTION = "_reference/function/"
_HANDLE = "function://"


class AddressArgs(msgspec.Struct):
    """How a syscall names a function; `name` wins when several are given."""

    name: str | None = None
    reference: str | None = None
    functionHandle: str | None = None


def resolve(args: AddressArgs, services: Services, tx: Transaction, component: str, api: str) -> FunctionPath:
    """The path that is meant by code of `component`. Whether a function named by `name` exists is another question.

    Raises CvxError: BadConvexFunctionIdentifier, ComponentPathNotFound, FunctionNotFound (nothing public under a
    reference), InvalidArgument, FunctionHandleNotFound.
    """
    if args.name is not None:
        return FunctionPath.parse(args.name, component)
    if args.functionHandle is not None:
        return _of_handle(args.functionHandle, services, tx)
    if args.reference is None:
        raise CvxError("InvalidArgument", f"Invalid arguments for `{api}`: the argument `name` is missing.")
    if args.reference.startswith(_CHILD_COMPONENT):
        return _of_child(args.reference[len(_CHILD_COMPONENT) :], services, tx, component)
    if args.reference.startswith(_OWN_FUNCTION):
        return FunctionPath.parse(args.reference[len(_OWN_FUNCTION) :], component)
    raise _no_reference(args.reference)


def _of_child(reference: str, services: Services, tx: Transaction, component: str) -> FunctionPath:
    child, _, rest = reference.partition("/")
    module, _, export = rest.rpartition("/")
    if not module:
        raise _no_reference(_CHILD_COMPONENT + reference)
    mounted = child_path(component, child)
    tree = services.components(tx.snapshot)
    tree.depend_on(tx.reads, mounted)
    tree.require(mounted)
    path = FunctionPath.parse(f"{module}:{export}", mounted)
    registry = services.code(tx.snapshot, mounted)
    registry.depend_on(tx.reads, (path.module,))
    function = registry.find(path)
    if function is None or function.visibility != "public":
        raise not_found(path, public=True)
    return path


def create_handle(services: Services, tx: Transaction, path: FunctionPath) -> str:
    """The handle of a function. Raises CvxError "FunctionNotFound"."""
    registry = services.code(tx.snapshot, path.component)
    registry.depend_on(tx.reads, (path.module,))
    function = registry.find(path)
    if function is None:
        raise CvxError(
            "FunctionNotFound", f"There is no function {path.display} to make a handle of.",
            hint="Is it exported?", retry_when="files",
        )  # fmt: skip
    id = function.handle_id(deployment.function_handle_key(tx))
    return f"{_HANDLE}{id}#{path.udf_path}"


def _of_handle(handle: str, services: Services, tx: Transaction) -> FunctionPath:
    id = handle.removeprefix(_HANDLE).partition("#")[0]
    if not handle.startswith(_HANDLE) or len(id) != HANDLE_ID_CHARS:
        raise CvxError("InvalidArgument", f"'{handle[:128]}' is not a function handle.")
    key = deployment.function_handle_key(tx)
    tree = services.components(tx.snapshot)
    for component in tree.active:
        registry = services.code(tx.snapshot, component)
        function = registry.by_handle(key).get(id)
        if function is not None:
            tree.depend_on(tx.reads, component)
            registry.depend_on(tx.reads, (function.path.module,))
            return function.path
    # Any push may bring it.
    tx.reads.add(services.code(tx.snapshot, ROOT).index_id, FULL_RANGE)
    raise CvxError(
        "FunctionHandleNotFound", f"The function of the handle '{handle[:128]}' is not deployed.",
        hint="Push a version of the app that has it.", retry_when="files",
    )  # fmt: skip


def _no_reference(reference: str) -> CvxError:
    return CvxError("InvalidArgument", f"'{reference[:128]}' is not a reference to a function.")
