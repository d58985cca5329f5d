"""Terms of values in documents: their order is the order of values, and arrays give one for each element."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from core.cell import MARKER, VALUE, Cell
from core.commands import Apply
from core.mutation import UPDATE, Mutation, encode_mutation
from core.row import Row
from core.schema import PARTITION, REGULAR, Column, Index, IndexTarget, Table, TableOptions
from cql_lite.types import parse_type
from index.entries import Indexed
from index.entries_json import holds, json_terms, value_term
from lsm import keys
from lsm.memory import MemoryEngine
from lsm.store import Store
from node.index_types import column_type

numbers = st.one_of(
    st.integers(-(10**30), 10**30),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12),
    st.sampled_from(
        [Decimal("1e-300"), Decimal("-1e300"), Decimal("1e400"), Decimal("0.10"), 0, Decimal("-0")]
    ),
)


@given(numbers, numbers)
def test_numbers_have_the_order_of_their_exact_values(a: int | Decimal, b: int | Decimal) -> None:
    left, right = value_term(a), value_term(b)
    assert (left < right, left == right) == (Decimal(a) < Decimal(b), Decimal(a) == Decimal(b))


@given(st.text(), st.text())
def test_texts_have_the_order_of_their_bytes_and_none_begins_another(a: str, b: str) -> None:
    left, right = value_term(a), value_term(b)
    assert (left < right) == (a.encode("utf-8", "surrogatepass") < b.encode("utf-8", "surrogatepass"))
    assert a == b or not right.startswith(left)


def test_types_lie_one_after_the_other() -> None:
    values: list[object] = [None, False, True, -1, 10**40, "", "z", {}, []]
    assert sorted(map(value_term, values)) == [value_term(value) for value in values]


def document(text: str, version: int = 1) -> list[Cell]:
    return [Cell(1, (), VALUE, version, 7, 0, text.encode())]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (("a",), [1]),
        (("l",), [1, 2]),
        (("o",), [{}]),
        (("o", "x"), ["y"]),
        (("rows", "n"), [1, 2]),
        (("rows", "1", "n"), [2]),
        (("empty",), [[]]),
        (("none",), [None]),
        (("missing",), []),
        (("a", "deeper"), []),
        (("dotted.key",), [True]),
    ],
)
def test_paths_lead_through_objects_and_arrays(path: tuple[str, ...], values: list[object]) -> None:
    text = json.dumps(
        {
            "a": 1,
            "l": [1, 2, 1.0],
            "o": {"x": "y"},
            "rows": [{"n": 1}, {"n": 2}, 3],
            "empty": [],
            "none": None,
        }
        | {"dotted.key": True}
    )
    assert json_terms(path, document(text)) == [value_term(value) for value in values]


def test_a_patched_document_is_looked_at_whole() -> None:
    cells = [*document('{"a": {"b": 1, "c": 2}}'), Cell(1, (b"a",), MARKER, 2, 7, 0, b"")]
    cells += [Cell(1, (b"a", b"b"), VALUE, 2, 7, 0, b"7"), Cell(1, (b"a", b"c"), VALUE, 2, 7, 2, None)]
    assert json_terms(("a", "b"), cells) == [value_term(7)]
    assert json_terms(("a", "c"), cells) == []


@pytest.mark.parametrize(
    ("how", "what", "expected"),
    [
        ("exists", "null", True),
        ("=", "5", True),
        ("=", "5.0", True),
        ("=", '"5"', False),
        ("<", "5", False),
        ("<=", "5", True),
        (">", "4.9", True),
        (">=", '"a"', False),
        ("from the future", "1", False),
    ],
)
def test_conditions_of_partial_indexes(how: str, what: str, expected: bool) -> None:
    assert holds([value_term(5)], how, what) is expected
    assert not holds([], how, what)


def test_compound_partial_and_descending_indexes_have_their_entries() -> None:
    doc = Column(1, "doc", "json", REGULAR)
    a, b = IndexTarget("doc", path=("a",)), IndexTarget("doc", path=("b",), descending=True)
    index = Index(9, "i", "doc", targets=(a, b), condition=((a, ">", "0"),))
    table = Table(
        4, "docs", "t", (Column(0, "id", "text", PARTITION), doc), TableOptions(), 1, indexes=(index,)
    )
    types = {column.name: column_type(parse_type(column.type)) for column in table.columns}
    store = Store(MemoryEngine(), lambda _: table, Indexed(lambda _: types).entries)
    texts = {
        "both": '{"a": [1, 2], "b": "x"}',
        "later": '{"a": 1, "b": "y"}',
        "only": '{"a": 1}',
        "out": '{"a": 0}',
    }
    for number, (name, text) in enumerate(texts.items()):
        row = Row(None, tuple(document(text)))
        made = Mutation(1, number, 0, 1, True, UPDATE, 4, 5, name.encode(), None, ((keys.ROW_SUFFIX, row),))
        store.execute(Apply(encode_mutation(made)))
    entries = store.engine.scan(keys.ENTRY, keys.successor(keys.ENTRY))
    found = [keys.split_row_key(keys.split_entry(key, value)[1])[2].decode() for key, value in entries]
    assert found == ["only", "later", "both", "both"], "descending within a, without b first, one per element"
