"""Quantization: torch's own fake-quantize kernels as the oracle, bit for bit, and what must hold on any module."""

import copy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from labkit import store
from labkit.compress import _weights
from labkit.compress import quantize as quantization
from labkit.compress.magnitude import masks_of, prune, sparsity_of
from labkit.compress.quantize import choose_grid, fake_quantize, quantize, quantize_inputs, to_floats, to_integers
from labkit.data import take
from labkit.train import count_correct
from tests.unlabelled import unlabelled

finite = st.floats(-1e6, 1e6, width=32, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 1e-20)
rows = st.lists(st.lists(finite, min_size=3, max_size=3), min_size=1, max_size=8).map(torch.tensor)
schemes = st.one_of(
    st.tuples(st.integers(1, 8), st.just(False)),
    st.tuples(st.integers(2, 8), st.just(True)),
)

SHARED = [dict(granularity="tensor"), dict(granularity="channel"), dict(granularity="group", group_size=8)]


def small(model, x: Tensor) -> Tensor:
    return model.eval()(x).detach()


# the grid


@given(rows, schemes)
def test_per_tensor_equals_torch_bit_for_bit(x, scheme):
    bits, symmetric = scheme
    grid = choose_grid(x, bits, symmetric=symmetric)
    theirs = torch.fake_quantize_per_tensor_affine(x, grid.scale, grid.zero_point, grid.quant_min, grid.quant_max)
    assert fake_quantize(x, grid).equal(theirs)


@given(rows, schemes)
def test_per_channel_equals_torch_bit_for_bit(x, scheme):
    bits, symmetric = scheme
    grid = choose_grid(x, bits, symmetric=symmetric, granularity="channel")
    theirs = torch.fake_quantize_per_channel_affine(
        x, grid.scale.flatten(), grid.zero_point.flatten(), 0, grid.quant_min, grid.quant_max
    )
    assert fake_quantize(x, grid).equal(theirs)


@given(rows, schemes, st.sampled_from(["tensor", "channel"]))
def test_nothing_moves_further_than_half_a_step(x, scheme, granularity):
    bits, symmetric = scheme
    grid = choose_grid(x, bits, symmetric=symmetric, granularity=granularity)
    low, high = ((end - grid.zero_point) * grid.scale for end in (grid.quant_min, grid.quant_max))
    error = (fake_quantize(x, grid) - x).abs()
    slack = 1e-5 * x.abs().max()  # of float32, and of a zero_point that was rounded
    inside = (x >= low) & (x <= high)
    assert (error <= grid.scale / 2 + slack)[inside].all()
    assert (error <= grid.scale * (0.5 + 1e-5) + slack).all() or symmetric or bits == 1


@given(rows, st.integers(1, 8), st.booleans(), st.sampled_from(["tensor", "channel"]), st.floats(51, 100))
def test_zero_stays_zero_and_integers_fit(x, bits, symmetric, granularity, percentile):
    x[0, 0] = 0
    grid = choose_grid(x, bits, symmetric=symmetric, granularity=granularity, percentile=percentile)
    q = to_integers(x, grid)
    assert to_floats(q, grid)[x == 0].abs().sum() == 0
    assert q.dtype == (torch.int8 if symmetric else torch.uint8)
    assert q.min() >= grid.quant_min
    assert q.max() <= grid.quant_max
    assert len(q.unique()) <= max(2**bits, 3 if symmetric else 2)
    assert (grid.scale > 0).all()


@given(rows, schemes)
def test_rounding_twice_is_rounding_once(x, scheme):
    bits, symmetric = scheme
    grid = choose_grid(x, bits, symmetric=symmetric)
    once = fake_quantize(x, grid)
    assert fake_quantize(once, grid).equal(once)


@pytest.mark.parametrize(("symmetric", "fewest"), [(True, 2), (False, 1)])
def test_more_bits_never_hurt(symmetric, fewest):
    """Among grids of one kind: the sign of one symmetric bit beats two bits that have to reach the largest weight."""
    x = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    grids = [choose_grid(x, bits, symmetric=symmetric) for bits in range(fewest, 9)]
    errors = [(fake_quantize(x, grid) - x).square().mean() for grid in grids]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


