"""A diffusion model of one picture: trained on what is known of it, without a glance at what is not."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import labkit
from labkit.diffusion_inpainting.diffusion import WEIGHTINGS, Diffusion, from_chain, to_chain
from labkit.diffusion_inpainting.masks import brush_masks, validate_hole
from labkit.diffusion_inpainting.network import UNet
from labkit.training import Training, cosine_decay, read, write_atomically
from labkit.validation import describe, validate_choice, validate_image, validate_integer, validate_number, validate_seed

__all__ = ["WARM_UP", "Crops", "Examples", "Inpainter", "inpainting_loss", "regress", "regression_loss",
           "train_inpainter", "train_intervals", "train_unconditional"]

FORMAT = "labkit diffusion inpainter, 1"
COVERED = 0.5           # share of the known pixels that crops without a hole must reach, or else crops with one are used
KNOWN = 0.5             # share of a crop that must then be known
WARM_UP = 50            # training steps until the full learning rate, at which channels of a fresh network may die
SMALLEST_CROP = 16      # pixels; an eighth of it is left at the coarsest resolution of the network


class Inpainter:
    """A trained network with its chain: a denoiser for `inpaint`.

    Attributes
    ----------
    network : the `UNet`, with averaged weights.
    diffusion : the chain it was trained for.
    interval : (first, last) step it was trained for, both included; `None` for all.
    statistics : of the picture: its size, the mean, standard deviation, minimum and maximum of each channel over the known
        pixels, and a fingerprint of them and the mask.
    provenance : what it was made by and how: versions, date, settings, steps, seconds.
    history : the losses of its training; not saved.
    """

    def __init__(self, network: UNet, *, diffusion: Diffusion | None = None, interval: tuple[int, int] | None = None,
                 statistics: Mapping | None = None, provenance: Mapping | None = None,
                 history: Mapping[str, list[float]] | None = None):
        self.network, self.diffusion = network, diffusion or Diffusion()
        self.interval = _validated_interval(interval, self.diffusion)
        self.statistics, self.provenance, self.history = dict(statistics or {}), dict(provenance or {}), dict(history or {})
        self._called: nn.Module = network

    def __repr__(self) -> str:
        weights = sum(parameter.numel() for parameter in self.network.parameters())
        steps = "all steps" if self.interval is None else f"steps {self.interval[0]} to {self.interval[1]}"
        return f"Inpainter({weights:,} weights, {self.provenance.get('steps', 0)} training steps, for {steps})"

    @torch.no_grad()
    def predict(self, x_t: Tensor, known: Tensor, mask: Tensor, t: int) -> Tensor:
        """The estimate of x₀.

        Parameters
        ----------
        x_t : (N, C, H, W), the chain at step t.
        known : (N, C, H, W), y = (1 − M) ⊙ x₀.
        mask : bool (N, 1, H, W), `True` where pixels are missing.
        t : step, from 1 to the length of the chain.

        Returns
        -------
        Tensor of the shape, dtype and device of `x_t`.
        """
        channels = self.network.settings["channels"]
        if x_t.shape[1] != channels:
            raise ValueError(f"x_t is {describe(x_t)}; this model was trained on {channels} channel{'s'[:channels > 1]}")
        weights = next(self.network.parameters())
        times = torch.full((len(x_t),), t / self.diffusion.steps, device=weights.device)
        mixed = self.provenance.get("settings", {}).get("mixed_precision", False)
        with torch.autocast(weights.device.type, torch.bfloat16, enabled=mixed):
            estimate = self._called(x_t.to(weights), known.to(weights), mask.to(weights), times)
        # a compiled network writes its next estimate over this one
        return estimate.to(x_t, copy=self._called is not self.network)

    def compile(self) -> Inpainter:
        """Let `predict` run the network through `torch.compile`: the first call for each size takes long, the others less.

        For many steps of sampling on a GPU, where starting so small layers one by one takes longer than computing them.
        """
        self._called = torch.compile(self.network, mode="reduce-overhead")
        return self

    def to(self, device: str | torch.device) -> Inpainter:
        """Move the network to a device."""
        _placed(self.network, device)
        return self

    def save(self, path: str | os.PathLike) -> None:
        """Write everything but the history to one file of about 650 kB."""
        write_atomically({"format": FORMAT, "network": self.network.settings, "weights": self.network.state_dict(),
                          "diffusion": asdict(self.diffusion), "interval": self.interval, "statistics": self.statistics,
                          "provenance": self.provenance}, path)

    @classmethod
    def load(cls, path: str | os.PathLike, *, device: str | torch.device = "cpu") -> Inpainter:
        """The model that `save` wrote.

        Raises
        ------
        FileNotFoundError : there is no such file.
        ValueError : it is not one that `save` wrote.
        """
        saved = read(path)
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise ValueError(f"{path} holds no model; expected a file that Inpainter.save wrote")
        network = UNet(**saved["network"])
        network.load_state_dict(saved["weights"])
        return cls(network, diffusion=Diffusion(**saved["diffusion"]), interval=saved["interval"],
                   statistics=saved["statistics"], provenance=saved["provenance"]).to(device)


def train_inpainter(image: Tensor, mask: Tensor, *, steps: int = 3000, batch_size: int = 2, crop_size: int = 64,
                    learning_rate: float = 1e-3, weighting: str = "uniform", interval: tuple[int, int] | None = None,
                    diffusion: Diffusion | None = None, thickness: float | None = None, width: int = 32,
                    average: float | None = 0.995, start: Inpainter | None = None, mixed_precision: bool | None = None,
                    compile: bool = False, checkpoint: str | os.PathLike | None = None, every: int = 500,
                    callback: Callable[[Training], None] | None = None, seed: int = 0) -> Inpainter:
    """Train a small network to fill holes in one picture.

    A step takes random crops x₀ of the picture, paints a hole M in each, draws t and noise, and lowers the error of the
    estimate of x₀ in the hole (eq. V.2). Crops that touch the missing pixels are left out where the others show enough of the
    picture. Where they do not, the missing pixels of a crop are hidden from the network as the painted hole is, and its
    error there does not count: no value under the mask ever has an influence.

    Interrupting keeps what was learnt so far; with a `checkpoint` a later call goes on from there.

    Parameters
    ----------
    image : (C, H, W) in [0, 1]; the network is trained on its device.
    mask : bool (1, H, W), `True` where pixels are missing; some, not all.
    steps : number of training steps.
    batch_size : crops in a step.
    crop_size : side of a crop in pixels, at least 16; at most the shorter side of the picture is taken.
    learning_rate : of Adam at its highest; it falls to 0 along a cosine.
    weighting : of the steps of the chain, `"uniform"`, `"elbo"` or `"min_snr"`; see `Diffusion.loss_weights`.
    interval : (first, last), both included: train for these steps of the chain only; `None` for all.
    diffusion : the chain; `None` is `Diffusion()`.
    thickness : of the brush that paints training holes, in pixels; `None` takes the width of the hole at its widest, so that
        training and use are alike.
    width : channels of the network's layers.
    average : decay of the average of the weights; `None` keeps the last weights.
    start : a model whose weights to begin with, instead of random ones.
    mixed_precision, compile, checkpoint, every, callback : see `labkit.training.Training` and its `run`. In a callback,
        `Inpainter(training.averaged)` is the model so far.
    seed : of the first weights and all that is drawn.

    Returns
    -------
    Inpainter, with averaged weights.

    Raises
    ------
    ValueError : sizes that do not fit, a mask that is empty or full, a number out of its range, a checkpoint of another
        training.

    References
    ----------
    Thesis, sections V.2 and VI.2.2.
    """
    validate_hole(image, mask)
    return _train(image, mask, task="inpainting", steps=steps, batch_size=batch_size, crop_size=crop_size,
                  learning_rate=learning_rate, weighting=weighting, interval=interval, diffusion=diffusion, thickness=thickness,
                  width=width, average=average, start=start, mixed_precision=mixed_precision, compile=compile,
                  checkpoint=checkpoint, every=every, callback=callback, seed=seed)


def train_intervals(image: Tensor, mask: Tensor, *, intervals: int = 10, steps: int = 3000, start: Inpainter | None = None,
                    diffusion: Diffusion | None = None, checkpoint: str | os.PathLike | None = None,
                    **settings: Any) -> list[Inpainter]:
    """Train one network for a part of the chain at a time, from the noisiest part to the first steps.

    The chain is divided into intervals of equal length. The network is trained for the last one, kept, trained on for the
    one before, and so on, so that each of the models serves its interval only.

    Parameters
    ----------
    image, mask, diffusion : as for `train_inpainter`.
    intervals : number of parts.
    steps : training steps of all intervals together, at least one for each.
    start : a model whose weights the first training begins with, such as one for the whole chain.
    checkpoint : as for `train_inpainter`; every interval has a file of its own, with its number before the suffix.
    settings : others of `train_inpainter`, but `interval`.

    Returns
    -------
    List of `Inpainter`, which `inpaint` takes as its model. When the training is interrupted, the last one serves the rest of
    the chain as well.

    References
    ----------
    Thesis, section VI.2.3; Algorithm 5 samples each interval as soon as it is trained, which gives the same fill and keeps
    one network only.
    """
    if diffusion is not None and not isinstance(diffusion, Diffusion):
        raise ValueError(f"diffusion is {describe(diffusion)}; expected a Diffusion or None")
    if start is not None and not isinstance(start, Inpainter):
        raise ValueError(f"start is {describe(start)}; expected an Inpainter or None")
    chain = diffusion or (start.diffusion if start is not None else Diffusion())
    validate_integer(intervals, name="intervals", minimum=1, maximum=chain.steps)
    validate_integer(steps, name="steps", minimum=intervals)
    models: list[Inpainter] = []
    bounds = [chain.steps * number // intervals for number in range(intervals, -1, -1)]
    for number, (last, before) in enumerate(zip(bounds, bounds[1:])):
        share = steps * (number + 1) // intervals - steps * number // intervals
        path = None if checkpoint is None else Path(checkpoint).with_name(
            f"{Path(checkpoint).stem}.{number}{Path(checkpoint).suffix}")
        models.append(train_inpainter(image, mask, steps=share, interval=(before + 1, last), diffusion=chain,
                                      start=models[-1] if models else start, checkpoint=path, **settings))
        if models[-1].provenance["steps"] < share:
            models[-1].interval = (1, last)
            break
    return models


def train_unconditional(image: Tensor, mask: Tensor | None = None, *, steps: int = 3000, **settings: Any) -> Inpainter:
    """Train a network on whole crops of a picture, for `inpaint_by_resampling` or to draw new pictures of its kind.

    It knows nothing of holes: `predict` ignores the known pixels and the mask.

    Parameters
    ----------
    image : (C, H, W) in [0, 1].
    mask : bool (1, H, W), `True` where pixels are missing; crops that touch them are left out, and if few are left, smaller
        crops are taken. `None`: nothing is missing.
    steps, settings : as for `train_inpainter`; `thickness` has no meaning here.

    Raises
    ------
    ValueError : as `train_inpainter`; also when not even the smallest crops avoid the missing pixels.
    """
    if mask is None:
        validate_image(image, batch=False)
        mask = torch.zeros(1, *image.shape[-2:], dtype=torch.bool)
    else:
        validate_hole(image, mask)
    return _train(image, mask, task="unconditional", steps=steps, **settings)


def regress(image: Tensor, mask: Tensor, *, steps: int = 3000, **settings: Any) -> Tensor:
    """Fill the missing pixels with the network's direct guess, trained by the squared error and without a chain (eq. V.4).

    The network is the one of `train_inpainter`, with x_t = 0 and t = steps. What lowers the squared error most is the mean of
    all plausible fills, which is blurred.

    Parameters
    ----------
    image, mask : as for `train_inpainter`.
    steps, settings : as for `train_inpainter`; `weighting` and `interval` have no meaning here.

    Returns
    -------
    Tensor of the shape, dtype and device of `image`; known pixels are returned as they were, to the bit.
    """
    validate_hole(image, mask)
    model = _train(image, mask, task="regression", steps=steps, **settings)
    hole = mask.to(image.device)
    known = torch.where(hole, 0, to_chain(image.detach().float()))[None]
    guess = model.predict(torch.zeros_like(known), known, hole[None], model.diffusion.steps)[0]
    return torch.where(hole, from_chain(guess).clamp(0, 1).to(image.dtype), image.detach())


def _train(image: Tensor, mask: Tensor, *, task: str, steps: int, batch_size: int = 2, crop_size: int = 64,
           learning_rate: float = 1e-3, weighting: str = "uniform", interval: tuple[int, int] | None = None,
           diffusion: Diffusion | None = None, thickness: float | None = None, width: int = 32, average: float | None = 0.995,
           start: Inpainter | None = None, mixed_precision: bool | None = None, compile: bool = False,
           checkpoint: str | os.PathLike | None = None, every: int = 500,
           callback: Callable[[Training], None] | None = None, seed: int = 0) -> Inpainter:
    """Train a network for a task, `"inpainting"`, `"unconditional"` or `"regression"`, and give it its papers."""
    validate_integer(steps, name="steps", minimum=1)
    validate_seed(seed)
    validate_number(learning_rate, name="learning_rate", above=0, maximum=1000)
    if diffusion is not None and not isinstance(diffusion, Diffusion):
        raise ValueError(f"diffusion is {describe(diffusion)}; expected a Diffusion or None")
    if start is not None and not isinstance(start, Inpainter):
        raise ValueError(f"start is {describe(start)}; expected an Inpainter or None")
    chain = diffusion or (start.diffusion if start is not None else Diffusion())
    crops = Crops(image, mask, crop_size=crop_size, whole=task == "unconditional")
    if thickness is None:
        thickness = max(1.0, min(_widest(mask), crops.side / 2))
    examples = Examples(crops, task=task, diffusion=chain, interval=interval, weighting=weighting, thickness=thickness,
                        batch_size=batch_size)
    network = _network(image, width=width, start=start, conditional=task != "unconditional", seed=seed)
    statistics = _statistics(image, mask)
    settings = {"task": task, "steps": steps, "batch_size": batch_size, "crop_size": crops.side,
                "learning_rate": learning_rate, "weighting": weighting, "interval": examples.interval,
                "diffusion": asdict(chain), "thickness": float(thickness), "network": network.settings,
                "picture": statistics["fingerprint"]}
    rate = cosine_decay(learning_rate, steps=steps, warm_up=min(WARM_UP, steps // 10))
    training = Training(network, learning_rate=rate, average=average,
                        mixed_precision=mixed_precision, compile=compile, seed=seed, settings=settings)
    began = time.perf_counter()
    training.run(examples.loss, steps=steps, description=f"training ({task})", checkpoint=checkpoint, every=every,
                 callback=callback)
    provenance = {"labkit": labkit.__version__, "torch": str(torch.__version__), "device": training.device.type,
                  "date": datetime.now(UTC).isoformat(timespec="seconds"), "steps": training.step,
                  "seconds": round(time.perf_counter() - began, 1),
                  "settings": settings | {"average": average, "mixed_precision": training.mixed_precision, "seed": seed}}
    return Inpainter(training.averaged, diffusion=chain, interval=interval, statistics=statistics, provenance=provenance,
                     history=training.history)


class Crops:
    """Random crops of the known part of a picture, in the chain's values.

    Parameters
    ----------
    image, mask : as for `train_inpainter`.
    crop_size : side of a crop in pixels.
    whole : whether crops must not hold missing pixels, and are made smaller for that.

    Attributes
    ----------
    side : of the crops, at most the shorter side of the picture.
    avoiding : whether no crop holds missing pixels.
    """

    def __init__(self, image: Tensor, mask: Tensor, *, crop_size: int, whole: bool = False):
        validate_integer(crop_size, name="crop_size", minimum=SMALLEST_CROP)
        self._known = ~mask[0].to(image.device)
        # nothing that is missing goes any further than this line
        self._picture = torch.where(self._known, to_chain(image.detach().float()), 0)
        self.side = min(crop_size, *self._known.shape)
        if self.side < SMALLEST_CROP:
            raise ValueError(f"image is {tuple(self._known.shape)} pixels (height, width); expected at least {SMALLEST_CROP} in "
                             "either direction")
        free = self._free(self.side)
        while whole and free is None:
            self.side = self.side * 3 // 4
            if self.side < SMALLEST_CROP:
                raise ValueError(f"mask leaves too few whole crops of {SMALLEST_CROP}×{SMALLEST_CROP} pixels; expected that "
                                 f"they show {COVERED:.0%} of what is known")
            free = self._free(self.side)
        self.avoiding = free is not None
        if free is None:
            share = self._share(self.side)
            free = share >= min(KNOWN, float(share.max()))
        self._places = free.nonzero()

    def _share(self, side: int) -> Tensor:
        """How much of each crop is known, by its first pixel."""
        return F.avg_pool2d(self._known[None].double(), side, stride=1)[0]

    def _free(self, side: int) -> Tensor | None:
        """Which crops hold no missing pixel; `None` when they show too little of the picture."""
        free = self._share(side) > 1 - 0.5 / side ** 2
        # a pixel is shown when a free crop begins at most `side` − 1 pixels above and to the left of it
        shown = F.max_pool2d(F.pad(free[None].float(), (side - 1,) * 4), side, stride=1)[0] > 0
        return free if shown.sum() >= COVERED * self._known.sum() else None

    def draw(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Crops (number, C, side, side), zero where pixels are missing, and a bool (number, 1, side, side), `True` elsewhere."""
        chosen = torch.randint(len(self._places), (number,), generator=generator, device=self._places.device)
        place = self._places[chosen]
        offsets = torch.arange(self.side, device=place.device)
        rows, columns = (place[:, 0, None] + offsets)[:, :, None], (place[:, 1, None] + offsets)[:, None, :]
        return self._picture[:, rows, columns].movedim(0, 1), self._known[rows, columns][:, None]


