"""Score a model while a slider moves: first on as many images as fit into a frame, then on all of them."""

import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from labkit._module import logits_of
from labkit.compress import _weights
from labkit.data import Split, take
from labkit.live.ahead import give_up_if_overtaken
from labkit.significance import wilson

PREVIEW = 0.030  # seconds of scoring before the first picture is shown
LATE = 0.060  # seconds that the other images will take: no picture is shown where they will be done earlier
REFRESH = 0.5  # seconds between later ones
FIRST = 16  # images in the first piece, from which the others are judged
PIECE = 0.008  # seconds that a worker takes for one piece at most: as long may a newer setting have to wait
AHEAD = torch.get_num_threads() + 1  # pieces that are in work or waiting for it
SAMPLE = 1_000  # images that a network is scored on while it trains, always the first: with others its curve would jump
CACHED = 500  # images in one pass of a network at most: with more, the activations fall out of the cache


@dataclass(frozen=True)
class Score:
    """Predicted classes of the first `images` of `total` validation images; settled when those are all.

    `what` one calls them: rows of a table, signals and windows of text are "examples".
    """

    predicted: Tensor
    correct: int
    images: int
    total: int
    what: str = "images"

    @property
    def settled(self) -> bool:
        """Whether every image was scored."""
        return self.images == self.total

    @property
    def accuracy(self) -> float:
        """Share of the scored images that is classified right."""
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy (Wilson)."""
        return wilson(self.correct, self.images)


def scores(model: nn.Module, split: Split) -> Iterator[Score]:
    """A preview after about PREVIEW seconds, one every REFRESH seconds, and at last the score on the whole split.

    No preview where the rest will take less than about LATE seconds.
    """
    label = int(split.y.max())
    found = growing(model, split.x, lambda model, x, rows: logits_of(model, x, label).argmax(1))
    return _scores(split, found)


def _scores(split: Split, found: Iterator[list[Tensor]]) -> Iterator[Score]:
    for predicted in found:
        yield _score(predicted, split)


Of = Callable[[nn.Module, Tensor, slice], Any]  # what is wanted of a model for a piece of x, the rows `slice` of it


def growing(model: nn.Module, x: Tensor, of: Of) -> Iterator[list[Any]]:
    """`of(model, piece, rows)` for the pieces of x in order: a list when a preview is due, at last that of all."""
    # a copy of plain floats: a quantized weight would be computed anew for every chunk of images
    model = _weights.plain(model).eval()
    return _growing(model, x, of, _lay_out(model, x))


@torch.inference_mode()
def _lay_out(model: nn.Module, x: Tensor) -> torch.memory_format:
    """Channels-last where it helps and the network runs on it; in place, for a frame has no time for another copy."""
    if x.ndim == 4 and any(p.ndim == 4 for p in model.parameters()):
        with contextlib.suppress(RuntimeError):  # a forward with `view`, a 3-D convolution; other errors come back
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            model(x[:2].contiguous(memory_format=torch.channels_last))
            return torch.channels_last
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return torch.contiguous_format


Scoring = Callable[[nn.Module, Split], Iterator[Score]]  # one of `scores`, `whole` and `sampled`


def whole(model: nn.Module, split: Split) -> Iterator[Score]:
    """One score, on the whole split."""
    *_, score = scores(model, split)
    yield score


def sampled(model: nn.Module, split: Split) -> Iterator[Score]:
    """One score, on the first SAMPLE images of the split whatever that takes: a point of a live training."""
    (score,) = whole(model, take(split, min(SAMPLE, len(split))))
    yield replace(score, total=len(split))


def _growing(model: nn.Module, x: Tensor, of: Of, layout: torch.memory_format) -> Iterator[list[Any]]:
    found: list[Any] = []
    working: deque[tuple[slice, Future[Any]]] = deque()  # in order: no worker waits for another to end its piece
    done, asked, piece, due = 0, 0, FIRST, time.perf_counter() + PREVIEW
    try:
        while done < len(x):
            while asked < len(x) and len(working) < (AHEAD if found else 1):
                rows = slice(asked, min(asked + piece, len(x)))
                working.append((rows, workers().submit(_timed, of, model, x, rows, layout)))
                asked = rows.stop
            give_up_if_overtaken()
            rows, work = working.popleft()
            one, seconds = work.result()
            found.append(one)
            done, images = rows.stop, rows.stop - rows.start
            piece = max(1, min(CACHED, int(images * PIECE / max(seconds, 1e-6))))
            rest = (len(x) - done) * seconds / images / torch.get_num_threads()
            if (now := time.perf_counter()) >= due and rest > LATE:
                yield found
                due = now + REFRESH
    finally:
        for _, left in working:  # overtaken: the workers are wanted for a newer setting
            left.cancel()
    yield found


@torch.inference_mode()
def _timed(of: Of, model: nn.Module, x: Tensor, rows: slice, layout: torch.memory_format) -> tuple[Any, float]:
    """What is wanted of the model for these rows of x, and the seconds of the processor that it took."""
    started = time.thread_time()  # not those on the clock: the coder of the file may have the interpreter meanwhile
    one = of(model, x[rows].contiguous(memory_format=layout), rows)
    return one, time.thread_time() - started


@functools.cache
def workers() -> ThreadPoolExecutor:
    """Threads that work beside the callback, one a core, in which torch keeps to one thread.

    Torch's own threads meet after every operation, and each meeting waits for the core that the browser has just now:
    pieces of work that do not meet take two thirds of the time.
    """
    threads = torch.get_num_threads()
    ready = threading.Barrier(threads + 1)

    def alone() -> None:
        torch.get_num_threads()  # at its first call in a thread, torch sets the number that holds everywhere
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(threads, "labkit", alone)
    for _ in range(threads):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(threads)  # the number that later threads begin with
    return pool


def _score(predicted: list[Tensor], split: Split) -> Score:
    classes = torch.cat(predicted)
    what = "images" if split.x.ndim == 4 else "examples"
    return Score(classes, int((classes == split.y[: len(classes)]).sum()), len(classes), len(split), what)
