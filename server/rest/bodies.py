"""Reading request bodies: never more than is allowed, and never more at once than there is memory for."""

from __future__ import annotations

from aiohttp import web

from server.rest.problems import ProblemError

SMALL_BYTES = 64 * 1024


class Budget:
    """Bytes that may be held at once for bodies that are being read or written."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.taken = 0

    def take(self, size: int) -> None:
        """Hold so many more; a ProblemError if there is no room."""
        if self.taken + size > self.bytes_max and self.taken:
            detail = f"bodies of {self.taken} bytes are held already; {self.bytes_max} are the limit"
            raise ProblemError("overloaded", detail)
        self.taken += size

    def give(self, size: int) -> None:
        """They are held no longer."""
        self.taken -= size


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


def _too_large(kind: str, limit: int) -> ProblemError:
    return ProblemError(kind, f"at most {limit} bytes are taken", limit_bytes=limit)
