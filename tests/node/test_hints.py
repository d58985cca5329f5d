"""Hints: kept durably, bounded, delivered once when the peer is back, planned anew, expired."""

from __future__ import annotations

import pytest

from core.commands import Records
from core.messages import ApplyMutation, Message
from core.metadata import Changes, DropTable, Epoch, Proposal
from core.mutation import decode_mutation
from core.ports import PeerId
from core.settings import Settings
from lsm.keys import system_key
from node.hints import PREFIX
from tests.node.replica_world import FLAT, SECOND, WALL_US, A, B, C, ReplicaWorld


def kept(world: ReplicaWorld, peer: PeerId) -> list[bytes]:
    """Keys of the hints in a peer's store."""
    return sorted(world[peer].store.boot(PREFIX))


def add(world: ReplicaWorld, count: int) -> list[bytes]:
    """Mutations that A owes C."""
    mutations = [world.mutation(f"k{i}", f"v{i}") for i in range(count)]
    for mutation in mutations:
        world[A].hints.add(C, FLAT, mutation)
    world.run(SECOND // 10)
    return mutations


def test_delivered_when_the_peer_is_back_and_then_deleted() -> None:
    world = ReplicaWorld()
    world[A].swim.set(C, alive=False)
    mutations = add(world, 200)
    world.run(30 * SECOND)
    assert len(kept(world, A)) == 200 == world[A].hints.pending(C) and not world[C].rows()

    world[A].swim.set(C, alive=True)
    world.until(lambda: not kept(world, A), 10 * SECOND)
    assert len(world[C].rows()) == 200
    assert len(world[C].ids()) == len(mutations)
    assert world[A].counts["hints_delivered"] == 200
    world.run(SECOND)
    assert world[A].hints.pending(C) == 0 == world[A].hints.size
    assert world.sent["ApplyMutation"] == 200


def test_those_that_could_not_be_counted_are_delivered_all_the_same() -> None:
    world = ReplicaWorld()
    peer = world[A]
    for other in (B, C):
        peer.swim.set(other, alive=False)
    peer.hints.add(B, FLAT, world.mutation("k", "v"))
    add(world, 300)
    (unreadable,) = (key for key in kept(world, A) if key.startswith(PREFIX + B))
    peer.crash()
    world.run(SECOND)
    peer.start()
    peer.swim.set(B, alive=False)
    peer.engine.damage(system_key(unreadable))  # the scan that counts comes no further
    peer.hints.add(C, FLAT, world.mutation("new", "v"))
    world.until(lambda: len(world[C].rows()) == 301, 30 * SECOND)
    world.run(SECOND)
    assert peer.hints.pending(C) == 0 == peer.hints.size


def test_what_is_deleted_before_it_is_counted_is_not_taken_for_another() -> None:
    """While a hint of an earlier start is left, a client may rely on it alone."""
    world = ReplicaWorld()
    peer = world[A]
    for other in (B, C):
        peer.swim.set(other, alive=False)
        peer.hints.add(other, FLAT, world.mutation("k", "v"))
    world.run(SECOND)
    records = peer.store.boot(PREFIX)
    of_b, of_c = sorted(records)
    peer.crash()
    peer.start()
    peer.hints._on_counted(Records(((of_b, records[of_b]),), True), b"")
    peer.hints.forget(C, [(of_c, 1)])
    peer.hints._on_counted(Records((), False), of_b)
    assert peer.hints.pending(B) == 1 and peer.hints.oldest_relied_on_us() is not None
    peer.hints.forget(B, [(of_b, peer.hints.size)])
    assert peer.hints.oldest_relied_on_us() is None


def test_survive_a_power_cut_and_a_restart_and_are_counted_once() -> None:
    """Also those that come while what is there is still being counted, page by page."""
    world = ReplicaWorld()
    world[A].swim.set(C, alive=False)
    add(world, 450)
    size = world[A].hints.size
    world[A].crash()
    world.run(SECOND)
    world[A].start()
    world[A].swim.set(C, alive=False)
    for i in range(30):
        world[A].hints.add(C, FLAT, world.mutation(f"new{i}", "new"))
    world.run(SECOND)
    assert world[A].hints.pending(C) == 480 == len(kept(world, A))
    assert world[A].hints.size > size > 0
    world[A].swim.set(C, alive=True)
    world.until(lambda: not kept(world, A), 10 * SECOND, SECOND // 10)
    assert len(world[C].rows()) == 480
    world.until(lambda: world[A].hints.size == 0, SECOND)


def test_told_only_when_durable() -> None:
    world = ReplicaWorld()
    told: list[bool] = []
    world[A].swim.set(C, alive=False)
    world[A].hints.add(C, FLAT, world.mutation("k", "v"), told.append)
    assert not told
    world.until(lambda: bool(told), SECOND)
    assert told == [True]
    world[A].crash()
    assert len([key for key, _ in world[A].engine.scan(b"S" + PREFIX, b"S" + PREFIX + b"\xff" * 30)]) == 1


def test_bounded_in_bytes() -> None:
    world = ReplicaWorld(settings=Settings(hint_bytes_max=20_000))
    world[A].swim.set(C, alive=False)
    told: list[bool] = []
    for i in range(100):
        world[A].hints.add(C, FLAT, world.mutation(f"k{i}", "x" * 1_000), told.append)
    world.run(SECOND)
    assert 10 < told.count(True) < 20 and told.count(False) == 100 - told.count(True)
    assert world[A].counts["hints_dropped"] == told.count(False)
    assert sum(len(value) for value in world[A].store.boot(PREFIX).values()) <= 20_000
    world[A].swim.set(C, alive=True)
    world.until(lambda: world[A].hints.size == 0, 10 * SECOND)
    world[A].hints.add(C, FLAT, world.mutation("again", "v"), told.append)
    world.run(SECOND)
    assert told[-1]


def test_a_full_disk_keeps_no_hint() -> None:
    world = ReplicaWorld()
    told: list[bool] = []
    world[A].engine.disk_full = True
    world[A].hints.add(C, FLAT, world.mutation("k", "v"), told.append)
    world.until(lambda: bool(told), SECOND)
    assert told == [False] and world[A].hints.size == 0


def test_expired_ones_are_deleted_though_the_peer_stays_away() -> None:
    world = ReplicaWorld(settings=Settings(hint_window_us=300 * SECOND))
    world[A].swim.set(C, alive=False)
    add(world, 100)
    world.run(200 * SECOND)
    add(world, 5)
    assert len(kept(world, A)) == 105
    world.until(lambda: len(kept(world, A)) == 5, 200 * SECOND)
    assert world[A].counts["hints_expired"] == 100
    world[A].swim.set(C, alive=True)
    world.until(lambda: not kept(world, A), 10 * SECOND)
    assert len(world[C].rows()) == 5


def test_old_when_added_is_not_kept() -> None:
    world = ReplicaWorld(settings=Settings(hint_window_us=10 * SECOND))
    old = world.mutation("k", "v")
    assert decode_mutation(old).admitted_us == WALL_US
    world.run(11 * SECOND)
    told: list[bool] = []
    world[A].hints.add(C, FLAT, old, told.append)
    assert told == [False]


def test_a_dropped_table_is_owed_nothing() -> None:
    world = ReplicaWorld()
    world[A].swim.set(C, alive=False)
    add(world, 10)
    drop = Epoch(3, Changes((Proposal((1, 3), DropTable("kv", "flat")),)))
    world[A].metadata.adopt([drop])
    world[A].swim.set(C, alive=True)
    world.until(lambda: not kept(world, A), SECOND)
    assert not world.sent["ApplyMutation"]


def test_a_replay_is_paced_one_batch_at_a_time() -> None:
    world = ReplicaWorld(settings=Settings(hint_replay_pause_us=SECOND))
    world[A].swim.set(C, alive=False)
    add(world, 200)
    world[A].swim.set(C, alive=True)
    world.run(SECOND // 2)
    seen = []
    for _ in range(4):
        world.run(SECOND)
        seen.append(world.sent["ApplyMutation"])
    assert seen == [64, 128, 192, 200]


def test_a_peer_that_does_not_answer_is_left_alone_for_a_while() -> None:
    world = ReplicaWorld()
    world[A].swim.set(C, alive=False)
    add(world, 200)
    world[C].crash()
    world[A].swim.set(C, alive=True)
    world.run(2 * SECOND)
    assert world.sent["ApplyMutation"] == 64
    world.run(5 * SECOND)
    assert world.sent["ApplyMutation"] == 3 * 64
    assert len(kept(world, A)) == 200
    world[C].start()
    world.until(lambda: not kept(world, A), 30 * SECOND)
    assert len(world[C].rows()) == 200


def test_whoever_replicates_now_gets_what_was_owed_to_a_peer_that_is_gone() -> None:
    world = ReplicaWorld()
    gone = b"g" * 16
    world[A].swim.set(gone, alive=False)
    world[A].hints.add(gone, FLAT, world.mutation("k", "v"))
    world.until(lambda: world[A].hints.pending(gone) == 1, SECOND)
    world.until(lambda: world[A].hints.pending(gone) == 0, 100 * SECOND)
    assert [len(world[peer].rows()) for peer in (A, B, C)] == [1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_every_hint_arrives_through_loss_duplication_and_crashes(seed: int) -> None:
    world = ReplicaWorld(seed)
    world.loss, world.duplication, world.latency_us = 0.1, 0.1, (100, 300_000)
    again: list[int] = []

    def watch(sender: PeerId, peer: PeerId, message: Message) -> None:
        if isinstance(message, ApplyMutation):
            again.append(message.op)

    world.watch = watch
    world[A].swim.set(C, alive=False)
    add(world, 150)
    world[A].swim.set(C, alive=True)
    world.run(world.random.randrange(SECOND))
    world[C].crash()
    world.run(2 * SECOND)
    world[C].start()
    world[A].crash()
    world[A].start()
    world.until(lambda: not kept(world, A), 120 * SECOND)
    assert len(world[C].rows()) == 150
    assert len(again) > 150, "something was lost, so something was sent again"


def test_a_single_lost_message_does_not_end_a_replay() -> None:
    world = ReplicaWorld()
    world[A].swim.set(C, alive=False)
    add(world, 100)
    lost: list[int] = []

    def watch(sender: PeerId, peer: PeerId, message: Message) -> None:
        world.loss = 0.0
        if isinstance(message, ApplyMutation) and len(lost) < 3:
            lost.append(message.op)
            world.loss = 1.0

    world.watch = watch
    world[A].swim.set(C, alive=True)
    took_us = world.until(lambda: not kept(world, A), 10 * SECOND)
    assert len(world[C].rows()) == 100 and world.sent["ApplyMutation"] == 103
    assert took_us < SECOND
