"""The rules of moving a range, each shown to be needed: every interleaving of the model in tests/models."""

from __future__ import annotations

import pytest

from tests.models.range_movement import Model, Rules

STATES_MAX = 400_000


@pytest.mark.parametrize(
    "rules",
    [
        Rules("abc", "bcd", joint=False, three_steps=False, barrier=False, merge="one"),
        Rules("abc", "bcd", three_steps=False),
        Rules("abc", "bcd", barrier=False),
        Rules("abc", "bcd", merge="one"),
        Rules("abc", "a"),
        Rules("abc", "bcd", paxos=True, paxos_moves=False),
        Rules("abc", "a", paxos=True),
    ],
)
def test_without_one_of_the_rules_something_is_missed(rules: Rules) -> None:
    assert Model(rules).verdict(STATES_MAX) is False


@pytest.mark.parametrize(
    "rules",
    [
        Rules("abc", "bcd", dead="a"),
        Rules("a", "b"),
        Rules("a", "abc"),
        Rules("abc", "a", merge="all"),
        Rules("abc", "bcd", paxos=True, dead="a"),
        Rules("a", "b", paxos=True),
        Rules("abc", "a", paxos=True, merge="all"),
    ],
)
def test_with_all_rules_nothing_is_missed_in_any_interleaving(rules: Rules) -> None:
    assert Model(rules).verdict(STATES_MAX) is True
