"""Panel 06 in a browser: a move starts a run, it streams, the next move ends it; its figures equal fit's."""

import re

import pytest
import torch

import labkit as lk
from labkit import losses
from labkit.topics.regularization.runs import BATCH, STEPS, USUAL
from tests.browser.live import ONE_THREAD, alt, card, handle, shown_value, streams, told, trained_panel, waited

pytestmark = pytest.mark.browser
ENDED = re.compile(r"^trained: \d+ steps; scored on all")


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    with trained_panel(url, chrome, notebooks, ONE_THREAD + "lk.explore.regularization()", ENDED) as found:
        yield found


def recomputed(loss):
    data = lk.load_data("mnist")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 300), torch.nn.ReLU(), torch.nn.Linear(300, 100), torch.nn.ReLU(),
        torch.nn.Linear(100, 10),
    )  # fmt: skip
    train = lk.Split(data.train.x[:1_000], data.train.y[:1_000])
    model, _ = lk.fit(
        net, train, epochs=STEPS * BATCH // 1_000, batch_size=BATCH, lr=1e-3, loss=loss, progress=False,
        optimizer=lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, weight_decay=0),
    )  # fmt: skip
    return [lk.accuracy(m, data.validation)["accuracy"] for m in (model, lk.prune(model, 0.9))]


def test_a_move_starts_a_run_that_streams_and_the_next_move_ends_it(panel):
    handle(panel, "dropout").press("PageUp")
    told(panel, "dropout 10 %")
    waited(panel, "training: ")
    assert streams(panel)
    assert "dropout 10 %" in alt(panel)
    handle(panel, "dropout").press("Home")
    panel.get_by_label("penalty", exact=True).select_option("L1")
    told(panel, f"penalty L1, λ {USUAL['L1']:g}")
    waited(panel, "training: ")
    assert f"penalty L1, λ {USUAL['L1']:g}" in alt(panel)
    assert shown_value(panel, "λ") == f"{USUAL['L1']:g}"
    waited(panel, ENDED)
    dense, pruned = recomputed(losses.with_l1(USUAL["L1"]))
    assert card(panel, "accuracy")[0] == f"{dense:.2%}"
    assert card(panel, "at 90 % zeros")[0] == f"{pruned:.2%}"


def test_a_penalty_that_is_too_strong_leaves_guessing(panel):
    handle(panel, "λ").press("End")
    waited(panel, "training: ")
    waited(panel, ENDED)
    assert "penalty L1, λ 10" in alt(panel)
    assert float(card(panel, "accuracy")[0].rstrip("%")) < 30
