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
