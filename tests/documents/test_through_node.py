"""Documents through three whole nodes: the model's answer, tags, times to live, limits, cuts, and CQL."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import lsm.growth
from core import limits
from core.consistency import Level
from core.json_values import render
from core.requests import Broken, Invalid, Timeout, Unavailable
from documents import operations
from documents.collections import (
    CollectionSettings,
    CollectionSpec as Spec,
    alter_collection,
    find,
    settings_of,
)
from documents.edits import merge_patch
from documents.operations import Condition, Done, NotMet, Operation, Wanted
from jepsen_like.scenarios import Scenario
from tests.core.test_row import OPERATIONS
from tests.cql_lite.whole import Cql
from tests.documents.cluster import Docs
from tests.models import json_merge as model


@pytest.fixture(scope="module")
def docs() -> Docs:
    s = Scenario()
    s.start()
    return Docs(s)


@pytest.fixture
def cql(docs: Docs) -> Cql:
    return Cql(docs.scenario.cluster, 1)


def begin(docs: Docs, key: str, operation: tuple[Any, ...], at: int, condition: Condition | None) -> Any:
    """An operation of the model, as a client would ask for it."""
    wanted = {"condition": condition}
    kind = operation[0]
    if kind == "put":
        return docs.put(key, render(operation[1]), at, **wanted)
    if kind == "delete":
        return docs.delete(key, at, **wanted)
    if kind == "patch":
        return docs.merge(key, render(operation[1]), at, **wanted)
    path = ".".join(operation[1])
    operators = {"$set": {path: operation[2]}} if kind == "set" else {"$unset": {path: ""}}
    return docs.update(key, operators, at, **wanted)


_used = iter(range(10**9))


@given(st.lists(st.tuples(OPERATIONS, st.integers(0, 2), st.booleans()), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_documents_are_what_the_model_says_by_either_way(docs: Docs, history: Any) -> None:
    key = f"m{next(_used)}"
    document: Any = None
    tags: dict[str, bytes] = {}
    for operation, at, looks in history:
        found = docs.get(key, at)
        condition = None
        if looks:  # the conditional path makes the same of it
            condition = Condition(none_match=("*",)) if found is None else Condition(match=(found.tag,))
        end = begin(docs, key, operation, at, condition)
        assert isinstance(end, Done), end
        document = model.reference(document, operation)
        found = docs.get(key, (at + 1) % 3)
        assert (None if found is None else found.value) == document
        if found is not None:
            assert end.tag in (None, found.tag)
            assert tags.setdefault(found.tag, found.text) == found.text, "one tag, one text"


def test_a_condition_that_does_not_hold_tells_the_tag_and_changes_nothing(docs: Docs) -> None:
    assert docs.put("c", b"1", condition=Condition(match=("*",))) == NotMet(None)
    first = docs.put("c", b"1", condition=Condition(none_match=("*",)))
    assert isinstance(first, Done) and first.tag is not None
    assert docs.put("c", b"2", condition=Condition(none_match=("*",))) == NotMet(first.tag)
    weak = Condition(match=("W/" + first.tag,))
    assert docs.merge("c", b'{"a":1}', condition=weak) == NotMet(first.tag)
    assert docs.delete("c", condition=Condition(match=('"x"',))) == NotMet(first.tag)
    assert docs.text("c") == b"1"
    assert isinstance(docs.delete("c", condition=Condition(match=(first.tag,))), Done)
    assert docs.text("c") is None


def test_what_cannot_be_done_to_the_document_is_refused_and_changes_nothing(docs: Docs) -> None:
    docs.put("r", b'{"a":"x"}')
    refused = docs.update("r", {"$inc": {"a": 1}, "$set": {"b": 1}})
    assert isinstance(refused, Invalid) and refused.code == "patch_conflict"
    missing = docs.patch("nobody", b'[{"op":"add","path":"/a","value":1}]')
    assert isinstance(missing, Invalid) and missing.code == "no_such_document"
    again = docs.update("nobody", {"$set": {"a": 1}}, existing=True)
    assert isinstance(again, Invalid) and again.code == "no_such_document"
    assert docs.text("r") == b'{"a":"x"}'
    assert docs.text("nobody") is None


@pytest.mark.parametrize("bug", [TypeError("no len"), KeyError("x"), AssertionError("never")])
def test_an_edit_that_nobody_foresaw_ends_the_request_and_not_the_peer(
    docs: Docs, monkeypatch: pytest.MonkeyPatch, bug: Exception
) -> None:
    def fails(*_: object) -> None:
        raise bug

    docs.put("u", b'{"a":1}')
    monkeypatch.setattr(operations._Edit, "_pieces", fails)
    refused = docs.update("u", {"$inc": {"a": 1}})
    assert isinstance(refused, Invalid) and refused.code == "not_decided"
    assert type(bug).__name__ in refused.detail
    monkeypatch.undo()
    assert isinstance(docs.update("u", {"$inc": {"a": 1}}), Done)
    assert docs.text("u") == b'{"a":2}'
    assert not docs.scenario.cluster.deaths


@pytest.mark.parametrize(
    ("document_id", "code"), [("", "bad_id"), ("\ud800", "bad_id"), ("x" * 65_536, "bad_id")]
)
def test_an_id_is_any_text_within_bounds(docs: Docs, document_id: str, code: str) -> None:
    for refused in (
        operations.put(docs.collection, document_id, b"1"),
        operations.edit(docs.collection, document_id, merge_patch(b"{}")),
        operations.delete(docs.collection, document_id),
        operations.get(docs.collection, document_id, Level.ONE),
    ):
        assert isinstance(refused, Invalid) and refused.code == code


def test_an_edit_may_tell_what_became_of_the_document(docs: Docs) -> None:
    docs.put("t", b'{"n": 1}')
    for n in (2, 3):
        end = docs.update("t", {"$inc": {"n": 1}}, at=n % 3, returning=True)
        assert isinstance(end, Done) and end.text == b'{"n":%d}' % n
    merged = docs.merge("t", b'{"m":0.50}', returning=True)
    assert isinstance(merged, Done) and merged.text == docs.text("t") == b'{"n":3,"m":0.5}'


# --- times to live


def test_a_document_with_a_time_to_live_goes_as_a_whole_and_an_edit_may_renew_it(docs: Docs) -> None:
    s = docs.scenario
    docs.put("ttl", b'{"a":1}', ttl_s=4)
    docs.put("renewed", b'{"a":1}', ttl_s=4)
    s.run(2)
    docs.merge("renewed", b'{"b":2}', ttl_s=4)
    assert docs.text("ttl") == b'{"a":1}'
    s.run(2.5)
    assert docs.text("ttl") is None
    assert docs.text("renewed") == b'{"a":1,"b":2}'
    s.run(2)
    assert docs.text("renewed") is None
    docs.put("ttl", b'{"a":1}', condition=Condition(none_match=("*",)))
    assert docs.text("ttl") == b'{"a":1}'


def test_a_tag_is_another_one_when_a_part_has_expired(docs: Docs) -> None:
    docs.put("part", b'{"a":1}', ttl_s=3)
    docs.merge("part", b'{"b":2}')
    before = docs.get("part")
    docs.scenario.run(4)
    after = docs.get("part")
    assert before is not None and after is not None
    assert (before.value, after.value) == ({"a": 1, "b": 2}, {"b": 2})
    assert before.tag != after.tag


def test_where_documents_may_expire_a_patch_lives_as_long_as_its_document() -> None:
    s = Scenario()
    s.start()
    docs = Docs(s, "some", expires=True)
    for key in ("merged", "set", "counted", "patched", "unset"):
        docs.put(key, b'{"a":1,"n":1}', ttl_s=4)
    docs.put("lives", b'{"a":1}')
    s.run(1.3)
    docs.merge("merged", b'{"b":2}')
    docs.update("set", {"$set": {"a": 2}}, at=1)
    docs.update("counted", {"$inc": {"n": 1}}, at=2)
    docs.patch("patched", b'[{"op":"add","path":"/b","value":2}]')
    docs.update("unset", {"$unset": {"a": ""}})
    docs.merge("lives", b'{"b":2}')
    s.run(2.4)
    texts = {"merged": b'{"a":1,"b":2,"n":1}', "counted": b'{"a":1,"n":2}', "unset": b'{"n":1}'}
    for key, text in texts.items():
        found = docs.get(key)
        assert found is not None and found.value == json.loads(text), key
    s.run(0.6)
    for key in ("merged", "set", "counted", "patched", "unset"):
        assert docs.text(key) is None, key
    assert docs.text("lives") == b'{"a":1,"b":2}'
    docs.merge("merged", b'{"b":3}')
    s.run(6)
    assert docs.text("merged") == b'{"b":3}', "a new document"


def test_a_collection_with_a_time_to_live_gives_it_to_every_write() -> None:
    s = Scenario()
    s.start()
    docs = Docs(s, "short", default_ttl_s=3)
    docs.put("d", b'{"a":1}')
    docs.put("kept", b'{"a":1}', ttl_s=0)
    s.run(2)
    docs.update("d", {"$set": {"b": 2}})
    s.run(2)
    assert docs.text("d") == b'{"a":1,"b":2}'
    s.run(2)
    assert docs.text("d") is None
    assert docs.text("kept") == b'{"a":1}'


# --- limits


def test_who_patches_a_document_in_too_many_places_is_told_to_put_it(docs: Docs) -> None:
    half = limits.DOCUMENT_CELLS_MAX * 6 // 10
    first, patch = (render({f"k{part}-{n}": n for n in range(half)}) for part in range(2))
    assert isinstance(docs.merge("cells", first), Done)
    end = docs.merge("cells", patch, at=1)
    assert isinstance(end, Invalid) and end.code == "too_large"
    assert "write it as a whole" in end.detail
    looking = docs.merge("cells", patch, returning=True)
    assert isinstance(looking, Invalid) and looking.code == "too_many_cells"
    document = docs.get("cells")
    assert document is not None and len(document.value) == half, "nothing was lost, nothing half done"
    assert isinstance(docs.put("cells", document.text), Done)
    assert isinstance(docs.merge("cells", patch), Done)
    found = docs.get("cells")
    assert found is not None and len(found.value) == 2 * half


def test_a_document_does_not_grow_without_end_by_merges_that_do_not_look_at_it(
    docs: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsm.growth, "VALUE_BYTES_MAX", 10_000)
    assert isinstance(docs.put("whole", render("x" * 11_000)), Done), "who measured it is not this limit"
    docs.put("grown", b"{}")
    ends = [docs.merge("grown", render({f"m{n}": "x" * 3_000}), at=n % 3) for n in range(5)]
    assert all(isinstance(end, Done) for end in ends[:3])
    assert all(isinstance(end, Invalid) and "bytes in pieces" in end.detail for end in ends[3:])
    document = docs.get("grown")
    assert document is not None and list(document.value) == ["m0", "m1", "m2"]
    assert isinstance(docs.update("grown", {"$unset": {"m0": 1}}), Done)
    assert isinstance(docs.merge("grown", b'{"m0":1}'), Done)


def test_settings_of_a_collection_travel_in_its_options(docs: Docs) -> None:
    settings_text = CollectionSettings(msgspec.Raw(b'{"type":"object"}'), max_document_bytes=20)
    request = alter_collection(docs.collection, Spec("docs", None, 7, settings=settings_text))
    assert not isinstance(request, Invalid)
    s = Scenario()
    s.start()
    other = Docs(s)
    s.ask(request)
    assert s.until(lambda: all(find(s.state(p), "docs").default_ttl_s == 7 for p in range(3)))  # type: ignore[union-attr]
    collection = find(s.state(2), "docs")
    assert collection is not None
    assert collection.settings == settings_of(collection.options) == settings_text
    other.collection = collection
    refused = other.put("a", b"[]")
    assert isinstance(refused, Invalid) and refused.code == "document_invalid"
    refused = other.put("a", b'{"a":"12345678901234567890"}')
    assert isinstance(refused, Invalid) and refused.code == "document_too_large"
    refused = other.update("a", {"$set": {"a": "12345678901234567890"}})
    assert isinstance(refused, Invalid) and refused.code == "document_too_large"


# --- cuts


def test_two_clients_edit_different_paths_on_both_sides_of_a_cut_and_both_edits_stay() -> None:
    s = Scenario(peers=5)
    s.start()
    docs = Docs(s)
    docs.put("d", b'{"a":{"x":1},"l":[0]}')
    s.cut([0, 1], [2, 3, 4])
    one = {"level": Level.ONE}
    sides = ((0, 2), (1, 4))
    for number, at in enumerate(sides[0]):
        assert isinstance(docs.merge("d", render({"a": {f"m{number}": at}}), at, **one), Done)
    for number, at in enumerate(sides[1]):
        assert isinstance(docs.update("d", {"$set": {f"b.s{number}": at}}, at, **one), Done)
    s.heal()
    assert s.equal_within(60)
    wanted = {"a": {"x": 1, "m0": 0, "m1": 2}, "l": [0], "b": {"s0": 1, "s1": 4}}
    assert [json.loads(docs.text("d", at, Level.ONE) or b"") for at in range(5)] == [wanted] * 5


def test_on_the_smaller_side_of_a_cut_what_depends_on_the_document_is_refused_and_not_done() -> None:
    s = Scenario(settings={"write_timeout_us": 500_000})
    s.start()
    docs = Docs(s)
    docs.put("d", b'{"n":1}')
    s.cut([0], [1, 2])
    assert s.until(lambda: s.sees_dead(0, 1, 2))
    planned = operations.edit(docs.collection, "d", merge_patch(b'{"n":5}'), Wanted(returning=True))
    assert isinstance(planned, Operation)
    answer = s.ask(planned.request, at=0).answer
    assert isinstance(answer, (Unavailable, Timeout, Broken)), answer
    end = docs.update("d", {"$inc": {"n": 1}}, at=1)
    assert isinstance(end, Done)
    s.heal()
    assert s.equal_within(60)
    assert docs.text("d", 0, Level.ONE) == b'{"n":2}'


# --- one row, several doors


def test_the_same_rows_are_read_and_written_through_cql() -> None:
    s = Scenario()
    s.start()
    docs = Docs(s)
    cql = Cql(s.cluster, 1)
    docs.put("rest", b'{ "a": {"b": 1.10}, "l": [1] }')
    assert cql.run("SELECT id, doc FROM docs.docs WHERE id = 'rest'") == [
        {"id": "rest", "doc": '{ "a": {"b": 1.10}, "l": [1] }'}
    ]
    docs.merge("rest", b'{"a":{"c":2}}')
    docs.update("rest", {"$push": {"l": 2}})
    assert cql.run("SELECT doc['a']['c'] AS c, doc['l']['1'] AS l FROM docs.docs WHERE id = 'rest'") == [
        {"c": "2", "l": "2"}
    ]
    cql.run("UPDATE docs.docs SET doc['a']['b'] = '{\"deep\": 1.50}' WHERE id = 'rest'")
    assert docs.text("rest") == b'{"a":{"b":{"deep": 1.50},"c":2},"l":[1,2]}'
    cql.run("DELETE doc['a']['c'] FROM docs.docs WHERE id = 'rest'")
    assert docs.text("rest") == b'{"a":{"b":{"deep": 1.50}},"l":[1,2]}'
    cql.run("INSERT INTO docs.docs (id, doc) VALUES ('cql', '{\"n\": 12345678901234567890123}')")
    end = docs.update("cql", {"$inc": {"n": 1}}, returning=True)
    assert isinstance(end, Done) and end.text == b'{"n":12345678901234567890124}'
    cql.run("INSERT INTO docs.docs (id) VALUES ('empty')")
    assert docs.text("empty") is None
    assert isinstance(docs.put("empty", b"{}", condition=Condition(none_match=("*",))), Done)
    docs.delete("cql")
    assert cql.run("SELECT id FROM docs.docs WHERE id = 'cql'") == []
    cql.run("DELETE FROM docs.docs WHERE id = 'rest'")
    assert docs.text("rest") is None


def test_what_expires_in_cql_expires_here_and_only_that() -> None:
    s = Scenario()
    s.start()
    docs = Docs(s)
    cql = Cql(s.cluster, 1)
    docs.put("d", b'{"a":5,"k":1}')
    docs.put("e", b"5")
    cql.run("UPDATE docs.docs USING TTL 2 SET doc['a']['b'] = '1' WHERE id = 'd'")
    cql.run("UPDATE docs.docs USING TTL 2 SET doc['a'] = '1' WHERE id = 'e'")
    cql.run("UPDATE docs.docs USING TTL 2 SET doc['a'] = '1' WHERE id = 'f'")
    assert [docs.text(key) for key in "def"] == [b'{"a":{"b":1},"k":1}', b'{"a":1}', b'{"a":1}']
    s.run(3)
    assert [docs.text(key) for key in "def"] == [b'{"k":1}', None, None]
    assert cql.run("SELECT doc FROM docs.docs WHERE id = 'd'") == [{"doc": '{"k":1}'}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[NaN]", "no JSON"),
        ("1e999999999", "exponent"),
        ("[" * 101 + "]" * 101, "100 levels"),
        ('"\\ud800"', "surrogate"),
    ],
)
def test_cql_takes_no_json_that_is_no_document(cql: Cql, text: str, says: str) -> None:
    assert says in cql.error(f"INSERT INTO docs.docs (id, doc) VALUES ('x', '{text}')").message


def test_in_cql_a_place_in_an_array_is_changed_with_a_condition_and_never_lost(docs: Docs, cql: Cql) -> None:
    def after(statement: str) -> bytes | None:
        docs.put("arr", b'{"l":["x",{"a":[1,2]},3],"o":{"0":"y"}}')
        cql.run(f"{statement} IF EXISTS")
        found = docs.text("arr")
        docs.put("arr", b'{"l":["x",{"a":[1,2]},3],"o":{"0":"y"}}')
        assert "IF EXISTS" in cql.error(statement).message
        assert docs.text("arr") == b'{"l":["x",{"a":[1,2]},3],"o":{"0":"y"}}'
        return found

    where = "WHERE id = 'arr'"
    assert after(f"UPDATE docs.docs SET doc['l']['0'] = '9' {where}") == (
        b'{"l":[9,{"a":[1,2]},3],"o":{"0":"y"}}'
    )
    assert after(f"UPDATE docs.docs SET doc['l']['1']['a']['1'] = '12345678901234567890123' {where}") == (
        b'{"l":["x",{"a":[1,12345678901234567890123]},3],"o":{"0":"y"}}'
    )
    assert after(f"UPDATE docs.docs SET doc['l']['1']['b'] = '{{}}' {where}") == (
        b'{"l":["x",{"a":[1,2],"b":{}},3],"o":{"0":"y"}}'
    )
    assert after(f"DELETE doc['l']['0'] FROM docs.docs {where}") == b'{"l":[{"a":[1,2]},3],"o":{"0":"y"}}'
    assert "elements" in cql.error(f"UPDATE docs.docs SET doc['l']['3'] = '1' {where} IF EXISTS").message
    assert (
        "nothing at" in cql.error(f"UPDATE docs.docs SET doc['l']['0']['b'] = '1' {where} IF EXISTS").message
    )
    cql.run(f"UPDATE docs.docs SET doc['o']['0'] = '1' {where}")
    cql.run("UPDATE docs.docs SET doc[?]['1'] = '2' WHERE id = ?", "o", "arr")
    assert docs.text("arr") == b'{"l":["x",{"a":[1,2]},3],"o":{"0":1,"1":2}}'
    cql.run("UPDATE docs.docs SET doc['0'] = '1' WHERE id = 'none'")
    assert docs.text("none") == b'{"0":1}'
