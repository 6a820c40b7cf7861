"""Each live panel in a real JupyterLab: moved by keyboard, its figures equal an independent recomputation."""

import re

import numpy as np
import pytest
import safetensors.numpy
from axe_playwright_python.sync_playwright import Axe

import labkit as lk
from benchmarks import lab
from labkit.data import data_dir

pytestmark = pytest.mark.browser
PANELS = {
    "00_start_here.ipynb": ["sparsity", "bits"],
    "01_magnitude_pruning.ipynb": ["sparsity", "threshold θ"],
    "02_quantization.ipynb": ["bits", "clip range at", "activation bits"],
}


@pytest.fixture(scope="module", params=PANELS)
def opened(request, url, chrome):
    """A notebook that was run from top to bottom: its name, page, panel and console errors."""
    page, errors = lab.open_notebook(chrome, url, request.param)
    lab.run_all(page)
    yield request.param, page, lab.panel(page), errors
    page.close()


# --- an account of our own: numpy only, no routine of labkit's compress room ------------------------------------------


def dense_weights():
    raw = (data_dir() / "checkpoints" / "lenet-300-100--mnist.safetensors").read_bytes()
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


# --- reading the panel ------------------------------------------------------------------------------------------------


def card(panel, label):
    """(value, note) of the card whose label begins with `label`."""
    found = panel.locator(".labkit-card").filter(has_text=re.compile(f"^{label}")).first
    return found.locator(".labkit-value").text_content(), found.locator(".labkit-note").text_content()


def handle(panel, label):
    return panel.get_by_role("slider", name=label, exact=True)


def shown(panel):
    """The picture and its words: two settings may look the same to the pixel and still differ in words."""
    image = panel.locator("img.labkit-picture")
    return [image.get_attribute("src"), image.get_attribute("alt")]


def settle(panel, before):
    """Wait until the panel shows something else than `before`, settled, and nothing has moved for half a second."""
    image = panel.locator("img.labkit-picture")
    changed = "([image, src, alt]) => image.src !== src || image.alt !== alt"
    image.page.wait_for_function(changed, arg=[image.element_handle(), *before])
    panel.locator(".labkit-status", has_text="scored on all").wait_for(timeout=20_000)
    seen = None
    while seen != (seen := shown(panel)):
        image.page.wait_for_timeout(500)


def press(panel, label, *keys):
    for key in keys:
        before = shown(panel)
        handle(panel, label).press(key)
        settle(panel, before)


def shown_value(panel, label):
    return handle(panel, label).get_attribute("aria-valuetext")


def test_every_slider_moves_the_picture_and_tells_its_value(opened):
    name, page, panel, _ = opened
    for label in PANELS[name]:
        if label == "threshold θ":
            panel.get_by_label("prune by").select_option("threshold θ")
        before = shown_value(panel, label)
        key = "ArrowLeft" if label in ("clip range at", "activation bits") else "ArrowRight"
        press(panel, label, key)
        page.wait_for_function(
            "([h, v]) => h.getAttribute('aria-valuetext') !== v", arg=[handle(panel, label).element_handle(), before]
        )
        assert card(panel, "accuracy")[0] in panel.locator("img.labkit-picture").get_attribute("alt")
        press(panel, label, "ArrowRight" if key == "ArrowLeft" else "ArrowLeft")
    if name.startswith("01"):
        panel.get_by_label("prune by").select_option("sparsity")


def test_no_console_error_and_no_accessibility_violation(opened):
    _, page, panel, errors = opened
    result = Axe().run(page, context=".labkit-panel")
    assert [(v["id"], [n["html"][:90] for n in v["nodes"]]) for v in result.response["violations"]] == []
    assert errors == []


def test_overview_equals_a_recomputation(opened):
    name, page, panel, _ = opened
    if not name.startswith("00"):
        pytest.skip("the panel of notebook 00 only")
    press(panel, "sparsity", "ArrowRight", "ArrowRight", "ArrowRight")
    press(panel, "bits", "ArrowLeft")
    sparsity, bits = float(shown_value(panel, "sparsity").rstrip("%")) / 100, int(shown_value(panel, "bits"))
    expected = round_symmetric(prune_globally(dense_weights(), sparsity), bits)
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    small = lk.quantize(lk.prune(lk.load_model("lenet-300-100", "mnist"), sparsity), bits)
    for layer in ("fc1", "fc2", "fc3"):
        np.testing.assert_allclose(small.get_submodule(layer).weight.detach(), expected[f"{layer}.weight"], atol=1e-6)
    assert card(panel, "file")[0] == f"{len(lk.encode(small)):,} B"
    panel.locator(".labkit-status", has_text="read back and equal").wait_for()


def test_pruning_by_threshold_equals_a_recomputation(opened):
    name, page, panel, _ = opened
    if not name.startswith("01"):
        pytest.skip("the panel of notebook 01 only")
    panel.get_by_label("prune by").select_option("threshold θ")
    press(panel, "threshold θ", "PageUp", "ArrowRight")
    theta = float(shown_value(panel, "threshold θ"))
    expected = {k: np.where(np.abs(v) > theta, v, 0) if v.ndim == 2 else v for k, v in dense_weights().items()}
    left = sum(np.count_nonzero(v) for v in expected.values() if v.ndim == 2)
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    assert card(panel, "weights left")[0] == f"{left:,}"
    panel.get_by_label("prune by").select_option("sparsity")


def test_training_behind_the_button_streams_and_is_overtaken(opened):
    name, page, panel, _ = opened
    if not name.startswith("01"):
        pytest.skip("the panel of notebook 01 only")
    status, button = panel.locator(".labkit-status"), panel.get_by_role("button", name="train 2 epochs")
    button.click()
    panel.locator(".labkit-status", has_text="of 2 epochs trained").wait_for()
    panel.get_by_role("button", name="stop").wait_for()
    press(panel, "sparsity", "ArrowLeft")
    assert "trained" not in status.text_content()
    button.wait_for()
    page.wait_for_timeout(700)
    assert "trained" not in status.text_content()
    before = float(card(panel, "accuracy")[0].rstrip("%"))
    button.click()
    panel.locator(".labkit-status", has_text="100% of 2 epochs trained").wait_for(timeout=60_000)
    assert float(card(panel, "accuracy")[0].rstrip("%")) > before


def test_quantization_equals_a_recomputation(opened):
    name, page, panel, _ = opened
    if not name.startswith("02"):
        pytest.skip("the panel of notebook 02 only")
    press(panel, "bits", "ArrowLeft")
    bits = int(shown_value(panel, "bits"))
    expected = round_symmetric(dense_weights(), bits)
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    w = dense_weights()
    errors = {k: np.sqrt(np.square(expected[k] - v).mean()) / v.std(ddof=1) for k, v in w.items() if v.ndim == 2}
    assert card(panel, "worst layer")[0] == f"{max(errors.values()):.1%}"
