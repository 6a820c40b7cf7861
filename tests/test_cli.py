"""The command line as a process: what it prints, what it writes, its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import typer

import labkit as lk
from labkit import cli
from labkit.compress.quantize import quantize_inputs
from labkit.data import data_dir, take
from labkit.store import CODERS

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


@pytest.fixture
def inside(capsys, monkeypatch):
    """Like `labkit`, without a process of its own."""

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["labkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        assert ended.value.code == code, told.err
        return told.out if code == 0 else told.err

    return run


@pytest.fixture
def mine(tmp_path):
    """The --arch of a small network for the digits."""
    (tmp_path / "mine.py").write_text(FACTORY)
    return f"{tmp_path / 'mine.py'}:net"


def net():
    """The network of `mine`."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))


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


@pytest.mark.parametrize("layers", [["1"], ["1", "3"]])
def test_c_rounds_to_8_bits_only_what_is_not_rounded(layers, digits, inside, mine, tmp_path):
    how, header = dict(calibration=take(digits.train, 1_000)), tmp_path / "net.h"
    model = quantize_inputs(lk.quantize(net(), 4), 4, layers=layers, **how)
    lk.save(model, tmp_path / "net.lk")
    inside("export", tmp_path / "net.lk", "--arch", mine, "--data", "digits", "--c", header)
    if "3" not in layers:
        model = quantize_inputs(model, 8, layers=["3"], **how)
    expected = lk.export.c(model, digits.test.x, tmp_path / "expected.h", coders=CODERS)
    assert header.read_text() == expected.read_text()


def test_an_export_that_is_refused_writes_nothing(inside, mine, tmp_path):
    lk.save(lk.quantize(net(), 4, symmetric=False), tmp_path / "net.lk")  # C takes no affine weights, ONNX does
    files = set(tmp_path.iterdir())
    how = ("--arch", mine, "--data", "digits", "--onnx", tmp_path / "a.onnx", "--c", tmp_path / "a.h")
    assert "affine" in inside("export", tmp_path / "net.lk", *how, code=1)
    assert set(tmp_path.iterdir()) == files


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


def test_an_architecture_may_be_a_dataclass_and_import_its_neighbours(inside, tmp_path):
    for neighbour in ("neighbour_of_mine", "late_neighbour"):
        (tmp_path / f"{neighbour}.py").write_text(FACTORY)
    (tmp_path / "annotated.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from neighbour_of_mine import net\n"
        "@dataclass\nclass Settings:\n    hidden: int = 8\n"
        "def late():\n    import late_neighbour\n    return late_neighbour.net()\n"
    )
    lk.save(net(), tmp_path / "net.lk")
    path = list(sys.path)
    for function in ("net", "late"):
        inside("info", tmp_path / "net.lk", "--arch", f"{tmp_path / 'annotated.py'}:{function}")
    assert sys.path == path


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def net(:", "SyntaxError: invalid syntax"),
        ("import no_such_neighbour", "ModuleNotFoundError: No module named 'no_such_neighbour'"),
        ("def net():\n    raise KeyError('size')", "KeyError: 'size'"),
        ("def net():\n    assert 1 > 2, 'two\\nlines'", "AssertionError: two lines"),
        ("import sys\nsys.exit(0)", "SystemExit: 0"),
    ],
)
def test_an_architecture_that_cannot_be_executed_is_refused(source, said, inside, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "_architecture", raising=False)  # of a file that was executed before
    file = tmp_path / "broken.py"
    file.write_text(source)
    lk.save(net(), tmp_path / "net.lk")
    told = inside("info", tmp_path / "net.lk", "--arch", f"{file}:net", code=1).splitlines()
    assert told[0] == f"executing {file}"
    assert told[1].startswith(f"labkit: {file} cannot be executed: {said}")
    assert len(told) == 2
    assert "_architecture" not in sys.modules
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize("suffix", [".lk", ".safetensors"])
def test_a_damaged_file_is_called_damaged(suffix, inside, tmp_path):
    whole, short = tmp_path / f"whole{suffix}", tmp_path / f"short{suffix}"
    if suffix == ".lk":
        lk.save(net(), whole)
    else:
        safetensors.torch.save_file(net().state_dict(), whole)
    short.write_bytes(whole.read_bytes()[:-100])
    told = inside("info", short, code=1)
    assert f"{short}: " in told
    assert {".lk": "damaged or cut short", ".safetensors": "not fully covered"}[suffix] in told
    assert "fits no architecture of the lab" in inside("info", whole, code=1)


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
    assert "--output" in labkit("compress", CHECKPOINT, code=2)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (("--budget", "20KB"), "--budget needs --data"),
        (("--budget", "20XB", "--data", "mnist"), "'20XB' is no size"),
        (("--budget", "1,5KB", "--data", "mnist"), "'1,5KB' is no size"),
        (("--budget", "1.2.3KB", "--data", "mnist"), "'1.2.3KB' is no size"),
        (("--budget", "", "--data", "mnist"), "'' is no size"),
        (("--budget", ""), "--budget needs --data"),
        (("--data", "mnist"), "--data needs --budget"),
        (("--budget", "20KB", "--data", "mnist", "--bits", 4), "either --budget or these"),
        (("-o", "noext"), "output is noext; allowed: a name that ends in .lk"),
        (("-o", "copy.safetensors"), "output is copy.safetensors; allowed: a name that ends in .lk"),
    ],
)
def test_wrong_usage_of_compress_is_found_before_any_work(how, said, inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # an error in one line
    assert said in inside("compress", "none.lk", "-o", "x.lk", *how, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["compress", "info", "score", "export", "bench", "demo"])
def test_help_shows_an_example(command):
    assert f"labkit {command}" in labkit(command, "--help").split("Options:")[1]


@pytest.mark.parametrize(
    ("text", "number"),
    [("900", 900), ("20KB", 20_000), ("16KiB", 16_384), ("1.5 MB", 1.5e6), ("1,500", 1_500), ("1,234,567B", 1_234_567)],
)
def test_sizes(text, number):
    assert cli.size(text) == number


@pytest.mark.parametrize(
    "text", ["1,5KB", "1.2.3KB", "1500,000", "1,500.5KB", ",500", ".5KB", "1.KB", "-1KB", "KB", ""]
)
def test_what_is_no_size(text):
    with pytest.raises(typer.BadParameter, match="is no size"):
        cli.size(text)


def test_demo_scores_what_it_made():
    rows = {row["network"]: row for row in json.loads(labkit("demo", "--json"))}
    model, split = lk.load_model("lenet-300-100", "mnist"), lk.load_data("mnist").validation
    small = lk.prune(model, 0.9)
    assert rows["90 % pruned"]["bytes"] == len(lk.encode(small))
    assert rows["90 % pruned"]["accuracy"] == lk.accuracy(small, split)["accuracy"]
