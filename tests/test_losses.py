"""Losses, against their formulas."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import losses, models
from labkit.train import fit


def test_cross_entropy_is_the_mean_negative_log_of_the_right_class(mlp, digits):
    x, y = digits.test.x[:20], digits.test.y[:20]
    probability = mlp(x).exp() / mlp(x).exp().sum(1, keepdim=True)
    expected = -probability[torch.arange(20), y].log().mean()
    assert torch.allclose(losses.cross_entropy(mlp, x, y), expected, atol=1e-6)


def test_next_character_is_the_mean_cross_entropy_of_every_beginning_of_a_window():
    model, x = models.CharTransformer(depth=1).eval(), torch.randint(65, (2, 48))
    y = torch.tensor([3, 64])
    answers = torch.cat([x[:, 1:], y[:, None]], 1)
    each = [losses.cross_entropy(model, x[:, : i + 1], answers[:, i]) for i in range(48)]
    assert torch.allclose(losses.next_character(model, x, y), torch.stack(each).mean(), atol=1e-5)


def test_bfloat16_changes_only_the_precision(mlp, digits):
    x, y = digits.test.x[:200], digits.test.y[:200]
    exact, rough = losses.cross_entropy(mlp, x, y), losses.cross_entropy_bf16(mlp, x, y)
    assert rough != exact
    assert torch.allclose(rough.float(), exact, rtol=0.02)


# distillation


def logits(seed, images=6, classes=10, scale=3.0):
    return scale * torch.randn(images, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(loss, z):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(loss(z), z)[0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_soft_loss_is_t_squared_times_the_divergence_written_out(temperature):
    z, v, expected = logits(0), logits(1), 0.0
    for student, teacher in zip(z / temperature, v / temperature, strict=True):
        p = [float(e) / float(teacher.exp().sum()) for e in teacher.exp()]
        q = [float(e) / float(student.exp().sum()) for e in student.exp()]
        expected += sum(a * torch.tensor(a / b).log().item() for a, b in zip(p, q, strict=True)) / 6
    assert losses.soft_loss(z, v, temperature).item() == pytest.approx(temperature**2 * expected, rel=1e-5)
    torchs = F.kl_div((z / temperature).log_softmax(1), (v / temperature).softmax(1), reduction="batchmean")
    assert losses.soft_loss(z, v, temperature).item() == pytest.approx(temperature**2 * torchs.item(), rel=1e-9)


def test_a_teacher_of_other_classes_is_refused(mlp, digits, refuses):
    x, y = digits.test.x[:20], digits.test.y[:20]
    said = "teacher gives logits (20, {}) and student (20, 10); allowed: equal shapes, the same classes"
    for classes in (5, 12):
        loss = losses.distillation(models.mlp(64, 8, classes))
        refuses(ValueError, said.format(classes), loss, mlp, x, y)
    one = "model Sequential returns the shape (20, 1); allowed: logits (20, classes) of two classes or more"
    refuses(ValueError, one, losses.distillation(models.mlp(64, 8, 1)), mlp, x, y)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_its_gradient_is_t_times_the_difference_of_the_softened_distributions(temperature):
    """The paper's equation 2, (q - p) / T for one image, times T² and averaged over 6."""
    z, v = logits(0), logits(1)
    expected = temperature * ((z / temperature).softmax(1) - (v / temperature).softmax(1)) / 6
    ours = gradient(lambda z: losses.soft_loss(z, v, temperature), z)
    assert torch.allclose(ours, expected, atol=1e-12)


def test_at_a_high_temperature_it_matches_logits():
    """The paper's equation 4, (z - v) / N T² for logits of mean 0, times T²: the gradient of squared differences."""
    z, v = logits(0), logits(1)
    z, v = z - z.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    matching = gradient(lambda z: (z - v).square().sum() / (2 * 10 * 6), z)
    off = []
    for temperature in (10.0, 100.0, 1000.0):
        ours = gradient(lambda z, t=temperature: losses.soft_loss(z, v, t), z)
        off.append(float((ours - matching).norm() / matching.norm()))
    assert off[0] > 3 * off[1] > 9 * off[2]
    assert off[2] < 0.01


