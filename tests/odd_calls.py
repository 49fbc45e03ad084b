"""Odd calls of every public function, made from the names and annotations of its parameters, each judged where it is made.

Run as a program, `python -m tests.odd_calls FIRST`: makes the calls from number FIRST on and prints one line of JSON before
and one after each. A call that takes too much time or memory ends the program; who started it knows from the last line
which call that was, and starts it again behind that.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import linecache
import math
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import labkit
from labkit import chapters, diffusion_inpainting, operators, patches, patchmatch, runtime
from labkit.validation import describe

SEED = 12
HEIGHT, WIDTH, SIDE = 16, 18, 3  # of the ordinary picture and its patches: all that is made here fits together
SECONDS = 30  # of processor time for one odd call, most of it for what is compiled on first use
COMPILING = 200  # of processor time for an ordinary call
MEMORY = 2 * 2**30  # bytes that one call may ask for
MIXED = 12  # calls of a function with two odd arguments, besides those with one

GROUND_FLOOR = ("descent", "features", "figures", "images", "metrics", "operators", "patches", "pyramids", "restoration", "runtime",
                "textures", "training", "transport", "validation")  # fmt: skip

# What is left out, and why.
LEFT_OUT = {
    "textures.pictures": "takes nothing",
    "textures.write": "makes all pictures of the course, which takes a minute",
    "training.read": "reads back what `write_atomically` wrote: any file is refused by torch's own reader",
    "runtime.hashed": "the inner loop of `seed_of`, for whole numbers that were validated",
    "validation.size_of": "asked of pictures that were validated",
    "diffusion_inpainting.train_intervals": "several trainings: what it is given is judged by train_inpainter",
}

# What only whoever writes a guard gives, bounds and the words of its message; and the pictures that a guard looked at before.
FIXED = {
    "name",
    "names",
    "choices",
    "channels",
    "batch",
    "minimum",
    "maximum",
    "above",
    "odd",
    "largest",
    "default",
    "of",
    "empty",
}
LOOKED_AT = {"validation.validate_mask.image", "validation.validate_patch_size.image", "validation.validate_same_size.first",
             "validation.validate_same_size.second"}  # fmt: skip


class Call(NamedTuple):
    """One call: the function by name, its arguments, and those of them that are odd (none in an ordinary call)."""

    function: str
    arguments: dict[str, Any]
    odd: tuple[str, ...]


# --- functions ----------------------------------------------------------------------------------------------------------


def functions() -> dict[str, Callable]:
    """Every public function of the ground floor and of the chapters, by its name behind `labkit.`."""
    found: dict[str, Callable] = {}
    for module in (*GROUND_FLOOR, *(chapter.topic for chapter in chapters.CHAPTERS)):
        package = importlib.import_module(f"labkit.{module}")
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isroutine(value) and value not in found.values() and f"{module}.{name}" not in LEFT_OUT:
                found[f"{module}.{name}"] = value
    return found


# --- ordinary arguments -------------------------------------------------------------------------------------------------


def picture(channels: int = 3, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.rand(channels, height, width, generator=runtime.generator(channels))


def hole() -> Tensor:
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, 6:10, 7:11] = True
    return mask


def rows() -> Tensor:
    return patches.extract_patches(picture(), patch_size=SIDE)


def field() -> Tensor:
    return patchmatch.random_nnf(picture(), picture(), patch_size=SIDE)


def denoiser() -> diffusion_inpainting.PatchDenoiser:
    return diffusion_inpainting.PatchDenoiser(
        picture(), hole(), patch_size=SIDE, diffusion=diffusion_inpainting.Diffusion(4)
    )


# By name of the parameter, for whatever module; by function and name where the name means something else there.
ORDINARY: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("image", "exemplar", "reference", "guide", "observation", "content", "style", "texture", "target", "left",
                     "right", "first", "second", "lab", "shift", "values", "disparity", "truth", "x"), picture),
    "mask": hole,
    "video": lambda: picture()[None].repeat(4, 1, 1, 1),
    "samples": lambda: torch.stack([picture(), picture().flip(1)]),
    "images": lambda: torch.stack([picture(), picture().flip(1)]),
    "array": lambda: np.zeros((HEIGHT, WIDTH, 3), np.uint8),
    "pyramid": lambda: labkit.pyramids.laplacian_pyramid(picture(), levels=2),
    "patches": rows,
    "query": rows, "key": rows,
    "features_a": rows, "features_b": rows,
    "field": lambda: operators.gradient(picture()),
    "cost": lambda: picture(1)[0],
    "error": lambda: picture(1)[0],
    "nnf": field,
    "match": lambda: patchmatch.patchmatch(picture(), picture(), patch_size=SIDE, iterations=1),
    "model": denoiser,
    "loss": lambda: lambda image: image.square().sum(),
    "height": lambda: HEIGHT, "width": lambda: WIDTH, "row": lambda: 2, "column": lambda: 2,
    "size": lambda: (HEIGHT, WIDTH), "image_size": lambda: (2 * HEIGHT, 2 * WIDTH), "exemplar_size": lambda: (2 * HEIGHT, 2 * WIDTH),
    "coarse_exemplar_size": lambda: (HEIGHT, WIDTH),
    "patch_size": lambda: SIDE, "patch_sizes": lambda: (4,), "window_size": lambda: 5, "crop_size": lambda: 16, "overlap": lambda: 1,
    "radius": lambda: 2, "amount": lambda: 2, "iteration": lambda: 0, "largest": lambda: 4,
    "iterations": lambda: 1, "steps": lambda: 2, "levels": lambda: 1, "sampling_steps": lambda: 2, "resamplings": lambda: 1,
    "jump_length": lambda: 1, "batch_size": lambda: 1, "targets": lambda: 20, "sources": lambda: 20, "spots": lambda: 20, "filters": lambda: 2,
    "frames": lambda: 2, "every": lambda: 1,
    **dict.fromkeys(("sigma", "sigma_space", "sigma_color", "h", "eps", "weight", "noise_to_signal", "threshold", "length",
                     "seconds", "learning_rate"), lambda: 0.5),
    "ratio": lambda: 2.0, "peak": lambda: 30.0, "scale": lambda: None,
    "border": lambda: "reflect", "format": lambda: "png", "alt": lambda: "a picture", "colormap": lambda: "viridis",
    "rows": lambda: [["a", 1], ["b", 2]], "header": lambda: ["name", "number"],
    "items": lambda: [1, 2], "picture": lambda: labkit.images.to_bytes(picture()),
    "path": lambda: os.path.join(tempfile.gettempdir(), "odd.png"),
    "source": picture,
}  # fmt: skip


def chart() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))


PARTICULAR: dict[str, Callable[[], Any]] = {
    "descent.minimize.start": picture,
    "figures.chart.figure": chart,
    "images.load_clip.name": lambda: "fire",
    "metrics.vif.image": lambda: picture(3, 44, 46),
    "metrics.vif.reference": lambda: picture(3, 44, 46),
    "runtime.hashed.key": lambda: 1,
    "runtime.hashed.counter": lambda: 1,
    "textures.drawing.name": lambda: "cat",
    "textures.texture.name": lambda: "pebbles",
    "training.write_atomically.value": lambda: 1,
    "validation.describe.value": lambda: 1,
    "validation.validate_callback.callback": lambda: None,
    "validation.validate_several.values": lambda: [1, 2],
    "validation.validate_several.name": lambda: "images",
    "validation.validate_seed.seed": lambda: 0,
    "validation.validate_text.value": lambda: "a",
    "validation.validate_text.name": lambda: "caption",
    "validation.validate_choice.value": lambda: "a",
    "validation.validate_choice.choices": lambda: ("a", "b"),
    "validation.validate_integer.value": lambda: 1,
    "validation.validate_number.value": lambda: 1,
    "validation.validate_choice.name": lambda: "word",
    "validation.validate_integer.name": lambda: "number",
    "validation.validate_number.name": lambda: "number",
    "filtering.dot_product_attention.value": rows,
    "filtering.nonlocal_attention.value": rows,
    "filtering.weights_at.filter": lambda: "gaussian",
    "features.random_features.filters": lambda: 3,
    "figures.color_wheel.shift": lambda: picture(2),
    "figures.color_wheel_key.size": lambda: 21,
    "figures.colorize.values": lambda: picture(1),
    "images.add_salt_and_pepper_noise.amount": lambda: 0.5,
    "images.crop.height": lambda: 5,
    "images.crop.width": lambda: 5,
    "images.load.source": lambda: "pebbles",
    "images.load.size": lambda: 16,
    "operators.continued.size": lambda: 16,
    "operators.convolution_matrix.size": lambda: 16,
    "operators.convolution_matrix.weights": lambda: torch.ones(5),
    "operators.divergence.border": lambda: "periodic",
    "operators.gradient.border": lambda: "periodic",
    "patches.squared_distances.first": rows,
    "patches.squared_distances.second": rows,
    "pyramids.upsample.size": lambda: None,
    "runtime.choose.values": lambda: {"quick": 1, "laptop": 2, "gpu": 3},
    "patchmatch.candidates.iteration": lambda: 1,
    "patchmatch.candidates.match": lambda: patchmatch.patchmatch(
        picture(), picture(), patch_size=SIDE, iterations=1, trace=True
    ),
    "patchmatch.disparity_score.disparity": lambda: picture(1),
    "patchmatch.disparity_score.truth": lambda: picture(1),
    "patchmatch.inpaint_video.mask": lambda: hole()[None].repeat(4, 1, 1, 1),
    "texture_optimization.optimize_texture.border": lambda: None,
    "diffusion_inpainting.inpaint.samples": lambda: 1,
    "diffusion_inpainting.inpaint_by_resampling.samples": lambda: 1,
    "diffusion_inpainting.train_unconditional.mask": lambda: None,
}


def ordinary(function: str, parameter: inspect.Parameter) -> Any:
    """What an ordinary call gives for a parameter: by its name; otherwise its default.

    Raises
    ------
    LookupError : there is neither.
    """
    for table, key in ((PARTICULAR, f"{function}.{parameter.name}"), (ORDINARY, parameter.name)):
        if key in table:
            return table[key]()
    if parameter.default is inspect.Parameter.empty:
        raise LookupError(f"{function}: no ordinary argument is known for {parameter.name}: {parameter.annotation}; add one to "
                          "ORDINARY or PARTICULAR of tests/odd_calls.py")  # fmt: skip
    return parameter.default


# What `**options` take besides, of a function whose ordinary call needs some of them.
BESIDES: dict[str, dict[str, Any]] = {
    "filtering.weights_at": {"sigma": 1.0},
    "diffusion_inpainting.regress": {"batch_size": 1, "crop_size": 16, "width": 8},
    "diffusion_inpainting.train_unconditional": {"batch_size": 1, "crop_size": 16, "width": 8},
}


# --- odd arguments ------------------------------------------------------------------------------------------------------


def _marked(value: float) -> Tensor:
    image = picture()
    image[1, 3, 4] = value
    return image


WRONG: tuple[Any, ...] = (None, "no such thing", 3, 0.5, math.nan, 2j, [], {}, object())
TENSORS: tuple[Callable[[], Any], ...] = (
    lambda: picture().numpy(),
    lambda: picture().tolist(),
    lambda: torch.tensor(0.5),
    lambda: torch.zeros(0),
    lambda: torch.rand(5),
    lambda: picture()[0],
    lambda: picture(1),
    lambda: picture(2),
    lambda: picture(5),
    lambda: picture()[None],
    lambda: picture().expand(2, -1, -1, -1),
    lambda: picture()[None, None],
    lambda: torch.zeros(0, 3, HEIGHT, WIDTH),
    lambda: torch.zeros(3, 0, WIDTH),
    lambda: torch.zeros(3, 1, 1),
    lambda: torch.zeros(3, 1, WIDTH),
    lambda: picture(3, HEIGHT + 1, WIDTH - 1),
    lambda: torch.full((3, HEIGHT, WIDTH), 0.25),
    lambda: torch.zeros(3, HEIGHT, WIDTH),
    lambda: picture().half(),
    lambda: picture().bfloat16(),
    lambda: picture().double(),
    lambda: picture().cfloat(),
    lambda: (picture() * 255).byte(),
    lambda: picture() > 0.5,
    lambda: picture().transpose(-1, -2),
    lambda: picture().requires_grad_(),
    lambda: picture() * 1e30,
    lambda: picture() - 5,
    lambda: _marked(math.nan),
    lambda: _marked(math.inf),
    lambda: torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool),
    lambda: torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool),
    lambda: torch.ones(1, HEIGHT + 1, WIDTH, dtype=torch.bool),
    lambda: torch.full_like(rows(), 0.5),
    lambda: rows().double(),
    lambda: rows()[:1],
    lambda: rows() * math.nan,
    lambda: field() - 1,
    lambda: field() * 1000,
    lambda: field().float(),
)
INTEGERS = (0, -1, 1, 2, 7, 10**9, 10**12, -(10**12), 2**64, 10**30, True, 2.0, math.inf)
FLOATS = (0, -1, 1, 0.0, -0.5, 1e-300, 1e-9, 1e9, 10**12, 1e300, 10**400, math.inf, -math.inf, True)
SIZES = (
    (0, 5),
    (-1, 5),
    (1, 1),
    (5,),
    (5, 6, 7),
    (40, 3),
    [20, 30],
    (2.5, 9),
    (10**6, 10**6),
    (10**12, 20),
    "ab",
    (None, 3),
    (math.nan, 3),
)
LISTS: tuple[Callable[[], Any], ...] = (
    lambda: [picture(), picture(3, 5, 6)],
    lambda: [picture(3, 5, 6), picture()],
    lambda: [picture(), picture(1, 8, 9)],
    lambda: [picture(), picture()[None, :, :8, :9]],
    lambda: [None, picture()],
    lambda: [picture(), "text"],
)

# For each part of an annotation, what may be given in vain or at the edge of sense. Wrong types are added to each.
ODD: dict[str, tuple[Any, ...]] = {
    "Tensor": TENSORS,
    "int": INTEGERS,
    "float": FLOATS,
    "str": ("", "Reflect", "no such\nthing", "a" * 300),
    "bool": (0, 1, "no"),
    "None": (),
    "object": (),
    "Any": (),
    "bytes": (b"", b"no picture"),
    "os.PathLike": ("", "/no/such/folder/odd.png", "odd.xyz", Path("/")),
    "np.ndarray": (lambda: np.zeros((4, 5, 3), object), lambda: np.zeros((4, 5, 7)), lambda: np.zeros((0, 5)), lambda: np.zeros((4, 5, 3), np.int64)),
    "tuple[int, int]": SIZES,
    "tuple[int, ...]": SIZES,
    "tuple[str, str]": (),
    "tuple[str, ...]": ((), ("identity", "no such"), ("identity", "identity"), (3,)),
    "tuple[Tensor, float]": (lambda: (picture(), -1), lambda: (picture()[0], 0.5), (1, 2, 3), (None, 1.0), lambda: (picture(), 1e300)),
    "tuple[Tensor, int]": (lambda: (picture(), -1), lambda: (picture(), 10**9), (1, 2, 3), (None, 1)),
    "list[Tensor]": LISTS,
    "Sequence[Tensor]": LISTS,
    "Sequence[int]": ((0,), (-1,), (10**9,), (2.5,), ("a",), (), range(0)),
    "Sequence[str]": ((3,), ("a",), "ab", (None, None)),
    "Sequence[Sequence[object]]": ([[1], [1, 2]], [3], ["ab"]),
    "Iterable[Item]": (iter(()),),
    "Mapping": ({"a": 1}, {3: object()}),
    "Mapping[str, Item]": ({"quick": 1},),
    "Mapping[str, float]": ({"a": 1.0}, {3: "b"}),
    "Callable": (lambda: lambda *arguments: None,),
    # only of the wrong type
    **dict.fromkeys(("Callback", "Loss", "Denoiser", "Sequence[Denoiser]", "Diffusion", "Inpainter", "LinearOperator", "Blur", "Match",
                     "matplotlib.figure.Figure", "torch.Generator", "Path"), ()),
}  # fmt: skip


def parts(annotation: str) -> list[str]:
    """The alternatives of an annotation, `["int", "None"]` of `"int | None"`; what a callable takes and gives is left out."""
    found, depth, word = [], 0, ""
    for letter in annotation:
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and depth == 0:
            found.append(word)
            word = ""
        else:
            word += letter
    return ["Callable" if part.strip().startswith("Callable[") else part.strip() for part in (*found, word)]


def odd(function: str, parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The odd arguments for a parameter, by its annotation; a function among them makes one when it is called.

    Raises
    ------
    LookupError : a part of the annotation is not known.
    """
    values: list[Any] = []
    for part in parts(parameter.annotation):
        if part not in ODD:
            raise LookupError(f"{function}: no odd arguments are known for {parameter.name}: {parameter.annotation}; add {part!r} to ODD "
                              "of tests/odd_calls.py")  # fmt: skip
        values += ODD[part]
    return *values, *WRONG


