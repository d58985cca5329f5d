"""Hash-tree leaves, kept in the same batch as the rows they sum up.

The token space is cut into 2**18 equal slices. A leaf holds, per table and slice, the sum modulo 2**64 of the
hashes of all records there (rows and headers; the hash covers key and bytes). A sum is updated by subtracting
the old record's hash and adding the new one's, needs no order, and, unlike exclusive-or, does not cancel when
one record is counted twice. Empty leaves have no record.

A second level sums 64 leaves each, so that the hash of half a ring costs thousands of reads and not hundreds
of thousands. The hash of a part is the sum of its leaves, and so does not depend on which level it was read
from.

What the sums cover is what is *stored*: two replicas that hold the same rows under the same partition
tombstone differ while one of them has still to sweep the covered rows away. That costs a comparison, never a
wrong repair (a row under a tombstone merges to nothing), and it ends, since sweeping always completes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import mmh3

from core.ports import Engine
from lsm.keys import tree_index, tree_key

LEAVES = 2**18
LEAVES_PER_BRANCH = 64

_LEAF, _BRANCH = 0, 1
_MASK = 2**64 - 1
_CACHE_MAX = 2**15

Puts = list[tuple[bytes, bytes | None]]


def leaf_of(token: int) -> int:
    """The slice of the token space in which a token lies, in [0, LEAVES)."""
    return (token + 2**63) >> 46


def leaf_tokens(leaf: int) -> tuple[int, int]:
    """The first and the last token of a slice."""
    first = (leaf << 46) - 2**63
    return first, first + 2**46 - 1


def record_hash(key: bytes, value: bytes) -> int:
    """64 bits over key and value; the key's length keeps one from running into the other."""
    return mmh3.hash64(len(key).to_bytes(4, "big") + key + value, 0, True, False)[0]


class HashTree:
    """The sums of one engine, with a bounded cache of those in use.

    Use: `stage` adds to a batch; after the engine took the batch, `commit`; otherwise drop what stage
    returned.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cache: dict[bytes, int] = {}

    def keys_needed(self, table: int, leaf: int) -> list[bytes]:
        """The records that a change in this leaf has to read from the engine."""
        keys = (tree_key(table, _LEAF, leaf), tree_key(table, _BRANCH, leaf // LEAVES_PER_BRANCH))
        return [key for key in keys if key not in self._cache]

    def stage(self, table: int, deltas: Mapping[int, int], puts: Puts) -> dict[bytes, int]:
        """Add to `puts` what these changes (leaf -> difference) make of the sums; returns them for
        `commit`.
        """
        sums: dict[bytes, int] = {}
        for leaf in sorted(deltas):
            delta = deltas[leaf]
            if delta & _MASK:
                for level, index in ((_LEAF, leaf), (_BRANCH, leaf // LEAVES_PER_BRANCH)):
                    key = tree_key(table, level, index)
                    before = sums[key] if key in sums else self._sum(key)
                    sums[key] = (before + delta) & _MASK
        for key, value in sums.items():
            puts.append((key, value.to_bytes(8, "big") if value else None))
        return sums

    def commit(self, sums: dict[bytes, int]) -> None:
        """The batch was written."""
        if len(self._cache) + len(sums) > _CACHE_MAX:
            self._cache.clear()
        self._cache.update(sums)

    def _sum(self, key: bytes) -> int:
        value = self._cache.get(key)
        if value is None:
            stored = self._engine.get(key)
            value = 0 if stored is None else int.from_bytes(stored, "big")
        return value

    def hashes(self, table: int, first: int, end: int, parts: int) -> tuple[int, ...]:
        """The sum of each of `parts` equal parts of the leaves [first, end)."""
        bounds = [first + (end - first) * i // parts for i in range(parts + 1)]
        return tuple(self._part(table, a, b) for a, b in pairwise(bounds))

    def _part(self, table: int, first: int, end: int) -> int:
        size = LEAVES_PER_BRANCH
        first_branch, end_branch = -(-first // size), end // size
        if first_branch >= end_branch:
            return self._scan(table, _LEAF, first, end)
        total = self._scan(table, _LEAF, first, first_branch * size)
        total += self._scan(table, _BRANCH, first_branch, end_branch)
        total += self._scan(table, _LEAF, end_branch * size, end)
        return total & _MASK

    def _scan(self, table: int, level: int, first: int, end: int) -> int:
        if first >= end:
            return 0
        records = self._engine.scan(tree_key(table, level, first), tree_key(table, level, end))
        return sum(int.from_bytes(value, "big") for _, value in records) & _MASK

    def leaves(self, table: int) -> dict[int, int]:
        """All leaves of a table that are not empty: for tests and tools."""
        records = self._engine.scan(tree_key(table, _LEAF, 0), tree_key(table, _LEAF, LEAVES))
        return {tree_index(key): int.from_bytes(value, "big") for key, value in records}
