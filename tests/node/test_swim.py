"""Liveness: who is declared dead and how soon, and who must not be."""

from __future__ import annotations

import pytest

from core.messages import Ping, PingAck, PingRequest, Rumour
from core.schema import Member
from core.settings import Settings
from node.overlay import offsets
from node.rumours import ALIVE, DEAD, RUMOURS_PER_MESSAGE_MAX, SUSPECT, first_incarnation
from tests.node.swim_world import SECOND, Cluster, FakeState, Process


@pytest.mark.parametrize(("loss", "seeds"), [(0.01, 8), (0.05, 4), (0.1, 4)])
def test_nobody_is_declared_dead_by_lost_messages(loss: float, seeds: int) -> None:
    for seed in range(seeds):
        cluster = Cluster(5, seed, loss)
        cluster.run(600)
        assert cluster.deaths() == [], f"seed {seed}"
        assert cluster.all_alive() or loss > 0.01
        cluster.validate()


@pytest.mark.parametrize(("size", "bound_s"), [(2, 5), (3, 4.5), (5, 6), (10, 7), (100, 8)])
def test_a_crash_is_known_everywhere_soon(size: int, bound_s: float) -> None:
    """Nobody tells the others that a connection ended, so they have to find out."""
    for seed in range(20 if size < 100 else 3):
        cluster = Cluster(size, seed, loss=0.01)
        cluster.run(5)
        cluster.crash(2)
        cluster.run_until(lambda c=cluster: c.all_believe(2, DEAD), bound_s)
        assert {number for _, _, number in cluster.deaths()} == {2}, f"seed {seed}"
        assert not cluster.peers[1].swim.is_alive(cluster.members[1].peer)
        assert cluster.members[1].peer not in cluster.peers[1].swim.alive()
        cluster.validate()


def test_an_ended_connection_makes_it_sooner_but_is_no_verdict() -> None:
    cluster = Cluster(3, seed=1)
    cluster.run(5)
    two = cluster.members[1].peer
    for watcher in (1, 3):
        for listener in cluster.peers[watcher].inside.peer_listeners:
            listener(two, False)
    cluster.run(10)
    assert cluster.deaths() == []  # it lives and answers
    cluster.crash(2)
    for watcher in (1, 3):
        for listener in cluster.peers[watcher].inside.peer_listeners:
            listener(two, False)
    assert cluster.run_until(lambda: cluster.all_believe(2, DEAD), 3) <= 2.0


def test_suspects_are_still_asked_and_listeners_hear_of_each_state() -> None:
    cluster = Cluster(3, seed=2)
    cluster.run(3)
    cluster.crash(3)
    three = cluster.members[2].peer
    cluster.run_until(lambda: cluster.view(1)[3] == SUSPECT, 4)
    assert cluster.peers[1].swim.is_alive(three)
    cluster.run_until(lambda: cluster.view(1)[3] == DEAD, 4)
    assert not cluster.peers[1].swim.is_alive(three)
    cluster.start(3)
    cluster.run_until(lambda: cluster.view(1)[3] == ALIVE, 10)
    assert [state for _, number, state in cluster.peers[1].changes if number == 3] == [SUSPECT, DEAD, ALIVE]
    assert cluster.peers[1].swim.is_alive(cluster.members[0].peer)


def test_a_restarted_peer_is_believed_over_all_that_was_said_before() -> None:
    cluster = Cluster(5, seed=3, loss=0.02)
    for _ in range(3):
        cluster.crash(4)
        cluster.run_until(lambda: cluster.all_believe(4, DEAD), 10)
        cluster.start(4)
        cluster.run_until(cluster.all_alive, 10)
        cluster.validate()
    # What the first life was accused of, whatever its refutations, says nothing of the fourth.
    old = Rumour(4, DEAD, first_incarnation(3) + 9, 1)
    cluster.peers[2].deliver(cluster.members[0].peer, PingAck(0, 1, (old,)))
    assert cluster.view(2)[4] == ALIVE


