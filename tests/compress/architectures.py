"""Small networks in the style of well-known families, written as their authors write them; seeded and in float64."""

# ruff: noqa: E501 - one network, or one operation, is read as one line

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

IMAGE, SIGNAL, VIDEO, ROW, SEQUENCE = (2, 3, 16, 16), (2, 4, 24), (2, 3, 8, 8, 8), (4, 12), (2, 6, 8)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple]] = {}


def network(name, *shapes):
    """Register a network under its name, with the shapes of its inputs; a shape of ("words", …) is one of integers."""

    def register(build):
        NETWORKS[name] = (build, shapes or (IMAGE,))
        return build

    return register


def build(name):
    """The network, in evaluation mode with lively BatchNorms and biases, and an example."""
    make, shapes = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        model = make().double()
        for value in model.parameters():
            value.data += 1e-6 * torch.randn(value.shape).double()  # no two numbers are equal
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
                for value in module.parameters(recurse=False):
                    value.data.uniform_(0.5, 1.5)
                if getattr(module, "running_var", None) is not None:
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2)
            elif getattr(module, "bias", None) is not None and isinstance(module.bias, Tensor):
                module.bias.data.normal_(0, 0.3)
        example = tuple(
            torch.randint(20, shape[1:]) if shape[0] == "words" else torch.randn(shape).double() for shape in shapes
        )
    return model.eval(), example[0] if len(example) == 1 else example


def conv(a, b, k=3, s=1, g=1, act=True, norm=True):
    """Convolution, BatchNorm, ReLU."""
    layers = [nn.Conv2d(a, b, k, s, k // 2, groups=g, bias=not norm)]
    layers += [nn.BatchNorm2d(b)] if norm else []
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if act else []))


def head(width, classes=5):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


class Residual(nn.Module):
    def __init__(self, body, shortcut=None, act=None):
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut or nn.Identity(), act or nn.Identity()

    def forward(self, x):
        return self.act(self.body(x) + self.shortcut(x))


class Lambda(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, *x):
        return self.function(*self.parts, *x)


# --- convolutional classifiers ----------------------------------------------------------------------------------------


@network("LeNet")
def lenet():
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 3),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 20),
        nn.Tanh(),
        nn.Linear(20, 5),
    )


@network("VGG")
def vgg():
    return nn.Sequential(
        conv(3, 8, norm=False),
        conv(8, 8, norm=False),
        nn.MaxPool2d(2),
        conv(8, 12),
        conv(12, 12),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 16),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(16, 5),
    )


@network("AlexNet")
def alexnet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, 8, 5, 2, 2),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(3, 2),
                nn.Conv2d(8, 12, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(12, 8, 3, padding=1),
                nn.ReLU(),
            )
            self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
            self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(72, 16), nn.ReLU(inplace=True), nn.Linear(16, 5))

        def forward(self, x):
            x = self.avgpool(self.features(x))
            return self.classifier(torch.flatten(x, 1))

    return Net()


@network("AlexNet with response normalization")
def alexnet_lrn():
    return nn.Sequential(conv(3, 8, norm=False), nn.LocalResponseNorm(3), conv(8, 12), conv(12, 8), head(8))


@network("tutorial CNN with a view of a fixed size")
def tutorial():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 3)
            self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 2 * 2, 20), nn.Linear(20, 12), nn.Linear(12, 5)

        def forward(self, x):
            x = self.pool(F.relu(self.conv1(x)))
            x = self.pool(F.relu(self.conv2(x)))
            x = x.view(-1, 16 * 2 * 2)
            return F.log_softmax(self.fc3(F.relu(self.fc2(F.relu(self.fc1(x))))), dim=1)

    return Net()


