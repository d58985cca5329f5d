"""The change stream of CQL's tables: random modifications (tests/cql_lite/histories.py) through all peers,
and after each of them events that lead from the rows that SELECT showed before it to those that it shows now.

`ROW_CHANGES_SEED=n ROW_CHANGES_HISTORIES=m` draws others, and more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from cql_lite import wire
from sim.options import ClockOptions
from tests.cql_lite.histories import PARTITIONS, TICK_S, Drawing, Text, create, shape
from tests.cql_lite.whole import Cql, Error
from tests.models.cql_writes import Batch, Shape, Statement, Tick
from tests.server.simulated import SECOND, Peers

SEED = int(os.environ.get("ROW_CHANGES_SEED", "1"))
HISTORIES = int(os.environ.get("ROW_CHANGES_HISTORIES", "6"))
TABLES = 6
APART_US = 2 * ClockOptions().skew_us
EXPIRY_S = 5
"""What runs out is told within so long."""

Line = dict[str, Any]
Key = tuple[Any, ...]
"""Of a row its partition and clustering; of static columns ("static", partition)."""


class Run:
    """One history, on partitions of its own."""

    def __init__(self, peers: Peers, doors: list[Cql], table: Shape, number: int) -> None:
        self.peers = peers
        self.doors = doors
        self.table = table
        self.number = number
        self.random = Random("doors")
        self.keys = [f"c{n}" for n in range(len(table.clustering))]
        self.statics = [column.name for column in table.columns if column.static]
        self.told = [create(table)]
        self.cursor = self.lines("now")[-1]["cursor"]
        self.rows: dict[Key, Any] = {}

    def lines(self, start: str) -> list[Line]:
        return self.peers.lines(self.random.randrange(3), f"/v1/changes/ks.{self.table.name}?from={start}")

    @property
    def cql(self) -> Cql:
        return self.random.choice(self.doors)

    def sent(self, statement: Statement) -> None:
        text = Text(self.table, self.number)
        if isinstance(statement, Tick):
            self.told.append("-- time goes by")
            self.peers.cluster.run_for((statement.by * TICK_S + EXPIRY_S) * SECOND)
        elif isinstance(statement, Batch) and statement.is_frame:
            cql, statements = self.cql, []
            for write in statement.writes:
                text = Text(self.table, self.number)
                said = text.write(write)
                self.told.append(f"batch: {said} -- {text.values}")
                prepared = cql.good(wire.Prepare(said))
                assert isinstance(prepared, wire.Prepared)
                bound = cql.execute(prepared, text.values).parameters.values
                statements.append(wire.BatchStatement(prepared.id, tuple(bound)))
            cql.good(wire.Batch(wire.LOGGED, tuple(statements), cql.level, timestamp_us=statement.sent))
        else:
            said = text.of(statement)
            self.told.append(f"{said} -- {text.values} at {statement.sent}")
            self.cql.run(said, *text.values, timestamp_us=statement.sent)

    def select(self) -> dict[Key, Any]:
        """What there is: rows, and what the rows of a partition share."""
        found: dict[Key, Any] = {}
        for name in PARTITIONS:
            where = f"h = {self.number} AND p = '{name}'"
            for shown in self.cql.run(f"SELECT JSON * FROM {self.table.name} WHERE {where}"):
                row = json.loads(next(iter(shown.values())), parse_float=Decimal)
                shared = {column: row.pop(column) for column in self.statics}
                if any(value is not None for value in shared.values()):
                    found["static", name] = {"h": self.number, "p": name, **shared}
                if all(row[key] is not None for key in self.keys):
                    found[(name, *(row[key] for key in self.keys))] = row
        return found

    def step(self, statement: Statement) -> str | None:
        """Do one; what was told wrongly."""
        self.peers.cluster.run_for(APART_US)
        try:
            self.sent(statement)
        except Error as error:
            self.told.append(f"    {error}")
        before, self.rows = self.rows, self.select()
        lines = self.lines(self.cursor)
        self.cursor = lines[-1]["cursor"]
        events: dict[str, Line] = {}
        for line in lines:
            if line["type"] != "heartbeat" and line.get("key", {}).get("h", self.number) == self.number:
                self.told.append(f"    {line}")
                if line["type"] != "event":
                    return "a notice"
                events.setdefault(line["id"], line)  # a batch that was played again tells the same again
        return self.wrong(list(events.values()), before, isinstance(statement, Tick))

    def wrong(self, events: list[Line], before: dict[Key, Any], is_tick: bool) -> str | None:
        whole = {line["key"]["p"] for line in events if line.get("scope") in ("range", "partition")}
        chain: dict[Key, Any] = {}
        for line in events:
            scope, name = line.get("scope", "row"), line["key"]["p"]
            if scope in ("range", "partition"):
                continue
            key = ("static", name) if scope == "static" else (name, *(line["key"][one] for one in self.keys))
            was, became = line["before"], line["after"]
            if name not in whole and was != chain.get(key, before.get(key)):
                return f"before of {key}: expected {chain.get(key, before.get(key))}"
            chain[key] = became
            name_of = {(False, True): "insert", (True, False): "delete"}
            expected = name_of.get((was is not None, became is not None), "update")
            if (was, became) != (None, None) and line["op"] != ("expire" if is_tick else expected):
                return f"expected {expected} of {key}"
        for key in before.keys() | self.rows.keys() | chain.keys():
            if (key[1] if key[0] == "static" else key[0]) in whole:
                continue  # what is deleted as a range has no events of its own
            if chain.get(key, before.get(key)) != self.rows.get(key):
                return f"after of {key}: expected {self.rows.get(key)}"
        return None


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Peers, list[Cql], list[Shape]]]:
    random = Random(f"{SEED}:tables")
    tables = [shape(random, f"t{n}") for n in range(TABLES)]
    with Peers(3, clock=ClockOptions(drift_ppm=0)) as peers:
        doors = [Cql(peers.cluster, n) for n in range(3)]
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 3}"
        texts = [
            f"CREATE KEYSPACE ks WITH replication = {replication}",
            "USE ks",
            "CREATE TYPE u (a int, b text)",
        ]
        for table in tables:
            texts += [create(table), f"ALTER TABLE {table.name} WITH changes = 'new_and_old'"]
        for text in texts:
            doors[0].run(text)
            peers.settle()
        for door in doors:
            door.run("USE ks")
        yield peers, doors, tables


def test_events_lead_from_what_was_to_what_is(world: tuple[Peers, list[Cql], list[Shape]]) -> None:
    peers, doors, tables = world
    for number in range(HISTORIES):
        random = Random(f"{SEED}:{number}")
        table = random.choice(tables)
        drawing = Drawing(random, table, is_stamped=number % 2 == 0)
        run = Run(peers, doors, table, number)
        for _ in range(random.randint(4, 14)):
            said = run.step(drawing.statement())
            assert said is None, "\n".join([f"history {number}", *run.told, said or ""])
