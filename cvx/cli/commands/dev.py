"""`cvx dev`: the development loop, shown on a terminal or as JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer

from cvx.cli.command import command
from cvx.cli.context import CommandContext
from cvx.cli.output import Output, TerminalReporter, error_envelope
from cvx.errors import CvxError
from cvx.toolchain.progress import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cvx.toolchain.build import TypecheckResult
    from cvx.toolchain.client import FunctionAnswer, LoggedCall
    from cvx.toolchain.dev import Pushed
    from cvx.toolchain.project import Deployment

Choice = TypeVar("Choice", bound=str)

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@command(
    app,
    "dev",
    talks=True,
    examples=[
        "cvx dev",
        'cvx dev --start "vite"                  # with the front end beside it',
        "cvx dev --once --typecheck enable       # push once, for scripts",
        "cvx dev --until-success --run init:seed",
    ],
)
def dev(
    context: CommandContext,
    once: Annotated[bool, typer.Option("--once", help="Push once and end; exit 1 when that fails.")] = False,
    until_success: Annotated[
        bool, typer.Option("--until-success", help="Keep trying; end after the first success.")
    ] = False,
    configure: Annotated[
        str | None,
        typer.Option("--configure", metavar="[new|existing]", help="Choose the local deployment anew."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="CMD", help="Run this (the front end) once the functions are live."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="FN", help="Call this function after the first push.")
    ] = None,
    typecheck: Annotated[
        str, typer.Option("--typecheck", metavar="MODE", help="try, enable or disable.")
    ] = "try",
    codegen: Annotated[str, typer.Option("--codegen", metavar="MODE", help="enable or disable.")] = "enable",
    tail_logs: Annotated[
        str,
        typer.Option("--tail-logs", metavar="[MODE]", help="always, pause-on-deploy or disable."),
    ] = "pause-on-deploy",
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="Port of a new local backend.", min=1, max=65534)
    ] = None,
) -> None:
    """Start or adopt the local backend, push, regenerate types, watch, show logs."""
    context.output.status("Starting")  # Before the imports: they are the first thing that takes time.
    from cvx.toolchain.dev import DevOptions, develop
    from cvx.toolchain.dev.loop import TailLogs, TypecheckMode

    checked_typecheck: TypecheckMode = one_of("--typecheck", typecheck, get_args(TypecheckMode))
    one_of("--codegen", codegen, ("enable", "disable"))
    checked_tail_logs: TailLogs = one_of("--tail-logs", tail_logs, get_args(TailLogs))
    name = None if configure is None else configured(context, configure)
    options = DevOptions(
        once=once,
        until_success=until_success,
        start=start,
        run=run,
        typecheck=checked_typecheck,
        codegen=codegen == "enable",
        tail_logs=checked_tail_logs,
        port=port,
        beside=name is None and context.is_beside,
    )
    project = context.project
    selection = context.selection
    deployment = None if selection.is_local else selection.require()
    develop(project.root, name or selection.name, deployment, options, TerminalView(context.output))


def one_of(option: str, value: str, allowed: tuple[Choice, ...]) -> Choice:
    """The value, which is refused when it is not among those allowed, offering the nearest."""
    import difflib

    for choice in allowed:
        if choice == value:
            return choice
    near = difflib.get_close_matches(value, allowed, n=1, cutoff=0.4)
    raise CvxError(
        "UsageError",
        f"{option} takes {', '.join(allowed[:-1])} or {allowed[-1]}, not {value!r}.",
        hint=f"Did you mean {near[0]}?" if near else f"Use {option} {allowed[0]}.",
    )


def configured(context: CommandContext, choice: str) -> str:
    """The local deployment that `--configure` leads to; it stays selected."""
    from cvx.toolchain.dev import prepare_deployment
    from cvx.toolchain.project import DEFAULT_NAME, list_local, local_state, select_name

    one_of("--configure", choice, ("new", "existing", "ask"))
    names = [state.name for state in list_local(context.project)]
    if choice == "ask":
        choice = context.prompts.choose(
            "New deployment, or one that exists?", ["new", "existing"], default="new", flag="--configure new"
        )
    if choice == "existing":
        if not names:
            raise CvxError(
                "DeploymentNotFound",
                "There is no local deployment to choose yet.",
                kind="not_found",
                hint="cvx dev --configure new",
            )
        named = context.chosen.deployment_name
        name = named if named in names else names[0]
        if len(names) > 1 and name != named:
            name = context.prompts.choose("Which?", names, default=names[0], flag="--deployment NAME")
    else:
        numbered = (f"dev-{number}" for number in range(2, 10_000))
        name = DEFAULT_NAME if DEFAULT_NAME not in names else next(n for n in numbered if n not in names)
        # It has to be there once it is chosen, should the rest not come about.
        prepare_deployment(context.project, local_state(context.project, name), context.reporter)
    select_name(context.project, name)
    return name


class TerminalView:
    """The loop on a terminal, or as one JSON object a line."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._reporter = TerminalReporter(output)
        self._type_errors = False
        self._told_unchecked = False

    def report(self, event: Event) -> None:
        self._reporter.report(event)

    def target(self, deployment: Deployment) -> None:
        self._output.say("▌ Developing against deployment:")
        self._output.say(
            f"▌ └─ {deployment.url}" + (f" ({deployment.name})" if deployment.kind == "local" else "")
        )
        self._json(
            {
                "event": "target",
                "url": deployment.url,
                "siteUrl": deployment.site_url,
                "name": deployment.name,
            }
        )

    def ready(self, pushed: Pushed, seconds: float) -> None:
        output = self._output
        output.clear_status()
        if pushed.outcome is not None:
            for line in index_lines(pushed.outcome.index_diff):
                output.say(line)
            for line in component_lines(pushed.outcome.component_diffs):
                output.say(line)
        took = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
        same = "" if pushed.outcome is not None else ", nothing changed"
        output.done(f"{output.clock()} Functions ready! ({took}{same})")
        sent = pushed.outcome.modules_sent if pushed.outcome else 0
        self._json({"event": "ready", "seconds": round(seconds, 4), "modulesSent": sent})

    def failed(self, error: CvxError, waits_for: str) -> None:
        self._output.clear_status()
        self._output.raw(self._output.render_error(error))
        if waits_for:
            self._output.say(f"Waiting for {waits_for}.", style="dim")
        self._json({"event": "failed", "waitsFor": waits_for, "error": error_envelope(error)["error"]})

    def types(self, result: TypecheckResult) -> None:
        output = self._output
        for diagnostic in result.diagnostics:
            output.raw(output.render_diagnostic(diagnostic))
        if result.status == "failed":
            count = sum(1 for d in result.diagnostics if d.severity == "error")
            output.warn(f"{count} type error{'s' if count != 1 else ''}; the functions run all the same.")
        elif result.status == "unavailable":
            if not self._told_unchecked:
                output.say(f"Types are not checked: {result.reason}. {result.hint or ''}".rstrip())
            self._told_unchecked = True
        elif self._type_errors:
            output.done(f"{output.clock()} No type errors any more.")
        else:
            output.detail(f"No type errors ({result.seconds * 1000:.0f} ms).")
        self._type_errors = result.status == "failed"
        self._json(
            {
                "event": "types",
                "status": result.status,
                "diagnostics": [d.to_json() for d in result.diagnostics],
            }
        )

    def logs(self, call: LoggedCall) -> None:
        from cvx.toolchain.client import render_log

        for line in render_log(call):
            self._output.raw(line)

    def value(self, function: str, answer: FunctionAnswer) -> None:
        from cvx.cli.output import pretty_json

        for line in answer.log_lines:
            self._output.say(line)
        if answer.status == "success":
            self._output.say(f"{function} returned {pretty_json(answer.value)}")

    def front_end(self, line: str) -> None:
        self._output.raw(line)  # Talk: standard output belongs to data.

    def _json(self, event: dict[str, Any]) -> None:
        if self._output.json_mode:
            self._output.item(event)


