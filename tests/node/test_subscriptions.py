"""Change streams through whole simulated clusters: credit, heartbeats, the ring's ranges, tables that go."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from core.consistency import Level
from core.messages import AskChanges
from core.metadata import DropTable, TruncateTable
from core.requests import Answer, Changed, Invalid, MetadataRequest, Overloaded
from core.streaming import CURSOR, GAP, NOW, RESTART, START, TRUNCATED, ChangesPart, ChangesRequest
from core.trimming import LogTrim
from jepsen_like.scenarios import SECOND, Scenario
from node import change_serving, subscriptions
from ring.tokens import MAX_TOKEN, MIN_TOKEN, token_of
from sim.cluster import Reply
from streams.events import events_of

Patch = pytest.MonkeyPatch


class Listener:
    """A client of one stream, which gives credit as it is told to."""

    def __init__(self, s: Scenario, request: ChangesRequest, at: int = 0, credit: int = 1_000_000) -> None:
        self.s = s
        self.parts: list[tuple[int, ChangesPart]] = []
        self.ended: list[Answer] = []
        self.node = s.node(at)
        self.number = id(self) % 10**9 + 10**9

        def reply(answer: Answer, last: bool) -> None:
            if last:
                self.ended.append(answer)
            else:
                assert isinstance(answer, ChangesPart)
                self.parts.append((s.cluster.now_us, answer))

        self.node.subscriptions.begin(self.number, request, reply)
        self.node.subscriptions.want(self.number, credit)

    def want(self, parts: int) -> None:
        self.node.subscriptions.want(self.number, parts)

    def close(self) -> None:
        self.node.subscriptions.cancel(self.number)

    @property
    def keys(self) -> list[str]:
        """The keys of events, in order."""
        return [
            event.partition.decode()
            for _, part in self.parts
            for entry in part.entries
            for event in events_of(entry, "new")
        ]

    @property
    def whole(self) -> ChangesPart:
        """The last heartbeat with a whole cursor."""
        return [part for _, part in self.parts if part.whole][-1]

    def notices(self, kind: str) -> int:
        return sum(notice.kind == kind for _, part in self.parts for notice in part.notices)


def story(peers: int = 3, settings: dict[str, Any] | None = None) -> tuple[Scenario, int]:
    """A cluster with a bucket `b`, and its table."""
    s = Scenario(peers, settings=settings)
    s.start()
    return s, s.bucket("b", changes="new").table


def test_a_write_is_an_event_soon_and_heartbeats_come_every_second() -> None:
    s, table = story()
    listener = Listener(s, ChangesRequest(table))
    s.run(0.1)
    s.put("b", "k", b"1")
    began_us = s.cluster.now_us
    assert s.until(lambda: listener.keys == ["k"])
    assert s.cluster.now_us - began_us < 10_000
    s.run(5)
    beats = [at_us for at_us, part in listener.parts if part.whole]
    assert max(b - a for a, b in pairwise(beats)) <= SECOND
    assert listener.whole.places[0].first == MIN_TOKEN and listener.whole.places[-1].last == MAX_TOKEN
    assert listener.keys == ["k"]


def test_without_credit_nothing_is_sent_and_one_page_at_most_is_held(monkeypatch: Patch) -> None:
    monkeypatch.setattr(change_serving, "ENTRIES_MAX", 5)
    s, table = story()
    listener, other = Listener(s, ChangesRequest(table), credit=0), Listener(s, ChangesRequest(table))
    asked: list[AskChanges] = []
    serve = s.node(0).change_serving.serve

    def serving(message: AskChanges, answer: Any) -> None:
        asked.append(message)
        serve(message, answer)

    s.node(0).change_serving.serve = serving  # type: ignore[method-assign]
    s.run(1)
    for number in range(40):
        s.put("b", f"k{number}", b"1")
    assert len(other.keys) == 40
    other.close()
    s.run(2)
    before = len(asked)
    s.run(5)
    assert listener.parts == []
    assert len(asked) == before
    for _ in range(20):
        listener.want(1)
        s.run(0.1)
    assert listener.keys == [f"k{number}" for number in range(40)]


def test_every_range_of_a_larger_ring_is_followed_and_goes_on_elsewhere() -> None:
    s, table = story(6)
    for number in range(60):
        s.put("b", f"k{number}", b"1", at=number % 6)
    listener = Listener(s, ChangesRequest(table, START), at=1)
    assert s.until(lambda: len(set(listener.keys)) == 60)
    s.run(3)
    assert len({place.server for place in listener.whole.places}) > 1
    dead = next(
        index
        for index in (0, 2, 3, 4, 5)
        if any(
            s.state(1).peer_of(place.server) == s.cluster.machines[index].peer
            for place in listener.whole.places
        )
    )
    s.kill(dead)
    for number in range(60, 90):
        s.put("b", f"k{number}", b"1", at=1)
    assert s.until(lambda: {f"k{n}" for n in range(90)} <= set(listener.keys))
    assert listener.notices(RESTART) >= 1
    peer = s.cluster.machines[dead].peer
    number_of_dead = s.state(1).number_of(peer)
    s.run(2)
    assert not any(place.server == number_of_dead for place in listener.whole.places)
    # and from its cursor at another peer, which follows the same replicas: nothing comes again
    resumed = Listener(
        s,
        ChangesRequest(table, CURSOR, listener.whole.places),
        at=next(n for n in s.cluster.running() if n != 1),
    )
    listener.close()
    s.put("b", "last", b"1", at=1)
    assert s.until(lambda: "last" in resumed.keys)
    assert resumed.keys == ["last"]


def test_only_the_ranges_asked_for_are_read() -> None:
    s, table = story()
    token = token_of(b"k3")
    listener = Listener(s, ChangesRequest(table, START, ranges=((token, token),)))
    for number in range(9):
        s.put("b", f"k{number}", b"1")
    s.run(2)
    assert listener.keys == ["k3"]
    assert [(place.first, place.last) for place in listener.whole.places] == [(token, token)]


def test_now_is_now_and_a_time_is_that_time() -> None:
    s, table = story()
    s.put("b", "before", b"1")
    s.run(10)
    middle_us = s.node(0).inside.clock.now_us()
    s.run(10)
    s.put("b", "between", b"1")
    s.run(1)
    now = Listener(s, ChangesRequest(table, NOW))
    since = Listener(s, ChangesRequest(table, START, since_us=middle_us))
    s.run(1)
    s.put("b", "after", b"1")
    s.run(1)
    assert now.keys == ["after"]
    assert since.keys == ["between", "after"]


def change(s: Scenario, what: Any) -> None:
    answer = s.ask(MetadataRequest(what)).answer
    assert isinstance(answer, Changed) and not answer.error, answer
    s.run(2)


def test_a_stream_goes_on_after_truncate_and_ends_with_the_table() -> None:
    s, table = story()
    listener = Listener(s, ChangesRequest(table), at=2)
    s.run(1)
    s.put("b", "old", b"1")
    s.run(1)
    change(s, TruncateTable("kv", "b"))
    found = s.door.bucket("b")
    assert found is not None and found.table != table
    s.buckets["b"] = found
    s.put("b", "new", b"1")
    assert s.until(lambda: listener.keys == ["old", "new"])
    assert listener.notices(TRUNCATED) == 1
    assert listener.whole.table == found.table
    change(s, DropTable("kv", "b"))
    assert s.until(lambda: bool(listener.ended))
    assert isinstance(listener.ended[0], Invalid) and listener.ended[0].code == "no_such_table"
    assert s.node(2).subscriptions.under_way == {}


def test_a_range_without_a_live_replica_is_said_to_be_unserved() -> None:
    s, table = story()
    listener = Listener(s, ChangesRequest(table), at=0)
    s.run(1)
    assert listener.whole.unserved == ()
    s.node(0).change_serving.serve = lambda message, answer: None  # type: ignore[method-assign]
    s.cluster.isolate(0)
    s.run(8)
    assert listener.parts[-1][1].unserved == ((MIN_TOKEN, MAX_TOKEN),)
    assert s.cluster.now_us - listener.parts[-1][0] <= SECOND
    del s.node(0).change_serving.serve
    s.heal()
    s.put("b", "k", b"1", at=1, level=Level.QUORUM)
    assert s.until(lambda: "k" in listener.keys)


def test_who_is_gone_costs_nothing(monkeypatch: Patch) -> None:
    s, table = story()
    ended: list[Reply] = []
    number = s.cluster.stream(1, ChangesRequest(table), lambda part: None, ended.append)
    s.run(2)
    assert len(s.node(1).subscriptions.under_way) == 1
    s.cluster.leave(number)
    s.run(3)
    assert s.node(1).subscriptions.under_way == {}
    assert [s.node(peer).change_serving.waiting for peer in range(3)] == [0, 0, 0]
    assert s.node(1).inside.on_logged is None
    assert s.node(1).admission.requests == 0
    monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 0)
    refused = Listener(s, ChangesRequest(table))
    assert isinstance(refused.ended[0], Overloaded)


def test_who_was_away_until_the_others_forgot_says_that_something_is_missing() -> None:
    hour_us = 3_600 * SECOND
    s, table = story(settings={"hints": False, "anti_entropy_pause_us": hour_us})
    listener = Listener(s, ChangesRequest(table), at=2)
    s.put("b", "a", b"1", level=Level.ALL)
    assert s.until(lambda: listener.keys == ["a"])
    s.run(2)
    places = listener.whole.places
    assert s.state(2).peer_of(places[0].server) == s.cluster.machines[2].peer
    s.kill(2)
    s.run(15)
    s.put("b", "missed", b"1")
    for peer in (0, 1):
        s.node(peer).inside.submit(("log_trimmed",), LogTrim(2**60, 0))
    s.run(1)
    s.start(2)
    assert s.until(lambda: s.sees_all(0))
    s.put("b", "later", b"1", level=Level.ALL)
    s.run(5)
    assert s.node(2).change_serving.hole > 0
    s.kill(2)
    s.start(2)  # it is not forgotten over a restart
    resumed = Listener(s, ChangesRequest(table, CURSOR, places), at=2)
    assert s.until(lambda: "later" in resumed.keys)
    s.run(3)
    assert "missed" not in resumed.keys
    assert resumed.notices(GAP) == 1
    assert s.until(lambda: s.sees_all(0))
    s.put("b", "beyond", b"1", level=Level.ALL)
    s.run(2)
    assert resumed.keys[-1] == "beyond"
    fresh = Listener(s, ChangesRequest(table, CURSOR, resumed.whole.places), at=2)
    s.put("b", "last", b"1", level=Level.ALL)
    assert s.until(lambda: fresh.keys == ["last"])
    assert fresh.notices(GAP) == 0
