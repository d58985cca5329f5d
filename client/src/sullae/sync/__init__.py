"""The same without `async` and `await`, for programs that have no event loop.

    with sullae.connect_sync("http://127.0.0.1:8080") as db:
        db.collection("movies").put("m1", {"title": "Solaris"})

Classes, methods and parameters have the names that they have in `sullae`. Any number of threads may share a
client.
"""

from sullae.sync.admin import Admin
from sullae.sync.collection import Collection
from sullae.sync.database import Database, connect
from sullae.sync.docs_bulk import DocsBulk
from sullae.sync.kv import Kv
from sullae.sync.kv_bulk import KvBulk
from sullae.sync.running import ChangeStream, CqlResult, Paged

__all__ = [
    "Admin",
    "ChangeStream",
    "Collection",
    "CqlResult",
    "Database",
    "DocsBulk",
    "Kv",
    "KvBulk",
    "Paged",
    "connect",
]
