"""The panel of notebook 05 in a real JupyterLab: judges change at once; a search starts, shows its trials, stops."""

import re

import pytest

from labkit.sweep import shipped_sweep
from labkit.topics.hyperparameter_search.experiment import shipped_right
from tests.browser.live import card, opened, press, shown_value

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    with opened(url, chrome, notebooks, "search", "lk.explore.search()") as found:
        yield found


def chosen(trials, judges):
    """The accuracies, on judges and on unseen images, of the best of TPE's first trials, from the shipped masks."""
    table = shipped_sweep("search", "mlp", "fashion-mnist").query("sampler == 'tpe' and seed == 0").iloc[:trials]
    right = [shipped_right("tpe")[number] for number in table["number"]]
    best = max(right, key=lambda bits: bits[:judges].mean())
    return f"{best[:judges].mean():.1%}", f"{best[1_000:].mean():.1%}"


def test_looking_back_and_other_judges_equal_a_recomputation(panel):
    press(panel, "trials", "PageDown")
    press(panel, "judged by, images", "ArrowLeft")
    trials = int(shown_value(panel, "trials").split()[0])
    judges = int(shown_value(panel, "judged by, images"))
    assert (trials < 30, judges) == (True, 100)
    assert (card(panel, "accuracy of the best")[0], card(panel, "on unseen images")[0]) == chosen(trials, judges)
    press(panel, "trials", "PageUp")
    press(panel, "judged by, images", "ArrowRight")


def test_a_search_shows_its_trials_and_stops_within_one(panel):
    panel.get_by_label("sampler", exact=True).select_option("random")
    panel.locator(".labkit-status", has_text="trials by random").wait_for()
    panel.get_by_role("button", name="search", exact=True).click()
    status = panel.locator(".labkit-status")
    panel.locator(".labkit-status", has_text=re.compile(r"searching, seed 1: [1-9]\d* of \d+ trials done")).wait_for()
    panel.get_by_role("button", name="stop").click()
    panel.locator(".labkit-status", has_text="stopped").wait_for()
    panel.page.wait_for_timeout(1_500)
    assert status.text_content() == "stopped"
    assert int(card(panel, "epochs trained")[0]) % 9 == 0
    panel.get_by_label("sampler", exact=True).select_option("TPE")
    panel.locator(".labkit-status", has_text="30 trials by TPE").wait_for()


def test_the_other_task_brings_its_own_samplers(panel):
    panel.get_by_label("search for", exact=True).select_option("a compression recipe")
    panel.locator(".labkit-status", has_text="60 trials by NSGA-II, each scored on all 1,000").wait_for()
    assert "keeps 97.1%" in card(panel, "accuracy, smallest file")[1]
    assert panel.get_by_label("sampler", exact=True).locator("option").all_inner_texts() == [
        "grid",
        "random",
        "TPE",
        "NSGA-II",
    ]
    panel.get_by_label("search for", exact=True).select_option("training settings")
    panel.locator(".labkit-status", has_text="30 trials by TPE").wait_for()
