"""A run as one HTML file that needs nothing else: verdict, faults, latencies, rates, and what failed.

Plots are SVG, made here. Faults are shaded behind them. The timeline shows one lane per process: the
shortest failing history if there is one, else the operations around the first fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

from jepsen_like.history import FAIL, INFO, OK, PENDING, Operation
from jepsen_like.run import Verdict
from jepsen_like.saved import FaultSpan

WIDTH, HEIGHT, LEFT, BOTTOM = 1_060, 240, 56, 26
COLOURS = {OK: "#2c7a3f", FAIL: "#b9770e", INFO: "#b03060", PENDING: "#777777"}
TICKS_MS = (0.1, 1, 10, 100, 1_000, 10_000)
POINTS_MAX = 6_000
"""More points are thinned out: nobody could see them."""
TIMELINE_MAX = 250
TABLE_MAX = 250
LANE = 14

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; color: #222; }
h1 .ok { color: #2c7a3f; } h1 .red { color: #b03060; }
table { border-collapse: collapse; margin: .6em 0; } td, th { padding: .15em .8em .15em 0; text-align: left; }
th { border-bottom: 1px solid #bbb; } pre { background: #f4f4f2; padding: .7em; overflow-x: auto; }
svg { display: block; margin: .4em 0 1.2em; background: #fcfcfb; }
svg text { font: 11px system-ui, sans-serif; }
.key span { padding-left: 1.2em; }
"""


class Told(NamedTuple):
    """What a report is about. Times of operations and faults are microseconds of one clock."""

    verdict: Verdict
    operations: Sequence[Operation]
    faults: Sequence[FaultSpan]
    failing: Sequence[Operation]
    """The shortest failing history; empty if all is well."""
    replay: str
    notes: Sequence[str] = ()


class _Scale(NamedTuple):
    low: float
    high: float
    size: float

    def at(self, value: float) -> float:
        return (value - self.low) / max(1e-9, self.high - self.low) * self.size


def report(told: Told) -> str:
    """The page."""
    verdict = told.verdict
    word = '<span class="ok">valid</span>' if verdict.green else '<span class="red">not valid</span>'
    if verdict.invalid:
        word = f'<span class="red">says nothing</span>: {escape(verdict.invalid)}'
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(verdict.workload)}</title>",
        f"<style>{STYLE}</style><h1>{escape(verdict.workload)}: {word}</h1>",
        _facts(told),
        _problems(verdict),
        f"<h2>Again</h2><pre>{escape(told.replay)}</pre>",
        "<h2>Latency</h2>" + _key() + _latencies(told),
        "<h2>Rate</h2>" + _rates(told),
        _timeline(told),
        _table(told.failing),
        _faults(told.faults),
    ]
    return "\n".join(parts) + "\n</html>\n"


def _facts(told: Told) -> str:
    verdict = told.verdict
    rows = [
        ("operations", f"{verdict.operations} ({verdict.rate:.0f}/s)"),
        ("faults", str(verdict.faults)),
        ("every peer served again after", f"{verdict.live_us / 1e6:.1f} s"),
        ("replicas were equal after", f"{verdict.converged_us / 1e6:.1f} s"),
        ("seed", str(verdict.seed)),
        ("options", verdict.options),
        *(("note", note) for note in told.notes),
    ]
    facts = "".join(f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in rows)
    statuses = (OK, FAIL, INFO, PENDING)
    kinds = "".join(
        f"<tr><td>{escape(kind)}" + "".join(f"<td>{counts.get(status, 0)}" for status in statuses)
        for kind, counts in verdict.counts.items()
    )
    heads = "".join(f"<th>{status}" for status in statuses)
    return f"<table>{facts}</table><table><tr><th>operation{heads}{kinds}</table>"


def _problems(verdict: Verdict) -> str:
    if verdict.green:
        return "<p>Every checker is content.</p>"
    items = "".join(f"<li><b>{escape(p.name)}</b> {escape(p.text)}" for p in verdict.problems)
    return f"<h2>{verdict.problem_count} problems</h2><ul>{items}</ul>"


def _key() -> str:
    words = {OK: "ok", FAIL: "fail: certainly not done", INFO: "info: nobody knows"}
    spans = (f'<span style="color:{COLOURS[status]}">● {word}</span>' for status, word in words.items())
    return f'<div class="key">{"".join(spans)}<span>shaded: a fault</span></div>'


# --- plots


def _span(told: Told) -> tuple[float, float]:
    ends = [op.invoked_us + op.latency_us for op in told.operations] or [1]
    begins = [op.invoked_us for op in told.operations] or [0]
    return min(begins) / 1e6, max(ends) / 1e6


