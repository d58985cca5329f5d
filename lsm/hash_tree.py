"""Hash-tree leaves, kept in the same batch as the rows they sum up.

The token space is cut into 2**18 equal slices. A leaf holds, per table and slice, the sum modulo 2**64 of the
hashes of all records there (rows and headers; the hash covers key and bytes). A sum is updated by subtracting
the old record's hash and adding the new one's, needs no order, and, unlike exclusive-or, does not cancel when
one record is counted twice. Empty leaves have no record.

A second level sums 64 leaves each, so that the hash of half a ring costs thousands of reads and not hundreds
of thousands. The hash of a part is the sum of its leaves, and so does not depend on which level it was read
from. Branches in use are kept in memory, which are those of which hashes are asked again and again while
writes go on: then a question costs tens of microseconds, and not 10 ms of the event loop.

What the sums cover is what is *stored*: two replicas that hold the same rows under the same partition
tombstone differ while one of them has still to sweep the covered rows away. That costs a comparison, never a
wrong repair (a row under a tombstone merges to nothing), and it ends, since sweeping always completes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from itertools import pairwise

import mmh3

from core.ports import Engine
from lsm.keys import tree_index, tree_key

LEAVES = 2**18
LEAVES_PER_BRANCH = 64

_LEAF, _BRANCH = 0, 1
_TOTAL = LEAVES_PER_BRANCH
"""Where the sum of a branch stands behind its leaves, in memory."""

LEAVES_AT_ONCE = 4 * LEAVES_PER_BRANCH
"""Up to so many leaves are read one by one and together, whatever parts they are asked for in."""

SPARSE_BRANCHES = 64

_MASK = 2**64 - 1
_NOTHING = bytes(8 * LEAVES_PER_BRANCH + 8)
_BRANCHES_MAX = 2**13
"""Branches kept in memory, of 64 sums each: 6 MiB at most."""

Puts = list[tuple[bytes, bytes | None]]
Sums = list[tuple["array[int]", int, int]]
"""Where a sum is kept in memory, and its new value."""


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


def _added(sums: list[int]) -> tuple[int, int]:
    """The sum of sums, and how many of them are not 0."""
    return sum(sums) & _MASK, len(sums) - sums.count(0)


def _name(table: int, branch: int) -> int:
    return table << 12 | branch


def _zeros() -> array[int]:
    """A branch without anything in it."""
    return array("Q", _NOTHING)


class HashTree:
    """The sums of one engine, with those of the branches in use kept in memory.

    A branch is read whole, by one scan, when it is first changed; not where nothing at all was stored of the
    table when it was first looked at, as with one that is new: its branches begin empty.

    Use: `stage` adds to a batch; after the engine took the batch, `commit`; otherwise drop what `stage`
    returned.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._branches: dict[int, array[int]] = {}
        self._empty: dict[int, bool] = {}
        """Tables: whether whatever is stored of them is in memory, too."""

    def keys_needed(self, table: int, leaf: int) -> tuple[bytes, ...]:
        """The ends of what a change in this leaf has to read from the engine."""
        branch = leaf // LEAVES_PER_BRANCH
        if table << 12 | branch in self._branches or self._empty.get(table):
            return ()
        first = branch * LEAVES_PER_BRANCH
        return tree_key(table, _LEAF, first), tree_key(table, _LEAF, first + LEAVES_PER_BRANCH - 1)

    def stage(self, table: int, deltas: Mapping[int, int], puts: Puts) -> Sums:
        """Add to `puts` what these changes (leaf -> difference) make of the sums; returns the new leaves for
        `commit`.
        """
        sums: Sums = []
        branches: dict[int, int] = {}
        for leaf, delta in deltas.items():
            if delta & _MASK:
                branch, at = divmod(leaf, LEAVES_PER_BRANCH)
                leaves = self._branches.get(_name(table, branch)) or self._load(table, branch)
                value = (leaves[at] + delta) & _MASK
                sums.append((leaves, at, value))
                puts.append((tree_key(table, _LEAF, leaf), value.to_bytes(8, "big") if value else None))
                branches[branch] = branches.get(branch, leaves[_TOTAL]) + delta
        for branch, total in branches.items():
            value = total & _MASK
            sums.append((self._branches[_name(table, branch)], _TOTAL, value))
            puts.append((tree_key(table, _BRANCH, branch), value.to_bytes(8, "big") if value else None))
        return sums

    def stage_one(self, table: int, leaf: int, delta: int, puts: Puts) -> Sums:
        """As `stage`, for a change in one leaf, as most are."""
        delta &= _MASK
        if not delta:
            return []
        branch, at = leaf // LEAVES_PER_BRANCH, leaf % LEAVES_PER_BRANCH
        leaves = self._branches.get(table << 12 | branch) or self._load(table, branch)
        value = (leaves[at] + delta) & _MASK
        total = (leaves[_TOTAL] + delta) & _MASK
        puts += (
            (tree_key(table, _LEAF, leaf), value.to_bytes(8, "big") if value else None),
            (tree_key(table, _BRANCH, branch), total.to_bytes(8, "big") if total else None),
        )
        return [(leaves, at, value), (leaves, _TOTAL, total)]

    def branch(self, table: int, leaf: int) -> array[int] | None:
        """The sums of the branch in which a leaf lies, if they are in memory: for `change`."""
        name = table << 12 | leaf // LEAVES_PER_BRANCH
        found = self._branches.get(name)
        if found is None and self._empty.get(table):
            found = self._branches[name] = _zeros()
        return found

    @staticmethod
    def change(leaves: array[int], table: int, leaf: int, delta: int, puts: Puts) -> None:
        """As `stage_one` and `commit`, within a group: if the engine refuses that, all is forgotten."""
        branch, at = leaf // LEAVES_PER_BRANCH, leaf % LEAVES_PER_BRANCH
        leaves[at] = value = (leaves[at] + delta) & _MASK
        leaves[_TOTAL] = total = (leaves[_TOTAL] + delta) & _MASK
        puts += (
            (tree_key(table, _LEAF, leaf), value.to_bytes(8, "big") if value else None),
            (tree_key(table, _BRANCH, branch), total.to_bytes(8, "big") if total else None),
        )

    @staticmethod
    def commit(sums: Sums) -> None:
        """The batch was written."""
        for leaves, at, value in sums:
            leaves[at] = value

    def forget(self) -> None:
        """What is in memory is not what is stored: read it again."""
        self._branches.clear()
        self._empty.clear()

    def trim(self) -> None:
        """Keep no more than is to be kept; not within a group of writes, whose sums are in memory only."""
        while len(self._branches) > _BRANCHES_MAX:
            name = next(iter(self._branches))
            del self._branches[name]
            self._empty[name >> 12] = False

    def _is_empty(self, table: int) -> bool:
        """Whether nothing is stored of a table but what is in memory."""
        empty = self._empty.get(table)
        if empty is None:
            empty = next(self._scan(table, _LEAF, 0, LEAVES), None) is None
            self._empty[table] = empty
        return empty

    def _load(self, table: int, branch: int) -> array[int]:
        leaves = _zeros()
        if self._is_empty(table):
            self._branches[_name(table, branch)] = leaves
            return leaves
        first = branch * LEAVES_PER_BRANCH
        end = tree_key(table, _LEAF, first + LEAVES_PER_BRANCH)
        for key, value in self._engine.scan(tree_key(table, _LEAF, first), end):
            leaves[tree_index(key) - first] = int.from_bytes(value, "big")
        leaves[_TOTAL] = sum(leaves) & _MASK
        self._branches[_name(table, branch)] = leaves
        return leaves

    def sums(self, table: int, first: int, end: int, parts: int) -> list[tuple[int, int]]:
        """Of each of `parts` equal parts of the leaves [first, end) its sum, and about in how many places
        there are rows: leaves, or branches where there are so many that few of them mean few rows.
        """
        bounds = [first + (end - first) * i // parts for i in range(parts + 1)]
        if end - first > LEAVES_AT_ONCE:
            return [self._part(table, a, b) for a, b in pairwise(bounds)]
        leaves = self._leaves(table, first, end)
        return [_added(leaves[a - first : b - first]) for a, b in pairwise(bounds)]

    def _part(self, table: int, first: int, end: int) -> tuple[int, int]:
        size = LEAVES_PER_BRANCH
        first_branch, end_branch = -(-first // size), end // size
        if first_branch >= end_branch:
            return _added(self._leaves(table, first, end))
        total, filled = _added(self._totals(table, first_branch, end_branch))
        if end_branch - first_branch < SPARSE_BRANCHES:
            filled *= size  # any number of leaves may be filled in each
        for a, b in ((first, first_branch * size), (end_branch * size, end)):
            more, places = _added(self._leaves(table, a, b))
            total, filled = (total + more) & _MASK, filled + places
        return total, filled

    def _leaves(self, table: int, first: int, end: int) -> list[int]:
        """The sums of some leaves: of branches in memory from there, of all others by one scan each."""
        found: list[int] = []
        while first < end:
            branch, at = divmod(first, LEAVES_PER_BRANCH)
            count = min(LEAVES_PER_BRANCH - at, end - first)
            kept = self._branches.get(_name(table, branch))
            if kept is not None:
                found += kept[at : at + count]
            else:
                some = [0] * count
                for index, value in self._scan(table, _LEAF, first, first + count):
                    some[index - first] = value
                found += some
            first += count
        return found

    def _totals(self, table: int, first: int, end: int) -> list[int]:
        """The sums of some branches; those that are not in memory are scanned run by run."""
        found: list[int] = []
        run, branches = first, self._branches
        for branch in range(first, end):
            name = table << 12 | branch
            if name in branches:
                if run < branch:
                    found += self._stored(table, run, branch)
                found.append(branches[name][_TOTAL])
                run = branch + 1
        return found + self._stored(table, run, end)

    def _stored(self, table: int, first: int, end: int) -> list[int]:
        """What is stored of branches."""
        return [value for _, value in self._scan(table, _BRANCH, first, end)]

    def _scan(self, table: int, level: int, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(index, sum) of what is stored of a level."""
        if first < end:
            for key, value in self._engine.scan(tree_key(table, level, first), tree_key(table, level, end)):
                yield tree_index(key), int.from_bytes(value, "big")

    def stored_leaf(self, table: int, leaf: int) -> int:
        """What is stored of one leaf."""
        data = self._engine.get(tree_key(table, _LEAF, leaf))
        return 0 if data is None else int.from_bytes(data, "big")

    def leaves(self, table: int) -> dict[int, int]:
        """All leaves of a table that are not empty: for tests and tools."""
        records = self._engine.scan(tree_key(table, _LEAF, 0), tree_key(table, _LEAF, LEAVES))
        return {tree_index(key): int.from_bytes(value, "big") for key, value in records}
