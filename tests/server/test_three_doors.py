"""One row, three doors: whoever wrote a document, whoever reads it sees the same, at once and on any peer.

Every writer after every other writer on one document; then every reader, each on another peer than the
writers. What is expected comes from a model of three lines: a writer of whole documents replaces, the others
change two members and keep the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.server.cluster import Answer, Cluster, Peer, wait_for

pytestmark = pytest.mark.process

Document = dict[str, Any]
TABLE = "docs.doors"
MERGE, PATCH = "application/merge-patch+json", "application/json-patch+json"
UPDATE = "application/vnd.sullae.update+json"
KEPT = {"kept": {"한글": [1.50, None]}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three peers, a collection with an index on `n`."""
    folder: Path = tmp_path_factory.mktemp("doors")
    cluster = Cluster(folder)
    try:
        cluster.start()
        rest(cluster.peers[0], "PUT", "/v1/docs/doors/first", {})
        path = "/v1/docs/doors/_indexes/by_n"
        rest(cluster.peers[0], "PUT", path, {"paths": {"n": 1}})
        wait_for(lambda: all(peer.json(path).get("built") for peer in cluster.peers), 20.0, cluster.logs)
        yield cluster
    finally:
        cluster.close()


def rest(peer: Peer, method: str, path: str, body: Any = None, kind: str = "application/json") -> Answer:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = peer.request(method, path, data, Content_Type=kind)
    assert answer.status in (200, 201, 204, 404), answer.body
    return answer


def cql(peer: Peer, query: str, *parameters: Any) -> list[dict[str, Any]]:
    body = {"query": query, "parameters": parameters, "consistency": "QUORUM"}
    answer = rest(peer, "POST", "/v1/cql", body)
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = json.loads(answer.body or b"{}").get("rows", [])
    return found


# --- writers: (peer, id, title, n); whole ones replace the document

Writer = Callable[[Peer, str, str, int], Any]


def _whole(title: str, n: int) -> Document:
    return {"title": title, "n": n}


def bulk_put(peer: Peer, name: str, title: str, n: int) -> None:
    line = json.dumps({"op": "put", "id": name, "document": _whole(title, n)}).encode()
    rest(peer, "POST", "/v1/docs/doors/_bulk", line, "application/x-ndjson")


def cql_insert_json(peer: Peer, name: str, title: str, n: int) -> None:
    cql(peer, f"INSERT INTO {TABLE} JSON ?", json.dumps({"id": name, "doc": _whole(title, n)}))


WHOLE: dict[str, Writer] = {
    "rest put": lambda peer, name, t, n: rest(peer, "PUT", f"/v1/docs/doors/{name}", _whole(t, n)),
    "rest bulk": bulk_put,
    "cql insert": lambda peer, name, t, n: cql(
        peer, f"INSERT INTO {TABLE} (id, doc) VALUES (?, ?)", name, _whole(t, n)
    ),
    "cql insert json": cql_insert_json,
    "cql update": lambda peer, name, t, n: cql(
        peer, f"UPDATE {TABLE} SET doc = ? WHERE id = ?", _whole(t, n), name
    ),
}
CHANGING: dict[str, Writer] = {
    "cql paths": lambda peer, name, t, n: cql(
        peer, f"UPDATE {TABLE} SET doc['title'] = ?, doc['n'] = ? WHERE id = ?", t, n, name
    ),
    "cql path if": lambda peer, name, t, n: cql(
        peer, f"UPDATE {TABLE} SET doc['title'] = ?, doc['n'] = ? WHERE id = ? IF EXISTS", t, n, name
    ),
    "merge patch": lambda peer, name, t, n: rest(
        peer, "PATCH", f"/v1/docs/doors/{name}", _whole(t, n), MERGE
    ),
    "json patch": lambda peer, name, t, n: rest(
        peer,
        "PATCH",
        f"/v1/docs/doors/{name}",
        [{"op": "add", "path": "/title", "value": t}, {"op": "add", "path": "/n", "value": n}],
        PATCH,
    ),
    "operators": lambda peer, name, t, n: rest(
        peer, "PATCH", f"/v1/docs/doors/{name}", {"$set": {"title": t}, "$max": {"n": n}}, UPDATE
    ),
}
WRITERS = {**WHOLE, **CHANGING}


