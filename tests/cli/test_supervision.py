"""What `sullae up` does about its peers, shown with stubs for peers that start at once and die on command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Up, process_is_there, up_command, wait_until_gone, write_config

STUB = Path(__file__).resolve().parent / "stub_peer.py"

pytestmark = pytest.mark.process


def up(folder: Path, *arguments: str, **env: str) -> Up:
    return Up(folder, "--json", "--no-sample", *arguments, stub=STUB, env=env)


def pids(event: dict[str, Any]) -> list[int]:
    return [peer["pid"] for peer in event["peers"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_and_the_exit_is_0(tmp_path: Path, number: signal.Signals) -> None:
    write_config(tmp_path)
    with up(tmp_path) as running:
        started = pids(running.wait_for("ready"))
        assert len(started) == 3
        running.signal(number)
        assert running.end() == 0
        assert running.events[-1]["event"] == "stopped"
        assert not any(process_is_there(pid) for pid in started)
    assert (tmp_path / "data" / "n2.log").read_text().count("\n") == 3


def test_ctrl_c_on_a_terminal_reaches_the_whole_group(tmp_path: Path) -> None:
    write_config(tmp_path)
    with up(tmp_path) as running:
        running.wait_for("ready")
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.end() == 0


def test_the_second_signal_kills(tmp_path: Path) -> None:
    write_config(tmp_path)
    with up(tmp_path, STUB_DEAF="n2") as running:
        started = pids(running.wait_for("ready"))
        running.signal(signal.SIGINT)
        running.wait_for("stopping")
        running.signal(signal.SIGINT)
        assert "n2" in running.wait_for("killed")["text"]
        assert running.end() == 0
        assert not any(process_is_there(pid) for pid in started)


def test_a_peer_that_cannot_start_ends_all_with_its_last_words(tmp_path: Path) -> None:
    write_config(tmp_path)
    with up(tmp_path, STUB_FAILS="n3") as running:
        event = running.wait_for("cannot_start")
        assert event["peer"] == "n3" and event["status"] == 3
        assert event["last"][-1] == "cannot open the store file=CURRENT"
        assert running.end() == 1


def test_a_dead_peer_is_reported_and_left_alone(tmp_path: Path) -> None:
    write_config(tmp_path)
    with up(tmp_path) as running:
        os.kill(pids(running.wait_for("ready"))[1], signal.SIGKILL)
        event = running.wait_for("died")
        assert event["text"].startswith("n2 died (signal 9); restart it with: ")
        assert event["restart"].endswith("node n2 --config cluster.yml --data data")
        running.signal(signal.SIGINT)
        assert running.end() == 0
        assert "restarting" not in str(running.events)


def test_with_restart_a_dead_peer_comes_back(tmp_path: Path) -> None:
    write_config(tmp_path)
    with up(tmp_path, "--restart") as running:
        first = pids(running.wait_for("ready"))[0]
        os.kill(first, signal.SIGKILL)
        assert "restarting it in 1 s" in running.wait_for("died")["text"]
        again = running.wait_for("ready_again")
        assert again["peer"] == "n1" and again["pid"] != first
        os.kill(again["pid"], signal.SIGKILL)
        assert "restarting it in 2 s" in running.wait_for("died")["text"]


def test_when_the_last_peer_died_the_end_is_bad(tmp_path: Path) -> None:
    write_config(tmp_path)
    with up(tmp_path) as running:
        for pid in pids(running.wait_for("ready")):
            os.kill(pid, signal.SIGKILL)
        running.wait_for("none_left")
        assert running.end() == 1


def test_two_on_one_data_directory(tmp_path: Path) -> None:
    write_config(tmp_path)
    with up(tmp_path) as running:
        running.wait_for("ready")
        with up(tmp_path) as second:
            assert second.end() == 1
            error = second.events[-1]["error"]
            assert error["code"] == "already_up"
            assert f"(pid {running.process.pid}) runs on data" in error["text"]


def test_a_data_directory_that_is_none_or_is_full_is_told(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / "file").write_text("")
    with Up(tmp_path, "--data", "file") as running:
        assert running.end() == 1
    assert "file is no directory" in running.text
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "up.lock").symlink_to("/dev/full")
    with Up(tmp_path, "--data", "full") as running:
        assert running.end() == 1
    assert "full/up.lock: " in running.text


def test_a_port_in_use_is_named_with_its_holder(tmp_path: Path) -> None:
    _, rest = write_config(tmp_path)
    with socket.create_server(("127.0.0.2", rest)), up(tmp_path) as running:
        assert running.end() == 1
        text = running.events[-1]["error"]["text"]
        assert f"n2 cannot listen on 127.0.0.2 port {rest} (REST): the port is in use" in text
        assert f"(pid {os.getpid()})" in text


def test_for_people(tmp_path: Path) -> None:
    _, rest = write_config(tmp_path)
    with Up(tmp_path, "--no-sample", stub=STUB) as running:
        log = tmp_path / "data" / "n1.log"
        while not (log.exists() and "slow" in log.read_text()):
            assert running.process.poll() is None
            time.sleep(0.01)
        while "Ctrl-C stops" not in running.text:
            running.text += running._arrived.get(timeout=60)
        running.signal(signal.SIGINT)
        assert running.end() == 0
    assert "ready: 3 peers of cluster sullae in " in running.text
    assert f"curl -i http://127.0.0.3:{rest}/v1/kv/demo/a%2Fb" in running.text
    assert "n1 warning the disk is slow fsync_ms=12" in running.text
    assert "begun" not in running.text and "all peers have stopped" in running.text


def test_when_up_itself_is_killed_its_peers_end(tmp_path: Path) -> None:
    """The stubs do not ask for it themselves, so this shows the helper that real peers use."""
    program = tmp_path / "orphan.py"
    program.write_text(
        "import os, signal, subprocess, sys\n"
        "code = 'from cli.node import stop_with; import os, signal; stop_with(int(os.environ[\"P\"]));'\n"
        "code += 'print(os.getpid(), flush=True); signal.pause()'\n"
        "subprocess.Popen([sys.executable, '-c', code], env={**os.environ, 'P': str(os.getpid())})\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(STUB.parent.parent.parent)},
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert process_is_there(child)
        parent.kill()
        wait_until_gone([child])


def test_nobody_listening_any_more_does_not_keep_peers_from_stopping(tmp_path: Path) -> None:
    write_config(tmp_path)
    command = up_command("--json", "--no-sample", stub=STUB)
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        started = pids(json.loads(process.stdout.readline()))
        process.stdout.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 0
        assert not any(process_is_there(pid) for pid in started)
    assert "ended" in (tmp_path / "data" / "n1.log").read_text().splitlines()[-1]
