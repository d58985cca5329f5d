"""One comparison of one sibling's rows with ours, from the hash of a run of leaves down to rows.

The run is a sequence of steps. A step asks the sibling and our own store the same question under one
operation number, waits for both answers, and decides what comes next; a step that is not answered is taken
again, a few times:

    whole hashes of the runs of leaves    -> those that differ; the others are proven equal
    short hashes of parts of these        -> the parts that differ: narrower ones, or few rows
    hashes of our rows in many of these   -> the rows that we lack, and which of ours the sibling lacks
    repairs on both sides                 -> the next rows, after a pause that bounds the rate

Where somebody waits for the outcome (`Job.done`), because this replica is to count as one that has all,
what differed is gone through once more with whole hashes: short ones may have hidden something.

Rows are looked at in pages, which may be cut on either side. Rows beyond the first cut are unknown on that
side, and are left to the next page. What is said to find the rows that differ is small beside them
(node/comparing.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import Command, Failed, Hashes, Merged, MergeRows, Outcome, Rows, TreeHashes, Why
from core.healing import ReadLeaves
from core.healing_messages import Repair, RowsAsk, RowsTold, TreeAnswer, TreeAsk
from core.messages import Message, MutationApplied, OperationFailed, Stale
from core.ports import PeerId, TimerId
from node.comparing import (
    Row,
    Span,
    differences,
    pack_hashes,
    pack_spans,
    row_hashes,
    salt_of,
    split,
    unpack_hashes,
)
from node.views import lane_for

if TYPE_CHECKING:
    from node.anti_entropy import AntiEntropy, Job

ROWS_PER_SECOND_MAX = 4_000
"""Rows looked at in the leaves that differ: a repair of millions takes minutes and is not felt."""

TIMEOUT_US = 300_000
"""After this a question is taken for lost and put again; each time the wait doubles."""

RETRIES = 4

OTHER_PARTS = "the sibling answered for other parts than asked"

FOLLOW_US = 5 * limits.SECOND_US
"""How long the sibling's log may take to be followed before a descent begins all the same."""

SETTLE_US = 500_000
"""Between finding leaves that differ and comparing their rows: what was in flight has arrived by then."""

SUSPECTS_AT_ONCE_MAX = 1_024
"""Differing spans collected before their rows are compared."""

LANES = 4
"""So many questions for rows are under way at a time: one after the other, each would wait for the network
and a sync.
"""

ROW_SPANS_AT_ONCE = 48
"""Spans whose rows are compared by one question."""

SPANS_AT_ONCE = 24
"""Spans of leaves whose hashes are asked for in one message."""

NARROW = 64
"""In spans of so many leaves fewer parts are asked for: of most of them one leaf differs."""

NARROW_PARTS = 4
NARROW_SPANS_AT_ONCE = 64


