"""`sullae cert`: the cluster's certificates, and what to do with them."""

from __future__ import annotations

from pathlib import Path

from cli.output import Failure, count_text, print_json
from cli.places import read_config


def cert(folder: Path, config_path: Path, *, as_json: bool) -> int:
    """Make what is missing of the certificates in `folder`."""
    from server.certificate_files import CertificateError, TlsConfig
    from server.certificates import make_certificates

    config = read_config(config_path)
    try:
        made = make_certificates(folder, config)
    except CertificateError as error:
        raise Failure(str(error), code="certificate") from None
    if as_json:
        print_json({"folder": str(folder), "made": [str(path) for path in made]})
        return 0
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
    return 0
