"""The user's line behind an error's stack: places as a deployment reports them, found again in the project.

A deployment maps its stacks to source files, with paths relative to the functions folder
(`at handler (../convex/messages.ts:8:5)`). Rule: only files of the project count, and none of its packages.
"""

from __future__ import annotations

import re
from pathlib import Path

from cvx.errors import CvxError
from cvx.toolchain.progress import Diagnostic, code_frame, diagnostics_of
from cvx.toolchain.project.project import Project

_PLACE = re.compile(r"^\s+at (?:.*\()?([^()\s]+):(\d+):(\d+)\)?$", re.MULTILINE)
FILE_BYTES_MAX = 4 << 20


def with_code_frame(project: Project | None, error: CvxError) -> CvxError:
    """The same error with the innermost line of the user's code that its message's stack names.

    Unchanged when there is no project, no such line, or the error shows its places already.
    """
    if project is None or diagnostics_of(error):
        return error
    for path, line, column in _PLACE.findall(error.message):
        file = _own_file(project, path)
        if file is None:
            continue
        frame = code_frame(file.read_text("utf-8", "replace"), int(line), int(column))
        if frame:
            what = error.message.split("\n", 1)[0]
            name = file.relative_to(project.root).as_posix()
            found = Diagnostic(
                what, source="function", file=name, line=int(line), column=int(column), frame=frame
            )
            error.details = {**error.details, "diagnostics": (found,)}
            return error
    return error


def _own_file(project: Project, path: str) -> Path | None:
    root = project.root.resolve()
    for folder in (project.functions_dir, root):
        file = (folder / path).resolve()
        inside = file.is_relative_to(root) and "node_modules" not in file.relative_to(root).parts
        if inside and file.is_file() and file.stat().st_size <= FILE_BYTES_MAX:
            return file
    return None
