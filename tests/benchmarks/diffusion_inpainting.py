"""Diffusion inpainting beside plain loops: `python -m tests.benchmarks.diffusion_inpainting`.

No package trains so small a network on one picture, so the peers are plain torch loops around the same network, written
below: what one would write in a notebook, and the same with labkit's averaged weights and memory layout. They draw the same
crops, holes, times and noise, so that the results must agree, and what is compared is what the loops cost. Two threads, one
process, calls interleaved, medians; `target` is what we set out to reach.

Then a whole job as on a laptop, in a process of its own, and on a CUDA device one of the thesis's size, where training took
15 min and filling 3 s on a V100. Takes some ten minutes.
"""

from __future__ import annotations

import copy
import math
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit import images, metrics
from labkit.diffusion_inpainting import Diffusion, Inpainter, UNet, brush_mask, inpaint, to_chain, train_inpainter
from labkit.diffusion_inpainting.inpainter import WARM_UP, Crops, Examples
from labkit.training import Training, cosine_decay
from tests.benchmarks import timing

THREADS = 2
STEPS, BATCH, CROP = 20, 2, 64          # of training
RATE, AVERAGE = 1e-3, 0.995
SAMPLING_STEPS, SIDE = 50, 64
THESIS_STEPS = 15000


def rows() -> list[dict]:
    """One row for each implementation of each task; `ratio_to_labkit` above 1 means slower than labkit."""
    timing.use_threads(THREADS)
    return [*_training(), *_sampling(), _laptop(), *_gpu()]


# --- training -----------------------------------------------------------------------------------------------------------

def _training() -> list[dict]:
    image, mask = _picture("pebbles", 128)
    settings = {"steps": STEPS, "batch_size": BATCH, "crop_size": CROP, "learning_rate": RATE, "thickness": 16.0}
    calls = {
        "labkit": lambda: train_inpainter(image, mask, average=AVERAGE, mixed_precision=False, **settings).network,
        "plain loop": lambda: plain_training(image, mask),
        "plain loop, averaged, channels last": lambda: plain_training(image, mask, average=AVERAGE, channels_last=True),
        "labkit, not averaged": lambda: train_inpainter(image, mask, average=None, mixed_precision=False, **settings).network,
        "labkit, bfloat16": lambda: train_inpainter(image, mask, average=AVERAGE, mixed_precision=True, **settings).network,
    }
    made = {name: call() for name, call in calls.items()}
    same = {"labkit": "plain loop, averaged, channels last", "labkit, not averaged": "plain loop"}
    notes = {ours: f"weights differ from those of the {theirs} by {_distance(made[ours], made[theirs]):.1g}"
             for ours, theirs in same.items()}
    times = timing.side_by_side(calls, repeats=3)
    return [_row(f"{STEPS} training steps of {BATCH} crops of {CROP}×{CROP}", name, taken / 1000, times["labkit"] / 1000,
                 rate=f"{1000 * STEPS / taken:.3g} steps/s", note=notes.get(name, "")) for name, taken in times.items()]


