"""What running a query and running a mutation have in common: the run itself, its result, its log entry.

Source: reference/runtime-and-database.md §1.7, §3.5, §12.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from cvx.backend.auth import Identity, identity_type
from cvx.backend.database import Transaction, Usage
from cvx.backend.functions.calls import Call, Services, begin_ms, merged_lines, run_function
from cvx.backend.functions.checks import check_result
from cvx.backend.functions.function_log import Conflict, FinishedCall, FunctionLog, Subject
from cvx.backend.functions.module_loader import FunctionRegistry, LoadedFunction
from cvx.backend.functions.near_limits import near_limits
from cvx.backend.functions.results import FunctionError, LoggedLine, error_of, error_of_cvx, new_execution_id
from cvx.backend.functions.syscalls import FunctionHost
from cvx.backend.runner import FunctionOutcome, SyscallHost
from cvx.errors import DETERMINISTIC_KINDS, CvxError
from cvx.values import FunctionPath


class Execution:
    """Shared by all calls of a deployment; keeps nothing of any."""

    def __init__(self, services: Services, log: FunctionLog, *, redacted: bool) -> None:
        self.services = services
        self.log = log
        self.redacted = redacted

    async def run(
        self,
        call: Call,
        function: LoadedFunction,
        registry: FunctionRegistry,
        args_json: bytes,
        begin_again: Callable[[], Transaction],
    ) -> tuple[Call, FunctionOutcome]:
        """Run a function; the call it ended in, and its end.

        That is another call, in a transaction of `begin_again`, if the runner had to start it again.
        """
        current, started = call, False

        def make_host() -> SyscallHost:
            nonlocal current, started
            if started:
                tx = begin_again()
                registry.depend_on(tx.reads, (function.path.module,))
                files = None if call.files is None else call.files.again()
                current = Call(
                    self.services, tx, call.identity, call.seed, call.request, call.journal_end, files
                )
            started = True
            return FunctionHost(current, function, 0)

        early_writes_max = self.services.limits.runner_early_writes_max if function.kind == "mutation" else 0
        outcome = await run_function(
            self.services,
            function,
            registry,
            args_json,
            call.seed,
            call.environment_of(registry.component),
            call.tx,
            make_host,
            early_writes_max=early_writes_max,
        )
        current.absorb(outcome, registry)
        return current, outcome

    def result(
        self, function: LoadedFunction, outcome: FunctionOutcome, tx: Transaction
    ) -> tuple[bytes | None, FunctionError | None]:
        """The canonical value, or why there is none. Raises CvxError for a value that is refused."""
        if outcome.value_json is not None:
            tables = tx.catalog.table_names(function.path.component)
            value = check_result(function, outcome.value_json, tables, self.services.limits, nested=False)
            return value, None
        if outcome.error is None or outcome.error.kind == "system":
            why = "it gave no result" if outcome.error is None else outcome.error.message
            raise CvxError("InternalServerError", f"The function runner failed: {why}", kind="internal")
        return None, error_of(outcome.error, redacted=self.redacted)

    def refusal(self, error: CvxError) -> FunctionError:
        """The function error for what is the call's own fault; raises anything else again."""
        if error.kind not in DETERMINISTIC_KINDS:
            raise error
        return error_of_cvx(error, redacted=self.redacted)

    def lines(self, call: Call, outcome: FunctionOutcome) -> list[LoggedLine]:
        """Everything that was logged, warnings about limits included."""
        limits = self.services.limits
        warnings = near_limits(call.tx.usage, limits, begin_ms(call.tx))
        if not (call.nested_lines or outcome.log_lines or warnings):
            return []
        return merged_lines(call.nested_lines, [*outcome.log_lines, *warnings], limits.log_lines_max)

    def texts(self, lines: Iterable[LoggedLine]) -> list[str]:
        """Log lines as clients get them."""
        return [] if self.redacted else [line.pretty() for line in lines]

    def record(
        self,
        path: FunctionPath,
        kind: str,
        *,
        caller: str,
        identity: Identity,
        request_id: str,
        started: float,
        user_ms: float = 0.0,
        lines: Sequence[LoggedLine] = (),
        error: FunctionError | None = None,
        value_json: bytes | None = None,
        usage: Usage | None = None,
        cached: bool = False,
        conflict: Conflict | None = None,
        execution_id: str | None = None,
        parent_execution_id: str | None = None,
        environment: str = "isolate",
        identifier: str | None = None,
        http_status: int | None = None,
        lines_streamed: bool = False,
    ) -> None:
        """Note a finished call (or attempt). `started` is of `time.perf_counter`.

        `execution_id`, if it had one while it ran; `identifier`, if that is not its path (HTTP actions). What command
        lines and dashboards ask of `_system/…` would crowd out the app's own calls: only its failures are noted.
        """
        if path.is_system and error is None:
            return
        seconds = time.perf_counter() - started
        self.log.record(
            FinishedCall(
                subject=Subject(
                    kind,
                    identifier or path.udf_path,
                    request_id,
                    execution_id or new_execution_id(),
                    path.component,
                ),
                caller=caller,
                identity_type=identity_type(identity),
                started_s=time.time() - seconds,
                seconds=seconds,
                user_ms=user_ms,
                cached=cached,
                log_lines=lines,
                error=None if error is None else error.message,
                return_bytes=None if value_json is None else len(value_json),
                usage=usage,
                conflict=conflict,
                environment=environment,
                parent_execution_id=parent_execution_id,
                http_status=http_status,
                lines_streamed=lines_streamed,
            )
        )
