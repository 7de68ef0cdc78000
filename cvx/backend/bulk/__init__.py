"""Files of rows ⇄ the store, in processes of their own, so that no row is looked at in the one that serves.

`python -m cvx.backend.bulk.import_child` turns an upload into bulk files; `python -m cvx.backend.bulk.export_child`
turns a snapshot into a ZIP or a stream. What is imported and exported when, and for whom, is decided in `jobs`.

Rule: this face does not import the two programs: whoever starts them names them.
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
    TableFormat,
    TablePlan,
    UnpackedFile,
)
from cvx.backend.bulk.uploads import Parts, Uploads, check_room, parts_of

IMPORT_PROGRAM = "cvx.backend.bulk.import_child"
EXPORT_PROGRAM = "cvx.backend.bulk.export_child"

__all__ = [
    "EXPORT_PROGRAM",
    "IMPORT_PROGRAM",
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
    "Run",
    "RunReady",
    "StoredFile",
    "TableDone",
    "TableFormat",
    "TablePlan",
    "UnpackedFile",
    "Uploads",
    "check_room",
    "parts_of",
]
