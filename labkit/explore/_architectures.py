"""Panel of notebook 11: the same three knobs on networks of all kinds, and what each layer or kind bears alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from labkit import plots, store
from labkit.compress._weights import weights
from labkit.compress.magnitude import prune
from labkit.data import Data, manifest, take
from labkit.explore import _controls, _words
from labkit.explore._figure import LiveFigure
from labkit.explore._panel import Card, Panel, Words
from labkit.explore._score import Score, scores, workers
from labkit.explore._start import Dense, Key, shipped, start
from labkit.measure import difference, kinds
from labkit.sweep import NETWORKS, PARTS, across, squeeze, sweep_path
from labkit.sweep.architectures import LOT

SCANNED = 1_000  # validation images on which a part is scored alone
ONE = {"layers": "layer", "kinds": "kind"}  # of PARTS
Lost = tuple[float, float, float]  # accuracy lost beside the dense network, and the ends of its interval


@dataclass(frozen=True)
class Squeezed:
    """A network under one setting of the knobs, measured; `alone` grows while its parts are tried one by one."""

    dense: Dense
    setting: dict[str, Any]
    by: str
    size_bytes: int
    score: Score
    alone: dict[str, Lost]

    @property
    def lost(self) -> Lost:
        """Accuracy lost by the whole network."""
        return lost_beside(self.dense, self.score)

    @property
    def ratio(self) -> float:
        """The fp32 file over this one."""
        return self.dense.size_bytes / self.size_bytes

    @property
    def parts(self) -> dict[str, list[str]]:
        """What is tried alone: every layer, or all layers of each kind."""
        return PARTS[self.by](self.dense.model)


def lost_beside(dense: Dense, score: Score) -> Lost:
    """Accuracy lost beside the dense network on the images that were scored."""
    lost, won = (len(indices) for indices in _words.flips_of(dense.score, score, dense.data.validation.y))
    return difference(lost, won, score.images)


def squeezed_points(dense: Dense, by: str = "layers", **setting: Any) -> Iterator[Squeezed]:
    """Squeeze the whole network, write the file, score it; then try each layer or kind alone, among dense ones."""
    small = _squeeze(dense, setting)
    found = scores(small, dense.data.validation)
    file = workers().submit(store.encode, small)
    for score in found:
        point = Squeezed(dense, setting, by, len(file.result()), score, {})
        yield point
    few = take(dense.data.validation, min(SCANNED, len(dense.data.validation)))
    pruned = weights(prune(dense.model, setting["sparsity"]))
    shares = {layer: float((weight == 0).float().mean()) for layer, weight in pruned.items()}
    for part, layers in point.parts.items():
        sparsity = {layer: shares[layer] for layer in layers}  # what the ranking over all layers took from these
        *_, score = scores(_squeeze(dense, setting | dict(sparsity=sparsity), layers), few)
        point = replace(point, alone=point.alone | {part: lost_beside(dense, score)})
        yield point


def _squeeze(dense: Dense, setting: dict[str, Any], layers: list[str] | None = None) -> nn.Module:
    images: Tensor = dense.data.train.x[:LOT]
    return workers().submit(squeeze, dense.model, **setting, calibration=images, layers=layers).result()


class Architectures:
    """The view: what is lost against the ratio, the star among all networks; the layers or the kinds, one bar each."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.9), own
        self._shown: tuple[Dense, str] | None = None
        self.plane = self.live.figure.add_axes((0.065, 0.115, 0.475, 0.815))
        self.parts = self.live.figure.add_axes((0.69, 0.115, 0.3, 0.815))
        swept = [key for key in NETWORKS if sweep_path("frontier", *key) in manifest()]
        self.tables = {" on ".join(key): across(*key) for key in swept}

    def results(self, by: str = "layers", checkpoint: Key | None = None, **setting: Any) -> Iterator[Squeezed]:
        """Measure one setting of the controls."""
        dense = shipped(checkpoint) if checkpoint else self._own
        return squeezed_points(dense, by, **setting)  # type: ignore[arg-type]

    def draw(self, point: Squeezed) -> None:
        """Move the star and the bars."""
        if (point.dense, point.by) != self._shown:
            self._draw_still(point)
        d, low, high = (float(plots.lost_scale(100 * v)) for v in point.lost)
        if point.ratio > self.plane.get_xlim()[1]:
            self.plane.set_xlim(right=1.3 * point.ratio)
            self.live.refresh()
        self.star.set_data([point.ratio], [d])
        self.interval.set_data([point.ratio] * 2, [low, high])
        ends = {part: [float(plots.lost_scale(100 * v)) for v in lost] for part, lost in point.alone.items()}
        for bar, part in zip(self.bars, point.parts, strict=True):
            bar.set_width(ends[part][0] if part in ends else 0)
        self.spans.set_segments([[(low, y), (high, y)] for y, (_, low, high) in enumerate(ends.values())])

    def _draw_still(self, point: Squeezed) -> None:
        self.plane.clear()
        self.parts.clear()
        self.live.moving.clear()
        plots.lost_plane(self.plane, self.tables, point.dense.name)
        self.plane.set_title("lines: measured sweep; ★ this network, now", fontsize=11, loc="left")
        kind = kinds(point.dense.model)
        self.bars, self.spans = plots.lost_bars(self.parts, {part: kind[of[0]] for part, of in point.parts.items()})
        self.parts.set_title(f"each {ONE[point.by]} alone, {SCANNED:,} images", fontsize=11, loc="left")
        (self.interval,) = self.plane.plot([], [], "-", color=plots.RED, lw=3, solid_capstyle="butt", zorder=5)
        (self.star,) = self.plane.plot([], [], "*", ms=21, color=plots.ORANGE, mec="black", mew=1.2, zorder=6)
        self.live.move([*self.bars, self.spans, self.interval, self.star])
        self.live.refresh()
        self._shown = point.dense, point.by

    def tell(self, point: Squeezed) -> Words:
        """The point in words."""
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
            lost_card(point),
            weakest_card(point),
        ]
        alt = _words.sentence(f"{point.dense.name}, {setting_words(**point.setting)}", cards)
        done, every, one = len(point.alone), len(point.parts), ONE[point.by]
        scan = f"; {one} {done} of {every} tried alone" if done < every else f"; every {one} tried alone"
        return Words(cards, alt, _words.status(point.score, scan if point.score.settled else ""))


