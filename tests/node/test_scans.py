"""Reading for clients: pages of a partition, scans of the ring, credit."""

from __future__ import annotations

from core.cell import VALUE, Cell
from core.commands import Read, Rows
from core.consistency import Level
from core.metadata import Changes, DropTable, Epoch, Proposal
from core.requests import Invalid, ReadRequest, RowsRead, ScanRequest, Unavailable
from core.row import Row, encode_row
from lsm.keys import ROW_SUFFIX, clustering_text, partition_prefix, row_key
from node.metadata_state import apply
from node.scans import joined_ranges
from ring.tokens import MAX_TOKEN, MIN_TOKEN, token_of
from tests.node.stage import B, C, Stage

LIVE = Row(None, (Cell(0, (), VALUE, 5, 1, 0, b""),))
DEAD = Row(None, (Cell(0, (), VALUE, 5, 1, 5, None),))
PREFIX = partition_prefix(2, token_of(b"p"), b"p") + ROW_SUFFIX


def at(name: str) -> bytes:
    return PREFIX + clustering_text(name)


def page(more: bool, **named: Row) -> Rows:
    return Rows(tuple((at(name), encode_row(item)) for name, item in named.items()), None, more)


def begin(stage: Stage, rows_max: int = 2, reverse: bool = False) -> None:
    request = ReadRequest(2, b"p", ROW_SUFFIX, b"\x03", False, Level.ONE, rows_max, reverse)
    stage.scans.read(request, stage.deadline_us, stage.answer)


def names(answer: RowsRead) -> list[bytes]:
    return [item.key for item in answer.rows]


def test_dead_rows_count_for_nothing_so_a_short_page_is_continued() -> None:
    stage = Stage()
    begin(stage)
    stage.stored(page(True, a=LIVE, b=DEAD), "read")
    assert stage.answers == []
    ((_, command),) = stage.submitted
    assert isinstance(command, Read)
    assert command.slice.first == at("b") + b"\x00"
    stage.stored(page(False, c=LIVE, d=LIVE), "read")
    (answer,) = stage.answers
    assert names(answer) == [at("a"), at("c")]
    assert answer.more
    assert answer.after == at("c")


def test_reversed_pages_end_before_the_last_key() -> None:
    stage = Stage()
    begin(stage, 3, reverse=True)
    stage.stored(page(True, c=LIVE), "read")
    ((_, command),) = stage.submitted
    assert isinstance(command, Read)
    assert command.slice.end == at("c")
    stage.stored(page(False, b=LIVE), "read")
    (answer,) = stage.answers
    assert names(answer) == [at("c"), at("b")]
    assert not answer.more


def test_the_ring_is_scanned_as_credit_comes() -> None:
    stage = Stage()
    request = ScanRequest(1, b"", 1000, Level.ONE)
    stage.scans.scan(5, request, stage.deadline_us, stage.answer)
    assert stage.submitted == []
    stage.scans.want(5, 1)
    keys = sorted(row_key(1, token_of(name), name) for name in (b"x", b"y", b"z"))
    first = Rows(tuple((key, encode_row(LIVE)) for key in keys[:2]), None, True)
    stage.stored(first, "read")
    ((part, last),) = stage.answers
    assert names(part) == keys[:2]
    assert not last
    assert stage.submitted == []  # no credit
    stage.scans.want(5, 1)
    ((_, command),) = stage.submitted
    assert isinstance(command, Read)
    assert command.slice.first == keys[1] + b"\x00"
    stage.stored(Rows(((keys[2], encode_row(LIVE)),), None, False), "read")
    answer = stage.answers[-1]
    assert names(answer) == keys[2:]
    assert not answer.more


def test_a_scan_goes_on_after_a_key_and_stops_at_its_limit() -> None:
    stage = Stage()
    key = row_key(1, token_of(b"x"), b"x")
    stage.scans.scan(5, ScanRequest(1, key, 1, Level.ONE), stage.deadline_us, stage.answer)
    stage.scans.want(5, 1)
    ((_, command),) = stage.submitted
    assert isinstance(command, Read)
    assert command.slice.first == key + b"\x00"
    assert command.slice.rows_max == 1
    other = row_key(1, MAX_TOKEN, b"y")
    stage.stored(Rows(((other, encode_row(LIVE)),), None, True), "read")
    (answer,) = stage.answers
    assert answer.more
    assert answer.after == other


