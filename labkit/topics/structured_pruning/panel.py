"""Panel of notebook 04: which units are removed, how narrow each layer becomes, what this costs and saves."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from labkit import drawing
from labkit.compress._channels import FIXED, Use, channels, families
from labkit.compress.structured import FROM_IMAGES, least_important, remove, unit_importance
from labkit.data import Data, take
from labkit.live.ahead import give_up_if_overtaken
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, CompressionView, Row
from labkit.live.controls import choice, share
from labkit.live.network import Star, open_panel
from labkit.live.panel import Panel
from labkit.live.score import workers
from labkit.live.view import Card, Summary
from labkit.measure import latency_ms, macs
from labkit.topics.structured_pruning import plots
from labkit.topics.structured_pruning.experiment import CALIBRATION, SEEDS

TIMED = 100  # images in the batch whose latency is measured
ROUNDS = 7  # of latency, dense and pruned alternately
IMPORTANCES = [
    ("L1: sum of |weights|", "l1"), ("L2: norm of the weights", "l2"), ("Taylor: |activation × gradient|", "taylor"),
    ("activation: mean |a|", "activation"), ("random: the baseline", "random"),
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What the controls set."""

    sparsity: float = share(
        "sparsity", 0.5, high=0.95, note="fraction of neurons and channels to remove", word="{} of the units removed"
    )
    importance: str = choice("importance", IMPORTANCES, "l1", note="the smallest are removed first", word="by {}")
    scope: str = choice(
        "scope", [("layer: same fraction each", "layer"), ("global: one ranking", "global")], "layer",
        note="remove the same fraction of each layer, or rank the units of all layers together", word="{}",
    )  # fmt: skip


@dataclass(frozen=True)
class Ranked:
    """A network's units with their importance: what does not depend on the sparsity."""

    uses: list[Use]
    importance: Tensor  # by index of the unit
    families: list[Tensor]
    macs: int

    @property
    def widths(self) -> dict[str, int]:
        """Units of every layer that can be pruned."""
        return {use.layer: len(use.units) for use in self.uses if use.side == "out" and (use.units != FIXED).any()}

    @property
    def relative(self) -> Tensor:
        """The importance of every unit, divided by the mean of its family."""
        values = self.importance.clone()
        for family in self.families:
            values[family] /= values[family].mean().clamp_min(1e-30)
        return values

    def family(self, layer: str) -> int:
        """The index of the family that the units of a layer belong to."""
        (units,) = [use.units for use in self.uses if use.side == "out" and use.layer == layer]
        return next(i for i, family in enumerate(self.families) if torch.isin(units, family).any())


def ranked(dense: Baseline, importance: str) -> Ranked:
    """Trace a network and compute the importance of its units."""
    data = dense.data.train
    uses = channels(dense.model, data.x[:2])
    seen = take(data, min(CALIBRATION, len(data))) if importance in FROM_IMAGES else None
    ranks = unit_importance(dense.model, uses, importance, seen)
    return Ranked(uses, ranks, families(uses), macs(dense.model, data.x[0]))


def removed(ranks: Ranked, settings: Settings) -> Tensor:
    """The units to remove."""
    return least_important(ranks.importance, ranks.families, settings.sparsity, settings.scope)


@dataclass(frozen=True)
class Facts:
    """The ranking, the removed units, what is left; the latency in ms on one thread (dense, pruned) comes last."""

    ranked: Ranked
    gone: Tensor
    widths: dict[str, int]
    macs: int
    latency: list[float] | None = None

    @property
    def units(self) -> tuple[int, int]:
        """(units left, all units that can be pruned)."""
        every = sum(map(len, self.ranked.families))
        return every - len(self.gone), every


def race(models: list[nn.Module], images: Tensor) -> list[float]:
    """Milliseconds of each model for a batch: the minimum of ROUNDS, as other work can only add time."""
    rounds = []
    for _ in range(ROUNDS):
        give_up_if_overtaken()
        rounds.append(workers().submit(lambda: [latency_ms(model, images, repeats=1) for model in models]).result())
    return [min(times) for times in zip(*rounds, strict=True)]


