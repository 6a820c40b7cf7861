"""Trainings in a row, counted as one: the steps that hooks get, and the history."""

from collections.abc import Callable, Sequence

import pandas as pd
from torch import nn

from labkit.optim import Hook, Hooks, Step
from labkit.train import Interrupted, hooks_of

Training = Callable[..., tuple[nn.Module, pd.DataFrame]]  # as `fit`


class Phases:
    """A training of `epochs` epochs in several phases: `hooks` get the steps of the whole, `history` is the whole's.

    The history is that of `fit` with the column phase; epoch and step go on from one phase to the next, and
    attrs["cancelled"] is true if a phase was cancelled.
    """

    def __init__(self, hooks: Hooks, epochs: int, steps_per_epoch: int) -> None:
        self.hooks, self.epochs, self.steps_per_epoch = hooks_of(hooks), epochs, steps_per_epoch
        self.history = pd.DataFrame()
        self.history.attrs["cancelled"] = False
        self.epochs_before = 0

    def run(self, phase: str, train: Training, epochs: int, after_step: Sequence[Hook] = ()) -> nn.Module:
        """The network that train(epochs=…, after_step=…) returns; the hooks of `after_step` get the steps of the phase.

        Ctrl-C raises the `Interrupted` of `train` with the history of all phases so far.
        """
        steps_before, total = self.epochs_before * self.steps_per_epoch, self.epochs * self.steps_per_epoch

        def counted(model: nn.Module, step: Step) -> None:
            whole = step.within(total, steps_before, self.epochs_before)
            for hook in self.hooks:
                hook(model, whole)

        try:
            model, history = train(epochs=epochs, after_step=[*after_step, counted])
        except Interrupted as stop:
            stop.history = self._with(phase, stop.history)
            raise
        self.history = self._with(phase, history)
        self.epochs_before += epochs
        return model

    def _with(self, phase: str, history: pd.DataFrame) -> pd.DataFrame:
        """The history so far with that of a further phase."""
        step = history["step"] + self.epochs_before * self.steps_per_epoch
        added = history.assign(epoch=history["epoch"] + self.epochs_before, step=step, phase=phase)
        # an empty table has no types, and would change those of the other
        filled = [table for table in (self.history, added) if len(table)]
        whole = pd.concat(filled, ignore_index=True) if filled else added
        whole.attrs["cancelled"] = self.history.attrs["cancelled"] or history.attrs["cancelled"]
        return whole