def test_ranges_by_hand():
    x = torch.tensor([[-1.0, 0.0, 2.0]])
    symmetric, affine = choose_grid(x, 2), choose_grid(x, 2, symmetric=False)
    assert (symmetric.scale.item(), symmetric.zero_point.item()) == (pytest.approx(4 / 3), 0)
    assert (symmetric.quant_min, symmetric.quant_max) == (-2, 1)
    assert (affine.scale.item(), affine.zero_point.item()) == (1.0, 1)
    assert (affine.quant_min, affine.quant_max) == (0, 3)
    assert fake_quantize(x, affine).equal(x)
    assert choose_grid(x + 5, 2, symmetric=False).zero_point.item() == 0  # stretched to hold 0
    assert choose_grid(x - 5, 2, symmetric=False).zero_point.item() == 3


def test_one_symmetric_bit_is_the_sign_times_the_mean_magnitude():
    x = torch.tensor([[-1.0, 0.0, 3.0], [0.5, 0.5, 0.5]])
    assert fake_quantize(x, choose_grid(x, 1)).equal(torch.tensor([[-1.1, 0, 1.1], [1.1, 1.1, 1.1]]))
    by_row = fake_quantize(x, choose_grid(x, 1, granularity="channel"))
    assert by_row.equal(torch.tensor([[-2.0, 0, 2.0], [0.5, 0.5, 0.5]]))


def test_a_channel_has_a_grid_of_its_own():
    x = torch.tensor([[0.1, -0.1], [100.0, -100.0], [0.0, 0.0]])
    grid = choose_grid(x, 8, granularity="channel")
    assert grid.scale.shape == (3, 1)
    assert grid.scale.flatten().tolist() == pytest.approx([0.1 / 127.5, 100 / 127.5, 1.0])
    assert (fake_quantize(x, grid) - x)[0].abs().max() < 1e-3


@given(st.integers(0, 2**31), st.floats(51, 99.9), st.booleans())
def test_percentile_clips_to_the_quantiles_of_what_is_not_zero(seed, percentile, symmetric):
    x = torch.randn(1, 2_001, generator=torch.Generator().manual_seed(seed))
    with_zeros = torch.cat([x, torch.zeros(1, 5_000)], dim=1)
    ends = torch.tensor([1 - percentile / 100, percentile / 100])
    low, high = torch.quantile(x, ends, interpolation="nearest").tolist()
    low, high = min(low, 0), max(high, 0)
    for values in (x, with_zeros):
        grid = choose_grid(values, 6, symmetric=symmetric, percentile=percentile)
        span = 2 * max(-low, high) if symmetric else high - low
        assert grid.scale.item() == pytest.approx(span / 63, rel=0.02)


def test_percentile_is_worth_it_with_an_outlier():
    x = torch.cat([torch.randn(1, 9_999, generator=torch.Generator().manual_seed(0)), torch.tensor([[50.0]])], dim=1)
    errors = [(fake_quantize(x, choose_grid(x, 4, percentile=p)) - x)[:, :-1].square().mean() for p in (100.0, 99.9)]
    assert errors[1] < errors[0] / 10


# groups


