"""What follows from the epochs of the metadata log, in order: members, voters, keyspaces, tables, placements.

`apply(state, epoch)` is pure and gives a new `State`; states are never changed. So all peers that know the
same epochs have the same state, and within one process they have the same *object*, as long as it is not too
old: a simulation of 1,000 peers holds one ring and not 1,000.

A change that cannot be applied leaves the state as it is and is answered with an error; the epoch stands all
the same. A change that is decided twice (its proposer repeats it until it sees it decided) is applied once:
results are remembered by `ChangeId`. They are bounded; once results of a start number were forgotten, what
comes late with a sequence at or below the forgotten ones is refused as "expired" and not applied again.

How a change is applied to the schema is in node/metadata_apply.py. Invariants: the ids of tables are never
given twice, TRUNCATE included; a table's name is unique in its keyspace, and where asked in its family of
keyspaces (`kv`, `kv_rf2`, ...); every table's keyspace exists.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from core.consistency import WEAK, Level, Need, need
from core.metadata import OF_MEMBERS, Birth, ChangeId, Epoch, Move, Proposal
from core.ports import PeerId
from core.requests import Changed
from core.roles import Role
from core.schema import NETWORK_TOPOLOGY, SIMPLE, Index, Keyspace, Member, Replication, Table
from node.metadata_apply import DEFAULT_KEYSPACES, SchemaDraft, in_family
from node.metadata_moves import REPLACED, MembersDraft
from node.moving_ring import MovingRing, Sides
from ring.placement import NetworkTopologyStrategy, Peer, Placement, Ring, SimpleStrategy, Strategy

RESULTS_MAX: Final = 4_096
"""How many results of changes are remembered."""

_BIRTHS_MAX, _STATES_MAX = 16, 128
"""How many first states, which carry the rings, and later ones all peers of this process share."""

_UNTOUCHED: Final = ("cluster", "name", "lineages")
_OF_MEMBERS: Final = (
    "members",
    "addresses",
    "voters",
    "lost",
    "former",
    "next_number",
    "move",
    "moved_epoch",
    "last_move",
    "_by_peer",
    "_by_number",
    "_by_name",
    "_rings",
    "_moving",
)
"""What no change of the schema touches, handed from state to state."""

Replicas = tuple[PeerId, ...]
TokenPair = tuple[int, int]
"""First and last token, both inclusive, first <= last."""


class RingPlacement:
    """Where rows of the keyspaces with one replication live: ring.placement by peer ids. Immutable."""

    def __init__(self, members: tuple[Member, ...], replication: Replication, lost: Replicas = ()) -> None:
        """`lost` are members that were given up and have not been replaced yet."""
        self.lost = lost
        peers = [Peer(m.number, m.name, m.datacentre, m.rack, m.tokens) for m in members]
        placement = Placement(Ring(peers), _strategy(replication))
        ids = {member.number: member.peer for member in members}
        translated: dict[tuple[int, ...], Replicas] = {}
        self._numbers = {member.peer: member.number for member in members}
        self._ids = ids
        self._placement = placement
        self.factors = replication.factors
        self.datacentres = {member.peer: member.datacentre for member in members}
        self.tokens = placement.ring.tokens
        pairs: list[tuple[TokenPair, Replicas]] = []
        table: list[Replicas] = []
        for token_range, numbers in placement.ranges():
            replicas = translated.setdefault(numbers, tuple(ids[number] for number in numbers))
            table.append(replicas)
            pairs.extend((pair, replicas) for pair in token_range.unwrap())
        self.lookup = (*table, table[0]) if table else ((),)
        """Replicas of the range that ends at each of `tokens`, and of what lies above the last token."""
        self.ranges = tuple(sorted(pairs, key=lambda pair: pair[0]))
        self._held: dict[PeerId, list[tuple[TokenPair, Replicas]]] = {}
        for entry in self.ranges:
            for peer in entry[1]:
                self._held.setdefault(peer, []).append(entry)
        self._shared: dict[tuple[PeerId, PeerId], tuple[TokenPair, ...]] = {}

    def neighbours(self, peer: PeerId) -> tuple[PeerId, ...]:
        """The other peers that replicate something that this one replicates, by ascending number."""
        number = self._numbers.get(peer)
        return () if number is None else tuple(self._ids[n] for n in self._placement.neighbours(number))

    @property
    def written(self) -> tuple[Replicas, ...]:
        """Who is written to, as `lookup`."""
        return self.lookup

    def common_ranges(self, one: PeerId, other: PeerId) -> tuple[TokenPair, ...]:
        """What both are written to: nothing moves, so it is what both serve."""
        return self.shared_ranges(one, other)

    def shared_ranges(self, one: PeerId, other: PeerId) -> tuple[TokenPair, ...]:
        """What both replicate, ascending, adjoining ranges joined. Remembered, for following asks often."""
        known = self._shared.get((one, other))
        if known is None:
            known = _joined([pair for pair, replicas in self._held.get(one, ()) if other in replicas])
            self._shared[one, other] = self._shared[other, one] = known
        return known


def _joined(pairs: list[TokenPair]) -> tuple[TokenPair, ...]:
    joined: list[TokenPair] = []
    for first, last in pairs:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return tuple(joined)


def _strategy(replication: Replication) -> Strategy:
    if replication.strategy == SIMPLE:
        return SimpleStrategy(replication.factors[0][1])
    return NetworkTopologyStrategy(dict(replication.factors))


class TablePlacement:
    """A table, its keyspace, and who replicates what of it, as of one epoch. Immutable."""

    __slots__ = (
        "_lookup",
        "_ring",
        "_tokens",
        "_written",
        "factors",
        "is_unique",
        "keyspace",
        "lost",
        "moving",
        "table",
    )

    def __init__(self, table: Table, keyspace: Keyspace, ring: RingPlacement | MovingRing) -> None:
        self.table = table
        self.keyspace = keyspace
        self.is_unique = bool(table.uniques)
        """Whether it has unique indexes."""
        self.factors = ring.factors
        """(datacentre, replicas) pairs; (("", replicas),) for SimpleStrategy."""
        self.lost = ring.lost
        """Members that were given up: nobody waits for them."""
        self._ring = ring
        self._tokens = ring.tokens
        self._lookup = ring.lookup
        self._written = ring.written
        self.moving = ring if isinstance(ring, MovingRing) else None
        """What moves of it now; None if nothing does."""

    def replicas(self, token: int) -> Replicas:
        """Who serves `token`, in ring order; fewer than the factors say if there are too few peers."""
        return self._lookup[bisect_left(self._tokens, token)]

    def writers(self, token: int) -> Replicas:
        """Who is written to: the replicas; of a range that moves the old ones and the new."""
        return self._written[bisect_left(self._tokens, token)]

    def last_token(self, token: int) -> int:
        """The last of those after `token` that have its replicas, in one range of the ring."""
        at = bisect_left(self._tokens, token)
        return self._tokens[at] if at < len(self._tokens) else 2**63 - 1

    def sides_of(self, token: int) -> Sides | None:
        """The old and the new replicas of a token whose range moves, else None."""
        return None if self.moving is None else self.moving.sides_of(token)

    def need(self, level: Level, token: int, local: str) -> Need:
        """What `level` needs of the writers of `token`."""
        if self.moving is None:
            return need(level, self.factors, local)
        return self.moving.need(level, token, local)

    def readers(self, level: Level, token: int, local: str) -> tuple[Replicas, Need]:
        """Whom to ask for `token` at this level, and what it needs of them."""
        if self.moving is None or level in WEAK or self.moving.sides_of(token) is None:
            return self.replicas(token), need(level, self.factors, local)
        return self.writers(token), self.moving.need(level, token, local)

    def same_as(self, before: TablePlacement) -> bool:
        """Whether all that a request planned by is as it was."""
        return self._ring is before._ring

    def datacentre(self, peer: PeerId) -> str:
        """Where a member stands; "" if it is none."""
        return self._ring.datacentres.get(peer, "")

    def shared_ranges(self, one: PeerId, other: PeerId) -> tuple[TokenPair, ...]:
        """The tokens that both replicate: inclusive pairs, ascending; (x, x) gives all that x replicates."""
        return self._ring.shared_ranges(one, other)

    def common_ranges(self, one: PeerId, other: PeerId) -> tuple[TokenPair, ...]:
        """As `shared_ranges`, of what both are written to."""
        return self._ring.common_ranges(one, other)

    def ranges(self) -> tuple[tuple[TokenPair, Replicas], ...]:
        """All tokens as ascending inclusive pairs with their replicas: one per vnode, two for one of them."""
        return self._ring.ranges


class State:
    """What the first `epoch` epochs say. Never changed; epoch 0 is the state before birth (`UNBORN`)."""

    def __init__(self) -> None:
        self.epoch = 0
        self.digest = b""
        """A hash over all epochs: two states are equal exactly if these are."""
        self.last: Epoch | None = None
        """The epoch that led here; the one object that all peers of this process share."""
        self.last_data = b""
        """`last` as it is stored; shared too, for a birth of 1,000 peers has 200 KB."""
        self.cluster = b""
        self.name = ""
        self.members: tuple[Member, ...] = ()
        """By ascending number."""
        self.addresses: tuple[tuple[PeerId, str], ...] = ()
        """Of all members, by ascending number."""
        self.voters: tuple[PeerId, ...] = ()
        """In rank order: the first is who proposes as long as it lives."""
        self.lost: tuple[PeerId, ...] = ()
        """Members that were given up when the metadata was recovered, until they are replaced or removed."""
        self.lineages: tuple[bytes, ...] = ()
        """The digest of each state that a recovery of the metadata led to."""
        self.former: tuple[tuple[PeerId, str], ...] = ()
        """(id, name) of peers that are members no more, and never will be again."""
        self.next_number = 1
        self.move: Move | None = None
        """What moves now."""
        self.moved_epoch = 0
        """The last epoch that changed where rows live, or a phase of it."""
        self.last_move: Move | None = None
        """The last that ended."""
        self.keyspaces: Mapping[str, Keyspace] = {}
        self.tables: Mapping[int, Table] = {}
        self.roles: Mapping[str, Role] = {}
        self.table_ids: Mapping[tuple[str, str], int] = {}
        """By (keyspace, name)."""
        self.next_table_id = 1
        self._results: Mapping[ChangeId, Changed] = {}
        self._forgotten: Mapping[int, int] = {}
        self._by_peer: Mapping[PeerId, Member] = {}
        self._by_number: Mapping[int, Member] = {}
        self._by_name: Mapping[str, Member] = {}
        self._rings: dict[Replication, RingPlacement] = {}
        self._moving: dict[tuple[Replication, Replication], MovingRing] = {}
        self._placements: dict[int, TablePlacement] = {}
        self._neighbours: dict[PeerId, tuple[PeerId, ...]] = {}

    # --- members

    def member(self, peer: PeerId) -> Member | None:
        """The member of that id."""
        return self._by_peer.get(peer)

    def number_of(self, peer: PeerId) -> int | None:
        """A member's number."""
        member = self._by_peer.get(peer)
        return None if member is None else member.number

    def peer_of(self, number: int) -> PeerId | None:
        """The id of the member of that number."""
        member = self._by_number.get(number)
        return None if member is None else member.peer

    def by_name(self, name: str) -> Member | None:
        """The member of that name."""
        return self._by_name.get(name)

    def neighbours(self, peer: PeerId) -> tuple[PeerId, ...]:
        """All who share a range of some keyspace with this member, by ascending number."""
        known = self._neighbours.get(peer)
        if known is None:
            met: dict[PeerId, None] = {}
            for keyspace in self.keyspaces.values():
                met.update(dict.fromkeys(self._ring_of(keyspace).neighbours(peer)))
            known = tuple(sorted(met, key=lambda other: self._by_peer[other].number))
            self._neighbours[peer] = known
        return known

    # --- schema

    def table(self, keyspace: str, name: str) -> Table | None:
        """The table of that name."""
        table_id = self.table_ids.get((keyspace, name))
        return None if table_id is None else self.tables[table_id]

    def table_across(self, family: str, name: str) -> Table | None:
        """The table of that name in any keyspace of a family: `kv` means kv, kv_rf1, kv_rf2 and so on."""
        found = self.table(family, name)
        if found is not None:
            return found
        for keyspace in self.keyspaces:
            if in_family(family, keyspace) and (keyspace, name) in self.table_ids:
                return self.table(keyspace, name)
        return None

    def index(self, keyspace: str, name: str) -> tuple[Table, Index] | None:
        """The index of that name, with its table."""
        for table in self.tables.values():
            index = table.index(name) if table.keyspace == keyspace else None
            if index is not None:
                return table, index
        return None

    def placement(self, table_id: int) -> TablePlacement | None:
        """A table with its replicas; None if there is no such table (any more, or yet)."""
        known = self._placements.get(table_id)
        if known is None:
            table = self.tables.get(table_id)
            if table is None:
                return None
            keyspace = self.keyspaces[table.keyspace]
            known = TablePlacement(table, keyspace, self._ring_of(keyspace))
            self._placements[table_id] = known
        return known

    def default_replication(self) -> Replication:
        """What a keyspace gets that says nothing: that of `kv`."""
        return self.keyspaces[DEFAULT_KEYSPACES[0]].replication

    def result(self, change: ChangeId) -> Changed | None:
        """What became of a change; None if no epoch so far holds it."""
        known = self._results.get(change)
        if known is None and change[1] <= self._forgotten.get(change[0], -1):
            return Changed(
                self.epoch, "this change came so late that it may have been applied before", "expired"
            )
        return known

    def ownership(self) -> dict[PeerId, float]:
        """The fraction of the tokens that each member replicates under the default replication."""
        widths = dict.fromkeys((member.peer for member in self.members), 0)
        if self.keyspaces:
            for (first, last), replicas in self._ring(self.default_replication()).ranges:
                for peer in replicas:
                    widths[peer] += last - first + 1
        return {peer: width / 2**64 for peer, width in widths.items()}

    def moving_rings(self) -> tuple[MovingRing, ...]:
        """Of all keyspaces, while ranges move."""
        rings = dict.fromkeys(self._ring_of(keyspace) for keyspace in self.keyspaces.values())
        return tuple(ring for ring in rings if isinstance(ring, MovingRing))

    def _ring_of(self, keyspace: Keyspace) -> RingPlacement | MovingRing:
        move = self.move
        if move is None:
            return self._ring(keyspace.replication)
        after = dict(move.keyspaces).get(keyspace.name, keyspace.replication)
        known = self._moving.get((keyspace.replication, after))
        if known is None:
            new = RingPlacement(move.members_after(self.members), after, self.lost)
            known = MovingRing(self._ring(keyspace.replication), new, move.phase)
            self._moving[keyspace.replication, after] = known
        return known

    def _ring(self, replication: Replication) -> RingPlacement:
        known = self._rings.get(replication)
        if known is None:
            known = self._rings[replication] = RingPlacement(self.members, replication, self.lost)
        return known


