"""Documents in a column, changed place by place, against dictionaries: SET, DELETE, conditions, what a SELECT
shows of a place and what a filter finds.

`PLACES_SEED=n PLACES_HISTORIES=m` draws others, and more.
"""

from __future__ import annotations

import copy
import json
import os
from random import Random
from typing import Any

import pytest

from tests.cql_lite.whole import Cql, Error, cluster_of, settle

SEED = os.environ.get("PLACES_SEED", "1")
HISTORIES = int(os.environ.get("PLACES_HISTORIES", "40"))
KEYS = ("a", "b", "0", "1", "é'", "")
ABSENT = object()
Path = tuple[str, ...]


def get(document: Any, path: Path) -> Any:
    """What is at a place; ABSENT if nothing is."""
    here = document
    for key in path:
        if isinstance(here, dict) and key in here:
            here = here[key]
        elif isinstance(here, list) and key in ("0", "1") and int(key) < len(here):
            here = here[int(key)]
        else:
            return ABSENT
    return here


def on_array(document: Any, path: Path) -> bool:
    """Whether a key of the path is a position in an array."""
    for depth in range(len(path)):
        here = get(document, path[:depth])
        if isinstance(here, list):
            return path[depth] in ("0", "1")
    return False


def put(document: Any, path: Path, value: Any) -> Any:
    """The document with this value at a place: what stands in the way becomes an object."""
    if not path:
        return value
    if isinstance(document, list) and path[0] in ("0", "1"):
        at = int(path[0])
        if at >= len(document):
            raise Refused
        if len(path) > 1 and not isinstance(document[at], dict | list):
            raise Refused
        if len(path) > 2 and isinstance(document[at], dict) and path[1] not in document[at]:
            raise Refused
        if len(path) > 1 and isinstance(document[at], list) and path[1] not in ("0", "1"):
            raise Refused
        return [*document[:at], put(document[at], path[1:], value), *document[at + 1 :]]
    inner = document if isinstance(document, dict) else {}
    return {**inner, path[0]: put(inner.get(path[0]), path[1:], value)}


