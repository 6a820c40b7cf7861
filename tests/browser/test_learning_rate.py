"""Panel 07 in a browser: a move starts a run, it streams, the next move ends it; its figures equal fit's."""

import pytest
import torch

import labkit as lk
from labkit import optim
from labkit.topics.learning_rate.experiment import IMAGES, TRAINING
from tests.browser.live import ONE_THREAD, alt, card, handle, shown_value, streams, told, trained_panel, waited

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    with trained_panel(url, chrome, notebooks, ONE_THREAD + "lk.explore.learning_rate()", "trained: ") as found:
        yield found


def recomputed(lr, schedule):
    data = lk.load_data("fashion-mnist")
    torch.manual_seed(0)
    train = lk.Split(data.train.x[:IMAGES], data.train.y[:IMAGES])
    model, _ = lk.fit(lk.build("lenet-300-100"), train, **TRAINING, lr=lr, schedule=schedule)
    return model, lk.accuracy(model, data.validation)["accuracy"]


def test_a_move_starts_a_run_that_streams_and_the_next_move_ends_it(panel):
    panel.get_by_label("schedule", exact=True).select_option("exponential")
    handle(panel, "peak lr").press("ArrowLeft")
    told(panel, "peak lr 0.05, exponential schedule")
    waited(panel, "training: ")
    assert streams(panel)
    assert "peak lr 0.05, exponential schedule" in alt(panel)
    handle(panel, "peak lr").press("ArrowLeft")
    told(panel, "peak lr 0.03, exponential schedule")
    waited(panel, "training: ")
    assert "peak lr 0.03, exponential schedule" in alt(panel)
    waited(panel, "trained: ")
    model, accuracy = recomputed(0.03, optim.exponential)
    assert card(panel, "accuracy")[0] == f"{accuracy:.2%}"
    pruned = lk.accuracy(lk.prune(model, 0.9), lk.load_data("fashion-mnist").validation)["accuracy"]
    panel.locator(".labkit-value", has_text=f"{pruned:.1%}").first.wait_for()
    assert card(panel, "at 90 % zeros")[0] == f"{pruned:.1%}"


def test_the_range_test_has_run_by_itself(panel):
    assert 0.001 < float(card(panel, "steepest at")[0]) < 1
    assert "diverged at" in card(panel, "steepest at")[1]


def test_divergence_is_said(panel):
    handle(panel, "peak lr").press("End")
    waited(panel, "diverged: the loss is nan")
    assert shown_value(panel, "peak lr") == "10"
    assert "peak lr 10, exponential schedule" in alt(panel)
