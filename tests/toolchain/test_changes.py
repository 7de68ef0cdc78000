"""What a push changes, from the deployment's own diffs and the specification before it."""

from __future__ import annotations

import json
from typing import Any

from cvx.protocol.push import (
    AuthDiff,
    ComponentDiff,
    CronDiff,
    DatabaseIndexDescription,
    DiffType,
    IndexDiff,
    ModuleDiff,
    SchemaDiff,
)
from cvx.toolchain.client import changes_of

ANY = {"type": "any"}


def spec(identifier: str, kind: str = "Query", visibility: str = "public", args: Any = ANY) -> dict[str, Any]:
    return {
        "identifier": identifier,
        "functionType": kind,
        "visibility": {"kind": visibility},
        "args": args,
        "returns": ANY,
    }


def analysis(**modules: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {"": {"functions": {f"{name}.js": {"functions": found} for name, found in modules.items()}}}


def function(name: str, kind: str = "Query", args: str | None = None) -> dict[str, Any]:
    return {"name": name, "udfType": kind, "visibility": {"kind": "public"}, "args": args, "returns": None}


def diff(**parts: Any) -> ComponentDiff:
    return ComponentDiff(diff_type=DiffType(type="modify"), **parts)


def shown(changes: Any) -> dict[str, list[tuple[str, str, str]]]:
    (only,) = changes
    return {name: [(c.mark, c.name, c.detail) for c in found] for name, found in only.groups()}


def test_nothing() -> None:
    same = analysis(messages=[function("list")])
    assert changes_of([spec("messages.js:list")], same, {"": diff()}, IndexDiff(), AuthDiff()) == ()


def test_functions_and_modules() -> None:
    after = analysis(
        messages=[
            function("list", args=json.dumps({"type": "object", "value": {}})),
            function("send", "Mutation"),
        ],
        fresh=[function("new")],
    )
    before = [spec("messages.js:list"), spec("messages.js:send"), spec("old.js:gone", visibility="internal")]
    modules = ModuleDiff(
        added=["_deps/A.js", "fresh.js", "messages.js"], removed=["_deps/B.js", "messages.js", "old.js"]
    )
    assert shown(changes_of(before, after, {"": diff(module_diff=modules)}, IndexDiff(), AuthDiff())) == {
        "functions": [
            ("+", "fresh:new", "query"),
            ("~", "messages:list", "args"),
            ("~", "messages:send", "kind"),
            ("-", "old:gone", "internal query"),
        ],
        "modules": [("~", "messages.js", "code")],
    }


def test_tables_indexes_crons_and_providers() -> None:
    def schema(**tables: str) -> str:
        return json.dumps(
            {"tables": [{"tableName": n, "documentType": {"type": t}} for n, t in tables.items()]}
        )

    by_author = DatabaseIndexDescription(name="messages.by_author", fields=["author", "_creationTime"])
    by_time = DatabaseIndexDescription(name="messages.by_time", fields=["time", "_creationTime"])
    moved = DatabaseIndexDescription(name="messages.by_time", fields=["date", "_creationTime"], staged=True)
    indexes = IndexDiff(added_indexes=[by_author, moved], removed_indexes=[by_time])
    component = diff(
        schema_diff=SchemaDiff(schema(messages="any", users="any"), schema(messages="object", rooms="any")),
        cron_diff=CronDiff(added=["clean"], updated=["report"], deleted=["ping"]),
    )
    auth = AuthDiff(added=['{"domain": "https://a.example"}'], removed=['{"issuer": "https://b.example"}'])
    assert shown(changes_of([], {}, {"": component}, indexes, auth)) == {
        "tables": [("~", "messages", "fields"), ("+", "rooms", ""), ("-", "users", "its rows stay")],
        "indexes": [
            ("+", "messages.by_author", "author, _creationTime"),
            ("~", "messages.by_time", "staged: date, _creationTime"),
        ],
        "crons": [("+", "clean", ""), ("~", "report", "schedule or arguments"), ("-", "ping", "")],
        "auth": [("+", "https://a.example", ""), ("-", "https://b.example", "")],
    }


def test_components() -> None:
    mounted = ComponentDiff(diff_type=DiffType(type="create"), module_diff=ModuleDiff(added=["lib.js"]))
    (change,) = changes_of([], {}, {"": diff(), "limiter": mounted}, IndexDiff(), AuthDiff())
    assert (change.component, change.mounted) == ("limiter", "create")
    assert change.modules == (), "what comes as a whole is told by its name"
    assert change.to_json()["type"] == "create"
