"""Experiments over grids of settings: `sweep` runs and keeps them; each module beside it holds those of one notebook.

python -m labkit.sweep        make the shipped sweeps anew, in data/sweeps/, or what is missing of them (hours)
"""

from labkit.sweep._run import shipped_sweep, sweep, sweep_path
from labkit.sweep.architectures import (
    CALIBRATED,
    CALIBRATION_GRID,
    CHANGES,
    CHANNELS_GRID,
    NETWORKS,
    SCANNED,
    across,
    calibration_sweep,
    channels_sweep,
    kinds_sweep,
    squeeze,
)
from labkit.sweep.article import CLIPPING_GRID, FAULTS_GRID, clipping_sweep, faults_sweep
from labkit.sweep.distillation import (
    BUDGET,
    DISTILLATION_GRID,
    FEW,
    STUDENT,
    TEMPERATURE_GRID,
    UNSEEN,
    UNSEEN_GRID,
    distillation_sweep,
    student_of,
    temperature_sweep,
    unseen_sweep,
)
from labkit.sweep.few_bits import GRADIENTS_GRID, QAT_GRID, SHARING_GRID, gradients_sweep, qat_sweep, sharing_sweep
from labkit.sweep.learning_rate import (
    LEARNING_RATE_GRID,
    best_rates,
    chosen_rates_sweep,
    learning_rate_sweep,
)
from labkit.sweep.one_shot import FRONTIER_GRID, QUANTIZATION_GRID, compress, frontier_sweep, quantization_sweep
from labkit.sweep.optimizers import DEFAULT_LR, LRS, optimizers_sweep, slice_sweep, tested_optimizers_sweep, tuned
from labkit.sweep.order import ORDER_GRID, ORDERS, POINTS, interactions, order_effects, order_sweep
from labkit.sweep.pruning import FINE_TUNE, PRUNING_GRID, pruning_sweep
from labkit.sweep.regularization import (
    PENALTIES,
    REGULARIZERS,
    chosen_strengths,
    penalty_sweep,
    regularization_sweep,
    regularization_test,
)
from labkit.sweep.search import optimism_sweep, recipes_sweep, search_sweep
from labkit.sweep.structured import CALIBRATION, STRUCTURED_GRID, STRUCTURED_GRIDS, fresh, structured_sweep
from labkit.sweep.students import HINT_WEIGHT_GRID, gains, hint_weight_sweep

__all__ = [
    "shipped_sweep",
    "sweep",
    "sweep_path",
    "CALIBRATED",
    "CALIBRATION_GRID",
    "CHANGES",
    "CHANNELS_GRID",
    "NETWORKS",
    "SCANNED",
    "across",
    "calibration_sweep",
    "channels_sweep",
    "kinds_sweep",
    "squeeze",
    "CLIPPING_GRID",
    "FAULTS_GRID",
    "clipping_sweep",
    "faults_sweep",
    "FRONTIER_GRID",
    "QUANTIZATION_GRID",
    "compress",
    "frontier_sweep",
    "quantization_sweep",
    "DEFAULT_LR",
    "LRS",
    "optimizers_sweep",
    "slice_sweep",
    "tested_optimizers_sweep",
    "tuned",
    "ORDERS",
    "ORDER_GRID",
    "POINTS",
    "interactions",
    "order_effects",
    "order_sweep",
    "FINE_TUNE",
    "PRUNING_GRID",
    "pruning_sweep",
    "BUDGET",
    "DISTILLATION_GRID",
    "FEW",
    "STUDENT",
    "TEMPERATURE_GRID",
    "UNSEEN",
    "UNSEEN_GRID",
    "distillation_sweep",
    "student_of",
    "temperature_sweep",
    "unseen_sweep",
    "GRADIENTS_GRID",
    "QAT_GRID",
    "SHARING_GRID",
    "gradients_sweep",
    "qat_sweep",
    "sharing_sweep",
    "LEARNING_RATE_GRID",
    "best_rates",
    "chosen_rates_sweep",
    "learning_rate_sweep",
    "optimism_sweep",
    "recipes_sweep",
    "search_sweep",
    "PENALTIES",
    "REGULARIZERS",
    "chosen_strengths",
    "penalty_sweep",
    "regularization_sweep",
    "regularization_test",
    "CALIBRATION",
    "STRUCTURED_GRID",
    "STRUCTURED_GRIDS",
    "fresh",
    "structured_sweep",
    "HINT_WEIGHT_GRID",
    "gains",
    "hint_weight_sweep",
]
