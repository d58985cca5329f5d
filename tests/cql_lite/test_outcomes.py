"""What a cluster could not do, in the protocol's words."""

from __future__ import annotations

import pytest

from core.consistency import Level
from core.requests import Timeout
from cql_lite import wire
from cql_lite.outcomes import error_of_failure
from cql_lite.planner_results import FailedError


def error(answer: Timeout, write_type: str) -> wire.Error:
    return error_of_failure(FailedError(answer, write_type), answer.level)


@pytest.mark.parametrize("write_type", ["SIMPLE", "BATCH", "UNLOGGED_BATCH", "COUNTER", "BATCH_LOG"])
def test_a_write_that_timed_out_says_of_what_kind_it_was(write_type: str) -> None:
    found = error(Timeout(1, 2, Level.QUORUM, write=True), write_type)
    assert isinstance(found, wire.WriteTimeout)
    assert (found.received, found.required, found.write_type) == (1, 2, write_type)
    assert "may be there all the same" in found.message


def test_a_condition_that_timed_out() -> None:
    proposed = error(Timeout(1, 2, Level.SERIAL, write=True, write_type="CAS"), "CAS")
    assert isinstance(proposed, wire.CasWriteUnknown)
    nothing = error(Timeout(1, 2, Level.SERIAL, write=False, write_type="CAS"), "CAS")
    assert isinstance(nothing, wire.WriteTimeout)
    assert (nothing.write_type, nothing.consistency) == ("CAS", Level.SERIAL)
    assert "certainly not applied" in nothing.message


@pytest.mark.parametrize("level", [Level.SERIAL, Level.QUORUM])
def test_a_read_that_timed_out(level: Level) -> None:
    of = "CAS" if level is Level.SERIAL else "SIMPLE"
    assert isinstance(error(Timeout(0, 2, level, write=False, write_type=of), ""), wire.ReadTimeout)
