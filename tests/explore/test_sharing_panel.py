"""The panel of notebook 02b: its figures against labkit's own, colours against nearest centroids, the button."""

import copy

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

import labkit as lk
from labkit import explore
from labkit.compress.codebook import k_means, share
from labkit.compress.quantize import choose_grid, fake_quantize
from labkit.explore._sharing import COLOURS, EPOCHS, Sharing, levels, shared_points
from labkit.explore._start import shipped

LENET = ("lenet-300-100", "mnist")


def last(results):
    *_, result = results
    return result


def point_of(dense, **changed):
    return last(shared_points(dense, **(dict(layer="3.weight", bits=2, init="linear", sparsity=0.0) | changed)))


@pytest.mark.parametrize(("bits", "init", "sparsity"), [(1, "linear", 0.0), (3, "density", 0.6), (8, "random", 0.9)])
def test_a_point_is_what_labkit_measures(conv, digits, mine, bits, init, sparsity):
    small = share(lk.prune(conv, sparsity), bits, init=init)
    point, expected = point_of(mine, bits=bits, init=init, sparsity=sparsity), lk.accuracy(small, digits.validation)
    assert point.size_bytes == len(lk.encode(small))
    assert (point.score.correct, point.score.images) == (expected["correct"], 300)
    assert point.left[0] == sum(int((small[i].weight != 0).sum()) for i in (0, 3, 6))
    kept = lk.prune(conv, sparsity)[3].weight.detach()
    assert point.codebook.equal(k_means(kept[kept != 0], 2**bits, init))
    rms = (small[3].weight - kept).detach().square().mean().sqrt() / kept.std(correction=0)
    assert point.error["3.weight"] == pytest.approx(float(rms), rel=1e-4)


def test_each_bar_has_the_colour_of_its_nearest_centroid_and_the_lines_are_the_centroids(mine):
    view, point = Sharing(mine), point_of(mine, bits=2)
    view.draw(point)
    centres, centroids = np.asarray(view.centres), point.codebook.numpy()
    nearest = np.abs(centres[:, None] - centroids).argmin(1)
    assert np.allclose(view.bins.get_facecolor()[:, :3], [to_rgb(COLOURS[i]) for i in nearest])
    assert [segment[0][0] for segment in view.lines.get_segments()] == pytest.approx(centroids.tolist())
    shown = [segment[0][0] for segment in view.levels.get_segments()]
    weight = mine.model[3].weight.detach()
    assert set(fake_quantize(weight, choose_grid(weight, 2)).flatten().tolist()) <= set(np.float32(shown).tolist())
    assert [bar.get_width() for bar in view.bars] == pytest.approx(list(point.error.values()))


def test_the_levels_of_a_grid():
    x = torch.tensor([-1.0, 0.5])
    assert levels(choose_grid(x, 2)) == pytest.approx([-4 / 3, -2 / 3, 0, 2 / 3])
    assert levels(choose_grid(x, 1)) == pytest.approx([-0.75, 0.75])


def test_the_words_state_the_figures(mine):
    point = point_of(mine, sparsity=0.5)
    words = Sharing(mine).tell(point)
    cards = {label: value for label, value, _ in words.cards}
    assert cards["accuracy"] == f"{point.score.accuracy:.2%}"
    assert cards["file"] == f"{point.size_bytes:,} B"
    assert cards["error of 3"] == f"{point.error['3.weight']:.1%}"
    assert "2 bits of shared values, linear start, sparsity 50%" in words.alt
    assert words.status == "scored on all 300 validation images"


def test_the_button_trains_centroids_and_leaves_the_colours(mine):
    view, shown = Sharing(mine), []
    settings = dict(layer="3.weight", bits=1, init="linear", sparsity=0.3)
    before = copy.deepcopy(mine.model.state_dict())
    view.train(settings, shown.append, lambda: False)
    end = shown[-1]
    assert (end.training, end.score.settled) == (1.0, True)
    assert not end.codebook.equal(end.start)
    assert [p.training for p in shown] == sorted(p.training for p in shown)
    view.draw(point_of(mine, **settings))
    colours = view.bins.get_facecolor().copy()
    view.draw(end)
    assert np.array_equal(view.bins.get_facecolor(), colours)
    assert [s[0][0] for s in view.lines.get_segments()] == pytest.approx(end.codebook.tolist())
    assert view.trained.get_xdata() == [end.size_bytes]
    assert f"100% of {EPOCHS} epochs trained" in view.tell(end).status
    assert all(v.equal(before[k]) for k, v in mine.model.state_dict().items())
    stopped = []
    view.train(settings, stopped.append, lambda: True)
    assert stopped[-1].codebook.equal(end.start)


def test_the_panel_opens_on_the_shipped_and_on_ones_own_network(conv, digits):
    panel = explore.sharing(conv, digits)
    assert set(panel.settings()) == {"bits", "init", "sparsity", "layer"}
    assert panel.live.status == "scored on all 300 validation images"
    panel.controls["bits"].value = 1
    assert "1 bits of shared values" in panel.live.alt
    shipped_panel = explore.sharing()
    assert shipped(LENET).name in shipped_panel.live.alt
    assert shipped_panel.live.png[:4] == b"\x89PNG"
    panel.close_all()
    shipped_panel.close_all()


def test_a_layer_that_is_pruned_away_is_drawn_empty(mine):
    view = Sharing(mine)
    point = point_of(mine, sparsity=0.99, layer="0.weight")
    view.draw(point)
    assert len(view.lines.get_segments()) == len(point.codebook)
    assert view.live.png()[:4] == b"\x89PNG"
