"""A check never raises: whatever a student hands in, the answer is a verdict in one line of words."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from labkit import teach
from labkit.data import Data
from labkit.teach import Verdict

CHECKS = [name for name in dir(teach) if name.startswith("check_")]


class Awkward:
    """Raises at whatever is asked of it."""

    def __repr__(self):
        raise RuntimeError("no text")

    __str__ = __repr__

    def fails(self, *_):
        raise RuntimeError("no answer")

    __eq__ = __bool__ = __float__ = __len__ = __iter__ = __getattr__ = __getitem__ = __call__ = fails
    __hash__ = None


class AwkwardError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def raises(*_):
    raise AwkwardError


ANSWERS = {
    "nothing": None,
    "a number": 1.5,
    "true": True,
    "NaN": math.nan,
    "infinity": math.inf,
    "beyond a float": 10**400,
    "beyond what Python prints": 10**5_000,
    "complex": 1j,
    "a text": "fc1",
    "a long text": "x" * 2_000,
    "a number in a text": "2.0",
    "bytes": b"1",
    "a list": [1, 2],
    "a list of lists": [[1, 2], [3]],
    "no list": [],
    "a tuple": (None, None),
    "three of nothing": (None, None, None),
    "a rule of three": ("SGD", "x", 10**400),
    "lists of odd things": [None, "x", math.nan],
    "odd things for three": (Awkward(), Awkward(), Awkward()),
    "a set": {1},
    "a dict": {"A": "db2"},
    "a dict of odd things": {"A": np.ones(3), "B": Awkward(), "C": 10**5_000},
    "an array": np.ones((2, 3)),
    "an array of objects": np.array([None, "x"], dtype=object),
    "an empty array": np.array([]),
    "a table": pd.DataFrame({"A": [1, 2]}),
    "a column": pd.Series([1.0, 2.0]),
    "a tensor": torch.ones(2, 3),
    "a tensor of NaN": torch.full((4,), math.nan),
    "a tensor of truth values": torch.ones(4, dtype=torch.bool),
    "a complex tensor": torch.ones(4, dtype=torch.complex64),
    "a tensor without values": torch.ones(4, device="meta"),
    "an empty tensor": torch.ones(0),
    "a network": nn.Linear(2, 2),
    "a type": int,
    "awkward": Awkward(),
}
FUNCTIONS = {f"gives {name}": lambda *_, given=given: given for name, given in ANSWERS.items()}
ODD = ANSWERS | FUNCTIONS | {"raises an awkward error": raises, "gives what it got": lambda *given: given}


@pytest.fixture
def handed(trained: nn.Module, digits: Data):
    """handed(check, answer): the verdict on this answer; the checks that need a network get a small one."""
    before = {
        "check_sensitivity": (trained, digits.test),
        "check_weakest_layer": (trained, digits.test),
        "check_offset": (torch.eye(4, 3), torch.tensor([0, 1, 2, 2]), 1),
        "check_budget": (trained, digits),
    }
    return lambda name, *answer: getattr(teach, name)(*before.get(name, ()), *answer)


@pytest.mark.filterwarnings("ignore")  # of NumPy, pandas and torch, about what is compared here
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", CHECKS)
def test_a_check_never_raises(handed, name, odd):
    verdict = handed(name, ODD[odd], ODD[odd]) if name == "check_budget" else handed(name, ODD[odd])
    assert type(verdict) is Verdict
    assert not verdict.passed
    assert "\n" not in verdict.message
    assert 0 < len(verdict.message) < 1_000


@pytest.mark.parametrize(
    ("name", "odd", "said"),
    [
        ("check_faulty_lines", "nothing", "should be a dict with a line for A, B and C; yours is a NoneType"),
        ("check_faulty_lines", "a dict of odd things", "yours has [1. 1. 1.], a Awkward that cannot be shown, a int"),
        ("check_paper_bytes", "gives beyond a float", f"should be 1064800.0; yours is 1{'0' * 299}…"),
        ("check_paper_bytes", "gives awkward", "should be 1064800.0; yours is a Awkward that cannot be shown"),
        ("check_weakest_layer", "awkward", "this answer cannot be checked: RuntimeError: no text"),
        ("check_paper_bytes", "raises an awkward error", "raised AwkwardError: a AwkwardError that cannot be shown"),
    ],
)
def test_what_is_said(handed, name, odd, said):
    assert said in handed(name, ODD[odd]).message


def test_a_number_in_a_text_is_not_a_number():
    verdict = teach.check_bits_a_weight(lambda size_bytes, kept: str(8 * size_bytes / kept))
    assert not verdict.passed
    assert verdict.message.endswith("yours is '10.129431626336522'")


def test_ctrl_c_is_not_an_answer():
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach.check_paper_bytes(interrupted)
