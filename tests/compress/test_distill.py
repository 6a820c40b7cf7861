"""Distillation: the student that comes out, against the same training with the teacher asked at every step."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from labkit import losses
from labkit.compress.distill import Hint, best_offset, distill, guided, raise_logit, teacher_outputs
from labkit.data import Split, take
from labkit.models import mlp as perceptron
from labkit.train import count_correct, fit

SETTINGS = dict(epochs=3, lr=1e-2, seed=3, progress=False)


def student(width=8, seed=1):
    torch.manual_seed(seed)
    return perceptron(64, width, 10)


def same(one, other, atol=0.0):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=atol) for a, b in pairs)


def test_answers_are_the_logits_in_evaluation_mode(trained, digits):
    teacher = nn.Sequential(copy.deepcopy(trained), nn.Dropout(0.5)).train()
    said = teacher_outputs(teacher, digits.test.x, batch_size=70)
    assert torch.allclose(said, trained(digits.test.x), atol=1e-5)
    assert not said.requires_grad
    assert teacher.training


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (4.0, 0.9), (10.0, 1.0)])
def test_it_is_fit_with_the_distillation_loss(trained, digits, temperature, alpha):
    loss = losses.distillation(trained, temperature, alpha)
    expected, _ = fit(student(), digits.train, loss=loss, **SETTINGS)
    ours, history = distill(student(), digits.train, teacher=trained, temperature=temperature, alpha=alpha, **SETTINGS)
    assert same(ours, expected, atol=1e-4)
    plain, _ = fit(student(), digits.train, **SETTINGS)
    assert not same(plain, expected, atol=1e-2)
    assert history["epoch"].tolist() == [1, 2, 3]


def test_its_answers_stand_for_the_teacher(trained, digits):
    said = teacher_outputs(trained, digits.train.x)
    ours, _ = distill(student(), digits.train, teacher=said, **SETTINGS)
    assert same(ours, distill(student(), digits.train, teacher=trained, **SETTINGS)[0])


def test_a_convolutional_student_gets_its_images_in_their_shape(trained, digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    expected, _ = fit(net, digits.train, loss=losses.distillation(trained), **SETTINGS)
    assert same(distill(net, digits.train, teacher=trained, **SETTINGS)[0], expected, atol=1e-4)


def test_teacher_and_student_are_left_as_they_were(trained, digits):
    teacher, pupil = copy.deepcopy(trained).train(), student()
    distill(pupil, digits.train, teacher=teacher, **SETTINGS)
    assert same(teacher, trained)
    assert teacher.training
    assert all(p.grad is None for p in teacher.parameters())
    assert same(pupil, student())


def test_validation_and_history_are_those_of_fit(trained, digits):
    pupil, history = distill(student(), digits.train, teacher=trained, validation=digits.validation, **SETTINGS)
    right = count_correct(pupil, digits.validation) / 300
    assert history["validation_accuracy"].iloc[-1] == pytest.approx(right)
    assert pupil(digits.test.x).shape == (300, 10)


def test_a_teacher_helps_where_labels_are_few(trained, digits):
    """100 labelled images, or the teacher's predictions for all 1,197 without a label, in the same number of steps."""
    few = take(digits.train, 100)
    alone, _ = fit(student(), few, epochs=100, lr=1e-2, batch_size=100, progress=False)
    blind = Split(digits.train.x, torch.zeros_like(digits.train.y))
    taught, _ = distill(student(), blind, teacher=trained, alpha=1.0, epochs=8, lr=1e-2, batch_size=100, progress=False)
    assert count_correct(taught, digits.test) > count_correct(alone, digits.test) + 6


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"temperature": 0}, ValueError, "temperature is 0; allowed: a number in (0, inf)"),
        ({"alpha": 2}, ValueError, "alpha is 2; allowed: a number in [0, 1]"),
        ({"teacher": 3}, TypeError, "teacher is a int; allowed: a torch.nn.Module or a torch.Tensor"),
        ({"teacher": torch.zeros(7, 10)}, ValueError, "teacher has the shape (7, 10); allowed: logits (1197, classes)"),
        (
            {"teacher": torch.full((1197, 10), float("nan"))},
            ValueError,
            "teacher holds 11970 NaN or infinite values; allowed: finite numbers",
        ),
        ({"epochs": -1}, ValueError, "epochs is -1; allowed: a whole number from 0 to 10000"),
    ],
)
def test_distill_refuses(mlp, digits, refuses, settings, error, said):
    arguments = {"teacher": mlp, "student": mlp, "train": digits.train} | SETTINGS | settings
    refuses(error, said, distill, **arguments)


# a hidden layer as the teacher


def hint_of(trained, x, weight=0.1, layer="1"):
    return Hint(teacher_outputs(trained, x, layer="2"), layer, weight)


def test_the_answers_of_a_layer_are_what_it_gives(trained, digits):
    x = digits.test.x
    expected = trained[2](trained[1](x.flatten(1)))
    assert torch.allclose(teacher_outputs(trained, x, batch_size=70, layer="2"), expected, atol=1e-5)
    assert torch.equal(
        teacher_outputs(trained, x, layer="3"), teacher_outputs(trained, x)
    )  # its last layer gives the logits