def test_a_peer_that_restarts_learns_who_is_dead() -> None:
    cluster = Cluster(5, seed=4)
    cluster.run(2)
    cluster.crash(2)
    cluster.run_until(lambda: cluster.all_believe(2, DEAD), 10)
    cluster.run(30)  # nobody talks about it any more
    cluster.crash(5)
    cluster.start(5)
    assert cluster.view(5)[2] == ALIVE
    assert cluster.run_until(lambda: cluster.view(5)[2] == DEAD, 6) <= 4


def test_a_peer_that_restarts_learns_of_deaths_of_those_it_does_not_ping() -> None:
    cluster = Cluster(60, seed=19)
    watcher = next(n for n in range(3, 60) if (2 - n) % 60 not in offsets(60))
    cluster.run(2)
    cluster.crash(2)
    cluster.run_until(lambda: cluster.all_believe(2, DEAD), 10)
    cluster.run(30)
    cluster.crash(watcher)
    cluster.start(watcher)
    cluster.run_until(lambda: cluster.view(watcher)[2] == DEAD, 10)


def test_who_utters_an_old_doubt_is_told_better() -> None:
    cluster = Cluster(5, seed=20)
    one, two, three = (member.peer for member in cluster.members[:3])
    process = cluster.peers[3]
    process.deliver(two, PingAck(0, 1, (Rumour(2, ALIVE, first_incarnation(1) + 4, 2),)))
    better = Rumour(2, ALIVE, first_incarnation(1) + 4, 2)
    for state in (SUSPECT, DEAD):
        process.deliver(one, Ping(5, 3, 1, (Rumour(2, state, first_incarnation(1) + 3, 1),)))
        assert process.last_sent is not None
        number, message = process.last_sent
        assert isinstance(message, PingAck)
        assert (number, message.sequence) == (1, 5) and better in message.rumours
        process.deliver(one, PingAck(0, 1, (Rumour(2, state, first_incarnation(1) + 3, 1),)))
        assert process.last_sent == (1, PingAck(0, 1, (better,)))
    sent = process.messages_sent
    process.deliver(one, PingAck(0, 1, (Rumour(2, ALIVE, first_incarnation(1), 2),)))
    assert process.messages_sent == sent  # old, but no doubt
    assert process.swim.is_alive(three)


def test_who_utters_many_old_doubts_is_not_told_all_other_news_at_once() -> None:
    cluster = Cluster(60, seed=22)
    one = cluster.members[0].peer
    process = cluster.peers[3]
    known = tuple(Rumour(n, ALIVE, first_incarnation(1) + 4, n) for n in range(10, 20))
    news = tuple(Rumour(n, SUSPECT, first_incarnation(1), 2) for n in (1, *range(20, 60)))
    process.deliver(cluster.members[1].peer, PingAck(0, 1, known + news))
    doubts = tuple(Rumour(n, SUSPECT, first_incarnation(1), 1) for n in range(10, 20))
    process.deliver(one, Ping(5, 3, 1, doubts))
    assert process.last_sent is not None
    message = process.last_sent[1]
    assert isinstance(message, PingAck)
    assert message.rumours[-1].number == 1 and len(message.rumours) == RUMOURS_PER_MESSAGE_MAX + 1


def test_of_all_who_hear_of_a_suspicion_a_few_look_for_themselves() -> None:
    cluster = Cluster(200, seed=21)
    doubt = Rumour(2, SUSPECT, 0, 1)
    for number in range(3, 201):
        cluster.peers[number].deliver(cluster.members[0].peer, PingAck(0, 1, (doubt,)))
    assert 1 <= cluster.carried[2, Ping] <= 25
    cluster.run(3)
    assert cluster.all_alive()


def test_doubt_is_refuted_with_a_higher_incarnation() -> None:
    cluster = Cluster(3, seed=5)
    cluster.run(2)
    one = cluster.members[0].peer
    doubt = Rumour(2, SUSPECT, first_incarnation(1), 1)
    cluster.peers[2].deliver(one, Ping(77, 2, 1, (doubt,)))
    cluster.run(2)
    assert cluster.view(1)[2] == cluster.view(3)[2] == ALIVE
    # The same doubt again is old by now, and a death at that incarnation too.
    cluster.peers[3].deliver(one, PingAck(0, 1, (doubt, Rumour(2, DEAD, first_incarnation(1), 1))))
    assert cluster.view(3)[2] == ALIVE


