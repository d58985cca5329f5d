"""What an operator wants of the ring, as the one change that begins it (core/metadata.py BeginMove). Pure.

    add        tokens chosen so that each newcomer takes its fair share, and nobody else's rows move
    remove     a member's ranges go to those that follow it on the ring
    replace    another peer takes over tokens, place and vote of one that will not come back
    move       a member gets other tokens, as if it joined now
    replicate  the rows of a keyspace live elsewhere, or so many times

A plan says on which ring it was made (`base`), and is refused if that has changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from core.metadata import AlterKeyspace, BeginMove, Move
from core.ports import PeerId
from core.schema import Member, Replication
from node.metadata_apply import DEFAULT_KEYSPACES
from node.metadata_checks import RefusedError, check_replication
from node.metadata_state import RingPlacement, State
from node.moving_ring import PREPARE, MovingRing
from node.moving_stream import must_merge
from ring.allocation import allocate
from ring.placement import Peer, Ring

VOTERS_MAX = 5


class PlanError(Exception):
    """Why this cannot be planned; the text says what to do."""


class Newcomer(msgspec.Struct, frozen=True):
    """A peer that waits to be admitted."""

    peer: PeerId
    name: str
    address: str
    datacentre: str
    rack: str


def add(state: State, newcomers: Sequence[Newcomer], vnodes: int) -> BeginMove:
    """Admit peers, each with tokens of its own."""
    _may_plan(state)
    if not newcomers:
        raise PlanError("no peer waits to be admitted: start it first, with this cluster's cluster.yml")
    ring = _ring(state.members)
    tokens: list[tuple[PeerId, tuple[int, ...]]] = []
    admit = []
    for number, newcomer in enumerate(newcomers, state.next_number):
        member = _member(newcomer)
        peer = Peer(number, member.name, member.datacentre, member.rack, ())
        chosen = allocate(ring, peer, vnodes, _factor(state, member.datacentre))
        ring = ring.with_peer(Peer(number, member.name, member.datacentre, member.rack, chosen))
        admit.append(member)
        tokens.append((member.peer, chosen))
    voters = voters_after(state, [*state.members, *admit])
    return BeginMove("add", state.moved_epoch, tuple(admit), tuple(tokens), voters=voters)


def remove(state: State, names: Sequence[str]) -> BeginMove:
    """Members hand over what they hold, and leave."""
    _may_plan(state)
    leaving = [_named(state, name) for name in dict.fromkeys(names)]
    left = [member for member in state.members if member not in leaving]
    for keyspace in state.keyspaces.values():
        for datacentre, factor in keyspace.replication.factors:
            there = sum(datacentre in ("", member.datacentre) for member in left)
            if there < factor:
                where = f" in {datacentre}" if datacentre else ""
                raise PlanError(
                    f"keyspace {keyspace.name} has {factor} replicas{where}, {there} peers would be left: "
                    "give it fewer replicas first (ALTER KEYSPACE), or add a peer"
                )
    gone = tuple(member.peer for member in leaving)
    return BeginMove("remove", state.moved_epoch, remove=gone, voters=voters_after(state, left))


def replace(state: State, name: str, newcomer: Newcomer) -> BeginMove:
    """Another peer takes the place of one that will not come back."""
    _may_plan(state)
    old = _named(state, name)
    member = _member(newcomer)
    if member.datacentre != old.datacentre:
        raise PlanError(f"{name} stands in {old.datacentre}, {member.name} in {member.datacentre}")
    left = [m for m in state.members if m is not old]
    return BeginMove(
        "replace",
        state.moved_epoch,
        (member,),
        ((member.peer, old.tokens),),
        (old.peer,),
        voters=voters_after(state, [*left, member], instead={old.peer: member.peer}),
    )


def move(state: State, name: str, vnodes: int) -> BeginMove:
    """A member gets tokens as if it joined now: what evens out a ring that has grown uneven."""
    _may_plan(state)
    member = _named(state, name)
    others = [m for m in state.members if m is not member]
    if not others:
        raise PlanError(f"{name} is alone: it holds everything, whatever its tokens are")
    peer = Peer(member.number, member.name, member.datacentre, member.rack, ())
    chosen = allocate(_ring(others), peer, vnodes, _factor(state, member.datacentre))
    return BeginMove("move", state.moved_epoch, tokens=((member.peer, chosen),))


def replicate(state: State, keyspace: str, replication: Replication) -> BeginMove:
    """The rows of a keyspace live where this replication has them."""
    _may_plan(state)
    try:
        check_replication(replication, tuple(sorted({member.datacentre for member in state.members})))
    except RefusedError as refused:
        raise PlanError(str(refused)) from None
    return BeginMove("replicate", state.moved_epoch, keyspaces=((keyspace, replication),))


def as_move(state: State, change: Any) -> BeginMove | None:
    """The move that a change of a keyspace's replication is, if it has rows to move; else None.

    What cannot be is none, and refused as a change.
    """
    if not isinstance(change, AlterKeyspace) or change.replication is None or state.move is not None:
        return None
    keyspace = state.keyspaces.get(change.name)
    if keyspace is None or change.name in DEFAULT_KEYSPACES:
        return None
    factors = tuple(sorted((name, n) for name, n in change.replication.factors if n))
    wanted = Replication(change.replication.strategy, factors)
    if wanted == keyspace.replication or all(t.keyspace != change.name for t in state.tables.values()):
        return None
    try:
        return replicate(state, change.name, wanted)
    except PlanError:
        return None


def targets(state: State, begin: BeginMove) -> tuple[PeerId, ...]:
    """Members that are given ranges: they must hold nothing of what they gave up before."""
    found: dict[PeerId, None] = {}
    for ring in _rings(state, begin):
        for _, (old, new) in ring.moving():
            found.update(dict.fromkeys(peer for peer in new if peer not in old))
    return tuple(peer for peer in found if state.member(peer) is not None)


def share(state: State, begin: BeginMove) -> tuple[int, float]:
    """How many ranges move, and how much of all data (1.0: one copy of everything) somebody is given."""
    ranges, width = 0, 0
    for ring in _rings(state, begin)[:1]:
        for (first, last), sides in ring.moving():
            ranges += 1
            width += (last - first + 1) * sum(must_merge(peer, sides, ring) for peer in sides[1])
    return ranges, width / 2**64


def voters_after(
    state: State, members: Sequence[Member], instead: dict[PeerId, PeerId] | None = None
) -> tuple[PeerId, ...]:
    """Who votes among these: who did, as far as they stay, filled up by others; () if nothing changes."""
    there = [member.peer for member in members if member.peer not in state.lost]
    kept = [(instead or {}).get(peer, peer) for peer in state.voters]
    kept = [peer for peer in kept if peer in there]
    wanted = min(max(3, len(state.voters)), len(there), VOTERS_MAX)
    wanted -= wanted % 2 == 0
    others = [peer for peer in there if peer not in kept]
    voters = tuple((kept + others)[:wanted])
    return () if voters == state.voters else voters


def _rings(state: State, begin: BeginMove) -> list[MovingRing]:
    """What would move, per replication of a keyspace."""
    admitted = tuple(
        msgspec.structs.replace(member, number=number)
        for number, member in enumerate(begin.admit, state.next_number)
    )
    members = (*state.members, *admitted)
    after = Move(0, "", PREPARE, 0, (), begin.tokens, begin.remove, (), ()).members_after(members)
    wanted = dict(begin.keyspaces)
    pairs = dict.fromkeys(
        (keyspace.replication, wanted.get(keyspace.name, keyspace.replication))
        for keyspace in state.keyspaces.values()
    )
    lost = state.lost
    return [
        MovingRing(RingPlacement(members, a, lost), RingPlacement(after, b, lost), PREPARE) for a, b in pairs
    ]


def _may_plan(state: State) -> None:
    if state.move is not None:
        raise PlanError(
            "ranges move already: wait until that is finished (sullae cluster status), or abort it"
        )


def _named(state: State, name: str) -> Member:
    member = state.by_name(name)
    if member is None:
        names = ", ".join(m.name for m in state.members)
        raise PlanError(f"there is no member {name}; there are {names}")
    return member


def _member(newcomer: Newcomer) -> Member:
    return Member(newcomer.peer, 0, newcomer.name, newcomer.address, newcomer.datacentre, newcomer.rack, ())


def _ring(members: Sequence[Member]) -> Ring:
    return Ring(Peer(m.number, m.name, m.datacentre, m.rack, m.tokens) for m in members)


def _factor(state: State, datacentre: str) -> int:
    factors = dict(state.default_replication().factors)
    return factors.get(datacentre, factors.get("", 3)) or 1
