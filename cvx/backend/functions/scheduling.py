"""`ctx.scheduler`: what its syscalls mean, in mutations and in actions.

In a mutation a job is part of the mutation's transaction. An action's own transaction is made by its host; what
happens in it is the same.

Source: reference/runtime-and-database.md §1.3 (`1.0/schedule`, `1.0/cancel_job`), §6.1, §6.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cvx.backend.database import Transaction
from cvx.backend.functions.addresses import AddressArgs, create_handle, resolve
from cvx.backend.functions.calls import Services
from cvx.backend.functions.checks import decode_syscall, parse_args
from cvx.backend.functions.module_loader import FunctionRegistry
from cvx.backend.model import scheduled_jobs
from cvx.backend.model.scheduled_jobs import JobRef, NewJob
from cvx.errors import CvxError
from cvx.values import FunctionPath, size_of

if TYPE_CHECKING:
    from cvx.backend.functions.syscalls import FunctionHost

SCHEDULE_API = "ctx.scheduler.runAfter / runAt"
CANCEL_API = "ctx.scheduler.cancel"


class _ScheduleArgs(AddressArgs, kw_only=True):
    ts: float
    args: msgspec.Raw


class _CancelArgs(msgspec.Struct):
    id: str


_schedule_args = msgspec.json.Decoder(_ScheduleArgs)
_cancel_args = msgspec.json.Decoder(_CancelArgs)
_address_args = msgspec.json.Decoder(AddressArgs)
_encode = msgspec.json.Encoder().encode


def schedule(services: Services, tx: Transaction, component: str, parent: JobRef | None, raw: bytes) -> bytes:
    """Add the job that a syscall asks for; its id as JSON. `parent`: the job whose function asks, if it is one.

    Raises CvxError for an address that is none, arguments that are none, a function that is not deployed, and as
    `scheduled_jobs.schedule` does. Whether the function accepts the arguments is found out when it runs.
    """
    args = decode_syscall(_schedule_args, raw, SCHEDULE_API)
    path = resolve(args, services, tx, component, SCHEDULE_API)
    registry = services.code(tx.snapshot, path.component)
    registry.depend_on(tx.reads, (path.module,))
    function = registry.find(path)
    if function is None:
        raise _not_deployed(path, registry)
    value, _ = parse_args(path, bytes(args.args), services.limits)
    new = NewJob(
        component=component,
        path=function.path,
        queue="action" if function.kind == "action" else "mutation",
        args=value,
        args_bytes=size_of(value),
        due_ms=round(args.ts * 1000.0, 3),  # Seconds travel; a whole number of ms must stay one.
    )
    return _encode(str(scheduled_jobs.schedule(tx, new, services.limits, parent)))


def cancel(tx: Transaction, component: str, raw: bytes) -> bytes:
    """Cancel the job that a syscall names. Raises CvxError as `scheduled_jobs.cancel` does."""
    id = scheduled_jobs.parse_job_id(decode_syscall(_cancel_args, raw, CANCEL_API).id)
    scheduled_jobs.cancel(tx, JobRef(component, str(id)))
    return b"null"


def _not_deployed(path: FunctionPath, registry: FunctionRegistry) -> CvxError:
    if path.module in registry.ranges:
        why = f"there is no exported function '{path.export}' in {path.module}. Did you forget to export it?"
    else:
        why = f"there is no module {path.module}."
    return CvxError(
        "FunctionNotFound", f"Attempted to schedule function {path.display}, but {why}",
        hint="Export the function and push.", retry_when="files",
    )  # fmt: skip


# ---------------------------------------------------------------------------- as syscalls of a query or mutation


def schedule_in_mutation(host: FunctionHost, raw: bytes) -> bytes:
    """`1.0/schedule`."""
    host.check_writable(SCHEDULE_API)
    call = host.call
    return schedule(call.services, host.tx, host.component, call.request.scheduled_job, raw)


def cancel_in_mutation(host: FunctionHost, raw: bytes) -> bytes:
    """`1.0/cancel_job`."""
    host.check_writable(CANCEL_API)
    return cancel(host.tx, host.component, raw)


def handle_in_transaction(host: FunctionHost, raw: bytes) -> bytes:
    """`1.0/createFunctionHandle`."""
    return function_handle(host.call.services, host.tx, host.component, raw)


def function_handle(services: Services, tx: Transaction, component: str, raw: bytes) -> bytes:
    """The handle of the function a syscall names, as JSON."""
    api = "createFunctionHandle"
    path = resolve(decode_syscall(_address_args, raw, api), services, tx, component, api)
    return _encode(create_handle(services, tx, path))
