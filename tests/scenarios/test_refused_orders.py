"""What cannot be is refused, whoever orders it, and the peer that is asked goes on."""

from __future__ import annotations

from typing import Any

import pytest

from core.metadata import AlterKeyspace, CreateKeyspace, CreateTable
from core.requests import AdminRequest, Answer, Changed, Invalid, MetadataRequest
from core.schema import NETWORK_TOPOLOGY, PARTITION, SIMPLE, Column, Replication, TableOptions
from jepsen_like.scenarios import Scenario


@pytest.fixture(scope="module")
def s() -> Scenario:
    scenario = Scenario()
    scenario.start()
    for change in (
        CreateKeyspace("ks", Replication(SIMPLE, (("", 2),))),
        CreateTable("ks", "t", (Column(0, "key", "text", PARTITION),), TableOptions()),
    ):
        answer = scenario.ask(MetadataRequest(change)).answer
        assert isinstance(answer, Changed) and not answer.error
    return scenario


def refusal(answer: Answer | None) -> str:
    assert isinstance(answer, Invalid), answer
    return answer.detail


@pytest.mark.parametrize(
    ("replication", "why"),
    [
        (Replication(SIMPLE, (("", 0),)), "at least one replica"),
        (Replication(SIMPLE, (("", 9_999),)), "at least one replica"),
        (Replication(NETWORK_TOPOLOGY, (("dc1", 0),)), "at least one replica"),
        (Replication(NETWORK_TOPOLOGY, ()), "at least one replica"),
        (Replication(NETWORK_TOPOLOGY, (("elsewhere", 1),)), "no datacentre"),
        (Replication("Odd", (("", 1),)), "no replication strategy"),
    ],
)
def test_a_replication_that_cannot_be_moves_nothing(s: Scenario, replication: Replication, why: str) -> None:
    """The keyspace has tables, so it would be a move."""
    answer = s.ask(MetadataRequest(AlterKeyspace("ks", replication))).answer
    assert isinstance(answer, Changed) and answer.code == "invalid" and why in answer.error
    assert s.state(0).move is None


@pytest.mark.parametrize("factors", [{}, {"dc1": 0}, {"dc1": 10**30}, {"dc1": True}, {"elsewhere": 1}])
def test_nor_is_it_planned(s: Scenario, factors: dict[str, Any]) -> None:
    plan = {"kind": "replicate", "keyspace": "kv", "replication": factors}
    assert refusal(s.ask(AdminRequest("move_plan", plan)).answer)


@pytest.mark.parametrize("by", [["n1"], {"n": 1}, 7])
def test_who_takes_a_place_is_a_name(s: Scenario, by: Any) -> None:
    plan = {"kind": "replace", "names": ["n1"], "by": by}
    assert "does not wait" in refusal(s.ask(AdminRequest("move_plan", plan)).answer)


def test_nobody_recovers_the_metadata_who_is_lost_itself(s: Scenario) -> None:
    lost = [member.name for member in s.state(0).members]
    order = {"lost": lost, "cluster": s.state(0).name}
    assert "does not remain" in refusal(s.ask(AdminRequest("recover_commit", order)).answer)
    s.run(2)
    assert s.node(0).ready()[0]


def test_what_else_is_altered_with_a_replication_is_altered_too(s: Scenario) -> None:
    one = AlterKeyspace("ks", Replication(SIMPLE, (("", 1),)), durable_writes=False)
    answer = s.ask(MetadataRequest(one)).answer
    assert isinstance(answer, Changed) and not answer.error and s.state(0).move is not None
    assert s.until(lambda: s.state(0).move is None)
    keyspace = s.state(0).keyspaces["ks"]
    assert keyspace.replication == one.replication and not keyspace.durable_writes
