"""Events as messages of an MQTT topic (aiomqtt, an extra), at QoS 1.

The payload is the event in JSON, which has its `id`; so has the user property `sullae-id` (MQTT 5). A piece
of a batch is delivered when the broker has acknowledged all its messages. If the connection breaks before,
the piece comes again from the saved cursor: a subscriber drops ids that it has seen. Messages go out in the
order of the stream, `IN_FLIGHT` at a time.

A message that is larger than MQTT or the broker allows goes to the dead-letter file.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ssl
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from server.sinks.envelopes import Line, about
from server.sinks.files import FileSink, MissingError
from server.sinks.places import Broker

TIMEOUT_S: Final = 15.0
IN_FLIGHT: Final = 20
"""Brokers commonly take so many unacknowledged messages of one client."""


class MqttAwayError(OSError):
    """The broker did not take it now."""


def mqtt() -> Any:
    """aiomqtt; raises MissingError."""
    try:
        return importlib.import_module("aiomqtt")
    except ImportError:
        text = "MQTT needs aiomqtt on every peer: pip install 'sullae-server[mqtt]'"
        raise MissingError(text) from None


class Mqtt:
    """One sink's topic. `dead` takes what is refused for good."""

    def __init__(self, broker: Broker, login: tuple[str, str], dead: FileSink) -> None:
        """`login` is (user, password), both "" for none."""
        self._broker = broker
        self._login = login
        self._dead = dead
        self._stack = contextlib.AsyncExitStack()
        self._client: Any = None
        self._watch: asyncio.Task[None] | None = None
        """Ends when the connection does."""

    async def deliver(self, sequence: int, piece: int, events: Sequence[Line]) -> int:
        """Publish one piece of a batch; how many events were refused. Raises OSError, MissingError."""
        library = mqtt()
        refused: list[Line] = []
        try:
            client = await self._connected(library)
            for at in range(0, len(events), IN_FLIGHT):
                those = events[at : at + IN_FLIGHT]
                outcomes = await self._published(client, those)
                for event, outcome in zip(those, outcomes, strict=True):
                    if isinstance(outcome, ValueError):
                        refused.append({"why": f"refused: {outcome}"[:500], "event": event})
                    elif outcome is not None:
                        raise outcome
        except MqttAwayError:
            await self.close()
            raise
        except (library.MqttError, TimeoutError) as error:
            await self.close()
            raise MqttAwayError(f"{type(error).__name__}: {error}") from error
        if refused:
            await asyncio.to_thread(self._dead.refuse, refused)
        return len(refused)

    async def _published(self, client: Any, events: Sequence[Line]) -> list[BaseException | None]:
        """What became of each; raises MqttAwayError as soon as the connection is lost."""
        assert self._watch is not None
        work = asyncio.gather(*(self._publish(client, event) for event in events), return_exceptions=True)
        work.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # nobody asks, once it is lost
        try:
            await asyncio.wait((work, self._watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise MqttAwayError("the connection to the broker was lost")
            return work.result()
        finally:
            work.cancel()

    async def close(self) -> None:
        """End the connection."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        self._client, stack = None, self._stack
        self._stack = contextlib.AsyncExitStack()
        with contextlib.suppress(mqtt().MqttError, TimeoutError):  # it is gone already
            await stack.aclose()

    async def _connected(self, library: Any) -> Any:
        if self._client is None:
            ((host, port),) = self._broker.hosts
            user, password = self._login
            client = library.Client(
                host,
                port,
                username=user or None,
                password=password or None,
                protocol=library.ProtocolVersion.V5,
                timeout=TIMEOUT_S,
                max_inflight_messages=IN_FLIGHT,
                tls_context=ssl.create_default_context() if self._broker.tls else None,
            )
            client.pending_calls_threshold = IN_FLIGHT
            self._client = await self._stack.enter_async_context(client)
            self._watch = asyncio.get_running_loop().create_task(_until_lost(client))
        return self._client

    async def _publish(self, client: Any, event: Line) -> None:
        """Returns when the broker has it; raises ValueError for what no broker takes."""
        properties = importlib.import_module("paho.mqtt.properties")
        kinds = importlib.import_module("paho.mqtt.packettypes").PacketTypes
        told = properties.Properties(kinds.PUBLISH)
        told.UserProperty = ("sullae-id", about(event).id or "")
        told.ContentType = "application/json"
        await client.publish(
            self._broker.topic, msgspec.json.encode(event), qos=1, properties=told, timeout=TIMEOUT_S
        )


async def _until_lost(client: Any) -> None:
    """Returns when the connection is lost: nothing is subscribed to, so nothing else ends this."""
    with contextlib.suppress(mqtt().MqttError):
        async for _ in client.messages:
            continue
