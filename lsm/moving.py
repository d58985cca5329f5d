"""The commands of a store that moves ranges: floors taken over, rows given up. Also what is forgotten of
tables that were dropped, or emptied, which gives them another id. Part of lsm/store.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.commands import Done, Failed, Outcome, Swept, Why
from core.moving import DropRange, ForgetTables, LogForget, TakeFloors
from lsm import keys
from lsm.floors import decode_ranges, encode_ranges, floor_key, merged

if TYPE_CHECKING:
    from core.ports import Engine
    from lsm.commit import Unsynced
    from lsm.floors import Floors
    from lsm.log import ChangeLog
    from lsm.writing import Info, Writer

Ran = tuple[Outcome, int]

REGIONS_OF_TABLES: Final = (keys.GARBAGE, keys.TREE, keys.ROW, keys.PAXOS, keys.PROPOSAL)
"""In their order. What else there is of a table goes by itself: its log grows old, sweeps and notes of expiry
come by, and entries of indexes are removed with these (node/index_building.py).
"""
TABLES_LOOKED_AT: Final = 8
"""By one ForgetTables: each may take a millisecond to find."""


class MovingCommands:
    """Runs these commands on the parts of one store."""

    def __init__(
        self,
        engine: Engine,
        unsynced: Unsynced,
        *,
        floors: Floors,
        log: ChangeLog,
        writer: Writer,
        info: Callable[[int], Info | None],
    ) -> None:
        self._engine = engine
        self._unsynced = unsynced
        self._floors = floors
        self._log = log
        self._writer = writer
        self._info = info
        self.handlers: dict[type, Callable[[Any], Ran]] = {
            TakeFloors: self._take_floors,
            LogForget: self._log_forget,
            DropRange: self._drop_range,
            ForgetTables: self._forget_tables,
        }

    def _take_floors(self, command: TakeFloors) -> Ran:
        new = {}
        try:
            for table, data in command.floors:
                new[table] = merged(self._floors.tables.get(table, ()), decode_ranges(data))
        except msgspec.DecodeError as error:
            return Failed(Why.MALFORMED, f"floors do not decode: {error}"), 0
        if new:
            puts = [
                (keys.system_key(floor_key(table)), encode_ranges(ranges)) for table, ranges in new.items()
            ]
            self._unsynced.wrote((keys.SYSTEM,), self._engine.write(puts))
            self._floors.commit(new)
        return Done(), self._engine.written()

    def _log_forget(self, command: LogForget) -> Ran:
        ids = self._log.ids(command.after, command.entries_max, command.ranges)
        self._log.forget(tuple((e.start, e.sequence, e.attempt) for e in ids.entries))
        return ids, self._engine.written()

    def _drop_range(self, command: DropRange) -> Ran:
        info = self._info(command.table)
        if info is None:
            return Swept(0, b""), 0
        table, first_token, last_token = command.table, command.first_token, command.last_token
        rows: list[tuple[bytes, bytes]] = []
        for row in self._engine.scan(*keys.token_range_bounds(table, first_token, last_token)):
            if len(rows) == command.rows_max:
                return Swept(len(rows), rows[-1][0]), self._writer.drop(rows, info)
            rows.append(row)
        self._writer.drop(rows, info)
        for region in (keys.PAXOS, keys.PROPOSAL):
            self._engine.delete_range(*keys.paxos_bounds(region, table, first_token, last_token))
        return Swept(len(rows), b""), self._engine.written()

    def _forget_tables(self, command: ForgetTables) -> Ran:
        removed = looked_at = 0
        for region in REGIONS_OF_TABLES:
            at, end = max(command.after, region), region + command.below.to_bytes(4, "big")
            while at < end and (found := next((key for key, _ in self._engine.scan(at, end)), None)):
                if looked_at == TABLES_LOOKED_AT:
                    return Swept(removed, at), self._engine.written()
                table, at = found[:5], keys.successor(found[:5])
                looked_at += 1
                if self._info(int.from_bytes(table[1:], "big")) is None:
                    self._engine.delete_range(table, at)
                    removed += 1
        gone = [one for one in self._floors.tables if one < command.below and self._info(one) is None]
        if gone:
            self._engine.write([(keys.system_key(floor_key(table)), None) for table in gone])
            self._floors.forget(gone)
        return Swept(removed, b""), self._engine.written()
