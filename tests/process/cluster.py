"""What tests with real processes share: a cluster with faults to throw at it, and clients that keep account.

`bench/peers.py` runs the processes; here are the faults (stop in mid-air, clocks set wrong, disk calls held
or failed by a preloaded shim) and the words of the account. Of each write we note what its client knows:

    acknowledged    it must be found from now on, through every peer, whatever is killed or cut
    unknown         a timeout or a lost connection: it may be there, now or later, or never
    failed          the peer said that it is nowhere

A `Worker` writes unique keys and one register of its own, and reads both back at QUORUM through other peers;
what it must not see goes into `wrong` at once.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import json
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest

from bench.peers import Peers, Process, loopback_problem

CLIENT_TIMEOUT_S = 10.0
SHIM = Path(__file__).resolve().parents[2] / "jepsen_like" / "real" / "shim.c"


class LostError(Exception):
    """No answer: `sent` says that the request may have been received."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, and how long it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def problem(self) -> dict[str, Any]:
        """The problem details of an error (RFC 9457)."""
        assert self.headers.get("content-type", "").startswith("application/problem+json"), self
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


class Client:
    """One kept connection to one peer's REST port; for one thread."""

    def __init__(self, peer: Process, timeout_s: float = CLIENT_TIMEOUT_S) -> None:
        self.peer = peer
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Reply:
        """The answer; raises `LostError`."""
        began = time.monotonic()
        if self._connection is None:
            connection = http.client.HTTPConnection(
                self.peer.address, self.peer.rest, timeout=self._timeout_s
            )
            try:
                connection.connect()
            except OSError as error:
                raise LostError(f"{self.peer.name}: {error}", sent=False) from error
            self._connection = connection
        try:
            headers = {"Content-Type": content_type} if content_type else {}
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise LostError(f"{self.peer.name}: {error!r}", sent=True) from error
        if answer.will_close:
            self.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, data, time.monotonic() - began)

    def put(self, key: str, value: bytes, bucket: str = "demo", **options: Any) -> Reply:
        return self.request("PUT", _path(bucket, key, options), value, "application/octet-stream")

    def get(self, key: str, bucket: str = "demo", **options: Any) -> Reply:
        return self.request("GET", _path(bucket, key, options))

    def delete(self, key: str, bucket: str = "demo", **options: Any) -> Reply:
        return self.request("DELETE", _path(bucket, key, options))


def _path(bucket: str, key: str, options: dict[str, Any]) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"/v1/kv/{quote(bucket, safe='')}/{quote(key, safe='')}" + (f"?{query}" if query else "")


