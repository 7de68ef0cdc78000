"""Which deployment a command talks to, and where each of the values that decided it came from.

Precedence, highest first (reference/cli-and-deploy.md §1.2–1.3, cli-contract.md "Commands"):

1. flags: `--url` with `--admin-key`; `--deployment NAME`; `--prod`; `--env-file FILE` (then that file is the
   only source of variables);
2. the process's environment;
3. `.env.local`;   4. `.env`;
5. the choice made with `cvx deployment select`;   6. `deployment = "NAME"` in `cvx.toml`;
7. the local deployment `default`.

In 2–4 an empty value counts as unset, and the official variables mean:

- `CONVEX_SELF_HOSTED_URL` with `CONVEX_SELF_HOSTED_ADMIN_KEY`: that deployment. One of them alone is an error
  (the official CLI quietly starts another deployment instead), and so is `CONVEX_DEPLOYMENT` beside them.
- `CONVEX_DEPLOY_KEY` (or `CONVEX_DEPLOYMENT_TOKEN`): an admin key. Its URL is `CONVEX_URL`, because only the
  hosted control plane can turn a key into a URL. Without a deploy key, `CONVEX_URL` selects nothing: `cvx dev`
  itself writes it, for the app.
- `CONVEX_DEPLOYMENT`: `local:NAME` and `anonymous:NAME` select local deployments; others live in the cloud,
  which cvx does not reach, and are refused rather than mistaken for something else.

Rule: pure apart from reading the project's files; nothing is created or contacted here.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from cvx.errors import CvxError
from cvx.toolchain.project.env_file import ENV_LOCAL, read_env_file
from cvx.toolchain.project.framework import SITE_URL_VARIABLES, URL_VARIABLES
from cvx.toolchain.project.local_state import DEFAULT_NAME, list_local, local_state, selected_name
from cvx.toolchain.project.project import Project

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DeploymentKind = Literal["local", "dev", "preview", "prod", "self-hosted"]

FROM_FLAG = "flag"
FROM_PROCESS = "process environment"
FROM_SELECTION = "cvx deployment select"
FROM_TOML = "cvx.toml"
FROM_DEFAULT = "default"

_DEPLOY_KEY_NAMES = ("CONVEX_DEPLOY_KEY", "CONVEX_DEPLOYMENT_TOKEN")
_SECRET_NAMES = frozenset({*_DEPLOY_KEY_NAMES, "CONVEX_SELF_HOSTED_ADMIN_KEY"})
_CHOOSING = frozenset(
    {
        *("--url", "--deployment", "--prod", "--env-file"),
        *("CONVEX_SELF_HOSTED_URL", *_DEPLOY_KEY_NAMES, "CONVEX_DEPLOYMENT"),
    }
)
"""Settings that choose a deployment by themselves, above any name further down."""
_VARIABLES = (
    "CONVEX_SELF_HOSTED_URL",
    "CONVEX_SELF_HOSTED_ADMIN_KEY",
    *_DEPLOY_KEY_NAMES,
    "CONVEX_DEPLOYMENT",
    *URL_VARIABLES,
    *SITE_URL_VARIABLES,
)


@dataclass(frozen=True)
class Deployment:
    """A place where functions run. `site_url` serves HTTP actions; None while nobody has told us."""

    name: str
    kind: DeploymentKind
    url: str
    admin_key: str
    site_url: str | None = None

    def __repr__(self) -> str:  # The key stays out of logs and tracebacks.
        return f"Deployment(name={self.name!r}, kind={self.kind!r}, url={self.url!r})"


@dataclass(frozen=True)
class DeploymentFlags:
    """The selection options of the command line, as typed."""

    deployment: str | None = None
    prod: bool = False
    url: str | None = None
    admin_key: str | None = None
    env_file: Path | None = None


@dataclass(frozen=True)
class Setting:
    """One value that can decide something, where it stands, and whether a higher place overrides it."""

    name: str
    value: str
    origin: str
    secret: bool = False
    overridden: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": "(hidden)" if self.secret else self.value,
            "origin": self.origin,
            "overridden": self.overridden,
        }


@dataclass(frozen=True)
class Selection:
    """The chosen deployment and why. `deployment` is None for a local one that is not set up yet."""

    name: str
    kind: DeploymentKind
    origin: str
    deployment: Deployment | None

    @property
    def is_local(self) -> bool:
        return self.kind == "local"

    def require(self) -> Deployment:
        """The deployment, or an error that says how to create it."""
        if self.deployment is None:
            raise CvxError(
                "DeploymentNotCreated",
                f"The local deployment {self.name!r} (chosen by {self.origin}) does not exist yet.",
                kind="not_found",
                hint="Run `cvx dev` to create it.",
                retry_when="files",
            )
        return self.deployment


class _TomlDeployment(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    admin_key_env: str | None = None
    site_url: str | None = None
    kind: Literal["dev", "preview", "prod", "self-hosted"] | None = None


class _TomlBackend(msgspec.Struct):
    limits: dict[str, int | float | str] = {}
    native_packages: bool = False


class _Toml(msgspec.Struct):
    deployment: str | None = None
    deployments: dict[str, _TomlDeployment] = {}
    backend: _TomlBackend = msgspec.field(default_factory=_TomlBackend)


@dataclass(frozen=True)
class _Source:
    """One place variables come from."""

    origin: str
    values: Mapping[str, str]

    def get(self, *names: str) -> str | None:
        return next((self.values[n] for n in names if self.values.get(n)), None)


def select_deployment(project: Project, flags: DeploymentFlags, environ: Mapping[str, str]) -> Selection:
    """The deployment these flags, this environment and the project's files choose.

    Raises CvxError: `InvalidSelection` for flags or variables that contradict each other,
    `DeploymentNotFound`, `DeploymentInCloud`, `AdminKeyMissing`.
    """
    _check_flags(flags)
    if flags.url and flags.admin_key:
        return _remote("self-hosted", "self-hosted", flags.url, flags.admin_key, "--url and --admin-key")
    sources = _sources(project, flags, environ)
    if flags.deployment:
        return _named(project, flags.deployment, "--deployment", sources)
    if flags.prod:
        return _production(project, sources)
    chosen = _from_variables(project, sources)
    if chosen is not None:
        return chosen
    if flags.env_file is not None:
        raise CvxError(
            "InvalidSelection",
            f"{flags.env_file} names no deployment.",
            hint="Put CONVEX_SELF_HOSTED_URL and CONVEX_SELF_HOSTED_ADMIN_KEY into it.",
            retry_when="files",
        )
    selected = selected_name(project)
    if selected:
        return _named(project, selected, FROM_SELECTION, sources)
    toml = _read_toml(project)
    if toml.deployment:
        return _named(project, toml.deployment, FROM_TOML, sources)
    return _local(project, DEFAULT_NAME, FROM_DEFAULT)


def settings_with_origin(
    project: Project, flags: DeploymentFlags, environ: Mapping[str, str]
) -> tuple[Setting, ...]:
    """Every value that takes part in the selection, highest precedence first, overridden ones included."""
    found: list[Setting] = []
    for name, value in (
        ("--url", flags.url),
        ("--admin-key", flags.admin_key),
        ("--deployment", flags.deployment),
        ("--prod", "true" if flags.prod else None),
        ("--env-file", str(flags.env_file) if flags.env_file else None),
    ):
        if value:
            found.append(Setting(name, value, FROM_FLAG, secret=name == "--admin-key"))
    seen: set[str] = set()
    for source in _sources(project, flags, environ):
        for name in _VARIABLES:
            value = source.get(name)
            if value:
                found.append(Setting(name, value, source.origin, name in _SECRET_NAMES, name in seen))
                seen.add(name)
    toml = _read_toml(project)
    chosen = any(setting.name in _CHOOSING for setting in found)
    for choice, origin in (
        (selected_name(project), FROM_SELECTION),
        (toml.deployment, FROM_TOML),
        (DEFAULT_NAME, FROM_DEFAULT),
    ):
        if choice:
            found.append(Setting("deployment", choice, origin, overridden=chosen))
            chosen = True
    config = project.config
    functions_origin = "convex.json" if config.path else FROM_DEFAULT
    return (*found, Setting("functions", config.functions, functions_origin))


def list_named(project: Project) -> tuple[tuple[str, DeploymentKind, str | None], ...]:
    """(name, kind, URL) of everything `--deployment NAME` can reach: local ones, then `cvx.toml`'s."""
    local: list[tuple[str, DeploymentKind, str | None]] = []
    for state in list_local(project):
        config = state.load()
        local.append((state.name, "local", config.url if config else None))
    remote = [(name, _toml_kind(name, d), d.url) for name, d in _read_toml(project).deployments.items()]
    return (*local, *remote)


