"""Gaussian textures: everything but the phases of the Fourier transform is kept, and those are drawn at random.

A texture whose look lies in its colours and its power spectrum alone (sand, wood grain, clouds) is reproduced; one with
edges or a pattern (bricks, leaves, a printed cloth) is not, for an edge is where phases agree.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labkit.runtime import generator
from labkit.validation import size_of, validate_image, validate_integer, validate_seed, validate_size

__all__ = ["periodic_component", "random_phase", "random_phase_texture", "spot_noise"]

FADE = 0.1      # share of the exemplar's side over which a spot fades out on each side, where the picture is larger


def random_phase_texture(exemplar: Tensor, *, size: tuple[int, int] | None = None, periodic: bool = True,
                         seed: int = 0) -> Tensor:
    """Keep the exemplar's mean and power spectrum, and draw the phases of its Fourier transform anew.

    >>> exemplar = torch.rand((3, 16, 16), generator=torch.Generator().manual_seed(0))
    >>> texture = labkit.texture_optimization.random_phase_texture(exemplar)
    >>> texture.shape, torch.allclose(texture.mean((1, 2)), exemplar.mean((1, 2)))
    (torch.Size([3, 16, 16]), True)

    û_c(ξ) = ĥ_c(ξ) exp(i θ(ξ)), with θ(ξ) uniform on [−π, π], θ(−ξ) = −θ(ξ) so that u is real, and θ(0) = 0 so that
    the mean stays. All channels c get the same θ: the differences between their phases, and so the colours, stay.

    Parameters
    ----------
    exemplar : h, (C, H, W) in [0, 1].
    size : (height, width) of the texture; `None` takes the exemplar's. See Notes.
    periodic : whether h is first replaced by its periodic component. Otherwise the jumps between opposite borders,
        which are no part of the texture, add horizontal and vertical stripes.
    seed : of the phases.

    Returns
    -------
    Tensor (C, height, width) of the dtype and device of `exemplar`, periodic along a side that is no shorter than the
    exemplar's. Some values may lie outside [0, 1]: clipping them would change mean and spectrum.

    Raises
    ------
    ValueError : no image, or no size.

    Notes
    -----
    For a larger texture, h becomes a spot: its difference from the mean, faded out towards its borders, on a picture
    that is zero elsewhere, and scaled so that the variance stays. The larger texture has the spectrum of that picture.
    A smaller texture is cut out of one as large as the exemplar.

    References
    ----------
    Galerne, Gousseau, Morel, "Random Phase Textures: Theory and Synthesis", IEEE Trans. Image Processing 2011.
    Galerne, "Generative models", part 1, "Texture synthesis with a stationary Gaussian model".
    """
    size = _validated(exemplar, size, seed)
    mean, spot = _spot(exemplar, size, periodic)
    phase = random_phase(*spot.shape[-2:], seed=seed).to(spot.device)
    spectrum = torch.fft.fft2(spot) * torch.polar(torch.ones_like(phase), phase)
    return _finished(mean, torch.fft.ifft2(spectrum).real, size, exemplar)


def spot_noise(exemplar: Tensor, *, size: tuple[int, int] | None = None, spots: int | None = None,
               periodic: bool = True, seed: int = 0) -> Tensor:
    """Add up many copies of the exemplar, each moved to a place of its own: spot noise.

    >>> exemplar = torch.rand((3, 16, 16), generator=torch.Generator().manual_seed(0))
    >>> labkit.texture_optimization.spot_noise(exemplar, size=(20, 30), spots=50).shape
    torch.Size([3, 20, 30])

    With h − m the exemplar less its mean and N the number of pixels, u(x) = m + Σ_{i ≤ n} (h − m)(x − X_i) / √n, with
    X_i drawn uniformly and sides that wrap around. When n grows, this tends to the stationary Gaussian texture with the
    mean and the covariance of h, the convolution u = m + (h − m) ∗ w / √N with white Gaussian noise w, the same for all
    channels. That of `random_phase_texture` differs in one point: there |û|² is that of h, here it is so on average.

    Parameters
    ----------
    exemplar : h, (C, H, W) in [0, 1].
    size : (height, width) of the texture; `None` takes the exemplar's. Other sizes as in `random_phase_texture`.
    spots : n, at least 1; `None` is the limit, the asymptotic discrete spot noise.
    periodic : as in `random_phase_texture`.
    seed : of the places, or of the noise.

    Returns
    -------
    Tensor (C, height, width) of the dtype and device of `exemplar`. Some values may lie outside [0, 1].

    Raises
    ------
    ValueError : no image, no size, or `spots` below 1.

    References
    ----------
    As for `random_phase_texture`. The lecture's generator G is this convolution, its latent variable z the noise w.
    """
    if spots is not None:
        validate_integer(spots, name="spots", minimum=1)
    size = _validated(exemplar, size, seed)
    mean, spot = _spot(exemplar, size, periodic)
    height, width = spot.shape[-2:]
    draws = generator(seed)
    if spots is None:
        noise = torch.randn(height, width, generator=draws, dtype=torch.float64) / math.sqrt(height * width)
    else:
        places = torch.randint(height * width, (spots,), generator=draws)
        noise = places.bincount(minlength=height * width).double().reshape(height, width) / math.sqrt(spots)
    spectrum = torch.fft.fft2(spot) * torch.fft.fft2(noise.to(spot.device))
    return _finished(mean, torch.fft.ifft2(spectrum).real, size, exemplar)


def random_phase(height: int, width: int, *, seed: int = 0) -> Tensor:
    """Random phases θ(ξ) of a real picture: float64 (height, width) in the order of `torch.fft.fft2`.

    >>> phase = labkit.texture_optimization.random_phase(5, 7)
    >>> phase.shape, torch.allclose(phase[1:, 1:], -phase[1:, 1:].flip(0, 1))
    (torch.Size([5, 7]), True)

    θ(−ξ) = −θ(ξ), uniform on [−π, π]; where ξ and −ξ are the same frequency θ is 0 or π, and θ(0) = 0. They are those
    of white Gaussian noise, which has just these properties.
    """
    for value, name in ((height, "height"), (width, "width")):
        validate_integer(value, name=name, minimum=1)
    noise = torch.randn(height, width, generator=generator(seed), dtype=torch.float64)
    phase = torch.fft.fft2(noise).angle()
    phase[0, 0] = 0
    return phase


def periodic_component(image: Tensor) -> Tensor:
    """The image without the jumps between its opposite borders: p in u = p + s, where s is smooth.

    >>> ramp = torch.arange(8.0).expand(1, 8, 8) / 8
    >>> smooth = labkit.texture_optimization.periodic_component(ramp)
    >>> float((smooth[..., 0] - smooth[..., -1]).abs().max()) < float((ramp[..., 0] - ramp[..., -1]).abs().max())
    True

    Continued periodically, u jumps at its borders, which puts a cross into its spectrum. With v the picture of these
    jumps, zero inside, s solves Δs = v for the periodic Laplacian, with mean 0. In Fourier, with H rows and W columns,
    ŝ(ξ) = v̂(ξ) / (2 cos(2πξ₁/H) + 2 cos(2πξ₂/W) − 4), and ŝ(0) = 0.

    Parameters
    ----------
    image : u, (C, H, W) or (N, C, H, W).

    Returns
    -------
    Tensor of the shape, dtype and device of `image`. A few values may lie outside [0, 1].

    References
    ----------
    Moisan, "Periodic plus Smooth Image Decomposition", J. Math. Imaging and Vision 2011.
    """
    validate_image(image)
    return _periodic(image.detach().double()).to(image.dtype)


def _periodic(image: Tensor) -> Tensor:
    jumps = torch.zeros_like(image)
    rows, columns = image[..., -1, :] - image[..., 0, :], image[..., :, -1] - image[..., :, 0]
    jumps[..., 0, :] += rows
    jumps[..., -1, :] -= rows
    jumps[..., :, 0] += columns
    jumps[..., :, -1] -= columns
    vertical, horizontal = (2 * torch.cos(2 * math.pi * torch.arange(side, device=image.device).double() / side)
                            for side in image.shape[-2:])
    laplacian = vertical[:, None] + horizontal - 4
    laplacian[0, 0] = 1         # the jumps add up to 0, so this divides 0
    return image - torch.fft.ifft2(torch.fft.fft2(jumps) / laplacian).real


def _validated(exemplar: Tensor, size: tuple[int, int] | None, seed: int) -> tuple[int, int]:
    validate_image(exemplar, name="exemplar", batch=False)
    validate_seed(seed)
    return validate_size(size, default=size_of(exemplar))


def _spot(exemplar: Tensor, size: tuple[int, int], periodic: bool) -> tuple[Tensor, Tensor]:
    """Mean (C, 1, 1), and the spot, of mean 0, on a grid that is at least as large as `size` and as the exemplar."""
    picture = exemplar.detach().double()
    if periodic:
        picture = _periodic(picture)
    mean = picture.mean((-2, -1), keepdim=True)
    spot = picture - mean
    grid = [max(sides) for sides in zip(size, exemplar.shape[-2:])]
    if grid != list(exemplar.shape[-2:]):
        fade = torch.ones((), dtype=torch.float64, device=spot.device)
        for axis, side in ((1, exemplar.shape[-2]), (0, exemplar.shape[-1])):
            fade = fade * _fade(side).to(fade)[(slice(None),) + (None,) * axis]
        spot = spot * fade * math.sqrt(grid[0] * grid[1] / float(fade.square().sum()))
        wide = spot.new_zeros(spot.shape[0], *grid)
        wide[:, :spot.shape[1], :spot.shape[2]] = spot
        spot = wide - wide.mean((-2, -1), keepdim=True)     # fading may have left a mean
    return mean, spot


def _fade(side: int) -> Tensor:
    """One in the middle of a line, falling to nearly zero at its ends along a cosine."""
    width = max(1.0, FADE * side)
    centre = torch.arange(side, dtype=torch.float64) + 0.5
    distance = torch.minimum(centre, side - centre)         # from the border to the centre of the pixel
    return (1 - torch.cos(math.pi * (distance / width).clamp(max=1))) / 2


def _finished(mean: Tensor, texture: Tensor, size: tuple[int, int], exemplar: Tensor) -> Tensor:
    return (mean + texture)[:, :size[0], :size[1]].to(exemplar.dtype).contiguous()
