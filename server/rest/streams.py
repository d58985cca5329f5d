"""`/v1/streams`: consumer groups; docs/streams.md tells users.

    GET     /v1/streams                            all groups
    GET     /v1/streams/{table}/{group}            one, with its lag
    PUT     /v1/streams/{table}/{group}            {"from", "parts"}: make it, or set it to another place
    DELETE  /v1/streams/{table}/{group}            forget it
    POST    /v1/streams/{table}/{group}/ack        {"ack", "cursor"}
    POST    /v1/streams/{table}/{group}/heartbeat  {"session"}
    POST    /v1/streams/{table}/{group}/leave      {"session"}

A member joins by `GET /v1/changes/{table}?group=...` (server/rest/changes.py). All that is decided is decided
in node/groups.py.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
import orjson
from aiohttp import web

from core.requests import Told
from core.streaming import ACK, FORGET, HEARTBEAT, LEAVE, LIST, MAKE, SHOW, GroupRequest
from node.node import Node
from server.bridge import Bridge
from server.rest.bodies import Budget, decoded_body, read_body
from server.rest.changes import FAMILIES, subscribed_table
from server.rest.changes_shown import time_text
from server.rest.changes_stream import refusal_of
from server.rest.changes_wanted import checked_name, parts_of, start_of
from server.rest.problems import ProblemError
from server.rest.targets import decoded, options
from streams.cursor import CURSOR_CHARS_MAX, Cursor, decode_cursor, encode_cursor, laid_over
from streams.groups import PARTS, decode_ack

STREAMS: Final = "/v1/streams"
BODY_BYTES_MAX: Final = 8 * CURSOR_CHARS_MAX
TIMEOUT_US: Final = 10_000_000
T = TypeVar("T")

_METHODS: Final = {0: ("GET",), 2: ("DELETE", "GET", "PUT"), 3: ("POST",)}
"""By how many names the path has."""


class _AckBody(msgspec.Struct, forbid_unknown_fields=True):
    ack: str
    cursor: str = ""


class _SessionBody(msgspec.Struct, forbid_unknown_fields=True):
    session: str


class _GroupBody(msgspec.Struct, forbid_unknown_fields=True):
    start: str = msgspec.field(default="now", name="from")
    parts: int = PARTS


class StreamsRoute:
    """The routes on one node."""

    def __init__(self, node: Node, bridge: Bridge, budget: Budget) -> None:
        self._node = node
        self._bridge = bridge
        self._budget = budget

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        """The answer; raises ProblemError."""
        options(query, ())
        ready, why = self._node.ready()
        if not ready:
            raise ProblemError("not-ready", why)
        names = [decoded(name) for name in path[len(STREAMS) + 1 :].split("/")] if path != STREAMS else []
        allowed = _METHODS.get(len(names), ())
        if not allowed or (len(names) == 3 and names[2] not in (ACK, HEARTBEAT, LEAVE)):
            raise ProblemError(
                "not-found",
                "there are /v1/streams, /v1/streams/{table}/{group}, and there /ack, /heartbeat and /leave",
            )
        if request.method not in allowed:
            error = ProblemError("method-not-allowed", f"there are: {', '.join(allowed)}")
            error.headers["Allow"] = ", ".join(allowed)
            raise error
        body = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
        answer = await self._bridge.ask(self._asked(request.method, names, body), TIMEOUT_US)
        if not isinstance(answer, Told):
            raise refusal_of(answer)
        if not answer.body:
            return web.Response(status=204, headers={"Server": "sullae"})
        headers = {"Server": "sullae", "Content-Type": "application/json"}
        return web.Response(body=orjson.dumps(_timed(answer.body)), headers=headers)

    def _asked(self, method: str, names: list[str], body: bytes) -> GroupRequest:
        if not names:
            return GroupRequest(LIST)
        group = checked_name("group", names[1])
        if method in ("GET", "DELETE"):
            return GroupRequest(SHOW if method == "GET" else FORGET, self._known(names[0]), group)
        table = subscribed_table(self._node, names[0])
        place = f"{table.keyspace}.{table.name}", group
        if method == "PUT":
            made = _body(body or b"{}", _GroupBody)
            start, since_us = start_of(made.start, self._node.inside.clock.now_us())
            return GroupRequest(MAKE, *place, start=start, since_us=since_us, parts=parts_of(made.parts))
        if names[2] == ACK:
            return _ack(place, _body(body, _AckBody))
        return GroupRequest(names[2], *place, _body(body, _SessionBody).session)

    def _known(self, name: str) -> str:
        """A table's whole name, if it is there; groups of one that is not can be forgotten all the same."""
        keyspace, _, table_name = name.partition(".")
        state = self._node.metadata.state
        table = state.table(keyspace, table_name)
        if table is None and keyspace in FAMILIES:
            table = state.table_across(keyspace, table_name)
        return name if table is None else f"{table.keyspace}.{table.name}"


def _body(data: bytes, kind: type[T]) -> T:
    return decoded_body(msgspec.json.Decoder(kind), data, "the body")


def _ack(place: tuple[str, str], body: _AckBody) -> GroupRequest:
    ack = decode_ack(body.ack)
    cursor = "not an ack" if ack is None else decode_cursor(ack.cursor)
    if ack is None or not isinstance(cursor, Cursor):
        raise ProblemError("bad-cursor", "`ack` is that of a heartbeat or of an assigned line, as it came")
    for text in body.cursor.split(",") if body.cursor else ():
        one = decode_cursor(text)
        if not isinstance(one, Cursor) or one.name != cursor.name:
            raise ProblemError("bad-cursor", "`cursor` has those of events of this stream, with commas")
        cursor = laid_over(cursor, one)
    return GroupRequest(ACK, *place, ack.session, ack.parts, encode_cursor(cursor))


def _timed(body: dict[str, Any]) -> dict[str, Any]:
    """Times as people read them."""
    found: dict[str, Any] = {}
    for name, value in body.items():
        if name.endswith("_us") and isinstance(value, int):
            found[name.removesuffix("_us") + ("_at" if name == "acknowledged_us" else "")] = (
                time_text(value) if value else None
            )
        elif isinstance(value, list):
            found[name] = [_timed(item) if isinstance(item, dict) else item for item in value]
        else:
            found[name] = value
    return found