def backend_limits(project: Project) -> dict[str, int | float | str]:
    """The limits that `cvx.toml` sets for local backends, under `[backend.limits]`: names and values as written."""
    return dict(_read_toml(project).backend.limits)


def native_packages(project: Project) -> bool:
    """Whether `cvx.toml` lets external packages load native code in local backends: `[backend] native_packages`."""
    return _read_toml(project).backend.native_packages


def _check_flags(flags: DeploymentFlags) -> None:
    if bool(flags.url) != bool(flags.admin_key):
        given, other = ("--url", "--admin-key") if flags.url else ("--admin-key", "--url")
        raise CvxError("InvalidSelection", f"{given} needs {other} beside it.", hint=f"Add {other}.")
    given_flags = [
        name
        for name, present in (
            ("--url", flags.url),
            ("--deployment", flags.deployment),
            ("--prod", flags.prod),
            ("--env-file", flags.env_file),
        )
        if present
    ]
    if len(given_flags) > 1:
        raise CvxError(
            "InvalidSelection",
            f"{' and '.join(given_flags)} each choose a deployment; give one of them.",
            hint=f"Remove {given_flags[-1]}.",
        )


def _sources(project: Project, flags: DeploymentFlags, environ: Mapping[str, str]) -> tuple[_Source, ...]:
    if flags.env_file is not None:
        path = flags.env_file
        if not path.is_file():
            raise CvxError(
                "EnvFileNotFound",
                f"--env-file: {path} does not exist.",
                kind="not_found",
                hint="Check the path.",
            )
        return (_Source(str(path), read_env_file(path)),)
    return (
        _Source(FROM_PROCESS, environ),
        _Source(ENV_LOCAL, read_env_file(project.root / ENV_LOCAL)),
        _Source(".env", read_env_file(project.root / ".env")),
    )


