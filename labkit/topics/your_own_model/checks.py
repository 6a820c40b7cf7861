"""Checks of notebook 13b."""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from labkit._verdict import Verdict, in_words, name_of, raised, shown

__all__ = ["check_hottest", "check_within_one"]


@in_words
def check_within_one(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """`answer(outputs, y)`: one score per example, 1 where the output is at most 1 away from y, else 0."""
    generator = torch.Generator().manual_seed(0)
    for n in (1, 7, 40):
        y = torch.randint(0, 9, (n, 1), generator=generator).float()
        outputs = y + torch.tensor([-3, -1.0, -0.4, 0, 0.9, 1.0, 1.1])[torch.randint(7, (n, 1), generator=generator)]
        expected = [
            float(abs(o - t) <= 1) for o, t in zip(outputs.flatten().tolist(), y.flatten().tolist(), strict=True)
        ]
        call = f"{name_of(answer)}(outputs and y of the shape {tuple(y.shape)})"
        try:
            given = answer(outputs.clone(), y.clone())
        except Exception as error:  # noqa: BLE001 - a student's code may raise anything
            return raised(call, error)
        if not isinstance(given, Tensor) or given.numel() != n:
            return Verdict(False, f"{call} should be a tensor of {n} scores; yours is {shown(given)}")
        if given.flatten().double().tolist() != expected:
            return Verdict(False, f"{call} should be {expected[:7]}…; yours is {shown(given.flatten()[:7].tolist())}…")
    return Verdict(True, "the panel shows its mean, the share of predictions within one pixel, with Wilson's interval")


SPOTS = pd.DataFrame(
    dict(
        layer=["stem", "middle", "tail", "head"],
        bytes=[400, 6_000, 9_000, 300],
        damage=[0.50, 0.07, -0.20, 1.10],
    )
)


@in_words
def check_hottest(answer: Callable[[pd.DataFrame], str]) -> Verdict:
    """`answer(table)`: the layer with the most heat, share of all bytes × damage."""

    def specification(rows: list[int]) -> str:
        best, most = "", float("-inf")
        for layer, size, damage in SPOTS.iloc[rows].to_numpy().tolist():
            if size * max(damage, 0) > most:
                best, most = layer, size * max(damage, 0)
        return str(best)

    for rows in ([0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 3], [2, 0]):
        table = SPOTS.iloc[rows].reset_index(drop=True)
        call = f"{name_of(answer)}(a table of {', '.join(table['layer'])})"
        try:
            given = answer(table.copy())
        except Exception as error:  # noqa: BLE001 - as above
            return raised(call, error)
        if str(given) != specification(rows):
            return Verdict(False, f"{call} should be {specification(rows)!r}; yours is {shown(given)}")
    return Verdict(True, "neither the largest layer nor the one with the most damage")
