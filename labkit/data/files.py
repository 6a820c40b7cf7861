"""The files in data/, each checked against the SHA-256 that data/manifest.json lists for it."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit import _check
from labkit._files import locked, replace

MANIFEST = "manifest.json"


def data_dir() -> Path:
    """The folder of data sets and checkpoints: `LABKIT_DATA`, or `data/` of this checkout.

    FileNotFoundError says what to do if there is none: an installed wheel holds only the code.
    """
    chosen = os.environ.get("LABKIT_DATA")
    folder = Path(chosen or Path(__file__).resolve().parents[2] / "data")
    if (folder / MANIFEST).exists():
        return folder
    if chosen:
        raise FileNotFoundError(f"LABKIT_DATA is {chosen!r}, which holds no {MANIFEST}; allowed: data/ of a clone")
    if folder.exists():
        raise FileNotFoundError(f"data/{MANIFEST} is missing; {_remedy(MANIFEST)}")
    raise FileNotFoundError(
        "this labkit was installed without its data; clone the repository and install that, or set LABKIT_DATA to the "
        "data/ folder of a clone"
    )


def manifest() -> dict[str, dict[str, Any]]:
    """Every shipped file: path -> {sha256, bytes}, as `data/manifest.json` lists it; ValueError if it is damaged."""
    raw = (data_dir() / MANIFEST).read_bytes()
    try:
        listed = json.loads(raw)
        if not listed or not all(isinstance(line["sha256"], str) and line["bytes"] >= 0 for line in listed.values()):
            raise ValueError("it is not an object of path: {sha256, bytes}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"data/{MANIFEST} cannot be read ({error}); {_remedy(MANIFEST)}") from error
    return listed


def partial(path: str) -> Path:
    """Where a new `data/<path>` is written until it is published; the work of a killed process is found there."""
    _check.kind(str, path=path)
    return data_dir() / f"{path}.partial"


def publish(*paths: str) -> None:
    """Move each `partial(path)` to `data/<path>` and list it in the manifest, all together.

    The manifest is first: if a kill leaves files that it lists still partial, `verified` moves them.
    """
    with locked(data_dir() / MANIFEST):
        made = {path: _line(partial(path).read_bytes()) for path in paths}
        listed = dict(sorted((manifest() | made).items()))
        replace(data_dir() / MANIFEST, [(json.dumps(listed, indent=1) + "\n").encode()])
        for path in made:
            os.replace(partial(path), data_dir() / path)


@contextlib.contextmanager
def working_on(path: str) -> Iterator[Path]:
    """`partial(path)`, a copy of `data/<path>` unless an interrupted run left one; published at the end.

    A second process waits for the first. ValueError if an interrupted run began before `data/<path>` changed: its
    work would undo the change.
    """
    file, work = data_dir() / path, partial(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file):
        if work.exists() and file.exists() and file.stat().st_mtime > work.stat().st_mtime:
            raise ValueError(f"data/{path} is newer than {work}, which an interrupted run left; move that file away")
        if not work.exists() and file.exists():
            replace(work, [verified(path)])
        yield work
        if work.exists():  # else there was nothing to do
            publish(path)


def _line(raw: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}


def verified(path: str) -> bytes:
    """The bytes of `data/<path>`, after a check of their SHA-256 against the manifest.

    Raises FileNotFoundError for a missing file (with the command that restores it), ValueError for a damaged one.
    """
    _check.kind(str, path=path)
    file, listed = data_dir() / path, manifest()
    if path not in listed:
        raise ValueError(f"data/{path} is not listed in data/manifest.json; allowed: the files listed there")
    raw = _listed(path)
    if raw is None:
        with contextlib.suppress(OSError):  # in a read-only folder, where nothing is published either
            raw = _settled(path)
    if raw is None and not file.exists():
        raise FileNotFoundError(f"data/{path} is missing; {_remedy(path)}")
    if raw is None:
        keep = "if you changed it yourself, keep a copy; "
        raise ValueError(f"data/{path} is damaged: its SHA-256 is not the manifest's; {keep}{_remedy(path)}")
    return raw


def _settled(path: str) -> bytes | None:
    """The file after its publication has ended; if the publishing process was killed, this completes it."""
    with locked(data_dir() / MANIFEST):
        if partial(path).exists() and _is_listed(path, partial(path).read_bytes()):
            os.replace(partial(path), data_dir() / path)
        return _listed(path)


def _listed(path: str) -> bytes | None:
    """The file, if it is the one that the manifest lists."""
    try:
        raw = (data_dir() / path).read_bytes()
    except FileNotFoundError:
        return None
    return raw if _is_listed(path, raw) else None


def _is_listed(path: str, raw: bytes) -> bool:
    return hashlib.sha256(raw).hexdigest() == manifest()[path]["sha256"]


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
