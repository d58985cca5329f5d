"""Commands as people and programs call them: what is printed, in which shape, with which exit status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from cli.main import app, main
from cli.status import advice_on
from tests.cli.fake import FakeCluster

CONFIG = "cluster: c\npeers:\n- {name: n1, address: 127.0.0.1}\nports: {rest: %d, cql: %d, peer: %d}\n"


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Run = Callable[..., Outcome]


@pytest.fixture
def sullae(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SULLAE_URL", raising=False)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["sullae", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capfd.readouterr()
        return Outcome(int(exit_.value.code or 0), captured.out, captured.err)

    return run


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def commands(group: typer.Typer = app, *words: str) -> list[list[str]]:
    """Every command there is, those of groups and of groups within them, too."""
    found = [
        [*words, c.name or c.callback.__name__] for c in group.registered_commands if c.callback is not None
    ]
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        found += commands(inner.typer_instance, *words, *([inner.name] if inner.name else []))
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_shows_examples_and_speaks_json(sullae: Run, command: list[str]) -> None:
    outcome = sullae(*command, "--help")
    assert outcome.status == 0
    assert "Examples:\n" in outcome.out and f"\n    sullae {' '.join(command)}" in outcome.out
    assert "--json" in outcome.out


def test_the_commands_that_were_promised_are_there() -> None:
    names = {" ".join(command) for command in commands()}
    assert names >= {"up", "node", "status", "ring", "load", "simulate", "cert", "doctor", "version"}
    assert names >= {"kv put", "kv get", "kv del", "kv list"}


def test_version_imports_neither_server_nor_rich() -> None:
    code = "import sys; sys.argv = ['sullae', 'version', '--json']\nfrom cli.main import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "heavy = {'server', 'node', 'rich', 'aiohttp', 'rocksdict', 'asyncio'} & set(sys.modules)\n"
    code += "assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"version", "python"}


def test_nobody_there_says_what_to_do(sullae: Run) -> None:
    port = free_ports(1)[0]
    for arguments in (["status"], ["ring"], ["kv", "get", "a", "b"], ["kv", "list", "a"]):
        outcome = sullae(*arguments, "--url", f"http://127.0.0.1:{port}")
        assert outcome.status == 1 and outcome.out == ""
        assert f"no peer answers at http://127.0.0.1:{port} (connection refused)" in outcome.err
        assert "`make up`" in outcome.err
    told = json.loads(sullae("status", "--json", "--url", f"127.0.0.1:{port}").out)
    assert told["error"]["code"] == "no_peer"


def test_the_next_peer_is_asked_where_one_is_away(sullae: Run, cluster: FakeCluster) -> None:
    away = f"http://127.0.0.1:{free_ports(1)[0]}"
    assert sullae("ring", "--url", away, "--url", cluster.url).status == 0


def test_a_url_that_is_none(sullae: Run) -> None:
    outcome = sullae("status", "--url", "ftp://x")
    assert outcome.status == 1 and "not the URL of a peer: ftp://x" in outcome.err


def test_peers_are_found_by_the_configuration(sullae: Run, cluster: FakeCluster) -> None:
    port = int(cluster.url.rpartition(":")[2])
    Path("cluster.yml").write_text(CONFIG % (port, 1, 2))
    assert sullae("status").status == 0
    assert "there is no other.yml" in sullae("status", "--config", "other.yml").err
    Path("cluster.yml").write_text("cluster: c\npeers: 3\n")
    assert "cluster.yml:2: peers must be a list" in sullae("status").err


def test_status_as_table_and_json(sullae: Run, cluster: FakeCluster) -> None:
    outcome = sullae("status", "--url", cluster.url)
    assert outcome.status == 0
    assert "cluster fake, epoch 7" in outcome.out
    row = outcome.out.splitlines()[-1].split()
    assert row == ["n1", "127.0.0.1", "4242", "up", "2.0", "KiB", "16", "100.0%", "9.9.9", "dc1/r1"]
    told = json.loads(sullae("status", "--url", cluster.url, "--json").out)
    assert told["epoch"] == 7
    assert told["peers"][0] == {
        "name": "n1", "address": "127.0.0.1", "peer": "aa", "pid": 4242, "state": "up", "why_not": "",
        "load_bytes": 2048, "disk_free_bytes": None, "clock_off_s": None, "vnodes": 16, "owns": 1.0,
        "version": "9.9.9", "datacentre": "dc1", "rack": "r1", "voter": True,
    }  # fmt: skip


def test_status_tells_by_its_exit_that_a_peer_is_down(sullae: Run, cluster: FakeCluster) -> None:
    down = {**cluster.status["peers"][0], "name": "n2", "peer": "bb", "address": "127.0.0.9", "state": "down"}
    cluster.status["peers"] = [*cluster.status["peers"], down]
    outcome = sullae("status", "--url", cluster.url)
    assert outcome.status == 4
    assert outcome.out.splitlines()[-1].split()[:4] == ["n2", "127.0.0.9", "-", "down"]
    assert "n2 is down" in outcome.err and "cluster plan replace n2" in outcome.err


def test_status_says_whose_disk_is_nearly_full(sullae: Run, cluster: FakeCluster) -> None:
    cluster.status["disk_free_bytes"] = 3 * 1024
    outcome = sullae("status", "--url", cluster.url)
    assert "n1 has 3.0 KiB left on its disk" in outcome.err
    cluster.status["disk_free_bytes"] = 2**40
    assert "left on its disk" not in sullae("status", "--url", cluster.url).err


def test_status_says_whose_clock_is_wrong() -> None:
    off = {"name": "n1", "state": "up", "disk_free_bytes": None, "clock_off_s": -601.0}
    assert "n1's clock is 10 min 1 s behind the other peers'" in advice_on(off)
    assert advice_on({**off, "clock_off_s": 0.4}) == ""


def test_a_question_goes_on_to_the_next_peer(sullae: Run, cluster: FakeCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = threading.Thread(target=lambda: silent.accept()[0].close(), daemon=True)
        hanging.start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert sullae("status", "--url", url, "--url", cluster.url).status == 0
        hanging.join(10)


def test_status_says_why_a_peer_does_not_serve(sullae: Run, cluster: FakeCluster) -> None:
    cluster.status.update(ready=False, why_not="waiting for the voters")
    outcome = sullae("status", "--url", cluster.url)
    assert outcome.status == 4 and "n1 is not ready: waiting for the voters" in outcome.err


def test_status_says_who_answers_in_the_place_of_a_member(sullae: Run, cluster: FakeCluster) -> None:
    cluster.status.update(peer="cc", ready=False, why_not="this directory is empty or another's")
    outcome = sullae("status", "--url", cluster.url)
    assert outcome.status == 4 and "another peer" in outcome.out
    assert "another peer answers at its address: this directory is empty" in outcome.err
    row = json.loads(sullae("status", "--url", cluster.url, "--json").out)["peers"][0]
    assert (row["pid"], row["state"]) == (None, "another peer")


def test_ring_shows_shares(sullae: Run, cluster: FakeCluster) -> None:
    lines = sullae("ring", "--url", cluster.url).out.splitlines()[1:]
    assert [line.split()[1:] for line in lines] == [["n1", "50.00%"], ["n1", "50.00%"]]
    assert len(json.loads(sullae("ring", "--url", cluster.url, "--json").out)["vnodes"]) == 2


def test_keys_go_there_and_back(sullae: Run, cluster: FakeCluster, tmp_path: Path) -> None:
    at = ("--url", cluster.url)
    assert sullae("kv", "put", "demo", "a/b c", "hello", *at).status == 0
    assert cluster.buckets["demo"] == {"a/b c": (b"hello", "text/plain; charset=utf-8")}
    assert sullae("kv", "get", "demo", "a/b c", *at).out == "hello"
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG\xff")
    assert "image/png" in sullae("kv", "put", "demo", "dot", "--file", str(picture), *at).out
    told = json.loads(sullae("kv", "get", "demo", "dot", "--json", *at).out)
    assert told["value_base64"] == "iVBOR/8=" and told["bytes"] == 5 and told["etag"] == '"1-2"'
    assert sullae("kv", "get", "demo", "dot", "--out", "copy.png", *at).out == ""
    assert Path("copy.png").read_bytes() == b"\x89PNG\xff"
    listed = sullae("kv", "list", "demo", "--limit", "1", *at)
    assert listed.out == "a/b c\n" and "--after c0ffee" in listed.err
    assert sullae("kv", "del", "demo", "a/b c", *at).status == 0
    assert list(cluster.buckets["demo"]) == ["dot"]


def test_a_key_that_holds_nothing_is_exit_status_4(sullae: Run, cluster: FakeCluster) -> None:
    outcome = sullae("kv", "get", "demo", "nothing", "--url", cluster.url)
    assert (outcome.status, outcome.out) == (4, "") and "there is nothing" in outcome.err


def test_a_refusal_is_told_in_the_peers_words(sullae: Run, cluster: FakeCluster) -> None:
    outcome = sullae("kv", "put", "demo", "a", "b", "--consistency", "all", "--url", cluster.url, "--json")
    assert outcome.status == 1
    error = json.loads(outcome.out)["error"]
    assert error["code"] == "unavailable" and error["text"].startswith(
        "all needs 3 replicas, 2 are alive (503"
    )


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (b'{"a":1}', "", "application/json"),
        (b"{a}", "", "text/plain; charset=utf-8"),
        ("강강술래".encode(), "", "text/plain; charset=utf-8"),
        (b"\xff", "", "application/octet-stream"),
        (b"x", "a.html", "text/html"),
        (b"\x1f\x8b", "a.txt.gz", "application/octet-stream"),
    ],
)
def test_content_types_are_guessed(data: bytes, name: str, expected: str) -> None:
    from cli.kv import guess

    assert guess(data, name) == expected


def test_put_wants_exactly_one_value(sullae: Run) -> None:
    assert sullae("kv", "put", "demo", "a").status == 2
    assert sullae("kv", "put", "demo", "a", "b", "--file", "c").status == 2


def test_load_reports_in_text_and_json(sullae: Run, cluster: FakeCluster) -> None:
    Path("people.csv").write_text("email,name\na@x,A\nb@x,B\n")
    outcome = sullae("load", "people.csv", "--key", "email", "--url", cluster.url)
    assert outcome.status == 0 and outcome.out.startswith("bucket people: 2 records loaded in ")
    told = json.loads(sullae("load", "people.csv", "--key", "email", "--url", cluster.url, "--json").out)
    assert (told["bucket"], told["complete"], told["loaded"], told["rejected"]) == ("people", True, 2, 0)
    dry = sullae("load", "people.csv", "--dry-run", "--key", "email", "--json")
    assert json.loads(dry.out)["loaded"] == 2


def test_a_load_with_rejects_says_so_by_its_exit_and_a_broken_file_leaves_nothing(
    sullae: Run, cluster: FakeCluster
) -> None:
    at = ("--url", cluster.url)
    Path("some.ndjson").write_text('{"id":"a"}\n[{"id":"b"}]\n')
    outcome = sullae("load", "some.ndjson", *at)
    assert outcome.status == 4 and "1 record loaded" in outcome.out and "1 line rejected" in outcome.out
    assert "but an array: one a line" in Path("some.ndjson.rejects").read_text()
    for name, text, said in (
        ("empty.csv", "", "there are none"),
        ("semi.csv", "id;name\n1;a\n", "it is separated by ';'"),
        ("open.csv", 'id,"x\n', "the first line is not CSV"),
        ("twice.csv", "id,name,id\n1,a,2\n", "two columns are named id"),
    ):
        Path(name).write_text(text)
        broken = sullae("load", name, *at)
        assert broken.status == 1 and said in broken.err and "goes on from there" not in broken.err
        assert not Path(f"{name}.loading").exists()


def test_what_speaks_no_http_is_said_to(sullae: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"\x84\x00\x00\x00\x00\x00\x00\x00\n\n")

        answering = threading.Thread(target=answer)
        answering.start()
        outcome = sullae("kv", "get", "a", "b", "--url", f"http://127.0.0.1:{listening.getsockname()[1]}")
        answering.join()
    assert outcome.status == 1 and "it does not speak HTTP" in outcome.err


def test_certificates_are_made_once(sullae: Run) -> None:
    Path("cluster.yml").write_text(CONFIG % (1, 2, 3))
    first = sullae("cert")
    assert first.status == 0 and "made 4 files for the cluster c" in first.out and "ca.key" in first.out
    assert Path("certificates/peer-n1.key").stat().st_mode & 0o777 == 0o600
    assert json.loads(sullae("cert", "--json").out) == {"folder": "certificates", "made": [], "warnings": []}
    more = sullae("cert", "--client", "shop")
    assert "made 2 files" in more.out and "--cert certificates/client-shop.pem" in more.out
    wrong = sullae("cert", "--client", "no/name")
    assert wrong.status == 2 and "a client's name is" in wrong.err


def test_doctor_names_who_holds_a_port(sullae: Run) -> None:
    rest, cql, peer = free_ports(3)
    Path("cluster.yml").write_text(CONFIG % (rest, cql, peer))
    good = json.loads(sullae("doctor", "--json").out)
    findings = {finding["check"]: finding for finding in good["findings"]}
    assert findings["n1 at 127.0.0.1"]["state"] == "ok"
    assert {"python", "clock", "memory", "file descriptors", "disk space", "disk sync"} <= findings.keys()
    assert list(Path().iterdir()) == [Path("cluster.yml")]
    for what, port in (("REST", rest), ("CQL", cql), ("peers", peer)):
        with socket.create_server(("127.0.0.1", port)):
            outcome = sullae("doctor")
        assert outcome.status == 4
        assert f"{what} {port}: the port is in use" in outcome.out
        if sys.platform == "linux":
            assert f"(pid {os.getpid()})" in outcome.out.replace("\n", " ")


def test_doctor_sees_an_address_of_another_machine(sullae: Run) -> None:
    Path("cluster.yml").write_text((CONFIG % (1234, 2, 1235)).replace("127.0.0.1", "192.0.2.1"))
    outcome = sullae("doctor")
    assert outcome.status == 4 and "this machine has no such address" in outcome.out


def test_a_peer_that_is_not_in_the_configuration(sullae: Run) -> None:
    Path("cluster.yml").write_text(CONFIG % (1, 2, 3))
    outcome = sullae("node", "n9")
    assert outcome.status == 1 and "no peer is named 'n9'; there are n1" in outcome.err
    assert "there is no absent.yml here" in sullae("node", "n1", "--config", "absent.yml").err
