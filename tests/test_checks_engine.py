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


@exercise(points=2, minutes=1, reference=_double, mistakes={
    "tripled": Mistake("the picture is multiplied by three", lambda image: 3 * image, 1),
    "squared": Mistake("the picture is squared", lambda image: image ** 2),
    "float32_only": Mistake("digits are lost", lambda image: image),
})
def double(task: Task) -> None:
    with task.property("doubles a picture", share=0.5):
        task.compare(task.image(5, 6))
    with task.property("keeps float64", share=0.5):
        task.compare(task.image(4, 4, channels=1, dtype=torch.float64), tolerance=1e-12)
    with task.property("is linear"):
        image = task.image(3, 3)
        task.require(torch.equal(task.call(2 * image, shape=image.shape), 2 * task.call(image, shape=image.shape)), "Twice the input does not give twice the output.")


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
    (lambda image: image.mul_(2), "writes_into_input"),
    (lambda image: (image.zero_(), 2 * image + 1)[1], "writes_into_input"),
    (3, "raises"),
])
def test_what_is_wrong_in_kind_is_named(answer, kind):
    verdict = double(answer)
    assert not verdict.passed
    if kind == "writes_into_input":   # both are wrong; what is seen first is said first, and the other is seen as well
        assert verdict.mistake in ("writes_into_input", "wrong_values")
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

@exercise(points=1, minutes=1, kind="differentiable", reference=lambda a, b: (a * b).sin(), mistakes={
    "detached": Mistake("the gradient is cut", lambda a, b: (a * b.detach()).sin()),
})
def sine(task: Task) -> None:
    with task.property("gives the sine of the product", share=0.5):
        task.compare(task.normal(4), task.normal(4))
    with task.property("passes the gradients back", share=0.5):
        task.compare(task.normal(4), task.normal(4), cotangent=task.normal(4))


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


@exercise(points=1, minutes=1, kind="module", reference=_Affine, mistakes={
    "relu_added": Mistake("a ReLU follows the layer", lambda inputs, outputs: _Affine(inputs, outputs, relu=True)),
})
def affine(task: Task) -> None:
    with task.property("is one linear layer", share=1):
        task.compare(3, 2, weights=[task.normal(2, 3), task.normal(2)], inputs=[task.normal(5, 3)])


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


@exercise(points=1, minutes=1, kind="step", reference=_step, mistakes={
    "gradients_pile_up": Mistake("zero_grad is missing", lambda *a: _step(*a, zero=False)),
    "absolute_loss": Mistake("the loss is the absolute error", lambda *a: _step(*a, loss=torch.nn.functional.l1_loss)),
})
def training_step(task: Task) -> None:
    model = Fixture("linear_model", {"weights": [task.normal(2, 3), task.normal(2)]})
    with task.property("takes a step of gradient descent", share=0.5):
        task.compare(model, Fixture("sgd", {"learning_rate": 0.1}), task.normal(4, 3), task.normal(4, 2))
    with task.property("takes two, each with its own gradient", share=0.5):
        task.compare(model, Fixture("adam", {"learning_rate": 0.1}), task.normal(4, 3), task.normal(4, 2), repeat=2)


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


@exercise(points=1, minutes=1, kind="sampler", reference=_anneal, mistakes={
    "levels_reversed": Mistake("the noise levels run upwards", lambda d, x, levels: _anneal(d, x, levels[::-1])),
    "one_call": Mistake("the denoiser is called once only", lambda d, x, levels: _anneal(d, x, levels[:1])),
})
def sampler(task: Task) -> None:
    with task.property("calls the denoiser at every level, from the largest to the smallest", share=1):
        task.compare(Fixture("gaussian_denoiser", {"mean": 0.4, "variance": 0.1}), task.normal(2, 3), [1.0, 0.5, 0.1])


def test_a_sampler_is_compared_by_its_result_and_by_the_calls_it_made():
    assert sampler(_anneal).passed
    assert sampler(lambda d, x, levels: _anneal(d, x, levels[::-1])).mistake == "levels_reversed"
    assert sampler(lambda d, x, levels: (d(x, 9.0), _anneal(d, x, levels))[1]).mistake != "levels_reversed"


def test_an_objective_goes_in_by_name():
    objective = Fixture("quadratic_objective", {"matrix": torch.eye(2), "target": torch.ones(2)})
    reply = perform("sampler", lambda f, u: f(u), Request((objective, torch.zeros(2))))
    assert reply.problem is None and float(reply.value["value"]) == 1.0 and reply.value["calls"] == [(2,)]


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

    @exercise(points=1, minutes=1, kind="kernel", reference=reference, mistakes={
        "stops_early": Mistake("the last entry is left out", stops_early)})
    def doubling(task: Task) -> None:
        with task.property("doubles every entry", share=1):
            task.compare(task.uniform(7), torch.zeros(7))

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
    @exercise(points=1, minutes=1, reference=lambda m: m.T.contiguous(), mistakes={})
    def transpose(task):
        with task.property("exchanges rows and columns", share=1):
            task.compare(task.normal(4, 4))
    verdict = transpose(lambda m: m.clone())
    assert len(verdict.pictures) == 3 and "rows and columns exchanged" in repr(verdict)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind is 'poem'"):
        exercise(points=1, minutes=1, reference=None, mistakes={}, kind="poem")


def test_a_verdict_without_properties_is_still_readable():
    assert "not written yet" in Verdict("x", 1, 0, "unsolved")._repr_html_()


def test_numbers_arrays_and_lists_are_compared_too():
    @exercise(points=1, minutes=1, reference=lambda n: {"list": [n, float(n)], "array": np.arange(n), "word": "yes"}, mistakes={})
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
