"""Documents over REST against a model of plain dictionaries (tests/models/documents.py): random histories of
writes and questions through several peers, with and without indexes, and after each write all that is there.

`DOCUMENTS_SEED=n DOCUMENTS_HISTORIES=m` draws others, and more. A history that fails is made as short as it
gets; its requests are printed as they were sent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from random import Random
from typing import Any
from urllib.parse import quote

import pytest

from server.rest import docs_query
from tests.models.documents import MISSING, Refused, json_patched, merged, updated
from tests.query.document_oracle import NOTHING, canonical, meets, reached, sorted_by
from tests.server.document_histories import IDS, Step, history
from tests.server.rest_client import Reply
from tests.server.simulated import Peers

SEED = int(os.environ.get("DOCUMENTS_SEED", "1"))
HISTORIES = int(os.environ.get("DOCUMENTS_HISTORIES", "16"))
LENGTH = 24
KINDS = {
    "merge": "application/merge-patch+json",
    "patch": "application/json-patch+json",
    "update": "application/vnd.sullae.update+json",
}
INDEXES: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "single": {"n": {"paths": {"n": 1}}, "a": {"paths": {"a": -1}}, "ab": {"paths": {"a.b": 1}}},
    "compound": {
        "na": {"paths": {"n": 1, "a": -1}},
        "bn": {"paths": {"b": -1, "n": -1}},
        "part": {"paths": {"c": 1}, "filter": {"n": {"$gt": 0}}},
        "there": {"paths": {"a": 1, "b.a": 1}, "filter": {"b": {"$exists": True}}},
    },
    "unique": {"n": {"paths": {"n": 1}, "unique": True}, "a": {"paths": {"a": 1}}},
    "pair": {
        "ac": {"paths": {"a": 1, "c": -1}, "unique": True},
        "b": {"paths": {"b": 1}, "unique": True, "filter": {"n": {"$gte": 1}}},
    },
}


def parsed(text: bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def escaped(one: str) -> str:
    """An id in a path; names that begin with _ are operations unless they are escaped."""
    return quote(one, safe="").replace("_", "%5F")


class Wrong(Exception):
    """An answer that the model does not give."""


def expect(holds: Any, *said: Any) -> None:
    if not holds:
        raise Wrong(" ".join(map(str, said)))


# --- unique indexes


def unique_values(index: dict[str, Any], document: Any) -> set[Any]:
    if document is MISSING or not meets(document, index.get("filter", {})):
        return set()
    each: list[list[Any]] = []
    for path in index["paths"]:
        found = []
        for item in reached(document, path.split(".")):
            found += item if isinstance(item, list) else [item]
        kinds = [canonical(item) for item in found]
        if any(kind[0] == "object" for kind in kinds):
            raise Refused("bad-unique-value")
        each.append([kind for kind in kinds if kind[0] not in ("null", "array")])
    return set(product(*each))


class Collection:
    """What a collection holds."""

    def __init__(self, indexes: dict[str, dict[str, Any]]) -> None:
        self.unique = [index for index in indexes.values() if index.get("unique")]
        self.documents: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self.old: dict[str, str] = {}

    def tag(self, one: str, how: str) -> str:
        """An If-Match that is so."""
        current = self.tags.get(one, '"0-0"')
        return {
            "current": current,
            "stale": self.old.get(one, '"1-1"'),
            "*": "*",
            "weak": "W/" + current,
            "among": f'W/"9-9", {current} ,"1-1"',
            "other": '"1-1"',
        }[how]

    def condition_holds(self, step: Step) -> bool:
        one = step["id"]
        is_there = one in self.documents
        if "match" in step and not (is_there and step["match"] in ("current", "*", "among")):
            return False
        return not (is_there and step.get("none_match") in ("current", "*", "weak", "among"))

    def after(self, one: str, step: Step) -> Any:
        """What a write of one document makes of it; raises Refused."""
        before = self.documents.get(one, MISSING)
        kind = step["kind"]
        if kind in ("put", "delete"):
            made = step["body"] if kind == "put" else MISSING
        elif kind == "merge":
            made = merged(before, step["body"])
        elif kind == "patch":
            if before is MISSING:
                raise Refused("no-such-document")
            made = json_patched(before, step["body"])
        else:
            made = updated(before, step["body"], step.get("array_filters"))
        self.check_unique(one, made)
        return made

    def check_unique(self, one: str, made: Any) -> None:
        for index in self.unique:
            wanted = unique_values(index, made)
            for other, document in self.documents.items():
                if other != one and wanted & unique_values(index, document):
                    raise Refused("unique-violation")

    def put(self, one: str, document: Any) -> None:
        if document is MISSING:
            self.documents.pop(one, None)
        else:
            self.documents[one] = document

    def having(self, wanted: dict[str, Any]) -> list[str]:
        return [one for one in self.documents if meets(self.shown(one), wanted)]

    def shown(self, one: str) -> Any:
        document = self.documents[one]
        return {**document, "_id": one} if isinstance(document, dict) else document

    def rank(self, one: str, sort: dict[str, int]) -> list[Any]:
        return [
            Ranked(sorted_by(self.shown(one), path.split("."), way < 0), way) for path, way in sort.items()
        ]


class Ranked:
    """A value in an order of this direction."""

    def __init__(self, key: Any, way: int) -> None:
        self.key = key
        self.way = way

    def __lt__(self, other: Ranked) -> bool:
        return bool(self.key < other.key) if self.way > 0 else bool(self.key > other.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranked) and bool(self.key == other.key)

    __hash__ = None  # type: ignore[assignment]


def known(value: Any) -> Any:
    return MISSING if value is MISSING else canonical(value)


def same(found: Any, expected: Any) -> bool:
    return bool(canonical(found) == canonical(expected))


def change_of(step: Step) -> Step:
    """What `_update` or `_delete` does to each document, as a write of one."""
    if step["kind"] == "_delete":
        return {"kind": "delete"}
    update = step["update"]
    operators = isinstance(update, dict) and update and all(name.startswith("$") for name in update)
    kind = "patch" if isinstance(update, list) else "update" if operators else "merge"
    return {"kind": kind, "body": update, "array_filters": step.get("array_filters", [])}


def of_line(line: Step) -> Step:
    """A write as a line of a bulk, whose conditions are fewer."""
    names = ("match", "none_match")
    kept = {name: line[name] for name in names if line.get(name) in ("*", "other")}
    return {name: value for name, value in line.items() if name not in names} | kept


class Run:
    """One history."""

    def __init__(self, peers: Peers, name: str) -> None:
        self.peers = peers
        self.name = name
        self.path = f"/v1/docs/{name}"
        self.model = Collection(INDEXES[name])
        self.told: list[str] = []
        self.peer = 0
        self.asked("POST", "_delete", {"filter": {}})

    def send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        said = "" if body is None else f" {body.decode()}"
        self.told.append(f"n{self.peer + 1}: {method} {self.path}/{target} {headers or ''}{said}")
        reply = self.peers.ask(self.peer, method, f"{self.path}/{target}", body, headers)
        self.told.append(f"    {reply.status} {reply.headers.get('etag', '')} {reply.body.decode()[:500]}")
        expect(not self.peers.bugs, "a bug", self.peers.bugs)
        return reply

    def asked(self, method: str, target: str, body: Any) -> Reply:
        return self.send(method, target, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def step(self, step: Step) -> None:
        self.peer = step["peer"]
        kind = step["kind"]
        if kind == "_bulk":
            self.bulk(step)
        elif kind in ("_update", "_delete"):
            self.many(step)
        elif kind.startswith("_"):
            self.question(step)
            return
        else:
            self.single(step)
        self.compared()

    # --- one document

    def expected(self, step: Step) -> str:
        """Does it in the model; the problem that it ends with, or ""."""
        one = step["id"]
        if not self.model.condition_holds(step):
            return "precondition-failed"
        try:
            self.model.put(one, self.model.after(one, step))
        except Refused as refused:
            return str(refused)
        return ""

    def single(self, step: Step) -> None:
        one, kind = step["id"], step["kind"]
        headers = {}
        for name, header in (("match", "If-Match"), ("none_match", "If-None-Match")):
            if name in step:
                headers[header] = self.model.tag(one, step[name])
        headers["Content-Type"] = KINDS.get(kind, "application/json")
        method = {"put": "PUT", "delete": "DELETE"}.get(kind, "PATCH")
        target = escaped(one)
        returning = step["returning"] and method == "PATCH"
        if returning:
            target += "?return=document"
        before = self.model.documents.get(one, MISSING)
        expected = self.expected(step)
        body = json.dumps(step["body"]).encode() if "body" in step else None
        reply = self.send(method, target, body, headers)
        if expected:
            expect(reply.status >= 400 and reply.json()["type"] == expected, "expected", expected)
            return
        expect(reply.status == (200 if returning else 204), "expected success")
        after = self.model.documents.get(one, MISSING)
        if returning:
            found = parsed(reply.body)
            expect(same(found, None if after is MISSING else after), "expected", after)
        self.tagged(one, reply.headers.get("etag"), before)

    def tagged(self, one: str, told: str | None, before: Any) -> None:
        after = self.model.documents.get(one, MISSING)
        if after is MISSING or told is None:
            return
        there = self.send("GET", escaped(one), None, {}).headers.get("etag")
        expect(there == told, "told the tag", told, "found", there)

    def bulk(self, step: Step) -> None:
        bodies = {"put": "document", "merge": "merge", "patch": "patch", "update": "update"}
        lines, expected, before = [], [], dict(self.model.documents)
        for line in map(of_line, step["lines"]):
            kind = line["kind"]
            sent = {"op": kind if kind in ("put", "delete") else "patch", "id": line["id"]}
            sent |= {bodies[kind]: line["body"]} if "body" in line else {}
            sent |= {
                f"if_{k}": self.model.tag(line["id"], line[k]) for k in ("match", "none_match") if k in line
            }
            lines.append(sent)
            expected.append(self.expected(line))
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        reply = self.send("POST", "_bulk", body, {"Content-Type": "application/x-ndjson"})
        found = reply.lines()
        expect(len(found) == len(lines), "as many outcomes as lines")
        if self.model.unique:  # lines run side by side
            self.model.documents = before
            self.resync()
            return
        for line, told, problem in zip(lines, found, expected, strict=True):
            expect(told["id"] == line["id"], "the id of", line)
            expect(told["status"] >= 400 if problem else told["status"] == 204, "expected", problem, told)
            expect(not problem or told["type"] == problem, "expected", problem, told)

    # --- many

    def many(self, step: Step) -> None:
        model = self.model
        body = {
            k: step[k] for k in ("filter", "update", "array_filters", "multi", "sort", "return") if k in step
        }
        chosen = model.having(step["filter"])
        reply = self.asked("POST", step["kind"], body)
        if not step["multi"] and chosen:
            chosen = [self.first(step, chosen, reply)]
        before, problems, differ = dict(model.documents), set(), 0
        change = change_of(step)
        for one in chosen:
            try:
                made = model.after(one, change)
            except Refused as refused:
                problems.add(str(refused))
                continue
            differ += made is MISSING or not same(made, before[one])
            model.put(one, made)
        if model.unique and step["multi"]:
            model.documents = before
            self.resync()
        elif problems:
            self.broken_off(reply, problems, before)
        else:
            expect(reply.status == 200, "expected success")
            self.counted(step, reply, chosen, differ)
            if "return" in step:
                image = before if step["return"] == "before" else model.documents
                self.given_back(reply, chosen, image)

    def first(self, step: Step, chosen: list[str], reply: Reply) -> str:
        """The one that was changed: of those that are first the peer chooses."""
        ranks = {one: self.model.rank(one, step["sort"]) for one in chosen}
        firsts = [one for one in chosen if not any(rank < ranks[one] for rank in ranks.values())]
        told = parsed(reply.body)
        one = told["id"] if reply.status >= 400 else (told["document"] or {}).get("id")
        expect(one in firsts, "expected one of", firsts)
        return str(one)

    def broken_off(self, reply: Reply, problems: set[str], before: dict[str, Any]) -> None:
        """It ends where one cannot be done: of each other document it is open whether it was reached."""
        model = self.model
        expect(reply.status >= 400 and reply.json()["type"] in problems, "expected", problems)
        made, model.documents = model.documents, before
        self.resync()
        for one in before.keys() | model.documents.keys():
            possible = [known(each.get(one, MISSING)) for each in (before, made)]
            expect(
                known(model.documents.get(one, MISSING)) in possible, "expected", one, "as it was or became"
            )

    def counted(self, step: Step, reply: Reply, chosen: list[str], differ: int) -> None:
        told = parsed(reply.body)
        if step["kind"] == "_delete":
            expect(told["deleted"] == len(chosen), "expected to delete", chosen)
            return
        expect(told["matched"] == len(chosen), "expected to match", chosen)
        expect(differ <= told["modified"] <= len(chosen), "expected to modify", differ)

    def given_back(self, reply: Reply, chosen: list[str], images: dict[str, Any]) -> None:
        told = parsed(reply.body)["document"]
        expect(bool(told) == bool(chosen), "expected one of", chosen)
        for one in chosen:
            expect(told["id"] == one and same(told["document"], images[one]), "expected", one, images[one])

    # --- what is there

    def resync(self) -> None:
        """Where the order of things is not told: what is there is no worse than the rules."""
        self.model.documents = self.every(0)
        for one, document in self.model.documents.items():
            try:
                self.model.check_unique(one, document)
            except Refused as refused:
                expect(False, "now", refused, one)

    def every(self, peer: int) -> dict[str, Any]:
        self.peer = peer
        reply = self.asked("POST", "_find", {"limit": 100})
        expect(reply.status == 200, "expected success")
        return {one["id"]: one["document"] for one in parsed(reply.body)["documents"]}

    def compared(self) -> None:
        length = len(self.told)
        for peer in range(3):
            found = self.every(peer)
            expect(found.keys() == self.model.documents.keys(), "expected", self.model.documents)
            for one, document in self.model.documents.items():
                expect(same(found[one], document), "expected", one, document)
        for one in IDS:
            self.peer = (self.peer + 1) % 3
            reply = self.send("GET", escaped(one), None, {})
            if one not in self.model.documents:
                expect(reply.status == 404, "expected nothing")
                self.model.tags.pop(one, None)
                continue
            document = self.model.documents[one]
            expect(reply.status == 200 and same(parsed(reply.body), document), "expected", document)
            tag = reply.headers["etag"]
            before = self.model.tags.get(one)
            if before is not None and before != tag:
                self.model.old[one] = before
            self.model.tags[one] = tag
        del self.told[length:]

    def question(self, step: Step) -> None:
        kind, model = step["kind"], self.model
        having = model.having(step["filter"])
        body: dict[str, Any] = {"filter": step["filter"]}
        if kind == "_find":
            self.find(step, having)
        elif kind == "_count":
            reply = self.asked("POST", kind, body)
            expect(reply.status == 200 and reply.json()["count"] == len(having), "expected", having)
        elif kind == "_distinct":
            reply = self.asked("POST", kind, {**body, "path": step["path"]})
            expect(reply.status == 200, "expected success")
            self.distinct(parsed(reply.body)["values"], having, step["path"])
        else:
            group = {"_id": None, "n": {"$sum": 1}, "ids": {"$addToSet": "$_id"}}
            reply = self.asked("POST", kind, {"pipeline": [{"$match": step["filter"]}, {"$group": group}]})
            expect(reply.status == 200, "expected success")
            found = [(one["n"], sorted(one["ids"])) for one in reply.json()["documents"]]
            objects = sorted(one for one in having if isinstance(model.documents[one], dict))
            expect(found == ([(len(having), objects)] if having else []), "expected", objects)

    def distinct(self, found: list[Any], having: list[str], path: str) -> None:
        values = []
        for one in having:
            for item in reached(self.model.shown(one), path.split(".")):
                values += item if isinstance(item, list) else [item]
        told = [canonical(item) for item in found]
        expected = {canonical(item) for item in values if item is not NOTHING}
        expect(len(told) == len(set(told)) and set(told) == expected, "expected", expected)

    def find(self, step: Step, having: list[str]) -> None:
        body: dict[str, Any] = {k: step[k] for k in ("filter", "sort") if step.get(k)}
        reply = self.asked("POST", "_find", {**body, "limit": 100})
        expect(reply.status == 200, "expected success")
        whole = parsed(reply.body)["documents"]
        ids = [one["id"] for one in whole]
        expect(sorted(ids) == sorted(having), "expected", having)
        for one in whole:
            expect(same(one["document"], self.model.documents[one["id"]]), "expected", one["id"])
            expect(one["etag"] == self.model.tags.get(one["id"]), "the tag", one)
        ranks = [self.model.rank(one, step["sort"]) for one in ids]
        expect(all(not ranks[n + 1] < ranks[n] for n in range(len(ranks) - 1)), "not in order", ids)
        found: list[Any] = []
        more: dict[str, Any] = {"skip": step["skip"]}
        for _ in range(50):
            self.peer = (self.peer + 1) % 3
            reply = self.asked("POST", "_find", {**body, "limit": step["limit"], **more})
            expect(reply.status == 200, "expected success")
            page = parsed(reply.body)
            found += page["documents"]
            expect(len(page["documents"]) <= step["limit"], "too many")
            more = {"cursor": page["cursor"]}
            if page["cursor"] is None:
                break
        expect(found == whole[step["skip"] :], "pages are not the whole")


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    with Peers(3) as peers:
        for name, indexes in INDEXES.items():
            assert peers.ask(0, "PUT", f"/v1/collections/{name}", {}).status == 201
            for index, spec in indexes.items():
                target = f"/v1/docs/{name}/_indexes/{index}"
                assert peers.ask(0, "PUT", target, spec).status == 201
                for _ in range(200):
                    if all(peers.ask(n, "GET", target).json()["built"] for n in range(3)):
                        break
                    peers.cluster.run_for(200_000)
                else:
                    raise AssertionError(f"{target} is not built")
        yield peers


def wrong(peers: Peers, name: str, steps: list[Step]) -> str | None:
    """What goes wrong in a history first, with all that led there."""
    run = Run(peers, name)
    try:
        for step in steps:
            run.step(step)
    except Wrong as said:
        return "\n".join([*run.told, str(said)])
    return None


def shortest(peers: Peers, name: str, steps: list[Step]) -> list[Step]:
    at = 0
    while at < len(steps):
        shorter = steps[:at] + steps[at + 1 :]
        if wrong(peers, name, shorter):
            steps = shorter
        else:
            at += 1
    return steps


def test_histories(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs_query, "PAGE", 3)
    for number in range(HISTORIES):
        random = Random(f"{SEED}:{number}")
        name = random.choice(list(INDEXES))
        steps = history(random, LENGTH)
        said = wrong(peers, name, steps)
        if said:
            bugs, peers.bugs = peers.bugs, []
            shorter = shortest(peers, name, steps)
            again = wrong(peers, name, shorter)
            peers.bugs = bugs
            pytest.fail(f"history {number} of {name}\n{again or said}")
