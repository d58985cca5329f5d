"""Everything a simulation may vary, drawn from its seed and printable as one line.

One number reproduces a run: `Options.draw(seed)` draws each parameter from streams of their own, so that a
new parameter does not reshuffle the others. Times are virtual microseconds.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from core import limits
from core.settings import Settings

MS = 1_000
SECOND = 1_000_000

FAULTS = (
    "kill",
    "kill_all",
    "power",
    "power_all",
    "pause",
    "halves",
    "isolate",
    "bridge",
    "ring",
    "one_way",
    "slow_link",
    "loss",
    "reset",
    "clock",
    "slow_disk",
    "full_disk",
    "sync_error",
    "bit_flip",
)
"""The kinds of faults a nemesis knows (jepsen_like/nemesis.py)."""

LATER = ("bit_flip",)
"""Those that came later are drawn from a stream of their own."""

MORE_FAULTS = (
    "delay",
    "duplicate",
    "reorder",
    "clog",
    "storm",
    "rolling",
    "stutter",
    "strobe",
    "all_at_once",
)
"""Kinds that came later. They are drawn from a stream of their own, and runs recorded before (planted
bugs) do without them, so that one more kind changes no recorded seed.
"""


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies of one way between two peers, and the share of messages to which something happens."""

    latency_min_us: int = 100
    latency_max_us: int = 500
    jitter_us: int = 200
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    reorder_us: int = 5 * MS
    late: float = 0.0
    late_us: int = 3 * SECOND
    break_us: int = 4 * SECOND
    codec: bool = False
    count_bytes: bool = False
    bytes_per_s: int = 0
    """What goes through the wire between two peers, each way; 0: bytes take no time."""
    connections: int = 2
    """Between two peers: small and bulk, as a real transport has them; 1 sends everything in one row."""


class DiskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How long a batch of commands takes, and a sync."""

    execute_min_us: int = 20
    execute_max_us: int = 200
    sync_min_us: int = 100
    sync_max_us: int = 2 * MS
    cold: float = 0.0
    """The share of records that are not in memory and take a while to come."""
    cold_min_us: int = 100
    cold_max_us: int = 10 * MS


class ClockOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How wrong clocks are from the beginning."""

    skew_us: int = 50 * MS
    drift_ppm: int = 50


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """A whole simulation. `racks` 0 gives each peer a rack of its own."""

    seed: int = 0
    peers: int = 3
    voters: int = 3
    replication: int = 3
    racks: int = 0
    datacentres: int = 1
    network: NetworkOptions = NetworkOptions()
    disk: DiskOptions = DiskOptions()
    clock: ClockOptions = ClockOptions()
    settings: Settings = Settings()
    clients: int = 10
    rate: int = 60
    """Client operations per virtual second."""
    keys: int = 40
    value_bytes: int = 20
    faults: tuple[str, ...] = ()
    more_faults: tuple[str, ...] = ()
    fault_period_us: int = 5 * SECOND
    fault_length_us: int = 5 * SECOND
    two_at_once: bool = False
    request_loss: float = 0.0

    @classmethod
    def draw(cls, seed: int) -> Options:
        """Every parameter, from the seed."""
        shape = Random(f"{seed}:shape")
        peers = shape.choice((3, 3, 3, 4, 5, 5, 5))
        load = Random(f"{seed}:load")
        return cls(
            seed=seed,
            peers=peers,
            voters=5 if peers == 5 and shape.random() < 0.3 else 3,
            replication=3 if peers < 5 or shape.random() < 0.8 else 5,
            racks=shape.choice((0, 0, 3)),
            network=_network(Random(f"{seed}:options:network")),
            disk=_disk(Random(f"{seed}:options:disk")),
            clock=_clock(Random(f"{seed}:options:clock")),
            settings=_settings(Random(f"{seed}:options:settings"), Random(f"{seed}:options:purge")),
            clients=load.randint(5, 20),
            rate=load.choice((55, 60, 80)),
            keys=load.choice((1, 5, 20, 100)),
            value_bytes=load.choice((8, 40, 400)),
            request_loss=load.choice((0.0, 0.0, 0.001, 0.01)),
            more_faults=_more_faults(Random(f"{seed}:options:more_faults")),
            **_faults(Random(f"{seed}:options:nemesis"), Random(f"{seed}:options:nemesis later")),
        )

    def line(self) -> str:
        """One line with every parameter that differs from its default; nested ones by their dotted names."""
        return " ".join(f"{name}={value}" for name, value in _differences("", self, Options()))


