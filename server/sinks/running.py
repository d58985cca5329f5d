"""The sinks of this peer: which are ours, and their streams.

One task looks at all records every `POLL_S`, decides by node/leases.py, and starts and stops a task for
each sink that is ours. Such a task reads the table's stream from the record's cursor, delivers what came
before a heartbeat's cursor as one batch, and only then saves that cursor, with the lease it holds as its
condition. So an event is lost by no failure: what was delivered and not saved is delivered again, here or
by the next owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import aiohttp
import msgspec

from node.leases import LEAVE, OWN, TAKE, Lease, LeaseWatch, released, renewed
from server.config import SinkConfig
from server.sinks.declared import Declarations
from server.sinks.envelopes import PLAIN, Line, control_of
from server.sinks.files import FileSink, MissingError
from server.sinks.kafka import Kafka
from server.sinks.mqtt import Mqtt
from server.sinks.places import broker_of, place_problem
from server.sinks.records import ERROR_CHARS_MAX, FILE_KINDS, SinkRecord, SinkRecords, StoreAwayError
from server.sinks.secrets import secret_of
from server.sinks.webhook import PrivateAddressError, Webhook

POLL_S: Final = 1.0
EXPIRY_S: Final = 6.0
"""A lease whose owner has not renewed it for so long is taken over."""
BATCH_EVENTS: Final = 5_000
"""At so many a piece of the batch is delivered before its cursor has come."""
SILENCE_S: Final = 10.0
GIVE_BACK_S: Final = 2.0
LINE_BYTES_MAX: Final = 64 * 1024 * 1024
PAUSES_S: Final = (0.1, 0.5, 2.0, 5.0)

Note = Callable[[str, str], None]
"""Is told what happened to a sink: (name, text)."""


_exactly: Final = msgspec.json.Decoder(float_hook=lambda text: msgspec.Raw(text.encode())).decode
"""Numbers that are no integers stay as they were written: a float would round them, and ends at 1e308."""


class LeaseLostError(Exception):
    """The sink is somebody else's, paused, changed or gone."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How often and how long, and what is allowed; tests have less patience."""

    poll_s: float = POLL_S
    expiry_s: float = EXPIRY_S
    private: bool = False
    """Whether sinks may go to private addresses."""
    secrets: Path | None = None
    """The folder of secrets that are files."""
    tls: ssl.SSLContext | None = None
    """With which our own REST address is asked, if it speaks TLS."""


