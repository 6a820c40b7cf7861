"""The panel of notebook 05: what it shows of a search against a recomputation, and the search of its button."""

import numpy as np
import optuna
import pytest

from labkit import explore, store
from labkit.data import load_data
from labkit.frontier import frontier, hypervolume
from labkit.measure import accuracy
from labkit.search import search, trials
from labkit.sweep import shipped_sweep
from labkit.topics.hyperparameter_search import experiment as experiments
from labkit.topics.hyperparameter_search import plots
from labkit.topics.hyperparameter_search.panel import Search
from labkit.topics.hyperparameter_search.searches import DRAWS, draws, judged, optimism, shipped_rows

TRAINING = dict(what="training", sampler="tpe", images=200, trials=30)


def shown(view, **settings):
    (found,) = view.results(**settings)
    view.draw(found)
    return found, view.summarize(found)


def never():
    return False


# looking back at the search that ships


@pytest.mark.parametrize(("sampler", "n"), [("tpe", 30), ("random", 7), ("tpe, hyperband", 50), ("grid", 1)])
def test_the_cards_are_those_of_the_first_trials(sampler, n):
    found, words = shown(Search(), **TRAINING | dict(sampler=sampler, trials=n))
    table = shipped_sweep("search", "mlp", "fashion-mnist").query("sampler == @sampler and seed == 0").iloc[:n]
    best = table[table["state"] == "complete"].sort_values("accuracy", ascending=False, kind="stable").iloc[0]
    assert words.cards[0][1] == f"{best['accuracy']:.1%}"
    assert words.cards[1][1] == f"{best['fresh']:.1%}"
    assert words.cards[3][1] == f"lr {best['lr']:.2g}"
    assert words.cards[3][2].startswith(f"{best['optimizer']}, batch size {best['batch_size']}, width {best['width']},")
    assert words.cards[4][1] == f"{table['trained'].sum()}"
    assert len(found.seen) == len(table)
    assert best["optimizer"] in words.alt
    assert f"{best['accuracy']:.1%}" in words.alt


def test_what_the_networks_get_right_is_what_training_them_again_gives():
    rows = shipped_rows(("training", "random"))
    quick = min((row for row in rows if row["batch_size"] == 256), key=lambda row: row["width"])
    settings = {name: quick[name] for name in experiments.TRAINING}
    kept = {}
    objective = experiments.training_objective(load_data("fashion-mnist"), 200, keep=kept.__setitem__)
    record = objective(optuna.trial.FixedTrial(settings), **settings)
    assert record == {name: pytest.approx(quick[name]) for name in ("accuracy", "fresh")}
    assert (kept[0] != quick["right"]).mean() < 0.002  # sums in another order may tip an image or two


def test_judges_may_be_changed_without_training():
    rows = shipped_rows(("training", "grid"))
    again = judged(rows, 1_000)
    assert [row["accuracy"] for row in judged(rows, 200)] == pytest.approx([row["accuracy"] for row in rows])
    assert [row["accuracy"] for row in again] == [row["right"][:1_000].mean() for row in rows]
    assert [row["fresh"] for row in rows] == pytest.approx([row["right"][1_000:].mean() for row in rows])
    found, words = shown(Search(), **TRAINING | dict(sampler="grid", images=1_000))
    assert words.cards[0][1:] == (
        f"{max(r['accuracy'] for r in again):.1%}",
        "on the 1,000 images that it was chosen by",
    )


def test_optimism_is_that_of_a_loop_over_the_draws():
    rows = shipped_rows(("training", "random"))[:9]
    chosen, gaps = draws(5_000, 50).astype(bool), []
    assert chosen.sum(0).tolist() == [50] * DRAWS
    for draw in chosen.T:
        by = [row["right"][draw].mean() for row in rows]
        best = rows[int(np.argmax(by))]["right"]
        gaps.append(best[draw].mean() - best[~draw].mean())
    assert optimism(rows, 50) == pytest.approx(gaps, abs=1e-6)


def test_optimism_grows_with_the_trials_and_falls_with_the_judges():
    rows = shipped_rows(("training", "random"))
    one, few, many = (optimism(rows[:n], 50).mean() for n in (1, 5, 30))
    assert abs(one) < 0.02
    assert one < few < many
    assert optimism(rows, 1_000).mean() < many / 2