def _plot(told: Told, body: Callable[[_Scale], str], ticks: Iterable[tuple[float, str]]) -> str:
    """Axes, shaded faults, and what `body` draws; `ticks` are (y from the top, text)."""
    low, high = _span(told)
    x = _Scale(low, high, WIDTH - LEFT - 8)
    lines = [_svg(HEIGHT, 6)]
    bottom = HEIGHT - BOTTOM - 6
    lines.append(_shades(told.faults, x, bottom))
    for y, text in ticks:
        lines.append(f'<line x1="0" x2="{x.size:.0f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e2df"/>')
        lines.append(f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for second in _seconds(low, high):
        at = x.at(second)
        lines.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{second:g} s</text>')
    lines.append(body(x))
    return "".join([*lines, "</g></svg>"])


def _svg(height: int, top: int) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg {size}><g transform="translate({LEFT} {top})">'


def _shades(faults: Iterable[FaultSpan], x: _Scale, height: float) -> str:
    shades = []
    for fault in faults:
        left = max(0.0, x.at(fault.from_us / 1e6))
        right = min(x.size, x.at(fault.to_us / 1e6))
        if right >= 0 and left <= x.size:
            width = max(1.0, right - left)
            shades.append(
                f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="{height}" fill="#d0402b" '
                f'fill-opacity=".12"><title>{escape(fault.name)}</title></rect>'
            )
    return "".join(shades)


def _seconds(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10(max(high - low, 1)))
    while (high - low) / step < 6:
        step /= 2
    first = math.ceil(low / step)
    return [number * step for number in range(first, int(high / step) + 1)]


def _thinned(operations: Sequence[Operation]) -> Sequence[Operation]:
    every = 1 + len(operations) // POINTS_MAX
    return [op for number, op in enumerate(operations) if number % every == 0 or op.status == INFO]


def _latencies(told: Told) -> str:
    bottom = HEIGHT - BOTTOM - 6
    y = _Scale(math.log10(0.1), math.log10(20_000), bottom)

    def place(ms: float) -> float:
        return bottom - y.at(math.log10(min(20_000.0, max(0.1, ms))))

    def draw(x: _Scale) -> str:
        points = [
            f'<circle cx="{x.at(op.invoked_us / 1e6):.1f}" cy="{place(op.latency_us / 1e3):.1f}" r="1.5" '
            f'fill="{COLOURS[op.status]}" fill-opacity=".6"/>'
            for op in _thinned(told.operations)
            if op.status != PENDING
        ]
        return "".join(points)

    ticks = [(place(ms), f"{ms:g} ms" if ms < 1_000 else f"{ms // 1_000:g} s") for ms in TICKS_MS]
    return _plot(told, draw, ticks)


def _rates(told: Told) -> str:
    low, high = _span(told)
    width = max(0.25, (high - low) / 200)
    buckets: dict[str, dict[int, int]] = {OK: {}, FAIL: {}, INFO: {}}
    for op in told.operations:
        if op.status in buckets:
            at = int(((op.invoked_us + op.latency_us) / 1e6 - low) / width)
            buckets[op.status][at] = buckets[op.status].get(at, 0) + 1
    most = max((count for counts in buckets.values() for count in counts.values()), default=1) / width
    bottom = HEIGHT - BOTTOM - 6
    y = _Scale(0, most, bottom - 8)

    def draw(x: _Scale) -> str:
        lines = []
        for status, counts in buckets.items():
            points = " ".join(
                f"{x.at(low + (at + 0.5) * width):.1f},{bottom - y.at(counts.get(at, 0) / width):.1f}"
                for at in range(int((high - low) / width) + 1)
            )
            lines.append(
                f'<polyline points="{points}" fill="none" stroke="{COLOURS[status]}" stroke-width="1.4"/>'
            )
        return "".join(lines)

    ticks = [(bottom - y.at(most * part), f"{most * part:.0f}/s") for part in (0, 0.5, 1)]
    return _plot(told, draw, ticks)


# --- operations one by one


def _timeline(told: Told) -> str:
    chosen = list(told.failing) or _around_first_fault(told)
    chosen = sorted(chosen, key=lambda op: op.invoked)[-TIMELINE_MAX:]
    if not chosen:
        return ""
    lanes: dict[int, int] = {}
    for op in chosen:
        lanes.setdefault(op.process, len(lanes))
    low = min(op.invoked_us for op in chosen) / 1e6
    high = max(op.invoked_us + op.latency_us for op in chosen) / 1e6
    x = _Scale(low, high, WIDTH - LEFT - 60)
    height = LANE * len(lanes) + BOTTOM
    lines = [_svg(height, 2)]
    lines.append(_shades(told.faults, x, LANE * len(lanes)))
    for process, lane in lanes.items():
        lines.append(f'<text x="-6" y="{lane * LANE + 11}" text-anchor="end">p{process}</text>')
    for op in chosen:
        left, top = x.at(op.invoked_us / 1e6), lanes[op.process] * LANE + 2
        width = max(2.0, x.at((op.invoked_us + op.latency_us) / 1e6) - left)
        if op.status in (INFO, PENDING):
            width = x.size - left
        lines.append(
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{LANE - 4}" '
            f'fill="{COLOURS[op.status]}" fill-opacity=".55"><title>{escape(repr(op))}</title></rect>'
        )
    lines += [
        f'<text x="{x.at(second):.1f}" y="{height - 8}" text-anchor="middle">{second:g} s</text>'
        for second in _seconds(low, high)
    ]
    what = "The shortest failing history" if told.failing else "Operations around the first fault"
    return f"<h2>{what}</h2><p>One lane per process; point at a bar to read it.</p>" + "".join(
        [*lines, "</g></svg>"]
    )


def _around_first_fault(told: Told) -> list[Operation]:
    at_us = told.faults[0].from_us if told.faults else 0
    later = [op for op in told.operations if op.invoked_us + op.latency_us >= at_us - 500_000]
    return later[:TIMELINE_MAX]


def _table(failing: Sequence[Operation]) -> str:
    if not failing:
        return ""
    lines = "\n".join(escape(repr(op)) for op in sorted(failing, key=lambda op: op.invoked)[-TABLE_MAX:])
    return f"<pre>{lines}</pre>"


def _faults(faults: Sequence[FaultSpan]) -> str:
    if not faults:
        return "<h2>Faults</h2><p>None.</p>"
    rows = "".join(
        f"<tr><td>{escape(fault.name)}<td>{fault.from_us / 1e6:.2f} s<td>{fault.to_us / 1e6:.2f} s"
        for fault in faults
    )
    return f"<h2>Faults</h2><table><tr><th>kind<th>from<th>to{rows}</table>"
