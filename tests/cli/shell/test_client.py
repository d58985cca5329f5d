"""The client of the protocol on a stub: versions, login, dead peers; and the shell with a keyboard on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from cli.native.client import Client, NobodyError, Prepared
from cli.native.connection import Access, LostError, RefusedError, open_connection
from cli.output import Failure
from cli.shell.app import TlsAsked, _connect, tls_of
from cli.shell.options import Options
from cli.shell.output import Output
from cli.shell.prompting import Prompt, converse, history_of
from cli.shell.shell import Shell
from cql_lite import wire
from server.certificate_files import TlsConfig
from server.certificates import make_certificates
from server.config import ClusterConfig, PeerConfig
from tests.cli.shell.stub_server import Stub, rows, serving


async def hello(request: wire.Request) -> wire.Response:
    return rows("greeting", ("hello",))


def endpoint(stub: Stub) -> tuple[str, int]:
    return ("127.0.0.1", stub.port)


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_the_highest_version_that_both_speak_is_spoken(version: int) -> None:
    stub = Stub(hello, version=version)
    async with serving(stub):
        client = Client([endpoint(stub)], Access())
        assert await client.rows("SELECT 1") == [("hello",)]
        assert client.connection is not None and client.connection.version == version
        many = await asyncio.gather(*(client.rows(f"SELECT {n}") for n in range(2000)))
        assert len(many) == 2000
        client.close()


async def test_a_peer_that_wants_a_password_gets_it() -> None:
    async def answer(request: wire.Request) -> wire.Response:
        if not isinstance(request, wire.AuthResponse):
            return await hello(request)
        good = request.token == b"\0kim\0secret"
        return wire.AuthSuccess() if good else wire.BadCredentials(message="no such user")

    stub = Stub(answer, authenticator="org.apache.cassandra.auth.PasswordAuthenticator")
    async with serving(stub):
        client = Client([endpoint(stub)], Access(username="kim", password="secret"))
        assert await client.rows("SELECT 1") == [("hello",)]
        with pytest.raises(RefusedError, match="no such user"):
            await client.log_in("kim", "wrong")
        assert await client.rows("SELECT 1") == [("hello",)]
        client.close()
        with pytest.raises(RefusedError, match="--username"):
            await Client([endpoint(stub)], Access()).connected()


async def test_tls_with_a_certificate_that_is_trusted_or_not(tmp_path: Path) -> None:
    make_certificates(tmp_path, ClusterConfig("c", (PeerConfig("n1", "127.0.0.1"),), ("n1",)))
    files = TlsConfig(tmp_path).for_peer("n1")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(files.certificate, files.key)
    stub = Stub(hello)
    async with serving(stub, tls=server):
        trusting = tls_of(TlsAsked(ca=files.authority))
        client = Client([endpoint(stub)], Access(trusting))
        assert await client.rows("SELECT 1") == [("hello",)]
        client.close()
        blind = Client([endpoint(stub)], Access(tls_of(TlsAsked(True, check=False))))
        assert await blind.rows("SELECT 1") == [("hello",)]
        blind.close()
        with pytest.raises(NobodyError, match="certificate is not trusted"):
            await Client([endpoint(stub)], Access(tls_of(TlsAsked(True)))).connected()
        with pytest.raises(NobodyError):
            await Client([endpoint(stub)], Access()).connected()


async def test_an_answer_that_does_not_come_is_not_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    async def never(request: wire.Request) -> wire.Response:
        if isinstance(request, wire.Query) and "never" in request.text:
            await asyncio.Event().wait()  # no answer, ever
        return await hello(request)

    stub = Stub(never)
    async with serving(stub):
        options = Options([endpoint(stub)], timeout_s=0.05)
        client = Client(options.endpoints, options.access)
        shell = Shell(options, client, Output(colour=False))
        assert not await shell.run("UPDATE never")
        said = capsys.readouterr().err
        assert "no answer within 0.05 s (whether it was done is unknown)" in said
        assert await shell.run("SELECT 1")
        client.close()


async def test_nobody_there_and_no_cql_there() -> None:
    with pytest.raises(NobodyError, match="nobody listens"):
        await Client([("127.0.0.1", 1)], Access()).connected()

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LostError, match="is not the CQL protocol"):
            await open_connection("127.0.0.1", port, Access())


async def test_a_dead_peer_is_left_for_another_in_the_same_keyspace() -> None:
    async def dies(request: wire.Request) -> wire.Response | None:
        return None

    first, second = Stub(dies), Stub(hello)
    async with serving(first, second):
        client = Client([endpoint(first), endpoint(second)], Access())
        await client.request(wire.Query("USE ks", wire.Parameters()))
        with pytest.raises(LostError) as lost:
            await client.rows("INSERT")
        assert lost.value.sent
        moved: list[str] = []
        client.on_moved = moved.append
        first.answers = hello
        for connection in list(first.connections):
            connection.transport.abort()
        assert await client.rows("SELECT 1") == [("hello",)]
        assert moved == [f"127.0.0.1:{second.port}"]
        assert second.texts()[0] == "USE ks"
        client.close()


async def test_a_statement_is_prepared_again_where_it_is_not_known() -> None:
    known: list[bytes] = []

    async def answer(request: wire.Request) -> wire.Response:
        if isinstance(request, wire.Prepare):
            known.append(b"id%d" % len(known))
            return wire.Prepared(known[-1], wire.NO_COLUMNS)
        assert isinstance(request, wire.Execute)
        return wire.Void() if request.id == b"id1" else wire.Unprepared(message="?", id=request.id)

    stub = Stub(answer)
    async with serving(stub):
        client = Client([endpoint(stub)], Access())
        reply = await client.execute(Prepared("SELECT 1", ""), wire.Parameters())
        assert reply.response == wire.Void() and known == [b"id0", b"id1"]
        client.close()


# --- the shell on it


@contextlib.asynccontextmanager
async def talking(tmp_path: Path, *stubs: Stub) -> AsyncIterator[tuple[PipeInput, Shell, asyncio.Task[None]]]:
    """A shell whose keyboard is a pipe."""
    options = Options([endpoint(stub) for stub in stubs], history=tmp_path / "history", timeout_s=20)
    client = Client(options.endpoints, options.access)
    shell = Shell(options, client, Output(colour=False))
    await client.connected()
    with create_pipe_input() as keys:
        task = asyncio.create_task(converse(shell, Prompt(shell, keys, DummyOutput())))
        try:
            yield keys, shell, task
            async with asyncio.timeout(10):
                await task
        finally:
            task.cancel()
            client.close()


async def test_statements_typed_over_several_lines_run_at_their_semicolon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub(hello)
    async with serving(stub), talking(tmp_path, stub) as (keys, _, _):
        keys.send_text("SELECT *\rFROM t;\r")
        await until(lambda: "SELECT *\nFROM t" in stub.texts())
        keys.send_text("LOGIN kim 'secret'\rconsistency one\rexit\r")
    out = capsys.readouterr()
    assert " greeting\n" in out.out and "(1 row" in out.out
    assert "consistency is ONE" in out.err
    history = (tmp_path / "history").read_text()
    assert "FROM t;" in history and "secret" not in history
    assert (tmp_path / "history").stat().st_mode & 0o077 == 0


async def test_ctrl_c_cancels_the_statement_and_not_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = asyncio.Event()

    async def slow(request: wire.Request) -> wire.Response:
        if isinstance(request, wire.Query) and "slow" in request.text:
            asked.set()
            await asyncio.Event().wait()  # no answer, ever
        return await hello(request)

    stub = Stub(slow)
    async with serving(stub), talking(tmp_path, stub) as (keys, _, task):
        keys.send_text("SELECT slow FROM t;\r")
        await until(asked.is_set)
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: "cancelled" in capsys_err(capsys))
        assert not task.done()
        keys.send_text("SELECT quick FROM t;\r")
        await until(lambda: "SELECT quick FROM t" in stub.texts())
        keys.send_text("half a line\x03")
        keys.send_text("\x04")
    assert len(stub.connections) <= 1  # the same connection went on


def capsys_err(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


async def test_a_read_is_repeated_elsewhere_and_a_write_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def dies(request: wire.Request) -> wire.Response | None:
        text = request.text if isinstance(request, wire.Query) else ""
        return None if "FROM t" in text or "INSERT" in text else await hello(request)

    first, second = Stub(dies), Stub(hello)
    async with serving(first, second):
        options = Options([endpoint(first), endpoint(second)])
        client = Client(options.endpoints, options.access)
        shell = Shell(options, client, Output(colour=False))
        assert await shell.run("SELECT a FROM t")
        assert "asking another peer" in capsys.readouterr().err
        assert "SELECT a FROM t" in second.texts()
        for connection in list(second.connections):
            connection.transport.abort()
        await until(lambda: client.connection is not None and client.connection.lost is not None)
        assert not await shell.run("INSERT INTO t (a) VALUES (1)")
        said = capsys.readouterr().err
        assert "whether it was done is unknown" in said and "now on" in said
        assert not any("INSERT" in text for text in second.texts())
        client.close()


async def test_pages_are_asked_for_as_they_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def pages(request: wire.Request) -> wire.Response:
        assert isinstance(request, wire.Query)
        number = int(request.parameters.paging_state or b"0")
        assert request.parameters.page_size == 2
        return rows("n", (str(number),), state=b"%d" % (number + 1) if number < 3 else None)

    stub = Stub(pages)
    async with serving(stub), talking(tmp_path, stub) as (keys, _, _):
        keys.send_text("PAGING 2\rSELECT n FROM t;\r")
        await until(lambda: stub.texts().count("SELECT n FROM t") == 1)
        keys.send_text("\r")
        await until(lambda: stub.texts().count("SELECT n FROM t") == 2)
        keys.send_text("q\r")
        keys.send_text("exit\r")
    assert "(2 rows" in capsys.readouterr().out


async def test_results_that_go_to_a_file_are_not_asked_about(tmp_path: Path) -> None:
    async def pages(request: wire.Request) -> wire.Response:
        assert isinstance(request, wire.Query)
        number = int(request.parameters.paging_state or b"0")
        return rows("n", (str(number),), state=b"%d" % (number + 1) if number < 3 else None)

    stub = Stub(pages)
    async with serving(stub), talking(tmp_path, stub) as (keys, _, _):
        keys.send_text(f"CAPTURE '{tmp_path / 'n.txt'}'\rSELECT n FROM t;\rCAPTURE OFF\rexit\r")
        await until(lambda: stub.texts().count("SELECT n FROM t") == 4)
    assert "(4 rows" in (tmp_path / "n.txt").read_text()


async def test_a_captured_file_on_a_full_disk_ends_the_capture_and_not_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub(hello)
    async with serving(stub), talking(tmp_path, stub) as (keys, shell, _):
        keys.send_text("CAPTURE '/dev/full'\rSELECT 1;\r")
        await until(lambda: "SELECT 1" in stub.texts() and shell.output.capturing is None)
        keys.send_text("SELECT 2;\rexit\r")
    out = capsys.readouterr()
    assert "/dev/full: No space left on device" in out.err and " greeting\n" in out.out


async def test_names_that_no_file_has_and_pages_without_measure_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub(hello)
    async with serving(stub), talking(tmp_path, stub) as (keys, shell, _):
        for text in ("CAPTURE '~nobody-of-that-name/x'", "SOURCE '~nobody-of-that-name/x'", "SOURCE 'a\0b'"):
            assert not await shell.run(text)
        for number in ("9" * 20, "9" * 5_000, "2147483648", "00"):
            assert not await shell.run(f"PAGING {number}")
        assert shell.page_size is None
        keys.send_text("exit\r")
    assert "whose home" in capsys.readouterr().err


def test_a_history_that_cannot_be_kept_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = history_of(tmp_path / "history")
    (tmp_path / "history").unlink()
    (tmp_path / "history").mkdir()  # as a full disk, it takes nothing
    history.append_string("SELECT 1;")
    assert history.get_strings()[-1] == "SELECT 1;"

    def homeless(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert isinstance(history_of(None), InMemoryHistory)


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
async def test_a_password_that_is_not_given_ends_the_login_and_not_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    stub = Stub(hello)
    async with serving(stub), talking(tmp_path, stub) as (keys, _, _):
        keys.send_text("LOGIN kim\r")
        await asyncio.sleep(0.3)
        keys.send_text(key)
        await asyncio.sleep(0.3)
        keys.send_text("SELECT 1;\rexit\r")
    out = capsys.readouterr()
    assert "no password" in out.err and " greeting\n" in out.out


async def test_a_peer_that_goes_away_before_the_keyspace_is_in_use_is_told() -> None:
    class Going(Client):
        async def request(self, *given: object, **_: object) -> Any:
            raise LostError("n1", "the peer closed the connection", sent=True)

    stub = Stub(hello)
    async with serving(stub):
        options = Options([endpoint(stub)], keyspace="shop")
        client = Going(options.endpoints, options.access)
        with pytest.raises(Failure, match="the connection was lost"):
            await _connect(client, options)
        client.close()
