"""A push from the pusher's side: start, follow the schema, finish.

`Pusher` belongs to one deployment and remembers which modules it has, so a second push carries only the
modules that changed. The answer of `start_push` goes into `finish_push` byte for byte.

Rule: nothing becomes visible on the deployment before `finish_push` has answered; every failure leaves as a
CvxError whose `retry_when` says what has to change before trying again can help.

Source: reference/cli-and-deploy.md §1.7, §2.6–2.10.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cvx.errors import CvxError
from cvx.protocol.push import (
    AppDefinition,
    AuthDiff,
    ComponentDefinition,
    ComponentDiff,
    FinishPushResponse,
    GetConfigHashesRequest,
    GetConfigHashesResponse,
    IndexDiff,
    ModuleHash,
    NodeDependency,
    PushedModule,
    SchemaChange,
    SchemaComplete,
    SchemaFailed,
    SchemaInProgress,
    SchemaRaceDetected,
    SchemaStatus,
    StartPushRequest,
)
from cvx.toolchain.client.http import DeploymentClient

SERVER_VERSION = "1.48.0"
"""`udfServerVersion`: the npm `convex` whose bundles we imitate, unless the project has another."""
SCHEMA_WAIT_MS = 500
"""How long one question after the indexes waits: so often people see how many are ready."""
_HASH_CONFLICTS = frozenset(
    {
        "MissingExistingModule",
        "MissingExistingModuleMetadata",
        "ExistingModuleHashConflict",
        "ExistingModuleEnvConflict",
    }
)
_ENV_IN_AUTH = re.compile(r"Environment variable (\S+)", re.IGNORECASE)
_ENV_MISSING = re.compile(r"are not set: ([^.]+)\.")


@dataclass(frozen=True)
class HashedModule:
    """A module with the hash the deployment keeps of it (hex)."""

    module: PushedModule
    sha256: str


@dataclass(frozen=True)
class PushedCode:
    """Everything a push carries, before it is known which of it the deployment has already."""

    functions: str
    definition: PushedModule
    modules: tuple[HashedModule, ...]
    schema: PushedModule | None = None
    dependencies: tuple[str, ...] = ()
    components: tuple[ComponentDefinition, ...] = ()
    node_dependencies: tuple[NodeDependency, ...] = ()
    node_version: str | None = None
    server_version: str = SERVER_VERSION


Analysis = dict[str, dict[str, Any]]
"""Definition path → EvaluatedDefinition, as JSON: code generation reads it, nothing else looks inside."""


@dataclass(frozen=True)
class PushOutcome:
    """What a push changed. `analysis` is keyed by definition path, "" for the app."""

    analysis: Analysis
    index_diff: IndexDiff
    component_diffs: dict[str, ComponentDiff] = field(default_factory=dict)
    modules_sent: int = 0
    auth_diff: AuthDiff = field(default_factory=AuthDiff)


@dataclass(frozen=True)
class DroppedIndex:
    """An index that a push would drop, of a table with so many documents: building it again takes that much time."""

    name: str
    documents: int
    component: str = ""


class _EvaluatedSchema(msgspec.Struct, rename="camel"):
    indexes: list[dict[str, Any]] = []


class _Evaluation(msgspec.Struct, rename="camel"):
    component_schema_evaluations: dict[str, _EvaluatedSchema] = {}


class _Started(msgspec.Struct, rename="camel"):
    """The parts of start_push's answer that we look at; all of it is sent back."""

    analysis: dict[str, dict[str, Any]]
    schema_change: SchemaChange


_started_decoder = msgspec.json.Decoder(_Started)
_status_decoder: msgspec.json.Decoder[SchemaStatus] = msgspec.json.Decoder(SchemaStatus)


