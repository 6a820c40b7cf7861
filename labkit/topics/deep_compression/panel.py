"""Panel of notebook 10: sparsity, bits and coder make a real file; files from papers are on the same axes."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from labkit import store
from labkit.compress.compose import one_shot
from labkit.compress.deep_compression import deep_compress
from labkit.compress.qat import finish_qat, on_grids
from labkit.compress.quantize import quantize
from labkit.data import Data
from labkit.frontier import published
from labkit.live import words
from labkit.live.baseline import Baseline
from labkit.live.compression import Compressed
from labkit.live.controls import bits, choice, share
from labkit.live.network import open_panel
from labkit.live.panel import Panel
from labkit.live.plane import PlaneView
from labkit.live.score import Scoring, scores
from labkit.live.training import batch_size
from labkit.live.view import Card
from labkit.optim import Hook
from labkit.topics.deep_compression import plots

CODERS = {"fixed width": (), "Huffman": ("huffman",), "range coder": ("range",), "context (seconds)": store.CODERS}
EPOCHS = (2, 1)  # of the button: pruning, then rounding


@dataclass(frozen=True)
class Settings:
    """What the controls set."""

    sparsity: float = share(
        "sparsity", 0.92, 0.995, 0.005, note="fraction of the weights set to 0, the smallest first",
        word="{} of the weights pruned",
    )  # fmt: skip
    bits: int = bits(value=4, floating=False, note="bits per kept weight", word="weights rounded to {} bits")
    coder: str = choice("coder", list(CODERS), "range coder", note="how mask and values are encoded", word="{}")


class DeepCompression(PlaneView):
    """The view: plane with papers, ledger of the file."""

    name, settings_type = "deep compression", Settings
    plane_box, ledger_box = (0.07, 0.14, 0.525, 0.765), (0.735, 0.14, 0.26, 0.77)
    epochs = sum(EPOCHS)
    button = f"retrain {sum(EPOCHS)} epochs"
    scenes = {
        "as accurate as before": dict(sparsity=0.7, bits=5, coder="range coder"),
        "as small as the paper's": dict(sparsity=0.92, bits=4, coder="range coder"),
        "the same, by Huffman": dict(sparsity=0.92, bits=4, coder="Huffman"),
        "beyond: retrain it": dict(sparsity=0.98, bits=4, coder="range coder"),
    }

    def __init__(self, own: Baseline | None = None) -> None:
        super().__init__(own)
        self.names = self.live.figure.add_axes((0.64, 0.02, 0.35, 0.33))

    def compress(self, dense: Baseline, settings: Settings) -> nn.Module:
        """Prune the smallest weights, round the others."""
        return one_shot(dense.model, settings.sparsity, settings.bits)

    def coders(self, settings: Settings) -> Collection[str]:
        """The chosen coder; if it takes seconds, quick ones at first."""
        return store.QUICK if slow(settings) else CODERS[settings.coder]

    def measured(
        self, dense: Baseline, settings: Settings, small: nn.Module, scored: Scoring = scores,
        training: float | None = None,
    ) -> Iterator[Compressed]:  # fmt: skip
        """Write the file and score it; the slow coder runs when the score is settled."""
        if training is not None and training < 1:  # the file as if training ended now
            small = finish_qat(small) if on_grids(small) else quantize(small, settings.bits)
        for point in super().measured(dense, settings, small, scored, training):
            yield point
            if slow(settings) and point.score.settled:  # the slow coder's file is read back instead
                break
        if slow(settings):
            raw, table = store.encode_with_ledger(small, CODERS[settings.coder])
            store.check_equal(small, store.decode(raw, into=dense.model))
            yield replace(point, size_bytes=len(raw), ledger=table, read_back=True)

    def still(self, dense: Baseline) -> None:
        """Papers' files and ours."""
        rows = published(*dense.key) if dense.key else published("", "")
        sweep = dense.sweep("frontier")
        papers = plots.published_plane(self.plane, rows, dense.size_bytes, dense.score.accuracy, sweep)
        self.rows.set_position((0.735, 0.42, 0.26, 0.49) if papers else self.ledger_box)
        self.names.set_axis_off()
        self.names.text(0, 1, "\n".join(papers), fontsize=10, va="top", linespacing=1.25)
        rows = rows.assign(accuracy=1 - rows["error_pct"] / 100)
        self.offer(self.plane, rows, caption, lambda row: {})

    def cards(self, point: Compressed) -> list[Card]:
        """Accuracy, file, weights left, bits per kept weight."""
        cost = f"{8 * point.size_bytes / max(1, point.left[0]):.1f}"
        per_weight = "bits per kept weight", cost, f"of the file; values have {point.settings.bits}"
        return [*super().cards(point), words.count_card(*point.left), per_weight]

    def retrain(self, point: Compressed, after_step: Hook, cancel: Callable[[], bool]) -> nn.Module:
        """Prune and round the dense network again, with training in each step."""
        train, how = point.dense.data.train, point.settings
        model, _ = deep_compress(
            point.dense.model, train, sparsity=how.sparsity, bits=how.bits, epochs=EPOCHS, lr=1e-3,
            batch_size=batch_size(train), after_step=after_step, progress=False, cancel=cancel,
        )  # fmt: skip
        return model

    def code(self, settings: Mapping[str, Any]) -> str:
        """Prune, round, score, write."""
        made = f"small = lk.quantize(lk.prune(model, {settings['sparsity']}), {settings['bits']})"
        size = f"len(lk.encode(small, coders={CODERS[settings['coder']]}))"
        return "\n".join([*self.loaded(settings), made, f'lk.accuracy(small, data.validation)["accuracy"], {size}'])


def slow(settings: Settings) -> bool:
    """Whether writing the file takes seconds."""
    return "context" in CODERS[settings.coder]


def caption(row: Mapping[Any, Any]) -> str:
    """The caption of a published file, with its source."""
    ours = row["method"].startswith("labkit")
    source = "file of this lab" if ours else f"{row['paper']}, {row['source']}"
    size = f"{row['size_bytes']:,} B"
    return f"{row['method']}, {row['year']}: {row['accuracy']:.2%} on test, {size}\n{source}"


def deep_compression(model: nn.Module | None = None, data: Data | None = None, preset: str = "") -> Panel:
    """The live panel of notebook 10: the shipped checkpoints, or your own trained `model` with its `data`."""
    return open_panel(DeepCompression, model, data, preset)
