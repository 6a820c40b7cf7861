"""Guards: what passes, and the whole sentence of what does not."""

from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest
import torch
from torch import nn

from labkit import _check


@pytest.mark.parametrize("value", [1, 8, np.int64(3), True + 1])
def test_whole_accepts_any_integer_in_range(value):
    _check.whole("bits", value, 1, 8)


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (0, ValueError, "bits is 0; allowed: a whole number from 1 to 8"),
        (9, ValueError, "bits is 9; allowed: a whole number from 1 to 8"),
        (4.0, TypeError, "bits is 4.0; allowed: a whole number from 1 to 8"),
        (True, TypeError, "bits is True; allowed: a whole number from 1 to 8"),
        ("4", TypeError, "bits is '4'; allowed: a whole number from 1 to 8"),
        (None, TypeError, "bits is None; allowed: a whole number from 1 to 8"),
    ],
)
def test_whole_refuses(refuses, value, error, said):
    refuses(error, said, _check.whole, "bits", value, 1, 8)


@pytest.mark.parametrize("value", [0, 0.999, np.float32(0.5), Fraction(1, 3)])
def test_number_accepts_reals_in_range(value):
    _check.number("sparsity", value, 0, 1, open_high=True)


@pytest.mark.parametrize(
    ("value", "ends", "error", "said"),
    [
        (1, {"open_high": True}, ValueError, "sparsity is 1; allowed: a number in [0, 1)"),
        (-0.1, {}, ValueError, "sparsity is -0.1; allowed: a number in [0, 1]"),
        (0.0, {"open_low": True}, ValueError, "sparsity is 0.0; allowed: a number in (0, 1]"),
        (1.5, {"open_low": True, "open_high": True}, ValueError, "sparsity is 1.5; allowed: a number in (0, 1)"),
        (nan, {}, ValueError, "sparsity is nan; allowed: a number in [0, 1]"),
        (inf, {}, ValueError, "sparsity is inf; allowed: a number in [0, 1]"),
        ("half", {}, TypeError, "sparsity is 'half'; allowed: a number in [0, 1]"),
        (False, {}, TypeError, "sparsity is False; allowed: a number in [0, 1]"),
        (None, {}, TypeError, "sparsity is None; allowed: a number in [0, 1]"),
    ],
)
def test_number_refuses(refuses, value, ends, error, said):
    refuses(error, said, _check.number, "sparsity", value, 0, 1, **ends)


def test_number_closed_ends_belong_to_the_range():
    _check.number("percentile", 50, 50, 100)
    _check.number("percentile", 100, 50, 100, open_low=True)


def test_one_of(refuses):
    _check.one_of("scope", "layer", ("layer", "global"))
    refuses(
        ValueError,
        "scope is 'world'; allowed: 'layer', 'global'",
        _check.one_of, "scope", "world", ("layer", "global"),
    )  # fmt: skip


def test_known_names_the_first_stranger(refuses):
    _check.known("layers", ["a", "b"], ["a", "b", "c"])
    refuses(ValueError, "layers is 'd'; allowed: 'a', 'b'", _check.known, "layers", ["a", "d", "e"], ["a", "b"])


def test_finite_counts_what_is_not(refuses):
    _check.finite("fc.weight", torch.tensor([0.0, -1e30]))
    _check.finite("tokens", torch.tensor([1, 2]))
    said = "fc.weight holds 3 NaN or infinite values; allowed: finite numbers"
    refuses(ValueError, said, _check.finite, "fc.weight", torch.tensor([nan, inf, -inf, 1.0]))


def test_module(refuses):
    _check.kind(nn.Module, model=nn.Linear(1, 1))
    refuses(TypeError, "model is a dict; allowed: a torch.nn.Module", _check.kind, nn.Module, model={})
