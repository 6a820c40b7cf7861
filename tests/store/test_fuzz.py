"""The fuzzer: thousands of changed files do no harm, and each kind of fault is found, kept and can be repeated."""

import time
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from labkit.store import decode
from tests import changes, fuzz


@pytest.fixture(scope="module")
def seeds() -> list[fuzz.Seed]:
    return fuzz.seeds()


@pytest.mark.slow
def test_thousands_of_changed_files_do_no_harm(tmp_path: Path) -> None:
    counts = fuzz.run(0, 1, 3_000, 10, tmp_path)
    assert counts.fault == ""
    assert counts.files == counts.refused + counts.accepted == 3_000
    assert counts.accepted > 300  # a fuzzer whose files are all refused at once tests nothing more


def test_every_seed_is_put_together_as_it_was_and_accepted(seeds: list[fuzz.Seed]) -> None:
    for seed in seeds:
        assert changes.put_together(seed.records) == seed.raw
        assert fuzz.check(seed, seed.raw, decode)


def test_a_number_always_makes_the_same_file(seeds: list[fuzz.Seed]) -> None:
    for number in range(200):
        assert fuzz.changed(seeds, number)[1] == fuzz.changed(seeds, number)[1]
    assert len({fuzz.changed(seeds, number)[1] for number in range(200)}) > 190


def raises(raw: bytes, into: nn.Module) -> nn.Module:
    raise KeyError("a fault")


def says_too_much(raw: bytes, into: nn.Module) -> nn.Module:
    raise ValueError("x" * 1000)


def says_it_in_colour(raw: bytes, into: nn.Module) -> nn.Module:
    raise ValueError("\x1b[31mred")


def claims(raw: bytes, into: nn.Module) -> nn.Module:
    return np.zeros(100 * fuzz.MEGABYTE, np.uint8) is not None and decode(raw, into)


def changes_a_weight(raw: bytes, into: nn.Module) -> nn.Module:
    model = decode(raw, into)
    next(iter(model.buffers() if list(model.buffers()) else model.parameters())).data.view(-1)[:1] += 1
    return model


def dawdles(raw: bytes, into: nn.Module) -> nn.Module:
    ends = time.process_time() + 0.2
    while time.process_time() < ends:
        pass
    return decode(raw, into)


FAULTS = {
    raises: "KeyError", says_too_much: "the message has 1000 letters", says_it_in_colour: "a terminal obeys",
    claims: "the file claimed", changes_a_weight: "Error", dawdles: "allowed: 0.1",
}  # fmt: skip


@pytest.mark.parametrize("load", FAULTS)
def test_a_fault_is_found_and_kept(
    load: fuzz.Load, seeds: list[fuzz.Seed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "seeds", lambda: seeds)
    monkeypatch.setattr(fuzz, "SECONDS", 0.1 if load is dawdles else fuzz.SECONDS)
    counts = fuzz.run(7, 1, 200, 10, tmp_path, load)
    assert FAULTS[load] in counts.fault
    (kept,) = tmp_path.iterdir()
    number = int(kept.stem.removeprefix("fuzz-"))
    assert f"{kept}; repeat: python -m tests.fuzz --seed {number} --files 1" in counts.fault
    assert kept.read_bytes() == fuzz.changed(seeds, number)[1]


def test_the_program_counts_what_its_processes_did(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert fuzz.main(["--files", "1", "--keep", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("1 files: ")
    several = fuzz.Counts(3, 2, 1, 0.5, 7) + fuzz.Counts(2, 2, 0, 0.1, 9, "fault")
    assert several == fuzz.Counts(5, 4, 1, 0.5, 9, "fault")
