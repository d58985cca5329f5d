"""The batch log: what a peer keeps for coordinators of logged batches, and replays if they do not finish.

A logged batch is kept, all its mutations in their bytes, by two peers before any of it is sent. Its
coordinator sends the mutations and then tells the holders that it is done. A holder that is not told begins
after `batch_replay_us` to do it itself: it plans each mutation anew under the placement of now, at QUORUM,
and tries again until all of them are where they belong; then it forgets the batch and tells the other
holders. Mutations carry their ids and versions, so whatever is done twice changes nothing, and holders may
overlap with the coordinator and with each other.

A coordinator that met newer versions stamps a batch again as a whole: it has the holders replace it (attempt
1) before it sends that. "Done" names the attempt it speaks of, so that a holder which finished the first one
does not end the second.

A batch is a system record `batch/ | start number | sequence`. In memory there is its size and its timer; the
mutations are read when they are replayed. The sum of sizes is bounded (`batch_log_bytes_max`): beyond it
batches are refused before anything of them is sent.

What purges tombstones must never promise to forget beyond `oldest_admitted_us` of any peer.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from core import limits
from core.commands import Done, Outcome, Records, SystemScan, SystemWrite, Why
from core.consistency import Level
from core.messages import BatchDone, BatchStore, BatchStored, OperationFailed
from core.mutation import Mutation, decode_mutation
from core.ports import PeerId, TimerId
from core.requests import Answer, Invalid, Timeout, WriteRequest, Written
from node.writes import WriteOperation

if TYPE_CHECKING:
    from core.cell import Version
    from core.trace import Trace
    from node.inside import Inside
    from node.metadata import Metadata
    from node.swim import Swim
    from node.writes import Writes

PREFIX = b"batch/"
REPLAYS_MAX = 8
"""So many batches are replayed at once."""

DONE_MAX = 4_096
"""So many batches that are done are remembered: messages that ask to keep them may come late."""

BatchId = tuple[int, int]
"""(start number of the coordinator, sequence of the batch's first mutation)."""


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """The value of a batch's record."""

    attempt: int
    holders: tuple[PeerId, ...]
    mutations: tuple[tuple[int, bytes], ...]


class BatchWrite(WriteOperation):
    """One mutation of a logged batch: it is never stamped again on its own, and may be hopeless for good."""

    __slots__ = ("newer",)

    newer: Version | None

    def begin_above(self, above: bool) -> None:
        """Whether the batch was stamped above all that replicas had met already."""
        self._above = above

    @property
    def is_above(self) -> bool:
        """Whether who acknowledged it has said all that it had met."""
        return self._above

    def _stamp_again(self, newer: Version) -> None:
        """Only the whole batch may be: say so, and what was met."""
        self.newer = newer
        self._answer(Written(self._version()))
        self._finish_if_all_answered()

    @property
    def refused_for_good(self) -> bool:
        """Whether a replica refused it as it will for ever, or all that answered keep to a floor above it:
        its holder was away for longer than floors wait for one.
        """
        why = [failure.why for failure in self._failed.values()]
        return Why.TOO_LARGE in why or Why.MALFORMED in why or (bool(why) and set(why) == {Why.BELOW_FLOOR})


class BatchApply:
    """The mutations of a batch on their way to the replicas of now.

    When all are answered, `done(failure, newer)` is called: why one is not where it belongs at the level
    (None if all are), and the newest version that hides something of the batch. With `finally_lost` a
    mutation that replicas refuse for good is given up, so that the others end. `above`: the batch was stamped
    above all that replicas had met; whether it can be afterwards, `is_seen` says: what is below a floor is
    refused before anything is looked at.
    """

    def __init__(
        self,
        log: BatchLog,
        level: Level,
        done: Callable[[Answer | None, Version | None], None],
        *,
        finally_lost: bool,
        trace: Trace | None = None,
        above: bool = False,
    ) -> None:
        self._log = log
        self._above = above
        self.is_seen = True
        self._trace = trace
        self._level = level
        self._done = done
        self._finally_lost = finally_lost
        self.gone = 0
        """Mutations whose table is not there any more: dropped, or another one since it was emptied."""
        self._left = 0
        self._failure: Answer | None = None
        self._newer: Version | None = None

    def send(self, mutations: Sequence[Mutation], deadline_us: int) -> None:
        """Send them all."""
        self._left = len(mutations) + 1
        for mutation in mutations:
            self._send(mutation, deadline_us)
        self._one_less()

    def _send(self, mutation: Mutation, deadline_us: int) -> None:
        log = self._log
        placement = log.metadata.state.placement(mutation.table)
        if placement is None:
            self.gone += 1
            self._one_less()
            return
        wanted = placement.need(self._level, mutation.token, log.inside.identity.datacentre)
        request = WriteRequest(
            mutation.table, mutation.partition, (), self._level, mutation.operation, trace=self._trace
        )
        write = BatchWrite(
            log.writes,
            request,
            mutation,
            placement=placement,
            wanted=wanted,
            reply=lambda answer: self._on_answer(write, mutation, answer),
        )
        write.newer = None
        write.begin_above(self._above)
        replicas = placement.writers(mutation.token)
        write.send(replicas, [peer for peer in replicas if log.swim.is_alive(peer)], deadline_us)

    def _on_answer(self, write: BatchWrite, mutation: Mutation, answer: Answer) -> None:
        if isinstance(answer, Written):
            if write.newer is not None:
                self.is_seen = self.is_seen and write.is_above
                self._newer = write.newer if self._newer is None else max(self._newer, write.newer)
        elif isinstance(answer, Invalid) and answer.code == "no_such_table":
            self.gone += 1
        elif self._finally_lost and write.refused_for_good and not isinstance(answer, Timeout):
            text = f"replicas refuse mutation {mutation.id} of a batch for good: {answer}"
            self._log.inside.log("error", "batch_mutation_lost", text)
        else:
            self._failure = answer
        self._one_less()

    def _one_less(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done(self._failure, self._newer)


class _Entry:
    """What is known of a kept batch without reading it."""

    __slots__ = ("admitted_us", "attempt", "durable", "leaving", "replaying", "size", "timer", "waiting")

    def __init__(self, attempt: int, size: int, admitted_us: int) -> None:
        self.attempt = attempt
        self.size = size
        self.admitted_us = admitted_us
        self.durable = -1
        """The attempt that is durable."""
        self.leaving = False
        """It is applied, and its record is being deleted."""
        self.replaying = False
        self.timer: TimerId = 0
        self.waiting: list[Callable[[str], None]] = []


class BatchLog:
    """Keeps the batches of others (and, in small clusters, one's own), and replays those that stay."""

    def __init__(self, inside: Inside, metadata: Metadata, swim: Swim, writes: Writes) -> None:
        """Nothing is read before `start`."""
        self.inside = inside
        self.metadata = metadata
        self.swim = swim
        self.writes = writes
        self.size = 0
        self._me = inside.identity.peer
        self.bound_us = 0
        """Whoever asks for batches admitted by then to be kept is refused (node/floors.py)."""
        self.is_known = False
        """Whether all batches that earlier starts kept are found."""
        self._entries: dict[BatchId, _Entry] = {}
        self._done: OrderedDict[BatchId, int] = OrderedDict()
        self._due: deque[BatchId] = deque()
        self._replays = 0
        inside.on_message(BatchStore, self._on_store)
        inside.on_message(BatchDone, lambda _, message: self.forget(message.batch, message.attempt))
        inside.on_stored("batch_found", self._on_found)
        inside.on_stored("batch_kept", self._on_kept)
        inside.on_stored("batch_read", self._on_read)
        inside.on_stored("batch_forgotten", self._on_forgotten)
        inside.on_timer("batch_due", self._on_due)
        inside.on_timer("batch_find", self._find)

    @property
    def count(self) -> int:
        """How many batches are kept."""
        return len(self._entries)

    @property
    def oldest_admitted_us(self) -> int | None:
        """When the oldest batch kept here was admitted; None if there is none."""
        return min((entry.admitted_us for entry in self._entries.values()), default=None)

    # --- after a start

    def start(self) -> None:
        """Find what earlier starts kept."""
        self._find(b"")

    def _find(self, after: bytes) -> None:
        page = SystemScan(PREFIX, after, limits.SLICE_ROWS_MAX, limits.SLICE_BYTES_MAX)
        self.inside.submit(("batch_found", after), page)

    def _on_found(self, outcome: Outcome, after: bytes) -> None:
        replay_us = self.inside.settings.batch_replay_us
        if not isinstance(outcome, Records):
            self.inside.log("warning", "batches_unread", f"the batches kept could not be read: {outcome}")
            self.inside.timer(replay_us, "batch_find", after)
            return
        for key, value in outcome.records:
            batch = _batch_of(key)
            if batch not in self._entries:
                kept = msgspec.msgpack.decode(value, type=Kept)
                entry = self._enter(batch, kept)
                entry.durable = kept.attempt
                entry.timer = self.inside.timer(replay_us, "batch_due", batch)
        if outcome.more:
            self._find(outcome.records[-1][0])
        else:
            self.is_known = True

    def _enter(self, batch: BatchId, kept: Kept) -> _Entry:
        size = sum(len(data) for _, data in kept.mutations)
        entry = self._entries[batch] = _Entry(kept.attempt, size, _admitted(kept))
        self._grow(size)
        return entry

    def _grow(self, size: int) -> None:
        self.size += size
        self.inside.count("batch_log_bytes_now", self.size)

    # --- keeping

    def _on_store(self, peer: PeerId, message: BatchStore) -> None:
        def answer(why: str) -> None:
            name = self.inside.identity.name
            failed = OperationFailed(message.op, why, f"{name} cannot keep a batch: {why}")
            self.inside.send(peer, failed if why else BatchStored(message.op))

        self.store(message, answer)

    def store(self, message: BatchStore, done: Callable[[str], None]) -> None:
        """Keep a batch; `done("")` once it, or a later attempt, is durable, else `done(why)`."""
        batch, attempt = message.batch, message.attempt
        if self._done.get(batch, -1) >= attempt:
            done("")
            return
        entry = self._entries.get(batch)
        if entry is not None and entry.attempt >= attempt:
            if entry.durable == entry.attempt:
                done("")
            else:
                entry.waiting.append(done)
            return
        kept = Kept(attempt, message.holders, message.mutations)
        if entry is None:
            if self.size + sum(len(d) for _, d in kept.mutations) > self.inside.settings.batch_log_bytes_max:
                self.inside.count("batches_refused")
                done("overloaded")
                return
            if _admitted(kept) <= self.bound_us:
                self.inside.count("batches_refused")
                done("too_late")
                return
            entry = self._enter(batch, kept)
        entry.attempt = attempt
        entry.waiting.append(done)
        self._schedule(batch, entry, 1 if message.rank == 0 else 2)
        record = (_key_of(batch), msgspec.msgpack.encode(kept))
        self.inside.submit(("batch_kept", batch, attempt), SystemWrite((record,)))

    def _schedule(self, batch: BatchId, entry: _Entry, times: int = 1) -> None:
        self.inside.world.cancel_timer(entry.timer)
        entry.timer = self.inside.timer(self.inside.settings.batch_replay_us * times, "batch_due", batch)

    def _on_kept(self, outcome: Outcome, batch: BatchId, attempt: int) -> None:
        entry = self._entries.get(batch)
        if entry is None:
            return  # done meanwhile, and forgotten
        why = "" if isinstance(outcome, Done) else str(getattr(outcome, "why", "unknown"))
        if not why:
            entry.durable = max(entry.durable, attempt)
        if attempt < entry.attempt:
            return  # what replaces it is on its way
        if why and entry.durable >= 0:
            entry.attempt = entry.durable
        elif why:
            self._drop(batch, entry)
        waiting, entry.waiting = entry.waiting, []
        for done in waiting:
            done(why)

    def _drop(self, batch: BatchId, entry: _Entry) -> None:
        self.inside.world.cancel_timer(entry.timer)
        del self._entries[batch]
        self._grow(-entry.size)

    # --- forgetting

    def forget(self, batch: BatchId, attempt: int) -> None:
        """A batch is applied up to this attempt."""
        self._done[batch] = max(attempt, self._done.get(batch, -1))
        if len(self._done) > DONE_MAX:
            self._done.popitem(last=False)
        entry = self._entries.get(batch)
        if entry is None or entry.attempt > attempt or entry.leaving:
            return
        entry.leaving = True
        self.inside.submit(("batch_forgotten", batch, attempt), SystemWrite(((_key_of(batch), None),)))

    def _on_forgotten(self, outcome: Outcome, batch: BatchId, attempt: int) -> None:
        """If it is still there (a full disk), it is replayed and forgotten again: that changes nothing."""
        entry = self._entries.get(batch)
        if entry is None:
            return
        entry.leaving = False
        if isinstance(outcome, Done) and entry.attempt <= attempt:
            self._drop(batch, entry)
        elif not entry.replaying:
            self._schedule(batch, entry)

    # --- replaying

    def _on_due(self, batch: BatchId) -> None:
        entry = self._entries.get(batch)
        if entry is None or entry.replaying or entry.leaving:
            return
        entry.replaying = True
        self._due.append(batch)
        self._replay_next()

    def _replay_next(self) -> None:
        while self._due and self._replays < REPLAYS_MAX:
            batch = self._due.popleft()
            if batch in self._entries:
                self._replays += 1
                scan = SystemScan(_key_of(batch), b"", 1, limits.BATCH_BYTES_MAX)
                self.inside.submit(("batch_read", batch), scan)

    def _on_read(self, outcome: Outcome, batch: BatchId) -> None:
        entry = self._entries.get(batch)
        if entry is None or not isinstance(outcome, Records) or self.metadata.unready:
            if not isinstance(outcome, Records):
                self.inside.log("warning", "batches_unread", f"a batch kept could not be read: {outcome}")
            self._replayed(batch, again=True)
            return
        if not outcome.records:
            # Forgotten while earlier starts' batches were looked for; or, if not durable, written just now.
            if entry.durable >= 0:
                self._drop(batch, entry)
            self._replayed(batch, again=True)
            return
        kept = msgspec.msgpack.decode(outcome.records[0][1], type=Kept)

        def done(failure: Answer | None, newer: Version | None) -> None:
            del newer  # a replay is never stamped again
            if failure is None:
                self._finished(batch, kept)
            self._replayed(batch, again=failure is not None)

        self.inside.count("batches_replayed")
        mutations = [decode_mutation(data) for _, data in kept.mutations]
        deadline_us = self.inside.world.monotonic_us() + self.inside.settings.write_timeout_us
        BatchApply(self, Level.QUORUM, done, finally_lost=True).send(mutations, deadline_us)

    def _finished(self, batch: BatchId, kept: Kept) -> None:
        self.forget(batch, kept.attempt)
        for peer in kept.holders:
            if peer != self._me:
                self.inside.send(peer, BatchDone(batch, kept.attempt))

    def _replayed(self, batch: BatchId, again: bool) -> None:
        self._replays -= 1
        entry = self._entries.get(batch)
        if entry is not None:
            entry.replaying = False
            if again or not entry.leaving:
                self._schedule(batch, entry)
        self._replay_next()


def _admitted(kept: Kept) -> int:
    return min((decode_mutation(data).admitted_us for _, data in kept.mutations[:1]), default=0)


def _key_of(batch: BatchId) -> bytes:
    return PREFIX + batch[0].to_bytes(8, "big") + batch[1].to_bytes(8, "big")


def _batch_of(key: bytes) -> BatchId:
    at = len(PREFIX)
    return int.from_bytes(key[at : at + 8], "big"), int.from_bytes(key[at + 8 : at + 16], "big")
