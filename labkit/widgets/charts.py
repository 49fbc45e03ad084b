"""Curves over steps: an SVG picture while they are looked at, the same curves by matplotlib for a still picture.

An SVG takes a millisecond and has the theme's colours; but repository pages leave SVG out of the notebooks they show, so
what stays in a notebook is a PNG, which only matplotlib draws. Which points are shown, and how a curve looks, is decided
here for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Panel", "chart_svg", "plot_curves", "visible_points"]

Points = Sequence[tuple[float, float]]
# colour, dashes of SVG and line style of matplotlib: curves are told apart by colour-blind readers (Okabe, Ito 2008),
# and without any colour
STYLES = (("#0072b2", "", "-"), ("#d55e00", "6 3", "--"), ("#009e73", "2 3", ":"), ("#cc79a7", "8 3 2 3", "-."))
MARK = "#d55e00"
GAP, LINE_HEIGHT = 10, 14  # screen pixels: between two panels, and from one name to the next


class Panel(NamedTuple):
    """A part of a chart that has a vertical scale of its own: curves by name, and the ends of its horizontal axis."""

    curves: Mapping[str, Points]
    start: float
    end: float


class _Layout(NamedTuple):
    """Screen pixels of a chart and its margins; `slack` is the part of the values' range left free above and below."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    slack: float


WITH_AXES, BARE = _Layout(480, 220, 56, 90, 10, 34, 0.05), _Layout(560, 56, 5, 5, 0, 1, 0.125)


class _Box(NamedTuple):
    """Where a panel stands, and the values at its edges."""

    left: float
    right: float
    top: float
    bottom: float
    start: float
    end: float
    low: float
    high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        return (
            self.left + (x - self.start) / (self.end - self.start) * (self.right - self.left),
            self.top + (self.high - y) / (self.high - self.low) * (self.bottom - self.top),
        )


def chart_svg(
    panels: Sequence[Panel], *, label: str, axes: bool = True, logarithmic: bool = False, at: float | None = None
) -> str:
    """Curves as an SVG picture in the theme's colours, its panels side by side, each as wide as its axis is long.

    Parameters
    ----------
    panels : at least one; each is drawn from its lowest to its highest value.
    label : what is to be seen, for who cannot see it.
    axes : with numbers at the axes, and each curve in a colour of its own with its name at its end. `False` draws a
        small chart of lines alone.
    logarithmic : a logarithmic vertical axis; values that are not positive are then left out.
    at : where on the horizontal axis of a chart without axes a vertical line and a dot are drawn.

    Raises
    ------
    ValueError : there is no panel.

    Examples
    --------
    >>> chart_svg([Panel({"loss": [(0, 1.0), (1, 0.5)]}, 0, 2)], label="The loss.").startswith('<svg class="labkit-chart"')
    True
    """
    if not panels:
        raise ValueError("there are no panels; expected at least one")
    layout = WITH_AXES if axes else BARE
    room = layout.width - layout.left - layout.right - GAP * (len(panels) - 1)
    total = sum(panel.end - panel.start for panel in panels)
    parts, left = [], float(layout.left)
    for panel in panels:
        curves = visible_points(panel.curves, logarithmic)
        if logarithmic:
            curves = {name: [(x, math.log10(y)) for x, y in points] for name, points in curves.items()}
        values = [y for points in curves.values() for _, y in points]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        slack = layout.slack * (high - low) or 0.5
        right = left + room * (panel.end - panel.start) / total
        box = _Box(
            left, right, layout.top, layout.height - layout.bottom, panel.start, panel.end, low - slack, high + slack
        )
        parts += _panel_with_axes(curves, box, logarithmic) if axes else _bare_panel(curves, box, at)
        left = right + GAP
    return (
        f'<svg class="labkit-chart" viewBox="0 0 {layout.width} {layout.height}" width="{layout.width}" font-size="12" '
        f'fill="currentColor" role="img" aria-label="{escape(label, quote=True)}">{"".join(parts)}</svg>'
    )


