"""Messages of healing: hash trees and repair, Paxos state taken over, floors; see core/messages.py."""

from __future__ import annotations

import msgspec

from core.healing import FloorParts, PaxosState
from core.ports import PeerId


class Repair(msgspec.Struct, frozen=True, array_like=True, tag=45):
    """Merge these rows or headers (key, bytes), as commands.MergeRows. Answered with MutationApplied."""

    op: int
    epoch: int
    table: int
    settled_us: int
    rows: tuple[tuple[bytes, bytes], ...]


class TreeAsk(msgspec.Struct, frozen=True, array_like=True, tag=64):
    """The hashes of `parts` equal parts (no more than leaves) of each of some runs of leaves of a table.

    `spans` are these runs in ascending order, each as its distance from the end of the one before and its
    length (node/comparing.py). With a salt, short hashes are wanted.
    """

    op: int
    epoch: int
    table: int
    parts: int
    salt: int
    spans: tuple[int, ...]


class TreeAnswer(msgspec.Struct, frozen=True, array_like=True, tag=65):
    """One hash per part, all of one width, one behind the other."""

    op: int
    hashes: bytes


class RowsAsk(msgspec.Struct, frozen=True, array_like=True, tag=68):
    """These are the hashes, under this salt, of my rows in these runs of leaves (as in TreeAsk), behind the
    key `after` up to the key `until` (b"": to the end): which rows do I lack? Answered with RowsTold.
    """

    op: int
    epoch: int
    table: int
    salt: int
    spans: tuple[int, ...]
    after: bytes
    until: bytes
    hashes: bytes


class RowsTold(msgspec.Struct, frozen=True, array_like=True, tag=69):
    """The rows that you lack, and the positions of those of your hashes of which I have no row.

    I looked up to the key `until` (b"": all that you asked for); beyond it neither says anything.
    `settled_us` as in commands.Rows.
    """

    op: int
    rows: tuple[tuple[bytes, bytes], ...]
    lacking: tuple[int, ...]
    until: bytes
    settled_us: int


class PaxosStateAsk(msgspec.Struct, frozen=True, array_like=True, tag=66):
    """What do you keep of Paxos for these tokens (inclusive), after this partition?

    Answered with PaxosStateTold, or OperationFailed.
    """

    op: int
    epoch: int
    table: int
    first_token: int
    last_token: int
    after: bytes


class PaxosStateTold(msgspec.Struct, frozen=True, array_like=True, tag=67):
    """Partitions in order; go on after `after`, unless it is empty."""

    op: int
    states: tuple[PaxosState, ...]
    after: bytes


class BoundAsk(msgspec.Struct, frozen=True, array_like=True, tag=110):
    """Up to when is nothing that was admitted kept by you, to be delivered later? Answered with BoundTold."""

    op: int


class BoundTold(msgspec.Struct, frozen=True, array_like=True, tag=111):
    """Of what was admitted up to then this peer keeps nothing, and will take nothing to keep: hints that a
    client
    relies on, logged batches. It is also behind its clock.
    """

    op: int
    bound_us: int


class FloorAsk(msgspec.Struct, frozen=True, array_like=True, tag=112):
    """Take a step (core.healing.FloorStep) of a round, among these replicas. Answered with FloorTold."""

    op: int
    epoch: int
    step: int
    floor_us: int
    replicas: tuple[PeerId, ...]
    parts: FloorParts


class FloorWanted(msgspec.Struct, frozen=True, array_like=True, tag=114):
    """Lead a round of what these replicas hold: something has been dead for long here. Not answered."""

    replicas: tuple[PeerId, ...]


class FloorTold(msgspec.Struct, frozen=True, array_like=True, tag=113):
    """It is taken, durably; or why it could not be."""

    op: int
    why: str
