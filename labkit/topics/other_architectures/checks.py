"""Checks of notebook 11."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from labkit._verdict import Verdict, compare, in_words, name_of, raised, same, shown

__all__ = ["check_frailest", "check_range_spread", "check_separable_macs"]


@in_words
def check_separable_macs(answer: Callable[[int, int, int, int], int]) -> Verdict:
    """`answer(pixels, channels_in, channels_out, kernel)`: multiply-adds of a depthwise and then a 1×1 convolution.

    The picture keeps its size; `pixels` are height times width, `kernel` is the side of the depthwise filters.
    """

    def specification(pixels: int, channels_in: int, channels_out: int, kernel: int) -> int:
        depthwise = sum(kernel * kernel for _ in range(channels_in))
        pointwise = sum(channels_in for _ in range(channels_out))
        return pixels * (depthwise + pointwise)

    cases = [(64, 40, 40, 3), (1, 8, 16, 1), (256, 24, 40, 5), (1024, 3, 16, 3)]
    return compare(answer, specification, cases, "a full convolution multiplies the two terms; here they are added")


@in_words
def check_range_spread(answer: Callable[[Tensor], float]) -> Verdict:
    """`answer(weight)`: the largest |w| of the widest filter over that of the narrowest; a filter is `weight[i]`."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((6, 1, 3, 3), (5, 4), (4, 3, 1, 1)):
        weight = torch.stack([i * torch.randn(shape[1:], generator=generator) for i in range(1, shape[0] + 1)])
        reaches = [max(abs(v) for v in row.flatten().tolist()) for row in weight]
        expected, call = max(reaches) / min(reaches), f"{name_of(answer)}(a weight of shape {shape})"
        try:
            given = answer(weight.clone())
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything
            return raised(call, error)
        if not same(given, expected):
            return Verdict(False, f"{call} should be {expected:.4g}; yours is {shown(given)}")
    return Verdict(True, "one scale for all filters has to cover the widest one")


SCAN = pd.DataFrame(
    dict(
        part=["stem", "middle", "head", "late"],
        weights=[400, 20_000, 640, 1_000],
        lost=[30, 200, 12, 500],
        won=[10, 50, 2, 495],
    )
)


@in_words
def check_frailest(answer: Callable[[pd.DataFrame], str]) -> Verdict:
    """`answer(table)`: the part of a scan that loses most images per weight, net of those that it wins."""
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 3]):
        table = SCAN.iloc[order].reset_index(drop=True)
        rows = table.to_dict("records")
        expected = max(rows, key=lambda row: (row["lost"] - row["won"]) / row["weights"])["part"]
        call = f"{name_of(answer)}(a scan of {', '.join(table['part'])})"
        try:
            given = answer(table.copy())
        except Exception as error:  # noqa: BLE001
            return raised(call, error)
        if str(given) != expected:
            return Verdict(False, f"{call} should be {expected!r}; yours is {shown(given)}")
    return Verdict(True, "small sensitive layers are cheap to leave uncompressed")
