"""Damaged disks and purged deletions, one interleaving a story: with its rule, and without it."""

from __future__ import annotations

from typing import Any

import pytest

from core.consistency import Level
from core.healing import FloorStep, Purged
from core.healing_messages import FloorAsk
from core.messages import ApplyMutation, Message
from jepsen_like.history import OK
from jepsen_like.scenarios import SECOND, Scenario
from lsm import keys
from lsm.floors import Floors
from lsm.lost import LostRanges
from node.floors import PURGE_ROWS_PER_S
from sim.options import NetworkOptions
from tests.scenarios.telling import UNCOMPARED

Patch = pytest.MonkeyPatch

ALONE: dict[str, Any] = {
    **UNCOMPARED,
    "hints": False,
    "follow_idle_us": 3_600_000_000,
    "follow_pause_us": 3_600_000_000,
    "scrub_every_us": 0,
    "purge_interval_us": 0,
}
"""Nothing makes replicas equal by itself."""

QUICK: dict[str, Any] = {"purge_interval_us": 1_000_000, "purge_slack_us": 500_000, "scrub_every_us": 0}


def damage_row(s: Scenario, peer: int, bucket: str) -> None:
    """Every row of a bucket on one disk."""
    for key in s.stored(peer, bucket):
        s.cluster.machines[peer].engine.damage(key)


def mended(s: Scenario, peer: int, starts: int) -> bool:
    machine = s.cluster.machines[peer]
    return machine.start >= starts and machine.process is not None and s.node(peer).mending.left == 0


# --- damage


def a_row_on_a_minority_is_damaged() -> tuple[str, bytes | None]:
    """Acknowledged by 0 and 1; 0's disk forgets it; 0 and 2 are asked. The status, and what was read."""
    s = Scenario(settings=ALONE)
    s.start()
    s.bucket("b")
    s.lose(lambda source, target, message: target == 2 and isinstance(message, ApplyMutation))
    assert s.put("b", "k", b"v", at=1).status == OK
    damage_row(s, 0, "b")
    s.cut([1], [0, 2])
    s.get("b", "k", at=0, level=Level.ONE)  # meets the damage
    machine = s.cluster.machines[0]
    assert s.until(lambda: machine.start > 1 and machine.process is not None)
    assert s.until(lambda: s.node(0).ready()[0])
    s.run(5)
    end = s.get("b", "k", at=0)
    return end.status, None if end.result is None else end.result.value


def test_what_damage_took_is_not_read_as_absent_by_a_quorum_of_the_others() -> None:
    status, _ = a_row_on_a_minority_is_damaged()
    assert status != OK


def test_if_what_may_be_lost_is_served_an_acknowledged_write_is_gone(monkeypatch: Patch) -> None:
    monkeypatch.setattr(LostRanges, "hits", lambda *_: False)
    assert a_row_on_a_minority_is_damaged() == (OK, None)


def test_what_damage_took_comes_back_from_the_other_replicas_with_what_nobody_else_had_told() -> None:
    s = Scenario(settings={**ALONE, "anti_entropy_pause_us": 1_000_000})
    s.start()
    s.bucket("b")
    for number in range(40):
        assert s.put("b", f"k{number}", b"v%d" % number, at=1).status == OK
    damage_row(s, 0, "b")
    s.get("b", "k0", at=0, level=Level.ONE)
    assert s.until(lambda: mended(s, 0, 2))
    s.kill(1, 2)
    for number in range(40):
        end = s.get("b", f"k{number}", at=0, level=Level.ONE)
        assert end.status == OK and end.result.value == b"v%d" % number


def lose_all(s: Scenario, peer: int) -> None:
    """All rows of all buckets on one disk are damaged, and that is met."""
    for bucket in s.buckets:
        damage_row(s, peer, bucket)
    machine = s.cluster.machines[peer]
    for number in range(10):
        if machine.start == 1:
            s.get(next(iter(s.buckets)), f"k{number}", at=peer, level=Level.ONE)
    assert s.until(lambda: machine.start > 1 and machine.process is not None)


def test_a_whole_store_comes_back_soon_though_every_reply_takes_a_tenth_of_a_second() -> None:
    slow = NetworkOptions(latency_min_us=45_000, latency_max_us=50_000, jitter_us=0)
    s = Scenario(peers=5, settings={"anti_entropy_pause_us": 5_000_000}, network=slow)
    s.start()
    for bucket in ("a", "b", "c"):
        s.bucket(bucket)
        for number in range(30):
            assert s.put(bucket, f"k{number}", b"v").status == OK
    assert s.equal_within(30)
    lose_all(s, 4)
    began_us = s.cluster.now_us
    assert s.until(lambda: s.node(4).mending.left > 0)
    assert s.until(lambda: mended(s, 4, 2), 20)
    assert s.equal_within(10)
    assert s.cluster.now_us - began_us < 20_000_000


