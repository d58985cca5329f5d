"""One of the three replicas of the prototype: `python -m bench.prototype.server NUMBER PORT FOLDER`.

Frames are length (of what follows, 32 bits), kind (8), id (64), payload.
"""

from __future__ import annotations

import asyncio
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast

import mmh3
import msgspec
import uvloop
from rocksdict import Options, Rdict, WriteBatch

HEAD: Final = struct.Struct(">IBQ")
WRITE, APPLY, APPLIED, DONE = 1, 2, 3, 9
REPLICAS: Final = 3
DIAL_PAUSE_S: Final = 0.05

Cells = dict[int, tuple[int, bytes]]

encode = msgspec.msgpack.Encoder().encode
decode_row = msgspec.msgpack.Decoder(Cells).decode
decode_write = msgspec.msgpack.Decoder(tuple[bytes, Cells]).decode


class Commit:
    """Group commit: one sync covers all that was written before it began."""

    def __init__(self, loop: asyncio.AbstractEventLoop, database: Rdict) -> None:
        self._loop = loop
        self._database = database
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Callable[[], None]] = []
        self._busy = False

    def add(self, callback: Callable[[], None]) -> None:
        """Call back when all that is written by now is durable."""
        self._waiting.append(callback)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            self._busy = False
            return
        synced = self._loop.run_in_executor(self._pool, self._database.flush_wal, True)
        synced.add_done_callback(lambda _: self._end(batch))

    def _end(self, batch: list[Callable[[], None]]) -> None:
        for callback in batch:
            callback()
        self._begin()


class Replica:
    """The store and the writes in progress."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: str) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self.database = Rdict(folder, options)
        self.commit = Commit(loop, self.database)
        self.peers: list[Connection] = []
        self.writes: dict[int, Quorum] = {}
        self.sequence = 0

    def apply(self, key: bytes, cells: Cells) -> None:
        """Merge into the row, and log it."""
        token = mmh3.hash64(key, signed=True)[0]
        row_key = struct.pack(">Iq", 1, token) + key
        old = self.database.get(row_key)
        row = cells
        if old is not None:
            row = decode_row(old)
            for column, (timestamp, value) in cells.items():
                found = row.get(column)
                if found is None or found[0] < timestamp:
                    row[column] = (timestamp, value)
        batch = WriteBatch(raw_mode=True)
        batch.put(row_key, encode(row))
        self.sequence += 1
        batch.put(b"L" + struct.pack(">Q", self.sequence), encode((key, cells)))
        self.database.write(batch)


class Quorum:
    """One write: done at the second acknowledgement of three."""

    __slots__ = ("client", "count", "id", "number", "replica")

    def __init__(self, replica: Replica, client: Connection, id_: int, number: int) -> None:
        self.replica, self.client, self.id, self.number = replica, client, id_, number
        self.count = 0

    def acknowledge(self) -> None:
        """One more replica has it."""
        self.count += 1
        if self.count == REPLICAS - 1:
            self.client.send(DONE, self.id)
        elif self.count == REPLICAS:
            del self.replica.writes[self.number]


class Connection(asyncio.Protocol):
    """Frames in; what is sent within one tick leaves in one write."""

    def __init__(self, loop: asyncio.AbstractEventLoop, replica: Replica) -> None:
        self.loop, self.replica = loop, replica
        self.buffer = b""
        self.out: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def send(self, kind: int, id_: int, payload: bytes = b"") -> None:
        """Send a frame at the end of this tick."""
        if not self.out:
            self.loop.call_soon(self.flush)
        self.out.append(HEAD.pack(9 + len(payload), kind, id_))
        self.out.append(payload)

    def flush(self) -> None:
        """Write what was collected."""
        assert self.transport is not None
        self.transport.write(b"".join(self.out))
        self.out = []

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        buffer = self.buffer + data if self.buffer else data
        at, size = 0, len(buffer)
        while size - at >= HEAD.size:
            length, kind, id_ = HEAD.unpack_from(buffer, at)
            if size - at < 4 + length:
                break
            self.on_frame(kind, id_, buffer[at + HEAD.size : at + 4 + length])
            at += 4 + length
        self.buffer = buffer[at:]

    def on_frame(self, kind: int, id_: int, payload: bytes) -> None:
        """A write, a replica's part of one, or its acknowledgement."""
        replica = self.replica
        if kind == WRITE:
            key_bytes = payload[0]
            key, value = payload[1 : 1 + key_bytes], payload[1 + key_bytes :]
            cells = {1: (time.time_ns() // 1000, value)}
            number = replica.sequence << 20 | id_
            write = replica.writes[number] = Quorum(replica, self, id_, number)
            message = encode((key, cells))
            for peer in replica.peers:
                peer.send(APPLY, number, message)
            replica.apply(key, cells)
            replica.commit.add(write.acknowledge)
        elif kind == APPLY:
            replica.apply(*decode_write(payload))
            replica.commit.add(lambda: self.send(APPLIED, id_))
        else:
            replica.writes[id_].acknowledge()


async def _dial(loop: asyncio.AbstractEventLoop, replica: Replica, port: int) -> Connection:
    while True:
        try:
            _, connection = await loop.create_connection(lambda: Connection(loop, replica), "127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(DIAL_PAUSE_S)
        else:
            return connection


async def serve(number: int, port: int, folder: str) -> None:
    """Listen for the other replicas first, then dial them, then listen for clients."""
    loop = asyncio.get_running_loop()
    replica = Replica(loop, folder)
    await loop.create_server(lambda: Connection(loop, replica), "127.0.0.1", port + number)
    for other in range(REPLICAS):
        if other != number:
            replica.peers.append(await _dial(loop, replica, port + other))
    await loop.create_server(lambda: Connection(loop, replica), "127.0.0.1", port + REPLICAS + number)
    await loop.create_future()


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
