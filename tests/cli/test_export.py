"""`sullae export` from a peer that fails, dies and comes back: what the folder holds at each moment."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.export import Export, Wanted, slices
from cli.load import Tally
from cli.native.client import Client
from cli.native.connection import Access
from cli.output import Failure
from cli.shell.schema import assembled
from core.consistency import Level
from cql_lite import types, wire
from tests.cli.shell.stub_server import Stub, serving

SCHEMA = assembled(
    [("shop",), ("system_views",)],
    [("shop", "t"), ("system_views", "v")],
    [("shop", "t", "k", "int", "partition_key", 0), ("shop", "t", "v", "text", "regular", -1)],
    [],
)
ROWS = {key: f'v"{key},\n' for key in range(200)}
TOKENS = {key: -(2**63) + key * (2**64 // 199) for key in ROWS}
TOKENS[199] = 2**63 - 1
AWAY = wire.Unavailable(message="away", consistency=Level.QUORUM, required=2, alive=1)
BROKEN = wire.Invalid(message="broken")


class Peer:
    """Answers pages of 7 rows of a range; `fault` says what to answer the nth page with instead."""

    def __init__(self) -> None:
        self.stub = Stub(self.answer)
        self.pages = 0
        self.levels: set[Level] = set()
        self.fault: Callable[[int], wire.Error | str | None] = lambda number: ""

    async def answer(self, request: wire.Request) -> wire.Response | None:
        if isinstance(request, wire.Prepare):
            assert request.text == "SELECT k, v FROM shop.t WHERE token(k) >= ? AND token(k) <= ?"
            return wire.Prepared(b"q", wire.NO_COLUMNS)
        assert isinstance(request, wire.Execute)
        self.pages += 1
        found = self.fault(self.pages)
        if not isinstance(found, str):
            return found
        asked = request.parameters
        self.levels.add(asked.consistency)
        first, last = (int.from_bytes(end, "big", signed=True) for end in asked.values)  # type: ignore[arg-type]
        keys = [key for key, token in TOKENS.items() if first <= token <= last]
        begin = int(asked.paging_state or b"0")
        rows = [[types.INT.encode(key), ROWS[key].encode()] for key in keys[begin : begin + 7]]
        columns = [
            wire.ColumnSpec("shop", "t", "k", types.INT),
            wire.ColumnSpec("shop", "t", "v", types.TEXT),
        ]
        more = b"%d" % (begin + 7) if begin + 7 < len(keys) else None
        return wire.Rows(wire.Metadata(columns), rows, more)


async def run(peer: Peer, wanted: Wanted) -> Tally:
    async with serving(peer.stub):
        client = Client([("127.0.0.1", peer.stub.port)], Access())
        try:
            return await Export(client, SCHEMA, wanted, lambda tally: None).run()
        finally:
            client.close()


def exported(folder: Path, kind: str) -> dict[int, str]:
    """All rows, none twice; every file that can be seen is whole."""
    found: list[tuple[int, str]] = []
    for path in sorted(folder.glob("part-*")):
        if kind == "parquet":
            arrow = pytest.importorskip("pyarrow.parquet")
            found += [(row["k"], row["v"]) for row in arrow.read_table(path).to_pylist()]
        elif kind == "ndjson":
            found += [(row["k"], row["v"]) for row in map(json.loads, path.read_text().splitlines())]
        else:
            with path.open(newline="") as file:
                found += [(int(row["k"]), row["v"]) for row in csv.DictReader(file)]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 64])
def test_slices_are_the_ring(parts: int) -> None:
    found = slices(parts)
    assert found[0][0] == -(2**63) and found[-1][1] == 2**63 - 1 and len(found) == parts
    assert all(one[1] + 1 == other[0] for one, other in itertools.pairwise(found))


@pytest.mark.parametrize("kind", ["parquet", "ndjson", "csv"])
async def test_a_table_becomes_files(tmp_path: Path, kind: str) -> None:
    peer = Peer()
    tally = await run(peer, Wanted("shop.t", kind, tmp_path / "a" / "b", parts=5))
    assert exported(tmp_path / "a" / "b", kind) == ROWS
    assert (tally.loaded, tally.bytes_read, tally.bytes_total) == (200, 5, 5)
    assert peer.levels == {Level.QUORUM}


@pytest.mark.parametrize("kind", ["parquet", "ndjson"])
@pytest.mark.parametrize("stop_at", [1, 4, 13, 22, 30])
async def test_an_interrupted_export_goes_on(tmp_path: Path, kind: str, stop_at: int) -> None:
    peer = Peer()
    wanted = Wanted("shop.t", kind, tmp_path, parts=9)
    peer.fault = lambda number: BROKEN if number >= stop_at else ""
    with pytest.raises(Failure, match="stopped: Invalid request: broken") as error:
        await run(peer, wanted)
    assert error.value.hint == "the same command goes on from here"
    before = exported(tmp_path, kind)
    assert before.items() <= ROWS.items() and len(before) < len(ROWS)
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("part-*")}
    peer.fault = lambda number: ""
    tally = await run(peer, wanted)
    assert exported(tmp_path, kind) == ROWS
    assert tally.loaded == len(ROWS) - len(before) and tally.resumed_at_line == len(kept)
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("part-*")}.items()
    assert not list(tmp_path.glob(".part-*"))
    assert (await run(peer, wanted)).loaded == 0


async def test_what_passes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.export.PAUSE_S", 0.0)
    peer = Peer()
    faults: dict[int, wire.Error | None] = {3: AWAY, 5: None, 6: AWAY}  # None: the connection breaks
    peer.fault = lambda number: faults.get(number, "")
    await run(peer, Wanted("shop.t", "ndjson", tmp_path, parts=3))
    assert exported(tmp_path, "ndjson") == ROWS


async def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    peer = Peer()
    await run(peer, Wanted("shop.t", "csv", tmp_path, parts=2))
    for other in (Wanted("shop.t", "ndjson", tmp_path, 2), Wanted("shop.t", "csv", tmp_path, 3)):
        with pytest.raises(Failure, match=r"has another export: shop\.t as csv"):
            await run(peer, other)
    assert exported(tmp_path, "csv") == ROWS
    await run(peer, Wanted("shop.t", "ndjson", tmp_path, 3, restart=True))
    assert sorted(path.suffix for path in tmp_path.glob("part-*")) == [".ndjson"] * 3
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "part-of-mine").write_text("")
    with pytest.raises(Failure, match="files of others"):
        await run(peer, Wanted("shop.t", "csv", tmp_path / "x", restart=True))


async def test_names_that_are_no_table(tmp_path: Path) -> None:
    for name, why in (("shop.x", "no table shop.x"), ("t", "no table t"), ("system_views.v", "no ranges")):
        with pytest.raises(Failure, match=why):
            await run(Peer(), Wanted(name, "csv", tmp_path))
    assert not list(tmp_path.iterdir())
