"""What is between real peers: network namespaces joined by a switch of ours, or proxies on loopback.

`Lines` tells either of them what is wrong, under the names that sim/network.py has for it: `block`, `slow`,
`loss`, `delay`, ... Each change is written at once as one line of JSON to the process that carries the
packets (switch.py) or the bytes (proxy.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from jepsen_like.real.janitor import Janitor
from jepsen_like.real.switch import CLIENTS, Faults

MS = 1_000
SLOW_US = 4 * MS
"""A link that is slow by a factor n takes n times this longer."""
DELAY_US = 2 * MS
END_S = 5.0


class Fabric(Protocol):
    """What peers are connected by."""

    kind: str
    addresses: list[str]
    """Of the peers."""

    def prefix(self, index: int) -> list[str]:
        """What a peer's command begins with."""

    def tell(self, faults: Faults) -> None:
        """What is wrong from now on."""

    def close(self) -> None:
        """Leave nothing behind."""


class Namespaces:
    """A namespace for each peer, and the switch."""

    kind = "namespaces"

    def __init__(self, count: int, janitor: Janitor) -> None:
        """Raises OSError where that is not permitted."""
        self._janitor = janitor
        number = os.getpid()
        self.prefix_bytes = f"10.{200 + number % 50}.{number // 50 % 250}"
        self.addresses = [f"{self.prefix_bytes}.{n}" for n in range(1, count + 1)]
        self._names = [f"slj-{number}-n{n}" for n in range(1, count + 1)]
        self._switch: subprocess.Popen[bytes] | None = None
        try:
            self._begin(f"slj{number}")
        except BaseException:
            self.close()
            raise

    def _begin(self, device: str) -> None:
        if shutil.which("ip") is None or not Path("/dev/net/tun").exists():
            raise OSError("there is no ip command, or no TUN device")
        for name in self._names:
            self._janitor.knows("namespace", name)
            _run(["ip", "netns", "add", name])
        command = [sys.executable, "-m", "jepsen_like.real.switch", self.prefix_bytes, device, *self._names]
        self._switch = start_helper(command)

    def prefix(self, index: int) -> list[str]:
        """Run in the peer's namespace."""
        return ["ip", "netns", "exec", self._names[index]]

    def tell(self, faults: Faults) -> None:
        """One line to the switch."""
        assert self._switch is not None
        tell_helper(self._switch, faults)

    def close(self) -> None:
        """End the switch and remove the namespaces."""
        if self._switch is not None:
            end_helper(self._switch)
            self._switch = None
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Loopback:
    """Loopback addresses; with a preloaded library there are proxies before the peers' ports."""

    kind = "loopback"

    def __init__(self, prefix: str, count: int, port: int, proxied: bool) -> None:
        self.addresses = [f"{prefix}.{n}" for n in range(1, count + 1)]
        self.kind = "proxies on loopback" if proxied else "loopback, without faults of the network"
        self._proxy: subprocess.Popen[bytes] | None = None
        if proxied:
            command = [sys.executable, "-m", "jepsen_like.real.proxy", str(port), *self.addresses]
            self._proxy = start_helper(command)

    def prefix(self, index: int) -> list[str]:
        """Nothing."""
        return []

    def tell(self, faults: Faults) -> None:
        """One line to the proxies."""
        if self._proxy is not None:
            tell_helper(self._proxy, faults)

    def close(self) -> None:
        """End the proxies."""
        if self._proxy is not None:
            end_helper(self._proxy)
            self._proxy = None


def start_helper(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a process of ours that says "ready" in its first line; raises OSError with what it said else."""
    top = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(top), *filter(None, [os.environ.get("PYTHONPATH")])])
    helper = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert helper.stdout is not None and helper.stderr is not None
    if helper.stdout.readline().strip() != b"ready":
        helper.kill()
        said = helper.stderr.read().decode(errors="replace").strip().splitlines()
        helper.wait()
        raise OSError(said[-1] if said else "it ended at once")
    return helper


def tell_helper(helper: subprocess.Popen[bytes], faults: Faults) -> None:
    """Write one line."""
    assert helper.stdin is not None
    helper.stdin.write(msgspec.json.encode(faults) + b"\n")
    helper.stdin.flush()


def end_helper(helper: subprocess.Popen[bytes]) -> None:
    """It ends with its input."""
    assert helper.stdin is not None
    with contextlib.suppress(OSError):
        helper.stdin.close()
    try:
        helper.wait(END_S)
    except subprocess.TimeoutExpired:
        helper.kill()
        helper.wait()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class Lines:
    """The network of a cluster, as a nemesis sees it: by the peers' indexes, from 0."""

    def __init__(self, fabric: Fabric, seed: int) -> None:
        self._fabric = fabric
        self._faults = Faults(seed=seed)
        self._blocked: dict[tuple[int, int], bool] = {}
        self._delay = 1
        self._tell()

    def _tell(self, **changes: Any) -> None:
        self._faults = msgspec.structs.replace(self._faults, **changes)
        blocked = [(a + 1, b + 1) for a, b in self._blocked]
        self._fabric.tell(msgspec.structs.replace(self._faults, blocked=blocked))

    def block(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Cut these ordered pairs."""
        self._blocked.update(dict.fromkeys(pairs, True))
        self._tell()

    def unblock_all(self) -> None:
        """Heal all cuts."""
        self._blocked.clear()
        self._tell()

    def unblock(self, machine: int) -> None:
        """Heal all cuts from and to one machine."""
        self._blocked = {pair: True for pair in self._blocked if machine not in pair}
        self._tell()

    def slow(self, machine: int, factor: int) -> None:
        """Everything to and from a machine takes longer (1: as before)."""
        slow_us = {**self._faults.slow_us, machine + 1: (factor - 1) * SLOW_US}
        self._tell(slow_us={number: us for number, us in slow_us.items() if us})

    def passes(self, source: int, target: int) -> bool:
        """Whether a message from one machine would reach the other."""
        return (source, target) not in self._blocked

    def reset(self, source: int, target: int) -> None:
        """Break the connections between two machines."""
        pair = (source + 1, target + 1)
        self._fabric.tell(msgspec.structs.replace(self._faults, reset=[pair], blocked=self._pairs()))

    def _pairs(self) -> list[tuple[int, int]]:
        return [(a + 1, b + 1) for a, b in self._blocked]

    def as_ever(self) -> None:
        """Nothing is wrong with messages; cuts stay."""
        self._delay = 1
        self._tell(loss=0.0, duplication=0.0, reordering=0.0, delay_us=0, slow_us={})

    @property
    def loss(self) -> float:
        """The share of packets that are lost."""
        return self._faults.loss

    @loss.setter
    def loss(self, share: float) -> None:
        self._tell(loss=share)

    @property
    def duplication(self) -> float:
        """The share of packets that come twice."""
        return self._faults.duplication

    @duplication.setter
    def duplication(self, share: float) -> None:
        self._tell(duplication=share)

    @property
    def reordering(self) -> float:
        """The share of packets that are overtaken."""
        return self._faults.reordering

    @reordering.setter
    def reordering(self, share: float) -> None:
        self._tell(reordering=share)

    @property
    def delay(self) -> int:
        """By how much everything takes longer; 1: not at all."""
        return self._delay

    @delay.setter
    def delay(self, factor: int) -> None:
        self._delay = factor
        self._tell(delay_us=(factor - 1) * DELAY_US, jitter_us=(factor - 1) * DELAY_US // 2)


__all__ = ["CLIENTS", "Fabric", "Faults", "Lines", "Loopback", "Namespaces"]