@pytest.mark.parametrize(("alpha", "weight"), [(0.0, 0.1), (0.9, 0.02)])
def test_a_hint_adds_half_the_squared_distance_to_the_loss(trained, digits, alpha, weight):
    """The same training, with the loss written out and the teacher asked at every step."""
    hint = hint_of(trained, digits.train.x, weight)

    def loss(model, x, y):
        with torch.no_grad():
            said, wanted = trained(x), trained[2](trained[1](x.flatten(1)))
        given = model.regressor(model.student[1](x.flatten(1)))
        rest = losses.mixed_loss(model(x), said, y, 4.0, alpha)
        return rest + weight * 0.5 * (wanted - given).square().sum(1).mean()

    expected, _ = fit(guided(student(), hint, digits.train.x, seed=3), digits.train, loss=loss, **SETTINGS)
    ours, history = distill(student(), digits.train, teacher=trained, alpha=alpha, hint=hint, **SETTINGS)
    assert same(ours, expected.student, atol=1e-4)
    assert history["epoch"].tolist() == [1, 2, 3]
    without, _ = distill(student(), digits.train, teacher=trained, alpha=alpha, **SETTINGS)
    assert not same(ours, without, atol=1e-2)


def test_a_hint_of_no_weight_changes_nothing(trained, digits):
    ours, _ = distill(student(), digits.train, teacher=trained, hint=hint_of(trained, digits.train.x, 0), **SETTINGS)
    assert same(ours, distill(student(), digits.train, teacher=trained, **SETTINGS)[0])


def test_the_student_comes_back_without_its_regressor(trained, digits):
    looks = []
    hint = hint_of(trained, digits.train.x)
    settings = SETTINGS | dict(validation=digits.validation, after_step=lambda model, step: looks.append(model))
    ours, history = distill(student(), digits.train, teacher=trained, hint=hint, **settings)
    assert type(ours) is type(student())
    assert ours.state_dict().keys() == student().state_dict().keys()
    assert type(looks[0]) is type(student())
    assert history["validation_accuracy"].iloc[-1] == pytest.approx(count_correct(ours, digits.validation) / 300)
    torch.rand(3)
    again, _ = distill(student(), digits.train, teacher=trained, hint=hint, **SETTINGS)
    assert same(ours, again)  # the regressor is drawn by the seed of the run


