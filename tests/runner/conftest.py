"""One bundle of the test app for all runner tests of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cvx.backend.runner import CodeBundle
from tests.runner.host import Body, build_bundle, pool_of


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> CodeBundle:
    return build_bundle(tmp_path_factory.mktemp("runner-app"))


@pytest.fixture
def with_pool(bundle: CodeBundle) -> Callable[..., None]:
    """`with_pool(body, children=1, **limits)`: run a coroutine function with a started pool."""

    def start(body: Body, children: int = 1, **limits: Any) -> None:
        async def main() -> None:
            async with pool_of(bundle, children, **limits) as runner:
                await body(runner)

        asyncio.run(main())

    return start
