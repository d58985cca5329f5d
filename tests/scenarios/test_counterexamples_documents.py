"""Counterexamples 11 to 15: documents as cells."""

from __future__ import annotations

from typing import Any

import pytest

import core.json_values
import documents.edits
import documents.operations
import documents.updates
import documents.values
from core.cell import MARKER, VALUE
from core.consistency import Level
from core.json_cells import assemble
from core.json_values import render
from core.mutation import UPDATE
from core.requests import RowWrite, Write, WriteRequest, Written
from documents import operations
from documents.cells import merge_pieces, set_pieces
from documents.edits import Edit, merge_patch
from documents.operations import Operation
from documents.updates import update_of
from jepsen_like.scenarios import Scenario
from lsm import keys
from query.document_values import MISSING
from tests.documents.cluster import NOW_US, Docs
from tests.scenarios.telling import QUIET

Patch = pytest.MonkeyPatch


def quiet() -> Docs:
    s = Scenario(settings=QUIET)
    s.start()
    return Docs(s)


# --- 11: markers


def objects_that_a_patch_names() -> list[bytes | None]:
    docs = quiet()
    found = []
    for key, before, patch in (
        ("same", b'{"a":{"b":1}}', b'{"a":{}}'),
        ("made", b"{}", b'{"a":{"bb":{"ccc":null}}}'),
        ("replaced", b'{"a":5}', b'{"a":{"b":null}}'),
    ):
        docs.put(key, before)
        docs.merge(key, patch, at=1)
        found.append(docs.text(key, at=2))
    docs.put("unset", b'{"a":5}')
    docs.update("unset", {"$unset": {"a.b": 1}}, at=1)
    return [*found, docs.text("unset", at=2)]


def test_counterexample_11_an_object_that_a_patch_names_is_made_or_kept_and_unset_makes_none() -> None:
    assert objects_that_a_patch_names() == [b'{"a":{"b":1}}', b'{"a":{"bb":{}}}', b'{"a":{}}', b'{"a":5}']


def test_counterexample_11_without_markers_objects_are_not_made(monkeypatch: Patch) -> None:
    def values_only(patch: Any) -> Any:
        return [piece for piece in merge_pieces(patch) if piece[1] != MARKER]

    monkeypatch.setattr(documents.edits, "merge_pieces", values_only)
    assert objects_that_a_patch_names()[:3] == [b'{"a":{"b":1}}', b"{}", b'{"a":5}']


def test_counterexample_11_if_unset_wrote_markers_it_would_make_an_object(monkeypatch: Patch) -> None:
    def with_markers(values: Any) -> Any:
        pieces: list[Any] = []
        for path, value in values:
            pieces += [(path[:depth], MARKER, b"") for depth in range(len(path))] if value is MISSING else []
            pieces += set_pieces([(path, value)])
        return pieces

    monkeypatch.setattr(documents.updates, "set_pieces", with_markers)
    assert objects_that_a_patch_names()[3] == b'{"a":{}}'


# --- 12: addresses are lists of keys, arrays are values


def a_path_that_ends_in_a_number() -> list[bytes | None]:
    docs = quiet()
    for key, before in (("object", b'{"a":{"0":"x"}}'), ("array", b'{"a":["x","z"]}')):
        docs.put(key, before)
        docs.update(key, {"$set": {"a.0": "y"}}, at=1)
    return [docs.text("object", at=2), docs.text("array", at=2)]


def test_counterexample_12_a_number_in_a_path_is_a_key_or_an_index_as_the_document_has_it() -> None:
    assert a_path_that_ends_in_a_number() == [b'{"a":{"0":"y"}}', b'{"a":["y","z"]}']


def test_counterexample_12_if_it_is_written_without_a_look_an_array_is_lost(monkeypatch: Patch) -> None:
    monkeypatch.setattr(documents.updates, "is_plain", lambda _: True)
    assert a_path_that_ends_in_a_number() == [b'{"a":{"0":"y"}}', b'{"a":{"0":"y"}}']


# --- 13: what is hidden stays hidden


