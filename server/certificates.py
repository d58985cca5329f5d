"""The cluster's own certificates: mutual TLS between peers, with no outside authority.

`sullae cert` makes one authority per cluster and, signed by it, one certificate per peer. A peer believes a
connection if its certificate was signed by this authority alone (the system's are not asked) and says, as a
URI in its subject alternative name, that it is a member of this cluster: `sullae://cluster/NAME/peer/PEER`.
Addresses are not part of what peers believe, so one may move; they are there for clients of REST and CQL.

A client of REST and CQL gets a certificate of the same authority that names no peer (`sullae cert --client`),
so whoever has it is served, and is no member.

Invariants:
- Private keys are created with mode 0600, never readable in between, and an existing file is never
  overwritten: a second run adds certificates for new peers under the authority that is there.
- TLS 1.3 only, a certificate is required in both directions.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.certificate_files import CertificateError, PeerTls, TlsConfig

if TYPE_CHECKING:
    from server.config import ClusterConfig, PeerConfig

AUTHORITY_DAYS: Final = 3650
PEER_DAYS: Final = 1825
RENEW_DAYS: Final = 30
"""A certificate that ends sooner is said to."""
CLOCK_SLACK: Final = datetime.timedelta(days=1)
"""Certificates begin this much before now: peers' clocks need not agree to talk."""

CERTIFICATE_MODE: Final = 0o644
KEY_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


# ------------------------------------------------------------------------------------------------ making