def lost_card(point: Squeezed) -> Card:
    """What the whole network loses, beside the sum of what its parts lose alone."""
    d, low, high = (100 * v for v in point.lost)
    done = len(point.alone) == len(point.parts)
    apart = f"{100 * sum(lost for lost, _, _ in point.alone.values()):.1f}" if done else "…"
    return "points lost", f"{d:.1f}", f"95 %: {low:.1f} to {high:.1f} · {point.by} alone, summed: {apart}"


def weakest_card(point: Squeezed) -> Card:
    """The layer or kind that costs most by itself, of those tried so far."""
    label = f"weakest {ONE[point.by]}"
    if not point.alone:
        return label, "…", "each is tried alone when the controls rest"
    part = max(point.alone, key=lambda name: point.alone[name][0])
    if point.by == "layers":
        about = kinds(point.dense.model)[part]
    else:
        about = f"{len(point.parts[part])} of {len(point.dense.layers)} layers"
    return label, part.removesuffix(".weight"), f"{about} · {lost_words(point.alone[part])}"


def lost_words(lost: Lost) -> str:
    """Points of accuracy lost, with their interval."""
    d, low, high = (100 * v for v in lost)
    return f"{d:.1f} points lost (95 %: {low:.1f} to {high:.1f})"


def setting_words(sparsity: float, bits: int, activation_bits: int, granularity: str) -> str:
    """The knobs in words."""
    weight = "weights not rounded" if bits == 32 else f"weights rounded to {bits} bits per {granularity}"
    activation = "activations not rounded" if activation_bits == 32 else f"activations to {activation_bits} bits"
    return f"{sparsity:.0%} of the weights pruned, {weight}, {activation}"


def architectures(model: nn.Module | None = None, data: Data | None = None) -> Panel:
    """The live panel of notebook 11: shipped networks of all kinds, or your own trained `model` with its `data`."""
    own, controls = start(model, data, NETWORKS)
    if own is None:
        controls["checkpoint"].value = ("mobilenet", "cifar10")
    controls |= {
        "sparsity": _controls.share("sparsity", 0.0, high=0.98),
        "bits": _controls.bits("weight bits", 3),
        "activation_bits": _controls.steps(
            "activation bits", [(str(b), b) for b in range(2, 9)] + [("32 (float)", 32)], 32
        ),
        "granularity": _controls.choice(
            "one scale per", [("layer (tensor)", "tensor"), ("output channel", "channel")], "tensor"
        ),
        "by": _controls.choice("tried alone", [("each layer", "layers"), ("each kind of layer", "kinds")], "layers"),
    }
    return Panel("architectures", Architectures(own), controls)
