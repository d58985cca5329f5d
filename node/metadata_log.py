"""The metadata log of one peer: the epochs it has adopted, their state, and how it gets those it lacks.

An epoch is adopted when it is known to be decided and all before it are adopted: the state changes at once,
the record goes to disk behind it. That is sound, for a decided epoch is durable in enough voters; after a
crash it is pulled again. Only what a voter *says* must be durable first (node/metadata_acceptor.py).

Who sees a higher epoch (in a ping, a hello, a message about data) says so to `behind`; then one pull is under
way at a time and is repeated until it answers. Messages that need an epoch which is not here yet are parked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from core import limits
from core.commands import Done, Outcome, SystemWrite
from core.limits import SECOND_US
from core.messages import Decided, Message, Pull, encode_message
from core.metadata import Birth, Epoch
from core.ports import BULK, URGENT, PeerId
from node.inside import Inside
from node.metadata_state import UNBORN, State, apply

EPOCH_PREFIX: Final = b"meta/epoch/"
"""System records of adopted epochs, by number."""

SMALL_BYTES_MAX: Final = limits.SMALL_FRAME_BYTES_MAX * 3 // 4
"""Epochs and proposals up to this many bytes travel in one small frame; a larger one goes alone, in bulk."""

PULL_TIMEOUT_US: Final = SECOND_US // 2
PARKED_US: Final = 2 * SECOND_US
_RETRY_US: Final = SECOND_US

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Epoch)


def lane_of(message: Message) -> int:
    """URGENT if the message fits a small frame, else BULK."""
    return URGENT if len(encode_message(message)) <= SMALL_BYTES_MAX + 1024 else BULK


class MetadataLog:
    """The adopted epochs and their state."""

    def __init__(self, inside: Inside, boot: dict[bytes, bytes]) -> None:
        """`boot` holds all system records."""
        self._inside = inside
        self._me = inside.identity.peer
        self.state: State = UNBORN
        self._epochs: list[Epoch] = []
        self._sizes: list[int] = []
        self._listeners: list[Callable[[], None]] = []
        self.on_state: Callable[[State], None] = lambda _: None
        """Told of each new state before anybody acts by it."""
        self.forget_vote: Callable[[int], tuple[tuple[bytes, None], ...]] = lambda _: ()
        """What to delete from disk together with writing an epoch (the voter's record of it)."""
        self.trusts: Callable[[PeerId], bool] = lambda _: False
        """Whether somebody who is no member (yet, by what we know) belongs to the cluster all the same."""
        self.distrusts: Callable[[PeerId], bool] = lambda _: False
        """Whether a member is one that we have agreed to give up: what it says is decided is not, here."""
        self._target: tuple[int, PeerId] = (0, b"")
        self._pull_until_us = 0
        self._parked: list[tuple[int, int, Callable[[], None]]] = []
        self._ticking = False
        self.durable = 0
        """All epochs up to this one are on this peer's disk: those it will know after any crash."""
        self._stored: dict[int, None] = {}
        self._beyond: dict[int, Epoch] = {}
        """Stored beyond a gap that a failed write left: our votes on them are forgotten, so they are not."""
        for key in sorted(key for key in boot if key.startswith(EPOCH_PREFIX)):
            epoch = _decoder.decode(boot[key])
            if epoch.number == self.state.epoch + 1:
                self._append(epoch)
            else:
                self._beyond[epoch.number] = epoch
        self.durable = self.state.epoch
        inside.on_message(Pull, self._on_pull)
        inside.on_message(Decided, lambda peer, message: self.on_decided(peer, message.epochs))
        inside.on_timer("metadata.pull", self._on_tick)
        inside.on_timer("metadata.store", self._store)
        inside.on_stored("metadata.adopted", self._on_stored)

    # --- what is known

    def epochs_after(self, number: int, limit: int = limits.METADATA_ENTRIES_PER_PULL) -> tuple[Epoch, ...]:
        """The epochs after `number`, in order: at most `limit`, as fit a small frame, but at least one."""
        first = max(0, number)
        end, size = first, 0
        while end < len(self._epochs) and end < first + limit:
            size += self._sizes[end]
            if size > SMALL_BYTES_MAX and end > first:
                break
            end += 1
        return tuple(self._epochs[first:end])

    def epoch(self, number: int) -> Epoch:
        """An adopted epoch."""
        return self._epochs[number - 1]

    def on_adopted(self, listener: Callable[[], None]) -> None:
        """Call `listener()` after each epoch adopted from now on; `state` is the new one."""
        self._listeners.append(listener)

    def stale_for(self, table_id: int, epoch: int) -> tuple[Epoch, ...] | None:
        """None if what was planned at `epoch` may be served here now, else the epochs its planner lacks."""
        state = self.state
        if epoch >= state.epoch:
            return None
        table = state.tables.get(table_id)
        if table is not None:
            keyspace = state.keyspaces[table.keyspace]
            touched = max(table.changed_epoch, keyspace.changed_epoch, state.moved_epoch)
            if touched <= epoch:
                return None
        return self.epochs_after(epoch)

    # --- adopting

    def adopt(self, epochs: tuple[Epoch, ...], peer: PeerId) -> None:
        """Adopt decided epochs that `peer` told of; those known are passed over, a gap is pulled from it."""
        for epoch in epochs:
            if epoch.number > self.state.epoch + 1:
                self.behind(peer, epoch.number)
                return
            if epoch.number == self.state.epoch + 1:
                self._adopt_next(epoch)
                while self.state.epoch + 1 in self._beyond:
                    self._adopt_next(self._beyond.pop(self.state.epoch + 1))

    def _adopt_next(self, epoch: Epoch) -> None:
        before = self.state
        self._append(epoch)
        self._store(epoch.number)
        if self.state.members is not before.members:
            self.tell_addresses()
        for listener in self._listeners:
            listener()
        self._release_parked()

    def _append(self, epoch: Epoch) -> None:
        assert isinstance(epoch.entry, Birth) == (epoch.number == 1), "a log begins with its birth"
        self.state = apply(self.state, epoch)
        self.on_state(self.state)
        assert self.state.last is not None
        self._epochs.append(self.state.last)
        self._sizes.append(len(self.state.last_data))

    def tell_addresses(self) -> None:
        """Tell the world where the members are."""
        self._inside.world.know(self.state.addresses)

    def _store(self, number: int) -> None:
        is_last = number == self.state.epoch
        data = self.state.last_data if is_last else _encoder.encode(self._epochs[number - 1])
        puts = ((EPOCH_PREFIX + b"%016x" % number, data), *self.forget_vote(number))
        self._inside.submit(("metadata.adopted", number), SystemWrite(puts))

    def _on_stored(self, outcome: Outcome, number: int) -> None:
        if not isinstance(outcome, Done):
            self._inside.log("warning", "epoch_not_stored", f"epoch {number} was not stored: {outcome}")
            self._inside.timer(_RETRY_US, "metadata.store", number)
            return
        self._stored[number] = None
        while self.durable + 1 in self._stored:
            self.durable += 1
            del self._stored[self.durable]

    # --- catching up

    def behind(self, peer: PeerId, epoch: int) -> None:
        """`peer` knows `epoch`: if we do not, pull what we lack."""
        if epoch <= self.state.epoch:
            return
        self._target = max(self._target, (epoch, peer))
        if self._inside.world.monotonic_us() >= self._pull_until_us:
            self._pull(peer)
        self._tick()

    def catch_up(self, peer: PeerId, epoch: int, then: Callable[[], None]) -> None:
        """Call `then` once `epoch`, which `peer` knows, is adopted: at once or later; if it lasts, never."""
        if epoch <= self.state.epoch:
            then()
            return
        if len(self._parked) >= limits.PARKED_MESSAGES_MAX:
            self._inside.count("metadata_parked_dropped")
            return
        self._parked.append((epoch, self._inside.world.monotonic_us() + PARKED_US, then))
        self.behind(peer, epoch)

    def _pull(self, peer: PeerId) -> None:
        self._pull_until_us = self._inside.world.monotonic_us() + PULL_TIMEOUT_US
        self._inside.send(peer, Pull(self.state.epoch), URGENT)

    def _tick(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._inside.timer(PULL_TIMEOUT_US, "metadata.pull")

    def _on_tick(self) -> None:
        self._ticking = False
        now_us = self._inside.world.monotonic_us()
        kept = [parked for parked in self._parked if parked[1] > now_us]
        self._inside.count("metadata_parked_dropped", len(self._parked) - len(kept))
        self._parked = kept
        epoch, peer = self._target
        if self._parked and epoch > self.state.epoch and now_us >= self._pull_until_us:
            self._pull(peer)
        if self._parked:
            self._tick()

    def _release_parked(self) -> None:
        ready = [parked for parked in self._parked if parked[0] <= self.state.epoch]
        if ready:
            self._parked = [parked for parked in self._parked if parked[0] > self.state.epoch]
            for _, _, then in ready:
                then()

    def _on_pull(self, peer: PeerId, message: Pull) -> None:
        former = any(peer == one for one, _ in self.state.former)
        if former or self.state.member(peer) is not None:
            answer = Decided(self.epochs_after(message.after))
            self._inside.send(peer, answer, lane_of(answer))

    def on_decided(self, peer: PeerId, epochs: tuple[Epoch, ...]) -> None:
        """News, or the answer to a pull: go on pulling until there is nothing more."""
        state = self.state
        if self.distrusts(peer) or (state.epoch and state.member(peer) is None and not self.trusts(peer)):
            return
        before = self.state.epoch
        self.adopt(epochs, peer)
        epoch, source = self._target
        if not epochs and source == peer:
            self._target = (0, b"")  # it knows no more than we do
        elif self.state.epoch > before and epoch > self.state.epoch:
            self._pull(peer)
