"""The timeline of a trace, from rows as `system_traces` has them."""

from __future__ import annotations

import uuid

from cli.shell.tracing import TraceEvent, assembled, read_counts, timeline

SESSION = uuid.UUID("e7b197a0-e6b3-11f1-8e11-83d08688d188")
N1, N2 = bytes([127, 0, 0, 1]), bytes([127, 0, 0, 2])


def stamp(us: int) -> bytes:
    """A timeuuid so many microseconds after the session's own."""
    ticks = SESSION.time + us * 10
    fields = (ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF | 0x1000)
    return uuid.UUID(fields=(*fields, 0x8E, 0x11, 0x83D08688D188)).bytes


EVENTS = [
    (stamp(0), "Parsing", N1, 10),
    (stamp(900), "n2 answers", N1, 910),
    (stamp(400), "Read 3 live rows and 2 tombstones, 50 bytes", N2, 100),
    (stamp(500), "Read 1 live rows and 0 tombstone cells", N2, 200),
]


def test_events_are_in_order_with_where_they_lie_in_the_whole() -> None:
    row = (N1, 1_000, "Execute CQL3 query", 0, (("query", "SELECT\n 1"), ("page_size", "10")))
    lines = timeline(assembled(SESSION, row, EVENTS))
    text = "\n".join(lines)
    assert f"Trace {SESSION}: 1.00 ms" in text and "  query: SELECT 1" in text
    rows = [line for line in lines if "█" in line]
    assert [line.split("|")[0].strip() for line in rows] == ["0.00 ms", "0.40 ms", "0.50 ms", "0.90 ms"]
    assert [line.index("█") - rows[0].index("█") for line in rows] == [0, 8, 10, 18]
    assert lines[-2:] == [
        "  127.0.0.1 (coordinator): 2 events in 0.91 ms",
        "  127.0.0.2 (replica): 2 events in 0.20 ms, 4 rows and 2 tombstones read",
    ]


def test_a_trace_without_events_or_duration_is_shown_all_the_same() -> None:
    lines = timeline(assembled(SESSION, (None, None, None, 5, None), []))
    assert "not complete yet" in lines[1]


def test_counts_are_read_from_what_replicas_say_here_and_elsewhere() -> None:
    def counts(*texts: str) -> tuple[int | None, int]:
        return read_counts([TraceEvent(0, "x", text, None) for text in texts])

    assert counts("Read 5 live rows and 7 tombstone cells") == (5, 7)
    assert counts("Parsing", "Request complete: 3 rows") == (None, 0)
