"""`python -m bench`: measure a real cluster of three on this machine, beside what it is compared with.

Everything runs in one temporary folder and goes away, but for the JSON file that is asked for. `--quick`
takes well under a minute; the whole takes three, most of which is etcd's own check.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvloop

from bench import changes, documents, micro, queue, repair, rivals, scenarios, stages
from bench.peers import Peers, Process
from bench.scenarios import Loaded

CONNECTIONS_PER_PEER: Final = 8
"""As many as the prototype's load has writes in flight per connection."""

MANY_CONNECTIONS_PER_PEER: Final = 64
SAMPLE: Final = Path(__file__).resolve().parent.parent / "sample" / "movies.ndjson.gz"
SCENARIOS: Final = (
    *("micro", "stages", "prototype", "cql", "writes", "bulk", "reads", "big", "slow", "memory", "single"),
    *("changes", "etcd", "documents", "queue", "repair"),
)
NOT_QUICK: Final = ("etcd", "documents", "queue", "repair")


def main(arguments: list[str]) -> int:
    """Measure, print a table, write JSON; the exit status."""
    about = "measure a real cluster on this machine"
    parser = argparse.ArgumentParser(prog="python -m bench", description=about)
    parser.add_argument("--quick", action="store_true", help="smaller loads, no etcd, documents if asked for")
    parser.add_argument("--only", help=f"some of {','.join(SCENARIOS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--folder", type=Path, help="where data goes; else the system's temporary folder")
    text = f"documents to search ({documents.COUNT} with --only, else {documents.COUNT_AMONG_OTHERS})"
    parser.add_argument("--documents", type=int, default=0, metavar="N", help=text)
    chosen = parser.parse_args(arguments)
    wanted = tuple(chosen.only.split(",")) if chosen.only else SCENARIOS
    if unknown := [name for name in wanted if name not in SCENARIOS]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(SCENARIOS)}")
    if chosen.quick and not chosen.only:
        wanted = tuple(name for name in wanted if name not in NOT_QUICK)
    with tempfile.TemporaryDirectory(prefix="sullae-bench-", dir=chosen.folder) as folder:
        is_small = chosen.quick or not chosen.only
        count = chosen.documents or (documents.COUNT_AMONG_OTHERS if is_small else documents.COUNT)
        found = _Run(Path(folder), wanted, 4 if chosen.quick else 1, count).all()
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(scenarios.as_json(found) + "\n")
    return 0


