"""One question to all the ranges of a search: asked of the fewest peers, asked again where a peer fails.

A peer that dies, cannot reach a sibling or has not built its index is passed over: its ranges are covered
anew by others, fresh. One that is only silent may still answer: others are asked beside it, and whoever has
answered for all of the ranges first counts, so no range counts twice. When nobody is left who can, all are
tried again after a moment, until the deadline. What was not answered by then is told, never passed over in
silence.

Who was asked is a tree: below a question stand those that were asked instead of it, for the same ranges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core import limits
from core.consistency import Level, Need, need
from core.messages import OperationFailed, Search, Searched, Stale
from core.ports import PeerId
from core.requests import Broken, Invalid, Overloaded, Timeout, Unavailable
from index.asking import BEHIND, Refused, Result, Work, decode_result, encode
from index.query import TokenRanges
from node.scans import joined_ranges
from node.search_cover import Liveness, Part, Piece, cover, joined, pieces_within
from node.served_work import BUILDING, NOT_FOLLOWED
from node.views import lane_for
from node.writes import no_such_table

if TYPE_CHECKING:
    from node.metadata_state import TablePlacement
    from node.searches import Searches

RETRY_US = 50_000
ATTEMPT_MIN_US, ATTEMPT_MAX_US = 200_000, 2 * limits.SECOND_US
"""Others are asked, too, after a third of the time that is left, but not before the one, nor later than the
other: most searches take milliseconds, and who stands still answers none.
"""

Failure = Unavailable | Timeout | Broken | Invalid | Overloaded
WorkFor = Callable[[Part], Work]


class Collected(msgspec.Struct, frozen=True):
    """What came in: results with whose part each is; what nobody answered, and why not."""

    results: tuple[tuple[Part, Result], ...]
    missing: TokenRanges = ()
    failure: Failure | None = None


class _Asked:
    """A peer that was asked for a part, and below who was asked instead, if anybody.

    `op` is not 0 as long as an answer may come. `left` are ranges for which nobody could be asked yet.
    """

    __slots__ = ("above", "below", "left", "op", "part", "result", "timer")

    def __init__(self, part: Part, above: _Asked | None) -> None:
        self.part = part
        self.above = above
        self.below: list[_Asked] | None = None
        self.left: TokenRanges = ()
        self.op = 0
        self.timer = 0
        self.result: Result | None = None

    @property
    def complete(self) -> bool:
        """Whether all of its ranges are answered for."""
        if self.result is not None:
            return True
        return self.below is not None and not self.left and all(each.complete for each in self.below)

    def results(self) -> list[tuple[Part, Result]]:
        """What came in."""
        if self.result is not None:
            return [(self.part, self.result)]
        return [found for each in self.below or () for found in each.results()]

    def missing(self) -> list[tuple[int, int]]:
        """The ranges that nobody answered for."""
        if self.result is not None:
            return []
        if self.below is None:
            return list(self.part.ranges)
        return [*self.left, *(pair for each in self.below for pair in each.missing())]


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
        self._open: dict[int, _Asked] = {}
        self._root = _Asked(Part(b"", (), ()), None)
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
        self._root = _Asked(Part(b"", ranges, ()), None)
        if parts:
            self._ask_all(self._root, parts, fresh=False)
        else:
            self._cover(self._root, ranges)

    # --- asking

    def _placement(self) -> TablePlacement | None:
        return self._parent.metadata.state.placement(self._table)

    def _wanted(self, placement: TablePlacement) -> Need:
        level = self._level if self._fresh else Level.ONE
        return need(level, placement.factors, self._parent.inside.identity.datacentre)

    def _cover(self, asked: _Asked, ranges: TokenRanges) -> None:
        """Have others asked for these ranges of what was asked."""
        placement = self._placement()
        if placement is None:
            self._fail(no_such_table())
            return
        alive = self._parent.alive(placement)
        wanted, local = self._wanted(placement), self._parent.inside.identity.datacentre
        if self._unfit or self._apart:
            servers = [peer for peer in alive if peer not in self._unfit]
            liveness = Liveness(alive, servers, self._apart, self._table)
            pieces = pieces_within(joined_ranges(placement), ranges)
            parts, unserved = cover(pieces, liveness, wanted, placement, local)
        else:
            parts, unserved = self._parent.covered(placement, ranges, wanted, alive)
        if unserved and asked.op:
            return  # nobody else can: its own answer is waited for
        if unserved:
            hopeful = Liveness(alive, alive, (), self._table)
            _, hopeless = cover(unserved, hopeful, wanted, placement, local)
            if hopeless:
                alive_there = sum(peer in alive for peer in hopeless[0][2])
                self._give_up(hopeless, Unavailable(wanted.total, alive_there, self._level))
            self._retry_later(asked, joined(piece[:2] for piece in unserved if piece not in hopeless))
        self._ask_all(asked, tuple(parts), self._fresh)

    def _ask_all(self, asked: _Asked, parts: tuple[Part, ...], fresh: bool) -> None:
        """Ask for these parts. One may fail at once, while the others wait for their turn."""
        below = [_Asked(part, asked) for part in parts]
        asked.below = [*(asked.below or ()), *below]
        self._asking += 1
        for each in below:
            if self._done is not None:
                self._ask(each, fresh)
        self._asking -= 1
        self._end_if_done()

    def _give_up(self, pieces: list[Piece], failure: Failure) -> None:
        """Too few replicas of these live."""
        self._lost = joined((*self._lost, *(piece[:2] for piece in pieces)))
        self._failure = failure
        if not self._partial:
            self._end(Collected((), self._lost, failure))

    def _retry_later(self, asked: _Asked, ranges: TokenRanges) -> None:
        if not ranges or self._done is None:
            return
        verdict = self._verdict()
        if verdict is not None:
            self._fail(verdict)
            return
        asked.left = joined((*asked.left, *ranges))
        if not self._retrying:
            self._retrying = True
            self._parent.inside.timer(RETRY_US, "search_retry", self.number)

    def on_retry(self) -> None:
        """Try everybody again."""
        self._retrying = False
        self._unfit.clear()
        self._apart.clear()
        self._retry(self._root)

    def _retry(self, asked: _Asked) -> None:
        ranges, asked.left = asked.left, ()
        for each in tuple(asked.below or ()):
            self._retry(each)
        if ranges and self._done is not None:
            self._cover(asked, ranges)

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

    def _ask(self, asked: _Asked, fresh: bool) -> None:
        parent, inside, part = self._parent, self._parent.inside, asked.part
        left_us = max(1, self._deadline_us - inside.world.monotonic_us())
        asked.op = op = inside.new_op()
        patience_us = max(ATTEMPT_MIN_US, min(ATTEMPT_MAX_US, left_us // 3))
        asked.timer = inside.timer(patience_us, "search_attempt", self.number, op)
        self._open[op] = asked
        inside.operations[op] = self
        epoch, work = parent.metadata.state.epoch, encode(self._work(part))
        follow = part.follow if fresh else ()
        message = Search(op, epoch, self._table, part.ranges, follow, fresh, left_us, work, self._mapping)
        if part.server == parent.me:
            parent.serving.serve(message, lambda told: self.on_message(parent.me, told))
        elif not inside.send(part.server, message, lane_for(len(work) + 64 * len(part.ranges))):
            self._pass_over(asked, None)

    # --- answers

    def on_message(self, peer: PeerId, message: Any) -> None:
        """An answer of a peer that was asked."""
        asked = self._open.get(message.op)
        if asked is None or asked.part.server != peer or self._done is None:
            return
        if isinstance(message, Searched):
            self._take(asked, message)
        elif isinstance(message, Stale):  # the epochs that we lacked are adopted by now
            self._instead(asked)
        elif isinstance(message, OperationFailed):
            if message.why == NOT_FOLLOWED:
                for name in message.detail.split():
                    self._apart[peer, bytes.fromhex(name)] = True
                self._instead(asked)
            else:
                self._pass_over(asked, message)

    def _take(self, asked: _Asked, message: Searched) -> None:
        try:
            result = decode_result(message.result)
        except msgspec.DecodeError as error:
            self._pass_over(asked, OperationFailed(message.op, "malformed", str(error)))
            return
        if isinstance(result, Refused):
            if result.refusal.code == BEHIND:
                self._instead(asked)
            else:
                self._fail(Invalid(result.refusal.code, result.refusal.detail))
            return
        asked.result = result
        above: _Asked | None = asked
        while above is not None and above.complete:
            self._close_all(above, and_below=above is asked)
            above = above.above
        self._end_if_done()

    def _close_all(self, asked: _Asked, and_below: bool) -> None:
        """No answer is waited for any more: its own, and if it has one, those of whom was asked instead."""
        self._close(asked)
        if and_below:
            for each in asked.below or ():
                self._close_all(each, and_below=True)
            asked.below, asked.left = None, ()

    def _close(self, asked: _Asked) -> None:
        if asked.op:
            del self._open[asked.op]
            self._parent.inside.operations.pop(asked.op, None)
            self._parent.inside.world.cancel_timer(asked.timer)
            asked.op = 0

    def _instead(self, asked: _Asked) -> None:
        """Its answer will not come: have others asked, unless they are."""
        self._close(asked)
        if asked.below is None:
            self._cover(asked, asked.part.ranges)

    def _pass_over(self, asked: _Asked, failure: OperationFailed | None) -> None:
        if self._done is not None:
            self._parent.inside.count("searches_asked_elsewhere")
            self._unfit[asked.part.server] = failure
            self._instead(asked)

    def on_silence(self, op: int) -> None:
        """A peer says nothing yet: others are asked, too."""
        asked = self._open.get(op)
        if asked is not None and self._done is not None and asked.below is None:
            self._parent.inside.count("searches_asked_elsewhere")
            self._unfit[asked.part.server] = None
            self._cover(asked, asked.part.ranges)

    def on_peer(self, peer: PeerId) -> None:
        """The last connection is gone, and with it what was asked over it."""
        for asked in tuple(self._open.values()):
            if asked.part.server == peer and asked.op:
                self._pass_over(asked, None)

    # --- the end

    def _end_if_done(self) -> None:
        if not self._asking and self._root.complete and self._done is not None:
            self._end(Collected(tuple(self._root.results()), self._lost, self._failure))

    def on_deadline(self) -> None:
        """Too late for what is not there yet."""
        missing = joined((*self._root.missing(), *self._lost))
        placement = self._placement()
        required = 1 if placement is None else self._wanted(placement).total
        failure = self._failure or Timeout(0, required, self._level, write=False)
        self._end(Collected(tuple(self._root.results()), missing, failure))

    def _fail(self, failure: Failure) -> None:
        """No partial answer makes up for this."""
        self._end(Collected((), (), failure))

    def _end(self, gathered: Collected) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        for asked in tuple(self._open.values()):
            self._close(asked)
        self._parent.inside.world.cancel_timer(self._timer)
        self._parent.scatters.pop(self.number, None)
        done(gathered)