@network("NiN")
def nin():
    return nn.Sequential(
        conv(3, 8, 5),
        conv(8, 8, 1),
        nn.MaxPool2d(3, 2, 1),
        nn.Dropout2d(),
        conv(8, 12),
        conv(12, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def basic(a, b, s=1):
    short = conv(a, b, 1, s, act=False) if s > 1 or a != b else None
    return Residual(nn.Sequential(conv(a, b, 3, s), conv(b, b, act=False)), short, nn.ReLU())


def bottleneck(a, b, s=1, g=1, wide=1):
    m = b // 4 * wide
    body = nn.Sequential(conv(a, m, 1), conv(m, m, 3, s, g), conv(m, b, 1, act=False))
    return Residual(body, conv(a, b, 1, s, act=False) if a != b or s > 1 else None, nn.ReLU(inplace=True))


@network("ResNet, basic blocks")
def resnet():
    return nn.Sequential(conv(3, 8), basic(8, 8), basic(8, 16, 2), basic(16, 16), head(16))


@network("ResNet, bottlenecks")
def resnet50():
    return nn.Sequential(conv(3, 16), nn.MaxPool2d(3, 2, 1), bottleneck(16, 32), bottleneck(32, 32, 2), head(32))


@network("ResNet, zero-padded shortcuts")
def resnet_a():
    class Block(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.one, self.two = conv(a, b, 3, b // a), conv(b, b, act=False)

        def forward(self, x):
            out = self.two(self.one(x))
            s = x.shape[-1] // out.shape[-1]
            x = F.pad(x[:, :, ::s, ::s], (0, 0, 0, 0, 0, out.size(1) - x.size(1)))
            return F.relu(out + x)

    return nn.Sequential(conv(3, 8), Block(8, 8), Block(8, 16), Block(16, 16), head(16))


@network("pre-activation ResNet")
def preact():
    def body(a, b):
        return nn.Sequential(
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.Conv2d(a, b, 3, 1, 1),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.Conv2d(b, a, 3, 1, 1),
        )

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), Residual(body(8, 12)), Residual(body(8, 12)), nn.BatchNorm2d(8), head(8)
    )


@network("WideResNet")
def wide():
    def block(a, b, s):
        body = nn.Sequential(
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.Conv2d(a, b, 3, s, 1, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Conv2d(b, b, 3, 1, 1, bias=False),
        )
        return Residual(body, nn.Conv2d(a, b, 1, s, bias=False))

    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1), block(4, 16, 1), block(16, 32, 2), nn.BatchNorm2d(32), nn.ReLU(), head(32)
    )


@network("ResNet with stochastic depth")
def stochastic():
    class Drop(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, x):
            if not self.training:
                return x + 0.8 * self.body(x)
            keep = x.new_empty(len(x), 1, 1, 1).bernoulli_(0.8)
            return x + keep * self.body(x)

    return nn.Sequential(conv(3, 8), Drop(conv(8, 8)), Drop(nn.Sequential(conv(8, 12), conv(12, 8))), head(8))


@network("ResNeXt")
def resnext():
    return nn.Sequential(conv(3, 16), bottleneck(16, 32, 1, 4, 2), bottleneck(32, 32, 2, 4, 2), head(32))


@network("RegNet")
def regnet():
    return nn.Sequential(conv(3, 16, 3, 2), bottleneck(16, 24, 2, 3, 4), bottleneck(24, 24, 1, 3, 4), head(24))


class SE(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pool, self.fc = (
            nn.AdaptiveAvgPool2d(1),
            nn.Sequential(
                nn.Linear(width, width // 2), nn.ReLU(inplace=True), nn.Linear(width // 2, width), nn.Sigmoid()
            ),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


@network("SE-ResNet")
def senet():
    body = nn.Sequential(conv(8, 8), conv(8, 8, act=False), SE(8))
    return nn.Sequential(conv(3, 8), Residual(body, act=nn.ReLU()), head(8))


@network("CBAM")
def cbam():
    def attend(shared, spatial, x):
        gate = shared(x.mean((2, 3), keepdim=True)) + shared(x.amax((2, 3), keepdim=True))
        x = x * gate.sigmoid()
        flat = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return x * spatial(flat).sigmoid()

    shared = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1))
    return nn.Sequential(conv(3, 8), Lambda(attend, shared, nn.Conv2d(2, 1, 7, padding=3)), conv(8, 12), head(12))


@network("DenseNet")
def densenet():
    class Layer(nn.Module):
        def __init__(self, a, growth):
            super().__init__()
            self.norm1, self.conv1 = nn.BatchNorm2d(a), nn.Conv2d(a, 2 * growth, 1, bias=False)
            self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, 1, 1, bias=False)

        def forward(self, x):
            x = torch.cat(x, 1) if isinstance(x, list) else x
            return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))

    class Block(nn.Module):
        def __init__(self, a):
            super().__init__()
            self.layers = nn.ModuleList([Layer(a + 4 * i, 4) for i in range(3)])

        def forward(self, x):
            found = [x]
            for layer in self.layers:
                found.append(layer(found))
            return torch.cat(found, 1)

    between = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), Block(8), between, Block(10), nn.BatchNorm2d(22), nn.ReLU(), head(22)
    )


@network("GoogLeNet")
def googlenet():
    class Inception(nn.Module):
        def __init__(self, a):
            super().__init__()
            self.branch1 = conv(a, 4, 1)
            self.branch2 = nn.Sequential(conv(a, 4, 1), conv(4, 8))
            self.branch3 = nn.Sequential(conv(a, 2, 1), conv(2, 4, 5))
            self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(a, 4, 1))

        def forward(self, x):
            return torch.cat([b(x) for b in (self.branch1, self.branch2, self.branch3, self.branch4)], 1)

    return nn.Sequential(
        conv(3, 8), Inception(8), nn.MaxPool2d(3, 2, ceil_mode=True), Inception(20), nn.Dropout(), head(20)
    )


