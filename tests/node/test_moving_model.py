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


@pytest.mark.parametrize(
    "rules",
    [
        Rules("ab", "bc", deaf="a"),
        Rules("ab", "bc", deaf="a", paxos=True),
        Rules("abcd", "bcde", deaf="ab"),
        Rules("abc", "bcd", deaf="a", paxos=True),
    ],
)
def test_who_is_replaced_need_not_be_asked_as_long_as_every_quorum_has_one_who_is(rules: Rules) -> None:
    """Of two replicas one is enough, of four two: the other half may have been lost, or know of nothing."""
    model = Model(rules)
    assert model.verdict(STATES_MAX) is True
    assert model.ended


def test_without_anybody_of_a_quorum_a_move_does_not_end() -> None:
    model = Model(Rules("abc", "bcd", deaf="ab"))
    assert model.verdict(STATES_MAX) is True
    assert not model.ended
