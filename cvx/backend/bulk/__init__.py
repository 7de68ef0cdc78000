"""Files of rows ⇄ the store, in processes of their own, so that the one that serves looks at few rows or none.

`python -m cvx.backend.bulk.import_child` turns an upload into bulk files (`read_upload` starts it, or reads a small
upload in a thread); `python -m cvx.backend.bulk.export_child` turns a snapshot into a ZIP or a stream. What is imported
and exported when, and for whom, is decided in `jobs`.

Rule: this face imports neither the two programs nor what they read with: a backend may never need it.
"""

from cvx.backend.bulk.messages import (
    UNPACKED_FILES,
    ExportBegun,
    ExportDone,
    ExportFailed,
    ExportOrder,
    ExportProgress,
    ExportReport,
    FilesUnpacked,
    FoundTable,
    ImportDone,
    ImportFailed,
    ImportOrder,
    ImportPlan,
    ImportProgress,
    ImportReport,
    ImportSurvey,
    Run,
    RunReady,
    StoredFile,
    TableDone,
    TablePlan,
    UnpackedFile,
)
from cvx.backend.bulk.reading import Reading, read_upload
from cvx.backend.bulk.uploads import Parts, Uploads, check_room, parts_of

EXPORT_PROGRAM = "cvx.backend.bulk.export_child"

__all__ = [
    "EXPORT_PROGRAM",
    "UNPACKED_FILES",
    "ExportBegun",
    "ExportDone",
    "ExportFailed",
    "ExportOrder",
    "ExportProgress",
    "ExportReport",
    "FilesUnpacked",
    "FoundTable",
    "ImportDone",
    "ImportFailed",
    "ImportOrder",
    "ImportPlan",
    "ImportProgress",
    "ImportReport",
    "ImportSurvey",
    "Parts",
    "Reading",
    "Run",
    "RunReady",
    "StoredFile",
    "TableDone",
    "TablePlan",
    "UnpackedFile",
    "Uploads",
    "check_room",
    "parts_of",
    "read_upload",
]
