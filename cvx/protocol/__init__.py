"""Everything the two wings say to each other, and who may say what when. Sans-IO.

Import the conversation you need by its file: `cvx.protocol.calls`, `.push`, `.schema`, `.admin`,
`.sync_messages`, `.sync_session`, `.sync_client`. Their names would collide in one face (a sync `Mutation`, a
log `Completion`, a pushed `Schema`), so this face re-exports none but the most used.
"""

from cvx.protocol.calls import (
    CallingClient,
    decode_body,
    encode_body,
    error_body,
    failure_body,
    function_args,
    output_format,
    success_body,
)
from cvx.protocol.schema import Schema, TableSchema, check_schema, parse_schema

__all__ = [
    "CallingClient",
    "Schema",
    "TableSchema",
    "check_schema",
    "decode_body",
    "encode_body",
    "error_body",
    "failure_body",
    "function_args",
    "output_format",
    "parse_schema",
    "success_body",
]
