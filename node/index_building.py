"""Building indexes online: each replica writes the entries of what it held before the index was known to it.

From the moment a peer adopts the epoch with the index, every write brings its entries along (lsm/writing.py).
What was there before is walked through in slices of at most 200 rows, one under way at a time, each followed
by a pause as long as it took, so that building takes half of what is idle at most. How far it got is kept
beside the entries, in their batch: a peer that starts again goes on from there.

An index is ready at a replica when the walk is done there; a read by it is served by one replica per range,
so that is all a read needs. A replica that is not ready lets a read wait for a moment, then says how far it
is; the coordinator asks another, and if none is ready the client is told so (node/finds.py).

An index of which a record is damaged is built anew from the rows; meanwhile other replicas serve it.

What is kept of indexes that are no longer in the schema is removed, at the start too: a record that outlived
its epoch, which a full disk can bring about, must not pass for an index that is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from core import limits
from core.commands import Done, Failed, IndexBuild, IndexBuilt, IndexDrop, Outcome, Why
from core.schema import Index, Table
from lsm.keys import TOKEN_MAX, TOKEN_MIN, token_of
from node.inside import Inside
from node.metadata import Metadata

PREFIX = b"index/"

WAIT_US = limits.SECOND_US // 2
"""How long a read waits for an index that is being built: less than who asked waits (find_pieces.py)."""

PAUSE_US = 1_000
RETRY_US = 1 * limits.SECOND_US
"""After a slice that could not be written."""

Then = Callable[[str], None]


def record_key(table: int, index: int) -> bytes:
    """Where it is kept how far an index is built."""
    return PREFIX + table.to_bytes(4, "big") + index.to_bytes(4, "big")


class IndexBuilding:
    """Builds what is new, removes what is gone."""

    def __init__(self, inside: Inside, metadata: Metadata, boot: Mapping[bytes, bytes]) -> None:
        """`boot` holds the system records as of the start; those at `index/` are read."""
        self._inside = inside
        self._metadata = metadata
        self._built: dict[int, IndexBuilt] = {}
        self._places: dict[int, int] = {}
        self._gone: dict[tuple[int, int], bool] = {}
        self._epoch = -1
        self._busy = False
        self._failing = False
        self._began_us = 0
        self._waiting: dict[int, tuple[int, Then]] = {}
        self._next_waiter = 0
        for key, value in boot.items():
            if key.startswith(PREFIX):
                table, index = (int.from_bytes(part, "big") for part in (key[6:10], key[10:14]))
                self._built[index] = msgspec.msgpack.decode(value, type=IndexBuilt)
                self._places[index] = table
        inside.on_timer("index_step", self._step)
        inside.on_timer("index_wait", self._on_wait)
        inside.on_stored("index_built", self._on_built)
        inside.on_stored("index_dropped", self._on_dropped)
        metadata.on_adopted(self._on_adopted)

    def start(self) -> None:
        """Begin with what the start found."""
        self._on_adopted()

    # --- what others ask

    def is_built(self, index: int) -> bool:
        """Whether this peer has an entry for every row it holds."""
        built = self._built.get(index)
        return built is not None and built.done

    def progress(self, index: int) -> float:
        """The share of this peer's rows that have their entries, by tokens: 0 to 1."""
        built = self._built.get(index)
        if built is None or built.done:
            return 0.0 if built is None else 1.0
        return (token_of(built.after) - TOKEN_MIN) / 2**64 if built.after else 0.0

    def when_built(self, index: int, until_us: int, then: Then) -> None:
        """Call `then("")` when the index is built, or why not, in a moment, at `until_us` at the latest."""
        if self.is_built(index):
            then("")
            return
        self._next_waiter += 1
        self._waiting[self._next_waiter] = (index, then)
        delay_us = min(WAIT_US, max(1, until_us - self._inside.world.monotonic_us()))
        self._inside.timer(delay_us, "index_wait", self._next_waiter)

    def _on_wait(self, number: int) -> None:
        waiter = self._waiting.pop(number, None)
        if waiter is not None:
            index, then = waiter
            then(f"{self._inside.identity.name}: {100 * self.progress(index):.0f} % built")

    def rebuild(self, index: int) -> None:
        """Entries of this index cannot be read: remove all and write them anew from the rows."""
        table = self._places.get(index)
        if table is None or not self.is_built(index):
            return
        self._inside.log("warning", "index_rebuilt", f"index {index} is damaged here and is built anew")
        del self._built[index]
        self._gone[table, index] = False
        self._step()

    def status(self) -> list[dict[str, Any]]:
        """How far each index is built at this peer, JSON-able."""
        return [
            {
                "index": f"{table.keyspace}.{index.name}",
                "table": f"{table.keyspace}.{table.name}",
                "built": self.is_built(index.id),
                "progress": round(self.progress(index.id), 4),
                "rows": self._built[index.id].rows if index.id in self._built else 0,
            }
            for table, index in self._indexes()
        ]

    # --- the work

    def _indexes(self) -> list[tuple[Table, Index]]:
        tables = self._metadata.state.tables
        return [(tables[number], index) for number in sorted(tables) for index in tables[number].indexes]

    def _on_adopted(self) -> None:
        state = self._metadata.state
        if state.epoch == self._epoch:
            return
        self._epoch = state.epoch
        there = {index.id: table.id for table, index in self._indexes()}
        for index, table in list(self._places.items()):
            if index not in there:
                self._gone[table, index] = False
                del self._places[index]
                self._built.pop(index, None)
                for number, (waited_for, then) in list(self._waiting.items()):
                    if waited_for == index:
                        del self._waiting[number]
                        then("the index was dropped")
        self._places.update(there)
        self._step()

    def _step(self) -> None:
        """The next slice, if none is under way."""
        if self._busy:
            return
        for (table, index), asked in self._gone.items():
            if not asked:
                self._gone[table, index] = self._busy = True
                drop = IndexDrop(table, index, record_key(table, index))
                self._inside.submit(("index_dropped", table, index), drop)
                return
        for table_, index_ in self._indexes():
            if not self.is_built(index_.id):
                self._busy = True
                self._began_us = self._inside.world.monotonic_us()
                so_far = self._built.get(index_.id) or IndexBuilt(b"", 0, False)
                command = IndexBuild(
                    table_.id,
                    index_.id,
                    so_far.after,
                    so_far.rows,
                    limits.SLICE_ROWS_MAX,
                    limits.SLICE_BYTES_MAX,
                    record_key(table_.id, index_.id),
                )
                self._inside.submit(("index_built", index_.id), command)
                return

    def _on_built(self, outcome: Outcome, index: int) -> None:
        self._busy = False
        took_us = self._inside.world.monotonic_us() - self._began_us
        if not isinstance(outcome, IndexBuilt):
            if not self._failing:
                self._inside.log("warning", "index_not_built", f"index {index} waits: {outcome}")
                self._have_mended(outcome, index)
            self._failing = True
            self._inside.timer(RETRY_US, "index_step")
            return
        self._failing = False
        if index in self._places:
            before = self._built.get(index)
            self._inside.count("index_rows_built", outcome.rows - (before.rows if before else 0))
            self._built[index] = outcome
            if outcome.done:
                self._tell(index)
        elif (table_of := self._gone_table(index)) is not None:
            self._gone[table_of, index] = False
        self._inside.timer(max(PAUSE_US, took_us), "index_step")

    def _have_mended(self, outcome: Outcome, index: int) -> None:
        """Rows that cannot be read are compared with the siblings'; then the build gets by."""
        table, built = self._places.get(index), self._built.get(index)
        damaged = isinstance(outcome, Failed) and outcome.why is Why.CORRUPT
        if damaged and table is not None and self._inside.on_damage is not None:
            first = token_of(built.after) if built is not None and built.after else TOKEN_MIN
            self._inside.on_damage(table, first, TOKEN_MAX)

    def _gone_table(self, index: int) -> int | None:
        """The table of an index that went while a slice of it was under way."""
        return next((table for table, gone in self._gone if gone == index), None)

    def _tell(self, index: int) -> None:
        for number, (waited_for, then) in list(self._waiting.items()):
            if waited_for == index:
                del self._waiting[number]
                then("")

    def _on_dropped(self, outcome: Outcome, table: int, index: int) -> None:
        self._busy = False
        if isinstance(outcome, Done):
            self._gone.pop((table, index), None)
            self._step()
        else:
            self._gone[table, index] = False
            self._inside.timer(RETRY_US, "index_step")