class Sinks:
    """All sinks, as this peer sees them."""

    def __init__(self, url: str, me: str, folder: Path, note: Note, terms: Terms | None = None) -> None:
        """`url` is our own REST address, `me` this start of this peer; files are written below `folder`."""
        self._url = url
        self._me = me
        self._folder = folder
        self._note = note
        self._terms = terms or Terms()
        self._watch = LeaseWatch(me, int(self._terms.expiry_s * 1e6))
        self._running: dict[str, tuple[tuple[int, str], asyncio.Task[None]]] = {}
        self._own: dict[str, SinkRecord] = {}
        self._declarations: Declarations | None = None
        self._poller: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    def start(self, declared: Sequence[SinkConfig] = ()) -> None:
        """Begin to look after sinks, and see to it that those of cluster.yml are there."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self._terms.tls or True)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=2**20)
        self._declarations = Declarations(self._session, self._url, declared, self._note)
        self._poller = asyncio.get_running_loop().create_task(self._poll())
        self._poller.add_done_callback(self._ended)

    def _ended(self, poller: asyncio.Task[None]) -> None:
        """Looking after sinks never ends by itself: that is a bug, told to the loop, which ends the peer."""
        if not poller.cancelled():
            poller.result()

    @property
    def private(self) -> bool:
        """Whether sinks may go to private addresses."""
        return self._terms.private

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """What this peer delivers now, for the metrics: name, labels, value."""
        found = []
        for name, record in sorted(self._own.items()):
            label = {"sink": name}
            found.append(("sink_events_total", label, float(record.delivered)))
            found.append(("sink_refused_total", label, float(record.refused)))
            found.append(("sink_gaps_total", label, float(record.gaps)))
            found.append(("sink_failing", label, float(bool(record.error))))
            lag_s = record.lag_s(time.time())
            if lag_s is not None:
                found.append(("sink_lag_seconds", label, lag_s))
        return found

    @property
    def records(self) -> SinkRecords:
        """The records, for who lists or changes them; after `start`."""
        assert self._session is not None
        return SinkRecords(self._session, self._url)

    async def stop(self) -> None:
        """Stop delivering and give the leases back, so that another peer takes over at once."""
        if self._session is None or self._poller is None:
            return
        self._poller.cancel()
        tasks = [self._poller, *(task for _, task in self._running.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        records = self.records
        with contextlib.suppress(TimeoutError):  # those not given back are taken over a little later
            async with asyncio.timeout(GIVE_BACK_S):
                given = [records.change(name, self._given_back) for name in self._running]
                await asyncio.gather(*given, return_exceptions=True)
        await self._session.close()

    def _given_back(self, record: SinkRecord) -> SinkRecord | None:
        return record.leased(released(record.lease)) if record.owner == self._me else None

    async def _poll(self) -> None:
        records = self.records
        while True:
            with contextlib.suppress(StoreAwayError):  # the next round asks again
                if self._declarations is not None:
                    await self._declarations.apply()
                names = await records.names()
                for name in names:
                    with contextlib.suppress(StoreAwayError):
                        await self._look(records, name)
                for name in [name for name in self._running if name not in names]:
                    await self._end(name)
                    self._watch.forget(name)
            await asyncio.sleep(self._terms.poll_s)

    async def _look(self, records: SinkRecords, name: str) -> None:
        """Take, keep or leave one sink."""
        kept = await records.get(name)
        self._own.pop(name, None)
        if kept is None or kept.record.removed:
            await self._end(name)
            return
        record = kept.record
        decision = self._watch.decide(name, record.lease, time.monotonic_ns() // 1000)
        if record.paused:
            decision = LEAVE
            if record.owner == self._me:
                await records.change(name, self._given_back)
        lease: Lease | None = None
        if decision == TAKE:
            lease = self._watch.taken(record.lease)
            self._note(name, f"taking over (fence {lease.fence})")
        elif decision == OWN:
            lease = renewed(record.lease)
        if lease is None or not await records.swap(kept, record.leased(lease), name):
            if decision != OWN:
                await self._end(name)
            return
        self._own[name] = record
        mark = lease.fence, record.generation
        running = self._running.get(name)
        if running is not None and running[0] == mark and not running[1].done():
            return
        await self._end(name)
        delivery = Delivery(self._url, records, self._folder / name, mark, self._terms)
        task = asyncio.get_running_loop().create_task(self._deliver(name, delivery))
        self._running[name] = mark, task

    async def _end(self, name: str) -> None:
        running = self._running.pop(name, None)
        if running is not None:
            running[1].cancel()
            await asyncio.gather(running[1], return_exceptions=True)

    async def _deliver(self, name: str, delivery: Delivery) -> None:
        """Until the lease is lost; what goes wrong is told and tried again."""
        assert self._session is not None
        failed = 0
        while True:
            try:
                await delivery.run(self._session, name)
                failed = 0
            except LeaseLostError as error:
                self._note(name, f"given up: {error}")
                return
            except (
                StoreAwayError,
                aiohttp.ClientError,
                OSError,
                MissingError,
                ValueError,
                msgspec.DecodeError,
            ) as error:
                why = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
                self._note(name, why)
                with contextlib.suppress(StoreAwayError, LeaseLostError):
                    await delivery.tell(name, why)
            await asyncio.sleep(PAUSES_S[min(failed, len(PAUSES_S) - 1)])
            failed += 1


class Target(Protocol):
    """What takes batches."""

    async def deliver(self, sequence: int, piece: int, events: Sequence[Line]) -> int:
        """Take one piece of a batch; how many events were refused for good. Raises what may pass."""

    async def close(self) -> None:
        """There are no more."""


class Files:
    """Files as a target: written in a thread."""

    def __init__(self, files: FileSink) -> None:
        self._files = files

    async def deliver(self, sequence: int, piece: int, events: Sequence[Line]) -> int:
        """See FileSink."""
        return await asyncio.to_thread(self._files.deliver, sequence, piece, events)

    async def close(self) -> None:
        """Files are closed as they are written."""


@dataclass(slots=True)
class Delivery:
    """One sink that is ours under this mark: the fence of our lease, and the generation of its definition."""

    url: str
    records: SinkRecords
    folder: Path
    mark: tuple[int, str]
    terms: Terms
    _events: list[Line] = field(default_factory=list)
    _pieces: int = 0
    _count: int = 0
    _refused: int = 0
    _gaps: int = 0

    async def run(self, session: aiohttp.ClientSession, name: str) -> None:
        """Deliver until the stream ends; raises LeaseLostError, and whatever went wrong."""
        kept = await self.records.get(name)
        record = self._ours(kept.record if kept is not None else None)
        target = self._target(record)
        try:
            await self._follow(session, record, target)
        finally:
            await target.close()

    def _target(self, record: SinkRecord) -> Target:
        """What takes batches; raises OSError where this peer cannot deliver there."""
        files = FileSink(self.folder, record.kind, self.mark[0])
        if record.kind in FILE_KINDS:
            return Files(files)
        problem = place_problem(record.kind, record.url, self.terms.private)
        if problem:
            raise PrivateAddressError(problem)
        secret = secret_of(record.secret, self.terms.secrets)
        if record.kind == "webhook":
            return Webhook(record.name, (record.url, secret), files, private=self.terms.private)
        broker = broker_of(record.kind, record.url)
        if record.kind == "kafka":
            return Kafka(broker, (record.mechanism, record.user, secret), record.partition, files)
        return Mqtt(broker, (record.user, secret), files)

    async def _follow(self, session: aiohttp.ClientSession, record: SinkRecord, files: Target) -> None:
        self._events, self._pieces, self._count, self._refused, self._gaps = [], 0, 0, 0, 0
        began_s = time.monotonic()
        async for line in _lines(session, self.url, record):
            control = control_of(line)
            if control is None:
                self._events.append(line)
                if len(self._events) >= BATCH_EVENTS:
                    await self._put(files, record)
            elif control["type"] == "gap":
                self._gaps += 1
            elif control["type"] == "error":
                raise StoreAwayError(str(control.get("detail", "the stream ended")))
            elif control["type"] == "heartbeat" and control.get("cursor"):
                full = self._count + len(self._events) >= BATCH_EVENTS
                if full or time.monotonic() - began_s >= record.every_s:
                    record = await self._close(files, record, control)
                    began_s = time.monotonic()

    async def _put(self, files: Target, record: SinkRecord) -> None:
        """Deliver what is held as a piece of the batch."""
        events, self._events = self._events, []
        self._refused += await files.deliver(record.sequence, self._pieces, events)
        self._pieces += 1
        self._count += len(events)

    async def _close(self, files: Target, record: SinkRecord, beat: Line) -> SinkRecord:
        """Deliver the rest, then save that all up to the heartbeat is."""
        if self._events:
            await self._put(files, record)
        count, refused, gaps = self._count, self._refused, self._gaps

        def saved(found: SinkRecord) -> SinkRecord:
            self._ours(found)
            if found.cursor == beat["cursor"]:
                return found
            return msgspec.structs.replace(
                found,
                cursor=beat["cursor"],
                sequence=record.sequence + (1 if count else 0),
                delivered=found.delivered + count,
                refused=found.refused + refused,
                gaps=found.gaps + gaps,
                delivered_at=beat["time"],
                error="",
            )

        after = await self.records.change(record.name, saved)
        self._pieces = self._count = self._refused = self._gaps = 0
        return self._ours(after)

    def _ours(self, record: SinkRecord | None) -> SinkRecord:
        if record is None:
            raise LeaseLostError("the sink was removed")
        if (record.fence, record.generation) != self.mark or record.paused or record.removed:
            raise LeaseLostError("it is another peer's, paused, or was changed")
        return record

    async def tell(self, name: str, why: str) -> None:
        """Note in the record what keeps the sink from delivering."""
        await self.records.change(name, lambda found: msgspec.structs.replace(self._ours(found), error=why))


async def _lines(session: aiohttp.ClientSession, url: str, record: SinkRecord) -> AsyncIterator[Line]:
    """The stream's lines from where the sink stands; raises StoreAwayError where it is refused."""
    target = f"{url}/v1/changes/{quote(record.table, safe='')}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE_S)
    asked = {"from": record.cursor or record.start, "format": "ndjson"}
    if record.envelope != PLAIN:
        asked["envelope"] = record.envelope
    async with session.get(target, params=asked, timeout=timeout) as answer:
        if answer.status != 200:
            body = await answer.content.read(64 * 1024)
            raise StoreAwayError(
                f"the stream of {record.table}: {answer.status} {body.decode(errors='replace')}"
            )
        held = bytearray()
        async for chunk in answer.content.iter_any():
            held += chunk
            if len(held) > LINE_BYTES_MAX:
                raise ValueError("a line of the stream is longer than any event")
            *whole, rest = bytes(held).split(b"\n")
            held = bytearray(rest)
            for text in whole:
                line: Line = _exactly(text)
                yield line
