"""Hash trees: siblings are made equal whatever differs, for little more than what differs, and quietly when
nothing does.
"""

from __future__ import annotations

from collections import Counter

import pytest

from core.cell import Cell
from core.commands import MergeRows
from core.healing import FloorStep, RaiseFloor
from core.healing_messages import Repair, RowsAsk, RowsTold, TreeAsk
from core.messages import Message, encode_message
from core.metadata import Changes, DropTable, Epoch, Proposal
from core.ports import PeerId
from core.row import Header, RangeTombstone, Row, Tombstone, encode_row
from core.settings import Settings
from core.trimming import LogTrim
from lsm import keys
from node import comparing, tree_run
from node.comparing import differences
from ring.tokens import token_of
from tests.node.replica_world import FLAT, MS, SECOND, WALL_US, WIDE, A, B, C, ReplicaWorld

FAST = Settings(anti_entropy_pause_us=SECOND)


def row(key: str, value: str, timestamp_us: int = WALL_US, table: int = FLAT) -> tuple[bytes, bytes]:
    """A record without a mutation."""
    partition = key.encode()
    cell = Cell(1, (), 0, timestamp_us, 7, 0, value.encode())
    return keys.row_key(table, token_of(partition), partition), encode_row(Row(None, (cell,)))


def run_trees(world: ReplicaWorld) -> None:
    for peer in world.peers.values():
        peer.run_background(following=False)


def converge(world: ReplicaWorld, limit_us: int = 300 * SECOND) -> int:
    took_us = world.until(
        lambda: world.equal() and world[A].root(FLAT) == world[B].root(FLAT), limit_us, SECOND
    )
    assert world[A].root(WIDE) == world[B].root(WIDE) == world[C].root(WIDE)
    return took_us


@pytest.mark.parametrize("seed", range(6))
def test_stores_with_random_differences_become_equal_by_trees_alone(seed: int) -> None:
    """No logs to follow: the differences are cells without mutations."""
    world = ReplicaWorld(seed, FAST)
    world.loss, world.duplication = 0.05, 0.05
    random = world.random
    for i in range(400):
        for peer in world.peers.values():
            if random.random() < 0.9:
                version = WALL_US + random.choice((0, 0, 0, 1, 2))
                peer.merge(FLAT, [row(f"k{i}", f"v{random.choice((1, 1, 2))}", version)])
    assert not world.equal()
    run_trees(world)
    converge(world)
    assert not world.sent["Fetch"]


