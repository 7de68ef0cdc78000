"""Fixtures that several suites share, and the one option they have."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.live_backend import LiveBackend


# A shell that starts the suite in the background has it ignore Ctrl-C, and every process that a test starts would
# inherit that: then none of them can be interrupted, which is what some tests are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# A loaded machine is no fault of what is tested. (httpx waits five seconds where nothing else is said.)
_default: httpx.Timeout = httpx._config.DEFAULT_TIMEOUT_CONFIG
_default.connect = _default.read = _default.write = _default.pool = 60.0
hypothesis.settings.register_profile(
    "cvx", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("cvx")


# With --dist loadfile a worker takes whole files, in this order: what takes longest comes first, so that none of it is
# left for one worker alone at the end. (What is not named is quick.)
HEAVY = [
    "toolchain",
    "apps",
    "compat",
    "faults",
    "browser",
    "cli",
    "jobs",
    "runner",
    "deploy",
    "functions",
    "http",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        return HEAVY.index(room) if room in HEAVY else len(HEAVY)

    items.sort(key=rank)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="accept what golden scripts now produce")


@pytest.fixture
def update_scripts(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update"))


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LiveBackend]:
    """A real backend without an app, for one test. `tests.backend_process.pushed_app` gives it one."""
    from tests.live_backend import LiveBackend

    with LiveBackend(tmp_path / "data") as live:
        yield live
