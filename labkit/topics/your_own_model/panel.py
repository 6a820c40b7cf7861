"""Panel of notebook 13b: your own network under one setting, scored by your own metric, and its hot spots by layer."""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import store
from labkit.compress._weights import weights
from labkit.data import load_data, take
from labkit.drawing import GREY, ORANGE, RED
from labkit.drawing.bars import short_names
from labkit.live import words
from labkit.live.controls import bits, choice, layer_menu, share
from labkit.live.network import NetworkView, panel_of
from labkit.live.panel import Panel
from labkit.live.score import workers
from labkit.live.view import Card, Summary
from labkit.topics.your_own_model import plots
from labkit.topics.your_own_model.merit import Damage, Merit, merits
from labkit.topics.your_own_model.own import Own, compressed, damage_alone, heat, layer_bytes, network, own_network
from labkit.zoo import load_model

SHIPPED, WINDOWS = ("char-transformer", "shakespeare"), 300  # what is shown if no network is given


@dataclass(frozen=True)
class Settings:
    """The values of the controls."""

    sparsity: float = share(
        "sparsity",
        0.5,
        0.98,
        note="share of the weights of each layer that is set to 0",
        word="{} of each layer pruned",
    )
    bits: int = bits(value=4, note="bits per weight; 32: not rounded", word="weights rounded to {} bits")
    granularity: str = choice(
        "one scale per", [("layer (tensor)", "tensor"), ("output channel", "channel")], "tensor",
        note="weights that share a scale when they are rounded",
    )  # fmt: skip
    layer: str = layer_menu(note="what is compressed in the file: all layers, or one of them", word="{}")


@dataclass(frozen=True)
class Point:
    """A compressed network, scored and weighed; `damage` of the layers that were tried alone so far."""

    dense: Own
    settings: Settings
    merit: Merit
    size_bytes: int
    sizes: dict[str, int]  # bytes of each layer
    left: tuple[int, int]  # weights that are not zero, and all
    interval: tuple[float, float] | None = None
    damage: dict[str, Damage] = field(default_factory=dict)

    @property
    def units(self) -> float:
        """How much worse than the dense network on the same examples, in units of the picture."""
        before = self.dense.merit.first(self.merit.examples)
        return self.dense.metric.sign * (before.value - self.merit.value) / self.dense.unit

    @property
    def reach(self) -> float:
        """Units of damage that the axes show: 100, or as many times 10 as it takes."""
        most = max([self.units, *(lost / self.dense.unit for lost, _, _ in self.damage.values())], key=finite)
        return 100 * 10.0 ** max(0, math.ceil(math.log10(max(finite(most), 1) / 100)))

    @property
    def smallest(self) -> float:
        """The left end of the axis of bytes."""
        return self.dense.size_bytes / (60 if self.size_bytes > self.dense.size_bytes / 60 else 600)

    @property
    def widest(self) -> float:
        """The right end of the axis of shares."""
        return next(end for end in (0.1, 0.3, 1) if end >= max(map(self.share, self.sizes)))

    @property
    def hottest(self) -> str:
        """The layer with the largest share of the file × damage, of those tried so far; "" before the first."""
        return max(self.damage, key=lambda layer: heat(self.share(layer), self.damage[layer][0]), default="")

    def share(self, layer: str) -> float:
        """The share of a layer in the bytes of the file."""
        return self.sizes[layer] / self.size_bytes


def finite(number: float) -> float:
    """The number; that of a network that computes NaN or infinity does not widen the axes."""
    return number if math.isfinite(number) else 0.0


