"""What a web page in somebody's browser may not do to a peer that trusts whoever reaches it.

REST has no users yet, and a browser reaches what listens on loopback. So a request that writes is refused if
its browser says that it comes from a page of elsewhere (`Origin`, `Sec-Fetch-Site`). And a peer on loopback
is asked for by an address or as localhost only: a page that has its own name lead here (DNS rebinding) is
told nothing. Clients that are no browsers send neither header and ask for addresses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from server.rest.problems import ProblemError

SAFE_METHODS: Final = frozenset(["GET", "HEAD", "OPTIONS"])
_ADDRESS: Final = re.compile(r"[0-9.]+|\[[0-9a-fA-F:.]+\]|[^.]+|.+\.localhost\.?")
_HOST_LINE: Final = re.compile(rb"(?:^|\n)[Hh][Oo][Ss][Tt]: ([^\r]*)")


def check(method: str, headers: Mapping[str, str], on_loopback: bool, authority: str | None = None) -> None:
    """Raise a ProblemError (403) for a request that a page of elsewhere has made.

    `authority` is whom the request's target names, if it does: that counts then, and not `Host`.
    """
    host = headers.get("Host", "") if authority is None else authority
    if on_loopback and is_foreign_name(host):
        raise ProblemError(
            "not-permitted",
            f"a peer on loopback is not called {host[:80]!r}: ask for its address, or for localhost",
        )
    if method in SAFE_METHODS:
        return
    origin = headers.get("Origin")
    of_elsewhere = origin is not None and _named(origin) != host.lower()
    if of_elsewhere or headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise ProblemError("not-permitted", "web pages of elsewhere may not write here")


def _named(origin: str) -> str | None:
    """Whom an origin names; None if it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def is_foreign_name(host: str) -> bool:
    """Whether this is a name of the public kind: neither an address nor localhost nor a single word."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return bool(name) and not _ADDRESS.fullmatch(name)


@lru_cache(512)
def names_foreign(block: bytes) -> bool:
    """The same of a block of header lines."""
    match = _HOST_LINE.search(block)
    return match is not None and is_foreign_name(match[1].decode("latin-1"))
