"""What a backbone is: a network without its last layer."""

from abc import abstractmethod
from typing import ClassVar

from cwbench.api.classifier import Features
from cwbench.api.plugin import Plugin


class Backbone(Plugin):
    """A network without its last layer. Normalisation of the images is part of it."""

    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions besides torchvision and Pillow whose version decides what is built: part of a checkpoint's
    digest."""

    @abstractmethod
    def build(self, *, channels: int, size: int) -> Features:
        """Return the network with fresh weights, for images (N, channels, size, size) in [0, 1].

        Weights are drawn from PyTorch's global random numbers, which the harness seeds and restores around the call.

        Raises:
            CwbenchError: the network does not fit images of this size.
        """
