"""A sink into a real Kafka, whose broker and whose sink's owner are killed with -9: all events are there.

Opt-in (`make test-kafka`): it wants Java, and the broker's jars in the folder that SULLAE_KAFKA_LIBS names.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.cluster import Cluster, LostError, running, until
from tests.process.test_sinks import asked

LIBS = os.environ.get("SULLAE_KAFKA_LIBS", "")
TOPIC = "films"

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(not LIBS or shutil.which("java") is None, reason="opt-in: make test-kafka"),
]


class Broker:
    """One broker that is its own controller."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, controller = _free_ports(2)
        self._java = ["java", "-Xmx400m", "-cp", f"{LIBS}/*"]
        self._config = folder / "server.properties"
        self._config.write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}\n"
            "controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n"
            f"log.dirs={folder}/data\nnum.partitions=4\nmessage.max.bytes=100000\n"
            "offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n"
            "transaction.state.log.min.isr=1\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(self._config)
        )

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([*self._java, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        with (self._folder / "kafka.log").open("ab") as log:
            command = [*self._java, "kafka.Kafka", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._answers, lambda: (self._folder / "kafka.log").read_text()[-3_000:], 60)

    def _answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def records(self) -> list[tuple[int, bytes, dict[str, Any], dict[str, bytes]]]:
        """All there are: partition, key, value and headers, in the order of each partition."""
        return asyncio.run(self._read())

    async def _read(self) -> list[tuple[int, bytes, dict[str, Any], dict[str, bytes]]]:
        from aiokafka import AIOKafkaConsumer

        servers = f"127.0.0.1:{self.port}"
        found = []
        async with AIOKafkaConsumer(
            TOPIC, bootstrap_servers=servers, auto_offset_reset="earliest"
        ) as consumer:
            parts = consumer.assignment()
            ends = await consumer.end_offsets(parts)
            while any([await consumer.position(part) < ends[part] for part in parts]):
                for part, messages in (await consumer.getmany(timeout_ms=200)).items():
                    found += [(part.partition, m.key, json.loads(m.value), dict(m.headers)) for m in messages]
        return found


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@contextmanager
def kafka(folder: Path) -> Iterator[Broker]:
    folder.mkdir()
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def test_all_events_reach_kafka_though_its_broker_and_the_sinks_owner_are_killed(tmp_path: Path) -> None:
    settings = {"sink_private_addresses": "true"}
    with kafka(tmp_path / "kafka") as broker, running(tmp_path, settings=settings) as cluster:
        assert asked(cluster, "n1", "PUT", "/v1/collections/films", {"changes": "new"})[0] in (200, 201)
        url = f"kafka://127.0.0.1:{broker.port}/{TOPIC}"
        wanted = {"table": "docs.films", "kind": "kafka", "url": url, "from": "start", "every_s": 0.5}
        assert asked(cluster, "n2", "PUT", "/v1/sinks/bus", wanted)[0] == 201
        last: dict[str, int] = {}
        written: list[str] = []

        def write(count: int, peer: str) -> None:
            for number in range(count):
                name = f"f{number % 40}"
                n = len(written)
                assert asked(cluster, peer, "PUT", f"/v1/docs/films/{name}", {"n": n})[0] in (200, 201, 204)
                written.append(name)
                last[name] = n

        write(80, "n1")
        until(lambda: sink(cluster, "n1")["delivered"] >= 80, lambda: str(sink(cluster, "n1")), 60)
        broker.kill()
        write(80, "n1")
        broker.start()
        write(10, "n1")
        owner = sink(cluster, "n1")["owner"]
        cluster.kill(owner)
        other = next(name for name in ("n1", "n2", "n3") if name != owner)
        write(40, other)
        large = {"n": 0, "text": "x" * 200_000}
        assert asked(cluster, other, "PUT", "/v1/docs/films/large", large)[0] in (200, 201, 204)
        write(10, other)
        until(lambda: sink(cluster, other)["refused"] >= 1, lambda: str(sink(cluster, other)), 60)

        def newest() -> dict[str, int]:
            return {value["key"]: value["after"]["n"] for _, _, value, _ in broker.records()}

        until(lambda: newest() == last, lambda: str(set(last.items()) ^ set(newest().items())), 60)
        records = broker.records()
    assert len({value["id"] for _, _, value, _ in records}) == 80 + 80 + 10 + 40 + 10
    places: dict[bytes, set[int]] = {}
    for partition, key, value, headers in records:
        assert key == value["key"].encode() and headers["sullae-id"] == value["id"].encode()
        places.setdefault(key, set()).add(partition)
    assert all(len(partitions) == 1 for partitions in places.values()), "a key stays in its partition"
    assert len({partition for partitions in places.values() for partition in partitions}) > 1


def sink(cluster: Cluster, peer: str) -> dict[str, Any]:
    try:
        status, found = asked(cluster, peer, "GET", "/v1/sinks/bus")
    except LostError:
        status, found = 0, None
    return dict(found) if status == 200 else {"owner": "", "delivered": -1, "refused": -1}
