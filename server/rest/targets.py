"""What a request's target says: path, key, and query parameters, each checked.

Keys may hold anything, slashes and dots included, so paths are taken as they were sent: cut at slashes, then
decoded, and nothing is normalised. `a%2Fb` and `a/b` are the same key; `%2e%2e` is a key like any other.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import msgspec

from core import limits
from core.consistency import Level
from core.settings import Settings
from index.bounds import WINDOW_MAX
from server.rest.problems import ProblemError
from streams.groups import PARTS_MAX

TIMEOUT_MS_MAX: Final = 600_000
LIMIT_MAX: Final = 2**31 - 1
SESSION_S_MAX: Final = 300
QUERY_CHARS_MAX: Final = 256 * 1024

BOUNDS: Final = {
    "timeout_ms": ("bad-timeout", 1, TIMEOUT_MS_MAX),
    "ttl": ("bad-ttl", 0, limits.TTL_S_MAX),
    "limit": ("bad-limit", 1, LIMIT_MAX),
    "size": ("bad-query", 0, WINDOW_MAX),
    "from": ("bad-query", 0, WINDOW_MAX),
    "session": ("bad-query", 0, SESSION_S_MAX),
    "parts": ("bad-group", 1, PARTS_MAX),
}
"""Of every number in a query: the problem of one that is out of bounds, the least, the greatest."""
PER_MIB_US: Final = limits.SECOND_US
"""So much longer than otherwise a write is waited for, for each MiB of its body, unless it says how long."""

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_WHOLE = re.compile(r"-?[0-9]{1,15}")

READ_PARAMETERS: Final = ("consistency", "timeout_ms")
WRITE_PARAMETERS: Final = ("consistency", "ttl", "timeout_ms")
EDIT_PARAMETERS: Final = ("consistency", "ttl", "timeout_ms", "return")
DOCUMENTS_PARAMETERS: Final = ("after", "limit", "documents", "consistency", "timeout_ms")
LIST_PARAMETERS: Final = ("prefix", "after", "limit", "consistency", "timeout_ms")


class Options(msgspec.Struct, frozen=True):
    """The query parameters of a request; None where nothing was said."""

    level: Level = Level.QUORUM
    ttl_s: int | None = None
    timeout_us: int | None = None
    prefix: str = ""
    after: str = ""
    limit: int = LIMIT_MAX
    returning: bool = False
    documents: bool = True

    def write_timeout_us(self, settings: Settings, body_bytes: int = 0) -> int:
        """How long to wait for the outcome of a write that has so large a body."""
        if self.timeout_us is not None:
            return self.timeout_us
        return settings.write_timeout_us + body_bytes // limits.MIB * PER_MIB_US

    def read_timeout_us(self, settings: Settings) -> int:
        """How long to wait for a read's answer."""
        return settings.read_timeout_us if self.timeout_us is None else self.timeout_us


DEFAULTS: Final = Options()


def decoded(text: str, what: str = "path") -> str:
    """Percent-decoded UTF-8; a ProblemError for anything else."""
    if "%" not in text:
        return text
    kind = "bad-query" if what == "query" else "bad-path"
    if _BAD_ESCAPE.search(text):
        raise ProblemError(kind, f"the {what} holds a % that is not followed by two hexadecimal digits")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ProblemError(kind, f"the {what} is not UTF-8 when decoded") from None


def options(query: str, allowed: tuple[str, ...]) -> Options:
    """The parameters in a query; a ProblemError for one that is unknown, twice there or out of bounds."""
    if not query:
        return DEFAULTS
    if len(query) > 200:
        return _options(query, allowed)
    return _cached_options(query, allowed)


def _options(query: str, allowed: tuple[str, ...]) -> Options:
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        name = decoded(name, "query")
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise ProblemError("bad-query", f"unknown parameter {name[:60]!r}; there are: {known}")
        if name in found:
            raise ProblemError("bad-query", f"the parameter {name} is there twice")
        found[name] = decoded(value.replace("+", " "), "query")
    return Options(
        level=_level(found["consistency"]) if "consistency" in found else Level.QUORUM,
        ttl_s=number("ttl", found["ttl"]) if "ttl" in found else None,
        timeout_us=number("timeout_ms", found["timeout_ms"]) * 1000 if "timeout_ms" in found else None,
        prefix=found.get("prefix", ""),
        after=found.get("after", ""),
        limit=number("limit", found["limit"]) if "limit" in found else LIMIT_MAX,
        returning=_one_of("return", found.get("return", "nothing"), ("nothing", "document")) == 1,
        documents=_one_of("documents", found.get("documents", "true"), ("false", "true")) == 1,
    )


_cached_options = lru_cache(1024)(_options)


def _level(text: str) -> Level:
    try:
        return Level(text.lower())
    except ValueError:
        known = ", ".join(level.value for level in Level)
        raise ProblemError("bad-level", f"no level is called {text[:60]!r}; there are: {known}") from None


def number(name: str, text: str, kind: str = "") -> int:
    """A whole number within the bounds that a parameter has (`BOUNDS`); a ProblemError for anything else.

    `kind` is the problem's, if it is not the parameter's own.
    """
    own, least, most = BOUNDS[name]
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        detail = f"{name} must be a whole number from {least} to {most}; found {text[:60]!r}"
        raise ProblemError(kind or own, detail)
    return int(text)


def _one_of(name: str, text: str, known: tuple[str, ...]) -> int:
    if text not in known:
        raise ProblemError("bad-query", f"{name} is {' or '.join(known)}; found {text[:60]!r}")
    return known.index(text)


