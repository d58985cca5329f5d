"""Documents over REST: what comes back, what each kind of PATCH does, what is refused and with which word."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.consistency import Level
from core.metadata import CreateTable
from core.requests import ConditionalRequest, ReadRequest, ScanRequest, Timeout, Unavailable, WriteRequest
from core.schema import Column, TableOptions
from server.rest.documents_ids import new_id
from tests.server.fake_node import with_value_limit
from tests.server.harness import run
from tests.server.rest_client import Door, Reply, door, problem

MERGE = {"Content-Type": "application/merge-patch+json"}
PATCH = {"Content-Type": "application/json-patch+json"}
UPDATE = {"Content-Type": "application/vnd.sullae.update+json"}
JSON = {"Content-Type": "application/json"}


async def patch(ask: Door, target: str, kind: dict[str, str], body: Any, **headers: str) -> Reply:
    """A PATCH; headers with underscores for hyphens."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ask("PATCH", target, json.dumps(body).encode(), kind | more)


@pytest.mark.parametrize(
    "sent_id",
    ["a", "a%2Fb", "a/b", "%2e%2e", "%EC%A3%BC%EB%AC%B8", "%5Fbulk", "a%00", "%20", "a//", "x" * 900],
)
def test_a_document_comes_back_in_the_bytes_that_were_put(sent_id: str) -> None:
    async def work() -> None:
        async with door() as ask:
            text = '{ "n": 1.10, "big": 123456789012345678901234567890,\n "k": "주문" }'.encode()
            put = await ask("PUT", f"/v1/docs/m/{sent_id}", text, JSON)
            assert put.status == 204
            found = await ask("GET", f"/v1/docs/m/{sent_id}")
            assert (found.status, found.body) == (200, text)
            assert found.headers["content-type"] == "application/json"
            assert found.headers["etag"] == put.headers["etag"]
            assert (await ask("HEAD", f"/v1/docs/m/{sent_id}")).headers["content-length"] == str(len(text))
            assert (await ask("DELETE", f"/v1/docs/m/{sent_id}")).status == 204
            assert problem(await ask("GET", f"/v1/docs/m/{sent_id}")) == (404, "no-such-document")
            assert (await ask("DELETE", f"/v1/docs/m/{sent_id}")).status == 204

    run(work())


def test_a_new_document_gets_an_id_that_sorts_by_its_time() -> None:
    async def work() -> None:
        async with door() as ask:
            made = await ask("POST", "/v1/docs/m", b'{"a":1}', JSON)
            assert made.status == 201
            document_id = made.json()["id"]
            assert made.headers["location"] == f"/v1/docs/m/{document_id}"
            found = await ask("GET", made.headers["location"])
            assert (found.body, found.headers["etag"]) == (b'{"a":1}', made.headers["etag"])
            assert problem(await ask("POST", "/v1/docs/m", b"1", JSON | {"If-Match": "*"})) == (
                400,
                "bad-request",
            )

    run(work())
    ids = [new_id(now_ms) for now_ms in (1, 2, 1 << 40)]
    assert ids == sorted(ids)
    assert all(each[14] == "7" and each[19] in "89ab" for each in ids)


def test_each_kind_of_patch_does_what_its_content_type_says() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/m/a", b'{"a":{"b":1,"c":2},"n":0.1,"l":[1]}', JSON)
            assert (await patch(ask, "/v1/docs/m/a", MERGE, {"a": {"b": None, "d": 3}})).status == 204
            assert isinstance(ask.node.requests[-1], WriteRequest), "a merge does not look"
            inc = await patch(ask, "/v1/docs/m/a", UPDATE, {"$inc": {"n": 0.2}, "$push": {"l": 2}})
            assert inc.status == 204
            assert isinstance(ask.node.requests[-1], ConditionalRequest)
            found = await ask("GET", "/v1/docs/m/a")
            assert found.json() == {"a": {"c": 2, "d": 3}, "n": 0.3, "l": [1, 2]}
            assert found.headers["etag"] == inc.headers["etag"]
            moved = [{"op": "move", "from": "/l/0", "path": "/x"}, {"op": "test", "path": "/x", "value": 1}]
            told = await patch(ask, "/v1/docs/m/a?return=document", PATCH, moved)
            assert (told.status, told.json()) == (200, {"a": {"c": 2, "d": 3}, "n": 0.3, "l": [2], "x": 1})
            found = await ask("GET", "/v1/docs/m/a")
            assert (found.body, found.headers["etag"]) == (told.body, told.headers["etag"])
            assert (await patch(ask, "/v1/docs/m/a", JSON, {"x": None})).status == 204
            assert (await patch(ask, "/v1/docs/m/a", JSON, {"$set": {"y.z": 1}})).status == 204
            assert isinstance(ask.node.requests[-1], WriteRequest), "neither does $set"
            assert (await ask("GET", "/v1/docs/m/a")).json()["y"] == {"z": 1}

    run(work())


