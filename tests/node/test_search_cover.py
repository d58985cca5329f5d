"""Who is asked for a search: all ranges once, by the fewest, each with enough siblings, whoever asks."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings, strategies as st

from core.consistency import Level, need
from node.search_cover import Liveness, Part, Piece, cover, joined, pieces_within
from node.tally import reachable

PEERS = tuple(bytes([65 + n]) * 4 for n in range(6))


class Places:
    """Two datacentres, peers in turn."""

    def datacentre(self, peer: bytes) -> str:
        return f"dc{PEERS.index(peer) % 2 + 1}"


FACTORS = {1: (("dc1", 3), ("dc2", 3)), 0: (("", 3),)}


@st.composite
def rings(draw: st.DrawFn) -> list[Piece]:
    cuts = sorted(draw(st.sets(st.integers(-50, 50), min_size=1, max_size=8)) | {51})
    pieces: list[Piece] = []
    first = -60
    for cut in cuts:
        replicas = tuple(draw(st.permutations(PEERS))[:3])
        pieces.append((first, cut, replicas))
        first = cut + 1
    return pieces


alive = st.sets(st.sampled_from(PEERS), min_size=0).map(lambda found: tuple(sorted(found)))
levels = st.sampled_from([Level.ONE, Level.TWO, Level.QUORUM, Level.ALL])


@settings(max_examples=200, deadline=None)
@given(rings(), alive, levels, st.integers(0, 99))
def test_every_token_is_served_once_or_nobody_can(
    pieces: list[Piece], alive: tuple[bytes, ...], level: Level, salt: int
) -> None:
    wanted = need(level, FACTORS[0], "dc1")
    parts, unserved = cover(pieces, Liveness(alive, alive, (), salt), wanted, Places(), "dc1")
    assert len({part.server for part in parts}) == len(parts)
    for first, last, replicas in pieces:
        for token in (first, last):
            serving = [p for p in parts if any(low <= token <= high for low, high in p.ranges)]
            possible = reachable(wanted, Places(), "dc1", [peer for peer in replicas if peer in alive]).met
            assert len(serving) == (1 if possible else 0)
            assert possible == all(not a <= token <= b for a, b, _ in unserved)
            if serving:
                (part,) = serving
                assert part.server in replicas and part.server not in part.follow
                caught_up = [part.server, *(peer for peer in part.follow if peer in replicas)]
                assert reachable(wanted, Places(), "dc1", caught_up).met
                assert set(part.follow) <= set(alive)


@settings(max_examples=100, deadline=None)
@given(rings(), st.integers(0, 99))
def test_it_asks_as_few_as_greed_can_and_never_more_than_pieces(pieces: list[Piece], salt: int) -> None:
    parts, unserved = cover(
        pieces, Liveness(PEERS, PEERS, (), salt), need(Level.ONE, FACTORS[0], "dc1"), Places(), ""
    )
    assert not unserved
    fewest = next(
        n
        for n in range(1, 7)
        for chosen in combinations(PEERS, n)
        if all(any(peer in replicas for peer in chosen) for _, _, replicas in pieces)
    )
    assert fewest <= len(parts) <= min(len(pieces), 2 * fewest)


def test_pairs_that_do_not_reach_each_other_are_not_put_together() -> None:
    a, b, c = PEERS[:3]
    wanted = need(Level.QUORUM, FACTORS[0], "dc1")
    apart = ((a, b), (a, c))
    parts, _ = cover([(0, 9, (a, b, c))], Liveness((a, b, c), (a, b, c), apart), wanted, Places(), "")
    assert len(parts) == 1 and parts[0].server != a


def test_ones_own_datacentre_serves_if_it_can_and_levels_count_there() -> None:
    wanted = need(Level.LOCAL_QUORUM, FACTORS[1], "dc2")
    parts, _ = cover([(0, 9, PEERS)], Liveness(PEERS, PEERS), wanted, Places(), "dc2")
    (part,) = parts
    assert Places().datacentre(part.server) == "dc2"
    assert [Places().datacentre(peer) for peer in part.follow] == ["dc2"]


def test_pieces_are_cut_to_what_is_asked() -> None:
    pieces: list[Piece] = [(-60, 0, PEERS[:3]), (1, 51, PEERS[1:4])]
    assert pieces_within(pieces, ((-5, 5),)) == [(-5, 0, PEERS[:3]), (1, 5, PEERS[1:4])]
    assert joined([(1, 5), (-5, 0), (9, 9)]) == ((-5, 5), (9, 9))
    assert Part(PEERS[0], ((-(2**63), 2**63 - 1),), ()).holds(
        b"R\x00\x00\x00\x01" + bytes(8) + b"a\x00\x00\x02"
    )
