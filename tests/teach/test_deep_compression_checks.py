"""Checks of notebook 10: right answers pass, the stubs of the notebook do not."""

import numpy as np

from labkit.teach import check_bits_a_weight, check_mask_bytes


def mask_bytes(weights, kept):
    p = kept / weights
    return weights * (-p * np.log2(p) - (1 - p) * np.log2(1 - p)) / 8


def test_the_mask_on_paper():
    assert check_mask_bytes(mask_bytes).passed
    assert not check_mask_bytes(lambda weights, kept: weights / 8).passed
    assert not check_mask_bytes(lambda weights, kept: mask_bytes(weights, kept) * 8).passed


def test_bits_a_weight():
    assert check_bits_a_weight(lambda size_bytes, kept: 8 * size_bytes / kept).passed
    verdict = check_bits_a_weight(lambda size_bytes, kept: 3.0)
    assert not verdict.passed
    assert "should be" in verdict.message
