"""`sullae version`."""

from __future__ import annotations

import platform
from importlib import metadata

from cli.output import print_json

DISTRIBUTION = "sullae-server"


def version(*, as_json: bool) -> int:
    """Show the version of this installation and of its Python."""
    number = metadata.version(DISTRIBUTION)
    if as_json:
        print_json({"version": number, "python": platform.python_version()})
    else:
        print(f"sullae {number} (Python {platform.python_version()})")
    return 0
