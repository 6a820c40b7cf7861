"""Weight sharing: scikit-learn's k-means as the oracle, sums of gradients by hand, and what holds on any module."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor, nn

from labkit.compress import _weights
from labkit.compress.codebook import INITS, Lookup, initial_centroids, k_means, share_weights, to_indices
from labkit.compress.grid import choose_grid, fake_quantize
from labkit.compress.magnitude import KeepZeros, masks_of, prune
from labkit.compress.quantize import quantize
from labkit.train import fit

floats = st.floats(-100, 100, width=32, allow_subnormal=False)


def normal(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def codebook_of(layer: nn.Module) -> Tensor:
    return layer.parametrizations.weight[0].codebook


# k-means


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("k", [2, 5, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_what_scikit_learn_finds(init, k, seed):
    x = normal(3_000, seed).clamp(-2.5, 2.5)  # no outliers: where a cluster is empty, scikit-learn moves its centroid
    start = initial_centroids(np.sort(x.numpy().astype(np.float64)), k, init, seed)
    oracle = KMeans(k, init=start[:, None], n_init=1, max_iter=1_000, tol=0, algorithm="lloyd")
    oracle.fit(x.double().numpy()[:, None])
    np.testing.assert_allclose(k_means(x, k, init, seed), np.sort(oracle.cluster_centers_.ravel()), rtol=1e-5)


@given(st.lists(floats, min_size=1, max_size=40), st.integers(1, 8), st.sampled_from(INITS))
def test_each_value_is_nearest_to_its_centroid_and_each_centroid_the_mean_of_its_members(values, k, init):
    x = torch.tensor(values)
    centroids = k_means(x, k, init)
    assert 1 <= len(centroids) <= k
    assert centroids.equal(centroids.sort().values)
    distances = (x.double()[:, None] - centroids.double()).abs()
    nearest = distances.sort(1).values
    assume(len(centroids) == 1 or bool((nearest[:, 1] - nearest[:, 0] > 1e-4).all()))  # a tie may go to either side
    means = [float(x.double()[distances.argmin(1) == i].mean()) for i in range(len(centroids))]
    assert centroids.tolist() == pytest.approx(means, abs=1e-4)


def test_the_three_starts_by_hand():
    values = np.array([0.0, 1.0, 2.0, 3.0, 10.0])
    assert initial_centroids(values, 3, "linear").tolist() == [0, 5, 10]
    assert initial_centroids(values, 2, "density").tolist() == [1, 3]
    forgy = initial_centroids(values, 3, "random", seed=1)
    assert len(forgy) == 3
    assert set(forgy) < set(values)
    assert forgy.tolist() == initial_centroids(values, 3, "random", seed=1).tolist()
    assert forgy.tolist() != initial_centroids(values, 3, "random", seed=2).tolist()


def test_a_centroid_without_members_is_dropped():
    assert k_means(torch.tensor([0.0, 0.0, 10.0]), 8).tolist() == [0, 10]
    assert k_means(torch.zeros(0), 4).tolist() == []


def test_it_beats_a_grid_of_as_many_levels():
    x = normal(5_000)
    for bits in (2, 3, 4):
        centroids = k_means(x, 2**bits)
        shared = centroids[to_indices(x, centroids).long() - 1]
        grid = fake_quantize(x, choose_grid(x, bits))
        assert (shared - x).square().mean() < 0.8 * (grid - x).square().mean()


@given(st.lists(floats, min_size=1, max_size=30), st.lists(floats, min_size=1, max_size=9, unique=True))
def test_the_index_is_that_of_the_nearest_centroid_in_whatever_order_and_zero_has_its_own(values, centroids):
    x, codebook = torch.tensor(values), torch.tensor(centroids)
    indices = to_indices(x, codebook)
    assert indices.dtype == torch.int16
    assert (indices == 0).equal(x == 0)
    kept = x != 0
    distance = (codebook[indices[kept].long() - 1] - x[kept]).abs()
    nearest = (codebook - x[kept][:, None]).abs().amin(1)
    assert torch.allclose(distance, nearest, atol=1e-4)


# the model


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_a_layer_holds_no_more_values_than_its_codebook(mlp, bits):
    before = copy.deepcopy(mlp.state_dict())
    model = share_weights(mlp, bits)
    for i in (1, 3):
        centroids = k_means(mlp[i].weight.detach().flatten(), 2**bits)
        assert codebook_of(model[i]).equal(centroids)
        assert set(model[i].weight.flatten().tolist()) == set(centroids.tolist())
        assert model[i].bias.equal(mlp[i].bias)
    assert all(v.equal(before[k]) for k, v in mlp.state_dict().items())


def test_as_many_values_as_centroids_change_nothing(mlp):
    once = share_weights(mlp, 4)
    again = share_weights(once, 8)
    assert torch.allclose(again[1].weight, once[1].weight, atol=1e-7)
    assert len(codebook_of(again[1])) == 16


@pytest.mark.parametrize("init", INITS)
def test_pruned_zeros_stay_and_are_not_clustered(mlp, init):
    pruned = prune(mlp, 0.8)
    model = share_weights(pruned, 2, init=init)
    assert all(mask.equal(masks_of(pruned)[name]) for name, mask in masks_of(model).items())
    kept = pruned[1].weight[pruned[1].weight != 0].detach()
    assert codebook_of(model[1]).equal(k_means(kept, 4, init))


def test_a_layer_of_zeros_has_an_empty_codebook():
    layer = nn.Linear(3, 2)
    layer.weight.data.zero_()
    model = share_weights(nn.Sequential(layer), 4)
    assert len(codebook_of(model[0])) == 0
    assert not model[0].weight.any()


def test_the_gradient_of_a_centroid_is_the_sum_of_its_members_gradients(mlp, digits):
    pruned = prune(mlp, 0.5)
    model = share_weights(pruned, 2)
    plain = _weights.plain(model)
    for net in (model, plain):
        nn.functional.cross_entropy(net(digits.train.x[:64]), digits.train.y[:64]).backward()
    for i in (1, 3):
        indices, given_ = model[i].parametrizations.weight.original, codebook_of(model[i]).grad
        expected = [plain[i].weight.grad[indices == j + 1].sum() for j in range(4)]
        assert torch.allclose(given_, torch.stack(expected), atol=1e-6)


@pytest.mark.parametrize("with_hook", [False, True])
def test_fit_moves_the_centroids_and_nothing_else_of_a_weight(trained, digits, with_hook):
    model = share_weights(prune(trained, 0.6), 2)
    hook = KeepZeros(model) if with_hook else ()
    tuned, history = fit(model, digits.train, epochs=6, lr=3e-3, progress=False, after_step=hook)
    for i in (1, 3):
        before, after = model[i].parametrizations.weight, tuned[i].parametrizations.weight
        assert after.original.equal(before.original)
        assert not after[0].codebook.equal(before[0].codebook)
        assert ((tuned[i].weight == 0) == (model[i].weight == 0)).all()
    assert history.train_loss.iloc[-1] < history.train_loss.iloc[0]


def test_pruning_afterwards_keeps_the_indices_of_what_stays(mlp):
    model = share_weights(mlp, 3)
    pruned = prune(model, 0.5)
    kept = pruned[1].weight != 0
    assert pruned[1].weight[kept].equal(model[1].weight[kept])
    assert isinstance(pruned[1].parametrizations.weight[0], Lookup)
    assert not kept.all()


def test_sharing_and_rounding_replace_one_another(mlp):
    rounded = quantize(mlp, 2)
    shared = share_weights(rounded, 3)
    assert torch.allclose(shared[1].weight, rounded[1].weight, atol=1e-6)
    back = quantize(share_weights(mlp, 3), 2)
    assert len(back[1].parametrizations.weight) == 1
    assert back[1].parametrizations.weight.original.dtype == torch.int8


def test_layers_limits_it(mlp):
    model = share_weights(mlp, 2, layers=["3"])
    assert model[1].weight.equal(mlp[1].weight)
    assert len(model[3].weight.unique()) == 4


def test_tied_weights_share_one_codebook_and_stay_tied():
    net = nn.ModuleDict(dict(embed=nn.Embedding(20, 8), out=nn.Linear(8, 20, bias=False)))
    net["out"].weight = net["embed"].weight
    model = share_weights(net, 2)
    assert model["out"].weight.equal(model["embed"].weight)
    assert codebook_of(model["out"]) is codebook_of(model["embed"])
    assert sum(p.requires_grad for p in model.parameters()) == 1


@pytest.mark.parametrize("build", [lambda: nn.Conv1d(2, 6, 3), lambda: nn.MultiheadAttention(8, 2), nn.GRU])
def test_any_module(build):
    torch.manual_seed(0)
    model = build(4, 5) if build is nn.GRU else build()
    for name, value in _weights.weights(share_weights(model, 1)).items():
        assert len(value.unique()) <= 2, name


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"bits": 0}, ValueError, "bits is 0; allowed: a whole number from 1 to 8"),
        ({"bits": 2.0}, TypeError, "bits is 2.0; allowed: a whole number from 1 to 8"),
        ({"bits": 2, "init": "k-means++"}, ValueError, "init is 'k-means++'; allowed: 'linear', 'density', 'random'"),
        ({"bits": 2, "layers": ["fc"]}, ValueError, "layers names 'fc'; allowed: 1.weight, 3.weight"),
    ],
)
def test_share_refuses(mlp, refuses, settings, error, said):
    refuses(error, said, share_weights, mlp, **settings)


def test_nan_is_refused_by_name(mlp, refuses):
    mlp[3].weight.data[0, 0] = float("nan")
    refuses(ValueError, "3.weight holds 1 NaN or infinite values; allowed: finite numbers", share_weights, mlp, 2)
