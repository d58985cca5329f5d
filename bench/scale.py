"""How the cost of a peer grows with the number of peers: simulated clusters of the real node, to 1,000 peers.

    python -m bench.scale                    10, 100 and 1,000 peers, ten virtual minutes; writes docs/
    python -m bench.scale --peers 200 --seconds 60 --out ""

Each size runs in a process of its own, so that memory can be read from the operating system. A run has
three phases: birth (all start at once and decide epoch 1, then one bucket is created), idle (nobody asks
for anything; messages are lost at the given rate; bytes are counted by what they are for), and crashes (one
peer after another is killed, which resets its connections, or loses power, which its connections notice
only seconds later; then it starts again).

Bytes are those of frames as server/ writes them: four bytes of length and the encoded message; a connection
adds both hellos and a preamble. TCP's own headers are not counted.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import msgspec

from bench.figures import dots, stacked_bars
from core.healing_messages import TreeAnswer, TreeAsk
from core.limits import SECOND_US
from core.messages import (
    Fetch,
    Fetched,
    Follow,
    Followed,
    Message,
    Ping,
    PingAck,
    PingNack,
    PingRequest,
    encode_message,
)
from core.ports import Event
from core.requests import Changed, MetadataRequest
from kv.buckets import BucketSpec, create_bucket
from node.rumours import ALIVE
from sim.cluster import Reply, SimCluster
from sim.options import NetworkOptions, Options
from sim.real import RealSoftware, node_of
from sim.world import SimWorld

LENGTH_BYTES = 4
PREAMBLE_BYTES = 8
PEERS_PER_MACHINE = 16
PATIENCE_US = 120 * SECOND_US
SETTLE_US = 10 * SECOND_US
BREAK_US = 60 * SECOND_US
"""Until when, at random, a connection to a machine without power is found to be broken."""

KNOWN_EVERYWHERE_S_MAX = 10.0
TRAFFIC_RATIO_MAX = 1.6

PURPOSES: dict[type, str] = {
    **dict.fromkeys((Ping, PingAck, PingRequest, PingNack), "liveness"),
    **dict.fromkeys((Follow, Followed, Fetch, Fetched), "following"),
    **dict.fromkeys((TreeAsk, TreeAnswer), "hash trees"),
}
OTHER, HANDSHAKES = "metadata", "handshakes"
PURPOSE_NAMES = ("liveness", "following", "hash trees", HANDSHAKES, OTHER)


class Crash(msgspec.Struct, kw_only=True):
    """One peer's end: seconds until the first and until all others knew, and until all knew of its return."""

    silent: bool
    first_s: float
    known_s: float
    back_s: float


class Measured(msgspec.Struct, kw_only=True):
    """One cluster. Bytes are per peer and second of the idle phase, means over all peers but `busiest`."""

    peers: int
    seed: int
    loss: float
    idle_s: float
    birth_s: float
    birth_cpu_s: float
    birth_kib_per_peer: float
    birth_kib_busiest: float
    bytes_by_purpose: dict[str, float]
    bytes_per_peer_s: float
    bytes_busiest_s: float
    messages_per_peer_s: float
    connections_per_peer: float
    suspicions: int
    false_deaths: int
    crashes: list[Crash]
    idle_cpu_s: float
    virtual_s_per_s: float
    memory_mib: float
    memory_kib_per_peer: float


class Meter:
    """Counts what peers send, by purpose and by sender; asked before the network's dice fall."""

    def __init__(self, cluster: SimCluster) -> None:
        """Begin to listen."""
        self._cluster = cluster
        hello = encode_message(node_of(cluster, 0).hello())
        self._connection_bytes = 2 * (LENGTH_BYTES + len(hello)) + PREAMBLE_BYTES
        self.reset()
        cluster.network.drop = self._sent

    def reset(self) -> None:
        """Count from here."""
        self.by_purpose = dict.fromkeys(PURPOSE_NAMES, 0)
        self.by_sender = [0] * len(self._cluster.machines)
        self.messages = 0
        self._connections_before = self._cluster.network.counts.connections

    def _sent(self, source: int, _target: int, message: Message) -> bool:
        size = LENGTH_BYTES + len(encode_message(message))
        self.by_purpose[PURPOSES.get(type(message), OTHER)] += size
        self.by_sender[source] += size
        self.messages += 1
        return False

    def purposes(self) -> dict[str, int]:
        """Bytes since the reset, handshakes included."""
        made = self._cluster.network.counts.connections - self._connections_before
        return {**self.by_purpose, HANDSHAKES: made * self._connection_bytes}


