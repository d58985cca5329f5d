"""Tracing of CQL requests: what a client reads in `system_traces` about a request that it asked to be traced.

While a request runs, its trace (core/trace.py) goes along with every request that it makes to the node. Some
moments after the answer, when replicas that answered late have told their part too, `keep` writes it: rows of
ordinary tables, which live as long as the tables' time to live says, so every peer can read them. The tables
are made at the first trace of a cluster; before, they are computed, and empty. The session's row comes last,
and with its `duration`: who sees that, as drivers wait for, finds all events.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import msgspec

from core.consistency import Level
from core.finding import FindRequest, Found
from core.limits import TRACE_TTL_S
from core.metadata import CreateTable
from core.requests import (
    Answer,
    BatchRequest,
    ConditionalRequest,
    CounterRequest,
    Judged,
    MetadataRequest,
    ReadRequest,
    RowsRead,
    ScanRequest,
    WriteRequest,
    Written,
)
from core.schema import NETWORK_TOPOLOGY, Replication, TableOptions
from core.trace import Trace
from cql_lite import wire
from cql_lite.parser import parse
from cql_lite.planner import Catalog
from cql_lite.planner_functions import timeuuid
from cql_lite.planner_modify import ModifyPlan
from cql_lite.planner_results import Asked, Options
from cql_lite.planner_terms import Context
from cql_lite.running import Answering
from cql_lite.session import Peer, Prepared, Statements
from cql_lite.system import TABLES, State, address_of
from cql_lite.types_base import InvalidValueError

KEYSPACE: Final = "system_traces"
SHOWN_PER_STEP_MAX: Final = 20
VALUE_CHARS_MAX: Final = 200
QUERY_CHARS_MAX: Final = 10_000
FACTOR: Final = 3
INSERTS: Final = {
    "events": f"INSERT INTO {KEYSPACE}.events (session_id, event_id, activity, source, source_port, "
    "source_elapsed, thread) VALUES (?, ?, ?, ?, ?, ?, ?)",
    "sessions": f"INSERT INTO {KEYSPACE}.sessions (session_id, client, command, coordinator, "
    "coordinator_port, duration, parameters, request, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
}
TITLES: Final[dict[type, str]] = {
    wire.Query: "Execute CQL3 query",
    wire.Execute: "Execute CQL3 prepared query",
    wire.Batch: "Execute batch of CQL3 queries",
    wire.Prepare: "Preparing CQL3 query",
}

_PASSWORD: Final = re.compile(r"(\bpassword\b).*", re.IGNORECASE | re.DOTALL)

Keeping = Generator[Asked, "list[Answer]", None]


class TracedRequest(msgspec.Struct, frozen=True):
    """A request of a client that is traced. `client` is its address as 4 or 16 bytes, if known."""

    trace: Trace
    request: wire.Request
    client: bytes | None
    started_us: int
    parameters: dict[str, str]


def begin(
    request: wire.Request, client: bytes | None, statements: Statements, clock: Callable[[], int]
) -> TracedRequest:
    """Begin to trace a request; `clock` is monotonic microseconds."""
    peer = statements.peer
    now_us = peer.now_us()
    trace = Trace(timeuuid(now_us, peer.token_bytes(8)), clock)
    return TracedRequest(trace, request, client, now_us, _parameters(request, statements))


def _parameters(request: wire.Request, statements: Statements) -> dict[str, str]:
    found: dict[str, str] = {}
    if isinstance(request, wire.Batch):
        found["statements"] = str(len(request.statements))
        found["consistency_level"] = request.consistency.name
        found["serial_consistency_level"] = (request.serial_consistency or Level.SERIAL).name
    elif isinstance(request, wire.Query | wire.Execute):
        parameters = request.parameters
        found["consistency_level"] = parameters.consistency.name
        found["serial_consistency_level"] = (parameters.serial_consistency or Level.SERIAL).name
        found["page_size"] = str(parameters.page_size)
        prepared = None
        if isinstance(request, wire.Query):
            found["query"] = shown(request.text)
        else:
            prepared = statements.known(request.id)
            found["query"] = "(not prepared here)" if prepared is None else shown(prepared.text)
        if prepared is not None:
            found |= _bound(prepared, parameters.values)
    elif isinstance(request, wire.Prepare):
        found["query"] = shown(request.text)
    return found


def shown(text: str) -> str:
    """A statement as traces show it: without passwords."""
    return _PASSWORD.sub(r"\1 *******", text)[:QUERY_CHARS_MAX]


def _bound(prepared: Prepared, values: Sequence[wire.BoundValue]) -> dict[str, str]:
    shown = {}
    for index, (column, value) in enumerate(zip(prepared.variables.columns, values, strict=False)):
        text = "null"
        if value is wire.UNSET:
            text = "unset"
        elif isinstance(value, bytes):
            text = f"{len(value)} bytes"
            if len(value) <= VALUE_CHARS_MAX:
                try:
                    text = column.type.to_json(value)
                except (InvalidValueError, ValueError):
                    text += " that are not of its type"
        shown[f"bound_var_{index}_{column.name}"] = text[:VALUE_CHARS_MAX]
    return shown


def traced(answering: Answering, of: TracedRequest, state: Callable[[], State]) -> Answering:
    """The same answers, with every request to the node carrying the trace, and what comes of them told."""
    trace = of.trace
    query = of.parameters.get("query", "")[:VALUE_CHARS_MAX]
    trace.tell(f"{_OPENINGS[type(of.request)]} {query}".rstrip())
    answers: list[Answer] | None = None
    while True:
        try:
            asked = next(answering) if answers is None else answering.send(answers)
        except StopIteration as stop:
            response: wire.Response = stop.value
            trace.tell(_closing(response))
            return response
        for request in asked[:SHOWN_PER_STEP_MAX]:
            trace.tell(request_text(request, state()))
        if len(asked) > SHOWN_PER_STEP_MAX:
            trace.tell(f"... and {len(asked) - SHOWN_PER_STEP_MAX} more such requests")
        answers = yield tuple(
            msgspec.structs.replace(request, trace=trace) if hasattr(request, "trace") else request
            for request in asked
        )
        for answer in answers[:SHOWN_PER_STEP_MAX]:
            trace.tell(answer_text(answer))


_OPENINGS: Final[dict[type, str]] = {
    wire.Query: "Parsing and planning",
    wire.Execute: "Executing prepared statement:",
    wire.Batch: "Planning a batch",
    wire.Prepare: "Preparing",
}


def _closing(response: wire.Response) -> str:
    if isinstance(response, wire.Error):
        return f"Request failed: {response.message}"
    if isinstance(response, wire.Rows):
        more = ", and more pages follow" if response.paging_state is not None else ""
        return f"Request complete: {len(response.rows)} rows{more}"
    return "Request complete"


def request_text(request: Any, state: State) -> str:
    """What a request asks of the node."""
    table = state.tables.get(getattr(request, "table", -1))
    where = "" if table is None else f" of {table.keyspace}.{table.name}"
    level = getattr(request, "level", None)
    at = "" if level is None else f" at {level.name}"
    match request:
        case ReadRequest():
            what = "a row" if request.point else f"up to {request.rows_max} rows of a partition"
            return f"Plan: read {what}{where}{at}"
        case ScanRequest():
            return f"Plan: read up to {request.rows_max} rows{where} in token order{at}"
        case WriteRequest():
            return f"Plan: write {len(request.rows)} rows of a partition{where}{at}"
        case CounterRequest():
            return f"Plan: add to counters in {len(request.rows)} rows{where}{at}"
        case BatchRequest():
            kind = "logged" if request.logged else "unlogged"
            return f"Plan: {kind} batch of {len(request.writes)} writes{at}"
        case ConditionalRequest():
            return f"Plan: conditional update{where}, decided at {request.serial_level.name}, written{at}"
        case FindRequest():
            how = "by an index" if request.drive is not None else "looking at every row"
            what = f"Plan: find up to {request.rows_max} rows{where}{at}, {how}"
            return f"{what}, at one replica per range that has caught up"
        case MetadataRequest():
            return f"Plan: change of the schema: {type(request.change).__name__}"
    return f"Plan: {type(request).__name__}{where}{at}"


def answer_text(answer: Answer) -> str:
    """What the node's answer says."""
    if isinstance(answer, RowsRead):
        return f"The level is met: {len(answer.rows)} rows{', more follow' if answer.more else ''}"
    if isinstance(answer, Found):
        return f"Found {len(answer.rows)} rows{', more follow' if answer.more else ''}"
    if isinstance(answer, Judged):
        return "Decided: applied" if answer.applied else "Decided: not applied"
    if isinstance(answer, Written):
        return "The level is met"
    detail = getattr(answer, "detail", "") or getattr(answer, "error", "")
    return f"{type(answer).__name__}{': ' if detail else ''}{detail}"


