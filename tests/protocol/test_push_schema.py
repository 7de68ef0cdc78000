"""Schema JSON: what the npm package exports is read and written back; every index rule has its code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cvx.errors import CvxError
from cvx.protocol.schema import DatabaseIndex, SearchIndex, VectorIndex, parse_schema

RECORDED = (Path(__file__).parent / "npm_schema.json").read_text()
STRING = {"type": "string"}
VECTOR = {"type": "array", "value": {"type": "number"}}


def table(name: str = "t", document: Any = None, **lists: Any) -> dict[str, Any]:
    fields = {"a": STRING, "b": STRING, "v": VECTOR}
    if document is None:
        document = {
            "type": "object",
            "value": {k: {"fieldType": f, "optional": False} for k, f in fields.items()},
        }
    return {"tableName": name, "indexes": [], "documentType": document, **lists}


def schema_of(*tables: dict[str, Any], validation: bool = True) -> dict[str, Any]:
    return {"tables": list(tables), "schemaValidation": validation}


def by(name: str, *fields: str) -> dict[str, Any]:
    return {"indexDescriptor": name, "fields": list(fields)}


def search(name: str, field: str, *filters: str) -> dict[str, Any]:
    return {"indexDescriptor": name, "searchField": field, "filterFields": list(filters)}


def vector(name: str, field: str, dimensions: Any = 3, *filters: str) -> dict[str, Any]:
    return {
        "indexDescriptor": name,
        "vectorField": field,
        "dimensions": dimensions,
        "filterFields": list(filters),
    }


def broken(schema: Any) -> CvxError:
    with pytest.raises(CvxError) as caught:
        parse_schema(schema)
    return caught.value


def test_what_npm_exports() -> None:
    schema = parse_schema(RECORDED)
    assert sorted(schema.tables) == ["loose", "messages", "users"] and schema.validation
    messages = schema.tables["messages"]
    assert messages.indexes == (
        DatabaseIndex("by_author", ("author",)),
        DatabaseIndex("by_tags", ("meta.tags", "author")),
        DatabaseIndex("later", ("n",), staged=True),
        SearchIndex("s", "body", ("author",)),
        VectorIndex("v", "emb", 1536, ("author",)),
    )
    assert messages.validator.source().startswith('v.object({at: v.commitTs(), author: v.id("users"), body:')
    assert messages.index("s") is messages.indexes[3] and messages.index("none") is None
    assert schema.referenced_tables() == {"users"}


def test_json_round_trip_is_what_npm_wrote() -> None:
    written = parse_schema(RECORDED).to_json()
    recorded = json.loads(RECORDED)
    recorded["tables"].sort(key=lambda item: item["tableName"])
    # Literals come back as floats, which are the same numbers.
    assert json.loads(json.dumps(written)) == recorded
    assert parse_schema(written) == parse_schema(RECORDED)


def test_answers_to_a_push_show_the_creation_time() -> None:
    written = parse_schema(RECORDED).to_json(with_creation_time=True)
    messages = next(item for item in written["tables"] if item["tableName"] == "messages")
    assert messages["indexes"][0]["fields"] == ["author", "_creationTime"]
    assert messages["stagedDbIndexes"][0]["fields"] == ["n", "_creationTime"]


def test_defaults() -> None:
    schema = parse_schema({"tables": [{"tableName": "t", "indexes": [], "documentType": {"type": "any"}}]})
    assert schema.validation is False
    assert schema.tables["t"].indexes == ()


def test_staged_validators_are_kept() -> None:
    staged = table(stagedDocumentType={"type": "any"})
    schema = parse_schema(schema_of(staged))
    assert schema.tables["t"].staged_validator is not None
    assert schema.to_json()["tables"][0]["stagedDocumentType"] == {"type": "any"}


def test_dimensions_may_have_been_through_a_value() -> None:
    schema = parse_schema(schema_of(table(vectorIndexes=[vector("i", "v", 3.0)])))
    index = schema.tables["t"].indexes[0]
    assert isinstance(index, VectorIndex) and type(index.dimensions) is int


FIFTEEN = [f"f{i}" for i in range(15)]
LOOSE = {"type": "any"}


@pytest.mark.parametrize(
    ("code", "item"),
    [
        ("TableNameReserved", table("_t")),
        ("InvalidTableName", table("1t")),
        ("IndexNameReserved", table(indexes=[by("by_id", "a")])),
        ("IndexNameReserved", table(indexes=[by("by_creation_time", "a")])),
        ("IndexNameReserved", table(searchIndexes=[search("_s", "a")])),
        ("InvalidIndexName", table(indexes=[by("1a", "a")])),
        ("InvalidIndexName", table(indexes=[by("", "a")])),
        ("InvalidIndexName", table(indexes=[by("a-b", "a")])),
        ("InvalidIndexName", table(indexes=[by("x" * 65, "a")])),
        ("IndexNamesNotUnique", table(indexes=[by("i", "a"), by("i", "b")])),
        ("IndexNamesNotUnique", table(indexes=[by("i", "a")], searchIndexes=[search("i", "a")])),
        ("IndexNamesNotUnique", table(indexes=[by("i", "a")], stagedDbIndexes=[by("i", "b")])),
        ("EmptyIndex", table(indexes=[by("i")])),
        ("IndexTooManyFields", table(document=LOOSE, indexes=[by("i", *FIFTEEN, "g")])),
        ("IndexFieldsContainId", table(indexes=[by("i", "a", "_id")])),
        ("IndexFieldsContainCreationTime", table(indexes=[by("i", "_creationTime")])),
        ("IndexFieldNameReserved", table(indexes=[by("i", "_other")])),
        ("InvalidIndexField", table(indexes=[by("i", "a..b")])),
        ("InvalidIndexField", table(indexes=[by("i", "a b")])),
        ("FieldsNotUniqueWithinIndex", table(indexes=[by("i", "a", "b", "a")])),
        ("FieldsNotUniqueWithinIndex", table(searchIndexes=[search("i", "a", "b", "b")])),
        ("IndexNotUnique", table(indexes=[by("i", "a", "b"), by("j", "a", "b")])),
        ("IndexNotUnique", table(indexes=[by("i", "a")], stagedDbIndexes=[by("j", "a")])),
        ("IndexTooManyFilterFields", table(document=LOOSE, searchIndexes=[search("i", "a", *FIFTEEN, "x", "y")])),
        ("SearchIndexFieldNotUnique", table(searchIndexes=[search("i", "a"), search("j", "a")])),
        ("VectorIndexFieldNotUnique", table(vectorIndexes=[vector("i", "v"), vector("j", "v")])),
        ("InvalidVectorDimensions", table(vectorIndexes=[vector("i", "v", 1)])),
        ("InvalidVectorDimensions", table(vectorIndexes=[vector("i", "v", 4097)])),
        ("SchemaDefinitionError", table(indexes=[by("i", "missing")])),
        ("SchemaDefinitionError", table(indexes=[by("i", "a.inner")])),
        ("SchemaDefinitionError", table(searchIndexes=[search("i", "a", "missing")])),
        ("SchemaDefinitionError", table(vectorIndexes=[vector("i", "a")])),
        ("TooManyIndexes", table(document=LOOSE, indexes=[by(f"i{n}", f"f{n}") for n in range(65)])),
        ("InvalidSchema", table(document=STRING)),
        ("InvalidSchema", table(document={"type": "object", "value": {"_x": {"fieldType": STRING, "optional": False}}})),
        ("InvalidValidator", table(document={"type": "nope"})),
        ("InvalidSchema", table(indexes={})),
        ("InvalidSchema", table(indexes=[{"indexDescriptor": "i", "fields": [1]}])),
        ("InvalidSchema", table(indexes=["i"])),
        ("InvalidSchema", table(vectorIndexes=[vector("i", "v", 2.5)])),
        ("InvalidSchema", table(vectorIndexes=[vector("i", "v", float("nan"))])),
        ("InvalidSchema", table(vectorIndexes=["i"])),
    ],
)  # fmt: skip
def test_rules(code: str, item: dict[str, Any]) -> None:
    assert broken(schema_of(item)).code == code


def test_what_is_within_the_rules() -> None:
    parse_schema(schema_of(table(document=LOOSE, indexes=[by("i", *FIFTEEN)])))
    parse_schema(schema_of(table(document=LOOSE, indexes=[by(f"i{n}", f"f{n}") for n in range(64)])))
    parse_schema(schema_of(table(indexes=[by("i", "a", "b"), by("j", "b", "a"), by("_fivetran_x", "b")])))
    parse_schema(schema_of(table(indexes=[by("i", "missing")]), validation=False))
    parse_schema(schema_of(table(searchIndexes=[search("i", "a"), search("j", "a", "b")])))


def test_message_names_table_index_and_field() -> None:
    error = broken(schema_of(table(indexes=[by("i", "f")])))
    assert error.message == (
        'In table "t" the index "i" is invalid because it references the field f that does not exist.'
    )
    assert error.hint


@pytest.mark.parametrize(
    "source", ["", "[]", "{", "{}", '{"tables":{}}', '{"tables":[1]}', '{"tables":[{}]}']
)
def test_malformed(source: str) -> None:
    assert broken(source).code == "InvalidSchema"


def test_a_table_twice_and_too_many() -> None:
    assert broken(schema_of(table("t"), table("t"))).code == "InvalidSchema"
    many = [{"tableName": f"t{n}", "indexes": []} for n in range(10_001)]
    assert broken(schema_of(*many)).code == "TooManyTables"