def test_little_more_is_read_and_sent_than_what_differs() -> None:
    world = ReplicaWorld(settings=FAST, peers=(A, B))
    rows = [row(f"k{i}", "x" * 100) for i in range(5_000)]
    world[A].merge(FLAT, rows)
    world[B].merge(FLAT, [r for i, r in enumerate(rows) if i % 100])
    sent: list[int] = []
    read: list[int] = []

    def watch(sender: PeerId, peer: PeerId, message: Message) -> None:
        if isinstance(message, Repair):
            sent.append(len(message.rows))
        elif isinstance(message, RowsAsk):
            read.append(1)

    world.watch = watch
    world[A].swim.set(C, alive=False)
    world[A].run_background(following=False)
    world.until(world.equal, 60 * SECOND, SECOND // 10)
    assert sum(sent) == 50
    assert world[A].counts["tree_rows_compared"] < 3 * 50
    assert len(read) <= 4
    # 50 rows of about 150 bytes, and what it takes to find 50 leaves of 262,144
    assert world.bytes_sent < 15_000


def test_equal_replicas_exchange_one_question_per_turn() -> None:
    world = ReplicaWorld(settings=FAST)
    for peer in world.peers.values():
        peer.merge(FLAT, [row(f"k{i}", "v") for i in range(100)])
    run_trees(world)
    world.run(101 * SECOND)
    assert 3 * 99 <= world.sent["TreeAsk"] <= 3 * 102
    assert world.sent["TreeAnswer"] == world.sent["TreeAsk"]
    assert not world.sent["ReadSlice"] and not world.sent["Repair"] and not world.sent["Follow"]
    for key, at_us in world[A].trees.status().items():
        assert key[0] in (B, C) and at_us is not None and world.now_us - at_us < 6 * SECOND


def test_an_empty_sibling_is_filled_without_descending_to_each_leaf() -> None:
    world = ReplicaWorld(settings=FAST, peers=(A, B))
    world[A].merge(FLAT, [row(f"k{i}", "v" * 20) for i in range(3_000)])
    world[A].swim.set(C, alive=False)
    world[A].run_background(following=False)
    took_us = world.until(world.equal, 60 * SECOND, SECOND // 10)
    assert world.sent["TreeAsk"] < 10
    assert took_us > 3_000 * SECOND // 4_000  # paced
    world.until(lambda: world[A].trees.status()[B, FLAT] is not None, 5 * SECOND)


def test_what_the_log_still_has_comes_as_mutations() -> None:
    world = ReplicaWorld(settings=FAST)
    world[B].apply(*(world.mutation(f"k{i}", "v") for i in range(30)))
    world[A].run_background(following=False)
    world.until(lambda: len(world[A].ids()) == 30, 20 * SECOND)
    assert not world.sent["Repair"] and not world[A].counts["tree_rows_merged"]


def test_tombstones_of_partitions_and_ranges_travel_and_cover() -> None:
    """One replica missed a partition's deletion and a range's, the other rows under them."""
    world = ReplicaWorld(settings=FAST, peers=(A, B))
    suffixes = [keys.ROW_SUFFIX + keys.clustering_text(f"{i:04}") for i in range(600)]
    old = tuple((suffix, "old") for suffix in suffixes)
    kept = world.partition_mutation("p", old[:5])
    world[A].apply(kept)
    world[B].apply(kept, world.partition_mutation("p", old), world.partition_mutation("q", old))
    deletion = Header(Tombstone(WALL_US + 10**6, 9, WALL_US))
    in_range = RangeTombstone(suffixes[100], suffixes[500], WALL_US + 10**6, 9, WALL_US)
    world[A].apply(world.partition_mutation("p", (), header=deletion))
    world[A].apply(world.partition_mutation("q", (), header=Header(None, (in_range,))))
    for peer in world.peers.values():
        peer.store.execute(LogTrim(2**62, 0))
    run_trees(world)
    converge_two(world)
    left = [key for key in world[B].rows() if key[keys.prefix_end(key) :] != keys.HEADER_SUFFIX]
    assert len(left) == 200  # of q, those outside the range


def converge_two(world: ReplicaWorld) -> None:
    """Rows equal, and trees too once the store has swept what is covered."""
    world.until(lambda: world.equal() and world[A].root(WIDE) == world[B].root(WIDE), 60 * SECOND)
    world.run(10 * SECOND)
    assert world.equal() and world[A].trees.status()[B, WIDE] is not None


def test_damaged_rows_are_compared_with_all_siblings_at_once() -> None:
    world = ReplicaWorld(settings=Settings(anti_entropy_pause_us=1_000 * SECOND))
    for peer in (B, C):
        world[peer].merge(FLAT, [row("k", "v"), row("other", "v")])
    world[A].merge(FLAT, [row("other", "v")])
    world[A].trees.start()
    token = token_of(b"k")
    world[A].trees.request(FLAT, token, token)
    took_us = world.until(world.equal, 20 * SECOND)
    assert took_us < 5 * SECOND
    world.run(SECOND)
    asked: list[PeerId] = []
    world.watch = lambda _, peer, m: asked.append(peer) if isinstance(m, TreeAsk) else None
    world[A].swim.set(C, alive=False)
    world[A].trees.request(FLAT, token, token)
    world.run(2_500 * SECOND)
    assert asked[0] == B and C not in asked
    world[A].swim.set(C, alive=True)
    world.until(lambda: C in asked, 1_100 * SECOND)


def test_a_dropped_table_is_not_compared_and_holds_no_gap_open() -> None:
    world = ReplicaWorld(settings=FAST)
    done: list[bool] = []
    world[A].swim.set(B, alive=False)
    world[A].trees.start()
    world[A].trees.mend_gap(B, lambda: done.append(True))
    world.run(3 * SECOND)
    assert not done
    world.epochs.append(Epoch(3, Changes((Proposal((1, 3), DropTable("kv", "flat")),))))
    world[A].metadata.adopt(world.epochs)
    world[A].swim.set(B, alive=True)
    world[B].crash()
    world.run(20 * SECOND)
    assert not done
    world[B].state = world[A].metadata.state
    world[B].start()
    world.until(lambda: bool(done), 60 * SECOND)
    assert done == [True]
    assert [key[1] for key in world[A].trees.status()] == [WIDE, WIDE]


@pytest.mark.parametrize("lacking", [A, B])
def test_leaves_with_floors_of_their_own_are_made_equal_apart(lacking: PeerId) -> None:
    """Rows that are read together are as old as the oldest of their leaves, and too old for the newest."""
    world = ReplicaWorld(settings=FAST, peers=(A, B))
    halves = ((keys.TOKEN_MIN, -1), (0, keys.TOKEN_MAX))
    for peer in (A, B):
        for step in FloorStep:
            for age_s, half in zip((2, 1), halves, strict=True):
                raised = RaiseFloor(step, WALL_US - age_s * SECOND, ((FLAT, (half,)),))
                world[peer].store.execute(raised)
    full = B if lacking == A else A
    rows = tuple(row(f"k{i}", "v") for i in range(40))
    world[full].store.execute(MergeRows(FLAT, rows, WALL_US))
    world[full].engine.sync()
    world[A].swim.set(C, alive=False)
    world[A].run_background(following=False)
    world.until(world.equal, 30 * SECOND)
    assert len(world[lacking].rows()) == len(rows)
    assert not [line for line in world[A].lines if "anti_entropy_failed" in line]
    assert world.sent["RowsAsk"] <= 4, "each half once"


@pytest.mark.parametrize("lacking", [A, B])
def test_rows_that_a_floor_overtook_are_read_once_more(lacking: PeerId) -> None:
    """A floor is raised after rows were read, before they are merged."""
    world = ReplicaWorld(settings=FAST, peers=(A, B))
    full = B if lacking == A else A
    world[full].merge(FLAT, [row(f"k{i}", "v") for i in range(40)])

    raised: list[bool] = []

    def raise_floors(sender: PeerId, peer: PeerId, message: Message) -> None:
        if isinstance(message, RowsTold) and not raised:
            raised.append(True)
            everything = ((FLAT, ((keys.TOKEN_MIN, keys.TOKEN_MAX),)),)
            for step in FloorStep:
                for one in (A, B):
                    world[one].store.execute(RaiseFloor(step, WALL_US, everything))

    world.watch = raise_floors
    world[A].swim.set(C, alive=False)
    world[A].run_background(following=False)
    world.until(world.equal, 30 * SECOND)
    assert raised and world[A].counts["tree_runs"] == 1
    assert not [line for line in world[A].lines if "anti_entropy_failed" in line]


def test_a_row_that_cannot_be_read_is_said_once() -> None:
    world = ReplicaWorld(settings=FAST, peers=(A, B))
    world[A].merge(FLAT, [row("k", "v")])
    world[A].engine.damage(row("k", "v")[0])
    world[A].run_background(following=False)
    world.run(60 * SECOND)
    failures = [line for line in world[A].lines if "anti_entropy_failed" in line]
    assert len(failures) == 1 and "corrupt" in failures[0]


def test_gaps_that_keep_coming_do_not_pile_up() -> None:
    """Every write to a row that is damaged here is another gap."""
    world = ReplicaWorld(settings=Settings(follow_idle_us=500 * MS, follow_pause_us=100 * MS))
    for peer in (A, B, C):
        world[peer].run_background()
        world[peer].apply(world.mutation("k", "v"))
    (row,) = world[A].rows()
    world[A].engine.damage(row)
    most = 0
    for n in range(60):
        world[B].apply(world.mutation("k", f"v{n}"))
        world.run(SECOND)
        most = max(most, len(world[A].trees._urgent))
    assert world[A].counts["following_gaps"] > 30
    assert most < 10


def test_hot_writes_during_a_comparison_do_no_harm() -> None:
    world = ReplicaWorld(3, Settings(anti_entropy_pause_us=100 * MS))
    run_trees(world)
    for i in range(300):
        mutation = world.mutation(f"k{i % 7}", f"v{i}")
        for peer in world.peers.values():
            world.at(world.random.randrange(5 * MS), lambda peer=peer, m=mutation: peer.apply(m))  # type: ignore[misc]
        world.run(20 * MS)
    world.run(SECOND)
    assert world.equal()
    assert world[A].counts["tree_rows_sent"] + world[A].counts["tree_rows_merged"] < 30


def test_differences_say_what_each_side_lacks() -> None:
    (ka, a1), (_, a2), (kb, b), (kc, c) = (
        row("a", "1"),
        row("a", "2", WALL_US + 1),
        row("b", "1"),
        row("c", "1"),
    )
    to_me, to_them = differences({ka: a1, kb: b}, {ka: a2, kc: c})
    assert sorted(to_me) == sorted([(ka, a2), (kc, c)])
    assert to_them == ((kb, b),)
    assert differences({ka: a1}, {ka: a1}) == ((), ())
    both = encode_row(Row(None, (Cell(1, (), 0, 5, 7, 0, b"x"), Cell(2, (), 0, 6, 7, 0, b"y"))))
    one = encode_row(Row(None, (Cell(1, (), 0, 5, 7, 0, b"x"),)))
    two = encode_row(Row(None, (Cell(2, (), 0, 6, 7, 0, b"y"),)))
    assert differences({ka: one}, {ka: two}) == (((ka, both),), ((ka, both),))


def test_who_missed_one_row_in_a_hundred_gets_those_and_little_else() -> None:
    world = ReplicaWorld(1, FAST)
    rows = [row(f"k{i}", f"v{i}") for i in range(2_000)]
    for peer in world.peers.values():
        held = [one for i, one in enumerate(rows) if peer is not world[C] or i % 100]
        for at in range(0, len(held), 200):
            peer.merge(FLAT, held[at : at + 200])
    world.sent.clear()
    run_trees(world)
    took_us = world.until(lambda: len(world[C].rows()) == len(rows), 60 * SECOND, SECOND // 2)
    assert took_us < 10 * SECOND
    merged = sum(peer.counts["tree_rows_merged"] for peer in world.peers.values())
    sent = sum(peer.counts["tree_rows_sent"] for peer in world.peers.values())
    compared = sum(peer.counts["tree_rows_compared"] for peer in world.peers.values())
    assert merged + sent == 20, "each missing row once"
    assert compared <= 40, "rows that are equal are hardly looked at"
    assert world.sent["TreeAsk"] < 60


def time_to_mend(at_once: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How long one takes that missed 200 of 3,000 rows, each in a leaf of its own, with messages of 20 ms."""
    monkeypatch.setattr(tree_run, "ROW_SPANS_AT_ONCE", at_once)
    world = ReplicaWorld(1, FAST)
    world.latency_us = (19 * MS, 21 * MS)
    rows = [row(f"k{i}", f"v{i}") for i in range(3_000)]
    for peer in world.peers.values():
        held = [one for i, one in enumerate(rows) if peer is not world[C] or i % 15]
        for at in range(0, len(held), 200):
            peer.merge(FLAT, held[at : at + 200])
    world[C].run_background(following=False)
    took_us = world.until(lambda: len(world[C].rows()) == len(rows), 120 * SECOND, SECOND // 10)
    converge(world)
    return took_us


def test_leaves_that_differ_are_compared_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 3 * time_to_mend(tree_run.ROW_SPANS_AT_ONCE, monkeypatch) < 2 * time_to_mend(1, monkeypatch)


HEALING = ("TreeAsk", "TreeAnswer", "RowsAsk", "RowsTold", "Repair", "MutationApplied")


def healing_bytes(world: ReplicaWorld) -> Counter[str]:
    """What messages of hash trees and repairs take from now on, by kind."""
    sizes: Counter[str] = Counter()

    def watch(sender: PeerId, peer: PeerId, message: Message) -> None:
        if type(message).__name__ in HEALING:
            sizes[type(message).__name__] += len(encode_message(message))

    world.watch = watch
    return sizes


def test_one_row_in_a_hundred_of_200_000_costs_little_more_than_those_rows() -> None:
    """Of 200,000 rows those of a sixteenth of the ring: they lie as densely, and as many differ."""
    world = ReplicaWorld(1, FAST)
    rows = [
        row(f"k-{i:07}", "x" * 190) for i in range(200_000) if (token_of(b"k-%07d" % i) + 2**63) >> 60 == 5
    ]
    missing, common = rows[::100], [one for i, one in enumerate(rows) if i % 100]
    for at in range(0, len(common), 500):
        world[A].merge(FLAT, common[at : at + 500])
    for peer in (B, C):
        world[peer].take_store_of(world[A])
    for peer in (A, B):
        world[peer].merge(FLAT, missing)
    sizes = healing_bytes(world)
    world[C].run_background(following=False)
    took_us = world.until(world.equal, 60 * SECOND, SECOND // 10)
    assert took_us < 10 * SECOND
    differing = sum(len(key) + len(data) for key, data in missing)
    assert len(missing) > 110 and sum(sizes.values()) < 1.3 * differing, sizes


def test_of_a_large_partition_that_differs_in_one_row_that_row_is_sent() -> None:
    world = ReplicaWorld(1, FAST, peers=(A, B))
    suffixes = [keys.ROW_SUFFIX + keys.clustering_text(f"{i:05}") for i in range(3_000)]
    whole = world.partition_mutation("p", tuple((suffix, "x" * 100) for suffix in suffixes))
    for peer in (A, B):
        world[peer].apply(whole)
    world[B].apply(world.partition_mutation("p", ((suffixes[1_234], "new"),)))
    world[B].store.execute(LogTrim(2**62, 0))
    sizes = healing_bytes(world)
    world[A].swim.set(C, alive=False)
    world[A].run_background(following=False)
    world.until(world.equal, 60 * SECOND, SECOND // 10)
    assert sizes["RowsTold"] < 2_000
    assert sum(sizes.values()) < 20_000, "3,000 rows of 130 bytes, known by hashes of four"


def test_pages_that_are_cut_on_both_sides_miss_nothing() -> None:
    """Two partitions of a thousand rows of which the siblings hold alternating hundreds, and other values."""
    world = ReplicaWorld(2, FAST, peers=(A, B))
    for number, partition in enumerate(("p", "q")):
        for i in range(1_000):
            table, value = WIDE, f"{(i // 100 + number) % 3}"
            one = world.partition_mutation(
                partition, ((keys.ROW_SUFFIX + keys.clustering_text(f"{i:05}"), value),), table=table
            )
            for peer, turn in ((A, 0), (B, 1)):
                if (i // 100) % 3 in (turn, 2):
                    world[peer].apply(one)
    for peer in (A, B):
        world[peer].store.execute(LogTrim(2**62, 0))
    world[A].swim.set(C, alive=False)
    world[A].run_background(following=False)
    world.until(world.equal, 60 * SECOND, SECOND // 10)
    assert len(world[A].rows()) == 2_000


def test_what_short_hashes_do_not_tell_apart_is_found_by_a_later_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hashes of one byte hide a good part of what differs, each time another one; nothing is called equal."""
    monkeypatch.setattr(comparing, "SHORT_BYTES", 1)
    monkeypatch.setattr(comparing, "ROW_BYTES", 1)
    world = ReplicaWorld(1, FAST, peers=(A, B))
    rows = [row(f"k{i}", f"v{i}") for i in range(2_000)]
    for peer in (A, B):
        held = [one for i, one in enumerate(rows) if peer == A or i % 4]
        for at in range(0, len(held), 200):
            world[peer].merge(FLAT, held[at : at + 200])
    world[A].swim.set(C, alive=False)
    world[A].run_background(following=False)
    world.until(lambda: world[A].counts["tree_runs"] >= 2, 60 * SECOND)
    assert not world.equal() and world[A].trees.status()[B, FLAT] is None
    world.until(world.equal, 300 * SECOND, SECOND)
    world.until(lambda: world[A].trees.status()[B, FLAT] is not None, 30 * SECOND)


def test_who_waits_to_be_made_equal_is_so_though_short_hashes_hide_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits counts this replica as one that has everything: a floor, a gap in a log, mended damage."""
    monkeypatch.setattr(comparing, "SHORT_BYTES", 1)
    monkeypatch.setattr(comparing, "ROW_BYTES", 1)
    world = ReplicaWorld(1, Settings(anti_entropy_pause_us=1_000 * SECOND), peers=(A, B))
    rows = [row(f"k{i}", f"v{i}") for i in range(2_000)]
    for peer in (A, B):
        held = [one for i, one in enumerate(rows) if peer == A or i % 4]
        for at in range(0, len(held), 200):
            world[peer].merge(FLAT, held[at : at + 200])
    equal: list[bool] = []
    world[A].trees.start()
    world[A].trees.mend_gap(B, lambda: equal.append(world.equal()))
    world.until(lambda: bool(equal), 60 * SECOND)
    assert equal == [True] and world.sent["Repair"] > 1
