"""The metadata part of a node: one linearizable log of schema and membership, agreed on by 1, 3 or 5 voters.

Each epoch is one decree of Paxos among the voters named in the state before it (Lamport, Paxos Made Simple);
the first needs all initial voters (node/birth.py). This part says who may vote on what, and ties together

    metadata_state      what the epochs say (pure)
    metadata_log        the epochs adopted here, pulling those that lack, messages parked until they are here
    metadata_acceptor   the voter's durable memory
    metadata_proposer   rounds of ballots
    metadata_changes    changes on their way from who was asked to a voter that proposes them

With the voters' majority away nothing here is decided, and nothing else stops: reads, writes and restarts use
the log as it is. A node that was refused for good (node/identity.py) neither votes nor proposes.
"""

from __future__ import annotations

from collections.abc import Callable

from core.consistency import quorum
from core.messages import Accept, Accepted, Decided, Message, Prepare, Promise, Rejected
from core.metadata import Birth, Change, Entry, Epoch
from core.ports import PeerId
from core.requests import Changed, Unready
from node.addresses import OwnAddress
from node.birth import Midwife
from node.identity import IdentityPart, given_up_text
from node.inside import Inside
from node.metadata_acceptor import Acceptor
from node.metadata_changes import Origin, Queue
from node.metadata_log import MetadataLog, lane_of
from node.metadata_proposer import Ballotting, Proposer
from node.metadata_state import State
from node.recovery import Recovery

WAITS = "this peer waits to be admitted to the cluster: sullae cluster plan add, then commit"
REMOVED = "this peer was removed from the cluster: stop it"
NO_CLUSTER = "there is no cluster yet: its birth needs all peers of the configuration, once"