def made(value: Any) -> Any:
    return value() if inspect.isfunction(value) else value


def calls(function: str, call: Callable) -> Iterator[Call]:
    """An ordinary call, then one odd argument at a time, then some with two, drawn."""
    taken = [parameter for parameter in inspect.signature(call).parameters.values()
             if parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)]  # fmt: skip

    def arguments(chosen: Mapping[str, Any]) -> Call:
        given = {parameter.name: made(chosen[parameter.name]) if parameter.name in chosen else ordinary(function, parameter)
                 for parameter in taken}  # fmt: skip
        return Call(function, BESIDES.get(function, {}) | given, tuple(chosen))

    yield arguments({})
    choices = {
        parameter.name: odd(function, parameter)
        for parameter in taken
        if f"{function}.{parameter.name}" not in LOOKED_AT
        and not (function.startswith("validation.") and parameter.name in FIXED)
    }
    for name, values in choices.items():
        for value in values:
            yield arguments({name: value})
    draws = random.Random(f"{SEED} {function}")
    for _ in range(MIXED if len(choices) > 1 else 0):
        yield arguments({name: draws.choice(choices[name]) for name in draws.sample(sorted(choices), 2)})


# --- judging ------------------------------------------------------------------------------------------------------------


def contents(value: Any) -> Any:
    """What an argument holds, to compare it afterwards."""
    if isinstance(value, Tensor):
        values = value.detach().contiguous()
        return value.shape, value.dtype, value.requires_grad, values.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, value.tobytes()
    if isinstance(value, (list, tuple)):
        return [contents(one) for one in value]
    return repr(value) if isinstance(value, (int, float, str, bytes, complex, dict)) else None


