"""The files below data/, each held to the SHA-256 that data/manifest.json lists for it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def data_dir() -> Path:
    """The folder of data sets and checkpoints: `LABKIT_DATA`, or `data/` of this checkout."""
    return Path(os.environ.get("LABKIT_DATA") or Path(__file__).resolve().parents[2] / "data")


def manifest() -> dict[str, dict[str, Any]]:
    """Every shipped file: path -> {sha256, bytes}, as `data/manifest.json` lists it."""
    return json.loads((data_dir() / "manifest.json").read_text())


def register(*paths: str) -> None:
    """List each `data/<path>` in the manifest as it is now, after it was made anew."""
    listed = manifest()
    for path in paths:
        raw = (data_dir() / path).read_bytes()
        listed[path] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    replace(data_dir() / "manifest.json", (json.dumps(dict(sorted(listed.items())), indent=1) + "\n").encode())


def replace(path: Path, raw: bytes) -> None:
    """Write a file all at once: a crash leaves the one that was there."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(raw)
    part.replace(path)


def verified(path: str) -> bytes:
    """The bytes of `data/<path>`, after their SHA-256 was found to be the manifest's.

    Raises FileNotFoundError for a missing file (with the command that brings it), ValueError for a damaged one.
    """
    file, listed = data_dir() / path, manifest()
    if path not in listed:
        raise ValueError(f"data/{path} is not listed in data/manifest.json; allowed: the files listed there")
    if not file.exists():
        raise FileNotFoundError(f"data/{path} is missing; {_remedy(path)}")
    raw = file.read_bytes()
    if hashlib.sha256(raw).hexdigest() != listed[path]["sha256"]:
        raise ValueError(f"data/{path} is damaged: its SHA-256 is not the manifest's; {_remedy(path)}")
    return raw


def _remedy(path: str) -> str:
    if path.startswith("cifar10-full/"):
        return "run: python -m labkit.data fetch cifar10"
    return f"run: git checkout -- data/{path}"


def damaged() -> list[str]:
    """One sentence for each shipped file that is missing or damaged (the optional full CIFAR-10 only if present)."""
    problems = []
    for path in manifest():
        if path.startswith("cifar10-full/") and not (data_dir() / "cifar10-full").exists():
            continue
        try:
            verified(path)
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
    return problems
