"""Chapter 3's widget: a picture as it is synthesised, from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from torch import Tensor

from labkit.texture_optimization import Synthesis
from labkit.widgets.film import Film, spread

__all__ = ["SynthesisPlayer"]


class SynthesisPlayer(Film):
    """Play the frames of a synthesis, from the coarsest level to the finest, beside its exemplar.

    Parameters
    ----------
    synthesis : what a method of `labkit.texture_optimization` returned with `trace=True`.
    exemplar : the (C, h, w) image of 1 or 3 channels that it was made from.
    scale : screen pixels per pixel of the exemplar and of the last frame; `None` lets them stand side by side.
    alt, caption : one sentence that says what is to be seen, and the sentence under it.

    Attributes
    ----------
    slider, pictures : as of a `Film`; there is one picture.

    Raises
    ------
    ValueError : `synthesis` holds no frames, or not an energy for each.

    Examples
    --------
    >>> import torch
    >>> frames = [torch.rand(3, 4, 6), torch.rand(3, 8, 12), torch.rand(3, 8, 12)]
    >>> player = SynthesisPlayer(Synthesis(frames[-1], [[3.0], [2.0, 1.0]], frames), exemplar=torch.rand(3, 8, 8))
    >>> player.slider.value = 2
    >>> player.pictures[0].alt
    'A picture as it is synthesised, from coarse to fine. (synthesis) Level 2 of 2 (8×12 pixels), step 2 of 2: energy 1.'
    """

    def __init__(
        self,
        synthesis: Synthesis,
        *,
        exemplar: Tensor,
        scale: float | None = None,
        alt: str = "A picture as it is synthesised, from coarse to fine.",
        caption: str = "From the coarsest level to the finest.",
    ):
        frames, energy = synthesis.frames, [list(part) for part in synthesis.energy if part]
        if not frames:
            raise ValueError("synthesis holds no frames; expected one made with trace=True")
        if sum(map(len, energy)) != len(frames):
            raise ValueError(
                f"synthesis has {len(frames)} frames and {sum(map(len, energy))} energies; expected one for each"
            )
        captions, ends = _levels(frames, energy)
        super().__init__(
            frames,
            titles=["synthesis"],
            captions=captions,
            alt=alt,
            caption=caption,
            beside={"exemplar": exemplar},
            curves=energy,
            measure="energy",
            scale=scale,
            still_frames=ends,
        )


def _levels(frames: Sequence[Tensor], energy: Sequence[Sequence[float]]) -> tuple[list[str], dict[int, str]]:
    """For each frame, its level and step in words; and the last frames of at most five levels, with short names."""
    captions, ends = [], {}
    sizes = [tuple(frames[sum(map(len, energy[:k]))].shape[-2:]) for k in range(len(energy))]
    levels = [
        (size, [part for _, part in group]) for size, group in groupby(zip(sizes, energy), key=lambda one: one[0])
    ]
    for number, ((height, width), parts) in enumerate(levels, start=1):
        for which, part in enumerate(parts, start=1):  # several where the method goes through sizes of patches
            of = f", patch size {which} of {len(parts)}" if len(parts) > 1 else ""
            captions += [
                f"Level {number} of {len(levels)} ({height}×{width} pixels){of}, step {step} of {len(part)}: "
                f"energy {value:.3g}."
                for step, value in enumerate(part, start=1)
            ]
        ends[len(captions) - 1] = f"level {number}, {height}×{width}"
    return captions, {number: ends[number] for number in spread(list(ends))}
