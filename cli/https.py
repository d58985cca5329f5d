"""TLS of the command line: whom it believes, and what it shows of itself.

The environment says it (SULLAE_CA, SULLAE_CERT, SULLAE_KEY), or the configuration does: of a cluster whose
clients speak TLS the authority is in the folder that `sullae cert` filled, and so is a client's certificate,
or a peer's. Else the system's authorities are believed and nothing is shown.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import Failure

if TYPE_CHECKING:
    from server.certificate_files import TlsConfig

_folder: list[Path] = []
"""The folder of certificates of the configuration that was read last."""


def go_by(tls: TlsConfig | None) -> bool:
    """Note where a configuration's certificates lie; whether its clients speak TLS."""
    if tls is None or tls.clients == "plain":
        _folder.clear()
        return False
    _folder[:] = [tls.folder]
    return True


def context() -> ssl.SSLContext:
    """The TLS context of connections to peers; a `Failure` that names the file that is no good."""
    return _context(*files())


def files() -> tuple[str | None, str | None, str | None]:
    """The files of whom to believe, of a certificate to show, and of its key."""
    ca, certificate, key = (os.environ.get(name) for name in ("SULLAE_CA", "SULLAE_CERT", "SULLAE_KEY"))
    folder = _folder[0] if _folder else None
    if folder is not None:
        ca = ca or str(folder / "ca.pem")
        made = sorted(folder.glob("client-*.pem")) or sorted(folder.glob("peer-*.pem"))
        if certificate is None and made:
            certificate, key = str(made[0]), str(made[0].with_suffix(".key"))
    return ca, certificate, key


def options(*names: str) -> list[str]:
    """What to type after a command that reaches peers; `names` are its options for the three files."""
    if not _folder:
        return []
    given = [(name, file) for name, file in zip(names, files(), strict=True) if file]
    return [text for pair in given for text in pair]


def for_cql() -> ssl.SSLContext | None:
    """The same for CQL; None where neither the configuration nor the environment says that it is TLS."""
    return context() if _folder or "SULLAE_CA" in os.environ else None


@lru_cache(1)
def _context(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    try:
        made = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise Failure(
            f"{ca}: no certificates to believe: {error.strerror or error}", code="certificate"
        ) from None
    if certificate is not None:
        try:
            made.load_cert_chain(certificate, key)
        except OSError as error:
            text = f"{certificate}, {key}: no certificate and its key: {error.strerror or error}"
            raise Failure(text, hint="`sullae cert --client NAME` makes them", code="certificate") from None
    return made


def reason_of(error: ssl.SSLError) -> str:
    """Why TLS did not come about, in words, as who dials sees it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message} (SULLAE_CA names whom to believe)"
    reason = error.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "it does not speak TLS (http, not https; --no-ssl)"
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return "it wants to see a certificate (SULLAE_CERT and SULLAE_KEY; `sullae cert --client NAME`)"
    if "UNKNOWN_CA" in reason or "CERTIFICATE" in reason:
        return f"it does not believe our certificate ({reason.lower().replace('_', ' ')})"
    return f"no TLS: {reason or error}"