def test_recipes_are_chosen_by_their_size_among_those_that_keep_a_point_below_dense():
    found, words = shown(Search(), what="recipe", sampler="nsga2", images=200, trials=60)
    table = shipped_sweep("recipes", "lenet-300-100", "mnist").query("sampler == 'nsga2' and seed == 0")
    good = table[table["accuracy"] >= found.dense.score.accuracy - 0.01]
    smallest = good.sort_values("size_bytes", kind="stable").iloc[0]
    assert words.cards[2][1] == f"{smallest['size_bytes']:,.0f} B"
    assert words.cards[0][1] == f"{smallest['accuracy']:.1%}"
    assert words.cards[4][1] == f"{len(frontier(table))} of 60"
    assert f"{hypervolume(table, found.dense.size_bytes, 0.9):.3f}" in words.cards[4][2]


def trials_of(line):
    """The trials that a line with gaps joins."""
    points = line.get_xydata()
    parts = np.split(points, np.flatnonzero(np.isnan(points[:, 0])))
    return [part[1:] for part in parts if len(part) > 1]


def test_a_look_back_moves_curve_points_lines_and_bars():
    view = Search()
    shown(view, **TRAINING)
    assert view.samplers["tpe"].get_xydata()[-1][0] == 270
    found, _ = shown(view, **TRAINING | dict(trials=12))
    best = np.maximum.accumulate([row["accuracy"] for row in found.seen])
    drawn = view.samplers["tpe"].get_xydata()
    stairs = [drawn[drawn[:, 0] <= epochs][-1, 1] for epochs in 9 * np.arange(1, 13)]
    assert stairs == pytest.approx(best)
    assert len(view.later.get_xdata()) == 18
    lines = [trials_of(line) for line in view.lines]
    assert sum(len(grade) for grade in lines) == 12
    top = max(row["accuracy"] for row in found.seen)
    below = np.array([top - row["accuracy"] for row in found.seen])
    bounds = (below > 0.1 + 1e-9, (below > 0.02 + 1e-9) & (below <= 0.1 + 1e-9), below <= 0.02 + 1e-9)
    assert [len(grade) for grade in lines] == [int(mask.sum()) for mask in bounds]
    assert sum(bar.get_height() for bar in view.importance) == pytest.approx(1)
    assert [text.get_text() for text in view.shares] == [
        f"{bar.get_height():.0%}".replace("%", " %") for bar in view.importance
    ]
    best = found.chosen
    assert view.chosen.get_ydata()[-1] == pytest.approx((best["accuracy"] - 0.6) / 0.3)
    assert view.star.get_ydata()[0] == pytest.approx(best["accuracy"])
    assert view.samplers["random"].get_xydata()[-1][0] == 270
    shown(view, **TRAINING | dict(trials=3))
    assert sum(bar.get_height() for bar in view.importance) == 0
    assert view.shares[2].get_text() == "needs 8 complete trials"


@pytest.mark.parametrize(("what", "sampler", "lowest"), [("training", "tpe", 0.6), ("recipe", "nsga2", 0.5)])
def test_trials_below_the_axis_are_marked_at_its_edge(what, sampler, lowest):
    view = Search()
    found, _ = shown(view, **TRAINING | dict(what=what, sampler=sampler, trials=60))
    low = [row["accuracy"] < lowest for row in found.seen]
    assert 0 < sum(low) < len(low)
    assert list(view.below.get_ydata()) == [lowest] * sum(low)
    assert len(view.complete.get_xdata()) == len(low) - sum(low)
    assert view.curve.get_ylim()[0] == pytest.approx(lowest)
    assert f"below {100 * lowest:g} %" in [text.get_text() for text in view.curve.get_legend().get_texts()]


def test_trials_can_be_pointed_at_and_lead_back_to_what_was_known_then():
    panel = explore.search()
    rows = shipped_rows(("training", "tpe"))
    points = panel.picture["points"]
    assert len(points) == sum(row["accuracy"] >= 0.6 for row in rows)
    for *_, said, to in points:
        row = rows[to["trials"] - 1]
        assert said.startswith(
            f"trial {to['trials']}: {row['accuracy']:.1%} on 200 judges, {row['fresh']:.1%} on unseen"
        )
        assert said.endswith("seed 0, searched beforehand")
    panel._message(panel, {"do": "go", "settings": points[0][3]}, [])
    assert panel.controls["trials"].value == points[0][3]["trials"]


# searching


@pytest.fixture
def view(mine):
    return Search(mine)


HERE = dict(what="training", sampler="random", images=50, trials=3)


def test_a_search_in_the_panel_is_that_of_labkit(view, digits):
    seen = []
    view.train(HERE, seen.append, never)
    again = search(experiments.training_objective(digits, 50), experiments.TRAINING, trials=3, sampler="random", seed=1)
    table = trials(again)
    assert [len(found.rows) for found in seen] == [0, 1, 2, 3, 3]
    assert [row["accuracy"] for row in seen[-1].rows] == pytest.approx(table["accuracy"].tolist())
    assert [row["fresh"] for row in seen[-1].rows] == pytest.approx(table["fresh"].tolist())
    assert "1 of 3 trials done" in view.summarize(seen[1]).status
    assert (
        view.summarize(seen[-1]).status == "3 trials by random, each scored on all 50 judges and on 240 unseen images"
    )


