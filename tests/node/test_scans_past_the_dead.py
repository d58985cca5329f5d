"""A partition that begins with dead rows: passed in sums where replicas agree, row by row elsewhere."""

from __future__ import annotations

from core.commands import Read, Rows, Slice
from core.consistency import Level
from core.healing_messages import Repair
from core.messages import ReadSlice, SliceRead
from core.requests import ReadRequest, RowsRead
from core.row import Passed
from node.slices import passed_alike
from tests.node.stage import Stage
from tests.node.test_scans import DEAD, LIVE, at, names, page

ROW_SUFFIX = b"\x02"


def summed(*passed: tuple[str, int], more: bool = False, first: Rows | None = None) -> Rows:
    """Chunks of ten dead rows, by their last name and their sum, and what comes after them."""
    chunks: tuple[Passed, ...] = tuple((at(name), total, 10) for name, total in passed)
    return Rows(first.rows if first else (), None, more, passed=chunks)


def begin(stage: Stage, rows_max: int = 2) -> None:
    request = ReadRequest(2, b"p", ROW_SUFFIX, b"\x03", False, Level.QUORUM, rows_max)
    stage.scans.read(request, stage.deadline_us, stage.answer)


def both(stage: Stage, mine: Rows, other: Rows | None = None) -> Slice:
    """Answer the slice that is asked for now, here and at the other replica; returns which that was."""
    ((_, command),) = stage.submitted
    ((peer, asked),) = stage.take(ReadSlice)
    assert isinstance(command, Read) and asked.slice == command.slice
    told = other or mine
    stage.message(peer, SliceRead(asked.op, told.rows, told.header, told.more, told.settled_us, told.passed))
    stage.stored(mine, "read")
    return command.slice


def test_after_dead_rows_the_rest_of_them_comes_in_sums() -> None:
    stage = Stage()
    begin(stage)
    assert both(stage, page(True, a=DEAD, b=DEAD)).live_us == 0
    part = both(stage, summed(("f", 1), ("k", 2), first=page(False, m=LIVE)))
    assert part.first == at("b") + b"\0" and part.live_us and part.rows_max == 2
    (answer,) = stage.answers
    assert isinstance(answer, RowsRead) and names(answer) == [at("m")] and not answer.more
    assert answer.dead == 22
    begin(stage)
    assert both(stage, summed(("f", 1), first=page(False, m=LIVE))).live_us, "it is known to be a queue"


def test_where_sums_differ_it_goes_on_row_by_row_and_repairs() -> None:
    stage = Stage()
    begin(stage)
    both(stage, page(True, a=DEAD, b=DEAD))
    both(stage, summed(("f", 1), ("k", 2), ("p", 3)), summed(("f", 1), ("k", 9), ("p", 3)))
    ((_, command),) = stage.submitted
    assert isinstance(command, Read) and command.slice.live_us == 0
    assert command.slice.first == at("f") + b"\0"
    both(stage, page(True, g=DEAD), page(True, g=LIVE))
    ((_, repair),) = stage.take(Repair)
    assert [key for key, _ in repair.rows] == [at("g")], "who lacks it gets it, though nobody sees it"


def test_a_replica_that_got_less_far_is_no_dispute() -> None:
    def told(rows: Rows) -> SliceRead:
        return SliceRead(1, rows.rows, rows.header, rows.more, 0, rows.passed)

    short, long = told(summed(("f", 1), more=True)), told(summed(("f", 1), ("k", 2), more=True))
    result = passed_alike([long, short])
    assert (result.end, result.passed, result.more, result.disputed) == (at("f"), 10, True, False)
    ended = told(summed(("f", 1), first=page(False, m=LIVE)))
    assert passed_alike([long, ended]).disputed
    nothing = told(page(False, a=LIVE))
    result = passed_alike([long, nothing])
    assert (result.end, result.disputed) == (b"", True)
