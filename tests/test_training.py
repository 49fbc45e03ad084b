"""The training loop: what it keeps, where it goes on, and when it stops."""

from __future__ import annotations

import copy
import os
import signal
import threading

import pytest
import torch
from torch import nn

from labkit import training
from labkit.training import LOOK, Training, cosine_decay, read


def small_model(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def fit(model, generator):
    x = torch.rand(16, 3, generator=generator)
    return (model(x)[:, 0] - x.sum(1)).square().mean()


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second))


def test_a_training_lowers_the_loss_and_notes_every_step():
    seen = []
    run = Training(small_model(), learning_rate=0.02).run(fit, steps=60, callback=lambda run: seen.append(run.step))
    assert run.step == 60 and len(run.history["loss"]) == 60 and seen == list(range(1, 61)) and not run.interrupted
    assert sum(run.history["loss"][-10:]) < 0.1 * sum(run.history["loss"][:10])
    assert not run.model.training


def test_named_losses_are_noted_and_only_the_loss_is_lowered():
    def loss(model, generator):
        value = fit(model, generator)
        return {"loss": value, "double": 2 * value, "constant": 3.0}

    run = Training(small_model()).run(loss, steps=5)
    assert run.history["double"] == pytest.approx([2 * value for value in run.history["loss"]])
    assert run.history["constant"] == [3.0] * 5
    assert same(weights(run.model), weights(Training(small_model()).run(fit, steps=5).model))


def test_a_step_is_that_of_the_optimizer_by_hand():
    model = small_model()
    by_hand, generator = copy.deepcopy(model), torch.Generator().manual_seed(7)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        fit(by_hand, generator).backward()
        optimizer.step()
    Training(model, learning_rate=0.01, seed=7).run(fit, steps=4)
    assert same(weights(model), weights(by_hand))


def test_another_optimizer_keeps_its_own_learning_rate():
    model = small_model()
    before, gradients = weights(model), []

    def loss(model, generator):
        value = fit(model, generator)
        gradients.extend(torch.autograd.grad(value, list(model.parameters()), retain_graph=True))
        return value

    Training(model, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5)).run(loss, steps=1)
    assert all(torch.allclose(after, old - 0.5 * gradient) for after, old, gradient in zip(weights(model), before, gradients))


def test_steps_are_a_total_and_a_second_call_goes_on():
    whole = Training(small_model(), average=0.9).run(fit, steps=30)
    parts = Training(small_model(), average=0.9)
    for steps in (8, 8, 21, 30):
        parts.run(fit, steps=steps)
        assert parts.step == steps
    assert same(weights(parts.model), weights(whole.model)) and same(weights(parts.averaged), weights(whole.averaged))
    assert parts.history == whole.history


def test_the_seed_decides():
    first, second, third = (Training(small_model(), seed=seed).run(fit, steps=5) for seed in (1, 1, 2))
    assert same(weights(first.model), weights(second.model)) and not same(weights(first.model), weights(third.model))


def test_the_average_of_the_weights_equals_the_sum_by_hand():
    model, decay = small_model(), 0.4
    expected, run = weights(model), Training(model, average=0.4)
    for k in range(1, 13):
        run.run(fit, steps=k)
        share = min(decay, (1 + k) / (10 + k))      # 2/11, 3/12, … and 0.4 from k = 5 on
        expected = [share * mean + (1 - share) * value for mean, value in zip(expected, weights(model))]
    # a lerp and a weighted sum round differently, by some units of float32
    assert all(torch.allclose(mean, value, atol=1e-6) for mean, value in zip(weights(run.averaged), expected))
    assert run.averaged is not run.model
    assert not any(parameter.requires_grad for parameter in run.averaged.parameters())


def test_without_an_average_the_averaged_model_is_the_model():
    run = Training(small_model())
    assert run.averaged is run.model


