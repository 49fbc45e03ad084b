"""How far a picture is from another, or a set of pictures from another set.

Metrics of two pictures take both by position, `metric(image, reference)`, and return a 0-d tensor for two images
`(C, H, W)` and one value per picture, `(N,)`, for two batches `(N, C, H, W)`, in the dtype and on the device of
`image`; what is a sum rather than a mean comes in float32 at least, since float16 ends at 65504. Channels count alike
unless said otherwise. Where a metric has no slope (of equal pictures, at flat places), its gradient is 0.

| same pixels            | `mse`, `rmse` (0 is best), `psnr` (dB, ∞ is best)                                          |
| same structure         | `ssim`, `ms_ssim`, `fsim`, `haarpsi`, `vif` (1 is best), `gmsd` (0 is best)                |
| as seen by a person    | `flip` (0 is best); learnt: `lpips`, `dists` (0 is best), which need pretrained weights    |
| same patches anywhere  | `patch_transport_cost` (0 is best)                                                         |
| same features anywhere | `single_image_distance` (0 is best)                                                        |
| sets, or one picture   | `frechet_distance` of features (0 is best), `pixel_diversity`, `total_variation`           |
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from labkit.features import random_features
from labkit.operators import gradient
from labkit.patches import patch_positions, squared_distances
from labkit.runtime import generator
from labkit.transport import semi_dual_ascent
from labkit.validation import describe, validate_choice, validate_image, validate_integer, validate_number

__all__ = ["dists", "flip", "flip_map", "frechet_distance", "fsim", "gmsd", "haarpsi", "lpips", "ms_ssim", "mse",
           "patch_transport_cost", "pixel_diversity", "psnr", "rmse", "semi_dual_ascent", "single_image_distance",
           "ssim", "ssim_map", "total_variation", "vif"]


def __dir__() -> list[str]:
    return __all__


_WINDOWS = ("gaussian", "uniform")
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)    # Wang, Simoncelli, Bovik 2003
_PIXELS_PER_DEGREE = 3840 * math.pi / 180                    # FLIP's own viewing conditions
_LARGEST_MATRIX = 2 ** 28                                    # distances; 1 GB in float32


# --- pixel against pixel --------------------------------------------------------------------------------------------

def mse(image: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error over pixels and channels.

    >>> labkit.metrics.mse(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5))
    tensor(0.2500)
    """
    image, reference, finish = _pair(image, reference)
    return finish((image - reference).square().mean(dim=(1, 2, 3)))


def rmse(image: Tensor, reference: Tensor) -> Tensor:
    """Root mean squared error, in units of intensity.

    >>> labkit.metrics.rmse(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5))
    tensor(0.5000)
    """
    image, reference, finish = _pair(image, reference)
    return finish(_root((image - reference).square().mean(dim=(1, 2, 3))))


