"""The loop that moves the pixels of a picture: where it ends, what it keeps, where it goes on, and what it refuses."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from labkit import descent
from labkit.descent import METHODS, Descent, minimize
from labkit.training import cosine_decay, read

pytestmark = pytest.mark.usefixtures("one_torch_thread")

RATES = {"lbfgs": None, "adam": 0.02, "gradient": 0.004}


def picture(seed=0, shape=(1, 6, 7), dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


TARGET = picture(1)
CURVATURE = 0.2 + 4 * picture(2)  # of the quadratic, from 0.2 to 4.2 for each pixel: L = 4.2


def quadratic(image):
    return (CURVATURE.to(image) * (image - TARGET.to(image)).square()).sum() / 2


def rosenbrock(image):
    x, y = image[..., ::2, :], image[..., 1::2, :]
    return ((1 - x).square() + 20 * (y - x.square()).square()).sum()


def differently(method, **options):
    return Descent(picture(), method=method, learning_rate=RATES[method], **options)


# --- where it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, rate, steps", [("lbfgs", None, 30), ("adam", 0.05, 600), ("gradient", 0.4, 400)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_method_finds_the_minimum_of_a_quadratic(method, rate, steps, dtype):
    start = picture(dtype=dtype)
    kept = start.clone()
    result = minimize(start, loss=quadratic, steps=steps, method=method, learning_rate=rate)
    assert torch.allclose(result.image, TARGET.to(dtype), atol=1e-4)
    assert result.image.dtype == dtype and result.step == steps and not result.interrupted
    assert torch.equal(start, kept) and not start.requires_grad
    assert len(result.losses) == steps and result.losses[0] == pytest.approx(float(quadratic(start)))


def test_gradient_descent_is_the_formula_and_diverges_above_two_over_l():
    image = picture()
    result = Descent(image, method="gradient", learning_rate=0.1).run(quadratic, steps=7)
    for _ in range(7):
        image = image - 0.1 * CURVATURE * (image - TARGET)
    assert torch.allclose(result.image, image, atol=1e-6)
    slow, fast = (
        Descent(picture(), method="gradient", learning_rate=factor / float(CURVATURE.max())).run(quadratic, steps=200)
        for factor in (1.95, 2.05)
    )
    assert slow.losses[-1] < 1e-3 * slow.losses[0] and fast.losses[-1] > 10 * fast.losses[0]


def test_lbfgs_equals_torch_s_by_hand():
    image = picture().requires_grad_()
    by_hand = torch.optim.LBFGS(
        [image], max_iter=1, max_eval=21, history_size=5, tolerance_grad=0, tolerance_change=0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip
    losses = []

    def closure():
        by_hand.zero_grad()
        value = rosenbrock(image)
        value.backward()
        return value

    result = Descent(picture(), memory=5).run(rosenbrock, steps=25)
    for _ in range(25):
        losses.append(float(by_hand.step(closure).detach()))
    assert torch.equal(result.image, image.detach()) and result.losses == losses
    assert losses == sorted(losses, reverse=True)


def test_adam_equals_torch_s_by_hand():
    image = picture().requires_grad_()
    by_hand = torch.optim.Adam([image], lr=0.02)
    for _ in range(12):
        by_hand.zero_grad()
        rosenbrock(image).backward()
        by_hand.step()
    assert torch.equal(differently("adam").run(rosenbrock, steps=12).image, image.detach())


def test_lbfgs_needs_fewer_steps_than_the_others():
    ends = {method: differently(method).run(rosenbrock, steps=40).losses[-1] for method in ("lbfgs", "adam")}
    ends["gradient"] = Descent(picture(), method="gradient", learning_rate=0.01).run(rosenbrock, steps=40).losses[-1]
    assert ends["lbfgs"] < 0.01 * min(ends["adam"], ends["gradient"])


def test_small_gradients_do_not_count_as_the_end():
    """The mean over a large picture has gradients below 1e-7, at which torch's L-BFGS would stop."""
    result = Descent(picture()).run(lambda image: 1e-6 * quadratic(image), steps=60)
    assert result.losses[-1] < 1e-2 * result.losses[0]


def test_a_line_search_computes_no_picture_twice():
    seen = []

    def loss(image):
        assert not any(torch.equal(image, other) for other in seen)
        seen.append(image.detach().clone())
        return rosenbrock(image)

    Descent(picture()).run(loss, steps=15)
    assert 15 < len(seen) < 30