UNBORN: Final = State()
"""The state of a peer that knows of no epoch."""

_encoder = msgspec.msgpack.Encoder()


def apply(state: State, epoch: Epoch) -> State:
    """The state after the next epoch. The same epochs give the same object as long as it is remembered."""
    assert epoch.number == state.epoch + 1, (epoch.number, state.epoch)
    encoded = _Encoded(_encoder.encode(epoch), epoch)
    return _apply_birth(encoded) if epoch.number == 1 else _apply_changes(state, encoded)


class _Encoded:
    """An epoch that is compared by its bytes alone."""

    __slots__ = ("data", "epoch")

    def __init__(self, data: bytes, epoch: Epoch) -> None:
        self.data = data
        self.epoch = epoch

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Encoded) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)


@lru_cache(maxsize=_BIRTHS_MAX)
def _apply_birth(encoded: _Encoded) -> State:
    entry = encoded.epoch.entry
    assert isinstance(entry, Birth), "the first epoch is a birth"
    return _sealed(_born(entry), b"", encoded)


@lru_cache(maxsize=_STATES_MAX)
def _apply_changes(before: State, encoded: _Encoded) -> State:
    # A state is hashed and compared by identity: `before` came from here too, so equal logs meet one object.
    entry = encoded.epoch.entry
    assert not isinstance(entry, Birth), "a cluster is born once"
    draft = _Draft(before)
    state = _sealed(draft.changed(entry.proposals), before.digest, encoded)
    if draft.members.recovered:
        state.lineages = (*before.lineages, state.digest)
    return state


