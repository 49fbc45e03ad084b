"""Chapter 2's widgets: a nearest-neighbour field as it grows, and what PatchMatch tries at one patch."""

from __future__ import annotations

import io
import math

import ipywidgets
import torch
import traitlets
from torch import Tensor

from labkit import figures, patchmatch
from labkit.images import to_bytes, to_pixels
from labkit.patchmatch import Candidate, Match
from labkit.validation import validate_image, validate_integer, validate_number
from labkit.widgets.base import PAIR, PictureWidget, Still, script, style, zoom
from labkit.widgets.film import SLOWEST, Film
from labkit.widgets.pictures import Picture

__all__ = ["FieldPlayer", "MatchExplorer", "MatchPictures"]

KEY = 81      # screen pixels
# marker, colour (Okabe, Ito 2008: apart for every reader) and name of each kind; also in patchmatch.js and patchmatch.css
MARKS = {"current": ("D", "#ffffff", "match before"), "propagation": ("^", "#56b4e9", "propagation"),
         "random": ("o", "#e69f00", "random search")}


# --- the field, iteration by iteration --------------------------------------------------------------------------------

class FieldPlayer(Film):
    """Go through the iterations of PatchMatch: the field in the colours of `figures.color_wheel`, the image from it.

    Parameters
    ----------
    match : what `labkit.patchmatch.patchmatch(..., trace=True)` returned; of several matches, the nearest is shown, and
        transforms are not.
    image, exemplar : the (C, H, W) images of 1 or 3 channels that it was made from.
    largest : length of a shift, in pixels, that has the full colour; `None` takes one that 95 % of the last field's
        shifts do not exceed.
    alt, caption : one sentence that says what is to be seen, and the sentence under it.

    Attributes
    ----------
    slider : the iteration, 0 for the start; set its `value` to move it from Python.
    field, rebuilt : the `Picture`s of the field and of the image rebuilt from it.
    largest : the length of a shift that has the full colour, in pixels.

    Raises
    ------
    ValueError : `match` has no fields of its iterations, or was not made from `image` and `exemplar`.

    Examples
    --------
    >>> image, exemplar = torch.rand(3, 12, 16), torch.rand(3, 14, 14)
    >>> match = patchmatch.patchmatch(image, exemplar, patch_size=3, iterations=2, trace=True)
    >>> player = FieldPlayer(match, image=image, exemplar=exemplar)
    >>> player.slider.max, player.field.size
    (2, (10, 14))
    """

    def __init__(self, match: Match, *, image: Tensor, exemplar: Tensor, largest: float | None = None,
                 alt: str = "A nearest-neighbour field, and the image rebuilt from it.",
                 caption: str = "Each patch of the image has the colour of the direction in which its match lies; the "
                                "image is rebuilt from the matches by voting."):
        fields = _fields_of(match, image, exemplar)
        if len(fields) < 2:
            raise ValueError("match holds no fields of its iterations; expected one made with trace=True")
        if largest is not None:
            validate_number(largest, name="largest", above=0)
        self._history, self._exemplar = match.history, exemplar
        shifts = [patchmatch.shift_map(nnf) for nnf in fields]
        self.largest = largest or _usual_length(shifts[-1])
        frames = [(figures.color_wheel(shift, largest=self.largest),
                   patchmatch.reconstruct(nnf, exemplar, patch_size=match.patch_size))
                  for nnf, shift in zip(fields, shifts)]
        super().__init__(frames, titles=["field", "rebuilt by voting"], alt=alt, slider="iteration", interval=SLOWEST,
                         captions=[self._words(iteration) for iteration in range(len(fields))],
                         caption=f"{caption} {self._key_words()}".strip(), beside={"the image itself": image})
        self.field, self.rebuilt = self.pictures
        key = Picture(figures.color_wheel_key(size=KEY), alt=f"Key to the colours. {self._key_words()}", caption="key",
                      scale=1, interactive=False)
        self._tiles.children = [self.field, key, *self._tiles.children[1:]]

    def still(self) -> figures.Figure:
        last = self.slider.max
        chosen = sorted({0, min(1, last), min(2, last), last})
        frames = [self._frames[iteration] for iteration in chosen]
        titles = [_name(iteration) for iteration in chosen]
        shown = [*(field for field, _ in frames), *(rebuilt for _, rebuilt in frames), *self._beside.values(),
                 self._exemplar, figures.color_wheel_key(size=KEY)]
        titles += [*(f"rebuilt, {title}" for title in titles), "image", "exemplar", "key to the field"]
        means = ", ".join(f"{_name(iteration)} {self._history[iteration]:.3g}" for iteration in chosen)
        return figures.show(shown, titles=titles, alt=self._alt, columns=len(chosen), width=200,
                            caption=f"{self._caption} Mean distance: {means}.")

    def _key_words(self) -> str:
        away = f"{self.largest:.0f} pixel{'s' if round(self.largest) > 1 else ''}"
        return f"The key's centre, grey, is a match in the same place; its edge one {away} away or more, on that side."

    def _words(self, iteration: int) -> str:
        now, start = self._history[iteration], self._history[0]
        share = f", {100 * now / start:.0f} % of the start's" if iteration and start > 0 else ""
        return f"{_name(iteration).capitalize()}: mean distance {now:.3g}{share}."


