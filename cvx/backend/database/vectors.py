"""Vectors: what a vector index holds of a document, and what a search may ask.

A vector is kept as little-endian float32s of length 1 (cosine similarity is then a product of two vectors), a filter
value as a digest. A document whose field is not an array of as many finite float64s as the index has dimensions is not
in the index.

Rule: pure, and without NumPy: a backend without vector indexes never loads it. The bytes made here are stored on disk.

Source: reference/runtime-and-database.md §9.2.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database.indexes import IndexInfo, value_at
from cvx.errors import CvxError
from cvx.protocol.schema import VectorIndex
from cvx.values import UNDEFINED, encode_value, from_json

FILTER_BYTES = 16


def dimensions_of(index: IndexInfo) -> int:
    """How many numbers a vector of the index has."""
    assert isinstance(index.definition, VectorIndex)
    return index.definition.dimensions


def vector_of(index: IndexInfo, document: dict[str, Any]) -> tuple[bytes, bytes] | None:
    """(vector, filters) as a vector index holds them of a document; None when it does not hold the document."""
    value = value_at(document, index.value_path)
    if type(value) is not list or len(value) != dimensions_of(index):
        return None
    if not all(type(number) is float for number in value):
        return None
    vector = unit_vector(value)
    if vector is None:
        return None
    return vector, b"".join([filter_digest(value_at(document, path)) for path in index.filter_paths])


def unit_vector(numbers: Sequence[float]) -> bytes | None:
    """The float32s of a vector made length 1 (all 0 stays all 0); None when a number is not finite."""
    largest = max(map(abs, numbers))
    if not math.isfinite(sum(map(abs, numbers))) and not all(map(math.isfinite, numbers)):
        return None
    if largest > 0.0:
        scaled = [number / largest for number in numbers]  # So that no square over- or underflows.
        length = math.sqrt(sum([number * number for number in scaled]))
        numbers = [number / length for number in scaled]
    found = array("f", numbers)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()


def filter_digest(value: Any) -> bytes:
    """What stands for a value (UNDEFINED: missing) of a filter field."""
    return blake2b(encode_value(value), digest_size=FILTER_BYTES).digest()


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """A search: the nearest `limit` to `vector`, among documents for which any of `filters` (position, digest) holds
    (None: among all)."""

    vector: bytes
    limit: int
    filters: tuple[tuple[int, bytes], ...] | None


def vector_query(
    where: str, index: IndexInfo, vector: Any, limit: Any, expression: Any, limits: Limits
) -> VectorQuery:
    """A search as the npm package sends it, checked. `where`: "table.index", for messages.

    Raises CvxError: VectorDimensionsMismatch, InvalidVectorQuery, InvalidVectorLimit, VectorLimitTooLargeError,
    InvalidVectorSearchFilter, IncorrectVectorFilterField, TooManyElementsInVectorQueryError.
    """
    wanted = dimensions_of(index)
    if type(vector) is not list or not all(type(number) in (int, float) for number in vector):
        raise CvxError(
            "InvalidVectorQuery", f"The vector of a search in {where} must be an array of finite numbers."
        )
    if len(vector) != wanted:
        raise CvxError(
            "VectorDimensionsMismatch",
            f"Wrong number of dimensions in a search in {where}: expected {wanted}, got {len(vector)}.",
            hint="Use the same model for the query as for the documents.",
        )
    unit = unit_vector([float(number) for number in vector])
    if unit is None:
        raise CvxError(
            "InvalidVectorQuery", f"The vector of a search in {where} has a number that is not finite."
        )
    filters = None if expression is None else _filters(where, index, expression, limits)
    return VectorQuery(unit, _limit(where, limit, limits), filters)


def _limit(where: str, limit: Any, limits: Limits) -> int:
    if limit is None:
        return limits.vector_results_default
    if type(limit) not in (int, float) or limit != limit // 1 or limit < 1:
        raise CvxError(
            "InvalidVectorLimit", f"The limit of a search in {where} must be a whole number from 1 on."
        )
    if limit > limits.vector_results_max:
        raise CvxError(
            "VectorLimitTooLargeError",
            f"A search in {where} may ask for {limits.vector_results_max} results at most, not {limit:g}.",
        )
    return int(limit)


def _filters(where: str, index: IndexInfo, expression: Any, limits: Limits) -> tuple[tuple[int, bytes], ...]:
    """`q.eq(field, value)`, or `q.or` of such; anything else is refused."""
    found: list[tuple[int, bytes]] = []
    pending = [expression]
    while pending:
        item = pending.pop()
        if type(item) is not dict or len(item) != 1:
            raise _bad_filter(where, "it is not made of q.eq and q.or")
        ((operator, operands),) = item.items()
        if operator == "$or" and type(operands) is list:
            pending += operands
        elif operator == "$eq" and type(operands) is list and len(operands) == 2:
            found.append(_equality(where, index, *operands))
        else:
            raise _bad_filter(where, f"'{operator[:16]}' is not possible there")
        if len(found) + len(pending) > limits.vector_filters_max:
            raise CvxError(
                "TooManyElementsInVectorQueryError",
                f"The filter of a search in {where} has more than {limits.vector_filters_max} conditions.",
            )
    return tuple(dict.fromkeys(found))


def _equality(where: str, index: IndexInfo, field: Any, literal: Any) -> tuple[int, bytes]:
    name = field.get("$field") if type(field) is dict else None
    if type(name) is not str or type(literal) is not dict or "$literal" not in literal:
        raise _bad_filter(where, "q.eq compares a field with a value")
    assert isinstance(index.definition, VectorIndex)
    listed = index.definition.filter_fields
    if name not in listed:
        raise CvxError(
            "IncorrectVectorFilterField",
            f"A search in {where} filters on the field {name}, which is not one of its filter fields"
            f" ({', '.join(listed) or 'it has none'}).",
            hint="Add it to filterFields in convex/schema.ts and push.", retry_when="files",
        )  # fmt: skip
    operand = literal["$literal"]
    value = UNDEFINED if operand == {"$undefined": None} else from_json(operand)
    return listed.index(name), filter_digest(value)


def _bad_filter(where: str, why: str) -> CvxError:
    return CvxError("InvalidVectorSearchFilter", f"The filter of a search in {where} cannot be used: {why}.")
