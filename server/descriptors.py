"""How many files and sockets this process may open, and how many of those are for clients.

Whoever connects and says nothing takes a descriptor. If clients could take all of them the store could not
open its next file, which ends the peer as a disk that fails does.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

WANTED: Final = 65_536
CONNECTIONS_MAX: Final = 4_000
"""Of REST, and as many of CQL, where there are descriptors enough."""


def settle() -> None:
    """Have as many as the system lets us, up to what is of use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):  # then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def connections_max(limit: int | None = None) -> int:
    """How many connections either door for clients takes: a quarter of all descriptors at most."""
    if limit is None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if limit == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, limit // 4)
