"""Questions about many documents: `POST /v1/docs/{collection}/_find` and its like.

    _find       {"filter", "projection", "sort", "limit", "skip", "cursor", "allow_scan", "explain", "level"}
    _count      {"filter"}                  _distinct   {"path", "filter"}
    _aggregate  {"pipeline"}                _update     {"filter", "update", "limit", "cursor", "upsert"}
    _delete     {"filter", "limit", "cursor"}

`array_filters` (MongoDB's `arrayFilters`) says which elements `$[name]` means in an update.

Filters are judged where the documents are; what does not match never travels. Without an index that fits,
at most `documents_scanned_max` documents are looked at unless `allow_scan` says so. With `explain` the
answer also says how documents were found and what each peer did for it.

An update or delete by filter finds documents page by page and then takes each of them through the
conditional path, where the filter is judged again: what no longer meets it stays as it is. It is not one
atomic step over all of them, and says how far it got.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from core.consistency import Level
from core.gathering import Gathered, GatherRequest
from core.json_values import JsonError, Value, checked, parse, render
from core.requests import Invalid, Judged, Written
from core.schema import Table
from core.settings import Settings
from documents import operations
from documents.collections import DOCUMENT_COLUMN, FAMILY, Collection
from documents.edits import Edit, EditError
from documents.finding import (
    PAGE_BYTES_MAX,
    AggregateFold,
    CountFold,
    DistinctFold,
    FindFold,
    FindQuery,
    aggregate_query,
    filter_query,
    find_query,
    refused as refused_as,
    rendered,
)
from documents.finding_plans import SCAN, Plan, ids_of, order_plan, plan_of, token_of_id
from documents.indexes import schema_name
from documents.operations import Condition, NotMet, Operation, Wanted
from documents.pipeline_updates import is_pipeline
from documents.positional import NOWHERE, Positions, array_filters
from documents.updates import ID_STAYS, update_of
from documents.upserts import split_id, upsert_of
from documents.values import id_of
from index.entries_json import value_term
from node.node import Node
from query.document_filter import ALL, Filter
from query.document_projection import ID
from query.document_values import MISSING, path_text
from query.joins import parse_joined
from query.refusals import Refusal
from server.bridge import Bridge
from server.rest.bodies import Budget, read_body
from server.rest.collections import Collections
from server.rest.docs_changes import AFTER, BEFORE, Counts, Image, guarded, image_of, judge
from server.rest.docs_joins import joined
from server.rest.documents import JSON, JSON_PATCH, UPDATE, edit_of, refused
from server.rest.documents_ids import new_id
from server.rest.problems import ProblemError, invalid, problem_of
from server.rest.targets import READ_PARAMETERS, Options, options

BODY_BYTES_MAX: Final = 1024 * 1024
SCAN_TIMEOUT_US: Final = 60_000_000
"""Unless the request says how long it waits: many documents take longer than one."""
PER_DOCUMENT_BYTES: Final = 2 * 1024
SMALL_BYTES: Final = 64 * 1024
LARGE_BYTES: Final = 4 * 1024 * 1024
"""About what a request holds: of a document of a page, of a count, of an aggregation."""
CHANGES_AT_ONCE: Final = 16
PAGE: Final = 200
UPSERT_PAUSES_S: Final = (0.01, 0.03, 0.1)
"""Before an upsert begins again that met what others were making."""

_COMMON: Final = ("filter", "level", "allow_scan", "explain")
_ARRAY_FILTERS: Final = ("array_filters", "arrayFilters")
MEMBERS: Final[dict[str, tuple[str, ...]]] = {
    "_find": (*_COMMON, "projection", "sort", "limit", "skip", "cursor"),
    "_count": _COMMON,
    "_distinct": (*_COMMON, "path"),
    "_aggregate": ("pipeline", "level", "allow_scan", "explain"),
    "_update": (
        "filter",
        "level",
        "allow_scan",
        "update",
        "limit",
        "cursor",
        "multi",
        "sort",
        "return",
        "upsert",
        *_ARRAY_FILTERS,
    ),
    "_delete": ("filter", "level", "allow_scan", "limit", "cursor", "multi", "sort", "return"),
}


class _Asked(msgspec.Struct, frozen=True):
    """What all of them have in common, checked."""

    collection: Collection
    body: dict[str, Value]
    level: Level
    timeout_us: int
    allow_scan: bool
    explain: bool
    options: Options
    now_us: int
    """When it came: `$$NOW`, to everybody who works on it."""


class _Done(msgspec.Struct, frozen=True):
    """What came of a question, and when it began."""

    fold: FindFold | CountFold | DistinctFold | AggregateFold
    gathered: Gathered
    begun_ns: int


class DocumentQueries:
    """The operations on a collection that ask for documents by what they hold."""

    def __init__(
        self, node: Node, bridge: Bridge, collections: Collections, budget: Budget, settings: Settings
    ) -> None:
        self._node = node
        self._bridge = bridge
        self._collections = collections
        self._budget = budget
        self._settings = settings

    def operations(self) -> dict[str, Callable[..., Awaitable[web.StreamResponse]]]:
        """By name, as DocumentRoutes takes them."""
        work = {
            "_find": self._find,
            "_count": self._count,
            "_distinct": self._distinct,
            "_aggregate": self._aggregate,
            "_update": self._update,
            "_delete": self._delete,
        }
        return {name: self._operation(name, act) for name, act in work.items()}

    def _operation(
        self, operation: str, act: Callable[[_Asked], Awaitable[bytes]]
    ) -> Callable[..., Awaitable[web.StreamResponse]]:
        async def respond(request: web.BaseRequest, name: str, below: str, query: str) -> web.StreamResponse:
            if below:
                raise ProblemError("not-found", f"nothing is below {operation}")
            if request.method != "POST":
                error = ProblemError("method-not-allowed", "there is: POST")
                error.headers["Allow"] = "POST"
                raise error
            asked = await self._asked(request, operation, name, query)
            headers = {"Server": "sullae", "Content-Type": JSON}
            return web.Response(body=await act(asked), headers=headers)

        return respond

    async def _asked(self, request: web.BaseRequest, operation: str, name: str, query: str) -> _Asked:
        wanted = options(query, READ_PARAMETERS)
        collection = self._collections.find(name)
        if collection is None and operation != "_update":
            collection = self._collections.known(name)  # says why not
        text = await read_body(request, BODY_BYTES_MAX, self._budget, "body-too-large")
        try:
            body = checked(text, BODY_BYTES_MAX) if text.strip() else {}
        except JsonError as error:
            raise ProblemError("bad-body", str(error)) from None
        if not isinstance(body, dict):
            raise ProblemError("bad-body", f"{operation} takes a JSON object")
        known = MEMBERS[operation]
        for key in body:
            if key not in known:
                raise ProblemError(
                    "bad-body", f"{operation} has no {key[:60]!r}; there are {', '.join(known)}"
                )
        for flag in ("allow_scan", "explain", "upsert", "multi"):
            if not isinstance(body.get(flag, False), bool):
                raise ProblemError("bad-body", f"{flag} is true or false")
        timeout_us = wanted.timeout_us or max(SCAN_TIMEOUT_US, self._settings.read_timeout_us)
        if collection is None and body.get("upsert", False):
            collection = await self._collections.used(name)
        return _Asked(
            collection or self._collections.known(name),
            body,
            _level(body.get("level"), wanted.level),
            timeout_us,
            bool(body.get("allow_scan", False)),
            bool(body.get("explain", False)),
            wanted,
            time.time_ns() // 1000,
        )

    # --- asking the cluster

    def _table(self, collection: Collection) -> Table:
        table = self._node.metadata.state.tables.get(collection.table)
        if table is None:
            raise ProblemError(
                "no-such-collection", f"the collection {collection.name} was dropped meanwhile"
            )
        return table

    def _plan(self, asked: _Asked, condition: Filter) -> Plan:
        table, ids = self._table(asked.collection), ids_of(condition)
        if ids is not None:
            return Plan(ids=ids)
        return plan_of(condition, table.indexes, DOCUMENT_COLUMN, value_term)

    async def _gather(
        self,
        asked: _Asked,
        fold: FindFold | CountFold | DistinctFold | AggregateFold,
        plan: Plan,
        after: bytes = b"",
        held: int = SMALL_BYTES,
    ) -> Gathered:
        tokens: tuple[int, ...] = ()
        if plan.ids is not None:
            tokens = tuple(dict.fromkeys(map(token_of_id, plan.ids or ("",))))
        unbounded = asked.allow_scan or plan.ids is not None or (plan.drive is not None and not plan.bounded)
        request = GatherRequest(
            asked.collection.table,
            asked.level,
            fold,
            plan.drive,
            after,
            0 if unbounded else self._settings.documents_scanned_max,
            held,
            tokens,
        )
        answer = await self._bridge.ask(request, asked.timeout_us)
        if fold.refused is not None:
            raise invalid(fold.refused)
        if not isinstance(answer, Gathered):
            raise problem_of(answer)
        return answer

    def _explained(self, asked: _Asked, plan: Plan, done: _Done) -> dict[str, Any]:
        state = self._node.metadata.state

        def name(peer: bytes) -> str:
            member = state.member(peer)
            return peer.hex() if member is None else member.name

        how: dict[str, Any] = {"kind": "scan"}
        if plan.ids is not None:
            how = {"kind": "ids", "ids": len(plan.ids)}
        if plan.drive is not None:
            how = {
                "kind": "index",
                "index": plan.index.removeprefix(schema_name(asked.collection, "")),
                "paths": [path_text(path) for path in plan.paths],
                "spans": len(plan.drive.spans),
                "ordered": plan.first is not None,
            }
        peers = [
            {
                "peer": name(one.peer),
                "ranges": one.ranges,
                "followed": [name(peer) for peer in one.followed],
                "examined": one.examined,
                "returned": done.fold.returned.get(one.peer, 0),
                "part_bytes": one.part_bytes,
                "pieces": one.pieces,
                "took_us": one.took_us,
            }
            for one in done.gathered.served
        ]
        return {
            "plan": how,
            "level": asked.level.value,
            "examined": sum(one.examined for one in done.gathered.served),
            "peers": peers,
            "took_us": (time.perf_counter_ns() - done.begun_ns) // 1_000,
        }

    def _told(self, asked: _Asked, members: Sequence[tuple[str, bytes]], plan: Plan, done: _Done) -> bytes:
        """The answer's members, with how it came about if that was asked for."""
        found = [f'"{name}":'.encode() + text for name, text in members]
        if asked.explain:
            found.append(b'"explain":' + render(self._explained(asked, plan, done)))
        return b"{" + b",".join(found) + b"}"

    # --- reading

    async def _find(self, asked: _Asked) -> bytes:
        begun_ns = time.perf_counter_ns()
        query = _good(find_query(asked.collection, asked.body, asked.now_us))
        plan = self._find_plan(asked, query)
        fold, gathered = await self._page(asked, query, plan)
        documents, cursor = fold.result()
        with_id = query.shape is None or query.shape.with_id
        found = []
        for one in documents:
            head = b'{"id":' + render(id_of(one.key)) + b"," if with_id else b"{"
            found.append(head + b'"etag":' + render(one.tag) + b',"document":' + one.text + b"}")
        members = [("documents", b"[" + b",".join(found) + b"]"), ("cursor", render(cursor))]
        return self._told(asked, members, plan, _Done(fold, gathered, begun_ns))

    async def _page(self, asked: _Asked, query: FindQuery, plan: Plan) -> tuple[FindFold, Gathered]:
        fold = query.fold(plan.drive is None or plan.exact)
        after = query.after.key if query.after is not None and not query.order else b""
        held = min((query.skip + query.limit) * PER_DOCUMENT_BYTES, PAGE_BYTES_MAX)
        if plan.first is None:
            return fold, await self._gather(asked, fold, plan, after, held)
        others = await self._gather(asked, fold, msgspec.structs.replace(plan, drive=plan.first), held=held)
        fold.by_index = True
        gathered = await self._gather(asked, fold, plan, held=held)
        served = (*others.served, *gathered.served)
        if plan.lacks and not fold.is_full():
            fold.by_index = False
            served += (await self._gather(asked, fold, SCAN, held=held)).served
        return fold, Gathered(served, gathered.now_us)

    def _find_plan(self, asked: _Asked, query: FindQuery) -> Plan:
        """An index that gives the order, if there is one, else the one that narrows most."""
        table = self._table(asked.collection)
        if ids_of(query.condition) is not None:
            return self._plan(asked, query.condition)
        first = parse(query.after.values)[0] if query.after is not None and query.order else None
        plan = order_plan(
            query.condition, query.order, table.indexes, DOCUMENT_COLUMN, value_term, after=first
        )
        return plan or self._plan(asked, query.condition)

    async def _count(self, asked: _Asked) -> bytes:
        begun_ns = time.perf_counter_ns()
        query = _good(filter_query(asked.body, now_us=asked.now_us))
        plan = self._plan(asked, query.condition)
        if query.condition == ALL:  # no index could be made for it
            asked = msgspec.structs.replace(asked, allow_scan=True)
        fold = CountFold(query.filter, asked.now_us)
        gathered = await self._gather(asked, fold, plan)
        return self._told(asked, [("count", render(fold.count))], plan, _Done(fold, gathered, begun_ns))

    async def _distinct(self, asked: _Asked) -> bytes:
        begun_ns = time.perf_counter_ns()
        query = _good(filter_query(asked.body, with_path=True, now_us=asked.now_us))
        plan = self._plan(asked, query.condition)
        fold = DistinctFold(query.filter, query.path, asked.now_us)
        gathered = await self._gather(asked, fold, plan)
        values = _good(rendered(fold.result()))
        return self._told(asked, [("values", values)], plan, _Done(fold, gathered, begun_ns))

    async def _aggregate(self, asked: _Asked) -> bytes:
        begun_ns = time.perf_counter_ns()
        several = parse_joined(asked.body.get("pipeline"), now_us=asked.now_us)
        if isinstance(several, Refusal):
            raise invalid(refused_as("bad_pipeline", several))
        if several is not None:
            asked = msgspec.structs.replace(asked, body={**asked.body, "pipeline": several.stages})
        query = _good(aggregate_query(asked.body, asked.now_us))
        plan = self._plan(asked, query.pipeline.filter)
        fold = AggregateFold(query.pipeline, query.stages, secrets.randbelow, asked.now_us)
        gathered = await self._gather(asked, fold, plan, held=LARGE_BYTES)
        if several is None:
            documents = _good(await asyncio.to_thread(_finished, fold))
        else:
            first = _good(await asyncio.to_thread(fold.result))
            documents = await joined(several, first, partial(self._of_another, asked))
        return self._told(asked, [("documents", documents)], plan, _Done(fold, gathered, begun_ns))

    async def _of_another(self, asked: _Asked, name: str, stages: list[Value]) -> list[Value]:
        """What a pipeline gives of another collection; nothing if there is none."""
        collection = self._collections.find(name)
        if collection is None:
            problem = FAMILY.check_name(name)
            if problem is not None:
                raise invalid(problem)
            return []
        there = msgspec.structs.replace(asked, collection=collection, body={"pipeline": stages})
        query = _good(aggregate_query(there.body, asked.now_us))
        fold = AggregateFold(query.pipeline, query.stages, secrets.randbelow, asked.now_us)
        try:
            await self._gather(there, fold, self._plan(there, query.pipeline.filter), held=LARGE_BYTES)
        except ProblemError as error:
            error.detail = f"{name}: {error.detail}"
            raise
        found: list[Value] = _good(await asyncio.to_thread(fold.result))
        return found

    # --- changing

    async def _update(self, asked: _Asked) -> bytes:
        update = asked.body.get("update")
        if not isinstance(update, (dict, list)):
            raise ProblemError("bad-body", "_update takes update: operators, stages, a merge or JSON patch")
        made_id, update = split_id(update) if asked.body.get("upsert", False) else (MISSING, update)
        edit, positions = self._edit(asked, update)
        how = Wanted(asked.level, existing=True)

        def plan(document_id: str) -> Operation | Invalid:
            return operations.edit(asked.collection, document_id, edit, how)

        image = image_of(asked.body, (BEFORE, AFTER))
        pauses_s = iter(UPSERT_PAUSES_S)
        while True:
            counts = await self._change(asked, plan, image)
            members = {"matched": counts.matched, "modified": counts.changed, "cursor": counts.cursor}
            if not asked.body.get("upsert", False):
                return counts.rendered(members)
            if counts.matched or counts.cursor or asked.body.get("cursor"):
                return counts.rendered({**members, "upserted": None})
            try:
                made = await self._upsert(asked, update, made_id, positions)
            except ProblemError as error:  # somebody was quicker to make it: then it is there to be updated
                pause_s = next(pauses_s, None)
                if error.kind not in ("precondition-failed", "unique-violation") or pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                counts.found = made if image == AFTER else None
                return counts.rendered({**members, "upserted": made.id})

    def _edit(self, asked: _Asked, update: Value) -> tuple[Edit, Positions]:
        """What is done to each document that the filter finds, and which elements are meant by it."""
        bytes_max = asked.collection.settings.max_document_bytes
        named = asked.body.get("array_filters", asked.body.get("arrayFilters"))
        operators = isinstance(update, dict) and all(name.startswith("$") for name in update)
        if is_pipeline(update) and not named:
            return edit_of(UPDATE, render(update), bytes_max), NOWHERE
        if not update or not operators:
            if named:
                raise ProblemError("bad-patch", "array filters belong to operators: to $[name] in a path")
            if isinstance(update, dict) and "_id" in update:
                raise ProblemError("bad-patch", ID_STAYS)
            kind = JSON_PATCH if isinstance(update, list) else JSON
            return edit_of(kind, render(update), bytes_max), NOWHERE
        try:
            condition = _good(filter_query(asked.body, now_us=asked.now_us)).condition
            positions = Positions(array_filters(named) if named is not None else {}, condition)
            return update_of(update, time.time_ns() // 1000, len(render(update)), positions), positions
        except EditError as error:
            raise invalid(Invalid(error.code, str(error))) from None

    async def _upsert(self, asked: _Asked, change: Value, made_id: Value, positions: Positions) -> Image:
        """Make the document that an update of nothing makes."""
        condition = _good(filter_query(asked.body, now_us=asked.now_us)).condition
        try:
            upsert = upsert_of(condition, change, time.time_ns() // 1000, made_id, positions)
        except EditError as error:
            raise invalid(Invalid(error.code, str(error))) from None
        document_id = upsert.id or new_id()
        how = Wanted(asked.level, condition=Condition(none_match=("*",)))
        text = render(upsert.document)
        operation = _good(operations.put(asked.collection, document_id, text, how))
        answer = await self._bridge.ask(operation.request, asked.options.write_timeout_us(self._settings))
        if not isinstance(answer, Written | Judged):
            raise refused(answer, asked.collection)
        outcome = operation.outcome(answer)
        if isinstance(outcome, NotMet):
            detail = f"a document {document_id[:100]!r} that does not meet the filter is there"
            raise ProblemError("precondition-failed", detail, id=document_id)
        return Image(document_id, outcome.tag, text)

    async def _delete(self, asked: _Asked) -> bytes:
        how = Wanted(asked.level, existing=True)

        def plan(document_id: str) -> Operation | Invalid:
            return operations.delete(asked.collection, document_id, how)

        counts = await self._change(asked, plan, image_of(asked.body, (BEFORE,)))
        return counts.rendered({"deleted": counts.changed, "cursor": counts.cursor})

    async def _change(
        self, asked: _Asked, plan: Callable[[str], Operation | Invalid], image: str
    ) -> Counts:
        """Page by page, until there are no more, or the limit or half of the time is reached."""
        if "filter" not in asked.body:
            raise ProblemError("bad-body", "say which documents: {} is the filter that all meet")
        asked = msgspec.structs.replace(asked, level=_reading(asked.level))
        body: dict[str, Value] = {
            key: asked.body[key] for key in ("filter", "sort", "limit", "cursor") if key in asked.body
        }
        end_s = time.monotonic() + asked.timeout_us / 2_000_000
        query = _good(find_query(asked.collection, {**body, "projection": {ID: 1}}, asked.now_us))
        left = query.limit if "limit" in body else None
        if not asked.body.get("multi", True):
            left = 1
        counts = Counts(image)
        while True:
            page = msgspec.structs.replace(query, limit=PAGE if left is None else min(PAGE, left))
            fold, _ = await self._page(asked, page, self._find_plan(asked, page))
            documents, cursor = fold.result()
            before = counts.matched
            await self._change_each(asked, [id_of(one.key) for one in documents], plan, query, counts)
            left = None if left is None else left - (counts.matched - before)  # what others changed is none
            counts.cursor = cursor
            if cursor is None or left == 0 or time.monotonic() > end_s:
                return counts
            again = {**body, "cursor": cursor, "projection": {ID: 1}}
            query = _good(find_query(asked.collection, again, asked.now_us))

    async def _change_each(
        self,
        asked: _Asked,
        ids: list[str],
        plan: Callable[[str], Operation | Invalid],
        query: FindQuery,
        counts: Counts,
    ) -> None:
        meets = judge(asked.collection, query.condition)
        timeout_us = asked.options.write_timeout_us(self._settings)
        for at in range(0, len(ids), CHANGES_AT_ONCE):
            planned = [(one, guarded(_good(plan(one)), meets)) for one in ids[at : at + CHANGES_AT_ONCE]]
            asking = [self._bridge.ask(operation.request, timeout_us) for _, operation in planned]
            error: ProblemError | None = None
            answers = await asyncio.gather(*asking)
            for (document_id, operation), answer in zip(planned, answers, strict=True):
                if isinstance(answer, Written | Judged):
                    assert isinstance(answer, Judged), "what is guarded is decided"
                    counts.add(operation, answer, meets(answer.reads))
                elif error is None:
                    error = refused(answer, asked.collection)
                    error.members["id"] = document_id
            if error is not None:
                error.members.update(matched=counts.matched, modified=counts.changed)
                raise error


def _finished(fold: AggregateFold) -> bytes | Invalid:
    """The end of a pipeline, in a thread: many documents take long to sort and render."""
    found = fold.result()
    return found if isinstance(found, Invalid) else rendered(found)


def _reading(level: Level) -> Level:
    """The level at which documents are looked for that are then changed at a serial level."""
    serial = {Level.SERIAL: Level.QUORUM, Level.LOCAL_SERIAL: Level.LOCAL_QUORUM}
    return serial.get(level, level)


def _level(value: Value, default: Level) -> Level:
    if value is None:
        return default
    try:
        return Level(value.lower() if isinstance(value, str) else value)
    except ValueError:
        known = ", ".join(level.value for level in Level)
        raise ProblemError(
            "bad-level", f"no level is called {str(value)[:60]!r}; there are: {known}"
        ) from None


def _good(found: Any) -> Any:
    """What was parsed; a ProblemError if it was refused."""
    if isinstance(found, Invalid):
        raise invalid(found)
    return found
