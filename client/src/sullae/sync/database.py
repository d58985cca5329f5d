"""The synchronous face of `sullae.database`, written by `generate_sync.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ssl import SSLContext
from typing import Any, Literal

from sullae import database
from sullae.calls import Consistency, Event
from sullae.models import Bucket, CollectionInfo, Hit
from sullae.search import SearchResult
from sullae.sync.admin import Admin
from sullae.sync.collection import Collection
from sullae.sync.kv import Kv
from sullae.sync.running import ChangeStream, CqlResult, DatabaseBase, Paged, Runner


class Database(DatabaseBase[database.Database]):
    """A client of one cluster. Use as an async context manager, or `open` and `close` it.

    One is enough for a program: it keeps connections to all peers and may be used by any number of tasks.
    """

    def session(self, token: str | None=None) -> Database:
        """The same client, for who wants to see what he did himself, whatever the level and the peer.

        What is read, found, searched and streamed through what this returns shows every write that was
        acknowledged through it, and later reads never show less than earlier ones. For that everything in it
        is done with a quorum at least: `consistency="one"` becomes a quorum, too. (At the default level,
        quorum, reads see all acknowledged writes without a session.) It needs no closing. `token` goes on
        with a session whose `session_token` was handed on, by another process for instance.
        """
        return Database(self._runner, self._it.session(token))

    @property
    def is_session(self) -> bool:
        """Whether this was made by `session`."""
        return self._it.is_session

    @property
    def session_token(self) -> str | None:
        """What to give to `session` elsewhere to go on with this one; None if this is no session."""
        return self._it.session_token

    @property
    def peers(self) -> Sequence[str]:
        """The addresses of the peers that are known now."""
        return self._it.peers

    @property
    def admin(self) -> Admin:
        """What an operator asks."""
        return Admin(self._runner, self._it.admin)

    def kv(self, bucket: str) -> Kv:
        """A bucket of bytes under keys; nothing is asked yet."""
        return Kv(self._runner, self._it.kv(bucket))

    def collection(self, name: str) -> Collection:
        """A collection of JSON documents; nothing is asked yet."""
        return Collection(self._runner, self._it.collection(name))

    def buckets(self) -> Sequence[Bucket]:
        """All buckets."""
        return self._runner.run(self._it.buckets())

    def collections(self) -> Sequence[CollectionInfo]:
        """All collections."""
        return self._runner.run(self._it.collections())

    def cql(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None=None, *, keyspace: str |
        None=None, consistency: Consistency | None=None, serial_consistency: Consistency | None=None,
        page_size: int | None=None, timestamp_us: int | None=None, idempotent: bool=False, once: bool=False,
        timeout_s: float | None=None
    ) -> CqlResult:
        """A statement of CQL; parameters are a list for `?` or a dict for `:name`.

        They are Python's own: text, numbers, `Decimal`, `bytes`, UUIDs, dates and times, lists, sets, dicts.

        What only reads is tried again at other peers. A write whose answer is lost is not, and raises
        OutcomeUnknown, unless you say that doing it twice does no harm (`idempotent`), or have the cluster do
        it once however often it is sent (`once`: exact for counters and lists, too, at the price of a
        conditional update).
        """
        return CqlResult(self._runner, self._runner.run(self._it.cql(
            query, parameters, keyspace=keyspace, consistency=consistency,
            serial_consistency=serial_consistency, page_size=page_size, timestamp_us=timestamp_us,
            idempotent=idempotent, once=once, timeout_s=timeout_s
        )))

    def search(
        self, collections: str | Sequence[str], q: str | None=None, *, query: Mapping[str, Any] | None=None,
        size: int | None=None, offset: int | None=None, sort: Any=None, search_after: str | None=None, aggs:
        Mapping[str, Any] | None=None, highlight: Mapping[str, Any] | None=None, source: Any=None, fields:
        Sequence[str] | None=None, ids: Sequence[str] | None=None, explain: bool | None=None, refresh: bool |
        None=None, allow_partial: bool | None=None, more: Mapping[str, Any] | None=None, consistency:
        Consistency | None=None, timeout_s: float | None=None
    ) -> SearchResult:
        """Find documents by a query string (`q`) or in Elasticsearch's words (`query`); without, all.

        `q` is like `title:space -horror year:[1990 TO 2000]`. `size` hits from `offset` on are given, ten by
        default; `source` says which fields of a document to show. `refresh=False` takes what indexes hold
        without waiting for the latest writes. `more` is what else a body of a search may have:
        `{"post_filter": {...}, "collapse": {"field": "author"}, "min_score": 0.5, "suggest": {...}}`.
        """
        return self._runner.run(self._it.search(
            collections, q, query=query, size=size, offset=offset, sort=sort, search_after=search_after,
            aggs=aggs, highlight=highlight, source=source, fields=fields, ids=ids, explain=explain,
            refresh=refresh, allow_partial=allow_partial, more=more, consistency=consistency,
            timeout_s=timeout_s
        ))

    def search_all(
        self, collections: str | Sequence[str], q: str | None=None, *, query: Mapping[str, Any] | None=None,
        sort: Any=None, source: Any=None, fields: Sequence[str] | None=None, limit: int | None=None,
        page_size: int=100, more: Mapping[str, Any] | None=None, consistency: Consistency | None=None,
        timeout_s: float | None=None
    ) -> Paged[Hit]:
        """All hits of a search, page after page, however many; `more` is as in `search`."""
        return Paged(self._runner, self._it.search_all(
            collections, q, query=query, sort=sort, source=source, fields=fields, limit=limit,
            page_size=page_size, more=more, consistency=consistency, timeout_s=timeout_s
        ))

    def changes(
        self, table: str, *, start: str='now', key: str | None=None, prefix: str | None=None, operations:
        Sequence[str] | None=None, filter: Mapping[str, Any] | None=None, limit: int | None=None, patience_s:  # noqa: A002
        float=60.0, repeats: bool=False, group: str | None=None, member: str | None=None, acknowledge:
        Literal['auto', 'manual']='auto', session_s: float | None=None
    ) -> ChangeStream:
        """What happens to a table (`docs.movies`, `kv.photos`, `shop.orders`) whose `changes` are on.

        `start` is now, start (as far back as logs reach), snapshot (all rows first), a time (RFC 3339), how
        long ago (`10m`), or the `cursor` of an earlier stream. Only events of a key, of keys that begin so,
        of some operations (insert, update, delete, truncate, read), or with an image that a filter matches
        come, if that is asked for. The stream goes on at another peer when one dies, leaving out what it gave
        already unless you want `repeats`, and gives up when nobody has answered for `patience_s`.

        With a `group` several readers share the table: each has some parts of it, and when one ends the
        others take over its own, from the place that the cluster keeps for the group. A change counts as done
        when the program asks for the one after it; with `acknowledge="manual"`, when it calls `acknowledge()`
        on the stream. `start` is then where a new group begins. `member` is a name of your own for this
        reader, which a second reader would take from it; `session_s` gives its parts to others when the
        program hangs for so long.
        """
        return ChangeStream(self._runner, self._it.changes(
            table, start=start, key=key, prefix=prefix, operations=operations, filter=filter, limit=limit,
            patience_s=patience_s, repeats=repeats, group=group, member=member, acknowledge=acknowledge,
            session_s=session_s
        ))

    def suggest(
        self, collection: str, text: str | None=None, *, prefix: str | None=None, field: str | None=None,
        size: int | None=None
    ) -> list[Any]:
        """Other spellings of the words of `text`, or how words that begin with `prefix` go on."""
        return self._runner.run(self._it.suggest(collection, text, prefix=prefix, field=field, size=size))

    def analyze(
        self, collection: str, text: str, *, analyzer: str | None=None, field: str | None=None
    ) -> list[Any]:
        """What an analyzer, or that of a field, makes of a text."""
        return self._runner.run(self._it.analyze(collection, text, analyzer=analyzer, field=field))

    def explain(
        self, collection: str, document_id: str, q: str | None=None, *, query: Mapping[str, Any] | None=None
    ) -> Any:
        """Why a document has its score, or does not match."""
        return self._runner.run(self._it.explain(collection, document_id, q, query=query))


def connect(
    urls: str | Sequence[str], *, consistency: Consistency | None=None, timeout_s: float=10.0, scan_timeout_s:
    float=60.0, attempt_timeout_s: float=3.0, connections_per_peer: int=64, discover: bool=True,
    prefer_replicas: bool=True, exact_numbers: bool=True, ssl: SSLContext | None=None, headers: Mapping[str,
    str] | None=None, on_event: Callable[[Event], None] | None=None, tracing: bool=True
) -> Database:
    """A client of the cluster of these peers, such as "http://127.0.0.1:8080,http://127.0.0.2:8080".

    One peer is enough: it names the others. What the arguments mean says `Settings`, which has some more;
    with one of those, make a `Database(urls, settings)`.
    """
    return Database(Runner(), database.connect(
        urls, consistency=consistency, timeout_s=timeout_s, scan_timeout_s=scan_timeout_s,
        attempt_timeout_s=attempt_timeout_s, connections_per_peer=connections_per_peer, discover=discover,
        prefer_replicas=prefer_replicas, exact_numbers=exact_numbers, ssl=ssl, headers=headers,
        on_event=on_event, tracing=tracing
    ))
