"""Events as records of a Kafka topic (aiokafka, an extra).

A record's key is the partition key of the row, so a row's events stay in order in one partition of the topic;
its value is the event in JSON; its headers are `sullae-id` (the same however often the event comes),
`sullae-op` and `content-type`. The producer is idempotent and waits for all in-sync replicas of the topic:
what it sends again by itself is there once. A piece of a batch is delivered when all its records are. If
that fails it is sent again as a whole from the saved cursor, so a consumer drops ids that it has seen.

A record that the broker will never take (too large, for instance) goes to the dead-letter file.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import ssl
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from server.sinks.envelopes import Line, about
from server.sinks.files import FileSink, MissingError
from server.sinks.places import Broker

REQUEST_MS: Final = 20_000
STOP_S: Final = 5.0
LINGER_MS: Final = 5
BATCH_BYTES: Final = 128 * 1024
RECORD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Above what events are as a rule: how much is too much, the broker says."""
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_NEVER: Final = (
    "MessageSizeTooLargeError",
    "RecordListTooLargeError",
    "InvalidRecord",
    "CorruptRecordException",
)


class KafkaAwayError(OSError):
    """The broker did not take it now."""


def kafka() -> Any:
    """aiokafka; raises MissingError."""
    try:
        found = importlib.import_module("aiokafka")
    except ImportError:
        text = "Kafka needs aiokafka on every peer: pip install 'sullae-server[kafka]'"
        raise MissingError(text) from None
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it meets is told of the sink
    return found


def record_key(event: Line, partition: Sequence[str]) -> bytes | None:
    """The key of an event's record: the text of a key or id, or the columns of the partition key in JSON."""
    key = about(event).key
    if key is None:
        return None
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, dict) and partition:
        key = [key.get(name) for name in partition]
    return msgspec.json.encode(key)


class Kafka:
    """One sink's topic. `dead` takes what is refused for good."""

    def __init__(
        self, broker: Broker, login: tuple[str, str, str], partition: Sequence[str], dead: FileSink
    ) -> None:
        """`login` is (mechanism, user, password), all "" for none; `partition` names key columns."""
        self._broker = broker
        self._login = login
        self._partition = tuple(partition)
        self._dead = dead
        self._producer: Any = None

    async def deliver(self, sequence: int, piece: int, events: Sequence[Line]) -> int:
        """Send one piece of a batch; how many events were refused. Raises OSError, MissingError.

        Where the broker refuses something, all from there on is sent once more, one by one: a record may be
        refused for what came with it, and the last of a key's records must be its last event.
        """
        library = kafka()
        refused: list[Line] = []
        first, why = await self._sent(library, events)
        for event in events[first:] if why else ():
            _, why = await self._sent(library, [event])
            if why:
                refused.append({"why": f"refused: {why}"[:500], "event": event})
        if refused:
            await asyncio.to_thread(self._dead.refuse, refused)
        return len(refused)

    async def _sent(self, library: Any, events: Sequence[Line]) -> tuple[int, str]:
        """Where the first event is that was refused for good, and why: "" if all are there.

        Raises KafkaAwayError where it is not known, or may pass.
        """
        try:
            producer = await self._started(library)
            sent = [await self._send(producer, event) for event in events]
        except (library.errors.KafkaError, OSError) as error:
            await self.close()
            hint = "; or the login is refused" if self._login[1] else ""  # the library says no more than this
            raise KafkaAwayError(f"{type(error).__name__}: {error}{hint}") from error
        results = await asyncio.gather(*sent, return_exceptions=True)
        failed = [(at, error) for at, error in enumerate(results) if isinstance(error, BaseException)]
        if not failed:
            return 0, ""
        await self.close()  # a producer's records are counted: after a failure another one begins anew
        never = next((error for _, error in failed if type(error).__name__ in _NEVER), None)
        if never is None:
            raise KafkaAwayError(f"{type(failed[0][1]).__name__}: {failed[0][1]}") from failed[0][1]
        return failed[0][0], f"{type(never).__name__}: {never}"

    async def close(self) -> None:
        """End the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(STOP_S):
                    await producer.stop()
            except (TimeoutError, kafka().errors.KafkaError):
                return  # nobody waits for what it still holds

    async def _started(self, library: Any) -> Any:
        if self._producer is None:
            mechanism, user, password = self._login
            security = ("SASL_" if user else "") + ("SSL" if self._broker.tls else "PLAINTEXT")
            producer = library.AIOKafkaProducer(
                bootstrap_servers=[f"{host}:{port}" for host, port in self._broker.hosts],
                enable_idempotence=True,
                acks="all",
                linger_ms=LINGER_MS,
                max_batch_size=BATCH_BYTES,
                max_request_size=RECORD_BYTES_MAX,
                request_timeout_ms=REQUEST_MS,
                security_protocol=security if self._broker.tls or user else "PLAINTEXT",
                ssl_context=ssl.create_default_context() if self._broker.tls else None,
                sasl_mechanism=mechanism or MECHANISMS[0],
                sasl_plain_username=user or None,
                sasl_plain_password=password or None,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _send(self, producer: Any, event: Line) -> asyncio.Future[Any]:
        """A future of the record's outcome."""
        told = about(event)
        headers = [
            ("sullae-id", (told.id or "").encode()),
            ("sullae-op", told.operation.encode()),
            ("content-type", b"application/json"),
        ]
        key, value = record_key(event, self._partition), msgspec.json.encode(event)
        try:
            sent: asyncio.Future[Any] = await producer.send(
                self._broker.topic, value, key=key, headers=headers
            )
        except kafka().errors.MessageSizeTooLargeError as error:
            sent = asyncio.get_running_loop().create_future()
            sent.set_exception(error)
        sent.add_done_callback(_seen)
        return sent


def _seen(outcome: asyncio.Future[Any]) -> None:
    """What becomes of a record is asked by nobody if a later one could not be sent at all."""
    if not outcome.cancelled():
        outcome.exception()
