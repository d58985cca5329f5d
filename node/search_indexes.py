"""The inverted indexes of this peer: one per table that is searched, each following the peer's own log.

Every collection is searched, without asking for it (documents/collections.py); its settings may hold a
mapping. An index is named by its table and its mapping, so a changed mapping is another index: it is built
beside the old one, which serves until the new one does. Peers are not ready at one moment, and terms planned
by one mapping mean nothing to an index by another: so a question names the index that it was planned for,
planning changes a while after serving, and the old index is kept for a while longer. What is on the disk and
wanted by no table any more is removed at the start, too.

One read of the log at a time serves all indexes. It is read every FEED_US, and at once when somebody waits:
`when_fresh` notes how far the log is durable at that moment (the first read that begins after the call says
so) and waits until the index has come that far.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec
import orjson

from core import limits
from core.commands import ChangedRows, Failed, LogRows, Outcome, Why
from core.row import Row, decode_row
from core.schema import Table
from documents.collections import Collection, collection_of, settings_of
from documents.values import cells_of, text_of
from index.analysis.analyzers import VERSION
from index.asking import Segments
from index.changing import Change
from index.mapping import DEFAULT, Mapping, MappingFault, Rules, compile_mapping, parse_mapping
from lsm.keys import split_row_key
from node.inside import Inside
from node.metadata import Metadata
from node.search_index import CLOSED, FOLLOWING, OneIndex
from node.search_place import SearchPlace

FEED_US = limits.SECOND_US // 10
"""How often the log is looked at, as long as nobody waits."""

READ_ENTRIES = 250
READ_BYTES = 256 * limits.KIB
PENDING_BYTES_MAX = 16 * limits.MIB
"""No more is read while so much waits to be indexed, of all tables together."""

PLAN_US = 3 * limits.SECOND_US
"""How long after a table's new index serves here searches are still planned for the old one: until the other
replicas have built theirs, too.
"""

KEEP_US = 60 * limits.SECOND_US
"""How long the old one is kept for those that plan so."""

Then = Callable[[str], None]


class _Waiter:
    """Somebody who waits for the index of a table to come as far as the log is now."""

    __slots__ = ("fresh", "mapping", "now_us", "table", "target", "then")

    def __init__(self, table: int, mapping: str, fresh: bool, now_us: int, then: Then) -> None:
        self.mapping = mapping
        self.now_us = now_us
        self.table = table
        self.fresh = fresh
        self.then = then
        self.target: int | None = None


class SearchIndexes:
    """Implements node.search_ports.IndexHost."""

    def __init__(self, inside: Inside, metadata: Metadata, place: SearchPlace) -> None:
        """Register."""
        self._inside = inside
        self._metadata = metadata
        self._place = place
        self._by_name: dict[str, OneIndex] = {}
        self._current: dict[int, OneIndex] = {}
        self._next: dict[int, OneIndex] = {}
        self._planning: dict[int, OneIndex] = {}
        self._old: dict[str, OneIndex] = {}
        self._faults: dict[int, str] = {}
        self._waiting: dict[int, _Waiter] = {}
        self._works: dict[int, Callable[[Any], None]] = {}
        self._number = 0
        self._end = 0
        self._reading: tuple[int, ...] | None = None
        self._asked: dict[int, int] = {}
        self._epoch = -1
        self._fed = False
        self._timing = False
        self.durable_end: Callable[[], int | None] | None = None
        """The last offset of this peer's log that is durable; None where that is not known."""
        inside.on_timer("inverted_feed", self._on_feed)
        inside.on_timer("inverted_wait", self._on_wait)
        inside.on_timer("inverted_retry", self._on_retry)
        inside.on_timer("inverted_plan", self._on_plan)
        inside.on_timer("inverted_old", self._on_old)
        inside.on_stored("inverted_rows", self._on_rows)
        inside.on_stored("inverted_slice", self._on_slice)
        inside.on_stored("inverted_due", self._on_due)
        inside.on_done("inverted", self._on_done)
        inside.on_done("inverted_work", self._on_worked)
        inside.on_done("inverted_closed", self._on_closed)
        inside.on_done("inverted_swept", self._on_closed)
        metadata.on_adopted(self._on_adopted)

    def start(self) -> None:
        """Remove what no table wants, and open the others."""
        self._on_adopted()
        wanted = frozenset(self._by_name)
        place = self._place

        def sweep() -> None:
            for name in place.names():
                if name not in wanted:
                    place.remove(name)

        self._inside.run(("inverted_swept", ""), sweep)

    # --- which indexes there are

    def _collections(self) -> list[tuple[Table, Collection]]:
        state = self._metadata.state
        found = []
        for number in sorted(state.tables):
            table = state.tables[number]
            collection = collection_of(table, state.keyspaces.get(table.keyspace))
            if collection is not None and not table.has_clustering:
                found.append((table, collection))
        return found

    def _on_adopted(self) -> None:
        if self._metadata.state.epoch == self._epoch:
            return
        self._epoch = self._metadata.state.epoch
        there = self._collections()
        wanted = {table.id for table, _ in there}
        for number in [number for number in self._current if number not in wanted]:
            del self._current[number]
            self._next.pop(number, None)
            self._planning.pop(number, None)
            for index in self._by_name.values():
                if index.table == number and index.state != CLOSED:
                    self._old.pop(index.name, None)
                    self._drop(index)
        for table, collection in there:
            self._want(table, collection)
        self._tell()

    def _want(self, table: Table, collection: Collection) -> None:
        rules = rules_of(table)
        if isinstance(rules, MappingFault):
            self._faults[table.id] = f"its mapping cannot be used: {rules.path}: {rules.detail}"
            return
        self._faults.pop(table.id, None)
        name = name_of(table.id, rules.mapping)
        current, following = self._current.get(table.id), self._next.get(table.id)
        document_of = partial(change_of, collection)
        for index in self._by_name.values():
            if index.table == table.id:
                index.document_of = document_of
        if current is not None and current.name == name:
            if following is not None:
                self._drop(self._next.pop(table.id))
        elif following is None or following.name != name:
            if following is not None:
                self._drop(self._next.pop(table.id))
            if name in self._old:
                self._promote(self._old.pop(name))
                return
            if name in self._by_name:
                return  # it is being removed; its end asks again
            index = OneIndex(self._inside, self._place, self, name=name, table=table.id, rules=rules)
            index.document_of = document_of
            self._by_name[name] = index
            (self._current if current is None else self._next)[table.id] = index
            self._begin(index)

    def _begin(self, index: OneIndex) -> None:
        """Open it, once it is known how far the log goes."""
        if self._fed:
            index.open()
            return
        self.read_soon()
        if not self._timing:
            self._timing = True
            self._inside.timer(FEED_US, "inverted_feed")

    def _drop(self, index: OneIndex) -> None:
        index.close()

    def _on_closed(self, _result: Any, name: str) -> None:
        if self._by_name.pop(name, None) is not None:
            self._epoch = -1
            self._on_adopted()

    # --- Owner

    def log_end(self) -> int:
        """The last offset of the log that is known."""
        return self._end

    def on_opened(self, index: OneIndex) -> None:
        """The index can be searched; if it is a table's next, the old one goes."""
        if self._next.get(index.table) is index:
            self._promote(self._next.pop(index.table))
        self._planning.setdefault(index.table, index)
        self.read_soon()
        self._tell()

    def _promote(self, index: OneIndex) -> None:
        """This one serves now; the one before is kept for who has planned for it."""
        old, self._current[index.table] = self._current[index.table], index
        self._old[old.name] = old
        self._inside.timer(PLAN_US, "inverted_plan", index.table, index.name)
        self._inside.timer(KEEP_US, "inverted_old", old.name)

    def _on_plan(self, table: int, name: str) -> None:
        current = self._current.get(table)
        if current is not None and current.name == name:
            self._planning[table] = current

    def _on_old(self, name: str) -> None:
        old = self._old.pop(name, None)
        if old is not None:
            self._drop(old)

    def settle(self, index: OneIndex) -> None:
        """The index has come further."""
        self._tell()
        self.read_soon()

    def is_awaited(self, index: OneIndex) -> bool:
        """Whether a search waits for what has been read for this index; who waits for more than that gains
        nothing by what is there so far.
        """
        return any(
            waiter.fresh
            and waiter.target is not None
            and waiter.target <= index.read_to
            and self._named(waiter.table, waiter.mapping) is index
            for waiter in self._waiting.values()
        )

    def name_of(self, key: bytes) -> str:
        """The collection and the id."""
        number, _, partition, _ = split_row_key(key)
        table = self._metadata.state.tables.get(number)
        name = f"table {number}" if table is None else f"{table.keyspace}.{table.name}"
        return f"{partition.decode(errors='backslashreplace')!r} of {name}"

    def read_soon(self) -> None:
        """Read the log, unless that is under way."""
        if self._reading is not None:
            return
        following = [index for index in self._by_name.values() if index.state == FOLLOWING]
        if sum(index.pending_bytes for index in following) > PENDING_BYTES_MAX:
            for index in following:
                index.go_on()  # the end of its commit asks again, and so does the timer
            return
        after_of: dict[int, int] = {}
        for index in following:
            after_of[index.table] = min(index.read_to, after_of.get(index.table, index.read_to))
        after = min(after_of.values(), default=self._end)
        if self._fed and self._is_all_read(after):
            self._go_on(following)
            return
        self._reading = tuple(self._waiting)
        self._asked = after_of
        command = LogRows(tuple(sorted(after_of.items())), after, READ_ENTRIES, READ_BYTES)
        self._inside.submit(("inverted_rows",), command)

    def _is_all_read(self, after: int) -> bool:
        """Whether the log is durable no further than it was read, as far as can be told without asking."""
        end = None if self.durable_end is None else self.durable_end()
        return end is not None and after == end == self._end

    def _go_on(self, following: list[OneIndex]) -> None:
        """There is nothing to read: do what there is to do."""
        for waiter in self._waiting.values():
            if waiter.target is None:
                waiter.target = self._end
        for index in following:
            index.go_on()
        self._tell()

    # --- reading the log

    def _on_feed(self) -> None:
        self.read_soon()
        self._inside.timer(FEED_US, "inverted_feed")

    def _on_rows(self, outcome: Outcome) -> None:
        assert self._reading is not None, "it was asked"
        waiting, self._reading = self._reading, None
        if not isinstance(outcome, ChangedRows):
            assert isinstance(outcome, Failed), outcome
            self._inside.log("error", "inverted_feed", outcome.detail)
            return  # the timer asks again
        self._end = outcome.end
        if not self._fed:
            self._fed = True
            for index in list(self._by_name.values()):
                if index.state != CLOSED:  # its table was dropped before anything was known of the log
                    index.open()
        for number in waiting:
            waiter = self._waiting.get(number)
            if waiter is not None and waiter.target is None:
                waiter.target = outcome.end
        for index in list(self._by_name.values()):
            # One that was opened while the log was read was not asked for: it must not pass over anything.
            if self._asked.get(index.table, index.read_to + 1) <= index.read_to:
                index.take(outcome)
            index.go_on()
        self._tell()
        behind = any(
            index.state == FOLLOWING and index.read_to < outcome.end for index in self._by_name.values()
        )
        if behind or any(waiter.target is None for waiter in self._waiting.values()):
            self.read_soon()

    def _on_slice(self, outcome: Outcome, name: str) -> None:
        index = self._by_name.get(name)
        if index is not None:
            index.on_slice(outcome)

    def _on_due(self, outcome: Outcome, name: str, key: bytes) -> None:
        index = self._by_name.get(name)
        if index is not None:
            index.on_due(outcome, key)

    def _on_done(self, result: Any, name: str, what: str) -> None:
        self._by_name[name].on_done(what, result)

    def _on_retry(self, name: str, what: str) -> None:
        index = self._by_name.get(name)
        if index is not None:
            index.retry(what)

    # --- node.search_ports.IndexHost

    def when_fresh(self, table: int, until_us: int, done: Then, mapping: str = "") -> None:
        """Call `done("")` once the index holds all that is durable in the log now; or why not."""
        now_us = self._inside.clock.now_us()
        if self._is_fresh(self._named(table, mapping), now_us):
            done("")
        elif self._is_foreign(mapping):
            done(self._why_not(table, mapping))
        else:
            self._wait(_Waiter(table, mapping, True, now_us, done), until_us)
            self.read_soon()

    def _is_fresh(self, index: OneIndex | None, now_us: int) -> bool:
        """Whether an index shows all that is durable at this moment, as far as can be told without asking."""
        end = None if self.durable_end is None else self.durable_end()
        if end is None or index is None or not index.can_search or index.reached < end:
            return False
        return not 0 < index.next_due_us <= now_us

    def when_open(self, table: int, until_us: int, done: Then, mapping: str = "") -> None:
        """The same as soon as the index can be searched at all."""
        if self._is_foreign(mapping):
            done(self._why_not(table, mapping))
            return
        self._wait(_Waiter(table, mapping, False, 0, done), until_us)
        self._tell()

    def _wait(self, waiter: _Waiter, until_us: int) -> None:
        self._number += 1
        self._waiting[self._number] = waiter
        delay_us = max(1, until_us - self._inside.world.monotonic_us())
        self._inside.timer(delay_us, "inverted_wait", self._number)

    def _on_wait(self, number: int) -> None:
        waiter = self._waiting.pop(number, None)
        if waiter is not None:
            waiter.then(self._why_not(waiter.table, waiter.mapping))

    def _named(self, table: int, mapping: str) -> OneIndex | None:
        """The index of this name, "" for the one that serves now."""
        index = self._by_name.get(mapping) if mapping else self._current.get(table)
        return index if index is not None and index.table == table and index.state != CLOSED else None

    def _is_foreign(self, mapping: str) -> bool:
        """Whether there is no index of this name, nor will be: one that a coordinator of another release
        plans for, whose analyzers make other terms, or one by a mapping that is over here.
        """
        return bool(mapping) and mapping not in self._by_name

    def _why_not(self, table: int, mapping: str) -> str:
        index = self._named(table, mapping)
        if index is None:
            told = "the table is not searched"
            if self._is_foreign(mapping) and table in self._current:
                told = "its index has other terms: by another mapping, or as another release makes them"
            return self._faults.get(table, told)
        if not index.can_search:
            return f"the index is being built, {100 * index.progress:.0f} % done"
        return "the index did not follow its log in time"

    def _tell(self) -> None:
        """Let go who has waited long enough."""
        for number, waiter in list(self._waiting.items()):
            if number not in self._waiting:
                continue  # what others were told let it go
            index = self._named(waiter.table, waiter.mapping)
            if index is None:
                are_none = all(each.table != waiter.table for each in self._by_name.values())
                if are_none or self._is_foreign(waiter.mapping):
                    del self._waiting[number]
                    waiter.then(self._why_not(waiter.table, waiter.mapping))
            elif index.can_search:
                has_come = waiter.target is not None and index.reached >= waiter.target
                has_come = has_come and not 0 < index.next_due_us <= waiter.now_us
                if has_come or not waiter.fresh:
                    del self._waiting[number]
                    waiter.then("")

    def run(
        self, table: int, work: Callable[[Segments], Any], done: Callable[[Any], None], mapping: str = ""
    ) -> None:
        """Have `work` done on the table's index beside the event loop."""
        index = self._named(table, mapping)
        if index is None or not index.can_search:
            done(Failed(Why.STALLED, self._why_not(table, mapping)))
            return
        self._number += 1
        self._works[self._number] = done
        index.search(self._number, work)

    def _on_worked(self, result: Any, number: int) -> None:
        self._works.pop(number)(result)

    def mapping(self, table: int) -> str:
        """The name of the index that searches are planned for now."""
        index = self._planning.get(table)
        return "" if index is None else index.name

    def rules(self, table: int) -> Rules:
        """The mapping by which the table's index is searched now."""
        index = self._planning.get(table) or self._current.get(table)
        if index is not None:
            return index.rules
        schema = self._metadata.state.tables.get(table)
        found = rules_of(schema) if schema is not None else compile_mapping(DEFAULT)
        return found if isinstance(found, Rules) else _default_rules()

    def behind(self, table: int) -> int:
        """Entries of the log, of all tables, that are not read for the table's index."""
        index = self._current.get(table)
        return 0 if index is None or index.state != FOLLOWING else max(0, self._end - index.read_to)

    def document(self, table: int, key: bytes, row: Row, now_us: int) -> bytes | None:
        """The document that is indexed of a row."""
        state = self._metadata.state
        schema = state.tables.get(table)
        collection = None if schema is None else collection_of(schema, state.keyspaces.get(schema.keyspace))
        return None if collection is None else text_of(cells_of(collection, row), now_us)

    def rebuild(self, table: int) -> bool:
        """Build the index of a table anew from its rows; False if there is none, or it is being built anyway.

        Until it is done this peer serves no searches of it: another replica does.
        """
        index = self._current.get(table)
        return index is not None and index.rebuild()

    def serving(self) -> tuple[OneIndex, ...]:
        """The indexes that can be searched now, by table."""
        return tuple(self._current[n] for n in sorted(self._current) if self._current[n].can_search)

    def table_name(self, table: int) -> str:
        """What people call it."""
        found = self._metadata.state.tables.get(table)
        return str(table) if found is None else f"{found.keyspace}.{found.name}"

    @property
    def builds(self) -> int:
        """How often an index was built from its table since the start."""
        return sum(index.builds for index in self._by_name.values())

    def status(self) -> list[dict[str, Any]]:
        """What each index is doing, JSON-able."""
        tables = self._metadata.state.tables
        return [
            {
                "index": index.name,
                "table": f"{table.keyspace}.{table.name}" if table is not None else "",
                "state": index.state,
                "progress": round(index.progress, 4),
                "reached": index.reached,
                "behind": max(0, self._end - index.reached),
            }
            for index in self._by_name.values()
            if index.state != CLOSED
            for table in (tables.get(index.table),)
        ]


