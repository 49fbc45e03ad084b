"""The widgets of chapter 2 without a browser: what they compute, what they say, and the still pictures they leave."""

import dataclasses

import pytest
import torch
from tests.pictures import random_image
from tests.widgets import as_shown, assert_leaves_a_picture, decoded

from labkit import figures, patchmatch, widgets

SIDE = 3
IMAGE, EXEMPLAR = random_image(3, 20, 24), random_image(3, 22, 18, seed=1)


@pytest.fixture(scope="module")
def match():
    return patchmatch.patchmatch(IMAGE, EXEMPLAR, patch_size=SIDE, iterations=3, trace=True)


def player(match, **options):
    return widgets.FieldPlayer(match, **{"image": IMAGE, "exemplar": EXEMPLAR, **options})


def explorer(match, **options):
    return widgets.MatchExplorer(match, **{"image": IMAGE, "exemplar": EXEMPLAR, **options})


# --- both -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [player, explorer])
def test_every_widget_leaves_a_picture_with_words_beside_its_live_view(match, make):
    assert_leaves_a_picture(make(match, alt="Noise.", caption="Some noise."), alt="Noise.", caption="Some noise.")


@pytest.mark.parametrize("make", [player, explorer])
def test_pictures_that_do_not_belong_to_the_match_are_refused(match, make):
    with pytest.raises(ValueError, match="image has 17×22 patches of side 3 and match is of 18×22"):
        make(match, image=IMAGE[:, 1:])
    with pytest.raises(ValueError, match="exemplar has 5×5 pixels .*expected the exemplar"):
        make(match, exemplar=EXEMPLAR[:, :5, :5])
    with pytest.raises(ValueError, match="expected 1 or 3 channels"):
        make(match, image=IMAGE[:2])
    turned = patchmatch.patchmatch(IMAGE, EXEMPLAR, patch_size=SIDE, iterations=1, transforms=("identity", "rotate_90"),
                                   trace=True)
    with pytest.raises(ValueError, match="without transforms"):
        make(turned)


# --- FieldPlayer ----------------------------------------------------------------------------------------------------

def test_the_player_shows_the_field_and_the_rebuilt_image_of_each_iteration(match):
    shown = player(match, alt="Noise.")
    for iteration, nnf in enumerate(match.fields):
        shown.slider.value = iteration
        field = figures.color_wheel(patchmatch.shift_map(nnf), largest=shown.largest)
        rebuilt = patchmatch.reconstruct(nnf, EXEMPLAR, patch_size=SIDE)
        assert torch.equal(decoded(shown.field.data), as_shown(field))
        assert torch.equal(decoded(shown.rebuilt.data), as_shown(rebuilt))
        assert f"mean distance {match.history[iteration]:.3g}" in shown._told.value
        assert shown.field.alt.startswith("Noise. (field) ") and f"{match.history[iteration]:.3g}" in shown.field.alt
    assert shown.slider.max == 3 and "Iteration 3" in shown._told.value


def test_the_full_colour_is_for_all_but_the_longest_shifts_of_the_last_field(match):
    shown = player(match)
    length = torch.linalg.vector_norm(patchmatch.shift_map(match.nnf), dim=0)
    assert (length < shown.largest).float().mean() < 0.95 <= (length <= shown.largest).float().mean()
    assert player(match, largest=7).largest == 7
    with pytest.raises(ValueError, match="largest"):
        player(match, largest=0)


def test_a_field_that_does_not_move_anything_is_grey():
    same = patchmatch.patchmatch(IMAGE, IMAGE, patch_size=SIDE, iterations=12, trace=True)
    assert same.history[-1] == 0
    shown = player(same, exemplar=IMAGE)
    shown.slider.value = 12
    assert shown.largest == 1 and (shown.field.image.amax(0) - shown.field.image.amin(0)).max() < 1e-3
    assert "mean distance 0, 0 % of the start&#x27;s" in shown._told.value


def test_of_several_matches_the_nearest_is_shown():
    two = patchmatch.patchmatch(IMAGE, EXEMPLAR, patch_size=SIDE, iterations=2, k=2, trace=True)
    shown = player(two)
    shown.slider.value = 2
    assert torch.equal(shown.rebuilt.image, patchmatch.reconstruct(two.nnf[0], EXEMPLAR, patch_size=SIDE))
    assert explorer(two, patch=(2, 3), iteration=2).pictures.answer["match"] == two.nnf[0, :, 2, 3].tolist()


def test_a_match_without_its_fields_cannot_be_played(match):
    with pytest.raises(ValueError, match="trace=True"):
        player(dataclasses.replace(match, fields=[]))


