"""Counterexamples 22, 28, 29, 30, 31 and 33: what is acknowledged while replicas come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.commands import PaxosAccept, PaxosCommit
from core.consistency import Level
from core.messages import ApplyMutation, Message, PaxosAsk
from core.metadata import BeginMove, Move
from core.requests import Changed, MetadataRequest
from core.schema import NETWORK_TOPOLOGY, Replication
from jepsen_like import moving_plants
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from lsm.log import REPAIRED
from node import hints, move_plans, moving, moving_stream
from node.metadata_state import State
from node.move_plans import Newcomer
from node.moving import Moving
from node.moving_ring import Sides
from node.moving_stream import Places, Stream
from ring.tokens import token_of
from tests.scenarios.telling import QUIET, WRITE_FAST, held, log_kinds

Patch = pytest.MonkeyPatch
D = 3
"""The machine that takes the place of another."""

SETTINGS: dict[str, Any] = QUIET | WRITE_FAST | {"purge_interval_us": 0}


@pytest.fixture(autouse=True)
def _undrained(monkeypatch: Patch) -> None:
    """Nobody follows the old replicas once more under hand-over: that is for what ONE acknowledged."""

    def at_once(self: Moving, state: State, move: Move) -> None:
        self._drained = move.id

    monkeypatch.setattr(Moving, "_drain", at_once)


def three_and_a_newcomer(**more: Any) -> Scenario:
    """Peers 0, 1 and 2 that hold a bucket `b`, and 3, which waits to be admitted."""
    s = Scenario(settings=SETTINGS | more)
    s.start()
    s.bucket("b")
    assert s.cluster.add_machine() == D
    s.start(D, serving=False)
    return s


def begin(s: Scenario, plan: Callable[[State], BeginMove], at: int) -> None:
    """Have a move begin."""
    answer = s.ask(MetadataRequest(plan(s.state(at))), at=at).answer
    assert isinstance(answer, Changed) and not answer.error, answer


def replace(s: Scenario, victim: int, at: int) -> None:
    """Begin to put the newcomer in the place of another."""
    name = s.cluster.machines[D].place.name
    waiting = s.node(at).identity.waiting
    assert s.until(lambda: name in waiting)
    hello = waiting[name]
    one = Newcomer(hello.peer, hello.name, hello.address, hello.datacentre, hello.rack)
    begin(s, lambda state: move_plans.replace(state, s.cluster.machines[victim].place.name, one), at)


def ended(s: Scenario, at: int) -> bool:
    """Whether the move comes to its end, as one peer and all others know it."""

    def knows(peer: int) -> bool:
        state = s.state(peer)
        return state.move is None and state.last_move is not None

    return s.until(lambda: knows(at)) and s.until(lambda: s.node(at).metadata.state.move is None)


def writes_lost_to(*targets: int) -> Callable[[int, int, Message], bool]:
    """No write reaches these."""
    return lambda source, target, message: target in targets and isinstance(message, ApplyMutation)


def said(s: Scenario, at: int, level: Level = Level.QUORUM) -> bytes | str | None:
    """What a read brings: a value, None for nothing, or how it failed."""
    end = s.get("b", "k", at=at, level=level)
    return (end.result.value if end.result else None) if end.status == OK else end.status


# --- 22: the log moves with the range


def a_log_after_its_replica_was_replaced() -> int:
    """How many of 20 writes, made before, are in the newcomer's log as themselves."""
    s = three_and_a_newcomer()
    for number in range(20):
        assert s.put("b", f"k{number}", b"v", level=Level.ALL).status == OK
    replace(s, 2, at=0)
    assert ended(s, 0)
    kinds = log_kinds(s, D)
    return len(kinds) - kinds.count(REPAIRED)


def test_counterexample_22_the_log_moves_with_its_range() -> None:
    assert a_log_after_its_replica_was_replaced() == 20


def test_counterexample_22_if_rows_alone_move_a_cursor_finds_nothing(monkeypatch: Patch) -> None:
    def nothing(*_: Any) -> Any:
        yield from ()

    monkeypatch.setattr(Stream, "_tail", nothing)
    assert a_log_after_its_replica_was_replaced() == 0


# --- 28: both sets, and what is planned before does not count


