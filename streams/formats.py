"""The forms in which events leave: our own, Debezium's envelope, CloudEvents.

A door says what is to be shown (`Shown`: keys and rows as JSON, which depends on the kind of table); here it
is put into the members that consumers know. What is no event (heartbeats, notices) has a form in each, too,
so that a consumer of one form meets nothing else.

Debezium: https://debezium.io/documentation/reference/stable/connectors/postgresql.html (change event
values); CloudEvents 1.0, JSON format: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from streams.events import DELETED, ENDED, INSERTED, READ, TRUNCATED, UPDATED

PLAIN, DEBEZIUM, CLOUDEVENTS = "plain", "debezium", "cloudevents"

_OPERATIONS = {INSERTED: "c", UPDATED: "u", DELETED: "d", TRUNCATED: "t", READ: "r"}


class Shown(msgspec.Struct, frozen=True):
    """An event as a door shows it: `key`, `before`, `after` and `changed` are JSON-able.

    `time` is the event time (RFC 3339), `timestamp_us` the write's timestamp by the hybrid logical clock.
    `imaged` says which of before and after the table has; `flags` are words such as late or superseded.
    `extent` are bounds of a deletion of many rows.
    """

    id: str
    operation: str
    scope: str
    key: Any
    changed: Any
    before: Any
    after: Any
    imaged: tuple[bool, bool]
    timestamp_us: int
    admitted_us: int
    time: str
    epoch: int
    flags: tuple[str, ...]
    cursor: str
    extent: Any = None
    remains: bool = False
    """Of an expiry: whether something of the row is left."""
    key_name: str = ""
    """As what a row's key counts where images do not have it; "" where they do, and the key is an object."""


class Source(msgspec.Struct, frozen=True):
    """Where events come from."""

    cluster: str
    keyspace: str
    table: str

    @property
    def name(self) -> str:
        """The table as streams name it."""
        return f"{self.keyspace}.{self.table}"


Event = Callable[[Source, Shown], dict[str, Any]]
Control = Callable[[Source, str, dict[str, Any], str, int], dict[str, Any]]


def plain(source: Source, shown: Shown) -> dict[str, Any]:
    """Our own form."""
    found: dict[str, Any] = {
        "type": "event",
        "id": shown.id,
        "table": source.name,
        "op": shown.operation,
        "key": shown.key,
    }
    if shown.scope != "row":
        found["scope"] = shown.scope
    if shown.extent is not None:
        found["range"] = shown.extent
    if shown.changed is not None:
        found["changed"] = shown.changed
    if shown.imaged[0]:
        found["before"] = shown.before
    if shown.imaged[1]:
        found["after"] = shown.after
    found["timestamp_us"] = shown.timestamp_us
    found["time"] = shown.time
    found["epoch"] = shown.epoch
    for flag in shown.flags:
        found[flag] = True
    found["cursor"] = shown.cursor
    return found


def plain_control(
    source: Source, kind: str, members: dict[str, Any], time: str, now_us: int
) -> dict[str, Any]:
    """A heartbeat or notice in our own form."""
    del now_us
    return {"type": kind, "table": source.name, "time": time, **members}


def debezium(source: Source, shown: Shown) -> dict[str, Any]:
    """The value of a Debezium change event, without its schema.

    Images are rows there, and have their keys. Of what is deleted at least the key is known, as of a table
    without a full replica identity.
    """
    operation = _debezium_operation(shown)
    before = _keyed(shown, shown.before) if shown.imaged[0] else None
    if before is None and operation == "d" and shown.scope == "row":
        before = {shown.key_name: shown.key} if shown.key_name else shown.key
    return {
        "before": before,
        "after": _keyed(shown, shown.after) if shown.imaged[1] else None,
        "op": operation,
        "ts_ms": shown.admitted_us // 1000,
        "ts_us": shown.admitted_us,
        "ts_ns": shown.admitted_us * 1000,
        "source": {
            **_debezium_source(source, shown.admitted_us),
            "snapshot": "true" if shown.operation == READ else "false",
            "id": shown.id,
            "key": shown.key,
            "scope": shown.scope,
            **({"expired": True} if shown.operation == ENDED else {}),
            "changed": shown.changed,
            "timestamp_us": shown.timestamp_us,
            "epoch": shown.epoch,
            "cursor": shown.cursor,
            **dict.fromkeys(shown.flags, True),
        },
        "transaction": None,
    }


def _keyed(shown: Shown, image: Any) -> Any:
    """An image as a row, with its key; a document that is no object stays what it is."""
    if shown.key_name and isinstance(image, msgspec.Raw) and bytes(image).lstrip()[:1] == b"{":
        image = msgspec.json.decode(image, type=dict[str, msgspec.Raw])
    if not shown.key_name or not isinstance(image, dict):
        return image
    return {shown.key_name: shown.key, **image, shown.key_name: shown.key}


def _debezium_operation(shown: Shown) -> str:
    """Debezium knows no expiry: what is gone is deleted, what has lost something is updated."""
    if shown.operation == ENDED:
        return "u" if shown.remains else "d"
    return _OPERATIONS[shown.operation]


def debezium_control(
    source: Source, kind: str, members: dict[str, Any], time: str, now_us: int
) -> dict[str, Any]:
    """A heartbeat or notice as a logical message."""
    return {
        "op": "m",
        "ts_ms": now_us // 1000,
        "source": _debezium_source(source, now_us),
        "message": {"prefix": f"sullae.{kind}", "content": {"time": time, **members}},
    }


def _debezium_source(source: Source, at_us: int) -> dict[str, Any]:
    return {
        "version": "1",
        "connector": "sullae",
        "name": source.cluster,
        "ts_ms": at_us // 1000,
        "ts_us": at_us,
        "ts_ns": at_us * 1000,
        "db": source.keyspace,
        "schema": source.keyspace,
        "table": source.table,
    }


def cloudevents(source: Source, shown: Shown) -> dict[str, Any]:
    """A CloudEvent in structured mode; `data` is our own form."""
    key = shown.key if isinstance(shown.key, str) else msgspec.json.encode(shown.key).decode()
    subject = {} if shown.key in (None, "") else {"subject": key}
    return {
        "specversion": "1.0",
        "id": shown.id,
        "source": _uri(source),
        "type": f"sullae.change.{shown.operation}",
        **subject,
        "time": shown.time,
        "datacontenttype": "application/json",
        "data": plain(source, shown),
    }


def cloudevents_control(
    source: Source, kind: str, members: dict[str, Any], time: str, now_us: int
) -> dict[str, Any]:
    """A heartbeat or notice as a CloudEvent; its id need only differ from others of its source."""
    return {
        "specversion": "1.0",
        "id": f"{kind}-{now_us}",
        "source": _uri(source),
        "type": f"sullae.{kind}",
        "time": time,
        "datacontenttype": "application/json",
        "data": plain_control(source, kind, members, time, now_us),
    }


def _uri(source: Source) -> str:
    return f"/sullae/{_quoted(source.cluster)}/{_quoted(source.name)}"


def _quoted(text: str) -> str:
    """Text as a segment of a path (RFC 3986)."""
    plain = b"-._~"
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or byte in plain) else f"%{byte:02X}"
        for byte in text.encode()
    )


FORMS: dict[str, tuple[Event, Control]] = {
    PLAIN: (plain, plain_control),
    DEBEZIUM: (debezium, debezium_control),
    CLOUDEVENTS: (cloudevents, cloudevents_control),
}
"""Every envelope by name."""
