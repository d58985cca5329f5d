"""The simulator itself, on a toy node: connections, faults, disks, clients, determinism."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from core.messages import Ping, PingAck
from core.ports import SMALL
from sim.cluster import Reply, SimCluster
from sim.options import DiskOptions, NetworkOptions, Options
from tests.sim.toy import READ, ToyNode, ToySoftware, value_of, write

SECOND = 1_000_000
TOP = Path(__file__).resolve().parents[2]


def cluster_of(peers: int = 3, trace: bool = False, **changes: object) -> SimCluster:
    options = msgspec.structs.replace(Options(seed=1, peers=peers), **changes)
    cluster = SimCluster(options, ToySoftware(), trace)
    cluster.start_all()
    cluster.run_for(SECOND // 2)
    return cluster


def toy(cluster: SimCluster, index: int) -> ToyNode:
    node = cluster.node(index)
    assert isinstance(node, ToyNode)
    return node


def ask(cluster: SimCluster, index: int, request: object, timeout_us: int = 2 * SECOND) -> Reply:
    got: list[Reply] = []
    cluster.request(index, request, timeout_us, got.append)  # type: ignore[arg-type]
    assert cluster.run_until(lambda: bool(got), timeout_us + SECOND), "a client always hears in the end"
    return got[0]


def connections(cluster: SimCluster) -> list[int]:
    return [sum(toy(cluster, index).connected.values()) for index in cluster.running()]


def test_everybody_connects_once_and_a_write_is_read_elsewhere() -> None:
    cluster = cluster_of()
    assert connections(cluster) == [2, 2, 2]
    assert cluster.events["peer_up"] == 6
    assert value_of(ask(cluster, 0, write("x")).answer) == "x"
    assert value_of(ask(cluster, 2, READ).answer) == "x"


def test_a_client_is_refused_where_nobody_runs_and_does_not_know_when_the_peer_dies() -> None:
    cluster = cluster_of()
    cluster.kill(1)
    assert ask(cluster, 1, READ).refused
    got: list[Reply] = []
    cluster.cut([0], [1, 2])
    cluster.request(0, write("y"), 10 * SECOND, got.append)
    cluster.run_for(SECOND)
    assert not got
    cluster.kill(0)
    cluster.run_for(SECOND)
    assert got[0].unknown


def test_a_killed_peer_is_missed_at_once_and_is_back_after_restart() -> None:
    cluster = cluster_of()
    cluster.kill(1)
    cluster.run_for(SECOND // 10)
    assert connections(cluster) == [1, 1]
    cluster.start(1)
    cluster.run_for(SECOND // 2)
    assert connections(cluster) == [2, 2, 2]
    assert cluster.machines[1].start == 2


def test_power_loss_is_silent_and_loses_only_what_was_not_synced() -> None:
    slow = DiskOptions(sync_min_us=SECOND, sync_max_us=SECOND)
    cluster = cluster_of(disk=slow)
    assert value_of(ask(cluster, 0, write("kept"), 5 * SECOND).answer) == "kept"
    cluster.run_for(2 * SECOND)
    cluster.request(0, write("lost"), 100_000, lambda reply: None)
    cluster.run_for(200_000)
    assert all(machine.engine.unsynced() == 1 for machine in cluster.machines)
    lost = 0
    for _ in range(6):
        cluster.power_cut([0, 1, 2])
        held = [machine.engine.get(b"toy") or b"" for machine in cluster.machines]
        assert all(value[8:] in (b"kept", b"lost") for value in held)
        lost += sum(value[8:] == b"kept" for value in held)
        cluster.start_all()
        cluster.run_for(SECOND // 2)
    assert lost, "a power cut that never loses anything is none"


def test_a_pause_keeps_everything_for_later() -> None:
    cluster = cluster_of()
    peer = cluster.machines[1].peer
    cluster.pause(1)
    toy(cluster, 0).world.send(peer, Ping(1, 0, 0, ()), SMALL)
    cluster.run_for(3 * SECOND)
    assert peer not in toy(cluster, 0).acks
    cluster.resume(1)
    assert cluster.run_until(lambda: peer in toy(cluster, 0).acks, SECOND)


def test_cuts_in_both_ways_and_in_one() -> None:
    cluster = cluster_of()
    zero, one = toy(cluster, 0), toy(cluster, 1)
    cluster.cut([0], [1], one_way=True)
    zero.world.send(one.identity.peer, Ping(1, 0, 0, ()), SMALL)
    one.world.send(zero.identity.peer, PingAck(1, 0, ()), SMALL)
    cluster.run_for(SECOND // 10)
    assert one.identity.peer in zero.acks  # the other direction still works
    assert zero.acks.count(one.identity.peer) == 1
    cluster.isolate(0)
    assert ask(cluster, 0, READ, 2 * SECOND).unknown
    assert ask(cluster, 1, READ).answers
    cluster.run_for(5 * SECOND)
    assert connections(cluster) == [0, 1, 1]
    cluster.heal()
    cluster.run_for(2 * SECOND)
    assert connections(cluster) == [2, 2, 2]


def test_loss_duplication_reordering_lateness_happen_at_their_rates() -> None:
    network = NetworkOptions(loss=0.1, duplication=0.2, reordering=0.3, late=0.05)
    cluster = cluster_of(network=network)
    zero, one = toy(cluster, 0), toy(cluster, 1)
    before = cluster.network.counts.sent
    for sequence in range(4000):
        zero.world.send(one.identity.peer, PingAck(sequence, 0, ()), SMALL)
    cluster.run_for(10 * SECOND)
    counts = cluster.network.counts
    assert counts.sent - before == 4000
    assert 300 < counts.lost < 500
    assert 600 < counts.doubled < 850
    assert 1000 < counts.reordered < 1400
    assert 130 < counts.late < 270
    assert len(one.acks) == 4000 - counts.lost + counts.doubled


def test_without_dice_messages_keep_their_order() -> None:
    cluster = cluster_of(network=NetworkOptions(jitter_us=50_000))
    seen: list[int] = []
    cluster.network.watch = lambda world, source, message: seen.append(message.sequence)  # type: ignore[union-attr]
    zero, one = toy(cluster, 0), toy(cluster, 1)
    for sequence in range(200):
        zero.world.send(one.identity.peer, PingAck(sequence, 0, ()), SMALL)
    cluster.run_for(SECOND)
    assert seen == list(range(200))


def test_a_refused_hello_makes_no_connection_and_is_told() -> None:
    cluster = cluster_of()
    cluster.kill(2)
    cluster.machines[2].place = msgspec.structs.replace(cluster.machines[2].place, name="outcast")
    cluster.start(2)
    cluster.run_for(3 * SECOND)
    assert connections(cluster) == [1, 1, 0]
    assert "odd one out" in toy(cluster, 2).refused


def test_a_failing_sync_ends_the_process_and_nothing_is_answered() -> None:
    cluster = cluster_of()
    cluster.machines[0].engine.sync_fails = True
    reply = ask(cluster, 0, write("z"), 3 * SECOND)
    assert cluster.running() == [1, 2]
    assert reply.unknown
    assert cluster.deaths[0][1:] == (0, "DurabilityError")
    assert cluster.start(0)


def test_wiped_and_restored_disks() -> None:
    cluster = cluster_of()
    ask(cluster, 0, write("old"))
    cluster.run_for(SECOND)
    machine = cluster.machines[0]
    backup, peer = machine.backup(), machine.peer
    ask(cluster, 0, write("new"))
    cluster.wipe(0)
    assert machine.peer != peer and machine.engine.get(b"toy") is None
    machine.restore(backup)
    cluster.start(0)
    assert (machine.peer, machine.start) == (peer, 2)
    assert (machine.engine.get(b"toy") or b"")[8:] == b"old"


def test_clocks_are_wrong_and_jump() -> None:
    cluster = cluster_of()
    clocks = [machine.clock for machine in cluster.machines]
    assert len({clock.read_us() for clock in clocks}) == 3
    before = clocks[0].read_us()
    clocks[0].jump(-288 * SECOND)
    assert clocks[0].read_us() == before - 288 * SECOND


def test_a_thousand_peers_connect_to_those_they_speak_to() -> None:
    options = Options(seed=3, peers=1000)
    cluster = SimCluster(options, ToySoftware())
    cluster.initial = cluster.initial[:3]  # only three addresses are dialled
    cluster.start_all()
    cluster.run_for(SECOND // 2)
    assert len(cluster.network._latencies) < 15_000


def test_drawn_options_print_as_one_line_and_differ() -> None:
    lines = [Options.draw(seed).line() for seed in range(50)]
    assert len(set(lines)) == 50
    assert all("\n" not in line and f"seed={seed} " in line for seed, line in enumerate(lines))
    assert Options.draw(7) == Options.draw(7)
    assert 1 <= sum(Options.draw(seed).network.codec for seed in range(80)) <= 25


RUN = """
import sys
from sim.cluster import SimCluster
from sim.options import Options
from tests.sim.toy import READ, ToySoftware, write
cluster = SimCluster(Options.draw(int(sys.argv[1])), ToySoftware(), trace=True)
cluster.trace.perturb = int(sys.argv[2])
cluster.start_all()
for step in range(200):
    cluster.request(step % 3, write(str(step)) if step % 2 else READ, 1_000_000, lambda reply: None)
    if step == 50: cluster.kill(1)
    if step == 80: cluster.start(1)
    if step == 120: cluster.power_cut([0, 1, 2])
    if step == 121: cluster.start_all()
    cluster.run_for(20_000)
print(cluster.trace.digest(), cluster.trace.entries)
"""


def trace_of(seed: int, hash_seed: int, perturb: int = -1) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(TOP)}
    command = [sys.executable, "-c", RUN, str(seed), str(perturb)]
    done = subprocess.run(command, env=environment, cwd=TOP, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_one_seed_is_one_trace_in_any_interpreter() -> None:
    digest, entries = trace_of(5, 1)
    assert trace_of(5, 2) == [digest, entries]
    assert trace_of(6, 1)[0] != digest
    assert int(entries) > 500
    assert trace_of(5, 1, perturb=int(entries) // 2) != [digest, entries]