class Examples:
    """What a training step is made of: crops, painted holes, steps of the chain and noise."""

    def __init__(self, crops: Crops, *, task: str, diffusion: Diffusion, interval: tuple[int, int] | None, weighting: str,
                 thickness: float, batch_size: int):
        validate_integer(batch_size, name="batch_size", minimum=1)
        validate_choice(weighting, name="weighting", choices=WEIGHTINGS)
        validate_number(thickness, name="thickness", above=0)
        self.crops, self.task, self.diffusion, self.weighting = crops, task, diffusion, weighting
        self.thickness, self.batch_size = thickness, batch_size
        self.interval = _validated_interval(interval, diffusion)
        self.first, self.last = self.interval or (1, diffusion.steps)

    def loss(self, network: nn.Module, generator: torch.Generator) -> Tensor:
        """Of one step."""
        x0, known = self.crops.draw(self.batch_size, generator)
        if self.task == "unconditional":
            painted = torch.ones_like(known)        # the error counts everywhere
        else:
            painted = brush_masks(self.batch_size, *x0.shape[-2:], thickness=self.thickness, generator=generator)
        if self.task == "regression":
            return regression_loss(network, x0, known=known, painted=painted)
        t = self.times(generator)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        return inpainting_loss(network, x0, known=known, painted=painted, t=t, noise=noise, diffusion=self.diffusion,
                               weighting=self.weighting)

    def times(self, generator: torch.Generator) -> Tensor:
        """A step of the chain for every crop: uniform, but one in each of as many equal parts, which varies less."""
        number, device = self.batch_size, generator.device
        place = (torch.arange(number, device=device) + torch.rand(number, generator=generator, device=device)) / number
        return (self.first + (place * (self.last - self.first + 1)).long()).clamp(max=self.last)


