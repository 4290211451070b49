"""Any classifier of torchvision."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from cwbench.api import Backbone
from cwbench.backbones.normalize import Normalize
from cwbench.backbones.wrapped import IMAGENET_MEAN, IMAGENET_STD, ThreeChannels, Wrapped
from cwbench.errors import CwbenchError, did_you_mean
from cwbench.model import Features, evaluating


@final
class Torchvision(Backbone):
    """``torchvision:NAME``: the classifier of that name with fresh weights, without its last layer.

    Images are normalised with ImageNet's mean and std; grey ones enter as three equal channels.
    """

    name = "torchvision"
    reference = "torchvision.models, https://docs.pytorch.org/vision/stable/models.html"
    bare: ClassVar[str | None] = "model"

    model: str
    """One of ``torchvision.models.list_models(module=torchvision.models)``, such as ``mobilenet_v2``."""

    def build(self, *, channels: int, size: int) -> Features:
        return torchvision_features(self.model, channels=channels, size=size)


def torchvision_features(name: str, *, channels: int, size: int) -> Features:
    """Return a classifier of torchvision without its last layer.

    Raises:
        CwbenchError: an unknown name, a network without a last linear layer, or one that does not fit the images.
    """
    from torchvision import models  # noqa: PLC0415 - a second that other networks need not wait

    known = models.list_models(module=models)
    if name not in known:
        raise CwbenchError(f"torchvision has no classifier {name!r}", did_you_mean(name, known))
    network = models.get_model(name, weights=None)
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise CwbenchError(f"torchvision's {name} does not end in a linear layer", "choose another backbone")
    parent, _, attribute = linear[-1].rpartition(".")
    width = network.get_submodule(linear[-1]).in_features
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    normalize = nn.Sequential(*[ThreeChannels()] * (channels == 1), Normalize(IMAGENET_MEAN, IMAGENET_STD))
    features = Wrapped(normalize, network, width)
    refuse_misfit(features, f"torchvision's {name}", channels=channels, size=size)
    return features


def refuse_misfit(features: Wrapped, subject: str, *, channels: int, size: int) -> None:
    """Send one image through.

    Raises:
        CwbenchError: it does not come out as features of the stated width.
    """
    try:
        with evaluating(features), torch.no_grad():
            found = features(torch.zeros(1, channels, size, size))
    except Exception as error:  # noqa: BLE001 - a network refuses a size in any way it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CwbenchError(f"{subject} does not take images of {channels}×{size}×{size}: {reason}") from None
    if not isinstance(found, Tensor) or tuple(found.shape) != (1, features.width):
        raise CwbenchError(f"{subject} does not return features of width {features.width}", "choose another backbone")