def test_a_climb_is_the_descent_of_the_negative():
    result = minimize(picture(), loss=lambda image: -quadratic(image), steps=5, method="gradient", learning_rate=0.1)
    assert result.losses == sorted(result.losses, reverse=True)
    assert float(quadratic(result.image)) > float(quadratic(picture()))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_call_gives_the_same_picture(method):
    first, second = (differently(method).run(rosenbrock, steps=9) for _ in range(2))
    assert torch.equal(first.image, second.image) and first.history == second.history


def test_a_video_or_batch_moves_at_once():
    start = picture(shape=(3, 1, 6, 7))
    result = minimize(start, loss=quadratic, steps=30)
    assert result.image.shape == start.shape
    assert torch.allclose(result.image, TARGET.expand(3, 1, 6, 7), atol=1e-4)


# --- terms, projections, frames -----------------------------------------------------------------------------------------


def test_named_terms_are_weighted_summed_and_noted():
    def terms(image):
        return {
            "data": quadratic(image),
            "smooth": image.diff().square().sum(),
            "brightness": float(image.detach().mean()),
        }

    def total(image):
        return quadratic(image) + 3 * image.diff().square().sum()

    result = Descent(picture(), weights={"smooth": 3, "brightness": 0}).run(terms, steps=8)
    plain = Descent(picture()).run(total, steps=8)
    assert torch.allclose(result.image, plain.image, atol=1e-5)
    assert sorted(result.history) == ["brightness", "data", "loss", "smooth"]
    assert result.history["loss"] is result.losses and len(result.losses) == 8
    assert result.losses == pytest.approx([a + 3 * b for a, b in zip(result.history["data"], result.history["smooth"])])
    assert result.history["brightness"][0] == pytest.approx(float(picture().mean()))


@pytest.mark.parametrize("method, rate, steps", [("lbfgs", None, 60), ("adam", 0.02, 800), ("gradient", 0.4, 400)])
def test_a_projection_finds_the_minimum_inside_a_box(method, rate, steps):
    """The quadratic has one curvature for each pixel, so its minimum in a box is the clamped one."""
    run = Descent(picture(), method=method, learning_rate=rate, project=lambda image: image.clamp(0.25, 0.625))
    result = run.run(quadratic, steps=steps)
    assert float(result.image.min()) == 0.25 and float(result.image.max()) == 0.625
    assert torch.allclose(result.image, TARGET.clamp(0.25, 0.625), atol=1e-5)


def test_known_pixels_are_put_back_after_every_step():
    """A hole filled by the smoothest picture: every hidden pixel is then the mean of its two neighbours."""
    known = torch.tensor([[[0.0, 0.9, 0.1, 0.5, 0.8]]])
    hidden = torch.tensor([[[False, True, True, True, False]]])
    seen = []
    result = minimize(
        known, loss=lambda image: image.diff().square().sum(), steps=200, method="gradient", learning_rate=0.2,
        project=lambda image: torch.where(hidden, image, known),
        callback=lambda run: seen.append(run.image[~hidden].tolist()),
    )  # fmt: skip
    assert torch.allclose(result.image, torch.linspace(0, 0.8, 5)[None, None], atol=1e-4)
    assert all(values == pytest.approx([0.0, 0.8]) for values in seen)


def test_the_memory_of_lbfgs_is_of_the_way_that_was_gone():
    """With steps as they were before the projection, curvatures would be those of a picture that was never there."""
    run = Descent(picture(), project=lambda image: image.clamp(0.3, 0.6)).run(quadratic, steps=8)
    remembered = run.state()["optimizer"]["state"][0]
    assert len(remembered["old_stps"]) > 2
    for step, change in zip(remembered["old_stps"], remembered["old_dirs"]):  # gradients change by curvature times way
        assert torch.allclose(change, CURVATURE.flatten() * step, atol=1e-5)


def test_frames_are_kept_where_asked_for():
    seen = {}
    result = Descent(picture(), frames=(0, 2, 5, 9)).run(
        quadratic, steps=6, callback=lambda run: seen.update({run.step: run.image})
    )
    assert list(result.frames) == [0, 2, 5]
    assert torch.equal(result.frames[0], picture())
    assert all(torch.equal(result.frames[step], seen[step]) for step in (2, 5))
    assert list(result.run(quadratic, steps=10).frames) == [0, 2, 5, 9]


