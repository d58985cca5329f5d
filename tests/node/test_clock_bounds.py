"""A timestamp of a client is at most a minute ahead of the wall clock, whatever others did before."""

from __future__ import annotations

from core import limits
from core.consistency import Level
from core.requests import Invalid, WriteRequest, Written
from jepsen_like.history import OK
from jepsen_like.scenarios import Scenario
from kv import operations
from sim.clock import EPOCH_US


def test_timestamps_ahead_do_not_push_each_other_further_ahead() -> None:
    """Each write meets a newer one and is stamped above it; that must not make room for the next minute."""
    s = Scenario()
    s.start()
    bucket = s.bucket("b")
    ahead_us, answers = 0, []
    for _ in range(5):
        now_us = s.cluster.now_us + EPOCH_US
        wanted_us = now_us + ahead_us + limits.FUTURE_TIMESTAMP_US_MAX - 1_000_000
        request = operations.put(bucket, "k", b"c", "text/plain", Level.QUORUM, timestamp_us=wanted_us)
        assert isinstance(request, WriteRequest)
        answers.append(s.ask(request).answer)
        end = s.put("b", "k", b"stamped")
        assert end.status == OK
        ahead_us = end.result[0] - s.cluster.now_us - EPOCH_US
    assert isinstance(answers[0], Written)
    assert all(isinstance(answer, Invalid) and answer.code == "timestamp_ahead" for answer in answers[1:])
    assert ahead_us <= limits.FUTURE_TIMESTAMP_US_MAX
