"""Each live panel in a real JupyterLab: moved by keyboard, its figures equal an independent recomputation."""

import re
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy
import torch
from axe_playwright_python.sync_playwright import Axe
from torch import nn

import labkit as lk
from benchmarks import lab
from labkit.compress.distill import answers
from labkit.data import data_dir
from labkit.explore._distillation import offered

pytestmark = pytest.mark.browser
PANELS = {
    "00_start_here.ipynb": ["sparsity", "bits"],
    "01_magnitude_pruning.ipynb": ["sparsity", "threshold θ"],
    "02_quantization.ipynb": ["bits", "clip range at", "activation bits"],
    "02b_shared_weights.ipynb": ["bits", "prune first"],
    "03_knowledge_distillation.ipynb": ["image", "temperature T", "teacher's α", "student width"],
    "04_structured_pruning.ipynb": ["sparsity"],
    "05_hyperparameter_search.ipynb": ["trials", "judged by"],
    "06_regularization.ipynb": ["dropout", "smoothing", "augmentation"],
    "07_learning_rate.ipynb": ["peak lr", "warm-up"],
    "09_the_article_mlp.ipynb": ["learning rate", "hidden width", "prune at θ"],
    "10_deep_compression.ipynb": ["sparsity", "bits"],
    "10b_order_matters.ipynb": ["sparsity", "bits"],
    "11_other_architectures.ipynb": ["sparsity", "weight bits", "activation bits"],
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
    """Wait until the panel shows something else than `before`, settled, and nothing has moved for a second."""
    image = panel.locator("img.labkit-picture")
    changed = "([image, src, alt]) => image.src !== src || image.alt !== alt"
    image.page.wait_for_function(changed, arg=[image.element_handle(), *before])
    panel.locator(".labkit-status", has_text="scored on all").wait_for()
    seen = None
    while seen != (seen := shown(panel)):
        image.page.wait_for_timeout(1_000)


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
        key = "ArrowLeft" if label in ("clip range at", "activation bits", "trials") else "ArrowRight"
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
    panel.locator(".labkit-status", has_text="100% of 2 epochs trained").wait_for()
    assert float(card(panel, "accuracy")[0].rstrip("%")) > before


def test_quantization_equals_a_recomputation(opened):
    name, page, panel, _ = opened
    if not name.startswith("02_"):
        pytest.skip("the panel of notebook 02 only")
    press(panel, "bits", "ArrowLeft")
    bits = int(shown_value(panel, "bits"))
    expected = round_symmetric(dense_weights(), bits)
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    w = dense_weights()
    errors = {k: np.sqrt(np.square(expected[k] - v).mean()) / v.std(ddof=1) for k, v in w.items() if v.ndim == 2}
    assert card(panel, "worst layer")[0] == f"{max(errors.values()):.1%}"


def lenet_5_logits(tensors, image):
    """What LeNet-5 says of one image (28, 28), one loop a place: no convolution of torch's."""

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


def test_the_softened_teacher_equals_a_recomputation(opened):
    name, page, panel, _ = opened
    if not name.startswith("03"):
        pytest.skip("the panel of notebook 03 only")
    press(panel, "temperature T", "ArrowRight", "ArrowRight")
    press(panel, "image", "ArrowLeft")
    temperature = float(shown_value(panel, "temperature T"))
    data = lk.load_data("fashion-mnist")
    place = offered(answers(lk.load_model("lenet-5", "fashion-mnist"), data.validation.x))[
        int(shown_value(panel, "image")) - 1
    ]
    raw = (data_dir() / "checkpoints" / "lenet-5--fashion-mnist.safetensors").read_bytes()
    z = lenet_5_logits(safetensors.numpy.load(raw), data.validation.x[place, 0].numpy())
    for t, shown_bits in zip((temperature, 1), card(panel, f"entropy at T = {temperature:g}"), strict=True):
        p = np.exp(z / t) / np.exp(z / t).sum()
        entropy = -(p * np.log2(p)).sum()
        assert float(re.search(r"([\d.]+) bits", shown_bits)[1]) == pytest.approx(entropy, abs=0.006)
    alt = panel.locator("img.labkit-picture").get_attribute("alt")
    assert f"teacher says: {data.classes[z.argmax()]}" in alt
    assert f"image of: {data.classes[int(data.validation.y[place])]}" in alt


def test_students_are_trained_behind_the_button_and_overtaken(opened):
    name, page, panel, _ = opened
    if not name.startswith("03"):
        pytest.skip("the panel of notebook 03 only")
    panel.get_by_label("train on").select_option("few labels")
    status, button = panel.locator(".labkit-status"), panel.get_by_role("button", name="train both students")
    button.click()
    panel.locator(".labkit-status", has_text="alone: ").wait_for()
    panel.get_by_role("button", name="stop").wait_for()
    press(panel, "student width", "ArrowLeft")
    assert status.text_content().startswith("scored on all")
    button.wait_for()
    page.wait_for_timeout(700)
    assert status.text_content().startswith("scored on all")
    assert card(panel, "student taught")[0] == "–"
    button.click()
    panel.locator(".labkit-status", has_text="both trained").wait_for()
    assert 50 < float(card(panel, "student taught")[0].rstrip("%")) < float(card(panel, "accuracy")[0].rstrip("%"))
    assert card(panel, "student alone")[1] == "2,000 labels, width 16"
    assert "lost / won" in card(panel, "student taught")[1]


def narrowed(tensors, sparsity):
    """The hidden neurons with the smallest sums of absolute weights taken out, with the columns that read them."""
    small = dict(tensors)
    for layer, reader in (("fc1", "fc2"), ("fc2", "fc3")):
        sums = np.abs(tensors[f"{layer}.weight"].astype(np.float64)).sum(1)
        kept = np.sort(np.argsort(sums)[round(sparsity * len(sums)) :])
        for name in (f"{layer}.weight", f"{layer}.bias"):
            small[name] = small[name][kept]
        small[f"{reader}.weight"] = small[f"{reader}.weight"][:, kept]
    return small


def test_structured_pruning_equals_a_recomputation(opened):
    name, page, panel, _ = opened
    if not name.startswith("04"):
        pytest.skip("the panel of notebook 04 only")
    press(panel, "sparsity", "PageUp", "ArrowRight")
    sparsity = float(shown_value(panel, "sparsity").rstrip("%")) / 100
    expected = narrowed(dense_weights(), sparsity)
    assert len(expected["fc1.bias"]) == 300 - round(300 * sparsity) < 150
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    assert card(panel, "multiply-adds")[0] == f"{sum(v.size for v in expected.values() if v.ndim == 2):,}"
    assert f" {sum(v.size for v in expected.values()):,} of 266,610 parameters" in card(panel, "units left")[1]
    layers = [nn.Linear(*expected[f"fc{i}.weight"].shape[::-1]) for i in (1, 2, 3)]
    model = nn.Sequential(OrderedDict(zip(("fc1", "fc2", "fc3"), layers, strict=True)))
    model.load_state_dict({k: torch.from_numpy(v) for k, v in expected.items()})
    assert card(panel, "file")[0] == f"{len(lk.encode(model)):,} B"
    value, note = card(panel, "100 images take")
    assert float(value.removesuffix(" ms")) > 0
    assert note.startswith("one thread · dense ")


def share_values(w, k):
    """k-means from k equidistant values, every distance computed; the weight with each value replaced by its mean."""
    centroids = np.linspace(w.min(), w.max(), k, dtype=np.float64)
    nearest, before = None, np.zeros(0)
    while not np.array_equal(nearest, before):
        before = nearest
        nearest = np.abs(w.astype(np.float64)[..., None] - centroids).argmin(-1)
        centroids = np.array([w[nearest == i].mean(dtype=np.float64) for i in range(k)])
    return centroids.astype(np.float32)[nearest]


def test_sharing_equals_a_recomputation_and_trains_behind_the_button(opened):
    name, page, panel, _ = opened
    if not name.startswith("02b"):
        pytest.skip("the panel of notebook 02b only")
    press(panel, "bits", "ArrowLeft")
    k, w = 2 ** int(shown_value(panel, "bits")), dense_weights()
    expected = {key: share_values(v, k) if v.ndim == 2 else v for key, v in w.items()}
    shown = float(card(panel, "accuracy")[0].rstrip("%")) / 100
    assert shown == pytest.approx(accuracy(expected), abs=0.0005)  # a weight on a border may go to either side
    error = np.sqrt(np.square(expected["fc1.weight"] - w["fc1.weight"]).mean()) / w["fc1.weight"].std()
    assert float(card(panel, "error of fc1")[0].rstrip("%")) == pytest.approx(100 * error, abs=0.06)
    press(panel, "bits", "ArrowLeft")
    before = float(card(panel, "accuracy")[0].rstrip("%"))
    button = panel.get_by_role("button", name="train the centroids, 2 epochs")
    button.click()
    panel.locator(".labkit-status", has_text="of 2 epochs trained").wait_for()
    panel.locator(".labkit-status", has_text="100% of 2 epochs trained; scored").wait_for()
    assert float(card(panel, "accuracy")[0].rstrip("%")) > before + 10


def test_the_file_of_each_coder_equals_a_recomputation(opened):
    name, page, panel, _ = opened
    if not name.startswith("10_"):
        pytest.skip("the panel of notebook 10 only")
    press(panel, "sparsity", "ArrowLeft")
    sparsity, bits = float(shown_value(panel, "sparsity").rstrip("%")) / 100, int(shown_value(panel, "bits"))
    expected = round_symmetric(prune_globally(dense_weights(), sparsity), bits)
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    small = lk.quantize(lk.prune(lk.load_model("lenet-300-100", "mnist"), sparsity), bits)
    sizes = []
    for coder, coders in (("Huffman", ["huffman"]), ("context (seconds)", lk.store.CODERS)):
        panel.get_by_label("coder").select_option(coder)
        panel.locator(".labkit-value", has_text=f"{len(lk.encode(small, coders=coders)):,} B").wait_for()
        panel.locator(".labkit-status", has_text="read back and equal").wait_for()
        sizes.append(int(card(panel, "file")[0].removesuffix(" B").replace(",", "")))
    assert sizes[1] < 0.97 * sizes[0]
    panel.get_by_label("coder").select_option("range coder")
