"""The panel of notebook 10b: what it measures is what `compose` gives, one-shot and trained."""

import itertools
from dataclasses import replace

import pytest

import labkit as lk
from labkit import explore
from labkit.compress.compose import STEPS, compose
from labkit.compress.magnitude import masks_of
from labkit.sweep import shipped_sweep
from labkit.topics.order_matters.experiment import EPOCHS, ORDERS, POINTS
from labkit.topics.order_matters.panel import MENU, Order, place, stage, swapped_order, told

LENET = ("lenet-300-100", "mnist")


def last(results):
    *_, result = results
    return result


def settings(*steps, sparsity=0.85, bits=3):
    return dict(order=", ".join(steps) or "fine-tune", sparsity=sparsity, bits=bits)


def trained(view, **how):
    shown: list = []
    view.train(how, shown.append, lambda: False)
    return shown


def shown_bars(view):
    return [bar.get_width() for bar in view.bars]


@pytest.mark.parametrize(
    "steps", [*itertools.permutations(STEPS), ("quantize", "prune"), ("distil",), ()], ids=", ".join
)
def test_a_point_is_what_labkit_measures(conv, digits, mine, steps):
    view = Order(mine)
    point = last(view.results(**settings(*steps)))
    small, _ = compose(conv, digits.train, steps, sparsity=0.85, bits=3, epochs=0)
    assert point.score.correct == lk.accuracy(small, digits.validation)["correct"]
    assert point.size_bytes == len(lk.encode(small))
    zeros = {name: 1 - float(mask.float().mean()) for name, mask in masks_of(small).items()}
    assert point.facts.zeros == pytest.approx(zeros)
    view.draw(point)
    assert shown_bars(view) == pytest.approx(list(zeros.values()))
    assert (view.star.star.get_xdata()[0], view.star.star.get_ydata()[0]) == place(point)


def test_the_menu_has_every_order_once_and_reads_as_a_sentence(mine):
    assert sorted(MENU) == sorted(ORDERS)
    assert MENU[:2] == ["prune, quantize", "quantize, prune"]
    texts = [told(order) for order in ("prune, quantize", "distil, quantize, prune", "quantize", "fine-tune")]
    assert texts == ["prune, then quantize", "distil, quantize, then prune", "quantize only", "fine-tune only"]
    offered = Order(mine).controls()["order"]
    assert offered.stops == [(told(order), order) for order in MENU]


def test_prune_and_quantize_change_places():
    assert swapped_order("prune, quantize") == "quantize, prune"
    assert swapped_order("distil, quantize, prune") == "distil, prune, quantize"
    assert [o for o in ORDERS if swapped_order(o)] == [o for o in ORDERS if "prune" in o and "quantize" in o]


def test_the_other_order_is_measured_beside_this_one(digits, mine):
    view = Order(mine)
    point = last(view.results(**settings("distil", "quantize", "prune", bits=1)))
    other = lk.quantize(lk.prune(mine.model, 0.85), 1)
    accuracy, differ = point.facts.swap
    assert accuracy == lk.accuracy(other, digits.validation)["accuracy"]
    small = lk.prune(lk.quantize(mine.model, 1), 0.85)
    assert differ == sum(int((small[i].weight != other[i].weight).sum()) for i in (0, 3, 6)) > 0
    words = view.summarize(point)
    assert f"{accuracy:.2%} (this: {point.score.accuracy:.2%} · {differ:,} differ)" in words.alt
    found = f"{point.score.accuracy:.1%}; swapped: {accuracy:.1%}"
    assert words.title == f"distil, quantize, then prune, one-shot: {found}"


def test_where_the_order_makes_no_difference_it_says_so(mine):
    view = Order(mine)
    point = last(view.results(**settings("prune", "quantize", sparsity=0.0)))
    assert point.facts.swap == (point.score.accuracy, 0)
    assert "the same, weight for weight" in view.summarize(point).alt
    assert view.summarize(point).title.endswith("swapped: the same network, weight for weight")
    alone = last(view.results(**settings("prune", "distil")))
    assert alone.facts.swap is None
    assert "needs a prune and a quantize" in view.summarize(alone).alt


@pytest.mark.parametrize(
    ("steps", "idle"),
    [(("prune",), ["bits"]), (("distil", "quantize"), ["sparsity"]), (("distil",), ["bits", "sparsity"]),
     (("quantize", "prune"), [])],
    ids=str,
)  # fmt: skip
def test_what_is_not_done_has_no_amount(conv, digits, mine, steps, idle):
    view, how = Order(mine), settings(*steps)
    assert sorted(view.idle(how)) == idle
    panel = explore.order(conv, digits)
    panel.controls["order"].value = how["order"]
    assert sorted(name for name, at in panel.frame["places"].items() if at["disabled"]) == idle
    one, other = (last(view.results(**how | dict(sparsity=s, bits=b))) for s, b in ((0.3, 2), (0.9, 1)))
    assert (one.settings == other.settings) == (len(idle) == 2)
    for name, values in (("sparsity", (0.3, 0.9)), ("bits", (1, 8))):
        points = [last(view.results(**how | {name: value})) for value in values]
        assert (place(points[0]) == place(points[1])) == (name in idle)


