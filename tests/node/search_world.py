"""Whole simulated clusters that search, with indexes as naive as can be.

Each peer's `ShadowHost` holds what its own store held at the last `when_fresh`: an index that lags until it
is told to catch up, so that a search which forgets to tell it is seen to.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from core.consistency import Level
from core.requests import Answer, Changed, Request, Written
from core.row import Row, decode_row
from core.searching import SearchAnswer, SearchRequest
from documents import operations
from documents.collections import Collection, CollectionSpec, create_collection, find
from documents.values import cells_of, id_of, text_of
from index.asking import Segments
from index.bounds import QueryError
from index.changing import Change
from index.mapping import DEFAULT, Rules, compile_mapping
from index.naive_segments import Kept, NaiveSegments
from index.query import Query
from index.query_dsl import parse_query
from jepsen_like.scenarios import Scenario
from lsm.keys import successor, table_prefix
from node.node import Node
from sim.world import SimWorld

SECOND = 1_000_000


class ShadowHost:
    """Implements node.search_ports.IndexHost."""

    def __init__(self, world: SimWorld, node: Node) -> None:
        self._world = world
        self._node = node
        self._indexes: dict[int, NaiveSegments] = {}
        rules = compile_mapping(DEFAULT)
        assert isinstance(rules, Rules)
        self._rules = rules
        self.building = ""

    def _segments(self, table: int) -> NaiveSegments:
        if table not in self._indexes:
            self._indexes[table] = NaiveSegments(self._rules, Kept({}))
        return self._indexes[table]

    def when_fresh(self, table: int, until_us: int, done: Callable[[str], None]) -> None:
        if not self.building:
            engine, now_us = self._world.machine.engine, self._node.inside.clock.now_us()
            first = table_prefix(table)
            segments = self._segments(table)
            changes = [
                Change(key, self.document(table, key, decode_row(data), now_us))
                for key, data in engine.scan(first, successor(first))
            ]
            segments.commit(changes, segments.covers() + 1)
        done(self.building)

    def when_open(self, table: int, until_us: int, done: Callable[[str], None]) -> None:
        done(self.building)

    def run(self, table: int, work: Callable[[Segments], Any], done: Callable[[Any], None]) -> None:
        def finish() -> None:
            if self._world.running:
                done(work(self._segments(table)))

        self._world._scheduler.after(100, finish)

    def rules(self, table: int) -> Rules:
        return self._rules

    def document(self, table: int, key: bytes, row: Row, now_us: int) -> bytes | None:
        collection = next(
            c for c in (find(self._node.metadata.state, n) for n in NAMES) if c and c.table == table
        )
        return text_of(cells_of(collection, row), now_us)


NAMES = ("movies", "books")


class SearchScenario(Scenario):
    """A story with collections that are searched."""

    def __init__(
        self, peers: int = 3, seed: int = 1, settings: dict[str, Any] | None = None, **more: Any
    ) -> None:
        super().__init__(peers, seed, settings, **more)
        self.hosts: dict[int, ShadowHost] = {}

        def started(world: SimWorld) -> None:
            node = world.node
            assert isinstance(node, Node)
            self.hosts[world.index] = host = ShadowHost(world, node)
            node.search_by(host)

        self.cluster.on_start = started

    def collect(self, name: str = "movies") -> Collection:
        """Make a collection, known to all."""
        made = create_collection(CollectionSpec(name), self.state(0).members)
        answer = self.ask(made).answer  # type: ignore[arg-type]
        assert isinstance(answer, Changed) and not answer.error
        epoch = answer.epoch
        assert self.until(lambda: all(self.state(peer).epoch >= epoch for peer in self.cluster.running()))
        return self.collection(name)

    def collection(self, name: str = "movies", at: int = 0) -> Collection:
        found = find(self.state(at), name)
        assert found is not None
        return found

    def store(self, document_id: str, document: Any, name: str = "movies", at: int = 0) -> None:
        """PUT at QUORUM."""
        planned = operations.put(self.collection(name, at), document_id, json.dumps(document).encode())
        assert isinstance(planned, operations.Operation), planned
        assert isinstance(self.ask(planned.request, at).answer, Written)

    def search(
        self, query: Query | dict[str, Any], at: int = 0, names: tuple[str, ...] = ("movies",), **more: Any
    ) -> Answer:
        """Search by a query tree or by JSON."""
        found = parse_query(query) if isinstance(query, dict) else query
        assert not isinstance(found, QueryError), found
        level, timeout_s = more.pop("level", Level.QUORUM), more.pop("timeout_s", 20.0)
        tables = tuple(self.collection(name, at).table for name in names)
        request: Request = SearchRequest(tables, found, level, **more)
        answer = self.ask(request, at, timeout_s).answer
        assert answer is not None, "an answer in time"
        return answer

    def found(self, query: Query | dict[str, Any], at: int = 0, **more: Any) -> list[str]:
        """The ids that a search finds, in order."""
        answer = self.search(query, at, **more)
        assert isinstance(answer, SearchAnswer), answer
        return [id_of(hit.key) for hit in answer.hits]
