"""Panel of notebook 04: which units leave, how narrow every layer becomes, what that costs and what it saves."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from labkit import plots, store
from labkit.compress._channels import FIXED, Use, channels, families
from labkit.compress.structured import importance, least_important, remove
from labkit.data import Data, take
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._score import Score, Scoring, sampled, scores, whole, workers
from labkit.explore._start import Dense, Key, shipped, start
from labkit.explore._training import batch_size, paced
from labkit.measure import latency_ms, macs
from labkit.sweep import CALIBRATION
from labkit.train import fit

EPOCHS = 1  # of the training behind the button
TIMED = 100  # images in the batch whose latency is measured
ROUNDS = 7  # of latency, dense and pruned in turns


@dataclass(frozen=True)
class Ranked:
    """A network's units with their importance: all that does not change while the sparsity moves."""

    uses: list[Use]
    importance: Tensor  # by number of the unit
    families: list[Tensor]
    macs: int
    parameters: int

    @property
    def widths(self) -> dict[str, int]:
        """Units of every layer that may lose some."""
        return {use.layer: len(use.units) for use in self.uses if use.side == "out" and (use.units != FIXED).any()}


def ranked(dense: Dense, criterion: str) -> Ranked:
    """Trace a network and rank its units by a criterion."""
    data = dense.data.train
    uses = channels(dense.model, data.x[:2])
    ranks = importance(dense.model, uses, criterion, take(data, min(CALIBRATION, len(data))))
    return Ranked(uses, ranks, families(uses), macs(dense.model, data.x[0]), parameters(dense.model))


def parameters(model: nn.Module) -> int:
    """How many numbers a network holds."""
    return sum(p.numel() for p in model.parameters())


@dataclass(frozen=True)
class Narrowed:
    """A network with fewer units, measured; `training` is the share of a fine-tuning run that is done."""

    dense: Dense
    ranked: Ranked
    model: nn.Module
    criterion: str
    sparsity: float  # as asked
    scope: str
    gone: Tensor
    widths: dict[str, int]
    macs: int
    size_bytes: int
    score: Score
    latency: list[float] | None = None  # milliseconds on one thread, dense and pruned
    training: float | None = None

    @property
    def units(self) -> tuple[int, int]:
        """(units left, units that might have left)."""
        every = sum(map(len, self.ranked.families))
        return every - len(self.gone), every


def narrowed_points(
    dense: Dense, sparsity: float, criterion: str, scope: str, rank: Callable[[Dense, str], Ranked] = ranked
) -> Iterator[Narrowed]:
    """Take the units away, write the file, score and time it; a preview first where all of validation would be late."""
    ranks = rank(dense, criterion)
    gone = least_important(ranks.importance, ranks.families, sparsity, scope)
    small = remove(dense.model, ranks.uses, gone)
    yield from describe(dense, small, ranked=ranks, criterion=criterion, sparsity=sparsity, scope=scope, gone=gone)


def describe(dense: Dense, small: nn.Module, scored: Scoring = scores, **more: Any) -> Iterator[Narrowed]:
    """Measure a narrowed network beside the dense one it came from; the last result knows the latency."""
    file, split = workers().submit(store.encode, small), dense.data.validation
    modules = dict(small.named_modules())
    common: dict[str, Any] = dict(
        dense=dense,
        model=small,
        widths={name: len(modules[name].weight) for name in more["ranked"].widths},
        macs=macs(small, split.x[0]),
    )
    for score in scored(small, split):
        point = Narrowed(**common, **more, size_bytes=len(file.result()), score=score)
        yield point
    yield replace(point, latency=workers().submit(race, [dense.model, small], split.x[:TIMED]).result())