@st.composite
def in_groups(draw):
    """A tensor with some zeros and some large values, and a group size that divides its rows."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**31)))).pow(3)
    entries = x[0].numel()
    return x * (x.abs() > 0.01), draw(st.sampled_from([n for n in range(1, entries + 1) if entries % n == 0]))


@given(in_groups(), st.integers(1, 8), st.booleans(), st.sampled_from([100.0, 90.0]))
def test_a_group_is_rounded_as_a_tensor_of_its_own(given_, bits, symmetric, percentile):
    x, size = given_
    how = dict(symmetric=symmetric, percentile=percentile)
    grid = choose_grid(x, bits, granularity="group", group_size=size, **how)
    q = to_integers(x, grid)
    groups = [group for row in x for group in row.flatten().split(size)]
    alone = [choose_grid(group, bits, **how) for group in groups]
    assert grid.scale.shape == grid.zero_point.shape == (len(x), x[0].numel() // size)
    torch.testing.assert_close(grid.scale.flatten(), torch.stack([g.scale for g in alone]), rtol=1e-6, atol=0)
    assert grid.zero_point.flatten().tolist() == [int(g.zero_point) for g in alone]
    by_hand = [to_integers(group, g) for group, g in zip(groups, alone, strict=True)]
    assert q.equal(torch.cat(by_hand).view(x.shape))
    assert not to_floats(q, grid)[x == 0].any()
    quantization.check_grid(grid, tuple(x.shape))


@given(in_groups(), st.integers(1, 8), st.booleans(), st.sampled_from([100.0, 90.0]))
def test_a_group_as_long_as_a_row_is_a_channel(given_, bits, symmetric, percentile):
    x, how = given_[0], dict(symmetric=symmetric, percentile=percentile)
    group = choose_grid(x, bits, granularity="group", group_size=x[0].numel(), **how)
    channel = choose_grid(x, bits, granularity="channel", **how)
    assert group.scale.flatten().equal(channel.scale.flatten())
    assert group.zero_point.flatten().equal(channel.zero_point.flatten())
    assert to_integers(x, group).equal(to_integers(x, channel))
    assert fake_quantize(x, group).equal(fake_quantize(x, channel))


@given(in_groups())
def test_a_tensor_has_the_grids_that_can_be_chosen_and_no_others(given_):
    x, shape = given_[0], tuple(given_[0].shape)
    sizes = [n for n in range(1, x.numel() + 1) if x[0].numel() % n == 0]
    chosen = [choose_grid(x, 4), *(choose_grid(x, 4, granularity="channel", axis=i) for i in range(x.ndim))]
    chosen += [choose_grid(x, 4, granularity="group", group_size=n) for n in sizes]
    assert quantization.grid_shapes(shape) == {tuple(grid.scale.shape) for grid in chosen}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_groups_follow_the_axes_not_the_memory(layout):
    x = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    grid = choose_grid(x, 8, granularity="group", group_size=4)
    assert grid.scale.equal(x.abs().amax((2, 3)) / 127.5)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_smaller_groups_err_less_where_tails_are_heavy(bits, symmetric):
    x = torch.randn(32, 256, generator=torch.Generator().manual_seed(0)).pow(3)
    grids = [choose_grid(x, bits, symmetric=symmetric, granularity="channel")]
    grids += [choose_grid(x, bits, symmetric=symmetric, granularity="group", group_size=n) for n in (128, 64, 16)]
    errors = [float((fake_quantize(x, grid) - x).square().mean()) for grid in grids]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 2


def test_groups_of_a_layer_are_counted_from_its_own_rows(refuses):
    model = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ConvTranspose2d(4, 2, 5), nn.Flatten(), nn.Linear(100, 3))
    small = quantize(model, 4, granularity="group", group_size=25)
    shapes = [tuple(small[i].parametrizations.weight[0].scale.shape) for i in (0, 1, 3)]
    assert shapes == [(4, 1), (4, 2), (3, 4)]
    how = dict(granularity="group", group_size=10)
    said = "group_size is 10; allowed for 0.weight: a divisor of 25, its entries per row"
    refuses(ValueError, said, quantize, model, 4, **how)
    assert quantize(model, 4, **how, layers=["1", "3"])[3].parametrizations.weight[0].scale.shape == (3, 10)


def test_pruning_stays_on_the_grid_of_each_group(mlp):
    model = quantize(mlp, 3, symmetric=False, granularity="group", group_size=16)
    pruned = prune(model, 0.6)
    kept = masks_of(pruned)["1.weight"]
    assert sparsity_of(pruned) >= 0.6
    assert pruned[1].weight[kept].equal(model[1].weight[kept])
    assert pruned[1].parametrizations.weight[0].scale.equal(model[1].parametrizations.weight[0].scale)


# the model


@pytest.mark.parametrize("shared", SHARED, ids=lambda how: how["granularity"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_weights_become_the_fake_quantized_ones(mlp, bits, symmetric, shared):
    before = copy.deepcopy(mlp.state_dict())
    model = quantize(mlp, bits, symmetric=symmetric, **shared)
    for i in (1, 3):
        grid = choose_grid(mlp[i].weight.detach(), bits, symmetric=symmetric, **shared)
        assert model[i].weight.equal(fake_quantize(mlp[i].weight.detach(), grid))
        assert model[i].bias.equal(mlp[i].bias)
        stored = model[i].parametrizations.weight.original
        assert stored.dtype == (torch.int8 if symmetric else torch.uint8)
    assert all(v.equal(before[k]) for k, v in mlp.state_dict().items())
    assert list(mlp.state_dict()) == list(before)


def test_eight_bits_cost_no_accuracy(trained, digits):
    assert abs(count_correct(quantize(trained, 8), digits.test) - count_correct(trained, digits.test)) <= 2
    assert count_correct(quantize(trained, 1, symmetric=False), digits.test) < count_correct(trained, digits.test)


def test_layers_limits_it(mlp):
    model = quantize(mlp, 2, layers=["3"])
    assert model[1].weight is not mlp[1].weight
    assert model[1].weight.equal(mlp[1].weight)
    assert len(model[3].weight.unique()) <= 4


def test_quantizing_again_is_quantizing_what_it_has_become(mlp):
    once = quantize(mlp, 8)
    twice = quantize(once, 3, symmetric=False)
    grid = choose_grid(once[1].weight, 3, symmetric=False)
    assert twice[1].weight.equal(fake_quantize(once[1].weight, grid))
    assert len(once[1].weight.unique()) > 8
    assert len(twice[1].parametrizations.weight) == 1
    again = quantize(once, 8)
    assert torch.allclose(again[1].weight, once[1].weight, atol=once[1].parametrizations.weight[0].scale.item())


def test_pruning_then_quantizing_keeps_the_zeros(mlp):
    pruned = prune(mlp, 0.7)
    for bits in (1, 2, 8):
        for symmetric in (True, False):
            model = quantize(pruned, bits, symmetric=symmetric)
            assert not any((mask & ~masks_of(pruned)[k]).any() for k, mask in masks_of(model).items())


def test_quantizing_then_pruning_stays_on_the_grid(mlp):
    model = quantize(mlp, 5, symmetric=False, granularity="channel")
    pruned = prune(model, 0.6)
    assert sparsity_of(pruned) >= 0.6
    kept = masks_of(pruned)["1.weight"]
    assert pruned[1].weight[kept].equal(model[1].weight[kept])
    assert pruned[1].parametrizations.weight.original.dtype == torch.uint8
    assert sparsity_of(model) < 0.2


# activations


def test_activations_are_rounded_as_by_hand(mlp, digits):
    x, images = digits.test.x[:50], digits.train.x[:200]
    model = quantize(mlp, 4, activation_bits=3, calibration=unlabelled(images), percentile=99.0)
    plain = quantize(mlp, 4, percentile=99.0)

    def rounded(values, seen):
        return fake_quantize(values, choose_grid(seen, 3, symmetric=False, percentile=99.0))

    entering_first, first = images.flatten(1), mlp[1](images.flatten(1)).relu().detach()
    hidden = plain[1](rounded(x.flatten(1), entering_first)).relu()
    assert small(model, x).equal(plain[3](rounded(hidden, first)))
    assert not small(model, x).equal(small(plain, x))


def test_inputs_alone_are_rounded_as_beside_the_weights(mlp, digits):
    images = digits.train.x[:200]
    alone = quantize_inputs(mlp, 3, calibration=unlabelled(images), percentile=99.0)
    beside = quantize(mlp, 8, activation_bits=3, calibration=unlabelled(images), percentile=99.0)
    for layer in (1, 3):
        assert alone[layer].weight.equal(mlp[layer].weight)
        assert alone[layer].input_quantizer.scale.equal(beside[layer].input_quantizer.scale)
    assert not small(alone, digits.test.x).equal(small(mlp, digits.test.x))
    assert not hasattr(mlp[1], "input_quantizer")
    assert store.decode(store.encode(alone), into=mlp)[1].input_quantizer.scale.equal(alone[1].input_quantizer.scale)


def test_inputs_of_named_layers_only(mlp, digits):
    model = quantize_inputs(mlp, 2, calibration=take(digits.train, 50), layers=["3"])
    assert hasattr(model[3], "input_quantizer")
    assert not hasattr(model[1], "input_quantizer")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 9}, "bits is 9; allowed: a whole number from 1 to 8"),
        ({"bits": 8, "percentile": 50}, "percentile is 50; allowed: a number in (50, 100]"),
        ({"bits": 8, "layers": ["4"]}, "layers names '4'; allowed: 1.weight, 3.weight"),
    ],
)
def test_quantize_inputs_refuses(mlp, refuses, settings, said):
    refuses(ValueError, said, lambda: quantize_inputs(mlp, calibration=unlabelled(torch.zeros(1, 64)), **settings))


def test_calibration_sees_evaluation_mode_and_leaves_the_model_as_it_was(digits):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    before = copy.deepcopy(model.state_dict())
    first, again = (quantize(model, 8, activation_bits=8, calibration=digits.train) for _ in range(2))
    assert first.training
    assert model.training
    assert not hasattr(model[3], "input_quantizer")
    assert not model[3]._forward_pre_hooks
    assert first[3].input_quantizer.scale.equal(again[3].input_quantizer.scale)
    entering = copy.deepcopy(model).eval()[:3](digits.train.x)
    assert first[3].input_quantizer.scale.equal(choose_grid(entering, 8, symmetric=False).scale)
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())


def test_calibrating_again_replaces_the_rounding(mlp, digits):
    once = quantize(mlp, 8, activation_bits=2, calibration=digits.train)
    twice = quantize(once, 8, activation_bits=8, calibration=digits.train)
    assert len(twice[1]._forward_pre_hooks) == 1
    assert int(twice[1].input_quantizer.bits) == 8
    assert int(once[1].input_quantizer.bits) == 2


def test_a_layer_that_is_used_twice_is_calibrated_on_both_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(100 * x) / 1_000)

    model = quantize(Twice(), 8, activation_bits=8, calibration=unlabelled(torch.rand(10, 4)))
    assert model.fc.input_quantizer.scale * 255 > 50


# any module


class Attention(nn.Module):
    """Tokens to logits with an embedding, attention and a tied output."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.out(self.attention(x, x, x, need_weights=False)[0])


