"""JSON Merge Patch: the examples of RFC 7396, done to a value and done as cells that know nothing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from core.json_values import render
from documents.cells import Piece, merge_pieces, put_pieces
from documents.edits import EditError, merge_patch
from query.document_values import MISSING
from tests.documents.cellular import assembled

RFC_7396 = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]
"""Appendix A: document, patch, result."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def by_the_rfc(target: Any, patch: Any) -> Any:
    """The pseudocode of section 2."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = by_the_rfc(result.get(name), value)
    return result


@pytest.mark.parametrize(("document", "patch", "result"), RFC_7396)
def test_the_examples_of_the_rfc(document: str, patch: str, result: str) -> None:
    wanted = json.loads(result)
    assert merge_patch(patch.encode()).apply(json.loads(document)).document == wanted
    history: list[list[Piece]] = [put_pieces(document.encode()), merge_pieces(json.loads(patch))]
    assert assembled(history) == wanted


@given(VALUES, st.lists(VALUES, max_size=4))
def test_merges_one_after_the_other_are_what_the_rfc_says(document: Any, patches: list[Any]) -> None:
    wanted = document
    history = [put_pieces(render(document))]
    edited: Any = document
    for patch in patches:
        wanted = by_the_rfc(wanted, patch)
        text = render(patch)
        edited = merge_patch(text).apply(edited).document
        history.append(merge_pieces(patch))
    assert edited == wanted
    assert assembled(history) == wanted


def test_a_merge_makes_a_document_where_there_is_none() -> None:
    assert merge_patch(b'{"a":{"b":1},"c":null}').apply(MISSING).document == {"a": {"b": 1}}
    assert assembled([merge_pieces({"a": {"b": 1}, "c": None})]) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"{", "bad_body"),
        (b'{"a":1,"a":2}', "bad_body"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "too_deep"),
        (json.dumps({str(n): n for n in range(10_000)}).encode(), "too_many_cells"),
        (b'"' + b"x" * (1 << 20) + b'"', "too_large"),
    ],
)
def test_what_is_no_patch_is_refused(text: bytes, code: str) -> None:
    with pytest.raises(EditError) as found:
        merge_patch(text)
    assert found.value.code == code
