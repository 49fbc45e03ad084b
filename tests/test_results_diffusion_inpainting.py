"""Chapter 8's stored results: what is filled and measured, what is counted, and that no finished part is lost."""

from __future__ import annotations

import os

import pytest
import torch

from labkit.results import diffusion_inpainting as results
from labkit.runtime import generator

TINY = {"side": 16, "steps": 10, "batch_size": 1, "crop_size": 16, "samples": 2, "sampling_steps": 4}
EVERY = tuple(method for part in results.PARTS for method in part)
# PSNR, transport cost, feature distance, FLIP, detail and seconds of each method, as the thesis orders them
AS_PUBLISHED = {results.ONE: [20.0, 1.0, 1.0, 3.0, 0.9, 9.0], results.AVERAGE: [21.0, 2.0, 2.0, 2.0, 0.8, 9.0],
                results.REGRESSION: [22.0, 3.0, 3.0, 1.0, 0.7, 9.0], results.INTERVALS: [21.0, 1.5, 0.5, 2.0, 1.05, 9.0],
                results.DENOISER: [20.0, 1.0, 1.0, 3.0, 0.9, 9.0], results.DENOISERS: [21.0, 2.0, 2.0, 2.0, 0.8, 9.0]}


@pytest.fixture(scope="module")
def texture():
    return results._texture("wall", TINY["side"])


@pytest.fixture(scope="module")
def fills(texture):
    return dict(results._fills(*texture, TINY, EVERY))


def test_every_method_fills_the_hole_of_the_middle_region_only(texture, fills):
    truth, hole = (results._middle(one) for one in texture)
    assert set(fills) == {*EVERY, results.AVERAGE, results.DENOISERS}
    for pictures, seconds in fills.values():
        assert pictures.shape[1:] == truth.shape and seconds > 0
        # an average of equal numbers may differ from them in the last digit
        assert float(((pictures - truth) * ~hole).abs().max()) < 1e-6
        assert float(((pictures - truth) * hole).abs().max()) > 0


@pytest.mark.parametrize("one, average", [(results.ONE, results.AVERAGE), (results.DENOISER, results.DENOISERS)])
def test_the_average_is_that_of_the_samples(fills, one, average):
    assert len(fills[one][0]) == TINY["samples"]
    assert torch.equal(fills[average][0][0], fills[one][0].mean(dim=0))


def test_the_truth_is_the_best_fill(texture):
    truth, hole = (results._middle(one).contiguous() for one in texture)
    decibels, *others, detail = results._measured(truth, truth, hole)
    assert decibels == float("inf") and detail == 1
    assert others == pytest.approx([0, 0, 0], abs=0.1)      # thousandths: a Fréchet distance is a difference of float32 sums


def test_psnr_is_of_the_hole_alone():
    truth = 0.8 * torch.rand(3, 64, 64, generator=generator(0))
    hole = torch.zeros(1, 64, 64, dtype=torch.bool)
    hole[:, 20:30, 20:40] = True
    wrong = torch.where(hole, truth + 0.1, truth)
    assert results._measured(wrong, truth, hole)[0] == pytest.approx(20, abs=1e-3)


def test_the_surroundings_end_where_the_picture_does():
    hole = torch.zeros(1, 40, 50, dtype=torch.bool)
    hole[:, 3:10, 20:26] = True
    positions = torch.stack(torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij"))
    around = results._around(positions, hole)
    assert around[:, 0, 0].tolist() == [0, 20 - results.AROUND]
    assert around[:, -1, -1].tolist() == [9 + results.AROUND, 25 + results.AROUND]


def test_orders_are_counted_texture_by_texture():
    other = {method: AS_PUBLISHED[swapped] for method, swapped in (
        (results.ONE, results.REGRESSION), (results.REGRESSION, results.ONE), (results.AVERAGE, results.AVERAGE),
        (results.DENOISER, results.DENOISERS), (results.DENOISERS, results.DENOISER))}
    rows = results._orders({"a": AS_PUBLISHED, "b": AS_PUBLISHED, "c": other})
    assert len(rows) == 3 * len(results.MEASURES)
    assert {row[4] for row in rows} == {"2 of 3"}
    assert all(row[3].startswith("yes") for row in results._orders({"a": AS_PUBLISHED}))
    assert all(row[3].startswith("no") for row in results._orders({"c": other}))
    # FLIP of the thesis: its average of samples is worse than a sample; it has no patch denoiser
    published = [row[2] for row in rows if row[0].startswith("FLIP")]
    assert published == ["FLIP: yes, 0.045 and 0.071", "FLIP: no, 0.071 and 0.054", "–"]


def test_better_means_a_larger_psnr_and_smaller_others():
    rows = results._better({"a": AS_PUBLISHED})
    assert [row[1] for row in rows] == ["intervals", "all steps", "intervals", "intervals", "intervals"]
    assert [row[3] for row in rows] == ["1 of 1", "0 of 1", "1 of 1", "1 of 1", "1 of 1"]


def test_detail_is_best_where_it_is_that_of_the_truth():
    noisy = AS_PUBLISHED | {results.INTERVALS: [21.0, 1.5, 0.5, 2.0, 1.2, 9.0]}      # 0.2 too much; one sample has 0.1 too little
    assert results._better({"a": noisy})[-1][1] == "all steps"


def test_a_run_that_was_stopped_goes_on_where_it_was(monkeypatch, tmp_path):
    done = []

    def scores(image, mask, settings, *, methods):
        if len(done) == 2 and not resumed:
            raise KeyboardInterrupt
        done.append(methods)
        return {method: [1.0] * 6 for method in methods}

    resumed = False
    monkeypatch.setattr(results.Path, "home", lambda: tmp_path)
    monkeypatch.setattr(results, "_scores", scores)
    with pytest.raises(KeyboardInterrupt):
        results._all_scores(("wall", "tiles"), TINY, workers=1)
    resumed = True
    found = results._all_scores(("wall", "tiles"), TINY, workers=1)
    assert len(done) == 2 * len(results.PARTS)
    assert {name: set(of) for name, of in found.items()} == {"wall": set(EVERY), "tiles": set(EVERY)}
    assert not any(tmp_path.rglob("*.json"))        # the next run begins anew


def test_the_environment_is_as_it_was(monkeypatch):
    monkeypatch.setenv("LABKIT_ONE", "before")
    monkeypatch.delenv("LABKIT_TWO", raising=False)
    with results._environment(LABKIT_ONE="inside", LABKIT_TWO="inside"):
        assert os.environ["LABKIT_ONE"] == os.environ["LABKIT_TWO"] == "inside"
    assert os.environ["LABKIT_ONE"] == "before" and "LABKIT_TWO" not in os.environ