def test_buffers_are_copied_into_the_average():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    run = Training(model, average=0.9).run(fit, steps=5)
    assert torch.equal(run.averaged[1].running_mean, model[1].running_mean)
    assert not torch.equal(run.averaged[0].weight, model[0].weight)


# --- stopping and going on ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("every", [1, 4, 100])
def test_a_killed_run_that_is_resumed_equals_one_that_was_not(tmp_path, every):
    def killed(run):
        if run.step == 11:
            raise SystemExit

    rate = cosine_decay(0.02, steps=20)
    whole = Training(small_model(), learning_rate=rate, average=0.95).run(fit, steps=20)
    with pytest.raises(SystemExit):
        Training(small_model(), learning_rate=rate, average=0.95).run(fit, steps=20, checkpoint=tmp_path / "run.pt",
                                                                      every=every, callback=killed)
    assert (tmp_path / "run.pt").exists() == (every < 100)
    resumed = Training(small_model(seed=5), learning_rate=rate, average=0.95)
    started = []
    resumed.run(fit, steps=20, checkpoint=tmp_path / "run.pt", every=every, callback=lambda run: started.append(run.step))
    assert started[0] == {1: 12, 4: 9, 100: 1}[every]
    if every < 100:     # from another start: everything came from the file
        assert same(weights(resumed.model), weights(whole.model)) and same(weights(resumed.averaged), weights(whole.averaged))
        assert resumed.history == whole.history


@pytest.mark.parametrize("where", ["loss", "callback", "signal", "stop"])
def test_interrupting_keeps_every_finished_step(tmp_path, where):
    calls = []

    def loss(model, generator):
        value = fit(model, generator)
        calls.append(1)
        if len(calls) == 8 and where == "loss":
            raise KeyboardInterrupt
        if len(calls) == 7 and where == "signal":
            os.kill(os.getpid(), signal.SIGINT)
        return value

    def callback(run):
        if run.step == 7 and where == "callback":
            raise KeyboardInterrupt
        if run.step == 7 and where == "stop":
            run.stop()

    handler = signal.getsignal(signal.SIGINT)
    run = Training(small_model(), average=0.9).run(loss, steps=20, checkpoint=tmp_path / "run.pt", callback=callback)
    assert run.interrupted and run.step == 7 and len(run.history["loss"]) == 7
    assert signal.getsignal(signal.SIGINT) is handler
    assert same(weights(run.model), weights(Training(small_model()).run(fit, steps=7).model))
    assert read(tmp_path / "run.pt")["step"] == 7
    run.run(fit, steps=20)
    whole = Training(small_model(), average=0.9).run(fit, steps=20)
    assert not run.interrupted and same(weights(run.model), weights(whole.model))
    assert same(weights(run.averaged), weights(whole.averaged)) and run.history == whole.history


def test_a_second_interrupt_acts_at_once():
    def loss(model, generator):
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the second signal did not interrupt")
        return fit(model, generator)

    run = Training(small_model())
    run.run(loss, steps=20)
    assert run.interrupted and run.step == 3


def test_an_interrupt_between_the_weights_goes_back_to_whole_ones():
    class Torn(torch.optim.SGD):
        steps = 0

        def step(self):
            self.steps += 1
            if self.steps == LOOK + 4:
                next(model.parameters()).data.zero_()
                raise KeyboardInterrupt
            super().step()

    model = small_model()
    sgd = Training(model, optimizer=lambda parameters: Torn(parameters, lr=0.1))
    sgd.run(fit, steps=60)
    whole = Training(small_model(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)).run(fit, steps=LOOK)
    assert sgd.interrupted and sgd.step == LOOK and len(sgd.history["loss"]) == LOOK
    assert same(weights(model), weights(whole.model))


