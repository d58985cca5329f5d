"""What one document costs at each station, from a line to a merged segment.

    python -m bench.document_stages

Stations are run one after the other for many documents of about 1 KiB, so their processor time can be
measured without a clock in the code; the store is a real one on RocksDB, the index a real one on tantivy.
What comes in between (HTTP, event loop, flushes and compactions of RocksDB, the load itself) is in none of
them; `python -m bench --only documents` has the whole.

    line            one of `_bulk` as a request to the node
    mutation        as a mutation: stamped, routed, encoded
    storage         applied at the replica, with its log entry and hash-tree sums
    outcome         the line that is answered
    log             the row read from the log's end, for the index
    row             its document
    parse, prepare  as a Python value; as terms; both together and as what tantivy takes
    postings        tantivy's threads, until a segment of COUNT is committed
    merging         what is left of it after the last of ROUNDS commits
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from bench.documents import Corpus
from bench.stages import SECOND_US, Taker
from core.commands import ApplyMany, LogRows
from core.json_values import parse
from core.requests import BulkAnswered, BulkRequest, WriteRequest
from core.settings import Settings
from documents.collections import Collection, CollectionSpec, create_collection, find
from documents.operations import Operation, put
from index.changing import Change
from index.mapping import DEFAULT, Rules, compile_mapping
from index.segments import TantivySegments
from lsm.commit import Commit
from lsm.executor import Executor
from lsm.rocks import RocksEngine
from lsm.store import Store
from node.node import Node
from node.search_indexes import change_of
from server.rest.bulk import GROUP_LINES, Item
from server.rest.documents_bulk import DocumentLines
from server.rest.targets import Options
from sim.cluster import SimCluster
from sim.options import Options as SimOptions
from sim.real import RealSoftware, node_of

SAMPLE: Final = Path(__file__).resolve().parent.parent / "sample" / "movies.ndjson.gz"
COUNT: Final = 4_000
"""Documents of a round, which are one segment."""
ROUNDS: Final = 8
NAME: Final = "films"


class _Known:
    """What lines need of server.rest.collections.Collections."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def find(self, _name: str) -> Collection:
        """It is there."""
        return self._collection


