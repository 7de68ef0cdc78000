"""The environment of a deployment's functions, worked out once for all calls at a snapshot.

A call gets all variables at once and reports which it read; only those become dependencies of its result, each
as the range where the variable's row is or would be. So setting a variable re-runs what read it, nothing else.

Source: reference/runtime-and-database.md §3.1, §5.2; cli-and-deploy.md §5.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cvx.backend.database import ReadSet, Transaction
from cvx.backend.functions.derived import index_id
from cvx.backend.model import deployment, environment
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

    def depend_on(self, reads: ReadSet, names: Iterable[str]) -> None:
        """Note in `reads` that a result comes from these variables (or from their absence)."""
        for name in names:
            if name in environment.BUILT_IN_NAMES:
                reads.update(self.urls)
            else:
                found = self.ranges.get(name)
                reads.add(self.index_id, environment.name_range(name) if found is None else found)


def load_environment(tx: Transaction, info: DeploymentInfo) -> EnvironmentSnapshot:
    """The environment as this transaction sees it."""
    urls = deployment.canonical_urls(tx, info)
    url_reads = tx.reads.copy()
    config = deployment.udf_config(tx)
    variables = environment.environment(tx)
    ranges = {name: environment.name_range(name) for name in variables}
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
    )
