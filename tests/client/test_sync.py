"""The synchronous face: it is what would be generated, it has every name, and it works from any thread."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sullae
import sullae.sync
from sullae.cql import CqlResult
from tests.client.fake import Asked, FakePeer, Script, client, lines, ok, peers


@pytest.fixture(scope="module")
def generator(project: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sync", project / "client" / "generate_sync.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_in_the_tree_is_what_would_be_written(generator: ModuleType) -> None:
    stale = [path.name for path, text in generator.generated().items() if path.read_text() != text]
    assert stale == [], "run client/generate_sync.py"


PAIRS = [
    (sullae.Database, sullae.sync.Database),
    (sullae.Kv, sullae.sync.Kv),
    (sullae.Collection, sullae.sync.Collection),
    (sullae.Admin, sullae.sync.Admin),
    (sullae.KvBulk, sullae.sync.KvBulk),
    (sullae.DocsBulk, sullae.sync.DocsBulk),
    (sullae.Paged, sullae.sync.Paged),
    (CqlResult, sullae.sync.CqlResult),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda kind: kind.__module__)
def test_every_public_name_has_a_twin_with_the_same_parameters(one: type, other: type) -> None:
    names = [name for name in dir(one) if not name.startswith("_")]
    assert names and [name for name in dir(other) if not name.startswith("_") and name in names] == names
    for name in names:
        if inspect.isfunction(getattr(one, name)):
            assert _parameters(getattr(one, name)) == _parameters(getattr(other, name)), name


def _parameters(function: Any) -> list[tuple[str, Any, str]]:
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.default, str(each.annotation)) for each in found]


@contextmanager
def fake(script: Script) -> Iterator[FakePeer]:
    """A peer on a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    peer = FakePeer(script)
    try:
        asyncio.run_coroutine_threadsafe(peer.start(), loop).result()
        yield peer
        asyncio.run_coroutine_threadsafe(peer.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def keys(asked: Asked) -> Any:
    """A bucket of seven keys, three to a page; everything else is done."""
    if asked.method == "GET" and asked.target.startswith("/v1/kv/b?"):
        at = int(asked.target.partition("after=")[2].partition("&")[0] or 0)
        page = [
            {"key": f"k{n}", "bytes": 1, "content_type": "", "etag": ""} for n in range(at, min(at + 3, 7))
        ]
        return lines(*page, {"cursor": str(at + 3) if at + 3 < 7 else None})
    if asked.target.startswith("/v1/kv/b/_bulk"):
        return lines(*({"status": 204} for _ in asked.body.splitlines()))
    if asked.method == "GET":
        return ok({"n": 1}, 200, ETag='"1-1"')
    return ok(ETag='"1-1"')


def test_the_same_without_await() -> None:
    with fake(keys) as peer, sullae.connect_sync(peer.url, discover=False) as db:
        bucket = db.kv("b")
        assert bucket.put("k", b"v") == '"1-1"'
        assert [key.key for key in bucket.list(page_size=3)] == [f"k{n}" for n in range(7)]
        assert [len(page) for page in bucket.list(page_size=3, limit=5).pages()] == [3, 2]
        assert bucket.list().first() is not None
        with bucket.bulk() as bulk:
            for number in range(5):
                bulk.put(f"k{number}", b"v")
        assert (bulk.done, bulk.failures) == (5, [])
        document = db.collection("c").get("d")
        assert document is not None and document["n"] == 1


def test_an_iteration_that_is_left_early_is_closed() -> None:
    with fake(keys) as peer, sullae.connect_sync(peer.url, discover=False) as db:
        for key in db.kv("b").list(page_size=3):
            assert key.key == "k0"
            break
        pages = db.kv("b").list(page_size=3).pages()
        assert len(next(pages)) == 3
        del pages


def test_an_iteration_that_outlives_its_client_is_no_trouble() -> None:
    with fake(keys) as peer:
        with sullae.connect_sync(peer.url, discover=False) as db:
            pages = db.kv("b").list(page_size=3).pages()
            assert len(next(pages)) == 3
        del pages
        gc.collect()
        with pytest.raises(RuntimeError, match="not open"):
            db.kv("b").get("k")


async def test_an_asynchronous_client_that_is_not_open_says_so() -> None:
    db = sullae.connect("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="not open"):
        await db.kv("b").get("k")


def test_threads_share_a_client() -> None:
    with fake(keys) as peer, sullae.connect_sync(peer.url, discover=False) as db:
        with ThreadPoolExecutor(8) as pool:
            tags = list(pool.map(lambda n: db.kv("b").put(f"k{n}", b"v"), range(40)))
        assert tags == ['"1-1"'] * 40


def test_a_client_that_is_not_open_says_so() -> None:
    db = sullae.connect_sync("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="not open"):
        db.kv("b").put("k", b"v")
    db.close()


def test_a_function_that_the_library_calls_cannot_wait_for_itself() -> None:
    with fake(keys) as peer, sullae.connect_sync(peer.url, discover=False) as db:
        movies = db.collection("c")
        with pytest.raises(RuntimeError, match="cannot use"):
            movies.modify("d", lambda _: movies.get("d"))
        assert movies.modify("d", lambda value: {**value, "n": 2}).value == {"n": 2}


async def test_a_page_goes_on_at_another_peer() -> None:
    asked_first = 0

    async def dies(asked: Asked) -> Any:
        nonlocal asked_first
        asked_first += 1
        return await keys(asked) if asked_first == 1 else None

    async with peers(dies, keys) as [first, second], client(first, second) as db:
        found = [key.key async for key in db.kv("b").list(page_size=3)]
    assert found == [f"k{n}" for n in range(7)]
    assert second.asked
