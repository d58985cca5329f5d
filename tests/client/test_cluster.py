"""The client against real peers, one of which is killed under load.

Nothing acknowledged is lost, nothing is done twice, and a user sees no exception at all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

import sullae
from tests.process.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

WORKERS = 8


@pytest.fixture
async def db(urls: str) -> AsyncIterator[sullae.Database]:
    async with sullae.connect(urls) as db:
        yield db


class Load:
    """Writes of several kinds, all at once, until told to stop; what was acknowledged is noted."""

    def __init__(self, db: sullae.Database) -> None:
        self.db = db
        self.values: dict[str, bytes] = {}
        self.documents: dict[str, int] = {}
        self.increments = 0
        self.pushed: list[str] = []
        self.rows: dict[int, int] = {}
        self.stopped = False

    @property
    def acknowledged(self) -> int:
        return len(self.values) + len(self.documents) + self.increments + len(self.rows) + len(self.pushed)

    async def run(self, number: int) -> None:
        kv, documents = self.db.kv("load"), self.db.collection("load")
        serial = 0
        while not self.stopped:
            serial += 1
            name, n = f"{number}-{serial}", 1000 * number + serial
            await kv.put(name, name.encode())
            self.values[name] = name.encode()
            await documents.put(name, {"n": n})
            self.documents[name] = n
            await documents.patch("sum", {"$inc": {"n": 1}})
            self.increments += 1
            await documents.patch(f"list-{number}", {"$push": {"names": name}})
            self.pushed.append(name)
            await self.db.cql("INSERT INTO load.t (id, n) VALUES (?, ?)", [n, n], idempotent=True)
            self.rows[n] = n
            found = await kv.get(name)
            assert found is not None and found.value == name.encode()
            assert await documents.count({"_id": name}) == 1

    async def more(self, count: int, tasks: list[asyncio.Task[None]]) -> None:
        """Wait until so many more are acknowledged, or a worker has ended."""
        wanted = self.acknowledged + count
        async with _patience(20.0):
            while self.acknowledged < wanted and not any(task.done() for task in tasks):
                await asyncio.sleep(0.005)


def _patience(seconds: float) -> asyncio.Timeout:
    return asyncio.timeout(seconds)


async def _up(cluster: Cluster, name: str) -> None:
    """Start a peer from this thread (it ends with the thread that starts it); wait until it serves."""
    cluster.start(name)
    await asyncio.to_thread(cluster.wait_ready, name)


async def _keyspace(db: sullae.Database, name: str, copies: int) -> None:
    replication = {"class": "SimpleStrategy", "replication_factor": copies}
    await db.cql(f"CREATE KEYSPACE {name} WITH replication = {replication}")


async def test_a_peer_is_killed_under_load_and_nobody_notices(cluster: Cluster, urls: str) -> None:
    retried: list[sullae.Event] = []

    def told(event: sullae.Event) -> None:
        retried.extend([event] if event.will_retry else [])

    async with sullae.connect(urls, on_event=told) as db:
        await _keyspace(db, "load", 3)
        await db.cql("CREATE TABLE load.t (id int PRIMARY KEY, n int)")
        async with _patience(20.0):
            while any(peer.said_down for peer in db._transport.peers.all):
                await asyncio.sleep(0.01)
        load = Load(db)
        tasks = [asyncio.create_task(load.run(number)) for number in range(1, WORKERS + 1)]
        await load.more(100, tasks)
        await asyncio.to_thread(cluster.kill, "n2")
        await load.more(300, tasks)
        await _up(cluster, "n2")
        await load.more(100, tasks)
        load.stopped = True
        await asyncio.gather(*tasks)
    assert any(event.error is not None for event in retried), "the kill was not noticed by the client"
    await _everything_is_there(cluster, load)


async def _everything_is_there(cluster: Cluster, load: Load) -> None:
    for peer in cluster.peers:
        async with sullae.connect(f"http://{peer.address}:{peer.rest}", discover=False) as db:
            keys = {key.key async for key in db.kv("load").list()}
            assert keys == {*load.values}
            documents = {one.id: one.value async for one in db.collection("load").list()}
            assert {name: documents[name]["n"] for name in load.documents} == load.documents
            assert documents["sum"]["n"] == load.increments, "each increment once"
            names = [name for n in range(1, WORKERS + 1) for name in documents[f"list-{n}"]["names"]]
            assert Counter(names) == Counter(load.pushed), "each push once"
            rows = await db.cql("SELECT id, n FROM load.t", page_size=50)
            assert {row["id"]: row["n"] async for row in rows} == load.rows


async def test_a_bulk_load_goes_on_while_a_peer_is_killed(cluster: Cluster, db: sullae.Database) -> None:
    async with db.collection("bulk").bulk(batch=20, requests=4) as bulk:
        for number in range(600):
            if number == 200:
                await asyncio.to_thread(cluster.kill, "n3")
            await bulk.put(f"d{number}", {"n": number})
            if number % 50 == 0:
                await bulk.patch("total", {"$inc": {"n": 1}})
    await _up(cluster, "n3")
    assert (bulk.done, bulk.failures) == (612, [])
    assert await db.collection("bulk").count({"n": {"$gte": 0}}) == 601
    total = await db.collection("bulk").get("total")
    assert total is not None and total["n"] == 12


async def test_a_listing_goes_on_when_the_peer_that_began_it_dies(
    cluster: Cluster, db: sullae.Database
) -> None:
    async with db.kv("listing").bulk() as bulk:
        for number in range(300):
            await bulk.put(f"k{number:03}", b"v")
    found: list[str] = []
    async for key in db.kv("listing").list(page_size=20):
        if len(found) == 60:
            await asyncio.to_thread(cluster.kill, "n1")
        found.append(key.key)
    await _up(cluster, "n1")
    assert sorted(found) == [f"k{number:03}" for number in range(300)]


async def test_any_key_comes_back_from_any_peer(db: sullae.Database) -> None:
    odd = ["a/b", "..", ".", "_bulk2", "a%2Fb", "á é?&#=+ ", "%", "\x01", "a//b/", "🎬"]
    for key in odd:
        await db.kv("odd").put(key, key.encode())
        await db.collection("odd").put(key, {"is": key})
    for key in odd:
        value, document = await db.kv("odd").get(key), await db.collection("odd").get(key)
        assert value is not None and value.text == key
        assert document is not None and document["is"] == key
    assert {key.key async for key in db.kv("odd").list()} == {*odd}
    assert {one.id async for one in db.collection("odd").list(page_size=3)} == {*odd}


async def test_large_values_come_back_and_too_large_ones_are_refused(db: sullae.Database) -> None:
    large = bytes(range(256)) * 12_000
    await db.kv("large").put("k", large)
    found = await db.kv("large").get("k")
    assert found is not None and found.value == large
    async with db.kv("large").bulk() as bulk:
        await bulk.put("b", large)
    found = await db.kv("large").get("b")
    assert found is not None and found.value == large
    with pytest.raises(sullae.TooLarge) as caught:
        await db.kv("large").put("k", bytes(16 * 1024 * 1024 + 1))
    assert caught.value.kind == "value-too-large"
    with pytest.raises(sullae.TooLarge):
        await db.collection("large").put("k", {"text": "x" * 2_000_000})


async def test_conditions_hold(db: sullae.Database) -> None:
    bucket, documents = db.kv("conditions"), db.collection("conditions")
    tag = await bucket.put("k", b"1", if_none_match="*")
    with pytest.raises(sullae.PreconditionFailed) as caught:
        await bucket.put("k", b"2", if_none_match="*")
    assert caught.value.etag == tag
    with pytest.raises(sullae.NotModified):
        await bucket.get("k", if_none_match=tag)
    assert await bucket.put("k", b"3", if_match=tag) != tag
    with pytest.raises(sullae.PreconditionFailed):
        await bucket.delete("k", if_match=tag)
    await documents.insert({"n": 0}, "d")
    with pytest.raises(sullae.Conflict):
        await documents.insert({"n": 0}, "d")

    async def add() -> None:
        await documents.modify("d", lambda value: {"n": value["n"] + 1}, attempts=100, timeout_s=20.0)

    await asyncio.gather(*(add() for _ in range(6)))
    found = await documents.get("d")
    assert found is not None and found["n"] == 6


async def test_numbers_are_exact_through_every_door(db: sullae.Database) -> None:
    exact = {"int": 2**200, "decimal": Decimal("0.1000000000000000000000000001"), "float": 0.1, "small": -1}
    documents = db.collection("numbers")
    await documents.put("d", exact)
    found = await documents.get("d")
    assert found is not None and found.value == exact
    assert (await documents.find({"int": 2**200}).all())[0].value == exact
    await documents.patch("d", {"$inc": {"int": 1}})
    found = await documents.get("d")
    assert found is not None and found["int"] == 2**200 + 1
    await _keyspace(db, "exact", 1)
    await db.cql("CREATE TABLE exact.t (id int PRIMARY KEY, v varint, d decimal)")
    await db.cql("INSERT INTO exact.t (id, v, d) VALUES (?, ?, ?)", [1, 2**200, Decimal("1.10")])
    row = (await db.cql("SELECT * FROM exact.t")).one()
    assert row == {"id": 1, "v": 2**200, "d": Decimal("1.10")}
    assert str(row["d"]) == "1.10"
    await db.cql(
        "CREATE TABLE exact.native "
        "(id uuid PRIMARY KEY, b blob, s set<int>, at timestamp, l duration, m map<text, blob>)"
    )
    at, long = datetime(2024, 1, 2, tzinfo=UTC), timedelta(hours=25)
    values = [UUID(int=7), b"\0\xff", {2, 1}, at, long, {"k": b"a"}]
    await db.cql("INSERT INTO exact.native (id, b, s, at, l, m) VALUES (?, ?, ?, ?, ?, ?)", values)
    native = (await db.cql("SELECT * FROM exact.native")).one()
    assert native is not None and (native["b"], native["s"], native["m"]) == ("0x00ff", [1, 2], {"k": "0x61"})
    assert (native["at"], native["l"], native["id"]) == ("2024-01-02 00:00:00.000Z", "25h", str(values[0]))


async def test_searches_and_questions_come_page_by_page(db: sullae.Database) -> None:
    documents = db.collection("pages")
    async with documents.bulk() as bulk:
        for number in range(120):
            await bulk.put(f"d{number}", {"n": number, "text": "a word among many"})
    assert [one["n"] async for one in documents.find({}, sort={"n": 1}, page_size=50)] == list(range(120))
    assert [one["n"] async for one in documents.find({"n": {"$gte": 7}}, sort={"n": 1}, limit=3)] == [7, 8, 9]
    assert {hit["n"] async for hit in db.search_all("pages", "text:word", page_size=50)} == {*range(120)}
    found = await db.search("pages", "word", size=5, aggs={"most": {"max": {"field": "n"}}})
    assert (len(found), found.total, found.aggregations["most"]["value"]) == (5, 120, 119.0)
    assert (await documents.create_index("by_n", "n")).built
    changed = await documents.update_many({"n": {"$lt": 30}}, {"$inc": {"n": 1000}})
    assert (changed.matched, changed.modified) == (30, 30)
    assert await documents.delete_many({"n": {"$gte": 1000}}) == 30
    assert await documents.count() == 90


async def test_unique_indexes_upserts_and_elements_of_arrays(db: sullae.Database) -> None:
    people = db.collection("people")
    await people.put("a", {"mail": "x", "parts": [{"n": 1}, {"n": 9}]})
    made = await people.create_index("mail", "mail", unique=True)
    assert made.built and made.unique and made.state == "built"
    with pytest.raises(sullae.Conflict) as taken:
        await people.put("b", {"mail": "x"})
    assert (taken.value.kind, taken.value.members["holder"]) == ("unique-violation", "a")
    await people.put("b", {"k": 1})
    await people.put("c", {"k": 1})
    with pytest.raises(sullae.Conflict) as shared:
        await people.create_index("k", "k", unique=True)
    assert shared.value.kind == "unique-build-failed"
    assert [sorted(ids) for ids in shared.value.members["duplicates"]] == [["b", "c"]]
    gone = await people.create_index("gone", {"at": 1}, expire_after_s=3600)
    assert gone.expire_after_s == 3600 and not gone.unique

    low = await people.update_many(
        {"_id": "a"}, {"$set": {"parts.$[low].low": True}}, array_filters=[{"low.n": {"$lt": 5}}]
    )
    assert low == sullae.Changed(1, 1)
    found = await people.get("a")
    assert found is not None and found["parts"] == [{"n": 1, "low": True}, {"n": 9}]
    inc = {"$inc": {"n": 1}}
    done = await asyncio.gather(*(people.update_many({"_id": "sum"}, inc, upsert=True) for _ in range(8)))
    assert sorted(one.upserted or "" for one in done) == [""] * 7 + ["sum"]
    total = await people.get("sum")
    assert total is not None and total.value == {"n": 8}
    assert (await people.explain({"_id": "a"}))["plan"]["kind"] == "ids"


async def test_workers_that_take_jobs_get_one_each(db: sullae.Database) -> None:
    jobs = db.collection("jobs")
    for n in range(12):
        await jobs.put(f"j{n}", {"n": n, "state": "new"})
    take = {"$set": {"state": "taken"}}
    first = await jobs.find_one_and_update({"state": "new"}, take, sort={"n": 1}, returning="before")
    assert first is not None and first.value == {"n": 0, "state": "new"}
    rest = [jobs.find_one_and_update({"state": "new"}, take, sort={"n": 1}) for _ in range(14)]
    taken = [one for one in await asyncio.gather(*rest) if one is not None]
    assert sorted(one["n"] for one in taken) == list(range(1, 12))
    assert {one["state"] for one in taken} == {"taken"}
    gone = await asyncio.gather(*(jobs.find_one_and_delete({"state": "taken"}) for _ in range(12)))
    assert sorted(one["n"] for one in gone if one is not None) == list(range(12))
    assert await jobs.find_one_and_delete({}) is None and await jobs.count() == 0


async def test_what_else_a_search_may_say(db: sullae.Database) -> None:
    books = db.collection("said")
    for n in range(4):
        await books.put(f"b{n}", {"n": n, "by": "ab"[n % 2], "title": "ocean"})
    named = {"match": {"title": {"query": "ocean", "_name": "of the sea"}}}
    more = {"collapse": {"field": "by"}, "suggest": {"s": {"text": "oceen", "term": {"field": "title"}}}}
    found = await db.search("said", query=named, fields=["n"], sort=["n"], more=more)
    assert [(hit.id, hit.fields["n"], hit.matched_queries) for hit in found] == [
        ("b0", [0], ("of the sea",)),
        ("b1", [1], ("of the sea",)),
    ]
    assert found.suggestions["s"][0]["options"][0]["text"] == "ocean"
    filtered = db.search_all("said", more={"post_filter": {"range": {"n": {"gte": 2}}}}, page_size=1)
    assert sorted([hit.id async for hit in filtered]) == ["b2", "b3"]
    with pytest.raises(sullae.Invalid, match="said by an argument"):
        await db.search("said", size=1, more={"size": 2})


async def test_collections_and_buckets_are_described(db: sullae.Database) -> None:
    bucket = await db.kv("described").create(
        ordered=True, default_ttl_s=900, changes_retention_bytes=10**6
    )
    assert (bucket.ordered, bucket.default_ttl_s) == (True, 900)
    assert (bucket.changes_retention_bytes, bucket.changes_retention_s) == (10**6, 0)
    assert bucket in await db.buckets()
    movies = db.collection("described")
    schema = {"type": "object", "required": ["title"]}
    assert (await movies.configure(schema=schema)).schema == schema
    assert (await movies.configure(default_ttl_s=60)).schema == schema, "what is not said stays"
    kept = await movies.configure(changes="new", changes_retention_s=3_600, changes_retention_bytes=5)
    assert (kept.changes_retention_s, kept.changes_retention_bytes) == (3_600, 5)
    with pytest.raises(sullae.Invalid) as caught:
        await movies.put("d", {})
    assert caught.value.kind == "document-invalid"
    await movies.drop()
    with pytest.raises(sullae.NotFound):
        await movies.describe()
    with pytest.raises(sullae.NotFound):
        await db.kv("never-made").get("k")


async def test_the_cluster_tells_of_itself(cluster: Cluster, db: sullae.Database) -> None:
    assert len(db.peers) == 3
    assert (await db.admin.health()).ready
    assert [peer.name for peer in await db.admin.peers()] == ["n1", "n2", "n3"]
    assert len((await db.admin.ring())["vnodes"]) >= 3
    assert (await db.admin.status())["cluster"] == "test"
    assert "sullae" in await db.admin.metrics()
    with pytest.raises(sullae.NotFound):
        await db.admin.ask("no-such-verb")


async def test_what_was_just_made_is_there_at_every_peer(db: sullae.Database) -> None:
    """Each request goes to another peer than the one before: the client passes on that the schema changed."""
    ring = [peer.url for peer in db._transport.peers.all]
    assert len(ring) == 3
    await _keyspace(db, "made", 3)
    for number in range(6):
        name = f"made{number}"
        await db.cql(f"CREATE TABLE made.{name} (id int PRIMARY KEY)")
        for _ in ring:
            assert (await db.cql(f"SELECT id FROM made.{name}")).rows == []
        collection = db.collection(name)
        await collection.configure(changes="new")
        for _ in ring:
            assert await collection.count() == 0


async def test_a_session_sees_its_own_writes_through_any_peer(urls: str) -> None:
    """At ONE, in a session that is handed from peer to peer, while others do without."""
    async with sullae.connect(urls, prefer_replicas=False, consistency="one") as db:
        mine = db.session()
        for number in range(60):
            await mine.kv("mine").put("k", str(number).encode())
            found = await mine.kv("mine").get("k")
            assert found is not None and found.text == str(number)
            await mine.collection("mine").put("d", {"n": number})
            assert await mine.collection("mine").count({"n": number}) == 1
            assert (await mine.search("mine", f"n:{number}")).total == 1
        token = mine.session_token
        assert token is not None and len(token) < 200
    for url in urls.split(","):
        async with sullae.connect(url, discover=False, consistency="one") as db:
            found = await db.session(token).kv("mine").get("k")
            assert found is not None and found.text == "59"
