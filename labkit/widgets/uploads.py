"""A picture of the reader's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import ipywidgets
from torch import Tensor

from labkit import images
from labkit.widgets.base import error_html

__all__ = ["LARGEST_UPLOAD", "read_upload", "reduced", "reduced_size", "upload_button"]

LARGEST_UPLOAD = 512   # longer side, in pixels: what a filter can follow a slider on


def upload_button(receive: Callable[[str, Tensor], None], *, message: ipywidgets.HTML) -> ipywidgets.FileUpload:
    """A button that calls `receive(name, image)` with the file that a reader chose.

    Where that is no picture, `message` says so, and `receive` is not called.
    """
    button = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Try a picture of your own",
                                   layout={"width": "max-content"})

    def read(change: object) -> None:
        for file in button.value:
            try:
                image = read_upload(file["name"], bytes(file["content"]))
            except ValueError as error:
                message.value = error_html(error)
            else:
                receive(file["name"], image)

    button.observe(read, names="value")
    return button


def read_upload(name: str, content: bytes) -> Tensor:
    """Read an uploaded file as an image of at most 512 pixels on its longer side.

    Raises
    ------
    ValueError : the file is not a picture; the message calls it by the name it was uploaded under.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(content)
        try:
            image = images.load(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), name)) from error
    return reduced(image, LARGEST_UPLOAD)


def reduced(image: Tensor, size: int | None) -> Tensor:
    """The image with a longer side of at most `size` pixels; `None` leaves it."""
    smaller = reduced_size(image, size)
    return image if smaller == tuple(image.shape[-2:]) else images.resize(image, size=smaller)


def reduced_size(image: Tensor, size: int | None) -> tuple[int, int]:
    """Height and width of the image that `reduced` makes."""
    height, width = image.shape[-2:]
    share = 1.0 if size is None else min(1.0, size / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))
