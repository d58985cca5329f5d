"""A simulated cluster with a collection: operations on documents through any peer, and their ends."""

from __future__ import annotations

from typing import Any

from core.consistency import Level
from core.requests import Changed, Invalid, Judged, MetadataRequest, RowsRead, Written
from documents import operations
from documents.collections import Collection, CollectionSpec, create_collection, find
from documents.edits import Edit, merge_patch
from documents.json_patch import json_patch
from documents.operations import Done, NotMet, Operation, Wanted
from documents.updates import update_of
from documents.values import Document
from jepsen_like.scenarios import Scenario

NOW_US = 1_700_000_000_000_000


class Docs:
    """One collection on a scenario."""

    def __init__(self, scenario: Scenario, name: str = "docs", **spec: Any) -> None:
        self.scenario = scenario
        request = create_collection(CollectionSpec(name, **spec), scenario.state(0).members)
        assert isinstance(request, MetadataRequest), request
        answer = scenario.ask(request).answer
        assert isinstance(answer, Changed) and not answer.error, answer
        running = scenario.cluster.running
        assert scenario.until(lambda: all(find(scenario.state(peer), name) for peer in running()))
        collection = find(scenario.state(0), name)
        assert collection is not None
        self.collection: Collection = collection

    def do(self, operation: Operation | Invalid, at: int = 0) -> Done | NotMet | Invalid:
        """Ask for it and say how it ended; only success and clear refusals are ends here."""
        if isinstance(operation, Invalid):
            return operation
        answer = self.scenario.ask(operation.request, at=at).answer
        if isinstance(answer, Invalid):
            return answer
        assert isinstance(answer, (Written, Judged)), answer
        return operation.outcome(answer)

    def put(self, key: str, text: bytes, at: int = 0, **wanted: Any) -> Done | NotMet | Invalid:
        """Have the document be this."""
        return self.do(operations.put(self.collection, key, text, Wanted(**wanted)), at)

    def delete(self, key: str, at: int = 0, **wanted: Any) -> Done | NotMet | Invalid:
        """Have there be none."""
        return self.do(operations.delete(self.collection, key, Wanted(**wanted)), at)

    def edit(self, key: str, edit: Edit, at: int = 0, **wanted: Any) -> Done | NotMet | Invalid:
        """Any edit."""
        return self.do(operations.edit(self.collection, key, edit, Wanted(**wanted)), at)

    def merge(self, key: str, text: bytes, at: int = 0, **wanted: Any) -> Done | NotMet | Invalid:
        """A JSON Merge Patch."""
        return self.edit(key, merge_patch(text), at, **wanted)

    def patch(self, key: str, text: bytes, at: int = 0, **wanted: Any) -> Done | NotMet | Invalid:
        """A JSON Patch."""
        return self.edit(key, json_patch(text), at, **wanted)

    def update(self, key: str, operators: Any, at: int = 0, **wanted: Any) -> Done | NotMet | Invalid:
        """Update operators."""
        return self.edit(key, update_of(operators, NOW_US), at, **wanted)

    def get(self, key: str, at: int = 0, level: Level = Level.QUORUM) -> Document | None:
        """The document."""
        read = operations.get(self.collection, key, level)
        assert not isinstance(read, Invalid)
        answer = self.scenario.ask(read, at=at).answer
        assert isinstance(answer, RowsRead), answer
        return operations.found(self.collection, answer)

    def text(self, key: str, at: int = 0, level: Level = Level.QUORUM) -> bytes | None:
        """The document's text."""
        document = self.get(key, at, level)
        return None if document is None else document.text
