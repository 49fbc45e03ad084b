"""Training a diffusion model on one picture: masks, network, what reaches the training, what is kept."""

from __future__ import annotations

import math

import pytest
import torch

from labkit import images
from labkit.diffusion_inpainting import (Diffusion, Inpainter, UNet, brush_mask, inpaint, regress, train_inpainter,
                                         train_intervals, train_unconditional)
from labkit.diffusion_inpainting.inpainter import Crops, Examples, inpainting_loss, regression_loss
from labkit.diffusion_inpainting.masks import brush_masks, brush_path, draw_path
from labkit.runtime import generator

TINY = {"steps": 3, "batch_size": 2, "crop_size": 16, "width": 4}


@pytest.fixture(scope="module")
def picture():
    return images.load("wall")[:, :40, :44].contiguous()


@pytest.fixture(scope="module")
def hole():
    return square(40, 44, row=14, column=16, side=8)


def square(height, width, *, row, column, side):
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, row:row + side, column:column + side] = True
    return mask


def weights(model):
    return [value.clone() for value in model.network.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second)))


# --- masks --------------------------------------------------------------------------------------------------------------

def test_a_brush_mask_depends_on_its_seed_alone():
    torch.manual_seed(1)
    first = brush_mask(40, 56, seed=3)
    torch.manual_seed(2)
    assert first.shape == (1, 40, 56) and first.dtype == torch.bool
    assert torch.equal(first, brush_mask(40, 56, seed=3)) and not torch.equal(first, brush_mask(40, 56, seed=4))


@pytest.mark.parametrize("strokes", [1, 3])
def test_strokes_are_connected_and_neither_empty_nor_full(strokes):
    from skimage.measure import label

    for seed in range(20):
        mask = brush_mask(64, 48, strokes=strokes, thickness=5, seed=seed)
        assert 1 <= label(mask[0].numpy(), connectivity=2).max() <= strokes
        assert 0.01 < mask.float().mean() < 0.6


def test_more_strokes_longer_pieces_and_a_thicker_brush_paint_more():
    def painted(**options):
        return sum(float(brush_mask(64, 64, seed=seed, **options).float().mean()) for seed in range(20))

    usual = painted(thickness=6, length=15)
    assert painted(thickness=6, length=15, strokes=3) > 2 * usual
    assert painted(thickness=12, length=15) > 1.5 * usual
    assert painted(thickness=6, length=40) > 1.3 * usual


@pytest.mark.parametrize("thickness", [1.0, 4.0, 7.5])
def test_a_drawn_segment_is_the_set_of_near_pixels(thickness):
    points = torch.tensor([[4.0, 3.0], [11.0, 17.0], [2.0, 20.0]])
    drawn = draw_path(points, height=15, width=24, thickness=thickness)

    def distance(row, column, a, b):        # to a segment, by trying many of its points
        along = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
        return float((a + along * (b - a) - torch.tensor([row, column])).norm(dim=1).min())

    reach = max(thickness / 2, math.sqrt(0.5))
    for row in range(15):
        for column in range(24):
            nearest = min(distance(row, column, a.double(), b.double()) for a, b in zip(points, points[1:]))
            if abs(nearest - reach) > 1e-2:     # the points tried are 0.01 pixels apart
                assert drawn[0, row, column] == (nearest < reach)


def test_a_path_alternates_its_angles_and_stays_in_the_picture():
    path = brush_path(torch.tensor([10.0, 10.0]), angles=torch.tensor([0.0, math.pi / 2, math.pi / 2, math.pi]),
                      lengths=torch.tensor([5.0, 4.0, 3.0, 100.0]), height=30, width=40)
    # right by 5; 2π − π/2 is up by 4; down by 3; left as far as the border
    expected = torch.tensor([[10.0, 10.0], [10.0, 15.0], [6.0, 15.0], [9.0, 15.0], [9.0, 0.0]])
    assert torch.allclose(path, expected, atol=1e-4)        # cos(π / 2) is not quite 0 in float32


def test_a_point_is_painted_however_thin_the_brush():
    assert draw_path(torch.tensor([[3.4, 5.4], [3.4, 5.4]]), height=8, width=9, thickness=0.1).sum() == 1


def test_masks_of_a_batch_differ_and_single_ones_equal_a_batch_of_one():
    several = brush_masks(6, 20, 30, generator=generator(5))
    assert several.shape == (6, 1, 20, 30) and len(several.flatten(1).unique(dim=0)) == 6
    assert torch.equal(brush_masks(1, 20, 30, generator=generator(5))[0], brush_mask(20, 30, seed=5))


