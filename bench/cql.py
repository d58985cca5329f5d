"""What the CQL codec costs per request, without sockets, planner and store: `python -m bench.cql`.

Processor time of one thread in microseconds, the median of several rounds; requests arrive 16 at a time, as
they do from a driver that pipelines.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

from core.consistency import Level
from cql_lite import types, wire
from cql_lite.connection import Connection
from cql_lite.frames import FrameWriter

ROUNDS: Final = 7
PIPELINED: Final = 16

KEY, NAME, COUNT = types.UUID, types.TEXT, types.BIGINT
VALUES: Final = (bytes(range(16)), "강강술래".encode(), (5).to_bytes(8, "big"))
METADATA: Final = wire.Metadata(
    [wire.ColumnSpec("ks", "events", name, of) for name, of in (("id", KEY), ("name", NAME), ("n", COUNT))]
)
EXECUTE: Final = wire.Execute(b"0123456789abcdef", wire.Parameters(Level.QUORUM, VALUES), b"0123456789abcdef")
PAGED: Final = wire.Parameters(Level.QUORUM, VALUES, page_size=5000, timestamp_us=1_700_000_000_000_000)


def median_us(what: Callable[[], object], times: int) -> float:
    """Microseconds for one call, the median of the rounds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        for _ in range(times):
            what()
        taken.append((time.thread_time_ns() - began) / times / 1000)
    return round(statistics.median(taken), 2)


def _check_values() -> None:
    for of, value in zip((KEY, NAME, COUNT), VALUES, strict=True):
        of.check(value)


def _conversation(compressed: bool) -> Callable[[], None]:
    """16 EXECUTEs come in one read, are answered with a row each, and leave in one write."""
    connection = Connection()
    writer = FrameWriter(responses=False)
    options = {"CQL_VERSION": "3.0.0"} | ({"COMPRESSION": "lz4"} if compressed else {})
    body = wire.encode_request(wire.Startup(options), 5)
    connection.receive(writer.send(5, 0, 0, wire.Startup.opcode, body=body))
    connection.data_to_send()
    writer.begin_segments(compressed)
    body = wire.encode_request(EXECUTE, 5)
    streams = range(PIPELINED)
    data = writer.wrap([writer.envelope(5, 0, stream, EXECUTE.opcode, body=body) for stream in streams])
    rows = wire.Rows(METADATA, [VALUES])

    def once() -> None:
        for received in connection.receive(data):
            connection.respond(received.stream, rows)
        connection.data_to_send()

    return once


def run(count: int = 20_000) -> dict[str, float]:
    """Microseconds by what was measured."""
    lean = wire.encode_request(EXECUTE, 5)
    paged = wire.encode_request(wire.Execute(b"0123456789abcdef", PAGED), 4)
    row, page = wire.Rows(METADATA, [VALUES]), wire.Rows(METADATA, [VALUES] * 100)
    skipped = wire.Rows(METADATA, [VALUES], skip_metadata=True)
    one: list[tuple[str, Callable[[], object], int]] = [
        ("decode EXECUTE, 3 values", lambda: wire.decode_request(0x0A, lean, 5), 1),
        ("decode EXECUTE, page size and timestamp, v4", lambda: wire.decode_request(0x0A, paged, 4), 1),
        ("check uuid, text, bigint", _check_values, 1),
        ("clustering key of a bigint", lambda: COUNT.to_key(VALUES[2]), 1),
        ("encode a row with metadata", lambda: wire.encode_response(row, 5), 1),
        ("encode a row without metadata", lambda: wire.encode_response(skipped, 5), 1),
        ("encode 100 rows, each", lambda: wire.encode_response(page, 5), 100),
        ("request and row through a connection, v5", _conversation(False), PIPELINED),
        ("request and row through a connection, v5 LZ4", _conversation(True), PIPELINED),
    ]
    return {name: round(median_us(what, max(1, count // each)) / each, 2) for name, what, each in one}


if __name__ == "__main__":
    for name, taken_us in run().items():
        print(f"{taken_us:8.2f} us  {name}")
