"""Quantization-aware training: torch's own straight-through gradient as the oracle, and what comes out in the end."""

import copy
import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labkit.compress import _weights
from labkit.compress.grid import choose_grid, fake_quantize
from labkit.compress.magnitude import KeepZeros, masks_of, prune
from labkit.compress.parts import parts
from labkit.compress.qat import finish_qat, keep_grids, prepare_qat, straight_through
from labkit.compress.quantize import quantize
from labkit.store import check_equal, decode, encode
from labkit.train import count_correct, fit

SCHEMES = [(bits, symmetric) for bits in (1, 2, 3, 8) for symmetric in (True, False)]
SHARED = [dict(granularity="tensor"), dict(granularity="channel"), dict(granularity="group", group_size=16)]
by_granularity = pytest.mark.parametrize("shared", SHARED, ids=lambda how: how["granularity"])


def normal(seed):
    return torch.randn(7, 11, generator=torch.Generator().manual_seed(seed))


def ahead_and_behind(round_trip, x, direction):
    x = x.clone().requires_grad_()
    x_hat = round_trip(x)
    x_hat.backward(direction)
    return x_hat.detach(), x.grad


# the estimator


@settings(deadline=None)  # the first call warms torch up
@given(st.integers(0, 2**31), st.sampled_from([s for s in SCHEMES if s != (1, True)]), st.floats(60, 100))
def test_values_and_gradient_equal_torchs(seed, scheme, percentile):
    x, direction = normal(seed), normal(seed + 1)
    grid = choose_grid(x, scheme[0], symmetric=scheme[1], percentile=percentile)
    settings = grid.scale, grid.zero_point, grid.quant_min, grid.quant_max
    theirs = ahead_and_behind(lambda v: torch.fake_quantize_per_tensor_affine(v, *settings), x, direction)
    ours = ahead_and_behind(lambda v: straight_through(v, grid), x, direction)
    assert ours[0].equal(theirs[0])
    assert ours[1].equal(theirs[1])


@pytest.mark.parametrize(("bits", "symmetric"), [(2, True), (4, False)])
def test_by_channel_it_equals_torchs_too(bits, symmetric):
    x, direction = normal(0), normal(1)
    grid = choose_grid(x, bits, symmetric=symmetric, granularity="channel", percentile=80)
    settings = grid.scale.flatten(), grid.zero_point.flatten(), 0, grid.quant_min, grid.quant_max
    theirs = ahead_and_behind(lambda v: torch.fake_quantize_per_channel_affine(v, *settings), x, direction)
    ours = ahead_and_behind(lambda v: straight_through(v, grid), x, direction)
    assert ours[0].equal(theirs[0])
    assert ours[1].equal(theirs[1])
    assert (ours[1] == 0).any()


@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
def test_the_gradient_of_a_group_is_that_of_a_tensor_of_its_own(bits, symmetric):
    x, direction = normal(0)[:, :10], normal(1)[:, :10]
    how = dict(symmetric=symmetric, percentile=80)
    grid = choose_grid(x, bits, granularity="group", group_size=5, **how)
    ours = ahead_and_behind(lambda v: straight_through(v, grid), x, direction)
    for place in [(i, columns) for i in range(len(x)) for columns in (slice(5), slice(5, 10))]:
        alone = functools.partial(straight_through, grid=choose_grid(x[place], bits, **how))
        theirs = ahead_and_behind(alone, x[place], direction[place])
        assert ours[0][place].allclose(theirs[0], rtol=1e-6)
        assert ours[1][place].equal(theirs[1])


def test_groups_train_and_finish_as_integers_that_a_file_returns(trained, digits):
    prepared = prepare_qat(trained, 2, granularity="group", group_size=16)
    tuned, history = fit(prepared, digits.train, epochs=3, lr=3e-3, progress=False)
    finished = finish_qat(tuned)
    assert history.train_loss.iloc[-1] < history.train_loss.iloc[0]
    assert finished(digits.test.x).equal(tuned(digits.test.x))
    assert finished[1].parametrizations.weight[0].scale.shape == (32, 4)
    assert count_correct(finished, digits.test) > count_correct(quantize(trained, 2), digits.test)
    check_equal(finished, decode(encode(finished), trained))


def test_the_sign_passes_every_gradient_but_that_of_a_zero():
    x = torch.tensor([-30.0, -0.1, 0.0, 0.2, 40.0])
    x_hat, gradient = ahead_and_behind(lambda v: straight_through(v, choose_grid(x, 1)), x, torch.ones(5))
    assert x_hat.equal(fake_quantize(x, choose_grid(x, 1)))
    assert gradient.tolist() == [1, 1, 0, 1, 1]


# the model


@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
@by_granularity
def test_prepared_and_finished_compute_what_quantize_gives(mlp, digits, bits, symmetric, shared):
    how = dict(symmetric=symmetric, percentile=95.0, **shared)
    before = copy.deepcopy(mlp.state_dict())
    expected, prepared = quantize(mlp, bits, **how), prepare_qat(mlp, bits, **how)
    x = digits.test.x[:20]
    assert prepared(x).equal(expected(x))
    check_equal(finish_qat(prepared), expected)
    assert all(v.equal(before[k]) for k, v in mlp.state_dict().items())
    assert [p.shape for p in prepared.parameters() if p.requires_grad] != []