def test_a_run_in_another_thread_leaves_signals_alone():
    found = []

    def work():
        found.append(Training(small_model()).run(fit, steps=3).step)

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [3] and signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("step", [1, 7, LOOK, LOOK + 1, LOOK + 9])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_weights_of_before(step):
    def loss(model, generator):
        value = fit(model, generator)
        return value * float("nan") if run.step == step - 1 else value

    run = Training(small_model(), average=0.9)
    with pytest.raises(FloatingPointError, match=f"loss is not finite after step {step};"):
        run.run(loss, steps=60)
    good = (step - 1) // LOOK * LOOK
    assert run.step == good and all(len(values) == good for values in run.history.values())
    assert same(weights(run.model), weights(Training(small_model()).run(fit, steps=good).model))
    run.run(fit, steps=40)
    assert same(weights(run.averaged), weights(Training(small_model(), average=0.9).run(fit, steps=40).averaged))


def test_weights_that_are_not_finite_stop_as_well():
    def loss(model, generator):     # 0 at the square root's infinite slope: the loss is finite, its gradient is not
        return (model[0].weight.sum() * 0).sqrt() + fit(model, generator)

    run = Training(small_model())
    with pytest.raises(FloatingPointError, match="a weight is not finite"):
        run.run(loss, steps=5)
    assert run.step == 0 and same(weights(run.model), weights(small_model()))


def test_a_failing_loss_leaves_the_training_usable():
    def loss(model, generator):
        value = fit(model, generator)
        if run.step == 4:
            raise RuntimeError("out of paper")
        return value

    run = Training(small_model())
    with pytest.raises(RuntimeError, match="out of paper"):
        run.run(loss, steps=9)
    run.run(fit, steps=9)
    assert same(weights(run.model), weights(Training(small_model()).run(fit, steps=9).model))


# --- files --------------------------------------------------------------------------------------------------------------

def test_a_saved_state_is_a_copy_and_comes_back(tmp_path):
    run = Training(small_model(), average=0.9).run(fit, steps=5)
    state = run.state()
    run.save(tmp_path / "five.pt")
    run.run(fit, steps=9)
    at_nine = weights(run.model)
    for load in (lambda: run.load_state(state), lambda: run.load(tmp_path / "five.pt")):
        load()
        assert run.step == 5 and len(run.history["loss"]) == 5
        run.run(fit, steps=9)
        assert same(weights(run.model), at_nine)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    run = Training(small_model()).run(fit, steps=2)
    run.save(tmp_path / "run.pt")

    def half(value, path):
        path.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(training.torch, "save", half)
    run.run(fit, steps=3)
    with pytest.raises(OSError, match="disk full"):
        run.save(tmp_path / "run.pt")
    assert read(tmp_path / "run.pt")["step"] == 2


def test_a_checkpoint_behind_the_training_is_not_taken_up(tmp_path):
    run = Training(small_model()).run(fit, steps=4, checkpoint=tmp_path / "run.pt")
    run.run(fit, steps=8)
    run.run(fit, steps=10, checkpoint=tmp_path / "run.pt")
    assert run.step == 10 and len(run.history["loss"]) == 10
    assert same(weights(run.model), weights(Training(small_model()).run(fit, steps=10).model))


@pytest.mark.parametrize("change, message", [
    ({"seed": 1}, "seed is 0 there and 1 here"), ({"average": 0.5}, "average is None there and 0.5 here"),
    ({"settings": {"side": 3}}, "side is 'not given' there and 3 here")])
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, message):
    Training(small_model()).run(fit, steps=2, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=f"run.pt: the state is of another training: {message}"):
        Training(small_model(), **change).run(fit, steps=4, checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    Training(small_model()).run(fit, steps=2, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="weights have other names or shapes"):
        Training(nn.Linear(3, 1)).run(fit, steps=4, checkpoint=tmp_path / "run.pt")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "run.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="run.pt holds no saved tensors"):
        Training(small_model()).run(fit, steps=4, checkpoint=tmp_path / "run.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="list.pt: state is list"):
        Training(small_model()).run(fit, steps=4, checkpoint=tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError):
        Training(small_model()).load(tmp_path / "nowhere.pt")


# --- parameters ---------------------------------------------------------------------------------------------------------

def test_the_learning_rate_follows_a_function_of_the_step():
    rates, run = [], Training(small_model(), learning_rate=cosine_decay(0.1, steps=8, warm_up=3))
    optimizer = run.state()["optimizer"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.025)
    run.run(fit, steps=8, callback=lambda run: rates.append(run.state()["optimizer"]["param_groups"][0]["lr"]))
    # up in fourths of 0.1, then (1 + cos(π k / 5)) / 20
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.0904508, 0.0654508, 0.0345492, 0.0095492], abs=1e-7)
    assert cosine_decay(0.1, steps=8)(8) == pytest.approx(0) and cosine_decay(0.1, steps=8)(20) == pytest.approx(0)