@network("Inception v3, with an auxiliary output")
def inception3():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.wide, self.tall = (
                conv(3, 8),
                nn.Conv2d(8, 6, (1, 3), padding=(0, 1)),
                nn.Conv2d(8, 6, (3, 1), padding=(1, 0)),
            )
            self.last, self.main, self.aux = conv(12, 10), head(10), head(12)

        def forward(self, x):
            x = self.stem(x)
            x = F.relu(torch.cat((self.wide(x), self.tall(x)), dim=1))
            return {"logits": self.main(self.last(x)), "aux": self.aux(x)}

    return Net()


@network("SqueezeNet")
def squeezenet():
    def fire(squeeze, one, three, x):
        x = squeeze(x)
        return torch.cat([one(x), three(x)], 1)

    def block(a, s, e):
        return Lambda(fire, conv(a, s, 1, norm=False), conv(s, e, 1, norm=False), conv(s, e, 3, norm=False))

    return nn.Sequential(
        conv(3, 8, norm=False),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        block(8, 4, 6),
        block(12, 4, 8),
        nn.Dropout(),
        nn.Conv2d(16, 5, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


@network("MobileNet v1")
def mobilenet1():
    def separable(a, b, s):
        return nn.Sequential(conv(a, a, 3, s, a), conv(a, b, 1))

    return nn.Sequential(conv(3, 8, 3, 2), separable(8, 16, 1), separable(16, 24, 2), head(24))


def inverted(a, b, s, e, act=nn.ReLU6, gate=None):
    m = a * e
    body = nn.Sequential(
        nn.Conv2d(a, m, 1, bias=False),
        nn.BatchNorm2d(m),
        act(),
        nn.Conv2d(m, m, 3, s, 1, groups=m, bias=False),
        nn.BatchNorm2d(m),
        act(),
        gate(m) if gate else nn.Identity(),
        nn.Conv2d(m, b, 1, bias=False),
        nn.BatchNorm2d(b),
    )
    return Residual(body) if a == b and s == 1 else body


@network("MobileNet v2")
def mobilenet2():
    return nn.Sequential(
        conv(3, 8, 3, 2), inverted(8, 12, 1, 2), inverted(12, 12, 1, 3), inverted(12, 16, 2, 2), head(16)
    )


@network("MobileNet v3")
def mobilenet3():
    class Gate(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.fc1, self.fc2 = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

        def forward(self, x):
            scale = F.adaptive_avg_pool2d(x, 1)
            return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(scale), inplace=True)), inplace=True)

    return nn.Sequential(
        conv(3, 8),
        inverted(8, 8, 1, 2, nn.ReLU, Gate),
        inverted(8, 12, 2, 2, nn.Hardswish, Gate),
        nn.Hardswish(),
        head(12),
    )


@network("EfficientNet")
def efficientnet():
    return nn.Sequential(conv(3, 8), inverted(8, 8, 1, 2, nn.SiLU, SE), inverted(8, 12, 2, 2, nn.SiLU, SE), head(12))


@network("ShuffleNet v1")
def shufflenet1():
    def shuffle(x, groups=4):
        n, c, h, w = x.shape
        return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)

    unit = nn.Sequential(
        conv(16, 16, 1, g=4), Lambda(shuffle), conv(16, 16, 3, g=16, act=False), conv(16, 16, 1, g=4, act=False)
    )
    return nn.Sequential(conv(3, 16), Residual(unit, act=nn.ReLU()), head(16))


@network("ShuffleNet v2")
def shufflenet2():
    def unit(branch, x):
        left, right = x.chunk(2, dim=1)
        return F.channel_shuffle(torch.cat((left, branch(right)), dim=1), 2)

    def branch():
        return nn.Sequential(conv(8, 8, 1), conv(8, 8, 3, g=8, act=False), conv(8, 8, 1))

    return nn.Sequential(conv(3, 16), Lambda(unit, branch()), Lambda(unit, branch()), conv(16, 20, 1), head(20))


@network("GhostNet")
def ghostnet():
    def ghost(primary, cheap, x):
        x = primary(x)
        return torch.cat([x, cheap(x)], dim=1)

    return nn.Sequential(
        conv(3, 8),
        Lambda(ghost, conv(8, 8, 1), conv(8, 8, 3, g=8)),
        Lambda(ghost, conv(16, 6, 1), conv(6, 6, 3, g=6)),
        head(12),
    )


@network("ConvNeXt")
def convnext():
    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.dwconv, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, eps=1e-6)
            self.pwconv1, self.act, self.pwconv2 = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            self.gamma = nn.Parameter(torch.rand(width))

        def forward(self, input):
            x = self.dwconv(input).permute(0, 2, 3, 1)
            x = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(x))))
            return input + x.permute(0, 3, 1, 2)

    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), Block(8), Block(8), head(8))


