"""The built-in networks: their normalisation by hand, and their layers as their papers give them."""

import sys

import pytest
import torch
from torch import nn

from cwbench.backbones.digits_cnn import DigitsCNN
from cwbench.backbones.mnist_cnn import MnistCNN
from cwbench.backbones.normalize import Normalize
from cwbench.internal.errors import CwbenchError
from cwbench.plan import make_plan
from cwbench.plugins.naming import PluginSpec
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec


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


def built(name, channels=3, size=32):
    spec = PluginSpec.model_validate(name)
    plan = make_plan(RunSpec(defense=PluginSpec(name="standard"), backbone=spec), installed())
    return plan.backbone.build(channels=channels, size=size)


@pytest.mark.parametrize(
    ("name", "width", "millions"),
    [("resnet18", 512, 11.17), ("wrn-28-10", 640, 36.47), ("wrn-34-10", 640, 46.15), ("resnet50", 2048, 23.51)],
)
def test_sizes_are_those_of_the_papers(name, width, millions):
    """Weights without the last layer: 11.2, 36.5 and 46.2 million are published with it, 25.6 for 1,000 classes."""
    features = built(name)
    assert features.width == width
    assert sum(parameter.numel() for parameter in features.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_madrys_wide_resnet_has_as_many_convolutions_and_no_weights_in_its_shortcuts():
    ours, usual = (
        [m for m in built(name).modules() if isinstance(m, nn.Conv2d)] for name in ("wrn-32-10", "wrn-34-10")
    )
    assert len(ours) == 31  # and the last layer: 32
    assert len(usual) == len(ours) + 3
    assert all(module.kernel_size == (3, 3) for module in ours)


def test_madrys_wide_resnet_takes_brightness_and_contrast_out():
    features = built("wrn-32-10").eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(features(0.5 * x + 0.2), features(x), rtol=1e-3, atol=1e-4)
        assert features(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_the_resnet_for_small_images_keeps_their_size_at_first():
    seen = []
    features = built("resnet18").eval()
    features.network.layer1.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape)))
    assert features(torch.rand(1, 3, 32, 32)).shape == (1, 512)
    assert seen == [(1, 64, 32, 32)]


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v2", "timm:resnet10t", "timm:mobilenetv3_small_050"])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_other_libraries_lose_their_last_layer(name, channels):
    features = built(name, channels, 64).eval()
    assert features(torch.rand(2, channels, 64, 64)).shape == (2, features.width)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("torchvision:resnet81", 32, r"no classifier 'resnet81' \(did you mean resnet[0-9]+"),
        ("torchvision:squeezenet1_0", 64, "does not end in a linear layer"),
        ("torchvision:vit_b_16", 32, "vit_b_16 does not take images of 3×32×32"),
        ("torchvision:inception_v3", 32, "inception_v3 does not take images of 3×32×32"),
        ("torchvision:googlenet", 32, "googlenet does not return one vector for an image"),
        ("timm:resnet81", 32, "timm has no model 'resnet81'"),
        ("timm:vit_tiny_patch16_224", 32, "does not take images of 3×32×32"),
        ("resnet18:34", 32, r"34 in 'resnet18:34' is not field=value"),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_what_does_not_fit_is_refused(name, size, message):
    with pytest.raises(CwbenchError, match=message):
        built(name, size=size)


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CwbenchError, match="pip install timm"):
        built("timm:resnet10t")
