"""A subscriber joins by `from=snapshot` while all rows are being overwritten: its final copy is the table.

It breaks off every so often and goes on at another peer from its last cursor, in the scan and after it. By
default with few rows; `SULLAE_SNAPSHOT_ROWS=1000000` is what `docs/changes.md` tells of, and takes some
minutes. Nobody's memory grows with the table: neither that of who scans nor of who is scanned.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import threading
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.process.cluster import Cluster, LostError, running, until

pytestmark = [pytest.mark.process, pytest.mark.slow]

ROWS = int(os.environ.get("SULLAE_SNAPSHOT_ROWS", "4000"))
BATCH = 500
NDJSON = "application/x-ndjson"
RESIDENT_MIB_MAX = 400
"""What one peer may have in memory, caches of the store included, however many rows there are."""
LAST = "the last one"


def load(cluster: Cluster) -> None:
    """Have all rows be there, as fast as that goes; what a busy machine refuses is sent again."""
    writers = [Writer(cluster, number) for number in range(2 * len(cluster.peers))]
    batches = iter(range(0, ROWS, BATCH))

    def some(writer: Writer) -> None:
        while (first := next(batches, None)) is not None:
            rows = list(range(first, min(first + BATCH, ROWS)))
            until(partial(writer.put, rows), f"rows from {first} are written", 120.0)

    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(some, writers))
    for writer in writers:
        writer.close()


class Writer(threading.Thread):
    """Overwrites rows at random, through all peers in turn, until told to stop."""

    def __init__(self, cluster: Cluster, seed: int = 0) -> None:
        super().__init__(daemon=True)
        self._clients = [cluster.client(peer.name, 60.0) for peer in cluster.peers]
        self._random = random.Random(seed)
        self._turn = seed
        self._stopped = threading.Event()
        self.number = 0
        self.crash: BaseException | None = None

    def put(self, keys: list[int]) -> bool:
        """Write all of them anew: whether each is acknowledged."""
        lines = []
        for key in keys:
            self.number += 1
            lines.append(json.dumps({"op": "put", "key": f"k{key}", "value": str(self.number)}))
        self._turn += 1
        client = self._clients[self._turn % len(self._clients)]
        reply = client.request("POST", "/v1/kv/rows/_bulk", "\n".join(lines).encode(), NDJSON)
        assert reply.status == 200, reply.body[:500]
        outcomes = [json.loads(line).get("status", 200) for line in reply.body.splitlines()]
        return all(status in (200, 201, 204) for status in outcomes)

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                keys = [self._random.randrange(ROWS) for _ in range(BATCH)]
                with contextlib.suppress(LostError):  # what is unknown is in the table, or not
                    self.put(keys)
        except BaseException as error:
            self.crash = error
            raise

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        self.close()
        assert self.crash is None, self.crash

    def close(self) -> None:
        for client in self._clients:
            client.close()


class Copy:
    """What a subscriber makes of the stream."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._random = random.Random(7)
        self.cursor = "snapshot"
        self.values = array("q", [-1]) * ROWS
        self.ended = False
        self.reads = self.updates = self.joins = self.gaps = 0

    def follow(self, lines_min: int = 1) -> None:
        """Go on at some peer, and break off at the first cursor after so many lines."""
        self.joins += 1
        peer = self._random.choice(self._cluster.peers)
        connection = http.client.HTTPConnection(peer.address, peer.rest, timeout=60)
        try:
            connection.request("GET", f"/v1/changes/kv.rows?from={self.cursor}")
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            with answer:
                self._read(answer, lines_min)
        finally:
            connection.close()

    def _read(self, answer: http.client.HTTPResponse, lines_min: int) -> None:
        for count, line in enumerate(_lines(answer)):
            self._take(line)
            is_enough = count >= lines_min or self.ended
            if is_enough and line["type"] == "heartbeat" and line.get("cursor"):
                return

    def _take(self, line: dict[str, Any]) -> None:
        if line["type"] == "heartbeat" and line.get("cursor"):
            self.cursor = line["cursor"]
        self.gaps += line["type"] == "gap"
        if line["type"] != "event":
            return
        if line["key"] == LAST:
            self.ended = True
            return
        self.reads += line["op"] == "read"
        self.updates += line["op"] != "read"
        self.values[int(line["key"][1:])] = int(line["after"]["value"])


def _lines(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := answer.readline():
        yield json.loads(line)
    pytest.fail("the stream ended by itself")


def _resident_mib(cluster: Cluster) -> list[int]:
    found = []
    for peer in cluster.peers:
        status = Path(f"/proc/{peer.pid}/status").read_text()
        found.append(int(status.partition("VmRSS:")[2].split()[0]) // 1024)
    return found


def _table(cluster: Cluster) -> array[int]:
    """The rows, as any reader has them."""
    values = array("q", [-1]) * ROWS
    with cluster.client("n2", 60.0) as client:
        for first in range(0, ROWS, BATCH):
            keys = range(first, min(first + BATCH, ROWS))
            body = "\n".join(json.dumps({"op": "get", "key": f"k{key}"}) for key in keys).encode()
            reply = client.request("POST", "/v1/kv/rows/_bulk", body, NDJSON)
            assert reply.status == 200, reply.body
            for text in reply.body.splitlines():
                line = json.loads(text)
                values[int(line["key"][1:])] = int(line["value"])
    return values


def test_the_final_copy_is_the_table(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        with cluster.client("n1") as client:
            settings = json.dumps({"changes": "new"}).encode()
            made = client.request("PUT", "/v1/buckets/rows", settings, "application/json")
            assert made.status in (200, 201), made.body
        writer, began = Writer(cluster), time.monotonic()
        load(cluster)
        loaded_s, before = time.monotonic() - began, _resident_mib(cluster)
        writer.number = ROWS
        writer.start()
        copy, joined = Copy(cluster), time.monotonic()
        most = before
        while copy.reads < ROWS * 0.9:  # what is written first during the scan may come as an update alone
            copy.follow(ROWS // 10)
            most = [max(pair) for pair in zip(most, _resident_mib(cluster), strict=True)]
        scanned_s = time.monotonic() - joined
        written_meanwhile = writer.number - ROWS
        writer.stop()
        with cluster.client("n3") as client:
            assert client.put(LAST, b"0", bucket="rows").status in (200, 201, 204)
        table = _table(cluster)
        until(lambda: _is_like(copy, table), lambda: f"as the table is: {copy.updates} updates", 600)
        print(
            f"{ROWS} rows loaded in {loaded_s:.0f} s, scanned in {scanned_s:.0f} s while {written_meanwhile} "
            f"were overwritten; {copy.joins} connections, {copy.reads} rows and {copy.updates} updates read; "
            f"resident MiB {before} loaded, {most} at most"
        )
        assert not copy.gaps
        assert -1 not in table
        assert max(most) < RESIDENT_MIB_MAX


def _is_like(copy: Copy, table: array[int]) -> bool:
    """Whether it is the table after some more lines."""
    copy.follow(ROWS // 10)
    return copy.ended and copy.values == table
