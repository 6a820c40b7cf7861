"""What every room does with the module that a user brings: copy it, run it in evaluation mode, read its logits."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

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


def clone(model: nn.Module) -> nn.Module:
    """A deep copy, also of a module that keeps results of its forward pass; ValueError says why another has none.

    copy.deepcopy refuses a tensor that autograd computed (a kept attention map, the weight of old-style weight_norm,
    the cached weights of an LSTM); here the copy holds its values, detached.
    """
    memo = {id(t): t.detach().clone() for part in model.modules() for t in _tensors(vars(part)) if not t.is_leaf}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever an attribute of the user's module raises
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


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """What `model` returns for x, as one tensor: itself, or the entry "logits" of a dict or an output object.

    TypeError names the model and what it returned instead.
    """
    output = model(x)
    if isinstance(output, Mapping):
        output = output.get("logits", output)
    elif not isinstance(output, Tensor):
        output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"model {type(model).__name__} returns a {type(output).__name__}; allowed: a tensor of logits, or a dict "
            "or an object that names one logits"
        )
    return output


def lay_out(model: nn.Module, x: Tensor) -> torch.memory_format:
    """Give the weights of `model`, in place, the memory format in which it runs fastest on x; return that format.

    Convolutions on a CPU run about three times faster on channels-last memory. A network whose forward uses `view` on
    what a convolution returns does not run on it, and stays contiguous: two images of x are tried.
    """
    if x.ndim == 4 and not any(p.ndim == 5 for p in model.parameters()):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            with evaluating(model), torch.no_grad():
                model(x[:2].contiguous(memory_format=torch.channels_last))
            return torch.channels_last
        except RuntimeError:  # torch: "view size is not compatible with input tensor's size and stride"
            pass
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return torch.contiguous_format
