"""Certificates: what is made, and who may talk to whom, by real handshakes over memory."""

from __future__ import annotations

import errno
import os
import ssl
import stat
from pathlib import Path

import pytest

from server.certificate_files import CertificateError, TlsConfig
from server.certificates import elsewhere, internode_context, make_certificates, peer_identity
from server.config import ClusterConfig, PeerConfig

PEERS = (PeerConfig("n1", "127.0.0.1"), PeerConfig("n2", "127.0.0.2"), PeerConfig("n3", "::1"))


def cluster(name: str = "dance", peers: tuple[PeerConfig, ...] = PEERS) -> ClusterConfig:
    return ClusterConfig(name=name, peers=peers, voters=(peers[0].name,))


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[bytes | None, bytes | None]:
    """Connect the two in memory; gives the certificate that each end saw of the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    assert waiting == []
    ends[0].write(b"c")
    assert ends[1].read(1) == b"c"
    ends[1].write(b"s")
    assert ends[0].read(1) == b"s"
    assert {end.version() for end in ends} == {"TLSv1.3"}
    return ends[0].getpeercert(binary_form=True), ends[1].getpeercert(binary_form=True)


def test_peers_of_one_cluster_know_each_other(tmp_path: Path) -> None:
    make_certificates(tmp_path, cluster())
    tls = TlsConfig(tmp_path)
    seen_by_client, seen_by_server = handshake(
        internode_context(tls.for_peer("n1"), server_side=False),
        internode_context(tls.for_peer("n3"), server_side=True),
    )
    assert seen_by_client is not None
    assert seen_by_server is not None
    assert peer_identity(seen_by_client) == ("dance", "n3")
    assert peer_identity(seen_by_server) == ("dance", "n1")


def test_another_authority_is_not_believed_in_either_direction(tmp_path: Path) -> None:
    ours, theirs = TlsConfig(tmp_path / "ours"), TlsConfig(tmp_path / "theirs")
    for tls in (ours, theirs):
        make_certificates(tls.folder, cluster())
    for client, server in ((ours, theirs), (theirs, ours)):
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate verify failed|unknown ca"):
            handshake(
                internode_context(client.for_peer("n1"), server_side=False),
                internode_context(server.for_peer("n2"), server_side=True),
            )


def test_a_client_that_shows_nothing_or_speaks_old_tls_is_refused(tmp_path: Path) -> None:
    make_certificates(tmp_path, cluster())
    tls = TlsConfig(tmp_path)
    server = internode_context(tls.for_peer("n1"), server_side=True)
    nameless = ssl.create_default_context(cafile=str(tls.authority))
    nameless.check_hostname = False
    with pytest.raises(ssl.SSLError, match=r"(?i)did not return a certificate"):
        handshake(nameless, server)
    old = internode_context(tls.for_peer("n2"), server_side=False)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        handshake(old, server)


def test_keys_are_private_and_nothing_is_made_twice(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, cluster(peers=PEERS[:2]))
    assert sorted(path.name for path in made) == [
        "ca.key", "ca.pem", "peer-n1.key", "peer-n1.pem", "peer-n2.key", "peer-n2.pem",
    ]  # fmt: skip
    for path in tmp_path.iterdir():
        expected = 0o600 if path.suffix == ".key" else 0o644
        assert stat.S_IMODE(path.stat().st_mode) & ~expected == 0
    before = {path: path.read_bytes() for path in made}
    assert make_certificates(tmp_path, cluster(peers=PEERS[:2])) == []
    added = make_certificates(tmp_path, cluster())
    assert [path.name for path in added] == ["peer-n3.pem", "peer-n3.key"]
    assert {path: path.read_bytes() for path in made} == before


def test_half_a_pair_another_cluster_and_garbage_are_named(tmp_path: Path) -> None:
    make_certificates(tmp_path, cluster())
    with pytest.raises(CertificateError, match="not of the cluster 'other'"):
        make_certificates(tmp_path, cluster("other"))
    (tmp_path / "peer-n2.key").unlink()
    with pytest.raises(CertificateError, match=r"peer-n2\.key: missing beside peer-n2\.pem"):
        make_certificates(tmp_path, cluster())
    with pytest.raises(CertificateError, match="cannot be used"):
        internode_context(TlsConfig(tmp_path).for_peer("n2"), server_side=True)
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(CertificateError, match=r"ca\.pem: not a PEM certificate"):
        make_certificates(tmp_path, cluster())
    with pytest.raises(CertificateError, match="not a certificate"):
        peer_identity(b"\x30\x00")


def test_the_authority_itself_is_no_peer(tmp_path: Path) -> None:
    make_certificates(tmp_path, cluster())
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "ca.pem").read_text())
    with pytest.raises(CertificateError, match="which peer"):
        peer_identity(der)


@pytest.mark.parametrize("failing", range(1, 9))
def test_what_a_full_disk_cut_short_is_not_in_the_way_of_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Each file in turn is the one that finds no room, when it has been made."""
    synced = 0

    def full(_descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CertificateError, match="No space left"):
            make_certificates(tmp_path, cluster())
    whole = (failing - 1) // 2 * 2
    assert len(list(tmp_path.iterdir())) == whole
    assert len(make_certificates(tmp_path, cluster())) == 8 - whole


def test_a_peer_that_moved_needs_a_certificate_for_its_clients(tmp_path: Path) -> None:
    make_certificates(tmp_path, cluster())
    assert elsewhere(tmp_path, cluster()) == []
    moved = (PeerConfig("n1", "127.0.0.9"), *PEERS[1:])
    (said,) = elsewhere(tmp_path, cluster(peers=moved))
    assert "peer-n1.pem is not of the address 127.0.0.9" in said
    for file in tmp_path.glob("peer-n1.*"):
        file.unlink()
    make_certificates(tmp_path, cluster(peers=moved))
    assert elsewhere(tmp_path, cluster(peers=moved)) == []
