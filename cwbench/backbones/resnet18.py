"""ResNet-18 for small images."""

from typing import final

from torch import nn

from cwbench.api import Backbone, Features
from cwbench.backbones.normalize import Channels, Normalize, Spread
from cwbench.backbones.wrapped import Wrapped


@final
class ResNet18(Backbone):
    """Torchvision's ResNet-18 with the stem for small images: one 3×3 convolution of stride 1, and no pooling after it.

    Images enter as they are (mean 0, std 1), as in the codes of TRADES and MART.
    """

    name = "resnet18"
    reference = "He, Zhang, Ren & Sun 2016, Deep Residual Learning for Image Recognition, CVPR"

    mean: Channels = (0.0,)
    """Subtracted from each channel; for checkpoints of codes that normalise."""
    std: Spread = (1.0,)
    """What each channel is divided by."""

    def build(self, *, channels: int, size: int) -> Features:
        from torchvision.models import resnet18  # noqa: PLC0415 - a second that other networks need not wait

        del size  # the last pooling takes the mean over whatever is left of it
        network = resnet18(weights=None)
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
        network.fc = nn.Identity()
        return _Named(Normalize(self.mean, self.std), network, 512)


@final
class _Named(Wrapped):
    """Also knows the names of the widespread ResNets for CIFAR."""

    def own_name(self, name: str) -> str:
        return super().own_name(name.replace(".shortcut.", ".downsample.").replace("linear.", "fc."))