def test_halves_find_each_other_after_a_cut() -> None:
    for size, seed in ((4, 1), (5, 2), (10, 3), (60, 4)):
        cluster = Cluster(size, seed, loss=0.01)
        cluster.run(3)
        left, right = range(1, size // 2 + 1), range(size // 2 + 1, size + 1)
        cluster.cut(left, right)
        cluster.run_until(
            lambda c=cluster, a=left, b=right: (
                all(c.all_believe(n, DEAD, b) for n in a) and all(c.all_believe(n, DEAD, a) for n in b)
            ),
            60,
        )
        assert all(cluster.all_believe(n, ALIVE, left) for n in left)
        cluster.run(120)
        cluster.heal()
        cluster.run_until(cluster.all_alive, 20)
        cluster.run(30)
        assert cluster.all_alive()
        cluster.validate()


def test_a_lonely_peer_convinces_nobody_that_the_others_died() -> None:
    cluster = Cluster(5, seed=6)
    cluster.run(3)
    cluster.cut([3], [1, 2, 4, 5])
    cluster.run(60)
    assert [cluster.view(3)[n] for n in (1, 2, 4, 5)] == [DEAD] * 4
    cluster.heal()
    healed_us = cluster.now_us
    cluster.run_until(cluster.all_alive, 10)
    assert [death for death in cluster.deaths() if death[0] > healed_us] == []
    assert all(number == 3 or watcher == 3 for _, watcher, number in cluster.deaths())


def test_one_way_cuts() -> None:
    """One pair that cannot talk is no death; who hears all but is heard by nobody is dead to them."""
    cluster = Cluster(5, seed=7)
    cluster.cut([1], [2], one_way=True)
    cluster.run(300)
    assert cluster.deaths() == []
    cluster.cut([4], [1, 2, 3, 5], one_way=True)
    cluster.run_until(lambda: cluster.all_believe(4, DEAD), 10)
    assert all(cluster.all_believe(n, ALIVE, (1, 2, 3, 5)) for n in (1, 2, 3, 5))
    cluster.heal()
    cluster.run_until(cluster.all_alive, 20)


@pytest.mark.parametrize("timers_first", [False, True])
@pytest.mark.parametrize("pause_s", [0.3, 1, 3, 20])
def test_a_peer_that_stood_still_judges_nobody(pause_s: float, timers_first: bool) -> None:
    for seed in range(10):
        cluster = Cluster(5, seed, loss=0.01)
        cluster.run(3 + seed / 10)
        cluster.pause(2)
        cluster.run(pause_s)
        cluster.resume(2, timers_first)
        cluster.run_until(cluster.all_alive, 15)
        cluster.run(10)
        assert {number for _, _, number in cluster.deaths()} <= {2}, f"seed {seed}"
        assert cluster.all_alive()
        cluster.validate()


def test_a_suspicion_is_not_judged_by_the_time_in_which_we_stood_still() -> None:
    cluster = Cluster(5, seed=18)
    cluster.run(3)
    doubt = Rumour(4, SUSPECT, first_incarnation(1), 1)
    cluster.peers[2].deliver(cluster.members[0].peer, PingAck(0, 1, (doubt,)))
    cluster.pause(2)
    cluster.run(10)
    cluster.resume(2, timers_first=True)
    cluster.run(5)
    assert [(watcher, number) for _, watcher, number in cluster.deaths() if watcher == 2] == []
    assert cluster.all_alive()


def test_all_standing_still_at_once_kills_nobody() -> None:
    """A suspended laptop: the clock goes on, nobody runs."""
    cluster = Cluster(3, seed=8)
    for _ in range(5):
        cluster.run(3.3)
        for number in (1, 2, 3):
            cluster.pause(number)
        cluster.run(30)
        for number in (1, 2, 3):
            cluster.resume(number)
    cluster.run(5)
    assert cluster.deaths() == []


def test_nobody_left_to_ask() -> None:
    cluster = Cluster(3, seed=9)
    cluster.crash(1)
    cluster.crash(2)
    cluster.run_until(lambda: cluster.view(3)[1] == cluster.view(3)[2] == DEAD, 15)
    assert cluster.peers[3].swim.alive() == (cluster.members[2].peer,)
    cluster.start(1)
    cluster.run_until(lambda: cluster.view(3)[1] == ALIVE and cluster.view(1)[2] == DEAD, 15)


def test_epochs_travel_on_pings() -> None:
    cluster = Cluster(3, seed=10)
    ahead = FakeState(7, cluster.members)
    cluster.peers[2].metadata.adopt(ahead)
    cluster.run(4)
    two = cluster.members[1].peer
    assert (two, 7) in cluster.peers[1].metadata.told
    assert (two, 7) in cluster.peers[3].metadata.told
    assert cluster.peers[2].metadata.told == []


def test_a_ping_for_somebody_else_is_not_answered() -> None:
    cluster = Cluster(3, seed=11)
    sent_before = cluster.peers[2].messages_sent
    cluster.peers[2].deliver(cluster.members[0].peer, Ping(1, 3, 1, ()))
    assert cluster.peers[2].messages_sent == sent_before
    cluster.peers[2].deliver(cluster.members[0].peer, Ping(1, 2, 1, ()))
    assert cluster.peers[2].messages_sent == sent_before + 1


def test_rumours_and_requests_that_make_no_sense_change_nothing() -> None:
    cluster = Cluster(3, seed=12)
    one = cluster.members[0].peer
    process = cluster.peers[2]
    nonsense = (
        Rumour(99, DEAD, 5, 1),
        Rumour(3, 7, 1 << 30, 1),
        Rumour(3, -1, 1 << 30, 1),
        Rumour(3, DEAD, 1 << 70, 1),
        Rumour(3, SUSPECT, -5, 1),
        Rumour(0, DEAD, 1, 1),
    )
    process.deliver(one, PingAck(0, 1, nonsense))
    process.deliver(one, PingRequest(5, 99, 1, nonsense))
    assert cluster.view(2) == {1: ALIVE, 2: ALIVE, 3: ALIVE}
    assert process.changes == []
    cluster.validate()


def test_members_come_and_go_with_the_metadata() -> None:
    cluster = Cluster(3, seed=13)
    cluster.run(2)
    cluster.crash(3)
    cluster.run_until(lambda: cluster.all_believe(3, DEAD), 10)
    without = FakeState(2, cluster.members[:2])
    for process in cluster.peers.values():
        process.metadata.adopt(without)
        assert process.swim.alive() == (cluster.members[0].peer, cluster.members[1].peer)
    cluster.validate()
    cluster.run(20)
    assert cluster.all_alive()


def test_before_birth_there_is_nobody_to_ping_and_pings_are_answered() -> None:
    cluster = Cluster(2, seed=14)
    unborn = FakeState(0, ())
    process = Process(cluster, Member(b"x" * 16, 3, "n3", "a", "dc1", "r1", ()), 1, unborn)
    process.swim.start()
    cluster.run(5)
    assert process.messages_sent == 0
    process.deliver(cluster.members[0].peer, Ping(4, 3, 1, ()))
    assert process.messages_sent == 1
    assert process.metadata.told == [(cluster.members[0].peer, 1)]


def test_the_cost_per_peer_does_not_depend_on_how_many_there_are() -> None:
    rates = {}
    for size in (10, 100, 300):
        cluster = Cluster(size, seed=15, loss=0.01, count_bytes=True)
        cluster.run(60)
        rates[size] = sum(process.bytes_sent for process in cluster.peers.values()) / size / 60
    assert max(rates.values()) <= 1.6 * rates[10], rates


def test_one_seed_gives_one_history() -> None:
    def history() -> list[tuple[int, int, int]]:
        cluster = Cluster(7, seed=16, loss=0.1)
        cluster.run(20)
        cluster.crash(2)
        cluster.run(20)
        return [change for process in cluster.peers.values() for change in process.changes]

    first = history()
    assert first
    assert first == history()


def test_faster_settings_detect_faster() -> None:
    quick = Settings(ping_pause_us=SECOND // 5, ping_timeout_us=SECOND // 20)
    cluster = Cluster(3, seed=17, settings=quick)
    cluster.run(1)
    cluster.crash(1)
    assert cluster.run_until(lambda: cluster.all_believe(1, DEAD), 2) < 1
