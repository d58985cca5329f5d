"""Search over REST: jepsen_like/workloads/search.py with documents and bodies in JSON."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from core.consistency import Level
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.real.workloads import Few, door_of, insisted
from jepsen_like.session import Session
from jepsen_like.workloads.search import (
    COLLECTION,
    EVERYTHING,
    FINAL_PATIENCE_US,
    GROUPS,
    PAGE,
    WORDS,
    SearchWorkload,
    State,
)

SORT = ["row", "word.keyword", "group", "n"]
AFTER = ["\U0010ffff", 10**9, 10**9]
"""After all that a document may be meanwhile: what follows its row in the order."""


class RealSearchWorkload(SearchWorkload):
    """See the top of the file."""

    def setup(self, session: Session) -> bool:
        """A collection."""
        self.session = session
        self._few = Few(session)
        factor, door = session.cluster.options.replication, door_of(session)
        body: dict[str, Any] = {} if factor == 3 else {"replication_factor": factor}
        request = ("PUT", f"/v1/collections/{COLLECTION}", body)
        return insisted(session, lambda peer, then: door.http(peer, request, INFO, then))

    def _write(self, kind: str, row: int, peer: int) -> None:
        session, random = self.session, self.session.random
        self._number += 1
        state: State = (WORDS[random.randrange(len(WORDS))], random.randrange(GROUPS), self._number)
        operation = session.begin(kind, row, None if kind == "delete" else state, peer)
        then = partial(_without_answer, partial(session.end, operation))
        path = f"/v1/docs/{COLLECTION}/d{row}"
        if kind == "delete":
            door_of(session).http(operation.peer, ("DELETE", path, None), INFO, then)
            return
        word, group, number = state
        text = f"the {word} number {number}"
        document = {"row": row, "word": word, "group": group, "n": number, "text": text}
        door_of(session).http(operation.peer, ("PUT", path, document), INFO, then)

    def _page(self, operation: Operation, level: Level, after: Any, found: list[Any]) -> None:
        """Hits; of pages each is asked of another peer."""
        session = self.session
        peer = operation.peer if after is None else session.random.randrange(len(session.cluster.machines))
        size = PAGE if operation.kind == "in_pages" else EVERYTHING
        body: dict[str, Any] = {
            "query": _query(operation.kind.removeprefix("final_"), operation.key),
            "size": size,
            "sort": SORT,
            "_source": False,
            "consistency": level.name.lower(),
            "aggs": {"groups": {"terms": {"field": "group", "size": 100}}},
        }
        if operation.kind.startswith("final_"):
            body["timeout_ms"] = FINAL_PATIENCE_US // 1_000
        if after is not None:
            body["search_after"] = after

        def done(end: End) -> None:
            if end.status != OK:
                session.end(operation, end._replace(result=None))
                return
            answer = msgspec.json.decode(end.result.body)
            hits = [(hit["sort"][0], tuple(hit["sort"][1:4])) for hit in answer["hits"]["hits"]]
            self._check(operation, answer, len(hits), size)
            found.extend(hits)
            if len(hits) == size:
                self._page(operation, level, [hits[-1][0], *AFTER], found)
            else:
                session.end(operation, End(OK, found, f"of {len(found)}"))

        door_of(session).http(peer, ("POST", f"/v1/search/{COLLECTION}", body), FAIL, done)

    def _final(self, kind: str, what: tuple[str, int], level: Level, peer: int) -> None:
        def read() -> Operation:
            operation = self.session.begin(f"final_{kind}", what, None, peer)
            self._page(operation, level, None, [])
            return operation

        self._few.do(read, self._one_less)

    def _one_less(self) -> None:
        self._final_left -= 1

    def _check(self, operation: Operation, answer: dict[str, Any], hits: int, size: int) -> None:
        """The total, the hits and the facets of one answer speak of the same documents."""
        total = answer["hits"]["total"]["value"]
        facets = sum(bucket["doc_count"] for bucket in answer["aggregations"]["groups"]["buckets"])
        if facets != total or (size == EVERYTHING and hits != total):
            text = f"total {total}, facets {facets}, hits {hits} in {operation!r}"
            self._disagreeing.append(Problem("disagreeing", text))


def _without_answer(then: Any, end: End) -> None:
    then(end._replace(result=None))


def _query(kind: str, what: tuple[str, int]) -> dict[str, Any]:
    word, group = what
    by_word, by_group = {"match": {"word": word}}, {"range": {"group": {"gte": group}}}
    if kind == "by_range":
        return by_group
    if kind == "by_both":
        return {"bool": {"must": by_word, "filter": by_group}}
    if kind == "by_text":
        return {"query_string": {"query": word}}
    return by_word
