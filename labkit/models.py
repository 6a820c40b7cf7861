"""The architectures, one screen each, as plain modules without any compression.

The two LeNets have the sizes of the Caffe models that pruning papers report on, so the figures are comparable.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import _check


class LeNet300100(nn.Module):
    """Two hidden layers, 300 and 100 wide: 266,610 parameters at 28×28 (LeCun et al. 1998)."""

    def __init__(self, inputs: int = 784, classes: int = 10) -> None:
        _check.sizes(inputs=inputs, classes=classes)
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
    """Caffe's LeNet-5: 431,080 parameters; no ReLU after the convolutions, as in Caffe's definition."""

    def __init__(self, classes: int = 10) -> None:
        _check.sizes(classes=classes)
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
    """Two 3×3 convolutions and an identity shortcut, which subsamples and pads with zeros where the width grows."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        _check.sizes(channels_in=channels_in, channels=channels, stride=stride)
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
        _check.sizes(classes=classes)
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


class InvertedResidual(nn.Module):
    """Widen by 1×1, filter each channel by its own 3×3, narrow by 1×1; with an identity shortcut if the shape stays."""

    def __init__(self, channels_in: int, channels: int, stride: int, expansion: int) -> None:
        _check.sizes(channels_in=channels_in, channels=channels, stride=stride, expansion=expansion)
        super().__init__()
        wide = expansion * channels_in
        self.expand = nn.Conv2d(channels_in, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.project = nn.Conv2d(wide, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.keeps_shape = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, c_in, h, w) to (n, c, h / stride, w / stride); no ReLU after the last convolution."""
        out = F.relu6(self.bn1(self.expand(x)))
        out = F.relu6(self.bn2(self.depthwise(out)))
        out = self.bn3(self.project(out))
        return x + out if self.keeps_shape else out


class MobileNet(nn.Module):
    """Inverted residuals in the manner of MobileNetV2, for 32×32 images: 80,362 parameters (Sandler et al. 2018)."""

    def __init__(self, classes: int = 10) -> None:
        _check.sizes(classes=classes)
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        # width in, width out, stride, expansion
        shapes = [(16, 24, 1, 2), (24, 40, 2, 4), (40, 40, 1, 4), (40, 64, 1, 4), (64, 64, 1, 4)]
        self.blocks = nn.Sequential(*(InvertedResidual(*shape) for shape in shapes))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, 32, 32) to logits (n, classes)."""
        x = self.blocks(F.relu6(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class Attention(nn.Module):
    """Each token attends to all others: softmax(q kᵀ / √d) v in each head, then a projection (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        _check.sizes(width=width, heads=heads)
        _check.flags(causal=causal)
        if width % heads:
            raise ValueError(f"heads is {heads}; allowed: a number that divides width, {width}")
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.causal = heads, causal  # causal: a token attends only to itself and those before it

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, tokens, width) to the same shape."""
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)  # (n, heads, tokens, width / heads)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention, then two linear layers for each token; LayerNorm before and an identity shortcut around both."""

    def __init__(self, width: int, heads: int, hidden: int, causal: bool = False) -> None:
        _check.sizes(width=width, heads=heads, hidden=hidden)
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, causal)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, tokens, width) to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """A vision transformer for 28×28 images, 16 patches of 7×7: 138,890 parameters (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int = 64, depth: int = 4, heads: int = 4, classes: int = 10) -> None:
        _check.sizes(width=width, depth=depth, heads=heads, classes=classes)
        super().__init__()
        self.patches = nn.Conv2d(1, width, kernel_size=7, stride=7)
        self.position = nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, 2 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 1, 28, 28) to logits (n, classes); the head reads the mean over the tokens."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position  # (n, 16, width)
        return self.fc(self.norm(self.blocks(x)).mean(1))


class CharTransformer(nn.Module):
    """A causal transformer that predicts the next character from the last 48: 170,705 parameters (Radford 2018)."""

    def __init__(self, classes: int = 65, length: int = 48, width: int = 80, depth: int = 3, heads: int = 4) -> None:
        _check.sizes(classes=classes, length=length, width=width, depth=depth, heads=heads)
        super().__init__()
        self.characters = nn.Embedding(classes, width)
        nn.init.normal_(self.characters.weight, std=0.02)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, 2 * width, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Character indices (n, length or less), int64, to the logits (n, classes) of the next character."""
        x = self.characters(x) + self.position[: x.shape[1]]  # (n, length, width)
        return self.fc(self.norm(self.blocks(x)))[:, -1]


def mlp(*widths: int, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected layers with ReLU between them; `mlp(784, 32, 10)` takes 28×28 images to 10 logits.

    `widths` are inputs, hidden layers, classes: two or more, each at least 1, or ValueError. `dropout` in [0, 1) is the
    probability that a hidden unit is left out of a training step; the others are then multiplied by 1 / (1 - dropout)
    (Srivastava et al. 2014). Nothing is left out in evaluation mode.
    """
    _check.whole("the number of widths", len(widths), 2, 1_000)
    for width in widths:
        _check.whole("widths", width, 1, 10_000_000)
    _check.number("dropout", dropout, 0, 1, open_high=True)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


ARCHITECTURES: dict[str, type[nn.Module]] = {
    "lenet-300-100": LeNet300100,
    "lenet-5": LeNet5,
    "resnet-20": ResNet20,
    "mobilenet": MobileNet,
    "vit": ViT,
    "char-transformer": CharTransformer,
}


def build(name: str) -> nn.Module:
    """A newly initialized architecture by its name.

    Args:
        name: a key of ARCHITECTURES, such as "lenet-300-100", "lenet-5" or "resnet-20".

    Returns:
        A new model, whose weights torch's global generator draws.

    Raises:
        ValueError: another name.

    Example:
        >>> model = lk.build("lenet-5")
        >>> sum(p.numel() for p in model.parameters()), model(torch.zeros(2, 1, 28, 28)).shape
        (431080, torch.Size([2, 10]))
    """
    _check.one_of("name", name, ARCHITECTURES)
    return ARCHITECTURES[name]()


def reinitialized(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A new model of the same shapes with new weights, as its layers draw them."""
    _check.kind(nn.Module, model=model)
    seed = _check.seed(seed)
    model = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in model.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
    return model
