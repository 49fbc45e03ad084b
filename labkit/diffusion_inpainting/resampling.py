"""RePaint: fill holes with a model that was never told of holes, by going back and forth along the chain.

At every step down, the missing pixels come from the model and the known ones from the picture, noised to the same level. The two
were drawn without regard to each other; so every few steps the chain jumps back up, by the forward process, and comes down again:
what is known spreads into the hole.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labkit.diffusion_inpainting.diffusion import Diffusion
from labkit.diffusion_inpainting.sampling import (Denoiser, Moment, ancestral_step, chosen_chain, conditioning, draw,
                                                  model_at, noise_on, restored)
from labkit.runtime import progress
from labkit.validation import validate_callback, validate_integer

__all__ = ["inpaint_by_resampling", "resampling_schedule"]


def resampling_schedule(steps: int, *, resamplings: int = 10, jump_length: int = 10) -> list[int]:
    """The levels a RePaint chain visits, from `steps` (noise) down to 0 (picture); some steps lead up.

    >>> labkit.diffusion_inpainting.resampling.resampling_schedule(6, jump_length=2, resamplings=2)
    [6, 5, 4, 3, 5, 4, 3, 2, 1, 3, 2, 1, 0]

    Going down, the first time the chain stands at the levels 1, 1 + j, 1 + 2j, … (j = `jump_length`, levels from which a jump ends
    at or below `steps`), it jumps up by j and comes down again, so that each stretch of j steps is walked `resamplings` times. A jump
    is one entry here, since q(x_{t+j} | x_t) is drawn in one go. A stretch contains no shorter jumps: those of the lower levels come
    when they are first reached. From level 0, the finished picture, nothing jumps.

    Parameters
    ----------
    steps : levels of the chain.
    resamplings : r of the paper, how often each stretch is walked, at least 1 (no jump).
    jump_length : j of the paper, at least 1.

    References
    ----------
    Lugmayr et al., "RePaint: Inpainting using Denoising Diffusion Probabilistic Models", CVPR 2022, section 4.2 and the schedule of
    its appendix (which counts levels from −1, the picture, to steps − 1).
    """
    validate_integer(steps, name="steps", minimum=1)
    validate_integer(resamplings, name="resamplings", minimum=1)
    validate_integer(jump_length, name="jump_length", minimum=1)
    jumps = dict.fromkeys(range(1, steps - jump_length + 1, jump_length), resamplings - 1)
    levels = [steps]
    while levels[-1] > 0:
        level = levels[-1] - 1
        levels.append(level)
        if jumps.get(level, 0) > 0:
            jumps[level] -= 1
            levels.append(level + jump_length)
    return levels


def inpaint_by_resampling(image: Tensor, mask: Tensor, *, model: Denoiser, samples: int = 1, sampling_steps: int | None = 250,
                          resamplings: int = 10, jump_length: int = 10, diffusion: Diffusion | None = None, seed: int = 0,
                          callback: Callable[[Moment], object] | None = None) -> Tensor:
    """Fill the missing pixels with a model of whole pictures (RePaint).

    The model is asked with an empty y and a full mask, so that it knows nothing of the picture but x_t, even if it could.

    Parameters
    ----------
    image : (C, H, W) in [0, 1]; values under the mask have no influence.
    mask : bool (1, H, W), `True` where pixels are missing; some, not all.
    model : a denoiser, trained without masks; or a sequence of them, as for `inpaint`.
    samples : how many fills.
    sampling_steps : levels of the chain, evenly spread over its steps, at most those; `None` takes all. The paper takes 250.
    resamplings, jump_length : as in `resampling_schedule`; about `resamplings` times `sampling_steps` calls of the model.
    diffusion, seed, callback : as for `inpaint`.

    Returns
    -------
    Tensor (samples, C, H, W), of the dtype and device of `image`; known pixels are those of `image`, to the bit.

    Raises
    ------
    ValueError : sizes that do not fit, or a mask that is empty or full.

    References
    ----------
    Lugmayr et al. 2022, algorithm 1.
    """
    known, hole = conditioning(image, mask, samples=samples)
    validate_callback(callback)
    diffusion = chosen_chain(diffusion, model)
    if sampling_steps is not None:
        validate_integer(sampling_steps, name="sampling_steps", minimum=1)
        sampling_steps = min(sampling_steps, diffusion.steps)
    times = diffusion.times(sampling_steps)[::-1]       # times[level]
    levels = resampling_schedule(len(times) - 1, resamplings=resamplings, jump_length=jump_length)
    noise = noise_on(image.device, seed)
    nothing, everything = torch.zeros_like(known), torch.ones_like(hole)
    x, total, number = draw(known, noise), sum(later < level for level, later in zip(levels, levels[1:])), 0
    with torch.no_grad():
        for level, later in progress(zip(levels, levels[1:]), description="sampling (RePaint)", total=len(levels) - 1):
            t, s = times[level], times[later]
            if later > level:
                x = diffusion.add_noise(x, s, draw(x, noise), start=t)
                continue
            number += 1
            estimate = model_at(model, t).predict(x, nothing, everything, t).clamp(-1, 1)
            if callback is not None:
                callback(Moment(number, total, t, x, torch.where(hole, estimate, known)))
            unknown = ancestral_step(x, estimate, diffusion=diffusion, t=t, previous=s, noise=noise)
            x = torch.where(hole, unknown, diffusion.add_noise(known, s, draw(x, noise)))
    return restored(image, mask, x)