def test_a_patch_without_effect_is_done_and_leaves_the_tag() -> None:
    async def work() -> None:
        async with door() as ask:
            put = await ask("PUT", "/v1/docs/m/a", b'{"a":1}', JSON)
            for kind, body in (
                (PATCH, [{"op": "test", "path": "/a", "value": 1}]),
                (UPDATE, {"$max": {"a": 0}}),
            ):
                done = await patch(ask, "/v1/docs/m/a", kind, body)
                assert (done.status, done.headers["etag"]) == (204, put.headers["etag"])

    run(work())


def test_conditions_are_judged_with_the_write() -> None:
    async def work() -> None:
        async with door() as ask:
            none_yet = await ask("PUT", "/v1/docs/m/a", b"{}", JSON | {"If-Match": "*"})
            assert problem(none_yet) == (412, "precondition-failed")
            assert none_yet.json()["etag"] is None
            first = await ask("PUT", "/v1/docs/m/a", b'{"n":1}', JSON | {"If-None-Match": "*"})
            assert first.status == 204
            again = await ask("PUT", "/v1/docs/m/a", b"{}", JSON | {"If-None-Match": "*"})
            assert problem(again) == (412, "precondition-failed")
            assert again.headers["etag"] == first.headers["etag"]
            tag = first.headers["etag"]
            merged = await patch(ask, "/v1/docs/m/a", MERGE, {"m": 2}, If_Match=tag)
            assert merged.status == 204
            assert problem(await patch(ask, "/v1/docs/m/a", MERGE, {"m": 3}, If_Match=tag))[0] == 412
            assert problem(await ask("DELETE", "/v1/docs/m/a", None, {"If-Match": tag}))[0] == 412
            found = await ask("GET", "/v1/docs/m/a")
            assert (found.json(), found.headers["etag"]) == ({"n": 1, "m": 2}, merged.headers["etag"])
            tag = found.headers["etag"]
            assert (await ask("GET", "/v1/docs/m/a", None, {"If-None-Match": tag})).status == 304
            assert problem(await ask("GET", "/v1/docs/m/a", None, {"If-Match": '"x"'}))[0] == 412
            assert (await ask("GET", "/v1/docs/m/a", None, {"If-Match": tag})).status == 200
            assert (await ask("DELETE", "/v1/docs/m/a", None, {"If-Match": tag})).status == 204

    run(work())


def test_levels_ttl_and_timeouts_reach_the_node() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/m/a?consistency=one&ttl=60&timeout_ms=5", b"{}", JSON)
            write = ask.node.requests[-1]
            assert isinstance(write, WriteRequest)
            assert (write.level, write.ttl_s) == (Level.ONE, 60)
            await patch(ask, "/v1/docs/m/a?ttl=7&consistency=serial", MERGE, {"a": 1})
            judged = ask.node.requests[-1]
            assert isinstance(judged, ConditionalRequest)
            assert (judged.serial_level, judged.level) == (Level.SERIAL, Level.QUORUM)
            assert problem(await ask("PUT", "/v1/docs/m/a?ttl=-1", b"{}", JSON)) == (400, "bad-ttl")
            assert problem(await ask("PUT", "/v1/docs/m/a?nope=1", b"{}", JSON)) == (400, "bad-query")
            await ask("GET", "/v1/docs/m/a?consistency=serial")
            read = ask.node.requests[-1]
            assert isinstance(read, ReadRequest)
            assert read.level is Level.SERIAL

    run(work())


