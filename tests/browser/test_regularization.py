"""Panel 06 in a browser: a move starts a run, it streams, the next move ends it; its figures are those of fit."""

import re

import pytest
import torch

import labkit as lk
from benchmarks import lab
from benchmarks.slider import write_notebook
from labkit import losses
from labkit.explore._regularization import BATCH, STEPS, USUAL
from tests.browser.test_panels import card, handle, shown_value

pytestmark = pytest.mark.browser
# one thread, as in the tests: with two the sums of a batch come in another order
SOURCE = "import torch\ntorch.set_num_threads(1)\nlk.explore.regularization()"
SECONDS = 120_000


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    page, errors = lab.open_notebook(chrome, url, write_notebook(notebooks, "regularization", SOURCE))
    lab.run_all(page)
    found = lab.panel(page)
    ended(found)
    yield found
    assert errors == []
    page.close()


def said(panel, words):
    panel.locator(".labkit-status", has_text=words).first.wait_for(timeout=SECONDS)


def ended(panel):
    said(panel, re.compile(r"^trained: \d+ steps; scored on all"))


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
    image, status = panel.locator("img.labkit-picture"), panel.locator(".labkit-status")
    handle(panel, "dropout").press("PageUp")
    said(panel, "training: ")
    seen = set()
    while "training: " in status.text_content() and len(seen) < 3:
        seen.add(image.get_attribute("src"))
        image.page.wait_for_timeout(50)
    assert len(seen) == 3
    assert "regularized by dropout 0.25" in image.get_attribute("alt")
    handle(panel, "dropout").press("Home")
    panel.get_by_label("penalty").select_option("L1")
    said(panel, "training: ")
    assert f"regularized by L1 {USUAL['L1']:g}" in image.get_attribute("alt")
    assert shown_value(panel, "λ") == f"{USUAL['L1']:g}"
    ended(panel)
    dense, pruned = recomputed(losses.with_l1(USUAL["L1"]))
    assert card(panel, "accuracy")[0] == f"{dense:.2%}"
    assert card(panel, "at 90 % zeros")[0] == f"{pruned:.2%}"


def test_a_penalty_that_is_too_strong_leaves_guessing(panel):
    handle(panel, "λ").press("End")
    said(panel, "training: ")
    ended(panel)
    assert "regularized by L1 10" in panel.locator("img.labkit-picture").get_attribute("alt")
    assert float(card(panel, "accuracy")[0].rstrip("%")) < 30
