"""Disks that hold back, fail, fill up, and lose what was not synced when the power goes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.peers import Process
from tests.process.cluster import (
    Account,
    Client,
    Known,
    compiled_shim,
    lost,
    more_writes,
    mounted,
    running,
    until,
    workers,
    write,
)

pytestmark = [pytest.mark.process, pytest.mark.slow]

NAMES = ("n1", "n2", "n3")
MIB = 1024 * 1024


# ------------------------------------------------------------------------------------------------ syncs


def test_nothing_is_acknowledged_while_syncs_are_held_and_loops_go_on(tmp_path: Path) -> None:
    with running(tmp_path / "cluster", up=False) as cluster:
        cluster.preload(compiled_shim(tmp_path))
        cluster.up()
        with cluster.client("n1") as client:
            assert write(client, "warm", b"up")[0] is Known.ACKNOWLEDGED
        for name in NAMES:
            cluster.disk_fault(name, "hold")
        answered: list[tuple[Known, float]] = []

        def put(number: int) -> None:
            with cluster.client(NAMES[number % 3]) as client:
                known, _ = write(client, f"held/{number}", b"x" * 1024, timeout_ms=8000)
                answered.append((known, time.monotonic()))

        threads = [threading.Thread(target=put, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        lag_before = _lagged(cluster["n1"])
        held_until = time.monotonic() + 1.0
        while time.monotonic() < held_until:
            assert cluster["n1"].health()["live"] is True
            time.sleep(0.01)
        assert _lagged(cluster["n1"]) == lag_before, "the event loop waited for the disk"
        assert answered == [], "acknowledged before it was synced"
        released = time.monotonic()
        for name in NAMES:
            cluster.disk_fault(name, "")
        for thread in threads:
            thread.join()
        assert all(known is Known.ACKNOWLEDGED and at > released for known, at in answered), answered
        assert len(answered) == 12


def _lagged(peer: Process) -> float:
    """How often the event loop came over half a second too late."""
    metrics = peer.metrics()
    print(f"{peer.name}: the event loop came {metrics['sullae_loop_lag_max_seconds']} s late at most")
    in_time = metrics['sullae_loop_lag_seconds_bucket{le="0.5"}']
    return metrics["sullae_loop_lag_seconds_count"] - in_time


def test_a_failed_sync_ends_that_peer_and_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path / "cluster", up=False) as cluster:
        cluster.preload(compiled_shim(tmp_path))
        cluster.up()
        with workers(cluster, names=("n1", "n2")) as crew:
            more_writes(crew, 50)
            cluster.disk_fault("n3", "fail")
            assert cluster["n3"].wait() not in (0, -signal.SIGABRT)
            more_writes(crew, 50)
            said = cluster["n3"].log.read_text()
            # "Input/output error", or what RocksDB says of a file in which it has met one before
            assert '"disk_failed"' in said and '"critical"' in said and "IO error" in said, said
            cluster.up("n3")
            more_writes(crew, 50)
            account = Account.of([worker.finish() for worker in crew])
        assert account.wrong == []
        assert account.failed == {}, "a write that one replica could not sync is not a failed one"
        assert lost(cluster, account.acknowledged, NAMES) == []


def test_the_coordinator_whose_sync_fails_reports_nothing_as_failed(tmp_path: Path) -> None:
    with running(tmp_path / "cluster", up=False) as cluster:
        cluster.preload(compiled_shim(tmp_path))
        cluster.up()
        with cluster.client("n1") as client:
            assert write(client, "warm", b"up")[0] is Known.ACKNOWLEDGED
            cluster.disk_fault("n1", "fail")
            known, why = write(client, "at the edge", b"of the disk")
        assert known is not Known.FAILED, why
        assert cluster["n1"].wait() != 0
        cluster.up("n1")
        if known is Known.ACKNOWLEDGED:
            assert lost(cluster, {"at the edge": b"of the disk"}, NAMES) == []


# ------------------------------------------------------------------------------------------- power cut


def test_a_power_cut_of_all_loses_nothing_acknowledged(tmp_path: Path) -> None:
    make = shutil.which("mkfs.ext4")
    if make is None:
        pytest.skip("there is no mkfs.ext4")
    image, copy, disk = tmp_path / "disk.img", tmp_path / "copy.img", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(512 * MIB)
    subprocess.run([make, "-q", "-F", str(image)], check=True)
    with running(tmp_path / "cluster", up=False, data=lambda name: disk / name) as cluster:
        with mounted(disk, "-o", "loop", str(image)):
            cluster.up()
            with workers(cluster, count=4) as crew:
                more_writes(crew, 400)
                _canary(disk / "synced", sync=True)
                _canary(disk / "unsynced", sync=False)
                # From here on nobody can acknowledge or write; what the disk does not hold yet is lost.
                cluster.pause(*NAMES)
                shutil.copyfile(image, copy)
                account = Account.of([worker.account for worker in crew])
                cluster.kill()
            assert len(account.acknowledged) >= 400
            assert account.wrong == []
        with mounted(disk, "-o", "loop", str(copy)):
            assert (disk / "synced").exists(), "the cut lost what was synced: it proves nothing"
            unsynced = disk / "unsynced"
            assert not unsynced.exists() or not unsynced.read_bytes().strip(b"\0"), "the cut lost nothing"
            cluster.up()
            assert lost(cluster, account.acknowledged, NAMES) == []
            cluster.close()


def _canary(path: Path, *, sync: bool) -> None:
    with path.open("wb") as file:
        file.write(b"tweet" * 1000)
        if sync:
            file.flush()
            os.fsync(file.fileno())
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)


# ------------------------------------------------------------------------------------------- full disks


def test_a_full_disk_refuses_writes_clearly_and_recovers_by_itself(tmp_path: Path) -> None:
    settings = {"memtable_size": "1MiB"}
    disks = tmp_path / "disks"
    with (
        mounted(disks / "n1", "-t", "tmpfs", "-o", "size=64m", "tmpfs"),
        mounted(disks / "n2", "-t", "tmpfs", "-o", "size=64m", "tmpfs"),
        mounted(disks / "n3", "-t", "tmpfs", "-o", "size=64m", "tmpfs"),
        running(tmp_path / "cluster", data=lambda name: disks / name / "data", settings=settings) as cluster,
        cluster.client("n1") as client,
    ):
        value = b"v" * 16_384
        assert write(client, "kept", value)[0] is Known.ACKNOWLEDGED
        pids = [cluster[name].pid for name in NAMES]
        account = Account()

        _fill(disks / "n3")
        _write_until(client, account, lambda: len(account.acknowledged) >= 300)
        assert account.failed == {}, "with one disk of three full QUORUM is met by the others"

        for name in ("n1", "n2"):
            _fill(disks / name)
        _write_until(client, account, lambda: bool(account.failed), "full")
        refusal = client.put("full", value)
        assert refusal.status in (503, 507), refusal
        assert "space" in str(refusal.problem.get("detail")).lower(), refusal.body
        for name in NAMES:
            with cluster.client(name) as reader:
                assert reader.get("kept").body == value, "reads go on"

        for name in NAMES:
            (disks / name / "ballast").unlink()
        until(lambda: write(client, "again", value)[0] is Known.ACKNOWLEDGED, "writes work again", 40.0)
        assert [cluster[name].pid for name in NAMES] == pids, "a peer ended"
        until(lambda: all(cluster[name].ready() for name in NAMES), "all are ready")
        assert lost(cluster, account.acknowledged, NAMES) == []


def _fill(disk: Path) -> None:
    """Leave no byte free."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(b"b" * size) == size:
                    pass
            except OSError:
                continue


def _write_until(client: Client, account: Account, enough: Callable[[], bool], prefix: str = "w") -> None:
    end = time.monotonic() + 60
    serial = 0
    while not enough():
        assert time.monotonic() < end, "not within 60 s"
        serial += 1
        key, value = f"{prefix}/{serial}", b"%d" % serial * 3000
        known, why = write(client, key, value)
        if known is Known.ACKNOWLEDGED:
            account.acknowledged[key] = value
        elif known is Known.FAILED:
            account.failed[key] = why

