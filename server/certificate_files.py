"""Where the cluster's certificates lie, and what is said when they cannot be used.

Apart from server/certificates.py, which needs a library that a peer without TLS has no use for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Clients = Literal["plain", "encrypted", "certificate"]
CLIENTS: Final[tuple[Clients, ...]] = ("plain", "encrypted", "certificate")
"""How REST and CQL are spoken: without TLS; with it, to everybody; only to who shows a certificate."""


class CertificateError(Exception):
    """A certificate or key cannot be made, read or used; the text names the file or says what is wrong."""


@dataclass(frozen=True, slots=True)
class PeerTls:
    """The three files that one peer needs to speak to the others, or a client to speak to peers."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Where the certificates lie: `ca.pem`, `ca.key`, and per peer `peer-NAME.pem` and `peer-NAME.key`.

    `ca.key` is needed only to make certificates, and better kept elsewhere. Clients of REST and CQL have
    `client-NAME.pem` and `client-NAME.key`.
    """

    folder: Path
    clients: Clients = "plain"

    @property
    def authority(self) -> Path:
        """The authority's certificate, the same for all peers."""
        return self.folder / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """The authority's private key: who has it can make members."""
        return self.folder / "ca.key"

    def for_peer(self, name: str) -> PeerTls:
        """The files of the peer called `name`."""
        return PeerTls(self.authority, self.folder / f"peer-{name}.pem", self.folder / f"peer-{name}.key")

    def for_client(self, name: str) -> PeerTls:
        """The files of the client called `name`."""
        return PeerTls(self.authority, self.folder / f"client-{name}.pem", self.folder / f"client-{name}.key")
