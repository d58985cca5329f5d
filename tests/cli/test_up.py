"""`sullae up` for real: the shipped configuration (on free ports), the sample, a kill, a second start."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.rest import Peer, expect
from tests.cli.running import ADDRESSES, Up, process_is_there, write_config

pytestmark = pytest.mark.process

SAMPLE = Path(__file__).resolve().parent.parent.parent / "sample"
READY_AGAIN_MAX_S = 5.0
"""Promised for a quiet machine; tests share theirs, so they allow more and say what it was."""


def sullae(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def get(url: str) -> bytes:
    peer = Peer(url.partition("/v1")[0])
    try:
        return expect(peer.request("GET", "/v1" + url.partition("/v1")[2])).body
    finally:
        peer.close()


def records(bucket: str) -> list[bytes]:
    return gzip.decompress((SAMPLE / f"{bucket}.ndjson.gz").read_bytes()).splitlines()


@pytest.mark.slow
def test_from_the_first_start_to_the_second(tmp_path: Path) -> None:
    _, rest = write_config(tmp_path)
    with Up(tmp_path, "--json") as running:
        ready = running.wait_for("ready")
        assert [peer["name"] for peer in ready["peers"]] == ["n1", "n2", "n3"]
        loaded = running.wait_for("sample", timeout_s=120)["text"]
        assert "movies: 3,201 records loaded" in loaded and "cities: 4,095 records loaded" in loaded

        for number, address in enumerate(ADDRESSES):
            line = records("cities")[number * 1000]
            key = json.loads(line)["id"].replace("/", "%2F").replace(" ", "%20")
            if key.isascii():
                assert get(f"http://{address}:{rest}/v1/kv/cities/{key}") == line

        status = json.loads(sullae(tmp_path, "status", "--json").stdout)
        assert [peer["state"] for peer in status["peers"]] == ["up"] * 3
        assert [peer["pid"] for peer in status["peers"]] == [peer["pid"] for peer in ready["peers"]]
        assert all(peer["version"] and peer["load_bytes"] > 0 for peer in status["peers"])
        assert [(peer["owns"], peer["vnodes"]) for peer in status["peers"]] == [(1.0, 16)] * 3

        assert sullae(tmp_path, "kv", "put", "demo", "a/b", "hello").returncode == 0
        assert (
            sullae(tmp_path, "kv", "get", "demo", "a/b", "--url", f"{ADDRESSES[2]}:{rest}").stdout == "hello"
        )
        assert sullae(tmp_path, "kv", "list", "demo").stdout == "a/b\n"

        os.kill(ready["peers"][1]["pid"], signal.SIGKILL)
        assert running.wait_for("died")["text"].startswith("n2 died (signal 9); restart it with: ")
        assert sullae(tmp_path, "kv", "get", "demo", "a/b").stdout == "hello"

        running.signal(signal.SIGINT)
        assert running.end() == 0, running.events
    assert not any(process_is_there(peer["pid"]) for peer in ready["peers"])

    began_s = time.monotonic()
    with Up(tmp_path, "--json") as running:
        again = running.wait_for("ready")
        took_s = time.monotonic() - began_s
        print(f"ready again after {took_s:.1f} s")
        assert took_s < 3 * READY_AGAIN_MAX_S
        assert len(again["peers"]) == 3
        assert sullae(tmp_path, "kv", "get", "demo", "a/b").stdout == "hello"
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.end() == 0, running.events
        assert not any(event["event"] == "sample" for event in running.events)


def test_a_node_alone_is_told_to_stop(tmp_path: Path) -> None:
    """One peer of three in the foreground, without the others: it waits, says why, and ends when told."""
    _, rest = write_config(tmp_path)
    command = [sys.executable, "-m", "cli.main", "node", "n1", "--log-format", "json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as node:
        deadline_s = time.monotonic() + 30
        while True:
            outcome = sullae(tmp_path, "status", "--url", f"127.0.0.1:{rest}")
            if outcome.returncode != 1:
                break
            assert time.monotonic() < deadline_s and node.poll() is None
            time.sleep(0.1)
        assert outcome.returncode == 4 and "there is no cluster yet" in outcome.stdout
        node.send_signal(signal.SIGTERM)
        assert node.wait(30) == 0
