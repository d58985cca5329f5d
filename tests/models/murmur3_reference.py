"""murmur3_x64_128 with Cassandra's sign extension, written from the definition: slow, plain, step by step."""

from __future__ import annotations

WORD = 2**64
C1 = 0x87C37B91114253D5
C2 = 0x4CF5AD432745937F


def rotate_left(word: int, bits: int) -> int:
    word %= WORD
    return (word << bits) % WORD + (word >> (64 - bits))


def mix_first(k1: int) -> int:
    return rotate_left(k1 * C1, 31) * C2 % WORD


def mix_second(k2: int) -> int:
    return rotate_left(k2 * C2, 33) * C1 % WORD


def finalize(word: int) -> int:
    word ^= word >> 33
    word = word * 0xFF51AFD7ED558CCD % WORD
    word ^= word >> 33
    word = word * 0xC4CEB9FE1A85EC53 % WORD
    word ^= word >> 33
    return word


def signed(byte: int) -> int:
    """A byte as Java reads it, sign-extended to 64 bits."""
    return (byte - 256 if byte > 0x7F else byte) % WORD


def tail_word(tail: bytes) -> int:
    word = 0
    for position, byte in enumerate(tail):
        word ^= (signed(byte) << (8 * position)) % WORD
    return word


def token_of(key: bytes) -> int:
    """The token that Cassandra's Murmur3Partitioner gives to a partition key."""
    if not key:
        return -(2**63)
    h1 = h2 = 0
    blocks = len(key) // 16
    for block in range(blocks):
        k1 = int.from_bytes(key[16 * block : 16 * block + 8], "little")
        k2 = int.from_bytes(key[16 * block + 8 : 16 * block + 16], "little")
        h1 ^= mix_first(k1)
        h1 = (rotate_left(h1, 27) + h2) % WORD
        h1 = (h1 * 5 + 0x52DCE729) % WORD
        h2 ^= mix_second(k2)
        h2 = (rotate_left(h2, 31) + h1) % WORD
        h2 = (h2 * 5 + 0x38495AB5) % WORD
    tail = key[16 * blocks :]
    if len(tail) > 8:
        h2 ^= mix_second(tail_word(tail[8:]))
    if tail:
        h1 ^= mix_first(tail_word(tail[:8]))
    h1 ^= len(key)
    h2 ^= len(key)
    h1 = (h1 + h2) % WORD
    h2 = (h2 + h1) % WORD
    h1 = finalize(h1)
    h2 = finalize(h2)
    h1 = (h1 + h2) % WORD
    token = h1 - WORD if h1 >= WORD // 2 else h1
    return 2**63 - 1 if token == -(2**63) else token
