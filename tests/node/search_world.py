"""Stories of whole simulated clusters that search: real nodes, with the naive twin for segments."""

from __future__ import annotations

import json
from typing import Any

from core.consistency import Level
from core.requests import Answer, Changed, Request, Written
from core.searching import SearchAnswer, SearchRequest
from documents import operations
from documents.collections import Collection, CollectionSpec, create_collection, find
from documents.values import id_of
from index.bounds import QueryError
from index.query import Query
from index.query_dsl import parse_query
from jepsen_like.scenarios import Scenario


class SearchScenario(Scenario):
    """A story with collections that are searched."""

    def host(self, peer: int) -> Any:
        """The inverted indexes of a peer."""
        searches = self.node(peer).searches
        assert searches is not None
        return searches.serving.host

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
