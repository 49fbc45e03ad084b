"""The course's own pictures: textures, line drawings, clips and a flash / no-flash pair, all computed here.

Nothing is photographed and nothing is stored but the result: `python -m labkit.textures` writes every file of the
folder `data` again. The random numbers come from a hash of (seed, place), never from a running generator, so a
picture of another size shows more or less of the same plane, and any machine draws the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from labkit.images import to_pixels
from labkit.textures.clips import CLIPS
from labkit.textures.drawings import DRAWINGS, drawing
from labkit.textures.still_life import flash_pair
from labkit.textures.surfaces import TEXTURES, texture

__all__ = ["CLIPS", "DRAWINGS", "TEXTURES", "drawing", "flash_pair", "pictures", "texture", "write"]


def __dir__() -> list[str]:
    return __all__


def pictures() -> Iterator[tuple[str, Tensor]]:
    """Every file of the data folder, as (path inside it, image or clip), one after the other.

    >>> name, picture = next(labkit.textures.pictures())
    >>> name, picture.shape
    ('textures/cloth.png', torch.Size([3, 128, 128]))
    """
    for name in TEXTURES:
        yield f"textures/{name}.png", texture(name)
    for name in DRAWINGS:
        yield f"drawings/{name}.png", drawing(name)
    for name, made in CLIPS.items():
        yield f"clips/{name}.png", made()
    yield from zip(("flash.png", "no_flash.png", "no_flash_clean.png"), flash_pair())


def write(folder: Path) -> list[Path]:
    """Write all pictures below `folder`; a clip becomes an animated PNG of twelve frames per second.

    >>> labkit.textures.write(Path("data"))    # doctest: +SKIP
    """
    from PIL import Image

    paths = []
    for name, picture in pictures():
        frames = picture if picture.ndim == 4 else picture[None]
        first, *rest = (Image.fromarray(to_pixels(frame)) for frame in frames)
        animation: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": 83} if rest else {}
        paths.append(folder / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        first.save(paths[-1], optimize=True, **animation)
    return paths
