"""`cvx backend`: run the backend itself, print its key, see or stop the one that runs here.

The only command that imports the left wing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import typer

from cvx.cli.command import command, group
from cvx.cli.commands.dev import one_of
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

if TYPE_CHECKING:
    from cvx.backend.limits import LimitInfo, Override

app = group("Run the backend itself, or see what runs here.")

LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="Another value for a limit; may be repeated. See `backend limits`.",
    ),
]

DataOption = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="The backend's data folder; made when it does not exist."),
]
SECRET_VARIABLE = "CVX_INSTANCE_SECRET"
"""The instance secret of containers and of `cvx dev`; a command line would show it to every user."""


@command(
    app,
    "serve",
    examples=[
        "cvx backend serve --port 3210 --site-port 3211 --data /var/lib/cvx",
        "cvx backend serve --host 0.0.0.0 --port 80 --site-port 81 --data ./data --instance-name shop",
        "cvx backend serve --data ./data --one-port --log-format json --log-functions",
        "cvx backend serve --data ./data --limit documents_read_max=64_000 --limit read_bytes_max=32MiB",
    ],
)
def serve(
    context: CommandContext,
    data: DataOption,
    port: Annotated[int, typer.Option("--port", help="Port of the API.", min=0, max=65535)] = 3210,
    site_port: Annotated[
        int, typer.Option("--site-port", help="Port of HTTP actions.", min=0, max=65535)
    ] = 3211,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    instance_name: Annotated[
        str | None,
        typer.Option("--instance-name", metavar="NAME", help="The deployment's name, set on first use."),
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact-errors", help="Hide error texts from clients, as in production.")
    ] = False,
    dev_issuer: Annotated[
        bool,
        typer.Option(
            "--dev-issuer", help="Issue and believe tokens of `cvx auth token`: for development only."
        ),
    ] = False,
    node_modules: Annotated[
        Path | None,
        typer.Option(
            "--node-modules",
            metavar="DIR",
            help='The project\'s node_modules, for external packages of "use node" actions.',
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option("--origin", metavar="URL", help="The API's public address, behind a proxy."),
    ] = None,
    site_origin: Annotated[
        str | None,
        typer.Option("--site-origin", metavar="URL", help="The public address of HTTP actions, likewise."),
    ] = None,
    one_port: Annotated[
        bool, typer.Option("--one-port", help="Serve HTTP actions on --port as well; no site port.")
    ] = False,
    log_format: Annotated[
        str,
        typer.Option("--log-format", metavar="FORMAT", help="text, or json: one object a line on stderr."),
    ] = "text",
    log_functions: Annotated[
        bool,
        typer.Option("--log-functions", help="Write every finished call and its console lines to the log."),
    ] = False,
    native_packages: Annotated[
        bool,
        typer.Option(
            "--native-packages",
            help="Let external packages load native code (sharp, canvas): nothing confines it.",
        ),
    ] = False,
    limit: LimitOption = None,
) -> None:
    """Run the backend in the foreground.

    SIGTERM or Ctrl-C stops it cleanly. GET /api/health says whether commits reach the disk.
    """
    from cvx.backend.auth import load_instance
    from cvx.backend.backend import serve_backend
    from cvx.backend.config import BackendConfig
    from cvx.backend.limits import limits_with

    # Before anything is made on disk.
    checked_format: Literal["text", "json"] = one_of("--log-format", log_format, ("text", "json"))
    limits = limits_with(_overrides(context, limit))
    instance = load_instance(data, name=instance_name, secret=os.environ.pop(SECRET_VARIABLE, None))
    config = BackendConfig(
        data_dir=data,
        instance_name=instance.name,
        instance_secret=instance.secret,
        host=host,
        port=port,
        site_port=site_port,
        origin=_origin("--origin", origin),
        site_origin=_origin("--site-origin", site_origin),
        one_port=one_port,
        log_functions=log_functions,
        log_format=checked_format,
        redact_logs=redact,
        dev_issuer=dev_issuer,
        node_modules=node_modules,
        native_packages=native_packages,
        limits=limits,
    )
    output = context.output

    def ready(url: str, site_url: str) -> None:
        output.done(f"Backend {instance.name} is ready on {url} (HTTP actions: {site_url})")
        if output.json_mode:
            output.item({"event": "ready", "url": url, "siteUrl": site_url, "instance": instance.name})

    serve_backend(config, ready)


def _origin(option: str, url: str | None) -> str | None:
    """A URL without its last slash. Raises `UsageError` for what is none."""
    if url is None:
        return None
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or parts.path not in ("", "/")
        or parts.query
    ):
        raise CvxError(
            "UsageError",
            f"{option} {url!r} is not an origin.",
            hint=f"Pass scheme and host alone: {option} https://api.example.com",
        )
    return url.rstrip("/")


@command(
    app,
    "limits",
    examples=["cvx backend limits", "cvx backend limits documents_read_max", "cvx backend limits --json"],
)
def limits(
    context: CommandContext,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]")] = None,
    limit: LimitOption = None,
) -> None:
    """Show every limit: what a backend started here would keep, its unit, and where it is set.

    To change one, write it under [backend.limits] in cvx.toml, or pass --limit to `cvx backend serve`.
    """
    from cvx.backend.limits import described, known

    for name in names or ():
        known(name)
    found = [info for info in described(_overrides(context, limit)) if not names or info.name in names]
    context.output.result(
        {"limits": [info.to_json() for info in found]}, lambda: _limit_tables(context, found)
    )


@command(
    app,
    "key",
    examples=[
        "cvx backend key --data /var/lib/cvx",
        "export CONVEX_SELF_HOSTED_ADMIN_KEY=$(cvx backend key)",
    ],
)
def key(
    context: CommandContext,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The data folder (default: the local deployment's)."),
    ] = None,
    instance_name: Annotated[
        str | None,
        typer.Option("--instance-name", metavar="NAME", help="The deployment's name, set on first use."),
    ] = None,
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate", help="Make a new secret: every earlier key stops working at the next start."
        ),
    ] = False,
) -> None:
    """Print the admin key, alone."""
    from cvx.backend.auth import load_instance

    folder = data if data is not None else _local_data_dir(context)
    if not folder.is_dir() and instance_name is None:  # Whoever names the instance means a new one.
        raise CvxError(
            "DataFolderNotFound",
            f"There is no data folder {folder}.",
            kind="not_found",
            hint="Check --data; for a key before the first start, pass --instance-name NAME too.",
        )
    instance = load_instance(folder, name=instance_name, rotate_key=rotate)
    context.output.result({"adminKey": instance.admin_key, "instance": instance.name}, instance.admin_key)


@command(app, "status", examples=["cvx backend status", "cvx backend status --json"])
def status(context: CommandContext) -> None:
    """List this project's backends: state, process, address."""
    from cvx.toolchain.project import list_local

    found = []
    for state in list_local(context.project):
        config, running = state.load(), state.running()
        found.append(
            {
                "name": state.name,
                "running": running is not None,
                "pid": running.pid if running else None,
                "url": config.url if config else None,
                "siteUrl": config.site_url if config else None,
                "data": str(state.data_dir),
            }
        )
    rows = [
        (str(f["name"]), "running" if f["running"] else "stopped", str(f["pid"] or ""), str(f["url"] or ""))
        for f in found
    ]
    if not rows:
        context.output.say("No local deployment here yet. `cvx dev` makes one.")
    context.output.result(
        {"backends": found},
        lambda: context.output.table(("deployment", "state", "pid", "url"), rows) if rows else "",
    )


