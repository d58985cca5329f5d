"""Writes to tables with unique indexes: whatever door they come through, they are decided here.

A plain write would be there before anybody could say no, so each becomes a conditional update: read the
document, apply the write to it in thought, see which values of unique indexes are new to it, claim those
(node/unique_claims.py has the rules, and why they hold), and write if the document's fence is what it was.
What brings no new value needs no claim and costs what a conditional update costs. A value that a write takes
away is released afterwards, in the background.

What is *not* decided here never gets there: plain writes, batches and timestamps of clients are refused for
such a table. Writes that were planned before the index was known are stopped where they are sent
(node/writes.py, node/paxos_phases.py), or have ended before the index is built (node/unique_building.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from core import limits
from core.consistency import Level
from core.requests import (
    Answer,
    BatchRequest,
    Broken,
    ConditionalRequest,
    Invalid,
    Judged,
    PartRead,
    Request,
    RowsRead,
    Timeout,
    WriteRequest,
    Written,
)
from core.row import EMPTY_HEADER, Row, covered, merge_rows, newest_version, normal
from index.entries import Indexed, Term
from index.uniqueness import NoValueError, TooManyValuesError, UniqueIndex, unique_indexes
from lsm.keys import ROW_SUFFIX
from node.mutation_building import build
from node.unique_claims import (
    AGAIN,
    DECIDED,
    DONE,
    FENCE_SUFFIX,
    RETRY_PAUSE_US,
    Claim,
    Taken,
    fence_of,
    fence_write,
    raised,
    release,
    row_of,
)
from node.writes import no_such_table

if TYPE_CHECKING:
    from core.schema import Table
    from node.inside import Inside
    from node.metadata import Metadata
    from node.paxos import Paxos

Reply = Callable[[Answer], None]
Value = tuple[int, Term]
"""(index id, term): what no two documents may hold."""
CHANGED = "unique_changed"
STEPS = 3
"""Decisions of a write that brings one new value: each may take as long as a write may."""


class _Unclaimed(Invalid, frozen=True):
    """These values are new to the document, whose fence is this: claim them first."""

    values: tuple[Value, ...] = ()
    fence: int = 0


class Uniques:
    """The coordinator's side of unique indexes."""

    def __init__(self, inside: Inside, metadata: Metadata, paxos: Paxos, indexed: Indexed) -> None:
        """`indexed` gives the types of a table's columns."""
        self.inside = inside
        self.metadata = metadata
        self._paxos = paxos
        self.indexed = indexed
        self._state: object = None
        self._guarded: dict[int, bool] = {}
        self._ready: dict[int, tuple[Table, tuple[UniqueIndex, ...]]] = {}
        self._waiting: dict[int, Callable[[], None]] = {}
        self._next_waiter = 0
        inside.on_timer("unique", self._on_timer)

    # --- which writes

    def concern(self, request: Request) -> bool:
        """Whether this is a write to a table with unique indexes, or of their reservations."""
        state = self.metadata.state
        if state is not self._state:
            self._state = state
            self._guarded = {
                number: True for number, table in state.tables.items() if table.reserves or table.uniques
            }
        if not self._guarded:
            return False
        if isinstance(request, WriteRequest | ConditionalRequest):
            return request.table in self._guarded
        return isinstance(request, BatchRequest) and any(one.table in self._guarded for one in request.writes)

    def begin(self, request: Request, deadline_us: int, reply: Reply) -> None:
        """Decide a write that they concern; `reply` is called exactly once."""
        refusal = self._refusal(request)
        if refusal is not None:
            reply(refusal)
            return
        assert isinstance(request, WriteRequest | ConditionalRequest), request
        begun_us = self.inside.world.monotonic_us()
        timeout_us = min(deadline_us - begun_us, self.inside.settings.write_timeout_us)
        until_us = begun_us + STEPS * timeout_us
        asked = _decided(request) if isinstance(request, WriteRequest) else request
        is_plain = isinstance(request, WriteRequest)

        def told(answer: Answer) -> None:
            if is_plain and isinstance(answer, Judged):
                assert answer.version is not None, "what has no condition is applied"
                answer = Written(answer.version)
            reply(answer)

        UniqueWrite(self, asked, until_us, told).attempt()

    def _refusal(self, request: Request) -> Invalid | None:
        if isinstance(request, BatchRequest):
            text = "a batch cannot write to a table with a unique index: send its statements one by one"
            return Invalid("unique_index", text)
        assert isinstance(request, WriteRequest | ConditionalRequest), request
        table = self.metadata.state.tables[request.table]
        if table.reserves:
            text = f"{table.keyspace}.{table.name} is kept by a unique index: write the documents instead"
            return Invalid("unique_index", text)
        if isinstance(request, WriteRequest) and self._is_dated(request):
            text = "a table with a unique index stamps writes when they are decided: leave the timestamp out"
            return Invalid("unique_index", text)
        return None

    def _is_dated(self, request: WriteRequest) -> bool:
        """Whether it has a timestamp that says more than "now", as drivers say of every write."""
        ago_us = self.inside.clock.now_us() - request.timestamp_us
        return bool(request.timestamp_us) and abs(ago_us) > limits.FUTURE_TIMESTAMP_US_MAX

    def of(self, table: Table) -> tuple[UniqueIndex, ...]:
        """The unique indexes of a table, ready to give values."""
        known = self._ready.get(table.id)
        if known is None or known[0] is not table:
            made = unique_indexes(table, self.indexed.types(table))
            known = self._ready[table.id] = (table, made)
        return known[1]

    # --- what claims and writes need

    def decide(self, request: ConditionalRequest, deadline_us: int, reply: Reply) -> None:
        """A conditional update of a document or a reservation, as it is."""
        self._paxos.begin(request, deadline_us, reply)

    def on_document(
        self, table: int, key: bytes, decide: Callable[[tuple[RowsRead, ...]], WriteRequest | Invalid | None]
    ) -> ConditionalRequest:
        """A conditional update of a document's partition that reads its row and its fence."""
        known = self.metadata.state.tables.get(table)
        return ConditionalRequest(
            table,
            key,
            (PartRead(ROW_SUFFIX), PartRead(FENCE_SUFFIX)),
            decide,
            DECIDED,
            uniques=() if known is None else known.uniques,
        )

    def later(self, delay_us: int, then: Callable[[], None]) -> None:
        """Have something done after a while."""
        self._next_waiter += 1
        self._waiting[self._next_waiter] = then
        self.inside.timer(max(1, delay_us), "unique", self._next_waiter)

    def _on_timer(self, number: int) -> None:
        self._waiting.pop(number)()