def inpainting_loss(network: nn.Module, x0: Tensor, *, known: Tensor, painted: Tensor, t: Tensor, noise: Tensor,
                    diffusion: Diffusion, weighting: str = "uniform") -> Tensor:
    """Mean squared error of the estimate of x₀ in the painted holes, without the pixels that are missing from the picture.

    With M_test the missing pixels and M_train the painted ones, the network is given M = M_test or M_train,
    y = (1 − M) ⊙ x₀ and x_t = √ᾱ_t (1 − M_test) ⊙ x₀ + √(1 − ᾱ_t) ε; the error counts where M_train ⊙ (1 − M_test) is 1
    (section VI.2.2).

    Parameters
    ----------
    network : called with x_t, y, M and t / steps, as `UNet`.
    x0 : (N, C, H, W) in [−1, 1]; values where `known` is `False` have no influence.
    known, painted : bool (N, 1, H, W), 1 − M_test and M_train.
    t : integer (N,), steps of the chain.
    noise : ε, of the shape of `x0`.
    diffusion, weighting : the chain, and the weights of its steps.
    """
    x0 = torch.where(known, x0, 0)
    missing = painted | ~known
    x_t = diffusion.add_noise(x0, t, noise)
    estimate = network(x_t, torch.where(missing, 0, x0), missing.to(x0), t / diffusion.steps)
    weights = diffusion.loss_weights(t, kind=weighting).to(x0)[:, None, None, None]
    return _mean_error(estimate, x0, counted=painted & known, weights=weights)


