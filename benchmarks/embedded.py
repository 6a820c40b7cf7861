"""The shipped records as C: bytes of weights, of code and of memory, time per image, and accuracy on test.

    python -m benchmarks.embedded            every record of seed 0; needs gcc (or cc) and `size` on the path

The C program gets the test images as uint8; its int32 sums must equal those of `integer_only`, or this stops.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch

from benchmarks.machine import machine
from labkit.compress.grid import to_integers
from labkit.compress.integer import IntegerNetwork, integer_only
from labkit.compress.quantize import quantize_inputs
from labkit.data import Split, data_dir, load_data
from labkit.export.to_c import c
from labkit.models import build
from labkit.store import CODERS, load

RECORDS = "lenet-*--seed0.lk"
STREAMED_IMAGES = 500  # of 10,000, where weights are decoded anew for each image
MODES = {"streamed": (), "unpacked": ("-DNETWORK_UNPACK",)}

INFER = """
int main(void) {
    static uint8_t input[NETWORK_INPUTS];
    static int32_t logits[NETWORK_LOGITS];
    while (fread(input, 1, sizeof input, stdin) == sizeof input) {
        network_infer(input, logits);
        fwrite(logits, 1, sizeof logits, stdout);
    }
    return 0;
}
"""
PEAK = """
static void tell_peak(void) { /* the most memory that the process held; Linux only */
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, "VmHWM:", 6)) fputs(line, stderr);
}
"""
MAIN = INFER.replace("return 0;", "tell_peak();\n    return 0;")
PROGRAM = f'#include <stdio.h>\n#include <string.h>\n{PEAK}#define NETWORK_IMPLEMENTATION\n#include "net.h"\n{MAIN}'


def compiled(folder: Path, *flags: str) -> Path:
    """The program in `folder`, compiled with these flags."""
    compiler = shutil.which("gcc") or shutil.which("cc") or "cc"
    output = folder / "program"
    subprocess.run([compiler, "-std=c99", *flags, folder / "main.c", "-o", output], check=True)
    return output


def code_bytes(folder: Path) -> int:
    """Machine code of the header alone, optimized for size."""
    (folder / "main.c").write_text('#define NETWORK_IMPLEMENTATION\n#include "net.h"\n')
    ran = subprocess.run(["size", "-A", compiled(folder, "-Os", "-c")], capture_output=True, text=True, check=True)
    (folder / "main.c").write_text(PROGRAM)
    return sum(int(size) for size in re.findall(r"^\.text\S*\s+(\d+)", ran.stdout, re.MULTILINE))


def run(program: Path, raw: bytes) -> tuple[float, bytes, int]:
    """Seconds of the processor that a program takes for the images `raw`, what it writes, its peak memory in kB."""
    before = os.times()
    ran = subprocess.run([program], input=raw, capture_output=True, check=True)
    seconds = os.times().children_user - before.children_user
    return seconds, ran.stdout, int(ran.stderr.split()[1]) if ran.stderr else 0


def row(path: Path) -> dict[str, object]:
    """One record: what it takes, and its accuracy on test."""
    data, network = load_data("mnist"), path.stem.split("--")[0]
    calibration = Split(data.train.x[:1_000], data.train.y[:1_000])
    model = quantize_inputs(load(path, into=build(network)), 8, calibration=calibration)
    whole = cast(IntegerNetwork, integer_only(model))
    x = to_integers(data.test.x, whole.grid)
    found: dict[str, object] = dict(record=path.stem, file=path.stat().st_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = c(model, data.test.x[:1], folder / "net.h", coders=CODERS).read_text()
        found |= dict(payload=int(re.findall(r"_PAYLOAD (\d+)", text)[0]), code=code_bytes(folder))
        memory = dict(zip(("unpacked", "streamed"), re.findall(r"_RAM (\d+)", text), strict=False))
        for mode, flags in MODES.items():
            images = x[:STREAMED_IMAGES] if mode == "streamed" else x
            seconds, written, peak = run(compiled(folder, "-O2", *flags), images.numpy().tobytes())
            sums = np.frombuffer(written, np.int32).reshape(len(images), -1)
            check(whole, images, sums)
            found |= {f"RAM, {mode}": int(memory[mode]), f"ms, {mode}": round(1e3 * seconds / len(images), 2)}
            found |= {f"peak kB, {mode}": peak}
    correct = torch.from_numpy(sums.argmax(1)) == data.test.y
    return found | dict(accuracy=round(100 * correct.double().mean().item(), 2))


@torch.no_grad()
def check(whole: IntegerNetwork, images: torch.Tensor, sums: np.ndarray) -> None:
    """Stop if the sums of the C program are not those of labkit."""
    for part, theirs in zip(images.split(500), torch.from_numpy(sums.copy()).split(500), strict=True):
        for layer in whole.layers:
            part = layer(part)
        if not part.equal(theirs):
            raise SystemExit("the C program does not compute what labkit computes")


def main() -> None:
    """Print the table."""
    print(machine())
    table = pd.DataFrame([row(path) for path in sorted((data_dir() / "records").glob(RECORDS))])
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