def test_equal_logits_and_shifted_ones_cost_nothing():
    z = logits(0)
    assert losses.soft_loss(z, z, 3.0).item() == pytest.approx(0, abs=1e-12)
    assert losses.soft_loss(z + 5, z, 3.0).item() == pytest.approx(0, abs=1e-12)
    assert losses.soft_loss(z, 2 * z, 3.0).item() > 0.1


def test_at_temperature_1_it_is_cross_entropy_with_the_teachers_distribution_less_its_entropy():
    z, v = logits(0), logits(1)
    p = v.softmax(1)
    entropy = -(p * p.log()).sum(1).mean()
    assert losses.soft_loss(z, v, 1.0).item() == pytest.approx((F.cross_entropy(z, p) - entropy).item(), rel=1e-9)


def test_a_very_sure_teacher_is_a_label():
    z, y = logits(0), torch.arange(6)
    sure = 1e4 * F.one_hot(y, 10).double()
    assert losses.soft_loss(z, sure, 1.0).item() == pytest.approx(F.cross_entropy(z, y).item(), rel=1e-9)


def test_alpha_0_is_cross_entropy_to_the_bit(mlp, trained, digits):
    x, y = digits.train.x[:50], digits.train.y[:50]
    for temperature in (1.0, 7.0):
        loss = losses.distillation(trained, temperature, alpha=0.0)
        assert loss(mlp, x, y).equal(losses.cross_entropy(mlp, x, y))
    plain, _ = fit(mlp, digits.train, epochs=2, lr=1e-2, progress=False)
    same, _ = fit(mlp, digits.train, epochs=2, lr=1e-2, progress=False, loss=loss)
    assert all(w.equal(same.state_dict()[k]) for k, w in plain.state_dict().items())


def test_alpha_1_does_not_look_at_the_labels(mlp, trained, digits):
    x, y = digits.train.x[:50], digits.train.y[:50]
    loss = losses.distillation(trained, 4.0, alpha=1.0)
    assert loss(mlp, x, y).equal(loss(mlp, x, (y + 1) % 10))
    assert loss(mlp, x, y).item() == pytest.approx(losses.soft_loss(mlp(x), trained(x), 4.0).item(), rel=1e-6)


def test_alpha_is_the_share_of_the_teacher(mlp, trained, digits):
    x, y = digits.train.x[:50], digits.train.y[:50]
    hard, soft, mixed = (losses.distillation(trained, 3.0, alpha)(mlp, x, y).item() for alpha in (0, 1, 0.7))
    assert mixed == pytest.approx(0.7 * soft + 0.3 * hard, rel=1e-5)
    assert abs(hard - soft) > 0.1


def test_the_teacher_is_in_evaluation_mode_gets_no_gradient_and_is_left_alone(mlp, digits):
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Linear(20, 10)
    ).train()
    before = copy.deepcopy(teacher.state_dict())
    x, y = digits.train.x[:50], digits.train.y[:50]
    loss = losses.distillation(teacher)
    value = loss(mlp, x, y)
    assert value.equal(loss(mlp, x, y))
    value.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in mlp.parameters())
    assert teacher.training
    assert all(w.equal(before[k]) for k, w in teacher.state_dict().items())
    with torch.no_grad():
        teacher[1].weight.zero_()
    assert loss(mlp, x, y).equal(value)


def test_the_teacher_sees_the_augmented_images(mlp, digits):
    seen = []

    class Teacher(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x.new_zeros(len(x), 10)

    fit(mlp, digits.train, epochs=1, lr=1e-3, batch_size=1_197, progress=False,
        augment=lambda x, generator: x + 7, loss=losses.distillation(Teacher()))  # fmt: skip
    assert seen[0].min() >= 7


REAL = "allowed: a number in (0, inf)"


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"temperature": 0}, ValueError, f"temperature is 0; {REAL}"),
        ({"temperature": float("nan")}, ValueError, f"temperature is nan; {REAL}"),
        ({"temperature": float("inf")}, ValueError, f"temperature is inf; {REAL}"),
        ({"temperature": "hot"}, TypeError, f"temperature is 'hot'; {REAL}"),
        ({"alpha": -0.1}, ValueError, "alpha is -0.1; allowed: a number in [0, 1]"),
        ({"alpha": 1.1}, ValueError, "alpha is 1.1; allowed: a number in [0, 1]"),
        ({"teacher": "lenet"}, TypeError, "teacher is a str; allowed: a torch.nn.Module"),
    ],
)
def test_distillation_refuses(mlp, refuses, settings, error, said):
    refuses(error, said, losses.distillation, **({"teacher": mlp} | settings))


