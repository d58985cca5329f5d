"""INSERT, UPDATE, DELETE, BATCH and their conditions against a model of what Cassandra does
(tests/models/cql_writes.py): random tables and histories, and after each statement all that a SELECT sees.

`WRITES_SEED=n WRITES_HISTORIES=m` draws others, and more. A history that fails is made as short as it gets;
its statements are printed as they were sent.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from cql_lite import wire
from sim.cluster import SimCluster
from sim.options import ClockOptions
from tests.cql_lite.histories import (
    INTEGERS,
    PARTITIONS,
    TEXTS,
    TICK_S,
    Drawing,
    Text,
    create,
    literal,
    shape,
)
from tests.cql_lite.whole import SECOND, Cql, Error, cluster_of, rows, settle
from tests.models.cql_writes import STAMPED, Batch, Cell, Column, Model, Refused, Shape, Statement, Tick
from tests.shrinking import shortest

SEED = int(os.environ.get("WRITES_SEED", "1"))
HISTORIES = int(os.environ.get("WRITES_HISTORIES", "200"))
TABLES = 8
APART_US = 2 * ClockOptions().skew_us


class World:
    """A cluster, and histories on partitions of their own.

    Where there are several peers, statements and reads go to any of them, which give the timestamps. Between
    statements all that a peer does besides has its time: what is dead is purged. Elements of lists are in the
    order of the peers' clocks, so statements come further apart than these are.
    """

    def __init__(self, random: Random, peers: int = 1, cluster: SimCluster | None = None) -> None:
        """`cluster`: another than one with nothing but that many peers."""
        self.cql = Cql(cluster or cluster_of(peers, clock=ClockOptions(drift_ppm=0)))
        self.doors = [self.cql, *(Cql(self.cql.cluster, index) for index in range(1, peers))]
        self.tables = [shape(random, f"t{n}") for n in range(TABLES)]
        self.history = 0
        indexes = [f"CREATE INDEX ON {t.name} ({c.name})" for t in self.tables for c in indexed(t)]
        for text in ("USE ks", "CREATE TYPE u (a int, b text)", *map(create, self.tables), *indexes):
            self.cql.run(text)
            settle(self.cql.cluster)
        for door in self.doors:
            door.run("USE ks")

    def run(self, table: Shape) -> Run:
        """What does a history."""
        return Run(self.doors, table, self.history)

    def wrong(self, table: Shape, statements: list[Statement]) -> str | None:
        """What goes wrong in a history first, with all that led there."""
        self.history += 1
        run = self.run(table)
        for statement in statements:
            said = run.step(statement)
            if said:
                return "\n".join([create(table), *run.told, said])
        said = run.indexes_compared()
        return "\n".join([create(table), *run.told, said]) if said else None

    def shortest(self, table: Shape, statements: list[Statement]) -> list[Statement]:
        """A history that goes wrong, without what it needs not."""
        return shortest(statements, lambda shorter: self.wrong(table, shorter))


class Run:
    """One history."""

    def __init__(self, doors: list[Cql], table: Shape, number: int) -> None:
        self.doors = doors
        self.random = Random("doors")
        self.table = table
        self.number = number
        self.model = Model(table)
        self.told: list[str] = []
        self.stamps: dict[tuple[str, int], int] = {}

    @property
    def cql(self) -> Cql:
        """A connection to any peer."""
        return self.random.choice(self.doors)

    def step(self, statement: Statement) -> str | None:
        """Do one in both worlds and compare."""
        expected: Any = None
        if len(self.doors) > 1:
            self.cql.cluster.run_for(APART_US)
        try:
            expected = self.model.do(statement)
        except Refused:
            expected = "refused"
        try:
            found = self.sent(statement)
        except Error as error:
            if expected != "refused":
                return f"refused: {error}"
            found = "refused"
        if expected is not None and found != expected:
            return f"answered {found}\nexpected {expected}"
        for key in PARTITIONS:
            said = self.compared(key)
            if said:
                return said
        return None

    def sent(self, statement: Statement) -> Any:
        """Have the peer do it."""
        if isinstance(statement, Tick):
            self.told.append(f"-- {statement.by * TICK_S} seconds later")
            if len(self.doors) == 1:
                self.cql.cluster.machines[0].clock.jump(statement.by * TICK_S * SECOND)
            else:
                self.cql.cluster.run_for(statement.by * TICK_S * SECOND)
            return None
        if isinstance(statement, Batch) and statement.is_frame:
            return self.framed(statement)
        text = Text(self.table, self.number)
        said = text.of(statement)
        self.told.append(f"{said} -- {text.values} at {statement.sent}")
        found = self.cql.run(said, *text.values, timestamp_us=statement.sent)
        return [self.plain(row) for row in found]

    def framed(self, batch: Batch) -> Any:
        statements, cql = [], self.cql
        for write in batch.writes:
            text = Text(self.table, self.number)
            said = text.write(write)
            self.told.append(f"batch: {said} -- {text.values}")
            prepared = cql.good(wire.Prepare(said))
            assert isinstance(prepared, wire.Prepared)
            bound = cql.execute(prepared, text.values).parameters.values
            statements.append(wire.BatchStatement(prepared.id if len(said) % 2 else said, tuple(bound)))
        frame = wire.Batch(wire.LOGGED, tuple(statements), cql.level, timestamp_us=batch.sent)
        return [self.plain(row) for row in rows(cql.good(frame))]

    def plain(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row in the model's values."""
        types = {column.name: column.type for column in self.table.columns}
        return {name: plain(value, types.get(name, "")) for name, value in row.items() if name != "h"}

    # --- reading

    def compared(self, key: str) -> str | None:
        where = f"FROM {self.table.name} WHERE h = {self.number} AND p = '{key}'"
        found = [self.plain(row) for row in self.cql.run(f"SELECT * {where}")]
        expected = self.model.select(key)
        if found != expected:
            return f"SELECT * {where}\nfound    {found}\nexpected {expected}"
        if not found:
            return None
        return self.lives_compared(key, where, expected)

    def lives_compared(self, key: str, where: str, shown: list[dict[str, Any]]) -> str | None:
        """Write times and times to live."""
        asked = [(c, path) for c in self.table.columns if c.type != "json" for path in paths(c)]
        texts = [f"{what}({subject(c, path)})" for c, path in asked for what in ("writetime", "ttl")]
        names = ", ".join(f"{text} AS n{n}" for n, text in enumerate(texts))
        lives = self.cql.run(f"SELECT {names} {where}")
        if len(lives) != len(shown):
            return f"SELECT {names} {where}\nfound {lives}\nbeside   {shown}"
        for row, read in zip(shown, lives, strict=True):
            at = tuple(row[f"c{n}"] for n in range(len(self.table.clustering)))
            is_row = None not in at
            expected: list[Any] = []
            for column, path in asked:
                cell = self.model.lives(key, at if is_row else None, column)
                expected += self.life(key, _at(column, cell, path))
            found = [self.number_of(one, n) for n, one in enumerate(read.values())]
            for n, (one, wanted) in enumerate(zip(found, expected, strict=True)):
                if one != self.known(key, wanted, one):
                    return f"{texts[n]} of {at}: found {one}, expected {wanted}"
        return None

    def indexes_compared(self) -> str | None:
        """What is found by the values of columns that have an index."""
        rows_now = [row for key in PARTITIONS for row in self.model.select(key)]
        for column in indexed(self.table):
            how = "CONTAINS" if column.is_multicell else "="
            for one in INTEGERS if column.type in ("int", "list<int>", "map<text, int>") else TEXTS:
                wanted = [row for row in rows_now if _has(row[column.name], one)]
                where = f"{column.name} {how} {literal(one, '')} AND h = {self.number} ALLOW FILTERING"
                text = f"SELECT * FROM {self.table.name} WHERE {where}"
                found = [self.plain(row) for row in self.cql.run(text)]
                if sorted(map(_told, found)) != sorted(map(_told, wanted)):
                    return f"{text}\nfound    {found}\nexpected {wanted}"
        return None

    def life(self, key: str, cell: Cell | None) -> list[Any]:
        if cell is None:
            return [None, None]
        return [cell.stamp, None if cell.dead_from is None else int(cell.dead_from) + 1 - self.model.now]

    def known(self, key: str, wanted: Any, found: Any) -> Any:
        """What a timestamp of the model is here, learned when it is seen first."""
        if wanted is None or wanted < STAMPED or found is None or found < STAMPED:
            return wanted
        return self.stamps.setdefault((key, wanted), found)

    def number_of(self, value: Any, n: int) -> Any:
        return -(-value // TICK_S) if n % 2 and value is not None else value


def indexed(table: Shape) -> list[Column]:
    """The columns of a table that have an index: every other table has some."""
    types = ("int", "text", "list<int>", "set<text>", "map<text, int>")
    return [c for c in table.columns if c.type in types] if int(table.name[1:]) % 2 else []


def _has(value: Any, one: Any) -> bool:
    if isinstance(value, dict):
        return one in value.values()
    return one in value if isinstance(value, (list, frozenset)) else value == one


def _told(row: dict[str, Any]) -> str:
    values = ((name, sorted(v) if isinstance(v, frozenset) else v) for name, v in row.items())
    return str(sorted(values))


def paths(column: Column) -> list[Any]:
    """The parts of a column whose life is asked for."""
    if not column.is_multicell:
        return [None]
    return ["a", "b"] if column.type == "u" else [0, 1] if column.type == "list<int>" else ["a", "b", "c"]


def subject(column: Column, path: Any) -> str:
    """What writetime() is asked of."""
    if path is None:
        return column.name
    return f"{column.name}.{path}" if column.type == "u" else f"{column.name}[{path!r}]"


def _at(column: Column, cells: dict[Any, Cell], path: Any) -> Cell | None:
    if column.type == "list<int>":
        return cells[sorted(cells)[path]] if path < len(cells) else None
    return cells.get(path)


def plain(value: Any, of: str) -> Any:
    """A decoded value as the model has it."""
    if value is None:
        return None
    if of in ("u", "frozen<u>"):
        return dict(zip(("a", "b"), value, strict=True))
    if of == "set<text>":
        return frozenset(value)
    if of == "map<text, int>":
        return dict(value)
    return list(value) if of.endswith("list<int>") or of == "frozen<list<int>>" else value


def search(world: World, histories: int, seed: int | str = SEED) -> None:
    for number in range(histories):
        random = Random(f"{seed}:{number}")
        table = random.choice(world.tables)
        drawing = Drawing(random, table, is_stamped=len(world.doors) > 1)
        statements = [drawing.statement() for _ in range(random.randint(4, 16))]
        if world.wrong(table, statements):
            short = world.shortest(table, statements)
            raise AssertionError(f"seed {seed}, history {number}\n{world.wrong(table, short)}")


def test_modifications_do_what_the_model_says() -> None:
    search(World(Random(f"{SEED}:tables")), HISTORIES)


def test_so_they_do_through_any_peer_and_while_what_is_dead_is_purged() -> None:
    search(World(Random(f"{SEED}:tables"), peers=3), HISTORIES // 10)


# --- what it found


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(1))
    for text in (
        "USE ks",
        "CREATE TABLE t (k int PRIMARY KEY, l list<int>, m map<text, int>, v int)",
        "CREATE TABLE n (k uuid PRIMARY KEY, v int)",
    ):
        client.run(text)
        settle(client.cluster)
    return client


def test_null_for_a_collection_leaves_what_the_same_batch_adds(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, m) VALUES (1, {'old': 1})")
    added = "UPDATE t SET m['new'] = 2 WHERE k = 1"
    cql.run(f"BEGIN BATCH INSERT INTO t (k, m) VALUES (1, null); {added}; APPLY BATCH")
    assert cql.run("SELECT m FROM t WHERE k = 1") == [{"m": (("new", 2),)}]
    cql.run("BEGIN BATCH DELETE m FROM t WHERE k = 1; UPDATE t SET m['x'] = 2 WHERE k = 1; APPLY BATCH")
    assert cql.run("SELECT m FROM t WHERE k = 1") == [{"m": None}]


@pytest.mark.parametrize("condition", ["", " IF v = 1"])
def test_statements_of_a_batch_append_in_their_order(cql: Cql, condition: str) -> None:
    cql.run("INSERT INTO t (k, l, v) VALUES (2, [], 1)")
    texts = [f"UPDATE t SET l = l + [{n}] WHERE k = 2{condition}" for n in range(9)]
    statements = tuple(wire.BatchStatement(text, ()) for text in texts)
    cql.good(wire.Batch(wire.LOGGED, statements, cql.level))
    assert cql.run("SELECT l FROM t WHERE k = 2") == [{"l": tuple(range(9))}]
    cql.run(f"BEGIN BATCH {'; '.join(texts)}; APPLY BATCH")
    assert cql.run("SELECT l FROM t WHERE k = 2") == [{"l": (*range(9), *range(9))}]


def test_a_condition_with_nothing_to_write_is_applied_if_it_holds(cql: Cql) -> None:
    cql.run("INSERT INTO t (k, v) VALUES (3, 1)")
    update = "UPDATE t SET v = ? WHERE k = 3 IF v = ?"
    assert cql.run(update, wire.UNSET, 1) == [{"[applied]": True}]
    assert cql.run(update, wire.UNSET, 2) == [{"[applied]": False, "v": 1}]


def test_a_key_that_a_function_gives_is_one_key_to_condition_and_write(cql: Cql) -> None:
    for _ in range(3):
        assert cql.run("INSERT INTO n (k, v) VALUES (uuid(), 1) IF NOT EXISTS") == [{"[applied]": True}]
    found = cql.run("SELECT k, v FROM n")
    assert [row["v"] for row in found] == [1, 1, 1]
    for row in found:
        assert cql.run("SELECT v FROM n WHERE k = ?", row["k"]) == [{"v": 1}]


def test_who_replaces_a_collection_makes_no_row_for_a_peer_whose_clock_is_behind() -> None:
    cluster = cluster_of(2)
    writer, reader = Cql(cluster, 0), Cql(cluster, 1)
    writer.run("CREATE TABLE ks.r (k int PRIMARY KEY, l list<int>)")
    settle(cluster)
    cluster.machines[0].clock.jump(2 * SECOND)
    for value in ("null", "[]"):
        writer.run(f"UPDATE ks.r SET l = {value} WHERE k = 1")
        assert reader.run("SELECT * FROM ks.r WHERE k = 1") == []
