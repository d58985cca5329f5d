"""`sullae repair` and `sullae scrub`: what is asked of all peers, and what people read."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cli import repair
from cli.main import main

RANGE = {"table": "kv.b", "first_token": -5, "last_token": 7, "equal_s": {"n2": 3.0, "n3": None}}
FLOOR = {"table": "kv.b", "replicas": ["n1", "n2"], "ranges": 1, "floor_age_s": 90.5}
FLOOR |= {"waiting": "n3 down", "waiting_s": 200}
LOST = {"table": "kv.b", "first_token": 0, "last_token": 1, "merged": ["n2"], "waiting": {"n3": "is down"}}


class Told:
    """A peer with answers to admin verbs, which notes what it is asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.url = ""


@pytest.fixture
def peer() -> Iterator[Told]:
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Silence."""

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            verb = self.path.rpartition("/")[2]
            told.asked.append((verb, json.loads(body) if body else None))
            data = json.dumps(told.answers[verb]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer  # noqa: N815 - the names that http.server looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    told.answers["status"] = {"peers": [{"name": "n1", "address": "127.0.0.1"}]}
    yield told
    server.shutdown()
    server.server_close()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return "".join(capsys.readouterr())


def sullae(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sullae", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_what_waits_and_what_is_mended_is_said_and_makes_the_answer_no(
    peer: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.answers["repair"] = {"proven_equal_s": {}, "ranges": [RANGE], "floors": [FLOOR], "mending": [LOST]}
    assert sullae(monkeypatch, "repair", "status", "--url", peer.url) == 4
    shown = said(capsys)
    waits = "n3 down (1 range, for 3 min 20 s)"
    for text in ("kv.b", "1 of 2", "3.0 s ago", waits, "n1 lost something of kv.b", "n3 (is down)"):
        assert text in shown
    healthy = {
        "ranges": [{**RANGE, "equal_s": {"n2": 3.0}}],
        "floors": [{**FLOOR, "waiting": ""}],
        "mending": [],
    }
    peer.answers["repair"] = healthy
    assert sullae(monkeypatch, "repair", "status", "--url", peer.url, "--json") == 0
    assert json.loads(capsys.readouterr().out)["peers"]["n1"]["ranges"][0]["equal_s"] == {"n2": 3.0}


def test_a_table_is_compared_and_losses_are_accepted_only_when_meant(
    peer: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.answers |= {"repair_run": {"tables": ["kv.b"], "comparisons": 4}, "accept_loss": {"given_up": 1}}
    assert sullae(monkeypatch, "repair", "run", "kv.b", "--url", peer.url) == 0
    assert peer.asked[-1] == ("repair_run", {"table": "kv.b"})
    assert "4 comparisons" in said(capsys)
    assert sullae(monkeypatch, "repair", "accept-loss", "--yes", "--url", peer.url) == 0
    assert peer.asked[-1] == ("accept_loss", {}) and "1 range given up" in said(capsys)
    monkeypatch.setattr(repair, "_ask_all", lambda *_: {"n1": {"given_up": 2}, "n2": None})
    assert sullae(monkeypatch, "repair", "accept-loss", "--yes", "--url", peer.url) == 0
    assert said(capsys).splitlines()[-2:] == ["n1: 2 ranges given up", "n2: no answer"]


def test_a_scrub_is_begun_and_its_result_told(
    peer: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = {"bytes": 2048, "records": 9, "problems": 1, "seconds": 0.5, "found": ["leaf 3 was wrong"]}
    ended = {"running": False, "bytes": 2048, "problems": 1, "last": last}
    peer.answers |= {"scrub": {**ended, "running": True, "last": None}, "scrub_status": ended}
    assert sullae(monkeypatch, "scrub", "n1", "--pace", "5", "--url", peer.url) == 4
    assert ("scrub", {"bytes_per_s": 5 * 2**20}) in peer.asked
    shown = said(capsys)
    assert "9 records" in shown and "1 problem" in shown and "leaf 3 was wrong" in shown


def test_a_peer_that_starts_again_for_damage_while_it_is_scrubbed_is_waited_for(
    peer: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = {"running": True, "bytes": 5, "problems": 0, "last": None}
    answers = (running, running, None, None, running | {"running": False})
    told = iter([{"n1": answer} for answer in answers])
    monkeypatch.setattr("cli.repair._ask_all", lambda *_: next(told))
    monkeypatch.setattr("cli.repair.POLL_S", 0.001)
    assert sullae(monkeypatch, "scrub", "--url", peer.url) == 4
    shown = said(capsys)
    assert "n1: no answer; one that met damage starts again to mend it" in shown
    assert "n1: started again meanwhile" in shown and "sullae repair status" in shown
