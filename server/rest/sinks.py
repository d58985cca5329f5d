"""`/v1/sinks`: what the cluster delivers by itself.

    GET     /v1/sinks               all of them
    GET     /v1/sinks/{name}        one: what it is, whose it is, how far it is
    PUT     /v1/sinks/{name}        {"table", "kind", "from", "every_s", "url", "user", "secret", "mechanism",
                                     "envelope", "paused"}
    DELETE  /v1/sinks/{name}        it ends; its files stay

Kinds are ndjson and parquet (files), and webhook, kafka and mqtt, with a `url` (server/sinks/places.py). A
`secret` signs a webhook's requests, or is the password of `user` at a broker; it is given as a reference
(server/sinks/secrets.py) and never itself.

`from` is now, start, snapshot (all rows first), a time or how long ago, and means the moment of the PUT. A
PUT to one that is there may pause it, go on, or change all but its table and `from`: it stays where it is
in the stream. With `declared` (server/sinks/declared.py) it is changed only if that was not applied before.
"""

from __future__ import annotations

import re
import secrets
import time
from datetime import datetime
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from core.schema import PARTITION, Table
from node.node import Node
from server.rest.bodies import Budget, decoded_body, read_body
from server.rest.changes_shown import time_text
from server.rest.problems import ProblemError
from server.rest.targets import decoded, options
from server.sinks.envelopes import ENVELOPES, PLAIN
from server.sinks.files import MissingError, arrow
from server.sinks.kafka import MECHANISMS, kafka
from server.sinks.mqtt import mqtt
from server.sinks.places import place_problem
from server.sinks.records import (
    EVERY_S,
    EVERY_S_MAX,
    FILE_KINDS,
    KINDS,
    NAME,
    SINKS_MAX,
    SinkRecord,
    SinkRecords,
    StoreAwayError,
)
from server.sinks.running import Sinks
from server.sinks.secrets import reference_problem

SINKS: Final = "/v1/sinks"
BODY_BYTES_MAX: Final = 16 * 1024
USER_CHARS_MAX: Final = 256
_AGO: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    table: str | None = None
    kind: str | None = None
    start: str | None = msgspec.field(default=None, name="from")
    every_s: float | None = None
    url: str | None = None
    user: str | None = None
    secret: str | None = None
    mechanism: str | None = None
    envelope: str | None = None
    paused: bool | None = None
    declared: str | None = None


_decoder = msgspec.json.Decoder(_Body)


