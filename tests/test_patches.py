"""Patches: order, adjoint, aggregation, borders."""

import pytest
import torch

from labkit import patches
from labkit.runtime import generator


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


GRIDS = [dict(patch_size=3), dict(patch_size=4, stride=2), dict(patch_size=5, stride=3, cover=True),
         dict(patch_size=1), dict(patch_size=3, stride=3, cover=True), dict(patch_size=9)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_the_windows_of_the_image_in_row_major_order(grid, channels):
    image = random(channels, 9, 14)
    rows = patches.extract_patches(image, **grid)
    positions = patches.patch_positions(9, 14, **grid)
    size = grid["patch_size"]
    assert positions.tolist() == sorted(positions.tolist())
    assert len(rows) == len(positions)
    for values, (row, column) in zip(rows, positions.tolist()):
        assert torch.equal(values.reshape(channels, size, size), image[:, row:row + size, column:column + size])


def test_every_whole_patch_is_there_once_at_stride_one():
    assert patches.extract_patches(random(3, 9, 14), patch_size=4).shape == (6 * 11, 3 * 16)


def test_a_batch_gives_the_patches_of_each_picture():
    batch = random(2, 3, 8, 7)
    both = patches.extract_patches(batch, patch_size=3, stride=2, cover=True)
    assert torch.equal(both[1], patches.extract_patches(batch[1], patch_size=3, stride=2, cover=True))


def test_patches_equal_torch_unfold():
    image = random(2, 3, 12, 10)
    unfolded = torch.nn.functional.unfold(image, 5, stride=2).transpose(1, 2)
    assert torch.equal(patches.extract_patches(image, patch_size=5, stride=2), unfolded)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_adding_is_the_adjoint_of_extracting(grid, batch):
    image = random(*batch, 3, 9, 14)
    extracted = patches.extract_patches(image, **grid)
    other = random(*extracted.shape, seed=1)
    back = patches.add_patches(other, height=9, width=14, **grid)
    assert back.shape == image.shape
    assert float((extracted * other).sum()) == pytest.approx(float((image * back).sum()), rel=1e-12)


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid.get("cover") or "stride" not in grid])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_aggregating_the_patches_of_an_image_gives_it_back(grid, dtype):
    image = random(2, 3, 9, 14, dtype=torch.float64).to(dtype)
    extracted = patches.extract_patches(image, **grid)
    back = patches.aggregate_patches(extracted, height=9, width=14, **grid)
    assert back.dtype == dtype
    # at most 54 equal values are added up and divided by 54
    assert (back - image).abs().max() <= 54 * torch.finfo(dtype).eps


@pytest.mark.parametrize("per_value", [False, True])
def test_weights_make_a_weighted_mean(per_value):
    rows = random(12, 2 * 4)                                # a 4 × 5 image of 2 channels, patches of side 2
    weights = random(*(rows.shape if per_value else rows.shape[:1]), seed=1)
    result = patches.aggregate_patches(rows, height=4, width=5, patch_size=2, weights=weights)
    total, weight = torch.zeros(2, 4, 5).double(), torch.zeros(2, 4, 5).double()
    spread = weights if per_value else weights[:, None].expand(12, 8)
    for (row, column), values, share in zip(patches.patch_positions(4, 5, patch_size=2).tolist(), rows, spread):
        total[:, row:row + 2, column:column + 2] += (values * share).reshape(2, 2, 2)
        weight[:, row:row + 2, column:column + 2] += share.reshape(2, 2, 2)
    torch.testing.assert_close(result, total / weight, rtol=1e-12, atol=0)


def test_a_patch_of_weight_zero_has_no_say():
    image = random(1, 4, 6)
    rows = patches.extract_patches(image, patch_size=2)
    weights = torch.ones(len(rows), dtype=torch.float64)
    rows[7], weights[7] = 100, 0
    torch.testing.assert_close(patches.aggregate_patches(rows, height=4, width=6, patch_size=2, weights=weights), image)