def regression_loss(network: nn.Module, x0: Tensor, *, known: Tensor, painted: Tensor) -> Tensor:
    """`inpainting_loss` without a chain (eq. V.4): the network is given x_t = 0 and t / steps = 1 beside y and M."""
    x0 = torch.where(known, x0, 0)
    missing = painted | ~known
    ones = torch.ones(len(x0), device=x0.device)
    estimate = network(torch.zeros_like(x0), torch.where(missing, 0, x0), missing.to(x0), ones)
    return _mean_error(estimate, x0, counted=painted & known, weights=1.0)


def _mean_error(estimate: Tensor, x0: Tensor, *, counted: Tensor, weights: Tensor | float) -> Tensor:
    squares = (weights * counted * (estimate.to(x0) - x0).square()).sum()
    return squares / (counted.sum() * x0.shape[1]).clamp(min=1)


def _network(image: Tensor, *, width: int, start: Inpainter | None, conditional: bool, seed: int) -> UNet:
    """A network with random weights that depend on the seed alone, or with those of `start`."""
    settings: dict[str, Any] = {"channels": image.shape[0], "width": width, "levels": 4, "conditional": conditional}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)       # torch.manual_seed would also change the GPU's
        network = UNet(**settings)
    if start is not None:
        if start.network.settings != settings:
            raise ValueError(f"start is a network with {start.network.settings}; expected {settings}")
        network.load_state_dict(start.network.state_dict())
    return _placed(network, image.device)


