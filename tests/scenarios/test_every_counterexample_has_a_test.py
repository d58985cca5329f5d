"""The table of counterexamples that this version defeats: each has a test that bears its number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

DEFEATED = range(1, 46)
_NUMBERED = re.compile(r"test_counterexample_0*([0-9]+)_")


def numbered_tests(text: str) -> list[tuple[int, str]]:
    """The counterexamples that tests in a file are named for, with the tests' names."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            match = _NUMBERED.match(node.name)
            if match:
                found.append((int(match[1]), node.name))
    return found


@pytest.fixture(scope="module")
def table() -> dict[int, list[str]]:
    tests: dict[int, list[str]] = {}
    for path in sorted(Path(__file__).resolve().parent.parent.rglob("test_*.py")):
        for number, name in numbered_tests(path.read_text()):
            tests.setdefault(number, []).append(f"{path.name}::{name}")
    return tests


@pytest.mark.parametrize("number", DEFEATED)
def test_a_counterexample_is_told_with_its_rule_and_without(number: int, table: dict[int, list[str]]) -> None:
    stories = table.get(number, [])
    assert len(stories) >= 2, stories


def test_only_tests_that_bear_a_number_count() -> None:
    text = "def test_counterexample_07_x(): ...\ndef test_seven(): ...\nNAME = 'test_counterexample_8_y'\n"
    assert numbered_tests(text) == [(7, "test_counterexample_07_x")]
