"""Ctrl-C: `fit` hands back what it has, a command ends with one sentence and the exit code of an interrupt."""

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from labkit import sweep
from labkit.compress.distill import Hint, distill, teacher_outputs
from labkit.data import Data
from labkit.losses import cross_entropy
from labkit.train import Interrupted, fit

ROOT = Path(__file__).resolve().parent.parent
STEPS = 10  # of an epoch of the digits' 1,197 training images


def stopping(after: int):
    """A loss during whose call number `after` + 1 somebody presses Ctrl-C."""
    calls = []

    def loss(model, x, y):
        value = cross_entropy(model, x, y)
        calls.append(value)
        if len(calls) > after:
            raise KeyboardInterrupt
        return value

    return loss


def run(model: nn.Module, digits: Data, **settings):
    return fit(model, digits.train, lr=1e-2, progress=False, **settings)


def test_an_interrupted_training_hands_back_the_network_and_the_history(mlp: nn.Module, digits: Data):
    with pytest.raises(Interrupted) as caught:
        run(mlp, digits, epochs=3, loss=stopping(2 * STEPS), validation=digits.validation)
    stop = caught.value
    two, history = run(mlp, digits, epochs=3, cancel=iter([*[False] * 2 * STEPS, True]).__next__)
    assert all(value.equal(stop.model.state_dict()[name]) for name, value in two.state_dict().items())
    assert stop.history["train_loss"].equals(history["train_loss"])
    assert (len(stop.history), stop.history.attrs["cancelled"]) == (2, True)
    assert not stop.model.training
    assert not stop.model._forward_hooks
    assert str(stop) == (
        "training was stopped after 2 whole epochs; this exception holds the network and the history so far as .model "
        "and .history: in a notebook, import sys, and they are sys.last_value.model and .history"
    )


@pytest.mark.parametrize("hinted", [False, True], ids=["without a hint", "with a hint"])
def test_an_interrupted_distillation_hands_back_the_student(mlp: nn.Module, trained: nn.Module, digits: Data, hinted):
    hint = Hint(teacher_outputs(trained, digits.train.x, layer="2"), "1", 0.1) if hinted else None
    how = dict(teacher=trained, hint=hint, epochs=3, lr=1e-2, progress=False)

    def interrupt(model, step):
        if step.number > 2 * STEPS:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        distill(mlp, digits.train, after_step=interrupt, **how)
    student = caught.value.model
    cancelled, _ = distill(mlp, digits.train, cancel=iter([*[False] * (2 * STEPS + 1), True]).__next__, **how)
    assert type(student) is type(mlp)
    assert student.state_dict().keys() == mlp.state_dict().keys()
    assert all(value.equal(student.state_dict()[name]) for name, value in cancelled.state_dict().items())
    assert not student.training
    assert len(caught.value.history) == 2


def test_it_is_a_keyboard_interrupt_that_survives_pickling(mlp: nn.Module, digits: Data):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(mlp, digits, epochs=1, loss=stopping(3))
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - joblib's workers do so
    assert (str(again), len(again.history)) == (str(caught.value), 0)
    assert again.model.state_dict().keys() == mlp.state_dict().keys()


def test_a_sweep_stops_for_an_interrupted_training(mlp: nn.Module, digits: Data, tmp_path: Path):
    def function(seed):
        _, history = run(mlp, digits, epochs=1, loss=stopping(STEPS if seed == 0 else 3))
        return {"loss": history["train_loss"].iloc[-1]}

    with pytest.raises(KeyboardInterrupt, match="1 of 3 rows are done"):
        sweep.run(function, {}, [0, 1, 2], tmp_path / "table.csv")


# real signals

TRAINING = """
from labkit.data import load_data
from labkit.train import Interrupted, fit
from torch import nn

net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
try:
    fit(net, load_data("digits").train, epochs=10_000, lr=1e-2, after_step=lambda *_: print("started", flush=True))
except Interrupted as stop:
    print(type(stop.model).__name__, len(stop.history) < 10_000)
"""
ZOO = """
from labkit import models, zoo
from labkit.models import LeNet300100
from labkit.zoo.__main__ import main

models.ARCHITECTURES["tiny"] = lambda: LeNet300100(inputs=64)
settings = dict(epochs=10_000, lr=2e-3, seed=0, after_step=lambda *_: print("started", flush=True))
zoo.RECIPES["tiny", "digits"] = zoo.Recipe(settings)
raise SystemExit(main(["train", "tiny", "digits"]))
"""
SWEEP = """
import time
from labkit import sweep
from labkit.topics import __main__ as command
from labkit.topics.start_here import experiment

def function(seed):
    print("started", flush=True)
    time.sleep(60 * seed)
    return {"result": seed}

experiment.frontier_sweep = lambda *_: sweep.run(function, {}, [0, 1])
raise SystemExit(command.main())
"""


def interrupted(program: str) -> subprocess.CompletedProcess:
    """Run a program and press Ctrl-C once it says that it has started."""
    ran = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert ran.stdout.readline() == "started\n"
        ran.send_signal(signal.SIGINT)
        out, err = ran.communicate(timeout=240)
    finally:
        ran.kill()
    return subprocess.CompletedProcess(ran.args, ran.returncode, out, err)


@pytest.mark.slow
def test_a_signal_in_a_training():
    ran = interrupted(TRAINING)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "Sequential True"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "said"),
    [
        (ZOO, "stopped; nothing was written, and the same command trains from the beginning"),
        (SWEEP, "stopped; every row that was done is kept: python -m labkit.topics goes on from there"),
    ],
    ids=["zoo", "sweep"],
)
def test_a_signal_in_a_command_ends_it_with_one_sentence(program, said, small_data):
    ran = interrupted(program)
    assert ran.returncode == 130, ran.stderr
    assert ran.stderr.splitlines()[-1] == said
    assert "Traceback" not in ran.stderr
    assert not list((small_data / "checkpoints").glob("*"))