def _differences(prefix: str, value: Any, default: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name in value.__struct_fields__:
        mine, other = getattr(value, name), getattr(default, name)
        if isinstance(mine, msgspec.Struct):
            found += _differences(f"{prefix}{name}.", mine, other)
        elif mine != other or name == "seed":
            found.append((prefix + name, ",".join(mine) if isinstance(mine, tuple) else str(mine)))
    return found


def _network(draw: Random) -> NetworkOptions:
    slowest = draw.choice((300, 1 * MS, 10 * MS, 40 * MS))
    return NetworkOptions(
        latency_min_us=draw.randint(50, slowest),
        latency_max_us=slowest,
        jitter_us=draw.choice((50, slowest, 2 * slowest)),
        loss=draw.choice((0.0, 0.0, 0.001, 0.01, 0.03)),
        duplication=draw.choice((0.0, 0.001, 0.02)),
        reordering=draw.choice((0.0, 0.01, 0.2)),
        reorder_us=draw.choice((1 * MS, 20 * MS, 300 * MS)),
        late=draw.choice((0.0, 0.0005, 0.005)),
        late_us=draw.choice((1 * SECOND, 10 * SECOND, 60 * SECOND)),
        break_us=draw.choice((300 * MS, 4 * SECOND, 15 * SECOND)),
        codec=draw.randrange(8) == 0,
    )


def _disk(draw: Random) -> DiskOptions:
    execute, sync = draw.choice((50, 200, 2 * MS)), draw.choice((300, 2 * MS, 10 * MS))
    return DiskOptions(
        execute_min_us=10,
        execute_max_us=execute,
        sync_min_us=draw.randint(50, sync),
        sync_max_us=sync,
        cold=draw.choice((0.0, 0.0, 0.05)),
    )


def _clock(draw: Random) -> ClockOptions:
    return ClockOptions(
        skew_us=draw.choice((1 * MS, 50 * MS, 500 * MS, 20 * SECOND)),
        drift_ppm=draw.choice((0, 50, 500)),
    )


def _settings(draw: Random, purge: Random) -> Settings:
    ping_pause_us = draw.choice((500 * MS, 1 * SECOND))
    return Settings(
        write_timeout_us=draw.choice((500 * MS, 2 * SECOND, 5 * SECOND)),
        read_timeout_us=draw.choice((500 * MS, 2 * SECOND, 5 * SECOND)),
        speculative_retry_us=draw.choice((5 * MS, 20 * MS, 100 * MS)),
        hints=draw.random() < 0.85,
        hint_replay_pause_us=draw.choice((5 * MS, 20 * MS)),
        follow_pause_us=draw.choice((100 * MS, 500 * MS)),
        follow_idle_us=draw.choice((500 * MS, 2 * SECOND)),
        purge_interval_us=purge.choice((1 * SECOND, 3 * SECOND)),
        purge_slack_us=purge.choice((500 * MS, 2 * SECOND)),
        scrub_every_us=10 * SECOND,
        scrub_bytes_per_s=limits.MIB,
        anti_entropy_pause_us=draw.choice((1 * SECOND, 5 * SECOND)),
        ping_pause_us=ping_pause_us,
        ping_timeout_us=ping_pause_us // 2,
        suspicion_multiplier=draw.choice((2, 4)),
        batch_replay_us=draw.choice((500 * MS, 3 * SECOND, 10 * SECOND)),
    )


def _faults(draw: Random, later: Random) -> dict[str, Any]:
    chosen = tuple(name for name in FAULTS if name not in LATER and draw.random() < 0.6)
    chosen += tuple(name for name in LATER if later.random() < 0.5)
    return {
        "faults": chosen or FAULTS,
        "fault_period_us": draw.choice((1 * SECOND, 2 * SECOND, 5 * SECOND)),
        "fault_length_us": draw.choice((500 * MS, 2 * SECOND, 6 * SECOND)),
        "two_at_once": draw.random() < 0.25,
    }


def _more_faults(draw: Random) -> tuple[str, ...]:
    """Each kind by a draw that depends on its name alone, so that a new one changes no other."""
    base = draw.random()
    return tuple(name for name in MORE_FAULTS if Random(f"{base}:{name}").random() < 0.4)
