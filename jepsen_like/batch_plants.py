"""Planted bugs of logged batches and counters; jepsen_like/plants.py says what a plant is.

A count that leaves before it is durable is not among them: a peer that starts again follows its siblings
before it serves, so random faults hardly ever find it. Counterexample 40 tells it as a story.
"""

from __future__ import annotations

from typing import Any

import msgspec

import lsm.store
import node.counters
import query.once
from core.mutation import Mutation
from jepsen_like.plants import Plant
from lsm.counters import resolve
from node.batch_log import BatchLog, BatchWrite
from node.batches import LoggedBatch
from node.counters import CounterOperation, increments_of
from node.writes import WriteOperation
from query.once import BatchClaim

TORN = ("torn", "lost", "stale", "back")
MISCOUNTED = ("lost", "overcounted", "wrong_sum")

_apply = LoggedBatch._apply


def _send_without_logging(self: Any, holders: Any, pairs: Any, deadline_us: int) -> None:
    del holders, pairs
    self._deadline_us = deadline_us
    self._apply()


def _forget_before_applying(self: Any) -> None:
    self._done()
    _apply(self)


def _keep_nothing(self: Any, message: Any, done: Any) -> None:
    del self, message
    done("")


def _lead_under_a_new_id(self: Any, peer: Any) -> None:
    if peer == self._leader and self._message is not None:
        self._leaders.insert(0, peer)
        self._next_leader()


def _find_nothing(part: Any, of: Any) -> None:
    del part, of


def _send_what_the_retry_asks(self: Any, answer: Any) -> Any:
    del answer
    return self._mutations, True


def _one_shard_for_all(message: Any, token: int, shard: bytes, version: Any) -> Mutation:
    del shard
    return increments_of(message, token, b"everybody", version)


def _at_the_stamp(increments: Mutation, stored: Any) -> Mutation:
    """The sum, under the stamp of whoever asks, though a cell of the leader's clock may be newer."""
    mutation = resolve(increments, stored)
    rows = tuple(
        (
            suffix,
            msgspec.structs.replace(
                row,
                cells=tuple(
                    msgspec.structs.replace(cell, timestamp_us=mutation.admitted_us // 1_000_000 * 1_000_000)
                    for cell in row.cells
                ),
            ),
        )
        for suffix, row in mutation.rows
    )
    return msgspec.structs.replace(mutation, rows=rows)


BATCH_PLANTS = (
    Plant("batch not logged", ((LoggedBatch, "start", _send_without_logging),), "batches", 2, TORN, 20),
    Plant(
        "batch log emptied before the batch is applied",
        ((LoggedBatch, "_apply", _forget_before_applying),),
        "batches",
        2,
        TORN,
        20,
    ),
    Plant("batch log keeps nothing", ((BatchLog, "store", _keep_nothing),), "batches", 5, TORN, 20),
    Plant(
        "mutations of a batch stamped again one by one",
        ((BatchWrite, "_stamp_again", WriteOperation._stamp_again),),
        "batches",
        1,
        ("torn",),
        20,
    ),
    Plant(
        "increment tried again under a new id",
        ((CounterOperation, "on_connected", _lead_under_a_new_id),),
        "counter",
        1,
        MISCOUNTED,
        20,
    ),
    Plant(
        "operation id not looked up",
        ((query.once, "_found", _find_nothing),),
        "counter-once",
        1,
        MISCOUNTED,
    ),
    Plant(
        "batch tried again as the retry has it",
        ((BatchClaim, "mutations", _send_what_the_retry_asks),),
        "batches-once",
        1,
        ("done_again",),
    ),
    Plant(
        "one shard for all replicas",
        ((node.counters, "increments_of", _one_shard_for_all),),
        "counter",
        1,
        MISCOUNTED,
    ),
    Plant(
        "count under a version that is not above the one before",
        ((lsm.store, "resolve", _at_the_stamp),),
        "counter",
        1,
        (*MISCOUNTED, "diverged"),
    ),
)
