"""The cluster, as a program has it: where everything begins."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal

from sullae.admin import Admin
from sullae.calls import Consistency, Event, Settings, path_of
from sullae.changes import ChangeStream, query_for
from sullae.collection import Collection
from sullae.collection_many import collection_of
from sullae.cql import Cql, CqlResult
from sullae.groups import Membership
from sullae.kv import Kv, bucket_of
from sullae.models import Bucket, CollectionInfo, Hit
from sullae.paging import Paged
from sullae.peers import urls_of
from sullae.requests import Requests
from sullae.search import Search, SearchResult, body_of
from sullae.tokens import SessionTokens
from sullae.transport import Transport


class Database:
    """A client of one cluster. Use as an async context manager, or `open` and `close` it.

    One is enough for a program: it keeps connections to all peers and may be used by any number of tasks.
    """

    def __init__(self, urls: str | Sequence[str], settings: Settings | None = None) -> None:
        """`urls` are some of the peers; raises ValueError if they are none."""
        text = urls if isinstance(urls, str) else ",".join(urls)
        self._take(Transport(urls_of(text), settings or Settings()))

    def _take(self, transport: Transport) -> None:
        self._transport = transport
        self._requests = Requests(self._transport)
        self._search = Search(self._transport)
        self._cql = Cql(self._transport)
        self._admin = Admin(self._transport)

    async def __aenter__(self) -> Database:
        """The client, connected; raises ConnectionFailed."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all connections."""
        await self.close()

    async def open(self) -> None:
        """Find the peers; raises ConnectionFailed if none answers."""
        if not self.is_session:
            await self._transport.open()

    async def close(self) -> None:
        """End all connections; may be called twice. A session has none of its own."""
        if not self.is_session:
            await self._transport.close()

    def session(self, token: str | None = None) -> Database:
        """The same client, for who wants to see what he did himself, whatever the level and the peer.

        What is read, found, searched and streamed through what this returns shows every write that was
        acknowledged through it, and later reads never show less than earlier ones. For that everything in it
        is done with a quorum at least: `consistency="one"` becomes a quorum, too. (At the default level,
        quorum, reads see all acknowledged writes without a session.) It needs no closing. `token` goes on
        with a session whose `session_token` was handed on, by another process for instance.
        """
        other = copy.copy(self)
        other._take(self._transport.in_session(SessionTokens(token)))
        return other

    @property
    def is_session(self) -> bool:
        """Whether this was made by `session`."""
        return isinstance(self._transport.tokens, SessionTokens)

    @property
    def session_token(self) -> str | None:
        """What to give to `session` elsewhere to go on with this one; None if this is no session."""
        tokens = self._transport.tokens
        return tokens.text if isinstance(tokens, SessionTokens) else None

    @property
    def peers(self) -> Sequence[str]:
        """The addresses of the peers that are known now."""
        return [peer.url for peer in self._transport.peers.all if peer.is_member]

    @property
    def admin(self) -> Admin:
        """What an operator asks."""
        return self._admin

    def kv(self, bucket: str) -> Kv:
        """A bucket of bytes under keys; nothing is asked yet."""
        return Kv(self._transport, bucket)

    def collection(self, name: str) -> Collection:
        """A collection of JSON documents; nothing is asked yet."""
        return Collection(self._transport, name)

    async def buckets(self) -> Sequence[Bucket]:
        """All buckets."""
        found = await self._requests.ask("buckets", "GET", path_of("buckets"))
        return [bucket_of(one) for one in found["buckets"]]

    async def collections(self) -> Sequence[CollectionInfo]:
        """All collections."""
        found = await self._requests.ask("collections", "GET", path_of("collections"))
        return [collection_of(one) for one in found["collections"]]

    async def cql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        keyspace: str | None = None,
        consistency: Consistency | None = None,
        serial_consistency: Consistency | None = None,
        page_size: int | None = None,
        timestamp_us: int | None = None,
        idempotent: bool = False,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> CqlResult:
        """A statement of CQL; parameters are a list for `?` or a dict for `:name`.

        They are Python's own: text, numbers, `Decimal`, `bytes`, UUIDs, dates and times, lists, sets, dicts.

        What only reads is tried again at other peers. A write whose answer is lost is not, and raises
        OutcomeUnknown, unless you say that doing it twice does no harm (`idempotent`), or have the cluster do
        it once however often it is sent (`once`: exact for counters and lists, too, at the price of a
        conditional update).
        """
        asked = {
            "query": query,
            "parameters": parameters or None,
            "keyspace": keyspace,
            "consistency": consistency,
            "serial_consistency": serial_consistency,
            "page_size": page_size,
            "timestamp": timestamp_us,
        }
        return await self._cql.run(asked, timeout_s, idempotent=idempotent, once=once)

    async def search(
        self,
        collections: str | Sequence[str],
        q: str | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        size: int | None = None,
        offset: int | None = None,
        sort: Any = None,
        search_after: str | None = None,
        aggs: Mapping[str, Any] | None = None,
        highlight: Mapping[str, Any] | None = None,
        source: Any = None,
        fields: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        explain: bool | None = None,
        refresh: bool | None = None,
        allow_partial: bool | None = None,
        more: Mapping[str, Any] | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """Find documents by a query string (`q`) or in Elasticsearch's words (`query`); without, all.

        `q` is like `title:space -horror year:[1990 TO 2000]`. `size` hits from `offset` on are given, ten by
        default; `source` says which fields of a document to show. `refresh=False` takes what indexes hold
        without waiting for the latest writes. `more` is what else a body of a search may have:
        `{"post_filter": {...}, "collapse": {"field": "author"}, "min_score": 0.5, "suggest": {...}}`.
        """
        body = body_of(
            more, q=q, query=query, size=size, from_=offset, sort=sort, search_after=search_after, aggs=aggs,
            highlight=highlight, _source=source, fields=fields, ids=ids, explain=explain, refresh=refresh,
            allow_partial=allow_partial, consistency=consistency,
        )  # fmt: skip
        return await self._search.ask(collections, body, timeout_s)

    def search_all(
        self,
        collections: str | Sequence[str],
        q: str | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        sort: Any = None,
        source: Any = None,
        fields: Sequence[str] | None = None,
        limit: int | None = None,
        page_size: int = 100,
        more: Mapping[str, Any] | None = None,
        consistency: Consistency | None = None,
        timeout_s: float | None = None,
    ) -> Paged[Hit]:
        """All hits of a search, page after page, however many; `more` is as in `search`."""
        body = body_of(
            more, q=q, query=query, sort=sort, _source=source, fields=fields, consistency=consistency
        )
        return self._search.pages(collections, body, limit, (page_size, timeout_s))

    def changes(
        self,
        table: str,
        *,
        start: str = "now",
        key: str | None = None,
        prefix: str | None = None,
        operations: Sequence[str] | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002
        limit: int | None = None,
        patience_s: float = 60.0,
        repeats: bool = False,
        group: str | None = None,
        member: str | None = None,
        acknowledge: Literal["auto", "manual"] = "auto",
        session_s: float | None = None,
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
        query = query_for(key, prefix, operations, filter, limit)
        membership = None
        if group is not None:
            membership = Membership(self._transport, table, group, member=member, session_s=session_s)
        elif member is not None or session_s is not None or acknowledge != "auto":
            raise ValueError("member, acknowledge and session_s are about a group: name one")
        return ChangeStream(
            self._transport, table, query, start, patience_s=patience_s, repeats=repeats,
            membership=membership, is_manual=acknowledge == "manual",
        )  # fmt: skip

    async def suggest(
        self,
        collection: str,
        text: str | None = None,
        *,
        prefix: str | None = None,
        field: str | None = None,
        size: int | None = None,
    ) -> list[Any]:
        """Other spellings of the words of `text`, or how words that begin with `prefix` go on."""
        return await self._search.suggest(
            collection, body_of(text=text, prefix=prefix, field=field, size=size)
        )

    async def analyze(
        self, collection: str, text: str, *, analyzer: str | None = None, field: str | None = None
    ) -> list[Any]:
        """What an analyzer, or that of a field, makes of a text."""
        return await self._search.analyze(collection, body_of(text=text, analyzer=analyzer, field=field))

    async def explain(
        self,
        collection: str,
        document_id: str,
        q: str | None = None,
        *,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Why a document has its score, or does not match."""
        return await self._search.explain(collection, body_of(id=document_id, q=q, query=query))


def connect(
    urls: str | Sequence[str],
    *,
    consistency: Consistency | None = None,
    timeout_s: float = 10.0,
    scan_timeout_s: float = 60.0,
    attempt_timeout_s: float = 3.0,
    connections_per_peer: int = 64,
    discover: bool = True,
    prefer_replicas: bool = True,
    exact_numbers: bool = True,
    ssl: SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    tracing: bool = True,
) -> Database:
    """A client of the cluster of these peers, such as "http://127.0.0.1:8080,http://127.0.0.2:8080".

    One peer is enough: it names the others. What the arguments mean says `Settings`, which has some more;
    with one of those, make a `Database(urls, settings)`.
    """
    settings = Settings(
        consistency=consistency,
        timeout_s=timeout_s,
        scan_timeout_s=scan_timeout_s,
        attempt_timeout_s=attempt_timeout_s,
        connections_per_peer=connections_per_peer,
        discover=discover,
        prefer_replicas=prefer_replicas,
        exact_numbers=exact_numbers,
        ssl=ssl,
        headers=headers or {},
        on_event=on_event,
        tracing=tracing,
    )
    return Database(urls, settings)
