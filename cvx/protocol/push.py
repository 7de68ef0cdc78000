"""The bodies of a push: get_config_hashes, start_push, evaluate_push, wait_for_schema, finish_push.

The official CLI takes the answer of start_push and sends it back inside finish_push, with its keys in any
order; so answers are structs that can be read again. Unknown keys are ignored everywhere.

Rule: what clients declare optional is left out rather than null (UNSET), what they declare nullable is null.

Source: reference/cli-and-deploy.md §2.6–2.9.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType, field

ModuleEnvironment = Literal["isolate", "node"]
ComponentPath: TypeAlias = str
"""Slash-joined names of mounts; "" is the app."""
DefinitionPath: TypeAlias = str
"""Folder of a component relative to the app's functions; "" is the app."""


class _Camel(Struct, rename="camel", frozen=True, kw_only=True):
    """Base of everything here: camelCase keys on the wire."""


# ------------------------------------------------------------------------------------------ get_config_hashes


class GetConfigHashesRequest(_Camel, frozen=True, kw_only=True):
    admin_key: str
    version: str = ""


class ConfigModuleHash(_Camel, frozen=True, kw_only=True):
    path: str
    hash: str
    environment: ModuleEnvironment


class ProjectConfig(_Camel, frozen=True, kw_only=True):
    functions: str


class GetConfigHashesResponse(_Camel, frozen=True, kw_only=True):
    """What is deployed now, so that the CLI sends only what differs."""

    config: ProjectConfig
    module_hashes: list[ConfigModuleHash]
    udf_server_version: str | None = None
    node_version: str | None = None


# -------------------------------------------------------------------------------- start_push and evaluate_push


class PushedModule(_Camel, frozen=True, kw_only=True):
    path: str
    source: str
    environment: ModuleEnvironment
    source_map: str | None = None


class ModuleHash(_Camel, frozen=True, kw_only=True):
    """A module the server has already: `sha256` is in hexadecimal."""

    path: str
    environment: ModuleEnvironment
    sha256: str


class AppDefinition(_Camel, frozen=True, kw_only=True):
    """The app's own modules. Old CLIs call `changedModules` `functions`: read `modules`."""

    udf_server_version: str
    definition: PushedModule | None = None
    dependencies: list[DefinitionPath] = []
    schema: PushedModule | None = None
    changed_modules: list[PushedModule] | None = None
    functions: list[PushedModule] | None = None
    unchanged_module_hashes: list[ModuleHash] = []

    @property
    def modules(self) -> list[PushedModule]:
        """The modules that came with their source."""
        return self.changed_modules or self.functions or []


class ComponentDefinition(_Camel, frozen=True, kw_only=True):
    """One component's folder; listed once however often it is mounted."""

    definition_path: DefinitionPath
    definition: PushedModule
    udf_server_version: str
    dependencies: list[DefinitionPath] = []
    schema: PushedModule | None = None
    functions: list[PushedModule] = []


class NodeDependency(_Camel, frozen=True, kw_only=True):
    name: str
    version: str


class StartPushRequest(_Camel, frozen=True, kw_only=True):
    """Body of start_push, evaluate_push and evaluate_schema. `functions` is the folder's name."""

    admin_key: str
    app_definition: AppDefinition
    functions: str = "convex/"
    dry_run: bool = False
    component_definitions: list[ComponentDefinition] = []
    node_dependencies: list[NodeDependency] = []
    node_version: str | None = None
    for_codegen: bool = False


class AuthProvider(_Camel, frozen=True, kw_only=True, omit_defaults=True):
    """An identity provider: OIDC (`domain`), or with `type` "customJwt" (`issuer`, `jwks`, `algorithm`)."""

    application_id: str | UnsetType | None = field(name="applicationID", default=UNSET)
    domain: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    issuer: str | UnsetType = UNSET
    jwks: str | UnsetType = UNSET
    algorithm: str | UnsetType = UNSET


class SourcePositionJson(Struct, frozen=True):
    """Where a function is written; 1-based."""

    path: str
    start_lineno: int
    start_col: int


class VisibilityJson(_Camel, frozen=True, kw_only=True):
    kind: Literal["public", "internal"]


class AnalyzedFunctionJson(_Camel, frozen=True, kw_only=True):
    """`args` and `returns` are validator JSON as text, None when not declared."""

    name: str
    udf_type: Literal["Query", "Mutation", "Action"]
    visibility: VisibilityJson | None = None
    args: str | None = None
    returns: str | None = None
    pos: SourcePositionJson | None = None


class RouteJson(_Camel, frozen=True, kw_only=True):
    path: str
    method: str


class AnalyzedRouteJson(_Camel, frozen=True, kw_only=True):
    route: RouteJson
    pos: SourcePositionJson | None = None