@network("ConvNeXt with BatchNorm and layer scale")
def convnext_bn():
    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.dw, self.norm = nn.Conv2d(width, width, 5, padding=2, groups=width), nn.BatchNorm2d(width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.gamma = nn.Parameter(torch.rand(width, 1, 1))

        def forward(self, x):
            y = self.norm(self.dw(x)).permute(0, 2, 3, 1)
            return x + self.gamma * self.down(F.gelu(self.up(y))).movedim(-1, 1)

    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), Block(8), Block(8), head(8))


@network("ConvMixer")
def convmixer():
    def mix():
        return nn.Sequential(
            Residual(nn.Sequential(nn.Conv2d(8, 8, 5, groups=8, padding="same"), nn.GELU(), nn.BatchNorm2d(8))),
            nn.Conv2d(8, 8, 1),
            nn.GELU(),
            nn.BatchNorm2d(8),
        )

    return nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.GELU(), nn.BatchNorm2d(8), mix(), mix(), head(8))


@network("CSPNet")
def cspnet():
    def stage(blocks, last, x):
        c = x.shape[1]
        first, second = torch.split(x, [c // 2, c - c // 2], dim=1)
        return last(torch.cat([first, blocks(second)], 1))

    return nn.Sequential(
        conv(3, 16), Lambda(stage, nn.Sequential(basic(8, 8), conv(8, 8, 1)), conv(16, 12, 1)), head(12)
    )


@network("Res2Net")
def res2net():
    class Block(nn.Module):
        def __init__(self, width, scale=4):
            super().__init__()
            self.scale, self.one, self.last = scale, conv(width, width, 1), conv(width, width, 1, act=False)
            self.convs = nn.ModuleList([conv(width // scale, width // scale) for _ in range(scale - 1)])

        def forward(self, x):
            pieces = torch.chunk(self.one(x), self.scale, 1)
            found, y = [pieces[0]], 0
            for i, layer in enumerate(self.convs):
                y = layer(pieces[i + 1] + y)
                found.append(y)
            return F.relu(x + self.last(torch.cat(found, 1)))

    return nn.Sequential(conv(3, 16), Block(16), head(16))


@network("HRNet")
def hrnet():
    def fuse(high, low, down, up, x):
        a, b = high(x), low(x)
        return F.relu(a + F.interpolate(up(b), size=a.shape[-2:], mode="nearest")), F.relu(down(a) + b)

    def join(main, side, pair):
        a, b = pair
        return main(a).mean((2, 3)) + side(b).mean((2, 3))

    first = Lambda(fuse, conv(8, 8), conv(8, 16, 3, 2), conv(8, 16, 3, 2, act=False), conv(16, 8, 1, act=False))
    return nn.Sequential(conv(3, 8), first, Lambda(join, conv(8, 12), conv(16, 12)), nn.Linear(12, 5))


@network("maxout")
def maxout():
    def pieces(layer, x):
        x = layer(x)
        return x.view(x.shape[0], 2, -1, *x.shape[2:]).max(1).values

    return nn.Sequential(Lambda(pieces, nn.Conv2d(3, 16, 3)), Lambda(pieces, nn.Conv2d(8, 12, 3)), head(6))


@network("PReLU net")
def prelu():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 12, 3), nn.PReLU(), nn.BatchNorm2d(12), nn.PReLU(12), head(12)
    )


@network("GroupNorm net")
def groupnorm():
    def block(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.SiLU())

    return nn.Sequential(block(3, 16), block(16, 16), Residual(block(16, 16)), head(16))


@network("InstanceNorm style transfer net")
def style():
    def block(a, b, s=1):
        return nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(a, b, 3, s), nn.InstanceNorm2d(b, affine=True), nn.ReLU())

    return nn.Sequential(
        block(3, 8),
        block(8, 12, 2),
        Residual(block(12, 12)),
        nn.Upsample(scale_factor=2),
        block(12, 8),
        nn.InstanceNorm2d(8),
        nn.ReflectionPad2d(2),
        nn.Conv2d(8, 3, 5),
        nn.Tanh(),
    )


@network("dilated convolutions (DeepLab ASPP)")
def deeplab():
    class ASPP(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.rates = nn.ModuleList([nn.Conv2d(a, b, 3, padding=r, dilation=r) for r in (1, 2, 3)])
            self.pool, self.last = (
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(a, b, 1), nn.ReLU()),
                conv(4 * b, b, 1),
            )

        def forward(self, x):
            found = [layer(x).relu() for layer in self.rates]
            found.append(F.interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear", align_corners=False))
            return self.last(torch.cat(found, dim=1))

    return nn.Sequential(conv(3, 8, 3, 2), ASPP(8, 6), nn.Conv2d(6, 4, 1), nn.Upsample(scale_factor=2, mode="bilinear"))


# --- images to images -------------------------------------------------------------------------------------------------


@network("UNet")
def unet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.down1, self.down2, self.bottom = conv(3, 8), conv(8, 12), conv(12, 16)
            self.up2, self.dec2 = nn.ConvTranspose2d(16, 12, 2, 2), conv(24, 12)
            self.up1, self.dec1, self.out = nn.ConvTranspose2d(12, 8, 2, 2), conv(16, 8), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            a = self.down1(x)
            b = self.down2(F.max_pool2d(a, 2))
            y = self.up2(self.bottom(F.max_pool2d(b, 2)))
            y = self.up1(self.dec2(torch.cat([b, y], 1)))
            dy = a.size(2) - y.size(2)
            y = F.pad(y, [0, 0, dy // 2, dy - dy // 2])
            return self.out(self.dec1(torch.cat([a, y], 1)))

    return Net()


@network("FPN")
def fpn():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c2, self.c3, self.c4 = conv(3, 8), conv(8, 12, 3, 2), conv(12, 16, 3, 2)
            self.lateral = nn.ModuleList([nn.Conv2d(c, 8, 1) for c in (8, 12, 16)])
            self.smooth, self.predict = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            c2 = self.c2(x)
            c3 = self.c3(c2)
            p4 = self.lateral[2](self.c4(c3))
            p3 = self.lateral[1](c3) + F.interpolate(p4, scale_factor=2.0)
            p2 = self.lateral[0](c2) + F.interpolate(p3, scale_factor=2.0)
            return [self.predict(F.relu(self.smooth(p))) for p in (p2, p3, p4)]

    return Net()


@network("SegNet, unpooled by indices")
def segnet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = conv(3, 8), conv(8, 12), conv(12, 8), nn.Conv2d(8, 2, 3, padding=1)

        def forward(self, x):
            x, i = F.max_pool2d(self.a(x), 2, return_indices=True)
            x = self.c(self.b(x))
            return self.d(F.max_unpool2d(x, i, 2))

    return Net()


@network("convolutional autoencoder")
def autoencoder():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(12, 4, 1),
        nn.ConvTranspose2d(4, 12, 3, 2, 1, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 3, 4, 2, 1),
        nn.Sigmoid(),
    )


@network("VAE encoder")
def vae():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.mu, self.log_var = (
                nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2), nn.Flatten()),
                nn.Linear(192, 4),
                nn.Linear(192, 4),
            )

        def forward(self, x):
            x = self.features(x)
            mu, log_var = self.mu(x), self.log_var(x).clamp(-5, 5)
            if self.training:
                return mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
            return mu, log_var

    return Net()


@network("DCGAN generator", (2, 10))
def generator():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(10, 16 * 2 * 2)
            self.body = nn.Sequential(
                nn.BatchNorm2d(16),
                nn.ConvTranspose2d(16, 12, 4, 2, 1, bias=False),
                nn.BatchNorm2d(12),
                nn.ReLU(True),
                nn.ConvTranspose2d(12, 3, 4, 2, 1),
                nn.Tanh(),
            )

        def forward(self, z):
            return self.body(self.fc(z).view(z.size(0), -1, 2, 2))

    return Net()


@network("DCGAN generator with Unflatten", (2, 10))
def generator2():
    return nn.Sequential(
        nn.Linear(10, 64),
        nn.ReLU(),
        nn.Unflatten(1, (16, 2, 2)),
        nn.ConvTranspose2d(16, 12, 4, 2, 1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 3, 4, 2, 1),
        nn.Tanh(),
    )


@network("DCGAN discriminator")
def discriminator():
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1),
        nn.LeakyReLU(0.2, True),
        nn.Conv2d(8, 12, 4, 2, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.LeakyReLU(0.2, True),
        nn.Conv2d(12, 1, 4),
        Lambda(lambda x: x.squeeze()),
    )


@network("SpectralNorm discriminator")
def spectral():
    def layer(a, b):
        return nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.1))

    return nn.Sequential(layer(3, 8), layer(8, 12), nn.Flatten(), parametrizations.spectral_norm(nn.Linear(192, 1)))


