"""Panel of notebook 01: the threshold on the histogram, the sparsity of each layer, and training after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.artist import Artist
from torch import Tensor, nn

from labkit import drawing
from labkit.compress._weights import weights
from labkit.compress.magnitude import GradualPruning, KeepZeros, prune
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, zeros_by_layer
from labkit.live.controls import choice, layer_menu, real, share
from labkit.live.network import open_panel
from labkit.live.panel import Panel
from labkit.live.plane import LayersView
from labkit.live.training import batch_size
from labkit.live.view import Card
from labkit.optim import Hook
from labkit.topics.magnitude_pruning import plots

BINS = 81


@dataclass(frozen=True)
class Settings:
    """What the controls set; `method` is what the button does."""

    by: str = choice("prune by", [("sparsity", "sparsity"), ("threshold θ", "threshold")], "sparsity", word="by {}")
    sparsity: float = share("sparsity", 0.9, note="fraction of the weights set to 0", word="sparsity {}")
    threshold: float = real("threshold θ", 0.05, 0.3, 0.002, note="every |weight| up to it is set to 0")
    scope: str = choice(
        "scope", [("global: one ranking", "global"), ("layer: one ranking each", "layer")], "global",
        note="rank all weights together, or each layer separately",
    )  # fmt: skip
    layer: str = layer_menu(note="prune all layers, or only this one", word="{}")
    method: str = choice(
        "then train", [("fine-tune what is left", "fine-tuned"), ("prune gradually", "gradual")], "fine-tuned",
        note="what the button does: train the pruned network, or the dense one while its sparsity rises", word="{}",
    )  # fmt: skip

    @property
    def layers(self) -> list[str] | None:
        """The layers to prune, None for all."""
        return [self.layer] if self.layer else None


@dataclass(frozen=True)
class Facts:
    """The effect of pruning: zeros by layer, the largest pruned magnitude in each layer, the kept values."""

    sparsity: dict[str, float]
    thresholds: list[float]
    kept: Tensor

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest threshold."""
        return min(self.thresholds, default=0), max(self.thresholds, default=0)


class Pruning(LayersView):
    """The view: histogram with thresholds, sparsity by layer, accuracy against sparsity."""

    name, settings_type = "pruning", Settings
    boxes = ((0.075, 0.135, 0.275, 0.79), (0.435, 0.135, 0.13, 0.79), (0.665, 0.135, 0.325, 0.79))
    fact, label, title = "sparsity", "zeros in the layer", "by layer"
    epochs = 2
    button = "train 2 epochs"
    scenes = {
        "nothing lost yet": dict(by="sparsity", sparsity=0.5, scope="global", layer=""),
        "ten times fewer weights": dict(by="sparsity", sparsity=0.9, scope="global", layer=""),
        "95 % of each layer": dict(by="sparsity", sparsity=0.95, scope="layer", layer=""),
        "pruned too far": dict(by="sparsity", sparsity=0.98, scope="global", layer=""),
    }

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The amount that is not used; the scope, with a single layer or a threshold."""
        amount = "threshold" if settings["by"] == "sparsity" else "sparsity"
        return {amount, "scope"} if settings["layer"] or settings["by"] == "threshold" else {amount}

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """Set the smallest weights to 0."""
        amount = {settings.by: getattr(settings, settings.by)}
        return prune(dense.model, **amount, scope=settings.scope, layers=settings.layers)

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> Facts:
        """Zeros, thresholds and kept values."""
        before, after = weights(dense.model), weights(small)
        shown = settings.layers or list(after)
        pruned = {name: before[name][(after[name] == 0) & (before[name] != 0)].abs() for name in shown}
        return Facts(
            sparsity=zeros_by_layer(small),
            thresholds=[float(v.max()) for v in pruned.values() if v.numel()],
            kept=torch.cat([after[name][after[name] != 0] for name in shown]),
        )

    def draw_weights(self, point: Compressed) -> list[Artist]:
        """The histogram before pruning; the one after it and the thresholds move."""
        (self.histogram,), before = self.left, weights(point.dense.model)
        values = torch.cat([before[name].flatten() for name in point.settings.layers or before])
        self.reach = float(values.abs().max()) or 1.0
        name = point.settings.layer.removesuffix(".weight") or "all layers"
        self.stays, self.lines = plots.pruned_histogram(self.histogram, values, self.reach, BINS, name)
        return [self.stays, *self.lines]

    def draw_curves(self, dense: Baseline) -> None:
        """The measured sweep."""
        records = dense.sweep("pruning")
        plots.sparsity_curves(self.curves, records, dense.score.accuracy)
        self.curves.set_title("measured sweep; ★ now, ✚ trained", fontsize=11, loc="left")
        shot = records[records["method"] == "one-shot"]
        self.offer(
            self.curves,
            shot.assign(place=shot["sparsity"].map(plots.place_sparsity)),
            lambda row: f"one-shot, sparsity {row['sparsity']:.0%}: {row['accuracy']:.2%}\nmeasured beforehand",
            lambda row: dict(by="sparsity", sparsity=row["sparsity"], scope="global", layer=""),
            x="place",
        )

    def place(self, point: Compressed) -> float:
        """The place of its sparsity."""
        return plots.place_sparsity(point.sparsity)

    def update(self, point: Compressed) -> None:
        """Move histogram and thresholds, bars and point."""
        super().update(point)
        self.stays.set_data(drawing.bin_heights(point.facts.kept, self.reach, BINS))
        low, high = point.facts.ends
        for line, value in zip(self.lines, (-high, -low, low, high), strict=True):
            line.set_xdata([value, value])

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, weights left, threshold, file."""
        low, high = point.facts.ends
        theta = f"{high:.4f}" if high - low < 1e-3 else f"{low:.3f} … {high:.3f}"
        threshold, (accuracy, file) = ("threshold θ", theta, "the largest pruned magnitude"), super().cards(point)
        return [accuracy, words.count_card(*point.left), threshold, file]

    def trained(self, point: Compressed) -> tuple[nn.Module, list[Hook]]:
        """The pruned network with its zeros kept, or the dense one, to be pruned gradually."""
        settings, train = point.settings, point.dense.data.train
        if settings.method == "fine-tuned":
            return point.model, [KeepZeros(point.model)]
        often = min(50, self.epochs * len(train) // batch_size(train) // 20 + 1)  # at least about 20 times
        how: dict[str, Any] = dict(every=often, scope=settings.scope, layers=settings.layers)
        return point.dense.model, [GradualPruning(target(point), **how)]

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """Prune."""
        amount = f"{settings['sparsity']}" if settings["by"] == "sparsity" else f"threshold={settings['threshold']}"
        how = f', scope="{settings["scope"]}"' + (f', layers=["{settings["layer"]}"]' if settings["layer"] else "")
        return [f"small = lk.prune(model, {amount}{how})"]


def target(point: Compressed) -> float:
    """The sparsity that was reached, in the chosen layer or in all."""
    return float(point.facts.sparsity[point.settings.layer]) if point.settings.layer else point.sparsity


def pruning(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 01: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Pruning, model, data, preset)
