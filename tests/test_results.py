"""Stored results: each chapter's can be shown, and what is counted in them is counted right."""

from __future__ import annotations

import pytest

from labkit import chapters, results
from labkit.results import texture_optimization, timing

# (feature distance, transport cost, diversity) of each method
AS_PUBLISHED = {method: tuple(100 * value for value in values) for method, values in texture_optimization.PUBLISHED.items()}


@pytest.mark.parametrize("number", [chapter.number for chapter in chapters.CHAPTERS])
def test_every_stored_table_can_be_shown(number):
    tables = results.stored(number)["tables"]
    for k, table in enumerate(tables):
        shown = repr(results.show(number, table=k))
        assert table["caption"] in shown and str(table["rows"][-1][0]) in shown


def test_a_chapter_without_a_gallery_says_so():
    with pytest.raises(ValueError, match="chapter 01 has no gallery"):
        results.gallery("01", size=32)


def test_orders_are_counted_picture_by_picture():
    swapped = AS_PUBLISHED | {"PSin": AS_PUBLISHED["PSinOT"], "PSinOT": AS_PUBLISHED["PSin"]}
    rows = texture_optimization._orders({"one": AS_PUBLISHED, "two": AS_PUBLISHED, "three": swapped})
    assert [row[1] for row in rows] == ["PSinOT < PSin", "PSinOT < GPNN", "GPNN < PSin", "GPNN < PSinOT", "PSinOT < PSin"]
    # GPNN is the least diverse whatever the other two are called
    assert [row[4] for row in rows] == ["2 of 3", "2 of 3", "2 of 3", "3 of 3", "2 of 3"]
    # one large value outweighs the two pictures where PSinOT's transport cost is the smaller one
    assert [row[3].split(":")[0] for row in rows] == ["yes", "no", "yes", "yes", "yes"]
    only = texture_optimization._orders({"three": swapped})
    assert [row[3].split(":")[0] for row in only] == ["no", "no", "no", "yes", "no"]


@pytest.mark.parametrize("side, patch, coarsest", [(64, 5, 16), (128, 11, 32), (64, 11, 16), (64, 17, 32)])
def test_the_coarsest_scale_is_psins(side, patch, coarsest):
    assert texture_optimization._coarsest_side(side, patch) == coarsest


def test_seconds_are_the_median_after_a_first_run(monkeypatch):
    runs = []
    clock = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert timing.seconds(lambda: runs.append(0)) == 2.0
    assert len(runs) == 4
