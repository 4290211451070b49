"""ResNet-50 for large images."""

from typing import final

from cwbench.api import Backbone, Features
from cwbench.backbones.torchvision_model import torchvision_features


@final
class ResNet50(Backbone):
    """Torchvision's ResNet-50, with the stem for ImageNet and ImageNet's mean and std."""

    name = "resnet50"
    reference = "He, Zhang, Ren & Sun 2016, Deep Residual Learning for Image Recognition, CVPR"

    def build(self, *, channels: int, size: int) -> Features:
        return torchvision_features("resnet50", channels=channels, size=size)
