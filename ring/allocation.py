"""Which tokens a joining peer is given, so that no peer replicates much more than its share.

Random tokens need hundreds of vnodes per peer for an even load; 16 suffice if each is chosen. Tokens of
members never move, so the newcomer's are the only freedom. They are chosen greedily, one after another (the
idea of Cassandra's ReplicationAwareTokenAllocator): each relieves the peer that replicates most at that
moment, and lets the newcomer grow to its fair share in equal steps.

What a new token does. Let p put a token t into the range (a, b]. Then p replicates (a, t], and of the ranges
before it every one from which the walk of placement (ring/placement.py) now meets p early enough. In each of
these, one peer drops out: the donor. Nobody else's load changes and no data moves but to p. How far p's reach
goes is found from the replicas of each range alone: putting p among them at its place and applying the rule
again gives what the whole walk would give. So a token is judged by looking at about as many ranges as there
are replicas.

How it is judged. Candidates are the ranges that the heaviest peer replicates, if a token there makes it a
donor. Each is judged by the sum over its donors of the squares of their distance from the fair load, which
falls most where the donors are heavy, and by how far the newcomer ends from its step. Where in (a, b] the
token goes is the minimum of a parabola. Measured: judging more ranges without insisting on the heaviest gives
worse rings, for then one that is stuck high stays there while others are polished. Slivers and leaps far
beyond the step are ruled out: a vnode of one slice is wasted, and very unequal vnodes are hard to balance
later.

What is balanced is the load under NetworkTopologyStrategy with the given factor in the newcomer's datacentre,
which for a datacentre of one rack is also SimpleStrategy. Other datacentres' vnodes are irrelevant to it, but
their tokens are taken. With no more peers than replicas all own everything; then we balance what one replica
fewer than peers would own, so that the tokens are good ones when more peers come. The first peer of a rack
that must hold a whole copy anyway gets evenly spaced tokens.

Invariants: every token is the end of a slice (ring/tokens.py), so a vnode is a whole number of slices; no
token is given twice; the answer is a function of the ring and the newcomer alone, so joining one by one and
reading the ring back in between gives the same as `allocate_initial`.

All lengths and loads below are in slices, positions are slice numbers, and a range is named by its last
slice.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest

from ring.placement import NetworkTopologyStrategy, Peer, PeerNumber, Placement, Replicas, Ring
from ring.tokens import SLICES, is_slice_end, slice_end, slice_of, token_of

VNODES = 16
"""Vnodes per peer unless told otherwise."""

_STEP_WEIGHT = 4.0
"""How much the newcomer's distance from its step counts, a donor's distance from the fair load counting 1."""

_OVERSHOOT_MAX = 0.5
"""How far a token may take the newcomer beyond its step, in steps, however heavy the donor."""

_WIDTH_MIN_PERCENT = 40
"""Neither half of a split range is narrower than this, in percent of the mean vnode."""

_RELIEVED_TRIED = 4
"""How many of the heaviest peers are tried before the widest range is simply halved."""


def allocate(
    ring: Ring, newcomer: Peer, vnodes: int = VNODES, replication_factor: int = 3
) -> tuple[int, ...]:
    """The tokens, ascending, that `newcomer` should join `ring` with (its own `tokens` are ignored).

    `replication_factor` is that of the newcomer's datacentre. All tokens of the ring must be slice ends.
    """
    assert newcomer.number not in ring, "a peer joins once"
    load = _Load(ring.peers, newcomer, replication_factor)
    return tuple(slice_end(position) for position in sorted(load.choose(vnodes)))


def allocate_initial(
    peers: Iterable[Peer], vnodes: int = VNODES, replication_factor: int = 3
) -> tuple[Peer, ...]:
    """The peers of a new cluster with the tokens they get by joining one by one in the given order."""
    members: list[Peer] = []
    loads: dict[str, _Load] = {}
    for newcomer in peers:
        load = loads.get(newcomer.datacentre)
        if load is None or not load.admit(newcomer):
            load = loads[newcomer.datacentre] = _Load(members, newcomer, replication_factor)
        positions = sorted(load.choose(vnodes))
        for other in loads.values():
            other.taken.update(positions)
        members.append(replace(newcomer, tokens=tuple(slice_end(position) for position in positions)))
    return tuple(members)


@dataclass(slots=True)
class _Split:
    """What a token of the newcomer at `position`, within the range named `end`, would do."""

    cost: float
    end: int
    position: int

    def rank(self) -> tuple[float, int]:
        """What the best is the least of; no two ranges are equal in it."""
        return self.cost, self.end


class _Load:
    """The vnodes of one datacentre, who replicates each range, and how much each peer replicates."""

    def __init__(self, members: Sequence[Peer], newcomer: Peer, replication_factor: int) -> None:
        datacentre = newcomer.datacentre
        peers = [peer for peer in members if peer.datacentre == datacentre and peer.tokens]
        assert all(is_slice_end(token) for peer in members for token in peer.tokens), "a vnode splits a slice"
        self.wanted = replication_factor
        self.taken = {slice_of(token) for peer in members for token in peer.tokens}
        self.rack_of = {peer.number: peer.rack for peer in peers}
        self.owner = {slice_of(token): peer.number for peer in peers for token in peer.tokens}
        self.ends = sorted(self.owner)
        self.replicas: dict[int, Replicas] = {}
        self.load = {peer.number: 0 for peer in peers}
        self.held: dict[PeerNumber, dict[int, None]] = {peer.number: {} for peer in peers}
        self.stale = False
        self.fair_load = self.step = 0.0
        self.width_min = 1
        self._set_newcomer(newcomer)
        placement = Placement(Ring(peers), NetworkTopologyStrategy({datacentre: self.factor}))
        for token_range, replicas in placement.ranges():
            self.replicas[slice_of(token_range.end)] = replicas
            self._hold(slice_of(token_range.end))
            for number in replicas:
                self.load[number] += token_range.width * SLICES >> 64

    def _set_newcomer(self, newcomer: Peer) -> None:
        self.newcomer = newcomer
        self.rack_of[newcomer.number] = newcomer.rack
        self.load[newcomer.number] = 0
        self.held[newcomer.number] = {}
        rack_sizes: dict[str, int] = {}
        for rack in self.rack_of.values():
            rack_sizes[rack] = rack_sizes.get(rack, 0) + 1
        self.racks = len(rack_sizes)
        self.rack_size = rack_sizes[newcomer.rack]
        self.factor = max(1, min(self.wanted, len(self.rack_of) - 1))
        self.repeats = max(0, self.factor - self.racks)

    def admit(self, newcomer: Peer) -> bool:
        """Make `newcomer` the next to choose for; False if the ranges must be worked out anew first."""
        before = self.factor, min(self.racks, self.factor + 1)
        self._set_newcomer(newcomer)
        # With more racks than replicas another rack changes nothing of what is there.
        return not self.stale and before == (self.factor, min(self.racks, self.factor + 1))

    def choose(self, vnodes: int) -> list[int]:
        """Put `vnodes` vnodes of the newcomer into the ring; their positions."""
        if self.rack_size == 1 and self.racks <= self.factor:
            chosen = self._evenly_spaced(vnodes)
            self.taken.update(chosen)
            self.stale = True  # they are all the newcomer's, and may replicate anew: not worth following
            return chosen
        self.fair_load = self._fair_load()
        self.step = self.fair_load / vnodes
        self.width_min = max(1, SLICES * _WIDTH_MIN_PERCENT // (100 * (len(self.ends) + vnodes)))
        donors = self._possible_donors()
        chosen = []
        for vnode in range(vnodes):
            split = self._best_split(donors, self.step * (vnode + 1)) or self._widest_halved()
            self._insert(split)
            chosen.append(split.position)
        return chosen

    def _best_split(self, donors: list[PeerNumber], goal: float) -> _Split | None:
        """The best split that relieves the heaviest donor; if there is none, the next heaviest."""
        for heavy in nsmallest(_RELIEVED_TRIED, donors, key=lambda number: (-self.load[number], number)):
            judged = (self._judge(end, heavy, goal) for end in self.held[heavy])
            best = min((split for split in judged if split is not None), key=_Split.rank, default=None)
            if best is not None:
                return best
        return None

    def _possible_donors(self) -> list[PeerNumber]:
        """Who can lose to the newcomer: with as many racks as replicas only the peers of its own rack."""
        own = self.newcomer.number
        own_rack_only = self.racks == self.factor
        return [
            number
            for number, rack in self.rack_of.items()
            if number != own and (rack == self.newcomer.rack or not own_rack_only)
        ]

    def _fair_load(self) -> float:
        """What each peer of the newcomer's rack replicates when all is even.

        As long as there are no more racks than replicas each rack holds at least one copy, and as long as
        there are no fewer, at most one.
        """
        mean = SLICES * self.factor / len(self.rack_of)
        one_copy = SLICES / self.rack_size
        if self.racks <= self.factor:
            mean = max(mean, one_copy)
        if self.racks >= self.factor:
            mean = min(mean, one_copy)
        return mean

    def _evenly_spaced(self, vnodes: int) -> list[int]:
        name = f"{self.newcomer.datacentre}\0{self.newcomer.rack}".encode()
        first = slice_of(token_of(name))
        chosen: list[int] = []
        for vnode in range(vnodes):
            position = (first + vnode * SLICES // vnodes) % SLICES
            while position in self.taken or position in chosen:
                position = (position + 1) % SLICES
            chosen.append(position)
        return chosen

    def _ranges_reached(self, end: int) -> Iterator[tuple[int, int, Replicas, PeerNumber]]:
        """The ranges that change owners if the newcomer puts a token into range `end`.

        First `end` itself, for the part up to the token, then those before it, backwards: (range, its width,
        its replicas then, the donor). Nothing if the newcomer replicates `end` already.
        """
        own = self.newcomer.number
        index = bisect_left(self.ends, end)
        passed: set[PeerNumber] = set()
        while True:
            # `passed` owns the vnodes from this range to the new token: the replicas in it, and they
            # alone, come before the newcomer in the walk.
            replicas = self.replicas[end]
            if own in replicas:
                return
            place = sum(number in passed for number in replicas)
            met = (*replicas[:place], own, *replicas[place:])
            dropped = self._dropped(met)
            if dropped == place:
                return
            start = self.ends[index - 1]
            yield end, (end - start - 1) % SLICES + 1, (*met[:dropped], *met[dropped + 1 :]), met[dropped]
            passed.add(self.owner[start])
            end = start
            index -= 1

    def _dropped(self, met: Replicas) -> int:
        """Which of the peers met, one more than there are replicas, the placement rule leaves out."""
        if self.racks == 1:
            return self.factor
        repeats = self.repeats
        racks: list[str] = []
        for place, number in enumerate(met[:-1]):
            rack = self.rack_of[number]
            if rack not in racks:
                racks.append(rack)
            elif repeats > 0:
                repeats -= 1
            else:
                return place
        return self.factor

    def _judge(self, end: int, heavy: PeerNumber, goal: float) -> _Split | None:
        """The best place for a token within range `end` and what it costs; None if `heavy` is no donor."""
        reached = self._ranges_reached(end)
        _, width, _, donor = next(reached, (0, 0, (), 0))
        if width < 2 * self.width_min:
            return None
        losses: dict[PeerNumber, int] = {}
        gained = self.load[self.newcomer.number]
        for _, lost, _, loser in reached:
            losses[loser] = losses.get(loser, 0) + lost
            gained += lost
        excess = self.load[donor] - losses.get(donor, 0) - self.fair_load
        best = (excess + _STEP_WEIGHT * (goal - gained)) / (1 + _STEP_WEIGHT)
        best = min(best, goal + _OVERSHOOT_MAX * self.step - gained)
        position = self._free_position(end, width, round(best))
        if position is None or (heavy != donor and heavy not in losses):
            return None
        part = width - (end - position) % SLICES
        losses[donor] = losses.get(donor, 0) + part
        cost = _STEP_WEIGHT * (gained + part - goal) ** 2
        for number, lost in losses.items():
            cost += lost * (lost - 2 * (self.load[number] - self.fair_load))
        return _Split(cost, end, position)

    def _free_position(self, end: int, width: int, part: int) -> int | None:
        """The free position nearest to `part` slices into the range that leaves no half too narrow."""
        margin = min(self.width_min, width // 2)
        part = min(max(part, margin), width - margin)
        for distance in range(width):
            for offset in (part + distance, part - distance):
                position = (end - width + offset) % SLICES
                if margin <= offset <= width - margin and position not in self.taken:
                    return position
        return None

    def _widest_halved(self) -> _Split:
        """A token where nothing better is left: in the middle of the widest range that has room."""
        ends = self.ends
        widths = (((end - ends[index - 1] - 1) % SLICES + 1, end) for index, end in enumerate(ends))
        for width, end in sorted(widths, key=lambda pair: (-pair[0], pair[1])):
            position = self._free_position(end, width, width // 2)
            if position is not None:
                return _Split(0.0, end, position)
        raise AssertionError("more vnodes than slices")

    def _insert(self, split: _Split) -> None:
        """Put the newcomer's token where `split` says."""
        own = self.newcomer.number
        position = split.position
        part_kept = (split.end - position) % SLICES
        self.replicas[position] = self.replicas[split.end]
        self._hold(position)
        for end, width, replicas, donor in list(self._ranges_reached(split.end)):
            changed, moved = (position, width - part_kept) if end == split.end else (end, width)
            self.replicas[changed] = replicas
            self.load[own] += moved
            self.load[donor] -= moved
            self.held[own][changed] = None
            del self.held[donor][changed]
        self.owner[position] = own
        insort(self.ends, position)
        self.taken.add(position)

    def _hold(self, end: int) -> None:
        for number in self.replicas[end]:
            self.held[number][end] = None
