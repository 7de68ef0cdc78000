"""The importer's own process: reads an upload, and writes bulk files that the store can take in.

`python -m cvx.backend.bulk.import_child` speaks lines of JSON with the backend: it is told what to read, says which
tables it found, is told where they go, and then reports bulk files and progress until it is done or has met
something that cannot be imported. Parsing millions of rows here leaves the backend's event loop to those who are
waiting for answers.

Rule: it opens nothing but the upload and its own folder, and ends when nobody listens any more.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace

import msgspec

from cvx.backend.bulk.messages import ImportOrder, ImportPlan, ImportReport
from cvx.backend.bulk.standard_output import standard_output
from cvx.backend.bulk.upload_reader import UploadReader, saying_failures
from cvx.backend.config import Limits


def main() -> None:
    """Serve one import over standard input and output."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)  # Whoever waits for an answer comes first.
    encoder = msgspec.json.Encoder()
    out = standard_output()

    def say(report: ImportReport) -> None:
        out.write(encoder.encode(report) + b"\n")
        out.flush()

    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=ImportOrder)
    _keep_memory_small(order)

    def work() -> None:
        reader = UploadReader(order, say)
        say(reader.survey())
        line = sys.stdin.buffer.readline()
        if line:
            reader.read(msgspec.json.decode(line, type=ImportPlan))

    try:
        saying_failures(work, say)
    except BrokenPipeError:  # The backend is gone; the next one begins again.
        os._exit(1)


def _keep_memory_small(order: ImportOrder) -> None:
    try:
        import resource
    except ImportError:  # Not on every platform.
        return
    limit = replace(Limits(), **order.limits).import_process_bytes_max
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
