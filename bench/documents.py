"""Documents and search, measured: loading with search on, queries at a rate, how soon a write is found.

    python -m bench --only documents                     200,000 documents; a few minutes
    python -m bench --only documents --quick             20,000
    python -m bench                                      20,000 among everything else

The sample's movies are scaled to as many documents of about 1 KiB as asked for: each gets a text of words
that are as frequent as words are (Zipf), so that queries by two of them meet many documents or few. One peer
first, then three with replication factor 3. What is measured:

    load        `_bulk` until all is acknowledged, and until a search that waits for freshness sees all of it
    queries     two words each, begun 100 times a second whether or not those before are answered
    writing     the same beside 50 PUTs a second, when freshness costs the most; and with refresh=false
    found       from a write's acknowledgement to the answer of a search begun then, which must have it
    memory      resident, of the largest peer, at the end of each line: its own, and files that it maps (those
                of the inverted index), which the kernel takes back where it lacks memory

Latencies at a rate are counted from when a request was due, so a peer that stands still cannot hide it. Each
line tells what processor time it took of each peer and of the load, in percent of a core, and how busy the
machine was: with more to run than cores, latencies are those of the queue for a core. WANTED is said beside.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import accumulate, count as counter
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from bench.load import Figures, figures_of, request_bytes, run_load, run_paced
from bench.peers import Peers
from bench.scenarios import MIB, Failed, Loaded, places

LINES: Final = 1_000
"""Documents of one request: about 1 MiB, as loaders send them."""
QUERIES_PER_S: Final = 100
WRITES_PER_S: Final = 50
WORDS: Final = 20_000
TEXT_BYTES: Final = 640
"""What a movie lacks to about 1 KiB."""

COUNT: Final = 200_000
COUNT_AMONG_OTHERS: Final = 20_000

LOAD_TIMEOUT_MS: Final = 60_000
"""A load at full speed is no place for haste."""
AGAIN_MAX: Final = 100
"""So many requests of a load are sent again if some lines were not done; putting twice is harmless."""

WANTED: Final[dict[str, tuple[str, float]]] = {
    "load, searchable": ("per_s", 15_000.0),
    "two words, 100/s": ("p50_ms", 3.0),
    "two words, 100/s ": ("p99_ms", 15.0),
    "acknowledged to found": ("p99_ms", 50.0),
}
"""What one peer is to reach with COUNT documents, by the names of lines; and MEMORY_WANTED_MIB."""

MEMORY_WANTED_MIB: Final = 600

SEARCH: Final = "/v1/search/films"
DOCUMENT: Final = "/v1/docs/films/"


class Corpus:
    """The documents of a run, the same for the same size."""

    def __init__(self, sample: Path, count: int) -> None:
        with gzip.open(sample) as file:
            self._movies = [orjson.loads(line) for line in file]
        self.count = count
        random = Random("documents")
        letters = "abcdefghijklmnopqrstuvwxyz"
        lengths = [random.randint(3, 9) for _ in range(WORDS)]
        self._words = ["".join(random.choices(letters, k=length)) for length in lengths]
        self._weights = list(accumulate(1 / (rank + 3) for rank in range(WORDS)))

    def document(self, number: int) -> dict[str, Any]:
        """A movie and a text."""
        random = Random(f"document:{number}")
        words = random.choices(self._words, cum_weights=self._weights, k=TEXT_BYTES // 7)
        return {**self._movies[number % len(self._movies)], "plot": " ".join(words), "number": number}

    def queries(self) -> Iterator[str]:
        """Two words each, without end: one that is frequent, one less."""
        random = Random("queries")
        while True:
            yield f"{self._words[random.randrange(20, 500)]} {self._words[random.randrange(100, 5_000)]}"

    def lines(self) -> Iterator[bytes]:
        """The bodies of the load."""
        for first in range(0, self.count, LINES):
            numbers = range(first, min(self.count, first + LINES))
            puts = ({"op": "put", "id": f"d{n}", "document": self.document(n)} for n in numbers)
            yield b"\n".join(map(orjson.dumps, puts)) + b"\n"


class Client:
    """Requests to each peer in turn."""

    def __init__(self, session: aiohttp.ClientSession, peers: Peers) -> None:
        self._session = session
        self._places = [f"http://{address}:{port}" for address, port in places(peers)]
        self._turn = counter()

    async def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a good answer. Raises `Failed`."""
        place = self._places[next(self._turn) % len(self._places)]
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        async with self._session.request(method, place + path, data=data, headers=headers) as answer:
            text = await answer.read()
            if answer.status >= 300:
                raise Failed(f"{method} {path}: {answer.status} {text[:300]!r}")
            return orjson.loads(text) if text else None

    async def total(self, query: str, more: str = "") -> int:
        """How many documents a query finds, with a page of them."""
        found = await self("GET", f"{SEARCH}?q={quote(query)}{more}")
        return int(found["hits"]["total"]["value"])


@asynccontextmanager
async def client_of(peers: Peers) -> AsyncIterator[Client]:
    """A client with as many connections as it needs."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(session, peers)


async def measure(peers: Peers, corpus: Corpus, seconds: float) -> dict[str, Loaded]:
    """All of it, on a cluster that runs; by the names of the table's lines. Raises `Failed`."""
    found: dict[str, Loaded] = {}
    bodies = list(corpus.lines())
    async with client_of(peers) as client:
        await client("PUT", "/v1/collections/films", {})
        await client.total("*:*")  # it is searched from now on
        costs = _Costs(peers)
        acknowledged, searchable = await _load(peers, corpus, client, bodies)
        bodies.clear()
        found["load, acknowledged"] = costs.told(acknowledged)
        found["load, searchable"] = costs.told(searchable)
        queries = corpus.queries()
        costs = _Costs(peers)
        found["two words, 100/s"] = costs.told(await _queries(peers, queries, seconds))
        for name, more in (("", ""), (", refresh=false", "&refresh=false")):
            stop = asyncio.Event()
            costs = _Costs(peers)
            writing = asyncio.create_task(_write(client, corpus, stop))
            try:
                figures = await _queries(peers, queries, seconds, more)
            finally:
                stop.set()
                await writing
            found[f"the same beside writes{name}"] = costs.told(figures)
        costs = _Costs(peers)
        found["acknowledged to found"] = costs.told(await _found(client, int(seconds * 10)))
    return found