def test_bad_brushes_are_refused():
    for options in ({"strokes": 0}, {"segments": 0}, {"length": 0}, {"thickness": -1}, {"max_angle": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            brush_mask(20, 20, **options)
    with pytest.raises(ValueError, match="height"):
        brush_mask(0, 20)
    with pytest.raises(ValueError, match="angles"):
        brush_path(torch.zeros(2), angles=torch.zeros(3), lengths=torch.zeros(4), height=9, width=9)


# --- network ------------------------------------------------------------------------------------------------------------

def test_the_network_has_as_many_weights_as_published():
    assert sum(parameter.numel() for parameter in UNet(3).parameters()) == 160_323


@pytest.mark.parametrize("channels, levels, conditional", [(3, 4, True), (1, 4, True), (3, 1, True), (2, 3, False)])
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (8, 40), (5, 3)])
def test_any_size_goes_through_the_network(size, channels, levels, conditional):
    network = UNet(channels, width=4, levels=levels, conditional=conditional)
    x = torch.rand(2, channels, *size, generator=generator(0))
    known, mask = (x, torch.ones(2, 1, *size)) if conditional else (None, None)
    assert network(x, known, mask, torch.tensor([0.1, 0.9])).shape == x.shape


def test_every_input_reaches_the_estimate():
    network = UNet(1, width=8)
    inputs = [torch.rand(1, 1, 16, 16, generator=generator(k)) for k in range(3)] + [torch.tensor([0.5])]
    before = network(*inputs)
    for k in range(4):
        changed = [value + 0.3 if k == number else value for number, value in enumerate(inputs)]
        assert not torch.allclose(network(*changed), before, atol=1e-4)


def test_examples_in_a_batch_do_not_see_each_other():
    network = UNet(3, width=4)
    x, mask, t = torch.rand(3, 3, 16, 24, generator=generator(0)), torch.ones(3, 1, 16, 24), torch.tensor([0.1, 0.5, 0.9])
    alone = torch.cat([network(x[k:k + 1], x[k:k + 1], mask[k:k + 1], t[k:k + 1]) for k in range(3)])
    assert torch.allclose(network(x, x, mask, t), alone, atol=1e-5)    # sums of another order


def test_a_picture_of_odd_size_is_continued_by_its_border():
    network, x, mask = UNet(1, width=4), torch.rand(1, 1, 13, 10, generator=generator(0)), torch.ones(1, 1, 13, 10)
    pad = torch.nn.ReplicationPad2d((0, 6, 0, 3))
    whole = network(pad(x), pad(x), pad(mask), torch.tensor([0.5]))
    assert torch.allclose(network(x, x, mask, torch.tensor([0.5])), whole[..., :13, :10], atol=1e-5)


def test_at_the_start_every_layer_passes_the_signal_on_and_the_estimate_is_small():
    network, sizes = UNet(3), []
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, output: sizes.append(float(output.detach().std())))
    x = torch.randn(2, 3, 32, 32, generator=generator(0))
    estimate = network(x, x, torch.ones(2, 1, 32, 32), torch.full((2,), 0.5))
    # He's weights keep the size to a factor; torch's own end at a hundredth of it
    assert len(sizes) == 16 and all(0.3 < size < 6 for size in sizes[:-1])
    assert estimate.detach().std() < 0.5


# --- what reaches the training ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("crop_size", [16, 40])
@pytest.mark.parametrize("train", [train_inpainter, train_unconditional, regress])
def test_what_lies_under_the_mask_has_no_influence_on_a_single_weight(picture, hole, train, crop_size):
    options = TINY | {"crop_size": crop_size, "steps": 4}
    other = torch.where(hole, torch.rand(picture.shape, generator=generator(1)), picture)
    before = other.clone()
    found = [train(image, hole, **options) for image in (picture, other)]
    if train is regress:
        assert torch.equal(*found)
    else:
        assert same(*found) and found[0].history == found[1].history
        assert found[0].statistics == found[1].statistics
    assert torch.equal(other, before)


def test_a_visible_pixel_has_an_influence(picture, hole):
    other = picture.clone()
    other[:, :, :16] = 1 - other[:, :, :16]
    assert not same(*(train_inpainter(image, hole, **TINY) for image in (picture, other)))


def test_crops_avoid_a_small_hole_and_show_the_picture(picture, hole):
    crops = Crops(picture, hole, crop_size=16)
    assert crops.avoiding and crops.side == 16
    x0, known = crops.draw(200, generator(0))
    assert known.all() and x0.shape == (200, 3, 16, 16)
    for crop in x0[:5]:     # each is somewhere in the picture
        windows = (2 * picture - 1).unfold(1, 16, 1).unfold(2, 16, 1)
        assert ((windows - crop[:, None, None]).abs().amax((0, 3, 4)) == 0).any()
    assert len(x0.flatten(1).unique(dim=0)) > 50


