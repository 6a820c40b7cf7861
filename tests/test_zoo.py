"""Checkpoints: undamaged, as good as their record says, and good enough to be worth compressing."""

import json

import pytest
import safetensors.torch
import torch

from labkit import data, models, zoo
from labkit.data import load_data
from labkit.models import LeNet300100
from labkit.train import count_correct
from labkit.zoo import __main__ as command

# validation accuracy on the 2,000 images that ship; the goal is that of a network worth compressing
ON_FULL_CIFAR = {("resnet-20", "cifar10"): 0.85, ("mobilenet", "cifar10"): 0.85}
ON_WHAT_SHIPS = [key for key in zoo.RECIPES if key not in ON_FULL_CIFAR]
# of the test set, over all 10,000 images; of the text, over all 11,145 windows
GOALS = {
    ("lenet-300-100", "mnist"): 0.983,
    ("lenet-5", "mnist"): 0.991,
    ("lenet-300-100", "fashion-mnist"): 0.895,
    ("lenet-5", "fashion-mnist"): 0.91,
    ("vit", "fashion-mnist"): 0.88,
    ("char-transformer", "shakespeare"): 0.5,
}


def accuracy(model, split):
    return count_correct(model, split) / len(split)


def record(name, data_name):
    return json.loads((data.data_dir() / zoo.checkpoint(name, data_name)).with_suffix(".json").read_text())


@pytest.mark.parametrize(("name", "data_name"), ON_WHAT_SHIPS)
def test_rescoring_gives_the_recorded_accuracy(name, data_name):
    model, images = zoo.load_model(name, data_name), load_data(data_name)
    assert not model.training
    assert accuracy(model, images.validation) == pytest.approx(record(name, data_name)["validation_accuracy"], abs=1e-9)
    assert accuracy(model, images.test) == pytest.approx(record(name, data_name)["test_accuracy"], abs=1e-9)


@pytest.mark.parametrize(("name", "data_name"), GOALS)
def test_the_record_meets_the_goal(name, data_name):
    assert record(name, data_name)["test_accuracy"] >= GOALS[name, data_name]


@pytest.mark.parametrize(("name", "data_name"), zoo.RECIPES)
def test_the_record_tells_the_recipe_of_today(name, data_name):
    told, recipe = record(name, data_name), zoo.RECIPES[name, data_name]
    assert told["recipe"] == {k: zoo._plain(v) for k, v in recipe.settings.items()}
    assert told["command"] == f"python -m labkit.zoo train {name} {data_name}"
    assert told["data"] == (recipe.trained_on or data_name)


@pytest.mark.parametrize(("name", "data_name"), ON_FULL_CIFAR)
def test_a_network_of_all_of_cifar_on_the_images_that_ship(name, data_name):
    """It was trained on all of CIFAR-10; these validation images are 2,000 of the 5,000 it was chosen on."""
    assert accuracy(zoo.load_model(name, data_name), load_data("cifar10").validation) > ON_FULL_CIFAR[name, data_name]


def test_there_is_no_other_checkpoint(refuses):
    pairs = ", ".join(f"{m} on {d}" for m, d in zoo.RECIPES)
    said = f"name and data_name are 'lenet-5' and 'digits'; allowed: {pairs}"
    refuses(ValueError, said, zoo.load_model, "lenet-5", "digits")
    refuses(ValueError, said, zoo.retrain, "lenet-5", "digits")


def test_loading_a_checkpoint_leaves_the_random_generator_alone():
    before = torch.get_rng_state()
    zoo.load_model("lenet-5", "mnist")
    assert torch.get_rng_state().equal(before)


@pytest.fixture
def tiny(small_data, monkeypatch):
    """A recipe that takes a second: LeNet-300-100 on the digits."""
    monkeypatch.setitem(models.ARCHITECTURES, "tiny", lambda: LeNet300100(inputs=64))
    monkeypatch.setitem(zoo.RECIPES, ("tiny", "digits"), zoo.Recipe(dict(epochs=3, lr=2e-3, seed=0)))
    return small_data / "checkpoints/tiny--digits.safetensors"


def test_retraining_writes_the_checkpoint_and_its_record(tiny):
    figures = zoo.retrain("tiny", "digits", progress=False)
    model = LeNet300100(inputs=64)
    model.load_state_dict(safetensors.torch.load_file(tiny))
    images = load_data("digits")
    assert figures == json.loads(tiny.with_suffix(".json").read_text())
    assert figures["validation_accuracy"] == accuracy(model, images.validation) > 0.85
    assert figures["test_accuracy"] == accuracy(model, images.test)
    assert figures["recipe"] == {"epochs": 3, "lr": 2e-3, "seed": 0}
    assert figures["train_images"] == 1_197
    assert sorted(f.name for f in tiny.parent.iterdir()) == ["tiny--digits.json", "tiny--digits.safetensors"]


def test_retraining_again_gives_the_same_bytes(tiny):
    zoo.retrain("tiny", "digits", progress=False)
    first = tiny.read_bytes()
    torch.rand(3)
    zoo.retrain("tiny", "digits", progress=False)
    assert tiny.read_bytes() == first


def test_a_retrained_checkpoint_is_listed_and_loads(tiny):
    zoo.retrain("tiny", "digits", progress=False)
    assert "checkpoints/tiny--digits.safetensors" in data.manifest()
    assert zoo.load_model("tiny", "digits").training is False


def test_a_checkpoint_that_is_not_in_the_manifest_is_not_loaded(tiny, small_data, refuses):
    zoo.retrain("tiny", "digits", progress=False)
    path = "checkpoints/tiny--digits.safetensors"
    left = {name: entry for name, entry in data.manifest().items() if name != path}
    (small_data / "manifest.json").write_text(json.dumps(left))
    said = f"data/{path} is not listed in data/manifest.json; allowed: the files listed there"
    refuses(ValueError, said, zoo.load_model, "tiny", "digits")


def test_the_command_line_retrains(tiny, capsys):
    assert command.main(["train", "tiny", "digits"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "tiny"
    assert tiny.exists()


def test_the_command_line_lists_every_record(capsys):
    assert command.main([]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["model"] for row in rows] == [name for name, _ in zoo.RECIPES]
