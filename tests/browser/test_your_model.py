"""The panel of notebook 13b in a real JupyterLab: the user's own metric; its figures equal a recomputation in numpy."""

import numpy as np
import pytest
import torch

from tests.browser.live import ONE_THREAD, alt, card, choose, opened, press, shown_value

pytestmark = pytest.mark.browser
# two layers whose weights are made up, so that this test can have the same ones
SOURCE = """
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.ReLU(), torch.nn.Linear(40, 1))
x = torch.randn(500, 6)
y = (model(x) + 0.05 * torch.randn(500, 1)).detach()
"""
METRIC = """
def absolute_error(outputs, y):
    return (outputs - y).abs()

lk.explore.your_model(model, (x, y), absolute_error, better="lower")
"""


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    source = ONE_THREAD + SOURCE + METRIC
    with opened(url, chrome, notebooks, "your_model", source, width=1280, height=720) as found:
        yield found


@pytest.fixture(scope="module")
def made():
    """The weights, x and y of the notebook."""
    names = dict(torch=torch)
    with torch.random.fork_rng():
        exec(SOURCE, names)  # noqa: S102
    tensors = {name: value.detach().numpy() for name, value in names["model"].named_parameters()}
    return tensors, names["x"].numpy(), names["y"].numpy()


def squeezed(w, sparsity, bits):
    """The smallest weights of a layer set to 0, the others rounded to one symmetric grid."""
    flat = w.flatten().copy()
    flat[np.argsort(np.abs(flat), kind="stable")[: round(sparsity * flat.size)]] = 0
    scale = np.abs(flat).max() / np.float32((2**bits - 1) / 2)
    return (np.clip(np.rint(flat / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale).reshape(w.shape)


def error(tensors, x, y):
    hidden = np.maximum(x @ tensors["0.weight"].T + tensors["0.bias"], 0)
    return np.abs(hidden @ tensors["2.weight"].T + tensors["2.bias"] - y).mean()


def test_the_metric_and_the_layers_equal_a_recomputation(panel, made):
    tensors, x, y = made
    press(panel, "bits", "ArrowLeft")
    press(panel, "sparsity", "PageDown")
    panel.locator(".labkit-status", has_text="every layer tried alone").wait_for()
    sparsity, bits = float(shown_value(panel, "sparsity").rstrip(" %")) / 100, int(shown_value(panel, "bits"))
    small = {name: squeezed(w, sparsity, bits) for name, w in tensors.items() if w.ndim == 2}
    value, note = card(panel, "absolute error")
    assert float(value) == pytest.approx(error(tensors | small, x, y), rel=1e-3)
    assert float(note.rpartition("dense ")[2]) == pytest.approx(error(tensors, x, y), rel=1e-3)
    rise = {name: error(tensors | {name: w}, x, y) - error(tensors, x, y) for name, w in small.items()}
    layer, note = card(panel, "hottest layer")
    assert float(note.rpartition("alone ")[2]) == pytest.approx(rise[f"{layer}.weight"], rel=0.06)


def test_one_layer_can_be_compressed_alone(panel, made):
    tensors, x, y = made
    choose(panel, "layer", "2")
    sparsity, bits = float(shown_value(panel, "sparsity").rstrip(" %")) / 100, int(shown_value(panel, "bits"))
    one = tensors | {"2.weight": squeezed(tensors["2.weight"], sparsity, bits)}
    assert float(card(panel, "absolute error")[0]) == pytest.approx(error(one, x, y), rel=1e-3)
    assert ", 2: absolute error" in alt(panel)
    choose(panel, "layer", "all layers")


def test_the_dots_show_what_was_measured(panel):
    dots = panel.evaluate("root => root.querySelectorAll('svg.labkit-svg use, svg.labkit-svg path').length")
    press(panel, "bits", "ArrowRight", "ArrowRight")
    after = panel.evaluate("root => root.querySelectorAll('svg.labkit-svg use, svg.labkit-svg path').length")
    assert after > dots
