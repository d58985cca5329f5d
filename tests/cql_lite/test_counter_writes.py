"""Counters against a dictionary: random additions, alone and in batches, and deletions.

What is added after a deletion is only promised where all replicas have it, so here is one.
`COUNTERS_SEED=n` draws others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from cql_lite import wire
from tests.cql_lite.whole import Cql, cluster_of, settle

SEED = os.environ.get("COUNTERS_SEED", "1")
HISTORIES = 60
ROWS = (0, 1, 2)
COLUMNS = ("n", "m", "s")
STATIC = -1

Counts = dict[tuple[int, str], int]
"""Sums by row and column."""


class Run:
    """One history, on a partition of its own and its neighbour."""

    def __init__(self, cql: Cql, random: Random, key: int) -> None:
        self.cql = cql
        self.random = random
        self.keys = (2 * key, 2 * key + 1)
        self.counts: dict[int, Counts] = {key: {} for key in self.keys}
        self.told: list[str] = []

    def step(self) -> None:
        """One statement, or a batch."""
        drawn = self.random.random()
        if drawn < 0.25:
            self.told.append(self.delete())
            self.cql.run(self.told[-1])
        elif drawn < 0.5:
            self.batch()
        else:
            text, values = self.update()
            self.told.append(f"{text} -- {values}")
            self.cql.run(text, *values)

    def update(self) -> tuple[str, list[Any]]:
        """An UPDATE, with what it adds noted."""
        random = self.random
        names = random.sample(COLUMNS, random.choice((1, 1, 2)))
        keys = self.keys if random.random() < 0.15 else (random.choice(self.keys),)
        rows = () if names == ["s"] else tuple(random.sample(ROWS, random.choice((1, 1, 2))))
        bound = random.random() < 0.5
        parts, values = [], []
        for name in names:
            sign, delta = random.choice("+-"), random.choice((0, 1, 5, 2**31))
            unset = bound and random.random() < 0.1
            parts.append(f"{name} = {name} {sign} {'?' if bound else delta}")
            values += [wire.UNSET if unset else delta] * bound
            for key in keys if not unset else ():
                for row in (STATIC,) if name == "s" else rows:
                    counts = self.counts[key]
                    added = delta if sign == "+" else -delta
                    counts[row, name] = counts.get((row, name), 0) + added
        where = f"k IN ({', '.join(map(str, keys))})"
        if rows:
            where += f" AND c IN ({', '.join(map(str, rows))})"
        return f"UPDATE t SET {', '.join(parts)} WHERE {where}", values

    def batch(self) -> None:
        updates = [self.update() for _ in range(self.random.randint(1, 3))]
        named = [key for key in self.keys if any(f"{key}" in re.findall(r"\d+", text) for text, _ in updates)]
        for key in self.keys:
            if key not in named and self.random.random() < 0.7:  # a deletion beside what is not deleted
                updates.insert(self.random.randrange(len(updates) + 1), (self.delete(key), []))
        self.told.append(f"batch: {updates}")
        if all(not values for _, values in updates):
            self.cql.run(f"BEGIN COUNTER BATCH {'; '.join(text for text, _ in updates)}; APPLY BATCH")
            return
        statements = []
        for text, values in updates:
            prepared = self.cql.good(wire.Prepare(text))
            assert isinstance(prepared, wire.Prepared)
            bound = self.cql.execute(prepared, values).parameters.values
            statements.append(wire.BatchStatement(prepared.id, tuple(bound)))
        self.cql.good(wire.Batch(wire.COUNTER_BATCH, tuple(statements), self.cql.level))

    def delete(self, key: int | None = None) -> str:
        """A DELETE, with what it takes noted."""
        random = self.random
        key = random.choice(self.keys) if key is None else key
        row, name = random.choice(ROWS), random.choice(COLUMNS)
        where = f"WHERE k = {key}"
        forms: dict[str, Callable[[tuple[int, str]], bool]] = {
            f"DELETE FROM t {where}": lambda at: True,
            f"DELETE FROM t {where} AND c = {row}": lambda at: at[0] == row,
            f"DELETE FROM t {where} AND c >= {row}": lambda at: at[0] >= row,
            f"DELETE {name} FROM t {where}" + f" AND c = {row}" * (name != "s"): lambda at: (
                at == (STATIC if name == "s" else row, name)
            ),
        }
        text, goes = random.choice(list(forms.items()))
        self.counts[key] = {at: count for at, count in self.counts[key].items() if not goes(at)}
        return text

    def expected(self, key: int) -> list[dict[str, Any]]:
        """SELECT * of a partition."""
        counts = self.counts[key]
        static = counts.get((STATIC, "s"))
        rows = sorted({row for row, _ in counts if row != STATIC})
        if not rows and static is not None:
            return [{"k": key, "c": None, "s": static, "m": None, "n": None}]
        return [
            {"k": key, "c": c, "s": static, "m": counts.get((c, "m")), "n": counts.get((c, "n"))}
            for c in rows
        ]


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(1))
    client.run("USE ks")
    client.run("CREATE TABLE t (k int, c int, n counter, m counter, s counter static, PRIMARY KEY (k, c))")
    settle(client.cluster)
    return client


def test_counters_are_sums(cql: Cql) -> None:
    for number in range(HISTORIES):
        run = Run(cql, Random(f"{SEED}:{number}"), number)
        for _ in range(run.random.randint(3, 12)):
            run.step()
            for key in run.keys:
                found = cql.run(f"SELECT * FROM t WHERE k = {key}")
                assert found == run.expected(key), "\n".join(run.told)
