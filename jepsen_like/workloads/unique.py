"""Unique values: clients claim the same few values for different documents, and no two may ever hold one.

A document holds at most one of `VALUES` names, and the number of the write that gave it, so each state of a
document is known by its number. A *sighting* is an acknowledged write or a read that showed the number:
between the end of the first and the beginning of the last the document held its name all the time. Two
documents that held one name at one time are the bug looked for. A second unique index, of the numbers, is
made while there is load and has to be built in the end.

At the end, besides: a document shows no older write than one that was acknowledged after it, its reservation
names it, and a name that nobody holds can be claimed, whoever died on the way to it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from core.consistency import Level
from core.json_values import render
from core.requests import Invalid, MetadataRequest, ReadRequest, RowsRead
from core.schema import Index
from documents import indexes, operations
from documents.collections import Collection, CollectionSpec, create_collection, find
from documents.operations import Operation as Planned
from documents.updates import update_of
from index.entries_json import value_term
from jepsen_like.checkers import Problem
from jepsen_like.door import End
from jepsen_like.history import FAIL, NEVER, OK, Operation
from jepsen_like.session import SECOND, Session
from lsm.keys import ROW_SUFFIX
from node.unique_building import BUILT, note_in, note_request
from node.unique_claims import hash_of, reservation_of
from sim.real import node_of

NAME = "accounts"
DOCUMENTS, VALUES = 8, 4
PATIENCE_US, FINAL_PATIENCE_US = 20 * SECOND, 30 * SECOND
"""A write that claims a value may take as long as three writes, and a client waits for its coordinator."""
SETUP_US = 60 * SECOND
BUILD_AT_STEP = 60
"""Steps before the second index is made."""
CHANGES = ("take", "drop")

Held = tuple[str, str, int]
"""(document, name, number of the write)."""


class UniqueWorkload:
    """See above."""

    kinds: tuple[str, ...] = ("drop", "edit", "read", "probe_write")

    def __init__(self) -> None:
        self._number = 0
        self._steps = 0
        self._left = 0
        self.seen: dict[Held, list[Operation]] = {}
        self.finals: dict[str, Held | None] = {}
        self.found: list[Problem] = []

    # --- before

    def setup(self, session: Session) -> bool:
        """One collection with a unique index on its names."""
        self.session = session
        session.door.patience_us = PATIENCE_US
        factor = session.cluster.options.replication
        spec = CollectionSpec(NAME, None if factor == 3 else factor)
        request = create_collection(spec, node_of(session.cluster, 0).metadata.state.members)
        assert isinstance(request, MetadataRequest), request
        self._change(request, 0)
        if not session.cluster.run_until(lambda: self._collection() is not None, SETUP_US):
            return False
        self._change(self._index_request("name"), 0)
        everybody = range(len(session.cluster.machines))
        return session.cluster.run_until(
            lambda: all(self._index("name", peer) is not None for peer in everybody), SETUP_US
        )

    def _index_request(self, path: str) -> MetadataRequest:
        collection, spec = self._collection(), indexes.index_spec(path, {"paths": {path: 1}, "unique": True})
        assert collection is not None and not isinstance(spec, Invalid)
        return indexes.create_index(collection, spec)

    def _change(self, request: MetadataRequest, at: int) -> None:
        """Have it decided, however often it takes."""
        cluster = self.session.cluster

        def judge(end: End) -> None:
            if end.status != OK and end.detail != "index_exists":
                cluster.scheduler.after(SECOND // 5, self._change, request, at + 1)

        self.session.door.ask(at % len(cluster.machines), request, judge)

    def _collection(self) -> Collection | None:
        for peer in self.session.cluster.running():
            found = find(node_of(self.session.cluster, peer).metadata.state, NAME)
            if found is not None:
                return found
        return None

    def _index(self, name: str, peer: int) -> Index | None:
        collection = self._collection()
        if collection is None or self.session.cluster.machines[peer].process is None:
            return None
        table = node_of(self.session.cluster, peer).metadata.state.tables.get(collection.table)
        return None if table is None else indexes.indexes_of(collection, table).get(name)

    # --- load

    def step(self) -> None:
        """Half of the operations claim a name; others give it up, change something else, or look."""
        random = self.session.random
        self._steps += 1
        if self._steps == BUILD_AT_STEP:
            self._change(self._index_request("number"), random.randrange(len(self.session.cluster.machines)))
        document, dice = f"d{random.randrange(DOCUMENTS)}", random.randrange(10)
        if dice < 5:
            self._take("take", document, f"v{random.randrange(VALUES)}", -1)
        elif dice < 7:
            self._drop(document, random.randrange(2))
        elif dice == 7:
            operation = self.session.begin("edit", document)
            self._send(operation, self._edited(document), partial(self.session.end, operation))
        else:
            self._read("read", document, -1, (Level.QUORUM, Level.SERIAL)[dice % 2])

    def probe(self, peer: int) -> None:
        """A name of this peer's own is claimed by whichever document comes, and read."""
        document = f"p{peer}-{self._number}"
        self._take("probe_write", document, f"own{document}", peer)
        self._read("probe_read", document, peer, Level.QUORUM)

    def _take(self, kind: str, document: str, name: str, peer: int) -> None:
        self._number += 1
        held = (document, name, self._number)
        operation = self.session.begin(kind, document, held, peer)
        collection = self._collection()
        text = render({"name": name, "number": self._number})

        def done(end: End) -> None:
            if end.status == OK:
                self.seen.setdefault(held, []).append(operation)
            self.session.end(operation, end)

        planned = None if collection is None else operations.put(collection, document, text)
        self._send(operation, planned, done)

    def _drop(self, document: str, how: int) -> None:
        operation = self.session.begin("drop", document)
        collection = self._collection()
        planned = None
        if collection is not None and how:
            planned = operations.delete(collection, document)
        elif collection is not None:
            planned = operations.put(collection, document, b"{}")
        self._send(operation, planned, partial(self.session.end, operation))

    def _edited(self, document: str) -> Planned | Invalid | None:
        collection = self._collection()
        edit = update_of({"$inc": {"edits": 1}}, 0)
        return None if collection is None else operations.edit(collection, document, edit)

    def _send(self, operation: Operation, planned: Planned | Invalid | None, done: Any) -> None:
        if planned is None:  # nobody runs
            done(End(FAIL, None, "refused"))
            return
        assert isinstance(planned, Planned), planned
        self.session.door.ask(operation.peer, planned.request, done)

    def _read(self, kind: str, document: str, peer: int, level: Level) -> None:
        operation = self.session.begin(kind, document, None, peer)
        collection, final = self._collection(), kind == "final"
        request = None if collection is None else operations.get(collection, document, level)

        def done(end: End) -> None:
            if end.status == OK:
                held = _held(collection, document, end.result[-1])
                end = end._replace(result=held)
                if held is not None:
                    self.seen.setdefault(held, []).append(operation)
                if final:
                    self.finals[document] = held
                    self._left -= 1
            elif final:
                self.session.cluster.scheduler.after(SECOND, self._read, kind, document, peer, level)
            self.session.end(operation, end)

        if request is None:
            done(End(FAIL, None, "refused"))
            return
        assert isinstance(request, ReadRequest), request
        self.session.door.ask(operation.peer, request, done)

    # --- the end

    def final(self) -> None:
        """When all is quiet: every document, every reservation, every free name, and the second index."""
        session = self.session
        session.door.patience_us = FINAL_PATIENCE_US
        self._left = DOCUMENTS + 1  # one for what comes second
        self._when(lambda: not session.waiting, self._first)

    def _first(self) -> None:
        peers = len(self.session.cluster.machines)
        for number in range(DOCUMENTS):
            self._read("final", f"d{number}", number % peers, Level.SERIAL)
        self._when(lambda: self._left == 1, self._second)

    def _when(self, holds: Any, then: Any) -> None:
        if holds():
            then()
        else:
            self.session.cluster.scheduler.after(SECOND // 5, self._when, holds, then)

    def _second(self) -> None:
        """Who holds a name is who reserved it; what nobody holds can be had."""
        held = {name: document for document, name, _ in filter(None, self.finals.values())}
        self._left = VALUES + 1
        for number in range(VALUES):
            name = f"v{number}"
            if name in held:
                self._check_reservation(name, held[name])
            else:
                self._claim_free(name)
        self._check_built(0)

    def _check_reservation(self, name: str, document: str) -> None:
        index = self._index("name", 0)
        assert index is not None
        key = hash_of(value_term(name))
        request = ReadRequest(index.reservations, key, ROW_SUFFIX, b"", True, Level.SERIAL)

        def done(end: End) -> None:
            if end.status != OK:
                self.session.cluster.scheduler.after(SECOND, self._check_reservation, name, document)
                return
            holder = reservation_of(end.result[-1])[0].decode()
            if holder != document:
                self._problem("unreserved", f"{name} is held by {document} and reserved for {holder!r}")
            self._left -= 1

        self.session.door.ask(0, request, done)

    def _claim_free(self, name: str) -> None:
        collection = self._collection()
        assert collection is not None
        planned = operations.put(collection, f"last-{name}", render({"name": name}))
        assert isinstance(planned, Planned), planned

        def done(end: End) -> None:
            if end.status == FAIL and "has a value" in end.detail:
                self._problem("stuck", f"{name}, which nobody holds, is refused: {end.detail}")
            elif end.status != OK:
                self.session.cluster.scheduler.after(SECOND, self._claim_free, name)
                return
            self._left -= 1

        self.session.door.ask(0, planned.request, done)

    def _check_built(self, tries: int) -> None:
        index = self._index("number", 0)
        request = None if index is None else note_request(index, Level.SERIAL)

        def done(end: End) -> None:
            note = note_in(end.result[-1]) if end.status == OK else None
            if note is None or (note.state == "building" and tries < 60):
                self.session.cluster.scheduler.after(SECOND, self._check_built, tries + 1)
                return
            if note.state != BUILT:
                self._problem("not_built", f"the second index is {note}")
            self._left -= 1

        if request is None:
            self._problem("not_built", "the second index was never made")
            self._left -= 1
            return
        self.session.door.ask(0, request, done)

    def finished(self) -> bool:
        """All of it is there."""
        return self._left == 0

    def _problem(self, name: str, text: str) -> None:
        self.found.append(Problem(name, text))

    # --- the verdict

    def problems(self) -> list[Problem]:
        """Names that two held, acknowledged writes that are gone, refused ones that are there."""
        history = self.session.history.operations
        failed = {
            operation.value: True for operation in history if operation.status == FAIL and operation.value
        }
        phantoms = [
            Problem("phantom", f"{held} was refused and seen by {seen[0]}")
            for held, seen in self.seen.items()
            if held in failed
        ]
        return self.found + two_holders(self.seen) + phantoms + _lost(history, self.finals)


def _held(collection: Collection | None, document: str, rows: RowsRead) -> Held | None:
    assert collection is not None
    found = operations.found(collection, rows)
    value: dict[str, Any] = {} if found is None else found.value
    return (document, value["name"], value["number"]) if "name" in value else None


def two_holders(seen: dict[Held, list[Operation]]) -> list[Problem]:
    """Pairs of documents that certainly held one name at one time."""
    spans: dict[str, list[tuple[int, int, Held]]] = {}
    for held, sightings in seen.items():
        first = min(operation.completed for operation in sightings)
        last = max(operation.invoked for operation in sightings)
        if first < last:
            spans.setdefault(held[1], []).append((first, last, held))
    problems = []
    for name, found in sorted(spans.items()):
        found.sort()
        for at, (_, last, held) in enumerate(found):
            for begin, _, other in found[at + 1 :]:
                if begin < last and other[0] != held[0]:
                    problems.append(Problem("two_hold", f"{name} was held by {held} and {other} at once"))
    return problems


def _lost(history: list[Operation], finals: dict[str, Held | None]) -> list[Problem]:
    """What a document shows at the end must not be older than a change that was acknowledged after it."""
    problems = []
    for document, held in sorted(finals.items()):
        changes = [op for op in history if op.key == document and op.kind in CHANGES and op.status != FAIL]
        ends = [op.completed for op in changes if op.value == held]
        shown = max(ends, default=0 if held is None else NEVER)
        later = [op for op in changes if op.status == OK and op.invoked > shown]
        if later:
            problems.append(Problem("lost", f"{document} shows {held}, and after that came {later[-1]}"))
    return problems