def test_a_search_goes_on_where_it_stopped_and_then_begins_anew(view):
    counts = []

    def show(found):
        counts.append(len(found.rows))

    view.train(HERE, show, lambda: counts[-1:] == [2])
    assert counts[-1] == 2
    first = view.latest(("training", "random"))
    view.train(HERE, show, never)
    assert view.latest(("training", "random"))[:2] == first
    whole = Search(view.own)
    whole.train(HERE, lambda found: None, never)
    settings = list(experiments.TRAINING)
    told = [[row[name] for name in settings] for row in view.latest(("training", "random"))]
    assert told == [[row[name] for name in settings] for row in whole.latest(("training", "random"))]
    view.train(HERE, show, never)
    assert [[row[name] for name in settings] for row in view.latest(("training", "random"))] != told


def test_cancelling_stops_a_trial_on_its_way(view):
    asked = iter(range(10_000))
    view.train(HERE, lambda found: None, lambda: next(asked) >= 20)
    assert len(view.latest(("training", "random"))) < 3
    assert next(asked) < 25


@pytest.mark.parametrize("sampler", ["nsga2", "grid"])
def test_recipes_for_a_network_of_the_users_own(view, conv, digits, sampler):
    seen = []
    view.train(dict(what="recipe", sampler=sampler, images=50, trials=2), seen.append, never)
    view.draw(seen[-1])
    last = seen[-1].rows[-1]
    settings = {name: last[name] for name in experiments.RECIPE}
    small = experiments.recipe(conv, digits.train, **settings)
    assert last["size_bytes"] == len(store.encode(small))
    fresh = experiments.parts(digits, 60)[1]
    assert last["fresh"] == pytest.approx(accuracy(small, fresh)["accuracy"])
    assert last["bits"] in range(2, 9)


def test_without_trials_the_panel_says_what_to_press(view):
    found, words = shown(view, **HERE)
    assert found.rows == ()
    assert words.status == "no trials yet: press search"
    assert words.cards[0] == ("accuracy of the best", "–", "press search")
    _, words = shown(view, what="recipe", sampler="nsga2", images=50, trials=3)
    assert words.cards[0] == ("accuracy, smallest file", "–", "press search")


def test_the_last_search_stays_in_sight_until_the_new_one_has_a_trial(view):
    view.train(HERE, lambda found: None, never)
    first = view.latest(("training", "random"))
    seen = []
    view.train(HERE, seen.append, never)
    assert [len(found.rows) for found in seen] == [3, 1, 2, 3, 3]
    assert [row["lr"] for row in seen[0].rows] == [row["lr"] for row in first]
    assert view.summarize(seen[0]).status.startswith("searching, seed 2 …; until its first trial ends")
    assert [view.summarize(found).progress for found in seen] == [
        0,
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
        1,
        None,
    ]
    view.train(HERE, lambda found: None, lambda: True)  # stopped before its first trial: the last stays
    assert [row["lr"] for row in view.latest(("training", "random"))] == [row["lr"] for row in seen[-1].rows]


def test_a_search_stopped_before_its_first_trial_leaves_the_seed_and_the_judges_of_the_last(view):
    view.train(HERE, lambda found: None, never)
    code = view.code(HERE)
    view.train(HERE | dict(images=20), lambda found: None, lambda: True)
    (found,) = view.results(**HERE)
    assert found.seed == 1
    assert view.code(HERE) == code
    seen = []
    view.train(HERE | dict(trials=4), seen.append, never)  # goes on with the last one
    assert [len(found.rows) for found in seen] == [3, 4, 4]


@pytest.mark.parametrize("judges", [20, 50])
def test_the_code_searches_again_to_the_same_choice(view, conv, digits, judges):
    view.train(HERE, lambda found: None, never)
    found, words = shown(view, **HERE | dict(images=judges, trials=2))
    judged_by, fresh = run_code(view, HERE | dict(images=judges, trials=2), conv, digits)
    assert (judged_by, fresh) == pytest.approx((found.chosen["accuracy"], found.chosen["fresh"]))
    assert words.cards[0][1] == f"{judged_by:.1%}"


def test_the_code_of_recipes_finds_the_same_file(view, conv, digits):
    settings = dict(what="recipe", sampler="grid", images=50, trials=3)
    view.train(settings, lambda found: None, never)
    found, _ = shown(view, **settings)
    table = run_code(view, settings, conv, digits)
    chosen = [] if found.chosen is None else [found.chosen["size_bytes"]]
    assert table["size_bytes"].tolist() == chosen


