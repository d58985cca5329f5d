"""What cannot be is refused, whoever orders it, and the peer that is asked goes on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.metadata import AlterKeyspace, Changes, CreateKeyspace, CreateTable, Epoch, Proposal
from core.requests import AdminRequest, Answer, Changed, Invalid, MetadataRequest, Told
from core.schema import NETWORK_TOPOLOGY, PARTITION, SIMPLE, Column, Replication, TableOptions
from jepsen_like.scenarios import Scenario
from node import move_plans
from node.metadata_state import apply
from tests.node.test_moving import NEW, cluster_state


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


def test_who_waits_is_planned_once_however_often_it_is_named_or_was_started() -> None:
    s = Scenario()
    s.start()
    index = s.cluster.add_machine()
    s.start(index, serving=False)
    waiting = s.node(0).identity.waiting
    assert s.until(lambda: bool(waiting))
    (hello,) = waiting.values()
    for names in ([hello.name, hello.name], []):
        answer = s.ask(AdminRequest("move_plan", {"kind": "add", "names": names})).answer
        assert isinstance(answer, Told) and answer.body["admit"] == [hello.name], answer
    s.node(0).on_hello(msgspec.structs.replace(hello, name="renamed", start=hello.start + 1))
    assert list(waiting) == ["renamed"]


def test_a_peer_is_not_admitted_twice() -> None:
    state = cluster_state()
    begin = move_plans.add(state, [NEW], 16)
    twice = msgspec.structs.replace(begin, admit=begin.admit * 2)
    after = apply(state, Epoch(state.epoch + 1, Changes((Proposal((9, 99), twice),))))
    result = after.result((9, 99))
    assert result is not None and "twice" in result.error and after.move is None
