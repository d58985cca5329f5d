"""What the C library is told takes effect, where it is glibc."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.limits import MIB
from server import allocator, process

PROGRAM = """
import ctypes, threading
from server import allocator
if not allocator.settle():
    raise SystemExit(77)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
here = libc.malloc(100)
found = []
all_there = threading.Barrier(6)
def work():
    all_there.wait()
    found.append(libc.malloc(100))
    all_there.wait()
threads = [threading.Thread(target=work) for _ in range(6)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
others = {one >> 26 for one in found if abs(one - here) >= 1 << 27}
assert len(others) <= 1, (hex(here), [hex(one) for one in found])
"""


def test_all_threads_share_two_heaps() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr


MIDDLE = """
from pathlib import Path
from server import allocator
if not allocator.settle():
    raise SystemExit(77)
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096
held = [bytes(5000) for _ in range(20_000)]
kept = held[::50]
del held
before = resident()
assert allocator.give_back()
assert resident() < before - 50_000_000, (before, resident())
"""


def test_what_is_free_in_the_middle_is_given_back_when_asked() -> None:
    done = subprocess.run([sys.executable, "-c", MIDDLE], capture_output=True, text=True, check=False)
    if done.returncode == 77 or not Path("/proc/self/statm").exists():
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr


class _Loop:
    """Does at once what a thread is given, and notes what is due later."""

    def __init__(self) -> None:
        self.later: list[tuple[Any, ...]] = []

    def run_in_executor(self, _: None, function: Callable[[], None]) -> None:
        function()

    def call_later(self, _: float, function: Callable[..., None], *arguments: Any) -> None:
        self.later.append((function, *arguments))

    def go_on(self) -> None:
        function, *arguments = self.later.pop()
        function(*arguments)


def test_a_peer_gives_back_at_quiet_times_and_when_it_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    peer: Any = process.PeerProcess.__new__(process.PeerProcess)
    rests: list[int] = []
    given: list[int] = []
    resident = 100 * MIB
    peer.disk = SimpleNamespace(syncs=0, rest=lambda: rests.append(1))
    peer._kept_bytes = resident
    monkeypatch.setattr(process, "resident_bytes", lambda: resident)
    monkeypatch.setattr(allocator, "give_back", lambda: given.append(1))
    loop: Any = _Loop()
    peer._give_back(loop, 0)
    assert (len(rests), len(given)) == (1, 1), "it is quiet"
    peer.disk.syncs = 1_000
    loop.go_on()
    assert (len(rests), len(given)) == (1, 1), "it is busy, and no larger than before"
    peer.disk.syncs, resident = 2_000, resident + process.GROWN_BYTES + 1
    loop.go_on()
    assert (len(rests), len(given)) == (1, 2), "it has grown"
    peer.disk.syncs = 3_000
    loop.go_on()
    assert (len(rests), len(given)) == (1, 2), "that is what it has now"
