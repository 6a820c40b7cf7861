"""Data sets as plain tensors: train, validation and test, normalised, offline.

`load_data("mnist")` reads `data/`, checks each file's SHA-256 and returns a `Data`. A picture file holds a whole split
as one lossless mosaic, so that it is small, opens in any viewer and needs no format of our own.

    python -m labkit.data                              what is here, and whether it is undamaged
    python -m labkit.data fetch cifar10 [--from DIR]   all 60,000 CIFAR-10 images, from the web or a local folder
"""

import argparse
import functools
import hashlib
import io
import json
import os
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from labkit import _check

SPLIT_SEED = 0  # of the permutation that carves validation from train
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"


@dataclass(frozen=True)
class Split:
    """Images `x`, float32 (n, channels, height, width), and classes `y`, int64 (n,)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Data:
    """A data set: its splits, and what turns a tensor back into a picture (pixel = x * std + mean, in [0, 1])."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: Tensor  # (channels, 1, 1)
    std: Tensor

    def __repr__(self) -> str:
        sizes = ", ".join(f"{k} {len(getattr(self, k)):,}" for k in ("train", "validation", "test"))
        return f"Data({self.name!r}: {sizes}; images {'×'.join(map(str, self.train.x.shape[1:]))})"


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and how it is laid out."""

    folder: str
    shape: tuple[int, ...]  # of one image, height first
    validation: int  # images carved from train; 0 where the folder ships its own validation split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]


_DIGITS = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_STATS = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
# Grey images are only scaled, not shifted: their background stays 0, so that a weight on a pixel that is always blank
# has nothing to do and can be pruned for nothing. (Shifted, its sum acts as a bias: pruning half cost 17 points.)
SOURCES = {
    "mnist": Source("mnist", (28, 28), 5_000, (0.0,), (0.3081,), _DIGITS),
    "fashion-mnist": Source("fashion-mnist", (28, 28), 5_000, (0.0,), (0.3530,), _CLOTHES),
    "cifar10": Source("cifar10", (32, 32, 3), 0, *_CIFAR_STATS, _CIFAR),
    "cifar10-full": Source("cifar10-full", (32, 32, 3), 5_000, *_CIFAR_STATS, _CIFAR),
    "digits": Source("digits", (8, 8), 300, (0.0,), (0.3760,), _DIGITS),
}


def data_dir() -> Path:
    """The folder of data sets and checkpoints: `LABKIT_DATA`, or `data/` of this checkout."""
    return Path(os.environ.get("LABKIT_DATA") or Path(__file__).resolve().parent.parent / "data")


@functools.cache
def load_data(name: str) -> Data:
    """Load a data set, normalised and split; the same call twice gives the same object.

    `name` is "mnist", "fashion-mnist", "digits", "cifar10" (the 6,000 images that ship) or "cifar10-full" (after
    `fetch`). Raises ValueError for another name or a damaged file, FileNotFoundError for a missing one.
    """
    _check.one_of("name", name, SOURCES)
    source = SOURCES[name]
    splits = {k: _read_split(source, k) for k in ("train", "test")}
    if source.validation:
        splits["train"], splits["validation"] = _carve(splits["train"], source.validation)
    else:
        splits["validation"] = _read_split(source, "validation")
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (source.mean, source.std))
    return Data(name, classes=source.classes, mean=mean, std=std, **splits)


def take(split: Split, n: int) -> Split:
    """The first `n` images of a split; splits are stored shuffled, so this is a fair sample."""
    _check.whole("n", n, 1, len(split))
    return Split(split.x[:n], split.y[:n])


def split_order(n: int) -> Tensor:
    """The fixed permutation of n training images whose head becomes validation."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(SPLIT_SEED))


def _carve(split: Split, n_validation: int) -> tuple[Split, Split]:
    order = split_order(len(split))
    held, kept = order[:n_validation], order[n_validation:]
    return Split(split.x[kept], split.y[kept]), Split(split.x[held], split.y[held])


def _read_split(source: Source, part: str) -> Split:
    labels = np.load(io.BytesIO(verified(f"{source.folder}/{part}-labels.npy")), allow_pickle=False)
    pixels = _read_pixels(source, part, len(labels))
    x = torch.from_numpy(pixels).float().div_(255).reshape(len(labels), *source.shape[:2], -1)
    x = x.sub_(torch.tensor(source.mean)).div_(torch.tensor(source.std))
    return Split(x.permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels.astype(np.int64)))


def _read_pixels(source: Source, part: str, n: int) -> np.ndarray:
    if source.folder.endswith("-full"):
        return np.load(io.BytesIO(verified(f"{source.folder}/{part}.npy")), allow_pickle=False)
    picture = Image.open(io.BytesIO(verified(f"{source.folder}/{part}.webp")))
    mosaic = np.asarray(picture.convert("RGB" if len(source.shape) == 3 else "L"))
    return from_mosaic(mosaic, source.shape, n)


def to_mosaic(images: np.ndarray) -> np.ndarray:
    """Lay n images (n, h, w[, 3]) out row by row on a near-square sheet; empty places are black."""
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


def manifest() -> dict[str, dict]:
    """Every shipped file: path -> {sha256, bytes}, as `data/manifest.json` lists it."""
    return json.loads((data_dir() / "manifest.json").read_text())


