"""`sullae jepsen` against real processes, where namespaces are permitted and where they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers import loopback_problem
from jepsen_like.real import priority
from jepsen_like.real.starved import LATE
from jepsen_like.soak import read_ledger

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.mark.parametrize(
    ("workload", "nemesis", "more"),
    [
        ("register", "kill,one_way,clock,slow_disk", ["--no-namespaces", "--no-images"]),
        ("changes", "isolate,pause,loss,duplicate,power", []),
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
    command += ["--record", str(tmp_path / "ledger.ndjson")]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    priority.give(run.pid, priority.FIRST)  # where it may: a machine that has no time for it says nothing
    said, live = run.communicate(timeout=300)
    told = json.loads(said)
    if told["invalid"]:
        assert run.returncode == 4 and all(problem["name"] in LATE for problem in told["problems"])
    else:
        assert run.returncode == 0 and told["green"], f"{told['problems']}\n{live[-3000:]}"
        assert told["operations"] > 100
        assert sum(counts["ok"] for counts in told["counts"].values()) > 50
    assert told["faults"] >= 1
    assert "ops/s" in live, "the live line"
    (line,) = read_ledger(tmp_path / "ledger.ndjson")
    assert line.verdict == ("invalid" if told["invalid"] else "green")
    assert (line.workload, line.kills, line.network != "") == (f"real:{workload}", told["kills"], True)
    page = (tmp_path / "report.html").read_text()
    assert "valid" in page and told["replay"] in page
    history = json.loads((tmp_path / "history.json").read_text())
    assert sum(entry["process"] == "nemesis" for entry in history) >= 1
    assert len((tmp_path / "history.edn").read_text().splitlines()) == len(history)
