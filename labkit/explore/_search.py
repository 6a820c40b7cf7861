"""Panel of notebook 05: a search as it goes, what it would have chosen after n trials, and what that is worth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from torch import nn

from labkit import plots
from labkit.data import Data, load_data
from labkit.explore import _controls
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._searches import (
    AXES,
    DRAWS,
    MOST,
    SHIPPED,
    SPACES,
    Found,
    Key,
    Rows,
    best_curve,
    importances,
    judged,
    optimism,
    run,
    shipped_rows,
    space_of,
)
from labkit.explore._start import Dense, at_least, shipped, start
from labkit.frontier import frontier, hypervolume
from labkit.measure import wilson
from labkit.search import Objective, finished, row
from labkit.sweep import search as experiments

MENUS = {"training": ("grid", "random", "tpe", "tpe, hyperband"), "recipe": ("grid", "random", "tpe", "nsga2")}
TASKS = [("training settings", "training"), ("a compression recipe", "recipe")]


class Search:
    """The view: best so far or frontier, the trials as lines over their settings, the importance of these."""

    def __init__(self, mine: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.6), mine
        self._shown: str | None = None
        self._storage = optuna.storages.InMemoryStorage()
        self._found: dict[Key, Rows] = {}  # by the latest search
        self._seeds: dict[Key, int] = {}  # of the latest search; what ships has seed 0
        self._judges: dict[Key, int] = {}  # the images it is judged by
        self._right: dict[Key, dict[int, np.ndarray]] = {}  # by trial: which validation images it gets right
        figure = self.live.figure
        self.curve = figure.add_axes((0.065, 0.125, 0.30, 0.79))
        self.parallel = figure.add_axes((0.405, 0.19, 0.38, 0.72))
        self.bars = figure.add_axes((0.882, 0.125, 0.095, 0.79))

    @property
    def dense(self) -> Dense:
        """The network that recipes start from."""
        return self._own or shipped(("lenet-300-100", "mnist"))

    def data(self, what: str) -> Data:
        """The user's own data, or what ships for the task."""
        return self._own.data if self._own else load_data(SHIPPED[what][2])

    def results(self, what: str, sampler: str, images: int, trials: int) -> Iterator[Found]:
        """Look at the first `trials` trials of the latest search, judged by `images`; nothing is trained."""
        yield self.found((what, sampler), images, trials)

    def found(self, key: Key, images: int, trials: int, doing: str = "") -> Found:
        """The latest search under a key and, of the same task, by other samplers."""
        what, sampler = key
        fresh = experiments.parts(self.data(what), 1)[1]
        if what == "recipe":
            images = len(self.data(what).validation) - len(fresh)
        others = {name: judged(self.latest((what, name)), images) for name in MENUS[what] if name != sampler}
        rows = judged(self.latest(key), images)
        return Found(key, images, rows, min(trials, len(rows)), others, len(fresh), self.dense, doing)

    def latest(self, key: Key) -> Rows:
        """The trials of the last search here; without one, of the search that ships."""
        return self._found.get(key, () if self._own else shipped_rows(key))

    def draw(self, found: Found) -> None:
        """Move the trials, the lines of the samplers and the bars."""
        if found.key[0] != self._shown:
            self._draw_still(found)
        draw = self._draw_training if found.key[0] == "training" else self._draw_recipes
        draw(found)
        self._draw_settings(found)

    def _draw_training(self, found: Found) -> None:
        for name, line in self.samplers.items():
            rows = found.seen if name == found.key[1] else found.others.get(name, ())
            best = best_curve(rows)
            line.set_data([0, *best.index], plots.place_accuracy([0, *best]))
        epochs = np.cumsum([row["trained"] for row in found.rows])
        if len(epochs) and epochs[-1] > self.curve.get_xlim()[1]:
            self.curve.set_xlim(0, MOST * experiments.EPOCHS)
            self.live.refresh()
        accuracy = [row["accuracy"] for row in found.rows]
        self._place_points(found, epochs, plots.place_accuracy(accuracy))
        fresh = best_curve(found.seen, "fresh")
        self.fresh.set_data(fresh.index, plots.place_accuracy(fresh.to_numpy()))

    def _draw_recipes(self, found: Found) -> None:
        for name, line in self.samplers.items():
            rows = found.seen if name == found.key[1] else found.others.get(name, ())
            best = frontier(pd.DataFrame(rows, columns=["size_bytes", "accuracy"]))
            line.set_data(best["size_bytes"], plots.logit(best["accuracy"].to_numpy()))
        accuracy = np.array([row["accuracy"] for row in found.rows])
        self._place_points(found, [row["size_bytes"] for row in found.rows], plots.logit(np.maximum(accuracy, 0.31)))

    def _place_points(self, found: Found, x: Sequence[float] | np.ndarray, y: np.ndarray) -> None:
        """Complete, stopped and later trials, and the chosen one."""
        stopped = np.array([row["state"] == "pruned" for row in found.rows], bool)
        later = np.arange(len(found.rows)) >= found.shown
        x, places = np.asarray(x, float), [~stopped & ~later, stopped & ~later, later]
        for line, mask in zip((self.complete, self.stopped, self.later), places, strict=True):
            line.set_data(x[mask], y[mask])
        at = [i for i, row in enumerate(found.seen) if row is found.chosen]
        self.star.set_data(x[at], y[at])
        self.samplers[found.key[1]].set_linewidth(2.6)
        for name in found.others:
            self.samplers[name].set_linewidth(1.4)

    def _draw_settings(self, found: Found) -> None:
        what, sampler = found.key
        axes, rows = AXES[what], found.seen
        self.lines.set_segments([plots.place_trial(row, axes) for row in rows])
        self.lines.set_array(np.array([plots.height(row["accuracy"], axes["accuracy"]) for row in rows]))
        chosen = plots.place_trial(found.chosen, axes) if found.chosen else np.zeros((0, 2))
        self.chosen.set_data(*chosen.T)
        shares = importances(what, sampler, rows)
        for name, bar in zip(SPACES[what][0], self.importance, strict=True):
            bar.set_width(shares.get(name, 0))

    def _draw_still(self, found: Found) -> None:
        what = found.key[0]
        for ax in (self.curve, self.parallel, self.bars):
            ax.clear()
        self.live.moving.clear()
        self.samplers = plots.sampler_lines(self.curve, MENUS[what], steps=what == "training")
        (self.later,) = self.curve.plot([], [], "o", ms=4.5, color="#c8c8c8")
        (self.complete,) = self.curve.plot([], [], "o", ms=5.5, color=plots.BLUE, mec="white", mew=0.5)
        (self.stopped,) = self.curve.plot([], [], "x", ms=5, color=plots.GREY)
        (self.fresh,) = self.curve.plot([], [], "-", color=plots.ORANGE, lw=2.2, label="its best, on fresh images")
        (self.star,) = self.curve.plot([], [], "*", ms=17, color=plots.ORANGE, mec="black", mew=1.1, zorder=6)
        if what == "training":
            plots.cost_axes(self.curve, MOST // 2 * experiments.EPOCHS + 20)
            title = "best so far (× stopped early, ★ chosen)"
        else:
            plots.recipe_axes(self.curve, found.dense.size_bytes, found.dense.score.accuracy)
            self.fresh.set_label("_")
            title = "recipes and frontiers (★ chosen)"
        self.curve.legend(loc="lower right", bbox_to_anchor=(1, 0.04), fontsize=7.5, framealpha=0.9)
        self.curve.set_title(title, fontsize=11, loc="left")
        self.lines, self.chosen = plots.parallel_axes(self.parallel, AXES[what])
        self.lines.set_clim(0.4, 1)
        self.parallel.set_title("one line a trial (bright: accurate)", fontsize=11, loc="left", y=1.035)
        self.importance = plots.importance_bars(self.bars, list(SPACES[what][0]))
        self.bars.set_title("importance", fontsize=11, loc="left")
        self.live.move([*self.samplers.values(), self.later, self.stopped, self.complete, self.fresh, self.star])
        self.live.move([self.lines, self.chosen, *self.importance])
        self.live.refresh()
        self._shown = what

    def tell(self, found: Found) -> Words:
        """The search in words."""
        what, sampler = found.key
        cards = training_cards(found) if what == "training" else recipe_cards(found)
        label = plots.SAMPLERS[sampler][3]
        setting = f"{label}, {len(found.seen)} of {len(found.rows)} trials"
        scored = f"each scored on all {found.images:,} judging images and on {found.fresh_images:,} fresh ones"
        status = f"{len(found.rows)} trials by {label}, {scored}" if found.rows else "no trials yet: press search"
        return Words(cards, f"{setting}: " + "; ".join(f"{a} {b} ({c})" for a, b, c in cards), found.doing or status)

    def search(self, settings: dict[str, Any], show: Callable[[Found], None], overtaken: Callable[[], bool]) -> None:
        """Search until there are as many trials as asked for: go on where a search stopped short, or begin another."""
        key, images, trials = (settings["what"], settings["sampler"]), settings["images"], settings["trials"]
        self._begin(key, images, trials)
        seed, right = self._seeds[key], self._right[key]

        def after_trial(study: optuna.Study) -> None:
            self._found[key] = tuple(row(t) | {"right": right.get(t.number)} for t in finished(study))
            doing = f"searching, seed {seed}: {len(self._found[key])} of {trials} trials done"
            show(self.found(key, images, trials, doing))

        show(self.found(key, images, trials, f"searching, seed {seed} …"))
        objective = self._objective(key, images, overtaken, right)
        place = dict(name=f"{key}, seed {seed}", storage=self._storage)
        run(key, objective, after_trial, overtaken, trials=trials, seed=seed, **place)
        show(self.found(key, images, trials))

    def _objective(self, key: Key, images: int, cancel: Callable[[], bool], right: dict[int, np.ndarray]) -> Objective:
        if key[0] == "training":
            return experiments.training_objective(self.data("training"), images, cancel, right.__setitem__)
        data = self.data("recipe")
        return experiments.recipe_objective(self.dense.model, data, len(data.validation) // 5, cancel)

    def _begin(self, key: Key, images: int, trials: int) -> None:
        """A new search under the key, unless the last one, by the same judges, has fewer trials than asked for."""
        last, points = self._found.get(key), [len(values) for values in space_of(*key).values()]
        wanted = min(trials, int(np.prod(points))) if key[1] == "grid" else trials
        if last is None or len(last) >= wanted or self._judges[key] != images:
            self._found[key], self._judges[key], self._right[key] = (), images, {}
            self._seeds[key] = self._seeds.get(key, 0) + 1


def training_cards(found: Found) -> list[Card]:
    """What was chosen, by how many images, and what it does on images that nobody chose by."""
    best, images, epochs = found.chosen, found.images, sum(row["trained"] for row in found.seen)
    stopped = sum(row["state"] == "pruned" for row in found.seen)
    spent = ("epochs trained", f"{epochs:,}", f"{len(found.seen)} trials, {stopped} of them stopped early")
    if best is None:
        return [("accuracy of the best", "–", "press search"), spent]
    fresh, n = best["fresh"], found.fresh_images
    low, high = wilson(round(fresh * n), n)
    gaps = 100 * optimism(found.seen, images)
    from_, to = np.percentile(gaps, [2.5, 97.5])
    rest = ", ".join(f"{k.replace('_', ' ')} {plots.short(best[k])}" for k in ("batch_size", "width", "weight_decay"))
    rest = f"{best['optimizer']}, {rest}"
    return [
        ("accuracy of the best", f"{best['accuracy']:.1%}", f"on the {images:,} images that it was chosen by"),
        ("on fresh images", f"{fresh:.1%}", f"{n:,} images, 95 %: {low:.1%}–{high:.1%}"),
        ("optimism", f"{gaps.mean():+.1f} points", f"mean of {DRAWS} draws of judges; most {from_:+.1f} to {to:+.1f}"),
        ("chosen", f"lr {best['lr']:.2g}", rest),
        spent,
    ]


def recipe_cards(found: Found) -> list[Card]:
    """The recipe chosen, its file and accuracy, and the area that the frontier dominates."""
    table = pd.DataFrame(found.seen, columns=["size_bytes", "accuracy"])
    area = hypervolume(table, found.dense.size_bytes, 0.9)
    front = ("frontier", f"{len(frontier(table))} of {len(table)}", f"area above 90 %: {area:.3f} decades × accuracy")
    best = found.chosen
    if best is None:
        said = f"no recipe keeps {found.floor:.1%} so far" if found.rows else "press search"
        return [("accuracy of the smallest file", "–", said), front]
    rest = f"percentile {best['percentile']:.1f}, {best['epochs']} epochs, lr {plots.short(float(best['lr']))}"
    smaller = f"{found.dense.size_bytes / best['size_bytes']:.0f}× smaller than fp32"
    return [
        ("accuracy of the smallest file", f"{best['accuracy']:.1%}", f"that keeps {found.floor:.1%}"),
        ("on fresh images", f"{best['fresh']:.1%}", f"{found.fresh_images:,} images nobody chose by"),
        ("its file", f"{best['size_bytes']:,.0f} B", smaller),
        ("recipe", f"{1 - best['density']:.0%} zeros, {best['bits']} bits", f"per {best['granularity']}, {rest}"),
        front,
    ]


def search(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 05: small networks and a shipped checkpoint, or your own `model` with its `data`."""
    mine, _ = start(model, data)
    if mine:
        at_least("train", mine.data, max(experiments.TRAINING["batch_size"]))
        at_least("validation", mine.data, 100)  # a fifth of it judges
    view = Search(mine)
    fifth = min(len(view.data(what).validation) // 5 for _, what in TASKS)
    images = [n for n in (20, 50, 100, 200, 500, 1_000) if n <= fifth]
    controls = {
        "what": _controls.choice("search for", TASKS, "training"),
        "sampler": _controls.choice("sampler", menu("training"), "tpe"),
        "images": _controls.steps("judged by", [(f"{n:,} images", n) for n in images], min(200, images[-1])),
        "trials": _controls.steps("trials", [(str(n), n) for n in range(1, MOST + 1)], 30),
    }

    def follow(change: Mapping[str, Any]) -> None:
        """Offer the samplers that go with the task; recipes are judged by a fifth of validation whatever is set."""
        controls["sampler"].options = menu(change["new"])
        controls["sampler"].value = MENUS[change["new"]][-2 if change["new"] == "training" else -1]
        controls["images"].disabled = change["new"] == "recipe"

    controls["what"].observe(follow, "value")  # before the panel listens, so that it sees what goes together
    return Panel("search", view, controls, job=("search", view.search))


def menu(what: str) -> list[tuple[str, str]]:
    """The samplers of a task by their labels."""
    return [(plots.SAMPLERS[name][3], name) for name in MENUS[what]]
