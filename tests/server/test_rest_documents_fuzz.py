"""Anything as a patch, update, document, collection or line: an answer that is described, never a bug."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings, strategies as st

from tests.server.harness import run
from tests.server.rest_client import Reply, door

WORDS = st.sampled_from(
    ["$set", "$unset", "$inc", "$mul", "$min", "$max", "$push", "$each", "$slice", "$sort", "$position"]
    + [
        "$addToSet",
        "$pull",
        "$pop",
        "$rename",
        "$currentDate",
        "$setOnInsert",
        "$type",
        "$gte",
        "$in",
        "$not",
    ]
    + ["op", "path", "from", "value", "add", "remove", "replace", "move", "copy", "test", "id", "document"]
    + ["merge", "patch", "update", "put", "get", "delete", "ttl", "if_match", "schema", "mapping", "type"]
    + ["object", "properties", "a", "a.b", "a.0", "/a", "/a/0", "/a/-", "", "/", "~", "\\", ".", "$", "n"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False) | WORDS
VALUES = st.recursive(
    SCALARS | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)
OPERATIONS = st.lists(
    st.dictionaries(st.sampled_from(["op", "path", "from", "value"]), VALUES, min_size=2), max_size=4
)
UPDATES = st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=3), max_size=3)
KINDS = st.sampled_from(
    ["application/merge-patch+json", "application/json-patch+json", "application/vnd.sullae.update+json"]
    + ["application/json"]
)
TEXTS = st.binary(max_size=30) | (VALUES | OPERATIONS | UPDATES).map(lambda value: json.dumps(value).encode())


def check(reply: Reply, text: bytes) -> None:
    assert reply.status < 500, (text, reply)
    if reply.status >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        assert len(reply.body) < 1_500


@given(st.lists(st.tuples(KINDS, TEXTS), min_size=1, max_size=6), TEXTS)
@settings(max_examples=40, deadline=None)
def test_patches_of_all_sorts(patches: list[tuple[str, bytes]], document: bytes) -> None:
    async def work() -> None:
        async with door() as ask:
            check(await ask("PUT", "/v1/docs/m/a", document, {"Content-Type": "application/json"}), document)
            for kind, text in patches:
                check(await ask("PATCH", "/v1/docs/m/a", text, {"Content-Type": kind}), text)
                found = await ask("GET", "/v1/docs/m/a")
                check(found, text)
                if found.status == 200:
                    json.loads(found.body)

    run(work())


@given(st.lists(TEXTS, min_size=1, max_size=6), st.dictionaries(WORDS, VALUES, max_size=4))
@settings(max_examples=40, deadline=None)
def test_lines_and_collections_of_all_sorts(lines: list[bytes], member: dict[str, Any]) -> None:
    async def work() -> None:
        async with door() as ask:
            body = b"\n".join(lines + [json.dumps({"op": "put", "id": "a", **member}).encode()])
            reply = await ask("POST", "/v1/docs/m/_bulk", body)
            assert reply.status == 200
            assert all(line["status"] < 500 for line in reply.lines())
            for text in lines:
                check(await ask("PUT", "/v1/collections/c", text), text)
            schema = json.dumps({"schema": member}).encode()
            check(await ask("PUT", "/v1/collections/c", schema), schema)

    run(work())