def index_lines(diff: Any) -> list[str]:
    """Which indexes a push added, removed or changed, as the official CLI prints them (§2.1)."""
    groups = (
        ("Deleted table indexes:", "[-]", diff.removed_indexes),
        ("Added table indexes:", "[+]", [i for i in diff.added_indexes if not i.staged]),
        ("Added staged table indexes:", "[+]", [i for i in diff.added_indexes if i.staged]),
        ("These indexes are now enabled:", "[*]", diff.enabled_indexes),
        ("These indexes are now staged:", "[*]", diff.disabled_indexes),
    )
    lines = []
    for title, mark, indexes in groups:
        if indexes:
            lines.append(title)
            lines += [f"  {mark} {index.name}   {', '.join(_fields(index))}" for index in indexes]
    return lines


_MOUNTING = {"create": "Installed", "unmount": "Unmounted", "remount": "Remounted"}


def component_lines(diffs: Mapping[str, Any]) -> list[str]:
    """Which components a push mounted or took away, as the official CLI prints them (§2.1)."""
    return [
        f"{_MOUNTING[diff.diff_type.type]} component {path}."
        for path, diff in diffs.items()
        if path and diff.diff_type.type in _MOUNTING
    ]


def _fields(index: Any) -> list[str]:
    own = getattr(index, "fields", None)
    return list(own) if own else [getattr(index, "search_field", getattr(index, "vector_field", ""))]