def register(path: str) -> None:
    """List `data/<path>` in the manifest as it is now, after it was made anew."""
    raw, listed = (data_dir() / path).read_bytes(), manifest()
    listed[path] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    write_manifest(listed)


def write_manifest(listed: dict[str, dict]) -> None:
    """Replace the manifest, all at once."""
    part = data_dir() / "manifest.json.part"
    part.write_text(json.dumps(dict(sorted(listed.items())), indent=1) + "\n")
    part.replace(data_dir() / "manifest.json")


def verified(path: str) -> bytes:
    """The bytes of `data/<path>`, after their SHA-256 was found to be the manifest's.

    Raises FileNotFoundError for a missing file (with the command that brings it), ValueError for a damaged one.
    """
    file, listed = data_dir() / path, manifest()
    if path not in listed:
        raise ValueError(f"data/{path} is not listed in data/manifest.json; allowed: the files listed there")
    if not file.exists():
        raise FileNotFoundError(f"data/{path} is missing; {_remedy(path)}")
    raw = file.read_bytes()
    if hashlib.sha256(raw).hexdigest() != listed[path]["sha256"]:
        raise ValueError(f"data/{path} is damaged: its SHA-256 is not the manifest's; {_remedy(path)}")
    return raw


def _remedy(path: str) -> str:
    if path.startswith("cifar10-full/"):
        return "run: python -m labkit.data fetch cifar10"
    return f"run: git checkout -- data/{path}"


def damaged() -> list[str]:
    """One sentence for each shipped file that is missing or damaged (the optional full CIFAR-10 only if present)."""
    problems = []
    for path in manifest():
        if path.startswith("cifar10-full/") and not (data_dir() / "cifar10-full").exists():
            continue
        try:
            verified(path)
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
    return problems


def fetch_cifar10(folder: Path | None = None) -> None:
    """Bring all of CIFAR-10 into `data/cifar10-full/`, from `folder` or, without one, from its authors' page.

    `folder` holds either the binary batches (`data_batch_1.bin` …) or PNG batches with one image a row and
    `train_labels.json`, `test_labels.json`. What was read is compared with the manifest before anything is written.
    """
    arrays = _read_cifar_folder(folder) if folder else _read_cifar_archive(_download(CIFAR_URL))
    target, listed = data_dir() / "cifar10-full", manifest()
    encoded = {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    for name, raw in encoded.items():
        if hashlib.sha256(raw).hexdigest() != listed[f"cifar10-full/{name}"]["sha256"]:
            raise ValueError(
                f"CIFAR-10 from {folder or CIFAR_URL} is not the published set: {name} differs; nothing written"
            )
    target.mkdir(exist_ok=True)
    for name, raw in encoded.items():
        (target / (name + ".part")).write_bytes(raw)
        (target / (name + ".part")).replace(target / name)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _read_cifar_folder(folder: Path) -> dict[str, np.ndarray]:
    binary = sorted(folder.rglob("data_batch_*.bin"))
    if binary:
        return _from_binary([f.read_bytes() for f in binary], (binary[0].parent / "test_batch.bin").read_bytes())
    png = sorted(folder.glob("data_batch_*.png"))
    if not png:
        raise FileNotFoundError(f"{folder} holds neither data_batch_1.bin nor data_batch_1.png; give a CIFAR-10 folder")
    pixels = {
        "train": [np.asarray(Image.open(f)) for f in png],
        "test": [np.asarray(Image.open(folder / "test_batch.png"))],
    }
    arrays = {part: np.concatenate(rows).reshape(-1, 32, 32, 3) for part, rows in pixels.items()}
    for part in ("train", "test"):
        arrays[f"{part}-labels"] = np.array(json.loads((folder / f"{part}_labels.json").read_text()), np.uint8)
    return arrays


def _read_cifar_archive(raw: bytes) -> dict[str, np.ndarray]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        files = {Path(m.name).name: archive.extractfile(m) for m in archive.getmembers() if m.name.endswith(".bin")}
        parts = {name: file.read() for name, file in files.items() if file}
    return _from_binary([parts[f"data_batch_{i}.bin"] for i in range(1, 6)], parts["test_batch.bin"])


def _from_binary(train: list[bytes], test: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    for part, raw in (("train", b"".join(train)), ("test", test)):
        rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3072)  # a label, then 1,024 red, green, blue
        arrays[part] = np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        arrays[f"{part}-labels"] = rows[:, 0].copy()
    return arrays


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as reply:  # noqa: S310 - a constant https address
        return reply.read()


def main(arguments: list[str] | None = None) -> int:
    """The command line: list and check the files, or fetch the full CIFAR-10."""
    parser = argparse.ArgumentParser(prog="python -m labkit.data", description="Check the data files, or fetch more.")
    verbs = parser.add_subparsers(dest="verb")
    fetch = verbs.add_parser("fetch", help="bring a full data set into data/")
    fetch.add_argument("name", choices=["cifar10"])
    fetch.add_argument("--from", dest="folder", type=Path, help="a local folder instead of the web")
    options = parser.parse_args(arguments)
    if options.verb == "fetch":
        fetch_cifar10(options.folder)
    problems = damaged()
    sys.stdout.write("\n".join(problems or [f"{len(manifest())} files listed, none damaged"]) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
