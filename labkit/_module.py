"""What all parts of labkit do with a user's module: copy it, run it in evaluation mode, read its logits."""

import copy
import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.hooks import RemovableHandle

from labkit import _check

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, an averaged model or what torch.compile returned; any other model itself."""
    while True:
        if isinstance(model, WRAPPERS):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def clone(model: nn.Module, instead: Mapping[int, Tensor] | None = None) -> nn.Module:
    """A deep copy, also of a module that keeps results of its forward pass; ValueError with the reason if it fails.

    copy.deepcopy refuses a tensor that autograd computed (a kept attention map, the weight of old-style weight_norm,
    the cached weights of an LSTM); here the copy holds its values, detached. `instead` maps the id of a tensor to what
    the copy has in its place.
    """
    parts = [vars(part) for part in model.modules()]
    memo: dict[int, Any] = {id(t): t.detach().clone() for part in parts for t in _tensors(part) if not t.is_leaf}
    # most of the time would go into a module's dozen of empty dictionaries of hooks
    memo |= {id(v): type(v)() for part in parts for v in part.values() if type(v) in (dict, OrderedDict) and not v}
    memo |= instead or {}
    try:
        copied = copy.deepcopy(model, memo)
        if [type(part) for part in copied.modules()] != [type(part) for part in model.modules()]:
            # the __getattr__ of a wrapper passed on __deepcopy__, which torch gives to a parametrized module
            raise TypeError("the copy has other modules, for one of them answers for another by its __getattr__")
        return copied
    except Exception as error:  # an attribute of the user's module may raise anything
        raise ValueError(f"model {type(model).__name__} cannot be copied: {error}") from error


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(inner)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode inside the block; restores the mode of each submodule on exit."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for part, training in modes:
            part.training = training


def logits_of(model: nn.Module, x: Tensor, label: int = 0) -> Tensor:
    """The logits (n, classes) that `model` returns for x (n, …), checked as `as_logits` does.

    A model that cannot run on x is refused: TypeError if its forward takes more than x, ValueError if x is on another
    device, or of another dtype or shape than the model takes.
    """
    _check.kind(nn.Module, model=model)
    _check.kind(Tensor, x=x)
    try:
        with running(model, "x", x):
            output = model(x)
    except TypeError as error:
        try:
            inspect.signature(model.forward).bind(x)
        except TypeError as unbound:
            raise TypeError(f"model {type(model).__name__} does not run on x alone: {unbound}") from error
        raise
    return as_logits(model, output, len(x), label)


@contextmanager
def running(model: nn.Module, name: str, x: Tensor) -> Iterator[None]:
    """Around a run of `model` on x, the argument `name`: torch's error for an unsuitable x becomes a ValueError."""
    try:
        yield
    except (RuntimeError, IndexError) as error:
        said, torchs = f"{name} has the shape {tuple(x.shape)} and the dtype {x.dtype}", f"{error}".partition("\n")[0]
        said = _misfit(model, name, x) or f"{said}; model {type(model).__name__} does not run on that: {torchs}"
        raise ValueError(said) from error


def _misfit(model: nn.Module, name: str, x: Tensor) -> str:
    """How x differs from the weights of a model that failed on it; "" if it does not differ."""
    looked_up = not x.is_floating_point() and any(isinstance(part, nn.Embedding) for part in model.modules())
    weights = list(model.parameters())
    floats = [weight for weight in weights if weight.is_floating_point() or weight.is_complex()]  # not stored integers
    for what, those in (("device", weights), ("dtype", [] if looked_up else floats)):
        known = {str(getattr(weight, what)) for weight in those}
        if known and str(getattr(x, what)) not in known:
            allowed = ", ".join(sorted(known))
            return f"{name} has the {what} {getattr(x, what)}; allowed: {allowed}, as the weights of model"
    return ""


def as_logits(model: nn.Module, output: Any, images: int, label: int = 0) -> Tensor:
    """The logits (images, classes) in what `model` returned: itself, or what a dict or an object names "logits".

    TypeError for another output. ValueError for another shape, fewer than two classes (a regression has no accuracy)
    and a `label`, the highest in y, that is no class.
    """
    if isinstance(output, Mapping):
        output = output.get("logits", output)
    elif not isinstance(output, Tensor):
        output = getattr(output, "logits", output)
    name = type(model).__name__
    if not isinstance(output, Tensor):
        returned = f"model {name} returns a {type(output).__name__}"
        raise TypeError(f"{returned}; allowed: a tensor of logits, or a dict or an object that names one logits")
    if output.ndim != 2 or len(output) != images or output.shape[1] < 2:
        returned = f"model {name} returns the shape {tuple(output.shape)}"
        raise ValueError(f"{returned}; allowed: logits ({images}, classes) of two classes or more")
    if label >= output.shape[1]:
        allowed = f"allowed: 0 to {output.shape[1] - 1}, the classes of model {name}"
        raise ValueError(f"y holds the label {label}; {allowed}")
    return output


def fastest_layout(model: nn.Module, x: Tensor) -> torch.memory_format:
    """The memory format in which `model` runs fastest on x: channels-last if the model accepts it, else contiguous.

    Convolutions on a CPU run up to three times faster on channels-last memory. A network whose forward uses `view` on
    what a convolution returns, or that holds 3-D convolutions, does not accept it. To find out, a copy runs on two
    images of x, so no buffer and no random generator changes.
    """
    if not isinstance(x, Tensor) or x.ndim != 4:
        return torch.contiguous_format
    try:
        copied = clone(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part in copied.modules():  # hooks on a layer must not see these two images
            part._forward_pre_hooks.clear()
            part._forward_hooks.clear()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            copied(x[:2].clone(memory_format=torch.channels_last))
    except Exception:  # "view size is not compatible", or what the model itself is about to raise
        return torch.contiguous_format
    return torch.channels_last


def lay_out(model: nn.Module, x: Tensor) -> torch.memory_format:
    """Give the weights of `model`, in place, the `fastest_layout` for x; return that."""
    layout = fastest_layout(model, x)
    model.to(memory_format=layout)  # type: ignore[call-overload]
    return layout


def lay_out_at_first_call(model: nn.Module) -> RemovableHandle:
    """`lay_out` the model, in place, for the input of its first call; removing the handle cancels that."""

    def first(model: nn.Module, inputs: tuple[Any, ...]) -> None:
        handle.remove()
        lay_out(model, *inputs[:1])

    handle = model.register_forward_pre_hook(first)
    return handle