def run_code(view, settings, model, data):
    *lines, last = view.code(settings).splitlines()
    names = dict(model=model, data=data)
    exec("\n".join(lines), names)  # noqa: S102 - our own
    return eval(last, names)  # noqa: S307 - our own


def test_the_code_of_what_ships_names_its_data_and_seed():
    code = Search().code(TRAINING | dict(images=500, sampler="tpe, hyperband", trials=60))
    assert 'data = lk.load_data("fashion-mnist")' in code
    assert "training_objective(data, 200, keep" in code  # the search was judged by 200, the choice is by 500
    assert 'trials=60, sampler="tpe", seed=0, pruner=experiments.hyperband()' in code
    assert "best[:500].mean(), best[1000:].mean()" in code


# the panel


def test_the_menu_of_samplers_follows_the_task():
    panel = explore.search()
    assert panel.controls["sampler"].value == "tpe"
    panel.controls["what"].value = "recipe"
    assert panel.controls["sampler"].values == ["grid", "random", "tpe", "nsga2"]
    assert panel.controls["sampler"].value == "nsga2"
    assert panel.frame["places"]["images"]["disabled"]
    assert panel.status.startswith("60 trials by NSGA-II")
    assert "smallest file" in panel.alt
    panel.controls["what"].value = "training"
    assert panel.controls["sampler"].value == "tpe"
    assert not panel.frame["places"]["images"]["disabled"]
    assert panel.alt.startswith("TPE, 30 of 30 trials")


def test_the_slider_of_trials_says_how_many_were_run(mine):
    panel = explore.search()
    trials = panel.controls["trials"]
    texts = dict((value, text) for text, value in trials.stops)
    assert (texts[30], texts[31], texts[60]) == ("30", "31 (30 run)", "60 (30 run)")
    trials.take("51")
    assert panel.share().endswith("trials=51 (30 run)")
    assert panel.alt.startswith("TPE, 30 of 30 trials")
    panel.controls["sampler"].value = "tpe, hyperband"
    assert trials.stops[-1] == ("66", 66)
    panel.set("trials=51 (30 run)")  # shared when fewer were run
    trials.value = 66
    panel.controls["sampler"].value = "grid"
    assert trials.value == 60
    panel = explore.search(mine.model, mine.data)
    assert panel.controls["trials"].text == "30 (0 run)"
    panel.view.train(HERE | dict(sampler="tpe", images=20), lambda found: None, never)
    assert panel.controls["trials"].text == "30 (3 run)"


def test_images_change_nothing_for_recipes(view):
    assert view.idle(dict(what="recipe")) == {"images"}
    assert view.idle(dict(what="training")) == set()
    recipes = [next(Search().results(what="recipe", sampler="tpe", images=n, trials=30)) for n in (20, 1_000)]
    assert recipes[0].chosen == recipes[1].chosen
    training = [next(Search().results(**TRAINING | dict(images=n))) for n in (20, 1_000)]
    assert training[0].chosen["accuracy"] != training[1].chosen["accuracy"]


@pytest.mark.parametrize("scene", Search().scenes)
def test_scenes_are_settings_that_the_controls_take(scene, mine):
    for panel in (explore.search(preset=scene), explore.search(mine.model, mine.data, scene)):
        assert panel.settings() == panel.view.scenes[scene]
        assert not panel.status.startswith("⚠")


def test_bad_input_is_refused_in_a_sentence(refuses, conv, digits):
    refuses(ValueError, "model and data belong together: give both or neither", explore.search, conv)
    refuses(TypeError, "model is a Data; allowed: a torch.nn.Module", explore.search, digits, conv)


def test_a_setting_lies_between_the_ends_of_its_axis():
    assert plots.height(0.01, (1e-4, 1.0, "log")) == pytest.approx(0.5)
    assert plots.height(64, [32, 64, 128]) == pytest.approx(0.5)
    assert plots.height(0.3, (0.1, 0.9)) == pytest.approx(0.25)
    assert plots.height(2.0, (0.1, 0.9)) == 1
    assert [plots.short(v) for v in (0.00001, 0.0286, 64, "adamw", 100.0, 300_000)] == [
        "1e-5", "0.0286", "64", "adamw", "100", "300 KB",
    ]  # fmt: skip
    assert plots.place_trial({"a": 1, "b": float("nan")}, {"a": [0, 1], "b": (0.0, 1.0), "c": (0, 1)}).tolist() == [
        [0, 1]
    ]