def change_of(collection: Collection, key: bytes, data: bytes | None, now_us: int) -> Change:
    """A row of a collection, from its bytes."""
    if data is None:
        return Change(key, None)
    cells = cells_of(collection, decode_row(data))
    due = [cell.dead_from_us for cell in cells if cell.value is not None and cell.dead_from_us > now_us]
    if not due:
        return Change(key, text_of(cells, now_us))
    first_us = min(due)
    return Change(key, text_of(cells, now_us), first_us, text_of(cells, first_us) is None)


def rules_of(table: Table) -> Rules | MappingFault:
    """The rules of a table's mapping."""
    text = settings_of(table.options).mapping_text
    if text is None:
        return _default_rules()
    mapping = parse_mapping(orjson.loads(text))
    return mapping if isinstance(mapping, MappingFault) else compile_mapping(mapping)


def _default_rules() -> Rules:
    found = compile_mapping(DEFAULT)
    assert isinstance(found, Rules), "the default is a mapping"
    return found


def name_of(table: int, mapping: Mapping) -> str:
    """The name of the index of a table by a mapping, as analyzers are now."""
    text = b"%d %s" % (VERSION, msgspec.json.encode(mapping))
    return f"{table:08x}-{blake2b(text, digest_size=8).hexdigest()}"