class Watch:
    """Who considers whom dead, from what the nodes note."""

    def __init__(self, cluster: SimCluster) -> None:
        """Begin to listen."""
        self._cluster = cluster
        self._index_of = {machine.place.name: machine.index for machine in cluster.machines}
        self.knows_us: list[dict[int, int]] = [{} for _ in cluster.machines]
        """For each peer: since when each other considers it dead."""
        self.false_deaths = 0
        cluster.on_note = self._noted

    def _noted(self, world: SimWorld, event: Event) -> None:
        if event.name == "peer_dead":
            dead = self._index_of[event.peer]
            self.knows_us[dead][world.index] = self._cluster.now_us
            process = self._cluster.machines[dead].process
            self.false_deaths += process is not None and process.running
        elif event.name == "peer_back":
            self.knows_us[self._index_of[event.peer]].pop(world.index, None)

    def forget(self, watcher: int) -> None:
        """A peer starts anew and knows nothing."""
        for known in self.knows_us:
            known.pop(watcher, None)


def bear(cluster: SimCluster) -> None:
    """Wait for the cluster to be born, and create a bucket so that there is something to follow."""
    count = len(cluster.machines)
    waiting = list(range(count))

    def all_ready() -> bool:
        while waiting and node_of(cluster, waiting[-1]).ready()[0]:
            waiting.pop()
        return not waiting

    assert cluster.run_until(all_ready, PATIENCE_US), f"{len(waiting)} of {count} peers are not ready"
    request = create_bucket(BucketSpec("idle"), node_of(cluster, 0).metadata.state.members)
    assert isinstance(request, MetadataRequest)
    replies: list[Reply] = []
    while not (replies and isinstance(replies[-1].answer, Changed)):
        replies.clear()
        cluster.request(0, request, 10 * SECOND_US, replies.append)
        assert cluster.run_until(lambda: bool(replies), PATIENCE_US)
    cluster.run_for(SETTLE_US)


def crash(cluster: SimCluster, watch: Watch, index: int, silent: bool) -> Crash:
    """End one peer, wait until all others know, start it again, wait until all know that too."""
    others = len(cluster.machines) - 1
    known = watch.knows_us[index]
    begun_us = cluster.now_us
    if silent:
        cluster.power_cut([index])
    else:
        cluster.kill(index)
    assert cluster.run_until(lambda: len(known) == others, PATIENCE_US), f"{len(known)} of {others} know"
    first_us, last_us = min(known.values()), max(known.values())
    cluster.run_for(SECOND_US)
    watch.forget(index)
    cluster.start(index)
    started_us = cluster.now_us
    assert cluster.run_until(lambda: not known, PATIENCE_US), f"{len(known)} of {others} think it dead"
    return Crash(
        silent=silent,
        first_s=round((first_us - begun_us) / SECOND_US, 2),
        known_s=round((last_us - begun_us) / SECOND_US, 2),
        back_s=round((cluster.now_us - started_us) / SECOND_US, 2),
    )


