"""Fixtures that several suites share, and the one option they have."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="accept what golden scripts now produce")


@pytest.fixture
def update_scripts(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update"))
