"""`cvx auth`: the variables that Convex Auth needs, and tokens for local development."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from cvx.cli.command import command, group
from cvx.cli.context import CommandContext
from cvx.errors import CvxError

app = group("Set up Convex Auth; make tokens for local development.")

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_duration = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.ASCII)


@command(
    app,
    "setup",
    talks=True,
    examples=[
        "cvx auth setup",
        "cvx auth setup --site-url https://app.example.com --prod",
        "cvx auth setup --force",
    ],
)
def setup(
    context: CommandContext,
    site_url: Annotated[
        str | None,
        typer.Option(
            "--site-url", metavar="URL", help="Where people open the app (default: the dev server's)."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make new keys although there are some: everybody is signed out.")
    ] = False,
) -> None:
    """Set the variables that @convex-dev/auth needs: JWT_PRIVATE_KEY, JWKS and SITE_URL.

    What is set already stays as it is, so running it again changes nothing.
    """
    from cvx.toolchain.client import plan_auth_setup

    default = _default_site_url(context)

    async def go(client: Any) -> Any:
        current = await client.environment()
        plan = plan_auth_setup(current, site_url=site_url, default_site_url=default, rotate=force)
        if plan.changes:
            await client.set_environment(plan.changes)
        return plan

    plan = context.with_client(go)
    changed = sorted(plan.changes)
    output = context.output
    if changed:
        shown = [f"SITE_URL={plan.changes[name]}" if name == "SITE_URL" else name for name in changed]
        output.done(f"Set {', '.join(shown)}.")
    if plan.kept:
        output.say(f"Kept {', '.join(plan.kept)}." + ("" if changed else " Nothing to do."))
    if "SITE_URL" not in changed and "SITE_URL" not in plan.kept:
        output.warn("SITE_URL is not set; sign-in by link and OAuth need it: pass --site-url URL.")
    missing = _missing_files(context)
    if missing:
        output.say(f"Still to be written: {', '.join(missing)} (see docs/guide/auth.md).")
    output.result({"set": changed, "kept": list(plan.kept), "missingFiles": missing})


@command(
    app,
    "token",
    talks=True,
    examples=[
        "cvx auth token --subject ann",
        "cvx auth token --subject ann --claim email=ann@example.com --claim admin=true --expires 1h",
        'curl -H "Authorization: Bearer $(cvx auth token --subject ann)" …',
    ],
)
def token(
    context: CommandContext,
    subject: Annotated[
        str, typer.Option("--subject", metavar="ID", help="Who the token is for: its claim `sub`.")
    ],
    claims: Annotated[
        list[str] | None,
        typer.Option("--claim", metavar="NAME=VALUE", help="One more claim; JSON, else text. Repeatable."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="How long it holds: 90s, 15m, 1h, 7d.")
    ] = "24h",
) -> None:
    """Print a token that the deployment believes, alone: for local development.

    A backend issues and believes such tokens only when it was told to: `cvx dev` does that for the local deployment,
    `cvx backend serve` with --dev-issuer.
    """
    import msgspec

    body = {"subject": subject, "claims": _claims(claims or []), "expiresInSeconds": _seconds(expires)}

    async def go(client: Any) -> bytes:
        try:
            answer: bytes = await client.post("/api/dev_issuer/token", body)
        except CvxError as error:
            if error.code == "DevIssuerDisabled":
                error.hint = (
                    "Start the backend with `cvx backend serve --dev-issuer`, or use the one of `cvx dev`."
                )
            elif error.code in ("NotFound", "Http404"):
                error.hint = "Only cvx's own backend issues such tokens."
            raise
        return answer

    answer = msgspec.json.decode(context.with_client(go))
    context.output.result(answer, answer["token"])


def _default_site_url(context: CommandContext) -> str | None:
    """The development server's address, for a deployment of this machine; elsewhere only the user knows."""
    from cvx.toolchain.project import detect_framework

    if not context.selection.is_local:
        return None
    project = context.project
    framework = detect_framework(project.package_json)
    if framework.name == "Expo":
        return None
    return framework.dev_server_url or "http://localhost:3000"


def _missing_files(context: CommandContext) -> list[str]:
    """The files Convex Auth lives in that the project does not have."""
    project = context.project_or_bare()
    folder: Path = project.functions_dir
    if not folder.is_dir():
        return []
    stems = ("auth.config", "auth", "http")
    return [
        f"{folder.name}/{stem}.ts"
        for stem in stems
        if not any((folder / f"{stem}{suffix}").is_file() for suffix in (".ts", ".js", ".tsx"))
    ]


def _claims(words: list[str]) -> dict[str, Any]:
    import msgspec

    claims: dict[str, Any] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise CvxError(
                "UsageError",
                f"--claim takes NAME=VALUE, not {word!r}.",
                hint="For example --claim role=admin.",
            )
        try:
            claims[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            claims[name] = value
    return claims


def _seconds(text: str) -> float:
    found = _duration.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found is not None else math.nan
    if not seconds >= 1:
        raise CvxError(
            "UsageError", f"--expires takes a time like 90s, 15m, 1h or 7d, not {text!r}.", hint="Pass 1h."
        )
    return seconds
