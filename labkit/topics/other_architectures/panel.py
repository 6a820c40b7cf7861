"""Panel of notebook 11: the same three settings on networks of all kinds, and the sensitivity of each layer or kind."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from labkit import drawing
from labkit.compress.magnitude import prune
from labkit.data import Data, take
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed, CompressionView, Row, zeros_by_layer
from labkit.live.controls import bits, choice, share, steps
from labkit.live.network import BESIDE, open_panel
from labkit.live.panel import Panel
from labkit.live.score import Score, scores, workers
from labkit.live.training import training_set
from labkit.live.view import Card, Summary
from labkit.measure import kinds
from labkit.significance import difference
from labkit.topics.other_architectures import experiment, plots
from labkit.topics.other_architectures.experiment import ALONE, ALONE_GRID, CALIBRATION_IMAGES, NETWORKS, PARTS

ONE = {"layers": "layer", "kinds": "kind"}  # of PARTS
Lost = tuple[float, float, float]  # accuracy lost against the dense network, and the ends of its interval
BITS = [(str(b), b) for b in range(2, 9)] + [("32 (float)", 32)]


@dataclass(frozen=True)
class Settings:
    """The values of the controls."""

    sparsity: float = share(
        "sparsity", 0.0, 0.98, note="share of the weights set to 0", word="{} of the weights pruned"
    )
    bits: int = bits("weight bits", 3, note="bits per weight; 32: not rounded", word="weights rounded to {} bits")
    activation_bits: int = steps(
        "activation bits", BITS, 32, note="bits of the inputs of a layer", word="activations rounded to {} bits"
    )
    granularity: str = choice(
        "one scale per", [("layer (tensor)", "tensor"), ("output channel", "channel")], "tensor",
        note="weights that share a scale when they are rounded",
    )  # fmt: skip
    by: str = choice(
        "tried alone", [("each layer", "layers"), ("each kind of layer", "kinds")], "layers",
        note="what is compressed alone, while the rest stays dense", word="{} tried alone",
    )  # fmt: skip


def lost_beside(dense: Baseline, score: Score) -> Lost:
    """Accuracy lost against the dense network, on the images that were scored."""
    lost, won = (len(indices) for indices in words.flips_of(dense.score, score, dense.data.validation.y))
    return difference(lost, won, score.images)


class Architectures(CompressionView):
    """The view: points lost against the ratio, the star among all networks; one bar for each layer or kind."""

    name, settings_type, size, still_by = "architectures", Settings, BESIDE, "by"
    networks = sorted(NETWORKS, key=lambda key: key[0] != "mobilenet")  # the one with the most kinds of layers first
    scenes = {
        "8 bits cost nothing": dict(sparsity=0.0, bits=8, activation_bits=32, granularity="tensor"),
        "3 bits, one scale per layer": dict(sparsity=0.0, bits=3, activation_bits=32, granularity="tensor"),
        "3 bits, one scale per channel": dict(sparsity=0.0, bits=3, activation_bits=32, granularity="channel"),
        "half pruned, each kind alone": dict(sparsity=0.5, bits=32, activation_bits=32, by="kinds"),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self.plane = self.live.figure.add_axes((0.085, 0.13, 0.49, 0.7))
        self.parts = self.live.figure.add_axes((0.715, 0.13, 0.275, 0.7))
        self.tables = {" on ".join(key): experiment.across(*key) for key in NETWORKS}

    def idle(self, settings: Mapping[str, Any]) -> set[str]:
        """The granularity, while no weight is rounded."""
        return {"granularity"} if settings["bits"] == 32 else set()

    def compress(self, dense: Baseline, settings: Settings, layers: list[str] | None = None) -> nn.Module:
        """Prune globally, round the weights, round the inputs; of all layers, or of `layers`."""
        knobs = {name: value for name, value in asdict(settings).items() if name != "by"}
        few = training_set(dense.data, CALIBRATION_IMAGES)
        return experiment.squeeze(dense.model, **knobs, calibration=few, layers=layers)

    def look(self, dense: Baseline, small: nn.Module, settings: Settings) -> dict[str, Lost]:
        """What every layer loses alone, where that has shipped; else none is tried yet."""
        rows = dense.sweep("alone").to_dict("records") if settings.by == "layers" else []
        here = [row for row in rows if all(row[name] == getattr(settings, name) for name in ALONE_GRID)]
        return {row["part"]: difference(row["lost"], row["won"], row["images"]) for row in here}

    def further(self, point: Compressed) -> Iterator[Compressed]:
        """Each part tried alone, among dense ones, unless that has shipped."""
        dense, settings = point.dense, point.settings
        few = take(dense.data.validation, min(ALONE, len(dense.data.validation)))
        zeros = zeros_by_layer(prune(dense.model, settings.sparsity))
        for part, layers in ({} if point.facts else parts_of(point)).items():
            taken: Any = {layer: zeros[layer] for layer in layers}  # by the ranking over all layers
            one = workers().submit(self.compress, dense, replace(settings, sparsity=taken), layers).result()
            *_, score = scores(one, few)
            point = replace(point, facts=point.facts | {part: lost_beside(dense, score)})
            yield point

    def background(self, point: Compressed) -> None:
        """The frontiers of all networks, an empty bar for each part."""
        frontiers = plots.lost_plane(self.plane, self.tables, point.dense.name)
        self.plane.set_title("★ now, ◆ dense; lines: measured sweep", fontsize=11, loc="left", pad=36)
        for name, (places, rows) in frontiers.items():
            here = name == point.dense.name
            knobs = [{k: row[k] for k in ("sparsity", "bits", "granularity")} | {"activation_bits": 32} for row in rows]
            self.live.offer(self.plane, places, [caption(name, row) for row in rows], knobs if here else None)
        kind, parts = kinds(point.dense.model), parts_of(point)
        self.bars, self.spans = plots.lost_bars(self.parts, {part: kind[of[0]] for part, of in parts.items()})
        self.live.offer(self.parts, [(0, y) for y in range(len(parts))], parts)  # of many, not all have labels
        tried = f"each alone, {min(ALONE, point.score.total):,} {point.score.what}"
        self.parts.set_title(tried, fontsize=11, loc="left", pad=36)
        (self.interval,) = self.plane.plot([], [], "-", color=drawing.RED, lw=3, solid_capstyle="butt", zorder=5)
        (self.star,) = self.plane.plot([], [], "*", ms=19, color=drawing.ORANGE, mec="black", mew=1.2, zorder=6)
        self.live.move([*self.bars, self.spans, self.interval, self.star])

    def update(self, point: Compressed) -> None:
        """Move the star and the bars."""
        ratio = point.dense.size_bytes / point.size_bytes
        lost, low, high = plots.lost_scale(100 * np.array(lost_beside(point.dense, point.score)))
        if ratio > self.plane.get_xlim()[1]:
            self.plane.set_xlim(right=1.3 * ratio)
            self.live.refresh()
        self.star.set_data([ratio], [lost])
        self.star.set_alpha(1 if point.score.settled else 0.5)
        self.interval.set_data([ratio] * 2, [low, high])
        alone = plots.lost_scale(100 * np.reshape([*point.facts.values()], (-1, 3)))  # a row for each part tried so far
        for bar, width in zip(self.bars, [*alone[:, 0], *[0] * (len(self.bars) - len(alone))], strict=True):
            bar.set_width(width)
        ends = np.column_stack([alone[:, 1:], np.full(len(alone), np.nan)])  # one line for all keeps a frame short
        self.spans.set_data(ends.ravel(), np.repeat(np.arange(len(alone)), 3))

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, file, points lost by the whole and by the weakest part."""
        return [*super().cards(point), lost_card(point), weakest_card(point)]

    def summarize(self, point: Compressed) -> Summary:
        """The point in words; the status shows how many parts were tried."""
        told, one = super().summarize(point), ONE[point.settings.by]
        done, every = len(point.facts), len(parts_of(point))
        scan = f"; {one} {done} of {every} tried alone" if done < every else f"; every {one} tried alone"
        return told._replace(status=told.status + scan * point.score.settled)

    def made(self, settings: Mapping[str, Any]) -> list[str]:
        """Apply the settings."""
        knobs = ", ".join(str(settings[name]) for name in ("sparsity", "bits", "activation_bits"))
        how = f'granularity="{settings["granularity"]}", calibration=lk.data.take(data.train, {CALIBRATION_IMAGES})'
        imported = "from labkit.topics.other_architectures.experiment import squeeze"
        return [imported, f"small = squeeze(model, {knobs}, {how})"]