def measure(peers: int, seed: int, loss: float, idle_s: float, crashes: int) -> Measured:
    """Run one cluster through all phases."""
    memory_before_kib = _memory_kib()
    cpu = time.process_time
    options = Options(
        seed=seed,
        peers=peers,
        racks=max(3, -(-peers // PEERS_PER_MACHINE)),
        network=NetworkOptions(loss=loss, break_us=BREAK_US),
    )
    begun = cpu()
    cluster = SimCluster(options, RealSoftware())
    cluster.start_all()
    meter, watch = Meter(cluster), Watch(cluster)
    bear(cluster)
    birth_cpu_s, birth_s = cpu() - begun, (cluster.now_us - SETTLE_US) / SECOND_US
    birth, busiest_at_birth = sum(meter.purposes().values()), max(meter.by_sender)
    gc.collect()
    gc.freeze()  # what lives now lives to the end: the collector need not look at it again

    meter.reset()
    begun, real = cpu(), time.perf_counter()
    suspicions_before = cluster.events.get("swim_suspicions", 0)
    cluster.run_for(round(idle_s * SECOND_US))
    idle_cpu_s, idle_real_s = cpu() - begun, time.perf_counter() - real
    purposes = {name: count / peers / idle_s for name, count in meter.purposes().items()}
    suspicions = cluster.events.get("swim_suspicions", 0) - suspicions_before
    assert all(_sees_all_alive(cluster, index) for index in range(peers)) or watch.false_deaths

    connections = cluster.network.counts.connections
    messages, busiest = meter.messages / peers / idle_s, max(meter.by_sender) / idle_s
    draw = Random(f"{seed}:crashes")
    ended = [crash(cluster, watch, draw.randrange(peers), number % 2 == 1) for number in range(crashes)]
    memory_kib = _memory_kib()
    gc.unfreeze()
    return Measured(
        peers=peers,
        seed=seed,
        loss=loss,
        idle_s=idle_s,
        birth_s=round(birth_s, 2),
        birth_cpu_s=round(birth_cpu_s, 2),
        birth_kib_per_peer=round(birth / peers / 1024, 1),
        birth_kib_busiest=round(busiest_at_birth / 1024, 1),
        bytes_by_purpose={name: round(value, 2) for name, value in purposes.items()},
        bytes_per_peer_s=round(sum(purposes.values()), 2),
        bytes_busiest_s=round(busiest, 2),
        messages_per_peer_s=round(messages, 3),
        connections_per_peer=round(2 * connections / peers, 1),
        suspicions=int(suspicions),
        false_deaths=watch.false_deaths,
        crashes=ended,
        idle_cpu_s=round(idle_cpu_s, 2),
        virtual_s_per_s=round(idle_s / idle_real_s, 1),
        memory_mib=round(memory_kib / 1024, 1),
        memory_kib_per_peer=round((memory_kib - memory_before_kib) / peers, 1),
    )


def _sees_all_alive(cluster: SimCluster, index: int) -> bool:
    swim = node_of(cluster, index).swim
    return all(swim.state_of(machine.peer) != ALIVE + 2 for machine in cluster.machines)


def _memory_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def broken_promises(all_measured: list[Measured]) -> list[str]:
    """What does not hold of what is promised; empty if all does."""
    broken = []
    base = min(all_measured, key=lambda measured: measured.peers)
    for measured in all_measured:
        if measured.false_deaths:
            broken.append(f"{measured.peers} peers: {measured.false_deaths} false deaths")
        slowest = max((end.known_s for end in measured.crashes), default=0.0)
        if slowest > KNOWN_EVERYWHERE_S_MAX:
            broken.append(f"{measured.peers} peers: a crash was known everywhere only after {slowest} s")
        ratio = measured.bytes_per_peer_s / base.bytes_per_peer_s
        if ratio > TRAFFIC_RATIO_MAX:
            broken.append(f"{measured.peers} peers: {ratio:.2f} times the traffic per peer of {base.peers}")
    return broken


def figures(all_measured: list[Measured]) -> dict[str, str]:
    """The figures of docs/scale.md by file name."""
    by_size = {f"{measured.peers:,} peers": measured for measured in all_measured}
    return {
        "scale-traffic.svg": stacked_bars(
            "Idle traffic that a peer sends",
            "B/s",
            {label: measured.bytes_by_purpose for label, measured in by_size.items()},
        ),
        "scale-crashes.svg": dots(
            "A crash is known to all living peers",
            "s",
            {
                label: {
                    "kill -9 (connections are reset)": [c.known_s for c in measured.crashes if not c.silent],
                    "power cut (connections just hang)": [c.known_s for c in measured.crashes if c.silent],
                }
                for label, measured in by_size.items()
            },
            limit=KNOWN_EVERYWHERE_S_MAX,
        ),
        "scale-memory.svg": stacked_bars(
            "Memory of one simulated peer",
            "KiB",
            {label: {"memory": measured.memory_kib_per_peer} for label, measured in by_size.items()},
        ),
        "scale-time.svg": stacked_bars(
            "Real time for ten idle virtual minutes",
            "s",
            {label: {"time": 600 / measured.virtual_s_per_s} for label, measured in by_size.items()},
        ),
    }


def _rows(m: Measured) -> dict[str, str]:
    return {
        "peers": f"{m.peers:,}",
        "false deaths": f"{m.false_deaths}",
        "false suspicions (all refuted)": f"{m.suspicions}",
        "crash known everywhere, slowest (s)": f"{max((c.known_s for c in m.crashes), default=0):.1f}",
        "return known everywhere, slowest (s)": f"{max((c.back_s for c in m.crashes), default=0):.1f}",
        "idle traffic, bytes/s per peer": f"{m.bytes_per_peer_s:.1f}",
        **{f"of it {name}": f"{m.bytes_by_purpose[name]:.1f}" for name in PURPOSE_NAMES},
        "the busiest peer, bytes/s": f"{m.bytes_busiest_s:.1f}",
        "messages/s per peer": f"{m.messages_per_peer_s:.2f}",
        "connections per peer": f"{m.connections_per_peer:.0f}",
        "birth, KiB sent per peer": f"{m.birth_kib_per_peer:.0f}",
        "birth, KiB sent by the busiest": f"{m.birth_kib_busiest:,.0f}",
        "birth, CPU seconds": f"{m.birth_cpu_s:.1f}",
        "idle phase, CPU seconds": f"{m.idle_cpu_s:.1f}",
        "virtual seconds per second": f"{m.virtual_s_per_s:,.0f}",
        "memory of the process, MiB": f"{m.memory_mib:.0f}",
        "memory per peer, KiB": f"{m.memory_kib_per_peer:.0f}",
    }


def table(all_measured: list[Measured]) -> str:
    """The figures as a Markdown table."""
    columns = [_rows(measured) for measured in all_measured]
    rows = [(name, [column[name] for column in columns]) for name in columns[0]]
    lines = [f"| {name} | " + " | ".join(values) + " |" for name, values in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * len(all_measured), *lines[1:]])


def _measure_apart(arguments: argparse.Namespace, peers: int) -> Measured:
    command = [sys.executable, "-m", "bench.scale", "--one", str(peers), "--seed", str(arguments.seed)]
    command += ["--loss", str(arguments.loss), "--seconds", str(arguments.seconds)]
    command += ["--crashes", str(arguments.crashes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Measured)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure simulated clusters of up to 1,000 peers.")
    parser.add_argument("--peers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=600, help="virtual seconds of the idle phase")
    parser.add_argument("--crashes", type=int, default=20)
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="docs", help='folder for scale.json and the figures; "" for none')
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measured = measure(
            arguments.one, arguments.seed, arguments.loss, arguments.seconds, arguments.crashes
        )
        sys.stdout.write(json.dumps(msgspec.to_builtins(measured)) + "\n")
        return 0
    all_measured = [_measure_apart(arguments, peers) for peers in arguments.peers]
    sys.stdout.write(table(all_measured) + "\n")
    if arguments.out:
        folder = Path(arguments.out)
        text = json.dumps(msgspec.to_builtins(all_measured), indent=1) + "\n"
        (folder / "scale.json").write_text(text, encoding="utf-8")
        for name, figure in figures(all_measured).items():
            (folder / name).write_text(figure, encoding="utf-8")
    broken = broken_promises(all_measured)
    sys.stdout.write("".join(f"BROKEN: {line}\n" for line in broken))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
