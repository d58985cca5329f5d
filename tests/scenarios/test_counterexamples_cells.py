"""Counterexamples 1 to 9: rows, cells and clocks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import core.row
import lsm.passing
import lsm.writing
import node.node
import node.scans
import node.writes
from core.cell import NO_VERSION, Cell, rank
from core.commands import Apply, Failed, MergeRows, Why
from core.consistency import Level
from core.messages import ApplyMutation
from core.metadata import TruncateTable
from core.mutation import DELETE, decode_mutation
from core.requests import Changed, MetadataRequest, WriteRequest
from core.row import Row, decode_row
from jepsen_like.history import INFO, OK
from jepsen_like.scenarios import Scenario
from kv import operations
from kv.buckets import drop_bucket
from lsm import keys
from lsm.log import SUPERSEDED
from lsm.plain import PlainReads
from lsm.reading import read_slice
from node import metadata_apply, metadata_state
from node.writes import Writes
from sim.clock import EPOCH_US
from sim.world import SimWorld
from tests.scenarios.telling import (
    QUIET,
    WRITE_FAST,
    executor,
    held,
    log_kinds,
    row,
    scenarios_begun,
    table_of,
    update,
    values,
)

Patch = pytest.MonkeyPatch


# --- 1: normal form


def a_row_after_its_partition() -> tuple[bool, list[int]]:
    """Whether replicas become equal, and how many records each keeps beside the header."""
    pauses = {"follow_idle_us": 3_000_000, "follow_pause_us": 3_000_000, "purge_interval_us": 0}
    s = Scenario(settings={"hints": False, **pauses})
    s.start()
    bucket = s.bucket("b", ordered=True)
    s.lose(lambda source, target, message: target == 2 and isinstance(message, ApplyMutation))
    late = operations.put(bucket, "k", b"old", "text/plain", Level.QUORUM, timestamp_us=5)
    assert isinstance(late, WriteRequest)
    s.ask(late)
    s.heal()
    s.ask(
        WriteRequest(bucket.table, b"b", (), Level.ALL, DELETE, timestamp_us=10, partition_delete=True), at=1
    )
    equal = s.equal_within(40)
    assert s.get("b", "k", at=2, level=Level.ONE).result is None
    if equal:
        assert log_kinds(s, 2)[-1] == SUPERSEDED, "the late write is in the log, as one that changed nothing"
    return equal, [len(s.stored(peer, "b")) - 1 for peer in range(3)]


def test_counterexample_01_a_row_that_comes_after_its_partition_was_deleted_is_not_stored() -> None:
    assert a_row_after_its_partition() == (True, [0, 0, 0])


def test_counterexample_01_if_a_row_write_does_not_look_at_the_header_replicas_never_agree(
    monkeypatch: Patch,
) -> None:
    apply_rows = lsm.writing.Writer._apply_rows

    def without_header(self: Any, change: Any, prefix: bytes, _: Any, *rest: Any) -> Any:
        return apply_rows(self, change, prefix, None, *rest)

    monkeypatch.setattr(lsm.writing.Writer, "_apply_rows", without_header)
    assert a_row_after_its_partition() == (False, [0, 0, 1])


# --- 2: stamped again


def a_clock_half_a_second_ahead() -> list[bytes]:
    """What each peer reads at QUORUM after v2 was acknowledged, written after v1."""
    s = Scenario(settings=QUIET)
    s.start()
    s.bucket("b")
    s.set_clock(0, 0.5)
    assert s.put("b", "k", b"v1", at=0).status == OK
    assert s.put("b", "k", b"v2", at=1).status == OK
    return [s.get("b", "k", at=peer).result.value for peer in range(3)]


def test_counterexample_02_a_write_acknowledged_after_one_from_a_clock_ahead_is_what_is_read() -> None:
    assert a_clock_half_a_second_ahead() == [b"v2"] * 3


def test_counterexample_02_if_nothing_is_stamped_again_the_older_write_stays(monkeypatch: Patch) -> None:
    monkeypatch.setattr(lsm.writing, "newer_met", lambda *_: NO_VERSION)
    assert a_clock_half_a_second_ahead() == [b"v1"] * 3


# --- 3: the writer in the version


def two_coordinators_in_one_microsecond() -> list[bytes | None]:
    """The row after {x=1, y=2} and {x=2, y=1}."""
    s = Scenario(settings=QUIET)
    s.start()
    table = table_of(s, "t", ("x", "y"))
    for peer in range(2):  # both may stamp at once afterwards
        s.ask(update(table, {1: b"0", 2: b"0"}), at=peer)
    done: list[Any] = []
    s.cluster.request(0, update(table, {1: b"1", 2: b"2"}), 1_000_000, done.append)
    s.cluster.request(1, update(table, {1: b"2", 2: b"1"}), 1_000_000, done.append)
    assert s.until(lambda: len(done) == 2)
    s.run(1)
    rows = [row(s, table, at=peer, level=Level.ALL) for peer in range(3)]
    assert rows[0] is not None and rows[0] == rows[1] == rows[2]
    return values(rows[0])


def test_counterexample_03_a_tie_in_time_goes_to_one_writer_with_all_its_cells() -> None:
    assert two_coordinators_in_one_microsecond() in ([b"1", b"2"], [b"2", b"1"])


def test_counterexample_03_if_the_version_has_no_writer_the_row_is_one_that_nobody_wrote(
    monkeypatch: Patch,
) -> None:
    build = node.writes.build

    def nameless(request: Any, token: int, origin: Any, version: Any, admitted_us: int) -> Any:
        return build(request, token, origin, (version[0], 0), admitted_us)

    monkeypatch.setattr(node.writes, "build", nameless)
    assert two_coordinators_in_one_microsecond() == [b"2", b"2"]


# --- 4: clock bounds are checked once, at admission


def a_replica_far_behind_in_time() -> tuple[bool, int]:
    """Whether it becomes equal to the others, and how many of 20 rows it holds."""
    s = Scenario()
    s.start()
    s.bucket("b")
    s.set_clock(2, -200)
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    for number in range(20):
        assert s.put("b", f"k{number}", b"v", at=number % 2).status == OK
    s.start(2)
    return s.equal_within(40), len(held(s, 2, "b"))


def test_counterexample_04_a_clock_far_behind_does_not_keep_a_replica_from_converging() -> None:
    assert a_replica_far_behind_in_time() == (True, 20)


def test_counterexample_04_if_each_replica_judges_by_its_own_clock_it_never_converges(
    monkeypatch: Patch,
) -> None:
    minute_us = 60_000_000

    def ahead(command: Any, limit_us: int) -> bool:
        if isinstance(command, Apply):
            return decode_mutation(command.mutation).admitted_us > limit_us
        if isinstance(command, MergeRows):
            rows = [decode_row(data) for _, data in command.rows]
            return any(cell.timestamp_us > limit_us for found in rows for cell in found.cells)
        return False

    submit = SimWorld.submit

    def judging(self: SimWorld, ticket: Any, command: Any) -> None:
        if ahead(command, self.wall_us() + minute_us):
            refused = Failed(Why.MALFORMED, "a minute ahead")
            self._scheduler.after(0, self.on_stored, ticket, refused)
        else:
            submit(self, ticket, command)

    monkeypatch.setattr(SimWorld, "submit", judging)
    assert a_replica_far_behind_in_time() == (False, 0)


# --- 5: start counter and ceiling


def a_clock_set_back_during_a_restart() -> tuple[bool, set[bytes]]:
    """Whether stamps went on growing, and what is read of the keys written before and after."""
    s = Scenario()
    s.start()
    s.bucket("b")
    before = [s.put("b", f"k{number}", b"before", at=0).result for number in range(5)]
    s.kill(0)
    s.set_clock(0, -100)
    s.start(0)
    after = [s.put("b", f"new{number}", b"after", at=0) for number in range(5)]
    again = [s.put("b", f"k{number}", b"after", at=0) for number in range(5)]
    assert {end.status for end in after + again} == {OK}
    found = [s.get("b", f"{name}{number}", at=1).result for name in ("k", "new") for number in range(5)]
    return (
        min(end.result for end in after) > max(before),
        {b"nothing" if item is None else item.value for item in found},
    )


def test_counterexample_05_a_peer_that_starts_with_its_clock_set_back_stamps_above_all_before() -> None:
    assert a_clock_set_back_during_a_restart() == (True, {b"after"})


def test_counterexample_05_without_the_ceiling_it_stamps_older_than_it_did(monkeypatch: Patch) -> None:
    monkeypatch.setattr(node.node, "ceiling_of", lambda _: 0)
    grew, _ = a_clock_set_back_during_a_restart()
    assert not grew


def test_counterexample_05_without_the_start_counter_ids_repeat_and_writes_are_taken_for_old_ones(
    monkeypatch: Patch,
) -> None:
    def number_alone(self: Writes) -> int:
        number = self.metadata.state.number_of(self.me)
        assert number is not None
        return number << 32

    monkeypatch.setattr(Writes, "writer", property(number_alone))
    _, found = a_clock_set_back_during_a_restart()
    assert found != {b"after"}


# --- 6: a total order that asks no clock


def an_expiring_and_a_live_value_of_one_version() -> list[list[tuple[bytes | None, int]]]:
    """The cells that each replica keeps; the third got the expiring one after it had expired."""
    s = Scenario(settings=QUIET | WRITE_FAST)
    s.start()
    table = table_of(s, "t", ("x",))
    s.lose(lambda source, target, message: target == 2 and isinstance(message, ApplyMutation))
    s.ask(update(table, {1: b"a"}, timestamp_us=5, ttl_s=1))
    s.heal()
    s.ask(update(table, {1: b"b"}, timestamp_us=5, level=Level.ALL))
    assert s.until(lambda: len(log_kinds(s, 2)) == 2), "the hint brings it"
    assert s.cluster.now_us > decode_row(_only(s, 0, table.id)).cells[0].dead_from_us - EPOCH_US
    rows = [decode_row(_only(s, peer, table.id)) for peer in range(3)]
    return [[(cell.value, cell.dead_from_us and 1) for cell in found.cells] for found in rows]


def _only(s: Scenario, peer: int, table: int) -> bytes:
    prefix = keys.table_prefix(table)
    ((_, data),) = executor(s, peer).store.engine.scan(prefix, keys.successor(prefix))
    return data


def test_counterexample_06_expiring_wins_over_live_of_one_version_whenever_they_meet() -> None:
    assert an_expiring_and_a_live_value_of_one_version() == [[(b"a", 1)]] * 3


def test_counterexample_06_if_the_order_asks_a_clock_replicas_that_merged_at_other_times_differ(
    monkeypatch: Patch,
) -> None:
    begun = scenarios_begun(monkeypatch)

    def by_the_clock(cell: Cell) -> Any:
        now_us = begun[-1].cluster.now_us + EPOCH_US
        if cell.value is not None and not cell.is_dead(now_us):
            return rank(msgspec.structs.replace(cell, dead_from_us=0))
        return rank(msgspec.structs.replace(cell, value=None))

    monkeypatch.setattr(core.row, "rank", by_the_clock)
    assert an_expiring_and_a_live_value_of_one_version() == [[(b"b", 0)], [(b"b", 0)], [(b"a", 1)]]


# --- 7: now travels with the read


def reads_around_an_expiry() -> float:
    """How many of the reads found replicas that disagree, though all hold the same."""
    s = Scenario(settings=QUIET)
    s.start()
    bucket = s.bucket("b")
    for peer, ahead_s in enumerate((0.0, 0.8, -0.8)):
        s.set_clock(peer, ahead_s)
    request = operations.put(bucket, "k", b"v", "text/plain", Level.ALL, ttl_s=2)
    assert isinstance(request, WriteRequest)
    s.ask(request)
    seen = []
    for number in range(40):
        seen.append(s.get("b", "k", at=number % 3).result is not None)
        s.run(0.1)
    assert seen[0] and not seen[-1]
    return s.cluster.events.get("reads_mismatched", 0)


def test_counterexample_07_replicas_with_other_clocks_agree_around_an_expiry() -> None:
    assert reads_around_an_expiry() == 0


def test_counterexample_07_if_replicas_judge_by_their_own_clocks_digests_differ(monkeypatch: Patch) -> None:
    begun = scenarios_begun(monkeypatch)

    def judging(engine: Any, wanted: Any, has_clustering: bool, scan: Any) -> Any:
        found = read_slice(engine, wanted, has_clustering, scan)
        clock = next(m.clock for m in begun[-1].cluster.machines if m.engine is engine)
        alive = [
            (key, data)
            for key, data in found.rows
            if not all(cell.is_dead(clock.read_us()) for cell in decode_row(data).cells)
        ]
        return msgspec.structs.replace(found, rows=tuple(alive))

    monkeypatch.setattr(lsm.passing, "read_slice", judging)
    monkeypatch.setattr(PlainReads, "read", lambda *_: None)  # which does not ask it
    assert reads_around_an_expiry() > 5


# --- 8: the row marker


def rows_whose_columns_were_cleared() -> tuple[bool, bool]:
    """Whether an inserted and an updated row are still there."""
    s = Scenario(settings=QUIET)
    s.start()
    there = []
    for name, first in (("inserted", {0: b"", 1: b"v"}), ("updated", {1: b"v"})):
        table = table_of(s, name, ("x",))
        s.ask(update(table, dict(first)))
        assert b"v" in values(row(s, table))
        s.ask(update(table, {1: None}), at=1)
        there.append(row(s, table, at=2) is not None)
    return there[0], there[1]


def test_counterexample_08_an_inserted_row_outlives_its_columns_and_an_updated_one_does_not() -> None:
    assert rows_whose_columns_were_cleared() == (True, False)


def test_counterexample_08_without_row_markers_an_inserted_row_is_gone(monkeypatch: Patch) -> None:
    def without_markers(found: Row, now_us: int) -> bool:
        return any(not cell.is_dead(now_us) for cell in found.cells if cell.column)

    monkeypatch.setattr(node.scans, "exists", without_markers)
    assert rows_whose_columns_were_cleared() == (False, False)


# --- 9: ids are never reused


def a_bucket_dropped_and_made_again(seed: int) -> dict[str, list[str]]:
    """The keys that the new bucket, and another that was truncated, hold in the end."""
    s = Scenario(settings=WRITE_FAST, seed=seed)
    s.start()
    for name in ("dropped", "truncated"):
        s.bucket(name)
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    for name in ("dropped", "truncated"):
        assert s.put(name, "hinted", b"v").status == OK
    s.lose(lambda source, target, message: target == 1 and isinstance(message, ApplyMutation))
    assert s.put("truncated", "in flight", b"v").status == INFO
    s.heal()
    old = s.buckets["dropped"]
    assert isinstance(s.ask(drop_bucket(old)).answer, Changed)
    assert isinstance(s.ask(MetadataRequest(TruncateTable(old.keyspace, "truncated"))).answer, Changed)
    for name in ("dropped", "truncated"):
        s.bucket(name, at=1)
    s.start(2)
    s.run(20)
    return {
        name: sorted({key for peer in range(3) for key in held(s, peer, name)})
        for name in ("dropped", "truncated")
    }


def test_counterexample_09_nothing_of_a_dropped_or_truncated_table_comes_into_the_new_one() -> None:
    assert a_bucket_dropped_and_made_again(seed=1) == {"dropped": [], "truncated": []}


def test_counterexample_09_if_ids_are_reused_what_was_in_flight_comes_back(monkeypatch: Patch) -> None:
    def put(self: Any, table: Any) -> None:
        table = msgspec.structs.replace(table, id=len(table.name))  # the same for the same name
        self.tables[table.id] = table
        self.table_ids[table.keyspace, table.name] = table.id

    monkeypatch.setattr(metadata_apply.SchemaDraft, "_put", put)
    assert a_bucket_dropped_and_made_again(seed=2) == {
        "dropped": ["hinted"],
        "truncated": ["hinted", "in flight"],
    }
    metadata_state._apply_changes.cache_clear()
