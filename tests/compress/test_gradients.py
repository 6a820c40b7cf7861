"""Integer gradients: stochastic rounding has no bias, and `fit` trains on the integers alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labkit.compress.gradients import integer_gradients, round_to_integers
from labkit.train import fit


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=50)
@given(st.floats(-1, 1), st.integers(2, 6), st.integers(0, 2**31))
def test_the_mean_of_stochastic_rounding_is_the_number_itself(value, bits, seed):
    n = 20_000
    x = torch.full((n + 1,), value)
    x[0] = 1.0  # fixes the scale
    q, scale = round_to_integers(x, bits, rng(seed))
    standard_error = float(scale) * 0.5 / n**0.5  # a level's neighbours lie a step apart: the spread is at most half
    assert float((q[1:] * scale).mean()) == pytest.approx(value, abs=5 * standard_error + 1e-6)
    assert float((q * scale - x).abs().max()) <= float(scale) * (1 + 1e-5)


@given(st.lists(st.floats(-1e3, 1e3, width=32, allow_subnormal=False), min_size=1, max_size=30), st.integers(2, 16))
def test_the_nearest_level_is_at_most_half_a_step_away_and_the_integers_fit(values, bits):
    x = torch.tensor(values)
    q, scale = round_to_integers(x, bits)
    n = 2 ** (bits - 1) - 1
    assert q.dtype == torch.int16
    assert q.abs().max() <= n
    assert float((q * scale - x).abs().max()) <= float(scale) * (0.5 + 1e-4) + 1e-30
    assert (q[x.abs() == x.abs().max()].abs() == n).all() or not x.any()


def test_by_hand():
    x = torch.tensor([-3.0, -0.4, 0.0, 0.6, 1.2])
    q, scale = round_to_integers(x, 3)
    assert (q.tolist(), float(scale)) == ([-3, 0, 0, 1, 1], 1.0)
    q, scale = round_to_integers(torch.zeros(3), 4, rng())
    assert (q.tolist(), float(scale)) == ([0, 0, 0], 1.0)


def test_stochastic_rounding_is_a_draw_of_its_seed():
    x = torch.randn(1_000, generator=rng(9))
    q = [round_to_integers(x, 3, rng(seed))[0] for seed in (0, 0, 1)]
    assert q[0].equal(q[1])
    assert not q[0].equal(q[2])
    assert not q[0].equal(round_to_integers(x, 3)[0])


class Spy(torch.optim.SGD):
    """SGD that keeps the gradients it was given."""

    seen: list = []

    def step(self, closure=None):
        Spy.seen += [p.grad.clone() for g in self.param_groups for p in g["params"]]
        return super().step(closure)


@pytest.mark.parametrize("stochastic", [True, False])
def test_the_optimizer_sees_nothing_but_levels(mlp, digits, stochastic):
    Spy.seen = []
    fit(mlp, digits.train, epochs=1, lr=0.1, progress=False,
        optimizer=integer_gradients(3, stochastic=stochastic, optimizer=Spy))  # fmt: skip
    assert len(Spy.seen) == 4 * 10
    for gradient in Spy.seen:
        steps = gradient / gradient.abs().max() * 3
        assert torch.allclose(steps, steps.round(), atol=1e-5)
        assert len(gradient.unique()) <= 7


def test_sixteen_bits_train_like_floats_and_two_nearest_ones_do_not(mlp, digits):
    def accuracy(**how):
        _, history = fit(mlp, digits.train, epochs=8, lr=5e-3, progress=False, validation=digits.validation, **how)
        return history.validation_accuracy.iloc[-1]

    floats, fine = accuracy(), accuracy(optimizer=integer_gradients(16, stochastic=False))
    stochastic, nearest = (
        accuracy(
            optimizer=integer_gradients(2, stochastic=s, optimizer=torch.optim.SGD),
        )
        for s in (True, False)
    )
    assert fine == pytest.approx(floats, abs=0.01)
    assert stochastic > nearest


def test_fit_is_the_same_twice(mlp, digits):
    how = dict(epochs=1, lr=1e-2, progress=False, optimizer=integer_gradients(4, seed=3))
    once, again = (fit(mlp, digits.train, **how)[0] for _ in range(2))
    assert once[1].weight.equal(again[1].weight)
    other = fit(mlp, digits.train, **how | dict(optimizer=integer_gradients(4, seed=4)))[0]
    assert not once[1].weight.equal(other[1].weight)


def test_a_parameter_without_gradient_is_left_alone():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    stepper = integer_gradients(2, optimizer=torch.optim.SGD)([used, unused], lr=1.0)
    used.sum().backward()
    stepper.step()
    assert (used.tolist(), unused.tolist()) == ([0, 0], [1, 1])


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_out_of_range_are_refused(refuses, bits):
    refuses(ValueError, f"bits is {bits}; allowed: a whole number from 2 to 16", integer_gradients, bits)
