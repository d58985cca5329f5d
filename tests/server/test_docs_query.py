"""`_find` and its like over REST: what they answer, what they refuse and with which word."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from core.cell import VALUE
from core.consistency import Level
from core.gathering import GatherRequest
from core.mutation import INSERT
from core.requests import ConditionalRequest, RowWrite, Timeout, Write, WriteRequest
from core.settings import Settings
from documents import operations
from documents.collections import find
from lsm.keys import ROW_SUFFIX
from tests.server.harness import run, until
from tests.server.rest_client import Door, Reply, door, head, problem, read_reply

MOVIES = {
    "m1": {"title": "Old", "year": 1995, "genres": ["drama"], "score": 7.5},
    "m2": {"title": "Mid", "year": 2000, "genres": ["drama", "crime"], "score": 8},
    "m3": {"title": "New", "year": 2010, "genres": ["comedy"], "score": 6.25},
    "m4": {"title": "Next", "year": 2020, "genres": []},
}


async def fill(ask: Door) -> None:
    for name, document in MOVIES.items():
        assert (await ask("PUT", f"/v1/docs/movies/{name}", json.dumps(document).encode())).status == 204


async def post(ask: Door, operation: str, body: Any, query: str = "") -> Reply:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask("POST", f"/v1/docs/movies/{operation}{query}", text)


def test_find_pages_through_documents_that_meet_a_filter() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            body = {"filter": {"year": {"$gte": 2000}}, "sort": {"year": -1}, "limit": 2}
            first = (await post(ask, "_find", body)).json()
            assert [one["id"] for one in first["documents"]] == ["m4", "m3"]
            assert first["documents"][1]["document"] == MOVIES["m3"]
            found = await ask("GET", "/v1/docs/movies/m3")
            assert first["documents"][1]["etag"] == found.headers["etag"]
            second = (await post(ask, "_find", {**body, "cursor": first["cursor"]})).json()
            assert [one["id"] for one in second["documents"]] == ["m2"]
            assert second["cursor"] is None
            unsorted = (await post(ask, "_find", {"skip": 1})).json()
            assert len(unsorted["documents"]) == 3
            assert len((await post(ask, "_find", b"")).json()["documents"]) == 4

    run(work())


def test_a_document_comes_back_in_its_bytes_or_as_projected() -> None:
    async def work() -> None:
        async with door() as ask:
            text = b'{ "n" : 1.10, "big": 123456789012345678901234567890, "a": {"b": 1, "c": 2} }'
            assert (await ask("PUT", "/v1/docs/movies/x", text)).status == 204
            whole = await post(ask, "_find", {})
            assert b'"document":' + text + b"}" in whole.body
            some = await post(ask, "_find", {"projection": {"big": 1, "a.b": 1, "_id": 0}})
            kept = b'"document":{"big":123456789012345678901234567890,"a":{"b":1}}}'
            assert kept in some.body
            assert b'"id"' not in some.body

    run(work())


def test_count_distinct_and_aggregate() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            assert (await post(ask, "_count", {"filter": {"genres": "drama"}})).json() == {"count": 2}
            values = (await post(ask, "_distinct", {"path": "genres"})).json()
            assert values == {"values": ["comedy", "crime", "drama"]}
            stages = [
                {"$match": {"year": {"$lt": 2015}}},
                {"$unwind": "$genres"},
                {"$group": {"_id": "$genres", "n": {"$sum": 1}, "mean": {"$avg": "$score"}}},
                {"$sort": {"_id": 1}},
            ]
            groups = (await post(ask, "_aggregate", {"pipeline": stages})).json()["documents"]
            assert groups == [
                {"_id": "comedy", "n": 1, "mean": 6.25},
                {"_id": "crime", "n": 1, "mean": 8},
                {"_id": "drama", "n": 2, "mean": 7.75},
            ]

    run(work())


def test_explain_says_how_and_what_each_peer_did() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            explained = (await post(ask, "_count", {"filter": {"year": 2000}, "explain": True})).json()
            assert explained["count"] == 1
            told = explained["explain"]
            assert told["plan"] == {"kind": "scan"}
            assert told["level"] == "quorum"
            assert told["examined"] == 4
            assert told["took_us"] > 0
            (peer,) = told["peers"]
            assert (peer["peer"], peer["followed"], peer["examined"]) == ("n1", ["n2"], 4)
            found = (await post(ask, "_find", {"filter": {"year": 2000}, "explain": True})).json()
            assert found["explain"]["peers"][0]["returned"] == 1

    run(work())


def test_update_by_filter_changes_what_still_meets_it() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            body = {"filter": {"genres": "drama"}, "update": {"$inc": {"year": 1}, "$set": {"seen": True}}}
            assert (await post(ask, "_update", body)).json() == {"matched": 2, "modified": 2, "cursor": None}
            found = (await ask("GET", "/v1/docs/movies/m2")).json()
            assert (found["year"], found["seen"]) == (2001, True)
            assert "seen" not in (await ask("GET", "/v1/docs/movies/m3")).json()
            merged = {"filter": {"_id": "m3"}, "update": {"score": None, "year": 1}}
            assert (await post(ask, "_update", merged)).json()["modified"] == 1
            assert "score" not in (await ask("GET", "/v1/docs/movies/m3")).json()
            patch = {"filter": {"_id": "m4"}, "update": [{"op": "remove", "path": "/genres"}], "limit": 1}
            assert (await post(ask, "_update", patch)).json()["modified"] == 1
            conditional = [r for r in ask.node.requests if isinstance(r, ConditionalRequest)]
            assert len(conditional) == 4

    run(work())


def test_what_changed_after_it_was_found_is_judged_again() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            node = ask.node
            judge, write = node._judge, node._write
            changed: list[bytes] = []

            def judge_late(request: ConditionalRequest) -> Any:
                """Somebody else is first: the document has another year by now."""
                if not changed:
                    changed.append(request.partition)
                    collection = find(node.state, "movies")
                    assert collection is not None
                    other = operations.put(collection, request.partition.decode(), b'{"year":3000}')
                    assert isinstance(other, operations.Operation)
                    assert isinstance(other.request, WriteRequest)
                    write(other.request)
                return judge(request)

            node._judge = judge_late  # type: ignore[method-assign]
            body = {"filter": {"year": {"$lt": 2005}}, "update": {"$set": {"year": 2999}}}
            assert (await post(ask, "_update", body)).json() == {"matched": 1, "modified": 1, "cursor": None}
            left = await ask("GET", f"/v1/docs/movies/{changed[0].decode()}")
            assert left.json() == {"year": 3000}

    run(work())


def test_delete_by_filter() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            one = (await post(ask, "_delete", {"filter": {}, "limit": 1})).json()
            assert one["deleted"] == 1
            assert one["cursor"]
            rest = (await post(ask, "_delete", {"filter": {"year": {"$gt": 0}}})).json()
            assert rest == {"deleted": 3, "cursor": None}
            assert (await post(ask, "_count", {})).json() == {"count": 0}

    run(work())


def nested(levels: int) -> bytes:
    return b'{"filter":' + b'{"$and":[' * levels + b'{"a":1}' + b"]}" * levels + b"}"


REFUSED: list[tuple[str, Any, str, str]] = [
    ("_find", {"filter": {"$where": "while(1);"}}, "bad-filter", "filter.$where: $where is not supported"),
    ("_find", {"filter": {"$or": [{"a": n} for n in range(10_000)]}}, "bad-filter", "at most 1000 clauses"),
    (
        "_find",
        {"filter": {"a": {"$regex": "(a+)+$((b{999}){999}){999}"}}},
        "bad-filter",
        "$regex: the pattern",
    ),
    ("_find", nested(60), "bad-body", "nested more than 100 levels"),
    ("_find", nested(40_000), "bad-body", "nested more than 100 levels"),
    ("_find", b"[" * 500_000, "bad-body", ""),
    ("_find", {"filter": 5}, "bad-filter", "a filter is a JSON object"),
    ("_find", {"sort": {"a": 3}}, "bad-sort", "1 ascends and -1 descends"),
    ("_find", {"projection": {"a": 1, "b": 0}}, "bad-projection", "1s and 0s"),
    ("_find", {"limit": 0}, "bad-limit", "limit is a whole number from 1 to 10000"),
    ("_find", {"skip": 10_001}, "bad-limit", "go on by cursor"),
    ("_find", {"cursor": "AAAA"}, "bad-cursor", "begin again without it"),
    ("_find", {"level": "most"}, "bad-level", "no level is called 'most'"),
    ("_find", {"filters": {}}, "bad-body", "_find has no 'filters'; there are filter, level"),
    ("_find", {"explain": 1}, "bad-body", "explain is true or false"),
    ("_find", [], "bad-body", "_find takes a JSON object"),
    ("_find", b'{"filter":{},"filter":{}}', "bad-body", "is twice in one object"),
    ("_distinct", {}, "bad-query", "path: a path is empty"),
    ("_aggregate", {}, "bad-pipeline", "a pipeline is an array of stages"),
    ("_aggregate", {"pipeline": [{"$out": "x"}]}, "bad-pipeline", "$out is not supported"),
    (
        "_aggregate",
        {"pipeline": [{"$project": {"a": {"$add": ["$title", 1]}}}]},
        "bad-query",
        "a number belongs",
    ),
    ("_update", {"filter": {}}, "bad-body", "_update takes update"),
    ("_update", {"update": {"$set": {"a": 1}}}, "bad-body", "say which documents"),
    ("_update", {"filter": {}, "update": {"$nope": {}}}, "bad-patch", "$nope"),
    ("_delete", {}, "bad-body", "say which documents"),
]


@pytest.mark.parametrize(("operation", "body", "kind", "said"), REFUSED)
def test_bad_input_is_a_clear_400(operation: str, body: Any, kind: str, said: str) -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            reply = await post(ask, operation, body)
            assert problem(reply) == (400, kind)
            assert said in reply.json()["detail"]

    run(work())


def test_a_cursor_of_another_collection_is_refused() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            for name in ("a", "b"):
                assert (await ask("PUT", f"/v1/docs/other/{name}", b"{}")).status == 204
            other = (await ask("POST", "/v1/docs/other/_find", b'{"limit":1}')).json()["cursor"]
            assert other
            reply = await post(ask, "_find", {"limit": 1, "cursor": other})
            assert problem(reply) == (400, "bad-cursor")
            assert "no cursor of this filter and sort in movies" in reply.json()["detail"]

    run(work())


def test_a_scan_beyond_the_limit_needs_to_be_allowed() -> None:
    async def work() -> None:
        settings = msgspec.structs.replace(Settings(), documents_scanned_max=3)
        async with door(settings) as ask:
            await fill(ask)
            some = {"filter": {"year": {"$exists": True}}}
            assert problem(await post(ask, "_count", some)) == (400, "scan-refused")
            assert (await post(ask, "_count", {**some, "allow_scan": True})).status == 200
            assert (await post(ask, "_count", {})).json() == {"count": 4}, "no index could be made for it"
            assert (await post(ask, "_count", {"filter": {"_id": "m1", "year": 1}})).status == 200
            limits = [r.examined_max for r in ask.node.requests if isinstance(r, GatherRequest)]
            assert limits == [3, 0, 0, 0]

    run(work())


def test_levels_timeouts_methods_and_unknown_collections() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            await post(ask, "_count", {"level": "ALL"}, "?timeout_ms=1234")
            await post(ask, "_count", {}, "?consistency=one")
            asked = [r for r in ask.node.requests if isinstance(r, GatherRequest)]
            assert [request.level for request in asked] == [Level.ALL, Level.ONE]
            assert problem(await ask("GET", "/v1/docs/movies/_find")) == (405, "method-not-allowed")
            assert problem(await ask("POST", "/v1/docs/none/_find", b"{}")) == (404, "no-such-collection")
            assert problem(await ask("POST", "/v1/docs/movies/_find/x", b"{}")) == (404, "not-found")
            ask.node.answers.append(Timeout(1, 2, Level.QUORUM, write=False))
            assert problem(await post(ask, "_count", {})) == (504, "timeout")

    run(work())


def test_a_document_that_cannot_be_read_is_named() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            collection = find(ask.node.state, "movies")
            assert collection is not None
            column = collection.document_column
            row = RowWrite(ROW_SUFFIX, (Write(column, (), VALUE, b'{"n":1e999999}'),))
            ask.node._write(WriteRequest(collection.table, b"far", (row,), Level.ONE, INSERT))
            for operation, body in (
                ("_count", {"filter": {"n": 1}}),
                ("_find", {"projection": {"n": 1}}),
                ("_aggregate", {"pipeline": [{"$sort": {"n": 1}}]}),
                ("_distinct", {"path": "n"}),
            ):
                reply = await post(ask, operation, body)
                assert problem(reply) == (400, "bad-query")
                assert "document: 'far' cannot be read: the exponent of 1e999999" in reply.json()["detail"]
            assert (await post(ask, "_count", {})).json() == {"count": 5}

    run(work())


def test_a_pipeline_reads_other_collections_on_its_way() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            for name, film in (("ann", "m1"), ("bob", "nothing")):
                await ask("PUT", f"/v1/docs/fans/{name}", json.dumps({"film": film}).encode())
            lookup = {"from": "movies", "localField": "film", "foreignField": "_id", "as": "of"}
            stages = [{"$lookup": lookup}, {"$project": {"n": {"$size": "$of"}}}, {"$sort": {"_id": 1}}]
            found = await ask("POST", "/v1/docs/fans/_aggregate", json.dumps({"pipeline": stages}).encode())
            assert found.json()["documents"] == [{"_id": "ann", "n": 1}, {"_id": "bob", "n": 0}]
            stages = [{"$unionWith": "movies"}, {"$unionWith": "nowhere"}, {"$count": "n"}]
            found = await ask("POST", "/v1/docs/fans/_aggregate", json.dumps({"pipeline": stages}).encode())
            assert found.json()["documents"] == [{"n": 6}]
            for bad in ([{"$lookup": {**lookup, "from": "a b"}}], [{"$lookup": lookup}, {"$nope": 1}]):
                body = json.dumps({"pipeline": bad}).encode()
                assert (await ask("POST", "/v1/docs/fans/_aggregate", body)).status == 400

    run(work())


def test_an_upsert_may_make_the_first_document() -> None:
    async def work() -> None:
        async with door() as ask:
            body: dict[str, Any] = {"filter": {"_id": "a"}, "update": {"$inc": {"n": 1}}}
            target = "/v1/docs/new/_update"
            assert problem(await ask("POST", target, json.dumps(body).encode()))[0] == 404
            bad = json.dumps({**body, "upsert": True, "multi": 5}).encode()
            assert problem(await ask("POST", target, bad)) == (400, "bad-body")
            assert (await ask("GET", "/v1/collections/new")).status == 404
            made = await ask("POST", target, json.dumps({**body, "upsert": True}).encode())
            assert made.json()["upserted"] == "a"
            assert (await ask("GET", "/v1/docs/new/a")).json() == {"n": 1}

    run(work())


def test_an_index_may_be_the_first_of_its_collection() -> None:
    async def work() -> None:
        async with door() as ask:
            assert (await ask("PUT", "/v1/docs/new/_indexes/bad", b"{}")).status == 400
            assert (await ask("GET", "/v1/collections/new")).status == 404, "what is no index makes nothing"
            made = await ask("PUT", "/v1/docs/new/_indexes/mail", b'{"paths":{"mail":1}}')
            assert made.status == 201
            assert (await ask("GET", "/v1/collections/new")).status == 200

    run(work())


def test_indexes_are_made_described_and_dropped() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            year = {"paths": {"year": 1, "title": -1}, "filter": {"year": {"$gt": 1990}}}
            target = "/v1/docs/movies/_indexes/by_year"
            made = await ask("PUT", target, json.dumps(year).encode())
            assert (made.status, made.json()) == (
                201, {"name": "by_year", **year, "built": True, "progress": 1.0}
            )  # fmt: skip
            assert (await ask("PUT", target, json.dumps(year).encode())).status == 200
            other = json.dumps({"paths": {"year": 1}}).encode()
            assert problem(await ask("PUT", target, other)) == (409, "index-exists")
            assert (await ask("PUT", "/v1/docs/movies/_indexes/plain", other)).status == 201
            again = await ask("PUT", "/v1/docs/movies/_indexes/twin", other)
            assert again.status == 409
            listed = (await ask("GET", "/v1/docs/movies/_indexes")).json()["indexes"]
            assert [one["name"] for one in listed] == ["by_year", "plain"]
            assert (await ask("GET", target)).json()["paths"] == {"year": 1, "title": -1}
            explained = (await post(ask, "_count", {"filter": {"year": 2000}, "explain": True})).json()
            plan = explained["explain"]["plan"]
            assert (plan["kind"], plan["index"], plan["paths"]) == ("index", "plain", ["year"])
            assert (await ask("DELETE", target)).status == 204
            assert problem(await ask("DELETE", target)) == (404, "no-such-index")
            assert problem(await ask("GET", target)) == (404, "no-such-index")
            bad = await ask("PUT", target, b'{"paths":{"a":1},"filter":{"$where":"1"}}')
            assert problem(bad) == (400, "bad-index")
            assert problem(await ask("POST", target, b"{}")) == (405, "method-not-allowed")

    run(work())


def test_a_mapping_with_an_analyzer_that_does_not_exist_is_refused() -> None:
    async def work() -> None:
        async with door() as ask:
            body = b'{"mapping": {"fields": {"t": {"type": "text", "analyzer": "klingon"}}}}'
            reply = await ask("PUT", "/v1/collections/movies", body)
            assert reply.status == 400 and "klingon" in reply.json()["detail"], reply.body

    run(work())


def test_an_update_that_nothing_meets_may_make_a_document() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            update = {"$inc": {"views": 1}, "$setOnInsert": {"made": True}, "$set": {"year": 1}}
            body = {"filter": {"_id": "new", "title": "X", "year": 5}, "update": update, "upsert": True}
            done = (await post(ask, "_update", body)).json()
            assert done == {"matched": 0, "modified": 0, "cursor": None, "upserted": "new"}
            made = (await ask("GET", "/v1/docs/movies/new")).json()
            assert made == {"views": 1, "made": True, "title": "X", "year": 1}
            body["filter"] = {"_id": "new"}
            done = (await post(ask, "_update", body)).json()
            assert done == {"matched": 1, "modified": 1, "cursor": None, "upserted": None}
            assert (await ask("GET", "/v1/docs/movies/new")).json()["views"] == 2
            again = {"filter": {"_id": "new", "views": 9}, "update": {"$set": {"a": 1}}, "upsert": True}
            refused = await post(ask, "_update", again)
            assert problem(refused) == (412, "precondition-failed") and refused.json()["id"] == "new"
            merge = {"filter": {"a.b": 1}, "update": {"c": 2, "d": None}, "upsert": True}
            name = (await post(ask, "_update", merge)).json()["upserted"]
            assert (await ask("GET", f"/v1/docs/movies/{name}")).json() == {"a": {"b": 1}, "c": 2}
            patch = {"filter": {"zz": 1}, "update": [{"op": "add", "path": "/a", "value": 1}], "upsert": True}
            assert "JSON Patch" in (await post(ask, "_update", patch)).json()["detail"]
            twice = {"filter": {"$and": [{"q": 1}, {"q": 2}]}, "update": {"$set": {"a": 1}}, "upsert": True}
            assert "two values" in (await post(ask, "_update", twice)).json()["detail"]

    run(work())


def test_one_of_many_and_what_changes_nothing() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            body = {"filter": {"genres": "drama"}, "update": {"$set": {"seen": True}}, "multi": False}
            done = (await post(ask, "_update", body)).json()
            assert (done["matched"], done["modified"]) == (1, 1)
            done = (await post(ask, "_update", {**body, "multi": True})).json()
            assert (done["matched"], done["modified"]) == (2, 1), "one of them has it already"
            done = (await post(ask, "_delete", {"filter": {}, "multi": False})).json()
            assert done["deleted"] == 1
            assert (await post(ask, "_count", {})).json() == {"count": 3}
            conflict = {"filter": {}, "update": {"$push": {"score": 1}, "$inc": {"n": 1}}}
            found = (await post(ask, "_update", conflict)).json()
            assert found["type"] == "patch-conflict"
            changed = (await post(ask, "_count", {"filter": {"n": 1}})).json()["count"]
            assert found["modified"] == changed, "those beside the one that could not be changed count, too"

    run(work())


def test_an_update_by_filter_changes_the_elements_that_it_means() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/movies/m1", b'{"parts": [{"n": 1, "s": 5}, {"n": 2, "s": 8}]}')

            async def changed(body: Any) -> Any:
                assert (await post(ask, "_update", body)).json()["modified"] == 1
                return [one["s"] for one in (await ask("GET", "/v1/docs/movies/m1")).json()["parts"]]

            each = {"filter": {"_id": "m1"}, "update": {"$inc": {"parts.$[].s": 1}}}
            assert await changed(each) == [6, 9]
            named = {"filter": {}, "update": {"$set": {"parts.$[p].s": 0}}}
            assert await changed({**named, "array_filters": [{"p.s": {"$gt": 6}}]}) == [6, 0]
            assert await changed({**named, "arrayFilters": [{"p.n": 1}]}) == [0, 0]
            found = {"filter": {"parts.n": 2}, "update": {"$set": {"parts.$.s": 7}}}
            assert await changed(found) == [0, 7]
            unused = await post(ask, "_update", {**each, "array_filters": [{"p": 1}]})
            assert problem(unused) == (400, "bad-patch")
            assert "the array filter 'p' is not used" in unused.json()["detail"]

    run(work())


def test_an_update_leaves_the_id_and_an_upsert_may_give_it() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/movies/m1", b'{"a": 1}')
            for update in ({"$set": {"_id": "x"}}, {"_id": "x"}, {"$unset": {"_id": ""}}):
                refused = await post(ask, "_update", {"filter": {}, "update": update})
                assert problem(refused) == (400, "bad-patch")
                assert "the id of a document is its key" in refused.json()["detail"]
            body = {"filter": {"k": 2}, "update": {"$setOnInsert": {"_id": "new", "n": 1}, "$set": {"s": 1}}}
            made = await post(ask, "_update", {**body, "upsert": True})
            assert made.json()["upserted"] == "new"
            assert (await ask("GET", "/v1/docs/movies/new")).json() == {"k": 2, "n": 1, "s": 1}
            again = await post(ask, "_update", {**body, "upsert": True})
            assert (again.json()["matched"], again.json()["upserted"]) == (1, None)

    run(work())


def test_an_expression_over_the_whole_document_finds_and_says_what_it_cannot_compute() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            newer = {"filter": {"score": 6.25, "$expr": {"$gt": ["$year", {"$multiply": ["$score", 300]}]}}}
            found = (await post(ask, "_find", newer)).json()["documents"]
            assert [one["id"] for one in found] == ["m3"]
            assert (await post(ask, "_count", {"filter": {"$expr": {"$eq": ["$_id", "m2"]}}})).json() == {
                "count": 1
            }
            updated = await post(ask, "_update", {**newer, "update": {"$set": {"new": True}}})
            assert updated.json()["modified"] == 1
            failed = await post(ask, "_find", {"filter": {"$expr": {"$add": ["$title", 1]}}})
            assert problem(failed) == (400, "bad-query")
            assert "filter.$expr.$add: a number belongs here" in failed.json()["detail"]

    run(work())


def test_updates_by_a_pipeline_and_what_time_it_is() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)
            stages = [{"$set": {"age": {"$subtract": [2020, "$year"]}, "at": "$$NOW", "who": "$_id"}}]
            told = await post(ask, "_update", {"filter": {"year": {"$lt": 2005}}, "update": stages})
            assert told.json() == {"matched": 2, "modified": 2, "cursor": None}
            kept = (await ask("GET", "/v1/docs/movies/m2")).json()
            assert (kept["age"], kept["who"], kept["title"]) == (20, "m2", "Mid")
            for kind in ("application/json", "application/vnd.sullae.update+json"):
                text = json.dumps([{"$set": {"age": {"$add": ["$age", 1]}}}]).encode()
                done = await ask("PATCH", "/v1/docs/movies/m2", text, {"Content-Type": kind})
                assert done.status == 204
            assert (await ask("GET", "/v1/docs/movies/m2")).json()["age"] == 22
            since = {"$expr": {"$lt": ["$at", "$$NOW"]}}
            assert (await post(ask, "_count", {"filter": since})).json() == {"count": 4}  # nothing is below
            late = {"filter": {"_id": "m2"}, "projection": {"late": since["$expr"]}}
            found = await post(ask, "_find", late)
            assert found.json()["documents"][0]["document"] == {"late": True}
            made = {"filter": {"_id": "m9"}, "update": [{"$set": {"n": 1}}], "upsert": True}
            assert (await post(ask, "_update", made)).json()["upserted"] == "m9"
            bad = {"filter": {}, "update": [{"$group": {"_id": None}}]}
            assert problem(await post(ask, "_update", bad)) == (400, "bad-patch")

    run(work())


def test_a_projection_computes_and_shows_the_element_that_was_found() -> None:
    async def work() -> None:
        async with door() as ask:
            await fill(ask)

            async def shown(**body: Any) -> Any:
                found = (await post(ask, "_find", body)).json()
                return [one["document"] for one in found["documents"]]

            genres = {"filter": {"genres": {"$in": ["crime"]}}, "projection": {"genres.$": 1}}
            assert await shown(**genres) == [{"genres": ["crime"]}]
            half = {"$divide": ["$year", 2]}
            computed = await shown(filter={"_id": "m1"}, projection={"half": half, "t": "$title"})
            assert computed == [{"half": 997.5, "t": "Old"}]
            unfit = await post(ask, "_find", {"projection": {"genres.$": 1}})
            assert problem(unfit) == (400, "bad-projection")
            wrong = {"filter": {"_id": "m1"}, "projection": {"x": {"$add": ["$title", 1]}}}
            told = await post(ask, "_find", wrong)
            assert problem(told) == (400, "bad-query")
            assert "projection.x" in told.json()["detail"]

    run(work())


@pytest.mark.parametrize("operation", ["_find", "_count", "_aggregate", "_update"])
def test_a_collection_that_is_dropped_before_the_question_is_whole_is_not_there(operation: str) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/demo/k", b"{}")
            body = b'{"pipeline": []}' if operation == "_aggregate" else b'{"filter": {"a": 1}}'
            body = b'{"filter": {"a": 1}, "update": {"$set": {"a": 2}}}' if operation == "_update" else body
            reader, writer = await ask.open()
            writer.write(head("POST", f"/v1/docs/demo/{operation}", body))
            await until(lambda: ask.service._busy)
            assert (await ask("DELETE", "/v1/collections/demo")).status == 204
            writer.write(body)
            assert problem(await read_reply(reader)) == (404, "no-such-collection")
            writer.close()

    run(work())
