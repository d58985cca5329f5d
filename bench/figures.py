"""Small figures as SVG text, drawn by hand so that nothing needs a plotting library.

Two kinds are enough: stacked bars for amounts made of parts, dots for many single observations. Values are
in the unit that `unit` names; the vertical axis begins at 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

XMLNS = "http://www.w3.org/2000/svg"
WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 64, 44
COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#b83280", "#718096")


def nice_maximum(value: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below `value`."""
    step = 1.0
    while step < value:
        step *= 10
    while step / 10 >= value > 0:
        step /= 10
    return next(share * step for share in (0.1, 0.2, 0.25, 0.5, 1.0) if share * step >= value)


class _Canvas:
    """An axis from 0 to `top`, and as many columns as there are labels."""

    def __init__(self, title: str, unit: str, labels: Sequence[str], top: float) -> None:
        self.top = nice_maximum(top)
        self.column = (WIDTH - LEFT - RIGHT) / len(labels)
        self.parts = [
            f'<svg xmlns="{XMLNS}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        ]
        self.text(LEFT, 22, title, weight="bold", size=14)
        for tick in range(6):
            value = self.top * tick / 5
            y = self.y(value)
            self.parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#e2e8f0"/>')
            self.text(LEFT - 6, y + 4, f"{value:g}", anchor="end")
        self.text(LEFT - 6, TOP - 10, unit, anchor="end")
        for index, label in enumerate(labels):
            self.text(self.x(index, 0.5), HEIGHT - BOTTOM + 18, label, anchor="middle")

    def x(self, column: int, share: float) -> float:
        return round(LEFT + self.column * (column + share), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top, 1)

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = 12
    ) -> None:
        self.parts.append(
            f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
            f'fill="#1a202c">{escape(words)}</text>'
        )

    def legend(self, names: Sequence[str]) -> None:
        x = LEFT
        for name, colour in zip(names, COLOURS, strict=False):
            self.parts.append(f'<rect x="{x}" y="34" width="10" height="10" fill="{colour}"/>')
            self.text(x + 14, 43, name)
            x += 24 + 7 * len(name)

    def done(self) -> str:
        return "\n".join([*self.parts, "</svg>", ""])


def stacked_bars(title: str, unit: str, bars: Mapping[str, Mapping[str, float]]) -> str:
    """One bar per label, made of named parts (the same names in each), with its sum above."""
    names = list(next(iter(bars.values())))
    sums = {label: sum(parts.values()) for label, parts in bars.items()}
    canvas = _Canvas(title, unit, list(bars), 1.1 * max(sums.values()))
    if len(names) > 1:
        canvas.legend(names)
    for column, (label, parts) in enumerate(bars.items()):
        below = 0.0
        for name, colour in zip(names, COLOURS, strict=False):
            top, bottom = canvas.y(below + parts[name]), canvas.y(below)
            canvas.parts.append(
                f'<rect x="{canvas.x(column, 0.3)}" y="{top}" width="{canvas.column * 0.4:.1f}" '
                f'height="{bottom - top:.1f}" fill="{colour}"/>'
            )
            below += parts[name]
        words = f"{sums[label]:.3g}" if sums[label] < 100 else f"{sums[label]:,.0f}"
        canvas.text(canvas.x(column, 0.5), canvas.y(below) - 6, words, anchor="middle", weight="bold")
    return canvas.done()


def dots(
    title: str, unit: str, columns: Mapping[str, Mapping[str, Sequence[float]]], limit: float | None = None
) -> str:
    """Per label several named series of single values side by side; `limit` is a dashed line not to cross."""
    names = list(next(iter(columns.values())))
    values = [v for series in columns.values() for several in series.values() for v in several]
    canvas = _Canvas(title, unit, list(columns), max([*values, limit or 0.0]))
    canvas.legend(names)
    if limit is not None:
        y = canvas.y(limit)
        canvas.parts.append(
            f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#c53030" '
            f'stroke-dasharray="6 4"/>'
        )
    for column, series in enumerate(columns.values()):
        for lane, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
            several = series[name]
            for index, value in enumerate(several):
                share = (lane + 0.25 + 0.5 * (index + 0.5) / len(several)) / len(names)
                canvas.parts.append(
                    f'<circle cx="{canvas.x(column, share)}" cy="{canvas.y(value)}" r="3" '
                    f'fill="{colour}" fill-opacity="0.8"/>'
                )
    return canvas.done()