def test_weights_of_a_batch_belong_to_its_pictures():
    rows, weights = random(2, 12, 4), random(2, 12, seed=1)
    both = patches.aggregate_patches(rows, height=4, width=5, patch_size=2, weights=weights)
    alone = patches.aggregate_patches(rows[1], height=4, width=5, patch_size=2, weights=weights[1])
    torch.testing.assert_close(both[1], alone)


def test_pixels_without_a_patch_are_named():
    rows = patches.extract_patches(random(1, 8, 8), patch_size=3, stride=2)      # the last row and column are left out
    with pytest.raises(ValueError, match="15 pixel values of the 8×8 image belong to no patch.*cover=True"):
        patches.aggregate_patches(rows, height=8, width=8, patch_size=3, stride=2)


def test_gradients_flow_through_both_ways():
    image = random(1, 5, 5).requires_grad_()

    def there_and_back(values):
        return patches.aggregate_patches(patches.extract_patches(values, patch_size=3), height=5, width=5, patch_size=3)

    assert torch.autograd.gradcheck(there_and_back, image)


def test_arguments_are_not_written_into():
    rows, weights = random(12, 4), random(12, seed=1)
    copies = rows.clone(), weights.clone()
    patches.aggregate_patches(rows, height=4, width=5, patch_size=2, weights=weights)
    assert torch.equal(rows, copies[0]) and torch.equal(weights, copies[1])


def test_squared_distances_equal_the_definition():
    first, second = random(7, 12), random(5, 12, seed=1)
    direct = (first[:, None] - second).square().sum(-1)
    torch.testing.assert_close(patches.squared_distances(first, second), direct, rtol=1e-12, atol=1e-14)


def test_squared_distances_keep_their_digits_far_from_zero():
    first, second = random(7, 12), random(5, 12, seed=1)
    direct = (first[:, None] - second).square().sum(-1)
    shifted = patches.squared_distances((first + 1000).float(), (second + 1000).float())
    # 1000 + u is stored to 6e-5; its products alone would be wrong by more than 1
    assert (shifted - direct).abs().max() < 1e-2
    assert shifted.min() >= 0


@pytest.mark.cuda
@pytest.mark.parametrize("grid", GRIDS[:3])
def test_a_gpu_gives_the_same(grid):
    rows = patches.extract_patches(random(3, 9, 14).cuda(), **grid)
    assert torch.equal(rows.cpu(), patches.extract_patches(random(3, 9, 14), **grid))
    back = patches.add_patches(rows, height=9, width=14, **grid)
    torch.testing.assert_close(back.cpu(), patches.add_patches(rows.cpu(), height=9, width=14, **grid))


@pytest.mark.parametrize("call, message", [
    (lambda u: patches.extract_patches(u, patch_size=6), "patch_size is 6 and the image 5×7"),
    (lambda u: patches.extract_patches(u, patch_size=0), "patch_size is 0"),
    (lambda u: patches.extract_patches(u, patch_size=2, stride=0), "stride is 0"),
    (lambda u: patches.extract_patches(u, patch_size=2, stride=3, cover=True), "stride is 3 and patch_size 2"),
    (lambda u: patches.extract_patches(u[0], patch_size=2), r"shape \(5, 7\)"),
    (lambda u: patches.add_patches(u[0], height=5, width=7, patch_size=2), r"expected .*\(24, C·n·n\)"),
    (lambda u: patches.add_patches(torch.ones(24, 5), height=5, width=7, patch_size=2), "n = 2"),
    (lambda u: patches.aggregate_patches(torch.ones(24, 4), height=5, width=7, patch_size=2, weights=torch.ones(3)),
     r"weights is .*expected a tensor \(24,\)"),
    (lambda u: patches.aggregate_patches(torch.ones(24, 4), height=5, width=7, patch_size=2, weights=-torch.ones(24)),
     "none below 0"),
    (lambda u: patches.squared_distances(torch.ones(3, 4), torch.ones(3, 5)), "4 values and second of 5"),
])
def test_wrong_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(random(1, 5, 7))
