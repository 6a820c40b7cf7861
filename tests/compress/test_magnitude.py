"""Magnitude pruning: the properties a mask must have, and torch.nn.utils.prune as the oracle."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as oracle

from labkit.compress import _weights
from labkit.compress.magnitude import (
    GradualPruning,
    KeepZeros,
    apply_masks,
    clustered_importance,
    cubic_sparsity,
    keep_mask,
    masks_of,
    prune,
    random_importance,
    sparsity_of,
)
from labkit.compress.quantize import quantize
from labkit.train import count_correct, fit


def convnet():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def zeros(weight):
    return int((weight == 0).sum())


# the mask


@given(st.integers(1, 400), st.floats(0, 1, exclude_max=True), st.integers(0, 2**31), st.booleans())
def test_a_mask_drops_the_asked_number_and_the_smallest(n, sparsity, seed, ties):
    weight = torch.randn(n, generator=torch.Generator().manual_seed(seed))
    weight = weight.round() if ties else weight
    mask = keep_mask(weight.abs(), sparsity)
    assert mask.shape == weight.shape
    assert int((~mask).sum()) == round(sparsity * n)
    if mask.any() and not mask.all():
        assert weight[~mask].abs().max() <= weight[mask].abs().min()


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_of_equal_weights_every_neuron_loses_alike(rows, columns, sparsity):
    """A quantized layer has more equal weights than there are places between the levels: no end of it may go first."""
    mask = keep_mask(torch.ones(rows, columns), sparsity)
    left = mask.sum(1)
    assert int(left.sum()) == rows * columns - round(sparsity * rows * columns)
    assert left.max() - left.min() <= 1


@pytest.mark.parametrize("sparsity", [0, 0.5, 1])
def test_an_importance_that_is_no_number_is_refused(refuses, sparsity):
    importance = torch.tensor([1.0, float("nan"), 2.0, -float("inf")])
    refuses(ValueError, "importance holds NaN; allowed: numbers", keep_mask, importance, sparsity)
    assert keep_mask(importance[2:], sparsity).tolist() == [sparsity < 1, sparsity < 0.5]


def test_the_model_gets_the_mask_it_should():
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[0.5, -0.1, -3.0, 0.2]])
    assert prune(model, 0.5).weight.tolist() == [[0.5, 0, -3.0, 0]]
    assert prune(model, threshold=0.2).weight.tolist() == [[0.5, 0, -3.0, 0]]
    assert prune(model, threshold=0).weight.equal(model.weight)


# the model


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_masks_cover_exactly_the_weights(scope):
    model = convnet()
    pruned = prune(model, 0.5, scope=scope)
    assert set(masks_of(pruned)) == {"0.weight", "4.weight"}
    for name, value in pruned.state_dict().items():
        if name not in ("0.weight", "4.weight"):
            assert value.equal(model.state_dict()[name])
    for name, mask in masks_of(pruned).items():
        assert pruned.state_dict()[name].equal(model.state_dict()[name] * mask)
        assert not mask.all()


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_achieved_is_what_was_asked_to_the_nearest_weight(mlp, scope, sparsity):
    pruned = prune(mlp, sparsity, scope=scope)
    n = 64 * 32 + 32 * 10
    if scope == "global":
        assert sparsity_of(pruned) == pytest.approx(round(sparsity * n) / n, abs=1e-12)
    else:
        assert zeros(pruned[1].weight) == round(sparsity * 2_048)
        assert zeros(pruned[3].weight) == round(sparsity * 320)


def test_global_ranks_every_weight_together(mlp):
    pruned = prune(mlp, 0.5)
    kept = torch.cat([w[w != 0].abs() for w in _weights.weights(pruned).values()])
    dropped = torch.cat([mlp[i].weight[pruned[i].weight == 0].abs() for i in (1, 3)])
    assert dropped.max() <= kept.min()
    assert zeros(pruned[1].weight) != 1_024  # a wide layer starts with smaller weights


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_second_round_never_revives_a_weight(mlp, scope):
    first = prune(mlp, 0.4, scope=scope)
    second = prune(first, 0.7, scope=scope)
    assert sparsity_of(second) > sparsity_of(first)
    for name, mask in masks_of(second).items():
        assert not (mask & ~masks_of(first)[name]).any()
    less = prune(second, 0.1, scope=scope)
    assert all(v.equal(masks_of(second)[k]) for k, v in masks_of(less).items())


def test_the_model_passed_in_is_not_changed(mlp):
    before = copy.deepcopy(mlp.state_dict())
    pruned = prune(mlp, 0.9)
    pruned[1].bias.data.zero_()
    assert all(v.equal(before[k]) for k, v in mlp.state_dict().items())


def test_layers_are_named_by_layer_or_by_weight(mlp):
    for name in ("1", "1.weight"):
        pruned = prune(mlp, 0.5, layers=[name])
        assert zeros(pruned[1].weight) == 1_024
        assert pruned[3].weight.equal(mlp[3].weight)


def test_a_mapping_gives_each_layer_its_own_sparsity(mlp):
    pruned = prune(mlp, {"1": 0.9, "3.weight": 0.25})
    assert zeros(pruned[1].weight) == round(0.9 * 2_048)
    assert zeros(pruned[3].weight) == 80
    assert zeros(prune(mlp, {"3": 0.25})[1].weight) == 0


def test_tied_weights_are_ranked_once_and_stay_tied():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    assert list(_weights.weights(model)) == ["0.weight"]
    pruned = prune(model, 0.5)
    assert pruned[0].weight is pruned[1].weight
    assert zeros(pruned[0].weight) == 32


class Tied(nn.Module):
    """Two layers share a weight, and one layer has two names."""

    def __init__(self):
        super().__init__()
        self.embedding, self.middle = nn.Embedding(8, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 8)
        self.head.weight = self.embedding.weight
        self.again = self.middle

    def forward(self, x):
        return self.head(self.again(self.middle(self.embedding(x))))


@pytest.mark.parametrize("stored", [lambda model: model, lambda model: quantize(model, 8)], ids=["floats", "integers"])
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("embedding", "embedding.weight"), ("head", "embedding.weight"), ("head.weight", "embedding.weight"),
        ("middle", "middle.weight"), ("again", "middle.weight"), ("again.weight", "middle.weight"),
    ],
)  # fmt: skip
def test_each_layer_that_shares_a_weight_names_it(name, first, stored):
    model = stored(Tied())
    assert list(_weights.chosen(model, [name])) == [first]
    assert list(_weights.chosen(model, [name, first])) == [first]
    assert list(_weights.chosen(model, None, [name])) == [k for k in _weights.weights(model) if k != first]
    pruned = prune(model, {name: 0.5})
    assert zeros(_weights.weights(pruned)[first]) > 0
    assert pruned.head.weight.equal(pruned.embedding.weight)


def test_a_shared_weight_has_one_sparsity(refuses):
    said = "sparsity names embedding.weight twice, also as 'head'; allowed: once for each weight"
    refuses(ValueError, said, prune, Tied(), {"embedding": 0.5, "head": 0.9})


def test_a_quantized_model_can_be_pruned(mlp):
    small = prune(quantize(mlp, bits=4), 0.8)
    assert sparsity_of(small) == pytest.approx(0.8, abs=1e-3)
    assert len(small[1].weight.unique()) <= 16


def test_another_parametrization_is_pruned_through_its_own_inverse():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)))
    pruned = prune(model, 0.5)
    assert sparsity_of(pruned) == 0.5
    assert torch.allclose(pruned[0].weight, model[0].weight * masks_of(pruned)["0.weight"], atol=1e-6)


def test_random_importance_is_a_seeded_baseline(trained, digits):
    first, again, other = (prune(trained, 0.6, importance=random_importance(seed)) for seed in (0, 0, 1))
    assert first[1].weight.equal(again[1].weight)
    assert not first[1].weight.equal(other[1].weight)
    assert sparsity_of(first) == pytest.approx(0.6, abs=1e-3)
    assert count_correct(prune(trained, 0.6), digits.test) > count_correct(first, digits.test) + 20


# the oracle


@pytest.mark.parametrize("amount", [0.0, 0.1, 1 / 3, 0.5, 0.9, 0.997])
def test_per_layer_equals_torch_bit_for_bit(amount):
    model, theirs = convnet(), convnet()
    for layer in (theirs[0], theirs[4]):
        oracle.l1_unstructured(layer, "weight", amount=amount)
    ours = prune(model, amount, scope="layer")
    assert ours[0].weight.equal(theirs[0].weight)
    assert ours[4].weight.equal(theirs[4].weight)


@pytest.mark.parametrize("amount", [0.0, 0.1, 1 / 3, 0.5, 0.9, 0.997])
def test_global_equals_torch_bit_for_bit(amount):
    model, theirs = convnet(), convnet()
    places = [(theirs[0], "weight"), (theirs[4], "weight")]
    oracle.global_unstructured(places, oracle.L1Unstructured, amount=amount)
    ours = prune(model, amount)
    assert ours[0].weight.equal(theirs[0].weight)
    assert ours[4].weight.equal(theirs[4].weight)


# while training


def test_keep_zeros_holds_them_through_fine_tuning(trained, digits):
    pruned = prune(trained, 0.9)
    tuned, _ = fit(pruned, digits.train, epochs=3, lr=5e-3, after_step=KeepZeros(pruned), progress=False)
    for name, mask in masks_of(pruned).items():
        assert not tuned.state_dict()[name][~mask].any()
        assert not tuned.state_dict()[name][mask].equal(pruned.state_dict()[name][mask])
    assert count_correct(tuned, digits.test) > count_correct(pruned, digits.test) + 20
    loose, _ = fit(pruned, digits.train, epochs=1, lr=5e-3, progress=False)
    assert sparsity_of(loose) < 0.5


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0.5, 0.99))
def test_cubic_sparsity_is_zhu_and_guptas_formula(t, initial, final):
    """Their form, with steps t0 = 100, n = 10 and Δt = 20: s_t = s_f + (s_i - s_f)(1 - (t - t0) / nΔt)^3."""
    step = 100 + t * 200
    expected = final + (initial - final) * (1 - (step - 100) / (10 * 20)) ** 3
    assert cubic_sparsity(t, initial, final) == pytest.approx(expected, abs=1e-9)
    assert initial - 1e-9 <= cubic_sparsity(t, initial, final) <= final + 1e-9


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_gradual_pruning_follows_the_schedule(mlp, digits, scope):
    hook = GradualPruning(0.9, initial_sparsity=0.2, until=0.5, every=4, scope=scope)
    seen = []

    def watched(model, step):
        seen.append((step.progress, sparsity_of(model)))

    model, _ = fit(mlp, digits.train, epochs=4, lr=5e-3, batch_size=100, after_step=[hook, watched], progress=False)
    for i, (progress, achieved) in enumerate(seen):
        renewed = seen[i - i % 4][0] if i < len(seen) - 1 else 1
        assert achieved == pytest.approx(cubic_sparsity(min(1, renewed / 0.5), 0.2, 0.9), abs=1e-3), progress
    assert sparsity_of(model) == pytest.approx(0.9, abs=1e-3)
    assert seen[0][1] > 0.2


def test_gradual_pruning_reaches_the_end_though_the_last_renewal_is_missed(mlp, digits):
    hook = GradualPruning(0.95, until=1.0, every=1_000)
    model, _ = fit(mlp, digits.train, epochs=1, lr=1e-3, after_step=hook, progress=False)
    assert sparsity_of(model) == pytest.approx(0.95, abs=1e-3)


def test_apply_masks_works_in_place(mlp):
    apply_masks(mlp, {"1.weight": torch.zeros(32, 64, dtype=torch.bool)})
    assert not mlp[1].weight.any()
    assert mlp[1].weight.requires_grad
    assert mlp[3].weight.any()


# what is refused

ALLOWED = "allowed: a number in [0, 1)"


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"sparsity": 1.0}, ValueError, f"sparsity is 1.0; {ALLOWED}"),
        ({"sparsity": -0.1}, ValueError, f"sparsity is -0.1; {ALLOWED}"),
        ({"sparsity": float("nan")}, ValueError, f"sparsity is nan; {ALLOWED}"),
        ({"sparsity": "half"}, TypeError, f"sparsity is 'half'; {ALLOWED}"),
        ({"sparsity": {"1": 2}}, ValueError, f"sparsity is 2; {ALLOWED}"),
        ({"sparsity": {"2": 0.5}}, ValueError, "layers names '2'; allowed: 1.weight, 3.weight"),
        ({"threshold": -1}, ValueError, "threshold is -1; allowed: a number in [0, inf]"),
        ({}, ValueError, "give either sparsity or threshold: exactly one of them"),
        ({"sparsity": 0.5, "threshold": 1}, ValueError, "give either sparsity or threshold: exactly one of them"),
        ({"sparsity": 0.5, "scope": "all"}, ValueError, "scope is 'all'; allowed: 'layer', 'global'"),
        ({"sparsity": 0.5, "layers": ["fc"]}, ValueError, "layers names 'fc'; allowed: 1.weight, 3.weight"),
    ],
)
def test_prune_refuses(mlp, refuses, settings, error, said):
    refuses(error, said, prune, mlp, **settings)


def test_prune_refuses_what_is_no_network(mlp, refuses):
    refuses(TypeError, "model is a str; allowed: a torch.nn.Module", prune, "lenet", 0.5)
    said = "model ReLU has no weight of two or more dimensions; nothing to compress"
    refuses(ValueError, said, prune, nn.ReLU(), 0.5)
    mlp[3].weight.data[0, 0] = float("nan")
    said = "3.weight holds 1 NaN or infinite values; allowed: finite numbers"
    refuses(ValueError, said, prune, mlp, 0.5)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"sparsity": 1}, ValueError, "sparsity is 1; allowed: a number in [0, 1)"),
        (
            {"sparsity": 0.5, "initial_sparsity": 0.6},
            ValueError,
            "initial_sparsity is 0.6; allowed: a number in [0, 0.5]",
        ),
        ({"sparsity": 0.5, "until": 0}, ValueError, "until is 0; allowed: a number in (0, 1]"),
        ({"sparsity": 0.5, "every": 0}, ValueError, "every is 0; allowed: a whole number from 1 to 1000000"),
        ({"sparsity": 0.5, "scope": "?"}, ValueError, "scope is '?'; allowed: 'layer', 'global'"),
    ],
)
def test_gradual_pruning_refuses(refuses, settings, error, said):
    refuses(error, said, GradualPruning, **settings)


def test_clustered_importance_is_magnitude_at_strength_0_and_fills_fewer_rows_with_it(trained):
    plain, clustered = (prune(trained, 0.9, importance=clustered_importance(strength)) for strength in (0, 1))
    assert plain[1].weight.equal(prune(trained, 0.9)[1].weight)
    rows, fewer = (int((m[1].weight != 0).any(1).sum() + (m[1].weight != 0).any(0).sum()) for m in (plain, clustered))
    assert fewer < 0.9 * rows
    w = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    expected = w.abs() * (torch.tensor([[12.5], [0.5]]).sqrt() * torch.tensor([[4.5, 8.5]]).sqrt() / 6.5) ** 0.5
    assert torch.allclose(clustered_importance(0.5)(w), expected)


@pytest.mark.parametrize("importance", [lambda w: w.sum(), lambda w: 3, lambda w: w.T.abs()])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_an_importance_of_another_shape_is_refused_by_layer(refuses, mlp, importance, scope):
    said = "importance gives no tensor of the shape of 1.weight; allowed: one score per weight"
    refuses(ValueError, said, prune, mlp, 0.5, scope=scope, importance=importance)


@pytest.mark.parametrize("names", [{"layers": ["3"]}, {"exclude": ["3"]}])
def test_a_mapping_names_its_layers_itself(refuses, mlp, names):
    said = "sparsity is a mapping, which names its layers; allowed with layers or exclude: a number"
    refuses(ValueError, said, prune, mlp, {"1": 0.5, "3": 0.5}, **names)


def test_excluded_layers_stay_as_they_are(mlp):
    thin = prune(mlp, 0.5, exclude=["3"])
    assert thin[3].weight.equal(mlp[3].weight)
    assert int((thin[1].weight == 0).sum()) == thin[1].weight.numel() // 2
    assert prune(mlp, 0.5, exclude=[])[1].weight.equal(prune(mlp, 0.5)[1].weight)
