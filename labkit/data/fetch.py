"""All 60,000 images of CIFAR-10, from their authors' page or a local folder; only 6,000 ship with the repository."""

import hashlib
import http.client
import io
import json
import tarfile
import urllib.request
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from labkit._files import replace
from labkit.data.files import data_dir, manifest

CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
PATIENCE = 60.0  # seconds within which a server has to send something
ROW = 1 + 3 * 32 * 32  # bytes of an image in a binary batch: a label, then 1,024 red, green, blue
BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
BY_HAND = "unpack the archive yourself and give its folder by --from"


def fetch_cifar10(folder: Path | None = None) -> None:
    """Fetch all of CIFAR-10 into `data/cifar10-full/`, from `folder` or, without one, from its authors' page.

    `folder` holds either the binary batches (`data_batch_1.bin` …) or PNG batches with one image per row and
    `train_labels.json`, `test_labels.json`. What was read is compared with the manifest before anything is written.
    OSError or ValueError, in one sentence, if the set cannot be read or is not the published one.
    """
    target, listed = data_dir() / "cifar10-full", manifest()
    arrays = read_cifar_folder(folder) if folder else read_cifar_archive(_download(CIFAR_URL))
    encoded = {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    for name, raw in encoded.items():
        if hashlib.sha256(raw).hexdigest() != listed[f"cifar10-full/{name}"]["sha256"]:
            raise ValueError(
                f"CIFAR-10 from {folder or CIFAR_URL} is not the published set: {name} differs; nothing written"
            )
    target.mkdir(exist_ok=True)
    for name, raw in encoded.items():
        replace(target / name, [raw])


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def read_cifar_folder(folder: Path) -> dict[str, np.ndarray]:
    """Pixels (n, 32, 32, 3) and labels (n,) as uint8: the keys are train, test, train-labels and test-labels."""
    if binary := sorted(folder.rglob("data_batch_*.bin")):
        return _from_binary({file.name: file.read_bytes() for file in binary[0].parent.glob("*.bin")}, str(folder))
    png = sorted(folder.glob("data_batch_*.png"))
    if not png:
        raise FileNotFoundError(f"{folder} holds neither data_batch_1.bin nor data_batch_1.png; give a CIFAR-10 folder")
    arrays = {"train": np.concatenate([_pixels(file) for file in png]), "test": _pixels(folder / "test_batch.png")}
    return arrays | {f"{part}-labels": _labels(folder / f"{part}_labels.json", len(arrays[part])) for part in arrays}


def _pixels(file: Path) -> np.ndarray:
    """The images (n, 32, 32, 3) of a PNG batch with one image per row."""
    try:
        pixels = np.asarray(Image.open(file))
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is missing; give a folder that holds every batch") from None
    except OSError as error:
        raise ValueError(f"{file} is not a picture, or a damaged one ({error}); allowed: a PNG batch") from error
    if pixels.ndim != 3 or pixels.shape[1:] != (1_024, 3):
        raise ValueError(f"{file} has the shape {pixels.shape}; allowed: (images, 1024, 3), one image per row")
    return pixels.reshape(-1, 32, 32, 3)


def _labels(file: Path, images: int) -> np.ndarray:
    """The class numbers of a PNG batch, from a JSON list."""
    try:
        labels = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is missing; give a folder that holds the labels of every batch") from None
    except ValueError:
        labels = None
    right = isinstance(labels, list) and len(labels) == images and all(label in range(10) for label in labels)
    if not right:
        raise ValueError(f"{file} does not hold the labels; allowed: a JSON list of {images:,} class numbers, 0 to 9")
    return np.array(labels, np.uint8)


def read_cifar_archive(raw: bytes) -> dict[str, np.ndarray]:
    """The same from the bytes of the published archive, read in memory: nothing is unpacked to disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            members = [m for m in archive if m.isfile() and Path(m.name).name in BATCHES]
            parts = {Path(m.name).name: archive.extractfile(m).read() for m in members}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        told = f"the archive of CIFAR-10 is damaged or cut short ({' '.join(str(error).split())})"
        raise ValueError(f"{told}; run the command again, or {BY_HAND}") from error
    return _from_binary(parts, "the archive of CIFAR-10")


def _from_binary(parts: dict[str, bytes], source: str) -> dict[str, np.ndarray]:
    """The arrays of binary batches, by file name; `source` is named in errors."""
    for name in BATCHES:
        if not parts.get(name):
            raise FileNotFoundError(f"{source} holds no {name}; give one that holds every batch")
        if len(parts[name]) % ROW:
            told = f"{name} in {source} has {len(parts[name]):,} bytes"
            raise ValueError(f"{told}; allowed: a multiple of {ROW:,}, the bytes of an image")
    arrays = {}
    for part, names in (("train", BATCHES[:-1]), ("test", BATCHES[-1:])):
        rows = np.frombuffer(b"".join(parts[name] for name in names), np.uint8).reshape(-1, ROW)
        arrays[part] = np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        arrays[f"{part}-labels"] = rows[:, 0].copy()
    return arrays


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:  # noqa: S310 - a constant https address
            return reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{url} cannot be fetched ({error}); try again later, or {BY_HAND}") from error
