"""Make every shipped sweep, or what is missing of it, in data/sweeps/ (hours, most of it for training)."""

import sys

from labkit.sweep.architectures import CALIBRATED, NETWORKS, PARTS, calibration_sweep, channels_sweep, scan_sweep
from labkit.sweep.article import clipping_sweep, faults_sweep
from labkit.sweep.distillation import distillation_sweep, temperature_sweep, unseen_sweep
from labkit.sweep.few_bits import gradients_sweep, qat_sweep, sharing_sweep
from labkit.sweep.learning_rate import chosen_rates_sweep
from labkit.sweep.one_shot import frontier_sweep, quantization_sweep
from labkit.sweep.optimizers import optimizers_sweep, slice_sweep, tested_optimizers_sweep
from labkit.sweep.order import order_sweep, teacher_sweep
from labkit.sweep.pruning import pruning_sweep
from labkit.sweep.regularization import penalty_sweep, regularization_test
from labkit.sweep.search import optimism_sweep, recipes_sweep, right_sweep, search_sweep
from labkit.sweep.structured import STRUCTURED_GRIDS, structured_sweep
from labkit.sweep.students import hint_weight_sweep
from labkit.zoo import RECIPES


def main() -> int:
    """The command line: make every shipped sweep, or what is missing of it; 130 if Ctrl-C stopped it."""
    try:
        make_all()
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; every row that was done is kept: python -m labkit.sweep goes on from there\n")
        return 130
    return 0


def make_all() -> None:
    """Make every shipped sweep, or what is missing of it."""
    for model_name, data_name in RECIPES:
        sys.stderr.write(f"frontier and quantization of {model_name} on {data_name}\n")
        frontier_sweep(model_name, data_name)
        quantization_sweep(model_name, data_name)
    for key in NETWORKS:
        sys.stderr.write(f"scans of {key[0]} on {key[1]}\n")
        channels_sweep(*key)
        for by in PARTS:
            scan_sweep(by, *key)
    for key in CALIBRATED:
        calibration_sweep(*key)
    for data_name in ("mnist", "fashion-mnist"):
        sys.stderr.write(f"pruning of lenet-300-100 on {data_name}\n")
        pruning_sweep("lenet-300-100", data_name)
        sys.stderr.write(f"distillation of lenet-5 on {data_name}\n")
        distillation_sweep("lenet-5", data_name)
    temperature_sweep("lenet-5", "fashion-mnist")
    unseen_sweep("lenet-5", "mnist")
    hint_weight_sweep("lenet-5", "fashion-mnist")
    for model_name in STRUCTURED_GRIDS:
        sys.stderr.write(f"structured pruning of {model_name} on mnist\n")
        structured_sweep(model_name, "mnist")
    sys.stderr.write("codebooks, quantization-aware training and integer gradients of lenet-300-100 on mnist\n")
    for few_bits in (sharing_sweep, qat_sweep, gradients_sweep):
        few_bits("lenet-300-100", "mnist")
    sys.stderr.write("orders of techniques, lenet-300-100 on mnist\n")
    order_sweep("lenet-300-100", "mnist")
    teacher_sweep("lenet-300-100", "mnist")
    sys.stderr.write("optimizers, lenet-300-100 on fashion-mnist\n")
    optimizers_sweep("fashion-mnist")
    tested_optimizers_sweep("fashion-mnist")
    slice_sweep("lenet-300-100", "fashion-mnist")
    sys.stderr.write("faults and pruning of the article's network on mnist\n")
    faults_sweep()
    clipping_sweep()
    sys.stderr.write("schedules and learning rates of lenet-300-100 on fashion-mnist\n")
    chosen_rates_sweep("lenet-300-100", "fashion-mnist")  # makes the grid it chooses from, too
    sys.stderr.write("regularizers and penalties of lenet-300-100 on mnist\n")
    regularization_test("mnist")  # makes the grid it chooses from, too
    penalty_sweep("mnist")
    sys.stderr.write("searches of an MLP on fashion-mnist, and of recipes for lenet-300-100 on mnist\n")
    search_sweep("fashion-mnist")
    right_sweep()
    optimism_sweep("fashion-mnist")
    recipes_sweep("lenet-300-100", "mnist")


if __name__ == "__main__":
    raise SystemExit(main())
