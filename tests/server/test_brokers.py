"""Kafka and MQTT as sinks: a producer that fails as told, and a broker that cuts connections."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.sinks import kafka, running as sinks_running
from server.sinks.files import REFUSED, FileSink
from server.sinks.kafka import Kafka, KafkaAwayError, record_key
from server.sinks.mqtt import Mqtt, MqttAwayError
from server.sinks.places import Broker, broker_of, place_problem
from server.sinks.running import Sinks, Terms
from server.sinks.secrets import SecretError, reference_problem, secret_of
from tests.server.mqtt_broker import running
from tests.server.test_sinks import EVENTS, FAST, World, event, serving, until

errors = pytest.importorskip("aiokafka.errors")
pytest.importorskip("aiomqtt")


class Topic:
    """A topic, and producers of it; `fates` says what becomes of a key's next records."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes | None, dict[str, Any], dict[str, bytes]]] = []
        self.fates: dict[bytes, list[BaseException]] = {}
        self.producers = 0
        self.open = 0

    def producer(self, **options: Any) -> FakeProducer:
        assert options["enable_idempotence"] and options["acks"] == "all"
        return FakeProducer(self)


class FakeProducer:
    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    async def start(self) -> None:
        self._topic.producers += 1
        self._topic.open += 1

    async def stop(self) -> None:
        self._topic.open -= 1

    async def send(
        self, name: str, value: bytes, key: bytes | None, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        fates = self._topic.fates.get(key or b"", [])
        if fates:
            done.set_exception(fates.pop(0))
        else:
            self._topic.records.append((key, json.loads(value), dict(headers)))
            done.set_result(None)
        return done


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    topic = Topic()
    library = SimpleNamespace(AIOKafkaProducer=topic.producer, errors=errors)
    monkeypatch.setattr(kafka, "kafka", lambda: library)
    return topic


def sink(folder: Path, partition: tuple[str, ...] = ()) -> Kafka:
    return Kafka(Broker((("127.0.0.1", 1),), False, "t"), ("", "", ""), partition, FileSink(folder, "kafka"))


async def test_a_record_has_the_partition_key_the_event_and_its_id(topic: Topic, tmp_path: Path) -> None:
    target = sink(tmp_path)
    assert await target.deliver(1, 0, [event(1), event(2)]) == 0
    await target.close()
    (key, value, headers), second = topic.records
    assert (key, value) == (b"k1", event(1)) and second[0] == b"k2"
    assert headers == {"sullae-id": b"1-1-0", "sullae-op": b"insert", "content-type": b"application/json"}
    assert topic.producers == 1 and topic.open == 0


def test_rows_of_one_partition_have_one_key() -> None:
    rows = [{"key": {"city": "서울", "day": day, "n": 1}} for day in (1, 2)]
    assert {record_key(row, ("city",)) for row in rows} == {'["서울"]'.encode()}
    assert record_key(rows[0], ("city", "day")) == '["서울",1]'.encode()
    assert record_key({"key": None}, ()) is None


async def test_what_the_broker_refuses_goes_to_the_dead_letters_and_nothing_else_does(
    topic: Topic, tmp_path: Path
) -> None:
    never = errors.MessageSizeTooLargeError("too large")
    topic.fates = {b"k3": [never, never], b"k4": [errors.OutOfOrderSequenceNumber()], b"k6": [never]}
    assert await sink(tmp_path).deliver(1, 0, [event(number) for number in range(8)]) == 1
    (line,) = (tmp_path / REFUSED).read_text().splitlines()
    assert json.loads(line)["event"]["key"] == "k3" and "too large" in json.loads(line)["why"]
    last = {key: at for at, (key, _, _) in enumerate(topic.records)}
    assert list(dict(sorted(last.items(), key=lambda item: item[1]))) == [
        b"k0", b"k1", b"k2", b"k4", b"k5", b"k6", b"k7"
    ], "the last of each key stands in the order of the stream"  # fmt: skip


async def test_a_broker_that_is_away_refuses_nothing(topic: Topic, tmp_path: Path) -> None:
    topic.fates = {b"k1": [errors.KafkaTimeoutError()]}
    target = sink(tmp_path)
    with pytest.raises(KafkaAwayError):
        await target.deliver(1, 0, [event(0), event(1)])
    assert topic.open == 0 and not (tmp_path / REFUSED).exists()
    assert await target.deliver(1, 0, [event(0), event(1)]) == 0
    assert [key for key, _, _ in topic.records] == [b"k0", b"k0", b"k1"]
    await target.close()


async def test_nobody_asks_for_records_that_failed_while_the_next_could_not_be_sent(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    send = FakeProducer.send

    async def sent(self: FakeProducer, name: str, value: bytes, **of: Any) -> asyncio.Future[None]:
        if of["key"] == b"k1":
            raise errors.KafkaTimeoutError
        return await send(self, name, value, **of)

    monkeypatch.setattr(FakeProducer, "send", sent)
    topic.fates = {b"k0": [errors.RequestTimedOutError()]}
    with pytest.raises(KafkaAwayError):
        await sink(tmp_path).deliver(1, 0, [event(0), event(1)])
    gc.collect()
    await asyncio.sleep(0.01)
    assert not raised, "an error that nobody took ends the process"


async def test_nobody_listens_where_kafka_should_be(tmp_path: Path) -> None:
    with pytest.raises(KafkaAwayError):
        await sink(tmp_path).deliver(1, 0, [event(1)])
    broker = Broker((("127.0.0.1", 1),), False, "t")
    with pytest.raises(KafkaAwayError, match="login"):
        await Kafka(broker, ("", "me", "hush"), (), FileSink(tmp_path, "kafka")).deliver(1, 0, [event(1)])


async def test_an_mqtt_broker_gets_all_though_it_cuts_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks_running, "PAUSES_S", (0.01,))
    monkeypatch.setattr(sinks_running, "BATCH_EVENTS", 60)
    monkeypatch.setenv("SULLAE_SINK_MQTT", "pass word")
    world = World(3)
    noted: list[str] = []
    async with running() as broker, serving(world):
        broker.cut_after = 33
        url = f"mqtt://127.0.0.1:{broker.port}/shop/movies"
        world.add("mqtt", url=url, user="me", secret="env:SULLAE_SINK_MQTT")
        terms = Terms(FAST.poll_s, FAST.expiry_s, private=True)
        sinks = Sinks(world.url, "n1/1", tmp_path, lambda name, text: noted.append(text), terms)
        sinks.start()
        await until(lambda: world.record().cursor == f"c{EVENTS}")
        await until(lambda: sinks.samples() and sinks.samples()[0][2] >= EVENTS)
        await sinks.stop()
        found = {json.loads(message.payload)["key"] for message in broker.messages}
        assert found == {f"k{number}" for number in range(EVENTS)}
        assert len(broker.messages) > EVENTS and any(MqttAwayError.__name__ in text for text in noted)
        assert {message.topic for message in broker.messages} == {"shop/movies"}
        assert b"sullae-id\x00\x051-0-0" in broker.messages[0].properties
        assert all(b"pass word" in login and b"me" in login for login in broker.logins)
    assert "pass word" not in world.values["s"][0].decode() and "pass word" not in "".join(noted)


async def test_what_mqtt_cannot_carry_is_refused_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as broker:
        target = Mqtt(Broker((("127.0.0.1", broker.port),), False, "t"), ("", ""), FileSink(tmp_path, "mqtt"))
        assert await target.deliver(1, 0, [event(1)]) == 0

        def too_large(*_: Any, **__: Any) -> None:
            raise ValueError("Payload too large.")

        monkeypatch.setattr(target._client._client, "publish", too_large)
        assert await target.deliver(1, 1, [event(2)]) == 1
        await target.close()
    assert json.loads((tmp_path / REFUSED).read_text())["event"] == event(2)


def test_places() -> None:
    two = broker_of("kafka", "kafka://a.example:1,[::1]/films")
    assert two == Broker((("a.example", 1), ("::1", 9092)), False, "films")
    assert broker_of("mqtt", "mqtts://h/a/b%20c") == Broker((("h", 8883),), True, "a/b c")
    for kind, url in (
        ("kafka", "kafka://h:9092"), ("kafka", "kafka://h/a/b"), ("kafka", "mqtt://h/t"), ("kafka", "kafka:///t"),
        ("kafka", "kafka://u:p@h:1/t"), ("kafka", "kafka://h:0/t"), ("kafka", "kafka://h:99999/t"),
        ("mqtt", "mqtt://h/"), ("mqtt", "mqtt://h/a/+/b"), ("mqtt", "mqtt://a,b/t"), ("mqtt", "mqtt://h/$SYS"),
        ("mqtt", "mqtt://h/t?x"), ("mqtt", ""),
    ):  # fmt: skip
        assert place_problem(kind, url, private=True), url
    assert "sink_private_addresses" in place_problem("kafka", "kafka://h/t", private=False)
    assert place_problem("parquet", "https://x", private=True) and place_problem("webhook", "", private=True)


def test_secrets_are_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SULLAE_SINK_A", "hush")
    (tmp_path / "b").write_text("quiet\n")
    assert secret_of("env:SULLAE_SINK_A", None) == "hush" and secret_of("", None) == ""
    assert secret_of("file:b", tmp_path) == "quiet"
    for wrong in ("hush", "env:PATH", "env:", "file:../b", "file:/etc/passwd", "file:.b", "file:a/b"):
        assert "reference" in reference_problem(wrong) or "never given itself" in reference_problem(wrong)
        with pytest.raises(SecretError):
            secret_of(wrong, tmp_path)
    for reference, folder in (("env:SULLAE_SINK_B", None), ("file:b", None), ("file:c", tmp_path)):
        assert reference_problem(reference) == ""
        with pytest.raises(SecretError) as caught:
            secret_of(reference, folder)
        assert "hush" not in str(caught.value)
