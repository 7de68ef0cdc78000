"""Imports and exports on the wire: what the official command line sends, and what it polls.

Source: reference/cli-and-deploy.md §5.3, §5.4.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from cvx.errors import CvxError
from cvx.values import check_table_name

ImportMode = Literal["append", "replace", "replaceAll", "requireEmpty"]
ImportFormat = Literal["csv", "jsonLines", "jsonArray", "zip"]
TableFormat = Literal["jsonl", "json", "csv"]
"""Of a table that is exported alone: ours, like the route."""

IMPORT_STATUS = "_system/cli/queryImport"
IMPORT_LIST = "_system/cli/queryImport:list"
LATEST_EXPORT = "_system/cli/exports:getLatest"
TABLE_ROWS_HEADER = "x-cvx-rows"
"""Ours: about how many rows the table has that an answer streams."""


class _Camel(Struct, rename="camel", frozen=True, kw_only=True):
    """Base of everything here: camelCase keys on the wire."""


class ImportRequest(_Camel, frozen=True, kw_only=True):
    """What to make of an upload. The last three are ours: `dry_run` asks for the preview only; `confirmed` says that
    whoever imports has agreed to deletions already, so work may begin before `perform_import`; `skip_unchanged` ends an
    import at once that would replace tables by what an import of the same file brought, when nobody has changed it
    since."""

    format: ImportFormat
    mode: ImportMode
    table_name: str | None = None
    component_path: str | None = None
    dry_run: bool = False
    confirmed: bool = False
    skip_unchanged: bool = False


def check_destination(format: ImportFormat, table: str | None) -> None:
    """Whether an import may go there: asked before an upload begins, and again by the deployment. Raises CvxError:
    InvalidImport, InvalidName."""
    if format == "zip":
        if table is not None:
            raise CvxError("InvalidImport", "A ZIP names its tables itself: leave tableName out.")
    elif table is None:
        raise CvxError("InvalidImport", "tableName is needed, except for a ZIP.")
    else:
        try:
            check_table_name(table)
        except CvxError as error:
            raise CvxError(
                "InvalidName",
                f"'{table[:64]}' is not a valid table name: {error.message}",
                hint="Use letters, digits and underscores, beginning with a letter.",
            ) from None


class StartUploadResponse(_Camel, frozen=True, kw_only=True):
    upload_token: str


class FinishUploadRequest(Struct, frozen=True, kw_only=True, rename={"import_": "import", "upload_token": "uploadToken", "part_tokens": "partTokens"}):  # fmt: skip
    """All parts are there, in this order."""

    import_: ImportRequest
    upload_token: str
    part_tokens: list[Any]


class FinishUploadResponse(_Camel, frozen=True, kw_only=True):
    import_id: str


class ImportIdRequest(_Camel, frozen=True, kw_only=True):
    """Body of perform_import and cancel_import."""

    import_id: str


class OneShotResponse(_Camel, frozen=True, kw_only=True):
    num_written: int


class SetExpirationRequest(_Camel, frozen=True, kw_only=True):
    """`expiration_ts_ns`: nanoseconds since 1970, as a number."""

    expiration_ts_ns: int
