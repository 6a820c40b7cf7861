"""Augmentation: every image comes back shifted by up to 4 pixels and perhaps mirrored, and nothing else happens."""

import torch
import torch.nn.functional as F
from torch import Generator

from labkit.augment import crop_flip


def seeded(seed=0):
    return Generator().manual_seed(seed)


def variants(image):
    """All 9 · 9 · 2 results there can be for one image (c, h, w), by (top, left, mirrored)."""
    c, h, w = image.shape
    padded = F.pad(image[None], (4, 4, 4, 4), mode="replicate")[0]
    windows = {(t, s): padded[:, t : t + h, s : s + w] for t in range(9) for s in range(9)}
    return {(t, s, m): crop.flip(2) if m else crop for (t, s), crop in windows.items() for m in (False, True)}


def test_every_result_is_a_crop_of_its_own_image():
    x = torch.rand(30, 3, 8, 10, generator=seeded())
    moved = crop_flip(x, seeded(1))
    assert moved.shape == x.shape
    for before, after in zip(x, moved, strict=True):
        assert any(after.equal(v) for v in variants(before).values())


def test_all_shifts_and_both_sides_occur_independently():
    image = torch.arange(64.0).view(1, 8, 8)
    drawn = crop_flip(image.expand(4_000, 1, 8, 8), seeded())
    where = {v.numpy().tobytes(): key for key, v in variants(image).items()}
    keys = [where[one.contiguous().numpy().tobytes()] for one in drawn]
    assert len(set(keys)) == 162
    assert 0.45 < sum(mirrored for *_, mirrored in keys) / len(keys) < 0.55


def test_the_generator_decides():
    x = torch.rand(5, 1, 6, 6, generator=seeded())
    assert crop_flip(x, seeded(1)).equal(crop_flip(x, seeded(1)))
    assert not crop_flip(x, seeded(1)).equal(crop_flip(x, seeded(2)))


def test_the_batch_itself_is_not_changed():
    x = torch.rand(5, 1, 6, 6, generator=seeded())
    before = x.clone()
    crop_flip(x, seeded(1))
    assert x.equal(before)