# hints


def test_a_hint_is_half_the_squared_distance_of_two_layers(mlp, trained, digits):
    x, y, teacher = digits.train.x[:20], digits.train.y[:20], copy.deepcopy(trained)
    teacher.zero_grad()
    value = losses.hint(teacher, "1", "1")(mlp, x, y)
    distances = [(teacher[1](i) - mlp[1](i)).square().sum().item() for i in x.flatten(1)]
    assert value.item() == pytest.approx(sum(distances) / 40, rel=1e-5)
    value.backward()
    assert mlp[1].weight.grad.any()
    assert mlp[3].weight.grad is None  # what lies behind the layer learns nothing
    assert all(p.grad is None for p in teacher.parameters())


class Narrow(nn.Module):
    """A student of width 8 that carries a regressor to width 32, which its forward does not use."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.regressor = nn.Linear(64, 8), nn.Linear(8, 10), nn.Linear(8, 32)

    def forward(self, x):
        return self.fc2(self.fc1(x.flatten(1)).relu())


def test_a_hint_through_a_regressor_trains_both_up_to_the_layer(trained, digits):
    loss, student = losses.hint(trained, "1", "fc1", regressor="regressor"), Narrow()
    sgd = torch.optim.SGD  # without weight decay: what has no gradient stays
    taught, _ = fit(student, digits.train, epochs=3, lr=3e-3, loss=loss, optimizer=sgd, progress=False)
    x, y = digits.validation.x, digits.validation.y
    assert loss(taught, x, y) < 0.5 * loss(student, x, y)
    moved = [k for k, w in taught.state_dict().items() if not w.equal(student.state_dict()[k])]
    assert moved == ["fc1.weight", "fc1.bias", "regressor.weight", "regressor.bias"]


def test_a_hint_refuses_widths_that_differ(trained, refuses, digits):
    said = "student_layer 'fc1' gives (8,) where '1' of the teacher gives (32,); allowed: equal shapes, by a regressor"
    loss = losses.hint(trained, "1", "fc1")
    refuses(ValueError, said, loss, Narrow(), digits.train.x[:20], digits.train.y[:20])


def test_hint_refuses(mlp, refuses, digits):
    names = "'', '0', '1', '2', '3'"
    refuses(ValueError, f"teacher_layer is 'fc'; allowed: {names}", losses.hint, mlp, "fc", "1")
    loss = losses.hint(mlp, "1", "fc")
    refuses(ValueError, f"layer is 'fc'; allowed: {names}", loss, mlp, digits.train.x[:2], digits.train.y[:2])
    refuses(TypeError, "teacher is a str; allowed: a torch.nn.Module", losses.hint, "lenet", "1", "1")


def test_a_teacher_that_uses_view_or_keeps_what_it_computed_teaches(digits):
    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(144, 10)

        def forward(self, x):
            self.last = self.conv(x).view(-1, 144)
            return self.fc(self.last)

    torch.manual_seed(0)
    teacher, student = Viewed(), Viewed()
    teacher(digits.test.x)
    flat = nn.Sequential(copy.deepcopy(teacher.conv), nn.Flatten(), copy.deepcopy(teacher.fc))
    ours, plain = (fit(student, digits.train, epochs=1, lr=1e-2, loss=losses.distillation(t), progress=False)[0]
                   for t in (teacher, flat))  # fmt: skip
    assert torch.allclose(ours.fc.weight, plain.fc.weight, atol=1e-4)
    assert not torch.allclose(ours.fc.weight, student.fc.weight, atol=1e-2)