def psnr(image: Tensor, reference: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB: 10 log10(data_range² / MSE), infinite for equal pictures.

    The range is squared, which one of the lectures' slides forgets (part II, "Demo: denoising").

    >>> labkit.metrics.psnr(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.1)).round()
    tensor(20.)

    Parameters
    ----------
    image, reference : (C, H, W) or (N, C, H, W), of one shape.
    data_range : the largest difference two values can have; 1 for images of labkit, 255 for 8-bit values.
    """
    validate_number(data_range, name="data_range", above=0, maximum=1e9)
    image, reference, finish = _pair(image, reference)
    error = (image - reference).square().mean(dim=(1, 2, 3))
    equal = error == 0
    return finish(torch.where(equal, math.inf, 10 * torch.log10(data_range ** 2 / torch.where(equal, 1, error))))


def total_variation(image: Tensor, *, isotropic: bool = True) -> Tensor:
    """The sum over pixels of ‖∇u‖, or of |∂₁u| + |∂₂u| if not `isotropic`; channels are added up.

    A difference that would leave the image is 0. One value for (C, H, W), (N,) for (N, C, H, W), in float32 at least.
    At flat places the gradient is 0, one of the subgradients.

    >>> labkit.metrics.total_variation(torch.tensor([[[0.0, 0.0, 1.0]]]))
    tensor(1.)
    """
    validate_image(image)
    down, right = gradient(image if image.dtype == torch.float64 else image.float())
    if isotropic:
        flat = (down == 0) & (right == 0)
        size = torch.where(flat, 0, torch.hypot(torch.where(flat, 1, down), right))
    else:
        size = down.abs() + right.abs()
    return size.sum(dim=(-3, -2, -1))


# --- structural similarity ------------------------------------------------------------------------------------------

def ssim(image: Tensor, reference: Tensor, *, window: str = "gaussian", data_range: float = 1.0) -> Tensor:
    """Mean structural similarity index (SSIM), at most 1; the mean of `ssim_map`. Differentiable.

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> noisy = labkit.images.add_gaussian_noise(clean, sigma=0.1)
    >>> labkit.metrics.ssim(clean, clean), bool(labkit.metrics.ssim(noisy, clean) < 0.95)
    (tensor(1.), True)

    Parameters
    ----------
    image, reference : (C, H, W) or (N, C, H, W), of one shape; sides of at least 11 pixels (7 for `"uniform"`).
    window : `"gaussian"` weighs 11 × 11 pixels with standard deviation 1.5, as Wang et al. do (scikit-image's
        `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`); `"uniform"` takes 7 × 7 pixels alike, with
        unbiased variances, scikit-image's default.
    data_range : the range of the values; it sets the two constants that keep flat windows stable.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
    Trans. Image Processing, 2004. doi:10.1109/TIP.2003.819861. Galerne, part 1, "Metrics for Inverse Problems".
    """
    image, reference, finish = _pair(image, reference)
    similarity, _ = _ssim_maps(image, reference, window=window, data_range=data_range)
    return finish(similarity.mean(dim=(1, 2, 3)))


def ssim_map(image: Tensor, reference: Tensor, *, window: str = "gaussian", data_range: float = 1.0) -> Tensor:
    """SSIM of every window that lies wholly inside: (C, H − 10, W − 10), or (C, H − 6, W − 6) for `"uniform"`.

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> labkit.metrics.ssim_map(clean, clean).shape, clean.shape
    (torch.Size([3, 54, 54]), torch.Size([3, 64, 64]))
    """
    first, second, _ = _pair(image, reference)
    similarity, _ = _ssim_maps(first, second, window=window, data_range=data_range)
    return (similarity[0] if image.ndim == 3 else similarity).to(image.dtype)


def ms_ssim(image: Tensor, reference: Tensor, *, levels: int = 5, data_range: float = 1.0) -> Tensor:
    """Multi-scale SSIM: contrast and structure at `levels` scales, luminance at the coarsest. Differentiable.

    Each level averages 2 × 2 pixels of the one before. A channel's value is the product of the levels' means, each to
    the power of its weight (a mean below 0 counts as 0); channels are averaged.

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> labkit.metrics.ms_ssim(clean, clean, levels=2)
    tensor(1.)

    Parameters
    ----------
    image, reference : (C, H, W) or (N, C, H, W), of one shape; sides above 10 · 2^(levels − 1): 161 for five levels.
    levels : 1 to 5; with fewer than the published five, the weights of the first ones are scaled to sum to 1.
    data_range : as for `ssim`.

    References
    ----------
    Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003.
    """
    validate_integer(levels, name="levels", minimum=1, maximum=len(_SCALE_WEIGHTS))
    image, reference, finish = _pair(image, reference)
    needed = 10 * 2 ** (levels - 1) + 1
    if min(image.shape[-2:]) < needed:
        raise ValueError(f"image is {tuple(image.shape[-2:])} pixels; expected at least {needed} along each side for "
                         f"{levels} levels (fewer levels take smaller images)")
    image, reference = image.double(), reference.double()
    weights = image.new_tensor(_SCALE_WEIGHTS[:levels])
    weights = weights / weights.sum()
    value = image.new_ones(image.shape[:2])
    for level, weight in enumerate(weights):
        if level > 0:       # the last row and column of an odd side are averaged with themselves, as in Wang's code
            image, reference = (F.avg_pool2d(batch, 2, ceil_mode=True) for batch in (image, reference))
        similarity, contrast = _ssim_maps(image, reference, window="gaussian", data_range=data_range)
        mean = (similarity if level == levels - 1 else contrast).mean(dim=(2, 3))
        positive = mean > 0        # a fractional power has no finite slope at 0: keep it out of the gradient
        value = value * torch.where(positive, torch.where(positive, mean, 1) ** weight, 0)
    return finish(value.mean(dim=1))


def _ssim_maps(image: Tensor, reference: Tensor, *, window: str, data_range: float) -> tuple[Tensor, Tensor]:
    """SSIM, and its contrast-structure factor alone, for every window inside: two float64 tensors (N, C, H', W').

    A variance E[x²] − E[x]² in float32 is wrong by 1e-7, which beside the constant c2 = 9e-4 is seen in the map.
    """
    image, reference = image.double(), reference.double()
    validate_choice(window, name="window", choices=_WINDOWS)
    validate_number(data_range, name="data_range", above=0, maximum=1e9)
    if window == "gaussian":
        line = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
        unbiased = 1.0
    else:
        line = torch.ones(7, dtype=torch.float64)
        unbiased = 49 / 48
    line = line / line.sum()
    if min(image.shape[-2:]) < len(line):
        raise ValueError(f"image is {tuple(image.shape[-2:])} pixels; expected at least {len(line)} along each side, "
                         f"the side of the {window} window")

    def mean(values: Tensor) -> Tensor:
        return _weighted(values, line, line)

    mean_x, mean_y = mean(image), mean(reference)
    var_x = unbiased * (mean(image.square()) - mean_x.square())
    var_y = unbiased * (mean(reference.square()) - mean_y.square())
    cov = unbiased * (mean(image * reference) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    contrast = (2 * cov + c2) / (var_x + var_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    luminance, contrast = (factor.clamp(max=1) for factor in (luminance, contrast))     # but for rounding they are
    return luminance * contrast, contrast


# --- perceptual metrics that need no pretrained weights -------------------------------------------------------------

def gmsd(image: Tensor, reference: Tensor) -> Tensor:
    """Gradient magnitude similarity deviation (Xue et al. 2014), by piq: 0 for equal pictures. Values in [0, 1].

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> labkit.metrics.gmsd(clean, clean)
    tensor(0.)
    """
    return _piq("gmsd", image, reference, smallest=16)


def fsim(image: Tensor, reference: Tensor) -> Tensor:
    """Feature similarity (Zhang et al. 2011), by piq; FSIMc on colour pictures: 1 for equal ones. Values in [0, 1].

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> labkit.metrics.fsim(clean, clean).round(decimals=4)
    tensor(1.)
    """
    validate_image(image, channels=(1, 3))
    return _piq("fsim", image, reference, smallest=16, chromatic=image.shape[-3] == 3)


def haarpsi(image: Tensor, reference: Tensor) -> Tensor:
    """Haar wavelet-based perceptual similarity (Reisenhofer et al. 2018), by piq: 1 for equal pictures.

    Values in [0, 1]; sides of at least 16 pixels. 1 for two black pictures, which the formula leaves open (0 / 0) and which
    darker and darker ones tend to.

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> labkit.metrics.haarpsi(clean, clean).round(decimals=4)
    tensor(1.)
    """
    def lit(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Two black pictures as two grey ones, which are equal as well."""
        black = torch.maximum(image, reference).amax(dim=(1, 2, 3), keepdim=True) < 1e-6       # a 4000th of a level of 256
        return torch.where(black, 0.5, image), torch.where(black, 0.5, reference)

    return _piq("haarpsi", image, reference, smallest=16, prepare=lit).clamp(max=1)


