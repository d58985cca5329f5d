"""What the stories of counterexamples share: tables of their own shape, and looks at what disks hold.

A story is a function that builds a cluster, lets one interleaving happen and returns what came of it. It is
told twice: as things are, where the outcome is right, and with the one rule broken that makes it so, where
the outcome is the wrong one that the counterexample names. So no story can be right for another reason.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.cell import VALUE
from core.consistency import Level
from core.messages import Message, Ping, PingAck
from core.metadata import CreateTable
from core.mutation import UPDATE
from core.requests import (
    Answer,
    Changed,
    MetadataRequest,
    ReadRequest,
    RowsRead,
    RowWrite,
    Write,
    WriteRequest,
)
from core.row import Row, decode_row
from core.schema import PARTITION, REGULAR, Column, Table, TableOptions
from jepsen_like.scenarios import Scenario
from kv.operations import key_of
from lsm import keys
from lsm.executor import Executor

HOUR_US = 3_600_000_000

UNFOLLOWED = {"follow_idle_us": HOUR_US, "follow_pause_us": HOUR_US}
UNCOMPARED = {"anti_entropy_pause_us": HOUR_US}
QUIET: dict[str, Any] = UNFOLLOWED | UNCOMPARED
"""Replicas are left alone: a request's own path is all there is, and hints."""

WRITE_FAST: dict[str, Any] = {"write_timeout_us": 500_000, "read_timeout_us": 500_000}


def table_of(s: Scenario, name: str, columns: tuple[str, ...]) -> Table:
    """A table of blobs, replicated as buckets are."""
    parts = (
        Column(0, "key", "text", PARTITION),
        *(Column(0, column, "blob", REGULAR) for column in columns),
    )
    answer = s.ask(MetadataRequest(CreateTable("kv", name, parts, TableOptions()))).answer
    assert isinstance(answer, Changed) and not answer.error, answer
    assert s.until(lambda: all(s.state(peer).table("kv", name) for peer in s.cluster.running()))
    table = s.state(0).table("kv", name)
    assert table is not None
    return table


def update(table: Table, values: dict[int, bytes | None], **more: Any) -> WriteRequest:
    """Write these columns (0 is the row marker) of the row `k`; None clears one."""
    writes = tuple(Write(column, (), VALUE, value) for column, value in values.items())
    row = RowWrite(keys.ROW_SUFFIX, writes)
    return msgspec.structs.replace(WriteRequest(table.id, b"k", (row,), Level.QUORUM, UPDATE), **more)


def read(s: Scenario, table: Table, at: int = 0, level: Level = Level.QUORUM) -> Answer | None:
    """Read the row `k`."""
    return s.ask(ReadRequest(table.id, b"k", keys.ROW_SUFFIX, b"", True, level), at=at).answer


def row(s: Scenario, table: Table, at: int = 0, level: Level = Level.QUORUM) -> Row | None:
    """The row `k` as a reader gets it."""
    answer = read(s, table, at, level)
    assert isinstance(answer, RowsRead), answer
    return answer.rows[0].row if answer.rows else None


def values(found: Row | None) -> list[bytes | None]:
    """What a row's cells hold, by column."""
    return [] if found is None else [cell.value for cell in found.cells]


def held(s: Scenario, peer: int, bucket: str) -> dict[str, bytes | None]:
    """Key and value of each row of a bucket on one disk, in key order; None is a tombstone."""
    column = s.buckets[bucket].value_column
    found: dict[str, bytes | None] = {}
    for key, data in s.stored(peer, bucket).items():
        if not key.endswith(keys.HEADER_SUFFIX):
            cells = decode_row(data).cells
            value = next((cell.value for cell in cells if cell.column == column), None)
            found[key_of(s.buckets[bucket], key)] = value
    return dict(sorted(found.items()))


def executor(s: Scenario, peer: int) -> Executor:
    """What drives the store of a running peer."""
    process = s.cluster.machines[peer].process
    assert process is not None
    return process.disk.executor


def log_kinds(s: Scenario, peer: int) -> list[int]:
    """The kind of each entry of a peer's log, in order."""
    return [entry.kind for _, entry in executor(s, peer).store.log.entries(0, 10_000)]


def ping_answers_us(s: Scenario, peer: int) -> list[int]:
    """Becomes, as things happen, how long each ping took from its sender until `peer` answered it."""
    sent: dict[tuple[int, int], int] = {}
    took: list[int] = []

    def look(source: int, target: int, message: Message) -> bool:
        if isinstance(message, Ping) and target == peer:
            sent.setdefault((source, message.sequence), s.cluster.now_us)
        elif isinstance(message, PingAck) and source == peer:
            at_us = sent.pop((target, message.sequence), None)
            if at_us is not None:
                took.append(s.cluster.now_us - at_us)
        return False

    s.lose(look)
    return took


def scenarios_begun(monkeypatch: pytest.MonkeyPatch) -> list[Scenario]:
    """Becomes the scenarios that begin from now on: for broken rules that have to know the time."""
    begun: list[Scenario] = []
    begin = Scenario.__init__

    def remembered(self: Scenario, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        begun.append(self)

    monkeypatch.setattr(Scenario, "__init__", remembered)
    return begun