TOKENS = torch.randint(20, (3, 5), generator=torch.Generator().manual_seed(0))
ANY = {
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(2, 6, 3), nn.ReLU(), nn.Conv1d(6, 3, 1)), torch.rand(2, 2, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 3), torch.rand(1, 2, 5, 5)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 4)), TOKENS),
    "attention": (Attention, TOKENS),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.rand(2, 5, 8)),
    "recurrent": (lambda: nn.Bilinear(4, 4, 3), None),
    "bare layer": (lambda: nn.Linear(6, 2), torch.rand(3, 6)),
}


@pytest.mark.parametrize("kind", ANY)
def test_any_module(kind):
    torch.manual_seed(0)
    build, x = ANY[kind]
    model = build().eval()
    rough, fine = quantize(model, 2), quantize(model, 8)
    for name, value in _weights.weights(model).items():
        stored = _weights.weights(rough)[name]
        assert stored.equal(fake_quantize(value, choose_grid(value, 2)))
    if x is not None:
        assert torch.allclose(small(fine, x), small(model, x), atol=0.05)
        assert not small(rough, x).equal(small(model, x))


@pytest.mark.parametrize("kind", ["conv1d", "embedding", "bare layer"])
def test_any_module_with_its_activations(kind):
    torch.manual_seed(0)
    build, x = ANY[kind]
    model = build().eval()
    assert torch.allclose(
        small(quantize(model, 8, activation_bits=8, calibration=unlabelled(x)), x), small(model, x), atol=0.05
    )


