"""The widgets of chapter 2 without a browser: what they compute, what they say, and the still pictures they leave."""

import base64
import dataclasses
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from labkit import figures, images, patchmatch, runtime, widgets
from labkit.widgets.still import VIEW

SIDE = 3


def noise(height=20, width=24, channels=3, seed=0):
    return torch.rand(channels, height, width, generator=runtime.generator(seed))


def decoded(data):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)))).float() / 255


def as_shown(image):
    return (image.clamp(0, 1).permute(1, 2, 0) * 255).round() / 255


IMAGE, EXEMPLAR = noise(), noise(22, 18, seed=1)


@pytest.fixture(scope="module")
def match():
    return patchmatch.patchmatch(IMAGE, EXEMPLAR, patch_size=SIDE, iterations=3, trace=True)


def player(match, **options):
    return widgets.field_player(match, **{"image": IMAGE, "exemplar": EXEMPLAR, **options})


def explorer(match, **options):
    return widgets.match_explorer(match, **{"image": IMAGE, "exemplar": EXEMPLAR, **options})


def grey(image, mask):
    return torch.where(mask, 0.5, image)


def upload(shown, name, content):
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": 0}
    shown._upload.set_state({"value": [file]})


# --- all of them ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [player, explorer, lambda match, **words: widgets.eraser(IMAGE, fill=grey, **words)],
                         ids=["field_player", "match_explorer", "eraser"])
def test_every_widget_leaves_a_picture_with_words_beside_its_live_view(match, make):
    data, _ = make(match, alt="Noise.", caption="Some noise.")._repr_mimebundle_()
    assert set(data) == {VIEW, "text/html", "text/plain"}
    tags = re.findall(r'<img src="data:image/(?:png|jpeg);base64,([^"]+)" alt="([^"]+)"', data["text/html"])
    assert tags and all(decoded(base64.b64decode(picture)).numel() and "Noise." in words for picture, words in tags)
    assert "<figcaption" in data["text/html"]
    assert "Some noise." in data["text/html"] and "Some noise." in data["text/plain"]


def test_the_chapter_is_loaded_only_when_a_widget_needs_it():
    code = "import sys, labkit.widgets; sys.exit('labkit.patchmatch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


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


# --- field_player ---------------------------------------------------------------------------------------------------

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


# --- match_explorer -------------------------------------------------------------------------------------------------

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


# --- eraser ---------------------------------------------------------------------------------------------------------

def test_the_eraser_begins_with_a_hole_and_its_filling():
    shown = widgets.eraser(IMAGE, fill=grey)
    mask = shown.brush.mask
    assert 0.02 < mask.float().mean() < 0.1 and mask[0, 10, 12]
    assert torch.equal(shown.made, torch.where(mask, 0.5, IMAGE))
    assert torch.equal(decoded(shown.results[0].data), as_shown(shown.made))
    assert f"{int(mask.sum())} pixels filled in" in shown.results[0].caption


def test_the_button_fills_what_is_painted_now():
    shown, mask = widgets.eraser(IMAGE, fill=grey), noise(channels=1) > 0.5
    shown.brush.mask = mask
    assert "before you painted on" in shown.results[0].caption
    shown.button.click()
    assert torch.equal(shown.made, torch.where(mask, 0.5, IMAGE)) and "pixels filled" in shown.results[0].caption


def test_while_it_fills_the_button_is_busy_and_afterwards_it_is_not():
    seen = []

    def watch(image, mask):
        seen.append((shown.button.disabled, shown.button.description))
        if len(seen) == 2:
            raise RuntimeError("no memory")
        return image

    shown = widgets.eraser(IMAGE, fill=grey)
    shown._function = watch
    shown.button.click()
    shown.button.click()
    assert seen == [(True, "Filling …")] * 2
    assert (shown.button.disabled, shown.button.description) == (False, "Fill")


def test_an_error_of_the_filling_is_shown_as_text_and_goes_away():
    def fill(image, mask):
        if mask[0, 0, 0]:
            raise ValueError("the hole is <everywhere>")
        return image

    shown = widgets.eraser(IMAGE, fill=fill)
    mask = shown.brush.mask
    shown.brush.mask = torch.ones_like(mask)
    shown.button.click()
    assert "the hole is &lt;everywhere&gt;" in shown._message.value and isinstance(shown.error, ValueError)
    assert "the hole is &lt;everywhere&gt;" in shown.still().html and "labkit-stale" in shown._beside._dom_classes
    shown.brush.mask = mask
    shown.button.click()
    assert shown.error is None and shown._message.value == "" and "labkit-stale" not in shown._beside._dom_classes


@pytest.mark.parametrize("answer, message", [(lambda image, mask: None, "fill returned NoneType"),
                                             (lambda image, mask: image[:, 1:], "fill returned a tensor of shape"),
                                             (lambda image, mask: image / 0, "NaN or infinite"),
                                             (lambda image: image, "TypeError")])
def test_whatever_a_reader_s_own_filling_does_is_shown_as_text(answer, message):
    shown = widgets.eraser(IMAGE, fill=answer)
    assert message in shown._message.value and shown.made is None
    assert "filled" not in shown.still().text and shown._repr_mimebundle_()


def test_a_filling_that_writes_into_its_input_spoils_nothing():
    image = noise()

    def fill(image, mask):
        image.zero_()
        mask.fill_(True)
        return image

    shown = widgets.eraser(image, fill=fill)
    assert torch.equal(image, IMAGE) and torch.equal(shown.brush.image, IMAGE) and not shown.brush.mask.all()


def test_with_nothing_painted_nothing_is_filled():
    calls = []
    nothing = torch.zeros(1, 20, 24, dtype=torch.bool)
    shown = widgets.eraser(IMAGE, fill=lambda image, mask: calls.append(mask), mask=nothing)
    assert calls == [] and "Nothing is painted yet" in shown._message.value and shown.error is None


def test_a_large_picture_and_its_mask_are_reduced_and_no_hole_is_lost():
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 31, 41] = True
    shown = widgets.eraser(noise(60, 80), fill=grey, mask=mask, size=40)
    assert shown.brush.size == (30, 40) and shown.brush.mask.nonzero().tolist() == [[0, 15, 20]]
    assert shown.made.shape == (3, 30, 40)


def test_a_picture_of_one_s_own_waits_for_its_hole():
    shown = widgets.eraser(IMAGE, fill=grey, size=32)
    upload(shown, "holiday.png", images.to_bytes(noise(30, 64)))
    assert shown.brush.size == (15, 32) and not shown.brush.mask.any() and shown.made is None
    assert "holiday.png: paint over" in shown._message.value
    mask = torch.zeros(1, 15, 32, dtype=torch.bool)
    mask[:, 4:8, 4:8] = True
    shown.brush.mask = mask
    shown.button.click()
    assert (shown.made[:, 4:8, 4:8] == 0.5).all() and shown.results[0].size == (15, 32)
    upload(shown, "notes.txt", b"not a picture")
    assert "notes.txt is not a picture" in shown._message.value and shown.brush.size == (15, 32)


def test_an_eraser_of_something_else_is_refused():
    with pytest.raises(ValueError, match="fill is str 'grey'; expected a function"):
        widgets.eraser(IMAGE, fill="grey")
    with pytest.raises(ValueError, match=r"boolean tensor \(1, 20, 24\)"):
        widgets.eraser(IMAGE, fill=grey, mask=torch.zeros(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="size is 3"):
        widgets.eraser(IMAGE, fill=grey, size=3)
