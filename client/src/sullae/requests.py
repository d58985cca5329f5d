"""Requests that most doors make: JSON there and back, pages of lines, conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sullae import json_values
from sullae.calls import JSON, Call, Consistency
from sullae.errors import Invalid, ServerError, error_of
from sullae.retrying import Repeat
from sullae.transport import Transport

Query = tuple[tuple[str, str], ...]


class Requests:
    """Asks in JSON."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Query = (),
        target: str = "",
        writes: bool = False,
        repeat: Repeat = Repeat.HARMLESS,
        timeout_s: float | None = None,
        is_scan: bool = False,
        takes_timeout: bool = False,
    ) -> Any:
        """The JSON that is answered; None if nothing is."""
        data = None if body is None else dumps(body)
        headers = {} if data is None else {"Content-Type": JSON}
        call = Call(
            operation, method, path, query, data, headers, repeat, writes, target,
            timeout_s=timeout_s, is_scan=is_scan, takes_timeout=takes_timeout,
        )  # fmt: skip
        reply = await self._transport.request(call)
        return self.parsed(reply.body)

    async def lines(self, call: Call, timeout_s: float | None) -> tuple[list[dict[str, Any]], str | None]:
        """A page of a listing, and the cursor after it; raises the problem that it consists of."""
        reply = await self._transport.request(replace(call, timeout_s=timeout_s, takes_timeout=True))
        lines = [self.parsed(line) for line in reply.body.split(b"\n") if line]
        if not lines or "cursor" not in lines[-1]:
            raise ServerError("the listing was cut off", peer=reply.peer)
        end = lines.pop()
        if "type" in end and not lines:
            raise error_of(int(end.get("status", 500)), end, reply.peer)
        return lines, end["cursor"]

    def parsed(self, body: bytes) -> Any:
        """The value of a body; None if it is empty."""
        if not body:
            return None
        try:
            return self._transport.loads(body)
        except ValueError as error:
            raise ServerError(f"the answer is no JSON: {error}") from None


def dumps(value: Any) -> bytes:
    """JSON text; raises Invalid for what has none."""
    try:
        return json_values.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"this cannot be sent as JSON: {error}", kind="bad-document") from error


def octets(value: bytes | str) -> bytes:
    """The bytes of a value, text as UTF-8; raises Invalid for what is neither."""
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"this text has no form in UTF-8: {error}", kind="bad-value") from None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise Invalid(f"a value is bytes or text (see put_json); found {type(value).__name__}", kind="bad-value")


def wanted_level(transport: Transport, consistency: Consistency | None) -> Query:
    """The level as a parameter, if one is wanted."""
    level = consistency or transport.settings.consistency
    return () if level is None else (("consistency", level),)


def conditions(if_match: str | None, if_none_match: str | None) -> Mapping[str, str]:
    """The headers of a conditional request."""
    headers = {}
    if if_match is not None:
        headers["If-Match"] = if_match
    if if_none_match is not None:
        headers["If-None-Match"] = if_none_match
    return headers


def repeat_of(if_match: str | None, if_none_match: str | None) -> Repeat:
    """What a second PUT or DELETE does: nothing, but a condition that the first made false needs a key."""
    return Repeat.HARMLESS if if_match is None and if_none_match is None else Repeat.KEYED
