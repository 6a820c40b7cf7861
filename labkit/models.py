"""The architectures, one screen each, as plain modules that know nothing of compression.

The two LeNets have the sizes of the Caffe models that pruning papers report on, so figures compare.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from labkit import _check


class LeNet300100(nn.Module):
    """Two hidden layers, 300 and 100 wide: 266,610 parameters at 28×28 (LeCun et al. 1998)."""

    def __init__(self, inputs: int = 784, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, c, h, w) to logits (n, classes)."""
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """Caffe's LeNet-5: 431,080 parameters; no ReLU behind the convolutions, as in Caffe's definition."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, kernel_size=5)
        self.conv2 = nn.Conv2d(20, 50, kernel_size=5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 1, 28, 28) to logits (n, classes)."""
        x = F.max_pool2d(self.conv1(x), 2)  # (n, 20, 12, 12)
        x = F.max_pool2d(self.conv2(x), 2)  # (n, 50, 4, 4)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside an identity; a step in width subsamples the identity and pads it with zeros."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, c_in, h, w) to (n, c, h / stride, w / stride)."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        identity = x[:, :, :: self.stride, :: self.stride]
        identity = F.pad(identity, (0, 0, 0, 0, 0, out.shape[1] - identity.shape[1]))
        return F.relu(out + identity)


class ResNet20(nn.Module):
    """ResNet-20 for 32×32 images, shortcut option A: 269,722 parameters (He et al. 2015, section 4.2)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        steps = zip(widths[:-1], widths[1:], strict=True)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b, stride=b // a) for a, b in steps))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, 32, 32) to logits (n, classes)."""
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


def mlp(*widths: int) -> nn.Sequential:
    """Fully connected layers with ReLU between them; `mlp(784, 32, 10)` takes 28×28 images to 10 logits.

    `widths` are inputs, hidden layers, classes: two or more, each at least 1, or ValueError.
    """
    _check.whole("the number of widths", len(widths), 2, 1_000)
    for width in widths:
        _check.whole("widths", width, 1, 10_000_000)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


ARCHITECTURES: dict[str, type[nn.Module]] = {"lenet-300-100": LeNet300100, "lenet-5": LeNet5, "resnet-20": ResNet20}


def build(name: str) -> nn.Module:
    """A freshly initialised architecture by its name (a key of ARCHITECTURES); ValueError for another."""
    _check.one_of("name", name, ARCHITECTURES)
    return ARCHITECTURES[name]()
