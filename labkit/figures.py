"""Figures for notebooks: pictures side by side, charts and tables, each with a caption and alternative text.

A figure is plain HTML with its pictures inside, so it reads the same in JupyterLab, in Notebook 7, on a repository page
and in a printed book, in a light and in a dark theme, and a screen reader has words for it.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labkit import images as _images
from labkit.validation import (
    describe,
    validate_image,
    validate_integer,
    validate_number,
    validate_several,
    validate_text,
)

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["Figure", "chart", "color_wheel", "color_wheel_key", "colorize", "difference", "figure_html", "show",
           "table"]


def __dir__() -> list[str]:
    return __all__


class Figure:
    """Something to look at: `html` for a page, `text` for a terminal. The last line of a cell shows it.

    >>> labkit.figures.Figure("<b>bold</b>", "bold")
    bold
    """

    def __init__(self, html: str, text: str):
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def figure_html(picture: bytes, *, alt: str, caption: str = "", width: int | None = None) -> str:
    """One picture (the bytes of a PNG or JPEG file) with its caption, as an HTML `<figure>`.

    >>> page = labkit.figures.figure_html(labkit.images.to_bytes(torch.zeros(1, 4, 4)), alt="Black.", caption="Night")
    >>> page.count("<img"), page.count("<figcaption")
    (1, 1)

    Parameters
    ----------
    alt : what the picture shows, for who cannot see it; must not be empty.
    width : displayed width in CSS pixels; `None` leaves the picture's own.
    """
    if not isinstance(picture, bytes):
        raise ValueError(f"picture is {describe(picture)}; expected the bytes of a PNG or JPEG file")
    _validate_words(alt, caption)
    if width is not None:
        validate_integer(width, name="width", minimum=1)
    return _panels([_picture_tag(picture, alt=alt, width=width)], [""], caption, None)


def show(images: Tensor | Sequence[Tensor], *, alt: str, titles: Sequence[str] | None = None, caption: str = "",
         columns: int | None = None, width: int | None = None) -> Figure:
    """Show one or several images side by side.

    >>> labkit.figures.show([torch.zeros(1, 4, 6), torch.ones(1, 4, 6)], alt="Black beside white.", titles=["black", "white"])
    [Figure: Black beside white. (black 6×4, white 6×4)]

    Parameters
    ----------
    images : an image `(C, H, W)` of 1 or 3 channels, a batch, or a list of images; values are clipped to `[0, 1]`.
    alt : one sentence that says what is to be seen, for who cannot see it.
    titles : a short title under each image.
    caption : a sentence under the whole figure.
    columns : how many side by side at most; `None` lets the page decide.
    width : displayed width of each image in CSS pixels; small images are enlarged with sharp pixels. `None` takes 256
        pixels, or the image's own width where that lies between 256 and 512.
    """
    validate_several(images, name="images")
    if isinstance(images, Tensor):
        images = [images] if images.ndim == 3 else list(images)
    images = list(images)
    if titles is not None:
        validate_several(titles, name="titles", of="texts")
    titles = [""] * len(images) if titles is None else list(titles)
    if not images or len(titles) != len(images):
        raise ValueError(f"show was given {len(images)} images and {len(titles)} titles; expected as many of each, at least one")
    _validate_words(alt, caption)
    for number, title in enumerate(titles):
        validate_text(title, name=f"titles[{number}]")
    if width is not None:
        validate_integer(width, name="width", minimum=1)
    tags = []
    for number, (image, title) in enumerate(zip(images, titles)):
        validate_image(image, name=f"images[{number}]", channels=(1, 3), batch=False)
        shown = width or min(512, max(256, image.shape[-1]))
        if len(images) > 1 and width is None:
            shown = min(shown, 320)
        # photographs as JPEG keep notebooks small; small pictures stay exact, to the pixel
        format = "jpeg" if image.shape[-1] * image.shape[-2] > 96 * 96 else "png"
        tags.append(_picture_tag(_images.to_bytes(image, format), alt=f"{title}: {alt}" if title else alt, width=shown,
                                 sharp=shown >= 2 * image.shape[-1]))
    sizes = ", ".join(f"{title or 'image'} {image.shape[-1]}×{image.shape[-2]}" for image, title in zip(images, titles))
    return Figure(_panels(tags, titles, caption, columns), f"[Figure: {caption or alt} ({sizes})]")


def chart(figure: matplotlib.figure.Figure, *, alt: str, caption: str = "") -> Figure:
    """Show a matplotlib figure (made by `matplotlib.figure.Figure`, not by pyplot) with words for it.

    >>> from matplotlib.figure import Figure as Canvas
    >>> canvas = Canvas()
    >>> _ = canvas.subplots().plot([3, 1, 2])
    >>> labkit.figures.chart(canvas, alt="A curve that falls and rises.")
    [Chart: A curve that falls and rises.]
    """
    _validate_words(alt, caption)
    if not hasattr(figure, "savefig"):
        raise ValueError(f"figure is {describe(figure)}; expected a figure of matplotlib")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    return Figure(figure_html(file.getvalue(), alt=alt, caption=caption), f"[Chart: {caption or alt}]")


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str], caption: str = "") -> Figure:
    """Show a table; numbers are aligned to the right, the first column names its row.

    >>> labkit.figures.table([["box", 24.5], ["bilateral", 27.25]], header=["filter", "PSNR"])
    filter      PSNR
    box        24.50
    bilateral  27.25
    """
    validate_several(rows, name="rows", of="rows")
    rows = list(rows)
    for number, row in enumerate(rows):
        validate_several(row, name=f"rows[{number}]", of="cells")
    validate_several(header, name="header", of="texts")
    header = list(header)
    for number, word in enumerate(header):
        validate_text(word, name=f"header[{number}]")
    validate_text(caption, name="caption")
    cells = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    for number, row in enumerate(cells):
        if len(row) != len(header):
            raise ValueError(f"rows[{number}] has {len(row)} cells; expected {len(header)}, as the header has")
    head = "".join(f'<th scope="col" style="text-align:{"left" if k == 0 else "right"}">{html.escape(h)}</th>'
                   for k, h in enumerate(header))
    body = "".join('<tr><th scope="row" style="text-align:left;font-weight:normal">' + html.escape(row[0]) + "</th>"
                   + "".join(f'<td style="text-align:right">{html.escape(cell)}</td>' for cell in row[1:]) + "</tr>"
                   for row in cells)
    markup = f"<table>{f'<caption>{html.escape(caption)}</caption>' if caption else ''}<tr>{head}</tr>{body}</table>"
    widths = [max(len(row[k]) for row in [list(header), *cells]) for k in range(len(header))]
    lines = ["  ".join(cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths)))
             for row in [list(header), *cells]]
    return Figure(markup, "\n".join([caption, *lines] if caption else lines))


def colorize(values: Tensor, *, low: float | None = None, high: float | None = None, colormap: str = "viridis") -> Tensor:
    """Colour a map of numbers `(H, W)` or `(1, H, W)` for the eye, as an image `(3, H, W)`.

    `low` and `high` are the values of the first and the last colour; `None` takes the smallest and largest there are.
    The default colour map keeps its order for colour-blind readers and in grey print.

    >>> labkit.figures.colorize(torch.tensor([[0.0, 1.0]]))[:, 0].round(decimals=2)
    tensor([[0.2700, 0.9900],
            [0.0000, 0.9100],
            [0.3300, 0.1400]])
    """
    import matplotlib

    if not isinstance(values, Tensor) or values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[0] != 1):
        raise ValueError(f"values is {describe(values)}; expected a tensor (H, W) or (1, H, W)")
    if values.is_complex() or values.numel() == 0:
        raise ValueError(f"values is {describe(values)}; expected real numbers, at least one")
    for value, name in ((low, "low"), (high, "high")):
        if value is not None:
            validate_number(value, name=name)
    if not isinstance(colormap, str) or colormap not in matplotlib.colormaps:
        raise ValueError(f"colormap is {describe(colormap)}; expected the name of one of matplotlib's colour maps, such as 'viridis'")
    values = values.detach().cpu().double().reshape(values.shape[-2:])
    low = float(values.min() if low is None else low)
    high = float(values.max() if high is None else high)
    scaled = ((values - low) / (high - low if high > low else 1.0)).clamp(0, 1)
    return torch.from_numpy(matplotlib.colormaps[colormap](scaled.numpy())[..., :3]).float().permute(2, 0, 1).contiguous()


def difference(first: Tensor, second: Tensor, *, gain: float = 1.0) -> Tensor:
    """A signed difference for the eye, grey where the images agree: `0.5 + gain * (first - second) / 2`, clipped.

    >>> labkit.figures.difference(torch.tensor([[[0.5, 0.9]]]), torch.tensor([[[0.5, 0.5]]]), gain=2)
    tensor([[[0.5000, 0.9000]]])
    """
    for image, name in ((first, "first"), (second, "second")):
        if not isinstance(image, Tensor) or not image.is_floating_point():
            raise ValueError(f"{name} is {describe(image)}; expected a floating-point torch tensor")
    validate_number(gain, name="gain")
    if first.shape != second.shape:
        raise ValueError(f"first is {tuple(first.shape)} and second is {tuple(second.shape)}; expected the same shape")
    return (0.5 + float(gain) * (first - second) / 2).clamp(0, 1)


def color_wheel(shift: Tensor, *, largest: float | None = None) -> Tensor:
    """Colour a field of shifts `(2, H, W)` (rows, columns) for the eye, as an image `(3, H, W)`.

    Grey is no shift, and a longer shift is further from grey: to the right orange, down crimson, to the left blue, up
    green. To the upper right colours grow lighter, to the lower left darker, so that the eight directions of a compass
    stay apart for who sees no difference between red and green, or between blue and yellow. The map is linear in CIE
    L*a*b* (as far as a screen has the colours): equal changes of a shift look about equally large.

    >>> labkit.figures.color_wheel(torch.zeros(2, 1, 1)).flatten().round(decimals=2)      # no shift is grey
    tensor([0.5700, 0.5700, 0.5700])

    Parameters
    ----------
    shift : how far each place is moved, down and to the right, in pixels; whole numbers or floats.
    largest : the length, in pixels, that has the full colour, as every longer one; `None` takes the longest there is.
    """
    if not isinstance(shift, Tensor) or shift.ndim != 3 or shift.shape[0] != 2 or shift.numel() == 0:
        raise ValueError(f"shift is {describe(shift)}; expected a tensor (2, H, W): rows and columns")
    if largest is not None:
        validate_number(largest, name="largest", above=0)
    shift = shift.detach().float()
    length = torch.linalg.vector_norm(shift, dim=0)
    if not bool(torch.isfinite(length).all()):
        raise ValueError("shift holds NaN or infinite values; expected finite values")
    full = float(length.max() if largest is None else min(largest, torch.finfo(torch.float32).max))
    down, right = shift / length.clamp(min=full or 1.0)
    return _images.from_lab(torch.stack([60 + 24 * (right - down), 60 * down, 60 * right]))


def color_wheel_key(*, size: int = 81) -> Tensor:
    """The key to `color_wheel`, as an image `(3, size, size)`: no shift in the centre, the largest at each edge.

    >>> labkit.figures.color_wheel_key(size=5).shape
    torch.Size([3, 5, 5])
    """
    validate_integer(size, name="size", minimum=3, odd=True)
    along = torch.linspace(-1, 1, size)
    return color_wheel(torch.stack(torch.meshgrid(along, along, indexing="ij")), largest=1.0)


def _validate_words(alt: str, caption: str) -> None:
    validate_text(alt, name="alt")
    if not alt.strip():
        raise ValueError("alt is empty; expected a sentence that says what is to be seen")
    validate_text(caption, name="caption")


def _picture_tag(picture: bytes, *, alt: str, width: int | None, sharp: bool = False) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    size = f"width:{width}px;" if width else ""
    return (f'<img src="data:image/{kind};base64,{base64.b64encode(picture).decode()}" alt="{html.escape(alt, quote=True)}" '
            f'style="{size}max-width:100%;height:auto;display:block;{"image-rendering:pixelated;" if sharp else ""}">')


def _panels(tags: Sequence[str], titles: Sequence[str], caption: str, columns: int | None) -> str:
    if columns is not None:
        validate_integer(columns, name="columns", minimum=1)
    layout = (f"display:grid;grid-template-columns:repeat({columns},max-content)" if columns
              else "display:flex;flex-wrap:wrap")
    # a long title wraps under its picture instead of making the column wider
    panels = "".join(f'<figure style="margin:0;min-width:7em">{tag}{_caption(title, style="contain:inline-size;")}</figure>'
                     if title else f"<div>{tag}</div>" for tag, title in zip(tags, titles))
    return (f'<figure style="margin:0.5em 0"><div style="{layout};gap:8px;align-items:start">{panels}</div>'
            f'{_caption(caption, "0.6em")}</figure>')


def _caption(text: str, margin: str = "0.2em", style: str = "") -> str:
    style = f"{style}font-size:90%;margin-top:{margin};text-align:left"
    return f'<figcaption style="{style}">{html.escape(text)}</figcaption>' if text else ""
