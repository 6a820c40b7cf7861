"""Panels of notebook 08: walks are torch.optim's own, divergence is drawn and said; the race's run is fit's own."""

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore
from labkit.explore._optimizers import STEPS, SURFACES, Optimizers, ending, surface_of
from labkit.explore._race import Race
from labkit.explore._training import GHOSTS
from labkit.optim import RULES, TORCHS
from labkit.surfaces import FRAME, rosenbrock
from labkit.sweep import DEFAULT_LR, fresh
from labkit.sweep.optimizers import BATCH, PASSES

SETTINGS = dict(surface="ravine", condition=20, angle=0, lr=0.05, momentum=0.9, x=-1.7, y=1.2)
EVERY = {f"show {name}": True for name in RULES}


def walked(view, **settings):
    (walks,) = view.results(**SETTINGS | EVERY | settings)
    view.draw(walks)
    return walks


def by_torch(name, surface, lr, momentum, start):
    """The places that torch's own optimizer goes through."""
    told = {"momentum": momentum} if name in ("momentum", "Nesterov") else {}
    told |= {"betas": (momentum, 0.999)} if name in ("Adam", "AMSGrad", "AdamW") else {}
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    stepper, places = TORCHS[name]([w], lr=lr, **told), [list(start)]
    for _ in range(STEPS):
        stepper.zero_grad()
        surface(w).backward()
        stepper.step()
        places.append(w.tolist())
    return np.array(places)


@pytest.fixture
def view():
    return Optimizers()


@pytest.mark.parametrize("name", RULES)
def test_every_walk_is_torchs(view, name):
    walks = walked(view, surface="Rosenbrock's valley", lr=5e-4, momentum=0.8)
    np.testing.assert_allclose(walks.places[name], by_torch(name, rosenbrock, 5e-4, 0.8, (-1.7, 1.2)), rtol=1e-6)
    x, y = walks.places[name][-1]
    assert walks.losses[name][-1] == pytest.approx((1 - x) ** 2 + 100 * (y - x**2) ** 2)
    drawn = np.stack(view.ways[name].get_data(), 1)
    np.testing.assert_allclose(drawn, np.clip(walks.places[name], -FRAME, FRAME))
    assert view.texts[name].get_text() == f"{name}: {ending(walks, name)}"


def test_divergence_is_drawn_at_the_edge_and_said(view):
    walks = walked(view, lr=0.15)
    assert walks.diverged("SGD")
    assert walks.left("SGD") == 1
    assert view.texts["SGD"].get_text() == "SGD: diverged, out at step 1"
    assert np.abs(np.stack(view.ways["SGD"].get_data())).max() == FRAME
    assert [-1.445, -FRAME] in np.round(np.stack(view.crosses.get_data(), 1), 6).tolist()
    assert view.lines["SGD"].get_ydata()[-1] == view.curves.get_ylim()[1]
    words = view.tell(walks)
    assert words.cards[3] == ("diverged", "2", "SGD, Nesterov")
    assert "SGD: diverged, out at step 1" in words.alt


def test_the_limit_of_plain_descent_is_told_by_the_curvature(view):
    for condition, angle, lr, told in ((20, 0, 0.05, "below"), (50, 30, 0.05, "above"), (200, 45, 0.02, "above")):
        card = view.tell(walked(view, condition=condition, angle=angle, lr=lr)).cards[2]
        assert card[:2] == ("2 ÷ curvature at the start", f"{2 / condition:.3g}")
        assert card[2].endswith(f"is {told} it")
    assert view.tell(walked(view, surface="saddle", x=0.0, y=0.0)).cards[2][1] == "2"


def test_who_is_first_is_first_for_good(view):
    walks = walked(view)
    goal = walks.losses["SGD"][0] / 100
    since = {name: next(i for i in range(STEPS + 1) if (v[i:] <= goal).all()) for name, v in walks.losses.items()
             if v[-1] <= goal}  # fmt: skip
    best = min(since, key=since.get)
    label, value, note = view.tell(walks).cards[1]
    assert (label, value) == ("first below 1 % of the start", best)
    assert note.startswith(f"for good from step {since[best]} on")


def test_only_ticked_optimizers_walk_and_none_is_fine(view):
    walks = walked(view, **dict.fromkeys(EVERY, False) | {"show Adam": True})
    assert list(walks.places) == ["Adam"]
    assert view.texts["SGD"].get_text() == "SGD: –"
    none = walked(view, **dict.fromkeys(EVERY, False))
    assert view.tell(none).cards[0] == ("lowest at the end", "–", "tick an optimizer")
    assert not any(len(line.get_xdata()) for line in view.ways.values())