def verdict(found: dict[str, Loaded]) -> list[str]:
    """What is wanted of one peer, beside what it was."""
    told = []
    for name, (figure, wanted) in WANTED.items():
        was = float(getattr(found[name.strip()].figures, figure))
        kept = was >= wanted if figure == "per_s" else was < wanted
        told.append(f"{name.strip()}: {figure} {was:g}, wanted {wanted:g}: {'yes' if kept else 'NO'}")
    own, files = max(
        ((at["own"], at["files"]) for at in (loaded.memory_mib for loaded in found.values())), key=sum
    )
    is_kept = own + files < MEMORY_WANTED_MIB
    told.append(
        f"memory: {own + files} MiB ({own} of its own, {files} of mapped files), wanted {MEMORY_WANTED_MIB}: "
        f"{'yes' if is_kept else 'NO'}"
    )
    return told


class _Costs:
    """What a line costs, from here on."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._began = time.perf_counter()
        self._own_s = time.process_time()
        self._cpu_s = {peer.name: peer.cpu_s() for peer in peers.peers}

    def told(self, figures: Figures) -> Loaded:
        """The line."""
        seconds = time.perf_counter() - self._began
        used = {peer.name: peer.cpu_s() - self._cpu_s[peer.name] for peer in self._peers.peers}
        percent = {name: round(100 * cpu_s / seconds, 1) for name, cpu_s in used.items()}
        percent["load"] = round(100 * (time.process_time() - self._own_s) / seconds, 1)
        percent["busy"] = round(100 * os.getloadavg()[0], 1)
        largest = max(self._peers.peers, key=lambda peer: peer.memory_bytes())
        memory = {
            "own": largest.memory_bytes("RssAnon") // MIB,
            "files": (largest.memory_bytes("RssFile") + largest.memory_bytes("RssShmem")) // MIB,
        }
        return Loaded(figures=figures, cpu_percent=percent, memory_mib=memory)


async def _load(peers: Peers, corpus: Corpus, client: Client, bodies: list[bytes]) -> tuple[Figures, Figures]:
    """Documents per second until they are acknowledged, and until they are found."""
    path = f"{DOCUMENT}_bulk?timeout_ms={LOAD_TIMEOUT_MS}"
    requests = (request_bytes("POST", path, body) for body in bodies)
    sizes = {corpus.count % LINES or LINES, LINES}
    began = time.perf_counter()
    figures, failure = await run_load(
        places(peers),
        4,
        requests,
        lambda answer: answer.replace(b" ", b"").count(b'"status":20') in sizes,
        again_max=AGAIN_MAX,
    )
    if figures.failed:
        bad = [line for line in failure.splitlines() if b'"status"' in line and b'"status":20' not in line]
        why = (bad or [failure])[0][:300]
        if figures.failed >= AGAIN_MAX:
            raise Failed(f"{figures.failed} loads failed, the first: {why!r}")
        print(f"{figures.failed} loads were sent again, the first for {why!r}", file=sys.stderr)
    acknowledged_s = time.perf_counter() - began
    if await client.total("*:*", "&size=0&timeout_ms=600000") != corpus.count:
        raise Failed("a search does not see all that was loaded")
    searchable_s = time.perf_counter() - began
    return (
        _of_documents(figures, corpus.count, acknowledged_s),
        _of_documents(figures, corpus.count, searchable_s),
    )


def _of_documents(figures: Figures, documents: int, seconds: float) -> Figures:
    """Latencies are those of whole requests."""
    kept = figures_of([0.0], 1.0, 0)
    for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms"):
        setattr(kept, name, getattr(figures, name))
    kept.operations, kept.seconds, kept.per_s = documents, round(seconds, 2), round(documents / seconds, 1)
    return kept


async def _queries(peers: Peers, queries: Iterator[str], seconds: float, more: str = "") -> Figures:
    """At a steady rate, each counted from when it was due to the last byte of its answer; also those that
    failed, which are told as such.
    """
    requests = (request_bytes("GET", f"{SEARCH}?q={quote(query)}{more}") for query in queries)
    figures, _ = await run_paced(places(peers), requests, QUERIES_PER_S, seconds)
    return figures


async def _write(client: Client, corpus: Corpus, stop: asyncio.Event) -> None:
    """PUTs at a steady rate, of documents that are there."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in counter():
        await asyncio.sleep(max(0.0, began + number / WRITES_PER_S - loop.time()))
        if stop.is_set():
            return
        at = number * 7919 % corpus.count
        await client("PUT", f"{DOCUMENT}d{at}", corpus.document(at))


async def _found(client: Client, times: int) -> Figures:
    """From a write's acknowledgement to the answer that has it. Raises `Failed` if one has it not."""
    latencies_s: list[float] = []
    began = time.perf_counter()
    for number in range(times):
        word = f"unheard{number}of"
        await client("PUT", f"{DOCUMENT}d{number}", {"title": word, "number": number})
        at = time.perf_counter()
        if await client.total(word) != 1:
            raise Failed(f"write {number} was acknowledged, and a search begun afterwards did not find it")
        latencies_s.append(time.perf_counter() - at)
    return figures_of(latencies_s, time.perf_counter() - began, 0)