# --- readers: the document, by its id, its word or its number; None if it is not found


def _hits(peer: Peer, title: str) -> list[Document]:
    found = json.loads(rest(peer, "GET", f"/v1/search/doors?q=title:{quote(title)}").body)
    return [hit["_source"] for hit in found["hits"]["hits"]]


def _find(peer: Peer, question: dict[str, Any]) -> list[Document]:
    found = json.loads(rest(peer, "POST", "/v1/docs/doors/_find", question).body)
    return [one["document"] for one in found["documents"]]


def _get(peer: Peer, name: str) -> list[Document]:
    answer = rest(peer, "GET", f"/v1/docs/doors/{name}")
    return [] if answer.status == 404 else [json.loads(answer.body)]


def _json_rows(peer: Peer, name: str) -> list[Document]:
    found = cql(peer, f"SELECT JSON doc FROM {TABLE} WHERE id = ?", name)
    return [json.loads(row["[json]"])["doc"] for row in found]


Reader = Callable[[Peer, str, str, int], list[Document]]
READERS: dict[str, Reader] = {
    "rest": lambda peer, name, _, __: _get(peer, name),
    "cql": lambda peer, name, _, __: [
        row["doc"] for row in cql(peer, f"SELECT doc FROM {TABLE} WHERE id = ?", name)
    ],
    "cql json": lambda peer, name, _, __: _json_rows(peer, name),
    "find": lambda peer, _, title, __: _find(peer, {"filter": {"title": title}, "allow_scan": True}),
    "index": lambda peer, _, __, n: _find(peer, {"filter": {"n": n}}),
    "search": lambda peer, _, title, __: _hits(peer, title),
    "match": lambda peer, _, title, __: [
        row["doc"] for row in cql(peer, f"SELECT doc FROM {TABLE} WHERE doc MATCH ?", title)
    ],
    "match of a path": lambda peer, _, title, __: [
        row["doc"] for row in cql(peer, f"SELECT doc FROM {TABLE} WHERE doc['title'] MATCH ?", title)
    ],
}


def all_read(cluster: Cluster, at: int, written: tuple[str, str, int], wanted: list[Document]) -> None:
    for number, (reader, read) in enumerate(READERS.items()):
        peer = cluster.peers[(at + 1 + number % 2) % 3]
        assert read(peer, *written) == wanted, (reader, written)


@pytest.mark.parametrize("first", WRITERS)
def test_every_reader_after_every_pair_of_writers(cluster: Cluster, first: str) -> None:
    a = list(WRITERS).index(first)
    for b, second in enumerate(WRITERS):
        n = 1_000 + 100 * a + 2 * b
        name, at = f"d{n}", b % 3
        rest(cluster.peers[at], "PUT", f"/v1/docs/doors/{name}", KEPT)
        document: Document = dict(KEPT)
        title, number = "", 0
        for step, writer in enumerate((first, second)):
            title, number = f"word{n + step}", n + step
            WRITERS[writer](cluster.peers[at], name, title, number)
            document = _whole(title, number) if writer in WHOLE else {**document, **_whole(title, number)}
        all_read(cluster, at, (name, title, number), [document])
        assert _hits(cluster.peers[at], f"word{n}") == [], "the word before it"


# --- writers that decide, repeat or do several things at once: whole documents all of them


def cql_batch(peer: Peer, name: str, title: str, n: int) -> None:
    """A logged batch of two partitions."""
    insert = f"INSERT INTO {TABLE} (id, doc) VALUES (?, ?)"
    cql(
        peer, f"BEGIN BATCH {insert}; {insert}; APPLY BATCH", name, _whole(title, n), f"{name}-twin", {"t": n}
    )


def if_match(peer: Peer, name: str, title: str, n: int) -> None:
    path, body = f"/v1/docs/doors/{name}", json.dumps(_whole(title, n)).encode()
    tag = peer.request("GET", path).headers["etag"]
    answer = peer.request("PUT", path, body, Content_Type="application/json", If_Match=tag)
    assert answer.status < 300, answer.body


