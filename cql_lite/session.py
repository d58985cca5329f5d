"""A client's requests, answered: which keyspace is in use, which statements are prepared, what comes of them.

`Statements` belongs to the peer: plans of prepared statements and of texts seen before, each of them
bounded, the one used longest ago going first. A prepared statement's id is a hash of its keyspace and text,
so it is the same at every peer and after every restart; who does not know it says so, and the driver
prepares again. `Session` belongs to one connection.

EXECUTE looks up a dictionary, compares the schema's epoch, and runs the plan: nothing is parsed. After a
change of the schema a statement is planned anew when it is next used, unless its tables are what they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from core.consistency import Level
from core.errors import RequestError
from core.limits import MIB, SECOND_US, STATEMENT_LEXEMES_MAX
from core.requests import AdminRequest, Answer, BatchRequest, Broken, Invalid, ReadRequest, WriteRequest
from cql_lite import ast, wire
from cql_lite.errors import InvalidRequestError, UnpreparedError
from cql_lite.lexer import Lexemes
from cql_lite.operation_ids import PAYLOAD_KEY, operation_of, under_id, unstamped
from cql_lite.outcomes import error_of_failure, error_of_request
from cql_lite.parser import parse
from cql_lite.planner import Catalog, Planned, plan_statement
from cql_lite.planner_batch import Step, execute_batch
from cql_lite.planner_counters import CounterPlan
from cql_lite.planner_modify import ModifyPlan
from cql_lite.planner_results import (
    PEER_EPOCHS,
    Execution,
    FailedError,
    KeyspaceResult,
    Options,
    Result,
    RowsResult,
    SchemaResult,
)  # fmt: skip
from cql_lite.planner_select import SelectPlan
from cql_lite.planner_terms import Context, MarkerSpec
from cql_lite.quick import Quick, QuickInsert, quick_of
from cql_lite.running import Answering
from cql_lite.statement_cache import StatementCache
from cql_lite.system import Place, State

PREPARED_MAX: Final = 10_000
PREPARED_BYTES_MAX: Final = 256 * MIB
TEXTS_MAX: Final = 1_000
TEXTS_BYTES_MAX: Final = 32 * MIB
TEXT_CACHED_CHARS_MAX: Final = 10_000
RENEWED_MAX: Final = 3
"""How often a statement is begun again because its table or index went away meanwhile."""
KINDS: Final = {wire.LOGGED: ast.LOGGED, wire.UNLOGGED: ast.UNLOGGED, wire.COUNTER_BATCH: ast.COUNTER}


class Peer(Protocol):
    """What the session needs of the peer that it is on."""

    @property
    def state(self) -> State:
        """The metadata state as it is now."""

    @property
    def place(self) -> Place:
        """Where the peer is."""

    @property
    def operation_ids_us(self) -> int:
        """How long operation ids are remembered."""

    def now_us(self) -> int:
        """The wall clock."""

    def token_bytes(self, n: int) -> bytes:
        """n random bytes."""


class Prepared:
    """A statement with its plan, and what clients are told of it."""

    __slots__ = (
        "catalog", "has_changed", "id", "keyspace", "planned", "quick", "result", "statement", "text",
        "variables",
    )  # fmt: skip

    def __init__(self, text: str, keyspace: str, statement: ast.Statement, planned: Planned) -> None:
        self.id = statement_id(keyspace, text)
        self.text = text
        self.keyspace = keyspace
        self.statement = statement
        self.catalog: Catalog | None = None
        self.has_changed = False
        """Whether its columns were others once. Before version 5 a client that prepared it then has no word
        of that, so it is told the columns with each answer, and does not read rows by those it knows.
        """
        self.result = wire.NO_COLUMNS
        self.take(planned)
        self.has_changed = False

    def take(self, planned: Planned) -> None:
        """This is the plan now."""
        before = self.result
        self.planned = planned
        self.variables = wire.Metadata([_variable(spec) for spec in planned.plan.markers])
        plan = planned.plan
        self.result = result_metadata(plan.columns) if isinstance(plan, SelectPlan) else wire.NO_COLUMNS
        self.has_changed = self.has_changed or self.result != before
        self.quick = None if planned.asks else quick_of(plan)


def _variable(spec: MarkerSpec) -> wire.ColumnSpec:
    return wire.ColumnSpec(spec.keyspace, spec.table, spec.name, spec.type)


def result_metadata(columns: Sequence[Any]) -> wire.Metadata:
    """The columns of a result as the protocol tells them."""
    return wire.Metadata([wire.ColumnSpec(c.keyspace, c.table, c.name, c.type) for c in columns])


def statement_id(keyspace: str, text: str) -> bytes:
    """The id under which a statement is prepared, at whichever peer."""
    return hashlib.blake2b(f"{keyspace}\n{text}".encode(), digest_size=16).digest()


class Statements:
    """The plans of a peer."""

    def __init__(self, peer: Peer, prepared_max: int = PREPARED_MAX) -> None:
        self.peer = peer
        self._prepared: StatementCache[Prepared] = StatementCache(prepared_max, PREPARED_BYTES_MAX)
        self._texts: StatementCache[Prepared] = StatementCache(TEXTS_MAX, TEXTS_BYTES_MAX)
        self._catalog: Catalog | None = None
        self.counts = {"prepared": 0, "planned_again": 0}

    def catalog(self) -> Catalog:
        """The schema as it is now."""
        state = self.peer.state
        known = self._catalog
        if known is None or known.state is not state:
            known = self._catalog = Catalog(state, self.peer.place)
        return known

    def prepare(self, text: str, keyspace: str) -> Prepared:
        """The statement of a text, kept under its id."""
        key = statement_id(keyspace, text)
        found = self._prepared.get(key)
        if found is not None:
            self._refresh(found)
        else:
            found = self._texts.take(key)
            if found is None:
                found = self._made(text, keyspace)
            else:
                self._refresh(found)
            self._prepared.put(key, found)
        self.counts["prepared"] += 1
        return found

    def of_text(self, text: str, keyspace: str) -> Prepared:
        """The statement of a text, which may have been seen before."""
        key = statement_id(keyspace, text)
        found = self._prepared.get(key) or self._texts.get(key)
        if found is not None:
            self._refresh(found)
            return found
        found = self._made(text, keyspace)
        if len(text) <= TEXT_CACHED_CHARS_MAX and not isinstance(found.statement, ast.SchemaStatement):
            self._texts.put(key, found)
        return found

    def of_id(self, key: bytes) -> Prepared:
        """The statement prepared under an id; raises UnpreparedError."""
        found = self._prepared.get(key)
        if found is None:
            raise UnpreparedError(key)
        self._refresh(found)
        return found

    def quick(self, key: bytes) -> Prepared | None:
        """The statement prepared under an id, if it has a quick way and is planned for the schema of now."""
        found = self._prepared.get(key)
        if found is None or found.quick is None or found.catalog is not self.catalog():
            return None
        return found

    def known(self, key: bytes) -> Prepared | None:
        """The statement prepared under an id, as it was when it was last used."""
        return self._prepared.peek(key)

    def _made(self, text: str, keyspace: str) -> Prepared:
        statement = parse(text)
        catalog = self.catalog()
        planned = plan_statement(statement, catalog, keyspace, text, self.peer.now_us())
        found = Prepared(text, keyspace, statement, planned)
        found.catalog = catalog
        return found

    def planned(self, ones: Sequence[Prepared]) -> list[Planned]:
        """Their plans for the schema of now."""
        for one in ones:
            self._refresh(one)
        return [one.planned for one in ones]

    def _refresh(self, found: Prepared) -> None:
        """Have the plan be one for the schema as it is now."""
        catalog = self.catalog()
        if found.catalog is catalog:
            return
        planned = found.planned
        if not planned.views or not catalog.same(planned.views, planned.used):
            self.counts["planned_again"] += 1
            found.take(
                plan_statement(found.statement, catalog, found.keyspace, found.text, self.peer.now_us())
            )
        found.catalog = catalog


def may_be_gone(answer: Answer) -> bool:
    """Whether this may be the answer for a table that is not there any more."""
    return isinstance(answer, Broken) or (isinstance(answer, Invalid) and answer.code == "no_such_table")


def is_index_gone(answer: Answer) -> bool:
    """Whether an index was dropped while a read went by it."""
    return isinstance(answer, Invalid) and answer.code == "no_such_index"


class QuickRun:
    """An EXECUTE on its quick way: what is asked of the node, and what its answer is to the client."""

    __slots__ = ("_context", "_metadata", "_peer", "_skip", "_way", "asked")

    def __init__(
        self,
        way: Quick,
        asked: WriteRequest | ReadRequest,
        parameters: wire.Parameters,
        metadata: wire.Metadata,
        peer: Peer,
    ) -> None:
        """Nothing is asked yet."""
        self._way = way
        self.asked = asked
        self._context = None if way.is_write else Context(parameters.values, peer.now_us(), peer)
        self._metadata = metadata
        self._peer = peer
        self._skip = parameters.skip_metadata

    def is_void(self, answer: Answer) -> bool:
        """Whether the table is gone, with all that was done to it: `Session.answer` knows what to do then."""
        return may_be_gone(answer) and self.asked.table not in self._peer.state.tables

    def response(self, answer: Answer) -> wire.Response:
        """What the client is told."""
        way = self._way
        if isinstance(way, QuickInsert):
            return way.response(self.asked.level, answer)
        assert isinstance(self.asked, ReadRequest) and self._context is not None
        return way.response(self.asked, answer, self._context, self._metadata, skip=self._skip)


class Session:
    """One connection's requests."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._peer = statements.peer
        self.keyspace = ""

    def answer(
        self,
        request: wire.Request,
        payload: wire.Payload | None = None,
        warnings: list[str] | None = None,
    ) -> Answering:
        """The requests to the cluster that a client's request takes, and the response to it.

        Returns an error for what cannot be done; raises only for bugs. What the client is to be warned of is
        added to `warnings`.
        """
        try:
            if payload and PAYLOAD_KEY in payload:
                of = operation_of(request, payload, self._peer.operation_ids_us)
                if of is not None:
                    return (yield from under_id(self._answer(unstamped(request), warnings), of))
            return (yield from self._answer(request, warnings))
        except RequestError as error:
            return error_of_request(error)
        except FailedError as failed:
            return error_of_failure(failed, _level_of(request))

    def quick(self, request: wire.Execute) -> QuickRun | None:
        """The one request that an EXECUTE comes to, if it is that simple; else `answer` is to be asked."""
        parameters = request.parameters
        if parameters.names or parameters.now_s is not None:
            return None
        prepared = self._statements.quick(request.id)
        if prepared is None:
            return None
        known = request.result_metadata_id
        if known != prepared.result.id if known else prepared.has_changed:
            return None
        way = prepared.quick
        assert way is not None, "asked for one that has it"
        asked = way.request(parameters)
        return None if asked is None else QuickRun(way, asked, parameters, prepared.result, self._peer)

    def _answer(self, request: wire.Request, warnings: list[str] | None) -> Answering:
        if isinstance(request, wire.Execute):
            prepared = self._statements.of_id(request.id)
            known = request.result_metadata_id
            run = partial(self._run, prepared, request.parameters, warnings, known)
            return (yield from self._renewed(run, (prepared,)))
        if isinstance(request, wire.Query):
            keyspace = request.parameters.keyspace or self.keyspace
            prepared = self._statements.of_text(request.text, keyspace)
            run = partial(self._run, prepared, request.parameters, warnings)
            return (yield from self._renewed(run, (prepared,)))
        if isinstance(request, wire.Prepare):
            prepared = self._statements.prepare(request.text, request.keyspace or self.keyspace)
            return wire.Prepared(
                prepared.id, prepared.variables, prepared.result, prepared.planned.plan.key_markers
            )
        if isinstance(request, wire.Batch):
            return (yield from self._batch(request, warnings))
        return wire.ProtocolFault(message=f"there is nothing to answer to {type(request).__name__}")

    def _renewed(self, run: Callable[[], Answering], ones: Sequence[Prepared]) -> Answering:
        """Run it, and again if its table was emptied on the way, or the index dropped by which it was read.

        What a statement did to the table that it found is gone with it; so whether that was all, a part or
        nothing, it is done as if it came after TRUNCATE. Of a batch on several tables that cannot be said.
        """
        planned = self._statements.planned
        for _ in range(RENEWED_MAX):
            before = [one.planned for one in ones]
            try:
                return (yield from run())
            except FailedError as failed:
                if is_index_gone(failed.answer):
                    ids = _index_ids
                elif may_be_gone(failed.answer) and len(_table_ids(before)) == 1:
                    ids = _table_ids
                else:
                    raise
                if ids(planned(ones)) == ids(before):
                    yield (AdminRequest(PEER_EPOCHS),)  # others may know what this peer does not
                    if ids(planned(ones)) == ids(before):
                        raise
        return (yield from run())

    def _run(
        self,
        prepared: Prepared,
        parameters: wire.Parameters,
        warnings: list[str] | None,
        known: bytes = b"",
    ) -> Answering:
        plan, metadata = prepared.planned.plan, prepared.result  # others may have it planned anew meanwhile
        changed = bool(known) and known != metadata.id
        values = bound(plan.markers, parameters.values, parameters.names)
        options = Options(
            parameters.consistency,
            parameters.serial_consistency or Level.SERIAL,
            parameters.page_size,
            parameters.paging_state,
            parameters.timestamp_us,
            warnings,
        )
        if prepared.planned.asks:
            yield prepared.planned.asks
        execution = plan.execute(self._context(values), options)
        result = yield from execution if parameters.now_s is None else at_time(execution, parameters.now_s)
        if isinstance(result, RowsResult):
            if not isinstance(plan, SelectPlan):
                metadata = result_metadata(result.columns)
            skip = parameters.skip_metadata and isinstance(plan, SelectPlan)
            skip = skip and (bool(known) or not prepared.has_changed)
            return wire.Rows(metadata, result.rows, result.paging_state, skip, changed)
        return self._told(result)

    def _told(self, result: Result) -> wire.Response:
        if isinstance(result, RowsResult):  # what the conditions of a batch decided
            return wire.Rows(result_metadata(result.columns), result.rows)
        if isinstance(result, KeyspaceResult):
            self.keyspace = result.keyspace
            return wire.SetKeyspace(result.keyspace)
        if isinstance(result, SchemaResult):
            return wire.SchemaChange(result.change, result.target, result.keyspace, result.name)
        return wire.Void()

    def _batch(self, request: wire.Batch, warnings: list[str] | None) -> Answering:
        options = Options(
            request.consistency,
            request.serial_consistency or Level.SERIAL,
            timestamp_us=request.timestamp_us,
            warnings=warnings,
        )
        keyspace = request.keyspace or self.keyspace
        texts = dict.fromkeys(one.statement for one in request.statements if isinstance(one.statement, str))
        _check_texts(texts)
        made = {text: self._statements.of_text(text, keyspace) for text in texts}
        found = [
            self._statements.of_id(one.statement) if isinstance(one.statement, bytes) else made[one.statement]
            for one in request.statements
        ]
        return (yield from self._renewed(partial(self._run_batch, request, found, options), found))

    def _run_batch(self, request: wire.Batch, found: Sequence[Prepared], options: Options) -> Answering:
        steps = []
        for one, prepared in zip(request.statements, found, strict=True):
            plan = prepared.planned.plan
            if not isinstance(plan, ModifyPlan | CounterPlan):
                raise InvalidRequestError(
                    "Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed"
                )
            steps.append(Step(plan, self._context(bound(plan.markers, one.values, ())), options))
        execution: Execution = execute_batch(KINDS[request.kind], steps, options)
        return self._told(
            (yield from execution if request.now_s is None else at_time(execution, request.now_s))
        )

    def _context(self, values: Sequence[wire.BoundValue]) -> Context:
        return Context(values, self._peer.now_us(), self._peer)


