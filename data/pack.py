"""Make the picture and text files of data/ from the original distributions, and list them in data/manifest.json.

    python data/pack.py FOLDER     FOLDER holds mnist/ and fashion-mnist/ (IDX, gzip), cifar10/ (see labkit.data) and
                                   shakespeare/input.txt
    python data/pack.py --list     only rewrite the manifest, after a file was added by hand

Takes about 5 minutes (lossless WebP at one of its slowest settings). scikit-learn supplies the digits.
"""

import gzip
import hashlib
import json
import lzma
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from labkit import data
from labkit._files import replace
from labkit.data.fetch import read_cifar_folder

HERE = Path(__file__).resolve().parent
SHIPPED = ("*.webp", "*.npy", "*.xz", "*.safetensors", "*.csv", "*.lk", "*.npz", "checkpoints/*.json")
SHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"  # SHA-256 of the text


def write(folder: str, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write one split as lossless mosaics and a label file, read them back and compare."""
    target = HERE / folder
    target.mkdir(exist_ok=True)
    for i, start in enumerate(range(0, len(images), data.SHEET)):
        write_sheet(target / f"{part}-{i}.webp", images[start : start + data.SHEET])
    np.save(target / f"{part}-labels.npy", labels.astype(np.uint8), allow_pickle=False)


def write_sheet(picture: Path, images: np.ndarray) -> None:
    """Write images as one lossless mosaic."""
    # quality 100 takes ten times as long and saves nothing
    Image.fromarray(data.to_mosaic(images)).save(picture, lossless=True, quality=90, method=6)
    mode = "RGB" if images.ndim == 4 else "L"
    back = data.from_mosaic(np.asarray(Image.open(picture).convert(mode)), images.shape[1:], len(images))
    if not np.array_equal(back, images):
        raise ValueError(f"{picture} does not read back equal")


def write_carved(folder: str, images: np.ndarray, labels: np.ndarray, held: int) -> None:
    """Write training images, of which `held` become the validation split."""
    order = data.split_order(len(images)).numpy()
    for part, rows in (("validation", order[:held]), ("train", order[held:])):
        write(folder, part, images[rows], labels[rows])


def idx(path: Path, header: int) -> np.ndarray:
    """The bytes of an IDX file behind its header."""
    return np.frombuffer(gzip.open(path).read(), np.uint8, offset=header)


def pack_idx(source: Path, folder: str) -> None:
    """MNIST or Fashion-MNIST, complete."""
    images, labels = {}, {}
    for stem in ("t10k", "train"):
        images[stem] = idx(source / folder / f"{stem}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        labels[stem] = idx(source / folder / f"{stem}-labels-idx1-ubyte.gz", 8)
    write(folder, "test", images["t10k"], labels["t10k"])
    write_carved(folder, images["train"], labels["train"], data.HELD)


def pack_cifar(source: Path) -> None:
    """2,000 images of each split of CIFAR-10; the validation images are among the full set's, so never trained on."""
    arrays = read_cifar_folder(source / "cifar10")
    order = data.split_order(50_000).numpy()
    chosen = {"train": order[data.HELD : data.HELD + 2_000], "validation": order[:2_000], "test": np.arange(2_000)}
    for part, rows in chosen.items():
        origin = "test" if part == "test" else "train"
        write("cifar10", part, arrays[origin][rows], arrays[f"{origin}-labels"][rows])
    (HERE / "cifar10-full").mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(HERE / "cifar10-full" / f"{name}.npy", array, allow_pickle=False)


def pack_digits() -> None:
    """The 1,797 UCI digits that scikit-learn ships, grey levels 0-16 spread over 0-255; every sixth is test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    test = np.arange(len(images)) % 6 == 0
    write("digits", "test", images[test], digits.target[test])
    write_carved("digits", images[~test], digits.target[~test], 300)


def pack_text(source: Path) -> None:
    """Tiny Shakespeare, 1,115,394 characters, as it is."""
    raw = (source / "shakespeare/input.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != SHAKESPEARE:
        raise ValueError(f"{source}/shakespeare/input.txt is another text than the one that data/README.md tells of")
    (HERE / "shakespeare").mkdir(exist_ok=True)
    (HERE / "shakespeare/input.txt.xz").write_bytes(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))


def list_files() -> None:
    """List every data file with its SHA-256; entries of the full CIFAR-10, which does not ship, stay as they are."""
    listed = {path: line for path, line in data.manifest().items() if path.startswith("cifar10-full/")}
    for file in {file for pattern in SHIPPED for file in HERE.rglob(pattern)}:
        raw = file.read_bytes()
        listed[file.relative_to(HERE).as_posix()] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    replace(HERE / "manifest.json", [(json.dumps(dict(sorted(listed.items())), indent=1) + "\n").encode()])


if __name__ == "__main__":
    Image.MAX_IMAGE_PIXELS = None  # a mosaic is larger than Pillow expects of a stranger's picture
    if sys.argv[1] != "--list":
        for name in ("mnist", "fashion-mnist"):
            pack_idx(Path(sys.argv[1]), name)
        pack_cifar(Path(sys.argv[1]))
        pack_digits()
        pack_text(Path(sys.argv[1]))
    list_files()
