"""A switch in user space: every packet between peers passes here, and what befalls it is told line by line.

Each peer lives in a network namespace of its own with one TUN device; the clients have one outside. This
process holds the other ends. It reads IP packets, looks at the last byte of their destination, and writes
them to that device: at once, later, twice, or never. So cuts, loss, delay, duplication and reordering need
neither rules of a firewall nor a kernel with netem, and a one-way cut is one pair. Packets of the clients
(`CLIENTS`) pass untouched.

    python -m jepsen_like.real.switch 10.213.7 slj-77-n1 slj-77-n2 slj-77-n3

Standard input takes one JSON object per line, the whole of `Faults` each time, with `reset` naming pairs
whose next packet is answered by a TCP reset to both. It ends with its input.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import subprocess
import sys
import time
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from struct import Struct

import msgspec

CLIENTS = 254
"""The last byte of the clients' address."""

DEVICE = "slj"
MTU = 1_500
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
READS_PER_TURN = 64
BACKLOG_MAX = 100_000
"""Packets under way; more are lost, as in any switch."""

TCP = 6
SYN, RST, ACK = 2, 4, 16
_PORTS = Struct(">HHII")
_WORDS = Struct(">10H")


class Faults(msgspec.Struct, kw_only=True):
    """What befalls packets between peers, by their numbers (1 and up)."""

    blocked: list[tuple[int, int]] = []
    """Ordered pairs (from, to) whose packets are lost."""
    slow_us: dict[int, int] = {}
    """How much later everything to and from a peer comes."""
    delay_us: int = 0
    jitter_us: int = 0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reorder_us: int = 20_000
    reset: list[tuple[int, int]] = []
    seed: int = 0


class Switch:
    """See the top of the file. `devices` are descriptors by the last byte of an address."""

    def __init__(self, devices: dict[int, int]) -> None:
        self._devices = devices
        self._faults = Faults()
        self._blocked: dict[tuple[int, int], bool] = {}
        self._reset: dict[tuple[int, int], bool] = {}
        self._random = Random(0)
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def take(self, faults: Faults) -> None:
        """Other faults from now on."""
        if faults.seed != self._faults.seed:
            self._random = Random(faults.seed)
        self._faults = faults
        self._blocked = dict.fromkeys(faults.blocked, True)
        self._reset.update(dict.fromkeys(faults.reset, True))

    def packet(self, data: bytes, now: float) -> None:
        """A packet that some device sent."""
        if len(data) < 20 or data[0] >> 4 != 4:
            return
        source, target = data[15], data[19]
        if target not in self._devices:
            return
        if CLIENTS in (source, target):
            self._write(target, data)
            return
        if self._reset and self._reset.pop((source, target), False):
            self._send_resets(data, source, target)
            return
        faults, random = self._faults, self._random.random
        if (source, target) in self._blocked or (faults.loss and random() < faults.loss):
            return
        delay_us = faults.delay_us + faults.slow_us.get(source, 0) + faults.slow_us.get(target, 0)
        if faults.jitter_us:
            delay_us += int(random() * faults.jitter_us)
        if faults.reordering and random() < faults.reordering:
            delay_us += int(random() * faults.reorder_us)
        self._send(target, data, now, delay_us)
        if faults.duplication and random() < faults.duplication:
            self._send(target, data, now, delay_us + int(random() * faults.reorder_us))

    def _send(self, target: int, data: bytes, now: float, delay_us: int) -> None:
        if delay_us <= 0:
            self._write(target, data)
        elif len(self._waiting) < BACKLOG_MAX:
            self._count += 1
            heappush(self._waiting, (now + delay_us / 1e6, self._count, target, data))

    def _write(self, target: int, data: bytes) -> None:
        try:
            os.write(self._devices[target], data)
        except OSError:
            self._count += 1  # the device's queue is full, or it is down: the packet is lost

    def due(self, now: float) -> float | None:
        """Write what is due; how long until the next packet is."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            _, _, target, data = heappop(waiting)
            self._write(target, data)
        return waiting[0][0] - now if waiting else None

    def _send_resets(self, data: bytes, source: int, target: int) -> None:
        """Tell both ends of a TCP connection that it is over."""
        head = (data[0] & 15) * 4
        if data[9] != TCP or len(data) < head + 20 or data[head + 13] & (SYN | RST):
            return
        from_port, to_port, sequence, acknowledged = _PORTS.unpack_from(data, head)
        there, back = data[12:16] + data[16:20], data[16:20] + data[12:16]
        self._write(target, tcp_reset(there, from_port, to_port, sequence))
        self._write(source, tcp_reset(back, to_port, from_port, acknowledged))


def tcp_reset(addresses: bytes, from_port: int, to_port: int, sequence: int) -> bytes:
    """An IPv4 packet with a TCP reset; `addresses` are source and destination, 8 bytes."""
    tcp = _PORTS.pack(from_port, to_port, sequence, 0) + bytes([5 << 4, RST | ACK, 0, 0, 0, 0, 0, 0])
    pseudo = addresses + bytes([0, TCP, 0, len(tcp)])
    tcp = tcp[:16] + _checksum(pseudo + tcp) + tcp[18:]
    head = bytes([0x45, 0, 0, 20 + len(tcp), 0, 0, 0, 0, 64, TCP, 0, 0]) + addresses
    return head[:10] + _checksum(head) + head[12:] + tcp


def _checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


# --- devices


def open_tun(name: str) -> int:
    """A TUN device of this name in the present network namespace."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    wanted = name.encode().ljust(16, b"\0") + (IFF_TUN | IFF_NO_PI).to_bytes(2, sys.byteorder) + bytes(22)
    fcntl.ioctl(descriptor, TUNSETIFF, wanted)
    return descriptor


