"""Types as the system tables tell drivers of them."""

from __future__ import annotations

import pytest

from cql_lite.system import shown_type


@pytest.mark.parametrize(
    ("cql", "shown"),
    [
        ("int", "int"),
        ("json", "text"),
        ('"json"', '"json"'),
        ("map<text, frozen<list<json>>>", "map<text, frozen<list<text>>>"),
        ("tuple<int, text>", "frozen<tuple<int, text>>"),
        ("frozen<tuple<int, text>>", "frozen<tuple<int, text>>"),
        (
            "map<text, tuple<int, tuple<json, frozen<list<int>>>>>",
            "map<text, frozen<tuple<int, frozen<tuple<text, frozen<list<int>>>>>>>",
        ),
        ('frozen<"a tuple<b">', 'frozen<"a tuple<b">'),
        ("frozen<my_tuple>", "frozen<my_tuple>"),
    ],
)
def test_a_document_is_a_text_and_a_tuple_frozen(cql: str, shown: str) -> None:
    assert shown_type(cql) == shown
