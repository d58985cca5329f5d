"""Scrubbing: every record is read, and what follows from others is compared with them, a slice at a time.

Reading a record checks its block's checksum; rows, headers, log entries and ballots are decoded besides.
Damage ends a slice with CorruptionError, and the store is mended (lsm/salvage.py). Two things are compared:

- *the hash tree*: the sum of all rows of a leaf with what the leaf says. A leaf may be longer than a slice,
  and
  is written to meanwhile; its sum counts only if the leaf says the same before its first and after its last
  row.
- *entries of indexes*: each row of an index that is built must have its entries, and each entry must be one
  of
  its row.

What differs is put right at once, in the command that found it: rows are what is true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from core.commands import IndexBuilt
from core.errors import CorruptionError
from core.healing import Scrub, Scrubbed
from core.ports import Engine, Entries
from core.schema import Table
from lsm import keys
from lsm.hash_tree import HashTree, leaf_of, record_hash
from lsm.log import ENTRY_SIZE
from lsm.paxos import check_record
from lsm.reading import stored_header, stored_row

END: Final = b"\xff"
_MASK: Final = 2**64 - 1

Puts = list[tuple[bytes, bytes | None]]
Place = tuple[int, int]
"""(table, leaf)."""


class Scrubber:
    """The state of one pass over one engine: the leaf that it is in."""

    def __init__(
        self, engine: Engine, tree: HashTree, entries: Entries | None, tables: Callable[[int], Table | None]
    ) -> None:
        self._engine = engine
        self._tree = tree
        self._entries = entries
        self._tables = tables
        self._place: Place | None = None
        self._before = 0
        self._total = 0
        self._sums: dict[int, dict[int, int]] = {}
        """By table and leaf: by how much what is stored differs from the sum."""

    def scrub(self, command: Scrub) -> Scrubbed:
        """One slice. Raises CorruptionError for what cannot be read or decoded, or what `Engine.write` raises
        where something is to be put right; the same slice may be asked for again.
        """
        before = self._place, self._before, self._total
        try:
            return self._scrub(command)
        except BaseException:
            self._place, self._before, self._total = before
            raise

    def _scrub(self, command: Scrub) -> Scrubbed:
        first = command.after + b"\0" if command.after else b""
        if not command.after or not command.after.startswith(keys.ROW):
            self._place = None
        self._sums = {}
        puts: Puts = []
        problems: list[str] = []
        after, records, size = command.after, 0, 0
        for key, value in self._engine.scan(first, END):
            if records >= command.rows_max or size >= command.bytes_max:
                break
            after, records, size = key, records + 1, size + len(key) + len(value)
            self._check(key, value, puts, problems)
        else:
            after = b""
            self._leave(None, problems)
        if self._sums:
            self._tree.forget()
            for table, deltas in self._sums.items():
                self._tree.stage(table, deltas, puts)
            self._tree.forget()
        if puts:
            self._engine.write(puts)
        return Scrubbed(after, records, size, tuple(problems))

    def _check(self, key: bytes, value: bytes, puts: Puts, problems: list[str]) -> None:
        region = key[:1]
        if region == keys.ROW:
            self._check_row(key, value, puts, problems)
            return
        if self._place is not None:
            self._leave(None, problems)
        if region == keys.ENTRY:
            self._check_entry(key, value, puts, problems)
        elif region == keys.PAXOS:
            check_record(key, value)
        elif region == keys.LOG and len(value) < ENTRY_SIZE:
            raise CorruptionError(f"log entry {keys.offset_of(key)} has {len(value)} bytes")

    # --- rows and the tree

    def _check_row(self, key: bytes, value: bytes, puts: Puts, problems: list[str]) -> None:
        table = int.from_bytes(key[1:5], "big")
        place = (table, leaf_of(keys.token_of(key)))
        if place != self._place:
            self._leave(place, problems)
        self._total += record_hash(key, value)
        suffix = key[keys.prefix_end(key) :]
        if suffix == keys.HEADER_SUFFIX:
            stored_header(key, value)
            return
        stored_row(key, value)
        schema = self._tables(table)
        if schema is None or self._entries is None or not schema.indexes:
            return
        for entry, length in self._entries(schema, (key, None), (key, value)):
            index = int.from_bytes(entry[5:9], "big")
            if length is not None and self._is_built(table, index) and self._engine.get(entry) is None:
                problems.append(f"index {index} of table {table} lacked the entry of row {key.hex()}")
                puts.append((entry, length))

    def _leave(self, place: Place | None, problems: list[str]) -> None:
        """The leaf that was read is complete: compare its sum. Begin with another."""
        if self._place is not None:
            table, leaf = self._place
            stored = self._tree.stored_leaf(table, leaf)
            is_there = self._tables(table) is not None  # else it may be half removed
            if is_there and stored == self._before and stored != self._total & _MASK:
                problems.append(f"leaf {leaf} of the hash tree of table {table} was not the sum of its rows")
                self._sums.setdefault(table, {})[leaf] = self._total - stored
        self._place, self._total = place, 0
        self._before = 0 if place is None else self._tree.stored_leaf(*place)

    # --- entries

    def _is_built(self, table: int, index: int) -> bool:
        record = b"index/" + table.to_bytes(4, "big") + index.to_bytes(4, "big")
        data = self._engine.get(keys.system_key(record))
        return data is not None and msgspec.msgpack.decode(data, type=IndexBuilt).done

    def _check_entry(self, key: bytes, value: bytes, puts: Puts, problems: list[str]) -> None:
        table, index = int.from_bytes(key[1:5], "big"), int.from_bytes(key[5:9], "big")
        schema = self._tables(table)
        if schema is None or self._entries is None or all(one.id != index for one in schema.indexes):
            return  # dropped: its entries are being removed
        try:
            _, row_key = keys.split_entry(key, value)
            row = self._engine.get(row_key)
            wanted = () if row is None else self._entries(schema, (row_key, None), (row_key, row))
            is_right = any(entry == key for entry, _ in wanted)
        except ValueError:
            is_right = False
        if not is_right:
            problems.append(f"index {index} of table {table} had an entry that is none of a row: {key.hex()}")
            puts.append((key, None))