def a_write_to_one_who_stays_and_another(monkeypatch: Patch, lacking: tuple[int, int]) -> bool:
    """While both are written: whether a write is acknowledged of which two have nothing, whom readers may ask
    later or ask now.
    """
    monkeypatch.setattr(Moving, "_may_hand_over", lambda *_: False)
    s = three_and_a_newcomer(hints=False)
    replace(s, 2, at=0)
    newcomer = s.cluster.machines[D].peer
    assert s.until(lambda: all(s.state(peer).move is not None for peer in range(4)))
    assert s.until(lambda: s.node(0).moving.told.get(newcomer) is not None)
    assert s.until(lambda: s.node(D).moving.tell(0).merged != 0)
    s.lose(writes_lost_to(*lacking))
    through = next(peer for peer in (0, 1) if peer not in lacking)
    acknowledged = s.put("b", "k", b"v", at=through).status == OK
    assert [held(s, peer, "b") for peer in range(4)] == [
        {} if peer in lacking else {"k": b"v"} for peer in range(4)
    ]
    return acknowledged


OF_THE_OLD, OF_THE_NEW = (0, 2), (1, D)
"""Of each side two, whom a quorum of readers may consist of."""


@pytest.mark.parametrize("lacking", [OF_THE_OLD, OF_THE_NEW])
def test_counterexample_28_a_level_is_met_among_the_old_and_among_the_new(
    monkeypatch: Patch, lacking: tuple[int, int]
) -> None:
    assert not a_write_to_one_who_stays_and_another(monkeypatch, lacking)


def test_counterexample_28_met_among_the_new_alone_the_old_do_not_show_it(monkeypatch: Patch) -> None:
    undo = moving_plants.met_among_the_new()
    try:
        assert a_write_to_one_who_stays_and_another(monkeypatch, OF_THE_OLD)
    finally:
        undo()


def test_counterexample_28_met_among_the_old_alone_the_new_will_not_show_it(monkeypatch: Patch) -> None:
    undo = moving_plants.met_among_the_old()
    try:
        assert a_write_to_one_who_stays_and_another(monkeypatch, OF_THE_NEW)
    finally:
        undo()


# --- 29: a quorum is merged


def a_dead_replica_replaced(lacks: int = 0) -> Any:
    """What 0 and the newcomer say of a write that 1 acknowledged with 2, which is dead; or 1 and the newcomer
    of one that 0 acknowledged.
    """
    s = three_and_a_newcomer(hints=False)
    holds = 1 - lacks
    s.lose(writes_lost_to(lacks))
    assert s.put("b", "k", b"v", at=holds).status == OK
    s.heal()
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2) and s.sees_dead(1, 2))
    replace(s, 2, at=lacks)
    assert ended(s, lacks)
    s.kill(holds)
    return said(s, lacks)


def test_counterexample_29_a_newcomer_merges_a_quorum() -> None:
    """Whichever one of the two it were content with, one of these would be lost."""
    assert a_dead_replica_replaced(0) == b"v"
    assert a_dead_replica_replaced(1) == b"v"


def test_counterexample_29_filled_from_one_replica_it_lacks_what_another_acknowledged(
    monkeypatch: Patch,
) -> None:
    whole = moving_stream.choose_sources

    def one(me: bytes, sides: Sides, adopted: Any, placement: Any) -> Any:
        found = whole(me, sides, adopted, placement)
        names = {m.peer: m.name for m in state_of[0].state(0).members}
        return None if found is None else tuple(peer for peer in found if names[peer] == "n1")

    state_of: list[Scenario] = []
    start = Scenario.start

    def started(self: Scenario, *peers: int, serving: bool = True) -> None:
        state_of[:] = [self]
        start(self, *peers, serving=serving)

    monkeypatch.setattr(Scenario, "start", started)
    monkeypatch.setattr(moving_stream, "choose_sources", one)
    assert a_dead_replica_replaced() is None


# --- 30: Paxos state moves


