"""Updates and upserts beside others: who comes second, and who goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.requests import ConditionalRequest, Invalid, WriteRequest
from documents import operations
from documents.collections import find
from tests.server.harness import run
from tests.server.rest_client import Door, Reply, door


async def post(ask: Door, operation: str, body: Any) -> Reply:
    return await ask("POST", f"/v1/docs/movies/{operation}", json.dumps(body).encode())


@pytest.mark.parametrize("equal", [{"_id": "one"}, {"mail": "a@b"}])
def test_an_upsert_that_comes_second_updates_what_the_first_made(equal: dict[str, Any]) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/collections/movies", b"{}")
            node, first = ask.node, [True]
            judge, write = node._judge, node._write

            def judge_late(request: ConditionalRequest) -> Any:
                """Somebody else makes the document just before."""
                if not first:
                    return judge(request)
                first.clear()
                collection = find(node.state, "movies")
                assert collection is not None
                other = operations.put(collection, "one", json.dumps({"n": 5, **equal}).encode())
                assert isinstance(other, operations.Operation) and isinstance(other.request, WriteRequest)
                write(other.request)
                return judge(request) if "_id" in equal else Invalid("unique_violation", "taken")

            node._judge = judge_late  # type: ignore[method-assign]
            body = {"filter": equal, "update": {"$inc": {"n": 1}}, "upsert": True}
            done = (await post(ask, "_update", body)).json()
            assert done == {"matched": 1, "modified": 1, "cursor": None, "upserted": None}
            assert (await ask("GET", "/v1/docs/movies/one")).json()["n"] == 6

    run(work())


def test_an_upsert_that_goes_on_makes_nothing() -> None:
    async def work() -> None:
        async with door() as ask:
            for n in range(3):
                await ask("PUT", f"/v1/docs/movies/m{n}", b'{"a": 1}')
            body = {"filter": {"a": 1}, "update": {"$set": {"a": 2}}, "upsert": True}
            first = (await post(ask, "_update", {**body, "limit": 2})).json()
            assert first["matched"] == 2 and first["cursor"] is not None
            await ask("PUT", "/v1/docs/movies/m0", b"{}")
            await ask("PUT", "/v1/docs/movies/m1", b"{}")
            await ask("PUT", "/v1/docs/movies/m2", b"{}")
            last = (await post(ask, "_update", {**body, "cursor": first["cursor"]})).json()
            assert last == {"matched": 0, "modified": 0, "cursor": None, "upserted": None}

    run(work())


@pytest.mark.parametrize(
    ("wanted", "update", "made"),
    [
        ({"n": 5}, {"$inc": {"n": 1}}, {"n": 6}),
        ({"n": 5, "a.b": 1}, {"$max": {"n": 3}, "$set": {"a.c": 2}}, {"n": 5, "a": {"b": 1, "c": 2}}),
        ({"a": [1]}, {"$push": {"a": 2}}, {"a": [1, 2]}),
        ({"a": [1, 5]}, {"$inc": {"a.$[]": 1}}, {"a": [2, 6]}),
        ({"n": 5}, {"$rename": {"n": "m"}}, {"m": 5}),
        ({"n": 5}, {"$rename": {"x": "n"}}, {"n": 5}),
        ({"n": 5}, {"$unset": {"n": ""}}, {}),
        ({"n": 5}, {"$setOnInsert": {"n": 7}, "$set": {"x": 1}}, {"n": 7, "x": 1}),
        ({"$or": [{"n": {"$in": [5]}}]}, {"$inc": {"n": 1}}, {"n": 6}),
        ({"n": {"$gt": 5}, "a": 1}, {"$inc": {"n": 1}}, {"n": 1, "a": 1}),
    ],
)
def test_the_update_is_done_to_what_the_filter_says(wanted: Any, update: Any, made: Any) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/movies/other", b"{}")
            body = {"filter": {**wanted, "_id": "one"}, "update": update, "upsert": True}
            assert (await post(ask, "_update", body)).json()["upserted"] == "one"
            assert (await ask("GET", "/v1/docs/movies/one")).json() == made

    run(work())


def test_one_id_in_a_list_is_that_of_the_document() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/movies/other", b"{}")
            body = {"filter": {"_id": {"$in": ["one"]}}, "update": {"$inc": {"n": 1}}, "upsert": True}
            assert (await post(ask, "_update", body)).json()["upserted"] == "one"
            assert (await post(ask, "_update", body)).json()["modified"] == 1
            body["filter"] = {"a": 1, "a.b": 2}
            told = await post(ask, "_update", body)
            assert told.json()["detail"].startswith("the filter wants values of a and of a.b")

    run(work())


@pytest.mark.parametrize("operation", ["_update", "_delete"])
def test_who_asks_for_one_and_loses_it_to_others_gets_another(operation: str) -> None:
    async def work() -> None:
        async with door() as ask:
            for n in range(5):
                await ask("PUT", f"/v1/docs/movies/m{n}", b'{"state": "new"}')
            node = ask.node
            taken: list[bytes] = []
            judge, write = node._judge, node._write

            def judge_late(request: ConditionalRequest) -> Any:
                """Somebody else takes the first three just before."""
                if len(taken) < 3:
                    taken.append(request.partition)
                    collection = find(node.state, "movies")
                    assert collection is not None
                    other = operations.put(collection, request.partition.decode(), b'{"state": "theirs"}')
                    assert isinstance(other, operations.Operation) and isinstance(other.request, WriteRequest)
                    write(other.request)
                return judge(request)

            node._judge = judge_late  # type: ignore[method-assign]
            body: dict[str, Any] = {"filter": {"state": "new"}, "multi": False}
            if operation == "_update":
                body["update"] = {"$set": {"state": "ours"}}
            done = (await post(ask, operation, body)).json()
            assert done.get("matched", done.get("deleted")) == 1
            assert (await post(ask, "_count", {"filter": {"state": "new"}})).json() == {"count": 1}
            assert (await post(ask, "_count", {"filter": {"state": "theirs"}})).json() == {"count": 3}

    run(work())


def test_the_one_that_was_changed_is_given_back_as_it_was_or_became() -> None:
    async def work() -> None:
        async with door() as ask:
            for n in (2, 1, 3):
                await ask("PUT", f"/v1/docs/movies/m{n}", json.dumps({"n": n, "state": "new"}).encode())
            take = {"$set": {"state": "taken"}}
            first = {"filter": {"state": "new"}, "sort": {"n": 1}, "multi": False}
            after = (await post(ask, "_update", {**first, "update": take, "return": "after"})).json()
            assert (after["matched"], after["document"]["id"]) == (1, "m1")
            assert after["document"]["document"] == {"n": 1, "state": "taken"}
            got = await ask("GET", "/v1/docs/movies/m1")
            assert after["document"]["etag"] == got.headers["etag"]
            before = (await post(ask, "_update", {**first, "update": take, "return": "before"})).json()
            assert before["document"]["document"] == {"n": 2, "state": "new"}
            gone = (await post(ask, "_delete", {**first, "return": "before"})).json()
            assert (gone["deleted"], gone["document"]["document"]["n"]) == (1, 3)
            none = (await post(ask, "_delete", {**first, "return": "before"})).json()
            assert none == {"deleted": 0, "cursor": None, "document": None}
            same = {"filter": {"n": 1}, "update": take, "multi": False, "return": "after"}
            unchanged = (await post(ask, "_update", same)).json()
            assert (unchanged["matched"], unchanged["modified"]) == (1, 0)
            assert unchanged["document"] == after["document"]
            new = {"filter": {"_id": "m9"}, "update": {"$set": {"n": 9}}, "multi": False, "upsert": True}
            made = (await post(ask, "_update", {**new, "return": "after"})).json()
            assert (made["upserted"], made["document"]["document"]) == ("m9", {"n": 9})
            got = await ask("GET", "/v1/docs/movies/m9")
            assert made["document"]["etag"] == got.headers["etag"]
            new["filter"] = {"_id": "m10"}
            assert (await post(ask, "_update", {**new, "return": "before"})).json()["document"] is None

    run(work())


@pytest.mark.parametrize(
    ("operation", "more", "said"),
    [
        ("_update", {"return": "after"}, 'say "multi": false'),
        ("_update", {"sort": {"n": 1}}, 'say "multi": false'),
        ("_update", {"multi": False, "return": "both"}, "return is before or after"),
        ("_delete", {"multi": False, "return": "after"}, "return is before"),
        ("_delete", {"multi": False, "sort": {"n": 5}}, "1 ascends"),
    ],
)
def test_what_one_document_alone_has(operation: str, more: dict[str, Any], said: str) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/movies/m1", b"{}")
            body: dict[str, Any] = {"filter": {}, **more}
            if operation == "_update":
                body["update"] = {"$set": {"a": 1}}
            refused = await post(ask, operation, body)
            assert refused.status == 400 and said in refused.json()["detail"]
            assert (await ask("GET", "/v1/docs/movies/m1")).json() == {}

    run(work())
