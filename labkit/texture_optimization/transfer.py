"""Style transfer by patches: a picture in which every patch is one of the style's and the content stays recognisable."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from labkit.images import match_colors
from labkit.texture_optimization.energy import optimize_texture
from labkit.texture_optimization.synthesis import Synthesis
from labkit.validation import describe, size_of, validate_image, validate_number

__all__ = ["transfer_style_by_patches"]


def transfer_style_by_patches(content: Tensor, style: Tensor, *, patch_sizes: Sequence[int] = (21, 13, 9), levels: int = 3,
                              stride: int = 4, r: float = 0.8, content_weight: float = 0.15, recolor: bool = True,
                              iterations: int = 5, seed: int = 0, trace: bool = False) -> Synthesis:
    """Lower Σ ‖p_u(x) − p_s(f(x))‖^r + w ‖u − c‖² in the picture u and the matches f, s the style and c the content.

    >>> content, style = torch.rand((2, 3, 24, 24), generator=torch.Generator().manual_seed(0))
    >>> labkit.texture_optimization.transfer_style_by_patches(content, style, patch_sizes=(9,), levels=1, iterations=1).image.shape
    torch.Size([3, 24, 24])

    Parameters
    ----------
    content, style : (C, H, W), (C, h, w) in [0, 1].
    patch_sizes, levels, stride, r, iterations, seed, trace : as in `optimize_texture`; `r` is not 1.
    content_weight : w, at least 0; 0 forgets the content but for its layout at the coarsest scale, 1 keeps half of it.
    recolor : give the content the style's colours first (equal mean and covariance), so that only forms are fought over.

    Returns
    -------
    Synthesis of the content's size.

    Raises
    ------
    ValueError : as `optimize_texture`, or the numbers of channels differ.

    References
    ----------
    Elad, Milanfar, "Style Transfer via Texture Synthesis", IEEE Trans. Image Processing 2017; without its segmentation and
    its denoising step. Lecture part I, "Style Transfer with texture optimization".
    """
    validate_image(content, name="content", batch=False)
    validate_image(style, name="style", batch=False)
    validate_number(content_weight, name="content_weight", minimum=0)
    if content.shape[0] != style.shape[0]:
        raise ValueError(f"content is {describe(content)} and style {describe(style)}; expected as many channels")
    aim = match_colors(content, reference=style) if recolor else content
    return optimize_texture(style, size=size_of(content), patch_sizes=patch_sizes, levels=levels, stride=stride, r=r,
                            start=aim, fidelity=(aim, content_weight), iterations=iterations, seed=seed, trace=trace)
