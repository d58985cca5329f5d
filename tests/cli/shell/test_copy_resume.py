"""COPY that is interrupted: what is tried again, when it stops, and that it goes on where it was."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cli.native import protocol
from cli.native.client import Client
from cli.shell import copy_from as importing, copy_to as exporting, shell as shell_module
from cli.shell.options import Options
from cli.shell.output import Output
from cli.shell.schema import Schema, assembled
from cli.shell.shell import Shell
from core.consistency import Level
from cql_lite import types, wire
from cql_lite.operation_ids import PAYLOAD_KEY
from tests.cli.shell.stub_server import Stub, serving

ROWS = 300
SCHEMA = assembled(
    [("shop",)],
    [("shop", "t")],
    [("shop", "t", "k", "int", "partition_key", 0), ("shop", "t", "v", "text", "regular", -1)],
    [],
)
COUNTED = assembled(
    [("shop",)],
    [("shop", "t")],
    [("shop", "t", "k", "int", "partition_key", 0), ("shop", "t", "v", "counter", "regular", -1)],
    [],
)
AWAY = wire.Unavailable(message="away", consistency=Level.QUORUM, required=2, alive=1)
LATE = wire.WriteTimeout(
    message="late", consistency=Level.QUORUM, received=1, required=2, write_type="SIMPLE"
)


class Table:
    """A peer that keeps what is inserted, and answers with errors when it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes | None] = []
        self.error: wire.Error | None = None
        self.errors_left = 0
        self.good_left = -1
        self.payloads: list[tuple[object, wire.Payload]] = []
        self.stub = Stub(self.answer)

    async def answer(self, request: wire.Request) -> wire.Response:
        if isinstance(request, wire.Prepare):
            return wire.Prepared(b"insert", wire.NO_COLUMNS)
        assert isinstance(request, wire.Execute)
        self.payloads.append((request.parameters.values[1], self.stub.payloads[-1]))
        if self.error is not None and self.good_left == 0 and self.errors_left != 0:
            self.errors_left -= 1
            return self.error
        self.good_left -= 1 if self.good_left > 0 else 0
        self.written.append(request.parameters.values[0])  # type: ignore[arg-type]
        return wire.Void()

    def fail(self, error: wire.Error, *, after: int, times: int = -1) -> None:
        """Answer so after some good answers, so many times (-1: always)."""
        self.error, self.good_left, self.errors_left = error, after, times


def shell_on(stub: Stub, monkeypatch: pytest.MonkeyPatch, schema: Schema = SCHEMA) -> Shell:
    async def read(_client: Client) -> Schema:
        return schema

    monkeypatch.setattr(shell_module, "read_schema", read)
    options = Options([("127.0.0.1", stub.port)])
    return Shell(options, Client(options.endpoints, options.access), Output(colour=False))


def keys(written: list[bytes | None]) -> list[int]:
    return sorted(types.INT.decode(key) for key in written if key is not None)


async def test_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.csv"
    file.write_text("".join(f"{n},x\n" for n in range(ROWS)))
    for error in (AWAY, LATE, wire.Overloaded(message="busy")):
        table = Table()
        table.fail(error, after=10, times=5)
        async with serving(table.stub):
            shell = shell_on(table.stub, monkeypatch)
            assert await shell.run(f"COPY shop.t FROM '{file}' WITH IN_FLIGHT = 8")
            shell.client.close()
        assert keys(table.written) == list(range(ROWS))
    assert not list(tmp_path.glob("*.copying"))


async def test_a_row_that_no_request_holds_is_a_reject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(protocol, "CQL_ENVELOPE_BYTES_MAX", 1_000)
    file = tmp_path / "t.csv"
    file.write_text("".join(f"{n},{'x' * (2_000 if n % 100 == 50 else 1)}\n" for n in range(ROWS)))
    table = Table()
    async with serving(table.stub):
        shell = shell_on(table.stub, monkeypatch)
        assert not await shell.run(f"COPY shop.t FROM '{file}' WITH IN_FLIGHT = 2")
        shell.client.close()
    assert len(keys(table.written)) == ROWS - 3
    assert "3 lines rejected" in capsys.readouterr().err
    assert "is too large" in (tmp_path / "t.csv.rejects").read_text()


