"""BATCH, planned: what several modifications do, drafted together and written partition by partition.

All that a batch does to one partition is one mutation: atomic, and seen by readers at once. A logged batch
over several partitions goes through the batch log, so that all of it happens or nothing (core/requests.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from core.limits import KIB
from core.requests import BatchRequest, WriteRequest
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.planner_conditions import Step as ConditionalStep, execute_conditional
from cql_lite.planner_counters import CounterPlan, execute_counter_batch
from cql_lite.planner_expressions import Expressions
from cql_lite.planner_modify import (
    ZERO_TIMESTAMP_US,
    Drafts,
    ModifyPlan,
    draft_conditional,
    read_rows,
)
from cql_lite.planner_results import Execution, Options, VoidResult, unless_failed
from cql_lite.planner_terms import Context, Markers, MarkerSpec, Term, compile_term
from cql_lite.types import BIGINT, ResolveUdt

BATCH_WARN_BYTES: Final = 5 * KIB
BATCH_FAIL_BYTES: Final = 50 * KIB
UNLOGGED_WARN_PARTITIONS: Final = 10
ROW_BYTES, CELL_BYTES = 20, 16
"""Counted for each row and cell of a batch, beside keys and values."""
WRITE_TYPES: Final = {ast.LOGGED: "BATCH", ast.UNLOGGED: "UNLOGGED_BATCH", ast.COUNTER: "COUNTER"}


class Step(NamedTuple):
    """One modification of a batch, with its values."""

    plan: ModifyPlan | CounterPlan
    context: Context
    options: Options


def execute_batch(kind: str, steps: Sequence[Step], options: Options) -> Execution:
    """The requests of a batch; an empty one succeeds."""
    counted = [step.plan.view.is_counter for step in steps]
    if any(counted) or (kind == ast.COUNTER and steps):
        _check_counters(kind, all(counted))
        return (yield from _execute_counters(steps, options))
    plans = [step.plan for step in steps if isinstance(step.plan, ModifyPlan)]
    if any(plan.is_conditional for plan in plans):
        conditional = [ConditionalStep(plan, step.context) for plan, step in zip(plans, steps, strict=True)]
        draft = draft_conditional(plans, options)
        return (yield from execute_conditional(conditional, draft, options, is_batch=True))
    drafts, last = Drafts(), None
    for plan, step in zip(plans, steps, strict=True):
        if last is not None:
            step.context.follow(last)
        last = step.context
        before = yield from read_rows(plan, step.context, step.options)
        plan.draft(drafts, step.context, step.options, before)
    writes = tuple(draft.request(options.level) for draft in drafts.all())
    _warn(kind, plans, writes, options)
    if len(writes) == 1:
        (answer,) = yield writes
        unless_failed(answer, WRITE_TYPES[kind])
    elif writes:
        (answer,) = yield (BatchRequest(writes, options.level, kind == ast.LOGGED),)
        unless_failed(answer, WRITE_TYPES[kind])
    return VoidResult()


def _execute_counters(steps: Sequence[Step], options: Options) -> Execution:
    """Additions are one request, and what is deleted beside them writes of their own."""
    drafts = Drafts()
    for step in steps:
        if isinstance(step.plan, ModifyPlan):
            step.plan.draft(drafts, step.context, step.options, {})
    added = [(step.plan, step.context) for step in steps if isinstance(step.plan, CounterPlan)]
    deletions = [draft.request(options.level) for draft in drafts.all()]
    return (yield from execute_counter_batch(added, deletions, options))


def _check_counters(kind: str, only_counters: bool) -> None:
    """Counters are added to in batches of their own."""
    if kind == ast.COUNTER and not only_counters:
        raise InvalidRequestError("Cannot include non-counter statement in a counter batch")
    if kind == ast.LOGGED:
        raise InvalidRequestError(
            "Cannot include a counter statement in a logged batch: write BEGIN COUNTER BATCH"
        )
    if not only_counters:
        raise InvalidRequestError("Counter and non-counter mutations cannot exist in the same batch")


def _size(write: WriteRequest) -> int:
    """About what Cassandra counts: of rows the key and a timestamp, of cells also what they say of time."""
    rows = sum(len(row.suffix) + ROW_BYTES for row in write.rows)
    return rows + sum(CELL_BYTES + len(cell.value or b"") for row in write.rows for cell in row.writes)


def _warn(kind: str, plans: Sequence[ModifyPlan], writes: Sequence[WriteRequest], options: Options) -> None:
    """What Cassandra warns of, or refuses, at its default thresholds; one partition may be of any size."""
    if len(writes) < 2:
        return
    size = sum(map(_size, writes))
    partitions = len({(write.table, write.partition) for write in writes})
    if size <= BATCH_WARN_BYTES and (kind == ast.LOGGED or partitions <= UNLOGGED_WARN_PARTITIONS):
        return
    tables = ", ".join(dict.fromkeys(f"{plan.view.keyspace}.{plan.view.name}" for plan in plans))
    if size > BATCH_FAIL_BYTES:
        raise InvalidRequestError(
            f"Batch too large: for [{tables}] it is of size {size / KIB:.1f}KiB, exceeding the threshold of "
            f"{BATCH_FAIL_BYTES // KIB}KiB for batches of several partitions: send several, or single writes"
        )
    if size > BATCH_WARN_BYTES:
        options.warn(
            f"Batch for [{tables}] is of size {size / KIB:.1f}KiB, exceeding specified threshold of "
            f"{BATCH_WARN_BYTES // KIB}KiB by {(size - BATCH_WARN_BYTES) / KIB:.1f}KiB."
        )
    if kind == ast.UNLOGGED and partitions > UNLOGGED_WARN_PARTITIONS:
        options.warn(
            f"Unlogged batch covering {partitions} partitions detected against tables [{tables}]. You should "
            "use a logged batch for atomicity, or asynchronous writes for performance."
        )


def _check_timestamps(plans: Sequence[ModifyPlan | CounterPlan]) -> None:
    """Refuse what has no place beside a timestamp of the whole batch."""
    if any(plan.view.is_counter for plan in plans):
        raise InvalidRequestError("Cannot provide custom timestamp for counter BATCH")
    own = [plan for plan in plans if isinstance(plan, ModifyPlan)]
    if any(plan.is_conditional for plan in own):
        raise InvalidRequestError(
            "Cannot provide custom timestamp for conditional BATCH: the decision gives it"
        )
    if any(plan.has_timestamp for plan in own):
        raise InvalidRequestError("Timestamp must be set either on BATCH or individual statements")


class BatchPlan:
    """BEGIN BATCH ... APPLY BATCH as one statement."""

    is_read: Final = False

    def __init__(
        self,
        statement: ast.Batch,
        plans: Sequence[ModifyPlan | CounterPlan],
        markers: Markers,
        udt: ResolveUdt,
    ) -> None:
        """`plans` were compiled with `markers`."""
        self._kind = statement.kind
        self._plans = plans
        scope = Expressions(markers, udt).scope
        using = statement.using
        if using.ttl is not None:
            raise InvalidRequestError("Global TTL on the BATCH statement is not supported: give each its own")
        self._timestamp: Term | None = None
        if using.timestamp is not None:
            _check_timestamps(plans)
            self._timestamp = compile_term(using.timestamp, BIGINT, "[timestamp]", scope)
        self.markers: tuple[MarkerSpec, ...] = markers.specs()
        self.key_markers: tuple[int, ...] = ()

    def execute(self, context: Context, options: Options) -> Execution:
        """The requests of one execution."""
        if self._timestamp is not None:
            value = self._timestamp(context)
            if value is None:
                raise InvalidRequestError("Invalid null value of timestamp")
            if isinstance(value, bytes):
                timestamp_us = int(BIGINT.decode(value)) or ZERO_TIMESTAMP_US
                options = msgspec.structs.replace(options, timestamp_us=timestamp_us)
        steps = [Step(plan, context, options) for plan in self._plans]
        return execute_batch(self._kind, steps, options)
