"""Whatever a client says, it is answered, by what the protocol can say: nothing raises, nothing is an error
of ours, the cluster goes on. Statements of tests/cql_lite/hostile.py, their values, forged paging states.

`SULLAE_FUZZ_INPUTS` and `SULLAE_FUZZ_SEED` draw more and others; a failure says which number to ask again
with `HOSTILE=n`.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from core.finding import decode_cursor, encode_cursor
from cql_lite import planner_paging, types, wire
from cql_lite.frames import MalformedError
from tests.cql_lite.hostile import SCHEMA, Drawing
from tests.cql_lite.hostile_values import bound, parameters, sample
from tests.cql_lite.test_wire import mutated
from tests.cql_lite.whole import Cql, cluster_of, settle
from tests.fuzzing import INPUTS, SEED

PAGES_MAX = 20


class Stranger:
    """A connection whose requests are drawn."""

    def __init__(self) -> None:
        self.cql = Cql(cluster_of(3))
        for text in ("USE ks", *SCHEMA):
            self.cql.run(text)
            settle(self.cql.cluster)
        self.states: list[bytes] = []
        self.seen: Counter[str] = Counter()

    def ask(self, number: int | str) -> None:
        """One statement, with what goes with it; its pages by states some of which are forged."""
        random = Random(f"hostile:{number}")
        drawing = Drawing(random)
        text = drawing.statement()
        try:
            request = self.request(random, drawing, text)
            for _ in range(PAGES_MAX):
                response = self.answered(request) if request else None
                state = response.paging_state if isinstance(response, wire.Rows) else None
                if state is None or request is None:
                    return
                self.states = [*self.states[-50:], state]
                state = forged(random, state) if random.random() < 0.5 else state
                new = msgspec.structs.replace(request.parameters, paging_state=state)
                request = msgspec.structs.replace(request, parameters=new)
        except Exception as error:
            raise AssertionError(f"HOSTILE={number}: {text!r}") from error

    def request(self, random: Random, drawing: Drawing, text: str) -> wire.Query | wire.Execute | None:
        """The text, prepared if it has markers."""
        if "?" not in text and ":" not in text and random.random() < 0.7:
            return wire.Query(text, parameters(random, (), self.states, drawing.wild))
        prepared = self.answered(wire.Prepare(text))
        if not isinstance(prepared, wire.Prepared):
            return None
        values = [bound(random, column.type) for column in prepared.variables.columns]
        if random.random() < 0.03:
            values = values[1:] or [b"more"]
        sent = parameters(random, values, self.states, drawing.wild)
        return wire.Execute(prepared.id, sent, prepared.result.id)

    def answered(self, request: wire.Request) -> wire.Response:
        """A response that each version of the protocol can say, of values that are of their types."""
        response = self.cql.send(request)
        self.seen[type(response).__name__] += 1
        assert not isinstance(response, wire.ServerError), response
        for version in (3, 4, 5):
            wire.decode_response(*wire.encode_response(response, version), version)
        if isinstance(response, wire.Rows):
            for row in response.rows:
                for column, value in zip(response.metadata.columns, row, strict=True):
                    if value is not None and not with_nulls(column.type):
                        column.type.decode(value)
        return response


def with_nulls(of: types.Type) -> bool:
    """Whether it is of a type that a SELECT may compose, of nulls too."""
    return isinstance(of, types.ListType | types.SetType | types.MapType)


NUMBERS = (-1, 0, 1, -5, 2**40, -(2**63), 2**63 - 1)


def changed(random: Random, one: Any, names: Sequence[str]) -> Any:
    """Some fields of a message are others."""
    changes: dict[str, Any] = {}
    for name in random.sample(names, random.randint(1, min(2, len(names)))):
        old = getattr(one, name)
        if isinstance(old, bytes):
            changes[name] = random.choice((b"", b"\x01", b"\x02", mutated(old, random), random.randbytes(9)))
        else:
            changes[name] = random.choice(NUMBERS)
    return msgspec.structs.replace(one, **changes)


def forged(random: Random, state: bytes) -> bytes:
    """A paging state of the same query that says something else, with its checksums."""
    whole: Any = planner_paging._decoder.decode(state[4:])
    cursor = decode_cursor(whole.cursor) if whole.cursor else None
    if cursor is not None and random.random() < 0.7:
        pieces = tuple(changed(random, piece, ("first", "last", "term", "key")) for piece in cursor.pieces)
        cursor = msgspec.structs.replace(cursor, pieces=random.choice((pieces, pieces * 2, ())))
        cursor = changed(random, cursor, random.choice((("rest",), ("index",), ("rest", "index"))))
        return planner_paging.encode(msgspec.structs.replace(whole, cursor=encode_cursor(cursor)))
    names = ("partition", "suffix", "left", "taken", "request", "cursor")
    return planner_paging.encode(changed(random, whole, names))


@pytest.fixture(scope="module")
def stranger() -> Stranger:
    return Stranger()


def test_fuzz_whatever_is_asked_is_answered(stranger: Stranger) -> None:
    if "HOSTILE" in os.environ:
        stranger.ask(os.environ["HOSTILE"])
        return
    for number in range(INPUTS * 2):
        stranger.ask(f"{SEED}:{number}")
    assert stranger.seen["Rows"] > INPUTS / 20
    assert stranger.seen["Void"] > INPUTS / 20
    assert len(stranger.cql.cluster.running()) == 3


PAGED = (
    "SELECT * FROM keyed",
    "SELECT * FROM keyed WHERE v > 0",
    "SELECT v FROM keyed WHERE v IN (1, 2, 3)",
    "SELECT v FROM keyed WHERE v > 0 AND c > (0, 'a') LIMIT 7 ALLOW FILTERING",
    "SELECT DISTINCT k, l FROM keyed",
    "SELECT k, l, count(*) FROM keyed GROUP BY k, l",
    "SELECT d FROM keyed PER PARTITION LIMIT 3",
    "SELECT d FROM keyed WHERE token(k, l) > -9223372036854775808 LIMIT 5",
    "SELECT d FROM keyed WHERE k = {a: 1, b: 'x'} AND l = 50554d6e-29bb-11e5-b345-feff819cdc9f",
    "SELECT c, d FROM keyed WHERE k IN ({a: 1, b: 'x'}, {a: 2}) AND l = 50554d6e-29bb-11e5-b345-feff819cdc9f",
)


def test_fuzz_states_that_no_peer_has_given_are_refused_or_go_on_somewhere(stranger: Stranger) -> None:
    random, cql = Random(f"{SEED}:forged"), stranger.cql
    for a in (1, 2, 3):
        for c in range(4):
            key = f"{{a: {a}, b: 'x'}}, 50554d6e-29bb-11e5-b345-feff819cdc9f, ({c}, 'a'), {c / 2}, {c}"
            cql.run(f"INSERT INTO keyed (k, l, c, d, v) VALUES ({key})")
    for text in PAGED:
        response = stranger.answered(wire.Query(text, cql.parameters(page_size=2)))
        assert isinstance(response, wire.Rows) and response.paging_state
        for _ in range(INPUTS // 20):
            state = forged(random, response.paging_state)
            stranger.answered(wire.Query(text, cql.parameters(page_size=2, paging_state=state)))
    assert len(cql.cluster.running()) == 3


BOUND = (
    "INSERT INTO wide (k, c, d, v1, v5, v7, v20, v22, v28, v31) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "SELECT * FROM wide WHERE k = ? AND c > ? LIMIT ?",
    "UPDATE counted SET n = n + ? WHERE k = ? AND c IN ?",
    "UPDATE narrow SET a = ? WHERE k = ? IF a IN ?",
    "DELETE v20[?] FROM wide USING TIMESTAMP ? WHERE k = ? AND c = ? AND d = ?",
)


def framed(random: Random, cql: Cql) -> wire.Request:
    """A request of prepared statements with good values, some of which may not go together."""
    ones = [cql.good(wire.Prepare(text)) for text in random.sample(BOUND, 3)]
    made = []
    for one in ones:
        assert isinstance(one, wire.Prepared)
        made.append((one, tuple(sample(random, column.type) for column in one.variables.columns)))
    if random.random() < 0.5:
        one, values = made[0]
        sent = cql.parameters(values, page_size=random.choice((0, 2)), timestamp_us=random.choice((None, 5)))
        return wire.Execute(one.id, sent, one.result.id)
    statements = tuple(
        wire.BatchStatement(random.choice((one.id, made[0][0].id, "TRUNCATE nope")), values)
        for one, values in made
    )
    return wire.Batch(random.choice((0, 1, 2)), statements, cql.level)


def test_fuzz_damaged_bodies_of_known_statements(stranger: Stranger) -> None:
    stranger.seen.clear()
    for number in range(INPUTS // 2):
        random = Random(f"{SEED}:body:{number}")
        request, version = framed(random, stranger.cql), random.choice((3, 4, 5))
        body = mutated(wire.encode_request(request, version), random)
        try:
            stranger.answered(wire.decode_request(request.opcode, body, version))
        except MalformedError:
            stranger.seen["malformed"] += 1
    assert min(stranger.seen[name] for name in ("malformed", "Invalid", "Void", "Rows", "Unprepared")) > 5


# --- what it found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("DELETE FROM narrow WHERE k = 'a' AND k.y = 1", "A part of the PRIMARY KEY column k cannot be"),
        ("DELETE FROM keyed WHERE k.a = 1 AND l = now()", "Some partition key parts are missing: k"),
        (
            "DELETE FROM wide WHERE k = 1 AND c != 'b'",
            'Unsupported "!=" relation on the PRIMARY KEY column c',
        ),
        ("UPDATE wide SET v1 = 1 WHERE k = 1 AND c NOT IN ('a') AND d = 1", 'Unsupported "NOT IN" relation'),
        ("UPDATE counted SET n = n + 1 WHERE k = 1 AND c != 1", 'Unsupported "!=" relation'),
        ("UPDATE counted SET n = n + 1 WHERE k[1] = 1 AND c = 1", "Some partition key parts are missing: k"),
        ("SELECT (list<int>){v28.a} FROM wide", "Invalid v28.a: a part of a column where a value is"),
        ("SELECT (list<int>){s['b'..'c']} FROM wide", "a part of a column where a value is expected"),
        (
            "UPDATE narrow SET a = 1 WHERE k = 'a' IF j < '1'",
            "not supported on documents: without an order",
        ),
        ("UPDATE narrow SET a = 1 WHERE k = 'a' IF j['x'] >= '1'", "value(j) takes =, != and IN only"),
        ("UPDATE wide SET v1 = 1 WHERE k = 1 AND c = 'a' AND d = 1 IF v7 > 1h", "not supported on durations"),
        ("INSERT INTO narrow (k, e) VALUES ('a', {1 / 2, (?, ?)})", "Invalid bind marker 0: no value can"),
    ],
)
def test_what_was_an_error_of_ours_is_one_of_the_statement(stranger: Stranger, text: str, says: str) -> None:
    error = stranger.cql.send(wire.Prepare(text))
    assert isinstance(error, wire.Invalid), error
    assert says in error.message


def test_the_time_that_a_client_says_it_is(stranger: Stranger) -> None:
    """A TTL that it sees is at most what an int holds; and it is not before 1970."""
    cql = stranger.cql
    cql.run("INSERT INTO narrow (k, a, m) VALUES ('now', 1, {'a': 1}) USING TTL 630720000")
    text = "SELECT ttl(a), ttl(m['a']), ttl(m) FROM narrow WHERE k = 'now'"
    assert [*cql.run(text, now_s=1)[0].values()] == [2**31 - 1, 2**31 - 1, (2**31 - 1,)]
    assert [*cql.run(text, now_s=0)[0].values()] == [2**31 - 1, 2**31 - 1, (2**31 - 1,)]
    cql.run("INSERT INTO narrow (k, a) VALUES ('then', 1) USING TTL 100", now_s=0)
    assert cql.run("SELECT ttl(a) FROM narrow WHERE k = 'then'", now_s=0) == [{"ttl(a)": 100}]
    assert cql.run("SELECT ttl(a) FROM narrow WHERE k = 'then'") == [], "it was dead 53 years ago"
    for statement in (text, "INSERT INTO narrow (k, a) VALUES ('then', 2) USING TTL 100"):
        assert "before 1970" in cql.error(statement, now_s=-1).message
    batch = wire.Batch(wire.LOGGED, (wire.BatchStatement(statement, ()),), cql.level, now_s=-1)
    assert isinstance(cql.send(batch), wire.Invalid)


def test_vectors_that_no_number_says_how_near_they_are(stranger: Stranger) -> None:
    cql = stranger.cql
    cql.run("CREATE TABLE near (k int PRIMARY KEY, e vector<float, 2>)")
    settle(cql.cluster)
    for k, vector in enumerate(("[NaN, 1]", "[1, 0]", "[Infinity, -Infinity]", "[1, 1]", "[0, 0]", "[2, 1]")):
        cql.run(f"INSERT INTO near (k, e) VALUES ({k}, {vector})")
    assert [row["k"] for row in cql.run("SELECT k FROM near ORDER BY e ANN OF [1, 1] LIMIT 9")] == [3, 5, 1]
    for wanted in ("[NaN, 1]", "[1, -Infinity]"):
        assert (
            "nothing is near" in cql.error(f"SELECT k FROM near ORDER BY e ANN OF {wanted} LIMIT 9").message
        )
    (row,) = cql.run("SELECT similarity_dot_product(e, [1, 1]) AS s FROM near WHERE k = 2")
    assert math.isnan(row["s"])