@pytest.mark.parametrize("way", ["PUT", "POST", "PATCH", "_bulk"])
def test_where_a_document_was_given_a_ttl_patches_look_from_then_on(way: str) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/m/a", b'{"a":1}', JSON)
            await ask("PUT", "/v1/docs/m/a?ttl=0", b'{"a":1}', JSON)
            await patch(ask, "/v1/docs/m/a", MERGE, {"b": 2})
            assert isinstance(ask.node.requests[-1], WriteRequest), "nothing here dies by itself"
            if way == "PUT":
                done = await ask("PUT", "/v1/docs/m/b?ttl=60", b'{"a":1}', JSON)
            elif way == "POST":
                done = await ask("POST", "/v1/docs/m?ttl=60", b'{"a":1}', JSON)
            elif way == "PATCH":
                done = await patch(ask, "/v1/docs/m/b?ttl=60", MERGE, {"a": 1})
            else:
                line = b'{"op":"put","id":"b","ttl":60,"document":{"a":1}}\n'
                done = await ask("POST", "/v1/docs/m/_bulk", line, {"Content-Type": "application/x-ndjson"})
            assert done.status < 300
            await patch(ask, "/v1/docs/m/a", MERGE, {"b": 3})
            assert isinstance(ask.node.requests[-1], ConditionalRequest), "it may be one that dies"

    run(work())


def test_in_a_collection_with_a_ttl_every_edit_renews_the_whole_document() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/collections/m", b'{"default_ttl_s":60}')
            await ask("PUT", "/v1/docs/m/a", b'{"a":1}', JSON)
            await patch(ask, "/v1/docs/m/a", MERGE, {"b": 2})
            ((_, row),) = ask.node.rows.items()
            column = max(cell.column for cell in row.cells)
            assert [(c.path, c.value) for c in row.cells if c.column == column] == [((), b'{"a":1,"b":2}')]

    run(work())


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "bad-document"),
        (b"{", "bad-document"),
        (b'{"a":1,"a":2}', "bad-document"),
        (b"NaN", "bad-document"),
        (b'"\\ud800"', "bad-document"),
        (b"1e999999999", "bad-document"),
        (b"9" * 5000, "bad-document"),
        (b"[" * 100_000, "too-deep"),
        (b'"' + b"x" * (1 << 20) + b'"', "document-too-large"),
    ],
)
def test_a_body_that_is_no_document_is_refused_before_the_node_hears_of_it(body: bytes, word: str) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/m/a", b"{}", JSON)
            asked = len(ask.node.requests)
            assert problem(await ask("PUT", "/v1/docs/m/a", body, JSON))[1] == word
            assert problem(await ask("POST", "/v1/docs/m", body, JSON))[1] == word
            assert len(ask.node.requests) == asked
            assert (await ask("GET", "/v1/docs/m/a")).body == b"{}"

    run(work())


@pytest.mark.parametrize(
    ("kind", "body", "status", "word"),
    [
        (MERGE, b"{", 400, "bad-body"),
        (MERGE, b'{"a":' * 101 + b"1" + b"}" * 101, 400, "too-deep"),
        (PATCH, b"{}", 400, "bad-patch"),
        (PATCH, b'[{"op":"test","path":"/a","value":2}]', 409, "patch-conflict"),
        (PATCH, b'[{"op":"remove","path":"/nope"}]', 409, "patch-conflict"),
        (UPDATE, b'{"$inc":{"t":1}}', 409, "patch-conflict"),
        (UPDATE, b'{"$where":{"t":1}}', 400, "bad-patch"),
        (UPDATE, b'{"a":1}', 400, "bad-patch"),
        (JSON, b'{"a":1,"$set":{}}', 400, "bad-patch"),
        (JSON, b'[{"op":"remove","path":"/a"}]', 400, "bad-patch"),
        (JSON, b"null", 400, "bad-patch"),
        (UPDATE, json.dumps({"$set": {f"a{n}": 1 for n in range(10_000)}}).encode(), 400, "bad-patch"),
        (UPDATE, json.dumps({"$set": {"a": "x" * (1 << 20)}}).encode(), 413, "document-too-large"),
        (UPDATE, json.dumps({"$push": {"l": "x" * ((1 << 20) - 22)}}).encode(), 413, "document-too-large"),
        ({"Content-Type": "text/plain"}, b"{}", 415, "unsupported-media-type"),
        ({}, b"{}", 415, "unsupported-media-type"),
        (MERGE | {"Content-Encoding": "gzip"}, b"{}", 415, "content-encoding-not-supported"),
    ],
)
def test_a_patch_that_cannot_be_done_says_why_and_changes_nothing(
    kind: dict[str, str], body: bytes, status: int, word: str
) -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/m/a", b'{"a":1,"t":"x","l":[]}', JSON)
            reply = await ask("PATCH", "/v1/docs/m/a", body, kind)
            assert problem(reply) == (status, word)
            if word == "unsupported-media-type":
                assert "application/json-patch+json" in reply.headers["accept-patch"]
            assert (await ask("GET", "/v1/docs/m/a")).body == b'{"a":1,"t":"x","l":[]}'

    run(work())


