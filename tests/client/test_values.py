"""Numbers keep every digit, both ways; tables of them, too."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

import sullae
from sullae import json_values, tables
from tests.client.fake import always, client, ok, peers

NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(), NUMBERS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


def _exact(value: Any) -> Any:
    """The value with every number that has a point or an exponent as the Decimal that was meant."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {name: _exact(one) for name, one in value.items()}
    return [_exact(one) for one in value] if isinstance(value, list) else value


@given(VALUES)
@example([9007199254740993.0, Decimal("9007199254740993e0"), Decimal("1e400"), 2**64, -(2**63) - 1])
@example({"a": Decimal("0.1000000000000000055511151231257827")})
def test_what_is_written_is_read_to_the_last_digit(value: Any) -> None:
    found = json_values.loads(json_values.dumps(value))
    assert _exact(found) == _exact(value)


@given(VALUES)
def test_other_parsers_read_what_is_written(value: Any) -> None:
    assert _exact(json.loads(json_values.dumps(value), parse_float=Decimal)) == _exact(value)


@given(st.from_regex(rb"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_any_number_that_is_written_keeps_its_value(text: bytes) -> None:
    found = json_values.loads(b"[" + text + b"]")[0]
    assert _exact(found) == Decimal(text.decode())


@dataclasses.dataclass
class Point:
    x: Any
    _cached: Any = None


def test_dataclasses_are_exact_too() -> None:
    assert json_values.dumps([Point(2**70), Point(Decimal("1.10"), 5)]) == b'[{"x":%d},{"x":1.10}]' % (2**70)


@pytest.mark.parametrize(
    "bad",
    [
        *(math.nan, math.inf, Decimal("nan"), [None, math.nan], {"a": [-math.inf]}),
        *(Point(math.nan), [Point([math.inf])]),
    ],
)
def test_what_json_does_not_have_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="no form in JSON"):
        json_values.dumps(bad)


@pytest.mark.parametrize("bad", [{1, 2}, b"x", object(), {1: 2**70}, {"a": {3: 4}}])
def test_what_has_no_form_in_json_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError):
        json_values.dumps(bad)


async def test_a_document_that_is_none_is_the_callers_mistake_and_nothing_is_sent() -> None:
    async with peers(always(ok)) as [peer], client(peer) as db:
        with pytest.raises(sullae.Invalid):
            await db.collection("c").put("d", {"n": math.nan})
    assert peer.asked == []


@pytest.mark.parametrize("value", [None, {"a": 1}, 5, ["x"], "\ud800"])
async def test_a_value_that_is_neither_bytes_nor_text_is_the_callers_mistake(value: Any) -> None:
    async with peers(always(ok)) as [peer], client(peer) as db:
        kv = db.kv("b")
        with pytest.raises(sullae.Invalid):
            await kv.put("k", value)
        async with kv.bulk() as bulk:
            with pytest.raises(sullae.Invalid):
                await bulk.put("k", value)
            with pytest.raises(sullae.Invalid):
                await bulk.put_json("k", {1, 2})
        with pytest.raises(sullae.Invalid):
            await kv.put_json("k", math.inf)
        with pytest.raises(sullae.Invalid, match="is text"):
            await kv.get(5)  # type: ignore[arg-type]
        assert peer.asked == []
        await kv.put("k", memoryview(b"x"))  # type: ignore[arg-type]
        assert len(peer.asked) == 1


async def test_floats_for_those_who_want_them() -> None:
    def answer() -> Any:
        return ok([2**70, 0.5], 200)

    async with peers(always(answer)) as [peer]:
        async with client(peer) as db:
            assert (found := await db.collection("c").get("d")) and found.value == [2**70, 0.5]
        async with client(peer, exact_numbers=False) as db:
            assert (found := await db.collection("c").get("d")) and type(found.value[0]) is float


ROWS: list[dict[str, Any]] = [
    {"id": 1, "n": 2**70, "d": Decimal("1.10"), "x": 1, "m": [1, "a"]},
    {"id": 2, "n": 1, "d": None, "x": 0.5, "more": "y"},
]


def test_rows_are_tables_of_arrow() -> None:
    pytest.importorskip("pyarrow")
    found = tables.to_arrow(ROWS).to_pylist()
    assert [row["id"] for row in found] == [1, 2]
    assert [row["n"] for row in found] == [2**70, 1]
    assert [row["d"] for row in found] == [Decimal("1.10"), None]
    assert [row["x"] for row in found] == [1.0, 0.5]
    assert [row["more"] for row in found] == [None, "y"]
    assert found[0]["m"] == '[1,"a"]'


def test_rows_are_tables_of_pandas() -> None:
    pytest.importorskip("pandas")
    frame = tables.to_pandas(ROWS)
    assert list(frame["n"]) == [2**70, 1]
    assert set(frame.columns) == {"id", "n", "d", "x", "m", "more"}


def test_rows_are_tables_of_polars() -> None:
    pytest.importorskip("polars")
    frame = tables.to_polars([{"a": 1, "b": "x"}, {"a": None, "c": 0.5}])
    assert frame["a"].to_list() == [1, None]
    assert frame["c"].to_list() == [None, 0.5]


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match="pip install polars"):
        tables.to_polars([])
