"""The 4-layer CNN of TRADES for MNIST."""

from typing import final

from torch import Tensor, nn

from cwbench.api import Backbone, Features, UsageError
from cwbench.backbones.normalize import Normalize


@final
class MnistCNN(Backbone):
    """Convolutions of 3×3 without padding: 32, 32, pool, 64, 64, pool; then 200, 200 hidden units; ReLU throughout.

    Images enter as they are (mean 0, std 1), like in the authors' code. It departs from that code in having no
    dropout between the two hidden layers and in PyTorch's default initialisation.
    """

    name = "mnist-cnn"
    reference = "Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy; Carlini 2017"

    def build(self, *, channels: int, size: int) -> Features:
        side = ((size - 4) // 2 - 4) // 2
        if side < 1:
            raise UsageError(f"backbone mnist-cnn needs images of at least 16×16, not {size}×{size}")
        return _Network(channels, side)


@final
class _Network(Features):
    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.width = 200
        self.layers = nn.Sequential(
            Normalize((0.0,), (1.0,)),
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * side**2, 200),
            nn.ReLU(),
            nn.Linear(200, self.width),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features

    def own_name(self, name: str) -> str:
        """Know the names of TRADES's code."""
        part, _, rest = name.partition(".")
        layer, _, tensor = rest.partition(".")
        if part not in ("feature_extractor", "classifier"):
            return name
        return f"head.{tensor}" if layer == "fc3" else f"features.layers.{_TRADES.get(layer, layer)}.{tensor}"


_TRADES = {"conv1": 1, "conv2": 3, "conv3": 6, "conv4": 8, "fc1": 12, "fc2": 14}
"""Where the layers of TRADES's code stand in ours."""