def test_failures_and_cancelling_end_a_scan() -> None:
    stage = Stage()
    stage.swim.dead = [B, C]
    stage.scans.scan(5, ScanRequest(1, b"", 10, Level.QUORUM), stage.deadline_us, stage.answer)
    stage.scans.want(5, 1)
    assert stage.answers == [Unavailable(2, 1, Level.QUORUM)]
    stage = Stage()
    stage.scans.scan(5, ScanRequest(1, b"", 10, Level.ONE), stage.deadline_us, stage.answer)
    stage.scans.want(5, 1)
    stage.scans.cancel(5)
    stage.stored(Rows((), None, False), "read")
    assert stage.answers == []
    stage.scans.scan(6, ScanRequest(77, b"", 10, Level.ONE), stage.deadline_us, stage.answer)
    assert isinstance(stage.answers[0], Invalid)


def test_ranges_with_the_same_replicas_are_one() -> None:
    stage = Stage()
    ((first, last, replicas),) = joined_ranges(stage.metadata.state.placement(1))
    assert (first, last) == (MIN_TOKEN, MAX_TOKEN)
    assert len(replicas) == 3


def test_a_table_dropped_between_two_parts_ends_a_scan_and_a_read() -> None:
    stage = Stage()
    stage.scans.scan(5, ScanRequest(1, b"", 1_000, Level.ONE), stage.deadline_us, stage.answer)
    stage.scans.want(5, 1)
    key = row_key(1, token_of(b"x"), b"x")
    stage.stored(Rows(((key, encode_row(LIVE)),), None, True), "read")
    begin(stage, rows_max=2)
    state = stage.metadata.state
    drops = tuple(Proposal((1, 9 + n), DropTable("kv", name)) for n, name in enumerate(("flat", "wide")))
    stage.metadata.state = apply(state, Epoch(state.epoch + 1, Changes(drops)))
    stage.stored(page(True, a=LIVE), "read")
    stage.scans.want(5, 1)
    codes = [answer.code for answer in stage.answers if isinstance(answer, Invalid)]
    assert codes == ["no_such_table", "no_such_table"]
    assert stage.inside.operations == {}


def test_who_looks_for_one_row_behind_many_dead_ones_asks_for_more_each_time() -> None:
    """The head of a queue: each item before it is a tombstone."""
    stage = Stage()
    begin(stage, 1)
    asked = []
    for number in range(8):
        ((_, command),) = stage.submitted
        assert isinstance(command, Read)
        asked.append(command.slice.rows_max)
        stage.stored(page(True, **{f"a{number}": DEAD}), "read")
    assert asked == [1, 1, 4, 16, 64, 256, 1_000, 1_000]  # in sums, but nobody sums up
    stage.stored(page(False, b=LIVE, c=LIVE), "read")
    (answer,) = stage.answers
    assert names(answer) == [at("b")] and answer.more


def test_a_scan_of_the_ring_does_so_too_and_begins_anew_after_a_live_row() -> None:
    stage = Stage()
    stage.scans.scan(5, ScanRequest(1, b"", 2, Level.ONE), stage.deadline_us, stage.answer)
    stage.scans.want(5, 3)
    keys = sorted(row_key(1, token_of(name), name) for name in (b"x", b"y", b"z"))
    asked = []
    for key, row in zip(keys, (DEAD, DEAD, LIVE), strict=True):
        ((_, command),) = stage.submitted
        assert isinstance(command, Read)
        asked.append(command.slice.rows_max)
        stage.stored(Rows(((key, encode_row(row)),), None, True), "read")
    ((_, command),) = stage.submitted
    assert isinstance(command, Read)
    assert [*asked, command.slice.rows_max] == [2, 8, 32, 1]