def test_the_still_picture_of_the_player_has_the_start_and_the_end(match):
    text, markup = player(match).still().text, player(match).still().html
    assert "start 22×18" in text and "rebuilt, iteration 3 24×20" in text and "key" in text
    assert f"start {match.history[0]:.3g}" in markup and f"iteration 3 {match.history[3]:.3g}" in markup


# --- MatchExplorer --------------------------------------------------------------------------------------------------

def test_a_chosen_patch_is_answered_once_with_its_match_and_candidates(match, monkeypatch):
    calls, search = [], patchmatch.candidates

    def counted(*pictures, **where):
        calls.append((where["row"], where["column"], where["iteration"]))
        return search(*pictures, **where)

    monkeypatch.setattr(patchmatch, "candidates", counted)
    shown = explorer(match, patch=(4, 5))
    shown.pictures.set_state({"row": 6, "column": 7})   # what the pointer does
    shown.slider.value = 2
    assert calls == [(4, 5, 1), (6, 7, 1), (6, 7, 2)]
    answer, expected = shown.pictures.answer, search(IMAGE, EXEMPLAR, match, row=6, column=7, iteration=2)
    assert shown.candidates == expected
    assert (answer["row"], answer["column"]) == (6, 7) and answer["match"] == match.fields[2][:, 6, 7].tolist()
    assert answer["candidates"] == [{"kind": one.kind, "row": one.row, "column": one.column, "accepted": one.accepted}
                                    for one in expected]


def test_the_words_tell_what_was_tried_and_what_came_of_it(match):
    for row, column in ((0, 0), (9, 11), (17, 21)):
        shown = explorer(match, patch=(row, column))
        tried = shown.candidates
        now = min(one.distance for one in tried)
        lines = shown.pictures.answer["words"].split("\n")
        assert lines[0] == f"Patch at row {row}, column {column}; iteration 1."
        assert lines[1].endswith(f"distance {tried[0].distance:.3g}.")
        assert lines[2].startswith(f"Propagation: {sum(c.kind == 'propagation' for c in tried) or 'nothing'} ")
        assert lines[3].startswith(f"Random search: {sum(c.kind == 'random' for c in tried)} tried")
        taken = [one for one in tried if one.accepted][-1]
        assert [taken.row, taken.column] == shown.pictures.answer["match"]
        assert lines[4] == "Match now: the same." if taken is tried[0] else f"distance {now:.3g}, " in lines[4]


def test_at_the_start_there_are_no_candidates(match):
    shown = explorer(match, iteration=0)
    assert shown.candidates == [] and shown.pictures.answer["candidates"] == []
    assert shown.pictures.answer["match"] == match.fields[0][:, 9, 11].tolist()
    assert "; start.\nMatch: row" in shown.pictures.answer["words"]


def test_a_schedule_whose_candidates_are_unknown_shows_its_matches():
    other = patchmatch.patchmatch(IMAGE, EXEMPLAR, patch_size=SIDE, iterations=2, schedule="jump_flooding", trace=True)
    shown = explorer(other, patch=(4, 5), iteration=2)
    assert shown.pictures.answer["match"] == other.nnf[:, 4, 5].tolist() and shown.candidates == []
    assert "Propagation" not in shown.pictures.answer["words"] and "Match before" in shown.pictures.answer["words"]
    assert "candidates" not in shown.still().text


def test_a_match_without_its_fields_shows_its_end(match):
    shown = explorer(dataclasses.replace(match, fields=[]), patch=(4, 5))
    assert shown.slider.layout.display == "none" and shown.pictures.answer["match"] == match.nnf[:, 4, 5].tolist()
    assert shown.pictures.answer["words"].startswith("Patch at row 4, column 5.\nMatch: row")
    assert f"distance {float(match.distance[4, 5]):.3g}." in shown.pictures.answer["words"]


def test_both_pictures_are_sent_with_their_own_sizes(match):
    pictures = explorer(match).pictures
    assert torch.equal(decoded(pictures.data), as_shown(IMAGE))
    assert torch.equal(decoded(pictures.exemplar), as_shown(EXEMPLAR))
    assert (pictures.size, pictures.exemplar_size, pictures.patch_size) == ((20, 24), (22, 18), SIDE)


@pytest.mark.parametrize("options, message", [({"patch": (18, 0)}, "row of patch is 18"),
                                              ({"patch": (0, -1)}, "column of patch is -1"),
                                              ({"iteration": 4}, "iteration is 4")])
def test_a_patch_or_an_iteration_that_there_is_not_is_refused(match, options, message):
    with pytest.raises(ValueError, match=message):
        explorer(match, **options)


def test_the_still_picture_follows_the_chosen_patch(match):
    shown = explorer(match, patch=(4, 5))
    before = shown.still().html
    shown.pictures.row = 9
    assert shown.still().html != before and "Patch at row 9, column 5" in shown.still().html