class TreeRun:
    """A job under way."""

    __slots__ = (
        "_after",
        "_apart",
        "_batch",
        "_differed",
        "_equal",
        "_followed",
        "_own",
        "_page",
        "_parent",
        "_part_spans",
        "_per_lane",
        "_resume",
        "_retries",
        "_salt",
        "_settled_us",
        "_spans",
        "_step",
        "_suspects",
        "_theirs",
        "_then",
        "_timer",
        "_to_merge",
        "_to_send",
        "_tops",
        "_up",
        "job",
        "lanes",
        "op",
    )

    def __init__(self, parent: AntiEntropy, job: Job, up: TreeRun | None = None) -> None:
        """Nothing is asked before `begin`. With `up` it is a lane: it takes differing leaves from that run.
        """
        self._up = up
        self.lanes: list[TreeRun] = []
        self._parent = parent
        self.job = job
        self.op = 0
        self._timer: TimerId = 0
        self._retries = 0
        self._own: Any = None
        self._theirs: Any = None
        self._step: Callable[[], None] = self._ask_tops
        self._then: Callable[[Any, Any], None] = self._compare_tops
        self._resume: Callable[[], None] = self._descend
        self._salt = 0
        self._batch: list[Span] = []
        self._tops: list[Span] = list(reversed(job.spans))
        self._differed: list[Span] = []
        self._spans: list[Span] = []
        self._suspects: list[Span] = []
        self._per_lane = 1
        self._part_spans: tuple[Span, ...] = ()
        self._apart: list[tuple[Span, ...]] = []
        self._after = b""
        self._page = Rows((), None, False)
        self._to_merge: tuple[Row, ...] = ()
        self._to_send: tuple[Row, ...] = ()
        self._followed = False
        self._equal: list[Span] = []
        self._settled_us = 0

    def begin(self) -> None:
        """Compare the hashes of the whole."""
        self._parent.inside.count("tree_runs")
        self._salt = salt_of(self._new_op())
        self._descend()

    # --- steps

    def _go(self, step: Callable[[], None]) -> None:
        """Take a step; it is taken again if it is not answered."""
        self._step = step
        self._retries = RETRIES
        step()

    def _ask(
        self, command: Command | None, message: Message | None, then: Callable[[Any, Any], None]
    ) -> None:
        """Put a question to our store, to the sibling, or to both; `then` gets what they say."""
        inside = self._parent.inside
        self._close()
        self._own = None if command is not None else Merged(0)
        self._theirs = None if message is not None else MutationApplied(self.op, None)
        self._then = then
        inside.operations[self.op] = self
        self._timer = inside.timer(TIMEOUT_US << (RETRIES - self._retries), "tree_timeout", self.op)
        if command is not None:
            inside.submit(("tree_own", self.op), command)
        if message is not None:
            size = sum(len(key) + len(data) for key, data in message.rows) if type(message) is Repair else 0
            if not inside.send(self.job.peer, message, lane_for(size)):
                self._end(failure="")

    def _new_op(self) -> int:
        self._close()
        self.op = self._parent.inside.new_op()
        return self.op

    def _close(self) -> None:
        inside = self._parent.inside
        if inside.operations.pop(self.op, None) is not None:
            inside.world.cancel_timer(self._timer)

    def on_own(self, outcome: Outcome) -> None:
        """Our store's answer to the present question."""
        if isinstance(outcome, Failed):
            self._fail(outcome.why, f"own store: {outcome.why}: {outcome.detail}")
        elif self.op in self._parent.inside.operations:
            self._own = outcome
            self._go_on_if_both()

    def on_message(self, peer: PeerId, message: Any) -> None:
        """The sibling's answer to the present question, perhaps repeated."""
        kind = type(message)
        if peer != self.job.peer or self._theirs is not None:
            return
        if kind is Stale:
            self.on_timeout()  # the epochs that we lacked are adopted by now
        elif kind is OperationFailed:
            self._fail(message.why, f"the sibling: {message.why}: {message.detail}")
        elif kind in (TreeAnswer, RowsTold, MutationApplied):
            self._theirs = message
            self._go_on_if_both()

    def _fail(self, why: str, text: str) -> None:
        """End; but rows that were refused, for floors were raised since they were read, or are not the same
        everywhere in these leaves, are read again, and in two parts.
        """
        count = len(self._part_spans)
        first, end = self._part_spans[0] if count else (0, 0)
        if why != Why.FENCED or max(count, end - first) < 2:
            self._end(failure=text)
            return
        self._close()
        if count > 1:
            self._apart += (self._part_spans[: count // 2], self._part_spans[count // 2 :])
        else:
            middle = (first + end) // 2
            self._apart += (((first, middle),), ((middle, end),))
        self._next_spans()

    def _go_on_if_both(self) -> None:
        if self._own is not None and self._theirs is not None:
            self._close()
            self._then(self._own, self._theirs)

    def on_timeout(self) -> None:
        """Something was lost: take the step again, a few times."""
        if self._retries:
            self._retries -= 1
            self._step()
        else:
            self._end(failure="")

    def _pause(self, delay_us: int, then: Callable[[], None]) -> None:
        self._resume = then
        self._parent.inside.timer(max(1, delay_us), "tree_step", self._new_op())

    def on_pause_over(self) -> None:
        """Go on."""
        self._resume()

    def _end(self, failure: str | None = None) -> None:
        self._close()
        self.op = 0
        if self._up is not None:
            self._up.lane_ended(self, failure)
            return
        for lane in self.lanes:
            lane._close()
        self.lanes = []
        self._parent.ended(self, self._equal, failure)

    def lane_ended(self, lane: TreeRun, failure: str | None) -> None:
        """A lane found no more leaves, or failed, and the run with it."""
        self.lanes.remove(lane)
        if failure is not None:
            self._end(failure=failure)
        elif not self.lanes:
            self._descend()

    # --- hashes

    def _descend(self) -> None:
        """Ask for the next hashes: of all runs first, then deeper and deeper, and for rows in between."""
        if self._tops:
            self._take(self._tops, SPANS_AT_ONCE)
            self._go(self._ask_tops)
        elif self._spans and len(self._suspects) < SUSPECTS_AT_ONCE_MAX:
            narrow = _is_narrow(self._spans[-1])
            alike = next((n for n, s in enumerate(reversed(self._spans)) if _is_narrow(s) != narrow), None)
            count = NARROW_SPANS_AT_ONCE if narrow else SPANS_AT_ONCE
            self._take(self._spans, count if alike is None else min(count, alike))
            self._go(self._ask_parts)
        elif self._suspects:
            self._pause(SETTLE_US, self._open_lanes)
        elif self._differed and self._salt and self.job.done is not None:
            self._tops, self._differed, self._salt = self._differed[::-1], [], 0
            self._descend()
        else:
            self._end()

    def _take(self, spans: list[Span], count: int) -> None:
        self._batch = sorted(spans[-count:])
        del spans[-count:]

    def _ask_tops(self) -> None:
        self._ask_hashes(1, 0, self._compare_tops)

    def _ask_parts(self) -> None:
        parts = NARROW_PARTS if _is_narrow(self._batch[0]) else limits.TREE_FANOUT
        self._ask_hashes(parts, self._salt, self._compare_parts)

    def _ask_hashes(self, parts: int, salt: int, then: Callable[[Hashes, TreeAnswer], None]) -> None:
        table, spans = self.job.table, tuple(self._batch)
        op, epoch = self._new_op(), self._parent.metadata.state.epoch
        question = TreeAsk(op, epoch, table, parts, salt, pack_spans(spans))
        self._ask(TreeHashes(table, spans, parts, True), question, then)

    def _compare_tops(self, own: Hashes, theirs: TreeAnswer) -> None:
        hashes = unpack_hashes(theirs.hashes, 0)
        if len(hashes) != len(self._batch):
            self._end(failure=OTHER_PARTS)
            return
        differing = [span for span, a, b in zip(self._batch, own.hashes, hashes, strict=True) if a != b]
        if differing and not self._followed:
            self._followed = True
            now_us = self._parent.inside.world.monotonic_us()
            self._parent.following.follow_now(
                (self.job.peer,), lambda _: self._go(self._ask_tops), now_us + FOLLOW_US
            )
            return
        self._equal += [span for span in self._batch if span not in differing]
        self._spans += differing
        self._differed += differing
        self._descend()

    def _compare_parts(self, own: Hashes, theirs: TreeAnswer) -> None:
        salt, at = self._salt, 0
        mine, others = unpack_hashes(pack_hashes(own.hashes, salt), salt), unpack_hashes(theirs.hashes, salt)
        if len(mine) != len(others):
            self._end(failure=OTHER_PARTS)
            return
        parts = NARROW_PARTS if _is_narrow(self._batch[0]) else limits.TREE_FANOUT
        for span in self._batch:
            end = at + min(parts, span[1] - span[0])
            deeper, by_rows = split(span, mine[at:end], others[at:end], own.filled[at:end])
            self._spans += deeper
            self._suspects += by_rows
            at = end
        self._descend()

    # --- rows

    def _open_lanes(self) -> None:
        self._new_op()
        self._suspects.sort()
        count = min(LANES, len(self._suspects))
        self._per_lane = min(ROW_SPANS_AT_ONCE, -(-len(self._suspects) // count))
        self.lanes = [TreeRun(self._parent, self.job, self) for _ in range(count)]
        for lane in tuple(self.lanes):
            if lane in self.lanes:  # else an earlier one has ended them all
                lane._salt = self._salt
                lane._next_spans()

    def _next_spans(self) -> None:
        """Of a lane: the next spans that differ."""
        assert self._up is not None
        suspects, count = self._up._suspects, self._up._per_lane
        self._after = b""
        if self._apart:
            self._part_spans = self._apart.pop()
        elif suspects:
            self._part_spans = tuple(suspects[-count:])
            del suspects[-count:]
        else:
            self._end()
            return
        self._go(self._read_page)

    def _read_page(self) -> None:
        self._new_op()
        self._ask(ReadLeaves(self.job.table, self._part_spans, self._after, b"", True), None, self._ask_rows)

    def _ask_rows(self, own: Rows, _: MutationApplied) -> None:
        self._page = own
        until = own.rows[-1][0] if own.more else b""
        op, epoch, salt = self._new_op(), self._parent.metadata.state.epoch, self._salt
        spans, hashes = pack_spans(self._part_spans), row_hashes(own.rows, salt)
        question = RowsAsk(op, epoch, self.job.table, salt, spans, self._after, until, hashes)
        self._ask(None, question, self._compare_rows)

    def _compare_rows(self, _: Merged, theirs: RowsTold) -> None:
        rows, sent, until = self._page.rows, dict(theirs.rows), theirs.until
        lacking = dict.fromkeys(theirs.lacking)
        mine = {
            key: data
            for at, (key, data) in enumerate(rows)
            if key in sent or (at in lacking and (not until or key <= until))  # it looked no further
        }
        self._settled_us = min(self._page.settled_us, theirs.settled_us)
        self._to_merge, self._to_send = differences(mine, sent)
        cut = until or (rows[-1][0] if self._page.more else b"")
        self._resume = self._next_spans
        if cut:
            self._after = cut
            self._resume = self._next_page
        seen = max(len(rows), len(sent))
        self._parent.inside.count("tree_rows_compared", seen)
        if self._to_merge or self._to_send:
            self._go(self._repair)
        else:
            self._rest(seen)

    def _next_page(self) -> None:
        self._go(self._read_page)

    def _repair(self) -> None:
        table = self.job.table
        op, epoch = self._new_op(), self._parent.metadata.state.epoch
        merge = MergeRows(table, self._to_merge, self._settled_us) if self._to_merge else None
        repair = None
        if self._to_send:
            repair = Repair(op, epoch, table, self._settled_us, self._to_send)
        self._ask(merge, repair, self._repaired)

    def _repaired(self, own: Merged, theirs: MutationApplied) -> None:
        inside = self._parent.inside
        inside.count("tree_rows_merged", len(self._to_merge))
        inside.count("tree_rows_sent", len(self._to_send))
        self._rest(len(self._to_merge) + len(self._to_send))

    def _rest(self, rows: int) -> None:
        """Before the next page or leaves (`_resume`), a pause in proportion to what was done."""
        share_us = rows * limits.SECOND_US // ROWS_PER_SECOND_MAX
        lanes = len(self._up.lanes) if self._up is not None else 1
        self._pause(share_us * self._parent.runs * lanes, self._resume)


def _is_narrow(span: Span) -> bool:
    return span[1] - span[0] <= NARROW
