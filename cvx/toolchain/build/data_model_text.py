"""The text of `_generated/dataModel`: types of documents, ids and indexes. Pure.

Source: reference/cli-and-deploy.md §4.2 and §4.4 (static data model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cvx.toolchain.build.codegen_text import doc, header, import_names
from cvx.toolchain.build.validator_types import field_paths, name_order, property_name, quoted, type_of

_ID_TYPE = (
    doc("The id of a document in one table: a string that remembers its table.")
    + "export type Id<TableName extends TableNames | SystemTableNames> = GenericId<TableName>;\n"
)
_NAMES_AND_DOC = (
    doc("The names of all tables.") + "export type TableNames = TableNamesInDataModel<DataModel>;\n",
    doc("A document of one table.")
    + "export type Doc<TableName extends TableNames> = DocumentByName<DataModel, TableName>;\n",
)


def without_schema() -> str:
    parts = (
        header("Types of the data, permissive because there is no schema. Add `schema.ts` for exact ones."),
        'import type { AnyDataModel } from "convex/server";\nimport type { GenericId } from "convex/values";\n',
        doc("The names of all tables.") + "export type TableNames = string;\n",
        doc("A document of any table.") + "export type Doc = any;\n",
        doc("The id of a document: a string that remembers its table.")
        + "export type Id<TableName extends TableNames = TableNames> = GenericId<TableName>;\n",
        doc("Tables, documents and indexes.") + "export type DataModel = AnyDataModel;\n",
    )
    return "\n".join(parts)


def from_schema() -> str:
    names = ("DataModelFromSchemaDefinition", "DocumentByName", "SystemTableNames", "TableNamesInDataModel")
    parts = (
        header("Types of the data, derived from `schema`."),
        import_names(names, types=True)
        + 'import type { GenericId } from "convex/values";\n'
        + 'import type schema from "../schema.js";\n',
        *_NAMES_AND_DOC,
        _ID_TYPE,
        doc("Tables, documents and indexes.")
        + "export type DataModel = DataModelFromSchemaDefinition<typeof schema>;\n",
    )
    return "\n".join(parts)


def spelled_out(schema: Mapping[str, Any]) -> str:
    """Every document and index spelled out, from the analysed schema."""
    tables = sorted(schema["tables"], key=lambda t: name_order(t["tableName"]))
    body = "".join(_table_type(table) for table in tables)
    any_model = "" if schema.get("schemaValidation") else " & AnyDataModel"
    names = ["DocumentByName", "SystemTableNames", "TableNamesInDataModel"]
    if any_model:
        names.insert(0, "AnyDataModel")
    parts = (
        header("Types of the data, spelled out from the schema."),
        import_names(names, types=True) + 'import type { GenericId } from "convex/values";\n',
        doc("Tables, documents and indexes.") + f"export type DataModel = {{\n{body}}}{any_model};\n",
        *_NAMES_AND_DOC,
        _ID_TYPE,
    )
    return "\n".join(parts)


def _table_type(table: Mapping[str, Any]) -> str:
    document = _with_system_fields(table["tableName"], table["documentType"])
    paths = sorted({".".join(path) for path in field_paths(document)}, key=name_order)
    indexes = {"by_id": ["_id"], "by_creation_time": ["_creationTime"]}
    indexes |= {i["indexDescriptor"]: i["fields"] for i in table.get("indexes") or ()}
    lines = [
        f"  {property_name(table['tableName'])}: {{",
        f"    document: {type_of(document, id_type='Id')};",
        f"    fieldPaths: {_string_union(paths)};",
        "    indexes: {",
        *(f"      {property_name(n)}: [{', '.join(map(quoted, f))}];" for n, f in indexes.items()),
        "    };",
        "    searchIndexes: {",
        *(
            f"      {property_name(i['indexDescriptor'])}: {{ searchField: {quoted(i['searchField'])}; "
            f"filterFields: {_string_union(i['filterFields'])} }};"
            for i in table.get("searchIndexes") or ()
        ),
        "    };",
        "    vectorIndexes: {",
        *(
            f"      {property_name(i['indexDescriptor'])}: {{ vectorField: {quoted(i['vectorField'])}; "
            f"dimensions: number; filterFields: {_string_union(i['filterFields'])} }};"
            for i in table.get("vectorIndexes") or ()
        ),
        "    };",
        "  };",
    ]
    return "".join(f"{line}\n" for line in lines)


def _with_system_fields(table: str, validator: Mapping[str, Any]) -> dict[str, Any]:
    if validator["type"] == "union":
        return {"type": "union", "value": [_with_system_fields(table, v) for v in validator["value"]]}
    if validator["type"] != "object":
        return {"type": "any"}
    system = {
        "_id": {"fieldType": {"type": "id", "tableName": table}, "optional": False},
        "_creationTime": {"fieldType": {"type": "number"}, "optional": False},
    }
    return {"type": "object", "value": {**validator["value"], **system}}


def _string_union(values: Sequence[str]) -> str:
    return " | ".join(f"`{v}`" if "${" in v else quoted(v) for v in values) or "never"