def _sealed(state: State, digest_before: bytes, encoded: _Encoded) -> State:
    state.epoch = encoded.epoch.number
    state.last = encoded.epoch
    state.last_data = encoded.data
    state.digest = hashlib.blake2b(digest_before + encoded.data, digest_size=16).digest()
    return state


def _born(birth: Birth) -> State:
    state = State()
    state.cluster = birth.cluster
    state.name = birth.name
    _set_members(state, tuple(sorted(birth.members, key=lambda member: member.number)))
    state.next_number = 1 + max(member.number for member in state.members)
    state.voters = birth.voters
    state.moved_epoch = 1
    replication = initial_replication(birth)
    state.keyspaces = {name: Keyspace(name, replication, 1) for name in DEFAULT_KEYSPACES}
    return state


def _set_members(state: State, members: tuple[Member, ...]) -> None:
    state.members = members
    taken = [member.address for member in members if not member.name.endswith(REPLACED)]
    state.addresses = tuple(
        (m.peer, m.address) for m in members if not (m.name.endswith(REPLACED) and m.address in taken)
    )
    state._by_peer = {member.peer: member for member in members}
    state._by_number = {member.number: member for member in members}
    state._by_name = {member.name: member for member in members}


def initial_replication(birth: Birth) -> Replication:
    """That of `kv` and `docs`: the factor that the birth says in each datacentre, or its peers if fewer."""
    sizes: dict[str, int] = {}
    for member in birth.members:
        sizes[member.datacentre] = sizes.get(member.datacentre, 0) + 1
    wanted = birth.replication_factor
    return Replication(NETWORK_TOPOLOGY, tuple((name, min(wanted, sizes[name])) for name in sorted(sizes)))


