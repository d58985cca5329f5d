"""Random documents and filters: few keys and few values, so that they often meet."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

KEYS = st.sampled_from(["a", "b", "c", "0", "1"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, 1.5, -2.0, Decimal("1.00000000000000000000001"), 10**23, 1e23, 2**63]),
    st.sampled_from(["", "a", "ab", "b", "x", "한"]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(KEYS, VALUES, max_size=4)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(".".join)


def _conditions(depth: int) -> st.SearchStrategy[Any]:
    simple = [st.fixed_dictionaries({name: VALUES}) for name in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")]
    found = [
        *simple,
        st.fixed_dictionaries({"$gte": SCALARS, "$lt": SCALARS}),
        st.sampled_from(["$in", "$nin", "$all"]).flatmap(
            lambda name: st.fixed_dictionaries({name: st.lists(VALUES, max_size=3)})
        ),
        st.fixed_dictionaries({"$exists": st.booleans()}),
        st.fixed_dictionaries({"$size": st.integers(0, 3)}),
        st.fixed_dictionaries(
            {"$type": st.sampled_from(["null", "bool", "number", "string", "array", "object"])}
        ),
        st.fixed_dictionaries({"$regex": st.sampled_from(["a", "^a", "b$", "^$", "[ab]x?", "."])}),
        st.fixed_dictionaries({"$mod": st.tuples(st.sampled_from([2, 3, -2]), st.integers(-1, 2)).map(list)}),
    ]
    if depth:
        inner = _conditions(depth - 1)
        found.append(st.fixed_dictionaries({"$not": inner}))
        found.append(st.fixed_dictionaries({"$elemMatch": inner | filters(depth - 1)}))
    return st.one_of(found)


def filters(depth: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """Filters of so many levels."""
    conditions = st.dictionaries(PATHS, SCALARS | VALUES.filter(_is_plain) | _conditions(depth), max_size=2)
    if not depth:
        return conditions
    logical = st.sampled_from(["$and", "$or", "$nor"]).flatmap(
        lambda name: st.fixed_dictionaries({name: st.lists(filters(depth - 1), min_size=1, max_size=2)})
    )
    return conditions | logical | st.builds(lambda a, b: {**a, **b}, conditions, logical)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, dict) or not any(key.startswith("$") for key in value)
