"""Keys over REST against a model of a bucket: random histories through several peers, odd keys and conditions
among them, and after each write what is there.

`KEYS_SEED=n KEYS_HISTORIES=m` draws others, and more. A history that fails is made as short as it gets; its
requests are printed as they were sent.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from core import limits
from sim.options import ClockOptions
from tests.server.rest_client import Reply
from tests.server.simulated import SECOND, Peers

SEED = int(os.environ.get("KEYS_SEED", "1"))
HISTORIES = int(os.environ.get("KEYS_HISTORIES", "6"))
LENGTH = 30
BUCKETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ordered": {"ordered": True},
    "dying": {"default_ttl_s": 7},
}
FEW = ["a", "b", "a/b", "ab", "..", "한/글", "_bulk"]
ODD = [
    *(".", "a/", "/", "//", "a/../b", "./a", "%", "%2F", "%00", "😀", "\0", "a\0b", "\0\0", "a\xff", " "),
    *(
        "+",
        "a b",
        "?",
        "#",
        "&=",
        '"',
        "\\",
        "a\nb",
        "\r\n",
        "\x7f",
        "\u2028",
        "A",
        "a" * limits.KEY_BYTES_MAX,
    ),
    *("_search", "..%2f", "\ufeff", "\uffff", "\U0010ffff", "é", "e\u0301", "*", "~", "{}", "a;b", "@", ":"),
]
BAD = ["", "a" * (limits.KEY_BYTES_MAX + 1), "한" * (limits.KEY_BYTES_MAX // 3 + 1)]
BODIES = [b"", b"x", b"yy", "한".encode(), bytes(range(256)), b"{}", b"z" * 5000]
KINDS = ["", "text/plain", "application/json", "text/html; charset=utf-8", "x"]
CONDITIONS = ["current", "stale", "*", "weak", "among", "other"]
PREFIXES = ["", "a", "a/", "한", "_", ".", "\0", "/", "b", "😀"]
TTL_S = 5
"""Between the steps of time, which are even; a bucket's own is odd, too."""

Step = dict[str, Any]


class Held(NamedTuple):
    """What a key holds."""

    body: bytes
    kind: str
    tag: str
    dies_us: int


class Wrong(Exception):
    """An answer that the model does not give."""


def expect(holds: Any, *said: Any) -> None:
    if not holds:
        raise Wrong(" ".join(map(str, said)))


def key(random: Random) -> str:
    return random.choice(FEW) if random.random() < 0.75 else random.choice(ODD)


def write(random: Random) -> Step:
    step: Step = {"kind": random.choice(["put", "put", "put", "delete"]), "key": key(random)}
    if step["kind"] == "put":
        step |= {"body": random.choice(BODIES), "type": random.choice(KINDS)}
        step["ttl"] = random.choice([None, None, None, 0, TTL_S])
    return step


def history(random: Random) -> list[Step]:
    found: list[Step] = []
    while len(found) < LENGTH:
        kind = random.random()
        if kind < 0.5:
            step = write(random)
            if random.random() < 0.3:
                step["match" if random.random() < 0.6 else "none_match"] = random.choice(CONDITIONS)
            elif random.random() < 0.15:
                step["once"] = random.randrange(3)
        elif kind < 0.65:
            step = {"kind": "get", "key": key(random), "method": random.choice(["GET", "HEAD"])}
            if random.random() < 0.5:
                step["match" if random.random() < 0.4 else "none_match"] = random.choice(CONDITIONS)
        elif kind < 0.75:
            lines = [write(random) if random.random() < 0.7 else {"kind": "get", "key": key(random)}]
            while random.random() < 0.7:
                lines.append(write(random) if random.random() < 0.7 else {"kind": "get", "key": key(random)})
            step = {"kind": "bulk", "lines": lines}
        elif kind < 0.8:
            step = {
                "kind": "bad",
                "key": random.choice(BAD),
                "method": random.choice(["GET", "PUT", "DELETE"]),
            }
        elif kind < 0.92:
            limit = random.choice([None, 1, 2, 3])
            step = {"kind": "list", "prefix": random.choice(PREFIXES), "limit": limit}
        else:
            step = {"kind": "wait", "s": random.choice([2, 2, 10])}
        level = random.choice(["", "", "", "all", "quorum", "two"])
        found.append({"peer": random.randrange(3), "how": random.randrange(4), "level": level, **step})
    return found


