"""One comparison of one sibling's rows with ours, from the hash of a run of leaves down to rows.

The run is a sequence of steps. A step asks the sibling and our own store the same question under one
operation number, waits for both answers, and decides what comes next; a step that is not answered is taken
again, a few times:

    hashes of a span of leaves  -> the parts that differ: narrower spans, or leaves to be compared by rows
    a page of rows of a span    -> the rows that differ, merged: to whom lacks them
    repairs on both sides       -> the next page, after a pause that bounds the rate

A page may be cut on either side. Rows beyond the first cut are unknown on that side, and are left to the
next page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import (
    Command,
    Failed,
    Hashes,
    Merged,
    MergeRows,
    Outcome,
    Read,
    Rows,
    Slice,
    TreeHashes,
    Why,
)
from core.healing_messages import Repair, TreeAnswer, TreeAsk
from core.messages import Message, MutationApplied, OperationFailed, ReadSlice, SliceRead, Stale
from core.ports import PeerId, TimerId
from core.row import decode_header, decode_row, encode_header, encode_row, merge_headers, merge_rows
from lsm.keys import HEADER_SUFFIX, prefix_end, token_range_bounds
from node.views import lane_for
from ring.tokens import slice_end, slice_start

if TYPE_CHECKING:
    from node.anti_entropy import AntiEntropy, Job, Span

ROWS_PER_SECOND_MAX = 4_000
"""Rows looked at in the leaves that differ: a repair of millions takes minutes and is not felt."""

TIMEOUT_US = 300_000
"""After this a question is taken for lost and put again; each time the wait doubles."""

RETRIES = 4

FOLLOW_US = 5 * limits.SECOND_US
"""How long the sibling's log may take to be followed before a descent begins all the same."""

SETTLE_US = 500_000
"""Between finding leaves that differ and comparing their rows: what was in flight has arrived by then."""

LEAVES_AT_ONCE_MAX = 1_024
"""Differing leaves collected before their rows are compared."""

LANES = 16
"""So many leaves are compared by rows at a time: one after the other, each would wait for the network and a
sync.
"""

SPANS_AT_ONCE = 24
"""Spans of leaves whose hashes are asked for in one message."""

Row = tuple[bytes, bytes]
Differing = list[tuple["Span", bool]]
"""Spans of leaves, and whether each is to be compared by rows: leaves, and what is empty on one side."""


