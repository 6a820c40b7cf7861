"""How time and memory of save, load and share grow with the model, beside safetensors and zlib on the same tensors.

    python -m benchmarks.scale                          models of 1, 10 and 100 million weights
    python -m benchmarks.scale --millions 1             does it run at all?

Four Linear layers of equal size; weights are normal, and each row has a scale of its own, so that zeros cluster in rows
as they do in trained networks. The reference is `safetensors.torch.save`, then `zlib.compress` at its default, level 6,
and back. Every figure comes from a fresh process. Seconds are the processor's, which other work on the machine disturbs
less; memory (MB) is the peak above what it was before the step, when the process held the model and nothing else.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from benchmarks.machine import machine
from labkit import load, prune, quantize, save, share_weights
from labkit.compress.parts import parts

KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "dense": lambda model: model,
    "pruned 90 %": lambda model: prune(model, 0.9),
    "pruned 90 %, 4 bits": lambda model: quantize(prune(model, 0.9), 4),
    "shared, 4 bits": lambda model: share_weights(model, 4),
}
LEVEL = 6


def net(weights: int) -> nn.Module:
    """Four square layers with so many weights."""
    width = round((weights / 4) ** 0.5)
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(4)))


def trained(weights: int) -> nn.Module:
    """`net`, with weights of a spread that differs from row to row."""
    torch.manual_seed(0)
    model = net(weights)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim == 2):
            weight.normal_(0, 0.02).mul_(torch.randn(len(weight), 1).mul(0.5).exp())
    return model


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a file must hold, as plain tensors."""
    found: dict[str, Tensor] = {}
    for name, part in parts(model).items():
        found |= {f"{name}.{what}": tensor for what, tensor in part.tensors().items()}
    return found


def stored(folder: Path, weights: int) -> nn.Module:
    """The model that the step "build" left in `folder`."""
    with torch.device("meta"):
        model = net(weights)
    model.to_empty(device="cpu")  # memory that nobody writes to is free
    for name, part in torch.load(folder / "parts.pt", weights_only=False).items():
        part.install(model, name)
    return model


def zlib_save(model: nn.Module, path: Path) -> None:
    """The reference, on disk as safely as `save` writes it."""
    raw = zlib.compress(safetensors.torch.save(tensors(model)), LEVEL)
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def zlib_load(path: Path, into: nn.Module) -> dict[str, Tensor]:
    """The reference's tensors again; it does not put them into a model."""
    return safetensors.torch.load(zlib.decompress(path.read_bytes()))


STEPS: dict[str, Callable[[nn.Module, Path], Any]] = {
    "save": lambda model, folder: save(model, folder / "model.lk"),
    "load": lambda model, folder: load(folder / "model.lk", model),
    "zlib save": lambda model, folder: zlib_save(model, folder / "model.zz"),
    "zlib load": lambda model, folder: zlib_load(folder / "model.zz", model),
    "share": lambda model, folder: share_weights(model, 4),
}


def peak() -> float:
    """The most memory that this process ever held, in MB; on Linux `ru_maxrss` begins at that of the parent process."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def run(step: str, kind: str, weights: int, folder: Path) -> dict[str, float]:
    """In a process of its own: {"seconds": …, "MB": …} of one step."""
    if step == "build":
        model = KINDS[kind](trained(weights))
        torch.save(parts(model), folder / "parts.pt")
        return {}
    model = net(weights) if "load" in step else stored(folder, weights)
    with tempfile.TemporaryDirectory() as name:  # what the first call of anything costs
        warm = Path(name)
        for verb in ("save", "load", "zlib save", "zlib load"):
            STEPS[verb](nn.Linear(20, 20), warm)
    before, started = peak(), time.process_time()
    kept = STEPS[step](model, folder)
    seconds, after = time.process_time() - started, peak()
    del kept
    return {"seconds": seconds, "MB": after - before}


def in_process(step: str, kind: str, weights: int, folder: Path) -> dict[str, float]:
    """`run`, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.scale", "--run", step, kind, str(weights), str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(kind: str, weights: int, repeats: int) -> dict[str, dict[str, float]]:
    """Each step's least seconds and least MB of `repeats`, taking turns, and the two files' sizes."""
    steps = [step for step in STEPS if step != "share" or kind == "dense"]
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_process("build", kind, weights, folder)
        for _ in range(repeats):
            for step in sorted(steps, key=lambda step: "load" in step):  # a file is written before it is read
                ran = in_process(step, kind, weights, folder)
                best = found.setdefault(step, ran)
                found[step] = {key: min(best[key], ran[key]) for key in ran}
        found["size"] = {end: (folder / f"model.{end}").stat().st_size / 1e6 for end in ("lk", "zz")}
    return found


def row(kind: str, weights: int, found: dict[str, dict[str, float]]) -> str:
    """One line of the table."""
    cells = [f"{weights / 1e6:g} M", kind, f"{found['size']['lk']:.1f} / {found['size']['zz']:.1f}"]
    for step in ("save", "load"):
        for unit, digits in (("seconds", 2), ("MB", 0)):
            ours, theirs = found[step][unit], found[f"zlib {step}"][unit]
            cells.append(f"{ours:.{digits}f} / {theirs:.{digits}f} = {ours / max(theirs, 1e-9):.2g}")
    cells.append(f"{found['share']['seconds']:.2f} s, {found['share']['MB']:.0f} MB" if "share" in found else "")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale")
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10, 100])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        step, kind, weights, folder = options.run
        print(json.dumps(run(step, kind, int(weights), Path(folder))))
        return
    print(f"labkit / safetensors and zlib = ratio; least of {options.repeats}; {machine()}\n")
    print("| weights | kind | file, MB | save, s | save, MB | load, s | load, MB | share to 4 bits |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for millions in options.millions:
        weights = round(millions * 1e6)
        for kind in options.kinds:
            print(row(kind, weights, measure(kind, weights, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
