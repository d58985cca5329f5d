"""The proposer: have one entry decided for one epoch, or learn which other one was (single-decree Paxos).

A round: promise our own ballot to ourselves, *durably*; only then ask the others, so no ballot is used twice
even if we restart. With enough promises, ours among them, propose what was accepted under the highest ballot
before, else our own entry, asked for only now so that it holds all that came in meanwhile. Enough acceptances
decide. A round that gets no answer in time, or meets a higher ballot, has failed; its owner decides when to
try again, after a random pause that grows.

What "enough" is, is the owner's: a majority, or for the first epoch all. Both phases use the same number and
the same voters, so any two rounds meet in at least one voter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from core.limits import SECOND_US
from core.messages import Accept, Accepted, Message, Prepare, Promise, Rejected
from core.metadata import Entry, Epoch
from core.ports import PeerId
from node.inside import Inside
from node.metadata_acceptor import Acceptor

ROUND_TIMEOUT_US: Final = SECOND_US // 2
ROUND_TIMEOUT_MAX_US: Final = 8 * SECOND_US
PAUSE_US: Final = 20_000
PAUSE_MAX_US: Final = 4 * SECOND_US
RANK_BITS: Final = 32


@dataclass(frozen=True, slots=True)
class Ballotting:
    """What a round is about: an epoch, who votes, how many are enough, and this voter's rank (1 and up)."""

    number: int
    voters: tuple[PeerId, ...]
    enough: int
    rank: int
    entry: Callable[[], Entry | None]
    """Our own entry, asked for when it is known that we may propose it; None gives up."""
    objection: Callable[[Entry], str] = lambda _: ""
    """Why an entry that was accepted before cannot be proposed by us; "" if it can."""
    lost: tuple[PeerId, ...] = ()
    """Members that are given up by it, if the metadata is being recovered: all others vote."""


@dataclass(slots=True)
class _Round:
    what: Ballotting
    ballot: int
    serial: int
    asked: bool = False
    promises: dict[PeerId, Promise] = field(default_factory=dict)
    accepted: dict[PeerId, None] = field(default_factory=dict)
    entry: Entry | None = None


class Proposer:
    """At most one round at a time."""

    def __init__(
        self,
        inside: Inside,
        acceptor: Acceptor,
        send: Callable[[PeerId, Message], None],
        decided: Callable[[Epoch], None],
        failed: Callable[[], None],
    ) -> None:
        """`decided(epoch)` and `failed()` end a round; `send` reaches other peers only."""
        self._inside = inside
        self._acceptor = acceptor
        self._send = send
        self._decided = decided
        self._failed = failed
        self._me = inside.identity.peer
        self._round: _Round | None = None
        self._highest = 0
        self._serial = 0
        self.failures = 0
        """Rounds that failed since the last success."""
        inside.on_timer("metadata.round", self._on_timeout)

    @property
    def active(self) -> bool:
        """Whether a round is under way."""
        return self._round is not None

    def pause_us(self) -> int:
        """How long to wait before the next round: random, longer after each failure."""
        return PAUSE_US + self._inside.world.below(min(PAUSE_US << min(self.failures, 10), PAUSE_MAX_US))

    def start(self, what: Ballotting) -> None:
        """Begin a round with a ballot above all seen for this epoch."""
        assert self._round is None
        assert self._me in what.voters
        seen = max(self._highest, self._acceptor.vote(what.number).promised)
        ballot = ((seen >> RANK_BITS) + 1) << RANK_BITS | what.rank
        self._serial += 1
        self._round = _Round(what, ballot, self._serial)
        timeout_us = min(ROUND_TIMEOUT_US << min(self.failures, 10), ROUND_TIMEOUT_MAX_US)
        timeout_us += self._inside.world.below(timeout_us // 4)
        self._inside.timer(timeout_us, "metadata.round", self._serial)
        self._acceptor.prepare(self._me, Prepare(what.number, ballot, what.lost))

    def abandon(self, epoch: int) -> None:
        """Epochs up to this one are decided: a round for one of them is over."""
        self._highest = self.failures = 0
        if self._round is not None and self._round.what.number <= epoch:
            self._round = None

    def on_promise(self, peer: PeerId, message: Promise) -> None:
        """A voter, perhaps ourselves, promised."""
        round_ = self._round_of(peer, message.number, message.ballot)
        if round_ is None or round_.entry is not None:
            return
        round_.promises[peer] = message
        if not round_.asked:
            if peer != self._me:
                return
            round_.asked = True
            self._send_all(round_, Prepare(message.number, message.ballot, round_.what.lost))
        if len(round_.promises) >= round_.what.enough and self._me in round_.promises:
            self._propose(round_)

    def _propose(self, round_: _Round) -> None:
        before = max(round_.promises.values(), key=lambda promise: promise.accepted_ballot)
        entry = before.accepted if before.accepted_ballot else round_.what.entry()
        if entry is None:
            self._round = None
            return
        objection = round_.what.objection(entry) if before.accepted_ballot else ""
        if objection:
            self._inside.log("error", "metadata_objection", objection)
            self._fail()
            return
        round_.entry = entry
        message = Accept(round_.what.number, round_.ballot, entry, round_.what.lost)
        self._send_all(round_, message)
        self._acceptor.accept(self._me, message)

    def on_accepted(self, peer: PeerId, message: Accepted) -> None:
        """A voter, perhaps ourselves, accepted."""
        round_ = self._round_of(peer, message.number, message.ballot)
        if round_ is None or round_.entry is None:
            return
        round_.accepted[peer] = None
        if len(round_.accepted) >= round_.what.enough:
            self._round = None
            self._highest = 0
            self.failures = 0
            self._decided(Epoch(round_.what.number, round_.entry))

    def on_rejected(self, message: Rejected) -> None:
        """A voter has promised a higher ballot."""
        round_ = self._round
        if round_ is None or message.number != round_.what.number or message.ballot <= round_.ballot:
            return
        self._highest = max(self._highest, message.ballot)
        self._fail()

    def _round_of(self, peer: PeerId, number: int, ballot: int) -> _Round | None:
        round_ = self._round
        if round_ is None or round_.what.number != number or round_.ballot != ballot:
            return None
        return round_ if peer in round_.what.voters else None

    def _on_timeout(self, serial: int) -> None:
        if self._round is not None and self._round.serial == serial:
            self._fail()

    def _fail(self) -> None:
        self._round = None
        self.failures += 1
        self._failed()

    def _send_all(self, round_: _Round, message: Message) -> None:
        for voter in round_.what.voters:
            if voter != self._me:
                self._send(voter, message)
