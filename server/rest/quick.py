"""A short way for the commonest requests: GET and PUT of one value, plainly asked, and searches by a query
string (server/rest/quick_search.py).

An HTTP library does for every request what few requests need: a task, two streams, objects for headers and
answers. That costs more than all that a coordinator does for a PUT (measured: 66 us). So bytes that are
*certainly* one whole plain request are answered here; all else goes to aiohttp unseen, which also words every
refusal that needs no node.

Certainly means: the whole request in one piece, nothing behind it, HTTP/1.1, a target without anything odd,
a few short headers of those that change nothing (`PLAIN`), none twice, a Content-Length if and only if there
is a body. What is one request here is the same one request to any other parser.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import orjson
from aiohttp.helpers import rfc822_formatted_time

from core.requests import Answer, Invalid, ReadRequest, RowsRead, WriteRequest, Written
from core.settings import Settings
from kv import operations as kv
from kv.buckets import Bucket
from server.bridge import Bridge
from server.metrics import Metrics
from server.rest.browsers import names_foreign
from server.rest.problems import PROBLEM_JSON, RETRY_AFTER_S, ProblemError, problem_of
from server.rest.quick_search import SEARCH_HEAD
from server.rest.targets import READ_PARAMETERS, WRITE_PARAMETERS, decoded, options

if TYPE_CHECKING:
    from server.rest.buckets import Buckets
    from server.rest.quick_search import QuickSearch

HEADER_BYTES_MAX: Final = 1024
ANSWER_BYTES_MAX: Final = 128 * 1024
"""A larger value goes out by the way that holds it back until its reader takes it."""

_HEAD: Final = re.compile(
    rb"(GET|PUT) /v1/kv/([A-Za-z0-9._~-]{1,64})/([A-Za-z0-9._~!$&'()*+,;=:@/%-]{1,2000})"
    rb"(?:\?([A-Za-z0-9._~=&-]{0,180}))? HTTP/1\.1\r\n"
    rb"((?:[A-Za-z][A-Za-z-]{0,40}: [\x21-\x7e](?:[\x20-\x7e]{0,300}[\x21-\x7e])?\r\n){1,12})\r\n"
)
PLAIN: Final = frozenset(
    [b"host", b"user-agent", b"accept", b"accept-encoding", b"connection", b"content-length", b"content-type"]
)
_LENGTH: Final = re.compile(rb"[0-9]{1,8}")
_REASONS: Final = {
    400: "Bad Request",
    404: "Not Found",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_AS_TOLD: Final = "X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\n"
"""As server/rest/values.py answers, too."""


class Verdict(Enum):
    """What becomes of bytes: taken; for aiohttp, which will find exactly one request; for aiohttp."""

    TAKEN = 0
    WHOLE = 1
    OTHER = 2


class Client(Protocol):
    """A connection, as this way needs it."""

    def answered(self, data: bytes) -> None:
        """Write an answer; the next request may come."""

    def declined(self, request: bytes) -> None:
        """Have aiohttp answer this request after all."""


@lru_cache(512)
def plain_headers(block: bytes) -> tuple[int, str] | None:
    """(length of the body or -1, its type or ""), or None if a header asks for more than is done here."""
    found: dict[bytes, bytes] = {}
    for line in block[:-2].split(b"\r\n"):
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name not in PLAIN or name in found:
            return None
        found[name] = value
    length = found.get(b"content-length")
    if b"host" not in found or found.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    if length is not None and not _LENGTH.fullmatch(length):
        return None
    return -1 if length is None else int(length), found.get(b"content-type", b"").decode("ascii")


def split(data: bytes) -> tuple[re.Match[bytes], int, str] | None:
    """The head, length and type of the body if this is certainly one whole plain request, else None."""
    match = _HEAD.match(data) or SEARCH_HEAD.match(data)
    if match is None:
        return None
    method, block = match[1], match[5]
    headers = plain_headers(block) if len(block) <= HEADER_BYTES_MAX else None
    if headers is None or (headers[0] >= 0) != (method == b"PUT"):
        return None
    return (match, *headers) if match.end() + max(0, headers[0]) == len(data) else None


class Quick:
    """The short way of one service."""

    def __init__(
        self,
        bridge: Bridge,
        buckets: Buckets,
        settings: Settings,
        metrics: Metrics,
        complain: Callable[[str, BaseException | None], None],
    ) -> None:
        """`complain` logs an error of ours."""
        self.bridge = bridge
        self.metrics = metrics
        self.complain = complain
        self._buckets = buckets
        self._settings = settings
        self.on_loopback = False
        self.search: QuickSearch | None = None

    def begin(self, client: Client, data: bytes) -> tuple[Verdict, int]:
        """Take a request if it is one for this way; `client` hears of its end, perhaps before this returns.

        Returns what becomes of it, and its number for `Bridge.forget`.
        """
        whole = split(data)
        if whole is None:
            return Verdict.OTHER, 0
        match, size, content_type = whole
        method, bucket_name, raw_key, query, block = match.groups()
        if self.on_loopback and names_foreign(block):
            return Verdict.WHOLE, 0
        if match.re is SEARCH_HEAD:
            return self._search(client, data, bucket_name.decode("ascii"), query.decode("ascii"))
        is_put = method == b"PUT"
        bucket = self._buckets.find(bucket_name.decode("ascii"))
        if bucket is None or size > self._settings.value_bytes_max:
            return Verdict.WHOLE, 0
        try:
            allowed = WRITE_PARAMETERS if is_put else READ_PARAMETERS
            wanted = options("" if query is None else query.decode("ascii"), allowed)
            key = decoded(raw_key.decode("ascii"))
        except ProblemError:
            return Verdict.WHOLE, 0  # aiohttp's way says it again, to the client
        request: WriteRequest | ReadRequest | Invalid
        if is_put:
            body = data[match.end() :]
            kind = content_type or kv.OCTETS
            request = kv.put(bucket, key, body, kind, wanted.level, ttl_s=wanted.ttl_s)
            timeout_us = wanted.write_timeout_us(self._settings, size)
        else:
            request = kv.get(bucket, key, wanted.level)
            timeout_us = wanted.read_timeout_us(self._settings)
        if isinstance(request, Invalid):
            return Verdict.WHOLE, 0
        asked = _Asked(self, client, bucket, data, (method.decode().lower(), wanted.level.value))
        return Verdict.TAKEN, self.bridge.call(request, timeout_us, asked.answered)

    def _search(self, client: Client, data: bytes, name: str, query: str) -> tuple[Verdict, int]:
        def told(found: bytes | ProblemError) -> None:
            if isinstance(found, ProblemError):
                client.answered(_problem(found))
            elif len(found) > ANSWER_BYTES_MAX:
                client.declined(data)
            else:
                fields = "X-Content-Type-Options: nosniff\r\nContent-Type: application/json\r\n"
                fields += f"Content-Length: {len(found)}\r\n"
                client.answered(_head("200 OK", fields) + found)

        number = None if self.search is None else self.search.begin(name, query, told)
        return (Verdict.WHOLE, 0) if number is None else (Verdict.TAKEN, number)


class _Asked:
    """One request in work."""

    __slots__ = ("_begun_ns", "_bucket", "_client", "_data", "_labels", "_quick")

    def __init__(
        self, quick: Quick, client: Client, bucket: Bucket, data: bytes, labels: tuple[str, str]
    ) -> None:
        self._quick = quick
        self._client = client
        self._bucket = bucket
        self._data = data
        self._labels = labels
        self._begun_ns = time.perf_counter_ns()

    def answered(self, answer: Answer) -> None:
        """Word the node's answer."""
        try:
            status, out = self._worded(answer)
        except Exception as error:  # noqa: BLE001 - one request fails; the log says why
            self._quick.complain(f"{self._data[:200]!r}", error)
            status, out = 500, _problem(ProblemError("internal-error", "this peer's log says more"))
        if not out:
            self._client.declined(self._data)
            return
        us = (time.perf_counter_ns() - self._begun_ns) // 1000
        self._quick.metrics.latency(*self._labels, status, us)
        self._client.answered(out)

    def _worded(self, answer: Answer) -> tuple[int, bytes]:
        """Status and bytes; no bytes if this is more than can be worded here."""
        if type(answer) is Written:
            fields = f"ETag: {kv.etag(answer.version)}\r\nX-Content-Type-Options: nosniff\r\n"
            return 204, _head("204 No Content", fields)
        if type(answer) is not RowsRead:
            problem = problem_of(answer)
            return problem.status, _problem(problem)
        value = kv.value_of(self._bucket, answer)
        if value is None:
            detail = f"the bucket {self._bucket.name} holds nothing under this key"
            return 404, _problem(ProblemError("no-such-key", detail))
        kind, size = value.content_type or kv.OCTETS, len(value.value)
        if size > ANSWER_BYTES_MAX or not (kind.isascii() and kind.isprintable()):
            return 0, b""
        fields = f"ETag: {value.etag}\r\n{_AS_TOLD}Content-Type: {kind}\r\nContent-Length: {size}\r\n"
        return 200, _head("200 OK", fields) + value.value


def _head(status: str, fields: str) -> bytes:
    date = rfc822_formatted_time()
    return f"HTTP/1.1 {status}\r\nServer: sullae\r\n{fields}Date: {date}\r\n\r\n".encode("ascii")


def _problem(problem: ProblemError) -> bytes:
    body = orjson.dumps(problem.body())
    fields = f"Content-Type: {PROBLEM_JSON}\r\nX-Content-Type-Options: nosniff\r\n"
    fields += "".join(f"{name}: {value}\r\n" for name, value in problem.headers.items())
    if problem.status == 503:
        fields += f"Retry-After: {RETRY_AFTER_S}\r\n"
    fields += f"Content-Length: {len(body)}\r\n"
    return _head(f"{problem.status} {_REASONS.get(problem.status, 'Error')}", fields) + body
