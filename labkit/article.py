"""The network of the article's section 4 in plain NumPy, corrected, and with its faults put back one at a time.

    Z1 = X W1 + b1    A1 = tanh Z1    Z2 = A1 W2 + b2    then tanh and squared error, or softmax and cross-entropy

A network is a dict of four arrays: W1 (inputs, hidden), b1 (hidden,), W2 (hidden, outputs), b2 (outputs,). X is
(n, inputs); targets are (n, outputs), one-hot for classes. Nothing here changes its arguments. `VARIANTS` has the
corrected ("mended") network and the faulty ones; `gradient_check` shows which of them minimize the loss they print.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import nn

from labkit import _check
from labkit.data import Split

Array = NDArray[np.floating]
Net = dict[str, Array]
Masks = Mapping[str, NDArray[np.bool_]]
WEIGHTS = ("W1", "W2")  # what pruning may remove; the biases stay
INITS = ("scaled", "positive")
TARGETS = ("labels", "random")


@dataclass(frozen=True)
class Head:
    """What comes after Z2: the output, the loss of (Z2, targets), and the slope dZ2 of (output, targets)."""

    output: Callable[[Array], Array]
    loss: Callable[[Array, Array], float]
    slope: Callable[[Array, Array], Array]

    def __post_init__(self) -> None:
        _check.kind(Callable, output=self.output, loss=self.loss, slope=self.slope)


def squared_error(z: Array, y: Array) -> float:
    """The article's loss: the mean of (tanh Z2 - Y)² over all n · outputs entries."""
    _check_pair(z, y)
    return float(np.mean((np.tanh(z) - y) ** 2))


def softmax(z: Array) -> Array:
    """exp(z) / Σ exp(z) of each row; the maximum of the row is subtracted first, so that nothing overflows."""
    _check.shaped(np.ndarray, 2, z=z)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(z: Array, y: Array) -> float:
    """The mean over the rows of -Σ Y log softmax(Z2)."""
    _check_pair(z, y)
    z = z - z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - (y * z).sum(axis=1)))


# L = mean (P - Y)², P = tanh Z2  =>  dL/dZ2 = 2 / (n · outputs) · (P - Y) ⊙ (1 - P²)
TANH = Head(np.tanh, squared_error, lambda p, y: 2 / y.size * (p - y) * (1 - p**2))
# L = -mean Σ Y log P, P = softmax Z2  =>  dL/dZ2 = (P - Y) / n, where each row of Y sums to 1
SOFTMAX = Head(softmax, cross_entropy, lambda p, y: (p - y) / len(y))


def new_net(inputs: int, hidden: int, outputs: int, *, init: str = "scaled", seed: int = 0) -> Net:
    """A new network in float32.

    `init` "scaled" draws weights from ±√(6 / (inputs + outputs of the layer)) (Glorot & Bengio 2010, eq. 16);
    "positive" draws them from [0, 1), as the article does. Biases are zero. ValueError for sizes below 1.
    """
    _check.one_of("init", init, INITS)
    _check.sizes(inputs=inputs, hidden=hidden, outputs=outputs)
    rng = np.random.default_rng(_check.seed(seed))

    def weight(rows: int, columns: int) -> Array:
        reach = np.sqrt(6 / (rows + columns)) if init == "scaled" else 1.0
        low = -reach if init == "scaled" else 0.0
        return rng.uniform(low, reach, (rows, columns)).astype(np.float32)

    w1, w2 = weight(inputs, hidden), weight(hidden, outputs)
    return dict(W1=w1, b1=np.zeros(hidden, np.float32), W2=w2, b2=np.zeros(outputs, np.float32))


def _check_names(net: Net) -> None:
    _check.kind(Mapping, net=net)
    if missing := {"W1", "b1", "W2", "b2"} - net.keys():
        raise ValueError(f"net lacks {sorted(missing)}; allowed: what `new_net` gives")


def _check_net(net: Net, x: Array) -> None:
    _check_names(net)
    _check.shaped(np.ndarray, 2, x=x)
    _check_width("x", x, len(x), len(net["W1"]))