class SinksRoute:
    """The routes on one node."""

    def __init__(self, node: Node, sinks: Sinks, budget: Budget) -> None:
        self._node = node
        self._sinks = sinks
        self._budget = budget

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        """The answer; raises ProblemError."""
        options(query, ())
        ready, why = self._node.ready()
        if not ready:
            raise ProblemError("not-ready", why)
        name, method = decoded(path[len(SINKS) + 1 :]), request.method
        if name and NAME.fullmatch(name) is None:
            detail = "a sink's name is 1 to 48 letters, digits, - or _, the first a letter or digit"
            raise ProblemError("bad-sink", f"{detail}; found {name[:60]!r}")
        allowed = ("DELETE", "GET", "PUT") if name else ("GET",)
        if method not in allowed:
            error = ProblemError("method-not-allowed", f"there are: {', '.join(allowed)}")
            error.headers["Allow"] = ", ".join(allowed)
            raise error
        try:
            return await self._answer(request, method, name)
        except StoreAwayError as error:
            raise ProblemError("unavailable", f"{error}; whether it was done is unknown: ask again") from None

    async def _answer(self, request: web.BaseRequest, method: str, name: str) -> web.Response:
        records = self._sinks.records
        if not name:
            found = [await records.get(each) for each in await records.names()]
            there = [kept.record for kept in found if kept is not None and not kept.record.removed]
            return _json({"sinks": [shown(record) for record in there]})
        if method == "PUT":
            body = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
            return await self._put(records, name, body)
        while True:
            kept = await records.get(name)
            if kept is None or kept.record.removed:
                raise ProblemError("no-such-sink", f"there is no sink {name}")
            if method == "GET":
                return _json(shown(kept.record))
            mark = msgspec.structs.replace(kept.record, removed=True, owner="", cursor="")
            if await records.swap(kept, mark if mark.declared else None, name):
                return web.Response(status=204, headers={"Server": "sullae"})

    async def _put(self, records: SinkRecords, name: str, body: bytes) -> web.Response:
        wanted = decoded_body(_decoder, body, "a sink's description")
        _check(wanted)
        while True:
            kept = await records.get(name)
            before = None if kept is None else kept.record
            if before is not None and wanted.declared is not None and wanted.declared == before.declared:
                return _json(shown(before))
            if before is None or before.removed:
                record = self._new(name, wanted)
                if len(await records.names()) >= SINKS_MAX:
                    raise ProblemError("bad-sink", f"there are at most {SINKS_MAX} sinks")
                if before is not None:  # leases never go back
                    record = msgspec.structs.replace(
                        record, fence=before.fence, declared=record.declared or before.declared
                    )
            else:
                record = self._altered(before, wanted)
            problem = place_problem(record.kind, record.url, self._sinks.private)
            if record.kind == "parquet" and record.envelope != PLAIN:
                problem = "Parquet has columns of its own: its envelope is plain"
            if problem:
                raise ProblemError("bad-sink", problem)
            if await records.swap(kept, record, name):
                return _json(shown(record), 201 if before is None or before.removed else 200)

    def _new(self, name: str, wanted: _Body) -> SinkRecord:
        if wanted.table is None or wanted.kind is None:
            raise ProblemError(
                "bad-sink", f"a sink has a table (docs.movies) and a kind ({', '.join(KINDS)})"
            )
        table = self._table(wanted.table)
        columns = [column.name for column in table.columns if column.kind == PARTITION]
        return SinkRecord(
            name=name,
            table=f"{table.keyspace}.{table.name}",
            kind=wanted.kind,
            start=self._start(wanted.start or "now"),
            every_s=EVERY_S if wanted.every_s is None else wanted.every_s,
            url=wanted.url or "",
            user=wanted.user or "",
            secret=wanted.secret or "",
            mechanism=wanted.mechanism or "",
            envelope=wanted.envelope or PLAIN,
            partition=tuple(columns),
            declared=wanted.declared or "",
            paused=bool(wanted.paused),
            generation=secrets.token_hex(4),
        )

    def _altered(self, record: SinkRecord, wanted: _Body) -> SinkRecord:
        same_table = wanted.table is None or self._table(wanted.table).name == record.table.partition(".")[2]
        if not same_table or (wanted.start is not None and wanted.declared is None):
            detail = f"{record.name} is there, of {record.table}: its table and `from` stay; remove it first"
            raise ProblemError("bad-sink", detail)
        named = ("kind", "every_s", "url", "user", "secret", "mechanism", "envelope", "paused", "declared")
        given = {name: getattr(wanted, name) for name in named}
        altered = msgspec.structs.replace(record, **{n: v for n, v in given.items() if v is not None})
        if altered == record:
            return record
        return msgspec.structs.replace(altered, error="", generation=secrets.token_hex(4))

    def _table(self, name: str) -> Table:
        keyspace, _, table_name = name.partition(".")
        state = self._node.metadata.state
        table = state.table(keyspace, table_name)
        if table is None and keyspace in ("kv", "docs"):
            table = state.table_across(keyspace, table_name)
        if table is None:
            raise ProblemError("no-such-table", f"there is no table {name[:200]!r}; as in docs.movies")
        if table.options.changes == "none":
            raise ProblemError(
                "changes-off", f"set `changes` of {name} to keys, new, old or new_and_old first"
            )
        return table

    def _start(self, text: str) -> str:
        """As the stream takes it, without a moment that would move with each reading."""
        now_us = self._node.inside.clock.now_us()
        ago = _AGO.fullmatch(text)
        if text == "now" or ago is not None:
            back_us = 0 if ago is None else int(ago[1]) * _SECONDS[ago[2]] * 1_000_000
            return time_text(max(0, now_us - back_us))
        try:
            good = text in ("start", "snapshot") or datetime.fromisoformat(text).tzinfo is not None
        except ValueError:
            good = False
        if not good:
            raise ProblemError(
                "bad-sink", "from is now, start, snapshot, 10m, or a time: 2026-01-31T12:00:00Z"
            )
        return text


def _check(wanted: _Body) -> None:
    """Raises ProblemError for what cannot be, whatever the sink is so far."""
    kind = wanted.kind
    problem = reference_problem(wanted.secret or "")
    if kind is not None and kind not in KINDS:
        problem = f"a sink's kind is {' or '.join(KINDS)}; found {kind[:60]!r}"
    elif wanted.mechanism and wanted.mechanism not in MECHANISMS:
        problem = f"a mechanism is {' or '.join(MECHANISMS)}"
    elif wanted.envelope and wanted.envelope not in ENVELOPES:
        problem = f"an envelope is {' or '.join(ENVELOPES)}"
    elif wanted.every_s is not None and not 0 <= wanted.every_s <= EVERY_S_MAX:
        problem = f"every_s is 0 to {EVERY_S_MAX:.0f} seconds"
    elif len(wanted.user or "") > USER_CHARS_MAX:
        problem = f"a user has at most {USER_CHARS_MAX} characters"
    needed = {"parquet": arrow, "kafka": kafka, "mqtt": mqtt}.get(kind or "")
    if not problem and needed is not None:
        try:
            needed()
        except MissingError as error:
            problem = str(error)
    if problem:
        raise ProblemError("bad-sink", problem)


def shown(record: SinkRecord) -> dict[str, Any]:
    """A sink as JSON: `owner` is the peer that delivers now, if any does; `secret` is a reference."""
    found = msgspec.to_builtins(record)
    hidden = ["generation", "beat", "removed", "partition"]
    hidden += ["url", "user", "secret", "mechanism"] if record.kind in FILE_KINDS else []
    hidden += ["mechanism"] if record.kind not in (*FILE_KINDS, "kafka") else []
    for name in hidden:
        del found[name]
    found["declared"] = bool(record.declared)
    found["owner"] = record.owner.partition("/")[0]
    found["from"] = found.pop("start")
    lag_s = record.lag_s(time.time())
    found["lag_s"] = None if lag_s is None else round(lag_s, 3)
    return dict(found)


def _json(body: Any, status: int = 200) -> web.Response:
    headers = {"Server": "sullae", "Content-Type": "application/json"}
    return web.Response(status=status, body=orjson.dumps(body), headers=headers)
