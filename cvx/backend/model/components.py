"""Component instances: where each definition is mounted, and how it is bound to its parent.

One row in `_components` for every mount that a push ever made, by its path ("a/b"; the app itself is ""). The path
is also what tables, modules, jobs, crons and files of an instance are stored under, so an instance that comes back
finds what it left.

States: `pending`, prepared by a push that has not finished; `active`; `unmounted`, no longer in the app: its data
stays, its code and crons are gone.

Rule: functions over a Transaction.

Source: reference/cli-and-deploy.md §7; design.md §5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cvx.backend.database import ROOT, Transaction, define_component_tables
from cvx.backend.model.tables import SYSTEM_TABLES
from cvx.values import KeyRange, Value, encode_key, prefix_range

COMPONENTS = "_components"
BY_PATH = "by_path"

State = Literal["pending", "active", "unmounted"]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a declared environment variable of a component is: a text, or (`name`) a variable of its parent."""

    value: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Mount:
    """An instance as a push wants it. `http_mounts`: prefix → name of the child mounted there, both ends with "/"."""

    path: str
    definition_path: str
    http_prefix: str | None = None
    http_mounts: Mapping[str, str] = field(default_factory=dict)
    bindings: Mapping[str, Binding] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Instance:
    """A stored mount. `id` is its public name; None for an app that was never pushed."""

    id: str | None
    state: State
    mount: Mount

    @property
    def path(self) -> str:
        return self.mount.path

    @property
    def name(self) -> str:
        return self.mount.path.rpartition("/")[2]


APP = Instance(None, "active", Mount(ROOT, ""))
"""The app before its first push."""


def instances(tx: Transaction) -> dict[str, Instance]:
    """All of them, in any state, by path; the app always."""
    found = [_instance(row) for row in tx.all(COMPONENTS, BY_PATH, privileged=True)]
    return {ROOT: APP} | {instance.path: instance for instance in found}


def instance(tx: Transaction, path: str) -> Instance | None:
    row = tx.first(COMPONENTS, BY_PATH, [path], privileged=True)
    return None if row is None else _instance(row)


def by_id(tx: Transaction, id: str) -> Instance | None:
    """The instance that a client names by its id."""
    return next((found for found in instances(tx).values() if found.id == id), None)


def path_range(path: str) -> KeyRange:
    """Where the row of this instance is, or would be, in `_components.by_path`."""
    return prefix_range(encode_key([path]))


def prepare(tx: Transaction, mount: Mount) -> str:
    """Make sure that there are a row, visible to no function if it is new, and the instance's system tables; its id."""
    if mount.path:
        define_component_tables(tx, SYSTEM_TABLES, mount.path)
    found = instance(tx, mount.path)
    if found is not None and found.id is not None:
        return found.id
    return str(tx.insert(COMPONENTS, {**_fields(mount), "state": "pending"}, privileged=True))


def activate(tx: Transaction, mount: Mount) -> None:
    """Put a mount in force as it is wanted."""
    fields = {**_fields(mount), "state": "active"}
    row = tx.first(COMPONENTS, BY_PATH, [mount.path], privileged=True)
    if row is None:
        tx.insert(COMPONENTS, fields, privileged=True)
    elif any(row.get(name) != value for name, value in fields.items()):
        tx.replace(row["_id"], fields, privileged=True)


def unmount(tx: Transaction, path: str) -> None:
    """Note that an instance is no longer part of the app."""
    row = tx.first(COMPONENTS, BY_PATH, [path], privileged=True)
    if row is not None:
        tx.patch(row["_id"], {"state": "unmounted"}, privileged=True)


def _fields(mount: Mount) -> dict[str, Value]:
    return {
        "path": mount.path,
        "definitionPath": mount.definition_path,
        "httpPrefix": mount.http_prefix,
        "httpMounts": [{"prefix": prefix, "child": child} for prefix, child in mount.http_mounts.items()],
        "env": [
            {"name": name, "value": bound.value, "parent": bound.name}
            for name, bound in mount.bindings.items()
        ],
    }


def _instance(row: dict[str, Any]) -> Instance:
    mount = Mount(
        row["path"],
        row["definitionPath"],
        row["httpPrefix"],
        {item["prefix"]: item["child"] for item in row["httpMounts"]},
        {item["name"]: Binding(item["value"], item["parent"]) for item in row["env"]},
    )
    return Instance(row["_id"], row["state"], mount)
