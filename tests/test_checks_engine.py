"""The engine of the checks, on small exercises of every kind of answer."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from labkit.checks import answers
from labkit.checks.answers import Fixture, Request, perform
from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.verdict import Verdict


# --- function -------------------------------------------------------------------------------------------------------

def _double(image):
    return 2 * image


@exercise(points=2, minutes=1, reference=_double)
def double(task: Task) -> None:
    with task.property("doubles a picture", share=0.5):
        task.compare(task.image(5, 6))
    with task.property("keeps float64", share=0.5):
        task.compare(task.image(4, 4, channels=1, dtype=torch.float64), tolerance=1e-12)
    with task.property("is linear"):
        image = task.image(3, 3)
        twice, once = task.call(2 * image, shape=image.shape), task.call(image, shape=image.shape)
        task.require(torch.equal(twice, 2 * once), "Twice the input does not give twice the output.")

double.knows({
    "tripled": Mistake("the picture is multiplied by three", lambda image: 3 * image, 1),
    "squared": Mistake("the picture is squared", lambda image: image ** 2),
    "float32_only": Mistake("digits are lost", lambda image: image),
})


def test_a_right_answer_earns_all_points():
    verdict = double(lambda image: image + image)
    assert verdict.passed and verdict.earned == 2 and verdict.outcome == "right"
    assert "right, 2 of 2 points" in repr(verdict)


def test_a_known_mistake_is_named_and_points_to_its_hint():
    verdict = double(lambda image: image * 3)
    assert verdict.mistake == "tripled" and verdict.hint == 1 and verdict.earned == 0
    assert "multiplied by three" in repr(verdict) and "Hint 1" in repr(verdict)


def test_an_unknown_mistake_is_described_by_what_its_values_have_in_common():
    assert "every value is 5 times" in repr(double(lambda image: 5 * 2 * image))
    assert "every value is off by 0.25" in repr(double(lambda image: 2 * image + 0.25))
    assert "moved by one column" in repr(double(lambda image: (2 * image).roll(1, -1)))
    assert "same sizes in another order" in repr(double(lambda image: 2 * image.transpose(1, 2)))
    assert "channels have been summed" in repr(double(lambda image: 2 * image.sum(0)))
    assert "2 rows and 2 columns are missing; was a border not padded?" in repr(double(lambda image: 2 * image[:, 1:-1, 1:-1]))


def test_the_stub_is_told_kindly_that_it_is_a_stub():
    def stub(image):
        raise NotImplementedError
    verdict = double(stub)
    assert verdict.outcome == "unsolved" and verdict.earned == 0 and "not written yet" in repr(verdict)


@pytest.mark.parametrize(("left_out", "earned"), [
    (lambda image: len(image) == 3, 1.0), (lambda image: image.dtype == torch.float64, 1.0),
    (lambda image: len(image) == 3 and image.shape[1] == 3, 1.0)])
def test_one_case_left_out_costs_that_case_only(left_out, earned):
    def answer(image):
        if left_out(image):
            raise NotImplementedError("this case")
        return 2 * image
    verdict = double(answer)
    assert verdict.outcome == "wrong" and verdict.earned == earned
    assert "NotImplementedError" in verdict.diagnosis[0] and "this case" in verdict.diagnosis[0]


def test_an_exception_becomes_a_sentence_with_the_students_own_line():
    def broken(image):
        wanted = image.no_such_method()
        return wanted
    verdict = double(broken)
    assert verdict.mistake == "raises"
    assert "AttributeError" in repr(verdict) and "wanted = image.no_such_method()" in repr(verdict)
    assert "Traceback" not in repr(verdict) and "engine.py" not in repr(verdict)


@pytest.mark.parametrize("answer, kind", [
    (lambda image: None, "returns_nothing"),
    (lambda image: (2 * image).numpy(), "wrong_type"),
    (lambda image: "a picture", "wrong_type"),
    (lambda image: 2 * image[:1], "wrong_shape"),
    (lambda image: (2 * image).half(), "wrong_dtype"),
    (lambda image: 2 * image / 0, "not_finite"),
    (lambda image: image.mul_(2), "writes_into_argument"),
    (lambda image: (image.zero_(), 2 * image + 1)[1], "writes_into_argument"),
    (3, "raises"),
])
def test_what_is_wrong_in_kind_is_named(answer, kind):
    verdict = double(answer)
    assert not verdict.passed
    if kind == "writes_into_argument":   # both are wrong; what is seen first is said first, and the other is seen as well
        assert verdict.mistake in ("writes_into_argument", "wrong_values")
    else:
        assert verdict.mistake == kind


def test_points_are_shared_among_the_properties():
    verdict = double(lambda image: (2 * image.float()).to(image.dtype))
    assert verdict.earned == 1 and not verdict.passed
    assert [p.passed for p in verdict.properties] == [True, False, True]


def test_a_property_that_needs_no_reference_can_fail():
    verdict = double(lambda image: 2 * image if image.shape != (3, 3, 3) else image.square())
    assert "Twice the input does not give twice the output" in repr(verdict)
    assert verdict.earned == 1   # what carries no points of its own still costs the smallest share


def test_the_seed_changes_the_inputs_and_the_same_seed_repeats_them():
    seen = []
    def spy(request: Request):
        seen.append(request.arguments[0])
        return perform("function", _double, request)
    for seed in (1, 1, 2):
        assert double.judge(spy, seed=seed).passed
    third = len(seen) // 3
    assert all(torch.equal(a, b) for a, b in zip(seen[:third], seen[third:2 * third]))
    assert not torch.equal(seen[0], seen[2 * third])


def test_the_arguments_of_a_check_cannot_be_harmed_by_the_answer():
    kept = torch.ones(3)
    reply = perform("function", lambda x: x.zero_(), Request((kept,)))
    assert torch.equal(kept, torch.ones(3)) and torch.equal(reply.arguments[0], torch.zeros(3))


def test_a_tensor_subclass_leaves_as_plain_numbers():
    class Liar(torch.Tensor):
        def __eq__(self, other):
            return True
    reply = perform("function", lambda x: x.as_subclass(Liar), Request((torch.ones(2),)))
    assert type(reply.value) is torch.Tensor


def test_what_is_no_plain_data_leaves_as_a_name_only():
    assert perform("function", lambda: object(), Request()).value == answers.Opaque("an object")



def test_a_complex_picture_is_an_answer_that_is_wrong_and_has_no_pictures():
    verdict = double(lambda image: (2 * image).to(torch.complex64))
    assert verdict.earned < 2 and not verdict.pictures


# --- differentiable -------------------------------------------------------------------------------------------------

@exercise(points=1, minutes=1, kind="differentiable", reference=lambda a, b: (a * b).sin())
def sine(task: Task) -> None:
    with task.property("gives the sine of the product", share=0.5):
        task.compare(task.normal(4), task.normal(4))
    with task.property("passes the gradients back", share=0.5):
        task.compare(task.normal(4), task.normal(4), cotangent=task.normal(4))

sine.knows({
    "detached": Mistake("the gradient is cut", lambda a, b: (a * b.detach()).sin()),
})


def test_the_vector_jacobian_product_is_compared():
    assert sine(lambda a, b: torch.sin(b * a)).passed
    verdict = sine(lambda a, b: torch.sin(a * b.detach()))
    assert verdict.mistake == "detached" and verdict.earned == 0.5
    assert "lost the gradient" in repr(sine(lambda a, b: torch.sin(a * b).detach()))


# --- module ---------------------------------------------------------------------------------------------------------

class _Affine(torch.nn.Module):
    def __init__(self, inputs, outputs, relu=False):
        super().__init__()
        self.layer, self.relu = torch.nn.Linear(inputs, outputs), relu

    def forward(self, x):
        return self.layer(x).relu() if self.relu else self.layer(x)


@exercise(points=1, minutes=1, kind="module", reference=_Affine)
def affine(task: Task) -> None:
    with task.property("is one linear layer", share=1):
        task.compare(3, 2, weights=[task.normal(2, 3), task.normal(2)], inputs=[task.normal(5, 3)])

affine.knows({
    "relu_added": Mistake("a ReLU follows the layer", lambda inputs, outputs: _Affine(inputs, outputs, relu=True)),
})


def test_a_module_is_compared_with_weights_that_the_check_sets():
    class Mine(torch.nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.matrix, self.shift = torch.nn.Parameter(torch.zeros(b, a)), torch.nn.Parameter(torch.zeros(b))
        def forward(self, x):
            return torch.einsum("ni,oi->no", x, self.matrix) + self.shift
    assert affine(Mine).passed
    assert affine(lambda a, b: _Affine(a, b, relu=True)).mistake == "relu_added"
    assert "[(2, 3)]" in repr(affine(lambda a, b: torch.nn.Linear(a, b, bias=False)))
    assert "expected a torch.nn.Module" in repr(affine(lambda a, b: 3))


# --- step -----------------------------------------------------------------------------------------------------------

def _step(model, optimizer, x, y, zero=True, loss=torch.nn.functional.mse_loss):
    if zero:
        optimizer.zero_grad()
    value = loss(model(x), y)
    value.backward()
    optimizer.step()
    return value


@exercise(points=1, minutes=1, kind="step", reference=_step)
def training_step(task: Task) -> None:
    model = Fixture("linear_model", {"weights": [task.normal(2, 3), task.normal(2)]})
    with task.property("takes a step of gradient descent", share=0.5):
        task.compare(model, Fixture("sgd", {"learning_rate": 0.1}), task.normal(4, 3), task.normal(4, 2))
    with task.property("takes two, each with its own gradient", share=0.5):
        task.compare(model, Fixture("adam", {"learning_rate": 0.1}), task.normal(4, 3), task.normal(4, 2), repeat=2)

training_step.knows({
    "gradients_pile_up": Mistake("zero_grad is missing", lambda *a: _step(*a, zero=False)),
    "absolute_loss": Mistake("the loss is the absolute error", lambda *a: _step(*a, loss=torch.nn.functional.l1_loss)),
})


def test_a_training_step_is_compared_by_the_weights_it_leaves():
    assert training_step(_step).passed
    assert training_step(lambda *a: _step(*a, zero=False)).mistake == "gradients_pile_up"
    assert training_step(lambda *a: _step(*a, loss=torch.nn.functional.l1_loss)).mistake == "absolute_loss"
    assert training_step(lambda *a: None).earned == 0


# --- sampler --------------------------------------------------------------------------------------------------------

def _anneal(denoiser, x, levels):
    for level in levels:
        x = denoiser(x, level)
    return x


@exercise(points=1, minutes=1, kind="sampler", reference=_anneal)
def sampler(task: Task) -> None:
    with task.property("calls the denoiser at every level, from the largest to the smallest", share=1):
        task.compare(Fixture("gaussian_denoiser", {"mean": 0.4, "variance": 0.1}), task.normal(2, 3), [1.0, 0.5, 0.1])

sampler.knows({
    "levels_reversed": Mistake("the noise levels run upwards", lambda d, x, levels: _anneal(d, x, levels[::-1])),
    "one_call": Mistake("the denoiser is called once only", lambda d, x, levels: _anneal(d, x, levels[:1])),
})


def test_a_sampler_is_compared_by_its_result_and_by_the_calls_it_made():
    assert sampler(_anneal).passed
    assert sampler(lambda d, x, levels: _anneal(d, x, levels[::-1])).mistake == "levels_reversed"
    assert sampler(lambda d, x, levels: (d(x, 9.0), _anneal(d, x, levels))[1]).mistake != "levels_reversed"


def test_an_objective_goes_in_by_name():
    objective = Fixture("quadratic_objective", {"matrix": torch.eye(2), "target": torch.ones(2)})
    reply = perform("sampler", lambda f, u: f(u), Request((objective, torch.zeros(2))))
    assert reply.problem is None and float(reply.value["value"]) == 1.0 and reply.value["calls"] == [{"shape": (2,)}]


def test_an_unknown_fixture_is_refused_by_name():
    with pytest.raises(ValueError, match="no fixture is called 'vgg'"):
        perform("sampler", lambda f: f, Request((Fixture("vgg"),)))


# --- kernel ---------------------------------------------------------------------------------------------------------

def test_a_compiled_kernel_is_compared_by_the_arrays_it_leaves():
    from numba import njit

    @njit
    def reference(source, out):
        for i in range(source.size):
            out[i] = 2 * source[i]

    @njit
    def stops_early(source, out):
        for i in range(source.size - 1):
            out[i] = 2 * source[i]

    @exercise(points=1, minutes=1, kind="kernel", reference=reference)
    def doubling(task: Task) -> None:
        with task.property("doubles every entry", share=1):
            task.compare(task.uniform(7), torch.zeros(7))

    doubling.knows({"stops_early": Mistake("the last entry is left out", stops_early)})

    assert doubling(reference).passed
    assert doubling(stops_early).mistake == "stops_early"
    assert "@njit" in repr(doubling(lambda source, out: None))


CUDA_KERNEL = """
import numpy as np, torch
from numba import cuda
from labkit.checks.answers import Request, perform

