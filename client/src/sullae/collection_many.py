"""What a collection does with many documents: questions, changes by filter, indexes, settings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sullae.calls import Call, Changes, Consistency, path_of, query_of
from sullae.edits import edit_of
from sullae.errors import Conflict, ReadTimeout
from sullae.models import Changed, CollectionInfo, Document, Index
from sullae.paging import Paged
from sullae.requests import Requests, wanted_level
from sullae.retrying import Repeat
from sullae.transport import Transport

Filter = Mapping[str, Any]
Sort = Any
"""`{"year": -1, "title": 1}`: paths, and 1 (ascending) or -1."""
Projection = Any
"""`{"title": 1, "year": 1}`, `{"plot": 0}`, or a list of paths."""
POLL_S = 0.1


class Many:
    """The half of a collection that is about many documents."""

    def __init__(self, transport: Transport, requests: Requests, name: str) -> None:
        self._transport = transport
        self._requests = requests
        self._name = name

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._name

    # --- questions

    def find(
        self,
        filter: Filter | None = None,  # noqa: A002 - what it is called everywhere
        *,
        projection: Projection = None,
        sort: Sort = None,
        limit: int | None = None,
        skip: int = 0,
        page_size: int = 200,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Paged[Document]:
        """The documents that meet a filter in MongoDB's words: `{"year": {"$gte": 1990}}`.

        Where no index fits, only so many documents are looked at unless `allow_scan` is given.
        """

        async def fetch(cursor: Any, count: int) -> tuple[list[Document], Any]:
            body = {
                "filter": filter or {},
                "projection": projection,
                "sort": sort,
                "limit": min(count, 10_000),
                "allow_scan": allow_scan,
                "cursor": cursor,
            }
            if skip and cursor is None:
                body["skip"] = skip
            found = await self._ask("find", body, consistency, timeout_s)
            documents = [
                Document(one.get("id", ""), one["etag"], one["document"]) for one in found["documents"]
            ]
            return documents, found["cursor"]

        return Paged(fetch, _row, limit, page_size)

    async def find_one(
        self,
        filter: Filter | None = None,  # noqa: A002
        *,
        projection: Projection = None,
        sort: Sort = None,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Document | None:
        """The first document that meets a filter, or None."""
        found = self.find(
            filter,
            projection=projection,
            sort=sort,
            allow_scan=allow_scan,
            consistency=consistency,
            timeout_s=timeout_s,
        )
        return await found.first()

    async def explain(
        self,
        filter: Filter | None = None,  # noqa: A002
        *,
        sort: Sort = None,
        limit: int = 100,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Mapping[str, Any]:
        """How `find` finds its first page: the plan, how many documents each peer looked at, how long."""
        body = {"filter": filter or {}, "sort": sort, "limit": limit, "allow_scan": allow_scan}
        body["explain"] = True
        explained: Mapping[str, Any] = (await self._ask("find", body, consistency, timeout_s))["explain"]
        return explained

    async def count(
        self,
        filter: Filter | None = None,  # noqa: A002
        *,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """How many documents meet a filter."""
        body = {"filter": filter or {}, "allow_scan": allow_scan}
        return int((await self._ask("count", body, consistency, timeout_s))["count"])

    async def distinct(
        self,
        path: str,
        filter: Filter | None = None,  # noqa: A002
        *,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """The values of a path in the documents that meet a filter."""
        body = {"path": path, "filter": filter or {}, "allow_scan": allow_scan}
        return list((await self._ask("distinct", body, consistency, timeout_s))["values"])

    async def aggregate(
        self,
        pipeline: Sequence[Mapping[str, Any]],
        *,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """What a pipeline makes of the documents: `[{"$group": {"_id": "$year", "n": {"$sum": 1}}}]`."""
        body = {"pipeline": list(pipeline), "allow_scan": allow_scan}
        return list((await self._ask("aggregate", body, consistency, timeout_s))["documents"])

    def list(
        self,
        *,
        limit: int | None = None,
        page_size: int = 200,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Paged[Document]:
        """All documents, in token order."""
        level = wanted_level(self._transport, consistency)

        async def fetch(cursor: Any, count: int) -> tuple[Any, Any]:
            query = (*query_of(after=cursor, limit=count), *level)
            call = Call("docs.list", "GET", path_of("docs", self._name), query, target=self._name)
            lines, after = await self._requests.lines(call, timeout_s)
            return [Document(one["id"], one["etag"], one["document"]) for one in lines], after

        return Paged(fetch, _row, limit, page_size)

    # --- changes by filter

    async def update_many(
        self,
        filter: Filter,  # noqa: A002
        change: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        upsert: bool = False,
        array_filters: Sequence[Filter] | None = None,
        limit: int | None = None,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Changed:
        """Edit all documents that meet a filter, as `patch` would, each on its own and only if it still does.

        In paths of operators `$` is the element that the filter found, `$[]` each, `$[name]` those that the
        array filter of this name describes: `[{"name.score": {"$lt": 60}}]`. With `upsert` a document is made
        where none meets the filter. A change that would not be the same twice (`$inc`, an upsert under an id
        that the filter does not say) is not sent again when an answer is lost: then OutcomeUnknown says that
        some documents may have been changed.
        """
        makes_one = not upsert or isinstance(filter.get("_id"), str)
        is_repeatable = edit_of(change).is_repeatable and makes_one
        repeat = Repeat.HARMLESS if is_repeatable else Repeat.HARMFUL
        body: dict[str, Any] = {"filter": filter, "update": change, "allow_scan": allow_scan}
        if upsert:
            body["upsert"] = True
        if array_filters is not None:
            body["array_filters"] = array_filters
        counts, upserted = await self._change("update", body, limit, repeat, (consistency, timeout_s))
        return Changed(counts["matched"], counts["modified"], upserted)

    async def delete_many(
        self,
        filter: Filter,  # noqa: A002
        *,
        limit: int | None = None,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Delete all documents that meet a filter (`{}`: all); gives how many were, as far as was told."""
        body = {"filter": filter, "allow_scan": allow_scan}
        counts, _ = await self._change("delete", body, limit, Repeat.HARMLESS, (consistency, timeout_s))
        return counts["deleted"]

    async def find_one_and_update(
        self,
        filter: Filter,  # noqa: A002
        change: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        sort: Sort = None,
        returning: Literal["before", "after"] = "after",
        upsert: bool = False,
        array_filters: Sequence[Filter] | None = None,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Document | None:
        """Edit one document that meets a filter, the first in this order, and give it as it became, or as it
        was `before`; None if there is none. Of clients that ask at once each gets another one.

        The rest is as in `update_many`. It is not sent again when an answer is lost: OutcomeUnknown then.
        """
        body: dict[str, Any] = {"filter": filter, "update": change, "sort": sort, "return": returning}
        if upsert:
            body["upsert"] = True
        if array_filters is not None:
            body["array_filters"] = array_filters
        return await self._one("update", {**body, "allow_scan": allow_scan}, consistency, timeout_s)

    async def find_one_and_delete(
        self,
        filter: Filter,  # noqa: A002
        *,
        sort: Sort = None,
        allow_scan: bool = False,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Document | None:
        """Delete one document that meets a filter, the first in this order, and give it; None if there is
        none. Of clients that ask at once each gets another one. It is not sent again when an answer is lost:
        OutcomeUnknown then.
        """
        body = {"filter": filter, "sort": sort, "return": "before", "allow_scan": allow_scan}
        return await self._one("delete", body, consistency, timeout_s)

    async def _one(
        self,
        operation: str,
        body: Mapping[str, Any],
        consistency: Consistency | None,
        timeout_s: float | None,
    ) -> Document | None:
        asked = {**body, "multi": False}
        while True:
            found = await self._ask(
                operation, asked, consistency, timeout_s, repeat=Repeat.HARMFUL, writes=True
            )
            one, asked["cursor"] = found["document"], found["cursor"]
            is_done = found.get("matched", 0) or found.get("deleted", 0)
            if one is not None or is_done or asked["cursor"] is None:
                return None if one is None else Document(one["id"], one["etag"], one["document"])

    async def _change(
        self,
        operation: str,
        body: Mapping[str, Any],
        limit: int | None,
        repeat: Repeat,
        how: tuple[Consistency | None, float | None],
    ) -> tuple[dict[str, int], str | None]:
        """Ask again and again until there is no cursor left; the sums of what was told, and who was made."""
        counts = {"matched": 0, "modified": 0, "deleted": 0}
        cursor: str | None = None
        upserted: str | None = None
        left = limit
        while left is None or left > 0:
            asked = {**body, **({} if cursor is None else {"cursor": cursor})}
            if left is not None:
                asked["limit"] = min(left, 10_000)
            found = await self._ask(operation, asked, *how, repeat=repeat, writes=True)
            for name in counts:
                counts[name] += found.get(name, 0)
            cursor, upserted = found["cursor"], found.get("upserted")
            if cursor is None:
                break
            if left is not None:
                left -= max(found.get("matched", 0), found.get("deleted", 0))
        return counts, upserted

    async def _ask(
        self,
        operation: str,
        body: Any,
        consistency: Consistency | None,
        timeout_s: float | None,
        *,
        repeat: Repeat = Repeat.HARMLESS,
        writes: bool = False,
    ) -> Any:
        return await self._requests.ask(
            f"docs.{operation}",
            "POST",
            f"{path_of('docs', self._name)}/_{operation}",
            body,
            query=wanted_level(self._transport, consistency),
            target=self._name,
            writes=writes,
            repeat=repeat,
            timeout_s=timeout_s,
            is_scan=True,
            takes_timeout=True,
        )

    # --- indexes

    async def create_index(
        self,
        name: str,
        paths: str | Sequence[str] | Mapping[str, int],
        *,
        filter: Filter | None = None,  # noqa: A002
        unique: bool = False,
        expire_after_s: int | None = None,
        wait_s: float = 30.0,
    ) -> Index:
        """Have an index on a path, several paths, or `{"year": 1, "rating": -1}`; `filter` makes it partial.

        With `unique` no two documents have one value of it; with `expire_after_s` documents are deleted so
        many seconds after the date at the path. Waits until it is built at the peer that is asked, for at
        most `wait_s` (0: not at all), and raises ReadTimeout after that; the index is built all the same.
        Raises Conflict if there is another index of this name, and with the kind `unique-build-failed` if
        documents share a value: `members["duplicates"]` are some of them.
        """
        wanted = dict.fromkeys([paths] if isinstance(paths, str) else paths, 1)
        body: dict[str, Any] = {"paths": dict(paths) if isinstance(paths, Mapping) else wanted}
        if filter is not None:
            body["filter"] = filter
        if unique:
            body["unique"] = True
        if expire_after_s is not None:
            body["expire_after_s"] = expire_after_s
        place = path_of("docs", self._name) + "/_indexes" + path_of(name).removeprefix("/v1")
        found = _index(
            await self._requests.ask("docs.create_index", "PUT", place, body, target=self._name, writes=True)
        )
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        while wait_s > 0 and not found.built:
            if found.state == "failed":
                detail = f"documents share values of {name}: change them, drop the index and create it again"
                members = {"duplicates": found.duplicates}
                raise Conflict(detail, kind="unique-build-failed", status=409, members=members)
            if loop.time() > end_s:
                raise ReadTimeout(f"the index {name} is built to {found.progress:.0%}", kind="index-building")
            await asyncio.sleep(POLL_S)
            found = _index(await self._requests.ask("docs.index", "GET", place, target=self._name))
        return found

    async def drop_index(self, name: str) -> None:
        """Drop an index; raises NotFound."""
        place = path_of("docs", self._name) + "/_indexes" + path_of(name).removeprefix("/v1")
        await self._requests.ask(
            "docs.drop_index",
            "DELETE",
            place,
            target=self._name,
            writes=True,
            repeat=Repeat.HARMFUL,
        )

    async def indexes(self) -> Sequence[Index]:
        """The indexes of the collection."""
        place = path_of("docs", self._name) + "/_indexes"
        found = await self._requests.ask("docs.indexes", "GET", place, target=self._name)
        return [_index(one) for one in found["indexes"]]

    # --- the collection itself

    async def describe(self) -> CollectionInfo:
        """What the collection is; raises NotFound."""
        place = path_of("collections", self._name)
        return collection_of(await self._requests.ask("docs.describe", "GET", place, target=self._name))

    async def configure(
        self,
        *,
        replication_factor: int | None = None,
        default_ttl_s: int | None = None,
        max_document_bytes: int | None = None,
        schema: Any = None,
        mapping: Any = None,
        changes: Changes | None = None,
        changes_retention_s: int | None = None,
        changes_retention_bytes: int | None = None,
    ) -> CollectionInfo:
        """Have the collection be so, made if it is not there; what is None stays as it is.

        `schema` is a JSON Schema that every write from then on must meet (True: none), `mapping` says what
        search does with the documents, `changes` what the change stream tells of a write (none, keys, new,
        old or new_and_old), `changes_retention_s` and `_bytes` how long, and how many bytes, that is kept
        (0: as the peers do). The replication factor is fixed when the collection is made.
        """
        place = path_of("collections", self._name)
        wanted = {
            "replication_factor": replication_factor,
            "default_ttl_s": default_ttl_s,
            "max_document_bytes": max_document_bytes,
            "schema": schema,
            "mapping": mapping,
            "changes": changes,
            "changes_retention_s": changes_retention_s,
            "changes_retention_bytes": changes_retention_bytes,
        }
        body = {name: value for name, value in wanted.items() if value is not None}
        return collection_of(
            await self._requests.ask("docs.configure", "PUT", place, body, target=self._name, writes=True)
        )

    async def drop(self) -> None:
        """Remove the collection and all that it holds."""
        place = path_of("collections", self._name)
        await self._requests.ask(
            "docs.drop",
            "DELETE",
            place,
            target=self._name,
            writes=True,
            repeat=Repeat.HARMFUL,
        )
        self._transport.forget(self._name)


def _row(document: Document) -> Mapping[str, Any]:
    return document.row


def _index(found: Mapping[str, Any]) -> Index:
    return Index(
        found["name"],
        found["paths"],
        found.get("filter"),
        found["built"],
        found["progress"],
        found.get("unique", False),
        found.get("expire_after_s"),
        found.get("state", ""),
        found.get("duplicates", ()),
    )


def collection_of(found: Mapping[str, Any]) -> CollectionInfo:
    """A collection's description."""
    return CollectionInfo(
        found["collection"],
        found["table"],
        found["replication_factor"],
        found["default_ttl_s"],
        found["max_document_bytes"],
        found["schema"],
        found["mapping"],
        found.get("changes", "none"),
        found.get("changes_retention_s", 0),
        found.get("changes_retention_bytes", 0),
    )