class _Draft:
    """The parts of a state that changes touch, on the way from one epoch to the next."""

    def __init__(self, before: State) -> None:
        self.before = before
        datacentres = tuple(sorted({member.datacentre for member in before.members}))
        self.schema = SchemaDraft(
            before.keyspaces,
            before.tables,
            before.next_table_id,
            epoch=before.epoch + 1,
            known=datacentres,
            roles=before.roles,
        )
        self.members = MembersDraft(before, self.schema)
        self.results = dict(before._results)
        self.forgotten = dict(before._forgotten)

    def changed(self, proposals: tuple[Proposal, ...]) -> State:
        """Apply the changes of an epoch in order, each once."""
        for proposal in proposals:
            start, sequence = proposal.id
            if proposal.id not in self.results and sequence > self.forgotten.get(start, -1):
                draft = self.members if isinstance(proposal.change, OF_MEMBERS) else self.schema
                self.results[proposal.id] = draft.apply(proposal.change)
        self._forget()
        state = State()
        before = self.before
        for name in _UNTOUCHED:
            setattr(state, name, getattr(before, name))
        if self.members.changed:
            self._take_members(state)
        else:
            for name in _OF_MEMBERS:
                setattr(state, name, getattr(before, name))
        state.keyspaces = self.schema.keyspaces
        state.roles = self.schema.roles
        state.tables = self.schema.tables
        state.table_ids = self.schema.table_ids
        state.next_table_id = self.schema.next_table_id
        state._results = self.results
        state._forgotten = self.forgotten
        if not self.members.changed and _replications(state) == _replications(before):
            state._neighbours = before._neighbours
        return state

    def _take_members(self, state: State) -> None:
        draft, before = self.members, self.before
        _set_members(state, before.members if draft.members == before.members else draft.members)
        if state.members is before.members:
            state._rings = before._rings
        state.voters, state.former, state.next_number = draft.voters, draft.former, draft.next_number
        state.lost = draft.lost
        if draft.lost != before.lost:  # rings say who is lost
            state._rings = {}
        if draft.lost:  # nor is it called
            state.addresses = tuple(pair for pair in state.addresses if pair[0] not in draft.lost)
        state.move, state.last_move = draft.move, draft.last_move
        state.moved_epoch = before.epoch + 1 if draft.moved else before.moved_epoch

    def _forget(self) -> None:
        """Keep the newest results; dictionaries keep the order of insertion, which is that of the log."""
        excess = len(self.results) - RESULTS_MAX
        for change in list(self.results)[: max(0, excess)]:
            start, sequence = change
            del self.results[change]
            self.forgotten[start] = max(sequence, self.forgotten.get(start, -1))


def _replications(state: State) -> list[Replication]:
    return [keyspace.replication for keyspace in state.keyspaces.values()]
