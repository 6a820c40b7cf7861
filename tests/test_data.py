"""Data sets: complete, disjoint, undamaged; a mosaic gives back what was put in."""

import hashlib
import io
import json
import lzma
import pickle
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from labkit import data
from labkit.data import Split, fetch, files, load_data
from labkit.data import __main__ as command

SIZES = {
    "mnist": (55_000, 5_000, 10_000),
    "fashion-mnist": (55_000, 5_000, 10_000),
    "cifar10": (2_000, 2_000, 2_000),
    "digits": (1_197, 300, 300),
}
SHAPES = {"mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32), "digits": (1, 8, 8)}
PARTS = ("train", "validation", "test")
# the first 16 digits of the SHA-256 of x and of y
TENSORS = [
    ("digits", "train", "5731e4e554d7288b", "1ab322e64cc55dfc"),
    ("digits", "validation", "cadce8bdd6290d2b", "96af489f23d1bfd5"),
    ("digits", "test", "cc97474e59d03811", "807dd8d0bd4723bb"),
    ("cifar10", "train", "a78418e2c501b599", "91ad772fbe7b96e1"),
    ("cifar10", "validation", "4a516e79b3d72bb8", "35aff0824fbacfae"),
    ("cifar10", "test", "1d472b2f9064bd15", "bfa4456a208773a3"),
    ("shakespeare", "train", "205bc1d8bedeec7b", "00627a2ff450ad6c"),
    ("shakespeare", "validation", "d5fc8d51d23020c7", "abc1c4263aba264b"),
    ("shakespeare", "test", "0eefec1c62539e21", "4cf0220ddbdfc517"),
    ("mnist", "train", "d5f39cf8c5942750", "4adf65fa99627b77"),
    ("mnist", "validation", "eab046772a1e34c6", "4620b01e22943823"),
    ("mnist", "test", "b92f1b68d4d07332", "2fd8de6bdb8d1178"),
    ("fashion-mnist", "train", "d4ac1e7e21c0a2b5", "38f3b42d8effee37"),
    ("fashion-mnist", "validation", "888a4e6f5fe4e6e6", "525b9df64162967b"),
    ("fashion-mnist", "test", "511266a37b3d4f48", "d51d859896c55775"),
]


def fingerprints(split):
    return {image.numpy().tobytes() for image in split.x}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_types_and_range(name):
    loaded = load_data(name)
    assert tuple(len(getattr(loaded, part)) for part in PARTS) == SIZES[name]
    for part in PARTS:
        split = getattr(loaded, part)
        assert split.x.shape == (len(split), *SHAPES[name])
        assert (split.x.dtype, split.y.dtype) == (torch.float32, torch.int64)
        assert split.y.unique().tolist() == list(range(10))
        pixels = split.x[:500] * loaded.std + loaded.mean
        assert pixels.min() >= -1e-6
        assert pixels.max() <= 1 + 1e-6
        assert pixels.max() > 0.9


def test_digits_are_those_of_scikit_learn_carved_by_the_fixed_permutation():
    published, loaded = load_digits(), load_data("digits")
    test = torch.arange(1_797) % 6 == 0
    images, labels = torch.from_numpy(published.images).float() / 16, torch.from_numpy(published.target)
    order = torch.randperm(1_497, generator=torch.Generator().manual_seed(0))
    held, kept = order[:300], order[300:]
    for split, rows in ((loaded.validation, held), (loaded.train, kept)):
        assert split.y.equal(labels[~test][rows])
        assert torch.allclose(split.x[:, 0] * 0.376, images[~test][rows], atol=1 / 255)
    assert loaded.test.y.equal(labels[test])
    assert torch.allclose(loaded.test.x[:, 0] * 0.376, images[test], atol=1 / 255)


@pytest.mark.parametrize(("name", "part", "x", "y"), TENSORS)
def test_images_and_labels_are_bit_for_bit_those_that_the_checkpoints_saw(name, part, x, y):
    split = getattr(load_data(name), part)
    assert hashlib.sha256(split.x.numpy().tobytes()).hexdigest()[:16] == x
    assert hashlib.sha256(split.y.numpy().tobytes()).hexdigest()[:16] == y


@pytest.fixture
def full_cifar(small_data):
    """Ten training and two test images in the place of all of CIFAR-10."""
    rng = np.random.default_rng(0)
    arrays = {part: rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for part, n in (("train", 10), ("test", 2))}
    arrays |= {f"{part}-labels": rng.integers(0, 10, len(arrays[part])).astype(np.uint8) for part in ("train", "test")}
    list_as_cifar(small_data, arrays)
    (small_data / "cifar10-full").mkdir()
    for name, array in arrays.items():
        np.save(small_data / f"cifar10-full/{name}.npy", array)
    return arrays


def test_validation_of_the_full_cifar10_is_carved_from_train(full_cifar, monkeypatch):
    monkeypatch.setattr(data, "HELD", 3)
    loaded = load_data("cifar10-full")
    for split, part, rows in (
        (loaded.validation, "train", ORDER_OF_TEN[:3]),
        (loaded.train, "train", ORDER_OF_TEN[3:]),
        (loaded.test, "test", [0, 1]),
    ):
        assert split.y.tolist() == full_cifar[f"{part}-labels"][rows].tolist()
        pixels = (split.x * loaded.std + loaded.mean).permute(0, 2, 3, 1) * 255
        assert np.array_equal(pixels.round().numpy(), full_cifar[part][rows])


def test_an_image_is_read_when_it_is_used(small_data, monkeypatch):
    read = []
    monkeypatch.setattr(data, "verified", lambda path: read.append(path) or files.verified(path))
    loaded = load_data("digits")
    assert repr(loaded) == "Data('digits': train 1,197, validation 300, test 300; images 1×8×8)"
    assert sorted(read) == [f"digits/{part}-labels.npy" for part in ("test", "train", "validation")]
    assert loaded.validation.x.shape == (300, *loaded.validation.prototype.shape[1:])
    assert read[3:] == ["digits/validation-0.webp"]
    assert loaded.validation.x is loaded.validation.x
    assert pickle.loads(pickle.dumps(loaded)).train.x.equal(loaded.train.x)  # noqa: S301 - joblib's workers do so


def test_threads_that_ask_at_once_share_the_images(small_data):
    split = load_data("digits").train
    with ThreadPoolExecutor(8) as pool:
        assert len({id(x) for x in pool.map(lambda _: split.x, range(8))}) == 1


def test_a_split_of_several_sheets_is_put_together_again(small_data, monkeypatch):
    x = load_data("digits").train.x
    pixels = np.rint(x.permute(0, 2, 3, 1).numpy() * 0.376 * 255).astype(np.uint8)[..., 0]
    listed = json.loads((small_data / "manifest.json").read_text())
    for i, start in enumerate(range(0, 1_197, 500)):
        file = small_data / f"digits/train-{i}.webp"
        Image.fromarray(data.to_mosaic(pixels[start : start + 500])).save(file, lossless=True)
        listed[f"digits/train-{i}.webp"] = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": 0}
    (small_data / "manifest.json").write_text(json.dumps(listed))
    monkeypatch.setattr(data, "SHEET", 500)
    load_data.cache_clear()
    assert load_data("digits").train.x.equal(x)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_images_takes_little_more_memory_than_they_do():
    # 55,000 images are 172 MB as floats and 43 MB as bytes; one mosaic of all took 700 MB on top
    code = """
from labkit.data import load_data
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
data, before = load_data("mnist"), peak()
print(data.validation.x.shape[0] and peak() - before, data.train.x.shape[0] and peak() - before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    validation, train = map(int, ran.stdout.split())
    assert 10 < validation < 150
    assert 170 < train < 450


@pytest.mark.parametrize("name", ["cifar10", "digits"])
def test_no_image_is_in_two_splits(name):
    seen = [fingerprints(getattr(load_data(name), part)) for part in PARTS]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_the_split_is_the_same_for_ever():
    assert data.split_order(10).tolist() == ORDER_OF_TEN
    assert data.split_order(10).tolist() == data.split_order(10).tolist()


ORDER_OF_TEN = [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]


def test_the_same_name_gives_the_same_object():
    assert load_data("digits") is load_data("digits")
    assert repr(load_data("digits")) == "Data('digits': train 1,197, validation 300, test 300; images 1×8×8)"


def test_take_is_the_head_of_a_split(digits, refuses):
    assert data.take(digits.test, 7).x.equal(digits.test.x[:7])
    assert data.take(digits.test, 7).y.equal(digits.test.y[:7])
    refuses(ValueError, "n is 301; allowed: a whole number from 1 to 300", data.take, digits.test, 301)


X = torch.zeros(4, 1, 8, 8)
ONE_EACH = "allowed: (n,), one class number per example, n ≥ 1"
INTEGER = "allowed: class numbers of an integer dtype"
AS_LONG = "one example per label in y"


@pytest.mark.parametrize(
    ("x", "y", "error", "said"),
    [
        (X, torch.zeros(4, 1).long(), ValueError, f"y has the shape (4, 1); {ONE_EACH}"),
        (X, torch.eye(4, 10).long(), ValueError, f"y has the shape (4, 10); {ONE_EACH}"),
        (X[:0], torch.zeros(0).long(), ValueError, f"y has the shape (0,); {ONE_EACH}"),
        (X, torch.zeros(4), TypeError, f"y has the dtype torch.float32; {INTEGER}"),
        (X, torch.zeros(4) > 0, TypeError, f"y has the dtype torch.bool; {INTEGER}"),
        (X, torch.zeros(3).long(), ValueError, f"x has the shape (4, 1, 8, 8); allowed: (3, …), {AS_LONG}"),
        (torch.zeros(()), torch.zeros(1).long(), ValueError, f"x has the shape (); allowed: (1, …), {AS_LONG}"),
        (X, torch.tensor([0, 1, -100, 2]), ValueError, "y holds the label -100; allowed: class numbers from 0"),
        (X.numpy(), torch.zeros(4).long(), TypeError, "x is a ndarray; allowed: a torch.Tensor"),
        (X, [0, 1, 2, 3], TypeError, "y is a list; allowed: a torch.Tensor"),
    ],
    ids=["column", "one-hot", "empty", "float", "bool", "longer x", "no batch", "ignored", "array", "list"],
)
def test_a_split_of_anything_but_examples_and_their_classes_is_refused(x, y, error, said, refuses):
    refuses(error, said, Split, x, y)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.uint16, torch.int64])
def test_labels_of_any_integer_dtype_become_int64(dtype):
    y = torch.tensor([3, 200, 0, 1])
    assert Split(X, y.to(dtype)).y.dtype == torch.int64
    assert Split(X, y.to(dtype)).y.equal(y)
    assert Split(X, y).y is y  # and those that are, are not copied


def test_unknown_name(refuses):
    said = "name is 'imagenet'; allowed: 'mnist', 'fashion-mnist', 'cifar10', 'cifar10-full', 'digits', 'shakespeare'"
    refuses(ValueError, said, load_data, "imagenet")


def test_shipped_files_are_all_listed_and_undamaged():
    assert data.damaged() == []
    files = [f for f in data.data_dir().rglob("*") if f.suffix in SHIPPED]
    files += (data.data_dir() / "checkpoints").glob("*.json")
    shipped = {f.relative_to(data.data_dir()).as_posix() for f in files}
    optional = {f for f in data.manifest() if f.startswith("cifar10-full/")}
    assert shipped | optional == set(data.manifest())


SHIPPED = {".webp", ".npy", ".npz", ".xz", ".safetensors", ".csv", ".lk"}


def test_a_damaged_file_is_named(small_data, refuses):
    file = small_data / "digits/train-0.webp"
    raw = bytearray(file.read_bytes())
    raw[1_000] ^= 1
    file.write_bytes(raw)
    said = (
        "data/digits/train-0.webp is damaged: its SHA-256 is not the manifest's; "
        "if you changed it yourself, keep a copy; run: git checkout -- data/digits/train-0.webp"
    )
    refuses(ValueError, said, lambda: load_data("digits").train.x)
    assert load_data("digits").validation.x.shape == (300, 1, 8, 8)
    assert data.damaged() == [said]


def test_a_missing_file_is_named(small_data, refuses, capsys):
    (small_data / "digits/test-labels.npy").unlink()
    said = "data/digits/test-labels.npy is missing; run: git checkout -- data/digits/test-labels.npy"
    refuses(FileNotFoundError, said, load_data, "digits")
    assert data.damaged() == [said]
    assert command.main([]) == 1
    assert capsys.readouterr().out == said + "\n"


def test_a_file_that_is_not_listed_is_refused(small_data, refuses):
    (small_data / "stranger.npy").write_bytes(b"x")
    said = "data/stranger.npy is not listed in data/manifest.json; allowed: the files listed there"
    refuses(ValueError, said, data.verified, "stranger.npy")


def test_undamaged_data_says_so(small_data, capsys):
    assert command.main([]) == 0
    assert capsys.readouterr().out == "6 files listed, none damaged\n"


# text


@pytest.fixture(scope="module")
def text():
    return lzma.decompress((data.data_dir() / "shakespeare/input.txt.xz").read_bytes()).decode()


def test_the_text_is_the_published_one(text):
    assert len(text) == 1_115_394
    assert hashlib.sha256(text.encode()).hexdigest().startswith("86c4e6aa9db7c042")
    assert load_data("shakespeare").classes == tuple(sorted(set(text)))


def test_text_sizes_types_and_words():
    loaded = load_data("shakespeare")
    assert repr(loaded) == "Data('shakespeare': train 62,738, validation 5,066, test 11,145; windows of text 48)"
    assert (loaded.of_text, load_data("digits").of_text) == (True, False)
    for part in PARTS:
        split = getattr(loaded, part)
        assert split.x.shape == (len(split), 48)
        assert (split.x.dtype, split.y.dtype) == (torch.int64, torch.int64)
        assert (split.x * loaded.std + loaded.mean).equal(split.x.float())


@pytest.mark.parametrize(("part", "low", "high"), [("train", 0, 0.9), ("validation", 0.9, 0.95), ("test", 0.95, 1)])
def test_every_window_and_the_character_behind_it_lie_in_their_own_part_of_the_text(text, part, low, high):
    loaded = load_data("shakespeare")
    own = text[round(low * len(text)) : round(high * len(text))]
    split, step = getattr(loaded, part), data.PARTS[part][2]
    rows = ["".join(loaded.classes[i] for i in row) for row in torch.cat([split.x, split.y[:, None]], 1).tolist()]
    assert sorted(rows) == sorted(own[i : i + 49] for i in range(0, len(own) - 48, step))
    assert rows[:2] != [own[i : i + 49] for i in (0, step)]  # shuffled, so that the head is a fair sample


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.integers(0, 2**32 - 1))
def test_mosaic_round_trip(n, h, w, colour, seed):
    images = np.random.default_rng(seed).integers(0, 256, (n, h, w, *([3] if colour else [])), dtype=np.uint8)
    sheet = data.to_mosaic(images)
    assert np.array_equal(data.from_mosaic(sheet, images.shape[1:], n), images)
    columns = sheet.shape[1] // w
    row, column = divmod(n - 1, columns)
    assert np.array_equal(sheet[h * row : h * row + h, w * column : w * column + w], images[-1])
    assert columns - 1 <= sheet.shape[0] // h <= columns


@pytest.fixture
def fake_cifar(tmp_path_factory):
    """Two images a batch, both as PNG and as the authors' binary files."""
    rng = np.random.default_rng(0)
    png, binary = tmp_path_factory.mktemp("png"), tmp_path_factory.mktemp("binary") / "cifar-10-batches-bin"
    binary.mkdir()
    labels = {"train": [], "test": []}
    for batch in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]:
        images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
        classes = rng.integers(0, 10, 2)
        labels["test" if batch == "test_batch" else "train"] += classes.tolist()
        Image.fromarray(images.reshape(2, 1_024, 3)).save(png / f"{batch}.png")
        rows = [bytes([c]) + image.transpose(2, 0, 1).tobytes() for c, image in zip(classes, images, strict=True)]
        (binary / f"{batch}.bin").write_bytes(b"".join(rows))
    for part, values in labels.items():
        (png / f"{part}_labels.json").write_text(json.dumps(values))
    return png, binary


