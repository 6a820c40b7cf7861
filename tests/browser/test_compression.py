"""Panels of one-shot compression in a real JupyterLab: moved by keyboard, their figures equal a recomputation."""

import re
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import nn

import labkit as lk
from labkit.compress.distill import teacher_outputs
from labkit.data import data_dir
from labkit.topics.knowledge_distillation.lesson import offered
from tests.browser.account import (
    accuracy,
    dense_weights,
    lenet_5_logits,
    narrowed,
    prune_globally,
    round_symmetric,
    share_values,
)  # fmt: skip
from tests.browser.live import alt, card, choose, opened, press, shown_value

pytestmark = pytest.mark.browser


def panel_of(name):
    """A fixture: the panel, opened once for its tests."""

    @pytest.fixture(scope="module", name=name)
    def found(url, chrome, notebooks):
        with opened(url, chrome, notebooks, name, f"lk.explore.{name}()") as panel:
            yield panel

    return found


overview = panel_of("overview")
pruning = panel_of("pruning")
quantization = panel_of("quantization")
sharing = panel_of("sharing")
distillation = panel_of("distillation")
structured = panel_of("structured")
deep_compression = panel_of("deep_compression")


def test_overview_equals_a_recomputation(overview):
    panel = overview
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


def test_pruning_by_threshold_equals_a_recomputation(pruning):
    panel = pruning
    choose(panel, "prune by", "threshold θ")
    press(panel, "threshold θ", "PageUp", "ArrowRight")
    theta = float(shown_value(panel, "threshold θ"))
    expected = {k: np.where(np.abs(v) > theta, v, 0) if v.ndim == 2 else v for k, v in dense_weights().items()}
    left = sum(np.count_nonzero(v) for v in expected.values() if v.ndim == 2)
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    assert card(panel, "weights left")[0] == f"{left:,}"
    choose(panel, "prune by", "sparsity")


def test_training_behind_the_button_streams_and_is_overtaken(pruning):
    panel = pruning
    status, button = panel.locator(".labkit-status"), panel.get_by_role("button", name="train 2 epochs")
    button.click()
    panel.locator(".labkit-status", has_text="of 2 epochs trained").wait_for()
    panel.get_by_role("button", name="stop").wait_for()
    press(panel, "sparsity", "ArrowLeft")
    assert "trained" not in status.text_content()
    button.wait_for()
    panel.page.wait_for_timeout(700)
    assert "trained" not in status.text_content()
    before = float(card(panel, "accuracy")[0].rstrip("%"))
    button.click()
    panel.locator(".labkit-status", has_text="100% of 2 epochs trained").wait_for()
    assert float(card(panel, "accuracy")[0].rstrip("%")) > before


def test_quantization_equals_a_recomputation(quantization):
    panel = quantization
    press(panel, "bits", "ArrowLeft")
    bits = int(shown_value(panel, "bits"))
    expected = round_symmetric(dense_weights(), bits)
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    w = dense_weights()
    errors = {k: np.sqrt(np.square(expected[k] - v).mean()) / v.std(ddof=1) for k, v in w.items() if v.ndim == 2}
    assert card(panel, "worst layer")[0] == f"{max(errors.values()):.1%}"


def test_the_softened_teacher_equals_a_recomputation(distillation):
    panel = distillation
    press(panel, "temperature T", "ArrowRight", "ArrowRight")
    press(panel, "image", "ArrowLeft")
    temperature = float(shown_value(panel, "temperature T"))
    data = lk.load_data("fashion-mnist")
    place = offered(teacher_outputs(lk.load_model("lenet-5", "fashion-mnist"), data.validation.x))[
        int(shown_value(panel, "image")) - 1
    ]
    raw = (data_dir() / "checkpoints" / "lenet-5--fashion-mnist.safetensors").read_bytes()
    z = lenet_5_logits(safetensors.numpy.load(raw), data.validation.x[place, 0].numpy())
    value, note = card(panel, f"entropy at T = {temperature:g}")
    for t, shown_bits in ((temperature, value), (1, note.rpartition(": ")[2])):
        p = np.exp(z / t) / np.exp(z / t).sum()
        entropy = -(p * np.log2(p)).sum()
        assert float(re.search(r"([\d.]+) bits", shown_bits)[1]) == pytest.approx(entropy, abs=0.006)
    assert f"teacher: {data.classes[z.argmax()]}" in alt(panel)
    assert f"label: {data.classes[int(data.validation.y[place])]}" in alt(panel)


