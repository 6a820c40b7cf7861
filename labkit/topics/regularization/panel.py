"""Panel of notebook 06: a run on few images, its gap between training and validation, and how well it can be pruned."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from labkit import drawing
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.controls import Control, controls_of
from labkit.live.network import BESIDE, open_panel
from labkit.live.panel import Panel
from labkit.live.training import GHOST_COLOURS, Curves, Trained, TrainingView, run_card, training_set, usual
from labkit.live.view import Card
from labkit.topics.regularization import plots, runs
from labkit.topics.regularization.experiment import FEW_IMAGES, PENALTY_NAMES
from labkit.topics.regularization.runs import EDGES, SPARSITIES, Facts, Settings

KEY_LETTERS = 19  # of a recipe in the key
KEY_ROOM = -0.45  # lower end of an accuracy axis from 0, to leave room for the key
SOURCE = f"measured beforehand: {FEW_IMAGES:,} images, 60 epochs, mean of 3 seeds"
PLAIN: dict[str, Any] = dict(images=FEW_IMAGES, penalty="none", dropout=0.0, smoothing=0.0, augmentation=0.0)


def swept(method: str, strength: float) -> dict[str, Any] | None:
    """The controls for a setting of the measured sweep; {} if a value is not offered, None without a control for it."""
    known: dict[str, dict[str, Any]] = {name: dict(penalty=name, lam=strength) for name in PENALTY_NAMES}
    known |= {"none": {}, "dropout": dict(dropout=strength), "augmentation": dict(augmentation=strength)}
    change, offered = (known | {"label smoothing": dict(smoothing=strength)}).get(method), controls_of(Settings)
    if change is None:
        return None
    return PLAIN | change if all(value in offered[name].values for name, value in change.items()) else {}


class Regularization(TrainingView):
    """The view: training and validation accuracy, accuracy against sparsity, the weights, a key of the runs."""

    name, settings_type, size, facts = "regularization", Settings, BESIDE, Facts()
    training = staticmethod(runs.run_trial)
    networks = (("lenet-300-100", "mnist"), ("lenet-300-100", "fashion-mnist"))
    scenes = {
        "overfitting": PLAIN | dict(images=200),
        "easy to prune": PLAIN | dict(penalty="proximal L1", lam=0.3),
        "accurate, hard to prune": PLAIN | dict(augmentation=1.0),
        "more images": PLAIN | dict(images=20_000),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self.missing = set[str]()
        if own and not any(isinstance(layer, nn.Dropout) for layer in own.model.modules()):
            self.missing.add("dropout")
        if own and not words.has_pictures(own.data):  # only images can be rotated, shifted and stretched
            self.missing.add("augmentation")
        add = self.live.figure.add_axes
        self.accuracies, self.key = add((0.095, 0.115, 0.41, 0.82)), add((0.16, 0.125, 0.34, 0.245))
        self.sparsities, self.weights = add((0.59, 0.54, 0.4, 0.395)), add((0.59, 0.115, 0.4, 0.265))

    def controls(self) -> dict[str, Control]:
        """Only as many images as exist; dropout and augmentation where possible; selecting a penalty sets its λ."""
        made = {name: one for name, one in super().controls().items() if name not in self.missing}
        if self.own:
            n = len(self.own.data.train)
            offered = [count for count in runs.IMAGES if count < n] + [n] * (n <= runs.IMAGES[-1])
            made["images"].offer([(f"{count:,}", count) for count in offered], min(1_000, offered[-1]))
        usual(made["penalty"], made["lam"], runs.USUAL)  # the penalties' scales differ by a factor of 1,000
        return made

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """λ without a penalty, and controls that this network or its data do not support."""
        return self.missing | ({"lam"} if settings["penalty"] == "none" else set())

    def settled(self, dense: Baseline, settings: Settings) -> Settings:
        """At most as many images as exist; without a penalty, λ is 0."""
        lam = settings.lam if settings.penalty != "none" else 0.0
        return replace(settings, images=len(training_set(dense.data, settings.images)), lam=lam)

    def label(self, dense: Baseline, settings: Settings) -> str:
        """The recipe, cut to the width of the key, and the number of images."""
        return f"{words.cut(runs.recipe(settings), KEY_LETTERS)} on {settings.images:,}"

    def background(self, trial: Trained) -> None:
        """The axes, and the measured sweep where there is one."""
        self.curves = Curves(None, self.accuracies, self.key)
        plots.gap_axis(self.accuracies)
        self.gap = self.accuracies.fill_between([], [], [], color=drawing.ORANGE, alpha=0.2, lw=0)
        look: dict[str, Any] = dict(ms=10, color=drawing.YELLOW, mec="black", zorder=5)
        (self.best,) = self.accuracies.plot([], [], "v", label="best", **look)
        drawing.legend_above(self.accuracies)
        self.line, self.ghost_lines = plots.pruned_axis(self.sparsities, SPARSITIES, GHOST_COLOURS)
        self._offer_measured(trial.dense)
        self.now, self.before = plots.magnitude_histogram(self.weights, EDGES)
        self.live.move([self.gap, *self.curves.artists, self.best, self.now, self.before, *self.ghost_lines, self.line])

    def _offer_measured(self, dense: Baseline) -> None:
        """The measured sweep on few images in grey, each point with its caption and its settings."""
        ax, records, places = self.sparsities, dense.sweep("regularization"), list[tuple[float, float]]()
        means: Any = records.groupby(["method", "strength"]).mean() if len(records) else records
        for (method, strength), row in means.iterrows():
            settings = swept(method, strength)
            for place, sparsity in enumerate(SPARSITIES) if settings is not None else ():
                if acc := row.get(f"accuracy_at_{sparsity:g}" if sparsity else "accuracy"):
                    text = f"{method} {strength:g}".removesuffix(" 0") + f", {sparsity:.0%} zeros: {acc:.2%}\n{SOURCE}"
                    self.live.offer(ax, [(place, acc)], [text], [settings or {}])
                    places.append((place, acc))
        (dots,) = ax.plot([], [], "o", ms=3.5, color=drawing.GREY, alpha=0.5, zorder=1)
        drawing.set_points(dots, places)
        ax.set_title("after pruning" + "; grey: measured" * bool(places), fontsize=11, loc="left")

    def update(self, trial: Trained) -> None:
        """Move curves, histogram and the line of pruned networks."""
        trials = [trial, *trial.ghosts[::-1]]
        run, facts = trial.run, [one.facts for one in trials] + [Facts()] * len(self.ghost_lines)
        best = trial.facts.best
        self._make_room(trials)
        self.curves.show(run, [ghost.run for ghost in trial.ghosts])
        self.gap.set_data(100 * run.of("progress"), run.of("train_accuracy"), run.of("accuracy"))
        drawing.set_points(self.best, [(100 * best[0], best[1])] if best else [])
        for patch, one in zip((self.now, self.before), facts, strict=False):
            patch.set_data(one.histogram)
        for line, one in zip([self.line, *self.ghost_lines], facts, strict=False):
            drawing.set_points(line, [*enumerate(score.accuracy for score in one.pruned)])

    def _make_room(self, trials: Sequence[Trained]) -> None:
        """Extend the axes where a run needs it: down to accuracy 0, with the key below, or up towards 100 %."""
        late = [min(m[3:]) for one in trials for m in one.run.moments if m.progress > 0.25]
        lowest = 0.4 if min(late, default=1) > 0.6 else KEY_ROOM
        if lowest != self.accuracies.get_ylim()[0]:
            plots.gap_axis(self.accuracies, lowest)
            self.live.refresh()
        pruned = [(place, score.accuracy) for one in trials for place, score in enumerate(one.facts.pruned)]
        if any([drawing.make_room(self.sparsities, *point) for point in pruned]):
            self.live.refresh()

    def finding(self, trial: Trained) -> str:
        """The gap, and what pruning costs."""
        if not trial.run.score or trial.run.diverged:
            return super().finding(trial)
        by = trial.facts.by
        cost = f"; 90 % zeros cost {100 * (by[0.0] - by[0.9]):.1f} points" if by else ""
        return f"the gap is {gap(trial):.1f} points{cost}"

    def cards(self, trial: Trained) -> list[Card]:
        """Accuracy, gap, accuracy after pruning, zeros, and where early stopping would stop."""
        facts, by, best = trial.facts, trial.facts.by, trial.facts.best
        cards = [
            run_card(trial.run),
            ("training accuracy", "–", "gap: –"),
            ("at 90 % zeros", "–", "measured when the run has ended"),
            ("weights that are 0", "–", "exactly, without pruning"),
            ("best of the run", "–", "where early stopping would stop"),
        ]
        if trial.run.moments:
            near = facts.histogram[EDGES[1:] <= -3 + 1e-9].sum()
            cards[1] = ("training accuracy", f"{facts.train_accuracy:.2%}", f"gap: {gap(trial):.1f} points")
            cards[3] = ("weights that are 0", f"{facts.zeros:.1%}", f"exactly · below 0.001: {near:.0%}")
        if by:
            cards[2] = ("at 90 % zeros", f"{by[0.9]:.2%}", f"80 %: {by[0.8]:.1%} · 95 %: {by[0.95]:.1%}")
        if best:
            cards[4] = ("best of the run", f"{best[1]:.2%}", f"at {best[0]:.0%} of the steps, on these images")
        return cards

    def code(self, settings: Mapping[str, Any]) -> str:
        """Train with the recipe; score the network, dense and pruned."""
        images, dropout = settings["images"], settings.get("dropout", 0.0)
        names = ("penalty", "lam", "smoothing", "augmentation")
        given = ", ".join(f"{name}={settings[name]!r}" for name in names if settings.get(name) not in (None, 0, "none"))
        how = "".join(f", {name}={value}" for name, value in runs.budget(images).items())
        new = [f"model = experiment.untrained_lenet(0, dropout={dropout})"]
        if self.own:
            new = ["import torch", "model = lk.models.reinitialized(model, seed=0)", "for layer in model.modules():"]
            new += ["    if isinstance(layer, torch.nn.Dropout):", f"        layer.p = {dropout}"]
        lines = [
            f"how = experiment.regularizers({given})",
            f"model, _ = lk.fit(model, lk.data.take(data.train, {images}){how}, progress=False, **how)",
            "small = lk.prune(model, 0.9)",
            '[lk.accuracy(each, data.validation)["accuracy"] for each in (model, small)]',
        ]
        imported = "from labkit.topics.regularization import experiment"
        return "\n".join([*self.loaded(settings), imported, *new, *lines])


def gap(trial: Trained) -> float:
    """How far validation is below training, in points."""
    return float(100 * (trial.facts.train_accuracy - trial.run.accuracy))


def regularization(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 06: LeNet-300-100, or the architecture of your own `model`, trained anew on `data`.

    A model of your own has a control for dropout if it has `nn.Dropout` layers, and for augmentation if x are images.
    """
    return open_panel(Regularization, model, data, preset)
