"""A deletion that one old replica alone has logged, before its range moves to a peer that follows its log."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.healing import FloorStep
from core.healing_messages import FloorAsk, TreeAsk
from core.messages import ApplyMutation, Follow, Message
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from node import move_plans
from node.compared import Compared
from ring.tokens import token_of
from tests.scenarios.telling import UNCOMPARED, held
from tests.scenarios.test_counterexamples_moving import begin, ended

Patch = pytest.MonkeyPatch

SETTINGS: dict[str, Any] = UNCOMPARED | {
    "hints": False,
    "purge_interval_us": 1_000_000,
    "purge_slack_us": 500_000,
    "scrub_every_us": 0,
}
LEAVES, GIVEN = 3, 2


def a_key_that_moves(s: Scenario) -> tuple[str, int]:
    """A key whose range goes from 3, who leaves, to 2, and of its old replicas the last one that stays: 2
    merges the others.
    """
    table = s.buckets["b"].table
    placement = s.state(0).placement(table)
    assert placement is not None
    peers = [machine.peer for machine in s.cluster.machines]
    for number in range(1_000):
        replicas = [peers.index(peer) for peer in placement.replicas(token_of(b"k%d" % number))]
        if GIVEN not in replicas:
            return f"k{number}", [peer for peer in replicas if peer != LEAVES][-1]
    raise AssertionError("no such key")


def what_is_held_of_a_key_that_one_old_replica_deleted(
    monkeypatch: Patch | None = None,
) -> list[bytes | None]:
    """By 0, 1 and 2, when all was purged. The other old replicas hear of it while the round that purges it is
    under way, when 2 has asked them already.
    """
    if monkeypatch is not None:
        monkeypatch.setattr(Compared, "_owe", lambda *_: None)
    s = Scenario(peers=4, settings=SETTINGS)
    s.start()
    s.bucket("b")
    key, holds = a_key_that_moves(s)
    others = [peer for peer in range(4) if peer not in (holds, GIVEN)]
    assert s.put("b", key, b"old", level=Level.ALL).status == OK
    settling: list[Message] = []

    def lose(source: int, target: int, message: Message) -> bool:
        if isinstance(message, FloorAsk) and message.step == FloorStep.SETTLE:
            settling.extend([message] * (LEAVES not in s.cluster.running()))
        if isinstance(message, ApplyMutation):
            return target in others and source == holds
        return isinstance(message, Follow) and source in others and target == holds and not settling

    s.lose(lose)
    assert s.delete("b", key, at=holds, level=Level.ONE).status == OK
    s.run(15)
    assert s.node(GIVEN).following.position(s.cluster.machines[holds].peer).after > 0
    assert [held(s, peer, "b").get(key) for peer in others] == [b"old", b"old"]
    begin(s, lambda state: move_plans.remove(state, [s.cluster.machines[LEAVES].place.name]), at=0)
    assert ended(s, 0)
    s.kill(LEAVES)
    s.run(60)
    return [held(s, peer, "b").get(key) for peer in range(3)]


def test_a_deletion_that_one_old_replica_had_is_not_purged_before_who_was_given_its_range_has_it() -> None:
    assert what_is_held_of_a_key_that_one_old_replica_deleted() == [None, None, None]


def test_if_rows_are_not_compared_after_a_move_the_deletion_is_purged_and_its_key_is_back(
    monkeypatch: Patch,
) -> None:
    assert b"old" in what_is_held_of_a_key_that_one_old_replica_deleted(monkeypatch)


def test_what_has_to_be_compared_survives_a_restart() -> None:
    s = Scenario(peers=4, settings=SETTINGS | {"anti_entropy_pause_us": 1_000_000})
    s.start()
    s.bucket("b")
    assert all(s.put("b", f"k{number}", b"v", level=Level.ALL).status == OK for number in range(8))
    s.run(15)
    s.lose(lambda source, target, message: isinstance(message, TreeAsk) and source == GIVEN)
    whole = dict.fromkeys(machine.peer for machine in s.cluster.machines[:2])
    begin(s, lambda state: move_plans.remove(state, [s.cluster.machines[LEAVES].place.name]), at=0)
    assert s.until(lambda: s.state(GIVEN).move is not None)
    s.power_cut(GIVEN)
    s.heal()
    s.start(GIVEN, serving=False)
    s.lose(
        lambda source, target, message: (
            isinstance(message, TreeAsk) and source == GIVEN and s.state(0).move is None
        )
    )
    assert ended(s, 0)

    def owes() -> bool:
        return s.state(GIVEN).move is None and any(s.node(GIVEN).compared.owes(peer) for peer in whole)

    assert s.until(owes)
    s.power_cut(GIVEN)
    s.start(GIVEN, serving=False)
    assert s.until(owes)
    s.run(2)
    s.power_cut(GIVEN)
    s.start(GIVEN, serving=False)
    assert owes()
    s.heal()
    assert s.until(lambda: not owes())