def _check_width(name: str, value: Array, rows: int, columns: int) -> None:
    _check.kind(np.ndarray, **{name: value})
    if value.shape != (rows, columns) or value.dtype.kind not in "fiub":
        raise ValueError(f"{name} has the shape {value.shape}, {value.dtype}; allowed: numbers ({rows}, {columns})")


def _check_pair(z: Array, y: Array) -> None:
    _check.shaped(np.ndarray, 2, z=z)
    _check_width("y", y, *z.shape)


def forward(net: Net, x: Array) -> tuple[Array, Array]:
    """(A1, Z2): the hidden layer, which the backward pass needs, too, and the input of the head."""
    _check_net(net, x)
    a1 = np.tanh(x @ net["W1"] + net["b1"])  # (n, hidden)
    return a1, a1 @ net["W2"] + net["b2"]  # (n, outputs)


def backward(net: Net, x: Array, a1: Array, dz2: Array) -> Net:
    """The gradient of the loss by every parameter, from dZ2 = dL/dZ2 by the chain rule."""
    _check_net(net, x)
    _check_width("a1", a1, len(x), len(net["b1"]))
    _check_width("dz2", dz2, len(x), len(net["b2"]))
    dz1 = dz2 @ net["W2"].T * (1 - a1**2)  # dL/dZ1 = dZ2 W2ᵀ ⊙ tanh′(Z1), and tanh′ = 1 - tanh²
    return dict(
        W1=x.T @ dz1,  # dL/dW1 = Xᵀ dZ1
        b1=dz1.sum(axis=0),  # dL/db1 = Σ over the rows of dZ1
        W2=a1.T @ dz2,  # dL/dW2 = A1ᵀ dZ2
        b2=dz2.sum(axis=0),  # dL/db2 = Σ over the rows of dZ2
    )


def gradient(net: Net, x: Array, y: Array, head: Head = TANH) -> tuple[float, Net]:
    """(loss, gradient) on one batch."""
    _check.kind(Head, head=head)
    a1, z2 = forward(net, x)
    return head.loss(z2, y), backward(net, x, a1, head.slope(head.output(z2), y))


def step(net: Net, slopes: Net, lr: float, masks: Masks | None = None) -> Net:
    """w ← w - η dL/dw, a new network; where a mask is False, the weight is zero and stays zero."""
    _check.kind(Mapping, net=net, slopes=slopes)
    _check.kind(Mapping | None, masks=masks)
    lr = _check.number("lr", lr, 0, float("inf"), open_high=True)
    if missing := net.keys() - slopes.keys():
        raise ValueError(f"slopes lacks {sorted(missing)}; allowed: a slope for each array of net")
    masks = masks or {}
    return {name: np.where(masks.get(name, True), w - lr * slopes[name], 0) for name, w in net.items()}


def arrays(split: Split) -> tuple[Array, NDArray[np.integer]]:
    """A split as NumPy: images as rows (n, inputs), float32, and labels (n,)."""
    _check.kind(Split, split=split)
    return split.x.flatten(1).numpy(), split.y.numpy()


def one_hot(labels: NDArray[np.integer], classes: int) -> Array:
    """Targets (n, classes), float32: 1 at the label, 0 elsewhere; ValueError for a label outside [0, classes)."""
    classes = _check.whole("classes", classes, 1, 1_000_000)
    _check.kind(np.ndarray, labels=labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels has the shape {labels.shape}, {labels.dtype}; allowed: whole numbers (n,)")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels lie in {labels.min()} to {labels.max()}; allowed: 0 to {classes - 1}")
    return np.eye(classes, dtype=np.float32)[labels]


def targets(labels: NDArray[np.integer], classes: int, kind: str = "labels", seed: int = 0) -> Array:
    """The targets of the training: one-hot "labels", or "random" numbers in [0, 1), as in the article."""
    seed = _check.seed(seed)
    classes = _check.whole("classes", classes, 1, 1_000_000)
    hot = one_hot(labels, classes)
    _check.one_of("kind", kind, TARGETS)
    if kind == "labels":
        return hot
    return np.random.default_rng(seed).random((len(labels), classes), dtype=np.float32)