def test_a_kept_picture_does_not_move_on():
    run = Descent(picture(), frames=(3,)).run(quadratic, steps=3)
    at_three = run.image
    run.image.zero_()
    run.run(quadratic, steps=6)
    assert torch.equal(run.frames[3], at_three) and not torch.equal(run.image, at_three)


def test_the_learning_rate_follows_a_function_of_the_step():
    rate, image = cosine_decay(0.3, steps=10), picture()
    result = Descent(image, method="gradient", learning_rate=rate).run(quadratic, steps=6)
    for step in range(6):
        image = image - rate(step) * CURVATURE * (image - TARGET)
    assert torch.allclose(result.image, image, atol=1e-6)


# --- stopping and going on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kill_at", range(1, 9))
def test_a_killed_run_that_is_resumed_equals_one_that_was_not(tmp_path, method, kill_at):
    def killed(run):
        if run.step == kill_at:
            raise SystemExit

    path, options = tmp_path / "run.pt", {"frames": (0, 2, 6), "project": lambda image: image.clamp(0.1, 1.2)}
    whole = differently(method, **options).run(rosenbrock, steps=9)
    with pytest.raises(SystemExit):
        differently(method, **options).run(rosenbrock, steps=9, checkpoint=path, every=1, callback=killed)
    resumed, steps = differently(method, **options), []
    resumed.run(rosenbrock, steps=9, checkpoint=path, callback=lambda run: steps.append(run.step))
    assert steps == list(range(kill_at + 1, 10))
    assert torch.equal(resumed.image, whole.image) and resumed.history == whole.history
    assert list(resumed.frames) == [0, 2, 6]
    assert all(torch.equal(frame, whole.frames[step]) for step, frame in resumed.frames.items())


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_a_total_and_a_second_call_goes_on(method):
    whole, parts = differently(method).run(rosenbrock, steps=12), differently(method)
    for steps in (3, 3, 7, 12):
        assert parts.run(rosenbrock, steps=steps).step == steps
    assert torch.equal(parts.image, whole.image) and parts.history == whole.history


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["loss", "callback", "signal", "stop"])
def test_interrupting_keeps_every_finished_step(tmp_path, method, where):
    def loss(image):
        if run.step == 5 and where == "loss":
            raise KeyboardInterrupt
        if run.step == 4 and where == "signal" and not signals:  # in the middle of a step
            signals.append(os.kill(os.getpid(), signal.SIGINT))
        return rosenbrock(image)

    def callback(run):
        if run.step == 5 and where == "callback":
            raise KeyboardInterrupt
        if run.step == 5 and where == "stop":
            run.stop()

    handler, signals = signal.getsignal(signal.SIGINT), []
    run = differently(method)
    assert run.run(loss, steps=20, checkpoint=tmp_path / "run.pt", callback=callback) is run
    assert run.interrupted and run.step == 5 and len(run.losses) == 5
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.equal(run.image, differently(method).run(rosenbrock, steps=5).image)
    assert read(tmp_path / "run.pt")["step"] == 5
    run.run(rosenbrock, steps=20)
    whole = differently(method).run(rosenbrock, steps=20)
    assert not run.interrupted and torch.equal(run.image, whole.image) and run.history == whole.history


def test_a_failure_in_a_line_search_leaves_the_last_whole_step():
    for call in range(2, 10):
        calls = []

        def loss(image, calls=calls, call=call):
            calls.append(image.detach().clone())
            if len(calls) == call:
                raise RuntimeError("out of paper")
            return rosenbrock(image)

        run = Descent(picture())
        with pytest.raises(RuntimeError, match="out of paper") as caught:
            run.run(loss, steps=9)
        assert caught.value.__notes__ == [f"(raised by the loss of the descent, at step {run.step})"]
        assert torch.equal(run.image, Descent(picture()).run(rosenbrock, steps=run.step).image)
        whole = Descent(picture()).run(rosenbrock, steps=9)
        assert torch.equal(run.run(rosenbrock, steps=9).image, whole.image) and run.history == whole.history


@pytest.mark.parametrize("method", ["adam", "gradient"])
@pytest.mark.parametrize("step", [1, 2, 6])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_undone(method, step, bad):
    def loss(image):
        return rosenbrock(image) * (bad if run.step == step else 1.0)

    run = differently(method, frames=(step,))
    with pytest.raises(
        FloatingPointError, match=f"the loss is not finite after step {step}; .* is back at step {step - 1}"
    ):
        run.run(loss, steps=20)
    assert run.step == step - 1 and len(run.losses) == step - 1 and not run.frames
    assert torch.equal(run.image, differently(method).run(rosenbrock, steps=step - 1).image)
    whole = differently(method).run(rosenbrock, steps=12)
    assert torch.equal(run.run(rosenbrock, steps=12).image, whole.image) and run.history == whole.history


