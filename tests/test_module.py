"""What every room does with a module from outside: copy it, evaluate it, read its logits, lay out its memory."""

import copy
import threading
from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from labkit._module import as_logits, clone, evaluating, lay_out, lay_out_at_first_call, logits_of, unwrapped
from labkit.compress.quantize import quantize
from labkit.models import build


class Keeps(nn.Module):
    """Keeps what it computed, alone and in nested containers."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        self.last = self.fc(x).softmax(1)
        self.seen = {"maps": [self.last, (self.last + 1,)]}
        return self.last


class Viewed(nn.Module):
    """The best-known tutorial network: `view` on what a convolution returns."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 3), nn.Linear(128, 10)

    def forward(self, x):
        return self.fc(self.conv2(self.conv1(x).relu()).view(-1, 128))


class Noisy(nn.Module):
    """Draws from the global generator and counts its calls in a buffer, in whatever mode."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 10)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.fc(self.norm(self.conv(x)).mean((2, 3)) + torch.rand(4))


def same(one, other):
    states = one.state_dict(), other.state_dict()
    return list(states[0]) == list(states[1]) and all(v.equal(states[1][k]) for k, v in states[0].items())


# unwrapped


@pytest.mark.filterwarnings("ignore:.*script_method.* is deprecated:DeprecationWarning")  # torch.compile's own import
def test_the_network_inside_every_wrapper(mlp):
    for wrapped in (nn.DataParallel(mlp), torch.compile(mlp), torch.compile(nn.DataParallel(mlp))):
        assert unwrapped(wrapped) is mlp
    assert unwrapped(AveragedModel(mlp)) is not mlp  # it averages a copy
    assert same(unwrapped(AveragedModel(mlp)), mlp)
    assert unwrapped(mlp) is mlp


# clone


def test_a_copy_of_a_module_that_keeps_results():
    model, x = Keeps(), torch.rand(5, 4)
    model(x)
    copied = clone(model)
    assert same(copied, model)
    assert copied.last.equal(model.last)
    assert copied.seen["maps"][1][0].equal(model.last + 1)
    assert copied.seen["maps"][0] is copied.last  # shared in the model, so shared in the copy
    copied.last.zero_()
    copied.fc.weight.data.zero_()
    assert model.last.any()
    assert model.fc.weight.any()
    assert model.last.requires_grad  # the model itself goes on as it was


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, nn.utils.spectral_norm, parametrizations.weight_norm, parametrizations.orthogonal]
)
def test_a_copy_of_a_normed_layer_computes_the_same_and_learns_alone(norm):
    model, x = norm(nn.Linear(4, 3)).eval(), torch.rand(5, 4)
    copied = clone(model)
    before = model(x).detach()
    assert copied(x).equal(before)
    copied(x).square().sum().backward()
    with torch.no_grad():
        for p in copied.parameters():
            p -= p.grad
    assert not copied(x).equal(before)
    assert model(x).equal(before)
    assert all(p.grad is None for p in model.parameters())


def test_a_copy_of_an_lstm_with_a_parametrization_uses_its_own_weights():
    class Double(nn.Module):
        def forward(self, w):
            return 2 * w

    model, x = nn.LSTM(3, 4), torch.rand(5, 2, 3)
    nn.utils.parametrize.register_parametrization(model, "weight_ih_l0", Double())
    before = model(x)[0].detach()
    copied = clone(model)
    assert copied(x)[0].equal(before)
    with torch.no_grad():
        copied.parametrizations.weight_ih_l0.original.zero_()
    assert not copied(x)[0].equal(before)
    assert model(x)[0].equal(before)


def test_what_cannot_be_copied_is_named_with_the_reason(refuses, mlp):
    mlp.lock = threading.Lock()
    said = "model Sequential cannot be copied: cannot pickle '_thread.lock' object"
    refuses(ValueError, said, clone, mlp)


# evaluating


def test_evaluating_restores_each_mode_also_after_an_error(mlp):
    mlp.train()
    mlp[3].eval()
    with evaluating(mlp) as inside:
        assert not any(part.training for part in inside.modules())
    assert [part.training for part in mlp.modules()] == [True, True, True, True, False]
    with pytest.raises(KeyError), evaluating(mlp):
        raise KeyError
    assert [part.training for part in mlp.modules()] == [True, True, True, True, False]


# logits

NAMED = "allowed: a tensor of logits, or a dict or an object that names one logits"
SHAPED = "allowed: logits (4, classes) of two classes or more"


@pytest.mark.parametrize("pack", [dict, namedtuple("Output", ["loss", "logits"])], ids=["dict", "object"])
def test_logits_are_taken_where_they_are_named(pack, mlp, digits):
    class Packs(nn.Module):
        def forward(self, x):
            return pack(loss=None, logits=mlp(x))

    x = digits.test.x[:3]
    assert logits_of(Packs(), x).equal(mlp(x))


@pytest.mark.parametrize(
    ("output", "error", "said"),
    [
        ((1, 2), TypeError, f"model Linear returns a tuple; {NAMED}"),
        ({"out": 1}, TypeError, f"model Linear returns a dict; {NAMED}"),
        (torch.zeros(4, 1), ValueError, f"model Linear returns the shape (4, 1); {SHAPED}"),
        (torch.zeros(4), ValueError, f"model Linear returns the shape (4,); {SHAPED}"),
        (torch.zeros(4, 3, 8, 8), ValueError, f"model Linear returns the shape (4, 3, 8, 8); {SHAPED}"),
        (torch.zeros(3, 7), ValueError, f"model Linear returns the shape (3, 7); {SHAPED}"),
        (torch.zeros(4, 7), ValueError, "y holds the label 7; allowed: 0 to 6, the classes of model Linear"),
    ],
)
def test_what_are_no_logits_is_refused(output, error, said, refuses):
    refuses(error, said, as_logits, nn.Linear(1, 1), output, 4, 7)
    assert as_logits(nn.Linear(1, 1), torch.zeros(4, 8), 4, 7).shape == (4, 8)


def test_a_model_that_cannot_run_on_x_says_what_differs(mlp, digits, refuses):
    x, half = digits.test.x, copy.deepcopy(mlp).half()
    allowed = "allowed: torch.float32, as the weights of model"
    refuses(ValueError, f"x has the dtype torch.float64; {allowed}", logits_of, mlp, x.double())
    refuses(ValueError, f"x has the dtype torch.uint8; {allowed}", logits_of, mlp, x.byte())
    small = quantize(mlp, 4)  # holds int8, which no x may be
    refuses(ValueError, f"x has the dtype torch.float64; {allowed}", logits_of, small, x.double())
    refuses(ValueError, f"x has the dtype torch.int8; {allowed}", logits_of, small, x.char())
    said = "x has the dtype torch.float32; allowed: torch.float16, as the weights of model"
    refuses(ValueError, said, logits_of, half, x)
    said = "x has the device cpu; allowed: meta, as the weights of model"
    refuses(ValueError, said, logits_of, copy.deepcopy(mlp).to("meta"), x)
    with pytest.raises(ValueError, match=r"^x has the shape \(300, 1, 3, 8\) .* \(300x24 and 64x32\)$"):
        logits_of(mlp, x[:, :, :3])


def test_a_model_that_takes_more_than_x_is_refused():
    class Own(nn.Module):
        def forward(self, x):
            raise TypeError("its own")

    class Pair(nn.Module):
        def forward(self, a, b):
            return a + b

    with pytest.raises(TypeError, match="^model Pair does not run on x alone: missing a required argument: 'b'$"):
        logits_of(Pair(), torch.zeros(2, 3))
    with pytest.raises(TypeError, match="^its own$"):
        logits_of(Own(), torch.zeros(2, 3))


def test_tokens_go_into_an_embedding_of_any_dtype():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 3))
    assert logits_of(model, torch.zeros(2, 5, dtype=torch.int64)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"^x has the shape \(2, 6\)"):  # not the dtype, which is right: the length
        logits_of(model, torch.zeros(2, 6, dtype=torch.int64))


# the layout of memory


@pytest.mark.parametrize("name", ["lenet-5", "resnet-20", "mobilenet"])
def test_a_network_that_runs_on_channels_last_gets_it(name):
    model = build(name)
    before, x = copy.deepcopy(model), torch.rand(4, model.conv1.in_channels, 28, 28)
    assert lay_out(model, x) == torch.channels_last
    convolutions = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in convolutions)
    assert same(model, before)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Viewed(), (1, 8, 8)),
        (nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(432, 10)), (1, 8, 8, 8)),
        (nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (4, 4, 4)), nn.Conv3d(1, 2, 3), nn.Flatten()), (1, 8, 8)),
        (nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten()), (2, 8)),
    ],
    ids=["view", "3-D", "3-D inside", "1-D"],
)
def test_any_other_stays_contiguous_and_runs(model, shape):
    assert lay_out(model, torch.rand(2, *shape)) == torch.contiguous_format
    assert all(p.is_contiguous() for p in model.parameters())
    model(torch.rand(2, *shape))


def test_the_trial_leaves_no_trace():
    torch.manual_seed(1)
    model, x = Noisy().train(), torch.rand(4, 1, 8, 8)
    before, state, heard = copy.deepcopy(model), torch.get_rng_state(), []
    model.conv.register_forward_hook(lambda *call: heard.append(call))
    assert lay_out(model, x) == torch.channels_last
    assert same(model, before)
    assert model.calls == 0
    assert model.training
    assert torch.get_rng_state().equal(state)
    assert heard == []


def test_the_first_call_decides_and_only_the_first():
    model = build("lenet-5")
    lay_out_at_first_call(model)
    assert model.conv2.weight.is_contiguous()
    model(torch.rand(2, 1, 28, 28))
    assert not model.conv2.weight.is_contiguous()
    assert not model._forward_pre_hooks
