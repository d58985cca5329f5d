"""Ids for documents that come without one: UUIDs of version 7 (RFC 9562), which sort by their time."""

from __future__ import annotations

import hashlib
import os
import time
import uuid


def new_id(now_ms: int | None = None) -> str:
    """An id that nobody else makes: 48 bits of time, 74 bits of chance."""
    when = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    chance = int.from_bytes(os.urandom(10), "big")
    bits = when << 80 | 7 << 76 | (chance >> 62 & 0xFFF) << 64 | 2 << 62 | chance & (1 << 62) - 1
    return str(uuid.UUID(int=bits))


def id_of_key(collection: str, key: bytes) -> str:
    """The id of a document that is made under an idempotency key: a retry makes the same one (version 8)."""
    digest = hashlib.blake2b(key, digest_size=16, person=b"document", salt=_salt(collection)).digest()
    bits = int.from_bytes(digest, "big")
    bits = bits & ~(0xF << 76) & ~(3 << 62) | 8 << 76 | 2 << 62
    return str(uuid.UUID(int=bits))


def _salt(collection: str) -> bytes:
    return hashlib.blake2b(collection.encode(), digest_size=16).digest()
