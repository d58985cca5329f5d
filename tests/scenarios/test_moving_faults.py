"""Faults while ranges move: a restored row, damaged disks, one of two replicas that is gone, slow links, and
questions that nobody answers.
"""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.healing import FloorStep, RaiseFloor
from core.healing_messages import TreeAsk
from core.messages import Message
from core.moving_messages import TailAsk
from core.requests import AdminRequest, Invalid, Restored, RestoreRequest, Told, Written
from core.schema import NETWORK_TOPOLOGY, Replication
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from lsm import keys
from node import move_plans
from node.move_runner import RETRIES
from node.moving import Moving
from ring.tokens import slice_end, slice_of, slice_start, token_of
from sim.clock import EPOCH_US
from sim.options import NetworkOptions
from tests.scenarios.telling import executor
from tests.scenarios.test_counterexamples_moving import (
    SETTINGS,
    D,
    begin,
    ended,
    replace,
    said,
    three_and_a_newcomer,
    writes_lost_to,
)

Patch = pytest.MonkeyPatch


def merged(s: Scenario) -> bool:
    """Whether the newcomer has taken over all it is given."""
    return s.until(lambda: s.node(D).moving.tell(0).merged != 0)


def two_phases(monkeypatch: Patch) -> list[bool]:
    """Ranges stay where they are until something is in this list."""
    may: list[bool] = []
    whole = Moving._may_hand_over
    monkeypatch.setattr(Moving, "_may_hand_over", lambda *given: bool(may) and whole(*given))
    monkeypatch.setattr(Moving, "_drain", lambda self, _, move: setattr(self, "_drained", move.id))
    return may


def a_row_restored_before_the_hand_over(monkeypatch: Patch) -> bool:
    """Whether it is acknowledged if only 0 and 2, who leaves, take it: 1 and 3 would not show it then."""
    two_phases(monkeypatch)
    s = three_and_a_newcomer(hints=False)
    assert s.put("b", "k", b"v").status == OK
    s.run(1)
    (data,) = [v for k, v in s.stored(0, "b").items() if not k.endswith(keys.HEADER_SUFFIX)]
    replace(s, 2, at=0)
    assert s.until(lambda: all(s.state(peer).move is not None for peer in range(4)))
    assert merged(s)
    s.lose(writes_lost_to(1, D))
    restored = Restored(s.buckets["b"].table, b"other", b"", ((keys.ROW_SUFFIX, data),))
    answer = s.ask(RestoreRequest((restored,), Level.QUORUM)).answer
    return isinstance(answer, Written)


def test_a_restored_row_is_acknowledged_by_old_and_new_replicas(monkeypatch: Patch) -> None:
    assert not a_row_restored_before_the_hand_over(monkeypatch)


def a_newcomer_damaged_when_it_has_merged(monkeypatch: Patch) -> Any:
    """What 1 and 3 say of what 0 and 2, who leaves, acknowledged; 3 lost it before the hand-over."""
    may = two_phases(monkeypatch)
    s = three_and_a_newcomer(hints=False, scrub_every_us=1_000_000)
    s.lose(writes_lost_to(1))
    assert s.put("b", "k", b"v").status == OK
    s.heal()
    replace(s, 2, at=0)
    assert merged(s)
    machine = s.cluster.machines[D]
    for key in s.stored(D, "b"):
        machine.engine.damage(key)
    start = machine.start
    assert s.until(lambda: machine.start > start and machine.process is not None), "the damage is met"
    s.run(5)
    may.append(True)
    assert ended(s, 0)
    s.pause(0)
    return said(s, 1)


def test_what_a_newcomer_lost_comes_back_before_it_is_read(monkeypatch: Patch) -> None:
    assert a_newcomer_damaged_when_it_has_merged(monkeypatch) == b"v"


# --- the only other replica


def test_one_of_two_replicas_is_replaced_though_it_is_gone() -> None:
    """What a quorum of two has acknowledged the other one has, and nothing is without it."""
    s = Scenario(peers=3, settings=SETTINGS)
    s.start()
    s.bucket("b")
    two = Replication(NETWORK_TOPOLOGY, (("dc1", 2),))
    begin(
        s, lambda state: move_plans.replicate(state, state.tables[s.buckets["b"].table].keyspace, two), at=0
    )
    assert ended(s, 0)
    s.run(6)
    for number in range(20):
        assert s.put("b", f"k{number}", b"v", at=0).status == OK
    s.wipe(2)
    assert s.cluster.add_machine() == D
    s.start(D, serving=False)
    replace(s, 2, at=0)
    assert ended(s, 0)
    ends = [s.get("b", f"k{number}", at=D) for number in range(20)]
    assert [end.result.value if end.result else None for end in ends] == [b"v"] * 20


