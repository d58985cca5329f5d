"""Files of snapshots over REST: a slow reader gets all of one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.rest import service, snapshots as routes
from server.snapshots.taking import SnapshotError
from tests.server.harness import run, until
from tests.server.rest_client import Door, door, head, problem

TARGET = "/v1/admin/snapshots/tonight/files/000007.sst"


def with_file(ask: Door, path: Path) -> None:
    def file(name: str, wanted: str) -> Path:
        if wanted != path.name:
            raise SnapshotError("no_such_snapshot", "no such file")
        return path

    snapshots: Any = SimpleNamespace(file=file)
    ask.service.take_snapshots(snapshots)


def test_a_file_takes_longer_than_an_idle_connection_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "IDLE_S", 0.2)
    monkeypatch.setattr(service, "SWEEP_S", 0.05)
    path = tmp_path / "000007.sst"
    path.write_bytes(bytes(range(256)) * 200_000)

    async def work() -> None:
        async with door() as ask:
            with_file(ask, path)
            reader, writer = await asyncio.open_connection("127.0.0.1", ask.port, limit=1 << 16)
            writer.write(head("GET", TARGET, None))
            found = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in found
            left, pauses = path.stat().st_size, 10
            while left:
                part = await reader.read(1 << 20)
                assert part, f"cut off: {left} bytes are missing"
                left -= len(part)
                if pauses:
                    pauses -= 1
                    await asyncio.sleep(0.1)
            writer.close()
            assert problem(await ask("GET", TARGET + "x")) == (404, "no-such-snapshot")

    run(work())


def test_who_takes_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "FILE_S", 0.2)
    monkeypatch.setattr(routes, "FILE_BYTES_PER_S", 1 << 40)
    path = tmp_path / "000007.sst"
    path.write_bytes(bytes(50_000_000))

    async def work() -> None:
        async with door() as ask:
            with_file(ask, path)
            _, writer = await asyncio.open_connection("127.0.0.1", ask.port, limit=1 << 10)
            writer.write(head("GET", TARGET, None))
            await until(lambda: ask.service._busy)
            await until(lambda: not ask.service._busy)
            await until(lambda: not ask.service._server.connections)
            writer.close()

    run(work())