def test_paths_and_methods_that_are_not_there_are_refused_by_name() -> None:
    async def work() -> None:
        async with door() as ask:
            assert problem(await ask("GET", "/v1/docs/m/a")) == (404, "no-such-collection")
            assert problem(await ask("DELETE", "/v1/docs/m/a")) == (404, "no-such-collection")
            assert problem(await patch(ask, "/v1/docs/m/a", PATCH, [])) == (404, "no-such-collection")
            assert problem(await ask("GET", "/v1/docs/b%20d/a")) == (400, "bad-collection-name")
            assert problem(await ask("PUT", "/v1/docs/b%20d/a", b"{}", JSON)) == (400, "bad-collection-name")
            assert problem(await ask("PUT", "/v1/docs/m/", b"{}", JSON)) == (400, "bad-id")
            assert problem(await ask("PUT", "/v1/docs/m/%ff", b"{}", JSON)) == (400, "bad-path")
            assert problem(await ask("PUT", "/v1/docs/m/" + "x" * 65536, b"{}", JSON)) == (400, "bad-id")
            assert problem(await patch(ask, "/v1/docs/m/a", PATCH, [])) == (404, "no-such-document")
            assert problem(await ask("PUT", "/v1/docs/m/_nope", b"{}", JSON)) == (404, "not-found")
            assert problem(await ask("POST", "/v1/docs/m/a", b"{}", JSON)) == (405, "method-not-allowed")
            assert problem(await ask("PATCH", "/v1/docs/m", b"{}", JSON)) == (405, "method-not-allowed")
            assert problem(await ask("PUT", "/v1/docs/m/a", b"{}", {"Content-Type": "text/plain"}))[0] == 415

    run(work())


def test_what_the_node_refuses_is_a_problem() -> None:
    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/docs/m/a", b"{}", JSON)
            ask.node.answers.append(Unavailable(2, 1, Level.QUORUM))
            assert problem(await ask("PUT", "/v1/docs/m/a", b"{}", JSON)) == (503, "unavailable")
            ask.node.answers.append(Timeout(1, 2, Level.SERIAL, write=True, write_type="CAS"))
            late = await patch(ask, "/v1/docs/m/a", UPDATE, {"$inc": {"n": 1}})
            assert problem(late) == (504, "outcome-unknown")
            assert "serial" in late.json()["detail"]
            ask.node.why_not = "not yet"
            assert problem(await ask("GET", "/v1/docs/other/a")) == (503, "not-ready")

    run(work())


