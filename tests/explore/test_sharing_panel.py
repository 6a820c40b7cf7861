"""The panel of notebook 02b: its figures against labkit's own, colours against nearest centroids, the button."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import labkit as lk
from labkit import explore
from labkit.compress.codebook import k_means, share_weights
from labkit.compress.grid import choose_grid, fake_quantize
from labkit.live.baseline import shipped
from labkit.topics.shared_weights.panel import Sharing, levels, means
from labkit.topics.shared_weights.plots import COLOURS
from tests.waiting import until

LENET = ("lenet-300-100", "mnist")


def last(results):
    *_, result = results
    return result


def point_of(dense, **changed):
    return last(Sharing(dense).results(**(dict(layer="3.weight", bits=2, init="linear", sparsity=0.0) | changed)))


def places(line):
    """The positions of a line's strokes."""
    return line.get_xdata()[::3].tolist()


def colour_at(view):
    """The index of each bin's colour; -1 for an empty bin."""
    heights = np.stack([bins.get_data().values for bins in view.bins])
    drawn = np.isfinite(heights)
    assert (drawn.sum(0) <= 1).all()
    return np.where(drawn.any(0), drawn.argmax(0), -1), np.nansum(heights, 0)


@pytest.mark.parametrize(("bits", "init", "sparsity"), [(1, "linear", 0.0), (3, "density", 0.6), (8, "random", 0.9)])
def test_a_point_is_what_labkit_measures(conv, digits, mine, bits, init, sparsity):
    small = share_weights(lk.prune(conv, sparsity), bits, init=init)
    point, expected = point_of(mine, bits=bits, init=init, sparsity=sparsity), lk.accuracy(small, digits.validation)
    assert point.size_bytes == len(lk.encode(small))
    assert (point.score.correct, point.score.images) == (expected["correct"], 300)
    assert point.left[0] == sum(int((small[i].weight != 0).sum()) for i in (0, 3, 6))
    kept = lk.prune(conv, sparsity)[3].weight.detach()
    facts = point.facts
    assert facts.codebook.equal(k_means(kept[kept != 0], 2**bits, init))
    assert facts.start.numpy() == pytest.approx(facts.codebook.numpy(), abs=1e-6)
    rms = (small[3].weight - kept).detach().square().mean().sqrt() / kept.std(correction=0)
    assert facts.error["3.weight"] == pytest.approx(float(rms), rel=1e-4)
    on_grid = (fake_quantize(kept, choose_grid(kept, bits)) - kept).square().mean().sqrt() / kept.std(correction=0)
    assert facts.grid_error == pytest.approx(float(on_grid), rel=1e-4)


def test_each_bar_has_the_colour_of_its_nearest_centroid_and_the_lines_are_the_centroids(mine):
    view, point = Sharing(mine), point_of(mine, bits=3)
    view.draw(point)
    weight, centroids = mine.model[3].weight.detach(), point.facts.codebook.numpy()
    edges = view.edges.numpy()
    counts, _ = np.histogram(weight.numpy().flatten(), edges)
    nearest = np.abs(((edges[1:] + edges[:-1]) / 2)[:, None] - centroids).argmin(1)
    colours, heights = colour_at(view)
    assert heights**2 == pytest.approx(counts, abs=1e-4)
    assert len(centroids) > len(COLOURS)
    assert colours.tolist() == np.where(counts > 0, nearest % len(COLOURS), -1).tolist()
    assert places(view.lines) == pytest.approx(centroids.tolist())
    shown = places(view.levels)
    assert len(shown) == 8
    assert set(fake_quantize(weight, choose_grid(weight, 3)).flatten().tolist()) <= set(np.float32(shown).tolist())
    assert [bar.get_width() for bar in view.bars] == pytest.approx(list(point.facts.error.values()))


def test_the_levels_of_a_grid():
    x = torch.tensor([-1.0, 0.5])
    assert levels(choose_grid(x, 2)).tolist() == pytest.approx([-4 / 3, -2 / 3, 0, 2 / 3])
    assert levels(choose_grid(x, 1)).tolist() == pytest.approx([-0.75, 0.75])


def test_the_means_of_clusters():
    weight, indices = torch.tensor([[0.0, -3.0, -1.0], [4.0, 9.0, 0.0]]), torch.tensor([[0, 1, 1], [3, 4, 0]])
    assert means(weight, indices).tolist() == [-2, 4, 9]
    assert means(torch.zeros(4), torch.zeros(4, dtype=torch.int16)).tolist() == []


def test_pruning_leaves_the_axes_where_they_are(mine):
    view = Sharing(mine)
    view.draw(point_of(mine))
    still = view.live.still()
    view.draw(point_of(mine, sparsity=0.7))
    assert view.live.still() is still


