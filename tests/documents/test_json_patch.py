"""JSON Patch: the examples of RFC 6902, and what a patch touches."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from core.json_values import checked, render
from documents.cells import put_pieces, written_after
from documents.edits import EditError
from documents.json_patch import json_patch, pointer
from query.document_values import MISSING
from tests.documents.cellular import assembled

RFC_6902: list[tuple[str, str, list[dict[str, Any]], str]] = [
    ("A.1", '{"foo":"bar"}', [{"op": "add", "path": "/baz", "value": "qux"}], '{"baz":"qux","foo":"bar"}'),
    (
        "A.2",
        '{"foo":["bar","baz"]}',
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        '{"foo":["bar","qux","baz"]}',
    ),
    ("A.3", '{"baz":"qux","foo":"bar"}', [{"op": "remove", "path": "/baz"}], '{"foo":"bar"}'),
    ("A.4", '{"foo":["bar","qux","baz"]}', [{"op": "remove", "path": "/foo/1"}], '{"foo":["bar","baz"]}'),
    (
        "A.5",
        '{"baz":"qux","foo":"bar"}',
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        '{"baz":"boo","foo":"bar"}',
    ),
    (
        "A.6",
        '{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}',
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        '{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}',
    ),
    (
        "A.7",
        '{"foo":["all","grass","cows","eat"]}',
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        '{"foo":["all","cows","eat","grass"]}',
    ),
    (
        "A.8",
        '{"baz":"qux","foo":["a",2,"c"]}',
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        '{"baz":"qux","foo":["a",2,"c"]}',
    ),
    (
        "A.10",
        '{"foo":"bar"}',
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        '{"foo":"bar","child":{"grandchild":{}}}',
    ),
    (
        "A.11",
        '{"foo":"bar"}',
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        '{"foo":"bar","baz":"qux"}',
    ),
    ("A.14", '{"/":9,"~1":10}', [{"op": "test", "path": "/~01", "value": 10}], '{"/":9,"~1":10}'),
    (
        "A.16",
        '{"foo":["bar"]}',
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        '{"foo":["bar",["abc","def"]]}',
    ),
    ("4.1 root", '{"a":1}', [{"op": "add", "path": "", "value": [1]}], "[1]"),
    ("4.1 exists", '{"a":1}', [{"op": "add", "path": "/a", "value": 2}], '{"a":2}'),
    ("4.5 copy", '{"a":[1]}', [{"op": "copy", "from": "/a", "path": "/b"}], '{"a":[1],"b":[1]}'),
    ("4.4 itself", '{"a":1}', [{"op": "move", "from": "/a", "path": "/a"}], '{"a":1}'),
    ("4.6 number", '{"a":1.0}', [{"op": "test", "path": "/a", "value": 1}], '{"a":1.0}'),
]
"""Appendix A and rules of section 4: where, document, patch, result."""


def patched(document: str, patch: Any) -> Any:
    """What the patch makes, checked to be the same through the pieces that it writes."""
    value = checked(document.encode())
    edited = json_patch(render(patch)).apply(deepcopy(value))
    pieces = written_after(edited.document, edited.touched)
    assert assembled([put_pieces(document.encode()), pieces]) == edited.document
    return edited.document


@pytest.mark.parametrize(("document", "patch", "result"), [case[1:] for case in RFC_6902])
def test_the_examples_of_the_rfc(document: str, patch: Any, result: str) -> None:
    assert patched(document, patch) == json.loads(result)


@pytest.mark.parametrize(
    ("document", "patch", "says"),
    [
        ('{"baz":"qux"}', [{"op": "test", "path": "/baz", "value": "bar"}], "another"),  # A.9
        ('{"foo":"bar"}', [{"op": "add", "path": "/baz/bat", "value": "qux"}], "no 'baz'"),  # A.12
        ('{"/":9,"~1":10}', [{"op": "test", "path": "/~01", "value": "10"}], "another"),  # A.15
        ('{"a":[1]}', [{"op": "add", "path": "/a/2", "value": 1}], "1 elements"),
        ('{"a":[1]}', [{"op": "add", "path": "/a/01", "value": 1}], "no index"),
        ('{"a":[1]}', [{"op": "remove", "path": "/a/-"}], "no index"),
        ('{"a":[1]}', [{"op": "replace", "path": "/a/x", "value": 1}], "no index"),
        ('{"a":1}', [{"op": "replace", "path": "/b", "value": 1}], "no 'b'"),
        ('{"a":1}', [{"op": "remove", "path": "/a/b"}], "no object"),
        ('{"a":1}', [{"op": "remove", "path": ""}], "DELETE"),
        ('{"a":true}', [{"op": "test", "path": "/a", "value": 1}], "another"),
        ('{"a":1}', [{"op": "move", "from": "/b", "path": "/b"}], "no 'b'"),
    ],
)
def test_a_patch_that_does_not_fit_is_a_conflict_and_changes_nothing(
    document: str, patch: Any, says: str
) -> None:
    first = {"op": "add", "path": "/first", "value": 1}
    with pytest.raises(EditError, match=says) as found:
        patched(document, [first, *patch] if document.startswith("{") else patch)
    assert found.value.code == "patch_conflict"
    assert "operation 1" in str(found.value)


@pytest.mark.parametrize(
    "patch",
    [
        {},
        [1],
        [{"op": "nope", "path": ""}],
        [{"op": ["add"], "path": ""}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": 5, "value": 1}],
        [{"op": "add", "path": "/a~2", "value": 1}],
        [{"op": "add", "path": "/a~", "value": 1}],
        [{"op": "move", "path": "/a/b", "from": "/a"}],
        [{"op": "move", "path": "/a/b"}],
        [{"op": "remove", "path": "/a" * 101}],
        [{"op": "remove", "path": "/" + "a" * 5000}],
        [{"op": "remove", "path": "/a"}] * 1001,
    ],
)
def test_what_is_no_patch_is_refused_before_any_document_is_looked_at(patch: Any) -> None:
    with pytest.raises(EditError) as found:
        json_patch(render(patch))
    assert found.value.code == "bad_patch"


def test_a_patch_that_copies_itself_again_and_again_ends_with_an_error() -> None:
    doubling = [{"op": "copy", "from": "", "path": f"/{n}"} for n in range(60)]
    with pytest.raises(EditError) as found:
        json_patch(render(doubling)).apply({"x": "y" * 1000})
    assert found.value.code == "document_too_large"


def test_there_must_be_a_document() -> None:
    with pytest.raises(EditError) as found:
        json_patch(b"[]").apply(MISSING)
    assert found.value.code == "no_such_document"


def test_pointers_unescape_once() -> None:
    assert pointer("") == ()
    assert pointer("/") == ("",)
    assert pointer("/a~1b/~01/ /한") == ("a/b", "~1", " ", "한")


def test_only_what_was_touched_is_written() -> None:
    document = {"a": {"b": [1, {"c": 2}], "d": 3}, "e": 4}
    patch = [
        {"op": "replace", "path": "/a/b/1/c", "value": 5},
        {"op": "add", "path": "/f", "value": {}},
        {"op": "remove", "path": "/e"},
    ]
    edited = json_patch(render(patch)).apply(document)
    written = {path: text for path, kind, text in written_after(edited.document, edited.touched) if not kind}
    assert written == {("a", "b"): b'[1,{"c":5}]', ("f",): b"{}", ("e",): None}


KEYS = st.sampled_from(["a", "b", "0", "1", "-", "", "~", "/"])
VALUES = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=6,
)
POINTERS = st.lists(KEYS, max_size=3).map(
    lambda keys: "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys)
)
OPERATIONS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
        "path": POINTERS,
        "from": POINTERS,
        "value": VALUES,
    }
)


class UnfitError(Exception):
    """The plain patch below cannot be done."""


def plainly(document: Any, operation: Any) -> Any:
    """One operation said again, without any state: sections 4.1 to 4.6, each in terms of those before it."""

    def at(value: Any, keys: list[str], change: Any) -> Any:
        if not keys:
            return change(value)
        key, rest = keys[0], keys[1:]
        if isinstance(value, dict) and (key in value or not rest):
            changed = at(value.get(key, MISSING), rest, change)
            kept = {name: item for name, item in value.items() if name != key}
            return kept if changed is MISSING else {**kept, key: changed}
        if isinstance(value, list) and (key == "-" or key == str(len(value))) and not rest:
            return [*value, *([] if (changed := change(MISSING)) is MISSING else [changed])]
        if isinstance(value, list) and key.isdigit() and key == str(int(key)) and int(key) < len(value):
            place = int(key)
            changed = at(value[place], rest, change)
            return [*value[:place], *([] if changed is MISSING else [changed]), *value[place + 1 :]]
        raise UnfitError

    def keys_of(text: str) -> list[str]:
        return [key.replace("~1", "/").replace("~0", "~") for key in text.split("/")[1:]]

    def found(keys: list[str]) -> Any:
        seen: list[Any] = []

        def look(value: Any) -> Any:
            seen.append(value)
            return value

        at(document, keys, look)
        if seen[0] is MISSING:
            raise UnfitError
        return seen[0]

    def added(into: Any, keys: list[str], value: Any) -> Any:
        def insert(holder: Any) -> Any:
            if not isinstance(holder, list) or keys[-1] == "-":
                return at(holder, keys[-1:], lambda _: value)
            if not (keys[-1].isdigit() and keys[-1] == str(int(keys[-1])) and int(keys[-1]) <= len(holder)):
                raise UnfitError
            return [*holder[: int(keys[-1])], value, *holder[int(keys[-1]) :]]

        return at(into, keys[:-1], insert) if keys else value

    op, keys, source = operation["op"], keys_of(operation["path"]), keys_of(operation["from"])
    if op == "add":
        return added(document, keys, operation["value"])
    if op == "remove":
        found(keys)
        return at(document, keys, lambda _: MISSING)
    if op == "replace":
        found(keys)
        return at(document, keys, lambda _: operation["value"])
    if op == "copy":
        return added(document, keys, found(source))
    if op == "move":
        value = found(source)
        return document if keys == source else added(at(document, source, lambda _: MISSING), keys, value)
    if found(keys) != operation["value"]:
        raise UnfitError
    return document


@given(VALUES, st.lists(OPERATIONS, max_size=4))
@settings(max_examples=300)
def test_any_patch_makes_what_the_plain_words_of_the_rfc_make(document: Any, patch: list[Any]) -> None:
    if any(op["path"] == "" and op["op"] == "remove" for op in patch):
        return  # a document is removed otherwise
    if any(op["op"] == "move" and op["from"] == "" for op in patch):
        return  # so it is
    try:
        edited = json_patch(render(patch)).apply(deepcopy(document)).document
    except EditError as error:
        edited = error
    if isinstance(edited, EditError) and edited.code == "bad_patch":
        return  # refused whatever the document
    wanted: Any = document
    try:
        for operation in patch:
            wanted = plainly(wanted, operation)
    except UnfitError:
        assert isinstance(edited, EditError) and edited.code == "patch_conflict"
        return
    assert edited == wanted


@given(VALUES, st.lists(OPERATIONS, max_size=5))
def test_the_pieces_of_any_patch_make_what_the_patch_made(document: Any, patch: list[Any]) -> None:
    text = render(document)
    try:
        edited = json_patch(render(patch)).apply(deepcopy(document))
    except EditError:
        return
    assert assembled([put_pieces(text), written_after(edited.document, edited.touched)]) == edited.document
