"""Bits that flip on the disk of a running peer: found, never served, mended from the other replicas, by
itself.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.process.cluster import Cluster, Known, running, until, write

pytestmark = [pytest.mark.process, pytest.mark.slow]

VALUES = 800


def value(number: int) -> bytes:
    """Two kilobytes that no compression makes shorter."""
    return b"".join(hashlib.sha256(b"%d-%d" % (number, part)).digest() for part in range(64))


def admin(cluster: Cluster, name: str, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    with cluster.client(name) as client:
        if body is None:
            reply = client.request("GET", f"/v1/admin/{verb}")
        else:
            data = json.dumps(body).encode()
            reply = client.request("POST", f"/v1/admin/{verb}", data, "application/json")
        assert reply.status == 200, reply.body
        told: dict[str, Any] = json.loads(reply.body)
        return told


def flip(database: Path, part: float, draw: random.Random) -> None:
    """One bit of the largest table file, that far into it: mutations come first, rows last."""
    file = max(database.glob("*.sst"), key=lambda path: path.stat().st_size)
    with file.open("r+b") as opened:
        at = int(file.stat().st_size * part)
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes((byte ^ 1 << draw.randrange(8),)))


def test_flipped_bits_in_table_files_are_mended_from_the_other_replicas(tmp_path: Path) -> None:
    draw = random.Random(6)
    with running(tmp_path / "cluster") as cluster:
        with cluster.client("n1") as client:
            for number in range(VALUES):
                assert write(client, f"v{number}", value(number))[0] is Known.ACKNOWLEDGED
        cluster["n2"].signal(signal.SIGTERM)
        cluster["n2"].wait()
        cluster.start("n2")  # its log becomes table files
        cluster.wait_all_see(3)
        cluster["n2"].signal(signal.SIGTERM)
        cluster["n2"].wait()
        for part in (0.3, 0.6, 0.8):
            flip(cluster["n2"].data / "db", part, draw)
        cluster.start("n2")
        cluster.wait_all_see(3)
        pid = cluster["n2"].pid
        admin(cluster, "n2", "scrub", {"bytes_per_s": 2**30})
        until(lambda: "store_copied" in cluster["n2"].tail(10_000), "damage is met and the store copied", 60)
        cluster.wait_ready("n2")
        until(lambda: sound(cluster), "what was lost is given back", 60)
        assert cluster["n2"].pid == pid, "the process did not have to end for it"
        assert "mended" in cluster["n2"].tail(10_000), "and something was"
        cluster.wait_all_see(3)
        with cluster.client("n2") as client:
            for number in range(VALUES):
                reply = client.get(f"v{number}", consistency="one")
                assert (reply.status, reply.body) == (200, value(number)), number
        admin(cluster, "n2", "scrub", {"bytes_per_s": 2**30})
        until(lambda: admin(cluster, "n2", "scrub_status")["last"] is not None, "a scrub ends")
        assert admin(cluster, "n2", "scrub_status")["last"]["problems"] == 0


def sound(cluster: Cluster) -> bool:
    try:
        return not admin(cluster, "n2", "repair")["mending"]
    except (OSError, AssertionError):
        return False