def repeated(peer: Peer, name: str, title: str, n: int) -> None:
    path, body = f"/v1/docs/doors/{name}", json.dumps(_whole(title, n)).encode()
    for _ in range(2):
        kind = "application/json"
        answer = peer.request("PUT", path, body, Content_Type=kind, Idempotency_Key=f"{name}-{n}")
        assert answer.status < 300, answer.body


def update_by_filter(peer: Peer, name: str, title: str, n: int) -> None:
    update = {"$set": _whole(title, n), "$unset": {"kept": ""}}
    rest(peer, "POST", "/v1/docs/doors/_update", {"filter": {"_id": name}, "update": update})


def applied(rows: list[dict[str, Any]]) -> None:
    assert rows[0]["[applied]"], rows


DECIDING: dict[str, Writer] = {
    "cql batch": cql_batch,
    "cql batch if": lambda peer, name, t, n: applied(
        cql(peer, f"BEGIN BATCH UPDATE {TABLE} SET doc = ? WHERE id = ? IF EXISTS; APPLY BATCH",
            _whole(t, n), name)
    ),
    "cql if": lambda peer, name, t, n: applied(
        cql(peer, f"UPDATE {TABLE} SET doc = ? WHERE id = ? IF doc['nothing'] = null", _whole(t, n), name)
    ),
    "if-match": if_match,
    "repeated": repeated,
    "update by filter": update_by_filter,
}  # fmt: skip


@pytest.mark.parametrize("writer", DECIDING)
def test_every_reader_after_writers_that_decide(cluster: Cluster, writer: str) -> None:
    a = list(DECIDING).index(writer)
    for b, other in enumerate(("rest put", "cql paths", "merge patch")):
        n, at = 20_000 + 10 * a + 3 * b, (a + b) % 3
        name = f"d{n}"
        rest(cluster.peers[at], "PUT", f"/v1/docs/doors/{name}", KEPT)
        for step, write in enumerate((WRITERS[other], DECIDING[writer])):
            write(cluster.peers[at], name, f"word{n + step}", n + step)
        all_read(cluster, at, (name, f"word{n + 1}", n + 1), [_whole(f"word{n + 1}", n + 1)])
        WRITERS[other](cluster.peers[(at + 1) % 3], name, f"word{n + 2}", n + 2)
        all_read(cluster, at, (name, f"word{n + 2}", n + 2), [_whole(f"word{n + 2}", n + 2)])


BUCKET = "kv.doorstep"
VALUES: dict[str, Callable[[Peer, str, str], Any]] = {
    "rest": lambda peer, key, v: rest(peer, "PUT", f"/v1/kv/doorstep/{key}", v.encode(), "text/plain"),
    "rest bulk": lambda peer, key, v: rest(
        peer, "POST", "/v1/kv/doorstep/_bulk", json.dumps({"op": "put", "key": key, "value": v}).encode(),
        "application/x-ndjson",
    ),
    "cql": lambda peer, key, v: cql(
        peer, f"INSERT INTO {BUCKET} (key, value) VALUES (?, textAsBlob(?))", key, v
    ),
    "cql if": lambda peer, key, v: applied(
        cql(peer, f"UPDATE {BUCKET} SET value = textAsBlob(?) WHERE key = ? IF value != 0x99", v, key)
    ),
    "cql batch": lambda peer, key, v: cql(
        peer, f"BEGIN BATCH UPDATE {BUCKET} SET value = textAsBlob(?) WHERE key = ?; "
        f"UPDATE {BUCKET} SET value = 0x00 WHERE key = ?; APPLY BATCH", v, key, f"{key}-twin",
    ),
}  # fmt: skip


