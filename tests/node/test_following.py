"""Following: what one replica holds all come to hold, as mutations, with nobody reading and no coordinator
alive.
"""

from __future__ import annotations

import pytest

from core.messages import Follow, Followed, Message
from core.metadata import Changes, CreateTable, DropTable, Epoch, Proposal
from core.ports import PeerId
from core.schema import PARTITION, REGULAR, Column, TableOptions
from core.settings import Settings
from core.trimming import LogTrim
from node.following import PREFIX, Position
from node.log_serving import log_name
from tests.node.replica_world import FLAT, MS, SECOND, A, B, C, ReplicaWorld


def world_following(seed: int = 0, settings: Settings | None = None) -> ReplicaWorld:
    """All three follow each other; no hash trees."""
    world = ReplicaWorld(seed, settings)
    for peer in world.peers.values():
        peer.run_background(trees=False)
    return world


def test_a_write_that_only_one_replica_got_reaches_all() -> None:
    """Counterexample 34: only A got it; the coordinator died before any hint; nobody reads."""
    world = world_following()
    world[A].apply(world.mutation("k", "v"))
    world.until(lambda: len(world[B].ids()) == 1 == len(world[C].ids()), 20 * SECOND)
    assert world.equal() and world[C].rows()


def test_superseded_mutations_and_every_update_of_a_key_are_followed() -> None:
    """Counterexamples 19, 20: a straggler that changed nothing, 100 updates of one key: all in all logs."""
    world = ReplicaWorld()
    newer = world.mutation("k", "new", timestamp_us=20)
    straggler = world.mutation("k", "old", timestamp_us=15)
    updates = [world.mutation("hot", f"v{i}") for i in range(100)]
    world[A].apply(newer, straggler, *updates)
    for peer in world.peers.values():
        peer.run_background(trees=False)
    world.until(lambda: len(world[B].ids()) == 102 == len(world[C].ids()), 20 * SECOND)
    assert world.equal()
    assert world[B].ids() == world[A].ids()


def test_pages_follow_each_other_until_the_end_of_a_long_log() -> None:
    world = ReplicaWorld()
    world[A].apply(*(world.mutation(f"k{i}", "v") for i in range(5_000)))
    world[B].run_background(trees=False)
    took_us = world.until(lambda: len(world[B].ids()) == 5_000, 60 * SECOND)
    assert took_us < 10 * SECOND
    world.run(SECOND)
    assert world[B].following.lag(A) == 0
    assert world[B].following.position(A) == Position(log_name(A), 5_000)


