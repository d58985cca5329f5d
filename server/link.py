"""The way to one address: what waits to be sent there, and the two connections that carry it."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core import limits
from core.bulk_messages import ApplyEach
from core.messages import ApplyMutation, Hello, Message, MutationApplied, MutationsApplied, encode_message
from core.ports import BULK, SMALL, URGENT, PeerId
from server.connections import Outgoing
from server.frames import BULK_KIND, LENGTH, SMALL_KIND

if TYPE_CHECKING:
    from server.transport import Transport

CONNECT_S = 3.0
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 3.0
APPLY_OVERHEAD_BYTES = 24
JOINED_FRAME_BYTES_MAX = limits.SMALL_FRAME_BYTES_MAX - 256
"""What an apply takes in a joined message beside its mutation, at most; and how long such a one may be."""
WRITE_CHUNK_BYTES = 256 * limits.KIB
"""So much at once, lest what becomes urgent next wait behind more."""


class Link:
    """The way to one address: what waits for it, and the two connections we dialled."""

    def __init__(self, transport: Transport, address: str) -> None:
        self.address = address
        self.expected: PeerId | None = None
        self.peer: PeerId | None = None
        self.dirty = False
        self.is_up = False
        """Whether messages leave on it now."""
        self.lanes: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
        self.waiting = [0, 0, 0]
        self.applied: list[int] = []
        """Operations whose mutations are durable here: to be told in one message."""
        self.applies: list[ApplyMutation] = []
        self.applies_bytes = 0
        """Mutations to be applied there, to be told in as few messages as may be; they count as waiting."""
        self._transport = transport
        self._connections: list[Outgoing | None] = [None, None]
        self._dialling = [False, False]
        self._failures = 0
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False

    def up(self) -> bool:
        """Whether messages leave on it now."""
        small = self._connections[SMALL_KIND]
        return small is not None and small.accepted

    def waiting_bytes(self) -> int:
        """Bytes in the lanes and in the buffers before the kernel."""
        buffered = (c.transport.get_write_buffer_size() for c in self._connections if c and c.transport)
        return sum(self.waiting) + sum(buffered)

    def usable(self) -> bool:
        """Whether a message would leave or wait for a connection that is being made."""
        if self._connections[SMALL_KIND] is None:
            self.wanted()
        return self._retry is None and not self._closed

    def wanted(self) -> None:
        """Make the small connection unless it is there, under way, or failed a moment ago."""
        if self._connections[SMALL_KIND] is None and self._retry is None:
            self._dial(SMALL_KIND)

    def alive(self) -> None:
        """Who is at this address has just dialled us: do not sit out a pause that its absence caused."""
        self.forgive()
        self.wanted()

    def forgive(self) -> None:
        """The pause is over: who was refused as a stranger is a member now, or who was away is back."""
        if self._retry is not None and self._connections[SMALL_KIND] is None:
            self._retry.cancel()
            self._retry = None
            self._failures = 0

    def _dial(self, kind: int) -> None:
        if not (self._dialling[kind] or self._closed or self._transport.stopping):
            self._dialling[kind] = True
            self._transport.spawn(self._connect(kind))

    async def _connect(self, kind: int) -> None:
        transport, options = self._transport, self._transport.options
        try:
            ipaddress.ip_address(self.address)  # a hello may bring any text: none is looked up as a name
            async with asyncio.timeout(CONNECT_S):
                await transport.loop.create_connection(
                    lambda: Outgoing(transport, self, kind),
                    self.address,
                    options.port,
                    ssl=options.tls[1] if options.tls else None,
                    local_addr=(options.address, 0),
                )
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a hello's address that is none
            self._dialling[kind] = False
            level = "info" if isinstance(error, ssl.SSLError) else "debug"
            transport.log(level, "dial_failed", f"{self.address}: {error!r}")
            self._failed(kind, 0.0)

    def opened(self, connection: Outgoing) -> None:
        """TCP (and TLS) is there; the hellos are not."""
        self._dialling[connection.kind] = False
        self._connections[connection.kind] = connection
        if self._closed or self._transport.stopping:
            connection.close()

    def accepted(self, connection: Outgoing, hello: Hello) -> None:
        """Both hellos are accepted."""
        if connection.kind == SMALL_KIND:
            self.is_up = not self._closed
            self._failures = 0
            self._transport.dialled(self, hello)
        self.flush()

    def gone(self, connection: Outgoing, pause_s: float) -> None:
        """A connection ended; `pause_s` is the least time until the next."""
        if self._connections[connection.kind] is not connection:
            return
        self._connections[connection.kind] = None
        if connection.kind == SMALL_KIND:
            self.is_up = False
        self._failed(connection.kind, pause_s)
        if connection.kind == SMALL_KIND and self.peer is not None:
            self._transport.update(self.peer)

    def _failed(self, kind: int, pause_s: float) -> None:
        """Drop what waited; after a pause that doubles, with jitter, dial again (bulk when it is needed)."""
        for lane in (BULK,) if kind == BULK_KIND else (URGENT, SMALL, BULK):
            self.lanes[lane].clear()
            self.waiting[lane] = 0
        if kind == SMALL_KIND:
            self.applied.clear()
            self.applies, self.applies_bytes = [], 0
        if kind == BULK_KIND or self._closed or self._transport.stopping or self._retry is not None:
            return
        pause_s = max(pause_s, min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**self._failures))
        self._failures = min(self._failures + 1, 16)
        self._retry = self._transport.loop.call_later(self._transport.jittered(pause_s), self._again)

    def _again(self) -> None:
        self._retry = None
        self.wanted()

    def flush(self) -> None:
        """Write what waits, urgent first, as far as the kernel and the buffers before it take it."""
        small, bulk = self._connections
        if small is not None and small.accepted:
            self._flush_small(small)
        if self.lanes[BULK]:
            if bulk is None:
                self._dial(BULK_KIND)
            elif bulk.accepted:
                self._flush_bulk(bulk)

    def _flush_bulk(self, bulk: Outgoing) -> None:
        frames = self.lanes[BULK]
        assert bulk.transport is not None
        taken = 0
        while taken < len(frames) and not bulk.paused and not bulk.closed:
            pair = frames[taken : taken + 2]  # length and body
            size = len(pair[0]) + len(pair[1])
            self.waiting[BULK] -= size
            self._written(size)
            bulk.transport.writelines(pair)
            taken += 2
        del frames[:taken]

    def _flush_small(self, small: Outgoing) -> None:
        urgent, frames, _ = self.lanes
        assert small.transport is not None
        if self.applied:
            frame = _frame_of(self.applied)
            frames.append(frame)
            self.waiting[SMALL] += len(frame)
            self.applied.clear()
        if self.applies:
            joined = self._transport.joined(self.applies)
            frames += joined
            self.waiting[SMALL] += sum(map(len, joined)) - self.applies_bytes
            self.applies, self.applies_bytes = [], 0
        while (urgent or frames) and not small.paused and not small.closed:
            if self.waiting[0] + self.waiting[1] <= WRITE_CHUNK_BYTES:
                data = b"".join(urgent + frames)
                urgent.clear()
                frames.clear()
                self.waiting[0] = self.waiting[1] = 0
            else:
                data = self._chunk(urgent, frames)
            self._written(len(data))
            small.transport.write(data)

    def _chunk(self, urgent: list[bytes], frames: list[bytes]) -> bytes:
        """All that is urgent and so much of the rest that what becomes urgent next need not wait long."""
        parts, size = urgent[:], self.waiting[0]
        urgent.clear()
        self.waiting[0] = 0
        taken = 0
        while taken < len(frames) and size < WRITE_CHUNK_BYTES:
            size += len(frames[taken])
            self.waiting[1] -= len(frames[taken])
            taken += 1
        parts += frames[:taken]
        del frames[:taken]
        return b"".join(parts)

    def _written(self, size: int) -> None:
        counters = self._transport.counters
        counters.writes += 1
        counters.bytes_sent += size

    def close(self) -> None:
        """End both connections and dial no more."""
        self._closed = True
        self.is_up = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for connection in self._connections:
            if connection is not None:
                connection.close()

    def abort(self) -> None:
        """The same, without waiting for what was written."""
        self.close()
        for connection in self._connections:
            if connection is not None:
                connection.abort()


def _frame_of(applied: list[int]) -> bytes:
    """The frame that tells of these operations."""
    one = len(applied) == 1
    return _frame(MutationApplied(applied[0], None) if one else MutationsApplied(tuple(applied)))


def _frame(message: Message) -> bytes:
    body = encode_message(message)
    return LENGTH.pack(len(body)) + body


def frames_of(applies: Sequence[ApplyMutation]) -> list[bytes]:
    """The frames that tell of these: neighbours of one epoch and table share one, up to its longest."""
    if len(applies) == 1:
        return [_frame(applies[0])]
    frames: list[bytes] = []
    some: list[tuple[int, bytes]] = []
    epoch, table, left_us, size = 0, 0, 0, 0
    for message in applies:
        more = len(message.mutation) + APPLY_OVERHEAD_BYTES
        if some and (
            message.epoch != epoch or message.table != table or size + more > JOINED_FRAME_BYTES_MAX
        ):
            frames.append(_frame(ApplyEach(epoch, table, tuple(some), left_us)))
            some = []
        if not some:
            epoch, table, left_us, size = message.epoch, message.table, message.left_us, 0
        some.append((message.op, message.mutation))
        left_us = min(left_us, message.left_us)
        size += more
    frames.append(_frame(ApplyEach(epoch, table, tuple(some), left_us)))
    return frames
