"""A sink understands the lines of a stream in every form that the stream has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.sinks.envelopes import ENVELOPES, about, control_of
from server.sinks.files import FileSink
from server.sinks.kafka import record_key
from streams.formats import FORMS, Shown, Source

SOURCE = Source("test", "docs", "films")
US = 1_769_860_800_123_456


def shown(key: Any = "f1", operation: str = "update") -> Shown:
    return Shown(
        "1-2-0", operation, "row", key, ["/n"], {"n": 1}, {"n": 2}, (True, True), US, US,
        "2026-01-31T12:00:00.123456Z", 3, (), "part",
    )  # fmt: skip


def test_all_forms_are_known() -> None:
    assert set(ENVELOPES) == set(FORMS)


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("key", ["f1", {"city": "서울", "day": 1}])
def test_of_an_event_it_knows_id_key_and_day(envelope: str, key: Any, tmp_path: Path) -> None:
    event = json.loads(json.dumps(FORMS[envelope][0](SOURCE, shown(key))))
    assert control_of(event) is None
    told = about(event)
    assert told.id == "1-2-0" and told.key == key
    assert told.operation == ("u" if envelope == "debezium" else "update")
    assert record_key(event, ("city",)) == (b"f1" if key == "f1" else '["서울"]'.encode())
    assert FileSink(tmp_path, "ndjson").deliver(1, 0, [event]) == 0
    (file,) = tmp_path.rglob("*.ndjson")
    assert file.parent.name == "date=2026-01-31" and json.loads(file.read_text()) == event


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("kind", ["heartbeat", "gap", "restart", "error"])
def test_what_is_no_event_is_the_same_in_every_form(envelope: str, kind: str) -> None:
    time = "2026-01-31T12:00:00Z"
    line = json.loads(json.dumps(FORMS[envelope][1](SOURCE, kind, {"cursor": "c", "detail": "d"}, time, US)))
    control = control_of(line)
    assert control is not None
    assert {name: control[name] for name in ("type", "cursor", "detail", "time")} == {
        "type": kind, "cursor": "c", "detail": "d", "time": time
    }  # fmt: skip
