"""From writes to DuckDB: the commands of docs/analytics.md against three real peers, one of which dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process.cluster import running

pytestmark = [pytest.mark.process, pytest.mark.slow]


def sullae(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-P", "-m", "cli.main", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_tail_goes_on_and_exports_are_read_by_duckdb(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with running(tmp_path / "cluster") as cluster:
        config = str(cluster.config)

        def put(peer: str, path: str, body: Any) -> None:
            with cluster.client(peer) as client:
                reply = client.request("PUT", path, json.dumps(body).encode(), "application/json")
            assert reply.status in (200, 201, 204), reply

        put("n2", "/v1/collections/films", {"changes": "new_and_old"})
        years = {f"f{number}": 1990 + number for number in range(30)}
        with sullae(
            tmp_path, "tail", "docs.films", "-c", config, "--since", "10m", "-w", "year > 1999", "--json"
        ) as tail:
            try:
                assert tail.stdout is not None
                events = []
                for number, (name, year) in enumerate(years.items()):
                    put("n2", f"/v1/docs/films/{name}", {"year": year, "genre": "a" if year % 2 else "b"})
                    if number == 15:
                        events = [json.loads(tail.stdout.readline()) for _ in range(3)]
                        cluster.kill("n1")
                while sum(line["type"] == "event" for line in events) < 20:
                    events.append(json.loads(tail.stdout.readline()))
                tail.send_signal(signal.SIGINT)
                assert tail.wait(10) == 0
            finally:
                tail.kill()
        shown = [line for line in events if line["type"] == "event"]
        assert {line["key"]: line["after"]["year"] for line in shown} == {
            k: y for k, y in years.items() if y > 1999
        }
        with sullae(tmp_path, "export", "docs.films", "-c", config, "-o", "films", "--parts", "3") as export:
            assert export.wait(60) == 0, export.communicate()
        found = duckdb.sql(
            f"SELECT doc->>'$.genre' AS genre, count(*), max((doc->>'$.year')::INT) "
            f"FROM '{tmp_path}/films/*.parquet' GROUP BY genre ORDER BY genre"
        ).fetchall()
        assert found == [("a", 15, 2019), ("b", 15, 2018)]