def plain_training(image: Tensor, mask: Tensor, *, average: float | None = None, channels_last: bool = False) -> nn.Module:
    """Adam, a falling learning rate and nothing else; or with an average of the weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    mean = None if average is None else copy.deepcopy(network)
    examples = Examples(Crops(image, mask, crop_size=CROP), task="inpainting", diffusion=Diffusion(), interval=None,
                        weighting="uniform", thickness=16.0, batch_size=BATCH)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    rate = cosine_decay(RATE, steps=STEPS, warm_up=min(WARM_UP, STEPS // 10))
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        examples.loss(network, generator).backward()
        optimizer.step()
        if mean is not None:
            decay = min(average, (step + 2) / (step + 11))
            with torch.no_grad():
                for kept, new in zip(mean.parameters(), network.parameters()):
                    kept.lerp_(new, 1 - decay)
    return network if mean is None else mean


def _distance(first: nn.Module, second: nn.Module) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(first.parameters(), second.parameters()))


# --- sampling -----------------------------------------------------------------------------------------------------------

def _sampling() -> list[dict]:
    image, mask = _picture("pebbles", SIDE)
    model = Inpainter(UNet().eval().to(memory_format=torch.channels_last))
    plain = copy.deepcopy(model.network).to(memory_format=torch.contiguous_format)
    found = []
    for samples in (1, 8):
        calls = {
            "labkit": lambda: inpaint(image, mask, model=model, samples=samples, sampling_steps=SAMPLING_STEPS),
            "plain loop": lambda: plain_sampling(image, mask, plain, samples=samples),
            "plain loop, channels last": lambda: plain_sampling(image, mask, model.network, samples=samples),
        }
        made = {name: call() for name, call in calls.items()}
        times = timing.side_by_side(calls, repeats=3)
        agreement = {name: f"PSNR to labkit's {float(metrics.psnr(made[name], made['labkit']).min()):.0f} dB" for name in times}
        found += [_row(f"{SAMPLING_STEPS} sampling steps, {samples} of {SIDE}×{SIDE}", name, taken / 1000, times["labkit"] / 1000,
                       rate=f"{taken / SAMPLING_STEPS:.3g} ms/step", note="" if name == "labkit" else agreement[name])
                  for name, taken in times.items()]
    return found


@torch.no_grad()
def plain_sampling(image: Tensor, mask: Tensor, network: nn.Module, *, samples: int) -> Tensor:
    """Ancestral sampling as Ho et al. write it, with the known pixels put back into every estimate."""
    diffusion = Diffusion()
    bars = diffusion.alpha_bars.tolist()
    generator = torch.Generator().manual_seed(0)
    known = torch.where(mask, 0, to_chain(image)).repeat(samples, 1, 1, 1)
    hole = mask[None].float().repeat(samples, 1, 1, 1)
    x = torch.randn(known.shape, generator=generator)
    times = diffusion.times(SAMPLING_STEPS)
    for t, s in zip(times, times[1:]):
        estimate = network(x, known, hole, torch.full((samples,), t / diffusion.steps)).clamp(-1, 1)
        estimate = hole * estimate + (1 - hole) * known
        kept = bars[t] / bars[s]
        x = (math.sqrt(bars[s]) * (1 - kept) * estimate + math.sqrt(kept) * (1 - bars[s]) * x) / (1 - bars[t])
        if s > 0:
            deviation = math.sqrt((1 - bars[s]) / (1 - bars[t]) * (1 - kept))
            x = x + deviation * torch.randn(x.shape, generator=generator)
    return torch.where(mask, (x.clamp(-1, 1) + 1) / 2, image)


# --- a whole job --------------------------------------------------------------------------------------------------------

def _laptop() -> dict:
    """Trained and filled with labkit's own settings; the whole memory of the process, Python and torch included."""
    program = ("import resource, time, torch\nfrom tests.benchmarks.diffusion_inpainting import _picture\n"
               "from labkit.diffusion_inpainting import inpaint, train_inpainter\n"
               f"torch.set_num_threads({THREADS})\nimage, mask = _picture('wall', 128)\nstart = time.perf_counter()\n"
               "model = train_inpainter(image, mask)\nmiddle = time.perf_counter()\ninpaint(image, mask, model=model)\n"
               "taken = time.perf_counter() - start\nmegabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
               "print('figures', middle - start, taken, megabytes, model.provenance['steps'])")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=3600, check=True,
                          cwd=Path(__file__).resolve().parents[2])
    training, taken, megabytes, steps = map(float, done.stdout.rsplit("figures", 1)[1].split())
    note = (f"{steps:.0f} training steps in {training:.0f} s, one sample of all 1000 steps in {taken - training:.0f} s; peak "
            f"{megabytes:.0f} MB in a process of its own")
    return _row("a brush's hole in 128×128 pixels, trained and filled", "labkit", taken, target="300 s, 2000 MB",
                rate=f"{steps / training:.3g} steps/s", note=note)


# --- on a GPU -----------------------------------------------------------------------------------------------------------

def _gpu() -> list[dict]:
    training, sampling = (f"{THESIS_STEPS} training steps of 16 crops of 256×256", "1000 sampling steps, 1 of 256×256")
    targets = {training: "90 s on an H100", sampling: "0.5 s on an H100"}
    if not torch.cuda.is_available():
        return [_row(task, "labkit", target=target, note="no CUDA device here, left out") for task, target in targets.items()]
    image, mask = (one.cuda() for one in _picture("coffee", 512))
    first, last, moments = 200, 800, {}

    def watch(state: Training) -> None:
        if state.step in (first, last):
            torch.cuda.synchronize()
            moments[state.step] = time.perf_counter()

    model = train_inpainter(image, mask, steps=last, batch_size=16, crop_size=256, mixed_precision=True, compile=True,
                            callback=watch)
    whole = THESIS_STEPS * (moments[last] - moments[first]) / (last - first)
    middle = (..., slice(128, 384), slice(128, 384))
    region, hole = image[middle].contiguous(), mask[middle].contiguous()

    def sampled() -> None:
        inpaint(region, hole, model=model)
        torch.cuda.synchronize()

    model.compile()
    times = timing.side_by_side({"labkit": sampled}, repeats=3)
    name, taken = torch.cuda.get_device_name(), times["labkit"] / 1000
    return [_row(training, "labkit", whole, target=targets[training], rate=f"{THESIS_STEPS / whole:.3g} steps/s",
                 note=f"estimated from steps {first} to {last}, {name}"),
            _row(sampling, "labkit", taken, target=targets[sampling], rate=f"{taken:.3g} ms/step", note=name)]


# --- helpers ------------------------------------------------------------------------------------------------------------

def _picture(name: str, side: int) -> tuple[Tensor, Tensor]:
    """A picture, and a brush's hole in the middle half of it."""
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    middle = slice(side // 4, side // 4 + side // 2)
    mask[:, middle, middle] = brush_mask(side // 2, side // 2, thickness=side / 8)
    return images.load(name, size=(side, side)), mask


def _row(task: str, peer: str, taken: float | str = "", base: float | None = None, *, rate: str = "", target: str = "",
         note: str = "") -> dict:
    return {"task": task, "peer": peer, "seconds": taken, "rate": rate, "target": target,
            "ratio_to_labkit": taken / base if base else "", "note": note}


if __name__ == "__main__":
    print(timing.table(rows()))
