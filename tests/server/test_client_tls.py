"""REST and CQL under the cluster's certificates: who is served, who is refused, and what both sides hear."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from pathlib import Path

import pytest

from cli import https
from cli.output import Failure
from cli.rest import Peer, UnreachableError
from cql_lite import frames, wire
from server import certificates, client_tls
from server.certificate_files import CertificateError, PeerTls, TlsConfig
from server.config import ClusterConfig, ConfigError, parse_config
from server.cql import IN_CLEAR, refused_in_clear
from server.security import unsafe
from tests.server.harness import run, until
from tests.server.rest_client import door, head, read_reply

CONFIG = "cluster: dance\npeers: [{name: n1, address: %s}]\n"
OPTIONS = b"\x05\x00\x00\x07\x05\x00\x00\x00\x00"
NOW = datetime.datetime.now(datetime.UTC)


def configured(address: str = "127.0.0.1", more: str = "") -> ClusterConfig:
    return parse_config(CONFIG % address + more)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> TlsConfig:
    """The certificates of a cluster, of a client of it, and of one whose time is over."""
    tls = TlsConfig(tmp_path_factory.mktemp("ours"))
    certificates.make_certificates(tls.folder, configured(), ["shop"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "CLOCK_SLACK", datetime.timedelta(days=20))
        patch.setattr(certificates, "PEER_DAYS", -10)
        certificates.make_certificates(tls.folder, configured(), ["late"])
    return tls


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> TlsConfig:
    """Those of another cluster that calls itself the same."""
    tls = TlsConfig(tmp_path_factory.mktemp("theirs"))
    certificates.make_certificates(tls.folder, configured(), ["shop"])
    return tls


def served(tls: TlsConfig, *, required: bool = True) -> ssl.SSLContext:
    return certificates.client_context(tls.for_peer("n1"), required=required)


def shown(authority: Path, files: PeerTls | None) -> ssl.SSLContext:
    """A client's context: whom it believes, what it shows."""
    context = ssl.create_default_context(cafile=authority)
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_shows_a_certificate_is_served_as_in_clear(ours: TlsConfig, version: ssl.TLSVersion) -> None:
    async def work() -> None:
        async with door(tls=served(ours)) as ask:
            ask.tls = shown(ours.authority, ours.for_client("shop"))
            ask.tls.maximum_version = version
            large = bytes(range(256)) * 8192  # more than fits any buffer
            assert (await ask("PUT", "/v1/kv/demo/k", large)).status == 204
            assert (await ask("PUT", "/v1/kv/demo/small", b"v", {"X-Other": "1"})).status == 204
            reader, writer = await ask.open()
            for target, value in (("k", large), ("small", b"v"), ("k", large)):
                writer.write(head("GET", f"/v1/kv/demo/{target}", None))
                assert (await read_reply(reader)).body == value
            writer.write(head("GET", "/v1/kv/demo/small", None) * 3)
            assert [(await read_reply(reader)).body for _ in range(3)] == [b"v"] * 3
            writer.write(head("GET", "/v1/health", None, {"Connection": "close"}))
            assert (await read_reply(reader)).json()["ready"]
            assert await reader.read() == b"", "TLS is ended, too"
            writer.close()
            lines = [b'{"op":"put","key":"%d","value":"v"}\n' % n for n in range(2_000)]
            outcomes = await ask("POST", "/v1/kv/demo/_bulk", b"".join(lines))
            assert [line["status"] for line in outcomes.lines()] == [204] * 2_000
            assert not ask.lines

    run(work())


def test_a_reader_that_does_not_read_is_not_written_to_without_end(ours: TlsConfig) -> None:
    async def work() -> None:
        async with door(tls=served(ours)) as ask:
            ask.tls = shown(ours.authority, ours.for_client("shop"))
            value = bytes(4_000_000)
            await ask("PUT", "/v1/kv/demo/k", value)
            reader, writer = await ask.open()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(head("GET", "/v1/kv/demo/k", None) * 20)
            budget = ask.service._budget
            await until(lambda: budget.taken == len(value), "one is being written, the others wait")
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            for _ in range(20):
                assert len((await read_reply(reader)).body) == len(value)
            await until(lambda: budget.taken == 0)
            writer.close()

    run(work())


@pytest.mark.parametrize(
    ("who", "line"),
    [
        ("nobody", "it shows no certificate"),
        ("stranger", "its certificate is not believed: "),
        ("late", "its certificate is not believed: certificate has expired"),
        ("deceived", "it left within the handshake; does it believe our certificate?"),
        ("plain", "it speaks plain HTTP where TLS is spoken (https)"),
        ("noise", "it does not speak TLS"),
    ],
)
def test_who_is_refused_is_one_line_in_the_log(
    ours: TlsConfig, theirs: TlsConfig, who: str, line: str
) -> None:
    async def work() -> None:
        async with door(tls=served(ours)) as ask:
            if who in ("plain", "noise"):
                first = head("GET", "/v1/health", None) if who == "plain" else b"\x04\x00\x00\x00\x05" * 20
                answer = await ask.raw(first)
                assert answer is not None and b"HTTP" not in answer
            else:
                files = {"stranger": theirs.for_client("shop"), "late": ours.for_client("late")}.get(who)
                ask.tls = shown((theirs if who == "deceived" else ours).authority, files)
                with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                    await ask("GET", "/v1/health")
            await until(lambda: ask.lines)
            assert ask.lines[0].startswith(f"127.0.0.1: {line}")
            assert ask.lines[0].endswith("; connection closed")
            ask.tls = shown(ours.authority, ours.for_client("shop"))
            assert (await ask("GET", "/v1/health")).status == 200
            assert len(ask.lines) == 1

    run(work())


