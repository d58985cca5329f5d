"""Ids for documents that come without one: UUIDs of version 7 (RFC 9562), which sort by their time."""

from __future__ import annotations

import os
import time
import uuid


def new_id(now_ms: int | None = None) -> str:
    """An id that nobody else makes: 48 bits of time, 74 bits of chance."""
    when = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    chance = int.from_bytes(os.urandom(10), "big")
    bits = when << 80 | 7 << 76 | (chance >> 62 & 0xFFF) << 64 | 2 << 62 | chance & (1 << 62) - 1
    return str(uuid.UUID(int=bits))
