"""Placement: which peers replicate which tokens, exactly as Cassandra places replicas.

A `Ring` is the sorted vnode tokens of one epoch's peers; a strategy says how many replicas there are where;
their `Placement` is a table with the replicas of every vnode's range, built once and shared by all who hold
the epoch.

The walk. From a range clockwise, the peers come in the order of their next vnode. NetworkTopologyStrategy
takes, per datacentre with factor f and r racks, the first peer of each rack, and of the peers whose rack is
taken already the first max(0, f - r), until it has f or knows no more. (Older Cassandra says: skip repeated
racks until all racks have one, then use the skipped ones in order; that is the same set.) SimpleStrategy is
the case of one datacentre with one rack. The replicas are listed in ring order, the first being the owner of
the vnode if its datacentre has replicas.

The table is not built by walking from each vnode, which may have to pass thousands to find a small rack, but
in one sweep backwards: what comes next, as seen from a vnode, is that vnode's peer and then what came next
from its successor. So per datacentre it suffices to carry the next f distinct peers and the next f distinct
racks with the first peer of each: the repeats are among the former, because at most r of those f peers can be
first of their rack.

Invariants: the replicas of a range are distinct; the ranges partition the token space; nothing here changes
after construction (what is computed on first use is computed from what does not change).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ring.tokens import MAX_TOKEN, MIN_TOKEN, TokenRange

PeerNumber = int
Replicas = tuple[PeerNumber, ...]

_Item = TypeVar("_Item")
_ONE_RACK = ("", "")


@dataclass(frozen=True, slots=True)
class Peer:
    """A member of the ring as placement sees it. `tokens` are the ends of its vnodes; it may have none."""

    number: PeerNumber
    name: str
    datacentre: str
    rack: str
    tokens: tuple[int, ...]


class Ring:
    """The vnodes of an epoch: sorted tokens, who owns each. Immutable; any order of peers makes the same."""

    __slots__ = ("_by_number", "owners", "peers", "tokens")

    peers: tuple[Peer, ...]
    """All peers, by ascending number."""
    tokens: tuple[int, ...]
    """All vnode tokens, ascending."""
    owners: tuple[PeerNumber, ...]
    """The peer of each of `tokens`."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self.peers = tuple(sorted(peers, key=lambda peer: peer.number))
        self._by_number = {peer.number: peer for peer in self.peers}
        assert len(self._by_number) == len(self.peers), "two peers of one number"
        vnodes = sorted((token, peer.number) for peer in self.peers for token in peer.tokens)
        self.tokens = tuple(token for token, _ in vnodes)
        self.owners = tuple(number for _, number in vnodes)
        assert len(set(self.tokens)) == len(self.tokens), "two vnodes of one token"
        assert all(MIN_TOKEN <= token <= MAX_TOKEN for token in self.tokens), "a token off the ring"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ring) and self.peers == other.peers

    def __hash__(self) -> int:
        return hash((self.tokens, self.owners))

    def __contains__(self, number: PeerNumber) -> bool:
        return number in self._by_number

    def peer(self, number: PeerNumber) -> Peer:
        """The peer of that number. Raises KeyError if it is no member."""
        return self._by_number[number]

    def with_peer(self, peer: Peer) -> Ring:
        """This ring and one peer more, or one peer's new description in place of its old."""
        return Ring((*(old for old in self.peers if old.number != peer.number), peer))

    def without(self, number: PeerNumber) -> Ring:
        """This ring without one peer."""
        return Ring(peer for peer in self.peers if peer.number != number)


@dataclass(frozen=True, slots=True)
class SimpleStrategy:
    """The next `replication_factor` distinct peers clockwise, wherever they stand."""

    replication_factor: int

    @property
    def factors(self) -> dict[str, int]:
        """Replicas per datacentre: empty, for this strategy knows none."""
        return {}


@dataclass(frozen=True, slots=True, init=False)
class NetworkTopologyStrategy:
    """A number of replicas per datacentre, in different racks as far as there are racks."""

    by_datacentre: tuple[tuple[str, int], ...]
    """(datacentre, factor), ascending by name, factors above 0."""

    def __init__(self, factors: Mapping[str, int]) -> None:
        kept = tuple(sorted((name, factor) for name, factor in factors.items() if factor > 0))
        object.__setattr__(self, "by_datacentre", kept)

    @property
    def factors(self) -> dict[str, int]:
        """Replicas per datacentre."""
        return dict(self.by_datacentre)

    @property
    def replication_factor(self) -> int:
        """Replicas in all datacentres together."""
        return sum(factor for _, factor in self.by_datacentre)


Strategy = SimpleStrategy | NetworkTopologyStrategy


@dataclass(slots=True)
class _Sweep:
    """One datacentre's view clockwise from the vnode that the backward sweep has reached."""

    factor: int
    repeats: int
    peers: list[PeerNumber] = field(default_factory=list)
    racks: list[str] = field(default_factory=list)
    first_of_rack: dict[str, PeerNumber] = field(default_factory=dict)
    chosen: list[PeerNumber] = field(default_factory=list)

    def pass_vnode(self, number: PeerNumber, rack: str) -> None:
        """Step back over a vnode: its peer and its rack now come first."""
        if self.peers and self.peers[0] == number:
            return
        _move_to_front(self.peers, number, self.factor)
        _move_to_front(self.racks, rack, self.factor)
        self.first_of_rack[rack] = number
        firsts = [self.first_of_rack[name] for name in self.racks]
        others = [peer for peer in self.peers if peer not in firsts]
        self.chosen = firsts + others[: self.repeats]


