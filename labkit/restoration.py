"""Classical restoration of `v = A u + w`: Wiener and Tychonov filters in Fourier, smoothed total variation.

All minimise ½‖A u − v‖² + λ R(u), or R(u) alone under the constraint A u = v. A quadratic R has a solution in Fourier;
total variation, which keeps edges, needs descent.

Reference: Galerne, "Generative models", part 1, "Explicit Regularizations" to "Projected Gradient Descent".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.operators import Blur, Identity, LinearOperator, divergence, gradient
from labkit.validation import describe, known_pixels, validate_callback, validate_image, validate_integer, validate_number

__all__ = ["inpaint_total_variation", "restore_total_variation", "smoothed_total_variation",
           "smoothed_total_variation_gradient", "tychonov", "wiener"]


def __dir__() -> list[str]:
    return __all__


LARGEST_EPS = 1e6      # smoothing beyond which the total variation of a picture in [0, 1] is lost in rounding

Callback = Callable[[int, Tensor, float], None]


# --- in Fourier -----------------------------------------------------------------------------------------------------

def wiener(observation: Tensor, *, noise_to_signal: float | Tensor, blur: Blur | None = None) -> Tensor:
    """Wiener filter: the linear restoration of smallest mean squared error, frequency by frequency.

    û = k̂* v̂ / (|k̂|² + S_w / S_u), where S_w / S_u is the power of the noise over that of the picture.

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> blur = labkit.operators.Blur(labkit.operators.gaussian_kernel(sigma=1.5))
    >>> observed = labkit.images.add_gaussian_noise(blur(clean), sigma=0.01)
    >>> restored = labkit.restoration.wiener(observed, noise_to_signal=1e-2, blur=blur)
    >>> bool(labkit.metrics.psnr(restored, clean) > labkit.metrics.psnr(observed, clean) + 2)
    True

    Parameters
    ----------
    observation : (C, H, W) or (N, C, H, W).
    noise_to_signal : S_w / S_u, at least 0: one number for all frequencies, which is regularisation by ‖u‖², or a
        tensor (H, W) in the order of `torch.fft.fft2`. Where it and k̂ are both 0, so is û.
    blur : periodic; `None` if the picture is only noisy.

    Raises
    ------
    ValueError : a blur with another border, or a ratio that is negative or of another size.
    """
    validate_image(observation, name="observation")
    working = observation if observation.dtype == torch.float64 else observation.float()
    height, width = observation.shape[-2:]
    if isinstance(noise_to_signal, Tensor):
        if tuple(noise_to_signal.shape) != (height, width) or not noise_to_signal.isfinite().all() \
                or (noise_to_signal < 0).any():
            raise ValueError(f"noise_to_signal is {describe(noise_to_signal)}; expected a number or a tensor "
                             f"({height}, {width}), finite and none below 0")
        ratio = noise_to_signal.to(working)
    else:
        validate_number(noise_to_signal, name="noise_to_signal", minimum=0, maximum=1e30)
        ratio = working.new_full((height, width), noise_to_signal)
    blur = Blur(torch.ones(1, 1)) if blur is None else blur
    if not isinstance(blur, Blur) or blur.border != "periodic":
        raise ValueError(f"blur is {blur!r}; expected a labkit.operators.Blur with a periodic border, the only one "
                         "that is a product in Fourier")
    transfer = blur.transfer(height, width, dtype=working.dtype, device=working.device)
    power = transfer.abs().square() + ratio
    factor = torch.where(power > 0, transfer.conj() / torch.where(power > 0, power, 1), 0)
    return torch.fft.ifft2(factor * torch.fft.fft2(working)).real.to(observation.dtype)


def tychonov(observation: Tensor, *, weight: float, blur: Blur | None = None) -> Tensor:
    """The minimiser of ½‖k ∗ u − v‖² + λ/2 ‖∇u‖², in closed form.

    û = k̂* v̂ / (|k̂|² + λ L̂) with L̂ = 4 (sin²(πξ/H) + sin²(πζ/W)): the Wiener filter of pictures whose power falls
    as 1 / L̂, about one over the frequency squared, as that of photographs does. It removes noise and edges alike.

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> noisy = labkit.images.add_gaussian_noise(clean, sigma=0.1)
    >>> restored = labkit.restoration.tychonov(noisy, weight=0.5)
    >>> bool(labkit.metrics.psnr(restored, clean) > labkit.metrics.psnr(noisy, clean))
    True

    Parameters
    ----------
    observation : (C, H, W) or (N, C, H, W); it is taken as periodic.
    weight : λ, above 0.
    blur : periodic; `None` for denoising.
    """
    validate_image(observation, name="observation")
    validate_number(weight, name="weight", above=0)
    rows, columns = (torch.sin(math.pi * torch.arange(side, dtype=torch.float64) / side) ** 2
                     for side in observation.shape[-2:])
    laplacian = 4 * (rows[:, None] + columns)
    return wiener(observation, noise_to_signal=weight * laplacian, blur=blur)


# --- smoothed total variation ---------------------------------------------------------------------------------------

def smoothed_total_variation(image: Tensor, *, eps: float) -> Tensor:
    """TV_ε(u) = Σ √(ε² + ‖∇u‖²) over pixels and channels, differentiable; (N,) for a batch.

    Differences below `eps` count as slopes, differences above it as edges. A difference that leaves the image is 0.

    >>> step = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    >>> labkit.restoration.smoothed_total_variation(step, eps=1e-3)    # three flat places give ε each
    tensor(1.0030)
    """
    validate_image(image)
    validate_number(eps, name="eps", above=0, maximum=LARGEST_EPS)
    slopes = gradient(image if image.dtype == torch.float64 else image.float())
    return (float(eps) ** 2 + slopes.square().sum(dim=0)).sqrt().sum(dim=(-3, -2, -1)).to(image.dtype)


def smoothed_total_variation_gradient(image: Tensor, *, eps: float) -> Tensor:
    """∇TV_ε(u) = −div(∇u / √(ε² + ‖∇u‖²)). It is 8/ε-Lipschitz, since ‖∇‖² ≤ 8.

    >>> step = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    >>> labkit.restoration.smoothed_total_variation_gradient(step, eps=1e-3) + 0    # no -0
    tensor([[[ 0.0000, -1.0000,  1.0000,  0.0000]]])
    """
    validate_image(image)
    validate_number(eps, name="eps", above=0, maximum=LARGEST_EPS)
    slopes = gradient(image if image.dtype == torch.float64 else image.float())
    return -divergence(slopes / (float(eps) ** 2 + slopes.square().sum(dim=0)).sqrt()).to(image.dtype)


def restore_total_variation(observation: Tensor, *, weight: float, eps: float = 0.01, steps: int = 300,
                            operator: LinearOperator | None = None, start: Tensor | None = None,
                            step_size: float | None = None, callback: Callback | None = None) -> Tensor:
    """Minimise F(u) = ½‖A u − v‖² + λ TV_ε(u) by gradient descent.

    ∇F is L-Lipschitz with L = ‖A‖² + 8 λ / ε, so F never rises (but for rounding) with a step of at most 2 / L, and the
    descent converges for any step below.

    >>> clean = torch.cat([torch.zeros(1, 16, 8), torch.ones(1, 16, 8)], dim=-1)
    >>> noisy = labkit.images.add_gaussian_noise(clean, sigma=0.1)
    >>> restored = labkit.restoration.restore_total_variation(noisy, weight=0.1, steps=100)
    >>> bool(labkit.metrics.psnr(restored, clean) > labkit.metrics.psnr(noisy, clean) + 8)
    True

    Parameters
    ----------
    observation : v, (C, H, W) or (N, C, H, W); the channels do not interact.
    weight : λ, at least 0, in units of intensity: for denoising, a little below the noise's standard deviation.
    eps : ε, above 0, in units of intensity: the smaller, the sharper, and the slower.
    steps : of the descent.
    operator : A, of `labkit.operators`; `None` for denoising.
    start : where the descent starts; `None` starts from Aᵀ v, which is v itself without an operator.
    step_size : τ, above 0 and below 2 / L; `None` takes 1.8 / L.
    callback : called after each step with its number, the image and F (summed over the batch, in float64); slower.

    Returns
    -------
    Tensor of the size of the restored image, in the dtype and on the device of `observation`.

    Raises
    ------
    ValueError : a step size that does not guarantee descent; the message gives the bound.
    """
    validate_image(observation, name="observation")
    validate_number(weight, name="weight", minimum=0)
    validate_number(eps, name="eps", above=0, maximum=LARGEST_EPS)
    validate_integer(steps, name="steps", minimum=1)
    validate_callback(callback)
    if operator is not None and not isinstance(operator, LinearOperator):
        raise ValueError(f"operator is {describe(operator)}; expected a LinearOperator or None")
    degrade = Identity() if operator is None else operator
    working = observation if observation.dtype == torch.float64 else observation.float()
    image = degrade.adjoint(working)
    if start is not None:
        _validate_start(start, image.shape)
        image = start.to(image)
    bound = 2 / (degrade.squared_norm(image) + 8 * weight / eps)
    step_size = _step_size(step_size, bound=bound)
    for step in range(steps):
        residual = degrade(image) - working
        image = image - step_size * (degrade.adjoint(residual)
                                     + weight * smoothed_total_variation_gradient(image, eps=eps))
        if callback is not None:
            fit = 0.5 * (degrade(image) - working).double().square().sum()
            callback(step, image, float(fit + weight * smoothed_total_variation(image.double(), eps=eps).sum()))
    return image.to(observation.dtype)


def inpaint_total_variation(observation: Tensor, *, mask: Tensor, eps: float = 0.01, steps: int = 1000,
                            start: Tensor | None = None, step_size: float | None = None,
                            callback: Callback | None = None) -> Tensor:
    """Minimise TV_ε(u) with u = v at the known pixels, by projected gradient descent.

    Each step goes down the slope of TV_ε, then puts the known pixels back, which is the projection on {u : A u = v}.
    Thin gaps and scattered pixels close well; a wide hole fills slowly, one pixel of reach per step, and smoothly:
    there is no texture in total variation.

    >>> image = torch.full((1, 8, 8), 0.5)
    >>> mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    >>> mask[:, 3:5, 3:5] = True       # a hole
    >>> filled = labkit.restoration.inpaint_total_variation(image * ~mask, mask=mask, steps=300)
    >>> torch.allclose(filled, image, atol=1e-2)
    True

    Parameters
    ----------
    observation : v, (C, H, W) or (N, C, H, W); its missing pixels are ignored, even NaN.
    mask : (1, H, W) boolean, `True` where pixels are missing.
    eps, callback : as for `restore_total_variation`; the energy is TV_ε.
    steps : of the descent.
    start : an image of the size of `observation` whose missing pixels the descent starts from; `None` starts from the
        mean of the known pixels, channel by channel.
    step_size : τ, above 0 and below ε / 4, twice the inverse of the Lipschitz constant 8/ε; `None` takes 0.9 of it.

    Returns
    -------
    Tensor of the shape, dtype and device of `observation`; known pixels are unchanged to the bit.
    """
    known_pixels(observation, mask, name="observation", batch=True)
    validate_number(eps, name="eps", above=0, maximum=LARGEST_EPS)
    validate_integer(steps, name="steps", minimum=1)
    validate_callback(callback)
    if mask.all():
        raise ValueError("mask is True everywhere; expected at least one known pixel")
    mask = mask.to(observation.device)
    working = observation if observation.dtype == torch.float64 else observation.float()
    if start is None:
        known = (~mask).sum()
        start = (working.masked_fill(mask, 0).sum(dim=(-2, -1), keepdim=True) / known).expand_as(working)
    else:
        _validate_start(start, observation.shape)
    step_size = _step_size(step_size, bound=eps / 4)
    image = torch.where(mask, start.to(working), working)
    for step in range(steps):
        image = torch.where(mask, image - step_size * smoothed_total_variation_gradient(image, eps=eps), working)
        if callback is not None:
            callback(step, image, float(smoothed_total_variation(image.double(), eps=eps).sum()))
    return image.to(observation.dtype)


# --- what they share ------------------------------------------------------------------------------------------------

def _validate_start(start: Tensor, shape: torch.Size) -> None:
    validate_image(start, name="start")
    if start.shape != shape:
        raise ValueError(f"start is {describe(start)}; expected the shape of the restored image, {tuple(shape)}")


def _step_size(step_size: float | None, *, bound: float) -> float:
    """The step of a descent, refused where the descent lemma does not hold."""
    if step_size is None:
        return 0.9 * bound
    validate_number(step_size, name="step_size", above=0)
    if step_size >= bound:
        raise ValueError(f"step_size is {step_size:.3g}; expected less than 2 / L = {bound:.3g}, beyond which the "
                         "energy may rise")
    return step_size
