"""`function_score` as JSON, in Elasticsearch's words (index/function_scores.py says what it means)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from index.bounds import RefusedError
from index.function_scores import BOOST_MODES, DECAYS, MODES, MODIFIERS, SCORE_MODES
from index.instants import SECOND_US
from index.options import Body, check_field
from index.query import DATE, All, FunctionScore, Query, ScoreFunction

FUNCTIONS_MAX: Final = 100
SCORE_MAX: Final = 3.4028235e38
_KINDS: Final = ("weight", "field_value_factor", "random_score", *DECAYS)
_SPAN: Final = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)", re.ASCII)
_SPAN_US: Final = {
    "ms": 1000, "s": SECOND_US, "m": 60 * SECOND_US, "h": 3600 * SECOND_US, "d": 86_400 * SECOND_US,
    "w": 7 * 86_400 * SECOND_US,
}  # fmt: skip
Read = Callable[[Any, str, int], Query]


def read_function_score(body: Body, read: Read) -> Query:
    """The query; `read` reads the queries inside."""
    given = body.take("query")
    inside: Query = All() if given is None else read(given, f"{body.path}.query", body.depth + 1)
    listed = body.take("functions")
    if listed is None:
        alone = {name: body.take(name) for name in (*_KINDS, "script_score") if name in body.object()}
        listed = [alone] if alone else []
    if not isinstance(listed, list) or len(listed) > FUNCTIONS_MAX:
        raise RefusedError(f"functions is a list of at most {FUNCTIONS_MAX}", body.path)
    functions = tuple(
        _one(each, f"{body.path}.functions[{at}]", body, read) for at, each in enumerate(listed)
    )
    least = body.number("min_score", 0.0, 0.0, SCORE_MAX) if body.take("min_score") is not None else None
    found = FunctionScore(
        inside,
        functions,
        body.one_of("score_mode", SCORE_MODES, "multiply"),
        body.one_of("boost_mode", BOOST_MODES, "multiply"),
        body.number("max_boost", SCORE_MAX, 0.0, SCORE_MAX),
        least,
    )
    return body.done(found)


def _one(given: Any, path: str, outer: Body, read: Read) -> ScoreFunction:
    body = Body(given, path, outer.depth)
    if "script_score" in body.object():
        raise RefusedError("script_score is not supported: there are no scripts", path)
    narrowed = body.take("filter")
    only = None if narrowed is None else read(narrowed, f"{path}.filter", outer.depth + 1)
    weight = body.number("weight", 1.0, 0.0, SCORE_MAX)
    kinds = [kind for kind in _KINDS[1:] if kind in body.object()]
    if len(kinds) > 1 or not (kinds or "weight" in body.object()):
        raise RefusedError(f"a function is one of: {', '.join(_KINDS)}; and perhaps filter and weight", path)
    kind = kinds[0] if kinds else "weight"
    inner = Body(body.take(kind) if kinds else {}, f"{path}.{kind}", outer.depth)
    if kind == "weight":
        found = ScoreFunction("weight", only, weight)
    elif kind == "field_value_factor":
        found = _field_value(inner, only, weight)
    elif kind == "random_score":
        found = _random(inner, only, weight)
    else:
        found = _decay(inner, kind, only, weight)
    if kinds:
        inner.leftover()
    body.leftover()
    return found


def _field_value(body: Body, only: Query | None, weight: float) -> ScoreFunction:
    field = check_field(body.need("field"), body.path)
    shape = body.one_of("modifier", tuple(MODIFIERS), "none")
    missing = body.number("missing", 0.0, -SCORE_MAX, SCORE_MAX) if body.take("missing") is not None else None
    factor = body.number("factor", 1.0, -SCORE_MAX, SCORE_MAX)
    return ScoreFunction("field", only, weight, field, shape=shape, factor=factor, missing=missing)


def _random(body: Body, only: Query | None, weight: float) -> ScoreFunction:
    seed = body.take("seed")
    body.without_effect("field")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | str)):
        raise RefusedError("seed is a whole number, or text", body.path)
    if isinstance(seed, str):
        seed = int.from_bytes(seed.encode()[:7], "big")
    return ScoreFunction("random", only, weight, seed=seed)


def _decay(body: Body, shape: str, only: Query | None, weight: float) -> ScoreFunction:
    mode = body.one_of("multi_value_mode", MODES, "min")
    names = [name for name in body.object() if name != "multi_value_mode"]
    if len(names) != 1:
        raise RefusedError(f"{shape} names one field: {{field: {{origin, scale, offset, decay}}}}", body.path)
    field = check_field(names[0], body.path)
    inner = Body(body.take(field), f"{body.path}.{field}", body.depth)
    scale, origin = inner.need("scale"), inner.take("origin")
    offset = inner.take("offset", 0)
    if any(isinstance(each, dict) or (isinstance(each, str) and "km" in each) for each in (scale, origin)):
        raise RefusedError("there is no search by place: origin is a number or a date", inner.path)
    is_date = isinstance(scale, str)
    if origin is None and not is_date:
        raise RefusedError("origin is missing", inner.path)
    wide, beyond = _span(scale, inner), _span(offset, inner)
    if wide <= 0:
        raise RefusedError("scale is above 0", inner.path)
    decay = inner.number("decay", 0.5, 1e-9, 1 - 1e-9)
    inner.leftover()
    at: float | str = str("now" if origin is None else origin) if is_date else _number(origin, inner)
    return ScoreFunction(
        "decay", only, weight, field, DATE if is_date else "number", shape,
        origin=at, scale=wide, offset=beyond, decay=decay, mode=mode,
    )  # fmt: skip


def _span(value: Any, body: Body) -> float:
    """A number, or a time as 10d in microseconds."""
    if isinstance(value, str):
        match = _SPAN.fullmatch(value)
        if match is None:
            raise RefusedError("scale and offset are numbers, or times such as 10d, 5h, 30m", body.path)
        return float(int(match[1]) * _SPAN_US[match[2]])
    return _number(value, body)


def _number(value: Any, body: Body) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError("origin, scale and offset are numbers, or all of a date", body.path)
    return float(value)
