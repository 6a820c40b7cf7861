"""The command line as a process: what it prints, what it writes, its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import labkit as lk
from labkit import cli
from labkit.data import data_dir

CHECKPOINT = data_dir() / "checkpoints" / "lenet-300-100--mnist.safetensors"
FACTORY = """import torch
def net():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
def wrong():
    return 3
"""


def labkit(*arguments, code=0):
    """What `labkit` prints; its exit code must be `code`."""
    command = [Path(sys.executable).parent / "labkit", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    return ran.stdout if code == 0 else ran.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "small.lk"
    labkit("compress", CHECKPOINT, "--arch", "lenet-300-100", "--sparsity", 0.9, "--bits", 4, "-o", path)
    return path


def test_compress_writes_the_file_that_the_functions_write(small):
    model = lk.load_model("lenet-300-100", "mnist")
    assert small.read_bytes() == lk.encode(lk.quantize(lk.prune(model, 0.9), 4))


def test_info_accounts_for_every_byte_and_finds_the_architecture(small):
    rows = json.loads(labkit("info", small, "--json"))
    assert sum(row["bytes"] for row in rows) == small.stat().st_size
    record = data_dir() / "records" / "lenet-5--augmented--seed0.lk"  # of the slow coder
    assert sum(row["bytes"] for row in json.loads(labkit("info", record, "--json"))) == record.stat().st_size


def test_score_and_bench_are_those_of_the_functions(small):
    data = lk.load_data("mnist")
    again = lk.load(small, into=lk.build("lenet-300-100"))
    told = json.loads(labkit("score", small, "--data", "mnist", "--split", "test", "--json"))
    assert told["correct"] == lk.accuracy(again, data.test)["correct"]
    assert f"{told['accuracy']}" in labkit("score", small, "--data", "mnist", "--split", "test")
    record = json.loads(labkit("bench", small, "--data", "mnist", "--json"))
    assert record["size_bytes"] == small.stat().st_size
    assert record["macs"] == 266_200


@pytest.mark.slow
def test_a_budget_is_met(tmp_path):
    path = tmp_path / "net.lk"
    how = ("--budget", "20KB", "--data", "mnist", "-o", path, "--json")
    told = json.loads(labkit("compress", CHECKPOINT, "--arch", "lenet-300-100", *how))
    assert told["bytes"] == path.stat().st_size <= 20_000


def test_a_file_without_batchnorm_is_read(tmp_path):
    small, path = lk.quantize(lk.load_model("resnet-20", "cifar10"), 4), tmp_path / "small.lk"
    lk.save(lk.fold_batchnorm(small), path)
    told = json.loads(labkit("score", path, "--data", "cifar10", "--json"))
    expected = lk.accuracy(small, lk.load_data("cifar10").validation)["accuracy"]
    assert told["accuracy"] == pytest.approx(expected, abs=0.002)  # an image on the border may change sides


def test_export_writes_both(small, tmp_path):
    onnx, header = tmp_path / "net.onnx", tmp_path / "net.h"
    told = json.loads(labkit("export", small, "--data", "mnist", "--onnx", onnx, "--c", header, "--json"))
    assert told == {str(onnx): onnx.stat().st_size, str(header): header.stat().st_size}
    x = lk.load_data("mnist").test.x[:100]
    again = lk.load(small, into=lk.build("lenet-300-100"))
    assert lk.export.onnx_outputs(onnx, x).argmax(1).equal(again(x).argmax(1))
    assert "_infer(" in header.read_text()


def test_an_architecture_of_ones_own_is_executed_and_this_is_said(tmp_path):
    (tmp_path / "mine.py").write_text(FACTORY)
    import importlib.util

    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    mine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mine)
    lk.save(mine.net(), tmp_path / "mine.lk")
    arch = f"{tmp_path / 'mine.py'}:net"
    path = tmp_path / "small.lk"
    labkit("compress", tmp_path / "mine.lk", "--arch", arch, "--bits", 3, "-o", path)
    assert path.stat().st_size < (tmp_path / "mine.lk").stat().st_size
    said = labkit("info", tmp_path / "mine.lk", "--arch", f"{tmp_path / 'mine.py'}:wrong", code=1)
    assert "executing" in said
    assert "gives a int" in said


def test_a_refusal_is_one_sentence_and_code_1(small, tmp_path):
    for arguments, words in [
        (("info", tmp_path / "none.lk"), "none.lk"),
        (("compress", CHECKPOINT, "--sparsity", 2, "-o", tmp_path / "x.lk"), "sparsity is 2"),
        (("compress", CHECKPOINT, "--arch", "lenet-5", "-o", tmp_path / "x.lk"), "does not fit LeNet5"),
        (("score", small, "--data", "nothing"), "'nothing'"),
        (("info", Path(__file__)), "allowed: a .lk or a .safetensors file"),
    ]:
        said = labkit(*arguments, code=1)
        assert words in said
        assert len(said.strip().splitlines()) == 1
        assert "Traceback" not in said


def test_wrong_usage_is_code_2(small):
    assert "give --onnx or --c" in labkit("export", small, "--data", "mnist", code=2)
    assert "is no size" in labkit("compress", CHECKPOINT, "--budget", "20XB", "--data", "mnist", "-o", "x.lk", code=2)
    assert "--budget needs --data" in labkit("compress", CHECKPOINT, "--budget", "20KB", "-o", "x.lk", code=2)
    assert "--output" in labkit("compress", CHECKPOINT, code=2)


@pytest.mark.parametrize("command", ["compress", "info", "score", "export", "bench", "demo"])
def test_help_shows_an_example(command):
    assert f"labkit {command}" in labkit(command, "--help").split("Options:")[1]


@pytest.mark.parametrize(("text", "number"), [("900", 900), ("20KB", 20_000), ("16KiB", 16_384), ("1.5 MB", 1.5e6)])
def test_sizes(text, number):
    assert cli.size(text) == number


def test_demo_scores_what_it_made():
    rows = {row["network"]: row for row in json.loads(labkit("demo", "--json"))}
    model, split = lk.load_model("lenet-300-100", "mnist"), lk.load_data("mnist").validation
    small = lk.prune(model, 0.9)
    assert rows["90 % pruned"]["bytes"] == len(lk.encode(small))
    assert rows["90 % pruned"]["accuracy"] == lk.accuracy(small, split)["accuracy"]
