"""The pure diff: what a push would create, enable, stage and drop, and which documents it must look at."""

from __future__ import annotations

from typing import Any

import pytest

from cvx.backend.deploy.crons import named_cron_specs
from cvx.backend.deploy.plan import (
    IndexPlan,
    module_diff,
    plan_indexes,
    table_outcome,
    unaffected,
)
from cvx.backend.model import DeployedIndex
from cvx.backend.runner import ModuleSource
from cvx.errors import CvxError
from cvx.protocol.schema import DatabaseIndex, Schema, SearchIndex, TableSchema, parse_schema


def schema(**tables: list[Any]) -> Schema:
    return Schema({name: TableSchema(name, tuple(indexes)) for name, indexes in tables.items()}, True)


def by(name: str, *fields: str, staged: bool = False) -> DatabaseIndex:
    return DatabaseIndex(name, fields, staged)


def there(id: str, index: Any, state: Any = "enabled", table: str = "t") -> DeployedIndex:
    return DeployedIndex(id, table, index, state)


def ids(plan: IndexPlan) -> dict[str, list[str]]:
    out = {name: [item.id for item in getattr(plan, name)] for name in ("discard", "enable", "stage", "drop")}
    return {name: found for name, found in out.items() if found}


def names(plan: IndexPlan) -> dict[str, list[str]]:
    out = {
        name: [item.name for item in getattr(plan.diff, f"{name}_indexes")]
        for name in ("added", "removed", "enabled", "disabled")
    }
    return {name: found for name, found in out.items() if found}


def test_a_new_index_is_created_and_shown_with_creation_time() -> None:
    plan = plan_indexes(schema(t=[by("by_a", "a")]), [])
    assert plan.create == (("t", by("by_a", "a")),)
    assert plan.diff.added_indexes[0].fields == ["a", "_creationTime"]  # type: ignore[union-attr]
    assert ids(plan) == {}


def test_an_equal_index_is_left_alone() -> None:
    plan = plan_indexes(schema(t=[by("by_a", "a")]), [there("1", by("by_a", "a"))])
    assert (plan.create, ids(plan), names(plan)) == ((), {}, {})


def test_an_index_built_by_an_unfinished_push_is_taken_over() -> None:
    plan = plan_indexes(schema(t=[by("by_a", "a")]), [there("1", by("by_a", "a"), "backfilled")])
    assert plan.create == ()
    assert ids(plan) == {"enable": ["1"]}
    assert names(plan) == {"added": ["t.by_a"]}


def test_a_changed_index_keeps_the_old_one_until_the_finish() -> None:
    plan = plan_indexes(schema(t=[by("i", "b")]), [there("1", by("i", "a"))])
    assert plan.create == (("t", by("i", "b")),)
    assert ids(plan) == {"drop": ["1"]}
    assert names(plan) == {"added": ["t.i"], "removed": ["t.i"]}


def test_what_an_earlier_push_was_building_is_discarded() -> None:
    deployed = [there("1", by("i", "a")), there("2", by("i", "b"), "backfilling")]
    plan = plan_indexes(schema(t=[by("i", "c")]), deployed)
    assert ids(plan) == {"discard": ["2"], "drop": ["1"]}
    plan = plan_indexes(schema(t=[by("i", "a")]), deployed)
    assert (plan.create, ids(plan), names(plan)) == ((), {"discard": ["2"]}, {})


def test_the_version_in_use_wins_over_an_equal_one_that_is_being_built() -> None:
    deployed = [there("2", by("i", "a"), "backfilling"), there("1", by("i", "a"))]
    assert ids(plan_indexes(schema(t=[by("i", "a")]), deployed)) == {"discard": ["2"]}


def test_staging_and_unstaging_happen_in_place() -> None:
    plan = plan_indexes(schema(t=[by("i", "a")]), [there("1", by("i", "a", staged=True), "backfilled")])
    assert (plan.create, ids(plan), names(plan)) == ((), {"enable": ["1"]}, {"enabled": ["t.i"]})
    plan = plan_indexes(schema(t=[by("i", "a", staged=True)]), [there("1", by("i", "a"))])
    assert (plan.create, ids(plan), names(plan)) == ((), {"stage": ["1"]}, {"disabled": ["t.i"]})


def test_a_new_staged_index_is_created_as_staged() -> None:
    plan = plan_indexes(schema(t=[by("i", "a", staged=True)]), [])
    assert plan.create == (("t", by("i", "a", staged=True)),)
    assert plan.diff.added_indexes[0].staged


def test_no_schema_drops_everything_in_use_and_discards_the_rest() -> None:
    deployed = [
        there("1", by("i", "a")),
        there("2", by("j", "b"), "backfilling"),
        there("3", SearchIndex("s", "x")),
    ]
    plan = plan_indexes(None, deployed)
    assert ids(plan) == {"discard": ["2"], "drop": ["1", "3"]}
    assert names(plan) == {"removed": ["t.i", "t.s"]}


