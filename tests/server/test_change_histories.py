"""The change stream against what is written: random histories of documents and of keys, after which a stream
from where they began tells each write once, in the order of its key, with its images; and from any of its
events on exactly the rest, at any peer.

`CHANGES_SEED=n CHANGES_HISTORIES=m` draws others, and more. A history that fails is made as short as it gets.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from sim.options import ClockOptions
from tests.models.document_collection import Collection, known
from tests.models.documents import MISSING, Refused
from tests.query.document_oracle import canonical, meets
from tests.server.document_histories import document, marks_of, operators, single, wanted
from tests.server.simulated import SECOND, Peers
from tests.server.test_document_histories import KINDS, escaped
from tests.shrinking import shortest

SEED = int(os.environ.get("CHANGES_SEED", "1"))
HISTORIES = int(os.environ.get("CHANGES_HISTORIES", "5"))
LENGTH = 20
TTL_S = 5
UNIQUE = {"n": {"paths": {"n": 1}, "unique": True}}
TABLES = ["docs.free", "docs.held", "kv.plain", "kv.ordered"]
BODIES = [b"", b"x", "한".encode(), b"\xff\0", b'{"a": [1]}', b"{"]

Step = dict[str, Any]
Line = dict[str, Any]


class Wrong(Exception):
    """An answer that the model does not give."""


def expect(holds: Any, *said: Any) -> None:
    if not holds:
        raise Wrong(" ".join(map(str, said)))


class Told(NamedTuple):
    """What an event is to say."""

    operation: str
    key: str
    before: Any
    after: Any

    def form(self) -> Any:
        return (self.operation, self.key, known(self.before), known(self.after))

    @property
    def is_silent(self) -> bool:
        """It says that nothing became different: such events may be left out."""
        return bool(known(self.before) == known(self.after))


def told_of(line: Line) -> Told:
    images = [
        MISSING if line[name] is None and line["op"] != "read" else line[name] for name in ("before", "after")
    ]
    if line["op"] == "update":
        images = [None if image is MISSING else image for image in images]
    return Told(line["op"], line["key"], *images)


def history(random: Random, table: str) -> list[Step]:
    found: list[Step] = []
    while len(found) < LENGTH:
        kind = random.random()
        step: Step
        if kind < 0.1:
            step = {"kind": "wait", "s": random.choice([2, 2, 8])}
        elif table.startswith("kv."):
            step = {
                "kind": random.choice(["put", "put", "delete"]),
                "id": random.choice(["a", "b", "a/b", "한\0"]),
            }
            if step["kind"] == "put":
                step["body"] = random.choice(BODIES)
                step["type"] = random.choice(["text/plain", "application/json"])
            if random.random() < 0.2:
                step["none_match"] = "*"
            step["bulk"] = random.random() < 0.2 and "none_match" not in step
        elif kind < 0.2 and table == "docs.free":
            step = {"kind": "_delete", "filter": wanted(random, 0)}
            if random.random() < 0.7:
                step = {"kind": "_update", "filter": wanted(random, 0), "update": {"$inc": {"n": 1}}}
                while marks_of(step["update"]):
                    step["update"] = operators(random)
        else:
            step = single(random)
            if step["kind"] == "put" and not isinstance(step["body"], dict):
                step["body"] = document(random)
            step = {k: v for k, v in step.items() if k not in ("match", "none_match")} | {
                k: "*" for k in ("match", "none_match") if k in step
            }
        if step["kind"] == "put":
            step["ttl"] = random.choice([0, 0, 0, TTL_S])
        found.append({**step, "peer": random.randrange(3)})
    return found


class Run:
    """One history."""

    def __init__(self, peers: Peers, table: str, random: Random) -> None:
        self.peers = peers
        self.table = table
        self.random = random
        family, _, name = table.partition(".")
        self.is_docs = family == "docs"
        self.path = f"/v1/{family}/{name}"
        self.model = Collection(UNIQUE if table == "docs.held" else {})
        self.dies: dict[str, int] = {}
        self.expected: list[Told] = []
        self.said: list[str] = []
        self.clear()
        peers.cluster.run_for(2 * (TTL_S + 3) * SECOND)
        self.begin = self.lines(0, "now")[-1]["cursor"]

    def clear(self) -> None:
        if self.is_docs:
            self.send(0, "POST", "/_delete", b'{"filter": {}}', "application/json")
            return
        for line in self.peers.ask(0, "GET", self.path).lines()[:-1]:
            self.send(0, "DELETE", "/" + escaped(line["key"]))

    def send(
        self, peer: int, method: str, target: str, body: bytes | None = None, kind: str = "", **more: str
    ) -> Any:
        headers = {name.replace("_", "-"): text for name, text in more.items()} | (
            {"Content-Type": kind} if kind else {}
        )
        reply = self.peers.ask(peer, method, self.path + target, body, headers)
        self.said.append(
            f"n{peer + 1}: {method} {target} {more or ''} {body!r} -> {reply.status} {reply.body[:200]!r}"
        )
        expect(not self.peers.bugs, "a bug", self.peers.bugs)
        return reply

    def lines(self, peer: int, start: str, query: str = "") -> list[Line]:
        found = self.peers.lines(peer, f"/v1/changes/{self.table}?from={start}{query}")
        expect(not self.peers.bugs, "a bug", self.peers.bugs)
        return found

    def events(self, peer: int, start: str, query: str = "") -> list[Line]:
        return [line for line in self.lines(peer, start, query) if line["type"] == "event"]

    # --- writes

    def step(self, step: Step) -> None:
        cluster = self.peers.cluster
        if step["kind"] == "wait":
            self.said.append(f"-- {step['s']} seconds later")
            cluster.run_for(step["s"] * SECOND)
        while any(abs(dies - cluster.now_us) < SECOND for dies in self.dies.values()):
            cluster.run_for(SECOND)
        self.expire()
        if step["kind"] == "wait":
            return
        if step["kind"].startswith("_"):
            self.many(step)
        else:
            self.one(step)

    def expire(self) -> None:
        """What ran out, by now."""
        for one, dies in sorted(self.dies.items()):
            if dies <= self.peers.cluster.now_us:
                del self.dies[one]
                self.changed(one, MISSING, "expire")

    def changed(self, one: str, after: Any, operation: str = "") -> None:
        before = self.model.documents.get(one, MISSING)
        self.model.put(one, after)
        if not operation:
            operation = "delete" if after is MISSING else "insert" if before is MISSING else "update"
        if after is MISSING:
            self.dies.pop(one, None)
        self.expected.append(Told(operation, one, before, after))

    def one(self, step: Step) -> None:
        one, kind = step["id"], step["kind"]
        is_put = kind == "put"
        method = {"put": "PUT", "delete": "DELETE"}.get(kind, "PATCH")
        more = {
            name: "*" for key, name in (("match", "If_Match"), ("none_match", "If_None_Match")) if key in step
        }
        holds = self.model.condition_holds(step)
        body, media = None, ""
        if "body" in step:
            body = json.dumps(step["body"]).encode() if self.is_docs else step["body"]
            media = KINDS.get(kind, "application/json") if self.is_docs else step["type"]
        if step.get("bulk"):
            line = {"op": kind, "key": one}
            if body is not None:
                line |= {"base64": base64.b64encode(body).decode(), "content_type": media, "ttl": step["ttl"]}
            reply = self.send(step["peer"], "POST", "/_bulk", json.dumps(line).encode())
        else:
            target = "/" + escaped(one) + (f"?ttl={step['ttl']}" if is_put and step["ttl"] else "")
            reply = self.send(step["peer"], method, target, body, media, **more)
        after: Any = MISSING
        try:
            after = self.model.after(one, step) if self.is_docs else self.value(step)
        except Refused:
            holds = False
        expect(holds == (reply.status < 300), "expected success" if holds else "expected failure")
        if not holds:
            return
        self.changed(one, after)
        if is_put:
            self.dies.pop(one, None)
            if step["ttl"]:
                self.dies[one] = self.peers.cluster.now_us + step["ttl"] * SECOND

    def value(self, step: Step) -> Any:
        """What is shown of a value."""
        if step["kind"] == "delete":
            return MISSING
        shown: Line = {"content_type": step["type"]}
        if step["type"] == "application/json":
            try:
                return {"json": json.loads(step["body"]), **shown}
            except ValueError:
                pass
        try:
            return {"value": step["body"].decode(), **shown}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(step["body"]).decode(), **shown}

    def many(self, step: Step) -> None:
        chosen = self.model.having(step["filter"])
        made: dict[str, Any] = {}
        for one in chosen:
            if step["kind"] == "_delete":
                made[one] = MISSING
                continue
            try:
                made[one] = self.model.after(one, {"id": one, "kind": "update", "body": step["update"]})
            except Refused:
                return  # how far it gets is open
        body = {name: step[name] for name in ("filter", "update") if name in step}
        self.send(step["peer"], "POST", "/" + step["kind"], json.dumps(body).encode(), "application/json")
        for one, after in made.items():
            self.changed(one, after)

    # --- what was told

    def compare(self) -> None:
        self.peers.cluster.run_for((TTL_S + 4) * SECOND)
        self.expire()
        lines = self.lines(self.random.randrange(3), self.begin)
        expect({line["type"] for line in lines} <= {"event", "heartbeat"}, "notices", lines)
        events = [line for line in lines if line["type"] == "event"]
        ids = [line["id"] for line in events]
        expect(len(set(ids)) == len(ids), "twice", ids)
        keys = {told.key for told in self.expected} | {line["key"] for line in events}
        for key in sorted(keys):
            found = [told_of(line) for line in events if line["key"] == key]
            wanted = [told for told in self.expected if told.key == key]
            loud = [[told.form() for told in each if not told.is_silent] for each in (found, wanted)]
            expect(loud[0] == loud[1], "of", key, "found", found, "expected", wanted)
            expect(len(found) <= len(wanted), "of", key, "found", found, "expected", wanted)
        self.resumed(events)
        self.narrowed(events)
        self.snapshot()

    def resumed(self, events: list[Line]) -> None:
        """From each event on comes the rest."""
        for _ in range(2):
            at = self.random.randint(0, len(events))
            cursors = ",".join([self.begin, *(line["cursor"] for line in events[:at])])
            rest = self.events(self.random.randrange(3), cursors)
            found, expected = [line["id"] for line in rest], [line["id"] for line in events[at:]]
            expect(sorted(found) == sorted(expected), "after", at, "found", found, "expected", expected)

    def narrowed(self, events: list[Line]) -> None:
        """Parameters leave out what they say."""

        def check(query: str, those: list[Line]) -> None:
            found = [line["id"] for line in self.events(self.random.randrange(3), self.begin, query)]
            expected = [line["id"] for line in those]
            expect(sorted(found) == sorted(expected), query, "found", found, "expected", expected)

        key = self.random.choice(["a", "b", "a/b"])
        check(f"&key={quote(key, safe='')}", [line for line in events if line["key"] == key])
        check("&prefix=a", [line for line in events if line["key"].startswith("a")])
        operations = self.random.sample(["insert", "update", "delete", "expire"], 2)
        check("&op=" + ",".join(operations), [line for line in events if line["op"] in operations])
        if events:
            time = self.random.choice(events)["time"]
            since = [line["id"] for line in self.events(self.random.randrange(3), quote(time, safe=""))]
            later = [line["id"] for line in events if line["time"] >= time]
            expect(sorted(since) == sorted(later), "since", time, "found", since, "expected", later)
        parts = [[line["id"] for line in self.events(n, self.begin, f"&part={n + 1}/3")] for n in range(3)]
        expect(
            sorted(one for part in parts for one in part) == sorted(line["id"] for line in events),
            "parts",
            parts,
        )
        if self.is_docs:
            asked = {"n": {"$gte": 1}} if self.random.random() < 0.5 else wanted(self.random)
            those = []
            for line in events:
                image = line["after"] if line["after"] is not None else line["before"]
                shown = {**image, "_id": line["key"]} if isinstance(image, dict) else image
                if shown is not None and meets(shown, asked):
                    those.append(line)
            check("&filter=" + quote(json.dumps(asked), safe=""), those)

    def snapshot(self) -> None:
        events = self.events(self.random.randrange(3), "snapshot")
        found = {line["key"]: canonical(line["after"]) for line in events}
        expect({line["op"] for line in events} <= {"read"}, "of a snapshot", events)
        expected = {one: canonical(document) for one, document in self.model.documents.items()}
        expect(found == expected and len(events) == len(found), "snapshot", events, "expected", expected)


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    with Peers(3, clock=ClockOptions(skew_us=0, drift_ppm=0)) as peers:
        for table in TABLES:
            family, _, name = table.partition(".")
            body = {"changes": "new_and_old", **({"ordered": True} if name == "ordered" else {})}
            kind = "collections" if family == "docs" else "buckets"
            assert peers.ask(0, "PUT", f"/v1/{kind}/{name}", body).status == 201
            peers.settle()
        target = "/v1/docs/held/_indexes/n"
        assert peers.ask(0, "PUT", target, UNIQUE["n"]).status == 201
        while not all(peers.ask(n, "GET", target).json()["built"] for n in range(3)):
            peers.cluster.run_for(SECOND)
        yield peers


def wrong(peers: Peers, table: str, steps: list[Step]) -> str | None:
    """What goes wrong in a history first, with all that led there."""
    run = Run(peers, table, Random("asked"))
    try:
        for step in steps:
            run.step(step)
        run.compare()
    except Wrong as said:
        return "\n".join([*run.said, str(said)])
    return None


def test_histories(peers: Peers) -> None:
    for number in range(HISTORIES):
        random = Random(f"{SEED}:{number}")
        table = random.choice(TABLES)
        steps = history(random, table)
        said = wrong(peers, table, steps)
        if said is None:
            continue
        bugs, peers.bugs = peers.bugs, []
        steps = shortest(steps, partial(wrong, peers, table))
        said = wrong(peers, table, steps) or said
        peers.bugs = bugs
        pytest.fail(f"history {number} of {table}\n{said}")


# --- what it found


def test_a_filter_may_name_the_id(peers: Peers) -> None:
    begin = peers.lines(0, "/v1/changes/docs.free?from=now")[-1]["cursor"]
    for name in ("one", "two"):
        assert peers.ask(0, "PUT", f"/v1/docs/free/{name}", {"n": 1}).status == 204
    asked = quote(json.dumps({"_id": "two"}), safe="")
    lines = peers.lines(1, f"/v1/changes/docs.free?from={begin}&filter={asked}")
    assert [line["key"] for line in lines if line["type"] == "event"] == ["two"]
