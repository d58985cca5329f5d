"""A process that delivers to Parquet is killed with -9 at random points; DuckDB reads what it left."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from tests.server.test_sinks import EVENTS, World, event, serving, until

KILLS = 5
SEED = 1
OWNER = """
import asyncio, sys
from pathlib import Path
from server.sinks import running
from server.sinks.running import Sinks, Terms

running.BATCH_EVENTS, running.PAUSES_S = 25, (0.01,)

async def main():
    url, me, folder = sys.argv[1:]
    Sinks(url, me, Path(folder), lambda name, text: None, Terms(0.01, 0.15)).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_the_union_of_files_is_the_log_whenever_it_was_killed(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    chance = random.Random(SEED)
    world = World(SEED)
    world.add("parquet")
    half_way = 0
    async with serving(world):
        for start in range(KILLS + 1):
            me = f"n1/{start}"
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", OWNER, world.url, me, str(tmp_path / "shared"),
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            )  # fmt: skip
            try:
                await until(lambda me=me: world.record().owner == me or world.record().cursor == f"c{EVENTS}")
                if start < KILLS:
                    enough = world.record().delivered + chance.randrange(60)
                    await until(lambda enough=enough: world.record().delivered >= min(enough, EVENTS))
                    await asyncio.sleep(chance.random() * 0.02)
                    half_way += 0 < world.record().delivered < EVENTS
                else:
                    await until(lambda: world.record().cursor == f"c{EVENTS}")
            finally:
                process.kill()
                await process.wait()
    assert half_way, "it was never killed in the middle"
    files = f"{tmp_path}/shared/s/date=*/[0-9]*.parquet"
    rows = duckdb.sql(f"SELECT DISTINCT id, key, after FROM '{files}'").fetchall()
    wanted = [event(number) for number in range(EVENTS)]
    assert sorted((id_, key) for id_, key, _ in rows) == sorted((one["id"], one["key"]) for one in wanted)