def enter(namespace: Path) -> None:
    """Be in this network namespace from now on."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, f"cannot enter {namespace}: {os.strerror(error)}")
    finally:
        os.close(descriptor)


def _configure(device: str, address: str) -> None:
    for command in (
        ["ip", "addr", "add", f"{address}/24", "dev", device],
        ["ip", "link", "set", device, "mtu", str(MTU), "txqueuelen", "2000", "up"],
        ["ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(command, check=True, capture_output=True)


def open_all(prefix: str, namespaces: list[str], own_device: str) -> dict[int, int]:
    """The devices of all namespaces, and of the clients in this one."""
    here, devices = Path("/proc/self/ns/net"), {}
    home = os.open(here, os.O_RDONLY | os.O_CLOEXEC)
    for number, name in enumerate(namespaces, start=1):
        enter(Path("/run/netns") / name)
        devices[number] = open_tun(DEVICE)
        _configure(DEVICE, f"{prefix}.{number}")
    enter(Path(f"/proc/self/fd/{home}"))
    devices[CLIENTS] = open_tun(own_device)
    _configure(own_device, f"{prefix}.{CLIENTS}")
    return devices


def serve(devices: dict[int, int]) -> None:
    """Until standard input ends."""
    switch, selector = Switch(devices), selectors.DefaultSelector()
    for descriptor in devices.values():
        selector.register(descriptor, selectors.EVENT_READ)
    orders = sys.stdin.fileno()
    selector.register(orders, selectors.EVENT_READ)
    text, decoder = b"", msgspec.json.Decoder(Faults)
    print("ready", flush=True)
    pause: float | None = None
    while True:
        for key, _ in selector.select(pause):
            if key.fd == orders:
                more = os.read(orders, 65_536)
                if not more:
                    return
                *lines, text = (text + more).split(b"\n")
                for line in lines:
                    switch.take(decoder.decode(line))
                continue
            _drain(switch, key.fd)
        pause = switch.due(time.monotonic())


def _drain(switch: Switch, descriptor: int) -> None:
    for _ in range(READS_PER_TURN):
        try:
            data = os.read(descriptor, 65_536)
        except BlockingIOError:
            return
        switch.packet(data, time.monotonic())


if __name__ == "__main__":
    serve(open_all(sys.argv[1], sys.argv[3:], sys.argv[2]))
