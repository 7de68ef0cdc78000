"""Validator JSON → Validator, and two questions about trees: is one wider, may it describe a document.

Source: reference/cli-and-deploy.md §3.1, §3.2; values-and-sync.md §1.3.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from cvx.errors import CvxError
from cvx.values.json import from_json
from cvx.values.paths import is_identifier
from cvx.values.validators import (
    ANYTHING,
    Anything,
    Array,
    CommitTimestamp,
    Field,
    Id,
    Literal,
    Object,
    Record,
    Scalar,
    Union,
    Validator,
)
from cvx.values.value import SYSTEM_FIELDS, print_kind

VALIDATOR_NESTING_MAX: Final = 128
_SCALAR_KINDS: Final = frozenset({"null", "number", "bigint", "boolean", "string", "bytes"})
_LITERAL_TYPES: Final = (str, bool, int, float)


def parse_validator(obj: Any) -> Validator:
    """The tree that parsed validator JSON describes.

    Raises CvxError "InvalidValidator" when it is malformed, "InvalidRecordType" for a record whose keys are
    not all strings and ids.
    """
    return _parsed(obj, VALIDATOR_NESTING_MAX)


@lru_cache(maxsize=4096)
def parse_validator_text(text: str) -> Validator:
    """As `parse_validator`, from the JSON string that function analysis delivers. Trees are shared."""
    try:
        obj = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _malformed(f"not valid JSON: {error}") from None
    return parse_validator(obj)


def _malformed(why: str) -> CvxError:
    return CvxError("InvalidValidator", f"Not a validator: {why}.")


def _parsed(obj: Any, levels_left: int) -> Validator:
    if levels_left == 0:
        raise _malformed(f"nested more than {VALIDATOR_NESTING_MAX} levels deep")
    if not isinstance(obj, dict):
        raise _malformed(f"expected an object, found {print_kind(obj)}")
    kind = obj.get("type")
    if kind in _SCALAR_KINDS:
        return Scalar(kind)
    if kind == "object":
        return _parsed_object(_member(obj, "value", dict), levels_left)
    if kind == "union":
        return Union(tuple(_parsed(member, levels_left - 1) for member in _member(obj, "value", list)))
    if kind == "array":
        return Array(_parsed(obj.get("value"), levels_left - 1))
    if kind == "id":
        return Id(_member(obj, "tableName", str))
    if kind == "literal":
        return _parsed_literal(obj)
    if kind == "record":
        return _parsed_record(obj, levels_left)
    if kind in ("any", "map", "set"):  # Maps and sets are gone; what they described is not checked.
        return ANYTHING
    if kind == "commitTs":
        return CommitTimestamp()
    raise _malformed(f"'{str(kind)[:64]}' is not a type of validator")


def _member(obj: dict[str, Any], name: str, expected: type) -> Any:
    value = obj.get(name)
    if type(value) is not expected:
        raise _malformed(f"'{name}' of type '{obj.get('type')}' must be of kind {print_kind(expected())}")
    return value


def _parsed_object(fields: dict[str, Any], levels_left: int) -> Object:
    for name in fields:
        if not is_identifier(name):
            raise CvxError(
                "InvalidValidator",
                f"'{name[:64]}' cannot be a field of v.object: it is not an identifier.",
                hint="Use letters, digits and underscores (64 at most, not starting with a digit), or v.record.",
            )
    return Object({name: _parsed_field(field, levels_left) for name, field in fields.items()})


def _parsed_field(field: Any, levels_left: int) -> Field:
    if not isinstance(field, dict) or type(field.get("optional", False)) is not bool:
        raise _malformed("a field must be an object with 'fieldType' and 'optional'")
    return Field(_parsed(field.get("fieldType"), levels_left - 1), field.get("optional", False))


def _parsed_literal(obj: dict[str, Any]) -> Literal:
    if "value" not in obj:
        raise _malformed("a literal must have a 'value'")
    value = from_json(obj["value"])
    if type(value) not in _LITERAL_TYPES:
        raise _malformed(f"a literal cannot be {print_kind(value)}")
    return Literal(value)


def _parsed_record(obj: dict[str, Any], levels_left: int) -> Record:
    keys = _parsed(obj.get("keys"), levels_left - 1)
    values = _parsed_field(obj.get("values"), levels_left)
    if not _is_string_like(keys):
        raise CvxError(
            "InvalidRecordType",
            f"The keys of a record must be strings or ids, and {keys.source()} is neither.",
            hint="Use v.string(), v.id(...), or a union of those; for known names, use v.object.",
        )
    if values.optional:
        raise CvxError(
            "InvalidRecordType", "The values of a record cannot be optional.", hint="Remove v.optional."
        )
    return Record(keys, values.validator)


def _is_string_like(keys: Validator) -> bool:
    if isinstance(keys, Union):
        return all(map(_is_string_like, keys.members))
    return isinstance(keys, Id) or keys == Scalar("string")


# --------------------------------------------------------------------------------------------------- questions


def document_validator(validator: Validator) -> Validator:
    """`validator` as what a table's documents are checked against, without their system fields.

    A declared `_id` or `_creationTime` is dropped. Raises CvxError "InvalidSchema" unless it is an object, a
    union of such, or any; and for other fields that start with an underscore.
    """
    if isinstance(validator, Anything):
        return validator
    if isinstance(validator, Union):
        members = tuple(map(document_validator, validator.members))
        return validator if members == validator.members else Union(members)
    if not isinstance(validator, Object):
        raise CvxError(
            "InvalidSchema",
            f"Documents are objects, so a table cannot hold {validator.source()}.",
            hint="Use an object, a union of objects, or v.any().",
        )
    for name in validator.fields:
        if name.startswith("_") and name not in SYSTEM_FIELDS:
            raise CvxError(
                "InvalidSchema",
                f"Field '{name}' starts with an underscore, which is reserved for system fields.",
                hint="Rename the field.",
            )
    if SYSTEM_FIELDS.isdisjoint(validator.fields):
        return validator
    return Object({name: field for name, field in validator.fields.items() if name not in SYSTEM_FIELDS})


def is_superset_of(wider: Validator, narrower: Validator) -> bool:
    """Whether certainly every value that fits `narrower` fits `wider`. May be False for want of a proof."""
    if isinstance(wider, Anything) or wider == narrower:
        return True
    if isinstance(narrower, Union):
        return all(is_superset_of(wider, member) for member in narrower.members)
    if isinstance(wider, Union):
        return any(is_superset_of(member, narrower) for member in wider.members)
    if isinstance(wider, Scalar):
        if isinstance(narrower, Literal):
            return type(narrower.value) is wider.python_type
        return wider.kind == "string" and isinstance(narrower, Id)
    if isinstance(wider, CommitTimestamp):
        is_int64 = isinstance(narrower, Literal) and type(narrower.value) is int
        return is_int64 or narrower == Scalar("bigint")
    if isinstance(wider, Array) and isinstance(narrower, Array):
        return is_superset_of(wider.element, narrower.element)
    if isinstance(wider, Record):
        return _record_is_superset_of(wider, narrower)
    if isinstance(wider, Object) and isinstance(narrower, Object):
        return _object_is_superset_of(wider, narrower)
    return False


def _record_is_superset_of(wider: Record, narrower: Validator) -> bool:
    if isinstance(narrower, Record):
        return is_superset_of(wider.keys, narrower.keys) and is_superset_of(wider.values, narrower.values)
    if isinstance(narrower, Object):
        return is_superset_of(wider.keys, Scalar("string")) and all(
            is_superset_of(wider.values, child) for child in narrower.children()
        )
    return False


def _object_is_superset_of(wider: Object, narrower: Object) -> bool:
    for name, field in narrower.fields.items():
        other = wider.fields.get(name)
        if other is None or (field.optional and not other.optional):
            return False
        if not is_superset_of(other.validator, field.validator):
            return False
    return all(field.optional for name, field in wider.fields.items() if name not in narrower.fields)
