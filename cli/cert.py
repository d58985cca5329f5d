"""`sullae cert`: the cluster's certificates, and what to do with them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

from cli.output import Failure, count_text, print_json, say
from cli.places import read_config


def cert(folder: Path, config_path: Path, clients: Sequence[str] = (), *, as_json: bool) -> int:
    """Make what is missing of the certificates in `folder`."""
    from server.certificate_files import CertificateError, TlsConfig
    from server.certificates import elsewhere, ending, make_certificates

    config = read_config(config_path)
    for client in clients:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", client):
            rule = "1 to 64 letters, digits, dots, - or _, the first a letter or digit"
            raise Failure(f"a client's name is {rule}; found {client!r}", code="bad_option", exit_status=2)
    try:
        made = make_certificates(folder, config, clients)
        warnings = ending(folder, datetime.datetime.now(datetime.UTC)) + elsewhere(folder, config)
    except CertificateError as error:
        raise Failure(str(error), code="certificate") from None
    if as_json:
        print_json({"folder": str(folder), "made": [str(path) for path in made], "warnings": warnings})
        return 0
    for warning in warnings:
        say(f"sullae: {warning}")
    if not made:
        print(f"{folder}: nothing to make, every peer of {config_path} has its certificate")
        return 0
    print(f"{folder}: made {count_text(len(made), 'file')} for the cluster {config.name}")
    for path in made:
        print(f"  {path}")
    tls = TlsConfig(folder)
    own = tls.for_peer("NAME")
    print(
        f"\nEach peer needs three: {tls.authority.name}, {own.certificate.name} and {own.key.name}.\n"
        f"{tls.authority_key.name} makes members: keep it off the peers. "
        f"Then name the folder in {config_path}:\n\n"
        f"tls:\n  folder: {folder}"
    )
    if clients:
        shown = tls.for_client(clients[0])
        print(
            f"\nREST and CQL are only for who shows such a certificate with `clients: certificate` below "
            f"`folder`. Then:\n\n  curl --cacert {tls.authority} --cert {shown.certificate} --key {shown.key} https://..."
        )
    return 0
