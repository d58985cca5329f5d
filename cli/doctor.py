"""`sullae doctor`: what this machine offers the peers, and what to do where it is too little.

Each check is a function that gives one `Finding`: ok, warn (a peer works, with a risk or slowly) or bad (it
will not work). It looks and measures, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.output import ANSWERED_NO_EXIT, bytes_text, console, duration_text, print_json
from cli.places import CONFIG, data_of, read_config, why_not_bindable
from core.limits import MIB

if TYPE_CHECKING:
    from server.config import ClusterConfig

OK, WARN, BAD = "ok", "warn", "bad"

PYTHON_MIN: Final = (3, 11)
DESCRIPTORS_MIN: Final = 4_096
PEER_BYTES: Final = 256 * MIB
"""Memory to have free for each peer: an idle one takes about half of it."""

DISK_BYTES_MIN: Final = 1024 * MIB
FSYNC_ROUNDS: Final = 20
FSYNC_SLOW_S: Final = 0.020
FSYNC_QUICK_S: Final = 0.000_02
YEAR_MIN: Final = 2024
CLOCK_STEP_MAX_S: Final = 0.05
CLOCK_WATCH_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: `advice` says what to do unless all is well."""

    check: str
    state: str
    text: str
    advice: str = ""


def doctor(config_path: Path, data: Path, *, as_json: bool) -> int:
    """Run all checks; the exit status says whether one of them is bad."""
    config = read_config(config_path) if config_path.exists() or config_path != CONFIG else None
    findings = list(examine(config, data))
    bad = any(finding.state == BAD for finding in findings)
    if as_json:
        print_json({"good": not bad, "findings": [asdict(finding) for finding in findings]})
        return ANSWERED_NO_EXIT if bad else 0
    from rich.text import Text

    out = console()
    styles = {OK: "green", WARN: "yellow", BAD: "bold red"}
    for finding in findings:
        line = Text(f"{finding.state:>4} ", style=styles[finding.state])
        line.append(f"{finding.check}: {finding.text}", style="default")
        out.print(line)
        if finding.advice:
            out.print(f"     {finding.advice}")
    return ANSWERED_NO_EXIT if bad else 0


def examine(config: ClusterConfig | None, data: Path) -> Iterator[Finding]:
    """All findings, in the order in which they are shown."""
    yield python()
    yield clock()
    yield synchronized()
    yield descriptors()
    yield memory(len(config.peers) if config else 1)
    folders = [data_of(peer, data) for peer in config.peers] if config else [data]
    for folder in _one_of_each_disk([data, *folders]):
        yield disk_space(folder)
        yield disk_sync(folder)
    if config is None:
        yield Finding("ports", WARN, f"there is no {CONFIG} here, so addresses and ports are not looked at")
        return
    for peer in config.peers:
        ports = {"REST": config.ports.rest, "CQL": config.ports.cql, "peers": config.ports.peer}
        yield address(peer.name, peer.address, ports)


def python() -> Finding:
    """The interpreter's version."""
    text = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info[:2] < PYTHON_MIN:
        return Finding("python", BAD, text, "Sullae needs Python 3.11 or later")
    return Finding("python", OK, text)


def clock() -> Finding:
    """Whether the wall clock is near the truth and moves as time does."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(CLOCK_WATCH_S)
    step_s = (time.time() - wall) - (time.monotonic() - steady)
    year = time.gmtime().tm_year
    advice = "set the clock (timedatectl set-ntp true): writes are refused that are a minute ahead of a peer"
    if year < YEAR_MIN:
        return Finding("clock", BAD, f"says that it is {year}", advice)
    if abs(step_s) > CLOCK_STEP_MAX_S:
        text = f"jumped by {duration_text(abs(step_s))} within {duration_text(CLOCK_WATCH_S)}"
        return Finding("clock", WARN, text, advice)
    return Finding("clock", OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def synchronized() -> Finding:
    """Whether something keeps the clock right, where the machine can say so."""
    tool = shutil.which("timedatectl")
    if tool is None:
        return Finding("clock synchronization", OK, "unknown (no timedatectl here); peers tolerate a skew")
    said = ""
    with contextlib.suppress(subprocess.TimeoutExpired, OSError):
        done = subprocess.run(
            [tool, "show", "--property=NTPSynchronized", "--value"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
        said = done.stdout.strip()
    if said == "no":
        return Finding("clock synchronization", WARN, "off", "turn it on: timedatectl set-ntp true")
    return Finding("clock synchronization", OK, "on" if said == "yes" else "unknown")


def descriptors() -> Finding:
    """How many files and sockets a peer may open: as many as it is let (server/descriptors.py)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return Finding("file descriptors", OK, "unlimited for a process")
    text = f"{hard:,} for a process"
    if hard >= DESCRIPTORS_MIN:
        return Finding("file descriptors", OK, text)
    advice = f"allow {DESCRIPTORS_MIN:,} or more, as root: ulimit -Hn {DESCRIPTORS_MIN}"
    return Finding("file descriptors", WARN, text, advice)


