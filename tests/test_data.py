"""Data sets: complete, disjoint, undamaged; a mosaic gives back what was put in."""

import hashlib
import io
import json
import lzma
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labkit import data
from labkit.data import Split, fetch, load_data
from labkit.data import __main__ as command

SIZES = {
    "mnist": (55_000, 5_000, 10_000),
    "fashion-mnist": (55_000, 5_000, 10_000),
    "cifar10": (2_000, 2_000, 2_000),
    "digits": (1_197, 300, 300),
}
SHAPES = {"mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32), "digits": (1, 8, 8)}
PARTS = ("train", "validation", "test")


def stored_labels(name, part):
    return torch.from_numpy(np.load(data.data_dir() / name / f"{part}-labels.npy")).long()


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


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "digits"])
def test_train_and_validation_share_out_the_stored_train_labels(name):
    loaded, labels = load_data(name), stored_labels(name, "train")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held = SIZES[name][1]
    assert order.sort().values.equal(torch.arange(len(labels)))
    assert loaded.validation.y.equal(labels[order[:held]])
    assert loaded.train.y.equal(labels[order[held:]])
    assert loaded.test.y.equal(stored_labels(name, "test"))


def test_images_travel_with_their_labels():
    loaded = load_data("digits")
    sheet = np.asarray(Image.open(data.data_dir() / "digits/train.webp").convert("L"))
    order = data.split_order(1_497).tolist()
    for place, split in ((0, loaded.validation), (7, loaded.validation)):
        row, column = divmod(order[place], sheet.shape[1] // 8)
        tile = sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert np.allclose(split.x[place, 0] * 0.376 * 255, tile, atol=1e-3)


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
    file = small_data / "digits/train.webp"
    raw = bytearray(file.read_bytes())
    raw[1_000] ^= 1
    file.write_bytes(raw)
    said = (
        "data/digits/train.webp is damaged: its SHA-256 is not the manifest's; "
        "if you changed it yourself, keep a copy; run: git checkout -- data/digits/train.webp"
    )
    refuses(ValueError, said, load_data, "digits")
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
    assert capsys.readouterr().out == "4 files listed, none damaged\n"


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
    assert capsys.readouterr().out == "8 files listed, none damaged\n"


def test_an_empty_folder_is_refused_in_words(small_data, tmp_path_factory, refuses):
    empty = tmp_path_factory.mktemp("empty")
    said = f"{empty} holds neither data_batch_1.bin nor data_batch_1.png; give a CIFAR-10 folder"
    refuses(FileNotFoundError, said, fetch.fetch_cifar10, empty)


def test_the_full_cifar10_is_missed_with_the_command_that_brings_it(small_data, refuses):
    list_as_cifar(small_data, dict.fromkeys(["train", "test", "train-labels", "test-labels"], np.zeros(1)))
    said = "data/cifar10-full/train-labels.npy is missing; run: python -m labkit.data fetch cifar10"
    refuses(FileNotFoundError, said, load_data, "cifar10-full")
    assert data.damaged() == []
