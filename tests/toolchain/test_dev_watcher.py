"""The watcher finds every change of what counts, and nothing else, however changes and builds interleave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cvx.toolchain.dev.ports import free_pair, holder, is_free
from cvx.toolchain.dev.watcher import Watcher, WatchSet, initial_watch

DEADLINE_S = 60.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "convex" / "lib").mkdir(parents=True)
    (tmp_path / "convex" / "_generated").mkdir()
    (tmp_path / "convex" / "a.ts").write_text("export {};")
    (tmp_path / "package.json").write_text("{}")
    return tmp_path


def watched(root: Path, *files: Path) -> WatchSet:
    return WatchSet(frozenset((*files, root / "package.json", root / "convex.json")), root / "convex", root)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(body(), DEADLINE_S * 3)

    asyncio.run(bounded())


async def change(watcher: Watcher) -> set[Path]:
    return await asyncio.wait_for(watcher.changed(), DEADLINE_S)


async def nothing(watcher: Watcher) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(watcher.changed(), 0.3)


def test_each_kind_of_change_is_noticed(root: Path) -> None:
    async def body() -> None:
        watcher = Watcher(watched(root))
        try:
            acts: list[tuple[Callable[[Path], object], Path]] = [
                (lambda p: p.write_text("export const x = 1;"), root / "convex" / "a.ts"),
                (lambda p: p.write_text("export {};"), root / "convex" / "new.ts"),
                (lambda p: p.unlink(), root / "convex" / "new.ts"),
                (lambda p: p.write_text("export {};"), root / "convex" / "lib" / "deep.ts"),
                (lambda p: p.write_text("{}"), root / "convex.json"),
                (lambda p: p.unlink(), root / "convex.json"),
            ]
            for act, path in acts:
                watcher.look()
                waiting = asyncio.create_task(change(watcher))
                await asyncio.sleep(0.15)
                assert not waiting.done(), "nothing has happened yet"
                act(path)
                assert await waiting == {path}
        finally:
            await watcher.close()

    run(body)


def test_a_change_while_the_watches_are_being_made_is_not_lost(root: Path) -> None:
    """Saved in the moment between the first look and the first notice."""

    async def body() -> None:
        for number in range(20):
            watcher = Watcher(watched(root))
            try:
                watcher.look()
                waiting = asyncio.create_task(change(watcher))
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                (root / "convex" / "a.ts").write_text("x" * (number + 20))
                assert await waiting == {root / "convex" / "a.ts"}
            finally:
                await watcher.close()

    run(body)


def test_a_new_folder_is_followed(root: Path) -> None:
    async def body() -> None:
        watcher = Watcher(watched(root))
        try:
            watcher.look()
            waiting = asyncio.create_task(change(watcher))
            await asyncio.sleep(0.1)
            (root / "convex" / "fresh").mkdir()
            await asyncio.sleep(0.1)
            (root / "convex" / "fresh" / "b.ts").write_text("export {};")
            assert await waiting == {root / "convex" / "fresh" / "b.ts"}
        finally:
            await watcher.close()

    run(body)


def test_generated_files_and_editor_noise_do_not_count(root: Path) -> None:
    async def body() -> None:
        watcher = Watcher(watched(root))
        try:
            watcher.look()
            (root / "convex" / "_generated" / "api.js").write_text("export {};")
            (root / "convex" / "a.ts.swp").write_text("x")
            (root / "convex" / ".hidden.ts").write_text("x")
            (root / "unrelated.txt").write_text("x")
            await nothing(watcher)
        finally:
            await watcher.close()

    run(body)


def test_a_change_during_a_build_is_not_lost(root: Path) -> None:
    """The build read a.ts, then somebody saved it, then the build ended and said what it had read."""

    async def body() -> None:
        helper = root / "src.ts"
        helper.write_text("1")
        watcher = Watcher(initial_watch(root, root / "convex"))
        try:
            watcher.look()
            (root / "convex" / "a.ts").write_text("export const later = 1;")
            (root / "convex" / "made.ts").write_text("export {};")
            watcher.follow(watched(root, root / "convex" / "a.ts", helper))
            assert await change(watcher) == {root / "convex" / "a.ts", root / "convex" / "made.ts"}
            watcher.look()
            await nothing(watcher)
            helper.write_text("22")
            assert await change(watcher) == {helper}
        finally:
            await watcher.close()

    run(body)


def test_what_we_wrote_ourselves_is_no_change(root: Path) -> None:
    async def body() -> None:
        own = root / ".env.local"
        watcher = Watcher(watched(root, own))
        try:
            watcher.look()
            own.write_text("A=1\n")
            watcher.accept(own)
            await nothing(watcher)
            own.write_text("A=22\n")
            assert await change(watcher) == {own}
        finally:
            await watcher.close()

    run(body)


def test_a_file_replaced_with_equal_bytes_in_place_counts_by_time(root: Path) -> None:
    async def body() -> None:
        watcher = Watcher(watched(root))
        try:
            watcher.look()
            temporary = root / "convex" / "a.ts.tmp"
            temporary.write_text("export const y = 2;")
            temporary.replace(root / "convex" / "a.ts")
            assert await change(watcher) == {root / "convex" / "a.ts"}
        finally:
            await watcher.close()

    run(body)


def test_ports_that_are_taken_are_passed_over_and_their_holder_is_named() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        first, second = free_pair(port)
        assert port not in (first, second) and second == first + 1
        assert is_free(first) and is_free(second)
        assert "pid" in holder(port)
