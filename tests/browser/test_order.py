"""Panel 10b in a browser: a step chosen from a menu moves the star at once, then starts a training; a move ends it."""

import re

import pytest

import labkit as lk
from labkit.topics.order_matters.experiment import EPOCHS, IMAGES
from tests.browser.account import accuracy, dense_weights, prune_globally, round_symmetric
from tests.browser.live import ONE_THREAD, alt, card, handle, told, trained_panel, waited

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    with trained_panel(url, chrome, notebooks, ONE_THREAD + "lk.explore.order()", "trained: ") as found:
        yield found


def test_in_one_go_and_swapped_equal_a_recomputation(panel):
    panel.get_by_label("order", exact=True).select_option("prune, then quantize")
    told(panel, "prune, then quantize")
    waited(panel, "training: ")
    value, note = card(panel, "one-shot, swapped")
    expected = accuracy(round_symmetric(prune_globally(dense_weights(), 0.95), 3))
    assert f"this: {expected:.2%}" in note
    other = lk.prune(lk.quantize(lk.load_model("lenet-300-100", "mnist"), 3), 0.95)
    assert value == f"{lk.accuracy(other, lk.load_data('mnist').validation)['accuracy']:.2%}"


def test_the_training_streams_is_ended_by_a_move_and_ends_where_compose_does(panel):
    handle(panel, "bits").press("ArrowRight")
    told(panel, "bits 4")
    waited(panel, "now quantize")
    handle(panel, "bits").press("ArrowLeft")
    told(panel, "bits 3")
    waited(panel, "now prune")
    assert "bits 3" in alt(panel)
    waited(panel, "trained: ")
    data = lk.load_data("mnist")
    train = lk.Split(data.train.x[:IMAGES], data.train.y[:IMAGES])
    how = dict(sparsity=0.95, bits=3, epochs=EPOCHS, progress=False)
    small, _ = lk.compose(lk.load_model("lenet-300-100", "mnist"), train, ("prune", "quantize"), **how)
    assert card(panel, "accuracy")[0] == f"{lk.accuracy(small, data.validation)['accuracy']:.2%}"
    assert card(panel, "file")[0] == f"{len(lk.encode(small)):,} B"
    left = re.sub(r"\D", "", card(panel, "weights left")[0])
    assert int(left) == sum(int(layer.weight.count_nonzero()) for layer in (small.fc1, small.fc2, small.fc3))