class Metadata:
    """The metadata log as the other parts of the node see it."""

    def __init__(self, inside: Inside, boot: dict[bytes, bytes]) -> None:
        """`boot` holds all system records of this node's store. Nothing is sent before `start`."""
        self._inside = inside
        self._me = inside.identity.peer
        self.log = MetadataLog(inside, boot)
        self.state: State = self.log.state
        """What the epochs adopted so far say."""
        self.log.on_state = self._take_state
        self.identity = IdentityPart(inside, boot, lambda: self.log.state)
        self._acceptor = Acceptor(inside, boot, self._send)
        self._proposer = Proposer(inside, self._acceptor, self._send, self._on_won, self._on_failed)
        self._midwife = Midwife(inside, self.identity, lambda: self.born, lambda: not self._proposer.active)
        self._midwife.propose = self._proposer.start
        self._queue = Queue(inside, self.log, self._propose)
        self._origin = Origin(inside, self.log, self._queue)
        self._own_address = OwnAddress(inside, self.log, self._origin)
        self.recovery = Recovery(inside, self.log, self._given_up, self._propose)
        self.recovery.next_id = self._origin.next_id
        self._acceptor.generation = lambda: len(self.log.state.lineages)
        self.identity.given_up = self._given_up
        self._pausing = False
        self.log.forget_vote = self._acceptor.forget
        self.log.trusts = self._knows_more
        self.log.distrusts = lambda peer: peer in self._given_up() or peer in self.state.lost
        self.log.on_adopted(self._on_adopted)
        inside.on_message(Prepare, self._on_prepare)
        inside.on_message(Accept, self._on_accept)
        inside.on_message(Promise, self._on_promise)
        inside.on_message(Accepted, self._on_accepted)
        inside.on_message(Rejected, self._on_rejected)
        inside.on_timer("metadata.again", self._on_again)
        inside.on_peer(self._on_peer)

    # --- what the other parts use

    def _take_state(self, state: State) -> None:
        self.state = state  # kept here, too: a write asks for it twenty times

    @property
    def born(self) -> bool:
        """Whether there is a cluster that this node knows of."""
        return self.log.state.epoch > 0

    @property
    def unready(self) -> str:
        """Why this node does not serve: no cluster yet, or refused for good; "" if it may."""
        if self.identity.refused:
            return self.identity.refused
        if not self.born:
            return WAITS if self.identity.joining else NO_CLUSTER
        member = self.state.member(self._me)
        if self._me in self.state.lost and member is not None:
            return given_up_text(member.name, self.state)
        return "" if member is not None else self._not_a_member()

    def _not_a_member(self) -> str:
        if any(peer == self._me for peer, _ in self.state.former):
            return REMOVED
        return WAITS

    def _given_up(self) -> tuple[PeerId, ...]:
        """Whom we have accepted to give up, in a recovery that is not known to be decided."""
        given_up = self._acceptor.given_up
        return given_up.peers if given_up.generation > len(self.state.lineages) else ()

    def _knows_more(self, peer: PeerId) -> bool:
        hello = self.identity.hellos.get(peer)
        return hello is not None and hello.cluster == self.state.cluster and hello.epoch > self.state.epoch

    def start(self) -> None:
        """Called in on_start: tell the world the members' addresses, or begin to look for them."""
        if self.born:
            self.log.tell_addresses()
            self._own_address.start()
        self._midwife.start()

    def set_alive(self, alive: Callable[[PeerId], bool]) -> None:
        """Have changes sent to voters that live by this account (without it: to all in turn)."""
        self._origin.alive = alive
        self.recovery.alive = alive

    def change(self, change: Change, done: Callable[[Changed | Unready], None], deadline_us: int) -> None:
        """Have a change decided; `done` is called once: at once, when adopted, or before the deadline."""
        if self.unready:
            done(Unready(self.unready))
        else:
            self._origin.change(change, done, deadline_us)

    def epochs_after(self, number: int, limit: int = 64) -> tuple[Epoch, ...]:
        """As MetadataLog.epochs_after."""
        return self.log.epochs_after(number, limit)

    def adopt(self, epochs: tuple[Epoch, ...], peer: PeerId) -> None:
        """As MetadataLog.adopt: what came with a `Stale` from `peer`."""
        self.log.on_decided(peer, epochs)

    def behind(self, peer: PeerId, epoch: int) -> None:
        """As MetadataLog.behind."""
        self.log.behind(peer, epoch)

    def catch_up(self, peer: PeerId, epoch: int, then: Callable[[], None]) -> None:
        """As MetadataLog.catch_up."""
        self.log.catch_up(peer, epoch, then)

    def stale_for(self, table_id: int, epoch: int) -> tuple[Epoch, ...] | None:
        """As MetadataLog.stale_for."""
        return self.log.stale_for(table_id, epoch)

    def on_adopted(self, listener: Callable[[], None]) -> None:
        """As MetadataLog.on_adopted."""
        self.log.on_adopted(listener)

    # --- voting

    def _on_prepare(self, peer: PeerId, message: Prepare) -> None:
        if self._may_vote(peer, message.number, message.ballot, message.lost):
            self._acceptor.prepare(peer, message)

    def _on_accept(self, peer: PeerId, message: Accept) -> None:
        if not self._may_vote(peer, message.number, message.ballot, message.lost):
            return
        if (message.number == 1) != isinstance(message.entry, Birth):
            return
        if isinstance(message.entry, Birth) and self._midwife.objection(message.entry, peer):
            return
        self._acceptor.accept(peer, message)

    def _may_vote(self, peer: PeerId, number: int, ballot: int, lost: tuple[PeerId, ...]) -> bool:
        """Whether this peer's proposal for this epoch is to be voted on by us, now."""
        state = self.state
        if self.identity.refused or self.log.distrusts(peer):
            return False
        if number <= state.epoch:
            if state.member(peer) is not None:  # who is no member learns nothing from us, not even this
                self._send(peer, Rejected(number, ballot, self.log.epoch(number)))
            return False
        if number > state.epoch + 1:
            self.behind(peer, number - 1)
            return False
        if number == 1:
            return self._midwife.may_vote(peer)
        if lost:
            return self.recovery.may_vote(peer, lost)
        return self._me in state.voters and peer in state.voters

    def _on_rejected(self, peer: PeerId, message: Rejected) -> None:
        if message.decided is not None:
            self.log.on_decided(peer, (message.decided,))
        else:
            self._proposer.on_rejected(message)

    # --- proposing

    def _on_promise(self, peer: PeerId, message: Promise) -> None:
        if not self.identity.refused:
            self._proposer.on_promise(peer, message)

    def _on_accepted(self, peer: PeerId, message: Accepted) -> None:
        if not self.identity.refused:
            self._proposer.on_accepted(peer, message)

    def _propose(self) -> None:
        """Begin a round if there is something to propose, and none is under way or waited for."""
        state = self.state
        if self._proposer.active or self._pausing or self.identity.refused or not self.born:
            return
        recovering = self.recovery.ballotting()
        if recovering is not None:
            self._proposer.start(recovering)
            return
        if self._me in state.voters and self._queue:
            rank = state.number_of(self._me)
            assert rank is not None
            enough = quorum(len(state.voters))
            self._proposer.start(Ballotting(state.epoch + 1, state.voters, enough, rank, self._batch))

    def _batch(self) -> Entry | None:
        return self._queue.batch()

    def _on_won(self, epoch: Epoch) -> None:
        """An entry of ours, or one that we finished, is decided: adopt it and spread the news."""
        members = self.state.members  # who is removed by it is told, too
        self.log.adopt((epoch,), self._me)
        news = Decided((epoch,))
        lane = lane_of(news)
        if self.state.members is not members:
            members = tuple({m.peer: m for m in (*members, *self.state.members)}.values())
        for member in members:
            if member.peer != self._me:
                self._inside.send(member.peer, news, lane)

    def _on_failed(self) -> None:
        if self.born and not self._pausing:
            self._pausing = True
            self._inside.timer(self._proposer.pause_us(), "metadata.again")

    def _on_again(self) -> None:
        self._pausing = False
        self._propose()

    def _on_adopted(self) -> None:
        if self.state.member(self._me) is not None:
            self.identity.admitted()
        self._proposer.abandon(self.state.epoch)
        self._propose()

    # --- messages

    def _send(self, peer: PeerId, message: Message) -> None:
        if peer == self._me:
            self._inside.message_handlers[type(message)](peer, message)
        else:
            self._inside.send(peer, message, lane_of(message))

    def _on_peer(self, peer: PeerId, connected: bool) -> None:
        hello = self.identity.hellos.get(peer)
        if connected and hello is not None:
            self.behind(peer, hello.epoch)
