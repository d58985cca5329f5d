"""Unique indexes through three whole nodes: every way to write, takeovers, races, and building over data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.commands import PaxosAccept, PaxosCommit
from core.consistency import Level
from core.messages import Message, PaxosAsk
from core.requests import (
    Answer,
    BatchRequest,
    Changed,
    Invalid,
    OperationId,
    RowsRead,
    Timeout,
    WriteRequest,
    Written,
)
from core.schema import Index
from documents import indexes, operations
from documents.collections import find
from documents.operations import Condition, Done
from jepsen_like.scenarios import Scenario
from node.unique_building import BUILT, FAILED, Note, note_in, note_request
from query.once import Once
from tests.cql_lite.whole import Cql, Error
from tests.documents.cluster import Docs

FAST = {"write_timeout_us": 1_000_000}


def docs_with(body: Any, name: str = "email", collection: str = "users") -> Docs:
    s = Scenario(settings=FAST)
    s.start()
    docs = Docs(s, collection)
    index(docs, body, name)
    return docs


def index(docs: Docs, body: Any, name: str = "email") -> Index:
    spec = indexes.index_spec(name, body)
    assert not isinstance(spec, Invalid), spec
    s = docs.scenario
    answer = s.ask(indexes.create_index(docs.collection, spec)).answer
    assert isinstance(answer, Changed) and not answer.error, answer
    assert s.until(lambda: all(found(docs, name, peer) is not None for peer in s.cluster.running()))
    collection = find(s.state(0), docs.collection.name)
    assert collection is not None
    docs.collection = collection
    made = found(docs, name)
    assert made is not None
    return made


def found(docs: Docs, name: str = "email", peer: int = 0) -> Index | None:
    table = docs.scenario.state(peer).tables[docs.collection.table]
    return indexes.indexes_of(docs.collection, table).get(name)


def note(docs: Docs, name: str = "email", at: int = 0) -> Note:
    made = found(docs, name, at)
    assert made is not None
    answer = docs.scenario.ask(note_request(made), at=at).answer
    assert isinstance(answer, RowsRead), answer
    return note_in(answer)


def built(docs: Docs, name: str = "email") -> Note:
    """The note, when the building has ended."""
    for _ in range(60):
        if note(docs, name).state != "building":
            return note(docs, name)
        docs.scenario.run(1)
    raise AssertionError("the index is never built")


def holder(end: Any) -> str:
    assert isinstance(end, Invalid) and end.code == "unique_violation", end
    return dict(end.about)["holder"]


@pytest.fixture(scope="module")
def users() -> Docs:
    return docs_with({"paths": {"email": 1}, "unique": True})


def test_a_second_document_with_the_value_is_refused_whatever_way_it_comes(users: Docs) -> None:
    assert isinstance(users.put("a", b'{"email":"x@y"}'), Done)
    assert holder(users.put("b", b'{"email":"x@y"}', at=1)) == "a"
    assert isinstance(users.put("b", b'{"n":1}', at=1), Done)
    assert holder(users.merge("b", b'{"email":"x@y"}', at=2)) == "a"
    assert holder(users.patch("b", b'[{"op":"add","path":"/email","value":"x@y"}]')) == "a"
    assert holder(users.update("b", {"$set": {"email": "x@y"}}, at=1)) == "a"
    assert holder(users.update("new", {"$set": {"email": "x@y"}}, at=1)) == "a"
    assert holder(users.put("c", b'{"email":"x@y"}', condition=Condition(none_match=("*",)))) == "a"
    assert users.text("b") == b'{"n":1}' and users.get("c") is None and users.get("new") is None
    end = users.put("b", b'{"email":"x@y"}', at=1)
    assert isinstance(end, Invalid) and dict(end.about)["index"] == "users__email"


def test_a_document_may_keep_its_value_and_change_all_else(users: Docs) -> None:
    users.put("keep", b'{"email":"k@k","n":1}')
    assert isinstance(users.update("keep", {"$inc": {"n": 1}}, at=1), Done)
    assert isinstance(users.put("keep", b'{"email":"k@k","n":5}', at=2), Done)
    assert isinstance(users.merge("keep", b'{"m":1}'), Done)
    assert json.loads(users.text("keep") or b"") == {"email": "k@k", "n": 5, "m": 1}


@pytest.mark.parametrize("how", ["delete", "put", "merge", "unset"])
def test_a_value_that_was_given_up_can_be_claimed(users: Docs, how: str) -> None:
    first, second, text = f"{how}1", f"{how}2", json.dumps({"email": how}).encode()
    users.put(first, text)
    assert holder(users.put(second, text, at=1)) == first
    if how == "delete":
        users.delete(first, at=2)
    elif how == "put":
        users.put(first, b"{}", at=2)
    elif how == "merge":
        users.merge(first, b'{"email":null}', at=2)
    else:
        users.update(first, {"$unset": {"email": ""}}, at=2)
    assert isinstance(users.put(second, text, at=1), Done)
    assert holder(users.merge(first, text)) == second
    assert isinstance(users.put(second, b"[]", at=1), Done), "and so can it after that"
    assert isinstance(users.put(first, text), Done)


def test_null_missing_and_other_values_do_not_collide(users: Docs) -> None:
    for number, text in enumerate([b"{}", b"{}", b'{"email":null}', b'{"email":null}', b'{"email":[]}']):
        assert isinstance(users.put(f"none{number}", text), Done)
    for number, text in enumerate([b'{"email":7}', b'{"email":"7"}', b'{"email":true}']):
        assert isinstance(users.put(f"typed{number}", text), Done)
    assert holder(users.put("typed9", b'{"email":7.0}')) == "typed0", "numbers are equal by value"
    end = users.put("object", b'{"email":{"a":1}}')
    assert isinstance(end, Invalid) and end.code == "bad_unique_value", end


def test_each_element_of_an_array_is_held(users: Docs) -> None:
    assert isinstance(users.put("m1", b'{"email":["p","q","p"]}'), Done)
    assert holder(users.put("m2", b'{"email":["r","q"]}', at=1)) == "m1"
    assert isinstance(users.put("m3", b'{"email":"r"}', at=2), Done), "what the refused one claimed is free"
    assert isinstance(users.update("m1", {"$pull": {"email": "q"}}), Done)
    assert isinstance(users.put("m2", b'{"email":["q"]}', at=1), Done)
    many = json.dumps({"email": [f"v{n}" for n in range(101)]}).encode()
    end = users.put("m4", many)
    assert isinstance(end, Invalid) and end.code == "too_many_unique_values"


def test_arrays_on_several_paths_are_refused_before_they_are_multiplied() -> None:
    """Four of 300 elements are eight thousand million values: a few kilobytes that took all memory."""
    docs = docs_with({"paths": {"a": 1, "b": 1, "c": 1, "d": 1}, "unique": True}, "abcd", "things")
    text = json.dumps({name: list(range(300)) for name in "abcd"}).encode()
    end = docs.put("x", text)
    assert isinstance(end, Invalid) and end.code == "too_many_unique_values" and "8100000000" in end.detail
    few = json.dumps({name: list(range(3)) for name in "abcd"}).encode()
    assert isinstance(docs.put("x", few), Done)


def test_arrays_on_the_paths_of_any_index_are_not_multiplied_without_end() -> None:
    """What is put together by edits is bounded all the same: its replicas would end, one after the other."""
    docs = docs_with({"paths": {"a.n": 1, "b": -1, "c": 1}}, "abc", "things")
    numbers = list(range(300))
    parts: dict[str, Any] = {"a": [{"n": n} for n in numbers], "b": numbers, "c": numbers}
    end = docs.put("x", json.dumps(parts).encode())
    assert isinstance(end, Invalid) and end.code == "document_invalid" and "27000000 entries" in end.detail
    few: dict[str, Any] = {"a": [{"n": n} for n in range(20)], "b": list(range(25)), "c": list(range(20))}
    assert isinstance(docs.put("x", json.dumps(few).encode()), Done)
    for name, part in parts.items():
        assert isinstance(docs.merge("y", json.dumps({name: part}).encode()), Done | Invalid)
    assert not docs.scenario.cluster.deaths
    assert isinstance(docs.put("y", json.dumps(few).encode()), Done)


def test_only_what_an_index_would_hold_counts() -> None:
    docs = docs_with({"paths": {"a.n": 1, "a.m": 1}, "filter": {"kept": {"$gt": 0}}}, "both", "things")
    same: dict[str, Any] = {"a": [{"n": n, "m": n % 3} for n in range(300)], "kept": 1}
    assert isinstance(docs.put("x", json.dumps(same).encode()), Done), "900 different ones"
    apart = {"a": [{"n": n, "m": n} for n in range(300)]}
    assert isinstance(docs.put("y", json.dumps(apart).encode()), Done), "it is none of the index"
    end = docs.put("z", json.dumps({**apart, "kept": 1.5}).encode())
    assert isinstance(end, Invalid) and "90000 entries" in end.detail


def test_cql_goes_the_same_way_or_is_told_what_to_do(users: Docs) -> None:
    cql = Cql(users.scenario.cluster, 1)
    users.put("rest", b'{"email":"door"}')
    with pytest.raises(Error, match="'rest' has a value"):
        cql.run("INSERT INTO docs.users (id, doc) VALUES ('cql', '{\"email\":\"door\"}')")
    cql.run("INSERT INTO docs.users (id, doc) VALUES ('cql', '{\"email\":\"other\"}')")
    assert holder(users.put("rest", b'{"email":"other"}')) == "cql"
    with pytest.raises(Error, match="'rest' has a value"):
        cql.run("UPDATE docs.users SET doc = '{\"email\":\"door\"}' WHERE id = 'cql'")
    with pytest.raises(Error, match="'rest' has a value"):
        cql.run("INSERT INTO docs.users (id, doc) VALUES ('cql2', '{\"email\":\"door\"}') IF NOT EXISTS")
    cql.run("DELETE FROM docs.users WHERE id = 'cql'")
    assert isinstance(users.put("rest", b'{"email":"other"}'), Done)
    with pytest.raises(Error, match="leave the timestamp out"):
        cql.run("INSERT INTO docs.users (id, doc) VALUES ('t', '{}') USING TIMESTAMP 5")
    now_us = users.scenario.cluster.machines[1].clock.read_us() - 1_000_000
    cql.run(f"INSERT INTO docs.users (id, doc) VALUES ('t', '{{}}') USING TIMESTAMP {now_us}")
    with pytest.raises(Error, match="one by one"):
        one, two = (f"INSERT INTO docs.users (id, doc) VALUES ('t{n}', '{{}}')" for n in range(2))
        cql.run(f"BEGIN BATCH {one}; {two}; APPLY BATCH")
    with pytest.raises(Error, match="write the documents instead"):
        cql.run("INSERT INTO docs.users__email (value, holder) VALUES (0x00, 'x')")
    with pytest.raises(Error, match="drop the index"):
        cql.run("DROP TABLE docs.users__email")


def test_nothing_writes_past_it(users: Docs) -> None:
    """What doors never send is refused by the node all the same."""
    s = users.scenario
    planned = operations.put(users.collection, "plain", b'{"email":"plain"}')
    assert not isinstance(planned, Invalid) and isinstance(planned.request, WriteRequest)
    assert isinstance(s.ask(planned.request).answer, Written)
    assert holder(users.put("plain2", b'{"email":"plain"}')) == "plain", "a plain write was decided"
    answer = s.ask(BatchRequest((planned.request,), Level.QUORUM)).answer
    assert isinstance(answer, Invalid) and answer.code == "unique_index"
    got: list[Answer] = []
    s.node(0).writes.begin(planned.request, 2**62, got.append)
    assert isinstance(got[0], Invalid) and got[0].code == "unique_index"


def test_a_write_under_an_id_is_done_once(users: Docs) -> None:
    planned = operations.put(users.collection, "once", b'{"email":"once"}')
    assert not isinstance(planned, Invalid)
    once = Once(planned.request, OperationId(b"key", b"print", 10**12))
    first, again = (users.scenario.ask(once.request, at=at).answer for at in (0, 1))
    assert first is not None and again is not None
    assert isinstance(once.answer(first), Written) and once.answer(first) == once.answer(again)
    assert holder(users.put("twice", b'{"email":"once"}')) == "once"


def test_a_value_that_expired_can_be_claimed_and_does_not_come_back() -> None:
    docs = docs_with({"paths": {"email": 1}, "unique": True})
    docs.put("short", b'{"email":"s"}', ttl_s=5)
    assert holder(docs.put("long", b'{"email":"s"}', at=1)) == "short"
    docs.scenario.run(6)
    docs.scenario.set_clock(2, -30)  # for this peer it has not expired
    assert isinstance(docs.put("long", b'{"email":"s"}', at=1), Done)
    assert holder(docs.merge("short", b'{"email":"s"}', at=2)) == "long"
    end = docs.update("short", {"$set": {"n": 1}}, at=2, ttl_s=100)
    assert isinstance(end, Done), end
    value = docs.get("short", at=2, level=Level.SERIAL)
    assert value is not None and value.value == {"n": 1}, "what had expired was not renewed"


def test_compound_and_partial_indexes() -> None:
    docs = docs_with({"paths": {"tenant": 1, "name": -1}, "unique": True}, "both")
    index(docs, {"paths": {"code": 1}, "unique": True, "filter": {"live": True}}, "code")
    assert isinstance(docs.put("a", b'{"tenant":1,"name":"x","code":5,"live":true}'), Done)
    assert isinstance(docs.put("b", b'{"tenant":2,"name":"x","code":5}'), Done)
    assert holder(docs.put("c", b'{"tenant":2,"name":"x"}')) == "b"
    assert isinstance(docs.put("c", b'{"tenant":2}'), Done)
    assert isinstance(docs.put("d", b'{"tenant":2,"name":null}'), Done)
    assert holder(docs.update("b", {"$set": {"live": True}})) == "a", "it would enter the partial index"
    assert isinstance(docs.update("a", {"$set": {"live": False}}), Done)
    assert isinstance(docs.update("b", {"$set": {"live": True}}), Done)
    assert holder(docs.update("a", {"$set": {"live": True}}, at=2)) == "b"


# --- dying and racing


def reservations(docs: Docs, name: str = "email") -> int:
    made = found(docs, name)
    assert made is not None
    return made.reservations


def stop_after_claiming(docs: Docs) -> list[int]:
    """Peer 0 is heard until it has reserved a value, then no more; what it reserved is noted."""
    claimed: list[int] = []
    values = reservations(docs)

    def lost(source: int, target: int, message: Message) -> bool:
        if source == 0 and isinstance(message, PaxosAsk):
            if message.step.table == values and isinstance(message.step, PaxosCommit):
                claimed.append(target)
            return bool(claimed) and message.step.table != values
        return False

    docs.scenario.lose(lost)
    return claimed


@pytest.mark.parametrize("comes_back", [False, True])
def test_who_stops_after_the_claim_is_taken_over_and_loses(comes_back: bool) -> None:
    docs = docs_with({"paths": {"email": 1}, "unique": True})
    s = docs.scenario
    built(docs)
    claimed = stop_after_claiming(docs)
    planned = operations.put(docs.collection, "stops", b'{"email":"e"}')
    assert not isinstance(planned, Invalid)
    ends: list[Any] = []
    s.cluster.request(0, planned.request, 20_000_000, ends.append)
    assert s.until(lambda: len(claimed) == 2)
    assert isinstance(docs.put("lives", b'{"email":"e"}', at=1), Done)
    if comes_back:
        s.heal()
    else:
        s.kill(0)
    assert s.until(lambda: bool(ends))
    assert docs.get("stops", at=1, level=Level.SERIAL) is None
    assert docs.get("lives", at=1, level=Level.SERIAL) is not None
    if comes_back:
        answer = ends[0].answer
        assert isinstance(answer, Invalid) or (isinstance(answer, Timeout) and not answer.write), answer
    assert holder(docs.put("stops", b'{"email":"e"}', at=1)) == "lives"


def test_a_write_that_timed_out_is_settled_by_the_next_claimant() -> None:
    """It was accepted by one replica: whoever claims next ends it or finds it done, never both."""
    docs = docs_with({"paths": {"email": 1}, "unique": True})
    s = docs.scenario
    built(docs)
    table = docs.collection.table

    def lost(source: int, target: int, message: Message) -> bool:
        if source != 0 or not isinstance(message, PaxosAsk) or message.step.table != table:
            return False
        return isinstance(message.step, PaxosCommit) or (
            isinstance(message.step, PaxosAccept) and target == 2
        )

    s.lose(lost)
    planned = operations.put(docs.collection, "unsure", b'{"email":"u"}')
    assert not isinstance(planned, Invalid)
    ends: list[Any] = []
    s.cluster.request(0, planned.request, 20_000_000, ends.append)
    s.run(0.2)
    s.kill(0)
    assert holder(docs.put("next", b'{"email":"u"}', at=1)) == "unsure", "it had been decided"
    assert docs.text("unsure", at=2) == b'{"email":"u"}'


@pytest.mark.parametrize("seed", range(6))
def test_of_many_claimants_at_once_exactly_one_has_it(seed: int) -> None:
    s = Scenario(settings={"write_timeout_us": 5_000_000}, seed=seed)
    s.start()
    docs = Docs(s, "users")
    index(docs, {"paths": {"email": 1, "phone": 1}, "unique": True}, "pair")
    index(docs, {"paths": {"email": 1}, "unique": True})
    answers: list[Any] = []
    for number in range(9):
        planned = operations.put(docs.collection, f"r{number}", b'{"email":"same","phone":1}')
        assert not isinstance(planned, Invalid)
        s.cluster.request(number % 3, planned.request, 10_000_000, answers.append)
    assert s.until(lambda: len(answers) == 9)
    there = [n for n in range(9) if docs.get(f"r{n}", level=Level.SERIAL) is not None]
    assert len(there) == 1
    kinds = [type(each.answer) for each in answers]
    assert kinds.count(Written) == 1 and kinds.count(Invalid) == 8, [each.answer for each in answers]


# --- building


def test_an_index_is_built_over_what_is_there() -> None:
    s = Scenario(settings=FAST)
    s.start()
    docs = Docs(s, "users")
    for number in range(120):
        docs.put(f"old{number}", json.dumps({"email": f"e{number}"}).encode(), at=number % 3)
    index(docs, {"paths": {"email": 1}, "unique": True})
    done = built(docs)
    assert (done.state, done.documents, done.duplicates) == (BUILT, 120, ())
    for number in (0, 60, 119):
        assert holder(docs.put("new", json.dumps({"email": f"e{number}"}).encode())) == f"old{number}"
    assert s.until(lambda: not any(s.node(peer).unique_building._open() for peer in range(3)))


def test_duplicates_end_the_build_and_are_told() -> None:
    s = Scenario(settings=FAST)
    s.start()
    docs = Docs(s, "users")
    for number in range(6):
        docs.put(f"d{number}", json.dumps({"email": f"e{number // 2}"}).encode())
    docs.put("object", b'{"email":{"a":1}}')
    index(docs, {"paths": {"email": 1}, "unique": True})
    failed = built(docs)
    assert failed.state == FAILED
    told = sorted(tuple(sorted(one.ids)) for one in failed.duplicates)
    assert told == [("d0", "d1"), ("d2", "d3"), ("d4", "d5"), ("object",)]
    for key in ("d1", "d3", "d5", "object"):
        docs.delete(key)
    assert isinstance(s.ask(indexes.drop_index(docs.collection, "email")).answer, Changed)
    assert s.until(lambda: all(found(docs, peer=peer) is None for peer in range(3)))
    assert reservations_gone(docs)
    index(docs, {"paths": {"email": 1}, "unique": True})
    assert built(docs).state == BUILT


def reservations_gone(docs: Docs) -> bool:
    return all(not table.reserves for table in docs.scenario.state(0).tables.values())


def test_another_peer_goes_on_building_and_writes_go_on_meanwhile() -> None:
    s = Scenario(settings=FAST)
    s.start()
    docs = Docs(s, "users")
    for number in range(250):
        docs.put(f"old{number}", json.dumps({"email": f"e{number}"}).encode(), at=number % 3)
    index(docs, {"paths": {"email": 1}, "unique": True})
    assert s.until(lambda: note(docs).documents > 0)
    builder = next(peer for peer in range(3) if s.node(peer).unique_building._build is not None)
    s.kill(builder)
    other = (builder + 1) % 3
    assert s.until(lambda: s.sees_dead(other, builder))
    assert isinstance(docs.put("new", b'{"email":"new"}', at=other), Done)
    assert s.until(lambda: note(docs, at=other).state == BUILT)
    assert holder(docs.put("x", b'{"email":"e249"}', at=other)) == "old249"


def test_truncating_and_dropping_take_reservations_along() -> None:
    docs = docs_with({"paths": {"email": 1}, "unique": True})
    docs.put("a", b'{"email":"x"}')
    Cql(docs.scenario.cluster, 0).run("TRUNCATE docs.users")
    assert docs.scenario.until(
        lambda: all(find(docs.scenario.state(peer), "users") != docs.collection for peer in range(3))
    )
    collection = find(docs.scenario.state(0), "users")
    assert collection is not None
    docs.collection = collection
    assert isinstance(docs.put("b", b'{"email":"x"}'), Done)
    Cql(docs.scenario.cluster, 0).run("DROP TABLE docs.users")
    assert docs.scenario.until(lambda: reservations_gone(docs))
