"""The forms in which events leave, by the words of their specifications."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from streams.events import DELETED, ENDED, INSERTED, READ, TRUNCATED, UPDATED
from streams.formats import Shown, Source, cloudevents, cloudevents_control, debezium, debezium_control

SOURCE = Source("my cluster", "docs", "movies")
RAW = msgspec.Raw(b'{"n": 1.50, "_id": "other"}')


def shown(operation: str, **members: Any) -> Shown:
    found = {
        "id": "1-2-0",
        "operation": operation,
        "scope": "row",
        "key": "k",
        "changed": ["/n"],
        "before": None,
        "after": None,
        "imaged": (True, True),
        "timestamp_us": 1_700_000_000_123_456,
        "admitted_us": 1_700_000_000_123_456,
        "time": "2023-11-14T22:13:20.123456Z",
        "epoch": 3,
        "flags": (),
        "cursor": "c",
        "key_name": "_id",
    }
    return Shown(**{**found, **members})


def told(event: dict[str, Any]) -> Any:
    """As it leaves."""
    return json.loads(msgspec.json.encode(event))


@pytest.mark.parametrize(
    ("operation", "op"),
    [(INSERTED, "c"), (UPDATED, "u"), (DELETED, "d"), (READ, "r"), (TRUNCATED, "t"), (ENDED, "d")],
)
def test_debezium_has_one_letter_for_each_operation(operation: str, op: str) -> None:
    value = told(debezium(SOURCE, shown(operation)))
    assert value["op"] == op
    assert value.keys() == {"before", "after", "op", "ts_ms", "ts_us", "ts_ns", "source", "transaction"}
    assert (value["ts_ms"], value["ts_us"]) == (1_700_000_000_123, 1_700_000_000_123_456)
    source = value["source"]
    assert {"version", "connector", "name", "ts_ms", "snapshot", "db", "schema", "table"} <= source.keys()
    assert source["snapshot"] == ("true" if operation == READ else "false"), "text, not a boolean"


def test_rows_of_debezium_have_their_keys() -> None:
    """Who reads tables by a primary key finds it in the images."""
    value = told(debezium(SOURCE, shown(UPDATED, before=RAW, after=RAW)))
    assert value["before"] == value["after"] == {"_id": "k", "n": 1.5}
    assert b"1.50" in msgspec.json.encode(debezium(SOURCE, shown(UPDATED, after=RAW))), "to the digit"
    bucket = shown(INSERTED, after={"value": "v"}, key_name="key")
    assert told(debezium(SOURCE, bucket))["after"] == {"key": "k", "value": "v"}
    table = shown(INSERTED, after={"a": 1, "b": 2}, key={"a": 1}, key_name="")
    assert told(debezium(SOURCE, table))["after"] == {"a": 1, "b": 2}
    array = shown(INSERTED, after=msgspec.Raw(b"[1]"))
    assert told(debezium(SOURCE, array))["after"] == [1]


def test_of_what_is_deleted_at_least_the_key_is_told() -> None:
    assert told(debezium(SOURCE, shown(DELETED, imaged=(False, False))))["before"] == {"_id": "k"}
    table = shown(DELETED, imaged=(False, True), key={"a": 1, "b": 2}, key_name="")
    assert told(debezium(SOURCE, table))["before"] == {"a": 1, "b": 2}
    many = shown(DELETED, imaged=(False, False), key={"a": 1}, key_name="", scope="partition")
    assert told(debezium(SOURCE, many))["before"] is None, "these are many rows"


@pytest.mark.parametrize("key", ["k", {"a": 1}, None, ""])
def test_a_cloudevent_has_what_it_must_and_nothing_empty(key: Any) -> None:
    event = told(cloudevents(SOURCE, shown(INSERTED, key=key)))
    assert {"specversion", "id", "source", "type"} <= event.keys() and event["specversion"] == "1.0"
    assert event["source"] == "/sullae/my%20cluster/docs.movies", "a URI reference"
    assert all(isinstance(value, str) and value for name, value in event.items() if name != "data")
    assert ("subject" in event) == (key not in (None, ""))
    assert all(name.isalnum() and name.islower() for name in event)


def test_what_is_no_event_has_a_form_in_each() -> None:
    beat = {"cursor": "c"}
    assert debezium_control(SOURCE, "heartbeat", beat, "t", 5_000)["op"] == "m"
    event = cloudevents_control(SOURCE, "heartbeat", beat, "t", 5_000)
    assert event["type"] == "sullae.heartbeat" and event["data"]["cursor"] == "c"
