"""Serving this peer's log to its siblings: which mutations it has logged in the ranges both replicate, and
their bytes.

The log's name is made of the peer's id. A data directory that was emptied comes back as another peer, so
one name never stands for two logs, and a position in a log stays meaningful over restarts of its owner.

A page is served only to a follower who knows all tables it speaks of as we do: one that is behind is given
the epochs it lacks, one that is ahead is caught up with first. A follower that meets an unknown table may
take it for dropped.
"""

from __future__ import annotations

from core import limits
from core.commands import Failed, LogFetch, LogIds, LogRead, Mutations, Outcome
from core.messages import Fetch, Fetched, Follow, Followed, OperationFailed, Stale
from core.ports import PeerId
from node.inside import Inside
from node.views import MetadataView, lane_for

Ranges = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


def log_name(peer: PeerId) -> int:
    """The name of a peer's log; 0 is kept for "not known"."""
    return int.from_bytes(peer[:8], "big") or 1


class LogServing:
    """Answers Follow and Fetch."""

    def __init__(self, inside: Inside, metadata: MetadataView) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._name = log_name(inside.identity.peer)
        self._ranges: dict[PeerId, Ranges] = {}
        self._ranges_epoch = 0
        inside.on_message(Follow, self._on_follow)
        inside.on_message(Fetch, self._on_fetch)
        inside.on_stored("log_ids", self._on_ids)
        inside.on_stored("log_mutations", self._on_mutations)

    def _on_follow(self, peer: PeerId, message: Follow) -> None:
        if message.epoch > self._metadata.state.epoch:
            self._metadata.catch_up(peer, message.epoch, lambda: self._on_follow(peer, message))
            return
        ranges = self.shared_with(peer)
        if message.epoch < self._metadata.state.epoch:
            for table, _ in ranges:
                lacking = self._metadata.stale_for(table, message.epoch)
                if lacking is not None:
                    self._inside.send(peer, Stale(message.op, lacking))
                    return
        if not ranges:
            self._inside.send(
                peer, OperationFailed(message.op, "not_a_replica", "no range is replicated by both")
            )
            return
        after = message.after if message.log == self._name else 0
        self._inside.submit(("log_ids", peer, message.op), LogRead(after, limits.FOLLOW_IDS_MAX, ranges))

    def shared_with(self, peer: PeerId) -> Ranges:
        """Per table the inclusive token ranges that this peer and `peer` replicate."""
        state = self._metadata.state
        if state.epoch != self._ranges_epoch:
            self._ranges.clear()
            self._ranges_epoch = state.epoch
        ranges = self._ranges.get(peer)
        if ranges is None:
            ranges = shared_ranges(self._metadata, self._inside.identity.peer, peer)
            self._ranges[peer] = ranges
        return ranges

    def _on_ids(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        if isinstance(outcome, LogIds):
            self._inside.send(peer, self.page(op, outcome))
        else:
            self._refuse(peer, op, outcome)

    def page(self, op: int, found: LogIds) -> Followed:
        """A page of this log."""
        return Followed(
            op, self._name, found.entries, found.next_after, found.first, found.end, found.expired
        )

    def _on_fetch(self, peer: PeerId, message: Fetch) -> None:
        command = LogFetch(message.offsets[: limits.FOLLOW_IDS_MAX], limits.FETCH_BYTES_MAX)
        self._inside.submit(("log_mutations", peer, message.op), command)

    def _on_mutations(self, outcome: Outcome, peer: PeerId, op: int) -> None:
        if isinstance(outcome, Mutations):
            size = sum(len(data) + 16 for _, data in outcome.mutations)
            self._inside.send(peer, Fetched(op, outcome.mutations), lane_for(size))
        else:
            self._refuse(peer, op, outcome)

    def _refuse(self, peer: PeerId, op: int, outcome: Outcome) -> None:
        assert isinstance(outcome, Failed), outcome
        self._inside.send(peer, OperationFailed(op, outcome.why, outcome.detail))


def shared_ranges(metadata: MetadataView, one: PeerId, other: PeerId) -> Ranges:
    """Per table, ascending by id, the inclusive token ranges that both peers are written to."""
    state = metadata.state
    found = []
    for table in sorted(state.tables):
        placement = state.placement(table)
        ranges = placement.common_ranges(one, other) if placement else ()
        if ranges:
            found.append((table, ranges))
    return tuple(found)
