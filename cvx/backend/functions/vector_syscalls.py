"""`ctx.vectorSearch` in actions: the syscall's JSON ⇄ `Database.vector_search`.

Source: reference/runtime-and-database.md §1.4, §9.2.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cvx.backend.database import Database
from cvx.backend.functions.checks import decode_syscall
from cvx.errors import CvxError


class _Query(msgspec.Struct):
    indexName: str
    vector: Any
    limit: Any = None
    expressions: Any = None


class _Args(msgspec.Struct):
    query: _Query


_args = msgspec.json.Decoder(_Args)
_encode = msgspec.json.Encoder().encode


async def vector_search(db: Database, component: str, raw: bytes) -> bytes:
    """`1.0/actions/vectorSearch`: `{"results": [{"_id", "_score"}, …]}`, the nearest first."""
    query = decode_syscall(_args, raw, "ctx.vectorSearch").query
    table, dot, index = query.indexName.partition(".")
    if not dot:
        raise CvxError(
            "InvalidArgument",
            "Invalid argument `indexName` for `ctx.vectorSearch`: it must be 'table.index'.",
        )
    hits = await db.vector_search(
        table, index, query.vector, query.limit, query.expressions, component=component
    )
    return _encode({"results": [{"_id": str(id), "_score": score} for id, score in hits]})
