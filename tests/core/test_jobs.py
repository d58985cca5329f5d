"""A job's result, or the fault of the disk that it met; everything else is a bug and goes on."""

from __future__ import annotations

import pytest

from core.commands import Failed, Why
from core.errors import CorruptionError, DiskFullError, StallError
from core.jobs import result_of


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (CorruptionError("x"), Why.CORRUPT),
        (DiskFullError("x"), Why.DISK_FULL),
        (StallError("x"), Why.STALLED),
    ],
)
def test_faults_of_the_disk_are_values(error: Exception, why: Why) -> None:
    def job() -> None:
        raise error

    assert result_of(job) == Failed(why, "x")


def test_a_bug_is_none() -> None:
    assert result_of(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        result_of(lambda: 1 // 0)
