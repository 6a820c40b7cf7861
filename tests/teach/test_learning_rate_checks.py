"""Checks of notebook 07: the two ways to mend the loop pass, the faulty loop and its cousins fail and are told why."""

import pytest
import torch
import torch.nn.functional as F
from torch.optim import lr_scheduler

from labkit import optim
from labkit.teach import check_scheduler_steps, check_stable_lr, check_warmup_cosine


def loop(where, period=lambda batches: 2, moves=True):
    """A training loop that steps its scheduler after every "batch", after or before every "epoch", or "never"."""

    def my_training(model, batches, epochs):
        stepper = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = lr_scheduler.StepLR(stepper, step_size=period(len(batches)), gamma=0.1)
        rates = []
        for _ in range(epochs):
            if where == "before":
                scheduler.step()
            for x, y in batches:
                rates.append(scheduler.get_last_lr()[0])
                stepper.zero_grad()
                F.cross_entropy(model(x), y).backward()
                if moves:
                    stepper.step()
                if where == "batch":
                    scheduler.step()
            if where == "epoch":
                scheduler.step()
        return rates

    return my_training


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (loop("epoch"), None),
        (loop("batch", period=lambda batches: 2 * batches), None),
        (
            loop("batch"),
            "my_training(model, 5 batches, 6 epochs): batch 3 of epoch 1 should have lr 0.1; yours has 0.01, "
            "and the last batch 1e-15 instead of 0.001",
        ),
        (loop("never"), "batch 1 of epoch 3 should have lr 0.01; yours has 0.1"),
        (loop("before"), "batch 1 of epoch 2 should have lr 0.1; yours has 0.01"),
        (loop("epoch", moves=False), "no weight has moved"),
        (lambda model, batches, epochs: [0.1], "there should be 30 learning rates, one per batch; yours are 1"),
        (lambda model, batches, epochs: None, "raised TypeError"),
    ],
    ids=["per epoch", "longer period", "per batch", "never", "one early", "no step", "too few", "nothing"],
)
def test_scheduler_steps(answer, said):
    verdict = check_scheduler_steps(answer)
    assert verdict.passed == (said is None), verdict
    assert (said or "") in verdict.message


@pytest.mark.parametrize(
    ("answer", "passed"),
    [(lambda c: 2 / max(c), True), (lambda c: 2 / min(c), False), (lambda c: 1 / max(c), False), (max, False)],
)
def test_stable_lr(answer, passed):
    assert check_stable_lr(answer).passed == passed


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        (optim.warmup_cosine, True),
        (lambda p, w: optim.with_warmup(optim.cosine, w)(p), True),
        (lambda p, w: p / w if p < w else optim.cosine(p), False),
        (lambda p, w: optim.cosine(p), False),
        (lambda p, w: p / w if p < w else (1 + (1 - p) / (1 - w)) / 2, False),
    ],
)
def test_warmup_cosine(answer, passed):
    assert check_warmup_cosine(answer).passed == passed


def test_the_largest_stable_rate_is_what_gradient_descent_says():
    for factor, shrinks in ((0.99, True), (1.01, False)):
        w, lr = torch.ones(2), factor * 2 / 4
        for _ in range(100):
            w = w - lr * torch.tensor([0.5, 4.0]) * w
        assert bool(w.abs().max() < 1) == shrinks
