"""Summaries that add up: DDSketch for percentiles, hashes and HyperLogLog for distinct values.

DDSketch (Masson, Rim and Lee 2019): a value x > 0 is counted in bucket ceil(log_g x), g = (1 + a) / (1 - a);
the middle of a bucket is within a share `a` of all values in it. HyperLogLog (Flajolet et al. 2007): of
64-bit hashes, the first HLL_BITS choose a register, which keeps the greatest number of leading zeros of the
rest, plus one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain, islice
from typing import Final

import mmh3

from index.aggregation import (
    DISTINCT_EXACT_MAX,
    HLL_BITS,
    SKETCH_ACCURACY,
    SKETCH_EXACT_MAX,
    Distinct,
    Sketch,
)
from index.floats import GREATEST, as_float
from index.query import Value

_GAMMA: Final = (1 + SKETCH_ACCURACY) / (1 - SKETCH_ACCURACY)
_LOG_GAMMA: Final = math.log(_GAMMA)
_LOG_GREATEST: Final = math.log(GREATEST)
_TINY: Final = 1e-300
_REST_BITS: Final = 64 - HLL_BITS
_REGISTERS: Final = 1 << HLL_BITS
_ALPHA: Final = 0.7213 / (1 + 1.079 / _REGISTERS)


def sketch_of(values: Iterable[float]) -> Sketch:
    """The sketch of these numbers."""
    numbers = iter(values)
    first = sorted(map(as_float, islice(numbers, SKETCH_EXACT_MAX + 1)))
    if len(first) <= SKETCH_EXACT_MAX:
        return _exact(first)
    return _counted(chain(first, numbers))


def _exact(ascending: list[float]) -> Sketch:
    if not ascending:
        return Sketch()
    return Sketch(low=ascending[0], high=ascending[-1], exact=tuple(ascending))


def _counted(values: Iterable[float]) -> Sketch:
    positive: dict[int, int] = {}
    negative: dict[int, int] = {}
    zeros = 0
    low = high = None
    for value in values:
        number = as_float(value)
        low = number if low is None or number < low else low
        high = number if high is None or number > high else high
        if abs(number) < _TINY:
            zeros += 1
            continue
        buckets = positive if number > 0 else negative
        bucket = math.ceil(math.log(abs(number)) / _LOG_GAMMA)
        buckets[bucket] = buckets.get(bucket, 0) + 1
    return Sketch(positive, negative, zeros, low, high)


def merge_sketches(parts: Iterable[Sketch]) -> Sketch:
    """The sketch of all values."""
    parts = list(parts)
    few = sum(len(part.exact) for part in parts)
    if few <= SKETCH_EXACT_MAX and all(part.exact or part.low is None for part in parts):
        return _exact(sorted(value for part in parts for value in part.exact))
    parts = [_counted(part.exact) if part.exact else part for part in parts]
    positive: dict[int, int] = {}
    negative: dict[int, int] = {}
    zeros = 0
    lows: list[float] = []
    highs: list[float] = []
    for part in parts:
        for total, some in ((positive, part.positive), (negative, part.negative)):
            for bucket, count in some.items():
                total[bucket] = total.get(bucket, 0) + count
        zeros += part.zeros
        lows += [] if part.low is None else [part.low]
        highs += [] if part.high is None else [part.high]
    return Sketch(positive, negative, zeros, min(lows, default=None), max(highs, default=None))


def _ascending(sketch: Sketch) -> list[tuple[float, int]]:
    """(middle, count) of all buckets, by value; of few values themselves."""
    if sketch.exact:
        return [(value, 1) for value in sketch.exact]
    found = [(-_middle(bucket), count) for bucket, count in sorted(sketch.negative.items(), reverse=True)]
    if sketch.zeros:
        found.append((0.0, sketch.zeros))
    found += [(_middle(bucket), count) for bucket, count in sorted(sketch.positive.items())]
    return found


def _middle(bucket: int) -> float:
    return math.exp(min(bucket * _LOG_GAMMA, _LOG_GREATEST)) * 2 / (_GAMMA + 1)


def quantile(sketch: Sketch, share: float) -> float | None:
    """The value below which this share (0 to 1) of all lies; None without values."""
    buckets = _ascending(sketch)
    if not buckets or sketch.low is None or sketch.high is None:
        return None
    total = sum(count for _, count in buckets)
    rank = min(max(share * total - 0.5, 0.0), total - 1.0)  # each value is the middle of its own share
    first = math.floor(rank)
    low, high = (_ranked(sketch, buckets, at, total) for at in (first, min(first + 1, total - 1)))
    return low + (rank - first) * (high - low)


def _ranked(sketch: Sketch, buckets: list[tuple[float, int]], rank: int, total: int) -> float:
    """The value of this rank (from 0), of so many."""
    assert sketch.low is not None and sketch.high is not None, "there are values"
    if rank == 0:
        return sketch.low
    if rank == total - 1:
        return sketch.high
    before, found = 0, sketch.high
    for middle, count in buckets:
        before += count
        if before > rank:
            found = middle
            break
    return min(max(found, sketch.low), sketch.high)


def rank_of(sketch: Sketch, value: float) -> float | None:
    """The share (0 to 1) of values that are at most `value`; None without values."""
    buckets = _ascending(sketch)
    total = sum(count for _, count in buckets)
    if not total or sketch.low is None or sketch.high is None:
        return None
    if value >= sketch.high:
        return 1.0
    if value < sketch.low:
        return 0.0
    return sum(count for middle, count in buckets if middle <= value) / total


def distinct_of(values: Iterable[Value]) -> Distinct:
    """The summary of which values there are; a number equals its float, and no text or boolean."""
    hashes = {hash_of(value): None for value in values}
    return _packed(sorted(hashes))


def hash_of(value: Value) -> int:
    """64 bits of a value."""
    if isinstance(value, str):
        data = b"s" + value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bool):
        data = b"b1" if value else b"b0"
    elif isinstance(value, float) and not value.is_integer():
        data = b"f" + value.hex().encode()
    else:
        data = b"n" + str(int(value)).encode()
    return mmh3.hash64(data, signed=False)[0]


def _packed(hashes: list[int]) -> Distinct:
    if len(hashes) <= DISTINCT_EXACT_MAX:
        return Distinct(tuple(hashes))
    return Distinct(registers=bytes(_registers(hashes)))


def _registers(hashes: Iterable[int]) -> bytearray:
    registers = bytearray(_REGISTERS)
    for each in hashes:
        rest = each & ((1 << _REST_BITS) - 1)
        rank = _REST_BITS - rest.bit_length() + 1
        index = each >> _REST_BITS
        if rank > registers[index]:
            registers[index] = rank
    return registers


def merge_distinct(parts: Iterable[Distinct]) -> Distinct:
    """The summary of all values."""
    parts = list(parts)
    if not any(part.registers for part in parts):
        return _packed(sorted({each: None for part in parts for each in part.hashes}))
    total = _registers(each for part in parts for each in part.hashes)
    for part in parts:
        if part.registers:
            total = bytearray(map(max, total, part.registers))
    return Distinct(registers=bytes(total))


def count_distinct(distinct: Distinct) -> int:
    """How many values: exactly, or as estimated."""
    if not distinct.registers:
        return len(distinct.hashes)
    estimate = _ALPHA * _REGISTERS**2 / sum(2.0**-register for register in distinct.registers)
    zeros = distinct.registers.count(0)
    if estimate <= 2.5 * _REGISTERS and zeros:
        estimate = _REGISTERS * math.log(_REGISTERS / zeros)
    return round(estimate)
