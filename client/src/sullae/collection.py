"""Collections: JSON documents under ids, edited in place, found by what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sullae.calls import JSON, Consistency, document_path, query_of
from sullae.collection_many import Many
from sullae.docs_bulk import DocsBulk
from sullae.edits import edit_of
from sullae.errors import PreconditionFailed
from sullae.ids import new_id
from sullae.items import Items, Limits
from sullae.models import Document, Patched
from sullae.requests import Requests, conditions, dumps, wanted_level
from sullae.transport import Transport


class Collection(Many):
    """One collection. The first `put` makes it; `configure` gives it settings of its own.

    Documents are what `json.loads` would give, with two differences: integers of any size stay exact, and a
    number that no float holds exactly is a `decimal.Decimal`.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        super().__init__(transport, Requests(transport), name)
        self._items = Items(transport, "docs", name, lambda key: document_path(name, key), "no-such-document")

    async def get(
        self,
        document_id: str,
        *,
        if_none_match: str | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Document | None:
        """The document, None if there is none; raises NotFound if there is no such collection, and
        NotModified if it is what `if_none_match` names.
        """
        reply = await self._items.get(document_id, if_none_match, Limits(consistency, timeout_s))
        if reply is None:
            return None
        return Document(document_id, reply.etag, self._requests.parsed(reply.body))

    async def exists(
        self, document_id: str, *, consistency: Consistency | None = None, timeout_s: float | None = None
    ) -> bool:
        """Whether there is such a document; False, too, if there is no such collection."""
        return await self._items.exists(document_id, Limits(consistency, timeout_s))

    async def put(
        self,
        document_id: str,
        document: Any,
        *,
        ttl_s: int | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Have the document be this; gives the entity tag.

        `if_match` is the tag that the document must have (`*`: any), `if_none_match="*"` says that there must
        be none; else PreconditionFailed is raised.
        """
        call = self._items.call("put", "PUT", document_id, Limits(consistency, timeout_s))
        return await self._items.put(
            call, (JSON, dumps(document)), ttl_s, if_match=if_match, if_none_match=if_none_match
        )

    async def insert(
        self,
        document: Any,
        document_id: str | None = None,
        *,
        ttl_s: int | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Add a document and give its id; without an id one is made, which sorts by time.

        Raises PreconditionFailed if there is a document of this id.
        """
        is_ours = document_id is None
        document_id = new_id() if document_id is None else document_id
        await self.put(
            document_id,
            document,
            ttl_s=ttl_s,
            if_none_match=None if is_ours else "*",
            consistency=consistency,
            timeout_s=timeout_s,
        )
        return document_id

    async def patch(
        self,
        document_id: str,
        change: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        returning: bool = False,
        ttl_s: int | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Patched:
        """Edit the document in place, at the cluster.

        A list is a JSON Patch (RFC 6902), or stages, as `[{"$set": {"sum": {"$add": ["$a", "$b"]}}}]`.
        A dict whose names all begin with `$` is an update:
        `{"$set": {"a.b": 1}, "$inc": {"views": 1}}`. Any other dict is a merge patch (RFC 7396).
        Updates and merge patches make the document if there is none, unless `if_match="*"`. Clients that set
        different members at once all succeed; `$inc`, `$push` and the like are done once, however often the
        request had to be sent. With `returning` the answer has what the document became.
        """
        edit = edit_of(change)
        call = self._items.call("patch", "PATCH", document_id, Limits(consistency, timeout_s))
        query = query_of(ttl=ttl_s, return_="document" if returning else None)
        reply = await self._transport.request(
            replace(
                call,
                query=(*call.query, *query),
                body=dumps(change),
                headers={"Content-Type": edit.content_type, **conditions(if_match, if_none_match)},
                writes=True,
                repeat=edit.repeat_under(if_match, if_none_match),
            )
        )
        return Patched(reply.etag or None, self._requests.parsed(reply.body) if returning else None)

    async def delete(
        self,
        document_id: str,
        *,
        if_match: str | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Have there be no document; that there was none before is no error."""
        await self._items.delete(document_id, if_match, Limits(consistency, timeout_s))

    async def modify(
        self,
        document_id: str,
        change: Callable[[Any], Any],
        *,
        attempts: int = 20,
        timeout_s: float | None = None,
    ) -> Document:
        """Read the document, put what `change` makes of it unless somebody was quicker, and then begin again.

        `change` gets None if there is no document. After so many attempts PreconditionFailed is raised.
        """
        for attempt in range(1, attempts + 1):
            found = await self.get(document_id, timeout_s=timeout_s)
            value = change(None if found is None else found.value)
            absent, there = ("*", None) if found is None else (None, found.etag)
            try:
                etag = await self.put(
                    document_id, value, if_match=there, if_none_match=absent, timeout_s=timeout_s
                )
            except PreconditionFailed:
                if attempt == attempts:
                    raise
            else:
                return Document(document_id, etag, value)
        raise ValueError("attempts is at least 1")

    def bulk(
        self,
        *,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
        batch: int = 200,
        requests: int = 4,
        raise_failures: bool = True,
    ) -> DocsBulk:
        """A writer of many documents: `async with movies.bulk() as bulk: await bulk.put(id, document)`.

        Up to `requests` batches of up to `batch` operations are under way; `put` waits while there are more.
        At the end BulkError is raised if an operation failed, unless `raise_failures` is false.
        """
        level = wanted_level(self._transport, consistency)
        return DocsBulk(
            self,
            level,
            timeout_s,
            consistency=consistency,
            batch=batch,
            requests=requests,
            raise_failures=raise_failures,
        )