def test_students_are_trained_behind_the_button_and_overtaken(distillation):
    panel = distillation
    choose(panel, "train on", "few labels")
    status, button = panel.locator(".labkit-status"), panel.get_by_role("button", name="train both students")
    button.click()
    panel.locator(".labkit-status", has_text="alone: ").wait_for()
    panel.get_by_role("button", name="stop").wait_for()
    press(panel, "student width", "ArrowLeft")
    assert "students measured beforehand" in status.text_content()
    panel.page.wait_for_timeout(700)
    assert "students measured beforehand" in status.text_content()
    assert "measured" in card(panel, "student distilled")[1]
    button.click()
    panel.locator(".labkit-status", has_text="both trained").wait_for()
    assert 50 < float(card(panel, "student distilled")[0].rstrip("%")) < 92
    assert "2,000 labels, width 16" in card(panel, "student alone")[1]
    assert "lost / won" in card(panel, "student distilled")[1]


def test_structured_pruning_equals_a_recomputation(structured):
    panel = structured
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


def test_sharing_equals_a_recomputation_and_trains_behind_the_button(sharing):
    panel = sharing
    press(panel, "bits", "ArrowLeft")
    k, w = 2 ** int(shown_value(panel, "bits")), dense_weights()
    expected = {key: share_values(v, k) if v.ndim == 2 else v for key, v in w.items()}
    shown = float(card(panel, "accuracy")[0].rstrip("%")) / 100
    assert shown == pytest.approx(accuracy(expected), abs=0.0005)  # a weight on a border may go to either side
    error = np.sqrt(np.square(expected["fc1.weight"] - w["fc1.weight"]).mean()) / w["fc1.weight"].std()
    assert float(card(panel, "error of fc1")[0].rstrip("%")) == pytest.approx(100 * error, abs=0.06)
    press(panel, "bits", "ArrowLeft")
    before = float(card(panel, "accuracy")[0].rstrip("%"))
    button = panel.get_by_role("button", name="train the centroids")
    button.click()
    panel.locator(".labkit-status", has_text="of 2 epochs trained").wait_for()
    panel.locator(".labkit-status", has_text="100% of 2 epochs trained; scored").wait_for()
    assert float(card(panel, "accuracy")[0].rstrip("%")) > before + 10


def test_the_file_of_each_coder_equals_a_recomputation(deep_compression):
    panel = deep_compression
    press(panel, "sparsity", "ArrowLeft")
    sparsity, bits = float(shown_value(panel, "sparsity").rstrip("%")) / 100, int(shown_value(panel, "bits"))
    expected = round_symmetric(prune_globally(dense_weights(), sparsity), bits)
    assert card(panel, "accuracy")[0] == f"{accuracy(expected):.2%}"
    small = lk.quantize(lk.prune(lk.load_model("lenet-300-100", "mnist"), sparsity), bits)
    sizes = []
    for coder, coders in (("Huffman", ["huffman"]), ("context (seconds)", lk.store.CODERS)):
        panel.get_by_label("coder", exact=True).select_option(coder)
        panel.locator(".labkit-value", has_text=f"{len(lk.encode(small, coders=coders)):,} B").wait_for()
        panel.locator(".labkit-status", has_text="read back and equal").wait_for()
        sizes.append(int(card(panel, "file")[0].removesuffix(" B").replace(",", "")))
    assert sizes[1] < 0.97 * sizes[0]
    panel.get_by_label("coder", exact=True).select_option("range coder")
