"""How an epoch changes who the members are and where rows live: pure, like node/metadata_apply.py.

One move at a time, whatever it moves, so two can never overlap. It begins as it was planned, if nothing has
moved since; each step names the move and the phase that follows, so a step that is decided twice, or late,
changes nothing. What has to be true before a step is taken is the business of who proposes it
(node/moving_driver.py).

The tokens and replications of members and keyspaces stay what they were until the move is finished. A peer is
a member from the moment the move that admits it begins; an aborted move makes it a stranger again, for what
it
holds by then is nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from core.metadata import BeginMove, Change, ChangeAddress, Move, Recover, StepMove
from core.ports import PeerId
from core.requests import Changed
from core.schema import Member
from node.metadata_checks import NothingToDoError, RefusedError, check_replication, no_keyspace
from node.moving_ring import ABORTED, FINISH, HAND_OVER, PREPARE

if TYPE_CHECKING:
    from node.metadata_apply import SchemaDraft
    from node.metadata_state import State

KINDS: Final = ("add", "remove", "replace", "move", "replicate")
NEXT: Final = {PREPARE: (HAND_OVER, ABORTED), HAND_OVER: (FINISH,)}
"""Which phases may follow one."""

MEMBERS_MAX: Final = 4_096
REPLACED: Final = " (replaced)"
"""What follows the name of a member while another takes its place under the same name."""


class MembersDraft:
    """The members on their way from one epoch to the next."""

    def __init__(self, before: State, schema: SchemaDraft) -> None:
        """`schema` is changed where a move ends that gives keyspaces another replication."""
        self._schema = schema
        self._epoch = before.epoch + 1
        self._base = before.moved_epoch
        self.changed = False
        self.moved = False
        """Whether rows may live elsewhere, or others vote."""
        self.members = before.members
        self.voters = before.voters
        self.former = before.former
        self.lost = before.lost
        self.recovered = False
        self._generation = len(before.lineages)
        self.next_number = before.next_number
        self.move = before.move
        self.last_move = before.last_move

    def apply(self, change: Change) -> Changed:
        """Apply a change, or say why not."""
        try:
            if isinstance(change, BeginMove):
                self._begin(change)
            elif isinstance(change, Recover):
                self._recover(change)
            elif isinstance(change, ChangeAddress):
                self._readdress(change)
            else:
                assert isinstance(change, StepMove), change
                self._step(change)
        except NothingToDoError as nothing:
            return Changed(self._epoch, "", nothing.code)
        except RefusedError as refused:
            return Changed(self._epoch, str(refused), refused.code)
        self.changed = True
        self.moved = self.moved or not isinstance(change, ChangeAddress)
        return Changed(self._epoch, "", "")

    def _readdress(self, change: ChangeAddress) -> None:
        known = {member.peer: member for member in self.members}
        if change.peer not in known:
            raise RefusedError("no_such_peer", "who is at another address is no member")
        if known[change.peer].address == change.address:
            raise NothingToDoError("same_address")
        for member in self.members:
            if member.address == change.address and not member.name.endswith(REPLACED):
                raise RefusedError("already_exists", f"{member.name} is known to be at {change.address}")
        self.members = tuple(
            msgspec.structs.replace(m, address=change.address) if m.peer == change.peer else m
            for m in self.members
        )

    # --- beginning

    def _begin(self, change: BeginMove) -> None:
        if self.move is not None:
            text = "ranges move already: wait until that is finished, or abort it"
            raise RefusedError("move_under_way", text)
        if change.base != self._base or self.moved:
            raise RefusedError("plan_outdated", "the ring has changed since this was planned: plan it again")
        self._check(change)
        added = []
        for member in change.admit:
            added.append(msgspec.structs.replace(member, number=self.next_number, tokens=()))
            self.next_number += 1
        names = {member.name for member in added}
        renamed = tuple(
            msgspec.structs.replace(m, name=m.name + REPLACED) if m.name in names else m for m in self.members
        )
        self.members = (*renamed, *added)
        self.move = Move(
            id=self._epoch,
            kind=change.kind,
            phase=PREPARE,
            since=self._epoch,
            added=tuple(member.peer for member in added),
            tokens=change.tokens,
            remove=change.remove,
            keyspaces=change.keyspaces,
            voters=change.voters,
        )

    def _check(self, change: BeginMove) -> None:
        """All that would make a state that cannot be."""
        known = {member.peer: member for member in self.members}
        if change.kind not in KINDS or len(known) + len(change.admit) > MEMBERS_MAX:
            raise RefusedError("invalid", f"there is no such move, or there are {MEMBERS_MAX} members")
        for peer in change.remove:
            if peer not in known:
                raise RefusedError("no_such_peer", "who is to be removed is no member")
        if len({member.peer for member in change.admit}) != len(change.admit):
            raise RefusedError("invalid", "one peer would be admitted twice")
        for member in change.admit:
            self._check_newcomer(member, known, change.remove)
        after = {**known, **{member.peer: member for member in change.admit}}
        tokens = dict(change.tokens)
        if any(peer not in after for peer in tokens):
            raise RefusedError("no_such_peer", "tokens for a peer that is no member")
        owned = [
            token
            for peer, member in after.items()
            if peer not in change.remove
            for token in tokens.get(peer, member.tokens)
        ]
        if len(set(owned)) != len(owned) or not owned:
            raise RefusedError("invalid", "two peers would own one token, or nobody any")
        left = [peer for peer in after if peer not in change.remove]
        if len(set(change.voters)) != len(change.voters) or any(peer not in left for peer in change.voters):
            raise RefusedError("invalid", "a voter would be no member")
        if not change.voters and any(peer in change.remove for peer in self.voters):
            raise RefusedError("invalid", "a voter would be removed and nobody take its place")
        datacentres = tuple(sorted({after[peer].datacentre for peer in left}))
        for name, replication in change.keyspaces:
            if name not in self._schema.keyspaces:
                raise no_keyspace(name)
            check_replication(replication, datacentres)

    def _check_newcomer(
        self, member: Member, known: dict[PeerId, Member], remove: tuple[PeerId, ...]
    ) -> None:
        former = {peer for peer, _ in self.former}
        if member.peer in known or member.peer in former:
            text = f"the directory of {member.name} was a member's: a peer joins with an empty one"
            raise RefusedError("invalid", text)
        for other in known.values():
            if other.peer in remove:
                continue
            if other.name == member.name or other.address == member.address:
                raise RefusedError("already_exists", f"there is a member {other.name} at {other.address}")

    # --- going on

    def _step(self, change: StepMove) -> None:
        move = self.move
        if move is None or move.id != change.move or change.phase not in NEXT[move.phase]:
            raise NothingToDoError("absent")
        if change.phase != HAND_OVER:
            leaving = move.remove if change.phase == FINISH else move.added
            if nobody_remains(self.members, (*leaving, *self.lost)):
                raise RefusedError("invalid", "all who are not lost would leave: nobody would remain")
        self.move = msgspec.structs.replace(move, phase=change.phase, since=self._epoch)
        if change.phase == HAND_OVER:
            return
        self.last_move, self.move = self.move, None
        if change.phase == FINISH:
            self._finish(move)
        else:
            # Who was being added may vote: made a voter when most others were lost.
            self.voters = self._voters_without(move.added) or self.voters
            self._dismiss(move.added)
            self.members = tuple(_renamed_back(member) for member in self.members)

    def _finish(self, move: Move) -> None:
        self.members = move.members_after(self.members)
        self._dismiss(move.remove)
        self.voters = move.voters or self.voters
        for name, replication in move.keyspaces:
            if name in self._schema.keyspaces:
                self._schema.replicate(name, replication)

    # --- when most voters are lost

    def _recover(self, change: Recover) -> None:
        if change.generation != self._generation + 1 or self.recovered:
            raise NothingToDoError("absent")
        known = {member.peer for member in self.members}
        given_up = {*self.lost, *change.lost}
        if not change.voters or any(peer in given_up or peer not in known for peer in change.voters):
            raise RefusedError("invalid", "a voter would be no member, or one that is lost")
        self.recovered = True
        self.lost = tuple(member.peer for member in self.members if member.peer in given_up)
        self.voters = change.voters
        if self.move is not None:
            self.move = msgspec.structs.replace(self.move, voters=self._voters_without(self.move.remove))

    def _voters_without(self, leaving: tuple[PeerId, ...]) -> tuple[PeerId, ...]:
        """Who votes after a move that was under way: () if nobody who votes now leaves."""
        if not any(peer in leaving for peer in self.voters):
            return ()
        stay = [m.peer for m in self.members if m.peer not in leaving and m.peer not in self.lost]
        kept = [peer for peer in self.voters if peer in stay] + [p for p in stay if p not in self.voters]
        count = min(len(self.voters), len(stay))
        return tuple(kept[: count - (count % 2 == 0)])

    def _dismiss(self, peers: tuple[PeerId, ...]) -> None:
        gone = tuple((m.peer, m.name) for m in self.members if m.peer in peers)
        self.former = (*self.former, *gone)
        self.members = tuple(m for m in self.members if m.peer not in peers)
        self.lost = tuple(peer for peer in self.lost if peer not in peers)


def nobody_remains(members: tuple[Member, ...], gone: tuple[PeerId, ...]) -> bool:
    """Whether all members are among these."""
    return all(member.peer in gone for member in members)


def _renamed_back(member: Member) -> Member:
    """A replacement that was given up: who was to be replaced has its name again."""
    name = member.name.removesuffix(REPLACED)
    return member if name == member.name else msgspec.structs.replace(member, name=name)