class YourModel(NetworkView):
    """The view: figure of merit against bytes; the share of the file and the damage alone of each layer."""

    name, settings_type, pure = "your_model", Settings, True
    scenes = {
        "8 bits": dict(sparsity=0.0, bits=8, granularity="tensor", layer=""),
        "half pruned": dict(sparsity=0.5, bits=32, layer=""),
        "3 bits, one scale per layer": dict(sparsity=0.0, bits=3, granularity="tensor", layer=""),
        "3 bits, one scale per channel": dict(sparsity=0.0, bits=3, granularity="channel", layer=""),
    }

    def __init__(self, own: Any) -> None:
        super().__init__(own)
        self.plane = self.live.figure.add_axes((0.08, 0.135, 0.36, 0.785))
        self.shares = self.live.figure.add_axes((0.56, 0.135, 0.175, 0.785))
        self.alone = self.live.figure.add_axes((0.755, 0.135, 0.235, 0.785))
        self.seen: dict[Settings, tuple[int, float]] = {}  # bytes and units of damage of what was measured

    def dense(self, checkpoint: Any = None) -> Any:
        """The network as it is."""
        return self.own

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The granularity, while no weight is rounded."""
        return {"granularity"} if settings["bits"] == 32 else set()

    def measure(self, dense: Any, settings: Settings) -> Iterator[Point]:
        """Compress, write the file, score it; then its interval, then each layer alone."""
        knobs = (settings.sparsity, settings.bits, settings.granularity)
        every = workers().submit(compressed, dense, *knobs).result()
        small = network(dense, {settings.layer: every[settings.layer]} if settings.layer else every)
        found = merits(dense.metric, small, dense.x, dense.y)  # copies the network
        file = workers().submit(store.encode_with_ledger, small)
        left = workers().submit(lambda: words.weights_left(weights(small)))
        for merit in found:
            raw, ledger = file.result()
            point = Point(dense, settings, merit, len(raw), layer_bytes(dense, ledger), left.result())
            yield point
        self.seen[settings] = (point.size_bytes, point.units)
        yield (point := replace(point, interval=workers().submit(lambda: point.merit.interval).result()))
        for layer in dense.layers:
            lost = damage_alone(dense, every, layer)
            yield (point := replace(point, damage=point.damage | {layer: lost}))

    def still_for(self, point: Point) -> Any:
        """What the axes depend on."""
        return point.dense, point.reach, point.smallest, point.widest

    def background(self, point: Point) -> None:
        """The axes, the dense network, and what moves: dots, star, bars."""
        dense, metric = point.dense, point.dense.metric
        steps = [step for step in plots.STEPS if step <= point.reach]
        values = {step: dense.merit.value - metric.sign * step * dense.unit for step in steps}
        ticks = {step: f"{100 * v:.1f} %" if metric.percent else f"{v:.3g}" for step, v in values.items()}
        ticks = {step: text for step, text in ticks.items() if not metric.percent or values[step] >= 0}
        plots.merit_plane(self.plane, point.smallest, dense.size_bytes, point.reach, ticks)
        self.plane.set_ylabel(f"{metric.name} (better is up)")
        self.plane.set_title("★ now, ◆ dense, ● measured so far", fontsize=11, loc="left")
        lost = {step: f"{step}" for step in steps}
        if not metric.percent:  # longer texts: every second one
            lost = {step: f"{-metric.sign * step * dense.unit:+.2g}" if step else "0" for step in steps[::2]}
        drawn = plots.hot_bars(self.shares, self.alone, dense.layers, point.widest, point.reach, lost)
        self.bars, self.losses, self.spans = drawn
        self.shares.set_title("share of the file", fontsize=11, loc="left")
        self.alone.set_title(f"damage alone, {dense.few.examples:,} examples", fontsize=11, loc="left")
        self.alone.set_xlabel("points of accuracy lost" if metric.percent else f"change of {metric.name}")
        self.live.offer(self.alone, [(0, y) for y in range(len(dense.layers))], dense.layers)
        (self.dots,) = self.plane.plot([], [], "o", ms=5, color=GREY, mec="white", mew=0.6, zorder=3)
        (self.interval,) = self.plane.plot([], [], "-", color=RED, lw=3, solid_capstyle="butt", zorder=5)
        (self.star,) = self.plane.plot([], [], "*", ms=19, color=ORANGE, mec="black", mew=1.2, zorder=6)
        self.live.move([*self.bars, *self.losses, self.spans, self.dots, self.interval, self.star])

    def update(self, point: Point) -> None:
        """Move the star, the dots and the bars."""
        dense, shown = point.dense, math.isfinite(point.units)
        self.star.set_data([point.size_bytes] * shown, [-plots.worse(point.units)] * shown)
        self.star.set_alpha(1 if point.merit.settled else 0.5)
        gaps = [dense.metric.sign * (dense.merit.value - end) for end in point.interval or ()]
        heights = [-plots.worse(gap / dense.unit) for gap in gaps]
        self.interval.set_data([point.size_bytes] * len(heights), heights)
        seen = np.reshape([place for place in self.seen.values() if math.isfinite(place[1])], (-1, 2))
        self.dots.set_data(seen[:, 0], -plots.worse(seen[:, 1]))
        for layer, bar in zip(dense.layers, self.bars, strict=True):
            bar.set_width(point.share(layer))
        most = float(plots.worse(point.reach))
        alone = plots.worse(np.reshape([*point.damage.values()], (-1, 3)) / dense.unit)
        alone = np.nan_to_num(alone, nan=most, posinf=most, neginf=-most)
        for bar, width in zip(self.losses, [*alone[:, 0], *[0] * (len(self.losses) - len(alone))], strict=True):
            bar.set_width(width)
        for layer, bar in zip(dense.layers, self.losses, strict=True):
            bar.set_facecolor(RED if layer == point.hottest else ORANGE)
        ends = np.column_stack([alone[:, 1:], np.full(len(alone), np.nan)])
        self.spans.set_data(ends.ravel(), np.repeat(np.arange(len(alone)), 3))

    def summarize(self, point: Point) -> Summary:
        """The point in words."""
        dense, merit, metric = point.dense, point.merit, point.dense.metric
        cards = [
            merit_card(point), words.file_card(point.size_bytes, dense.size_bytes), words.count_card(*point.left),
            hottest_card(point), left_out_card(dense),
        ]  # fmt: skip
        status = f"preview on {merit.examples:,} of {merit.total:,} examples; settling …"
        if merit.settled:
            done, every = len(point.damage), len(dense.layers)
            status = f"scored on all {merit.total:,} examples; "
            status += f"layer {done} of {every} tried alone" if done < every else "every layer tried alone"
        ratio = dense.size_bytes / point.size_bytes
        smaller = f"{ratio:.3g}× smaller" if ratio >= 1 else f"{1 / ratio:.3g}× larger"
        title = f"{smaller}, {metric.name} {metric.show(dense.merit.value)} → {metric.show(merit.value)}"
        alt = words.sentence(words.setting(dense, point.settings, self), cards)
        return Summary(cards, alt, status, title)

    def compared(self, pinned: Point, now: Point) -> str:
        """The change of the metric, and of the file."""
        metric, ratio = now.dense.metric, pinned.size_bytes / now.size_bytes
        change = metric.change(metric.sign * (pinned.merit.value - now.merit.value))
        file = f"file {ratio:.2f}× smaller" if ratio >= 1 else f"file {1 / ratio:.2f}× larger"
        return f"{metric.name} {change}, {file}"

    def code(self, settings: Mapping[str, Any]) -> str:
        """Compress, score, write."""
        dense = self.dense()
        layers = f', layers=["{settings["layer"]}"]' if settings["layer"] else ""
        lines = ["import labkit as lk", "# model: your network; x, y: its examples; metric: your metric"]
        if dense.key:
            names = '"{}", "{}"'.format(*dense.key)
            lines[1:] = [
                "from labkit.topics.your_own_model.panel import perplexity as metric",
                f'model, data = lk.load_model({names}), lk.load_data("{dense.key[1]}")',
                f"few = lk.data.take(data.validation, {WINDOWS})",
                "x, y = few.x, few.y",
            ]
        lines += [f'small = lk.prune(model, {settings["sparsity"]}, scope="layer"{layers})']
        if settings["bits"] < 32:
            lines += [
                f'small = lk.quantize(small, {settings["bits"]}, granularity="{settings["granularity"]}"{layers})'
            ]
        if dense.metric.percent:
            return "\n".join([*lines, 'lk.accuracy(small, lk.Split(x, y))["accuracy"], len(lk.encode(small))'])
        lines += ["small = small.eval().requires_grad_(False)"]
        figure = "metric(small(x), y)" + ".double().mean()" * dense.metric.each
        return "\n".join([*lines, f"float({figure}), len(lk.encode(small))"])


def merit_card(point: Point) -> Card:
    """The figure of merit with its interval, and the dense network's."""
    dense, metric = point.dense, point.dense.metric
    label = metric.name if point.merit.settled else f"{metric.name}, preview of {point.merit.examples:,}"
    ends = "–".join(f"{end:.1%}" if metric.percent else f"{end:.3g}" for end in point.interval or ()) or "…"
    return label, metric.show(point.merit.value), f"95 %: {ends} · dense {metric.show(dense.merit.value)}"