def vif(image: Tensor, reference: Tensor) -> Tensor:
    """Visual information fidelity in the pixel domain (Sheikh, Bovik 2006), by piq: 1 for equal pictures.

    Values in [0, 1]; sides of at least 41 pixels. Not symmetric, and above 1 where `image` has more contrast than
    the reference.

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> labkit.metrics.vif(clean, clean).round(decimals=4)
    tensor(1.)
    """
    def exact(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """In float64, since a variance E[x²] − E[x]² of values up to 255 is wrong by 0.01 in float32."""
        return image.double(), reference.double()

    return _piq("vif_p", image, reference, smallest=41, prepare=exact, instead={torch.conv2d: _by_lines})


def flip(image: Tensor, reference: Tensor, *, pixels_per_degree: float = _PIXELS_PER_DEGREE) -> Tensor:
    """FLIP, what one sees when two pictures alternate on one screen, by flip-evaluator: the mean of `flip_map`.

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> labkit.metrics.flip(clean, clean), bool(labkit.metrics.flip(1 - clean, clean) > 0.1)
    (tensor(0.), True)
    """
    values = flip_map(image, reference, pixels_per_degree=pixels_per_degree).mean(dim=(-3, -2, -1))
    return values.to(image.dtype)


def flip_map(image: Tensor, reference: Tensor, *, pixels_per_degree: float = _PIXELS_PER_DEGREE) -> Tensor:
    """The visible difference at every pixel, in [0, 1]: (1, H, W) or (N, 1, H, W).

    >>> clean = labkit.images.load("pebbles", size=64)
    >>> labkit.metrics.flip_map(1 - clean, clean).shape
    torch.Size([1, 64, 64])

    Parameters
    ----------
    image, reference : grey or colour, values in [0, 1].
    pixels_per_degree : of visual angle, from 1 to 400; the default, 67, is a screen 3840 pixels wide seen from as far as it is wide.

    References
    ----------
    Andersson et al., "FLIP: A Difference Evaluator for Alternating Images", HPG 2020. doi:10.1145/3406183
    """
    package = _package("flip_evaluator", "FLIP")
    # its windows grow with the distance: at 10⁹ the package ends the whole process, near 0 it gives NaN
    validate_number(pixels_per_degree, name="pixels_per_degree", minimum=1, maximum=400)
    first, second, _ = _pair(image, reference, channels=(1, 3), unit_range=True)
    arrays = [batch.detach().float().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
              for batch in (second, first)]
    maps = [package.evaluate(truth, test, "LDR", applyMagma=False, parameters={"ppd": float(pixels_per_degree)})[0]
            for truth, test in zip(*arrays)]
    result = torch.stack([torch.from_numpy(errors[..., 0].copy()) for errors in maps])[:, None]
    return (result[0] if image.ndim == 3 else result).to(image)


# --- learnt metrics -------------------------------------------------------------------------------------------------

def lpips(image: Tensor, reference: Tensor, *, network: str = "vgg") -> Tensor:
    """Learned perceptual image patch similarity, by torchmetrics: 0 for equal pictures. Differentiable.

    >>> labkit.metrics.lpips(image, reference)    # doctest: +SKIP

    Parameters
    ----------
    image, reference : colour, values in [0, 1].
    network : whose features are compared: `"vgg"` (VGG-16), `"alex"` (AlexNet) or `"squeeze"` (SqueezeNet 1.1).

    Raises
    ------
    ImportError : torchmetrics or torchvision is not installed.
    FileNotFoundError : the network's ImageNet weights are not on disk; the message says how to get them. Nothing is
        downloaded here.

    References
    ----------
    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    Lecture part II, "LPIPS".
    """
    validate_choice(network, name="network", choices=("vgg", "alex", "squeeze"))
    image, reference, finish = _pair(image, reference, channels=(3,), unit_range=True)
    model = _lpips_model(network).to(image)
    return finish(model(image, reference, normalize=True).flatten())


def dists(image: Tensor, reference: Tensor) -> Tensor:
    """Deep image structure and texture similarity, by torchmetrics: 0 for equal pictures. Differentiable.

    Tolerates one sample of a texture in place of another. Colour pictures in [0, 1], on VGG-16; errors as `lpips`.

    >>> labkit.metrics.dists(image, reference)    # doctest: +SKIP

    References
    ----------
    Ding, Ma, Wang, Simoncelli, "Image Quality Assessment: Unifying Structure and Texture Similarity", 2020.
    """
    image, reference, finish = _pair(image, reference, channels=(3,), unit_range=True)
    model = _dists_model().to(image)
    return finish(model(image, reference, require_grad=True).flatten())


_TRUNKS = {"vgg": ("VGG16_Weights", "vgg16"), "alex": ("AlexNet_Weights", "alexnet"),
           "squeeze": ("SqueezeNet1_1_Weights", "squeezenet1_1")}


def _require_trunk(network: str, metric: str) -> None:
    """Refuse to go on unless torchvision's weights lie where torchvision looks for them, since it would download."""
    models = _package("torchvision.models", metric)
    weights, function = _TRUNKS[network]
    url = getattr(models, weights).DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not file.is_file():
        raise FileNotFoundError(
            f"{metric} needs torchvision's {function} weights, which are not on disk. Where there is internet, "
            f"`python -c \"import torchvision; torchvision.models.{function}(weights='DEFAULT')\"` downloads them; "
            f"elsewhere, copy {url} to {file}. Metrics that need no weights: gmsd, fsim, haarpsi, vif, flip, "
            "patch_transport_cost.")


@functools.cache
def _lpips_model(network: str) -> torch.nn.Module:
    package = _package("torchmetrics.image.lpip", "LPIPS")
    _require_trunk(network, "LPIPS")
    return package.LearnedPerceptualImagePatchSimilarity(net_type=network, normalize=True).net


@functools.cache
def _dists_model() -> torch.nn.Module:
    package = _package("torchmetrics.functional.image.dists", "DISTS")
    _require_trunk("vgg", "DISTS")
    return package.DISTSNetwork().requires_grad_(False).eval()


# --- sets of pictures, and single pictures as sets of patches -------------------------------------------------------

def frechet_distance(features_a: Tensor, features_b: Tensor) -> Tensor:
    """Squared Fréchet (Wasserstein-2) distance between the Gaussians fitted to two sets of features.

        ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a^½ Σ_b Σ_a^½)^½),  with unbiased covariances.

    What is reported as FID is this squared distance for features of Inception, one vector per picture; as SIFID, for
    the pixels of one picture's feature map. With any other features, say which and use neither name. Few samples bias
    it upwards.

    >>> features = torch.randn(200, 3, generator=labkit.runtime.generator(0), dtype=torch.float64)
    >>> labkit.metrics.frechet_distance(features, features + 1).round(decimals=6)       # 1² for each of three features
    tensor(3., dtype=torch.float64)

    Parameters
    ----------
    features_a, features_b : (number, dimension), at least two samples each, any dimension; computed in float64.

    Returns
    -------
    0-d tensor on the device of `features_a`, of its dtype but float32 at least.

    References
    ----------
    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017. Lecture part II, "FID".
    """
    roots, means = [], []
    for features, name in ((features_a, "features_a"), (features_b, "features_b")):
        if not isinstance(features, Tensor) or not features.is_floating_point() or features.ndim != 2 \
                or len(features) < 2 or not torch.isfinite(features).all():
            raise ValueError(f"{name} is {describe(features)}; expected a finite floating-point tensor (number, "
                             "dimension) with at least 2 rows")
        values = features.double()
        means.append(values.mean(dim=0))
        roots.append(torch.linalg.qr((values - means[-1]) / (len(values) - 1) ** 0.5, mode="r").R)
    if features_a.shape[1] != features_b.shape[1]:
        raise ValueError(f"features_a has dimension {features_a.shape[1]} and features_b {features_b.shape[1]}; "
                         "expected the same")
    # With Σ = RᵀR, the trace of the square root is the sum of the singular values of R_a R_bᵀ: no matrix square root
    # of a covariance that has no full rank.
    spread = sum(root.square().sum() for root in roots) - 2 * torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    distance = (means[0] - means[1]).square().sum() + spread
    return distance.clamp(min=0).to(torch.promote_types(features_a.dtype, torch.float32))


def patch_transport_cost(image: Tensor, reference: Tensor, *, patch_size: int = 11, stride: int = 1,
                         steps: int = 1000, max_patches: int | None = None, seed: int = 0) -> Tensor:
    """Optimal transport cost between the patches of two pictures: do they hold the same patches, equally often?

    The semi-dual problem, with means on both sides (a sum on both sides is unbounded when the numbers differ),

        max over β of  mean_p min_q (‖p − q‖² − β_q) + mean_q β_q,

    by gradient ascent. Any β gives a lower bound of the cost and the best one met is returned: 1000 steps come within
    1 % of the exact cost on photographs of 48 × 48 pixels. ‖p − q‖² is a sum over the patch and its channels.

    >>> image = torch.rand(1, 12, 12, generator=labkit.runtime.generator(0))
    >>> shuffled = image.roll((3, 5), (1, 2))
    >>> cost = labkit.metrics.patch_transport_cost(image, shuffled, patch_size=3, steps=50)
    >>> bool(cost < labkit.metrics.patch_transport_cost(image, torch.zeros(1, 12, 12), patch_size=3, steps=50))
    True

    Parameters
    ----------
    image, reference : as many channels; their sizes may differ. A batch is measured picture by picture.
    patch_size, stride : as for `labkit.patches.extract_patches`.
    steps : of the ascent. Each one reads all distances: 3000 × 3000 take a few milliseconds on two cores.
    max_patches : draw at most so many patches from each picture (the same places whenever the sizes are the same);
        `None` takes all. Fewer patches make the cost larger: compare only values with equal settings.
    seed : of that drawing.

    Raises
    ------
    ValueError : more than 2²⁸ distances (1 GB); the message says what helps.

    References
    ----------
    Thesis, eq. III.5. Houdard et al., "Wasserstein Generative Models for Patch-based Texture Synthesis", SSVM 2021.
    """
    validate_image(image)
    validate_image(reference, name="reference")
    if image.shape[:-2] != reference.shape[:-2]:
        raise ValueError(f"image is {describe(image)} and reference is {describe(reference)}; expected both (C, H, W) "
                         "or both (N, C, H, W), with the same C and N")
    validate_integer(steps, name="steps", minimum=1)
    if max_patches is not None:
        validate_integer(max_patches, name="max_patches", minimum=1)
    if image.ndim == 4:
        return torch.stack([patch_transport_cost(a, b, patch_size=patch_size, stride=stride, steps=steps,
                                                 max_patches=max_patches, seed=seed)
                            for a, b in zip(image, reference)])
    places = [patch_positions(*picture.shape[-2:], patch_size=patch_size, stride=stride)
              for picture in (image, reference)]
    if max_patches is not None:
        places = [place[torch.randperm(len(place), generator=generator(seed))[:max_patches]] for place in places]
    first, second = map(len, places)
    if first * second > _LARGEST_MATRIX:
        raise ValueError(f"the pictures have {first} and {second} patches, {first * second} distances; expected at "
                         f"most {_LARGEST_MATRIX} (a larger stride, max_patches=8192 or smaller pictures)")
    dtype = torch.promote_types(torch.promote_types(image.dtype, reference.dtype), torch.float32)
    sets = []
    for picture, place in zip((image, reference), places):
        windows = picture.detach().to(dtype).unfold(-2, patch_size, 1).unfold(-2, patch_size, 1)
        rows, columns = place.to(picture.device).unbind(dim=1)
        sets.append(windows[:, rows, columns].movedim(1, 0).flatten(1))
    return semi_dual_ascent(squared_distances(*sets), steps=steps)[1].clamp(min=0).to(torch.promote_types(image.dtype, torch.float32))


def single_image_distance(image: Tensor, reference: Tensor, *, seed: int = 0) -> Tensor:
    """Do two pictures have the same local features, equally often? The mean over scales of their Fréchet distances.

    What SIFID is for features of Inception, this is for features that need no download. Pictures of a texture and of
    its resynthesis come near 0; a blurred one does not, whatever its PSNR.

    >>> texture = labkit.images.load("pebbles", size=64)
    >>> other = labkit.images.load("wood", size=64)
    >>> [round(float(labkit.metrics.single_image_distance(image, texture)), 2) for image in (texture, texture.flip(2), other)]
    [0.0, 0.01, 0.22]

    Parameters
    ----------
    image, reference : (C, H, W), as many channels; their sizes may differ, both at least 7 × 7.
    seed : of the random filters (`labkit.features.random_features`). Compare only values with the same one.

    Returns
    -------
    0-d tensor.

    References
    ----------
    Shaham, Dekel, Michaeli, "SinGAN", ICCV 2019 (SIFID); Ustyuzhaninov et al., ICLR 2017 (random filters).
    """
    validate_image(image, batch=False)
    validate_image(reference, name="reference", batch=False)
    if image.shape[0] != reference.shape[0]:
        raise ValueError(f"image is {describe(image)} and reference is {describe(reference)}; expected as many channels")
    scales = [[level.flatten(1).T for level in random_features(picture, seed=seed)] for picture in (image, reference)]
    distances = [frechet_distance(a, b) for a, b in zip(*scales) if min(len(a), len(b)) > 1]
    if not distances:
        raise ValueError(f"image is {describe(image)} and reference is {describe(reference)}; expected more than one window of "
                         "7 × 7 pixels in each")
    return torch.stack(distances).mean()


def pixel_diversity(images: Tensor, *, reference: Tensor | None = None) -> Tensor:
    """How much pictures of a batch differ: the standard deviation over the batch, averaged over pixels and channels.

    The standard deviation is √(Σ (u_i − μ)² / n); the thesis prints the division outside the root.

    >>> labkit.metrics.pixel_diversity(torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]))
    tensor(0.5000)

    Parameters
    ----------
    images : (N, C, H, W), at least two.
    reference : a picture; if given, the result is divided by the standard deviation of its values, as Shaham et al. do.

    Returns
    -------
    0-d tensor.

    References
    ----------
    Thesis, eq. III.8. Shaham, Dekel, Michaeli, "SinGAN", ICCV 2019.
    """
    validate_image(images, name="images")
    if images.ndim != 4 or len(images) < 2:
        raise ValueError(f"images is {describe(images)}; expected a batch (N, C, H, W) of at least 2")
    working = images if images.dtype == torch.float64 else images.float()
    diversity = _root(working.var(dim=0, correction=0)).mean()
    if reference is not None:
        validate_image(reference, name="reference")
        contrast = reference.to(working).std(correction=0)
        if contrast == 0:
            raise ValueError("reference is a flat picture, of standard deviation 0; expected one with contrast")
        diversity = diversity / contrast
    return diversity.to(images.dtype)


# --- what they share ------------------------------------------------------------------------------------------------

def _pair(image: Tensor, reference: Tensor, *, channels: tuple[int, ...] | None = None, unit_range: bool = False
          ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Two pictures as float32 or float64 batches, and what turns the values (N,) into the result."""
    validate_image(image, channels=channels)
    validate_image(reference, name="reference", channels=channels)
    if image.shape != reference.shape:
        raise ValueError(f"image is {describe(image)} and reference is {describe(reference)}; expected one shape")
    if unit_range:
        for picture, name in ((image, "image"), (reference, "reference")):
            low, high = map(float, torch.aminmax(picture.detach()))
            if low < 0 or high > 1:
                raise ValueError(f"{name} has values from {low:.3g} to {high:.3g}; expected [0, 1], what a screen can "
                                 f"show ({name}.clamp(0, 1) makes it so)")
    dtype, single = image.dtype, image.ndim == 3
    working = torch.promote_types(torch.promote_types(dtype, reference.dtype), torch.float32)
    first, second = ((picture[None] if single else picture).to(working) for picture in (image, reference))
    return first, second, lambda values: (values[0] if single else values).to(dtype)


def _root(values: Tensor) -> Tensor:
    """√, of slope 0 at 0, where autograd would go on with NaN."""
    zero = values == 0
    return torch.where(zero, 0, torch.where(zero, 1, values).sqrt())


def _weighted(values: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Σ down(i) across(j) values(y + i, x + j), for every window inside; torch's convolutions in float64 take many times as long."""
    for axis, line in ((-2, down), (-1, across)):
        number = values.shape[axis] - len(line) + 1
        total = torch.zeros_like(values.narrow(axis, 0, number))
        for k, weight in enumerate(line.tolist()):
            total = torch.add(total, values.narrow(axis, k, number), alpha=weight)
        values = total
    return values


def _by_lines(planes: Tensor, kernel: Tensor) -> Tensor:
    """A convolution with a kernel (1, 1, n, n) of sum 1 that is a product of two lines, as a Gaussian is."""
    return _weighted(planes, kernel[0, 0].sum(1), kernel[0, 0].sum(0))


class _Instead(TorchFunctionMode):
    """Some of torch's functions by others, in a package's code."""

    def __init__(self, others: dict[Any, Callable]) -> None:
        super().__init__()
        self._others = others

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        return self._others.get(func, func)(*args, **(kwargs or {}))


def _piq(name: str, image: Tensor, reference: Tensor, *, smallest: int = 1,
         prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
         instead: dict[Any, Callable] | None = None, **options: bool) -> Tensor:
    package = _package("piq", name.removesuffix("_p").upper())
    image, reference, finish = _pair(image, reference, channels=(1, 3), unit_range=True)
    if min(image.shape[-2:]) < smallest:
        raise ValueError(f"image is {tuple(image.shape[-2:])} pixels; expected at least {smallest} along each side")
    if prepare is not None:
        image, reference = prepare(image, reference)
    with _Instead({torch.sqrt: _root, Tensor.sqrt: _root, **(instead or {})}):
        return finish(getattr(package, name)(image, reference, reduction="none", **options))


def _package(name: str, metric: str) -> ModuleType:
    package = name.split(".")[0].replace("_", "-")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        asked = '"labkit[metrics]"' if package in ("piq", "flip-evaluator") else package
        raise ImportError(f"{metric} is computed by the package {package}, which could not be imported ({error}); "
                          f"`pip install {asked}` installs it") from error
    except (RuntimeError, OSError) as error:      # so ends the import of a torchvision that was built for another torch
        raise ImportError(f"{metric} is computed by the package {package}, which could not be imported ({error}). "
                          "torch and torchvision must be of one build: install both from the same place") from error