class Structured(CompressionView):
    """The view: importance with the cut, widths of the layers, accuracy against multiply-adds."""

    name, settings_type, still_by = "structured", Settings, "importance"
    epochs = 1
    button = "fine-tune 1 epoch"
    scenes = {
        "the whole network": dict(sparsity=0.0, importance="l1", scope="layer"),
        "half of every layer": dict(sparsity=0.5, importance="l1", scope="layer"),
        "half, drawn at random": dict(sparsity=0.5, importance="random", scope="layer"),
        "a tenth left, by one ranking": dict(sparsity=0.9, importance="taylor", scope="global"),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        rank = self.ranked = functools.cache(ranked)  # caches of the view, freed with it
        self.removed = functools.lru_cache(16)(lambda dense, how: removed(rank(dense, how.importance), how))
        self.ranking, self.layers, self.curves = self.live.figure.subplots(1, 3)

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The scope, if no unit is removed."""
        return set() if settings["sparsity"] else {"scope"}

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """Remove the least important units."""
        return remove(dense.model, self.ranked(dense, settings.importance).uses, self.removed(dense, settings))

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> Facts:
        """Units and widths that are left, and multiply-adds."""
        ranks, modules = self.ranked(dense, settings.importance), dict(small.named_modules())
        widths = {name: len(modules[name].weight) for name in ranks.widths}
        return Facts(ranks, self.removed(dense, settings), widths, macs(small, dense.data.validation.x[0]))

    def further(self, point: Compressed) -> Iterator[Compressed]:
        """The latency, timed when no other work runs."""
        latency = race([point.dense.model, point.model], point.dense.data.validation.x[:TIMED])
        yield replace(point, facts=replace(point.facts, latency=latency))

    def background(self, point: Compressed) -> None:
        """The units in their order, a bar for each layer, the measured sweep."""
        ranks, dense, importance = point.facts.ranked, point.dense, point.settings.importance
        names, records = list(ranks.widths), dense.sweep("structured")
        self._arrange(max(map(len, drawing.short_names(names))), bool(len(records)))
        colours = plots.family_colours(len(ranks.families))
        curves = [ranks.relative[family].numpy() for family in ranks.families]
        self.share, self.theta = plots.importance_curves(self.ranking, curves, colours)
        self.ranking.set_title("importance ÷ layer's mean", fontsize=11, loc="left")
        self.bars, self.numbers = plots.width_bars(self.layers, names, [colours[ranks.family(name)] for name in names])
        self.layers.set_title("units left", fontsize=11, loc="left")
        plots.macs_curves(self.curves, records, ranks.macs, dense.score.accuracy, importance)
        self.curves.set_title("◆ dense, ★ now, ✚ fine-tuned", fontsize=11, loc="left")
        shown = records[records["method"].isin(plots.unit_methods(importance))]
        means = shown.groupby(["method", "sparsity"]).mean(numeric_only=True).reset_index()
        self.offer(self.curves, means, caption, lambda row: settings_of(row, importance), x="macs")
        self.star = Star(self.live, self.curves)
        self.live.move([*self.bars, *self.numbers, self.share, self.theta, *self.star.artists])

    def _arrange(self, letters: int, swept: bool) -> None:
        """Make room for the names of the layers, and for the legend of the sweep if there is one."""
        left, bottom, height = 0.285 + 0.0073 * letters, 0.155, 0.755
        self.ranking.set_position((0.04, bottom, 0.205, height))
        self.layers.set_position((left, bottom, 0.15, height))
        self.curves.set_position((left + 0.23, bottom, (0.57 if swept else 0.755) - left, height))

    def update(self, point: Compressed) -> None:
        """Move the cut, the bars and the point."""
        facts: Facts = point.facts
        cut = float(facts.ranked.relative[facts.gone].max()) if len(facts.gone) else 0.0
        self.share.set_xdata([point.settings.sparsity] * 2)
        self.theta.set_ydata([cut, cut])
        self.share.set_visible(point.settings.scope == "layer")
        self.theta.set_visible(point.settings.scope == "global")
        for bar, text, (name, width) in zip(self.bars, self.numbers, facts.widths.items(), strict=True):
            bar.set_width(width / facts.ranked.widths[name])
            text.set_text(f"{width} / {facts.ranked.widths[name]}")
        self.star.place(facts.macs, point.score, point.training is not None)

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, units, multiply-adds, file, latency."""
        facts: Facts = point.facts
        (left, every), dense = facts.units, facts.ranked.macs
        count, before = (sum(p.numel() for p in model.parameters()) for model in (point.model, point.dense.model))
        accuracy, file = super().cards(point)
        units = "units left", f"{left:,}", f"of {every:,} · {count:,} of {before:,} parameters"
        work = "multiply-adds", f"{facts.macs:,}", f"{dense / facts.macs:.1f}× fewer · dense {dense:,}"
        return [accuracy, units, work, file, latency_card(facts.latency)]

    def summarize(self, point: Compressed) -> Summary:
        """The summary; its title includes the speed-up as soon as it is known."""
        summary, latency = super().summarize(point), point.facts.latency
        found = summary.title.partition(", 1 in ")[0]  # the title has one line
        return summary._replace(title=f"{faster(latency)}, {found}") if latency else summary

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """Remove units."""
        how = f'importance="{settings["importance"]}", scope="{settings["scope"]}"'
        small = f"small = lk.prune_channels(model, {settings['sparsity']}, example=data.train.x[:2], {how}"
        if settings["importance"] not in FROM_IMAGES:
            return [f"{small})"]
        return [f"seen = lk.data.take(data.train, min({CALIBRATION}, len(data.train)))", f"{small}, calibration=seen)"]


def caption(row: Row) -> str:
    """A measured setting in words."""
    cost = f"{drawing.count(row['macs'])} multiply-adds"
    said = f"{row['method']}, sparsity {row['sparsity']:.0%}: {row['accuracy']:.2%}, {cost}"
    return f"{said}\nmeasured beforehand, mean of {len(SEEDS)} seeds"


def settings_of(row: Row, importance: str) -> dict[str, Any]:
    """The settings of a measured network; none if it was trained or pruned at random."""
    if not row["method"] == importance != "random":
        return {}
    return dict(sparsity=row["sparsity"], importance=importance, scope="layer")


def faster(latency: list[float]) -> str:
    """How much faster the pruned network is than the dense one."""
    dense, small = latency
    return f"{dense / small:.1f}× faster" if dense >= small else f"{small / dense:.1f}× slower"


def latency_card(latency: list[float] | None) -> Card:
    """Milliseconds for a batch, and those of the dense network, timed alternately."""
    label = f"{TIMED} images take"
    if latency is None:
        return label, "…", "timed when the controls rest"
    return label, f"{latency[1]:.2f} ms", f"one thread · dense {latency[0]:.2f} ms · {faster(latency)}"


def structured(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 04: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(Structured, model, data, preset)
