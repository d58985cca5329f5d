"""What a peer counts, and the page that Prometheus reads (`/metrics`).

Counting happens on the hot path and is a dictionary entry; names, help texts and labels are put on when
somebody reads the page, by a library that is imported then. What is not counted but merely *is* (queues,
sizes, memory, lag) is asked for at that time, too.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MS = 1_000
BOUNDS_US = tuple(
    int(ms * _MS)
    for ms in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 125, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000)
)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Histogram:
    """How many took how long, in buckets of microseconds."""

    __slots__ = ("counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        self.sum_us = 0

    def observe(self, us: int) -> None:
        """One more that took so long."""
        self.counts[bisect_left(BOUNDS_US, us)] += 1
        self.sum_us += us

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound in seconds, how many up to it), as Prometheus has them."""
        found, total = [], 0
        for bound_us, count in zip(BOUNDS_US, self.counts, strict=False):
            total += count
            found.append((str(bound_us / 1e6), float(total)))
        return [*found, ("+Inf", float(total + self.counts[-1]))]


Sample = tuple[str, dict[str, str], float]
"""A gauge or (if its name ends in _total) counter read at the moment: name, labels, value."""


class Metrics:
    """The numbers of one peer."""

    def __init__(self) -> None:
        self.counters: dict[str, float] = {}
        self.gauges: dict[str, float] = {}
        self.loop_lag = Histogram()
        self.loop_lag_max_us = 0
        self._latencies: dict[tuple[str, str, int], Histogram] = {}
        self._sources: list[Callable[[], Iterable[Sample]]] = []

    def count(self, name: str, amount: float = 1) -> None:
        """Add to a counter, or set a gauge if the name ends in `_now`."""
        if name.endswith("_now"):
            self.gauges[name[:-4]] = amount
        else:
            self.counters[name] = self.counters.get(name, 0) + amount

    def latency(self, operation: str, level: str, status: int, us: int) -> None:
        """A request was answered after so long."""
        key = (operation, level, status)
        histogram = self._latencies.get(key)
        if histogram is None:
            histogram = self._latencies[key] = Histogram()
        histogram.observe(us)

    def lagged(self, us: int) -> None:
        """The event loop came so much too late."""
        self.loop_lag.observe(us)
        self.loop_lag_max_us = max(self.loop_lag_max_us, us)

    def ask(self, source: Callable[[], Iterable[Sample]]) -> None:
        """Have `source` asked whenever the page is read."""
        self._sources.append(source)

    def page(self) -> bytes:
        """The page, in Prometheus's text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client calls."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        latency = HistogramMetricFamily(
            "sullae_request_seconds",
            "Time from a request's arrival to its answer.",
            labels=("operation", "level", "status"),
        )
        for (operation, level, status), histogram in self._latencies.items():
            latency.add_metric((operation, level, str(status)), histogram.buckets(), histogram.sum_us / 1e6)
        yield latency
        lag = HistogramMetricFamily(
            "sullae_loop_lag_seconds", "How much too late the event loop's probe came."
        )
        lag.add_metric((), self.loop_lag.buckets(), self.loop_lag.sum_us / 1e6)
        yield lag
        yield GaugeMetricFamily(
            "sullae_loop_lag_max_seconds", "The most since the start.", self.loop_lag_max_us / 1e6
        )
        for name, value in sorted(self.counters.items()):
            yield CounterMetricFamily(f"sullae_{name}", f"{name.replace('_', ' ')} since the start.", value)
        for name, value in sorted(self.gauges.items()):
            yield GaugeMetricFamily(f"sullae_{name}", f"{name.replace('_', ' ')} now.", value)
        yield from self._asked()

    def _asked(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Metric] = {}
        for source in self._sources:
            for name, labels, value in source():
                family = families.get(name)
                if family is None:
                    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                    text = name.removesuffix("_total").replace("_", " ")
                    family = families[name] = kind(
                        f"sullae_{name.removesuffix('_total')}", f"{text}.", labels=list(labels)
                    )
                family.add_metric(list(labels.values()), value)  # type: ignore[attr-defined]
        yield from families.values()


def resident_bytes() -> int:
    """The memory of this process that is in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