def test_tied_weights_are_quantized_together_and_stay_tied():
    model = quantize(Attention(), 3)
    assert "out.weight" not in _weights.weights(model)
    assert model.out.weight.equal(model.embed.weight)
    assert len(model.out.weight.unique()) <= 8
    assert model.out.parametrizations.weight is model.embed.parametrizations.weight
    pruned = prune(model, 0.5, layers=["embed"])
    assert pruned.out.weight.equal(pruned.embed.weight)
    assert (pruned.out.weight == 0).sum() >= 80
    back = _weights.plain(model)
    assert back.out.weight is back.embed.weight
    assert back.out.weight.equal(model.out.weight)


# what is refused


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"bits": 0}, ValueError, "bits is 0; allowed: a whole number from 1 to 8"),
        ({"bits": 9}, ValueError, "bits is 9; allowed: a whole number from 1 to 8"),
        ({"bits": 4.0}, TypeError, "bits is 4.0; allowed: a whole number from 1 to 8"),
        ({"granularity": "row"}, ValueError, "granularity is 'row'; allowed: 'tensor', 'channel', 'group'"),
        (
            {"granularity": "group"},
            ValueError,
            "group_size is None and granularity 'group'; allowed: 'group' with a group_size, others without",
        ),
        (
            {"granularity": "channel", "group_size": 8},
            ValueError,
            "group_size is 8 and granularity 'channel'; allowed: 'group' with a group_size, others without",
        ),
        (
            {"granularity": "group", "group_size": 0},
            ValueError,
            "group_size is 0; allowed: a whole number from 1 to 1000000",
        ),
        (
            {"granularity": "group", "group_size": 8.0},
            TypeError,
            "group_size is 8.0; allowed: a whole number from 1 to 1000000",
        ),
        (
            {"granularity": "group", "group_size": 64},
            ValueError,
            "group_size is 64; allowed for 3.weight: a divisor of 32, its entries per row",
        ),
        ({"percentile": 50}, ValueError, "percentile is 50; allowed: a number in (50, 100]"),
        ({"percentile": 101}, ValueError, "percentile is 101; allowed: a number in (50, 100]"),
        ({"layers": ["fc"]}, ValueError, "layers names 'fc'; allowed: 1.weight, 3.weight"),
        (
            {"activation_bits": 8},
            ValueError,
            "activation_bits and calibration belong together: give both or neither",
        ),
        (
            {"calibration": torch.zeros(1, 64)},
            ValueError,
            "activation_bits and calibration belong together: give both or neither",
        ),
        (
            {"activation_bits": 9, "calibration": torch.zeros(1, 64)},
            ValueError,
            "activation_bits is 9; allowed: a whole number from 1 to 8",
        ),
    ],
)
def test_quantize_refuses(mlp, refuses, settings, error, said):
    refuses(error, said, quantize, mlp, **settings)


def test_quantize_refuses_what_is_no_network(mlp, refuses):
    refuses(TypeError, "model is a list; allowed: a torch.nn.Module", quantize, [], 8)
    said = "model Sequential has no weight of two or more dimensions; nothing to compress"
    refuses(ValueError, said, quantize, nn.Sequential(nn.ReLU()), 8)
    mlp[1].weight.data[:2, 0] = float("inf")
    said = "1.weight holds 2 NaN or infinite values; allowed: finite numbers"
    refuses(ValueError, said, quantize, mlp, 8)


@given(rows)
def test_choose_grid_refuses_nan(x):
    assume(x.numel())
    x[-1, -1] = float("nan")
    with pytest.raises(ValueError, match="^x holds 1 NaN or infinite values; allowed: finite numbers$"):
        choose_grid(x, 8)
