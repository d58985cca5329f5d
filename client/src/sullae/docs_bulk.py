"""The writer of many documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sullae.bulk import BulkWriter, Line
from sullae.calls import Consistency, path_of
from sullae.edits import edit_of
from sullae.ids import new_id
from sullae.requests import Query, dumps

if TYPE_CHECKING:
    from sullae.collection import Collection


class DocsBulk(BulkWriter):
    """Puts, patches and deletes in one collection; see `Collection.bulk`."""

    def __init__(
        self,
        collection: Collection,
        query: Query,
        timeout_s: float | None,
        *,
        consistency: Consistency | None,
        batch: int,
        requests: int,
        raise_failures: bool,
    ) -> None:
        super().__init__(
            collection._transport, f"{path_of('docs', collection.name)}/_bulk", query, timeout_s,
            target=collection.name, batch=batch, requests=requests, raise_failures=raise_failures,
        )  # fmt: skip
        self._collection = collection
        self._consistency = consistency

    async def put(self, document_id: str, document: Any, *, ttl_s: int | None = None) -> None:
        """Have the document be this soon; waits while too much is under way."""
        await self._line("put", document_id, {"document": document}, ttl_s)

    async def insert(self, document: Any, *, ttl_s: int | None = None) -> str:
        """Add a document soon, under an id that is made; gives the id."""
        document_id = new_id()
        await self._line("put", document_id, {"document": document}, ttl_s)
        return document_id

    async def patch(
        self,
        document_id: str,
        change: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        ttl_s: int | None = None,
    ) -> None:
        """Edit the document soon, as `Collection.patch` does; what is not the same twice is done once."""
        edit = edit_of(change)
        if edit.is_repeatable:
            await self._line("patch", document_id, {edit.member: change}, ttl_s)
            return
        patch = partial(
            self._collection.patch, document_id, change, ttl_s=ttl_s,
            consistency=self._consistency, timeout_s=self._timeout_s,
        )  # fmt: skip
        await self._alone("patch", document_id, patch)

    async def delete(self, document_id: str) -> None:
        """Have there be no document soon."""
        await self._line("delete", document_id, {}, None)

    async def _line(self, op: str, document_id: str, members: Mapping[str, Any], ttl_s: int | None) -> None:
        line = {"op": op, "id": document_id, **members}
        if ttl_s is not None:
            line["ttl"] = ttl_s
        await self._add(Line(op, document_id, dumps(line) + b"\n"))
