"""What a peer does that is given ranges: it merges all that enough of the old replicas hold of them.

    wait      until so many old replicas have adopted the epoch that what they hold *now* is all that was ever
              acknowledged without us, and choose of them, for each range and in each datacentre, a quorum or
              all there are, if every quorum has one of those
    of each   its Paxos state, page by page
              its rows: hashes are compared, and where they differ the source's rows are read and merged
              its log from the oldest entry: mutations that we never held, under their own ids
    verify    rows once more: leaves that differ by now are what was written meanwhile, and are merged again

Rows go before the log, so that a mutation of the log that is old news here is logged with the row as it is.

The steps are a generator: it yields what it wants to know (`Own` of our store, `Ask` of a peer, `Pause`) and
is given the answer; whatever fails ends it, and it begins again after a while. It needs to remember nothing
to go on where it was: hashes of what is here already are equal, ids that are held are not missing. As long as
this process lives it remembers all the same which tables of a source are merged, and how far its log: where
one question in a hundred is never answered, hundreds of questions in a row would never come to their end.

Tables that are dropped or emptied meanwhile are passed over. Those that are made meanwhile need no merging:
whoever writes to them knows of the move, and writes to all replicas, old and new.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import msgspec

from core import limits
from core.commands import (
    Applied,
    Apply,
    Command,
    Done,
    Failed,
    Hashes,
    LogMissing,
    Merged,
    MergeRows,
    Missing,
    Slice,
    TreeHashes,
    Why,
)
from core.consistency import quorum
from core.healing import PaxosMerge
from core.healing_messages import PaxosStateAsk, PaxosStateTold, TreeAnswer, TreeAsk
from core.messages import Fetch, Fetched, Followed, Message, ReadSlice, SliceRead
from core.moving import TakeFloors
from core.moving_messages import FloorsAsk, FloorsTold, TailAsk
from core.mutation import decode_mutation
from core.ports import PeerId
from lsm.floors import decode_ranges, encode_ranges
from lsm.keys import token_of, token_range_bounds
from node.comparing import pack_spans, unpack_hashes
from node.metadata_state import State, TablePlacement
from node.moving_ring import Replicas, Sides, TokenPair
from ring.tokens import slice_end, slice_of, slice_start

CHOOSE_US = 1_000_000
"""So long those who are up are waited for before enough of them are taken for the sources."""

COPIED_LEAVES_MAX = 256
"""So many leaves (a thousandth of all) are read as a whole where anything in them differs."""

SPANS_AT_ONCE = 24
"""Runs of leaves whose hashes are asked for in one message: with hundreds of tables, and with replies that
take long, it is the number of questions that a move takes its time for.
"""

PASSES_MAX = 3
"""So often the rows of a range are compared: what still differs then is written to all the time."""


class Own(msgspec.Struct, frozen=True):
    """Have our store do these, all at once; an outcome of another kind is a failure. Answered with a list."""

    commands: tuple[Command, ...]
    kind: type | tuple[type, ...]


def own(command: Command, kind: type | tuple[type, ...]) -> Steps:
    """Have our store do this."""
    outcomes: list[Any] = yield Own((command,), kind)
    return outcomes[0]


class Ask(msgspec.Struct, frozen=True):
    """Ask a peer: `make(op, epoch)` is the question, an answer of another kind is a failure."""

    peer: PeerId
    make: Callable[[int, int], Message]
    kind: type


class AskAll(msgspec.Struct, frozen=True):
    """Ask several peers until all, or enough after `patience_us`, have answered as `accepts` wants it;
    answered with what they said, by peer. It never fails.
    """

    peers: tuple[PeerId, ...]
    make: Callable[[int, int], Message]
    kind: type
    accepts: Callable[[Any], bool]
    enough: Callable[[Sequence[PeerId]], bool]
    patience_us: int


class Pause(msgspec.Struct, frozen=True):
    """Do nothing for a while."""

    delay_us: int


Want = Own | Ask | AskAll | Pause
Steps = Generator[Want, Any, Any]
Piece = tuple[int, TokenPair]
"""A table, and tokens of it (inclusive)."""


class StreamError(Exception):
    """Somebody did not answer, or not as asked."""


class Progress(msgspec.Struct):
    """What is visible of it."""

    bytes_done: int = 0
    ranges_done: int = 0
    ranges: int = 0
    differing: int = 0
    why: str = ""


class Places(Protocol):
    """What of a placement is asked here."""

    @property
    def factors(self) -> tuple[tuple[str, int], ...]:
        """Replicas per datacentre."""

    @property
    def lost(self) -> Replicas:
        """Members that were given up (node/recovery.py)."""

    def datacentre(self, peer: PeerId) -> str:
        """Where a member stands."""


def meets_quorums(peers: Sequence[PeerId], replicas: Replicas, placement: Places) -> bool:
    """Whether every quorum of these replicas has one of `peers`, in each datacentre (SimpleStrategy knows but
    one): of three two have to be, of two one, of four two. So nothing that a quorum acknowledged, accepted or
    promised is missed, and who takes the place of one of two replicas needs but the other.

    Where more were given up for lost, all that remain are needed.
    """
    left: dict[str, int] = {}
    simple = len(placement.factors) == 1 and placement.factors[0][0] == ""
    sizes: dict[str, int] = {}
    found: dict[str, int] = {}
    for replica in replicas:
        name = "" if simple else placement.datacentre(replica)
        sizes[name] = sizes.get(name, 0) + 1
        found[name] = found.get(name, 0) + (replica in peers)
        left[name] = left.get(name, 0) + (replica not in placement.lost)
    return all(found[name] >= min(size - quorum(size) + 1, left[name]) for name, size in sizes.items())


def must_merge(me: PeerId, sides: Sides, placement: Places) -> bool:
    """Whether this peer has to merge others' rows: newcomers; and where replicas become fewer, all that
    stay.
    """
    old, new = sides
    if me not in new or me in placement.lost:
        return False
    here = [[placement.datacentre(peer) for peer in side] for side in sides]
    fewer = any(here[1].count(name) < here[0].count(name) for name in dict.fromkeys(here[0]))
    return me not in old or fewer


def choose_sources(
    me: PeerId, sides: Sides, adopted: Sequence[PeerId], placement: TablePlacement
) -> Replicas | None:
    """A quorum of the old replicas to merge, those that leave first, or fewer if that is enough and no more
    have adopted the epoch; None if too few have.

    Our own rows count, if we are an old replica.
    """
    old, new = sides
    # Who is relieved comes first: what it holds is gone afterwards.
    there = [p for p in old if p != me and p in adopted and p not in placement.lost]
    order = sorted(there, key=lambda p: (p in new, old.index(p)))
    if me in old and me in adopted:
        order.insert(0, me)
    chosen: list[PeerId] = []
    for peer in order:
        where = placement.datacentre(peer)
        simple = len(placement.factors) == 1 and placement.factors[0][0] == ""
        near = [p for p in old if simple or placement.datacentre(p) == where]
        if sum(p in near for p in chosen) < quorum(len(near)):
            chosen.append(peer)
    if not meets_quorums(chosen, old, placement):
        return None
    return tuple(peer for peer in chosen if peer != me)


class Stream:
    """The steps of one peer for one move."""

    def __init__(self, current: Callable[[], State], me: PeerId, bytes_per_s: int) -> None:
        """`current` gives the state of now: that of the move's first epoch, or a later one under the same
        phase.
        """
        state = current()
        assert state.move is not None
        self._state = state
        self._current = current
        self._me = me
        self._move = state.move
        self._bytes_per_s = bytes_per_s
        self._merged: dict[tuple[PeerId, int, tuple[TokenPair, ...]], bool] = {}
        self._followed: dict[PeerId, tuple[dict[Piece, None], int]] = {}
        """Of a source's log: which pieces, up to which offset."""
        self.progress = Progress()

    def steps(self) -> Steps:
        """All of it; ends when everything is merged."""
        plan = yield from self._chosen(CHOOSE_US)
        self.progress.ranges = sum(len(pieces) for pieces in plan.values())
        self.progress.ranges_done = 0
        for source, pieces in plan.items():
            for table, pairs in _by_table(pieces).items():
                if (source, table, tuple(pairs)) not in self._merged:
                    yield from self._unless_gone((table,), self._table(source, table, pairs))
                    self._merged[source, table, tuple(pairs)] = True
                self.progress.ranges_done += len(pairs)
            while left := [piece for piece in pieces if not self._is_gone(piece[0])]:
                tables = tuple(dict.fromkeys(table for table, _ in left))
                if (yield from self._unless_gone(tables, self._tail(source, left))):
                    break

    def _table(self, source: PeerId, table: int, pairs: list[TokenPair]) -> Steps:
        """All but the log."""
        yield from self._paxos_of_all(source, table, pairs)
        for number in range(PASSES_MAX):
            if (yield from self._rows(source, table, pairs, number)) == 0:
                break

    def _is_gone(self, table: int) -> bool:
        return table not in self._current().tables

    def _unless_gone(self, tables: Sequence[int], steps: Steps) -> Steps:
        """Take steps; what fails because one of these tables is gone by now has not failed. Whether all were
        taken.
        """
        if any(self._is_gone(table) for table in tables):
            return False
        try:
            yield from steps
        except StreamError:
            if not any(self._is_gone(table) for table in tables):
                raise
            return False
        return True

    def floors(self) -> Steps:
        """The first of it: what a quorum of the old replicas promised is kept to from now on.

        Before, no write is taken here in these ranges: it might bring back what was deleted and purged.
        Writes wait for it (node/parking.py), so whoever answers first is taken.
        """
        yield from self._chosen(0)

    def _chosen(self, patience_us: int) -> Steps:
        """Per source what to merge of it, with the floors of all sources taken over.

        Whoever has adopted the move takes part in no round of before any more, and a round that has not ended
        needs all: so no floor can be above what such a one has promised.
        """
        wanted = self._wanted()
        peers = dict.fromkeys(peer for _, sides, _ in wanted for peer in sides[0] if peer != self._me)
        if not wanted:
            return {}
        self.progress.why = "the old replicas, a quorum of whom has to have adopted the plan"
        told: dict[PeerId, FloorsTold] = yield AskAll(
            tuple(peers),
            FloorsAsk,
            FloorsTold,
            lambda answer: answer.epoch >= self._move.id,
            lambda answered: self._planned(wanted, answered) is not None,
            patience_us,
        )
        self.progress.why = ""
        plan = self._planned(wanted, tuple(told))
        if plan is None:
            raise StreamError("a quorum of the old replicas, which has not adopted the plan yet")
        for source, pieces in plan.items():
            taken = tuple((table, floors_within(data, table, pieces)) for table, data in told[source].floors)
            if taken:
                yield from own(TakeFloors(taken), Done)
        return plan

    def _planned(
        self, wanted: list[tuple[Piece, Sides, TablePlacement]], answered: Sequence[PeerId]
    ) -> dict[PeerId, list[Piece]] | None:
        """Per source what to merge of it; None if too few have answered."""
        adopted = (self._me, *answered)
        plan: dict[PeerId, list[Piece]] = {}
        known: dict[tuple[Sides, Any], Replicas | None] = {}  # tables of one keyspace are placed alike
        for piece, sides, placement in wanted:
            key = sides, placement.factors
            if key not in known:
                known[key] = choose_sources(self._me, sides, adopted, placement)
            sources = known[key]
            if sources is None:
                return None
            for source in sources:
                plan.setdefault(source, []).append(piece)
        return {source: _joined(pieces) for source, pieces in plan.items()}

    def given(self) -> list[tuple[int, tuple[TokenPair, ...]]]:
        """What has to be here in the end: tables, each with its ranges."""
        pieces = [piece for piece, _, _ in self._wanted()]
        return [(table, tuple(pairs)) for table, pairs in _by_table(pieces).items()]

    def _wanted(self) -> list[tuple[Piece, Sides, TablePlacement]]:
        found = []
        for table in sorted(self._state.tables):
            placement = self._state.placement(table)
            if self._is_gone(table) or placement is None or placement.moving is None:
                continue
            for pair, sides in placement.moving.moving():
                if must_merge(self._me, sides, placement):
                    found.append(((table, pair), sides, placement))
        return found

    # --- Paxos

    def _paxos_of_all(self, source: PeerId, table: int, pairs: list[TokenPair]) -> Steps:
        """Of most tables all that a peer keeps of Paxos fits into one answer; else range by range."""
        first, last = pairs[0][0], pairs[-1][1]
        try:
            told: PaxosStateTold = yield Ask(
                source, lambda op, epoch: PaxosStateAsk(op, epoch, table, first, last, b""), PaxosStateTold
            )
        except StreamError:  # it may have lost something in between, where nothing is asked of it
            told = PaxosStateTold(0, (), b"?")
        if told.after:
            for pair in pairs:
                yield from self._paxos(source, (table, pair))
            return
        tokens = [(state, token_of(state.partition)) for state in told.states]
        mine = tuple(state for state, token in tokens if any(a <= token <= b for a, b in pairs))
        if mine:
            yield from own(PaxosMerge(table, mine), Done)

    def _paxos(self, source: PeerId, piece: Piece) -> Steps:
        table, (first, last) = piece
        after = b""
        while True:
            told: PaxosStateTold = yield Ask(
                source,
                lambda op, epoch, a=after: PaxosStateAsk(op, epoch, table, first, last, a),  # type: ignore[misc]
                PaxosStateTold,
            )
            if told.states:
                yield from own(PaxosMerge(table, told.states), Done)
                yield from self._rest(sum(len(s.proposal) + len(s.commit) + 64 for s in told.states))
            after = told.after
            if not after:
                return

    # --- rows

    def _rows(self, source: PeerId, table: int, pairs: list[TokenPair], number: int) -> Steps:
        """Merge what differs; returns how many runs of leaves did."""
        spans = [(slice_of(first), slice_of(last) + 1) for first, last in reversed(pairs)]
        differing = 0
        while spans:
            batch = spans[-SPANS_AT_ONCE:]
            del spans[-SPANS_AT_ONCE:]
            asked = tuple(sorted(batch))
            ours: Hashes = yield from own(TreeHashes(table, asked, limits.TREE_FANOUT), Hashes)
            theirs: TreeAnswer = yield Ask(
                source,
                lambda op, epoch, asked=asked: TreeAsk(  # type: ignore[misc]
                    op, epoch, table, limits.TREE_FANOUT, 0, pack_spans(asked)
                ),
                TreeAnswer,
            )
            others = unpack_hashes(theirs.hashes, 0)
            if len(ours.hashes) != len(others):
                raise StreamError("hashes of other parts than asked")
            at = 0
            for a, b in asked:
                parts = min(limits.TREE_FANOUT, b - a)
                bounds = [a + (b - a) * i // parts for i in range(parts + 1)]
                for i in range(parts):
                    mine, other = ours.hashes[at + i], others[at + i]
                    if other in (mine, 0):
                        continue  # equal, or nothing there that we could lack
                    span = bounds[i], bounds[i + 1]
                    if mine == 0 or span[1] - span[0] <= COPIED_LEAVES_MAX:
                        differing += 1
                        yield from self._copy(source, table, span)
                    else:
                        spans.append(span)
                at += parts
        self.progress.differing += differing if number == PASSES_MAX - 1 else 0
        return differing

    def _copy(self, source: PeerId, table: int, span: tuple[int, int]) -> Steps:
        """All rows of these leaves.

        Rows are refused that were read before a floor was raised. Leaves of several groups of replicas have
        floors of their own, and a page of all of them is as old as the oldest: then they are read apart.
        """
        first, end = token_range_bounds(table, slice_start(span[0]), slice_end(span[1] - 1))
        while True:
            part = Slice(table, first, end, b"", False, limits.SLICE_ROWS_MAX, limits.SLICE_BYTES_MAX)
            page: SliceRead = yield Ask(
                source,
                lambda op, epoch, part=part: ReadSlice(op, epoch, part, False),  # type: ignore[misc]
                SliceRead,
            )
            if page.rows:
                merge = MergeRows(table, page.rows, page.settled_us)
                merged: Merged | Failed = yield from own(merge, (Merged, Failed))
                if isinstance(merged, Failed):
                    if merged.why != Why.FENCED or span[1] - span[0] == 1:
                        raise StreamError(f"own store: {merged}")
                    middle = sum(span) // 2
                    yield from self._copy(source, table, (span[0], middle))
                    yield from self._copy(source, table, (middle, span[1]))
                    return
                yield from self._rest(sum(len(key) + len(data) for key, data in page.rows))
            if not page.more or not page.rows:
                return
            first = page.rows[-1][0] + b"\0"

    # --- the log

    def _tail(self, source: PeerId, pieces: list[Piece]) -> Steps:
        """Mutations of the source's log that we never held, in its order."""
        ranges = tuple((table, tuple(pairs)) for table, pairs in _by_table(pieces).items())
        known, offset = self._followed.get(source, ({}, 0))
        after = offset if all(piece in known for piece in pieces) else 0
        known = dict.fromkeys(pieces)
        end = None
        while True:
            page: Followed = yield Ask(
                source,
                lambda op, epoch, a=after: TailAsk(op, epoch, a, ranges),  # type: ignore[misc]
                Followed,
            )
            end = page.end if end is None else end
            if page.entries:
                ids = {(e.start, e.sequence, e.attempt): e.offset for e in page.entries}
                missing: Missing = yield from own(LogMissing(tuple(ids)), Missing)
                lacking = {ids[one]: None for one in missing.ids}
                while lacking:
                    yield from self._fetch(source, lacking)
            if page.next_after >= end or page.next_after == after:
                return
            after = page.next_after
            self._followed[source] = known, after

    def _fetch(self, source: PeerId, lacking: dict[int, None]) -> Steps:
        offsets = tuple(lacking)
        fetched: Fetched = yield Ask(source, lambda op, _: Fetch(op, offsets), Fetched)
        if not fetched.mutations:
            lacking.clear()  # trimmed since: their rows are here
        commands: list[Command] = []
        for offset, data in fetched.mutations:
            if offset in lacking:
                del lacking[offset]
                if not self._is_gone(decode_mutation(data).table):
                    commands.append(Apply(data, followed=True, moved=True))
        if commands:
            yield Own(tuple(commands), Applied)
        yield from self._rest(sum(len(data) for _, data in fetched.mutations))

    def _rest(self, size: int) -> Steps:
        """So much was sent: no more than the rate allows."""
        self.progress.bytes_done += size
        yield Pause(max(1, size * limits.SECOND_US // self._bytes_per_s))


def floors_within(data: bytes, table: int, pieces: Sequence[Piece]) -> bytes:
    """Of the floors of a table those of these pieces."""
    spans = [(slice_of(a), slice_of(b) + 1) for own, (a, b) in pieces if own == table]
    cut = tuple(
        msgspec.structs.replace(one, first=max(one.first, first), end=min(one.end, end))
        for one in decode_ranges(data)
        for first, end in spans
        if one.first < end and first < one.end
    )
    return encode_ranges(cut)


def _by_table(pieces: list[Piece]) -> dict[int, list[TokenPair]]:
    found: dict[int, list[TokenPair]] = {}
    for table, pair in pieces:
        found.setdefault(table, []).append(pair)
    return found


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Adjoining token ranges of one table as one."""
    found: list[Piece] = []
    for table, (first, last) in sorted(pieces):
        if found and found[-1][0] == table and found[-1][1][1] + 1 == first:
            found[-1] = (table, (found[-1][1][0], last))
        else:
            found.append((table, (first, last)))
    return found
