"""Places to run: in turn, never more than there are, no wait without an end, none lost to a cancellation."""

from __future__ import annotations

import asyncio
import random

import pytest

from cvx.backend.runner.places import Places
from cvx.errors import CvxError


def test_in_turn_and_never_more_than_there_are() -> None:
    async def body() -> None:
        places, order, running, most = Places(3, 100, 10, "things"), [], 0, 0

        async def use(n: int) -> None:
            nonlocal running, most
            async with places.one():
                order.append(n)
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= 1

        await asyncio.gather(*(use(n) for n in range(50)))
        assert order == list(range(50)) and most == 3

    asyncio.run(body())


def test_waiting_ends() -> None:
    async def body() -> None:
        hurried = Places(1, 1, 0.05, "things")
        async with hurried.one():
            with pytest.raises(CvxError, match=r"for 0\.05 s") as caught:
                await enter(hurried)
            assert (caught.value.code, caught.value.kind) == ("TooManyConcurrentRequests", "overloaded")
        await enter(hurried)
        places = Places(1, 1, 60, "things")
        async with places.one():
            waiting = asyncio.create_task(enter(places))
            await asyncio.sleep(0)
            with pytest.raises(CvxError, match="Too many things are waiting"):
                await enter(places)
            places.close()
            for late in (waiting, enter(places)):
                with pytest.raises(CvxError, match="stopping"):
                    await late

    asyncio.run(body())


@pytest.mark.parametrize("seed", range(20))
def test_no_place_is_lost(seed: int) -> None:
    chance = random.Random(seed)

    async def body() -> None:
        places = Places(2, 1_000, 0.003, "things")

        async def use() -> None:
            async with places.one():
                await asyncio.sleep(chance.choice([0, 0, 0.001, 0.002]))
                if chance.random() < 0.2:
                    raise ValueError

        tasks = []
        for _ in range(300):
            tasks.append(asyncio.create_task(use()))
            await asyncio.sleep(chance.choice([0, 0, 0.0005]))
            if chance.random() < 0.4:
                chance.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Both are free again, and no third one is.
        async with places.one(), places.one():
            with pytest.raises(CvxError, match="No place"):
                await enter(places)

    asyncio.run(body())


async def enter(places: Places) -> None:
    async with places.one():
        pass
