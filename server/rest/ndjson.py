"""Listings as NDJSON: lines streamed no faster than they are taken, and an end that says how to go on.

The last line is {"cursor": ...}: null if that was all. A listing that breaks off ends with a problem that has
a cursor, too; one without such an end was cut. What goes wrong before the first line is an ordinary problem.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
import orjson
from aiohttp import web

from server.rest.problems import ProblemError
from server.rest.targets import Options

NDJSON: Final = "application/x-ndjson"
SCAN_ROWS_MAX: Final = 2**62
FLUSH_BYTES: Final = 64 * 1024

Item = TypeVar("Item")


class Lines(msgspec.Struct, Generic[Item], frozen=True):
    """How a listing's items are written, and what of one a cursor is made of."""

    line: Callable[[Item], bytes]
    cursor: Callable[[Item], str]


def started() -> web.StreamResponse:
    """A response of lines, of which nothing is sent yet."""
    return web.StreamResponse(headers={"Server": "sullae", "Content-Type": NDJSON})


async def write(
    request: web.BaseRequest,
    response: web.StreamResponse,
    pages: AsyncIterator[Sequence[Item]],
    lines: Lines[Item],
    wanted: Options,
) -> None:
    """Write at most `wanted.limit` items, and the end."""
    left, buffer = wanted.limit, bytearray()
    last: Item | None = None
    end: dict[str, Any] = {"cursor": None}
    try:
        async for page in pages:
            for item in page[:left]:
                buffer += lines.line(item)
                last = item
            cut = len(page) > left
            left -= min(left, len(page))
            if len(buffer) >= FLUSH_BYTES:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(bytes(buffer))
                buffer.clear()
            if cut or left == 0:
                end = {"cursor": None if last is None else lines.cursor(last)}
                break
    except ProblemError as error:
        if not response.prepared and not buffer:
            raise
        end = {**error.body(), "cursor": wanted.after or None if last is None else lines.cursor(last)}
    if not response.prepared:
        await response.prepare(request)
    buffer += orjson.dumps(end) + b"\n"
    await response.write_eof(bytes(buffer))