def test_crops_of_a_small_picture_hide_the_hole(picture, hole):
    crops = Crops(picture, hole, crop_size=40)
    x0, known = crops.draw(50, generator(0))
    assert not crops.avoiding and crops.side == 40 and (~known).any() and (x0.movedim(1, -1)[~known[:, 0]] == 0).all()
    whole = Crops(picture, hole, crop_size=40, whole=True)
    assert whole.avoiding and whole.side < 40 and whole.draw(50, generator(0))[1].all()


@pytest.mark.parametrize("task", ["inpainting", "regression"])
def test_the_loss_counts_painted_and_known_pixels_only(task):
    diffusion, seen = Diffusion(), {}
    x0 = torch.rand(2, 3, 16, 16, generator=generator(0)) * 2 - 1
    known, painted = (torch.rand(2, 1, 16, 16, generator=generator(k)) < 0.6 for k in (1, 2))
    noise, t = torch.randn(x0.shape, generator=generator(3)), torch.tensor([10, 700])

    def network(x_t, y, mask, time):
        seen.update(x_t=x_t, y=y, mask=mask, time=time)
        return torch.full_like(x_t, 0.25)

    visible, lost = torch.where(known, x0, 0), painted | ~known
    if task == "inpainting":
        loss = inpainting_loss(network, x0, known=known, painted=painted, t=t, noise=noise, diffusion=diffusion)
        bar = diffusion.alpha_bars[t].float()[:, None, None, None]
        assert torch.allclose(seen["x_t"], bar.sqrt() * visible + (1 - bar).sqrt() * noise, atol=1e-6)
        assert torch.allclose(seen["time"].float(), torch.tensor([0.01, 0.7]))
    else:
        loss = regression_loss(network, x0, known=known, painted=painted)
        assert not seen["x_t"].any() and torch.equal(seen["time"], torch.ones(2))
    assert torch.equal(seen["y"], torch.where(lost, 0, x0)) and torch.equal(seen["mask"], lost.float())
    assert loss == pytest.approx(float((0.25 - x0)[(painted & known).expand_as(x0)].square().mean()), rel=1e-5)


def test_the_loss_weighs_the_steps_of_the_chain():
    diffusion, t = Diffusion(), torch.tensor([5, 900])
    x0, all_of_it = torch.rand(2, 1, 8, 8, generator=generator(0)), torch.ones(2, 1, 8, 8, dtype=torch.bool)
    for kind in ("elbo", "min_snr"):
        loss = inpainting_loss(lambda x_t, *rest: torch.zeros_like(x_t), x0, known=all_of_it, painted=all_of_it, t=t, noise=x0,
                               diffusion=diffusion, weighting=kind)
        expected = (x0.square().mean((1, 2, 3)).double() * diffusion.loss_weights(t, kind=kind)).mean()
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("interval", [None, (1, 1), (401, 450), (999, 1000)])
def test_the_steps_of_the_chain_are_uniform_in_their_interval(picture, hole, interval):
    examples = Examples(Crops(picture, hole, crop_size=16), task="inpainting", diffusion=Diffusion(), interval=interval,
                        weighting="uniform", thickness=4, batch_size=4000)
    t = examples.times(generator(0))
    first, last = interval or (1, 1000)
    assert t.dtype == torch.long and int(t.min()) == first and int(t.max()) == last
    # uniform on first … last; 4000 draws in equal parts place the mean within a part
    assert float(t.double().mean()) == pytest.approx((first + last) / 2, abs=(last - first + 1) * 1e-3)


# --- training -----------------------------------------------------------------------------------------------------------

def test_a_short_training_lowers_the_loss_and_beats_its_first_guess():
    rows = torch.arange(32.0)
    stripes = (0.5 + 0.4 * torch.sin(rows * math.pi / 4))[None, :, None].expand(1, 32, 32).contiguous()
    mask = square(32, 32, row=12, column=10, side=10)
    model = train_inpainter(stripes, mask, steps=60, batch_size=4, crop_size=32, width=8, learning_rate=5e-3, average=None)
    losses = model.history["loss"]
    assert len(losses) == 60 and sum(losses[-15:]) < 0.3 * sum(losses[:15])
    fill = inpaint(stripes, mask, model=model, sampler="ddim", sampling_steps=5)[0]
    hole = mask.expand_as(stripes)
    # better than grey, whose error is the variance of the stripes, 0.08
    assert (fill - stripes)[hole].square().mean() < 0.5 * (0.5 - stripes)[hole].square().mean()


