"""Panel 12 in a browser: the file meets the budget, its figures are recomputed, and it can be saved."""

import pytest

import labkit as lk
from labkit.budget import loss_of, sample
from tests.browser.live import ONE_THREAD, alt, card, handle, saved, told, trained_panel, waited

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    with trained_panel(url, chrome, notebooks, ONE_THREAD + "lk.explore.budget()", "the search has ended") as found:
        yield found


def test_a_move_gives_a_file_within_the_budget_and_its_figures_are_recomputed(panel, tmp_path):
    handle(panel, "budget").press("ArrowRight")
    told(panel, "at most 19.5 KB")
    waited(panel, "the search has ended")
    path = saved(panel, tmp_path)
    assert path.stat().st_size <= 19_484
    assert card(panel, "file")[0] == f"{path.stat().st_size:,} B"
    data, model = lk.load_data("mnist"), lk.load_model("lenet-300-100", "mnist")
    small = lk.load(path, into=model)
    assert card(panel, "accuracy")[0] == f"{lk.accuracy(small, data.validation)['accuracy']:.2%}"
    few = sample(data.train, 500, 0)
    assert card(panel, "rise of the loss")[0] == f"{loss_of(small, few) - loss_of(model, few):.3g}"


def test_a_scene_is_the_memory_of_a_device(panel):
    panel.locator("select", has_text="scenes").first.select_option("64 KB: STM32F103C8")
    told(panel, "at most 65.5 KB")
    assert "of the budget of 65,536 B" in card(panel, "file")[1]
    assert "accuracy" in alt(panel)
