"""Rows of documents that a search shows: each from the peer that found it, which holds what it found.

If that peer is gone meanwhile, or none is named, a read at the request's level does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core import limits
from core.commands import Slice
from core.consistency import Level
from core.ports import PeerId
from core.row import Row, exists
from lsm.keys import prefix_end, split_row_key, token_of
from node.slices import SliceResult
from node.writes import no_such_table

if TYPE_CHECKING:
    from node.scatter import Failure
    from node.searches import Searches

AT_ONCE = 64
"""Reads under way at a time."""

BYTES_MAX = limits.FRAME_BYTES_MAX // 2


class Fetch:
    """Some rows; `done` is called once."""

    def __init__(
        self,
        parent: Searches,
        level: Level,
        now_us: int,
        deadline_us: int,
        done: Callable[[dict[bytes, Row] | Failure], None],
    ) -> None:
        self._parent = parent
        self._level = level
        self._now_us = now_us
        self._deadline_us = deadline_us
        self._done: Callable[[dict[bytes, Row] | Failure], None] | None = done
        self._queue: list[tuple[bytes, PeerId | None]] = []
        self._under_way = 0
        self._rows: dict[bytes, Row] = {}

    def start(self, wanted: dict[bytes, PeerId | None] | dict[bytes, PeerId] | dict[bytes, None]) -> None:
        """Read these rows, each from the peer named."""
        self._queue = list(wanted.items())[::-1]
        self._go_on()

    def _go_on(self) -> None:
        while self._queue and self._under_way < AT_ONCE and self._done is not None:
            self._under_way += 1
            self._read(*self._queue.pop())
        if not self._under_way and not self._queue:
            self._end(self._rows)

    def _read(self, key: bytes, server: PeerId | None) -> None:
        table, _, _, _ = split_row_key(key)
        placement = self._parent.metadata.state.placement(table)
        if placement is None:
            self._under_way -= 1
            self._end(no_such_table())
            return
        prefix = key[: prefix_end(key)] if placement.table.has_clustering else b""
        part = Slice(table, key, b"", prefix, True, 1, BYTES_MAX)
        replicas = placement.replicas(token_of(key))
        reads = self._parent.reads

        def again(result: SliceResult | Any) -> None:
            if isinstance(result, SliceResult):
                self._take(result)
            else:
                reads.begin(part, replicas, self._level, self._deadline_us, self._take)

        if server is None or server not in replicas:
            reads.begin(part, replicas, self._level, self._deadline_us, self._take)
        else:
            reads.begin(part, (server,), Level.ONE, self._deadline_us, again)

    def _take(self, result: SliceResult | Failure) -> None:
        self._under_way -= 1
        if not isinstance(result, SliceResult):
            self._end(result)
            return
        for key, row in result.rows:
            if exists(row, self._now_us):
                self._rows[key] = row
        self._go_on()

    def _end(self, result: dict[bytes, Row] | Failure) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(result)
