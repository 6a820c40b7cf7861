"""What machine a figure was measured on."""

import os
import platform
from pathlib import Path

import torch


def machine() -> str:
    """Processor, cores, threads and torch version."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{models[0] if models else platform.processor()}, {cores}, torch {torch.__version__}"