class _Run:
    """One run: what is wanted, and what was found so far."""

    def __init__(self, folder: Path, wanted: tuple[str, ...], divide: int, documents: int) -> None:
        self._documents = documents
        self._folder = folder
        self._wanted = wanted
        self._divide = divide
        self.found: dict[str, Any] = {"machine": scenarios.machine()}

    def all(self) -> dict[str, Any]:
        """Run everything that is wanted."""
        say(f"machine: {self.found['machine']}")
        if "micro" in self._wanted:
            self._micro()
        if "stages" in self._wanted:
            self._stages()
        if {"cql", "writes", "bulk", "reads", "big", "slow", "memory"} & {*self._wanted}:
            with Peers(self._folder / "cluster") as peers:
                self.found["ready_s"] = round(peers.up(), 2)
                say(f"three peers ready in {self.found['ready_s']} s")
                asyncio.run(self._cluster(peers))
        elif "prototype" in self._wanted:
            asyncio.run(self._prototype())
        if "single" in self._wanted:
            with Peers(self._folder / "single", count=1) as peers:
                peers.up()
                asyncio.run(self._single(peers))
        if "changes" in self._wanted:
            with Peers(self._folder / "changes") as peers:
                peers.up()
                asyncio.run(self._changes(peers))
        if "etcd" in self._wanted:
            (self._folder / "etcd").mkdir()
            self.found["etcd"] = rivals.etcd(self._folder / "etcd")
            say(f"etcd, three members, etcdctl check perf --load=l: {self.found['etcd']}")
        if "documents" in self._wanted:
            self._search()
        if "queue" in self._wanted:
            with Peers(self._folder / "queue") as peers:
                peers.up()
                self.found["queue"] = asyncio.run(queue.measure(peers, queue.ITEMS // self._divide**2))
                for line, figure in self.found["queue"].items():
                    say(f"queue: {line}: {figure}")
        if "repair" in self._wanted:
            with Peers(self._folder / "repair", settings=repair.SETTINGS) as peers:
                peers.up()
                self.found["repair"] = asyncio.run(repair.measure(peers, repair.ROWS // self._divide))
                for line, figure in self.found["repair"].items():
                    say(f"repair: {line}: {figure}")
        self._compare()
        return self.found

    async def _changes(self, peers: Peers) -> None:
        """Change streams: how soon, how many, at what cost."""
        say(HEADER)
        measured = await changes.latency(peers, 20_000 // self._divide, 2_000)
        reading = await changes.reading(peers, 60_000 // self._divide)
        cost = await changes.cost(peers, 12_000 // self._divide)
        self.found["changes"] = {"latency": measured, "reading": reading, "cost": cost}
        say(row("change stream at 2,000 writes/s", measured))
        say(changes.told(measured.figures))
        say(f"one subscriber from the start (wanted 20,000 events/s): {reading}")
        for kind, figures in cost.items():
            say(f"writes with changes = {kind}: {figures}")

    def _search(self) -> None:
        """Documents and search: one peer, then three with replication factor 3."""
        corpus = documents.Corpus(SAMPLE, self._documents)
        for count in (1, 3):
            with Peers(self._folder / f"documents{count}", count=count) as peers:
                peers.up()
                name = f"{corpus.count} documents, {'one peer' if count == 1 else 'three peers, RF 3'}"
                say(f"\n{name}{HEADER}")
                found = asyncio.run(documents.measure(peers, corpus, 20.0 / self._divide))
                self.found[name] = found
                for line, measured in found.items():
                    say(row(line, measured))
                for line in documents.verdict(found) if count == 1 else ():
                    say(line)

    def _micro(self) -> None:
        found = micro.run(4000 // self._divide)
        found["http library: a trivial request and its client"] = asyncio.run(
            micro.rest_overhead(8000 // self._divide)
        )
        self.found["micro_us"] = found
        say("\nmicroseconds of processor time for one")
        for name, us in found.items():
            say(f"  {name:<48}{us:>10.2f}")

    def _stages(self) -> None:
        self.found["stages_us"] = found = stages.run()
        say("\nmicroseconds of processor time for one prepared statement of 1 KiB, by stage")
        for name in found["INSERT"]:
            say(f"  {name:<30}INSERT {found['INSERT'][name]:>6.1f}   SELECT {found['SELECT'][name]:>6.1f}")

    async def _single(self, peers: Peers) -> None:
        """One peer, replication factor 1: what a process on one core can do."""
        say(HEADER)
        writes = await scenarios.cql_writes(peers, 64_000 // self._divide, MANY_CONNECTIONS_PER_PEER)
        reads = await scenarios.cql_reads(peers, 96_000 // self._divide, MANY_CONNECTIONS_PER_PEER, 4000)
        for name, measured in (("one peer, cql writes", writes), ("one peer, cql reads", reads)):
            self.found[name] = measured
            say(row(name, measured))

    async def _cluster(self, peers: Peers) -> None:
        divide = self._divide
        if "memory" in self._wanted:
            await self._memory(peers)
        say(HEADER)
        if "prototype" in self._wanted:
            await self._prototype()
        few, many, each = CONNECTIONS_PER_PEER, MANY_CONNECTIONS_PER_PEER, 32_000 // divide
        loads: dict[str, Callable[[], Any]] = {
            "cql writes": lambda: scenarios.cql_writes(peers, each, few),
            "cql writes, many": lambda: scenarios.cql_writes(peers, each, many, first=each),
            "cql writes, many, over rows": lambda: scenarios.cql_writes(peers, each, many),
            "cql reads": lambda: scenarios.cql_reads(peers, 48_000 // divide, few, 4000),
            "cql reads, many": lambda: scenarios.cql_reads(peers, 48_000 // divide, many, 4000),
            "cql writes, 4,000/s": lambda: scenarios.cql_writes(peers, each, 0, first=2 * each, per_s=4000),
            "cql reads, 5,000/s": lambda: scenarios.cql_reads(peers, 40_000 // divide, 0, 4000, 5000),
            "writes": lambda: scenarios.writes(peers, each, CONNECTIONS_PER_PEER),
            "writes, many": lambda: scenarios.writes(peers, each, MANY_CONNECTIONS_PER_PEER),
            "bulk": lambda: scenarios.bulk(peers, 24_000 // divide, 1, CONNECTIONS_PER_PEER),
            "bulk, many": lambda: scenarios.bulk(peers, 48_000 // divide, 4, MANY_CONNECTIONS_PER_PEER),
            "reads": lambda: scenarios.reads(peers, 48_000 // divide, CONNECTIONS_PER_PEER, 4000),
            "reads, many": lambda: scenarios.reads(peers, 48_000 // divide, MANY_CONNECTIONS_PER_PEER, 4000),
        }
        for name, load in loads.items():
            if name.replace(",", "").split()[0] in self._wanted:
                self.found[name] = measured = await load()
                say(row(f"QUORUM {name}", measured))
        if "big" in self._wanted:
            self.found["big_read"] = await scenarios.big_read(peers, sent_bytes)
            say(f"sent between peers for a QUORUM read of 1 MiB: {self.found['big_read']}")
        if "slow" in self._wanted:
            self.found["slow"] = await scenarios.slow_replica(peers, 8000 // divide, 1000)
            say(f"QUORUM reads, one replica answering after up to 1 s: {self.found['slow']}")

    async def _memory(self, peers: Peers) -> None:
        with gzip.open(SAMPLE) as file:
            lines = file.read().splitlines()
        items = [(f"/v1/kv/sample/{number}", line) for number, line in enumerate(lines)]
        await scenarios.put_all(peers, items)
        self.found["idle_memory_mib"] = scenarios.idle_memory(peers)
        say(f"memory after loading the sample: {self.found['idle_memory_mib']} MiB")

    async def _prototype(self) -> None:
        (self._folder / "prototype").mkdir()
        depths = (CONNECTIONS_PER_PEER, MANY_CONNECTIONS_PER_PEER)
        found = await rivals.prototype(self._folder / "prototype", 12_000 // self._divide, depths)
        self.found["prototype"] = {str(depth): figures for depth, figures in found.items()}
        for depth, figures in found.items():
            measured = Loaded(figures=figures, cpu_percent={}, memory_mib={})
            say(row(f"prototype, {depth} in flight x 3", measured))

    def _compare(self) -> None:
        """Our writes beside the prototype's and etcd's, of the same minutes."""
        prototype, etcd = self.found.get("prototype"), self.found.get("etcd", {})
        ratios: dict[str, float] = {}
        for name in ("cql writes", "writes"):
            few, many = self.found.get(name), self.found.get(f"{name}, many")
            if prototype and few:
                like = prototype[str(CONNECTIONS_PER_PEER)].per_s
                ratios[f"{name} to the prototype's, as many in flight"] = few.figures.per_s / like
            if "writes_per_s" in etcd and many:
                ratios[f"{name}, many, to etcd's"] = many.figures.per_s / etcd["writes_per_s"]
        self.found["ratios"] = {name: round(ratio, 2) for name, ratio in ratios.items()}
        for name, ratio in ratios.items():
            say(f"{name}: {ratio:.2f}")


def sent_bytes(peer: Process) -> float:
    """Bytes this peer has sent to others, by its own account."""
    return peer.metrics()["sullae_peer_bytes_sent_total"]


HEADER: Final = f"\n{'':<30}{'per s':>9}{'p50 ms':>9}{'p99 ms':>9}{'p999 ms':>9}  cpu %, memory MiB"


def row(name: str, measured: Loaded) -> str:
    """A line of the table."""
    figures = measured.figures
    numbers = f"{figures.per_s:>9.0f}{figures.p50_ms:>9.2f}{figures.p99_ms:>9.2f}{figures.p999_ms:>9.2f}"
    costs = " ".join(f"{name}:{value:.0f}" for name, value in measured.cpu_percent.items())
    memory = "/".join(str(value) for value in measured.memory_mib.values())
    return f"{name:<30}{numbers}  {costs}  {memory}"


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.install()
    sys.exit(main(sys.argv[1:]))
