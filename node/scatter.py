"""One question to all the ranges of a search: asked of the fewest peers, asked again where a peer fails.

A peer that dies, is silent, cannot reach a sibling or has not built its index is passed over: its ranges are
covered anew by others, fresh. When nobody is left who can, all are tried again after a moment, until the
deadline. What was not answered by then is told, never passed over in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core.consistency import Level, Need, need
from core.messages import OperationFailed, Search, Searched, Stale
from core.ports import PeerId
from core.requests import Broken, Invalid, Overloaded, Timeout, Unavailable
from index.asking import BEHIND, Refused, Result, Work, decode_result, encode
from index.query import TokenRanges
from node.find_serving import BUILDING, NOT_FOLLOWED
from node.scans import joined_ranges
from node.search_cover import Liveness, Part, Piece, cover, joined, pieces_within
from node.views import lane_for
from node.writes import no_such_table

if TYPE_CHECKING:
    from node.metadata_state import TablePlacement
    from node.searches import Searches

RETRY_US = 50_000
ATTEMPT_MIN_US = 200_000
"""A peer is given a third of the time that is left, but not less."""

Failure = Unavailable | Timeout | Broken | Invalid | Overloaded
WorkFor = Callable[[Part], Work]


class Collected(msgspec.Struct, frozen=True):
    """What came in: results with whose part each is; what nobody answered, and why not."""

    results: tuple[tuple[Part, Result], ...]
    missing: TokenRanges = ()
    failure: Failure | None = None


class _Question(msgspec.Struct):
    """A part that is under way."""

    part: Part
    op: int
    timer: int


class Scatter:
    """Asks, and tells `done` once what came of it."""

    def __init__(
        self,
        parent: Searches,
        table: int,
        level: Level,
        *,
        work: WorkFor,
        fresh: bool,
        partial: bool,
        deadline_us: int,
        done: Callable[[Collected], None],
        mapping: str = "",
    ) -> None:
        """Nothing is asked before `begin`. If not `partial`, a range that nobody can serve ends it."""
        self.number = parent.inside.new_op()
        self._parent = parent
        self._table = table
        self._level = level
        self._work = work
        self._fresh = fresh
        self._mapping = mapping
        self._partial = partial
        self._deadline_us = deadline_us
        self._done: Callable[[Collected], None] | None = done
        self._questions: dict[int, _Question] = {}
        self._results: list[tuple[Part, Result]] = []
        self._unserved: TokenRanges = ()
        self._unfit: dict[PeerId, OperationFailed | None] = {}
        self._apart: dict[tuple[PeerId, PeerId], bool] = {}
        self._lost: TokenRanges = ()
        self._failure: Failure | None = None
        self._retrying = False
        self._asking = 0
        self._timer = 0

    def begin(self, ranges: TokenRanges, parts: tuple[Part, ...] = ()) -> None:
        """Ask: of these parts as they are (nothing need be followed again), else of whoever covers the
        ranges.
        """
        inside = self._parent.inside
        self._parent.scatters[self.number] = self
        delay_us = max(1, self._deadline_us - inside.world.monotonic_us())
        self._timer = inside.timer(delay_us, "search_deadline", self.number)
        if not parts:
            self._cover(ranges)
            return
        self._asking += 1
        for part in parts:
            self._ask(part, fresh=False)
        self._asking -= 1
        self._end_if_done()

    # --- asking

    def _placement(self) -> TablePlacement | None:
        return self._parent.metadata.state.placement(self._table)

    def _wanted(self, placement: TablePlacement) -> Need:
        level = self._level if self._fresh else Level.ONE
        return need(level, placement.factors, self._parent.inside.identity.datacentre)

    def _cover(self, ranges: TokenRanges) -> None:
        placement = self._placement()
        if placement is None:
            self._fail(no_such_table())
            return
        pieces = pieces_within(joined_ranges(placement), ranges)
        alive = self._parent.alive(placement)
        servers = [peer for peer in alive if peer not in self._unfit]
        wanted, local = self._wanted(placement), self._parent.inside.identity.datacentre
        liveness = Liveness(alive, servers, self._apart, self._table)
        parts, unserved = cover(pieces, liveness, wanted, placement, local)
        if unserved:
            hopeful = Liveness(alive, alive, (), self._table)
            _, hopeless = cover(unserved, hopeful, wanted, placement, local)
            if hopeless:
                alive_there = sum(peer in alive for peer in hopeless[0][2])
                self._give_up(hopeless, Unavailable(wanted.total, alive_there, self._level))
                unserved = [piece for piece in unserved if piece not in hopeless]
            if unserved and self._done is not None:
                self._retry_later(joined(piece[:2] for piece in unserved))
        self._asking += 1
        for part in parts:
            if self._done is not None:
                self._ask(part, self._fresh)
        self._asking -= 1
        self._end_if_done()

    def _give_up(self, pieces: list[Piece], failure: Failure) -> None:
        """Too few replicas of these live."""
        self._lost = joined((*self._lost, *(piece[:2] for piece in pieces)))
        self._failure = failure
        if not self._partial:
            self._end(Collected((), self._lost, failure))

    def _retry_later(self, ranges: TokenRanges) -> None:
        verdict = self._verdict()
        if verdict is not None:
            self._fail(verdict)
            return
        self._unserved = joined((*self._unserved, *ranges))
        if not self._retrying:
            self._retrying = True
            self._parent.inside.timer(RETRY_US, "search_retry", self.number)

    def on_retry(self) -> None:
        """Try everybody again."""
        self._retrying = False
        ranges, self._unserved = self._unserved, ()
        self._unfit.clear()
        self._apart.clear()
        self._cover(ranges)

    def _verdict(self) -> Failure | None:
        """What to tell if it is no use to try again."""
        failures = [failure for failure in self._unfit.values() if failure is not None]
        if self._apart or not failures or len(failures) < len(self._unfit):
            return None
        details = "; ".join(dict.fromkeys(failure.detail for failure in failures))
        whys = {failure.why: True for failure in failures}
        if list(whys) == [BUILDING]:
            return Invalid("index_building", f"the index is still being built, try again later: {details}")
        if "malformed" in whys:
            return Invalid("invalid", details)
        if all(why in ("corrupt", "disk_full", "stalled", "too_large") for why in whys):
            return Broken(0, 1, len(failures), details, write=False, unknown=False)
        if list(whys) == ["overloaded"]:
            return Overloaded(details)
        return None

    def _ask(self, part: Part, fresh: bool) -> None:
        parent, inside = self._parent, self._parent.inside
        left_us = max(1, self._deadline_us - inside.world.monotonic_us())
        timeout_us = max(ATTEMPT_MIN_US, left_us // 3)
        op = inside.new_op()
        timer = inside.timer(timeout_us, "search_attempt", self.number, op)
        self._questions[op] = _Question(part, op, timer)
        inside.operations[op] = self
        epoch, work = parent.metadata.state.epoch, encode(self._work(part))
        follow = part.follow if fresh else ()
        message = Search(
            op, epoch, self._table, part.ranges, follow, fresh, timeout_us, work, self._mapping
        )
        if part.server == parent.me:
            parent.serving.serve(message, lambda told: self.on_message(parent.me, told))
        elif not inside.send(part.server, message, lane_for(len(work) + 64 * len(part.ranges))):
            self._pass_over(op, None)

    # --- answers

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of a peer that was asked."""
        question = self._questions.get(message.op)
        if question is None or question.part.server != peer or self._done is None:
            return
        if isinstance(message, Searched):
            self._take(question, message)
        elif isinstance(message, Stale):  # the epochs that we lacked are adopted by now
            self._close(question)
            self._cover(question.part.ranges)
        elif isinstance(message, OperationFailed):
            if message.why == NOT_FOLLOWED:
                for name in message.detail.split():
                    self._apart[peer, bytes.fromhex(name)] = True
                self._close(question)
                self._cover(question.part.ranges)
            else:
                self._pass_over(message.op, message)

    def _take(self, question: _Question, message: Searched) -> None:
        try:
            result = decode_result(message.result)
        except msgspec.DecodeError as error:
            self._pass_over(message.op, OperationFailed(message.op, "malformed", str(error)))
            return
        self._close(question)
        if isinstance(result, Refused):
            if result.refusal.code == BEHIND:
                self._cover(question.part.ranges)
            else:
                self._fail(Invalid(result.refusal.code, result.refusal.detail))
            return
        self._results.append((question.part, result))
        self._end_if_done()

    def _close(self, question: _Question) -> None:
        del self._questions[question.op]
        self._parent.inside.operations.pop(question.op, None)
        self._parent.inside.world.cancel_timer(question.timer)

    def _pass_over(self, op: int, failure: OperationFailed | None) -> None:
        question = self._questions.get(op)
        if question is None or self._done is None:
            return
        self._close(question)
        self._parent.inside.count("searches_asked_elsewhere")
        self._unfit[question.part.server] = failure
        self._cover(question.part.ranges)

    def on_silence(self, op: int) -> None:
        """A peer says nothing: another is asked."""
        self._pass_over(op, None)

    def on_peer(self, peer: PeerId) -> None:
        """The last connection is gone, and with it what was asked over it."""
        for question in tuple(self._questions.values()):
            if question.part.server == peer:
                self._pass_over(question.op, None)

    # --- the end

    def _end_if_done(self) -> None:
        """Unless some parts are only about to be asked: one may fail while the others wait for their turn."""
        waits = self._questions or self._unserved or self._asking
        if not waits and self._done is not None:
            self._end(Collected(tuple(self._results), self._lost, self._failure))

    def on_deadline(self) -> None:
        """Too late for what is not there yet."""
        missing = [(f, t) for question in self._questions.values() for f, t in question.part.ranges]
        whole = joined((*missing, *self._unserved, *self._lost))
        placement = self._placement()
        required = 1 if placement is None else self._wanted(placement).total
        failure = self._failure or Timeout(0, required, self._level, write=False)
        self._end(Collected(tuple(self._results), whole, failure))

    def _fail(self, failure: Failure) -> None:
        """No partial answer makes up for this."""
        self._end(Collected((), (), failure))

    def _end(self, gathered: Collected) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        for question in tuple(self._questions.values()):
            self._close(question)
        self._parent.inside.world.cancel_timer(self._timer)
        self._parent.scatters.pop(self.number, None)
        done(gathered)