def test_all_ranges_of_a_table_are_proven_equal_in_one_turn_per_sibling() -> None:
    """Not in one per range: of some dozens of tables that would take hours."""
    s = Scenario(peers=5, settings={"anti_entropy_pause_us": 1_000_000})
    s.start()
    s.bucket("b")
    began_us = s.cluster.now_us
    proofs = [s.node(peer).anti_entropy for peer in range(5)]
    ranges = min(len(proof.proven()) for proof in proofs)
    turns = max(len(proof.status()) for proof in proofs)
    assert turns * 5 < ranges

    def proven() -> bool:
        return all(at_us is not None for proof in proofs for *_, at_us in proof.proven())

    assert s.until(proven, 60)
    assert s.cluster.now_us - began_us < (2 * turns + 3) * 1_000_000


def test_what_is_lost_in_two_places_is_not_in_the_way_of_the_rest() -> None:
    """Of five replicas one lost everything and two a little, each something else: whoever is refused that
    little asks for the rest span by span.
    """
    s = Scenario(peers=5, settings={"anti_entropy_pause_us": 1_000_000})
    s.start()
    s.bucket("b", factor=5)
    for number in range(30):
        assert s.put("b", f"k{number}", b"v").status == OK
    assert s.equal_within(30)
    for peer in (2, 3):
        s.cluster.machines[peer].engine.damage(sorted(s.stored(peer, "b"))[5 * peer])
    lose_all(s, 4)
    for number in range(30):
        s.get("b", f"k{number}", level=Level.ALL)  # which meets the rest of the damage
    assert s.until(lambda: all(mended(s, peer, 2) for peer in (2, 3, 4)))
    assert s.equal_within(10)


def test_whoever_lost_the_same_cannot_give_it_back() -> None:
    s = Scenario(settings={**ALONE, "anti_entropy_pause_us": 1_000_000})
    s.start()
    s.bucket("b")
    assert s.put("b", "k", b"v", at=1, level=Level.ALL).status == OK
    for peer in (0, 1):
        damage_row(s, peer, "b")
        s.get("b", "k", at=peer, level=Level.ONE)
    machines = s.cluster.machines
    assert s.until(lambda: all(machines[p].start > 1 and machines[p].process is not None for p in (0, 1)))
    s.run(20)
    assert [s.node(peer).mending.left for peer in (0, 1)] == [1, 1]
    waiting = [why for _, entry in s.node(0).mending.status() for why in entry["waiting"].values()]  # type: ignore[attr-defined]
    assert any("given back" in why for why in waiting)
    assert s.node(0).mending.accept_loss() == 1
    assert s.until(lambda: [s.node(peer).mending.left for peer in (0, 1)] == [0, 0])
    end = s.get("b", "k", at=1)
    assert end.status == OK and end.result.value == b"v"


# --- deletions


def tombstones(s: Scenario, bucket: str) -> list[int]:
    return [len(s.stored(peer, bucket)) for peer in range(len(s.cluster.machines))]


def test_deletions_are_purged_when_all_replicas_have_them() -> None:
    s = Scenario(settings=QUICK)
    s.start()
    s.bucket("b", ordered=True)
    for number in range(20):
        assert s.put("b", f"k{number}", b"v").status == OK
        assert s.delete("b", f"k{number}").status == OK
    assert max(tombstones(s, "b")) > 0
    assert s.until(lambda: tombstones(s, "b") == [0, 0, 0])
    assert s.equal_within(30)
    assert not any(machine.engine.keys(keys.GARBAGE, b"H") for machine in s.cluster.machines)