@pytest.mark.parametrize("bad", ["nonsense,x", f"1,{'x' * 2_000}"], ids=["read", "sent"])
async def test_rejects_that_cannot_be_kept_stop_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad: str
) -> None:
    monkeypatch.setattr(protocol, "CQL_ENVELOPE_BYTES_MAX", 1_000)
    file = tmp_path / "t.csv"
    file.write_text("".join(f"{n},x\n" if n % 10 else f"{bad}\n" for n in range(ROWS)))
    nowhere, table = tmp_path / "nowhere" / "rejects", Table()
    async with serving(table.stub):
        shell = shell_on(table.stub, monkeypatch)
        copy = f"COPY shop.t FROM '{file}' WITH IN_FLIGHT = 2"
        assert not await shell.run(f"{copy} AND ERRFILE = '{nowhere}'")
        assert "stopped:" in (said := capsys.readouterr().err) and "ERRFILE says" in said
        nowhere.parent.mkdir()
        assert not await shell.run(f"{copy} AND ERRFILE = '{nowhere}'")
        shell.client.close()
    assert len(nowhere.read_text().splitlines()) == ROWS // 10
    assert set(keys(table.written)) == {n for n in range(ROWS) if n % 10}


async def test_a_copy_that_stopped_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importing, "PATIENCE_S", 0.05)
    file = tmp_path / "t.csv"
    file.write_text("".join(f"{n},x\n" if n != 50 else "wrong,x\n" for n in range(ROWS)))
    table = Table()
    table.fail(AWAY, after=100)
    async with serving(table.stub):
        shell = shell_on(table.stub, monkeypatch)
        command = f"COPY shop.t FROM '{file}' WITH IN_FLIGHT = 4"
        assert not await shell.run(command)
        said = capsys.readouterr().err
        assert "stopped: Unavailable: away" in said and "goes on from here" in said
        first, table.written, table.error = table.written, [], None
        line = json.loads((tmp_path / "t.csv.copying").read_text())["line"]
        assert line > 90
        assert not await shell.run(command)  # one line is rejected still
        assert f"going on at line {line}" in capsys.readouterr().err
        shell.client.close()
    assert len(table.written) == ROWS - line + 1
    assert sorted({*keys(first), *keys(table.written)}) == [n for n in range(ROWS) if n != 50]
    rejects = [json.loads(one)["line"] for one in (tmp_path / "t.csv.rejects").read_text().splitlines()]
    assert rejects == [51]
    assert not (tmp_path / "t.csv.copying").exists()


async def test_an_increment_of_unknown_outcome_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.csv"
    file.write_text("".join(f"{n},1\n" for n in range(20)))
    table = Table()
    table.fail(LATE, after=5, times=1)
    async with serving(table.stub):
        shell = shell_on(table.stub, monkeypatch, COUNTED)
        assert not await shell.run(f"COPY shop.t FROM '{file}' WITH IN_FLIGHT = 1")
        shell.client.close()
    assert len(table.written) == 19
    (reject,) = (tmp_path / "t.csv.rejects").read_text().splitlines()
    assert "whether it was counted is unknown" in reject


async def test_increments_of_a_copy_that_stopped_have_the_same_ids_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "PATIENCE_S", 0.05)
    file = tmp_path / "t.csv"
    file.write_text("".join(f"{n},1\n" for n in range(20)))
    table = Table()
    table.fail(AWAY, after=7)
    async with serving(table.stub):
        shell = shell_on(table.stub, monkeypatch, COUNTED)
        command = f"COPY shop.t FROM '{file}' WITH IN_FLIGHT = 4"
        assert not await shell.run(command)
        ids = {key: one[PAYLOAD_KEY] for key, one in table.payloads}
        table.error = None
        assert await shell.run(command)
        again = {key: one[PAYLOAD_KEY] for key, one in table.payloads}
        assert len({*again.values()}) == 20 and ids.items() <= again.items()
        assert await shell.run(command), "it is complete: the same file once more is counted once more"
        shell.client.close()
    assert not {one[PAYLOAD_KEY] for _, one in table.payloads[-20:]} & {*again.values()}


