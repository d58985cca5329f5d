"""What people and scripts give without meaning to, and terminals that are small: words, nothing cut off."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cli import kv, output, restarting
from cli.members import Member
from cli.output import Failure
from cli.rest import UnreachableError, checked_url
from cli.shell.app import endpoints_of
from cli.shell.errors import UsageError, file_called
from core.limits import VALUE_BYTES_MAX
from tests.cli.fake import FakeCluster
from tests.cli.test_commands import Outcome, Run, sullae

__all__ = ["sullae"]

LABEL = "a" * 64
"""Longer than a part of a name may be."""


@pytest.mark.parametrize("url", ["http://a..b", "http://a b", f"http://{LABEL}.x", "http://a\x7f"])
def test_what_is_no_host_is_told_before_it_is_asked_for(sullae: Run, url: str) -> None:
    outcome = sullae("status", "--url", url)
    assert outcome.status == 1 and outcome.err.startswith("sullae: not the URL of a peer: ")


@pytest.mark.parametrize("url", ["http://[::1]:8080", "https://sübden.example", "peer_1:80", "127.0.0.1"])
def test_what_is_one_is_taken(url: str) -> None:
    assert checked_url(url).endswith(url)


@pytest.mark.parametrize(
    "hosts", ["a..b", "127.0.0.1:99999", "127.0.0.1:²", "127.0.0.1:0", f"{LABEL}.x", "a b"]
)
def test_what_is_no_address_of_a_peer_is_told(hosts: str) -> None:
    with pytest.raises(Failure) as failed:
        endpoints_of(hosts, None)
    assert failed.value.exit_status == 2


def test_a_number_of_replicas_that_is_none_is_told(sullae: Run) -> None:
    for number in ("²", "", "9" * 5_000):
        outcome = sullae("cluster", "plan", "replicate", "kv", f"dc1={number}")
        assert outcome.status == 1 and "is not DATACENTRE=NUMBER" in outcome.err


def test_an_empty_key_is_not_the_bucket() -> None:
    """`sullae kv get demo "$KEY"` with KEY empty listed the bucket, as if that were the value."""
    assert kv.Target([], Path(), "demo", "", None).path() == "/v1/kv/demo/"
    assert kv.Target([], Path(), "demo", None, None).path(limit=3) == "/v1/kv/demo?limit=3"


def chunks(more: bytes) -> bytes:
    """A listing of one key and what comes then, to its end."""
    body = b'{"key": "a"}\n' + more
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b'1c\r\n{"key": "a"}\n{"detail": "an"', "to the end"),
        (chunks(b""), "did not list to the end"),
        (chunks(b'{"key":'), "did not list to the end"),
        (chunks(b'{"title": "no quorum", "cursor": "k1"}\n'), "no quorum"),
    ],
    ids=["broken", "cut", "half", "problem"],
)
def test_a_listing_that_breaks_off_is_none(sullae: Run, sent: bytes, said: str, as_json: bool) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sent)

    thread = threading.Thread(target=answer)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    outcome: Outcome = sullae("kv", "list", "demo", "--url", url, *(["--json"] if as_json else []))
    thread.join()
    server.close()
    assert outcome.status == 1
    first, *rest = outcome.out.splitlines()
    assert first == ('{"key": "a"}' if as_json else "a")
    told = json.loads(rest[0])["error"]["text"] if as_json else outcome.err
    assert said in told
    assert "--after k1" in (rest[0] if as_json else outcome.err) or said != "no quorum"


def test_keys_do_not_move_the_cursor(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.buckets["demo"] = {"a\x1b[2J\n": (b"", "")}
    target = kv.Target([cluster.url], Path(), "demo", None, None)
    for terminal, shown in ((True, "a\\x1b[2J\\n\n"), (False, "a\x1b[2J\n\n")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        assert kv.listing(target, prefix="", after="", limit=None, as_json=False) == 0
        assert capsys.readouterr().out == shown


def test_a_table_is_not_cut_to_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "dumb")
    error = "the broker refuses us: " + "because " * 20
    output.print_table(("name", "error"), [("films", error.strip())])
    assert error.strip() in screen.getvalue()


@pytest.mark.parametrize(
    "problem",
    [UnreachableError("http://127.0.0.1:2", "connection refused", sent=False), Failure("unknown key 'x'")],
)
def test_a_peer_that_goes_away_or_refuses_to_restart_is_named(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    members = [Member("n1", "http://127.0.0.1:1"), Member("n2", "http://127.0.0.1:2")]

    def told(member: Member, method: str, verb: str) -> dict[str, object]:
        if method == "POST" and member.name == "n2":
            raise problem
        return {"starts": 7} if method == "POST" else {"starts": 8}

    monkeypatch.setattr(restarting, "members_of", lambda _: (members, "c"))
    monkeypatch.setattr(restarting, "unfit", lambda *_: "")
    monkeypatch.setattr(restarting, "_told", told)
    with pytest.raises(Failure) as failed:
        restarting.restart(["x"], [], 1.0, lambda _: None)
    assert failed.value.text == f"n2 was to start again: {problem}" and "so far: n1" in failed.value.hint


def test_json_is_json_in_any_encoding(cluster: FakeCluster) -> None:
    cluster.buckets["demo"] = {"é": ("né 강 😀".encode(), "text/plain")}
    command = [sys.executable, "-m", "cli.main", "kv", "get", "demo", "é", "--json", "--url", cluster.url]
    for encoding in ("ascii", "latin-1", "utf-8"):
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, env=env, check=True)
        assert json.loads(done.stdout.decode(encoding))["value"] == "né 강 😀"


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x", "a\0b"])
def test_a_name_that_no_file_can_have_is_told(name: str) -> None:
    with pytest.raises(UsageError):
        file_called(name)


def test_a_file_without_end_is_not_read_to_it() -> None:
    data, _ = kv.read_value(None, Path("/dev/zero"))
    assert len(data) == VALUE_BYTES_MAX + 1


def test_an_attack_without_end_is_refused(sullae: Run) -> None:
    assert sullae("jepsen", "--simulated", "--minutes", "inf").status == 2
