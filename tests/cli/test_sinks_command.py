"""`sullae sinks`: what is asked of a peer, and what people read."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cli.main import main

SINK = {
    "name": "f", "table": "docs.m", "kind": "webhook", "from": "2026-01-31T12:00:00Z", "url": "https://x/",
    "owner": "n2",
    "paused": False, "delivered": 1234, "delivered_at": "2026-01-31T13:00:00Z", "error": "", "lag_s": 3.2,
}  # fmt: skip


class Asked:
    """A peer that notes requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.url = ""


@pytest.fixture
def peer() -> Iterator[Asked]:
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Silence."""

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.requests.append((self.command, self.path, json.loads(body) if body else None))
            found: dict[str, Any] = {"sinks": [SINK, {**SINK, "name": "g", "paused": True, "error": "away"}]}
            if self.command == "PUT":
                found = SINK
            data = b"" if self.command == "DELETE" else json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_DELETE = answer  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    asked.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_each_command(
    peer: Asked, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sullae(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["sullae", "sinks", *arguments, "--url", peer.url])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        said = capsys.readouterr()
        return said.out + said.err

    secret = ("--secret", "env:SULLAE_SINK_F")
    out = sullae("add", "f", "docs.m", "--to", "https://x/", "--since", "1h", "--every", "2", *secret)
    assert out.startswith("f: docs.m to https://x/, from 2026-01-31T12:00:00Z on\n")
    listed = sullae("list").splitlines()
    assert listed[0].split() == ["name", "table", "kind", "owner", "events", "behind", "error"]
    assert listed[1].split() == ["f", "docs.m", "webhook", "n2", "1,234", "3", "s"]
    assert listed[2].split()[3] == "paused" and listed[2].split()[-1] == "away"
    assert json.loads(sullae("list", "--json"))["sinks"][0] == SINK
    assert sullae("pause", "f") == "f is paused\n"
    assert sullae("pause", "f", "--resume") == "f goes on\n"
    assert json.loads(sullae("remove", "f", "--json")) == {"removed": "f"}
    wanted = {"table": "docs.m", "kind": "webhook", "from": "1h", "every_s": 2.0, "url": "https://x/"}
    wanted["secret"] = "env:SULLAE_SINK_F"
    assert peer.requests == [
        ("PUT", "/v1/sinks/f", wanted),
        ("GET", "/v1/sinks", None),
        ("GET", "/v1/sinks", None),
        ("PUT", "/v1/sinks/f", {"paused": True}),
        ("PUT", "/v1/sinks/f", {"paused": False}),
        ("DELETE", "/v1/sinks/f", None),
    ]
