"""Which component instances run at a snapshot, worked out once for all calls.

Source: reference/cli-and-deploy.md §7.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cvx.backend.database import ReadSet, Transaction
from cvx.backend.functions.derived import index_id
from cvx.backend.model import components
from cvx.backend.model.components import Instance
from cvx.errors import CvxError


@dataclass(frozen=True)
class ComponentTree:
    """The active instances by path, the app under ""."""

    active: Mapping[str, Instance]
    index_id: int
    """Of `_components.by_path`."""

    def depend_on(self, reads: ReadSet, path: str) -> None:
        """Note in `reads` that a result comes from what is mounted at this path (or from nothing being there)."""
        reads.add(self.index_id, components.path_range(path))

    def require(self, path: str) -> Instance:
        """The instance at a path. Raises CvxError "ComponentPathNotFound"."""
        found = self.active.get(path)
        if found is None:
            raise CvxError(
                "ComponentPathNotFound", f"There is no component '{path}'.", kind="bad_request",
                hint="Install it in convex/convex.config.ts and push.", retry_when="files",
            )  # fmt: skip
        return found

    def by_id(self, id: str) -> Instance:
        """The instance that a client names by its id. Raises CvxError "ComponentNotFound"."""
        found = next((each for each in self.active.values() if each.id == id), None)
        if found is None:
            raise CvxError("ComponentNotFound", f"There is no component '{id[:64]}'.", kind="not_found")
        return found


def load_components(tx: Transaction) -> ComponentTree:
    """The tree as this transaction sees it."""
    found = {path: each for path, each in components.instances(tx).items() if each.state == "active"}
    return ComponentTree(found, index_id(tx.snapshot, components.COMPONENTS, components.BY_PATH))


def child_path(component: str, name: str) -> str:
    """The path of an instance that code of `component` knows by its name."""
    return f"{component}/{name}" if component else name
