"""The pure parts of liveness: which rumour holds and how often it is told, suspicion, who pings whom."""

from __future__ import annotations

from random import Random

from hypothesis import given, strategies as st

from core.messages import PingAck, Rumour
from core.schema import Member
from node.overlay import TARGETS, Overlay, offsets
from node.rumours import (
    ALIVE,
    DEAD,
    SUSPECT,
    RumourQueue,
    first_incarnation,
    incarnation_of_rank,
    rank,
    state_of_rank,
    transmissions,
)
from node.suspicion import Suspicion, longest_us
from tests.node.swim_world import Cluster

STATES = st.sampled_from([ALIVE, SUSPECT, DEAD])
RUMOURS = st.builds(Rumour, st.just(2), STATES, st.integers(65536, 65540), st.sampled_from([1, 4]))


@given(STATES, st.integers(0, 1 << 50), STATES, st.integers(0, 1 << 50))
def test_rank_orders_by_incarnation_then_by_the_worse_state(s1: int, i1: int, s2: int, i2: int) -> None:
    assert (rank(s1, i1) < rank(s2, i2)) == ((i1, s1) < (i2, s2))
    assert (state_of_rank(rank(s1, i1)), incarnation_of_rank(rank(s1, i1))) == (s1, i1)


def test_a_new_life_outranks_every_refutation_of_the_last() -> None:
    assert rank(ALIVE, first_incarnation(2)) > rank(DEAD, first_incarnation(1) + 65_535)


@given(st.lists(RUMOURS, max_size=12), st.integers(0, 1 << 30))
def test_what_is_believed_in_the_end_does_not_depend_on_the_order_of_rumours(
    rumours: list[Rumour], seed: int
) -> None:
    """Heard in any order, repeated or not, all at once or one by one; given the time that verdicts take."""

    def believed(heard: list[Rumour], together: bool) -> tuple[int, int]:
        cluster = Cluster(4)
        for number in (1, 2, 4):
            cluster.crash(number)  # nobody else speaks
        process = cluster.peers[3]
        one = cluster.members[0].peer
        for message in [tuple(heard)] if together else [(rumour,) for rumour in heard]:
            process.deliver(one, PingAck(0, 1, message))
        cluster.run(20)  # in the end all that are silent are dead
        value = process.swim._ranks[2]
        cluster.validate()
        return state_of_rank(value), incarnation_of_rank(value)

    first = believed(rumours, together=False)
    again = rumours + rumours[:3]
    Random(seed).shuffle(again)
    assert believed(again, together=False) == first
    assert believed(again, together=True) == first
    assert first == (DEAD, max([rumour.incarnation for rumour in rumours], default=0))


@given(st.lists(RUMOURS, min_size=1, max_size=8))
def test_a_living_peer_wins_over_any_doubt_in_the_end(rumours: list[Rumour]) -> None:
    cluster = Cluster(4)
    for rumour in rumours:
        cluster.peers[3].deliver(cluster.members[0].peer, PingAck(0, 1, (rumour,)))
    cluster.run(5)
    assert cluster.all_alive()
    assert cluster.deaths() == [] or DEAD in {rumour.state for rumour in rumours}


def test_a_rumour_is_told_so_often_and_then_no_more() -> None:
    queue = RumourQueue()
    queue.add(Rumour(5, SUSPECT, 1, 2))
    told = [queue.take(4) for _ in range(6)]
    assert [len(rumours) for rumours in told] == [1, 1, 1, 1, 0, 0]
    assert len(queue) == 0
    assert [transmissions(n) for n in (1, 3, 9, 10, 1000)] == [4, 4, 4, 8, 16]


def test_news_go_first_and_a_message_is_bounded() -> None:
    queue = RumourQueue()
    for number in range(20):
        queue.add(Rumour(number, DEAD, 1, 0))
    assert [rumour.number for rumour in queue.take(9)] == [19, 18, 17, 16, 15, 14, 13, 12]
    queue.add(Rumour(12, ALIVE, 2, 12))
    assert [rumour.number for rumour in queue.take(9)] == [12, 11, 10, 9, 8, 7, 6, 5]
    queue.discard(4)
    told = [rumour.number for _ in range(100) for rumour in queue.take(9)]
    assert 4 not in told
    assert len(queue) == 0
    assert all(told.count(number) <= 9 for number in range(20))


