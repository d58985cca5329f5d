"""Micro-benchmarks without a cluster: where the microseconds of one write and one read go.

Processor time of the one thread, so that what else the machine does matters little; the median of several
rounds. What RocksDB's own threads do is not in it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from bench.load import request_bytes, run_load
from core.cell import VALUE, Cell
from core.commands import Apply, Command, Read, Slice
from core.limits import MIB
from core.messages import ApplyMutation, decode_message, encode_message
from core.mutation import INSERT, Mutation, decode_mutation, encode_mutation
from core.row import Row
from core.schema import PARTITION, REGULAR, Column, Table, TableOptions
from lsm import keys
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.rocks import RocksEngine
from lsm.store import Store
from ring.tokens import token_of

ROUNDS: Final = 5
VALUE_BYTES: Final = 1024
TABLE: Final = Table(
    1,
    "kv",
    "bench",
    (
        Column(0, "key", "text", PARTITION),
        Column(1, "value", "blob", REGULAR),
        Column(2, "content_type", "text", REGULAR),
    ),
    TableOptions(),
    1,
)


def mutation(sequence: int, key: bytes, value: bytes) -> Mutation:
    """A PUT of a key-value pair, as its coordinator makes it."""
    writer, now_us = 1 << 32 | 1, 1_700_000_000_000_000 + sequence
    values = (b"", value, b"application/octet-stream")
    cells = tuple(Cell(column, (), VALUE, now_us, writer, 0, data) for column, data in enumerate(values))
    rows = ((keys.ROW_SUFFIX, Row(None, cells)),)
    return Mutation(writer, sequence, 0, now_us, True, INSERT, 1, token_of(key), key, None, rows)


class _Bench:
    """Times a function over many items; each round has items of its own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.found: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[int], None]) -> None:
        """`work(round)` does `count` things; noted are microseconds for one of them."""
        taken = []
        for number in range(ROUNDS):
            began = time.thread_time()
            work(number)
            taken.append((time.thread_time() - began) / self.count * 1e6)
        self.found[name] = round(statistics.median(taken), 2)


def run(count: int) -> dict[str, Any]:
    """Microseconds per operation, by name."""
    bench = _Bench(count)
    value = os.urandom(VALUE_BYTES)
    names = [[b"key-%d-%08d" % (number, n) for n in range(count)] for number in range(ROUNDS)]
    made: list[list[Mutation]] = [[] for _ in range(ROUNDS)]
    coded: list[list[bytes]] = [[] for _ in range(ROUNDS)]

    def make(number: int) -> None:
        first = number * count
        made[number] = [mutation(first + n + 1, key, value) for n, key in enumerate(names[number])]

    def encode(number: int) -> None:
        coded[number] = [encode_mutation(item) for item in made[number]]

    bench("mutation: make", make)
    bench("mutation: encode", encode)
    bench("mutation: decode", lambda number: _each(decode_mutation, coded[number]))
    messages = [encode_message(ApplyMutation(n, 1, 1, data)) for n, data in enumerate(coded[0])]
    message = ApplyMutation(1, 1, 1, coded[0][0])
    bench("frame: encode a message", lambda _: _each(encode_message, [message] * count))
    bench("frame: decode a message", lambda _: _each(decode_message, messages))
    with tempfile.TemporaryDirectory(prefix="sullae-bench-") as folder:
        _store(bench, Path(folder), names, coded)
    return bench.found


def _each(work: Callable[[Any], Any], items: list[Any]) -> None:
    for item in items:
        work(item)


def _store(bench: _Bench, folder: Path, names: list[list[bytes]], coded: list[list[bytes]]) -> None:
    engine = RocksEngine.open(folder, lambda: time.monotonic_ns() // 1000)
    store = Store(engine, lambda table: TABLE if table == TABLE.id else None)
    executor = Executor(store, Commit())

    def drive(commands: list[Command]) -> None:
        for number, command in enumerate(commands):
            executor.submit(("bench", number), command)
            if number % 32 == 31:
                executor.run()
                executor.take_released()
        executor.run()

    def sync() -> None:
        token = executor.begin_sync()
        if token is not None:
            engine.sync()
            executor.end_sync(token)
        executor.take_released()

    applies: list[list[Command]] = [[Apply(data) for data in batch] for batch in coded]
    bench("store: plan an Apply", lambda number: _each(store.plan, applies[number]))
    bench("store: Apply of a new row", lambda number: drive(applies[number]))
    sync()
    bench("store: the same again, repeated", lambda number: drive(applies[number]))
    reads: list[list[Command]] = [
        [Read(Slice(1, keys.row_key(1, token_of(key), key), b"", b"", True, 1, MIB), False) for key in batch]
        for batch in names
    ]
    bench("store: Read of a row", lambda number: drive(reads[number]))
    sizes = ((30, 1130), (9, 51), (9, 1180), (19, 8), (10, 8), (10, 8))
    puts = [(os.urandom(key), os.urandom(data)) for key, data in sizes]
    bench("rocksdb: the batch of an Apply", lambda _: _each(engine.write, [puts] * bench.count))
    sync()
    syncs = min(50, bench.count)
    began = time.perf_counter()
    for _ in range(syncs):
        engine.write(puts)
        engine.sync()
    taken = time.perf_counter() - began
    bench.found["rocksdb: write and sync, by the clock"] = round(taken / syncs * 1e6, 1)
    engine.close()


async def rest_overhead(count: int) -> float:
    """Microseconds of processor time for one trivial request of the HTTP library on a kept connection."""

    async def trivial(_: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x")

    loop = asyncio.get_running_loop()
    server = web.Server(trivial)
    listener = await loop.create_server(server, "127.0.0.1", 0)
    port = int(listener.sockets[0].getsockname()[1])
    request = request_bytes("GET", "/v1/kv/bench/key?consistency=quorum")
    began = time.thread_time()
    await run_load([("127.0.0.1", port)], 16, repeat(request, count))
    taken = time.thread_time() - began
    listener.close()
    await server.shutdown()
    return round(taken / count * 1e6, 2)
