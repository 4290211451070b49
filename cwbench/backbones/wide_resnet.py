"""Wide residual networks, in the two forms that the study's models have."""

import re
from collections import OrderedDict
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cwbench.api import Backbone, Features
from cwbench.backbones.normalize import Normalize

REFERENCE = "Zagoruyko & Komodakis 2016, Wide Residual Networks, BMVC"


@final
class WRN28x10(Backbone):
    """Four units in each of three groups, ten times as wide as ResNet: the network of RST."""

    name = "wrn-28-10"
    reference = REFERENCE

    def build(self, *, channels: int, size: int) -> Features:
        del size
        return _Network(channels, units=4, leak=0.0, free_shortcuts=False)


@final
class WRN34x10(Backbone):
    """Five units in each of three groups, ten times as wide as ResNet: the network of TRADES and MART."""

    name = "wrn-34-10"
    reference = REFERENCE

    def build(self, *, channels: int, size: int) -> Features:
        del size
        return _Network(channels, units=5, leak=0.0, free_shortcuts=False)


@final
class WRN32x10(Backbone):
    """The network of Madry et al. 2018 for CIFAR-10, which counts 32 layers where Zagoruyko & Komodakis count 34.

    Five units in each of three groups; as in the authors' code the shortcuts have no weights (mean pooling, and zeros
    for the channels that are missing), ReLU leaks 0.1 of what is below zero, and each image enters with its own mean
    and standard deviation taken out.
    """

    name = "wrn-32-10"
    reference = "Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR"

    def build(self, *, channels: int, size: int) -> Features:
        del size
        return _Network(channels, units=5, leak=0.1, free_shortcuts=True)


@final
class _Network(Features):
    """Units BN, ReLU, 3×3, BN, ReLU, 3×3; groups of 160, 320 and 640 channels, the last two at half the size before."""

    def __init__(self, channels: int, *, units: int, leak: float, free_shortcuts: bool) -> None:
        super().__init__()
        self.width = 640
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["normalize"] = _Standardize() if free_shortcuts else Normalize((0.0,), (1.0,))
        layers["stem"] = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        before = 16
        for group, width in enumerate((160, 320, 640)):
            for unit in range(units):
                stride = 2 if group and not unit else 1
                layers[f"unit{group}_{unit}"] = _Unit(before, width, stride, leak, free_shortcuts)
                before = width
        layers["norm"] = nn.BatchNorm2d(before)
        layers["relu"] = nn.LeakyReLU(leak) if leak else nn.ReLU()
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flat"] = nn.Flatten()
        self.layers = nn.Sequential(layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features

    def own_name(self, name: str) -> str:
        """Know the names of the codes of TRADES, MART and RST: ``block1.layer.0.bn1``, ``convShortcut``, ``fc``."""
        unit = re.fullmatch(r"block([123])\.layer\.(\d+)\.(bn|conv|convShortcut)(\d?)\.(.+)", name)
        if unit:
            group, number, kind, which, tensor = unit.groups()
            layer = "shortcut" if kind == "convShortcut" else f"{'norm' if kind == 'bn' else kind}{which}"
            return f"features.layers.unit{int(group) - 1}_{number}.{layer}.{tensor}"
        part, _, tensor = name.partition(".")
        outer = {"conv1": "features.layers.stem", "bn1": "features.layers.norm", "fc": "head"}
        return f"{outer[part]}.{tensor}" if part in outer else name


@final
class _Unit(nn.Module):
    def __init__(self, before: int, width: int, stride: int, leak: float, free_shortcut: bool) -> None:
        super().__init__()
        self.stride, self.missing = stride, width - before
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(width)
        self.relu = nn.LeakyReLU(leak) if leak else nn.ReLU()
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        weighted = self.missing and not free_shortcut
        self.shortcut = nn.Conv2d(before, width, 1, stride, bias=False) if weighted else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.norm1(x))
        change: Tensor = self.conv2(self.relu(self.norm2(self.conv1(active))))
        return change + self._kept(x, active)

    def _kept(self, x: Tensor, active: Tensor) -> Tensor:
        """Return what the unit adds to: the input, or where the shape changes what stands in for it."""
        if not self.missing:
            return x
        if self.shortcut is not None:
            projected: Tensor = self.shortcut(active)
            return projected
        # Madry's code activates before the shortcut in the first group only, where the stride is 1.
        source = active if self.stride == 1 else F.avg_pool2d(x, self.stride)
        return F.pad(source, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))


@final
class _Standardize(nn.Module):
    """Each image minus its mean, over its standard deviation or, should it be nearly uniform, 1/√pixels."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = x[0].numel()
        mean = x.mean((1, 2, 3), keepdim=True)
        # The root of a variance of zero would have no finite gradient.
        spread = (x - mean).square().mean((1, 2, 3), keepdim=True).clamp_min(1 / pixels).sqrt()
        return torch.div(x - mean, spread)