@pytest.mark.parametrize("method", METHODS)
def test_a_projection_to_where_the_loss_is_not_finite_is_undone(method):
    def loss(image):
        return rosenbrock(image) + 0 * (50 - image).sqrt().sum()

    run = differently(method, project=lambda image: image + 100 if run.step == 4 else image)
    with pytest.raises(FloatingPointError, match="the loss is not finite after step 5; the descent is back at step 4"):
        run.run(loss, steps=20)
    assert torch.equal(run.image, differently(method).run(loss, steps=4).image)


def test_a_line_search_turns_back_from_where_the_loss_is_not_finite():
    """The logarithm keeps the picture below 1; the minimum of (x - 2)² - log(1 - x) is where 2 (x - 2) (1 - x) = -1."""
    tried = []

    def loss(image):
        tried.append(float(image.detach().max()))
        return ((image - 2).square() - (1 - image).log()).sum()

    result = Descent(picture(dtype=torch.float64), learning_rate=5).run(loss, steps=30)
    assert max(tried) > 1 and result.losses == sorted(result.losses, reverse=True)
    assert torch.allclose(result.image, torch.tensor((3 - 3**0.5) / 2, dtype=torch.float64), atol=1e-6)


def test_a_loss_that_is_not_finite_at_the_start_is_said():
    run = Descent(picture())
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0; expected a finite number"):
        run.run(lambda image: rosenbrock(image) * float("nan"), steps=3)
    assert run.step == 0 and torch.equal(run.image, picture())


@pytest.mark.parametrize("method", METHODS)
def test_pixels_that_are_not_finite_are_undone(method):
    def loss(image):  # 0 at the square root's infinite slope: the loss is finite, its gradient is not
        return (image.sum() * 0).sqrt() + rosenbrock(image)

    run = differently(method).run(rosenbrock, steps=4)
    with pytest.raises(FloatingPointError, match="a pixel is not finite after step 5; the descent is back at step 4"):
        run.run(loss, steps=9)
    assert run.step == 4 and torch.equal(run.image, differently(method).run(rosenbrock, steps=4).image)


# --- files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_state_is_a_copy_and_comes_back(tmp_path, method):
    run = differently(method).run(rosenbrock, steps=5)
    state = run.state()
    run.save(tmp_path / "five.pt")
    at_nine = run.run(rosenbrock, steps=9).image
    for load in (lambda: run.load_state(state), lambda: run.load(tmp_path / "five.pt")):
        load()
        assert run.step == 5 and len(run.losses) == 5
        assert torch.equal(run.run(rosenbrock, steps=9).image, at_nine)


@pytest.mark.parametrize("options, message", [
    ({"method": "adam"}, "method is 'lbfgs' there and 'adam' here"), ({"memory": 3}, "memory is 20 there and 3 here"),
    ({"weights": {"data": 2.0}}, "weights is {} there and {'data': 2.0} here"),
    ({"settings": {"layer": "relu3_1"}}, "layer is 'not given' there and 'relu3_1' here"),
    ({"start": picture(5)}, "it started from another picture"), ({"start": picture(dtype=torch.float64)}, "its start is a tensor"),
    ({"start": picture(shape=(1, 8, 8))}, "its start is a tensor")])  # fmt: skip
def test_a_checkpoint_of_another_descent_is_refused(tmp_path, options, message):
    Descent(picture()).run(quadratic, steps=2, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="run.pt: the state is of another descent") as caught:
        Descent(**{"start": picture(), **options}).run(quadratic, steps=4, checkpoint=tmp_path / "run.pt")
    assert message in str(caught.value)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "run.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="run.pt holds no saved tensors"):
        Descent(picture()).run(quadratic, steps=4, checkpoint=tmp_path / "run.pt")
    torch.save({"step": 3}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt: state is dict .*; expected what Descent.state\(\) gives"):
        Descent(picture()).run(quadratic, steps=4, checkpoint=tmp_path / "other.pt")


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss, message", [
    (lambda image: 1.0, "the loss is float 1.0; expected a tensor without axes"),
    (lambda image: None, "the loss is NoneType None; expected a tensor without axes"),
    (lambda image: image.square(), r"a tensor of shape \(1, 6, 7\) and dtype float32; expected a tensor without axes"),
    (lambda image: quadratic(image.detach()), "that depends on the picture, with a gradient"),
    (lambda image: torch.zeros((), requires_grad=True) + 1, "the loss does not depend on the picture"),
    (lambda image: {"data": 1.0}, "the term 'data' of the loss is float 1.0; expected a tensor without axes"),
    (lambda image: {"loss": quadratic(image)}, "names a term 'loss'; expected another name"),
    (lambda image: {}, "the loss is int 0; expected a tensor without axes")])  # fmt: skip
