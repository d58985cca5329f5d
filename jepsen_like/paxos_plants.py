"""Planted bugs of conditional updates; jepsen_like/plants.py says what a plant is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

import node.paxos_round
from core.cell import NO_VERSION
from core.commands import NO_BALLOT, Ballot, PaxosAccept, PaxosPrepare, Promised
from core.limits import SECOND_US
from core.mutation import decode_mutation, encode_mutation, restamped
from core.requests import Judged, Timeout
from core.settings import Settings
from jepsen_like.plants import Plant
from lsm.paxos import PaxosSteps
from node.paxos_phases import LOOK, Phases
from node.paxos_round import CasOperation
from node.paxos_view import View, view_of
from sim.options import NetworkOptions

WRONG = ("not_linearizable", "lost", "forked", "duplicated", "phantom", "stale", "unsettled")

_prepare = PaxosSteps.prepare
_accept = PaxosSteps.accept
_end = Phases._end
_finish_for = CasOperation._finish_for
_on_view = CasOperation._on_view


def _promise_without_writing(self: Any, step: PaxosPrepare, has_clustering: bool) -> Any:
    return _prepare(self, msgspec.structs.replace(step, ballot=NO_BALLOT), has_clustering)


def _accept_whatever(self: Any, step: PaxosAccept) -> Any:
    key, record = self._record(step.partition)
    if record.committed < step.ballot < record.promised:
        self._keep(key, msgspec.structs.replace(record, promised=NO_BALLOT))
    return _accept(self, step)


def _promise_again(self: Any, step: PaxosPrepare, has_clustering: bool) -> Any:
    key, record = self._record(step.partition)
    if NO_BALLOT < step.ballot == max(record.promised, record.committed):
        looked, _ = _prepare(self, msgspec.structs.replace(step, ballot=NO_BALLOT), has_clustering)
        return looked, self._keep(key, msgspec.structs.replace(record, promised=step.ballot))
    return _prepare(self, step, has_clustering)


def _accept_again(self: Any, step: PaxosAccept) -> Any:
    key, record = self._record(step.partition)
    if step.ballot == record.committed == record.promised:
        below = (step.ballot[0], step.ballot[1] - 1)
        self._keep(key, msgspec.structs.replace(record, committed=below))
    return _accept(self, step)


def _ballot_of_the_second(self: Any, stamp_us: int) -> Ballot:
    return stamp_us // 1_000_000, self._parent.writes.writer >> 32


def _nothing_unfinished(promises: Mapping[bytes, Promised]) -> View:
    return msgspec.structs.replace(view_of(promises), unfinished=NO_BALLOT)


def _nobody_behind(promises: Mapping[bytes, Promised]) -> View:
    return msgspec.structs.replace(view_of(promises), behind=())


def _no_version_seen(promises: Mapping[bytes, Promised]) -> View:
    return msgspec.structs.replace(view_of(promises), version=NO_VERSION)


def _no_version_read(_: Any) -> Any:
    return NO_VERSION


def _answer_what_was_looked_at(self: Any) -> None:
    """What is not finished is left so, and who lacks the last commit goes on lacking it."""
    if self._phase == LOOK and self.aim.decide is None:
        self._end(self._merged(0))
    else:
        _on_view(self)


def _always_calm(self: Any, _: bool) -> None:
    self._end(self._result)


def _timeout_means_no(self: Any, answer: Any) -> None:
    if isinstance(answer, Timeout) and answer.write:
        answer = Judged(False, (), None)
    _end(self, answer)


def _stamped_anew(self: Any, data: bytes) -> None:
    stamp_us = self._parent.inside.clock.stamp()
    if stamp_us is not None:
        mutation = decode_mutation(data)
        writer = self._parent.writes.writer
        data = encode_mutation(restamped(mutation, mutation.admitted_us, (stamp_us, writer)))
    _finish_for(self, data)


def _hold_nothing(self: Any, step: PaxosPrepare, has_clustering: bool) -> Any:
    outcome, depends_on = _prepare(self, step, has_clustering)
    if isinstance(outcome, Promised):
        outcome = msgspec.structs.replace(outcome, holds=(False,) * len(outcome.holds))
    return outcome, depends_on


_VIEW = (node.paxos_round, "view_of")

_PATIENT_US = 5 * SECOND_US
COMMITS_LOST = (
    ("peers", 3),
    ("replication", 3),
    ("keys", 5),
    ("rate", 150),
    ("clients", 20),
    ("faults", ("loss",)),
    ("fault_period_us", SECOND_US),
    ("fault_length_us", SECOND_US // 2),
    ("network", NetworkOptions(latency_min_us=200, latency_max_us=2_000, jitter_us=1_000, loss=0.25)),
    (
        "settings",
        Settings(
            hints=False,
            follow_idle_us=_PATIENT_US,
            follow_pause_us=_PATIENT_US,
            write_timeout_us=SECOND_US,
            read_timeout_us=SECOND_US,
        ),
    ),
)
"""A run in which a quarter of all commits is lost, and what they brought comes by conditional requests alone
for a while.
"""

PAXOS_PLANTS = (
    Plant("promise not written", ((PaxosSteps, "prepare", _promise_without_writing),), "append", 1, WRONG),
    Plant("lower ballot accepted", ((PaxosSteps, "accept", _accept_whatever),), "append", 1, WRONG),
    Plant(
        "ballots repeat",
        (
            (CasOperation, "_new_ballot", _ballot_of_the_second),
            (PaxosSteps, "prepare", _promise_again),
            (PaxosSteps, "accept", _accept_again),
        ),
        "append",
        5,
        WRONG,
    ),
    Plant("unfinished proposal skipped", ((*_VIEW, _nothing_unfinished),), "append", 1, WRONG),
    Plant("condition judged on an old row", ((*_VIEW, _nobody_behind),), "cas-register", 156, WRONG, 20),
    Plant(
        "SERIAL read without a round",
        ((CasOperation, "_on_view", _answer_what_was_looked_at),),
        "cas-register",
        1,
        WRONG,
        shape=COMMITS_LOST,
    ),
    Plant("no empty proposal", ((CasOperation, "_say", _always_calm),), "append", 45, WRONG, 20),
    Plant("applied inverted on timeout", ((Phases, "_end", _timeout_means_no),), "append", 3, WRONG),
    Plant("stamped anew on completion", ((CasOperation, "_finish_for", _stamped_anew),), "append", 3, WRONG),
    Plant(
        "version below what was read",
        ((*_VIEW, _no_version_seen), (node.paxos_round, "newest_read", _no_version_read)),
        "append",
        1,
        WRONG,
    ),
    Plant("own proposals forgotten", ((PaxosSteps, "prepare", _hold_nothing),), "append", 3, WRONG),
)
