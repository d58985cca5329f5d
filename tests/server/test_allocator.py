"""What the C library is told takes effect, where it is glibc."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
