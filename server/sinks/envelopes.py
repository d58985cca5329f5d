"""The lines of a stream in whichever form a sink's receiver wants them (streams/formats.py).

A sink delivers lines as they came. What it must know of them itself, it reads here: whether a line is an
event or says where the stream stands, and of an event its id, operation, key and time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

PLAIN: Final = "plain"
ENVELOPES: Final = (PLAIN, "debezium", "cloudevents")
_PREFIX: Final = "sullae."
_DEBEZIUM_MESSAGE: Final = "m"

Line = dict[str, Any]


class About(NamedTuple):
    """What a sink knows of an event: `id` None for what is none of ours, `time` in RFC 3339."""

    id: str | None
    operation: str
    key: Any
    time: str


def control_of(line: Line) -> Line | None:
    """A heartbeat, gap, restart or error in our own form; None for an event."""
    if "specversion" in line:
        return None if str(line["type"]).startswith("sullae.change.") else dict(line["data"])
    if "type" in line:
        return None if line["type"] == "event" else line
    if line.get("op") == _DEBEZIUM_MESSAGE:
        message = line["message"]
        return {"type": str(message["prefix"]).removeprefix(_PREFIX), **message["content"]}
    return None


def about(event: Line) -> About:
    """Of an event in any of the forms."""
    if "specversion" in event:
        event = event["data"]
    if "source" in event:
        source = event["source"]
        time = datetime.fromtimestamp(event["ts_us"] / 1e6, UTC).isoformat()
        return About(_text(source.get("id")), str(event.get("op", "")), source.get("key"), time)
    return About(
        _text(event.get("id")), str(event.get("op", "")), event.get("key"), str(event.get("time", ""))
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
