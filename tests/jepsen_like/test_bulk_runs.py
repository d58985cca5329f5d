"""Workloads whose plain writes travel in bulk, together with those of the same moment, under all faults."""

from __future__ import annotations

import sys

import pytest

from core.consistency import Level
from core.requests import BulkAnswered, BulkRequest, Request, WriteRequest
from jepsen_like import simulate
from sim.cluster import Callback, Reply, SimCluster

GATHER_US = 20_000

Waiting = list[tuple[WriteRequest, int, Callback]]


class Gatherer:
    """Stands before a cluster's `request`."""

    def __init__(self, plain: object) -> None:
        self.plain = plain
        self.bulks = 0
        self._waiting: dict[tuple[SimCluster, int, int, Level], Waiting] = {}

    def request(
        self, cluster: SimCluster, index: int, request: Request, timeout_us: int, then: Callback
    ) -> int:
        if not isinstance(request, WriteRequest) or request.timestamp_us:
            return self.plain(cluster, index, request, timeout_us, then)  # type: ignore[operator, no-any-return]
        place = (cluster, index, request.table, request.level)
        waiting = self._waiting.setdefault(place, [])
        if any(other.partition == request.partition for other, _, _ in waiting):
            return self.plain(cluster, index, request, timeout_us, then)  # type: ignore[operator, no-any-return]
        waiting.append((request, timeout_us, then))
        if len(waiting) == 1:
            cluster.scheduler.after(GATHER_US, self._send, place)
        return 0

    def _send(self, place: tuple[SimCluster, int, int, Level]) -> None:
        cluster, index, table, level = place
        waiting = self._waiting.pop(place)

        def told(reply: Reply) -> None:
            answer = reply.answer
            for at, (_, _, then) in enumerate(waiting):
                answers = (answer.answers[at],) if isinstance(answer, BulkAnswered) else reply.answers
                then(Reply(answers, reply.refused, reply.unknown))

        bulk = BulkRequest(table, tuple(write for write, _, _ in waiting), level)
        self.plain(cluster, index, bulk, max(timeout_us for _, timeout_us, _ in waiting), told)  # type: ignore[operator]
        self.bulks += 1


@pytest.mark.parametrize(
    ("workload", "seed"), [("register", 2_000), ("register", 902), ("set", 2_004), ("deletes", 903)]
)
def test_what_is_written_in_bulk_is_judged_as_what_is_written_alone(
    workload: str, seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gatherer = Gatherer(SimCluster.request)
    monkeypatch.setattr(SimCluster, "request", lambda cluster, *given: gatherer.request(cluster, *given))
    arguments = ["simulate", "--workload", workload, "--seed", str(seed), "--seconds", "15"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert simulate.main() == 0, capsys.readouterr().out
    assert gatherer.bulks > 100