@network("SRCNN")
def srcnn():
    return nn.Sequential(
        nn.Conv2d(3, 16, 9, padding=4), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 5, padding=2)
    )


@network("ESPCN, pixel shuffle")
def espcn():
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2),
        nn.Tanh(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.PixelShuffle(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.PixelShuffle(2),
    )


@network("spatial transformer")
def stn():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.localization = nn.Sequential(
                nn.Conv2d(3, 8, 5),
                nn.MaxPool2d(2),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(288, 12),
                nn.ReLU(),
                nn.Linear(12, 6),
            )
            self.features, self.head = conv(3, 8), head(8)

        def forward(self, x):
            theta = self.localization(x).view(-1, 2, 3)
            grid = F.affine_grid(theta, x.size(), align_corners=False)
            return self.head(self.features(F.grid_sample(x, grid, align_corners=False)))

    return Net()


# --- signals, videos, points ------------------------------------------------------------------------------------------


@network("1-D CNN", SIGNAL)
def cnn1d():
    return nn.Sequential(
        nn.Conv1d(4, 8, 5),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 12, 3),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


@network("TCN", SIGNAL)
def tcn():
    class Block(nn.Module):
        def __init__(self, a, b, d):
            super().__init__()
            self.conv1 = parametrizations.weight_norm(nn.Conv1d(a, b, 3, padding=2 * d, dilation=d))
            self.conv2 = parametrizations.weight_norm(nn.Conv1d(b, b, 3, padding=2 * d, dilation=d))
            self.down, self.cut = nn.Conv1d(a, b, 1) if a != b else None, 2 * d

        def forward(self, x):
            y = F.relu(self.conv1(x)[:, :, : -self.cut].contiguous())
            y = F.relu(self.conv2(y)[:, :, : -self.cut])
            return F.relu(y + (x if self.down is None else self.down(x)))

    return nn.Sequential(Block(4, 8, 1), Block(8, 8, 2), Lambda(lambda x: x[:, :, -1]), nn.Linear(8, 5))


@network("WaveNet", SIGNAL)
def wavenet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.end = nn.Conv1d(4, 8, 1), nn.Conv1d(12, 5, 1)
            self.filters = nn.ModuleList([nn.Conv1d(8, 6, 2, dilation=2**i) for i in range(3)])
            self.gates = nn.ModuleList([nn.Conv1d(8, 6, 2, dilation=2**i) for i in range(3)])
            self.residuals = nn.ModuleList([nn.Conv1d(6, 8, 1) for _ in range(3)])
            self.skips = nn.ModuleList([nn.Conv1d(6, 12, 1) for _ in range(3)])

        def forward(self, x):
            x, skip = self.start(x), 0
            for f, g, r, s in zip(self.filters, self.gates, self.residuals, self.skips, strict=True):
                z = torch.tanh(f(x)) * torch.sigmoid(g(x))
                new = s(z)
                skip = new if isinstance(skip, int) else skip[:, :, -new.size(2) :] + new
                x = r(z) + x[..., -z.size(2) :]
            return self.end(F.relu(skip))

    return Net()


@network("C3D", VIDEO)
def c3d():
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool3d(2),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


@network("PointNet", (2, 3, 20))
def pointnet():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1, self.conv2, self.bn2 = (
                nn.Conv1d(3, 8, 1),
                nn.BatchNorm1d(8),
                nn.Conv1d(8, 16, 1),
                nn.BatchNorm1d(16),
            )
            self.local, self.fc1, self.bn3, self.fc2 = (
                nn.Conv1d(24, 12, 1),
                nn.Linear(12, 10),
                nn.BatchNorm1d(10),
                nn.Linear(10, 5),
            )

        def forward(self, x):
            n = x.size(2)
            local = F.relu(self.bn1(self.conv1(x)))
            pooled = torch.max(self.bn2(self.conv2(local)), 2, keepdim=True)[0]
            x = torch.cat([local, pooled.repeat(1, 1, n)], 1)
            x = torch.max(F.relu(self.local(x)), 2)[0].view(x.size(0), -1)
            return self.fc2(F.relu(self.bn3(self.fc1(x))))

    return Net()


# --- tokens and rows --------------------------------------------------------------------------------------------------


@network("MLP", ROW)
def plain_mlp():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 10), nn.GELU(), nn.Linear(10, 3))