def test_purging_rests_no_longer_than_its_pace_asks_for(monkeypatch: Patch) -> None:
    """A page is waited for until it is durable, which counts: else a queue grows faster than it is purged."""
    s = Scenario(settings=ALONE)
    s.start()
    floors, pauses = s.node(0).floors, []
    floors._to_purge.setdefault((1, 0, 1))
    floors._purge_began_us = floors._inside.world.monotonic_us()
    s.cluster.run_for(10_000)
    monkeypatch.setattr(type(floors._inside), "timer", lambda _, pause_us, *ticket: pauses.append(pause_us))
    floors._on_purged(Purged(b"more", PURGE_ROWS_PER_S // 50, 1))
    floors._on_purged(Purged(b"more", PURGE_ROWS_PER_S // 200, 1))
    assert pauses == [20_000 - 10_000, 1]


def test_who_missed_the_end_of_a_round_asks_for_it_though_clocks_were_set_back() -> None:
    s = Scenario(settings=QUICK)
    s.start()
    s.bucket("b")
    for machine in s.cluster.machines:
        machine.clock.jump(60 * SECOND)
    assert s.until(lambda: any(s.node(peer).floors.status() for peer in range(3)))
    follower = [bool(s.node(peer).floors.status()) for peer in range(3)].index(False)
    missed: list[int] = []

    def lose_the_end(source: int, target: int, message: Message) -> bool:
        is_end = isinstance(message, FloorAsk) and message.step == FloorStep.END and target == follower
        if is_end:
            missed.append(source)
        return is_end

    s.lose(lose_the_end)
    for number in range(20):
        assert s.put("b", f"k{number}", b"v").status == OK
        assert s.delete("b", f"k{number}", level=Level.ALL).status == OK
    assert s.until(lambda: bool(missed))
    for machine in s.cluster.machines:
        machine.clock.jump(-60 * SECOND)
    assert s.until(lambda: 0 in tombstones(s, "b"))
    assert tombstones(s, "b")[follower] > 0
    s.heal()
    assert s.until(lambda: tombstones(s, "b") == [0, 0, 0], 15)


def test_a_step_of_a_round_is_asked_for_again_when_a_message_is_lost() -> None:
    s = Scenario(settings=QUICK)
    s.start()
    s.bucket("b")
    lost: list[Message] = []

    def lose_one(source: int, target: int, message: Message) -> bool:
        if lost or not isinstance(message, FloorAsk):
            return False
        lost.append(message)
        return True

    s.lose(lose_one)
    assert s.put("b", "k", b"v").status == OK
    assert s.delete("b", "k").status == OK
    assert s.until(lambda: bool(lost))
    assert s.until(lambda: tombstones(s, "b") == [0, 0, 0], 5)  # the step would be given up after ten seconds


def a_hint_that_comes_after_the_deletion_was_over() -> tuple[bytes | None, list[int]]:
    """Written while 2 was away, deleted when it was back, and then 0's hint for 2 is delivered."""
    s = Scenario(settings={**QUICK, **UNCOMPARED, "hint_replay_pause_us": 20_000_000})
    s.start()
    s.bucket("b")
    s.cut([2], [0, 1])
    assert s.until(lambda: s.sees_dead(0, 2))
    assert s.put("b", "k", b"old").status == OK
    s.heal()
    assert s.until(lambda: s.sees_all(0) and s.sees_all(2))
    assert s.delete("b", "k", level=Level.ALL).status == OK
    s.until(lambda: tombstones(s, "b") == [0, 0, 0], 15)
    s.run(60)
    end = s.get("b", "k", at=2, level=Level.ONE)
    return (None if end.result is None else end.result.value), tombstones(s, "b")


def test_a_hint_that_comes_after_the_deletion_was_over_brings_nothing_back() -> None:
    assert a_hint_that_comes_after_the_deletion_was_over() == (None, [0, 0, 0])


def test_a_floor_waits_for_a_replica_that_is_away_and_says_so() -> None:
    s = Scenario(settings=QUICK)
    s.start()
    s.bucket("b")
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    assert s.put("b", "k", b"v").status == OK
    assert s.delete("b", "k").status == OK
    s.run(20)
    assert tombstones(s, "b")[:2] == [1, 1]
    leaders = [group for peer in (0, 1) for group in s.node(peer).floors.status()]
    assert any("n3 down" in group.waiting for group in leaders) or not leaders
    s.start(2)
    assert s.until(lambda: tombstones(s, "b") == [0, 0, 0], 60)


def a_floor_is_raised_just_now(monkeypatch: Patch) -> list[int]:
    """The next write, by when it is admitted, comes below the floor."""
    delayed: list[int] = []
    original = Floors.refuses

    def refuses(self: Floors, table: int, token: int, admitted_us: int, *, followed: bool) -> int:
        limit_us = original(self, table, token, admitted_us, followed=followed)
        if not followed and delayed in ([], [admitted_us]):
            delayed[:] = [admitted_us]
            return admitted_us
        return limit_us

    monkeypatch.setattr(Floors, "refuses", refuses)
    return delayed


def with_a_floor() -> Scenario:
    """Three peers of which something was purged."""
    s = Scenario(settings=QUICK)
    s.start()
    s.bucket("b")
    assert s.put("b", "gone", b"v").status == OK
    assert s.delete("b", "gone").status == OK
    assert s.until(lambda: tombstones(s, "b") == [0, 0, 0])
    return s


def test_a_write_below_the_floor_is_stamped_again_and_written(monkeypatch: Patch) -> None:
    s = with_a_floor()
    delayed = a_floor_is_raised_just_now(monkeypatch)
    assert s.put("b", "k", b"v", level=Level.ALL).status == OK
    assert delayed
    end = s.get("b", "k", level=Level.ALL)
    assert end.status == OK and end.result.value == b"v"
    assert s.cluster.events.get("writes_stamped_again", 0) >= 1


@pytest.mark.parametrize("batched", [False, True])
def test_a_write_below_the_floor_goes_above_what_was_acknowledged_before_it(
    monkeypatch: Patch, batched: bool
) -> None:
    """Through a coordinator whose clock is behind the floor, and behind those who wrote before."""
    s = with_a_floor()
    s.set_clock(1, 20)
    for key in ("k", "l"):
        assert s.put("b", key, b"before", at=1).status == OK
    delayed = a_floor_is_raised_just_now(monkeypatch)
    if batched:
        pairs = [("k", b"after"), ("l", b"after")]
        end = s.wait(lambda then: s.door.put_all(0, s.buckets["b"], pairs, Level.QUORUM, then))
    else:
        end = s.put("b", "k", b"after", at=0)
    assert end.status == OK and delayed
    found = [s.get("b", key, at=peer).result.value for key in ("k", "l")[: 1 + batched] for peer in range(3)]
    assert found == [b"after"] * len(found)
