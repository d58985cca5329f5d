"""Traces: what is kept of them here ends, whoever forgets to end it."""

from __future__ import annotations

from core.limits import TRACED_AT_ONCE_MAX
from core.messages import TraceThis
from core.trace import Trace
from node.tracing import OWN_FOR_US, TRACED_FOR_US, Tracing
from tests.node.stage import B, Stage


def test_a_trace_that_nobody_ended_is_not_in_the_way_of_others_for_ever() -> None:
    """Whose client is gone is answered no more, and asks again when it is late."""
    stage = Stage()
    tracing = Tracing(stage.inside, stage.metadata)
    first = Trace(b"t" * 16, stage.monotonic_us)
    for op in range(1, TRACED_AT_ONCE_MAX + 1):
        tracing.asks(first, op, [B], "Asking")
    second = Trace(b"u" * 16, stage.monotonic_us)
    tracing.asks(second, 9_999, [B], "Asking")
    assert 9_999 not in stage.inside.traces, "so many at once"
    stage.pass_time(OWN_FOR_US // 2)
    tracing.asks(first, 1, [B], "Asking once more")
    stage.pass_time(OWN_FOR_US // 2 + TRACED_FOR_US)
    assert list(stage.inside.traces) == [1]
    tracing.asks(second, 9_999, [B], "Asking")
    assert 9_999 in stage.inside.traces
    stage.inside.message_handlers[TraceThis](B, TraceThis(5))
    stage.pass_time(OWN_FOR_US + 2 * TRACED_FOR_US)
    assert not stage.inside.traces and not stage.inside.traces_of_others and not stage.timers