class _Schedule(Struct, frozen=True, tag_field="type", kw_only=True):
    """Base of the schedules: the tag is `type`. Hours and minutes are UTC."""


class IntervalSchedule(_Schedule, frozen=True, kw_only=True, tag="interval"):
    seconds: int


class HourlySchedule(_Schedule, frozen=True, kw_only=True, tag="hourly"):
    minute: int = field(name="minuteUTC")


class DailySchedule(_Schedule, frozen=True, kw_only=True, tag="daily"):
    hour: int = field(name="hourUTC")
    minute: int = field(name="minuteUTC")


class WeeklySchedule(_Schedule, frozen=True, kw_only=True, tag="weekly"):
    """`day_of_week` 0 is Sunday."""

    day_of_week: int = field(name="dayOfWeek")
    hour: int = field(name="hourUTC")
    minute: int = field(name="minuteUTC")


class MonthlySchedule(_Schedule, frozen=True, kw_only=True, tag="monthly"):
    day: int
    hour: int = field(name="hourUTC")
    minute: int = field(name="minuteUTC")


class CronSchedule(_Schedule, frozen=True, kw_only=True, tag="cron"):
    expression: str = field(name="cronExpr")


Schedule: TypeAlias = (
    IntervalSchedule | HourlySchedule | DailySchedule | WeeklySchedule | MonthlySchedule | CronSchedule
)


class CronSpecJson(_Camel, frozen=True, kw_only=True):
    """`udf_args` is Convex JSON: the array of arguments, encoded."""

    udf_path: str
    udf_args: Any
    cron_schedule: Schedule


class NamedCronSpecJson(_Camel, frozen=True, kw_only=True):
    identifier: str
    spec: CronSpecJson


class AnalyzedModuleJson(_Camel, frozen=True, kw_only=True):
    functions: list[AnalyzedFunctionJson]
    http_routes: list[AnalyzedRouteJson] | None = None
    cron_specs: list[NamedCronSpecJson] | None = None
    source_mapped: Any = None


class UdfConfigJson(_Camel, frozen=True, kw_only=True):
    """The seed (`$bytes`) and time (`$integer`, ns) that modules were imported with."""

    server_version: str
    import_phase_rng_seed: Any
    import_phase_unix_timestamp: Any


class ComponentInstantiation(_Camel, frozen=True, kw_only=True):
    """A `use(…)` in a definition. `env` pairs a name with its binding."""

    name: str
    path: DefinitionPath
    args: list[tuple[str, Any]] | None = None
    env: list[tuple[str, Any]] | None = None


class DefinitionMetadata(_Camel, frozen=True, kw_only=True):
    """What a convex.config.js exports, plus the path. `exports` is a tree of branches and leaves."""

    path: DefinitionPath
    definition_type: dict[str, Any]
    child_components: list[ComponentInstantiation] = []
    http_mounts: dict[str, str] = {}
    http_prefix: str | None = None
    exports: dict[str, Any]
    env_vars: list[tuple[str, Any]] | None = None


class EvaluatedDefinition(_Camel, frozen=True, kw_only=True):
    """One definition after evaluation. `schema` is schema JSON with `_creationTime` at the end of indexes."""

    definition: DefinitionMetadata
    functions: dict[str, AnalyzedModuleJson]
    udf_config: UdfConfigJson
    schema: dict[str, Any] | None = None


class CheckedHttpRoutes(_Camel, frozen=True, kw_only=True):
    http_module_routes: list[RouteJson] | None = None
    mounts: list[str] = []


class CheckedComponent(_Camel, frozen=True, kw_only=True):
    """One mount of a component in the tree, the app at its root."""

    definition_path: DefinitionPath
    component_path: ComponentPath
    http_prefix: str | None = None
    args: dict[str, Any] = {}
    env: dict[str, Any] = {}
    child_components: dict[str, CheckedComponent] = {}
    http_routes: CheckedHttpRoutes = CheckedHttpRoutes()
    exports: dict[str, Any] = {}


# ------------------------------------------------------------------------------------------------ index diffs


class _IndexDescription(_Camel, frozen=True, kw_only=True, tag_field="type"):
    """Base: `name` is `table.index`."""

    name: str
    staged: bool = False


class DatabaseIndexDescription(_IndexDescription, frozen=True, kw_only=True, tag="database"):
    """`fields` end with the `_creationTime` that the server appends."""

    fields: list[str]


class SearchIndexDescription(_IndexDescription, frozen=True, kw_only=True, tag="search"):
    search_field: str
    filter_fields: list[str] = []


class VectorIndexDescription(_IndexDescription, frozen=True, kw_only=True, tag="vector"):
    dimensions: int
    vector_field: str
    filter_fields: list[str] = []


IndexDescription: TypeAlias = DatabaseIndexDescription | SearchIndexDescription | VectorIndexDescription