async def test_too_many_rejects_end_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.csv"
    file.write_text("x,y\n" * 50)
    table = Table()
    async with serving(table.stub):
        shell = shell_on(table.stub, monkeypatch)
        assert not await shell.run(f"COPY shop.t FROM '{file}' WITH MAXERRORS = 10")
        shell.client.close()
    assert "more than 10 rejects" in capsys.readouterr().err
    assert len((tmp_path / "t.csv.rejects").read_text().splitlines()) == 11


async def test_an_export_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every slice has two pages of one row; in the first run the second pages are away from some point on."""
    monkeypatch.setattr(exporting, "PAUSE_S", 0.001)
    columns = wire.Metadata([wire.ColumnSpec("shop", "t", "k", types.BIGINT)])
    pages = 0
    limit = 50

    async def answer(request: wire.Request) -> wire.Response:
        nonlocal pages
        if isinstance(request, wire.Prepare):
            return wire.Prepared(b"1" if ">=" in request.text else b"2", wire.NO_COLUMNS)
        assert isinstance(request, wire.Execute)
        pages += 1
        if 0 <= limit < pages:
            return AWAY
        start, state = request.parameters.values[0], request.parameters.paging_state
        assert isinstance(start, bytes)
        value = int.from_bytes(start, "big", signed=True) + (1 if state is None else 2)
        return wire.Rows(columns, [[types.BIGINT.encode(value)]], b"second" if state is None else None)

    stub = Stub(answer)
    file = tmp_path / "t.csv"
    async with serving(stub):
        shell = shell_on(stub, monkeypatch)
        command = f"COPY shop.t (k) TO '{file}' WITH HEADER = TRUE"
        assert not await shell.run(command)
        assert "goes on from here" in capsys.readouterr().err
        with file.open("a") as more:
            more.write("written after the state was noted\n")
        limit = -1
        assert await shell.run(command)
        assert "50 of them earlier" in capsys.readouterr().err
        shell.client.close()
    lines = file.read_text().splitlines()
    assert lines[0] == "k" and len(lines) == 2 * exporting.RANGES + 1 == len(set(lines))
    assert not list(tmp_path.glob("*.copying"))


async def test_a_disk_that_is_full_stops_an_export_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = wire.Metadata([wire.ColumnSpec("shop", "t", "k", types.BIGINT)])

    async def answer(request: wire.Request) -> wire.Response:
        if isinstance(request, wire.Prepare):
            return wire.Prepared(b"1", wire.NO_COLUMNS)
        return wire.Rows(columns, [[types.BIGINT.encode(1)]] * 5_000, None)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stub = Stub(answer)
    file = tmp_path / "t.csv"
    async with serving(stub):
        shell = shell_on(stub, monkeypatch)
        with monkeypatch.context() as patched:
            patched.setattr(exporting.TextSink, "write", full)
            assert not await shell.run(f"COPY shop.t (k) TO '{file}'")
        assert "t.csv: No space left on device" in capsys.readouterr().err
        (tmp_path / "t.csv.copying").unlink(missing_ok=True)
        (tmp_path / "t.csv.copying").mkdir()  # the state cannot be noted
        monkeypatch.setattr(exporting, "SAVE_PAUSE_S", 0)
        assert not await shell.run(f"COPY shop.t (k) TO '{file}'")
        said = capsys.readouterr().err
        assert "t.csv.copying" in said and "RESUME = FALSE" in said and "--state" not in said
        shell.client.close()


async def test_a_file_in_a_folder_that_cannot_be_written_is_copied_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    file = tmp_path / "t.csv"
    file.write_text("".join(f"{n},x\n" for n in range(ROWS)))
    table = Table()
    monkeypatch.setattr(Path, "unlink", refused)  # as such file systems do, whether there is a file or not
    monkeypatch.setattr(Path, "write_text", refused)
    async with serving(table.stub):
        shell = shell_on(table.stub, monkeypatch)
        assert not await shell.run(f"COPY shop.t FROM '{file}'")
        assert "RESUME = FALSE" in capsys.readouterr().err
        table.written.clear()
        assert await shell.run(f"COPY shop.t FROM '{file}' WITH RESUME = FALSE")
        shell.client.close()
    assert keys(table.written) == list(range(ROWS))