def escaped(text: str, how: int) -> str:
    if how == 0:
        return quote(text, safe="")
    if how == 1:
        return quote(text, safe="/~!$&'()*+,;=:@")
    every = "".join(f"%{byte:02x}" for byte in text.encode())
    return every if how == 2 else every.upper()


class Run:
    """One history."""

    def __init__(self, peers: Peers, bucket: str, number: int) -> None:
        self.peers = peers
        self.bucket = bucket
        self.number = number
        self.ordered = bucket == "ordered"
        self.default_ttl_s = BUCKETS[bucket].get("default_ttl_s", 0)
        self.held: dict[str, Held] = {}
        self.old: dict[str, str] = {}
        self.once: dict[tuple[int, str], tuple[Any, int, str | None]] = {}
        self.told: list[str] = []
        self.step_: Step = {"peer": 0, "how": 0, "level": ""}
        for name in self.listed("", None):
            expect(self.send("DELETE", "/" + escaped(name, 0)).status == 204, "cleared")

    @property
    def now_us(self) -> int:
        return self.peers.cluster.now_us

    def send(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        path = f"/v1/kv/{self.bucket}{target}"
        self.told.append(
            f"n{self.step_['peer'] + 1}: {method} {path[:200]} {headers or ''} {(body or b'')[:500]!r}"
        )
        reply = self.peers.ask(self.step_["peer"], method, path, body, headers)
        self.told.append(f"    {reply.status} {reply.headers.get('etag', '')} {reply.body[:500]!r}")
        expect(not self.peers.bugs, "a bug", self.peers.bugs)
        return reply

    def target(self, name: str, ttl: int | None = None) -> str:
        level = self.step_["level"]
        query = [f"consistency={level}"] * bool(level) + ([] if ttl is None else [f"ttl={ttl}"])
        return "/" + escaped(name, self.step_["how"]) + ("?" + "&".join(query) if query else "")

    def there(self, name: str) -> Held | None:
        held = self.held.get(name)
        if held is not None and held.dies_us and held.dies_us <= self.now_us:
            self.old[name] = self.held.pop(name).tag
            return None
        return held

    def tag(self, name: str, how: str) -> str:
        held = self.there(name)
        current = '"0-0"' if held is None else held.tag
        return {
            "current": current,
            "stale": self.old.get(name, '"1-1"'),
            "*": "*",
            "weak": "W/" + current,
            "among": f'W/"9-9",, {current} ,"1-1"',
            "other": '"1-1"',
        }[how]

    def conditions(self, step: Step) -> dict[str, str]:
        names = (("match", "If-Match"), ("none_match", "If-None-Match"))
        return {header: self.tag(step["key"], step[name]) for name, header in names if name in step}

    def matches(self, step: Step) -> bool:
        is_there = self.there(step["key"]) is not None
        return "match" not in step or (is_there and step["match"] in ("current", "*", "among"))

    def is_same(self, step: Step) -> bool:
        is_there = self.there(step["key"]) is not None
        return is_there and step.get("none_match") in ("current", "*", "weak", "among")

    # --- steps

    def step(self, step: Step) -> None:
        self.step_ = step
        kind = step["kind"]
        while any(abs(held.dies_us - self.now_us) < SECOND for held in self.held.values()):
            self.peers.cluster.run_for(SECOND)  # nothing is asked of what is just about to end
        if kind == "wait":
            self.told.append(f"-- {step['s']} seconds later")
            self.peers.cluster.run_for(step["s"] * SECOND)
        elif kind == "bad":
            body = b"" if step["method"] == "PUT" else None
            reply = self.send(step["method"], self.target(step["key"]), body)
            expect(reply.status == 400 and reply.json()["type"] == "bad-key", "expected bad-key")
        elif kind == "get":
            self.get(step)
        elif kind == "list":
            self.listing(step)
        elif kind == "bulk":
            self.bulk(step)
        else:
            self.write(step)
        if kind in ("put", "delete", "bulk", "wait"):
            self.compared()

    def write(self, step: Step) -> None:
        name, is_put = step["key"], step["kind"] == "put"
        headers = self.conditions(step)
        if step.get("type"):
            headers["Content-Type"] = step["type"]
        target = self.target(name, step.get("ttl"))
        sent = (target, step["kind"], step.get("body"), step.get("type"))
        before = self.once.get((step.get("once", -1), name))
        if "once" in step:
            headers["Idempotency-Key"] = f'"{self.number}-{step["once"]}"'
        holds = self.matches(step) and not self.is_same(step)
        method = "PUT" if is_put else "DELETE"
        reply = self.send(method, target, step.get("body"), headers)
        if before is not None and before[0] != sent:
            expect(reply.status == 422, "expected 422")
            return
        if before is not None:
            expect((reply.status, reply.headers.get("etag")) == before[1:], "expected as before", before)
            return
        if not holds:
            expect(reply.status == 412, "expected 412")
            held = self.there(name)
            expect(reply.json()["etag"] == (held and held.tag), "expected the tag")
            return
        expect(reply.status == 204, "expected success")
        if "once" in step:
            self.once[step["once"], name] = (sent, 204, reply.headers.get("etag"))
        self.put(step, reply.headers.get("etag") or "")

    def put(self, step: Step, tag: str) -> None:
        name = step["key"]
        held = self.there(name)
        if held is not None:
            self.old[name] = held.tag
        if step["kind"] == "delete":
            self.held.pop(name, None)
            return
        ttl_s = self.default_ttl_s if step["ttl"] is None else step["ttl"]
        dies_us = self.now_us + ttl_s * SECOND if ttl_s else 0
        self.held[name] = Held(step["body"], step["type"] or "application/octet-stream", tag, dies_us)

    def get(self, step: Step) -> None:
        name = step["key"]
        headers = self.conditions(step)
        held = self.there(name)
        matches, is_same = self.matches(step), self.is_same(step)
        reply = self.send(step["method"], self.target(name), None, headers)
        if held is None:
            expect(reply.status == 404, "expected nothing")
        elif not matches:
            expect(reply.status == 412, "expected 412")
        elif is_same:
            expect(reply.status == 304 and reply.headers["etag"] == held.tag, "expected 304")
        else:
            self.shown(reply, held, step["method"] == "HEAD")

    def shown(self, reply: Reply, held: Held, is_head: bool) -> None:
        expect(reply.status == 200 and reply.headers["etag"] == held.tag, "expected", held)
        expect(is_head or reply.body == held.body, "expected", held)
        expect(reply.headers.get("content-length") == str(len(held.body)), "expected", held)
        expect(reply.headers["content-type"] == held.kind, "expected", held)

    def bulk(self, step: Step) -> None:
        lines = []
        for line in step["lines"]:
            sent: dict[str, Any] = {"op": line["kind"], "key": line["key"]}
            if line["kind"] == "put":
                try:
                    sent["value"] = line["body"].decode()
                    if line["body"] == b"{}":
                        sent["json"] = json.loads(sent.pop("value"))
                except UnicodeDecodeError:
                    sent["base64"] = base64.b64encode(line["body"]).decode()
                if line["type"]:
                    sent["content_type"] = line["type"]
                if line["ttl"] is not None:
                    sent["ttl"] = line["ttl"]
            lines.append(sent)
        reply = self.send("POST", "/_bulk", "\n".join(map(json.dumps, lines)).encode())
        expect(reply.status == 200, "expected success")
        told = reply.lines()
        expect(len(told) == len(lines), "as many outcomes as lines")
        for line, sent, one in zip(step["lines"], lines, told, strict=True):
            expect(one["key"] == line["key"], "the key of", line)
            held = self.there(line["key"])
            if line["kind"] != "get":
                expect(one["status"] == 204, "expected success", one)
                kinds = {"value": "text/plain; charset=utf-8", "json": "application/json"}
                kind = next((kinds[name] for name in kinds if name in sent), "")
                self.put({**line, "type": line.get("type") or kind}, one.get("etag") or "")
            elif held is None:
                expect((one["status"], one["type"]) == (404, "no-such-key"), "expected nothing", one)
            else:
                found = one["value"].encode() if "value" in one else base64.b64decode(one["base64"])
                shown = (found, one["content_type"], one["etag"])
                expect(shown == held[:3], "expected", held, one)

    # --- what is there

    def listed(self, prefix: str, limit: int | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        after = ""
        while True:
            query = [f"prefix={quote(prefix, safe='')}"] * bool(prefix)
            query += [f"limit={limit}"] * (limit is not None) + [f"after={after}"] * bool(after)
            reply = self.send("GET", "?" + "&".join(query) if query else "")
            expect(reply.status == 200, "expected success")
            *lines, last = reply.lines()
            expect(limit is None or len(lines) <= limit, "too many")
            for line in lines:
                expect(line["key"] not in found, "twice", line)
                found[line["key"]] = line
            after = last["cursor"]
            if after is None:
                return found
            self.step_ = {**self.step_, "peer": (self.step_["peer"] + 1) % 3}

    def listing(self, step: Step) -> None:
        found = self.listed(step["prefix"], step["limit"])
        self.all_there(found, step["prefix"])

    def all_there(self, found: dict[str, Any], prefix: str) -> None:
        held = {name: self.there(name) for name in list(self.held)}
        there = {name: each for name, each in held.items() if each is not None and name.startswith(prefix)}
        expect(found.keys() == there.keys(), "expected", list(there))
        for name, each in there.items():
            line = found[name]
            shown = (line["bytes"], line["content_type"], line["etag"])
            expect(shown == (len(each.body), each.kind, each.tag), "expected", each)
        if self.ordered:
            expect(list(found) == sorted(found, key=str.encode), "in order", list(found))

    def compared(self) -> None:
        while any(abs(held.dies_us - self.now_us) < SECOND for held in self.held.values()):
            self.peers.cluster.run_for(SECOND)
        length = len(self.told)
        for peer in range(3):
            self.step_ = {"peer": peer, "how": 0, "level": ""}
            self.all_there(self.listed("", None), "")
        for name in [*FEW, *self.held]:
            self.step_ = {"peer": (self.step_["peer"] + 1) % 3, "how": 0, "level": ""}
            held = self.there(name)
            reply = self.send("GET", self.target(name))
            if held is None:
                expect(reply.status == 404, "expected nothing")
            else:
                self.shown(reply, held, False)
        del self.told[length:]


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    with Peers(3, clock=ClockOptions(skew_us=0, drift_ppm=0)) as peers:
        for name, body in BUCKETS.items():
            assert peers.ask(0, "PUT", f"/v1/buckets/{name}", body).status == 201
            peers.settle()
        yield peers


def wrong(peers: Peers, name: str, number: int, steps: list[Step]) -> str | None:
    """What goes wrong in a history first, with all that led there."""
    run = Run(peers, name, number)
    try:
        for step in steps:
            run.step(step)
    except Wrong as said:
        return "\n".join([*run.told, str(said)])
    return None


def test_histories(peers: Peers) -> None:
    for number in range(HISTORIES):
        random = Random(f"{SEED}:{number}")
        name = random.choice(list(BUCKETS))
        steps = history(random)
        said = wrong(peers, name, number, steps)
        if said is None:
            continue
        bugs, peers.bugs = peers.bugs, []
        at, turn = 0, HISTORIES
        while at < len(steps):
            shorter, turn = steps[:at] + steps[at + 1 :], turn + 1
            if wrong(peers, name, turn, shorter):
                steps = shorter
            else:
                at += 1
        said = wrong(peers, name, turn + 1, steps) or said
        peers.bugs = bugs
        pytest.fail(f"history {number} of {name}\n{said}")


# --- what it found


def test_an_idempotency_key_counts_for_one_key_of_an_ordered_bucket(peers: Peers) -> None:
    once = {"Idempotency-Key": '"one"'}
    tags = []
    for name in ("first", "second"):
        put = peers.ask(0, "PUT", f"/v1/kv/ordered/{name}", name.encode(), once)
        assert put.status == 204
        tags.append(put.headers["etag"])
    again = peers.ask(1, "PUT", "/v1/kv/ordered/first", b"first", once)
    assert (again.status, again.headers["etag"]) == (204, tags[0])
    assert peers.ask(1, "PUT", "/v1/kv/ordered/first", b"other", once).status == 422
    assert peers.ask(2, "GET", "/v1/kv/ordered/second").body == b"second"


def test_the_length_of_an_empty_value_is_told(peers: Peers) -> None:
    assert peers.ask(0, "PUT", "/v1/kv/plain/empty", b"").status == 204
    assert peers.ask(1, "HEAD", "/v1/kv/plain/empty").headers["content-length"] == "0"
