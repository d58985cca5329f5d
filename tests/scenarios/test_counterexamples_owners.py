"""Counterexample 26: who gave a range up does not answer for it."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.messages import Decided, Message
from core.requests import Changed, MetadataRequest
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from node import move_plans
from node.move_plans import Newcomer
from node.node import Node
from node.replica import Replica
from ring.tokens import token_of
from tests.scenarios.telling import QUIET, WRITE_FAST, held

Patch = pytest.MonkeyPatch
KEYS = 200
NEWCOMER = 4


def a_former_owner_asked_by_who_does_not_know() -> Any:
    """What a coordinator reads that missed a whole move, if of the replicas it knows only one lives, which
    has given the range up.
    """
    s = Scenario(peers=4, settings=QUIET | WRITE_FAST | {"hints": False, "purge_interval_us": 0})
    s.start()
    bucket = s.bucket("b")
    for number in range(KEYS):
        assert s.put("b", f"k{number}", b"v", level=Level.ALL).status == OK
    before = s.state(0).placement(bucket.table)
    assert before is not None
    assert s.cluster.add_machine() == NEWCOMER
    s.start(NEWCOMER, serving=False)
    name = s.cluster.machines[NEWCOMER].place.name
    assert s.until(lambda: name in s.node(0).identity.waiting)
    hello = s.node(0).identity.waiting[name]
    one = Newcomer(hello.peer, hello.name, hello.address, hello.datacentre, hello.rack)
    plan = move_plans.add(s.state(0), [one], 16)
    behind = 3

    def which(_: int, target: int, message: Message) -> bool:
        return target == behind and isinstance(message, Decided)

    s.cut([behind], [0, 1, 2, NEWCOMER])
    assert s.until(lambda: s.sees_dead(0, behind))
    assert isinstance(s.ask(MetadataRequest(plan)).answer, Changed)
    assert s.until(lambda: s.state(0).last_move is not None and s.state(0).move is None, 60)
    after = s.state(0).placement(bucket.table)
    assert after is not None
    indexes = {machine.peer: machine.index for machine in s.cluster.machines}
    newcomer = s.cluster.machines[NEWCOMER].peer
    found = []
    for number in range(KEYS):
        token = token_of(b"k%d" % number)
        old, new = before.replicas(token), after.replicas(token)
        gone = [indexes[peer] for peer in old if peer not in new]
        if newcomer in new and gone and behind not in [indexes[peer] for peer in (*old, *new)]:
            found.append((f"k{number}", gone[0]))
    key, former = found[0]
    assert s.until(lambda: key not in held(s, former, "b")), "it deletes what it gave up"
    assert s.state(behind).last_move is None
    s.heal()
    s.lose(which)
    assert s.until(lambda: s.sees_all(behind))
    s.kill(*(peer for peer in (0, 1, 2) if peer != former))
    assert s.until(lambda: s.sees_dead(behind, *(peer for peer in (0, 1, 2) if peer != former)))
    end = s.get("b", key, at=behind, level=Level.ONE)
    return (end.result.value if end.result else None) if end.status == OK else end.status


def test_counterexample_26_who_is_asked_for_what_it_gave_up_refuses() -> None:
    assert a_former_owner_asked_by_who_does_not_know() == b"v"


def test_counterexample_26_if_it_answered_what_is_there_would_be_missed(monkeypatch: Patch) -> None:
    def may(self: Any, *_: Any) -> bool:
        self._queued += 1
        return True

    monkeypatch.setattr(Replica, "_may", may)
    monkeypatch.setattr(Replica, "_is_outdated", lambda *_: False)
    monkeypatch.setattr(Node, "owns", lambda *_: True)
    assert a_former_owner_asked_by_who_does_not_know() is None
