"""What runs beside us in the same minute: the prototype, and three members of etcd where it is installed.

Both get the same machine, folder and two cores. etcd is measured by its own `etcdctl check perf --load=l`,
which puts values of 1 KiB from 500 clients and wants 8,000 a second.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.load import Figures
from bench.peers import draw_ports
from bench.prototype.load import run_prototype_load
from bench.prototype.server import REPLICAS

START_S: Final = 20.0
DIAL_PAUSE_S: Final = 0.05
ETCD_CHECK_S: Final = 180.0


async def prototype(folder: Path, writes: int, depths: Sequence[int]) -> dict[int, Figures]:
    """Figures of the prototype with so many writes in flight per connection."""
    port = _consecutive_ports(2 * REPLICAS)
    children = _start_prototype(folder, port)
    try:
        await _first_load(port + REPLICAS)
        return {depth: await run_prototype_load(port + REPLICAS, writes, depth) for depth in depths}
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def _start_prototype(folder: Path, port: int) -> list[subprocess.Popen[bytes]]:
    children = []
    for number in range(REPLICAS):
        place = folder / f"prototype{number}"
        command = [sys.executable, "-m", "bench.prototype.server", str(number), str(port), str(place)]
        children.append(subprocess.Popen(command))
    return children


def _consecutive_ports(count: int) -> int:
    while True:
        [first] = draw_ports(["127.0.0.1"], 1)
        if all(_free(first + index) for index in range(1, count)):
            return first


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def _first_load(port: int) -> None:
    """Wait until all replicas serve, by a little load that succeeds."""
    end = time.monotonic() + START_S
    while True:
        try:
            await run_prototype_load(port, 300, 8)
        except OSError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(DIAL_PAUSE_S)
        else:
            return


def etcd(folder: Path) -> dict[str, Any]:
    """Writes per second of a three-member etcd and its memory; `skipped` says why there are none."""
    server, control = shutil.which("etcd"), shutil.which("etcdctl")
    if server is None or control is None:
        return {"skipped": "etcd-server and etcd-client are not installed"}
    ports = draw_ports(["127.0.0.1"], 2 * REPLICAS)
    peers = [f"http://127.0.0.1:{port}" for port in ports[:REPLICAS]]
    clients = [f"http://127.0.0.1:{port}" for port in ports[REPLICAS:]]
    initial = ",".join(f"m{n}={url}" for n, url in enumerate(peers))
    children = []
    for number, (peer, client) in enumerate(zip(peers, clients, strict=True)):
        command = [server, "--name", f"m{number}", "--data-dir", str(folder / f"etcd{number}")]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--initial-cluster", initial, "--logger", "zap", "--log-level", "error"]
        with (folder / f"etcd{number}.log").open("wb") as log:
            children.append(subprocess.Popen(command, stdout=log, stderr=log))
    try:
        return _checked(control, ",".join(clients), [child.pid for child in children])
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def _checked(control: str, endpoints: str, pids: list[int]) -> dict[str, Any]:
    environment = {**os.environ, "ETCDCTL_API": "3"}
    end = time.monotonic() + START_S
    healthy = [control, "--endpoints", endpoints, "endpoint", "health"]
    while subprocess.run(healthy, env=environment, capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            return {"skipped": "etcd did not become healthy"}
        time.sleep(DIAL_PAUSE_S)
    check = [control, "--endpoints", endpoints, "check", "perf", "--load=l"]
    done = subprocess.run(
        check, env=environment, capture_output=True, text=True, check=False, timeout=ETCD_CHECK_S
    )
    text = done.stdout + done.stderr
    memory = [_memory_mib(pid) for pid in pids]
    rate = re.search(r"(?:Throughput is|Throughput too low:) (\d+) writes/s", text)
    slowest = re.search(r"(?:Slowest request took|too slow:?) ([\d.]+)s", text)
    if rate is None:
        return {"skipped": f"etcdctl said: {text.strip()[-300:]}"}
    return {
        "writes_per_s": int(rate[1]),
        "slowest_s": float(slowest[1]) if slowest else None,
        "memory_mib": memory,
    }


def _memory_mib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return 0