def _placed(network: UNet, device: str | torch.device) -> UNet:
    """On a device, with the channels of a pixel side by side in memory, which saves a quarter of the time."""
    return network.to(device, memory_format=torch.channels_last)


def _statistics(image: Tensor, mask: Tensor) -> dict:
    """Numbers that tell which picture a model is of, taken from its known pixels."""
    known = image.detach()[:, ~mask[0].to(image.device)].double().cpu()
    fingerprint = hashlib.sha256(known.numpy().tobytes() + mask.cpu().numpy().tobytes()).hexdigest()[:16]
    return {"fingerprint": fingerprint, "height": image.shape[-2], "width": image.shape[-1], "missing": int(mask.sum()),
            "mean": known.mean(1).tolist(), "standard_deviation": known.std(1, correction=0).tolist(),
            "minimum": known.amin(1).tolist(), "maximum": known.amax(1).tolist()}


def _validated_interval(interval: tuple[int, int] | None, diffusion: Diffusion) -> tuple[int, int] | None:
    if interval is None:
        return None
    if not isinstance(interval, (tuple, list)) or len(interval) != 2:
        raise ValueError(f"interval is {describe(interval)}; expected (first, last) step, or None for all")
    validate_integer(interval[0], name="interval[0]", minimum=1, maximum=diffusion.steps)
    validate_integer(interval[1], name="interval[1]", minimum=interval[0], maximum=diffusion.steps)
    return int(interval[0]), int(interval[1])


def _widest(mask: Tensor) -> float:
    """Diameter of the largest disc inside the hole, in pixels."""
    from scipy.ndimage import distance_transform_edt

    framed = F.pad(mask[0].cpu(), (1, 1, 1, 1))     # the hole ends where the picture does
    return 2 * float(distance_transform_edt(framed.numpy()).max())
