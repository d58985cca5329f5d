"""Whose rows this peer has still to compare with its own, though it follows their logs.

Whoever has followed a sibling to the end of its log holds all that the sibling holds: that is what ends
deletions (node/floors.py). Logs have one sequence for all ranges, though, and a position in one speaks of the
ranges that were shared when it was reached. Who is given a range merges a quorum of those that had it; of a
further one, whose log it follows already for the sake of other ranges, it has passed over what was logged of
this one before. A deletion may be among that, which later reaches the others, is purged there, and is never
heard of here: and what it deleted comes back.

So once the move is over the rows of such a sibling are compared with ours, whole, and until then no floor is
raised among replicas of which we are one and it is another. (While the range moves none is raised there.)

It is the same where damage took rows, and enough others have given them back (node/mending.py): what the rest
has logged was followed before, and what it did is among what was lost.

What is owed is durable, under the epoch to which it belongs; of another epoch than the present one nothing is
known, and all are compared whose logs were read before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from core import limits
from core.commands import Done, Outcome, SystemWrite
from node.anti_entropy import Job
from node.comparing import Span
from node.moving_ring import PREPARE

if TYPE_CHECKING:
    from core.ports import PeerId
    from node.anti_entropy import AntiEntropy
    from node.following import Following
    from node.inside import Inside
    from node.metadata import Metadata

KEY = b"compared"
AGAIN_US = 1 * limits.SECOND_US
"""What could not be written is written again."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """`owed`, and `given` by the move that is under way, as of the epoch in which rows last moved."""

    moved_epoch: int = 0
    owed: tuple[bytes, ...] = ()
    given: tuple[bytes, ...] = ()


class Compared:
    """What is owed, and how it is done."""

    def __init__(
        self,
        inside: Inside,
        metadata: Metadata,
        following: Following,
        anti_entropy: AntiEntropy,
        boot: Mapping[bytes, bytes],
    ) -> None:
        """`boot` holds the system records as of the start."""
        self._inside = inside
        self._metadata = metadata
        self._following = following
        self._anti_entropy = anti_entropy
        self._me = inside.identity.peer
        data = boot.get(KEY)
        self._record = Record() if data is None else msgspec.msgpack.decode(data, type=Record)
        self._moved_epoch = 0
        self._known: Sequence[PeerId] = ()
        """Whom we shared ranges with as of the last epoch: their logs may have been read."""
        self._owed: dict[PeerId, int] = {}
        self._given: dict[PeerId, None] = {}
        """By the move that is under way."""
        self._number = 0
        self._left: dict[int, int] = {}
        """Spans that are still to be compared, by the number of what is owed."""
        inside.on_stored("compared", self._on_written)
        inside.on_timer("compared", self._note)
        metadata.on_adopted(self._on_adopted)

    def start(self) -> None:
        """Go on with what an earlier start owed."""
        state = self._metadata.state
        self._moved_epoch = state.moved_epoch
        self._known = state.neighbours(self._me)
        owed: Sequence[PeerId] = self._record.owed
        if self._record.moved_epoch == state.moved_epoch:
            self._given = dict.fromkeys(self._record.given)
        else:
            owed = [peer for peer in self._known if self._following.position(peer).log]
        self._owe(owed)
        self._note()

    def owe(self, peers: Sequence[PeerId]) -> None:
        """Compare with these, too: what they logged was followed, and may be lost."""
        self._owe(peers)
        self._note()

    def owes(self, peer: PeerId) -> bool:
        """Whether this sibling's rows have still to be compared with ours."""
        return peer in self._owed

    def _on_adopted(self) -> None:
        state = self._metadata.state
        if state.moved_epoch == self._moved_epoch:
            return
        self._moved_epoch = state.moved_epoch
        before, self._known = self._known, state.neighbours(self._me)
        if state.move is None:
            given, self._given = self._given, {}
            self._owe(tuple(given))
        elif state.move.phase == PREPARE:
            for ring in state.moving_rings():
                for _, (old, new) in ring.moving():
                    if self._me in new and self._me not in old:
                        self._given.update(dict.fromkeys(old))
            self._given = {
                peer: None for peer in self._given if peer in before or self._following.position(peer).log
            }
        for peer in [peer for peer in self._owed if state.member(peer) is None]:
            self._paid(peer)
        self._note()

    def _owe(self, peers: Sequence[PeerId]) -> None:
        state = self._metadata.state
        for peer in peers:
            if state.member(peer) is None:
                continue
            self._paid(peer)
            self._number += 1
            self._owed[peer] = self._number
            jobs = []
            for table in sorted(state.tables):
                spans = self._anti_entropy.spans(peer, table)
                if spans:
                    done = partial(self._compared, peer, self._number)
                    jobs.append(Job(peer, table, spans, done, urgent=True))
            self._left[self._number] = sum(len(job.spans) for job in jobs)
            for job in jobs:
                self._anti_entropy.add(job)
            self._compared(peer, self._number, ())

    def _paid(self, peer: PeerId) -> None:
        number = self._owed.pop(peer, None)
        if number is not None:
            del self._left[number]

    def _compared(self, peer: PeerId, number: int, spans: Sequence[Span]) -> None:
        """These spans are equal to those of the sibling."""
        if self._owed.get(peer) == number:
            self._left[number] -= len(spans)
            if not self._left[number]:
                self._paid(peer)
                self._note()

    def _note(self) -> None:
        """Of what was not written in time more is compared than has to be."""
        record = Record(self._moved_epoch, tuple(self._owed), tuple(self._given))
        if record != self._record:
            self._record = record
            self._inside.submit(("compared",), SystemWrite(((KEY, msgspec.msgpack.encode(record)),)))

    def _on_written(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Done):
            self._record = Record(-1)
            self._inside.timer(AGAIN_US, "compared")
