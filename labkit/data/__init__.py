"""Data sets as plain tensors: train, validation and test, normalized, offline.

`load_data("mnist")` returns a `Data` that reads the images of a split from `data/` when they are first used; each file
is held to its SHA-256. A picture file is a lossless mosaic of up to 10,000 images: it is small, opens in any viewer and
needs no format of our own.

    python -m labkit.data                              what is here, and whether it is undamaged
    python -m labkit.data fetch cifar10 [--from DIR]   all 60,000 CIFAR-10 images, from the web or a local folder
"""

import functools
import io
import lzma
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labkit import _check
from labkit.data.files import damaged, data_dir, manifest, partial, publish, verified, working_on

__all__ = [
    "Data",
    "Split",
    "damaged",
    "data_dir",
    "load_data",
    "manifest",
    "partial",
    "publish",
    "take",
    "verified",
    "working_on",
]

SPLIT_SEED = 0  # of the permutation that splits validation off train


@dataclass(frozen=True)
class Split:
    """Images or windows of text, and their classes.

    Args:
        x: images, float32 (n, channels, height, width), or windows of text, int64 (n, 48).
        y: classes, int64 (n,). Integers of another dtype become int64.

    Raises:
        TypeError: or ValueError, for anything but examples with class numbers.

    Example:
        >>> split = lk.Split(torch.rand(3, 1, 8, 8), torch.tensor([4, 1, 9], dtype=torch.uint8))
        >>> len(split), split.y.dtype
        (3, torch.int64)
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        _check.examples(self.x, self.y)
        object.__setattr__(self, "y", self.y.long())  # the dtype that cross-entropy takes

    def __len__(self) -> int:
        return len(self.y)

    @property
    def prototype(self) -> Tensor:
        """No examples, (0, …), of the shape, dtype and device of `x`: to ask for those reads no image."""
        return self.x[:0]


class StoredSplit(Split):
    """A split of a shipped data set: `x` is read when it is first used. Most users of a data set need one split."""

    prototype: Tensor = torch.empty(0)

    def __init__(self, y: Tensor, prototype: Tensor, read: Callable[[], Tensor]) -> None:
        vars(self).update(y=y, prototype=prototype, _read=read)  # a frozen dataclass assigns in no other way

    def __getattr__(self, name: str) -> Any:  # called only as long as there is no x
        if name != "x":
            raise AttributeError(f"a split has x and y, and no {name!r}")
        with _reading:
            if "x" not in vars(self):
                vars(self)["x"] = self._read()
        return self.x


StoredSplit.__name__ = "Split"  # what error messages call it
_reading = threading.Lock()  # one split at a time, for all that is read at once is in memory at once


@dataclass(frozen=True)
class Data:
    """A data set: its splits, and the numbers that turn a tensor into a picture (pixel = x * std + mean, in [0, 1]).

    Args:
        name: what the data set is called.
        train: examples to train on.
        validation: examples of the same shape, to choose by.
        test: examples of the same shape, to report.
        classes: their names. Text holds numbers of `classes`, its characters.
        mean: one per channel, (channels, 1, 1). Mean 0 and std 1 leave text unchanged.
        std: of the same shape.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a split has a label without a name, or examples of another shape than `train`.

    Example:
        >>> digits = lk.load_data("digits")
        >>> few = lk.Split(digits.train.x[:100], digits.train.y[:100])
        >>> lk.Data("few", few, digits.validation, digits.test, digits.classes, digits.mean, digits.std)
        Data('few': train 100, validation 300, test 300; images 1×8×8)
        >>> pixels = digits.test.x * digits.std + digits.mean
        >>> round(float(pixels.min()), 3), round(float(pixels.max()), 3)
        (0.0, 1.0)
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: Tensor  # (channels, 1, 1)
    std: Tensor

    def __post_init__(self) -> None:
        _check.kind(str, name=self.name)
        splits = dict(train=self.train, validation=self.validation, test=self.test)
        _check.kind(Split, **splits)
        _check.kind(Tensor, mean=self.mean, std=self.std)
        if not isinstance(self.classes, tuple) or not all(isinstance(text, str) for text in self.classes):
            raise TypeError(f"classes is {_check.shown(self.classes)}; allowed: a tuple of texts, the classes' names")
        for part, split in splits.items():
            if (highest := int(split.y.max())) >= len(self.classes):
                allowed = f"{highest + 1} or more, for {part} has the label {highest}"
                raise ValueError(f"classes has {len(self.classes)} names; allowed: {allowed}")
            if (other := split.prototype.shape[1:]) != (one := self.train.prototype.shape[1:]):
                raise ValueError(f"{part} has examples of the shape {tuple(other)}; allowed: {tuple(one)}, as in train")

    @property
    def of_text(self) -> bool:
        """Whether x are windows of text, and y the characters after them."""
        return not self.train.prototype.is_floating_point()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{k} {len(getattr(self, k)):,}" for k in ("train", "validation", "test"))
        what = "windows of text" if self.of_text else "images"
        return f"Data({self.name!r}: {sizes}; {what} {'×'.join(map(str, self.train.prototype.shape[1:]))})"


