"""The change log is trimmed by age and by size, piece by piece, and ids outlive what is trimmed."""

from __future__ import annotations

from core.metadata import AlterTable, Changes, Epoch, Proposal
from core.schema import TableOptions
from core.settings import Settings
from lsm.trimming import TRIM_MAX
from node.metadata_state import apply
from tests.node.replica_world import FLAT, SECOND, A, ReplicaWorld

KEEP_LITTLE = AlterTable("kv", "flat", TableOptions(changes_kept_bytes=10_000), ("changes_kept_bytes",))


def test_entries_are_forgotten_by_age_and_their_ids_stay() -> None:
    world = ReplicaWorld(settings=Settings(log_retention_us=600 * SECOND))
    world[A].retention.start()
    old = [world.mutation(f"k{i}", "v") for i in range(10)]
    world[A].apply(*old)
    world.run(400 * SECOND)
    world[A].apply(world.mutation("young", "v"))
    world.run(180 * SECOND)
    assert world[A].store.log.first == 1
    world.run(90 * SECOND)
    assert world[A].store.log.first == 11 == world[A].store.log.end
    world[A].apply(*old)
    assert world[A].store.log.end == 11 and len(world[A].ids()) == 11, "known by their ids, not logged again"


def test_a_log_over_its_size_is_trimmed_piece_by_piece_as_fast_as_it_grows() -> None:
    world = ReplicaWorld(settings=Settings(log_bytes_max=100_000))
    world[A].apply(*(world.mutation(f"k{i}", "v" * 200) for i in range(5_000)))
    world[A].retention.start()
    firsts: list[int] = []
    for _ in range(8):
        world.run(60 * SECOND if not firsts else SECOND // 20)
        firsts.append(world[A].store.log.first)
    assert firsts == sorted(firsts) and len(dict.fromkeys(firsts)) >= 3, "not all in one step"
    assert 1 <= firsts[0] <= TRIM_MAX + 1
    assert world[A].store.log.size_bytes <= 100_000 < 2 * world[A].store.log.size_bytes


def test_a_table_has_a_share_of_its_own() -> None:
    world = ReplicaWorld()
    world[A].metadata.state = apply(world.state, Epoch(3, Changes((Proposal((1, 3), KEEP_LITTLE),))))
    world[A].apply(*(world.mutation(f"k{i}", "v" * 200) for i in range(200)))
    world[A].retention.start()
    world.run(61 * SECOND)
    assert 100 < world[A].store.log.forgotten[FLAT] < 190
    assert world[A].store.log.first == 1


def test_a_full_disk_is_said_once_and_tried_again() -> None:
    world = ReplicaWorld(settings=Settings(log_retention_us=1))
    world[A].apply(world.mutation("k", "v"))
    world[A].engine.disk_full = True
    world[A].retention.start()
    world.run(300 * SECOND)
    assert [line for line in world[A].lines if "log_not_trimmed" in line] == world[A].lines
    assert len(world[A].lines) == 1
    world[A].engine.disk_full = False
    world.run(61 * SECOND)
    assert world[A].store.log.first == 2
