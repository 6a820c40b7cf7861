"""Fixtures of the tests of the live panels: a user's own network, and every panel closed after a test."""

import math

import pytest
import torch
from torch import nn

from labkit.data import Data
from labkit.live import compression, training
from labkit.live.baseline import Baseline, from_user
from labkit.live.panel import Panel
from labkit.topics.knowledge_distillation import students
from labkit.topics.order_matters import panel as order_panel
from labkit.train import fit


@pytest.fixture(autouse=True)
def settled_when_open(monkeypatch):
    """A new panel is settled, however slow the machine is."""
    monkeypatch.setattr("labkit.live.panel.OPENING", math.inf)


@pytest.fixture(autouse=True)
def closed_panels():
    """No panel outlives its test."""
    yield
    for panel in Panel._open.values():
        panel.close_all()
    Panel._open.clear()


@pytest.fixture
def every_step(monkeypatch):
    """A training shows a picture after every step, however long a step takes."""

    def paced(picture, seconds):
        return lambda model, step: picture(model, step.progress) if step.progress < 1 else None

    for module in (training, compression, students, order_panel):
        if hasattr(module, "paced"):
            monkeypatch.setattr(module, "paced", paced)


@pytest.fixture(scope="session")
def conv(digits: Data) -> nn.Module:
    """A user's own convolutional network, trained on the digits. Tests must not change it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 12, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(48, 10),
    )  # fmt: skip
    return fit(model, digits.train, epochs=6, lr=1e-2, progress=False)[0]


@pytest.fixture(scope="session")
def mine(conv: nn.Module, digits: Data) -> Baseline:
    """That network as the baseline of a panel."""
    return from_user(conv, digits)
