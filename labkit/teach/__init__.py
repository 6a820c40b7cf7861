"""Checks for the exercises: each takes what a student made, compares it with a slow specification, answers in words.

A check never raises for a wrong answer: it returns a `Verdict` that says what was expected, so that a notebook with
unsolved exercises still runs from top to bottom. A grader reads `verdict.passed`.
"""

from labkit.teach._verdict import Verdict
from labkit.teach.architectures import check_frailest, check_range_spread, check_separable_macs
from labkit.teach.article import (
    broken_gradients,
    check_central_difference,
    check_faulty_lines,
    check_masked_step,
    check_output_slope,
)
from labkit.teach.deep_compression import check_bits_a_weight, check_mask_bytes
from labkit.teach.distillation import check_distillation_loss, check_offset, check_soften
from labkit.teach.learning_rate import check_scheduler_steps, check_stable_lr, check_warmup_cosine
from labkit.teach.optimizers import check_adam_step, check_momentum_limit, check_valley
from labkit.teach.order import check_interaction, check_tied
from labkit.teach.pruning import check_cubic_sparsity, check_mask, check_sensitivity
from labkit.teach.quantization import check_fake_quantize, check_scale, check_weakest_layer
from labkit.teach.regularization import check_shrinkage, check_soft_threshold, check_stopping_epochs
from labkit.teach.search import check_folds, check_log_uniform, check_optimism
from labkit.teach.sharing import (
    check_centroid_gradient,
    check_lloyd_round,
    check_stochastic_rounding,
    check_straight_through,
)
from labkit.teach.start import check_budget, check_paper_bytes
from labkit.teach.structured import check_macs_left, check_removal, check_unit_importance

__all__ = [
    "Verdict",
    "broken_gradients",
    "check_adam_step",
    "check_bits_a_weight",
    "check_budget",
    "check_central_difference",
    "check_centroid_gradient",
    "check_cubic_sparsity",
    "check_distillation_loss",
    "check_fake_quantize",
    "check_faulty_lines",
    "check_folds",
    "check_frailest",
    "check_interaction",
    "check_lloyd_round",
    "check_log_uniform",
    "check_macs_left",
    "check_mask",
    "check_mask_bytes",
    "check_masked_step",
    "check_momentum_limit",
    "check_offset",
    "check_optimism",
    "check_output_slope",
    "check_paper_bytes",
    "check_range_spread",
    "check_removal",
    "check_scale",
    "check_scheduler_steps",
    "check_sensitivity",
    "check_separable_macs",
    "check_shrinkage",
    "check_soft_threshold",
    "check_soften",
    "check_stable_lr",
    "check_stochastic_rounding",
    "check_straight_through",
    "check_stopping_epochs",
    "check_tied",
    "check_unit_importance",
    "check_valley",
    "check_warmup_cosine",
    "check_weakest_layer",
]
