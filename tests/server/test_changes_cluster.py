"""Change streams over REST from three real peers: what a client sees, resumes, filters, and survives."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.server.cluster import Cluster, Peer, wait_for

pytestmark = pytest.mark.process

Line = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("changes")
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def all_up(cluster: Cluster) -> None:
    """Each test begins with three peers."""
    cluster.start()


class Stream:
    """One subscription."""

    def __init__(self, peer: Peer, port: int, table: str, query: str = "", **headers: str) -> None:
        self.connection = http.client.HTTPConnection(peer.address, port, timeout=10)
        found = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("GET", f"/v1/changes/{table}?{query}", None, found)
        self.answer = self.connection.getresponse()
        self.cursor = ""

    def line(self) -> Line:
        """The next one; {} at the end."""
        found: Line = json.loads(self.answer.readline() or b"{}")
        if found.get("type") == "heartbeat":
            self.cursor = found.get("cursor", "")
        return found

    def until(self, kind: str) -> Line:
        """The next line of this type."""
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            found = self.line()
            if found.get("type") == kind:
                return found
            assert found, f"the stream ended before a line of type {kind}"
        raise AssertionError(f"no {kind} within 10 s")

    def events(self, count: int) -> list[Line]:
        """So many events."""
        return [self.until("event") for _ in range(count)]

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def listen(cluster: Cluster, at: int, table: str, query: str = "", **headers: str) -> Stream:
    stream = Stream(cluster.peers[at], cluster.port, table, query, **headers)
    assert stream.answer.status == 200, stream.answer.read()
    return stream


def make(cluster: Cluster, kind: str, name: str, changes: str = "new_and_old") -> None:
    answer = cluster.peers[0].request("PUT", f"/v1/{kind}/{name}", json.dumps({"changes": changes}).encode())
    assert answer.status in (200, 201), answer.body
    assert json.loads(answer.body)["changes"] == changes

    def known() -> bool:
        paths = [peer.request("GET", f"/v1/{kind}/{name}") for peer in cluster.peers]
        return all(found.status == 200 and json.loads(found.body)["changes"] == changes for found in paths)

    wait_for(known, 10, cluster.logs)


def put(cluster: Cluster, path: str, value: Any, at: int = 0) -> None:
    body, kind = json.dumps(value).encode(), "application/json"
    answer = cluster.peers[at].request("PUT", path, body, Content_Type=kind)
    assert answer.status < 300, answer.body


def cql(cluster: Cluster, text: str, at: int = 0) -> None:
    answer = cluster.peers[at].request("POST", "/v1/cql", json.dumps({"query": text}).encode())
    assert answer.status == 200, answer.body


def test_a_document_from_insert_to_delete(cluster: Cluster) -> None:
    make(cluster, "collections", "life")
    stream = listen(cluster, 1, "docs.life")
    assert stream.answer.getheader("Content-Type") == "application/x-ndjson"
    stream.until("heartbeat")
    put(cluster, "/v1/docs/life/a", {"title": "x", "n": 12345678901234567890.123})
    body, kind = b'{"n": 2, "deep": {"er": true}}', "application/merge-patch+json"
    cluster.peers[2].request("PATCH", "/v1/docs/life/a", body, Content_Type=kind)
    cluster.peers[0].request("DELETE", "/v1/docs/life/a")
    insert, update, delete = stream.events(3)
    assert [event["op"] for event in (insert, update, delete)] == ["insert", "update", "delete"]
    assert {event["key"] for event in (insert, update, delete)} == {"a"}
    assert (insert["changed"], insert["before"], insert["after"]["title"]) == ([""], None, "x")
    assert sorted(update["changed"]) == ["/deep/er", "/n"]
    assert update["before"] == insert["after"]
    assert update["after"] == {"title": "x", "n": 2, "deep": {"er": True}}
    assert (delete["before"], delete["after"]) == (update["after"], None)
    assert insert["timestamp_us"] < update["timestamp_us"] < delete["timestamp_us"]
    assert insert["table"] == "docs.life" and insert["time"].endswith("Z")
    stream.close()


def test_a_bucket_and_what_it_shows(cluster: Cluster) -> None:
    make(cluster, "buckets", "sessions")
    stream = listen(cluster, 0, "kv.sessions", "from=start")
    for value, kind in ((b"text", "text/plain"), (b"\xff\x00", "application/octet-stream")):
        cluster.peers[1].request("PUT", "/v1/kv/sessions/k%2F1", value, Content_Type=kind)
    cluster.peers[1].request("PUT", "/v1/kv/sessions/k%2F1", b'{\n "a": 1}', Content_Type="application/json")
    text, octets, document = stream.events(3)
    assert text["key"] == "k/1"
    assert text["after"] == {"value": "text", "content_type": "text/plain"}
    assert octets["after"] == {"base64": "/wA=", "content_type": "application/octet-stream"}
    assert document["after"] == {"json": {"a": 1}, "content_type": "application/json"}
    stream.close()


def test_a_table_of_cql_from_create_to_drop(cluster: Cluster) -> None:
    cql(cluster, "CREATE KEYSPACE shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}")
    cql(
        cluster,
        "CREATE TABLE shop.lines (id int, at int, s text STATIC, n decimal, tags set<text>, doc json, "
        "PRIMARY KEY (id, at)) WITH changes = 'new_and_old'",
    )
    stream = listen(cluster, 2, "shop.lines", "from=start")
    cql(cluster, "INSERT INTO shop.lines (id, at, n, tags) VALUES (1, 2, 1.50, {'b', 'a'})")
    cql(cluster, "UPDATE shop.lines SET s = 'shared' WHERE id = 1")
    cql(cluster, """UPDATE shop.lines SET doc = '{"a": [1]}' WHERE id = 1 AND at = 2""")
    cql(cluster, "DELETE FROM shop.lines WHERE id = 1 AND at > 1")
    cql(cluster, "DELETE FROM shop.lines WHERE id = 1")
    row, static, updated, some, whole = stream.events(5)
    assert (row["key"], row["op"]) == ({"id": 1, "at": 2}, "insert")
    assert row["after"] == {"id": 1, "at": 2, "doc": None, "n": 1.5, "tags": ["a", "b"]}
    assert (static["scope"], static["key"]) == ("static", {"id": 1})
    assert static["after"] == {"id": 1, "s": "shared"}
    assert (updated["changed"], updated["after"]["doc"]) == (["doc"], {"a": [1]})
    assert (some["scope"], some["op"], whole["scope"]) == ("range", "delete", "partition")
    assert "range" in some and "range" not in whole
    stream.until("heartbeat")
    whole_cursor = stream.cursor
    cql(
        cluster,
        "BEGIN BATCH INSERT INTO shop.lines (id, at) VALUES (5, 1); "
        "INSERT INTO shop.lines (id, at) VALUES (5, 2); APPLY BATCH",
    )
    cql(cluster, "INSERT INTO shop.lines (id, at) VALUES (5, 3)")
    batch = stream.events(3)
    assert [event["key"]["at"] for event in batch] == [1, 2, 3]
    assert [event["id"].rpartition("-")[2] for event in batch] == ["0", "1", "0"]
    for seen, rest in ((1, [1, 2, 3]), (2, [3])):  # a mutation is delivered wholly, or again
        cursor = f"{whole_cursor},{batch[seen - 1]['cursor']}"
        resumed = listen(cluster, 2, "shop.lines", f"limit={len(rest)}&from={cursor}")
        assert [event["key"]["at"] for event in resumed.events(len(rest))] == rest
        resumed.close()
    cql(cluster, "TRUNCATE shop.lines")
    assert stream.until("event")["op"] == "truncate"
    cql(cluster, "INSERT INTO shop.lines (id, at) VALUES (7, 7)")
    assert stream.until("event")["key"] == {"id": 7, "at": 7}
    resumed = listen(cluster, 1, "shop.lines", f"limit=2&from={whole_cursor}")
    assert [event["op"] for event in resumed.events(2)] == ["truncate", "insert"]
    resumed.close()
    cql(cluster, "ALTER TABLE shop.lines WITH changes = 'keys'", at=1)
    cql(cluster, "INSERT INTO shop.lines (id, at) VALUES (8, 8)", at=1)
    found = stream.until("event")
    assert (found["op"], found["key"], "after" in found) == ("insert", {"id": 8, "at": 8}, False)
    cql(cluster, "CREATE TABLE shop.gone (id int PRIMARY KEY) WITH changes = 'keys'", at=2)
    gone = listen(cluster, 2, "shop.gone")
    gone.until("heartbeat")
    cql(cluster, "DROP TABLE shop.gone", at=2)
    last = gone.until("error")
    assert (last["status"], last["problem"]) == (404, "no-such-table")
    assert gone.line() == {}
    gone.close()
    stream.close()
    cql(cluster, "ALTER TABLE shop.lines WITH changes = 'none'")
    assert cluster.peers[0].request("GET", "/v1/changes/shop.lines").status == 409
    body = json.dumps({"query": "DESCRIBE TABLE shop.lines"}).encode()
    cql(cluster, "ALTER TABLE shop.lines WITH changes = 'old'")
    assert b"changes = 'old'" in cluster.peers[0].request("POST", "/v1/cql", body).body


def test_only_what_is_asked_for(cluster: Cluster) -> None:
    make(cluster, "collections", "films")
    for number in range(20):
        put(cluster, f"/v1/docs/films/{'ab'[number % 2]}{number}", {"year": 1990 + number})
    cluster.peers[0].request("DELETE", "/v1/docs/films/a0")

    def keys(query: str) -> list[str]:
        stream = listen(cluster, 1, "docs.films", f"from=start&{query}")
        found = [event["key"] for event in stream.events(int(query.rpartition("=")[2]))]
        stream.close()
        return found

    assert keys("key=b7&limit=1") == ["b7"]
    assert keys("prefix=b&limit=10") == [f"b{n}" for n in range(1, 20, 2)]
    assert keys("op=delete&limit=1") == ["a0"]
    parts: list[str] = []
    for number in (1, 2, 3):
        stream = listen(cluster, number - 1, "docs.films", f"from=start&part={number}/3")
        while (line := stream.line())["type"] == "event":
            parts.append(line["key"])
        stream.close()
    assert sorted(parts) == sorted(["a0"] + [f"{'ab'[n % 2]}{n}" for n in range(20)])
    wanted = quote('{"year": {"$gt": 2007}}')
    assert keys(f"filter={wanted}&limit=2") == ["a18", "b19"]


def test_what_is_wrong_is_a_problem_before_anything_is_streamed(cluster: Cluster) -> None:
    cluster.peers[0].request("PUT", "/v1/docs/silent/a", b"{}")
    wait_for(lambda: cluster.peers[1].request("GET", "/v1/collections/silent").status == 200, 5, cluster.logs)
    make(cluster, "collections", "some", "keys")
    make(cluster, "collections", "another")

    def problem(path: str) -> tuple[int, str]:
        answer = cluster.peers[1].request("GET", f"/v1/changes/{path}")
        return answer.status, json.loads(answer.body)["type"]

    assert problem("docs.none") == (404, "no-such-table")
    assert problem("docs") == (404, "no-such-table")
    assert problem("docs.silent") == (409, "changes-off")
    assert problem("docs.some?from=AAAA") == (400, "bad-cursor")
    assert problem("docs.some?from=2026-13-01") == (400, "bad-query")
    assert problem("docs.some?from=2026-01-01T00:00:00") == (400, "bad-query")
    assert problem("docs.some?filter=%7B") == (400, "bad-filter")
    assert problem("docs.some?filter=%7B%22%24where%22%3A1%7D") == (400, "bad-filter")
    assert problem("docs.some?limit=0") == (400, "bad-limit")
    assert problem("docs.some?envelope=avro") == (400, "bad-query")
    assert problem("docs.some?op=merge") == (400, "bad-query")
    assert problem("docs.some?until=now") == (400, "bad-query")
    assert problem("docs.some?part=3/2") == (400, "bad-query")
    upgrade = cluster.peers[1].request("GET", "/v1/changes/docs.some", Upgrade="websocket")
    assert (upgrade.status, json.loads(upgrade.body)["type"]) == (400, "bad-request")
    answer = cluster.peers[1].request("POST", "/v1/changes/docs.some")
    assert answer.status == 405
    answer = cluster.peers[0].request("PUT", "/v1/collections/some", b'{"changes": "everything"}')
    assert (answer.status, json.loads(answer.body)["type"]) == (400, "bad-changes")
    stream = listen(cluster, 0, "docs.some")
    stream.until("heartbeat")
    other = cluster.peers[1].request("GET", f"/v1/changes/docs.another?from={stream.cursor}")
    assert (other.status, json.loads(other.body)["type"]) == (400, "bad-cursor")
    stream.close()


def test_server_sent_events_resume_by_their_last_id_and_other_envelopes(cluster: Cluster) -> None:
    make(cluster, "collections", "sse")
    put(cluster, "/v1/docs/sse/a", {"n": 1})
    stream = listen(cluster, 1, "docs.sse", "from=start", Accept="text/event-stream")
    assert stream.answer.getheader("Content-Type") == "text/event-stream"
    fields: list[tuple[str, str]] = []
    while not any(name == "id" for name, _ in fields) or not any("event" == value for _, value in fields):
        name, _, value = stream.answer.readline().decode().strip().partition(": ")
        fields.append((name, value))
    while stream.answer.readline().strip():
        pass
    last_id = [value for name, value in fields if name == "id"][-1]
    stream.close()
    put(cluster, "/v1/docs/sse/b", {"n": 2})
    stream = listen(cluster, 2, "docs.sse", "envelope=cloudevents", Last_Event_ID=last_id)
    while "sullae.change" not in (found := stream.line()).get("type", ""):
        assert found
    assert (found["specversion"], found["type"], found["subject"]) == ("1.0", "sullae.change.insert", "b")
    assert found["data"]["after"] == {"n": 2}
    stream.close()
    stream = listen(cluster, 2, "docs.sse", "from=1h&envelope=debezium&op=insert&limit=2")
    found_ops = []
    while line := stream.line():
        if line["op"] != "m":
            found_ops.append((line["op"], line["before"], line["after"], line["source"]["table"]))
    assert found_ops == [("c", None, {"_id": name, "n": n}, "sse") for name, n in (("a", 1), ("b", 2))]
    stream.close()


def test_a_snapshot_hands_over_to_the_stream_and_goes_on_from_its_middle(cluster: Cluster) -> None:
    make(cluster, "collections", "snap")
    lines = [json.dumps({"op": "put", "id": f"s{n}", "document": {"n": 0}}) for n in range(1_500)]
    body = "\n".join(lines).encode()
    answer = cluster.peers[0].request("POST", "/v1/docs/snap/_bulk", body, timeout_s=30.0)
    assert answer.status == 200
    stop, written = threading.Event(), {f"s{n}": 0 for n in range(1_500)}

    def overwrite() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"s{number * 7 % 1_600}"
            put(cluster, f"/v1/docs/snap/{key}", {"n": number}, number % 3)
            written[key] = number

    thread = threading.Thread(target=overwrite)
    thread.start()
    copy: dict[str, int] = {}
    stream = listen(cluster, 1, "docs.snap", "from=snapshot")
    while not stream.cursor:  # in the middle of its rows
        line = stream.line()
        if line["type"] == "event":
            assert (line["op"], line["id"][0]) == ("read", "r")
            copy[line["key"]] = line["after"]["n"]
    assert 0 < len(copy) < 1_500
    cursor = stream.cursor
    stream.close()
    stream = listen(cluster, 2, "docs.snap", f"from={cursor}")
    ops: dict[str, int] = {}
    while ops.get("update", 0) < 100:
        line = stream.line()
        if line["type"] == "event":
            ops[line["op"]] = ops.get(line["op"], 0) + 1
            copy[line["key"]] = line["after"]["n"]
    assert 0 < ops["read"] < 1_600
    stop.set()
    thread.join()
    end_s = time.monotonic() + 10
    while copy != written and time.monotonic() < end_s:
        line = stream.line()
        if line["type"] == "event":
            copy[line["key"]] = line["after"]["n"]
    assert copy == written
    stream.close()


def test_a_websocket_gets_lines_as_messages(cluster: Cluster) -> None:
    make(cluster, "collections", "socket")
    peer = cluster.peers[2]

    async def work() -> None:
        url = f"http://{peer.address}:{cluster.port}/v1/changes/docs.socket"
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(url) as socket:
                first = await socket.receive_json(timeout=5)
                assert first["type"] == "heartbeat"
                await asyncio.to_thread(put, cluster, "/v1/docs/socket/a", {"n": 1})
                while (found := await socket.receive_json(timeout=5))["type"] != "event":
                    assert found["type"] == "heartbeat"
                assert (found["key"], found["after"]) == ("a", {"n": 1})
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}s")
            assert refused.value.status == 404

    asyncio.run(work())


def test_a_reader_that_does_not_read_holds_up_nobody(cluster: Cluster) -> None:
    make(cluster, "collections", "wide")
    lazy = listen(cluster, 1, "docs.wide")
    lazy.until("heartbeat")
    text = "x" * 50_000
    for number in range(300):
        put(cluster, f"/v1/docs/wide/w{number}", {"t": text, "n": number}, number % 3)
    eager = listen(cluster, 1, "docs.wide", "from=start")
    # Only a key's own events are in order: a replica may meet one of a quorum without it after the next.
    assert sorted(event["after"]["n"] for event in eager.events(300)) == list(range(300))
    assert sorted(event["after"]["n"] for event in lazy.events(300)) == list(range(300))
    lazy.close()
    eager.close()


def test_a_websocket_that_is_not_read_holds_up_nobody_and_goes_on(cluster: Cluster) -> None:
    make(cluster, "collections", "deep")
    peer, text = cluster.peers[2], "x" * 50_000

    async def work() -> None:
        url = f"http://{peer.address}:{cluster.port}/v1/changes/docs.deep"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            assert (await socket.receive_json(timeout=5))["type"] == "heartbeat"
            for number in range(200):
                value = {"t": text, "n": number}
                await asyncio.to_thread(put, cluster, f"/v1/docs/deep/d{number}", value, number % 3)
            found: list[int] = []
            while len(found) < 200:
                line = await socket.receive_json(timeout=10)
                if line["type"] == "event":
                    found.append(line["after"]["n"])
            assert sorted(found) == list(range(200))

    asyncio.run(work())


def test_nothing_acknowledged_is_missed_while_a_peer_is_killed(cluster: Cluster) -> None:
    make(cluster, "collections", "queue")
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(at: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"w{at}-{number}"
            try:
                answer = cluster.peers[at].request("PUT", f"/v1/docs/queue/{key}", b'{"n": %d}' % number)
            except OSError:
                time.sleep(0.05)
                continue
            if answer.status < 300:
                acknowledged.append(key)

    seen: dict[str, str] = {}
    stream = listen(cluster, 1, "docs.queue")
    stream.until("heartbeat")
    cursor = stream.cursor
    threads = [threading.Thread(target=write, args=(at,)) for at in (0, 2)]
    for thread in threads:
        thread.start()
    for event in stream.events(100):
        seen[event["id"]] = event["key"]
        cursor = stream.cursor or cursor
    cluster.peers[1].kill()  # it is the one that was followed
    stream.close()
    stream = listen(cluster, 2, "docs.queue", f"from={cursor}")
    restarts = [stream.until("restart")]
    for event in stream.events(300):
        assert seen.setdefault(event["id"], event["key"]) == event["key"]
    cluster.peers[1].start()
    for event in stream.events(100):
        assert seen.setdefault(event["id"], event["key"]) == event["key"]
    stop.set()
    for thread in threads:
        thread.join()
    cluster.wait_ready()
    end_s = time.monotonic() + 15
    while len(restarts) == 1 and set(acknowledged) - set(seen.values()) and time.monotonic() < end_s:
        line = stream.line()
        if line["type"] == "event":
            assert seen.setdefault(line["id"], line["key"]) == line["key"]
    assert len(acknowledged) > 300
    assert sorted(set(acknowledged) - set(seen.values())) == []
    assert len(set(seen.values())) == len(seen)
    stream.close()


def test_a_peer_that_stops_says_so_on_its_streams_and_does_not_wait_for_them(cluster: Cluster) -> None:
    make(cluster, "collections", "ending")
    stream = listen(cluster, 2, "docs.ending")
    stream.until("heartbeat")
    began_s = time.monotonic()
    stopped: list[int] = []
    thread = threading.Thread(target=lambda: stopped.append(cluster.peers[2].stop()))
    thread.start()
    last = stream.until("error")
    assert (last["status"], last["problem"]) == (503, "not-ready")
    assert stream.line() == {}
    stream.close()
    thread.join()
    assert stopped == [0]
    assert time.monotonic() - began_s < 5
    put(cluster, "/v1/docs/ending/a", {"n": 1})
    stream = listen(cluster, 0, "docs.ending", f"from={stream.cursor}")
    assert stream.until("event")["key"] == "a"
    stream.close()