def train(
    net: Net,
    x: Array,
    y: Array,
    *,
    lr: float,
    epochs: int,
    batch_size: int = 10,
    seed: int = 0,
    masks: Masks | None = None,
    variant: "Variant | None" = None,
) -> Iterator[tuple[float, Net]]:
    """Gradient descent; yields (loss of the batch, network after the update) for each step.

    An epoch shows every image once, in a new order drawn from `seed`. `masks` keep pruned weights at zero. Without a
    `variant` the network is the corrected one. ValueError for settings out of range.
    """
    _check_net(net, x)
    _check_width("y", y, len(x), len(net["b2"]))
    _check.kind(Variant | None, variant=variant)
    _check.kind(Mapping | None, masks=masks)
    seed = _check.seed(seed)
    _check.whole("epochs", epochs, 0, 1_000_000)
    _check.whole("batch_size", batch_size, 1, len(x))
    _check.number("lr", lr, 0, float("inf"), open_high=True)
    variant, rng = variant or Variant(), np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch_size):
            batch = order[start : start + batch_size]
            loss, slopes = variant.gradient(net, x[batch], y[batch], variant.head)
            net = step(net, slopes, lr, masks)
            yield loss, net


def trained(net: Net, x: Array, y: Array, **settings: Any) -> tuple[Net, list[float]]:
    """(network, the loss of every batch) at the end of `train` with the same settings."""
    losses = []
    for loss, later in train(net, x, y, **settings):
        net = later
        losses.append(loss)
    return net, losses


def predict(net: Net, x: Array) -> NDArray[np.integer]:
    """The class of each row: the largest entry of Z2, which is still the largest after tanh or softmax."""
    return forward(net, x)[1].argmax(axis=1)


# --- the gradient check -----------------------------------------------------------------------------------------------


def gradient_check(
    net: Net,
    x: Array,
    y: Array,
    variant: "Variant | None" = None,
    *,
    h: float = 1e-5,
    entries: int | None = None,
    seed: int = 0,
    dtype: DTypeLike = np.float64,
) -> dict[str, tuple[Array, Array]]:
    """(analytic, numeric) slopes of every parameter, or of `entries` random ones of each, flat.

    numeric = (L(w + h) - L(w - h)) / 2h. Its error falls as h² until rounding, about ε · L / h, dominates: in float64
    (ε = 2·10⁻¹⁶) the best h is near 10⁻⁵; float32 gives a few digits at best. So network and data are cast.
    """
    _check.number("h", h, 0, 1, open_low=True)
    _check_net(net, x)
    _check_width("y", y, len(x), len(net["b2"]))
    _check.kind(Variant | None, variant=variant)
    seed = _check.seed(seed)
    if entries is not None:
        entries = _check.whole("entries", entries, 1, 2**62)
    if dtype not in (np.float16, np.float32, np.float64, np.longdouble):
        raise ValueError(f"dtype is {_check.shown(dtype)}; allowed: a float type of NumPy")
    variant, rng = variant or Variant(), np.random.default_rng(seed)
    net = {name: w.astype(dtype) for name, w in net.items()}
    x, y = x.astype(dtype), y.astype(dtype)
    _, slopes = variant.gradient(net, x, y, variant.head)
    checked = {}
    for name, w in net.items():
        chosen = rng.choice(w.size, min(entries or w.size, w.size), replace=False)
        numeric = np.array([_slope(net, name, i, x, y, variant.head, h) for i in chosen])
        checked[name] = (slopes[name].ravel()[chosen], numeric)
    return checked


def _slope(net: Net, name: str, i: int, x: Array, y: Array, head: Head, h: float) -> float:
    """(L(w + h) - L(w - h)) / 2h for the i-th entry w of a parameter."""
    losses = []
    for moved in (h, -h):
        w = net[name].copy()
        w.flat[i] += moved
        losses.append(head.loss(forward(net | {name: w}, x)[1], y))
    return (losses[0] - losses[1]) / (2 * h)


