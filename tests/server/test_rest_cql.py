"""`POST /v1/cql`: how results and errors look in JSON, and a real peer that answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from bench.peers import Peers, loopback_problem
from core.consistency import Level
from cql_lite import types, wire
from server.rest.cql import problem_of_error, result_bytes
from server.rest.problems import TITLES

# --- pure


def column(name: str, of: str) -> wire.ColumnSpec:
    return wire.ColumnSpec("ks", "t", name, types.parse_type(of))


def test_values_are_exact_in_json() -> None:
    columns = [column("i", "varint"), column("d", "decimal"), column("b", "blob"), column("j", "json")]
    big, exact = 10**40 + 1, "1.10"
    row = [
        types.VARINT.encode(big),
        types.DECIMAL.encode(types.DECIMAL.parse(exact)),
        b"\xff\x00",
        b'{"a": 1.0}',
    ]
    text = result_bytes(wire.Rows(wire.Metadata(columns), [row, [None] * 4], b"\x00\xff\xfe"))
    assert f'{{"i": {big}, "d": {exact}, "b": "0xff00", "j": {{"a": 1.0}}}}'.encode() in text
    found = json.loads(text)
    assert found["rows"][1] == {"i": None, "d": None, "b": None, "j": None}
    assert found["columns"][2] == {"name": "b", "type": "blob"}
    assert found["page_state"] == "AP_-"
    assert "applied" not in found


@pytest.mark.parametrize(("byte", "applied"), [(b"\x01", True), (b"\x00", False)])
def test_a_condition_says_whether_it_was_applied(byte: bytes, applied: bool) -> None:
    rows = wire.Rows(wire.Metadata([column("[applied]", "boolean")]), [[byte]])
    assert json.loads(result_bytes(rows))["applied"] is applied


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (wire.SyntaxFault(message="line 2, column 7: x"), 400, "cql-syntax"),
        (wire.Invalid(message="x"), 400, "cql-invalid"),
        (wire.AlreadyExists(message="x", keyspace="k"), 409, "already-exists"),
        (wire.Unauthorized(message="x"), 403, "not-permitted"),
        (wire.Unavailable(message="x", consistency=Level.QUORUM, required=2, alive=1), 503, "unavailable"),
        (wire.Overloaded(message="x"), 503, "overloaded"),
        (
            wire.ReadTimeout(message="x", consistency=Level.ONE, received=0, required=1, data_present=False),
            504,
            "timeout",
        ),
        (
            wire.WriteTimeout(
                message="x", consistency=Level.ONE, received=0, required=1, write_type="SIMPLE"
            ),
            504,
            "outcome-unknown",
        ),
        (wire.ServerError(message="x"), 500, "internal-error"),
    ],
)
def test_each_error_has_its_problem(error: wire.Error, status: int, kind: str) -> None:
    problem = problem_of_error(error)
    assert (problem.status, problem.kind) == (status, kind)
    assert kind in TITLES


def test_problems_carry_what_the_error_knows() -> None:
    syntax = problem_of_error(wire.SyntaxFault(message="line 2, column 7: x")).body()
    assert (syntax["line"], syntax["column"]) == (2, 7)
    error = wire.Unavailable(message="x", consistency=Level.QUORUM, required=2, alive=1)
    away = problem_of_error(error).body()
    assert (away["required"], away["alive"], away["level"]) == (2, 1, "quorum")


# --- a real peer


class Cql:
    """The route of one peer."""

    def __init__(self, peers: Peers) -> None:
        self.peer = peers.peers[0]

    def __call__(self, query: str, *, status: int = 200, **members: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        headers |= members.pop("headers", {})
        body = json.dumps({"query": query, "keyspace": "ks", **members})
        return self.send(body.encode(), status, headers)

    def send(self, body: bytes, status: int, headers: dict[str, str] | None = None) -> Any:
        connection = http.client.HTTPConnection(self.peer.address, self.peer.rest, timeout=20)
        try:
            connection.request("POST", "/v1/cql", body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == status, data
            found = json.loads(data)
            if status >= 400:
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert found["status"] == status
            return found
        finally:
            connection.close()


@pytest.fixture(scope="module")
def cql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cql]:
    if problem := loopback_problem(1):
        pytest.skip(problem)
    with Peers(tmp_path_factory.mktemp("cql"), count=1) as peers:
        peers.up()
        ask = Cql(peers)
        made = ask(
            "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
            keyspace="",
        )
        assert made["schema"] == {"change": "CREATED", "target": "KEYSPACE", "keyspace": "ks"}
        ask("CREATE TABLE t (k int, c int, v varint, b blob, j json, m map<text, int>, PRIMARY KEY (k, c))")
        yield ask


@pytest.mark.process
def test_parameters_by_place_and_by_name(cql: Cql) -> None:
    big = 10**30
    values = [1, 1, big, "0xff", {"a": [1.50, None]}, {"x": 1}]
    assert cql("INSERT INTO t (k, c, v, b, j, m) VALUES (?, ?, ?, ?, ?, ?)", parameters=values)["rows"] == []
    cql("UPDATE t SET v = :v WHERE k = :k AND c = :c", parameters={"k": 1, "c": 2, "v": None})
    cql("INSERT INTO t (k, c) VALUES (1, 3)", timestamp=5)
    found = cql("SELECT * FROM t WHERE k = ? AND c = ?", parameters=[1, 1])
    assert found["rows"] == [{"k": 1, "c": 1, "b": "0xff", "j": {"a": [1.5, None]}, "m": {"x": 1}, "v": big}]
    assert {"name": "m", "type": "map<text, int>"} in found["columns"]
    stamped = cql("SELECT writetime(v) AS w, c FROM t WHERE k = 1 AND c = 3", consistency="one")
    assert stamped["rows"] == [{"w": None, "c": 3}]


@pytest.mark.process
def test_pages_go_on_by_their_state(cql: Cql) -> None:
    for c in range(7):
        cql("INSERT INTO t (k, c) VALUES (2, ?)", parameters=[c])
    seen, state = [], None
    for _ in range(4):
        page = cql("SELECT c FROM t WHERE k = 2", page_size=3, page_state=state)
        seen.append([row["c"] for row in page["rows"]])
        state = page["page_state"]
        if state is None:
            break
    assert [c for page in seen for c in page] == list(range(7))
    assert len(seen[0]) == 3
    assert cql("SELECT c FROM t WHERE k = 2", page_state="%", status=400)["type"] == "bad-cursor"


@pytest.mark.process
def test_conditions_and_batches(cql: Cql) -> None:
    insert = "INSERT INTO t (k, c) VALUES (3, 1) IF NOT EXISTS"
    assert cql(insert)["applied"] is True
    refused = cql(insert, serial_consistency="local_serial")
    assert refused["applied"] is False and refused["rows"][0]["k"] == 3
    batch = "BEGIN BATCH INSERT INTO t (k, c) VALUES (?, 1); INSERT INTO t (k, c) VALUES (?, 2) APPLY BATCH"
    cql(batch, parameters=[4, 4])
    assert cql("SELECT count(*) AS n FROM t WHERE k = 4")["rows"] == [{"n": 2}]
    assert "without partition key" in cql("SELECT count(*) FROM t")["warnings"][0]


@pytest.mark.process
def test_what_is_wrong_is_said(cql: Cql) -> None:
    syntax = cql("SELECT *\nFORM t", status=400)
    assert (syntax["type"], syntax["line"], syntax["column"]) == ("cql-syntax", 2, 1)
    assert cql("SELECT * FROM nowhere", status=400)["type"] == "cql-invalid"
    assert cql("CREATE TABLE t (k int PRIMARY KEY)", status=409)["table"] == "t"
    assert cql("SELECT * FROM t", consistency="most", status=400)["type"] == "bad-level"
    assert cql("SELECT * FROM t", page_size=0, status=400)["type"] == "bad-limit"
    assert (
        "2 bind markers, and 1"
        in cql("SELECT * FROM t WHERE k = ? AND c = ?", parameters=[1], status=400)["detail"]
    )
    assert "parameter for k" in cql("SELECT * FROM t WHERE k = ?", parameters=["x"], status=400)["detail"]
    assert ":z" in cql("SELECT * FROM t WHERE k = :k", parameters={"z": 1}, status=400)["detail"]
    assert "member of each request" in cql("USE ks", status=400)["detail"]
    for body in (b"", b"{", b"[]", b'{"query": 1}', b'{"query": "x", "more": 1}', b"\xff"):
        assert cql.send(body, 400)["type"] == "bad-body"


@pytest.mark.process
def test_an_idempotency_key_makes_a_retry_exact(cql: Cql) -> None:
    cql("CREATE TABLE visits (k int PRIMARY KEY, n counter)")
    for _ in range(2):
        headers = {"Idempotency-Key": '"visit-1"'}
        cql("UPDATE visits SET n = n + 1 WHERE k = 1", headers=headers)
    assert cql("SELECT n FROM visits WHERE k = 1")["rows"] == [{"n": 1}]