class IndexDiff(Struct, frozen=True, kw_only=True):
    """Snake case on the wire, unlike all else. A changed index is removed and added; *enabled* is staged →
    live and *disabled* live → staged."""

    added_indexes: list[IndexDescription] = []
    removed_indexes: list[IndexDescription] = []
    enabled_indexes: list[IndexDescription] = []
    disabled_indexes: list[IndexDescription] = []


class SchemaChange(_Camel, frozen=True, kw_only=True):
    """What start_push prepared in the database, by component path. Ids are opaque to the CLI."""

    allocated_component_ids: dict[ComponentPath, str] = {}
    schema_ids: dict[ComponentPath, str | None] = {}
    index_diffs: dict[ComponentPath, IndexDiff] = {}


class StartPushResponse(_Camel, frozen=True, kw_only=True):
    """Everything finish_push needs, by way of the client. `environment_variables` is the whole map as it was."""

    environment_variables: dict[str, str]
    app_auth: list[AuthProvider]
    analysis: dict[DefinitionPath, EvaluatedDefinition]
    app: CheckedComponent
    schema_change: SchemaChange
    external_deps_id: str | None = None
    component_definition_packages: dict[DefinitionPath, Any] = {}


class EvaluatePushResponse(_Camel, frozen=True, kw_only=True):
    schema_change: SchemaChange


# -------------------------------------------------------------------------------------------- wait_for_schema


class WaitForSchemaRequest(_Camel, frozen=True, kw_only=True):
    admin_key: str
    schema_change: SchemaChange
    timeout_ms: float = 10_000
    dry_run: bool = False


class IndexProgress(_Camel, frozen=True, kw_only=True):
    """An index that is being built: documents looked at, of those in its table."""

    table: str
    index: str
    documents_done: int
    documents_total: int


class ComponentSchemaStatus(_Camel, frozen=True, kw_only=True, omit_defaults=True):
    """`building` and the documents of the check are cvx's own: how far what is not complete is, in documents."""

    schema_validation_complete: bool
    indexes_complete: int
    indexes_total: int
    building: list[IndexProgress] = []
    documents_checked: int = 0
    documents_to_check: int = 0


class SchemaInProgress(_Camel, frozen=True, kw_only=True, tag_field="type", tag="inProgress"):
    components: dict[ComponentPath, ComponentSchemaStatus]


class SchemaFailed(_Camel, frozen=True, kw_only=True, tag_field="type", tag="failed"):
    error: str
    component_path: ComponentPath
    table_name: str | None = None


class SchemaRaceDetected(_Camel, frozen=True, kw_only=True, tag_field="type", tag="raceDetected"):
    pass


class SchemaComplete(_Camel, frozen=True, kw_only=True, tag_field="type", tag="complete"):
    pass


SchemaStatus: TypeAlias = SchemaInProgress | SchemaFailed | SchemaRaceDetected | SchemaComplete


# ------------------------------------------------------------------------------------------------ finish_push


class FinishPushRequest(_Camel, frozen=True, kw_only=True):
    admin_key: str
    start_push: StartPushResponse
    dry_run: bool = False
    message: str | None = None


class AuthDiff(_Camel, frozen=True, kw_only=True):
    """Providers, each as a JSON text."""

    added: list[str] = []
    removed: list[str] = []


class ModuleDiff(_Camel, frozen=True, kw_only=True):
    added: list[str] = []
    removed: list[str] = []


class CronDiff(_Camel, frozen=True, kw_only=True):
    added: list[str] = []
    updated: list[str] = []
    deleted: list[str] = []


class UdfConfigDiff(Struct, frozen=True):
    previous_version: str
    next_version: str


class SchemaDiff(Struct, frozen=True):
    """Schema JSON as text; None where there is no schema."""

    previous_schema: str | None
    next_schema: str | None


class DiffType(_Camel, frozen=True, kw_only=True):
    type: Literal["create", "modify", "unmount", "remount"]


class ComponentDiff(_Camel, frozen=True, kw_only=True):
    diff_type: DiffType
    module_diff: ModuleDiff = ModuleDiff()
    udf_config_diff: UdfConfigDiff | None = None
    cron_diff: CronDiff = CronDiff()
    index_diff: IndexDiff = IndexDiff()
    schema_diff: SchemaDiff | None = None


class FinishPushResponse(_Camel, frozen=True, kw_only=True):
    auth_diff: AuthDiff = AuthDiff()
    definition_diffs: dict[DefinitionPath, Any] = {}
    component_diffs: dict[ComponentPath, ComponentDiff] = {}


class ReportPushCompletedRequest(_Camel, frozen=True, kw_only=True):
    """Spans of a finished push; nobody here looks at them."""

    admin_key: str
    spans: list[Any] = []
