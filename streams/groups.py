"""Consumer groups: who of the members reads which parts of a table, and how far each part is acknowledged.

A group is one record, changed by conditional updates alone; this file is the pure half: what a record
becomes. The ring is cut into equal *parts* when the group is made. Each part has an owner, which is a
*session* (one membership: one open stream of one member), a *fence* that every change of the owner raises,
and a cursor. Whoever wants to move a part's cursor has to name session and fence, so a member that lost a
part cannot move it any more, however late it wakes.

    every part has an owner as long as there are members
    how many parts two members have, or will have, differs by one at most
    a part that is to move while its owner lives is first given `to` the new one: its owner reads it no
    more, lets what it delivered be acknowledged, and releases it; what a dead member had moves at once
    a cursor only ever says more than before: offsets are true whoever delivered, so the greater one stays

A group that begins with a snapshot has cursors that say, too, how far the rows of their part are read: they
are delivered, acknowledged and handed over like everything else, and after the last one come events from
where the logs were when the group was made.

Members beat beside the record (node/group_records.py; node/leases.py says when one that does not is dead),
each in the lowest slot that was free when it came. `heard` counts what a member itself had to say
(acknowledgements, heartbeats), whichever peer it said it to.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ring.tokens import MIN_TOKEN
from streams.cursor import (
    CURSOR_CHARS_MAX,
    Cursor,
    advanced,
    cut_to,
    decode_cursor,
    encode_cursor,
    scanned_within,
)

PARTS: Final = 16
PARTS_MAX: Final = 256
MEMBERS_MAX: Final = 256
NAME_CHARS_MAX: Final = 48


class Member(msgspec.Struct, frozen=True):
    """One who reads: `name` is its own, `session` this membership, `peer` names the peer that serves it."""

    name: str
    session: str
    peer: str
    slot: int = 0
    heard: int = 0


class Part(msgspec.Struct, frozen=True):
    """One part of the ring. `owner` and `to` are sessions, or ""; `cursor` is "" as long as none is known."""

    owner: str = ""
    to: str = ""
    fence: int = 0
    cursor: str = ""
    acked_us: int = 0

    @property
    def claim(self) -> str:
        """Whose it is, or will be."""
        return self.to or self.owner


class Group(msgspec.Struct, frozen=True):
    """A group. `table` is keyspace.table. Parts without a cursor begin where logs begin, without what was
    admitted before `since_us`; `began_us` is when a group that began now did.
    """

    table: str
    group: str
    created_us: int
    parts: tuple[Part, ...]
    since_us: int = 0
    began_us: int = 0
    generation: int = 0
    members: tuple[Member, ...] = ()

    def member(self, session: str) -> Member | None:
        """The member of this session."""
        return next((member for member in self.members if member.session == session), None)

    def owned(self, session: str) -> dict[int, int]:
        """Fences of the parts that this session owns, by part."""
        return {number: part.fence for number, part in enumerate(self.parts) if part.owner == session}


def part_range(number: int, count: int) -> tuple[int, int]:
    """The tokens (inclusive) of part `number` of `count`, counted from 0."""
    return MIN_TOKEN + 2**64 * number // count, MIN_TOKEN + 2**64 * (number + 1) // count - 1


# --- members


def joined(group: Group, member: Member) -> Group:
    """A member has come; under a name that is there it takes the place of that one, parts and all."""
    if group.member(member.session) is not None:
        return group
    old = next((other for other in group.members if other.name == member.name), None)
    if old is None:
        taken = [other.slot for other in group.members]
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        member = msgspec.structs.replace(member, slot=slot)
        return shared_out(_with(group, members=(*group.members, member)))
    member = msgspec.structs.replace(member, slot=old.slot)
    members = tuple(member if other is old else other for other in group.members)
    parts = tuple(_renamed(part, old.session, member.session) for part in group.parts)
    return shared_out(_with(group, members=members, parts=parts))


def _renamed(part: Part, old: str, new: str) -> Part:
    to = new if part.to == old else part.to
    if part.owner == old:
        return msgspec.structs.replace(part, owner=new, to=to, fence=part.fence + 1)
    return msgspec.structs.replace(part, to=to)


def left(group: Group, sessions: Sequence[str]) -> Group:
    """These sessions are over: gone by themselves, or dead."""
    members = tuple(member for member in group.members if member.session not in sessions)
    return group if members == group.members else shared_out(_with(group, members=members))


def heard(group: Group, session: str) -> Group:
    """The member itself has said something."""
    members = tuple(
        msgspec.structs.replace(member, heard=member.heard + 1) if member.session == session else member
        for member in group.members
    )
    return msgspec.structs.replace(group, members=members)


def released(group: Group, session: str, parts: Sequence[int]) -> Group:
    """The owner has done with parts that are to go to others."""
    new = list(group.parts)
    for number in parts:
        part = new[number]
        if part.owner == session and part.to:
            new[number] = msgspec.structs.replace(part, owner=part.to, to="", fence=part.fence + 1)
    if tuple(new) == group.parts:
        return group
    return shared_out(_with(group, parts=tuple(new)))


def shared_out(group: Group) -> Group:
    """Have all parts belong to members, as evenly as can be, moving as few as can be."""
    sessions = [member.session for member in group.members]
    claims = [part.claim if part.claim in sessions else "" for part in group.parts]
    if sessions:
        _balance(claims, sessions)
    parts = tuple(_claimed(part, claim, sessions) for part, claim in zip(group.parts, claims, strict=True))
    return group if parts == group.parts else _with(group, parts=parts)


def _balance(claims: list[str], sessions: list[str]) -> None:
    counts = {session: claims.count(session) for session in sessions}
    base, more = divmod(len(claims), len(sessions))
    by_count = sorted(sessions, key=lambda session: -counts[session])
    quota = {session: base + (place < more) for place, session in enumerate(by_count)}
    for number in reversed(range(len(claims))):
        claim = claims[number]
        if claim and counts[claim] > quota[claim]:
            counts[claim] -= 1
            claims[number] = ""
    wanting = [session for session in sessions for _ in range(quota[session] - counts[session])]
    for number, claim in enumerate(claims):
        if not claim:
            claims[number] = wanting.pop(0)


def _claimed(part: Part, claim: str, sessions: Sequence[str]) -> Part:
    if part.owner == claim:
        return msgspec.structs.replace(part, to="")
    if part.owner in sessions:
        return msgspec.structs.replace(part, to=claim)
    return msgspec.structs.replace(part, owner=claim, to="", fence=part.fence + 1)


def _with(group: Group, **changed: object) -> Group:
    return msgspec.structs.replace(group, generation=group.generation + 1, **changed)


# --- acknowledging


class Committed(msgspec.Struct, frozen=True):
    """What became of an acknowledgement."""

    group: Group
    accepted: tuple[int, ...]
    refused: tuple[int, ...]


def committed(group: Group, session: str, acks: Mapping[int, tuple[int, Cursor]], now_us: int) -> Committed:
    """Move cursors of parts, each under the fence at which the member read it."""
    parts, accepted, refused = list(group.parts), [], []
    for number, (fence, cursor) in sorted(acks.items()):
        part = parts[number] if number < len(parts) else None
        if part is None or part.owner != session or part.fence != fence:
            refused.append(number)
            continue
        accepted.append(number)
        tokens = part_range(number, len(parts))
        text = moved(part.cursor, scanned_within(cut_to(cursor, (tokens,)), tokens))
        if text != part.cursor:
            parts[number] = msgspec.structs.replace(part, cursor=text, acked_us=now_us)
    return Committed(msgspec.structs.replace(group, parts=tuple(parts)), tuple(accepted), tuple(refused))


def moved(before: str, cursor: Cursor) -> str:
    """The text of a part's cursor when it has come to `cursor`; never less than before."""
    old = decode_cursor(before) if before else None
    if not cursor.places:
        return before
    if not isinstance(old, Cursor) or cursor.table > old.table:
        return encode_cursor(cursor)
    if cursor.table < old.table:
        return before
    return encode_cursor(advanced(old, cursor))