# --- keeping it


def keep(of: TracedRequest, statements: Statements, peer: Peer) -> Keeping:
    """Write a trace, having its tables made if need be. What fails is given up: a trace is no one's data."""
    catalog = statements.catalog()
    for name in INSERTS:
        if catalog.state.table(KEYSPACE, name) is None:
            yield (MetadataRequest(_creation(catalog.state, name)),)
            catalog = statements.catalog()
            if catalog.state.table(KEYSPACE, name) is None:
                return
    events = tuple(_event_rows(of, catalog.state, peer))
    yield from _write("events", events, catalog, peer)
    yield from _write("sessions", (_session_row(of, catalog.state, peer),), catalog, peer)


def _creation(state: State, name: str) -> CreateTable:
    sizes: dict[str, int] = {}
    for member in state.members:
        sizes[member.datacentre] = sizes.get(member.datacentre, 0) + 1
    factors = tuple((where, min(FACTOR, sizes[where])) for where in sorted(sizes))
    return CreateTable(
        KEYSPACE,
        name,
        TABLES[KEYSPACE, name].table.columns,
        TableOptions(default_ttl_s=TRACE_TTL_S, comment="traces of requests"),
        if_not_exists=True,
        unique_across=KEYSPACE,
        replication=Replication(NETWORK_TOPOLOGY, factors),
    )