def list_as_cifar(folder, arrays):
    """Write `arrays` into the manifest of `folder` as if they were the published set."""
    listed = json.loads((folder / "manifest.json").read_text())
    for name, array in arrays.items():
        listed[f"cifar10-full/{name}.npy"] = {"sha256": hashlib.sha256(fetch._npy(array)).hexdigest(), "bytes": 0}
    (folder / "manifest.json").write_text(json.dumps(listed))


def test_another_set_is_not_taken_for_cifar10(small_data, fake_cifar, refuses):
    list_as_cifar(small_data, dict.fromkeys(["train", "test", "train-labels", "test-labels"], np.zeros(1)))
    said = f"CIFAR-10 from {fake_cifar[0]} is not the published set: train.npy differs; nothing written"
    refuses(ValueError, said, fetch.fetch_cifar10, fake_cifar[0])
    assert not (small_data / "cifar10-full").exists()


def test_png_binary_and_archive_hold_the_same_cifar10(fake_cifar):
    png, binary = (fetch.read_cifar_folder(folder) for folder in fake_cifar)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        archive.add(fake_cifar[1], "cifar-10-batches-bin")
    packed = fetch.read_cifar_archive(raw.getvalue())
    assert png["train"].shape == (10, 32, 32, 3)
    for name, array in png.items():
        assert np.array_equal(array, binary[name])
        assert np.array_equal(array, packed[name])


