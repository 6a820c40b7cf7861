"""The command line: `labkit compress`, `info`, `score`, `export`, `bench`, `demo`; each has --help with an example.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import safetensors.torch
import typer
from torch import nn

from labkit import export as exporting
from labkit import store
from labkit._files import read
from labkit.budget import fit_budget
from labkit.compress._weights import weights
from labkit.compress.fold import folded
from labkit.compress.magnitude import prune
from labkit.compress.quantize import has_input_quantizer, quantize, quantize_inputs
from labkit.data import Data, Split, load_data, take
from labkit.measure import accuracy, measure
from labkit.models import ARCHITECTURES, build
from labkit.store import container
from labkit.zoo import load_model

app = typer.Typer(
    help="Make a trained network smaller, and measure what it costs.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None, context_settings={"max_content_width": 100},
)  # fmt: skip
UNITS = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "KIB": 2**10, "MIB": 2**20}
NUMBER = r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?"
CALIBRATION = 1_000  # training images that set the ranges of activations
LONGEST_HEADER = 2**24  # bytes, once inflated: the header of 100,000 tensors
OWN = "an architecture of the lab, or FILE.py:FUNCTION, which executes that file"

Network = Annotated[Path, typer.Argument(help="a .lk file, or .safetensors with the weights", show_default=False)]
Arch = Annotated[str, typer.Option(help=f"{OWN}; by default that of the lab which the file fits", show_default=False)]
DataName = Annotated[str, typer.Option("--data", help="a data set of the lab, such as mnist")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]


@app.command(epilog="labkit compress net.safetensors --arch lenet-300-100 --sparsity 0.9 --bits 4 -o small.lk")
def compress(
    network: Network,
    output: Annotated[Path, typer.Option("--output", "-o", help="the .lk file to write", show_default=False)],
    arch: Arch = "",
    sparsity: Annotated[float, typer.Option(help="fraction of the weights set to 0, in [0, 1)")] = 0.0,
    bits: Annotated[int, typer.Option(help="bits per weight, 1 to 8; 32: not rounded")] = 32,
    budget: Annotated[str | None, typer.Option(help="a size such as 20KB or 16KiB; needs --data")] = None,
    data_name: Annotated[str | None, typer.Option("--data", help="the data set that a budget is measured on")] = None,
    as_json: AsJson = False,
) -> None:
    """Prune and round a network, by one setting for all layers or for a budget, and write the .lk file."""
    if output.suffix != ".lk":
        raise typer.BadParameter(f"output is {output}; allowed: a name that ends in .lk")
    if (budget is None) != (data_name is None):
        raise typer.BadParameter("--budget needs --data, on which the damage is measured, and --data needs --budget")
    if budget is not None and (sparsity or bits != 32):
        raise typer.BadParameter("a budget chooses sparsity and bits; give either --budget or these")
    goal = None if budget is None else size(budget)
    model = loaded(network, arch)
    if goal is None or data_name is None:
        small = prune(model, sparsity)
        small = small if bits == 32 else quantize(small, bits)
    else:
        small, _ = fit_budget(model, load_data(data_name), goal)
    store.save(small, output)
    before, after = len(store.encode(model)), output.stat().st_size
    tell(dict(file=str(output), bytes=after, before=before, ratio=round(before / after, 2)), as_json)


@app.command(epilog="labkit info small.lk")
def info(network: Network, arch: Arch = "", as_json: AsJson = False) -> None:
    """Where the bytes of a file are: its ledger, one row per tensor and component."""
    model = loaded(network, arch)
    table = store.ledger(model)
    if network.suffix == ".lk" and table["bytes"].sum() != network.stat().st_size:  # written with the slow coder
        table = store.ledger(model, store.CODERS)
    tell(table[table["bytes"] > 0], as_json)


@app.command(epilog="labkit score small.lk --data mnist --split test")
def score(
    network: Network,
    data_name: DataName,
    arch: Arch = "",
    split: Annotated[str, typer.Option(help="train, validation or test")] = "validation",
    as_json: AsJson = False,
) -> None:
    """The accuracy of a network, with its 95 % interval."""
    tell(accuracy(loaded(network, arch), part(load_data(data_name), split)), as_json)


@app.command(epilog="labkit export small.lk --onnx small.onnx --data mnist")
def export(
    network: Network,
    data_name: Annotated[str, typer.Option("--data", help="its images show what the network takes")],
    arch: Arch = "",
    onnx: Annotated[Path | None, typer.Option(help="the ONNX file to write", show_default=False)] = None,
    c: Annotated[Path | None, typer.Option(help="the C header to write", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Write a network as ONNX or as C; for C, activations that are not rounded yet are rounded to 8 bits."""
    if not (onnx or c):
        raise typer.BadParameter("give --onnx or --c, or both")
    model, data = loaded(network, arch), load_data(data_name)
    example, written = data.validation.x[:2], {}
    if c:  # first: ONNX takes every network that C takes, so a refusal leaves no file
        whole = with_rounded_inputs(model, data)
        written[str(c)] = exporting.c(whole, example, c, coders=store.CODERS).stat().st_size
    if onnx:
        written[str(onnx)] = exporting.onnx(model, example, onnx).stat().st_size
    tell(written, as_json)


