"""The order-preserving layout of record keys: what lies beside what on disk.

The first byte is a region. A row's key is

    R | table u32 | token u64 | partition key, escaped | suffix

with numbers big-endian and the token shifted by 2**63, so that bytes compare as tokens do. Escaping writes
0x00 as 0x00 0xFF and ends the text with 0x00 0x00: no escaped text is a prefix of another, and they compare
as the texts do. So a token range, a partition and a slice of it are each one contiguous scan. The suffix says
what the record is:

    00                        the partition header (only in tables with clustering columns)
    01                        the static row
    02 | clustering, encoded  a row; without clustering columns exactly 02
    03 | operation id         the record of an operation id (query/once.py): dead for readers, but to be kept
                              as long as ids are remembered, whatever else may be purged

Clustering components concatenate; each type has its own codec, all of them prefix-free and order-preserving,
and a descending component is its ascending encoding with every bit flipped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import Struct

from core.mutation import MutationId

ROW = b"R"
LOG = b"L"
LOG_BODY = b"B"
LOG_IMAGES = b"V"
LOG_REPAIRED = b"P"
MUTATION_ID = b"I"
TREE = b"H"
SWEEP = b"W"
PAXOS = b"X"
PROPOSAL = b"Y"
GARBAGE = b"G"
EXPIRY = b"D"
ENTRY = b"E"
SYSTEM = b"S"
META = b"M"
"""The regions: rows; log entries, their mutations, images and repaired rows; mutation ids; the hash tree;
sweeps to finish; Paxos state of partitions, and what they accepted and did not commit; rows with something
to purge; rows in which something runs out; entries of indexes; system records; what the store knows of
itself.
"""

HEADER_SUFFIX = b"\x00"
STATIC_SUFFIX = b"\x01"
ROW_SUFFIX = b"\x02"

TOKEN_MIN = -(2**63)
TOKEN_MAX = 2**63 - 1

_TERMINATOR = b"\x00\x00"
_TOKEN_AT = 5
_ESCAPED_AT = 13
PARTITION_AT = _ESCAPED_AT
"""Where the partition key begins in a row's key."""
_ENTRY_HEAD_BYTES = 9
_FLIP = bytes(255 - byte for byte in range(256))

_row_head = Struct(">cIQ")
_table_head = Struct(">cI")
_mutation_id = Struct(">cQQH")
_entry_head = Struct(">cII")
_offset = Struct(">cQ")
_tree = Struct(">cIBI")


def escaped(text: bytes) -> bytes:
    """Prefix-free and order-preserving: 0x00 becomes 0x00 0xFF, the end is 0x00 0x00."""
    return text.replace(b"\x00", b"\x00\xff") + _TERMINATOR


def unescaped(data: bytes, at: int = 0) -> tuple[bytes, int]:
    """The text of `escaped` at this offset and the offset after it; raises ValueError if there is none."""
    end = data.index(_TERMINATOR, at)
    body = data[at:end]
    text = body.replace(b"\x00\xff", b"\x00")
    if escaped(text) != data[at : end + 2]:
        raise ValueError("not an escaped text")
    return text, end + 2


def successor(prefix: bytes) -> bytes:
    """The first key after all keys with this prefix; raises ValueError if there is none."""
    kept = prefix.rstrip(b"\xff")
    if not kept:
        raise ValueError("no key follows this prefix")
    return kept[:-1] + bytes((kept[-1] + 1,))


# --- rows


def table_prefix(table: int) -> bytes:
    """What the keys of all rows of a table begin with."""
    return _table_head.pack(ROW, table)


def partition_prefix(table: int, token: int, partition: bytes) -> bytes:
    """What the keys of all records of a partition begin with; no other partition's key begins so."""
    return _row_head.pack(ROW, table, token + 2**63) + partition.replace(b"\x00", b"\x00\xff") + _TERMINATOR


def row_key(table: int, token: int, partition: bytes, suffix: bytes = ROW_SUFFIX) -> bytes:
    """The key of a row, static row or header."""
    return partition_prefix(table, token, partition) + suffix


def prefix_end(key: bytes) -> int:
    """How long the partition prefix of a row key is; raises ValueError if it is not a row key."""
    if not key.startswith(ROW):
        raise ValueError("not a row key")
    return key.index(_TERMINATOR, _ESCAPED_AT) + 2


def partition_begun(first: bytes) -> bytes:
    """The key prefix of the partition whose header lies before `first` and rows do not; b"" if there is none.

    Where a slice goes on inside a partition, that is the partition.
    """
    at = first.find(_TERMINATOR, _ESCAPED_AT)
    prefix = first[: at + 2]
    return prefix if at >= 0 and first > prefix + HEADER_SUFFIX else b""


def token_of(key: bytes) -> int:
    """The token in a row key or partition prefix."""
    return int.from_bytes(key[5:13], "big") - 2**63


def split_row_key(key: bytes) -> tuple[int, int, bytes, bytes]:
    """(table, token, partition key, suffix) of a row key; raises ValueError if it is not one."""
    if len(key) < _ESCAPED_AT or not key.startswith(ROW):
        raise ValueError("not a row key")
    partition, end = unescaped(key, _ESCAPED_AT)
    _, table, token = _row_head.unpack_from(key)
    return table, token - 2**63, partition, key[end:]


def token_range_bounds(table: int, first_token: int, last_token: int) -> tuple[bytes, bytes]:
    """[first, end) of all rows with tokens from `first_token` to `last_token`, both included."""
    first = _row_head.pack(ROW, table, first_token + 2**63)
    if last_token == TOKEN_MAX:
        return first, successor(table_prefix(table))
    return first, _row_head.pack(ROW, table, last_token + 1 + 2**63)


# --- clustering components