def test_the_same_seed_gives_the_same_model(picture, hole):
    torch.manual_seed(1)
    first = train_inpainter(picture, hole, **TINY, seed=2)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert same(first, train_inpainter(picture, hole, **TINY, seed=2))
    assert torch.equal(state, torch.random.get_rng_state())      # the reader's own random numbers are left alone
    assert not same(first, train_inpainter(picture, hole, **TINY, seed=3))


def test_a_training_resumes_from_its_checkpoint(picture, hole, tmp_path):
    def killed(training):
        if training.step == 5:
            raise SystemExit

    options = TINY | {"steps": 8}
    whole = train_inpainter(picture, hole, **options)
    with pytest.raises(SystemExit):
        train_inpainter(picture, hole, **options, checkpoint=tmp_path / "run.pt", every=2, callback=killed)
    resumed = train_inpainter(picture, hole, **options, checkpoint=tmp_path / "run.pt")
    assert same(whole, resumed) and whole.history == resumed.history
    with pytest.raises(ValueError, match="run.pt.*picture"):
        train_inpainter(1 - picture, hole, **options, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="run.pt.*learning_rate"):
        train_inpainter(picture, hole, **options, learning_rate=1e-4, checkpoint=tmp_path / "run.pt")


def test_an_interrupted_training_gives_the_model_so_far(picture, hole):
    def interrupted(training):
        if training.step == 2:
            raise KeyboardInterrupt

    model = train_inpainter(picture, hole, **TINY, callback=interrupted)
    assert model.provenance["steps"] == 2 and len(model.history["loss"]) == 2
    assert inpaint(picture, hole, model=model, sampler="ddim", sampling_steps=2).isfinite().all()


def test_a_model_is_saved_to_a_small_file_and_comes_back(picture, hole, tmp_path):
    model = train_inpainter(picture, hole, steps=1, batch_size=1, crop_size=16, interval=(1, 60),
                            diffusion=Diffusion(steps=100))
    model.save(tmp_path / "wall.pt")
    assert (tmp_path / "wall.pt").stat().st_size < 700_000
    loaded = Inpainter.load(tmp_path / "wall.pt")
    assert same(model, loaded) and loaded.diffusion == Diffusion(steps=100) and loaded.interval == (1, 60)
    assert loaded.statistics == model.statistics and loaded.provenance == model.provenance
    assert {"labkit", "torch", "date", "steps", "seconds", "settings"} <= set(loaded.provenance)
    visible = picture[:, ~hole[0]].double()
    assert loaded.statistics["mean"] == pytest.approx(visible.mean(1).tolist())
    assert loaded.statistics["standard_deviation"] == pytest.approx(visible.std(1, correction=0).tolist())
    assert "160,323 weights" in repr(loaded) and "steps 1 to 60" in repr(loaded)
    for wrong in ([1.0], {"weights": 2}):
        torch.save(wrong, tmp_path / "wrong.pt")
        with pytest.raises(ValueError, match="wrong.pt holds no model"):
            Inpainter.load(tmp_path / "wrong.pt")


def test_prediction_keeps_shape_dtype_and_arguments(picture, hole):
    model = train_inpainter(picture, hole, **TINY)
    x = torch.randn(2, 3, 21, 26, generator=generator(0), dtype=torch.float64)
    mask = square(21, 26, row=4, column=5, side=6)[None].expand(2, -1, -1, -1)
    before = x.clone()
    estimate = model.predict(x, torch.where(mask, 0, x), mask, 400)
    assert estimate.dtype == torch.float64 and estimate.shape == x.shape and torch.equal(x, before)
    assert not estimate.requires_grad
    with pytest.raises(ValueError, match="trained on 3 channels"):
        model.predict(x[:, :1], x[:, :1], mask, 400)


def test_a_compiled_model_predicts_the_same_in_memory_of_its_own(picture, hole, monkeypatch):
    model = train_inpainter(picture, hole, **TINY)
    x, mask = torch.randn(1, 3, 16, 16, generator=generator(0)), square(16, 16, row=4, column=5, side=6)[None]
    expected, static = model.predict(x, x, mask, 10), torch.empty(1, 3, 16, 16)
    # as with CUDA graphs, which have one place for what they give
    monkeypatch.setattr(torch, "compile", lambda network, mode: lambda *inputs: static.copy_(network(*inputs)))
    found = model.compile().predict(x, x, mask, 10)
    static.zero_()
    assert torch.equal(found, expected)


