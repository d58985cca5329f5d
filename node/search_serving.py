"""A peer's side of searches: follow, let the index catch up, then do the work on a thread of its own.

    question -> epoch and ranges checked -> siblings followed to their end -> index covers the own log's end
             -> job on the segments -> answer

Only a replica of all the tokens asked for serves them: an ex-owner must never answer "nothing there". Without
`fresh` the two waits in the middle are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from core import limits
from core.commands import Failed
from core.errors import UNFORESEEN, unforeseen
from core.messages import Message, OperationFailed, Search, Searched
from core.ports import PeerId
from index.asking import Refusal, Refused, Segments, decode_work, encode, perform
from node.served_work import BUILDING, NOT_FOLLOWED
from node.serving import refusal, unless_moved
from node.views import lane_for

if TYPE_CHECKING:
    from node.following import Following
    from node.inside import Inside
    from node.metadata import Metadata
    from node.search_ports import IndexHost

SERVED_MAX = 1_000
"""Questions served at once."""

ANSWER_BYTES_MAX = limits.FRAME_BYTES_MAX - limits.MIB
"""What a frame holds beside its head."""

Answer = Callable[[Message], None]
IsMissing = Callable[[int, Sequence[tuple[int, int]]], bool]


class SearchServing:
    """Serves coordinators, this peer's own among them."""

    def __init__(
        self, inside: Inside, metadata: Metadata, following: Following, host: IndexHost, is_missing: IsMissing
    ) -> None:
        """Register. `is_missing` says whether rows of a table's token ranges may be missing here."""
        self._inside = inside
        self._metadata = metadata
        self._following = following
        self._is_missing = is_missing
        self.host = host
        self._serving = 0
        inside.on_message(Search, self._on_search)

    def _on_search(self, peer: PeerId, message: Search) -> None:
        if message.epoch > self._metadata.state.epoch:
            self._metadata.catch_up(peer, message.epoch, lambda: self._on_search(peer, message))
            return

        def answer(told: Message) -> None:
            size = len(told.result) if isinstance(told, Searched) else 0
            self._inside.send(peer, told, lane_for(size))

        self.serve(message, answer)

    def serve(self, message: Search, answer: Answer) -> None:
        """Do what is asked; `answer` is called once."""
        refusal = self._refusal(message)
        if refusal is not None:
            answer(refusal)
            return
        self._serving += 1

        def end(told: Message) -> None:
            self._serving -= 1
            answer(unless_moved(self._metadata, message.op, message.epoch, told))

        _Serving(self._inside, self._following, self.host, message, end=end).start()

    def _refusal(self, message: Search) -> Message | None:
        me, op = self._inside.identity.peer, message.op
        refused = refusal(self._metadata, me, op, (message.table, message.epoch), message.ranges)
        if refused is not None:
            return refused
        if message.fresh and self._is_missing(message.table, message.ranges):
            return OperationFailed(op, BUILDING, "what was damaged here is being given back")
        if self._serving >= SERVED_MAX:
            return OperationFailed(op, "overloaded", "this replica serves as many searches as it can")
        return None


class _Serving:
    """One question."""

    def __init__(
        self, inside: Inside, following: Following, host: IndexHost, message: Search, *, end: Answer
    ) -> None:
        self._inside = inside
        self._following = following
        self._host = host
        self._message = message
        self._end = end

    @property
    def _until_us(self) -> int:
        return self._inside.world.monotonic_us() + self._message.timeout_us

    def start(self) -> None:
        """Follow, if the answer is to be fresh."""
        if self._message.fresh:
            self._following.follow_now(self._message.follow, self._followed, self._until_us)
        else:
            self._host.when_open(self._message.table, self._until_us, self._ready, self._message.mapping)

    def _followed(self, reached: frozenset[PeerId]) -> None:
        missing = [peer.hex() for peer in self._message.follow if peer not in reached]
        if missing:
            self._end(OperationFailed(self._message.op, NOT_FOLLOWED, " ".join(missing)))
        else:
            self._host.when_fresh(self._message.table, self._until_us, self._ready, self._message.mapping)

    def _ready(self, why_not: str) -> None:
        if why_not:
            self._end(OperationFailed(self._message.op, BUILDING, f"{self._inside.identity.name}: {why_not}"))
            return
        try:
            work = decode_work(self._message.work)
        except msgspec.DecodeError as error:
            self._end(OperationFailed(self._message.op, "malformed", str(error)))
            return
        ranges = self._message.ranges

        def job(segments: Segments) -> bytes:
            try:
                return encode(perform(segments, work, ranges))
            except UNFORESEEN as error:  # a search that nobody foresaw ends alone
                return encode(Refused(Refusal("bad_query", unforeseen(error))))

        self._host.run(self._message.table, job, self._done, self._message.mapping)

    def _done(self, result: Any) -> None:
        if isinstance(result, Failed):
            self._inside.count("replica_failures")
            name = self._inside.identity.name
            self._end(OperationFailed(self._message.op, result.why, f"{name}: {result.detail}"))
        else:
            assert isinstance(result, bytes), result
            if len(result) > ANSWER_BYTES_MAX:
                text = f"the answer takes {len(result)} bytes: ask for fewer hits, sort values or buckets"
                result = encode(Refused(Refusal("bad_query", text)))
            self._end(Searched(self._message.op, result))