def a_decision_known_to_one_who_leaves() -> Any:
    """Accepted by 0 and 1, brought to nobody; 0 dies, 3 takes the place of 1: what 2 and 3 decide next."""
    s = three_and_a_newcomer(hints=False)

    def which(_: int, target: int, message: Message) -> bool:
        if not isinstance(message, PaxosAsk):
            return False
        accept = isinstance(message.step, PaxosAccept) and target == 2
        return accept or isinstance(message.step, PaxosCommit)

    s.lose(which)
    s.wait(lambda then: s.door.update(0, s.buckets["b"], "k", lambda old: (old or b"") + b"1", then))
    assert held(s, 0, "b") == {"k": b"1"}, "decided"
    s.kill(0)
    s.heal()
    assert s.until(lambda: s.sees_dead(2, 0))
    replace(s, 1, at=2)
    assert ended(s, 2)
    s.kill(1)
    end = s.wait(lambda then: s.door.update(2, s.buckets["b"], "k", lambda old: (old or b"") + b"2", then))
    assert end.status == OK, end
    return said(s, 2, Level.SERIAL)


def test_counterexample_30_what_was_accepted_moves_with_the_rows() -> None:
    assert a_decision_known_to_one_who_leaves() == b"12"


def test_counterexample_30_if_rows_alone_move_a_decision_is_undone() -> None:
    undo = moving_plants.paxos_stays()
    try:
        assert a_decision_known_to_one_who_leaves() == b"2"
    finally:
        undo()


# --- 31: fewer replicas


def one_replica_of_three_remains() -> Any:
    """What peer 0 says, alone responsible at last, of a write that the two others acknowledged."""
    s = Scenario(settings=SETTINGS | {"hints": False})
    s.start()
    bucket = s.bucket("b")
    one = Replication(NETWORK_TOPOLOGY, (("dc1", 1),))
    keyspace = s.state(0).tables[bucket.table].keyspace

    def plan(state: State) -> BeginMove:
        return move_plans.replicate(state, keyspace, one)

    s.lose(writes_lost_to(0))
    for number in range(20):
        assert s.put("b", f"k{number}", b"v", at=1).status == OK
    s.heal()
    begin(s, plan, at=0)
    assert ended(s, 0)
    placement = s.state(0).placement(bucket.table)
    assert placement is not None
    me = s.cluster.machines[0].peer
    own = [f"k{n}" for n in range(20) if placement.replicas(token_of(b"k%d" % n)) == (me,)]
    assert own
    ends = [s.get("b", key, at=0) for key in own]
    assert all(end.status == OK for end in ends)
    return {end.result.value if end.result else None for end in ends}


def test_counterexample_31_who_remains_merges_the_others() -> None:
    assert one_replica_of_three_remains() == {b"v"}


def test_counterexample_31_if_only_newcomers_merge_what_others_acknowledged_is_lost(
    monkeypatch: Patch,
) -> None:
    def newcomers(me: bytes, sides: Sides, _: Places) -> bool:
        return me in sides[1] and me not in sides[0]

    monkeypatch.setattr(moving_stream, "must_merge", newcomers)
    monkeypatch.setattr(moving, "must_merge", newcomers)
    assert one_replica_of_three_remains() == {None}


# --- 33: a hint is planned anew


def a_hint_for_who_was_replaced(monkeypatch: Patch) -> Any:
    """What the newcomer holds of a write that was owed to its predecessor, if nothing else brings it."""

    def nothing(_: Stream) -> Any:
        yield from ()

    monkeypatch.setattr(Stream, "steps", nothing)
    s = three_and_a_newcomer()
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    assert s.put("b", "k", b"v", at=0).status == OK
    replace(s, 2, at=0)
    assert ended(s, 0)
    s.run(10)
    return held(s, D, "b")


def test_counterexample_33_a_hint_for_who_was_replaced_goes_to_its_successor(monkeypatch: Patch) -> None:
    assert a_hint_for_who_was_replaced(monkeypatch) == {"k": b"v"}


def test_counterexample_33_if_it_knows_but_the_one_peer_it_is_lost(monkeypatch: Patch) -> None:
    plan = hints._Replay._plan

    def as_it_was(self: Any, key: bytes, owed: Any) -> None:
        plan(self, key, owed)
        for letter in self._letters.values():
            letter.waiting = [self._peer]

    monkeypatch.setattr(hints._Replay, "_plan", as_it_was)
    assert a_hint_for_who_was_replaced(monkeypatch) == {}
