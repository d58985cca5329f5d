"""`sullae tail` against streams that break, hang, refuse and repeat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cli.output import Failure
from cli.tail import Follower, Line, Watched, drawn_line, tail

Lines = list[dict[str, Any]]
HANG = {"type": "hang"}


class Written(dict[str, Any]):
    """A line that is told as it is written."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "event", "id": f"1-{number:x}-0", "table": "docs.m", "op": "insert", "key": f"k{number}",
        "time": "2026-01-31T12:00:00.25Z", "cursor": f"part{number}", **more,
    }  # fmt: skip


def beat(cursor: str) -> dict[str, Any]:
    return {"type": "heartbeat", "time": "2026-01-31T12:00:01Z", "cursor": cursor}


@contextmanager
def peer(
    answers: Callable[[dict[str, str]], tuple[int, Lines]],
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A peer that answers each stream with lines and then breaks off; with what was asked of it."""
    asked: list[dict[str, str]] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Silence."""

        def do_GET(self) -> None:
            query = {name: found[0] for name, found in parse_qs(urlsplit(self.path).query).items()}
            asked.append(query)
            status, lines = answers(query)
            self.send_response(status)
            self.end_headers()
            for line in lines:
                if line is HANG:
                    over.wait(20)
                    return
                text = line.text if isinstance(line, Written) else json.dumps(line)
                self.wfile.write(text.encode() + b"\n")
                self.wfile.flush()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def taken(follower: Follower, count: int) -> Lines:
    lines = follower.lines()
    found: Lines = [next(lines) for _ in range(count)]
    lines.close()  # type: ignore[attr-defined]
    return found


def following(urls: list[str], watched: Watched, told: list[str] | None = None) -> Follower:
    said = told if told is not None else []
    return Follower(urls, watched, said.append, pauses_s=(0.0,), silence_s=0.5)


def test_another_peer_goes_on_from_the_last_whole_cursor_without_repeats() -> None:
    def first(query: dict[str, str]) -> tuple[int, Lines]:
        return 200, [beat("c0"), event(1), event(2), beat("c2"), event(3)]

    def second(query: dict[str, str]) -> tuple[int, Lines]:
        return 200, [event(2), event(3), event(4), beat("c4"), HANG]

    told: list[str] = []
    with peer(first) as (one, asked_one), peer(second) as (two, asked_two):
        watched = Watched("docs.m", "10m", '{"a":1}', prefix="k", operations="insert")
        found = taken(following([one, two], watched, told), 4)
    assert [line["key"] for line in found] == ["k1", "k2", "k3", "k4"]
    assert asked_one[0] == {
        "from": "10m",
        "format": "ndjson",
        "filter": '{"a":1}',
        "op": "insert",
        "prefix": "k",
    }
    assert [query["from"] for query in asked_two] == ["c2"]
    assert told == [f"{one}: the stream ended; trying {two}", f"going on at {two}"]


def test_a_peer_that_hangs_or_stops_is_left() -> None:
    def hangs(query: dict[str, str]) -> tuple[int, Lines]:
        return 200, [event(1), HANG]

    def stops(query: dict[str, str]) -> tuple[int, Lines]:
        problem = {"type": "error", "status": 503, "detail": "this peer is stopping"}
        return 200, [event(2), beat("c"), problem]

    def is_not_ready(query: dict[str, str]) -> tuple[int, Lines]:
        return 503, [{"type": "not-ready", "status": 503, "detail": "not yet"}]

    def serves(query: dict[str, str]) -> tuple[int, Lines]:
        return 200, [event(3), HANG]

    with (
        peer(hangs) as (one, _),
        peer(stops) as (two, asked_two),
        peer(is_not_ready) as (three, asked_three),
        peer(serves) as (four, asked_four),
    ):
        found = taken(following([one, two, three, four], Watched("docs.m")), 3)
    assert [line["key"] for line in found] == ["k1", "k2", "k3"]
    # No heartbeat had come: `now` goes on from the time of the first line, not from a later now.
    assert [query["from"] for query in asked_two] == ["2026-01-31T12:00:00.25Z"]
    assert [query["from"] for query in asked_three + asked_four] == ["c", "c"]


def test_what_no_peer_will_serve_is_told_and_not_tried_again() -> None:
    def refuses(query: dict[str, str]) -> tuple[int, Lines]:
        return 404, [{"type": "no-such-table", "status": 404, "detail": "there is no table 'docs.m'"}]

    with peer(refuses) as (one, asked), pytest.raises(Failure, match="there is no table") as error:
        taken(following([one, one], Watched("docs.m")), 1)
    assert len(asked) == 1
    assert error.value.code == "no-such-table" and "docs.NAME" in error.value.hint


def test_nobody_there_at_all_is_told_at_once() -> None:
    with peer(lambda query: (200, [])) as (url, _):
        gone = url
    with pytest.raises(Failure, match="no peer answers"):
        taken(following([gone, gone], Watched("docs.m")), 1)


def test_a_gap_is_shown() -> None:
    gap = {"type": "gap", "ranges": [[0, 5]], "why": "retention", "time": "2026-01-31T12:00:00Z"}
    with peer(lambda query: (200, [beat("c"), gap, HANG])) as (url, _):
        assert taken(following([url], Watched("docs.m")), 1) == [gap]
    assert drawn_line(gap).plain == "12:00:00.000  gap      retention (1 ranges)"


def test_what_people_see() -> None:
    images = {"before": {"year": 1, "a": {"b/": 2}}, "after": {"year": 2, "a": {"b/": 2}, "t": "x"}}
    line = event(1, op="update", changed=["/year", "/a/b~1", "/t"], late=True, **images)
    assert drawn_line(line).plain == '12:00:00.250  update   k1 late  year 1 → 2  a/b~1 2  t null → "x"'
    put = event(1, op="update", changed=[""], **images)
    assert drawn_line(put).plain == '12:00:00.250  update   k1  year 1 → 2  t null → "x"'
    many = event(1, after={f"m{n}": n for n in range(10)}, key="bad\x1b[2J")
    assert drawn_line(many).plain == (
        "12:00:00.250  insert   bad\\u001b[2J  m0 0  m1 1  m2 2  m3 3  m4 4  m5 5  m6 6  m7 7  and 2 more "
    )
    gone = event(1, op="delete", key={"pk": 1, "c": "x"}, before={"v": "y" * 100}, scope="row")
    shown = drawn_line(gone)
    assert shown.plain.startswith('12:00:00.250  delete   {"pk":1,"c":"x"} (row)  v "yyy')
    assert shown.plain.endswith("…") and any(span.style == "red" for span in shown.spans)


@pytest.mark.parametrize(
    "number", ["0.1234567890123456789", "1.50", "1E+400", "9007199254740993.0", "9" * 5000]
)
def test_numbers_keep_all_their_digits(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = json.dumps(event(1, after={"n": 7777})).replace("7777", number)
    with peer(lambda query: (200, [Written(text), HANG])) as (url, _):
        assert tail([url], Watched("docs.m", limit=1), as_json=True) == 0
        assert capsys.readouterr().out == text + "\n"
    shown = drawn_line(Line(text.encode())).plain
    assert number[:30].rstrip("0") in shown


def test_a_changed_digit_is_a_change() -> None:
    text = json.dumps(event(1, op="update", changed=[""], before={"n": 1}, after={"n": 7777}))
    text = text.replace('"n": 1', '"n": 0.12345678901234567891').replace("7777", "0.12345678901234567892")
    assert "n 0.12345678901234567891 → 0.12345678901234567892" in drawn_line(Line(text.encode())).plain


def test_the_command_ends_cleanly(tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[2]
    told = [beat("c"), event(1, after={"year": 2001}), event(2)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with peer(lambda query: (200, [*told, HANG])) as (url, asked):
        command = [
            sys.executable,
            "-m",
            "cli.main",
            "tail",
            "docs.m",
            "--url",
            url,
            "--json",
            "-w",
            "year > 2000",
        ]
        limited = subprocess.run(
            [*command, "--limit", "1"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        assert (limited.returncode, limited.stderr) == (0, "")
        assert [json.loads(line)["key"] for line in limited.stdout.splitlines()] == ["k1"]
        assert asked[0]["filter"] == '{"year":{"$gt":2000}}'
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
        ) as running:
            assert running.stdout is not None and running.stderr is not None
            assert json.loads(running.stdout.readline())["key"] == "k1"
            running.send_signal(signal.SIGINT)
            assert running.wait(10) == 0
            assert running.stderr.read() == ""
    wrong = subprocess.run(
        [sys.executable, "-m", "cli.main", "tail", "docs.m", "-w", "year >"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert wrong.returncode == 2 and "--where ends early" in wrong.stderr
