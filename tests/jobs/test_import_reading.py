"""Whoever reads an upload says the same: a process of its own, or a thread of the backend for a small one."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cvx.backend.bulk import (
    ImportDone,
    ImportFailed,
    ImportOrder,
    ImportPlan,
    ImportReport,
    ImportSurvey,
    Reading,
    TablePlan,
    read_upload,
)
from cvx.backend.config import Limits
from cvx.backend.store import read_documents
from tests.jobs.transfer_client import zipped
from tests.processes import descendants

THREAD = Limits()
PROCESS = replace(THREAD, import_in_thread_bytes_max=0)
PLAN = ImportPlan([TablePlan("", "t", 10_001, 3, [(4, [["n"]])])], {"": {"10001": "t"}}, {})
ROW = b'{"n":1,"text":"a word or two"}\n'


def order_of(folder: Path, data: bytes, format: str) -> ImportOrder:
    folder.mkdir()
    (folder / "part-00001").write_bytes(data[:10])
    (folder / "part-00002").write_bytes(data[10:])
    (folder / "parts").write_text("part-00001\npart-00002")
    return ImportOrder(str(folder), format, None if format == "zip" else "t", "", 1.7e12, digest=True)


async def heard(reading: Reading) -> list[ImportReport]:
    """Everything it says, up to its last word."""
    said = [await reading.report()]
    if isinstance(said[0], ImportSurvey):
        reading.go_on(PLAN)
    while not isinstance(said[-1], ImportDone | ImportFailed):
        said.append(await reading.report())
    return said


def documents_in(folder: Path) -> list[bytes]:
    """What stands in the bulk files, without what is drawn by lot."""
    texts = [raw for path in sorted(folder.glob("*.run")) for _, _, raw, *_ in read_documents(path, 0, 99)]
    return sorted(text.partition(b',"_id"')[0] for text in texts)


@pytest.mark.parametrize(
    ("format", "data", "ends_with"),
    [
        ("jsonLines", ROW * 30, ImportDone),
        ("jsonArray", b'[{"n": 1}, {"n": 2}]', ImportDone),
        ("csv", b"n,text\n1,a\n2,b\n", ImportDone),
        ("jsonLines", ROW * 3 + b'{"n":\n', ImportFailed),
        ("jsonLines", ROW * 3 + b"7\n" + ROW, ImportFailed),
        ("jsonLines", b'{"_id":"not an id","n":1}\n', ImportFailed),
        ("jsonArray", b'[{"n": 1}, ' + b"[" * 5_000, ImportFailed),
        ("csv", b"n,text\n1,a\n2,b,c,d\n", ImportFailed),
    ],
)
def test_both_say_the_same(tmp_path: Path, format: str, data: bytes, ends_with: type) -> None:
    async def read(name: str, limits: Limits) -> tuple[list[ImportReport], list[bytes]]:
        reading = await read_upload(order_of(tmp_path / name, data, format), limits)
        try:
            return await heard(reading), documents_in(tmp_path / name)
        finally:
            await reading.close()

    async def both() -> None:
        in_thread, in_process = await asyncio.gather(read("thread", THREAD), read("process", PROCESS))
        assert in_thread == in_process
        assert isinstance(in_thread[0][-1], ends_with)
        if ends_with is ImportDone:
            assert in_thread[1], "no document was made"

    asyncio.run(both())


@pytest.mark.parametrize(
    ("format", "data", "starts"),
    [
        ("jsonLines", ROW * 30, False),
        ("jsonLines", ROW * (THREAD.import_in_thread_bytes_max // len(ROW) + 1), True),
        ("jsonLines", b"{}\n" * (THREAD.import_in_thread_rows_max + 1), True),
        ("jsonArray", b"[" + b"{}," * THREAD.import_in_thread_rows_max + b"{}]", True),
        ("csv", b"n\r" * (THREAD.import_in_thread_rows_max + 1), True),
        ("zip", zipped({"t/documents.jsonl": ROW}), True),
    ],
)
def test_only_what_is_small_stays_here(tmp_path: Path, format: str, data: bytes, starts: bool) -> None:
    async def read() -> None:
        before = descendants(os.getpid())
        reading = await read_upload(order_of(tmp_path / "upload", data, format), THREAD)
        begun = set(descendants(os.getpid())) - set(before)
        assert bool(begun) == starts
        assert isinstance((await heard(reading))[-1], ImportDone)
        await reading.close()

    asyncio.run(read())


@pytest.mark.parametrize("limits", [THREAD, PROCESS])
def test_what_is_closed_writes_no_more(tmp_path: Path, limits: Limits) -> None:
    """At any moment: before the survey was heard, and while rows are made."""

    async def read() -> None:
        limits_of_order = {"import_run_rows": 10, "import_block_bytes": 500}
        for at, reports in enumerate((0, 1, 2)):
            folder = tmp_path / str(at)
            order = order_of(folder, ROW * 3_000, "jsonLines")
            reading = await read_upload(
                ImportOrder(order.folder, order.format, "t", "", 1.7e12, limits_of_order), limits
            )
            for number in range(reports):
                assert not isinstance(await reading.report(), ImportFailed | ImportDone)
                if number == 0:
                    reading.go_on(PLAN)
            await reading.close()
            left = sorted(folder.iterdir())
            await asyncio.sleep(0.1)
            assert sorted(folder.iterdir()) == left

    asyncio.run(read())
