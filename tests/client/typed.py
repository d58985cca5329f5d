"""A user's program as a type checker sees it: `make types` reads this, nobody runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type

import sullae
import sullae.sync


async def asynchronous() -> None:
    """What each call gives."""
    async with sullae.connect("http://127.0.0.1:8080") as db:
        assert_type(db, sullae.Database)
        assert_type(await db.kv("b").get("k"), sullae.Value | None)
        assert_type(await db.kv("b").put("k", b"v"), str)
        async for key in db.kv("b").list():
            assert_type(key, sullae.KeyInfo)
        movies = db.collection("movies")
        assert_type(await movies.find({"year": 1}).all(), list[sullae.Document])
        assert_type(await movies.find_one(), sullae.Document | None)
        assert_type(await movies.count(), int)
        assert_type(await movies.patch("m", {"a": 1}), sullae.Patched)
        async with movies.bulk() as bulk:
            assert_type(bulk, sullae.DocsBulk)
        result = await db.cql("SELECT * FROM t")
        assert_type(result, sullae.CqlResult)
        assert_type(result.one(), dict[str, Any] | None)
        assert_type((await db.search("movies", "x")).hits, Sequence[sullae.Hit])
        await db.kv("b").get("k", consistency="most")  # type: ignore[arg-type]


def synchronous() -> None:
    """The same names, the same types."""
    with sullae.connect_sync("http://127.0.0.1:8080") as db:
        assert_type(db, sullae.sync.Database)
        assert_type(db.kv("b").get("k"), sullae.Value | None)
        for key in db.kv("b").list():
            assert_type(key, sullae.KeyInfo)
        movies = db.collection("movies")
        assert_type(movies.find({"year": 1}).all(), list[sullae.Document])
        with movies.bulk() as bulk:
            assert_type(bulk, sullae.sync.DocsBulk)
        assert_type(db.cql("SELECT * FROM t").one(), dict[str, Any] | None)
        assert_type(db.search("movies", "x"), sullae.SearchResult)
        movies.count(filter="all")  # type: ignore[arg-type]
