"""Quantization: torch's own fake-quantize kernels as the oracle, bit for bit, and what must hold on any module."""

import copy

import pytest
import torch
from torch import Tensor, nn

from labkit import store
from labkit.compress import _weights
from labkit.compress.grid import choose_grid, fake_quantize
from labkit.compress.magnitude import masks_of, prune, sparsity_of
from labkit.compress.quantize import quantize, quantize_inputs
from labkit.data import take
from labkit.train import count_correct
from tests.unlabelled import unlabelled

SHARED = [dict(granularity="tensor"), dict(granularity="channel"), dict(granularity="group", group_size=8)]


def small(model, x: Tensor) -> Tensor:
    return model.eval()(x).detach()


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