@pytest.mark.parametrize("bits", [1, 2])
def test_training_for_the_grid_beats_rounding_a_network_trained_in_float(trained, digits, bits):
    budget = dict(epochs=5, lr=3e-3, progress=False)
    floats, _ = fit(trained, digits.train, **budget)
    prepared, history = fit(prepare_qat(trained, bits), digits.train, **budget)
    aware = finish_qat(prepared)
    assert aware(digits.test.x).equal(prepared(digits.test.x))
    assert history.train_loss.iloc[-1] < history.train_loss.iloc[0]
    assert count_correct(aware, digits.test) > count_correct(quantize(floats, bits), digits.test) + 10
    check_equal(aware, decode(encode(aware), trained))


def test_the_floats_beneath_move_and_their_grid_follows(trained, digits):
    prepared = prepare_qat(trained, 3)
    after, _ = fit(prepared, digits.train, epochs=1, lr=1e-2, progress=False)
    before, now = prepared[1].parametrizations.weight, after[1].parametrizations.weight
    assert not now.original.equal(before.original)
    assert not now[0].grid(now.original).scale.equal(before[0].grid(before.original).scale)
    assert len(after[1].weight.unique()) <= 8


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_pruned_weights_stay_zero_without_a_hook(trained, digits, optimizer):
    pruned = prune(trained, 0.7)
    tuned, _ = fit(prepare_qat(pruned, 8), digits.train, epochs=2, lr=1e-2, progress=False, optimizer=optimizer)
    masks, kept = masks_of(finish_qat(tuned)), masks_of(pruned)
    assert not any((masks[name] & ~kept[name]).any() for name in masks)
    assert any((masks[name] & kept[name]).any() for name in masks)


def test_layers_limits_it_and_quantized_layers_may_train_on(mlp):
    one = prepare_qat(mlp, 2, layers=["3"])
    assert one[1].weight.equal(mlp[1].weight)
    assert finish_qat(one)[1].weight.equal(mlp[1].weight)
    again = prepare_qat(quantize(mlp, 8), 2)
    assert again[1].parametrizations.weight.original.is_floating_point()
    assert again[1].parametrizations.weight.original.requires_grad


def test_tied_weights_train_as_one():
    net = nn.ModuleDict(dict(embed=nn.Embedding(20, 8), out=nn.Linear(8, 20, bias=False)))
    net["out"].weight = net["embed"].weight
    prepared = prepare_qat(net, 2)
    assert sum(p.requires_grad for p in prepared.parameters()) == 1
    assert sorted(_weights.weights(finish_qat(prepared))) == ["embed.weight"]
    assert finish_qat(prepared)["out"].weight.equal(quantize(net, 2)["out"].weight)


@pytest.mark.parametrize(("bits", "symmetric"), SCHEMES)
@by_granularity
def test_a_quantized_network_trains_on_the_grid_it_has(trained, digits, bits, symmetric, shared):
    small = quantize(prune(trained, 0.5), bits, symmetric=symmetric, layers=["1"], **shared)
    resumed = keep_grids(small)
    assert resumed(digits.test.x).equal(small(digits.test.x))
    check_equal(finish_qat(resumed), small)
    tuned, _ = fit(resumed, digits.train, epochs=2, lr=1e-2, progress=False)
    after, before = parts(finish_qat(tuned)), parts(small)
    assert after["1.weight"].grid.scale.equal(before["1.weight"].grid.scale)
    moved, stood = (m[1].parametrizations.weight.original for m in (tuned, resumed))
    assert not moved.equal(stood)
    assert bits < 3 or not after["1.weight"].q.equal(before["1.weight"].q)  # of few levels none is near enough
    zeros = before["1.weight"].floats() == 0
    assert not after["1.weight"].floats()[zeros].any()
    assert not after["3.weight"].values.equal(before["3.weight"].values)


def test_a_network_of_floats_has_no_grid_to_keep(mlp):
    check_equal(keep_grids(mlp), mlp)


def test_weights_that_are_no_longer_numbers_reach_the_loss(mlp, digits):
    prepared, history = fit(
        prepare_qat(mlp, 2), digits.train, epochs=1, lr=1e30, optimizer=torch.optim.SGD, progress=False
    )
    assert not math.isfinite(history["train_loss"][0])


# what is refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 9}, "bits is 9; allowed: a whole number from 1 to 8"),
        ({"bits": 2, "granularity": "row"}, "granularity is 'row'; allowed: 'tensor', 'channel', 'group'"),
        (
            {"bits": 2, "granularity": "group", "group_size": 64},
            "group_size is 64; allowed for 3.weight: a divisor of 32, its entries per row",
        ),
        (
            {"bits": 2, "group_size": 64},
            "group_size is 64 and granularity 'tensor'; allowed: 'group' with a group_size, others without",
        ),
        ({"bits": 2, "percentile": 50}, "percentile is 50; allowed: a number in (50, 100]"),
        ({"bits": 2, "layers": ["fc"]}, "layers names 'fc'; allowed: 1.weight, 3.weight"),
    ],
)
def test_prepare_refuses(mlp, refuses, settings, said):
    refuses(ValueError, said, prepare_qat, mlp, **settings)


def test_what_does_not_go_together_is_refused(mlp, digits, refuses):
    said = "no weight of Sequential trains for a grid; give what prepare_qat made"
    refuses(ValueError, said, finish_qat, mlp)
    refuses(ValueError, said, finish_qat, quantize(mlp, 2))
    prepared = prepare_qat(mlp, 4)
    refuses(ValueError, "1.weight trains for a grid; a file holds what finish_qat makes of it", parts, prepared)
    said = "a weight that trains for a grid cannot be set: prune before prepare_qat; its zeros stay without a hook"
    refuses(ValueError, said, prune, prepared, 0.5)
    hook = KeepZeros(prepared)
    refuses(ValueError, said, fit, prepared, digits.train, epochs=1, lr=1e-3, progress=False, after_step=hook)
