"""The environment of a component's functions, worked out once for all calls at a snapshot.

The app sees every variable of the deployment. A component sees what it declares and its parent binds, besides the two
built-in ones: texts, or variables of its parent, whose values it follows.

A call gets all variables at once and reports which it read; only those become dependencies of its result, each
as the range where the variable's row is or would be. So setting a variable re-runs what read it, nothing else.

Source: reference/runtime-and-database.md §3.1, §5.2; cli-and-deploy.md §5.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cvx.backend.database import ROOT, ReadSet, Transaction
from cvx.backend.functions.derived import index_id
from cvx.backend.model import components, deployment, environment
from cvx.backend.model.deployment import DeploymentInfo
from cvx.values import KeyRange


@dataclass(frozen=True)
class EnvironmentSnapshot:
    """What `process.env` holds, and the clock and seed that module bodies see."""

    variables: Mapping[str, str]
    index_id: int
    """Of `_environment_variables.by_name`."""
    ranges: Mapping[str, KeyRange]
    urls: ReadSet
    """Where the canonical URLs were read: what a reader of a built-in variable depends on."""
    server_version: str | None
    import_phase_ms: float
    import_seed: bytes
    instances: ReadSet | None = None
    """Of a component: where the bindings were read."""
    bound: Mapping[str, str] = field(default_factory=dict)
    """Of a component: its variables that are variables of the deployment, and the names of those."""

    def depend_on(self, reads: ReadSet, names: Iterable[str]) -> None:
        """Note in `reads` that a result comes from these variables (or from their absence)."""
        for name in names:
            if name in environment.BUILT_IN_NAMES:
                reads.update(self.urls)
                continue
            source: str | None = name
            if self.instances is not None:
                reads.update(self.instances)
                source = self.bound.get(name)
            if source is not None:
                found = self.ranges.get(source)
                reads.add(self.index_id, environment.name_range(source) if found is None else found)


def load_environment(tx: Transaction, info: DeploymentInfo, component: str = ROOT) -> EnvironmentSnapshot:
    """The environment of a component as this transaction sees it."""
    instances, bound, values = None, dict[str, str](), dict[str, str]()
    if component:
        bound, values = _bindings(tx, component)
        instances = tx.reads.copy()
    urls = deployment.canonical_urls(tx, info)
    url_reads = tx.reads.copy()
    config = deployment.udf_config(tx)
    variables = environment.environment(tx)
    ranges = {name: environment.name_range(name) for name in variables}
    if component:
        variables = values | {
            name: variables[source] for name, source in bound.items() if source in variables
        }
    # Not overridable: a user variable of that name cannot be set.
    variables["CONVEX_CLOUD_URL"] = urls.cloud
    variables["CONVEX_SITE_URL"] = urls.site
    return EnvironmentSnapshot(
        variables=variables,
        index_id=index_id(tx.snapshot, environment.VARIABLES, environment.BY_NAME),
        ranges=ranges,
        urls=url_reads,
        server_version=config.server_version,
        import_phase_ms=config.import_phase_ms,
        import_seed=config.import_seed,
        instances=instances,
        bound=bound,
    )


def _bindings(tx: Transaction, component: str) -> tuple[dict[str, str], dict[str, str]]:
    """A component's variables: those that are the deployment's (by which name), and those that are texts."""
    parent, bound, values = "", dict[str, str](), dict[str, str]()
    names = component.split("/")
    for depth in range(1, len(names) + 1):
        path = "/".join(names[:depth])
        found = components.instance(tx, path)
        outer_bound, outer_values = bound, values
        bound, values = {}, {}
        for name, binding in (found.mount.bindings if found is not None else {}).items():
            if binding.value is not None:
                values[name] = binding.value
            elif binding.name is not None and (not parent or binding.name in outer_bound):
                bound[name] = outer_bound[binding.name] if parent else binding.name
            elif binding.name in outer_values:
                values[name] = outer_values[binding.name]
        parent = path
    return bound, values
