"""Which peers hold a key: the token of a key and the ring, so that a request may go to a replica at once.

Only a preference depends on this: every peer answers for every key, one that holds it just sooner. So the
walk is the plain one: clockwise from the token, peers that stand in racks not seen yet first.

The token is Murmur3 (x64, 128 bits, the first half) as Cassandra's Murmur3Partitioner has it, which differs
from the textbook for tail bytes above 0x7f: they are taken as signed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final

_MASK: Final = 2**64 - 1
_C1: Final = 0x87C37B91114253D5
_C2: Final = 0x4CF5AD432745937F
REPLICAS: Final = 3
"""So many are preferred: buckets and collections have three replicas unless told otherwise."""


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _mixed(value: int) -> int:
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


def token_of(key: bytes) -> int:
    """The token of a partition key, -2^63 < token < 2^63."""
    h1 = h2 = 0
    whole = len(key) // 16 * 16
    for at in range(0, whole, 16):
        k1 = int.from_bytes(key[at : at + 8], "little")
        k2 = int.from_bytes(key[at + 8 : at + 16], "little")
        h1 ^= _rotated(k1 * _C1 & _MASK, 31) * _C2 & _MASK
        h1 = ((_rotated(h1, 27) + h2) * 5 + 0x52DCE729) & _MASK
        h2 ^= _rotated(k2 * _C2 & _MASK, 33) * _C1 & _MASK
        h2 = ((_rotated(h2, 31) + h1) * 5 + 0x38495AB5) & _MASK
    k1, k2 = _tail(key[whole : whole + 8]), _tail(key[whole + 8 :])
    h2 ^= _rotated(k2 * _C2 & _MASK, 33) * _C1 & _MASK
    h1 ^= _rotated(k1 * _C1 & _MASK, 31) * _C2 & _MASK
    h1 ^= len(key)
    h2 ^= len(key)
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    h1, h2 = _mixed(h1), _mixed(h2)
    token = h1 + h2 & _MASK
    token -= 2**64 if token >= 2**63 else 0
    return 2**63 - 1 if token == -(2**63) else token


def _tail(data: bytes) -> int:
    """Bytes as signed numbers, each shifted to its place, exclusive-or'ed."""
    found = 0
    for at, byte in enumerate(data):
        found ^= (byte - 256 if byte > 127 else byte) << 8 * at
    return found & _MASK


class Ring:
    """The vnodes of one epoch."""

    def __init__(
        self,
        tokens: tuple[int, ...] = (),
        owners: tuple[str, ...] = (),
        racks: Mapping[str, str] | None = None,
        epoch: int = -1,
    ) -> None:
        """`tokens` ascend; each is the end of a range of the peer in `owners`."""
        self.epoch = epoch
        self._tokens = tokens
        self._owners = owners
        self._racks = racks or {}
        self._found: dict[int, tuple[str, ...]] = {}

    @classmethod
    def of(cls, cluster: Mapping[str, Any], ring: Mapping[str, Any]) -> Ring:
        """From what `/v1/cluster` and `/v1/admin/ring` say."""
        racks = {peer["name"]: f"{peer.get('datacentre')}/{peer.get('rack')}" for peer in cluster["peers"]}
        vnodes = sorted((int(vnode["token"]), str(vnode["peer"])) for vnode in ring["vnodes"])
        tokens, owners = tuple(token for token, _ in vnodes), tuple(name for _, name in vnodes)
        return cls(tokens, owners, racks, int(ring["epoch"]))

    def replicas(self, key: str) -> tuple[str, ...]:
        """The names of the peers that hold a key, as far as can be told; none if the ring is not known."""
        if not self._tokens:
            return ()
        token = token_of(key.encode("utf-8", "surrogatepass"))
        at = bisect_left(self._tokens, token) % len(self._tokens)
        found = self._found.get(at)
        if found is None:
            found = self._found[at] = self._walk(at)
        return found

    def _walk(self, start: int) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for at in range(start, start + len(self._owners)):
            names.setdefault(self._owners[at % len(self._owners)])
        in_order = list(names)
        racks: dict[str, str] = {}
        for name in in_order:
            racks.setdefault(self._racks.get(name, ""), name)
        firsts = list(racks.values())
        rest = [name for name in in_order if name not in firsts]
        return tuple((firsts + rest)[:REPLICAS])
