"""Three real peers become six and three again, under load and with kills in between. Part of `make soak`.

SULLAE_GROW=1 runs it; SULLAE_GROW_KILLS says how many peers are killed while ranges move each way (3),
SULLAE_GROW_ROWS how many rows lie there at first.

A client is one that knows all peers: it turns to the next if one cannot be reached or does not serve. So what
it counts as unavailable is the time from its first attempt to its first success.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.process.cluster import Client, Cluster, Known, LostError, lost, running, until, write

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("SULLAE_GROW"), reason="set SULLAE_GROW=1 (part of make soak)"),
]

KILLS = int(os.environ.get("SULLAE_GROW_KILLS", "3"))
ROWS = int(os.environ.get("SULLAE_GROW_ROWS", "3000"))
PATIENCE_S = 600
UNAVAILABLE_S = 2.0
BALANCE = 0.15
NEWCOMERS = ("n4", "n5", "n6")


class Load(threading.Thread):
    """Unique keys, each written and at once read back through another peer, until told to stop."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        super().__init__(name=f"load-{number}", daemon=True)
        self.acknowledged: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self.slowest: list[tuple[float, str]] = []
        self.operations = 0
        self._cluster = cluster
        self._number = number
        self._clients: dict[str, Client] = {}
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.005):
            self.operations += 1
            key, value = f"l{self._number}/{self.operations}", os.urandom(200)
            began = time.monotonic()
            told = self._until_done(lambda client, key=key, value=value: self._put(client, key, value))
            self._note(began, f"write of {key}: {told}")
            began = time.monotonic()
            told = self._until_done(lambda client, key=key: self._get(client, key))
            self._note(began, f"read of {key}: {told}")

    def stop(self) -> None:
        self._stopped.set()
        self.join(60)
        for client in self._clients.values():
            client.close()

    def _until_done(self, attempt: Any) -> str:
        """Peer after peer; the answers that were none."""
        told: list[str] = []
        while len(told) < 200 and not self._stopped.is_set():
            peer = self._cluster.peers[(self.operations + len(told)) % len(self._cluster.peers)]
            why = "down" if not peer.running else attempt(self._client(peer.name))
            if not why:
                return "; ".join(told[-3:])
            told.append(f"{peer.name}: {why}")
            time.sleep(0.02 if why == "down" else 0.05)
        return "; ".join(told[-6:])

    def _client(self, name: str) -> Client:
        found = self._clients.get(name)
        if found is None:
            found = self._clients[name] = self._cluster.client(name, 2.5)
        return found

    def _put(self, client: Client, key: str, value: bytes) -> str:
        known, why = write(client, key, value)
        if known is Known.ACKNOWLEDGED:
            self.acknowledged[key] = value
            return ""
        return why[:200] or known.value

    def _get(self, client: Client, key: str) -> str:
        try:
            reply = client.get(key)
        except LostError as error:
            return str(error)
        if reply.status in (503, 504):
            return reply.body.decode()[:200]
        if key in self.acknowledged and reply.body != self.acknowledged[key]:
            self.wrong.append(f"{key} through {client.peer.name}: {reply.status} {reply.body[:80]!r}")
        return ""

    def _note(self, began: float, what: str) -> None:
        self.slowest = sorted([*self.slowest, (round(time.monotonic() - began, 2), what)], reverse=True)[:5]


def sullae(cluster: Cluster, *words: str) -> dict[str, Any]:
    urls = [word for peer in cluster.peers[:3] for word in ("--url", f"http://{peer.address}:{peer.rest}")]
    done = CliRunner().invoke(app, ["cluster", *words, *urls, "--json"])
    said = done.stdout.strip().splitlines()
    return json.loads(said[-1]) if done.exit_code == 0 and said else {"failed": str(done.exception)}


def ask(cluster: Cluster, path: str) -> dict[str, Any]:
    """Of whichever of the first three answers."""
    for peer in cluster.peers[:3]:
        try:
            status, body = peer.request(path)
        except OSError:
            continue
        if status == 200:
            found = json.loads(body)
            assert isinstance(found, dict)
            return found
    return {}


def move(cluster: Cluster, plan: tuple[str, ...], dice: random.Random) -> float:
    """Plan, commit, and kill one peer after the other until it is finished; the seconds it took."""
    until(lambda: "plan" in sullae(cluster, "plan", *plan), lambda: str(sullae(cluster, "plan", *plan)), 60)
    until(lambda: "epoch" in sullae(cluster, "commit"), "it has begun", 60)
    began = time.monotonic()
    killed = 0
    while (told := ask(cluster, "/v1/admin/moves")).get("move") is not None or not told:
        if killed < KILLS:
            victim = dice.choice([peer for peer in cluster.peers if peer.running]).name
            cluster.kill(victim)
            time.sleep(dice.uniform(0.5, 2.0))
            cluster.start(victim)
            killed += 1
            print(f"{time.monotonic() - began:.1f} s: {victim} was killed, {told}", flush=True)
            until(lambda victim=victim: cluster[victim].health() != {}, f"{victim} is back", 60)  # type: ignore[misc]
        time.sleep(dice.uniform(0.5, 2.0))
        assert time.monotonic() - began < PATIENCE_S, told
    return time.monotonic() - began


def balance(cluster: Cluster) -> dict[str, float]:
    """By peer, how far what it holds is from the mean, as a fraction of it."""
    owned = {peer["name"]: float(peer["owns"]) for peer in ask(cluster, "/v1/admin/status")["peers"]}
    mean = sum(owned.values()) / len(owned)
    return {name: round(share / mean - 1, 4) for name, share in owned.items()}


def test_three_peers_become_six_and_three_again_under_load_and_kills(tmp_path: Path) -> None:
    dice = random.Random(os.environ.get("SULLAE_GROW_SEED", "grow"))
    with running(tmp_path) as cluster:
        with cluster.client("n1") as client:
            for number in range(ROWS):
                assert write(client, f"k{number}", b"%d" % number * 50)[0] is Known.ACKNOWLEDGED
        crew = [Load(cluster, number) for number in range(3)]
        for one in crew:
            one.start()
        for name in NEWCOMERS:
            cluster.add()
            cluster.start(name)
        grown_s = move(cluster, ("add", *NEWCOMERS), dice)
        cluster.wait_ready(*NEWCOMERS, timeout_s=60)
        six = balance(cluster)
        shrunk_s = move(cluster, ("remove", *NEWCOMERS), dice)
        three = balance(cluster)
        cluster.wait_ready("n1", "n2", "n3", timeout_s=60)
        for one in crew:
            one.stop()
        known = {f"k{number}": b"%d" % number * 50 for number in range(ROWS)}
        for one in crew:
            known |= one.acknowledged
        slowest = sorted((pair for one in crew for pair in one.slowest), reverse=True)
        operations = 2 * sum(one.operations for one in crew)
        print(
            f"3 to 6 in {grown_s:.1f} s, back in {shrunk_s:.1f} s, {2 * KILLS} kills, {operations} operations"
        )
        print(f"balance of six {six}, of three {three}; slowest {slowest[:5]}")
        assert [wrong for one in crew for wrong in one.wrong] == []
        assert lost(cluster, known, ("n1", "n2", "n3")) == []
        assert len(six) == 6 and len(three) == 3
        assert max(map(abs, six.values())) <= BALANCE and max(map(abs, three.values())) <= BALANCE
        assert slowest[0][0] <= UNAVAILABLE_S, slowest
