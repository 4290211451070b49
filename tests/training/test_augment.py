"""Random changes of training images."""

import pytest
import torch
import torch.nn.functional as F

from cwbench.api import BatchStreams, CropFlip, ResizedCrop
from cwbench.datasets.image_files import random_box
from cwbench.training.augment import augmented

X = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_crop_flip_gives_each_image_one_of_its_shifts_mirrored_or_not():
    changed = augmented(X, CropFlip(pad=2), BatchStreams.of(0))
    padded = F.pad(X, [2] * 4)
    kinds = set()
    for before, after in zip(padded, changed, strict=True):
        parts = {
            (top, left, flip): before[:, top : top + 8, left : left + 8].flip([2] if flip else [])
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
        }
        found = [kind for kind, part in parts.items() if torch.equal(part, after)]
        assert len(found) == 1
        kinds.add(found[0])
    assert len(kinds) > 40, "200 draws of 50 kinds"
    assert torch.equal(changed, augmented(X, CropFlip(pad=2), BatchStreams.of(0)))


def test_without_flip_nothing_is_mirrored():
    unchanged = augmented(X, CropFlip(pad=0, flip=False), BatchStreams.of(0))
    assert torch.equal(unchanged, X)
    assert augmented(X, None, BatchStreams.of(0)) is X


def test_a_crop_of_everything_is_the_image_or_its_mirror():
    whole = ResizedCrop(scale=(1, 1), ratio=(1, 1))
    changed = augmented(X, whole, BatchStreams.of(0))
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(changed, X, strict=True)]
    mirrored = [torch.allclose(a, b.flip(2), atol=1e-5) for a, b in zip(changed, X, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 60 < sum(same) < 140


def test_a_resized_crop_shows_a_part_at_the_scale_of_the_whole():
    """On a ramp the slope tells the part's width: half the area is 0.71 of the width."""
    ramp = torch.linspace(0, 1, 64).expand(50, 1, 64, 64).contiguous()
    changed = augmented(ramp, ResizedCrop(scale=(0.5, 0.5), ratio=(1, 1), flip=False), BatchStreams.of(0))
    slopes = (changed[:, 0, 32, 40] - changed[:, 0, 32, 20]) / (ramp[:, 0, 32, 40] - ramp[:, 0, 32, 20])
    assert torch.allclose(slopes, torch.full_like(slopes, 0.5**0.5), atol=0.02)
    assert changed.min() >= 0
    assert changed.max() <= 1


@pytest.mark.parametrize("draws", [(0, 0, 0, 0, 0), (0.999, 0.999, 0.999, 0.999, 0), (0.5, 0.2, 0.9, 0.1, 0)])
def test_a_box_lies_in_the_image_and_has_its_share_of_the_area(draws):
    left, top, right, bottom = random_box((300, 200), draws, ResizedCrop(scale=(0.2, 0.4)))
    assert 0 <= left < right <= 300
    assert 0 <= top < bottom <= 200
    assert (right - left) * (bottom - top) == pytest.approx((0.2 + draws[0] * 0.2) * 60_000, rel=0.05)