def test_a_value_of_a_bucket_is_one_row_at_every_door(cluster: Cluster) -> None:
    rest(cluster.peers[0], "PUT", "/v1/kv/doorstep/first", b"1")
    for a, first in enumerate(VALUES):
        for b, second in enumerate(VALUES):
            key, at = f"k{a}{b}", (a + b) % 3
            VALUES[first](cluster.peers[at], key, "before")
            VALUES[second](cluster.peers[(at + 1) % 3], key, f"after {a} {b}")
            wanted, peer = f"after {a} {b}", cluster.peers[(at + 2) % 3]
            assert rest(peer, "GET", f"/v1/kv/doorstep/{key}").body.decode() == wanted, (first, second)
            query = f"SELECT blobAsText(value) AS v FROM {BUCKET} WHERE key = ?"
            assert cql(peer, query, key) == [{"v": wanted}], (first, second)
            assert key.encode() in rest(peer, "GET", f"/v1/kv/doorstep?prefix={key}").body


DELETERS: dict[str, Callable[[Peer, str], Any]] = {
    "rest": lambda peer, name: rest(peer, "DELETE", f"/v1/docs/doors/{name}"),
    "cql": lambda peer, name: cql(peer, f"DELETE FROM {TABLE} WHERE id = ?", name),
    "cql if exists": lambda peer, name: cql(peer, f"DELETE FROM {TABLE} WHERE id = ? IF EXISTS", name),
    "bulk": lambda peer, name: rest(
        peer,
        "POST",
        "/v1/docs/doors/_bulk",
        json.dumps({"op": "delete", "id": name}).encode(),
        "application/x-ndjson",
    ),
    "by filter": lambda peer, name: rest(
        peer, "POST", "/v1/docs/doors/_delete", {"filter": {"_id": name}, "allow_scan": True}
    ),
}


@pytest.mark.parametrize("deleter", DELETERS)
def test_what_is_deleted_is_gone_at_every_door(cluster: Cluster, deleter: str) -> None:
    a = list(DELETERS).index(deleter)
    for b, writer in enumerate(WRITERS):
        n = 5_000 + 100 * a + b
        name, title, at = f"d{n}", f"word{n}", b % 3
        rest(cluster.peers[at], "PUT", f"/v1/docs/doors/{name}", KEPT)
        WRITERS[writer](cluster.peers[at], name, title, n)
        DELETERS[deleter](cluster.peers[(at + 1) % 3], name)
        all_read(cluster, at, (name, title, n), [])


@pytest.mark.parametrize("writer", ["DELETE doc['n'] FROM", "$unset", "null"])
def test_a_member_that_is_removed_is_found_no_more(cluster: Cluster, writer: str) -> None:
    n = 7_000 + len(writer)
    name, peer = f"d{n}", cluster.peers[1]
    rest(peer, "PUT", f"/v1/docs/doors/{name}", {**KEPT, **_whole(f"word{n}", n)})
    if writer == "$unset":
        rest(peer, "PATCH", f"/v1/docs/doors/{name}", {"$unset": {"n": ""}}, UPDATE)
    elif writer == "null":
        rest(peer, "PATCH", f"/v1/docs/doors/{name}", {"n": None}, MERGE)
    else:
        cql(peer, f"{writer} {TABLE} WHERE id = ?", name)
    wanted = {**KEPT, "title": f"word{n}"}
    for reader, read in READERS.items():
        found = read(cluster.peers[2], name, f"word{n}", n)
        assert found == ([] if reader == "index" else [wanted]), reader


TTLS: dict[str, Writer] = {
    "rest": lambda peer, name, t, n: rest(peer, "PUT", f"/v1/docs/doors/{name}?ttl=1", _whole(t, n)),
    "cql": lambda peer, name, t, n: cql(
        peer, f"INSERT INTO {TABLE} (id, doc) VALUES (?, ?) USING TTL 1", name, _whole(t, n)
    ),
    "cql json": lambda peer, name, t, n: cql(
        peer, f"INSERT INTO {TABLE} JSON ? USING TTL 1", json.dumps({"id": name, "doc": _whole(t, n)})
    ),
}


def test_what_expires_is_gone_at_every_door(cluster: Cluster) -> None:
    written = []
    for number, write in enumerate(TTLS.values()):
        n = 9_000 + number
        written.append((f"d{n}", f"word{n}", n))
        write(cluster.peers[number], *written[-1])
    for at, one in enumerate(written):
        wait_for(lambda at=at, one=one: not _get(cluster.peers[at], one[0]), 10.0, cluster.logs)  # type: ignore[misc]
        all_read(cluster, at, one, [])
