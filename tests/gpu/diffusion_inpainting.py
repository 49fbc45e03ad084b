"""Chapter 8 on a card: the network beside the CPU's, and slices of the thesis's training and sampling.

The thesis trains 15 min on a V100 and fills 256×256 pixels in 3 s; we aim at 90 s and 0.5 s on an H100. A slice of each is
timed and extrapolated, which the result says.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from labkit.diffusion_inpainting import Diffusion, Inpainter, UNet, inpaint
from labkit.diffusion_inpainting.inpainter import Crops, Examples, inpainting_loss
from labkit.training import Training
from tests.gpu.case import Aim, Case, LeftOut, picture

__all__ = ["cases"]

THESIS_STEPS = 15000
TRAINING = Aim(f"{THESIS_STEPS} training steps of 16 crops of 256×256", 90)
SAMPLING = Aim("1000 sampling steps, 1 of 256×256", 0.5)


def cases(small: bool) -> Iterator[Case]:
    """The loss and its gradient, training steps, sampling steps; small ones for a machine without a card."""
    side, crop, batch, steps = (32, 16, 2, 2) if small else (512, 256, 16, 25)
    yield _gradient(16 if small else 64)
    image, mask = picture(3, side, side, seed=7), _hole(side, side // 2)
    for name, mixed, compiled in (
        ("float32", False, False),
        ("bfloat16", True, False),
        ("bfloat16, compiled", True, True),
    ):
        if small and compiled:
            continue  # compiling takes a minute
        yield Case(
            f"{steps} training steps, {name}, {batch} crops of {crop}²",
            (image, mask),
            _train,
            0,
            "losses that are not finite; a card draws other random numbers than the CPU",
            alone=True,
            difference=_not_finite,
            prepare=_trainer(crop, batch, steps, mixed, compiled),
            operations=steps * _operations(crop, batch, backward=True),
            aim=Aim(TRAINING.what, TRAINING.seconds, THESIS_STEPS / steps),
        )
    side, steps = (16, 2) if small else (256, 100)
    image, mask = picture(3, side, side, seed=8), _hole(side, side // 4)
    for name, mixed, compiled in (
        ("float32", False, False),
        ("bfloat16", True, False),
        ("bfloat16, compiled", True, True),
    ):
        if small and compiled:
            continue
        yield Case(
            f"{steps} sampling steps, {name}, {side}²",
            (image, mask),
            _sample,
            0,
            "known pixels changed or values outside [0, 1]; a card draws other random numbers than the CPU",
            alone=True,
            difference=_Unfit(image, mask),
            prepare=_sampler(steps, mixed, compiled),
            operations=steps * _operations(side, 1, backward=False),
            aim=Aim(SAMPLING.what, SAMPLING.seconds, 1000 / steps),
        )


def _hole(side: int, width: int) -> Tensor:
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    start = (side - width) // 2
    mask[:, start : start + width // 2, start : start + width] = True
    return mask


def _network() -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet()


def _operations(side: int, batch: int, *, backward: bool) -> float:
    """Of the convolutions, from one smaller picture: they grow with the pixels."""
    small, network = 16, _network()
    with FlopCounterMode(display=False) as counter:
        x = torch.zeros(1, 3, small, small)
        estimate = network(x, x, x[:, :1], torch.zeros(1))
        if backward:
            estimate.sum().backward()
    return counter.get_total_flops() * batch * (side / small) ** 2


# --- one gradient, on both devices ------------------------------------------------------------------------------------


def _gradient(side: int) -> Case:
    x0 = 2 * torch.stack([picture(3, side, side, seed=seed) for seed in (9, 10)]) - 1
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    painted = torch.stack([_hole(side, side // 2)] * 2)
    return Case(
        f"loss and its gradient, 2 of {side}²",
        (x0, noise, painted),
        _loss_and_gradient,
        1e-4,
        "share of the largest entry; float32 sums over all pixels in another order, without TensorFloat-32",
        difference=_share,
        prepare=lambda x0, *others: (_network().to(x0.device), x0, *others),
    )


def _loss_and_gradient(network: UNet, x0: Tensor, noise: Tensor, painted: Tensor) -> tuple[Tensor, ...]:
    network.zero_grad(set_to_none=True)
    exactly = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with exactly:
        loss = inpainting_loss(
            network,
            x0,
            known=torch.ones_like(painted),
            painted=painted,
            noise=noise,
            t=torch.tensor([100, 700], device=x0.device),
            diffusion=Diffusion(),
        )
        loss.backward()
    return loss.detach(), torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def _share(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, expected, strict=True))


# --- slices -----------------------------------------------------------------------------------------------------------


def _trainer(crop: int, batch: int, steps: int, mixed: bool, compiled: bool):
    def prepare(image: Tensor, mask: Tensor) -> tuple:
        if compiled:
            _can_compile()
        network = _network().to(image.device).to(memory_format=torch.channels_last)
        examples = Examples(
            Crops(image, mask, crop_size=crop),
            task="inpainting",
            diffusion=Diffusion(),
            interval=None,
            weighting="uniform",
            thickness=crop / 8,
            batch_size=batch,
        )
        return (
            Training(network, learning_rate=1e-3, average=0.995, mixed_precision=mixed, compile=compiled),
            examples,
            steps,
        )

    return prepare


def _train(training: Training, examples: Examples, steps: int) -> Tensor:
    training.run(examples.loss, steps=training.step + steps)  # goes on where the last call ended
    return torch.tensor(training.history["loss"][-steps:])


def _not_finite(losses: Tensor, expected: None) -> float:
    return float((~torch.isfinite(losses)).sum())


def _sampler(steps: int, mixed: bool, compiled: bool):
    def prepare(image: Tensor, mask: Tensor) -> tuple:
        if compiled:
            _can_compile()
        network = _network().eval().to(memory_format=torch.channels_last)
        model = Inpainter(network, provenance={"settings": {"mixed_precision": mixed}}).to(image.device)
        return image, mask, model.compile() if compiled else model, steps

    return prepare


def _sample(image: Tensor, mask: Tensor, model: Inpainter, steps: int) -> Tensor:
    return inpaint(image, mask, model=model, sampling_steps=steps)


class _Unfit:
    """How many values of a fill are impossible."""

    def __init__(self, image: Tensor, mask: Tensor):
        self.image, self.known = image, (~mask).expand_as(image)

    def __call__(self, found: Tensor, expected: None) -> float:
        changed = (found.reshape(self.image.shape) != self.image) & self.known
        return float((changed | ~((found >= 0) & (found <= 1)).reshape(self.image.shape)).sum())


def _can_compile() -> None:
    if importlib.util.find_spec("triton") is None:
        raise LeftOut("it needs triton, which is not installed")
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        raise LeftOut("it needs a C compiler, and there is none")