def race(models: list[nn.Module], images: Tensor) -> list[float]:
    """Milliseconds that each takes for a batch, in turns; the best of ROUNDS, since other work only ever adds."""
    rounds = [[latency_ms(model, images, repeats=1) for model in models] for _ in range(ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


class Structured:
    """The view: importance with the cut, widths of the layers, accuracy against multiply-adds."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.5), own
        self._ranked = functools.cache(ranked)  # the view's own: it goes when the view goes
        self._shown: tuple[Dense | None, str | None] = (None, None)
        figure = self.live.figure
        self.ranking = figure.add_axes((0.05, 0.13, 0.23, 0.79))
        self.layers = figure.add_axes((0.375, 0.13, 0.185, 0.79))
        self.curves = figure.add_axes((0.645, 0.13, 0.345, 0.79))

    def results(self, sparsity: float, criterion: str, scope: str, checkpoint: Key | None = None) -> Iterator[Narrowed]:
        """Measure one setting of the controls, one-shot."""
        dense = shipped(checkpoint) if checkpoint else self._own
        yield from narrowed_points(dense, sparsity, criterion, scope, self._ranked)  # type: ignore[arg-type]

    def draw(self, point: Narrowed) -> None:
        """Move the cut, the bars and the point."""
        if (point.dense, point.criterion) != self._shown:
            self._draw_still(point)
        self._draw_cut(point)
        before = point.ranked.widths
        for bar, text, (name, width) in zip(self.bars, self.numbers, point.widths.items(), strict=True):
            bar.set_width(width / before[name])
            text.set_text(f"{width} / {before[name]}")
        x, y = point.macs, float(plots.logit(point.score.accuracy))
        if plots.make_room(self.curves, x, point.score.accuracy):
            self.live.refresh()
        star = self.star if point.training is None else self.healed
        star.set_data([x], [y])
        self.interval.set_data([x, x], plots.logit(np.array(point.score.interval)))
        if point.training is None:
            self.healed.set_data([], [])

    def _draw_cut(self, point: Narrowed) -> None:
        """At a share of the units where every layer gives up the same, else at an importance."""
        gone = [
            values[torch.isin(family, point.gone)]
            for family, values in zip(point.ranked.families, relative_importance(point.ranked), strict=True)
        ]
        cut = max((float(values.max()) for values in gone if len(values)), default=0.0)
        self.share.set_xdata([point.sparsity, point.sparsity])
        self.theta.set_ydata([cut, cut])
        self.share.set_visible(point.scope == "layer")
        self.theta.set_visible(point.scope == "global")

    def _draw_still(self, point: Narrowed) -> None:
        for ax in (self.ranking, self.layers, self.curves):
            ax.clear()
        self.live.moving.clear()
        labels = family_names(point.ranked)
        curves = {name: v.numpy() for name, v in zip(labels, relative_importance(point.ranked), strict=True)}
        self.share, self.theta = plots.importance_curves(self.ranking, curves)
        self.ranking.set_title("importance ÷ mean of layer", fontsize=11, loc="left")
        names = list(point.widths)
        self.bars, self.numbers = plots.width_bars(self.layers, names)
        self.layers.set_title("units left", fontsize=11, loc="left")
        records, accuracy = point.dense.sweep("structured"), point.dense.score.accuracy
        plots.macs_curves(self.curves, records, point.ranked.macs, accuracy, point.criterion)
        self.curves.set_title("lines: measured sweep; ★ this network, now", fontsize=11, loc="left")
        (self.interval,) = self.curves.plot([], [], "-", color=plots.BLACK, lw=2, zorder=5)
        (self.star,) = self.curves.plot([], [], "*", ms=19, color=plots.ORANGE, mec="black", mew=1.2, zorder=6)
        (self.healed,) = self.curves.plot([], [], "P", ms=13, color=plots.SKY, mec="black", mew=1.2, zorder=6)
        moving = [*self.bars, *self.numbers, self.share, self.theta, self.interval, self.star, self.healed]
        self.live.move(moving)
        self.live.refresh()
        self._shown = (point.dense, point.criterion)

    def tell(self, point: Narrowed) -> Words:
        """The point in words."""
        left, every = point.units
        count = parameters(point.model)
        fewer = f"{point.ranked.macs / point.macs:.1f}× fewer · dense {point.ranked.macs:,}"
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            ("units left", f"{left:,}", f"of {every:,} · {count:,} of {point.ranked.parameters:,} parameters"),
            ("multiply-adds", f"{point.macs:,}", fewer),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
            latency_card(point.latency),
        ]
        how = "fine-tuned" if point.training is not None else "one-shot"
        alt = _words.sentence(f"{point.dense.name}, units removed by {point.criterion}, {how}", cards)
        status = _words.status(point.score)
        if point.training is not None:
            status = f"fine-tuned: {point.training:.0%} of {EPOCHS} epoch trained; {status}"
        return Words(cards, alt, status)

    def train(self, settings: dict[str, Any], show: Callable[[Narrowed], None], overtaken: Callable[[], bool]) -> None:
        """Train what is left for EPOCHS epochs; show where it stands."""
        point = next(self.results(**settings))
        more = {k: getattr(point, k) for k in ("ranked", "criterion", "sparsity", "scope", "gone")}

        def picture(model: nn.Module, progress: float) -> None:
            show(next(describe(point.dense, model, sampled, training=progress, **more)))

        model, _ = fit(
            point.model, point.dense.data.train, epochs=EPOCHS, lr=1e-3, after_step=paced(picture, 0.3),
            progress=False, cancel=overtaken, batch_size=batch_size(point.dense.data.train),
        )  # fmt: skip
        for result in describe(point.dense, model, whole, training=1.0, **more):
            show(result)


def relative_importance(ranks: Ranked) -> list[Tensor]:
    """The importance of every family's units, divided by their mean."""
    values = [ranks.importance[family] for family in ranks.families]
    return [v / v.mean().clamp_min(1e-30) for v in values]


def family_names(ranks: Ranked) -> list[str]:
    """What to call the units that compete: their layer, or the first of the layers that share them."""
    names = []
    for family in ranks.families:
        layers = [u.layer for u in ranks.uses if u.side == "out" and (u.units == family[0]).any()]
        names.append(layers[0] if len(layers) == 1 else f"{layers[0]} and {len(layers) - 1} coupled")
    return names


def latency_card(latency: list[float] | None) -> Card:
    """Milliseconds for a batch, and the dense network's in the same moment."""
    label = f"{TIMED} images take"
    if latency is None:
        return label, "…", "timed when the controls rest"
    dense, small = latency
    return label, f"{small:.2f} ms", f"one thread · dense {dense:.2f} ms · {dense / small:.1f}× faster"


def structured(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 04: the shipped checkpoints, or your own trained `model` with its `data`."""
    own, controls = start(model, data)
    criteria = [
        ("L1: sum of |weights|", "l1"),
        ("L2: norm of the weights", "l2"),
        ("Taylor: |activation × gradient|", "taylor"),
        ("activation: mean |a|", "activation"),
        ("random: the baseline", "random"),
    ]
    controls |= {
        "sparsity": _controls.share("sparsity", 0.5, high=0.95),
        "criterion": _controls.choice("importance", criteria, "l1"),
        "scope": _controls.choice(
            "scope", [("layer: each its own share", "layer"), ("global: one ranking", "global")], "layer"
        ),
    }
    view = Structured(own)
    return Panel("structured", view, controls, job=(f"fine-tune {EPOCHS} epoch", view.train))