def test_the_published_set_is_written_and_then_checked(small_data, fake_cifar, capsys):
    list_as_cifar(small_data, fetch.read_cifar_folder(fake_cifar[0]))
    assert command.main(["fetch", "cifar10", "--from", str(fake_cifar[1])]) == 0
    written = sorted(f.name for f in (small_data / "cifar10-full").iterdir())
    assert written == ["test-labels.npy", "test.npy", "train-labels.npy", "train.npy"]
    assert capsys.readouterr().out == "10 files listed, none damaged\n"


def test_an_empty_folder_is_refused_in_words(small_data, tmp_path_factory, refuses):
    empty = tmp_path_factory.mktemp("empty")
    said = f"{empty} holds neither data_batch_1.bin nor data_batch_1.png; give a CIFAR-10 folder"
    refuses(FileNotFoundError, said, fetch.fetch_cifar10, empty)


def test_the_full_cifar10_is_missed_with_the_command_that_brings_it(small_data, refuses):
    list_as_cifar(small_data, dict.fromkeys(["train", "test", "train-labels", "test-labels"], np.zeros(1)))
    said = "data/cifar10-full/train-labels.npy is missing; run: python -m labkit.data fetch cifar10"
    refuses(FileNotFoundError, said, load_data, "cifar10-full")
    assert data.damaged() == []
