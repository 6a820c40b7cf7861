"""Panel of notebook 11: the same three knobs on networks of five kinds, and what each layer bears alone."""

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
from labkit.sweep import NETWORKS, across, squeeze, sweep_path
from labkit.sweep.architectures import LOT

SCANNED = 1_000  # validation images on which a layer is scored alone
Lost = tuple[float, float, float]  # accuracy lost beside the dense network, and the ends of its interval


@dataclass(frozen=True)
class Squeezed:
    """A network under one setting of the knobs, measured; `alone` grows while the layers are tried one by one."""

    dense: Dense
    setting: dict[str, Any]
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


def lost_beside(dense: Dense, score: Score) -> Lost:
    """Accuracy lost beside the dense network on the images that were scored."""
    lost, won = (len(indices) for indices in _words.flips_of(dense.score, score, dense.data.validation.y))
    return difference(lost, won, score.images)


def squeezed_points(dense: Dense, **setting: Any) -> Iterator[Squeezed]:
    """Squeeze the whole network, write the file, score it; then try each of its layers alone, among dense ones."""
    small = _squeeze(dense, setting)
    found = scores(small, dense.data.validation)
    file = workers().submit(store.encode, small)
    for score in found:
        point = Squeezed(dense, setting, len(file.result()), score, {})
        yield point
    few = take(dense.data.validation, min(SCANNED, len(dense.data.validation)))
    for layer, weight in weights(prune(dense.model, setting["sparsity"])).items():
        sparsity = {layer: float((weight == 0).float().mean())}  # what the ranking over all layers took from this one
        *_, score = scores(_squeeze(dense, setting | dict(sparsity=sparsity), [layer]), few)
        point = replace(point, alone=point.alone | {layer: lost_beside(dense, score)})
        yield point


def _squeeze(dense: Dense, setting: dict[str, Any], layers: list[str] | None = None) -> nn.Module:
    images: Tensor = dense.data.train.x[:LOT]
    return workers().submit(squeeze, dense.model, **setting, calibration=images, layers=layers).result()


class Architectures:
    """The view: what is lost against the ratio, the star among five networks; the layers, one bar each."""

    def __init__(self, own: Dense | None = None) -> None:
        self.live, self._own = LiveFigure(10.4, 4.9), own
        self._shown: Dense | None = None
        self.plane = self.live.figure.add_axes((0.065, 0.115, 0.475, 0.815))
        self.layers = self.live.figure.add_axes((0.69, 0.115, 0.3, 0.815))
        swept = [key for key in NETWORKS if sweep_path("frontier", *key) in manifest()]
        self.tables = {" on ".join(key): across(*key) for key in swept}

    def results(self, checkpoint: Key | None = None, **setting: Any) -> Iterator[Squeezed]:
        """Measure one setting of the controls."""
        return squeezed_points(shipped(checkpoint) if checkpoint else self._own, **setting)  # type: ignore[arg-type]

    def draw(self, point: Squeezed) -> None:
        """Move the star and the bars."""
        if point.dense is not self._shown:
            self._draw_still(point.dense)
        d, low, high = (float(plots.lost_scale(100 * v)) for v in point.lost)
        if point.ratio > self.plane.get_xlim()[1]:
            self.plane.set_xlim(right=1.3 * point.ratio)
            self.live.refresh()
        self.star.set_data([point.ratio], [d])
        self.interval.set_data([point.ratio] * 2, [low, high])
        for bar, name in zip(self.bars, point.dense.layers, strict=True):
            bar.set_width(float(plots.lost_scale(100 * point.alone[name][0])) if name in point.alone else 0)

    def _draw_still(self, dense: Dense) -> None:
        self.plane.clear()
        self.layers.clear()
        self.live.moving.clear()
        plots.lost_plane(self.plane, self.tables, dense.name)
        self.plane.set_title("lines: measured sweep; ★ this network, now", fontsize=11, loc="left")
        self.bars = plots.kind_bars(self.layers, kinds(dense.model))
        self.layers.set_title(f"each layer alone, {SCANNED:,} images", fontsize=11, loc="left")
        (self.interval,) = self.plane.plot([], [], "-", color=plots.RED, lw=3, solid_capstyle="butt", zorder=5)
        (self.star,) = self.plane.plot([], [], "*", ms=21, color=plots.ORANGE, mec="black", mew=1.2, zorder=6)
        self.live.move([*self.bars, self.interval, self.star])
        self.live.refresh()
        self._shown = dense

    def tell(self, point: Squeezed) -> Words:
        """The point in words."""
        cards = [
            _words.accuracy_card(point.score, point.dense.score),
            _words.file_card(point.size_bytes, point.dense.size_bytes),
            lost_card(point),
            weakest_card(point),
        ]
        alt = _words.sentence(f"{point.dense.name}, {setting_words(**point.setting)}", cards)
        done, every = len(point.alone), len(point.dense.layers)
        scan = f"; layer {done} of {every} tried alone" if done < every else "; every layer tried alone"
        return Words(cards, alt, _words.status(point.score, scan if point.score.settled else ""))


def lost_card(point: Squeezed) -> Card:
    """What the whole network loses, beside the sum of what its layers lose alone."""
    d, low, high = (100 * v for v in point.lost)
    done = len(point.alone) == len(point.dense.layers)
    apart = f"{100 * sum(lost for lost, _, _ in point.alone.values()):.1f}" if done else "…"
    return "points lost", f"{d:.1f}", f"95 %: {low:.1f} to {high:.1f} · layers alone, summed: {apart}"


def weakest_card(point: Squeezed) -> Card:
    """The layer that costs most by itself, of those tried so far."""
    if not point.alone:
        return "weakest layer", "…", "each is tried alone when the controls rest"
    name = max(point.alone, key=lambda layer: point.alone[layer][0])
    label, kind = name.removesuffix(".weight"), kinds(point.dense.model)[name]
    return "weakest layer", label, f"{kind} · {lost_words(point.alone[name])}"


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
    """The live panel of notebook 11: five shipped networks, or your own trained `model` with its `data`."""
    own, controls = start(model, data, NETWORKS)
    if own is None:
        controls["checkpoint"].value = NETWORKS[-1]
    controls |= {
        "sparsity": _controls.share("sparsity", 0.0, high=0.98),
        "bits": _controls.bits("weight bits", 3),
        "activation_bits": _controls.steps(
            "activation bits", [(str(b), b) for b in range(2, 9)] + [("32 (float)", 32)], 32
        ),
        "granularity": _controls.choice(
            "one scale per", [("layer (tensor)", "tensor"), ("output channel", "channel")], "tensor"
        ),
    }
    return Panel("architectures", Architectures(own), controls)
