"""How values of buckets are shown in events, whatever they are."""

from __future__ import annotations

import json

import msgspec
import pytest

from kv import buckets
from server.rest.changes_shown import BucketShape
from server.rest.changes_wanted import Judge, wanted_of
from streams.events import event_of_row
from tests.server.harness import run
from tests.server.rest_client import door

DEEP = b"[" * 5_000 + b"]" * 5_000


def judged(judge: Judge | None, image: object) -> bool:
    assert judge is not None
    return judge(image, None)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"a": 1.10}', {"json": {"a": "1.10"}}),
        (b'{\n"a": 1e400}', {"json": {"a": "1e400"}}),
        (b"{", {"value": "{"}),
        (b"", {"value": ""}),
        (b"\xff", {"base64": "/w=="}),
        (DEEP, {"value": DEEP.decode()}),
        (b"[" * 500 + b"]" * 500, {"value": "[" * 500 + "]" * 500}),
        (b"1e999999999999", {"value": "1e999999999999"}),
        (b"9" * 5_000, {"value": "9" * 5_000}),
    ],
)
def test_only_what_every_reader_takes_is_shown_as_json(value: bytes, shown: dict[str, object]) -> None:
    """A stream that could not show, judge or read one event would stand there for ever."""

    async def work() -> None:
        async with door() as ask:
            await ask("PUT", "/v1/kv/demo/k", value, {"Content-Type": "application/json"})
            bucket = buckets.find(ask.node.state, "demo")
            assert bucket is not None
            ((_, key), row), *_ = ask.node.rows.items()
            image = BucketShape(bucket).row(event_of_row(key, row, 5_000), row)
            found = json.loads(msgspec.json.encode(image), parse_float=lambda text: text)
            assert found.pop("content_type") == "application/json"
            assert found == shown
            wanted = wanted_of('filter={"json.a":{"$gt":0}}', {}, 0)
            assert judged(wanted.condition, image) == ("json" in shown)

    run(work())
