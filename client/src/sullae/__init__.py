"""The client library of Sullae.

    import sullae

    async with sullae.connect("http://127.0.0.1:8080") as db:
        await db.kv("photos").put("cat", b"...")
        await db.collection("movies").put("m1", {"title": "Solaris"})

`connect_sync` gives the same without `async` and `await`. The README shows the rest.
"""

from sullae.admin import Admin
from sullae.bulk import BulkWriter
from sullae.calls import Consistency, Event, Settings
from sullae.changes import Change, ChangeStream
from sullae.collection import Collection
from sullae.cql import CqlResult
from sullae.database import Database, connect
from sullae.docs_bulk import DocsBulk
from sullae.errors import (
    BulkError,
    BulkFailure,
    Conflict,
    ConnectionFailed,
    Invalid,
    NotFound,
    NotModified,
    NotPermitted,
    OutcomeUnknown,
    Overloaded,
    PreconditionFailed,
    ReadTimeout,
    RequestError,
    ServerError,
    SullaeError,
    TooLarge,
    Unavailable,
)
from sullae.kv import Kv
from sullae.kv_bulk import KvBulk
from sullae.models import (
    Bucket,
    Changed,
    CollectionInfo,
    Column,
    Document,
    Health,
    Hit,
    Index,
    KeyInfo,
    Patched,
    PeerStatus,
    Value,
)
from sullae.paging import Paged
from sullae.retrying import Backoff
from sullae.search import SearchResult
from sullae.sync import connect as connect_sync

__version__ = "0.1.0"

__all__ = [
    "Admin",
    "Backoff",
    "Bucket",
    "BulkError",
    "BulkFailure",
    "BulkWriter",
    "Change",
    "ChangeStream",
    "Changed",
    "Collection",
    "CollectionInfo",
    "Column",
    "Conflict",
    "ConnectionFailed",
    "Consistency",
    "CqlResult",
    "Database",
    "DocsBulk",
    "Document",
    "Event",
    "Health",
    "Hit",
    "Index",
    "Invalid",
    "KeyInfo",
    "Kv",
    "KvBulk",
    "NotFound",
    "NotModified",
    "NotPermitted",
    "OutcomeUnknown",
    "Overloaded",
    "Paged",
    "Patched",
    "PeerStatus",
    "PreconditionFailed",
    "ReadTimeout",
    "RequestError",
    "SearchResult",
    "ServerError",
    "Settings",
    "SullaeError",
    "TooLarge",
    "Unavailable",
    "Value",
    "__version__",
    "connect",
    "connect_sync",
]
