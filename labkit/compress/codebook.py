"""Weight sharing: every weight of a layer becomes one of 2^bits values, found by k-means (Han et al. 2016).

    index_j = argmin_i |w_j - c_i|        w_hat_j = c[index_j]        ∂L/∂c_i = Σ_{j: index_j = i} ∂L/∂w_j

The levels of a grid are evenly spaced; the centroids of a codebook lie where the weights are. Pruned weights are not
clustered: they stay exactly zero, with an index of their own. `fit` then trains the centroids; the indices are fixed.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import _check
from labkit._module import clone
from labkit.compress import _weights

INITS = ("linear", "density", "random")
ROUNDS = 1_000  # about 200 are enough for 256 centroids on 235,200 weights


class Lookup(_weights.Rule):
    """The parametrization of a shared weight: the module keeps indices, and its forward looks up the floats.

    Index 0 is a pruned zero, index i the centroid `codebook[i - 1]`; `codebook` (k,) is a parameter.
    """

    def __init__(self, codebook: Tensor) -> None:
        super().__init__()
        self.codebook = nn.Parameter(codebook)

    def forward(self, indices: Tensor) -> Tensor:
        """Indices, any shape, to floats; autograd adds up the gradients of all weights that share a centroid."""
        return to_floats(indices, self.codebook)

    def encode(self, x: Tensor) -> Tensor:
        """Floats to the indices of the nearest centroids, 0 to 0."""
        return to_indices(x, self.codebook)


def share_weights(
    model: nn.Module,
    bits: int,
    *,
    init: str = "linear",
    seed: int = 0,
    layers: list[str] | None = None,
    exclude: list[str] | None = None,
) -> nn.Module:
    """A new model in which the weights of a layer share at most 2^bits values; biases and BatchNorm do not change.

    w_hat_j = c[argmin_i |w_j - c_i|], with the centroids c of k-means (Han et al. 2016). `fit` then trains c.

    Args:
        model: its zeros stay zeros and are not clustered.
        bits: bits per weight, 1 to 8.
        init: the initial centroids, "linear", "density" or "random", as in `initial_centroids`.
        seed: draws them where `init` is "random".
        layers: names of the layers to share, by default all.
        exclude: names of the layers to leave.

    Returns:
        A new model of the same class. It keeps an index for each weight, and a codebook for each layer.

    Raises:
        ValueError: names the argument out of range, a layer that does not exist or a weight that holds NaN.

    Example:
        >>> thin = lk.prune(lk.models.mlp(64, 32, 10), sparsity=0.5)
        >>> small = lk.share_weights(thin, bits=2)
        >>> len(thin[1].weight.unique()) > 2**4, len(small[1].weight.unique())  # 2^2 values, and the zeros
        (True, 5)
        >>> torch.equal(small[1].weight == 0, thin[1].weight == 0)
        True
    """
    _check.whole("bits", bits, 1, 8)
    _check.one_of("init", init, INITS)
    seed = _check.seed(seed)
    model = clone(_weights.opened(model))
    values = _weights.chosen(model, layers, exclude)
    _weights.checked(values)
    for name, value in values.items():
        codebook = k_means(value.flatten() if value.all() else value[value != 0], 2**bits, init, seed)
        install(model, name, to_indices(value, codebook), codebook)
    return model


def install(model: nn.Module, name: str, indices: Tensor, codebook: Tensor) -> None:
    """Replace a weight of `model`, in place, by indices into a codebook; layers that share it still do."""
    _weights.install(model, name, nn.Parameter(indices, requires_grad=False), Lookup(codebook))


def k_means(x: Tensor, k: int, init: str = "linear", seed: int = 0) -> Tensor:
    """At most k centroids, ascending, for the values x (n,): Lloyd's algorithm, until no value changes its cluster.

    Minimizes Σ_j min_i (x_j - c_i)², locally, in at most ROUNDS rounds. A centroid without members is dropped.
    """
    _check.kind(Tensor, x=x)
    k, seed = _check.whole("k", k, 1, 2**16), _check.seed(seed)
    _check.one_of("init", init, INITS)
    _check.finite("x", x)
    if not x.numel():
        return x
    values = np.sort(_weights.widened(x.detach().flatten()).cpu().numpy())
    sums = np.zeros(len(values) + 1)
    sums[1:] = values
    np.cumsum(sums, out=sums)
    centroids = initial_centroids(values, k, init, seed)
    edges = np.zeros(len(centroids) + 1, np.int64)
    edges[-1] = len(values)
    for done in range(ROUNDS):
        # sorted values need no distances: a cluster lies between the midpoints to its neighbours
        inner = values.searchsorted(_rounded_up((centroids[1:] + centroids[:-1]) / 2, values.dtype))
        if done and (inner == edges[1:-1]).all():
            break
        edges[1:-1] = inner
        members = edges[1:] - edges[:-1]
        below = sums[edges]
        centroids = np.where(members > 0, (below[1:] - below[:-1]) / np.maximum(members, 1), centroids)
    return torch.from_numpy(centroids[members > 0]).to(x)


def _rounded_up(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The smallest floats of `dtype` not below x: searchsorted finds the same places for them, and copies no values."""
    nearest = x.astype(dtype)
    return np.where(nearest < x, np.nextafter(nearest, dtype.type(np.inf)), nearest)


def initial_centroids(values: np.ndarray, k: int, init: str, seed: int = 0) -> np.ndarray:
    """The initial centroids for sorted values (at least one): at most k different ones, ascending.

    "linear": evenly spaced from the smallest to the largest; "density": at equal steps of the distribution function,
    so that equally many values lie between them; "random": k of the values (Forgy).
    """
    if init == "random":
        chosen = np.random.default_rng(seed).choice(values, min(k, len(values)), replace=False)
    elif init == "density":
        chosen = _quantiles(values, (np.arange(k) + 0.5) / k)
    else:
        chosen = np.linspace(float(values[0]), float(values[-1]), k)
    return np.unique(chosen).astype(np.float64)


def _quantiles(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """np.quantile of sorted values, without copying them."""
    places = (len(values) - 1) * shares
    first = places.astype(np.int64)
    low, high = (values[np.minimum(i, len(values) - 1)].astype(np.float64) for i in (first, first + 1))
    rest = places - first
    return np.where(rest < 0.5, low + (high - low) * rest, high - (high - low) * (1 - rest))


def to_indices(x: Tensor, codebook: Tensor) -> Tensor:
    """The index, 1 to k, of the centroid nearest to each x; 0 where x is 0; int16, since 257 do not fit in 8 bits."""
    _check.kind(Tensor, x=x, codebook=codebook)
    codebook = codebook.flatten()
    x, (ascending, order) = _weights.widened(x), _weights.widened(codebook.detach()).sort()
    if not len(order):
        return torch.zeros_like(x, dtype=torch.int16)
    nearest = torch.bucketize(x, ascending[1:] / 2 + ascending[:-1] / 2, out_int32=True, right=True)
    numbers = (order + 1).to(torch.int16)
    return numbers.index_select(0, nearest.flatten()).view(x.shape).masked_fill_(x == 0, 0)


def to_floats(indices: Tensor, codebook: Tensor) -> Tensor:
    """w_hat = codebook[index - 1], and 0 where the index is 0."""
    # index_select: its backward pass is three times as fast as that of table[indices]
    return F.pad(codebook, (1, 0)).index_select(0, indices.flatten().int()).view(indices.shape)
