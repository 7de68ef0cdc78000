"""What the documents of a table look like."""

from __future__ import annotations

import math

from cvx.backend.functions import shape_of
from cvx.values import DocumentId, Value

FLOAT = {"type": "Float64", "float64Range": {"hasSpecialValues": False}}
STRING = {"type": "String"}
USER = str(DocumentId(10_001, bytes(16)))


def _shape(*values: Value) -> object:
    return shape_of(values, lambda id: "users" if id.table == 10_001 else None)


def test_every_kind_of_value() -> None:
    assert _shape() == {"type": "Never"}
    for value, name in ((None, "Null"), (True, "Boolean"), (1, "Int64"), ("a", "String"), (b"a", "Bytes")):
        assert _shape(value, value) == {"type": name}
    assert _shape(1.0, 2.0) == FLOAT
    for special in (math.nan, math.inf, -0.0):
        assert _shape(1.0, special) == {"type": "Float64", "float64Range": {"hasSpecialValues": True}}
    assert _shape(USER) == {"type": "Id", "tableName": "users"}
    assert _shape(USER, "no id") == STRING
    assert _shape(1, 1.0, None) == {"type": "Union", "shapes": [{"type": "Null"}, {"type": "Int64"}, FLOAT]}


def test_arrays_objects_and_records() -> None:
    assert _shape([]) == {"type": "Array", "shape": {"type": "Never"}}
    assert _shape([], [1.0], ["a"]) == {
        "type": "Array",
        "shape": {"type": "Union", "shapes": [STRING, FLOAT]},
    }
    assert _shape({"_id": USER, "a": 1.0}, {"_id": USER, "a": 2.0, "b": {"c": None}}) == {
        "type": "Object",
        "fields": [
            {"fieldName": "_id", "optional": False, "shape": {"type": "Id", "tableName": "users"}},
            {"fieldName": "a", "optional": False, "shape": FLOAT},
            {
                "fieldName": "b",
                "optional": True,
                "shape": {
                    "type": "Object",
                    "fields": [{"fieldName": "c", "optional": False, "shape": {"type": "Null"}}],
                },
            },
        ],
    }
    for record in ({"not a name": 1.0}, {f"n{n}": float(n + 1) for n in range(100)}):
        assert _shape(record) == {
            "type": "Record", "keyShape": STRING, "valueShape": {"optional": False, "shape": FLOAT},
        }  # fmt: skip
    assert _shape({"a b": [1.0]}, {"c d": {"e": USER}}, {"f g": {"e": USER, "h": True}}) == {
        "type": "Record",
        "keyShape": STRING,
        "valueShape": {
            "optional": False,
            "shape": {
                "type": "Union",
                "shapes": [
                    {"type": "Array", "shape": FLOAT},
                    {
                        "type": "Object",
                        "fields": [
                            {
                                "fieldName": "e",
                                "optional": False,
                                "shape": {"type": "Id", "tableName": "users"},
                            },
                            {"fieldName": "h", "optional": True, "shape": {"type": "Boolean"}},
                        ],
                    },
                ],
            },
        },
    }
