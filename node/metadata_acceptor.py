"""The voter's memory: for each undecided epoch the highest ballot promised, and what was accepted last.

Lamport's acceptor. What makes it safe: nothing is answered before the record that the answer speaks of is
durable. The memory may run ahead of the disk, but an answer waits for a write of the *whole* record as it was
when the answer was made, so neither a lost nor a failed write before it matters; and the record is only ever
raised. A record is deleted in the same batch that writes the decided epoch, never before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from core.commands import Done, Outcome, SystemWrite
from core.messages import Accept, Accepted, Message, Prepare, Promise, Rejected
from core.metadata import Entry
from core.ports import PeerId
from node.inside import Inside

RECORD_PREFIX: Final = b"meta/vote/"
"""System records of undecided epochs, by number."""

GIVEN_UP_KEY: Final = b"meta/given_up"
"""The system record of what we accepted of a recovery (node/recovery.py)."""


class GivenUp(msgspec.Struct, frozen=True, array_like=True):
    """Whom we have agreed to give up in a recovery; it holds until that generation is decided."""

    generation: int = 0
    peers: tuple[PeerId, ...] = ()


class Vote(msgspec.Struct, frozen=True, array_like=True):
    """What a voter must not forget of one epoch; ballot 0 is none."""

    promised: int = 0
    accepted_ballot: int = 0
    accepted: Entry | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Vote)
_NO_VOTE: Final = Vote()
_given_up_decoder = msgspec.msgpack.Decoder(GivenUp)


def vote_key(number: int) -> bytes:
    """The key of an epoch's record."""
    return RECORD_PREFIX + b"%016x" % number


class Acceptor:
    """Promises and acceptances of this voter; who may ask is decided before (node/metadata.py)."""

    def __init__(
        self, inside: Inside, boot: dict[bytes, bytes], reply: Callable[[PeerId, Message], None]
    ) -> None:
        """`boot` holds all system records; `reply` sends an answer, to ourselves too."""
        self._inside = inside
        self._reply = reply
        self._votes = {
            int(key[len(RECORD_PREFIX) :], 16): _decoder.decode(value)
            for key, value in boot.items()
            if key.startswith(RECORD_PREFIX)
        }
        given_up = boot.get(GIVEN_UP_KEY)
        self.given_up = GivenUp() if given_up is None else _given_up_decoder.decode(given_up)
        self.generation: Callable[[], int] = lambda: 0
        """How often the metadata was recovered so far."""
        inside.on_stored("metadata.voted", self._on_stored)

    def vote(self, number: int) -> Vote:
        """What was promised and accepted for an epoch."""
        return self._votes.get(number, _NO_VOTE)

    def prepare(self, peer: PeerId, message: Prepare) -> None:
        """Phase 1: promise not to accept below this ballot, and tell what was accepted."""
        number, ballot = message.number, message.ballot
        vote = self.vote(number)
        if ballot < vote.promised:
            self._reply(peer, Rejected(number, vote.promised, None))
            return
        vote = msgspec.structs.replace(vote, promised=ballot)
        self._answer_when_durable(
            number, vote, peer, Promise(number, ballot, vote.accepted_ballot, vote.accepted)
        )

    def accept(self, peer: PeerId, message: Accept) -> None:
        """Phase 2: accept, unless a higher ballot was promised."""
        number, ballot = message.number, message.ballot
        vote = self.vote(number)
        if ballot < vote.promised:
            self._reply(peer, Rejected(number, vote.promised, None))
            return
        if message.lost:
            self.given_up = GivenUp(self.generation() + 1, message.lost)
        self._answer_when_durable(number, Vote(ballot, ballot, message.entry), peer, Accepted(number, ballot))

    def forget(self, number: int) -> tuple[tuple[bytes, None], ...]:
        """An epoch is decided: forget it, and what else to write with it so that the disk forgets it too."""
        self._votes.pop(number, None)
        return ((vote_key(number), None),)

    def _answer_when_durable(self, number: int, vote: Vote, peer: PeerId, answer: Message) -> None:
        self._votes[number] = vote
        puts = [(vote_key(number), _encoder.encode(vote))]
        if self.given_up.generation > self.generation():
            puts.append((GIVEN_UP_KEY, _encoder.encode(self.given_up)))
        self._inside.submit(("metadata.voted", peer, answer), SystemWrite(tuple(puts)))

    def _on_stored(self, outcome: Outcome, peer: PeerId, answer: Message) -> None:
        if isinstance(outcome, Done):
            self._reply(peer, answer)
        else:
            self._inside.log("warning", "vote_not_stored", f"no vote on the metadata: {outcome}")
