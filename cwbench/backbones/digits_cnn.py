"""A small CNN for 8×8 images."""

from typing import final

from torch import Tensor, nn

from cwbench.api import Backbone, Features, UsageError
from cwbench.backbones.normalize import Normalize


@final
class DigitsCNN(Backbone):
    """Two 3×3 convolutions (32, 64 channels), 2×2 pooling, one hidden layer of 128; ReLU throughout."""

    name = "digits-cnn"
    reference = "cwbench's own, sized to train on a laptop in seconds"

    def build(self, *, channels: int, size: int) -> Features:
        if size % 2:
            raise UsageError(f"backbone digits-cnn needs images of an even size, not {size}×{size}")
        return _Network(channels, size)


@final
class _Network(Features):
    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.width = 128
        self.layers = nn.Sequential(
            Normalize((0.5,), (0.5,)),
            nn.Conv2d(channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * (size // 2) ** 2, self.width),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layers(x)
        return features