@command(app, "stop", examples=["cvx backend stop", "cvx backend stop --name staging"])
def stop(
    context: CommandContext,
    name: Annotated[str, typer.Option("--name", help="The local deployment.")] = "default",
) -> None:
    """Stop the backend of a local deployment."""
    from cvx.toolchain.dev import stop_backend
    from cvx.toolchain.project import local_state

    stopped = stop_backend(local_state(context.project, name))
    context.output.say(f"Stopped (pid {stopped})." if stopped else "No backend runs here.")
    context.output.result({"stopped": stopped is not None, "pid": stopped})


def _overrides(context: CommandContext, settings: list[str] | None) -> list[Override]:
    """Limits that cvx.toml sets, then those of the command line, which win."""
    from cvx.toolchain.project import backend_limits

    overrides: list[Override] = [
        (name, value, "cvx.toml") for name, value in backend_limits(context.project_or_bare()).items()
    ]
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise CvxError(
                "UsageError", f"--limit takes NAME=VALUE, not {setting!r}.",
                hint="For example: --limit documents_read_max=64000",
            )  # fmt: skip
        overrides.append((name.strip(), value, "--limit"))
    return overrides


def _limit_tables(context: CommandContext, found: list[LimitInfo]) -> str:
    from cvx.backend.limits import shown

    groups: dict[str, list[LimitInfo]] = {}
    for info in found:
        groups.setdefault(info.group, []).append(info)
    blocks = []
    for group_name, infos in groups.items():
        rows = []
        for info in infos:
            set_by = (
                info.origin
                if info.is_default
                else f"{info.origin} (default {shown(info.default, info.unit)})"
            )
            rows.append((info.name, shown(info.value, info.unit), set_by, info.documented or ""))
        blocks.append(
            f"{group_name}\n{context.output.table(('limit', 'value', 'set by', 'documented'), rows)}"
        )
    return "\n\n".join(blocks)


def _local_data_dir(context: CommandContext) -> Path:
    from cvx.toolchain.project import local_state, selected_name

    state = local_state(context.project, selected_name(context.project) or "default")
    if not state.exists():
        raise CvxError(
            "DeploymentNotCreated",
            f"There is no local deployment in {context.project.root} yet.",
            kind="not_found",
            hint="Pass --data DIR, or run `cvx dev` once.",
        )
    return state.data_dir
