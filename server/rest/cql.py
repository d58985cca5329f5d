"""`POST /v1/cql`: a statement in JSON, its result in JSON, for those without a driver.

    {"query": "SELECT * FROM shop.users WHERE id = ?", "parameters": [1]}
    {"columns": [{"name": "id", "type": "int"}, ...], "rows": [{"id": 1, ...}], "page_state": null}

The statement goes the way of every other (`cql_lite/session.py`), with a session of its own: the keyspace is
a member of the request, USE has nobody to last for. Parameters are typed by what the statement says of its
markers, as INSERT JSON would take them, and values come back as SELECT JSON has them: numbers keep every
digit, blobs are 0x..., json columns are JSON. A page state goes into the next request as it came.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from core import limits
from core.consistency import Level
from core.errors import RequestError
from core.requests import Request
from cql_lite import wire
from cql_lite.operation_ids import PAYLOAD_KEY
from cql_lite.outcomes import error_of_request
from cql_lite.running import Run
from cql_lite.session import Session
from cql_lite.types_scalar import json_string
from server.cql import CqlService
from server.rest.bodies import Budget, decoded_body, read_body
from server.rest.idempotency import key_of
from server.rest.problems import ProblemError

BODY_BYTES_MAX: Final = limits.STATEMENT_CHARS_MAX + limits.MIB
PAGE_ROWS: Final = 1_000
PAGE_ROWS_MAX: Final = 10_000
APPLIED: Final = "[applied]"
_TRUE: Final = b"\x01"

_POSITION: Final = re.compile(r"^line (\d+), column (\d+)")
_LEVELS: Final = {level.name: level for level in Level}
_KINDS: Final[dict[type[wire.Error], str]] = {
    wire.SyntaxFault: "cql-syntax",
    wire.Invalid: "cql-invalid",
    wire.ConfigError: "cql-invalid",
    wire.FunctionFailure: "cql-invalid",
    wire.Unauthorized: "not-permitted",
    wire.AlreadyExists: "already-exists",
    wire.Unavailable: "unavailable",
    wire.Overloaded: "overloaded",
    wire.IsBootstrapping: "not-ready",
    wire.ReadTimeout: "timeout",
    wire.WriteTimeout: "outcome-unknown",
    wire.CasWriteUnknown: "outcome-unknown",
    wire.ReadFailure: "replicas-failed",
    wire.WriteFailure: "replicas-failed",
    wire.TruncateError: "replicas-failed",
}
"""The problem that each error of the protocol is; any other is one of ours."""


class CqlBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request."""

    query: str
    parameters: list[msgspec.Raw] | dict[str, msgspec.Raw] = []
    keyspace: str = ""
    consistency: str = Level.QUORUM.name
    serial_consistency: str | None = None
    page_size: int = PAGE_ROWS
    page_state: str | None = None
    timestamp: int | None = None


class CqlRoute:
    """The route on one node."""

    def __init__(self, service: CqlService, budget: Budget) -> None:
        self._service = service
        self._budget = budget
        self._decoder = msgspec.json.Decoder(CqlBody)

    async def respond(self, request: web.BaseRequest) -> web.Response:
        """The answer to a request; raises ProblemError."""
        operation_id = key_of(request)
        data = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
        body = decoded_body(self._decoder, data, "the request for CQL")
        query = wire.Query(body.query, self._parameters(body))
        payload: wire.Payload = {} if operation_id is None else {PAYLOAD_KEY: operation_id}
        warnings: list[str] = []
        response = await self._answered(query, payload, warnings)
        if isinstance(response, wire.Error):
            raise problem_of_error(response)
        headers = {"Server": "sullae", "Content-Type": "application/json"}
        return web.Response(body=result_bytes(response, warnings), headers=headers)

    def _parameters(self, body: CqlBody) -> wire.Parameters:
        if not 1 <= body.page_size <= PAGE_ROWS_MAX:
            raise ProblemError("bad-limit", f"page_size is 1 to {PAGE_ROWS_MAX}, not {body.page_size}")
        names, values = self._values(body)
        serial = body.serial_consistency
        return wire.Parameters(
            _level(body.consistency),
            tuple(values),
            tuple(names),
            page_size=body.page_size,
            paging_state=_page_state(body.page_state),
            serial_consistency=None if serial is None else _level(serial),
            timestamp_us=body.timestamp,
            keyspace=body.keyspace,
        )

    def _values(self, body: CqlBody) -> tuple[list[str], list[wire.BoundValue]]:
        """The parameters as the statement's markers type them, and their names if they have some."""
        if not body.parameters:
            return [], []
        try:
            prepared = self._service.statements.of_text(body.query, body.keyspace)
        except RequestError as error:
            raise problem_of_error(error_of_request(error)) from None
        columns = prepared.variables.columns
        if isinstance(body.parameters, dict):
            known = {column.name: column for column in columns}
            strange = [name for name in body.parameters if name not in known]
            if strange:
                there = ", ".join(f":{name}" for name in known) or "none"
                raise ProblemError("cql-invalid", f"there is no marker :{strange[0]}; there are {there}")
            pairs = [(known[name], raw) for name, raw in body.parameters.items()]
            return list(body.parameters), [_value(column, raw) for column, raw in pairs]
        if len(columns) != len(body.parameters):
            detail = (
                f"the statement has {len(columns)} bind markers, and {len(body.parameters)} parameters came"
            )
            raise ProblemError("cql-invalid", detail)
        return [], [_value(column, raw) for column, raw in zip(columns, body.parameters, strict=True)]

    async def _answered(self, query: wire.Query, payload: wire.Payload, warnings: list[str]) -> wire.Response:
        """The session's response; a client that is gone is not waited for."""
        session = Session(self._service.statements)
        future: asyncio.Future[wire.Response] = asyncio.get_running_loop().create_future()

        def done(response: wire.Response) -> None:
            if not future.done():
                future.set_result(response)

        run = Run(session.answer(query, payload, warnings), self._ask, done)
        run.start()
        try:
            return await future
        except asyncio.CancelledError:
            run.abandon()
            raise

    def _ask(self, request: Request, answered: Callable[[Any], None]) -> None:
        self._service.bridge.collect(request, self._service.timeout_us(request), answered)


