"""Tokens: positions on the ring, equal bit for bit to those of Cassandra's Murmur3Partitioner.

A token is the first half of murmur3_x64_128 (seed 0) of the partition key as a signed 64-bit number, with
three peculiarities of Cassandra's, kept because drivers compute tokens too and route by them:

- The bytes of the *tail* (the last ``len % 16``) are sign-extended before they are xored into their word, so
  a tail byte above 0x7f flips every bit above it. Full blocks are read as everyone else reads them.
- -2**63 is no token of a key: a hash of that value becomes 2**63 - 1.
- The empty key, which no table can hold as a whole partition key, has the minimum token.

Where no tail byte is above 0x7f the textbook hash in C is the token. Otherwise only the tail differs, so the
state after the full blocks is taken from the C hash of those blocks by running its finalization backwards
(every step of it is a bijection), and a dozen lines of integer arithmetic do the rest: the cost does not grow
with the key.

Ranges are as in Cassandra: start exclusive, end inclusive. The token space is cut into ``SLICES`` equal
slices, the leaves of the hash trees. Slice k is the inclusive interval ``[slice_start(k), slice_end(k)]``.
Vnode tokens are always some ``slice_end(k)``, so every vnode's range is a whole number of slices and no slice
has two owners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mmh3

MIN_TOKEN = -(2**63)
"""The least position; only the empty key has it, every other key lies above."""

MAX_TOKEN = 2**63 - 1
"""The greatest position, inclusive."""

SLICE_BITS = 18
SLICES = 1 << SLICE_BITS
"""How many equal slices the token space has."""

_SLICE_SHIFT = 64 - SLICE_BITS

COMPONENT_BYTES_MAX = 0xFFFF
"""The longest component of a composite partition key, in bytes."""

_MASK = 2**64 - 1
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F
_FMIX_1 = 0xFF51AFD7ED558CCD
_FMIX_2 = 0xC4CEB9FE1A85EC53
_UNFMIX_1 = pow(_FMIX_1, -1, 2**64)
_UNFMIX_2 = pow(_FMIX_2, -1, 2**64)
_EACH_BYTE = 0x0101010101010101


def token_of(partition_key: bytes) -> int:
    """The token of an encoded partition key, in [MIN_TOKEN, MAX_TOKEN]."""
    length = len(partition_key)
    if partition_key[length & -16 :].isascii():
        token = mmh3.hash64(partition_key)[0]
        if token == MIN_TOKEN:
            return MAX_TOKEN
        return token if length else MIN_TOKEN
    return _token_of_quirky_tail(partition_key, length)


def _token_of_quirky_tail(key: bytes, length: int) -> int:
    body_length = length & -16
    h1, h2 = _state_after_blocks(key[:body_length]) if body_length else (0, 0)
    if length - body_length > 8:
        k2 = _sign_extended_word(key[body_length + 8 :]) * _C2 & _MASK
        h2 ^= ((k2 << 33 | k2 >> 31) * _C1) & _MASK
    k1 = _sign_extended_word(key[body_length : body_length + 8]) * _C1 & _MASK
    h1 ^= ((k1 << 31 | k1 >> 33) * _C2) & _MASK
    h1 ^= length
    h2 ^= length
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    token = (_fmix(h1) + _fmix(h2)) & _MASK
    if token <= MAX_TOKEN:
        return token
    return token - 2**64 if token != 2**63 else MAX_TOKEN


def _sign_extended_word(tail: bytes) -> int:
    """Up to eight bytes as a little-endian word, each sign-extended to 64 bits and all xored together.

    A negative byte flips every bit above it, so byte j is inverted if an odd number of negative bytes lie
    below it: the product counts them for all j at once.
    """
    word = int.from_bytes(tail, "little")
    negative = word >> 7 & _EACH_BYTE
    return word ^ (negative * _EACH_BYTE << 8 & _EACH_BYTE) * 0xFF


def _state_after_blocks(body: bytes) -> tuple[int, int]:
    """(h1, h2) after `body`, which has full blocks only: the finalization of its hash, run backwards."""
    h1, h2 = mmh3.hash64(body, signed=False)
    h2 = (h2 - h1) & _MASK
    h1 = (h1 - h2) & _MASK
    h1 = _unfmix(h1)
    h2 = _unfmix(h2)
    h2 = (h2 - h1) & _MASK
    h1 = (h1 - h2) & _MASK
    length = len(body)
    return h1 ^ length, h2 ^ length


def _fmix(word: int) -> int:
    word = (word ^ word >> 33) * _FMIX_1 & _MASK
    word = (word ^ word >> 33) * _FMIX_2 & _MASK
    return word ^ word >> 33


def _unfmix(word: int) -> int:
    """The inverse of `_fmix`: a shift by 33 of 64 bits undoes itself, the factors are odd."""
    word = (word ^ word >> 33) * _UNFMIX_2 & _MASK
    word = (word ^ word >> 33) * _UNFMIX_1 & _MASK
    return word ^ word >> 33


def partition_key(components: Sequence[bytes]) -> bytes:
    """The encoded partition key: a single component as it is, several as (u16 length, bytes, 0x00) each.

    Raises ValueError if one of several components is longer than COMPONENT_BYTES_MAX.
    """
    if len(components) == 1:
        return components[0]
    parts: list[bytes] = []
    for component in components:
        if len(component) > COMPONENT_BYTES_MAX:
            raise ValueError(f"a partition key component of {len(component)} bytes is too long")
        parts.append(len(component).to_bytes(2, "big"))
        parts.append(component)
        parts.append(b"\x00")
    return b"".join(parts)


def partition_key_components(key: bytes, count: int) -> tuple[bytes, ...]:
    """The `count` components that `partition_key` encoded. Raises ValueError if `key` is no such encoding."""
    if count == 1:
        return (key,)
    components: list[bytes] = []
    at = 0
    while at < len(key):
        end = at + 2 + int.from_bytes(key[at : at + 2], "big")
        if key[end : end + 1] != b"\x00":
            raise ValueError(f"partition key damaged at byte {at}")
        components.append(key[at + 2 : end])
        at = end + 1
    if len(components) != count:
        raise ValueError(f"a partition key of {len(components)} components where {count} are expected")
    return tuple(components)


def slice_of(token: int) -> int:
    """The slice that `token` lies in, 0 to SLICES - 1."""
    return (token - MIN_TOKEN) >> _SLICE_SHIFT


def slice_start(slice_number: int) -> int:
    """The first token of a slice, inclusive."""
    return (slice_number << _SLICE_SHIFT) + MIN_TOKEN


def slice_end(slice_number: int) -> int:
    """The last token of a slice, inclusive: where a vnode's token may lie."""
    return (slice_number + 1 << _SLICE_SHIFT) + MIN_TOKEN - 1


def is_slice_end(token: int) -> bool:
    """Whether a vnode may have this token."""
    return token == slice_end(slice_of(token))


@dataclass(frozen=True, slots=True, order=True)
class TokenRange:
    """Tokens after `start` up to and including `end`; around the end of the ring where start >= end.

    start == end is the whole ring, as in Cassandra.
    """

    start: int
    end: int

    def contains(self, token: int) -> bool:
        """Whether `token` lies in the range."""
        if self.start < self.end:
            return self.start < token <= self.end
        return token > self.start or token <= self.end

    def unwrap(self) -> tuple[tuple[int, int], ...]:
        """The same tokens as one or two inclusive (first, last) intervals without wrap, in token order."""
        if self.start < self.end:
            return ((self.start + 1, self.end),)
        if self.start in (self.end, MAX_TOKEN):
            return ((MIN_TOKEN, self.end if self.start != self.end else MAX_TOKEN),)
        return ((MIN_TOKEN, self.end), (self.start + 1, MAX_TOKEN))

    @property
    def width(self) -> int:
        """How many tokens the range holds, 1 to 2**64."""
        return (self.end - self.start - 1) % 2**64 + 1
