"""TRACING: what a request did, from `system_traces`, as a timeline.

A trace is written after the answer, so it is read until its session has a duration (or for a moment at most).
Events are in the order of their time stamps; the bar shows where in the whole an event lies. What replicas
say of rows and tombstones is summed up per peer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cli.native.client import Client
from cli.native.connection import RefusedError
from cli.shell.output import Output
from cli.shell.tables import NUMBER, Cell, Table, escaped

ATTEMPTS: Final = 20
PAUSE_S: Final = 0.1
BAR_COLUMNS: Final = 20

_SESSION: Final = (
    "SELECT coordinator, duration, request, started_at, client, parameters FROM system_traces.sessions "
    "WHERE session_id = {}"
)
_EVENTS: Final = (
    "SELECT event_id, activity, source, source_elapsed FROM system_traces.events WHERE session_id = {}"
)
_COUNTS: Final = re.compile(
    r"(\d+) (?:live )?rows?\b.*?(\d+) tombstones?|read (\d+) live.*?(\d+) tombstone", re.IGNORECASE
)
_EPOCH_100NS: Final = 0x01B21DD213814000


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One thing that happened: when after the beginning, where, what, and how long its peer had worked."""

    at_us: int
    source: str
    activity: str
    elapsed_us: int | None


@dataclass(frozen=True, slots=True)
class Trace:
    """A session with its events in order; `duration_us` is None while it is not complete."""

    session: uuid.UUID
    coordinator: str
    request: str
    duration_us: int | None
    parameters: dict[str, str]
    events: tuple[TraceEvent, ...]


async def read_trace(client: Client, session: uuid.UUID) -> Trace | None:
    """The trace as far as it is there."""
    rows = await client.rows(_SESSION.format(session))
    if not rows:
        return None
    coordinator, duration, request, started_ms, _, parameters = rows[0]
    events = await client.rows(_EVENTS.format(session))
    return assembled(session, (coordinator, duration, request, started_ms, parameters), events)


def assembled(session: uuid.UUID, row: Sequence[Any], events: Sequence[Sequence[Any]]) -> Trace:
    """A trace of rows; the first event's time is taken for the beginning, if it precedes the session's."""
    coordinator, duration, request, started_ms, parameters = row
    stamps = [_unix_us(event[0]) for event in events]
    begin_us = min(
        [*stamps, *([started_ms * 1000] if started_ms is not None and not stamps else [])], default=0
    )
    found = [
        TraceEvent(stamp - begin_us, _address(event[2]), str(event[1]), event[3])
        for stamp, event in zip(stamps, events, strict=True)
    ]
    found.sort(key=lambda event: event.at_us)
    return Trace(
        session, _address(coordinator), request or "", duration, dict(parameters or ()), tuple(found)
    )


def _unix_us(event_id: bytes) -> int:
    return (uuid.UUID(bytes=event_id).time - _EPOCH_100NS) // 10


def _address(data: bytes | None) -> str:
    return str(ipaddress.ip_address(data)) if data else "?"


async def show(client: Client, session: uuid.UUID, output: Output) -> None:
    """Print the timeline of a trace when it is complete."""
    trace: Trace | None = None
    try:
        for _ in range(ATTEMPTS):
            trace = await read_trace(client, session)
            if trace is not None and trace.duration_us is not None:
                break
            await asyncio.sleep(PAUSE_S)
    except RefusedError as refused:
        output.say(f"the trace {session} cannot be read: {refused.error.message}")
        return
    if trace is None:
        output.say(f"there is no trace {session} (yet): SHOW SESSION {session}; looks again")
        return
    for line in timeline(trace, colour=output.colour):
        output.line(line)


def timeline(trace: Trace, *, colour: bool = False) -> list[str]:
    """The trace as lines."""
    took = "not complete yet" if trace.duration_us is None else _ms(trace.duration_us)
    lines = ["", f"Trace {trace.session}: {took}", f"  {escaped(trace.request)}"]
    for name, value in trace.parameters.items():
        lines.append(f"  {name}: {escaped(' '.join(value.split()))}")
    lines += [f"  coordinator {trace.coordinator}", ""]
    total_us = max([trace.duration_us or 1, 1, *(event.at_us for event in trace.events)])
    rows = []
    for event in trace.events:
        mark = min(BAR_COLUMNS - 1, event.at_us * BAR_COLUMNS // total_us)
        bar = "·" * mark + "█" + "·" * (BAR_COLUMNS - 1 - mark)
        own = "" if event.elapsed_us is None else _ms(event.elapsed_us)
        rows.append(
            [Cell(_ms(event.at_us), NUMBER), Cell(bar), Cell(event.source), Cell(own, NUMBER)]
            + [Cell(escaped(event.activity))]
        )
    table = Table(["at", "", "peer", "its clock", "what"], colour=colour)
    lines += table.page(rows)
    return lines + ["", *_by_peer(trace)]


def _by_peer(trace: Trace) -> list[str]:
    """One line a peer: what it took, rows and tombstones read."""
    lines = []
    for source in dict.fromkeys([trace.coordinator, *(event.source for event in trace.events)]):
        own = [event for event in trace.events if event.source == source]
        worked = max((event.elapsed_us or 0 for event in own), default=0)
        rows, tombstones = read_counts(own)
        role = "coordinator" if source == trace.coordinator else "replica"
        read = "" if rows is None else f", {rows:,} rows and {tombstones:,} tombstones read"
        lines.append(f"  {source} ({role}): {len(own)} events in {_ms(worked)}{read}")
    return lines


def read_counts(events: Sequence[TraceEvent]) -> tuple[int | None, int]:
    """Rows and tombstones that these events say were read; None if none of them says."""
    rows: int | None = None
    tombstones = 0
    for event in events:
        match = _COUNTS.search(event.activity)
        if match:
            rows = (rows or 0) + int(match[1] or match[3])
            tombstones += int(match[2] or match[4])
    return rows, tombstones


def _ms(us: int) -> str:
    return f"{us / 1000:.2f} ms"