def test_the_latest_about_a_peer_replaces_what_was_to_be_said() -> None:
    queue = RumourQueue()
    queue.add(Rumour(5, SUSPECT, 1, 2))
    queue.add(Rumour(5, ALIVE, 2, 5))
    assert queue.take(4) == (Rumour(5, ALIVE, 2, 5),)


def test_suspicion_grows_with_the_cluster_and_shrinks_with_confirmations() -> None:
    assert longest_us(4, 3, 400_000) == longest_us(4, 10, 400_000) == 1_600_000
    assert longest_us(4, 1000, 400_000) == 4_800_000
    suspicion = Suspicion(1_000_000, 4_800_000, 1000, by=1)
    deadlines = [suspicion.deadline_us()]
    assert not suspicion.confirm(1)
    for by in (2, 3, 4):
        assert suspicion.confirm(by)
        assert not suspicion.confirm(by)
        deadlines.append(suspicion.deadline_us())
    assert not suspicion.confirm(5)
    assert deadlines == sorted(deadlines, reverse=True)
    assert (deadlines[0], deadlines[-1]) == (5_800_000, 3_400_000)


def test_two_members_have_nobody_to_confirm() -> None:
    suspicion = Suspicion(0, 1_600_000, 2, by=1)
    assert not suspicion.confirm(2)
    assert suspicion.deadline_us() == 1_600_000


def test_sleep_does_not_count_and_a_death_heard_shortens() -> None:
    suspicion = Suspicion(0, 1_600_000, 3, by=1)
    suspicion.forgive(5_000_000, 5_500_000)
    assert suspicion.deadline_us() == 6_600_000
    suspicion.forgive(5_000_000, 5_500_000)
    assert suspicion.deadline_us() == 7_100_000  # not into the future
    suspicion.shorten(900_000)
    assert suspicion.deadline_us() == 6_400_000


def _members(count: int) -> tuple[Member, ...]:
    return tuple(
        Member(number.to_bytes(16, "big"), number, f"n{number}", "a", "d", "r", ())
        for number in range(3, 3 + count)
    )


@given(st.integers(1, 300), st.integers(0, 1 << 30))
def test_everybody_is_pinged_by_as_many_as_it_pings(count: int, seed: int) -> None:
    draw = Random(seed)
    members = _members(count)
    pinged: dict[int, int] = {}
    for member in members:
        overlay = Overlay(members, member.number, draw.randrange)
        targets = [overlay.next(()) for _ in range(len(overlay))]
        numbers = [target.number for target in targets if target is not None]
        assert len(set(numbers)) == len(numbers) == min(count - 1, TARGETS)
        assert member.number not in numbers
        for number in numbers:
            pinged[number] = pinged.get(number, 0) + 1
    assert all(pinged.get(member.number, 0) == min(count - 1, TARGETS) for member in members)


@given(st.integers(2, 200), st.integers(0, 1 << 30), st.floats(0, 1))
def test_whoever_dies_the_living_are_watched(count: int, seed: int, share: float) -> None:
    draw = Random(seed)
    members = _members(count)
    dead = {member.number for member in members[1:] if draw.random() < share}
    living = [member.number for member in members if member.number not in dead]
    pinged = set()
    for number in living:
        overlay = Overlay(members, number, draw.randrange)
        for _ in range(len(overlay)):
            target = overlay.next(dead)
            if target is not None:
                assert target.number not in dead and target.number != number
                pinged.add(target.number)
        picked = [member.number for member in overlay.pick(3, living[0], dead)]
        assert len(set(picked)) == len(picked) <= 3
        assert not {number, living[0], *dead} & {*picked}
    assert pinged == set(living) or len(living) == 1


def test_news_reach_all_of_a_thousand_in_few_steps() -> None:
    """The graph of who pings whom is shallow: no targets are a closed circle of friends."""
    for count in (100, 500, 1000, 1024, 5000):
        reached = {0}
        steps = 0
        frontier = [0]
        while len(reached) < count:
            frontier = [
                other
                for index in frontier
                for offset in offsets(count)
                if (other := (index + offset) % count) not in reached and not reached.add(other)  # type: ignore[func-returns-value]
            ]
            steps += 1
            assert frontier
        assert steps <= 6, count


def test_who_is_no_member_pings_nobody() -> None:
    overlay = Overlay(_members(5), 99, lambda n: 0)
    assert overlay.next(()) is None
    assert overlay.pick(3, 0, ()) == []
