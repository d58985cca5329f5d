"""Statements of CQL, and their rows page by page."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from sullae import tables
from sullae.calls import JSON, Call
from sullae.models import Column
from sullae.requests import Requests, dumps
from sullae.retrying import Repeat
from sullae.transport import Transport

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Row = dict[str, Any]
PAGE_ROWS: Final = 1_000
_SPACE: Final = r"(?:\s|--[^\n]*\n|//[^\n]*\n|/\*.*?\*/)*"
_READS: Final = re.compile(_SPACE + r"(?:SELECT|DESCRIBE|DESC|LIST)\b", re.IGNORECASE | re.DOTALL)
_WRITES_ROWS: Final = re.compile(_SPACE + r"(?:INSERT|UPDATE|DELETE|BEGIN)\b", re.IGNORECASE | re.DOTALL)
"""What takes a peer no longer than a key does; other statements read much, or wait for all peers."""


class CqlResult:
    """What a statement came to. `rows` is the first page; `async for row in result` goes through all."""

    def __init__(self, session: Cql, asked: Mapping[str, Any], timeout_s: float | None, found: Any) -> None:
        self._session = session
        self._asked = asked
        self._timeout_s = timeout_s
        self.columns: Sequence[Column] = [
            Column(column["name"], column["type"]) for column in found.get("columns", [])
        ]
        self.rows: Sequence[Row] = found.get("rows", [])
        """The rows of the first page, as dicts."""
        self.page_state: str | None = found.get("page_state")
        """Where the next page begins; None if this is the last one."""
        self.applied: bool | None = found.get("applied")
        """Whether a conditional update was done; None for any other statement."""
        self.warnings: Sequence[str] = found.get("warnings", [])
        self.schema: Mapping[str, Any] | None = found.get("schema")
        """What of the schema was changed, if anything."""

    def __repr__(self) -> str:
        """What came: columns and how many rows, or what was done."""
        if not self.columns:
            return f"CqlResult(applied={self.applied}, schema={self.schema})"
        more = "" if self.page_state is None else " and more"
        return f"CqlResult({', '.join(column.name for column in self.columns)}: {len(self.rows)} rows{more})"

    async def pages(self) -> AsyncIterator[Sequence[Row]]:
        """The pages, from the first; none is empty."""
        if self.rows:
            yield self.rows
        state = self.page_state
        while state is not None:
            asked = {**self._asked, "page_state": state}
            found = await self._session.post(asked, Repeat.HARMLESS, self._timeout_s)
            state = found.get("page_state")
            if found["rows"]:
                yield found["rows"]

    async def __aiter__(self) -> AsyncIterator[Row]:
        """All rows, of this page and of those after it."""
        async for page in self.pages():
            for row in page:
                yield row

    async def all(self) -> list[Row]:
        """All rows."""
        return [row async for row in self]

    def one(self) -> Row | None:
        """The first row, or None."""
        return self.rows[0] if self.rows else None

    async def to_pandas(self) -> pandas.DataFrame:
        """All rows as a DataFrame; raises ImportError without pandas."""
        return tables.to_pandas(await self.all())

    async def to_arrow(self) -> pyarrow.Table:
        """All rows as an Arrow table; raises ImportError without pyarrow."""
        return tables.to_arrow(await self.all())

    async def to_polars(self) -> polars.DataFrame:
        """All rows as a DataFrame of polars; raises ImportError without polars."""
        return tables.to_polars(await self.all())


class Cql:
    """Asks in CQL."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._requests = Requests(transport)

    async def run(
        self, asked: dict[str, Any], timeout_s: float | None, *, idempotent: bool, once: bool
    ) -> CqlResult:
        """A statement; `asked` are the members of the request, of which those that are None are left out."""
        members = {name: value for name, value in asked.items() if value is not None}
        if "parameters" in members:
            members["parameters"] = _sendable(members["parameters"])
        level = members.get("consistency") or self._transport.settings.consistency
        if level is not None:
            members["consistency"] = level
        harmless = idempotent or _READS.match(members["query"]) is not None
        repeat = Repeat.KEYED if once else Repeat.HARMLESS if harmless else Repeat.HARMFUL
        return CqlResult(self, members, timeout_s, await self.post(members, repeat, timeout_s))

    async def post(self, asked: Mapping[str, Any], repeat: Repeat, timeout_s: float | None) -> Any:
        """The answer to a request."""
        writes = _READS.match(asked["query"]) is None
        call = Call(
            "cql", "POST", "/v1/cql", (), dumps(asked), {"Content-Type": JSON}, repeat, writes,
            target=asked.get("keyspace", ""), timeout_s=timeout_s,
            is_scan=_WRITES_ROWS.match(asked["query"]) is None,
        )  # fmt: skip
        reply = await self._transport.request(call)
        body, found = reply.body, self._requests.parsed(reply.body)
        if self._transport.settings.exact_numbers:
            _keep_scales(found, body)
        return found


def _sendable(value: Any) -> Any:
    """A parameter in the form that JSON has of it: sets as lists, bytes as `0x...`, an interval of time as
    CQL's duration. (Times, UUIDs and decimals are what `dumps` makes of them.)
    """
    if isinstance(value, Mapping):
        return {name: _sendable(one) for name, one in value.items()}
    if isinstance(value, (set, frozenset, list, tuple)):
        return [_sendable(one) for one in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)}us"
    return value


def _keep_scales(found: dict[str, Any], body: bytes) -> None:
    """Have columns with decimals in their type hold `Decimal` as it was written: 1.10 is not 1.1 there."""
    names = [column["name"] for column in found.get("columns", ()) if "decimal" in column["type"]]
    if names:
        exact = json.loads(body, parse_float=Decimal)["rows"]
        for row, exact_row in zip(found["rows"], exact, strict=True):
            for name in names:
                row[name] = exact_row[name]