def _write(name: str, rows: Sequence[Sequence[Any]], catalog: Catalog, peer: Peer) -> Keeping:
    """All rows, of one partition, on all replicas; if some are away, wherever it can be."""
    view = catalog.view(KEYSPACE, name)
    statement: Any = parse(INSERTS[name])
    plan = ModifyPlan(statement, view, catalog.resolver(KEYSPACE))
    writes: list[WriteRequest] = []
    for row in rows:
        values = [
            None if value is None else spec.type.encode(value)
            for spec, value in zip(plan.markers, row, strict=True)
        ]
        (request,) = next(plan.execute(Context(values, peer.now_us(), peer), Options(Level.ALL)))
        assert isinstance(request, WriteRequest)
        writes.append(request)
    (answer,) = yield (BatchRequest(tuple(writes), Level.ALL, logged=False),)
    if not isinstance(answer, Written):
        yield (BatchRequest(tuple(writes), Level.ANY, logged=False),)


def _event_rows(of: TracedRequest, state: State, peer: Peer) -> Generator[Sequence[Any], None, None]:
    place = peer.place
    addresses = {member.peer: address_of(member) for member in state.members}
    at_us = -1
    for line in of.trace.lines:
        at_us = max(at_us + 1, line.at_us)  # ids in the order of what happened
        event_id = timeuuid(of.started_us + at_us, peer.token_bytes(8))
        source = addresses.get(line.source or place.peer)
        elapsed = min(line.elapsed_us, 2**31 - 1)
        yield of.trace.id, event_id, line.activity, source, place.peer_port, elapsed, "loop"


def _session_row(of: TracedRequest, state: State, peer: Peer) -> Sequence[Any]:
    place = peer.place
    here = next((address_of(member) for member in state.members if member.peer == place.peer), None)
    return (
        of.trace.id,
        of.client,
        "QUERY",
        here,
        place.peer_port,
        min(of.trace.duration_us, 2**31 - 1),
        of.parameters,
        TITLES[type(of.request)],
        of.started_us // 1000,
    )
