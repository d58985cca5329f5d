"""Reading request bodies: never more than is allowed, and never more at once than there is memory for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from core.json_values import JsonError, checked
from server.rest.problems import ProblemError

SMALL_BYTES = 64 * 1024
LARGE_BYTES: Final = 256 * 1024
"""An answer from so many bytes on is counted while it is written."""
LARGE_WRITE_S: Final = 120.0
"""A reader that has not taken a large answer by then is cut off."""

Wanted = TypeVar("Wanted")

_PAIRS: Final = json.JSONDecoder(object_pairs_hook=list, parse_int=str, parse_float=str).decode


class Budget:
    """Bytes that may be held at once for bodies that are being read or written."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.taken = 0

    def take(self, size: int, *, must: bool = False) -> None:
        """Hold so many more; a ProblemError if there is no room, unless they must be held."""
        if self.taken + size > self.bytes_max and self.taken and not must:
            detail = f"bodies of {self.taken} bytes are held already; {self.bytes_max} are the limit"
            raise ProblemError("overloaded", detail)
        self.taken += size

    def give(self, size: int) -> None:
        """They are held no longer."""
        self.taken -= size


async def written_out(
    request: web.BaseRequest, response: web.Response, size: int, budget: Budget, *, must: bool = False
) -> None:
    """Hold a large body only as long as there is memory for it (or it must be told: it says what was done)
    and its reader takes it; a small one is left to whoever called.
    """
    if size < LARGE_BYTES:
        return
    budget.take(size, must=must)
    try:
        async with asyncio.timeout(LARGE_WRITE_S):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    finally:
        budget.give(size)


async def read_body(request: web.BaseRequest, limit: int, budget: Budget, kind: str) -> bytes:
    """The whole body, up to `limit` bytes; a ProblemError of this kind (413) beyond it."""
    length = request.content_length
    expect = request.headers.get("Expect")
    if length is not None and length > limit:
        raise _too_large(kind, limit)
    if expect is not None:
        _expected(request, expect)
    if length is not None and length <= SMALL_BYTES:
        return await request.content.read()
    return await _read_large(request, limit, budget, kind)


async def _read_large(request: web.BaseRequest, limit: int, budget: Budget, kind: str) -> bytes:
    held = 0
    parts = []
    try:
        async for part in request.content.iter_any():
            budget.take(len(part))
            held += len(part)
            if held > limit:
                raise _too_large(kind, limit)
            parts.append(part)
        return b"".join(parts)
    finally:
        budget.give(held)


def _expected(request: web.BaseRequest, expect: str) -> None:
    """curl asks before it sends a large body."""
    if expect.lower() != "100-continue":
        raise ProblemError("expectation-failed", f"only 100-continue can be expected; found {expect[:60]!r}")
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def check_encoding(request: web.BaseRequest) -> None:
    """Raise a ProblemError (415, 501) for a body that is compressed: a few bytes could be gigabytes."""
    encoding = request.headers.get("Content-Encoding", "identity").strip()
    if encoding.lower() not in ("identity", ""):
        detail = f"send the body as it is, without Content-Encoding: {encoding[:60]}"
        error = ProblemError("content-encoding-not-supported", detail)
        error.headers["Accept-Encoding"] = "identity"
        raise error
    coding = request.headers.get("Transfer-Encoding", "chunked").strip()
    if coding.lower() != "chunked":
        detail = f"a body may come in chunks, and in no other coding; found {coding[:60]}"
        raise ProblemError("transfer-coding-not-supported", detail)


def object_of(body: bytes, what: str) -> dict[str, Any]:
    """The JSON object that a body is; a ProblemError if it is none, or has a name twice. `what` it is for."""
    try:
        found = checked(body)
    except JsonError as error:
        raise ProblemError("bad-body", f"{what}: {error}") from None
    if type(found) is not dict:
        raise ProblemError("bad-body", f"{what} must be a JSON object")
    return found


def decoded_body(decoder: msgspec.json.Decoder[Wanted], body: bytes, what: str) -> Wanted:
    """A body of known members; a ProblemError if it is none, or has a name twice. `what` it is for."""
    object_of(body, what)
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError("bad-body", f"{what}: {error}") from None


def check_names(line: bytes, members: Iterable[object]) -> None:
    """Raise a ProblemError for a line that has a name twice, of which a parser would take the last, silently.

    `line` is a JSON object, `members` the values of those that it was found to have: text, number, or
    msgspec.Raw for what is checked, or kept as it is, elsewhere. Each name has two quotation marks, and so
    has each text: a line with no more than these has no name twice. Others are looked at closer.
    """
    quotes = 0
    for member in members:
        if member is not None:
            quotes += 4 if type(member) is str else 2
            if type(member) is msgspec.Raw:
                quotes += bytes(member).count(b'"')
    if line.count(b'"') == quotes:
        return
    seen: set[str] = set()
    for name, _ in _PAIRS(line.decode()):
        if name in seen:
            raise ProblemError("bad-body", f"this line has the name {name[:60]!r} twice")
        seen.add(name)


def _too_large(kind: str, limit: int) -> ProblemError:
    return ProblemError(kind, f"at most {limit} bytes are taken", limit_bytes=limit)
