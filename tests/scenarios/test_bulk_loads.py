"""Loads against peers that are slow, gone for a while, or cut off: each line is acknowledged in the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.bulk_messages import ApplyMutations
from core.consistency import Level
from core.messages import MutationApplied
from core.requests import BulkAnswered, BulkRequest, WriteRequest, Written
from jepsen_like.history import INFO
from jepsen_like.scenarios import Scenario
from kv import operations
from sim.cluster import Reply

GROUP, GROUPS = 40, 5


class Load:
    """So many groups of puts, all begun at once through one peer."""

    def __init__(self, s: Scenario, at: int = 0, level: Level = Level.QUORUM, seconds: float = 25.0) -> None:
        self.s = s
        self.replies: list[Reply] = []
        bucket = s.buckets["b"]
        for group in range(GROUPS):
            puts = []
            for number in range(GROUP):
                put = operations.put(bucket, f"{group}/{number}", b"v%d" % number, "text/plain", level)
                assert isinstance(put, WriteRequest), put
                puts.append(put)
            request = BulkRequest(bucket.table, tuple(puts), level)
            s.cluster.request(at, request, int(seconds * 1_000_000), self.replies.append)

    def is_done(self) -> bool:
        return len(self.replies) == GROUPS

    def are_written(self) -> bool:
        """Whether each line was acknowledged."""
        assert all(isinstance(reply.answer, BulkAnswered) for reply in self.replies), self.replies
        answers = [one for reply in self.replies for one in reply.answer.answers]  # type: ignore[union-attr]
        return len(answers) == GROUP * GROUPS and all(isinstance(one, Written) for one in answers)


def cluster() -> Scenario:
    s = Scenario()
    s.start()
    s.bucket("b")
    return s


def all_is_everywhere(s: Scenario) -> bool:
    return s.equal_within(60) and all(len(s.stored(peer, "b")) == GROUP * GROUPS for peer in range(3))


def held_disks(s: Scenario) -> None:
    """A sync takes longer than a write may, at all of them."""
    for peer in range(3):
        s.hold_syncs(peer, 3)


def held_replicas(s: Scenario) -> None:
    """The same at two of three."""
    for peer in (1, 2):
        s.hold_syncs(peer, 6)


def lost_messages(s: Scenario) -> None:
    """What is said to one replica is lost, and what another answers."""
    s.lose(
        lambda source, target, message: (
            (target == 1 and isinstance(message, ApplyMutations))
            or (source == 2 and isinstance(message, MutationApplied))
        )
    )


@pytest.mark.parametrize("trouble", [held_disks, held_replicas])
def test_a_load_on_slow_disks_is_slow_and_nothing_of_it_fails(trouble: Callable[[Scenario], None]) -> None:
    s = cluster()
    trouble(s)
    assert s.put("b", "0/0", b"v0").status == INFO, "a single write is unknown by then"
    load = Load(s)
    assert s.until(load.is_done, 40)
    assert load.are_written()
    for peer in range(3):
        s.hold_syncs(peer, 0)
    assert all_is_everywhere(s)


def test_a_replica_that_is_paused_is_owed_what_the_others_have() -> None:
    s = cluster()
    s.pause(2)
    load = Load(s)
    assert s.until(load.is_done, 40)
    assert load.are_written()
    s.resume(2)
    assert all_is_everywhere(s)


def test_two_replicas_that_are_paused_for_a_while_are_waited_for() -> None:
    s = cluster()
    s.pause(1, 2)
    load = Load(s)
    s.run(3)
    assert not load.replies
    s.resume(1, 2)
    assert s.until(load.is_done, 40)
    assert load.are_written()
    assert all_is_everywhere(s)


def test_a_replica_that_starts_again_is_sent_it_again() -> None:
    s = cluster()
    s.hold_syncs(1, 2)
    s.hold_syncs(2, 2)
    load = Load(s)
    s.run(0.5)
    s.kill(1)
    s.start(1, serving=False)
    assert s.until(load.is_done, 40)
    assert load.are_written()
    s.hold_syncs(2, 0)
    assert all_is_everywhere(s)


def test_what_is_unknown_at_the_deadline_is_everywhere_or_nowhere_in_the_end() -> None:
    s = cluster()
    lost_messages(s)
    load = Load(s, seconds=5.0)
    assert s.until(load.is_done, 10)
    assert all(reply.unknown for reply in load.replies)
    s.heal()
    assert all_is_everywhere(s), "one peer had it all"


def test_with_one_peer_gone_for_good_the_others_take_it_all() -> None:
    s = cluster()
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    load = Load(s)
    assert s.until(load.is_done, 40)
    assert load.are_written()
    s.start(2)
    assert all_is_everywhere(s)
