"""Coordinating reads: digests, blocking repair, slow and failing replicas, frontiers."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st

from core.cell import VALUE, Cell
from core.commands import Digest, Failed, Merged, MergeRows, Read, Rows, Slice, Why
from core.consistency import Level, Need
from core.healing_messages import Repair
from core.messages import DigestRead, MutationApplied, OperationFailed, ReadSlice, SliceRead, Stale
from core.requests import Broken, Invalid, ReadRequest, RowsRead, Timeout, Unavailable
from core.row import EMPTY_ROW, Header, Row, Tombstone, encode_header, encode_row, merge_rows
from lsm.keys import HEADER_SUFFIX, ROW_SUFFIX, clustering_text, partition_prefix, token_range_bounds
from lsm.reading import digest_of
from node.inside import tokens_of
from node.reads import ReadOperation
from node.slices import merge_slices
from ring.tokens import MAX_TOKEN, token_of
from tests.node.stage import ME, B, C, Stage, cluster_state

PREFIX = partition_prefix(1, token_of(b"key"), b"key")
KEY = PREFIX + ROW_SUFFIX


def row(*cells: tuple[int, int, bytes]) -> Row:
    return Row(None, tuple(Cell(column, (), VALUE, at, 1, 0, value) for column, at, value in cells))


OLD, NEW = row((0, 5, b""), (1, 5, b"old")), row((0, 9, b""), (1, 9, b"new"))


def rows(*items: Row, more: bool = False) -> Rows:
    return Rows(tuple((KEY, encode_row(item)) for item in items), None, more)


def begin(stage: Stage, level: Level = Level.QUORUM) -> int:
    """Begin a point read; returns its operation number."""
    request = ReadRequest(1, b"key", ROW_SUFFIX, b"", True, level)
    stage.scans.read(request, stage.deadline_us, stage.answer)
    return next(iter(stage.inside.operations), 0)


def read_from(op: int, found: Rows) -> SliceRead:
    return SliceRead(op, found.rows, found.header, found.more)


def test_rows_from_one_and_a_digest_from_another() -> None:
    stage = Stage()
    op = begin(stage)
    ((_, local),) = stage.submitted
    assert isinstance(local, Read)
    assert not local.digest
    ((peer, remote),) = stage.take(ReadSlice)
    assert remote.digest
    stage.message(peer, DigestRead(op, digest_of(rows(NEW))))
    assert stage.answers == []
    stage.stored(rows(NEW), "read")
    (answer,) = stage.answers
    assert isinstance(answer, RowsRead)
    assert [found.row for found in answer.rows] == [NEW]
    assert stage.inside.operations == {}
    assert stage.timers == {}


def test_a_mismatch_is_repaired_before_it_is_answered() -> None:
    stage = Stage()
    op = begin(stage)
    stage.stored(rows(OLD), "read")
    ((peer, _),) = stage.take(ReadSlice)
    stage.message(peer, DigestRead(op, digest_of(rows(NEW))))
    ((again, message),) = stage.take(ReadSlice)
    assert again == peer
    assert not message.digest
    stage.message(peer, read_from(op, rows(NEW)))
    assert stage.answers == []
    ((_, repair),) = stage.submitted
    assert repair == MergeRows(1, ((KEY, encode_row(NEW)),))
    stage.stored(Merged(1), "read_repair")
    (answer,) = stage.answers
    assert [found.row for found in answer.rows] == [NEW]


def test_the_other_side_is_repaired_too() -> None:
    stage = Stage()
    op = begin(stage)
    stage.stored(rows(NEW), "read")
    ((peer, _),) = stage.take(ReadSlice)
    stage.message(peer, DigestRead(op, digest_of(rows())))
    stage.message(peer, read_from(op, rows()))
    ((to, repair),) = stage.take(Repair)
    assert to == peer
    assert repair.rows == ((KEY, encode_row(NEW)),)
    assert stage.answers == []
    stage.message(peer, MutationApplied(op, None))
    assert [found.row for found in stage.answers[0].rows] == [NEW]


def test_a_repair_planned_before_an_epoch_that_touched_its_table_is_sent_again() -> None:
    stage = Stage()
    op = begin(stage)
    stage.stored(rows(NEW), "read")
    stage.message(B, DigestRead(op, digest_of(rows())))
    stage.message(B, read_from(op, rows()))
    (first,) = stage.take(Repair)
    stage.message(B, Stale(op, ()))
    assert stage.take(Repair) == [first]
    assert stage.answers == []
    stage.message(B, MutationApplied(op, None))
    assert [found.row for found in stage.answers[0].rows] == [NEW]


def test_if_who_is_repaired_goes_away_another_is_repaired_in_its_place() -> None:
    for unreachable in (False, True):
        stage = Stage()
        op = begin(stage)
        stage.stored(rows(NEW), "read")
        stage.message(B, DigestRead(op, digest_of(rows(OLD))))
        if unreachable:
            stage.unreachable = [B]
        stage.message(B, read_from(op, rows(OLD)))
        if not unreachable:
            assert [peer for peer, _ in stage.take(Repair)] == [B]
            stage.pass_time(25_000)
        (to, repair) = stage.take(Repair)[-1]
        assert to == C
        assert repair.rows == ((KEY, encode_row(NEW)),)
        assert stage.answers == []
        stage.message(C, MutationApplied(op, None))
        assert [found.row for found in stage.answers[0].rows] == [NEW]
        assert stage.inside.operations == {}
        assert stage.timers == {}


def test_a_slow_replica_is_passed_by_and_asked_last_for_a_while() -> None:
    stage = Stage()
    op = begin(stage)
    stage.stored(rows(NEW), "read")
    assert [peer for peer, _ in stage.take(ReadSlice)] == [B]
    stage.pass_time(25_000)
    ((peer, message),) = stage.take(ReadSlice)
    assert peer == C
    assert not message.digest
    stage.message(C, read_from(op, rows(NEW)))
    assert isinstance(stage.answers[0], RowsRead)
    begin(stage)
    assert [peer for peer, _ in stage.take(ReadSlice)] == [C]


def test_if_only_digests_come_the_rows_are_asked_for() -> None:
    stage = Stage()
    stage.swim.dead = [C]
    op = begin(stage, Level.ONE)
    stage.message(ME, OperationFailed(op, "corrupt", "a bad block"))
    ((peer, message),) = stage.take(ReadSlice)
    assert peer == B
    assert not message.digest
    stage.message(B, read_from(op, rows(OLD)))
    assert [found.row for found in stage.answers[0].rows] == [OLD]


def test_damage_is_reported_with_its_tokens() -> None:
    stage = Stage()
    reported: list[tuple[int, int, int]] = []
    stage.inside.on_damage = lambda table, first, last: reported.append((table, first, last))
    begin(stage)
    stage.stored(Failed(Why.CORRUPT, "a bad block"), "read")
    token = token_of(b"key")
    assert reported == [(1, token, token)]
    assert [message.digest for _, message in stage.take(ReadSlice)] == [True, False]  # another one is asked


def test_the_tokens_of_a_slice() -> None:
    first, end = token_range_bounds(1, 5, 9)
    assert tokens_of(Slice(1, first, end, b"", False, 1, 1)) == (5, 10)
    first, end = token_range_bounds(1, 5, MAX_TOKEN)
    assert tokens_of(Slice(1, first, end, b"", False, 1, 1)) == (5, MAX_TOKEN)


def test_damage_is_never_not_found() -> None:
    stage = Stage()
    stage.swim.dead = [B, C]
    op = begin(stage, Level.ONE)
    stage.message(ME, OperationFailed(op, "corrupt", "a bad block"))
    (answer,) = stage.answers
    assert isinstance(answer, Broken)
    assert "a bad block" in answer.detail


def test_unavailable_timeout_and_bad_levels() -> None:
    stage = Stage()
    stage.swim.dead = [B, C]
    begin(stage)
    assert stage.answers == [Unavailable(2, 1, Level.QUORUM)]
    stage = Stage()
    begin(stage, Level.ALL)
    stage.pass_time(6_000_000)
    assert stage.answers == [Timeout(0, 3, Level.ALL, write=False)]
    stage = Stage()
    begin(stage, Level.ANY)
    assert isinstance(stage.answers[0], Invalid)


def test_local_quorum_asks_its_own_datacentre() -> None:
    stage = Stage(state=cluster_state(("dc1", "dc2", "dc2")), datacentre="dc1")
    begin(stage, Level.LOCAL_QUORUM)
    assert stage.take(ReadSlice) == []
    stage.stored(rows(NEW), "read")
    assert isinstance(stage.answers[0], RowsRead)
    begin(stage, Level.EACH_QUORUM)
    assert sorted(peer for peer, _ in stage.take(ReadSlice)) == [B, C]


def test_who_does_not_count_is_not_asked_in_place_of_who_does() -> None:
    stage = Stage(state=cluster_state(("dc1", "dc2", "dc2")), datacentre="dc1")
    begin(stage, Level.LOCAL_QUORUM)
    stage.stored(Failed(Why.CORRUPT, "a bad block"), "read")
    assert isinstance(stage.answers[0], Broken)  # at once: B and C could not help
    assert stage.take(ReadSlice) == []


def test_each_quorum_asks_again_where_answers_lack() -> None:
    """As if a quorum of dc2 were one: C stands in for B, but not for us, who are all of dc1."""
    for fails, asked in ((B, [C]), (ME, [])):
        stage = Stage(state=cluster_state(("dc1", "dc2", "dc2")), datacentre="dc1")
        placement = stage.metadata.state.placement(1)
        operation = ReadOperation(stage.reads, slice_of(False), placement, Level.EACH_QUORUM, stage.answer)
        operation.wanted = Need(2, each=(("dc1", 1), ("dc2", 1)))
        operation.send([ME, B, C], stage.deadline_us)
        ((_, message),) = stage.take(ReadSlice)
        stage.message(fails, OperationFailed(message.op, "corrupt", "a bad block"))
        assert [peer for peer, _ in stage.take(ReadSlice)] == asked
        assert len(stage.answers) == (0 if asked else 1)


def test_silence_is_passed_by_again_and_again() -> None:
    stage = Stage()
    begin(stage, Level.ONE)
    for expected in (B, C):
        stage.pass_time(25_000)
        assert [peer for peer, _ in stage.take(ReadSlice)] == [expected]


def test_a_local_digest_outcome_is_understood() -> None:
    stage = Stage()
    stage.reads.was_slow(ME)
    op = begin(stage)
    assert stage.submitted == []
    assert len(stage.take(ReadSlice)) == 2
    stage.message(B, read_from(op, rows(NEW)))
    stage.inside.stored(("read", op), Digest(b""))  # nobody asked the local store: it does not count
    assert stage.answers == []


# --- merging


def test_what_is_deleted_in_a_partition_is_so_for_a_slice_that_begins_inside_it() -> None:
    prefix = partition_prefix(2, token_of(b"p"), b"p")
    first, at = (prefix + ROW_SUFFIX + clustering_text(name) for name in ("a", "b"))
    header = encode_header(Header(Tombstone(7, 1, 7)))
    part = Slice(2, first + b"\x00", token_range_bounds(2, 0, MAX_TOKEN)[1], b"", False, 100, 1 << 20)
    answers = {
        B: SliceRead(1, ((at, encode_row(OLD)),), None, False),
        C: SliceRead(1, (), header, False),  # whose own header has masked the row
    }
    result, lacking = merge_slices(part, answers, True)
    assert result.rows == ()
    assert lacking == {B: ((prefix + HEADER_SUFFIX, header),)}


def slice_of(wide: bool, reverse: bool = False) -> Slice:
    return Slice(2 if wide else 1, b"", b"\xff", b"", False, 100, 1 << 20, reverse)


def test_a_header_of_one_masks_rows_of_another_and_both_learn() -> None:
    prefix = partition_prefix(2, token_of(b"p"), b"p")
    at = prefix + ROW_SUFFIX + clustering_text("a")
    header = encode_header(Header(Tombstone(7, 1, 7)))
    part = Slice(2, prefix, prefix + b"\xff", prefix, False, 100, 1 << 20)
    answers = {
        B: SliceRead(1, ((at, encode_row(OLD)),), None, False),
        C: SliceRead(1, ((at, encode_row(NEW)),), header, False),
    }
    result, lacking = merge_slices(part, answers, True)
    assert result.rows == ((at, NEW),)
    assert lacking == {B: ((prefix + HEADER_SUFFIX, header), (at, encode_row(NEW)))}


@given(st.data())
def test_merging_cut_slices_loses_nothing_and_invents_nothing(data: st.DataObject) -> None:
    """Page by page through cut answers of three replicas, either way: the merge of all they hold."""
    keys = [KEY + bytes([n]) for n in range(8)]
    cells = st.builds(lambda at, value: row((1, at, value)), st.integers(1, 4), st.sampled_from([b"a", b"b"]))
    stores: dict[bytes, dict[bytes, Row]] = {
        peer: data.draw(st.dictionaries(st.sampled_from(keys), cells)) for peer in (ME, B, C)
    }
    reverse = data.draw(st.booleans())
    wanted: dict[bytes, Row] = {}
    for store in stores.values():
        for key, item in store.items():
            wanted[key] = merge_rows(wanted.get(key, EMPTY_ROW), item)
    first, end = b"", b"\xff"
    found: list[tuple[bytes, Row]] = []
    for _ in range(20):
        answers: dict[bytes, SliceRead] = {}
        for peer, store in stores.items():
            held = sorted((k for k in store if first <= k < end), reverse=reverse)
            cut = held[: data.draw(st.integers(1, 3))]
            answers[peer] = SliceRead(
                1, tuple((k, encode_row(store[k])) for k in cut), None, len(cut) < len(held)
            )
        result, lacking = merge_slices(slice_of(False, reverse), answers, False)
        found += result.rows
        for key, item in result.rows:
            for peer, store in stores.items():
                missing = dict(lacking.get(peer, ())).get(key)
                assert (store.get(key) == item) == (missing is None)
        if not result.more:
            break
        if reverse:
            end = result.end
        else:
            first = result.end + b"\x00"
    assert found == sorted(wanted.items(), reverse=reverse)


def test_the_stage_answers_are_typed() -> None:
    stage: Any = Stage()
    assert stage.reads.preferred([C, ME, B], stage.metadata.state.placement(1)) == [ME, C, B]