def test_the_words_state_the_figures(mine):
    point = point_of(mine, sparsity=0.5)
    words = Sharing(mine).summarize(point)
    cards = {label: (value, note) for label, value, note in words.cards}
    assert cards["accuracy"][0] == f"{point.score.accuracy:.2%}"
    assert cards["file"][0] == f"{point.size_bytes:,} B"
    beside = f"rms / std · 4-level grid: {point.facts.grid_error:.1%}"
    assert cards["error of 3"] == (f"{point.facts.error['3.weight']:.1%}", beside)
    assert words.alt.startswith("Sequential, 2-bit codebooks, linear start, sparsity 50 %, shown: 3: ")
    assert words.status == "scored on all 300 validation images"


def test_the_button_trains_centroids_and_leaves_the_colours(mine):
    view, shown = Sharing(mine), []
    settings = dict(layer="3.weight", bits=1, init="linear", sparsity=0.3)
    before = copy.deepcopy(mine.model.state_dict())
    view.train(settings, shown.append, lambda: False)
    end, untrained = shown[-1], point_of(mine, **settings)
    assert (end.training, end.score.settled) == (1.0, True)
    assert end.facts.start.equal(untrained.facts.start)
    assert (end.facts.codebook - untrained.facts.codebook).abs().max() > 1e-3
    assert end.score.correct == lk.accuracy(end.model, mine.data.validation)["correct"]
    assert end.size_bytes == len(lk.encode(end.model))
    assert [p.training for p in shown] == sorted(p.training for p in shown)
    view.draw(untrained)
    colours, _ = colour_at(view)
    star = view.star.star.get_data()
    view.draw(end)
    assert colour_at(view)[0].tolist() == colours.tolist()
    assert places(view.lines) == pytest.approx(end.facts.codebook.tolist())
    assert view.star.star.get_data() == star
    assert view.star.trained.get_data() == ([end.size_bytes], [end.score.accuracy])
    assert f"100% of {Sharing.epochs} epochs trained" in view.summarize(end).status
    far = replace(end.facts, codebook=end.facts.codebook + 0.2)  # however far they go
    view.draw(replace(end, facts=far))
    assert colour_at(view)[0].tolist() == colours.tolist()
    assert all(v.equal(before[k]) for k, v in mine.model.state_dict().items())
    stopped = []
    view.train(settings, stopped.append, lambda: True)
    assert stopped[-1].facts.codebook.equal(untrained.facts.codebook)


def test_the_panel_opens_on_the_shipped_and_on_ones_own_network(conv, digits):
    panel = explore.sharing(conv, digits)
    assert set(panel.settings()) == {"bits", "init", "sparsity", "layer"}
    assert panel.status == "scored on all 300 validation images"
    panel.controls["bits"].value = 1
    assert "1-bit codebooks" in panel.alt
    shipped_panel = explore.sharing(preset="pruned first")
    assert shipped(LENET).name in shipped_panel.alt
    assert shipped_panel.settings()["sparsity"] == 0.8
    assert shipped_panel._repr_mimebundle_()[0]["image/png"][:4] == b"\x89PNG"


def test_a_layer_that_is_pruned_away_is_drawn_empty(mine):
    view = Sharing(mine)
    point = point_of(mine, sparsity=0.99, layer="0.weight")
    view.draw(point)
    assert len(places(view.lines)) == len(point.facts.codebook)
    assert (colour_at(view)[0] >= 0).sum() <= len(point.facts.values)
    assert view.live.marks()


@pytest.mark.parametrize("settings", [dict(bits=3), dict(bits=2, init="density", sparsity=0.8)])
def test_the_code_gives_the_figures(settings):
    panel = explore.sharing()
    panel.set(**settings)
    until(lambda: panel._past[-1] == panel.settings())
    names = {}
    exec(panel.frame["code"], names)  # noqa: S102
    accuracy = lk.accuracy(names["small"], names["data"].validation)["accuracy"]
    cards = {label: value for label, value, _ in panel.cards}
    assert cards["accuracy"] == f"{accuracy:.2%}"
    assert cards["file"] == f"{len(lk.encode(names['small'])):,} B"
    assert len(json.dumps(panel.frame)) < 10_000


def test_no_control_is_ever_idle(mine):
    """Each of them changes the file or, the menu of layers, the picture; so none is greyed out."""
    view = Sharing(mine)
    now = {name: control.value for name, control in view.controls().items()}
    for bits in (1, 8):
        at = now | dict(bits=bits)
        assert view.idle(at) == set()
        files = [
            lk.encode(last(view.results(**at | other)).model) for other in ({}, {"init": "random"}, {"sparsity": 0.5})
        ]
        assert len(set(files)) == 3


def test_measured_codebooks_lead_to_their_settings():
    """A click on one gives its accuracy again; one that the controls cannot set says so and does nothing."""
    panel = explore.sharing()
    points = [(words, settings) for _, _, words, settings in panel.picture["points"]]
    records = shipped(LENET).sweep("sharing")
    assert len(points) == len(records.groupby(["method", "bits"])) == 16
    there = [(words, settings) for words, settings in points if settings]
    assert [words.split(",")[0] for words, _ in there] == ["codebook"] * 4
    for words, settings in there[:2]:
        panel._handle_custom_msg({"do": "go", "settings": settings}, [])
        until(lambda s=settings: panel._past[-1] == panel.settings() == panel.settings() | s)
        assert panel.cards[0][1] in words
