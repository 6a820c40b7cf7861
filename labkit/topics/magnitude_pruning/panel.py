"""Panel of notebook 01: the threshold on the histogram, the sparsity of each layer, and training after it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import drawing
from labkit.compress._weights import weights
from labkit.compress.magnitude import GradualPruning, KeepZeros, prune
from labkit.data import Data
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, CompressionView
from labkit.live.controls import choice, layer_menu, real, share
from labkit.live.network import BESIDE, Star, open_panel
from labkit.live.panel import Panel
from labkit.live.training import batch_size
from labkit.live.view import Card
from labkit.optim import Hook
from labkit.topics.magnitude_pruning import plots
from labkit.train import fit

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


@dataclass(frozen=True)
class Facts:
    """The effect of pruning: zeros by layer, the largest pruned magnitude in each layer, the kept values."""

    sparsity: dict[str, float]
    thresholds: list[float]
    kept: Tensor


class Pruning(CompressionView):
    """The view: histogram with thresholds, sparsity by layer, accuracy against sparsity."""

    name, settings_type, size = "pruning", Settings, BESIDE
    epochs = 2
    button = "train 2 epochs"
    scenes = {
        "nothing lost yet": dict(by="sparsity", sparsity=0.5, scope="global", layer=""),
        "ten times fewer weights": dict(by="sparsity", sparsity=0.9, scope="global", layer=""),
        "95 % of each layer": dict(by="sparsity", sparsity=0.95, scope="layer", layer=""),
        "pruned too far": dict(by="sparsity", sparsity=0.98, scope="global", layer=""),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        add = self.live.figure.add_axes
        self.histogram, self.layers = add((0.075, 0.135, 0.275, 0.79)), add((0.435, 0.135, 0.13, 0.79))
        self.curves = add((0.665, 0.135, 0.325, 0.79))

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The amount that is not used; the scope, with a single layer or a threshold."""
        amount = "threshold" if settings["by"] == "sparsity" else "sparsity"
        return {amount, "scope"} if settings["layer"] or settings["by"] == "threshold" else {amount}

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """Set the smallest weights to 0."""
        amount = (settings.sparsity, None) if settings.by == "sparsity" else (None, settings.threshold)
        layers = [settings.layer] if settings.layer else None
        return prune(dense.model, amount[0], threshold=amount[1], scope=settings.scope, layers=layers)

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> Facts:
        """Zeros, thresholds and kept values."""
        before, after = weights(dense.model), weights(small)
        shown = [settings.layer] if settings.layer else list(after)
        pruned = {name: before[name][(after[name] == 0) & (before[name] != 0)].abs() for name in shown}
        return Facts(
            sparsity={name: float((w == 0).float().mean()) for name, w in after.items()},
            thresholds=[float(v.max()) for v in pruned.values() if v.numel()],
            kept=torch.cat([after[name][after[name] != 0] for name in shown]),
        )

    def background(self, point: Compressed) -> None:
        """Histogram before pruning, one bar per layer, the measured sweep."""
        self._draw_histogram(point)
        self.bars = drawing.layer_bars(self.layers, list(point.facts.sparsity), "zeros in the layer", "by layer")
        dense = point.dense
        records = dense.sweep("pruning")
        plots.sparsity_curves(self.curves, records, dense.score.accuracy)
        self.curves.set_title("measured sweep; ★ now, ✚ trained", fontsize=11, loc="left")
        shot = records[records["method"] == "one-shot"].to_dict("records")
        self.live.offer(
            self.curves,
            [(plots.place_sparsity(row["sparsity"]), row["accuracy"]) for row in shot],
            [f"one-shot, sparsity {row['sparsity']:.0%}: {row['accuracy']:.2%}\nmeasured beforehand" for row in shot],
            [dict(by="sparsity", sparsity=row["sparsity"], scope="global", layer="") for row in shot],
        )
        self.star = Star(self.live, self.curves)
        self.live.move([self.stays, *self.lines, *self.bars, *self.star.artists])

    def _draw_histogram(self, point: Compressed) -> None:
        before, layer = weights(point.dense.model), point.settings.layer
        values = torch.cat([w.flatten() for name, w in before.items() if layer in ("", name)])
        self.reach = float(values.abs().max()) or 1.0
        edges = np.linspace(-self.reach, self.reach, BINS + 1)
        counts = torch.histc(values, BINS, -self.reach, self.reach).numpy()
        ax = self.histogram
        ax.stairs(counts + 0.5, edges, fill=True, color="#d0d0d0", label="pruned", baseline=0.5)
        self.stays = ax.stairs(counts + 0.5, edges, fill=True, color=drawing.BLUE, label="kept", baseline=0.5)
        self.lines = [ax.axvline(0, color=drawing.RED, lw=1.6, label="±θ" if i == 3 else None) for i in range(4)]
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, position: drawing.count(value))
        ax.set_ylim(0.5, counts.max() * 12)
        ax.set_xlim(-self.reach, self.reach)
        ax.set_xlabel("weight")
        ax.set_title(f"{layer.removesuffix('.weight') or 'all layers'} (log count)", fontsize=11, loc="left")
        drawing.tidy(ax)
        ax.legend(loc="upper center", ncol=3, fontsize=10, frameon=False, handlelength=1, columnspacing=0.8)

    def update(self, point: Compressed) -> None:
        """Move histogram, thresholds, bars and point."""
        facts: Facts = point.facts
        self.stays.set_data(torch.histc(facts.kept, BINS, -self.reach, self.reach).numpy() + 0.5)
        low, high = min(facts.thresholds, default=0), max(facts.thresholds, default=0)
        for line, value in zip(self.lines, (-high, -low, low, high), strict=True):
            line.set_xdata([value, value])
        for bar, value in zip(self.bars, facts.sparsity.values(), strict=True):
            bar.set_width(value)
        sparsity = 1 - point.left[0] / point.left[1]
        self.star.place(plots.place_sparsity(sparsity), point.score, point.training is not None)

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, weights left, threshold, file."""
        low, high = min(point.facts.thresholds, default=0), max(point.facts.thresholds, default=0)
        theta = f"{high:.4f}" if high - low < 1e-3 else f"{low:.3f} … {high:.3f}"
        return [
            words.accuracy_card(point.score, point.dense.score),
            words.count_card(*point.left),
            ("threshold θ", theta, "the largest pruned magnitude"),
            words.file_card(point.size_bytes, point.dense.size_bytes),
        ]

    def retrain(self, point: Compressed, after_step: Hook, cancel: Callable[[], bool]) -> nn.Module:
        """Fine-tune the pruned network with its zeros kept, or prune the dense one gradually."""
        settings, train = point.settings, point.dense.data.train
        model: nn.Module = point.model
        hook: Hook = KeepZeros(model)
        if settings.method == "gradual":
            often = min(50, self.epochs * len(train) // batch_size(train) // 20 + 1)  # at least about 20 times
            layers = [settings.layer] if settings.layer else None
            model = point.dense.model
            hook = GradualPruning(target(point), every=often, scope=settings.scope, layers=layers)

        model, _ = fit(
            model, train, epochs=self.epochs, lr=1e-3, batch_size=batch_size(train), after_step=[hook, after_step],
            progress=False, cancel=cancel,
        )  # fmt: skip
        return model

    def code(self, settings: Mapping[str, Any]) -> str:
        """Prune, score, write."""
        amount = f"{settings['sparsity']}" if settings["by"] == "sparsity" else f"threshold={settings['threshold']}"
        how = f', scope="{settings["scope"]}"' + (f', layers=["{settings["layer"]}"]' if settings["layer"] else "")
        return "\n".join([*self.loaded(settings), f"small = lk.prune(model, {amount}{how})", self.scored])


def target(point: Compressed) -> float:
    """The sparsity that was reached, in the chosen layer or in all."""
    if point.settings.layer:
        return float(point.facts.sparsity[point.settings.layer])
    return 1 - point.left[0] / point.left[1]


def pruning(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 01: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Pruning, model, data, preset)