# What else a function may raise, as its documentation says: packages and weights that are not there, files.
ALSO: dict[str, tuple[type[Exception], ...]] = {
    "metrics.lpips": (ImportError, FileNotFoundError),
    "metrics.dists": (ImportError, FileNotFoundError),
    "images.load": (OSError,),
    "images.load_clip": (OSError,),
    "images.save": (OSError,),
    "training.write_atomically": (OSError,),
    **dict.fromkeys(
        (
            "diffusion_inpainting.regress",
            "diffusion_inpainting.train_inpainter",
            "diffusion_inpainting.train_unconditional",
            "descent.minimize",
        ),
        (FloatingPointError, OSError),
    ),  # a loss that is not finite; a checkpoint's file
}


def fault(call: Call, function: Callable) -> str | None:
    """What is wrong with how a function answers a call, or `None`."""
    before = {name: contents(value) for name, value in call.arguments.items()}
    try:
        result = function(**call.arguments)
        if inspect.isgenerator(result):
            list(result)
    except ALSO.get(call.function, ()):
        pass
    except (ValueError, TypeError) as error:
        if not call.odd:
            return f"an ordinary call is refused: {error}"
        if not refused_by_labkit(error):
            return f"not labkit's own words: {type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    written = [name for name, value in call.arguments.items() if contents(value) != before[name]]
    return f"wrote into {', '.join(written)}" if written else None