# --- what is tried at one patch ---------------------------------------------------------------------------------------

class MatchPictures(PictureWidget):
    """The two pictures of a `MatchExplorer`: the browser sets the patch, Python answers.

    Parameters
    ----------
    image, exemplar : (C, H, W) images of 1 or 3 channels.
    alt, caption, scale : as of a `MatchExplorer`.
    patch : (row, column) of the first pixel of the patch chosen at first.
    patch_size : side of a patch, in pixels.

    Attributes
    ----------
    row, column : first pixel of the patch. fixed : whether it stays when the pointer moves.
    answer : what is drawn and told: the patch (`row`, `column`) it is about, `match` as [row, column], `candidates` as
        a list of {kind, row, column, accepted}, and `words`.

    Examples
    --------
    >>> image, exemplar = torch.rand(3, 12, 16), torch.rand(3, 14, 14)
    >>> pictures = MatchPictures(image, exemplar, alt="Noise.", caption="", scale=None, patch=(4, 5), patch_size=3)
    >>> pictures.size, pictures.exemplar_size
    ((12, 16), (14, 14))
    """

    _esm = script("patchmatch.js")
    _css = style("patchmatch.css")
    data = traitlets.Bytes(help="the image as a PNG file").tag(sync=True)
    exemplar = traitlets.Bytes(help="the exemplar as a PNG file").tag(sync=True)
    exemplar_size = traitlets.Tuple(traitlets.Int(), traitlets.Int()).tag(sync=True)
    patch_size = traitlets.Int().tag(sync=True)
    row = traitlets.Int().tag(sync=True)
    column = traitlets.Int().tag(sync=True)
    fixed = traitlets.Bool(False).tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)

    def __init__(self, image: Tensor, exemplar: Tensor, *, alt: str, caption: str, scale: float | None,
                 patch: tuple[int, int], patch_size: int):
        self._exemplar_image = exemplar
        super().__init__(image, alt=alt, caption=caption, scale=scale or zoom(PAIR, image, exemplar),
                         data=to_bytes(image), exemplar=to_bytes(exemplar), exemplar_size=tuple(exemplar.shape[-2:]),
                         row=patch[0], column=patch[1], patch_size=patch_size)

    def still(self) -> figures.Figure:
        from matplotlib.figure import Figure
        from matplotlib.patches import ConnectionPatch, Rectangle
        from matplotlib.patheffects import withStroke

        side, answer, pictures = self.patch_size, self.answer, (self.image, self._exemplar_image)
        halo = [withStroke(linewidth=3.5, foreground="black")]
        height = max(picture.shape[-2] / picture.shape[-1] for picture in pictures)
        figure = Figure(figsize=(9.5, 4.75 * height + 1), layout="constrained")
        axes = figure.subplots(1, 2)
        corners = (answer["row"], answer["column"]), answer["match"]
        for axis, picture, title, (row, column) in zip(axes, pictures, ("image", "exemplar"), corners):
            axis.imshow(to_pixels(picture), cmap="gray", vmin=0, vmax=255)
            axis.add_patch(Rectangle((column - 0.5, row - 0.5), side, side, fill=False, edgecolor="white",
                                     linewidth=1.5, path_effects=halo))
            axis.set_title(title)
            axis.axis("off")
        ends = [(column - 0.5 + side * right, row - 0.5 + side / 2) for (row, column), right in zip(corners, (1, 0))]
        figure.add_artist(ConnectionPatch(xyA=ends[0], xyB=ends[1], coordsA="data", coordsB="data", axesA=axes[0],
                                          axesB=axes[1], color="white", path_effects=halo))
        for one in sorted(answer["candidates"], key=lambda one: one["accepted"]):   # what was taken on top
            marker, colour, _ = MARKS[one["kind"]]
            middle = side / 2 - 0.5
            axes[1].plot(one["column"] + middle, one["row"] + middle, marker, markeredgecolor=colour, path_effects=halo,
                         markersize=8 if one["accepted"] else 5, markerfacecolor=colour if one["accepted"] else "none")
        if answer["candidates"]:
            handles = [axes[1].plot([], [], marker, markerfacecolor="none", markeredgecolor=colour, linestyle="",
                                    path_effects=halo, label=name)[0] for marker, colour, name in MARKS.values()]
            figure.legend(handles=handles, loc="outside lower center", ncols=3, title="candidates; filled where taken")
        file, told = io.BytesIO(), f"{self.caption} {answer['words']}".strip().replace("\n", " ")
        figure.savefig(file, format="jpeg", dpi=110, facecolor="white")   # photographs: a fifth of a PNG
        return figures.Figure(figures.figure_html(file.getvalue(), alt=self.alt, caption=told), f"[Figure: {told}]")


