"""Which connections a peer makes and takes in clear, and which under the cluster's certificates."""

from __future__ import annotations

import datetime
import ssl
from typing import Any, NamedTuple

from server.config import ClusterConfig


class Tls(NamedTuple):
    """The TLS contexts of a peer; None where plain connections are made and taken."""

    peers: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
    """Between peers: as who is dialled, as who dials."""
    clients: ssl.SSLContext | None = None
    """On REST and CQL."""
    itself: ssl.SSLContext | None = None
    """With which it asks its own REST port."""


def unsafe(config: ClusterConfig, insecure: bool) -> str:
    """Why this configuration may not be run, or nothing."""
    if insecure or config.on_loopback_only or (config.tls and config.tls.clients == "certificate"):
        return ""
    if config.tls is None:
        return (
            "peers off loopback need certificates (`sullae cert`, then `tls` in cluster.yml), or --insecure"
        )
    return (
        "REST and CQL off loopback are open to everybody who reaches them: have clients show certificates "
        "(`clients: certificate` in `tls` of cluster.yml), or say --insecure if that is meant"
    )


def tls_of(config: ClusterConfig, name: str, journal: Any) -> Tls:
    """The contexts that the configuration asks for; raises CertificateError."""
    if config.tls is None:
        return Tls()
    from server import certificates as made

    files, clients = config.tls.for_peer(name), config.tls.clients
    warning = made.check_peer(files, config.name, name, datetime.datetime.now(datetime.UTC))
    if warning:
        journal.warning(warning, code="certificate")
    peers = made.internode_context(files, server_side=True), made.internode_context(files, server_side=False)
    if clients == "plain":
        return Tls(peers)
    shown = made.client_context(files, required=clients == "certificate")
    return Tls(peers, shown, made.own_client_context(files))