def test_intervals_serve_the_whole_chain_and_each_starts_from_the_one_before(picture, hole):
    models = train_intervals(picture, hole, intervals=3, **(TINY | {"steps": 8}), diffusion=Diffusion(steps=100))
    assert [model.interval for model in models] == [(67, 100), (34, 66), (1, 33)]
    assert [model.provenance["steps"] for model in models] == [2, 3, 3]
    first = train_inpainter(picture, hole, **(TINY | {"steps": 2}), diffusion=Diffusion(steps=100), interval=(67, 100))
    second = train_inpainter(picture, hole, **TINY, diffusion=Diffusion(steps=100), interval=(34, 66), start=first)
    assert same(models[0], first) and same(models[1], second) and not same(models[1], models[2])
    assert inpaint(picture, hole, model=models, sampling_steps=7).isfinite().all()
    again = train_intervals(picture, hole, intervals=2, **(TINY | {"steps": 2}), start=models[0])
    assert again[0].diffusion == Diffusion(steps=100)
    assert same(again[0], train_inpainter(picture, hole, **(TINY | {"steps": 1}), interval=(51, 100), start=models[0]))


def test_interrupted_intervals_serve_the_rest_of_the_chain(picture, hole):
    calls = []

    def interrupted(training):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    models = train_intervals(picture, hole, intervals=3, **(TINY | {"steps": 9}), callback=interrupted)
    assert [model.interval for model in models] == [(667, 1000), (1, 666)]


def test_intervals_resume_from_their_checkpoints(picture, hole, tmp_path):
    options = TINY | {"intervals": 2, "steps": 4}
    whole = train_intervals(picture, hole, **options)
    for _ in range(2):
        found = train_intervals(picture, hole, **options, checkpoint=tmp_path / "run.pt")
        assert all(same(a, b) for a, b in zip(whole, found))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.0.pt", "run.1.pt"]


def test_an_unconditional_model_ignores_what_is_known(picture, hole):
    model = train_unconditional(picture, hole, **TINY)
    x = torch.randn(1, 3, 16, 16, generator=generator(0))
    mask = square(16, 16, row=4, column=5, side=6)[None]
    assert torch.equal(model.predict(x, x, mask, 10), model.predict(x, torch.zeros_like(x), ~mask, 10))
    assert not model.network.settings["conditional"] and train_unconditional(picture, **TINY).provenance["steps"] == 3


def test_regression_keeps_known_pixels_to_the_bit(picture, hole):
    filled = regress(picture.double(), hole, **TINY)
    assert filled.dtype == torch.float64 and filled.shape == picture.shape
    assert torch.equal(filled[:, ~hole[0]], picture.double()[:, ~hole[0]]) and not torch.equal(filled, picture.double())
    assert 0 <= filled.min() and filled.max() <= 1


@pytest.mark.parametrize("train", [train_inpainter, train_intervals, train_unconditional, regress])
def test_masks_that_are_empty_full_or_of_the_wrong_size_are_refused(picture, hole, train):
    with pytest.raises(ValueError, match="no pixel as missing"):
        train(picture, torch.zeros_like(hole))
    with pytest.raises(ValueError, match="every pixel as missing"):
        train(picture, torch.ones_like(hole))
    for wrong in (hole[:, 1:], hole[0], hole.float(), hole.expand(3, -1, -1)):
        with pytest.raises(ValueError, match=r"expected a boolean tensor \(1, 40, 44\)"):
            train(picture, wrong)


def test_bad_parameters_are_refused(picture, hole):
    for options in ({"steps": 0}, {"batch_size": 0}, {"crop_size": 15}, {"weighting": "snr"}, {"interval": (5, 4)},
                    {"interval": 7}, {"interval": (0, 4)}, {"interval": (4, 1001)}, {"thickness": 0}, {"width": 0},
                    {"learning_rate": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            train_inpainter(picture, hole, **options)
    with pytest.raises(ValueError, match="at least 16 in either"):
        train_inpainter(picture[:, :12], square(12, 44, row=3, column=3, side=3))
    with pytest.raises(ValueError, match="at least 16 in either"):
        train_unconditional(picture[:, :12])
    with pytest.raises(ValueError, match="start is a network with"):
        train_inpainter(picture, hole, width=5, start=train_inpainter(picture, hole, **TINY))
    with pytest.raises(ValueError, match="intervals"):
        train_intervals(picture, hole, intervals=0)
    everywhere = torch.zeros_like(hole)
    everywhere[:, ::8, ::8] = True
    with pytest.raises(ValueError, match="too few whole crops"):
        train_unconditional(picture, everywhere, **TINY)
