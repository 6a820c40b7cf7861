"""No routine changes the network it is given, not even one whose weights change when they are read."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import labkit as lk
from labkit.compress.magnitude import masks_of
from labkit.compress.quantize import quantize_inputs
from labkit.data import Data, take
from labkit.measure import size_bytes
from labkit.train import predict

# In training mode a forward pass, and the newer kind at every reading of the weight, improves its two vectors by a step
KINDS = {"older": nn.utils.spectral_norm, "newer": parametrizations.spectral_norm}
BRIEF = dict(epochs=1, lr=1e-3, progress=False)
ROUTINES = {
    "prune": lambda model, split: lk.prune(model, 0.5),
    "prune a layer": lambda model, split: lk.prune(model, {"4": 0.5}),
    "prune_channels": lambda model, split: lk.prune_channels(model, 0.25, example=split.x[:8], scope="layer"),
    "quantize": lambda model, split: lk.quantize(model, 4, granularity="channel"),
    "quantize with inputs": lambda model, split: lk.quantize(model, 4, activation_bits=8, calibration=take(split, 8)),
    "quantize_inputs": lambda model, split: quantize_inputs(model, 8, calibration=take(split, 8)),
    "share": lambda model, split: lk.share_weights(model, 3),
    "prepare_qat, finish_qat": lambda model, split: lk.finish_qat(lk.prepare_qat(model, 4)),
    "compose": lambda model, split: lk.compose(model, split, ["prune"], sparsity=0.5, bits=4, **BRIEF),
    "KeepZeros": lambda model, split: lk.KeepZeros(model),
    "masks_of": lambda model, split: masks_of(model),
    "encode, decode": lambda model, split: lk.decode(lk.encode(model), model),
    "ledger": lambda model, split: lk.ledger(model),
    "size_bytes": lambda model, split: size_bytes(model),
    "measure": lambda model, split: lk.measure(model, split),
    "sensitivity": lambda model, split: lk.sensitivity(model, split, {"4 bits": partial(lk.quantize, bits=4)}),
    "fit": lambda model, split: lk.fit(model, split, **BRIEF),
    "predict": lambda model, split: predict(model, split.x),
}


@pytest.fixture(params=KINDS)
def normed(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    norm = KINDS[request.param]
    return nn.Sequential(
        norm(nn.Conv2d(1, 6, 3)), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(), norm(nn.Linear(64, 16)), nn.ReLU(),
        nn.Linear(16, 10),
    ).train()  # fmt: skip


@pytest.mark.parametrize("routine", ROUTINES)
def test_a_network_with_spectral_norm_in_training_mode_stays_bit_for_bit(normed: nn.Module, digits: Data, routine):
    before = {name: value.clone() for name, value in normed.state_dict().items()}
    ROUTINES[routine](normed, take(digits.train, 256))
    after = normed.state_dict()
    assert list(after) == list(before)
    assert [name for name, value in before.items() if not value.equal(after[name])] == []
    assert all(part.training for part in normed.modules())
