"""The data folder: who may have it, and what is refused (fault-list.md 8–13, 28)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cvx.backend.config import Limits
from cvx.backend.store import CommitRecord, Revision, open_store
from cvx.backend.store.open import DATABASE_FILE, OpenStore
from cvx.errors import CvxError

T = 1


def id_of(n: int) -> bytes:
    return n.to_bytes(16, "big")


def fail(error: BaseException) -> None:
    raise AssertionError(f"fatal: {error}")


def opened(folder: Path) -> OpenStore:
    return open_store(folder, Limits(), fail)


def put(store: OpenStore, ts: int, n: int, document: bytes = b'{"some":"document"}') -> None:
    store.append(CommitRecord(ts, [Revision(T, id_of(n), document, len(document), None)], []))


def refusal(folder: Path) -> CvxError:
    with pytest.raises(CvxError) as caught:
        opened(folder)
    assert caught.value.hint, "every refusal says what to do"
    return caught.value


def leave_without_closing(folder: Path, commits: int) -> None:
    """A process that writes, waits for the disk, and is gone."""
    code = (
        "import asyncio, os, sys\n"
        "from tests.store.test_folder import opened, put\n"
        "from pathlib import Path\n"
        f"store = opened(Path({str(folder)!r}))\n"
        f"for n in range(1, {commits} + 1): put(store, n, n)\n"
        f"asyncio.run(store.durable({commits}))\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    store = opened(tmp_path)
    code = f"from tests.store.test_folder import opened; from pathlib import Path; opened(Path({str(tmp_path)!r}))"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert other.returncode != 0
    assert "DataFolderInUse" in other.stderr and f"process {os.getpid()}" in other.stderr
    store.close()
    opened(tmp_path).close()


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    leave_without_closing(tmp_path, 25)
    store = opened(tmp_path)
    assert store.latest_ts == 25
    view = store.view()
    assert view.count(T) == 25
    view.close()
    store.close()


def test_a_truncated_log_is_noticed(tmp_path: Path) -> None:
    leave_without_closing(tmp_path, 25)
    wal = tmp_path / f"{DATABASE_FILE}-wal"
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size // 2)
    error = refusal(tmp_path)
    assert error.code == "DataLost" and "acknowledged" in error.message
    (tmp_path / "high-water").unlink()  # As the hint says.
    opened(tmp_path).close()


def test_a_missing_data_file_is_noticed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, 1)
    store.close()
    (tmp_path / DATABASE_FILE).unlink()
    assert refusal(tmp_path).code == "DataLost"


def test_a_newer_format_is_refused_with_instructions(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.execute("PRAGMA user_version=99")
    error = refusal(tmp_path)
    assert error.code == "DataTooNew" and "99" in error.message and "Upgrade" in (error.hint or "")


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content in (("text", b"not a database at all, but long enough to look at" * 100),):
        folder = tmp_path / name
        folder.mkdir()
        (folder / DATABASE_FILE).write_bytes(content)
        assert refusal(folder).code == "DataCorrupt"
    folder = tmp_path / "other"
    folder.mkdir()
    with sqlite3.connect(folder / DATABASE_FILE) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    assert refusal(folder).code == "NotOurData"


def test_a_flipped_byte_in_a_document_is_not_served(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, 1, b'{"balance":"ONEMILLION"}')
    store.close()
    path = tmp_path / DATABASE_FILE
    raw = path.read_bytes()
    assert raw.count(b"ONEMILLION") == 2, "the document and its line in the log"
    path.write_bytes(raw.replace(b"ONEMILLION", b"ONEBILLION"))
    store = opened(tmp_path)
    view = store.view()
    with pytest.raises(CvxError) as caught:
        view.get(T, id_of(1))
    assert caught.value.code == "DataCorrupt"
    view.close()
    store.close()


def test_a_damaged_page_is_found_after_an_unclean_end(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for n in range(1, 200):
        put(store, n, n, b'{"text":"' + b"x" * 300 + b'"}')
    store.close()
    leave_without_closing_after(tmp_path)
    path = tmp_path / DATABASE_FILE
    raw = bytearray(path.read_bytes())
    for page in range(3, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(bytes(raw))
    assert refusal(tmp_path).code == "DataCorrupt"


def leave_without_closing_after(folder: Path) -> None:
    code = (
        "import os\nfrom pathlib import Path\nfrom tests.store.test_folder import opened\n"
        f"opened(Path({str(folder)!r}))\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_full_disk_refuses_the_commit_and_recovers(tmp_path: Path) -> None:
    store = opened(tmp_path)
    put(store, 1, 1)
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count={pages + 5}")  # SQLite then reports a full disk.
    with pytest.raises(CvxError) as caught:
        put(store, 2, 2, b"x" * 200_000)
    assert caught.value.code == "DiskFull" and store.latest_ts == 1
    store._writer.execute("PRAGMA max_page_count=1000000")
    put(store, 3, 3)
    view = store.view()
    assert view.get(T, id_of(2)) is None and view.get(T, id_of(3)) is not None and view.count(T) == 2
    view.close()
    store.close()


def test_after_a_failed_sync_nothing_is_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[BaseException] = []
    store = open_store(tmp_path, Limits(), told.append)
    put(store, 1, 1)

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async def body() -> None:
        await store.durable(1)
        monkeypatch.setattr(os, "fdatasync", broken)
        put(store, 2, 2)
        with pytest.raises(CvxError) as caught:
            await asyncio.wait_for(store.durable(2), 60)
        assert caught.value.code == "StoreFailed"
        with pytest.raises(CvxError) as refused:
            put(store, 3, 3)
        assert refused.value.code == "StoreFailed"

    asyncio.run(body())
    assert len(told) == 1
    store.close()


def test_a_replaced_database_file_is_fatal(tmp_path: Path) -> None:
    told: list[BaseException] = []
    store = open_store(tmp_path, Limits(), told.append)
    put(store, 1, 1)
    path = tmp_path / DATABASE_FILE
    path.rename(tmp_path / "moved")
    path.write_bytes((tmp_path / "moved").read_bytes())

    async def body() -> None:
        put(store, 2, 2)
        with pytest.raises(CvxError):
            await asyncio.wait_for(store.durable(2), 60)

    asyncio.run(body())
    assert "replaced" in str(told[0])
    store.close()


def test_who_waits_for_the_disk_hears_of_the_end_on_its_own_thread(tmp_path: Path) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)  # Refuses what is not for another thread.
        store = opened(tmp_path)
        put(store, 1, 1)
        flusher = store._flusher
        flusher._stopping = True  # The thread ends before it sees who waits.
        flusher.wake()
        flusher._thread.join()
        waiting = asyncio.create_task(store.durable(1))
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        await asyncio.wait_for(waiting, 60)

    asyncio.run(main())


def test_no_more_files_is_an_error_like_others(tmp_path: Path) -> None:
    store = opened(tmp_path)
    path = store._path
    store._path = tmp_path / "nowhere" / "else"
    with pytest.raises(CvxError) as caught:
        store.view(detached=True)
    assert caught.value.code == "StoreError"
    held = store.view()
    with pytest.raises(CvxError):
        put(store, 1, 1)  # Before anything changes, the view needs a connection of its own.
    assert held.count(T) == 0
    store._path = path
    put(store, 2, 1)
    assert (held.count(T), store.view().count(T)) == (0, 1)
    held.close()
    store.close()
