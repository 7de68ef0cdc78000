"""Validators: what fits, what the complaint says, superset proofs; `accepts` and `explain` never disagree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvx.errors import CvxError
from cvx.values import (
    COMMIT_TS,
    DocumentId,
    Validator,
    document_validator,
    is_superset_of,
    parse_validator,
    parse_validator_text,
    print_value,
)
from tests.values.value_strategies import values

USER = str(DocumentId(10001, bytes(16)))
POST = str(DocumentId(10002, bytes(16)))
FILE = str(DocumentId(540, bytes(16)))
GHOST = str(DocumentId(10099, bytes(16)))


class Names:
    """Two user tables and one system table."""

    def name_of(self, table: int) -> str | None:
        return {10001: "users", 10002: "posts", 540: "_storage"}.get(table)


NAMES = Names()
NUMBER, STRING, INT64, ANY, NULL = ({"type": t} for t in ("number", "string", "bigint", "any", "null"))


def obj(**fields: Any) -> dict[str, Any]:
    """v.object; a trailing underscore makes a field optional."""
    return {
        "type": "object",
        "value": {
            name.rstrip("_"): {"fieldType": f, "optional": name.endswith("_")} for name, f in fields.items()
        },
    }


def union(*members: Any) -> dict[str, Any]:
    return {"type": "union", "value": list(members)}


def array(element: Any) -> dict[str, Any]:
    return {"type": "array", "value": element}


def record(keys: Any, element: Any) -> dict[str, Any]:
    return {"type": "record", "keys": keys, "values": {"fieldType": element, "optional": False}}


def literal(value: Any) -> dict[str, Any]:
    return {"type": "literal", "value": value}


def id_of(table: str) -> dict[str, Any]:
    return {"type": "id", "tableName": table}


def complaint(validator: Any, value: Any) -> str | None:
    found = parse_validator(validator).check(value, NAMES)
    return None if found is None else found.text()


@pytest.mark.parametrize(
    ("validator", "good", "bad"),
    [
        (NULL, [None], [False, 0.0, {}]),
        (NUMBER, [1.0, float("nan")], [1, True, "1", None, COMMIT_TS]),
        (INT64, [1, -(1 << 63)], [1.0, True, COMMIT_TS]),
        ({"type": "boolean"}, [True, False], [1, 0.0, None]),
        (STRING, ["", "x"], [b"", None]),
        ({"type": "bytes"}, [b""], [""]),
        (ANY, [None, 1, {"a": []}], []),
        ({"type": "map"}, [None], []),
        ({"type": "commitTs"}, [5, COMMIT_TS], [5.0, None]),
        (literal("a"), ["a"], ["b", None]),
        (literal(1), [1.0], [1, True, 2.0]),
        (literal({"$integer": "AQAAAAAAAAA="}), [1], [1.0]),
        (literal(True), [True], [False, 1, 1.0]),
        (id_of("users"), [USER], [POST, FILE, GHOST, "users", "", 1.0]),
        (id_of("_storage"), [FILE], [USER]),
        (array(NUMBER), [[], [1.0, 2.0]], [[1], [1.0, None], {}, "x"]),
        (array(array(STRING)), [[], [[]], [["a"]]], [["a"], [[1.0]]]),
        (record(STRING, NUMBER), [{}, {"a b": 1.0}], [{"a": 1}, []]),
        (record(id_of("users"), NUMBER), [{USER: 1.0}], [{"x": 1.0}, {POST: 1.0}]),
        (union(), [], [None, 1.0]),
        (union(STRING, NULL), ["a", None], [1.0]),
        (union(literal("a"), literal("b"), literal(1)), ["a", "b", 1.0], ["c", 1, True]),
        (union(obj(t=literal("a"), x=NUMBER), obj(t=literal("b"))), [{"t": "a", "x": 1.0}, {"t": "b"}],
         [{"t": "b", "x": 1.0}, {"t": "a"}]),
        (obj(), [{}], [{"a": 1.0}, []]),
        (obj(a=NUMBER, b_=STRING), [{"a": 1.0}, {"a": 1.0, "b": ""}],
         [{}, {"b": ""}, {"a": 1}, {"a": 1.0, "b": None}, {"a": 1.0, "c": None}]),
        (obj(a=obj(b=array(NULL))), [{"a": {"b": [None]}}], [{"a": {}}, {"a": {"b": [1.0]}}]),
    ],
)  # fmt: skip
def test_what_fits(validator: Any, good: list[Any], bad: list[Any]) -> None:
    parsed = parse_validator(validator)
    for value in good:
        assert parsed.check(value, NAMES) is None, value
    for value in bad:
        assert parsed.check(value, NAMES) is not None, value


def test_layout_at_top_level_and_below() -> None:
    validator = obj(a=NUMBER, b_=obj(c=array(STRING)))
    source = "v.object({a: v.float64(), b: v.optional(v.object({c: v.array(v.string())}))})"
    missing = complaint(validator, {"b": {"c": []}})
    assert missing is not None
    sentence, *rest = missing.split("\n")
    assert sentence.startswith("Object is missing the required field `a`.")
    assert rest == ["", "Object: {b: {c: []}}", f"Validator: {source}"]
    assert complaint(validator, {"a": 1.0, "z": 2}) == (
        "Object contains extra field `z` that is not in the validator.\n"
        "\n"
        "Object: {a: 1.0, z: 2n}\n"
        f"Validator: {source}"
    )
    assert complaint(validator, {"a": 1.0, "b": {"c": ["x", 1.5]}}) == (
        "Value does not match validator.\nPath: .b.c[1]\nValue: 1.5\nValidator: v.string()"
    )
    assert complaint(validator, 3.0) == f"Value does not match validator.\n\nValue: 3.0\nValidator: {source}"


def test_missing_comes_before_extra() -> None:
    text = complaint(obj(b=NUMBER), {"a": 1.0})
    assert text is not None and "missing the required field `b`" in text


def test_ids_of_another_table() -> None:
    text = complaint(obj(u=id_of("users")), {"u": POST})
    assert text is not None
    assert text.startswith(f'Found ID "{POST}" from table `posts`, which does not match')
    assert "\nPath: .u\n" in text and text.endswith('Validator: v.id("users")')
    text = complaint(id_of("users"), FILE)
    assert text is not None and "from system table `_storage`" in text
    for unknown in (GHOST, "nonsense"):
        text = complaint(id_of("users"), unknown)
        assert text is not None and text.startswith("Value does not match validator.")


def test_literals_say_so() -> None:
    text = complaint(literal("a"), "b")
    assert text is not None and text.startswith('`"b"` does not match literal validator `v.literal("a")`.')


def test_records_say_whether_it_is_keys_or_values() -> None:
    text = complaint(obj(r=record(id_of("users"), NUMBER)), {"r": {"x": 1.0}})
    assert text is not None and "\nPath: .r.keys()\n" in text
    text = complaint(obj(r=record(STRING, NUMBER)), {"r": {"x": None}})
    assert text is not None and "\nPath: .r.values()\n" in text


def test_a_union_of_one_reports_its_member_and_wider_ones_themselves() -> None:
    text = complaint(union(obj(a=NUMBER)), {})
    assert text is not None and "missing the required field `a`" in text
    text = complaint(obj(x=union(obj(a=NUMBER), NULL)), {"x": {}})
    assert text is not None
    assert text.startswith("Value does not match validator.\nPath: .x\n")
    assert text.endswith("Validator: v.union(v.object({a: v.float64()}), v.null())")


def test_documents_are_checked_without_system_fields() -> None:
    parsed = parse_validator(obj(a=NUMBER))
    document = {"_id": USER, "_creationTime": 1.0, "a": 1.0}
    assert parsed.check_document(document, NAMES) is None
    assert "_id" in document
    assert parsed.check(document, NAMES) is not None
    found = parsed.check_document({"_id": USER, "_creationTime": 1.0}, NAMES)
    assert found is not None and found.value == {}


def test_printing_values() -> None:
    value = {"s": 'a"b\n', "f": 1.0, "i": 1, "b": b"\x00", "l": [None, True], "n": float("nan"), "z": -0.0}
    assert print_value(value) == (
        '{b: b"AA==", f: 1.0, i: 1n, l: [null, true], n: NaN, s: "a\\"b\\n", z: -0.0}'
    )


def test_printing_sources() -> None:
    validator = obj(
        z=id_of("users"), a_=union(literal("x"), literal(1), literal({"$integer": "AQAAAAAAAAA="})),
        m=record(STRING, ANY), i=INT64, c={"type": "commitTs"}, b={"type": "bytes"}, t={"type": "boolean"},
    )  # fmt: skip
    assert parse_validator(validator).source() == (
        'v.object({a: v.optional(v.union(v.literal("x"), v.literal(1.0), v.literal(1n))), b: v.bytes(), '
        'c: v.commitTs(), i: v.int64(), m: v.record(v.string(), v.any()), t: v.boolean(), z: v.id("users")})'
    )


@pytest.mark.parametrize(
    ("validator", "code"),
    [
        (None, "InvalidValidator"),
        ("string", "InvalidValidator"),
        ({}, "InvalidValidator"),
        ({"type": "strnig"}, "InvalidValidator"),
        ({"type": "array"}, "InvalidValidator"),
        ({"type": "union", "value": {}}, "InvalidValidator"),
        ({"type": "object", "value": {"a": STRING}}, "InvalidValidator"),
        ({"type": "object", "value": {"a": {"fieldType": STRING, "optional": 1}}}, "InvalidValidator"),
        ({"type": "object", "value": {"a-b": {"fieldType": STRING, "optional": False}}}, "InvalidValidator"),
        ({"type": "id"}, "InvalidValidator"),
        ({"type": "literal"}, "InvalidValidator"),
        ({"type": "literal", "value": None}, "InvalidValidator"),
        ({"type": "literal", "value": [1]}, "InvalidValidator"),
        (record(literal("a"), ANY), "InvalidRecordType"),
        (record(union(STRING, NUMBER), ANY), "InvalidRecordType"),
        (
            {"type": "record", "keys": STRING, "values": {"fieldType": ANY, "optional": True}},
            "InvalidRecordType",
        ),
    ],
)
def test_malformed(validator: Any, code: str) -> None:
    with pytest.raises(CvxError) as caught:
        parse_validator(validator)
    assert caught.value.code == code


def test_very_deep_validators_are_refused() -> None:
    validator: Any = NULL
    for _ in range(200):
        validator = array(validator)
    with pytest.raises(CvxError):
        parse_validator(validator)
    with pytest.raises(CvxError):
        parse_validator_text('{"type":')
    assert parse_validator_text('{"type":"null"}') == parse_validator(NULL)


def test_questions_about_fields() -> None:
    parsed = parse_validator(
        union(
            obj(a=obj(b_=NUMBER), e=array(NUMBER), r=record(STRING, obj(x=NUMBER)), w=ANY),
            obj(only_second=union(NULL, array(NUMBER))),
        )
    )
    exists = {("a",): True, ("a", "b"): True, ("a", "c"): False, ("e", "x"): False, ("only_second",): True}
    exists |= {
        ("nope",): False,
        ("r", "anything", "x"): True,
        ("r", "anything", "y"): False,
        ("w", "q"): True,
    }
    for path, expected in exists.items():
        assert parsed.field_exists(path) is expected, path
    assert parsed.may_hold_vector(("e",)) and parsed.may_hold_vector(("only_second",))
    assert not parsed.may_hold_vector(("a",)) and not parsed.may_hold_vector(())
    assert parse_validator(obj(a=array(id_of("users")), b=union(id_of("posts")))).referenced_tables() == {
        "users",
        "posts",
    }


def test_document_validators() -> None:
    parsed = document_validator(parse_validator(obj(_id=STRING, _creationTime=NUMBER, a=NUMBER)))
    assert parsed == parse_validator(obj(a=NUMBER))
    both = document_validator(parse_validator(union(obj(_id=STRING), obj(a=NUMBER))))
    assert both == parse_validator(union(obj(), obj(a=NUMBER)))
    for bad in (STRING, array(ANY), union(obj(), STRING), obj(_other=STRING), record(STRING, ANY)):
        with pytest.raises(CvxError) as caught:
            document_validator(parse_validator(bad))
        assert caught.value.code == "InvalidSchema"


@pytest.mark.parametrize(
    ("wider", "narrower", "expected"),
    [
        (ANY, obj(a=NUMBER), True),
        (NUMBER, ANY, False),
        (STRING, literal("a"), True),
        (STRING, id_of("users"), True),
        (id_of("users"), STRING, False),
        (id_of("users"), id_of("posts"), False),
        (NUMBER, INT64, False),
        ({"type": "commitTs"}, INT64, True),
        (INT64, {"type": "commitTs"}, False),
        (union(STRING, NUMBER), union(NUMBER, literal("x")), True),
        (union(STRING), union(STRING, NULL), False),
        (obj(a=NUMBER, b_=STRING), obj(a=NUMBER), True),
        (obj(a=NUMBER, b=STRING), obj(a=NUMBER), False),
        (obj(a_=NUMBER), obj(a=NUMBER), True),
        (obj(a=NUMBER), obj(a_=NUMBER), False),
        (obj(a=NUMBER), obj(a=NUMBER, b=NULL), False),
        (array(union(NULL, NUMBER)), array(NUMBER), True),
        (array(NUMBER), array(STRING), False),
        (record(STRING, ANY), record(id_of("users"), NUMBER), True),
        (record(STRING, NUMBER), obj(a=NUMBER, b_=literal(1)), True),
        (record(STRING, NUMBER), obj(a=STRING), False),
        (obj(), record(STRING, NUMBER), False),
    ],
)
def test_supersets(wider: Any, narrower: Any, expected: bool) -> None:
    assert is_superset_of(parse_validator(wider), parse_validator(narrower)) is expected


_leaves = st.sampled_from(
    [NULL, NUMBER, INT64, STRING, ANY, {"type": "boolean"}, {"type": "bytes"}, {"type": "commitTs"}, id_of("users"),
     literal("a"), literal(1), literal(True)]
)  # fmt: skip
_names = st.sampled_from(["a", "b", "c"])
validators = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        inner.map(array),
        st.lists(inner, max_size=3).map(lambda members: union(*members)),
        st.tuples(st.sampled_from([STRING, id_of("users")]), inner).map(lambda pair: record(*pair)),
        st.dictionaries(_names, st.tuples(inner, st.booleans()), max_size=3).map(
            lambda fields: {
                "type": "object",
                "value": {name: {"fieldType": f, "optional": o} for name, (f, o) in fields.items()},
            }
        ),
    ),
    max_leaves=6,
)


def fitting(validator: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values built to fit; an empty union has none, and a stand-in is used."""
    kind = validator["type"]
    simple: dict[str, st.SearchStrategy[Any]] = {
        "null": st.none(), "number": st.floats(), "bigint": st.integers(-9, 9), "string": st.text(max_size=3),
        "any": values, "boolean": st.booleans(), "bytes": st.binary(max_size=3), "commitTs": st.just(COMMIT_TS),
        "id": st.just(USER),
    }  # fmt: skip
    if kind in simple:
        return simple[kind]
    if kind == "literal":
        value = validator["value"]
        return st.just(float(value) if type(value) is int else value)
    if kind == "array":
        return st.lists(fitting(validator["value"]), max_size=2)
    if kind == "union":
        return st.one_of(*map(fitting, validator["value"])) if validator["value"] else st.none()
    if kind == "record":
        return st.dictionaries(
            fitting(validator["keys"]), fitting(validator["values"]["fieldType"]), max_size=2
        )
    fields = {name: fitting(field["fieldType"]) for name, field in validator["value"].items()}
    optional = {name for name, field in validator["value"].items() if field["optional"]}
    return st.fixed_dictionaries(
        {name: strategy for name, strategy in fields.items() if name not in optional},
        optional={name: strategy for name, strategy in fields.items() if name in optional},
    )


@given(st.data())
def test_accepts_and_explain_agree(data: st.DataObject) -> None:
    source = data.draw(validators)
    parsed = parse_validator(source)
    for value in (data.draw(fitting(source)), data.draw(values)):
        assert parsed.accepts(value, NAMES) == (parsed.explain(value, NAMES, "") is None)


@given(validators)
def test_json_round_trip(source: Any) -> None:
    parsed = parse_validator(source)
    assert parse_validator(parsed.to_json()) == parsed
    assert hash(parse_validator(parsed.to_json())) == hash(parsed)


@given(st.data())
def test_a_proven_superset_accepts_all_that_the_other_accepts(data: st.DataObject) -> None:
    narrow_source = data.draw(validators)
    wide: Validator = parse_validator(
        data.draw(st.one_of(validators, validators.map(lambda v: union(v, narrow_source))))
    )
    narrow = parse_validator(narrow_source)
    value = data.draw(fitting(narrow_source))
    if is_superset_of(wide, narrow) and narrow.accepts(value, NAMES):
        assert wide.accepts(value, NAMES)
