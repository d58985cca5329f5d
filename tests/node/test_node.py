"""A whole node: when it serves, and what it refuses."""

from __future__ import annotations

from typing import get_args

from core.messages import Message
from core.requests import AdminRequest, Invalid, Told
from jepsen_like.scenarios import Scenario
from kv import buckets
from sim.real import node_of


def test_a_peer_that_missed_a_bucket_while_down_does_not_deny_it_when_it_is_back() -> None:
    scenario = Scenario(peers=3, seed=5)
    scenario.start()
    scenario.kill(2)
    scenario.bucket("late")
    scenario.cluster.start(2)
    cluster = scenario.cluster
    assert cluster.run_until(lambda: node_of(cluster, 2).ready()[0], 5_000_000)
    assert buckets.find(node_of(cluster, 2).metadata.state, "late") is not None


def test_a_peer_that_starts_again_alone_serves_after_a_while() -> None:
    scenario = Scenario(peers=3, seed=5)
    scenario.start()
    scenario.cluster.run_for(1_000_000)
    scenario.kill(0, 1, 2)
    scenario.cluster.start(2)
    cluster = scenario.cluster
    cluster.run_for(100_000)
    ready, why = node_of(cluster, 2).ready()
    assert not ready
    assert "just started" in why
    assert cluster.run_until(lambda: node_of(cluster, 2).ready()[0], 2_000_000)


def test_unknown_verbs_name_the_known_ones() -> None:
    scenario = Scenario(peers=3, seed=5)
    scenario.start()
    cluster = scenario.cluster
    replies: list[object] = []
    asks = ("move_", "recover_")
    verbs = [verb for verb in node_of(cluster, 0).admin.verbs if not verb.startswith(asks)]
    for verb in ("nonsense", *verbs):  # to move something takes to say what
        cluster.request(0, AdminRequest(verb), 1_000_000, lambda reply: replies.append(reply.answer))
    assert cluster.run_until(lambda: len(replies) == 1 + len(verbs), 2_000_000)
    assert isinstance(replies[0], Invalid)
    assert "status" in replies[0].detail
    assert all(isinstance(reply, Told) for reply in replies[1:])


def test_every_message_that_a_peer_may_be_sent_is_known() -> None:
    """One that lacks would stop the peer that gets it. Who connects is asked before, by the transport."""
    scenario = Scenario(peers=3, seed=5)
    scenario.start()
    handlers = node_of(scenario.cluster, 0).inside.message_handlers
    assert [kind.__name__ for kind in get_args(Message) if kind not in handlers] == ["Hello", "Refused"]