def test_who_is_pages_behind_does_not_rest_between_them() -> None:
    world = ReplicaWorld(settings=Settings(follow_idle_us=SECOND // 10))
    mutations = [world.mutation(f"k{i}", "v") for i in range(5_000)]
    world[A].apply(*mutations)
    world[B].apply(*mutations)
    world[B].run_background(trees=False)
    took_us = world.until(lambda: world[B].following.position(A).after == 5_000, 60 * SECOND)
    assert took_us < 0.4 * SECOND, "10 pages"


def test_an_idle_peer_asks_one_sibling_per_tick_whatever_their_number() -> None:
    settings = Settings(follow_idle_us=2 * SECOND)
    world = world_following(settings=settings)
    world.run(100 * SECOND)
    assert 3 * 49 <= world.sent["Follow"] <= 3 * 51
    assert world.sent["Followed"] == world.sent["Follow"] and not world.sent["Fetch"]
    assert sum(peer.counts["SystemWrite"] for peer in world.peers.values()) <= 6


def test_what_all_have_is_not_fetched() -> None:
    world = world_following()
    for i in range(50):
        mutation = world.mutation(f"k{i}", "v")
        for peer in world.peers.values():
            peer.apply(mutation)
        world.run(SECOND // 5)
    world.run(5 * SECOND)
    assert not world.sent["Fetch"]
    assert world[A].following.position(B).after == 50


def test_what_is_on_its_way_is_given_time_to_arrive() -> None:
    world = ReplicaWorld()
    mutation = world.mutation("k", "v")
    world[A].apply(mutation)

    def late(sender: PeerId, peer: PeerId, message: Message) -> None:
        if isinstance(message, Followed) and message.entries:
            world.at(20 * MS, lambda: world[B].apply(mutation))

    world.watch = late
    world[B].run_background(trees=False)
    world.run(10 * SECOND)
    assert world.sent["Followed"] and world[B].ids() and not world.sent["Fetch"]


def test_only_live_siblings_are_asked_and_one_that_comes_back_soon() -> None:
    world = world_following(settings=Settings(follow_idle_us=60 * SECOND))
    world.run(130 * SECOND)
    world.down(A)
    before = world.sent["Follow"]
    asked: list[PeerId] = []
    world.watch = lambda _, peer, message: asked.append(peer) if isinstance(message, Follow) else None
    world.run(200 * SECOND)
    assert world.sent["Follow"] > before and A not in asked
    world.restart(A)
    world.until(lambda: asked.count(A) == 2, SECOND)


# --- positions


def test_positions_survive_and_following_goes_on_from_them() -> None:
    world = world_following()
    world[A].apply(*(world.mutation(f"k{i}", "v") for i in range(300)))
    world.until(lambda: world[B].following.position(A).after == 300, 20 * SECOND)
    world.run(10 * SECOND)
    world.down(B)
    world[A].apply(world.mutation("one more", "v"))
    world.restart(B)
    assert world[B].following.position(A) == Position(log_name(A), 300)
    asked: list[int] = []
    world.watch = lambda _, peer, m: asked.append(m.after) if isinstance(m, Follow) and peer == A else None
    world[B].run_background(trees=False)
    world.until(lambda: len(world[B].ids()) == 301, 20 * SECOND)
    assert min(asked) == 300


@pytest.mark.parametrize("seed", range(12))
def test_a_position_never_runs_ahead_of_what_is_durable(seed: int) -> None:
    """Power cuts of the follower at any moment: what it had not got durably it asks for again."""
    world = ReplicaWorld(seed, Settings(follow_pause_us=20 * MS, follow_idle_us=20 * MS))
    world[A].apply(*(world.mutation(f"k{i}", "v" * 50) for i in range(200)))
    for _ in range(6):
        world[B].run_background(trees=False)
        world[A].apply(world.mutation(f"more{world.now_us}", "v"))
        world.run(world.random.randrange(12 * SECOND if world.random.random() < 0.3 else 60 * MS))
        world.down(B)
        world.restart(B)
    world[B].run_background(trees=False)
    world.until(lambda: world[B].ids() == world[A].ids(), 30 * SECOND)
    assert world[B].rows() == world[A].rows()


def test_another_log_is_followed_from_its_beginning() -> None:
    """The position speaks of a log by name; what is remembered of another name says nothing."""
    world = ReplicaWorld()
    world[A].apply(*(world.mutation(f"k{i}", "v") for i in range(10)))
    record = b"\x93" + b"\x07" + b"\x08" + b"\xc2"  # log 7, after 8, no gap
    world[B].engine.write([(b"S" + PREFIX + A, record)])
    world[B].crash()
    world[B].engine.write([(b"S" + PREFIX + A, record)])
    world[B].start()
    assert world[B].following.position(A) == Position(7, 8)
    world[B].run_background(trees=False)
    world.until(lambda: len(world[B].ids()) == 10, 20 * SECOND)
    assert world[B].following.position(A).log == log_name(A)


# --- on demand


def test_on_demand_to_the_end_as_of_the_call() -> None:
    world = ReplicaWorld()
    world[A].apply(*(world.mutation(f"k{i}", "v") for i in range(4_500)))
    reached: list[tuple[frozenset[PeerId], int]] = []
    following = world[B].following
    following.follow_now((A, C), lambda peers: reached.append((peers, len(world[B].ids()))), SECOND * 5)
    world.until(lambda: bool(reached), 5 * SECOND)
    assert reached == [(frozenset((A, C)), 4_500)]
    following.follow_now((), lambda peers: reached.append((peers, 0)), 0)
    assert reached[1] == (frozenset(), 0)
    following.follow_now((B,), lambda peers: reached.append((peers, 0)), 0)
    assert reached[2] == (frozenset((B,)), 0)


def test_a_round_begun_before_the_call_does_not_count() -> None:
    world = ReplicaWorld()
    done: list[str] = []

    def on_follow(sender: PeerId, peer: PeerId, message: Message) -> None:
        if isinstance(message, Followed) and not done:
            done.append("answered")  # the answer that is under way says: nothing there
            world[A].apply(world.mutation("k", "v"))
            world[B].following.follow_now((A,), seen, world.now_us + SECOND)

    def seen(peers: frozenset[PeerId]) -> None:
        assert peers == frozenset((A,))
        done.append(f"{len(world[B].ids())} here")

    world.watch = on_follow
    world[B].following.follow_now((A,), lambda _: None, SECOND)
    world.until(lambda: len(done) == 2, SECOND)
    assert done == ["answered", "1 here"]


def test_those_who_wait_share_a_round() -> None:
    world = ReplicaWorld()
    world[A].apply(*(world.mutation(f"k{i}", "v") for i in range(100)))
    done: list[frozenset[PeerId]] = []
    for _ in range(50):
        world[B].following.follow_now((A,), done.append, SECOND)
    world.until(lambda: len(done) == 50, SECOND)
    assert world.sent["Follow"] == 2  # the first caller's, and one for all who came after it was sent


def test_at_the_deadline_those_reached_are_told_and_only_once() -> None:
    world = ReplicaWorld()
    world[C].crash()
    done: list[tuple[frozenset[PeerId], int]] = []
    world[B].following.follow_now((A, C), lambda peers: done.append((peers, world.now_us)), 300 * MS)
    world.run(20 * SECOND)
    assert done == [(frozenset((A,)), 300 * MS)]
    world.cut.append(C)
    world[B].following.follow_now((C,), lambda peers: done.append((peers, 0)), world.now_us + SECOND)
    assert done[1] == (frozenset(), 0), "not reachable: known at once"


def test_a_lost_answer_is_asked_for_again_if_somebody_waits() -> None:
    world = ReplicaWorld()
    world[A].apply(world.mutation("k", "v"))
    done: list[frozenset[PeerId]] = []
    world.loss = 1.0
    world[B].following.follow_now((A,), done.append, 3 * SECOND)
    world.run(SECOND // 2)
    world.loss = 0.0
    world.until(lambda: bool(done), 2 * SECOND)
    assert done == [frozenset((A,))] and world[B].ids()


# --- gaps


def test_a_gap_is_not_reached_before_trees_have_mended_it() -> None:
    world = ReplicaWorld()
    world[A].apply(*(world.mutation(f"k{i}", "v") for i in range(50)))
    world[A].store.execute(LogTrim(2**62, 2**40))
    assert world[A].store.log.first == 51
    world[A].apply(world.mutation("after", "v"))
    done: list[frozenset[PeerId]] = []
    world[B].following.follow_now((A,), done.append, SECOND)
    world.until(lambda: bool(done), SECOND)
    assert done == [frozenset()]
    assert world[B].following.position(A) == Position(log_name(A), 51, True)
    assert len(world[B].ids()) == 1

    world[B].run_background()
    world.until(lambda: not world[B].following.position(A).gap, 20 * SECOND)
    assert world[B].rows() == world[A].rows() and len(world[B].rows()) == 51
    world[B].following.follow_now((A,), done.append, world.now_us + SECOND)
    world.until(lambda: len(done) == 2, SECOND)
    assert done[1] == frozenset((A,))


def test_a_gap_is_mended_after_a_restart_too() -> None:
    world = ReplicaWorld()
    world[A].apply(*(world.mutation(f"k{i}", "v") for i in range(50)))
    world[A].store.execute(LogTrim(2**62, 2**40))
    world[B].following.start()
    world.until(lambda: world[B].following.position(A).gap, 20 * SECOND)
    world.run(10 * SECOND)
    world.down(B)
    world.restart(B)
    assert world[B].following.position(A).gap
    world[B].run_background()
    world.until(lambda: not world[B].following.position(A).gap, 20 * SECOND)
    assert world[B].rows() == world[A].rows()


# --- epochs


def test_a_follower_behind_learns_the_epochs_that_the_log_speaks_of() -> None:
    world = ReplicaWorld()
    columns = (Column(0, "key", "text", PARTITION), Column(0, "value", "blob", REGULAR))
    create = CreateTable("kv", "third", columns, TableOptions())
    world.epochs.append(Epoch(3, Changes((Proposal((1, 9), create),))))
    world[A].metadata.adopt(world.epochs)
    world[A].apply(world.mutation("k", "v", table=3), world.mutation("k", "v", table=FLAT))
    for peer in world.peers.values():
        peer.run_background(trees=False)
    world.until(lambda: len(world[B].ids()) == 2 == len(world[C].ids()), 20 * SECOND)
    assert world[B].metadata.state.epoch == 3 and world.equal()


def test_mutations_of_a_table_dropped_meanwhile_hold_nothing_up() -> None:
    world = ReplicaWorld()
    world.epochs.append(Epoch(3, Changes((Proposal((1, 9), DropTable("kv", "flat")),))))
    world[A].apply(world.mutation("k", "v"), world.mutation("k", "v", table=2))

    def drop(sender: PeerId, peer: PeerId, message: Message) -> None:
        if isinstance(message, Followed) and peer == B:
            world[B].metadata.adopt(world.epochs)

    world.watch = drop
    world[B].run_background(trees=False)
    world.until(lambda: world[B].following.position(A).after == 2, 20 * SECOND)
    assert len(world[B].ids()) == 1


def test_nothing_is_asked_where_nothing_is_shared() -> None:
    world = ReplicaWorld()
    drops = tuple(Proposal((1, 9 + i), DropTable("kv", name)) for i, name in enumerate(("flat", "wide")))
    for peer in world.peers.values():
        peer.metadata.adopt([Epoch(3, Changes(drops))])
        peer.run_background()
    world.run(60 * SECOND)
    assert not world.sent


def test_nothing_is_asked_before_birth() -> None:
    world = ReplicaWorld()
    for peer in world.peers.values():
        peer.metadata.unready = "there is no cluster yet"
        peer.run_background()
    world.run(60 * SECOND)
    assert not world.sent


# --- faults


def test_a_damaged_log_is_said_once_and_tried_again() -> None:
    world = ReplicaWorld()
    world[A].apply(*(world.mutation(f"k{i}", "v") for i in range(3)))
    entry = world[A].engine.keys(b"L", b"M")[1]
    world[A].engine.damage(entry)
    world[B].run_background(trees=False)
    world.run(60 * SECOND)
    assert len([line for line in world[B].lines if "following_failed" in line]) == 1
    assert not world[B].ids()
    world[A].engine.write([(entry, world[A].engine._data[entry])])
    world.until(lambda: len(world[B].ids()) == 3, 20 * SECOND)


def test_a_full_disk_of_the_follower_moves_no_position() -> None:
    world = ReplicaWorld()
    world[A].apply(world.mutation("k", "v"))
    world[B].engine.disk_full = True
    world[B].run_background(trees=False)
    world.run(30 * SECOND)
    assert world[B].following.position(A).after == 0
    assert len([line for line in world[B].lines if "following_failed" in line]) == 1
    world[B].engine.disk_full = False
    world.until(lambda: world[B].following.position(A).after == 1, 20 * SECOND)
    assert world[B].rows() == world[A].rows()


def test_a_damaged_row_here_does_not_hold_up_the_rest_of_a_log() -> None:
    world = ReplicaWorld()
    world[B].apply(world.mutation("damaged", "old"))
    key = next(iter(world[B].rows()))
    world[B].engine.damage(key)
    world[A].apply(world.mutation("damaged", "new"), *(world.mutation(f"k{i}", "v") for i in range(20)))
    world[B].run_background()
    world.until(lambda: world[B].following.position(A).after == 21, 20 * SECOND)
    assert world[B].following.position(A) == Position(log_name(A), 21, True)
    assert len(world[B].ids()) == 21
    done: list[frozenset[PeerId]] = []
    world[B].following.follow_now((A,), done.append, world.now_us + SECOND)
    world.until(lambda: bool(done), SECOND)
    assert done == [frozenset()], "we do not hold all that A holds"
    world.run(60 * SECOND)
    assert len([line for line in world[B].lines if "following_failed" in line]) == 1

    world[B].engine.delete_range(key, key + b"\0")  # what was damaged is thrown away
    world.until(lambda: not world[B].following.position(A).gap, 60 * SECOND)
    assert world[B].rows() == world[A].rows()


@pytest.mark.parametrize("seed", range(20))
def test_replicas_become_equal_through_loss_duplication_reordering_and_power_cuts(seed: int) -> None:
    settings = Settings(follow_pause_us=50 * MS, follow_idle_us=200 * MS)
    world = ReplicaWorld(seed, settings)
    world.loss, world.duplication, world.latency_us = 0.1, 0.1, (100, 400 * MS)
    for peer in world.peers.values():
        peer.run_background(trees=False)
    random = world.random
    applied = 0
    for _ in range(60):
        targets = random.sample((A, B, C), random.choice((1, 1, 2, 3)))
        for _ in range(random.choice((1, 1, 5))):
            mutation = world.mutation(
                f"k{random.randrange(10)}", f"v{random.random()}", table=random.choice((1, 2))
            )
            applied += 1
            for target in targets:
                world[target].apply(mutation)
        world.run(random.randrange(300 * MS))
        if random.random() < 0.1:
            victim = random.choice((A, B, C))
            world.down(victim)
            world.run(random.randrange(2 * SECOND))
            world.restart(victim)
            world[victim].run_background(trees=False)
    world.until(lambda: all(len(peer.ids()) == applied for peer in world.peers.values()), 120 * SECOND)
    assert world.equal()