def memory(peers: int) -> Finding:
    """Whether there is memory for the peers."""
    free = _memory_bytes()
    if free is None:
        return Finding("memory", OK, "unknown on this system")
    text = f"{bytes_text(free)} available for {peers} peers"
    if free < peers * PEER_BYTES:
        return Finding("memory", WARN, text, f"{bytes_text(PEER_BYTES)} for each peer are comfortable")
    return Finding("memory", OK, text)


def _memory_bytes() -> int | None:
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    for line in table.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _one_of_each_disk(folders: Sequence[Path]) -> list[Path]:
    """The first of these folders on each file system: peers may have disks of their own."""
    found: dict[int, Path] = {}
    for folder in folders:
        found.setdefault(_existing(folder).stat().st_dev, folder)
    return list(found.values())


def disk_space(data: Path) -> Finding:
    """Whether there is room where the data goes."""
    usage = shutil.disk_usage(_existing(data))
    text = f"{bytes_text(usage.free)} free of {bytes_text(usage.total)} where {data} lies"
    if usage.free < DISK_BYTES_MIN:
        return Finding("disk space", WARN, text, "on a full disk writes are refused and reads go on")
    return Finding("disk space", OK, text)


def disk_sync(data: Path) -> Finding:
    """How long an fsync takes where the data goes: every acknowledged write waits for one."""
    folder, times = _existing(data), []
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".sullae-doctor-") as file:
            for _ in range(FSYNC_ROUNDS):
                file.write(b"\0" * 4096)
                file.flush()
                began = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - began)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = f"give the user of the peers the right to write in {folder}"
        advice = "free some space: peers take writes again then, without a restart" if full else advice
        return Finding("disk sync", BAD, f"{folder}: {error.strerror or error}", advice)
    median_s, worst_s = statistics.median(times), max(times)
    text = (
        f"fsync takes {duration_text(median_s)} (median of {FSYNC_ROUNDS}), {duration_text(worst_s)} at worst"
    )
    if median_s > FSYNC_SLOW_S:
        advice = "writes wait that long; a solid-state disk takes about a millisecond"
        return Finding("disk sync", WARN, text, advice)
    if median_s < FSYNC_QUICK_S:
        advice = "so quick that it is memory, or a disk that only says so: a power cut may lose data"
        return Finding("disk sync", WARN, text, advice)
    return Finding("disk sync", OK, text)


def _existing(data: Path) -> Path:
    """The data directory, or the nearest folder above it that is there."""
    absolute = data.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.is_dir())


def address(name: str, where: str, ports: dict[str, int]) -> Finding:
    """Whether a peer could listen on its address and ports now; a running peer of ours is as good."""
    check = f"{name} at {where}"
    if why := why_not_bindable(where, 0):
        return Finding(check, BAD, why, "" if "alias" in why else "is this the machine it should run on?")
    taken = {what: why for what, port in ports.items() if (why := why_not_bindable(where, port))}
    text = ", ".join(f"{what} {port}" for what, port in ports.items())
    if not taken:
        return Finding(check, OK, f"{text}: free")
    if all(f"sullae node {name} (" in why for why in taken.values()):
        return Finding(check, OK, f"{text}: {next(iter(taken.values()))}")
    said = "; ".join(f"{what} {ports[what]}: {why}" for what, why in taken.items())
    return Finding(check, BAD, said, "stop what holds the port, or choose other ports in cluster.yml")