@dataclass(frozen=True)
class Source:
    """Where a data set is and how it is stored."""

    folder: str
    shape: tuple[int, ...]  # of one image, height first
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]


_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_STATS = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
# Grey images are scaled, not shifted, as in Caffe's LeNets that papers report on: their background stays 0.
SOURCES = {
    "mnist": Source("mnist", (28, 28), (0.0,), (0.3081,), _DIGITS),
    "fashion-mnist": Source("fashion-mnist", (28, 28), (0.0,), (0.3530,), _CLOTHES),
    "cifar10": Source("cifar10", (32, 32, 3), *_CIFAR_STATS, _CIFAR),
    "cifar10-full": Source("cifar10-full", (32, 32, 3), *_CIFAR_STATS, _CIFAR),
    "digits": Source("digits", (8, 8), (0.0,), (0.3760,), _DIGITS),
}
HELD = 5_000  # validation images: the first of cifar10-full's training images, in `split_order`
SHEET = 10_000  # images in a picture file at most: to decode one takes 16 bytes per pixel for a moment
TEXTS = {"shakespeare": "shakespeare/input.txt.xz"}
WINDOW = 48  # characters of a window; the class is the next one
# Each part: where it begins and ends in the text (no window crosses a border), and the distance between its windows.
PARTS = {"train": (0.0, 0.9, 16), "validation": (0.9, 0.95, 11), "test": (0.95, 1.0, 5)}


@functools.cache
def load_data(name: str) -> Data:
    """A data set, normalized and split; the same call twice gives the same object.

    Args:
        name: "mnist", "fashion-mnist", "digits", "cifar10" (the 6,000 images that ship), "cifar10-full" (after `fetch`)
            or "shakespeare" (text).

    Returns:
        A `Data`; the images of a split are read when its `x` is first used.

    Raises:
        ValueError: another name, or a damaged file.
        FileNotFoundError: a missing file. For a picture, both are raised only when `x` of its split is first used.

    Example:
        >>> lk.load_data("digits")
        Data('digits': train 1,197, validation 300, test 300; images 1×8×8)
        >>> lk.load_data("digits") is lk.load_data("digits")
        True
    """
    _check.one_of("name", name, [*SOURCES, *TEXTS])
    if name in TEXTS:
        return _read_text(name)
    source = SOURCES[name]
    splits = {part: _stored(source, part) for part in PARTS}
    mean, std = _stats(source)
    return Data(name, classes=source.classes, mean=mean, std=std, **splits)


def _read_text(name: str) -> Data:
    raw = np.frombuffer(lzma.decompress(verified(TEXTS[name])), np.uint8)
    alphabet = np.flatnonzero(np.bincount(raw))  # the bytes that occur, in order: a character's number is its position
    text = torch.from_numpy(np.searchsorted(alphabet, raw))
    splits = {k: _windows(text[round(a * len(text)) : round(b * len(text))], step) for k, (a, b, step) in PARTS.items()}
    return Data(name, classes=tuple(map(chr, alphabet)), mean=torch.zeros(1), std=torch.ones(1), **splits)


