"""All 60,000 images of CIFAR-10, from their authors' page or a local folder; only 6,000 ship with the repository."""

import hashlib
import io
import json
import tarfile
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from labkit._files import replace
from labkit.data.files import data_dir, manifest

CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"


def fetch_cifar10(folder: Path | None = None) -> None:
    """Bring all of CIFAR-10 into `data/cifar10-full/`, from `folder` or, without one, from its authors' page.

    `folder` holds either the binary batches (`data_batch_1.bin` …) or PNG batches with one image a row and
    `train_labels.json`, `test_labels.json`. What was read is compared with the manifest before anything is written.
    """
    arrays = read_cifar_folder(folder) if folder else read_cifar_archive(_download(CIFAR_URL))
    target, listed = data_dir() / "cifar10-full", manifest()
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


def read_cifar_archive(raw: bytes) -> dict[str, np.ndarray]:
    """The same from the bytes of the published archive, read in memory: nothing is unpacked to disk."""
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