def hottest_card(point: Point) -> Card:
    """The layer with the largest share of the file × damage, of those tried so far."""
    label, layer = "hottest layer", point.hottest
    if not layer:
        return label, "…", "each is tried alone when the controls rest"
    name = words.cut(short_names(point.dense.layers)[point.dense.layers.index(layer)], 16)
    change = point.dense.metric.change(point.damage[layer][0])
    return label, name, f"{point.share(layer):.0%} of the file · alone {change}"


def left_out_card(dense: Own) -> Card:
    """How many layers and tensors are stored as they are, and why."""
    names: dict[str, list[str]] = {}
    for name, reason in dense.left_out.items():
        names.setdefault(reason, []).append(name)
    rare = sorted(names.items(), key=lambda item: len(item[1]))
    told = "; ".join(few[0] + f" + {len(few) - 1} more" * (len(few) > 1) + f" ({reason})" for reason, few in rare)
    return (
        "stored as they are",
        f"{len(dense.left_out)}",
        words.cut(told, 90) or "every layer with weights is compressed",
    )


def perplexity(logits: Tensor, y: Tensor) -> Tensor:
    """exp of the mean cross-entropy: among how many equally likely characters the network chooses."""
    return F.cross_entropy(logits, y).exp()


@functools.cache
def shipped() -> Own:
    """The character transformer, scored by its perplexity."""
    few = take(load_data(SHIPPED[1]).validation, WINDOWS)
    return own_network(load_model(*SHIPPED), few, perplexity, "lower", " on ".join(SHIPPED), SHIPPED)


def your_model(
    model: nn.Module | None = None, data: Any = None, metric: Any = None, *, better: str = "higher", preset: str = ""
) -> Panel:
    """The live panel of notebook 13b: your own network, scored by accuracy or by your own metric.

    `data` is a labkit Data (validation is used), a Split, a pair (x, y) of tensors, or an iterable of batches (x, y),
    read once. metric(outputs, y) gives one score per example or one number for all; `better` says whether a "higher"
    or a "lower" one is better. Without arguments: the character transformer and its perplexity.
    """
    if (model is None) != (data is None):
        raise ValueError("model and data belong together: give both or neither")
    if model is None and metric is not None:
        raise ValueError("metric is given without a model; allowed: model, data and metric")
    own = shipped() if model is None else own_network(model, data, metric, better)
    return panel_of(YourModel(own), preset)