def _windows(text: Tensor, step: int) -> Split:
    """Windows of a part of the text in the fixed order, so that the first n are a fair sample."""
    rows = text.unfold(0, WINDOW + 1, step)
    rows = rows[split_order(len(rows))]
    return Split(rows[:, :-1].contiguous(), rows[:, -1].contiguous())


def take(split: Split, n: int) -> Split:
    """The first `n` images of a split; splits are stored shuffled, so this is a fair sample."""
    _check.kind(Split, split=split)
    n = _check.whole("n", n, 1, len(split))
    return Split(split.x[:n], split.y[:n])


def split_order(n: int) -> Tensor:
    """The fixed permutation of n training images, the first of which become validation."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(SPLIT_SEED))


def _stored(source: Source, part: str) -> StoredSplit:
    """A split with its classes; its images are read when they are used."""
    y = _array(f"{source.folder}/{_file(source, part)}-labels.npy")
    rows = _rows(source, part, len(y))
    prototype = torch.empty(0, len(source.mean), *source.shape[:2])
    read = functools.partial(_read_images, source, part, len(y))
    return StoredSplit(torch.from_numpy(y[rows].astype(np.int64)), prototype, read)


def _file(source: Source, part: str) -> str:
    """The part of whose files a split is a part: cifar10-full is as its authors published it, without validation."""
    return "train" if source.folder.endswith("-full") and part == "validation" else part


def _rows(source: Source, part: str, n: int) -> slice | np.ndarray:
    """Which of the n images of its files a split has."""
    if not source.folder.endswith("-full") or part == "test":
        return slice(None)
    order = split_order(n).numpy()
    return order[:HELD] if part == "validation" else order[HELD:]


def _read_images(source: Source, part: str, n: int) -> Tensor:
    """The images (n, channels, height, width) of a split, normalized; its files hold `n`."""
    pixels = _read_pixels(source, _file(source, part), n)[_rows(source, part, n)]
    x = torch.from_numpy(pixels).reshape(len(pixels), *source.shape[:2], -1).permute(0, 3, 1, 2)
    # of one channel, contiguous() would keep strides with which `view` fails on what a convolution returns
    x = x.clone(memory_format=torch.contiguous_format).float()
    mean, std = _stats(source)
    return x.div_(255).sub_(mean).div_(std)


def _stats(source: Source) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channels, (channels, 1, 1)."""
    return torch.tensor(source.mean).view(-1, 1, 1), torch.tensor(source.std).view(-1, 1, 1)


def _read_pixels(source: Source, file: str, n: int) -> np.ndarray:
    """The n images of a part's files, uint8; sheet after sheet, since decoding takes many times the memory of one."""
    if source.folder.endswith("-full"):
        return _array(f"{source.folder}/{file}.npy")
    pixels = np.empty((n, *source.shape), np.uint8)
    for i, start in enumerate(range(0, n, SHEET)):
        picture = Image.open(io.BytesIO(verified(f"{source.folder}/{file}-{i}.webp")))
        mosaic = np.asarray(picture.convert("RGB" if len(source.shape) == 3 else "L"))
        pixels[start : start + SHEET] = from_mosaic(mosaic, source.shape, min(SHEET, n - start))
    return pixels


def _array(path: str) -> np.ndarray:
    return np.load(io.BytesIO(verified(path)), allow_pickle=False)


def to_mosaic(images: np.ndarray) -> np.ndarray:
    """Lay out n images (n, h, w[, 3]) row by row on a nearly square sheet; empty places are black."""
    n, h, w = images.shape[:3]
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, *images.shape[1:]), np.uint8)
    sheet[:n] = images
    sheet = sheet.reshape(rows, columns, h, w, *images.shape[3:]).swapaxes(1, 2)
    return sheet.reshape(rows * h, columns * w, *images.shape[3:])


def from_mosaic(sheet: np.ndarray, shape: tuple[int, ...], n: int) -> np.ndarray:
    """The inverse of `to_mosaic`: the first n images of `shape`."""
    h, w = shape[:2]
    rows, columns = sheet.shape[0] // h, sheet.shape[1] // w
    tiles = sheet.reshape(rows, h, columns, w, *shape[2:]).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(rows * columns, *shape)[:n])
