"""How a training goes, while it goes: curves of its losses and the latest picture."""

from __future__ import annotations

import math
import time

import ipywidgets
from torch import Tensor

from labkit import figures, images
from labkit.validation import validate_image, validate_integer
from labkit.widgets.base import Still, caption_html, note_html
from labkit.widgets.charts import Panel, chart_svg, plot_curves, visible_points
from labkit.widgets.pictures import Picture

__all__ = ["TrainingMonitor"]

INTERVAL = 0.2   # seconds between two redraws, each of which takes about 7 ms at 256×256


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

    Raises
    ------
    ValueError : `steps` is below 1, or `alt` is empty.

    Examples
    --------
    >>> monitor = TrainingMonitor(3, alt="The loss falls.")
    >>> for step in range(3):
    ...     monitor.update(step, loss=1 / (step + 1))
    >>> monitor.curves["loss"][:2]
    [(0, 1.0), (1, 0.5)]
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
        self._message = ipywidgets.HTML(note_html("waiting for the first step"))
        super().__init__([self._panels, self._message, ipywidgets.HTML(caption_html(caption))])
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
        names = ", ".join(visible_points(self.curves, self._logarithmic)) or "no values yet"
        self._chart.value = chart_svg([Panel(self.curves, 0, self._steps)], label=f"{names} over the steps",
                                      logarithmic=self._logarithmic)
        if self._picture is not None and self._latest is not None and self._picture.image is not self._latest:
            self._picture.show(self._latest)
        elif self._picture is None and self._latest is not None:
            self._picture = Picture(self._latest, alt=f"The latest picture. {self._alt}", interactive=False)
            self._panels.children = [self._chart, self._picture]
        self._message.value = note_html(self._summary())
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
        plot_curves(axes[0], self.curves, steps=self._steps, logarithmic=self._logarithmic)
        if self._latest is not None:
            picture = self._latest.cpu().float().clamp(0, 1).permute(1, 2, 0).squeeze(-1).numpy()
            axes[1].imshow(picture, cmap="gray", vmin=0, vmax=1)
            axes[1].axis("off")
        return figures.chart(figure, alt=self._alt, caption=f"{self._caption} ({self._summary()})".strip())