@network("BatchNorm MLP", ROW)
def bn_mlp():
    return nn.Sequential(
        nn.Linear(12, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 10),
        nn.BatchNorm1d(10),
        nn.SELU(),
        nn.AlphaDropout(),
        nn.Linear(10, 3),
    )


@network("LayerNorm MLP", ROW)
def ln_mlp():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 10), nn.LayerNorm(10), nn.ReLU(), nn.Linear(10, 3))


@network("residual MLP", ROW)
def residual_mlp():
    def body():
        return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 16))

    return nn.Sequential(nn.Linear(12, 16), Residual(body()), Residual(body(), act=nn.ReLU()), nn.Linear(16, 3))


@network("highway", ROW)
def highway():
    def layer(h, t, x):
        gate = torch.sigmoid(t(x))
        return h(x).relu() * gate + x * (1 - gate)

    return nn.Sequential(
        nn.Linear(12, 16), *(Lambda(layer, nn.Linear(16, 16), nn.Linear(16, 16)) for _ in range(2)), nn.Linear(16, 3)
    )


@network("gated by halves", ROW)
def gated():
    def swiglu(up, down, x):
        a, b = up(x).chunk(2, dim=-1)
        return down(F.silu(a) * b)

    return nn.Sequential(
        nn.Linear(12, 16), nn.GLU(), Lambda(swiglu, nn.Linear(8, 24), nn.Linear(12, 8)), nn.Linear(8, 3)
    )


@network("mixture of experts", ROW)
def mixture():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(12, 3)
            self.experts = nn.ModuleList(
                [nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8)) for _ in range(3)]
            )
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            weights = F.softmax(self.gate(x), dim=1)
            found = torch.stack([expert(x) for expert in self.experts], dim=1)
            return self.out((weights.unsqueeze(-1) * found).sum(dim=1))

    return Net()


