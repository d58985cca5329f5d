"""SELECT against the model of tests/models/cql_select.py: random tables, writes and queries.

Each query goes to a table with indexes and one without, as text and prepared, whole and in pages, each page
asked of another peer. `HYPOTHESIS_PROFILE=soak` asks longer; a failure prints the number to replay it with:

    SELECT_SEED=17 make test ARGS="tests/cql_lite/test_select.py"
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import pytest
from hypothesis import settings

from core import limits
from cql_lite import planner_find, planner_select, planner_source, wire
from index import entries, secondary
from lsm import finding, keys
from node import find_serving, finds, gathers, scans
from tests.cql_lite.select_cases import PAIR_TYPE, TTL_S, Asker, Writer, Writing, create, indexes_of, table_of
from tests.cql_lite.whole import Cql, cluster_of, settle
from tests.models.cql_select import CLUSTERING, PARTITION, REGULAR, STATIC, Query

TABLES: Final = 30 * settings().max_examples // 100
QUERIES: Final = 40
SEEDS: Final = [int(os.environ["SELECT_SEED"])] if "SELECT_SEED" in os.environ else range(TABLES)

LIMITS: Final = (
    (planner_source, "READ_ROWS_MAX"), (planner_source, "SCAN_ROWS_MAX"), (planner_source, "UNITS_ASKED_MAX"),
    (planner_find, "FIND_ROWS_MAX"), (finding, "LOOKED_AT_MAX"), (finds, "COUNT_MAX"), (finds, "AHEAD_MAX"),
    (find_serving, "CUT_SHORT_MAX"), (find_serving, "PIECES_MAX"), (scans, "DEAD_ROWS_MAX"),
    (limits, "SLICE_ROWS_MAX"),
)  # fmt: skip
BYTES: Final = (
    (planner_select, "PAGE_BYTES_MAX"), (planner_source, "ANSWER_BYTES_MAX"), (limits, "SLICE_BYTES_MAX"),
    (limits, "FETCH_BYTES_MAX"),
)  # fmt: skip
"""Rows per request and the like: with few, a few rows are many requests. So with the bytes of a term."""

TERMS: Final = (keys, finding, gathers, entries, secondary)

Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(peers=4))
    client.run("USE ks")
    return client


class Case:
    """One table twice, with indexes and without, and its model."""

    def __init__(self, cql: Cql, seed: int) -> None:
        self.cql = cql
        self.random = Random(f"select:{seed}")
        self.table = table_of(self.random)
        self.indexes = indexes_of(self.random, self.table)
        self.folded = [n for kind, n in self.indexes if not kind and self._is_folded(n)]
        self.writer = Writer(self.random, self.table)
        self.script: list[str] = []
        self.peers = [cql, Cql(cql.cluster, 1)]
        self.peers[1].session.keyspace = "ks"
        likes = [name for kind, name in self.indexes if not kind and self.table.by_name[name].type == "text"]
        self.plain_asker = Asker(self.table, self.writer, (), self.folded)
        self.indexed_asker = Asker(self.table, self.writer, likes, self.folded)
        self.names = (f"plain_{seed}", f"indexed_{seed}")

    def _is_folded(self, name: str) -> bool:
        """Whether the index of a column does not tell capitals from small letters."""
        column = self.table.by_name[name]
        return column.type == "text" and column.kind in (STATIC, REGULAR) and self.random.random() < 0.5

    def run(self, text: str) -> None:
        """A statement that is part of the story."""
        self.script.append(text)
        self.cql.run(text)

    def limits(self) -> list[tuple[Any, str, int]]:
        """Small limits, for this case."""
        drawn = [(module, name, self.random.choice((1, 2, 5, 500))) for module, name in LIMITS]
        drawn += [(module, name, self.random.choice((1, 100, 2**20))) for module, name in BYTES]
        term_bytes = self.random.choice((2, 4, 1024))
        return drawn + [(module, "TERM_BYTES_MAX", term_bytes) for module in TERMS]

    def prepare(self) -> None:
        """Tables, indexes, rows: some rows are older than the indexes."""
        self.run(PAIR_TYPE)
        settle(self.cql.cluster)
        for name in self.names:
            self.run(create(self.table, name))
        settle(self.cql.cluster)
        writes = self.random.randint(10, 60)
        before = self.random.choice((0, writes // 2))
        for number in range(writes):
            if number == before:
                for kind, name in self.indexes:
                    text = f"CREATE INDEX ON {self.names[1]} ({f'{kind}({name})' if kind else name})"
                    fold = " USING 'sai' WITH OPTIONS = {'case_sensitive': 'false'}"
                    self.run(text + fold * (name in self.folded))
                settle(self.cql.cluster)
            text = self.writer.write()
            for name in self.names:
                self.run(text.replace("{}", name, 1))
        self.cql.cluster.run_for(2_000_000 * TTL_S)

    def drop(self) -> None:
        """Make room."""
        for name in self.names:
            self.cql.run(f"DROP TABLE {name}")

    # --- asking

    def ask(self) -> None:
        """One query in all its forms."""
        asker = self.random.choice((self.plain_asker, self.indexed_asker))
        query = asker.query()
        tables = self.names if asker is self.plain_asker else self.names[1:]
        for name in tables:
            for markers in (False, True):
                self._ask(query, name, Writing(self.random, markers=markers))

    def _ask(self, query: Query, name: str, writing: Writing) -> None:
        filtering = self.random.random() < 0.7
        text = writing.select(query, self.table, name, filtering=filtering)
        page_size = 0 if self.is_sorted(query) else self.random.choice((0, 0, 1, 2, 3, 7, 1000))
        told = f"{text!r} with {writing.values}, pages of {page_size}, seed {self.names[0][6:]}"
        try:
            found = self.fetch(text, writing.values, page_size)
        except AssertionError as error:
            raise AssertionError(self.story(told, str(error))) from error
        if isinstance(found, wire.Error):
            fine = not filtering and "ALLOW FILTERING" in found.message and not self.is_served_by_key(query)
            assert fine, self.story(told, f"{type(found).__name__}: {found.message}")
            return
        wrong = self.wrong(query, name, found)
        assert wrong is None, self.story(told, f"{wrong}\nfound  {found}")

    def fetch(self, text: str, values: Sequence[Any], page_size: int) -> list[Row] | wire.Error:
        """The rows of all pages."""
        rows: list[Row] = []
        state, number = None, 0
        while True:
            client = self.peers[number % 2]
            more: dict[str, Any] = {"page_size": page_size, "paging_state": state} if page_size else {}
            request: wire.Request = wire.Query(text, client.parameters(**more))
            if values:
                prepared = client.send(wire.Prepare(text))
                if isinstance(prepared, wire.Error):
                    return prepared
                assert isinstance(prepared, wire.Prepared)
                request = client.execute(prepared, values, **more)
            response = client.send(request)
            if isinstance(response, wire.Error):
                return response
            assert isinstance(response, wire.Rows)
            types = [column.type for column in response.metadata.columns]
            rows += [
                tuple(None if v is None else of.decode(v) for of, v in zip(types, row, strict=True))
                for row in response.rows
            ]
            assert not page_size or len(response.rows) <= page_size, "a page is longer than asked for"
            state, number = response.paging_state, number + 1
            if state is None:
                return rows
            assert number < 10_000, "pages without end"

    # --- judging

    def wrong(self, query: Query, name: str, found: list[Row]) -> str | None:
        """What is wrong with a result, if anything is."""
        folded = self.folded if name == self.names[1] else ()
        wanted = self.table.select(query, folded)
        if self.is_ordered(query, name):
            return None if same(found, wanted) else f"not the rows of the model:\nwanted {wanted}"
        whole = Counter(map(repr, self.table.select(without_limit(query), folded)))
        if Counter(map(repr, found)) - whole:
            return "rows that the model has not"
        return None if len(found) == len(wanted) else f"{len(found)} rows for\nwanted {wanted}"

    def is_ordered(self, query: Query, name: str) -> bool:
        """Whether the order of rows is known: what an index serves comes in the order of its values."""
        if name == self.names[0] or query.group or query.distinct or query.per_partition is not None:
            return True
        if self.table.names_partitions(query) or any(each.form == "token" for each in query.where):
            return True
        return all(each.operator in ("=", "CONTAINS", "CONTAINS KEY") for each in query.where)

    def is_served_by_key(self, query: Query) -> bool:
        """Whether each relation is served by tokens, the partition key or the clustering columns in order."""
        named, at, sliced = self.table.names_partitions(query), 0, ""
        clustering = [column.name for column in self.table.of_kind(CLUSTERING)]
        for each in sorted(query.where, key=lambda each: (each.columns[0], each.operator not in ("=", "IN"))):
            kind = self.table.by_name[each.columns[0]].kind
            if kind == PARTITION and (each.form == "token" or (named and each.operator in ("=", "IN"))):
                continue
            if kind != CLUSTERING or not named or each.operator in ("!=", "NOT IN"):
                return False
            if each.columns[0] != sliced and (sliced or clustering[at] != each.columns[0]):
                return False
            if each.operator in ("=", "IN"):
                at += len(each.columns)
            else:
                sliced = each.columns[0]
        return True

    def is_sorted(self, query: Query) -> bool:
        """Whether rows of several partitions are put in order, for which there are no pages."""
        return bool(query.order) and any(
            each.operator == "IN" and self.table.by_name[each.columns[0]].kind == PARTITION
            for each in query.where
        )

    def story(self, told: str, wrong: str) -> str:
        """What a failure says."""
        script = ";\n".join(text for text in self.script if self.names[0] not in text)
        return f"{told}\n{wrong}\n{script}"


def same(found: Sequence[Row], wanted: Sequence[Row]) -> bool:
    """Whether these are the same rows, 1 and 1.0 and true apart."""
    return repr(found) == repr(wanted)


def without_limit(query: Query) -> Query:
    """The query whose result a limit cuts."""
    return Query(
        query.selectors, query.where, query.order, query.group, None, query.per_partition, query.distinct
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_select_answers_what_the_model_answers(cql: Cql, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(cql, seed)
    for module, name, value in case.limits():
        monkeypatch.setattr(module, name, value)
    case.prepare()
    for _ in range(QUERIES):
        case.ask()
    case.drop()


def test_pages_of_groups_count_what_each_partition_gave(cql: Cql) -> None:
    """Where a page ends before a group whose partition begins with rows that a filter rejects."""
    cql.run("CREATE TABLE grouped (k int, c int, v int, PRIMARY KEY (k, c))")
    settle(cql.cluster)
    for k, c, v in ((1, 1, 5), (2, 1, 0), (2, 2, 5), (2, 3, 5), (3, 1, 0), (3, 2, 5)):
        cql.run(f"INSERT INTO grouped (k, c, v) VALUES ({k}, {c}, {v})")
    text = (
        "SELECT k, c FROM grouped WHERE k IN (1, 2, 3) AND v = 5 GROUP BY k, c PER PARTITION LIMIT 1 "
        "ALLOW FILTERING"
    )
    for size in (1, 2, 3, 10):
        found = [(row["k"], row["c"]) for page in cql.pages(text, size) for row in page]
        assert found == [(1, 1), (2, 2), (3, 2)], size