def refused_by_labkit(error: Exception) -> bool:
    """Whether labkit itself raised it, and says what it expected."""
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    path = Path(frame.tb_frame.f_code.co_filename)
    line = linecache.getline(str(path), frame.tb_lineno).strip()
    return path.is_relative_to(Path(labkit.__file__).parent) and line.startswith("raise ") and "expected" in str(error)


def shown(call: Call) -> str:
    return (
        f"{call.function}({', '.join(f'{name}={describe(call.arguments[name])}' for name in call.odd) or '(ordinary)'})"
    )


def numbered() -> Iterator[tuple[int, Call, Callable]]:
    found = functions()
    every = ((call, function) for name, function in found.items() for call in calls(name, function))
    return ((number, call, function) for number, (call, function) in enumerate(every))


# --- the program --------------------------------------------------------------------------------------------------------


def main(first: int) -> None:
    torch.set_num_threads(1)
    os.chdir(tempfile.mkdtemp())
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for number, call, function in itertools.islice(numbered(), first, None):
        print(json.dumps({"number": number, "call": shown(call)}), flush=True)
        signal.setitimer(
            signal.ITIMER_PROF, SECONDS if call.odd else COMPILING
        )  # its signal ends the program, whatever it is computing
        found = fault(call, function)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"number": number, "function": call.function, "fault": found}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