def test_a_list_goes_on_where_its_cursor_says_and_skips_rows_without_a_document() -> None:
    async def work() -> None:
        async with door() as ask:
            ids = {f"d{n}" for n in range(7)}
            for name in ids:
                await ask("PUT", f"/v1/docs/m/{name}", b'{\n"a": "b\\nc"}', JSON)
            await patch(ask, "/v1/docs/m/gone", UPDATE, {"$set": {"a": 1}})
            await patch(ask, "/v1/docs/m/empty", UPDATE, {"$unset": {"a": 1}})
            await ask("DELETE", "/v1/docs/m/gone")
            whole = (await ask("GET", "/v1/docs/m")).lines()
            assert {line["id"] for line in whole[:-1]} == ids
            assert whole[0]["document"] == {"a": "b\nc"}
            assert whole[-1] == {"cursor": None}
            seen: list[str] = []
            after = ""
            while True:
                page = (await ask("GET", f"/v1/docs/m?limit=3&documents=false{after}")).lines()
                seen += [line["id"] for line in page[:-1]]
                assert all(set(line) == {"id", "etag"} for line in page[:-1])
                if page[-1]["cursor"] is None:
                    break
                after = f"&after={page[-1]['cursor']}"
            assert seen == [line["id"] for line in whole[:-1]]
            await ask("PUT", "/v1/docs/other/a", b"{}", JSON)
            assert problem(await ask("GET", f"/v1/docs/other?limit=3{after}")) == (400, "bad-cursor")
            assert problem(await ask("GET", "/v1/docs/m?after=x!")) == (400, "bad-cursor")
            assert problem(await ask("GET", "/v1/docs/m?documents=1")) == (400, "bad-query")
            ask.node.answers.append(Unavailable(2, 1, Level.QUORUM))
            assert problem(await ask("GET", "/v1/docs/m")) == (503, "unavailable")
            assert isinstance(ask.node.requests[-1], ScanRequest)

    run(work())


def test_an_unknown_operation_of_a_bulk_is_told_from_one_without_an_id() -> None:
    async def work() -> None:
        async with door() as ask:
            lines = b'{"op":"insert","document":1}\n{"op":"delete"}\n{"op":"put","document":1}'
            told = (await ask("POST", "/v1/docs/m/_bulk", lines)).lines()
            assert [line.get("detail") for line in told] == [
                "op is put, patch, get or delete; found 'insert'",
                "a delete has an id",
                None,
            ]

    run(work())


def test_bulk_tells_of_each_line_what_the_request_alone_would_have_been_told() -> None:
    async def work() -> None:
        async with door() as ask:
            lines = [
                '{"op":"put","id":"a","document":{ "n": 1.10 }}',
                '{"op":"patch","id":"a","merge":{"m":1}}',
                '{"op":"patch","id":"a","update":{"$inc":{"n":1}}}',
                '{"op":"patch","id":"a","patch":[{"op":"remove","path":"/m"}]}',
                '{"op":"get","id":"a"}',
                '{"op":"put","document":[1]}',
                '{"op":"put","id":"a","document":{},"if_none_match":"*"}',
                '{"op":"delete","id":"a","if_match":"*"}',
                '{"op":"get","id":"a"}',
                "",
                '{"op":"patch","id":"a","patch":[{"op":"remove","path":"/m"}]}',
                '{"op":"put","id":"b","document":{"x":1,"x":2}}',
                '{"op":"put","id":"b"}',
                '{"op":"patch","id":"b","merge":{},"update":{}}',
                '{"op":"delete"}',
                '{"op":"delete","id":"b","ttl":5}',
                '{"op":"nope","id":"b"}',
                "nonsense",
                '{"op":"put","id":"b","document":{},"extra":1}',
                '{"op":"put","id":"c","document":' + "[" * 101 + "]" * 101 + "}",
                '{"op":"put","id":"z","document":1}',
            ]
            reply = await ask("POST", "/v1/docs/m/_bulk", "\n".join(lines).encode())
            told = reply.lines()
            words = [line.get("type", line["status"]) for line in told]
            assert words == [
                204, 204, 204, 204, 200, 204, "precondition-failed", 204,
                "no-such-document", "no-such-document", "bad-document",
                "bad-body", "bad-body", "bad-body", "bad-body", "bad-body",
                "bad-body", "bad-body", "too-deep", 204,
            ]  # fmt: skip
            assert told[4]["document"] == {"n": 2.1}
            assert told[4]["etag"] == told[3]["etag"]
            assert (await ask("GET", f"/v1/docs/m/{told[5]['id']}")).json() == [1]
            assert problem(await ask("GET", "/v1/docs/m/_bulk")) == (405, "method-not-allowed")

    run(work())