@network("siamese", ROW, ROW)
def siamese():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.out = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8)), nn.Linear(8, 1)

        def forward(self, a, b):
            return self.out(torch.abs(self.body(a) - self.body(b)))

    return Net()


@network("two inputs", IMAGE, (2, 6))
def two_inputs():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.table, self.out = (
                nn.Sequential(conv(3, 8), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
                nn.Linear(6, 10),
                nn.Linear(42, 5),
            )

        def forward(self, image, table):
            return self.out(torch.cat((self.image(image), F.relu(self.table(table))), dim=1))

    return Net()


@network("MLP-Mixer")
def mixer():
    class Block(nn.Module):
        def __init__(self, tokens, width):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.token = nn.Sequential(nn.Linear(tokens, 12), nn.GELU(), nn.Linear(12, tokens))
            self.channel = nn.Sequential(nn.Linear(width, 20), nn.GELU(), nn.Linear(20, width))

        def forward(self, x):
            x = x + self.token(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channel(self.norm2(x))

    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4),
        Lambda(lambda x: x.flatten(2).transpose(1, 2)),
        Block(16, 8),
        nn.LayerNorm(8),
        Lambda(lambda x: x.mean(1)),
        nn.Linear(8, 5),
    )


@network("ResMLP")
def resmlp():
    class Affine(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.alpha, self.beta = nn.Parameter(torch.rand(1, 1, width)), nn.Parameter(torch.rand(1, 1, width))

        def forward(self, x):
            return self.alpha * x + self.beta

    class Block(nn.Module):
        def __init__(self, tokens, width):
            super().__init__()
            self.one, self.two, self.token = Affine(width), Affine(width), nn.Linear(tokens, tokens)
            self.channel, self.gamma = (
                nn.Sequential(nn.Linear(width, 20), nn.GELU(), nn.Linear(20, width)),
                nn.Parameter(torch.rand(width)),
            )

        def forward(self, x):
            x = x + self.gamma * self.token(self.one(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channel(self.two(x))

    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4),
        Lambda(lambda x: x.flatten(2).transpose(1, 2)),
        Block(16, 8),
        Block(16, 8),
        Affine(8),
        Lambda(lambda x: x.mean(1)),
        nn.Linear(8, 5),
    )


@network("gMLP", SEQUENCE)
def gmlp():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.up, self.spatial, self.down = (
                nn.LayerNorm(8),
                nn.Linear(8, 24),
                nn.Conv1d(6, 6, 1),
                nn.Linear(12, 8),
            )

        def forward(self, x):
            u, v = F.gelu(self.up(self.norm(x))).chunk(2, dim=-1)
            return x + self.down(u * self.spatial(v))

    return nn.Sequential(Block(), Block(), Lambda(lambda x: x.mean(1)), nn.Linear(8, 3))


class Attention(nn.Module):
    """Fused projections, sizes from the input."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.scale = (width // heads) ** -0.5

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    def __init__(self, width, attention):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(width), attention, nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@network("ViT")
def vit():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.cls, self.pos = (
                nn.Conv2d(3, 8, 4, 4),
                nn.Parameter(torch.randn(1, 1, 8)),
                nn.Parameter(torch.randn(1, 17, 8)),
            )
            self.blocks, self.norm, self.head = (
                nn.Sequential(Block(8, Attention(8, 2)), Block(8, Attention(8, 2))),
                nn.LayerNorm(8),
                nn.Linear(8, 5),
            )

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.pos
            return self.head(self.norm(self.blocks(x))[:, 0])

    return Net()


@network("transformer whose heads may leave", SEQUENCE)
def heads():
    class Heads(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.size, (self.q, self.k, self.v, self.out) = width // heads, (nn.Linear(width, width) for _ in range(4))

        def forward(self, x):
            q, k, v = (f(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for f in (self.q, self.k, self.v))
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    return nn.Sequential(Block(8, Heads(8, 4)), nn.LayerNorm(8), Lambda(lambda x: x.mean(1)), nn.Linear(8, 3))


@network("nn.TransformerEncoderLayer", SEQUENCE)
def encoder():
    return nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True),
        Lambda(lambda x: x.mean(1)),
        nn.Linear(8, 3),
    )


@network("nn.MultiheadAttention", SEQUENCE)
def mha():
    def attend(attention, x):
        return x + attention(x, x, x, need_weights=False)[0]

    return nn.Sequential(
        nn.Linear(8, 8),
        Lambda(attend, nn.MultiheadAttention(8, 2, batch_first=True)),
        nn.Linear(8, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    )


@network("GPT", ("words", 2, 6))
def gpt():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(20, 8), nn.Embedding(6, 8)
            self.blocks, self.norm, self.head = (
                nn.Sequential(Block(8, Attention(8, 2))),
                nn.LayerNorm(8),
                nn.Linear(8, 20, bias=False),
            )
            self.head.weight = self.wte.weight

        def forward(self, words):
            x = self.wte(words) + self.wpe(torch.arange(words.size(1)))
            return self.head(self.norm(self.blocks(x)))

    return Net()


@network("TextCNN", ("words", 2, 12))
def textcnn():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.convs = nn.Embedding(20, 8), nn.ModuleList([nn.Conv1d(8, 6, k) for k in (2, 3, 4)])
            self.drop, self.fc = nn.Dropout(), nn.Linear(18, 3)

        def forward(self, x):
            x = self.words(x).transpose(1, 2)
            found = [F.max_pool1d(F.relu(c(x)), c(x).shape[2]).squeeze(2) for c in self.convs]
            return self.fc(self.drop(torch.cat(found, 1)))

    return Net()


@network("fastText", ("words", 2, 12))
def fasttext():
    return nn.Sequential(nn.EmbeddingBag(20, 12, mode="mean"), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


@network("CRNN")
def crnn():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cnn, self.rnn, self.out = (
                nn.Sequential(conv(3, 8), nn.MaxPool2d(2), conv(8, 4)),
                nn.LSTM(32, 8, bidirectional=True, batch_first=True),
                nn.Linear(16, 5),
            )

        def forward(self, x):
            x = self.cnn(x)
            n, c, h, w = x.shape
            x, _ = self.rnn(x.permute(0, 3, 1, 2).reshape(n, w, c * h))
            return self.out(x)

    return Net()


@network("LSTM with a head", SEQUENCE)
def lstm():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.fc1, self.fc2 = nn.LSTM(8, 8, 2, batch_first=True), nn.Linear(8, 12), nn.Linear(12, 3)

        def forward(self, x):
            _, (h, _) = self.rnn(x)
            return self.fc2(self.fc1(h[-1]).relu())

    return Net()


@network("capsules")
def capsules():
    def squash(x):
        norm = (x**2).sum(-1, keepdim=True)
        return norm / (1 + norm) * x / (norm.sqrt() + 1e-8)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.primary = nn.Conv2d(3, 12, 5, 2), nn.Conv2d(12, 8, 3, 2)
            self.weight = nn.Parameter(torch.randn(1, 8, 3, 4, 4))

        def forward(self, x):
            x = self.primary(self.conv(x).relu())
            x = squash(x.view(x.size(0), -1, 4))
            return squash((self.weight @ x[:, :, None, :, None]).squeeze(-1).sum(1)).norm(dim=-1)

    return Net()


@network("recurrent cells in a loop", SEQUENCE)
def cells():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.i2h, self.h2h, self.out = (
                nn.Linear(8, 12),
                nn.Linear(12, 10),
                nn.Linear(10, 10),
                nn.Linear(10, 3),
            )

        def forward(self, x):
            h = None
            for t in range(x.shape[1]):
                step = self.i2h(F.relu(self.embed(x[:, t])))
                h = torch.tanh(step if h is None else step + self.h2h(h))
            return self.out(h)

    return Net()


@network("U-shaped 1-D net, functional", SIGNAL)
def functional():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = (
                nn.Conv1d(4, 8, 3, padding=1),
                nn.Conv1d(8, 8, 3, padding=1),
                nn.ConvTranspose1d(8, 8, 2, 2),
                nn.Conv1d(8, 3, 1),
            )

        def forward(self, x):
            assert x.dim() == 3
            x = F.conv1d(x, self.a.weight, self.a.bias, padding=1)
            y = F.leaky_relu(F.avg_pool1d(F.gelu(x), 2))
            y = torch.where(y > 0, y, 0.1 * y)
            y = F.elu(F.conv1d(y, self.b.weight, self.b.bias, padding=1))
            return self.d(F.dropout(self.c(y), 0.5, self.training) + x.float().to(x.dtype))

    return Net()


# --- with nothing to remove -------------------------------------------------------------------------------------------


@network("GRU", SEQUENCE)
def gru():
    def last(rnn, out, x):
        return out(rnn(x)[0][:, -1])

    return Lambda(last, nn.GRU(8, 12, batch_first=True), nn.Linear(12, 3))


@network("data-dependent branch", ROW)
def branch():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    return nn.Sequential(nn.Linear(12, 16), Branch(), nn.Linear(16, 3))


@network("one linear layer", ROW)
def linear():
    return nn.Linear(12, 3)


@network("normalized embedding", ROW)
def normalized():
    return Lambda(lambda a, b, x: b(F.normalize(a(x), dim=1)), nn.Linear(12, 16), nn.Linear(16, 3))


@network("divides by the root of its width", ROW)
def divides():
    return Lambda(lambda a, b, x: b(a(x) / a(x).shape[-1] ** 0.5), nn.Linear(12, 16), nn.Linear(16, 3))