def test_a_damaged_replica_gets_its_rows_back_before_it_is_the_only_one() -> None:
    """0 lost what it and 2 acknowledged; 2 is down while ranges shrink to one replica."""
    s = Scenario(peers=3, settings=SETTINGS | {"hints": False})
    s.start()
    s.bucket("b")
    s.lose(writes_lost_to(1))
    assert all(s.put("b", f"k{number}", b"v", at=2).status == OK for number in range(12))
    s.heal()
    for key in s.stored(0, "b"):
        s.cluster.machines[0].engine.damage(key)
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2) and s.sees_dead(1, 2))
    machine = s.cluster.machines[0]
    s.get("b", "k0", at=0, level=Level.ONE)  # meets the damage
    assert s.until(lambda: machine.start > 1 and machine.process is not None)
    assert s.until(lambda: s.node(0).mending.left > 0)
    one = Replication(NETWORK_TOPOLOGY, (("dc1", 1),))
    begin(
        s, lambda state: move_plans.replicate(state, state.tables[s.buckets["b"].table].keyspace, one), at=1
    )
    assert s.until(lambda: "given back" in s.node(0).moving.tell(0).why, 60)
    s.start(2)
    assert ended(s, 1)
    ends = [s.get("b", f"k{number}", at=1) for number in range(12)]
    assert [end.result.value if end.result else None for end in ends] == [b"v"] * 12


def test_leaves_whose_floors_were_raised_at_other_times_are_merged_apart() -> None:
    """What is read of several at once is as old as the oldest, and is refused where the floor is newer."""
    s = three_and_a_newcomer()
    names = [f"k{number}" for number in range(20)]
    assert all(s.put("b", name, b"v", level=Level.ALL).status == OK for name in names)
    leaves = [slice_of(token_of(name.encode())) for name in names]
    table, before_us = s.buckets["b"].table, EPOCH_US
    newer = tuple((slice_start(leaf), slice_end(leaf)) for leaf in leaves[::2])
    for peer in range(3):
        for floor_us, pairs in ((before_us - 2, ((keys.TOKEN_MIN, keys.TOKEN_MAX),)), (before_us - 1, newer)):
            for step in FloorStep:
                executor(s, peer).store.execute(RaiseFloor(step, floor_us, ((table, pairs),)))
    replace(s, 2, at=0)
    assert ended(s, 0)
    assert len([key for key in s.stored(D, "b") if not key.endswith(keys.HEADER_SUFFIX)]) == len(names)


def test_a_plan_that_was_carried_out_is_not_carried_out_again() -> None:
    """Whom it admits is a member by then; and while ranges move nothing else is begun."""
    s = three_and_a_newcomer()
    name = s.cluster.machines[D].place.name
    assert s.until(lambda: name in s.node(0).identity.waiting)
    assert isinstance(s.ask(AdminRequest("move_plan", {"kind": "add", "names": [name]}), at=0).answer, Told)
    assert isinstance(s.ask(AdminRequest("move_commit"), at=0).answer, Told)
    again = s.ask(AdminRequest("move_commit"), at=0).answer
    assert isinstance(again, Invalid) and "move already" in again.detail
    assert ended(s, 0)
    again = s.ask(AdminRequest("move_commit"), at=0).answer
    assert isinstance(again, Invalid) and "plan it again" in again.detail


# --- slow and lossy links


def test_a_move_ends_over_links_on_which_answers_take_longer_than_the_next_question() -> None:
    far = NetworkOptions(latency_min_us=160_000, latency_max_us=160_000, jitter_us=0)
    s = Scenario(settings=SETTINGS, network=far)
    s.start()
    s.bucket("b")
    assert s.put("b", "k", b"v").status == OK
    assert s.cluster.add_machine() == D
    s.start(D, serving=False)
    replace(s, 2, at=0)
    assert ended(s, 0)
    assert said(s, D) == b"v"


def test_what_was_merged_is_not_compared_again_because_one_question_was_not_answered() -> None:
    s = three_and_a_newcomer()
    for number in range(20):
        assert s.put("b", f"k{number}", b"v").status == OK
    compared: list[tuple[int, int, bool]] = []
    refused: list[int] = []

    def look(source: int, target: int, message: Message) -> bool:
        if source == D and isinstance(message, TreeAsk):
            compared.append((target, message.table, len(refused) > RETRIES))
        if source == D and isinstance(message, TailAsk) and len(refused) <= RETRIES:
            refused.append(target)
            return True
        return False

    s.lose(look)
    replace(s, 2, at=0)
    assert ended(s, 0)
    before = {(target, table) for target, table, late in compared if not late}
    after = {(target, table) for target, table, late in compared if late}
    assert len(refused) == RETRIES + 1 and before
    assert not before & after
