"""Good arguments for every public function but the pictures (see argument_plots.py)."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from arguments import DATA, MODEL, SPLIT, Case, Fresh
from torch import nn

import labkit as lk
from labkit import (
    article,
    augment,
    data,
    explore,
    losses,
    models,
    optim,
    significance,
    store,
    surfaces,
    sweep,
    train,
    zoo,
)  # fmt: skip
from labkit.budget.choices import weight_choices
from labkit.compress import (
    codebook,
    deep_compression,
    distill,
    fold,
    gradients,
    grid,
    magnitude,
    qat,
    quantize,
    structured,
)
from labkit.compress import compose as composing
from labkit.compress.compose import one_shot
from labkit.seeds import over_seeds
from labkit.topics.knowledge_distillation.experiment import gains, student_of
from labkit.topics.learning_rate.experiment import best_rates
from labkit.topics.optimizers.experiment import tuned
from labkit.topics.order_matters.experiment import accuracies, interactions, logits, order_effects
from labkit.topics.other_architectures.experiment import scan_losses, squeeze
from labkit.topics.regularization.experiment import chosen_strengths

frontiers, measuring, searching = (__import__(f"labkit.{m}", fromlist="_") for m in ("frontier", "measure", "search"))
X, Y, N_CLASSES = SPLIT.x, SPLIT.y, 10
LOGITS = torch.randn(128, 10)
FOLDER = Path(tempfile.mkdtemp())
LK = FOLDER / "net.lk"
LK.write_bytes(store.encode(MODEL))
NET = article.new_net(64, 4, 10)
NPX, NPY = X.flatten(1).double().numpy(), article.one_hot(Y.numpy(), 10).astype(float)
GRID = grid.choose_grid(MODEL[1].weight.detach(), 4)
ROUNDED = lk.quantize(MODEL, 8, activation_bits=8, calibration=SPLIT)
NORMED = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)).eval()
QUICK = dict(epochs=1, lr=0.01, progress=False)
LAYERS = ["1.weight"]
STUDY = searching.search(lambda trial, a: {"accuracy": a / 9}, {"a": [1, 2, 3]}, trials=4, sampler="random")
RECORDS = pd.DataFrame(dict(size_bytes=[10, 20, 30], accuracy=[0.5, 0.7, 0.6], bits=[2, 3, 4]))
ORDER = sweep.shipped_sweep("order", "lenet-300-100", "mnist")
RATES = pd.DataFrame(dict(schedule="step", optimizer="SGD", method="L1", lr=[0.1, 0.2], strength=[1.0, 2.0],
                          seed=[0, 0], accuracy=[0.5, 0.6]))  # fmt: skip
RANGE = pd.DataFrame(dict(lr=[0.1, 0.2, 0.3, 0.4], loss=[3.0, 2.0, 1.0, 2.0], smoothed_loss=[3.0, 2.0, 1.0, 2.0]))
SCAN = pd.DataFrame(dict(part=["a"], kind=["linear"], weights=[3], change=["x"], lost=[2], won=[1], images=[40]))


def objective(trial, a):
    return {"accuracy": a / 9}


def of_split(x, y):
    return data.Split(x, y)


def generator():
    return torch.Generator().manual_seed(0)


WIDE = data.Split(torch.rand(128, 784), Y)
OPTIONS = dict(lr=0.1, g=torch.ones(3), w=torch.ones(3), state={})
COMPRESS = [
    Case(lk.share_weights, dict(model=MODEL, bits=2)),
    Case(codebook.k_means, dict(x=X.flatten(), k=4)),
    Case(codebook.to_indices, dict(x=X, codebook=torch.tensor([0.1, 0.5]))),
    Case(lk.compose, dict(model=MODEL, train=SPLIT, steps=["prune"], sparsity=0.5, bits=4, epochs=0)),
    Case(composing.as_stored, dict(model=MODEL)),
    Case(deep_compression.deep_compress, dict(model=MODEL, train=SPLIT, sparsity=0.5, bits=4, epochs=(1, 1), lr=0.01),
         {"epochs": "mapping"}, call=functools.partial(deep_compression.deep_compress, progress=False)),
    Case(deep_compression.keep_units, dict(model=MODEL, example=X, layer="1", kept=3)),
    Case(deep_compression.embed, dict(small=MODEL, whole=MODEL)),
    Case(deep_compression.without_biases, dict(model=MODEL)),
    Case(distill.teacher_outputs, dict(teacher=MODEL, x=X, layer="1")),
    Case(distill.Hint, dict(wanted=torch.rand(128, 8), layer="1", weight=0.1), {"layer": "text"}),
    Case(lk.distill, dict(teacher=MODEL, student=MODEL, train=SPLIT), {"hint": "mapping"},
         call=functools.partial(lk.distill, **QUICK)),
    Case(distill.best_offset, dict(logits=LOGITS, y=Y, label=3, offsets=torch.arange(3.0))),
    Case(distill.raise_logit, dict(logits=LOGITS, label=3, offset=1.0)),
    Case(lk.fold_batchnorm, dict(model=NORMED)),
    Case(fold.folded, dict(model=NORMED)),
    Case(gradients.round_to_integers, dict(x=X, bits=4), {"generator": "mapping"}),
    Case(lk.integer_gradients, dict(bits=4)),
    Case(lk.integer_only, dict(model=ROUNDED)),
    Case(magnitude.keep_mask, dict(importance=X, sparsity=0.5)),
    Case(lk.random_importance, dict(seed=0)),
    Case(magnitude.clustered_importance, dict(strength=0.1)),
    Case(magnitude.threshold_mask, dict(weight=X, threshold=0.1)),
    Case(lk.prune, dict(model=MODEL, sparsity=0.5), {"threshold": "number"}, free=("threshold",)),
    Case(lk.prune, dict(model=MODEL, threshold=0.5), {"sparsity": "number"}, free=("sparsity",)),
    Case(magnitude.apply_masks, dict(model=Fresh(lambda: models.mlp(64, 8, 10)), masks={"1.weight": torch.ones(8,
         64) > 0})),
    Case(magnitude.masks_of, dict(model=MODEL)),
    Case(magnitude.sparsity_of, dict(model=MODEL)),
    Case(lk.KeepZeros, dict(model=MODEL)),
    Case(magnitude.cubic_sparsity, dict(progress=0.5, initial_sparsity=0.0, final_sparsity=0.9)),
    Case(lk.GradualPruning, dict(sparsity=0.5), free=("layers", "exclude")),
    Case(lk.prepare_qat, dict(model=MODEL, bits=4), {"group_size": "whole"}),
    Case(lk.prepare_qat, dict(model=MODEL, bits=4, granularity="group", group_size=8)),
    Case(qat.keep_grids, dict(model=MODEL)),
    Case(qat.on_grids, dict(model=MODEL)),
    Case(qat.floats_of, dict(model=lk.prepare_qat(MODEL, 4))),
    Case(lk.finish_qat, dict(model=lk.prepare_qat(MODEL, 4))),
    Case(grid.choose_grid, dict(x=X, bits=4), {"group_size": "whole"}),
    Case(grid.choose_grid, dict(x=X, bits=4, granularity="group", group_size=8)),
    Case(grid.to_integers, dict(x=MODEL[1].weight.detach(), grid=GRID), {"grid": "mapping"}),
    Case(grid.levels, dict(x=MODEL[1].weight.detach(), grid=GRID), {"grid": "mapping"}),
    Case(grid.to_floats, dict(q=grid.to_integers(MODEL[1].weight.detach(), GRID), grid=GRID),
         {"grid": "mapping"}),
    Case(grid.fake_quantize, dict(x=MODEL[1].weight.detach(), grid=GRID), {"grid": "mapping"}),
    Case(lk.quantize, dict(model=MODEL, activation_bits=8, calibration=SPLIT), {"group_size": "whole"}),
    Case(lk.quantize, dict(model=MODEL, granularity="group", group_size=8), {"activation_bits": "whole",
         "calibration": "split"}),
    Case(quantize.quantize_inputs, dict(model=MODEL, bits=8, calibration=SPLIT)),
    Case(lk.prune_channels,
         dict(model=MODEL, example=X, sparsity=0.5, round_to=2, importance="taylor", calibration=SPLIT)),
    Case(structured.held, dict(model=MODEL, example=X)),
]  # fmt: skip
STORE = [
    Case(store.check_equal, dict(model=MODEL, again=MODEL)),
    Case(lk.size_table, dict(model=MODEL)),
    Case(lk.compression_ratio, dict(dense_model=MODEL, model=MODEL)),
    Case(lk.decode, dict(raw=LK.read_bytes(), into=MODEL), {"raw": "mapping"}),
    Case(lk.encode, dict(model=MODEL)),
    Case(store.encode_with_ledger, dict(model=MODEL)),
    Case(lk.ledger, dict(model=MODEL)),
    Case(lk.load, dict(path=LK, into=MODEL)),
    Case(lk.save, dict(model=MODEL, path=FOLDER / "other.lk")),
]
DATAS = [
    Case(lk.Split, dict(x=X, y=Y)),
    Case(lk.Data, dict(name="a", train=SPLIT, validation=SPLIT, test=SPLIT, classes=tuple("0123456789"),
                       mean=torch.zeros(1), std=torch.ones(1)), {"name": "text"}),
    Case(lk.load_data, dict(name="digits"), {"name": "key"}),
    Case(data.take, dict(split=SPLIT, n=3)),
    Case(data.verified, dict(path="digits/test-labels.npy"), {"path": "text"}),
    Case(data.partial, dict(path="digits/none"), {"path": "text"}),
]  # fmt: skip
FIT = dict(model=MODEL, train=SPLIT, epochs=1, lr=0.01, progress=False)
TRAIN = [
    Case(lk.fit, FIT, {"augment": "function", "after_step": "function", "validation": "split"}),
    Case(train.steps_of, dict(images=40, batch_size=8)),
    Case(train.predict, dict(model=MODEL, x=X)),
    Case(train.correct_mask, dict(model=MODEL, split=SPLIT)),
    Case(train.count_correct, dict(model=MODEL, split=SPLIT)),
    Case(train.mean_loss, dict(model=MODEL, split=SPLIT)),
    Case(train.lr_range_test, dict(model=MODEL, train=SPLIT, steps=4)),
    Case(train.suggested_lrs, dict(test=RANGE)),
    Case(train.stopping_epochs, dict(accuracies=[0.1, 0.2], patience=2), {"accuracies": "mapping"}),
    Case(train.fit_early, dict(model=MODEL, train=SPLIT, held_out=SPLIT, epochs=1, patience=1),
         call=functools.partial(train.fit_early, lr=0.01, progress=False)),
    *(Case(loss, dict(model=MODEL, x=X, y=Y)) for loss in (losses.cross_entropy, losses.cross_entropy_bf16)),
    Case(losses.next_character, dict(model=models.CharTransformer(9, 8, 8, 1, 2), x=torch.zeros(3, 8).long(),
         y=torch.ones(3).long())),
    Case(losses.with_l1, dict(lam=0.1)),
    Case(losses.with_l2, dict(lam=0.1)),
    Case(losses.soft_threshold, dict(w=X, threshold=0.1)),
    Case(losses.ProximalL1, dict(lam=0.1)),
    Case(losses.label_smoothing, dict(smoothing=0.1)),
    Case(losses.soft_loss, dict(student=LOGITS, teacher=LOGITS, temperature=2.0), {"teacher": "tensor"}),
    Case(losses.mixed_loss, dict(student=LOGITS, teacher=LOGITS, y=Y, temperature=2.0, alpha=0.5)),
    Case(losses.distillation, dict(teacher=MODEL)),
    Case(losses.check_distillation, dict(temperature=1.0, alpha=0.5)),
    Case(losses.hint, dict(teacher=MODEL, teacher_layer="1", student_layer="1"), {"student_layer": "text",
         "regressor": "text"}),
    Case(losses.distance, dict(wanted=X, given=X)),
    Case(losses.output_of, dict(model=MODEL, layer="1", x=X)),
    Case(losses.watching, dict(model=MODEL, layer="1"), call=lambda **how: losses.watching(**how).__enter__()),
    Case(augment.crop_flip, dict(x=X, generator=Fresh(generator)), {"generator": "mapping"}),
    Case(augment.affine, dict(x=X, generator=Fresh(generator)), {"generator": "mapping"}),
]  # fmt: skip
RULES = [Case(rule, OPTIONS, {"state": "mapping", "betas": "mapping"}) for rule in optim.RULES.values()]
SCHEDULES = [
    Case(schedule, dict(progress=0.3), {"milestones": "mapping"})
    for schedule in (*optim.SCHEDULES.values(), optim.warmup_cosine)
]
OPTIM = [
    *RULES,
    *SCHEDULES,
    Case(optim.with_warmup, dict(schedule=optim.cosine)),
    Case(optim.Plateau, dict(watched=abs, looks=3)),
    Case(
        optim.FollowRule, dict(parameters=list(MODEL.parameters()), lr=0.1, rule=optim.sgd), {"parameters": "mapping"}
    ),
]
MODELS = [
    *(Case(cls, {}) for cls in (models.LeNet300100, models.LeNet5, models.ResNet20, models.MobileNet)),
    *(Case(cls, {}) for cls in (models.ViT, models.CharTransformer)),
    Case(models.ResidualBlock, dict(channels_in=4, channels=4, stride=1)),
    Case(models.InvertedResidual, dict(channels_in=4, channels=4, stride=1, expansion=2)),
    Case(models.Attention, dict(width=4, heads=2)),
    Case(models.TransformerBlock, dict(width=4, heads=2, hidden=4)),
    Case(models.mlp, dict(widths=64), call=lambda widths, **how: models.mlp(widths, 10, **how)),
    Case(lk.build, dict(name="lenet-5")),
    Case(lk.load_model, dict(name="lenet-5", data_name="mnist")),
    Case(zoo.checkpoint, dict(name="lenet-5", data_name="mnist")),
    Case(zoo.record, dict(path="a.safetensors"), {"path": "text"}),
]  # fmt: skip
MEASURE = [
    Case(significance.wilson, dict(correct=3, images=10)),
    Case(measuring.accuracy_when_smaller, dict(model=MODEL, split=SPLIT), {"sparsities": "texts"}, free=("bits",)),
    Case(lk.accuracy, dict(model=MODEL, split=SPLIT)),
    Case(significance.with_range, dict(row=dict(mean=1.0, min=0.5, max=2.0))),
    Case(measuring.size_bytes, dict(model=MODEL)),
    Case(measuring.counts, dict(model=MODEL)),
    Case(measuring.macs, dict(model=MODEL, image=X[0])),
    Case(measuring.latency_ms, dict(model=MODEL, images=X, repeats=1)),
    Case(lk.measure, dict(model=MODEL, split=SPLIT)),
    Case(significance.mcnemar, dict(lost=3, won=2)),
    Case(lk.compare, dict(before=MODEL, after=MODEL, split=SPLIT)),
    Case(measuring.accuracy_vs, dict(before=Y == 3, model=MODEL, split=SPLIT)),
    Case(significance.difference, dict(lost=3, won=2, images=40)),
    Case(significance.with_difference, dict(pair=dict(lost=3, won=2, p=0.5), images=40)),
    Case(lk.sensitivity, dict(model=MODEL, split=SPLIT, changes={"4 bits": functools.partial(lk.quantize, bits=4)}),
         {"parts": "mapping"}),
    Case(measuring.kinds, dict(model=MODEL)),
    Case(frontiers.pareto_mask, dict(size=np.array([1.0, 2.0]), accuracy=np.array([0.5, 0.6]))),
    Case(lk.frontier, dict(records=RECORDS)),
    Case(frontiers.hypervolume, dict(records=RECORDS, worst_bytes=100.0, worst_accuracy=0.1)),
    Case(frontiers.published, dict(model_name="lenet-5", data_name="mnist"), {"model_name": "text",
         "data_name": "text"}),
]  # fmt: skip
SEARCH = [
    Case(searching.search, dict(objective=objective, space={"a": [1, 2]}, trials=2, sampler="random"),
         {"goals": "mapping", "pruner": "mapping", "storage": "path", "name": "text"}),
    Case(searching.open_study, {}, {"goals": "mapping", "pruner": "mapping", "storage": "path", "name": "text"}),
    *(Case(function, dict(study=STUDY), {"study": "mapping"})
      for function in (searching.finished, searching.trials, searching.importance)),
    Case(searching.row, dict(trial=STUDY.trials[0]), {"trial": "mapping", "goal": "text"}),
    Case(searching.best_so_far, dict(records=searching.trials(STUDY))),
    Case(searching.restored, dict(rows=searching.trials(STUDY).to_dict("records"), space={"a": [1, 2, 3]},
                                  goals={"accuracy": "maximize"}), {"rows": "mapping"}),
    Case(searching.check_space, dict(space={"a": [1]})),
    Case(searching.suggest, dict(trial=Fresh(lambda: optuna.create_study().ask()), space={"a": [1]}),
         {"trial": "mapping"}),
    Case(searching.grid, dict(space={"a": (1, 5)}, levels=2)),
    Case(searching.fit_trial, dict(trial=Fresh(lambda: optuna.create_study().ask()), model=MODEL, train=SPLIT,
         validation=SPLIT,
                                   epochs=1), {"trial": "mapping"}, call=functools.partial(searching.fit_trial,
                                        lr=0.01)),
    Case(searching.k_folds, dict(split=SPLIT, k=2)),
    Case(searching.cross_validate, dict(train=lambda part: MODEL, split=SPLIT)),
]  # fmt: skip
SURFACES = [
    Case(surfaces.ravine, dict(condition=2.0)),
    Case(surfaces.rosenbrock, dict(place=torch.ones(2))),
    Case(surfaces.saddle, dict(place=torch.ones(2))),
    Case(surfaces.fitted, dict(losses=torch.rand(5, 5))),
    Case(surfaces.walker, dict(name="SGD", lr=0.1, momentum=0.5)),
    Case(surfaces.paths, dict(rules={"SGD": surfaces.walker("SGD", 0.1, 0.5)}, surface=surfaces.saddle, start=(1.0,
         1.0), steps=3),
         {"start": "mapping"}),
    Case(surfaces.gradient, dict(surface=surfaces.saddle, place=torch.ones(2))),
    Case(surfaces.filter_direction, dict(model=MODEL, seed=0)),
    Case(surfaces.slice_loss, dict(model=MODEL, split=SPLIT, x=0.1, y=0.1)),
]  # fmt: skip
PASS = dict(net=NET, x=NPX, y=NPY)
ARTICLE = [
    Case(article.Head, dict(output=np.tanh, loss=article.squared_error, slope=abs)),
    Case(article.Variant, {}, {"head": "mapping"}),
    *(Case(loss, dict(z=NPX[:, :10], y=NPY)) for loss in (article.squared_error, article.cross_entropy)),
    Case(article.softmax, dict(z=NPX)),
    Case(article.new_net, dict(inputs=3, hidden=2, outputs=2)),
    Case(article.forward, dict(net=NET, x=NPX)),
    Case(article.predict, dict(net=NET, x=NPX)),
    Case(article.backward, dict(net=NET, x=NPX, a1=NPX[:, :4], dz2=NPY)),
    Case(article.gradient, PASS, {"head": "mapping"}),
    Case(article.step, dict(net=NET, slopes=NET, lr=0.1), {"masks": "mapping"}),
    Case(article.arrays, dict(split=SPLIT)),
    Case(article.one_hot, dict(labels=Y.numpy(), classes=10)),
    Case(article.targets, dict(labels=Y.numpy(), classes=10)),
    *(Case(article.train, PASS | dict(lr=0.1, epochs=1), {"masks": "mapping", "variant": "mapping"}, call=call)
      for call in (lambda **how: list(article.train(**how)),)),
    Case(article.trained, PASS, call=lambda **how: article.trained(**how, lr=0.1, epochs=1)),
    Case(article.gradient_check, PASS | dict(entries=1), {"variant": "mapping", "dtype": "dtype"}),
    Case(article.gradient_errors, PASS, {"variant": "mapping"}, call=lambda **how: article.gradient_errors(**how,
         entries=1)),
    Case(article.relative_error, dict(analytic=NPX, numeric=NPX)),
    Case(article.prune, dict(net=NET, threshold=0.1)),
    Case(article.to_torch, dict(net=NET)),
]  # fmt: skip
SHIPPED = dict(kind="order", model_name="lenet-300-100", data_name="mnist")
SWEEP = [
    Case(sweep.run, dict(function=lambda a=1, seed=0: {"b": a}, grid={"a": (1, 2)}, seeds=(0, 1)), {"path": "path"}),
    Case(sweep.sweep_path, SHIPPED, dict.fromkeys(SHIPPED, "text")),
    Case(sweep.shipped_sweep, SHIPPED),
    Case(scan_losses, dict(table=SCAN)),
    Case(squeeze, dict(model=MODEL, sparsity=0.5, bits=4, activation_bits=8, calibration=SPLIT)),
    Case(one_shot, dict(model=MODEL, sparsity=0.5, bits=4)),
    *(Case(function, dict(table=RATES)) for function in (tuned, best_rates, chosen_strengths)),
    *(Case(function, dict(table=ORDER)) for function in (accuracies, interactions, order_effects)),
    Case(over_seeds, dict(figures=logits(ORDER))),
    Case(student_of, dict(logits=LOGITS, width=4, train=WIDE, images=128, temperature=2.0, alpha=0.5, seed=0),
         free=("logits",)),
    Case(models.reinitialized, dict(model=MODEL, seed=0)),
    Case(gains, dict(table=pd.DataFrame(dict(g=[1, 1] * 2, m=["a", "b"] * 2, seed=[0, 0, 1, 1], accuracy=[0.1,
         0.2, 0.3, 0.5])),
                           group="g", method="m", base="a")),
]  # fmt: skip
OTHER = ("article_mlp", "optimizers", "your_model")  # panels that take something else
CHOICES = weight_choices(MODEL, dict(sparsity=(0, 0.5), bits=(8, 4), percentile=(100,)))
TABLE = lk.budget.measure_parts(MODEL, SPLIT, choices=CHOICES, progress=False)
BUDGET = [
    Case(lk.fit_budget, dict(model=MODEL, data=DATA, budget=600, images=64, tries=2, progress=False, table=TABLE),
         free=("table",)),
    Case(lk.budget.measure_parts, dict(model=MODEL, calibration=SPLIT, choices=CHOICES, progress=False),
         free=("choices",)),
    Case(lk.budget.sample, dict(split=SPLIT, images=3, seed=0)),
    Case(lk.budget.loss_of, dict(model=MODEL, split=SPLIT)),
]  # fmt: skip
EXPORT = [
    Case(lk.export.onnx, dict(model=MODEL, example=SPLIT.x, path=FOLDER / "net.onnx")),
    Case(lk.export.onnx_outputs, dict(path=lk.export.onnx(MODEL, SPLIT.x, FOLDER / "good.onnx"), x=SPLIT.x)),
    Case(lk.export.c, dict(model=ROUNDED, example=SPLIT.x, path=FOLDER / "net.h"),
         {"name": "text", "coders": "names"}, free=("pixels",)),
    Case(lk.export.size_table, dict(model=MODEL, example=SPLIT.x)),
    Case(lk.export.has_vnni, {}),
]  # fmt: skip
PANELS = [getattr(explore, name) for name in explore.__all__ if name not in OTHER]
EXPLORE = [
    *(Case(panel, dict(model=MODEL, data=DATA)) for panel in PANELS),
    Case(explore.article_mlp, dict(data=DATA)),
    Case(explore.optimizers, {}),
    Case(explore.your_model, dict(model=MODEL, data=DATA), {"metric": "function"}, free=("data",)),
]
CASES = [*COMPRESS, *STORE, *DATAS, *TRAIN, *OPTIM, *MODELS, *MEASURE, *SEARCH, *SURFACES, *ARTICLE, *SWEEP, *BUDGET,
         *EXPORT, *EXPLORE]  # fmt: skip