def test_kinds_of_index_are_different_indexes() -> None:
    plan = plan_indexes(schema(t=[SearchIndex("i", "a")]), [there("1", by("i", "a"))])
    assert ids(plan) == {"drop": ["1"]}
    assert [item.name for item in plan.diff.added_indexes] == ["t.i"]


def typed(document_type: dict[str, Any], *, validation: bool = True) -> Schema:
    table = {"tableName": "t", "indexes": [], "documentType": document_type}
    return parse_schema({"tables": [table], "schemaValidation": validation})


def fields(**kinds: tuple[str, bool]) -> dict[str, Any]:
    value = {
        name: {"fieldType": {"type": kind}, "optional": optional} for name, (kind, optional) in kinds.items()
    }
    return {"type": "object", "value": value}


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (typed(fields(a=("string", False))), None, "mustWalk"),
        (typed(fields(a=("string", False))), typed(fields(a=("string", False))), "supersetOfEnforced"),
        (typed(fields(a=("string", True))), typed(fields(a=("string", False))), "supersetOfEnforced"),
        (typed(fields(a=("string", False))), typed(fields(a=("string", True))), "mustWalk"),
        (
            typed(fields(a=("string", False))),
            typed(fields(a=("string", False)), validation=False),
            "mustWalk",
        ),
        (typed(fields(a=("string", False)), validation=False), None, "notValidated"),
        (typed({"type": "any"}), None, "notValidated"),
    ],
)
def test_documents_are_walked_only_where_they_may_not_fit(
    new: Schema, old: Schema | None, expected: str
) -> None:
    assert table_outcome("t", new, old) == expected


def test_module_diff_shows_a_changed_module_on_both_sides() -> None:
    diff = module_diff({"a.js": "1", "b.js": "2", "c.js": "3"}, {"a.js": "1", "b.js": "9", "d.js": "4"})
    assert (diff.added, diff.removed) == (["b.js", "d.js"], ["b.js", "c.js"])


@pytest.mark.parametrize(
    "schedule",
    [
        '{"type":"interval"}',
        '{"type":"interval","seconds":0}',
        '{"type":"daily","hourUTC":24}',
        '{"type":"weekly","dayOfWeek":"Monday","hourUTC":1}',
        '{"type":"monthly","day":0,"hourUTC":1}',
        '{"type":"cron","cron":"* * * *"}',
        '{"type":"cron","cron":"a b c d \\u0000"}',
        '{"type":"cron","cron":"61 * * * *"}',
        '{"type":"cron","cron":"0 0 31 2 *"}',
        '{"type":"yearly"}',
        "null",
    ],
)
def test_bad_schedules_are_refused_by_name(schedule: str) -> None:
    with pytest.raises(CvxError, match='Cron "job"') as refused:
        named_cron_specs(f'{{"job":{{"name":"m:f","args":[{{}}],"schedule":{schedule}}}}}')
    assert refused.value.code == "InvalidCron"


def test_large_arguments_of_a_cron_are_refused() -> None:
    text = '{"job":{"name":"m:f","args":[{"x":"%s"}],"schedule":{"type":"interval","seconds":1}}}'
    assert len(named_cron_specs(text % ("x" * 1_000_000))) == 1
    with pytest.raises(CvxError, match="1 MiB"):
        named_cron_specs(text % ("x" * (1 << 20)))


def test_only_modules_that_name_what_moved_are_affected() -> None:
    def source(path: str, sha256: str, text: str) -> ModuleSource:
        return ModuleSource(path, sha256, text.encode(), None, "isolate")

    after = {
        item.path: item
        for item in (
            source("a.js", "1", 'import "./_deps/ONE.js";'),
            source("b.js", "1", 'import "./_deps/TWO.js";'),
            source("dir/c.js", "1", "alone"),
            source("d.js", "2", "changed"),
            source("_deps/ONE.js", "2", "changed"),
            source("_deps/TWO.js", "1", 'import "./ONE.js";'),
            source("_deps/THREE.js", "1", "untouched"),
        )
    }
    before = dict.fromkeys(after, "1")
    assert unaffected(before, after) == {"dir/c.js", "_deps/THREE.js"}
    assert unaffected({**before, "_deps/ONE.js": "2", "d.js": "2"}, after) == set(after)
    gone = {path: item for path, item in after.items() if path != "_deps/ONE.js"}
    assert unaffected(before, gone) == {"dir/c.js", "_deps/THREE.js"}, (
        "what goes away is missed by those that name it"
    )
    assert unaffected({}, after) == set()
