"""What a batch becomes: one mutation per partition, holders in other racks, one answer."""

from __future__ import annotations

from typing import Any

import pytest

from core.cell import VALUE
from core.commands import Done
from core.consistency import Level
from core.messages import ApplyMutation
from core.mutation import DELETE, INSERT, UPDATE, decode_mutation, restamped
from core.requests import (
    Answer,
    BatchRequest,
    Broken,
    Overloaded,
    RowWrite,
    Timeout,
    Unavailable,
    Write,
    WriteRequest,
    Written,
)
from core.schema import Member
from lsm.keys import ROW_SUFFIX
from node.admission import request_bytes
from node.batches import Batches, Join, build_part, holders_of
from tests.node.stage import Stage
from tests.node.test_moving import NEW, cluster_state, joining

STAMP_US, WRITER = 1_000_000, 1 << 32 | 7
OK = Written((STAMP_US, WRITER))
LATE = Timeout(1, 2, Level.QUORUM, write=True)


def put(value: bytes | None, column: int = 1, **more: Any) -> WriteRequest:
    row = RowWrite(ROW_SUFFIX, (Write(column, (), VALUE, value),))
    return WriteRequest(1, b"key", (row,), Level.ONE, more.pop("operation", INSERT), **more)


def part(*writes: WriteRequest) -> Any:
    return build_part(writes, 5, (WRITER, 3), STAMP_US)


def test_writes_to_one_partition_are_one_mutation_under_one_stamp() -> None:
    mutation = part(put(b"a"), put(b"b", column=2))
    assert mutation.id == (WRITER, 3, 0)
    ((_, row),) = mutation.rows
    assert [(cell.column, cell.value, cell.version) for cell in row.cells] == [
        (1, b"a", (STAMP_US, WRITER)),
        (2, b"b", (STAMP_US, WRITER)),
    ]


def test_of_two_values_at_one_address_one_stays_whatever_their_order_and_a_tombstone_beats_both() -> None:
    for writes in ((b"a", b"b"), (b"b", b"a")):
        assert [cell.value for cell in part(*map(put, writes)).rows[0][1].cells] == [b"b"]
    for mixed in ((b"a", None), (None, b"a")):
        assert [cell.value for cell in part(*map(put, mixed)).rows[0][1].cells] == [None]


def test_a_statement_keeps_its_own_timestamp_also_when_the_batch_is_stamped_again() -> None:
    mutation = part(put(b"mine", timestamp_us=42), put(b"ours", column=2))
    again = restamped(mutation, STAMP_US, (STAMP_US + 9, WRITER))
    versions = [cell.version for cell in again.rows[0][1].cells]
    assert versions == [(42, 0), (STAMP_US + 9, WRITER)]
    assert again.id == (WRITER, 3, 1)
    assert not part(put(b"mine", timestamp_us=42)).stamped


def test_deletions_of_ranges_merge_and_kinds_that_differ_are_an_update() -> None:
    first = put(b"a", ranges=((b"\x02a", b"\x02b"),))
    second = put(b"b", column=2, ranges=((b"\x02c", b"\x02d"),), operation=DELETE)
    mutation = part(first, second)
    assert mutation.header is not None
    assert [item.first for item in mutation.header.ranges] == [b"\x02a", b"\x02c"]
    assert mutation.operation == UPDATE


def member(number: int, rack: str, datacentre: str = "dc1") -> Member:
    return Member(bytes([number]) * 16, number, f"n{number}", "", datacentre, rack, ())


def test_holders_are_of_other_racks_one_after_the_other_then_near_then_far() -> None:
    others = [
        member(1, "r1"),
        member(2, "r2"),
        member(3, "r2"),
        member(4, "r3"),
        member(5, "r1", "dc2"),
    ]
    assert [peer[0] for peer in holders_of(others, "dc1", "r1")] == [2, 4, 3, 1, 5]


@pytest.mark.parametrize(
    ("answers", "joined"),
    [
        ((OK, OK), OK),
        ((OK, LATE), Timeout(1, 2, Level.QUORUM, write=True, write_type="UNLOGGED_BATCH")),
        ((Overloaded("full"), Overloaded("full")), Overloaded("full")),
        (
            (OK, Overloaded("full")),
            Broken(0, 1, 1, "full", write=True, unknown=True, write_type="UNLOGGED_BATCH"),
        ),
        (
            (OK, Broken(0, 2, 2, "x", write=True, unknown=False)),
            Broken(0, 2, 2, "x", write=True, unknown=True, write_type="UNLOGGED_BATCH"),
        ),
        (
            (Broken(0, 2, 2, "x", write=True, unknown=False),) * 2,
            Broken(0, 2, 2, "x", write=True, unknown=False, write_type="UNLOGGED_BATCH"),
        ),
        (
            (Unavailable(2, 1, Level.QUORUM), LATE),
            Timeout(1, 2, Level.QUORUM, write=True, write_type="UNLOGGED_BATCH"),
        ),
    ],
)
def test_independent_writes_are_nowhere_only_if_all_of_them_are(
    answers: tuple[Answer, ...], joined: Answer
) -> None:
    told: list[Answer] = []
    join = Join(len(answers), "UNLOGGED_BATCH", told.append)
    for answer in answers:
        assert told == []
        join.on_answer(answer)
    assert told == [joined]


def test_a_batch_weighs_what_its_writes_weigh() -> None:
    write = put(b"v" * 1_000)
    assert request_bytes(BatchRequest((write, write), Level.ONE)) >= 2 * request_bytes(write) > 2_000


def test_a_batch_that_waits_for_its_stamp_while_rows_begin_to_move_is_planned_anew() -> None:
    stage = Stage(state=cluster_state())
    unused: Any = None
    batches = Batches(
        stage.inside,
        stage.metadata,
        stage.swim,
        stage.writes,
        stamps=stage.stamps,
        log=unused,
        counters=unused,
        paxos=stage.paxos,
    )
    stage.wall = 2 * stage.clock.ceiling_us  # a stamp has to wait for a higher ceiling
    wanted = BatchRequest((put(b"a"),), Level.QUORUM, logged=False)
    batches.begin(wanted, stage.deadline_us, stage.answer)
    assert stage.take(ApplyMutation) == []
    stage.metadata.state = joining()
    stage.stored(Done(), "ceiling")
    placement = stage.metadata.state.placement(1)
    sent = stage.take(ApplyMutation)
    token = decode_mutation(sent[0][1].mutation).token
    asked = {peer for peer, _ in sent} | {stage.inside.identity.peer}
    assert asked == {*placement.writers(token)} and NEW.peer in placement.writers(token)
