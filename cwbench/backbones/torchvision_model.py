"""Any classifier of torchvision."""

import copy
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from cwbench.api import Backbone, Features, UsageError, did_you_mean, reason_of
from cwbench.backbones.normalize import Normalize
from cwbench.backbones.wrapped import IMAGENET_MEAN, IMAGENET_STD, ThreeChannels, Wrapped


@final
class Torchvision(Backbone):
    """``torchvision:NAME``: the classifier of that name with fresh weights, without its last layer.

    Images are normalised with ImageNet's mean and std; grey ones enter as three equal channels.
    """

    name = "torchvision"
    reference = "torchvision.models, https://docs.pytorch.org/vision/stable/models.html"
    main_field: ClassVar[str | None] = "model"

    model: str
    """One of ``torchvision.models.list_models(module=torchvision.models)``, such as ``mobilenet_v2``."""

    def build(self, *, channels: int, size: int) -> Features:
        return torchvision_features(self.model, channels=channels, size=size)


def torchvision_features(name: str, *, channels: int, size: int) -> Features:
    """Return a classifier of torchvision without its last layer.

    Raises:
        UsageError: an unknown name, a network without a last linear layer, or one that does not fit the images.
    """
    from torchvision import models  # noqa: PLC0415 - a second that other networks need not wait

    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no classifier {name!r}", did_you_mean(name, known))
    network = models.get_model(name, weights=None)
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(f"torchvision's {name} does not end in a linear layer", "choose another backbone")
    parent, _, attribute = linear[-1].rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    normalize = nn.Sequential(*[ThreeChannels()] * (channels == 1), Normalize(IMAGENET_MEAN, IMAGENET_STD))
    return wrapped(normalize, network, f"torchvision's {name}", channels=channels, size=size, last=linear[-1])


def wrapped(normalize: nn.Module, network: nn.Module, subject: str, *, channels: int, size: int, last: str) -> Features:
    """Return a network as features of the width that two images show, sent through a copy in train mode.

    ``last`` is the path of the layer that was its last.

    Raises:
        UsageError: images of this size do not come out as vectors.
    """
    trial = copy.deepcopy(nn.Sequential(normalize, network)).train()
    try:
        with torch.no_grad():
            found = trial(torch.zeros(2, channels, size, size))
    except Exception as error:  # noqa: BLE001 - a network refuses a size in any way it likes
        raise UsageError(f"{subject} does not take images of {channels}×{size}×{size}: {reason_of(error)}") from None
    if not isinstance(found, Tensor) or found.dim() != 2:
        raise UsageError(f"{subject} does not return one vector for an image", "choose another backbone")
    return Wrapped(normalize, network, found.shape[1], last)
