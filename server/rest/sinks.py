"""`/v1/sinks`: what the cluster delivers to files by itself.

    GET     /v1/sinks               all of them
    GET     /v1/sinks/{name}        one: what it is, whose it is, how far it is
    PUT     /v1/sinks/{name}        {"table", "kind", "from", "every_s", "url", "secret", "paused"}
    DELETE  /v1/sinks/{name}        it ends; its files stay

Kinds are ndjson, parquet and webhook (with a `url`; a `secret` is made where none is given, and told once).

`from` is now, start, snapshot (all rows first), a time or how long ago, and means the moment of the PUT. A
PUT to one that is there may pause it, go on, or change its kind or `every_s` (how much time a batch is
about); it stays where it is in the stream.
Its table cannot be changed.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from core.schema import Table
from node.node import Node
from server.rest.bodies import Budget, read_body
from server.rest.changes_shown import time_text
from server.rest.problems import ProblemError
from server.rest.targets import decoded, options
from server.sinks.files import MissingError, arrow
from server.sinks.records import (
    EVERY_S,
    EVERY_S_MAX,
    KINDS,
    SINKS_MAX,
    SinkRecord,
    SinkRecords,
    StoreAwayError,
)
from server.sinks.running import Sinks
from server.sinks.webhook import url_problem

SINKS: Final = "/v1/sinks"
BODY_BYTES_MAX: Final = 16 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_AGO: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    table: str | None = None
    kind: str | None = None
    start: str | None = msgspec.field(default=None, name="from")
    every_s: float | None = None
    url: str | None = None
    secret: str | None = None
    paused: bool | None = None


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
        if name and _NAME.fullmatch(name) is None:
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
            return _json({"sinks": [shown(kept.record) for kept in found if kept is not None]})
        if method == "PUT":
            body = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
            return await self._put(records, name, body)
        while True:
            kept = await records.get(name)
            if kept is None:
                raise ProblemError("no-such-sink", f"there is no sink {name}")
            if method == "GET":
                return _json(shown(kept.record))
            if await records.swap(kept, None, name):
                return web.Response(status=204, headers={"Server": "sullae"})

    async def _put(self, records: SinkRecords, name: str, body: bytes) -> web.Response:
        try:
            wanted = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProblemError("bad-body", f"a sink's description: {error}") from None
        _check_kind(wanted.kind)
        problem = "" if wanted.url is None else url_problem(wanted.url, self._sinks.private)
        if problem or (wanted.kind == "webhook" and wanted.url is None):
            raise ProblemError("bad-sink", problem or "a webhook has a url")
        if wanted.every_s is not None and not 0 <= wanted.every_s <= EVERY_S_MAX:
            raise ProblemError("bad-sink", f"every_s is 0 to {EVERY_S_MAX:.0f} seconds")
        while True:
            kept = await records.get(name)
            if kept is None:
                record = self._new(name, wanted)
                if len(await records.names()) >= SINKS_MAX:
                    raise ProblemError("bad-sink", f"there are at most {SINKS_MAX} sinks")
            else:
                record = self._altered(kept.record, wanted)
            if await records.swap(kept, record, name):
                told = shown(record)
                if kept is None and record.kind == "webhook":
                    told["secret"] = record.secret  # told once, to who made it
                return _json(told, 201 if kept is None else 200)

    def _new(self, name: str, wanted: _Body) -> SinkRecord:
        if wanted.table is None or wanted.kind is None:
            raise ProblemError("bad-sink", "a sink has a table (docs.movies) and a kind (ndjson, parquet)")
        table = self._table(wanted.table)
        return SinkRecord(
            name=name,
            table=f"{table.keyspace}.{table.name}",
            kind=wanted.kind,
            start=self._start(wanted.start or "now"),
            every_s=EVERY_S if wanted.every_s is None else wanted.every_s,
            url=wanted.url or "",
            secret=wanted.secret or (secrets.token_hex(32) if wanted.kind == "webhook" else ""),
            paused=bool(wanted.paused),
            generation=secrets.token_hex(4),
        )

    def _altered(self, record: SinkRecord, wanted: _Body) -> SinkRecord:
        same_table = wanted.table is None or self._table(wanted.table).name == record.table.partition(".")[2]
        if not same_table or wanted.start is not None:
            detail = f"{record.name} is there, of {record.table}: its table and `from` stay; remove it first"
            raise ProblemError("bad-sink", detail)
        kind = wanted.kind or record.kind
        paused = record.paused if wanted.paused is None else wanted.paused
        every_s = record.every_s if wanted.every_s is None else wanted.every_s
        url = record.url if wanted.url is None else wanted.url
        secret = record.secret if wanted.secret is None else wanted.secret
        if kind == "webhook" and not (url and secret):
            raise ProblemError("bad-sink", "a webhook has a url and a secret")
        altered = msgspec.structs.replace(record, kind=kind, paused=paused, every_s=every_s)
        altered = msgspec.structs.replace(altered, url=url, secret=secret)
        if altered == record:
            return record
        altered = msgspec.structs.replace(altered, error="")
        return msgspec.structs.replace(altered, generation=secrets.token_hex(4))

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


def _check_kind(kind: str | None) -> None:
    if kind is not None and kind not in KINDS:
        raise ProblemError("bad-sink", f"a sink's kind is {' or '.join(KINDS)}; found {kind[:60]!r}")
    if kind == "parquet":
        try:
            arrow()
        except MissingError as error:
            raise ProblemError("bad-sink", str(error)) from None


def shown(record: SinkRecord) -> dict[str, Any]:
    """A sink as JSON: `owner` is the peer that delivers now, "" while none does."""
    found = msgspec.to_builtins(record)
    for name in ("generation", "beat"):
        del found[name]
    if record.kind != "webhook":
        del found["url"]
    del found["secret"]
    found["owner"] = record.owner.partition("/")[0]
    found["from"] = found.pop("start")
    return dict(found)


def _json(body: Any, status: int = 200) -> web.Response:
    headers = {"Server": "sullae", "Content-Type": "application/json"}
    return web.Response(status=status, body=orjson.dumps(body), headers=headers)
