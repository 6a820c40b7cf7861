"""The panels of notebook 08 in a browser: walks equal torch's; a move starts a race, the next one ends it."""

import pytest
import torch

import labkit as lk
from benchmarks import lab
from benchmarks.slider import write_notebook
from labkit.optim import RULES
from tests.browser.live import ONE_THREAD, alt, card, handle, moved, shown_value, streams, told

pytestmark = pytest.mark.browser
SOURCES = {"optimizers": "lk.explore.optimizers()", "race": ONE_THREAD + "lk.explore.race()"}


@pytest.fixture(scope="module", params=SOURCES)
def opened(request, url, chrome, notebooks):
    page, errors = lab.open_notebook(chrome, url, write_notebook(notebooks, request.param, SOURCES[request.param]))
    lab.run_all(page)
    found = lab.panel(page)
    yield request.param, found
    assert errors == []
    lab.close_notebook(page)


@pytest.fixture
def walks(opened):
    return chosen(opened, "optimizers")


@pytest.fixture
def race(opened):
    return chosen(opened, "race")


def chosen(opened, wanted):
    name, panel = opened
    if name != wanted:
        pytest.skip(f"the panel {wanted} only")
    return panel


def by_torch(lr, momentum, x, y, steps=100):
    """The point where torch's momentum ends in a ravine of condition number 20."""
    w = torch.tensor([x, y], dtype=torch.float64, requires_grad=True)
    stepper = torch.optim.SGD([w], lr=lr, momentum=momentum)
    for _ in range(steps):
        stepper.zero_grad()
        ((w[0] ** 2 + 20 * w[1] ** 2) / 2).backward()
        stepper.step()
    x, y = w.tolist()
    return (x**2 + 20 * y**2) / 2


def test_every_control_of_the_walks_moves_the_picture(walks):
    for label in ("start x", "start y", "lr", "momentum, β₁", "ravine's κ", "turned by"):
        before = shown_value(walks, label)
        moved(walks, lambda label=label: handle(walks, label).press("ArrowRight"))
        assert shown_value(walks, label) != before
        moved(walks, lambda label=label: handle(walks, label).press("ArrowLeft"))
    for optimizer in RULES:
        box = walks.get_by_label(optimizer, exact=True)
        was = box.is_checked()
        said = moved(walks, lambda box=box: box.click())
        assert (f"; {optimizer}: " in said) != was
        moved(walks, lambda box=box: box.click())


def test_a_walk_equals_torchs(walks):
    moved(walks, lambda: handle(walks, "lr").press("ArrowLeft"))
    said = moved(walks, lambda: handle(walks, "start y").press("ArrowLeft"))
    lr, y = float(shown_value(walks, "lr")), float(shown_value(walks, "start y").replace("−", "-"))
    x, momentum = float(shown_value(walks, "start x").replace("−", "-")), 0.9
    assert f"momentum: loss {by_torch(lr, momentum, x, y):.3g}" in said
    assert card(walks, "2 ÷ curvature")[0] == "0.1"


def test_divergence_of_a_walk_is_said(walks):
    moved(walks, lambda: handle(walks, "lr").press("End"))
    assert "SGD: diverged, out at step 1" in alt(walks)
    assert int(card(walks, "diverged")[0]) >= 2


def recomputed(optimizer, lr, seed):
    data = lk.load_data("fashion-mnist")
    torch.manual_seed(seed)
    how = dict(epochs=25, batch_size=100, seed=seed, progress=False)
    few = lk.Split(data.train.x[:2200], data.train.y[:2200])
    model, _ = lk.fit(lk.build("lenet-300-100"), few, lr=lr, optimizer=optimizer, **how)
    return lk.accuracy(model, data.validation)["accuracy"]


def test_a_move_starts_a_race_that_streams_and_the_next_move_ends_it(race):
    status = race.locator(".labkit-status")
    handle(race, "seed").press("ArrowRight")
    status.filter(has_text="training: ").wait_for()
    assert streams(race)
    handle(race, "lr").press("ArrowRight")
    told(race, "lr 0.003, few images, 25 passes, seed 1")
    for _ in range(20):  # of the run that was overtaken nothing is shown any more
        assert "lr 0.003, few images, 25 passes, seed 1" in alt(race)
        race.page.wait_for_timeout(100)
    status.filter(has_text="trained: 550 steps").wait_for()
    assert card(race, "accuracy")[0] == f"{recomputed(torch.optim.Adam, 0.003, 1):.2%}"
    race.locator(".labkit-note", has_text=r"one-shot").wait_for()
