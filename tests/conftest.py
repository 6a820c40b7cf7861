"""What several tests need: the digits data, a small trained network, a copy of the small data, exact error messages."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from torch import nn

from labkit import data
from labkit.data import Data, load_data
from labkit.train import fit

torch.set_num_threads(1)  # fastest for networks this small, and the same sums on every machine

# `make test` tries the same examples everywhere, and a slow machine fails none of them. New examples are looked for by
# `python -m pytest -m hypothesis --hypothesis-profile=search`
slow = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=slow)
hypothesis.settings.register_profile(
    "search", deadline=None, max_examples=2_000, suppress_health_check=slow, print_blob=True
)
hypothesis.settings.load_profile("same")


def pytest_sessionstart() -> None:
    """Hear Ctrl-C, also where a shell began us in the background: what is ignored, every child would ignore too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def perceptron(seed: int = 0) -> nn.Module:
    """A 64-32-10 network for the 8×8 digits; weights "1.weight" (32, 64) and "3.weight" (10, 32)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.fixture
def mlp() -> nn.Module:
    """An untrained perceptron: its weights are distinct, so that ranks have no ties."""
    return perceptron()


@pytest.fixture(scope="session")
def digits() -> Data:
    """1,197 train, 300 validation and 300 test images: trains in a second."""
    return load_data("digits")


@pytest.fixture(scope="session")
def trained(digits: Data) -> nn.Module:
    """A perceptron that knows the digits. Tests must not change it."""
    return fit(perceptron(), digits.train, epochs=10, lr=1e-2, progress=False)[0]


@pytest.fixture
def small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate data folder that holds only the digits; `load_data` forgets it after the test."""
    listed = {k: v for k, v in data.manifest().items() if k.startswith("digits/")}
    shutil.copytree(data.data_dir() / "digits", tmp_path / "digits")
    (tmp_path / "manifest.json").write_text(json.dumps(listed))
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    load_data.cache_clear()
    yield tmp_path
    load_data.cache_clear()


@pytest.fixture
def refuses() -> Callable:
    """refuses(error, message, call, *args, **kwargs): the call raises exactly this error with exactly this message."""

    def check(error: type[Exception], message: str, call: Callable, *args: object, **kwargs: object) -> None:
        with pytest.raises(error) as caught:
            call(*args, **kwargs)
        assert str(caught.value) == message

    return check