class Pusher:
    """Pushes to one deployment, again and again."""

    def __init__(self, client: DeploymentClient) -> None:
        self._client = client
        self._known: dict[str, tuple[str, str]] | None = None

    def forget(self) -> None:
        """The deployment may have changed behind our back: ask it what it has before the next push."""
        self._known = None

    async def push(
        self,
        code: PushedCode,
        *,
        dry_run: bool = False,
        message: str | None = None,
        on_analysis: Callable[[Analysis], Awaitable[None]] | None = None,
        on_progress: Callable[[SchemaInProgress], None] | None = None,
    ) -> PushOutcome:
        """Push `code`. `on_analysis` runs when the deployment has understood it and before it is activated;
        an exception from it stops the push."""
        if self._known is None:
            self._known = await self._deployed()
        try:
            raw, sent = await self._start(code, dry_run)
        except CvxError as error:
            if error.code not in _HASH_CONFLICTS:
                self._known = None
                raise _explained(error) from error
            self._known = {}
            raw, sent = await self._start(code, dry_run)
        try:
            started = _started_decoder.decode(raw)
        except msgspec.MsgspecError as error:
            raise CvxError(
                "UnexpectedAnswer",
                f"start_push answered something else than expected: {error}",
                kind="internal",
                hint=f"Is {self._client.deployment.url} really a Convex deployment?",
            ) from error
        if on_analysis is not None:
            await on_analysis(started.analysis)
        await self._follow_schema(started.schema_change, dry_run, on_progress)
        finished = await self._finish(raw, dry_run, message)
        if not dry_run:
            self._known = {m.module.path: (m.module.environment, m.sha256) for m in code.modules}
        root = finished.component_diffs.get("")
        diff = started.schema_change.index_diffs.get("") or (root.index_diff if root else IndexDiff())
        return PushOutcome(started.analysis, diff, finished.component_diffs, sent, finished.auth_diff)

    async def dropped_indexes(self, code: PushedCode) -> list[DroppedIndex]:
        """The indexes that pushing `code` would drop; none when the deployment cannot tell (§1.8)."""
        request = self._request(code, dry_run=True, known={})[0]
        try:
            raw = await self._client.post_push("/api/deploy2/evaluate_schema", request)
        except CvxError as error:
            if error.details.get("status") == 404:
                return []
            raise _explained(error) from error
        found = msgspec.json.decode(raw, type=_Evaluation).component_schema_evaluations
        return [
            DroppedIndex(str(index["name"]), int(index.get("numDocs", 0)), component)
            for component, evaluated in found.items()
            for index in evaluated.indexes
            if index.get("change") == "dropped"
        ]

    async def analyze(self, code: PushedCode) -> Analysis:
        """What the deployment makes of the code, changing nothing (for code generation)."""
        raw, _ = await self._start(code, dry_run=True, for_codegen=True)
        return _started_decoder.decode(raw).analysis

    async def _deployed(self) -> dict[str, tuple[str, str]]:
        body = GetConfigHashesRequest(admin_key=self._client.deployment.admin_key, version=SERVER_VERSION)
        answer = msgspec.json.decode(
            await self._client.post("/api/get_config_hashes", body), type=GetConfigHashesResponse
        )
        return {module.path: (module.environment, module.hash) for module in answer.module_hashes}

    async def _start(
        self, code: PushedCode, dry_run: bool, *, for_codegen: bool = False
    ) -> tuple[bytes, int]:
        request, sent = self._request(code, dry_run=dry_run, known=self._known or {}, for_codegen=for_codegen)
        return await self._client.post_push("/api/deploy2/start_push", request), sent

    def _request(
        self,
        code: PushedCode,
        *,
        dry_run: bool,
        known: dict[str, tuple[str, str]],
        for_codegen: bool = False,
    ) -> tuple[StartPushRequest, int]:
        """The body of a push that leaves out the `known` modules, and how many it carries."""
        changed, unchanged = _partition(code.modules, known)
        request = StartPushRequest(
            admin_key=self._client.deployment.admin_key,
            app_definition=AppDefinition(
                definition=code.definition,
                dependencies=list(code.dependencies),
                schema=code.schema,
                changed_modules=changed,
                unchanged_module_hashes=unchanged,
                udf_server_version=code.server_version,
            ),
            functions=code.functions,
            dry_run=dry_run,
            component_definitions=list(code.components),
            node_dependencies=list(code.node_dependencies),
            node_version=code.node_version,
            for_codegen=for_codegen,
        )
        return request, len(changed)

    async def _follow_schema(
        self, change: SchemaChange, dry_run: bool, on_progress: Callable[[SchemaInProgress], None] | None
    ) -> None:
        body = {
            "adminKey": self._client.deployment.admin_key,
            "schemaChange": change,
            "timeoutMs": SCHEMA_WAIT_MS,
            "dryRun": dry_run,
        }
        while True:
            status = _status_decoder.decode(await self._client.post("/api/deploy2/wait_for_schema", body))
            if isinstance(status, SchemaComplete):
                return
            if isinstance(status, SchemaFailed):
                raise _schema_failed(status)
            if isinstance(status, SchemaRaceDetected):
                self._known = None
                raise CvxError(
                    "RaceDetected",
                    "The schema was overwritten by another push while this one was under way.",
                    kind="conflict",
                    hint="Is another `cvx dev` or `npx convex dev` pushing to the same deployment? Stop one.",
                    retry_when="time",
                )
            if on_progress is not None:
                on_progress(status)

    async def _finish(self, started: bytes, dry_run: bool, message: str | None) -> FinishPushResponse:
        body = {
            "adminKey": self._client.deployment.admin_key,
            "startPush": msgspec.Raw(started),
            "dryRun": dry_run,
            "message": message,
        }
        try:
            raw = await self._client.post_push("/api/deploy2/finish_push", body)
        except CvxError as error:
            self._known = None
            raise _explained(error) from error
        return msgspec.json.decode(raw, type=FinishPushResponse)


