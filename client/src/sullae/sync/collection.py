"""The synchronous face of `sullae.collection`, written by `generate_sync.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from sullae import collection
from sullae.calls import Changes, Consistency
from sullae.collection_many import Filter, Projection, Sort
from sullae.models import Changed, CollectionInfo, Document, Index, Patched
from sullae.sync.docs_bulk import DocsBulk
from sullae.sync.running import Paged, Runner


class Collection:
    """One collection. The first `put` makes it; `configure` gives it settings of its own.

    Documents are what `json.loads` would give, with two differences: integers of any size stay exact, and a
    number that no float holds exactly is a `decimal.Decimal`.
    """

    def __init__(self, runner: Runner, it: collection.Collection) -> None:
        self._runner = runner
        self._it = it

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._it.name

    def find(
        self, filter: Filter | None=None, *, projection: Projection=None, sort: Sort=None, limit: int |  # noqa: A002
        None=None, skip: int=0, page_size: int=200, allow_scan: bool=False, consistency: Consistency |
        None=None, timeout_s: float | None=None
    ) -> Paged[Document]:
        """The documents that meet a filter in MongoDB's words: `{"year": {"$gte": 1990}}`.

        Where no index fits, only so many documents are looked at unless `allow_scan` is given.
        """
        return Paged(self._runner, self._it.find(
            filter, projection=projection, sort=sort, limit=limit, skip=skip, page_size=page_size,
            allow_scan=allow_scan, consistency=consistency, timeout_s=timeout_s
        ))

    def find_one(
        self, filter: Filter | None=None, *, projection: Projection=None, sort: Sort=None, allow_scan:  # noqa: A002
        bool=False, consistency: Consistency | None=None, timeout_s: float | None=None
    ) -> Document | None:
        """The first document that meets a filter, or None."""
        return self._runner.run(self._it.find_one(
            filter, projection=projection, sort=sort, allow_scan=allow_scan, consistency=consistency,
            timeout_s=timeout_s
        ))

    def explain(
        self, filter: Filter | None=None, *, sort: Sort=None, limit: int=100, allow_scan: bool=False,  # noqa: A002
        consistency: Consistency | None=None, timeout_s: float | None=None
    ) -> Mapping[str, Any]:
        """How `find` finds its first page: the plan, how many documents each peer looked at, how long."""
        return self._runner.run(self._it.explain(
            filter, sort=sort, limit=limit, allow_scan=allow_scan, consistency=consistency,
            timeout_s=timeout_s
        ))

    def count(
        self, filter: Filter | None=None, *, allow_scan: bool=False, consistency: Consistency | None=None,  # noqa: A002
        timeout_s: float | None=None
    ) -> int:
        """How many documents meet a filter."""
        return self._runner.run(self._it.count(
            filter, allow_scan=allow_scan, consistency=consistency, timeout_s=timeout_s
        ))

    def distinct(
        self, path: str, filter: Filter | None=None, *, allow_scan: bool=False, consistency: Consistency |  # noqa: A002
        None=None, timeout_s: float | None=None
    ) -> list[Any]:
        """The values of a path in the documents that meet a filter."""
        return self._runner.run(self._it.distinct(
            path, filter, allow_scan=allow_scan, consistency=consistency, timeout_s=timeout_s
        ))

    def aggregate(
        self, pipeline: Sequence[Mapping[str, Any]], *, allow_scan: bool=False, consistency: Consistency |
        None=None, timeout_s: float | None=None
    ) -> list[Any]:
        """What a pipeline makes of the documents: `[{"$group": {"_id": "$year", "n": {"$sum": 1}}}]`."""
        return self._runner.run(self._it.aggregate(
            pipeline, allow_scan=allow_scan, consistency=consistency, timeout_s=timeout_s
        ))

    def list(
        self, *, limit: int | None=None, page_size: int=200, consistency: Consistency | None=None, timeout_s:
        float | None=None
    ) -> Paged[Document]:
        """All documents, in token order."""
        return Paged(self._runner, self._it.list(
            limit=limit, page_size=page_size, consistency=consistency, timeout_s=timeout_s
        ))

    def update_many(
        self, filter: Filter, change: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, upsert: bool=False,  # noqa: A002
        array_filters: Sequence[Filter] | None=None, limit: int | None=None, allow_scan: bool=False,
        consistency: Consistency | None=None, timeout_s: float | None=None
    ) -> Changed:
        """Edit all documents that meet a filter, as `patch` would, each on its own and only if it still does.

        In paths of operators `$` is the element that the filter found, `$[]` each, `$[name]` those that the
        array filter of this name describes: `[{"name.score": {"$lt": 60}}]`. With `upsert` a document is made
        where none meets the filter. A change that would not be the same twice (`$inc`, an upsert under an id
        that the filter does not say) is not sent again when an answer is lost: then OutcomeUnknown says that
        some documents may have been changed.
        """
        return self._runner.run(self._it.update_many(
            filter, change, upsert=upsert, array_filters=array_filters, limit=limit, allow_scan=allow_scan,
            consistency=consistency, timeout_s=timeout_s
        ))

    def delete_many(
        self, filter: Filter, *, limit: int | None=None, allow_scan: bool=False, consistency: Consistency |  # noqa: A002
        None=None, timeout_s: float | None=None
    ) -> int:
        """Delete all documents that meet a filter (`{}`: all); gives how many were, as far as was told."""
        return self._runner.run(self._it.delete_many(
            filter, limit=limit, allow_scan=allow_scan, consistency=consistency, timeout_s=timeout_s
        ))

    def find_one_and_update(
        self, filter: Filter, change: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, sort: Sort=None,  # noqa: A002
        returning: Literal['before', 'after']='after', upsert: bool=False, array_filters: Sequence[Filter] |
        None=None, allow_scan: bool=False, consistency: Consistency | None=None, timeout_s: float | None=None
    ) -> Document | None:
        """Edit one document that meets a filter, the first in this order, and give it as it became, or as it
        was `before`; None if there is none. Of clients that ask at once each gets another one.

        The rest is as in `update_many`. It is not sent again when an answer is lost: OutcomeUnknown then.
        """
        return self._runner.run(self._it.find_one_and_update(
            filter, change, sort=sort, returning=returning, upsert=upsert, array_filters=array_filters,
            allow_scan=allow_scan, consistency=consistency, timeout_s=timeout_s
        ))

    def find_one_and_delete(
        self, filter: Filter, *, sort: Sort=None, allow_scan: bool=False, consistency: Consistency |  # noqa: A002
        None=None, timeout_s: float | None=None
    ) -> Document | None:
        """Delete one document that meets a filter, the first in this order, and give it; None if there is
        none. Of clients that ask at once each gets another one. It is not sent again when an answer is lost:
        OutcomeUnknown then.
        """
        return self._runner.run(self._it.find_one_and_delete(
            filter, sort=sort, allow_scan=allow_scan, consistency=consistency, timeout_s=timeout_s
        ))

    def create_index(
        self, name: str, paths: str | Sequence[str] | Mapping[str, int], *, filter: Filter | None=None,  # noqa: A002
        unique: bool=False, expire_after_s: int | None=None, wait_s: float=30.0
    ) -> Index:
        """Have an index on a path, several paths, or `{"year": 1, "rating": -1}`; `filter` makes it partial.

        With `unique` no two documents have one value of it; with `expire_after_s` documents are deleted so
        many seconds after the date at the path. Waits until it is built at the peer that is asked, for at
        most `wait_s` (0: not at all), and raises ReadTimeout after that; the index is built all the same.
        Raises Conflict if there is another index of this name, and with the kind `unique-build-failed` if
        documents share a value: `members["duplicates"]` are some of them.
        """
        return self._runner.run(self._it.create_index(
            name, paths, filter=filter, unique=unique, expire_after_s=expire_after_s, wait_s=wait_s
        ))

    def drop_index(self, name: str) -> None:
        """Drop an index; raises NotFound."""
        self._runner.run(self._it.drop_index(name))

    def indexes(self) -> Sequence[Index]:
        """The indexes of the collection."""
        return self._runner.run(self._it.indexes())

    def describe(self) -> CollectionInfo:
        """What the collection is; raises NotFound."""
        return self._runner.run(self._it.describe())

    def configure(
        self, *, replication_factor: int | None=None, default_ttl_s: int | None=None, max_document_bytes: int
        | None=None, schema: Any=None, mapping: Any=None, changes: Changes | None=None, changes_retention_s:
        int | None=None, changes_retention_bytes: int | None=None
    ) -> CollectionInfo:
        """Have the collection be so, made if it is not there; what is None stays as it is.

        `schema` is a JSON Schema that every write from then on must meet (True: none), `mapping` says what
        search does with the documents, `changes` what the change stream tells of a write (none, keys, new,
        old or new_and_old), `changes_retention_s` and `_bytes` how long, and how many bytes, that is kept
        (0: as the peers do). The replication factor is fixed when the collection is made.
        """
        return self._runner.run(self._it.configure(
            replication_factor=replication_factor, default_ttl_s=default_ttl_s,
            max_document_bytes=max_document_bytes, schema=schema, mapping=mapping, changes=changes,
            changes_retention_s=changes_retention_s, changes_retention_bytes=changes_retention_bytes
        ))

    def drop(self) -> None:
        """Remove the collection and all that it holds."""
        self._runner.run(self._it.drop())

    def get(
        self, document_id: str, *, if_none_match: str | None=None, consistency: Consistency | None=None,
        timeout_s: float | None=None
    ) -> Document | None:
        """The document, None if there is none; raises NotFound if there is no such collection, and
        NotModified if it is what `if_none_match` names.
        """
        return self._runner.run(self._it.get(
            document_id, if_none_match=if_none_match, consistency=consistency, timeout_s=timeout_s
        ))

    def exists(
        self, document_id: str, *, consistency: Consistency | None=None, timeout_s: float | None=None
    ) -> bool:
        """Whether there is such a document; False, too, if there is no such collection."""
        return self._runner.run(self._it.exists(document_id, consistency=consistency, timeout_s=timeout_s))

    def put(
        self, document_id: str, document: Any, *, ttl_s: int | None=None, if_match: str | None=None,
        if_none_match: str | None=None, consistency: Consistency | None=None, timeout_s: float | None=None
    ) -> str:
        """Have the document be this; gives the entity tag.

        `if_match` is the tag that the document must have (`*`: any), `if_none_match="*"` says that there must
        be none; else PreconditionFailed is raised.
        """
        return self._runner.run(self._it.put(
            document_id, document, ttl_s=ttl_s, if_match=if_match, if_none_match=if_none_match,
            consistency=consistency, timeout_s=timeout_s
        ))

    def insert(
        self, document: Any, document_id: str | None=None, *, ttl_s: int | None=None, consistency: Consistency
        | None=None, timeout_s: float | None=None
    ) -> str:
        """Add a document and give its id; without an id one is made, which sorts by time.

        Raises PreconditionFailed if there is a document of this id.
        """
        return self._runner.run(self._it.insert(
            document, document_id, ttl_s=ttl_s, consistency=consistency, timeout_s=timeout_s
        ))

    def patch(
        self, document_id: str, change: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, returning:
        bool=False, ttl_s: int | None=None, if_match: str | None=None, if_none_match: str | None=None,
        consistency: Consistency | None=None, timeout_s: float | None=None
    ) -> Patched:
        """Edit the document in place, at the cluster.

        A list is a JSON Patch (RFC 6902), or stages, as `[{"$set": {"sum": {"$add": ["$a", "$b"]}}}]`.
        A dict whose names all begin with `$` is an update:
        `{"$set": {"a.b": 1}, "$inc": {"views": 1}}`. Any other dict is a merge patch (RFC 7396).
        Updates and merge patches make the document if there is none, unless `if_match="*"`. Clients that set
        different members at once all succeed; `$inc`, `$push` and the like are done once, however often the
        request had to be sent. With `returning` the answer has what the document became.
        """
        return self._runner.run(self._it.patch(
            document_id, change, returning=returning, ttl_s=ttl_s, if_match=if_match,
            if_none_match=if_none_match, consistency=consistency, timeout_s=timeout_s
        ))

    def delete(
        self, document_id: str, *, if_match: str | None=None, consistency: Consistency | None=None, timeout_s:
        float | None=None
    ) -> None:
        """Have there be no document; that there was none before is no error."""
        self._runner.run(self._it.delete(
            document_id, if_match=if_match, consistency=consistency, timeout_s=timeout_s
        ))

    def modify(
        self, document_id: str, change: Callable[[Any], Any], *, attempts: int=20, timeout_s: float |
        None=None
    ) -> Document:
        """Read the document, put what `change` makes of it unless somebody was quicker, and then begin again.

        `change` gets None if there is no document. After so many attempts PreconditionFailed is raised.
        """
        return self._runner.run(self._it.modify(document_id, change, attempts=attempts, timeout_s=timeout_s))

    def bulk(
        self, *, consistency: Consistency | None=None, timeout_s: float | None=None, batch: int=200, requests:
        int=4, raise_failures: bool=True
    ) -> DocsBulk:
        """A writer of many documents: `with movies.bulk() as bulk: bulk.put(id, document)`.

        Up to `requests` batches of up to `batch` operations are under way; `put` waits while there are more.
        At the end BulkError is raised if an operation failed, unless `raise_failures` is false.
        """
        return DocsBulk(self._runner, self._it.bulk(
            consistency=consistency, timeout_s=timeout_s, batch=batch, requests=requests,
            raise_failures=raise_failures
        ))
