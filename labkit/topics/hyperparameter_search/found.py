"""What notebook 05's panel shows: the trials of a search, which of them to choose, and both in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labkit import search
from labkit.drawing import kilobytes
from labkit.frontier import frontier, hypervolume
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.controls import choice, steps
from labkit.live.view import Card
from labkit.significance import wilson
from labkit.topics.hyperparameter_search import experiment as experiments
from labkit.topics.hyperparameter_search import plots
from labkit.topics.hyperparameter_search.searches import DRAWS, SPACES, Key, Rows, optimism

MAX_TRIALS = 60  # of a search
JUDGES = (20, 50, 100, 200, 500, 1_000)  # images to choose by
LOWEST = {"training": 0.6, "recipe": 0.5}  # accuracy on the axes; lower ones are marked at the edge
NEAR = {"training": (0.02, 0.10), "recipe": (0.01, 0.10)}  # below the best, or the dense network: good, fair
ORDER = ("density", "granularity", "bits", "percentile", "epochs", "lr")  # of a recipe's axes: no two names touch
TASKS = [("training settings", "training"), ("a compression recipe", "recipe")]
MENUS = {"training": ("grid", "random", "tpe", "tpe, hyperband"), "recipe": ("grid", "random", "tpe", "nsga2")}
FIRST = {"training": "tpe", "recipe": "nsga2"}  # the sampler that is selected first


@dataclass(frozen=True)
class Settings:
    """The values of the controls; `trials` is also the number that the button runs."""

    what: str = choice("search for", TASKS, "training", note="training of a small network, or compression of LeNet")
    sampler: str = choice(
        "sampler", plots.sampler_menu(MENUS["training"]), "tpe", note="how the next settings to try are chosen"
    )
    images: int = steps(
        "judged by, images", [(f"{n:,}", n) for n in JUDGES], 200,
        note="validation images that the settings are chosen by",
    )  # fmt: skip
    trials: int = steps(
        "trials", [(str(n), n) for n in range(1, MAX_TRIALS + 1)], 30,
        note="shows the choice after this many trials; search runs this many",
    )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A search so far, shown after its first `settings.trials` trials, and the searches of other samplers.

    In complete trials `accuracy` is on the first `images` of validation, `fresh` on its last four fifths.
    """

    settings: Settings
    seed: int
    images: int
    rows: Rows
    others: Mapping[str, Rows]  # by sampler
    fresh_images: int
    dense: Baseline  # the network that recipes compress
    doing: str = ""
    progress: float | None = None

    @property
    def key(self) -> Key:
        """The task and the sampler."""
        return self.settings.what, self.settings.sampler

    @property
    def seen(self) -> Rows:
        """The trials that are shown."""
        return self.rows[: self.settings.trials]

    @property
    def floor(self) -> float:
        """The accuracy that a recipe has to keep: one point below the dense network."""
        return self.dense.score.accuracy - 0.01

    @property
    def chosen(self) -> dict[str, Any] | None:
        """The trial to choose: the most accurate, or the smallest file that reaches the floor; None if none does."""
        complete = [row for row in self.seen if row["state"] == "complete"]
        if self.key[0] == "training":
            return max(complete, key=lambda row: row["accuracy"], default=None)
        good = [row for row in complete if row["accuracy"] >= self.floor]
        return min(good, key=lambda row: row["size_bytes"], default=None)

    @property
    def axes(self) -> search.Space:
        """The vertical axes on which a trial is a line: its settings, then its results."""
        what, size = self.key[0], self.dense.size_bytes
        if what == "training":
            return {**experiments.TRAINING, "accuracy": (LOWEST[what], 0.9)}
        file = (size // 250, size // 5, "log")
        return {name: experiments.RECIPE[name] for name in ORDER} | {
            "size_bytes": file,
            "accuracy": (LOWEST[what], 1.0),
        }

    @property
    def grades(self) -> list[int]:
        """How close each shown trial is to the best, or a recipe to the dense network: 0 far, 1 fair, 2 good."""
        accuracies = [row["accuracy"] for row in self.seen]
        best = max(accuracies, default=0) if self.key[0] == "training" else self.dense.score.accuracy
        return [sum(best - accuracy <= near + 1e-9 for near in NEAR[self.key[0]]) for accuracy in accuracies]

    @property
    def names(self) -> list[str]:
        """The settings of a trial, in the order of the axes."""
        return [name for name in self.axes if name in SPACES[self.key[0]][0]]

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the trials lie on the left axes: epochs trained until then, or bytes, and accuracy."""
        spent = np.cumsum([row["trained"] for row in self.rows])
        x = spent if self.key[0] == "training" else np.array([row["size_bytes"] for row in self.rows])
        return x.astype(float), np.array([row["accuracy"] for row in self.rows], float)

    def told(self, row: Mapping[str, Any]) -> str:
        """A trial in words."""
        settings = ", ".join(f"{name.replace('_', ' ')} {plots.short(row[name])}" for name in SPACES[self.key[0]][0])
        if row["state"] == "pruned":
            return f"stopped after {words.count(row['trained'], 'epoch')} at {row['accuracy']:.1%}\n{settings}"
        file = f", {kilobytes(row['size_bytes'])}" if self.key[0] == "recipe" else ""
        judged_by = f"{row['accuracy']:.1%} on {self.images:,} judges, {row['fresh']:.1%} on unseen images{file}"
        return f"{judged_by}\n{settings}"

    @property
    def finding(self) -> str:
        """What was found, in a line."""
        best = self.chosen
        if not self.rows:
            return "no trials yet: press search"
        if self.key[0] == "recipe":
            return f"{self._smaller}, {best['fresh']:.1%} on unseen images" if best else self._none
        if best is None:
            return "no trial has ended yet"
        return f"best of {len(self.seen)} trials: judges {best['accuracy']:.1%}, unseen {best['fresh']:.1%}"

    @property
    def _smaller(self) -> str:
        """How much smaller the file of the chosen recipe is."""
        return f"{self.dense.size_bytes / self.chosen['size_bytes']:.0f}× smaller" if self.chosen else ""

    @property
    def _none(self) -> str:
        """Why there is no recipe to choose."""
        return f"no recipe keeps {self.floor:.1%} so far" if self.rows else "press search"

    @property
    def cards(self) -> list[Card]:
        """The choice and what the search cost, or the frontier."""
        return self._training_cards() if self.key[0] == "training" else self._recipe_cards()

    def _training_cards(self) -> list[Card]:
        """The chosen trial: its accuracy on the judges and on unseen images, the optimism, its settings."""
        best, images, n = self.chosen, self.images, self.fresh_images
        stopped = sum(row["state"] == "pruned" for row in self.seen)
        epochs = sum(row["trained"] for row in self.seen)
        spent = ("epochs trained", f"{epochs:,}", f"{len(self.seen)} trials, {stopped} of them stopped early")
        if best is None:
            return [("accuracy of the best", "–", "press search"), spent]
        low, high = wilson(round(best["fresh"] * n), n)
        gaps = 100 * optimism(self.seen, images)
        from_, to = np.percentile(gaps, [2.5, 97.5])
        drawn = f"mean of {DRAWS} draws of judges; 95 %: {from_:+z.1f} to {to:+z.1f}"
        rest = f"batch size {best['batch_size']}, width {best['width']}, decay {plots.short(best['weight_decay'])}"
        return [
            ("accuracy of the best", f"{best['accuracy']:.1%}", f"on the {images:,} images that it was chosen by"),
            ("on unseen images", f"{best['fresh']:.1%}", f"{n:,} images, 95 %: {low:.1%}–{high:.1%}"),
            ("optimism", f"{gaps.mean():+z.1f} points", drawn),
            ("chosen", f"lr {best['lr']:.2g}", f"{best['optimizer']}, {rest}"),
            spent,
        ]

    def _recipe_cards(self) -> list[Card]:
        """The recipe chosen, its file and accuracy, and the area that the frontier dominates."""
        table = pd.DataFrame(self.seen, columns=["size_bytes", "accuracy"])
        area = f"area above 90 %: {hypervolume(table, self.dense.size_bytes, 0.9):.3f} decades × accuracy"
        front = ("frontier", f"{len(frontier(table))} of {len(table)}", area)
        if (best := self.chosen) is None:
            return [("accuracy, smallest file", "–", self._none), front]
        rest = f"per {best['granularity']}, {best['percentile']:.1f} %, {best['epochs']} epochs, lr {best['lr']:.2g}"
        return [
            ("accuracy, smallest file", f"{best['accuracy']:.1%}", f"that keeps {self.floor:.1%}"),
            ("on unseen images", f"{best['fresh']:.1%}", f"{self.fresh_images:,} images, not used to choose"),
            ("its file", f"{best['size_bytes']:,.0f} B", f"{self._smaller} than fp32"),
            ("recipe", words.count(best["bits"], "bit"), f"{1 - best['density']:.0%} zeros, {rest}"),
            front,
        ]