def plot_curves(axes: Axes, curves: Mapping[str, Points], *, steps: int, logarithmic: bool) -> None:
    """The curves of a panel from step 0 to `steps`, on axes of matplotlib."""
    shown = visible_points(curves, logarithmic)
    for number, (name, points) in enumerate(shown.items()):
        colour, _, line = STYLES[number % len(STYLES)]
        axes.plot(*zip(*points), label=name, color=colour, linestyle=line)
    axes.set(xlabel="step", xlim=(0, steps))
    if shown:
        axes.legend()
        axes.set_yscale("log" if logarithmic else "linear")


def visible_points(curves: Mapping[str, Points], logarithmic: bool) -> dict[str, list[tuple[float, float]]]:
    """The points that can be drawn, positive ones where the axis is logarithmic, of the curves that have any."""
    shown = {name: [(x, y) for x, y in points if y > 0 or not logarithmic] for name, points in curves.items()}
    return {name: points for name, points in shown.items() if points}


def _bare_panel(curves: Mapping[str, Points], box: _Box, at: float | None) -> list[str]:
    """Lines over a ground line, with a dot on each at `at`."""
    parts = [f'<path d="M{box.left:.1f} {box.bottom}H{box.right:.1f}" stroke="currentColor" opacity="0.4"/>']
    for points in curves.values():
        parts.append(_line(points, box, "currentColor", 1.5))
        for x, y in (box.place(*point) for point in points if point[0] == at):
            parts.append(
                f'<path d="M{x:.1f} {box.top}V{box.bottom}" stroke="currentColor" opacity="0.4"/>'
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{MARK}" stroke="#fff" stroke-width="1.5"/>'
            )
    return parts


def _panel_with_axes(curves: Mapping[str, Points], box: _Box, logarithmic: bool) -> list[str]:
    """Curves in colours with their names at their ends, over lines at round values."""
    left, right, bottom = box.left, box.right, box.bottom
    parts = []
    for value in _ticks(box.low, box.high, logarithmic) if curves else []:
        y = box.place(box.start, value)[1]
        text = f"{10**value if logarithmic else value:.3g}"
        parts.append(
            f'<path d="M{left} {y:.1f}H{right}" stroke="currentColor" opacity="0.2"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    parts.append(f'<path d="M{left} {box.top}V{bottom}H{right}" stroke="currentColor" fill="none"/>')
    for at, under, anchor in (
        (left, box.start, "start"),
        ((left + right) / 2, "step", "middle"),
        (right, box.end, "end"),
    ):
        parts.append(f'<text x="{at:.0f}" y="{bottom + 16}" text-anchor="{anchor}">{under}</text>')

    ends = {name: box.place(*points[-1]) for name, points in curves.items()}
    for (name, points), (colour, dash, _) in zip(curves.items(), STYLES * -(-len(curves) // len(STYLES))):
        x, y = ends[name]
        parts.append(_line(points, box, colour, 2, dash) + f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    above = -math.inf
    for name, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):  # those that end together, one under the other
        above = max(y, above + LINE_HEIGHT)
        parts.append(f'<text x="{x + 7:.1f}" y="{above + 4:.1f}" font-weight="bold">{escape(name)}</text>')
    return parts


def _line(points: Points, box: _Box, colour: str, width: float, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (box.place(*point) for point in _thin(points)))
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"'
        + (f' stroke-dasharray="{dash}"' if dash else "")
        + "/>"
    )


def _thin(points: Points, most: int = 500) -> Points:
    """At most `most` of the points, evenly, with the last: a browser need not get more than it has pixels."""
    stride = -(-len(points) // most)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round values between `low` and `high` (decimal logarithms on a logarithmic axis), three to eight of them."""
    if logarithmic and high - low >= 1.5:
        every = math.ceil((high - low) / 6)
        return [float(power) for power in range(math.ceil(low), math.floor(high) + 1) if power % every == 0]
    bottom, top = (10**low, 10**high) if logarithmic else (low, high)
    power = 10.0 ** math.floor(math.log10((top - bottom) / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if (top - bottom) / (factor * power) <= 6)
    values = [k * step for k in range(math.ceil(bottom / step), math.floor(top / step) + 1)]
    return [math.log10(value) for value in values if value > 0] if logarithmic else values
