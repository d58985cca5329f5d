"""Buckets as tables, keys as rows, and the way back: everything a door over them relies on."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, strategies as st

from core import limits
from core.cell import Cell
from core.consistency import Level
from core.families import Schema
from core.metadata import AlterTable, Birth, Changes, CreateTable, DropTable, Epoch, Proposal
from core.mutation import DELETE, INSERT
from core.requests import Invalid, MetadataRequest, ReadRequest, ReadRow, RowsRead, ScanRequest, WriteRequest
from core.row import EMPTY_ROW, Row, Tombstone, merge_rows, normal
from core.schema import Column, Member, Table, TableOptions
from kv import buckets, operations as kv
from kv.buckets import Bucket, BucketSpec
from lsm import keys
from node.metadata_state import UNBORN, State, apply
from ring.tokens import token_of

MEMBERS = tuple(Member(bytes([n]) * 16, n, f"n{n}", f"127.0.0.{n}", "dc1", f"r{n}", (n,)) for n in (1, 2, 3))
KEY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def schema_of(*specs: BucketSpec) -> State:
    """The state that creating these buckets leads to."""
    birth = Birth(b"c" * 16, "test", MEMBERS, (MEMBERS[0].peer,))
    changes = tuple(Proposal((1, number), created(spec)) for number, spec in enumerate(specs))
    return apply(apply(UNBORN, Epoch(1, birth)), Epoch(2, Changes(changes)))


def with_columns(schema: State, columns: tuple[Column, ...], keyspace: str = "kv") -> Schema:
    """The same, but its only table has another shape or place."""
    table = next(iter(schema.tables.values()))
    other = msgspec.structs.replace(table, columns=columns, keyspace=keyspace)

    class Altered:
        tables: ClassVar = {other.id: other}
        keyspaces = schema.keyspaces

        def table_across(self, family: str, name: str) -> Table | None:
            return other

    return Altered()


def created(spec: BucketSpec) -> CreateTable:
    request = buckets.create_bucket(spec, MEMBERS)
    assert isinstance(request, MetadataRequest)
    assert isinstance(request.change, CreateTable)
    return request.change


def bucket(**options: object) -> Bucket:
    found = buckets.find(schema_of(BucketSpec("b", **options)), "b")  # type: ignore[arg-type]
    assert found is not None
    return found


def stored(
    request: WriteRequest | Invalid, before: Row = EMPTY_ROW, now_us: int = 1_000
) -> tuple[bytes, Row]:
    """What a coordinator and a replica make of a write at `now_us`: the row key and the row."""
    assert isinstance(request, WriteRequest)
    (write,) = request.rows
    dead_us = now_us + request.ttl_s * limits.SECOND_US if request.ttl_s else 0
    cells = [Cell(w.column, w.path, w.kind, now_us, 7, dead_us, w.value) for w in write.writes]
    if write.replace and not cells:
        return b"", merge_rows(before, Row(Tombstone(now_us, 7, now_us), ()))
    key = keys.row_key(request.table, token_of(request.partition), request.partition, write.suffix)
    return key, merge_rows(before, normal(None, cells))


def read(key: bytes, row: Row, now_us: int) -> RowsRead:
    return RowsRead((ReadRow(key, row),), now_us, False)


# --- buckets


def test_a_bucket_is_a_table_every_door_can_see() -> None:
    change = created(BucketSpec("photos", default_ttl_s=60))
    assert (change.keyspace, change.name, change.unique_across) == ("kv", "photos", "kv")
    assert [(c.name, c.type, c.kind) for c in change.columns] == [
        ("key", "text", "partition"),
        ("value", "blob", "regular"),
        ("content_type", "text", "regular"),
    ]
    assert change.options.default_ttl_s == 60
    assert change.replication is not None
    assert change.replication.factors == (("dc1", 3),)


def test_another_factor_is_another_keyspace_and_one_namespace() -> None:
    assert created(BucketSpec("one", replication_factor=1)).keyspace == "kv_rf1"
    assert created(BucketSpec("three", replication_factor=3)).keyspace == "kv"
    schema = schema_of(BucketSpec("one", replication_factor=1), BucketSpec("three"))
    assert [(b.name, b.replication_factor) for b in buckets.every(schema)] == [("one", 1), ("three", 3)]
    found = buckets.find(schema, "one")
    assert found is not None
    assert found.keyspace == "kv_rf1"
    assert buckets.find(schema, "two") is None


def test_few_peers_hold_fewer_replicas_unless_more_are_demanded() -> None:
    request = buckets.create_bucket(BucketSpec("b"), MEMBERS[:2])
    assert isinstance(request, MetadataRequest)
    assert request.change.replication.factors == (("dc1", 2),)
    refused = buckets.create_bucket(BucketSpec("b", replication_factor=4), MEMBERS)
    assert isinstance(refused, Invalid)
    assert refused.code == "bad_replication_factor"
    assert "1 to 3" in refused.detail


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "é", "x" * 49, "a\n", "a.b", "a\x00", "-a", "_"])
def test_names_that_are_refused(name: str) -> None:
    refused = buckets.create_bucket(BucketSpec(name), MEMBERS)
    assert isinstance(refused, Invalid)
    assert refused.code == "bad_bucket_name"


def test_what_may_change_and_what_may_not() -> None:
    found = bucket(default_ttl_s=5)
    assert buckets.conflict(found, BucketSpec("b", default_ttl_s=9)) is None
    assert buckets.conflict(found, BucketSpec("b", replication_factor=3)) is None
    for other in (BucketSpec("b", ordered=True), BucketSpec("b", replication_factor=1)):
        problem = buckets.conflict(found, other)
        assert problem is not None
        assert problem.code == "bucket_exists"
    altered = buckets.alter_bucket(found, BucketSpec("b", default_ttl_s=9))
    options = TableOptions(default_ttl_s=9)
    assert altered == MetadataRequest(AlterTable("kv", "b", options, ("default_ttl_s",)))
    altered = buckets.alter_bucket(found, BucketSpec("b", default_ttl_s=5, changes="new"))
    options = TableOptions(default_ttl_s=5, changes="new")
    assert altered == MetadataRequest(AlterTable("kv", "b", options, ("default_ttl_s", "changes")))
    kept = buckets.alter_bucket(found, BucketSpec("b", changes_kept_s=60, changes_kept_bytes=7))
    options = TableOptions(default_ttl_s=5, changes_kept_s=60, changes_kept_bytes=7)
    names = ("changes_kept_s", "changes_kept_bytes")
    assert kept == MetadataRequest(AlterTable("kv", "b", options, names))
    for seconds, size in ((None, -1), (None, 2**51), (-1, None)):
        bad = BucketSpec("b", changes_kept_s=seconds, changes_kept_bytes=size)
        assert isinstance(buckets.alter_bucket(found, bad), Invalid)
    assert isinstance(buckets.alter_bucket(found, BucketSpec("b", default_ttl_s=-1)), Invalid)
    assert isinstance(buckets.alter_bucket(found, BucketSpec("b", changes="all")), Invalid)
    assert buckets.drop_bucket(found) == MetadataRequest(DropTable("kv", "b", if_exists=True))


def test_a_table_of_another_shape_is_no_bucket() -> None:
    schema = schema_of(BucketSpec("b"))
    columns = schema.tables[1].columns
    assert buckets.find(with_columns(schema, columns), "b") is not None
    assert buckets.find(with_columns(schema, columns[:2]), "b") is None
    assert buckets.find(with_columns(schema, columns, "films"), "b") is None
    assert list(buckets.every(with_columns(schema, columns, "kvx"))) == []
    schema = schema_of(BucketSpec("b", ordered=True))
    columns = schema.tables[1].columns
    assert buckets.find(with_columns(schema, columns), "b") is not None
    for at, changed in ((1, {"descending": True}), (2, {"kind": "static"}), (3, {"kind": "static"})):
        other = msgspec.structs.replace(columns[at], **changed)
        found = buckets.find(with_columns(schema, (*columns[:at], other, *columns[at + 1 :])), "b")
        assert found is None, f"{other} is written and read in another way"


# --- values


@given(key=KEY_TEXT, value=st.binary(max_size=50), ordered=st.booleans())
def test_what_was_put_is_what_is_got(key: str, value: bytes, ordered: bool) -> None:
    b = bucket(ordered=ordered)
    request = kv.put(b, key, value, "text/plain; charset=utf-8", Level.QUORUM)
    row_key, row = stored(request)
    found = kv.value_of(b, read(row_key, row, 2_000))
    assert found is not None
    assert (found.value, found.content_type, found.version) == (
        value,
        "text/plain; charset=utf-8",
        (1_000, 7),
    )
    assert found.etag == '"3e8-7"'
    assert kv.key_of(b, row_key) == key
    get = kv.get(b, key, Level.ONE)
    assert isinstance(request, WriteRequest)
    assert isinstance(get, ReadRequest)
    assert (get.table, get.partition, get.first, get.point) == (
        request.table,
        request.partition,
        request.rows[0].suffix,
        True,
    )
    assert request.operation == INSERT


def test_a_put_leaves_nothing_of_the_older_value_and_a_delete_nothing() -> None:
    b = bucket()
    _, first = stored(kv.put(b, "k", b"old", "a/b", Level.ONE, ttl_s=1))
    key, second = stored(kv.put(b, "k", b"new", "c/d", Level.ONE), first, 2_000)
    assert all(cell.timestamp_us == 2_000 for cell in second.cells)
    found = kv.value_of(b, read(key, second, 10**12))
    assert found is not None
    assert (found.value, found.content_type) == (b"new", "c/d")
    request = kv.delete(b, "k", Level.ONE)
    assert isinstance(request, WriteRequest)
    assert (request.operation, request.rows[0].writes, request.rows[0].replace) == (DELETE, (), True)
    _, third = stored(request, second, 3_000)
    assert kv.value_of(b, read(key, third, 4_000)) is None
    assert kv.value_of(b, RowsRead((), 1, False)) is None


def test_ttl_of_the_write_then_of_the_bucket_and_zero_is_for_ever() -> None:
    b = bucket(default_ttl_s=10)
    for ttl_s, seconds in ((None, 10), (3, 3), (0, None)):
        key, row = stored(kv.put(b, "k", b"v", "a/b", Level.ONE, ttl_s=ttl_s))
        if seconds is None:
            assert kv.value_of(b, read(key, row, 2**62)) is not None
        else:
            last_us = 1_000 + seconds * limits.SECOND_US
            assert kv.value_of(b, read(key, row, last_us - 1)) is not None
            assert kv.value_of(b, read(key, row, last_us)) is None
    for wrong in (-1, limits.TTL_S_MAX + 1):
        refused = kv.put(b, "k", b"v", "a/b", Level.ONE, ttl_s=wrong)
        assert isinstance(refused, Invalid)
        assert refused.code == "bad_ttl"


def test_a_table_with_more_columns_is_replaced_by_a_tombstone() -> None:
    schema = schema_of(BucketSpec("b"))
    more = (*schema.tables[1].columns, Column(9, "extra", "int", "regular"))
    found = buckets.find(with_columns(schema, more), "b")
    assert found is not None
    for b, replaced in ((found, True), (bucket(), False)):
        request = kv.put(b, "k", b"v", "a/b", Level.ONE)
        assert isinstance(request, WriteRequest)
        assert request.rows[0].replace is replaced


def test_a_row_without_a_value_is_an_empty_one() -> None:
    b = bucket()
    found = kv.value_of(b, read(b"", Row(None, (Cell(0, (), 0, 5, 1, 0, b""),)), 10))
    assert found == kv.Value(b"", kv.OCTETS, (5, 1))


def test_a_content_type_that_cql_wrote_and_is_none_is_not_told() -> None:
    """A line break would end the header: such an answer could not be written."""
    b = bucket()
    for text in (b"a/b\r\nX: y", "à/b".encode(), b"a" * (limits.CONTENT_TYPE_BYTES_MAX + 1)):
        cells = Cell(b.value_column, (), 0, 5, 1, 0, b"v"), Cell(b.content_type_column, (), 0, 5, 1, 0, text)
        answer = read(keys.row_key(b.table, token_of(b"k"), b"k"), Row(None, cells), 10)
        assert kv.value_of(b, answer) == kv.Value(b"v", kv.OCTETS, (5, 1))
        assert kv.listed(b, answer, "") == [kv.Listed("k", 1, kv.OCTETS, (5, 1))]


def test_a_listing_goes_on_after_the_empty_key() -> None:
    """There is none in REST, but CQL may write one; a page may end there."""
    b = bucket(ordered=True)
    found = kv.listing(b, "", kv.cursor(b, ""), 1, Level.ONE)
    assert isinstance(found, ReadRequest)
    assert keys.ROW_SUFFIX + keys.clustering_text("") < found.first
    assert found.first <= keys.ROW_SUFFIX + keys.clustering_text("\0")
    assert isinstance(kv.listing(bucket(), "", kv.cursor(bucket(), ""), 1, Level.ONE), Invalid)


def test_limits_of_keys_values_and_content_types() -> None:
    b = bucket()

    def code(key: str, value: bytes = b"", content_type: str = "a/b") -> str:
        answer = kv.put(b, key, value, content_type, Level.ONE)
        return answer.code if isinstance(answer, Invalid) else "ok"

    assert code("k" * limits.KEY_BYTES_MAX) == "ok"
    assert code("k" * (limits.KEY_BYTES_MAX + 1)) == "bad_key"
    assert code("가" * (limits.KEY_BYTES_MAX // 3 + 1)) == "bad_key"
    assert code("") == "bad_key"
    assert code("\ud800") == "bad_key"
    assert code("a\x00b") == "ok"
    assert code("k", bytes(limits.VALUE_BYTES_MAX)) == "ok"
    assert code("k", bytes(limits.VALUE_BYTES_MAX + 1)) == "too_large"
    assert code("k", b"", "a/b\r\nx: y") == "bad_content_type"
    assert code("k", b"", "a" * (limits.CONTENT_TYPE_BYTES_MAX + 1)) == "bad_content_type"
    for answer in (kv.get(b, "", Level.ONE), kv.delete(b, "", Level.ONE)):
        assert isinstance(answer, Invalid)


# --- listing


@given(
    names=st.lists(KEY_TEXT, unique=True, max_size=12), prefix=st.text("ab\x00가", max_size=2), after=KEY_TEXT
)
def test_an_ordered_listing_is_the_slice_of_keys(names: list[str], prefix: str, after: str) -> None:
    b = bucket(ordered=True)
    request = kv.listing(b, prefix, kv.cursor(b, after), 10, Level.ONE)
    assert isinstance(request, ReadRequest)
    for name in names:
        put = kv.put(b, name, b"", "a/b", Level.ONE)
        assert isinstance(put, WriteRequest)
        inside = request.first <= put.rows[0].suffix < request.end
        assert inside == (name.startswith(prefix) and name.encode() > after.encode())
    assert request.partition == b"b"


def test_a_listing_in_token_order_goes_on_after_the_row_of_its_cursor() -> None:
    b = bucket()
    row_key, row = stored(kv.put(b, "a/é", b"12345", "x/y", Level.ONE))
    first = kv.listing(b, "", "", 7, Level.QUORUM)
    assert first == ScanRequest(b.table, b"", 7, Level.QUORUM)
    assert kv.listing(b, "a", kv.cursor(b, "a/é"), 7, Level.QUORUM) == ScanRequest(
        b.table, row_key, 7, Level.QUORUM
    )
    answer = read(row_key, row, 2_000)
    assert kv.listed(b, answer, "a/") == [kv.Listed("a/é", 5, "x/y", (1_000, 7))]
    assert kv.listed(b, answer, "b") == []


@pytest.mark.parametrize("text", ["x", "!!!!", "AAAA", "é", "a" * 200_000, "kgKheA", "kgGi__4"])
def test_cursors_that_are_refused(text: str) -> None:
    for other in (bucket(), bucket(ordered=True)):
        answer = kv.listing(other, "", text, 1, Level.ONE)
        assert isinstance(answer, Invalid)
        assert answer.code == "bad_cursor"


def test_a_cursor_of_another_table_is_refused() -> None:
    schema = schema_of(BucketSpec("a"), BucketSpec("b"))
    a, b = buckets.every(schema)
    assert isinstance(kv.listing(b, "", kv.cursor(a, "k"), 1, Level.ONE), Invalid)
    assert not isinstance(kv.listing(a, "", kv.cursor(a, "k"), 1, Level.ONE), Invalid)
