"""How a training goes, while it goes: curves of its losses and the latest picture."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from html import escape

import ipywidgets
from torch import Tensor

from labkit import figures, images
from labkit.validation import validate_image, validate_integer, validate_number
from labkit.widgets.pictures import Picture
from labkit.widgets.still import Still, note, words

INTERVAL = 0.2   # seconds between two redraws, each of which takes about 7 ms at 256×256
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 480, 220, 56, 90, 10, 34   # of the chart and its margins, in screen pixels
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")   # told apart by colour-blind readers (Okabe, Ito 2008) ...
DASHES = ("", "6 3", "2 3", "8 3 2 3")                   # ... and without any colour; the same for matplotlib:
LINESTYLES = ("-", "--", ":", "-.")


class TrainingMonitor(Still, ipywidgets.VBox):
    """Curves of named values over the steps of a training, and the latest picture if there is one.

    Used as a context, it shows itself, and leaves its last state in the notebook however the training ends:

    >>> with TrainingMonitor(steps, alt="The loss falls.") as monitor:   # doctest: +SKIP
    ...     for step in range(steps):
    ...         ...
    ...         monitor.update(step, loss=loss.item(), picture=sample)

    Parameters
    ----------
    steps : how many there will be, the length of the axis.
    alt, caption : one sentence that says what is to be seen, and the sentence under it.
    logarithmic : a logarithmic axis for the values; values that are not positive are then left out.

    Attributes
    ----------
    curves : for each name, the list of its points `(step, value)`.
    """

    def __init__(self, steps: int, *, alt: str, caption: str = "", logarithmic: bool = True):
        validate_integer(steps, name="steps", minimum=1)
        if not alt.strip():
            raise ValueError("alt is empty; expected a sentence that says what the monitor shows")
        self._steps, self._alt, self._caption, self._logarithmic = steps, alt, caption, logarithmic
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self._latest: Tensor | None = None
        self._picture: Picture | None = None
        self._chart, self._handle = ipywidgets.HTML(), None
        self._began, self._drawn_at = time.perf_counter(), -math.inf
        self._panels = ipywidgets.HBox([self._chart], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        self._message = ipywidgets.HTML(note("waiting for the first step"))
        super().__init__([self._panels, self._message, ipywidgets.HTML(words(caption))])
        self.add_class("labkit-widget")

    def update(self, step: int, *, picture: Tensor | None = None, **values: float) -> None:
        """Note the values of a step (from 0) and, a few times a second, redraw.

        `picture` is an image `(C, H, W)` of 1 or 3 channels, or a batch, which is shown side by side; values that are
        not finite are left out of the curves.
        """
        validate_integer(step, name="step", minimum=0)
        for name, value in values.items():
            if math.isfinite(value := float(value)):
                self.curves.setdefault(name, []).append((step, value))
        if picture is not None:
            validate_image(picture, name="picture", channels=(1, 3))
            self._latest = picture.detach() if picture.ndim == 3 else images.tile(picture.detach())
        if time.perf_counter() - self._drawn_at >= INTERVAL:
            self.redraw()

    def redraw(self) -> None:
        """Bring the curves and the picture up to date."""
        self._chart.value = chart_svg(self.curves, steps=self._steps, logarithmic=self._logarithmic)
        if self._latest is not None and self._picture is None:
            self._picture = Picture(self._latest, alt=f"The latest picture. {self._alt}", interactive=False)
            self._panels.children = [self._chart, self._picture]
        elif self._latest is not None and self._picture.image is not self._latest:
            self._picture.show(self._latest)
        self._message.value = note(self._summary())
        self._drawn_at = time.perf_counter()

    def _summary(self) -> str:
        last = max((points[-1][0] for points in self.curves.values()), default=-1)
        values = "".join(f", {name} {points[-1][1]:.4g}" for name, points in self.curves.items())
        return f"step {last + 1} of {self._steps}{values}, {time.perf_counter() - self._began:.0f} s"

    def __enter__(self) -> TrainingMonitor:
        from IPython.display import display

        self._began = time.perf_counter()
        self._handle = display(self, display_id=True)
        return self

    def __exit__(self, *failure: object) -> None:
        self.redraw()
        if self._handle is not None:
            self._handle.update(self)   # the still picture in the notebook becomes that of the end

    def still(self) -> figures.Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.5, 3.0) if self._latest is not None else (5.5, 3.0), layout="constrained")
        axes = figure.subplots(1, 2 if self._latest is not None else 1, squeeze=False)[0]
        for number, (name, points) in enumerate(self.curves.items()):
            steps, values = zip(*points)
            axes[0].plot(steps, values, label=name, color=COLOURS[number % 4], linestyle=LINESTYLES[number % 4])
        axes[0].set(xlabel="step", xlim=(0, self._steps))
        if self.curves:
            axes[0].legend()
            if self._logarithmic and any(value > 0 for points in self.curves.values() for _, value in points):
                axes[0].set_yscale("log")
        if self._latest is not None:
            picture = self._latest.cpu().float().clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
            axes[1].imshow(picture, cmap="gray", vmin=0, vmax=1)
            axes[1].axis("off")
        return figures.chart(figure, alt=self._alt, caption=f"{self._caption} ({self._summary()})".strip())


def chart_svg(curves: dict[str, Sequence[tuple[int, float]]], *, steps: int, logarithmic: bool) -> str:
    """The curves as an SVG picture: axes in the theme's colour, the name of each curve at its end."""
    scale = math.log10 if logarithmic else float
    drawn = {name: [(x, scale(y)) for x, y in points if y > 0 or not logarithmic] for name, points in curves.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    values = [y for points in drawn.values() for _, y in points]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        return (LEFT + x / steps * (WIDTH - LEFT - RIGHT), TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM))

    parts = []
    for value in _ticks(low, high, logarithmic) if values else []:
        x, y = place(0, value)
        label = f"{10 ** value if logarithmic else value:.3g}"
        parts.append(f'<path d="M{x} {y:.1f}H{WIDTH - RIGHT}" stroke="currentColor" opacity="0.2"/>'
                     f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    bottom = HEIGHT - BOTTOM
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}" stroke="currentColor" fill="none"/>')
    for x, anchor in ((0, "start"), (steps, "end")):
        parts.append(f'<text x="{place(x, low)[0]:.0f}" y="{bottom + 16}" text-anchor="{anchor}">{x}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 16}" text-anchor="middle">step</text>')

    labels_at: list[float] = []
    for number, (name, points) in enumerate(drawn.items()):
        colour, dash = COLOURS[number % 4], DASHES[number % 4]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in _thin(points)))
        end_x, end_y = place(*points[-1])
        while any(abs(end_y - other) < 14 for other in labels_at):   # names of curves that end together
            end_y += 14
        labels_at.append(end_y)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
                     f'stroke-dasharray="{dash}"/>'
                     f'<circle cx="{end_x:.1f}" cy="{place(*points[-1])[1]:.1f}" r="3" fill="{colour}"/>'
                     f'<text x="{end_x + 7:.1f}" y="{end_y + 4:.1f}" font-weight="bold">{escape(name)}</text>')
    names = escape(", ".join(drawn) or "no values yet", quote=True)
    return (f'<svg class="labkit-chart" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-size="12" '
            f'fill="currentColor" role="img" aria-label="{names} over the steps">'
            f'{"".join(parts)}</svg>')


def _thin(points: Sequence[tuple[int, float]], most: int = 500) -> Sequence[tuple[int, float]]:
    """At most `most` of the points, evenly, with the last: a browser need not get more than it has pixels."""
    stride = -(-len(points) // most)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round values between `low` and `high` (decimal logarithms on a logarithmic axis), three to eight of them."""
    if logarithmic and high - low >= 1.5:
        every = math.ceil((high - low) / 6)
        return [float(power) for power in range(math.ceil(low), math.floor(high) + 1) if power % every == 0]
    bottom, top = (10 ** low, 10 ** high) if logarithmic else (low, high)
    power = 10.0 ** math.floor(math.log10((top - bottom) / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if (top - bottom) / (factor * power) <= 6)
    values = [k * step for k in range(math.ceil(bottom / step), math.floor(top / step) + 1)]
    return [math.log10(value) for value in values if value > 0] if logarithmic else values
