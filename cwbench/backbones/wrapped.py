"""Networks of other libraries as features."""

from typing import final

from torch import Tensor, nn

from cwbench.api import Features

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Wrapped(Features):
    """Normalisation, then a network (N, C, H, W) → (N, width)."""

    def __init__(self, normalize: nn.Module, network: nn.Module, width: int, last: str = "fc") -> None:
        """``last`` is the path in the network of the last layer that was taken off it."""
        super().__init__()
        self.normalize, self.network, self.width, self.last = normalize, network, width, last

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(self.normalize(x))
        return features

    def own_name(self, name: str) -> str:
        rest = name.removeprefix(f"{self.last}.")
        return f"head.{rest}" if rest != name else f"features.network.{name}"


@final
class ThreeChannels(nn.Module):
    """Grey images (N, 1, H, W) as three equal channels, for networks that know colours only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)
