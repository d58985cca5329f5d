"""Questions about many documents, asked of whole simulated clusters whose replicas differ."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.consistency import Level
from core.gathering import Gathered, GatherRequest
from core.json_values import JsonError, render
from core.requests import Invalid, Unavailable, Written
from documents import operations, programs
from documents.finding import CountFold, FindQuery, Place, encode_place, find_query
from documents.finding_plans import ids_of, token_of_id
from documents.programs import encode_program
from documents.values import id_of
from lsm.keys import row_key
from node import gathers
from sim.cluster import SimCluster
from sim.real import node_of
from tests.documents.whole import (
    SECOND,
    aggregate,
    ask,
    cluster_of,
    count,
    gather,
    movies,
    page,
    put,
    settle,
)


def lagging(peers: int) -> tuple[SimCluster, dict[str, Any]]:
    """A cluster in which every peer in turn missed a third of the writes."""
    cluster = cluster_of(peers)
    documents = {}
    for turn in range(3):
        cluster.isolate(turn)
        for n in range(turn, 45, 3):
            documents[f"m{n}"] = {"n": n, "even": n % 2 == 0, "g": n % 4, "t": ["a", f"t{n % 3}"]}
            put(cluster, f"m{n}", documents[f"m{n}"], (turn + 1) % 3)
        cluster.heal()
        settle(cluster)
    return cluster, documents


@pytest.mark.parametrize("peers", [3, 5])
def test_what_was_acknowledged_is_found_through_every_peer(peers: int) -> None:
    cluster, documents = lagging(peers)
    evens = {name for name, document in documents.items() if document["even"]}
    for index in range(peers):
        found, cursor = page(cluster, index, {"filter": {"even": True}})
        assert set(found) == evens
        assert len(found) == len(evens)
        assert cursor is None
        assert count(cluster, index, {"t": "t1"}) == 15
        ranked, _ = page(cluster, index, {"sort": {"n": -1}, "limit": 5, "skip": 1})
        assert ranked == ["m43", "m42", "m41", "m40", "m39"]
        groups = aggregate(
            cluster, index, [{"$group": {"_id": "$g", "n": {"$sum": "$n"}}}, {"$sort": {"_id": 1}}]
        )
        assert [g["n"] for g in groups] == [sum(range(g, 45, 4)) for g in range(4)]


def test_documents_named_by_their_ids_are_all_that_is_looked_at() -> None:
    cluster, _ = lagging(3)
    ids = [f"m{n}" for n in range(0, 45, 2)]
    wanted = {"_id": {"$in": [*ids, "nobody"]}, "g": 2}
    found = find_query(movies(cluster), {"filter": wanted})
    assert isinstance(found, FindQuery)
    named = ids_of(found.condition)
    assert named is not None
    tokens = tuple(token_of_id(one) for one in named)
    for index in range(3):
        fold = CountFold(render(wanted))
        answer = gather(cluster, index, fold, tokens=tokens, examined_max=len(ids))
        assert isinstance(answer, Gathered), answer
        assert fold.count == 11
        assert sum(one.examined for one in answer.served) == len(ids)
    pages: list[str] = []
    body: dict[str, Any] = {"filter": wanted, "limit": 4}
    while len(pages) < 20:
        query = find_query(movies(cluster), body)
        assert isinstance(query, FindQuery)
        first = query.fold(ordered=True)
        after = query.after.key if query.after is not None else b""
        assert isinstance(gather(cluster, 1, first, after=after, tokens=tokens), Gathered)
        documents, cursor = first.result()
        pages += [id_of(one.key) for one in documents]
        if cursor is None:
            break
        body["cursor"] = cursor
    assert pages == [one for one in named if one[1:].isdigit() and int(one[1:]) % 4 == 2]


@pytest.mark.parametrize("sort", [None, {"g": 1, "n": -1}])
def test_pages_go_on_at_any_peer_and_give_everything_once(sort: Any) -> None:
    cluster, documents = lagging(3)
    found: list[str] = []
    cursor, index = None, 0
    while True:
        ids, cursor = page(cluster, index, {"limit": 7, "sort": sort, "cursor": cursor})
        found += ids
        if cursor is None:
            break
        assert len(ids) == 7
        index = (index + 1) % 3
    assert sorted(found) == sorted(documents)
    if sort:
        assert found == sorted(documents, key=lambda d: (documents[d]["g"], -documents[d]["n"]))


@pytest.mark.parametrize("sort", [None, {"g": -1, "n": 1}])
@pytest.mark.parametrize("rows", [1, 4, 13])
def test_pages_are_the_same_however_the_work_was_cut(
    sort: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, _ = lagging(5)
    body = {"filter": {"n": {"$gte": 3}}, "sort": sort, "limit": 9, "skip": 2}
    whole = page(cluster, 0, {**body, "limit": 1_000})[0]
    assert len(whole) == 40
    monkeypatch.setattr(gathers, "PIECE_ROWS_MAX", rows)
    monkeypatch.setattr(programs, "PART_BYTES_MAX", 200)  # a few documents
    found: list[str] = []
    cursor = None
    while True:
        ids, cursor = page(cluster, 1, {**body, "cursor": cursor})
        found += ids
        if cursor is None:
            break
    assert found == whole


def test_a_page_goes_on_after_its_coordinator_died() -> None:
    cluster, documents = lagging(3)
    first, cursor = page(cluster, 0, {"limit": 20})
    cluster.kill(0)
    assert cluster.run_until(
        lambda: not node_of(cluster, 1).swim.is_alive(cluster.machines[0].peer), 60 * SECOND
    )
    rest, end = page(cluster, 1, {"limit": 100, "cursor": cursor})
    assert sorted(first + rest) == sorted(documents)
    assert end is None


def test_a_peer_that_dies_while_it_works_is_gone_on_for_by_another() -> None:
    cluster, documents = lagging(5)
    query = find_query(movies(cluster), {})
    fold = query.fold(ordered=False)  # type: ignore[union-attr]
    absorb = fold.absorb

    def absorbing(server: bytes, part: bytes) -> bool:
        if cluster.machines[4].process is not None:
            cluster.kill(4)
        return bool(absorb(server, part))

    fold.absorb = absorbing  # type: ignore[method-assign]
    answer = gather(cluster, 0, fold)
    assert isinstance(answer, Gathered), answer
    assert len(fold.result()[0]) == len(documents)


def test_looking_at_too_much_is_refused_and_says_what_to_do() -> None:
    cluster, _ = lagging(3)
    answer = gather(cluster, 0, CountFold(b'{"n":1}'), examined_max=20)
    assert isinstance(answer, Invalid)
    assert answer.code == "scan_refused"
    assert '"allow_scan": true' in answer.detail
    assert count(cluster, 0, {"n": 1}, examined_max=45) == 1
    ids, cursor = page(cluster, 0, {"limit": 3})
    assert len(ids) == 3
    assert cursor is not None


def test_cursors_are_bound_to_collection_filter_and_order() -> None:
    cluster = cluster_of(3)
    for n in range(4):
        put(cluster, str(n), {"n": n})
    _, cursor = page(cluster, 0, {"filter": {"n": {"$gte": 0}}, "limit": 2})
    for body in (
        {"filter": {"n": {"$gte": 1}}, "cursor": cursor},
        {"filter": {"n": {"$gte": 0}}, "sort": {"n": 1}, "cursor": cursor},
        {"filter": {"n": {"$gte": 0}}, "cursor": cursor[:-2]},
        {"cursor": "x"},
        {"cursor": 7},
    ):
        refused = find_query(movies(cluster), body)
        assert isinstance(refused, Invalid)
        assert refused.code == "bad_cursor"
        assert "begin again without it" in refused.detail


@pytest.mark.parametrize("body", [{}, {"sort": {"n": 1}}])
def test_a_cursor_that_no_page_gave_is_refused(body: dict[str, Any]) -> None:
    cluster = cluster_of(3)
    for n in range(3):
        put(cluster, str(n), {"n": n})
    collection = movies(cluster)
    query = find_query(collection, body)
    assert isinstance(query, FindQuery)
    key = row_key(collection.table, token_of_id("1"), b"1")
    sound = Place(collection.table, query.what, b"[1]" if body else b"[]", key)
    values = (b"[1,2]", b"[" if body else b"[1]", b"5", b"{}")
    others: list[dict[str, Any]] = [{"values": text} for text in values]
    others += [{"skip": -5}, {"skip": 10**9}, {"key": b""}, {"key": b"x"}]
    others += [{"key": row_key(collection.table + 1, 5, b"1")}]
    assert isinstance(find_query(collection, {**body, "cursor": encode_place(sound)}), FindQuery)
    for other in others:
        cursor = encode_place(msgspec.structs.replace(sound, **other))
        refused = find_query(collection, {**body, "cursor": cursor})
        assert isinstance(refused, Invalid), other
        assert refused.code == "bad_cursor"


def test_a_program_that_is_none_ends_the_request_and_not_the_peer() -> None:
    cluster = cluster_of(3)
    state = node_of(cluster, 0).metadata.state
    collection = movies(cluster)
    program = encode_program(programs.Program(programs.FIND, after=b"[1]", after_key=b"x"))
    keyspace = state.keyspaces[collection.keyspace]
    assert isinstance(programs.start_program(program, state.tables[collection.table], keyspace, int), str)


def test_one_replica_alone_would_not_do() -> None:
    cluster, _ = lagging(3)
    assert min(count(cluster, index, {}, level=Level.ONE) for index in range(3)) < 45
    assert count(cluster, 0, {}, level=Level.ALL) == 45
    assert count(cluster, 0, {}, level=Level.ONE) == 45  # it has followed


def test_deleted_and_expired_documents_are_not_there() -> None:
    cluster, _ = lagging(3)
    collection = movies(cluster)
    deleted = operations.delete(collection, "m1")
    mortal = operations.put(collection, "mortal", b'{"n":1}', operations.Wanted(ttl_s=5))
    for planned in (deleted, mortal):
        assert isinstance(planned, operations.Operation)
        assert isinstance(ask(cluster, 0, planned.request), Written)
    assert count(cluster, 1, {}) == 45
    assert count(cluster, 1, {"_id": "mortal"}) == 1
    cluster.run_for(6 * SECOND)
    assert count(cluster, 2, {}) == 44
    assert page(cluster, 2, {"filter": {"n": 1}}) == ([], None)


def test_large_documents_make_short_pages() -> None:
    cluster = cluster_of(3)
    for n in range(12):
        put(cluster, f"d{n:02}", {"n": n, "text": "x" * 900_000})
    found: list[str] = []
    cursor, pages = None, 0
    while True:
        ids, cursor = page(cluster, pages % 3, {"sort": {"n": 1}, "cursor": cursor})
        found += ids
        pages += 1
        if cursor is None:
            break
    assert found == [f"d{n:02}" for n in range(12)]
    assert pages > 1


def test_a_level_that_cannot_be_reached_is_unavailable() -> None:
    cluster, _ = lagging(3)
    cluster.kill(1)
    cluster.kill(2)
    alive = node_of(cluster, 0).swim.is_alive
    assert cluster.run_until(lambda: not any(alive(m.peer) for m in cluster.machines[1:]), 60 * SECOND)
    assert gather(cluster, 0, CountFold(b"{}")) == Unavailable(2, 1, Level.QUORUM)
    assert isinstance(gather(cluster, 0, CountFold(b"{}"), level=Level.ONE), Gathered)
    assert isinstance(gather(cluster, 0, CountFold(b"{}"), level=Level.SERIAL), Invalid)


def test_a_client_that_goes_away_ends_the_work() -> None:
    cluster, _ = lagging(3)
    node = node_of(cluster, 0)
    request = GatherRequest(movies(cluster).table, Level.QUORUM, CountFold(b"{}"))
    node.on_request(10**9, request, node.inside.world.monotonic_us() + 10 * SECOND)
    assert node.gathers.under_way
    node.on_cancel(10**9)
    assert not node.gathers.under_way
    assert not node.admission.requests
    cluster.run_for(SECOND)
    assert not node.gathers.serving.runs


def test_what_a_peer_cannot_compute_ends_the_request_with_the_reason() -> None:
    cluster, _ = lagging(3)
    refused = aggregate(cluster, 1, [{"$project": {"x": {"$add": ["$t", 1]}}}])
    assert isinstance(refused, Invalid)
    assert refused.detail.startswith("pipeline[0].$project.x.$add: a number belongs here")
    planned = operations.put(movies(cluster), "long", b'{"n": 1e6000}')
    assert isinstance(planned, operations.Operation)
    ask(cluster, 0, planned.request)
    refused = aggregate(cluster, 1, [{"$project": {"x": {"$toString": {"$toInt": "$n"}}}}])
    assert isinstance(refused, Invalid)
    assert "a number has 6001 digits" in refused.detail


@pytest.mark.parametrize("bug", [OverflowError("none"), KeyError("e"), JsonError("malformed", "too long")])
def test_what_nobody_foresaw_ends_the_request_and_not_the_peer(
    monkeypatch: pytest.MonkeyPatch, bug: Exception
) -> None:
    cluster, _ = lagging(3)

    def fails(*_: Any) -> bool:
        raise bug

    monkeypatch.setattr(programs._Counting, "take", fails)
    answer = gather(cluster, 1, fold := CountFold(b"{}"))
    assert not isinstance(answer, Gathered) or fold.refused is not None
    assert fold.refused is not None
    assert f"this cannot be computed of what is there ({type(bug).__name__}" in fold.refused.detail
    monkeypatch.undo()
    monkeypatch.setattr(CountFold, "take", fails)
    gather(cluster, 1, fold := CountFold(b"{}"))
    assert fold.refused is not None
    monkeypatch.undo()
    assert all(count(cluster, index, {}) == 45 for index in range(3)), "all are there"
