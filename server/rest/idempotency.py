"""`Idempotency-Key`: a write that may be retried is done once (draft-ietf-httpapi-idempotency-key-header).

The key is the operation id of the write (query/once.py), so a retry is answered like the first attempt,
through whichever peer it comes. The same key with another request is a 422; while the first attempt is under
way at this peer a second is a 409 (at another peer it waits its turn, and finds what the first did). A key
counts for the resource that the write is about: the same key for two resources is two operations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from core.requests import Answer, ConditionalRequest, CounterRequest, OperationId, Request, WriteRequest
from query.once import ID_BYTES_MAX, Once
from server.bridge import Bridge
from server.rest.problems import ProblemError

HEADER: Final = "Idempotency-Key"
_STRING: Final = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE: Final = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+")


def key_of(request: web.BaseRequest) -> bytes | None:
    """The key in the header, a structured field's string (RFC 9651) or bare; None if there is none."""
    if HEADER not in request.headers:
        return None
    given = [value.strip(" \t") for value in request.headers.getall(HEADER)]
    quoted, bare = _STRING.fullmatch(given[0]), _BARE.fullmatch(given[0])
    text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else bare[0] if bare else ""
    if len(given) != 1 or not 0 < len(text) <= ID_BYTES_MAX:
        detail = (
            f'{HEADER} is one string of 1 to {ID_BYTES_MAX} ASCII characters in quotes, such as "8e03978e"'
        )
        raise ProblemError("bad-idempotency-key", detail)
    return text.encode()


def fingerprint(method: str, path: str, query: str, *parts: bytes | str | None) -> bytes:
    """16 bytes that tell a request from others: its method, target, and what of headers and body counts."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (method, path, query, *parts):
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(b"-" if data is None else b"%d:" % len(data) + data)
    return digest.digest()


class Idempotency:
    """The keys of requests under way at this peer."""

    def __init__(self, remember_us: int) -> None:
        """Keys are remembered for so long."""
        self._remember_us = remember_us
        self._under_way: dict[tuple[int, bytes, bytes], bool] = {}

    def operation(self, key: bytes, fingerprint_: bytes) -> OperationId:
        """The id of a request with this key."""
        return OperationId(key, fingerprint_, self._remember_us)

    async def ask(self, bridge: Bridge, asked: Request, of: OperationId | None, timeout_us: int) -> Answer:
        """The answer to a write, done once if it has an id; raises ProblemError while it is under way."""
        if of is None:
            return await bridge.begin(asked, timeout_us)
        assert isinstance(asked, WriteRequest | CounterRequest | ConditionalRequest), asked
        with self._alone((asked.table, asked.partition, of.id)):
            once = Once(asked, of)
            return once.answer(await bridge.begin(once.request, timeout_us))

    @contextmanager
    def _alone(self, place: tuple[int, bytes, bytes]) -> Iterator[None]:
        if place in self._under_way:
            detail = f"a request with this {HEADER} is under way: try again when it may be done"
            error = ProblemError("idempotency-key-in-use", detail)
            error.headers["Retry-After"] = "1"
            raise error
        self._under_way[place] = True
        try:
            yield
        finally:
            del self._under_way[place]
