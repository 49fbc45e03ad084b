"""The loop that every network of the course is trained by: progress, history, interruption, checkpoints, averaged weights.

A chapter says what one step measures, `loss(model, generator)`; the loop does the rest, the same way everywhere. All that
is random must be drawn from the generator, whose state is saved, so that a run that is stopped and resumed gives the weights
of one that was not, bit for bit on the CPU. For the pixels of a picture, `labkit.descent` has the same loop.
"""

from __future__ import annotations

import copy
import math
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from labkit import runtime
from labkit.validation import describe, validate_callback, validate_integer, validate_number, validate_seed, validate_text

__all__ = ["LOOK", "Loop", "Loss", "Training", "cosine_decay", "read", "write_atomically"]


def __dir__() -> list[str]:
    return __all__


LOOK = 25   # steps between two looks at the losses, for which a GPU must be waited for

Loss = Callable[[Any, torch.Generator], "Tensor | Mapping[str, Any]"]


class Loop:
    """What trainings of networks and descents on pixels have alike: steps, history, interruption, checkpoints.

    A kind of loop says what one step is (`_one_step`), what it needs to go on (`state`, `_take_up`) and what tells two of
    its kind apart (`_settings`, `_differences`).

    Attributes
    ----------
    step : number of steps taken.
    history : for each name that the loss returned, the list of its values, one for each step.
    interrupted : whether the last `run` was stopped before its end.
    """

    noun = "loop"                       # how messages call it
    parts: tuple[str, ...] = ()         # what every state of it holds

    def __init__(self, settings: Mapping | None):
        self.settings: dict[str, Any] = dict(settings or {})
        self.step, self.interrupted = 0, False
        self.history: dict[str, list[float]] = {}
        self._stop = False

    def stop(self) -> None:
        """End a `run` after its present step, as an interrupt does; for buttons and callbacks."""
        self._stop = True

    def _run(self, loss: Callable, *, steps: int, description: str, checkpoint: str | os.PathLike | None, every: int,
             callback: Callable[[Any], None] | None) -> None:
        validate_integer(steps, name="steps", minimum=0)
        validate_integer(every, name="every", minimum=1)
        validate_callback(callback)
        validate_text(description, name="description")
        if not callable(loss):
            raise ValueError(f"loss is {describe(loss)}; expected a function")
        if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
            raise ValueError(f"checkpoint is {describe(checkpoint)}; expected a path or None")
        if checkpoint is not None and Path(checkpoint).exists():
            self._resume(Path(checkpoint))
        self._stop, self.interrupted = False, False
        saved = self.step
        self._begin()
        bar = runtime.progress(range(self.step, steps), description=description)
        try:
            with _interrupts_wait(self.stop):
                for _ in bar:
                    self._one_step(loss)
                    saving = checkpoint is not None and self.step % every == 0
                    self._step_taken(saving)
                    if checkpoint is not None and saving:
                        self.save(checkpoint)
                        saved = self.step
                    if callback is not None:
                        callback(self)
                    if self._stop:
                        break
        except KeyboardInterrupt:
            self._stop = True
        finally:
            bar.close()
            self._end()
        self.interrupted = self._stop and self.step < steps
        if checkpoint is not None and self.step > saved:
            self.save(checkpoint)

    # --- what a kind of loop does -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Before the first step of a run."""

    def _one_step(self, loss: Callable) -> None:
        """Take a step and count it."""
        raise NotImplementedError

    def _step_taken(self, saving: bool) -> None:
        """After a step; `saving` says that its state is about to be saved."""

    def _end(self) -> None:
        """After the last step of a run, however it ended."""

    def state(self) -> dict[str, Any]:
        """A copy of all that is needed to go on from here."""
        raise NotImplementedError

    def _take_up(self, state: Mapping) -> None:
        """Go on from what `state` gave."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        """What another loop must have alike to take up this one's state."""
        raise NotImplementedError

    def _differences(self, state: Mapping) -> list[str]:
        """What else keeps this loop from taking up a state, in words."""
        raise NotImplementedError

    # --- what is kept -----------------------------------------------------------------------------------------------

    def load_state(self, state: Mapping) -> None:
        """Take up what `state` gave, in this loop or in another of the same settings.

        Random numbers are those of the kind of device that the state is from: on another kind, other ones follow.

        Raises
        ------
        ValueError : the state is of a loop with other settings, or of another model or picture.
        """
        if not isinstance(state, Mapping) or not set(self.parts) <= set(state):
            raise ValueError(f"state is {describe(state)}; expected what {type(self).__name__}.state() gives")
        here, there = self._settings(), state["settings"]
        different = [f"{name} is {there.get(name, 'not given')!r} there and {here.get(name, 'not given')!r} here"
                     for name in sorted({*here, *there}) if here.get(name, "not given") != there.get(name, "not given")]
        different += self._differences(state)
        if different:
            raise ValueError(f"the state is of another {self.noun}: {'; '.join(different)}. Expected the same settings (or "
                             "another name for the checkpoint)")
        self._take_up(state)

    def save(self, path: str | os.PathLike) -> None:
        """Write `state()` to a file; an interrupted write leaves the old file."""
        write_atomically(self.state(), path)

    def load(self, path: str | os.PathLike) -> None:
        """Take up what `save` wrote; see `load_state`."""
        self.load_state(read(path))

    def _resume(self, path: Path) -> None:
        state = read(path)
        if self.step == 0 or not isinstance(state, Mapping) or state.get("step", 0) > self.step:
            try:
                self.load_state(state)
            except ValueError as problem:
                raise ValueError(f"checkpoint {path}: {problem}") from None


