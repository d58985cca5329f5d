"""From the stores of replicas that differ to the rows that are sent: merged, with the columns of now."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.output import Failure
from cli.snapshots.folder import Folder, Snapshot
from cli.snapshots.reading import Opened, mutations
from cli.snapshots.restoring import batches, columns_of, fitted, plan_of, restored_of
from core.cell import ROW_MARKER_COLUMN, VALUE, Cell
from core.metadata import Birth, Changes, CreateTable, Epoch, Proposal
from core.mutation import INSERT, Mutation, encode_mutation
from core.row import OPERATION_SUFFIX, Header, Row, Tombstone, decode_row, encode_header, encode_row
from core.schema import (
    CLUSTERING,
    NETWORK_TOPOLOGY,
    PARTITION,
    REGULAR,
    SIMPLE,
    Column,
    DroppedColumn,
    Member,
    Replication,
    Table,
    TableOptions,
)
from lsm import keys
from lsm.log import EVENT, ChangeLog
from lsm.rocks import RocksEngine
from node.metadata_state import UNBORN, apply
from ring.tokens import token_of
from server.snapshots.taking import HASHES, About, File, Manifest, Snapshots

COLUMNS = (
    Column(0, "k", "text", PARTITION),
    Column(1, "a", "text", REGULAR),
    Column(2, "b", "text", REGULAR),
)
TABLE = Table(7, "ks", "t", COLUMNS, TableOptions(), 1)


def cell(column: int, value: bytes, at_us: int) -> Cell:
    return Cell(column, (), VALUE, at_us, 1, 0, value)


def row(*cells: Cell) -> bytes:
    return encode_row(Row(None, cells))


def key(name: bytes, suffix: bytes = keys.ROW_SUFFIX, table: int = 7) -> bytes:
    return keys.row_key(table, token_of(name), name, suffix)


def snapshot_of(tmp_path: Path, *stores: dict[bytes, bytes]) -> Opened:
    """Take a snapshot of peers that hold these records, bring it into a folder, open it there."""
    folder = Folder(tmp_path / "folder")
    folder.begin("s")
    manifests = []
    for number, records in enumerate(stores):
        path = tmp_path / f"peer{number}"
        path.mkdir()
        engine = RocksEngine.open(path, lambda: 0)
        engine.write(list(records.items()))
        snapshots = Snapshots(engine, path)
        manifest = snapshots.take("s", About("c", "00", f"n{number}", f"{number:02x}", 1))
        for file in manifest.files:
            if not folder.has(file.hash):
                with snapshots.file("s", file.name).open("rb") as source:
                    folder.add(file.hash, source)
        folder.put("s", manifest)
        manifests.append(manifest)
        engine.close()
    folder.complete(Snapshot("s", 1, 2, "c", tuple(m.about.peer for m in manifests), (), 0), manifests)
    return Opened(folder, folder.manifests("s"), tmp_path / "scratch")


def test_replicas_that_differ_are_merged_and_operation_ids_left_out(tmp_path: Path) -> None:
    opened = snapshot_of(
        tmp_path,
        {
            key(b"x"): row(cell(1, b"old", 1), cell(2, b"here", 2)),
            key(b"x", keys.HEADER_SUFFIX): encode_header(Header(Tombstone(1, 1, 1))),
            key(b"x", OPERATION_SUFFIX + b"id"): row(cell(1, b"record", 1)),
            key(b"x", table=8): row(cell(1, b"of another table", 1)),
        },
        {
            key(b"x"): row(cell(1, b"new", 3)),
            key(b"x", keys.HEADER_SUFFIX): encode_header(Header(Tombstone(2, 1, 2))),
            key(b"y"): row(cell(1, b"only there", 1)),
        },
    )
    try:
        found = {each.partition: each for each in restored_of(opened.rows(7), TABLE, TABLE)}
    finally:
        opened.close()
    assert sorted(found) == [b"x", b"y"]
    assert found[b"x"].header == encode_header(Header(Tombstone(2, 1, 2)))
    ((suffix, data),) = found[b"x"].rows
    assert suffix == keys.ROW_SUFFIX
    assert [each.value for each in decode_row(data).cells] == [b"new", b"here"]


def test_large_values_come_too(tmp_path: Path) -> None:
    value = bytes(range(256)) * 4_096
    opened = snapshot_of(tmp_path, {key(b"x"): row(cell(1, value, 1))})
    try:
        ((_, data),) = next(restored_of(opened.rows(7), TABLE, TABLE)).rows
    finally:
        opened.close()
    assert decode_row(data).cells[0].value == value


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    opened = snapshot_of(tmp_path, {key(b"x"): row(cell(1, b"v", 1))})
    opened.close()
    folder = Folder(tmp_path / "folder")
    table_file = next(file for file in folder.manifests("s")[0].files if file.name.endswith(".sst"))
    (tmp_path / "folder" / "files" / table_file.hash[:2] / table_file.hash).unlink()
    with pytest.raises(Failure, match=rf"is missing in .*{table_file.name} of n0"):
        Opened(folder, folder.manifests("s"), tmp_path / "again")


def test_cells_get_the_column_ids_of_now_and_dropped_ones_stay_behind() -> None:
    old = Table(
        7, "ks", "t", (*COLUMNS[:2], Column(4, "b", "text", REGULAR)), TableOptions(), 1,
        dropped=(DroppedColumn(3, "c", "text", REGULAR, 5),),
    )  # fmt: skip
    assert columns_of(TABLE, TABLE) == {}
    data = row(cell(ROW_MARKER_COLUMN, b"", 1), cell(1, b"a", 1), cell(3, b"dropped", 1), cell(4, b"b", 1))
    (found,) = restored_of([(key(b"x"), data)], old, TABLE)
    cells = decode_row(found.rows[0][1]).cells
    assert [(each.column, each.value) for each in cells] == [(ROW_MARKER_COLUMN, b""), (1, b"a"), (2, b"b")]


def test_cells_are_restored_into_columns_that_are_what_theirs_were() -> None:
    another = (*COLUMNS[:2], Column(2, "c", "text", REGULAR))
    new = Table(9, "ks", "t", another, TableOptions(), 1)
    data = row(cell(1, b"a", 1), cell(2, b"b", 1))
    (found,) = restored_of([(key(b"x"), data)], TABLE, new)
    cells = decode_row(found.rows[0][1]).cells
    assert [(each.column, each.value) for each in cells] == [(1, b"a")], "b is no c, though it has its place"
    for columns, said in (
        ((*COLUMNS[:2], Column(2, "b", "int", REGULAR)), "b as regular int, not regular text"),
        ((*COLUMNS[:1], Column(3, "a", "text", CLUSTERING), COLUMNS[2]), "another primary key"),
    ):
        with pytest.raises(Failure, match=f"ks.t is there with {said}"):
            columns_of(TABLE, Table(9, "ks", "t", columns, TableOptions(), 1))


def test_messages_are_of_a_good_size_and_nothing_is_lost() -> None:
    rows = [(key(b"big", keys.ROW_SUFFIX + b"%04d" % n), row(cell(1, b"v" * 1_000, n))) for n in range(700)]
    rows += [(key(b"k%03d" % n), row(cell(1, b"v", n))) for n in range(600)]
    sent = list(batches(restored_of(sorted(rows), TABLE, TABLE)))
    pieces = [piece for message in sent for piece in message]
    assert sum(len(piece.rows) for piece in pieces) == len(rows)
    assert all(len(message) <= 500 for message in sent)
    assert max(sum(len(data) for piece in message for _, data in piece.rows) for message in sent) < 600_000
    assert len([piece for piece in pieces if piece.partition == b"big"]) > 1


def test_no_keyspace_gets_more_replicas_than_there_are_peers() -> None:
    simple = Replication(SIMPLE, (("", 3),))
    assert fitted(simple, {"dc1": 1}) == Replication(SIMPLE, (("", 1),))
    assert fitted(simple, {"dc1": 2, "dc2": 2}) == simple
    two = Replication(NETWORK_TOPOLOGY, (("dc1", 3), ("dc2", 2)))
    assert fitted(two, {"dc1": 2, "dc3": 5}) == Replication(NETWORK_TOPOLOGY, (("dc1", 2),))
    assert fitted(two, {"dc9": 2}) == Replication(NETWORK_TOPOLOGY, (("dc9", 2),))


def test_what_is_asked_for_is_planned_and_an_unknown_name_refused() -> None:
    member = Member(b"p" * 16, 1, "n1", "127.0.0.1", "dc1", "r1", (0,))
    state = apply(UNBORN, Epoch(1, Birth(b"c" * 16, "c", (member,), (member.peer,), 1)))
    made = CreateTable("kv", "b", COLUMNS, TableOptions(), unique_across="kv")
    state = apply(state, Epoch(2, Changes((Proposal((1, 1), made),))))
    plan = plan_of(state, ["kv.b"], {"dc1": 1})
    assert [table.name for table in plan.tables] == ["b"]
    assert plan.schema[-1] == CreateTable(
        "kv", "b", tuple(Column(0, c.name, c.type, c.kind) for c in COLUMNS), TableOptions(),
        if_not_exists=True, unique_across="kv", replication=state.keyspaces["kv"].replication,
    )  # fmt: skip
    assert plan_of(state, ["docs"], {"dc1": 1}).tables == ()
    with pytest.raises(Failure, match=r"no keyspace or table kv\.c"):
        plan_of(state, ["kv.c"], {"dc1": 1})


def test_mutations_of_a_log_up_to_a_moment(tmp_path: Path) -> None:
    engine = RocksEngine.open(tmp_path, lambda: 0)
    log = ChangeLog(engine)
    try:
        for sequence, at_us in enumerate((10, 30, 20), 1):
            mutation = Mutation(
                1, sequence, 0, at_us, True, INSERT, 7, 5, b"k", None, ((keys.ROW_SUFFIX, Row(None, ())),)
            )
            puts: list[tuple[bytes, bytes | None]] = []
            log.stage(
                puts, EVENT, mutation, encode_mutation(mutation), (), id_key=keys.mutation_id_key(mutation.id)
            )
            engine.write(puts)
            log.commit()
        assert [each.sequence for each in mutations(log, 0, 25)] == [1, 3]
        assert [each.sequence for each in mutations(log, 1, 99)] == [2, 3]
    finally:
        engine.close()


@pytest.mark.parametrize("kept", [b"{", b"[]", b'{"1 2 3": "../evil"}', b"\xff"])
def test_hashes_that_were_kept_and_cannot_be_used_are_made_again(tmp_path: Path, kept: bytes) -> None:
    engine = RocksEngine.open(tmp_path, lambda: 0)
    engine.write([(key(b"k"), b"v")])
    snapshots = Snapshots(engine, tmp_path)
    about = About("c", "00", "n1", "01", 1)
    first = snapshots.take("first", about)
    (tmp_path / "snapshots" / HASHES).write_bytes(kept)
    second = snapshots.take("second", about)
    engine.close()

    def tables(manifest: Manifest) -> list[File]:
        return [file for file in manifest.files if file.name.endswith(".sst")]

    assert tables(second) == tables(first) != []