class Known(enum.Enum):
    """What a client knows of its write."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    FAILED = "failed"


def write(client: Client, key: str, value: bytes, **options: Any) -> tuple[Known, str]:
    """Write, and say what is known of it and why."""
    try:
        reply = client.put(key, value, **options)
    except LostError as error:
        return (Known.UNKNOWN if error.sent else Known.FAILED), str(error)
    if 200 <= reply.status < 300:
        return Known.ACKNOWLEDGED, ""
    assert reply.status in (503, 504, 507), (reply.status, reply.body)
    unknown = reply.status == 504 or str(reply.problem.get("type", "")).endswith("outcome-unknown")
    return (Known.UNKNOWN if unknown else Known.FAILED), reply.body.decode()


# ----------------------------------------------------------------------------------------------- cluster


class Cluster(Peers):
    """A cluster with faults."""

    shim_folder: Path | None = None

    def client(self, name: str, timeout_s: float = CLIENT_TIMEOUT_S) -> Client:
        return Client(self[name], timeout_s)

    def pause(self, *names: str) -> None:
        """SIGSTOP, and wait until they stand still."""
        for name in names:
            self[name].signal(signal.SIGSTOP)
        until(lambda: all(_state(self[name].pid) == "T" for name in names), f"{names} stand still")

    def resume(self, *names: str) -> None:
        for name in names:
            self[name].signal(signal.SIGCONT)

    def set_clock(self, name: str, offset_s: float) -> None:
        """Have the peer's clock be wrong by this much. The first time must be before it is started."""
        file = self.folder / f"{name}.clock"
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{int(offset_s * 1_000_000)}\n")
        fresh.replace(file)
        self[name].environment["SULLAE_CLOCK_OFFSET_FILE"] = str(file)

    def preload(self, shim: Path) -> None:
        """Have each peer started from now on answer to `disk_fault`."""
        self.shim_folder = self.folder / "faults"
        self.shim_folder.mkdir()
        for peer in self.peers:
            peer.environment["LD_PRELOAD"] = str(shim)
            peer.environment["SULLAE_SHIM"] = str(self.shim_folder / peer.name)

    def disk_fault(self, name: str, fault: str) -> None:
        """"hold": syncs wait until the next call of this; "fail": the next sync gives EIO; "": none."""
        assert self.shim_folder is not None
        file = self.shim_folder / name
        if fault:
            fresh = file.with_suffix(".new")
            fresh.write_text(fault)
            fresh.replace(file)
        else:
            file.unlink(missing_ok=True)

    def wait_all_see(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until every peer that runs sees so many live peers."""
        until(
            lambda: all(_alive(peer) == count for peer in self.peers if peer.running),
            lambda: f"every peer sees {count} alive: {[_alive(peer) for peer in self.peers]}",
            timeout_s,
        )


def _state(pid: int) -> str:
    """The letter of a process's state (Linux)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _alive(peer: Process) -> int:
    try:
        _, body = peer.request("/v1/cluster")
        members = json.loads(body)["peers"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return -1
    return sum(member.get("state") == "up" for member in members)


def until(condition: Callable[[], Any], what: str | Callable[[], str], timeout_s: float = 20.0) -> float:
    """Wait for a condition; returns the seconds it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            pytest.fail(f"not within {timeout_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.01)
    return time.monotonic() - began


@contextlib.contextmanager
def running(folder: Path, *, up: bool = True, **options: Any) -> Iterator[Cluster]:
    """A cluster, ready unless `up` is false; what its peers said last is shown if the test fails."""
    if problem := loopback_problem():
        pytest.skip(problem)
    with Cluster(folder, **options) as cluster:
        try:
            if up:
                cluster.up()
            yield cluster
        except BaseException:
            print(cluster.tails())
            raise


def compiled_shim(folder: Path) -> Path:
    """The preloaded library, compiled; skips where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the preloaded shim")
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the preloaded shim cannot be compiled: {done.stderr.strip()}")
    return library


@contextlib.contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """A file system mounted at `place`; skips where that is not permitted."""
    place.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command")
    done = subprocess.run([mount, *arguments, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


# ----------------------------------------------------------------------------------------------- account


@dataclass(slots=True)
class Register:
    """One key that its owner alone overwrites with growing numbers."""

    key: str
    tried: int = 0
    acknowledged: int = 0
    seen: int = 0

    def judge(self, found: int) -> str:
        """What is wrong about reading this number; "" if nothing."""
        if found > self.tried:
            return f"{self.key}: read {found}, which was never written (up to {self.tried})"
        if found < self.acknowledged:
            return f"{self.key}: read {found} after {self.acknowledged} was acknowledged"
        if found < self.seen:
            return f"{self.key}: read {found} after {self.seen} was read"
        self.seen = found
        return ""


@dataclass(slots=True)
class Account:
    """What the clients of a run know."""

    acknowledged: dict[str, bytes] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reads: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    @staticmethod
    def of(accounts: Sequence[Account]) -> Account:
        """All of them as one."""
        whole = Account()
        for account in accounts:
            whole.acknowledged |= account.acknowledged
            whole.unknown |= account.unknown
            whole.failed |= account.failed
            whole.reads += account.reads
            whole.wrong += account.wrong
            whole.slowest = max(whole.slowest, account.slowest)
        return whole


class Worker(threading.Thread):
    """Writes and reads at QUORUM through peer after peer until told to stop."""

    def __init__(self, cluster: Cluster, number: int, *, names: Sequence[str], pause_s: float) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self.account = Account()
        self.crash: BaseException | None = None
        self._number = number
        self._pause_s = pause_s
        self._clients = [cluster.client(name) for name in names]
        self._stopped = threading.Event()
        self._random = random.Random(f"worker:{number}")
        self._register = Register(f"register-{number}")

    def run(self) -> None:
        try:
            serial = 0
            while not self._stopped.wait(self._pause_s):
                serial += 1
                client = self._clients[serial % len(self._clients)]
                self._write(client, serial)
                self._read(self._random.choice(self._clients))
        except BaseException as error:
            self.crash = error
            raise
        finally:
            for client in self._clients:
                client.close()

    def finish(self) -> Account:
        """Stop after the operation in hand; the account."""
        self._stopped.set()
        self.join(4 * CLIENT_TIMEOUT_S)
        assert not self.is_alive(), "a worker hangs"
        assert self.crash is None, repr(self.crash)
        return self.account

    def _write(self, client: Client, serial: int) -> None:
        account, register = self.account, self._register
        began = time.monotonic()
        if serial % 3 == 0:
            register.tried += 1
            known, why = write(client, register.key, b"%d" % register.tried)
            if known is Known.ACKNOWLEDGED:
                register.acknowledged = register.tried
        else:
            key = f"w{self._number}/{serial}"
            value = key.encode() + self._random.randbytes(self._random.randrange(1000))
            known, why = write(client, key, value)
            if known is Known.ACKNOWLEDGED:
                account.acknowledged[key] = value
            elif known is Known.UNKNOWN:
                account.unknown[key] = why
            else:
                account.failed[key] = why
        slowness = time.monotonic() - began, f"a write through {client.peer.name}: {known.name} {why}"
        account.slowest = max(account.slowest, slowness)

    def _read(self, client: Client) -> None:
        account, register = self.account, self._register
        key, expected = register.key, None
        if account.acknowledged and self._random.random() < 0.5:
            key, expected = self._random.choice(list(account.acknowledged.items()))
        elif not register.acknowledged:
            return
        began = time.monotonic()
        try:
            reply = client.get(key)
        except LostError as error:
            account.slowest = max(account.slowest, (time.monotonic() - began, f"a read was lost: {error}"))
            return
        slowness = reply.seconds, f"a read through {client.peer.name}: {reply.status} {reply.body[:300]!r}"
        account.slowest = max(account.slowest, slowness)
        if reply.status in (503, 504):
            return
        account.reads += 1
        if reply.status != 200:
            account.wrong.append(f"{key}: {reply.status} after it was acknowledged: {reply.body!r}")
        elif expected is None:
            account.wrong += [text] if (text := register.judge(int(reply.body))) else []
        elif reply.body != expected:
            account.wrong.append(f"{key}: other bytes than were acknowledged")


@contextlib.contextmanager
def workers(
    cluster: Cluster, count: int = 3, *, names: Sequence[str] = ("n1", "n2", "n3"), pause_s: float = 0.004
) -> Iterator[list[Worker]]:
    """So many workers at work; stopped at the end, whatever happens."""
    crew = [Worker(cluster, number, names=names, pause_s=pause_s) for number in range(count)]
    for worker in crew:
        worker.start()
    try:
        yield crew
    finally:
        for worker in crew:
            worker._stopped.set()
        for worker in crew:
            worker.join(4 * CLIENT_TIMEOUT_S)


def writes_so_far(crew: Sequence[Worker]) -> int:
    return sum(len(worker.account.acknowledged) for worker in crew)


def more_writes(crew: Sequence[Worker], count: int, timeout_s: float = 20.0) -> None:
    """Wait until so many more writes are acknowledged."""
    wanted = writes_so_far(crew) + count
    until(
        lambda: writes_so_far(crew) >= wanted or any(worker.crash for worker in crew),
        f"{count} more writes acknowledged",
        timeout_s,
    )


def lost(cluster: Cluster, acknowledged: dict[str, bytes], names: Sequence[str]) -> list[str]:
    """What was acknowledged and is not found, byte for byte, at QUORUM through each of these peers."""
    found: list[str] = []

    def check(name: str) -> None:
        with cluster.client(name) as client:
            for key, value in acknowledged.items():
                reply = client.get(key)
                if reply.status != 200 or reply.body != value:
                    found.append(f"{key} through {name}: {reply.status} {reply.body[:200]!r}")

    threads = [threading.Thread(target=check, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
