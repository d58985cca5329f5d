"""What the store keeps of each sink, in the bucket `sullae_sinks`: one JSON record by name.

It says what the sink is (changed by people), whose it is (node/leases.py), and how far it is (changed by
its owner). All of it changes only by conditional updates at SERIAL. A sink is a client of its own peer,
over REST like any other: what it relies on is what everybody can rely on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec

from node.group_records import SINKS
from node.leases import Lease
from server.sinks.envelopes import PLAIN

BUCKET: Final = SINKS
KINDS: Final = ("ndjson", "parquet", "webhook", "kafka", "mqtt")
FILE_KINDS: Final = KINDS[:2]
SINKS_MAX: Final = 200
EVERY_S: Final = 5.0
EVERY_S_MAX: Final = 3600.0
ATTEMPTS: Final = 20
ERROR_CHARS_MAX: Final = 500
TIMEOUT: Final = aiohttp.ClientTimeout(total=15)
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_COUNT_MAX: Final = 2**53
_GONE: Final = 404
_CONFLICT: Final = 412


class SinkRecord(msgspec.Struct, frozen=True):
    """A sink. `start` is where it begins, `cursor` where it stands once it has delivered something.

    `url` is where a webhook, Kafka or MQTT is, `user` whom to be there, `secret` a reference to what proves
    it (server/sinks/secrets.py), `mechanism` how Kafka wants it proved; `envelope` is the form of events
    (server/sinks/envelopes.py), `partition` the columns of the table's partition key. `declared` is a hash of
    the declaration in cluster.yml that was applied last; a declared sink that is `removed` stays as a mark
    that this declaration is done with. A batch is closed by the first heartbeat `every_s` seconds after it
    began, or by its size. `sequence` numbers batches; `delivered` counts events (repeated ones too),
    `refused` those in the dead-letter file, `gaps` what the stream itself could not give.
    """

    name: str
    table: str
    kind: str
    start: str
    every_s: float = EVERY_S
    url: str = ""
    user: str = ""
    secret: str = ""
    mechanism: str = ""
    envelope: str = PLAIN
    partition: tuple[str, ...] = ()
    declared: str = ""
    removed: bool = False
    paused: bool = False
    generation: str = ""
    owner: str = ""
    fence: int = 0
    beat: int = 0
    cursor: str = ""
    sequence: int = 0
    delivered: int = 0
    refused: int = 0
    gaps: int = 0
    delivered_at: str = ""
    error: str = ""

    @property
    def lease(self) -> Lease:
        """Whose it is."""
        return Lease(self.owner, self.fence, self.beat)

    def lag_s(self, now_s: float) -> float | None:
        """How long ago what was delivered last stood at the end of the stream; None before that."""
        if not self.delivered_at:
            return None
        return max(0.0, now_s - datetime.fromisoformat(self.delivered_at).timestamp())

    def leased(self, lease: Lease) -> SinkRecord:
        """The same with another lease."""
        return msgspec.structs.replace(self, owner=lease.owner, fence=lease.fence, beat=lease.beat)


class Kept(NamedTuple):
    """A record and the entity tag under which it may be changed."""

    record: SinkRecord
    etag: str


class StoreAwayError(Exception):
    """The store did not answer, or not now; try again later."""


_decode = msgspec.json.Decoder(SinkRecord).decode
_encode = msgspec.json.Encoder().encode


def _record_of(name: str, body: bytes) -> SinkRecord:
    """The record in a value; raises StoreAwayError for any other, as the bucket takes what a client puts."""
    try:
        record = _decode(body)
        record.lag_s(0.0)
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise StoreAwayError(f"{BUCKET}/{name} is no record of a sink: {error}") from None
    counts = (record.fence, record.beat, record.sequence, record.delivered, record.refused, record.gaps)
    if record.name != name or NAME.fullmatch(name) is None or not all(0 <= n < _COUNT_MAX for n in counts):
        raise StoreAwayError(f"{BUCKET}/{name} is no record of a sink of this name")
    return record


class SinkRecords:
    """The records, through one peer's REST interface."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url}/v1/kv/{BUCKET}"

    async def names(self) -> list[str]:
        """Every sink's name, in order; raises StoreAwayError."""
        try:
            async with self._session.get(self._url, params={"limit": SINKS_MAX}, timeout=TIMEOUT) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StoreAwayError(str(error)) from error
        if answer.status == _GONE:
            return []  # the first sink makes the bucket
        if answer.status != 200:
            raise StoreAwayError(f"listing sinks: {answer.status}")
        lines = [msgspec.json.decode(line) for line in body.splitlines()]
        if not lines or "status" in lines[-1]:
            raise StoreAwayError("the list of sinks broke off")
        return sorted(line["key"] for line in lines if "key" in line)

    async def get(self, name: str) -> Kept | None:
        """The record as of now, None if there is none; raises StoreAwayError."""
        try:
            async with self._session.get(
                self._target(name), params={"consistency": "serial"}, timeout=TIMEOUT
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StoreAwayError(str(error)) from error
        if answer.status == _GONE:
            return None
        if answer.status != 200:
            raise StoreAwayError(f"reading the sink {name}: {answer.status}")
        return Kept(_record_of(name, body), answer.headers["ETag"])

    async def swap(self, before: Kept | None, record: SinkRecord | None, name: str) -> bool:
        """Replace what is there by `record` (None: nothing) if it is still `before` (None: nothing).

        False if it is not; raises StoreAwayError where that is not known.
        """
        condition = {"If-None-Match": "*"} if before is None else {"If-Match": before.etag}
        headers = {**condition, "Content-Type": "application/json"}
        method = "DELETE" if record is None else "PUT"
        data = None if record is None else _encode(record)
        try:
            async with self._session.request(
                method, self._target(name), data=data, headers=headers, timeout=TIMEOUT
            ) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StoreAwayError(str(error)) from error
        if answer.status in (_CONFLICT, _GONE):
            return False
        if answer.status not in (200, 201, 204):
            raise StoreAwayError(f"writing the sink {name}: {answer.status}")
        return True

    async def change(
        self, name: str, changed: Callable[[SinkRecord], SinkRecord | None]
    ) -> SinkRecord | None:
        """Have the record be `changed` of what it is; None if there is none, or `changed` gives none.

        Rivals are let go first. Where it is not known whether it was done it is done again, so `changed`
        must bear that. Raises StoreAwayError.
        """
        for _ in range(ATTEMPTS):
            kept = await self.get(name)
            if kept is None:
                return None
            wanted = changed(kept.record)
            if wanted is None or await self.swap(kept, wanted, name):
                return wanted
        raise StoreAwayError(f"the sink {name} is changed by others all the time")

    def _target(self, name: str) -> str:
        return f"{self._url}/{quote(name, safe='')}"
