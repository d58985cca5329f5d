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
from functools import partial
from itertools import count
from random import Random
from typing import Any
from urllib.parse import quote

import pytest

from server.rest import docs_query
from sim.options import ClockOptions
from tests.models.document_collection import Collection, known, same
from tests.models.documents import MISSING, Refused, upserted
from tests.query.document_oracle import NOTHING, canonical, reached
from tests.server.document_histories import IDS, Step, history
from tests.server.rest_client import Reply
from tests.server.simulated import SECOND, Peers
from tests.shrinking import shortest

SEED = int(os.environ.get("DOCUMENTS_SEED", "1"))
HISTORIES = int(os.environ.get("DOCUMENTS_HISTORIES", "16"))
LENGTH = 24
ONCE = count(1)
KINDS = {
    "merge": "application/merge-patch+json",
    "patch": "application/json-patch+json",
    "update": "application/vnd.sullae.update+json",
}
INDEXES: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "dying": {"n": {"paths": {"n": 1}}, "b": {"paths": {"b": -1, "a": 1}}},
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


DEFAULT_TTL_S = {"dying": 7}


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


def change_of(step: Step) -> Step:
    """What `_update` or `_delete` does to each document, as a write of one."""
    if step["kind"] == "_delete":
        return {"kind": "delete"}
    update = step["update"]
    operators = isinstance(update, dict) and update and all(name.startswith("$") for name in update)
    if isinstance(update, list) and "op" not in update[0]:
        return {"kind": "pipeline", "body": update}
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
        self.default_ttl_s = DEFAULT_TTL_S.get(name, 0)
        self.told: list[str] = []
        self.peer = 0
        self.down: int | None = None
        self.asked("POST", "_delete", {"filter": {}})

    def send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        self.peer = self.alive(self.peer)
        said = "" if body is None else f" {body.decode()}"
        path = self.path + ("" if target.startswith("?") else "/") + target
        self.told.append(f"n{self.peer + 1}: {method} {path} {headers or ''}{said}")
        reply = self.peers.ask(self.peer, method, path, body, headers)
        self.told.append(f"    {reply.status} {reply.headers.get('etag', '')} {reply.body.decode()[:500]}")
        expect(not self.peers.bugs, "a bug", self.peers.bugs)
        return reply

    def asked(self, method: str, target: str, body: Any) -> Reply:
        return self.send(method, target, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def alive(self, peer: int) -> int:
        """This peer, or the next one that runs."""
        return peer if peer != self.down else (peer + 1) % 3

    def pass_ends(self) -> None:
        """Nothing is asked of what is just about to run out; forget what did."""
        cluster, dies = self.peers.cluster, self.model.dies
        while any(abs(dies[one] - cluster.now_us) < SECOND for one in dies):
            cluster.run_for(SECOND)
        for one in [one for one in dies if dies[one] <= cluster.now_us]:
            self.model.put(one, MISSING)

    def finish(self) -> None:
        if self.down is not None:
            self.peers.revive(self.down)
            self.down = None

    def step(self, step: Step) -> None:
        kind = step["kind"]
        if kind == "wait":
            self.told.append(f"-- {step['s']} seconds later")
            self.peers.cluster.run_for(step["s"] * SECOND)
        self.pass_ends()
        if kind == "wait":
            self.compared()
            return
        if kind in ("kill", "revive"):
            self.finish()
            self.told.append(f"{kind} n{step['peer'] + 1}")
            if kind == "kill":
                self.down = step["peer"]
                self.peers.kill(self.down)
                self.peers.cluster.run_for(20 * SECOND)
            self.pass_ends()
            return
        self.peer = step["peer"]
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
        self.lives(step)
        return ""

    def single(self, step: Step) -> None:
        one, kind = step["id"], step["kind"]
        headers = {}
        for name, header in (("match", "If-Match"), ("none_match", "If-None-Match")):
            if name in step:
                headers[header] = self.model.tag(one, step[name])
        headers["Content-Type"] = KINDS.get(kind, "application/json")
        method = {"put": "PUT", "delete": "DELETE"}.get(kind, "PATCH")
        target = escaped(one) + f"?ttl={step.get('ttl')}" * bool(step.get("ttl"))
        returning = step["returning"] and method == "PATCH"
        if returning:
            target += "?return=document"
        before = self.model.documents.get(one, MISSING)
        expected = self.expected(step)
        body = json.dumps(step["body"]).encode() if "body" in step else None
        if step["once"]:
            headers["Idempotency-Key"] = f'"{next(ONCE)}"'
        reply = self.send(method, target, body, headers)
        if step["once"] and not expected:
            self.peer = (self.peer + 1) % 3
            again = self.send(method, target, body, headers)
            told = [(one.status, one.headers.get("etag"), one.body) for one in (reply, again)]
            expect(told[0] == told[1], "expected the same again")
        if expected:
            expect(reply.status >= 400 and reply.json()["type"] == expected, "expected", expected)
            return
        expect(reply.status == (200 if returning else 204), "expected success")
        after = self.model.documents.get(one, MISSING)
        if returning:
            found = parsed(reply.body)
            expect(same(found, None if after is MISSING else after), "expected", after)
        self.tagged(one, reply.headers.get("etag"), before)

    def lives(self, step: Step) -> None:
        """How long a document does that was written; an edit renews it where the collection says how long."""
        one, now_us = step["id"], self.peers.cluster.now_us
        ttl_s = step.get("ttl") or self.default_ttl_s
        if step["kind"] == "put":
            self.model.dies.pop(one, None)
        if (step["kind"] == "put" or self.default_ttl_s) and ttl_s and one in self.model.documents:
            self.model.dies[one] = now_us + ttl_s * SECOND

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
            if self.model.unique and line.get("ttl"):
                line["ttl"] = 0
            kind = line["kind"]
            sent = {"op": kind if kind in ("put", "delete") else "patch", "id": line["id"]}
            sent |= {bodies[kind]: line["body"]} if "body" in line else {}
            sent |= {"ttl": line["ttl"]} if line.get("ttl") else {}
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
        names = ("filter", "update", "array_filters", "multi", "sort", "return", "upsert", "limit")
        body = {k: step[k] for k in names if k in step}
        chosen = model.having(step["filter"])
        if step.get("upsert") and not chosen:
            self.upsert(step, body)
            return
        if "limit" in step:
            self.limited(step, body, chosen)
            return
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
            self.lives({**change, "id": one})
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

    def limited(self, step: Step, body: dict[str, Any], chosen: list[str]) -> None:
        """So many at a time, on by the cursor: in the end all are done, unless one cannot be."""
        before, model, count = dict(self.model.documents), self.model, 0
        is_open = bool(model.unique)
        more: dict[str, Any] = {}
        for one in chosen:
            try:
                model.put(one, model.after(one, change_of(step)))
                self.lives({"kind": "edit", "id": one})
            except Refused:
                is_open = True
        while True:
            reply = self.asked("POST", step["kind"], {**body, **more})
            expect(reply.status == 200 or is_open, "expected success")
            if reply.status != 200:
                break
            told = reply.json()
            done = told["matched" if step["kind"] == "_update" else "deleted"]
            expect(done <= step["limit"], "too many")
            count += done
            more = {"cursor": told["cursor"]}
            if told["cursor"] is None:
                expect(is_open or count == len(chosen), "expected", chosen)
                break
        if is_open:
            model.documents = before
            self.resync()

    def upsert(self, step: Step, body: dict[str, Any]) -> None:
        change, problem = change_of(step), ""
        one: str | None = None
        made: Any = MISSING
        try:
            one, made = upserted(step["filter"], change)
            if one in self.model.documents:
                raise Refused("precondition-failed")
            self.model.check_unique("", made)
        except Refused as refused:
            problem = str(refused)
        reply = self.asked("POST", step["kind"], body)
        if problem:
            expect(reply.status >= 400 and reply.json()["type"] == problem, "expected", problem)
            return
        expect(reply.status == 200, "expected success")
        told = parsed(reply.body)
        expect((told["matched"], told["modified"], told["cursor"]) == (0, 0, None), "expected none")
        expect(one is None or told["upserted"] == one, "expected", one)
        self.model.put(told["upserted"], made)
        self.lives({"kind": "edit", "id": told["upserted"]})
        if "return" in step:
            image = told["document"]
            expect((image is None) == (step["return"] == "before"), "expected an image")
            expect(image is None or same(image["document"], made), "expected", made)

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
        for one in [*IDS, *(one for one in self.model.documents if one not in IDS)]:
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
        elif kind == "_list":
            self.listing(step["limit"])
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

    def listing(self, limit: int) -> None:
        found: dict[str, Any] = {}
        after: str | None = ""
        while after is not None:
            target = f"?limit={limit}" + f"&after={after}" * bool(after)
            reply = self.send("GET", target, None, {})
            expect(reply.status == 200, "expected success")
            *lines, last = [parsed(line) for line in reply.body.splitlines()]
            expect(len(lines) <= limit and not any(line["id"] in found for line in lines), "too many")
            found |= {line["id"]: (line["etag"], canonical(line["document"])) for line in lines}
            after = last["cursor"]
            self.peer = (self.peer + 1) % 3
        documents, tags = self.model.documents, self.model.tags
        expected = {one: (tags.get(one), canonical(document)) for one, document in documents.items()}
        expect(found == expected, "expected", expected)

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
    with Peers(3, clock=ClockOptions(skew_us=0, drift_ppm=0)) as peers:
        for name, indexes in INDEXES.items():
            body = {"default_ttl_s": DEFAULT_TTL_S.get(name, 0)}
            assert peers.ask(0, "PUT", f"/v1/collections/{name}", body).status == 201
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
    finally:
        run.finish()
    return None


def test_histories(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs_query, "PAGE", 3)
    for number in range(HISTORIES):
        random = Random(f"{SEED}:{number}")
        name = random.choice(list(INDEXES))
        steps = history(random, LENGTH)
        said = wrong(peers, name, steps)
        if said:
            bugs, peers.bugs = peers.bugs, []
            shorter = shortest(steps, partial(wrong, peers, name))
            again = wrong(peers, name, shorter)
            peers.bugs = bugs
            pytest.fail(f"history {number} of {name}\n{again or said}")