def _move_to_front(items: list[_Item], item: _Item, length_max: int) -> None:
    if item in items:
        items.remove(item)
    elif len(items) == length_max:
        items.pop()
    items.insert(0, item)


def _replicas_of_vnodes(ring: Ring, strategy: Strategy) -> tuple[Replicas, ...]:
    """The replicas of the range that ends at each of the ring's tokens."""
    places = {peer.number: _place(peer, strategy) for peer in ring.peers if peer.tokens}
    factors = strategy.factors or {_ONE_RACK[0]: strategy.replication_factor}
    sweeps: dict[str, _Sweep] = {}
    for datacentre, factor in factors.items():
        racks = {rack for where, rack in places.values() if where == datacentre}
        sweeps[datacentre] = _Sweep(factor, max(0, factor - len(racks)))
    vnodes = len(ring.tokens)
    next_position: dict[PeerNumber, int] = {}
    table: list[Replicas] = [()] * vnodes
    # Two laps: the first only finds out what lies beyond the end of the second.
    for position in range(2 * vnodes - 1, -1, -1):
        number = ring.owners[position % vnodes]
        datacentre, rack = places[number]
        sweep = sweeps.get(datacentre)
        if sweep is not None:
            next_position[number] = position
            sweep.pass_vnode(number, rack)
        if position < vnodes:
            chosen = [peer for sweep in sweeps.values() for peer in sweep.chosen]
            chosen.sort(key=next_position.__getitem__)
            table[position] = tuple(chosen)
    return tuple(table)


def _place(peer: Peer, strategy: Strategy) -> tuple[str, str]:
    if isinstance(strategy, SimpleStrategy):
        return _ONE_RACK
    return peer.datacentre, peer.rack


class Placement:
    """The replicas of every token under one ring and one strategy. Immutable, to be shared.

    Where peers are fewer than replicas wanted, all there are replicate; `replication_factor` stays what was
    wanted.
    """

    ring: Ring
    strategy: Strategy
    replication_factor: int
    """Replicas wanted, in all datacentres."""
    factors: dict[str, int]
    """Replicas wanted per datacentre; empty for SimpleStrategy. Not to be changed."""

    def __init__(self, ring: Ring, strategy: Strategy) -> None:
        assert strategy.replication_factor > 0, "a strategy without replicas"
        self.ring = ring
        self.strategy = strategy
        self.replication_factor = strategy.replication_factor
        self.factors = strategy.factors
        self._table = _replicas_of_vnodes(ring, strategy)
        self._tokens = ring.tokens
        # Tokens above the last vnode belong to the first one's range; one entry more spares a modulo.
        self._lookup = (*self._table, self._table[0] if self._table else ())

    def replicas(self, token: int) -> Replicas:
        """The peers that replicate `token`, in ring order; fewer than the factor, or none, if peers lack."""
        return self._lookup[bisect_left(self._tokens, token)]

    def ranges(self) -> tuple[tuple[TokenRange, Replicas], ...]:
        """Every vnode's range with its replicas, ascending by its end. They partition the token space."""
        return self._ranges

    @cached_property
    def _ranges(self) -> tuple[tuple[TokenRange, Replicas], ...]:
        tokens = self._tokens
        return tuple(
            (TokenRange(tokens[position - 1], token), replicas)
            for position, (token, replicas) in enumerate(zip(tokens, self._table, strict=True))
        )

    def range_of(self, token: int) -> TokenRange:
        """The vnode's range that holds `token`. The ring must not be empty."""
        return self._ranges[bisect_left(self._tokens, token) % len(self._tokens)][0]

    def ranges_of(self, number: PeerNumber) -> tuple[TokenRange, ...]:
        """The vnode ranges that a peer replicates, ascending by their end."""
        return self._ranges_by_peer.get(number, ())

    @cached_property
    def _ranges_by_peer(self) -> dict[PeerNumber, tuple[TokenRange, ...]]:
        held: dict[PeerNumber, list[TokenRange]] = {}
        for token_range, replicas in self._ranges:
            for number in replicas:
                held.setdefault(number, []).append(token_range)
        return {number: tuple(ranges) for number, ranges in held.items()}

    def neighbours(self, number: PeerNumber) -> tuple[PeerNumber, ...]:
        """The other peers that replicate something this one replicates, ascending."""
        return self._neighbours.get(number, ())

    @cached_property
    def _neighbours(self) -> dict[PeerNumber, tuple[PeerNumber, ...]]:
        met: dict[PeerNumber, set[PeerNumber]] = {}
        for replicas in dict.fromkeys(self._table):
            for number in replicas:
                met.setdefault(number, set()).update(replicas)
        return {number: tuple(sorted(others - {number})) for number, others in met.items()}

    def shared_ranges(self, one: PeerNumber, other: PeerNumber) -> tuple[TokenRange, ...]:
        """The vnode ranges that both peers replicate, ascending by their end."""
        held = dict.fromkeys(self.ranges_of(other))
        return tuple(token_range for token_range in self.ranges_of(one) if token_range in held)


def ownership(placement: Placement) -> dict[PeerNumber, float]:
    """Per peer of the ring, the fraction of the data it replicates: 1.0 is a whole copy.

    The fractions sum to the replicas that a token has, the replication factor if there are peers enough.
    """
    widths = {peer.number: 0 for peer in placement.ring.peers}
    for token_range, replicas in placement.ranges():
        for number in replicas:
            widths[number] += token_range.width
    return {number: width / 2**64 for number, width in widths.items()}
