"""The first panel of notebook 08: walks are torch.optim's own, divergence is drawn and reported."""

import numpy as np
import pytest
import torch

from labkit import explore
from labkit.optim import RULES, TORCHS
from labkit.surfaces import HALF_WIDTH, rosenbrock
from labkit.topics.optimizers.panel import EVERY as MARKED
from labkit.topics.optimizers.panel import Optimizers, ending
from labkit.topics.optimizers.runs import RATES, STEPS, SURFACES, surface_of

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
    line, dots = view.ways[name]
    np.testing.assert_allclose(np.stack(dots.get_data(), 1), walks.places[name][::MARKED])
    assert off_the_line(line, walks.places[name]) < 1  # point
    steps = np.stack([np.arange(STEPS + 1), np.clip(walks.losses[name], *view.curves.get_ylim())], 1)
    np.testing.assert_allclose(np.stack(view.lines[name][1].get_data(), 1), steps[::MARKED])
    assert off_the_line(view.lines[name][0], steps) < 1
    assert view.texts[name].get_text() == f"{name}: {ending(walks, name, short=True)}"
    assert f"; {name}: loss {walks.losses[name][-1]:.3g}" in view.summarize(walks).alt


def off_the_line(line, places):
    """The largest distance of a place from a drawn line, in points."""
    to_points = line.axes.transData.transform
    corners, places = to_points(np.stack(line.get_data(), 1)), to_points(places)
    from_, along = corners[:-1], np.diff(corners, axis=0)
    share = ((places[:, None] - from_) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    nearest = from_ + np.clip(share, 0, 1)[..., None] * along
    return np.linalg.norm(places[:, None] - nearest, axis=-1).min(1).max()


def test_divergence_is_drawn_at_the_edge_and_said(view):
    walks = walked(view, lr=0.15)
    assert walks.diverged("SGD")
    assert walks.left("SGD") == 1
    assert view.texts["SGD"].get_text() == "SGD: ✕ at step 1"
    assert np.stack(view.ways["SGD"][0].get_data(), 1) == pytest.approx(
        np.array([[-1.7, 1.2], [-1.445, -HALF_WIDTH]]), abs=0.01
    )
    assert len(view.ends["SGD"].get_xdata()) == 0
    assert [-1.445, -HALF_WIDTH] in np.round(np.stack(view.crosses.get_data(), 1), 6).tolist()
    assert view.lines["SGD"][1].get_ydata()[-1] == view.curves.get_ylim()[1]
    words = view.summarize(walks)
    assert words.cards[3] == ("diverged", "2", "SGD, Nesterov")
    assert words.title.endswith("; SGD and Nesterov diverged")
    assert "SGD: diverged, out at step 1" in words.alt


def test_the_limit_of_plain_descent_is_told_by_the_curvature(view):
    for condition, angle, lr, told in ((20, 0, 0.05, "below"), (50, 30, 0.05, "above"), (200, 45, 0.02, "above")):
        card = view.summarize(walked(view, condition=condition, angle=angle, lr=lr)).cards[2]
        assert card[:2] == ("2 ÷ curvature at the start", f"{2 / condition:.3g}")
        assert card[2].endswith(f"is {told} it")
    assert view.summarize(walked(view, surface="saddle", x=0.0, y=0.0)).cards[2][1] == "2"


def test_who_is_first_is_first_for_good(view):
    walks = walked(view)
    goal = walks.losses["SGD"][0] / 100
    since = {name: next(i for i in range(STEPS + 1) if (v[i:] <= goal).all()) for name, v in walks.losses.items()
             if v[-1] <= goal}  # fmt: skip
    best = min(since, key=since.get)
    label, value, note = view.summarize(walks).cards[1]
    assert (label, value) == ("first to stay below 1 %", best)
    assert note.startswith(f"from step {since[best]} on")


def test_only_ticked_optimizers_walk_and_none_is_fine(view):
    walks = walked(view, **dict.fromkeys(EVERY, False) | {"show Adam": True})
    assert list(walks.places) == ["Adam"]
    assert list(view.ways) == list(view.texts) == ["Adam"]  # the others are not on screen
    none = walked(view, **dict.fromkeys(EVERY, False))
    assert view.summarize(none).cards[0] == ("lowest at the end", "–", "tick an optimizer")
    assert view.ways == {}
    assert "nan" not in view.summarize(none).alt
    assert view.summarize(none).title == "tick an optimizer"
    assert view.code(SETTINGS) == ""


@pytest.mark.parametrize("surface", SURFACES)
def test_every_surface_is_drawn_and_told(view, surface):
    walks = walked(view, surface=surface, lr=0.001)
    assert view.live.pixels(72).size[0] > 500
    form = " κ 20, turned by 0°" if surface == "ravine" else ""
    assert view.summarize(walks).alt.startswith(f"{surface}{form}, from (-1.7, 1.2), lr 0.001, momentum 0.9: ")
    assert len(walks.losses["Adam"]) == STEPS + 1


def test_beyond_the_frame_the_slice_is_unknown(view):
    walks = walked(view, surface="slice of LeNet-300-100", lr=1.0, momentum=0.97)
    lost = [name for name in walks.places if not np.isfinite(walks.losses[name][-1])]
    assert lost
    assert all(ending(walks, name) == f"diverged, out at step {walks.left(name)}" for name in lost)
    assert surface_of("slice of LeNet-300-100", 1, 0)(torch.zeros(2, dtype=torch.float64)) < 0.2


@pytest.mark.parametrize("surface", SURFACES)
def test_the_code_walks_to_the_same_losses(view, surface):
    settings = SETTINGS | dict(
        surface=surface, lr=0.002, condition=50, angle=30, **{"show Adam": True, "show SGD": True}
    )
    (walks,) = view.results(**settings)
    *lines, last = view.code(settings).splitlines()
    known = {}
    exec("\n".join(lines), known)  # noqa: S102
    found = eval(last, known)  # noqa: S307
    assert found == {name: pytest.approx(walks.losses[name][-1]) for name in ("SGD", "Adam")}


def test_what_changes_nothing_is_idle(view):
    assert view.idle(SETTINGS | EVERY) == set()
    assert view.idle(SETTINGS | EVERY | dict(surface="saddle")) == {"condition", "angle"}
    assert view.idle(SETTINGS | EVERY | dict(condition=1)) == {"angle"}
    assert view.idle(SETTINGS | {"show SGD": True, "show Adagrad": True, "show RMSprop": True}) == {"momentum"}
    for idle, value in (("condition", 200), ("angle", 30)):
        one, other = (walked(view, surface="saddle", **more) for more in ({}, {idle: value}))
        assert all((one.places[name] == other.places[name]).all() for name in RULES)
    one, other = (walked(view, momentum=momentum) for momentum in (0.9, 0.5))
    assert {n for n in RULES if (one.places[n] == other.places[n]).all()} == {"SGD", "Adagrad", "RMSprop"}


def test_every_learning_rate_reads_differently():
    assert len({text for text, _ in explore.optimizers().controls["lr"].stops}) == len(RATES)


@pytest.mark.parametrize("scene", Optimizers.scenes)
def test_scenes_are_settings_that_the_controls_take(scene):
    panel = explore.optimizers(scene)
    assert panel.settings() | Optimizers.scenes[scene] == panel.settings()
    assert not panel.status.startswith("⚠")


def test_the_panel_moves_and_shows_errors_in_words(monkeypatch):
    panel = explore.optimizers()
    before = panel.frame["marks"]
    panel.controls["lr"].value = 0.15
    assert panel.frame["marks"] != before
    assert "lr 0.15" in panel.alt
    assert panel.frame["places"]["angle"]["disabled"] is False
    panel.controls["show momentum"].value = False
    assert "3 optimizers" in panel.status
    panel.controls["surface"].value = "saddle"
    assert panel.frame["places"]["angle"]["disabled"] is True
    monkeypatch.setattr("labkit.topics.optimizers.runs.paths", lambda *a: 1 / 0)
    panel.controls["x"].value = 1.0
    assert panel.status == "⚠ ZeroDivisionError: division by zero"