def _first(sources: tuple[_Source, ...], *names: str) -> tuple[str, str] | None:
    """(value, origin) of the first of `names` that is set, in the highest source that sets one."""
    for source in sources:
        value = source.get(*names)
        if value:
            return value, source.origin
    return None


def _from_variables(project: Project, sources: tuple[_Source, ...]) -> Selection | None:
    key = _first(sources, *_DEPLOY_KEY_NAMES)
    if key and key[0] != "<ignore_deploy_key>":
        return _from_deploy_key(*key, sources)
    url = _first(sources, "CONVEX_SELF_HOSTED_URL")
    admin_key = _first(sources, "CONVEX_SELF_HOSTED_ADMIN_KEY")
    deployment = _first(sources, "CONVEX_DEPLOYMENT")
    if deployment and (url or admin_key):
        origin = (url or admin_key or deployment)[1]
        raise CvxError(
            "InvalidSelection",
            f"CONVEX_DEPLOYMENT ({deployment[1]}) and CONVEX_SELF_HOSTED_… ({origin}) each choose a deployment.",
            hint=f"Remove CONVEX_DEPLOYMENT from {deployment[1]}.",
            retry_when="env",
        )
    if url and admin_key:
        return _remote("self-hosted", "self-hosted", url[0], admin_key[0], url[1])
    if url or admin_key:
        present, missing = (
            ("CONVEX_SELF_HOSTED_URL", "CONVEX_SELF_HOSTED_ADMIN_KEY")
            if url
            else ("CONVEX_SELF_HOSTED_ADMIN_KEY", "CONVEX_SELF_HOSTED_URL")
        )
        raise CvxError(
            "InvalidSelection",
            f"{present} is set in {(url or admin_key or ('', ''))[1]}, but {missing} is not set anywhere.",
            hint=f"Set {missing} too, or remove {present}.",
            retry_when="env",
        )
    return _from_convex_deployment(project, *deployment) if deployment else None


def _from_deploy_key(key: str, origin: str, sources: tuple[_Source, ...]) -> Selection:
    if key.startswith("<missing_deploy_key:"):
        raise CvxError("AdminKeyMissing", key[20:].rstrip(">"), kind="unauthenticated", retry_when="env")
    prefix, separator, _ = key.partition("|")
    words = prefix.split(":")
    kind: DeploymentKind = "preview" if words[0] == "preview" else "dev" if words[0] == "dev" else "prod"
    if separator and words[0] in ("preview", "project") and len(words) > 2:
        raise CvxError(
            "DeploymentInCloud",
            f"CONVEX_DEPLOY_KEY ({origin}) is a {words[0]} key, which only the hosted control plane understands.",
            kind="forbidden",
            hint="Use the deploy key of one deployment, with CONVEX_URL beside it.",
            retry_when="env",
        )
    url = _first(sources, "CONVEX_URL")
    if url is None:
        raise CvxError(
            "InvalidSelection",
            f"CONVEX_DEPLOY_KEY is set in {origin}, but nothing says which URL it belongs to.",
            hint="Set CONVEX_URL to the deployment's URL as well.",
            retry_when="env",
        )
    name = words[-1] if separator else "deploy-key"
    return _remote(name, kind, url[0], key, origin)


