"""Compile what `lk.export.c` wrote, run it, and say what it must compute."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.embedded import INFER
from labkit.compress.grid import to_integers
from labkit.compress.integer import IntegerLayer, integer_only

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZED = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MODES = ((), ("-DNETWORK_UNPACK",))


def compiler():
    """The C compiler of this system; the test is skipped where there is none."""
    found = shutil.which("gcc") or shutil.which("cc")
    if not found:
        pytest.skip("there is no C compiler (gcc or cc)")
    return found


def build(header: Path, main: str = INFER, flags=("-O2",), compile_only=False) -> Path:
    """Compile a program, `main` after the header with its implementation, without a warning."""
    folder = header.parent / f"build{len(list(header.parent.glob('build*')))}"
    folder.mkdir()
    source, program = folder / "main.c", folder / "main"
    source.write_text(f'#include <stdio.h>\n#define NETWORK_IMPLEMENTATION\n#include "{header}"\n{main}')
    how = ["-c"] if compile_only else []
    command = [compiler(), *STRICT, *flags, *how, str(source), "-o", str(program)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return program


def run(program: Path, raw: bytes) -> bytes:
    """What a program writes for `raw`; it must end well."""
    ran = subprocess.run([program], input=raw, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout


def sums_of(program: Path, x: np.ndarray) -> np.ndarray:
    """The int32 sums (n, outputs) of a program for uint8 inputs (n, …)."""
    return np.frombuffer(run(program, x.tobytes()), np.int32).reshape(len(x), -1)


@torch.no_grad()
def reference(model, x):
    """(uint8 inputs, int32 sums) of labkit's integer network for float inputs x (n, …), as arrays."""
    network = integer_only(model)
    q = to_integers(x, network.grid)
    sums = []
    for part in q.split(500):
        for layer in network.layers:
            part = layer(part)
        sums.append(part.flatten(1))
    return q.numpy(), torch.cat(sums).numpy()


def sum_in_doubles(monkeypatch):
    """Make the integer network sum in doubles: exact, since all sums are below 2^53, and many times as fast.

    It also convolves with a dilation, which torch does not do with integers.
    """

    def sums(layer, x):
        x, weight = layer.before(x).double() - layer.zero_in, layer.weight.double()
        products = x @ weight.T if layer.convolution is None else _convolved(x, weight, **layer.convolution)
        return products.to(torch.int32) + layer.by_channel(layer.bias)

    monkeypatch.setattr(IntegerLayer, "sums", sums)


def _convolved(x, weight, *, groups, **how):
    if groups > 1 or how["padding"] == "same":
        return F.conv2d(x, weight, groups=groups, **how)
    shape = F.conv2d(x[:1].to("meta"), weight.to("meta"), **how).shape[1:]
    columns = F.unfold(x, weight.shape[2:], **how)  # one matrix product is 10 times as fast as conv2d in doubles
    return (weight.flatten(1) @ columns).reshape(-1, *shape)


def has_sanitizers(folder: Path) -> bool:
    """Can this compiler link a program with them?"""
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    command = [compiler(), *SANITIZED, str(folder / "empty.c"), "-o", str(folder / "empty")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def section_sizes(program: Path) -> dict[str, int]:
    """Bytes of each section of an object file."""
    ran = subprocess.run(["size", "-A", program], capture_output=True, text=True, check=True)
    return {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)", ran.stdout, re.MULTILINE)}
