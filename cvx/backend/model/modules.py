"""Pushed code: one row a module in `_modules`, its text in `_module_sources` by hash.

Rows are small, so that a push which changes one file rewrites one row; texts are kept once per hash, compressed
and in parts below the document limit. A function's ReadSet names the rows of the modules it ran (not the texts,
which never change), so replacing a row is what makes dependent queries run again.

Source: design.md §5.1; reference/cli-and-deploy.md §2.6, §2.7, §2.9.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from cvx.backend.database import Transaction
from cvx.values import KeyRange, encode_key, prefix_range

Environment = Literal["isolate", "node"]

MODULES = "_modules"
SOURCES = "_module_sources"
BY_PATH = "by_path"
_BY_SHA256 = "by_sha256"

# Well under the 1 MiB document limit after base64.
_PART_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class ModuleText:
    """A module as it was bundled. Hash: `source_hash`."""

    source: str
    source_map: str | None


@dataclass(frozen=True, slots=True)
class NewModule:
    """A module on its way in. `text` None: unchanged, its hash must be stored already."""

    path: str
    sha256: str
    environment: Environment
    analysis: dict[str, Any] | None
    text: ModuleText | None = None


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """A stored module. `path` is canonical ("a/b.js"); `analysis` as in cli-and-deploy.md §2.7."""

    component: str
    path: str
    sha256: str
    environment: Environment
    analysis: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ModuleChanges:
    """What `replace_modules` did, as paths."""

    added: list[str]
    changed: list[str]
    removed: list[str]


def source_hash(text: ModuleText) -> str:
    """SHA-256 (hex) that names a module's text: of the source, then of the map if there is one."""
    digest = hashlib.sha256(text.source.encode())
    if text.source_map is not None:
        digest.update(text.source_map.encode())
    return digest.hexdigest()


def all_modules(tx: Transaction, component: str = "") -> list[ModuleRow]:
    """Every module of a component, in path order."""
    return [_row(document) for document in tx.all(MODULES, BY_PATH, [component], privileged=True)]


def module(tx: Transaction, path: str, component: str = "") -> ModuleRow | None:
    document = tx.first(MODULES, BY_PATH, [component, path], privileged=True)
    return None if document is None else _row(document)


def path_range(component: str, path: str) -> KeyRange:
    """Where the row of this module is, or would be, in `_modules.by_path`."""
    return prefix_range(encode_key([component, path]))


def text_of(tx: Transaction, sha256: str) -> ModuleText | None:
    """The text that has this hash, or None."""
    parts: dict[str, list[tuple[float, bytes]]] = {"source": [], "map": []}
    for document in tx.all(SOURCES, _BY_SHA256, [sha256], privileged=True):
        parts[document["kind"]].append((document["part"], document["data"]))
    if not parts["source"]:
        return None
    return ModuleText(_joined(parts["source"]), _joined(parts["map"]) if parts["map"] else None)


def has_text(tx: Transaction, sha256: str) -> bool:
    return tx.first(SOURCES, _BY_SHA256, [sha256], privileged=True) is not None


def store_text(tx: Transaction, text: ModuleText) -> str:
    """Keep a module's text unless it is there already; its hash."""
    sha256 = source_hash(text)
    if not has_text(tx, sha256):
        _insert_parts(tx, sha256, "source", text.source)
        if text.source_map is not None:
            _insert_parts(tx, sha256, "map", text.source_map)
    return sha256


def drop_text(tx: Transaction, sha256: str) -> None:
    """Forget a text, unless a module has it."""
    _drop_unused_texts(tx, {sha256})


def replace_modules(tx: Transaction, modules: Iterable[NewModule], component: str = "") -> ModuleChanges:
    """Make the component's modules exactly these. Rows that stay equal are not written at all."""
    existing = {
        document["path"]: document for document in tx.all(MODULES, BY_PATH, [component], privileged=True)
    }
    changes = ModuleChanges([], [], [])
    kept: set[str] = set()
    hashes: set[str] = set()
    for new in modules:
        if new.text is not None:
            store_text(tx, new.text)
        kept.add(new.path)
        hashes.add(new.sha256)
        fields: dict[str, Any] = {
            "component": component,
            "path": new.path,
            "sha256": new.sha256,
            "environment": new.environment,
            "analysis": None if new.analysis is None else msgspec.json.encode(new.analysis).decode(),
        }
        old = existing.get(new.path)
        if old is None:
            tx.insert(MODULES, fields, privileged=True)
            changes.added.append(new.path)
        elif any(old.get(name) != value for name, value in fields.items()):
            tx.replace(old["_id"], fields, privileged=True)
            changes.changed.append(new.path)
    for path, old in existing.items():
        if path not in kept:
            tx.delete(old["_id"], privileged=True)
            changes.removed.append(path)
    _drop_unused_texts(tx, {document["sha256"] for document in existing.values()} - hashes)
    return changes


def _drop_unused_texts(tx: Transaction, candidates: set[str]) -> None:
    for sha256 in candidates:
        if tx.first(MODULES, _BY_SHA256, [sha256], privileged=True) is None:
            for document in tx.all(SOURCES, _BY_SHA256, [sha256], privileged=True):
                tx.delete(document["_id"], privileged=True)


def _insert_parts(tx: Transaction, sha256: str, kind: str, text: str) -> None:
    packed = zlib.compress(text.encode(), 3)
    for part, start in enumerate(range(0, len(packed), _PART_BYTES)):
        fields: dict[str, Any] = {
            "sha256": sha256,
            "kind": kind,
            "part": float(part),
            "data": packed[start : start + _PART_BYTES],
        }
        tx.insert(SOURCES, fields, privileged=True)


def _joined(parts: Sequence[tuple[float, bytes]]) -> str:
    return zlib.decompress(b"".join(data for _, data in sorted(parts))).decode()


def _row(document: dict[str, Any]) -> ModuleRow:
    analysis = document["analysis"]
    return ModuleRow(
        component=document["component"],
        path=document["path"],
        sha256=document["sha256"],
        environment=document["environment"],
        analysis=None if analysis is None else msgspec.json.decode(analysis),
    )
