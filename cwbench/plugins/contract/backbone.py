"""The contract of backbones."""

import torch

from cwbench.api import Backbone, Features
from cwbench.internal.errors import CwbenchError
from cwbench.plugins.contract.contract import broken

SIZES = (8, 28, 32, 64, 224)


def check_backbone(backbone: Backbone) -> None:
    """Check the width, the gradient, and that in eval mode an example's features are its own."""
    channels, size, reason = 1, 0, ""
    for size in SIZES:
        try:
            features = _build(backbone, channels, size)
            break
        except CwbenchError as error:
            reason = str(error)
    else:
        broken(backbone, f"it refuses images of every one of the sizes {SIZES}; of the last: {reason}")
    if not isinstance(features, Features) or not isinstance(features.width, int):
        broken(backbone, "build must return cwbench.api.Features with its width set")
    x = torch.linspace(0, 1, 3 * channels * size * size).reshape(3, channels, size, size).requires_grad_()
    found = features.eval()(x)
    if tuple(found.shape) != (3, features.width):
        broken(backbone, f"features must be (N, {features.width}), not {tuple(found.shape)}")
    (gradient,) = torch.autograd.grad(found.sum(), x)
    if not gradient.isfinite().all() or not gradient.abs().sum():
        broken(backbone, "the gradient of its features is zero or not finite")
    if not torch.allclose(features(x[:1]), found[:1], rtol=1e-4, atol=1e-5):
        broken(backbone, "in eval mode an example's features depend on the rest of the batch")
    twin = _build(backbone, channels, size)
    pairs = zip(features.state_dict().values(), twin.state_dict().values(), strict=True)
    if not all(torch.equal(a, b) for a, b in pairs):
        broken(backbone, "two builds under one seed differ; draw weights from PyTorch's global generator")


def _build(backbone: Backbone, channels: int, size: int) -> Features:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(22)
        return backbone.build(channels=channels, size=size)
