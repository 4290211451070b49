"""The built-in networks: their normalisation by hand, and their layers as their papers give them."""

import torch
from torch import nn

from cwbench.backbones.digits_cnn import DigitsCNN
from cwbench.backbones.mnist_cnn import MnistCNN
from cwbench.backbones.normalize import Normalize


def test_normalisation_by_hand():
    x = torch.tensor([[[[0.5]], [[1.0]]]])
    assert Normalize((0.5, 0.2), (0.25, 0.4))(x).flatten().tolist() == [0.0, 2.0]


def layers(features: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in features.parameters() if parameter.dim() > 1]


def test_the_cnn_of_trades_takes_pixels_as_they_are():
    features = MnistCNN().build(channels=1, size=28)
    assert layers(features) == [(32, 1, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (200, 1024), (200, 200)]
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(features.layers[0](x), x)
    assert features.width == 200


def test_the_cnn_for_digits_centres_them():
    features = DigitsCNN().build(channels=1, size=8)
    assert layers(features) == [(32, 1, 3, 3), (64, 32, 3, 3), (128, 1024)]
    assert features.layers[0](torch.tensor([[[[0.0, 1.0]]]])).flatten().tolist() == [-1.0, 1.0]