@pytest.mark.parametrize("surface", SURFACES)
def test_every_surface_is_drawn_and_told(view, surface):
    walks = walked(view, surface=surface, lr=0.001)
    assert view.live.png().startswith(b"\x89PNG")
    assert view.tell(walks).alt.startswith(f"{surface}, from (-1.7, 1.2), lr 0.001, momentum 0.9: ")
    assert len(walks.losses["Adam"]) == STEPS + 1


def test_beyond_the_frame_the_slice_is_unknown(view):
    walks = walked(view, surface="slice of LeNet-300-100", lr=1.0, momentum=0.97)
    lost = [name for name in walks.places if not np.isfinite(walks.losses[name][-1])]
    assert lost
    assert all(ending(walks, name) == f"diverged, out at step {walks.left(name)}" for name in lost)
    assert surface_of("slice of LeNet-300-100", 1, 0)(torch.zeros(2, dtype=torch.float64)) < 0.2


def test_the_panel_moves_and_shows_errors_in_words(monkeypatch):
    panel = explore.optimizers()
    before = panel.live.png
    panel.controls["lr"].value = 0.15
    assert panel.live.png != before
    assert "lr 0.15" in panel.live.alt
    panel.controls["show momentum"].value = False
    assert "3 optimizers" in panel.live.status
    monkeypatch.setattr("labkit.explore._optimizers.paths", lambda *a: 1 / 0)
    panel.controls["x"].value = 1.0
    assert panel.live.status == "⚠ ZeroDivisionError: division by zero"


# the race

RACE = dict(optimizer="momentum", lr=0.1, size="few images, 25 passes", seed=1)


def raced(view, overtaken=lambda: False, **settings):
    shown = []
    view.train(RACE | settings, shown.append, overtaken)
    return shown


@pytest.mark.parametrize("name", ["momentum", "AMSGrad"])
def test_a_race_is_fits_own_run(mine, conv, digits, name):
    view = Race(mine)
    last = raced(view, optimizer=name, lr=0.01)[-1]
    how = dict(epochs=PASSES, batch_size=BATCH, seed=1, progress=False)
    expected, _ = lk.fit(fresh(conv, 1), digits.train, lr=0.01, optimizer=TORCHS[name], **how)
    assert last.run.score.correct == lk.accuracy(expected, digits.validation)["correct"]
    assert last.smaller["accuracy_90_sparse"] == lk.accuracy(lk.prune(expected, 0.9), digits.validation)["accuracy"]
    assert last.smaller["accuracy_3_bits"] == lk.accuracy(lk.quantize(expected, 3), digits.validation)["accuracy"]
    view.draw(last)
    cards = dict((label, value) for label, value, _ in view.tell(last).cards)
    assert cards["accuracy"] == f"{last.run.score.accuracy:.2%}"
    assert cards["at 90 % zeros"] == f"{last.smaller['accuracy_90_sparse']:.1%}"
    assert view.tell(last).status == "trained: 300 steps; scored on all 300 validation images"


def test_a_race_that_is_overtaken_leaves_no_ghost_and_ended_ones_stay(mine):
    view = Race(mine)
    raced(view, overtaken=lambda: True)
    assert not view._ended
    for seed in range(GHOSTS + 2):
        raced(view, seed=seed, size="all images, 1 pass")
    (racer,) = view.results(**RACE | dict(seed=0, size="all images, 1 pass"))
    assert [ghost.run.label[-1] for ghost in racer.ghosts] == ["2", "3", "4", "5"]
    assert next(view.results(**RACE)).ghosts == ()  # on few images nothing has ended


def test_a_race_that_learns_nothing_or_diverges_says_so(mine):
    view = Race(mine)
    last = raced(view, optimizer="SGD", lr=1e-9, size="all images, 1 pass")[-1]
    assert "; it learns nothing: guessing has a loss of 2.30; scored on all 300" in view.tell(last).status
    wild = raced(view, optimizer="momentum", lr=1e30)[-1]
    view.draw(wild)
    assert wild.run.diverged
    assert view.tell(wild).status.startswith("diverged: the loss is ")
    assert view.tell(wild).cards[2][1] == "–"


def test_torchs_default_learning_rates_are_what_we_say():
    for name, build in TORCHS.items():
        assert build([torch.zeros(1, requires_grad=True)]).defaults["lr"] == DEFAULT_LR[name]