# --- collections


def test_a_collection_is_described_altered_and_dropped() -> None:
    async def work() -> None:
        async with door() as ask:
            schema = {"type": "object", "required": ["n"]}
            made = await ask("PUT", "/v1/collections/m", json.dumps({"schema": schema}).encode())
            assert made.status == 201
            assert made.json() == {
                "collection": "m",
                "table": "docs.m",
                "replication_factor": 3,
                "default_ttl_s": 0,
                "max_document_bytes": 1 << 20,
                "changes": "none",
                "schema": schema,
                "mapping": None,
            }
            assert problem(await ask("PUT", "/v1/docs/m/a", b"{}", JSON)) == (422, "document-invalid")
            assert (await ask("PUT", "/v1/docs/m/a", b'{"n":1}', JSON)).status == 204
            refused = await patch(ask, "/v1/docs/m/a", MERGE, {"n": None})
            assert problem(refused) == (422, "document-invalid")
            assert problem(await patch(ask, "/v1/docs/m/new", MERGE, {"x": 1})) == (422, "document-invalid")
            kept = (await ask("PUT", "/v1/collections/m", b'{"changes":"new","default_ttl_s":9}')).json()
            assert kept == made.json() | {"changes": "new", "default_ttl_s": 9}, "what is not said stays"
            kept = (await ask("PUT", "/v1/collections/m", b'{"mapping":{"fields":{}}}')).json()
            assert (kept["schema"], kept["mapping"], kept["default_ttl_s"]) == (schema, {"fields": {}}, 9)
            body = {"default_ttl_s": 5, "schema": None, "max_document_bytes": 30}
            altered = await ask("PUT", "/v1/collections/m", json.dumps(body).encode())
            assert (altered.status, altered.json()["schema"], altered.json()["default_ttl_s"]) == (
                200,
                None,
                5,
            )
            assert altered.json()["mapping"] == {"fields": {}}
            assert (await ask("GET", "/v1/collections/m")).json() == altered.json()
            assert (await ask("GET", "/v1/collections")).json() == {"collections": [altered.json()]}
            assert (await ask("PUT", "/v1/docs/m/a", b"{}", JSON)).status == 204
            large = await ask("PUT", "/v1/docs/m/a", b'"' + b"x" * 40 + b'"', JSON)
            assert problem(large) == (413, "document-too-large")
            grown = await patch(
                ask, "/v1/docs/m/a", UPDATE, {"$set": {"abcdefg": "x" * 9}, "$inc": {"n": 10**9}}
            )
            assert problem(grown) == (413, "document-too-large")
            assert (await ask("DELETE", "/v1/collections/m")).status == 204
            assert problem(await ask("GET", "/v1/collections/m")) == (404, "no-such-collection")

    run(work())


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"[]", "bad-body"),
        (b'{"nope":1}', "bad-body"),
        (b'{"default_ttl_s":-1}', "bad-ttl"),
        (b'{"max_document_bytes":0}', "bad-collection"),
        (b'{"mapping":{"fields":{"a":{"boost":1e6144}}}}', "bad-collection"),
        (b'{"mapping":{"fields":{"a":{"boost":' + b"9" * 400 + b"}}}}", "bad-collection"),
        (b'{"max_document_bytes":99999999}', "bad-collection"),
        (b'{"replication_factor":9}', "bad-replication-factor"),
        (b'{"schema":5}', "bad-collection"),
        (b'{"schema":{"type":"nope"}}', "bad-collection"),
        (b'{"schema":{"type":"object","type":"array"}}', "bad-body"),
        (b'{"schema":{"$ref":"http://127.0.0.1:1/x"}}', "bad-collection"),
        (b'{"schema":{"$ref":"file:///etc/hostname"}}', "bad-collection"),
        (b'{"schema":{"pattern":"(a"}}', "bad-collection"),
        (b'{"schema":{"pattern":"(?=a)b"}}', "bad-collection"),
        (b'{"mapping":[]}', "bad-collection"),
        (json.dumps({"mapping": {"a": "x" * 40_000}}).encode(), "bad-collection"),
        (b'{"schema":' + b"[" * 500 + b"}", "bad-body"),
    ],
)
def test_a_collection_that_cannot_be_so_is_not_made(body: bytes, word: str) -> None:
    async def work() -> None:
        async with door() as ask:
            assert problem(await ask("PUT", "/v1/collections/m", body)) == (400, word)
            assert (await ask("GET", "/v1/collections")).json() == {"collections": []}

    run(work())