class _Stages:
    """Rounds of documents; what each station took, by name, in microseconds per document."""

    def __init__(self, folder: Path) -> None:
        self.taken: dict[str, list[float]] = {}
        self._node, self._collection = _peer()
        (folder / "rows").mkdir()
        self._engine = RocksEngine.open(folder / "rows", lambda: time.monotonic_ns() // 1000)
        self._executor = Executor(Store(self._engine, self._node.metadata.state.tables.get), Commit())
        rules = compile_mapping(DEFAULT)
        assert isinstance(rules, Rules), "the default is a mapping"
        self._segments = TantivySegments(rules, folder / "index")
        known: Any = _Known(self._collection)
        self._lines = DocumentLines(known, NAME, Options(), Settings())
        self._log_read = 0

    def _time(
        self, name: str, work: Callable[[], Any], clock: Callable[[], int] = time.thread_time_ns
    ) -> Any:
        began = clock()
        result = work()
        self.taken.setdefault(name, []).append((clock() - began) / 1000 / COUNT)
        return result

    def round(self, lines: list[bytes]) -> None:
        """All stations for these lines."""
        items = [Item(bytes=len(line)) for line in lines]
        plan = self._lines.plan
        self._time("line", lambda: [plan(line, item, None) for line, item in zip(lines, items, strict=True)])
        world = Taker(self._node.inside.world)
        before, self._node.inside.world = self._node.inside.world, world  # type: ignore[assignment]
        self._time("mutation", lambda: self._ask(items, world))
        commands = [(ticket, each) for ticket, each in world.submitted if isinstance(each, ApplyMany)]
        outcomes = self._time("storage", lambda: self._store(commands))
        self._time("outcome", lambda: self._tell(items, outcomes, world))
        self._node.inside.world = before
        self._index()

    def _ask(self, items: list[Item], world: Taker) -> None:
        deadline_us = world.monotonic_us() + 10 * SECOND_US
        for first in range(0, len(items), GROUP_LINES):
            writes = tuple(item.request for item in items[first : first + GROUP_LINES])
            assert isinstance(writes[0], WriteRequest), "plain puts"
            request = BulkRequest(writes[0].table, writes, writes[0].level)  # type: ignore[arg-type]
            self._node.on_request(first, request, deadline_us)

    def _store(self, commands: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        executor = self._executor
        for ticket, command in commands:
            executor.submit(ticket, command)
            while executor.ready and executor.run():
                pass
        while fetches := executor.take_fetches():
            for fetch in fetches:
                self._engine.fetch(fetch.keys)
                executor.end_fetch(fetch)
            executor.run()
        token = executor.begin_sync()
        if token is not None:
            self._engine.sync()
            executor.end_sync(token)
        return executor.take_released()

    def _tell(self, items: list[Item], outcomes: list[tuple[Any, Any]], world: Taker) -> None:
        for ticket, outcome in outcomes:
            self._node.on_stored(ticket, outcome)
        answers = dict(world.replies)
        for first, answered in answers.items():
            assert isinstance(answered, BulkAnswered), answered
            for item, answer in zip(items[first:], answered.answers, strict=False):
                orjson.dumps(self._lines.told(item, answer))

    def _index(self) -> None:
        rows = self._time("log", self._rows)
        now_us = time.time_ns() // 1000
        collection, segments = self._collection, self._segments
        changes: list[Change] = self._time(
            "row", lambda: [change_of(collection, key, data, now_us) for key, data in rows]
        )
        assert len(changes) == COUNT, len(changes)
        texts = [change.document or b"" for change in changes]
        values = self._time("parse", lambda: [parse(text) for text in texts])
        self._time("prepare", lambda: [segments.preparer.prepare(value) for value in values])
        self._time("parse, prepare and document", lambda: [segments.document(each) for each in changes])
        process = time.process_time_ns
        own_us = self.taken["parse, prepare and document"][-1]
        self._time("postings", lambda: segments.commit(changes, self._log_read), process)
        self.taken["postings"][-1] -= own_us

    def _rows(self) -> list[tuple[bytes, bytes | None]]:
        found: list[tuple[bytes, bytes | None]] = []
        table = self._collection.table
        while True:
            after = self._log_read
            wanted = LogRows(((table, after),), after, 250, 256 * 1024)
            outcome: Any = self._executor.store.execute(wanted)
            found += outcome.rows
            self._log_read = outcome.next_after
            if outcome.next_after in (after, outcome.end):
                return found

    def close(self) -> None:
        """Wait for what is merged."""
        process = time.process_time_ns
        began = process()
        self._segments.close()
        self.taken["merging, after the last commit"] = [(process() - began) / 1000 / COUNT / ROUNDS]
        self._engine.close()


def _peer() -> tuple[Node, Collection]:
    """A simulated peer that knows the collection, and may stamp writes."""
    cluster = SimCluster(SimOptions(seed=1, peers=1, voters=1), RealSoftware())
    cluster.start_all()
    assert cluster.run_until(lambda: node_of(cluster, 0).ready()[0], 30 * SECOND_US)
    node = node_of(cluster, 0)
    _answer(cluster, create_collection(CollectionSpec(NAME), node.metadata.state.members))
    collection = find(node.metadata.state, NAME)
    assert collection is not None, "it was made"
    first = put(collection, "first", b"{}")
    assert isinstance(first, Operation), first
    _answer(cluster, first.request)
    return node, collection


def _answer(cluster: SimCluster, request: Any) -> None:
    answers: list[Any] = []
    cluster.request(0, request, 10 * SECOND_US, lambda reply: answers.append(reply.answer))
    assert cluster.run_until(lambda: bool(answers), 30 * SECOND_US), "it is answered"


def run() -> dict[str, float]:
    """Microseconds of processor time per document by station: the least of all rounds but the first."""
    corpus = Corpus(SAMPLE, COUNT * ROUNDS)
    with tempfile.TemporaryDirectory(prefix="sullae-bench-") as folder:
        stages = _Stages(Path(folder))
        for number in range(ROUNDS):
            ids = range(number * COUNT, (number + 1) * COUNT)
            puts = [{"op": "put", "id": f"d{n}", "document": corpus.document(n)} for n in ids]
            stages.round([orjson.dumps(put) for put in puts])
        stages.close()
    return {name: round(min(us[1:] or us), 1) for name, us in stages.taken.items()}


def main() -> None:
    """Print a table."""
    found = run()
    print("microseconds of processor time for one document of about 1 KiB, one peer")
    for name, us in found.items():
        print(f"{name:<32}{us:>8.1f}")


if __name__ == "__main__":
    main()
