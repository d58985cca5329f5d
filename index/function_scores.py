"""Scores by functions: Elasticsearch's `function_score`, and `min_score` of a search.

The engine finds what matches the query inside, and every match is judged here: a function may raise any score
above all others, so there is no estimate to stop at. Nothing is ever executed: there are no scripts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

from index.floats import as_float, total_of
from index.query import FunctionScore, Query, ScoreFunction, Statistics


class Document(Protocol):
    """What functions look at."""

    @property
    def key(self) -> bytes:
        """The key of its row."""

    @property
    def fields(self) -> Any:
        """Its values by path (index/fields.py)."""


Score = Callable[[Any], float | None]
Compile = Callable[[Query, Statistics], Score]

_HASHED_BYTES: Final = 7
"""Of a hash: 2^56 is below what a float tells apart from its neighbours."""


def function_score(query: FunctionScore, statistics: Statistics, compile_query: Compile) -> Score:
    """The function that scores a document."""
    inside = compile_query(query.query, statistics)
    functions = [
        (None if one.filter is None else compile_query(one.filter, statistics), _function(one), one.weight)
        for one in query.functions
    ]

    def score(held: Any) -> float | None:
        found = inside(held)
        if found is None:
            return None
        values = [
            (weight * function(held), weight)
            for test, function, weight in functions
            if test is None or test(held) is not None
        ]
        if values:
            factor = min(query.boost_max, _COMBINED[query.score_mode](values))
            found = _BOOSTED[query.boost_mode](found, factor)
        return None if query.least is not None and found < query.least else max(0.0, found)

    return score


Values = Sequence[tuple[float, float]]
"""What functions gave, weighed, and their weights."""

_COMBINED: Final[dict[str, Callable[[Values], float]]] = {
    "multiply": lambda values: math.prod(value for value, _ in values),
    "sum": lambda values: total_of(value for value, _ in values),
    "avg": lambda values: total_of(value for value, _ in values) / (sum(one for _, one in values) or 1.0),
    "first": lambda values: values[0][0],
    "max": lambda values: max(value for value, _ in values),
    "min": lambda values: min(value for value, _ in values),
}
SCORE_MODES: Final = tuple(_COMBINED)

_BOOSTED: Final[dict[str, Callable[[float, float], float]]] = {
    "multiply": lambda own, factor: own * factor,
    "replace": lambda _own, factor: factor,
    "sum": lambda own, factor: own + factor,
    "avg": lambda own, factor: (own + factor) / 2,
    "max": max,
    "min": min,
}
BOOST_MODES: Final = tuple(_BOOSTED)


def _function(one: ScoreFunction) -> Callable[[Document], float]:
    if one.kind == "weight":
        return lambda _held: 1.0
    if one.kind == "random":
        seed = str(one.seed).encode()
        return lambda held: _hashed(seed, held.key)
    if one.kind == "field":
        return _of_field(one)
    return _decaying(one)


def _hashed(seed: bytes, key: bytes) -> float:
    """A number in [0, 1) that a seed and a key always have."""
    found = blake2b(key, key=seed[:64], digest_size=_HASHED_BYTES).digest()
    return int.from_bytes(found, "big") / float(1 << (8 * _HASHED_BYTES))


def _values(held: Document, one: ScoreFunction) -> list[float]:
    values = held.fields.get(one.field)
    return [] if values is None else [as_float(value) for value in values.of(one.view)]


def _of_field(one: ScoreFunction) -> Callable[[Document], float]:
    modified = MODIFIERS[one.shape]

    def apply(held: Document) -> float:
        value = min(_values(held, one), default=one.missing)
        if value is None:
            return 1.0
        try:
            found = modified(value * one.factor)
        except (ValueError, ZeroDivisionError, OverflowError):
            return 0.0
        return found if math.isfinite(found) else 0.0

    return apply


MODIFIERS: Final[dict[str, Callable[[float], float]]] = {
    "none": lambda value: value,
    "log": math.log10,
    "log1p": lambda value: math.log10(1 + value),
    "log2p": lambda value: math.log10(2 + value),
    "ln": math.log,
    "ln1p": math.log1p,
    "ln2p": lambda value: math.log(2 + value),
    "square": lambda value: value * value,
    "sqrt": math.sqrt,
    "reciprocal": lambda value: 1 / value,
}


def _decaying(one: ScoreFunction) -> Callable[[Document], float]:
    origin = float(one.origin)
    by = DECAYS[one.shape](one.scale, one.decay)

    def apply(held: Document) -> float:
        distances = [max(0.0, abs(value - origin) - one.offset) for value in _values(held, one)]
        if not distances:
            return 1.0
        return by(_OF_SEVERAL[one.mode](distances))

    return apply


_OF_SEVERAL: Final[dict[str, Callable[[list[float]], float]]] = {
    "min": min,
    "max": max,
    "avg": lambda values: sum(values) / len(values),
    "sum": sum,
}
MODES: Final = tuple(_OF_SEVERAL)


def _gauss(scale: float, decay: float) -> Callable[[float], float]:
    rate = math.log(decay)

    def by(distance: float) -> float:
        share = distance / scale
        return math.exp(rate * (share * share))

    return by


def _exp(scale: float, decay: float) -> Callable[[float], float]:
    rate = math.log(decay) / scale
    return lambda distance: math.exp(rate * distance)


def _linear(scale: float, decay: float) -> Callable[[float], float]:
    end = scale / (1 - decay)
    return lambda distance: max(0.0, (end - distance) / end)


DECAYS: Final[dict[str, Callable[[float, float], Callable[[float], float]]]] = {
    "gauss": _gauss,
    "exp": _exp,
    "linear": _linear,
}
