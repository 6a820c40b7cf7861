"""The panel of notebook 11 in a real JupyterLab: its figures equal a recomputation in numpy."""

import numpy as np
import pytest
import safetensors.numpy

import labkit as lk
from labkit.data import data_dir
from tests.browser.account import prune_globally
from tests.browser.live import alt, card, choose, opened, press, shown_value

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    """The panel, with LeNet-300-100 on Fashion-MNIST chosen in its menu."""
    with opened(url, chrome, notebooks, "architectures", "lk.explore.architectures()") as found:
        choose(found, "network", "lenet-300-100 on fashion-mnist")
        yield found


def dense():
    raw = (data_dir() / "checkpoints" / "lenet-300-100--fashion-mnist.safetensors").read_bytes()
    return safetensors.numpy.load(raw)


def round_rows(w, bits):
    """Every row rounded to its own symmetric grid."""
    scale = np.abs(w).max(1, keepdims=True) / np.float32((2**bits - 1) / 2)
    scale[scale == 0] = 1
    return np.clip(np.rint(w * (np.float32(1) / scale)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def predicted(tensors, split):
    x = split.x.numpy().reshape(len(split), -1)
    for i in (1, 2, 3):
        x = x @ tensors[f"fc{i}.weight"].T + tensors[f"fc{i}.bias"]
        x = np.maximum(x, 0) if i < 3 else x
    return x.argmax(1)


def test_the_whole_network_and_each_layer_equal_a_recomputation(panel):
    choose(panel, "one scale per", "output channel")
    press(panel, "weight bits", "ArrowLeft")
    press(panel, "sparsity", "PageUp")
    panel.locator(".labkit-status", has_text="every layer tried alone").wait_for()
    sparsity, bits = float(shown_value(panel, "sparsity").rstrip("%")) / 100, int(shown_value(panel, "weight bits"))
    pruned, split = prune_globally(dense(), sparsity), lk.load_data("fashion-mnist").validation
    small = {k: round_rows(v, bits) if v.ndim == 2 else v for k, v in pruned.items()}
    truth = split.y.numpy()
    right = predicted(dense(), split) == truth
    now = predicted(small, split) == truth
    assert float(card(panel, "accuracy")[0].rstrip("%")) == pytest.approx(100 * now.mean(), abs=0.05)
    assert float(card(panel, "points lost")[0]) == pytest.approx(100 * (right.mean() - now.mean()), abs=0.11)
    alone = {}
    for layer in ("fc1", "fc2", "fc3"):
        mixed = dense() | {f"{layer}.weight": small[f"{layer}.weight"]}
        alone[layer] = 100 * (right - (predicted(mixed, split) == truth).astype(int))[:1000].mean()
    value, note = card(panel, "weakest layer")
    assert note.split(" · ")[0] in alone
    assert float(value.removesuffix(" points")) == pytest.approx(max(alone.values()), abs=0.11)
    assert f"layers alone, summed: {sum(alone.values()):.1f}"[:-2] in card(panel, "points lost")[1]


def test_kinds_can_be_tried_instead_of_layers(panel):
    split, truth = lk.load_data("fashion-mnist").validation, lk.load_data("fashion-mnist").validation.y.numpy()
    panel.get_by_label("tried alone", exact=True).select_option("each kind of layer")
    panel.locator(".labkit-status", has_text="every kind tried alone").wait_for()
    sparsity, bits = float(shown_value(panel, "sparsity").rstrip("%")) / 100, int(shown_value(panel, "weight bits"))
    small = {k: round_rows(v, bits) if v.ndim == 2 else v for k, v in prune_globally(dense(), sparsity).items()}
    right, alone = predicted(dense(), split) == truth, {}
    for kind, layers in {"linear": ("fc1", "fc2"), "head": ("fc3",)}.items():
        mixed = dense() | {f"{layer}.weight": small[f"{layer}.weight"] for layer in layers}
        alone[kind] = 100 * (right - (predicted(mixed, split) == truth).astype(int))[:1000].mean()
    value, note = card(panel, "weakest kind")
    name, layers, _ = note.split(" · ")
    assert layers == {"linear": "2 of 3 layers", "head": "1 of 3 layers"}[name]
    assert float(value.removesuffix(" points")) == pytest.approx(max(alone.values()), abs=0.11)
    panel.get_by_label("tried alone", exact=True).select_option("each layer")
    panel.locator(".labkit-status", has_text="every layer tried alone").wait_for()


def test_activation_bits_are_told(panel):
    press(panel, "activation bits", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert f"activations rounded to {shown_value(panel, 'activation bits')} bits" in alt(panel)