def clustering_text(value: str, descending: bool = False) -> bytes:
    """A component of type text: compares as its UTF-8 bytes do."""
    data = escaped(value.encode())
    return data.translate(_FLIP) if descending else data


def decode_clustering_text(data: bytes, at: int = 0, descending: bool = False) -> tuple[str, int]:
    """The text at this offset of a clustering key and the offset after it; raises ValueError if it is
    none.
    """
    text, end = unescaped(data[at:].translate(_FLIP) if descending else data[at:])
    return text.decode(), at + end


# --- everything else


mutation_key: Callable[[int, int, int], bytes] = partial(_mutation_id.pack, MUTATION_ID)
"""`mutation_key(start, sequence, attempt)`: where the log offset of a mutation id is kept."""


def mutation_id_key(mutation_id: MutationId) -> bytes:
    """The same of an id."""
    return mutation_key(*mutation_id)


def are_near(one: bytes, other: bytes, gap: int) -> bool:
    """Whether the keys of two mutation ids are of one start, and their sequences at most so far apart."""
    _, start, sequence, _ = _mutation_id.unpack(one)
    _, other_start, other_sequence, _ = _mutation_id.unpack(other)
    return bool(start == other_start and abs(other_sequence - sequence) <= gap)


def sequence_of(key: bytes) -> int:
    """The sequence in the key of a mutation id."""
    sequence: int = _mutation_id.unpack(key)[2]
    return sequence


log_key: Callable[[bytes, int], bytes] = _offset.pack
"""`log_key(region, offset)`: a record of one log offset in a region of the log."""


def offset_of(key: bytes) -> int:
    """The log offset in such a key."""
    return int.from_bytes(key[1:9], "big")


tree_key: Callable[[int, int, int], bytes] = partial(_tree.pack, TREE)
"""`tree_key(table, level, index)`: a hash-tree record; see lsm/hash_tree.py."""


def tree_index(key: bytes) -> int:
    """The index in such a key."""
    return int.from_bytes(key[6:10], "big")


def tree_place(key: bytes) -> tuple[int, int]:
    """(table, index) of such a key."""
    return int.from_bytes(key[1:5], "big"), tree_index(key)


def sweep_key(partition: bytes) -> bytes:
    """The note that rows of this partition (its key prefix) are covered by its header and still stored."""
    return SWEEP + partition


PAXOS_RECORD = b"\x00"
PAXOS_PROPOSAL = b"\x01"
PAXOS_COMMIT = b"\x02"
"""What is kept of Paxos per partition: the ballots, the accepted proposal, the last commit.

Proposals lie in a region of their own: there are few at a time, and whoever purges has to find them.
"""


def paxos_key(partition: bytes, slot: bytes) -> bytes:
    """Where one of these is kept for a partition (its key prefix)."""
    return (PROPOSAL if slot == PAXOS_PROPOSAL else PAXOS) + partition[1:] + slot


def paxos_bounds(region: bytes, table: int, first_token: int, last_token: int) -> tuple[bytes, bytes]:
    """[first, end) of what a region of Paxos holds for these tokens, both included."""
    first, end = token_range_bounds(table, first_token, last_token)
    return region + first[1:], region + end[1:]


def partition_of_paxos(key: bytes) -> bytes:
    """The key prefix of the partition whose Paxos record this is."""
    return ROW + key[1:-1]


def garbage_prefix(table: int, segment: int) -> bytes:
    """What notes of garbage begin with, of one of 256 equal segments of the token space."""
    return GARBAGE + table.to_bytes(4, "big") + bytes((segment,))


def garbage_key(row_key: bytes, due_us: int) -> bytes:
    """The note that something in a row, or header, is dead from a time on: G | table | segment | due | key.

    Within a segment of the token space notes are in order of time.
    """
    return GARBAGE + row_key[1:6] + due_us.to_bytes(8, "big") + row_key[5:]


def split_garbage(key: bytes) -> tuple[int, bytes]:
    """(due time, row key) of a note of garbage."""
    return int.from_bytes(key[6:14], "big"), ROW + key[1:5] + key[14:]


def expiry_key(due_us: int, row_key: bytes) -> bytes:
    """The note that something in a row runs out then: D | due | the row's key."""
    return EXPIRY + due_us.to_bytes(8, "big") + row_key[1:]


def split_expiry(key: bytes) -> tuple[int, bytes]:
    """(due time, row key) of such a note."""
    return int.from_bytes(key[1:9], "big"), ROW + key[9:]


# --- entries of indexes

TERM_BYTES_MAX = 1024
"""What of a term stands in its entry: longer ones are told apart by reading the row."""


def entry_prefix(table: int, index: int) -> bytes:
    """What the keys of all entries of an index begin with.

    E | table u32 | index u32 | term | token u64 | partition key, escaped | suffix: a term is one scan, by
    token. A record's value is the length of its term.
    """
    return _entry_head.pack(ENTRY, table, index)


def entry(prefix: bytes, term: bytes, row_key: bytes) -> tuple[bytes, bytes]:
    """The record that leads from a term to a row."""
    term = term[:TERM_BYTES_MAX]
    return prefix + term + row_key[_TOKEN_AT:], len(term).to_bytes(2, "big")


def split_entry(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    """(term, row key) of an entry; raises ValueError if it is none."""
    end = _ENTRY_HEAD_BYTES + int.from_bytes(value, "big")
    if len(value) != 2 or len(key) < end + 8:
        raise ValueError("not an entry of an index")
    return key[_ENTRY_HEAD_BYTES:end], ROW + key[1:_TOKEN_AT] + key[end:]


def system_key(key: bytes) -> bytes:
    """A system record."""
    return SYSTEM + key


FORMAT_KEY = META + b"format"
TRIMMED_KEY = META + b"trimmed"
NEWEST_KEY = META + b"newest"