def _value(column: wire.ColumnSpec, raw: msgspec.Raw) -> bytes | None:
    try:
        return column.type.from_json(bytes(raw))
    except RequestError as error:
        raise ProblemError("cql-invalid", f"the parameter for {column.name}: {error}") from None


def _level(name: str) -> Level:
    found = _LEVELS.get(name.upper())
    if found is None:
        there = ", ".join(_LEVELS).lower()
        raise ProblemError("bad-level", f"there is no consistency level {name[:40]!r}; there are {there}")
    return found


def _page_state(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ProblemError("bad-cursor", "this is no page_state that an answer had") from None


# --- out


def result_bytes(response: wire.Response, warnings: Sequence[str] = ()) -> bytes:
    """A result as JSON."""
    members = {"columns": "[]", "rows": "[]", "page_state": "null"}
    if isinstance(response, wire.Rows):
        members |= _rows_members(response)
    if isinstance(response, wire.SetKeyspace):
        detail = "USE has nothing to last for here: give the keyspace as a member of each request"
        raise ProblemError("cql-invalid", detail)
    if isinstance(response, wire.SchemaChange):
        changed = {"change": response.change, "target": response.target, "keyspace": response.keyspace}
        if response.name:
            changed["name"] = response.name
        members["schema"] = msgspec.json.encode(changed).decode()
    if warnings:
        members["warnings"] = msgspec.json.encode(list(warnings)).decode()
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in members.items()) + "}").encode()


def _rows_members(response: wire.Rows) -> dict[str, str]:
    columns = response.metadata.columns
    described = ", ".join(
        f'{{"name": {json_string(column.name)}, "type": {json_string(column.type.cql)}}}'
        for column in columns
    )
    names = [json_string(column.name) for column in columns]
    rows = ",\n".join(_row_text(names, columns, row) for row in response.rows)
    members = {"columns": f"[{described}]", "rows": f"[{rows}]"}
    if response.paging_state is not None:
        members["page_state"] = json_string(base64.urlsafe_b64encode(response.paging_state).decode())
    if columns and columns[0].name == APPLIED and response.rows:
        members["applied"] = "true" if all(row[0] == _TRUE for row in response.rows) else "false"
    return members


def _row_text(names: Sequence[str], columns: Sequence[wire.ColumnSpec], row: Sequence[bytes | None]) -> str:
    members = [
        f"{name}: {'null' if value is None else column.type.to_json(value)}"
        for name, column, value in zip(names, columns, row, strict=True)
    ]
    return "{" + ", ".join(members) + "}"


def problem_of_error(error: wire.Error) -> ProblemError:
    """An error of the protocol as a problem, with the numbers that it has."""
    members: dict[str, Any] = {}
    position = _POSITION.match(error.message)
    if isinstance(error, wire.SyntaxFault) and position:
        members = {"line": int(position[1]), "column": int(position[2])}
    if isinstance(error, wire.AlreadyExists):
        members = {"keyspace": error.keyspace, "table": error.table or None}
    level = getattr(error, "consistency", None)
    if level is not None:
        members["level"] = level.value
        for name in ("received", "required", "alive", "write_type"):
            if hasattr(error, name):
                members[name] = getattr(error, name)
    return ProblemError(_KINDS.get(type(error), "internal-error"), error.message, **members)
