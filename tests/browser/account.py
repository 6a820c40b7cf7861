"""An independent recomputation: numpy only, no routine of labkit.compress."""

import numpy as np
import safetensors.numpy

import labkit as lk
from labkit.data import data_dir


def dense_weights(data="mnist"):
    """The tensors of LeNet-300-100."""
    raw = (data_dir() / "checkpoints" / f"lenet-300-100--{data}.safetensors").read_bytes()
    return safetensors.numpy.load(raw)


def prune_globally(tensors, sparsity):
    names = [k for k, v in tensors.items() if v.ndim == 2]
    everything = np.sort(np.abs(np.concatenate([tensors[k].ravel() for k in names])))
    cut = everything[round(sparsity * len(everything)) - 1] if sparsity else -1
    return {k: np.where(np.abs(v) > cut, v, 0).astype(np.float32) if k in names else v for k, v in tensors.items()}


def round_symmetric(tensors, bits):
    rounded = {}
    for name, w in tensors.items():
        scale = np.float32(np.abs(w).max() / ((2**bits - 1) / 2)) if w.ndim == 2 else None
        if scale is None:
            rounded[name] = w
        elif bits == 1:
            rounded[name] = np.sign(w) * np.abs(w[w != 0]).mean()
        else:
            # times the reciprocal, as torch does: one weight of 266,200 lies so near a tie that it matters
            rounded[name] = (
                np.clip(np.rint(w * (np.float32(1) / scale)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale
            )
    return rounded


def accuracy(tensors):
    data = lk.load_data("mnist").validation
    x = data.x.numpy().reshape(len(data), -1)
    for i in (1, 2, 3):
        x = x @ tensors[f"fc{i}.weight"].T + tensors[f"fc{i}.bias"]
        x = np.maximum(x, 0) if i < 3 else x
    return float((x.argmax(1) == data.y.numpy()).mean())


def lenet_5_logits(tensors, image):
    """The logits of LeNet-5 for one image (28, 28), one loop per position, without torch's convolution."""

    def convolve(x, weight, bias):
        places = range(x.shape[1] - 4)
        rows = [[np.tensordot(weight, x[:, i : i + 5, j : j + 5], 3) for j in places] for i in places]
        return np.array(rows).transpose(2, 0, 1) + bias[:, None, None]

    def pool(x):
        return x.reshape(len(x), x.shape[1] // 2, 2, -1, 2).max((2, 4))

    x = pool(convolve(image[None], tensors["conv1.weight"], tensors["conv1.bias"]))
    x = pool(convolve(x, tensors["conv2.weight"], tensors["conv2.bias"])).ravel()
    x = np.maximum(tensors["fc1.weight"] @ x + tensors["fc1.bias"], 0)
    return tensors["fc2.weight"] @ x + tensors["fc2.bias"]


def narrowed(tensors, sparsity):
    """Without the hidden neurons that have the smallest sums of absolute weights, and the columns that read them."""
    small = dict(tensors)
    for layer, reader in (("fc1", "fc2"), ("fc2", "fc3")):
        sums = np.abs(tensors[f"{layer}.weight"].astype(np.float64)).sum(1)
        kept = np.sort(np.argsort(sums)[round(sparsity * len(sums)) :])
        for name in (f"{layer}.weight", f"{layer}.bias"):
            small[name] = small[name][kept]
        small[f"{reader}.weight"] = small[f"{reader}.weight"][:, kept]
    return small


def share_values(w, k):
    """k-means from k equidistant values, every distance computed; the weight with each value replaced by its mean."""
    centroids = np.linspace(w.min(), w.max(), k, dtype=np.float64)
    nearest, before = None, np.zeros(0)
    while not np.array_equal(nearest, before):
        before = nearest
        nearest = np.abs(w.astype(np.float64)[..., None] - centroids).argmin(-1)
        centroids = np.array([w[nearest == i].mean(dtype=np.float64) for i in range(k)])
    return centroids.astype(np.float32)[nearest]
