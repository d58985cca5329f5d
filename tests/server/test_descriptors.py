"""Descriptors: clients do not take those that the store needs."""

from __future__ import annotations

import asyncio
import resource

import pytest

from server import descriptors
from server.rest import service
from tests.server.harness import run, until
from tests.server.rest_client import door


def test_clients_get_a_part_of_what_there_is() -> None:
    found = [descriptors.connections_max(limit) for limit in (256, 1_024, 16_000, 1 << 20, -1)]
    assert found == [64, 256, 4_000, 4_000, 4_000]


def test_as_many_are_taken_as_the_system_lets_us(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [1_024, 20_000]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.__setitem__(slice(None), wanted))
    descriptors.settle()
    assert limits == [20_000, 20_000]
    limits[:] = [1_024, 1 << 20]
    descriptors.settle()
    assert limits == [descriptors.WANTED, 1 << 20]
    descriptors.settle()
    assert limits == [descriptors.WANTED, 1 << 20]


def test_connections_beyond_what_there_are_descriptors_for_are_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "connections_max", lambda: 10)
    monkeypatch.setattr(service, "SWEEP_S", 0.2)

    async def work() -> None:
        async with door() as ask:
            made = [await asyncio.open_connection("127.0.0.1", ask.port) for _ in range(40)]
            await asyncio.sleep(0.1)
            assert len(ask.service._server.connections) <= 15
            await until(lambda: len(ask.service._server.connections) <= 10, "the oldest are let go")
            assert (await ask("GET", "/v1/health")).status == 200
            for _, writer in made:
                writer.close()

    run(work())
