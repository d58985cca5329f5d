"""Whatever JSON comes as a filter, projection, order or pipeline: it is refused with a reason, or works."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings, strategies as st

from core.json_values import JsonError, render
from query.accumulators import ACCUMULATORS
from query.document_filter import PATH_OPERATORS, TOP_OPERATORS, parse_filter
from query.document_match import predicate
from query.document_projection import parse_projection, projector
from query.document_sort import parse_sort, place, sort_values
from query.expression_functions import FUNCTIONS, VARIADIC
from query.pipeline import parse_pipeline
from query.pipeline_parts import STAGES
from query.refusals import Refusal
from tests.query.documents import DOCUMENTS, SCALARS, VALUES

WORDS = ["a", "b", "a.b", "0", "a.0.b", "_id", "", ".", "\\", "$", "$$ROOT", "$a", "$a.b", "$$x", "$each"]
SPECIAL = [
    "$slice",
    "$elemMatch",
    "$cond",
    "$ifNull",
    "$switch",
    "$literal",
    "$and",
    "$or",
    "if",
    "then",
    "else",
]
TEXTS = ["2024-02-29", "2023-02-30T25:00", "(a", "[[:x", "i", "\ud800", "$REMOVE", "$$REMOVE", "9" * 400]


def wild(*names: str) -> st.SearchStrategy[Any]:
    """JSON made of these names among others."""
    keys = st.sampled_from([*names, *WORDS, *SPECIAL])
    leaves = SCALARS | st.sampled_from([*WORDS, *TEXTS, 10**400, -(10**30), 1e300, 5e-324])
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
        max_leaves=8,
    )


FILTER_WORDS = (*PATH_OPERATORS, *TOP_OPERATORS, "$where", "$expr")


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from([*FILTER_WORDS, *WORDS]), wild(*FILTER_WORDS), max_size=3), DOCUMENTS)
def test_filters(wanted: Any, document: Any) -> None:
    parsed = parse_filter(wanted)
    if isinstance(parsed, Refusal):
        assert parsed.where.startswith("filter")
        assert parsed.reason
    else:
        assert predicate(parsed)(document) in (True, False)


@settings(max_examples=200, deadline=None)
@given(wild("$slice", "$elemMatch", "$gt"), DOCUMENTS)
def test_projections_and_orders(wanted: Any, document: Any) -> None:
    projection = parse_projection(wanted)
    if not isinstance(projection, Refusal):
        render(projector(projection)(document))
    order = parse_sort(wanted)
    if not isinstance(order, Refusal):
        values = sort_values(order, document)
        assert not place(order, values, b"k") < place(order, values, b"k")


def _stage(name: str) -> st.SearchStrategy[Any]:
    inner = wild(*FUNCTIONS, *VARIADIC)
    argument: st.SearchStrategy[Any]
    named = st.dictionaries(st.sampled_from(["x", "y", "a.b", "_id"]), inner, max_size=3)
    if name == "$group":
        one = st.sampled_from([*ACCUMULATORS]).flatmap(lambda of: st.fixed_dictionaries({of: inner}))
        fields = st.dictionaries(st.sampled_from(["n", "m"]), one, max_size=2)
        argument = st.builds(lambda key, rest: {"_id": key, **rest}, inner, fields)
    elif name in ("$project", "$addFields", "$set"):
        argument = named
    elif name in ("$limit", "$skip"):
        argument = st.integers(0, 5)
    elif name == "$sample":
        argument = st.fixed_dictionaries({"size": st.integers(0, 5)})
    elif name == "$unwind":
        argument = st.sampled_from(["$a", "$a.b", "$0"])
    elif name == "$sort":
        argument = st.dictionaries(st.sampled_from(["a", "x", "_id.y"]), st.sampled_from([1, -1]), max_size=2)
    else:
        argument = inner
    return st.fixed_dictionaries({name: argument | VALUES})


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*STAGES]).flatmap(_stage), max_size=4),
    st.lists(DOCUMENTS, max_size=5),
)
def test_pipelines(stages: Any, documents: list[Any]) -> None:
    pipeline = parse_pipeline(stages)
    if isinstance(pipeline, Refusal):
        assert pipeline.where.startswith("pipeline")
        return
    found = pipeline.run(documents, Random(1).randrange)
    if isinstance(found, Refusal):
        assert found.reason
        return
    try:
        render(found)
    except JsonError:
        assert "$" in str(stages)  # a number of too many digits, which whoever asked is told


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*FUNCTIONS, *VARIADIC]),
    st.lists(st.sampled_from(["$a", "$b", "$c.a"]) | SCALARS | st.sampled_from(TEXTS), max_size=3),
    DOCUMENTS,
)
def test_every_function_takes_or_refuses_every_value(name: str, arguments: Any, document: Any) -> None:
    pipeline = parse_pipeline([{"$project": {"x": {name: arguments}}}])
    if isinstance(pipeline, Refusal):
        assert "takes" in pipeline.reason or "variable" in pipeline.reason or "path" in pipeline.reason
        return
    found = pipeline.run([document], Random(1).randrange)
    assert isinstance(found, Refusal | list)