class MatchExplorer(Still, ipywidgets.VBox):
    """Point at a patch of the image and see its match in the exemplar, and the candidates that an iteration tried.

    The patch follows the pointer or the arrow keys (Shift: ten pixels); a click or Enter fixes it, until Escape.

    Parameters
    ----------
    match : what `labkit.patchmatch.patchmatch` returned. With `trace=True` it has a slider over the iterations, and the
        candidates where `labkit.patchmatch.candidates` knows them: sequential search, one match for a patch.
    image, exemplar : the (C, H, W) images of 1 or 3 channels that it was made from.
    patch : (row, column) of the first pixel of the patch chosen at first; `None` takes the middle.
    iteration : shown at first, 0 for the start; `None` takes the first iteration.
    scale : screen pixels per pixel, of both pictures; `None` lets the pictures stand side by side.
    alt, caption : one sentence that says what is to be seen, and the sentence under it.

    Attributes
    ----------
    pictures : the `MatchPictures`; set its `row` and `column` to choose a patch from Python.
    slider : the iteration, 0 for the start.
    candidates : the `Candidate`s tried at the chosen patch in this iteration, in order.

    Raises
    ------
    ValueError : `match` was not made from `image` and `exemplar`, or has no such patch or iteration.

    Examples
    --------
    >>> image, exemplar = torch.rand(3, 12, 16), torch.rand(3, 14, 14)
    >>> match = patchmatch.patchmatch(image, exemplar, patch_size=3, iterations=2, trace=True)
    >>> explorer = MatchExplorer(match, image=image, exemplar=exemplar, patch=(4, 5))
    >>> explorer.pictures.answer["match"] == match.fields[1][:, 4, 5].tolist()
    True
    """

    def __init__(self, match: Match, *, image: Tensor, exemplar: Tensor, patch: tuple[int, int] | None = None,
                 iteration: int | None = None, scale: float | None = None,
                 alt: str = "An image and an exemplar; a patch of the one is joined to its match in the other.",
                 caption: str = "The chosen patch, its match after the iteration, and what the iteration tried."):
        self._fields = _fields_of(match, image, exemplar)
        height, width = self._fields[0].shape[-2:]
        patch = (height // 2, width // 2) if patch is None else patch
        for name, value, count in zip(("row", "column"), patch, (height, width)):
            validate_integer(value, name=f"{name} of patch", minimum=0, maximum=count - 1)
        last = len(self._fields) - 1
        iteration = min(1, last) if iteration is None else iteration
        validate_integer(iteration, name="iteration", minimum=0, maximum=last)

        self._match, self._image, self._exemplar = match, image, exemplar
        self._traced = last > 0 and match.schedule == "sequential" and match.nnf.ndim == 3
        self._distances: dict[int, Tensor] = {}
        self._drawn: tuple[int, int, int] | None = None
        self.candidates: list[Candidate] = []
        self.slider = ipywidgets.IntSlider(value=iteration, min=0, max=max(1, last), description="iteration",
                                           layout={"width": "min(100%, 400px)", "display": None if last else "none"})
        self.pictures = MatchPictures(image, exemplar, alt=alt, caption=caption, scale=scale, patch=patch,
                                      patch_size=match.patch_size)
        super().__init__([self.slider, self.pictures])
        self.add_class("labkit-widget")
        self.slider.observe(self.redraw, names="value")
        self.pictures.observe(self.redraw, names=["row", "column"])
        self.redraw()

    def redraw(self, change: object = None) -> None:
        """Find the match and the candidates of the chosen patch, and send them to the browser."""
        iteration, row, column = self.slider.value, self.pictures.row, self.pictures.column
        if (iteration, row, column) == self._drawn:   # row and column change together, and each calls
            return
        self._drawn = iteration, row, column
        self.candidates = []
        if self._traced and iteration > 0:
                self.candidates = patchmatch.candidates(self._image, self._exemplar, self._match, row=row, column=column,
                                                    iteration=iteration)
        self.pictures.answer = {
            "row": row, "column": column, "match": self._fields[iteration][:, row, column].tolist(),
            "candidates": [{"kind": one.kind, "row": int(one.row), "column": int(one.column),
                            "accepted": bool(one.accepted)} for one in self.candidates],
            "words": self._words(iteration, row, column)}

    def _distance(self, iteration: int, row: int, column: int) -> float:
        if iteration not in self._distances:
                self._distances[iteration] = patchmatch.nnf_distance(self._image, self._exemplar, self._fields[iteration],
                                                                 patch_size=self._match.patch_size,
                                                                 metric=self._match.metric)
        return float(self._distances[iteration][row, column])

    def _words(self, iteration: int, row: int, column: int) -> str:
        """What happened at the chosen patch, in sentences, a line each."""
        match = self._fields[iteration][:, row, column].tolist()
        if self.candidates:   # they know their distances, which spares those of all other patches
            before, distance = self.candidates[0].distance, min(one.distance for one in self.candidates)
        else:
            before, distance = (self._distance(max(0, k), row, column) for k in (iteration - 1, iteration))
        when = f"; {_name(iteration)}" if len(self._fields) > 1 else ""
        about = f"Patch at row {row}, column {column}{when}."
        now = f"row {match[0]}, column {match[1]}, distance {distance:.3g}"
        if iteration == 0:
            return f"{about}\nMatch: {now}."
        place = self._fields[iteration - 1][:, row, column].tolist()
        lines = [about, f"Match before: row {place[0]}, column {place[1]}, distance {before:.3g}."]
        for kind in ("propagation", "random") if self._traced else ():
            lines.append(f"{MARKS[kind][2].capitalize()}: {_tried([c for c in self.candidates if c.kind == kind])}.")
        share = f", {100 * distance / before:.0f} % of what it was" if distance < before else ""
        lines.append(f"Match now: {now}{share}." if match != place else "Match now: the same.")
        return "\n".join(lines)

    def still(self) -> figures.Figure:
        return self.pictures.still()


# --- both -------------------------------------------------------------------------------------------------------------

def _fields_of(match: Match, image: Tensor, exemplar: Tensor) -> list[Tensor]:
    """The nearest-neighbour fields that a match holds, the last of them at least, of the nearest match each."""
    for picture, name in ((image, "image"), (exemplar, "exemplar")):
        validate_image(picture, name=name, channels=(1, 3), batch=False)
    if match.transform is not None:
        raise ValueError("match turns and flips patches, which cannot be shown; expected one made without transforms")
    fields = [nnf if nnf.ndim == 3 else nnf[0] for nnf in (match.fields or [match.nnf])]
    fields = [nnf.cpu() for nnf in fields]
    places = tuple(side - match.patch_size + 1 for side in image.shape[-2:])
    if tuple(fields[-1].shape[-2:]) != places:
        raise ValueError(f"image has {places[0]}×{places[1]} patches of side {match.patch_size} and match is of "
                         f"{fields[-1].shape[-2]}×{fields[-1].shape[-1]}; expected the image that match was made from")
    height, width = (int(nnf_axis.max()) + match.patch_size for nnf_axis in fields[-1])
    if height > exemplar.shape[-2] or width > exemplar.shape[-1]:
        raise ValueError(f"exemplar has {exemplar.shape[-2]}×{exemplar.shape[-1]} pixels and match reaches "
                         f"{height}×{width}; expected the exemplar that match was made from")
    return fields


def _usual_length(shift: Tensor) -> float:
    """The length, in pixels, that 95 % of the shifts do not exceed, at least 1."""
    length = torch.linalg.vector_norm(shift, dim=0).flatten()
    return max(1.0, float(length.kthvalue(math.ceil(0.95 * len(length))).values))


def _name(iteration: int) -> str:
    return f"iteration {iteration}" if iteration else "start"


def _tried(candidates: list[Candidate]) -> str:
    if not candidates:
        return "nothing new to try"
    best = min(candidates, key=lambda one: one.distance)
    taken = sum(one.accepted for one in candidates)
    outcome = ("not better" if len(candidates) == 1 else "none better") if not taken else "taken"
    return f"{len(candidates)} tried, the nearest at distance {best.distance:.3g}, {outcome}"