def _partition(
    modules: Iterable[HashedModule], known: dict[str, tuple[str, str]]
) -> tuple[list[PushedModule], list[ModuleHash]]:
    changed: list[PushedModule] = []
    unchanged: list[ModuleHash] = []
    for hashed in modules:
        module = hashed.module
        if known.get(module.path) == (module.environment, hashed.sha256):
            unchanged.append(
                ModuleHash(path=module.path, environment=module.environment, sha256=hashed.sha256)
            )
        else:
            changed.append(module)
    return changed, unchanged


def _schema_failed(status: SchemaFailed) -> CvxError:
    where = f" in component {status.component_path!r}" if status.component_path else ""
    table = status.table_name
    return CvxError(
        "SchemaFailed",
        f"The data does not match the new schema{where}.\n{status.error.strip()}",
        hint=f"Loosen the schema, or correct the rows: cvx data show {table}"
        if table
        else "Loosen the schema, or correct the data.",
        retry_when="data",
        details={"table": table, "component": status.component_path, "status": 400},
    )


def _explained(error: CvxError) -> CvxError:
    """The deployment's refusal of a push, with what would have to change and what to do about it."""
    hint, retry = error.hint, error.retry_when
    if error.code == "AuthConfigMissingEnvironmentVariable":
        name = _ENV_IN_AUTH.search(error.message)
        hint, retry = f"cvx env set {name.group(1) if name else 'NAME'} VALUE", "env"
    elif error.code == "MissingEnvironmentVariables":
        names = _ENV_MISSING.search(error.message)
        listed = names.group(1).split(", ") if names else ["NAME"]
        hint, retry = "cvx env set " + " ".join(f"{name}=VALUE" for name in listed), "env"
    elif error.code in ("RaceDetected", "ConcurrentPush"):
        hint, retry = "Another push to this deployment was under way; try again.", "time"
    elif error.kind == "bad_request":
        hint, retry = hint or "Correct the code; the message names the place.", "files"
    return CvxError(
        error.code,
        error.message.removeprefix("Hit an error while pushing:\n"),
        kind=error.kind,
        hint=hint,
        retry_when=retry,
        details=error.details,
    )