def relative_error(analytic: Array, numeric: Array) -> float:
    """‖a - n‖ / (‖a‖ + ‖n‖): 0 where they agree, 1 where one is zero or they point in opposite directions."""
    _check.kind(np.ndarray, analytic=analytic, numeric=numeric)
    if analytic.shape != numeric.shape or analytic.dtype.kind not in "fiu" or numeric.dtype.kind not in "fiu":
        raise ValueError(
            f"analytic and numeric have the shapes {analytic.shape} and {numeric.shape}; allowed: equal ones"
        )
    scale = np.linalg.norm(analytic) + np.linalg.norm(numeric)
    return float(np.linalg.norm(analytic - numeric) / scale) if scale else 0.0


def gradient_errors(
    net: Net, x: Array, y: Array, variant: "Variant | None" = None, **settings: Any
) -> dict[str, float]:
    """The relative error of each parameter in `gradient_check` with the same settings."""
    return {name: relative_error(*pair) for name, pair in gradient_check(net, x, y, variant, **settings).items()}


# --- pruning: the 裁剪 that the article announces ---------------------------------------------------------------------


def prune(net: Net, threshold: float) -> tuple[Net, dict[str, NDArray[np.bool_]]]:
    """(network, masks): M = 1 where |w| > θ, else 0, and w ← M ⊙ w, for W1 and W2; give the masks to `train`."""
    threshold = _check.number("threshold", threshold, 0, float("inf"))
    _check_names(net)
    masks = {name: np.abs(net[name]) > threshold for name in WEIGHTS}
    return net | {name: np.where(mask, net[name], 0) for name, mask in masks.items()}, masks


def to_torch(net: Net) -> nn.Module:
    """The same network as torch modules, in float32: images to Z2. For `lk.save`, `lk.prune`, `lk.measure`."""
    _check_names(net)
    (inputs, hidden), outputs = net["W1"].shape, len(net["b2"])
    with torch.device("meta"):  # no initial weights are drawn, so torch's generator does not change
        model = nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))
    names = {"1.weight": "W1", "1.bias": "b1", "3.weight": "W2", "3.bias": "b2"}  # torch's weights are transposed
    tensors = {k: torch.from_numpy(net[v].T.astype(np.float32).copy()) for k, v in names.items()}
    model.load_state_dict(tensors, assign=True)
    return model.eval()


# --- the faults -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """A version of the network: its head, its gradient, its initial weights (INITS) and its targets (TARGETS)."""

    head: Head = TANH
    gradient: Callable[[Net, Array, Array, Head], tuple[float, Net]] = gradient
    init: str = "scaled"
    targets: str = "labels"

    def __post_init__(self) -> None:
        _check.kind(Head, head=self.head)
        _check.kind(Callable, gradient=self.gradient)
        _check.one_of("init", self.init, INITS)
        _check.one_of("targets", self.targets, TARGETS)


def printed_gradient(net: Net, x: Array, y: Array, head: Head) -> tuple[float, Net]:
    """The article's backward pass as printed: A1 is local to the forward pass and undefined here."""
    z2 = forward(net, x)[1]
    dz2 = head.slope(head.output(z2), y)
    return head.loss(z2, y), dict(W2=A1.T @ dz2)  # type: ignore[name-defined]  # noqa: F821


NO_DERIVATIVE = replace(TANH, slope=lambda p, y: 2 / y.size * (p - y))  # tanh′ = 1 - P² is missing
SUM = replace(TANH, slope=lambda p, y: (p - y) * (1 - p**2))  # 2 / (n · outputs) is missing: slope of ½ Σ (P - Y)²
ARTICLE = replace(TANH, slope=lambda p, y: p - y)  # dZ2 = y_pred - y: both are missing
FAULTS = {
    "A1 unknown": Variant(gradient=printed_gradient),
    "no tanh′": Variant(NO_DERIVATIVE),
    "sum, not mean": Variant(SUM),
    "weights in [0, 1)": Variant(init="positive"),
    "random targets": Variant(targets="random"),
    "all but A1": Variant(ARTICLE, init="positive", targets="random"),
}
VARIANTS = {"mended": Variant(), "softmax": Variant(SOFTMAX)} | FAULTS