# --- the record


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Group).decode


def encode_group(group: Group) -> bytes:
    """The record of a group."""
    return _encode(group)


def decode_group(data: bytes) -> Group:
    """The group of a record; raises msgspec.DecodeError, UnicodeDecodeError or RecursionError."""
    return _decode(data)


class Ack(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a member gives back to acknowledge: whose word it is, of which parts at which fences, and where
    they stood (the text of a cursor).
    """

    session: str
    parts: tuple[tuple[int, int], ...]
    cursor: str


_encode_ack = msgspec.msgpack.Encoder().encode
_decode_ack = msgspec.msgpack.Decoder(Ack).decode


def encode_ack(ack: Ack) -> str:
    """As opaque text."""
    data = _encode_ack(ack)
    return base64.urlsafe_b64encode(data + zlib.crc32(data).to_bytes(4, "big")).rstrip(b"=").decode()


def decode_ack(text: str) -> Ack | None:
    """What the text says; None if it is no acknowledgement."""
    if len(text) > 2 * CURSOR_CHARS_MAX:
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        if zlib.crc32(data[:-4]).to_bytes(4, "big") != data[-4:]:
            return None
        ack = _decode_ack(data[:-4])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return ack if all(number >= 0 and fence >= 0 for number, fence in ack.parts) else None
