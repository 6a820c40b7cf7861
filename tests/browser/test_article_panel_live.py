"""Panel 09 in a browser: a move checks the slopes and starts a run, the next move ends it; figures are recomputed."""

import functools

import numpy as np
import pytest

import labkit as lk
from tests.browser.live import card, handle, shown_value, streams, told, trained_panel, waited

pytestmark = pytest.mark.browser
ENDED = "retrained: 100% of 1 epoch"


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    with trained_panel(url, chrome, notebooks, "lk.explore.article_mlp()", ENDED) as found:
        yield found


@functools.cache
def by_hand(lr, images=10_000, hidden=32):
    """The article's loop on MNIST with a sum instead of the mean, written out: (weights, validation accuracy)."""
    data = lk.load_data("mnist")
    x, labels = data.train.x[:images].flatten(1).numpy(), data.train.y[:images].numpy()
    rng = np.random.default_rng(0)
    w1, w2 = (rng.uniform(-r, r, s) for s in ((784, hidden), (hidden, 10)) for r in [np.sqrt(6 / sum(s))])
    w1, w2 = w1.astype(np.float32), w2.astype(np.float32)
    b1, b2, rng = np.zeros(hidden, np.float32), np.zeros(10, np.float32), np.random.default_rng(0)
    for _ in range(3):
        for batch in rng.permutation(images).reshape(-1, 10):
            a1 = np.tanh(x[batch] @ w1 + b1)
            p = np.tanh(a1 @ w2 + b2)
            dz2 = (p - np.eye(10, dtype=np.float32)[labels[batch]]) * (1 - p**2)
            dz1 = dz2 @ w2.T * (1 - a1**2)
            # in this order to the bit: another rounding is worth two points of accuracy after 3,000 steps
            w1, b1 = w1 - lr * (x[batch].T @ dz1), b1 - lr * dz1.sum(0)
            w2, b2 = w2 - lr * (a1.T @ dz2), b2 - lr * dz2.sum(0)
    held = data.validation

    def right(w1, w2):
        z = np.tanh(held.x.flatten(1).numpy() @ w1 + b1) @ w2 + b2
        return (z.argmax(1) == held.y.numpy()).mean()

    return (w1, w2), right


def percent(text):
    return float(text.rstrip("%")) / 100


def test_a_move_checks_and_trains_and_the_next_move_ends_it(panel):
    panel.get_by_label("code", exact=True).select_option("fault: a sum, not a mean")
    waited(panel, "training: ")
    assert card(panel, "gradient check")[0] == "fails"
    assert streams(panel)
    for _ in range(3):
        handle(panel, "learning rate").press("ArrowLeft")
    told(panel, "a sum, not a mean, learning rate 0.01")
    assert shown_value(panel, "learning rate") == "0.01"
    waited(panel, ENDED)
    (w1, w2), right = by_hand(0.01)
    assert percent(card(panel, "accuracy")[0]) == pytest.approx(right(w1, w2), abs=5e-4)
    assert "· mended 68" in card(panel, "accuracy")[1]


def test_pruning_scores_again_at_once_and_equals_a_recomputation(panel):
    handle(panel, "prune at θ").press("ArrowRight")
    theta = float(shown_value(panel, "prune at θ"))
    panel.locator(".labkit-label", has_text=f"pruned at θ = {theta:.2f}").wait_for()
    (w1, w2), right = by_hand(0.01)
    thin = [np.where(np.abs(w) > theta, w, 0) for w in (w1, w2)]
    value, note = card(panel, f"pruned at θ = {theta:.2f}")
    assert percent(value) == pytest.approx(right(*thin), abs=5e-4)
    left = int(note.split(" of 25,408")[0].split()[-1].replace(",", ""))
    assert left == pytest.approx(sum(np.count_nonzero(w) for w in thin), rel=0.001)
    waited(panel, ENDED)


def test_the_code_as_printed_is_refused_in_words(panel):
    panel.get_by_label("code", exact=True).select_option("fault: A1 unknown, as printed")
    waited(panel, "this code stops at its first step: NameError: name 'A1' is not defined")
    assert card(panel, "gradient check")[0] == "does not run"
    waited(panel, "beside it the mended network, scored on all 5,000 validation images")
