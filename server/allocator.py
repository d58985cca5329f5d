"""Have the C library share two heaps among the threads and give back what is free at their ends.

By default glibc keeps a heap for each thread that was ever busy, and whatever those heaps grew to: after
loading documents a peer held 230 MiB of which 140 were in use. Threads here mostly wait for the interpreter's
lock, so two heaps are enough: with one, a thread of the inverted index and one of ours wait for each other at
every allocation, which costs a load a quarter of its speed. What is free in the middle of the heap it gives
back only when asked to: 10 of 140 MiB after loading the sample. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
from typing import Final

from core.limits import MIB

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX of <malloc.h>."""

SETTINGS: Final = ((_ARENA_MAX, 2), (_TRIM_THRESHOLD, 32 * MIB), (_MMAP_THRESHOLD, 4 * MIB))


def settle() -> bool:
    """Set it, before the first thread is started; False where the C library knows no such setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(name, value) == 1 for name, value in SETTINGS)


def give_back() -> bool:
    """Give free pages back to the kernel; False where the C library knows no such call.

    It holds up whoever allocates meanwhile, for a few milliseconds if much is free: for quiet moments.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError):
        return False
