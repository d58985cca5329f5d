"""`sullae jepsen` against real processes, where namespaces are permitted and where they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers import loopback_problem

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.mark.parametrize(
    ("workload", "nemesis", "more"),
    [
        ("register", "kill,one_way,clock,slow_disk", ["--no-namespaces", "--no-images"]),
        ("composite", "isolate,pause,loss,duplicate,power", []),
    ],
)
def test_a_short_attack_is_survived_and_told(
    workload: str, nemesis: str, more: list[str], tmp_path: Path
) -> None:
    if problem := loopback_problem():
        pytest.skip(problem)
    command = [sys.executable, "-m", "cli.main", "jepsen", "--json", "--workload", workload]
    command += ["--nemesis", nemesis, "--minutes", "0.1", "--peers", "3", "--rate", "60"]
    command += ["--out", str(tmp_path), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    told = json.loads(done.stdout)
    if told["invalid"]:
        pytest.skip(told["invalid"])
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    assert told["green"], told["problems"]
    assert told["faults"] >= 1
    assert told["operations"] > 150
    assert sum(counts["ok"] for counts in told["counts"].values()) > 100
    assert "ops/s" in done.stderr, "the live line"
    page = (tmp_path / "report.html").read_text()
    assert "valid" in page and told["replay"] in page
    history = json.loads((tmp_path / "history.json").read_text())
    assert sum(entry["process"] == "nemesis" for entry in history) >= 1
    assert len((tmp_path / "history.edn").read_text().splitlines()) == len(history)