@app.command(epilog="labkit bench small.lk --data mnist --batch 64")
def bench(
    network: Network,
    data_name: DataName,
    arch: Arch = "",
    batch: Annotated[int, typer.Option(help="images in one pass, whose time is measured")] = 1,
    as_json: AsJson = False,
) -> None:
    """Accuracy on validation, bytes, parameters, MACs, and latency on this machine."""
    tell(measure(loaded(network, arch), load_data(data_name).validation, latency_batch=batch), as_json)


@app.command(epilog="labkit demo")
def demo(as_json: AsJson = False) -> None:
    """Prune and round LeNet-300-100 in a few ways, and score each: half a minute, without a file."""
    model, split = load_model("lenet-300-100", "mnist"), load_data("mnist").validation
    ways = {"dense": model, "90 % pruned": prune(model, 0.9), "4 bits": quantize(model, 4)}
    ways["80 % pruned, 5 bits"] = quantize(prune(model, 0.8), 5)
    rows = [dict(network=name, bytes=len(store.encode(small)), accuracy=accuracy(small, split)["accuracy"])
            for name, small in ways.items()]  # fmt: skip
    tell(pd.DataFrame(rows), as_json)


def with_rounded_inputs(model: nn.Module, data: Data) -> nn.Module:
    """A model that rounds the inputs of all its layers: to 8 bits where it does not round them yet."""
    rounding = {name for name, layer in model.named_modules() if has_input_quantizer(layer)}
    left = [name for name in weights(model) if name.rpartition(".")[0] not in rounding]
    few = take(data.train, min(CALIBRATION, len(data.train)))
    return quantize_inputs(model, 8, calibration=few, layers=left) if left else model


def loaded(path: Path, arch: str) -> nn.Module:
    """The network in a file: of `arch`, else of the architecture of the lab that the file fits."""
    if path.suffix not in (".lk", ".safetensors"):
        raise ValueError(f"network is {path}; allowed: a .lk or a .safetensors file")
    if arch:
        return filled(path, architecture(arch))
    check_whole(path)
    for name in ARCHITECTURES:
        try:
            return filled(path, build(name))
        except ValueError:
            continue
    raise ValueError(f"{path} fits no architecture of the lab; give --arch: {OWN}")


def check_whole(path: Path) -> None:
    """ValueError for a damaged file, which fits no architecture at all."""
    raw = read(path)
    try:
        if path.suffix == ".lk":
            container.opened(raw, LONGEST_HEADER)
        else:
            safetensors.torch.load(raw)
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from error


def filled(path: Path, into: nn.Module) -> nn.Module:
    """`into` with the weights of a file, in evaluation mode; a file of `--budget` has no BatchNorm."""
    if path.suffix == ".lk":
        try:
            return store.load(path, into=into).eval()
        except ValueError:
            if (without := folded(into)) is into:
                raise
            return store.load(path, into=without).eval()
    try:
        into.load_state_dict(safetensors.torch.load(read(path)))
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} does not fit {type(into).__name__}: {reason}") from error
    return into.eval()


def architecture(name: str) -> nn.Module:
    """An architecture of the lab, or what FUNCTION of FILE.py returns: that file is executed."""
    file, colon, function = name.rpartition(":")
    if not colon:
        return build(name)
    made = executed(file, function)
    if not isinstance(made, nn.Module):
        raise ValueError(f"{function} in {file} gives a {type(made).__name__}; allowed: a function that gives a module")
    return made


def executed(file: str, function: str) -> object:
    """What a function of a Python file returns; the file may import its neighbours, as when Python runs it."""
    spec = importlib.util.spec_from_file_location("_architecture", file)
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise ValueError(f"arch is {file}:{function}; allowed: {OWN}")
    typer.echo(f"executing {file}", err=True)
    module, folder = importlib.util.module_from_spec(spec), str(Path(file).resolve().parent)
    sys.modules[spec.name] = module  # dataclasses look there for the names in annotations
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
        return getattr(module, function, lambda: None)()
    except (Exception, SystemExit) as error:  # whatever code of the user raises
        del sys.modules[spec.name]
        raise ValueError(f"{file} cannot be executed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)


def part(data: Data, split: str) -> Split:
    """A split by its name."""
    if split not in ("train", "validation", "test"):
        raise typer.BadParameter(f"split is {split!r}; allowed: train, validation, test")
    found: Split = getattr(data, split)
    return found


def size(text: str) -> float:
    """Bytes: "20KB" is 20,000, "16KiB" 16,384, "900" 900."""
    match = re.fullmatch(rf"\s*({NUMBER})\s*([A-Za-z]*)\s*", text)
    if not match or match[2].upper() not in UNITS:
        raise typer.BadParameter(f"{text!r} is no size; allowed: a number with B, KB, MB, KiB or MiB")
    return float(match[1].replace(",", "")) * UNITS[match[2].upper()]


def tell(told: dict[str, Any] | pd.DataFrame, as_json: bool) -> None:
    """Print a record or a table, as text or as JSON."""
    if isinstance(told, pd.DataFrame):
        typer.echo(json.dumps(told.to_dict("records")) if as_json else told.to_string(index=False))
    elif as_json:
        typer.echo(json.dumps(told))
    else:
        typer.echo("\n".join(f"{name:<16}{value:,}" if isinstance(value, int) else f"{name:<16}{value}"
                             for name, value in told.items()))  # fmt: skip


def main() -> None:
    """Run the command; an error is one sentence on stderr and exit code 1."""
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"labkit: {' '.join(str(error).split())}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
