"""Planted bugs of what keeps replicas alike, and of what a client is told of them; jepsen_like/plants.py says
what a plant is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

import node.comparing
import node.mutation_building
import node.subscriptions
import node.tree_run
import streams.events
from core import limits
from core.errors import CorruptionError
from core.mutation import decode_mutation, encode_mutation, restamped
from core.requests import Written
from core.row import decode_row, encode_row
from jepsen_like.plants import Plant, _do_nothing
from lsm.keys import HEADER_SUFFIX, prefix_end
from lsm.log import ChangeLog
from lsm.memory import MemoryEngine
from node.following import Following
from node.hints import _Replay
from node.reads import ReadOperation
from node.writes import WriteOperation

_hint = WriteOperation._hint
_send = _Replay._send
_send_repair = ReadOperation._send_repair
_split = node.comparing.split
_scan = MemoryEngine.scan
_changes = ChangeLog.changes
_lanes_of = node.subscriptions._lanes_of
_row = node.mutation_building._row


def _count_a_hint(self: Any, peer: bytes) -> None:
    _hint(self, peer)
    if peer != self._parent.me and self._reply is not None and self._tally.add(peer):
        self._answer(Written(self._version()))


def _stamped_as_it_is_delivered(self: Any, op: int, letter: Any) -> None:
    parent = self._parent
    stamp_us = parent.inside.clock.stamp()
    if stamp_us is not None:
        mutation = decode_mutation(letter.owed.mutation)
        again = restamped(mutation, mutation.admitted_us, (stamp_us, mutation.start))
        letter.owed = msgspec.structs.replace(letter.owed, mutation=encode_mutation(again))
    _send(self, op, letter)


def _repair_as_of_now(self: Any, peer: bytes) -> None:
    """What is repaired is written under the time of its repair."""
    stamp_us = self._parent.inside.clock.stamp() or 0
    rows = []
    for key, data in self._lacking[peer]:
        if key[prefix_end(key) :] != HEADER_SUFFIX:
            row = decode_row(data)
            cells = tuple(msgspec.structs.replace(cell, timestamp_us=stamp_us) for cell in row.cells)
            data = encode_row(msgspec.structs.replace(row, cells=cells))
        rows.append((key, data))
    self._lacking[peer] = tuple(rows)
    _send_repair(self, peer)


def _all_but_the_last(span: Any, *hashes: Any) -> Any:
    """The last part of a span of leaves is never compared."""
    return tuple([part for part in parts if part[1] != span[1]] for parts in _split(span, *hashes))


def _scan_up_to_the_damage(self: Any, first: bytes, end: bytes, reverse: bool = False) -> Iterator[Any]:
    """A scan that meets a damaged record ends there, without a word."""
    try:
        yield from _scan(self, first, end, reverse)
    except CorruptionError:
        return


def _an_hour_later(row: Any, version: Any, times_us: Any, dies_us: int) -> Any:
    return _row(row, version, times_us, dies_us + 3_600 * limits.SECOND_US if dies_us else 0)


def _ids_of_the_moment() -> Any:
    """Whoever shows an event gives it an id of its own."""
    count = 0

    def event_id(start: int, sequence: int, part: int) -> str:
        nonlocal count
        del start, sequence
        count += 1
        return f"{count:x}-{part}"

    return event_id


def _one_further(places: Any) -> Any:
    """A cursor is taken to stand behind the event that comes next."""
    further = [
        msgspec.structs.replace(place, offsets=tuple((number, at + 1) for number, at in place.offsets))
        for place in places
    ]
    return _lanes_of(tuple(further))


def _as_it_comes(self: Any, wanted: Any, end: int | None = None) -> Any:
    """Events of one page are sent by several hands, each as fast as it can."""
    page = _changes(self, wanted, end)
    return msgspec.structs.replace(page, entries=tuple(reversed(page.entries)))


REPLICA_PLANTS = (
    Plant(
        "a hint counts as an acknowledgement",
        ((WriteOperation, "_hint", _count_a_hint),),
        "register",
        1,
        ("stale", "back"),
    ),
    Plant(
        "hints delivered under a new timestamp",
        ((_Replay, "_send", _stamped_as_it_is_delivered),),
        "register",
        1,
        ("stale", "back", "doubled", "diverged"),
    ),
    Plant(
        "repaired under the time of the repair",
        ((ReadOperation, "_send_repair", _repair_as_of_now),),
        "register",
        3,
        ("stale", "back", "diverged"),
    ),
    Plant(
        "the last part of a hash tree not compared",
        ((node.tree_run, "split", _all_but_the_last), (Following, "_begin", _do_nothing)),
        "set",
        2,
        ("diverged",),
    ),
    Plant(
        "a scan ends at a damaged record",
        ((MemoryEngine, "scan", _scan_up_to_the_damage),),
        "set",
        2,
        ("lost", "stale", "diverged", "damaged"),
        shape=(("faults", ("bit_flip",)), ("fault_period_us", limits.SECOND_US)),
    ),
    Plant(
        "a time to live ends an hour late",
        ((node.mutation_building, "_row", _an_hour_later),),
        "changes",
        1,
        ("immortal",),
        3,
    ),
    Plant(
        "event ids of the moment",
        ((streams.events, "event_id", _ids_of_the_moment()),),
        "changes",
        1,
        ("doubled",),
        3,
    ),
    Plant(
        "a cursor is resumed one further",
        ((node.subscriptions, "_lanes_of", _one_further),),
        "changes",
        1,
        ("lost", "chain", "unlike"),
        3,
    ),
    Plant(
        "events of a key overtake each other",
        ((ChangeLog, "changes", _as_it_comes),),
        "changes",
        1,
        ("reorder", "chain"),
        3,
    ),
)