@pytest.mark.parametrize("pieces", [[OPTIONS], [OPTIONS[:3], OPTIONS[3:]]], ids=["at once", "in pieces"])
def test_who_speaks_in_clear_is_answered_in_clear(ours: TlsConfig, pieces: list[bytes]) -> None:
    """A driver that was not told of TLS waits for an answer that it can read, and shows it to its user."""

    async def work() -> None:
        lines: list[str] = []
        tls = client_tls.ClientTls(served(ours), lines.append, refused_in_clear)
        server = await asyncio.get_running_loop().create_server(lambda: tls(asyncio.Protocol()), "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        (answer,) = frames.FrameReader(responses=True).receive(await reader.read())
        assert (answer.version, answer.stream) == (5, 7)
        assert wire.decode_response(answer.opcode, answer.body, 5) == wire.ProtocolFault(message=IN_CLEAR)
        assert lines == ["127.0.0.1: it does not speak TLS; connection closed"]
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=shown(ours.authority, None))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            if not await reader.read():
                raise ConnectionError
        assert lines[1:] == ["127.0.0.1: it shows no certificate; connection closed"]
        server.close()

    run(work())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_damaged_bytes_after_the_handshake_end_that_connection_alone(
    ours: TlsConfig, version: ssl.TLSVersion
) -> None:
    async def work() -> None:
        lines: list[str] = []
        faults: list[dict[str, object]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context))
        tls = client_tls.ClientTls(served(ours), lines.append, refused_in_clear)
        server = await loop.create_server(lambda: tls(asyncio.Protocol()), "127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        context = shown(ours.authority, ours.for_client("shop"))
        context.maximum_version = version
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                end.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65_536))
        writer.write(outgoing.read())
        writer.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        try:
            async with asyncio.timeout(10):
                while await reader.read(65_536):
                    pass  # what the server said before, and its alert
        finally:
            writer.close()
            server.close()
            await writer.wait_closed()
        assert not faults
        assert len(lines) == 1 and lines[0].endswith("connection closed")

    run(work())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_answer_that_comes_after_damaged_bytes_goes_nowhere(
    ours: TlsConfig, version: ssl.TLSVersion
) -> None:
    """The connection may still be there: its buffer is full, and the client does not read."""

    class Below(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.written = bytearray()
            self.closed = False

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.written += data

        def close(self) -> None:
            self.closed = True

        def is_closing(self) -> bool:
            return self.closed

    class Inner(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

    async def work() -> None:
        inner, below = Inner(), Below()
        secured = client_tls.ClientTls(served(ours), lambda _: None)(inner)
        secured.connection_made(below)
        context = shown(ours.authority, ours.for_client("shop"))
        context.maximum_version = version
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            secured.data_received(outgoing.read())
            incoming.write(below.written)
            below.written.clear()
        inner.transport.write(b"an answer")
        secured.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert below.closed
        alert = bytes(below.written)
        inner.transport.write(b"another")
        inner.transport.close()
        assert below.written == alert
        secured.connection_lost(None)

    run(work())


def test_connections_without_a_handshake_are_bounded(
    ours: TlsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tls, "connections_max", lambda: 40)

    async def work() -> None:
        tls = client_tls.ClientTls(served(ours), lambda _: None)
        server = await asyncio.get_running_loop().create_server(lambda: tls(asyncio.Protocol()), "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        await until(lambda: tls.handshaking == 10, "the others are let go")
        silent[0][1].close()
        await until(lambda: tls.handshaking == 9)
        context = shown(ours.authority, ours.for_client("shop"))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        await until(lambda: tls.handshaking == 9, "who is through counts elsewhere")
        for _, each in [*silent, (None, writer)]:
            each.close()
        await until(lambda: tls.handshaking == 0)
        server.close()

    run(work())


def test_the_protocol_behind_it_can_tell_the_cipher(ours: TlsConfig) -> None:
    async def work() -> None:
        made: list[asyncio.BaseTransport] = []

        class Inner(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.append(transport)

        tls = client_tls.ClientTls(served(ours, required=False), lambda _: None)
        server = await asyncio.get_running_loop().create_server(lambda: tls(Inner()), "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        context = shown(ours.authority, None)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        await until(lambda: made)
        assert made[0].get_extra_info("cipher") == writer.get_extra_info("cipher")
        assert made[0].get_extra_info("cipher")[1] == "TLSv1.3"
        assert made[0].get_extra_info("peername")[0] == "127.0.0.1"
        writer.close()
        server.close()

    run(work())


def test_without_a_handshake_a_connection_does_not_stay(
    ours: TlsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tls, "HANDSHAKE_S", 0.05)

    async def work() -> None:
        async with door(tls=served(ours)) as ask:
            assert await ask.raw(b"") == b""
            assert not ask.lines
            assert await ask.raw(b"\x16\x03\x01") == b""
            await until(lambda: ask.lines)
            assert "no handshake within" in ask.lines[0]

    run(work())


def test_encrypted_for_everybody(ours: TlsConfig) -> None:
    async def work() -> None:
        async with door(tls=served(ours, required=False)) as ask:
            ask.tls = shown(ours.authority, None)
            assert (await ask("GET", "/v1/health")).status == 200

    run(work())


def test_the_command_line_says_what_is_missing(
    ours: TlsConfig, theirs: TlsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(url: str, **environment: Path | None) -> str:
        for name in ("SULLAE_CA", "SULLAE_CERT", "SULLAE_KEY"):
            value = environment.get(name)
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, str(value))
        peer = Peer(url)
        try:
            return str(peer.request("GET", "/v1/health").status)
        except (UnreachableError, Failure) as error:
            return str(error)
        finally:
            peer.close()

    async def work() -> None:
        async with door(tls=served(ours)) as ask:
            url, files = f"https://127.0.0.1:{ask.port}", ours.for_client("shop")
            names = ("SULLAE_CA", "SULLAE_CERT", "SULLAE_KEY")
            all_three = dict(zip(names, (files.authority, files.certificate, files.key), strict=True))
            told = {
                "200": all_three,
                "its certificate is not believed": {**all_three, "SULLAE_CA": theirs.authority},
                "it wants to see a certificate": {"SULLAE_CA": files.authority},
                "no certificate and its key": {**all_three, "SULLAE_KEY": theirs.for_client("shop").key},
                "no certificates to believe": {**all_three, "SULLAE_CA": files.key.with_name("nothing")},
            }
            for expected, environment in told.items():
                assert expected in await asyncio.to_thread(asked, url, **environment)
        async with door() as ask:
            url = f"https://127.0.0.1:{ask.port}"
            assert "it does not speak TLS" in await asyncio.to_thread(asked, url, SULLAE_CA=ours.authority)

    monkeypatch.setattr(https, "_folder", [])
    run(work())


# --- certificates and the configuration


def test_a_clients_certificate_makes_no_peer(ours: TlsConfig) -> None:
    pem = ours.for_client("shop").certificate.read_text()
    with pytest.raises(CertificateError, match="does not say which peer"):
        certificates.peer_identity(ssl.PEM_cert_to_DER_cert(pem))
    dialling = certificates.internode_context(ours.for_peer("n1"), server_side=False)
    listening = certificates.internode_context(ours.for_client("shop"), server_side=True)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = dialling.wrap_bio(back, there), listening.wrap_bio(there, back, server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        for end in ends * 4:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()


def test_a_peer_looks_at_its_own_certificate_first(
    ours: TlsConfig, theirs: TlsConfig, tmp_path: Path
) -> None:
    files = ours.for_peer("n1")

    def check(files: PeerTls, cluster: str = "dance", peer: str = "n1", days: float = 0.0) -> str:
        return certificates.check_peer(files, cluster, peer, NOW + datetime.timedelta(days=days))

    assert check(files) == ""
    assert "peer-n1.pem expires on" in check(files, days=certificates.PEER_DAYS - 10)
    for days, said in ((certificates.PEER_DAYS + 2, "expired on"), (-5, "is the clock right")):
        with pytest.raises(CertificateError, match=said):
            check(files, days=days)
    with pytest.raises(CertificateError, match=r"of the peer n1 .* not of n2"):
        check(files, peer="n2")
    with pytest.raises(CertificateError, match="not of n1 of other"):
        check(files, cluster="other")
    with pytest.raises(CertificateError, match=r"not signed by ca\.pem"):
        check(PeerTls(theirs.authority, files.certificate, files.key))
    with pytest.raises(CertificateError, match="`sullae cert` makes it"):
        check(TlsConfig(tmp_path).for_peer("n1"))
    warnings = certificates.ending(ours.folder, NOW)
    assert len(warnings) == 1 and "client-late.pem expired on" in warnings[0]


def test_off_loopback_clients_show_certificates_or_it_is_said_that_they_need_not() -> None:
    far, tls = "10.0.0.7", "tls: {folder: c%s}\n"
    assert unsafe(configured(), insecure=False) == ""
    assert "`sullae cert`" in unsafe(configured(far), insecure=False)
    for clients in ("", ", clients: plain", ", clients: encrypted"):
        assert "clients: certificate" in unsafe(configured(far, tls % clients), insecure=False)
    assert unsafe(configured(far, tls % ", clients: certificate"), insecure=False) == ""
    assert unsafe(configured(far), insecure=True) == ""
    with pytest.raises(ConfigError, match="3: clients must be plain or encrypted or"):
        configured(far, tls % ", clients: yes")