def test_a_loss_of_the_wrong_kind_is_refused(loss, message):
    run = Descent(picture())
    with pytest.raises(ValueError, match=message):
        run.run(loss, steps=2)
    assert run.step == 0 and torch.equal(run.image, picture())


def test_a_loss_that_writes_into_the_picture_is_refused():
    def loss(image):
        with torch.no_grad():
            image.clamp_(0.4, 0.6)
        return quadratic(image)

    run = Descent(picture())
    with pytest.raises(ValueError, match="the loss wrote into the picture; expected it to leave its argument as it is"):
        run.run(loss, steps=2)
    assert run.step == 0 and torch.equal(run.image, picture())


def test_weights_without_their_terms_are_refused():
    run = Descent(picture(), weights={"style": 2})
    with pytest.raises(ValueError, match="expected a dictionary, since weights names terms"):
        run.run(quadratic, steps=1)
    with pytest.raises(ValueError, match="weights names style; the loss names data"):
        run.run(lambda image: {"data": quadratic(image)}, steps=1)


def test_a_loss_that_changes_its_names_is_refused():
    run = Descent(picture()).run(quadratic, steps=1)
    with pytest.raises(ValueError, match="the loss names data, loss and named loss before"):
        run.run(lambda image: {"data": quadratic(image)}, steps=2)


@pytest.mark.parametrize("project, message", [
    (lambda image: image[..., 1:], r"project gave a tensor of shape \(1, 6, 6\).*; expected a picture of shape \(1, 6, 7\)"),
    (lambda image: None, "project gave NoneType None")])  # fmt: skip
def test_a_projection_to_something_else_is_refused(project, message):
    run = Descent(picture(), project=project)
    with pytest.raises(ValueError, match=message):
        run.run(quadratic, steps=2)
    assert run.step == 0 and torch.equal(run.image, picture())


@pytest.mark.parametrize("options, message", [
    ({"start": torch.zeros(6, 7)}, r"start is a tensor of shape \(6, 7\)"),
    ({"start": torch.full((1, 2, 2), float("nan"))}, "start holds 4 NaN"),
    ({"method": "newton"}, "method is 'newton'; expected one of 'lbfgs', 'adam', 'gradient'"),
    ({"method": "gradient"}, "learning_rate is None; method 'gradient' needs a number above 0"),
    ({"learning_rate": 0}, "learning_rate is 0; expected a finite number above 0"),
    ({"memory": 0}, "memory is 0; expected a whole number, at least 1"),
    ({"weights": {"style": -1}}, "weights\\['style'\\] is -1; expected a finite number, at least 0"),
    ({"frames": (0, -1)}, "each of frames is -1")])  # fmt: skip
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Descent(**{"start": picture(), **options})


def test_bad_numbers_of_steps_are_refused():
    for options in ({"steps": -1}, {"steps": 2, "every": 0}):
        with pytest.raises(ValueError, match="whole number"):
            minimize(picture(), loss=quadratic, **options)
    assert set(descent.__all__) >= {"Descent", "minimize"}


@pytest.mark.cuda
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_the_picture_stays_there_and_runs_resume(tmp_path, method):
    run = Descent(picture().cuda(), method=method, learning_rate=RATES[method])
    run.run(quadratic, steps=5, checkpoint=tmp_path / "run.pt")
    assert run.image.is_cuda
    resumed = Descent(picture().cuda(), method=method, learning_rate=RATES[method])
    resumed.run(quadratic, steps=9, checkpoint=tmp_path / "run.pt")
    run.run(quadratic, steps=9)
    assert torch.allclose(resumed.image, run.image, atol=1e-5)
    assert torch.allclose(run.image.cpu(), differently(method).run(quadratic, steps=9).image, atol=1e-4)