def test_a_table_of_another_shape_is_no_collection() -> None:
    async def work() -> None:
        async with door() as ask:
            columns = (Column(0, "id", "text", "partition"), Column(0, "doc", "text", "regular"))
            ask.node.change(CreateTable("docs", "t", columns, TableOptions()))
            assert problem(await ask("PUT", "/v1/docs/t/a", b"{}", JSON)) == (409, "collection-exists")
            assert problem(await ask("GET", "/v1/docs/t/a")) == (404, "no-such-collection")
            await ask("PUT", "/v1/collections/one", b'{"replication_factor":1}')
            assert (await ask("GET", "/v1/collections/one")).json()["table"] == "docs_rf1.one"
            other = await ask("PUT", "/v1/collections/one", b'{"replication_factor":2}')
            assert problem(other) == (409, "collection-exists")
            assert (await ask("PUT", "/v1/docs/one/a", b"{}", JSON)).status == 204
            assert len((await ask("GET", "/v1/collections")).json()["collections"]) == 1

    run(work())


def test_a_peer_with_a_smaller_limit_takes_smaller_documents() -> None:
    async def work() -> None:
        async with door(with_value_limit(100)) as ask:
            body = b'"' + b"x" * 100 + b'"'
            assert problem(await ask("PUT", "/v1/docs/m/a", body, JSON)) == (413, "document-too-large")

    run(work())


# --- retries


def test_an_edit_with_an_idempotency_key_is_done_once_however_often_it_is_sent() -> None:
    async def work() -> None:
        async with door() as ask:
            key = {"Idempotency_Key": '"k1"'}
            for size in (1, 20_000):  # what was read is remembered, or is too large for that
                target = f"/v1/docs/m/a{size}"
                await ask("PUT", target, json.dumps({"n": 1, "x": "y" * size}).encode(), JSON)
                inc = {"$inc": {"n": 1}}
                first = await patch(ask, f"{target}?return=document", UPDATE, inc, **key)
                again = await patch(ask, f"{target}?return=document", UPDATE, inc, **key)
                assert first.json()["n"] == again.json()["n"] == 2
                assert first.headers["etag"] == again.headers["etag"]
                other = await patch(ask, f"{target}?return=document", UPDATE, {"$inc": {"n": 2}}, **key)
                assert problem(other) == (422, "idempotency-key-reused")
                assert (await ask("GET", target)).json()["n"] == 2

    run(work())


def test_a_document_that_is_made_under_an_idempotency_key_is_made_once() -> None:
    async def work() -> None:
        async with door() as ask:
            keyed = JSON | {"Idempotency-Key": "k"}
            made = [await ask("POST", "/v1/docs/m", b'{"a":1}', keyed) for _ in range(2)]
            assert [reply.status for reply in made] == [201, 201]
            assert made[0].headers["location"] == made[1].headers["location"]
            assert made[0].headers["etag"] == made[1].headers["etag"]
            assert len((await ask("GET", "/v1/docs/m")).lines()) == 2
            other = await ask("POST", "/v1/docs/other", b'{"a":1}', keyed)
            assert other.json()["id"] != made[0].json()["id"]
            deleted = [await ask("DELETE", made[0].headers["location"], None, keyed) for _ in range(2)]
            assert [problem(reply)[1] for reply in deleted] == ["idempotency-key-reused"] * 2

    run(work())


def test_a_body_of_which_curl_says_nothing_is_read_as_json() -> None:
    async def work() -> None:
        async with door() as ask:
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            assert (await ask("PUT", "/v1/docs/m/a", b'{"a":1}', form)).status == 204
            assert problem(await ask("PUT", "/v1/docs/m/a", b"a=1&b=2", form))[0] == 400

    run(work())
