"""The metadata log among a few nodes: births, changes, voters that fall, messages that are lost."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from core.limits import SECOND_US
from core.messages import Accept, Decided, Prepare, Promise, decode_message, encode_message
from core.metadata import Change, Changes, CreateTable, Epoch, Proposal
from core.ports import BULK, URGENT
from core.requests import Changed, Unready
from core.schema import PARTITION, Column, TableOptions
from node.metadata_acceptor import Vote, vote_key
from node.metadata_log import EPOCH_PREFIX, PARKED_US, lane_of
from tests.node.tiny_world import MS, Faults, TinyCluster, configuration

ROUGH = Faults(loss=0.1, doubled=0.1, delay_us=(1 * MS, 60 * MS), sync_us=(1 * MS, 40 * MS))
"""Messages are lost, doubled, and overtake each other; syncs take long."""


def create(name: str, comment: str = "", if_not_exists: bool = False) -> Change:
    options = TableOptions(comment=comment)
    return CreateTable("kv", name, (Column(0, "key", "text", PARTITION),), options, if_not_exists)


def a_cluster(seed: int = 1, peers: int = 3, voters: int = 3, faults: Faults | None = None) -> TinyCluster:
    cluster = TinyCluster(seed, peers, voters, faults)
    cluster.start()
    assert cluster.run_until(cluster.born, 120)
    return cluster


def answer(cluster: TinyCluster, index: int, change: Change, seconds: float = 10) -> Changed | Unready:
    answers = cluster.change(index, change, seconds)
    assert cluster.run_until(lambda: bool(answers), seconds + 1)
    return answers[0]


# --- birth


@pytest.mark.parametrize("peers, voters", [(1, 1), (3, 1), (3, 3), (7, 5)])
def test_a_cluster_is_born_when_all_are_there(peers: int, voters: int) -> None:
    cluster = a_cluster(peers=peers, voters=voters)
    state = cluster.node(0).metadata.state
    assert [m.name for m in state.members] == [f"n{i}" for i in range(1, peers + 1)]
    assert state.voters == tuple(m.peer for m in state.members[:voters])
    assert len({process.metadata.state.digest for process in cluster.running}) == 1
    assert {process.metadata.unready for process in cluster.running} == {""}
    assert isinstance(answer(cluster, peers - 1, create("t")), Changed)


@pytest.mark.parametrize("halves", [((0, 1), (2, 3, 4)), ((0,), (1, 2, 3, 4)), ((0, 1, 2), (3, 4))])
def test_two_halves_started_apart_make_no_cluster(halves: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    cluster = TinyCluster(3, peers=5, voters=5)
    cluster.cut(*halves)
    cluster.start()
    cluster.run(60)
    assert not cluster.decided
    unready = answer(cluster, 0, create("t"))
    assert isinstance(unready, Unready)
    assert "no cluster yet" in unready.detail
    cluster.heal()
    assert cluster.run_until(cluster.born)
    assert len(cluster.decided) == 1


def test_halves_cut_at_any_moment_of_the_birth_make_at_most_one_cluster() -> None:
    for seed in range(60):
        cluster = TinyCluster(seed, peers=4, voters=3, faults=ROUGH)
        cluster.start()
        cluster.run(cluster.random.random() * 2)
        left = cluster.random.sample(range(4), 2)
        cluster.cut(left, [i for i in range(4) if i not in left], one_way=seed % 3 == 0)
        cluster.run(5)
        for index in range(4):
            if cluster.random.random() < 0.5:
                cluster.crash(index)
                cluster.start(index)
        cluster.run(5)
        cluster.heal()
        assert cluster.run_until(cluster.born, 120), seed
        assert len(cluster.decided) == 1


def test_peers_with_different_configurations_make_no_cluster_and_say_why() -> None:
    cluster = TinyCluster(4)
    odd = list(configuration(3, 3))
    odd[1] = msgspec.structs.replace(odd[1], rack="elsewhere")
    cluster.configurations = [configuration(3, 3), configuration(3, 3), tuple(odd)]
    cluster.start()
    cluster.run(30)
    assert not cluster.decided
    assert cluster.said("does not agree to the cluster's birth", level="error")
    assert cluster.said("n2 at 10.0.0.2 (dc1, r2)")


def test_a_birth_that_was_begun_with_other_voters_is_refused_by_who_knows_of_fewer() -> None:
    cluster = TinyCluster(6)
    cluster.configurations = [configuration(3, 3), configuration(3, 2), configuration(3, 3)]
    cluster.start()
    cluster.run(60)
    assert not cluster.decided
    assert cluster.said("an unfinished birth has 3 voters, our configuration 2", level="error")


def test_two_of_three_voters_are_not_enough_for_a_birth() -> None:
    cluster = TinyCluster(5)
    cluster.drop = lambda source, target, message: (
        (isinstance(message, Accept) and target == 2) or (isinstance(message, Prepare) and source == 2)
    )
    cluster.start()
    cluster.run(30)
    assert all(process.metadata._acceptor.vote(1).accepted for process in cluster.running[:2])
    assert not cluster.decided
    cluster.drop = lambda source, target, message: False
    assert cluster.run_until(cluster.born)


def test_a_voter_emptied_in_the_middle_of_the_birth_cannot_found_another_cluster() -> None:
    born = stuck = 0
    for seed in range(80):
        cluster = TinyCluster(seed, faults=ROUGH)
        cluster.start()
        cluster.run(0.3 + cluster.random.random() * 0.5)
        index = cluster.random.randrange(3)
        cluster.crash(index)
        cluster.machines[index].wipe()
        cluster.start(index)
        cluster.run(30)
        ids = {m.peer for epoch in cluster.decided.values() for m in getattr(epoch.entry, "members", ())}
        if ids and cluster.machines[index].peer not in ids:
            stuck += 1
            assert not cluster.node(index).metadata.born
        else:
            born += bool(ids)
    assert born and stuck


# --- addresses


def test_who_is_where_another_is_known_to_be_waits_and_does_not_fill_the_log() -> None:
    """The address of a peer that is down was given to another one."""
    cluster = a_cluster()
    first, second = cluster.machines[:2]
    place = first.initial
    cluster.run(1)
    cluster.crash(0)
    cluster.crash(1)
    first.initial = msgspec.structs.replace(place, address=second.initial.address)
    cluster.start(0)
    cluster.run(60)
    assert max(cluster.decided) <= 2
    assert cluster.said(f"{second.initial.name} is known to be at {second.initial.address}")
    cluster.crash(0)
    first.initial = msgspec.structs.replace(place, address="10.0.0.77")
    cluster.start(0)
    cluster.run(30)
    member = cluster.node(2).metadata.state.member(first.peer)
    assert member is not None and member.address == "10.0.0.77"


# --- the wiped voter


def test_a_wiped_voter_is_refused_by_name_and_says_why() -> None:
    cluster = a_cluster()
    old = cluster.machines[0].peer
    cluster.crash(0)
    cluster.machines[0].wipe()
    cluster.start(0)
    wiped = cluster.node(0)
    assert cluster.run_until(lambda: bool(wiped.metadata.identity.refused))
    assert "'n1' is a member with another identity" in wiped.metadata.unready
    assert [e.name for e in wiped.events if e.level == "error"] == ["refused_for_good"]
    cluster.run(20)
    assert not wiped.metadata.born
    assert isinstance(answer(cluster, 1, create("t")), Changed)
    unready = answer(cluster, 0, create("u"))
    assert isinstance(unready, Unready)
    assert "another identity" in unready.detail
    assert cluster.node(1).metadata.state.voters[0] == old


def test_a_wiped_voter_gives_no_second_epoch_seven() -> None:
    """{A, B} accept an epoch; A restarts under its name, its disk empty; {A, C} must not choose another."""
    cluster = a_cluster()
    cluster.cut([0, 1], [2])
    assert isinstance(answer(cluster, 0, create("t", "first")), Changed)
    cluster.crash(0)
    cluster.machines[0].wipe()
    cluster.crash(1)
    cluster.heal()
    cluster.start(0)
    assert isinstance(answer(cluster, 2, create("t", "second"), 8), Unready)
    assert max(cluster.decided) == 2
    cluster.start(1)
    assert cluster.run_until(lambda: cluster.node(2).metadata.state.epoch == 2)
    table = cluster.node(2).metadata.state.table("kv", "t")
    assert table is not None
    assert table.options.comment == "first"


# --- changes


def test_a_change_is_known_everywhere_and_of_two_of_one_name_one_is_made() -> None:
    cluster = a_cluster(peers=5)
    one, other = cluster.change(3, create("t", "one")), cluster.change(4, create("t", "other"))
    assert cluster.run_until(lambda: bool(one and other) and cluster.all_equal())
    assert all(isinstance(a[0], Changed) for a in (one, other))
    assert sorted(a[0].code for a in (one, other) if isinstance(a[0], Changed)) == ["", "already_exists"]
    tables = {process.metadata.state.table("kv", "t") for process in cluster.running}
    assert len(tables) == 1


def test_without_the_voters_majority_changes_wait_and_then_say_so() -> None:
    cluster = a_cluster(peers=5)
    cluster.crash(0)
    cluster.crash(2)
    for index in (1, 3):
        unready = answer(cluster, index, create("t"), 3)
        assert isinstance(unready, Unready)
        assert "the majority of the voters n1, n2, n3" in unready.detail
        assert "reads and writes go on" in unready.detail
    cluster.crash(3)
    cluster.start(3)
    metadata = cluster.node(3).metadata
    assert metadata.born and metadata.unready == ""
    assert metadata.state.neighbours(cluster.node(3).peer)
    cluster.start(2)
    assert isinstance(answer(cluster, 3, create("u")), Changed)


def test_a_voter_that_was_cut_off_does_not_bring_back_old_changes() -> None:
    cluster = a_cluster()
    cluster.cut([0], [1, 2])
    answers = cluster.change(0, create("t"), 2)
    assert cluster.run_until(lambda: bool(answers))
    cluster.run(30)
    cluster.heal()
    assert isinstance(answer(cluster, 1, create("u")), Changed)
    cluster.run(30)
    assert [t.name for t in cluster.node(0).metadata.state.tables.values()] == ["u"]


def test_a_restarted_voter_keeps_its_word() -> None:
    cluster = a_cluster()
    cluster.change(1, create("t"), 2)

    def votes() -> list[Vote]:
        return [process.metadata._acceptor.vote(2) for process in cluster.running]

    assert cluster.run_until(lambda: all(vote.accepted_ballot for vote in votes()))
    cluster.cut(range(3), range(3))
    cluster.run(1)
    before = votes()
    assert any(vote.accepted is not None for vote in before)
    for index in range(3):
        cluster.crash(index)
    cluster.start()
    assert votes() == before
    cluster.heal()
    assert isinstance(answer(cluster, 0, create("u")), Changed)
    assert cluster.run_until(cluster.all_equal)
    cluster.run(1)
    last = max(cluster.decided)
    assert not any(vote_key(n) in m.disk for m in cluster.machines for n in range(1, last + 1))


def test_an_epoch_stored_beyond_a_gap_is_not_forgotten() -> None:
    """The write of epoch 2 failed, that of 3 did not and dropped our vote on it; nobody may win 3 anew."""
    cluster = a_cluster()
    for name in ("a", "b"):
        assert isinstance(answer(cluster, 0, create(name)), Changed)
    assert cluster.run_until(cluster.all_equal)
    cluster.run(1)
    second, third = (EPOCH_PREFIX + b"%016x" % number for number in (2, 3))
    for index, lacking in ((0, third), (1, second), (2, second)):
        cluster.crash(index)
        del cluster.machines[index].disk[lacking]
    cluster.start()
    assert [process.metadata.state.epoch for process in cluster.running] == [2, 1, 1]
    assert isinstance(answer(cluster, 0, create("c")), Changed)
    assert cluster.run_until(cluster.all_equal)
    names = [table.name for table in cluster.node(0).metadata.state.tables.values()]
    assert names == ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_creates_while_voters_are_killed_and_cut(seed: int) -> None:
    """Of each name two different tables are asked for: one is made, the same on all peers, in one log."""
    cluster = a_cluster(seed, peers=5, faults=Faults(0.02, 0.02, (1 * MS, 20 * MS), (1 * MS, 10 * MS)))
    answers: dict[tuple[int, str], list[Changed | Unready]] = {}
    for number in range(500):
        for twin in ("one", "other"):
            index = cluster.random.randrange(5)
            at_us = cluster.random.randrange(2 * SECOND_US)
            change = create(f"t{number}", twin)

            def ask(key: tuple[int, str], index: int = index, change: Change = change) -> None:
                if cluster.machines[index].process is not None:
                    answers[key] = cluster.change(index, change, 20)

            cluster.later(at_us, None, lambda key=(number, twin), ask=ask: ask(key))  # type: ignore[misc]
    for _ in range(8):  # the first voter leads, so it falls at least every second time
        victim = cluster.random.choice([0, 0, 1, 2])
        cluster.run(cluster.random.random() * 0.5)
        if cluster.random.random() < 0.5:
            cluster.crash(victim)
            cluster.run(cluster.random.random())
            cluster.start(victim)
        else:
            cluster.cut([victim], [i for i in range(5) if i != victim], cluster.random.random() < 0.3)
            cluster.run(cluster.random.random())
            cluster.heal()
    assert cluster.run_until(cluster.all_equal, 60)
    cluster.run(25)
    assert cluster.run_until(cluster.all_equal, 60)
    state = cluster.node(0).metadata.state
    assert len({process.metadata.state.digest for process in cluster.running}) == 1
    asked = {number for number, _ in answers}
    assert len(asked) > 400
    made: dict[int, list[str]] = {}
    for (number, twin), got in answers.items():
        if got and isinstance(got[0], Changed) and got[0].error == "":
            made.setdefault(number, []).append(twin)
    assert len(made) > 250
    for number, twins in made.items():
        table = state.table("kv", f"t{number}")
        assert table is not None
        assert twins == [table.options.comment]
    ids = list(state.tables)
    assert len(ids) == len({t.name for t in state.tables.values()}) and len(made) <= len(ids)


def chaos(seed: int) -> int:
    """One short run in which anything may happen: there is one log, and at the end it goes on."""
    random = Random(f"{seed}:chaos")
    faults = Faults(
        random.choice([0.0, 0.05, 0.3]),
        random.choice([0.0, 0.2]),
        (1 * MS, random.choice([2, 50, 300]) * MS),
        (1 * MS, random.choice([2, 80, 400]) * MS),
        codec=seed % 8 == 0,
        disk_full=random.choice([0, 0, 0.1]),
    )
    peers = random.choice([3, 4, 5])
    cluster = TinyCluster(seed, peers, random.choice([1, 3, 5]) if peers == 5 else 3, faults)
    cluster.start()
    answers: list[list[Changed | Unready]] = []
    for step in range(25):
        cluster.run(random.random() * 0.4)
        what = random.randrange(8)
        index = random.randrange(peers)
        is_up = cluster.machines[index].process is not None
        if what == 0 and is_up:
            cluster.crash(index)
        elif what == 1 and not is_up:
            cluster.start(index)
        elif what == 2:
            cluster.cut([index], [i for i in range(peers) if i != index], random.random() < 0.4)
        elif what == 3:
            cluster.heal()
        elif is_up:
            answers.append(cluster.change(index, create(f"t{random.randrange(6)}", str(step)), 5))
    cluster.heal()
    faults.loss = min(faults.loss, 0.05)
    faults.disk_full = 0
    for index in range(peers):
        if cluster.machines[index].process is None:
            cluster.start(index)
    assert cluster.run_until(cluster.born, 300), seed
    final = [
        answer(cluster, random.randrange(peers), create("final", if_not_exists=True), 20) for _ in range(4)
    ]
    assert any(isinstance(value, Changed) for value in final), (seed, final)
    assert cluster.run_until(cluster.all_equal, 60), seed
    assert len({process.metadata.state.digest for process in cluster.running}) == 1, seed
    return len(cluster.decided)


@pytest.mark.parametrize("part", range(4))
def test_whatever_happens_there_is_one_log(part: int) -> None:
    epochs = sum(chaos(seed) for seed in range(part * 100, part * 100 + 100))
    assert epochs > 300


# --- catching up, refusing


def test_refusals_are_for_what_changed_and_carry_the_epochs_that_lack() -> None:
    cluster = a_cluster()
    for name in ("a", "b"):
        assert isinstance(answer(cluster, 0, create(name)), Changed)
    metadata = cluster.node(0).metadata
    a, b = metadata.state.table("kv", "a"), metadata.state.table("kv", "b")
    assert a is not None and b is not None
    assert metadata.stale_for(a.id, 3) is None
    assert metadata.stale_for(a.id, 2) is None  # epoch 3 made b and did not touch a
    assert metadata.stale_for(a.id, 9) is None  # this peer is behind: it pulls, and serves
    assert metadata.stale_for(b.id, 2) == metadata.epochs_after(2) == (cluster.decided[3],)
    assert metadata.stale_for(77, 2) == (cluster.decided[3],)  # no such table any more, as far as we know
    assert metadata.stale_for(77, 3) is None


def test_a_peer_behind_catches_up_and_then_serves_what_was_parked() -> None:
    cluster = a_cluster(peers=4)
    cluster.cut([3], [0, 1, 2])
    for number in range(100):
        cluster.change(0, create(f"t{number}"))
        cluster.run(0.03)
    assert cluster.node(0).metadata.state.epoch > 70
    cluster.heal()
    served: list[int] = []
    late = cluster.node(3)
    target = cluster.node(0).metadata.state.epoch
    late.metadata.catch_up(cluster.node(0).peer, target, lambda: served.append(late.metadata.state.epoch))
    late.metadata.catch_up(cluster.node(0).peer, 1, lambda: served.append(-1))
    assert served == [-1]
    assert cluster.run_until(lambda: len(served) == 2, 2)
    assert served[1] >= target


def test_what_is_parked_too_long_is_dropped() -> None:
    cluster = a_cluster()
    cluster.cut([0], [1, 2])
    served: list[int] = []
    cluster.node(0).metadata.catch_up(cluster.node(1).peer, 99, lambda: served.append(1))
    cluster.run(2 * PARKED_US / SECOND_US)
    assert not cluster.node(0).metadata.log._parked
    assert not served


def test_listeners_hear_of_each_epoch_once_and_in_order() -> None:
    cluster = a_cluster()
    metadata = cluster.node(2).metadata
    heard: list[int] = []
    metadata.on_adopted(lambda: heard.append(metadata.state.epoch))
    for number in range(5):
        assert isinstance(answer(cluster, number % 3, create(f"t{number}")), Changed)
    assert cluster.run_until(cluster.all_equal)
    assert heard == list(range(2, max(cluster.decided) + 1))


# --- what must never be answered


def test_nothing_is_promised_or_accepted_before_it_is_durable() -> None:
    cluster = a_cluster()
    cluster.run(1)
    cluster.faults.sync_us = (5_000 * MS, 5_000 * MS)
    second = cluster.node(1)
    first = cluster.node(0).peer
    sent: list[object] = []
    second.links[first].inside.message_handlers[Promise] = lambda peer, message: sent.append(message)
    second.inside.message_handlers[Prepare](first, Prepare(2, 1 << 32 | 1))
    cluster.run(4)
    assert not sent
    assert cluster.run_until(lambda: bool(sent), 10)
    assert vote_key(2) in cluster.machines[1].disk


def test_strangers_get_no_vote_and_no_answer() -> None:
    cluster = a_cluster()
    cluster.run(1)
    node = cluster.node(1)
    entry = Changes((Proposal((9, 9), create("t")),))
    before = dict(node.machine.disk)
    for number in (1, 2):
        node.inside.message_handlers[Prepare](b"?" * 16, Prepare(number, 99 << 32))
        node.inside.message_handlers[Accept](b"?" * 16, Accept(number, 99 << 32, entry))
    node.inside.message_handlers[Decided](b"?" * 16, Decided((Epoch(2, entry),)))
    cluster.run(1)
    assert {k: v for k, v in node.machine.disk.items() if k.startswith(b"meta/")} == {
        k: v for k, v in before.items() if k.startswith(b"meta/")
    }
    assert node.metadata.state.epoch == 1


def test_messages_with_epochs_survive_the_codec_and_choose_their_lane() -> None:
    cluster = a_cluster(peers=7)
    news = Decided((cluster.decided[1],))
    assert decode_message(encode_message(news)) == news
    assert lane_of(news) == URGENT
    large = Proposal((1, 1), create("t", "x" * 70_000))
    assert lane_of(Decided((Epoch(2, Changes((large,))),))) == BULK
