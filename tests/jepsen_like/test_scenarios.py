"""Interleavings that broke other stores, each as a story; the numbers are those of the counterexamples."""

from __future__ import annotations

from core.consistency import Level
from core.healing_messages import TreeAsk
from core.messages import ApplyMutation, Follow, Followed, MutationApplied, Ping
from core.requests import MetadataRequest, Unready
from jepsen_like.history import INFO, OK
from jepsen_like.scenarios import Scenario
from kv.buckets import BucketSpec, create_bucket
from ring.tokens import token_of

QUIET = {
    "follow_idle_us": 3_600_000_000,
    "follow_pause_us": 3_600_000_000,
    "anti_entropy_pause_us": 3_600_000_000,
}
"""Replicas are left alone: only the request's own path works."""


def test_01_a_row_that_arrives_after_its_partition_was_deleted_leaves_nothing_behind() -> None:
    s = Scenario(settings={"hints": False})
    s.start()
    s.bucket("b", ordered=True)
    s.lose(lambda source, target, message: target == 2 and isinstance(message, ApplyMutation))
    assert s.put("b", "k", b"old").status == OK
    s.heal()
    s.lose(lambda source, target, message: target == 1 and isinstance(message, ApplyMutation))
    assert s.delete_partition("b").status == OK
    s.heal()
    assert s.equal_within(60)
    for peer in range(3):
        keys = list(s.stored(peer, "b"))
        assert len(keys) == 1, "the header alone"
        assert s.get("b", "k", at=peer).result is None


def test_02_a_write_after_one_through_a_clock_ahead_is_what_is_read() -> None:
    s = Scenario()
    s.start()
    s.bucket("b")
    s.set_clock(0, 0.5)
    assert s.put("b", "k", b"v1", at=0).status == OK
    assert s.put("b", "k", b"v2", at=1).status == OK
    assert [s.get("b", "k", at=peer).result.value for peer in range(3)] == [b"v2"] * 3


def test_02_the_replica_that_answers_first_may_have_missed_the_last_write() -> None:
    s = Scenario(settings=QUIET | {"hints": False})
    s.start()
    s.bucket("b")
    s.set_clock(0, 0.1)
    s.lose(lambda source, target, message: isinstance(message, ApplyMutation) and target == 1)
    s.set_clock(2, 20)
    assert s.put("b", "k", b"last", at=2).status == OK  # 0 and 2 have it, 1 has not
    s.lose(lambda source, target, message: isinstance(message, ApplyMutation) and target != 1)
    assert s.put("b", "k", b"unknown", at=0, level=Level.QUORUM).status in (OK, INFO)
    s.heal()
    assert s.put("b", "k", b"after", at=1).status == OK
    assert [s.get("b", "k", at=peer).result.value for peer in range(3)] == [b"after"] * 3


def test_04_a_slow_clock_does_not_keep_a_replica_from_converging() -> None:
    s = Scenario()
    s.start()
    s.bucket("b")
    s.set_clock(2, -70)
    s.kill(2)
    assert s.until(lambda: s.sees_dead(0, 2))
    for number in range(20):
        assert s.put("b", f"k{number}", b"v", at=number % 2).status == OK
    s.start(2)
    assert s.equal_within(60)
    assert len(s.stored(2, "b")) == 20


def test_05_a_clock_set_back_during_a_restart_repeats_neither_stamps_nor_ids() -> None:
    s = Scenario()
    s.start()
    s.bucket("b")
    before = [s.put("b", f"k{number}", b"v", at=0).result for number in range(5)]
    s.kill(0)
    s.set_clock(0, -100)
    s.start(0)
    after = [s.put("b", f"k{number}", b"w", at=0).result for number in range(5)]
    assert min(after) > max(before)
    assert len({*before, *after}) == 10
    assert all(s.get("b", f"k{number}", at=1).result.value == b"w" for number in range(5))


def test_10_nothing_that_a_power_cut_can_take_back_is_read() -> None:
    s = Scenario(settings=QUIET | {"hints": False, "read_timeout_us": 2_000_000})
    s.start()
    s.bucket("b")
    assert s.put("b", "k", b"old").status == OK
    s.run(1)
    s.hold_syncs(0)
    s.hold_syncs(1)
    s.lose(lambda source, target, message: target == 2 and isinstance(message, ApplyMutation))
    assert s.put("b", "k", b"new").status == INFO  # written at 0 and 1, durable nowhere
    read = s.get("b", "k", at=0)
    assert read.status != OK or read.result.value == b"old"
    s.power_cut(0)
    s.hold_syncs(0, 0)
    s.start(0, serving=False)
    s.heal()
    s.hold_syncs(1, 0)
    assert s.until(lambda: s.sees_all(2) and s.node(0).ready()[0])
    assert s.get("b", "k", at=2, level=Level.QUORUM).status == OK


def test_27_a_wiped_voter_is_refused_by_name_and_does_not_vote() -> None:
    s = Scenario()
    s.start()
    s.bucket("b")
    s.wipe(2)
    s.start(2, serving=False)
    s.run(10)
    ready, why = s.node(2).ready()
    assert not ready
    assert "n3" in why or "n3" in str([r.reason for _, r in s.cluster.machines[2].process.refusals])  # type: ignore[union-attr]
    assert s.state(2).epoch == 0
    assert s.put("b", "k", b"v", at=0).status == OK