def test_a_map_is_taught_by_a_map_of_its_size(trained, digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    wide = nn.Sequential(nn.Conv2d(1, 7, 3), nn.Flatten(), nn.Linear(252, 10))
    hint = Hint(teacher_outputs(wide, digits.train.x, layer="0"), "0", 100.0)
    pair = guided(net, hint, digits.train.x)
    assert pair.regressor(net[0](digits.train.x[:2])).shape == wide[0](digits.train.x[:2]).shape

    def best_fit(model):  # residual of the best linear map from the student's channels to the teacher's
        given = teacher_outputs(model, digits.validation.x, layer="0").movedim(1, 3).flatten(0, 2)
        wanted = teacher_outputs(wide, digits.validation.x, layer="0").movedim(1, 3).flatten(0, 2)
        given = torch.cat([given, torch.ones(len(given), 1)], 1)
        return float((given @ torch.linalg.lstsq(given, wanted).solution - wanted).square().mean())

    settings = SETTINGS | dict(epochs=10)
    taught, _ = distill(net, digits.train, teacher=wide, hint=hint, **settings)
    assert best_fit(taught) < 0.7 * best_fit(distill(net, digits.train, teacher=wide, **settings)[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight": -1}, "hint.weight is -1; allowed: a number in [0, inf)"),
        ({"layer": "fc"}, "layer is 'fc'; allowed: '', '0', '1', '2', '3'"),
        ({"wanted": torch.zeros(7, 32)}, "hint.wanted has the length 7; allowed: that of train, 1197"),
        (
            {"wanted": torch.full((1197, 2), float("nan"))},
            "hint.wanted holds 2394 NaN or infinite values; allowed: finite numbers",
        ),
        (
            {"wanted": torch.zeros(1197, 4, 6, 6)},
            "layer '1' gives (8,) where the hint has (4, 6, 6); allowed: two vectors, or two maps of one size",
        ),
    ],
)
def test_a_hint_refuses(trained, digits, refuses, changes, said):
    hint = hint_of(trained, digits.train.x)

    def distilled():
        return distill(student(), digits.train, teacher=trained, hint=dataclasses.replace(hint, **changes), **SETTINGS)

    refuses(ValueError, said, distilled)


# a class that was never seen


def test_raise_logit_is_what_a_higher_bias_gives(trained, digits):
    raised = copy.deepcopy(trained)
    with torch.no_grad():
        raised[3].bias[3] += 2.5
    before = teacher_outputs(trained, digits.test.x)
    assert torch.allclose(raise_logit(before, 3, 2.5), teacher_outputs(raised, digits.test.x), atol=1e-5)
    assert before.equal(teacher_outputs(trained, digits.test.x))


def test_the_best_offset_is_the_first_that_makes_most_right():
    logits = torch.tensor([[1.0, 0.0], [1.0, -1.0], [5.0, 0.0], [0.0, 1.0]])  # margins of class 1: -1, -2, -5, 1
    y = torch.tensor([1, 1, 0, 1])
    offsets = torch.tensor([0.0, 0.5, 1.5, 2.5, 3.0, 6.0])
    assert best_offset(logits, y, 1, offsets) == 2.5
    assert best_offset(logits, y, 1, offsets[:2]) == 0.0


def test_a_student_learns_of_a_class_it_never_saw(trained, digits):
    """Hinton, Vinyals & Dean 2015, section 3: from the teacher's predictions for the other classes."""
    seen = digits.train.y != 3
    train, held, three = Split(digits.train.x[seen], digits.train.y[seen]), digits.validation, digits.test.y == 3
    settings = dict(epochs=20, lr=1e-2, progress=False)
    right = {}
    for name, (pupil, _) in {
        "alone": fit(student(32), train, **settings),
        "taught": distill(student(32), train, teacher=trained, temperature=10.0, alpha=1.0, **settings),
    }.items():
        offset = best_offset(teacher_outputs(pupil, held.x), held.y, 3, torch.arange(0, 20, 0.5))
        classes = raise_logit(teacher_outputs(pupil, digits.test.x), 3, offset).argmax(1)
        right[name] = float((classes[three] == 3).float().mean())
    assert right["taught"] > 0.6
    assert right["alone"] < right["taught"] - 0.2


def test_a_teacher_of_other_classes_is_refused(trained, digits, refuses):
    said = "teacher gives logits (128, 12) and student (128, 10); allowed: equal shapes, the same classes"
    refuses(ValueError, said, distill, student(), digits.train, teacher=perceptron(64, 8, 12), **SETTINGS)
    said = "teacher gives logits (128, 5) and student (128, 10); allowed: equal shapes, the same classes"
    refuses(ValueError, said, distill, student(), digits.train, teacher=torch.zeros(1_197, 5), **SETTINGS)


def test_labels_that_are_no_classes_of_the_student_are_refused(trained, digits, refuses):
    said = "y holds the label 9; allowed: 0 to 7, the classes of model Sequential"
    refuses(ValueError, said, distill, perceptron(64, 8, 8), digits.train, teacher=torch.zeros(1_197, 8), **SETTINGS)


class Viewed(nn.Module):
    """A student whose forward uses view."""

    def __init__(self, flatten):
        super().__init__()
        self.conv, self.fc, self.flatten = nn.Conv2d(1, 4, 3), nn.Linear(144, 10), flatten

    def forward(self, x):
        return self.fc(self.flatten(self.conv(x)))


@pytest.mark.parametrize("hinted", [False, True])
def test_a_student_that_uses_view_learns(trained, digits, hinted):
    torch.manual_seed(0)
    ours = Viewed(lambda x: x.view(-1, 144))
    plain = Viewed(lambda x: x.flatten(1))
    plain.load_state_dict(ours.state_dict())
    hint = hint_of(trained, digits.train.x, layer="flatten") if hinted else None
    if hinted:
        ours.flatten, plain.flatten = View(), nn.Flatten()
    taught = [distill(s, digits.train, teacher=trained, hint=hint, **SETTINGS)[0] for s in (ours, plain)]
    assert same(*taught, atol=1e-3)


class View(nn.Module):
    def forward(self, x):
        return x.view(-1, 144)


def test_batch_norm_learns_when_a_single_image_is_left_over(trained, digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    taught, history = distill(net, take(digits.train, 129), teacher=trained, **SETTINGS)
    assert history["step"].tolist() == [1, 2, 3]
    assert taught[2].num_batches_tracked == 3


def test_a_wrapped_student_is_taught_by_a_hint(trained, digits):
    hint = hint_of(trained, digits.train.x)
    ours, _ = distill(nn.DataParallel(student()), digits.train, teacher=nn.DataParallel(trained), hint=hint, **SETTINGS)
    assert same(ours, distill(student(), digits.train, teacher=trained, hint=hint, **SETTINGS)[0])


@pytest.mark.parametrize("name", ["loss", "augment"])
def test_what_distillation_sets_itself_is_refused(refuses, trained, digits, name):
    said = f"{name} is set by distillation; allowed: the other settings of fit"
    refuses(ValueError, said, distill, student(), digits.train, teacher=trained, **{name: lambda *_: None}, **SETTINGS)


def test_logits_that_remember_their_graph_are_taken_as_they_are(trained, digits):
    ours, _ = distill(student(), digits.train, teacher=trained(digits.train.x), **SETTINGS)
    assert same(ours, distill(student(), digits.train, teacher=trained, **SETTINGS)[0])