def test_the_training_streams_and_ends_as_compose_does(digits, mine, every_step):
    view, steps = Order(mine), ("prune", "distil", "quantize")
    shown = trained(view, **settings(*steps))
    end = shown[-1]
    how = dict(sparsity=0.85, bits=3, epochs=EPOCHS)
    small, _ = compose(mine.model, digits.train, steps, **how, progress=False)
    assert end.size_bytes == len(lk.encode(small))
    assert end.score.correct == lk.accuracy(small, digits.validation)["correct"]
    assert (end.training, end.score.settled) == (1.0, True)
    assert [p.training for p in shown] == sorted(p.training for p in shown)

    def step(point):
        return steps[stage(point.training, 3)]

    assert list(dict.fromkeys(step(p) for p in shown)) == list(steps)
    rounded = [p for p in shown if step(p) == "quantize"]  # each a network of its own: integers are made anew
    assert all(p.size_bytes == len(lk.encode(p.model)) for p in rounded[:: len(rounded) // 3])
    assert max(p.size_bytes for p in rounded) < min(p.size_bytes for p in shown if step(p) != "quantize")
    assert [stage(k / 3, 3) for k in range(4)] == [0, 0, 1, 2]
    assert [at for _, at in end.facts.path] == [place(p) for p in shown]
    assert [steps[number] for number, _ in end.facts.path] == [step(p) for p in shown]
    assert place(end.facts.one_shot) == place(last(Order(mine).results(**settings(*steps))))
    words = view.summarize(end)
    assert words.status.startswith("trained: 6 epochs of 1,197 images")
    assert words.progress is None
    halfway = view.summarize(shown[len(shown) // 2])
    assert halfway.status.endswith("now distil; scored on all 300 validation images")
    assert halfway.progress == shown[len(shown) // 2].training


def test_the_way_goes_from_the_dense_network_to_the_end_with_an_arrow_for_each_step(mine, every_step):
    view = Order(mine)
    end = trained(view, **settings("quantize", "prune"))[-1]
    view.draw(end)
    way, *arrows = view.way
    places = list(zip(*way.get_data(), strict=True))
    assert places[0] == (mine.size_bytes, mine.score.accuracy)
    assert places[-1] == place(end)
    assert (view.star.trained.get_xdata()[0], view.star.trained.get_ydata()[0]) == place(end)
    assert (view.star.star.get_xdata()[0], view.star.star.get_ydata()[0]) == place(end.facts.one_shot)
    assert [arrow.get_visible() for arrow in arrows] == [True, True, False]
    first = [number for number, _ in end.facts.path].index(1)
    for arrow, i in zip(arrows, (0, first), strict=False):
        a, b = view.plane.transData.transform(places[i : i + 2])
        middle = view.plane.transData.transform([arrow.get_xdata()[0], arrow.get_ydata()[0]])
        assert middle == pytest.approx((a + b) / 2)
    view.draw(last(view.results(**settings("prune"))))
    assert not len(view.way[0].get_xdata())
    assert not any(arrow.get_visible() for arrow in view.way[1:])


def test_a_training_that_has_ended_is_shown_again(mine):
    view = Order(mine)
    end = trained(view, **settings("prune"))[-1]
    assert list(view.results(**settings("prune", bits=8))) == [end]  # bits make no difference
    assert trained(view, **settings("prune")) == []
    assert last(view.results(**settings("prune", sparsity=0.5))).training is None


def test_earlier_compositions_stay_until_they_are_shown_again(mine):
    view = Order(mine)
    ends = [trained(view, **settings(*steps))[-1] for steps in (("quantize", "prune"), ("prune", "quantize"), ())]
    view.draw(ends[2])
    best = sorted(ends[:2], key=lambda end: -end.score.accuracy)
    texts = [row.get_text() for row in view.rows]
    assert texts[0].startswith("fine-tune: ")
    for end, text, ghost in zip(best, texts[1:], view.ghosts, strict=False):
        order = end.settings.order.replace("quantize", "quant").replace(", ", " → ")
        assert text.startswith(f"{order}, 85%, 3 bit: {end.score.accuracy:.1%}")
        assert (ghost.get_xdata()[0], ghost.get_ydata()[0]) == place(end)
    assert texts[3:] == ["", ""]
    assert not len(view.ghosts[2].get_xdata())
    view.draw(last(view.results(**settings("quantize", "prune"))))
    assert [row.get_text()[:8] for row in view.rows[1:3]] == ["fine-tun", "prune → "]


def test_an_overtaken_training_is_not_kept(mine):
    view, shown, asked = Order(mine), [], []

    def overtaken():
        asked.append(0)
        return len(asked) > 3

    view.train(settings("prune"), shown.append, overtaken)
    assert all(point.training < 1 for point in shown)
    assert view.ended == []


def test_a_move_ends_the_measuring_of_a_training_too(mine, every_step, monkeypatch):
    view, shown, measured = Order(mine), [], []
    scored = view.measured

    def watched(*args, training=None, **more):
        measured.append(training)
        return scored(*args, training=training, **more)

    monkeypatch.setattr(view, "measured", watched)
    view.train(settings("prune"), shown.append, lambda: bool(measured and measured[-1]))
    assert len(measured) == 2  # one-shot, and the first picture of the training
    assert shown == []


def test_the_measured_lines_are_those_of_the_chosen_order_and_the_exchanged_one():
    view, table = Order(), shipped_sweep("order", *LENET)
    for steps, other in (("quantize, prune", "prune, quantize"), ("prune, distil, quantize", "quantize, distil, prune"),
                         ("fine-tune", "")):  # fmt: skip
        view.draw(last(view.results(order=steps, sparsity=0.95, bits=3, checkpoint=LENET)))
        lines = {line.get_label(): line for line in view.plane.lines}
        for order in filter(None, (steps, other)):
            rows = table[table["steps"] == order].groupby("bits")[["size_bytes", "accuracy"]].mean()[::-1]
            line = lines[order.replace(", ", " → ")]
            assert line.get_xdata() == pytest.approx(rows["size_bytes"].to_numpy())
            assert line.get_ydata() == pytest.approx(rows["accuracy"].to_numpy())
        assert sum("→" in label for label in lines) == 2 * bool(other)


def test_a_measured_composition_can_be_pointed_at_and_gone_to():
    view, table = Order(), shipped_sweep("order", *LENET)
    view.draw(last(view.results(**settings("quantize", "prune"), checkpoint=LENET)))
    points = {(to["order"], to["bits"]): (words, to) for *_, words, to in view.live.hot()}
    assert len(points) == table[["steps", "bits"]].drop_duplicates().shape[0]
    words, to = points["quantize, prune", 3]
    rows = table[(table["steps"] == "quantize, prune") & (table["bits"] == 3)]
    assert words.startswith(f"quant → prune, 95%, 3 bit: {rows['accuracy'].mean():.1%}")
    assert to["sparsity"] == POINTS[3]
    controls = view.controls()
    for _, to in points.values():
        for name, value in to.items():
            controls[name].value = value


def test_the_picture_follows_every_control_and_the_words_state_it(mine):
    view, pictures = Order(mine), []
    for one in (settings("prune"), settings("quantize"), settings("quantize", bits=2), settings("prune", sparsity=0.5)):
        point = last(view.results(**one))
        view.draw(point)
        words = view.summarize(point)
        assert view.star.star.get_xdata()[0] == point.size_bytes
        assert f"{point.score.accuracy:.2%}" in words.alt
        assert words.status.startswith("one-shot, nothing trained; scored on all 300 validation images")
        pictures.append(view.live.marks())
    assert all(one != other for one, other in itertools.combinations(pictures, 2))


@pytest.mark.parametrize("steps", [("quantize", "prune"), ("prune", "distil")], ids=", ".join)
def test_the_code_gives_what_the_panel_shows(conv, digits, mine, steps):
    view, how = Order(mine), settings(*steps)
    end, known = trained(view, **how)[-1], dict(model=conv, data=digits)
    *lines, scored = view.code(how).splitlines()
    exec("\n".join(lines), known)  # noqa: S102 - our own
    assert eval(scored, known) == (end.score.accuracy, end.size_bytes)  # noqa: S307


def test_the_code_loads_the_network_that_is_in_use():
    lines = Order().code(settings("prune", "quantize") | dict(checkpoint=("lenet-5", "mnist"))).splitlines()
    assert 'lk.load_model("lenet-5", "mnist"), lk.load_data("mnist")' in lines[1]
    assert "take(data.train, 10000)" in lines[2]


def test_a_panel_trains_by_itself_and_its_scenes_can_be_had(conv, digits):
    panel = explore.order(conv, digits, "prune first")
    assert panel.settings() == dict(order="prune, quantize", sparsity=0.95, bits=3)
    assert panel.status.startswith("trained: 6 epochs of 1,197 images")
    for scene in Order.scenes.values():
        replace(panel.view.settings_type(), **scene)
        for name, value in scene.items():
            panel.controls[name].value = value