def parts_of(point: Compressed) -> dict[str, list[str]]:
    """What is tried alone: every layer, or all layers of each kind."""
    return PARTS[point.settings.by](point.dense.model)


def caption(name: str, row: Row) -> str:
    """A measured setting in words."""
    bits = "not rounded" if row["bits"] == 32 else f"{row['bits']} bits, one scale per {row['granularity']}"
    size = drawing.kilobytes(row["size_bytes"])
    made = f"{name}, one-shot, measured beforehand"
    return f"{made}\nsparsity {row['sparsity']:.0%}, {bits}: {row['accuracy']:.2%}, {size}"


def lost_card(point: Compressed) -> Card:
    """What the whole network loses, and the sum of what its parts lose alone."""
    d, low, high = (100 * v for v in lost_beside(point.dense, point.score))
    done = len(point.facts) == len(parts_of(point))
    apart = f"{100 * sum(lost for lost, _, _ in point.facts.values()):.1f}" if done else "…"
    return "points lost", f"{d:.1f}", f"95 %: {low:.1f} to {high:.1f} · {point.settings.by} alone, summed: {apart}"


def weakest_card(point: Compressed) -> Card:
    """The layer or kind that loses most alone, of those tried so far."""
    label = f"weakest {ONE[point.settings.by]} loses"
    if not point.facts:
        return label, "…", "each is tried alone when the controls rest"
    part = max(point.facts, key=lambda name: point.facts[name][0])
    d, low, high = (100 * v for v in point.facts[part])
    name = part.removesuffix(".weight")
    if point.settings.by == "kinds":
        name += f" · {len(parts_of(point)[part])} of {len(point.dense.layers)} layers"
    return label, f"{d:.1f} points", f"{name} · 95 %: {low:.1f} to {high:.1f}"


def architectures(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 11: shipped networks of all kinds, or your own trained `model` with its `data`."""
    return open_panel(Architectures, model, data, preset)
