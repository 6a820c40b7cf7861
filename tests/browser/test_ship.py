"""Panel 13 in a browser: a format chosen from a menu is written; the file that it saves has the bytes it shows."""

import pytest

import labkit as lk
from tests.browser.live import ONE_THREAD, alt, card, opened, saved, told

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    with opened(url, chrome, notebooks, "ship", ONE_THREAD + "lk.explore.ship_it()") as found:
        yield found


def test_the_first_file_is_that_of_labkit(panel, tmp_path):
    told(panel, "as labkit, 4 bits")
    path, model = saved(panel, tmp_path), lk.load_model("lenet-5", "mnist")
    assert path.read_bytes() == lk.encode(lk.quantize(model, 4))
    assert card(panel, "file")[0] == f"{path.stat().st_size:,} B"
    small = lk.load(path, into=model)
    split = lk.load_data("mnist").validation
    assert card(panel, "accuracy")[0] == f"{lk.accuracy(small, split)['accuracy']:.2%}"


def test_an_onnx_file_is_saved_and_runs(panel, tmp_path):
    panel.get_by_label("format", exact=True).select_option("ONNX, weights 8 bits")
    told(panel, "as ONNX, weights 8 bits")
    path, split = saved(panel, tmp_path), lk.load_data("mnist").validation
    assert card(panel, "file")[0] == f"{path.stat().st_size:,} B"
    outputs = lk.export.onnx_outputs(path, split.x)
    right = float((outputs.argmax(1) == split.y).float().mean())
    assert abs(float(card(panel, "accuracy")[0].rstrip("%")) / 100 - right) < 0.0005
    assert "ONNX" in alt(panel)