def test_27_two_halves_started_apart_make_no_cluster() -> None:
    s = Scenario(peers=4, voters=3)
    s.cut([0, 1], [2, 3])
    s.start(serving=False)
    s.run(60)
    assert [s.node(peer).ready()[0] for peer in range(4)] == [False] * 4
    s.heal()
    assert s.until(lambda: all(s.node(peer).ready()[0] for peer in range(4)))
    assert len({(s.state(peer).epoch, s.state(peer).cluster) for peer in range(4)}) == 1


def test_32_creating_tables_does_not_disturb_writes_to_others() -> None:
    s = Scenario()
    s.start()
    s.bucket("b")
    for number in range(20):
        s.bucket(f"other{number}", at=number % 3)
        assert s.put("b", f"k{number}", b"v", at=(number + 1) % 3).status == OK
    assert s.equal_within(60)


def test_34_a_write_that_reached_one_replica_alone_reaches_all_without_a_reader() -> None:
    s = Scenario(settings={"hints": False, "write_timeout_us": 500_000})
    s.start()
    s.bucket("b")
    s.lose(lambda source, target, message: isinstance(message, (ApplyMutation, MutationApplied)))
    assert s.put("b", "k", b"v", at=0).status == INFO
    s.heal()
    assert s.equal_within(60)
    assert [len(s.stored(peer, "b")) for peer in range(3)] == [1, 1, 1]


def test_45_a_failed_sync_ends_the_process_and_its_write_is_unknown_not_failed() -> None:
    s = Scenario()
    s.start()
    s.bucket("b", factor=1)
    owner = next(p for p in range(3) if _is_only_replica(s, p, "b", "k"))
    assert s.put("b", "before", b"v", at=owner, level=Level.ANY).status == OK
    s.run(0.2)
    s.cluster.machines[owner].engine.sync_fails = True
    end = s.put("b", "k", b"v", at=owner, level=Level.ONE)
    assert end.status == INFO
    assert owner not in s.cluster.running()
    s.start(owner)
    assert s.get("b", "k", at=owner, level=Level.ONE).result.value == b"v"


def _is_only_replica(s: Scenario, peer: int, bucket: str, key: str) -> bool:
    placement = s.state(peer).placement(s.buckets[bucket].table)
    assert placement is not None
    return placement.replicas(token_of(key.encode())) == (s.cluster.machines[peer].peer,)


def test_a_minority_alone_serves_no_quorum_and_a_majority_goes_on() -> None:
    s = Scenario()
    s.start()
    s.bucket("b")
    s.cut([0], [1, 2])
    assert s.until(lambda: s.sees_dead(1, 0) and s.sees_dead(0, 1, 2))
    assert s.put("b", "k", b"v", at=1).status == OK
    assert s.put("b", "k", b"w", at=0).status != OK
    s.heal()
    assert s.until(lambda: s.sees_all(0))
    assert s.get("b", "k", at=0).result.value == b"v"
    assert s.equal_within(60)


def test_the_language_itself_loses_and_counts_what_it_is_told() -> None:
    s = Scenario()
    s.start()
    lost = []

    def which(source: int, target: int, message: object) -> bool:
        if isinstance(message, Ping):
            lost.append((source, target))
        return isinstance(message, (Ping, Follow, Followed, TreeAsk))

    s.lose(which)
    s.run(3)
    assert lost
    s.heal()
    assert s.until(lambda: all(s.sees_all(peer) for peer in range(3)))


def test_10_a_restored_old_disk_is_refused() -> None:
    s = Scenario()
    s.start()
    s.bucket("b")
    machine = s.cluster.machines[2]
    s.run(1)
    backup = machine.backup()
    s.kill(2)
    s.start(2)
    assert s.put("b", "k", b"v", at=2).status == OK
    s.kill(2)
    machine.restore(backup)
    machine.start -= 1  # the file with the start counter is as old as the rest
    s.cluster.start(2)
    s.run(10)
    ready, why = s.node(2).ready()
    assert not ready, "an old backup must not serve"
    assert why
    assert s.put("b", "k", b"w", at=0).status == OK


def test_44_a_damaged_record_is_never_served_nor_read_as_absent() -> None:
    s = Scenario()
    s.start()
    s.bucket("b")
    for number in range(10):
        assert s.put("b", f"k{number}", b"v").status == OK
    s.run(3)
    engine = s.cluster.machines[1].engine
    key = min(s.stored(1, "b"))
    engine.damage(key)
    for number in range(10):
        for peer in range(3):
            found = s.get("b", f"k{number}", at=peer)
            assert found.status == OK and found.result.value == b"v"
    alone = [s.get("b", f"k{number}", at=1, level=Level.ONE) for number in range(10)]
    assert all(end.status != OK or end.result.value == b"v" for end in alone)


def test_with_the_voters_majority_away_data_is_served_and_only_the_schema_waits() -> None:
    s = Scenario(peers=5, voters=3)
    s.start()
    s.bucket("b", factor=5)
    s.run(1)
    s.kill(0, 1)
    s.kill(4)
    s.start(4, serving=False)
    assert s.until(lambda: s.node(4).ready()[0]), "restarts go on"
    assert s.until(lambda: all(s.sees_dead(peer, 0, 1) and s.sees_all(peer) for peer in (2, 3, 4)))
    for peer in (2, 3, 4):
        assert s.put("b", "k", b"%d" % peer, at=peer).status == OK
        assert s.get("b", "k", at=peer).result.value == b"%d" % peer
    request = create_bucket(BucketSpec("new"), s.state(2).members)
    assert isinstance(request, MetadataRequest)
    answer = s.ask(request, at=2, timeout_s=20).answer
    assert isinstance(answer, Unready)
    s.start(0, 1)
    assert s.bucket("newer").name == "newer"
    assert s.equal_within(60)