def without(document: Any, path: Path) -> Any:
    """The document without what is at a place."""
    if get(document, path) is ABSENT:
        if on_array(document, path) and not isinstance(get(document, path[:-1]), dict):
            raise Refused
        return document
    changed = copy.deepcopy(document)
    parent = get(changed, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
    return changed


class Refused(Exception):
    """The statement is one about an array that has no such place."""


class Run:
    """A history on a row of its own."""

    def __init__(self, cql: Cql, random: Random, key: int) -> None:
        self.cql = cql
        self.random = random
        self.key = key
        self.document: Any = ABSENT
        self.told: list[str] = []

    def value(self, depth: int = 0) -> Any:
        """Any document."""
        drawn = self.random.random()
        if drawn < 0.4 or depth > 2:
            return self.random.choice((1, 2, True, "x", 1.5, None, {}, []))
        if drawn < 0.75:
            return {key: self.value(depth + 1) for key in self.random.sample(KEYS, self.random.randint(0, 3))}
        return [self.value(depth + 1) for _ in range(self.random.randint(0, 2))]

    def path(self) -> Path:
        return tuple(self.random.choice(KEYS) for _ in range(self.random.choice((1, 1, 2, 2, 3))))

    def step(self) -> None:
        """One statement."""
        random, where = self.random, f"WHERE k = {self.key}"
        drawn = random.random()
        exists = random.random() < 0.4
        condition = " IF EXISTS" if exists else ""
        path, value = self.path(), self.value()
        before = self.document
        text = quoted(json.dumps(value))
        if drawn < 0.25:
            how = random.choice((f"INSERT INTO t (k, v, doc) VALUES ({self.key}, 1, {text})",
                                 f"UPDATE t SET v = 1, doc = {text} {where}{condition}"))  # fmt: skip
            self.send(how)
            if "IF" not in how or before is not ABSENT:
                self.document = value
            return
        if drawn < 0.8:
            self.change(
                f"UPDATE t SET doc{shown(path)} = {text} {where}", path, exists, lambda d: put(d, path, value)
            )
        else:
            self.change(f"DELETE doc{shown(path)} FROM t {where}", path, exists, lambda d: without(d, path))

    def change(self, text: str, path: Path, exists: bool, change: Any) -> None:
        before = None if self.document is ABSENT else self.document
        if exists and self.document is ABSENT:
            self.send(text + " IF EXISTS")
            return
        if on_array(before, path) and not exists:
            self.send(text, refused=True)
            return
        try:
            after = change(before)
        except Refused:
            self.send(text + " IF EXISTS" * exists, refused=True)
            return
        self.send(text + " IF EXISTS" * exists)
        if self.document is not ABSENT or after is not None:
            self.document = after

    def send(self, text: str, *, refused: bool = False) -> None:
        self.told.append(text)
        try:
            self.cql.run(text)
        except Error as error:
            if not refused:
                raise AssertionError(self.story()) from error
            return
        assert not refused, self.story() + "\nis not refused"

    def story(self) -> str:
        return "\n".join(self.told)

    def compare(self) -> None:
        """What SELECTs say."""
        rows = self.cql.run(f"SELECT doc, v FROM t WHERE k = {self.key}")
        found = [json.loads(row["doc"]) if row["doc"] is not None else ABSENT for row in rows]
        wanted = self.document
        assert (found or [ABSENT])[0] == wanted, f"{self.story()}\nfound {found}\nwanted {wanted}"
        for _ in range(3):
            path = self.path() if self.random.random() < 0.7 else ()
            there = get(wanted, path)
            if not rows:
                return
            ((one,),) = (
                row.values() for row in self.cql.run(f"SELECT doc{shown(path)} FROM t WHERE k = {self.key}")
            )
            one = ABSENT if one is None else json.loads(one)
            assert one == there, f"{self.story()}\nat {path}: found {one}, wanted {there}"
            if there is ABSENT:
                continue
            text = quoted(json.dumps(there, indent=self.random.choice((None, 1)), sort_keys=True))
            wants = self.random.choice((f"= {text}", f"IN ('0.5', {text})"))
            hits = self.cql.run(
                f"SELECT k FROM t WHERE k = {self.key} AND doc{shown(path)} {wants} ALLOW FILTERING"
            )
            assert hits == [{"k": self.key}], f"{self.story()}\nat {path}: {text} is not found by a filter"
            (decided,) = self.cql.run(f"UPDATE t SET v = 1 WHERE k = {self.key} IF doc{shown(path)} = {text}")
            assert decided["[applied]"], f"{self.story()}\nat {path}: {text} is no condition"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def shown(path: Path) -> str:
    return "".join(f"[{quoted(key)}]" for key in path)


@pytest.fixture(scope="module")
def cql() -> Cql:
    client = Cql(cluster_of(1))
    client.run("USE ks")
    client.run("CREATE TABLE t (k int PRIMARY KEY, v int, doc json)")
    settle(client.cluster)
    return client


def test_documents_are_what_was_written_place_by_place(cql: Cql) -> None:
    for number in range(HISTORIES):
        run = Run(cql, Random(f"{SEED}:{number}"), number)
        for _ in range(run.random.randint(2, 10)):
            run.step()
            run.compare()


@pytest.mark.parametrize("column", ["m map<int, json>", "m frozen<map<int, json>>"])
def test_documents_in_collections_are_equal_that_mean_the_same(cql: Cql, column: str) -> None:
    cql.run(f"CREATE TABLE held (k int PRIMARY KEY, {column}, l list<json>)")
    cql.run("""INSERT INTO held (k, m, l) VALUES (1, {1: '{"a":1,"b":2}'}, ['{"a":1,"b":2}'])""")
    text = """'{"b": 2.0, "a": 1}'"""
    for where in (f"m[1] = {text}", f"m[1] IN ({text})", f"m CONTAINS {text}", f"l CONTAINS {text}"):
        assert cql.run(f"SELECT k FROM held WHERE {where} ALLOW FILTERING") == [{"k": 1}], where
    assert "no order" in cql.error(f"SELECT k FROM held WHERE m[1] < {text} ALLOW FILTERING").message
    cql.run("DROP TABLE held")
