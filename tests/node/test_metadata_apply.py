"""How changes of the schema are applied: columns, types, indexes, keyspaces; ids that never come again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from core import limits
from core.metadata import (
    AddColumns,
    AlterKeyspace,
    AlterTable,
    AlterType,
    Change,
    Changes,
    CreateIndex,
    CreateKeyspace,
    CreateTable,
    CreateType,
    DropColumns,
    DropIndex,
    DropKeyspace,
    DropTable,
    DropType,
    Epoch,
    Proposal,
    RenameColumns,
    StepMove,
    TruncateTable,
)
from core.requests import Changed
from core.roles import AlterRole, CreateRole, Role
from core.schema import (
    CLUSTERING,
    PARTITION,
    REGULAR,
    SIMPLE,
    STATIC,
    Column,
    DroppedColumn,
    Index,
    Keyspace,
    Replication,
    Table,
    TableOptions,
    TypeField,
)
from node.metadata_apply import SchemaDraft
from node.metadata_checks import user_types
from node.metadata_state import State, apply
from server.rest.problems import ProblemError
from server.rest.snapshots import changes_of
from tests.node.test_metadata_state import Log, born

ONE_REPLICA = Replication(SIMPLE, (("", 1),))
KEY, CLUSTER = Column(0, "k", "text", PARTITION), Column(0, "c", "int", CLUSTERING, descending=True)


def regular(name: str, kind: str = REGULAR, type_: str = "int") -> Column:
    return Column(0, name, type_, kind)


def begun(*more: Column) -> Log:
    """A keyspace with a table of k, c and a."""
    log = Log(born(1))
    log.change(CreateKeyspace("ks", ONE_REPLICA))
    log.change(CreateTable("ks", "t", (KEY, CLUSTER, regular("a"), *more), TableOptions()))
    return log


def table_of(log: Log, name: str = "t") -> Table:
    table = log.state.table("ks", name)
    assert table is not None
    return table


def code(log: Log, change: Change) -> str:
    """The code of what becomes of a change; a refusal changes nothing and has a text."""
    before = (log.state.keyspaces, log.state.tables, log.state.next_table_id)
    result = log.change(change)
    if result.error or result.code:
        assert (log.state.keyspaces, log.state.tables, log.state.next_table_id) == before, change
        assert result.code, result
    return result.code if result.error else f"({result.code})"


def columns(log: Log) -> list[tuple[str, int]]:
    return [(column.name, column.id) for column in table_of(log).columns]


DONE = "()"

# --- columns


def test_a_column_that_was_dropped_and_added_again_has_another_id() -> None:
    log = begun(regular("b"))
    assert columns(log) == [("k", 0), ("c", 0), ("a", 1), ("b", 2)]
    assert code(log, DropColumns("ks", "t", ("b",), dropped_us=77)) == DONE
    assert table_of(log).dropped == (DroppedColumn(2, "b", "int", REGULAR, 77),)
    assert code(log, AddColumns("ks", "t", (regular("b"), regular("s", STATIC)))) == DONE
    assert columns(log) == [("k", 0), ("c", 0), ("a", 1), ("b", 3), ("s", 4)]
    assert code(log, DropColumns("ks", "t", ("b", "s"), dropped_us=99)) == DONE
    assert [(column.id, column.dropped_us) for column in table_of(log).dropped] == [(3, 99), (4, 99)]
    assert code(log, TruncateTable("ks", "t")) == DONE
    assert code(log, AddColumns("ks", "t", (regular("b"),))) == DONE
    assert columns(log)[-1] == ("b", 5)


def test_a_table_of_an_older_version_goes_on_after_its_greatest_id() -> None:
    """As decoded from what knew of no `next_column_id`."""
    old = (
        b'{"id":7,"keyspace":"ks","name":"t","columns":[{"id":0,"name":"k","type":"text","kind":"partition"},'
    )
    old += b'{"id":4,"name":"a","type":"int","kind":"regular"}],"options":{},"changed_epoch":2}'
    table = msgspec.json.decode(old, type=Table)
    draft = SchemaDraft({"ks": Keyspace("ks", ONE_REPLICA, 2)}, {7: table}, 8, epoch=9, known=())
    for change in (DropColumns("ks", "t", ("a",)), AddColumns("ks", "t", (regular("a"),))):
        assert draft.apply(change) == Changed(9, "")
    assert [(column.name, column.id) for column in draft.tables[7].columns] == [("k", 0), ("a", 5)]


def test_columns_are_added_each_if_it_is_not_there() -> None:
    log = begun()
    assert code(log, AddColumns("ks", "t", (regular("a"),))) == "column_exists"
    assert code(log, AddColumns("ks", "t", (regular("b"), regular("b")))) == "invalid"
    assert code(log, AddColumns("ks", "t", (regular("p", PARTITION),))) == "invalid"
    assert code(log, AddColumns("ks", "t", (regular("a"), regular("b")), if_not_exists=True)) == DONE
    assert code(log, AddColumns("ks", "t", (regular("a"),), if_not_exists=True)) == "(exists)"
    assert columns(log)[2:] == [("a", 1), ("b", 2)]
    assert code(log, AddColumns("ks", "u", (regular("b"),))) == "no_such_table"
    assert code(log, AddColumns("ks", "u", (regular("b"),), if_exists=True)) == "(absent)"


def test_columns_are_dropped_each_if_it_is_there() -> None:
    log = begun(regular("b"))
    assert code(log, DropColumns("ks", "t", ("z",))) == "no_such_column"
    assert code(log, DropColumns("ks", "t", ("k",))) == "invalid"
    assert code(log, DropColumns("ks", "t", ("c",))) == "invalid"
    assert code(log, DropColumns("ks", "t", ("z", "b"))) == "no_such_column"
    assert code(log, DropColumns("ks", "t", ("z", "b"), if_column_exists=True)) == DONE
    assert code(log, DropColumns("ks", "t", ("b",), if_column_exists=True)) == "(absent)"
    assert [name for name, _ in columns(log)] == ["k", "c", "a"]


def test_key_columns_are_renamed_and_their_indexes_follow() -> None:
    log = begun()
    log.change(CreateIndex("ks", "t", Index(0, "i", "c")))
    assert code(log, RenameColumns("ks", "t", (("a", "b"),))) == "invalid"
    assert code(log, RenameColumns("ks", "t", (("z", "b"),))) == "no_such_column"
    assert code(log, RenameColumns("ks", "t", (("k", "a"),))) == "column_exists"
    assert code(log, RenameColumns("ks", "t", (("k", "x"), ("c", "k"), ("x", "c")))) == DONE
    assert [name for name, _ in columns(log)] == ["c", "k", "a"]
    assert table_of(log).columns[1].descending
    assert table_of(log).indexes[0].column == "k"
    assert code(log, RenameColumns("ks", "t", (("z", "y"),), if_column_exists=True)) == DONE


def test_a_static_column_needs_a_clustering_column() -> None:
    log = begun()
    log.change(CreateTable("ks", "flat", (KEY, regular("a")), TableOptions()))
    assert code(log, CreateTable("ks", "x", (KEY, regular("s", STATIC)), TableOptions())) == "invalid"
    assert code(log, AddColumns("ks", "flat", (regular("s", STATIC),))) == "invalid"


def test_columns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TABLE_COLUMNS_MAX", 3)
    monkeypatch.setattr(limits, "DROPPED_COLUMNS_MAX", 2)
    log = begun()
    assert code(log, AddColumns("ks", "t", (regular("b"),))) == "invalid"
    assert code(log, CreateTable("ks", "x", (KEY, regular("n" * 257)), TableOptions())) == "invalid"
    for name in ("a", "b", "c2"):
        log.change(AddColumns("ks", "t", (regular(name),)))
        assert code(log, DropColumns("ks", "t", (name,))) == DONE
    assert [column.name for column in table_of(log).dropped] == ["b", "c2"]


def test_options_are_altered_one_by_one_where_they_are_named() -> None:
    log = begun()
    log.change(AlterTable("ks", "t", TableOptions(comment="x", default_ttl_s=9), only=("comment",)))
    log.change(AlterTable("ks", "t", TableOptions(gc_grace_s=1), only=("gc_grace_s",)))
    assert table_of(log).options == TableOptions(comment="x", gc_grace_s=1)
    assert code(log, AlterTable("ks", "t", TableOptions(), only=("colour",))) == "invalid"
    assert code(log, AlterTable("ks", "u", TableOptions(), if_exists=True)) == "(absent)"
    log.change(AlterTable("ks", "t", TableOptions(changes="keys")))
    assert table_of(log).options == TableOptions(changes="keys")


# --- keyspaces


def test_a_keyspace_goes_with_all_that_is_in_it() -> None:
    log = begun()
    log.change(CreateType("ks", "u", (TypeField("x", "int"),)))
    log.change(CreateTable("ks", "v", (KEY,), TableOptions()))
    assert code(log, DropKeyspace("nowhere")) == "no_such_keyspace"
    assert code(log, DropKeyspace("nowhere", if_exists=True)) == "(absent)"
    assert code(log, DropKeyspace("kv")) == "invalid"
    assert code(log, DropKeyspace("ks")) == DONE
    assert (list(log.state.tables), list(log.state.table_ids)) == ([], [])
    assert sorted(log.state.keyspaces) == ["docs", "kv"]
    log.change(CreateKeyspace("ks", ONE_REPLICA))
    log.change(CreateTable("ks", "t", (KEY,), TableOptions()))
    assert list(log.state.tables) == [3]
    assert log.state.keyspaces["ks"].types == ()


def test_the_replication_of_a_keyspace_is_changed_as_long_as_nothing_would_move() -> None:
    log = begun()
    two = Replication(SIMPLE, (("", 2),))
    assert code(log, AlterKeyspace("ks", two)) == "in_use"
    assert code(log, AlterKeyspace("ks", ONE_REPLICA, durable_writes=False)) == DONE
    log.change(DropTable("ks", "t"))
    assert code(log, AlterKeyspace("ks", two)) == DONE
    keyspace = log.state.keyspaces["ks"]
    assert (keyspace.replication, keyspace.durable_writes) == (two, False)
    assert code(log, AlterKeyspace("ks", Replication(SIMPLE, (("", 0),)))) == "invalid"
    assert code(log, AlterKeyspace("kv", two)) == "invalid"
    assert code(log, AlterKeyspace("nowhere", if_exists=True)) == "(absent)"


def test_neighbours_follow_the_replication_of_keyspaces() -> None:
    log = Log(born(7))
    before = log.state.neighbours(log.state.members[0].peer)
    log.change(CreateKeyspace("wide", ONE_REPLICA))
    log.change(AlterKeyspace("wide", Replication(SIMPLE, (("", 7),))))
    assert len(log.state.neighbours(log.state.members[0].peer)) == 6
    log.change(DropKeyspace("wide"))
    assert log.state.neighbours(log.state.members[0].peer) == before


@pytest.mark.parametrize("name", ["system", "system_schema", "system_auth"])
def test_keyspaces_of_the_cluster_cannot_be_made(name: str) -> None:
    assert code(Log(born(1)), CreateKeyspace(name, ONE_REPLICA)) == "invalid"


# --- types


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("map<text, frozen<list<uuid>>>", []),
        ("frozen<address>", [("", "address")]),
        ('tuple<a, ks.b, "C d", vector<float, 3>>', [("", "a"), ("ks", "b"), ("", "C d")]),
        ('map<"K"."L""m", x>', [("K", 'L"m'), ("", "x")]),
        ("'org.apache.cassandra.X'", []),
        ('"int"', [("", "int")]),
        ("int.int", [("int", "int")]),
    ],
)
def test_user_types_named_in_a_type(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(user_types(text)) == expected


def test_a_type_is_there_before_it_is_used_and_stays_as_long_as_it_is() -> None:
    log = begun()
    uses_inner = regular("b", type_="list<frozen<inner>>")
    assert code(log, AddColumns("ks", "t", (uses_inner,))) == "no_such_type"
    assert code(log, CreateType("ks", "outer", (TypeField("x", "inner"),))) == "no_such_type"
    assert code(log, CreateType("ks", "inner", (TypeField("x", "int"),))) == DONE
    assert code(log, CreateType("ks", "inner", (TypeField("x", "int"),))) == "type_exists"
    assert code(log, CreateType("ks", "inner", (), if_not_exists=True)) == "(exists)"
    assert code(log, CreateType("ks", "outer", (TypeField("x", "frozen<ks.inner>"),))) == DONE
    assert code(log, AddColumns("ks", "t", (uses_inner,))) == DONE
    assert code(log, DropType("ks", "inner")) == "in_use"
    assert code(log, DropType("ks", "outer")) == DONE
    assert code(log, DropType("ks", "inner")) == "in_use"
    assert code(log, DropColumns("ks", "t", ("b",))) == DONE
    assert code(log, DropType("ks", "inner")) == DONE
    assert code(log, DropType("ks", "inner")) == "no_such_type"
    assert code(log, DropType("ks", "inner", if_exists=True)) == "(absent)"


def test_types_stay_in_their_keyspace_and_have_fields_and_names_of_their_own() -> None:
    log = begun()
    log.change(CreateKeyspace("other", ONE_REPLICA))
    log.change(CreateType("other", "u", (TypeField("x", "int"),)))
    assert code(log, AddColumns("ks", "t", (regular("b", type_="other.u"),))) == "invalid"
    assert code(log, CreateType("ks", "int", (TypeField("x", "int"),))) == "invalid"
    assert code(log, CreateType("ks", "v", ())) == "invalid"
    assert code(log, CreateType("ks", "v", (TypeField("x", "int"), TypeField("x", "int")))) == "invalid"
    family = CreateTable("kv_rf9", "x", (KEY, regular("a", type_="nope")), TableOptions(), unique_across="kv")
    assert code(log, msgspec.structs.replace(family, replication=ONE_REPLICA)) == "no_such_type"


def test_altering_a_type_touches_the_tables_that_use_it_through_others_too() -> None:
    log = begun()
    log.change(CreateType("ks", "inner", (TypeField("x", "int"),)))
    log.change(CreateType("ks", "outer", (TypeField("i", "frozen<inner>"),)))
    log.change(CreateTable("ks", "user", (KEY, regular("o", type_="outer")), TableOptions()))
    before = table_of(log).changed_epoch
    assert code(log, AlterType("ks", "inner", add=(TypeField("x", "int"),))) == "field_exists"
    assert code(log, AlterType("ks", "inner", add=(TypeField("y", "frozen<outer>"),))) == "invalid"
    assert code(log, AlterType("ks", "inner", add=(TypeField("y", "nope"),))) == "no_such_type"
    assert code(log, AlterType("ks", "inner", rename=(("q", "z"),))) == "no_such_field"
    again = AlterType("ks", "inner", add=(TypeField("x", "int"),), if_field_not_exists=True)
    assert code(log, again) == "(exists)"
    altered = AlterType("ks", "inner", add=(TypeField("y", "text"),), rename=(("x", "z"), ("y", "x")))
    assert code(log, altered) == DONE
    inner = log.state.keyspaces["ks"].type("inner")
    assert inner is not None
    assert inner.fields == (TypeField("z", "int"), TypeField("x", "text"))
    assert inner.changed_epoch == table_of(log, "user").changed_epoch == log.state.epoch
    assert table_of(log).changed_epoch == before
    assert code(log, AlterType("ks", "nope", if_exists=True)) == "(absent)"


# --- indexes


def test_indexes_have_names_in_the_keyspace_and_ids_like_tables() -> None:
    log = begun(regular("m", type_="map<text, int>"))
    log.change(CreateTable("ks", "t2", (KEY, regular("a")), TableOptions()))
    assert code(log, CreateIndex("ks", "t", Index(9, "", "a"))) == DONE
    assert code(log, CreateIndex("ks", "t", Index(9, "", "a"))) == "index_exists"
    assert code(log, CreateIndex("ks", "t", Index(9, "", "a"), if_not_exists=True)) == "(exists)"
    assert code(log, CreateIndex("ks", "t2", Index(9, "t_a_idx", "a"))) == "index_exists"
    assert code(log, CreateIndex("ks", "t", Index(9, "", "m", "keys"))) == DONE
    assert code(log, CreateIndex("ks", "t", Index(9, "", "m", "values"))) == DONE
    assert code(log, CreateIndex("ks", "t", Index(9, "by z", "a", using="sai"))) == "invalid"
    assert code(log, CreateIndex("ks", "t", Index(9, "i", "z"))) == "no_such_column"
    assert code(log, CreateIndex("ks", "t", Index(9, "i", "k"))) == "invalid"
    assert code(log, CreateIndex("ks", "z", Index(9, "i", "k"), if_not_exists=True)) == "no_such_table"
    assert [(index.name, index.id) for index in table_of(log).indexes] == [
        ("t_a_idx", 3),
        ("t_m_idx", 4),
        ("t_m_values_idx", 5),
    ]
    assert code(log, DropColumns("ks", "t", ("a",))) == "in_use"
    found = log.state.index("ks", "t_m_idx")
    assert found is not None and (found[0].name, found[1].kind) == ("t", "keys")
    assert log.state.index("kv", "t_m_idx") is None
    log.change(TruncateTable("ks", "t"))
    assert (table_of(log).id, [index.id for index in table_of(log).indexes]) == (6, [7, 8, 9])
    assert code(log, DropIndex("ks", "t_a_idx")) == DONE
    assert code(log, DropIndex("ks", "t_a_idx")) == "no_such_index"
    assert code(log, DropIndex("ks", "t_a_idx", if_exists=True)) == "(absent)"
    assert code(log, DropColumns("ks", "t", ("a",))) == DONE


def test_indexes_of_a_table_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TABLE_INDEXES_MAX", 1)
    log = begun(regular("b"))
    assert code(log, CreateIndex("ks", "t", Index(0, "", "a"))) == DONE
    assert code(log, CreateIndex("ks", "t", Index(0, "", "b"))) == "invalid"


# --- whatever happens


names = st.sampled_from(["t", "u"])
fields = st.sampled_from(["a", "b", "s"])
udts = st.sampled_from(["x", "y"])
texts = st.sampled_from(["int", "frozen<x>", "list<frozen<y>>"])
options = st.builds(TableOptions, comment=st.sampled_from(["", "c"]))
keyspaces = st.sampled_from(["ks", "ks", "ks", "kz"])
added = st.builds(regular, fields, st.sampled_from([REGULAR, STATIC]), texts).map(lambda column: (column,))
tables = st.builds(lambda column: (KEY, CLUSTER, *column), added)
fresh = st.builds(TypeField, fields, texts).map(lambda field: (field,))
flag = st.booleans()
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(CreateKeyspace, keyspaces, st.just(ONE_REPLICA)),
    st.builds(DropKeyspace, st.just("kz")),
    st.builds(AlterKeyspace, keyspaces, st.just(Replication(SIMPLE, (("", 2),)))),
    st.builds(CreateTable, keyspaces, names, tables, options, flag),
    st.builds(DropTable, keyspaces, names),
    st.builds(TruncateTable, keyspaces, names),
    st.builds(AlterTable, keyspaces, names, options),
    st.builds(AddColumns, keyspaces, names, added, if_not_exists=flag),
    st.builds(DropColumns, keyspaces, names, fields.map(lambda name: (name,)), st.integers(0, 9)),
    st.builds(RenameColumns, keyspaces, names, st.sampled_from([(("c", "d"),), (("d", "c"),)])),
    st.builds(CreateType, keyspaces, udts, fresh),
    st.builds(AlterType, keyspaces, udts, fresh),
    st.builds(AlterType, keyspaces, udts, rename=st.sampled_from([(("a", "b"),), (("b", "a"),)])),
    st.builds(DropType, keyspaces, udts),
    st.builds(CreateIndex, keyspaces, names, st.builds(Index, st.just(0), st.just(""), fields)),
    st.builds(DropIndex, keyspaces, st.sampled_from(["t_a_idx", "u_b_idx", "t_s_idx"])),
)


def ids(state: State) -> Iterator[int]:
    """Of tables and indexes, as they stand."""
    for table in state.tables.values():
        yield table.id
        yield from (index.id for index in table.indexes)


def check(state: State) -> None:
    """What holds of every schema."""
    given_ids = list(ids(state))
    assert len(dict.fromkeys(given_ids)) == len(given_ids)
    assert all(0 < each < state.next_table_id for each in given_ids)
    assert state.table_ids == {(t.keyspace, t.name): t.id for t in state.tables.values()}
    for table in state.tables.values():
        keyspace = state.keyspaces[table.keyspace]
        held = [c.id for c in table.columns if c.kind in (REGULAR, STATIC)] + [c.id for c in table.dropped]
        assert len(dict.fromkeys(held)) == len(held)
        assert all(0 < each < table.next_column_id for each in held)
        assert all(table.column(index.column) for index in table.indexes)
        used = [name for column in table.columns for _, name in user_types(column.type)]
        used += [n for made in keyspace.types for f in made.fields for _, n in user_types(f.type)]
        assert all(keyspace.type(name) for name in used)


@given(st.lists(changes, max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_id_is_given_twice_and_all_that_is_named_is_there(sequence: list[Change]) -> None:
    log = Log(born(1))
    log.change(CreateKeyspace("ks", ONE_REPLICA))
    log.change(CreateType("ks", "x", (TypeField("a", "int"),)))
    log.change(CreateTable("ks", "t", (KEY, CLUSTER, regular("a")), TableOptions()))
    born_at: dict[int, tuple[str, str]] = {}
    of_columns: dict[tuple[int, int], str] = {}
    epochs: list[Epoch] = []
    for change in sequence:
        before, known = log.state, dict.fromkeys(ids(log.state))
        result = log.change(change)
        assert log.state.last is not None
        epochs.append(log.state.last)
        check(log.state)
        if result.error or result.code:
            assert (log.state.tables, log.state.keyspaces) == (before.tables, before.keyspaces)
        for table in log.state.tables.values():
            if table.id not in known:
                assert table.id >= before.next_table_id
                born_at[table.id] = (table.keyspace, table.name)
            assert born_at.setdefault(table.id, (table.keyspace, table.name)) == (table.keyspace, table.name)
            for column in table.columns:
                if column.id:
                    assert of_columns.setdefault((table.id, column.id), column.name) == column.name
    assert_replayed(log.state, epochs)


def assert_replayed(state: State, epochs: list[Epoch]) -> None:
    """The epochs, read back from their bytes, lead to the same schema in one go."""
    log = Log(born(1))
    log.change(CreateKeyspace("ks", ONE_REPLICA))
    log.change(CreateType("ks", "x", (TypeField("a", "int"),)))
    log.change(CreateTable("ks", "t", (KEY, CLUSTER, regular("a")), TableOptions()))
    proposals: list[Proposal] = []
    for epoch in epochs:
        copy: Any = msgspec.msgpack.decode(msgspec.msgpack.encode(epoch), type=Epoch)
        proposals += copy.entry.proposals
    whole = apply(log.state, Epoch(log.state.epoch + 1, Changes(tuple(proposals))))
    assert list(whole.tables) == list(state.tables)
    assert whole.next_table_id == state.next_table_id
    assert [_ageless(t) for t in whole.tables.values()] == [_ageless(t) for t in state.tables.values()]
    assert [k.name for k in whole.keyspaces.values()] == [k.name for k in state.keyspaces.values()]


def _ageless(table: Table) -> Table:
    return msgspec.structs.replace(table, changed_epoch=0)


# --- unique indexes


def reserving(log: Log) -> list[str]:
    return sorted(f"{table.keyspace}.{table.name}" for table in log.state.tables.values() if table.reserves)


def test_what_a_unique_index_keeps_comes_and_goes_with_it() -> None:
    log = begun(regular("b", REGULAR))
    unique = Index(0, "t__b", "b", unique=True)
    assert code(log, CreateIndex("ks", "t", unique)) == DONE
    index = table_of(log).index("t__b")
    assert index is not None and reserving(log) == ["ks.t__b"]
    kept = log.state.tables[index.reservations]
    assert kept.reserves == index.id and [column.name for column in kept.columns][:2] == ["value", "holder"]
    for change in (
        DropTable("ks", "t__b"),
        TruncateTable("ks", "t__b"),
        AddColumns("ks", "t__b", (regular("x"),)),
    ):
        assert code(log, change) == "in_use"
    assert (
        code(log, CreateTable("ks", "t__b", (regular("k", PARTITION),), TableOptions())) == "already_exists"
    )
    assert code(log, TruncateTable("ks", "t")) == DONE
    again = table_of(log).index("t__b")
    assert again is not None and again.reservations not in (0, index.reservations)
    assert reserving(log) == ["ks.t__b"] and index.reservations not in log.state.tables
    assert code(log, DropIndex("ks", "t__b")) == DONE
    assert reserving(log) == []
    assert code(log, CreateIndex("ks", "t", unique)) == DONE
    assert code(log, DropTable("ks", "t")) == DONE
    assert reserving(log) == []
    assert code(log, CreateTable("ks", "u", (KEY, CLUSTER, regular("b")), TableOptions())) == DONE
    assert code(log, CreateIndex("ks", "u", msgspec.structs.replace(unique, name="u__b"))) == DONE
    assert code(log, DropKeyspace("ks")) == DONE
    assert reserving(log) == []


def test_a_role_is_given_only_what_it_can_have() -> None:
    """An epoch that cannot be applied would end every peer, at each start anew."""
    log = Log(born(1))
    assert code(log, CreateRole(Role("r"))) == DONE
    assert code(log, AlterRole(Role("r", login=True), ("login", "odd"))) == "invalid"
    assert not log.state.roles["r"].login
    assert code(log, AlterRole(Role("r", login=True), ("login",))) == DONE
    assert log.state.roles["r"].login


def test_members_are_not_moved_by_what_is_restored() -> None:
    fine, odd = CreateRole(Role("r")), StepMove(1, "finish")
    assert changes_of(msgspec.msgpack.encode((fine,))) == (fine,)
    for body in (msgspec.msgpack.encode((fine, odd)), b"\x91\xa1\xff", b""):
        with pytest.raises(ProblemError):
            changes_of(body)