def test_mixed_precision_computes_in_bfloat16_and_keeps_the_weights():
    kinds = []

    def loss(model, generator):
        found = model(torch.rand(4, 3, generator=generator))
        kinds.append(found.dtype)
        return found.float().square().mean()

    run = Training(small_model(), mixed_precision=True).run(loss, steps=2)
    Training(small_model()).run(loss, steps=1)
    assert kinds == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert all(value.dtype == torch.float32 for value in weights(run.model))


def test_compiling_calls_the_compiled_model_with_the_same_weights(monkeypatch):
    compiled = []

    def fake(model):
        return lambda x: compiled.append(1) or model(x)

    monkeypatch.setattr(training.torch, "compile", fake)
    run = Training(small_model(), compile=True).run(fit, steps=3)
    assert len(compiled) == 3 and same(weights(run.model), weights(Training(small_model()).run(fit, steps=3).model))


@pytest.mark.parametrize("loss, message", [
    (lambda model, generator: 1.0, "float 1.0; expected a tensor without axes"),
    (lambda model, generator: torch.zeros(()), "expected a tensor without axes that depends on the model's weights"),
    (lambda model, generator: model(torch.ones(4, 3))[:, 0], r"shape \(4,\)"),
    (lambda model, generator: {"error": fit(model, generator)}, "a dictionary of 'error'")])
def test_a_loss_of_the_wrong_kind_is_refused(loss, message):
    run = Training(small_model())
    with pytest.raises(ValueError, match=message):
        run.run(loss, steps=2)
    assert run.step == 0


def test_a_loss_that_changes_its_names_is_refused():
    run = Training(small_model()).run(fit, steps=1)
    with pytest.raises(ValueError, match="the loss names loss, other and named loss before"):
        run.run(lambda model, generator: {"loss": fit(model, generator), "other": 1.0}, steps=2)


def test_bad_parameters_are_refused():
    for options, message in (({"learning_rate": 0}, "learning_rate"), ({"average": 1.0}, "below 1"), ({"seed": -1}, "seed")):
        with pytest.raises(ValueError, match=message):
            Training(small_model(), **options)
    with pytest.raises(ValueError, match="no parameters"):
        Training(nn.Tanh())
    for options in ({"steps": -1}, {"steps": 2, "every": 0}):
        with pytest.raises(ValueError, match="whole number"):
            Training(small_model()).run(fit, **options)
    with pytest.raises(ValueError, match="warm_up"):
        cosine_decay(0.1, steps=3, warm_up=3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_losses_are_noted_and_runs_resume(tmp_path):
    def loss(model, generator):
        x = torch.rand(16, 3, generator=generator, device="cuda")
        return (model(x)[:, 0].float() - x.sum(1)).square().mean()

    run = Training(small_model().cuda(), learning_rate=0.02, average=0.9)
    run.run(loss, steps=LOOK + 3, checkpoint=tmp_path / "run.pt")
    assert len(run.history["loss"]) == LOOK + 3
    resumed = Training(small_model().cuda(), learning_rate=0.02, average=0.9)
    resumed.run(loss, steps=2 * LOOK, checkpoint=tmp_path / "run.pt")
    run.run(loss, steps=2 * LOOK)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(weights(run.model), weights(resumed.model)))
