"""Replicas stand where Cassandra puts them: golden rings, a plain walk as model, properties of placements."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from ring.placement import (
    NetworkTopologyStrategy,
    Peer,
    Placement,
    Ring,
    SimpleStrategy,
    Strategy,
    ownership,
)
from ring.tokens import MAX_TOKEN, MIN_TOKEN, TokenRange


def peer(number: int, place: str, *tokens: int) -> Peer:
    datacentre, rack = place.split("/")
    return Peer(number, f"n{number}", datacentre, rack, tokens)


@st.composite
def rings(draw: st.DrawFn) -> list[Peer]:
    """Up to a dozen peers in up to 3 datacentres of up to 4 racks, with 0 to 4 vnodes each."""
    peers = []
    for number in range(draw(st.integers(1, 12))):
        place = f"dc{draw(st.integers(0, 2))}/r{draw(st.integers(0, 3))}"
        # Unequal remainders keep the tokens of different peers apart.
        wanted = draw(st.lists(st.integers(-500, 500), max_size=4, unique=True))
        peers.append(peer(number + 1, place, *(20 * token + number for token in wanted)))
    return peers


strategies: st.SearchStrategy[Strategy] = st.one_of(
    st.integers(1, 5).map(SimpleStrategy),
    st.dictionaries(st.sampled_from(["dc0", "dc1", "dc2", "elsewhere"]), st.integers(0, 4), min_size=1)
    .filter(lambda factors: any(factors.values()))
    .map(NetworkTopologyStrategy),
)


def walk(ring: Ring, token: int) -> list[Peer]:
    """The distinct peers clockwise from a token."""
    vnodes = sorted((end, peer.number) for peer in ring.peers for end in peer.tokens)
    after = [number for end, number in vnodes if end >= token]
    wrapped = [number for end, number in vnodes if end < token]
    return [ring.peer(number) for number in dict.fromkeys(after + wrapped)]


def replicas_by_the_book(ring: Ring, strategy: Strategy, token: int) -> list[int]:
    """Per datacentre: new racks first; repeated racks, in order, when all racks have one."""
    order = walk(ring, token)
    if isinstance(strategy, SimpleStrategy):
        return [peer.number for peer in order[: strategy.replication_factor]]
    chosen: list[Peer] = []
    for datacentre, factor in strategy.factors.items():
        local = [peer for peer in order if peer.datacentre == datacentre]
        racks = {peer.rack for peer in local}
        taken: list[Peer] = []
        skipped: list[Peer] = []
        for candidate in local:
            used = {peer.rack for peer in taken}
            if candidate.rack not in used or used == racks:
                taken.append(candidate)
            else:
                skipped.append(candidate)
            if used | {candidate.rack} == racks:
                taken += skipped
                skipped = []
        chosen += taken[:factor]
    return [peer.number for peer in order if peer in chosen]


def test_simple_strategy_takes_the_next_distinct_peers() -> None:
    ring = Ring([peer(1, "dc/r", 0, 40), peer(2, "dc/r", 10, 20), peer(3, "dc/r", 30), peer(4, "dc/r", 50)])
    placement = Placement(ring, SimpleStrategy(3))
    golden = {0: (1, 2, 3), 10: (2, 3, 1), 20: (2, 3, 1), 30: (3, 1, 4), 40: (1, 4, 2), 50: (4, 1, 2)}
    assert {end: placement.replicas(end) for end in golden} == golden
    assert placement.replicas(1) == placement.replicas(10), "a range starts after the token before it"
    assert placement.replicas(51) == placement.replicas(0) == placement.replicas(MIN_TOKEN)
    assert placement.replicas(MAX_TOKEN) == placement.replicas(0)
    assert placement.range_of(51) == placement.range_of(MIN_TOKEN) == TokenRange(50, 0)
    assert placement.range_of(11) == TokenRange(10, 20)


def test_network_topology_strategy_prefers_new_racks() -> None:
    ring = Ring(
        [
            peer(1, "east/a", 0),
            peer(2, "east/a", 10),
            peer(3, "east/b", 20),
            peer(4, "east/b", 30),
            peer(5, "east/c", 40),
            peer(6, "west/a", 25),
            peer(7, "west/a", 35),
        ]
    )
    three = Placement(ring, NetworkTopologyStrategy({"east": 3, "west": 1}))
    assert three.replicas(0) == (1, 3, 6, 5)
    assert three.replicas(10) == (2, 3, 6, 5)
    assert three.replicas(25) == (6, 4, 5, 1), "the first may stand in any datacentre, then ring order"
    assert three.replicas(35) == (7, 5, 1, 3)
    four = Placement(ring, NetworkTopologyStrategy({"east": 4}))
    assert four.replicas(0) == (1, 2, 3, 5), "three racks, so one rack has two: the first that repeats"
    assert four.replicas(30) == (4, 5, 1, 2)
    assert four.factors == {"east": 4}
    assert three.replication_factor == 4


def test_fewer_peers_than_replicas() -> None:
    ring = Ring([peer(2, "dc/a", 5), peer(1, "dc/a", 9), peer(3, "dc/b")])
    for strategy in (SimpleStrategy(3), NetworkTopologyStrategy({"dc": 3, "other": 2})):
        placement = Placement(ring, strategy)
        assert placement.replicas(0) == (2, 1)
        assert placement.replication_factor == strategy.replication_factor
        assert ownership(placement) == {1: 1.0, 2: 1.0, 3: 0.0}
        assert not placement.ranges_of(3)
        assert not placement.neighbours(3)


def test_one_vnode_is_the_whole_ring_and_none_is_nothing() -> None:
    alone = Placement(Ring([peer(1, "dc/a", 5)]), SimpleStrategy(3))
    assert alone.ranges() == ((TokenRange(5, 5), (1,)),)
    assert alone.replicas(6) == (1,)
    assert alone.neighbours(1) == ()
    nobody = Placement(Ring([]), SimpleStrategy(3))
    assert not nobody.ranges()
    assert not nobody.replicas(0)


def test_a_ring_refuses_what_would_be_ambiguous() -> None:
    with pytest.raises(AssertionError, match="one token"):
        Ring([peer(1, "dc/a", 5), peer(2, "dc/a", 5)])
    with pytest.raises(AssertionError, match="one number"):
        Ring([peer(1, "dc/a", 5), peer(1, "dc/b", 6)])
    with pytest.raises(AssertionError, match="off the ring"):
        Ring([peer(1, "dc/a", MAX_TOKEN + 1)])


@given(rings(), strategies)
def test_replicas_are_those_of_the_walk(peers: list[Peer], strategy: Strategy) -> None:
    ring = Ring(peers)
    placement = Placement(ring, strategy)
    for end in ring.tokens:
        for token in (end, end + 1):
            replicas = placement.replicas(token)
            assert list(replicas) == replicas_by_the_book(ring, strategy, token)
            assert len(set(replicas)) == len(replicas)
            assert len(replicas) <= placement.replication_factor


@given(rings(), strategies)
def test_datacentres_have_their_factors_in_distinct_racks(peers: list[Peer], strategy: Strategy) -> None:
    ring = Ring(peers)
    for _, replicas in Placement(ring, strategy).ranges():
        for datacentre, factor in strategy.factors.items():
            there = [peer for peer in ring.peers if peer.datacentre == datacentre and peer.tokens]
            chosen = [peer for peer in there if peer.number in replicas]
            assert len(chosen) == min(factor, len(there))
            assert len({peer.rack for peer in chosen}) == min(factor, len({peer.rack for peer in there}))


@given(rings(), strategies)
def test_ranges_partition_the_token_space(peers: list[Peer], strategy: Strategy) -> None:
    placement = Placement(Ring(peers), strategy)
    intervals = sorted(part for token_range, _ in placement.ranges() for part in token_range.unwrap())
    if intervals:
        assert intervals[0][0] == MIN_TOKEN
        assert intervals[-1][1] == MAX_TOKEN
        assert all(last + 1 == first for (_, last), (first, _) in pairwise(intervals))
    for token_range, replicas in placement.ranges():
        assert placement.replicas(token_range.end) == replicas
        assert placement.range_of(token_range.end) == token_range
        assert all(placement.replicas(first) == replicas for first, _ in token_range.unwrap())


@given(rings(), strategies)
def test_views_by_peer_agree_with_the_ranges(peers: list[Peer], strategy: Strategy) -> None:
    ring = Ring(peers)
    placement = Placement(ring, strategy)
    ranges = placement.ranges()
    for one in ring.peers:
        held = [token_range for token_range, replicas in ranges if one.number in replicas]
        assert list(placement.ranges_of(one.number)) == held
        met = {number for _, replicas in ranges if one.number in replicas for number in replicas}
        assert list(placement.neighbours(one.number)) == sorted(met - {one.number})
        for other in ring.peers:
            both = [each for each, replicas in ranges if {one.number, other.number} <= set(replicas)]
            assert list(placement.shared_ranges(one.number, other.number)) == both
    fractions = ownership(placement)
    copies = sum(token_range.width * len(replicas) for token_range, replicas in ranges) / 2**64
    assert sum(fractions.values()) == pytest.approx(copies)
    assert list(fractions) == [peer.number for peer in ring.peers]


@given(rings().flatmap(lambda peers: st.tuples(st.just(peers), st.permutations(peers))), strategies)
def test_the_order_of_peers_is_nothing(both: tuple[list[Peer], list[Peer]], strategy: Strategy) -> None:
    one, other = Ring(both[0]), Ring(both[1])
    assert one == other
    assert hash(one) == hash(other)
    assert Placement(one, strategy).ranges() == Placement(other, strategy).ranges()


@given(rings())
def test_members_come_and_go(peers: list[Peer]) -> None:
    ring = Ring(peers)
    last = peers[-1]
    assert last.number in ring
    fewer = ring.without(last.number)
    assert last.number not in fewer
    assert fewer.with_peer(last) == ring
    assert ring.with_peer(last) == ring
    assert fewer != ring
