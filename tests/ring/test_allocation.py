"""Joining one by one keeps the load even, moves little, and never splits a slice or repeats a token."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from ring.allocation import allocate, allocate_initial
from ring.placement import NetworkTopologyStrategy, Peer, Placement, Ring, SimpleStrategy, Strategy, ownership
from ring.tokens import SLICES, is_slice_end, slice_of

BALANCE_MAX = 1.15
"""Largest owner, in units of the mean replicated ownership."""
MOVED_MAX = 1.2
"""Data a joining peer moves, in units of 1/N of all replicated data."""


def newcomers(count: int, racks: int = 1, datacentres: int = 1) -> list[Peer]:
    """Peers without tokens, dealt out to datacentres and their racks in turn."""
    return [
        Peer(n + 1, f"n{n + 1}", f"dc{n % datacentres}", f"r{n // datacentres % racks}", ())
        for n in range(count)
    ]


class Join(NamedTuple):
    """What the last join led to."""

    largest: float
    moved: float


def join_of_last(peers: tuple[Peer, ...], strategy: Strategy) -> Join:
    """Balance with all of `peers`, and what the last one moved to anyone, both in units of the even share."""
    after = Placement(Ring(peers), strategy)
    before = Placement(Ring(peers[:-1]), strategy)
    replicas = min(strategy.replication_factor, len(peers))
    acquired = 0
    for token_range, now in after.ranges():
        # Every old range is a union of new ones, so all of a new one had the replicas of its end before.
        acquired += token_range.width * len(set(now).difference(before.replicas(token_range.end)))
    share = replicas / len(peers)
    return Join(max(ownership(after).values()) / share, acquired / 2**64 / share)


def assert_good(peers: tuple[Peer, ...], strategy: Strategy) -> None:
    join = join_of_last(peers, strategy)
    assert join.largest <= BALANCE_MAX, f"{len(peers)} peers: {join}"
    assert join.moved <= MOVED_MAX, f"{len(peers)} peers: {join}"


@pytest.fixture(scope="module")
def hundred() -> tuple[Peer, ...]:
    return allocate_initial(newcomers(100))


# With no more peers than replicas a newcomer copies everything: nothing to measure.
@pytest.mark.parametrize("count", [*range(4, 61), 100])
def test_joining_one_by_one_stays_even_and_moves_little(hundred: tuple[Peer, ...], count: int) -> None:
    assert_good(hundred[:count], SimpleStrategy(3))


def test_up_to_as_many_peers_as_replicas_all_own_everything(hundred: tuple[Peer, ...]) -> None:
    for count in (1, 2, 3):
        owned = ownership(Placement(Ring(hundred[:count]), SimpleStrategy(3)))
        assert owned == dict.fromkeys(range(1, count + 1), 1.0)


@pytest.mark.slow
def test_a_thousand_peers() -> None:
    peers = allocate_initial(newcomers(1000))
    for count in (200, 500, 999, 1000):
        assert_good(peers[:count], SimpleStrategy(3))
    assert_valid(peers)


@pytest.mark.parametrize("count", [*range(6, 100, 3), 100])
def test_three_racks(count: int) -> None:
    # The first `count` of one history: peers that come later change nothing for those before them.
    assert_good(THREE_RACKS[:count], NetworkTopologyStrategy({"dc0": 3}))


THREE_RACKS = allocate_initial(newcomers(100, racks=3))


@pytest.mark.parametrize("racks", [2, 4, 5])
def test_racks_fewer_or_more_than_replicas(racks: int) -> None:
    peers = allocate_initial(newcomers(60, racks))
    for count in range(4 * racks, 61, racks):
        assert_good(peers[:count], NetworkTopologyStrategy({"dc0": 3}))


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_other_factors(factor: int) -> None:
    peers = allocate_initial(newcomers(60), replication_factor=factor)
    for count in range(factor + 1, 61, 5):
        assert_good(peers[:count], SimpleStrategy(factor))


def test_two_datacentres_are_each_even() -> None:
    peers = allocate_initial(newcomers(60, racks=3, datacentres=2))
    assert_valid(peers)
    strategy = NetworkTopologyStrategy({"dc0": 3, "dc1": 3})
    owned = ownership(Placement(Ring(peers), strategy))
    assert max(owned.values()) <= BALANCE_MAX * 6 / 60


def assert_valid(peers: tuple[Peer, ...], vnodes: int = 16) -> None:
    every = [token for peer in peers for token in peer.tokens]
    assert len(set(every)) == len(every) == vnodes * len(peers)
    assert all(is_slice_end(token) for token in every)
    assert all(list(peer.tokens) == sorted(peer.tokens) for peer in peers)
    for token_range, _ in Placement(Ring(peers), SimpleStrategy(1)).ranges():
        assert token_range.width % (2**64 // SLICES) == 0


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 14), st.integers(1, 5), st.integers(1, 2), st.integers(1, 4), st.integers(1, 6))
def test_one_by_one_from_the_ring_gives_the_same(
    count: int, racks: int, datacentres: int, factor: int, vnodes: int
) -> None:
    """What the allocator carries from join to join equals what placement says of the ring."""
    together = allocate_initial(newcomers(count, racks, datacentres), vnodes, factor)
    ring = Ring([])
    for newcomer in newcomers(count, racks, datacentres):
        ring = ring.with_peer(replace(newcomer, tokens=allocate(ring, newcomer, vnodes, factor)))
    assert ring == Ring(together)
    assert_valid(together, vnodes)


def test_joining_after_others_left_stays_cheap_and_restores_the_balance() -> None:
    peers = list(allocate_initial(newcomers(30)))
    left = {3, 9, 10, 22, 27}
    ring = Ring(peer for peer in peers if peer.number not in left)
    for number in range(31, 41):
        newcomer = Peer(number, f"n{number}", "dc0", "r0", ())
        ring = ring.with_peer(replace(newcomer, tokens=allocate(ring, newcomer)))
        join = join_of_last(ring.peers, SimpleStrategy(3))
        assert join.moved <= MOVED_MAX
    assert join_of_last(ring.peers, SimpleStrategy(3)).largest <= BALANCE_MAX


def test_tokens_are_the_same_everywhere(hundred: tuple[Peer, ...]) -> None:
    """Golden: a change here changes the rings of new clusters, which is allowed, and should be meant."""
    assert [[slice_of(token) for token in peer.tokens[:4]] for peer in hundred[:4]] == GOLDEN_SLICES


GOLDEN_SLICES = [
    [15630, 32014, 48398, 64782],
    [11534, 23822, 40206, 56590],
    [1430, 26006, 42390, 58774],
    [3068, 17268, 27644, 44028],
]


def test_a_ring_that_splits_slices_and_a_peer_that_joins_twice_are_refused() -> None:
    with pytest.raises(AssertionError, match="splits a slice"):
        allocate(Ring([Peer(1, "n1", "dc0", "r0", (12345,))]), Peer(2, "n2", "dc0", "r0", ()))
    with pytest.raises(AssertionError, match="joins once"):
        allocate(Ring(newcomers(2)), Peer(2, "n2", "dc0", "r0", ()))