@cuda.jit
def double(source, out):
    i = cuda.grid(1)
    if i < source.size:
        out[i] = 2 * source[i]

reply = perform("kernel", double, Request((torch.arange(5.0), torch.zeros(5)), {"grid": 2, "block": 4}))
assert reply.problem is None, reply.problem
assert np.array_equal(reply.value["arrays"][1], 2 * np.arange(5.0)), reply.value
print("launched")
"""


def test_a_cuda_kernel_is_launched_on_the_simulator():
    run = subprocess.run([sys.executable, "-c", CUDA_KERNEL], capture_output=True, text=True, timeout=120,
                         env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"})
    assert run.stdout.strip() == "launched", run.stderr


# --- options of a call ----------------------------------------------------------------------------------------------

OPTIONS = {"function": {}, "differentiable": {"cotangent": torch.ones(2)}, "module": {"weights": [torch.ones(2)], "inputs": [torch.ones(2)]},
           "step": {"repeat": 2}, "sampler": {}, "kernel": {"grid": 1, "block": 1}}


@pytest.mark.parametrize("kind", answers.KINDS)
def test_an_option_that_calls_of_a_kind_do_not_take_is_refused(kind):
    foreign = {name: value for other in OPTIONS.values() for name, value in other.items() if name not in OPTIONS[kind]} | {"repaet": 3}
    made = exercise(points=1, minutes=1, kind=kind, reference=lambda x: x)(lambda task: None)
    task = Task(made, lambda request: pytest.fail("the answer was called"), 1)
    for name, value in foreign.items():
        options = {**OPTIONS[kind], name: value}
        takes = ", ".join(OPTIONS[kind]) or "no options"
        refused = f"option '{name}' was given; a call of kind '{kind}' takes {takes}$"
        with pytest.raises(ValueError, match=refused):
            task.compare(torch.ones(2), **options)
        with pytest.raises(ValueError, match=refused):
            task.call(torch.ones(2), shape=(2,), **options)
        with pytest.raises(ValueError, match=refused):
            perform(kind, lambda x: x, Request((torch.ones(2),), options))


@pytest.mark.parametrize("kind, options, missing", [
    ("module", {}, "weights"), ("module", {"weights": []}, "inputs"), ("kernel", {"grid": 1}, "block"), ("kernel", {"block": 1}, "grid")])
def test_an_option_that_is_missing_is_named(kind, options, missing):
    with pytest.raises(ValueError, match=f"option '{missing}' is missing; a call of kind '{kind}' takes "):
        perform(kind, lambda x: x, Request((torch.ones(2),), options))


def test_every_option_of_every_kind_is_taken():
    for kind, options in OPTIONS.items():
        answers.require_options(kind, options)
        assert set(answers.KINDS[kind].options) == set(options)


# --- mistakes, forms, draws -----------------------------------------------------------------------------------------

def test_mistakes_are_known_after_what_is_asked_and_those_that_stand_first_come_first():
    made = exercise(points=1, minutes=1, reference=_double)(double.body)
    made.knows({"tripled": Mistake("it is tripled", lambda image: 3 * image)})
    made.knows({"times_three": Mistake("it is multiplied by three", lambda image: 3 * image)})
    assert list(made.mistakes) == ["tripled", "times_three"]
    assert made(lambda image: image + 2 * image).mistake == "tripled"
    with pytest.raises(ValueError, match="double knows tripled already"):
        made.knows({"tripled": Mistake("it is tripled again", lambda image: 3 * image)})


def test_an_answer_in_another_form_is_as_good_and_a_known_mistake_in_it_is_named():
    def as_list(value):
        return value.tolist() if isinstance(value, torch.Tensor) else value

    @exercise(points=1, minutes=1, reference=lambda n: list(range(n)), form=as_list)
    def count(task: Task) -> None:
        with task.property("counts from 0", share=1):
            task.compare(4)

    count.knows({"from_one": Mistake("it counts from 1", lambda n: torch.arange(1, n + 1))})
    assert count(torch.arange).passed and count(lambda n: list(range(n))).passed
    assert count(lambda n: [i + 1 for i in range(n)]).mistake == "from_one"
    assert count(lambda n: torch.arange(n) + 1).mistake == "from_one"
    assert count(lambda n: None).mistake == "returns_nothing"


def test_draws_go_on_until_one_serves_and_end_where_none_does():
    task = Task(double, lambda request: None, 5)
    drawn = task.draw_until(lambda: task.integer(0, 9), lambda number: number >= 8)
    again = Task(double, lambda request: None, 5)
    numbers = [again.integer(0, 9)]
    while numbers[-1] < 8:
        numbers.append(again.integer(0, 9))
    assert drawn == numbers[-1] and task.integer(0, 10 ** 6) == again.integer(0, 10 ** 6)     # nothing more was drawn than needed
    tried = []
    with pytest.raises(RuntimeError, match="double: none of 3 drawn inputs was accepted"):
        task.draw_until(lambda: tried.append(1), lambda made: False, tries=3)
    assert len(tried) == 3


# --- which mistake it looks like ------------------------------------------------------------------------------------

@exercise(points=1, minutes=1, reference=lambda image, noise: image + noise)
def noisy(task: Task) -> None:
    with task.property("adds noise", share=1):
        task.compare(task.image(4, 5), task.uniform(3, 4, 5))


noisy.knows({
    "writes_into_input": Mistake("the noisy picture is written over the picture", lambda image, noise: image.add_(noise)),
    "rounded": Mistake("the sum is rounded to the fifth decimal", lambda image, noise: ((image + noise) * 1e5).round() / 1e5),
})


def test_a_mistake_that_writes_into_an_argument_is_recognised_by_that_argument():
    verdict = noisy(lambda image, noise: image.copy_(noise + image))
    assert verdict.mistake == "writes_into_input" and verdict.diagnosis[0] == "It looks as if the noisy picture is written over the picture."
    assert "it wrote into the image that it was given, which the caller still needs" in verdict.diagnosis[1]
    for answer in (lambda image, noise: noise.add_(image), lambda image, noise: image.add_(noise.mul_(1.5))):
        other = noisy(answer)
        assert other.mistake == "writes_into_argument" and "written over the picture" not in repr(other)
    assert "it wrote into the noise that it was given" in repr(noisy(lambda image, noise: noise.add_(image)))


def test_an_answer_that_is_nearly_right_looks_like_no_mistake_that_is_right():
    verdict = noisy(lambda image, noise: image + noise + 4e-5)
    assert verdict.mistake == "wrong_values" and "written over" not in repr(verdict)


def test_a_right_value_that_is_written_into_an_argument_looks_like_no_mistake_in_values():
    assert noisy(lambda image, noise: (noise.zero_(), image + 0)[0]).mistake != "rounded"
    assert noisy(lambda image, noise: noise.add_(image)).mistake == "writes_into_argument"


# --- what is said of a difference -----------------------------------------------------------------------------------

def _told(answer, reference, *arguments, tolerance=1e-5, kind="function", **options):
    """What a check says of an answer to one call."""
    @exercise(points=1, minutes=1, kind=kind, reference=reference)
    def asked(task: Task) -> None:
        with task.property("gives what it should", share=1):
            task.compare(*arguments, tolerance=tolerance, **options)
    return asked(answer).diagnosis[-1]


def test_arguments_are_called_by_the_names_of_the_parameters():
    def reference(image, radius, *, border="zero"):
        return image * radius
    assert _told(lambda image, r: None, reference, torch.ones(1, 12, 17), 2) == (
        "Called with image: a float32 tensor (1, 12, 17), radius: 2: it returned nothing (None); expected a float32 tensor (1, 12, 17). "
        "Is the last line a `return`?")
    told = _told(lambda image, r: None, lambda *arguments: arguments[0], torch.ones(1, 12, 17), 2)
    assert told.startswith("Called with a float32 tensor (1, 12, 17), 2: it returned nothing")


def test_whole_numbers_and_truth_values_are_shown_as_they_are():
    told = _told(lambda n: torch.tensor([8, 3]), lambda n: torch.tensor([7, 3]), 1)
    assert "the largest difference is 1, at (entry 0): expected 7, yours 8." in told
    told = _told(lambda n: torch.ones(2, 3) > 0, lambda n: torch.tensor([[True, True, False], [True, False, True]]), 1)
    assert told.endswith("2 of 6 values are wrong, the first at (row 0, column 2): expected False, yours True.")
    assert "it returned 8.5; expected 8." in _told(lambda n: 8.5, lambda n: 8, 1)


def test_as_many_digits_are_shown_as_it_takes_to_see_a_difference():
    assert "it returned 18.78294; expected 18.78290." not in _told(lambda n: 18.78294, lambda n: 18.7829, 1)
    assert "it returned 18.78294; expected 18.7829." in _told(lambda n: 18.78294, lambda n: 18.7829, 1)
    told = _told(lambda n: torch.tensor([0.5, 18.78294]), lambda n: torch.tensor([0.4, 18.7829]), 1)
    assert "expected 0.4000, yours 0.5000" in told
    told = _told(lambda n: torch.tensor([0.5, 18.78294]), lambda n: torch.tensor([0.5, 18.7829]), 1)
    assert "expected 18.7829, yours 18.78294." in told or "expected 18.783, yours 18.78294." in told, told


def test_positions_in_a_field_are_said_whole_and_its_first_axis_is_no_channel():
    field = torch.arange(24).reshape(2, 3, 4).int()
    wrong = field.clone()
    wrong[1, 2, 3] = 99
    told = _told(lambda n: wrong, lambda n: field, 1)
    assert told.endswith("the largest difference is 76, at (row 2, column 3): expected (11, 23), yours (11, 99).")
    assert "channel" not in told


def test_channels_are_said_of_pictures_only():
    for shape, place in (((3, 4, 5), "(channel 2, row 3, column 4)"), ((2, 1, 4, 5), "(image 1, channel 0, row 3, column 4)"),
                         ((16, 4, 5), "(15, 3, 4)"), ((2, 8, 4, 5), "(1, 7, 3, 4)")):
        right, wrong = torch.zeros(shape), torch.zeros(shape)
        wrong.view(-1)[-1] = 0.25
        assert f"at {place}: " in _told(lambda *a, wrong=wrong: wrong, lambda *a, right=right: right, 1)
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    assert "the first at (row 0, column 0)" in _told(lambda n: ~mask, lambda n: mask, 1)


def test_an_offset_is_claimed_only_where_it_is_one():
    noise = torch.linspace(-3e-5, 5e-5, 20, dtype=torch.float64).reshape(4, 5)
    told = _told(lambda x: x + noise, lambda x: x + 0, 0.5 + torch.zeros(4, 5).double(), tolerance=1e-5)
    assert "the largest difference is 5e-05" in told and "every value is" not in told
    assert "every value is off by 0.002; " in _told(lambda x: x + 0.002, lambda x: x + 0, torch.rand(4, 5), tolerance=1e-5)
    assert "every value is 1.01 times" in _told(lambda x: 1.01 * x, lambda x: x + 0, 0.5 + torch.rand(4, 5).double())
    assert "every value is 1.0002 times" in _told(lambda x: 1.0002 * x, lambda x: x + 0, 0.5 + torch.rand(4, 5).double(), tolerance=1e-6)


def test_values_that_are_not_finite_on_either_side_do_not_stop_the_words():
    right = torch.zeros(3, 4, 5, dtype=torch.float64)
    right[0, 0, 0], right[1, 2, 3] = float("nan"), float("inf")
    told = _told(lambda n: right + 4e-5, lambda n: right, 1, tolerance=1e-5)
    assert "the largest difference is 4e-05" in told


def test_one_row_is_one_row():
    told = _told(lambda x: x[:, :-1, :-1] + 0, lambda x: x + 0, torch.ones(3, 5, 6))
    assert told.endswith("expected (3, 5, 6). 1 row and 1 column are missing; was a border not padded?")
    told = _told(lambda x: torch.ones(2, 4, 4).int(), lambda x: torch.ones(2, 5, 6).int(), 1)
    assert told.endswith("expected (2, 5, 6). 1 row and 2 columns are missing.")


def test_a_guess_at_the_cause_is_not_said_once_the_cause_is_known():
    rounded = lambda x: (2 * x.float()).double()
    picture = torch.rand(3, 4, 4, dtype=torch.float64)

    @exercise(points=1, minutes=1, reference=lambda x: 2 * x)
    def asked(task: Task) -> None:
        with task.property("doubles", share=1):
            task.compare(picture, tolerance=1e-12)
    unknown = asked(rounded)
    assert unknown.diagnosis[0].endswith("although the input is float64. Something on the way was computed in float32.")
    asked.knows({"rounded": Mistake("the input is brought to float32", rounded)})
    known = asked(rounded)
    assert known.diagnosis[0] == "It looks as if the input is brought to float32."
    assert known.diagnosis[1].endswith("although the input is float64.") and repr(known).count("float32") == 1


def test_a_dtype_is_that_of_the_input_only_where_an_input_has_it():
    assert "it returned dtype float64; expected float32, that of the input." in _told(lambda x: x.double(), lambda x: x + 0, torch.ones(2))
    told = _told(lambda x: x.double(), lambda x: x.float(), torch.ones(2, dtype=torch.int64))
    assert told.endswith("it returned dtype float64; expected float32.")


def test_parts_of_a_value_are_named_as_the_kind_of_answer_has_it():
    def weighted(query, n, key):
        return query * key
    arguments = (torch.ones(2), 3, torch.ones(2))
    told = _told(lambda q, n, k: q * k.detach() + 2 * (k - k.detach()), weighted, *arguments, kind="differentiable", cotangent=torch.arange(2.0) + 2)
    assert ": the gradient of key: every value is 2 times what it should be; the largest difference is 3, at (entry 1): expected 3" in told

    denoiser = Fixture("gaussian_denoiser", {"mean": 0.4, "variance": 0.1})
    def once(denoiser, x):
        return denoiser(x, 0.5)
    x = torch.rand(2, 3)
    assert _told(lambda d, x: (d(x, 0.5), d(x, 0.5))[1], once, denoiser, x, kind="sampler").endswith(
        ": the number of times that denoiser was called: 2; expected 1.")
    assert _told(lambda d, x: (d(x, 0.25), 0.4 + 0.1 / 0.35 * (x - 0.4))[1], once, denoiser, x, kind="sampler").endswith(
        ": the noise level that denoiser was given in call 1 of 1: 0.25; expected 0.5.")
    assert ": what it returns: the largest difference is" in _told(lambda d, x: d(x, 0.5) + x, once, denoiser, x, kind="sampler")

    weights, inputs = [torch.ones(2, 3), torch.zeros(2)], [-torch.ones(5, 3)]
    told = _told(lambda a, b: _Affine(a, b, relu=True), _Affine, 3, 2, kind="module", weights=weights, inputs=inputs)
    assert "Called with inputs: 3, outputs: 2: its output: every value is 0; " in told

    weights = Fixture("linear_model", {"weights": [torch.ones(2, 3), torch.ones(2)]})
    step = weights, Fixture("sgd", {"learning_rate": 0.1}), torch.ones(4, 3), torch.ones(4, 2)
    told = _told(lambda *a: _step(*a, zero=False) * 2, _step, *step, kind="step", repeat=2)
    assert ": what it returns from call 1 of 2: " in told
    told = _told(lambda m, o, x, y: torch.nn.functional.mse_loss(m(x), y), _step, *step, kind="step")
    assert ": number 1 of 2 of the model's parameters, after the step: " in told


def test_an_array_of_a_kernel_is_named_by_its_parameter():
    from numba import njit

    @njit
    def kernel(source, out):
        for i in range(source.size):
            out[i] = 2 * source[i]

    @njit
    def wrong(source, out):
        for i in range(source.size):
            out[i] = source[i] + 1

    assert ": the array out after the launch: " in _told(wrong, kernel, torch.arange(4.0), torch.zeros(4), kind="kernel")


# --- the verdict ----------------------------------------------------------------------------------------------------

def test_a_wrong_answer_is_shown_with_pictures_that_have_alternative_text():
    verdict = double(lambda image: image)
    assert [title.split(" ×")[0] for title, _ in verdict.pictures] == ["input", "expected", "yours", "difference"]
    markup = verdict._repr_html_()
    assert markup.count("<img") == 4 and markup.count('alt="') == 4 and 'alt=""' not in markup


def test_what_the_student_wrote_cannot_become_markup():
    def rude(image):
        raise ValueError("<script>alert(1)</script>")
    assert "<script>" not in double(rude)._repr_html_()


def test_code_is_code_in_a_notebook_and_stays_between_backticks_in_a_terminal():
    def rude(image):
        return image.no_such_method(image < 1)
    verdict = double(rude)
    assert "<code>return image.no_such_method(image &lt; 1)</code>" in verdict._repr_html_() and "`" not in verdict._repr_html_()
    assert "`return image.no_such_method(image < 1)`" in repr(verdict)


def test_under_nbgrader_the_result_of_a_check_is_its_marks(monkeypatch):
    verdict = double(lambda image: (2 * image.float()).to(image.dtype))
    assert set(verdict._repr_mimebundle_()) == {"text/plain", "text/html"}
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert verdict._repr_mimebundle_()["text/plain"] == "1"


def test_under_nbgrader_a_warning_does_not_reach_stderr(monkeypatch, capsys):
    def noisy(image):
        print("a remark", file=sys.stderr)
        return 2 * image
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert double(noisy).passed
    assert capsys.readouterr().err == ""


def test_matrices_are_shown_as_colours():
    @exercise(points=1, minutes=1, reference=lambda m: m.T.contiguous())
    def transpose(task):
        with task.property("exchanges rows and columns", share=1):
            task.compare(task.normal(4, 4))
    verdict = transpose(lambda m: m.clone())
    assert len(verdict.pictures) == 3 and "rows and columns exchanged" in repr(verdict)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind is 'poem'"):
        exercise(points=1, minutes=1, reference=None, kind="poem")


def test_a_verdict_without_properties_is_still_readable():
    assert "not written yet" in Verdict("x", 1, 0, "unsolved")._repr_html_()


def test_numbers_arrays_and_lists_are_compared_too():
    @exercise(points=1, minutes=1, reference=lambda n: {"list": [n, float(n)], "array": np.arange(n), "word": "yes"})
    def mixed(task):
        with task.property("returns what it should", share=1):
            task.compare(3)
    assert mixed(lambda n: {"list": [n, n + 1e-9], "array": np.arange(n), "word": "yes"}).passed
    assert not mixed(lambda n: {"list": [n, n + 1.0], "array": np.arange(n), "word": "yes"}).passed
    assert not mixed(lambda n: {"list": [n, n], "array": np.arange(n) + 1, "word": "yes"}).passed
    assert not mixed(lambda n: {"list": [n, n], "array": np.arange(n), "word": "no"}).passed
    assert not mixed(lambda n: {"list": [n], "array": np.arange(n), "word": "yes"}).passed
    assert not mixed(lambda n: [n, n]).passed


def test_a_warning_inside_an_answer_is_no_error():
    def warns(image):
        warnings.warn("deprecated", UserWarning, stacklevel=1)
        return 2 * image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert double(warns).passed