def _decided(request: WriteRequest) -> ConditionalRequest:
    """A plain write as a conditional one that is always applied."""
    size = sum(len(cell.value or b"") for row in request.rows for cell in row.writes)
    return ConditionalRequest(
        request.table,
        request.partition,
        (PartRead(ROW_SUFFIX),),
        lambda _: request,
        Level.ONE if request.level is Level.ANY else request.level,
        bytes_held=size,
        trace=request.trace,
        now_us=request.now_us,
    )


class UniqueWrite:
    """One write: judged, its new values claimed, and judged again."""

    def __init__(self, parent: Uniques, asked: ConditionalRequest, deadline_us: int, reply: Reply) -> None:
        self._parent = parent
        self._asked = asked
        self._deadline_us = deadline_us
        self._reply = reply
        self._indexes: dict[int, UniqueIndex] = {}
        self._fence = 0
        self._claimed: dict[Value, bool] = {}
        self._wanted: list[Value] = []
        self._tries = 0

    def attempt(self) -> None:
        """Judge it; write it if nothing is to be claimed any more."""
        parent, asked = self._parent, self._asked
        table = parent.metadata.state.tables.get(asked.table)
        if table is None:
            self._reply(no_such_table())
            return
        self._indexes = {index.id: index for index in parent.of(table)}
        request = msgspec.structs.replace(
            asked,
            reads=(*asked.reads, PartRead(ROW_SUFFIX), PartRead(FENCE_SUFFIX)),
            decide=self._decide,
            serial_level=Level.SERIAL,
            uniques=table.uniques,
        )
        parent.decide(request, self._deadline_us, self._on_judged)

    # --- judging

    def _decide(self, reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        return self._judge(reads)[0]

    def _judge(
        self, reads: tuple[RowsRead, ...]
    ) -> tuple[WriteRequest | Invalid | None, tuple[Value, ...], int]:
        """What to do, by what was read; the values that the write takes away, and the fence it leaves."""
        row, fence = row_of(reads[-2]), fence_of(reads[-1])
        now_us = max(reads[-2].now_us, fence)
        decision = self._asked.decide(
            tuple(msgspec.structs.replace(part, now_us=max(part.now_us, fence)) for part in reads[:-2])
        )
        if not isinstance(decision, WriteRequest):
            return decision, (), fence
        key = self._asked.partition
        try:
            before = self._values(key, row, now_us)
            after = self._values(key, written(row, decision, now_us), now_us, strict=True)
        except NoValueError as error:
            return self._no_value(error.index), (), fence
        except TooManyValuesError as error:
            return _too_many(error.count), (), fence
        new = tuple(value for value in after if value not in before)
        gone = tuple(value for value in before if value not in after)
        if len(after) > limits.UNIQUE_VALUES_MAX:
            return _too_many(len(after)), (), fence
        if new and (fence != self._fence or any(value not in self._claimed for value in new)):
            return _Unclaimed("unclaimed", "", (), new, fence), (), fence
        if not gone:
            return decision, (), fence
        fence = raised(fence, now_us)
        return msgspec.structs.replace(decision, rows=(*decision.rows, fence_write(fence))), gone, fence

    def _values(self, key: bytes, row: Row, now_us: int, *, strict: bool = False) -> dict[Value, bool]:
        return {
            (index.id, term): True
            for index in self._indexes.values()
            for term in index.values(key, row, now_us, strict=strict)
        }

    def _no_value(self, index: str) -> Invalid:
        text = f"the unique index {index} takes texts, numbers and booleans, as objects are not told apart"
        return Invalid("bad_unique_value", text, (("index", index),))

    def _on_judged(self, answer: Answer) -> None:
        if isinstance(answer, _Unclaimed):
            self._claim(answer)
        elif isinstance(answer, Invalid) and answer.code == CHANGED:
            self._again()
        elif isinstance(answer, Judged):
            if answer.applied:
                _, gone, fence = self._judge(answer.reads)
                self._release(gone, fence)
            self._reply(msgspec.structs.replace(answer, reads=answer.reads[:-2]))
        else:
            self._reply(answer)

    # --- claiming

    def _claim(self, unclaimed: _Unclaimed) -> None:
        """Values of one write are claimed in one order by all, so that no two wait for each other."""
        if unclaimed.fence != self._fence:
            self._claimed.clear()
        self._fence = unclaimed.fence
        self._wanted = [value for value in unclaimed.values if value not in self._claimed]
        self._wanted.sort(reverse=True)
        self._claim_next()

    def _claim_next(self) -> None:
        if not self._wanted:
            self.attempt()
            return
        index, term = self._wanted[-1]
        claim = Claim(
            self._parent,
            (self._asked.table, self._indexes[index], term),
            (self._asked.partition, self._fence),
            self._deadline_us,
            self._on_claimed,
        )
        claim.start()

    def _on_claimed(self, ended: str | Answer) -> None:
        if ended is DONE:
            self._claimed[self._wanted.pop()] = True
            self._claim_next()
        elif ended is AGAIN or (isinstance(ended, Invalid) and ended.code == CHANGED):
            self._again()
        else:
            assert not isinstance(ended, str)
            self._reply(self._refused(ended))

    def _again(self) -> None:
        """From the beginning, after a random pause that grows."""
        parent = self._parent
        self._claimed.clear()
        self._tries += 1
        parent.inside.count("unique_writes_again")
        parent.later(1 + parent.inside.world.below(RETRY_PAUSE_US << min(self._tries, 7)), self.attempt)

    def _refused(self, answer: Answer) -> Answer:
        """What to tell if a claim came to nothing: nothing of the write itself was done."""
        if isinstance(answer, Taken):
            index = self._indexes[self._wanted[-1][0]].name
            holder = answer.holder.decode()
            text = f"the document {holder!r} has a value that the unique index {index} lets only one have"
            return Invalid("unique_violation", text, (("index", index), ("holder", holder)))
        if isinstance(answer, Timeout):
            return msgspec.structs.replace(answer, write=False, write_type="CAS")
        if isinstance(answer, Broken):
            return msgspec.structs.replace(answer, write=True, unknown=False)
        return answer

    def _release(self, gone: tuple[Value, ...], fence: int) -> None:
        """In the background: what is not released is taken over."""
        parent = self._parent
        timeout_us = parent.inside.settings.write_timeout_us
        for index, term in gone:
            request = release(self._indexes[index], term, self._asked.partition, fence)
            parent.decide(
                request, parent.inside.world.monotonic_us() + timeout_us, partial(_released, parent)
            )


def _too_many(count: int) -> Invalid:
    most = limits.UNIQUE_VALUES_MAX
    text = f"a document has at most {most} values in unique indexes, and this one has {count}"
    return Invalid("too_many_unique_values", text)


def _released(parent: Uniques, answer: Answer) -> None:
    parent.inside.count("unique_releases" if isinstance(answer, Judged) else "unique_releases_failed")


def written(row: Row, write: WriteRequest, now_us: int) -> Row:
    """What the row would be after the write."""
    newest = newest_version(row)
    mutation = build(write, 0, (0, 0), (max(newest[0], now_us) + 2, 0), now_us)
    for suffix, change in mutation.rows:
        if suffix == ROW_SUFFIX:
            row = merge_rows(row, change)
    version = covered(mutation.header or EMPTY_HEADER, ROW_SUFFIX)
    return normal(row.deletion, row.cells, version)
