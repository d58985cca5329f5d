"""`pytest tests/golden --rewrite` records what the scripts' commands say now; look at the difference."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="record golden scripts anew")