class Training(Loop):
    """A model, its optimizer, and what happened so far.

    >>> model = nn.Linear(1, 1)
    >>> def loss(model, generator):
    ...     x = torch.rand(16, 1, generator=generator)
    ...     return (model(x) - 2 * x).square().mean()
    >>> training = Training(model, learning_rate=0.1).run(loss, steps=100)
    >>> training.step, training.history["loss"][-1] < training.history["loss"][0]
    (100, True)

    Parameters
    ----------
    model : what is trained, in place, on the device where it is.
    learning_rate : above 0, or a function that gives it for a step (counted from 0), such as `cosine_decay(...)`.
    optimizer : a function from the parameters to an optimizer, which brings its own learning rate (unless `learning_rate`
        is a function); not one that calls the loss several times, as L-BFGS does. `None` takes Adam.
    average : decay d of an exponential moving average of the weights, from 0 up to but not 1; `None` keeps none. The
        average is θ̄ ← d' θ̄ + (1 − d') θ after step number k = 1, 2, …, with d' = min(d, (1 + k) / (10 + k)): a short run
        must not remember its random start.
    mixed_precision : whether the loss is computed in bfloat16 where torch finds that safe; weights stay as they are.
        `None` means on a GPU that has it, and nowhere else. On a CPU it pays only where the processor has such instructions.
    compile : whether the model is compiled by `torch.compile` for the loss; the first step then takes a minute.
    seed : of all that the loss draws.
    settings : plain values that say what is being trained (numbers, text, lists, dictionaries); a saved state is only taken
        up by a training with the same ones.

    Attributes
    ----------
    step : number of steps taken.
    history : for each name that the loss returned, the list of its values, one for each step; on a GPU, in a callback, up to
        25 steps late.
    interrupted : whether the last `run` was stopped before its end.
    generator : the source of randomness that the loss gets, on the device of the model.
    """

    noun = "training"
    parts = ("settings", "step", "weights", "optimizer")

    def __init__(self, model: nn.Module, *, learning_rate: float | Callable[[int], float] = 1e-3,
                 optimizer: Callable[..., torch.optim.Optimizer] | None = None, average: float | None = None,
                 mixed_precision: bool | None = None, compile: bool = False, seed: int = 0, settings: Mapping | None = None):
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise ValueError("model has no parameters that require a gradient; expected something to train")
        if not callable(learning_rate):
            validate_number(learning_rate, name="learning_rate", above=0)
        validate_seed(seed)
        if average is not None:
            validate_number(average, name="average", minimum=0)
            if average >= 1:
                raise ValueError(f"average is {average}; expected a decay below 1, such as 0.999")
        super().__init__(settings)
        self.model, self.device = model, parameters[0].device
        self.mixed_precision = _has_bfloat16(self.device) if mixed_precision is None else bool(mixed_precision)
        self.generator = torch.Generator(device=self.device).manual_seed(int(seed))
        self._parameters, self._rate, self._seed = parameters, learning_rate, int(seed)
        first_rate = learning_rate(0) if callable(learning_rate) else learning_rate
        self._optimizer: torch.optim.Optimizer
        if optimizer is None:
            self._optimizer = torch.optim.Adam(parameters, lr=first_rate, fused=self.device.type == "cuda")
        else:
            self._optimizer = optimizer(parameters)
        self._decay = average
        self._average = None if average is None else copy.deepcopy(model).requires_grad_(False).eval()
        self._called: Callable = torch.compile(model) if compile else model
        self._unseen: list[dict[str, Tensor]] = []      # losses that were not yet looked at

    @property
    def averaged(self) -> nn.Module:
        """The model with averaged weights; the model itself where none are kept."""
        return self.model if self._average is None else self._average

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self, loss: Loss, *, steps: int, description: str = "", checkpoint: str | os.PathLike | None = None,
            every: int = 500, callback: Callable[[Training], None] | None = None) -> Training:
        """Train until `steps` steps have been taken in all, with a progress bar.

        Interrupting (the stop button, or Ctrl-C) ends the run after the step it is in and keeps everything; the same call
        goes on from there. `steps` is the total, so a run that was killed, called again with the same checkpoint, ends
        where it would have ended. Afterwards the model is in evaluation mode.

        Parameters
        ----------
        loss : a function of the model and a random generator that gives what to lower, or a dictionary of named numbers
            with that as `"loss"`; the others are noted in the history.
        steps : total number of steps, those of earlier calls included.
        description : what the progress bar says.
        checkpoint : file to save the state in, every `every` steps and at the end. If it exists, the run first takes up its
            state, unless this training is already further.
        every : steps between two savings.
        callback : called with this training after every step.

        Returns
        -------
        Training : itself.

        Raises
        ------
        ValueError : the loss is not a number with a gradient; a checkpoint of another training.
        FloatingPointError : the loss or a weight is no longer finite; the training is then as it was when all was last
            known to be well, at most 25 steps before.
        """
        self._run(loss, steps=steps, description=description, checkpoint=checkpoint, every=every, callback=callback)
        return self

    def _begin(self) -> None:
        self._good = self.state()
        self.model.train()

    def _step_taken(self, saving: bool) -> None:
        if saving or self.step % LOOK == 0 or self.device.type == "cpu":
            self._look()
        if self.step % LOOK == 0:
            self._good = self.state()

    def _end(self) -> None:
        self.model.eval()
        self._look()

    def _one_step(self, loss: Loss) -> None:
        before = self.generator.get_state()
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
                found = loss(self._called, self.generator)
            values = dict(found) if isinstance(found, Mapping) else {"loss": found}
            _validate_loss(values, names=self.history)
            self._optimizer.zero_grad(set_to_none=True)
            values["loss"].backward()
        except BaseException:       # nothing was learnt: what the loss drew must be drawn again
            self.generator.set_state(before)
            raise
        if callable(self._rate):
            for group in self._optimizer.param_groups:
                group["lr"] = self._rate(self.step)
        try:
            self._optimizer.step()
            self.step += 1
            self._update_average()
            self._unseen.append({name: torch.as_tensor(value).detach() for name, value in values.items()})
        except BaseException:       # some weights may be of the next step and some not
            self._take_up(self._good)
            raise

    @torch.no_grad()
    def _update_average(self) -> None:
        if self._average is None or self._decay is None:
            return
        decay = min(self._decay, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self._average.parameters(), self.model.parameters()):
            mean.lerp_(value, 1 - decay)
        for kept, buffer in zip(self._average.buffers(), self.model.buffers()):
            kept.copy_(buffer)

    def _look(self) -> None:
        """Note the losses of the steps since the last look; go back if something is not finite."""
        if not self._unseen:
            return
        unseen, self._unseen = self._unseen, []
        # one transfer from the GPU for all
        losses = {name: torch.stack([values[name] for values in unseen]).tolist() for name in unseen[0]}
        first = next((k for k, value in enumerate(losses["loss"]) if not math.isfinite(value)), None)
        if first is not None or not all(bool(torch.isfinite(parameter).all()) for parameter in self._parameters):
            where = self.step - len(unseen) + (len(unseen) if first is None else first + 1)
            what = "a weight" if first is None else "the loss"
            self._take_up(self._good)
            raise FloatingPointError(f"{what} is not finite after step {where}; the training is back at step {self.step}. A "
                                     "smaller learning rate often helps")
        for name, values in losses.items():
            self.history.setdefault(name, []).extend(values)

    # --- what is kept -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """A copy of all that the training needs to go on from here."""
        return {"settings": self._settings(), "device": self.device.type, "step": self.step,
                "history": {name: list(values) for name, values in self.history.items()},
                "weights": _copied(self.model), "average": None if self._average is None else _copied(self._average),
                "optimizer": copy.deepcopy(self._optimizer.state_dict()), "generator": self.generator.get_state()}

    def _settings(self) -> dict[str, Any]:
        return {"seed": self._seed, "average": self._decay, "mixed_precision": self.mixed_precision, **self.settings}

    def _differences(self, state: Mapping) -> list[str]:
        mine, theirs = self.model.state_dict(), state["weights"]
        alike = [(name, value.shape) for name, value in mine.items()] == [(name, value.shape) for name, value in theirs.items()]
        return [] if alike else ["its weights have other names or shapes"]

    def _take_up(self, state: Mapping) -> None:
        self._unseen = []
        self.step = state["step"]
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.model.load_state_dict(state["weights"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        if state["device"] == self.device.type:
            self.generator.set_state(state["generator"])
        else:
            self.generator.manual_seed(self._seed + self.step)


def cosine_decay(learning_rate: float, *, steps: int, warm_up: int = 0) -> Callable[[int], float]:
    """A learning rate that rises evenly for `warm_up` steps and then falls to 0 along half a period of a cosine.

    >>> rate = labkit.training.cosine_decay(0.1, steps=4, warm_up=1)
    >>> [round(rate(step), 3) for step in range(5)]
    [0.05, 0.1, 0.075, 0.025, 0.0]

    Parameters
    ----------
    learning_rate : the highest, above 0.
    steps : when it reaches 0.
    warm_up : steps it rises for, fewer than `steps`.

    Returns
    -------
    A function from the number of a step, counted from 0, to its rate.
    """
    validate_number(learning_rate, name="learning_rate", above=0)
    validate_integer(steps, name="steps", minimum=1)
    validate_integer(warm_up, name="warm_up", minimum=0, maximum=steps - 1)

    def rate(step: int) -> float:
        if step < warm_up:
            return learning_rate * (step + 1) / (warm_up + 1)
        return learning_rate * 0.5 * (1 + math.cos(math.pi * min(1, (step - warm_up) / (steps - warm_up))))

    return rate


def write_atomically(value: object, path: str | os.PathLike) -> None:
    """`torch.save`, but an interrupted write leaves the old file.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "state.pt")
    ...     labkit.training.write_atomically({"step": 3, "weights": torch.ones(2)}, path)
    ...     print(labkit.training.read(path))
    {'step': 3, 'weights': tensor([1., 1.])}
    """
    if not isinstance(path, (str, os.PathLike)) or not Path(path).name:
        raise ValueError(f"path is {describe(path)}; expected the path of a file")
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.touch()      # Python's own errors name what is wrong with a path
    torch.save(value, unfinished)
    unfinished.replace(path)


def read(path: str | os.PathLike) -> Any:
    """What `write_atomically` wrote: tensors and plain values, on the CPU; a file can not bring code along.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "state.pt")
    ...     labkit.training.write_atomically([1, 2], path)
    ...     print(labkit.training.read(path))
    [1, 2]

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is not one that `torch.save` wrote, or holds something else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        raise ValueError(f"{path} holds no saved tensors that can be read ({type(problem).__name__}); expected a file that "
                         "labkit wrote") from problem


def _validate_loss(values: Mapping[str, Tensor], *, names: Mapping[str, list]) -> None:
    value = values.get("loss")
    if not isinstance(value, Tensor) or value.ndim != 0 or not value.requires_grad:
        found = f"a dictionary of {', '.join(map(repr, values))}" if value is None else describe(value)
        raise ValueError(f"the loss is {found}; expected a tensor without axes that depends on the model's weights")
    if names and set(values) != set(names):
        raise ValueError(f"the loss names {', '.join(sorted(values))} and named {', '.join(sorted(names))} before; "
                         "expected the same at every step")


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def _interrupts_wait(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first interrupt call `stop`, so that it does not fall into the middle of a step; a second one acts at once."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield       # only the main thread gets signals
        return
    asked = False

    def wait(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            previous(number, frame)
        asked = True
        stop()

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
