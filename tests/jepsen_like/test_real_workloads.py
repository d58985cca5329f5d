"""Judges of workloads that only real peers are asked by, against histories that are good and that are bad."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from jepsen_like.history import FAIL, INFO, OK, History, Operation
from jepsen_like.real.run import real_named
from jepsen_like.real.workloads import FINALS_AT_ONCE, Few
from jepsen_like.real.workloads.changes import RealSubscriber
from jepsen_like.real.workloads.composite import REAL_ONLY, RealCompositeWorkload
from jepsen_like.real.workloads.schema import Put, Rows, judge_reads, judge_table

# --- schema


class Script:
    """A history by hand of one table."""

    def __init__(self) -> None:
        self.history = History()

    def begin(self, kind: str, value: Any = None) -> Operation:
        return self.history.invoke(Operation(self.history.new_process(), kind, "t0", value, 0), 0)

    def end(self, operation: Operation, status: str = OK, result: Any = None) -> Operation:
        self.history.complete(operation, status, 0, result)
        return operation

    def did(self, kind: str, value: Any = None, status: str = OK, result: Any = None) -> Operation:
        return self.end(self.begin(kind, value), status, result)

    def names(self, rows: Rows | None) -> list[str]:
        return [problem.name for problem in judge_table(self.history.operations, "t0", rows)]


def row(number: int, **more: str | None) -> Rows:
    return {number: {"n": str(number), **more}}


def test_what_was_acknowledged_and_nothing_emptied_is_there() -> None:
    s = Script()
    s.did("drop")
    s.did("create")
    s.did("write", Put(1, ("x0",)))
    assert s.names(row(1, x0="1", x1=None)) == []
    assert s.names({}) == ["lost"]
    assert s.names(row(1, x0=None)) == s.names(row(1)) == ["lost"], "the column"
    assert s.names(None) == ["lost"], "the table"


@pytest.mark.parametrize("kind", ["drop", "truncate"])
@pytest.mark.parametrize("status", [OK, INFO, FAIL])
def test_what_was_emptied_since_is_gone_and_what_may_have_been_may_be(kind: str, status: str) -> None:
    s = Script()
    s.did("write", Put(1, ()))
    s.did(kind, "x0", status)
    assert s.names({}) == (["lost"] if status == FAIL else [])
    assert s.names(row(1)) == (["ghost"] if status == OK else [])


def test_a_write_beside_what_empties_may_be_before_or_after_it() -> None:
    s = Script()
    drop = s.begin("drop")
    s.did("write", Put(1, ()))
    s.end(drop)
    assert s.names({}) == s.names(row(1)) == s.names(None) == []


def test_columns_that_were_dropped_do_not_show_again() -> None:
    s = Script()
    s.did("write", Put(1, ("x0",)))
    s.did("drop_column", "x0")
    s.did("add_column", "x0")
    assert s.names(row(1, x0=None)) == s.names(row(1)) == []
    assert s.names(row(1, x0="1")) == ["ghost"]
    assert s.names(row(1, x0=None, x1="1")) == ["phantom"], "it has not written that one"


def test_what_failed_or_was_never_written_does_not_show() -> None:
    s = Script()
    s.did("write", Put(1, ()), FAIL)
    s.did("write", Put(2, ()), INFO)
    assert s.names({}) == s.names(row(2)) == []
    assert s.names(row(1)) == s.names(row(3)) == ["phantom"]
    assert s.names({2: {"n": "4"}}) == ["phantom"]


def test_a_read_sees_an_acknowledged_row_unless_its_table_may_have_been_emptied() -> None:
    s = Script()
    s.did("write", Put(1, ()))
    s.did("read", Put(1, ()), OK, row(1))
    assert judge_reads(s.history.operations) == []
    blind = s.did("read", Put(1, ()), OK, {})
    assert [problem.name for problem in judge_reads(s.history.operations)] == ["stale"]
    s.history.operations.remove(blind)
    s.did("truncate", "", INFO)
    s.did("read", Put(1, ()), OK, {})
    assert judge_reads(s.history.operations) == []


# --- the change stream


def subscriber(start: str = "now") -> RealSubscriber:
    cluster = SimpleNamespace(options=SimpleNamespace(seed=1), now_us=0)
    return RealSubscriber(cast("Any", cluster), cast("Any", None), "kv.changes", "reader", start)


def event(name: str, at_us: int, before: str | None, after: str | None, **more: Any) -> dict[str, Any]:
    images = {
        side: None if value is None else {"value": value, "content_type": "text/plain"}
        for side, value in (("before", before), ("after", after))
    }
    operation = "delete" if after is None else "update"
    told = {"type": "event", "id": name, "key": "k1", "op": operation, "timestamp_us": at_us}
    return {**told, **images, **more}


def problems(*lines: dict[str, Any], start: str = "now") -> list[str]:
    reader = subscriber(start)
    for line in lines:
        reader.take(line)
    return [problem.name for problem in reader.problems]


FIRST, SECOND = event("a", 1, None, "1"), event("b", 2, "1", "2")


def test_a_stream_in_order_has_no_problems_and_says_what_it_delivered() -> None:
    reader = subscriber()
    for line in (FIRST, SECOND, SECOND | {"before": {"value": "2"}}, event("c", 3, "2", None)):
        reader.take(line)
    assert reader.problems == []
    assert reader.of_value == {("k1", b"1"): "a", ("k1", b"2"): "b"}
    assert ("k1", 3) in reader.stamps and reader.value("k1") is None


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ((FIRST, event("b", 2, None, "2")), ["chain"]),
        ((event("a", 1, "0", "1"),), ["chain"]),
        ((FIRST, SECOND, event("c", 1, "2", "3")), ["reorder"]),
        ((FIRST, event("a", 2, "1", "2")), ["id_changed"]),
        ((FIRST, event("b", 2, "1", "1")), ["doubled"]),
        ((FIRST, event("b", 2, "1", "2", superseded=True)), ["chain"]),
        (({"type": "gap", "why": "forgotten"},), ["gap"]),
    ],
)
def test_what_must_not_happen_in_a_stream_is_named(
    lines: tuple[dict[str, Any], ...], named: list[str]
) -> None:
    assert problems(*lines) == named


def test_what_a_stream_may_do_is_no_problem() -> None:
    late = event("c", 1, "2", "2", late=True, superseded=True)
    assert problems(FIRST, SECOND, late) == []
    assert problems(FIRST, {"type": "restart", "ranges": []}, event("c", 1, "7", "8")) == []
    assert problems(FIRST, event("c", 1, "7", "8", restart=True)) == []
    assert problems(event("a", 1, "0", "1"), start="start") == [], "who begins late knows no image"


def test_a_reader_stands_where_its_last_heartbeat_says_when_it_comes_back() -> None:
    reader = subscriber()
    for line in (FIRST, {"type": "heartbeat", "cursor": "here"}, SECOND):
        reader.take(line)
    assert reader.cursor == "here" and reader.value("k1") == b"2"
    reader.go_back()
    reader.take(SECOND)
    assert reader.problems == [] and reader.value("k1") == b"2"


# --- all together


def test_the_composite_of_real_peers_has_all_that_only_they_are_asked_by() -> None:
    composite = real_named("composite")
    assert isinstance(composite, RealCompositeWorkload)
    assert set(REAL_ONLY) < set(composite.parts) and len(composite.parts) == 16


class Part:
    """A workload that notes its probes."""

    def __init__(self) -> None:
        self.probes: list[int] = []

    def probe(self, peer: int) -> None:
        self.probes.append(peer)


def test_a_peer_that_does_not_answer_is_not_flooded_with_probes() -> None:
    composite = RealCompositeWorkload()
    parts = {str(number): Part() for number in range(16)}
    composite.parts = cast("Any", parts)
    composite.probe(0)
    composite.probe(1)
    assert [part.probes for part in parts.values()] == [[0, 1]] * 16, "every part once"
    for _ in range(4):
        composite.probe(1)
    assert [part.probes for part in parts.values()] == [[0, 1, 1]] * 16, "then in turn"


class Later:
    """A scheduler that does all in order when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def after(self, delay_us: int, *call: Any) -> None:
        del delay_us
        self.calls.append(call)

    def go_on(self) -> None:
        calls, self.calls = self.calls, []
        for call, *arguments in calls:
            call(*arguments)


def test_final_reads_are_made_a_few_at_a_time_and_again_until_they_are_answered() -> None:
    later, answered, s = Later(), [0], Script()
    few = Few(cast("Any", SimpleNamespace(cluster=SimpleNamespace(scheduler=later))))

    def one_more() -> None:
        answered[0] += 1

    for _ in range(2 * FINALS_AT_ONCE):
        few.do(lambda: s.begin("final"), one_more)
    begun = s.history.operations
    assert len(begun) == FINALS_AT_ONCE
    later.go_on()
    assert len(begun) == FINALS_AT_ONCE, "none has ended"
    s.end(begun[0], FAIL)
    for operation in begun[1:FINALS_AT_ONCE]:
        s.end(operation)
    for _ in range(4):
        later.go_on()
    assert (answered[0], len(begun)) == (FINALS_AT_ONCE - 1, 2 * FINALS_AT_ONCE)
    for operation in begun[FINALS_AT_ONCE:]:
        s.end(operation)
    for _ in range(4):
        later.go_on()
    assert len(begun) == 2 * FINALS_AT_ONCE + 1, "and that which failed, once more"
    s.end(begun[-1])
    later.go_on()
    assert answered[0] == 2 * FINALS_AT_ONCE
