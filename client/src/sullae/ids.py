"""Ids for documents that come without one: UUIDs of version 7 (RFC 9562), which sort by their time."""

from __future__ import annotations

import os
import time
import uuid


def new_id() -> str:
    """An id that nobody else makes: 48 bits of time, 74 bits of chance."""
    chance = int.from_bytes(os.urandom(10), "big")
    bits = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | (chance >> 62 & 0xFFF) << 64
    return str(uuid.UUID(int=bits | 2 << 62 | chance & (1 << 62) - 1))
