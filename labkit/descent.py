"""The loop that lowers a loss over the pixels of a picture: progress, history, frames, interruption, checkpoints.

What a chapter lowers is a function of the picture alone (total variation, the distance of features, Gram matrices); the loop
does the rest, as `labkit.training` does it for networks. Nothing is random here, so a run that is stopped and resumed gives the
picture of one that was not, bit for bit on the CPU. To climb (Deep Dream), lower the negative.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit.training import Loop
from labkit.validation import (
    describe,
    validate_callback,
    validate_choice,
    validate_image,
    validate_integer,
    validate_number,
    validate_several,
)

__all__ = ["METHODS", "Descent", "Loss", "minimize"]


def __dir__() -> list[str]:
    return __all__


METHODS = ("lbfgs", "adam", "gradient")
Loss = Callable[[Tensor], "Tensor | Mapping[str, Any]"]

_RATES = {"lbfgs": 1.0, "adam": 0.01}
_TRIALS = 20  # of the line search of L-BFGS in one step; one or two are usual
_EXPECTED = "expected a tensor without axes that depends on the picture, with a gradient"


class Descent(Loop):
    """A picture on its way down a loss, and what happened so far.

    >>> target = torch.linspace(0, 1, 12).reshape(1, 3, 4)
    >>> descent = Descent(torch.zeros(1, 3, 4)).run(lambda image: (image - target).square().sum(), steps=10)
    >>> torch.allclose(descent.image, target, atol=1e-5), descent.losses[0] > descent.losses[-1]
    (True, True)

    Parameters
    ----------
    start : (C, H, W), or (N, C, H, W), all of whose pictures are then moved at once; never written into.
    method : `"lbfgs"` (limited-memory quasi-Newton; each step ends a line search that asks for the strong Wolfe conditions,
        and turns back from pictures whose loss is not finite),
        `"adam"`, or `"gradient"` (plain descent: image ← image − learning_rate · gradient).
    learning_rate : above 0, or a function that gives it for a step (counted from 0), such as `training.cosine_decay(...)`.
        `"gradient"` has no default: it descends below 2 / L where the gradient is L-Lipschitz. `None` is 0.01, in intensity,
        for `"adam"` and 1 for `"lbfgs"`, the length that its line search tries first.
    memory : steps that L-BFGS remembers, each at the cost of two pictures.
    weights : of the named terms that the loss returns, 1 where nothing is said. A term of weight 0 is only noted in the history;
        it may be a plain number.
    project : a function of the picture that gives the picture to go on with, after every step: a clamp to [0, 1], the known pixels
        of a hole put back (projected gradient), a denoiser (plug-and-play). Only with `"gradient"` does a projection onto a
        convex set keep the descent; the steps of the other methods are measured otherwise than the projection.
    frames : after which numbers of steps the picture is kept; 0 is the start.
    settings : plain values that say what is being lowered (numbers, text, lists, dictionaries); a saved state is only taken up
        by a descent with the same ones.

    Attributes
    ----------
    step : number of steps taken.
    history : `"loss"`, what is lowered, and every named term before its weight: the list of values, measured before each step.
    frames : the pictures that were kept, by the number of steps.
    interrupted : whether the last `run` was stopped before its end.

    Raises
    ------
    ValueError : a start that is no picture, an unknown method, a rate, weight or number of steps out of its range.

    References
    ----------
    Liu, Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming, 1989.
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """

    noun = "descent"
    parts = ("settings", "step", "start", "image", "optimizer")

    def __init__(
        self,
        start: Tensor,
        *,
        method: str = "lbfgs",
        learning_rate: float | Callable[[int], float] | None = None,
        memory: int = 20,
        weights: Mapping[str, float] | None = None,
        project: Callable[[Tensor], Tensor] | None = None,
        frames: Sequence[int] = (),
        settings: Mapping | None = None,
    ):
        validate_image(start, name="start")
        validate_choice(method, name="method", choices=METHODS)
        if learning_rate is None:
            if method not in _RATES:
                raise ValueError(
                    f"learning_rate is None; method {method!r} needs a number above 0, or a function of the step"
                )
            learning_rate = _RATES[method]
        if not callable(learning_rate):
            validate_number(learning_rate, name="learning_rate", above=0)
        validate_integer(memory, name="memory", minimum=1)
        validate_callback(project, name="project")
        if weights is not None and not isinstance(weights, Mapping):
            raise ValueError(f"weights is {describe(weights)}; expected a table of numbers by the names of the losses")
        validate_several(frames, name="frames", of="steps")
        frames = tuple(frames)
        for name, weight in (weights or {}).items():
            validate_number(weight, name=f"weights[{name!r}]", minimum=0)
        for step in frames:
            validate_integer(step, name="each of frames", minimum=0)
        super().__init__(settings)
        self._method, self._memory, self._rate = method, memory, learning_rate
        self._weights, self._project, self._wanted = dict(weights or {}), project, frozenset(frames)
        self._start = start.detach().clone()
        self._pixels = start.detach().clone(memory_format=torch.contiguous_format).requires_grad_()  # L-BFGS needs it
        self._optimizer = self._make_optimizer()
        self._good: _Moment | None = None  # the last one whose loss was finite
        self._last: _Value | None = None
        self.frames: dict[int, Tensor] = {}
        self._keep_frame()

    @property
    def image(self) -> Tensor:
        """The picture as it is now, of the shape, dtype and device of the start."""
        return self._pixels.detach().clone()

    @property
    def losses(self) -> list[float]:
        """The loss before each step: `history["loss"]`."""
        return self.history.get("loss", [])

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(
        self,
        loss: Loss,
        *,
        steps: int,
        description: str = "",
        checkpoint: str | os.PathLike | None = None,
        every: int = 50,
        callback: Callable[[Descent], None] | None = None,
    ) -> Descent:
        """Descend until `steps` steps have been taken in all, with a progress bar.

        Interrupting (the stop button, or Ctrl-C) ends the run after the step it is in and keeps everything; the same call
        goes on from there. `steps` is the total, so a run that was killed, called again with the same checkpoint, ends
        where it would have ended.

        Parameters
        ----------
        loss : a function of the picture that gives what to lower, a tensor without axes, or a dictionary of named terms,
            whose weighted sum is lowered. It must give the same number for the same picture, and not write into it.
        steps : total number of steps, those of earlier calls included.
        description : what the progress bar says.
        checkpoint : file to save the state in, every `every` steps and at the end. If it exists, the run first takes up its
            state, unless this descent is already further.
        every : steps between two savings.
        callback : called with this descent after every step.

        Returns
        -------
        Descent : itself.

        Raises
        ------
        ValueError : the loss is not a number with a gradient, or writes into the picture; a projection to another shape; a
            checkpoint of another descent.
        FloatingPointError : the loss or a pixel is no longer finite; the descent is then back at the last picture whose loss
            was. Whatever the loss itself raises comes through, with the number of the step noted; the picture is then that of the
            last whole step.
        """
        self._run(loss, steps=steps, description=description, checkpoint=checkpoint, every=every, callback=callback)
        return self

    def _begin(self) -> None:
        self._last = None  # it may be another loss

    def _one_step(self, loss: Loss) -> None:
        before = self._moment()
        value = self._evaluate(loss)
        if not math.isfinite(value.losses["loss"]):
            if self._good is None:
                raise FloatingPointError(
                    f"the loss is {value.losses['loss']} at step {self.step}; expected a finite number"
                )
            self._go_back(self._good)
            raise FloatingPointError(self._undone("the loss", before.step))
        self._good = before

        def closure() -> Any:
            tried = self._evaluate(loss)
            if math.isfinite(tried.losses["loss"]):
                return tried.total
            self._pixels.grad = torch.full_like(self._pixels, math.nan)  # torch's line search then halves its way
            return torch.full_like(tried.total, math.inf)

        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(self.step) if callable(self._rate) else self._rate
        try:
            self._optimizer.step(closure)
            self._apply_projection(before.pixels)
            self._ask_finite_pixels()
            self.step += 1
            for name, number in value.losses.items():
                self.history.setdefault(name, []).append(number)
            self._keep_frame()
        except BaseException:  # part of it may be of the next step
            self._go_back(before)
            raise

    def _ask_finite_pixels(self) -> None:
        if not bool(torch.isfinite(self._pixels).all()):
            raise FloatingPointError(self._undone("a pixel", self.step + 1))

    def _undone(self, what: str, step: int) -> str:
        return (
            f"{what} is not finite after step {step}; the descent is back at step {self.step}. "
            "A smaller learning rate often helps"
        )

    def _evaluate(self, loss: Loss) -> _Value:
        """The loss and its gradient at the present picture, computed once: a line search ends where the next one begins."""
        if self._last is None or not torch.equal(self._last.pixels, self._pixels):
            self._ask_finite_pixels()
            pixels = self._pixels.detach().clone()
            with torch.enable_grad():
                try:
                    found = loss(self._pixels)
                except Exception as problem:
                    problem.add_note(f"(raised by the loss of the descent, at step {self.step})")
                    raise
                if not torch.equal(pixels, self._pixels):
                    self._pixels.detach().copy_(pixels)
                    raise ValueError(
                        "the loss wrote into the picture; expected it to leave its argument as it is (project=... is for a "
                        "clamp after every step)"
                    )
                total, losses = self._weighted(found)
                gradient = self._gradient(total)
            self._last = _Value(pixels, total.detach(), losses, gradient)
        self._pixels.grad = self._last.gradient
        return self._last

    def _weighted(self, found: Tensor | Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """What is lowered, and the numbers for the history."""
        if not isinstance(found, Mapping):
            if self._weights:
                raise ValueError(f"the loss is {describe(found)}; expected a dictionary, since weights names terms")
            total: Any = found
            losses = {}
        else:
            terms = dict(found)
            if "loss" in terms:
                raise ValueError("the loss names a term 'loss'; expected another name, since the sum is called so")
            if not set(self._weights) <= set(terms):
                raise ValueError(f"weights names {_listed(self._weights)}; the loss names {_listed(terms)}")
            lowered = {name: term for name, term in terms.items() if self._weights.get(name, 1) != 0}
            for name, term in lowered.items():
                if not _is_number(term):
                    raise ValueError(f"the term {name!r} of the loss is {describe(term)}; {_EXPECTED}")
            total = sum(self._weights.get(name, 1) * term for name, term in lowered.items())
            losses = {name: float(torch.as_tensor(term).detach()) for name, term in terms.items()}
        if not _is_number(total) or not total.requires_grad:
            raise ValueError(f"the loss is {describe(total)}; {_EXPECTED}")
        losses = {"loss": float(total.detach()), **losses}
        if self.history and set(self.history) != set(losses):
            raise ValueError(
                f"the loss names {_listed(losses)} and named {_listed(self.history)} before; "
                "expected the same at every step"
            )
        return total, losses

    def _gradient(self, total: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(total, [self._pixels], allow_unused=True)
        if gradient is None:
            raise ValueError(f"the loss does not depend on the picture; {_EXPECTED}")
        return gradient

    @torch.no_grad()
    def _apply_projection(self, before: Tensor) -> None:
        if self._project is None:
            return
        projected = self._project(self._pixels.detach().clone())
        if not isinstance(projected, Tensor) or projected.shape != self._pixels.shape:
            raise ValueError(
                f"project gave {describe(projected)}; expected a picture of shape {tuple(self._pixels.shape)}"
            )
        if torch.equal(projected, self._pixels):
            return
        self._pixels.copy_(projected)
        if self._method == "lbfgs":  # what it learns its curvature from is the way that was really gone
            state = self._optimizer.state[self._pixels]
            state["d"], state["t"] = (self._pixels - before).flatten(), 1.0

    def _make_optimizer(self) -> torch.optim.Optimizer:
        rate = self._rate(0) if callable(self._rate) else self._rate
        if self._method == "adam":
            return torch.optim.Adam([self._pixels], lr=rate)
        if self._method == "gradient":
            return torch.optim.SGD([self._pixels], lr=rate)
        # one iteration at a time; a mean over pixels has small gradients, which must not count as the end
        return torch.optim.LBFGS(
            [self._pixels],
            lr=rate,
            max_iter=1,
            max_eval=_TRIALS + 1,
            history_size=self._memory,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

    # --- what is kept -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """A copy of all that the descent needs to go on from here."""
        return {
            "settings": self._settings(),
            "step": self.step,
            "history": {name: list(values) for name, values in self.history.items()},
            "start": self._start.clone(),
            "image": self.image,
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "frames": {step: frame.clone() for step, frame in self.frames.items()},
        }

    def _take_up(self, state: Mapping) -> None:
        self.step = state["step"]
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.frames = {step: frame.to(self._pixels) for step, frame in state["frames"].items()}
        self._pixels.detach().copy_(state["image"])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._good = self._last = None

    def _settings(self) -> dict[str, Any]:
        return {"method": self._method, "memory": self._memory, "weights": self._weights, **self.settings}

    def _differences(self, state: Mapping) -> list[str]:
        mine, theirs = self._start, state["start"]
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return [f"its start is {describe(theirs)} there and {describe(mine)} here"]
        return [] if torch.equal(mine.cpu(), theirs.cpu()) else ["it started from another picture"]

    def _keep_frame(self) -> None:
        if self.step in self._wanted:
            self.frames[self.step] = self.image

    def _moment(self) -> _Moment:
        return _Moment(self.step, self.image, _copied(self._optimizer.state.get(self._pixels, {})))

    def _go_back(self, moment: _Moment) -> None:
        self.step = moment.step
        self._pixels.detach().copy_(moment.pixels)
        self._optimizer.state[self._pixels] = _copied(moment.optimizer)
        self.history = {name: values[: moment.step] for name, values in self.history.items() if moment.step}
        self.frames = {step: frame for step, frame in self.frames.items() if step <= moment.step}


def minimize(
    start: Tensor,
    *,
    loss: Loss,
    steps: int,
    description: str = "",
    checkpoint: str | os.PathLike | None = None,
    every: int = 50,
    callback: Callable[[Descent], None] | None = None,
    **options: Any,
) -> Descent:
    """Lower a loss over the pixels of a picture: `Descent(start, **options).run(loss, steps=steps)`, in one call.

    >>> noisy = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]])
    >>> def loss(image):
    ...     return {"data": (image - noisy).square().mean(), "smooth": image.diff().square().mean()}
    >>> result = minimize(noisy, loss=loss, steps=20, weights={"smooth": 2}, frames=(0, 1, 20))
    >>> [round(value, 3) for value in result.image.flatten().tolist()]
    [0.378, 0.519, 0.481, 0.622]
    >>> sorted(result.frames), sorted(result.history)
    ([0, 1, 20], ['data', 'loss', 'smooth'])

    Parameters
    ----------
    start, options : those of `Descent`.
    loss, steps, description, checkpoint, every, callback : those of `Descent.run`.

    Returns
    -------
    Descent : its `image`, `losses`, `frames`; `run` goes on from there.

    Raises
    ------
    ValueError, FloatingPointError : as `Descent` and its `run` do.
    """
    descent = Descent(start, **options)
    return descent.run(
        loss, steps=steps, description=description, checkpoint=checkpoint, every=every, callback=callback
    )


class _Value(NamedTuple):
    """What the loss is for a picture."""

    pixels: Tensor
    total: Tensor
    losses: dict[str, float]
    gradient: Tensor


class _Moment(NamedTuple):
    """What a step starts from, to go back to."""

    step: int
    pixels: Tensor
    optimizer: dict[str, Any]


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of what an optimizer remembers. Of lists, the tensors are shared: L-BFGS never writes into those."""
    return {
        name: value.clone() if isinstance(value, Tensor) else list(value) if isinstance(value, list) else value
        for name, value in state.items()
    }


def _is_number(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()


def _listed(names: Mapping | Sequence[str]) -> str:
    return ", ".join(sorted(names))