def make_certificates(folder: Path, config: ClusterConfig, clients: Sequence[str] = ()) -> list[Path]:
    """Make in `folder` what is missing of the authority and of a certificate and key for each peer, and for
    each of these clients.

    Returns the files that were made, none if all were there. Raises `CertificateError` where the folder holds
    another cluster's authority, half of a pair of files, or cannot be written.
    """
    tls = TlsConfig(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made, authority = _authority(tls, config.name)
        for peer in config.peers:
            made += _signed_files(tls.for_peer(peer.name), authority, config.name, peer)
        for client in clients:
            made += _signed_files(tls.for_client(client), authority, config.name, client)
    except OSError as error:
        raise CertificateError(f"{error.filename or folder}: {error.strerror or error}") from error
    return made


def _authority(tls: TlsConfig, cluster: str) -> tuple[list[Path], _Authority]:
    """The authority in the folder, made if there is none; and which files that made."""
    if _pair_exists(tls.authority, tls.authority_key):
        certificate = _load_certificate(tls.authority)
        if _cluster_uri(cluster) not in _uris(certificate):
            raise CertificateError(f"{tls.authority}: this authority is not of the cluster {cluster!r}")
        return [], _Authority(certificate, _load_key(tls.authority_key))
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name(f"{cluster} authority")
    builder = (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(_alternative_names([_cluster_uri(cluster)], None), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    _write_pair(tls.authority, tls.authority_key, certificate, key)
    return [tls.authority, tls.authority_key], _Authority(certificate, key)


def _signed_files(files: PeerTls, authority: _Authority, cluster: str, owner: PeerConfig | str) -> list[Path]:
    """Certificate and key of a peer, or of a client by its name, made unless they are there."""
    if _pair_exists(files.certificate, files.key):
        return []
    key = ec.generate_private_key(ec.SECP256R1())
    if isinstance(owner, str):
        name, kind, peer = owner, "client", None
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    else:
        name, kind, peer = owner.name, "peer", owner
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    uris = [_cluster_uri(cluster), f"{_cluster_uri(cluster)}/{kind}/{quote(name, safe='')}"]
    issuer_key = authority.key.public_key()
    builder = (
        _builder(_common_name(name), authority.certificate.subject, key.public_key(), PEER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_alternative_names(uris, peer), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
    _write_pair(files.certificate, files.key, builder.sign(authority.key, hashes.SHA256()), key)
    return [files.certificate, files.key]


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative_names(uris: Sequence[str], peer: PeerConfig | None) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    if peer is not None:
        names.append(x509.DNSName(peer.name))
        names.append(x509.IPAddress(ipaddress.ip_address(peer.address)))
    return x509.SubjectAlternativeName(names)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _cluster_uri(cluster: str) -> str:
    return f"sullae://cluster/{quote(cluster, safe='')}"


# ------------------------------------------------------------------------------------------------- files


def _pair_exists(certificate: Path, key: Path) -> bool:
    """Whether both files are there; only one of them is an error, since half a pair is of no use."""
    there = [path for path in (certificate, key) if path.exists()]
    if len(there) == 1:
        missing = key if there[0] == certificate else certificate
        raise CertificateError(f"{missing}: missing beside {there[0].name}; restore it or remove both")
    return len(there) == 2


def _write_pair(
    certificate_path: Path, key_path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(key_path, key_pem, KEY_MODE)
    try:
        _write_new(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), CERTIFICATE_MODE)
    except BaseException:
        key_path.unlink()  # half a pair would be in the way of the next run
        raise


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that does not exist yet, with its mode from the first moment, and fsync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()  # what is not whole, on a full disk, must not be taken for what was made
        raise


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise CertificateError(f"{path}: not a PEM certificate: {error}") from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{path}: not an unencrypted PEM private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path}: not an elliptic-curve key")
    return key


# ------------------------------------------------------------------------------------------------- using


def internode_context(tls: PeerTls, *, server_side: bool) -> ssl.SSLContext:
    """The TLS context for connections between peers, either end: TLS 1.3, both sides show a certificate.

    Only the cluster's authority is trusted. Host names are not checked, because membership is: the caller
    compares `peer_identity` of the other side's certificate with the peer it expects.
    Raises `CertificateError`.
    """
    protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if server_side:
        context.num_tickets = 0  # a resumed session would skip looking at the certificate again
    _load(context, tls)
    return context


def client_context(tls: PeerTls, *, required: bool) -> ssl.SSLContext:
    """The TLS context of REST and CQL: TLS 1.2 or later, because of drivers that know nothing newer.

    With `required`, a client shows a certificate of the cluster's authority. Raises `CertificateError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    _load(context, tls)
    return context


def own_client_context(tls: PeerTls) -> ssl.SSLContext:
    """The TLS context with which a peer asks its own REST port, under its own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, tls)
    return context


def _load(context: ssl.SSLContext, tls: PeerTls) -> None:
    try:
        context.load_verify_locations(cafile=tls.authority)
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in (tls.authority, tls.certificate, tls.key))
        raise CertificateError(f"one of {files} cannot be used: {error}") from error


def check_peer(files: PeerTls, cluster: str, peer: str, now: datetime.datetime) -> str:
    """Look at a peer's own certificate before others do; a warning if it ends soon, or "".

    Raises `CertificateError`, saying what to do, if nobody would believe it.
    """
    try:
        authority, certificate = _load_certificate(files.authority), _load_certificate(files.certificate)
    except OSError as error:
        raise CertificateError(f"{error.filename}: {error.strerror or error}; {_MAKE}") from error
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        text = f"{files.certificate} was not signed by {files.authority.name}: another authority made it"
        raise CertificateError(f"{text}; {_RENEW}") from None
    identity = peer_identity(certificate.public_bytes(serialization.Encoding.DER))
    if identity != (cluster, peer):
        text = f"{files.certificate} is of the peer {identity[1]} of the cluster {identity[0]}"
        raise CertificateError(f"{text}, not of {peer} of {cluster}")
    for path, one in ((files.authority, authority), (files.certificate, certificate)):
        if now < one.not_valid_before_utc:
            begins = f"{one.not_valid_before_utc:%Y-%m-%d}"
            raise CertificateError(f"{path} is not valid before {begins}; is the clock right?")
        if now > one.not_valid_after_utc:
            raise CertificateError(f"{path} expired on {one.not_valid_after_utc:%Y-%m-%d}; {_RENEW}")
    return next(iter(_ending(((files.authority, authority), (files.certificate, certificate)), now)), "")


_MAKE: Final = "`sullae cert` makes it"
_RENEW: Final = "move it and its key away, and `sullae cert` makes another where ca.key is"


def ending(folder: Path, now: datetime.datetime) -> list[str]:
    """What to say of certificates in this folder that have ended, or will soon."""
    paths = sorted(folder.glob("*.pem"))
    return list(_ending([(path, _load_certificate(path)) for path in paths], now))


def elsewhere(folder: Path, config: ClusterConfig) -> list[str]:
    """What to say of peers whose certificate names another address, which clients do not believe."""
    said = []
    for peer in config.peers:
        path = TlsConfig(folder).for_peer(peer.name).certificate
        addresses: list[Any] = []
        with contextlib.suppress(x509.ExtensionNotFound):
            names = _load_certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName)
            addresses = names.value.get_values_for_type(x509.IPAddress)
        if ipaddress.ip_address(peer.address) not in addresses:
            said.append(f"{path} is not of the address {peer.address}: clients do not believe it; {_RENEW}")
    return said


def _ending(certificates: Iterable[tuple[Path, x509.Certificate]], now: datetime.datetime) -> Iterator[str]:
    for path, certificate in certificates:
        end = certificate.not_valid_after_utc
        if end - now < datetime.timedelta(days=RENEW_DAYS):
            yield f"{path} {'expires' if end > now else 'expired'} on {end:%Y-%m-%d}: {_RENEW}"


def peer_identity(der: bytes) -> tuple[str, str]:
    """Cluster name and peer name in a certificate, given as DER (`getpeercert(binary_form=True)`).

    The signature was checked by TLS. Raises `CertificateError` if it is not a peer's certificate.
    """
    try:
        uris = _uris(x509.load_der_x509_certificate(der))
    except ValueError as error:
        raise CertificateError(f"not a certificate: {error}") from error
    for uri in uris:
        parts = urlsplit(uri)
        path = parts.path.split("/")
        if parts.scheme == "sullae" and parts.netloc == "cluster" and len(path) == 4 and path[2] == "peer":
            return unquote(path[1]), unquote(path[3])
    raise CertificateError("the certificate does not say which peer it belongs to")


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