def _from_convex_deployment(project: Project, value: str, origin: str) -> Selection:
    kind, separator, name = value.partition("#")[0].strip().partition(":")
    if not separator:
        kind, name = ("anonymous" if kind.startswith("anonymous-") else "unknown"), kind
    if kind == "anonymous":
        return _local(project, DEFAULT_NAME, f"CONVEX_DEPLOYMENT in {origin}")
    if kind == "local":
        known = {state.name for state in list_local(project)}
        # The official CLI calls its one local deployment `local-team-project`: that is our default.
        chosen = name if name in known else DEFAULT_NAME
        return _local(project, chosen, f"CONVEX_DEPLOYMENT in {origin}")
    raise CvxError(
        "DeploymentInCloud",
        f"CONVEX_DEPLOYMENT in {origin} chooses {value!r}, a deployment in the cloud, which cvx does not reach.",
        kind="forbidden",
        hint=f"Remove CONVEX_DEPLOYMENT from {origin} to work locally, or pass --url and --admin-key.",
        retry_when="env",
    )


def _named(project: Project, name: str, origin: str, sources: tuple[_Source, ...]) -> Selection:
    toml = _read_toml(project)
    if name in toml.deployments:
        return _from_toml(name, toml.deployments[name], origin, sources)
    states = {state.name for state in list_local(project)}
    if name in states or name in ("local", DEFAULT_NAME):
        return _local(project, name if name in states else DEFAULT_NAME, origin)
    known = sorted({*states, *toml.deployments, DEFAULT_NAME})
    near = difflib.get_close_matches(name, known, n=1)
    create = f"Create it with `cvx deployment create {name}`, or add [deployments.{name}] to cvx.toml."
    raise CvxError(
        "DeploymentNotFound",
        f"{origin} names {name!r}, but there is no such deployment. Known: {', '.join(known)}.",
        kind="not_found",
        hint=f"Did you mean {near[0]}?" if near else create,
        retry_when="files",
        details={"name": name, "known": known},
    )


def _production(project: Project, sources: tuple[_Source, ...]) -> Selection:
    for name, deployment in _read_toml(project).deployments.items():
        if _toml_kind(name, deployment) == "prod":
            return _from_toml(name, deployment, "--prod", sources)
    raise CvxError(
        "DeploymentNotFound",
        "--prod needs a production deployment, and cvx.toml names none.",
        kind="not_found",
        hint='Add to cvx.toml: [deployments.prod] with url = "https://…" and admin_key_env = "NAME".',
        retry_when="files",
    )


def _from_toml(
    name: str, deployment: _TomlDeployment, origin: str, sources: tuple[_Source, ...]
) -> Selection:
    variable = deployment.admin_key_env or "CONVEX_SELF_HOSTED_ADMIN_KEY"
    key = _first(sources, variable)
    if key is None:
        raise CvxError(
            "AdminKeyMissing",
            f"The admin key of {name!r} is read from {variable}, which is not set.",
            kind="unauthenticated",
            hint=f"Set {variable} in the environment or in {ENV_LOCAL}.",
            retry_when="env",
        )
    kind = _toml_kind(name, deployment)
    return _remote(name, kind, deployment.url, key[0], origin, deployment.site_url)


def _toml_kind(name: str, deployment: _TomlDeployment) -> DeploymentKind:
    return deployment.kind or ("prod" if name in ("prod", "production") else "self-hosted")


def _local(project: Project, name: str, origin: str) -> Selection:
    config = local_state(project, name).load()
    if config is None or config.admin_key is None:
        return Selection(name, "local", origin, None)
    deployment = Deployment(name, "local", config.url, config.admin_key, config.site_url)
    return Selection(name, "local", origin, deployment)


def _remote(
    name: str, kind: DeploymentKind, url: str, admin_key: str, origin: str, site_url: str | None = None
) -> Selection:
    if not url.startswith(("http://", "https://")):
        raise CvxError(
            "InvalidSelection",
            f"{url!r} ({origin}) is not the URL of a deployment.",
            hint="It begins with http:// or https://.",
            retry_when="env",
        )
    deployment = Deployment(name, kind, url.rstrip("/"), admin_key, site_url)
    return Selection(name, kind, origin, deployment)


def _read_toml(project: Project) -> _Toml:
    path = project.root / "cvx.toml"
    try:
        with path.open("rb") as file:
            return msgspec.convert(tomllib.load(file), _Toml)
    except FileNotFoundError:
        return _Toml()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise CvxError(
            "InvalidCvxToml",
            f"cvx.toml: {error}",
            hint='A deployment looks like: [deployments.prod] url = "https://…", admin_key_env = "NAME".',
            retry_when="files",
        ) from error