class TreeRun:
    """A job under way."""

    __slots__ = (
        "_batch",
        "_end_key",
        "_equal",
        "_first",
        "_followed",
        "_leaves",
        "_mostly",
        "_own",
        "_parent",
        "_resume",
        "_retries",
        "_settled_us",
        "_spans",
        "_step",
        "_suspects",
        "_theirs",
        "_then",
        "_timer",
        "_to_merge",
        "_to_send",
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
        self._step: Callable[[], None] = self._ask_hashes
        self._then: Callable[[Any, Any], None] = self._compare_hashes
        self._resume: Callable[[], None] = self._descend
        self._batch: list[Span] = []
        self._spans: list[Span] = list(reversed(job.spans))
        self._mostly: list[tuple[Span, Differing]] = []
        self._suspects: list[Span] = []
        self._first, self._end_key = b"", b""
        self._to_merge: tuple[Row, ...] = ()
        self._to_send: tuple[Row, ...] = ()
        self._followed = False
        self._equal: list[Span] = []
        self._settled_us = 0
        self._leaves: Span = (0, 0)

    def begin(self) -> None:
        """Compare the hashes of the whole."""
        self._parent.inside.count("tree_runs")
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
        elif kind in (TreeAnswer, SliceRead, MutationApplied):
            self._theirs = message
            self._go_on_if_both()

    def _fail(self, why: str, text: str) -> None:
        """End; but rows of leaves that have floors of their own, and were refused together as too old for the
        newest of these, are compared once more apart.
        """
        first, end = self._leaves
        if why == Why.FENCED and self._up is not None and end - first > 1:
            self._close()
            self._up._suspects += [(first, (first + end) // 2), ((first + end) // 2, end)]
            self._next_leaves()
        else:
            self._end(failure=text)

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

    def _ask_hashes(self) -> None:
        first, end = self._batch[0]
        table, parts, also = self.job.table, _parts(self._batch[0]), tuple(self._batch[1:])
        op, epoch = self._new_op(), self._parent.metadata.state.epoch
        question = TreeAsk(op, epoch, table, first, end, parts, also)
        self._ask(TreeHashes(table, first, end, parts, True, also), question, self._compare_hashes)

    def _compare_hashes(self, own: Hashes, theirs: TreeAnswer) -> None:
        if len(own.hashes) != len(theirs.hashes):
            self._end(failure="the sibling answered for other parts than asked")
            return
        if own.hashes == theirs.hashes:
            self._equal += [span for span in self._batch if span in self.job.spans]
            self._descend()
        elif self._followed:
            at = 0
            for span in self._batch:
                parts = _parts(span)
                differing = parts_that_differ(
                    span, own.hashes[at : at + parts], theirs.hashes[at : at + parts]
                )
                at += parts
                if not differing and span in self.job.spans:
                    self._equal.append(span)
                if 2 * len(differing) >= parts > 1:
                    self._mostly.append((span, differing))
                else:
                    self._split(differing)
            self._probe_next()
        else:
            self._followed = True
            now_us = self._parent.inside.world.monotonic_us()
            self._parent.following.follow_now(
                (self.job.peer,), lambda _: self._go(self._ask_hashes), now_us + FOLLOW_US
            )

    def _probe_next(self) -> None:
        if self._mostly:
            self._go(self._probe)
        else:
            self._descend()

    def _probe(self) -> None:
        """Most parts differ: if we hold no more than a page there, rows are sooner compared than hashes."""
        self._new_op()
        self._ask(Read(self._slice(*self._keys_of(self._mostly[-1][0])), False, True), None, self._probed)

    def _probed(self, own: Rows, _: MutationApplied) -> None:
        span, differing = self._mostly.pop()
        if own.more:
            self._split(differing)
        else:
            self._suspects.append(span)
        self._probe_next()

    def _split(self, differing: Differing) -> None:
        """Note the parts that differ, to be descended into or to be compared by rows."""
        for span, by_rows in differing:
            if not by_rows:
                self._spans.append(span)
            elif self._suspects and self._suspects[-1][1] == span[0]:
                self._suspects[-1] = (self._suspects[-1][0], span[1])
            else:
                self._suspects.append(span)

    def _descend(self) -> None:
        if self._spans and len(self._suspects) < LEAVES_AT_ONCE_MAX:
            self._batch = self._spans[-SPANS_AT_ONCE:]
            del self._spans[-SPANS_AT_ONCE:]
            self._go(self._ask_hashes)
        elif self._suspects:
            self._pause(SETTLE_US, self._open_lanes)
        else:
            self._end()

    # --- rows

    def _open_lanes(self) -> None:
        self._new_op()
        count = min(LANES, len(self._suspects))
        self.lanes = [TreeRun(self._parent, self.job, self) for _ in range(count)]
        for lane in tuple(self.lanes):
            if lane in self.lanes:  # else an earlier one has ended them all
                lane._next_leaves()

    def _next_leaves(self) -> None:
        """Of a lane: the next leaves that differ."""
        assert self._up is not None
        if not self._up._suspects:
            self._end()
            return
        self._leaves = self._up._suspects.pop()
        self._first, self._end_key = self._keys_of(self._leaves)
        self._go(self._ask_page)

    def _keys_of(self, span: Span) -> tuple[bytes, bytes]:
        return token_range_bounds(self.job.table, slice_start(span[0]), slice_end(span[1] - 1))

    def _slice(self, first: bytes, end: bytes) -> Slice:
        return Slice(self.job.table, first, end, b"", False, limits.SLICE_ROWS_MAX, limits.SLICE_BYTES_MAX)

    def _ask_page(self) -> None:
        page = self._slice(self._first, self._end_key)
        op, epoch = self._new_op(), self._parent.metadata.state.epoch
        self._ask(Read(page, False, True), ReadSlice(op, epoch, page, False), self._compare_page)

    def _compare_page(self, own: Rows, theirs: SliceRead) -> None:
        cuts = [side.rows[-1][0] for side in (own, theirs) if side.more and side.rows]
        last = min(cuts) if cuts else None
        self._settled_us = min(own.settled_us, theirs.settled_us)
        self._to_merge, self._to_send = differences(_until(own.rows, last), _until(theirs.rows, last))
        seen = max(len(own.rows), len(theirs.rows))
        self._resume = self._next_leaves
        if last is not None:
            self._first = last + b"\0"
            self._resume = self._next_page
        self._parent.inside.count("tree_rows_compared", seen)
        if self._to_merge or self._to_send:
            self._go(self._repair)
        else:
            self._rest(seen)

    def _next_page(self) -> None:
        self._go(self._ask_page)

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


def _until(rows: tuple[Row, ...], last: bytes | None) -> dict[bytes, bytes]:
    return {key: data for key, data in rows if last is None or key <= last}


def differences(
    mine: Mapping[bytes, bytes], theirs: Mapping[bytes, bytes]
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """What I lack of theirs and what they lack of mine: (key, bytes) in key order, rows merged where both
    have one.
    """
    to_me: list[Row] = []
    to_them: list[Row] = []
    for key in sorted({**mine, **theirs}):
        a, b = mine.get(key), theirs.get(key)
        if a == b:
            continue
        if a is not None and b is not None:
            merged = merged_bytes(key, a, b)
        else:
            merged = mine[key] if b is None else b
        if merged != a:
            to_me.append((key, merged))
        if merged != b:
            to_them.append((key, merged))
    return tuple(to_me), tuple(to_them)


def merged_bytes(key: bytes, a: bytes, b: bytes) -> bytes:
    """The merge of two rows, or of two partition headers, of one key."""
    if key[prefix_end(key) :] == HEADER_SUFFIX:
        return encode_header(merge_headers(decode_header(a), decode_header(b)))
    return encode_row(merge_rows(decode_row(a), decode_row(b)))


def _parts(span: Span) -> int:
    return min(limits.TREE_FANOUT, span[1] - span[0])


def parts_that_differ(span: Span, own: tuple[int, ...], theirs: tuple[int, ...]) -> Differing:
    """The parts of a span of leaves whose hashes are not equal."""
    first, end = span
    bounds = [first + (end - first) * i // len(own) for i in range(len(own) + 1)]
    found: Differing = []
    for i, (a, b) in enumerate(zip(own, theirs, strict=True)):
        if a != b:
            part = (bounds[i], bounds[i + 1])
            found.append((part, not a or not b or part[1] - part[0] == 1))
    return found
