"""Panel of notebook 05: a running search, its choice after n trials, and that choice's accuracy on unseen images."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from torch import nn

from labkit import _check, drawing
from labkit.data import Data, load_data
from labkit.live import words
from labkit.live.baseline import Baseline, at_least, given
from labkit.live.controls import Control
from labkit.live.network import NetworkView, panel_of
from labkit.live.panel import Panel
from labkit.live.view import Summary
from labkit.search import Objective, finished, row
from labkit.topics.hyperparameter_search import experiment as experiments
from labkit.topics.hyperparameter_search import plots, searches
from labkit.topics.hyperparameter_search.found import FIRST, JUDGES, LOWEST, MAX_TRIALS, MENUS, TASKS, Found, Settings
from labkit.topics.hyperparameter_search.searches import SHIPPED, Key, Ran, Rows

GRADES = {
    "training": ("over 10 below", "within 10", "within 2 points of the best"),
    "recipe": ("over 10 below", "within 10", "within 1 point of dense"),
}


class Search(NetworkView):
    """The view: best so far or frontier, the trials as lines over their settings, the importance of each setting."""

    name, settings_type, button = "search", Settings, "search"
    networks = (("lenet-300-100", "mnist"),)  # that recipes compress
    scenes = {
        "the best of thirty": dict(what="training", sampler="tpe", images=200, trials=30),
        "judged by twenty images": dict(what="training", sampler="random", images=20, trials=30),
        "poor trials stop early": dict(what="training", sampler="tpe, hyperband", images=200, trials=60),
        "recipes: accuracy and bytes": dict(what="recipe", sampler="nsga2", images=200, trials=60),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self._storage = optuna.storages.InMemoryStorage()
        self._ran: dict[Key, Ran] = {}  # the latest search that has a trial
        self._begun: Counter[Key] = Counter()  # how many searches; the shipped one has seed 0
        self._update_trials: Callable[[], None] = lambda: None
        fifth = min(len(self.data(what).validation) // 5 for _, what in TASKS)
        self.judges = [n for n in JUDGES if n <= fifth]
        most = self.judges[-1]  # small data have fewer judges
        self.scenes = {  # type: ignore[misc]
            name: dict(scene, images=min(scene["images"], most)) for name, scene in self.scenes.items()
        }
        add = self.live.figure.add_axes
        self.curve, self.parallel = add((0.063, 0.135, 0.33, 0.69)), add((0.415, 0.41, 0.58, 0.44))
        self.bars = add((0.415, 0.02, 0.58, 0.19))

    def controls(self) -> dict[str, Control]:
        """The controls; the samplers depend on the task, and "trials" shows how many have run."""
        made = super().controls()
        made["images"].offer([(f"{n:,}", n) for n in self.judges], min(200, self.judges[-1]))
        what, sampler, trials = (made[name] for name in ("what", "sampler", "trials"))

        def update_trials(change: object = None) -> None:
            n = len(self.latest((what.value, sampler.value)))
            stops = [(f"{i}" if i <= n else f"{i} ({n} run)", i) for i in range(1, max(MAX_TRIALS, n) + 1)]
            trials.offer(stops, min(trials.value, len(stops)))

        def update_samplers(change: Mapping[str, Any]) -> None:
            sampler.offer(plots.sampler_menu(MENUS[change["new"]]), FIRST[change["new"]])
            update_trials()

        # before the panel observes them, so that it sees task and sampler change together
        what.observe(update_samplers, "value")
        sampler.observe(update_trials, "value")
        update_trials()
        self._update_trials = update_trials
        return made

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """Recipes are judged by a fifth of validation, whatever is set."""
        return {"images"} if settings["what"] == "recipe" else set()

    def data(self, what: str) -> Data:
        """The user's own data, or the shipped data of the task."""
        return self.own.data if self.own else load_data(SHIPPED[what][2])

    def measure(self, dense: Baseline, settings: Settings) -> Iterator[Found]:
        """Show the first trials of the latest search; nothing is trained."""
        yield self.found(settings)

    def found(self, settings: Settings, doing: str = "", progress: float | None = None) -> Found:
        """The latest search with these settings, and those of the other samplers on the same task."""
        what, sampler = settings.what, settings.sampler
        fresh = experiments.parts(self.data(what), 1)[1]
        images = settings.images if what == "training" else len(self.data(what).validation) - len(fresh)
        others = {name: searches.judged(self.latest((what, name)), images) for name in MENUS[what] if name != sampler}
        rows, ran = searches.judged(self.latest((what, sampler)), images), self._ran.get((what, sampler))
        return Found(settings, ran.seed if ran else 0, images, rows, others, len(fresh), self.dense(), doing, progress)

    def latest(self, key: Key) -> Rows:
        """The trials of the last search here; if there is none, of the shipped search."""
        if key in self._ran:
            return self._ran[key].rows
        return () if self.own else searches.shipped_rows(key)

    def still_for(self, found: Found) -> Any:
        """The trials, which are points of the still part, and the ends of the axes, which depend on all searches."""
        return found.key, found.images, found.seed, *(row["accuracy"] for row in found.rows), self._reach(found)

    def _reach(self, found: Found) -> int:
        """The epochs of the longest search of the task."""
        return max(sum(row["trained"] for row in rows) for rows in (found.rows, *found.others.values()))

    def background(self, found: Found) -> None:
        """Axes, keys, an empty line for every sampler, and the trials as points."""
        what, ax = found.key[0], self.curve
        self.samplers = plots.sampler_lines(ax, MENUS[what], steps=what == "training")
        (self.later,) = ax.plot([], [], "o", ms=4.5, color="#d0d0d0", label="later trials")
        (self.complete,) = ax.plot([], [], "o", ms=5.5, color=drawing.BLUE, mec="white", mew=0.5, label="trials")
        (self.stopped,) = ax.plot([], [], "x", ms=5.5, color=drawing.RED, label="stopped early")
        (self.below,) = ax.plot([], [], "v", ms=8, color="black", mec="white", mew=0.5, clip_on=False)
        self.below.set_label(f"below {100 * LOWEST[what]:.0f} %")
        (self.fresh,) = ax.plot([], [], drawstyle="steps-post", color=drawing.ORANGE, lw=2.2, label="unseen images")
        (self.star,) = ax.plot([], [], "*", ms=17, color=drawing.ORANGE, mec="black", mew=1.1, zorder=6, label="chosen")
        moving = [*self.samplers.values(), self.later, self.stopped, self.complete, self.fresh, self.below, self.star]
        key = [*self.samplers.values(), self.complete, self.below, self.later, self.star]
        if what == "training":
            plots.cost_axes(ax, 1.03 * max(MAX_TRIALS // 2 * experiments.EPOCHS, self._reach(found)), LOWEST[what])
            key[4:4] = [self.fresh, self.stopped]
        else:
            plots.recipe_axes(ax, found.dense.size_bytes, found.dense.score.accuracy, LOWEST[what])
            key.append(ax.lines[-1])
        whole = self.live.figure.transFigure
        ax.legend(handles=key, loc="upper left", bbox_to_anchor=(0, 1), bbox_transform=whole, ncol=4, **plots.LEGEND)
        self.lines, self.chosen = plots.parallel_axes(self.parallel, found.axes, GRADES[what])
        self.importance, self.shares = plots.importance_bars(self.bars, found.names, self.parallel)
        self.live.move([*moving, *self.lines, self.chosen, *self.importance, *self.shares])
        self.offer(found)

    def offer(self, found: Found) -> None:
        """Make the trials respond to the pointer; a click goes back to the moment after a trial."""
        source = f"seed {found.seed}, " + ("searched here" if found.key in self._ran else "searched beforehand")
        texts = [f"trial {i}: {found.told(row)}\n{source}" for i, row in enumerate(found.rows, 1)]
        to = [{"trials": i} for i in range(1, len(texts) + 1)]
        self.live.offer(self.curve, zip(*found.places, strict=True), texts, to)

    def update(self, found: Found) -> None:
        """Move the trials, the lines of the samplers and the bars."""
        what, sampler = found.key
        for name, line in self.samplers.items():
            line.set_data(*searches.curve_of(what, found.seen if name == sampler else found.others[name]))
            line.set_linewidth(2.6 if name == sampler else 1.4)
        if what == "training":
            self.fresh.set_data(*searches.curve_of(what, found.seen, "fresh"))
        x, y = found.places
        seen, lowest = np.arange(len(x)) < found.settings.trials, LOWEST[what]
        stopped = np.array([row["state"] == "pruned" for row in found.rows], bool)
        low = seen & (y < lowest)
        masks = [seen & ~low & ~stopped, seen & ~low & stopped, ~seen]
        for line, mask in zip((self.complete, self.stopped, self.later), masks, strict=True):
            line.set_data(x[mask], y[mask])
        self.below.set_data(x[low], np.full(int(low.sum()), lowest))
        at = [i for i, row in enumerate(found.seen) if row is found.chosen]
        self.star.set_data(x[at], y[at])
        ways = [plots.place_trial(row, found.axes) for row in found.seen]
        for grade, line in enumerate(self.lines):
            mine = [way for way, one in zip(ways, found.grades, strict=True) if one == grade]
            line.set_data(*plots.join_trials(mine))
        self.chosen.set_data(*(ways[at[0]].T if at else np.zeros((2, 0))))
        shares = searches.importances(what, sampler, found.seen)
        for name, bar, text in zip(found.names, self.importance, self.shares, strict=True):
            bar.set_height(shares.get(name, 0))
            text.set_y(shares.get(name, 0) + 0.05)
            text.set_text(f"{shares[name]:.0%}".replace("%", " %") if name in shares else "")
        if not shares:
            self.shares[2].set_text("needs 8 complete trials")

    def summarize(self, found: Found) -> Summary:
        """The search in words."""
        label = plots.SAMPLERS[found.key[1]][3]
        setting = f"{label}, {len(found.seen)} of {len(found.rows)} trials"
        setting += f", {found.settings.trials} requested" if found.settings.trials > len(found.rows) else ""
        scored = f"each scored on all {found.images:,} judges and on {found.fresh_images:,} unseen images"
        status = f"{len(found.rows)} trials by {label}, {scored}" if found.rows else "no trials yet: press search"
        cards = found.cards
        return Summary(cards, words.sentence(setting, cards), found.doing or status, found.finding, found.progress)

    def train(self, settings: dict[str, Any], show: Callable[[Found], None], overtaken: Callable[[], bool]) -> None:
        """Search until the requested number of trials is reached: resume a stopped search, or start another."""
        chosen = Settings(**settings)
        key = chosen.what, chosen.sampler
        wanted, ran = searches.trials_of(key, chosen.trials), self._ran.get(key)
        if ran is None or len(ran.rows) >= wanted or ran.judges != chosen.images:
            self._begun[key] += 1
            ran = Ran(self._begun[key], chosen.images)
        before, doing = len(ran.rows), f"searching, seed {ran.seed}"

        def after_trial(study: optuna.Study) -> None:
            ran.rows = tuple(row(t) | {"right": ran.right.get(t.number)} for t in finished(study))
            self._ran[key] = ran
            done = len(ran.rows)
            show(self.found(chosen, f"{doing}: {done} of {wanted} trials done", (done - before) / (wanted - before)))
            self._update_trials()

        last = "" if before or not self.latest(key) else "; until its first trial ends, the last search is shown"
        show(self.found(chosen, f"{doing} …{last}", 0))
        objective = self._objective(key, ran, overtaken)
        place = dict(name=f"{key}, seed {ran.seed}", storage=self._storage)
        searches.run(key, objective, after_trial, overtaken, trials=wanted, seed=ran.seed, **place)
        show(self.found(chosen))

    def _objective(self, key: Key, ran: Ran, cancel: Callable[[], bool]) -> Objective:
        if key[0] == "training":
            return experiments.training_objective(self.data("training"), ran.judges, cancel, ran.right.__setitem__)
        data = self.data("recipe")
        return experiments.recipe_objective(self.dense().model, data, len(data.validation) // 5, cancel)

    def code(self, settings: Mapping[str, Any]) -> str:
        """The same search, up to the last trial that is shown, and its choice."""
        chosen = Settings(**settings)
        key = what, sampler = chosen.what, chosen.sampler
        rows, data = self.latest(key), self.data(what)
        shipped = Ran(0, experiments.JUDGED) if rows else Ran(self._begun[key] + 1, chosen.images)
        ran = self._ran.get(key, shipped)  # without trials: what the button would run
        space = f"experiments.{what.upper()}" + "_GRID" * (sampler == "grid")
        trials = min(chosen.trials, len(rows) or MAX_TRIALS)
        how = f'{space}, trials={trials}, sampler="{sampler.split(",")[0]}", seed={ran.seed}'
        first, having = self.loaded({})
        lines = [first, "from labkit.topics.hyperparameter_search import experiment as experiments", having]
        if what == "recipe":
            return "\n".join([
                *lines, f"objective = experiments.recipe_objective(model, data, {len(data.validation) // 5})",
                f"study = lk.search.search(objective, {how}, goals=experiments.RECIPE_GOALS)",
                'table, floor = lk.search.trials(study), lk.accuracy(model, data.validation)["accuracy"] - 0.01',
                'table[table["accuracy"] >= floor].nsmallest(1, "size_bytes")',
            ])  # fmt: skip
        if not self.own:
            lines[2:] = [f'data = lk.load_data("{SHIPPED[what][2]}")']
        how += ", pruner=experiments.hyperband()" if "hyperband" in sampler else ""
        return "\n".join([
            *lines, "correct = {}  # by trial: which validation images its network gets right",
            f"objective = experiments.training_objective(data, {ran.judges}, keep=correct.__setitem__)",
            f"lk.search.search(objective, {how})",
            f"best = correct[max(correct, key=lambda trial: correct[trial][:{chosen.images}].mean())]",
            f"best[:{chosen.images}].mean(), best[{len(data.validation) // 5}:].mean()",
        ])  # fmt: skip


def search(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 05: small networks and a shipped checkpoint, or your own `model` with its `data`."""
    mine = given(model, data)
    _check.one_of("preset", preset, ("", *Search.scenes))
    if mine:
        at_least("train", mine.data, max(experiments.TRAINING["batch_size"]))
        at_least("validation", mine.data, 100)  # a fifth of them are the judges
    return panel_of(Search(mine), preset)