def a_value_that_expires_over_older_ones() -> list[bytes | None]:
    """The document while `a` lives and after it expired: once over a root, once over a patched path."""
    docs = quiet()
    docs.put("root", b'{"a":{"b":1},"k":1}')
    docs.put("path", b'{"k":1}')
    docs.merge("path", b'{"a":{"b":1}}')
    column = docs.collection.document_column
    writes = (Write(column, (), MARKER, b""), Write(column, (b"a",), VALUE, b"5", ttl_s=2))
    for key in (b"root", b"path"):
        row = RowWrite(keys.ROW_SUFFIX, writes)
        request = WriteRequest(docs.collection.table, key, (row,), Level.QUORUM, UPDATE)
        assert isinstance(docs.scenario.ask(request, at=1).answer, Written)
    before = [docs.text("root", at=2), docs.text("path", at=2)]
    docs.scenario.run(3)
    return [*before, docs.text("root", at=2), docs.text("path", at=2)]


def test_counterexample_13_what_an_expired_value_replaced_does_not_come_back() -> None:
    assert a_value_that_expires_over_older_ones() == [
        b'{"a":5,"k":1}', b'{"k":1,"a":5}', b'{"k":1}', b'{"k":1}',
    ]  # fmt: skip


def test_counterexample_13_if_the_expired_counts_for_nothing_the_older_comes_back(monkeypatch: Patch) -> None:
    def of_the_living(cells: Any, now_us: int) -> Any:
        return assemble([cell for cell in cells if not cell.is_dead(now_us)])

    monkeypatch.setattr(documents.values, "text_of", of_the_living)
    assert a_value_that_expires_over_older_ones()[2] == b'{"a":{"b":1},"k":1}'


# --- 14: nothing is folded above the floor


def an_edit_and_a_merge_that_it_did_not_see() -> tuple[bool, Any]:
    """Whether the merge is the older of the two, and the document after both were acknowledged."""
    docs = quiet()
    s = docs.scenario
    docs.put("d", b'{"n":1}')
    docs.merge("d", b'{"a":1}')
    s.set_clock(0, 0.2)
    change = update_of({"$inc": {"n": 1}}, NOW_US)
    looked: list[bool] = []

    def apply(document: Any) -> Any:
        looked.append(True)
        return change.apply(document)

    edit = operations.edit(docs.collection, "d", Edit(apply, None, 0))
    merge = operations.edit(docs.collection, "d", merge_patch(b'{"b":1}'))
    assert isinstance(edit, Operation) and isinstance(merge, Operation)
    ends: list[Any] = []
    s.cluster.request(0, edit.request, 5_000_000, ends.append)
    assert s.until(lambda: bool(looked))
    told = s.ask(merge.request, at=1).answer
    assert isinstance(told, Written) and not ends, "acknowledged before the edit"
    assert s.until(lambda: bool(ends))
    document = docs.get("d", at=2)
    assert document is not None
    return told.version < ends[0].answer.version, document.value


def test_counterexample_14_an_edit_leaves_what_was_merged_meanwhile() -> None:
    assert an_edit_and_a_merge_that_it_did_not_see() == (True, {"n": 2, "a": 1, "b": 1})


def test_counterexample_14_if_it_folds_the_cells_into_the_root_an_acknowledged_merge_is_lost(
    monkeypatch: Patch,
) -> None:
    monkeypatch.setattr(
        documents.operations, "written_after", lambda document, _: [((), VALUE, render(document))]
    )
    assert an_edit_and_a_merge_that_it_did_not_see() == (True, {"n": 2, "a": 1})


# --- 15: exact numbers


def thirty_digits_beside_an_edit() -> bytes | None:
    docs = quiet()
    docs.put("d", b'{"l":[123456789012345678901234567890]}')
    docs.update("d", {"$push": {"l": 1}}, at=1)
    docs.merge("d", b'{"m":{"n":0.123456789012345678901234567890}}', at=2)
    return docs.text("d")


def test_counterexample_15_a_number_keeps_its_digits_whatever_is_done_beside_it() -> None:
    wanted = b'{"l":[123456789012345678901234567890,1],"m":{"n":0.123456789012345678901234567890}}'
    assert thirty_digits_beside_an_edit() == wanted


def test_counterexample_15_a_fast_parser_alone_makes_floats_of_them(monkeypatch: Patch) -> None:
    monkeypatch.setattr(core.json_values, "_has_long_numbers", lambda _: False)
    found = thirty_digits_beside_an_edit()
    assert found is not None and found.startswith(b'{"l":[1.2345678901234568e+29,1]')