def _check_texts(texts: Collection[str]) -> None:
    """Raises InvalidRequestError for a batch of more different texts than one could be long."""
    left = STATEMENT_LEXEMES_MAX
    if sum(map(len, texts)) <= left:
        return
    for text in texts:
        left -= len(Lexemes(text, left + 1).kinds)
        if left < 0:
            raise InvalidRequestError(
                f"a batch of more than {STATEMENT_LEXEMES_MAX} words, constants and signs: prepare its "
                "statements, or send it in parts"
            )


def _table_ids(planned: Sequence[Planned]) -> set[int]:
    return {view.id for one in planned for view in one.views}


def _index_ids(planned: Sequence[Planned]) -> set[int]:
    return {index.id for one in planned for view in one.views for index in view.indexes}


def at_time(execution: Execution, now_s: int) -> Execution:
    """The same execution by the client's clock: what is alive, and from when times to live count.

    In requests of the node 0 says that the peer's clock counts, so 1970 begins a microsecond late.
    """
    if now_s < 0:
        raise InvalidRequestError(f"now in seconds is {now_s}, before 1970: send seconds since then, or none")
    now_us = max(1, now_s * SECOND_US)
    answers: list[Answer] | None = None
    while True:
        try:
            asked = next(execution) if answers is None else execution.send(answers)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        answers = yield tuple(_at(request, now_us) for request in asked)


def _at(request: Any, now_us: int) -> Any:
    if isinstance(request, BatchRequest):
        writes = tuple(_at(write, now_us) for write in request.writes)
        return msgspec.structs.replace(request, writes=writes)
    if hasattr(request, "now_us"):
        return msgspec.structs.replace(request, now_us=now_us)
    return request


def bound(
    markers: Sequence[MarkerSpec], values: Sequence[wire.BoundValue], names: Sequence[str]
) -> Sequence[wire.BoundValue]:
    """Values in the order of the markers; raises InvalidRequestError if they do not fit them."""
    if names:
        given = dict(zip(names, values, strict=True))
        missing = [spec.name for spec in markers if spec.name not in given]
        if missing:
            raise InvalidRequestError(f"there is no value for :{missing[0]}")
        return [given[spec.name] for spec in markers]
    if len(values) != len(markers):
        raise InvalidRequestError(
            f"Invalid amount of bind variables: the statement has {len(markers)} bind markers, and "
            f"{len(values)} values came"
        )
    return values


def _level_of(request: wire.Request) -> Level:
    if isinstance(request, (wire.Query, wire.Execute)):
        return request.parameters.consistency
    return request.consistency if isinstance(request, wire.Batch) else Level.ONE
