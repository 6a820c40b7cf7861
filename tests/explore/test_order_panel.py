"""The panel of notebook 10b: what it measures is what `compose` gives, in one go and trained."""

import itertools
from dataclasses import replace

import pytest

import labkit as lk
from labkit import plots
from labkit.compress.compose import STEPS, compose
from labkit.compress.magnitude import masks_of
from labkit.explore._order import Order, stage, swapped
from labkit.sweep import shipped_sweep
from labkit.sweep.order import EPOCHS


def last(results):
    *_, result = results
    return result


def settings(*steps, sparsity=0.85, bits=3):
    first, second, third = [*steps, "", "", ""][:3]
    return dict(first=first, second=second, third=third, sparsity=sparsity, bits=bits)


@pytest.mark.parametrize(
    "steps", [*itertools.permutations(STEPS), ("quantize", "prune"), ("distil",), ()], ids=", ".join
)
def test_a_point_is_what_labkit_measures(conv, digits, mine, steps):
    point = last(Order(mine).results(**settings(*steps)))
    small, _ = compose(conv, digits.train, steps, sparsity=0.85, bits=3, epochs=0)
    assert point.steps == steps
    assert point.score.correct == lk.accuracy(small, digits.validation)["correct"]
    assert point.size_bytes == len(lk.encode(small))
    zeros = {name: 1 - float(mask.float().mean()) for name, mask in masks_of(small).items()}
    assert point.zeros == pytest.approx(zeros)


def test_nothing_in_between_is_no_step(mine):
    assert last(Order(mine).results(**settings("prune", "", "quantize"))).steps == ("prune", "quantize")


def test_the_other_order_is_measured_beside_this_one(digits, mine):
    view = Order(mine)
    point = last(view.results(**settings("distil", "quantize", "prune", bits=1)))
    other = lk.quantize(lk.prune(mine.model, 0.85), 1)
    assert point.swap.accuracy == lk.accuracy(other, digits.validation)["accuracy"]
    small = lk.prune(lk.quantize(mine.model, 1), 0.85)
    differ = sum(int((small[i].weight != other[i].weight).sum()) for i in (0, 3, 6))
    assert point.swap.differ == differ > 0
    assert f"{differ:,} differ" in view.tell(point).alt


def test_where_the_order_makes_no_difference_it_says_so(mine):
    view = Order(mine)
    point = last(view.results(**settings("prune", "quantize", sparsity=0.0)))
    assert point.swap.differ == 0
    assert point.swap.accuracy == point.score.accuracy
    assert "the same, weight for weight" in view.tell(point).alt
    alone = last(view.results(**settings("prune", "distil")))
    assert swapped(alone) is None
    assert "needs a prune and a quantize" in view.tell(alone).alt


def test_the_training_streams_and_ends_as_compose_does(digits, mine, every_step):
    view, shown = Order(mine), []
    view.train(settings("prune", "distil", "quantize"), shown.append, lambda: False)
    end = shown[-1]
    how = dict(sparsity=0.85, bits=3, epochs=EPOCHS)
    small, _ = compose(mine.model, digits.train, ("prune", "distil", "quantize"), **how, progress=False)
    assert end.size_bytes == len(lk.encode(small))
    assert end.score.correct == lk.accuracy(small, digits.validation)["correct"]
    assert (end.training, end.score.settled) == (1.0, True)
    assert [p.training for p in shown] == sorted(p.training for p in shown)
    assert list(dict.fromkeys(stage(p) for p in shown)) == ["prune", "distil", "quantize"]
    rounded = [p for p in shown if stage(p) == "quantize"]  # each a network of its own: integers are made anew
    assert all(p.size_bytes == len(lk.encode(p.model)) for p in rounded[:: len(rounded) // 3])
    assert max(p.size_bytes for p in rounded) < min(p.size_bytes for p in shown if stage(p) != "quantize")
    assert [stage(replace(end, training=k / 3)) for k in range(4)] == ["prune", "prune", "distil", "quantize"]
    assert end.path == (*(p.place for p in shown if p.training < 1), end.place)
    assert end.one_shot == last(view.results(**settings("prune", "distil", "quantize"))).place
    assert view.tell(end).status.startswith("trained: 6 epochs of 1,197 images")
    assert view.tell(shown[len(shown) // 2]).status.endswith("now distil; scored on all 300 validation images")


def test_earlier_compositions_stay_until_they_are_trained_again(mine):
    view, pictures = Order(mine), []
    for steps in (("quantize", "prune"), ("prune", "quantize")):
        shown: list = []
        view.train(settings(*steps), shown.append, lambda: False)
        view.draw(shown[-1])
        pictures.append(view.live.png())
    (ghost,) = shown[-1].ghosts
    assert ghost.steps == ("quantize", "prune")
    assert view.ghosts[0].get_xdata()[0] == ghost.size_bytes
    assert view.rows[1].get_text().startswith("quant → prune, 85%, 3 bit: ")
    assert pictures[0] != pictures[1]
    again = last(view.results(**settings("quantize", "prune")))
    assert [ghost.steps for ghost in again.ghosts] == [("prune", "quantize")]


def test_an_overtaken_training_leaves_no_ghost(mine):
    view, shown, asked = Order(mine), [], []

    def overtaken():
        asked.append(0)
        return len(asked) > 3

    view.train(settings("prune"), shown.append, overtaken)
    assert all(point.training < 1 for point in shown)
    assert last(view.results(**settings("quantize"))).ghosts == ()


def test_a_move_ends_the_measuring_of_a_training_too(mine, monkeypatch):
    monkeypatch.setattr("labkit.explore._order.FRAME", 0)
    view, shown, measured = Order(mine), [], []
    scored = view.results.__globals__["described"]

    def described(base, small):
        measured.append(base.training)
        return scored(base, small)

    monkeypatch.setattr("labkit.explore._order.described", described)
    view.train(settings("prune"), shown.append, lambda: bool(measured and measured[-1]))
    assert shown == []


def test_the_measured_line_is_that_of_the_chosen_steps():
    view, key, table = Order(), ("lenet-300-100", "mnist"), shipped_sweep("order", "lenet-300-100", "mnist")
    for steps in (("quantize", "prune"), ("prune", "distil", "quantize"), ()):
        point = last(view.results(**settings(*steps), checkpoint=key))
        view.draw(point)
        rows = table[table["steps"] == point.name].groupby("bits")[["size_bytes", "accuracy"]].mean()[::-1]
        assert view.measured.get_xdata() == pytest.approx(rows["size_bytes"].to_numpy())
        assert view.measured.get_ydata() == pytest.approx(plots.logit(rows["accuracy"].to_numpy()))


def test_the_picture_follows_every_control_and_the_words_state_it(mine):
    view, pictures = Order(mine), set()
    for one in (settings("prune"), settings("quantize"), settings("quantize", bits=2), settings("prune", sparsity=0.5)):
        point = last(view.results(**one))
        view.draw(point)
        words = view.tell(point)
        assert view.star.get_xdata()[0] == point.size_bytes
        assert f"{point.score.accuracy:.2%}" in words.alt
        assert words.status.startswith("in one go, nothing trained; scored on all 300 validation images")
        pictures.add(view.live.png())
    assert len(pictures) == 4
